//! The handler on a socket of its own, driven as the Functions host drives it.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, Once};

use axum::Router;
use defender_alert_export::clock::Clock;
use defender_alert_export::config::{LogOutput, LoggingConfig};
use defender_alert_export::domain::heartbeat::{Counts, Heartbeat, RowType, Status};
use defender_alert_export::durable::{Durable, Sidecar};
use defender_alert_export::host::{self, Runs, Stopped};
use defender_alert_export::http::retry::RetryPolicy;
use defender_alert_export::http::{self, Http};
use defender_alert_export::pipeline::Ended;
use defender_alert_export::telemetry::{Lines, Streams};
use futures_util::future;
use reqwest::{Body, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::subscriber::{DefaultGuard, set_default, set_global_default};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt as _;
use uuid::Uuid;

/// As the host sends it, the durable client's twice encoded string included.
pub(crate) const TIMER: &str = include_str!("../golden/http_timer.json");
pub(crate) const INVOCATION: &str = "6b3f7b0e-92ad-4a57-a9bb-fdcb2d5dfb6c";

/// As the program itself reaches everything.
pub(crate) fn network() -> Http {
    Http::network(RetryPolicy::RUN).unwrap()
}

/// A run that ended with `status`.
pub(crate) fn reported(run: Uuid, status: Status) -> Ended {
    Ended::Reported(Box::new(heartbeat(run, status)), None)
}

fn heartbeat(run: Uuid, status: Status) -> Heartbeat {
    Heartbeat {
        run_id: run.to_string(),
        trust_name: "RXX".to_owned(),
        status,
        message: "What happened.".to_owned(),
        next_step: "What to do.".to_owned(),
        counts: Counts {
            delivered: 5,
            duplicates: 4,
            withheld: 3,
            quarantined: 2,
            ..Counts::default()
        },
        window_start: None,
        window_end: None,
        lag_seconds: Some(60),
        duration_ms: 70,
        signed_in_as: Some("svc-export@trust.example".to_owned()),
        sign_in_idle_days: None,
        version: "0.1.0".to_owned(),
        instance_id: "i".to_owned(),
        record_number: None,
        record_hash: None,
        row_type: RowType::Heartbeat,
    }
}

/// Runs that all end with `status` and tell their ids.
pub(crate) fn runs_ending(status: Status) -> (Runs, mpsc::UnboundedReceiver<Uuid>) {
    runs_setting_aside(2, status)
}

/// The same, with so many alerts set aside.
pub(crate) fn runs_setting_aside(
    quarantined: u64,
    status: Status,
) -> (Runs, mpsc::UnboundedReceiver<Uuid>) {
    let (tell, told) = mpsc::unbounded_channel();
    let runs = Runs::new(move |run| {
        tell.send(run).unwrap();
        let mut heartbeat = heartbeat(run, status);
        heartbeat.counts.quarantined = quarantined;
        Box::pin(future::ready(Ended::Reported(Box::new(heartbeat), None)))
    });
    (runs, told)
}

/// One run that says when it has started, and ends well when let go.
pub(crate) fn one_held_run() -> (Runs, oneshot::Receiver<()>, oneshot::Sender<()>) {
    let (started, has_started) = oneshot::channel();
    let (let_go, gate) = oneshot::channel::<()>();
    let parts = Mutex::new(Some((started, gate)));
    let runs = Runs::new(move |run| {
        let (started, gate) = parts.lock().unwrap().take().expect("one run at a time");
        Box::pin(async move {
            started.send(()).unwrap();
            gate.await.unwrap();
            reported(run, Status::Ok)
        })
    });
    (runs, has_started, let_go)
}

/// The handler, listening on a port of its own.
pub(crate) struct Handler {
    pub(crate) url: String,
    pub(crate) client: reqwest::Client,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) server: JoinHandle<Stopped>,
}

/// Durable functions of a program without the extension.
pub(crate) fn no_durable() -> Durable {
    Durable { sidecar: Sidecar::outside_host(), key: None, clock: Clock::System }
}

impl Handler {
    pub(crate) async fn start(runs: Runs) -> Self {
        Self::with(runs, no_durable()).await
    }

    pub(crate) async fn with(runs: Runs, durable: Durable) -> Self {
        Self::serve(host::router(runs.clone(), durable), runs).await
    }

    pub(crate) async fn serve(router: Router, runs: Runs) -> Self {
        listen_everywhere();
        let socket = host::bind(0).await.unwrap();
        let url = format!("http://{}", socket.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(host::serve(socket, router, runs, async {
            stopped.await.unwrap();
        }));
        Self { url, client: http::client().unwrap(), stop, server }
    }

    pub(crate) async fn invoke(&self, body: impl Into<Body>) -> Response {
        self.client
            .post(format!("{}/timer_export", self.url))
            .header("X-Azure-Functions-InvocationId", INVOCATION)
            .header("Content-Type", "application/json; charset=utf-8")
            .body(body)
            .send()
            .await
            .unwrap()
    }
}

/// Checks that the host would understand the answer; returns its status and log.
pub(crate) async fn envelope(answer: Response) -> (StatusCode, String) {
    let status = answer.status();
    assert_eq!(answer.headers()["content-type"], "application/json");
    let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    let log = body["Logs"][0].as_str().unwrap().to_owned();
    assert!(!log.contains('\n'), "{log}");
    assert_eq!(body, json!({"Outputs": {}, "Logs": [log], "ReturnValue": null}));
    (status, log)
}

/// Gives threads without a [`Log`] of their own one that forgets. Otherwise the
/// first of them to pass a line of code that logs could switch it off for all
/// (<https://github.com/tokio-rs/tracing/issues/3611>).
pub(crate) fn listen_everywhere() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let logging = LoggingConfig { output: LogOutput::Print, level: 1 };
        let streams = Streams::new(io::sink(), io::sink());
        let (lines, _) = Lines::new(logging, streams, Clock::System);
        set_global_default(Registry::default().with(lines)).unwrap();
    });
}

/// What this thread logs from now on.
#[derive(Clone, Default)]
pub(crate) struct Log(pub(crate) Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn listen(level: u8) -> (Self, DefaultGuard) {
        listen_everywhere();
        let log = Self::default();
        let logging = LoggingConfig { output: LogOutput::Print, level };
        let streams = Streams::new(log.clone(), io::sink());
        let (lines, _) = Lines::new(logging, streams, Clock::System);
        (log, set_default(Registry::default().with(lines)))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
