//! The clouds, the state and the real program between them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use defender_alert_export::app::App;
use defender_alert_export::clock::Clock;
use defender_alert_export::config::{Config, Vars};
use defender_alert_export::domain::standing::Standing;
use defender_alert_export::domain::timestamp::Timestamp;
use defender_alert_export::http::retry::pause;
use defender_alert_export::sandbox::clouds::{ACCOUNT, ACCOUNT_ID, Clouds, GROUP, TABLE};
use defender_alert_export::sandbox::sample::{self, Sample};
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use uuid::Uuid;

use super::gate::Gate;
use crate::handler::network;
use crate::store::{self, azurite};

/// How long anything may take before a test gives up on it.
pub(crate) const BOUND: Duration = Duration::from_secs(90);

/// Evidence entries that make rows of some 45 KB: 21 or so go into a batch.
const EVIDENCE: usize = 55;

/// Where state is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kept {
    Folder,
    /// By the account's key.
    Azurite,
    /// By the app's own identity, as a deployment does it.
    Identity,
}

/// One deployment and its clouds.
pub(crate) struct Stage {
    pub(crate) clouds: Clouds,
    /// Before Azurite, when state is kept there.
    pub(crate) gate: Option<Gate>,
    pub(crate) folder: PathBuf,
    pub(crate) settings: BTreeMap<String, String>,
    /// Alerts there are, as `ExportKey` and time.
    pub(crate) alerts: BTreeMap<String, Timestamp>,
}

/// What `run --once --json` printed and ended with.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) heartbeat: Value,
    pub(crate) code: Option<i32>,
}

/// Waits for `done`, within [`BOUND`].
pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let look = async {
        while !done() {
            pause(Duration::from_millis(5)).await;
        }
    };
    within(what, look).await;
}

/// `event`'s outcome, within [`BOUND`].
pub(crate) async fn within<T>(what: &str, event: impl Future<Output = T>) -> T {
    timeout(BOUND, event).await.unwrap_or_else(|_elapsed| panic!("never happened: {what}"))
}

impl Stage {
    /// `None` where Azurite's absence is accepted. The clouds' clock stands at
    /// the machine's, so that no poll of the sign-in need be waited for.
    pub(crate) async fn set(kept: Kept) -> Option<Self> {
        Self::set_before(kept, Duration::ZERO).await
    }

    /// With a clock that stands `ago` behind.
    pub(crate) async fn set_before(kept: Kept, ago: Duration) -> Option<Self> {
        let gate = match kept {
            Kept::Folder | Kept::Identity => None,
            Kept::Azurite => {
                Some(Gate::before(&azurite("AZURITE_TABLE")?, &azurite("AZURITE_BLOB")?).await)
            }
        };
        let start = Clock::System.now() - Duration::from_secs(10) - ago;
        let clouds = Clouds::start(Clock::stopped_at(start)).await.unwrap();
        clouds.defender.behave(|manners| manners.quotas = false);
        let mut settings: BTreeMap<_, _> = clouds.settings().into_iter().collect();
        let mut set = |name: &str, value: String| settings.insert(name.to_owned(), value);
        set("FunctionConfigInitialLookbackHours", "1".to_owned());
        set("FunctionConfigPageSize", "50".to_owned());
        set("FunctionConfigCallsPerHour", "1500".to_owned());
        set("HOSTNAME", "here".to_owned());
        if let Some(gate) = &gate {
            let (account, key) = (store::ACCOUNT, store::KEY);
            let (tables, blobs) = (&gate.tables, &gate.blobs);
            set(
                "AzureWebJobsStorage",
                format!(
                    "AccountName={account};AccountKey={key};TableEndpoint={tables};BlobEndpoint={blobs};"
                ),
            );
        }
        if kept == Kept::Identity {
            let (tables, blobs) = (azurite("AZURITE_TLS_TABLE")?, azurite("AZURITE_TLS_BLOB")?);
            set("AzureWebJobsStorage__tableServiceUri", tables.to_string());
            set("AzureWebJobsStorage__blobServiceUri", blobs.to_string());
            // Whom this process trusts, the program under test must too.
            set("SSL_CERT_FILE", Vars::Process.get("SSL_CERT_FILE")?);
        }
        if kept != Kept::Folder {
            // As under the Functions host: one process an instance.
            set("WEBSITE_INSTANCE_ID", "here".to_owned());
            set("FunctionConfigStorageTable", format!("t{}", Uuid::new_v4().simple()));
            set("FunctionConfigStorageContainer", format!("c{}", Uuid::new_v4().simple()));
        }
        Some(Self { clouds, gate, folder: store::folder(), settings, alerts: BTreeMap::new() })
    }

    /// The same program's parts, on the clouds' clock. While it lives no
    /// process can use the folder.
    pub(crate) fn app(&self) -> App {
        let config = Config::load(&Vars::map(self.settings.clone())).unwrap();
        App::build(config, self.clouds.clock.clone(), network(), Some(&self.folder)).unwrap()
    }

    /// Signs in as a person would.
    pub(crate) async fn sign_in(&self) {
        let app = self.app();
        let code = app.identity.start("a test").await.unwrap();
        assert!(self.clouds.entra.approve(ACCOUNT, ACCOUNT_ID));
        let clock = &self.clouds.clock;
        clock.advance(code.next_poll_at.since(clock.now()));
        assert!(matches!(app.identity.poll().await.unwrap(), Standing::SignedIn(_)));
    }

    /// `count` alerts with rows of some 45 KB, one every ten seconds up to
    /// `ago`; the numbers go on from those there are.
    pub(crate) fn alerts(&mut self, count: u64, ago: Duration) {
        let first = self.alerts.len() as u64;
        let latest = Stage::whole_second() - ago;
        for number in 0..count {
            let at = latest - Duration::from_secs(10) * u32::try_from(number).unwrap();
            self.alert(Sample {
                evidence: EVIDENCE,
                ..sample::alert(first + number + 1, GROUP, at)
            });
        }
    }

    pub(crate) fn alert(&mut self, sample: Sample) {
        self.alerts.insert(key(&sample), sample.updated);
        self.clouds.defender.add([sample]);
    }

    /// The machine's time, cut to a second as it is in keys.
    pub(crate) fn whole_second() -> Timestamp {
        Timestamp::from_unix_seconds(Clock::System.now().unix_seconds())
    }

    /// The program with `verb`, its settings and nothing else.
    pub(crate) fn command(&self, verb: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_defender-alert-export"));
        command
            .args(verb)
            .env_clear()
            .envs(&self.settings)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// One run, started.
    pub(crate) fn start(&self) -> Child {
        let folder = self.folder.to_str().unwrap();
        self.command(&["run", "--once", "--json", "--state-dir", folder]).spawn().unwrap()
    }

    /// One run, to its end.
    pub(crate) async fn run(&self) -> Done {
        let output = within("the end of a run", self.start().wait_with_output()).await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let heartbeat = serde_json::from_str(text.trim()).unwrap_or_else(|error| {
            panic!("{error}: {text:?} {:?}", String::from_utf8_lossy(&output.stderr))
        });
        Done { heartbeat, code: output.status.code() }
    }

    /// One run that must end well; what it delivered.
    pub(crate) async fn run_well(&self) -> u64 {
        let Done { heartbeat, code } = self.run().await;
        assert_eq!((heartbeat["Status"].as_str(), code), (Some("Ok"), Some(0)), "{heartbeat}");
        self.position_is_not_ahead().await;
        heartbeat["Delivered"].as_u64().unwrap()
    }

    /// How often each row is in the workspace.
    pub(crate) fn rows(&self) -> BTreeMap<String, usize> {
        let mut rows = BTreeMap::new();
        for row in self.clouds.monitor.tables.rows(TABLE) {
            *rows.entry(row["ExportKey"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        rows
    }

    /// The rows that are there, by name.
    pub(crate) fn delivered(&self) -> BTreeSet<String> {
        self.rows().into_keys().collect()
    }

    pub(crate) fn heartbeats(&self) -> Vec<Value> {
        self.clouds.monitor.tables.rows("Heartbeat_CL")
    }

    /// Everything before the saved position is in the workspace or set aside.
    pub(crate) async fn position_is_not_ahead(&self) {
        let app = self.app();
        let Some(checkpoint) = app.state.checkpoint().await.unwrap() else { return };
        let position = checkpoint.progress.position();
        let rows = self.rows();
        let missing =
            self.alerts.iter().filter(|(key, at)| **at < position && !rows.contains_key(*key));
        let set_aside = app.blobs.list("quarantine/").await.unwrap().len();
        assert!(missing.count() <= set_aside, "the position {position} is ahead of delivery");
    }
}

/// `ExportKey`.
pub(crate) fn key(sample: &Sample) -> String {
    format!("{}|{}", sample.id(), sample.updated)
}
