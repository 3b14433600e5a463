//! The real program under a double of the Functions host, which speaks to it
//! as the host's source does.

mod backfill;
mod identity;
mod logs;
mod schedule;
mod settings;
mod stopping;
mod terminal;
mod verbs;
mod words;

use std::io;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use defender_alert_export::http::client;
use defender_alert_export::sandbox::script::Fault::{Hang, Pass};
use futures_util::stream;
use reqwest::{Body, Response, StatusCode};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::crash::stage::{Kept, Stage, until, within};
use crate::handler::{INVOCATION, TIMER, envelope};

/// The handler's process, as the host holds it.
struct Hosted {
    process: Child,
    url: String,
    client: reqwest::Client,
    out: Lines,
    err: Lines,
}

/// A stream's lines so far.
struct Lines {
    lines: Arc<Mutex<Vec<String>>>,
    reader: JoinHandle<()>,
}

impl Lines {
    fn of(stream: impl AsyncRead + Send + Unpin + 'static) -> Self {
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let kept = Arc::clone(&lines);
        let reader = tokio::spawn(async move {
            let mut stream = BufReader::new(stream).lines();
            while let Some(line) = stream.next_line().await.unwrap() {
                kept.lock().unwrap().push(line);
            }
        });
        Self { lines, reader }
    }

    fn now(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// All of them, once the process has ended.
    async fn all(self) -> Vec<String> {
        within("the end of a stream", self.reader).await.unwrap();
        self.lines.lock().unwrap().clone()
    }
}

/// A port nobody has.
async fn free_port() -> u16 {
    let socket = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    socket.local_addr().unwrap().port()
}

impl Hosted {
    /// Starts the program and waits until it answers.
    async fn ready(stage: &Stage) -> Self {
        let hosted = Self::start(stage, free_port().await);
        hosted.probe().await;
        hosted
    }

    fn start(stage: &Stage, port: u16) -> Self {
        let mut command = stage.command(&["serve"]);
        // Both, with the same value, and more that nobody reads.
        command
            .env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string())
            .env("FUNCTIONS_HTTPWORKER_PORT", port.to_string())
            .env("FUNCTIONS_CUSTOMHANDLER_WORKER_ID", "3e1f0a52-7d0a-4a6c-8a39-2f8d7c1b6e54");
        let mut process = command.spawn().unwrap();
        let out = Lines::of(process.stdout.take().unwrap());
        let err = Lines::of(process.stderr.take().unwrap());
        let url = format!("http://127.0.0.1:{port}");
        Self { process, url, client: client().unwrap(), out, err }
    }

    /// Every 25 ms; any answer is good, only no connection means to go on.
    async fn probe(&self) {
        let ready = async {
            loop {
                match self.client.get(format!("{}/", self.url)).send().await {
                    Ok(answer) => return assert_eq!(answer.status(), StatusCode::OK),
                    Err(error) if error.is_connect() => {
                        defender_alert_export::http::retry::pause(Duration::from_millis(25)).await;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        };
        within("the handler is ready", ready).await;
    }

    /// A timer's invocation: chunked, with the host's headers.
    async fn invoke(&self, id: &str) -> Response {
        let pieces = TIMER.as_bytes().chunks(97).map(|piece| Ok::<_, io::Error>(piece.to_vec()));
        let body = Body::wrap_stream(stream::iter(pieces.collect::<Vec<_>>()));
        let request = self
            .client
            .post(format!("{}/timer_export", self.url))
            .header("X-Azure-Functions-InvocationId", id)
            .header("X-Azure-Functions-HostVersion", "4.1037.0.0")
            .header("User-Agent", "Azure-Functions-Host/4.1037.0.0")
            .header("Content-Type", "application/json; charset=utf-8")
            .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
            .body(body)
            .send();
        within("the answer to an invocation", request).await.unwrap()
    }

    /// An invocation that must succeed; its log.
    async fn invoke_well(&self, id: &str) -> String {
        let (status, log) = envelope(self.invoke(id).await).await;
        assert_eq!(status, StatusCode::OK, "{log} {:?}", self.err.now());
        log
    }

    async fn signal(&self, signal: &str) {
        send_signal(&self.process, signal).await;
    }

    async fn kill(mut self) {
        self.process.kill().await.unwrap();
    }

    /// Its end, with the lines of both streams.
    async fn end(mut self) -> (ExitStatus, Vec<String>, Vec<String>) {
        let status = within("the end of the process", self.process.wait()).await.unwrap();
        (status, self.out.all().await, self.err.all().await)
    }
}

async fn send_signal(process: &Child, signal: &str) {
    let id = process.id().expect("still running").to_string();
    assert!(Command::new("kill").args(["-s", signal, &id]).status().await.unwrap().success());
}

/// Signed in, with alerts, and state in Azurite.
async fn deployed() -> Option<Stage> {
    kept_by(Kept::Azurite).await
}

async fn kept_by(kept: Kept) -> Option<Stage> {
    let mut stage = Stage::set(kept).await?;
    stage.sign_in().await;
    stage.alerts(30, Duration::from_mins(5));
    Some(stage)
}

#[tokio::test]
async fn the_host_runs_the_whole_export() {
    let Some(stage) = deployed().await else { return };
    let hosted = Hosted::ready(&stage).await;
    let log = hosted.invoke_well(INVOCATION).await;
    assert!(
        log.starts_with("Ok: 30 delivered, 0 already delivered, 0 withheld, 0 set aside"),
        "{log}"
    );
    assert_eq!(stage.delivered(), stage.alerts.keys().cloned().collect());
    let heartbeats = stage.heartbeats();
    assert_eq!(heartbeats.len(), 1);
    assert_eq!(heartbeats[0]["RunId"], INVOCATION, "the host's id is the run's");
    let log = hosted.invoke_well("7c4a8c1e-92ad-4a57-a9bb-fdcb2d5dfb6c").await;
    assert!(log.starts_with("Ok: 0 delivered"), "{log}");
    hosted.kill().await;
}

#[tokio::test]
async fn the_handler_is_ready_while_everything_else_hangs() {
    let Some(stage) = deployed().await else { return };
    stage.clouds.defender.script().push([Hang]);
    stage.clouds.monitor.script.push([Hang]);
    stage.clouds.entra.script.push([Hang]);
    stage.clouds.managed_identity.script.push([Hang]);
    stage.gate.as_ref().unwrap().stop(crate::crash::gate::Side::Before, "GET", "", 0);
    let hosted = Hosted::ready(&stage).await;
    let run = hosted.invoke(INVOCATION);
    let rest = async {
        within("the run hangs", stage.gate.as_ref().unwrap().stopped()).await;
        hosted.probe().await;
    };
    tokio::select! {
        _ = run => panic!("it should hang"),
        () = rest => {}
    }
    hosted.kill().await;
}

#[tokio::test]
async fn storage_that_cannot_be_reached_keeps_nobody_from_answering() {
    let Some(mut stage) = Stage::set(Kept::Folder).await else { return };
    let nowhere = format!("http://127.0.0.1:{}/trust", free_port().await);
    let storage = format!(
        "AccountName=trust;AccountKey=a2V5;TableEndpoint={nowhere};BlobEndpoint={nowhere};"
    );
    stage.settings.insert("AzureWebJobsStorage".to_owned(), storage);
    let hosted = Hosted::ready(&stage).await;
    let (status, log) = envelope(hosted.invoke(INVOCATION).await).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(log.starts_with("StorageFailed: "), "{log}");
    assert_eq!(stage.heartbeats()[0]["Status"], "StorageFailed");
    hosted.probe().await;
    hosted.kill().await;
}

#[tokio::test]
async fn of_two_invocations_at_once_one_runs() {
    let Some(stage) = deployed().await else { return };
    stage.clouds.defender.script().push([Hang]);
    let hosted = Hosted::ready(&stage).await;
    let second = async {
        within("the first runs", stage.clouds.defender.script().hung()).await;
        hosted.invoke_well("7c4a8c1e-92ad-4a57-a9bb-fdcb2d5dfb6c").await
    };
    tokio::select! {
        _ = hosted.invoke(INVOCATION) => panic!("it hangs"),
        log = second => assert_eq!(log, "a run is already under way; nothing started"),
    }
    hosted.kill().await;
    // The host starts it again; the instance's own claim is taken over.
    let hosted = Hosted::ready(&stage).await;
    assert!(hosted.invoke_well(INVOCATION).await.starts_with("Ok: 30 delivered"));
    hosted.kill().await;
}

#[tokio::test]
async fn a_caller_who_hangs_up_does_not_end_the_run() {
    let Some(stage) = deployed().await else { return };
    stage.clouds.defender.script().push([Pass]);
    let hosted = Hosted::ready(&stage).await;
    tokio::select! {
        _ = hosted.invoke(INVOCATION) => {}
        () = until("the run has begun", || !stage.clouds.defender.script().seen().is_empty()) => {}
    }
    until("the run ends all the same", || stage.heartbeats().len() == 1).await;
    assert_eq!(stage.delivered().len(), 30);
    hosted.kill().await;
}
