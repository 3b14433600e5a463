//! No token, code or key shows anywhere but where it is sent.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use defender_alert_export::error_chain::Chain;
use defender_alert_export::identity::{Demand, IdentityError};
use defender_alert_export::sandbox::entra::AadstsError;
use defender_alert_export::sandbox::script::Fault;
use defender_alert_export::store::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::{Layer, Registry};
use uuid::Uuid;

use crate::sign_in::{EXPORT, OID, ONE, World};

/// Everything logged, at every level, by every crate.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

impl<S: Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut line = Line(event.metadata().target().to_owned());
        event.record(&mut line);
        writeln!(self.0.lock().unwrap(), "{}", line.0).unwrap();
    }
}

/// The secret as it could be found in bytes: as text and in base64, wherever it
/// begins.
pub(crate) fn disguises(secret: &str) -> Vec<String> {
    // Long ones begin with the kind of token, which is no secret.
    let skipped = if secret.len() > 40 { secret.len() / 2 } else { 0 };
    let part: String = secret.chars().skip(skipped).take(60).collect();
    let mut all = vec![part.clone()];
    for shift in 0..3 {
        let mut bytes: Vec<u8> = part.bytes().skip(shift).collect();
        bytes.truncate(bytes.len() / 3 * 3);
        all.push(STANDARD_NO_PAD.encode(&bytes));
        all.push(URL_SAFE_NO_PAD.encode(&bytes));
    }
    all
}

/// What a sign-in shows of itself, and the rows it was stored as.
#[derive(Default)]
struct Traces {
    shown: String,
    stored: Vec<String>,
}

impl Traces {
    fn keep(&mut self, what: &dyn std::fmt::Debug) {
        write!(self.shown, "{what:?}").unwrap();
    }

    fn keep_error(&mut self, error: &IdentityError) {
        self.keep(&format!("{} {:?} {error:?}", Chain(error), error.advice()));
    }

    async fn keep_row(&mut self, world: &World) {
        let row = world.store.get("Session").await.unwrap().unwrap();
        let text = row.fields.values().map(|value| match value {
            Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Value::Text(_) | Value::Int(_) | Value::Bool(_) => format!("{value:?}"),
        });
        self.stored.push(text.collect());
    }
}

/// A code, a sign-in, a renewal, trouble, another account, a refusal.
async fn a_life(world: &World) -> Traces {
    let mut traces = Traces::default();
    let identity = world.identity();
    traces.keep(&identity);
    traces.keep(&world.config);
    traces.keep(&identity.start("jane").await);
    traces.keep(&identity.start("jane").await);
    traces.keep_row(world).await;
    world.entra.script.push([Fault::LoseAnswer]);
    world.pass(5);
    traces.keep(&identity.poll().await);
    world.pass(10);
    world.entra.approve(EXPORT, OID);
    traces.keep(&identity.poll().await);
    traces.keep(&identity.access_token(Demand::Any).await);
    traces.keep_row(world).await;
    world.pass(75 * 60);
    world.entra.script.push([Fault::status(503)]);
    traces.keep_error(&identity.access_token(Demand::Any).await.unwrap_err());
    world.pass(60);
    traces.keep(&identity.access_token(Demand::Any).await);
    traces.keep(&identity);
    traces.keep_row(world).await;
    traces.keep(&identity.start("jane").await);
    world.entra.approve("other@example.nhs.uk", Uuid::from_u128(3));
    world.pass(5);
    traces.keep(&identity.poll().await);
    world.pass(75 * 60);
    world.entra.fail_with(AadstsError::new("invalid_grant", 50_173));
    traces.keep_error(&identity.access_token(Demand::Any).await.unwrap_err());
    traces.keep_row(world).await;
    traces
}

#[tokio::test]
async fn no_secret_is_logged_stored_in_clear_or_shown_by_debug_or_an_error() {
    let log = Log::default();
    // With one subscriber alone, other threads' tests decide what is logged.
    let _second = tracing::Dispatch::new(Registry::default());
    let _guard = tracing::subscriber::set_default(Registry::default().with(log.clone()));
    let world = World::new().await;
    let Traces { shown, stored } = a_life(&world).await;
    let logged = log.0.lock().unwrap().clone();

    assert!(logged.contains("the sign-in was renewed"), "{logged}");
    for personal in ["jane", EXPORT, "other@"] {
        assert!(!logged.contains(personal), "{personal} logged");
    }
    let secrets = world.entra.tokens.secrets();
    assert!(secrets.len() > 8);
    for secret in secrets.iter().map(String::as_str).chain([ONE]) {
        for disguise in disguises(secret) {
            assert!(!logged.contains(&disguise), "logged: {disguise}");
            assert!(!shown.contains(&disguise), "shown: {disguise}");
            assert!(stored.iter().all(|row| !row.contains(&disguise)), "stored: {disguise}");
        }
    }
}
