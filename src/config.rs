//! Settings: every variable the product reads, parsed once at start.
//!
//! All faults come back together, by name. A value is never echoed: any of them
//! could be a secret pasted in the wrong place.

mod digest;
mod parts;
mod reader;
mod schedule;
mod storage;
mod target;
mod target_files;

use std::time::Duration;

use secrecy::SecretString;
use url::Url;
use uuid::Uuid;

pub use self::parts::{Parts, Platform};
pub use self::reader::{ConfigError, Fault, Vars};
pub use self::schedule::Schedule;
pub use self::storage::{Storage, StorageAuth, StorageConfig};
pub use self::target::{
    DataCollector, EventHub, EventHubAuth, HeartbeatTarget, LogsIngestion, SasPolicy, Target,
};
pub use self::target_files::{S3, StorageBlob};

use self::reader::Reader;
use self::target::Targets;
use crate::domain::audit::AuditPolicy;
use crate::domain::hash::Hash;
use crate::domain::scope::{OnForeign, Scope};
use crate::domain::window::WindowPolicy;

const TIMER_SCHEDULE: &str = "FunctionConfigTimerSchedule";
/// By which the platform knows an instance: App Service and Premium plans, Flex
/// Consumption, Consumption on Linux
/// (<https://github.com/Azure/azure-functions-host/blob/dev/src/WebJobs.Script/Environment/EnvironmentExtensions.cs>).
const INSTANCE_NAMES: [&str; 3] = ["WEBSITE_INSTANCE_ID", "WEBSITE_POD_NAME", "CONTAINER_NAME"];

/// Everything the product can be told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whose alerts, as whom.
    pub identity: IdentityConfig,
    /// Where alerts come from.
    pub source: SourceConfig,
    /// Which span of time next.
    pub windows: WindowPolicy,
    /// Whose alerts may leave.
    pub scope: Scope,
    /// What happens when a foreign alert is seen.
    pub on_foreign: OnForeign,
    /// `FunctionConfigExportUpdates`: a row for every version of an alert, not
    /// only its first.
    pub export_updates: bool,
    /// Where alerts go: at least one target, each kind once.
    pub targets: Vec<Target>,
    /// Where heartbeats go; `None` when they are switched off.
    pub heartbeats: Option<HeartbeatTarget>,
    /// Where state is kept.
    pub storage: StorageConfig,
    /// `FunctionConfigTrustName`, put on every row.
    pub trust_name: String,
    /// `FunctionConfigTimerSchedule`: six-field NCRONTAB, for `run`.
    pub schedule: String,
    /// The same, where it was given and can be understood: this deployment's
    /// own seconds.
    pub own_slots: Option<Schedule>,
    /// The process's own surroundings.
    pub host: HostConfig,
    /// `FunctionConfigAuditHours`: the daily audit; `None` if switched off, or
    /// where `FunctionConfigUse_last_saved_time` is off and nothing is promised.
    pub audit: Option<AuditPolicy>,
    /// Of all settings; of secret ones only whether they are set.
    pub digest: Hash,
}

/// Whom alerts are read as, and how that sign-in is kept.
#[derive(Clone, Debug)]
pub struct IdentityConfig {
    /// `FunctionConfigMDETenantId`: the identity tenant.
    pub tenant: Uuid,
    /// `FunctionConfigMDEClientAppId`: the public client.
    pub client: Uuid,
    /// `FunctionConfigIdentityAuthority`, with a trailing slash.
    pub authority: Url,
    /// `FunctionConfigSessionKey`: 32 bytes in base64; seals the session.
    pub session_key: SecretString,
    /// `FunctionConfigSessionKeyPrevious`: still opens what it sealed.
    pub session_key_previous: Option<SecretString>,
    /// `FunctionConfigSessionStore`.
    pub session_store: SessionStoreKind,
    /// `FunctionConfigSignInPrompt`.
    pub prompt: SignInPrompt,
}

/// Where the sealed session is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SessionStoreKind {
    /// A row of the state table.
    Table,
    /// The Durable entity `entity_state`.
    Entity,
}

/// Who may start a sign-in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SignInPrompt {
    /// Only a person who asks.
    Portal,
    /// The timer too; the code goes to the log, as the predecessor did.
    Log,
}

/// Where alerts come from.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// `FunctionConfigAlertSource`.
    pub kind: SourceKind,
    /// `FunctionConfigDefenderEndpoint`, with a trailing slash.
    pub defender: Url,
    /// `FunctionConfigGraphEndpoint`, with a trailing slash.
    pub graph: Url,
    /// `FunctionConfigPageSize`: alerts asked for in one call, 50 to 10,000.
    pub page_size: u32,
    /// `FunctionConfigCallsPerHour`: this trust's share of the tenant's quota.
    pub calls_per_hour: u32,
}

/// Which API alerts are read from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SourceKind {
    /// Defender for Endpoint, `/api/alerts`.
    Defender,
    /// Microsoft Graph, `alerts_v2`.
    Graph,
}

/// The process's own surroundings, as the Functions host sets them.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Whose claim on the position is this process's own: the platform's name
    /// for the instance, for the host starts one handler on each; else the
    /// host's name, and where others may use the same storage account from the
    /// same host, or from one of the same name, this process alone.
    pub instance: String,
    /// `IDENTITY_ENDPOINT` and `IDENTITY_HEADER`: the managed identity.
    pub managed_identity: Option<ManagedIdentityEndpoint>,
}

/// Where this app asks for tokens of its managed identity.
#[derive(Clone, Debug)]
pub struct ManagedIdentityEndpoint {
    /// `IDENTITY_ENDPOINT`.
    pub endpoint: Url,
    /// `IDENTITY_HEADER`: proves that the caller runs inside the app.
    pub header: SecretString,
    /// `AzureWebJobsStorage__clientId`: a user-assigned identity.
    pub client_id: Option<String>,
}

/// What can be told about a deployment whose settings are not in order.
#[derive(Clone, Debug)]
pub struct Reporting {
    /// Where heartbeats go, if at least that is in order.
    pub heartbeats: Option<HeartbeatTarget>,
    /// `FunctionConfigTrustName`.
    pub trust_name: String,
    /// The process's own surroundings.
    pub host: HostConfig,
}

impl Reporting {
    /// Reads what it can; the faults are [`Config::load`]'s to report.
    pub fn load(vars: &Vars) -> Self {
        let mut reader = Reader::new(vars);
        let targets = Targets::read(&mut reader);
        let heartbeats = HeartbeatTarget::read(&mut reader, &targets);
        Self { heartbeats, trust_name: trust_name(&reader), host: HostConfig::read(&mut reader) }
    }
}

/// How and where to log. Read apart from [`Config`], so that faults in it can
/// be logged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LoggingConfig {
    /// `FunctionConfigLoggingType`.
    pub output: LogOutput,
    /// `FunctionConfigLoggingLevel`: 1 logs everything, 5 the least.
    pub level: u8,
}

/// Where log lines go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogOutput {
    /// The host's streams, by severity.
    Logging,
    /// An append blob a day in the container.
    Blob,
    /// Standard output only.
    Print,
}

impl LoggingConfig {
    /// The level of warnings and errors.
    pub const WARNINGS: u8 = 4;
    /// The level of errors only.
    pub const ERRORS: u8 = 5;

    /// Reads the two logging settings. A fault falls back to the default here
    /// and is reported by [`Config::load`]. Where `FunctionConfigSignInPrompt`
    /// is `log`, warnings are logged at every level: the code is one.
    pub fn load(vars: &Vars) -> Self {
        let mut reader = Reader::new(vars);
        let prompts = IdentityConfig::read_prompt(&mut reader) == SignInPrompt::Log;
        let logging = Self::read(&mut reader);
        if prompts { Self { level: logging.level.min(Self::WARNINGS), ..logging } } else { logging }
    }

    fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            output: reader.choice(
                "FunctionConfigLoggingType",
                &[
                    ("logging", LogOutput::Logging),
                    ("blob", LogOutput::Blob),
                    ("print", LogOutput::Print),
                ],
                LogOutput::Logging,
            ),
            level: reader.number("FunctionConfigLoggingLevel", 1..=Self::ERRORS, 3),
        }
    }
}

impl Config {
    /// Reads and checks every setting.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] naming each missing or malformed variable.
    pub fn load(vars: &Vars) -> Result<Self, ConfigError> {
        Self::read(Reader::new(vars), vars)
    }

    /// The same under the Functions host, where there is no folder for state:
    /// a storage account must be set.
    ///
    /// # Errors
    ///
    /// As for [`Config::load`].
    pub fn load_in_host(vars: &Vars) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(vars);
        storage::must_be_set(&mut reader);
        Self::read(reader, vars)
    }

    fn read(mut reader: Reader<'_>, vars: &Vars) -> Result<Self, ConfigError> {
        let identity = IdentityConfig::read(&mut reader);
        let source = SourceConfig::read(&mut reader);
        let windows = read_windows(&mut reader);
        let (scope, on_foreign) = read_scope(&mut reader);
        let export_updates = reader.switch("FunctionConfigExportUpdates", true);
        let targets = Targets::read(&mut reader);
        let heartbeats = HeartbeatTarget::read(&mut reader, &targets);
        let storage = StorageConfig::read(&mut reader);
        let trust_name = trust_name(&reader);
        let own_schedule = reader.text(TIMER_SCHEDULE);
        let audit = read_audit(&mut reader, &trust_name).filter(|_| windows.only_last.is_none());
        let schedule = read_schedule(&mut reader);
        parts::check_depth(&mut reader, &windows, &schedule);
        let host = HostConfig::read(&mut reader);
        LoggingConfig::read(&mut reader);
        parts::read_management(&mut reader);

        let problems = reader.finish();
        match (identity, source, scope) {
            (Some(identity), Some(source), Some(scope)) if problems.is_empty() => Ok(Self {
                identity,
                source,
                windows,
                scope,
                on_foreign,
                export_updates,
                targets: targets.readable,
                heartbeats,
                storage,
                trust_name,
                own_slots: own_schedule.and_then(|text| Schedule::parse(&text)),
                schedule,
                host,
                audit,
                digest: digest::of(vars),
            }),
            _ => Err(ConfigError(problems)),
        }
    }
}

impl IdentityConfig {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let tenant = reader.required_id("FunctionConfigMDETenantId");
        let client = reader.required_id("FunctionConfigMDEClientAppId");
        let authority =
            reader.endpoint("FunctionConfigIdentityAuthority", "https://login.microsoftonline.com");
        let session_key = reader.required_key("FunctionConfigSessionKey");
        let session_key_previous = reader.key("FunctionConfigSessionKeyPrevious");
        let session_store = reader.choice(
            "FunctionConfigSessionStore",
            &[("Table", SessionStoreKind::Table), ("Entity", SessionStoreKind::Entity)],
            SessionStoreKind::Table,
        );
        let prompt = Self::read_prompt(reader);
        Some(Self {
            tenant: tenant?,
            client: client?,
            authority: authority?,
            session_key: session_key?,
            session_key_previous,
            session_store,
            prompt,
        })
    }

    fn read_prompt(reader: &mut Reader<'_>) -> SignInPrompt {
        reader.choice(
            "FunctionConfigSignInPrompt",
            &[("portal", SignInPrompt::Portal), ("log", SignInPrompt::Log)],
            SignInPrompt::Portal,
        )
    }
}

impl SourceConfig {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let kind = reader.choice(
            "FunctionConfigAlertSource",
            &[("Defender", SourceKind::Defender), ("Graph", SourceKind::Graph)],
            SourceKind::Defender,
        );
        let defender =
            reader.endpoint("FunctionConfigDefenderEndpoint", "https://api.security.microsoft.com");
        let graph = reader.endpoint("FunctionConfigGraphEndpoint", "https://graph.microsoft.com");
        let page_size = reader.number("FunctionConfigPageSize", 50..=10_000, 1_000);
        let calls_per_hour = reader.number("FunctionConfigCallsPerHour", 1..=1_500, 120);
        Some(Self { kind, defender: defender?, graph: graph?, page_size, calls_per_hour })
    }
}

impl HostConfig {
    fn read(reader: &mut Reader<'_>) -> Self {
        let named_by_platform = INSTANCE_NAMES.into_iter().find_map(|name| reader.text(name));
        let instance = named_by_platform.unwrap_or_else(|| {
            let host = reader.text("HOSTNAME").unwrap_or_else(|| "local".to_owned());
            if storage::is_set(reader) { of_this_process(&host) } else { host }
        });
        let client_id = reader.text("AzureWebJobsStorage__clientId");
        let managed_identity = reader.text("IDENTITY_ENDPOINT").and_then(|endpoint| {
            Some(ManagedIdentityEndpoint {
                endpoint: reader.local_url("IDENTITY_ENDPOINT", &endpoint)?,
                header: reader.text("IDENTITY_HEADER")?.into(),
                client_id,
            })
        });
        Self { instance, managed_identity }
    }
}

/// Process ids alone repeat: in containers every one is 1.
fn of_this_process(host: &str) -> String {
    let once = Uuid::new_v4().simple().to_string();
    let once: String = once.chars().take(8).collect();
    format!("{host}/{}-{once}", std::process::id())
}

fn trust_name(reader: &Reader<'_>) -> String {
    let given = reader.text("FunctionConfigTrustName").or_else(|| reader.text("WEBSITE_SITE_NAME"));
    given.unwrap_or_else(|| "local".to_owned())
}

fn read_windows(reader: &mut Reader<'_>) -> WindowPolicy {
    let minutes = |count: u32| Duration::from_secs(u64::from(count) * 60);
    let depth = minutes(reader.number("FunctionConfigQueryDepth", 1..=1_440, 5));
    let from_saved_time = reader.switch("FunctionConfigUse_last_saved_time", true);
    let lookback: u32 = reader.number("FunctionConfigInitialLookbackHours", 1..=4_320, 24);
    let settle: u32 = reader.number("FunctionConfigSettleSeconds", 0..=3_600, 60);
    let overlap = minutes(reader.number("FunctionConfigOverlapMinutes", 0..=1_440, 30));
    WindowPolicy {
        settle: Duration::from_secs(u64::from(settle)),
        overlap,
        initial_lookback: minutes(lookback * 60),
        only_last: (!from_saved_time).then_some(depth),
        ..WindowPolicy::DEFAULT
    }
}

fn read_audit(reader: &mut Reader<'_>, trust: &str) -> Option<AuditPolicy> {
    let hours: u64 = reader.number("FunctionConfigAuditHours", 0..=168, 72);
    AuditPolicy::new(Duration::from_hours(hours), trust)
}

fn read_scope(reader: &mut Reader<'_>) -> (Option<Scope>, OnForeign) {
    let allow_ungrouped = reader.switch("FunctionConfigAllowUngrouped", false);
    let on_foreign = reader.choice(
        "FunctionConfigScopeGuard",
        &[("withhold", OnForeign::Withhold), ("halt", OnForeign::Halt)],
        OnForeign::Withhold,
    );
    let scope = reader.required("FunctionConfigDeviceGroups").and_then(|text| {
        let scope = Scope::parse(&text, allow_ungrouped);
        if scope.is_none() {
            reader.fault(
                "FunctionConfigDeviceGroups",
                "names no device group; write the group names separated by `;`, or `*` alone to export every group",
            );
        }
        scope
    });
    (scope, on_foreign)
}

fn read_schedule(reader: &mut Reader<'_>) -> String {
    let text = reader.text(TIMER_SCHEDULE).unwrap_or_else(|| "0 */5 * * * *".to_owned());
    if Schedule::parse(&text).is_none() {
        reader.fault(TIMER_SCHEDULE, "not a six-field schedule such as `0 */5 * * * *`");
    }
    text
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
