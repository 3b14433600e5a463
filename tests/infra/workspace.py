"""The tables of a trust's workspace and the queries a deployment brings there."""

import json
from pathlib import Path

import on_paper

KNOWN = json.loads(Path(__file__).with_name("workspace.json").read_text(encoding="utf-8"))
KQL_TYPES = {"boolean": "bool"}


def tables(deployment: on_paper.Deployment) -> dict[str, dict[str, str]]:
    """Name and column types of every table: those deployed, the classic ones, Azure's own."""
    parameters = deployment.parameters
    found = dict(KNOWN["tables"])
    for one in deployment.of("Microsoft.OperationalInsights/workspaces/tables"):
        columns = one.body["properties"]["schema"]["columns"]
        found[one.body["name"]] = {c["name"]: KQL_TYPES.get(c["type"], c["type"].lower()) for c in columns}
    by_collector = parameters["targetType"] == "LogAnalytics"
    if parameters["classicAlertTable"] or by_collector:
        sent = {"ExportKey_s": "string"} if by_collector else {}
        found[parameters["tableName"] + "_CL"] = {**KNOWN["classic alert table"], **sent}
    if parameters["classicHeartbeatTable"] or by_collector:
        found["Heartbeat_CL"] = KNOWN["classic heartbeat table"]
    return {name: {**columns, **KNOWN["every table"]} for name, columns in found.items()}


def functions(deployment: on_paper.Deployment) -> dict[str, str]:
    """Alias and body of every saved function."""
    saved = deployment.of("Microsoft.OperationalInsights/workspaces/savedSearches")
    return {s.body["properties"]["functionAlias"]: s.body["properties"]["query"] for s in saved}


def queries(deployment: on_paper.Deployment) -> dict[str, str]:
    """Every query Azure will run for this deployment, placeholders filled."""
    found = {f"function {name}": body for name, body in functions(deployment).items()}
    for rule in deployment.of("Microsoft.Insights/scheduledQueryRules"):
        found[f"rule {rule.body['name']}"] = rule.body["properties"]["criteria"]["allOf"][0]["query"]
    for rule in deployment.of("Microsoft.SecurityInsights/alertRules"):
        found["Sentinel rule"] = rule.body["properties"]["query"]
    for book in deployment.of("Microsoft.Insights/workbooks"):
        for item in json.loads(book.body["properties"]["serializedData"])["items"]:
            if item["type"] == 3:
                found[f"tile {item['name']}"] = item["content"]["query"]
    return found
