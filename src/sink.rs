//! Where rows go.
//!
//! Each sink takes a JSON array by `POST` and either takes all of it or none.
//! [`Sink::post`] is one attempt; [`Sink::send`] tries again where that can
//! help; [`Sink::deliver`] also takes a refused batch apart until every row is
//! accepted or singled out. Sending twice is harmless everywhere: a repeated
//! row carries the same `ExportKey`, and readers keep one row a key.

pub mod advice;
pub mod answer;
pub mod data_collector;
pub mod delivery;
pub mod event_hub;
mod heartbeat;
pub mod logs_ingestion;
pub mod quarantine;

use std::time::Duration;

use bytes::Bytes;

use self::advice::Place;
use self::answer::PostError;
use self::data_collector::DataCollector;
use self::delivery::{Delivered, Delivery, SinkFailed, Standing};
use self::event_hub::EventHub;
use self::logs_ingestion::LogsIngestion;
use crate::azure::credential::Credential;
use crate::clock::Clock;
use crate::config::{HeartbeatTarget, Target};
use crate::domain::advice::Advice;
use crate::domain::batch::{Batch, BatchLimits};
use crate::domain::shape::Shape;
use crate::domain::timestamp::Timestamp;
use crate::http::Http;
use crate::http::retry::GaveUp;

/// `Log-Type` of heartbeats, and their stream without `Custom-`.
const HEARTBEAT: &str = "Heartbeat";

/// A destination. Clones share connections and tokens.
#[derive(Clone, Debug)]
pub enum Sink {
    /// A stream of a data collection rule.
    LogsIngestion(LogsIngestion),
    /// A `Log-Type` of a workspace.
    DataCollector(DataCollector),
    /// An event hub.
    EventHub(EventHub),
}

/// A body that was not taken. Some services may have stored it all the same.
#[derive(Debug, thiserror::Error)]
#[error("delivery failed")]
pub struct Unsent {
    /// Why, after how many attempts.
    #[source]
    pub error: GaveUp<PostError>,
    /// The same for a person.
    pub advice: Advice,
}

/// What sending has cost so far.
#[derive(Clone, Copy, Debug, Default)]
struct Effort {
    requests: u64,
    /// Whether a refused token was replaced; done once.
    refreshed: bool,
}

impl Sink {
    /// Where alerts go.
    pub fn alerts(target: &Target, http: Http, clock: Clock, credential: Credential) -> Self {
        match target {
            Target::LogsIngestion(rule) => {
                let stream = format!("Custom-{}", rule.table);
                let sink = LogsIngestion::new(rule, &stream, http, clock, credential);
                Self::LogsIngestion(sink)
            }
            Target::DataCollector(workspace) => {
                let table = &workspace.table;
                Self::DataCollector(DataCollector::new(workspace, table, http, clock))
            }
            Target::EventHub(hub) => Self::EventHub(EventHub::new(hub, http, clock, credential)),
        }
    }

    /// The form its rows take.
    pub fn shape(&self) -> Shape {
        match self {
            Self::LogsIngestion(_) => Shape::Columns,
            Self::DataCollector(_) => Shape::Classic,
            Self::EventHub(_) => Shape::Event,
        }
    }

    /// Where heartbeats go: stream `Custom-Heartbeat`, or `Log-Type`
    /// `Heartbeat` (table `Heartbeat_CL`, not the agents' own `Heartbeat`).
    pub fn heartbeats(
        target: &HeartbeatTarget,
        http: Http,
        clock: Clock,
        credential: Credential,
    ) -> Self {
        match target {
            HeartbeatTarget::LogsIngestion(rule) => {
                let stream = format!("Custom-{HEARTBEAT}");
                let sink = LogsIngestion::new(rule, &stream, http, clock, credential);
                Self::LogsIngestion(sink)
            }
            HeartbeatTarget::DataCollector(workspace) => {
                Self::DataCollector(DataCollector::new(workspace, HEARTBEAT, http, clock))
            }
        }
    }

    /// What one request may carry.
    pub fn limits(&self) -> BatchLimits {
        match self {
            Self::LogsIngestion(_) => logs_ingestion::LIMITS,
            Self::DataCollector(_) => data_collector::LIMITS,
            Self::EventHub(_) => event_hub::LIMITS,
        }
    }

    /// The value of `FunctionConfigAlertTargetType` that leads here.
    pub fn name(&self) -> &'static str {
        match self {
            Self::LogsIngestion(_) => "LogsIngestion",
            Self::DataCollector(_) => "LogAnalytics",
            Self::EventHub(_) => "EventHub",
        }
    }

    /// Posts a JSON array, once.
    ///
    /// # Errors
    ///
    /// [`PostError`]; after [`PostError::NoAnswer`] the rows may be stored.
    pub async fn post(&self, body: Bytes) -> Result<(), PostError> {
        self.post_encoded(self.encode(&body)?).await
    }

    /// Posts a JSON array, again where that can help. For heartbeats and for a
    /// first test with `[]`.
    ///
    /// # Errors
    ///
    /// [`Unsent`] with words for a person.
    pub async fn send(&self, body: Bytes, deployed_at: Timestamp) -> Result<(), Unsent> {
        let sent = self.send_counted(&body, &mut Effort::default()).await;
        sent.map_err(|error| Unsent { advice: self.advise(&error.last, deployed_at), error })
    }

    /// Delivers every row of `batch`, except those the sink refuses by
    /// themselves, which are handed back.
    ///
    /// # Errors
    ///
    /// [`SinkFailed`] when the rest cannot be delivered now. It says which rows
    /// were; the others are to be sent again by a later run.
    pub async fn deliver(&self, batch: Batch, standing: Standing) -> Result<Delivered, SinkFailed> {
        Delivery::new(self, batch, standing).run().await
    }

    /// As [`Self::post`], tried again as the policy says, and once with a fresh
    /// token if the service refuses the one at hand.
    async fn send_counted(
        &self,
        body: &Bytes,
        effort: &mut Effort,
    ) -> Result<(), GaveUp<PostError>> {
        let body = self.encode(body).map_err(|last| GaveUp {
            attempts: 0,
            elapsed: Duration::ZERO,
            last,
        })?;
        loop {
            let requests = &mut effort.requests;
            let sent = self.retry(|| {
                *requests += 1;
                self.post_encoded(body.clone())
            });
            match sent.await {
                // A 401 stored nothing, and only one fresh token is tried.
                Err(gave_up)
                    if gave_up.last.status() == Some(401)
                        && !effort.refreshed
                        && self.forget_token() =>
                {
                    effort.refreshed = true;
                }
                outcome => return outcome,
            }
        }
    }

    async fn retry<F>(&self, operation: impl FnMut() -> F) -> Result<(), GaveUp<PostError>>
    where
        F: Future<Output = Result<(), PostError>>,
    {
        let (Self::LogsIngestion(LogsIngestion { http, .. })
        | Self::DataCollector(DataCollector { http, .. })
        | Self::EventHub(EventHub { http, .. })) = self;
        http.retry.run(operation).await
    }

    fn encode(&self, body: &Bytes) -> Result<Bytes, PostError> {
        match self {
            Self::LogsIngestion(_) => logs_ingestion::gzip(body).map_err(PostError::NotCompressed),
            Self::DataCollector(_) | Self::EventHub(_) => Ok(body.clone()),
        }
    }

    async fn post_encoded(&self, body: Bytes) -> Result<(), PostError> {
        match self {
            Self::LogsIngestion(sink) => sink.post(body).await,
            Self::DataCollector(sink) => sink.post(body).await,
            Self::EventHub(sink) => sink.post(body).await,
        }
    }

    /// Forgets the token that was refused; `false` if there is none to forget.
    fn forget_token(&self) -> bool {
        match self {
            Self::LogsIngestion(sink) => {
                sink.forget_token();
                true
            }
            Self::DataCollector(_) => false,
            Self::EventHub(sink) => sink.forget_token(),
        }
    }

    fn place(&self) -> Place {
        match self {
            Self::LogsIngestion(_) => Place::LogsIngestion,
            Self::DataCollector(_) => Place::DataCollector,
            Self::EventHub(hub) if hub.signs_with_policy() => Place::EventHubByPolicy,
            Self::EventHub(_) => Place::EventHubByIdentity,
        }
    }

    fn advise(&self, error: &PostError, deployed_at: Timestamp) -> Advice {
        advice::advise(self.place(), error, self.clock().now().since(deployed_at))
    }

    fn clock(&self) -> &Clock {
        let (Self::LogsIngestion(LogsIngestion { clock, .. })
        | Self::DataCollector(DataCollector { clock, .. })
        | Self::EventHub(EventHub { clock, .. })) = self;
        clock
    }
}
