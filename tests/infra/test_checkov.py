"""checkov, with every finding either mended or answered in checkov.json.

checkov's own Bicep parser is older than this Bicep; requirements-checkov.txt
puts a newer release of the same parser beside it. A file it cannot read counts
as a failure here: checkov itself would pass it by with exit code 0.
"""

import json
import os
import subprocess
from functools import cache
from pathlib import Path

import pytest

from conftest import INFRA

ANSWERED = json.loads(Path(__file__).with_name("checkov.json").read_text(encoding="utf-8"))
CHECKOV = os.environ.get("CHECKOV", "checkov")


def scan(folder: Path) -> dict:
    command = [CHECKOV, "--directory", str(folder), "--framework", "bicep", "--skip-download", "--soft-fail", "--output", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@cache
def report() -> dict:
    return scan(INFRA)


def test_every_file_was_read():
    summary = report()["summary"]
    assert summary["parsing_errors"] == 0, report()["results"].get("parsing_errors")
    assert summary["resource_count"] > 60


def test_every_finding_is_answered_and_every_answer_is_needed():
    found = {f"{c['check_id']} {c['resource']}" for c in report()["results"]["failed_checks"]}
    assert found == set(ANSWERED)
    assert all(len(reason) > 20 for reason in ANSWERED.values())


@pytest.mark.parametrize(
    ("text", "parsing_errors"),
    [
        ("resource a 'Microsoft.Storage/storageAccounts@2024-01-01' = {\n  name: \n", 1),
        ("resource a 'Microsoft.Storage/storageAccounts@2024-01-01' = {\n  name: 'a'\n  properties: {\n    minimumTlsVersion: 'TLS1_0'\n  }\n}\n", 0),
    ],
    ids=["unreadable", "old TLS"],
)
def test_a_bad_file_is_noticed(tmp_path, text, parsing_errors):
    (tmp_path / "bad.bicep").write_text(text, encoding="utf-8")
    found = scan(tmp_path)
    assert found["summary"]["parsing_errors"] == parsing_errors
    if not parsing_errors:
        assert "CKV_AZURE_44" in {c["check_id"] for c in found["results"]["failed_checks"]}
