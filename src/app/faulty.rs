//! A deployment that cannot run, and says so with every timer run.

use std::collections::VecDeque;

use bytes::Bytes;
use tokio::sync::Mutex;
use tracing::{error, warn};
use uuid::Uuid;

use crate::azure::credential::Credential;
use crate::clock::Clock;
use crate::config::{Reporting, Vars};
use crate::domain::heartbeat::{Counts, Heartbeat, RowType, Status, Unsent};
use crate::domain::timestamp::Timestamp;
use crate::error_chain::Chain;
use crate::http::retry::RetryPolicy;
use crate::http::{self, Http};
use crate::pipeline::Ended;
use crate::sink::Sink;

/// Heartbeats kept while their target does not take them: four hours of runs.
/// There is no state to keep them in, so a restart ends them.
const KEPT: usize = 48;

/// Sends a `ConfigInvalid` heartbeat if at least its target is in order.
#[derive(Debug)]
pub struct Faulty {
    clock: Clock,
    heartbeats: Option<Sink>,
    /// Rows that wait, oldest first.
    waiting: Mutex<VecDeque<String>>,
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
            waiting: Mutex::default(),
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
        let unsent = match &self.heartbeats {
            Some(sink) => self.send(sink, &heartbeat, now).await,
            None => None,
        };
        Ended::Reported(Box::new(heartbeat), unsent.map(Box::new))
    }

    /// Sends what could not go before, then `heartbeat`. What is not taken waits
    /// for the next run, and is told.
    async fn send(&self, sink: &Sink, heartbeat: &Heartbeat, now: Timestamp) -> Option<Unsent> {
        let mut waiting = self.waiting.lock().await;
        match sink.heartbeat_row(heartbeat, now) {
            Ok(row) => waiting.push_back(row),
            Err(error) => error!(error = %Chain(&error), "the heartbeat could not be written"),
        }
        if waiting.len() > KEPT {
            waiting.pop_front();
        }
        while let Some(row) = waiting.front() {
            if let Err(failed) = sink.send(Bytes::from(format!("[{row}]")), now).await {
                warn!(error = %Chain(&failed), "the heartbeat was not taken; the next run sends it first");
                return Some(Unsent::new(waiting.len(), failed.advice));
            }
            waiting.pop_front();
        }
        None
    }
}
