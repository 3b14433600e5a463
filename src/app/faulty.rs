//! A deployment that cannot run, and says so with every timer run.

use bytes::Bytes;
use tracing::{error, warn};
use uuid::Uuid;

use crate::azure::credential::Credential;
use crate::clock::Clock;
use crate::config::{Reporting, Vars};
use crate::domain::heartbeat::{Counts, Heartbeat, RowType, Status};
use crate::error_chain::Chain;
use crate::http::retry::RetryPolicy;
use crate::http::{self, Http};
use crate::pipeline::Ended;
use crate::sink::Sink;

/// Sends a `ConfigInvalid` heartbeat if at least its target is in order.
#[derive(Clone, Debug)]
pub struct Faulty {
    clock: Clock,
    heartbeats: Option<Sink>,
    trust: String,
    instance: String,
    faults: String,
}

impl Faulty {
    /// `faults` says what is wrong, by name and without values.
    pub fn new(vars: &Vars, faults: &str) -> Self {
        let Reporting { heartbeats, trust_name, host } = Reporting::load(vars);
        let clock = Clock::System;
        error!(faults, "the settings must be corrected before anything can be exported");
        let client =
            http::client().inspect_err(|error| error!(error = %Chain(error), "no HTTP client"));
        let heartbeats = heartbeats.zip(client.ok()).map(|(target, client)| {
            let http = Http::new(client, RetryPolicy::RUN);
            let credential =
                Credential::new(http.clone(), clock.clone(), host.managed_identity.clone());
            Sink::heartbeats(&target, http, clock.clone(), credential)
        });
        Self {
            clock,
            heartbeats,
            trust: trust_name,
            instance: host.instance,
            faults: faults.to_owned(),
        }
    }

    /// A timer run: nothing but the heartbeat.
    pub async fn run(&self, run: Uuid) -> Ended {
        let now = self.clock.now();
        let heartbeat = Heartbeat {
            run_id: run.to_string(),
            trust_name: self.trust.clone(),
            status: Status::ConfigInvalid,
            message: format!("Nothing is exported. {}.", self.faults),
            next_step: "Correct these settings of the Function App; the README lists each with its form. Nothing is lost meanwhile: the export goes on from where it stopped.".to_owned(),
            counts: Counts::default(),
            window_start: None,
            window_end: None,
            lag_seconds: None,
            duration_ms: 0,
            signed_in_as: None,
            sign_in_idle_days: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance_id: self.instance.clone(),
            record_number: None,
            record_hash: None,
            row_type: RowType::Heartbeat,
        };
        if let Some(sink) = &self.heartbeats {
            let sent = match sink.heartbeat_row(&heartbeat, now) {
                Ok(row) => sink
                    .send(Bytes::from(format!("[{row}]")), now)
                    .await
                    .map_err(|error| Chain(&error).to_string()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = sent {
                warn!(error, "the heartbeat was not taken");
            }
        }
        Ended::Reported(Box::new(heartbeat), None)
    }
}
