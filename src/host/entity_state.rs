//! The entity: operations in, results out.
//!
//! The extension sends an `EntityBatchRequest` and takes an `EntityBatchResult`.
//! Answered with an HTTP error it answers every operation with an error and
//! keeps the state; so that is what a request that cannot be read gets, for a
//! result without a state would delete the entity.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use prost::Message as _;
use tracing::{error, warn};

use super::envelope::{Answer, Arguments, Malformed, Returned};
use crate::durable::message::{Ended, EntityBatchRequest, EntityBatchResult, Timestamp};
use crate::durable::{Durable, operate};

pub(super) async fn invoke(State(durable): State<Durable>, request: Request) -> Response {
    match read(request).await {
        Ok(batch) => {
            let seconds = durable.clock.now().unix_seconds();
            let result = operate(&batch, Timestamp { seconds, nanos: 0 });
            report(&result);
            Returned(result.encode_to_vec()).into_response()
        }
        Err(malformed) => {
            error!(%malformed, "operations of the entity could not be read");
            let log = "the operations could not be read; the entity is as it was".to_owned();
            Answer { status: StatusCode::INTERNAL_SERVER_ERROR, log }.into_response()
        }
    }
}

async fn read(request: Request) -> Result<EntityBatchRequest, Malformed> {
    Arguments::read(request.into_body()).await?.message("context")
}

fn report(result: &EntityBatchResult) {
    for result in &result.results {
        if let Some(Ended::Failure(failure)) = &result.ended {
            let why = failure.failure.as_ref().map(|failure| failure.error_type.as_str());
            warn!(why, "an operation of the entity was refused");
        }
    }
}
