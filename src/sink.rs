//! Where rows go.
//!
//! Each sink takes a JSON array, as it is or as lines of a file, and either
//! takes all of it or none. [`Sink::send`] tries again where that can help;
//! [`Sink::deliver`] also takes a refused batch apart until every row is
//! accepted or singled out. Sending twice is harmless everywhere: a repeated
//! row carries the same `ExportKey`, and readers keep one row a key.

pub mod advice;
pub mod answer;
pub mod data_collector;
pub mod delivery;
pub mod event_hub;
mod heartbeat;
pub mod logs_ingestion;
mod place;
mod probe;
pub mod quarantine;
mod s3;
mod s3_advice;
mod s3_call;
mod storage_blob;

use std::time::Duration;

use bytes::Bytes;

use self::advice::Place;
use self::answer::PostError;
use self::data_collector::DataCollector;
use self::delivery::{Delivered, Delivery, SinkFailed, Standing};
use self::event_hub::EventHub;
use self::logs_ingestion::LogsIngestion;
use self::s3::{NoBucket, S3};
use self::storage_blob::StorageBlob;
use crate::azure::blobs::NoContainer;
use crate::azure::credential::Credential;
use crate::azure::storage::Access;
use crate::clock::Clock;
use crate::config::{HeartbeatTarget, Target};
use crate::domain::advice::Advice;
use crate::domain::batch::{Batch, BatchLimits};
use crate::domain::ledger::Digest;
use crate::domain::lines;
use crate::domain::shape::Shape;
use crate::domain::timestamp::Timestamp;
use crate::http::Http;
use crate::http::retry::{Attempts, Classify, GaveUp, RetryPolicy, Verdict};

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
    /// Files of a container.
    StorageBlob(StorageBlob),
    /// Files of a bucket.
    S3(S3),
}

/// A destination that cannot be used as it is configured. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum NoSink {
    /// The account's key or address is malformed.
    #[error("the alert container cannot be used")]
    Container(#[from] NoContainer),
    /// The bucket's settings do not go together.
    #[error(transparent)]
    Bucket(#[from] NoBucket),
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

/// What is sent, made ready once however often it is sent.
#[derive(Clone, Debug)]
struct Parcel {
    body: Bytes,
    /// What its rows are of: names an object.
    digest: Digest,
    /// Names a file's hour, also when it is sent again in the next.
    packed_at: Timestamp,
}

/// What sending has cost so far.
#[derive(Debug)]
struct Effort {
    deployed_at: Timestamp,
    requests: u64,
    /// Whether a refused token was replaced; done once.
    refreshed: bool,
    /// Those made while the app's role may not be in force yet.
    early: Option<Attempts>,
}

impl Effort {
    fn new(deployed_at: Timestamp) -> Self {
        Self { deployed_at, requests: 0, refreshed: false, early: None }
    }
}

/// The app is not let in, and may be any moment.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct NotYet(PostError);

impl Classify for NotYet {
    /// Nothing was taken in.
    fn verdict(&self) -> Verdict {
        Verdict::Retry { after: None }
    }
}

impl Sink {
    /// Where alerts go. Nothing is sent.
    ///
    /// # Errors
    ///
    /// [`NoSink`] if a key or an address is malformed.
    pub fn alerts(
        target: &Target,
        http: Http,
        clock: Clock,
        credential: Credential,
    ) -> Result<Self, NoSink> {
        Ok(match target {
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
            Target::StorageBlob(files) => {
                let access = Access { http, clock, credential };
                Self::StorageBlob(StorageBlob::new(files, access)?)
            }
            Target::S3(bucket) => Self::S3(S3::new(bucket, http, clock)?),
        })
    }

    /// The form its rows take.
    pub fn shape(&self) -> Shape {
        match self {
            Self::LogsIngestion(_) => Shape::Columns,
            Self::DataCollector(_) => Shape::Classic,
            Self::EventHub(_) => Shape::Event,
            Self::StorageBlob(_) | Self::S3(_) => Shape::Lines,
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
            Self::StorageBlob(_) => storage_blob::LIMITS,
            Self::S3(_) => s3::LIMITS,
        }
    }

    /// The value of `FunctionConfigAlertTargetType` that leads here.
    pub fn name(&self) -> &'static str {
        match self {
            Self::LogsIngestion(_) => "LogsIngestion",
            Self::DataCollector(_) => "LogAnalytics",
            Self::EventHub(_) => "EventHub",
            Self::StorageBlob(_) => "StorageBlob",
            Self::S3(_) => "S3",
        }
    }

    /// Sends a JSON array, again where that can help. For heartbeats.
    ///
    /// # Errors
    ///
    /// [`Unsent`] with words for a person.
    pub async fn send(&self, body: Bytes, deployed_at: Timestamp) -> Result<(), Unsent> {
        let digest = Digest::of(&String::from_utf8_lossy(&body));
        let sent = self.send_counted(&body, digest, &mut Effort::new(deployed_at)).await;
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

    /// Sends a JSON array as often as the policy says, and once with a fresh
    /// token if the service refuses the one at hand. One who is not let in is
    /// as patient while the deployment is young.
    async fn send_counted(
        &self,
        body: &Bytes,
        digest: Digest,
        effort: &mut Effort,
    ) -> Result<(), GaveUp<PostError>> {
        let body = self.encode(body).map_err(|last| GaveUp {
            attempts: 0,
            elapsed: Duration::ZERO,
            last,
        })?;
        let parcel = Parcel { body, digest, packed_at: self.clock().now() };
        loop {
            match self.send_parcel(&parcel, &mut effort.requests).await {
                // A 401 stored nothing, and only one fresh token is tried.
                Err(gave_up)
                    if gave_up.last.status() == Some(401)
                        && !effort.refreshed
                        && self.forget_token() =>
                {
                    effort.refreshed = true;
                }
                // Of one delivery, not of each part of it: a role that is
                // missing is missing for all of them.
                Err(GaveUp { last, .. }) if self.is_early(&last, effort.deployed_at) => {
                    let early = effort.early.get_or_insert_with(|| self.retry().begin());
                    early.again(NotYet(last)).await.map_err(|gave_up| {
                        let GaveUp { attempts, elapsed, last: NotYet(last) } = gave_up;
                        GaveUp { attempts, elapsed, last }
                    })?;
                }
                outcome => return outcome,
            }
        }
    }

    async fn send_parcel(
        &self,
        parcel: &Parcel,
        requests: &mut u64,
    ) -> Result<(), GaveUp<PostError>> {
        let body = || parcel.body.clone();
        // The last two are pinned apart: else every sink's future were as large.
        match self {
            Self::LogsIngestion(sink) => again(&sink.http, requests, || sink.post(body())).await,
            Self::DataCollector(sink) => again(&sink.http, requests, || sink.post(body())).await,
            Self::EventHub(sink) => again(&sink.http, requests, || sink.post(body())).await,
            Self::S3(sink) => again(&sink.http, requests, || Box::pin(sink.put(parcel))).await,
            Self::StorageBlob(sink) => {
                *requests += 1;
                Box::pin(sink.append(parcel)).await
            }
        }
    }

    fn encode(&self, body: &Bytes) -> Result<Bytes, PostError> {
        match self {
            Self::LogsIngestion(_) => logs_ingestion::gzip(body).map_err(PostError::NotCompressed),
            Self::DataCollector(_) | Self::EventHub(_) => Ok(body.clone()),
            Self::StorageBlob(_) | Self::S3(_) => Ok(lines::of_array(body).into()),
        }
    }

    /// Forgets the token that was refused; `false` if there is none to forget.
    fn forget_token(&self) -> bool {
        match self {
            Self::LogsIngestion(sink) => {
                sink.forget_token();
                true
            }
            // A container does so by itself.
            Self::DataCollector(_) | Self::StorageBlob(_) | Self::S3(_) => false,
            Self::EventHub(sink) => sink.forget_token(),
        }
    }

    pub(crate) fn place(&self) -> Place {
        match self {
            Self::LogsIngestion(_) => Place::LogsIngestion,
            Self::DataCollector(_) => Place::DataCollector,
            Self::EventHub(hub) if hub.signs_with_policy() => Place::EventHubByPolicy,
            Self::EventHub(_) => Place::EventHubByIdentity,
            Self::StorageBlob(files) if files.signs_with_key() => Place::StorageBlobByKey,
            Self::StorageBlob(_) => Place::StorageBlobByIdentity,
            Self::S3(_) => Place::S3,
        }
    }

    fn advise(&self, error: &PostError, deployed_at: Timestamp) -> Advice {
        advice::advise(self.place(), error, self.clock().now().since(deployed_at))
    }

    fn is_early(&self, error: &PostError, deployed_at: Timestamp) -> bool {
        advice::is_early(self.place(), error, self.clock().now().since(deployed_at))
    }

    fn retry(&self) -> RetryPolicy {
        match self {
            Self::StorageBlob(sink) => sink.retry,
            Self::LogsIngestion(LogsIngestion { http, .. })
            | Self::DataCollector(DataCollector { http, .. })
            | Self::EventHub(EventHub { http, .. })
            | Self::S3(S3 { http, .. }) => http.retry,
        }
    }

    fn clock(&self) -> &Clock {
        let (Self::LogsIngestion(LogsIngestion { clock, .. })
        | Self::DataCollector(DataCollector { clock, .. })
        | Self::EventHub(EventHub { clock, .. })
        | Self::StorageBlob(StorageBlob { clock, .. })
        | Self::S3(S3 { clock, .. })) = self;
        clock
    }
}

/// Counts attempts while they are made as the policy says.
async fn again<F>(
    http: &Http,
    requests: &mut u64,
    mut attempt: impl FnMut() -> F,
) -> Result<(), GaveUp<PostError>>
where
    F: Future<Output = Result<(), PostError>>,
{
    let counted = || {
        *requests += 1;
        attempt()
    };
    http.retry.run(counted).await
}
