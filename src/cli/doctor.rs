//! `doctor`: everything asked once, a line each.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;

use super::{Failure, Reporting, print};
use crate::app;
use crate::clock::Clock;
use crate::config::Vars;
use crate::doctor::{self, PATIENCE};
use crate::domain::check::{Check, Section, Verdict};
use crate::http::Http;
use crate::http::retry::RetryPolicy;

/// What `--json` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Report<'a> {
    version: &'static str,
    verdict: Verdict,
    checks: &'a [Check],
}

/// Once more at most: whoever waits wants the answer.
fn retry() -> RetryPolicy {
    RetryPolicy { cap: Duration::from_secs(2), budget: Duration::from_secs(5), ..RetryPolicy::RUN }
}

/// Prints how everything stands. Exit 2 when settings are wrong, which is no
/// reason to look at nothing else; 1 when another check fails, else 0.
pub(super) async fn doctor(vars: &Vars, args: &Reporting) -> Result<ExitCode, Failure> {
    let http = Http::network(retry())?;
    let patient = app::patient(vars, Clock::System, http, &args.local.state_dir, PATIENCE);
    let checks = doctor::examine(&patient).await;
    if args.json {
        let verdict = Check::worst(&checks);
        let report = Report { version: env!("CARGO_PKG_VERSION"), verdict, checks: &checks };
        print::out(serde_json::to_string(&report)?);
    } else {
        print::out(text(&checks));
    }
    Ok(ExitCode::from(exit_code(&checks)))
}

fn exit_code(checks: &[Check]) -> u8 {
    let settings = |check: &Check| check.section == Section::Settings;
    let mut failed = checks.iter().filter(|check| check.verdict == Verdict::Fail).peekable();
    if failed.peek().is_none() {
        0
    } else if failed.any(settings) {
        2
    } else {
        1
    }
}

/// A line each; under one that is not ok, what to do and where to read.
fn text(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
    let mut text = String::new();
    for Check { name, verdict, reason, next_step, section } in checks {
        let word = match verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        };
        // Writing to a String does not fail.
        let _written = writeln!(text, "{word:<4}  {name:<width$}  {reason}");
        let margin = " ".repeat(width + 8);
        if *verdict != Verdict::Ok {
            let _written = writeln!(text, "{margin}Next step: {next_step}");
            let _written = writeln!(text, "{margin}More: {}", section.link());
        }
    }
    let count = |wanted| checks.iter().filter(|check| check.verdict == wanted).count();
    let (ok, warn, fail) = (count(Verdict::Ok), count(Verdict::Warn), count(Verdict::Fail));
    let _written = write!(text, "{ok} ok, {warn} to look at, {fail} failed.");
    text
}
