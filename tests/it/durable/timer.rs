//! The whole way: the timer reads the sign-in from the entity at the address
//! that its invocation brings, and renews it there.

use std::time::Duration;

use defender_alert_export::clock::Clock;
use defender_alert_export::config::{Config, Vars};
use defender_alert_export::domain::heartbeat::Status;
use defender_alert_export::durable::{Cell, Durable, Patience, Sidecar};
use defender_alert_export::host::Runs;
use defender_alert_export::http::{self, Http};
use defender_alert_export::identity::{DEFENDER_AUDIENCE, Identity};
use defender_alert_export::sandbox::clouds::{ACCOUNT, ACCOUNT_ID, CLIENT, Clouds, GROUP, TABLE};
use defender_alert_export::sandbox::sample;
use futures_util::FutureExt as _;

use super::functions::{Program, drive, post};
use super::hub::Hub;
use super::{KEY, retry, told};
use crate::handler::{Handler, TIMER, reported};

/// The host's own body, with the hub's address in it.
fn timer(url: &str) -> String {
    TIMER.replace("http://localhost:4001", url)
}

#[tokio::test]
async fn each_invocation_says_anew_where_the_extension_is() {
    let sidecar = Sidecar::in_host(retry());
    let patience = Patience { confirm: Duration::from_secs(5), look: Duration::from_millis(2) };
    let reading = Cell::new(sidecar.clone(), KEY, patience);
    let runs = Runs::new(move |run| {
        let reading = reading.clone();
        async move {
            let read = reading.read().await;
            reported(run, if read.is_ok() { Status::Ok } else { Status::StorageFailed })
        }
        .boxed()
    });
    let handler =
        Handler::with(runs, Durable { sidecar, key: Some(KEY), clock: Clock::System }).await;
    for _ in 0..2 {
        let hub = Hub::default();
        let (url, server) = hub.listen().await;
        assert_eq!(handler.invoke(timer(&url)).await.status(), 200);
        // Without an address, the last one serves.
        assert_eq!(handler.invoke("").await.status(), 200);
        hub.with(|hub| hub.down = true);
        assert_eq!(handler.invoke(timer(&url)).await.status(), 500);
        server.abort();
    }
}

#[tokio::test]
async fn the_program_exports_with_the_sign_in_that_the_entity_keeps() {
    let Some(storage) = crate::store::connection() else { return };
    let clouds = Clouds::start(Clock::stopped_at(Clock::System.now())).await.unwrap();
    let mut settings = clouds.settings();
    settings.push(("AzureWebJobsStorage".to_owned(), storage));
    settings.push(("FunctionConfigSessionStore".to_owned(), "Entity".to_owned()));
    let table = format!("t{}", uuid::Uuid::new_v4().simple());
    settings.push(("FunctionConfigStorageTable".to_owned(), table));

    let hub = Hub::default();
    let (url, server) = hub.listen().await;
    let program = Program::start(&settings).await;
    let turns = {
        let (hub, url) = (hub.clone(), program.url.clone());
        tokio::spawn(async move { drive(&hub, &url).await })
    };

    // As the portal does it.
    let config = Config::load(&Vars::map(settings.clone())).unwrap();
    let patience = Patience { confirm: Duration::from_secs(20), look: Duration::from_millis(2) };
    let identity = Identity::new(
        Http::new(http::client().unwrap(), retry()),
        clouds.clock.clone(),
        &config.identity,
        DEFENDER_AUDIENCE,
        Cell::new(told(&url), CLIENT, patience),
    )
    .unwrap();
    identity.start("jane").await.unwrap();
    clouds.entra.approve(ACCOUNT, ACCOUNT_ID);
    clouds.clock.advance(Duration::from_secs(5));
    assert!(identity.poll().await.unwrap().working().is_some());

    let seen = clouds.clock.now() - Duration::from_mins(3);
    clouds.defender.add([sample::alert(1, GROUP, seen)]);
    let client = http::client().unwrap();
    let timer_url = format!("{}/timer_export", program.url);
    let envelope = post(&client, &timer_url, timer(&url)).await.expect("a run that did its duty");
    let log = envelope["Logs"][0].as_str().unwrap();
    assert!(log.starts_with("Ok: 1 delivered"), "{log}");
    assert_eq!(clouds.monitor.tables.rows(TABLE).len(), 1);

    let whole = hub.with(|hub| format!("{:?}", hub.entities.values().next().unwrap().state));
    for secret in clouds.entra.tokens.secrets() {
        assert!(!whole.contains(&secret), "no token lies open in the entity");
    }
    turns.abort();
    server.abort();
}
