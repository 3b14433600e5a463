//! `status`: how the export stands, without running it.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::{Failure, Reporting, print, verify};
use crate::config::Vars;
use crate::domain::progress::Progress;
use crate::domain::standing::Standing;
use crate::domain::timestamp::Timestamp;

#[derive(Clone, Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    reporting: Reporting,
    /// Check that no record of a run was changed, removed or inserted.
    #[arg(long)]
    verify: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Status {
    phase: &'static str,
    position: Option<Timestamp>,
    lag_seconds: Option<u64>,
    signed_in_as: Option<String>,
    sign_in: &'static str,
    sign_in_idle_days: Option<u64>,
    unsent_heartbeats: usize,
    version: &'static str,
}

/// Prints how the export stands. Exit 0 when it can run, 1 when a person must
/// act.
pub(super) async fn status(vars: &Vars, args: &StatusArgs) -> Result<ExitCode, Failure> {
    let StatusArgs { reporting: args, verify } = args;
    let app = super::open(vars, &args.local)?;
    if *verify {
        return verify::verify(&app, args.json).await;
    }
    let checkpoint = app.state.checkpoint().await?;
    let standing = app.identity.standing().await?;
    let progress = checkpoint.map(|checkpoint| checkpoint.progress);
    let position = progress.as_ref().map(Progress::position);
    let working = standing.working();
    let status = Status {
        phase: match &progress {
            None => "never run",
            Some(Progress::Idle { .. }) => "idle",
            Some(Progress::Running { .. }) => "running",
            Some(Progress::Halted { .. }) => "halted",
        },
        position,
        lag_seconds: position.map(|position| app.clock.now().since(position).as_secs()),
        signed_in_as: working.map(|working| working.account.username.clone()),
        sign_in: match &standing {
            Standing::SignedOut => "signed out",
            Standing::Pending { .. } => "waiting for a person",
            Standing::SignedIn(_) => "signed in",
            Standing::Refused { .. } => "refused",
        },
        sign_in_idle_days: working.map(|working| working.idle_days),
        unsent_heartbeats: app.state.pending().await?.len(),
        version: env!("CARGO_PKG_VERSION"),
    };
    if args.json {
        println!("{}", serde_json::to_string(&status)?);
    } else {
        println!("{}", text(&status, &standing));
    }
    let fine = working.is_some() && !matches!(progress, Some(Progress::Halted { .. }));
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn text(status: &Status, standing: &Standing) -> String {
    let mut lines = vec![format!("Export:  {}", status.phase)];
    if let (Some(position), Some(lag)) = (status.position, status.lag_seconds) {
        lines.push(format!(
            "Position: everything before {position} is delivered ({} ago)",
            print::duration(lag)
        ));
    }
    lines.push(match (&status.signed_in_as, status.sign_in_idle_days) {
        (Some(account), Some(days)) => format!(
            "Sign-in: {account}, renewed {} ago",
            print::plural(usize::try_from(days).unwrap_or(usize::MAX), "day")
        ),
        _ => format!("Sign-in: {}", status.sign_in),
    });
    if let Standing::Refused { advice, .. } = standing {
        lines.push(format!("  {}", advice.message));
        lines.push(format!("  Next step: {}", advice.next_step));
    } else if status.signed_in_as.is_none() {
        lines.push("  Next step: run `defender-alert-export sign-in`.".to_owned());
    }
    if status.phase == "halted" {
        lines.push(
            "  Next step: see the last heartbeat; then `defender-alert-export resume`.".to_owned(),
        );
    }
    if status.unsent_heartbeats > 0 {
        lines.push(format!(
            "Waiting: {} to be sent first by the next run",
            print::plural(status.unsent_heartbeats, "heartbeat")
        ));
    }
    lines.join("\n")
}
