//! What the source does when the API says no.

use std::time::Duration;

use defender_alert_export::domain::budget::Budget;
use defender_alert_export::error_chain::Chain;
use defender_alert_export::sandbox::manners::NextLink;
use defender_alert_export::sandbox::sample;
use defender_alert_export::sandbox::script::Fault;
use defender_alert_export::source::{Api, Cause, Failure, PageSize, Quota};

use crate::source_world::{BOTH, GROUP, World, ms, pull, window};

#[tokio::test]
async fn a_short_wait_is_waited_and_a_long_one_is_left_to_the_next_run() {
    for api in BOTH {
        let world = World::of(api).await;
        world.add(3);
        world.script().push([Fault::throttled(0)]);
        let got = world.read(100).await;
        got.assert_calm(3);
        assert_eq!(got.reader.page_size().get(), 100, "size is not to blame");

        world.script().push([Fault::throttled(3)]);
        let error = world.read(50).await.end.unwrap_err();
        assert_eq!(error.calls, 1);
        let Failure::Throttled { after, quota, .. } = error.failure else { panic!("throttled") };
        assert_eq!((after, quota), (Some(Duration::from_secs(3)), None));
    }
}

#[tokio::test]
async fn a_wait_given_as_a_date_counts_from_the_clock() {
    for api in BOTH {
        let world = World::of(api).await;
        let date = "Thu, 19 Nov 2026 12:10:00 GMT".to_owned();
        let headers = vec![("retry-after", date)];
        world.script().push([Fault::Answer { status: 429, headers, body: String::new() }]);
        let Failure::Throttled { after, .. } = world.read(50).await.failure() else {
            panic!("throttled")
        };
        assert_eq!(after, Some(Duration::from_mins(10)));
    }
}

#[tokio::test]
async fn a_spent_quota_is_named_and_not_hammered() {
    let world = World::of(Api::Defender).await;
    world.behave(|manners| manners.quotas = true);
    for _ in 0..100 {
        assert!(world.read(50).await.end.is_ok());
    }
    world.clock.advance(Duration::from_secs(10));
    let error = world.read(50).await.end.unwrap_err();
    assert_eq!(error.calls, 1);
    let Failure::Throttled { after, quota, said } = &error.failure else { panic!("throttled") };
    assert_eq!((*after, *quota), (Some(Duration::from_secs(50)), Some(Quota::Minute)));
    assert_eq!(said.code.as_deref(), Some("429"));
    assert_eq!(said.target.as_deref().map(str::len), Some(36));
    world.clock.advance(Duration::from_secs(50));
    assert!(world.read(50).await.end.is_ok());
}

#[tokio::test]
async fn an_hours_quota_without_a_time_to_come_back_is_not_tried_again() {
    let world = World::of(Api::Defender).await;
    let body = r#"{"error":{"code":"429","message":"API calls quota exceeded! maximum allowed 1500 per 01:00:00","target":"0f6c1f7e"}}"#;
    world.script().push([Fault::Answer { status: 429, headers: vec![], body: body.into() }]);
    let error = world.read(50).await.end.unwrap_err();
    assert_eq!(error.calls, 1);
    assert_eq!(
        Chain(&error.failure).to_string(),
        "it asked for fewer calls an hour: it answered 429 429 (correlation id 0f6c1f7e)"
    );
}

#[tokio::test]
async fn this_deployments_own_share_is_kept_and_what_was_read_stays() {
    for api in BOTH {
        let world = World::of(api).await;
        world.add(500);
        let budget = Budget::new(3);
        let reader = world.source.read(window(), "good".into(), PageSize::new(50), budget);
        let got = pull(reader).await;
        assert_eq!(got.marks, [ms(49), ms(98), ms(147)]);
        assert_eq!(got.reader.budget().remaining(world.clock.now()), 0);
        let error = got.end.unwrap_err();
        assert_eq!(error.calls, 3);
        let Failure::BudgetSpent(spent) = error.failure else { panic!("spent") };
        assert_eq!(spent.free_in, Duration::from_secs(3_610));
        assert_eq!(world.targets().len(), 3, "nobody was asked");
    }
}

#[tokio::test]
async fn a_next_page_on_another_server_is_neither_asked_nor_named_nor_needed() {
    for api in BOTH {
        let other = World::of(api).await;
        let other_port = other.listening.url.port().unwrap();
        let elsewhere = [
            "http://127.0.0.2:PORT/api/alerts?sig=secret",
            "https://127.0.0.1:PORT/api/alerts?sig=secret",
            "http://evil:secret@127.0.0.1:PORT/api/alerts",
            "http://127.0.0.1:PORT@evil.example/api/alerts?sig=secret",
            &format!("http://127.0.0.1:{other_port}/api/alerts?sig=secret"),
            "//evil.example/api/alerts?sig=secret",
        ];
        for link in elsewhere {
            let world = World::of(api).await;
            world.add(45);
            let link = link.replace("PORT", &world.listening.url.port().unwrap().to_string());
            let page = |alerts: &str| {
                let body = format!(r#"{{"value":[{alerts}],"@odata.nextLink":"{link}"}}"#);
                Fault::Answer { status: 200, headers: vec![], body }
            };
            // Alerts came, so what is after them can be asked for without a link.
            let id = sample::alert(7, GROUP, ms(7)).id();
            let time = "2026-11-19T08:00:00.007Z";
            let in_either_form = format!(
                r#"{{"id":"{id}","lastUpdateTime":"{time}","lastUpdateDateTime":"{time}"}}"#
            );
            world.script().push([page(&in_either_form)]);
            let got = world.read(50).await;
            assert!(got.end.is_ok(), "{link}: {:?}", got.end);
            assert_eq!((got.alerts.len(), got.marks.last()), (45, Some(&window().end())));
            assert!(world.targets()[1..].iter().all(|target| target.contains("filter=")));

            // None came: there is no other way on.
            let before = world.targets().len();
            world.script().push([page("")]);
            let got = world.read(50).await;
            assert!(got.marks.is_empty(), "{link}");
            let error = got.end.unwrap_err();
            assert!(matches!(error.failure, Failure::ForeignLink), "{link}");
            let text = format!("{} {error:?}", Chain(&error));
            assert!(!text.contains("secret") && !text.contains("evil"), "{text}");
            assert_eq!(world.targets().len(), before + 1);
        }
        assert_eq!(other.targets(), Vec::<String>::new(), "the token went nowhere else");
    }
}

#[tokio::test]
async fn a_server_whose_every_link_leads_elsewhere_is_read_to_the_end() {
    for api in BOTH {
        let world = World::of(api).await;
        world.add(200);
        world.behave(|manners| {
            manners.next_link = NextLink::After;
            manners.link_host = Some("elsewhere.example");
            manners.page_cap = 20;
        });
        world.read(50).await.assert_calm(200);
    }
}

#[tokio::test]
async fn empty_pages_that_lead_in_a_circle_or_on_and_on_do_not_use_up_the_hour() {
    for api in BOTH {
        for in_a_circle in [true, false] {
            let world = World::of(api).await;
            let path = world.listing_path();
            let page = |number: u32| {
                let to = if in_a_circle { number % 2 } else { number };
                let body = format!(r#"{{"value":[],"@odata.nextLink":"{path}?$skiptoken={to}"}}"#);
                Fault::Answer { status: 200, headers: vec![], body }
            };
            world.script().push((0..120).map(page));
            let error = world.read(50).await.end.unwrap_err();
            assert!(matches!(error.failure, Failure::NotAPage(_)), "{error:?}");
            // Four attempts.
            assert_eq!(error.calls, if in_a_circle { 4 * 3 } else { 4 * 11 });
        }
    }
}

#[tokio::test]
async fn a_short_page_with_a_link_is_not_the_end() {
    for api in BOTH {
        let world = World::of(api).await;
        world.add(45);
        world.behave(|manners| {
            manners.next_link = NextLink::After;
            manners.page_cap = 20;
        });
        let got = world.read(50).await;
        got.assert_calm(45);
        assert_eq!(got.reader.calls(), 3);
        // Graph's links may skip, so its pages are joined by time.
        let second = if api == Api::Graph { ms(38) } else { ms(39) };
        assert_eq!(got.marks, [ms(19), second, window().end()]);
    }
}

#[tokio::test]
async fn empty_pages_on_the_way_are_not_the_end() {
    for api in BOTH {
        let world = World::of(api).await;
        world.add(30);
        let path = world.listing_path();
        let empty = |skip: &str| Fault::Answer {
            status: 200,
            headers: vec![],
            body: format!(r#"{{"value":[],"@odata.nextLink":"{path}?$top=50{skip}"}}"#),
        };
        world.script().push([empty("&$skip=0"), empty("")]);
        let got = world.read(50).await;
        got.assert_calm(30);
        assert_eq!(got.reader.calls(), 3);
    }
}

#[tokio::test]
async fn a_broken_linked_page_is_read_again_from_the_mark_and_not_by_its_link() {
    for api in BOTH {
        let world = World::of(api).await;
        world.add(45);
        world.behave(|manners| {
            manners.next_link = NextLink::Before;
            manners.page_cap = 20;
        });
        world.script().push([Fault::Pass, Fault::CutAfter(20_000)]);
        let got = world.read(50).await;
        assert!(got.end.is_ok());
        assert_eq!(got.alerts.len(), 45);
        assert!(world.targets()[2].contains("ge+2026-11-19T08%3A00%3A00.019Z"));
    }
}

#[tokio::test]
async fn a_page_that_names_itself_as_the_next_does_not_go_round_for_ever() {
    for api in BOTH {
        let world = World::of(api).await;
        let body = r#"{"value":[],"@odata.nextLink":"/api/alerts?a=b"}"#;
        let page = Fault::Answer { status: 200, headers: vec![], body: body.into() };
        world.script().push((0..20).map(|_| page.clone()));
        let got = world.read(50).await;
        assert!(matches!(got.end.unwrap_err().failure, Failure::NotAPage(_)));
        assert!(world.targets().len() < 10);
    }
}

#[tokio::test]
async fn a_tick_that_never_holds_still_ends_in_an_error() {
    let world = World::of(Api::Defender).await;
    let page = |ids: std::ops::Range<u64>| {
        let alert = |id| format!(r#"{{"id":"{id}","lastUpdateTime":"2026-11-19T08:00:00Z"}}"#);
        let list: Vec<_> = ids.map(alert).collect();
        let body = format!(r#"{{"value":[{}]}}"#, list.join(","));
        Fault::Answer { status: 200, headers: vec![], body }
    };
    world.script().push([page(0..50)]);
    world.script().push((0..20).flat_map(|_| [page(0..50), page(60..110)]));
    let got = world.read(50).await;
    assert!(got.marks.is_empty());
    assert_eq!(got.reader.page_size().get(), 50);
    let error = got.end.unwrap_err();
    assert!(matches!(error.failure, Failure::Shifted));
    assert_eq!(error.calls, 9);
}

#[tokio::test]
async fn a_failing_server_that_names_a_long_wait_is_left_to_the_next_run() {
    for api in BOTH {
        let world = World::of(api).await;
        let headers = vec![("retry-after", "600".to_owned())];
        world.script().push([Fault::Answer { status: 503, headers, body: String::new() }]);
        let error = world.read(50).await.end.unwrap_err();
        assert_eq!(error.calls, 1);
        let Failure::Failing { after, .. } = error.failure else { panic!("failing") };
        assert_eq!(after, Some(Duration::from_mins(10)));
    }
}

#[tokio::test]
async fn a_token_that_is_not_accepted_ends_at_once_with_the_claims_asked_for() {
    for api in BOTH {
        let world = World::of(api).await;
        let reader = |token: &str| {
            world.source.read(window(), token.into(), PageSize::new(50), Budget::new(10))
        };
        let error = pull(reader("old")).await.end.unwrap_err();
        assert_eq!(error.calls, 1);
        assert!(matches!(error.failure, Failure::Unauthorized { claims: None, .. }));

        let challenge = r#"Bearer error="insufficient_claims", claims="eyJ4IjoxfQ==""#.to_owned();
        let headers = vec![("www-authenticate", challenge)];
        world.script().push([Fault::Answer { status: 401, headers, body: String::new() }]);
        let Failure::Unauthorized { claims, .. } = pull(reader("good")).await.failure() else {
            panic!("unauthorized")
        };
        assert_eq!(claims.as_deref(), Some(r#"{"x":1}"#));
    }
}

#[tokio::test]
async fn a_refusal_says_in_words_what_may_be_wrong() {
    let world = World::of(Api::Defender).await;
    let forbidden = |message: &str| Fault::Answer {
        status: 403,
        headers: vec![],
        body: format!(r#"{{"error":{{"code":"Forbidden","message":"{message}","target":"abc"}}}}"#),
    };
    world.script().push([forbidden(""), forbidden("Missing scopes. API required scopes: x")]);
    let error = world.read(50).await.end.unwrap_err();
    let text = Chain(&error).to_string();
    for words in [
        "Alert.Read of",
        "whether Alert.ReadWrite is needed",
        "View Data",
        "another service",
        "correlation id abc",
    ] {
        assert!(text.contains(words), "{words} missing from: {text}");
    }
    let Failure::Forbidden { cause, .. } = world.read(50).await.failure() else { panic!("403") };
    assert_eq!(cause, Cause::ApiPermission);

    for (status, expected) in [(404, "404"), (302, "302"), (206, "206")] {
        world.script().push([Fault::status(status)]);
        let failure = world.read(50).await.failure();
        assert_eq!(failure.to_string(), format!("it refused the request: it answered {expected}"));
    }
}

#[tokio::test]
async fn a_request_refused_with_and_without_order_is_refused() {
    for api in BOTH {
        let world = World::of(api).await;
        world.script().push([Fault::status(400), Fault::status(400)]);
        let error = world.read(50).await.end.unwrap_err();
        assert_eq!(error.calls, 2);
        assert!(matches!(error.failure, Failure::Refused(_)));
        // The order was not to blame, so it is asked for again.
        world.read(50).await.assert_calm(0);
        assert!(world.targets()[2].contains("%24orderby"));
    }
}
