//! `demo`: the whole export against clouds served on this machine.
//!
//! Everything but the clouds is the real thing: settings, sign-in, paging,
//! guard, rows, delivery, state, heartbeats. Time is moved by hand between the
//! runs, so that an afternoon passes in a second. Afterwards the portal stays
//! up on the same clouds, with time at its usual pace and a run every so often.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use futures_util::FutureExt as _;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{Failure, Local, print, sign_in};
use crate::app::{self, App};
use crate::clock::Clock;
use crate::config::{Config, Vars};
use crate::domain::advice::counted;
use crate::domain::standing::Standing;
use crate::host::{self, Runs};
use crate::http::Http;
use crate::http::retry::{RetryPolicy, pause};
use crate::pipeline::Ended;
use crate::portal;
use crate::sandbox::clouds::{ACCOUNT, ACCOUNT_ID, Clouds, GROUP, TABLE};
use crate::sandbox::sample;
use crate::sandbox::script::Fault;

#[derive(Clone, Debug, Args)]
pub(crate) struct DemoArgs {
    #[command(flatten)]
    local: Local,
    /// End after the last run; otherwise the portal stays up until Ctrl-C.
    #[arg(long)]
    exit: bool,
    /// Port of the portal; any that is free when absent.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Print JSON for machines.
    #[arg(long)]
    json: bool,
}

/// One act of the demo: what happens in the world, then a run.
struct Act {
    title: &'static str,
    new_alerts: u64,
    /// How the world differs from an ordinary five minutes.
    twist: fn(&Clouds),
}

const ACTS: [Act; 6] = [
    Act { title: "First run: the last 24 hours", new_alerts: 600, twist: |_| {} },
    Act { title: "Five minutes later: a few new alerts", new_alerts: 40, twist: |_| {} },
    Act {
        title: "Defender asks for fewer calls",
        new_alerts: 60,
        twist: |clouds| clouds.defender.script().push([Fault::throttled(100)]),
    },
    Act {
        title: "The workspace is busy, then answers are lost",
        new_alerts: 100,
        twist: |clouds| clouds.monitor.script.push([Fault::status(503), Fault::LoseAnswer]),
    },
    Act {
        title: "Forty-five minutes later: nothing new",
        new_alerts: 0,
        twist: |clouds| clouds.clock.advance(Duration::from_mins(40)),
    },
    Act {
        title: "An alert of another trust's device is in the answer",
        new_alerts: 200,
        twist: |clouds| {
            let seen = clouds.clock.now() - Duration::from_mins(2);
            clouds.defender.add([sample::alert(900_001, "RYY Another Trust", seen)]);
        },
    },
];

/// What a demo leaves in its folder.
const MADE: [&str; 2] = ["state.redb", "blobs"];
/// How often the portal's visitors see a run.
const RUN_EVERY_SECONDS: u64 = 15;
/// Alerts of the trust in all acts together.
const ALERTS: u64 = 1_000;

/// Runs the acts and counts at the end.
pub(super) async fn demo(args: &DemoArgs) -> Result<ExitCode, Failure> {
    let clock = Clock::stopped_at(Clock::System.now());
    let clouds = Clouds::start(clock.clone()).await.context("the clouds cannot be served")?;
    let dir = args.local.state_dir.join("demo");
    let app = build(&clouds, &dir)?;
    if !args.json {
        print::out(
            "Entra, Defender, Log Analytics and the managed identity are served on 127.0.0.1.\n",
        );
    }
    enter(&clouds, &app, args.json).await?;
    let mut number = 0;
    for act in &ACTS {
        clock.advance(Duration::from_mins(5));
        let spread = if number == 0 { Duration::from_hours(23) } else { Duration::from_mins(3) };
        add_alerts(&clouds, number, act.new_alerts, spread);
        number += act.new_alerts;
        (act.twist)(&clouds);
        let ended = app.exporter.run(Uuid::new_v4()).await;
        show(act, &ended, args.json)?;
    }
    let verdict = Verdict::of(&clouds);
    let done = if verdict.complete { ExitCode::SUCCESS } else { ExitCode::from(1) };
    if args.json {
        print::out(serde_json::to_string(&verdict)?);
    } else {
        print::out(verdict.words());
    }
    if !args.exit {
        stay(&clouds, &app, args).await?;
    }
    Ok(done)
}

/// Keeps the portal up, as `serve` does, with the timer played by the demo.
async fn stay(clouds: &Clouds, app: &App, args: &DemoArgs) -> anyhow::Result<()> {
    let exporter = Arc::clone(&app.exporter);
    let runs = Runs::new(move |run| {
        let exporter = Arc::clone(&exporter);
        async move { exporter.run(run).await }.boxed()
    });
    let socket = host::bind(args.port).await?;
    let address = format!("http://{}{}", socket.local_addr()?, portal::BASE);
    if args.json {
        print::out(serde_json::json!({ "Portal": address }));
    } else {
        print::out(format_args!("\nThe portal stays up until Ctrl-C:\n\n    {address}\n"));
    }
    let router = app::router(runs.clone(), app.portal(), app.durable.clone());
    tokio::select! {
        _ = host::serve(socket, router, runs.clone(), host::stop_signal()) => Ok(()),
        () = pass_time(&clouds.clock, &runs) => Ok(()),
    }
}

/// Never ends: a second a second, and now and then a run.
async fn pass_time(clock: &Clock, runs: &Runs) {
    for second in 1_u64.. {
        pause(Duration::from_secs(1)).await;
        clock.advance(Duration::from_secs(1));
        if second.is_multiple_of(RUN_EVERY_SECONDS) {
            runs.run(Uuid::new_v4()).await;
        }
    }
}

/// A demo begins anew: what a former one left in its own folder goes, and
/// nothing else. What else there is, somebody put there.
fn clear(dir: &Path) -> anyhow::Result<()> {
    const CANNOT: &str = "the state of a former demo cannot be removed";
    if !dir.exists() {
        return Ok(());
    }
    let held = fs::read_dir(dir).context(CANNOT)?.collect::<Result<Vec<_>, _>>().context(CANNOT)?;
    if let Some(other) = held.iter().find(|it| !MADE.iter().any(|made| it.file_name() == *made)) {
        anyhow::bail!(
            "{} holds `{}`, which no demo made; nothing was removed. Move it away, or give another folder with --state-dir",
            dir.display(),
            other.file_name().display()
        );
    }
    for own in held {
        let path = own.path();
        let is_folder = own.file_type().context(CANNOT)?.is_dir();
        if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) }.context(CANNOT)?;
    }
    Ok(())
}

fn build(clouds: &Clouds, dir: &Path) -> anyhow::Result<App> {
    clear(dir)?;
    let config = Config::load(&Vars::map(clouds.settings())).context("the demo's own settings")?;
    Ok(App::build(config, clouds.clock.clone(), Http::network(RetryPolicy::RUN)?, Some(dir))?)
}

/// Signs in as a person would, with the person played by the sandbox.
async fn enter(clouds: &Clouds, app: &App, json: bool) -> anyhow::Result<()> {
    let code = app.identity.start("the demo").await?;
    if !json {
        print::out(format_args!("{}\n", sign_in::invitation(&code)));
    }
    clouds.entra.approve(ACCOUNT, ACCOUNT_ID);
    clouds.clock.advance(code.next_poll_at.since(clouds.clock.now()));
    match app.identity.poll().await? {
        Standing::SignedIn(working) if !json => print::out(format_args!(
            "Signed in as {} in tenant {} (the demo entered the code itself).\n",
            working.account.username, working.account.tenant
        )),
        Standing::SignedIn(_) => {}
        Standing::SignedOut | Standing::Pending { .. } | Standing::Refused { .. } => {
            anyhow::bail!("the demo's sign-in failed")
        }
    }
    Ok(())
}

/// `count` alerts, spread over the time before a minute and a half ago.
fn add_alerts(clouds: &Clouds, first: u64, count: u64, spread: Duration) {
    let latest = clouds.clock.now() - Duration::from_secs(90);
    let alerts = (0..count).map(|n| {
        let share = u32::try_from(n).unwrap_or(0);
        let all = u32::try_from(count).unwrap_or(1);
        sample::alert(first + n + 1, GROUP, latest - spread * share / all)
    });
    clouds.defender.add(alerts);
}

fn show(act: &Act, ended: &Ended, json: bool) -> anyhow::Result<()> {
    if json {
        if let Ended::Reported(heartbeat, _) = ended {
            print::out(serde_json::to_string(heartbeat)?);
        }
    } else {
        print::out(format_args!(
            "{}\n  {}\n",
            act.title,
            print::ended(ended).replace('\n', "\n  ")
        ));
    }
    Ok(())
}

/// The workspace held against Defender.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Verdict {
    alerts: u64,
    delivered: usize,
    /// Rows that came twice, with the same key, because an answer was lost.
    repeated: usize,
    foreign: usize,
    heartbeats: usize,
    complete: bool,
}

impl Verdict {
    fn of(clouds: &Clouds) -> Self {
        let rows = clouds.monitor.tables.rows(TABLE);
        let text =
            |row: &Value, name: &str| row.get(name).and_then(Value::as_str).map(str::to_owned);
        let keys: BTreeSet<_> = rows.iter().filter_map(|row| text(row, "ExportKey")).collect();
        let ours = |row: &&Value| text(row, "RbacGroupName").as_deref() == Some(GROUP);
        let foreign = rows.len() - rows.iter().filter(ours).count();
        Self {
            alerts: ALERTS,
            delivered: keys.len(),
            repeated: rows.len() - keys.len(),
            foreign,
            heartbeats: clouds.monitor.tables.rows("Heartbeat_CL").len(),
            complete: u64::try_from(keys.len()).is_ok_and(|count| count == ALERTS) && foreign == 0,
        }
    }

    fn words(&self) -> String {
        format!(
            "Defender has {} alerts of this trust. The workspace has {} of them, {} foreign ones, and {}.\n\
             {} rows came twice because an answer was lost; they carry the same ExportKey.",
            self.alerts,
            self.delivered,
            self.foreign,
            counted(self.heartbeats, "heartbeat"),
            self.repeated
        )
    }
}
