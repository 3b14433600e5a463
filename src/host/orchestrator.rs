//! The orchestration: a history in, actions out.
//!
//! The extension sends an `OrchestratorRequest` and takes an
//! `OrchestratorResponse`. Whatever happens is answered with 200: an HTTP error
//! would end the orchestration for good without saying why.

use axum::extract::{Request, State};
use prost::Message as _;
use tracing::error;

use super::envelope::{Arguments, Malformed, Returned};
use crate::durable::message::OrchestratorRequest;
use crate::durable::{Durable, entity_id, fail, turn};

pub(super) async fn invoke(State(durable): State<Durable>, request: Request) -> Returned {
    let response = match read(request).await {
        Ok(request) => turn(&request, durable.key.map(entity_id).as_deref()),
        Err(malformed) => {
            error!(%malformed, "the history of an orchestration could not be read");
            fail("UnreadableHistory", &format!("the request is {malformed}"))
        }
    };
    Returned(response.encode_to_vec())
}

async fn read(request: Request) -> Result<OrchestratorRequest, Malformed> {
    Arguments::read(request.into_body()).await?.message("context")
}
