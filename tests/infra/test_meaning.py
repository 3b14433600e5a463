"""What the queries say about sample rows. Run by duckdb-kql, not by Azure: see engine.py."""

import re
from datetime import timedelta

import pytest

import engine
import workspace
from conftest import INFRA, deploy
from engine import ago

BESIDE = {"classicAlertTable": True, "classicHeartbeatTable": True}


def ask(name: str, rows: dict, **parameters) -> list[dict]:
    """The rows a deployed query gives, over the tables of that deployment."""
    made = deploy(**parameters)
    found = next(text for key, text in workspace.queries(made).items() if key.endswith(name))
    return engine.run(found, workspace.tables(made), rows)


def alert(minutes: float, version: float, key: str = "a1", **more) -> dict:
    """A row that arrived `minutes` ago, of a version updated `version` minutes ago."""
    return {
        "TimeGenerated": ago(minutes), "AlertId": key, "ExportKey": f"{key}|{version}", "AlertTitle": "Malware",
        "Severity": "High", "Status": "New", "AlertCreationTime": ago(600), "LastUpdateTime": ago(version), **more,
    }


def classic(minutes: float, version: float, key: str = "a1", **more) -> dict:
    return {
        "TimeGenerated": ago(minutes), "id_s": key, "title_s": "Malware", "severity_s": "Low", "status_s": "New",
        "alertCreationTime_t": ago(600), "lastUpdateTime_t": ago(version), **more,
    }


def beat(minutes: float, status: str = "Ok", trust: str = "RXX", **more) -> dict:
    return {
        "TimeGenerated": ago(minutes), "RunId": f"run-{minutes}", "TrustName": trust, "Status": status,
        "Message": "m", "NextStep": "n", "SignInIdleDays": 0, **more,
    }


# ---- Newest version of each alert


def test_the_newest_version_of_each_alert_is_the_only_one():
    rows = [alert(30, 40), alert(10, 20, Status="Resolved"), alert(5, 90), alert(3, 4, key="a2")]
    found = {r["AlertId"]: r["Status"] for r in ask("function DefenderRawAlert", {"DefenderRawAlert_CL": rows})}
    assert found == {"a1": "Resolved", "a2": "New"}


def test_a_repeated_row_counts_once():
    rows = [alert(30, 40), alert(20, 40), alert(10, 40)]
    assert len(ask("function DefenderRawAlert", {"DefenderRawAlert_CL": rows})) == 1


def test_an_alert_with_no_update_time_is_not_lost():
    rows = [alert(30, 40, LastUpdateTime=None), alert(10, 20, key="a2", LastUpdateTime=None, AlertCreationTime=None)]
    assert len(ask("function DefenderRawAlert", {"DefenderRawAlert_CL": rows})) == 2


def test_versions_with_no_update_time_are_ordered_by_creation_and_else_by_arrival():
    nothing = {"LastUpdateTime": None, "AlertCreationTime": None}
    rows = [alert(10, 0, Status="Resolved", **nothing), alert(30, 0, Status="New", **nothing)]
    assert [r["Status"] for r in ask("function DefenderRawAlert", {"DefenderRawAlert_CL": rows})] == ["Resolved"]
    created = [alert(30, 0, "a1", Status="Resolved", LastUpdateTime=None, AlertCreationTime=ago(5)), alert(10, 20)]
    assert [r["Status"] for r in ask("function DefenderRawAlert", {"DefenderRawAlert_CL": created})] == ["Resolved"]


def test_the_new_and_the_classic_table_are_read_together():
    rows = {
        "DefenderRawAlert_CL": [classic(60, 70), classic(60, 70, key="old", incidentId_d=7.0, evidence_s='[{"sha1":"x"}]')],
        "DefenderRawAlertV2_CL": [alert(10, 20, Status="InProgress", IncidentId=9)],
    }
    found = {r["AlertId"]: r for r in ask("function DefenderRawAlert", rows, **BESIDE)}
    assert set(found) == {"a1", "old"}
    assert (found["a1"]["Status"], found["a1"]["IncidentId"]) == ("InProgress", 9)
    assert (found["old"]["AlertTitle"], found["old"]["IncidentId"]) == ("Malware", 7)


def test_the_classic_names_answer_for_rows_of_both_tables():
    rows = {
        "DefenderRawAlert_CL": [classic(60, 70, key="old")],
        "DefenderRawAlertV2_CL": [alert(10, 20, ComputerDnsName="pc.nhs.uk", RelatedUser={"userName": "a.patel"})],
    }
    found = {r["id_s"]: r for r in ask("function DefenderRawAlert", rows, **BESIDE)}
    assert (found["a1"]["title_s"], found["a1"]["computerDnsName_s"]) == ("Malware", "pc.nhs.uk")
    assert found["a1"]["relatedUser_userName_s"] == "a.patel"
    assert (found["old"]["severity_s"], found["old"]["status_s"]) == ("Low", "New")


def test_who_moves_counts_yesterdays_alerts_of_this_exporter_alone():
    page = (INFRA / "README.md").read_text(encoding="utf-8")
    (query,) = re.findall(r"```kusto\n(   DefenderRawAlertV2_CL\n.*?)```", page, re.DOTALL)
    midnight = ago(0).replace(hour=0, minute=0, second=0, microsecond=0)
    hours = {"a": -1, "b": -24, "c": -25, "d": 0}
    rows = {
        "DefenderRawAlert_CL": [classic(60, 70, key="old")],
        "DefenderRawAlertV2_CL": [
            alert(minutes, 20, key, AlertCreationTime=midnight + timedelta(hours=at)) for key, at in hours.items() for minutes in (5, 2)
        ],
    }
    (found,) = engine.run(query, workspace.tables(deploy(**BESIDE)), rows)
    assert list(found.values()) == [2]


# ---- Missed heartbeats

SILENT, TRUST = "table-silent", "trust-silent"


def fires(name: str, beats: list[dict], **parameters) -> bool:
    """Whether a rule would call: its window is cut out here as Azure would."""
    made = deploy(**parameters)
    rule = next(r for r in made.of("Microsoft.Insights/scheduledQueryRules") if r.body["name"].endswith(name))
    minutes = {"PT15M": 15, "PT30M": 30, "PT45M": 45, "PT1H": 60, "PT2H": 120, "P1D": 1440, "P2D": 2880}[rule.body["properties"]["windowSize"]]
    table = made.outputs["heartbeatTable"]
    inside = [b for b in beats if b["TimeGenerated"] >= ago(minutes)]
    count = len(ask(name, {table: inside}, **parameters))
    criterion = rule.body["properties"]["criteria"]["allOf"][0]
    return count < criterion["threshold"] if criterion["operator"] == "LessThan" else count > criterion["threshold"]


@pytest.mark.parametrize(
    ("beats", "table", "trust"),
    [
        ([], True, False),
        ([beat(40), beat(35)], True, False),
        ([beat(10)], False, False),
        ([beat(10, trust="RYY")], False, True),
        ([beat(45), beat(10, trust="RYY")], False, True),
        ([beat(5), beat(10, trust="RYY")], False, False),
    ],
    ids=["never a row", "all silent", "well", "only another trust", "fell silent", "both well"],
)
def test_one_rule_calls_when_heartbeats_stop(beats, table, trust):
    assert (fires(SILENT, beats), fires(TRUST, beats)) == (table, trust)


def test_rows_of_the_predecessor_hide_no_silence():
    old = {"TimeGenerated": ago(5), "value_s": "[]"}
    rows = {"Heartbeat_CL": [old], "HeartbeatV2_CL": []}
    assert ask(SILENT, rows, **BESIDE) == []
    assert len(ask(SILENT, {**rows, "HeartbeatV2_CL": [beat(5)]}, **BESIDE)) == 1


def test_heartbeats_by_the_data_collector_are_read_too():
    row = {"TimeGenerated": ago(5), "RunId_g": "r", "TrustName_s": "RXX", "Status_s": "Ok", "LagSeconds_d": 61.0}
    found = ask("function DefenderExportHeartbeat", {"Heartbeat_CL": [row]}, targetType="LogAnalytics")
    assert [(r["TrustName"], r["Status"], r["LagSeconds"]) for r in found] == [("RXX", "Ok", 61)]


# ---- Audits


def audit(minutes: float, trust: str = "RXX", **more) -> dict:
    return beat(minutes, "Reconciled", trust, RowType="DefenderExportAudit", Fetched=900, Delivered=2, **more)


def test_an_audit_hides_no_silence_and_calls_nobody():
    assert (fires(SILENT, [audit(5)]), fires(TRUST, [audit(5), beat(5, trust="RYY")])) == (True, True)
    rows = [beat(4, RowType="Heartbeat"), audit(3)]
    assert (fires(SILENT, rows), fires(TRUST, rows), ask("-status", {"Heartbeat_CL": rows})) == (False, False, [])
    failing = [beat(4, "SinkFailed", RowType="Heartbeat"), audit(3)]
    assert {r["Status"] for r in ask("-status", {"Heartbeat_CL": failing})} == {"SinkFailed"}
    idle = [beat(4, SignInIdleDays=61), audit(3, SignInIdleDays=61)]
    assert [r["Status"] for r in ask("-sign-in", {"Heartbeat_CL": idle})] == ["Ok"]


def test_audits_have_a_function_of_their_own():
    rows = [beat(4), audit(3, WindowEnd=ago(40)), audit(2, trust="RYY")]
    found = {r["TrustName"]: r for r in ask("function DefenderExportAudit", {"Heartbeat_CL": rows})}
    assert (found["RXX"]["Counted"], found["RXX"]["Repaired"], found["RXX"]["Status"]) == (900, 2, "Reconciled")
    assert len(found) == 2 and found["RXX"]["CompleteTo"] is not None
    row = {"TimeGenerated": ago(5), "RunId_g": "r", "TrustName_s": "RXX", "RowType_s": "DefenderExportAudit", "Fetched_d": 7.0}
    classic = ask("function DefenderExportAudit", {"Heartbeat_CL": [row]}, targetType="LogAnalytics")
    assert [r["Counted"] for r in classic] == [7]


def well(hours: range, status: str = "Ok", trust: str = "RXX") -> list[dict]:
    return [beat(hour * 60 + 1, status, trust, RowType="Heartbeat") for hour in hours]


@pytest.mark.parametrize(
    ("rows", "calls"),
    [
        (well(range(48)), True),
        (well(range(48), "SignInExpiring"), True),
        (well(range(48), "ScopeViolation"), True),
        (well(range(48)) + [audit(60 * 47)], False),
        (well(range(60)) + [audit(60 * 49)], True),
        (well(range(48)) + [audit(60, trust="RYY")], True),
        (well(range(48)) + [{**audit(60), "Status": "SinkFailed"}], True),
        (well(range(40)), False),
        (well(range(3, 48)), False),
        (well(range(48), "SignInNeeded"), False),
        (well(range(48), trust="RYY"), False),
        ([], False),
    ],
    ids=[
        "none", "sign-in ends soon", "foreign alerts", "one", "too long ago", "another trust's", "of another status",
        "too young to miss one", "fell silent", "nobody signed in", "another trust", "never a row",
    ],
)
def test_an_audit_that_does_not_end_for_two_days_calls_while_runs_end_well(rows, calls):
    assert fires("-audit", rows) == calls


def waited_for(trust: str, table: str, minutes: float) -> str:
    """The query by which the deployment script waits for a heartbeat, as it would send it."""
    script = (INFRA.parent / "scripts" / "deployment" / "selftest.ps1").read_text(encoding="utf-8")
    (query,) = re.findall(r'\$query = @"\n(.*?)\n"@', script, re.DOTALL)
    filled = query.replace("$from", ago(minutes).isoformat() + "Z").replace("$trust", trust).replace("$Table", table)
    assert "$" not in filled
    return filled


@pytest.mark.parametrize(
    ("rows", "status"),
    [
        ([beat(9, "SinkFailed", RowType="Heartbeat"), audit(3)], "SinkFailed"),
        ([beat(9, "SinkFailed"), beat(4, RowType="Heartbeat"), audit(3)], "Ok"),
        ([audit(3)], None),
        ([beat(40), beat(3, trust="RYY")], None),
    ],
    ids=["an audit beside", "newest, one without a row type", "only an audit", "too old, another's"],
)
def test_the_deployment_waits_for_a_run_and_takes_no_audit_for_one(rows, status):
    made = deploy()
    found = engine.run(waited_for("RXX", "Heartbeat_CL", 30), workspace.tables(made), {"Heartbeat_CL": rows})
    assert [row["Status"] for row in found] == ([status] if status else [])


def test_the_deployment_reads_the_data_collectors_names_too():
    made = deploy(targetType="LogAnalytics")
    rows = [
        {"TimeGenerated": ago(minutes), "RunId_g": "r", "TrustName_s": "RXX", "Status_s": status, "RowType_s": kind}
        for minutes, status, kind in [(5, "Ok", "Heartbeat"), (3, "Reconciled", "DefenderExportAudit")]
    ]
    found = engine.run(waited_for("RXX", "Heartbeat_CL", 30), workspace.tables(made), {"Heartbeat_CL": rows})
    assert [row["Status"] for row in found] == ["Ok"]


# ---- Run records


def test_the_head_is_the_newest_record_of_each_trust_and_a_rewritten_one_shows():
    beats = [
        beat(30, RecordNumber=1, RecordHash="aa"), beat(20, RecordNumber=2, RecordHash="bb"), beat(25),
        beat(10, RecordNumber=2, RecordHash="b2"), beat(5, RecordNumber=3, RecordHash="cc"),
        beat(2, trust="RYY", RecordNumber=9, RecordHash="dd"),
    ]
    found = {r["TrustName"]: r for r in ask("function DefenderExportRecordHead", {"Heartbeat_CL": beats})}
    assert (found["RXX"]["RecordNumber"], found["RXX"]["RecordHash"], found["RXX"]["Rewritten"]) == (3, "cc", 1)
    assert (found["RYY"]["RecordNumber"], found["RYY"]["RecordHash"], found["RYY"]["Rewritten"]) == (9, "dd", 0)


# ---- Status, sign-in, rejected rows


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (["Ok", "Ok"], set()),
        (["Ok", "SourceThrottled"], set()),
        (["CatchingUp", "SourceFailed"], {"CatchingUp", "SourceFailed"}),
        (["Ok", "SignInNeeded"], {"SignInNeeded"}),
        (["Ok", "ScopeViolation"], {"ScopeViolation"}),
        (["Ok", "Halted"], {"Halted"}),
        (["Ok", "ConfigInvalid"], {"ConfigInvalid"}),
        (["SignInExpiring"], set()),
        (["SignInExpiring", "SinkFailed"], set()),
        (["SomethingNew", "Ok"], {"SomethingNew"}),
    ],
    ids=str,
)
def test_a_status_other_than_ok_calls_when_it_should(statuses, expected):
    beats = [beat(minutes, status) for minutes, status in enumerate(statuses, start=2)]
    assert {r["Status"] for r in ask("-status", {"Heartbeat_CL": beats})} == expected


@pytest.mark.parametrize(
    ("beats", "reminds"),
    [
        ([], True),
        ([beat(60 * 25), beat(2, "SignInNeeded")], True),
        ([beat(2, "Halted"), beat(9, "ConfigInvalid"), beat(20, "SinkFailed"), beat(30, "SourceFailed"), beat(40, "StorageFailed")], True),
        ([beat(2, "SomethingNew")], True),
        ([beat(2, "ScopeViolation", Message="Nothing new. Nothing is exported: every alert met so far is of others.")], True),
        ([beat(2, trust="RYY"), beat(9, "SinkFailed")], True),
        ([beat(3, "Reconciled", RowType="DefenderExportAudit")], True),
        ([beat(60 * 23), beat(2, "SignInNeeded")], False),
        ([beat(2, "CatchingUp")], False),
        ([beat(2, "SignInExpiring")], False),
        ([beat(2, "ScopeViolation")], False),
        ([beat(2, "SourceThrottled")], False),
    ],
    ids=[
        "never a row", "well a day ago", "every bad end", "of a status unknown here", "every alert withheld", "only another trust", "only an audit",
        "well this day", "catching up", "sign-in ends soon", "foreign alerts", "throttled",
    ],
)
def test_a_day_without_a_run_that_ended_well_reminds_whatever_the_reason(beats, reminds):
    assert fires("-no-delivery", beats) == reminds


def test_the_words_of_an_export_that_withholds_everything_are_the_programs_own():
    said = "Nothing is exported:"
    assert f"'{said}'" in (INFRA / "queries" / "rule-no-delivery.kql").read_text(encoding="utf-8")
    assert f'"{said} ' in (INFRA.parent / "src" / "domain" / "visible.rs").read_text(encoding="utf-8")


def test_another_trusts_status_does_not_call_this_one():
    assert ask("-status", {"Heartbeat_CL": [beat(2, "Halted", trust="RYY"), beat(3)]}) == []


@pytest.mark.parametrize(
    ("beats", "calls"),
    [
        ([beat(2, "SignInExpiring")], True),
        ([beat(2, SignInIdleDays=60)], True),
        ([beat(2, SignInIdleDays=59)], False),
        ([beat(90, "SignInExpiring"), beat(2)], False),
        ([beat(2, "SignInExpiring", trust="RYY")], False),
    ],
    ids=["says so", "idle", "not yet", "mended", "another trust"],
)
def test_a_sign_in_near_its_end_calls_until_it_is_renewed(beats, calls):
    assert bool(ask("-sign-in", {"Heartbeat_CL": beats})) == calls


@pytest.mark.parametrize(
    ("beats", "calls"),
    [
        ([beat(4, Quarantined=1), beat(2, Quarantined=0)], True),
        ([beat(60 * 23, Quarantined=1), beat(2, Quarantined=0)], True),
        ([beat(4, "SinkFailed", Quarantined=3)], True),
        ([beat(60 * 25, Quarantined=1), beat(2, Quarantined=0)], False),
        ([beat(2, Quarantined=0)], False),
        ([beat(2)], False),
        ([beat(2, Quarantined=1, trust="RYY")], False),
        ([], False),
    ],
    ids=["one, the run well", "this day", "the run not well", "longer ago", "none", "not told", "another trust's", "never a row"],
)
def test_even_one_alert_set_aside_calls_though_every_run_ends_well(beats, calls):
    assert fires("-quarantine", beats) == calls


def test_what_an_audit_set_aside_calls_too_for_its_run_does_not_count_it():
    assert fires("-quarantine", [beat(4, Quarantined=0, RowType="Heartbeat"), audit(3, Quarantined=1)])
    assert not fires("-quarantine", [beat(4, RowType="Heartbeat"), audit(3, Quarantined=0), audit(2, "RYY", Quarantined=1)])
    rows = [beat(4, Quarantined=1, RowType="Heartbeat"), audit(3, Quarantined=2)]
    assert {r["RowType"]: r["Quarantined"] for r in ask("-quarantine", {"Heartbeat_CL": rows})} == {"Heartbeat": 1, "DefenderExportAudit": 2}


def test_what_the_data_collector_counts_as_set_aside_calls_too():
    row = {"TimeGenerated": ago(5), "RunId_g": "r", "TrustName_s": "RXX", "Status_s": "Ok", "Quarantined_d": 1.0}
    found = ask("-quarantine", {"Heartbeat_CL": [row]}, targetType="LogAnalytics")
    assert [r["Quarantined"] for r in found] == [1]


@pytest.mark.parametrize(
    ("rows", "texts"),
    [
        ([beat(4, NextStep=""), beat(3, NextStep=None)], 0),
        ([beat(9, NextStep="leave it"), beat(4, NextStep="leave it")], 1),
        ([beat(60 * 23, NextStep="leave it"), beat(4, NextStep="")], 1),
        ([beat(60 * 25, NextStep="leave it"), beat(4, NextStep="")], 0),
        ([beat(4, NextStep="leave it", Quarantined=1)], 0),
        ([beat(4, NextStep="leave it", Quarantined=0)], 1),
        ([beat(4, "SinkFailed"), beat(3, "SignInExpiring"), beat(2, "CatchingUp")], 0),
        ([beat(4, trust="RYY")], 0),
        ([audit(3, NextStep="raise it")], 0),
        ([beat(9, NextStep="leave it"), beat(4, NextStep="leave it set the clock")], 2),
        ([], 0),
    ],
    ids=[
        "nothing asked", "asked by each run", "this day", "longer ago", "set aside", "none set aside", "of other statuses",
        "another trust's", "an audit's", "one more thing", "never a row",
    ],
)
def test_what_a_run_that_ended_well_asks_for_calls_once_for_each_text(rows, texts):
    assert fires("-next-step", rows) == bool(texts)
    found = ask("-next-step", {"Heartbeat_CL": [row for row in rows if row["TimeGenerated"] >= ago(1440)]})
    assert len({row["Asks"] for row in found}) == len(found) == texts


def test_only_rows_rejected_by_this_rule_count():
    rule = deploy().of("Microsoft.Insights/dataCollectionRules")[0]
    rows = [
        {"TimeGenerated": ago(3), "_ResourceId": rule.id.upper(), "Message": "mine"},
        {"TimeGenerated": ago(3), "_ResourceId": "/another/rule", "Message": "theirs"},
    ]
    assert [r["Message"] for r in ask("rejected-rows", {"DCRLogErrors": rows})] == ["mine"]


# ---- Workbook


def test_what_every_reading_withholds_again_counts_once_and_what_was_set_aside_is_summed():
    # The engine knows no functions: what each gives stands here as a table.
    columns = workspace.tables(deploy())["Heartbeat_CL"]
    rows = {
        "DefenderExportHeartbeat": [beat(4, Withheld=7, Quarantined=1), beat(3, Withheld=7, Quarantined=0)],
        "DefenderExportAudit": [beat(2, Quarantined=2)],
    }
    found = engine.run(workspace.queries(deploy())["tile withheld"], dict.fromkeys(rows, columns), rows)
    assert max(row["Withheld: most in one run"] or 0 for row in found) == 7
    assert sum(row["Set aside"] or 0 for row in found) == 3


def test_the_cost_is_that_of_rows_heartbeats_and_log():
    sizes = {"DefenderRawAlertV2_CL": 1, "HeartbeatV2_CL": 2, "AppTraces": 4, "AppRequests": 8, "AppExceptions": 16, "SecurityEvent": 32}
    rows = [{"TimeGenerated": ago(60), "DataType": name, "Quantity": size * 1000.0} for name, size in sizes.items()]
    assert sum(row["GB"] for row in ask("tile cost", {"Usage": rows}, **BESIDE)) == 31


# ---- Sentinel


def sentinel(*rows: dict, **parameters) -> list[dict]:
    return ask("Sentinel rule", {"DefenderRawAlert_CL": list(rows)}, **parameters)


def test_a_new_alert_raises_one_sentinel_alert_however_often_its_row_came():
    assert [r["AlertId"] for r in sentinel(alert(3, 4), alert(2, 4), alert(1, 4))] == ["a1"]


def test_a_row_repeated_later_raises_no_second_alert():
    assert sentinel(alert(60, 70), alert(2, 70)) == []


def test_a_newer_version_of_an_alert_raises_no_second_alert():
    assert sentinel(alert(60, 70), alert(2, 3, Status="InProgress")) == []


def test_each_alert_is_raised_by_one_run_of_the_rule_alone():
    # The same rows seen by two runs, five minutes apart.
    later = [alert(1, 9), alert(1, 9, key="a2")]
    earlier = [{**r, "TimeGenerated": ago(6)} for r in later]
    assert {r["AlertId"] for r in sentinel(*later)} == {"a1", "a2"}
    assert sentinel(*earlier) == []


def test_an_old_alert_that_arrives_late_is_raised():
    assert len(sentinel(alert(2, 10_000, AlertCreationTime=ago(10_000)))) == 1


def test_an_alert_reaches_sentinel_with_its_title_entities_and_link():
    sha = "de96a6e69944335375dc1ac238336066889d9ffc7d73628ef4fe1b1b160ab32c"
    (found,) = sentinel(
        alert(
            2, 3, Severity="UnSpecified", Category="Ransomware", ComputerDnsName="ward7-pc03.rxx.nhs.uk", IncidentId=41880,
            AccountName="a.patel", DomainName="RXXDOM", IpAddress="10.0.0.1", AadTenantId="tenant",
            Evidence=[{"sha1": None, "sha256": None}, {"sha1": "6cbce4a295c163791b60fc23d285e6d84f28ee4c", "sha256": sha}],
        )
    )
    assert found["SentinelTitle"] == "Malware on ward7-pc03"
    assert (found["HostName"], found["DnsDomain"]) == ("ward7-pc03", "rxx.nhs.uk")
    assert (found["AccountName"], found["AccountDomain"], found["IpAddress"]) == ("a.patel", "RXXDOM", "10.0.0.1")
    assert (found["HashAlgorithm"], found["HashValue"]) == ("SHA256", sha)
    assert (found["SentinelSeverity"], found["Tactics"], found["DefenderIncident"]) == ("Medium", "Impact", "41880")
    assert found["AlertLink"] == "https://security.microsoft.com/alerts/a1?tid=tenant"


def test_an_alert_with_almost_nothing_in_it_is_still_raised():
    (found,) = sentinel({"TimeGenerated": ago(2), "AlertId": "bare"})
    assert (found["SentinelSeverity"], found["DefenderIncident"], found["HashValue"]) == ("Medium", "bare", "")


def test_moving_to_the_new_table_raises_nothing_again():
    rows = {"DefenderRawAlert_CL": [classic(300, 310)], "DefenderRawAlertV2_CL": [alert(2, 3)]}
    assert ask("Sentinel rule", rows, **BESIDE) == []


def test_an_engine_word_that_is_not_understood_is_noticed():
    with pytest.raises(ValueError, match="not understood"):
        engine.reword("T | extend a = column_ifexists(strcat('a', 'b'), '')", {"T": {}})
