//! One suite for every store.

#[cfg(unix)]
use std::os::unix::fs::PermissionsExt as _;

use bytes::Bytes;
use defender_alert_export::azure::{http_date, shared_key::AccountKey};
use defender_alert_export::clock::Clock;
use defender_alert_export::error_chain::Chain;
use defender_alert_export::store::{
    Blobs, Change, ETag, Fields, Local, LocalBlobs, Store, StoreError, Value,
};
use url::Url;

use super::{ACCOUNT, KEY, access, azurite, folder, table};

fn fields(pairs: &[(&str, Value)]) -> Fields {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

fn text(text: &str) -> Fields {
    fields(&[("text", Value::Text(text.to_owned()))])
}

fn insert(key: &str, held: &str) -> Change {
    Change::write(key, None, text(held))
}

async fn version(store: &Store, key: &str) -> Option<ETag> {
    store.get(key).await.unwrap().map(|row| row.etag)
}

async fn held(store: &Store, key: &str) -> Option<Fields> {
    store.get(key).await.unwrap().map(|row| row.fields)
}

/// What every arm of [`Store`] does.
pub(super) async fn conforms(store: &Store) {
    starts_empty(store).await;
    gives_back_what_was_written(store).await;
    lets_only_the_version_read_be_changed(store).await;
    writes_all_of_a_transaction_or_none(store).await;
    takes_any_key_a_table_takes(store).await;
    scans_in_order_of_key(store).await;
    refuses_what_does_not_fit(store).await;
    lets_one_of_two_writers_win(store).await;
}

async fn starts_empty(store: &Store) {
    assert_eq!(store.get("nothing").await.unwrap(), None);
    assert_eq!(store.scan("a", "z").await.unwrap(), []);
    assert_eq!(store.commit(&[]).await.unwrap(), []);
}

async fn gives_back_what_was_written(store: &Store) {
    let whole = fields(&[
        ("bytes", Value::Bytes((0..=255).cycle().take(64 * 1024).collect())),
        ("empty", Value::Text(String::new())),
        ("least", Value::Int(i64::MIN)),
        ("most", Value::Int(i64::MAX)),
        ("no", Value::Bool(false)),
        ("text", Value::Text("Größe \"x\" \u{1f600}\r\n--batch_1\r\nHTTP/1.1 500 no".to_owned())),
        ("time", Value::Text("2026-11-21T10:00:00Z".to_owned())),
        ("yes", Value::Bool(true)),
    ]);
    let first = store.commit(&[Change::write("whole", None, whole.clone())]).await.unwrap();
    assert_eq!(held(store, "whole").await, Some(whole.clone()));
    assert_eq!(vec![version(store, "whole").await], first);

    // Whole: a value that is not written again is gone.
    let etag = version(store, "whole").await;
    let second = store.commit(&[Change::write("whole", etag, text("less"))]).await.unwrap();
    assert_ne!(first, second);
    assert_eq!(held(store, "whole").await, Some(text("less")));

    let etag = version(store, "whole").await.unwrap();
    let gone = store.commit(&[Change::Delete { key: "whole".to_owned(), etag }]).await.unwrap();
    assert_eq!(gone, [None]);
    assert_eq!(held(store, "whole").await, None);

    // The same values keep their types in a transaction.
    store.commit(&[Change::write("w1", None, whole.clone()), insert("w2", "x")]).await.unwrap();
    assert_eq!(held(store, "w1").await, Some(whole));
}

async fn lets_only_the_version_read_be_changed(store: &Store) {
    let key = || "version".to_owned();
    let conflict = async |change: Change| {
        let result = store.commit(&[change]).await;
        assert!(matches!(result, Err(StoreError::Conflict)), "{result:?}");
    };
    store.commit(&[insert("version", "first")]).await.unwrap();
    let stale = version(store, "version").await.unwrap();
    conflict(insert("version", "again")).await;
    store.commit(&[Change::write("version", Some(stale.clone()), text("second"))]).await.unwrap();
    conflict(Change::write("version", Some(stale.clone()), text("late"))).await;
    conflict(Change::Delete { key: key(), etag: stale }).await;
    assert_eq!(held(store, "version").await, Some(text("second")));

    let etag = version(store, "version").await.unwrap();
    store.commit(&[Change::Delete { key: key(), etag: etag.clone() }]).await.unwrap();
    conflict(Change::write("version", Some(etag.clone()), text("after"))).await;
    conflict(Change::Delete { key: key(), etag }).await;
    assert_eq!(held(store, "version").await, None);
}

async fn writes_all_of_a_transaction_or_none(store: &Store) {
    let many: Vec<_> = (0..100).map(|n| insert(&format!("many{n:03}"), "first")).collect();
    let versions = store.commit(&many).await.unwrap();
    assert_eq!(versions.len(), 100);
    assert!(versions.iter().all(Option::is_some));
    assert_eq!(store.scan("many", "many~").await.unwrap().len(), 100);

    // 98 replaced, one deleted, and one that exists already.
    let mut next: Vec<_> = (0..98)
        .map(|n| Change::write(format!("many{n:03}"), versions[n].clone(), text("second")))
        .collect();
    next.push(Change::Delete { key: "many098".to_owned(), etag: versions[98].clone().unwrap() });
    next.push(insert("many099", "second"));
    let result = store.commit(&next).await;
    assert!(matches!(result, Err(StoreError::Conflict)), "{result:?}");
    let rows = store.scan("many", "many~").await.unwrap();
    assert_eq!(rows.len(), 100);
    assert!(rows.iter().all(|row| row.fields == text("first")));

    *next.last_mut().unwrap() = Change::write("many099", versions[99].clone(), text("second"));
    let written = store.commit(&next).await.unwrap();
    assert_eq!(written.iter().filter(|version| version.is_none()).count(), 1);
    assert_eq!(written[98], None, "in the order asked for");
    assert_eq!(written[97], version(store, "many097").await);
    let rows = store.scan("many", "many~").await.unwrap();
    assert_eq!(rows.len(), 99);
    assert!(rows.iter().all(|row| row.fields == text("second")));

    // A stale version and a missing row lose as well.
    for (key, version) in [("many000", &versions[0]), ("many098", &versions[98])] {
        let late = [insert("fresh", "x"), Change::write(key, version.clone(), text("late"))];
        let result = store.commit(&late).await;
        assert!(matches!(result, Err(StoreError::Conflict)), "{key}: {result:?}");
    }
    assert_eq!(held(store, "fresh").await, None);
}

async fn takes_any_key_a_table_takes(store: &Store) {
    let keys =
        ["o'brien", "''", "da63|2026-11-21T10:00:00.0000000Z", "a b", "100%", "%27", "a+b&c=d;:,@"];
    for key in keys {
        store.commit(&[insert(key, key)]).await.unwrap();
        assert_eq!(held(store, key).await, Some(text(key)), "{key}");
        let etag = version(store, key).await;
        store.commit(&[Change::write(key, etag, text("again"))]).await.unwrap();
    }
    let both: Vec<_> = keys.iter().map(|key| insert(&format!("{key}2"), key)).collect();
    store.commit(&both).await.unwrap();
    for key in keys {
        assert_eq!(held(store, &format!("{key}2")).await, Some(text(key)), "{key}2");
    }
    assert_eq!(store.scan("o'", "o'~").await.unwrap().len(), 2);

    for key in ["", "a/b", "a\\b", "a#b", "a?b", "é", "a\n", &"k".repeat(513)] {
        let result = store.commit(&[insert(key, "x")]).await;
        assert!(matches!(result, Err(StoreError::TooLarge(_))), "{key}: {result:?}");
        assert!(matches!(store.get(key).await, Err(StoreError::TooLarge(_))), "{key}");
    }
}

async fn scans_in_order_of_key(store: &Store) {
    // Backwards, so that the order asked for is not the order written.
    for hundred in (0..12).rev() {
        let rows: Vec<_> =
            (0..100).map(|n| insert(&format!("scan{:04}", hundred * 100 + n), "x")).collect();
        store.commit(&rows).await.unwrap();
    }
    let keys = async |from: &str, to: &str| {
        let rows = store.scan(from, to).await.unwrap();
        rows.into_iter().map(|row| row.key).collect::<Vec<_>>()
    };
    let all: Vec<_> = (0..1200).map(|n| format!("scan{n:04}")).collect();
    assert_eq!(keys("scan", "scan~").await, all);
    assert_eq!(keys("scan0010", "scan0013").await, ["scan0010", "scan0011", "scan0012"]);
    assert_eq!(keys("scan0013", "scan0010").await, [""; 0]);
    assert_eq!(keys("scan0010", "scan0010").await, [""; 0]);
    let row = store.scan("scan0007", "scan0008").await.unwrap().remove(0);
    assert_eq!(Some(row), store.get("scan0007").await.unwrap());
}

async fn refuses_what_does_not_fit(store: &Store) {
    let too_large = async |changes: &[Change], what: &str| match store.commit(changes).await {
        Err(StoreError::TooLarge(said)) => assert_eq!(said, what),
        other => panic!("{what}: {other:?}"),
    };
    let bytes = |count| fields(&[("bytes", Value::Bytes(vec![7; count]))]);
    let many: Vec<_> = (0..101).map(|n| insert(&format!("much{n}"), "x")).collect();
    too_large(&many, "more than 100 rows in one transaction").await;
    let value = Change::write("much", None, bytes(64 * 1024 + 1));
    too_large(&[value], "a value of more than 64 KiB").await;
    let wide = (0..17).map(|n| (format!("b{n}"), Value::Bytes(vec![7; 64 * 1024])));
    let wide = Change::write("much", None, wide.collect());
    too_large(&[wide], "a row of more than 1 MiB").await;
    let heavy: Vec<_> =
        (0..50).map(|n| Change::write(format!("much{n}"), None, bytes(64 * 1024))).collect();
    too_large(&heavy, "a transaction of more than 4 MiB").await;
    too_large(&[insert("much", "x"), insert("much", "y")], "a row named twice in one transaction")
        .await;
    let named = Change::write("much", None, fields(&[("odata.etag", Value::Bool(true))]));
    too_large(&[named], "a value's name that is no column name").await;
    assert_eq!(store.scan("much", "much~").await.unwrap(), []);
    store.commit(&heavy[..45]).await.unwrap();
}

async fn lets_one_of_two_writers_win(store: &Store) {
    for round in 0..10 {
        let key = format!("race{round}");
        let (one, other) = ([insert(&key, "one")], [insert(&key, "other")]);
        let (one, other) = tokio::join!(store.commit(&one), store.commit(&other));
        assert_ne!(one.is_ok(), other.is_ok(), "insert, round {round}");
        let won = held(store, &key).await;
        assert_eq!(won, Some(text(if one.is_ok() { "one" } else { "other" })));

        let etag = version(store, &key).await;
        let change =
            |by| [Change::write(&*key, etag.clone(), text(by)), insert(&format!("{key}{by}"), by)];
        let (one, other) = (change("one"), change("other"));
        let (one, other) = tokio::join!(store.commit(&one), store.commit(&other));
        assert_ne!(one.is_ok(), other.is_ok(), "transaction, round {round}");
        let (winner, loser) = if one.is_ok() { ("one", "other") } else { ("other", "one") };
        assert_eq!(held(store, &key).await, Some(text(winner)));
        assert_eq!(held(store, &format!("{key}{loser}")).await, None);
    }
}

#[tokio::test]
async fn the_embedded_store_in_memory_conforms() {
    conforms(&Store::Local(Local::in_memory().unwrap())).await;
}

#[tokio::test]
async fn the_embedded_store_on_disk_conforms() {
    conforms(&Store::Local(Local::open(&folder()).unwrap())).await;
}

#[tokio::test]
async fn a_table_conforms() {
    let Some(address) = azurite("AZURITE_TABLE") else { return };
    conforms(&table(&address).0).await;
}

#[tokio::test]
async fn what_is_stored_on_disk_is_there_after_a_restart() {
    let folder = folder();
    let before = Store::Local(Local::open(&folder).unwrap());
    let written = before.commit(&[insert("kept", "x"), insert("other", "y")]).await.unwrap();
    drop(before);
    let after = Store::Local(Local::open(&folder).unwrap());
    assert_eq!(held(&after, "kept").await, Some(text("x")));
    let next = [Change::write("kept", written[0].clone(), text("z"))];
    let next = after.commit(&next).await.unwrap();
    assert!(!written.contains(&next[0]), "a new version is none of the old ones");
}

#[tokio::test]
async fn a_second_process_is_told_how_to_get_a_folder_of_its_own() {
    let folder = folder();
    let _first = Local::open(&folder).unwrap();
    let error = Local::open(&folder).unwrap_err();
    assert_eq!(
        Chain(&error).to_string(),
        "the state file cannot be used: another process is using it: stop that one, or give this one another folder with --state-dir"
    );
    let file = folder.join("state.redb");
    let error = Local::open(&file).unwrap_err();
    assert!(Chain(&error).to_string().contains("--state-dir"), "{}", Chain(&error));
}

#[cfg(unix)]
#[tokio::test]
async fn a_folder_that_is_made_is_for_this_account_alone() {
    let (state, blobs) = (folder(), folder());
    Local::open(&state).unwrap();
    Blobs::Local(LocalBlobs::new(blobs.clone())).put("a/b", Bytes::new()).await.unwrap();
    for folder in [state, blobs.clone(), blobs.join("a")] {
        let mode = folder.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{}", folder.display());
    }
}

/// As the predecessor wrote it: one text, and a time the service keeps.
async fn write_as_the_predecessor(address: &Url, name: &str, time: &str) {
    let url = address.join(&format!("{name}(PartitionKey='CachedValue',RowKey='QueryEndTime')"));
    let url = url.unwrap();
    let date = http_date(Clock::System.now());
    let key = AccountKey::new(ACCOUNT, &KEY.into()).unwrap();
    let answer = access()
        .http
        .client
        .put(url.clone())
        .header("authorization", key.table(&date, &url))
        .header("x-ms-date", date)
        .header("x-ms-version", "2019-02-02")
        .header("accept", "application/json;odata=minimalmetadata")
        .header("content-type", "application/json")
        .body(format!(
            r#"{{"PartitionKey":"CachedValue","RowKey":"QueryEndTime","end_time":"{time}","at@odata.type":"Edm.DateTime","at":"2026-11-21T10:00:00Z","ratio":0.5}}"#
        ))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status().as_u16(), 204);
}

#[tokio::test]
async fn the_predecessors_row_is_read_and_replaced_together_with_ours() {
    let Some(address) = azurite("AZURITE_TABLE") else { return };
    let (store, name) = table(&address);
    store.commit(&[insert("ours", "x")]).await.unwrap();
    write_as_the_predecessor(&address, &name, "2026-11-21T09:00:00.000000Z").await;

    let row = store.get("QueryEndTime").await.unwrap().unwrap();
    let end_time = |time: &str| ("end_time", Value::Text(time.to_owned()));
    let expected = [
        ("at", Value::Text("2026-11-21T10:00:00Z".to_owned())),
        end_time("2026-11-21T09:00:00.000000Z"),
        ("ratio", Value::Text("0.5".to_owned())),
    ];
    assert_eq!(row.fields, fields(&expected));

    let ours = version(&store, "ours").await;
    let next = fields(&[end_time("2026-11-21T10:00:00.000000Z")]);
    let together = [
        Change::write("QueryEndTime", Some(row.etag), next.clone()),
        Change::write("ours", ours, text("y")),
    ];
    store.commit(&together).await.unwrap();
    assert_eq!(held(&store, "QueryEndTime").await, Some(next));

    // The predecessor, run again, changes the version under us.
    let row = store.get("QueryEndTime").await.unwrap().unwrap();
    write_as_the_predecessor(&address, &name, "2026-11-21T11:00:00.000000Z").await;
    let late = [Change::write("QueryEndTime", Some(row.etag), text("late"))];
    assert!(matches!(store.commit(&late).await, Err(StoreError::Conflict)));
}
