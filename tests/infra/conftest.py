"""What the checks of infra/ share."""

from pathlib import Path

import pytest

import bicep
import on_paper

ROOT = Path(__file__).parent.parent.parent
INFRA = ROOT / "infra"
MAIN = INFRA / "main.bicep"
EXPORTER = INFRA / "modules" / "exporter.bicep"
FILES = [MAIN, *sorted((INFRA / "modules").glob("*.bicep"))]

LEAST = {
    "defenderTenantId": "0f6c1f7e-5d2b-4a43-9a57-3d6f0c9b2e11",
    "defenderClientAppId": "7f1c3609-a3ff-40e2-995b-c01770161d68",
    "trustName": "RXX",
    "deviceGroups": ["RXX Example Trust"],
    "workspaceName": "law-rxx",
    "alertEmailAddresses": ["soc@example.nhs.uk"],
}

# One deployment for each road through the files.
VARIANTS = {
    "least": {},
    "consumption": {"planKind": "Consumption"},
    "premium": {"planKind": "Premium", "integrationSubnetId": "/subnets/a"},
    "dedicated": {"planKind": "Dedicated"},
    "classic tables beside": {"classicAlertTable": True, "classicHeartbeatTable": True},
    "data collector": {"targetType": "LogAnalytics", "workspaceKey": "k", "logAnalyticsEndpoint": "https://x.ods.example"},
    "event hub by identity": {"targetType": "EventHub", "eventHubNamespace": "hubs", "eventHubName": "alerts"},
    "event hub by policy": {
        "targetType": "EventHub", "eventHubNamespace": "hubs", "eventHubName": "alerts", "eventHubAccessKeyName": "send",
        "eventHubAccessKey": "k", "eventHubEndpoint": "https://hubs.example",
    },
    "files": {"targetType": "StorageBlob"},
    "files in another account": {
        "targetType": "StorageBlob", "alertContainerName": "alerts", "alertBlobServiceUri": "https://lake.blob.core.windows.net",
        "alertStorageResourceGroup": "rg-lake",
    },
    "bucket": {
        "targetType": "S3", "s3Bucket": "rxx-alerts", "s3Region": "eu-west-2", "s3Prefix": "trusts/RXX", "s3AccessKeyId": "AKIA",
        "s3SecretAccessKey": "k", "s3Endpoint": "https://s3.example",
    },
    "everywhere": {
        "targetType": "LogsIngestion;LogAnalytics;EventHub;StorageBlob;S3", "workspaceKey": "k", "eventHubNamespace": "hubs",
        "eventHubName": "alerts", "s3Bucket": "rxx-alerts", "s3Region": "eu-west-2", "s3AccessKeyId": "AKIA", "s3SecretAccessKey": "k",
    },
    "private": {
        "integrationSubnetId": "/subnets/a", "privateEndpointSubnetId": "/subnets/b",
        "privateDnsZoneResourceGroupId": "/subscriptions/s/resourceGroups/dns",
    },
    "everything said": {
        "allowUngrouped": False, "scopeGuard": "halt", "alertSource": "Graph", "exportUpdates": False, "sendHeartbeat": True,
        "useLastSavedTime": True, "queryDepthMinutes": 5, "initialLookbackHours": 48, "settleSeconds": 90,
        "overlapMinutes": 45, "auditHours": 48, "pageSize": 500, "callsPerHour": 60, "sessionStore": "Entity", "signInPrompt": "log",
        "loggingType": "blob", "loggingLevel": 2, "identityAuthority": "https://login.example",
        "defenderEndpoint": "https://defender.example", "graphEndpoint": "https://graph.example",
        "usePreviousSessionKey": True, "deployerPrincipalId": "p", "keepTimerReady": True, "recoverDeletedVault": True,
    },
}


def deploy(**parameters) -> on_paper.Deployment:
    """The deployment on paper, with the least parameters and these."""
    return on_paper.deploy(MAIN, {**LEAST, **parameters})


def declared(path: Path) -> dict[str, bicep.Declaration]:
    """What a file declares; an output may have the name of a parameter."""
    return {d.name: d for d in bicep.parse(path) if d.kind != "output"}


def members(value: tuple) -> dict:
    """What stands between the braces of an object."""
    return {key[1][0]: item for key, item in value[1]}


def fields(declarations: dict, module: str) -> dict:
    """What stands between the braces of a module."""
    body = declarations[module].value
    return members(body[2] if body[0] == "when" else body)


def setting_parameters() -> dict[str, set[str]]:
    """The parameters of main.bicep that each setting of the exporter is taken from."""
    main = declared(MAIN)
    handed = {group: members(given) for group, given in members(fields(main, "exporter")["params"]).items()}
    found = {}
    for name, expression in members(declared(EXPORTER)["exporterSettings"].value).items():
        behind = [handed[group][member] for _, group, member in bicep.members_used(expression) if group in handed]
        found[name] = {n for one in behind for n in bicep.names_used(one) if n in main and main[n].kind == "param"}
    return found


def settings(deployment: on_paper.Deployment) -> dict:
    """The app settings of a deployment."""
    return deployment.of("Microsoft.Web/sites/config")[0].body["properties"]


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS)
def variant(request) -> on_paper.Deployment:
    return deploy(**request.param)
