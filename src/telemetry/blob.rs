//! Lines on their way to the log container: an append blob a day, shared by all
//! instances.
//!
//! Whoever logs never waits: lines are kept, within a limit, and written
//! together. An append blob takes 50,000 blocks
//! (<https://learn.microsoft.com/rest/api/storageservices/append-block>): one
//! every 5 s is 17,280 a day.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{Instrument as _, error, error_span};

use super::line;
use crate::domain::timestamp::Timestamp;
use crate::error_chain::Chain;

/// The span an append happens in, so that what it logs is not appended in turn.
pub(super) const APPENDING: &str = "log_append";

const OUTAGE: &str = "log lines wait: check that the app may write to its log container";

/// Lines are written at least this often.
const EVERY: Duration = Duration::from_secs(5);
/// And sooner once so many bytes wait.
const FULL_BATCH_BYTES: usize = 64 * 1024;
/// Bytes in one block at most; the service takes 4 MiB.
const MAX_BATCH_BYTES: usize = 1024 * 1024;
/// Bytes that wait at most; past them the oldest lines are given up.
const MAX_WAITING_BYTES: usize = 4 * 1024 * 1024;

/// Appends bytes to the append blob of that name in the log container, creating
/// both when missing. An append whose answer was lost may be done twice.
pub type Append =
    Arc<dyn Fn(String, Bytes) -> BoxFuture<'static, Result<(), NotAppended>> + Send + Sync>;

/// The bytes may or may not have been appended.
#[derive(Debug, thiserror::Error)]
#[error("the log container did not take the lines")]
pub struct NotAppended(#[source] pub Box<dyn Error + Send + Sync>);

/// Lines that wait to be appended.
#[derive(Default)]
pub(super) struct Backlog {
    waiting: Mutex<Waiting>,
    full: Notify,
    append: OnceLock<Append>,
    /// One batch at a time keeps the lines in order. Whether the last failed.
    failing: tokio::sync::Mutex<bool>,
}

/// Writes the backlog now and then. Stops when dropped.
#[derive(Debug)]
#[must_use = "nothing is written once this is dropped"]
pub struct Pump(JoinHandle<()>);

impl Drop for Pump {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Default)]
struct Waiting {
    lines: VecDeque<(Timestamp, String)>,
    bytes: usize,
    /// Lines that left the front so far, written or lost.
    gone: u64,
    /// Lines given up and not told about yet.
    lost: u64,
}

/// Lines of one day, still waiting until they are known to be appended.
struct Batch {
    name: String,
    text: String,
    /// Lines gone before the first of these, and with the last.
    gone: (u64, u64),
    /// Lost lines it tells about.
    lost: u64,
}

impl Backlog {
    pub(super) fn push(&self, at: Timestamp, line: &str) {
        if self.lock().push(at, line.to_owned()) {
            self.full.notify_one();
        }
    }

    pub(super) fn pump(self: &Arc<Self>, append: Append) -> Pump {
        // A second one is ignored: the first goes on.
        drop(self.append.set(append));
        let backlog = Arc::clone(self);
        Pump(tokio::spawn(async move {
            loop {
                // In time or full: the same follows.
                drop(timeout(EVERY, backlog.full.notified()).await);
                backlog.drain().await;
            }
        }))
    }

    /// Appends what waits; ends early when that fails.
    ///
    /// Stopped half-way, it leaves the lines of the batch at hand waiting: they
    /// may be written twice.
    pub(super) async fn drain(&self) {
        let Some(append) = self.append.get() else { return };
        let mut failing = self.failing.lock().await;
        loop {
            let Some(batch) = self.lock().batch() else { return };
            let span = error_span!(APPENDING);
            let bytes = Bytes::from(batch.text.clone().into_bytes());
            let done = append(batch.name.clone(), bytes).instrument(span.clone()).await;
            if let Err(failure) = done {
                // Once an outage. Every error line is on standard error too.
                if !std::mem::replace(&mut *failing, true) {
                    span.in_scope(|| error!(error = %Chain(&failure), "{OUTAGE}"));
                }
                return;
            }
            self.lock().written(&batch);
            *failing = false;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Backlog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backlog").field("bytes", &self.lock().bytes).finish_non_exhaustive()
    }
}

impl Waiting {
    /// Whether a batch has just become full.
    fn push(&mut self, at: Timestamp, line: String) -> bool {
        let before = self.bytes;
        self.bytes += line.len();
        self.lines.push_back((at, line));
        while self.bytes > MAX_WAITING_BYTES {
            self.pop();
            self.lost += 1;
        }
        before < FULL_BATCH_BYTES && self.bytes >= FULL_BATCH_BYTES
    }

    fn pop(&mut self) {
        if let Some((_, line)) = self.lines.pop_front() {
            self.bytes -= line.len();
            self.gone += 1;
        }
    }

    /// The oldest lines, all of one day; `None` when none wait.
    fn batch(&self) -> Option<Batch> {
        let (first, _) = self.lines.front()?;
        let day = first.date();
        let mut text = if self.lost > 0 { line::lost(self.lost, *first) } else { String::new() };
        let mut end = self.gone;
        for (at, line) in &self.lines {
            let room = end == self.gone || text.len() + line.len() <= MAX_BATCH_BYTES;
            if at.date() != day || !room {
                break;
            }
            text.push_str(line);
            end += 1;
        }
        Some(Batch {
            name: format!("log/{day}.log"),
            text,
            gone: (self.gone, end),
            lost: self.lost,
        })
    }

    /// Forgets a batch. Lines of it that were given up meanwhile are not lost.
    fn written(&mut self, batch: &Batch) {
        let (start, end) = batch.gone;
        let given_up = self.gone.min(end) - start;
        self.lost = self.lost.saturating_sub(batch.lost + given_up);
        while self.gone < end {
            self.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::super::tests::listen_everywhere;
    use super::*;
    use crate::http::retry::pause;

    const MIDNIGHT: Timestamp = Timestamp::EPOCH;

    /// What the container holds, and how many appends it refuses first.
    #[derive(Clone, Default)]
    struct Container {
        appended: Arc<Mutex<Vec<(String, String)>>>,
        refuse: Arc<Mutex<usize>>,
        calls: Arc<Mutex<usize>>,
    }

    impl Container {
        fn append(&self) -> Append {
            listen_everywhere();
            let container = self.clone();
            Arc::new(move |name, bytes| {
                let container = container.clone();
                Box::pin(async move {
                    *container.calls.lock().unwrap() += 1;
                    pause(Duration::from_secs(1)).await;
                    let mut refuse = container.refuse.lock().unwrap();
                    if *refuse > 0 {
                        *refuse -= 1;
                        return Err(NotAppended(Box::new(io::Error::other("scripted"))));
                    }
                    let text = String::from_utf8(bytes.to_vec()).unwrap();
                    container.appended.lock().unwrap().push((name, text));
                    Ok(())
                })
            })
        }

        fn names(&self) -> Vec<String> {
            self.appended.lock().unwrap().iter().map(|(name, _)| name.clone()).collect()
        }

        fn text(&self) -> String {
            self.appended.lock().unwrap().iter().map(|(_, text)| text.as_str()).collect()
        }
    }

    fn backlog(container: &Container) -> Arc<Backlog> {
        let backlog = Arc::<Backlog>::default();
        assert!(backlog.append.set(container.append()).is_ok());
        backlog
    }

    #[tokio::test(start_paused = true)]
    async fn lines_are_appended_in_order_to_the_blob_of_their_day() {
        let container = Container::default();
        let backlog = backlog(&container);
        backlog.push(MIDNIGHT - Duration::from_secs(1), "a\n");
        backlog.push(MIDNIGHT, "b\n");
        backlog.push(MIDNIGHT, "c\n");
        backlog.drain().await;
        backlog.push(MIDNIGHT, "d\n");
        backlog.drain().await;
        backlog.drain().await;
        assert_eq!(container.text(), "a\nb\nc\nd\n");
        assert_eq!(
            container.names(),
            ["log/1969-12-31.log", "log/1970-01-01.log", "log/1970-01-01.log"]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn lines_wait_while_the_container_refuses_them() {
        let container = Container::default();
        *container.refuse.lock().unwrap() = 2;
        let backlog = backlog(&container);
        backlog.push(MIDNIGHT, "a\n");
        backlog.drain().await;
        backlog.push(MIDNIGHT, "b\n");
        backlog.drain().await;
        assert_eq!(container.text(), "");
        backlog.drain().await;
        assert_eq!(container.text(), "a\nb\n");
    }

    #[tokio::test(start_paused = true)]
    async fn lines_of_an_append_cut_short_are_appended_later() {
        let container = Container::default();
        let backlog = backlog(&container);
        backlog.push(MIDNIGHT, "a\n");
        assert!(timeout(Duration::from_millis(1), backlog.drain()).await.is_err());
        backlog.drain().await;
        assert_eq!(container.text(), "a\n");
    }

    #[tokio::test(start_paused = true)]
    async fn when_too_much_waits_the_oldest_lines_go_and_are_counted() {
        let container = Container::default();
        let backlog = backlog(&container);
        let line = |letter: &str| format!("{}\n", letter.repeat(MAX_WAITING_BYTES / 4));
        for letter in ["a", "b", "c", "d", "e"] {
            backlog.push(MIDNIGHT, &line(letter));
        }
        backlog.drain().await;
        let expected = format!(
            "WARN 1970-01-01T00:00:00.0000000Z log lines were lost log.lost=2\n{}{}{}",
            line("c"),
            line("d"),
            line("e")
        );
        assert!(container.text() == expected, "{} bytes", container.text().len());

        backlog.push(MIDNIGHT, "told once\n");
        backlog.drain().await;
        assert!(container.text().ends_with("e\ntold once\n"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_given_up_while_it_was_being_appended_is_not_lost() {
        let container = Container::default();
        let backlog = backlog(&container);
        backlog.push(MIDNIGHT, "first\n");
        let long = format!("{}\n", "x".repeat(MAX_WAITING_BYTES - 1));
        let push = async {
            pause(Duration::from_millis(1)).await;
            backlog.push(MIDNIGHT, &long);
        };
        tokio::join!(backlog.drain(), push);
        assert!(container.text() == format!("first\n{long}"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_pump_writes_every_few_seconds_and_sooner_when_much_waits() {
        let container = Container::default();
        let backlog = Arc::<Backlog>::default();
        backlog.push(MIDNIGHT, "before the start\n");
        let pump = backlog.pump(container.append());
        pause(Duration::from_millis(4_900)).await;
        assert_eq!(*container.calls.lock().unwrap(), 0);
        pause(Duration::from_millis(1_200)).await;
        assert_eq!(container.text(), "before the start\n");
        backlog.push(MIDNIGHT, &"x".repeat(FULL_BATCH_BYTES));
        pause(Duration::from_millis(1_100)).await;
        assert_eq!(container.names().len(), 2);

        drop(pump);
        backlog.push(MIDNIGHT, "after the end\n");
        pause(Duration::from_mins(1)).await;
        assert_eq!(container.names().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_container_is_asked_no_more_often_however_much_is_logged() {
        let container = Container::default();
        *container.refuse.lock().unwrap() = usize::MAX;
        let backlog = Arc::<Backlog>::default();
        let _pump = backlog.pump(container.append());
        for _ in 0..300 {
            backlog.push(MIDNIGHT, &"x".repeat(FULL_BATCH_BYTES / 2));
            pause(Duration::from_millis(100)).await;
        }
        let calls = *container.calls.lock().unwrap();
        assert!((4..=8).contains(&calls), "{calls} calls in 30 s");
    }
}
