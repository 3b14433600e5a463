//! Killed while a foreign alert halts the export.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use defender_alert_export::sandbox::clouds::GROUP;
use defender_alert_export::sandbox::sample;
use flate2::read::GzDecoder;

use super::gate::Side;
use super::killed;
use super::stage::{Kept, Stage};
use crate::traces::hold;
use crate::world::FOREIGN;

fn sent(stage: &Stage) -> Vec<Vec<u8>> {
    let unpacked = |body: &Bytes| {
        let mut plain = Vec::new();
        GzDecoder::new(&body[..]).read_to_end(&mut plain).unwrap();
        plain
    };
    stage.clouds.monitor.tables.bodies().iter().map(unpacked).collect()
}

#[tokio::test]
async fn killed_while_a_halt_is_saved_nothing_foreign_leaves_and_the_next_run_halts() {
    for (side, status) in [(Side::Before, "ScopeViolation"), (Side::After, "Halted")] {
        let Some(mut stage) = Stage::set(Kept::Azurite).await else { return };
        stage.settings.insert("FunctionConfigScopeGuard".to_owned(), "halt".to_owned());
        stage.sign_in().await;
        stage.alerts(6, Duration::from_mins(5));
        let between = Stage::whole_second() - Duration::from_secs(330);
        stage.clouds.defender.add([sample::alert(777_001, FOREIGN, between)]);
        // The claim passes.
        let gate = stage.gate.as_ref().unwrap();
        gate.stop(side, "POST", "Position", 1);
        killed(&stage, gate.stopped()).await;
        stage.position_is_not_ahead().await;

        for expected in [status, "Halted"] {
            let done = stage.run().await;
            assert_eq!(done.heartbeat["Status"], expected, "{side:?}: {done:?}");
            assert_eq!(done.code, Some(i32::from(expected == "Halted")));
            stage.position_is_not_ahead().await;
        }
        let seen = stage.clouds.defender.script().seen().len();
        stage.run().await;
        assert_eq!(stage.clouds.defender.script().seen().len(), seen, "not even a question");

        stage.clouds.defender.show_only(Arc::new(|_, group| group == Some(GROUP)));
        assert!(stage.app().state.resume().await.unwrap());
        stage.run_well().await;
        assert_eq!(stage.delivered(), stage.alerts.keys().cloned().collect());
        let bodies = sent(&stage);
        assert!(hold(&bodies, GROUP.as_bytes()));
        for foreign in [FOREIGN, "_777001"] {
            assert!(!hold(&bodies, foreign.as_bytes()), "{side:?}: {foreign} was sent");
        }
    }
}
