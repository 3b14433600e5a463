//! The Functions host's side of the contract, over a real socket.

use std::fs;
use std::future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use defender_alert_export::app::{self, FaultyPortal};
use defender_alert_export::config::Vars;
use defender_alert_export::domain::advice::Advice;
use defender_alert_export::domain::heartbeat::{Status, Unsent};
use defender_alert_export::host::Runs;
use defender_alert_export::pipeline::Ended;
use futures_util::stream;
use reqwest::{Body, Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::handler::{
    Handler, INVOCATION, Log, TIMER, envelope, no_durable, one_held_run, reported, runs_ending,
    runs_setting_aside,
};

#[tokio::test]
async fn the_host_finds_the_handler_ready() {
    let (runs, mut started) = runs_ending(Status::Ok);
    let handler = Handler::start(runs).await;
    let answer = handler.client.get(&handler.url).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(started.try_recv().is_err(), "a probe starts no run");
}

#[tokio::test]
async fn a_timer_starts_one_run_under_the_hosts_own_id() {
    let (runs, mut started) = runs_ending(Status::Ok);
    let handler = Handler::start(runs).await;
    let answer = envelope(handler.invoke(TIMER).await).await;
    let log = "Ok: 5 delivered, 4 already delivered, 3 withheld, 2 set aside in 70 ms. What happened. What to do.";
    assert_eq!(answer, (StatusCode::OK, log.to_owned()));
    assert_eq!(started.recv().await.unwrap().to_string(), INVOCATION);
    assert!(started.try_recv().is_err());
}

#[tokio::test]
async fn a_run_without_a_usable_id_gets_one_of_its_own() {
    let (runs, mut started) = runs_ending(Status::Ok);
    let handler = Handler::start(runs).await;
    let url = format!("{}/timer_export", handler.url);
    let mut ids = Vec::new();
    for id in ["", "not-a-guid", &"x".repeat(4_000)] {
        let request = handler.client.post(&url).header("X-Azure-Functions-InvocationId", id);
        assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
        ids.push(started.recv().await.unwrap());
    }
    assert_eq!(handler.client.post(&url).send().await.unwrap().status(), StatusCode::OK);
    ids.push(started.recv().await.unwrap());
    assert!(ids.iter().all(|id| id.get_version_num() == 4));
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4);
}

#[tokio::test]
async fn the_host_is_told_failure_only_when_the_run_did_not_do_its_duty() {
    for (status, code) in [
        (Status::Ok, 200),
        (Status::CatchingUp, 200),
        (Status::SignInNeeded, 200),
        (Status::SignInExpiring, 200),
        (Status::ScopeViolation, 200),
        (Status::SourceThrottled, 200),
        (Status::Halted, 500),
        (Status::SourceFailed, 500),
        (Status::SinkFailed, 500),
        (Status::StorageFailed, 500),
        (Status::ConfigInvalid, 500),
    ] {
        let (runs, _started) = runs_ending(status);
        let handler = Handler::start(runs).await;
        let (answered, log) = envelope(handler.invoke(TIMER).await).await;
        assert_eq!(answered.as_u16(), code, "{status:?}");
        assert!(log.starts_with(&format!("{status:?}: ")), "{log}");
    }
}

#[tokio::test]
async fn a_run_says_once_how_it_ended_and_never_who_is_signed_in() {
    for (status, aside, level, text) in [
        (Status::Ok, 0, "INFO", "run done"),
        (Status::Ok, 1, "WARN", "run done; it set alerts aside"),
        (Status::CatchingUp, 0, "INFO", "run done"),
        (Status::CatchingUp, 2, "WARN", "run done; it set alerts aside"),
        (Status::SignInNeeded, 0, "WARN", "run done; it needs attention"),
        (Status::SinkFailed, 2, "ERROR", "run failed"),
        (Status::ConfigInvalid, 0, "ERROR", "run failed"),
    ] {
        let (log, _listening) = Log::listen(3);
        let (runs, _started) = runs_setting_aside(aside, status);
        let handler = Handler::start(runs).await;
        handler.invoke(TIMER).await;
        let text = format!(
            " {text} run.status={status:?} run.message=\"What happened.\" run.next_step=\"What to do.\" \
             alerts.fetched=0 alerts.delivered=5 alerts.duplicates=4 alerts.withheld=3 \
             alerts.quarantined={aside} source.calls=0 lag_seconds=60 duration_ms=70 invocation.id={INVOCATION}\n"
        );
        let log = log.text();
        assert_eq!(log.lines().count(), 1, "{log}");
        assert!(log.starts_with(level) && log.ends_with(&text), "{log}");
    }
}

#[tokio::test]
async fn heartbeats_that_could_not_be_sent_are_in_the_log_with_reason_and_next_step() {
    let (log, _listening) = Log::listen(3);
    let runs = Runs::new(|run| {
        let advice = Advice::new("The rule lets nobody in.", "Give it the role.");
        let unsent = Some(Box::new(Unsent { count: 4, advice }));
        let Ended::Reported(heartbeat, _) = reported(run, Status::Ok) else { panic!("reported") };
        Box::pin(future::ready(Ended::Reported(heartbeat, unsent)))
    });
    let handler = Handler::start(runs).await;
    let (_, said) = envelope(handler.invoke(TIMER).await).await;
    let end = "4 heartbeats wait to be sent, so monitoring does not hear of this app; every run tries them again. The rule lets nobody in. Give it the role.";
    assert!(said.ends_with(end), "{said}");
    let log = log.text();
    for part in ["ERROR", "heartbeats=4", "The rule lets nobody in.", "Give it the role."] {
        assert!(log.contains(part), "{part}: {log}");
    }
}

#[tokio::test]
async fn every_line_of_a_run_carries_the_invocation_at_every_level() {
    for level in 1..=5 {
        let (log, _listening) = Log::listen(level);
        let runs = Runs::new(|run| {
            Box::pin(async move {
                tokio::task::yield_now().await;
                tracing::error!("inside");
                reported(run, Status::SinkFailed)
            })
        });
        let handler = Handler::start(runs).await;
        handler.invoke("garbage").await;
        let log = log.text();
        let inside = format!(" inside invocation.id={INVOCATION}\n");
        assert!(log.contains(&inside), "{log}");
        let with_id = log.matches(INVOCATION).count();
        assert_eq!(with_id, log.lines().count(), "{log}");
    }
}

#[tokio::test]
async fn every_line_of_every_other_address_carries_the_invocation_too() {
    let vars = Vars::map([("FunctionConfigTrustName", "RXX")]);
    let (runs, _) = runs_ending(Status::Ok);
    let portal = FaultyPortal::of_error(&vars, "anything".to_owned());
    let router = app::router(runs.clone(), portal, no_durable());
    let handler = Handler::serve(router, runs).await;
    for (path, said) in [
        ("entity_state", "operations of the entity could not be read"),
        ("orchestrator", "the history of an orchestration could not be read"),
        ("api/portal/sign-in", "a button press without this page's token was refused"),
        ("no_such_function", "the host called a function that this program does not have"),
    ] {
        let (log, _listening) = Log::listen(3);
        let url = format!("{}/{path}", handler.url);
        let request = handler.client.post(url).header("X-Azure-Functions-InvocationId", INVOCATION);
        request.send().await.unwrap();
        let log = log.text();
        assert!(log.contains(said), "{log}");
        let with_id = log.matches(&format!(" invocation.id={INVOCATION}\n")).count();
        assert_eq!(with_id, log.lines().count(), "{log}");
    }
}

#[tokio::test]
async fn a_large_request_arrives_in_pieces_and_the_run_takes_place() {
    let (log, _listening) = Log::listen(3);
    let (runs, mut started) = runs_ending(Status::Ok);
    let handler = Handler::start(runs).await;
    let text =
        format!(r#"{{"Data":{{"timer":{{"IsPastDue":true}},"pad":"{}"}}}}"#, "x".repeat(5_000_000));
    let pieces: Vec<_> =
        text.into_bytes().chunks(8_000).map(|piece| Ok::<_, io::Error>(piece.to_vec())).collect();
    let body = Body::wrap_stream(stream::iter(pieces));
    assert_eq!(envelope(handler.invoke(body).await).await.0, StatusCode::OK);
    assert!(started.try_recv().is_ok());
    assert!(log.text().contains("this run is late"), "read to its end: {}", log.text());
}

#[tokio::test]
async fn a_request_beyond_all_bounds_is_read_off_and_the_run_takes_place() {
    let (log, _listening) = Log::listen(3);
    let (runs, mut started) = runs_ending(Status::Ok);
    let handler = Handler::start(runs).await;
    let mut caller = TcpStream::connect(handler.url.trim_start_matches("http://")).await.unwrap();
    let length = 70 * 1024 * 1024;
    let head =
        format!("POST /timer_export HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
    caller.write_all(head.as_bytes()).await.unwrap();
    // Whole before it looks for an answer, as the host does.
    caller.write_all(&vec![b' '; length]).await.unwrap();
    let mut answer = [0; 15];
    caller.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    assert!(started.try_recv().is_ok());
    assert!(log.text().contains("malformed=\"larger than 64 MiB\""), "{}", log.text());
}

#[tokio::test]
async fn a_request_that_makes_no_sense_still_means_go() {
    let (log, _listening) = Log::listen(3);
    let (runs, mut started) = runs_ending(Status::Ok);
    let handler = Handler::start(runs).await;
    let url = format!("{}/timer_export", handler.url);
    for (kind, body, said) in [
        ("application/json", "", "malformed=empty"),
        ("application/json", "null", "malformed=\"without Data\""),
        ("application/json", "{\"Data\":{\"client\":\"hunter2", "malformed=\"not JSON\""),
        ("text/html", "<p>hunter2</p>", "malformed=\"not JSON\""),
        ("application/octet-stream", "\u{0}\u{1}\u{2}", "malformed=\"not JSON\""),
        ("no/such;type=;;", "\"hunter2\"", "malformed=\"without Data\""),
    ] {
        let request = handler.client.post(&url).header("Content-Type", kind).body(body);
        assert_eq!(envelope(request.send().await.unwrap()).await.0, StatusCode::OK, "{body}");
        assert!(started.try_recv().is_ok(), "{body}");
        let log = std::mem::take(&mut *log.0.lock().unwrap());
        let log = String::from_utf8(log).unwrap();
        assert!(log.contains(said), "{log}");
        assert!(!log.contains("hunter2"), "{log}");
    }
}

#[tokio::test]
async fn a_timer_of_another_content_type_is_understood_all_the_same() {
    let (log, _listening) = Log::listen(3);
    let (runs, _started) = runs_ending(Status::Ok);
    let handler = Handler::start(runs).await;
    let url = format!("{}/timer_export", handler.url);
    for late in [
        r#"{"data":{"Timer":"{\"isPastDue\":true}"}}"#,
        r#"{"Data":{"timer":"\"{\\\"IsPastDue\\\":true}\""}}"#,
    ] {
        handler
            .client
            .post(&url)
            .header("Content-Type", "text/plain")
            .body(late)
            .send()
            .await
            .unwrap();
    }
    let log = log.text();
    assert_eq!(log.matches("this run is late").count(), 2, "{log}");
    assert!(!log.contains("malformed"), "{log}");
}

#[tokio::test]
async fn of_two_invocations_at_once_one_runs_and_the_other_says_so() {
    let (runs, has_started, let_go) = one_held_run();
    let handler = Handler::start(runs).await;
    let first = async {
        has_started.await.unwrap();
        let second = envelope(handler.invoke(TIMER).await).await;
        assert_eq!(
            second,
            (StatusCode::OK, "a run is already under way; nothing started".to_owned())
        );
        let_go.send(()).unwrap();
    };
    let (answer, ()) = tokio::join!(handler.invoke(TIMER), first);
    assert!(envelope(answer).await.1.starts_with("Ok: "));
}

#[tokio::test]
async fn a_run_that_crashes_takes_nothing_with_it() {
    let (log, _listening) = Log::listen(3);
    let crash = Mutex::new(vec![true, false, true, false]);
    let runs = Runs::new(move |run| {
        let crash = crash.lock().unwrap().pop().unwrap();
        Box::pin(async move {
            assert!(!crash, "alert of J. Smith");
            reported(run, Status::Ok)
        })
    });
    let handler = Handler::start(runs).await;
    for expected in [200, 500, 200, 500] {
        let (status, _) = envelope(handler.invoke(TIMER).await).await;
        assert_eq!(status.as_u16(), expected);
    }
    let log = log.text();
    assert_eq!(log.matches("the run crashed").count(), 2, "{log}");
    assert!(!log.contains("Smith"), "{log}");
}

#[tokio::test]
async fn a_run_that_crashes_before_its_first_step_is_caught_too() {
    let runs = Runs::new(|_| panic!("at once"));
    let handler = Handler::start(runs).await;
    for _ in 0..2 {
        assert_eq!(
            envelope(handler.invoke(TIMER).await).await,
            (StatusCode::INTERNAL_SERVER_ERROR, "the run crashed".to_owned())
        );
    }
}

#[tokio::test]
async fn a_run_goes_on_when_the_host_hangs_up() {
    let (ended, has_ended) = oneshot::channel();
    let ended = Mutex::new(Some(ended));
    let (let_go, gate) = oneshot::channel::<()>();
    let gate = Mutex::new(Some(gate));
    let (started, has_started) = oneshot::channel();
    let started = Mutex::new(Some(started));
    let runs = Runs::new(move |run| {
        let ended = ended.lock().unwrap().take().unwrap();
        let gate = gate.lock().unwrap().take().unwrap();
        started.lock().unwrap().take().unwrap().send(()).unwrap();
        Box::pin(async move {
            gate.await.unwrap();
            ended.send(()).unwrap();
            reported(run, Status::Ok)
        })
    });
    let handler = Handler::start(runs).await;
    tokio::select! {
        _ = handler.invoke(TIMER) => panic!("answered before the run ended"),
        started = has_started => started.unwrap(),
    }
    let_go.send(()).unwrap();
    has_ended.await.unwrap();
}

#[tokio::test]
async fn what_is_not_there_is_answered_in_the_hosts_own_form() {
    let (runs, mut started) = runs_ending(Status::Ok);
    let handler = Handler::start(runs).await;
    for (method, path, expected) in [
        (Method::POST, "/no_such_function", 404),
        (Method::POST, "/timer_export/more", 404),
        (Method::POST, "/api/timer_export", 404),
        (Method::GET, "/timer_export", 405),
        (Method::POST, "/", 405),
    ] {
        let request = handler.client.request(method, format!("{}{path}", handler.url));
        let (status, _) = envelope(request.send().await.unwrap()).await;
        assert_eq!(status.as_u16(), expected, "{path}");
    }
    assert!(started.try_recv().is_err());
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn read_json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Folders beside host.json that hold a function.json, as the host finds them,
/// with the bindings.
fn function_folders() -> Vec<(String, Vec<Value>)> {
    let mut folders: Vec<_> = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|folder| folder.join("function.json").exists())
        .map(|folder| {
            let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
            let bindings = read_json(&folder.join("function.json"))["bindings"].take();
            (name, serde_json::from_value(bindings).unwrap())
        })
        .collect();
    folders.sort_by(|a, b| a.0.cmp(&b.0));
    folders
}

#[tokio::test]
async fn every_function_folder_has_a_route() {
    let (runs, _started) = runs_ending(Status::Ok);
    let portal = FaultyPortal::of_error(&Vars::map([("", "")]), String::new());
    let handler =
        Handler::serve(app::router(runs.clone(), portal, crate::handler::no_durable()), runs).await;
    let folders = function_folders();
    assert!(folders.iter().any(|(name, _)| name == "timer_export"));
    assert!(folders.iter().any(|(name, _)| name == "portal"));
    for (name, bindings) in folders {
        // Only a function of one http trigger and one http output is forwarded,
        // under its own path; the host posts every other to its name.
        let trigger = bindings.iter().find(|it| it["type"] == "httpTrigger");
        let request = match trigger.and_then(|it| it["route"].as_str()) {
            Some(route) => {
                assert_eq!(bindings.len(), 2, "{name}");
                let path = route.split("/{").next().unwrap();
                handler.client.get(format!("{}/api/{path}", handler.url))
            }
            None => handler.client.post(format!("{}/{name}", handler.url)),
        };
        assert_ne!(request.send().await.unwrap().status(), StatusCode::NOT_FOUND, "{name}");
    }
}

#[test]
fn the_timer_follows_the_deployments_own_schedule_and_nothing_else() {
    let function = read_json(&root().join("timer_export/function.json"));
    let expected = json!({"bindings": [
        {
            "type": "timerTrigger",
            "name": "timer",
            "direction": "in",
            "schedule": "%FunctionConfigTimerSchedule%",
            "useMonitor": true,
            "runOnStartup": false,
        },
        { "type": "durableClient", "name": "client", "direction": "in" },
    ]});
    assert_eq!(function, expected);
}

#[test]
fn the_host_starts_this_program_and_keeps_every_line() {
    let host = read_json(&root().join("host.json"));
    let handler = &host["customHandler"];
    assert_eq!(handler["description"]["defaultExecutablePath"], env!("CARGO_PKG_NAME"));
    assert_eq!(handler["description"]["arguments"], json!(["serve"]));
    assert_eq!(handler["enableForwardingHttpRequest"], true);
    assert_eq!(host["version"], "2.0");
    assert_eq!(host["extensionBundle"]["version"], "[4.*, 5.0.0)");
    let sampling = &host["logging"]["applicationInsights"]["samplingSettings"];
    assert_eq!(sampling["excludedTypes"], "Request;Trace;Exception");
}
