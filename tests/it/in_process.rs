//! The whole export without a socket, in paused time.

use defender_alert_export::app::App;
use defender_alert_export::clock::Clock;
use defender_alert_export::config::{Config, Vars};
use defender_alert_export::domain::heartbeat::Status;
use defender_alert_export::http::retry::RetryPolicy;
use defender_alert_export::http::{self, Http};
use defender_alert_export::pipeline::Ended;
use defender_alert_export::sandbox::clouds::{ACCOUNT, ACCOUNT_ID, Clouds, GROUP, TABLE};
use defender_alert_export::sandbox::sample;
use defender_alert_export::sandbox::script::Fault;
use tokio::time::Instant;
use uuid::Uuid;

use crate::world::{Folder, at, minutes};

#[tokio::test(start_paused = true)]
async fn a_run_needs_no_socket_and_waits_in_virtual_time() {
    let clouds = Clouds::in_process(Clock::stopped_at(at("2026-11-21T10:00:00Z"))).await.unwrap();
    let folder = Folder::new();
    let http = Http::in_process(http::client().unwrap(), RetryPolicy::RUN, clouds.servers());
    let config = Config::load(&Vars::map(clouds.settings())).unwrap();
    let app = App::build(config, clouds.clock.clone(), http, Some(folder.path())).unwrap();
    let code = app.identity.start("the test").await.unwrap();
    assert!(clouds.entra.approve(ACCOUNT, ACCOUNT_ID));
    clouds.clock.advance(code.next_poll_at.since(clouds.clock.now()));
    app.identity.poll().await.unwrap();
    let seen = clouds.clock.now() - minutes(10);
    clouds.defender.add((0..1_500).map(|n| sample::alert(n, GROUP, seen)));
    // A hang is left after a minute and a half; a page cut off is read again.
    clouds.defender.script().push([Fault::Hang, Fault::Pass, Fault::CutAfter(90_000)]);

    let begun = Instant::now();
    let Ended::Reported(heartbeat, _) = app.exporter.run(Uuid::new_v4()).await else {
        panic!("the run stood aside");
    };
    assert_eq!(
        (heartbeat.status, heartbeat.counts.delivered),
        (Status::Ok, 1_500),
        "{heartbeat:?}"
    );
    assert!(begun.elapsed() > minutes(1), "{:?}", begun.elapsed());
    assert_eq!(clouds.monitor.tables.count(TABLE), 1_500);
    let targets = clouds.defender.script().seen();
    assert!(targets.iter().all(|seen| seen.target.starts_with("/api/alerts?")), "{targets:?}");
}
