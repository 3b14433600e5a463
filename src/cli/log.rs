//! Log lines of the verbs: to standard error or to the log container, for
//! standard output belongs to what a verb prints.

use std::io::IsTerminal as _;
use std::sync::{Arc, OnceLock};

use futures_util::FutureExt as _;

use super::Verb;
use crate::app::App;
use crate::clock::Clock;
use crate::config::{LogOutput, LoggingConfig, Vars};
use crate::telemetry::{self, AlreadyStarted, Append, NotAppended, Pump, Streams, Telemetry};

/// Whoever logs is found by the whole process; so is what is left to do.
static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    telemetry: Telemetry,
    /// Goes on as long as the process.
    pump: OnceLock<Option<Pump>>,
}

/// Which lines a verb may write beside what it prints.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Lines {
    /// As the settings say.
    AsSet,
    /// A bar is drawn on the same terminal: warnings and errors only.
    BesideBar,
    /// Errors only, for they would be all that is wrong with what it prints.
    Errors,
}

impl Lines {
    /// `None` for `serve`, which starts logging by itself.
    fn of(verb: &Verb) -> Option<Self> {
        Some(match verb {
            Verb::Serve => return None,
            Verb::Backfill(_) if std::io::stderr().is_terminal() => Self::BesideBar,
            Verb::SignIn(_)
            | Verb::SignOut(_)
            | Verb::Run(_)
            | Verb::Backfill(_)
            | Verb::Replay(_)
            | Verb::Resume(_) => Self::AsSet,
            Verb::Status(_) | Verb::Doctor(_) | Verb::Demo(_) => Self::Errors,
        })
    }

    fn streams(self) -> Streams {
        match self {
            Self::BesideBar => Streams::beside_bar(),
            Self::AsSet | Self::Errors => Streams::terminal(),
        }
    }

    fn logging(self, set: LoggingConfig) -> LoggingConfig {
        match self {
            Self::AsSet => set,
            Self::BesideBar if set.output == LogOutput::Blob => set,
            Self::BesideBar => {
                LoggingConfig { level: set.level.max(LoggingConfig::WARNINGS), ..set }
            }
            Self::Errors => {
                LoggingConfig { output: LogOutput::Print, level: LoggingConfig::ERRORS }
            }
        }
    }
}

/// From here on the process logs; a panic's text is shown nowhere.
pub(super) fn start(vars: &Vars, verb: &Verb) -> Result<(), AlreadyStarted> {
    let Some(lines) = Lines::of(verb) else { return Ok(()) };
    let logging = lines.logging(LoggingConfig::load(vars));
    let telemetry = telemetry::start(logging, lines.streams(), Clock::System)?;
    // A second one has failed above.
    drop(LOG.set(Log { telemetry, pump: OnceLock::new() }));
    Ok(())
}

/// From here on lines for the container are written there.
pub(super) fn append_with(app: &App) {
    if let Some(log) = LOG.get() {
        log.pump.get_or_init(|| log.telemetry.append_with(appending(app)));
    }
}

/// At the end of a run and of a verb, for 5 s at most.
pub(super) async fn flush() {
    if let Some(log) = LOG.get() {
        log.telemetry.flush().await;
    }
}

/// Into the app's container.
pub(super) fn appending(app: &App) -> Append {
    let blobs = app.blobs.clone();
    Arc::new(move |name, lines| {
        let blobs = blobs.clone();
        async move { blobs.append(&name, lines).await.map_err(|error| NotAppended(Box::new(error))) }.boxed()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beside_a_bar_there_are_warnings_only_and_reading_verbs_write_errors_only() {
        let set = |output, level| LoggingConfig { output, level };
        let (print, logging, blob) = (LogOutput::Print, LogOutput::Logging, LogOutput::Blob);
        assert_eq!(Lines::AsSet.logging(set(blob, 1)), set(blob, 1));
        assert_eq!(Lines::BesideBar.logging(set(logging, 1)), set(logging, 4));
        assert_eq!(Lines::BesideBar.logging(set(print, 5)), set(print, 5));
        // Of those only errors are on the terminal too.
        assert_eq!(Lines::BesideBar.logging(set(blob, 1)), set(blob, 1));
        assert_eq!(Lines::Errors.logging(set(blob, 1)), set(print, 5));
    }
}
