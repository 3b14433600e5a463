//! Files of a bucket, against a real server that checks every signature.

use std::io::{Write as _, stderr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use defender_alert_export::azure::credential::Credential;
use defender_alert_export::config::{S3, Target, Vars};
use defender_alert_export::http::{Http, Server, Servers, client};
use defender_alert_export::sandbox::script::{Fault, Script, listen};
use defender_alert_export::sink::Sink;
use futures_util::TryStreamExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _};
use serde_json::json;
use url::Url;
use uuid::Uuid;

use super::{clock, keys_in, lines, numbered, rows, sink, standing};
use crate::proxy::before;
use crate::sinks::{batch_of, quick, whole, words};

/// Names and secrets `scripts/with-s3.sh` gives the server.
pub(super) const WRITER: (&str, &str) =
    ("AKIAWRITER0000000000", "c2VhLXdlZWQtd3JpdGVyLW9mLXRlc3Rz");
const READER: (&str, &str) = ("AKIAREADER0000000000", "c2VhLXdlZWQtcmVhZGVyLW9mLXRlc3Rz");
pub(super) const BUCKET: &str = "alerts";

/// The server's address; `None` when its absence is accepted in words.
pub(super) fn server() -> Option<Url> {
    if let Some(address) = Vars::Process.get("S3_ENDPOINT") {
        return Some(Url::parse(&address).unwrap());
    }
    assert_eq!(
        Vars::Process.get("SKIP_S3").as_deref(),
        Some("1"),
        "S3_ENDPOINT is not set: run `scripts/with-s3.sh scripts/with-azurite.sh cargo test`, or set SKIP_S3=1 to go without this check"
    );
    // Past the test runner's capture, so that it is seen among the passed ones.
    writeln!(stderr(), "SKIPPED a check against an S3 server: S3_ENDPOINT is not set").unwrap();
    None
}

/// A folder nobody else uses.
fn fresh(address: &Url) -> S3 {
    S3 {
        endpoint: Some(address.clone()),
        region: "eu-west-2".to_owned(),
        bucket: BUCKET.to_owned(),
        prefix: format!("{}/", Uuid::new_v4().simple()),
        access_key_id: WRITER.0.to_owned(),
        secret_access_key: WRITER.1.into(),
        table: "Alerts".to_owned(),
    }
}

/// The library's own client, which shares nothing with ours.
pub(super) fn reader(address: &Url) -> AmazonS3 {
    AmazonS3Builder::new()
        .with_endpoint(address.as_str())
        .with_allow_http(true)
        .with_region("eu-west-2")
        .with_bucket_name(BUCKET)
        .with_access_key_id(WRITER.0)
        .with_secret_access_key(WRITER.1)
        .build()
        .unwrap()
}

/// Names below `prefix`, in order, and what they hold.
pub(super) async fn objects(address: &Url, prefix: &str) -> Vec<(String, Bytes)> {
    let bucket = reader(address);
    let listed: Vec<_> = bucket.list(Some(&Path::from(prefix))).try_collect().await.unwrap();
    let mut held = Vec::new();
    for object in listed {
        let bytes = bucket.get(&object.location).await.unwrap().bytes().await.unwrap();
        let name = object.location.to_string();
        held.push((name.strip_prefix(prefix).unwrap().to_owned(), bytes));
    }
    held.sort();
    held
}

#[tokio::test]
async fn a_batch_is_one_file_and_a_row_is_one_line() {
    let Some(address) = server() else { return };
    let files = fresh(&address);
    let clock = clock();
    let sink = sink(&Target::S3(files.clone()), &clock);
    whole(&sink.deliver(rows(0..7, "a"), standing()).await.unwrap(), 7);
    sink.deliver(rows(7..9, "a"), standing()).await.unwrap();
    clock.advance(Duration::from_hours(1));
    sink.deliver(rows(9..10, "a"), standing()).await.unwrap();

    let held = objects(&address, &files.prefix).await;
    let folders: Vec<_> = held.iter().map(|(name, _)| name.rsplit_once('/').unwrap().0).collect();
    let (ten, eleven) = ("Alerts/date=2026-11-21/hour=10", "Alerts/date=2026-11-21/hour=11");
    assert_eq!(folders, [ten, ten, eleven]);
    let all: Vec<_> = held.iter().flat_map(|(_, bytes)| lines(bytes)).collect();
    assert_eq!(keys_in(&all), numbered(0..10));
    assert_eq!(all[0]["AlertTitle"], "café\nline two, \"x\"");
    for (name, _) in &held {
        let digest = name.rsplit_once('/').unwrap().1.strip_suffix(".jsonl").unwrap();
        assert!(digest.len() == 32 && digest.bytes().all(|b| b.is_ascii_hexdigit()), "{name}");
    }
}

#[tokio::test]
async fn a_batch_sent_again_by_the_next_run_takes_its_own_place() {
    let Some(address) = server() else { return };
    let files = fresh(&address);
    let clock = clock();
    for run in ["killed", "next"] {
        let sink = sink(&Target::S3(files.clone()), &clock);
        sink.deliver(rows(0..4, run), standing()).await.unwrap();
        clock.advance(Duration::from_mins(5));
    }
    let held = objects(&address, &files.prefix).await;
    assert_eq!(held.len(), 1);
    assert_eq!(lines(&held[0].1)[0]["RunId"], "next");
}

#[tokio::test]
async fn a_file_whose_answer_is_lost_or_garbled_is_sent_again() {
    let Some(address) = server() else { return };
    let script = Script::default();
    let (_proxy, behind) = before(&address, &script).await;
    let page = || Fault::Answer { status: 200, headers: vec![], body: "<html>".to_owned() };
    let slow = || Fault::Answer {
        status: 400,
        headers: vec![],
        body: "<Error><Code>RequestTimeout</Code></Error>".to_owned(),
    };
    for faults in [
        vec![Fault::LoseAnswer],
        vec![Fault::status(503), Fault::LoseAnswer, page()],
        vec![slow(), Fault::throttled(0)],
    ] {
        let files = S3 { endpoint: Some(behind.clone()), ..fresh(&address) };
        let seen = script.seen().len();
        script.push(faults.clone());
        let sink = sink(&Target::S3(files.clone()), &clock());
        let delivered = sink.deliver(rows(0..3, "a"), standing()).await.unwrap();
        let requests = faults.len() as u64 + 1;
        assert_eq!(delivered.requests, requests, "one retry loop, ours: {faults:?}");
        assert_eq!((script.seen().len() - seen) as u64, requests);
        let held = objects(&address, &files.prefix).await;
        assert_eq!(held.len(), 1);
        assert_eq!(keys_in(&lines(&held[0].1)), numbered(0..3));
    }
}

#[tokio::test]
async fn the_largest_alert_goes_whole() {
    let Some(address) = server() else { return };
    let files = fresh(&address);
    let sink = sink(&Target::S3(files.clone()), &clock());
    let row = json!({ "ExportKey": "k", "Evidence": ["x".repeat(16 * 1024 * 1024)] });
    assert!(sink.limits().largest_row() > row.to_string().len());
    sink.deliver(batch_of([(0, row.clone())]), standing()).await.unwrap();
    assert_eq!(lines(&objects(&address, &files.prefix).await[0].1), [row]);
}

#[tokio::test]
async fn what_the_server_refuses_says_which_setting_is_wrong() {
    let Some(address) = server() else { return };
    let files = fresh(&address);
    let with = |(id, secret): (&str, &str)| S3 {
        access_key_id: id.to_owned(),
        secret_access_key: secret.into(),
        ..files.clone()
    };
    for (files, code, said) in [
        (with((WRITER.0, "hunter2")), "403 SignatureDoesNotMatch", "SecretAccessKey"),
        (with(("AKIANOBODY0000000000", "hunter2")), "403 InvalidAccessKeyId", "AccessKeyId"),
        (with(READER), "403 AccessDenied", "s3:PutObject"),
        (
            S3 { bucket: "no-such-bucket".to_owned(), ..files.clone() },
            "404 NoSuchBucket",
            "FunctionConfigS3Bucket",
        ),
    ] {
        let sink = sink(&Target::S3(files), &clock());
        let failed = sink.deliver(rows(0..5, "a"), standing()).await.unwrap_err();
        let words = words(&failed);
        assert!(words.contains(code) && words.contains(said), "{words}");
        assert!(!words.contains("hunter2") && !words.contains("127.0.0.1"), "{words}");
        assert_eq!((failed.requests, failed.refused.len()), (1, 0), "{words}");
    }
    assert_eq!(objects(&address, &files.prefix).await, []);
}

#[tokio::test]
async fn what_only_amazon_refuses_is_told_too_and_blames_no_row() {
    let script = Script::default();
    let silent = listen(Router::new(), script.clone()).await.unwrap();
    let sink = sink(&Target::S3(fresh(&silent.url)), &clock());
    for (status, code, said) in [
        (301, "PermanentRedirect", "FunctionConfigS3Region"),
        (307, "TemporaryRedirect", "FunctionConfigS3Region"),
        (400, "AuthorizationHeaderMalformed", "FunctionConfigS3Region"),
        (403, "RequestTimeTooSkewed", "clock"),
        (400, "InvalidRequest", "object lock"),
        (502, "", "Nothing to do"),
        (204, "", "perhaps a proxy"),
    ] {
        let body = format!("<Error><Code>{code}</Code><Message>secret</Message></Error>");
        let headers = vec![("location", "https://elsewhere.example/".to_owned())];
        script.push((0..4).map(|_| Fault::Answer {
            status,
            headers: headers.clone(),
            body: body.clone(),
        }));
        let failed = sink.deliver(rows(0..5, "a"), standing()).await.unwrap_err();
        script.clear();
        let words = words(&failed);
        assert!(words.contains(said) && words.contains(&status.to_string()), "{words}");
        assert!(!words.contains("secret") && !words.contains("elsewhere"), "{words}");
        assert!(failed.refused.is_empty());
    }
    let closed = { listen(Router::new(), Script::default()).await.unwrap().url.clone() };
    let away = super::sink(&Target::S3(fresh(&closed)), &clock());
    let failed = away.deliver(rows(0..5, "a"), standing()).await.unwrap_err();
    assert!(failed.advice.message.contains("cannot be reached"), "{:?}", failed.advice);
    assert!(failed.advice.next_step.contains("FunctionConfigS3Bucket"), "{:?}", failed.advice);
}

#[tokio::test]
async fn the_request_is_what_amazon_documents() {
    let headers = Arc::<Mutex<Vec<HeaderMap>>>::default();
    let noted = Arc::clone(&headers);
    let refuse = move |seen: HeaderMap| {
        noted.lock().unwrap().push(seen);
        async { StatusCode::FORBIDDEN }
    };
    let script = Script::default();
    let silent = listen(Router::new().fallback(refuse), script.clone()).await.unwrap();
    let files = S3 { prefix: "trusts/RXX/".to_owned(), ..fresh(&silent.url) };
    let sink = sink(&Target::S3(files), &clock());
    sink.deliver(rows(0..1, "a"), standing()).await.unwrap_err();
    let seen = script.seen().remove(0);
    assert_eq!(seen.method, "PUT");
    let path = "/alerts/trusts/RXX/Alerts/date%3D2026-11-21/hour%3D10/";
    assert!(seen.target.starts_with(path), "{}", seen.target);
    // Amazon takes no body of a length it is not told.
    let headers = headers.lock().unwrap().remove(0);
    let length: usize = headers["content-length"].to_str().unwrap().parse().unwrap();
    assert!(length > 50 && !headers.contains_key("transfer-encoding"), "{headers:?}");
    let shown = format!("{sink:?}");
    assert!(!shown.contains(WRITER.1) && !shown.contains(WRITER.0), "{shown}");
}

/// Amazon's own addresses, and what the request says beside its rows.
#[tokio::test]
async fn amazon_is_asked_at_the_buckets_own_address_in_its_region() {
    for (bucket, host, path) in [
        ("rxx-alerts", "rxx-alerts.s3.eu-west-2.amazonaws.com", "/trusts/RXX/Alerts/"),
        // One dot more than Amazon's certificate covers.
        ("rxx.alerts", "s3.eu-west-2.amazonaws.com", "/rxx.alerts/trusts/RXX/Alerts/"),
    ] {
        let seen = Arc::<Mutex<Vec<reqwest::Request>>>::default();
        let noted = Arc::clone(&seen);
        let amazon: Server = Arc::new(move |request| {
            noted.lock().unwrap().push(request);
            Box::pin(async {
                let stored = axum::http::Response::builder().header("etag", "\"x\"");
                reqwest::Response::from(stored.body("").unwrap())
            })
        });
        let address = Url::parse(&format!("https://{host}/")).unwrap();
        let servers = Servers::new([(address, amazon)]);
        let http = Http::in_process(client().unwrap(), quick().retry, servers);
        let credential = Credential::new(http.clone(), clock(), None);
        let nowhere = Url::parse("https://x.example/").unwrap();
        let target = Target::S3(S3 {
            endpoint: None,
            bucket: bucket.to_owned(),
            prefix: "trusts/RXX/".to_owned(),
            ..fresh(&nowhere)
        });
        let sink = Sink::alerts(&target, http, clock(), credential).unwrap();
        whole(&sink.deliver(rows(0..3, "a"), standing()).await.unwrap(), 3);

        let request = seen.lock().unwrap().remove(0);
        assert_eq!(request.method(), "PUT");
        assert!(request.url().path().starts_with(path), "{}", request.url());
        let header = |name: &str| request.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), "application/x-ndjson");
        assert_eq!(header("x-amz-checksum-sha256").len(), 44);
        assert_eq!(header("x-amz-content-sha256").len(), 64, "the body is signed");
        let authorization = header("authorization");
        assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKIAWRITER0000000000/"));
        assert!(authorization.contains("/eu-west-2/s3/aws4_request"), "{authorization}");
        let said = format!("{} {:?}", request.url(), request.headers());
        assert!(!said.contains(WRITER.1));
    }
}
