//! An event hub that is asked too much does not say when to come back.

use defender_alert_export::azure::credential::Credential;
use defender_alert_export::clock::Clock;
use defender_alert_export::config::{EventHubAuth, Target};
use defender_alert_export::http::retry::RetryPolicy;
use defender_alert_export::http::{self, Http};
use defender_alert_export::sandbox::clouds::Clouds;
use defender_alert_export::sink::Sink;
use defender_alert_export::sink::delivery::Standing;
use futures_util::future::join_all;
use tokio::time::Instant;

use super::{NOW, events, whole};

#[tokio::test(start_paused = true)]
async fn a_hub_of_one_unit_takes_in_one_run_what_is_sent_to_it_at_once() {
    for jitter in [false, true] {
        let clock = Clock::stopped_at(NOW.parse().unwrap());
        let clouds = Clouds::in_process(clock.clone()).await.unwrap();
        clouds.hub.keep_to_one_unit();
        let policy = RetryPolicy { jitter, ..RetryPolicy::RUN };
        let http = Http::in_process(http::client().unwrap(), policy, clouds.servers());
        let endpoint = Some(clouds.managed_identity.endpoint());
        let credential = Credential::new(http.clone(), clock.clone(), endpoint);
        let target = Target::EventHub(clouds.hub.hub(EventHubAuth::Sas(clouds.hub.policy())));
        let sink = Sink::alerts(&target, http, clock.clone(), credential).unwrap();
        let standing = Standing { deployed_at: clock.now(), accepted: 0, refused: 0 };
        let begun = Instant::now();
        // 3.2 MB.
        let sent = join_all((0..4).map(|_| sink.deliver(events(50, 16_000), standing))).await;
        for delivered in sent {
            whole(&delivered.unwrap(), 50);
        }
        let waited = begun.elapsed().as_secs();
        assert!((4..=30).contains(&waited), "{waited} seconds");
        let seen = clouds.hub.script.seen();
        let throttled = seen.iter().filter(|seen| seen.status == 503).count();
        assert!((3..=6).contains(&throttled), "{throttled} of {}", seen.len());
    }
}
