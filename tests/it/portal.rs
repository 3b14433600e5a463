//! The page, over a real socket, on the sandbox's clouds.

mod backfill;
mod storage;
mod visit;

use std::collections::BTreeMap;
use std::time::Duration;

use defender_alert_export::app::{self, FaultyPortal};
use defender_alert_export::config::{Config, Vars};
use defender_alert_export::domain::heartbeat::Status;
use defender_alert_export::sandbox::clouds::{ACCOUNT, ACCOUNT_ID, Clouds, GROUP};
use defender_alert_export::sandbox::entra::AadstsError;
use defender_alert_export::sandbox::script::Fault;
use reqwest::StatusCode;
use secrecy::ExposeSecret as _;
use uuid::Uuid;

use self::visit::{Browser, World, between, json, text};
use crate::handler::{Handler, Log, no_durable, runs_ending};

const KEY: &str = "aB-c_d==function/key+";
const OTHER: &str = "RYY Another Trust";
/// What happens to a code that waits.
type Happens = Box<dyn Fn(&Clouds)>;

fn code(page: &str) -> &str {
    between(page, "class=\"code\">", "<")
}

#[tokio::test]
async fn a_person_signs_in_and_alerts_flow() {
    let world = World::new().await;
    world.add(1, GROUP);
    let mut person = world.browser();
    let page = person.look().await;
    assert!(page.contains("Alerts are not flowing: nobody is signed in."), "{page}");
    let answer = person.press("sign-in").await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    assert_eq!(answer.headers()["location"], "/api/portal");
    let page = person.look().await;
    assert_eq!(code(&page).len(), 9);
    for said in [
        "Only enter this code if you started this sign-in yourself, just now.",
        "15 minutes 0 seconds",
        "aria-label=\"QR code of the address\"",
        "<noscript><meta http-equiv=\"refresh\" content=\"5;url=/api/portal\"></noscript>",
    ] {
        assert!(page.contains(said), "{said} not in {page}");
    }
    world.pass(5);
    assert!(person.look().await.contains("14 minutes 55 seconds"));
    world.clouds.entra.approve(ACCOUNT, ACCOUNT_ID);
    world.pass(5);
    let page = person.look().await;
    assert!(page.contains("Signed in; alerts start to flow with the next run."), "{page}");
    assert!(!person.cookies.values().any(|value| value.len() > 40), "the ticket is taken back");
    world.pass(60);
    world.run().await;
    let page = person.look().await;
    assert!(page.contains("Alerts are flowing."), "{page}");
    assert!(page.contains(ACCOUNT) && page.contains("89 days more"), "{page}");
}

#[tokio::test]
async fn entra_is_asked_no_more_often_than_it_allows_however_many_look() {
    let world = World::new().await;
    let mut person = world.browser();
    person.press("sign-in").await;
    let asked = world.clouds.entra.asked().len();
    for _ in 0..3 {
        person.look().await;
        person.get("/status.json").await;
    }
    assert_eq!(world.clouds.entra.asked().len(), asked);
    world.pass(5);
    for _ in 0..3 {
        person.look().await;
    }
    assert_eq!(world.clouds.entra.asked().len(), asked + 1);
}

#[tokio::test]
async fn a_second_person_sees_that_a_sign_in_is_under_way_and_not_its_code() {
    let world = World::new().await;
    let mut first = world.browser();
    first.headers = vec![("x-ms-client-principal-name", "jane@trust.example")];
    first.press("sign-in").await;
    let page = first.look().await;
    let mut second = world.browser();
    second.cookies.insert("portal_flow".to_owned(), "guessed".to_owned());
    let theirs = second.look().await;
    assert!(!theirs.contains(code(&page)));
    assert!(theirs.contains("started by <strong>jane@trust.example</strong>"), "{theirs}");
    let facts = text(second.get("/status.json").await).await;
    assert!(!facts.contains(code(&page)));
    assert!(facts.contains("\"SignIn\":\"Pending\""), "{facts}");
    let answer = second.press("cancel").await;
    assert_eq!(answer.headers()["location"], "/api/portal?done=cancel");
    let page = text(second.get("?done=cancel").await).await;
    assert!(page.contains("The sign-in was cancelled"), "{page}");
    assert!(first.look().await.contains("nobody is signed in"));
}

#[tokio::test]
async fn a_second_code_is_refused_in_words_while_one_waits() {
    let world = World::new().await;
    let mut first = world.browser();
    let mut second = world.browser();
    let page = second.look().await;
    let token = between(&page, "name=\"token\" value=\"", "\"").to_owned();
    first.press("sign-in").await;
    let request = second.client.post(format!("{}/sign-in", second.url)).form(&[("token", token)]);
    let answer = second.send(request).await;
    assert_eq!(answer.status(), StatusCode::CONFLICT);
    assert!(text(answer).await.contains("Somebody has started a sign-in already"));
}

#[tokio::test]
async fn a_sign_in_outlives_the_process_for_the_browser_that_started_it() {
    let mut world = World::new().await;
    let mut person = world.browser();
    person.press("sign-in").await;
    let before = person.look().await;
    world = world.killed().await;
    person.url = world.browser().url;
    let after = person.look().await;
    assert_eq!(code(&after), code(&before));
    assert!(world.browser().look().await.contains("A sign-in is under way"));
    assert_eq!(person.press("cancel").await.status(), StatusCode::SEE_OTHER, "forms go on too");
}

#[tokio::test]
async fn what_came_of_a_sign_in_is_said_in_words() {
    let refused = |code| {
        move |clouds: &Clouds| {
            clouds.entra.fail_with(AadstsError::new("invalid_grant", code));
        }
    };
    let cases: Vec<(Happens, &str)> = vec![
        (Box::new(|clouds| assert!(clouds.entra.decline())), "declined"),
        (Box::new(|clouds| clouds.clock.advance(Duration::from_mins(16))), "not used in time"),
        (
            Box::new(|clouds| {
                clouds.entra.approve_from("me@elsewhere.example", ACCOUNT_ID, Uuid::from_u128(9));
            }),
            "another tenant",
        ),
        (Box::new(refused(53_003)), "Conditional Access policy"),
    ];
    for (happens, said) in cases {
        let world = World::new().await;
        let mut person = world.browser();
        person.press("sign-in").await;
        happens(&world.clouds);
        world.pass(6);
        let page = person.look().await;
        let headline = between(&page, "id=\"verdict\"", "</section>");
        assert!(headline.contains(said) && headline.contains("What to do"), "{said}: {headline}");
        assert!(!headline.contains("For support") && page.contains("press-sign-in"));
    }
}

#[tokio::test]
async fn a_press_that_did_not_come_from_this_page_does_nothing() {
    let world = World::new().await.signed_in().await;
    let mut victim = world.browser();
    let page = victim.look().await;
    let token = between(&page, "name=\"token\" value=\"", "\"").to_owned();
    let url = format!("{}/sign-out", victim.url);
    let mut stranger = world.browser();
    stranger.look().await;
    let client = victim.client.clone();
    let with = |token: &str| client.post(&url).form(&[("token", token)]);
    let foreign = with(&token).header("sec-fetch-site", "cross-site");
    for answer in [
        victim.send(client.post(&url)).await,
        victim.send(with("")).await,
        victim.send(with("AAAA")).await,
        victim.send(foreign).await,
        stranger.send(with(&token)).await,
        world.browser().send(with(&token)).await,
    ] {
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
        assert!(text(answer).await.contains("Nothing was done"));
    }
    assert!(victim.look().await.contains(ACCOUNT), "still signed in");
    let answer = victim.send(with(&token)).await;
    assert_eq!(answer.headers()["location"], "/api/portal?done=sign-out");
    let page = text(victim.get("?done=sign-out").await).await;
    assert!(page.contains("nobody is signed in") && page.contains("mysignins.microsoft.com"));
}

#[tokio::test]
async fn every_answer_forbids_what_the_page_does_not_need() {
    let world = World::new().await;
    let mut person = world.browser();
    let refused = person.client.post(format!("{}/resume", person.url));
    for answer in [
        person.get("").await,
        person.get("/").await,
        person.get("/status.json").await,
        person.get("/nothing/here").await,
        person.get("/sign-in").await,
        person.send(refused).await,
        person.press("sign-in").await,
    ] {
        let headers = answer.headers();
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        assert!(
            policy.ends_with(
                "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
            ),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(headers["referrer-policy"], "no-referrer");
        assert_eq!(headers["cache-control"], "no-store");
        assert_eq!(headers["x-content-type-options"], "nosniff");
    }
    let page = person.look().await;
    assert!(!page.contains(" style=") && !page.contains(" onclick"), "{page}");
}

#[tokio::test]
async fn the_function_key_stays_in_the_pages_own_links() {
    let (log, _listening) = Log::listen(1);
    let world = World::new().await.signed_in().await;
    let mut person = world.browser();
    let encoded = "code=aB-c_d%3D%3Dfunction%2Fkey%2B";
    let page = text(person.get(&format!("?{encoded}")).await).await;
    for link in [
        format!("href=\"/api/portal/status.json?{encoded}\""),
        format!("action=\"/api/portal/sign-in?{encoded}\""),
        format!("action=\"/api/portal/sign-out?{encoded}\""),
        format!("content=\"60;url=/api/portal?{encoded}\""),
    ] {
        assert!(page.contains(&link), "{link} not in {page}");
    }
    let token = between(&page, "name=\"token\" value=\"", "\"").to_owned();
    let url = format!("{}/sign-out?{encoded}", person.url);
    let answer = person.send(person.client.post(url).form(&[("token", token)])).await;
    assert_eq!(answer.headers()["location"], format!("/api/portal?{encoded}&done=sign-out"));
    person.headers = vec![("x-functions-key", KEY)];
    let page = text(person.get("?other=value").await).await;
    assert!(!page.contains("function/key") && !page.contains("other="), "{page}");
    assert!(!log.text().contains("function/key") && !log.text().contains("code="));
}

#[tokio::test]
async fn who_pressed_a_button_is_logged_and_no_secret_is() {
    let (log, _listening) = Log::listen(1);
    let world = World::new().await;
    let mut person = world.browser();
    person.headers = vec![("x-ms-client-principal-name", "jane@trust.example")];
    person.press("sign-in").await;
    let page = person.look().await;
    world.clouds.entra.approve(ACCOUNT, ACCOUNT_ID);
    world.pass(5);
    let after = person.look().await;
    let status = text(person.get("/status.json").await).await;
    let log = log.text();
    assert!(log.contains("button=sign-in person=jane@trust.example"), "{log}");
    let shown = code(&page).to_owned();
    for secret in world.clouds.secrets() {
        let secret = secret.expose_secret();
        assert!(!log.contains(secret) && !after.contains(secret) && !status.contains(secret));
        assert!(secret == shown || !page.contains(secret));
    }
}

#[tokio::test]
async fn a_halted_export_is_resumed_by_its_button() {
    let world = World::with(&[("FunctionConfigScopeGuard", "halt")]).await.signed_in().await;
    world.add(1, OTHER);
    world.run().await;
    let mut person = world.browser();
    let page = person.look().await;
    assert!(page.contains("Alerts are not flowing: the export was halted"), "{page}");
    assert_eq!(json(person.get("/status.json").await).await["Phase"], "Halted");
    let answer = person.press("resume").await;
    assert_eq!(answer.headers()["location"], "/api/portal?done=resume");
    assert_eq!(json(person.get("/status.json").await).await["Phase"], "Idle");
    assert!(!person.look().await.contains("press-resume"));
}

#[tokio::test]
async fn foreign_groups_are_counted_and_never_named() {
    let world = World::new().await.signed_in().await;
    world.add(1, GROUP);
    world.add(2, OTHER);
    world.add(3, "RZZ Third");
    world.run().await;
    let mut person = world.browser();
    let page = person.look().await;
    assert!(page.contains("Alerts are flowing; alerts of other device groups were met"), "{page}");
    assert!(page.contains("alerts of 2 other groups met in one run and withheld"), "{page}");
    assert!(page.contains(&format!("<dt>{GROUP}</dt><dd>allowed; alerts last met")), "{page}");
    let status = text(person.get("/status.json").await).await;
    for text in [&page, &status] {
        assert!(!text.contains("RYY") && !text.contains("RZZ"), "{text}");
    }
}

#[tokio::test]
async fn a_gap_between_runs_is_in_the_picture_and_in_the_sentence() {
    let world = World::new().await.signed_in().await;
    world.run().await;
    world.pass(2 * 3_600);
    let page = world.browser().look().await;
    assert!(page.contains("Alerts are not flowing: no run has ended for 2 hours."), "{page}");
    assert!(page.contains("1 run, 0 failed; 8 quarter-hours without a run"), "{page}");
    assert_eq!(page.matches("class=\"gap\"").count(), 3 * 8 + 1);
}

/// A run when the schedule fires, up to `minutes` from now.
async fn run_as_due(world: &World, every: u64, minutes: u64) {
    for _ in 0..minutes / every {
        world.pass(every * 60);
        world.run().await;
    }
}

#[tokio::test]
async fn a_slow_schedule_that_is_kept_has_no_gap_and_three_runs_missing_are_silence() {
    let slow = [("FunctionConfigTimerSchedule", "0 */30 * * * *")];
    let world = World::with(&slow).await.signed_in().await;
    world.add(1, GROUP);
    run_as_due(&world, 30, 240).await;
    for minutes in [29, 30] {
        world.pass(minutes * 60);
        let page = world.browser().look().await;
        assert!(page.contains("</span>Alerts are flowing."), "{page}");
    }
    assert!(world.browser().look().await.contains("8 runs, 0 failed; 0 quarter-hours without"));
    world.pass(31 * 60);
    let page = world.browser().look().await;
    assert!(page.contains("Alerts are not flowing: no run has ended for 90 minutes."), "{page}");
    assert!(page.contains("2 quarter-hours without a run"), "{page}");
}

#[tokio::test]
async fn a_schedule_that_pauses_at_night_is_no_silence_and_no_gap() {
    let by_day = [("FunctionConfigTimerSchedule", "0 */5 8-17 * * 1-5")];
    // A Saturday: nothing is due before Monday, eight o'clock.
    let world = World::with(&by_day).await.signed_in().await;
    world.add(1, GROUP);
    world.run().await;
    for hours in [3, 21, 20] {
        world.pass(hours * 3_600);
        let page = world.browser().look().await;
        assert!(page.contains("Alerts are flowing") || page.contains("The export is working"));
        assert!(page.contains("0 failed; 0 quarter-hours without a run"), "{page}");
        assert!(page.contains("Last run, 21 Nov 2026, 10:00 UTC"), "{page}");
    }
    world.pass(3 * 3_600);
    let page = world.browser().look().await;
    assert!(page.contains("Alerts are not flowing: no run has ended for a day."), "{page}");
    assert!(page.contains("5 quarter-hours without a run"), "{page}");
}

#[tokio::test]
async fn machines_are_told_the_same_facts() {
    let world = World::new().await.signed_in().await;
    world.add(1, GROUP);
    world.run().await;
    let status = json(world.browser().get("/status.json").await).await;
    assert_eq!(status["Flow"], "Flowing");
    assert_eq!(status["Message"], "Alerts are flowing.");
    assert_eq!(status["SignIn"], "SignedIn");
    assert_eq!(status["SignedInAs"], ACCOUNT);
    assert_eq!(status["Phase"], "Idle");
    assert_eq!(status["LagSeconds"], 60);
    assert_eq!(status["AllowedGroups"][0], GROUP);
    assert_eq!(status["Runs"][0]["Delivered"], 1);
    assert_eq!(status["Runs"][0]["Groups"]["Allowed"][0], GROUP);
    assert_eq!(status["Version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn faulty_settings_are_listed_by_name_and_no_value_is_shown() {
    let vars =
        Vars::map([("FunctionConfigTrustName", "RXX"), ("FunctionConfigMDETenantId", "hunter2")]);
    let portal = FaultyPortal::of_settings(&vars, &Config::load(&vars).unwrap_err());
    let (runs, _) = runs_ending(Status::Ok);
    let handler = Handler::serve(app::router(runs.clone(), portal, no_durable()), runs).await;
    let client = handler.client.clone();
    let url = format!("{}/api/portal", handler.url);
    let mut person = Browser { client, url, cookies: BTreeMap::new(), headers: Vec::new() };
    let page = person.look().await;
    for said in
        ["Alerts are not flowing: ", "FunctionConfigMDETenantId", "FunctionConfigSessionKey"]
    {
        assert!(page.contains(said), "{said} not in {page}");
    }
    let status = json(person.get("/status.json").await).await;
    assert_eq!(status["Flow"], "Stopped");
    assert!(!status["ConfigFaults"].as_array().unwrap().is_empty());
    assert!(!page.contains("hunter2") && !status.to_string().contains("hunter2"));
}

#[tokio::test]
async fn a_misspelt_group_is_no_flow_of_alerts() {
    let world = World::with(&[("FunctionConfigDeviceGroups", "rxx example trust")]).await;
    let mut person = world.browser();
    person.press("sign-in").await;
    world.clouds.entra.approve(ACCOUNT, ACCOUNT_ID);
    world.pass(5);
    person.look().await;
    world.add(1, GROUP);
    world.pass(180);
    world.run().await;
    for _ in 0..2 {
        let page = person.look().await;
        assert!(page.contains("Alerts are not flowing: every alert met so far is of"), "{page}");
        assert!(page.contains("letter by letter"), "{page}");
        let status = json(person.get("/status.json").await).await;
        assert_eq!(status["Flow"], "Stopped");
        // The next run meets nothing at all.
        world.pass(60 * 60);
        world.run().await;
    }
}

#[tokio::test]
async fn one_of_several_targets_down_is_a_matter_for_a_person_and_no_stop() {
    let both = [("FunctionConfigAlertTargetType", "LogsIngestion;EventHub")];
    let world = World::with(&both).await.signed_in().await;
    world.add(1, GROUP);
    world.run().await;
    world.clouds.hub.script.push(vec![Fault::status(401); 20]);
    world.pass(300);
    world.add(2, GROUP);
    world.run().await;
    let status = json(world.browser().get("/status.json").await).await;
    assert_eq!(status["Flow"], "Attention", "{status}");
    let said = status["Message"].as_str().unwrap();
    assert!(
        said.starts_with("Alerts are flowing to the other targets, but not to EventHub. "),
        "{said}"
    );
    // Now nobody takes anything.
    world.clouds.monitor.script.push(vec![Fault::status(403); 20]);
    world.pass(2_400);
    world.add(3, GROUP);
    world.run().await;
    let status = json(world.browser().get("/status.json").await).await;
    assert_eq!(status["Flow"], "Stopped", "{status}");
}

#[tokio::test]
async fn a_day_without_an_alert_is_told_as_one() {
    let world = World::new().await.signed_in().await;
    world.run().await;
    let status = json(world.browser().get("/status.json").await).await;
    assert_eq!(
        (&status["Flow"], &status["Message"]),
        (&"Flowing".into(), &"The export is working; no new alert in the last 24 hours.".into())
    );
    // After a week it may be that the account sees nothing: somebody has to look.
    world.pass(8 * 24 * 60 * 60);
    world.run().await;
    let status = json(world.browser().get("/status.json").await).await;
    assert_eq!(status["Flow"], "Attention", "{status}");
    let said = status["Message"].as_str().unwrap();
    assert!(said.contains("No alert of this trust's device groups was met since"), "{status}");
    assert!(status["NextStep"].as_str().unwrap().contains("Raise a test alert"), "{status}");
}

#[tokio::test]
async fn heartbeats_that_do_not_go_out_are_said_on_the_page() {
    let hub = [("FunctionConfigAlertTargetType", "EventHub")];
    let world = World::with(&hub).await.signed_in().await;
    world.add(1, GROUP);
    world.pass(2_400);
    world.clouds.monitor.script.push(vec![Fault::status(403); 4]);
    world.run().await;
    let mut person = world.browser();
    let page = person.look().await;
    for said in ["Alerts are flowing, but 1 heartbeat waits", "Monitoring Metrics Publisher"] {
        assert!(page.contains(said), "{said} not in {page}");
    }
    let status = json(person.get("/status.json").await).await;
    assert_eq!((&status["Flow"], &status["UnsentHeartbeats"]), (&"Attention".into(), &1.into()));
    world.run().await;
    assert!(!person.look().await.contains("heartbeat waits"));
}
