"""The deployment and the function folders speak of the same functions."""

import json
from pathlib import Path

import pytest

from conftest import ROOT, deploy, settings

TRIGGERS = {
    "timer_export": "timerTrigger",
    "portal": "httpTrigger",
    "entity_state": "entityTrigger",
    "orchestrator": "orchestrationTrigger",
}


def triggers(root: Path) -> dict[str, str]:
    """Function folders and what starts each."""
    found = {}
    for file in root.glob("*/function.json"):
        bindings = json.loads(file.read_text(encoding="utf-8"))["bindings"]
        found[file.parent.name] = next(b["type"] for b in bindings if b["type"].endswith("Trigger"))
    return found


def binding(name: str) -> dict:
    file = ROOT / name / "function.json"
    if not file.is_file():
        pytest.skip(f"{name} is not there yet")
    return json.loads(file.read_text(encoding="utf-8"))["bindings"][0]


def test_every_function_folder_is_one_of_the_four():
    found = triggers(ROOT)
    assert set(found.items()) <= set(TRIGGERS.items())
    if missing := set(TRIGGERS) - set(found):
        pytest.skip(f"not there yet: {sorted(missing)}")


def test_the_timer_reads_the_schedule_the_deployment_sets():
    name = binding("timer_export")["schedule"].strip("%")
    assert name in settings(deploy())


def test_the_address_of_the_page_is_the_route_of_the_portal():
    route = binding("portal")["route"].split("/")[0]
    assert deploy().outputs["portalUrl"].endswith(f"/api/{route}/")


def test_the_next_steps_say_how_the_key_goes_into_the_pages_address():
    """The bare address answers 401."""
    outputs = deploy().outputs
    named = [step for step in outputs["nextSteps"] if outputs["portalUrl"] in step]
    assert named and all(f"{outputs['portalUrl']}?code=KEY " in step for step in named)
    assert "Function Keys" in outputs["nextSteps"][1]


def test_only_the_timer_is_kept_ready():
    app = deploy(keepTimerReady=True).of("Microsoft.Web/sites")[0].body["properties"]
    ready = app["functionAppConfig"]["scaleAndConcurrency"]["alwaysReady"]
    assert [r["name"].removeprefix("function:") for r in ready] == ["timer_export"]
    assert "timer_export" in TRIGGERS


def test_an_unknown_function_folder_is_noticed(tmp_path):
    (tmp_path / "stray").mkdir()
    (tmp_path / "stray/function.json").write_text('{"bindings": [{"type": "queueTrigger"}]}', encoding="utf-8")
    assert not set(triggers(tmp_path).items()) <= set(TRIGGERS.items())
