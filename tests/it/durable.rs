//! The sign-in in Durable Functions: turns are taken as the extension gives
//! them out, and nothing is lost when they fail, repeat, or the program dies.

mod foreign;
mod functions;
mod golden;
mod hub;
mod kept;
mod timer;
mod turns;

use std::num::NonZeroU32;
use std::time::Duration;

use defender_alert_export::clock::Clock;
use defender_alert_export::domain::heartbeat::Status;
use defender_alert_export::durable::{Cell, Durable, Kept, Patience, Sidecar};
use defender_alert_export::http::retry::RetryPolicy;
use tokio::task::JoinHandle;
use uuid::Uuid;

use self::hub::Hub;
use crate::handler::{Handler, runs_ending};

/// The app registration of [`crate::sign_in::World`].
const KEY: Uuid = Uuid::from_u128(0xbbbb);
const ENTITY: &str = "@entity_state@00000000-0000-0000-0000-00000000bbbb";
const WRITER: &str = "entity_state-00000000-0000-0000-0000-00000000bbbb";

fn retry() -> RetryPolicy {
    RetryPolicy {
        attempts: NonZeroU32::new(2).unwrap(),
        base: Duration::from_millis(1),
        cap: Duration::from_millis(1),
        budget: Duration::from_secs(5),
        jitter: false,
    }
}

/// A sidecar that was told the address of the hub.
fn told(url: &str) -> Sidecar {
    let sidecar = Sidecar::in_host(retry());
    sidecar.tell(url).unwrap();
    sidecar
}

fn cell(url: &str, confirm: Duration) -> Cell {
    Cell::new(told(url), KEY, Patience { confirm, look: Duration::from_millis(2) })
}

fn kept(version: &str, replaces: Option<&str>) -> Kept {
    Kept {
        version: version.to_owned(),
        replaces: replaces.map(str::to_owned),
        sealed: "c2VhbGVk".to_owned(),
        updated: "2026-11-21T10:00:00Z".to_owned(),
        expires: None,
    }
}

/// The hub, and the handler that takes its turns. All stops with it.
struct Extension {
    hub: Hub,
    url: String,
    tasks: Vec<JoinHandle<()>>,
}

impl Extension {
    async fn start() -> Self {
        let hub = Hub::default();
        let (url, server) = hub.listen().await;
        let durable = Durable { sidecar: told(&url), key: Some(KEY), clock: Clock::System };
        let handler = Handler::with(runs_ending(Status::Ok).0, durable).await;
        let work = hub.clone();
        let turns = tokio::spawn(async move {
            functions::drive(&work, &handler.url).await;
            drop(handler);
        });
        Self { hub, url, tasks: vec![server, turns] }
    }
}

impl Drop for Extension {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
