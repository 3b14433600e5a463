//! The Functions host's part: it starts the program, carries turns to it, and
//! applies its own rules to the answers.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use defender_alert_export::http;
use defender_alert_export::http::retry::pause;
use futures_util::stream;
use reqwest::{Body, Client};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::hub::{Hub, Work};

/// The program, started as the host starts it. Killed when dropped.
pub(crate) struct Program {
    pub(crate) url: String,
    child: Child,
}

impl Program {
    pub(crate) async fn start(settings: &[(String, String)]) -> Self {
        let port =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let child = Command::new(env!("CARGO_BIN_EXE_defender-alert-export"))
            .arg("serve")
            .env_clear()
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let url = format!("http://127.0.0.1:{port}");
        let client = http::client().unwrap();
        // 30 s, every 25 ms, as the host does.
        for _ in 0..1_200 {
            if client.get(&url).send().await.is_ok() {
                return Self { url, child };
            }
            pause(Duration::from_millis(25)).await;
        }
        panic!("the program did not answer within 30 s");
    }

    /// SIGKILL.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// The host takes an end with 0 for none, and starts nothing again.
    pub(crate) fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

/// Carries one turn to the function; `None` if the host counts it as failed.
pub(crate) async fn carry(client: &Client, url: &str, work: &Work) -> Option<Vec<u8>> {
    let function = work.function();
    let context = Value::String(STANDARD.encode(work.bytes())).to_string();
    let body = json!({
        "Data": {"context": context},
        "Metadata": {"sys": {"MethodName": function, "UtcNow": "2026-11-21T05:15:00.1234567Z"}},
    });
    let answer = post(client, &format!("{url}/{function}"), body.to_string()).await?;
    Some(STANDARD.decode(answer["ReturnValue"].as_str().unwrap()).unwrap())
}

/// Posts in pieces, as the host does, and reads the envelope.
pub(crate) async fn post(client: &Client, url: &str, body: String) -> Option<Value> {
    let pieces: Vec<_> =
        body.into_bytes().chunks(700).map(|piece| Ok::<_, io::Error>(piece.to_vec())).collect();
    let request = client
        .post(url)
        .header("X-Azure-Functions-InvocationId", "6b3f7b0e-92ad-4a57-a9bb-fdcb2d5dfb6c")
        .header("X-Azure-Functions-HostVersion", "4.1037.0.0")
        .header("User-Agent", "Azure-Functions-Host/4.1037.0.0")
        .header("Content-Type", "application/json; charset=utf-8")
        .body(Body::wrap_stream(stream::iter(pieces)));
    let answer = request.send().await.ok()?;
    if !answer.status().is_success() {
        return None;
    }
    assert_eq!(answer.headers()["content-type"], "application/json");
    let envelope: Value = serde_json::from_slice(&answer.bytes().await.ok()?).unwrap();
    assert!(envelope.is_object(), "the host would wait for ever");
    assert_eq!(envelope["Outputs"], json!({}));
    Some(envelope)
}

/// Takes turns for as long as it is polled.
pub(crate) async fn drive(hub: &Hub, url: &str) {
    let client = http::client().unwrap();
    loop {
        while let Some(work) = hub.next() {
            let answer = carry(&client, url, &work).await;
            hub.apply(work, answer.as_deref());
        }
        pause(Duration::from_millis(1)).await;
    }
}
