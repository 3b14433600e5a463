//! Rows reach the sink: all of them, in one piece, and never an alert set aside
//! that was not to blame.

mod batches;
mod patience;
mod throttled;

use std::io;
use std::num::NonZeroU32;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use defender_alert_export::azure::credential::Credential;
use defender_alert_export::clock::Clock;
use defender_alert_export::config::{
    DataCollector, EventHubAuth, HeartbeatTarget, SasPolicy, Target,
};
use defender_alert_export::domain::batch::{Batch, BatchLimits, Batcher};
use defender_alert_export::domain::ledger::{Digest, Entry};
use defender_alert_export::error_chain::Chain;
use defender_alert_export::http::retry::RetryPolicy;
use defender_alert_export::http::{self, Http};
use defender_alert_export::sandbox::event_hub::{self, EventHub};
use defender_alert_export::sandbox::managed_identity::ManagedIdentity;
use defender_alert_export::sandbox::monitor::{self, Monitor};
use defender_alert_export::sandbox::script::Fault;
use defender_alert_export::sink::delivery::{Delivered, SinkFailed, Standing};
use defender_alert_export::sink::{Sink, event_hub as hub_sink, logs_ingestion};

pub(crate) const NOW: &str = "2026-11-21T10:00:00Z";
pub(crate) const WORKSPACE: &str = "6d1f0c8a-2d5b-4a43-9a57-3d6f0c9b2e11";
pub(crate) const KEY: &str =
    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw==";
pub(crate) const TABLE: &str = "DefenderRawAlert_CL";

/// A trust's clouds, and an app that reaches them.
pub(crate) struct Trust {
    pub(crate) clock: Clock,
    pub(crate) http: Http,
    pub(crate) identity: ManagedIdentity,
    pub(crate) monitor: Monitor,
    pub(crate) hub: EventHub,
    pub(crate) credential: Credential,
}

/// Four attempts, milliseconds apart.
pub(crate) fn quick() -> Http {
    let retry = RetryPolicy {
        attempts: NonZeroU32::new(4).unwrap(),
        base: Duration::from_millis(1),
        cap: Duration::from_secs(1),
        budget: Duration::from_mins(1),
        jitter: false,
    };
    Http::new(http::client().unwrap(), retry)
}

impl Trust {
    pub(crate) async fn start() -> io::Result<Self> {
        let clock = Clock::stopped_at(NOW.parse().unwrap());
        let identity = ManagedIdentity::start(clock.clone()).await?;
        let monitor = Monitor::start(monitor::Setup {
            clock: clock.clone(),
            bearer: identity.tokens.bearer(logs_ingestion::AUDIENCE, &clock),
            rule_id: "dcr-0123456789abcdef0123456789abcdef".to_owned(),
            table: "DefenderRawAlert".to_owned(),
            workspace: WORKSPACE.to_owned(),
            key: KEY.into(),
        })
        .await?;
        let hub = EventHub::start(event_hub::Setup {
            clock: clock.clone(),
            bearer: identity.tokens.bearer(hub_sink::AUDIENCE, &clock),
            hub: "alerts".to_owned(),
            policy: SasPolicy {
                name: "send".to_owned(),
                key: "c2VjcmV0LWtleQ==".into(),
                whole_namespace: false,
            },
        })
        .await?;
        let http = quick();
        let credential = Credential::new(http.clone(), clock.clone(), Some(identity.endpoint()));
        Ok(Self { clock, http, identity, monitor, hub, credential })
    }

    fn sink(&self, target: &Target) -> Sink {
        let (http, clock) = (self.http.clone(), self.clock.clone());
        Sink::alerts(target, http, clock, self.credential.clone()).unwrap()
    }

    pub(crate) fn rule(&self) -> Sink {
        self.sink(&Target::LogsIngestion(self.monitor.rule()))
    }

    pub(crate) fn workspace(&self) -> Sink {
        self.sink(&Target::DataCollector(self.monitor.workspace()))
    }

    pub(crate) fn hub(&self, auth: EventHubAuth) -> Sink {
        self.sink(&Target::EventHub(self.hub.hub(auth)))
    }

    pub(crate) fn standing(&self) -> Standing {
        Standing {
            deployed_at: self.clock.now() - Duration::from_hours(48),
            accepted: 0,
            refused: 0,
        }
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        let rows = self.monitor.tables.rows(TABLE);
        rows.iter().map(|row| row["ExportKey"].as_str().unwrap().to_owned()).collect()
    }
}

pub(crate) fn key(n: usize) -> String {
    format!("da{n}|{NOW}")
}

fn entry(n: usize) -> Entry {
    Entry { at: NOW.parse().unwrap(), digest: Digest::of(&key(n)) }
}

pub(crate) fn batch_of(rows: impl IntoIterator<Item = (usize, Value)>) -> Batch {
    let mut batcher = Batcher::new(BatchLimits::of(100_000, 40_000_000));
    for (n, row) in rows {
        assert!(batcher.push(row.to_string().as_bytes(), entry(n)).unwrap().is_none());
    }
    batcher.finish().unwrap()
}

/// Rows for a rule: those numbered in `bad` hold the word POISON.
pub(crate) fn batch(count: usize, bad: &[usize]) -> Batch {
    batch_of((0..count).map(|n| {
        let title = if bad.contains(&n) { "POISON" } else { "café" };
        (n, json!({ "TimeGenerated": NOW, "ExportKey": key(n), "AlertTitle": title }))
    }))
}

/// The same for a workspace, which refuses `TimeGenerated`.
pub(crate) fn classic(count: usize) -> Batch {
    batch_of((0..count).map(|n| (n, json!({ "ExportKey": key(n), "title": "café" }))))
}

pub(crate) fn events(count: usize, padding: usize) -> Batch {
    let body = |n| json!({ "ExportKey": key(n), "pad": "x".repeat(padding) }).to_string();
    batch_of((0..count).map(|n| (n, json!({ "Body": body(n) }))))
}

pub(crate) fn entries(numbers: impl IntoIterator<Item = usize>) -> Vec<Entry> {
    numbers.into_iter().map(entry).collect()
}

pub(crate) fn keys(numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    numbers.into_iter().map(key).collect()
}

pub(crate) fn whole(delivered: &Delivered, count: usize) {
    assert_eq!(delivered.accepted, entries(0..count));
    assert!(delivered.refused.is_empty(), "{:?}", delivered.refused);
}

/// Both texts for a person, and the chain for the log.
pub(crate) fn words(failed: &SinkFailed) -> String {
    format!("{}\n{}\n{}", failed.advice.message, failed.advice.next_step, Chain(failed))
}

#[tokio::test]
async fn every_sink_takes_what_it_is_sent() {
    let trust = Trust::start().await.unwrap();
    whole(&trust.rule().deliver(batch(100, &[]), trust.standing()).await.unwrap(), 100);
    assert_eq!(trust.keys(), keys(0..100));
    assert_eq!(trust.monitor.tables.rows(TABLE)[7]["AlertTitle"], "café");
    assert!(trust.monitor.tables.observed().is_empty());

    whole(&trust.workspace().deliver(classic(100), trust.standing()).await.unwrap(), 100);
    assert_eq!(trust.keys().len(), 200);

    let namespace = SasPolicy { whole_namespace: true, ..trust.hub.policy() };
    for auth in [EventHubAuth::Identity, EventHubAuth::Sas(trust.hub.policy())] {
        whole(&trust.hub(auth).deliver(events(100, 9), trust.standing()).await.unwrap(), 100);
    }
    assert_eq!(trust.hub.events().len(), 200);
    assert_eq!(
        serde_json::from_str::<Value>(&trust.hub.events()[99]).unwrap()["ExportKey"],
        key(99)
    );
    let refused =
        trust.hub(EventHubAuth::Sas(namespace)).deliver(events(1, 9), trust.standing()).await;
    let words = words(&refused.unwrap_err());
    assert!(words.contains("FunctionConfigEventHubAccessKeyType"), "{words}");
}

#[tokio::test]
async fn heartbeats_go_to_a_table_of_their_own() {
    let trust = Trust::start().await.unwrap();
    for (target, row) in [
        (
            HeartbeatTarget::LogsIngestion(trust.monitor.rule()),
            json!([{ "TimeGenerated": NOW, "Status": "Ok" }]),
        ),
        (HeartbeatTarget::DataCollector(trust.monitor.workspace()), json!([{ "Status": "Ok" }])),
    ] {
        let (http, clock) = (trust.http.clone(), trust.clock.clone());
        let sink = Sink::heartbeats(&target, http, clock, trust.credential.clone());
        sink.send(row.to_string().into(), NOW.parse().unwrap()).await.unwrap();
    }
    assert_eq!(trust.monitor.tables.count("Heartbeat_CL"), 2);
    assert_eq!(trust.monitor.tables.count(TABLE), 0);
}

#[tokio::test]
async fn a_lost_answer_is_sent_again_with_the_same_body() {
    let trust = Trust::start().await.unwrap();
    trust.monitor.script.push([Fault::LoseAnswer]);
    let delivered = trust.rule().deliver(batch(3, &[]), trust.standing()).await.unwrap();
    whole(&delivered, 3);
    assert_eq!(delivered.requests, 2);
    let bodies = trust.monitor.tables.bodies();
    assert_eq!(bodies.len(), 2);
    assert_eq!(bodies[0], bodies[1]);
    assert_eq!(trust.keys(), keys([0, 1, 2, 0, 1, 2]), "the same rows, the same keys");

    let ids = trust.monitor.tables.request_ids();
    assert!(ids.len() == 2 && ids[0] != ids[1], "each attempt has a name: {ids:?}");
}

#[tokio::test]
async fn half_an_answer_is_none() {
    let trust = Trust::start().await.unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/", socket.local_addr().unwrap());
    let server = tokio::spawn(async move {
        for answer in ["content-length: 99\r\n\r\n{}", "content-length: 0\r\n\r\n"] {
            let (mut client, _) = socket.accept().await.unwrap();
            let mut request = [0; 4_096];
            assert!(client.read(&mut request).await.unwrap() > 0);
            let answer = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n{answer}");
            client.write_all(answer.as_bytes()).await.unwrap();
            client.shutdown().await.unwrap();
        }
    });
    let workspace =
        DataCollector { endpoint: address.parse().unwrap(), ..trust.monitor.workspace() };
    let sink = trust.sink(&Target::DataCollector(workspace));
    let delivered = sink.deliver(classic(1), trust.standing()).await.unwrap();
    assert_eq!(delivered.requests, 2);
    server.await.unwrap();
}

#[tokio::test]
async fn a_busy_sink_is_asked_again_when_it_says_so() {
    let trust = Trust::start().await.unwrap();
    trust.monitor.script.push([Fault::throttled(0), Fault::status(503), Fault::status(500)]);
    let delivered = trust.workspace().deliver(classic(3), trust.standing()).await.unwrap();
    whole(&delivered, 3);
    assert_eq!(delivered.requests, 4);
    assert_eq!(trust.keys(), keys(0..3));

    trust.monitor.script.push([Fault::throttled(3_600)]);
    let failed = trust.rule().deliver(batch(3, &[]), trust.standing()).await.unwrap_err();
    assert_eq!(failed.requests, 1, "an hour is not waited for");
    assert!(failed.advice.message.contains("fewer requests (429)"), "{failed:?}");
}

#[tokio::test]
async fn a_batch_too_large_is_halved_and_loses_nothing() {
    let trust = Trust::start().await.unwrap();
    // 1.6 MB against 1 MB, and against 256 KB.
    let pad = "x".repeat(16_000);
    let large = batch_of(
        (0..100)
            .map(|n| (n, json!({ "TimeGenerated": NOW, "ExportKey": key(n), "AlertTitle": pad }))),
    );
    let delivered = trust.rule().deliver(large, trust.standing()).await.unwrap();
    whole(&delivered, 100);
    assert_eq!(delivered.requests, 3);
    assert_eq!(trust.keys(), keys(0..100));

    trust.hub.move_to_basic_tier();
    let sas = EventHubAuth::Sas(trust.hub.policy());
    let delivered = trust.hub(sas).deliver(events(100, 16_000), trust.standing()).await.unwrap();
    whole(&delivered, 100);
    assert_eq!(delivered.requests, 15);
    assert_eq!(trust.hub.events().len(), 100);
}

#[tokio::test]
async fn one_row_no_request_can_carry_is_singled_out() {
    let trust = Trust::start().await.unwrap();
    let row = |n| {
        let title = "x".repeat(if n == 4 { 1_100_000 } else { 9 });
        (n, json!({ "TimeGenerated": NOW, "ExportKey": key(n), "AlertTitle": title }))
    };
    let delivered =
        trust.rule().deliver(batch_of((0..9).map(row)), trust.standing()).await.unwrap();
    assert_eq!(trust.keys(), keys([0, 1, 2, 3, 5, 6, 7, 8]));
    assert_eq!(delivered.refused.len(), 1);
    assert_eq!(delivered.refused[0].entry, entry(4));
    assert!(delivered.refused[0].reason.contains("413 ContentLengthLimitExceeded"));
}

#[tokio::test]
async fn a_poison_row_is_singled_out_and_the_other_99_are_delivered_once() {
    let trust = Trust::start().await.unwrap();
    trust.monitor.tables.refuse_rows_matching("POISON");
    for bad in [0, 41, 99] {
        let before = trust.keys().len();
        let sent = batch(100, &[bad]);
        let poison = sent.rows().nth(bad).unwrap().0;
        let delivered = trust.rule().deliver(sent, trust.standing()).await.unwrap();
        let others: Vec<_> = (0..100).filter(|n| *n != bad).collect();
        assert_eq!(delivered.accepted, entries(others.clone()));
        assert_eq!(trust.keys()[before..], keys(others));
        let [refused] = &delivered.refused[..] else { panic!("{delivered:?}") };
        assert_eq!((refused.entry, &refused.row), (entry(bad), &poison));
        assert!(refused.reason.contains("400 InvalidPayload"), "{}", refused.reason);
        assert!(delivered.requests <= 15, "{} requests", delivered.requests);
    }
}

#[tokio::test]
async fn poison_rows_in_a_heap_do_not_stop_the_good_ones_behind_them() {
    let trust = Trust::start().await.unwrap();
    trust.monitor.tables.refuse_rows_matching("POISON");
    let bad = [0, 1, 2, 3, 4, 5, 17, 60];
    let delivered = trust.rule().deliver(batch(100, &bad), trust.standing()).await.unwrap();
    let mut seen = trust.keys();
    let mut others = keys((0..100).filter(|n| !bad.contains(n)));
    seen.sort();
    others.sort();
    assert_eq!(seen, others);
    assert_eq!(delivered.accepted.len(), 92);
    let mut refused: Vec<_> = delivered.refused.iter().map(|row| row.entry.digest).collect();
    refused.sort();
    let mut expected: Vec<_> = entries(bad).iter().map(|entry| entry.digest).collect();
    expected.sort();
    assert_eq!(refused, expected);
}

#[tokio::test]
async fn a_fault_all_rows_share_sets_none_of_them_aside() {
    let trust = Trust::start().await.unwrap();
    trust.monitor.tables.refuse_rows_matching("ExportKey");
    for (rows, requests) in [(4, 7), (16, 31), (17, 30), (1_000, 30)] {
        let failed = trust.rule().deliver(batch(rows, &[]), trust.standing()).await.unwrap_err();
        assert!(failed.accepted.is_empty() && failed.refused.is_empty(), "{failed:?}");
        assert!(failed.requests <= requests, "{} requests for {rows} rows", failed.requests);
        assert!(words(&failed).contains("These alerts are kept and sent again"), "{failed:?}");
    }
    assert!(trust.keys().is_empty());

    let alone = Standing { refused: 3, ..trust.standing() };
    let failed = trust.rule().deliver(batch(1, &[]), alone).await.unwrap_err();
    assert!(failed.refused.is_empty(), "{failed:?}");
}

#[tokio::test]
async fn a_refused_token_is_replaced_exactly_once() {
    let trust = Trust::start().await.unwrap();
    trust.rule().deliver(batch(1, &[]), trust.standing()).await.unwrap();
    assert_eq!(trust.identity.script.seen().len(), 1);
    trust.identity.tokens.revoke();
    let delivered = trust.rule().deliver(batch(2, &[]), trust.standing()).await.unwrap();
    whole(&delivered, 2);
    assert_eq!(trust.identity.script.seen().len(), 2);

    let refusals = || [Fault::status(401), Fault::status(401), Fault::status(401)];
    trust.monitor.script.push(refusals());
    let failed = trust.rule().deliver(batch(2, &[]), trust.standing()).await.unwrap_err();
    assert_eq!(failed.requests, 2);
    assert_eq!(trust.identity.script.seen().len(), 3);
    assert!(failed.advice.message.contains("not even a fresh one"), "{failed:?}");

    let hub = trust.hub(EventHubAuth::Identity);
    whole(&hub.deliver(events(1, 9), trust.standing()).await.unwrap(), 1);
    assert_eq!(trust.identity.script.seen().len(), 4);
    trust.identity.tokens.revoke();
    let delivered = hub.deliver(events(2, 9), trust.standing()).await.unwrap();
    whole(&delivered, 2);
    assert_eq!((delivered.requests, trust.identity.script.seen().len()), (2, 5));
    trust.hub.script.push(refusals());
    let failed = hub.deliver(events(2, 9), trust.standing()).await.unwrap_err();
    assert_eq!((failed.requests, trust.identity.script.seen().len()), (2, 6));
    assert!(failed.advice.next_step.contains("Azure Event Hubs Data Sender"), "{failed:?}");
}

#[tokio::test]
async fn a_failure_in_the_middle_says_what_was_accepted_before_it() {
    let trust = Trust::start().await.unwrap();
    trust.monitor.tables.refuse_rows_matching("POISON");
    // 8 rows, 4, 2, 1, 1 (the poison), then the other two rows of the half.
    let faults = [Fault::Pass, Fault::Pass, Fault::Pass, Fault::Pass, Fault::Pass];
    trust.monitor.script.push(faults.into_iter().chain([Fault::status(404)]));
    let failed = trust.rule().deliver(batch(8, &[1]), trust.standing()).await.unwrap_err();
    assert_eq!(failed.accepted, entries([0]));
    assert_eq!(trust.keys(), keys([0]));
    assert_eq!(failed.refused.len(), 1);
    assert_eq!(failed.refused[0].entry, entry(1));
    assert!(words(&failed).contains("FunctionConfigLogsIngestionRuleId"), "{failed:?}");

    // A row is to blame only if the sink is known to take others.
    for (accepted, blamed) in [(0, 0), (1, 1)] {
        trust.monitor.script.push([Fault::Pass, Fault::Pass, Fault::status(404)]);
        let standing = Standing { accepted, ..trust.standing() };
        let failed = trust.rule().deliver(batch(2, &[0]), standing).await.unwrap_err();
        assert_eq!(failed.refused.len(), blamed);
    }
}

#[tokio::test]
async fn an_answer_from_something_that_is_not_azure_is_no_delivery() {
    let trust = Trust::start().await.unwrap();
    let portal =
        Fault::Answer { status: 200, headers: vec![], body: "<html>Sign in</html>".into() };
    trust.monitor.script.push([portal]);
    let failed = trust.rule().deliver(batch(1, &[]), trust.standing()).await.unwrap_err();
    assert!(failed.accepted.is_empty());
    assert!(failed.advice.message.contains("perhaps a proxy"), "{failed:?}");
}

#[tokio::test]
async fn a_sink_that_cannot_be_reached_names_the_setting_to_check() {
    let trust = Trust::start().await.unwrap();
    let (rule, workspace) = (trust.rule(), trust.workspace());
    let standing = trust.standing();
    trust.credential.token(logs_ingestion::AUDIENCE).await.unwrap();
    drop(trust);
    // The listener lets go of its port once its task is dropped.
    tokio::task::yield_now().await;
    let failed = rule.deliver(batch(1, &[]), standing).await.unwrap_err();
    assert!(words(&failed).contains("FunctionConfigLogsIngestionEndpoint"), "{failed:?}");
    let failed = workspace.deliver(classic(1), standing).await.unwrap_err();
    assert!(words(&failed).contains("Microsoft retired this interface"), "{failed:?}");
}

#[tokio::test]
async fn a_clock_a_quarter_of_an_hour_off_is_refused_as_the_service_does() {
    let trust = Trust::start().await.unwrap();
    let off = Clock::stopped_at(trust.clock.now() + Duration::from_mins(16));
    let target = Target::DataCollector(trust.monitor.workspace());
    let sink = Sink::alerts(&target, trust.http.clone(), off, trust.credential.clone()).unwrap();
    let failed = sink.deliver(classic(1), trust.standing()).await.unwrap_err();
    assert!(failed.advice.message.contains("403"), "{failed:?}");
    assert!(failed.advice.next_step.contains("clock"), "{failed:?}");
}

#[tokio::test]
async fn no_secret_and_no_row_reaches_a_debug_or_an_error() {
    let trust = Trust::start().await.unwrap();
    let token = trust.credential.token(logs_ingestion::AUDIENCE).await.unwrap();
    let secrets = [
        KEY.to_owned(),
        "c2VjcmV0LWtleQ==".to_owned(),
        token.expose_secret().to_owned(),
        trust.identity.endpoint().header.expose_secret().to_owned(),
        "POISON".to_owned(),
    ];
    trust.monitor.tables.refuse_rows_matching("POISON");
    let sas = EventHubAuth::Sas(trust.hub.policy());
    let mut printed = vec![format!("{:?} {:?}", trust.credential, trust.hub(sas.clone()))];
    for (sink, sent) in [
        (trust.rule(), batch(4, &[0, 1, 2, 3])),
        (trust.workspace(), batch(4, &[0, 1, 2, 3])),
        (trust.hub(sas), batch(4, &[0, 1, 2, 3])),
        (trust.hub(EventHubAuth::Identity), batch(4, &[0, 1, 2, 3])),
    ] {
        let failed = sink.deliver(sent, trust.standing()).await.unwrap_err();
        printed.push(format!("{sink:?} {failed:?} {}", words(&failed)));
    }
    let singled = trust.rule().deliver(batch(2, &[1]), trust.standing()).await.unwrap();
    assert_eq!(singled.refused.len(), 1);
    printed.push(format!("{singled:?}"));
    for secret in secrets {
        assert!(!printed.concat().contains(&secret), "{secret} in {printed:?}");
    }
}
