//! A backfill from the page: started, looked at, cancelled.

use std::collections::BTreeMap;
use std::time::Duration;

use defender_alert_export::domain::timestamp::Timestamp;
use defender_alert_export::sandbox::clouds::{GROUP, TABLE};
use defender_alert_export::sandbox::sample;
use defender_alert_export::sandbox::script::Fault;
use reqwest::{Response, StatusCode};
use serde_json::Value;

use super::OTHER;
use super::visit::{Browser, World, between, json, text};

const fn hours(count: u64) -> Duration {
    Duration::from_hours(count)
}

/// Deployed and signed in, its first run done, with alerts of the two days
/// before it.
async fn deployed(extra: &[(&str, &str)]) -> World {
    let world = World::with(extra).await.signed_in().await;
    world.run().await;
    let now = world.clouds.clock.now();
    for number in 0..40 {
        world.clouds.defender.add([sample::alert(100 + number, GROUP, now - hours(30 + number))]);
    }
    world
}

/// As the field sends it.
fn local(at: Timestamp) -> String {
    at.to_string().chars().take(16).collect()
}

/// The 48 hours before a day ago.
fn two_days(world: &World) -> [String; 2] {
    let now = world.clouds.clock.now();
    [now - hours(72), now - hours(24)].map(local)
}

async fn start(person: &mut Browser, [from, to]: &[String; 2]) -> Response {
    person.fill_in("backfill", &[("from", from), ("to", to)]).await
}

/// The section as the page has it.
async fn section(person: &mut Browser) -> String {
    within(&person.look().await).to_owned()
}

fn within(page: &str) -> &str {
    between(page, "<section id=\"backfill\">", "</section>")
}

async fn told(person: &mut Browser) -> Value {
    json(person.get("/status.json").await).await["Backfill"].clone()
}

/// How often each alert is in the workspace.
fn rows(world: &World) -> BTreeMap<String, usize> {
    let mut rows = BTreeMap::new();
    for row in world.clouds.monitor.tables.rows(TABLE) {
        *rows.entry(row["ExportKey"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    rows
}

fn beats(world: &World) -> Vec<Value> {
    world.clouds.monitor.tables.rows("Heartbeat_CL")
}

#[tokio::test]
async fn a_backfill_started_on_the_page_is_done_by_live_runs_and_its_alerts_come_once() {
    let world = deployed(&[]).await;
    let position = world.app.state.checkpoint().await.unwrap().unwrap().progress.position();
    let mut person = world.browser();
    person.headers = vec![("x-ms-client-principal-name", "jane@trust.example")];
    let page = section(&mut person).await;
    for said in [
        "sends those that the export does not remember sending",
        "It never moves the live export",
        "only the calls and the time that are left over",
        "It may take hours",
        "min=\"2026-05-25T10:01\" max=\"2026-11-21T09:29\"",
    ] {
        assert!(page.contains(said), "{said} not in {page}");
    }
    assert_eq!(told(&mut person).await, Value::Null);

    let answer = start(&mut person, &two_days(&world)).await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    assert_eq!(answer.headers()["location"], "/api/portal?done=backfill");
    let page = text(person.get("?done=backfill").await).await;
    assert!(page.contains("The backfill was started."), "{page}");
    let page = section(&mut world.browser()).await;
    for said in [
        "<dd>18 Nov 2026, 10:00 UTC to 20 Nov 2026, 10:00 UTC</dd>",
        "by jane@trust.example, 21 Nov 2026, 10:00 UTC",
        "<strong>0 %</strong>",
        "It goes on with the next run that has brought everything new.",
        "press-cancel-backfill",
    ] {
        assert!(page.contains(said), "{said} not in {page}");
    }
    assert!(!page.contains("press-backfill"), "{page}");
    let before = told(&mut person).await;
    assert_eq!((&before["Phase"], &before["Percent"]), (&"Waiting".into(), &0.into()));

    world.pass(300);
    world.run().await;
    assert_eq!(rows(&world).len(), 40);
    assert!(rows(&world).values().all(|times| *times == 1));
    let page = section(&mut person).await;
    for said in [
        "Done on 21 Nov 2026, 10:05 UTC",
        "<dd>40 delivered, 0 delivered before, 0 withheld, 0 set aside; 8 calls</dd>",
        "press-backfill",
    ] {
        assert!(page.contains(said), "{said} not in {page}");
    }
    let after = told(&mut person).await;
    assert_eq!((&after["Phase"], &after["Delivered"]), (&"Done".into(), &40.into()));
    assert_eq!(after["EndedAt"], "2026-11-21T10:05:05Z");

    // What it did is not taken for the live export's.
    let now = world.app.state.checkpoint().await.unwrap().unwrap().progress.position();
    assert_eq!(now, position + Duration::from_mins(5));
    let status = json(person.get("/status.json").await).await;
    assert_eq!(status["Runs"].as_array().unwrap().len(), 2);
    assert_eq!(beats(&world).len(), 3);
    world.pass(300);
    world.run().await;
    assert_eq!((rows(&world).len(), beats(&world).len()), (40, 4));
}

#[tokio::test]
async fn a_span_that_cannot_be_had_is_refused_beside_the_form_which_keeps_what_was_typed() {
    let world = deployed(&[]).await;
    let [from, to] = two_days(&world);
    let old = "2026-05-25T10:00".to_owned();
    let ahead = "2026-11-21T10:00".to_owned();
    let mut person = world.browser();
    for (span, field, said) in [
        (
            [to.clone(), from.clone()],
            "to",
            "the beginning, 20 Nov 2026, 10:00 UTC, is not before the end, 18 Nov 2026, 10:00 UTC. Choose a beginning before the end.",
        ),
        (
            [old, to.clone()],
            "from",
            "is too long ago: Defender keeps alerts for 180 days, so the earliest is 25 May 2026, 10:01 UTC. Choose a later beginning.",
        ),
        (
            [from.clone(), ahead],
            "to",
            "lies after 21 Nov 2026, 09:29 UTC, up to where the live export no longer reads again; what is later it brings by itself. Choose an earlier end.",
        ),
        (
            ["<b>yesterday".to_owned(), to.clone()],
            "from",
            "The beginning is not a date and time. Write it as 2026-01-31T09:30, in UTC.",
        ),
        ([from, String::new()], "to", "The end is not a date and time."),
    ] {
        let answer = start(&mut person, &span).await;
        assert_eq!(answer.status(), StatusCode::CONFLICT);
        let page = text(answer).await;
        let part = within(&page);
        assert!(part.contains("<strong>Not started: </strong>"), "{part}");
        assert!(part.contains(said), "{said} not in {part}");
        for typed in &span {
            let typed = typed.replace('<', "&lt;").replace('>', "&gt;");
            assert!(part.contains(&format!("value=\"{typed}\"")), "{typed} not in {part}");
        }
        let input = between(part, &format!("<input id=\"backfill-{field}\""), ">");
        for mark in ["aria-invalid=\"true\"", "autofocus", "\"backfill-refused backfill-possible\""]
        {
            assert!(input.contains(mark), "{mark} not in {input}");
        }
        assert_eq!(part.matches("aria-invalid").count(), 1);
        assert!(!page.contains("http-equiv"), "what is read does not go away by itself");
    }
    assert_eq!(told(&mut person).await, Value::Null);
}

#[tokio::test]
async fn a_deployment_that_has_never_run_or_has_too_few_calls_says_so_beside_the_form() {
    let fresh = World::new().await.signed_in().await;
    let few = deployed(&[("FunctionConfigCallsPerHour", "3")]).await;
    for (world, said) in [
        (fresh, "the live export has not run yet, so it is not known where it begins. Try again"),
        (few, "at least 4 are needed. Ask the central team whether FunctionConfigCallsPerHour"),
    ] {
        let mut person = world.browser();
        let answer = start(&mut person, &two_days(&world)).await;
        assert_eq!(answer.status(), StatusCode::CONFLICT);
        let page = text(answer).await;
        assert!(within(&page).contains(said), "{said} not in {page}");
        assert_eq!(told(&mut person).await, Value::Null);
    }
}

#[tokio::test]
async fn who_fills_in_the_form_without_script_can_stop_the_page_from_loading_anew() {
    let world = deployed(&[]).await;
    let mut person = world.browser();
    let page = person.look().await;
    assert!(within(&page).contains("<a href=\"/api/portal/backfill\">Stop that"), "{page}");
    let still = text(person.get("/backfill").await).await;
    assert!(page.contains("http-equiv=\"refresh\"") && !still.contains("http-equiv"), "{still}");
    let field = between(&still, "<input id=\"backfill-from\"", ">");
    assert!(field.contains("autofocus") && !page.contains("autofocus"), "{field}");
    // Where no reading of the script's own is in the way, GET does nothing.
    assert_eq!(person.get("/cancel-backfill").await.headers()["location"], "/api/portal");
}

#[tokio::test]
async fn a_backfill_is_cancelled_by_its_button_and_the_next_run_reports_it() {
    let world = deployed(&[]).await;
    let mut person = world.browser();
    start(&mut person, &two_days(&world)).await;
    let answer = start_again(&mut person, &two_days(&world)).await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER, "the same goes on");
    let [from, _] = two_days(&world);
    let shorter = [from, local(world.clouds.clock.now() - hours(48))];
    let answer = start_again(&mut person, &shorter).await;
    assert_eq!(answer.status(), StatusCode::CONFLICT);
    assert!(text(answer).await.contains("The backfill was not started: another is under way."));

    let answer = person.press("cancel-backfill").await;
    assert_eq!(answer.headers()["location"], "/api/portal?done=cancel-backfill");
    let page = text(person.get("?done=cancel-backfill").await).await;
    assert!(page.contains("The backfill was cancelled"), "{page}");
    assert!(within(&page).contains("Cancelled on 21 Nov 2026, 10:00 UTC."), "{page}");
    assert_eq!(told(&mut person).await["Phase"], "Cancelled");
    let answer = post(&mut person, "cancel-backfill", &[]).await;
    assert_eq!(answer.status(), StatusCode::CONFLICT);
    assert!(text(answer).await.contains("Nothing was cancelled: the backfill had ended before."));

    assert_eq!(beats(&world).len(), 1);
    world.pass(300);
    world.run().await;
    let beats = beats(&world);
    let [_, of_job, of_run] = &beats[..] else { panic!("{beats:?}") };
    assert!(of_job["Message"].as_str().unwrap().contains("cancelled: 0 delivered"), "{of_job}");
    assert_eq!((&of_job["RecordNumber"], &of_run["RecordNumber"]), (&2.into(), &3.into()));
    assert_eq!(rows(&world).len(), 0);
}

/// What a browser sends whose page is older than the backfill.
async fn start_again(person: &mut Browser, [from, to]: &[String; 2]) -> Response {
    post(person, "backfill", &[("from", from), ("to", to)]).await
}

async fn post(person: &mut Browser, button: &str, typed: &[(&str, &str)]) -> Response {
    let page = person.look().await;
    let mut fields = vec![("token", between(&page, "name=\"token\" value=\"", "\""))];
    fields.extend_from_slice(typed);
    let request = person.client.post(format!("{}/{button}", person.url)).form(&fields);
    person.send(request).await
}

#[tokio::test]
async fn nobody_starts_or_cancels_a_backfill_but_from_this_page() {
    let world = deployed(&[]).await;
    let mut person = world.browser();
    let [from, to] = two_days(&world);
    let refused = async |button: &str, person: &mut Browser| {
        let typed = [("token", "AAAA"), ("from", &from), ("to", &to)];
        let url = format!("{}/{button}", person.url);
        let answer = person.send(person.client.post(&url).form(&typed)).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
        let page = person.look().await;
        let token = between(&page, "name=\"token\" value=\"", "\"");
        let typed = [("token", token), ("from", &from), ("to", &to)];
        let from_elsewhere =
            person.client.post(&url).form(&typed).header("sec-fetch-site", "cross-site");
        let answer = person.send(from_elsewhere).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    };
    refused("backfill", &mut person).await;
    assert_eq!(told(&mut person).await, Value::Null);
    start(&mut person, &two_days(&world)).await;
    refused("cancel-backfill", &mut person).await;
    assert_eq!(told(&mut person).await["Phase"], "Waiting");
}

#[tokio::test]
async fn a_backfill_that_was_halted_is_shown_on_top_and_resumed_by_its_own_button() {
    let world = deployed(&[("FunctionConfigScopeGuard", "halt")]).await;
    let foreign = sample::alert(900, OTHER, world.clouds.clock.now() - hours(50));
    world.clouds.defender.add([foreign]);
    let mut person = world.browser();
    start(&mut person, &two_days(&world)).await;
    world.pass(300);
    world.run().await;
    let page = person.look().await;
    assert!(
        page.contains("The export is working, but the backfill below does not go on."),
        "{page}"
    );
    assert!(within(&page).contains("Halted since 21 Nov 2026, 10:05 UTC"), "{page}");
    assert_eq!(page.matches("id=\"press-resume\"").count(), 1);
    assert_eq!(told(&mut person).await["Phase"], "Halted");
    assert_eq!(json(person.get("/status.json").await).await["Flow"], "Attention");
    person.press("resume").await;
    assert_ne!(told(&mut person).await["Phase"], "Halted");
    assert!(rows(&world).keys().all(|key| !key.starts_with(&foreign_id())));
}

fn foreign_id() -> String {
    sample::alert(900, OTHER, Timestamp::EPOCH).id()
}

#[tokio::test]
async fn an_attempt_that_failed_says_what_happened_and_what_to_do() {
    let world = deployed(&[]).await;
    let mut person = world.browser();
    start(&mut person, &two_days(&world)).await;
    world.pass(300);
    // The live run's heartbeat is taken; the backfill's rows are not.
    world.clouds.monitor.script.push([Fault::Pass]);
    world.clouds.monitor.script.push(vec![Fault::status(403); 20]);
    world.run().await;
    let page = person.look().await;
    let part = within(&page);
    assert!(part.contains("The last attempt, 21 Nov 2026, 10:05 UTC, failed: "), "{part}");
    assert!(part.contains("<strong>What to do: </strong>"), "{part}");
    let told = told(&mut person).await;
    assert_eq!((&told["Phase"], told["NextStep"] == ""), (&"Failed".into(), false));
    world.clouds.monitor.script.clear();
    world.pass(300);
    world.run().await;
    assert!(section(&mut person).await.contains("Done on 21 Nov 2026, 10:10 UTC"));
    assert_eq!(rows(&world).len(), 40);
}
