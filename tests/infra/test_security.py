"""Least privilege, no keys, nothing readable that need not be."""

import base64
import re

import pytest

import bicep
import on_paper
from conftest import INFRA, deploy

ROLES = {
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b": "Storage Blob Data Owner",
    "974c5e8b-45b9-4653-ba55-5f855dd0fb88": "Storage Queue Data Contributor",
    "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3": "Storage Table Data Contributor",
    "ba92f5b4-2d11-453d-a403-e96b0029c9fe": "Storage Blob Data Contributor",
    "4633458b-17de-408a-b874-0445c86b69e6": "Key Vault Secrets User",
    "3913510d-42f4-4e42-8a64-420c390055eb": "Monitoring Metrics Publisher",
    "2b629674-e913-4c01-ae53-ef4638d8f975": "Azure Event Hubs Data Sender",
}
APP_ROLES = {
    ("Storage Blob Data Owner", "storageAccounts"),
    ("Storage Queue Data Contributor", "storageAccounts"),
    ("Storage Table Data Contributor", "storageAccounts"),
    ("Key Vault Secrets User", "vaults"),
    ("Monitoring Metrics Publisher", "dataCollectionRules"),
    ("Monitoring Metrics Publisher", "components"),
}


def granted(deployment: on_paper.Deployment, who: str | None = None) -> set[tuple[str, str]]:
    """(role, kind of resource it is on) of every assignment, of one principal if told."""
    return {
        (ROLES[r.body["properties"]["roleDefinitionId"].split("/")[-1]], r.body["scope"].type.split("@")[0].split("/")[-1])
        for r in deployment.of("Microsoft.Authorization/roleAssignments")
        if who is None or r.body["properties"]["principalId"] == who
    }


def properties(deployment: on_paper.Deployment, kind: str) -> dict:
    return deployment.of(kind)[0].body["properties"]


def test_the_app_may_do_this_and_no_more():
    assert granted(deploy()) == APP_ROLES
    assert granted(deploy(deployTelemetry=False)) == APP_ROLES - {("Monitoring Metrics Publisher", "components")}


def test_an_event_hub_adds_the_right_to_send_to_that_hub_alone():
    hub = {"targetType": "EventHub", "eventHubNamespace": "hubs", "eventHubName": "alerts"}
    assert granted(deploy(**hub)) - APP_ROLES == {("Azure Event Hubs Data Sender", "eventhubs")}
    assert granted(deploy(**hub, eventHubAccessKeyName="send", eventHubAccessKey="k")) - APP_ROLES == set()


def test_files_add_the_right_to_write_into_that_container_alone():
    writes = {("Storage Blob Data Contributor", "containers")}
    own = deploy(targetType="StorageBlob")
    assert granted(own) - APP_ROLES == writes
    other = deploy(targetType="StorageBlob", alertBlobServiceUri="https://lake.blob.core.windows.net", alertStorageResourceGroup="rg-lake")
    assert granted(other) - APP_ROLES == writes
    role = next(r for r in other.of("Microsoft.Authorization/roleAssignments") if r.body["scope"].type.split("@")[0].endswith("containers"))
    assert "lake" in role.body["scope"].id, role.body["scope"].id
    assert granted(deploy(targetType="S3", s3Bucket="rxx-alerts", s3Region="eu-west-2", s3AccessKeyId="AKIA")) == APP_ROLES


def test_whoever_uploads_may_write_packages_and_nothing_else():
    assert granted(deploy(deployerPrincipalId="me"), "me") == {("Storage Blob Data Contributor", "containers")}


def test_role_names_follow_from_scope_principal_and_role(variant):
    for one in variant.of("Microsoft.Authorization/roleAssignments"):
        scope, held = one.body["scope"], one.body["properties"]
        role = held["roleDefinitionId"].split("/")[-1]
        assert one.body["name"] == on_paper.FUNCTIONS["guid"](scope.id, held["principalId"], role)


def test_storage_takes_no_keys_and_shows_nothing(variant):
    account = properties(variant, "Microsoft.Storage/storageAccounts")
    assert account["allowSharedKeyAccess"] is False and account["allowBlobPublicAccess"] is False
    assert (account["minimumTlsVersion"], account["supportsHttpsTrafficOnly"]) == ("TLS1_2", True)
    for container in variant.of("Microsoft.Storage/storageAccounts/blobServices/containers"):
        assert container.body["properties"]["publicAccess"] == "None"


def test_the_app_speaks_https_only_and_takes_no_publishing_password(variant):
    app = properties(variant, "Microsoft.Web/sites")
    assert app["httpsOnly"] is True
    assert (app["siteConfig"]["minTlsVersion"], app["siteConfig"]["ftpsState"]) == ("1.2", "Disabled")
    policies = {p.body["name"]: p.body["properties"]["allow"] for p in variant.of("Microsoft.Web/sites/basicPublishingCredentialsPolicies")}
    assert policies == {"ftp": False, "scm": False}


def test_each_plan_gets_what_it_needs():
    shapes = {}
    for kind in ("FlexConsumption", "Consumption", "Premium", "Dedicated"):
        made = deploy(planKind=kind)
        plan, app = made.of("Microsoft.Web/serverfarms")[0].body, properties(made, "Microsoft.Web/sites")
        shapes[kind] = (plan["sku"]["name"], app["siteConfig"].get("alwaysOn"), app["functionAppConfig"] is not None)
        assert plan["properties"]["reserved"] is True
    assert shapes == {
        "FlexConsumption": ("FC1", None, True),
        "Consumption": ("Y1", None, False),
        "Premium": ("EP1", None, False),
        "Dedicated": ("B1", True, False),
    }
    flex = properties(deploy(), "Microsoft.Web/sites")["functionAppConfig"]
    assert flex["runtime"] == {"name": "custom", "version": "1.0"}
    assert flex["deployment"]["storage"]["authentication"] == {"type": "SystemAssignedIdentity"}
    assert flex["deployment"]["storage"]["value"].endswith("deployments")


def test_private_endpoints_close_the_public_door():
    made = deploy(integrationSubnetId="/subnets/a", privateEndpointSubnetId="/subnets/b")
    assert properties(made, "Microsoft.Storage/storageAccounts")["publicNetworkAccess"] == "Disabled"
    assert properties(made, "Microsoft.KeyVault/vaults")["publicNetworkAccess"] == "Disabled"
    groups = [e.body["properties"]["privateLinkServiceConnections"][0]["properties"]["groupIds"] for e in made.of("Microsoft.Network/privateEndpoints")]
    assert groups == [["blob"], ["queue"], ["table"], ["vault"]]
    assert made.of("Microsoft.Network/privateEndpoints/privateDnsZoneGroups") == []


# ---- The session key


def session_key_secret(deployment: on_paper.Deployment) -> on_paper.Resource:
    return next(s for s in deployment.of("Microsoft.KeyVault/vaults/secrets") if s.body["name"] == "session-key")


def test_a_redeploy_never_changes_the_session_key():
    # The value differs each time, so only this decorator keeps the first one.
    assert session_key_secret(deploy()).body["properties"]["value"] != session_key_secret(deploy()).body["properties"]["value"]
    assert session_key_secret(deploy()).decorators == ["onlyIfNotExists"]


def test_the_default_session_key_is_32_random_bytes_in_base64():
    keys = {session_key_secret(deploy()).body["properties"]["value"] for _ in range(20)}
    assert len(keys) == 20
    for key in keys:
        raw = base64.b64decode(key, validate=True)
        assert len(raw) == 32 and base64.b64encode(raw).decode() == key


def test_a_session_key_that_is_given_is_used_and_one_of_another_length_refused():
    key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    assert session_key_secret(deploy(sessionKey=key)).body["properties"]["value"] == key
    with pytest.raises(bicep.BicepError, match="sessionKey breaks @minLength"):
        deploy(sessionKey="short")


def test_the_vault_is_ruled_by_roles_and_cannot_be_emptied():
    vault = properties(deploy(), "Microsoft.KeyVault/vaults")
    assert vault["enableRbacAuthorization"] and vault["enableSoftDelete"] and vault["enablePurgeProtection"]


def test_no_output_carries_a_secret():
    for path in [INFRA / "main.bicep", *(INFRA / "modules").glob("*.bicep")]:
        for one in bicep.parse(path):
            if one.kind == "output":
                names = bicep.names_used(one.value)
                assert not any(re.search(r"(?i)key|secret", n) for n in names), f"{path.name} {one.name}"
