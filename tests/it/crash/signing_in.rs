//! Killed between an answer of Entra and its place in the state.

use std::time::Duration;

use defender_alert_export::domain::standing::Standing;
use defender_alert_export::sandbox::clouds::{ACCOUNT, ACCOUNT_ID};
use defender_alert_export::sandbox::script::Fault::{DoAndHang, Hang, Pass};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::gate::Side;
use super::stage::{Kept, Stage, within};
use super::{Again, Standing as InTheGap, survives};

/// Signed in so long ago that the first thing a run does is to renew.
async fn to_be_renewed(kept: Kept) -> Option<Stage> {
    let ago = Duration::from_hours(2);
    let mut stage = Stage::set_before(kept, ago).await?;
    stage.sign_in().await;
    stage.clouds.clock.advance(ago);
    stage.alerts(5, Duration::from_mins(5));
    Some(stage)
}

/// Kills a run that renews, at the `side` of saving the renewed sign-in.
async fn at_the_session(side: Side, renewals: usize) {
    let Some(stage) = to_be_renewed(Kept::Azurite).await else { return };
    let gate = stage.gate.as_ref().unwrap();
    gate.stop(side, "PUT", "Session", 0);
    survives(&stage, gate.stopped(), Again::Nothing).await;
    assert_eq!(renewed(&stage), renewals);
}

fn renewed(stage: &Stage) -> usize {
    stage.clouds.entra.asked().iter().filter(|asked| asked.grant_type == "refresh_token").count()
}

#[tokio::test]
async fn killed_between_the_renewal_and_its_saving_the_former_sign_in_still_works() {
    at_the_session(Side::Before, 2).await;
    for kept in [Kept::Folder, Kept::Azurite] {
        let Some(stage) = to_be_renewed(kept).await else { continue };
        stage.clouds.entra.script.push([DoAndHang]);
        let standing: InTheGap<'_> = Box::pin(stage.clouds.entra.script.hung());
        survives(&stage, standing, Again::Nothing).await;
        assert_eq!(renewed(&stage), 2);
    }
}

#[tokio::test]
async fn killed_between_the_saving_of_a_renewal_and_its_first_use_it_is_used_next() {
    at_the_session(Side::After, 1).await;
}

/// Starts `sign-in`, waits for the code on the terminal, lets a person use it
/// if they are to, and kills the process while it polls.
async fn killed_while_polling(kept: Kept, used: bool) -> Option<Stage> {
    let mut stage = Stage::set(kept).await?;
    stage.alerts(5, Duration::from_mins(5));
    // The code is asked for; then the poll.
    stage.clouds.entra.script.push(if used { [Pass, DoAndHang] } else { [Pass, Hang] });
    let folder = stage.folder.to_str().unwrap();
    let mut process = stage.command(&["sign-in", "--state-dir", folder]).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let shown = async { while !lines.next_line().await.unwrap().unwrap().contains("Waiting") {} };
    within("the code is shown", shown).await;
    assert!(stage.clouds.entra.approve(ACCOUNT, ACCOUNT_ID));
    stage.clouds.clock.advance(Duration::from_secs(6));
    within("the process polls", stage.clouds.entra.script.hung()).await;
    process.kill().await.unwrap();
    Some(stage)
}

/// Somebody asks again once the killed poll cannot be under way any more.
async fn ask_again(stage: &Stage) -> Standing {
    stage.clouds.clock.advance(Duration::from_mins(1));
    stage.app().identity.poll().await.unwrap()
}

#[tokio::test]
async fn killed_while_polling_the_sign_in_is_completed_by_whoever_asks_next() {
    for kept in [Kept::Folder, Kept::Azurite] {
        let Some(stage) = killed_while_polling(kept, false).await else { continue };
        let done = stage.run().await;
        assert_eq!((done.heartbeat["Status"].as_str(), done.code), (Some("SignInNeeded"), Some(0)));
        assert!(matches!(ask_again(&stage).await, Standing::SignedIn(_)));
        assert_eq!(stage.run_well().await, 5);
    }
}

#[tokio::test]
async fn killed_with_the_answer_to_a_poll_in_hand_a_person_is_asked_to_sign_in_again() {
    for kept in [Kept::Folder, Kept::Azurite] {
        let Some(stage) = killed_while_polling(kept, true).await else { continue };
        let Standing::Refused { advice, .. } = ask_again(&stage).await else { panic!() };
        assert!(advice.next_step.contains("sign-in again"), "{advice:?}");
        stage.sign_in().await;
        assert_eq!(stage.run_well().await, 5);
    }
}
