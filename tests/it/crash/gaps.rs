//! The gaps of an ordinary run, with state in a folder and in Azurite.

use std::time::Duration;

use defender_alert_export::clock::Clock;
use defender_alert_export::sandbox::clouds::GROUP;
use defender_alert_export::sandbox::sample;
use defender_alert_export::sandbox::script::Fault::{DoAndHang, Hang, Pass};

use super::gate::Side;
use super::stage::{Kept, Stage, until};
use super::{Again, Standing, survives};

/// Two pages, three batches.
const ALERTS: u64 = 60;

/// `survives` with state in a folder, then in Azurite. `arm` makes the gap.
async fn everywhere(arm: for<'a> fn(&'a Stage) -> Standing<'a>, again: Again) {
    for kept in [Kept::Folder, Kept::Azurite] {
        in_one(kept, arm, again).await;
    }
}

async fn in_one(kept: Kept, arm: for<'a> fn(&'a Stage) -> Standing<'a>, again: Again) {
    let Some(mut stage) = Stage::set(kept).await else { return };
    stage.sign_in().await;
    stage.alerts(ALERTS, Duration::from_mins(5));
    let standing = arm(&stage);
    survives(&stage, standing, again).await;
}

/// How many requests the workspace has answered well.
fn taken(stage: &Stage) -> usize {
    stage.clouds.monitor.script.seen().iter().filter(|seen| seen.status == 204).count()
}

/// The `nth` save of the position, in Azurite.
async fn at_save(side: Side, nth: usize, again: Again) {
    let Some(mut stage) = Stage::set(Kept::Azurite).await else { return };
    stage.sign_in().await;
    stage.alerts(ALERTS, Duration::from_mins(5));
    let gate = stage.gate.as_ref().unwrap();
    gate.stop(side, "POST", "Position", nth);
    survives(&stage, gate.stopped(), again).await;
}

#[tokio::test]
async fn killed_before_the_claim_is_saved() {
    at_save(Side::Before, 0, Again::Nothing).await;
}

#[tokio::test]
async fn killed_after_the_claim_is_saved() {
    at_save(Side::After, 0, Again::Nothing).await;
}

#[tokio::test]
async fn killed_before_the_first_page() {
    fn arm(stage: &Stage) -> Standing<'_> {
        stage.clouds.defender.script().push([Hang]);
        Box::pin(stage.clouds.defender.script().hung())
    }
    everywhere(arm, Again::Nothing).await;
}

#[tokio::test]
async fn killed_between_two_pages() {
    fn arm(stage: &Stage) -> Standing<'_> {
        stage.clouds.defender.script().push([Pass, Hang]);
        Box::pin(async {
            stage.clouds.defender.script().hung().await;
            until("the batch that was full is taken", || taken(stage) == 1).await;
        })
    }
    everywhere(arm, Again::WhatWasTaken).await;
}

#[tokio::test]
async fn killed_when_some_batches_were_accepted_and_one_was_not() {
    fn arm(stage: &Stage) -> Standing<'_> {
        stage.clouds.monitor.script.push([Pass, Hang, Pass]);
        Box::pin(async {
            stage.clouds.monitor.script.hung().await;
            until("the other two are taken", || taken(stage) == 2).await;
        })
    }
    everywhere(arm, Again::WhatWasTaken).await;
}

#[tokio::test]
async fn killed_when_every_batch_was_accepted() {
    fn arm(stage: &Stage) -> Standing<'_> {
        stage.clouds.monitor.script.push([Pass, Pass, DoAndHang]);
        Box::pin(async {
            stage.clouds.monitor.script.hung().await;
            until("all rows are taken", || stage.rows().len() == 60).await;
        })
    }
    everywhere(arm, Again::WhatWasTaken).await;
}

#[tokio::test]
async fn killed_before_the_save_that_follows_delivery() {
    at_save(Side::Before, 1, Again::WhatWasTaken).await;
}

#[tokio::test]
async fn killed_after_the_save_that_follows_delivery() {
    at_save(Side::After, 1, Again::Nothing).await;
}

#[tokio::test]
async fn killed_after_the_save_and_before_the_heartbeat() {
    fn arm(stage: &Stage) -> Standing<'_> {
        stage.clouds.monitor.script.push([Pass, Pass, Pass, Hang]);
        Box::pin(stage.clouds.monitor.script.hung())
    }
    everywhere(arm, Again::Nothing).await;
}

#[tokio::test]
async fn killed_after_the_heartbeat_was_accepted() {
    fn arm(stage: &Stage) -> Standing<'_> {
        stage.clouds.monitor.script.push([Pass, Pass, Pass, DoAndHang]);
        Box::pin(async {
            stage.clouds.monitor.script.hung().await;
            assert_eq!(stage.heartbeats().len(), 1);
        })
    }
    everywhere(arm, Again::Nothing).await;
}

/// A dozen alerts in each of three slices of six hours.
async fn in_slices(kept: Kept) -> Option<Stage> {
    let mut stage = Stage::set(kept).await?;
    stage.settings.insert("FunctionConfigInitialLookbackHours".to_owned(), "13".to_owned());
    stage.sign_in().await;
    for hours in [0, 5, 11] {
        stage.alerts(12, Duration::from_hours(hours) + Duration::from_mins(30));
    }
    Some(stage)
}

#[tokio::test]
async fn killed_in_the_second_slice_of_a_backlog_only_that_is_sent_again() {
    for kept in [Kept::Folder, Kept::Azurite] {
        let Some(stage) = in_slices(kept).await else { continue };
        stage.clouds.monitor.script.push([Pass, DoAndHang]);
        let standing = stage.clouds.monitor.script.hung();
        let first_saved = async {
            standing.await;
            assert_eq!(stage.rows().len(), 24);
        };
        killed_in_second(&stage, first_saved).await;
    }
}

async fn killed_in_second(stage: &Stage, standing: impl Future<Output = ()>) {
    super::killed(stage, standing).await;
    stage.position_is_not_ahead().await;
    stage.run_well().await;
    assert_eq!(stage.delivered(), stage.alerts.keys().cloned().collect());
    let repeated = stage.rows().values().filter(|times| **times == 2).count();
    assert_eq!((stage.rows().len(), repeated), (36, 12));
    assert_eq!(stage.run_well().await, 0);
    assert_eq!(stage.rows().values().sum::<usize>(), 48);
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

#[tokio::test]
async fn killed_again_and_again_at_any_moment_nothing_is_lost() {
    for (kept, seed) in [(Kept::Folder, 20_261_121), (Kept::Azurite, 42)] {
        let Some(mut stage) = Stage::set(kept).await else { continue };
        stage.settings.insert("FunctionConfigSettleSeconds".to_owned(), "0".to_owned());
        stage.sign_in().await;
        let mut dice = Dice(seed);
        for _ in 0..12 {
            for _ in 0..10 {
                let number = stage.alerts.len() as u64 + 1;
                stage.alert(sample::alert(number, GROUP, Clock::System.now()));
            }
            let mut process = stage.start();
            let calls = stage.clouds.defender.script().seen().len();
            let called = async {
                until("a call", || stage.clouds.defender.script().seen().len() > calls).await;
            };
            tokio::select! {
                () = called => {}
                _ended = process.wait() => {}
            }
            let moment = Duration::from_millis(dice.below(250));
            drop(tokio::time::timeout(moment, process.wait()).await);
            process.kill().await.unwrap();
            stage.position_is_not_ahead().await;
        }
        stage.run_well().await;
        assert_eq!(stage.delivered(), stage.alerts.keys().cloned().collect());
        let rows = stage.rows();
        assert_eq!(stage.run_well().await, 0);
        assert_eq!(stage.rows(), rows);
    }
}

#[tokio::test]
async fn an_alert_changed_while_nobody_ran_comes_as_a_new_version() {
    let Some(mut stage) = Stage::set(Kept::Folder).await else { return };
    stage.sign_in().await;
    stage.alerts(3, Duration::from_mins(5));
    stage.clouds.monitor.script.push([DoAndHang]);
    super::killed(&stage, stage.clouds.monitor.script.hung()).await;
    let changed = sample::alert(1, GROUP, Stage::whole_second() - Duration::from_mins(2));
    stage.alert(changed);
    stage.run_well().await;
    // The former version was taken by the killed run, so both are there.
    assert_eq!(stage.delivered(), stage.alerts.keys().cloned().collect());
    let repeated = stage.rows().values().filter(|times| **times == 2).count();
    assert_eq!((stage.rows().len(), repeated), (4, 2));
}
