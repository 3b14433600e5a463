"""What the exporter sends, the rule takes and the tables hold are the same columns."""

import json
import re

import pytest

from conftest import INFRA, ROOT, deploy

LIST = json.loads((INFRA / "columns.json").read_text(encoding="utf-8"))
SHAPE = ROOT / "src/domain/shape/columns.rs"
HEARTBEAT = ROOT / "src/domain/heartbeat.rs"
RESERVED = {"_ResourceId", "id", "_SubscriptionId", "TenantId", "Type", "UniqueId", "Title"}
RULE_TYPES = {"string", "int", "long", "real", "boolean", "dynamic", "datetime"}

IN_RUST = {"DateTime": "datetime", "Text": "string", "Long": "long", "Boolean": "boolean", "Dynamic": "dynamic"}


def alert_columns(source: str) -> list[dict]:
    """Columns the exporter writes, in the source that names them: `("Name", Type, Origin),`."""
    found = re.findall(r'^    \("(\w+)", (\w+), ', source, re.M)
    return [{"name": name, "type": IN_RUST[kind]} for name, kind in found]


def heartbeat_columns(source: str) -> list[str]:
    """Column names of a heartbeat, from the literal row its own test holds it to."""
    rows = [r for r in re.findall(r'r#"(\{.*?\})"#', source) if "RunId" in r]
    return ["TimeGenerated", *json.loads(rows[0])]


def test_the_list_is_what_the_exporter_sends():
    assert LIST["alert"] == alert_columns(SHAPE.read_text(encoding="utf-8"))
    assert [c["name"] for c in LIST["heartbeat"]] == heartbeat_columns(HEARTBEAT.read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", LIST)
def test_every_column_is_one_azure_takes(kind):
    names = [c["name"] for c in LIST[kind]]
    assert len(names) == len(set(names))
    assert RESERVED & set(names) == set()
    for column in LIST[kind]:
        assert column["type"] in RULE_TYPES and len(column["name"]) <= 45 and set(column) == {"name", "type"}
    assert {"name": "TimeGenerated", "type": "datetime"} in LIST[kind]


def test_the_rule_and_the_tables_have_the_columns_of_the_list():
    deployment = deploy()
    streams = deployment.of("Microsoft.Insights/dataCollectionRules")[0].body["properties"]["streamDeclarations"]
    assert streams == {
        "Custom-DefenderRawAlert": {"columns": LIST["alert"]},
        "Custom-Heartbeat": {"columns": LIST["heartbeat"]},
    }
    tables = {t.body["name"]: t.body["properties"]["schema"] for t in deployment.of("Microsoft.OperationalInsights/workspaces/tables")}
    assert set(tables) == {"DefenderRawAlert_CL", "Heartbeat_CL"}
    for table, kind in (("DefenderRawAlert_CL", "alert"), ("Heartbeat_CL", "heartbeat")):
        assert tables[table]["name"] == table
        held = [{**c, "type": c["type"].lower()} for c in tables[table]["columns"]]
        assert held == LIST[kind]


def flows(**parameters) -> dict:
    rule = deploy(**parameters).of("Microsoft.Insights/dataCollectionRules")[0].body["properties"]
    return {f["streams"][0]: f["outputStream"] for f in rule["dataFlows"]}


def test_a_classic_table_keeps_its_schema_and_new_rows_go_beside_it():
    assert flows() == {"Custom-DefenderRawAlert": "Custom-DefenderRawAlert_CL", "Custom-Heartbeat": "Custom-Heartbeat_CL"}
    beside = {"classicAlertTable": True, "classicHeartbeatTable": True}
    assert flows(**beside) == {"Custom-DefenderRawAlert": "Custom-DefenderRawAlertV2_CL", "Custom-Heartbeat": "Custom-HeartbeatV2_CL"}
    declared = [t.body["name"] for t in deploy(**beside).of("Microsoft.OperationalInsights/workspaces/tables")]
    assert declared == ["DefenderRawAlertV2_CL", "HeartbeatV2_CL"]


def test_the_stream_is_the_one_the_exporter_is_told():
    assert list(flows(tableName="Other")) == ["Custom-Other", "Custom-Heartbeat"]


def test_the_data_collector_makes_its_own_tables():
    deployment = deploy(targetType="LogAnalytics")
    assert deployment.of("Microsoft.OperationalInsights/workspaces/tables") == []
    assert deployment.of("Microsoft.Insights/dataCollectionRules") == []


def test_neither_the_workspace_nor_a_tables_plan_or_retention_is_declared(variant):
    assert variant.of("Microsoft.OperationalInsights/workspaces") == []
    for table in variant.of("Microsoft.OperationalInsights/workspaces/tables"):
        assert set(table.body["properties"]) == {"schema"}


# ---- The checks above can fail


def test_a_column_renamed_in_the_code_is_noticed():
    source = HEARTBEAT.read_text(encoding="utf-8").replace('"LagSeconds":60', '"Lag":60')
    assert [c["name"] for c in LIST["heartbeat"]] != heartbeat_columns(source)


def test_a_column_added_or_retyped_in_the_code_is_noticed():
    source = SHAPE.read_text(encoding="utf-8")
    added = source.replace('    ("ExportKey", Text, Key),', '    ("ExportKey", Text, Key),\n    ("Extra", Text, Key),')
    assert len(alert_columns(added)) == len(LIST["alert"]) + 1
    assert alert_columns(source.replace('("IncidentId", Long', '("IncidentId", Text')) != LIST["alert"]
