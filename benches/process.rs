//! The whole process: `run --once` against clouds served by this one, and how
//! soon `serve` answers.
//!
//! Beside each run, a baseline of the same process shape fetches the same
//! pages, compresses the same bytes in pieces of a batch's size at the same
//! level, and posts them with the same concurrency to the same clouds, without
//! looking at them. Both share the machine with the clouds. Prints the README's
//! table: `cargo bench --bench process`, or lines of it:
//! `cargo bench --bench process -- 10000 100000`. Linux only.
#![expect(clippy::print_stdout, reason = "a table is what this is for")]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use defender_alert_export::app::App;
use defender_alert_export::azure::credential::Credential;
use defender_alert_export::clock::Clock;
use defender_alert_export::config::{Config, Vars};
use defender_alert_export::domain::heartbeat::Heartbeat;
use defender_alert_export::http::retry::{RetryPolicy, pause};
use defender_alert_export::http::{self, Http};
use defender_alert_export::identity::Demand;
use defender_alert_export::sandbox::clouds::{ACCOUNT, ACCOUNT_ID, Clouds, GROUP, TABLE};
use defender_alert_export::sandbox::sample;
use defender_alert_export::sink::logs_ingestion::{AUDIENCE, gzip};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::Instant;

const PRODUCT: &str = env!("CARGO_BIN_EXE_defender-alert-export");
/// Alerts, how many a page, and how often to measure with so many.
const SIZES: [(u32, u32, usize); 5] = [
    (1, 1_000, 15),
    (1_000, 1_000, 15),
    (10_000, 1_000, 11),
    (100_000, 1_000, 7),
    (100_000, 10_000, 7),
];
const STARTS: usize = 10;
/// As the product does it.
const PIECE: usize = 1_000_000;
const AT_ONCE: usize = 4;

#[tokio::main]
async fn main() -> Result<()> {
    if env::args().nth(1).as_deref() == Some("baseline") {
        return tokio::spawn(baseline()).await?;
    }
    let dir = env::temp_dir().join(format!("defender-alert-export-bench-{}", std::process::id()));
    fs::create_dir_all(&dir)?;
    let table = table(&dir).await;
    fs::remove_dir_all(&dir)?;
    println!("{}", table?);
    Ok(())
}

async fn table(dir: &Path) -> Result<String> {
    let mut table = String::from(
        "| alerts | a page | run | alerts/s | baseline alerts/s | ratio | CPU | peak memory |\n\
         |---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    let wanted: Vec<u32> = env::args().filter_map(|size| size.parse().ok()).collect();
    let is_wanted = |alerts: u32| wanted.is_empty() || wanted.contains(&alerts);
    for (alerts, page, rounds) in SIZES.into_iter().filter(|(alerts, ..)| is_wanted(*alerts)) {
        let world = World::start(alerts, page, &dir.join(format!("{alerts}-{page}"))).await?;
        let mut all = Vec::new();
        for round in 0..rounds {
            all.push(world.round(round).await?);
        }
        table.push_str(&line(alerts, page, &all));
    }
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        starts.push(start().await?.as_secs_f64() * 1_000.0);
    }
    let middle = median(starts.iter().copied());
    let best = starts.iter().copied().fold(f64::INFINITY, f64::min);
    let ready = format!(
        "\nFrom start to ready (`serve` answers `GET /`): {middle:.0} ms, at best {best:.0} ms."
    );
    Ok(table + &ready)
}

/// Medians of all rounds; of memory the most.
fn line(alerts: u32, page: u32, rounds: &[Round]) -> String {
    let over = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure));
    let rate = |figure: fn(&Round) -> f64| f64::from(alerts) / over(figure);
    let run = over(|round| round.run.as_secs_f64());
    let peak = rounds.iter().map(|round| round.peak_kib).max().unwrap_or(0);
    format!(
        "| {alerts} | {page} | {:.0} ms | {:.0} | {:.0} | {:.0} % | {:.2} s | {} MiB |\n",
        run * 1_000.0,
        rate(|round| round.run.as_secs_f64()),
        rate(|round| round.baseline.as_secs_f64()),
        100.0 * over(|round| round.baseline.as_secs_f64() / round.run.as_secs_f64()),
        over(|round| round.cpu.as_secs_f64()),
        peak.div_ceil(1_024),
    )
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<_> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What one run and one baseline took.
struct Round {
    /// From the run's start to its heartbeat, as the heartbeat says.
    run: Duration,
    /// From the first request to the last answer.
    baseline: Duration,
    cpu: Duration,
    peak_kib: u64,
}

/// Clouds with alerts, and a state in which somebody is signed in and nothing
/// has been exported.
struct World {
    alerts: u32,
    clouds: Clouds,
    settings: Vec<(String, String)>,
    dir: PathBuf,
    token: String,
    sink_token: String,
}

impl World {
    async fn start(alerts: u32, page: u32, dir: &Path) -> Result<Self> {
        let clock = Clock::stopped_at(Clock::System.now());
        let clouds = Clouds::start(clock.clone()).await?;
        clouds.monitor.tables.only_count();
        clouds.defender.behave(|manners| manners.quotas = false);
        // Within the hour the first run reads, which makes it one window.
        let latest = clock.now() - Duration::from_secs(90);
        let apart = Duration::from_mins(50) / alerts;
        let alert = |n: u32| sample::alert(u64::from(n), GROUP, latest - apart * n);
        clouds.defender.add((0..alerts).map(alert));

        let mut settings = clouds.settings();
        for (name, value) in [
            ("FunctionConfigCallsPerHour", "1500"),
            ("FunctionConfigInitialLookbackHours", "1"),
            ("FunctionConfigPageSize", &page.to_string()),
        ] {
            settings.push((name.to_owned(), value.to_owned()));
        }
        let config = Config::load(&Vars::map(settings.clone()))?;
        let app = App::build(config, clock.clone(), Http::network(RetryPolicy::RUN)?, Some(dir))?;
        let code = app.identity.start("the benchmark").await?;
        clouds.entra.approve(ACCOUNT, ACCOUNT_ID);
        clock.advance(code.next_poll_at.since(clock.now()));
        app.identity.poll().await?;
        let token = app.identity.access_token(Demand::Any).await?.secret;

        let http = Http::new(http::client()?, RetryPolicy::RUN);
        let endpoint = clouds.managed_identity.endpoint();
        let sink_token = Credential::new(http, clock, Some(endpoint)).token(AUDIENCE).await?;
        Ok(Self {
            alerts,
            clouds,
            settings,
            dir: dir.to_owned(),
            token: token.expose_secret().to_owned(),
            sink_token: sink_token.expose_secret().to_owned(),
        })
    }

    async fn round(&self, number: usize) -> Result<Round> {
        let state = self.dir.join(format!("round-{number}"));
        fs::create_dir_all(&state)?;
        fs::copy(self.dir.join("state.redb"), state.join("state.redb"))?;
        let asked = self.clouds.defender.script().seen().len();
        let delivered = self.clouds.monitor.tables.count(TABLE);

        let mut run = Command::new(PRODUCT);
        run.args(["run", "--once", "--json", "--state-dir"]).arg(&state);
        run.env_clear().envs(self.settings.iter().cloned());
        let exported = watch(run, &[]).await?;
        let heartbeat: Heartbeat = serde_json::from_str(&exported.printed)?;
        let delivered = self.clouds.monitor.tables.count(TABLE) - delivered;
        ensure!(delivered == u64::from(self.alerts), "{delivered} delivered: {heartbeat:?}");

        let errand = serde_json::to_vec(&self.errand(asked)?)?;
        let mut again = Command::new(env::current_exe()?);
        again.arg("baseline");
        let baseline = watch(again, &errand).await?;
        let micros: u64 = baseline.printed.trim().parse()?;
        // Let go of what it posted.
        self.clouds.monitor.tables.count(TABLE);
        Ok(Round {
            run: Duration::from_millis(heartbeat.duration_ms),
            baseline: Duration::from_micros(micros),
            cpu: exported.cpu,
            peak_kib: exported.peak_kib,
        })
    }

    /// What the run did, for the baseline to do.
    fn errand(&self, asked_before: usize) -> Result<Errand> {
        let setting = |wanted: &str| {
            let found = self.settings.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.trim_end_matches('/')).context("no such setting")
        };
        let defender = setting("FunctionConfigDefenderEndpoint")?;
        let asked = self.clouds.defender.script().seen();
        let pages =
            asked.iter().skip(asked_before).map(|seen| format!("{defender}{}", seen.target));
        let monitor = setting("FunctionConfigLogsIngestionEndpoint")?;
        let posts = self.clouds.monitor.script.seen();
        let sink = posts.iter().find(|seen| !seen.target.contains("Heartbeat"));
        let sink = sink.context("nothing was posted")?;
        Ok(Errand {
            pages: pages.collect(),
            token: self.token.clone(),
            sink: format!("{monitor}{}", sink.target),
            sink_token: self.sink_token.clone(),
        })
    }
}

/// What the baseline is to do, on its standard input.
#[derive(Serialize, Deserialize)]
struct Errand {
    pages: Vec<String>,
    token: String,
    sink: String,
    sink_token: String,
}

/// Prints how many microseconds it took.
async fn baseline() -> Result<()> {
    let mut errand = Vec::new();
    std::io::stdin().read_to_end(&mut errand)?;
    let errand: Errand = serde_json::from_slice(&errand)?;
    let client = http::client()?;
    let begun = Instant::now();
    let mut flying = JoinSet::new();
    let mut piece = BytesMut::with_capacity(PIECE);
    let send = |piece: Bytes, flying: &mut JoinSet<Result<()>>| {
        let post = client.post(&errand.sink).bearer_auth(&errand.sink_token);
        flying.spawn(async move {
            let post = post.header("content-type", "application/json");
            let answer = post.header("content-encoding", "gzip").body(gzip(&piece)?).send().await?;
            ensure!(answer.status() == 204, "the sink answered {}", answer.status());
            Ok(())
        });
    };
    for page in &errand.pages {
        let mut answer = client.get(page).bearer_auth(&errand.token).send().await?;
        ensure!(answer.status() == 200, "Defender answered {}", answer.status());
        while let Some(chunk) = answer.chunk().await? {
            piece.extend_from_slice(&chunk);
            if piece.len() >= PIECE {
                let full = std::mem::replace(&mut piece, BytesMut::with_capacity(PIECE));
                send(full.freeze(), &mut flying);
                if flying.len() >= AT_ONCE
                    && let Some(landed) = flying.join_next().await
                {
                    landed??;
                }
            }
        }
    }
    send(piece.freeze(), &mut flying);
    while let Some(landed) = flying.join_next().await {
        landed??;
    }
    println!("{}", begun.elapsed().as_micros());
    Ok(())
}

/// What a child took, and what it printed.
struct Took {
    cpu: Duration,
    /// `VmHWM`. Not `ru_maxrss`, which begins with the parent's memory.
    peak_kib: u64,
    printed: String,
}

/// Runs `command`, looking at it every few milliseconds until it has ended.
async fn watch(mut command: Command, input: &[u8]) -> Result<Took> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input)?;
    }
    let process = PathBuf::from(format!("/proc/{}", child.id()));
    let mut peak_kib = 0;
    let cpu = loop {
        if let Some(kib) = peak(&process) {
            peak_kib = kib;
        }
        if let Some(cpu) = cpu_at_end(&process)? {
            break cpu;
        }
        pause(Duration::from_millis(3)).await;
    };
    let output = child.wait_with_output()?;
    let printed = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{command:?} failed: {printed}");
    Ok(Took { cpu, peak_kib, printed })
}

/// Most memory resident so far; `None` once the process has ended.
fn peak(process: &Path) -> Option<u64> {
    let status = fs::read_to_string(process.join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// User and system time of a process that has ended and was not waited for.
fn cpu_at_end(process: &Path) -> Result<Option<Duration>> {
    /// Of a tick, the same on all of Linux.
    const MILLIS: u64 = 10;
    let stat = fs::read_to_string(process.join("stat"))?;
    let (_, after_name) = stat.rsplit_once(") ").context("/proc changed its form")?;
    let fields: Vec<_> = after_name.split(' ').collect();
    match fields.as_slice() {
        ["Z", ..] => {}
        _ => return Ok(None),
    }
    let ticks = fields.iter().skip(11).take(2).map(|ticks| ticks.parse::<u64>());
    let ticks = ticks.sum::<Result<u64, _>>()?;
    Ok(Some(Duration::from_millis(ticks * MILLIS)))
}

/// Until a new `serve` answers.
async fn start() -> Result<Duration> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let clouds = Clouds::start(Clock::System).await?;
    let mut serve = Command::new(PRODUCT);
    serve.arg("serve").stdout(Stdio::null()).stderr(Stdio::null()).env_clear();
    serve.envs(clouds.settings()).env("AzureWebJobsStorage", "UseDevelopmentStorage=true");
    serve.env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string());
    let begun = Instant::now();
    let mut child = serve.spawn()?;
    let ready = answered(&mut child, port).await;
    let took = begun.elapsed();
    child.kill()?;
    child.wait()?;
    ready.map(|()| took)
}

async fn answered(child: &mut Child, port: u16) -> Result<()> {
    loop {
        if let Ok(mut socket) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            socket.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer)?;
            ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            return Ok(());
        }
        if let Some(status) = child.try_wait()? {
            bail!("it ended with {status}");
        }
        pause(Duration::from_micros(200)).await;
    }
}
