//! A trust's deployment and all its clouds, with time moved by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use defender_alert_export::app::App;
use defender_alert_export::clock::Clock;
use defender_alert_export::config::{Config, Vars};
use defender_alert_export::domain::heartbeat::{Heartbeat, Status};
use defender_alert_export::domain::standing::Standing;
use defender_alert_export::domain::timestamp::Timestamp;
use defender_alert_export::http::Http;
use defender_alert_export::http::retry::RetryPolicy;
use defender_alert_export::pipeline::{Ended, Exporter};
use defender_alert_export::sandbox::clouds::{ACCOUNT, ACCOUNT_ID, Clouds, GROUP, TABLE};
use defender_alert_export::sandbox::sample::{self, Sample};
use defender_alert_export::store::{Change, Fields, Local, Store, Value as Field};
use serde_json::Value;
use uuid::Uuid;

pub(crate) const START: &str = "2026-11-21T10:00:00Z";
pub(crate) const BEATS: &str = "Heartbeat_CL";
pub(crate) const FOREIGN: &str = "RYY Another Trust";
pub(crate) const TARGETS: [&str; 3] = ["LogsIngestion", "LogAnalytics", "EventHub"];

/// A folder that goes when the test ends.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(Uuid::new_v4().to_string()))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left behind harms nobody.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// One deployment.
pub(crate) struct World {
    pub(crate) clouds: Clouds,
    pub(crate) folder: Folder,
    settings: BTreeMap<String, String>,
    app: Option<App>,
}

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(crate) const fn minutes(count: u64) -> Duration {
    Duration::from_mins(count)
}

/// What the workspace knows this version by.
pub(crate) fn key(sample: &Sample) -> String {
    format!("{}|{}", sample.id(), sample.updated)
}

pub(crate) fn keys<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> Vec<String> {
    let mut keys: Vec<_> = samples.into_iter().map(key).collect();
    keys.sort();
    keys
}

/// As a run waits, a thousand times faster.
pub(crate) fn quick() -> RetryPolicy {
    RetryPolicy {
        attempts: NonZeroU32::new(4).unwrap(),
        base: Duration::from_millis(1),
        cap: Duration::from_millis(5),
        budget: Duration::from_mins(1),
        jitter: false,
    }
}

impl World {
    /// Signed in, with no alerts yet.
    pub(crate) async fn new(extra: &[(&str, &str)]) -> Self {
        let world = Self::signed_out(extra).await;
        world.sign_in().await;
        world
    }

    /// With what the Python predecessor left behind.
    pub(crate) async fn after_the_predecessor(end_time: &str) -> Self {
        let mut world = Self::signed_out(&[]).await;
        world.app = None;
        let store = Store::Local(Local::open(world.folder.path()).unwrap());
        let fields = Fields::from([("end_time".to_owned(), Field::Text(end_time.to_owned()))]);
        let row = Change::Insert { key: "QueryEndTime".to_owned(), fields };
        store.commit(&[row]).await.unwrap();
        drop(store);
        world.restart(&[]);
        world.sign_in().await;
        world
    }

    pub(crate) async fn signed_out(extra: &[(&str, &str)]) -> Self {
        let clouds = Clouds::start(Clock::stopped_at(at(START))).await.unwrap();
        let settings = clouds.settings().into_iter().collect();
        let mut world = Self { clouds, folder: Folder::new(), settings, app: None };
        world.restart(extra);
        world
    }

    /// The process ends and starts again, with some settings changed.
    pub(crate) fn restart(&mut self, changes: &[(&str, &str)]) {
        self.app = None;
        for (name, value) in changes {
            self.settings.insert((*name).to_owned(), (*value).to_owned());
        }
        let config = Config::load(&self.vars()).unwrap();
        let clock = self.clouds.clock.clone();
        self.app = Some(
            App::build(config, clock, Http::network(quick()).unwrap(), Some(self.folder.path()))
                .unwrap(),
        );
    }

    /// The process ends; nobody has the state open.
    pub(crate) fn stop(&mut self) {
        self.app = None;
    }

    pub(crate) fn vars(&self) -> Vars {
        Vars::Map(self.settings.clone())
    }

    pub(crate) fn app(&self) -> &App {
        self.app.as_ref().unwrap()
    }

    /// A second instance of the app over the same state.
    pub(crate) fn another_instance(&self) -> Exporter {
        let Exporter { clock, identity, source, sinks, heartbeats, state, blobs, dates, rules } =
            Arc::as_ref(&self.app().exporter);
        let mut rules = rules.clone();
        rules.instance = "another".to_owned();
        Exporter {
            clock: clock.clone(),
            identity: identity.clone(),
            source: source.clone(),
            sinks: sinks.clone(),
            heartbeats: heartbeats.clone(),
            state: state.clone(),
            blobs: blobs.clone(),
            dates: dates.clone(),
            rules,
        }
    }

    pub(crate) async fn sign_in(&self) {
        let code = self.app().identity.start("the test").await.unwrap();
        assert!(self.clouds.entra.approve(ACCOUNT, ACCOUNT_ID));
        self.clouds.clock.advance(code.next_poll_at.since(self.now()));
        let standing = self.app().identity.poll().await.unwrap();
        assert!(matches!(standing, Standing::SignedIn(_)), "{standing:?}");
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clouds.clock.now()
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.clouds.clock.advance(time);
    }

    /// Adds alerts of ours, a second apart, the last of them so long ago.
    pub(crate) fn add(&self, numbers: std::ops::Range<u64>, ago: Duration) -> Vec<Sample> {
        let latest = self.now() - ago;
        let last = numbers.end;
        let samples: Vec<_> = numbers
            .map(|n| sample::alert(n, GROUP, latest - Duration::from_secs(last - 1 - n)))
            .collect();
        self.clouds.defender.add(samples.clone());
        samples
    }

    /// Makes a new version of an alert.
    pub(crate) fn update(&self, sample: &Sample, ago: Duration) -> Sample {
        let newer = Sample { updated: self.now() - ago, status: "InProgress", ..sample.clone() };
        self.clouds.defender.add([newer.clone()]);
        newer
    }

    /// One run, which must not stand aside.
    pub(crate) async fn run(&self) -> Heartbeat {
        match self.app().exporter.run(Uuid::new_v4()).await {
            Ended::Reported(heartbeat, _) => *heartbeat,
            Ended::StoodAside => panic!("the run stood aside"),
        }
    }

    /// Nine runs `apart` from each other, before each of which alerts come and
    /// one changes, and after each of which the process starts anew: a restart
    /// forgets nothing. What there is to be delivered.
    pub(crate) async fn live_through_nine_runs(&mut self, apart: Duration) -> Vec<Sample> {
        let mut expected = self.add(1..40, minutes(3));
        for round in 0..9_u64 {
            let first = 100 * (round + 1);
            expected.extend(self.add(first..first + 5, minutes(2)));
            let changed = self.update(&expected[usize::try_from(round).unwrap()], minutes(2));
            expected.push(changed);
            let heartbeat = self.run().await;
            assert_eq!(heartbeat.status, Status::Ok, "{}", heartbeat.message);
            self.restart(&[]);
            self.pass(apart);
        }
        // What was changed before the first run had one version to send.
        expected.remove(0);
        expected
    }

    /// The next run on an ordinary day.
    pub(crate) async fn five_minutes_later(&self) -> Heartbeat {
        self.pass(minutes(5));
        self.run().await
    }

    pub(crate) fn rows(&self) -> Vec<Value> {
        let events = self.clouds.hub.events();
        let events = events.iter().map(|event| serde_json::from_str(event).unwrap());
        self.clouds.monitor.tables.rows(TABLE).into_iter().chain(events).collect()
    }

    /// Every key delivered, sorted; one delivered twice is there twice.
    pub(crate) fn delivered(&self) -> Vec<String> {
        Self::keys_of(&self.rows())
    }

    /// The keys of `rows`, sorted.
    pub(crate) fn keys_of(rows: &[Value]) -> Vec<String> {
        let key = |row: &Value| row["ExportKey"].as_str().unwrap().to_owned();
        let mut keys: Vec<_> = rows.iter().map(key).collect();
        keys.sort();
        keys
    }

    pub(crate) fn delivered_once(&self) -> BTreeSet<String> {
        self.delivered().into_iter().collect()
    }

    pub(crate) fn beats(&self) -> Vec<Value> {
        self.clouds.monitor.tables.rows(BEATS)
    }

    pub(crate) async fn position(&self) -> Timestamp {
        let checkpoint = self.app().state.checkpoint().await.unwrap();
        checkpoint.expect("a position").progress.position()
    }

    /// Calls Defender has seen.
    pub(crate) fn calls(&self) -> usize {
        self.clouds.defender.script().seen().len()
    }

    /// As after a run that was cut short when it had read the overlap again up to
    /// so long ago.
    pub(crate) async fn was_cut_short(&self, ago: Duration) {
        let state = &self.app().state;
        let mut opened = state.open(self.now(), self.now()).await.unwrap();
        opened.checkpoint.read_to = Some(self.now() - ago);
        state.save(&mut opened).await.unwrap();
    }

    /// The names of blobs and what they hold.
    pub(crate) async fn blobs(&self, prefix: &str) -> Vec<(String, String)> {
        let mut held = Vec::new();
        for name in self.app().blobs.list(prefix).await.unwrap() {
            let bytes = self.app().blobs.get(&name).await.unwrap().unwrap();
            held.push((name, String::from_utf8(bytes.to_vec()).unwrap()));
        }
        held
    }
}
