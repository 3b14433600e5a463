"""What analysts and monitoring get, and that each item can be switched off alone."""

import json
import re

import pytest

import bicep
import engine
import what_to_do
import workspace
from conftest import EXPORTER, INFRA, MAIN, ROOT, declared, deploy, fields

KINDS = [
    "Microsoft.OperationalInsights/workspaces/savedSearches",
    "Microsoft.Insights/workbooks",
    "Microsoft.Insights/scheduledQueryRules",
    "Microsoft.SecurityInsights/alertRules",
    "Microsoft.Insights/components",
    "Microsoft.Insights/diagnosticSettings",
    "Microsoft.Insights/actionGroups",
]


def present(**parameters) -> set[str]:
    """Monitoring items of a deployment, by their last name or kind."""
    made = deploy(**parameters)
    app = made.outputs["functionAppName"] + "-"
    found = {r.symbol if r.symbol != "queryRules" else r.body["name"].removeprefix(app) for kind in KINDS for r in made.of(kind)}
    return found


EVERYTHING = {
    "alerts", "heartbeats", "audits", "recordHead", "workbook", "alertRule", "component", "errorLog", "people",
    "table-silent", "trust-silent", "status", "rejected-rows", "sign-in", "quarantine", "next-step",
    "audit", "no-delivery",
}


def test_everything_is_on_unless_switched_off():
    assert present() == EVERYTHING


@pytest.mark.parametrize(
    ("parameters", "gone"),
    [
        ({"alertOnSilentTable": False}, {"table-silent"}),
        ({"alertOnSilentTrust": False}, {"trust-silent"}),
        ({"alertOnStatus": False}, {"status"}),
        ({"alertOnRejectedRows": False}, {"rejected-rows"}),
        ({"alertOnSignIn": False}, {"sign-in"}),
        ({"alertOnQuarantine": False}, {"quarantine"}),
        ({"alertOnNextStep": False}, {"next-step"}),
        ({"alertOnAudit": False}, {"audit"}),
        ({"alertOnNoDelivery": False}, {"no-delivery"}),
        ({"auditHours": 0}, {"audit"}),
        ({"useLastSavedTime": False}, {"audit"}),
        ({"deployWorkbook": False}, {"workbook"}),
        ({"deployFunctions": False}, set()),
        ({"deployFunctions": False, "deployWorkbook": False}, {"alerts", "heartbeats", "audits", "recordHead", "workbook"}),
        ({"deploySentinelRule": False}, {"alertRule"}),
        ({"deployTelemetry": False}, {"component"}),
        ({"logRejectedRows": False}, {"errorLog", "rejected-rows"}),
        ({"alertEmailAddresses": []}, {"people"}),
        ({"sendHeartbeat": False}, {"table-silent", "trust-silent", "status", "sign-in", "quarantine", "next-step", "audit", "no-delivery"}),
    ],
    ids=str,
)
def test_each_item_is_switched_off_by_its_own_parameter(parameters, gone):
    assert EVERYTHING - present(**parameters) == gone


def test_where_there_is_no_data_collection_rule_nothing_watches_one():
    assert EVERYTHING - present(targetType="LogAnalytics") == {"rejected-rows", "errorLog"}


MODULE = INFRA / "modules/monitoring.bicep"


def reached(declarations: dict, expression: tuple) -> set[str]:
    """Every name an expression rests on, through variables and defaults."""
    found: set[str] = set()
    todo = bicep.names_used(expression)
    while todo:
        found |= todo
        behind = (bicep.names_used(declarations[n].value) for n in todo if n in declarations)
        todo = set().union(*behind) - found
    return found


def test_what_reads_the_tables_comes_after_them_and_the_workbook_after_its_functions():
    main, inside = declared(MAIN), declared(MODULE)
    for module in ("monitoring", "exporter"):
        assert bicep.names_used(fields(main, module)["dependsOn"]) == {"tables"}, module
    assert bicep.names_used(fields(inside, "workbook")["dependsOn"]) == {"functions"}


def made(declarations: dict) -> set[str]:
    return {name for name, d in declarations.items() if d.kind in ("module", "resource")}


@pytest.mark.parametrize("module", ["exporter", "monitoring"])
def test_what_if_can_look_into_it_because_all_it_is_given_is_known_beforehand(module):
    main, inside = declared(MAIN), declared(EXPORTER)
    assert reached(main, fields(main, module)["params"]) & made(main) == set()
    # The search goes through variables: the settings rest on what was made before them.
    assert {"storage", "vault", "dataCollection", "telemetry"} <= reached(inside, fields(inside, "appSettings")["params"]) & made(inside)


def rules(**parameters) -> dict[str, dict]:
    made = deploy(**parameters)
    app = made.outputs["functionAppName"] + "-"
    return {r.body["name"].removeprefix(app): r.body["properties"] for r in made.of("Microsoft.Insights/scheduledQueryRules")}


def test_every_rule_calls_the_people_and_the_groups_given():
    for name, rule in rules(existingActionGroupIds=["/groups/soc"]).items():
        called = rule["actions"]["actionGroups"]
        assert len(called) == 2 and called[1] == "/groups/soc" and "actionGroups" in called[0], name


def test_the_page_says_of_every_alarm_what_it_means_and_what_to_do():
    page = (INFRA / "README.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in page.splitlines() if re.match(r"\| .* \| `alertOn\w+` \| ", line)]
    switches = {name for name in declared(MAIN) if name.startswith("alertOn")}
    assert {cells[1].strip("`") for cells in rows} == switches and len(rows) == len(switches) == len(rules())
    titles = [rule["displayName"] for rule in rules().values()]
    for said, *_ in rows:
        parts = said.removeprefix("| ").split("...")
        assert sum(all(part.strip() in title for part in parts) for title in titles) == 1, said


def test_the_workbook_says_what_the_page_says_of_what_to_do():
    wanted = what_to_do.text(what_to_do.PAGE.read_text(encoding="utf-8"))
    assert what_to_do.held() == wanted, "after a change of infra/README.md: python tests/infra/what_to_do.py"
    assert "](#" not in wanted and "](../" not in wanted, "a link leads nowhere there"
    for heading in ("When an alarm calls", "Rows that the workspace did not keep", "Alerts that were set aside"):
        assert f"\n### {heading}\n" in wanted
    assert "replay --all" in wanted.partition("\n### Alerts that were set aside\n")[2] and "**The portal page**" in wanted


@pytest.mark.parametrize(
    ("parameters", "named", "text"),
    [
        ({}, "the workbook Defender alert export (Azure portal, resource group rg), What to do", what_to_do.held()),
        ({"deployWorkbook": False}, "infra/README.md of the deployment zip", what_to_do.PAGE.read_text(encoding="utf-8")),
    ],
    ids=str,
)
def test_every_alarm_sends_people_to_where_what_to_do_stands(parameters, named, text):
    further = {"quarantine": "Alerts that were set aside"}
    further |= dict.fromkeys(("table-silent", "trust-silent", "no-delivery"), "Rows that the workspace did not keep")
    for name, rule in rules(**parameters).items():
        found = re.findall(r"stands under `([^`]+)` in (.+?)\.(?= |$)", rule["description"])
        assert found == [(heading, named) for heading in filter(None, (further.get(name), "When an alarm calls"))], name
        assert all(f"\n### {heading}\n" in text for heading, _ in found)
    assert ("workbook" in present(**parameters)) == ("workbook" in named)


def test_who_is_sent_to_the_heartbeats_sees_what_is_asked_of_this_trust():
    for name in ("status", "next-step", "audit", "no-delivery"):
        (query,) = re.findall(r"Logs: (.+?) and do as NextStep says", rules(trustName="St Mary's")[name]["description"])
        assert query == "DefenderExportHeartbeat | where TrustName == @'St Mary''s' and isnotempty(NextStep) | top 5 by TimeGenerated"


@pytest.mark.parametrize(
    ("parameters", "table", "suffix"),
    [({}, "Heartbeat_CL", ""), ({"classicHeartbeatTable": True}, "HeartbeatV2_CL", ""), ({"targetType": "LogAnalytics"}, "Heartbeat_CL", "_s")],
    ids=str,
)
def test_where_the_functions_are_not_deployed_the_mail_asks_the_table_that_has_the_rows(parameters, table, suffix):
    parameters = {"trustName": "St Mary's", "deployFunctions": False, "deployWorkbook": False, **parameters}
    tables = workspace.tables(deploy(**parameters))
    (query,) = re.findall(r"Logs: (.+?) and do as NextStep says", rules(**parameters)["status"]["description"])
    asked = [("St Mary's", "sign in"), ("St Mary's", ""), ("RYY", "sign in")]
    rows = [{"TimeGenerated": engine.ago(5), f"TrustName{suffix}": trust, f"NextStep{suffix}": step} for trust, step in asked]
    (found,) = engine.run(query, tables, {table: rows})
    assert (found[f"TrustName{suffix}"], found[f"NextStep{suffix}"]) == asked[0]


def test_a_rule_says_no_more_than_azure_takes():
    for name, rule in rules(trustName="T" * 60).items():
        assert len(rule["description"]) < 4096, name


def test_what_was_accepted_is_sent_again_only_by_the_box_for_it():
    page = (INFRA / "README.md").read_text(encoding="utf-8")
    for text in (rules()["rejected-rows"]["description"], page):
        assert "Send again what was delivered before" in text


def test_only_the_reminder_mails_again_each_day_and_azure_lets_it():
    for name, rule in rules().items():
        expected = (False, "P1D") if name == "no-delivery" else (True, None)
        assert (rule["autoMitigate"], rule["muteActionsDuration"]) == expected, name
    # Looked at more often than it may mail, so that a day without a mail is a good day.
    assert rules()["no-delivery"]["evaluationFrequency"] == "PT15M"


def test_the_rules_on_silence_and_on_no_delivery_fire_on_no_row_and_the_others_on_some():
    for name, rule in rules().items():
        criterion = rule["criteria"]["allOf"][0]
        expected = ("LessThan", 1) if name in ("table-silent", "no-delivery") else ("GreaterThan", 0)
        assert (criterion["operator"], criterion["threshold"], criterion["timeAggregation"]) == (*expected, "Count")


@pytest.mark.parametrize(("every", "window"), [(5, "PT30M"), (10, "PT30M"), (12, "PT45M"), (15, "PT45M"), (20, "PT1H"), (30, "PT2H")])
def test_a_window_never_holds_fewer_than_three_runs(every, window):
    found = rules(runEveryMinutes=every)
    assert {found[n]["windowSize"] for n in ("table-silent", "trust-silent", "status")} == {window}


def test_a_quote_in_the_trusts_name_stays_text():
    assert "@'St Mary''s'" in rules(trustName="St Mary's")["trust-silent"]["criteria"]["allOf"][0]["query"]


def test_a_rule_stays_within_azures_size():
    for rule in rules().values():
        assert len(json.dumps(rule)) < 64 * 1024


def sentinel(**parameters) -> dict:
    return deploy(**parameters).of("Microsoft.SecurityInsights/alertRules")[0].body["properties"]


@pytest.mark.parametrize("parameters", [{}, {"classicAlertTable": True}], ids=str)
def test_the_sentinel_rule_stays_within_sentinels_limits(parameters):
    rule = sentinel(**parameters)
    assert len(rule["query"]) <= 10_000
    assert len(rule["entityMappings"]) <= 10 and len(rule["customDetails"]) <= 20
    assert all(len(m["fieldMappings"]) <= 3 for m in rule["entityMappings"])


def test_each_row_is_one_alert_grouped_by_defender_incident():
    rule = sentinel()
    assert rule["eventGroupingSettings"] == {"aggregationKind": "AlertPerResult"}
    grouping = rule["incidentConfiguration"]["groupingConfiguration"]
    assert (grouping["enabled"], grouping["groupByCustomDetails"]) == (True, ["DefenderIncident"])
    assert set(grouping["groupByCustomDetails"]) <= set(rule["customDetails"])
    assert [m["entityType"] for m in rule["entityMappings"]] == ["Host", "Account", "IP", "FileHash"]
    assert rule["queryFrequency"] == "PT5M" and "ago(5m)" in rule["query"]


def test_analysts_are_told_how_the_rule_raises_and_what_it_forgets():
    rule = sentinel()
    page = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## For analysts\n")[2].partition("\n## ")[0]
    told = " ".join(page.split())
    assert rule["queryPeriod"] == "P1DT23H" and "changes more than 47 hours after its last row is raised once more" in told
    grouping = rule["incidentConfiguration"]["groupingConfiguration"]
    assert (grouping["lookbackDuration"], grouping["reopenClosedIncident"]) == ("P7D", False) and "for 7 days; a closed one is not opened again" in told
    assert f"The rule *{rule['displayName']}* raises" in told
    assert "DefenderAlertId" in rule["customDetails"] and "`DefenderAlertId`" in told
    # Not deploying it again deletes nothing.
    assert "switch the rule off in Sentinel" in told and "`deploySentinelRule`" in told and not present(deploySentinelRule=False) & {"alertRule"}


def test_the_workbook_is_whole():
    book = json.loads(deploy(classicAlertTable=True).of("Microsoft.Insights/workbooks")[0].body["properties"]["serializedData"])
    assert book["version"] == "Notebook/1.0"
    names = [item["name"] for item in book["items"]]
    assert len(names) == len(set(names))
    for item in book["items"]:
        assert item["type"] in (1, 3, 9) and item["content"]
        if item["type"] == 3:
            assert item["content"]["timeContextFromParameter"] == "TimeRange" and item["content"]["title"]
    parameters = [p["name"] for item in book["items"] if item["type"] == 9 for p in item["content"]["parameters"]]
    assert parameters == ["TimeRange"]
    assert "__" not in json.dumps(book) and "DefenderRawAlertV2_CL" in json.dumps(book)


def test_no_placeholder_is_left_in_a_query(variant):
    for kind in KINDS[:4]:
        for one in variant.of(kind):
            body = {k: v for k, v in one.body["properties"].items() if k not in ("alertDetailsOverride",)}
            assert "{{" not in json.dumps(body), one.symbol


def test_every_query_file_says_what_it_is_for():
    for path in (INFRA / "queries").glob("*.kql"):
        assert path.read_text(encoding="utf-8").startswith("// "), path.name
