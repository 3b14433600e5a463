//! The composition root: settings -> clients -> exporter. The only module that
//! names every adapter.

mod doctor;
mod faulty;
mod portal;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;

use crate::azure::credential::Credential;
use crate::azure::storage::Access;
use crate::clock::Clock;
use crate::config::{Config, SessionStoreKind, SourceConfig, SourceKind};
use crate::domain::ledger::Memory;
use crate::durable::{Cell, Durable, Patience, Sidecar};
use crate::host::{self, Runs};
use crate::http::retry::RetryPolicy;
use crate::http::{Http, NoClient};
use crate::identity::{DEFENDER_AUDIENCE, GRAPH_AUDIENCE, Identity, IdentityError, Place};
use crate::pipeline::{Exporter, Rules};
use crate::portal::{FormKey, Portal};
use crate::sink::{NoSink, Sink};
use crate::source::{Defender, Graph, Source};
use crate::store::state::State;
use crate::store::{BlobError, Blobs, Store, StoreError};

pub use self::doctor::patient;
pub use self::faulty::Faulty;
pub use self::portal::FaultyPortal;

/// Everything, put together.
#[derive(Clone, Debug)]
pub struct App {
    /// Time.
    pub clock: Clock,
    /// The sign-in.
    pub identity: Identity,
    /// Position, ledger, unsent heartbeats.
    pub state: State,
    /// Logs, quarantine, whole alerts.
    pub blobs: Blobs,
    /// What the durable functions need to know.
    pub durable: Durable,
    /// The export.
    pub exporter: Arc<Exporter>,
    /// Proves that a form came from this app's page.
    pub form_key: FormKey,
}

/// Why the parts could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// No HTTP client.
    #[error("nothing can be reached")]
    Http(#[from] NoClient),
    /// No state.
    #[error("the state cannot be used")]
    State(#[from] StoreError),
    /// No container.
    #[error("the container cannot be used")]
    Blobs(#[from] BlobError),
    /// No alert can be sent.
    #[error("alerts cannot be sent")]
    Sink(#[from] NoSink),
    /// No sign-in can be kept.
    #[error("the sign-in cannot be kept")]
    Identity(#[from] IdentityError),
    /// The Functions host gives the storage account.
    #[error("AzureWebJobsStorage is not set; under the Functions host it must be")]
    NoStorage,
}

/// Every address of this program: the Functions host's and the page's.
pub fn router(runs: Runs, portal: Portal, durable: Durable) -> Router {
    host::router(runs, durable).merge(host::in_invocations(portal.router()))
}

impl App {
    /// Puts the parts together. `http` carries every request but those for
    /// blobs of a storage account, which its client makes itself; `state_dir`
    /// holds the state where no storage account is configured.
    ///
    /// # Errors
    ///
    /// [`AppError`]; nothing was sent anywhere.
    pub fn build(
        config: Config,
        clock: Clock,
        http: Http,
        state_dir: Option<&Path>,
    ) -> Result<Self, AppError> {
        let credential =
            Credential::new(http.clone(), clock.clone(), config.host.managed_identity.clone());
        let access =
            Access { http: http.clone(), clock: clock.clone(), credential: credential.clone() };
        let dir = match (&config.storage.account, state_dir) {
            (_, Some(dir)) => dir,
            (Some(_), None) => Path::new(""),
            (None, None) => return Err(AppError::NoStorage),
        };
        let store = Store::open(&config.storage, &access, dir)?;
        let blobs = Blobs::open(&config.storage, &access, dir)?;
        let (source, audience) = source(&config.source, &http, &clock);
        let durable = durable(&config, &clock, http.retry, state_dir);
        let place = place(&config, &durable, &store);
        let identity =
            Identity::new(http.clone(), clock.clone(), &config.identity, audience, place)?;
        let form_key = FormKey::derive(&config.identity.session_key);
        let memory = if config.export_updates {
            let reach = config.windows.reach();
            let audited = config.audit.map_or(Duration::ZERO, |audit| audit.memory());
            Memory::Versions { reach, kept: reach + audited }
        } else {
            Memory::Alerts
        };
        let sink = |target| Sink::alerts(target, http.clone(), clock.clone(), credential.clone());
        let dates = http.dates.clone();
        let sinks = config.targets.iter().map(sink).collect::<Result<_, _>>()?;
        let state = State::new(store, memory, config.source.calls_per_hour);
        let exporter = Exporter {
            clock: clock.clone(),
            identity: identity.clone(),
            source,
            heartbeats: config
                .heartbeats
                .map(|target| Sink::heartbeats(&target, http, clock.clone(), credential)),
            state: state.clone(),
            blobs: blobs.clone(),
            dates,
            rules: Rules {
                windows: config.windows,
                scope: config.scope,
                on_foreign: config.on_foreign,
                memory,
                page_size: config.source.page_size,
                own_slots: config.own_slots,
                prompt: config.identity.prompt,
                trust: config.trust_name,
                instance: config.host.instance,
                settings: config.digest,
                audit: config.audit,
            },
            sinks,
        };
        Ok(Self { clock, identity, state, blobs, durable, exporter: Arc::new(exporter), form_key })
    }
}

/// Where alerts come from, and what its tokens are made for.
fn source(config: &SourceConfig, http: &Http, clock: &Clock) -> (Source, &'static str) {
    let (http, clock) = (http.clone(), clock.clone());
    match config.kind {
        SourceKind::Defender => (
            Source::Defender(Defender::new(http, clock, config.defender.clone())),
            DEFENDER_AUDIENCE,
        ),
        SourceKind::Graph => {
            (Source::Graph(Graph::new(http, clock, config.graph.clone())), GRAPH_AUDIENCE)
        }
    }
}

/// Only under the Functions host is there no folder for state, and only there
/// is there an extension to reach.
fn durable(
    config: &Config,
    clock: &Clock,
    retry: RetryPolicy,
    state_dir: Option<&Path>,
) -> Durable {
    let sidecar = match state_dir {
        None => Sidecar::in_host(retry),
        Some(_) => Sidecar::outside_host(),
    };
    Durable { sidecar, key: Some(config.identity.client), clock: clock.clone() }
}

fn place(config: &Config, durable: &Durable, store: &Store) -> Place {
    match config.identity.session_store {
        SessionStoreKind::Table => store.clone().into(),
        SessionStoreKind::Entity => {
            Cell::new(durable.sidecar.clone(), config.identity.client, Patience::RUN).into()
        }
    }
}
