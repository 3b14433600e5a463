//! `backfill`: a span of the past, beside the live export.

use std::io::IsTerminal as _;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::Number;
use uuid::Uuid;

use super::{Failure, Reporting, print};
use crate::app::App;
use crate::config::Vars;
use crate::domain::advice::counted;
use crate::domain::backfill::{Ending, Job, Known, Span, Waits, edge};
use crate::domain::heartbeat::Counts;
use crate::domain::timestamp::Timestamp;
use crate::pipeline::backfill::{CannotStart, Seen, Stay, Stopped};
use crate::pipeline::estimate::{Estimate, NoEstimate};
use crate::store::backfill::{Cancel, Start};

/// How often it is looked whether what is waited for has come.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// On rows.
const PERSON: &str = "the command line";

#[derive(Clone, Debug, Args)]
pub(crate) struct BackfillArgs {
    #[command(flatten)]
    reporting: Reporting,
    /// Where it begins: 2026-01-31 or 2026-01-31T09:30:00Z, of the alerts' lastUpdateTime.
    #[arg(long, value_name = "T", value_parser = edge, required_unless_present = "cancel")]
    from: Option<Timestamp>,
    /// Where it ends, not included.
    #[arg(long, value_name = "T", value_parser = edge, required_unless_present = "cancel")]
    to: Option<Timestamp>,
    /// Send again what was delivered before: for rows that a target accepted and then lost.
    #[arg(long, conflicts_with_all = ["dry_run", "cancel"])]
    again: bool,
    /// Count what is there and say what it takes; send nothing.
    #[arg(long)]
    dry_run: bool,
    /// End the backfill that is under way; what it delivered stays delivered.
    #[arg(long, conflicts_with_all = ["from", "to", "dry_run"])]
    cancel: bool,
}

/// Works on the span until it is delivered.
pub(super) async fn backfill(vars: &Vars, args: &BackfillArgs) -> Result<ExitCode, Failure> {
    let app = super::open(vars, &args.reporting.local)?;
    let json = args.reporting.json;
    match (args.from, args.to) {
        (Some(from), Some(to)) if args.dry_run => estimate(&app, Span { from, to }, json).await,
        (Some(from), Some(to)) => {
            work(&app, Span { from, to }, Known::chosen(args.again), json).await
        }
        _ => cancel(&app, json).await,
    }
}

async fn cancel(app: &App, json: bool) -> Result<ExitCode, Failure> {
    let cancel = app.exporter.cancel_backfill().await?;
    let (word, text) = match cancel {
        Cancel::Nothing => ("Nothing", "Nothing to cancel: no backfill is under way."),
        Cancel::Ended => ("Cancelled", "Cancelled. What it delivered stays delivered."),
        Cancel::Asked => (
            "Asked",
            "A run that is working on it stops before it fetches the next page. What it delivered stays delivered.",
        ),
    };
    if json {
        print::out(serde_json::json!({ "Status": word }));
    } else {
        print::out(text);
    }
    Ok(ExitCode::SUCCESS)
}

fn refused(error: &CannotStart) -> ExitCode {
    let flags = if matches!(error, CannotStart::Span(_)) { "--from, --to: " } else { "" };
    print::err(format_args!("{flags}{error}.\nNext step: {}", error.next_step()));
    match error {
        CannotStart::Span(_) | CannotStart::TooFewCalls { .. } => ExitCode::from(2),
        CannotStart::NeverRun | CannotStart::Halted { .. } | CannotStart::State(_) => {
            ExitCode::from(1)
        }
    }
}

async fn work(app: &App, span: Span, known: Known, json: bool) -> Result<ExitCode, Failure> {
    match app.exporter.start_backfill(span, known, PERSON).await {
        Ok(Start::Begun) => {}
        Ok(Start::GoesOn) if json => {}
        Ok(Start::GoesOn) => print::out("Begun before; going on from where it stopped."),
        Ok(Start::Another(job)) => {
            print::err(format_args!(
                "A backfill from {} to {} is under way, started by {}. Go on with it by the same --from, --to and --again, or end it with `defender-alert-export backfill --cancel`.",
                job.span.from, job.span.to, job.started_by
            ));
            return Ok(ExitCode::from(1));
        }
        Err(CannotStart::State(error)) => return Err(error.into()),
        Err(error) => return Ok(refused(&error)),
    }
    let mut screen = Screen::new(span, json);
    let stay = Stay::ToTheEnd { look_every: LOOK_EVERY };
    let stopped = {
        let mut watch = |seen: Seen<'_>| screen.show(&Line::of(&seen));
        let working = pin!(app.exporter.backfill(Uuid::new_v4(), stay, &mut watch));
        tokio::select! {
            stopped = working => Some(stopped),
            pressed = tokio::signal::ctrl_c() => {
                pressed.context("Ctrl-C cannot be listened for")?;
                None
            }
        }
    };
    Ok(screen.end(stopped))
}

/// One line of `--json`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Line {
    /// `Working`, `Waiting`, `Done`, `Cancelled`, `Stopped`, `Failed` or
    /// `Elsewhere`.
    status: &'static str,
    #[serde(flatten)]
    span: Span,
    position: Timestamp,
    percent: u64,
    #[serde(flatten)]
    counts: Counts,
    message: String,
    next_step: String,
}

impl Line {
    fn of(seen: &Seen<'_>) -> Self {
        Self {
            status: if seen.waits.is_some() { "Waiting" } else { "Working" },
            message: seen.waits.map(waiting).unwrap_or_default(),
            ..Self::at(seen.job, seen.position)
        }
    }

    fn at(job: &Job, position: Timestamp) -> Self {
        Self {
            status: "Working",
            span: job.span,
            position,
            percent: job.span.percent(position),
            counts: job.counts,
            message: String::new(),
            next_step: String::new(),
        }
    }

    fn text(&self) -> String {
        if !self.message.is_empty() {
            return self.message.clone();
        }
        let counts = self.counts;
        format!(
            "{:3} %  up to {}: {} delivered, {} already delivered, {} withheld, {} set aside; {}",
            self.percent,
            self.position.to_the_second(),
            counts.delivered,
            counts.duplicates,
            counts.withheld,
            counts.quarantined,
            counted(counts.calls, "call")
        )
    }
}

fn waiting(waits: Waits) -> String {
    format!("Waiting: {}", waits.words(|at| at.to_the_second().to_string()))
}

/// A bar on a terminal; else lines.
struct Screen {
    bar: Option<ProgressBar>,
    json: bool,
    last: Line,
}

impl Screen {
    fn new(span: Span, json: bool) -> Self {
        let last = Line::at(&Job::new(span, Known::PassedOver, PERSON, span.from), span.from);
        let bar = (!json && std::io::stderr().is_terminal()).then(|| bar(span));
        Self { bar, json, last }
    }

    fn show(&mut self, line: &Line) {
        let same_wait = line.status == "Waiting" && line.message == self.last.message;
        self.last = line.clone();
        if let Some(bar) = &self.bar {
            bar.set_position(line.position.since(line.span.from).as_secs());
            let delivered = format!("{} delivered", line.counts.delivered);
            bar.set_message(if line.message.is_empty() { delivered } else { line.message.clone() });
        } else if !same_wait {
            self.print(line);
        }
    }

    fn print(&self, line: &Line) {
        match serde_json::to_string(line) {
            Ok(text) if self.json => print::out(text),
            Ok(_) | Err(_) => print::out(line.text()),
        }
    }

    /// The last line, and what the process ends with.
    fn end(mut self, stopped: Option<Stopped>) -> ExitCode {
        let mut line = self.last.clone();
        let goes_on = "The same command goes on from there.";
        let (status, message, next_step) = match stopped {
            Some(Stopped::Ended(job)) => {
                let cancelled = job.ended.is_some_and(|ended| ended.how == Ending::Cancelled);
                if !cancelled {
                    line.position = job.span.to;
                    line.percent = 100;
                }
                line.counts = job.counts;
                let counts = Line { message: String::new(), ..line.clone() }.text();
                let (status, word) =
                    if cancelled { ("Cancelled", "Cancelled") } else { ("Done", "Done") };
                (status, format!("{word}. {}", counts.trim_start()), String::new())
            }
            Some(Stopped::Failed(advice)) => {
                let next = format!("{} {goes_on}", advice.next_step);
                ("Failed", format!("Stopped at {}. {}", line.position, advice.message), next)
            }
            Some(Stopped::Elsewhere) => (
                "Elsewhere",
                "Another process is working on this backfill, and will report.".to_owned(),
                "If none is, one was stopped or killed; the same command can go on five minutes after its last save.".to_owned(),
            ),
            Some(Stopped::Nothing) => {
                ("Cancelled", "It was ended by somebody else.".to_owned(), String::new())
            }
            Some(Stopped::Later) | None => {
                ("Stopped", format!("Stopped at {}.", line.position), goes_on.to_owned())
            }
        };
        line = Line { status, message, next_step, ..line };
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.print(&line);
        if !self.json && !line.next_step.is_empty() {
            print::out(format_args!("Next step: {}", line.next_step));
        }
        if status == "Done" { ExitCode::SUCCESS } else { ExitCode::from(1) }
    }
}

fn bar(span: Span) -> ProgressBar {
    let seconds = span.to.since(span.from).as_secs();
    let bar = ProgressBar::with_draw_target(Some(seconds), ProgressDrawTarget::stderr());
    // Hours of alert time a second say little; how much is left says enough.
    let style = ProgressStyle::with_template("{wide_bar} {percent:>3} %  {msg}  {eta} left");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

/// What `--dry-run --json` prints last.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    status: &'static str,
    #[serde(flatten)]
    span: Span,
    alerts: u64,
    withheld: u64,
    calls: u64,
    minutes: u64,
    gigabytes: Number,
}

async fn estimate(app: &App, span: Span, json: bool) -> Result<ExitCode, Failure> {
    let mut screen = Screen::new(span, json);
    let counted = {
        let mut watch = |so_far: &Estimate, waits: Option<Waits>| {
            let counts = Counts {
                fetched: so_far.alerts + so_far.withheld,
                withheld: so_far.withheld,
                calls: so_far.calls,
                ..Counts::default()
            };
            let found = format!(
                "{} found up to {}",
                counted(so_far.alerts, "alert"),
                so_far.position.to_the_second()
            );
            screen.show(&Line {
                status: if waits.is_some() { "Waiting" } else { "Counting" },
                span,
                position: so_far.position,
                percent: span.percent(so_far.position),
                counts,
                message: waits.map_or(found, waiting),
                next_step: String::new(),
            });
        };
        app.exporter.estimate(span, LOOK_EVERY, &mut watch).await
    };
    if let Some(bar) = screen.bar.take() {
        bar.finish_and_clear();
    }
    match counted {
        Ok(estimate) => {
            let answer = answer(&estimate);
            if json {
                print::out(serde_json::to_string(&answer)?);
            } else {
                print::out(words(&answer));
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(NoEstimate::Start(error)) => Ok(refused(&error)),
        Err(NoEstimate::UnderWay) => {
            print::err(format_args!("{}.", NoEstimate::UnderWay));
            Ok(ExitCode::from(1))
        }
        Err(NoEstimate::Failed(advice)) => {
            print::err(format_args!("{}\nNext step: {}", advice.message, advice.next_step));
            Ok(ExitCode::from(1))
        }
    }
}

fn answer(estimate: &Estimate) -> Answer {
    Answer {
        status: "Estimated",
        span: estimate.span,
        alerts: estimate.alerts,
        withheld: estimate.withheld,
        calls: estimate.calls,
        minutes: estimate.minutes(),
        gigabytes: gigabytes(estimate.bytes.div_ceil(1_000_000)),
    }
}

/// With three decimals.
fn gigabytes(megabytes: u64) -> Number {
    let text = format!("{}.{:03}", megabytes / 1_000, megabytes % 1_000);
    // Digits, a point and digits are a number.
    serde_json::from_str(&text).unwrap_or_else(|_never| Number::from(megabytes / 1_000))
}

fn words(answer: &Answer) -> String {
    format!(
        "The span from {} to {} holds {} of this trust, about {} GB, and {} of other device groups.\n\
         A backfill passes over what is delivered already, and withholds those of other groups.\n\
         It takes {}, about {} at this trust's share. Nothing was sent.",
        answer.span.from.to_the_second(),
        answer.span.to.to_the_second(),
        counted(answer.alerts, "alert"),
        answer.gigabytes,
        answer.withheld,
        counted(answer.calls, "call"),
        counted(answer.minutes, "minute"),
    )
}
