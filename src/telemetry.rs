//! Log lines: which are written, and where they go.
//!
//! The Functions host takes each line on standard output for information, each
//! on standard error that contains `warn` for a warning and every other one for
//! an error (`WorkerConsoleLogService` in
//! <https://github.com/Azure/azure-functions-host>).
//!
//! Libraries are heard from warnings upwards only, at every level: below that
//! some print request headers, and with them tokens.

mod blob;
mod line;
mod streams;

use std::panic::{self, PanicHookInfo};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{SetGlobalDefaultError, set_global_default};
use tracing::{Event, Level, Metadata, Subscriber, error};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::{LookupSpan, Registry};

pub use self::blob::{Append, NotAppended, Pump};
pub use self::streams::Streams;

use self::blob::{APPENDING, Backlog};
use self::line::Fields;
use crate::clock::Clock;
use crate::config::{LogOutput, LoggingConfig};

/// How long the end of a run or of the process waits for the log container.
const FLUSH_WAIT: Duration = Duration::from_secs(5);

/// Another part of the process listens to log records already.
#[derive(Debug, thiserror::Error)]
#[error("logging was started twice")]
pub struct AlreadyStarted(#[source] SetGlobalDefaultError);

/// Starts logging for the whole process, panics included.
///
/// # Errors
///
/// [`AlreadyStarted`] on a second call; the first one's settings hold.
pub fn start(
    logging: LoggingConfig,
    streams: Streams,
    clock: Clock,
) -> Result<Telemetry, AlreadyStarted> {
    let (lines, telemetry) = Lines::new(logging, streams, clock);
    set_global_default(Registry::default().with(lines)).map_err(AlreadyStarted)?;
    panic::set_hook(Box::new(log_panic));
    Ok(telemetry)
}

/// Where only: a panic's text can quote the data at hand.
fn log_panic(panic: &PanicHookInfo<'_>) {
    match panic.location() {
        Some(place) => error!(file = place.file(), line = place.line(), "panicked: a bug"),
        None => error!("panicked: a bug"),
    }
}

/// What is left to do with logging once it has started. Clones share it.
#[derive(Clone, Debug)]
pub struct Telemetry(Option<Arc<Backlog>>);

impl Telemetry {
    /// Starts writing the lines to the log container, those kept since the start
    /// included. Does nothing unless `FunctionConfigLoggingType` is `blob`; until
    /// called, up to 4 MiB of lines are kept.
    ///
    /// Must be called within a runtime.
    pub fn append_with(&self, append: Append) -> Option<Pump> {
        self.0.as_ref().map(|backlog| backlog.pump(append))
    }

    /// Writes what is kept for the container, for 5 s at most: for the end of a
    /// run and of the process. What was not written stays for the next time.
    pub async fn flush(&self) {
        if let Some(backlog) = &self.0 {
            // Late lines are kept, not lost: nothing to report.
            drop(timeout(FLUSH_WAIT, backlog.drain()).await);
        }
    }
}

/// Turns records into lines and sends each where it belongs.
#[derive(Debug)]
pub struct Lines {
    threshold: LevelFilter,
    output: LogOutput,
    streams: Streams,
    backlog: Option<Arc<Backlog>>,
    clock: Clock,
}

/// A span's fields as text, kept with the span.
struct SpanFields(String);

impl Lines {
    /// Lines by `logging`, and the handle for what comes later.
    pub fn new(logging: LoggingConfig, streams: Streams, clock: Clock) -> (Self, Telemetry) {
        let backlog = match logging.output {
            LogOutput::Blob => Some(Arc::<Backlog>::default()),
            LogOutput::Logging | LogOutput::Print => None,
        };
        let telemetry = Telemetry(backlog.clone());
        let threshold = threshold(logging.level);
        (Self { threshold, output: logging.output, streams, backlog, clock }, telemetry)
    }

    fn write(&self, level: Level, appending: bool, line: &str) {
        match self.output {
            LogOutput::Print => self.streams.print(line),
            LogOutput::Logging => self.streams.by_severity(level, line),
            // About the container: not into the container.
            LogOutput::Blob if appending => {
                if level <= Level::WARN {
                    self.streams.by_severity(level, line);
                }
            }
            LogOutput::Blob => {
                // Twice, because the container may be what is broken.
                if level == Level::ERROR {
                    self.streams.by_severity(level, line);
                }
                if let Some(backlog) = &self.backlog {
                    backlog.push(self.clock.now(), line);
                }
            }
        }
    }
}

/// `FunctionConfigLoggingLevel`: 1 everything, 2 debug, 3 information, 4
/// warnings, 5 errors only.
fn threshold(level: u8) -> LevelFilter {
    match level {
        0 | 1 => LevelFilter::TRACE,
        2 => LevelFilter::DEBUG,
        3 => LevelFilter::INFO,
        4 => LevelFilter::WARN,
        _ => LevelFilter::ERROR,
    }
}

/// Whether a record is this program's and not a library's.
fn ours(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    target.split("::").next() == Some("defender_alert_export")
}

impl<S> Layer<S> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let heard = ours(metadata) || (metadata.is_event() && *metadata.level() <= Level::WARN);
        heard && *metadata.level() <= self.threshold
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(SpanFields(fields.rest));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            values.record(&mut fields);
            if let Some(SpanFields(text)) = span.extensions_mut().get_mut() {
                text.push_str(&fields.rest);
            }
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut spans = String::new();
        let mut appending = false;
        for span in context.event_scope(event).into_iter().flatten() {
            appending |= span.name() == APPENDING;
            if let Some(SpanFields(text)) = span.extensions().get() {
                spans.push_str(text);
            }
        }
        let level = *event.metadata().level();
        self.write(level, appending, &line::line(level, self.clock.now(), &fields, &spans));
    }
}

#[cfg(test)]
mod tests {
    use std::future;
    use std::io::{self, Write};
    use std::sync::{Mutex, Once};

    use tracing::{debug, error_span, field, info, subscriber, trace, warn};

    use super::*;

    /// Gives every thread a listener that forgets. Otherwise the first without
    /// one to pass a line of code that logs could switch it off for all
    /// (<https://github.com/tokio-rs/tracing/issues/3611>).
    pub(super) fn listen_everywhere() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            let logging = LoggingConfig { output: LogOutput::Print, level: 1 };
            let streams = Streams::new(io::sink(), io::sink());
            let (lines, _) = Lines::new(logging, streams, Clock::System);
            set_global_default(Registry::default().with(lines)).unwrap();
        });
    }

    /// What was written to a stream. Clones share it.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Written {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What `records` leaves on standard output and standard error, and the
    /// handle for the rest.
    fn log(output: LogOutput, level: u8, records: impl FnOnce()) -> (String, String, Telemetry) {
        listen_everywhere();
        let (out, err) = (Written::default(), Written::default());
        let streams = Streams::new(out.clone(), err.clone());
        let clock = Clock::stopped_at("2026-11-21T05:15:00.5Z".parse().unwrap());
        let (lines, telemetry) = Lines::new(LoggingConfig { output, level }, streams, clock);
        subscriber::with_default(Registry::default().with(lines), records);
        (out.text(), err.text(), telemetry)
    }

    fn one_of_each() {
        trace!("t");
        debug!("d");
        info!("i");
        warn!("w");
        error!("e");
    }

    #[test]
    fn level_1_logs_everything_and_5_the_least() {
        for (level, expected) in [(1, "tdiwe"), (2, "diwe"), (3, "iwe"), (4, "we"), (5, "e")] {
            let (out, _, _) = log(LogOutput::Print, level, one_of_each);
            let messages: String = out.lines().map(|line| line.chars().last().unwrap()).collect();
            assert_eq!(messages, expected, "level {level}");
        }
    }

    #[test]
    fn libraries_are_heard_from_warnings_upwards_at_every_level() {
        for (level, expected) in [(1, "we"), (3, "we"), (4, "we"), (5, "e")] {
            let (out, _, _) = log(LogOutput::Print, level, || {
                let span = error_span!(target: "hyper", "request", authorization = "Bearer x");
                span.in_scope(|| {
                    trace!(target: "hyper", "t");
                    info!(target: "defender_alert_exporter", "i");
                    warn!(target: "azure_core::http", "w");
                    error!(target: "h2", "e");
                });
            });
            let messages: String = out.lines().map(|line| line.chars().last().unwrap()).collect();
            assert_eq!(messages, expected, "level {level}");
            assert!(!out.contains("Bearer"));
        }
    }

    #[test]
    fn the_host_sees_each_line_at_its_own_severity() {
        let (out, err, _) = log(LogOutput::Logging, 2, || {
            debug!("d");
            info!("warned of nothing");
            warn!("careful");
            error!(error = "Warning: 503", "failed in Warnford");
        });
        assert_eq!(
            out,
            "DEBUG 2026-11-21T05:15:00.5000000Z d\n\
             INFO 2026-11-21T05:15:00.5000000Z warned of nothing\n"
        );
        assert_eq!(
            err,
            "WARN 2026-11-21T05:15:00.5000000Z careful\n\
             ERROR 2026-11-21T05:15:00.5000000Z failed in W_arnford error=\"W_arning: 503\"\n"
        );
    }

    #[test]
    fn print_leaves_standard_error_alone() {
        let (out, err, _) = log(LogOutput::Print, 3, || error!("warned"));
        assert_eq!(out, "ERROR 2026-11-21T05:15:00.5000000Z warned\n");
        assert_eq!(err, "");
    }

    #[test]
    fn every_line_carries_what_it_happened_in_at_every_level() {
        for level in 1..=5 {
            let (_, err, _) = log(LogOutput::Logging, level, || {
                let span = error_span!("invocation", invocation.id = "24ad", late = field::Empty);
                let _outer = span.enter();
                span.record("late", true);
                error_span!("window", window.start = %"2026 \n").in_scope(|| {
                    error!(count = 3, name = "a \"b\"", none = None::<u8>, "failed\nbadly");
                });
            });
            assert_eq!(
                err,
                "ERROR 2026-11-21T05:15:00.5000000Z failed\\nbadly count=3 name=\"a \\\"b\\\"\" \
                 window.start=\"2026 \\n\" invocation.id=24ad late=true\n"
            );
        }
    }

    #[test]
    fn a_panic_is_logged_without_what_it_says() {
        let (_, err, _) = log(LogOutput::Logging, 5, || {
            let before = panic::take_hook();
            panic::set_hook(Box::new(log_panic));
            let caught = panic::catch_unwind(|| panic!("alert of J. Smith"));
            panic::set_hook(before);
            assert!(caught.is_err());
        });
        assert!(err.contains("panicked: a bug file=src/telemetry.rs line="), "{err}");
        assert!(!err.contains("Smith"));
    }

    #[tokio::test(start_paused = true)]
    async fn blob_lines_go_to_the_container_and_errors_to_the_host_as_well() {
        let (out, err, telemetry) = log(LogOutput::Blob, 3, one_of_each);
        assert_eq!(out, "");
        assert_eq!(err, "ERROR 2026-11-21T05:15:00.5000000Z e\n");
        let appended = Arc::new(Mutex::new(String::new()));
        let container = Arc::clone(&appended);
        let pump = telemetry.append_with(Arc::new(move |name, bytes| {
            assert_eq!(name, "log/2026-11-21.log");
            container.lock().unwrap().push_str(std::str::from_utf8(&bytes).unwrap());
            Box::pin(async { Ok(()) })
        }));
        assert!(pump.is_some());
        telemetry.flush().await;
        assert_eq!(
            *appended.lock().unwrap(),
            "INFO 2026-11-21T05:15:00.5000000Z i\n\
             WARN 2026-11-21T05:15:00.5000000Z w\n\
             ERROR 2026-11-21T05:15:00.5000000Z e\n"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_append_logs_is_not_appended_and_an_outage_is_told_once() {
        listen_everywhere();
        let (out, err) = (Written::default(), Written::default());
        let logging = LoggingConfig { output: LogOutput::Blob, level: 1 };
        let streams = Streams::new(out.clone(), err.clone());
        let clock = Clock::stopped_at("2026-11-21T05:15:00Z".parse().unwrap());
        let (lines, telemetry) = Lines::new(logging, streams, clock);
        let _listening = subscriber::set_default(Registry::default().with(lines));
        info!("kept");
        let tried = Arc::new(Mutex::new(Vec::new()));
        let container = Arc::clone(&tried);
        let _pump = telemetry.append_with(Arc::new(move |_, bytes| {
            container.lock().unwrap().push(bytes);
            Box::pin(async {
                info!("trying again");
                warn!("slow");
                Err(NotAppended(Box::new(io::Error::other("503"))))
            })
        }));
        telemetry.flush().await;
        telemetry.flush().await;
        let expected = "INFO 2026-11-21T05:15:00.0000000Z kept\n";
        assert_eq!(*tried.lock().unwrap(), [expected, expected]);
        assert_eq!(
            err.text(),
            "WARN 2026-11-21T05:15:00.0000000Z slow\n\
             ERROR 2026-11-21T05:15:00.0000000Z log lines wait: check that the app may write to its log container error=\"the log container did not take the lines: 503\"\n\
             WARN 2026-11-21T05:15:00.0000000Z slow\n"
        );
        assert_eq!(out.text(), "");
    }

    #[tokio::test(start_paused = true)]
    async fn each_outage_of_the_container_is_told() {
        listen_everywhere();
        let err = Written::default();
        let logging = LoggingConfig { output: LogOutput::Blob, level: 3 };
        let streams = Streams::new(io::sink(), err.clone());
        let (lines, telemetry) = Lines::new(logging, streams, Clock::System);
        let _listening = subscriber::set_default(Registry::default().with(lines));
        let outcomes = Mutex::new(vec![false, true, false, false]);
        let _pump = telemetry.append_with(Arc::new(move |_, _| {
            let works = outcomes.lock().unwrap().pop().unwrap();
            let failure = || NotAppended(Box::new(io::Error::other("503")));
            Box::pin(future::ready(if works { Ok(()) } else { Err(failure()) }))
        }));
        for expected in [1, 1, 1, 2] {
            info!("line");
            telemetry.flush().await;
            assert_eq!(err.text().matches("log lines wait").count(), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_run_does_not_wait_long_for_the_container() {
        let (_, _, telemetry) = log(LogOutput::Blob, 3, one_of_each);
        let _pump = telemetry.append_with(Arc::new(|_, _| Box::pin(future::pending())));
        let waited = timeout(Duration::from_secs(6), telemetry.flush()).await;
        assert!(waited.is_ok());
    }
}
