//! The timer: go.
//!
//! The schedule drives and the state decides, so the request says nothing that
//! matters but where Durable Functions listens: it can be empty or garbage, and the run takes place. A failed run is
//! answered with 500 after its heartbeat went out, so that the host counts it.

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use tracing::{error, error_span, info, warn};

use super::envelope::{Answer, Arguments};
use super::invocation::Invocation;
use super::runs::{Ended, Runs};
use crate::domain::heartbeat::{Heartbeat, Status, Unsent};
use crate::durable::Durable;

pub(super) async fn invoke(
    State(runs): State<Runs>,
    State(durable): State<Durable>,
    Extension(Invocation(id)): Extension<Invocation>,
    request: Request,
) -> Answer {
    match Arguments::read(request.into_body()).await {
        Ok(arguments) => {
            if arguments.flag("timer", "IsPastDue") == Some(true) {
                info!("this run is late: the app was not running when it was due");
            }
            if let Some(address) = arguments.text("client", "rpcBaseUrl")
                && let Err(error) = durable.sidecar.tell(&address)
            {
                warn!(%error, "the address of Durable Functions cannot be used");
            }
        }
        Err(malformed) => {
            warn!(%malformed, "the host's request could not be understood; running all the same");
        }
    }
    let (status, log) = match runs.run(id).await {
        Ended::Reported(heartbeat, unsent) => {
            report(&heartbeat);
            let mut log = summary(&heartbeat);
            if let Some(Unsent { count, advice }) = unsent.as_deref() {
                error!(
                    heartbeats = count,
                    reason = advice.message,
                    next_step = advice.next_step,
                    "heartbeats could not be sent; every run tries them again"
                );
            }
            if let Some(unsent) = unsent {
                log = format!("{log} {} {}", unsent.message(), unsent.advice.next_step);
            }
            let status = if heartbeat.status.did_its_duty() {
                StatusCode::OK
            } else {
                StatusCode::INTERNAL_SERVER_ERROR
            };
            (status, log)
        }
        Ended::Refused => {
            info!("a run is already under way; nothing started");
            (StatusCode::OK, "a run is already under way; nothing started".to_owned())
        }
        Ended::StoodAside => {
            info!("another instance is exporting; nothing was done here");
            (StatusCode::OK, "another instance is exporting; nothing was done here".to_owned())
        }
        Ended::Crashed => {
            error!("the run crashed, which is a bug; the next run does again what was not saved");
            (StatusCode::INTERNAL_SERVER_ERROR, "the run crashed".to_owned())
        }
    };
    Answer { status, log }
}

/// The one line a run leaves behind. Not who is signed in: that is personal.
fn report(heartbeat: &Heartbeat) {
    let counts = heartbeat.counts;
    let span = error_span!(
        "run",
        run.status = ?heartbeat.status,
        run.message = heartbeat.message,
        run.next_step = heartbeat.next_step,
        alerts.fetched = counts.fetched,
        alerts.delivered = counts.delivered,
        alerts.duplicates = counts.duplicates,
        alerts.withheld = counts.withheld,
        alerts.quarantined = counts.quarantined,
        source.calls = counts.calls,
        lag_seconds = heartbeat.lag_seconds,
        duration_ms = heartbeat.duration_ms,
    );
    span.in_scope(|| match heartbeat.status {
        Status::Ok | Status::CatchingUp | Status::Reconciled if counts.quarantined > 0 => {
            warn!("run done; it set alerts aside");
        }
        Status::Ok | Status::CatchingUp | Status::Reconciled => info!("run done"),
        Status::SignInNeeded
        | Status::SignInExpiring
        | Status::ScopeViolation
        | Status::SourceThrottled => warn!("run done; it needs attention"),
        Status::Halted
        | Status::SourceFailed
        | Status::SinkFailed
        | Status::StorageFailed
        | Status::ConfigInvalid => error!("run failed"),
    });
}

/// One line for people who look at the function's own log.
fn summary(heartbeat: &Heartbeat) -> String {
    let counts = heartbeat.counts;
    format!(
        "{:?}: {} delivered, {} already delivered, {} withheld, {} set aside in {} ms. {} {}",
        heartbeat.status,
        counts.delivered,
        counts.duplicates,
        counts.withheld,
        counts.quarantined,
        heartbeat.duration_ms,
        heartbeat.message,
        heartbeat.next_step,
    )
    .trim_end()
    .to_owned()
}
