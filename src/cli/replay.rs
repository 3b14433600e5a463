//! `replay`: what was set aside, listed and sent again.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::{Failure, Reporting, print};
use crate::config::Vars;
use crate::domain::advice::counted;
use crate::domain::timestamp::Timestamp;
use crate::error_chain::Chain;
use crate::pipeline::replay::{CannotReplay, Kept, Outcome, Why};
use crate::store::BlobError;

/// As few digits of a digest as name one.
const DIGITS: usize = 6;
/// Why a whole alert is kept.
const CUT: &str = "a field over the target's limit: the row was delivered, cut";

#[derive(Clone, Debug, Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    reporting: Reporting,
    /// What to send again: numbers of the list, or how their digests begin.
    #[arg(value_name = "ID", conflicts_with = "all")]
    ids: Vec<String>,
    /// Send all of it again, but cut alerts that were sent again before.
    #[arg(long)]
    all: bool,
}

/// One line of the list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Line<'a> {
    number: usize,
    /// `Refused`, `Cut` or `Unreadable`.
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    day: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sink: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alert_id: Option<&'a str>,
    digest: &'a str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    replayed: Option<bool>,
    blob: &'a str,
}

/// What became of one.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Told<'a> {
    number: usize,
    digest: &'a str,
    /// `Sent`, `SentBefore`, `Refused`, `NoSuchTarget`, `Withheld`, `NotTaken`,
    /// `Unreadable`, `Gone` or `StorageFailed`.
    outcome: &'static str,
    message: String,
    blob: &'a str,
}

/// Lists, or sends again.
pub(super) async fn replay(vars: &Vars, args: &ReplayArgs) -> Result<ExitCode, Failure> {
    let app = super::open(vars, &args.reporting.local)?;
    let json = args.reporting.json;
    let kept = app.exporter.kept().await?;
    if args.ids.is_empty() && !args.all {
        list(&kept, json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let numbers = match choose(&kept, args) {
        Ok(numbers) => numbers,
        Err(unknown) => {
            print::err(format_args!(
                "`{unknown}` is none, or more than one, of those listed by `defender-alert-export replay`. Give a number of that list, or at least {DIGITS} digits of a digest."
            ));
            return Ok(ExitCode::from(2));
        }
    };
    let chosen: Vec<Kept> = numbers.iter().filter_map(|n| kept.get(*n).cloned()).collect();
    let outcomes = match app.exporter.replay(&chosen).await {
        Ok(outcomes) => outcomes,
        Err(halted @ CannotReplay::Halted { .. }) => {
            print::err(format_args!(
                "{halted}. Once the cause is put right, run `defender-alert-export resume`, or press Resume in the app's portal."
            ));
            return Ok(ExitCode::from(1));
        }
        Err(error) => return Err(error.into()),
    };
    let told = numbers.iter().zip(&chosen).zip(outcomes);
    let results: Vec<_> = told.map(|((n, kept), outcome)| told_of(*n, kept, outcome)).collect();
    let sent = |it: &Told<'_>| matches!(it.outcome, "Sent" | "SentBefore");
    let all_sent = results.iter().all(sent);
    if json {
        print::out(serde_json::json!({ "Results": results }));
    } else {
        for result in &results {
            print::out(format_args!(
                "{:4}  {}  {}",
                result.number,
                short(result.digest),
                result.message
            ));
        }
        let count = results.iter().filter(|it| sent(it)).count();
        print::out(format_args!("{count} of {} sent again.", counted(results.len(), "document")));
    }
    Ok(if all_sent { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The places of what was asked for; or what cannot be told.
fn choose<'a>(kept: &[Kept], args: &'a ReplayArgs) -> Result<Vec<usize>, &'a str> {
    if args.all {
        let done = |it: &Kept| matches!(it.why, Why::Cut { replayed: true, .. } | Why::Unreadable);
        let places = kept.iter().enumerate().filter(|(_, it)| !done(it));
        return Ok(places.map(|(place, _)| place).collect());
    }
    let mut places = Vec::new();
    for id in &args.ids {
        let number = id.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
        let place = match number.filter(|place| *place < kept.len() && id.len() < DIGITS) {
            Some(place) => Some(place),
            None => {
                let named = |(_, it): &(usize, &Kept)| {
                    id.len() >= DIGITS && it.digest.starts_with(id.as_str())
                };
                let mut named = kept.iter().enumerate().filter(named).map(|(place, _)| place);
                named.next().filter(|_| named.next().is_none())
            }
        };
        let place = place.ok_or(id.as_str())?;
        if !places.contains(&place) {
            places.push(place);
        }
    }
    Ok(places)
}

fn line(place: usize, kept: &Kept) -> Line<'_> {
    let blank = Line {
        number: place + 1,
        kind: "Unreadable",
        at: None,
        day: None,
        sink: None,
        alert_id: None,
        digest: &kept.digest,
        reason: "not a document of this program",
        replayed: None,
        blob: &kept.name,
    };
    match &kept.why {
        Why::Refused { at, sink, reason, alert_id } => Line {
            kind: "Refused",
            at: Some(*at),
            sink: Some(sink),
            alert_id: alert_id.as_deref(),
            reason,
            ..blank
        },
        Why::Cut { day, replayed } => {
            Line { kind: "Cut", day: Some(day), reason: CUT, replayed: Some(*replayed), ..blank }
        }
        Why::Unreadable => blank,
    }
}

fn list(kept: &[Kept], json: bool) -> Result<(), Failure> {
    let lines: Vec<_> = kept.iter().enumerate().map(|(place, it)| line(place, it)).collect();
    if json {
        print::out(serde_json::to_string(&serde_json::json!({ "Kept": lines }))?);
        return Ok(());
    }
    if lines.is_empty() {
        print::out("Nothing was set aside, and no row was cut.");
        return Ok(());
    }
    for (title, kinds) in [
        ("Rows that a target refused:", ["Refused", "Unreadable"]),
        (
            "Whole alerts whose row was cut (sent again, the row has the same ExportKey and is cut again unless its target takes more now):",
            ["Cut", "Cut"],
        ),
    ] {
        let mut some = lines.iter().filter(|line| kinds.contains(&line.kind)).peekable();
        if some.peek().is_some() {
            print::out(title);
        }
        some.for_each(|line| print::out(text(line)));
    }
    print::out("Send again with `defender-alert-export replay NUMBER...` or `--all`.");
    Ok(())
}

fn text(line: &Line<'_>) -> String {
    let when = line.at.map_or_else(|| line.day.unwrap_or("-").to_owned(), |at| at.to_string());
    let again = if line.replayed == Some(true) { "; sent again before" } else { "" };
    format!(
        "{:4}  {}  {when}  {}  {}  {}{again}",
        line.number,
        short(line.digest),
        line.sink.unwrap_or("-"),
        line.alert_id.unwrap_or("-"),
        line.reason
    )
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

fn told_of(place: usize, kept: &Kept, outcome: Result<Outcome, BlobError>) -> Told<'_> {
    let (outcome, message) = match outcome {
        Ok(Outcome::Sent) => ("Sent", "sent".to_owned()),
        Ok(Outcome::SentBefore) => ("SentBefore", "was sent before; now marked".to_owned()),
        Ok(Outcome::Refused(reason)) => ("Refused", format!("refused again: {reason}")),
        Ok(Outcome::NoSuchTarget(sink)) => (
            "NoSuchTarget",
            format!("{sink} is not in FunctionConfigAlertTargetType any more; not sent"),
        ),
        Ok(Outcome::Withheld) => (
            "Withheld",
            "its device group is not in FunctionConfigDeviceGroups; not sent".to_owned(),
        ),
        Ok(Outcome::NotTaken(advice)) => {
            ("NotTaken", format!("{} {}", advice.message, advice.next_step))
        }
        Ok(Outcome::Unreadable) => ("Unreadable", "not a document of this program".to_owned()),
        Ok(Outcome::Gone) => ("Gone", "is not there any more".to_owned()),
        Err(error) => (
            "StorageFailed",
            format!("the storage container failed; it may be sent once more: {}", Chain(&error)),
        ),
    };
    Told { number: place + 1, digest: &kept.digest, outcome, message, blob: &kept.name }
}
