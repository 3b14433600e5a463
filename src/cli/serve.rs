//! `serve`: the Azure Functions host's custom handler.
//!
//! It listens before anything slow, and keeps serving whatever is wrong with
//! the settings: every timer run then answers failure with the list. It never
//! ends with 0, which the host would take for a program that still runs.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::FutureExt as _;
use tokio::time::timeout;

use super::{log, print};
use crate::app::{self, App, AppError, Faulty, FaultyPortal};
use crate::clock::Clock;
use crate::config::{Config, LoggingConfig, Vars};
use crate::durable::{Durable, Sidecar};
use crate::error_chain::Chain;
use crate::host::{self, Runs};
use crate::http::Http;
use crate::http::retry::RetryPolicy;
use crate::telemetry::{self, Streams, Telemetry};

/// How long the end of the process waits for the log container, after the time
/// a run may take to end ([`host::GRACE`]).
const LAST_LINES: Duration = Duration::from_millis(1_500);

/// Answers the host until told to stop.
pub(super) async fn serve(vars: &Vars) -> ExitCode {
    let failed = ExitCode::from(1);
    let Some(port) = vars.get("FUNCTIONS_CUSTOMHANDLER_PORT").and_then(|port| port.parse().ok())
    else {
        print::err(
            "FUNCTIONS_CUSTOMHANDLER_PORT is not set to a port; the Functions host sets it when it starts `serve`. To export without the host, use `run`.",
        );
        return ExitCode::from(2);
    };
    let socket = match host::bind(port).await {
        Ok(socket) => socket,
        Err(error) => {
            print::err(format_args!("{}. {}", Chain(&error), error.next_step()));
            return failed;
        }
    };
    let telemetry =
        match telemetry::start(LoggingConfig::load(vars), Streams::standard(), Clock::System) {
            Ok(telemetry) => telemetry,
            Err(error) => {
                print::err(Chain(&error));
                return failed;
            }
        };
    let (runs, router, _pump) = compose(vars, &telemetry);
    host::serve(socket, router, runs, host::stop_signal()).await;
    // What is not written by then is on standard error, if it was an error.
    drop(timeout(LAST_LINES, telemetry.flush()).await);
    ExitCode::from(host::EXIT_CODE)
}

/// What a timer run does, the export or saying what keeps it from running, and
/// every address.
fn compose(vars: &Vars, telemetry: &Telemetry) -> (Runs, Router, Option<telemetry::Pump>) {
    let built = match Config::load_in_host(vars) {
        Err(faults) => {
            Err((Faulty::new(vars, &faults.to_string()), FaultyPortal::of_settings(vars, &faults)))
        }
        Ok(config) => build(config).map_err(|error| {
            let fault = Chain(&error).to_string();
            (Faulty::new(vars, &fault), FaultyPortal::of_error(vars, fault))
        }),
    };
    let telemetry = telemetry.clone();
    match built {
        Ok(app) => {
            let durable = app.durable.clone();
            let pump = telemetry.append_with(log::appending(&app));
            let portal = app.portal();
            let runs = Runs::new(move |run| {
                let (exporter, telemetry) = (Arc::clone(&app.exporter), telemetry.clone());
                async move {
                    let ended = exporter.run(run).await;
                    telemetry.flush().await;
                    ended
                }
                .boxed()
            });
            let router = app::router(runs.clone(), portal, durable);
            (runs, router, pump)
        }
        Err((faulty, portal)) => {
            let faulty = Arc::new(faulty);
            let runs = Runs::new(move |run| {
                let faulty = Arc::clone(&faulty);
                async move { faulty.run(run).await }.boxed()
            });
            let durable =
                Durable { sidecar: Sidecar::outside_host(), key: None, clock: Clock::System };
            let router = app::router(runs.clone(), portal, durable);
            (runs, router, None)
        }
    }
}

fn build(config: Config) -> Result<App, AppError> {
    App::build(config, Clock::System, Http::network(RetryPolicy::RUN)?, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stopping_takes_less_than_the_ten_seconds_after_which_hosts_kill() {
        assert!(host::GRACE + LAST_LINES < Duration::from_secs(10));
    }
}
