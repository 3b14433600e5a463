//! The command line: one file per verb. Prints, decides nothing.
//!
//! Exit 0 done, 1 failed, 2 wrong usage or configuration.

mod backfill;
mod demo;
mod doctor;
mod log;
mod print;
mod replay;
mod run;
mod serve;
mod sign_in;
mod status;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::app::{App, AppError};
use crate::clock::Clock;
use crate::config::{Config, ConfigError, Vars};
use crate::http::Http;
use crate::http::retry::RetryPolicy;

/// Carries Microsoft Defender for Endpoint alerts of one trust to its own
/// workspace.
#[derive(Debug, Parser)]
#[command(name = "defender-alert-export", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Answer the Azure Functions host as its custom handler.
    Serve,
    /// Sign in with a code, and keep the sign-in sealed.
    SignIn(Local),
    /// Forget the sign-in.
    SignOut(Local),
    /// Export without the Functions host, on the schedule of the settings.
    Run(run::RunArgs),
    /// Export a span of the past, beside the live export.
    Backfill(backfill::BackfillArgs),
    /// List what was set aside, and send it again.
    Replay(replay::ReplayArgs),
    /// Go on after a halt: a person has looked at the alerts of foreign groups.
    Resume(Local),
    /// How the export stands.
    Status(status::StatusArgs),
    /// Check everything once, before or after the deployment, and say what to do.
    Doctor(Reporting),
    /// Show the whole export against clouds served on this machine.
    Demo(demo::DemoArgs),
}

/// Where state is kept when no storage account is configured.
#[derive(Clone, Debug, Args)]
pub(crate) struct Local {
    /// Folder for state when no storage account is configured.
    #[arg(long, default_value = "./.defender-alert-export")]
    pub(crate) state_dir: PathBuf,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Reporting {
    #[command(flatten)]
    pub(crate) local: Local,
    /// Print JSON for machines.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Why a verb could not do its work.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Exit 2.
    Config(ConfigError),
    /// Exit 1.
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Cli {
    /// Runs the verb.
    pub async fn run(self) -> ExitCode {
        let vars = Vars::Process;
        let outcome = match log::start(&vars, &self.verb) {
            Ok(()) => self.verb.run(&vars).await,
            Err(error) => Err(error.into()),
        };
        log::flush().await;
        match outcome {
            Ok(code) => code,
            Err(Failure::Config(error)) => {
                print::err(print::faults(&error));
                ExitCode::from(2)
            }
            Err(Failure::Failed(error)) => {
                print::err(print::failure(&error));
                ExitCode::from(1)
            }
        }
    }
}

impl Verb {
    async fn run(self, vars: &Vars) -> Result<ExitCode, Failure> {
        match self {
            Self::Serve => Ok(serve::serve(vars).await),
            Self::SignIn(local) => sign_in::sign_in(vars, &local).await,
            Self::SignOut(local) => sign_in::sign_out(vars, &local).await,
            Self::Run(args) => run::run(vars, &args).await,
            Self::Backfill(args) => Box::pin(backfill::backfill(vars, &args)).await,
            Self::Replay(args) => replay::replay(vars, &args).await,
            Self::Resume(local) => run::resume(vars, &local).await,
            Self::Status(args) => status::status(vars, &args).await,
            Self::Doctor(args) => doctor::doctor(vars, &args).await,
            Self::Demo(args) => demo::demo(&args).await,
        }
    }
}

/// The parts, for a verb that works on this machine.
pub(crate) fn open(vars: &Vars, local: &Local) -> Result<App, Failure> {
    let config = Config::load(vars).map_err(Failure::Config)?;
    build(config, local).map_err(Failure::from)
}

fn build(config: Config, local: &Local) -> Result<App, AppError> {
    let http = Http::network(RetryPolicy::RUN)?;
    let app = App::build(config, Clock::System, http, Some(&local.state_dir))?;
    log::append_with(&app);
    Ok(app)
}
