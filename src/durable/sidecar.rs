//! The extension's own gRPC service on this machine, `TaskHubSidecarService`.
//!
//! Its address comes with every invocation that has a `durableClient` binding,
//! as `rpcBaseUrl`, and changes when the host restarts: plain HTTP/2 on
//! loopback, port 4001 if that was free. All five calls may be made twice: two
//! read, one forgets, a start of a running orchestration is refused, and what
//! the entity is told names its version.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use url::{Host, Url};

use super::call::{
    CreateInstanceRequest, CreateInstanceResponse, EntityMetadata, GetEntityRequest,
    GetEntityResponse, GetInstanceRequest, GetInstanceResponse, OrchestrationState, Purge,
    PurgeInstancesRequest, PurgeInstancesResponse, SignalEntityRequest,
};
use super::message::{Ignored, StringValue};
use crate::http::retry::{Classify, GaveUp, RetryPolicy, Verdict};

/// What the extension takes if nobody else has it. Used until an invocation
/// names another, as for an HTTP function that has no `durableClient` binding.
const FIRST_CHOICE: &str = "http://127.0.0.1:4001";
/// On loopback even a busy extension answers within this.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The way to the extension. Clones share the address.
#[derive(Clone, Debug)]
pub struct Sidecar {
    link: Arc<Mutex<Link>>,
    retry: RetryPolicy,
}

#[derive(Debug)]
enum Link {
    /// Not started by the Functions host: there is no extension.
    Outside,
    /// No invocation has named the address yet.
    Untold,
    Told {
        address: Url,
        channel: Channel,
    },
}

/// The address is not one on this machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("rpcBaseUrl is not a plain http address on this machine")]
pub struct BadAddress;

/// Why the extension did not do as asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SidecarError {
    /// This process was not started by the Functions host.
    #[error("Durable Functions can only be reached from within the Functions host")]
    Outside,
    /// No answer, or one that is none. The request may have been taken.
    #[error("the Durable Functions extension does not answer")]
    Unreachable,
    /// The extension said no.
    #[error("the Durable Functions extension answered {0:?}")]
    Refused(Code),
}

impl Classify for SidecarError {
    fn verdict(&self) -> Verdict {
        match self {
            // Every call may be made twice.
            Self::Unreachable => Verdict::Retry { after: None },
            Self::Outside | Self::Refused(_) => Verdict::Fatal,
        }
    }
}

impl From<Status> for SidecarError {
    /// The status's text is left out: it can quote what was sent.
    fn from(status: Status) -> Self {
        let code = status.code();
        let unreachable =
            [Code::Unavailable, Code::DeadlineExceeded, Code::Cancelled, Code::Unknown];
        if unreachable.contains(&code) { Self::Unreachable } else { Self::Refused(code) }
    }
}

impl Sidecar {
    /// For a process that the Functions host started.
    pub fn in_host(retry: RetryPolicy) -> Self {
        Self { link: Arc::new(Mutex::new(Link::Untold)), retry }
    }

    /// For any other process: every call fails.
    pub fn outside_host() -> Self {
        Self { link: Arc::new(Mutex::new(Link::Outside)), retry: RetryPolicy::RUN }
    }

    /// Takes the address that an invocation brought.
    ///
    /// # Errors
    ///
    /// [`BadAddress`] if it is not plain HTTP on loopback; the one before is
    /// kept.
    pub fn tell(&self, rpc_base_url: &str) -> Result<(), BadAddress> {
        let told = Url::parse(rpc_base_url).map_err(|_may_quote| BadAddress)?;
        if told.scheme() != "http" || !is_loopback(&told) {
            return Err(BadAddress);
        }
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        match &*link {
            Link::Told { address, .. } if *address == told => {}
            Link::Outside | Link::Untold | Link::Told { .. } => {
                let channel = connect(&told)?;
                *link = Link::Told { address: told, channel };
            }
        }
        Ok(())
    }

    /// Queues an orchestration. `false`: one with this id is under way already,
    /// and nothing was done.
    ///
    /// # Errors
    ///
    /// After [`SidecarError::Unreachable`] it may be queued all the same.
    pub async fn start(&self, id: &str, name: &str, input: &str) -> Result<bool, SidecarError> {
        let request = CreateInstanceRequest {
            instance_id: id.to_owned(),
            name: name.to_owned(),
            version: None,
            input: StringValue::of(input),
        };
        match self.call::<_, CreateInstanceResponse>("StartInstance", request).await {
            Ok(_started) => Ok(true),
            Err(SidecarError::Refused(Code::AlreadyExists)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// How an orchestration stands; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`SidecarError`].
    pub async fn instance(&self, id: &str) -> Result<Option<OrchestrationState>, SidecarError> {
        let request =
            GetInstanceRequest { instance_id: id.to_owned(), get_inputs_and_outputs: false };
        let answer: GetInstanceResponse = self.call("GetInstance", request).await?;
        Ok(answer.state.filter(|_| answer.exists))
    }

    /// Forgets an orchestration that ended, with its history.
    ///
    /// # Errors
    ///
    /// [`SidecarError`].
    pub async fn purge(&self, id: &str) -> Result<(), SidecarError> {
        let which = Some(Purge::InstanceId(id.to_owned()));
        let _: PurgeInstancesResponse =
            self.call("PurgeInstances", PurgeInstancesRequest { which }).await?;
        Ok(())
    }

    /// What an entity holds; `None` if there is none. Reads storage: nothing
    /// need be running.
    ///
    /// # Errors
    ///
    /// [`SidecarError`].
    pub async fn entity(&self, id: &str) -> Result<Option<EntityMetadata>, SidecarError> {
        let request = GetEntityRequest { instance_id: id.to_owned(), include_state: true };
        let answer: GetEntityResponse = self.call("GetEntity", request).await?;
        Ok(answer.entity.filter(|_| answer.exists))
    }

    /// Queues one operation for an entity; nobody learns its result.
    ///
    /// # Errors
    ///
    /// After [`SidecarError::Unreachable`] it may be queued all the same.
    pub async fn signal(
        &self,
        entity: &str,
        operation: &str,
        input: Option<&str>,
        request_id: uuid::Uuid,
    ) -> Result<(), SidecarError> {
        let request = SignalEntityRequest {
            instance_id: entity.to_owned(),
            name: operation.to_owned(),
            input: input.and_then(StringValue::of),
            request_id: request_id.to_string(),
        };
        let _: Ignored = self.call("SignalEntity", request).await?;
        Ok(())
    }

    async fn call<Q, A>(&self, method: &str, request: Q) -> Result<A, SidecarError>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let path = format!("/TaskHubSidecarService/{method}");
        let path = PathAndQuery::try_from(path).map_err(|_no_path| SidecarError::Unreachable)?;
        let attempt = || once::<Q, A>(self.channel(), path.clone(), request.clone());
        self.retry.run(attempt).await.map_err(|GaveUp { last, .. }| last)
    }

    fn channel(&self) -> Result<Channel, SidecarError> {
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        match &*link {
            Link::Outside => Err(SidecarError::Outside),
            Link::Told { channel, .. } => Ok(channel.clone()),
            Link::Untold => {
                let address =
                    Url::parse(FIRST_CHOICE).map_err(|_never| SidecarError::Unreachable)?;
                let channel = connect(&address).map_err(|_never| SidecarError::Unreachable)?;
                *link = Link::Told { address, channel: channel.clone() };
                Ok(channel)
            }
        }
    }
}

async fn once<Q, A>(
    channel: Result<Channel, SidecarError>,
    path: PathAndQuery,
    request: Q,
) -> Result<A, SidecarError>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    let mut client = Grpc::new(channel?);
    client.ready().await.map_err(|_no_connection| SidecarError::Unreachable)?;
    let codec = ProstCodec::<Q, A>::default();
    Ok(client.unary(Request::new(request), path, codec).await?.into_inner())
}

/// Connects with the first call.
fn connect(address: &Url) -> Result<Channel, BadAddress> {
    let endpoint = Endpoint::from_shared(address.to_string()).map_err(|_may_quote| BadAddress)?;
    Ok(endpoint.connect_timeout(TIMEOUT).timeout(TIMEOUT).connect_lazy())
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}
