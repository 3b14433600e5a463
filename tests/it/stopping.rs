//! Stopping loses nothing, and never takes longer than the host waits.

use std::time::Duration;

use defender_alert_export::domain::heartbeat::Status;
use defender_alert_export::host::{self, Ended, Stopped};
use reqwest::StatusCode;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::Instant;
use uuid::Uuid;

use crate::handler::{Handler, envelope, one_held_run, runs_ending};

#[tokio::test]
async fn a_run_under_way_is_ended_and_answered_for_before_the_process_stops() {
    let (runs, has_started, let_go) = one_held_run();
    let Handler { url, client, stop, server } = Handler::start(runs.clone()).await;
    let request = client.post(format!("{url}/timer_export")).send();
    let rest = async {
        has_started.await.unwrap();
        stop.send(()).unwrap();
        while TcpStream::connect(url.trim_start_matches("http://")).await.is_ok() {
            tokio::task::yield_now().await;
        }
        let_go.send(()).unwrap();
    };
    let (answer, ()) = tokio::join!(request, rest);
    assert_eq!(envelope(answer.unwrap()).await.0, StatusCode::OK);
    assert_eq!(server.await.unwrap(), Stopped::Idle);
    assert!(matches!(runs.run(Uuid::nil()).await, Ended::Refused), "no run starts any more");
}

#[tokio::test]
async fn stopping_waits_for_a_run_whose_caller_is_gone() {
    let (runs, has_started, let_go) = one_held_run();
    let handler = Handler::start(runs.clone()).await;
    let run = tokio::spawn(async move { runs.run(Uuid::nil()).await });
    has_started.await.unwrap();
    run.abort();
    handler.stop.send(()).unwrap();
    tokio::task::yield_now().await;
    let_go.send(()).unwrap();
    assert_eq!(handler.server.await.unwrap(), Stopped::Idle);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_does_not_end_is_abandoned_before_the_host_kills() {
    let (runs, has_started, _never) = one_held_run();
    let handler = Handler::start(runs.clone()).await;
    let run = tokio::spawn(async move { runs.run(Uuid::nil()).await });
    has_started.await.unwrap();
    let asked = Instant::now();
    handler.stop.send(()).unwrap();
    assert_eq!(handler.server.await.unwrap(), Stopped::RunAbandoned);
    assert_eq!(asked.elapsed().as_secs(), 8);
    run.abort();
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_does_not_hang_up_holds_nothing_back() {
    let (runs, _started) = runs_ending(Status::Ok);
    let handler = Handler::start(runs).await;
    let address = handler.url.trim_start_matches("http://");
    let mut caller = TcpStream::connect(address).await.unwrap();
    let begun = b"POST /timer_export HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nbegun";
    caller.write_all(begun).await.unwrap();
    tokio::time::advance(Duration::from_millis(1)).await;
    handler.stop.send(()).unwrap();
    assert_eq!(handler.server.await.unwrap(), Stopped::Idle);
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error_that_names_it() {
    let taken = host::bind(0).await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = host::bind(port).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on 127.0.0.1:{port}"));
    assert!(taken.local_addr().unwrap().ip().is_loopback());
}
