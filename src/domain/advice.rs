//! What happened and what to do, in words for people who are no programmers.

use std::fmt::Display;

/// What is done about rows that were set aside.
pub const REPLAY: &str = "Look under quarantine/ in the app's storage container for the reasons. Once they are mended, send these alerts again with `defender-alert-export replay`: for a Function App from Azure Cloud Shell (the workbook *Defender alert export*, *What to do*, or infra/README.md of the deployment zip, *Alerts that were set aside*, say how).";

/// `1 alert`, `2 alerts`.
pub fn counted<N: Copy + Display + From<u8> + PartialEq>(number: N, noun: &str) -> String {
    format!("{number} {noun}{}", if number == N::from(1) { "" } else { "s" })
}

/// Two texts that go into the heartbeat, the page and the terminal alike.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Advice {
    /// What happened.
    pub message: String,
    /// What a person should do; empty when nothing.
    pub next_step: String,
}

impl Advice {
    /// From two texts.
    pub fn new(message: impl Into<String>, next_step: impl Into<String>) -> Self {
        Self { message: message.into(), next_step: next_step.into() }
    }
}
