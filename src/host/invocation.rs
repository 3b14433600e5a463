//! Whose invocation a log line is of: each request's, whatever address it has.
//!
//! The host names the invocation in a header, also on the requests that it
//! passes on under their own path.

use axum::Router;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use tracing::{Instrument as _, error_span};
use uuid::Uuid;

/// The host's own id for this invocation, or one that stands in for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Invocation(pub(super) Uuid);

/// `router`, each of whose lines carries the id of the invocation.
pub fn in_invocations(router: Router) -> Router {
    router.layer(from_fn(open))
}

async fn open(mut request: Request, next: Next) -> Response {
    let id = named(request.headers()).unwrap_or_else(Uuid::new_v4);
    request.extensions_mut().insert(Invocation(id));
    // At error level, so that no logging level takes the id off a line.
    let span = error_span!("invocation", invocation.id = %id);
    next.run(request).instrument(span).await
}

/// A GUID.
fn named(headers: &HeaderMap) -> Option<Uuid> {
    let id = headers.get("x-azure-functions-invocationid")?.to_str().ok()?;
    Uuid::try_parse(id.trim()).ok()
}
