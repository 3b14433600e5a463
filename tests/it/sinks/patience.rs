//! A role that is not in force yet is given the time that it takes.

use std::time::Duration;

use axum::Router;
use axum::http::{Method, StatusCode};
use defender_alert_export::config::{EventHubAuth, StorageAuth, StorageBlob, Target};
use defender_alert_export::sandbox::script::{Fault, Script, listen};
use defender_alert_export::sink::delivery::Standing;

use super::{Trust, batch, events, whole};

/// Of a deployment made so many minutes ago.
fn deployed(trust: &Trust, minutes: u64) -> Standing {
    let deployed_at = trust.clock.now() - Duration::from_mins(minutes);
    Standing { deployed_at, ..trust.standing() }
}

#[tokio::test]
async fn a_role_that_comes_into_force_within_half_an_hour_is_waited_for_in_the_same_run() {
    let trust = Trust::start().await.unwrap();
    let (rule, hub) = (trust.rule(), trust.hub(EventHubAuth::Identity));
    trust.monitor.script.push(vec![Fault::status(403); 3]);
    let delivered = rule.deliver(batch(3, &[]), deployed(&trust, 29)).await.unwrap();
    whole(&delivered, 3);
    assert_eq!(delivered.requests, 4);

    // An event hub says it by 401, which a fresh token is tried against first.
    for refusals in [vec![Fault::status(403); 3], vec![Fault::status(401); 4]] {
        let count = u64::try_from(refusals.len()).unwrap();
        trust.hub.script.push(refusals);
        let delivered = hub.deliver(events(3, 9), deployed(&trust, 29)).await.unwrap();
        whole(&delivered, 3);
        assert_eq!(delivered.requests, count + 1);
    }
}

#[tokio::test]
async fn a_role_on_a_container_is_waited_for_too() {
    let trust = Trust::start().await.unwrap();
    // It takes whatever it is sent.
    let router = Router::new().fallback(|method: Method| async move {
        if method == Method::PUT { StatusCode::CREATED } else { StatusCode::OK }
    });
    let script = Script::default();
    let listening = listen(router, script.clone()).await.unwrap();
    let target = Target::StorageBlob(StorageBlob {
        service: listening.url.clone(),
        auth: StorageAuth::Identity,
        container: "alerts".to_owned(),
        table: "DefenderRawAlert".to_owned(),
    });
    let sink = trust.sink(&target);
    for (minutes, is_taken) in [(29, true), (31, false)] {
        script.push(vec![Fault::status(403); 3]);
        let sent = sink.deliver(batch(3, &[]), deployed(&trust, minutes)).await;
        assert_eq!(sent.is_ok(), is_taken, "after {minutes} minutes: {sent:?}");
        script.clear();
    }
}

#[tokio::test]
async fn a_role_that_does_not_come_is_asked_for_no_longer_than_anything_and_not_called_missing() {
    let trust = Trust::start().await.unwrap();
    let refusals = || vec![Fault::status(403); 20];
    for (minutes, requests, said) in
        [(29, 4, "take up to 30 minutes"), (31, 1, "does not let the app in (403)")]
    {
        trust.monitor.script.push(refusals());
        let sent = trust.rule().deliver(batch(1, &[]), deployed(&trust, minutes)).await;
        let failed = sent.unwrap_err();
        assert_eq!(failed.requests, requests, "after {minutes} minutes");
        assert!(failed.advice.message.contains(said), "{failed:?}");
        assert!(failed.advice.next_step.contains("Monitoring Metrics Publisher"), "{failed:?}");
        trust.monitor.script.clear();
    }
    // A key is in force at once.
    trust.monitor.script.push(refusals());
    let sent = trust.workspace().deliver(super::classic(1), deployed(&trust, 29)).await;
    assert_eq!(sent.unwrap_err().requests, 1);
    let by_policy = trust.hub(EventHubAuth::Sas(trust.hub.policy()));
    trust.hub.script.push(vec![Fault::status(401); 20]);
    let sent = by_policy.deliver(events(1, 9), deployed(&trust, 29)).await;
    assert_eq!(sent.unwrap_err().requests, 1);
}
