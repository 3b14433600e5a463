//! What a read or a write comes to when its answer is lost, late or garbage.

use axum::Router;
use bytes::Bytes;
use defender_alert_export::azure::credential::Credential;
use defender_alert_export::azure::storage::Access;
use defender_alert_export::clock::Clock;
use defender_alert_export::config::{ManagedIdentityEndpoint, Storage, StorageAuth};
use defender_alert_export::error_chain::Chain;
use defender_alert_export::sandbox::script::{Fault, Listening, Script, listen};
use defender_alert_export::store::{
    BlobError, Blobs, Change, Fields, Store, StoreError, Table, Value,
};
use url::Url;

use super::{access, azurite, blobs, container, named_container, named_table, storage, table};
use crate::proxy::before;

fn text(text: &str) -> Fields {
    Fields::from([("text".to_owned(), Value::Text(text.to_owned()))])
}

fn insert(key: &str, held: &str) -> Change {
    Change::write(key, None, text(held))
}

async fn held(store: &Store, key: &str) -> Option<Fields> {
    store.get(key).await.unwrap().map(|row| row.fields)
}

/// Each kind of write, given the row `old` as it stands.
async fn writes(store: &Store, round: &str) -> Vec<Vec<Change>> {
    let key = |name: &str| format!("{name}{round}");
    let olds = [insert(&key("replaced"), "old"), insert(&key("deleted"), "old")];
    let replaced = store.commit(&olds).await.unwrap().remove(0);
    let olds = [insert(&key("replaced2"), "old"), insert(&key("deleted2"), "old")];
    let both = store.commit(&olds).await.unwrap();
    let deleted = store.get(&key("deleted")).await.unwrap().unwrap().etag;
    vec![
        vec![insert(&key("inserted"), "new")],
        vec![Change::write(key("replaced"), replaced, text("new"))],
        vec![Change::Delete { key: key("deleted"), etag: deleted }],
        vec![
            insert(&key("inserted2"), "new"),
            Change::write(key("replaced2"), both[0].clone(), text("new")),
            Change::Delete { key: key("deleted2"), etag: both[1].clone().unwrap() },
        ],
    ]
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_done_once_and_known_to_be() {
    let Some(emulator) = azurite("AZURITE_TABLE") else { return };
    let (direct, name) = table(&emulator);
    let script = Script::default();
    let (_proxy, address) = before(&emulator, &script).await;
    let store = named_table(&address, &name);
    let busy = || Fault::status(503);
    let faults = [vec![Fault::LoseAnswer], vec![busy(), Fault::LoseAnswer], vec![busy(), busy()]];
    for (round, faults) in faults.into_iter().enumerate() {
        for changes in writes(&direct, &round.to_string()).await {
            script.push(faults.clone());
            let versions = store.commit(&changes).await.unwrap();
            for (change, version) in changes.iter().zip(versions) {
                let row = direct.get(change.key()).await.unwrap();
                assert_eq!(row.as_ref().map(|row| &row.fields), change.fields());
                assert_eq!(row.map(|row| row.etag), version, "{}", change.key());
            }
        }
    }
}

#[tokio::test]
async fn a_write_somebody_else_did_meanwhile_is_not_taken_for_ours() {
    let Some(emulator) = azurite("AZURITE_TABLE") else { return };
    let (direct, name) = table(&emulator);
    let script = Script::default();
    let (_proxy, address) = before(&emulator, &script).await;
    let store = named_table(&address, &name);

    // Ours never arrived; theirs holds something else, in the second row only.
    let theirs = [insert("first", "same"), insert("second", "theirs")];
    direct.commit(&theirs).await.unwrap();
    script.push([Fault::status(500)]);
    let ours = [insert("first", "same"), insert("second", "ours")];
    let result = store.commit(&ours).await;
    assert!(matches!(result, Err(StoreError::Conflict)), "{result:?}");
    assert_eq!(held(&direct, "second").await, Some(text("theirs")));

    // Without a doubt a conflict is a conflict, whatever the row holds.
    let result = store.commit(&theirs[..1]).await;
    assert!(matches!(result, Err(StoreError::Conflict)), "{result:?}");
    script.push([Fault::throttled(0)]);
    let result = store.commit(&theirs[..1]).await;
    assert!(matches!(result, Err(StoreError::Conflict)), "429 is an answer: {result:?}");
}

#[tokio::test]
async fn a_write_answered_with_garbage_is_looked_into() {
    let Some(emulator) = azurite("AZURITE_TABLE") else { return };
    let (direct, name) = table(&emulator);
    let script = Script::default();
    let (_proxy, address) = before(&emulator, &script).await;
    let store = named_table(&address, &name);
    direct.commit(&[insert("there", "x")]).await.unwrap();
    let page = || Fault::Answer { status: 200, headers: vec![], body: "<html>".to_owned() };

    script.push([page()]);
    let result = store.commit(&[insert("lost", "x")]).await;
    assert_eq!(result.unwrap_err().to_string(), "the state storage answered 200 UnreadableAnswer");
    assert_eq!(held(&direct, "lost").await, None);
    script.push([page()]);
    assert!(store.commit(&[insert("there", "x")]).await.is_ok(), "it holds what was asked for");
}

#[tokio::test]
async fn a_lost_read_is_read_again() {
    let Some(emulator) = azurite("AZURITE_TABLE") else { return };
    let (direct, name) = table(&emulator);
    let script = Script::default();
    let (_proxy, address) = before(&emulator, &script).await;
    let store = named_table(&address, &name);
    direct.commit(&[insert("there", "x")]).await.unwrap();
    script.push([Fault::CutAfter(10), Fault::status(503)]);
    assert_eq!(held(&store, "there").await, Some(text("x")));
    script.push([Fault::CutAfter(10), Fault::LoseAnswer]);
    assert_eq!(store.scan("a", "z").await.unwrap().len(), 1);
    script.push([Fault::LoseAnswer, Fault::LoseAnswer, Fault::LoseAnswer]);
    let error = store.get("there").await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable(_)), "{error:?}");
    assert!(!Chain(&error).to_string().contains("127.0.0.1"), "{}", Chain(&error));
}

/// A service that says only what the script says.
async fn scripted(script: &Script) -> (Listening, Store, Blobs) {
    let silent = listen(Router::new(), script.clone()).await.unwrap();
    let storage = storage(&silent.url);
    let store = Store::Table(Table::new(&storage, "state", access()).unwrap());
    let blobs = blobs(&storage, "logs", access());
    (silent, store, blobs)
}

fn says(status: u16, code: &str) -> Fault {
    let body = format!(r#"{{"odata.error":{{"code":"{code}","message":{{"value":"secret"}}}}}}"#);
    let headers = vec![("x-ms-error-code", code.to_owned())];
    Fault::Answer { status, headers, body }
}

#[tokio::test]
async fn a_missing_right_is_told_by_its_code_and_not_tried_again() {
    let script = Script::default();
    let (_silent, store, blobs) = scripted(&script).await;
    script.push([says(403, "AuthorizationPermissionMismatch")]);
    assert_eq!(
        Chain(&store.commit(&[insert("a", "x")]).await.unwrap_err()).to_string(),
        "the state storage answered 403 AuthorizationPermissionMismatch"
    );
    script.push([says(403, "AuthorizationPermissionMismatch")]);
    assert!(store.get("a").await.is_err());
    script.push([says(403, "AuthorizationPermissionMismatch")]);
    assert!(store.scan("a", "b").await.is_err());
    script.push([says(403, "AuthorizationPermissionMismatch")]);
    assert_eq!(
        Chain(&blobs.put("a", Bytes::new()).await.unwrap_err()).to_string(),
        "the blob storage answered 403 AuthorizationPermissionMismatch"
    );
    assert_eq!(script.seen().len(), 4);
}

#[tokio::test]
async fn only_the_service_can_say_that_there_is_no_state() {
    let script = Script::default();
    let (_silent, store, blobs) = scripted(&script).await;
    // The router itself answers 404 with no body, as a proxy might.
    let refused =
        |error: StoreError| assert_eq!(error.to_string(), "the state storage answered 404");
    refused(store.get("a").await.unwrap_err());
    refused(store.scan("a", "b").await.unwrap_err());
    refused(store.commit(&[insert("a", "x")]).await.unwrap_err());
    assert!(matches!(blobs.get("a").await, Err(BlobError::Refused { status: 404, .. })));
    assert!(matches!(blobs.list("a").await, Err(BlobError::Refused { status: 404, .. })));

    for code in ["ResourceNotFound", "TableNotFound"] {
        script.push([says(404, code)]);
        assert_eq!(store.get("a").await.unwrap(), None, "{code}");
        script.push([says(404, code)]);
        assert_eq!(store.scan("a", "b").await.unwrap(), [], "{code}");
    }
}

#[tokio::test]
async fn an_answer_about_another_row_is_no_answer() {
    let script = Script::default();
    let (_silent, store, _) = scripted(&script).await;
    let answers = [
        "<html>",
        "[]",
        "{}",
        r#"{"PartitionKey":"CachedValue","RowKey":"b","odata.etag":"1"}"#,
        r#"{"PartitionKey":"Other","RowKey":"a","odata.etag":"1"}"#,
    ];
    for body in answers {
        script.push([Fault::Answer { status: 200, headers: vec![], body: body.to_owned() }]);
        let error = store.get("a").await.unwrap_err();
        assert_eq!(error.to_string(), "the state storage answered 200 UnreadableAnswer", "{body}");
    }
    for body in ["<html>", "[]", r#"{"value":[{}]}"#] {
        script.push([Fault::Answer { status: 200, headers: vec![], body: body.to_owned() }]);
        let error = store.scan("a", "b").await.unwrap_err();
        assert_eq!(error.to_string(), "the state storage answered 200 UnreadableAnswer", "{body}");
    }
}

#[tokio::test]
async fn a_page_may_be_empty_and_a_mark_must_move() {
    let script = Script::default();
    let (_silent, store, _) = scripted(&script).await;
    let page = |mark: &str, body: &str| Fault::Answer {
        status: 200,
        headers: vec![
            ("x-ms-continuation-nextpartitionkey", mark.to_owned()),
            ("x-ms-continuation-nextrowkey", mark.to_owned()),
        ],
        body: format!(r#"{{"value":[{body}]}}"#),
    };
    let row = r#"{"PartitionKey":"CachedValue","RowKey":"a","odata.etag":"1"}"#;
    script.push([page("m1", ""), page("m2", row), page("", row)]);
    assert_eq!(store.scan("a", "b").await.unwrap().len(), 2);
    let asked = script.seen();
    assert!(asked[1].target.ends_with("&NextPartitionKey=m1&NextRowKey=m1"), "{asked:?}");
    script.push([page("m1", row), page("m1", row)]);
    let error = store.scan("a", "b").await.unwrap_err();
    assert_eq!(error.to_string(), "the state storage answered 200 UnreadableAnswer");
    assert_eq!(script.seen().len(), 5, "not for ever");
}

#[tokio::test]
async fn a_table_is_made_once_and_the_write_repeated() {
    let script = Script::default();
    let (_silent, store, _) = scripted(&script).await;
    let done = || Fault::Answer {
        status: 204,
        headers: vec![("etag", "W/\"1\"".to_owned())],
        body: String::new(),
    };
    script.push([says(404, "TableNotFound"), says(409, "TableAlreadyExists"), done()]);
    assert!(store.commit(&[insert("a", "x")]).await.is_ok());
    let asked: Vec<_> = script.seen().iter().map(|seen| seen.target.clone()).collect();
    assert_eq!(asked, ["/state", "/Tables", "/state"]);
    script.push([says(404, "TableNotFound"), done(), says(404, "TableNotFound")]);
    let error = store.commit(&[insert("a", "x")]).await.unwrap_err();
    assert_eq!(error.to_string(), "the state storage answered 404 TableNotFound");
    assert_eq!(script.seen().len(), 6);
}

#[tokio::test]
async fn without_an_identity_nothing_is_sent() {
    let script = Script::default();
    let (silent, ..) = scripted(&script).await;
    let storage = Storage {
        tables: silent.url.clone(),
        blobs: silent.url.clone(),
        auth: StorageAuth::Identity,
    };
    let closed = ManagedIdentityEndpoint {
        endpoint: Url::parse("http://127.0.0.1:1/").unwrap(),
        header: "header".into(),
        client_id: None,
    };
    let credential = Credential::new(access().http, Clock::System, Some(closed));
    let access = Access { credential, ..access() };
    let store = Store::Table(Table::new(&storage, "state", access.clone()).unwrap());
    let error = store.get("a").await.unwrap_err();
    assert!(matches!(error, StoreError::Unauthorized(_)), "{error:?}");
    let blobs = blobs(&storage, "logs", access);
    let error = blobs.put("a", Bytes::new()).await.unwrap_err();
    assert!(matches!(error, BlobError::Unauthorized(_)), "{error:?}");
    assert_eq!(script.seen(), []);
}

#[tokio::test]
async fn an_append_whose_answer_is_lost_is_written_once() {
    let Some(emulator) = azurite("AZURITE_BLOB") else { return };
    let (direct, name) = container(&emulator);
    let script = Script::default();
    let (_proxy, address) = before(&emulator, &script).await;
    let blobs = named_container(&address, &name);
    // Look, make the container, make the blob, append: each answer is lost once.
    for lost in 0..5 {
        let log = format!("log{lost}");
        script.clear();
        script.push((0..lost).map(|_| Fault::Pass).chain([Fault::LoseAnswer]));
        blobs.append(&log, Bytes::from_static(b"one\n")).await.unwrap();
        script.clear();
        script.push([Fault::Pass, Fault::LoseAnswer, Fault::status(503)]);
        blobs.append(&log, Bytes::from_static(b"two\n")).await.unwrap();
        let held = direct.get(&log).await.unwrap();
        assert_eq!(held.as_deref(), Some(&b"one\ntwo\n"[..]), "{lost}");
    }
    // Another instance wrote at our place after our append was turned away.
    script.clear();
    script.push([Fault::Pass, Fault::status(500)]);
    let (ours, theirs) = (Bytes::from_static(b"ours\n"), Bytes::from_static(b"theirs\n"));
    let (one, other) = tokio::join!(blobs.append("log0", ours), direct.append("log0", theirs));
    one.and(other).unwrap();
    let held = direct.get("log0").await.unwrap().unwrap();
    let mut lines: Vec<_> = std::str::from_utf8(&held).unwrap().lines().skip(2).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["ours", "theirs"]);
}

#[tokio::test]
async fn a_blob_is_read_and_written_through_faults() {
    let Some(emulator) = azurite("AZURITE_BLOB") else { return };
    let (direct, name) = container(&emulator);
    let script = Script::default();
    let (_proxy, address) = before(&emulator, &script).await;
    let blobs = named_container(&address, &name);
    script.push([Fault::status(503), Fault::LoseAnswer]);
    blobs.put("a", Bytes::from_static(b"held")).await.unwrap();
    assert_eq!(direct.get("a").await.unwrap().as_deref(), Some(&b"held"[..]));
    script.push([Fault::CutAfter(2), Fault::status(500)]);
    assert_eq!(blobs.get("a").await.unwrap().as_deref(), Some(&b"held"[..]));
    script.push([Fault::CutAfter(20)]);
    assert_eq!(blobs.list("").await.unwrap(), ["a"]);
    script.push([Fault::LoseAnswer]);
    blobs.delete("a").await.unwrap();
    assert_eq!(direct.get("a").await.unwrap(), None);
}

#[tokio::test]
async fn more_than_a_page_of_blobs_is_listed() {
    let script = Script::default();
    let (_silent, _, blobs) = scripted(&script).await;
    let page = |name: &str, next: &str| Fault::Answer {
        status: 200,
        headers: vec![("content-type", "application/xml".to_owned())],
        body: format!(
            "<?xml version=\"1.0\"?><EnumerationResults><Blobs><Blob><Name>{name}</Name><Properties/></Blob></Blobs><NextMarker>{next}</NextMarker></EnumerationResults>"
        ),
    };
    script.push([page("b", "m1"), page("a", "")]);
    assert_eq!(blobs.list("").await.unwrap(), ["a", "b"]);
    let asked = script.seen();
    assert!(asked[1].target.contains("marker=m1"), "{asked:?}");
}

#[tokio::test]
async fn storage_that_is_down_is_told_without_its_address() {
    let script = Script::default();
    let (silent, store, blobs) = scripted(&script).await;
    drop(silent);
    tokio::task::yield_now().await;
    let error = store.commit(&[insert("a", "x")]).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable(_)), "{error:?}");
    let error = blobs.append("a", Bytes::from_static(b"x")).await.unwrap_err();
    assert!(matches!(error, BlobError::Unreachable(_)), "{error:?}");
    assert!(!Chain(&error).to_string().contains("127.0.0.1"), "{}", Chain(&error));
}
