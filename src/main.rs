//! Parses arguments, starts the runtime, dispatches, and ends with the verb's
//! exit code.

use std::process::ExitCode;

use clap::Parser as _;
use defender_alert_export::cli::Cli;

#[tokio::main]
async fn main() -> ExitCode {
    // On a worker, where the connections are: the main thread would have to be
    // woken for every piece of every answer. A panic has been reported by then.
    tokio::spawn(Cli::parse().run()).await.unwrap_or(ExitCode::FAILURE)
}
