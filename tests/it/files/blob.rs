//! Files of a container, against Azurite.

use std::time::Duration;

use axum::Router;
use defender_alert_export::azure::blobs::Container;
use defender_alert_export::azure::credential::Credential;
use defender_alert_export::clock::Clock;
use defender_alert_export::config::{StorageAuth, StorageBlob, Target};
use defender_alert_export::error_chain::Chain;
use defender_alert_export::sandbox::managed_identity::ManagedIdentity;
use defender_alert_export::sandbox::script::{Fault, Script, listen};
use defender_alert_export::sink::Sink;
use serde_json::json;
use url::Url;
use uuid::Uuid;

use super::{clock, keys_in, lines, numbered, rows, sink, standing};
use crate::proxy::before;
use crate::sinks::{NOW, batch_of, quick, whole, words};
use crate::store::{access, azurite, storage};
use crate::world::at;

const FILE: &str = "Alerts/date=2026-11-21/hour=10/alerts.jsonl";

/// A container nobody else uses, as a target and as read by somebody else.
fn fresh(address: &Url) -> (StorageBlob, Container) {
    let (name, auth) = (format!("c{}", Uuid::new_v4().simple()), storage(address).auth);
    let container = Container::new(address, &auth, &name, access()).unwrap();
    let table = "Alerts".to_owned();
    (StorageBlob { service: address.clone(), auth, container: name, table }, container)
}

fn at_address(files: &StorageBlob, service: &Url) -> Target {
    Target::StorageBlob(StorageBlob { service: service.clone(), ..files.clone() })
}

/// With the hour of `clock`.
fn by(files: &StorageBlob, clock: &Clock) -> Sink {
    sink(&Target::StorageBlob(files.clone()), clock)
}

async fn held(container: &Container, name: &str) -> Vec<serde_json::Value> {
    lines(&container.get(name).await.unwrap().expect("a file"))
}

#[tokio::test]
async fn an_hour_is_one_file_and_a_row_is_one_line() {
    let Some(address) = azurite("AZURITE_BLOB") else { return };
    let (files, container) = fresh(&address);
    let clock = clock();
    let sink = by(&files, &clock);
    whole(&sink.deliver(rows(0..7, "a"), standing()).await.unwrap(), 7);
    clock.advance(Duration::from_mins(59));
    sink.deliver(rows(7..9, "b"), standing()).await.unwrap();
    clock.advance(Duration::from_mins(1));
    sink.deliver(rows(9..10, "c"), standing()).await.unwrap();

    let next = "Alerts/date=2026-11-21/hour=11/alerts.jsonl";
    assert_eq!(container.list("").await.unwrap(), [FILE, next]);
    let first = held(&container, FILE).await;
    assert_eq!(keys_in(&first), numbered(0..9));
    assert_eq!(first[3]["AlertTitle"], "café\nline two, \"x\"");
    assert_eq!(keys_in(&held(&container, next).await), numbered(9..10));
}

#[tokio::test]
async fn an_append_whose_answer_is_lost_is_there_once() {
    let Some(address) = azurite("AZURITE_BLOB") else { return };
    let (files, container) = fresh(&address);
    by(&files, &clock()).deliver(rows(0..2, "a"), standing()).await.unwrap();
    let script = Script::default();
    let (_proxy, behind) = before(&address, &script).await;
    let sink = sink(&at_address(&files, &behind), &clock());
    let page = || Fault::Answer { status: 200, headers: vec![], body: "<html>".to_owned() };
    // The look at the length, then the append.
    for faults in [
        vec![Fault::Pass, Fault::LoseAnswer],
        vec![Fault::LoseAnswer, Fault::Pass, Fault::LoseAnswer, Fault::LoseAnswer],
        vec![Fault::Pass, Fault::status(503), Fault::LoseAnswer],
        vec![Fault::Pass, Fault::status(500)],
        vec![page(), Fault::Pass, Fault::LoseAnswer],
    ] {
        let before = held(&container, FILE).await.len();
        script.push(faults.clone());
        sink.deliver(rows(10..13, "b"), standing()).await.unwrap();
        script.clear();
        assert_eq!(held(&container, FILE).await.len(), before + 3, "{faults:?}");
    }
}

#[tokio::test]
async fn many_who_append_to_one_hour_at_once_neither_tear_nor_double_a_line() {
    let Some(address) = azurite("AZURITE_BLOB") else { return };
    let (files, container) = fresh(&address);
    let instances = [by(&files, &clock()), by(&files, &clock())];
    let flights = (0..24).map(|n| {
        let sink = instances[n % 2].clone();
        tokio::spawn(async move { sink.deliver(rows(n * 5..n * 5 + 5, "a"), standing()).await })
    });
    for flight in flights.collect::<Vec<_>>() {
        whole_of(&flight.await.unwrap().unwrap());
    }
    assert_eq!(keys_in(&held(&container, FILE).await), numbered(0..120));
}

fn whole_of(delivered: &defender_alert_export::sink::delivery::Delivered) {
    assert_eq!((delivered.accepted.len(), delivered.refused.len()), (5, 0));
}

#[tokio::test]
async fn a_full_blob_is_left_and_the_hour_goes_on_in_the_next() {
    let Some(address) = azurite("AZURITE_BLOB") else { return };
    let (files, container) = fresh(&address);
    let script = Script::default();
    let (_proxy, behind) = before(&address, &script).await;
    let clock = clock();
    let sink = sink(&at_address(&files, &behind), &clock);
    sink.deliver(rows(0..1, "a"), standing()).await.unwrap();
    let full = || Fault::Answer {
        status: 409,
        headers: vec![("x-ms-error-code", "BlockCountExceedsLimit".to_owned())],
        body: String::new(),
    };
    script.push([Fault::Pass, full()]);
    sink.deliver(rows(1..2, "a"), standing()).await.unwrap();
    let seen = script.seen().len();
    sink.deliver(rows(2..3, "a"), standing()).await.unwrap();
    assert_eq!(script.seen().len() - seen, 2, "the full one is not asked again");
    clock.advance(Duration::from_hours(1));
    sink.deliver(rows(3..4, "a"), standing()).await.unwrap();

    let folder = "Alerts/date=2026-11-21/hour=10";
    let second = format!("{folder}/alerts-1.jsonl");
    let third = "Alerts/date=2026-11-21/hour=11/alerts.jsonl";
    assert_eq!(container.list("").await.unwrap(), [&second, FILE, third]);
    assert_eq!(keys_in(&held(&container, FILE).await), numbered(0..1));
    assert_eq!(keys_in(&held(&container, &second).await), numbered(1..3));
}

#[tokio::test]
async fn the_largest_alert_goes_whole() {
    let Some(address) = azurite("AZURITE_BLOB") else { return };
    let (files, container) = fresh(&address);
    let sink = by(&files, &clock());
    let pad = "x".repeat(16 * 1024 * 1024);
    let row = json!({ "ExportKey": "k", "Evidence": [pad] });
    assert!(sink.limits().largest_row() > row.to_string().len());
    sink.deliver(batch_of([(0, row.clone())]), standing()).await.unwrap();
    assert_eq!(held(&container, FILE).await, [row]);
}

#[tokio::test]
async fn a_refusal_says_what_to_do_and_blames_no_row() {
    let script = Script::default();
    let silent = listen(Router::new(), script.clone()).await.unwrap();
    let auth = storage(&silent.url).auth;
    let (container, table) = ("alerts".to_owned(), "Alerts".to_owned());
    let files = StorageBlob { service: silent.url.clone(), auth, container, table };
    let sink = by(&files, &clock());
    for (status, code, said) in [
        (403, "AuthenticationFailed", "connection string again into AzureWebJobsStorage"),
        (400, "InvalidHeaderValue", "FunctionConfigAlertBlobContainer"),
        (404, "ResourceNotFound", "FunctionConfigAlertBlobContainer"),
        (409, "InvalidBlobType", "that this app did not make"),
    ] {
        let headers = vec![("x-ms-error-code", code.to_owned())];
        script.push([Fault::Answer { status, headers, body: "secret".to_owned() }]);
        let failed = sink.deliver(rows(0..5, "a"), standing()).await.unwrap_err();
        let words = words(&failed);
        assert!(words.contains(said) && words.contains(&status.to_string()), "{words}");
        assert!(!words.contains("secret") && !words.contains("127.0.0.1"), "{words}");
        assert!(failed.refused.is_empty());
        assert_eq!((failed.requests, failed.accepted.len()), (1, 0));
    }
    script.push((0..9).map(|_| Fault::status(503)));
    let failed = sink.deliver(rows(0..5, "a"), standing()).await.unwrap_err();
    assert!(words(&failed).contains("gave up after 4 attempts"), "{}", words(&failed));
}

#[tokio::test]
async fn another_account_is_reached_by_the_apps_identity() {
    let clock = Clock::stopped_at(at(NOW));
    let identity = ManagedIdentity::start(clock.clone()).await.unwrap();
    let script = Script::default();
    let account = listen(Router::new(), script.clone()).await.unwrap();
    let target = Target::StorageBlob(StorageBlob {
        service: account.url.clone(),
        auth: StorageAuth::Identity,
        container: "alerts".to_owned(),
        table: "Alerts".to_owned(),
    });
    let credential = Credential::new(quick(), clock.clone(), Some(identity.endpoint()));
    let sink = Sink::alerts(&target, quick(), clock, credential).unwrap();
    let denied = || Fault::Answer {
        status: 403,
        headers: vec![("x-ms-error-code", "AuthorizationPermissionMismatch".to_owned())],
        body: String::new(),
    };
    script.push([denied()]);
    let failed = sink.deliver(rows(0..1, "a"), standing()).await.unwrap_err();
    assert!(words(&failed).contains("Storage Blob Data Contributor"), "{}", words(&failed));
    let asked = identity.script.seen();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].target.contains("resource=https%3A%2F%2Fstorage.azure.com"), "{asked:?}");
    let mut young = standing();
    young.deployed_at = at(NOW);
    script.push([denied(), denied(), denied(), denied()]);
    let failed = sink.deliver(rows(0..1, "a"), young).await.unwrap_err();
    assert!(failed.advice.message.contains("up to 30 minutes"), "{:?}", failed.advice);
}

#[test]
fn a_key_that_is_no_key_is_said_before_anything_is_sent() {
    let auth = StorageAuth::SharedKey { account: "trust".to_owned(), key: "no base64!".into() };
    let service = Url::parse("https://trust.blob.core.windows.net/").unwrap();
    let (container, table) = ("alerts".to_owned(), "Alerts".to_owned());
    let target = Target::StorageBlob(StorageBlob { service, auth, container, table });
    let clock = clock();
    let credential = Credential::new(quick(), clock.clone(), None);
    let error = Sink::alerts(&target, quick(), clock, credential).unwrap_err();
    assert!(Chain(&error).to_string().contains("copy the connection string"), "{}", Chain(&error));
}
