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
