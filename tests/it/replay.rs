//! What was set aside is sent again, and nothing of it is deleted before its
//! target took it.

use std::pin::pin;

use defender_alert_export::domain::heartbeat::Status;
use defender_alert_export::pipeline::replay::{CannotReplay, Kept, Outcome, Why};
use defender_alert_export::sandbox::clouds::{GROUP, TABLE};
use defender_alert_export::sandbox::sample::{self, Sample};
use defender_alert_export::sandbox::script::Fault;

use crate::world::{FOREIGN, TARGETS, World, key, minutes};

/// A deployment that has set one row of twenty aside.
async fn with_one_refused(extra: &[(&str, &str)]) -> (World, Sample) {
    let world = World::new(extra).await;
    let poison = world.add(1..21, minutes(3)).remove(7);
    world.clouds.monitor.tables.refuse_rows_matching(&poison.id());
    world.clouds.hub.refuse_events_matching(&poison.id());
    let heartbeat = world.run().await;
    assert_eq!((heartbeat.counts.delivered, heartbeat.counts.quarantined), (19, 1));
    assert!(heartbeat.next_step.contains("defender-alert-export replay"), "{heartbeat:?}");
    (world, poison)
}

fn mend(world: &World) {
    world.clouds.monitor.tables.refuse_nothing();
    world.clouds.hub.refuse_events_matching("never in any event");
}

async fn kept(world: &World) -> Vec<Kept> {
    world.app().exporter.kept().await.unwrap()
}

/// Sends everything listed again.
async fn replay(world: &World) -> Vec<Outcome> {
    let outcomes = world.app().exporter.replay(&kept(world).await).await.unwrap();
    outcomes.into_iter().map(Result::unwrap).collect()
}

async fn names(world: &World, prefix: &str) -> Vec<String> {
    world.blobs(prefix).await.into_iter().map(|(name, _)| name).collect()
}

#[tokio::test]
async fn a_refused_row_is_listed_with_its_reason_and_moved_once_it_is_taken() {
    for target in TARGETS {
        let (world, poison) = with_one_refused(&[("FunctionConfigAlertTargetType", target)]).await;
        let listed = kept(&world).await;
        let [Kept { name, why: Why::Refused { sink, reason, alert_id, .. }, .. }] = &listed[..]
        else {
            panic!("{listed:?}");
        };
        assert_eq!((sink.as_str(), alert_id.as_deref()), (target, Some(&*poison.id())));
        assert!(reason.starts_with("the sink answered 400"), "{reason}");

        // It is refused again, and stays with the reason of today.
        world.pass(minutes(10));
        let outcomes = replay(&world).await;
        assert!(matches!(&outcomes[..], [Outcome::Refused(_)]), "{outcomes:?}");
        let again = kept(&world).await;
        let Why::Refused { at, .. } = &again[0].why else { panic!("{again:?}") };
        assert_eq!((&again[0].name, *at), (name, world.now()));

        mend(&world);
        assert_eq!(replay(&world).await, [Outcome::Sent]);
        assert_eq!(world.delivered().len(), 20);
        assert_eq!(world.delivered().iter().filter(|it| **it == key(&poison)).count(), 1);
        assert_eq!(kept(&world).await, []);
        let marked = world.blobs("replayed/").await;
        let [(moved, document)] = &marked[..] else { panic!("{marked:?}") };
        assert_eq!(*moved, format!("replayed/{name}"));
        assert!(document.contains("replayedAt") && document.contains(&poison.id()));
        assert_eq!(world.five_minutes_later().await.counts.delivered, 0, "the ledger knows it");
    }
}

#[tokio::test]
async fn a_replay_killed_after_the_sinks_answer_keeps_the_document_and_repeats_one_row() {
    let (mut world, poison) = with_one_refused(&[]).await;
    mend(&world);
    world.clouds.monitor.script.push([Fault::DoAndHang]);
    {
        let chosen = kept(&world).await;
        let mut killed = pin!(world.app().exporter.replay(&chosen));
        tokio::select! {
            biased;
            () = world.clouds.monitor.script.hung() => {}
            ended = &mut killed => panic!("{ended:?}"),
        }
    }
    world.restart(&[]);
    assert_eq!(kept(&world).await.len(), 1, "nothing is deleted before it is known to be taken");
    assert_eq!(replay(&world).await, [Outcome::Sent]);
    assert_eq!(world.delivered().iter().filter(|it| **it == key(&poison)).count(), 2);
}

#[tokio::test]
async fn a_replay_killed_between_the_mark_and_the_deletion_sends_nothing_again() {
    let (world, poison) = with_one_refused(&[]).await;
    let (name, document) = world.blobs("quarantine/").await.remove(0);
    mend(&world);
    assert_eq!(replay(&world).await, [Outcome::Sent]);
    // As it lies when the process dies before the deletion.
    world.app().blobs.put(&name, document.into()).await.unwrap();
    assert_eq!(replay(&world).await, [Outcome::SentBefore]);
    assert_eq!(names(&world, "quarantine/").await, Vec::<String>::new());
    assert_eq!(world.delivered().iter().filter(|it| **it == key(&poison)).count(), 1);
}

#[tokio::test]
async fn a_halt_in_the_middle_of_a_replay_keeps_what_was_not_sent_yet() {
    let (world, _poison) = with_one_refused(&[]).await;
    mend(&world);
    let (_, document) = world.blobs("quarantine/").await.remove(0);
    world.app().blobs.put("quarantine/z.json", document.into()).await.unwrap();
    let chosen = kept(&world).await;
    let app = world.app();
    let mut replay = pin!(app.exporter.replay(&chosen));
    let first = async {
        while world.delivered().len() < 20 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        () = first => {}
        ended = &mut replay => panic!("{ended:?}"),
    }
    let mut opened = app.state.open(world.now(), world.now()).await.unwrap();
    let scope = app.exporter.rules.scope.fingerprint();
    let progress = &mut opened.checkpoint.progress;
    *progress = progress.claim("r", "i", &scope, world.now()).unwrap();
    *progress = progress.halt(&scope, world.now()).unwrap();
    app.state.save(&mut opened).await.unwrap();
    let outcomes = replay.await.unwrap();
    let [Ok(Outcome::Sent), Ok(Outcome::NotTaken(advice))] = &outcomes[..] else {
        panic!("{outcomes:?}")
    };
    assert!(advice.message.starts_with("The export has been stopped since"), "{advice:?}");
    assert_eq!(world.delivered().len(), 20);
    assert_eq!(names(&world, "quarantine/").await, ["quarantine/z.json"]);
}

#[tokio::test]
async fn what_may_not_leave_any_more_stays_where_it_is() {
    for target in TARGETS {
        let (mut world, poison) =
            with_one_refused(&[("FunctionConfigAlertTargetType", target)]).await;
        mend(&world);
        world.restart(&[("FunctionConfigDeviceGroups", FOREIGN)]);
        assert_eq!(replay(&world).await, [Outcome::Withheld], "{target}");
        assert!(!world.delivered().contains(&key(&poison)));
        world.restart(&[("FunctionConfigDeviceGroups", GROUP)]);
        assert_eq!(replay(&world).await, [Outcome::Sent]);
    }
}

#[tokio::test]
async fn a_row_of_a_target_that_was_given_up_goes_nowhere_else() {
    let (mut world, _poison) = with_one_refused(&[]).await;
    mend(&world);
    world.restart(&[("FunctionConfigAlertTargetType", "EventHub")]);
    let outcomes = replay(&world).await;
    assert_eq!(outcomes, [Outcome::NoSuchTarget("LogsIngestion".to_owned())]);
    assert_eq!(world.clouds.hub.events().len(), 0);
    assert_eq!(kept(&world).await.len(), 1);
}

#[tokio::test]
async fn a_target_that_is_down_is_asked_once_and_everything_stays() {
    let (world, _poison) = with_one_refused(&[]).await;
    let other = world.add(100..120, minutes(1)).remove(4);
    world.clouds.monitor.tables.refuse_rows_matching(&other.id());
    world.five_minutes_later().await;
    assert_eq!(kept(&world).await.len(), 2);

    world.clouds.monitor.tables.refuse_nothing();
    world.clouds.monitor.script.push([Fault::status(404), Fault::status(404)]);
    let seen = world.clouds.monitor.script.seen().len();
    let outcomes = replay(&world).await;
    assert!(matches!(&outcomes[..], [Outcome::NotTaken(_), Outcome::NotTaken(_)]), "{outcomes:?}");
    assert_eq!(world.clouds.monitor.script.seen().len() - seen, 1);
    assert_eq!(kept(&world).await.len(), 2);
    world.clouds.monitor.script.clear();
    assert_eq!(replay(&world).await, [Outcome::Sent, Outcome::Sent]);
}

#[tokio::test]
async fn a_cut_alert_is_listed_sent_again_to_every_target_and_stays_for_the_rows_that_name_it() {
    let both = ("FunctionConfigAlertTargetType", "LogsIngestion;EventHub");
    let world = World::new(&[both]).await;
    let large = Sample { evidence: 400, ..sample::alert(1, GROUP, world.now() - minutes(3)) };
    world.clouds.defender.add([large.clone()]);
    assert_eq!(world.run().await.status, Status::Ok);
    let listed = kept(&world).await;
    assert!(matches!(&listed[..], [Kept { why: Why::Cut { replayed: false, .. }, .. }]));
    assert_eq!(replay(&world).await, [Outcome::Sent]);
    assert_eq!(world.clouds.hub.events().len(), 2);
    let rows = world.clouds.monitor.tables.rows(TABLE);
    let [first, second] = &rows[..] else { panic!("{} rows", rows.len()) };
    for member in ["ExportKey", "OriginalBlob", "Truncated"] {
        assert_eq!(first[member], second[member]);
    }
    let listed = kept(&world).await;
    assert!(matches!(&listed[..], [Kept { why: Why::Cut { replayed: true, .. }, .. }]));
    assert_eq!(names(&world, "alerts/").await, [listed[0].name.clone()]);
}

#[tokio::test]
async fn a_foreign_alert_in_the_container_does_not_leave() {
    let world = World::new(&[]).await;
    world.add(1..5, minutes(3));
    world.run().await;
    let foreign = sample::alert(9, FOREIGN, world.now() - minutes(3));
    let name = "alerts/2026-11-21/00000000000000000000000000000009.json";
    world.app().blobs.put(name, foreign.json()).await.unwrap();
    world.app().blobs.put("quarantine/2026-11-21/x.json", "{}".into()).await.unwrap();
    let outcomes = replay(&world).await;
    assert_eq!(outcomes, [Outcome::Unreadable, Outcome::Withheld]);
    assert_eq!(world.delivered().len(), 4);
    assert_eq!(names(&world, "").await.len(), 2, "both stay, and nothing is marked");
}

#[tokio::test]
async fn a_refused_row_that_was_cut_leaves_only_with_its_whole_alert_as_proof() {
    for target in TARGETS {
        let world = World::new(&[("FunctionConfigAlertTargetType", target)]).await;
        world.add(1..5, minutes(3));
        let large = Sample { evidence: 400, ..sample::alert(9, GROUP, world.now() - minutes(3)) };
        world.clouds.defender.add([large.clone()]);
        world.clouds.monitor.tables.refuse_rows_matching(&large.id());
        world.clouds.hub.refuse_events_matching(&large.id());
        let heartbeat = world.run().await;
        assert_eq!((heartbeat.counts.delivered, heartbeat.counts.quarantined), (4, 1), "{target}");
        mend(&world);
        let mut listed = kept(&world).await;
        listed.retain(|kept| matches!(kept.why, Why::Refused { .. }));
        let again = async || {
            let outcome = world.app().exporter.replay(&listed).await.unwrap().remove(0);
            outcome.unwrap()
        };
        let (row, document) = world.blobs("quarantine/").await.remove(0);
        let (whole, proof) = world.blobs("alerts/").await.remove(0);
        let blobs = &world.app().blobs;
        // What the row itself says of its group is no proof.
        assert!(document.contains(GROUP) && document.contains(&whole), "{target}");
        let foreign = proof.replace(GROUP, FOREIGN);
        let of_both = proof.replacen('{', &format!(r#"{{"rbacGroupNames":["{FOREIGN}"],"#), 1);
        for other in [foreign, of_both, "[]".to_owned(), String::new()] {
            blobs.put(&whole, other.into()).await.unwrap();
            assert_eq!(again().await, Outcome::Withheld, "{target}");
        }
        blobs.delete(&whole).await.unwrap();
        assert_eq!(again().await, Outcome::Withheld, "{target}: without its whole alert");
        // A proof from elsewhere is none.
        let elsewhere = "replayed/alerts/proof.json";
        blobs.put(elsewhere, proof.clone().into()).await.unwrap();
        blobs.put(&row, document.replace(&whole, elsewhere).into()).await.unwrap();
        assert_eq!(again().await, Outcome::Withheld, "{target}: with a proof from elsewhere");
        assert_eq!(world.delivered().len(), 4);

        blobs.put(&row, document.into()).await.unwrap();
        blobs.put(&whole, proof.into()).await.unwrap();
        assert_eq!(again().await, Outcome::Sent);
        assert!(world.delivered().contains(&key(&large)));
    }
}

#[tokio::test]
async fn an_alert_without_an_id_stays_and_says_why() {
    let world = World::new(&[]).await;
    let nameless = format!(r#"{{"title":"no id","rbacGroupName":"{GROUP}"}}"#);
    world.clouds.defender.add_raw(&nameless, world.now() - minutes(3));
    assert_eq!(world.run().await.counts.quarantined, 1);
    let outcomes = replay(&world).await;
    assert!(matches!(&outcomes[..], [Outcome::Refused(why)] if why.contains("`id`")));
    assert_eq!(kept(&world).await.len(), 1);
}

#[tokio::test]
async fn while_the_export_is_halted_nothing_is_sent_again() {
    for by_correction in [false, true] {
        let (mut world, _poison) = with_one_refused(&[("FunctionConfigScopeGuard", "halt")]).await;
        mend(&world);
        world.clouds.defender.add([sample::alert(900, FOREIGN, world.now() + minutes(2))]);
        assert_eq!(world.five_minutes_later().await.status, Status::ScopeViolation);
        let refused = world.app().exporter.replay(&kept(&world).await).await;
        assert!(matches!(refused, Err(CannotReplay::Halted { .. })), "{refused:?}");
        if by_correction {
            // A corrected list ends a halt, of a replay too.
            let both = format!("{GROUP};{FOREIGN}");
            world.restart(&[("FunctionConfigDeviceGroups", &both)]);
        } else {
            assert!(world.app().state.resume().await.unwrap());
        }
        assert_eq!(replay(&world).await, [Outcome::Sent]);
        assert_eq!(world.delivered().len(), 20);
    }
}

/// What people and machines see of it, from the real program.
mod on_the_command_line {
    use serde_json::Value;
    use std::time::Duration;

    use crate::crash::stage::{Kept, Stage, within};

    async fn verb(stage: &Stage, more: &[&str]) -> (String, String, Option<i32>) {
        let folder = stage.folder.to_str().unwrap();
        let mut verb = vec!["replay", "--state-dir", folder];
        verb.extend_from_slice(more);
        let process = stage.command(&verb).spawn().unwrap();
        let output = within("the end of a replay", process.wait_with_output()).await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr), output.status.code())
    }

    #[tokio::test]
    async fn the_list_names_no_more_than_ids_and_a_choice_is_sent() {
        let Some(mut stage) = Stage::set(Kept::Folder).await else { return };
        stage.sign_in().await;
        stage.alerts(6, Duration::from_mins(5));
        let refused = stage.alerts.keys().nth(2).unwrap().clone();
        stage.clouds.monitor.tables.refuse_rows_matching(&refused);
        stage.run().await;

        let (list, _, code) = verb(&stage, &[]).await;
        assert_eq!(code, Some(0));
        let id = refused.split('|').next().unwrap();
        assert!(list.contains("Rows that a target refused:") && list.contains(id), "{list}");
        let (json, _, _) = verb(&stage, &["--json"]).await;
        let kept: Value = serde_json::from_str(&json).unwrap();
        let line = &kept["Kept"][0];
        assert_eq!((&line["Number"], &line["Kind"]), (&1.into(), &"Refused".into()));
        assert_eq!((&line["Sink"], &line["AlertId"]), (&"LogsIngestion".into(), &id.into()));
        for personal in ["ward", "a.example", "Suspicious"] {
            assert!(!json.contains(personal) && !list.contains(personal), "{personal}");
        }

        let (_, said, code) = verb(&stage, &["7"]).await;
        assert_eq!(code, Some(2));
        assert!(said.contains("`7` is none"), "{said}");
        let (text, _, code) = verb(&stage, &["1"]).await;
        assert_eq!(code, Some(1), "refused again");
        assert!(text.contains("refused again: the sink answered 400"), "{text}");

        stage.clouds.monitor.tables.refuse_nothing();
        let digest = line["Digest"].as_str().unwrap();
        let (json, said, code) = verb(&stage, &[digest.split_at(8).0, "--json"]).await;
        assert_eq!(code, Some(0), "{said}");
        let results: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(results["Results"][0]["Outcome"], "Sent");
        assert_eq!(stage.delivered().len(), 6);
        let (list, _, code) = verb(&stage, &["--all"]).await;
        assert_eq!((list.as_str(), code), ("0 of 0 documents sent again.\n", Some(0)));
        let (list, _, _) = verb(&stage, &[]).await;
        assert_eq!(list, "Nothing was set aside, and no row was cut.\n");
    }
}
