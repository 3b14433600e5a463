//! The settings part by part, for whoever must go on although some are wrong.

use std::time::Duration;

use url::Url;

use super::reader::{Fault, Reader, Vars};
use super::storage::StorageConfig;
use super::target::{HeartbeatTarget, Target, Targets};
use super::{
    Config, HostConfig, IdentityConfig, Schedule, SignInPrompt, SourceConfig, read_scope,
    read_windows,
};
use crate::domain::pace::planned;
use crate::domain::scope::Scope;
use crate::domain::window::WindowPolicy;

/// What can be used of the settings.
#[derive(Clone, Debug)]
pub struct Parts {
    /// What is wrong, by name.
    pub faults: Vec<Fault>,
    /// What is legal, works, and is to be known.
    pub cautions: Vec<Fault>,
    /// Whom alerts are read as.
    pub identity: Option<IdentityConfig>,
    /// Where alerts come from.
    pub source: Option<SourceConfig>,
    /// Whose alerts may leave.
    pub scope: Option<Scope>,
    /// Where alerts go: those targets whose settings are in order.
    pub targets: Vec<Target>,
    /// Where heartbeats go.
    pub heartbeats: Option<HeartbeatTarget>,
    /// Where state is kept.
    pub storage: Option<StorageConfig>,
    /// `FunctionConfigManagementEndpoint`, with a trailing slash.
    pub management: Option<Url>,
    /// The process's own surroundings.
    pub host: HostConfig,
    /// What the Functions host says of itself.
    pub platform: Platform,
}

/// What the Functions host says of itself.
#[derive(Clone, Debug, Default)]
pub struct Platform {
    /// Whether this is a Function App: `WEBSITE_SITE_NAME` is set.
    pub is_app: bool,
    /// `FUNCTIONS_EXTENSION_VERSION`.
    pub extension: Option<String>,
    /// `FUNCTIONS_WORKER_RUNTIME`.
    pub worker: Option<String>,
}

impl Parts {
    /// Reads every part for itself.
    pub fn load(vars: &Vars) -> Self {
        let faults = Config::load(vars).err().map_or_else(Vec::new, |error| error.0);
        let mut reader = Reader::new(vars);
        let targets = Targets::read(&mut reader);
        let heartbeats = HeartbeatTarget::read(&mut reader, &targets);
        Self {
            faults,
            cautions: cautions(vars),
            identity: part(vars, IdentityConfig::read).flatten(),
            source: part(vars, SourceConfig::read).flatten(),
            scope: part(vars, |reader| read_scope(reader).0).flatten(),
            targets: targets.readable,
            heartbeats,
            storage: part(vars, StorageConfig::read),
            management: part(vars, read_management).flatten(),
            host: HostConfig::read(&mut Reader::new(vars)),
            platform: Platform {
                is_app: vars.get("WEBSITE_SITE_NAME").is_some(),
                extension: vars.get("FUNCTIONS_EXTENSION_VERSION"),
                worker: vars.get("FUNCTIONS_WORKER_RUNTIME"),
            },
        }
    }
}

/// What `read` reads, if nothing of it is wrong.
fn part<T>(vars: &Vars, read: impl FnOnce(&mut Reader<'_>) -> T) -> Option<T> {
    let mut reader = Reader::new(vars);
    let part = read(&mut reader);
    reader.finish().is_empty().then_some(part)
}

/// Where Azure Resource Graph answers; only `doctor` asks it.
pub(super) fn read_management(reader: &mut Reader<'_>) -> Option<Url> {
    reader.endpoint("FunctionConfigManagementEndpoint", "https://management.azure.com")
}

/// Where every run reads the last minutes only, these must reach back to the run
/// before: what lies between would never be read.
pub(super) fn check_depth(reader: &mut Reader<'_>, windows: &WindowPolicy, schedule: &str) {
    let share = reader.number("FunctionConfigCallsPerHour", 1..=1_500, 120);
    let schedule = Schedule::parse(schedule).map(|it| it.longest_gap()).unwrap_or_default();
    let asked = Duration::from_mins(planned(share).into());
    let name = "FunctionConfigQueryDepth";
    for (period, why) in
        [(asked, "FunctionConfigCallsPerHour"), (schedule, "FunctionConfigTimerSchedule")]
    {
        if windows.only_last.is_some_and(|depth| depth < period) {
            let minutes = period.as_secs().div_ceil(60);
            let what = format!(
                "less than the {minutes} minutes between two runs that read ({why}); while FunctionConfigUse_last_saved_time is off, alerts in between would be lost. Make it {minutes} or more, or switch FunctionConfigUse_last_saved_time on"
            );
            reader.note(name, what.into());
        }
    }
}

fn cautions(vars: &Vars) -> Vec<Fault> {
    let mut reader = Reader::new(vars);
    let windows = read_windows(&mut reader);
    let heartbeats = reader.switch("FunctionConfigSendHeartbeatToLogAnalytics", true);
    let prompt = IdentityConfig::read(&mut reader).map(|identity| identity.prompt);
    let caution =
        |is: bool, name, what: &'static str| is.then_some(Fault { name, what: what.into() });
    [
        caution(
            windows.only_last.is_some(),
            "FunctionConfigUse_last_saved_time",
            "is off: every run reads the last minutes only, so alerts of any longer outage are lost",
        ),
        caution(
            !heartbeats,
            "FunctionConfigSendHeartbeatToLogAnalytics",
            "is off: nobody is told when the export stops",
        ),
        caution(
            prompt == Some(SignInPrompt::Log),
            "FunctionConfigSignInPrompt",
            "is `log`: whoever reads the log can bind an account of their own to this export",
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_in_one_part_leaves_the_others_usable() {
        let parts = Parts::load(&Vars::map([
            ("FunctionConfigMDETenantId", "hunter2"),
            ("FunctionConfigDeviceGroups", "RXX Example Trust"),
            ("AzureWebJobsStorage", "hunter2"),
            ("FunctionConfigLogsIngestionEndpoint", "https://x.ingest.monitor.azure.com"),
            ("FunctionConfigLogsIngestionRuleId", "dcr-0123456789abcdef0123456789abcdef"),
            ("FunctionConfigUse_last_saved_time", "False"),
        ]));
        let faults: Vec<_> = parts.faults.iter().map(|fault| fault.name).collect();
        assert_eq!(
            faults,
            [
                "FunctionConfigMDETenantId",
                "FunctionConfigMDEClientAppId",
                "FunctionConfigSessionKey",
                "AzureWebJobsStorage",
            ]
        );
        assert!(parts.identity.is_none() && parts.storage.is_none());
        assert!(parts.source.is_some() && parts.scope.is_some() && parts.heartbeats.is_some());
        assert_eq!(parts.targets.len(), 1);
        assert_eq!(parts.cautions[0].name, "FunctionConfigUse_last_saved_time");
        assert!(!format!("{parts:?}").contains("hunter2"));
    }
}
