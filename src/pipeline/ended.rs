//! What a run says of itself when it is over.

use crate::domain::heartbeat::{Counts, Heartbeat, Unsent};

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// It ran; this was, or will be, sent as its heartbeat. Then what could not
    /// be sent, if anything.
    Reported(Box<Heartbeat>, Option<Box<Unsent>>),
    /// Another run is at it and will report.
    StoodAside,
}

impl Ended {
    /// Whether the run did what it could: the Functions host is told success.
    pub fn did_its_duty(&self) -> bool {
        match self {
            Self::Reported(heartbeat, _) => heartbeat.status.did_its_duty(),
            Self::StoodAside => true,
        }
    }

    /// What it did; nothing when it stood aside.
    pub fn counts(&self) -> Counts {
        match self {
            Self::Reported(heartbeat, _) => heartbeat.counts,
            Self::StoodAside => Counts::default(),
        }
    }
}
