//! The Functions host's side: one route per function folder.
//!
//! The host starts this program, sends `GET /` every 25 ms until anything
//! answers (30 s at most), then `POST /<folder>` for each invocation. It reads
//! the answer's body only when the status is 2xx, and hangs until the function
//! times out on an answer without one: every answer here is a whole envelope.
//! See <https://learn.microsoft.com/azure/azure-functions/functions-custom-handlers>.

mod entity_state;
mod envelope;
mod invocation;
mod orchestrator;
mod runs;
mod serve;
mod timer_export;

use axum::Router;
use axum::extract::FromRef;
use axum::http::{StatusCode, Uri};
use axum::routing::{get, post};
use tracing::warn;

pub use self::invocation::in_invocations;
pub use self::runs::{Ended, Runs};
pub use self::serve::{EXIT_CODE, GRACE, NoPort, Stopped, bind, serve, stop_signal};

use self::envelope::Answer;
use crate::durable::Durable;

/// What the function folders work with.
#[derive(Clone, Debug)]
struct Functions {
    runs: Runs,
    durable: Durable,
}

impl FromRef<Functions> for Runs {
    fn from_ref(functions: &Functions) -> Self {
        functions.runs.clone()
    }
}

impl FromRef<Functions> for Durable {
    fn from_ref(functions: &Functions) -> Self {
        functions.durable.clone()
    }
}

/// Routes for the host to call.
///
/// Merge only routers without a fallback of their own into this one.
pub fn router(runs: Runs, durable: Durable) -> Router {
    let router = Router::new()
        .route("/", get(async || StatusCode::OK))
        .route("/timer_export", post(timer_export::invoke))
        .route("/entity_state", post(entity_state::invoke))
        .route("/orchestrator", post(orchestrator::invoke))
        .method_not_allowed_fallback(async || {
            let log = "this address does not take that method".to_owned();
            Answer { status: StatusCode::METHOD_NOT_ALLOWED, log }
        })
        .fallback(unknown)
        .with_state(Functions { runs, durable });
    in_invocations(router)
}

/// A function folder without a route would end here: a fault in the package.
async fn unknown(uri: Uri) -> Answer {
    warn!(path = uri.path(), "the host called a function that this program does not have");
    let log = "this program has no such function; deploy it again".to_owned();
    Answer { status: StatusCode::NOT_FOUND, log }
}
