//! Once a day all that Defender shows of the last days is held against what was
//! delivered, and what is missing is delivered.

mod beside_backfill;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use defender_alert_export::domain::audit::Audit;
use defender_alert_export::domain::heartbeat::Status;
use defender_alert_export::pipeline::Ended;
use defender_alert_export::sandbox::clouds::GROUP;
use defender_alert_export::sandbox::defender::NextLink;
use defender_alert_export::sandbox::sample::{self, Sample};
use defender_alert_export::sandbox::script::Fault;
use defender_alert_export::store::{Change, Local, Store};
use serde_json::Value;
use uuid::Uuid;

use crate::proxy::{self, Fate};
use crate::world::{BEATS, FOREIGN, World, key, keys, minutes};

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// Rows of audits.
fn audits(world: &World) -> Vec<Value> {
    let mut rows = world.clouds.monitor.tables.rows(BEATS);
    rows.retain(|row| row["RowType"] == "DefenderExportAudit");
    rows
}

fn counted(row: &Value) -> (u64, u64) {
    (row["Fetched"].as_u64().unwrap(), row["Delivered"].as_u64().unwrap())
}

/// Runs once an hour for a day.
async fn a_day(world: &World) {
    for _ in 0..24 {
        world.pass(HOUR);
        assert_eq!(world.run().await.status, Status::Ok);
    }
}

#[tokio::test]
async fn once_a_day_a_row_says_complete_and_repeats_nothing() {
    let world = World::new(&[]).await;
    world.run().await;
    let mut expected = Vec::new();
    for day in 0..4 {
        expected.extend(world.add(day * 100..day * 100 + 20, minutes(2)));
        a_day(&world).await;
    }
    assert_eq!(world.delivered(), keys(&expected));
    let rows = audits(&world);
    assert_eq!(rows.len(), 4);
    // The fourth no longer sees the first day, or only its alerts are left out.
    assert!(rows.iter().all(|row| counted(row).1 == 0), "{rows:?}");
    assert!(counted(&rows[2]).0 >= 40, "{rows:?}");
    let last = rows.last().unwrap();
    assert_eq!((&last["Status"], &last["TrustName"]), (&"Reconciled".into(), &"RXX".into()));
    let message = last["Message"].as_str().unwrap();
    let to = last["WindowEnd"].as_str().unwrap();
    let (count, _) = counted(last);
    assert_eq!(message, format!("Complete to {to}: {count} alerts counted, 0 repaired."));
    assert_eq!(world.beats().len(), 1 + 96 + 4);
    // The trust's time of day is 13:32; the first run after it was at 14:00, and
    // what lies within the overlap is left to the live runs.
    let first = &rows[0];
    assert_eq!(first["TimeGenerated"], "2026-11-21T14:00:05Z");
    assert_eq!(first["WindowStart"], "2026-11-20T10:00:05Z");
    assert_eq!(first["WindowEnd"], "2026-11-21T13:29:05Z");
    assert_eq!(world.clouds.monitor.tables.observed(), []);
}

#[tokio::test]
async fn old_alerts_of_devices_that_were_moved_into_the_group_are_delivered() {
    for updates in ["True", "False"] {
        let world = World::new(&[("FunctionConfigExportUpdates", updates)]).await;
        world.run().await;
        // Another trust's account may not see them at all.
        let hidden: Vec<_> = (1..40)
            .map(|n| sample::alert(n, FOREIGN, world.now() - minutes(2) - minutes(n)))
            .collect();
        world.clouds.defender.show_only(Arc::new(|_, group| group == Some(GROUP)));
        world.clouds.defender.add(hidden.clone());
        let ours = world.add(100..110, minutes(2));
        world.five_minutes_later().await;
        world.pass(minutes(90));
        world.run().await;
        assert_eq!(world.delivered(), keys(&ours));
        // The devices are moved: nothing about the alerts changes but the group.
        let moved: Vec<_> = hidden[..30]
            .iter()
            .map(|it| Sample { group: Some(GROUP.to_owned()), ..it.clone() })
            .collect();
        world.clouds.defender.add(moved.clone());
        a_day(&world).await;
        assert_eq!(world.delivered(), keys(ours.iter().chain(&moved)), "{updates}");
        let rows = audits(&world);
        assert_eq!(rows.iter().map(counted).collect::<Vec<_>>(), [(40, 30)], "{updates}");
        let message = rows[0]["Message"].as_str().unwrap();
        assert!(message.contains("moved into the device group"), "{message}");
        assert!(rows.iter().all(|row| row["Withheld"] == 0));
    }
}

#[tokio::test]
async fn an_alert_that_surfaces_after_hours_is_delivered() {
    let world = World::new(&[]).await;
    world.run().await;
    let late = sample::alert(7, GROUP, world.now() - minutes(2));
    world.clouds.defender.add_late(&late, world.now() + HOUR * 2);
    a_day(&world).await;
    assert_eq!(world.delivered(), keys([&late]));
    assert_eq!(counted(&audits(&world)[0]), (1, 1));
    // The heartbeats tell of the live windows alone, and those did nothing.
    let mut beats = world.beats();
    beats.retain(|row| row["RowType"] == "Heartbeat");
    assert_eq!(beats.len(), 25);
    for beat in beats {
        assert_eq!((counted(&beat), &beat["Quarantined"]), ((0, 0), &0.into()), "{beat}");
    }
    // What was repaired is in the ledger: the next audit finds nothing.
    a_day(&world).await;
    assert_eq!(counted(&audits(&world)[1]), (1, 0));
    assert_eq!(world.delivered(), keys([&late]));
}

/// Takes every ledger row away, as if nothing had been delivered.
async fn punch(world: &mut World) {
    world.stop();
    let store = Store::Local(Local::open(world.folder.path()).unwrap());
    for row in store.scan("Ledger.", "Ledger/").await.unwrap() {
        store.commit(&[Change::Delete { key: row.key, etag: row.etag }]).await.unwrap();
    }
    drop(store);
    world.restart(&[]);
}

#[tokio::test]
async fn what_the_ledger_lacks_is_delivered_again_under_the_same_key() {
    let mut world = World::new(&[]).await;
    let expected = world.add(1..300, minutes(2));
    world.run().await;
    world.pass(HOUR);
    world.run().await;
    punch(&mut world).await;
    let position = world.position().await;
    world.pass(DAY);
    world.run().await;
    world.pass(HOUR);
    world.run().await;
    let twice: Vec<_> = world.delivered();
    assert_eq!((twice.len(), world.delivered_once().len()), (598, 299));
    assert!(world.delivered_once().into_iter().eq(keys(&expected)));
    assert!(world.position().await > position);
    assert_eq!(counted(&audits(&world)[0]), (299, 299));
}

#[tokio::test]
async fn an_audit_neither_counts_nor_shows_foreign_alerts_nor_halts_for_them() {
    let world = World::new(&[("FunctionConfigScopeGuard", "halt")]).await;
    world.run().await;
    world.pass(HOUR * 3);
    let ours = world.add(1..10, minutes(2));
    world.run().await;
    // They surface where no live run looks any more.
    let old = world.now() - HOUR * 2;
    let foreign: Vec<_> = (50..60)
        .map(|n| sample::alert(n, FOREIGN, old - Duration::from_secs(n)))
        .chain([Sample { group: None, ..sample::alert(70, GROUP, old) }])
        .collect();
    let mixed = sample::alert(80, GROUP, old - Duration::from_secs(55));
    world.clouds.defender.add(foreign);
    world.clouds.defender.add([mixed.clone()]);
    a_day(&world).await;
    assert_eq!(world.delivered(), keys(ours.iter().chain([&mixed])));
    let row = &audits(&world)[0];
    assert_eq!((counted(row), &row["Withheld"]), ((10, 1), &0.into()));
    assert!(!row.to_string().contains("RYY"));
}

#[tokio::test]
async fn an_audit_cut_off_by_the_budget_goes_on_where_it_was() {
    let world = World::new(&[("FunctionConfigCallsPerHour", "30")]).await;
    world.run().await;
    let late: Vec<_> = (0..400)
        .map(|n| sample::alert(n, GROUP, world.now() - minutes(2) - Duration::from_secs(n * 5)))
        .collect();
    for sample in &late {
        world.clouds.defender.add_late(sample, world.now() + HOUR * 3);
    }
    world.pass(HOUR);
    world.run().await;
    // Twenty alerts a call: to look at all of them takes twenty, and as many to
    // read them.
    world.clouds.defender.behave(|manners| {
        manners.page_cap = 20;
        manners.next_link = NextLink::After;
    });
    world.pass(DAY);
    let (mut runs, mut under_way) = (0, 0);
    while audits(&world).is_empty() {
        let heartbeat = world.run().await;
        assert_eq!(heartbeat.status, Status::Ok, "{}", heartbeat.message);
        let checkpoint = world.app().state.checkpoint().await.unwrap().unwrap();
        under_way += usize::from(matches!(checkpoint.audit, Audit::UnderWay { .. }));
        let left = checkpoint.budget.remaining(world.now());
        assert!(left >= 12, "run {runs}: half stays for live runs, and {left} are left");
        runs += 1;
        assert!(runs < 40, "it never ends");
        world.pass(minutes(30));
    }
    assert!(under_way >= 3, "{under_way} runs of {runs}");
    assert_eq!(counted(&audits(&world)[0]), (400, 400));
    assert_eq!(world.delivered(), keys(&late), "nothing twice");
}

#[tokio::test]
async fn an_audit_leaves_half_of_the_hours_calls_even_in_one_long_look() {
    let world = World::new(&[("FunctionConfigCallsPerHour", "30")]).await;
    let delivered = world.add(0..400, minutes(2));
    world.run().await;
    world.pass(HOUR);
    world.run().await;
    world.clouds.defender.behave(|manners| {
        manners.page_cap = 20;
        manners.next_link = NextLink::After;
    });
    world.pass(HOUR * 3);
    // Nothing is missing, so nothing ends the look but its calls: it would take
    // twenty. Fifteen are half of thirty, and one of them is the run's own.
    let mut calls = Vec::new();
    while audits(&world).is_empty() {
        let before = world.calls();
        assert_eq!(world.run().await.status, Status::Ok);
        calls.push(world.calls() - before);
        assert!(calls.len() < 10, "it never ends");
        world.pass(minutes(31));
    }
    assert_eq!(calls, [15, 1, 8]);
    assert_eq!(counted(&audits(&world)[0]), (400, 0));
    assert_eq!(world.delivered(), keys(&delivered));
}

#[tokio::test]
async fn an_audit_leaves_half_of_the_hours_calls_even_in_one_long_repair() {
    let settings = [("FunctionConfigCallsPerHour", "30"), ("FunctionConfigPageSize", "50")];
    let world = World::new(&settings).await;
    world.run().await;
    let surfaces = world.now() + HOUR * 2;
    let times = (0..1_200).map(|n| world.now() - minutes(2) - Duration::from_secs(n));
    let late: Vec<_> = (0..).zip(times).map(|(n, at)| sample::alert(n, GROUP, at)).collect();
    for sample in &late {
        world.clouds.defender.add_late(sample, surfaces);
    }
    world.pass(HOUR);
    world.run().await;
    world.pass(HOUR * 3);
    // One call shows that all of them are missing; fifty a call are then read.
    let mut most = 0;
    for runs in 0.. {
        let before = world.calls();
        assert_eq!(world.run().await.status, Status::Ok);
        most = most.max(world.calls() - before);
        if runs == 0 {
            // All that was read, each page beginning with the last one's end.
            assert_eq!(world.delivered().len(), 13 * 49 + 1);
        }
        if !audits(&world).is_empty() {
            break;
        }
        assert!(runs < 10, "it never ends");
        world.pass(minutes(31));
    }
    assert_eq!(most, 15);
    assert_eq!(counted(&audits(&world)[0]), (1_200, 1_200));
    assert_eq!(world.delivered(), keys(&late), "nothing twice");
}

#[tokio::test]
async fn a_share_that_leaves_the_audit_one_call_an_hour_repairs_all_the_same() {
    // As of 250 trusts.
    let world = World::new(&[("FunctionConfigCallsPerHour", "6")]).await;
    world.run().await;
    let surfaces = world.now() + HOUR * 2;
    let late: Vec<_> =
        (1..4).map(|n| sample::alert(n, GROUP, world.now() - minutes(5 * n))).collect();
    let strangers = [
        sample::alert(777_001, FOREIGN, world.now() - minutes(7)),
        Sample { group: None, ..sample::alert(777_002, GROUP, world.now() - minutes(7)) },
    ];
    for sample in late.iter().chain(&strangers) {
        world.clouds.defender.add_late(sample, surfaces);
    }
    for _ in 0..12 * 12 {
        world.pass(minutes(5));
        world.run().await;
    }
    assert_eq!(world.delivered(), keys(&late));
    assert_eq!(audits(&world).iter().map(counted).collect::<Vec<_>>(), [(3, 3)]);
}

#[tokio::test]
async fn an_alert_that_changes_between_the_two_looks_comes_once_in_its_new_version() {
    let mut world = World::new(&[]).await;
    world.run().await;
    let late = sample::alert(7, GROUP, world.now() - minutes(2));
    world.clouds.defender.add_late(&late, world.now() + HOUR * 2);
    world.pass(HOUR);
    world.run().await;
    world.pass(HOUR * 3);
    // Later than the live window, so that it is not read before its time.
    let updated = world.now() - Duration::from_secs(30);
    let newer = Sample { updated, status: "Resolved", ..late.clone() };
    let (defender, change) = (world.clouds.defender.clone(), newer.clone());
    let looked = AtomicBool::new(false);
    let vars: HashMap<_, _> = world.clouds.settings().into_iter().collect();
    let address = vars["FunctionConfigDefenderEndpoint"].parse().unwrap();
    let (_relay, address) = proxy::asking(&address, move |target, _| {
        // The first look leaves evidence out; the second asks for it.
        if !target.contains("expand") {
            looked.store(true, Ordering::Relaxed);
        } else if looked.load(Ordering::Relaxed) {
            defender.add([change.clone()]);
        }
        Fate::Pass
    })
    .await;
    world.restart(&[("FunctionConfigDefenderEndpoint", address.as_str())]);
    world.run().await;
    assert_eq!(world.delivered(), Vec::<String>::new(), "it was gone when it was asked for");
    assert_eq!(audits(&world).iter().map(counted).collect::<Vec<_>>(), [(1, 0)]);
    world.five_minutes_later().await;
    assert_eq!(world.delivered(), vec![key(&newer)]);
    a_day(&world).await;
    assert_eq!(world.delivered(), vec![key(&newer)]);
}

#[tokio::test]
async fn of_two_instances_one_audits() {
    let world = World::new(&[]).await;
    world.run().await;
    let late = sample::alert(7, GROUP, world.now() - minutes(2));
    world.clouds.defender.add_late(&late, world.now() + HOUR * 2);
    let other = world.another_instance();
    for _ in 0..24 {
        world.pass(HOUR);
        let (one, two) =
            tokio::join!(world.app().exporter.run(Uuid::new_v4()), other.run(Uuid::new_v4()));
        let aside = [&one, &two].into_iter().filter(|it| **it == Ended::StoodAside).count();
        assert_eq!(aside, 1);
    }
    assert_eq!(audits(&world).len(), 1);
    assert_eq!(world.delivered(), keys([&late]));
}

#[tokio::test]
async fn a_source_that_fails_cuts_the_audit_off_and_not_the_run() {
    let world = World::new(&[]).await;
    let expected = world.add(1..5, minutes(2));
    world.run().await;
    let script = world.clouds.defender.script();
    let mut waits = false;
    for _ in 0..24 {
        world.pass(HOUR);
        // The live window, then the audit's look, if there is one.
        script.push([Fault::Pass, Fault::throttled(1_200)]);
        assert_eq!(world.run().await.status, Status::Ok);
        script.clear();
        let checkpoint = world.app().state.checkpoint().await.unwrap().unwrap();
        waits |= checkpoint.not_before.is_some();
        assert_eq!(waits, matches!(checkpoint.audit, Audit::UnderWay { .. }));
    }
    assert!(waits && audits(&world).is_empty());
    assert_eq!(world.five_minutes_later().await.status, Status::SourceThrottled);
    world.pass(HOUR);
    assert_eq!(world.run().await.status, Status::Ok);
    assert_eq!(audits(&world).iter().map(counted).collect::<Vec<_>>(), [(4, 0)]);
    assert_eq!(world.delivered(), keys(&expected));
}

#[tokio::test]
async fn a_sink_that_fails_leaves_what_was_missing_to_the_next_run() {
    // The second share leaves a call for the live run and one to read whole.
    for (share, apart) in [("120", HOUR), ("2", minutes(62))] {
        let world = World::new(&[("FunctionConfigCallsPerHour", share)]).await;
        for _ in 0..8 {
            world.run().await;
            world.pass(apart);
        }
        let late = sample::alert(7, GROUP, world.now() - apart);
        world.clouds.defender.add_late(&late, world.now() + HOUR * 3);
        let mut runs = 0;
        loop {
            world.pass(apart);
            // Nothing is delivered live: the first row to be sent is the audit's.
            world.clouds.monitor.script.clear();
            world.clouds.monitor.script.push((0..8).map(|_| Fault::status(503)));
            if world.run().await.status == Status::SinkFailed {
                break;
            }
            runs += 1;
            assert!(runs < 36, "{share}: no audit");
        }
        world.clouds.monitor.script.clear();
        assert_eq!(world.delivered().len(), 0, "{share}");
        let checkpoint = world.app().state.checkpoint().await.unwrap().unwrap();
        assert!(matches!(checkpoint.audit, Audit::UnderWay { .. }), "{share}: it is not done");
        let ended = audits(&world).len();
        while audits(&world).len() == ended {
            world.pass(apart);
            world.run().await;
            runs += 1;
            assert!(runs < 48, "{share}: it never ends");
        }
        assert_eq!(world.delivered(), keys([&late]), "{share}");
        assert_eq!(counted(audits(&world).last().unwrap()), (1, 1), "{share}");
    }
}

#[tokio::test]
async fn an_audit_that_is_days_late_is_said_in_the_heartbeat() {
    // One call an hour is spent by the live run.
    let world = World::new(&[("FunctionConfigCallsPerHour", "1")]).await;
    world.run().await;
    let mut said = 0;
    for hour in 0..80 {
        world.pass(minutes(62));
        let heartbeat = world.run().await;
        let overdue = heartbeat.message.contains("The daily comparison with Defender has been due");
        assert!(hour > 48 || !overdue, "{}", heartbeat.message);
        if overdue {
            said += 1;
            assert!(heartbeat.next_step.contains("FunctionConfigCallsPerHour"));
        }
    }
    assert!(said > 0);
    let not_due = world.five_minutes_later().await.message;
    for words in ["Not due yet: ", "The daily comparison with Defender has been due"] {
        assert!(not_due.contains(words), "{not_due}");
    }
    assert!(audits(&world).is_empty());
}

#[tokio::test]
async fn audits_that_are_switched_off_do_not_happen() {
    for off in [("FunctionConfigAuditHours", "0"), ("FunctionConfigUse_last_saved_time", "False")] {
        let world = World::new(&[off]).await;
        world.run().await;
        let calls = world.calls();
        a_day(&world).await;
        assert_eq!((world.calls() - calls, audits(&world).len()), (24, 0), "{off:?}");
    }
}

#[tokio::test]
async fn a_target_named_later_is_not_filled_with_what_it_was_never_promised() {
    let mut world = World::new(&[("FunctionConfigAlertTargetType", "LogsIngestion")]).await;
    let old = world.add(1..20, minutes(5));
    world.run().await;
    world.pass(HOUR * 2);
    world.run().await;
    world.restart(&[("FunctionConfigAlertTargetType", "LogsIngestion;EventHub")]);
    a_day(&world).await;
    assert_eq!(audits(&world).len(), 1);
    assert_eq!(world.clouds.hub.events(), Vec::<String>::new());
    assert_eq!(world.delivered(), keys(&old));
}

#[tokio::test]
async fn a_ledger_that_has_only_begun_to_remember_longer_repeats_nothing() {
    let mut world = World::new(&[("FunctionConfigAuditHours", "0")]).await;
    let old = world.add(1..20, minutes(5));
    world.run().await;
    a_day(&world).await;
    world.restart(&[("FunctionConfigAuditHours", "72")]);
    a_day(&world).await;
    // One as soon as it is switched on, one at the trust's time of day.
    assert_eq!(audits(&world).iter().map(counted).collect::<Vec<_>>(), [(0, 0), (0, 0)]);
    assert_eq!(world.delivered(), keys(&old));
}
