//! `run`: the export without the Functions host; `resume`: on after a halt.

use std::pin::pin;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use tracing::{Instrument as _, error_span};
use uuid::Uuid;

use super::{Failure, Local, Reporting, log, print};
use crate::app::App;
use crate::config::{Config, Schedule, Vars};
use crate::host;
use crate::http::retry::pause;
use crate::pipeline::Ended;

#[derive(Clone, Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    reporting: Reporting,
    /// Run once and end; otherwise run on the schedule until stopped.
    #[arg(long)]
    once: bool,
}

/// Exports once, or on the schedule until told to stop.
pub(super) async fn run(vars: &Vars, args: &RunArgs) -> Result<ExitCode, Failure> {
    let config = Config::load(vars).map_err(Failure::Config)?;
    let schedule = Schedule::parse(&config.schedule);
    let app = super::build(config, &args.reporting.local)?;
    if args.once {
        return Ok(once(&app, args.reporting.json).await?);
    }
    let schedule = schedule.context("FunctionConfigTimerSchedule cannot be understood")?;
    // Listened for from before the first run to after the last: one that comes
    // in the middle of a run must not be missed. Such a run is given up, which
    // loses nothing.
    let mut stopped = pin!(host::stop_signal());
    loop {
        let turn = async {
            once(&app, args.reporting.json).await?;
            let now = app.clock.now();
            let next = schedule.next(now).context("FunctionConfigTimerSchedule never fires")?;
            pause(next.since(now)).await;
            anyhow::Ok(())
        };
        tokio::select! {
            turn = turn => turn?,
            () = &mut stopped => {
                if !args.reporting.json {
                    print::out("Stopped.");
                }
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
}

async fn once(app: &App, json: bool) -> anyhow::Result<ExitCode> {
    let id = Uuid::new_v4();
    let span = error_span!("run", run.id = %id);
    let ended = Box::pin(app.exporter.run(id)).instrument(span).await;
    log::flush().await;
    if json {
        match &ended {
            Ended::Reported(heartbeat, _) => print::out(serde_json::to_string(heartbeat)?),
            Ended::StoodAside => print::out(r#"{"Status":"StoodAside"}"#),
        }
    } else {
        print::out(print::ended(&ended));
    }
    Ok(if ended.did_its_duty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Ends a halt.
pub(super) async fn resume(vars: &Vars, local: &Local) -> Result<ExitCode, Failure> {
    let app = super::open(vars, local)?;
    if app.state.resume().await? {
        print::out("Resumed. The next run goes on from where the export stopped.");
    } else {
        print::out("Nothing to resume: the export is not halted.");
    }
    Ok(ExitCode::SUCCESS)
}
