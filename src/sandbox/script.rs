//! Scripted misbehaviour, and the socket each embedded cloud listens on.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt as _, stream};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use url::Url;

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

    fn note(&self, seen: Seen) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    }
}

/// A cloud's socket. The server stops when this is dropped.
#[derive(Debug)]
pub struct Listening {
    /// `http://127.0.0.1:PORT/`.
    pub url: Url,
    server: JoinHandle<()>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Serves `router` on a free loopback port, misbehaving as `script` says.
///
/// # Errors
///
/// When no port can be had.
pub async fn listen(router: Router, script: Script) -> io::Result<Listening> {
    let socket = TcpListener::bind(("127.0.0.1", 0)).await?;
    let url = format!("http://{}/", socket.local_addr()?);
    let url = Url::parse(&url).map_err(io::Error::other)?;
    let router = router.layer(middleware::from_fn_with_state(script, misbehave));
    let server = tokio::spawn(async move {
        if let Err(error) = axum::serve(socket, router).await {
            tracing::error!(%error, "an embedded cloud stopped");
        }
    });
    Ok(Listening { url, server })
}

async fn misbehave(State(script): State<Script>, request: Request, next: Next) -> Response {
    let method = request.method().to_string();
    let target = request.uri().to_string();
    let fault = script.next();
    let mut lost = false;
    let answer = match fault {
        Fault::Pass => next.run(request).await,
        Fault::Delay(wait) => {
            pause(wait).await;
            next.run(request).await
        }
        Fault::Answer { status, headers, body } => answer(status, headers, body),
        Fault::CutAfter(bytes) => cut(next.run(request).await, bytes),
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
    let broken = stream::once(async { Err(io::Error::other("scripted cut")) });
    Response::from_parts(parts, Body::from_stream(kept.chain(broken)))
}
