//! A value is believed kept only when the entity shows it, and a late write
//! changes nothing.

use std::time::Duration;

use defender_alert_export::durable::message::{Status, StringValue};
use defender_alert_export::durable::{BadAddress, Cell, NotKept, Patience, Sidecar, SidecarError};
use defender_alert_export::http;
use defender_alert_export::identity::{IdentityError, Place};
use defender_alert_export::sandbox::clouds::Clouds;
use defender_alert_export::store::{Local, Store};
use futures_util::future::join;
use uuid::Uuid;

use super::functions::{Program, carry};
use super::hub::{Hub, Work};
use super::{ENTITY, Extension, KEY, WRITER, cell, kept, told};
use crate::sign_in::{EXPORT, OID, TWO, World};

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn what_was_written_is_read_back_and_leaves_no_history() {
    let extension = Extension::start().await;
    let cell = cell(&extension.url, LONG);
    assert_eq!(cell.read().await, Ok(None));
    let (first, second) = (kept("1", None), kept("2", Some("1")));
    cell.write(&first).await.unwrap();
    cell.write(&second).await.unwrap();
    assert_eq!(cell.read().await, Ok(Some(second)));
    extension.hub.with(|hub| {
        assert_eq!(hub.started, 2);
        assert_eq!(hub.purged, 2);
        assert!(hub.orchestrations.is_empty());
        assert!(hub.entities.contains_key(ENTITY));
    });
}

#[tokio::test]
async fn a_write_over_another_version_is_a_conflict() {
    let extension = Extension::start().await;
    let cell = cell(&extension.url, LONG);
    cell.write(&kept("1", None)).await.unwrap();
    cell.write(&kept("2", Some("1"))).await.unwrap();
    for stale in [kept("9", Some("1")), kept("9", None)] {
        assert_eq!(cell.write(&stale).await, Err(NotKept::Conflict));
    }
    assert_eq!(cell.read().await, Ok(Some(kept("2", Some("1")))));
}

#[tokio::test]
async fn of_two_writers_at_once_one_wins_and_the_other_learns_it() {
    let extension = Extension::start().await;
    let (one, other) = (cell(&extension.url, LONG), cell(&extension.url, LONG));
    let (a, b) = (kept("a", None), kept("b", None));
    let (first, second) = join(one.write(&a), other.write(&b)).await;
    let winner = one.read().await.unwrap().unwrap();
    match winner.version.as_str() {
        "a" => assert_eq!((first, second), (Ok(()), Err(NotKept::Conflict))),
        _ => assert_eq!((first, second), (Err(NotKept::Conflict), Ok(()))),
    }
}

#[tokio::test]
async fn messages_delivered_twice_change_nothing() {
    let extension = Extension::start().await;
    extension.hub.with(|hub| hub.twice = true);
    let cell = cell(&extension.url, LONG);
    for (version, replaces) in [("1", None), ("2", Some("1")), ("3", Some("2"))] {
        cell.write(&kept(version, replaces)).await.unwrap();
    }
    assert_eq!(cell.read().await, Ok(Some(kept("3", Some("2")))));
}

#[tokio::test]
async fn an_orchestration_that_failed_is_started_again() {
    let hub = Hub::default();
    let (url, server) = hub.listen().await;
    let extension = Extension::start().await;
    let cell = cell(&url, LONG);
    let value = kept("1", None);
    let host = async {
        // The handler is dead for the first turn, for the extension's good.
        let work = loop {
            if let Some(work) = hub.next() {
                break work;
            }
            tokio::task::yield_now().await;
        };
        hub.apply(work, None);
        hub.with(|hub| assert_eq!(hub.orchestrations[WRITER].status, Some(Status::Failed)));
        let handler = crate::handler::Handler::with(
            crate::handler::runs_ending(defender_alert_export::domain::heartbeat::Status::Ok).0,
            defender_alert_export::durable::Durable {
                sidecar: told(&extension.url),
                key: Some(KEY),
                clock: defender_alert_export::clock::Clock::System,
            },
        )
        .await;
        super::functions::drive(&hub, &handler.url).await;
    };
    tokio::select! {
        written = cell.write(&value) => assert_eq!(written, Ok(())),
        () = host => {}
    }
    hub.with(|hub| assert_eq!(hub.started, 2));
    server.abort();
}

#[tokio::test]
async fn a_write_not_confirmed_in_time_may_come_true_later() {
    let extension = Extension::start().await;
    extension.hub.with(|hub| hub.idle = true);
    let hasty = cell(&extension.url, Duration::from_millis(20));
    assert_eq!(hasty.write(&kept("1", None)).await, Err(NotKept::Unconfirmed));
    extension.hub.with(|hub| hub.idle = false);
    // The one that comes after it waits for it, and learns that it was late.
    let patient = cell(&extension.url, LONG);
    assert_eq!(patient.write(&kept("2", None)).await, Err(NotKept::Conflict));
    assert_eq!(patient.read().await, Ok(Some(kept("1", None))));
}

#[tokio::test]
async fn the_extension_out_of_reach_is_said_and_nothing_is_forgotten() {
    let extension = Extension::start().await;
    let cell = cell(&extension.url, LONG);
    cell.write(&kept("1", None)).await.unwrap();
    extension.hub.with(|hub| hub.down = true);
    assert_eq!(cell.read().await, Err(NotKept::Sidecar(SidecarError::Unreachable)));
    extension.hub.with(|hub| hub.down = false);
    assert_eq!(cell.read().await, Ok(Some(kept("1", None))));
}

#[tokio::test]
async fn what_others_left_in_the_entity_is_no_sign_in() {
    let extension = Extension::start().await;
    let cell = cell(&extension.url, LONG);
    for (state, expected) in [
        ("\"RT-1\"", Err(NotKept::Foreign)),
        ("{", Err(NotKept::Foreign)),
        ("null", Ok(None)),
        (
            r#""{\"version\":\"1\",\"sealed\":\"c2VhbGVk\",\"updated\":\"2026-11-21T10:00:00Z\"}""#,
            Ok(Some(kept("1", None))),
        ),
    ] {
        extension.hub.with(|hub| {
            hub.entities.entry(ENTITY.to_owned()).or_default().state = StringValue::of(state);
        });
        assert_eq!(cell.read().await, expected, "{state}");
    }
}

#[tokio::test]
async fn only_a_plain_address_on_this_machine_is_taken() {
    let sidecar = Sidecar::outside_host();
    for address in ["http://localhost:4001", "http://127.0.0.1:30000/", "http://[::1]:4001"] {
        assert_eq!(sidecar.tell(address), Ok(()), "{address}");
    }
    for address in ["", "localhost:4001", "https://localhost:4001", "http://example.org:4001"] {
        assert_eq!(sidecar.tell(address), Err(BadAddress), "{address}");
    }
}

/// What every place for the sign-in does.
async fn conforms(place: Place) {
    let mut world = World::new().await;
    world.place = place;
    assert!(world.identity().standing().await.unwrap().working().is_none());

    world.start().await;
    let refused = world.identity().start("joe").await.unwrap_err();
    assert!(matches!(refused, IdentityError::UnderWay { .. }), "{refused:?}");
    world.entra.approve(EXPORT, OID);
    world.pass(5);
    assert!(world.poll().await.working().is_some(), "another instance polls");

    let token = world.token().await.unwrap();
    assert!(token.stored && world.opens_defender(&token));
    world.pass(5_400);
    let (one, other) = (world.identity(), world.identity());
    let demand = || defender_alert_export::identity::Demand::Any;
    let (first, second) = join(one.access_token(demand()), other.access_token(demand())).await;
    assert!(world.opens_defender(&first.unwrap()) && world.opens_defender(&second.unwrap()));
    let token = world.token().await.unwrap();
    assert!(token.stored && world.opens_defender(&token));

    let mut config = world.config.clone();
    config.session_key = TWO.into();
    let audience = defender_alert_export::identity::DEFENDER_AUDIENCE;
    let locked_out = world.identity_with(&config, audience).standing().await;
    assert!(matches!(locked_out, Err(IdentityError::SealingKey(_))), "{locked_out:?}");

    world.identity().sign_out().await.unwrap();
    assert!(matches!(world.token().await, Err(IdentityError::SignInNeeded(_))));
}

#[tokio::test]
async fn a_row_keeps_the_sign_in() {
    Box::pin(conforms(Place::Row(Store::Local(Local::in_memory().unwrap())))).await;
}

#[tokio::test]
async fn a_table_keeps_the_sign_in() {
    if let Some(table) = crate::store::fresh_table() {
        Box::pin(conforms(Place::Row(table))).await;
    }
}

#[tokio::test]
async fn the_entity_keeps_the_sign_in() {
    let extension = Extension::start().await;
    Box::pin(conforms(Place::Entity(cell(&extension.url, LONG)))).await;
    let state = extension.hub.with(|hub| hub.entities[ENTITY].state.clone().unwrap().value);
    assert!(state.contains(r#""sealed":""#), "{state}");
    assert!(!state.contains(EXPORT), "{state}");
}

#[tokio::test]
async fn a_renewal_that_is_not_confirmed_still_serves_this_run_and_says_so() {
    let extension = Extension::start().await;
    let mut world = World::new().await;
    world.place = Place::Entity(cell(&extension.url, LONG));
    world.sign_in_as(EXPORT, OID).await;
    world.pass(5_400);
    extension.hub.with(|hub| hub.idle = true);
    world.place = Place::Entity(cell(&extension.url, Duration::from_millis(20)));
    let token = world.token().await.unwrap();
    assert!(!token.stored && world.opens_defender(&token));
    extension.hub.with(|hub| hub.idle = false);
    world.place = Place::Entity(cell(&extension.url, LONG));
    let token = world.token().await.unwrap();
    assert!(token.stored && world.opens_defender(&token));
}

#[tokio::test]
async fn outside_the_functions_host_people_are_told_where_to_go() {
    let mut world = World::new().await;
    let patience = Patience { confirm: LONG, look: LONG };
    world.place = Place::Entity(Cell::new(Sidecar::outside_host(), KEY, patience));
    let error = world.identity().start("jane").await.unwrap_err();
    let advice = error.advice();
    assert!(advice.message.contains("within the Functions host"), "{advice:?}");
    assert!(advice.next_step.contains("portal"), "{advice:?}");
    assert!(advice.next_step.contains("`Table`"), "{advice:?}");
}

/// The real program, killed after each turn it takes: once before its answer
/// counts, once after.
#[tokio::test]
async fn a_program_killed_between_turns_loses_and_repeats_nothing() {
    let clouds = Clouds::start(defender_alert_export::clock::Clock::System).await.unwrap();
    let mut settings = clouds.settings();
    settings.push(("AzureWebJobsStorage".to_owned(), "UseDevelopmentStorage=true".to_owned()));
    settings.push(("FunctionConfigSessionStore".to_owned(), "Entity".to_owned()));
    let client_id = defender_alert_export::sandbox::clouds::CLIENT;
    let hub = Hub::default();
    let (url, server) = hub.listen().await;
    let cell = Cell::new(
        told(&url),
        client_id,
        Patience { confirm: Duration::from_mins(2), look: Duration::from_millis(20) },
    );
    let value = kept("1", None);
    let client = http::client().unwrap();
    let host = async {
        let mut functions = Vec::new();
        loop {
            let Some(work) = hub.next() else {
                tokio::task::yield_now().await;
                if hub
                    .with(|hub| !hub.entities.is_empty() && hub.started > 0 && functions.len() >= 3)
                {
                    return functions;
                }
                continue;
            };
            let mut answers = Vec::new();
            for _ in 0..2 {
                let mut program = Program::start(&settings).await;
                answers.push(carry(&client, &program.url, &work).await.expect("an answer"));
                assert!(program.lives());
                program.kill().await;
            }
            functions.push(work.function());
            if let Work::Orchestration(_) = &work {
                assert_eq!(answers[0], answers[1], "the same turn, taken anew");
            }
            hub.apply(work, answers.last().map(Vec::as_slice));
        }
    };
    let (written, functions) = join(cell.write(&value), host).await;
    assert_eq!(written, Ok(()));
    assert_eq!(functions, ["orchestrator", "entity_state", "orchestrator"]);
    assert_eq!(cell.read().await, Ok(Some(value)));
    server.abort();
}

#[tokio::test]
async fn a_signal_is_taken_with_the_id_of_a_guid() {
    let extension = Extension::start().await;
    let sidecar = told(&extension.url);
    sidecar.signal(ENTITY, "set", Some("7"), Uuid::new_v4()).await.unwrap();
    while extension.hub.with(|hub| hub.entities[ENTITY].state.is_none()) {
        tokio::task::yield_now().await;
    }
    let refused = sidecar.signal("@Entity_State@k", "get", None, Uuid::new_v4()).await;
    assert!(matches!(refused, Err(SidecarError::Refused(_))), "{refused:?}");
}
