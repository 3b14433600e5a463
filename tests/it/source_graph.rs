//! Reading from Graph: what only Graph does.

use std::time::Duration;

use defender_alert_export::error_chain::Chain;
use defender_alert_export::http;
use defender_alert_export::sandbox::manners::{Manners, NextLink};
use defender_alert_export::sandbox::sample::{self, Sample};
use defender_alert_export::sandbox::script::Fault;
use defender_alert_export::source::{Api, Cause, Failure, Item};

use crate::source_world::{GROUP, World, ms};

/// Some 1,700 alerts of one time, created at some 100 times.
fn crowd(world: &World) {
    world.cloud.add((0..20).map(|n| sample::alert(n, GROUP, ms(n))));
    world.cloud.add((20..1_720).map(|n| {
        let created = ms(0) - Duration::from_millis(n % 100);
        Sample { created, ..sample::alert(n, GROUP, ms(500)) }
    }));
    world.cloud.add((1_720..1_740).map(|n| sample::alert(n, GROUP, ms(n))));
}

#[tokio::test]
async fn more_alerts_of_one_time_than_skip_can_reach_are_read_by_creation() {
    for (next_link, page_size) in [(NextLink::After, 1_000), (NextLink::Never, 50)] {
        let world = World::of(Api::Graph).await;
        world.behave(|manners| manners.next_link = next_link);
        crowd(&world);
        world.read(page_size).await.assert_calm(1_740);
        let targets = world.targets();
        assert!(targets.iter().any(|target| target.contains("createdDateTime")));
        assert!(!targets.iter().any(|target| target.contains("skip")), "{targets:?}");
    }
}

#[tokio::test]
async fn more_alerts_of_one_update_and_creation_are_read_by_link_or_told_and_not_passed_over() {
    let crowd = |count: u64| (0..count).map(|n| sample::alert(n, GROUP, ms(500)));
    let linked = |next_link, link_tokens| {
        move |manners: &mut Manners| {
            manners.next_link = next_link;
            manners.link_tokens = link_tokens;
        }
    };
    let cases = [
        (NextLink::After, true, 1_700, true),
        (NextLink::Before, true, 1_001, true),
        (NextLink::After, false, 1_700, false),
        (NextLink::Never, false, 1_001, false),
        // However small pages have become.
        (NextLink::Never, false, 999, true),
    ];
    for (next_link, tokens, count, is_read) in cases {
        let world = World::of(Api::Graph).await;
        world.behave(linked(next_link, tokens));
        world.cloud.add(crowd(count));
        let got = world.read(50).await;
        if is_read {
            got.assert_calm(usize::try_from(count).unwrap());
            continue;
        }
        assert!(got.marks.iter().all(|mark| *mark <= ms(500)), "{:?}", got.marks);
        assert!(matches!(got.failure(), Failure::Crowded));
    }
}

#[tokio::test]
async fn a_page_that_lacks_a_service_is_delivered_and_never_taken_for_a_whole_one() {
    let world = World::of(Api::Graph).await;
    world.add(20);
    world.graph.lack(Some("Microsoft/WDATP/504/10000"));
    let got = world.read(50).await;
    assert_eq!((got.alerts.len(), got.marks.len()), (10, 0));
    assert_eq!(got.reader.page_size().get(), 50, "size is not to blame");
    let error = got.end.unwrap_err();
    assert_eq!(error.attempts, 4);
    assert_eq!(
        Chain(&error).to_string(),
        "alerts could not be read from Microsoft Graph to the end of the window; calls made: 4: it sent a part of the alerts only, because a service behind it did not answer (Microsoft/WDATP/504/10000)"
    );
    world.graph.lack(None);
    world.read(50).await.assert_calm(20);
    // The warning counts without the status, and the status without it.
    let page = |status, headers| Fault::Answer { status, headers, body: r#"{"value":[]}"#.into() };
    let warning = vec![("warning", "199 - \"mail of a.patel@rxx.example\"".to_owned())];
    for fault in [page(200, warning), page(206, vec![])] {
        world.script().push([fault]);
        let got = world.read(50).await;
        got.assert_calm(20);
        assert_eq!(got.reader.calls(), 2, "asked again");
    }
    let deprecated = vec![("warning", "299 - \"deprecated\"".to_owned())];
    world.script().push([page(200, deprecated)]);
    world.read(50).await.assert_calm(0);
}

#[tokio::test]
async fn no_page_is_asked_for_that_is_larger_than_graph_gives() {
    let world = World::of(Api::Graph).await;
    world.add(1_100);
    world.read(10_000).await.assert_calm(1_100);
    let tops = world.tops();
    assert!(!tops.is_empty() && tops.iter().all(|top| *top <= 1_000), "{tops:?}");
}

#[tokio::test]
async fn alerts_of_other_products_are_not_even_asked_for() {
    let world = World::of(Api::Graph).await;
    world.add(3);
    world.cloud.add((10..13).map(|n| {
        let service = "microsoftDefenderForIdentity";
        Sample { service, ..sample::alert(n, GROUP, ms(n)) }
    }));
    world.read(50).await.assert_calm(3);
}

#[tokio::test]
async fn words_younger_than_the_api_come_as_they_are() {
    let world = World::of(Api::Graph).await;
    world.add(1);
    let mut reader = world.reader(50);
    let Some(Item::Alert(alert)) = reader.next().await.unwrap() else { panic!("an alert") };
    assert!(!String::from_utf8_lossy(alert.raw()).contains("unknownFutureValue"));
}

#[tokio::test]
async fn the_embedded_graph_refuses_what_the_documents_do_not_allow() {
    let world = World::of(Api::Graph).await;
    world.add(2);
    let client = http::client().unwrap();
    let list = "v1.0/security/alerts_v2";
    let cases = [
        (format!("{list}?$filter=lastUpdateTime+ge+2026-11-19T08:00:00Z"), "good", 400),
        (format!("{list}?$filter=id+eq+'da1'"), "good", 400),
        (format!("{list}?$filter=severity+eq+'High'"), "good", 400),
        (format!("{list}?$skip=501"), "good", 400),
        (format!("{list}?$expand=evidence"), "good", 400),
        (format!("{list}?$select=id"), "good", 400),
        ("v1.0/security/alerts".to_owned(), "good", 400),
        (format!("{list}?$skip=500&$top=5000&$count=true"), "good", 200),
        (format!("{list}?$filter=severity+eq+'high'+and+status+eq+'new'"), "good", 200),
        (list.to_owned(), "bad", 401),
    ];
    for (path, token, status) in cases {
        let url = world.listening.url.join(&path).unwrap();
        let answer = client.get(url).bearer_auth(token).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{path}");
    }
    world.add(1_200);
    let url = world.listening.url.join(&format!("{list}?$top=5000")).unwrap();
    let page = client.get(url).bearer_auth("good").send().await.unwrap().bytes().await.unwrap();
    let page: serde_json::Value = serde_json::from_slice(&page).unwrap();
    assert_eq!(page["value"].as_array().unwrap().len(), 1_000, "clamped without a word");
    assert!(page["@odata.nextLink"].as_str().unwrap().contains("skip=1000"));
}

#[tokio::test]
async fn graphs_refusals_name_its_own_permission_setting_and_request() {
    let world = World::of(Api::Graph).await;
    let forbidden = |message: &str| Fault::Answer {
        status: 403,
        headers: vec![],
        body: format!(
            r#"{{"error":{{"code":"Forbidden","message":"{message}","innerError":{{"request-id":"abc"}}}}}}"#
        ),
    };
    let missing = "Missing scope permissions on the request. API requires one of 'SecurityAlert.Read.All'. Scopes on the request 'openid'";
    world.script().push([
        forbidden(""),
        forbidden(missing),
        forbidden("User is not in the allowed roles"),
    ]);
    let text = world.read(50).await.failure().to_string();
    for words in
        ["SecurityAlert.Read.All", "View Data", "FunctionConfigGraphEndpoint", "correlation id abc"]
    {
        assert!(text.contains(words), "{words} missing from: {text}");
    }
    assert!(!text.contains("WindowsDefenderATP"), "{text}");
    for expected in [Cause::ApiPermission, Cause::Role] {
        let Failure::Forbidden { cause, .. } = world.read(50).await.failure() else {
            panic!("403")
        };
        assert_eq!(cause, expected);
    }
    world.behave(|manners| manners.quotas = true);
    for _ in 0..150 {
        assert!(world.read(50).await.end.is_ok());
    }
    let Failure::Throttled { after, said, .. } = world.read(50).await.failure() else {
        panic!("throttled")
    };
    assert_eq!(after, Some(Duration::from_mins(1)));
    assert_eq!(said.code.as_deref(), Some("TooManyRequests"));
}
