//! Scripted misbehaviour, and where each embedded cloud is reached.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{DATE, HOST};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use reqwest::ResponseBuilderExt as _;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tower_service::Service as _;
use url::Url;

use crate::azure::http_date;
use crate::clock::Clock;
use crate::http::Server;
use crate::http::retry::pause;

/// One misbehaviour, used up by one request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Answer this instead of doing anything.
    Answer {
        /// HTTP status.
        status: u16,
        /// Headers to add.
        headers: Vec<(&'static str, String)>,
        /// Body.
        body: String,
    },
    /// Do what was asked, then lose the answer: the client sees a broken
    /// connection and cannot know.
    LoseAnswer,
    /// Do what was asked and cut the answer's body off after so many bytes.
    CutAfter(usize),
    /// Do what was asked, send so many bytes of the answer's body, and never the
    /// rest; [`Script::hung`] tells.
    HangAfter(usize),
    /// Wait first.
    Delay(Duration),
    /// Never answer, and do nothing of what was asked; [`Script::hung`] tells.
    Hang,
    /// Do what was asked and never answer; [`Script::hung`] tells.
    DoAndHang,
    /// Do what was asked, untouched: lets a later fault hit a later request.
    Pass,
}

impl Fault {
    /// An answer with an empty body.
    pub fn status(status: u16) -> Self {
        Self::Answer { status, headers: Vec::new(), body: String::new() }
    }

    /// 429 with `Retry-After` in seconds.
    pub fn throttled(seconds: u64) -> Self {
        Self::Answer {
            status: 429,
            headers: vec![("retry-after", seconds.to_string())],
            body: String::new(),
        }
    }
}

/// A request as a cloud saw it and what it answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Seen {
    /// `GET`, `POST`, …
    pub method: String,
    /// Path and query, as sent.
    pub target: String,
    /// Status answered; 0 when the answer was lost or never came.
    pub status: u16,
}

/// What a cloud is told to do wrong, and what it has seen. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Script {
    faults: Arc<Mutex<VecDeque<Fault>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    clock: Arc<Mutex<Option<Clock>>>,
    hanging: Arc<Notify>,
}

impl Script {
    /// Adds faults; each is used up by one request, in order.
    pub fn push(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).extend(faults);
    }

    /// Forgets the faults not used up yet.
    pub fn clear(&self) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Dates its answers by `clock` from now on; else they carry the machine's
    /// time, or none.
    pub fn tell_time_by(&self, clock: Clock) {
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = Some(clock);
    }

    /// Every request so far, in order of its answer.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until a request hangs: what [`Fault::DoAndHang`] does is then done.
    pub async fn hung(&self) {
        self.hanging.notified().await;
    }

    async fn hang(&self, method: String, target: String) -> Response {
        self.note(Seen { method, target, status: 0 });
        self.hanging.notify_one();
        pending().await
    }

    fn next(&self) -> Fault {
        self.faults
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
            .unwrap_or(Fault::Pass)
    }

    fn date(&self, answer: &mut Response) {
        let clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let date = clock.and_then(|clock| http_date(clock.now()).parse().ok());
        if let Some(date) = date {
            answer.headers_mut().entry(DATE).or_insert(date);
        }
    }

    fn note(&self, seen: Seen) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    }
}

/// Where a cloud is to be reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reach {
    /// On a free loopback port.
    Socket,
    /// Within this process alone, through [`Listening::server`].
    InProcess,
}

/// A cloud's address. The server stops when this is dropped.
#[derive(Debug)]
pub struct Listening {
    /// `http://127.0.0.1:PORT/`, or an address that only this process knows.
    pub url: Url,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Socket(JoinHandle<()>),
    InProcess(Router),
}

impl Drop for Listening {
    fn drop(&mut self) {
        match &self.place {
            Place::Socket(server) => server.abort(),
            Place::InProcess(_) => {}
        }
    }
}

impl Listening {
    /// The cloud for requests within the process; `None` if it has a socket.
    pub fn server(&self) -> Option<(Url, Server)> {
        match &self.place {
            Place::Socket(_) => None,
            Place::InProcess(router) => {
                let router = router.clone();
                let server: Server =
                    Arc::new(move |request| answer_here(router.clone(), request).boxed());
                Some((self.url.clone(), server))
            }
        }
    }
}

/// Serves `router` on a free loopback port, misbehaving as `script` says.
///
/// # Errors
///
/// When no port can be had.
pub async fn listen(router: Router, script: Script) -> io::Result<Listening> {
    serve(router, script, 1, Reach::Socket).await
}

/// Serves `router` where `reach` says, misbehaving as `script` says. Within the
/// process it is known as `http://127.0.0.NUMBER/`; nobody listens there.
pub(super) async fn serve(
    router: Router,
    script: Script,
    number: u8,
    reach: Reach,
) -> io::Result<Listening> {
    let router = router.layer(middleware::from_fn_with_state(script, misbehave));
    if reach == Reach::InProcess {
        let url = Url::parse(&format!("http://127.0.0.{number}/")).map_err(io::Error::other)?;
        return Ok(Listening { url, place: Place::InProcess(router) });
    }
    let socket = TcpListener::bind(("127.0.0.1", 0)).await?;
    let url = format!("http://{}/", socket.local_addr()?);
    let url = Url::parse(&url).map_err(io::Error::other)?;
    let server = tokio::spawn(async move {
        if let Err(error) = axum::serve(socket, router).await {
            tracing::error!(%error, "an embedded cloud stopped");
        }
    });
    Ok(Listening { url, place: Place::Socket(server) })
}

/// Hands a request to a router without a connection, in the form it would have
/// read from one: path and query, and the host in a header.
async fn answer_here(mut router: Router, asked: reqwest::Request) -> reqwest::Response {
    let url = asked.url().clone();
    let mut request = match Request::try_from(asked) {
        Ok(request) => request.map(Body::new),
        Err(_no_uri) => return reqwest::Response::from(Response::new(reqwest::Body::default())),
    };
    let target =
        url.query().map_or_else(|| url.path().into(), |query| format!("{}?{query}", url.path()));
    if let (Ok(target), Ok(host)) = (target.parse(), HeaderValue::from_str(url.authority())) {
        *request.uri_mut() = target;
        request.headers_mut().insert(HOST, host);
    }
    let answer = match router.call(request).await {
        Ok(answer) => answer,
        Err(never) => match never {},
    };
    let (head, body) = answer.into_parts();
    // The only way to tell an answer its address.
    let addressed = Response::builder().url(url).body(()).unwrap_or_default();
    let (mut parts, ()) = addressed.into_parts();
    parts.status = head.status;
    parts.headers = head.headers;
    let body = reqwest::Body::wrap_stream(body.into_data_stream());
    reqwest::Response::from(Response::from_parts(parts, body))
}

async fn misbehave(State(script): State<Script>, request: Request, next: Next) -> Response {
    let method = request.method().to_string();
    let target = request.uri().to_string();
    let fault = script.next();
    let mut lost = false;
    let mut answer = match fault {
        Fault::Pass => next.run(request).await,
        Fault::Delay(wait) => {
            pause(wait).await;
            next.run(request).await
        }
        Fault::Answer { status, headers, body } => answer(status, headers, body),
        Fault::CutAfter(bytes) => cut(next.run(request).await, bytes),
        Fault::HangAfter(bytes) => {
            let answer = cut_short(next.run(request).await, bytes, script.clone());
            script.note(Seen { method, target, status: answer.status().as_u16() });
            return answer;
        }
        Fault::LoseAnswer => {
            lost = true;
            cut(next.run(request).await, 0)
        }
        Fault::Hang => return script.hang(method, target).await,
        Fault::DoAndHang => {
            drop(next.run(request).await);
            return script.hang(method, target).await;
        }
    };
    script.date(&mut answer);
    let status = if lost { 0 } else { answer.status().as_u16() };
    script.note(Seen { method, target, status });
    answer
}

fn answer(status: u16, headers: Vec<(&'static str, String)>, body: String) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = (status, body).into_response();
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            answer.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    answer
}

/// Passes on `bytes` bytes of the body, then breaks the connection.
fn cut(answer: Response, bytes: usize) -> Response {
    begin(answer, bytes, async { Err(io::Error::other("scripted cut")) })
}

/// Passes on `bytes` bytes of the body, then nothing more.
fn cut_short(answer: Response, bytes: usize, script: Script) -> Response {
    begin(answer, bytes, async move {
        script.hanging.notify_one();
        pending().await
    })
}

/// The beginning of `answer`, and then what comes of `rest`.
fn begin(
    answer: Response,
    bytes: usize,
    rest: impl Future<Output = io::Result<Bytes>> + Send + 'static,
) -> Response {
    let (mut parts, body) = answer.into_parts();
    // Announced longer than it is, so that even an empty body counts as cut off.
    parts.headers.remove("content-length");
    parts.headers.remove("transfer-encoding");
    if parts.status == StatusCode::NO_CONTENT {
        parts.status = StatusCode::OK;
    }
    let mut left = bytes;
    let kept = body.into_data_stream().map(move |chunk| {
        let mut chunk: Bytes = chunk.map_err(io::Error::other)?;
        chunk.truncate(left);
        left -= chunk.len();
        Ok::<_, io::Error>(chunk)
    });
    Response::from_parts(parts, Body::from_stream(kept.chain(stream::once(rest))))
}
