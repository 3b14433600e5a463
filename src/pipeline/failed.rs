//! Why a run failed, in words, and what a person should do about it.

use std::iter;

use super::withheld::foreign;
use super::{RunError, Undelivered};
use crate::domain::advice::Advice;
use crate::domain::heartbeat::Status;
use crate::domain::progress::NotNow;
use crate::error_chain::Chain;
use crate::identity::IdentityError;
use crate::source::{Api, Failure, FetchError};
use crate::store::{BlobError, StoreError};

pub(super) fn failed(failure: &RunError, api: Api) -> (Status, Advice) {
    match failure {
        RunError::NotNow(NotNow::Halted { since }) => (
            Status::Halted,
            Advice::new(
                format!(
                    "The export has been stopped since {}, because alerts of another device group were met and FunctionConfigScopeGuard is `halt`.",
                    since.to_the_second()
                ),
                "Find out why the account sees other groups and have it put right, or correct FunctionConfigDeviceGroups. Changing that setting resumes the export; if it is right as it is, press Resume in this app's portal or run `defender-alert-export resume`.",
            ),
        ),
        RunError::NotNow(NotNow::Busy) => {
            (Status::Ok, Advice::new("Another instance is exporting.", ""))
        }
        RunError::SignIn(error) => sign_in(error),
        RunError::Fetch(error) => fetch(error),
        RunError::Foreign => {
            let mut advice = foreign(1, false);
            advice
                .message
                .push_str(" The export has stopped, because FunctionConfigScopeGuard is `halt`.");
            (Status::ScopeViolation, advice)
        }
        RunError::Deliver(undelivered) => (Status::SinkFailed, not_taken(undelivered)),
        RunError::State(error) => (Status::StorageFailed, storage(error)),
        RunError::SetAside(error) => (
            Status::StorageFailed,
            Advice::new(
                format!("A row could not be written to the storage container ({}).", Chain(error)),
                "Check that the storage account exists and that the app's identity holds the role Storage Blob Data Contributor on it. Nothing is lost: the next run reads the alert again.",
            ),
        ),
        RunError::TooLong => (
            Status::SourceFailed,
            Advice::new(
                "The run was given up because an answer did not come for minutes.",
                format!(
                    "Nothing to do at first: the next run goes on from what was saved. If it lasts, check the network between the app and {api}, the workspace and the storage account."
                ),
            ),
        ),
        RunError::Order(_) | RunError::NotJson(_) | RunError::Panicked => (
            Status::StorageFailed,
            Advice::new(
                format!(
                    "The program itself failed in this run ({}); the storage account is not at fault. The next run does again what was not saved.",
                    Chain(failure)
                ),
                "If the next heartbeats say so too, send this text to the central team, and put the version before this one back, as infra/README.md of the deployment zip says.",
            ),
        ),
    }
}

/// Where there are several targets, people must know which of them fail.
fn not_taken(Undelivered { first, error, more, unhindered }: &Undelivered) -> Advice {
    let others = if *unhindered > 0 { "; the other targets get theirs" } else { "" };
    let Some(((last, _), between)) = more.split_last() else {
        if *unhindered == 0 {
            return error.advice.clone();
        }
        let message = format!("{first} did not take its rows{others}. {}", error.advice.message);
        return Advice::new(message, &error.advice.next_step);
    };
    let names: Vec<_> = iter::once(*first).chain(between.iter().map(|(name, _)| *name)).collect();
    let failed = iter::once((first, error)).chain(more.iter().map(|(name, error)| (name, error)));
    let (why, steps): (Vec<_>, Vec<_>) = failed
        .map(|(name, failed)| {
            let Advice { message, next_step } = &failed.advice;
            (format!("{name}: {message}"), format!("{name}: {next_step}"))
        })
        .unzip();
    let names = names.join(", ");
    let message = format!("{names} and {last} did not take their rows{others}. {}", why.join(" "));
    Advice::new(message, steps.join(" "))
}

pub(super) fn throttled(api: Api) -> Advice {
    Advice::new(
        format!(
            "{api} asked for fewer calls: the central tenant's quota, which all trusts share, is used up for now."
        ),
        format!(
            "Nothing to do: the export goes on by itself when {api} allows it. If this stays for hours, tell the central team."
        ),
    )
}

/// What a person should do when the state cannot be used.
pub(crate) fn storage(error: &StoreError) -> Advice {
    let next_step = match error {
        StoreError::Refused { status: 403, .. } | StoreError::Unauthorized(_) => {
            "Give the app's identity (on a command line: your own account) the role Storage Table Data Contributor on the storage account (it takes up to 30 minutes to work), or correct AzureWebJobsStorage."
        }
        StoreError::Damaged => {
            "Stop this program and move the file state.redb out of the folder given with --state-dir; keep it. The position and the sign-in were in it: sign in again, and the export begins FunctionConfigInitialLookbackHours back. For what lies before that, run a backfill. What was delivered already comes again with the same ExportKey."
        }
        StoreError::Corrupt { .. } => {
            "Somebody or something else wrote to the state table. Restore the row, or delete it. Without the row Position the export begins again FunctionConfigInitialLookbackHours back: run a backfill over the time before. Without any other row alerts may come again with the same ExportKey, or somebody must sign in again."
        }
        StoreError::File(_) => {
            "Check the folder given with --state-dir: it must be writable, and only one process may use it."
        }
        StoreError::TooLarge(_) => {
            "This is a fault of the program: send this text to the central team. Nothing is lost: the next run repeats what was not saved."
        }
        StoreError::Conflict | StoreError::Unreachable(_) | StoreError::Refused { .. } => {
            "Check that the storage account exists and can be reached from the app's network. Nothing is lost: the next run repeats what was not saved."
        }
    };
    Advice::new(
        format!("The export's state could not be read or saved ({}).", Chain(error)),
        next_step,
    )
}

/// What a person should do when the container cannot be used.
pub(crate) fn container(error: &BlobError) -> Advice {
    let next_step = match error {
        BlobError::Refused { status: 403, .. } | BlobError::Unauthorized(_) => {
            "Give the app's identity (on a command line: your own account) the role Storage Blob Data Contributor on the storage account (it takes up to 30 minutes to work), or correct AzureWebJobsStorage."
        }
        BlobError::Folder(_) => "Check the folder given with --state-dir: it must be writable.",
        BlobError::BadName | BlobError::Unreachable(_) | BlobError::Refused { .. } => {
            "Check that the storage account exists and can be reached from this network, and FunctionConfigStorageContainer."
        }
    };
    Advice::new(format!("The container cannot be used ({}).", Chain(error)), next_step)
}

/// A sign-in that a person must renew is not a failure of the run.
fn sign_in(error: &IdentityError) -> (Status, Advice) {
    let status = match error {
        IdentityError::SignInNeeded(_)
        | IdentityError::NotStarted(_)
        | IdentityError::UnderWay { .. }
        | IdentityError::SealingKey(_) => Status::SignInNeeded,
        IdentityError::Busy { .. } => Status::SourceFailed,
        IdentityError::Storage(_) | IdentityError::Entity(_) => Status::StorageFailed,
    };
    (status, error.advice())
}

/// How a run that could not read alerts is described.
pub(crate) fn fetch(error: &FetchError) -> (Status, Advice) {
    let FetchError { api, failure, .. } = error;
    let setting = api.address_setting();
    let what = format!("Alerts could not be read from {api}: {failure}");
    let what = format!("{}.", what.trim_end_matches('.'));
    let next_step = match failure {
        Failure::Throttled { .. } => return (Status::SourceThrottled, throttled(*api)),
        Failure::BudgetSpent(_) | Failure::TurnOver => {
            "Nothing to do: it goes on as calls become free.".to_owned()
        }
        Failure::Forbidden { .. } => {
            "Do as the message says. Nothing is lost: the export goes on from where it stopped.".to_owned()
        }
        Failure::Unauthorized { .. } => {
            "Sign in again. If that does not help, check FunctionConfigMDETenantId and FunctionConfigMDEClientAppId with the central team.".to_owned()
        }
        Failure::Unreachable(_) => format!(
            "Check that the app's network can reach the address in {setting}. Nothing is lost: the next run tries again."
        ),
        Failure::Refused(_) => format!(
            "Check {setting}. If it is right, send this text to the central team; nothing is lost meanwhile."
        ),
        Failure::ForeignLink => format!(
            "Check {setting}: it must be the address {api} itself uses. Nothing was sent to the other server."
        ),
        Failure::Partial { .. } => {
            "Nothing to do at first: the alerts that did come were delivered, and the next run asks for all of them again. If it lasts for more than an hour, give the central team this text; set FunctionConfigAlertSource to `Defender` meanwhile.".to_owned()
        }
        Failure::Crowded => {
            "Set FunctionConfigAlertSource to `Defender` until they are read, and send this text to the central team. Nothing is lost meanwhile.".to_owned()
        }
        Failure::Failing { .. } | Failure::NotAPage(_) | Failure::NotAnAlert | Failure::Shifted => {
            "Nothing to do at first: the next run tries again with smaller pages. If it lasts for more than an hour, give the central team this text.".to_owned()
        }
    };
    (Status::SourceFailed, Advice::new(what, next_step))
}
