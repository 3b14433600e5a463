use std::collections::BTreeMap;

use super::*;

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// The least a deployment sets.
fn least() -> Vec<(&'static str, &'static str)> {
    vec![
        ("FunctionConfigMDETenantId", "0f6c1f7e-5d2b-4a43-9a57-3d6f0c9b2e11"),
        ("FunctionConfigMDEClientAppId", "7f1c3609-a3ff-40e2-995b-c01770161d68"),
        ("FunctionConfigSessionKey", KEY),
        ("FunctionConfigDeviceGroups", "RXX Example Trust"),
        ("FunctionConfigLogsIngestionEndpoint", "https://x.uksouth-1.ingest.monitor.azure.com"),
        ("FunctionConfigLogsIngestionRuleId", "dcr-0123456789abcdef0123456789abcdef"),
    ]
}

fn load(extra: &[(&'static str, &'static str)]) -> Result<Config, ConfigError> {
    Config::load(&Vars::map(least().into_iter().chain(extra.iter().copied())))
}

fn faults(extra: &[(&'static str, &'static str)]) -> String {
    load(extra).expect_err("a fault").to_string()
}

#[test]
fn the_least_a_deployment_sets_is_enough() {
    let config = load(&[]).unwrap();
    assert_eq!(config.trust_name, "local");
    assert_eq!(config.source.page_size, 1_000);
    assert_eq!(config.windows.overlap, Duration::from_mins(30));
    assert!(config.export_updates);
    assert!(config.heartbeats.is_some());
}

#[test]
fn what_would_be_right_is_told() {
    for (name, value, right) in [
        ("FunctionConfigPageSize", "10001", "a whole number from 50 to 10000"),
        ("FunctionConfigAlertSource", "Sentinel", "one of Defender, Graph"),
        (
            "FunctionConfigAlertTargetType",
            "S3;Tape",
            "one or several of LogsIngestion, LogAnalytics, EventHub, StorageBlob, S3, with `;` between them",
        ),
    ] {
        let faults = faults(&[(name, value)]);
        assert!(faults.contains(&format!("{name}: not {right}")), "{faults}");
    }
}

#[test]
fn minutes_to_read_that_do_not_reach_back_to_the_run_before_are_refused() {
    let off = ("FunctionConfigUse_last_saved_time", "False");
    let few = ("FunctionConfigCallsPerHour", "6");
    let late = ("FunctionConfigTimerSchedule", "0 */10 * * * *");
    let depth = |minutes| ("FunctionConfigQueryDepth", minutes);
    for (extra, words) in [
        (
            &[off, few][..],
            "less than the 15 minutes between two runs that read (FunctionConfigCallsPerHour)",
        ),
        (
            &[off, late],
            "less than the 10 minutes between two runs that read (FunctionConfigTimerSchedule)",
        ),
        (&[off, depth("4")], "less than the 5 minutes"),
    ] {
        let faults = faults(extra);
        assert!(
            faults.contains("FunctionConfigQueryDepth: ") && faults.contains(words),
            "{faults}"
        );
    }
    for extra in [&[off][..], &[off, few, depth("15")], &[few, late, depth("1")]] {
        assert!(load(extra).is_ok(), "{extra:?}");
    }
}

#[test]
fn every_fault_is_reported_at_once_and_no_value_is_echoed() {
    let error = Config::load(&Vars::map([
        ("FunctionConfigMDETenantId", "hunter2"),
        ("FunctionConfigPageSize", "lots"),
        ("FunctionConfigExportUpdates", "perhaps"),
        ("FunctionConfigDefenderEndpoint", "http://defender.example"),
    ]))
    .unwrap_err()
    .to_string();
    for name in [
        "FunctionConfigMDETenantId",
        "FunctionConfigMDEClientAppId",
        "FunctionConfigSessionKey",
        "FunctionConfigDeviceGroups",
        "FunctionConfigPageSize",
        "FunctionConfigExportUpdates",
        "FunctionConfigDefenderEndpoint",
        "FunctionConfigLogsIngestionEndpoint",
        "FunctionConfigLogsIngestionRuleId",
    ] {
        assert!(error.contains(name), "{name} missing from: {error}");
    }
    for value in ["hunter2", "lots", "perhaps", "defender.example"] {
        assert!(!error.contains(value), "{value} echoed in: {error}");
    }
}

#[test]
fn the_text_false_switches_off_whatever_its_case() {
    for text in ["False", "false", "0", "NO"] {
        assert!(!load(&[("FunctionConfigExportUpdates", text)]).unwrap().export_updates, "{text}");
    }
}

#[test]
fn plain_http_is_for_loopback_only() {
    assert!(load(&[("FunctionConfigDefenderEndpoint", "http://127.0.0.1:8080")]).is_ok());
    assert!(load(&[("FunctionConfigDefenderEndpoint", "http://[::1]:8080")]).is_ok());
    assert!(load(&[("FunctionConfigDefenderEndpoint", "http://localhost:8080")]).is_ok());
    assert!(
        faults(&[("FunctionConfigDefenderEndpoint", "http://localhost.example")]).contains("https")
    );
}

#[test]
fn a_session_key_of_the_wrong_length_is_refused() {
    assert!(faults(&[("FunctionConfigSessionKey", "c2hvcnQ=")]).contains("32 bytes"));
}

#[test]
fn a_list_of_no_groups_is_not_taken_for_every_group() {
    assert!(
        faults(&[("FunctionConfigDeviceGroups", " ; ")]).contains("FunctionConfigDeviceGroups")
    );
}

#[test]
fn an_event_hub_still_needs_somewhere_for_heartbeats() {
    let hub = [
        ("FunctionConfigAlertTargetType", "EventHub"),
        ("FunctionConfigEventHubNamespace", "trust-hubs"),
        ("FunctionConfigEventHubName", "alerts"),
        ("FunctionConfigLogsIngestionEndpoint", ""),
        ("FunctionConfigLogsIngestionRuleId", ""),
    ];
    assert!(faults(&hub).contains("FunctionConfigLogAnalyticsWorkspaceId"));
    let off = [&hub[..], &[("FunctionConfigSendHeartbeatToLogAnalytics", "no")]].concat();
    assert!(load(&off).unwrap().heartbeats.is_none());
}

#[test]
fn several_targets_are_named_with_semicolons() {
    let hub = [
        ("FunctionConfigAlertTargetType", "EventHub ; logsingestion;EventHub"),
        ("FunctionConfigEventHubNamespace", "trust-hubs"),
        ("FunctionConfigEventHubName", "alerts"),
    ];
    let config = load(&hub).unwrap();
    assert!(matches!(config.targets[..], [Target::LogsIngestion(_), Target::EventHub(_)]));
    assert!(matches!(config.heartbeats, Some(HeartbeatTarget::LogsIngestion(_))));
    for text in ["EventHub;", "EventHub,LogsIngestion", "Sentinel"] {
        let named = [&hub[1..], &[("FunctionConfigAlertTargetType", text)]].concat();
        assert!(faults(&named).contains("FunctionConfigAlertTargetType"), "{text}");
    }
}

#[test]
fn a_fault_in_one_target_is_still_reported_through_another() {
    let settings =
        least().into_iter().chain([("FunctionConfigAlertTargetType", "LogsIngestion;EventHub")]);
    let vars = Vars::map(settings);
    assert!(Config::load(&vars).unwrap_err().to_string().contains("EventHubNamespace"));
    assert!(Reporting::load(&vars).heartbeats.is_some());
}

#[test]
fn debug_output_hides_every_secret() {
    let config = load(&[
        ("FunctionConfigAlertTargetType", "LogAnalytics"),
        ("FunctionConfigLogAnalyticsWorkspaceId", "0f6c1f7e-5d2b-4a43-9a57-3d6f0c9b2e11"),
        ("FunctionConfigLogAnalyticsKeyValue", "d29ya3NwYWNlLWtleQ=="),
        ("AzureWebJobsStorage", "UseDevelopmentStorage=true"),
        ("FunctionConfigSessionKeyPrevious", KEY),
    ])
    .unwrap();
    let printed = format!("{config:?}");
    for secret in ["AAECAw", "d29ya3", "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50u"] {
        assert!(!printed.contains(secret), "{secret} in {printed}");
    }
}

#[test]
fn a_key_that_stayed_a_key_vault_reference_is_no_key() {
    const REFERENCE: &str = "@Microsoft.KeyVault(SecretUri=https://kv.example/secrets/x/)";
    let faults = faults(&[
        ("FunctionConfigAlertTargetType", "LogAnalytics;EventHub"),
        ("FunctionConfigLogAnalyticsWorkspaceId", "0f6c1f7e-5d2b-4a43-9a57-3d6f0c9b2e11"),
        ("FunctionConfigLogAnalyticsKeyValue", REFERENCE),
        ("FunctionConfigEventHubNamespace", "ns"),
        ("FunctionConfigEventHubName", "hub"),
        ("FunctionConfigEventHubAccessKeyName", "send"),
        ("FunctionConfigEventHubAccessKeyValue", REFERENCE),
    ]);
    for name in ["FunctionConfigLogAnalyticsKeyValue", "FunctionConfigEventHubAccessKeyValue"] {
        let said = format!("{name}: its Key Vault reference is not resolved. ");
        assert!(faults.contains(&said), "{faults}");
    }
    assert!(!faults.contains("kv.example"), "{faults}");
}

#[test]
fn a_workspace_key_is_base64() {
    let workspace = [
        ("FunctionConfigAlertTargetType", "LogAnalytics"),
        ("FunctionConfigLogAnalyticsWorkspaceId", "0f6c1f7e-5d2b-4a43-9a57-3d6f0c9b2e11"),
        ("FunctionConfigLogAnalyticsKeyValue", "hunter2!"),
    ];
    let faults = faults(&workspace);
    assert!(faults.contains("FunctionConfigLogAnalyticsKeyValue: not base64"), "{faults}");
    assert!(!faults.contains("hunter2"), "{faults}");
}

#[test]
fn a_schedule_that_cannot_be_understood_is_a_fault_at_load() {
    for text in ["a b c d e f", "0 */5 * * *", "0 99 * * * *"] {
        let faults = faults(&[("FunctionConfigTimerSchedule", text)]);
        assert!(faults.contains("FunctionConfigTimerSchedule: not a six-field"), "{faults}");
    }
}

#[test]
fn a_setting_with_two_faults_counts_once_and_both_are_named() {
    let faults = faults(&[("FunctionConfigStorageTable", "-!")]);
    assert!(faults.starts_with("1 setting to correct; "), "{faults}");
    assert_eq!(faults.matches("FunctionConfigStorageTable: ").count(), 2, "{faults}");
}

#[test]
fn a_namespace_of_event_hubs_is_a_name_and_not_an_address() {
    let with = |namespace| {
        load(&[
            ("FunctionConfigAlertTargetType", "EventHub;LogsIngestion"),
            ("FunctionConfigEventHubNamespace", namespace),
            ("FunctionConfigEventHubName", "alerts"),
        ])
    };
    for address in [
        "sb://ns.servicebus.windows.net/",
        "https://ns.servicebus.windows.net",
        "ns.servicebus.windows.net/",
        "ns:443",
        "n s",
    ] {
        let faults = with(address).unwrap_err().to_string();
        assert!(faults.starts_with("1 setting to correct; "), "{faults}");
        assert!(faults.contains("FunctionConfigEventHubNamespace: not a name such as"), "{faults}");
    }
    assert!(with("trust-hubs").is_ok() && with("ns.servicebus.usgovcloudapi.net").is_ok());
}

#[test]
fn names_that_azure_would_refuse_are_faults_at_load() {
    for (name, wrong) in [
        ("FunctionConfigStorageTable", &["1abc", "a-b", "ab"][..]),
        ("FunctionConfigStorageContainer", &["-a--b", "a--b", "ab-", "Logs", "ab", "a_b"]),
    ] {
        for text in wrong {
            let faults = faults(&[(name, text)]);
            assert!(faults.starts_with(&format!("1 setting to correct; {name}: ")), "{faults}");
        }
    }
    assert!(load(&[("FunctionConfigStorageTable", "a1b")]).is_ok());
    assert!(load(&[("FunctionConfigStorageContainer", "1-a")]).is_ok());
}

#[test]
fn under_the_host_a_missing_storage_account_is_named_with_the_other_faults() {
    let with = |extra: &[(&'static str, &'static str)]| {
        Config::load_in_host(&Vars::map(least().into_iter().chain(extra.iter().copied())))
    };
    let faults = with(&[("FunctionConfigPageSize", "lots")]).unwrap_err().to_string();
    for name in ["AzureWebJobsStorage: not set", "FunctionConfigPageSize"] {
        assert!(faults.contains(name), "{faults}");
    }
    assert!(with(&[("AzureWebJobsStorage__accountName", "acct")]).is_ok());
    let faults = with(&[("AzureWebJobsStorage", "nonsense")]).unwrap_err().to_string();
    assert!(faults.starts_with("1 setting"), "{faults}");
}

#[test]
fn on_a_shared_account_no_two_processes_have_one_name_unless_the_platform_gives_it() {
    let instance = |extra: &[(&'static str, &'static str)]| load(extra).unwrap().host.instance;
    assert_eq!(instance(&[]), "local", "the embedded store admits one process");
    assert_eq!(instance(&[("HOSTNAME", "vm1")]), "vm1");
    let shared = [("AzureWebJobsStorage__accountName", "acct"), ("HOSTNAME", "vm1")];
    let (one, two) = (instance(&shared), instance(&shared));
    assert!(one.starts_with("vm1/") && two.starts_with("vm1/") && one != two, "{one} {two}");
    let hosted = [("AzureWebJobsStorage__accountName", "acct"), ("WEBSITE_INSTANCE_ID", "i1")];
    assert_eq!(instance(&hosted), "i1");
}

#[test]
fn a_user_assigned_identity_is_asked_for_by_its_client_id() {
    const CLIENT: &str = "2b1f54cb-8f0e-4b0b-9c5a-6d2f3d1c7a90";
    let app = [
        ("IDENTITY_ENDPOINT", "http://127.0.0.1:41563/msi/token"),
        ("IDENTITY_HEADER", "hunter2"),
        ("AzureWebJobsStorage__accountName", "acct"),
    ];
    let client_id = |extra: &[(&'static str, &'static str)]| {
        load(&[&app[..], extra].concat()).unwrap().host.managed_identity.unwrap().client_id
    };
    let named = [("AzureWebJobsStorage__clientId", CLIENT)];
    assert_eq!(client_id(&named).as_deref(), Some(CLIENT));
    assert_eq!(client_id(&[]), None);
}

type Settings = &'static [(&'static str, &'static str)];

const HUB: Settings = &[
    ("FunctionConfigAlertTargetType", "EventHub"),
    ("FunctionConfigEventHubNamespace", "trust-hubs"),
    ("FunctionConfigEventHubName", "alerts"),
    ("FunctionConfigEventHubAccessKeyName", "send"),
    ("FunctionConfigEventHubAccessKeyValue", "c2VjcmV0LWtleQ=="),
];
const FILES: Settings = &[
    ("FunctionConfigAlertTargetType", "StorageBlob"),
    ("AzureWebJobsStorage__accountName", "acct"),
    ("WEBSITE_INSTANCE_ID", "i1"),
];
const BUCKET: Settings = &[
    ("FunctionConfigAlertTargetType", "S3"),
    ("FunctionConfigS3Bucket", "alerts"),
    ("FunctionConfigS3Endpoint", "https://s3.example"),
    ("FunctionConfigS3AccessKeyId", "AKIA"),
    ("FunctionConfigS3SecretAccessKey", "hunter2"),
];
const LAST_MINUTES: Settings = &[("FunctionConfigUse_last_saved_time", "False")];

/// Each setting with a default: what it is, something else it may be, and what
/// must be set beside it so that it counts.
const DEFAULTS: &[(&str, &str, &str, Settings)] = &[
    ("FunctionConfigAlertTargetType", "LogsIngestion", "EventHub", HUB.split_at(1).1),
    ("FunctionConfigLogAnalyticsTableName", "DefenderRawAlert", "Other", &[]),
    ("FunctionConfigEventHubAccessKeyType", "EventHub", "Namespace", HUB),
    ("FunctionConfigAlertBlobContainer", "defender-alerts", "other", FILES),
    ("FunctionConfigS3Region", "us-east-1", "eu-west-2", BUCKET),
    ("FunctionConfigSendHeartbeatToLogAnalytics", "True", "False", &[]),
    ("FunctionConfigUse_last_saved_time", "True", "False", &[]),
    ("FunctionConfigQueryDepth", "5", "7", LAST_MINUTES),
    ("FunctionConfigStorageTable", "fnautomationmdeCachedValues", "other", &[]),
    ("FunctionConfigStorageContainer", "functionlogging", "other", &[]),
    ("FunctionConfigLoggingType", "logging", "blob", &[]),
    ("FunctionConfigLoggingLevel", "3", "2", &[]),
    ("FunctionConfigScopeGuard", "withhold", "halt", &[]),
    ("FunctionConfigAllowUngrouped", "False", "True", &[]),
    ("FunctionConfigAlertSource", "Defender", "Graph", &[]),
    ("FunctionConfigExportUpdates", "True", "False", &[]),
    ("FunctionConfigInitialLookbackHours", "24", "25", &[]),
    ("FunctionConfigSettleSeconds", "60", "61", &[]),
    ("FunctionConfigOverlapMinutes", "30", "31", &[]),
    ("FunctionConfigAuditHours", "72", "71", &[]),
    ("FunctionConfigPageSize", "1000", "999", &[]),
    ("FunctionConfigCallsPerHour", "120", "119", &[]),
    (
        "FunctionConfigIdentityAuthority",
        "https://login.microsoftonline.com",
        "https://login.example",
        &[],
    ),
    (
        "FunctionConfigDefenderEndpoint",
        "https://api.security.microsoft.com",
        "https://defender.example",
        &[],
    ),
    ("FunctionConfigGraphEndpoint", "https://graph.microsoft.com", "https://graph.example", &[]),
    (
        "FunctionConfigManagementEndpoint",
        "https://management.azure.com",
        "https://management.example",
        &[],
    ),
    ("FunctionConfigSessionStore", "Table", "Entity", &[]),
    ("FunctionConfigSignInPrompt", "portal", "log", &[]),
    ("FunctionConfigTimerSchedule", "0 */5 * * * *", "0 */6 * * * *", &[]),
];

/// All that settings lead to, but for what says which of them were set.
fn meant(beside: Settings, extra: Settings) -> String {
    let vars = Vars::map(least().into_iter().chain(beside.iter().chain(extra).copied()));
    let config = Config::load(&vars).unwrap();
    let config = Config { digest: load(&[]).unwrap().digest, own_slots: None, ..config };
    format!("{config:?} {:?} {:?}", LoggingConfig::load(&vars), Parts::load(&vars).management)
}

#[test]
fn what_is_not_set_is_what_the_readme_says() {
    let readme = include_str!("../README.md");
    let documented: BTreeMap<_, _> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .filter_map(|(name, rest)| Some((name, rest.trim_end_matches('|').rsplit_once("| ")?.1)))
        .collect();
    for &(name, default, other, beside) in DEFAULTS {
        let unset = meant(beside, &[]);
        let set = |value| meant(beside, Box::leak(Box::new([(name, value)])));
        assert!(unset == set(default), "{name}: the default is another");
        assert!(unset != set(other), "{name}: it does not count");
        let said = documented.get(name).copied().unwrap_or_default();
        assert!(said.contains(&format!("`{default}`")), "{name}: the README says {said:?}");
    }
    let in_table = |name: &str| DEFAULTS.iter().any(|(known, ..)| *known == name);
    for (name, said) in documented.iter().filter(|(name, _)| name.starts_with("FunctionConfig")) {
        assert!(in_table(name) || !said.starts_with('`'), "{name}: {said:?} is not tried");
    }
}

#[test]
fn on_every_plan_an_instance_that_was_killed_knows_its_own_claim_again() {
    let shared = [("AzureWebJobsStorage__accountName", "acct"), ("HOSTNAME", "vm1")];
    let flex = ("WEBSITE_POD_NAME", "pod-1");
    let linux_consumption = ("CONTAINER_NAME", "container-1");
    for (named, expected) in [
        (&[flex][..], "pod-1"),
        (&[linux_consumption], "container-1"),
        (&[linux_consumption, flex, ("WEBSITE_INSTANCE_ID", "")], "pod-1"),
        (&[linux_consumption, flex, ("WEBSITE_INSTANCE_ID", "i1")], "i1"),
    ] {
        let settings = [&shared[..], named].concat();
        for _start in 0..2 {
            assert_eq!(load(&settings).unwrap().host.instance, expected, "{named:?}");
        }
    }
}
