//! `status`: how the export stands, without running it.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::{Failure, Reporting, print, verify};
use crate::config::Vars;
use crate::domain::advice::{Advice, counted};
use crate::domain::backfill::Job;
use crate::domain::job_state::{JobState, Told};
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
    /// The backfill that was begun last.
    backfill: Option<Told>,
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
    let backfill = app.exporter.backfill_state().await?;
    let progress = checkpoint.map(|checkpoint| checkpoint.progress);
    let position = progress.as_ref().map(Progress::position);
    let working = standing.working();
    let unsent = app.state.pending().await?;
    let why = unsent.iter().rev().find_map(|it| it.why.clone());
    let unsent = unsent.len();
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
        unsent_heartbeats: unsent,
        backfill: backfill.as_ref().map(JobState::told),
        version: env!("CARGO_PKG_VERSION"),
    };
    if args.json {
        print::out(serde_json::to_string(&status)?);
    } else {
        print::out(text(&status, &standing, why.as_ref()));
        if let Some(state) = &backfill {
            print::out(of_backfill(state));
        }
    }
    let fine = working.is_some()
        && !matches!(progress, Some(Progress::Halted { .. }))
        && !backfill.is_some_and(|state| state.needs_a_person());
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn of_backfill(state: &JobState) -> String {
    let Job { span, started_by, started_at, counts, .. } = &state.job;
    let mut text = format!(
        "Backfill: {} to {}, started by {started_by} at {}\n  {} %: {} delivered, {} already delivered, {} withheld, {} set aside; {}\n  {}",
        span.from.to_the_second(),
        span.to.to_the_second(),
        started_at.to_the_second(),
        state.percent(),
        counts.delivered,
        counts.duplicates,
        counts.withheld,
        counts.quarantined,
        counted(counts.calls, "call"),
        state.message(|at| at.to_the_second().to_string()),
    );
    if state.job.is_under_way() {
        let _written = write!(
            text,
            "\n  Everything of it before {} is delivered.",
            state.position.to_the_second()
        );
    }
    if !state.next_step().is_empty() {
        let _written = write!(text, "\n  Next step: {}", state.next_step());
    }
    text
}

fn text(status: &Status, standing: &Standing, unsent: Option<&Advice>) -> String {
    let mut lines = vec![format!("Export:  {}", status.phase)];
    if let (Some(position), Some(lag)) = (status.position, status.lag_seconds) {
        lines.push(format!(
            "Position: everything before {} is delivered ({} ago)",
            position.to_the_second(),
            print::duration(lag)
        ));
    }
    lines.push(match (&status.signed_in_as, status.sign_in_idle_days) {
        (Some(account), Some(days)) => {
            format!("Sign-in: {account}, renewed {} ago", counted(days, "day"))
        }
        _ => format!("Sign-in: {}", status.sign_in),
    });
    if let Standing::Refused { advice, .. } = standing {
        lines.push(format!("  {}", advice.message));
        lines.push(format!("  Next step: {}", advice.next_step));
    } else if status.signed_in_as.is_none() {
        lines.push(
            "  Next step: run `defender-alert-export sign-in`, or sign in in the app's portal."
                .to_owned(),
        );
    }
    if status.phase == "halted" {
        lines.push(
            "  Next step: do as the last heartbeat says; then `defender-alert-export resume`, or Resume in the app's portal.".to_owned(),
        );
    }
    if status.unsent_heartbeats > 0 {
        lines.push(format!(
            "Waiting: {} to be sent first by the next run",
            counted(status.unsent_heartbeats, "heartbeat")
        ));
        if let Some(Advice { message, next_step }) = unsent {
            lines.push(format!("  {message}"));
            lines.push(format!("  Next step: {next_step}"));
        }
    }
    lines.join("\n")
}
