//! The Durable extension with a task hub in memory: strict about what it is
//! asked and answered, and driven turn by turn.

use std::collections::{BTreeMap, VecDeque};
use std::future::{Ready, ready};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::{MethodRouter, post};
use defender_alert_export::durable::call::{
    CreateInstanceRequest, CreateInstanceResponse, EntityMetadata, GetEntityRequest,
    GetEntityResponse, GetInstanceRequest, GetInstanceResponse, OrchestrationState, Purge,
    PurgeInstancesRequest, PurgeInstancesResponse, SignalEntityRequest,
};
use defender_alert_export::durable::message::{
    Action, Ended, EntityBatchRequest, EntityBatchResult, Event, EventRaised, EventSent,
    ExecutionStarted, Failure, HistoryEvent, Ignored, OperationRequest, OrchestrationInstance,
    OrchestratorRequest, OrchestratorResponse, Status, StringValue,
};
use prost::Message;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::server::{Grpc, UnaryService};
use tonic::{Code, Request, Response};
use tonic_prost::ProstCodec;
use uuid::Uuid;

/// The hub. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Hub(Arc<Mutex<State>>);

/// What the hub holds, and how it misbehaves.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) orchestrations: BTreeMap<String, Orchestration>,
    pub(crate) entities: BTreeMap<String, Entity>,
    /// Every message is delivered twice.
    pub(crate) twice: bool,
    /// Nothing is answered.
    pub(crate) down: bool,
    /// Nothing is given out to do.
    pub(crate) idle: bool,
    pub(crate) started: usize,
    pub(crate) purged: usize,
}

#[derive(Default)]
pub(crate) struct Orchestration {
    name: String,
    pub(crate) status: Option<Status>,
    output: Option<StringValue>,
    pub(crate) failure: Option<Failure>,
    pub(crate) past: Vec<HistoryEvent>,
    pub(crate) new: Vec<HistoryEvent>,
}

#[derive(Default)]
pub(crate) struct Entity {
    pub(crate) state: Option<StringValue>,
    pub(crate) queue: VecDeque<Queued>,
}

#[derive(Clone)]
pub(crate) struct Queued {
    operation: OperationRequest,
    parent: Option<String>,
}

/// A turn to be taken.
pub(crate) enum Work {
    Orchestration(OrchestratorRequest),
    Entity(EntityBatchRequest, Vec<Queued>),
}

impl Work {
    pub(crate) fn function(&self) -> &'static str {
        match self {
            Self::Orchestration(_) => "orchestrator",
            Self::Entity(..) => "entity_state",
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Orchestration(request) => request.encode_to_vec(),
            Self::Entity(batch, _) => batch.encode_to_vec(),
        }
    }
}

pub(crate) fn event(event_id: i32, event: Event) -> HistoryEvent {
    HistoryEvent { event_id, timestamp: None, event: Some(event) }
}

fn is_over(status: Option<Status>) -> bool {
    matches!(status, Some(Status::Completed | Status::Failed | Status::Terminated))
}

impl Hub {
    /// Serves `TaskHubSidecarService`; its address and what stops it.
    pub(crate) async fn listen(&self) -> (String, JoinHandle<()>) {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://localhost:{}", socket.local_addr().unwrap().port());
        let service = |method: &str| format!("/TaskHubSidecarService/{method}");
        let router = Router::new()
            .route(&service("StartInstance"), self.rpc(State::start))
            .route(&service("GetInstance"), self.rpc(State::get_instance))
            .route(&service("PurgeInstances"), self.rpc(State::purge))
            .route(&service("SignalEntity"), self.rpc(State::signal))
            .route(&service("GetEntity"), self.rpc(State::get_entity));
        let server = tokio::spawn(async move { axum::serve(socket, router).await.unwrap() });
        (url, server)
    }

    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap())
    }

    /// The next turn, if there is one. Taking it changes nothing.
    pub(crate) fn next(&self) -> Option<Work> {
        self.with(|state| state.next())
    }

    /// What a turn's answer leads to; `None`: the function failed.
    pub(crate) fn apply(&self, work: Work, answer: Option<&[u8]>) {
        self.with(|state| match work {
            Work::Orchestration(request) => state.apply_turn(&request, answer),
            Work::Entity(batch, queued) => state.apply_batch(&batch, queued, answer),
        });
    }

    fn rpc<Q, A>(&self, act: fn(&mut State, &Q) -> Result<A, tonic::Status>) -> MethodRouter
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        let hub = self.clone();
        post(move |request: axum::extract::Request| async move {
            let codec = ProstCodec::<A, Q>::default();
            let answer = Grpc::new(codec).unary(Rpc { hub, act }, request).await;
            answer.map(axum::body::Body::new)
        })
    }
}

struct Rpc<Q, A> {
    hub: Hub,
    act: fn(&mut State, &Q) -> Result<A, tonic::Status>,
}

impl<Q, A> UnaryService<Q> for Rpc<Q, A> {
    type Response = A;
    type Future = Ready<Result<Response<A>, tonic::Status>>;

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        ready(self.hub.with(|state| {
            if state.down {
                return Err(tonic::Status::new(Code::Unavailable, "down"));
            }
            (self.act)(state, request.get_ref()).map(Response::new)
        }))
    }
}

/// The extension takes an entity's name as it comes; entities have it in lower
/// case.
fn check_entity(id: &str) -> Result<(), tonic::Status> {
    let name = id.strip_prefix('@').and_then(|rest| rest.split_once('@'));
    match name {
        Some((name, key)) if name == name.to_lowercase() && !key.is_empty() => Ok(()),
        _ => Err(tonic::Status::new(Code::InvalidArgument, "no entity id")),
    }
}

impl State {
    fn start(
        &mut self,
        request: &CreateInstanceRequest,
    ) -> Result<CreateInstanceResponse, tonic::Status> {
        let id = request.instance_id.clone();
        let running = self.orchestrations.get(&id).is_some_and(|there| !is_over(there.status));
        if running {
            return Err(tonic::Status::new(Code::AlreadyExists, "under way"));
        }
        self.started += 1;
        let execution = StringValue::of(Uuid::new_v4().simple().to_string());
        let started = ExecutionStarted {
            name: request.name.clone(),
            version: StringValue::of(""),
            input: request.input.clone(),
            orchestration_instance: Some(OrchestrationInstance {
                instance_id: id.clone(),
                execution_id: execution,
            }),
        };
        let new = vec![event(-1, Event::ExecutionStarted(started))];
        let orchestration =
            Orchestration { name: request.name.clone(), new, ..Orchestration::default() };
        self.orchestrations.insert(id.clone(), orchestration);
        Ok(CreateInstanceResponse { instance_id: id })
    }

    fn get_instance(
        &mut self,
        request: &GetInstanceRequest,
    ) -> Result<GetInstanceResponse, tonic::Status> {
        if request.instance_id.is_empty() {
            return Err(tonic::Status::new(Code::InvalidArgument, "which?"));
        }
        let state = self.orchestrations.get(&request.instance_id).map(|there| OrchestrationState {
            instance_id: request.instance_id.clone(),
            name: there.name.clone(),
            status: there.status.unwrap_or(Status::Pending).into(),
            input: None,
            output: there.output.clone().filter(|_| request.get_inputs_and_outputs),
            failure: there.failure.clone(),
        });
        Ok(GetInstanceResponse { exists: state.is_some(), state })
    }

    fn purge(
        &mut self,
        request: &PurgeInstancesRequest,
    ) -> Result<PurgeInstancesResponse, tonic::Status> {
        let Some(Purge::InstanceId(id)) = &request.which else {
            return Err(tonic::Status::new(Code::InvalidArgument, "which?"));
        };
        let gone = self.orchestrations.remove(id).is_some();
        self.purged += usize::from(gone);
        Ok(PurgeInstancesResponse { deleted: gone.into() })
    }

    fn signal(&mut self, request: &SignalEntityRequest) -> Result<Ignored, tonic::Status> {
        check_entity(&request.instance_id)?;
        Uuid::try_parse(&request.request_id)
            .map_err(|_no_guid| tonic::Status::new(Code::InvalidArgument, "no GUID"))?;
        let operation = OperationRequest {
            operation: request.name.clone(),
            request_id: request.request_id.clone(),
            input: request.input.clone(),
        };
        let entity = self.entities.entry(request.instance_id.clone()).or_default();
        entity.queue.push_back(Queued { operation, parent: None });
        Ok(Ignored {})
    }

    fn get_entity(
        &mut self,
        request: &GetEntityRequest,
    ) -> Result<GetEntityResponse, tonic::Status> {
        check_entity(&request.instance_id)?;
        let entity = self.entities.get(&request.instance_id).map(|there| EntityMetadata {
            instance_id: request.instance_id.clone(),
            last_modified: None,
            serialized_state: there.state.clone().filter(|_| request.include_state),
        });
        Ok(GetEntityResponse { exists: entity.is_some(), entity })
    }

    fn next(&self) -> Option<Work> {
        if self.idle {
            return None;
        }
        for (id, there) in &self.orchestrations {
            if !there.new.is_empty() && !is_over(there.status) {
                let mut new = vec![event(-1, Event::OrchestratorStarted(Ignored {}))];
                new.extend(there.new.iter().cloned());
                return Some(Work::Orchestration(OrchestratorRequest {
                    instance_id: id.clone(),
                    execution_id: None,
                    past_events: there.past.clone(),
                    new_events: new,
                }));
            }
        }
        self.entities.iter().find(|(_, there)| !there.queue.is_empty()).map(|(id, there)| {
            let queued: Vec<_> = there.queue.iter().cloned().collect();
            let batch = EntityBatchRequest {
                instance_id: id.clone(),
                entity_state: there.state.clone(),
                operations: queued.iter().map(|queued| queued.operation.clone()).collect(),
            };
            Work::Entity(batch, queued)
        })
    }

    fn apply_turn(&mut self, request: &OrchestratorRequest, answer: Option<&[u8]>) {
        let twice = self.twice;
        // Purged while its turn was out: what comes of it is nobody's.
        let Some(there) = self.orchestrations.get_mut(&request.instance_id) else { return };
        let Some(answer) = answer else {
            // For good: the extension does not try again.
            there.status = Some(Status::Failed);
            return;
        };
        let response = OrchestratorResponse::decode(answer).unwrap();
        there.status = Some(Status::Running);
        there.past.extend(request.new_events.iter().cloned());
        there.new.clear();
        for action in response.actions {
            assert_eq!(response.instance_id, request.instance_id);
            let is_sent = |event: &&HistoryEvent| matches!(event.event, Some(Event::EventSent(_)));
            assert_eq!(usize::try_from(action.id), Ok(there.past.iter().filter(is_sent).count()));
            match action.action.unwrap() {
                Action::SendEvent(send) => {
                    let entity = send.instance.unwrap().instance_id;
                    check_entity(&entity).unwrap();
                    assert_eq!(send.name, "op");
                    let queued = queued(&send.data.clone().unwrap().value);
                    there.past.push(event(
                        action.id,
                        Event::EventSent(EventSent {
                            instance_id: entity.clone(),
                            name: send.name,
                            input: send.data,
                        }),
                    ));
                    let entity = self.entities.entry(entity).or_default();
                    entity.queue.extend(std::iter::repeat_n(queued, 1 + usize::from(twice)));
                }
                Action::CompleteOrchestration(end) => {
                    there.status = Some(end.status());
                    (there.output, there.failure) = (end.result, end.failure);
                }
            }
        }
        there.past.push(event(-1, Event::OrchestratorCompleted(Ignored {})));
    }

    fn apply_batch(
        &mut self,
        batch: &EntityBatchRequest,
        queued: Vec<Queued>,
        answer: Option<&[u8]>,
    ) {
        let there = self.entities.get_mut(&batch.instance_id).unwrap();
        there.queue.drain(..queued.len());
        let answers: Vec<Value> = match answer {
            None => queued
                .iter()
                .map(|_| json!({"exceptionType": "the function failed", "result": null}))
                .collect(),
            Some(answer) => {
                let result = EntityBatchResult::decode(answer).unwrap();
                assert_eq!(result.results.len(), queued.len(), "one result an operation");
                there.state = result.entity_state;
                result.results.into_iter().map(|result| told(result.ended.unwrap())).collect()
            }
        };
        for (Queued { operation, parent }, answer) in queued.into_iter().zip(answers) {
            let caller = parent.and_then(|parent| self.orchestrations.get_mut(&parent));
            if let Some(caller) = caller.filter(|caller| !is_over(caller.status)) {
                let raised = EventRaised {
                    name: operation.request_id,
                    input: StringValue::of(answer.to_string()),
                };
                caller.new.push(event(-1, Event::EventRaised(raised)));
            }
        }
    }
}

fn told(ended: Ended) -> Value {
    match ended {
        Ended::Success(success) => json!({"result": success.result.map(|result| result.value)}),
        Ended::Failure(failure) => {
            let why = failure.failure.unwrap();
            json!({"exceptionType": why.error_message, "failureDetails": {
                "ErrorType": why.error_type, "ErrorMessage": why.error_message,
            }})
        }
    }
}

/// What an orchestration sent to an entity.
fn queued(data: &str) -> Queued {
    let data: Value = serde_json::from_str(data).unwrap();
    let member = |name: &str| data[name].as_str().map(str::to_owned);
    let id = member("id").unwrap();
    Uuid::try_parse(&id).unwrap();
    let parent = if data["signal"] == true { None } else { member("parent") };
    let operation = OperationRequest {
        operation: member("op").unwrap(),
        request_id: id,
        input: member("input").and_then(StringValue::of),
    };
    Queued { operation, parent }
}
