//! Texts for the terminal, and the way there.

use std::error::Error;
use std::fmt::{Display, Write as _};
use std::io::{self, Write};

use tracing::error;

use crate::config::ConfigError;
use crate::domain::advice::{Advice, counted};
use crate::domain::heartbeat::Heartbeat;
use crate::error_chain::Chain;
use crate::host::NoPort;
use crate::identity::IdentityError;
use crate::pipeline::{self, Ended};
use crate::store::{BlobError, StoreError};

/// A line on standard output. Whoever reads it may have gone, as `head` does:
/// then nothing is printed, and the work goes on.
pub(super) fn out(line: impl Display) {
    if let Err(error) = write(io::stdout().lock(), line) {
        error!(%error, "standard output cannot be written to");
    }
}

/// A line on standard error, with the same patience. What cannot be said there
/// cannot be said anywhere.
pub(super) fn err(line: impl Display) {
    drop(write(io::stderr().lock(), line));
}

fn write(mut stream: impl Write, line: impl Display) -> io::Result<()> {
    match writeln!(stream, "{line}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Every fault on a line of its own.
pub(super) fn faults(error: &ConfigError) -> String {
    let mut text = format!("{} to correct:\n", counted(error.settings(), "setting"));
    for fault in error.faults() {
        // Writing to a String does not fail.
        let _written = writeln!(text, "  {}: {}", fault.name, fault.what);
    }
    text.push_str(
        "Values are not shown. The README lists every setting with its form and default.",
    );
    text
}

/// What failed, and what to do where that is known.
pub(super) fn failure(error: &anyhow::Error) -> String {
    match error.chain().find_map(advice) {
        Some(Advice { message, next_step }) => format!("Failed: {message}\nNext step: {next_step}"),
        None => format!("Failed: {}", Chain(error.as_ref())),
    }
}

fn advice(error: &(dyn Error + 'static)) -> Option<Advice> {
    match error.downcast_ref::<IdentityError>() {
        Some(IdentityError::Storage(error)) => return Some(pipeline::storage(error)),
        Some(error) => return Some(error.advice()),
        None => {}
    }
    if let Some(error) = error.downcast_ref::<StoreError>() {
        return Some(pipeline::storage(error));
    }
    if let Some(error) = error.downcast_ref::<BlobError>() {
        return Some(pipeline::container(error));
    }
    let error = error.downcast_ref::<NoPort>()?;
    Some(Advice::new(format!("{}.", Chain(error)), error.next_step()))
}

/// One run in a few lines.
pub(super) fn ended(ended: &Ended) -> String {
    match ended {
        Ended::StoodAside => "Another run is in progress and will report. If none is, a run was killed; the next can start five minutes after its last save.".to_owned(),
        Ended::Reported(heartbeat, unsent) => {
            let mut text = report(heartbeat);
            if let Some(unsent) = unsent {
                let _written = write!(
                    text,
                    "\n  {}\n  Next step: {}",
                    unsent.message(),
                    unsent.advice.next_step
                );
            }
            text
        }
    }
}

fn report(heartbeat: &Heartbeat) -> String {
    let counts = heartbeat.counts;
    let mut text = format!("{:?}: {}", heartbeat.status, heartbeat.message);
    if !heartbeat.next_step.is_empty() {
        let _written = write!(text, "\n  Next step: {}", heartbeat.next_step);
    }
    let _written = write!(
        text,
        "\n  fetched {}, delivered {}, already delivered {}, withheld {}, set aside {}, calls {}, {} ms",
        counts.fetched,
        counts.delivered,
        counts.duplicates,
        counts.withheld,
        counts.quarantined,
        counts.calls,
        heartbeat.duration_ms
    );
    if let Some(lag) = heartbeat.lag_seconds {
        let what = if counts.withheld == 0 {
            "is delivered"
        } else {
            "has been looked at; what is withheld is not delivered"
        };
        let _written = write!(text, "\n  everything older than {} {what}", duration(lag));
    }
    text
}

/// `45 s`, `12 min`, `3 h`, `2 days`.
pub(super) fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}
