"""Every query through Microsoft's own Kusto parser and binder, against the tables it will meet."""

import json
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

import workspace
from conftest import INFRA, VARIANTS, deploy

HERE = Path(__file__).parent
ROADS = ["least", "classic tables beside", "data collector"]


def ask(tables: dict, functions: dict, queries: dict) -> dict:
    """Faults and resulting columns of each query."""
    text = json.dumps({"tables": tables, "functions": functions, "queries": queries})
    done = subprocess.run(["node", "kql.js"], cwd=HERE, input=text, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@cache
def answers(road: str) -> dict:
    made = deploy(**VARIANTS[road])
    return ask(workspace.tables(made), workspace.functions(made), workspace.queries(made))


@pytest.mark.parametrize("road", ROADS)
def test_every_query_binds(road):
    found = answers(road)
    assert len(found) >= 18
    for name, answer in found.items():
        assert answer["faults"] == [], name


@pytest.mark.parametrize("road", ROADS)
def test_the_alert_function_answers_to_new_and_classic_names(road):
    columns = answers(road)["function DefenderRawAlert"]["columns"]
    new = {c["name"] for c in json.loads((INFRA / "columns.json").read_text(encoding="utf-8"))["alert"]}
    classic = set(workspace.KNOWN["classic alert table"]) - {"Computer", "RawData"}
    assert new | classic <= set(columns)


@pytest.mark.parametrize("road", ROADS)
def test_the_functions_give_the_same_columns_whatever_the_tables(road):
    for function in ("function DefenderRawAlert", "function DefenderExportHeartbeat"):
        assert answers(road)[function]["columns"] == answers("least")[function]["columns"]


def test_the_heartbeat_function_gives_the_columns_of_a_heartbeat():
    columns = answers("least")["function DefenderExportHeartbeat"]["columns"]
    sent = json.loads((INFRA / "columns.json").read_text(encoding="utf-8"))["heartbeat"]
    assert columns == {c["name"]: c["type"] for c in sent}


def test_what_sentinel_maps_is_in_the_query():
    rule = deploy().of("Microsoft.SecurityInsights/alertRules")[0].body["properties"]
    columns = set(answers("least")["Sentinel rule"]["columns"])
    override = rule["alertDetailsOverride"]
    mapped = {f["columnName"] for m in rule["entityMappings"] for f in m["fieldMappings"]}
    mapped |= set(rule["customDetails"].values()) | {p["value"] for p in override["alertDynamicProperties"]}
    mapped |= {override["alertSeverityColumnName"], override["alertTacticsColumnName"]}
    mapped |= set(re.findall(r"\{\{(\w+)\}\}", override["alertDisplayNameFormat"] + override["alertDescriptionFormat"]))
    assert mapped <= columns


def test_what_a_rule_splits_by_is_in_its_query():
    for rule in deploy().of("Microsoft.Insights/scheduledQueryRules"):
        wanted = {d["name"] for d in rule.body["properties"]["criteria"]["allOf"][0]["dimensions"]}
        assert wanted <= set(answers("least")[f"rule {rule.body['name']}"]["columns"])


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("Heartbeat_CL | where Stauts == 'Ok'", "Stauts"),
        ("Hartbeat_CL | count", "Hartbeat_CL"),
        ("Heartbeat_CL | where Status = 'Ok'", "="),
        ("Heartbeat_CL | extend a = nosuch(Status)", "nosuch"),
        ("DefenderRawAlert | project nothing_s", "nothing_s"),
    ],
)
def test_a_broken_query_is_noticed(query, fault):
    made = deploy()
    faults = ask(workspace.tables(made), workspace.functions(made), {"q": query})["q"]["faults"]
    assert faults and fault in " ".join(faults)
