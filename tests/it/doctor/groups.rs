//! Whose alerts the account sees.

use defender_alert_export::doctor::examine;
use defender_alert_export::domain::check::Verdict;
use defender_alert_export::sandbox::clouds::GROUP;
use defender_alert_export::sandbox::sample::{self, Sample};

use super::{Practice, says};
use crate::world::{FOREIGN, World, minutes};

fn of_group(number: u64, group: &str, practice: &Practice) -> Sample {
    sample::alert(number, group, practice.world.now() - minutes(10))
}

#[tokio::test]
async fn groups_that_are_not_ours_are_counted_and_never_named() {
    let mut practice = Practice::new(&[]).await;
    let others = [FOREIGN, "RZZ Third Trust", FOREIGN];
    let samples: Vec<_> =
        (10..).zip(others).map(|(n, group)| of_group(n, group, &practice)).collect();
    practice.world.clouds.defender.add(samples);
    let checks = practice.visit().await;
    says(
        &checks,
        "groups",
        Verdict::Fail,
        &["2 device groups that are not", "withheld", "central team", "belongs to nobody"],
    );
    assert!(!format!("{checks:?}").contains("RYY") && !format!("{checks:?}").contains("RZZ"));
}

#[tokio::test]
async fn devices_of_no_group_and_names_nobody_carries_are_said() {
    let mut practice = Practice::new(&[]).await;
    practice.world.clouds.defender.add([of_group(20, "UnassignedGroup", &practice)]);
    let groups = [("FunctionConfigDeviceGroups", "RXX Example Trust;RXX Old Wards")];
    let checks = examine(&practice.patient(&groups)).await;
    let lines: Vec<_> = checks.iter().filter(|check| check.name == "groups").collect();
    assert!(lines.iter().all(|check| check.verdict == Verdict::Warn) && lines.len() == 2);
    assert!(lines[0].reason.contains("1 alert is of no device group"), "{lines:?}");
    assert!(lines[0].next_step.contains("FunctionConfigAllowUngrouped"), "{lines:?}");
    assert!(lines[1].reason.contains("`RXX Old Wards` in 7 days"), "{lines:?}");
    assert!(!lines[1].reason.contains(GROUP), "{lines:?}");
}

#[tokio::test]
async fn a_name_that_differs_in_capitals_or_spaces_is_recognised() {
    let mut practice = Practice::new(&[]).await;
    let groups = [("FunctionConfigDeviceGroups", "rxx example  trust")];
    let checks = examine(&practice.patient(&groups)).await;
    says(&checks, "groups", Verdict::Fail, &["`rxx example  trust` differs", "letter by letter"]);
    assert_eq!(checks.iter().filter(|check| check.name == "groups").count(), 1);
}

#[tokio::test]
async fn an_account_that_sees_nothing_may_belong_to_no_group() {
    let mut practice = Practice::of(World::new(&[]).await);
    says(
        &practice.visit().await,
        "groups",
        Verdict::Warn,
        &["no alert at all in 7 days", "test alert"],
    );
}

#[tokio::test]
async fn a_guard_that_is_off_is_not_passed_over() {
    let mut practice = Practice::new(&[]).await;
    let checks = examine(&practice.patient(&[("FunctionConfigDeviceGroups", "*")])).await;
    says(&checks, "groups", Verdict::Warn, &["scope guard is off"]);
}
