//! A fleet of trusts that share one Defender, living through a day in virtual
//! time.
//!
//! Every trust is the real export: its own state, sign-in, schedule and share.
//! Only time and the network are not real: run it where tokio's clock is
//! paused. Defender is as strict as it may be: sliding spans, and calls that
//! fail count as well.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::report::{Row, Sighting};

use defender_alert_export::app::App;
use defender_alert_export::clock::Clock;
use defender_alert_export::config::{Config, Schedule, Vars};
use defender_alert_export::domain::timestamp::Timestamp;
use defender_alert_export::http::retry::{RetryPolicy, pause};
use defender_alert_export::http::{self, Http};
use defender_alert_export::pipeline::Ended;
use defender_alert_export::sandbox::clouds::{CLIENT, Clouds, TABLE};
use defender_alert_export::sandbox::defender::Outage;
use defender_alert_export::sandbox::sample;
use defender_alert_export::store::state::State;
use defender_alert_export::store::{Local, Store};

/// Alerts of one trust come this far apart.
const APART: Duration = Duration::from_mins(20);

/// What a day brings.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Event {
    /// Nothing.
    Nothing,
    /// Defender fails for an hour.
    Outage(Outage),
    /// So many alerts change at once: half of them evenly, half in ten trusts.
    MassUpdate(u64),
    /// No app has been running for this long; now all start in the same second.
    Restart(Duration),
}

/// A part of the day.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Phase {
    /// For the table.
    pub(crate) name: &'static str,
    /// What it begins with.
    pub(crate) event: Event,
    /// How long it lasts.
    pub(crate) lasts: Duration,
}

/// Which fleet, and its day.
#[derive(Clone, Debug)]
pub(crate) struct Fleet {
    /// How many trusts.
    pub(crate) trusts: u64,
    /// `FunctionConfigCallsPerHour` of each; `None` leaves the default.
    pub(crate) share: Option<u32>,
    /// Calls Defender allows within a minute and within an hour.
    pub(crate) quotas: (usize, usize),
    /// Whether Defender counts calls that it refuses too.
    pub(crate) refused_count: bool,
    /// Its day.
    pub(crate) day: Vec<Phase>,
}

struct World {
    clouds: Clouds,
    http: Http,
    folder: PathBuf,
    share: Option<u32>,
    /// When no app is running.
    down: Vec<(Timestamp, Timestamp)>,
    ends: Timestamp,
    seen: Mutex<Vec<Sighting>>,
}

/// What a day was like.
pub(crate) struct Lived {
    pub(crate) rows: Vec<Row>,
    /// Each trust's period at the end of the day, in minutes.
    pub(crate) periods: Vec<u32>,
    /// Alert versions there were.
    pub(crate) expected: u64,
    /// Rows that arrived.
    pub(crate) delivered: u64,
}

/// One trust while its app runs or not.
struct Trust {
    number: u64,
    schedule: Schedule,
    store: Store,
    app: Option<App>,
}

/// The seconds a deployment gives its trust: as `infra/modules/exporter.bicep` makes them,
/// with another hash.
fn schedule_of(number: u64) -> String {
    let hash = Sha256::digest(format!("trust {number}"));
    let at = |index: usize| {
        hash.iter().skip(index).take(4).fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte))
            % 32_768
    };
    format!("{} {}-59/5 * * * *", at(0) % 60, at(4) % 5)
}

fn group_of(number: u64) -> String {
    format!("Trust {number}")
}

fn user_of(number: u64) -> String {
    format!("alerts.{number}@identity.example.nhs.uk")
}

impl World {
    /// Reads what the app's settings are and puts the app together over the
    /// trust's state, which a restart does not touch.
    fn start(&self, number: u64, store: &Store) -> Result<App> {
        let mut settings = self.clouds.settings();
        let own = [
            ("FunctionConfigTrustName", format!("T{number}")),
            ("FunctionConfigDeviceGroups", group_of(number)),
            ("FunctionConfigTimerSchedule", schedule_of(number)),
        ];
        settings.extend(own.map(|(name, value)| (name.to_owned(), value)));
        if let Some(share) = self.share {
            settings.push(("FunctionConfigCallsPerHour".to_owned(), share.to_string()));
        }
        let config = Config::load(&Vars::map(settings))?;
        let calls_per_hour = config.source.calls_per_hour;
        let folder = self.folder.join(number.to_string());
        let mut app =
            App::build(config, self.clouds.clock.clone(), self.http.clone(), Some(&folder))?;
        // In memory: a day of files is a day of waiting for the disk.
        let exporter = Arc::get_mut(&mut app.exporter).context("the app is not running yet")?;
        exporter.state = State::new(store.clone(), exporter.rules.memory, calls_per_hour);
        app.state = exporter.state.clone();
        Ok(app)
    }

    /// As a person of the trust would.
    async fn sign_in(&self, number: u64, app: &App) -> Result<()> {
        let code = app.identity.start("the fleet").await?;
        let oid = Uuid::new_v5(&CLIENT, &number.to_be_bytes());
        self.clouds.entra.approve(&user_of(number), oid);
        pause(code.next_poll_at.since(self.clouds.clock.now())).await;
        app.identity.poll().await?;
        Ok(())
    }

    /// Lets a trust's timer fire until the day ends.
    async fn live(&self, mut trust: Trust) -> Result<Trust> {
        let clock = &self.clouds.clock;
        loop {
            let now = clock.now();
            let next = trust.schedule.next(now).context("the schedule fires")?;
            let down = self.down.iter().find(|(from, to)| *from <= next && next < *to);
            let at = down.map_or(next, |(_, to)| *to);
            if at >= self.ends {
                return Ok(trust);
            }
            pause(at.since(now)).await;
            if down.is_some() {
                trust.app = None;
                trust.app = Some(self.start(trust.number, &trust.store)?);
            }
            let app = trust.app.as_ref().context("the app is running")?;
            if let Ended::Reported(heartbeat, _) = app.exporter.run(Uuid::new_v4()).await {
                let sighting = Sighting::of(trust.number, clock.now(), &heartbeat);
                self.seen.lock().unwrap_or_else(PoisonError::into_inner).extend(sighting);
            }
        }
    }

    /// Lets the day happen to Defender.
    async fn happen(&self, day: &[Phase], trusts: u64) {
        let defender = &self.clouds.defender;
        let mut number = 1_000_000_000;
        for phase in day {
            let began = self.clouds.clock.now();
            match phase.event {
                Event::Nothing | Event::Restart(_) => {}
                Event::Outage(outage) => {
                    defender.behave(|manners| manners.outage = Some(outage));
                    pause(Duration::from_hours(1)).await;
                    defender.behave(|manners| manners.outage = None);
                }
                Event::MassUpdate(count) => {
                    let changed = (0..count).map(|n| {
                        let whose =
                            if n % 2 == 0 { n / 2 % trusts } else { n / 2 % trusts.min(10) };
                        let at = began + Duration::from_micros(n);
                        let alert = sample::alert(number + n, &group_of(whose), at);
                        sample::Sample { evidence: 0, ..alert }
                    });
                    defender.add(changed);
                    number += count;
                }
            }
            pause(phase.lasts.saturating_sub(self.clouds.clock.now().since(began))).await;
        }
    }

    /// Ordinary alerts, all day long.
    fn ordinary(&self, trusts: u64, from: Timestamp) -> u64 {
        // The last are delivered before the day ends.
        let span = self.ends.since(from).saturating_sub(Duration::from_hours(1));
        let each = span.as_secs() / APART.as_secs();
        let alerts = (0..trusts).flat_map(|trust| {
            (0..each).map(move |n| {
                let at = from
                    + APART * u32::try_from(n).unwrap_or_default()
                    + Duration::from_millis(4_801 * trust);
                let alert = sample::alert(trust * 10_000 + n, &group_of(trust), at);
                sample::Sample { evidence: 0, ..alert }
            })
        });
        self.clouds.defender.add(alerts);
        each * trusts
    }
}

impl World {
    /// A Defender as the fleet finds it, in which each account sees the alerts
    /// of its own trust.
    async fn new(fleet: &Fleet, clock: Clock, begins: Timestamp, folder: &Path) -> Result<Self> {
        let clouds = Clouds::in_process(clock).await?;
        let http = Http::in_process(http::client()?, RetryPolicy::RUN, clouds.servers());
        clouds.monitor.tables.only_count();
        clouds.defender.behave(|manners| {
            (manners.per_minute, manners.per_hour) = fleet.quotas;
            manners.refused_count = fleet.refused_count;
        });
        let tokens = clouds.entra.tokens.clone();
        // The token of the call at hand, and whose it is.
        let last = Mutex::new((String::new(), String::new()));
        clouds.defender.show_only(Arc::new(move |token, group| {
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.0 != token {
                let user = tokens.username(token).unwrap_or_default();
                let number = user.split(['.', '@']).nth(1).unwrap_or_default();
                *last = (token.to_owned(), format!("Trust {number}"));
            }
            group == Some(last.1.as_str())
        }));
        let (mut down, mut ends) = (Vec::new(), begins);
        for phase in &fleet.day {
            if let Event::Restart(span) = phase.event {
                down.push((ends - span, ends));
            }
            ends = ends + phase.lasts;
        }
        let folder = folder.to_owned();
        Ok(Self { clouds, http, folder, share: fleet.share, down, ends, seen: Mutex::default() })
    }

    /// A trust whose app runs and whose sign-in is done.
    async fn trust(&self, number: u64) -> Result<Trust> {
        let store = Store::Local(Local::in_memory()?);
        let app = self.start(number, &store)?;
        self.sign_in(number, &app).await?;
        let schedule = Schedule::parse(&schedule_of(number)).context("a schedule")?;
        Ok(Trust { number, schedule, store, app: Some(app) })
    }

    /// The trust's period, in minutes.
    async fn period(&self, trust: &Trust) -> Result<u32> {
        let app = trust.app.as_ref().context("the app is running")?;
        let checkpoint = app.state.checkpoint().await?.context("the trust has run")?;
        let slot = trust.schedule.slot(self.clouds.clock.now());
        Ok(checkpoint.pace.period(&checkpoint.budget, slot))
    }
}

/// Lives the day; `folder` is for what the apps keep on disk.
pub(crate) async fn live(fleet: &Fleet, folder: &Path) -> Result<Lived> {
    let clock = Clock::starting_at("2026-11-20T00:00:00Z".parse()?);
    let begins: Timestamp = "2026-11-20T06:00:00Z".parse()?;
    let world = Arc::new(World::new(fleet, clock.clone(), begins, folder).await?);
    let mut trusts = Vec::new();
    for number in 0..fleet.trusts {
        trusts.push(world.trust(number).await?);
    }
    let mut expected = world.ordinary(fleet.trusts, begins);
    pause(begins.since(clock.now())).await;

    let mut living = JoinSet::new();
    for trust in trusts {
        let world = Arc::clone(&world);
        living.spawn(async move { world.live(trust).await });
    }
    world.happen(&fleet.day, fleet.trusts).await;
    let mut periods = Vec::new();
    while let Some(trust) = living.join_next().await {
        periods.push(world.period(&trust??).await?);
    }

    let seen = std::mem::take(&mut *world.seen.lock().unwrap_or_else(PoisonError::into_inner));
    let called = world.clouds.defender.called();
    let mut rows = Vec::new();
    let mut from = begins;
    for phase in &fleet.day {
        let mut row = Row::new(phase.name, phase.event, from, from + phase.lasts);
        row.fill(&called, &seen, fleet.trusts);
        rows.push(row);
        from = from + phase.lasts;
        if let Event::MassUpdate(count) = phase.event {
            expected += count;
        }
    }
    let delivered = world.clouds.monitor.tables.count(TABLE);
    Ok(Lived { rows, periods, expected, delivered })
}
