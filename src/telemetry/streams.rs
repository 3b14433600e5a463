//! Standard output and standard error, and which lines go to which.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use tracing::Level;

use super::line::without_warn;

/// Back to the first column, and nothing more in the line.
const CLEAR_LINE: &str = "\r\x1b[2K";

type Stream = Mutex<Box<dyn Write + Send>>;

/// The process's two streams, or what stands in for them.
pub struct Streams {
    out: Stream,
    err: Stream,
    before: &'static str,
}

impl Streams {
    /// Standard output and standard error.
    pub fn standard() -> Self {
        Self::new(io::stdout(), io::stderr())
    }

    /// Standard error for both: standard output belongs to what a verb prints.
    pub fn terminal() -> Self {
        Self::new(io::stderr(), io::stderr())
    }

    /// Standard error, where a bar is drawn too: each line takes the bar's place,
    /// and the bar is drawn again below it.
    pub fn beside_bar() -> Self {
        Self { before: CLEAR_LINE, ..Self::terminal() }
    }

    /// Any two.
    pub fn new(out: impl Write + Send + 'static, err: impl Write + Send + 'static) -> Self {
        Self { out: Mutex::new(Box::new(out)), err: Mutex::new(Box::new(err)), before: "" }
    }

    /// To standard output.
    pub(super) fn print(&self, line: &str) {
        self.write(&self.out, line);
    }

    /// To the stream, and in the words, by which the host knows the severity.
    pub(super) fn by_severity(&self, level: Level, line: &str) {
        match level {
            Level::ERROR => self.write(&self.err, &without_warn(line)),
            Level::WARN => self.write(&self.err, line),
            _ => self.write(&self.out, line),
        }
    }

    fn write(&self, stream: &Stream, line: &str) {
        let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
        // In one piece: a bar is drawn at any time.
        let text = format!("{}{line}", self.before);
        // When the stream is gone, nothing is left to tell it to.
        drop(stream.write_all(text.as_bytes()).and_then(|()| stream.flush()));
    }
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").finish_non_exhaustive()
    }
}
