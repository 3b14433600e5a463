//! What the doctor examines, put together as far as the settings allow.

use std::path::Path;
use std::time::Duration;

use crate::azure::credential::Credential;
use crate::clock::Clock;
use crate::config::{Parts, SessionStoreKind, SourceConfig, SourceKind, Vars};
use crate::doctor::{Kept, Outlets, Patient, Reads};
use crate::domain::region::{EVERYWHERE, is_regional};
use crate::durable::{Cell, Patience, Sidecar};
use crate::http::Http;
use crate::identity::{DEFENDER_AUDIENCE, Identity, Place};
use crate::sink::Sink;
use crate::source::{Defender, Source};
use crate::store::{Access, Blobs, Store};

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
    let outlets = Outlets {
        alerts: parts.targets.iter().map(sink).collect(),
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
    Identity::new(http.clone(), clock.clone(), config, DEFENDER_AUDIENCE, place).ok()
}

fn reads(config: &SourceConfig, http: &Http, clock: &Clock) -> Reads {
    let defender = |base| Source::Defender(Defender::new(http.clone(), clock.clone(), base));
    match config.kind {
        SourceKind::Defender => Reads {
            source: Some(defender(config.defender.clone())),
            everywhere: config
                .defender
                .host_str()
                .filter(|host| is_regional(host))
                .and_then(|_| format!("https://{EVERYWHERE}/").parse().ok())
                .map(defender),
        },
        SourceKind::Graph => Reads::default(),
    }
}
