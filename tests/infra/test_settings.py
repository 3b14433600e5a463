"""The app settings are those the exporter reads, with its limits and no copy of its defaults."""

import json
import re
from pathlib import Path


import bicep
from conftest import EXPORTER, MAIN, ROOT, VARIANTS, declared, deploy, fields, setting_parameters, settings

KNOWN = json.loads(Path(__file__).with_name("settings.json").read_text(encoding="utf-8"))
NOT_SET = KNOWN["not set by the deployment"]
FOR_THE_HOST = KNOWN["set for the Functions host, not for the exporter"]
CONFIG = "".join(
    p.read_text(encoding="utf-8").split("#[cfg(test)]")[0]
    for p in [ROOT / "src/config.rs", *sorted((ROOT / "src/config").glob("*.rs"))]
)
FLEX_REFUSES = {"FUNCTIONS_EXTENSION_VERSION", "FUNCTIONS_WORKER_RUNTIME", "WEBSITE_RUN_FROM_PACKAGE"}
SECRETS = {
    "FunctionConfigSessionKey": "session-key",
    "FunctionConfigSessionKeyPrevious": "session-key-previous",
    "FunctionConfigLogAnalyticsKeyValue": "workspace-key",
    "FunctionConfigEventHubAccessKeyValue": "event-hub-key",
    "FunctionConfigS3SecretAccessKey": "s3-secret-access-key",
}


def read_by_the_exporter(source: str) -> set[str]:
    """Names of app settings that stand in the settings code."""
    return set(re.findall(r'"(FunctionConfig\w+|AzureWebJobsStorage\w*)"', source))


def ranges(source: str) -> dict[str, tuple[int, int]]:
    """Least and greatest value of every number the exporter reads."""
    found = re.findall(r'reader\s*\.number\(\s*"(\w+)",\s*([\d_]+)\.\.=([\d_]+)', source)
    return {name: (int(low.replace("_", "")), int(high.replace("_", ""))) for name, low, high in found}


def choices(source: str) -> dict[str, set[str]]:
    """The words every choice takes."""
    found = re.findall(r'reader\s*\.choice\(\s*"(\w+)",\s*&\[(.*?)\],\s*\w', source, re.S)
    return {name: set(re.findall(r'\("(\w+)"', words)) for name, words in found}


def set_by_some_road() -> set[str]:
    return set().union(*(settings(deploy(**p)) for p in VARIANTS.values()))


def limits_of(name: str) -> dict:
    """The decorators that bound the one parameter a setting is taken from."""
    main = declared(MAIN)
    bounds = {n: a[0] for p in setting_parameters()[name] for n, a in main[p].decorators if n in ("minValue", "maxValue", "allowed")}
    return {n: {i[1][0] for i in a[1]} if n == "allowed" else a[1] for n, a in bounds.items()}


def test_every_setting_the_exporter_reads_is_set_or_left_out_for_a_reason():
    assert read_by_the_exporter(CONFIG) - set_by_some_road() == set(NOT_SET)


def test_every_setting_that_is_set_is_read_by_the_exporter_or_the_host():
    assert set_by_some_road() - read_by_the_exporter(CONFIG) == set(FOR_THE_HOST)


def test_the_settings_code_was_understood():
    assert len(read_by_the_exporter(CONFIG)) > 40
    assert ranges(CONFIG)["FunctionConfigPageSize"] == (50, 10_000)
    assert choices(CONFIG)["FunctionConfigScopeGuard"] == {"withhold", "halt"}


def test_numbers_and_choices_have_the_exporters_limits():
    assert len(ranges(CONFIG)) + len(choices(CONFIG)) > 12
    for name, (low, high) in ranges(CONFIG).items():
        assert limits_of(name) == {"minValue": low, "maxValue": high}, name
    for name, words in choices(CONFIG).items():
        assert limits_of(name) == {"allowed": words}, name


def test_a_default_of_the_exporter_is_not_written_twice():
    found = settings(deploy())
    for name in [*ranges(CONFIG), "FunctionConfigScopeGuard", "FunctionConfigExportUpdates", "FunctionConfigDefenderEndpoint"]:
        assert name not in found


def test_what_is_said_arrives_in_words_the_exporter_reads():
    found = settings(deploy(**VARIANTS["everything said"], deviceGroups=["A", "B C"]))
    assert found["FunctionConfigDeviceGroups"] == "A;B C"
    assert found["FunctionConfigExportUpdates"] == "False"
    assert found["FunctionConfigUse_last_saved_time"] == "True"
    assert found["FunctionConfigInitialLookbackHours"] == "48"
    assert found["FunctionConfigSessionStore"] == "Entity"
    assert found["FunctionConfigDefenderEndpoint"] == "https://defender.example"


def test_every_value_is_text(variant):
    assert [n for n, v in settings(variant).items() if not isinstance(v, str) or v == ""] == []


def test_every_secret_setting_is_a_key_vault_reference(variant):
    found = settings(variant)
    vault = variant.of("Microsoft.KeyVault/vaults")[0].name
    for name, value in found.items():
        if name in SECRETS:
            assert value == f"@Microsoft.KeyVault(SecretUri=<{vault}.properties.vaultUri>secrets/{SECRETS[name]})"
        else:
            assert not re.search(r"(?i)(key|secret|password)$", name) and "listKeys" not in value, name


def test_every_secret_that_is_referred_to_is_stored(variant):
    stored = {r.body["name"] for r in variant.of("Microsoft.KeyVault/vaults/secrets")}
    wanted = set(re.findall(r"secrets/([\w-]+)\)", " ".join(settings(variant).values())))
    # The previous key is put there by whoever rotates.
    assert wanted - {"session-key-previous"} == stored


def test_each_of_several_targets_gets_what_it_needs_and_no_more():
    needs = {
        "LogsIngestion": "FunctionConfigLogsIngestionRuleId", "LogAnalytics": "FunctionConfigLogAnalyticsKeyValue",
        "EventHub": "FunctionConfigEventHubName", "StorageBlob": "FunctionConfigAlertBlobContainer", "S3": "FunctionConfigS3Bucket",
    }
    for target, needed in needs.items():
        for targets in (target, f"EventHub; {target}", f"{target.lower()};StorageBlob"):
            found = settings(deploy(**{**VARIANTS["everywhere"], "targetType": targets}))
            assert needed in found and found["FunctionConfigAlertTargetType"] == targets
            for other in {"LogAnalytics", "EventHub", "StorageBlob", "S3"} - {target, "EventHub", "StorageBlob"}:
                assert needs[other] not in found, (targets, other)
    # Heartbeats go to the rule where no alerts go into the workspace.
    assert "FunctionConfigLogsIngestionRuleId" in settings(deploy(**{**VARIANTS["everywhere"], "targetType": "EventHub;S3"}))
    assert "FunctionConfigLogsIngestionRuleId" not in settings(deploy(**{**VARIANTS["everywhere"], "targetType": "LogAnalytics;S3"}))


def test_a_secret_that_is_not_given_again_stays_in_the_vault():
    bucket = {"targetType": "S3", "s3Bucket": "rxx-alerts", "s3Region": "eu-west-2", "s3AccessKeyId": "AKIA"}
    again = deploy(**bucket)
    assert "s3-secret-access-key" not in {r.body["name"] for r in again.of("Microsoft.KeyVault/vaults/secrets")}
    assert settings(again)["FunctionConfigS3SecretAccessKey"].endswith("secrets/s3-secret-access-key)")


def test_flex_consumption_is_given_none_of_the_settings_it_refuses():
    assert FLEX_REFUSES & set(settings(deploy())) == set()
    for plan in ("Consumption", "Premium", "Dedicated"):
        assert FLEX_REFUSES <= set(settings(deploy(planKind=plan)))


def test_a_setting_made_by_hand_stays_and_an_own_one_wins():
    found = settings(deploy(additionalAppSettings={"MINE": "1", "FunctionConfigTrustName": "old"}))
    assert (found["MINE"], found["FunctionConfigTrustName"]) == ("1", "RXX")


def test_the_page_says_of_every_setting_what_the_file_calls_it():
    direct = setting_parameters()
    heading = "### Settings and parameters\n"
    section = (MAIN.parent / "README.md").read_text(encoding="utf-8").partition(heading)[2].partition("\n### ")[0]
    table = dict(re.findall(r"^\| `(FunctionConfig\w+)` \| `(\w+)` \|$", section, re.M))
    assert {name: {parameter} for name, parameter in table.items()} == {n: p for n, p in direct.items() if p}
    beneath = section.rpartition("|\n")[2]
    assert set(re.findall(r"`(FunctionConfig\w+)`", beneath)) == {n for n, p in direct.items() if not p}
    given = set(re.findall(r"`([a-z]\w+)`", beneath)) - {"true", "false"}
    assert given == {"runEveryMinutes", "workspaceKey", "s3SecretAccessKey"} <= set(declared(MAIN))


def test_settings_come_after_the_roles_that_make_them_readable():
    before = bicep.names_used(fields(declared(EXPORTER), "appSettings")["dependsOn"])
    assert {"roles", "eventHub", "alertContainer", "privateNetwork"} <= before


# ---- The checks above can fail


def test_a_setting_the_deployment_does_not_know_is_noticed():
    source = CONFIG + '\nreader.switch("FunctionConfigBrandNew", true);'
    assert read_by_the_exporter(source) - set_by_some_road() != set(NOT_SET)


def test_a_changed_limit_is_noticed():
    changed = CONFIG.replace("50..=10_000", "1..=10_000")
    assert ranges(changed)["FunctionConfigPageSize"] == (1, 10_000)
