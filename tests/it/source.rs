//! Reading: every alert of a window, whatever the API does. What is promised is
//! promised of both.

mod streaming;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use defender_alert_export::domain::budget::Budget;
use defender_alert_export::domain::scope::{Ruling, Scope};
use defender_alert_export::error_chain::Chain;
use defender_alert_export::http;
use defender_alert_export::sandbox::defender as cloud;
use defender_alert_export::sandbox::manners::{NextLink, Orderby, Otherwise};
use defender_alert_export::sandbox::sample::{self, Sample};
use defender_alert_export::sandbox::script::Fault;
use defender_alert_export::source::{Api, Failure, Item, PageSize};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::source_world::{BOTH, GROUP, World, at, ms, pull, window};

#[tokio::test]
async fn a_quiet_window_is_one_call_of_the_documented_form() {
    for api in BOTH {
        let world = World::of(api).await;
        let got = world.read(1_000).await;
        got.assert_calm(0);
        assert_eq!(got.reader.calls(), 1);
        assert_eq!(
            world.targets(),
            [match api {
                Api::Defender => concat!(
                    "/api/alerts?%24filter=lastUpdateTime+ge+2026-11-19T08%3A00%3A00Z+and+",
                    "lastUpdateTime+lt+2026-11-19T09%3A00%3A00Z&%24orderby=lastUpdateTime+asc",
                    "&%24top=1000&%24expand=evidence"
                ),
                Api::Graph => concat!(
                    "/v1.0/security/alerts_v2?%24filter=serviceSource+eq+%27microsoftDefenderForEndpoint%27",
                    "+and+lastUpdateDateTime+ge+2026-11-19T08%3A00%3A00Z+and+",
                    "lastUpdateDateTime+lt+2026-11-19T09%3A00%3A00Z&%24orderby=lastUpdateDateTime+asc",
                    "&%24top=1000"
                ),
            }]
        );
    }
}

#[tokio::test]
async fn evidence_comes_with_every_alert_in_defenders_form() {
    for api in BOTH {
        let world = World::of(api).await;
        world.add(1);
        let mut reader = world.reader(50);
        let Some(Item::Alert(alert)) = reader.next().await.unwrap() else { panic!("an alert") };
        let json: serde_json::Value = serde_json::from_slice(alert.raw()).unwrap();
        let evidence = json["evidence"].as_array().unwrap();
        let entries: Vec<_> = evidence.iter().map(|entry| entry["entityType"].as_str()).collect();
        let defenders = ["User", "Process", "File", "Ip"].map(Some);
        let device = (api == Api::Graph).then_some(Some("Device"));
        assert!(entries.iter().copied().eq(device.into_iter().chain(defenders)), "{entries:?}");
        let process = &evidence[evidence.len() - 3];
        assert_eq!(process["processId"], 9_132);
        assert_eq!(process["parentProcessFileName"], "EXCEL.EXE");
        assert_eq!(json["lastUpdateTime"], "2026-11-19T08:00:00Z");
    }
}

#[tokio::test]
async fn any_set_of_alerts_is_read_whole_at_any_page_size_in_any_manner() {
    for api in BOTH {
        let mut rng = StdRng::seed_from_u64(20_261_121);
        let orders = [
            (Orderby::Honoured, Otherwise::NewestFirst),
            (Orderby::Ignored, Otherwise::NewestFirst),
            (Orderby::Ignored, Otherwise::Jumbled),
            (Orderby::Rejected, Otherwise::OldestFirst),
        ];
        for round in 0..16 {
            let world = World::of(api).await;
            let (orderby, otherwise) = orders[round % orders.len()];
            let linked =
                [NextLink::Never, NextLink::Before, NextLink::After][rng.random_range(0..3)];
            world.behave(|manners| {
                manners.orderby = orderby;
                manners.otherwise = otherwise;
                manners.next_link = linked;
                manners.link_tokens = round % 3 == 0;
                if linked != NextLink::Never {
                    manners.page_cap = 30;
                }
            });
            let count = rng.random_range(0..300);
            let distinct = rng.random_range(1..200);
            let samples: Vec<Sample> = (0..count)
                .map(|n| {
                    // Alerts updated at once were not created at once.
                    let created = ms(0) - Duration::from_millis(n);
                    let updated = ms(rng.random_range(0..distinct));
                    Sample { created, ..sample::alert(n, GROUP, updated) }
                })
                .collect();
            world.cloud.add(samples.clone());
            let updated: HashMap<_, _> =
                samples.iter().map(|sample| (sample.id(), sample.updated)).collect();

            let mut reader = world.reader(rng.random_range(12..120));
            let mut yielded = BTreeSet::new();
            while let Some(item) = reader.next().await.unwrap() {
                match item {
                    Item::Alert(alert) => {
                        assert!(yielded.insert(alert.id().unwrap().into_owned()), "round {round}");
                    }
                    Item::Through(mark) => {
                        let behind = updated.iter().filter(|(_, at)| **at < mark);
                        let missing = behind.filter(|(id, _)| !yielded.contains(*id)).count();
                        assert_eq!(missing, 0, "round {round}: the mark ran ahead");
                    }
                }
            }
            assert_eq!(yielded.len(), updated.len(), "round {round}");
        }
    }
}

#[tokio::test]
async fn a_sorted_window_is_marked_page_by_page() {
    for api in BOTH {
        let world = World::of(api).await;
        world.add(120);
        let got = world.read(50).await;
        got.assert_calm(120);
        assert_eq!(got.marks, [ms(49), ms(98), window().end()]);
        assert_eq!(got.reader.calls(), 3);
    }
}

#[tokio::test]
async fn more_alerts_of_one_time_than_fit_a_page_are_all_read() {
    let world = World::of(Api::Defender).await;
    world.cloud.add((0..20).map(|n| sample::alert(n, GROUP, ms(n))));
    world.cloud.add((20..180).map(|n| sample::alert(n, GROUP, ms(500))));
    world.cloud.add((180..200).map(|n| sample::alert(n, GROUP, ms(n + 600))));
    let got = world.read(50).await;
    got.assert_calm(200);
    assert!(world.targets().iter().any(|target| target.contains("%24skip=")));
}

#[tokio::test]
async fn alerts_of_other_products_are_not_read() {
    for api in BOTH {
        let world = World::of(api).await;
        world.add(2);
        let service = "microsoftDefenderForOffice365";
        world.cloud.add([Sample { service, ..sample::alert(7, GROUP, ms(7)) }]);
        world.read(50).await.assert_calm(2);
    }
}

#[tokio::test]
async fn a_survey_tells_ids_times_and_groups_and_leaves_evidence_where_it_can() {
    for api in BOTH {
        let world = World::of(api).await;
        world.add(120);
        let (pages, budget) = (PageSize::new(50), Budget::new(1_500));
        let mut reader = world.source.survey(window(), "good".into(), pages, budget);
        let (mut bytes, mut seen) = (0, BTreeSet::new());
        while let Some(item) = reader.next().await.unwrap() {
            let Item::Alert(alert) = item else { continue };
            bytes += alert.raw().len();
            let scope = Scope::parse(GROUP, false).unwrap();
            assert_eq!(scope.rule_all(alert.groups()), Ruling::Export);
            seen.insert((alert.id().unwrap().into_owned(), alert.last_update().unwrap()));
        }
        assert_eq!(seen.len(), 120);
        assert!(seen.contains(&(sample::alert(3, GROUP, ms(3)).id(), ms(3))));
        assert_eq!(bytes / 120 < 2_000, api == Api::Defender, "{bytes}");
        let expands = world.targets().iter().any(|target| target.contains("expand"));
        assert!(!expands);
    }
}

#[tokio::test]
async fn a_server_that_takes_no_order_is_asked_once_a_day() {
    for api in BOTH {
        let world = World::of(api).await;
        world.behave(|manners| manners.orderby = Orderby::Rejected);
        world.add(120);
        world.read(50).await.assert_calm(120);
        let calls = world.targets().len();
        world.read(50).await.assert_calm(120);
        let ordered = |targets: &[String]| {
            targets.iter().filter(|target| target.contains("%24orderby")).count()
        };
        let targets = world.targets();
        assert_eq!((ordered(&targets), targets.len()), (1, 2 * calls - 1));
        // It may have been a passing fault, and the app runs for months.
        world.behave(|manners| manners.orderby = Orderby::Honoured);
        world.clock.advance(Duration::from_hours(24));
        world.read(50).await.assert_calm(120);
        let since = &world.targets()[targets.len()..];
        assert_eq!((ordered(since), since.len()), (3, 3), "{since:?}");
    }
}

#[tokio::test]
async fn a_page_cut_off_is_read_again_from_where_it_was_and_never_taken_for_a_short_one() {
    for api in BOTH {
        let world = World::of(api).await;
        world.add(120);
        for cut in [0, 10, 5_000, 60_000] {
            world.script().push([Fault::Pass, Fault::CutAfter(cut), Fault::Pass]);
            let before = world.targets().len();
            let got = world.read(60).await;
            assert_eq!(got.alerts.len(), 120, "cut after {cut}");
            assert!(got.end.is_ok());
            let again = &world.targets()[before..];
            // The second page begins at the mark, and so does its repetition.
            assert!(again[1].contains("ge+2026-11-19T08%3A00%3A00.059Z"), "{again:?}");
            assert!(again[2].contains("ge+2026-11-19T08%3A00%3A00.059Z"), "{again:?}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_no_page_is_asked_for_again() {
    for api in BOTH {
        for body in ["<html>busy</html>", "{}", r#"{"value":null}"#, "", r#"{"value":[{"id":"a"}"#]
        {
            let world = World::of(api).await;
            world.add(3);
            let answer = Fault::Answer { status: 200, headers: vec![], body: body.to_owned() };
            world.script().push([answer]);
            let got = world.read(50).await;
            assert!(got.end.is_ok(), "{body}: {:?}", got.end);
            assert!(got.ids().len() >= 3);
            assert_eq!(got.reader.calls(), 2, "{body}");
        }
    }
}

#[tokio::test]
async fn an_element_that_is_no_alert_ends_in_an_error_and_never_in_a_mark_past_it() {
    for api in BOTH {
        let world = World::of(api).await;
        world.add(3);
        world.add_raw("\"a.patel\"", ms(1));
        let got = world.read(50).await;
        assert!(got.marks.is_empty());
        let error = got.end.unwrap_err();
        assert!(matches!(error.failure, Failure::NotAnAlert));
        assert!(!Chain(&error).to_string().contains("patel"));
    }
}

#[tokio::test]
async fn alerts_without_id_or_time_are_yielded_and_paging_goes_on() {
    for api in BOTH {
        let world = World::of(api).await;
        world.add(120);
        world.add_raw(r#"{"lastUpdateTime":"2026-11-19T08:00:00.01Z"}"#, ms(10));
        world.add_raw(r#"{"id":"timeless"}"#, ms(20));
        world.add_raw(r#"{"id":"stray","lastUpdateTime":"2031-01-01T00:00:00Z"}"#, ms(30));
        let got = world.read(50).await;
        assert!(got.end.is_ok(), "{:?}", got.end);
        assert_eq!(got.alerts.len(), 122);
        assert!(got.nameless >= 1);
        assert_eq!(got.marks.last(), Some(&window().end()));
    }
}

#[tokio::test]
async fn pages_halve_when_they_break_and_double_back_when_they_hold() {
    for api in BOTH {
        let world = World::of(api).await;
        world.add(2_000);
        world.script().push([Fault::status(500), Fault::CutAfter(40_000)]);
        let got = world.read(400).await;
        assert!(got.end.is_ok());
        assert_eq!(got.alerts.len(), 2_000);
        assert_eq!(world.tops()[..9], [400, 200, 100, 100, 100, 200, 200, 200, 400]);
        assert_eq!(got.reader.page_size().get(), 400);
    }
}

#[tokio::test]
async fn a_page_that_keeps_breaking_ends_the_run_and_the_small_size_is_kept() {
    for api in BOTH {
        let world = World::of(api).await;
        world.add(3);
        world.script().push((0..4).map(|_| Fault::Answer {
            status: 503,
            headers: vec![],
            body: "<html>a.patel</html>".to_owned(),
        }));
        let got = world.read(1_000).await;
        assert_eq!(got.reader.page_size().encode(), "62+0");
        let error = got.end.unwrap_err();
        assert_eq!((error.calls, error.attempts), (4, 4));
        assert_eq!(
            Chain(&error).to_string(),
            format!(
                "alerts could not be read from {api} to the end of the window; calls made: 4: it answered 503"
            )
        );
    }
}

#[tokio::test]
async fn attempts_are_counted_for_each_page_anew() {
    for api in BOTH {
        let world = World::of(api).await;
        world.add(120);
        let bad = || [Fault::status(502), Fault::status(502), Fault::LoseAnswer, Fault::Pass];
        world.script().push(bad().into_iter().chain(bad()));
        let got = world.read(50).await;
        assert!(got.end.is_ok(), "{:?}", got.end);
        assert_eq!(got.alerts.len(), 120);
    }
}

#[tokio::test]
async fn reading_goes_on_after_an_error_where_it_stopped() {
    for api in BOTH {
        let world = World::of(api).await;
        world.add(120);
        world.script().push([Fault::Pass, Fault::throttled(600)]);
        let got = world.read(50).await;
        assert_eq!(got.marks, [ms(49)]);
        assert!(got.end.is_err());
        // With all its attempts again.
        world.script().push([Fault::status(500), Fault::status(500), Fault::status(500)]);
        let rest = pull(got.reader).await;
        assert!(rest.end.is_ok());
        assert_eq!(rest.alerts.len(), 70, "nothing comes twice");
        assert_eq!(rest.marks, [ms(98), window().end()]);
    }
}

#[tokio::test]
async fn the_embedded_apis_show_late_alerts_late_and_each_account_its_own() {
    for api in BOTH {
        let world = World::of(api).await;
        world.add(2);
        world.cloud.add_late(&sample::alert(7, GROUP, ms(7)), at("2026-11-19T13:00:00Z"));
        assert_eq!(world.read(50).await.alerts.len(), 2);
        world.clock.advance(Duration::from_hours(1));
        assert_eq!(world.read(50).await.alerts.len(), 3);

        world.cloud.update(0, ms(9), |sample| sample.status = "Resolved");
        assert_eq!(world.read(50).await.alerts.len(), 3, "a version takes the place of another");

        world.cloud.add([sample::alert(8, "RYY", ms(8))]);
        world.cloud.show_only(Arc::new(|token, group| token == "good" && group == Some("RYY")));
        assert_eq!(world.read(50).await.alerts.len(), 1);
    }
}

#[tokio::test]
async fn the_embedded_defender_refuses_what_the_documents_do_not_allow() {
    let world = World::of(Api::Defender).await;
    let client = http::client().unwrap();
    let cases = [
        ("api/alerts?$filter=rbacGroupName+eq+'RXX'", "good", 400),
        ("api/alerts?$top=10001", "good", 400),
        ("api/alerts?$expand=files", "good", 400),
        ("api/alerts?$orderby=machineId", "good", 400),
        ("api/alerts?$top=1&$top=2", "good", 400),
        ("api/alerts?$filter=lastUpdateTime+ge+2026-11-19T08:00:00%2B00:00", "good", 400),
        ("api/machines", "good", 404),
        ("api/v1.0/alerts?$top=1&$filter=severity+eq+'High'", "good", 200),
        ("api/alerts", "bad", 401),
    ];
    for (path, token, status) in cases {
        let url = world.listening.url.join(path).unwrap();
        let answer = client.get(url).bearer_auth(token).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{path}");
    }
    // A token for Graph: `{"aud":"https://graph.microsoft.com"}`.
    let cloud = cloud::Defender::new(world.clock.clone(), Arc::new(|_| true));
    let listening = cloud.listen().await.unwrap();
    let url = listening.url.join("api/alerts").unwrap();
    let graph = "e30.eyJhdWQiOiJodHRwczovL2dyYXBoLm1pY3Jvc29mdC5jb20ifQ.x";
    let answer = client.get(url).bearer_auth(graph).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 403);
}
