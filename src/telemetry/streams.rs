//! Standard output and standard error, and which lines go to which.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use tracing::Level;

use super::line::without_warn;

type Stream = Mutex<Box<dyn Write + Send>>;

/// The process's two streams, or what stands in for them.
pub struct Streams {
    out: Stream,
    err: Stream,
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

    /// Any two.
    pub fn new(out: impl Write + Send + 'static, err: impl Write + Send + 'static) -> Self {
        Self { out: Mutex::new(Box::new(out)), err: Mutex::new(Box::new(err)) }
    }

    /// To standard output.
    pub(super) fn print(&self, line: &str) {
        write(&self.out, line);
    }

    /// To the stream, and in the words, by which the host knows the severity.
    pub(super) fn by_severity(&self, level: Level, line: &str) {
        match level {
            Level::ERROR => write(&self.err, &without_warn(line)),
            Level::WARN => write(&self.err, line),
            _ => write(&self.out, line),
        }
    }
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").finish_non_exhaustive()
    }
}

fn write(stream: &Stream, line: &str) {
    let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
    // When the stream is gone, nothing is left to tell it to.
    drop(stream.write_all(line.as_bytes()).and_then(|()| stream.flush()));
}
