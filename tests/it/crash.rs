//! The real process is killed in each gap between two writes. Whatever it was
//! at, the next run loses nothing and repeats no more than was interrupted.

pub(crate) mod gate;
pub(crate) mod stage;

mod auditing;
mod backfilling;
mod claims;
mod gaps;
mod halting;
mod replaying;
mod setting_aside;
mod signing_in;
mod waiting;

use std::collections::BTreeSet;
use std::pin::Pin;

use tokio::process::Child;

use self::stage::{Stage, within};

/// Ends when the process stands in the gap.
type Standing<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// What the run after a kill may send again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Again {
    Nothing,
    /// What the workspace took from the killed run.
    WhatWasTaken,
}

/// Starts a run, and kills it when `standing` ends.
pub(crate) async fn killed(stage: &Stage, standing: impl Future<Output = ()>) {
    kill(stage.start(), standing).await;
}

/// Kills `process` when `standing` ends.
async fn kill(mut process: Child, standing: impl Future<Output = ()>) {
    tokio::select! {
        () = within("the process stands in the gap", standing) => {}
        ended = process.wait() => {
            let output = process.wait_with_output().await.unwrap();
            panic!("ended before the gap: {ended:?} {output:?}");
        }
    }
    process.kill().await.unwrap();
}

/// Kills a run while `standing`, and checks every run from there on.
async fn survives(stage: &Stage, standing: impl Future<Output = ()>, again: Again) {
    let before = stage.delivered();
    killed(stage, standing).await;
    let taken: BTreeSet<_> = stage.delivered().difference(&before).cloned().collect();
    assert!(stage.rows().values().all(|times| *times == 1), "one run repeats nothing");
    stage.position_is_not_ahead().await;

    stage.run_well().await;
    let rows = stage.rows();
    assert_eq!(stage.delivered(), stage.alerts.keys().cloned().collect(), "nothing is lost");
    let repeated: BTreeSet<_> =
        rows.iter().filter(|(_, times)| **times > 1).map(|(key, _)| key.clone()).collect();
    let expected = match again {
        Again::Nothing => BTreeSet::new(),
        Again::WhatWasTaken => taken,
    };
    assert_eq!(repeated, expected, "what was interrupted, and nothing else, is sent again");
    assert!(rows.values().all(|times| *times <= 2));

    assert_eq!(stage.run_well().await, 0, "the run after the next sends nothing");
    assert_eq!(stage.rows(), rows);
}
