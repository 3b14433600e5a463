//! One line for an error and everything beneath it.

use std::error::Error;
use std::fmt;

/// Prints an error with its sources, joined by `: `.
///
/// Each error type speaks for its own layer only; the chain is printed once,
/// where the failure is reported.
#[derive(Debug)]
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(error) = next {
            write!(f, ": {error}")?;
            next = error.source();
        }
        Ok(())
    }
}
