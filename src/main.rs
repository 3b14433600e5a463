//! Parses arguments, starts the runtime, dispatches, and ends with the verb's
//! exit code.

use std::process::ExitCode;

use clap::Parser as _;
use defender_alert_export::cli::Cli;

#[tokio::main]
async fn main() -> ExitCode {
    Cli::parse().run().await
}
