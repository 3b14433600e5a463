//! What the doctor examines, put together as far as the settings allow.

use std::path::Path;
use std::time::Duration;

use crate::azure::credential::Credential;
use crate::azure::storage::Access;
use crate::clock::Clock;
use crate::config::{Parts, SessionStoreKind, SourceConfig, SourceKind, Vars};
use crate::doctor::{Kept, Outlets, Patient, Reads};
use crate::domain::region::{EVERYWHERE, is_regional};
use crate::durable::{Cell, Patience, Sidecar};
use crate::http::Http;
use crate::identity::{DEFENDER_AUDIENCE, GRAPH_AUDIENCE, Identity, Place};
use crate::sink::Sink;
use crate::source::{Defender, Source};
use crate::store::{Blobs, Store};

/// The whole deployment, or what of it can be put together. `state_dir` holds
/// the state where no storage account is configured. Nothing is sent yet.
pub fn patient(
    vars: &Vars,
    clock: Clock,
    http: Http,
    state_dir: &Path,
    patience: Duration,
) -> Patient {
    let parts = Parts::load(vars);
    let credential =
        Credential::new(http.clone(), clock.clone(), parts.host.managed_identity.clone());
    let access =
        Access { http: http.clone(), clock: clock.clone(), credential: credential.clone() };
    let kept = parts.storage.as_ref().map(|storage| Kept {
        store: Store::open(storage, &access, state_dir),
        blobs: Blobs::open(storage, &access, state_dir),
    });
    let sink = |target| Sink::alerts(target, http.clone(), clock.clone(), credential.clone());
    let (alerts, unusable): (Vec<_>, Vec<_>) =
        parts.targets.iter().map(sink).partition(Result::is_ok);
    let outlets = Outlets {
        alerts: alerts.into_iter().filter_map(Result::ok).collect(),
        unusable: unusable.into_iter().filter_map(Result::err).collect(),
        heartbeats: parts.heartbeats.as_ref().map(|target| {
            Sink::heartbeats(target, http.clone(), clock.clone(), credential.clone())
        }),
    };
    Patient {
        patience,
        identity: identity(&parts, kept.as_ref(), &http, &clock),
        reads: parts.source.as_ref().map_or_else(Reads::default, |it| reads(it, &http, &clock)),
        parts,
        kept,
        outlets,
        credential,
        clock,
        http,
    }
}

fn identity(parts: &Parts, kept: Option<&Kept>, http: &Http, clock: &Clock) -> Option<Identity> {
    let config = parts.identity.as_ref()?;
    let place: Place = match config.session_store {
        SessionStoreKind::Table => kept?.store.as_ref().ok()?.clone().into(),
        SessionStoreKind::Entity => {
            Cell::new(Sidecar::outside_host(), config.client, Patience::RUN).into()
        }
    };
    // A key that is none is a fault of the settings already.
    let audience = match parts.source.as_ref().map(|source| source.kind) {
        Some(SourceKind::Graph) => GRAPH_AUDIENCE,
        Some(SourceKind::Defender) | None => DEFENDER_AUDIENCE,
    };
    Identity::new(http.clone(), clock.clone(), config, audience, place).ok()
}

fn reads(config: &SourceConfig, http: &Http, clock: &Clock) -> Reads {
    let regional = config.defender.host_str().is_some_and(is_regional);
    let everywhere = (config.kind == SourceKind::Defender && regional)
        .then(|| format!("https://{EVERYWHERE}/").parse().ok())
        .flatten()
        .map(|base| Source::Defender(Defender::new(http.clone(), clock.clone(), base)));
    Reads { source: Some(super::source(config, http, clock).0), everywhere }
}
