//! What is wrong, before anybody has to notice: every part asked once, each
//! with a line of its own.
//!
//! The same checks run on a laptop before the deployment, in the app after it,
//! and in part with every run. Nothing is changed by them: what is written is
//! removed again, the stored sign-in is only renewed as a run would renew it,
//! and a code that is asked for is shown to nobody. None stops another; what
//! hangs on a check that failed says so.

mod alerts;
mod application;
mod clock;
mod columns;
mod settings;
mod sign_in;
mod storage;
mod targets;

use std::time::Duration;

use tokio::time::timeout;

use crate::azure::credential::Credential;
use crate::clock::Clock;
use crate::config::{Parts, StorageAuth};
use crate::domain::check::{Check, Section, Verdict};
use crate::domain::checkpoint::Checkpoint;
use crate::domain::judge;
use crate::domain::ledger::Memory;
use crate::http::Http;
use crate::identity::Identity;
use crate::sink::{NoSink, Sink};
use crate::source::Source;
use crate::store::state::State;
use crate::store::{BlobError, Blobs, Store, StoreError};

pub use self::columns::AUDIENCE as MANAGEMENT_AUDIENCE;

/// No single question is waited for longer.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What is examined, as far as the settings allow.
#[derive(Debug)]
pub struct Patient {
    /// Time.
    pub clock: Clock,
    /// Shared client, and how often to try.
    pub http: Http,
    /// The longest wait for one question.
    pub patience: Duration,
    /// The settings.
    pub parts: Parts,
    /// Table and container; absent when their settings are wrong.
    pub kept: Option<Kept>,
    /// The sign-in; absent when its settings are wrong, or the state's.
    pub identity: Option<Identity>,
    /// Where alerts come from.
    pub reads: Reads,
    /// Where rows go.
    pub outlets: Outlets,
    /// The app's own identity.
    pub credential: Credential,
}

/// Where state is kept.
#[derive(Debug)]
pub struct Kept {
    /// Rows.
    pub store: Result<Store, StoreError>,
    /// Blobs.
    pub blobs: Result<Blobs, BlobError>,
}

/// Where alerts come from.
#[derive(Debug, Default)]
pub struct Reads {
    /// As configured; absent when its settings are wrong.
    pub source: Option<Source>,
    /// The address for every region, where a region's own is configured.
    pub everywhere: Option<Source>,
}

/// Where rows go: those targets whose settings are in order.
#[derive(Debug)]
pub struct Outlets {
    /// Alerts.
    pub alerts: Vec<Sink>,
    /// Targets that cannot be used as they are configured.
    pub unusable: Vec<NoSink>,
    /// Heartbeats.
    pub heartbeats: Option<Sink>,
}

/// Examines everything, and says so in a fixed order.
pub async fn examine(patient: &Patient) -> Vec<Check> {
    let past = patient.within(patient.checkpoint(), || None).await;
    let ((), person, storage, targets) = tokio::join!(
        Box::pin(clock::ask(patient)),
        Box::pin(person(patient, past.is_some())),
        Box::pin(storage::checks(patient)),
        Box::pin(targets::checks(patient, past.as_ref())),
    );
    let clock = clock::check(patient);
    let platform = &patient.parts.platform;
    let program = judge::program(
        env!("CARGO_PKG_VERSION"),
        platform.extension.as_deref(),
        platform.worker.as_deref(),
    );
    [settings::checks(&patient.parts), vec![clock], person, storage, targets, vec![program]]
        .concat()
}

/// Everything that is done in the name of the person who signed in.
async fn person(patient: &Patient, was_used: bool) -> Vec<Check> {
    let Some(identity) = &patient.identity else {
        let because = match &patient.kept {
            Some(Kept { store: Err(_), .. }) => "the state storage cannot be used",
            Some(_) | None => "settings are wrong",
        };
        return [
            ("tenant", Section::Application),
            ("application", Section::Application),
            ("sign-in", Section::SignIn),
            ("session-key", Section::SignIn),
            ("alerts", Section::Alerts),
            ("groups", Section::Groups),
            ("region", Section::Alerts),
            ("graph", Section::Graph),
        ]
        .map(|(name, section)| Check::not_checked(name, section, because))
        .to_vec();
    };
    let tenant = application::tenant(patient, identity).await;
    let signed_in = sign_in::check(patient, identity, was_used).await;
    let application = application::application(patient, identity, &signed_in).await;
    let read = alerts::checks(patient, identity, &signed_in).await;
    let graph = application::graph(patient, identity).await;
    let mut checks = vec![tenant, application];
    checks.extend(signed_in.checks);
    checks.extend(read);
    checks.push(graph);
    checks
}

impl Patient {
    /// What `question` leads to, or what it means that nothing came in time.
    async fn within<T>(&self, question: impl Future<Output = T>, late: impl FnOnce() -> T) -> T {
        timeout(self.patience, question).await.unwrap_or_else(|_elapsed| late())
    }

    /// A line, within the time there is.
    async fn line(
        &self,
        name: &'static str,
        section: Section,
        check: impl Future<Output = Check>,
    ) -> Check {
        self.within(check, || late(name, section, self.patience)).await
    }

    /// Whether what is tried in the app's name is tried with a person's rights.
    fn has_a_persons_rights(&self) -> bool {
        self.parts.host.managed_identity.is_none()
    }

    /// The same for the storage account.
    fn uses_storage_as_a_person(&self) -> bool {
        let account = self.parts.storage.as_ref().and_then(|storage| storage.account.as_ref());
        self.has_a_persons_rights()
            && account.is_some_and(|account| matches!(account.auth, StorageAuth::Identity))
    }

    fn state(&self) -> Option<State> {
        let store = self.kept.as_ref()?.store.as_ref().ok()?;
        // Neither is used for reading.
        Some(State::new(store.clone(), Memory::Alerts, 1))
    }

    /// What the last run saved; `None` if there was none, or it cannot be read.
    async fn checkpoint(&self) -> Option<Checkpoint> {
        self.state()?.checkpoint().await.ok().flatten()
    }
}

/// A person was refused what the app may do all the same.
fn may_not_look(name: &'static str, section: Section, what: &str, status: u16) -> Check {
    Check::new(
        name,
        section,
        Verdict::Warn,
        format!(
            "{what}: you may not look ({status}). It was tried with the rights of whoever is signed in with az or azd; this says nothing of the app's own."
        ),
        "Nothing, if the app runs: its portal and its heartbeats say whether it may. Only to try it from here too, ask an Owner of the resource group to give your own account the role that the app has there.",
    )
}

fn late(name: &'static str, section: Section, patience: Duration) -> Check {
    Check::new(
        name,
        section,
        Verdict::Fail,
        format!("No answer within {} s.", patience.as_secs()),
        "Ask the network team whether a firewall or proxy stands between this machine and that address.",
    )
}
