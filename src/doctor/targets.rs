//! The app's own identity, and every target with an empty post.
//!
//! An empty array is taken with 204 by a data collection rule. What the Data
//! Collector and Event Hubs make of one is not documented: if they take it,
//! address and right are proven; if they answer 400, neither is disproven, and
//! no made-up row goes where analysts look.

use super::{Patient, columns, may_not_look};
use crate::azure::credential::CredentialError;
use crate::azure::storage;
use crate::config::{EventHubAuth, HeartbeatTarget, StorageAuth, Target};
use crate::domain::check::{Check, Section, Verdict};
use crate::domain::checkpoint::Checkpoint;
use crate::domain::timestamp::Timestamp;
use crate::error_chain::Chain;
use crate::sink::answer::PostError;
use crate::sink::{Sink, Unsent, event_hub, logs_ingestion};

const SECTION: Section = Section::Targets;
const IDENTITY: &str = "identity";
const TARGET: &str = "target";
const HEARTBEATS: &str = "heartbeats";

/// Why nothing that needs the app's identity was checked.
pub(super) const NOBODY: &str = "this process has no identity: it is not the Function App, and nobody is signed in with az or azd";

/// `identity`, a `target` each, `heartbeats` and `columns`.
pub(super) async fn checks(patient: &Patient, past: Option<&Checkpoint>) -> Vec<Check> {
    // Unknown, no age is claimed: roles then count as in force.
    let deployed_at = past.map_or(Timestamp::EPOCH, |past| past.deployed_at);
    // First, and alone: of many that wait for `az` at once all would be late.
    let mut checks = vec![patient.line(IDENTITY, SECTION, identity(patient)).await];
    let outlets = &patient.outlets;
    let alerts = outlets.alerts.iter().map(|sink| (TARGET, sink));
    let heartbeats = outlets.heartbeats.iter().map(|sink| (HEARTBEATS, sink));
    let posts = alerts
        .chain(heartbeats)
        .map(|(name, sink)| patient.line(name, SECTION, post(patient, name, sink, deployed_at)));
    checks.extend(futures_util::future::join_all(posts).await);
    checks.extend(outlets.unusable.iter().map(|error| {
        let next_step = "Check the settings of that target; the README lists each with its form.";
        let reason = format!("A target cannot be used ({}).", Chain(error));
        Check::new(TARGET, SECTION, Verdict::Fail, reason, next_step)
    }));
    if outlets.alerts.is_empty() && outlets.unusable.is_empty() {
        checks.push(Check::not_checked(TARGET, SECTION, "settings are wrong"));
    }
    checks.extend(columns::check(patient).await);
    checks
}

/// What the app asks for in its own name.
fn audiences(patient: &Patient) -> Vec<&'static str> {
    let parts = &patient.parts;
    let account = parts.storage.as_ref().and_then(|storage| storage.account.as_ref());
    let state = account.is_some_and(|account| matches!(account.auth, StorageAuth::Identity));
    let rule = parts.targets.iter().any(|target| matches!(target, Target::LogsIngestion(_)))
        || matches!(parts.heartbeats, Some(HeartbeatTarget::LogsIngestion(_)));
    let hub = parts.targets.iter().any(|target| {
        matches!(target, Target::EventHub(hub) if matches!(hub.auth, EventHubAuth::Identity))
    });
    let files = parts.targets.iter().any(|target| {
        matches!(target, Target::StorageBlob(files) if matches!(files.auth, StorageAuth::Identity))
    });
    let needed = [
        (state || files, storage::RESOURCE),
        (rule, logs_ingestion::AUDIENCE),
        (hub, event_hub::AUDIENCE),
    ];
    needed.into_iter().filter_map(|(needed, audience)| needed.then_some(audience)).collect()
}

async fn identity(patient: &Patient) -> Check {
    let needed = audiences(patient);
    let parts = &patient.parts;
    if needed.is_empty() && (parts.targets.is_empty() || parts.storage.is_none()) {
        return Check::not_checked(IDENTITY, SECTION, "settings are wrong");
    }
    if needed.is_empty() {
        let reason = "Nothing is done in the app's own name: keys are used throughout.";
        return Check::ok(IDENTITY, SECTION, reason);
    }
    for audience in &needed {
        if let Err(error) = patient.credential.token(audience).await {
            return no_token(&error, patient.parts.platform.is_app);
        }
    }
    let reason = if patient.parts.host.managed_identity.is_some() {
        "The app's managed identity gives the tokens that are needed."
    } else {
        "Outside the Function App: tokens come from whoever is signed in with az or azd. What is checked below are that person's rights, not the app's."
    };
    Check::ok(IDENTITY, SECTION, reason)
}

fn no_token(error: &CredentialError, is_app: bool) -> Check {
    let switch_on = "In the Azure portal, open the Function App, Identity, and switch the system-assigned identity on; running the deployment again does it and gives it its roles. A user-assigned identity must have the client id in AzureWebJobsStorage__clientId.";
    match error {
        CredentialError::NotSignedIn(_) if !is_app => Check::new(
            IDENTITY,
            SECTION,
            Verdict::Warn,
            "This process is not the Function App and so has no managed identity, and nobody is signed in with az or azd.",
            "Before the deployment that is right. To check targets and storage from here, run `az login` first.",
        ),
        CredentialError::NotSignedIn(_) | CredentialError::NoIdentity => Check::new(
            IDENTITY,
            SECTION,
            Verdict::Fail,
            "The Function App has no managed identity, so it can use neither its storage nor its targets.",
            switch_on,
        ),
        CredentialError::Refused { .. }
        | CredentialError::Unreachable(_)
        | CredentialError::Garbled => Check::new(
            IDENTITY,
            SECTION,
            Verdict::Fail,
            format!(
                "The Function App could not get a token for its managed identity ({}).",
                Chain(error)
            ),
            format!(
                "Run `doctor` again in a few minutes, then restart the Function App. If it stays: {switch_on}"
            ),
        ),
    }
}

async fn post(patient: &Patient, name: &'static str, sink: &Sink, deployed_at: Timestamp) -> Check {
    let what = match name {
        HEARTBEATS => format!("Heartbeats ({})", sink.name()),
        _ => sink.name().to_owned(),
    };
    match sink.probe(deployed_at).await {
        Ok(()) => taken(name, &what, sink),
        Err(unsent) => {
            let lacks_role = |status: &u16| sink.place().lacks_role(*status);
            match unsent.error.last.status().filter(lacks_role) {
                Some(status) if patient.has_a_persons_rights() => {
                    may_not_look(name, SECTION, &what, status)
                }
                Some(_) | None => not_taken(name, &what, sink, unsent),
            }
        }
    }
}

fn taken(name: &'static str, what: &str, sink: &Sink) -> Check {
    match sink {
        Sink::DataCollector(_) => Check::new(
            name,
            SECTION,
            Verdict::Warn,
            format!(
                "{what}: an empty post was taken, but Microsoft retired this interface on 14 September 2026 and it may stop without notice."
            ),
            "Set FunctionConfigAlertTargetType to LogsIngestion and run the deployment again, which makes the data collection rule it needs.",
        ),
        Sink::LogsIngestion(_) | Sink::EventHub(_) => {
            Check::ok(name, SECTION, format!("{what}: an empty post was taken."))
        }
        Sink::StorageBlob(_) | Sink::S3(_) => {
            Check::ok(name, SECTION, format!("{what}: an empty file, `_doctor`, was written."))
        }
    }
}

fn not_taken(name: &'static str, what: &str, sink: &Sink, unsent: Unsent) -> Check {
    let error = &unsent.error.last;
    if matches!(error, PostError::NoToken(CredentialError::NotSignedIn(_))) {
        return Check::not_checked(name, SECTION, NOBODY);
    }
    if error.status() == Some(400) && matches!(sink, Sink::DataCollector(_) | Sink::EventHub(_)) {
        return Check::new(
            name,
            SECTION,
            Verdict::Warn,
            format!(
                "{what}: the address answers, and refuses a post without rows (400). Whether it takes rows shows with the next one."
            ),
            "Nothing now. If heartbeats say SinkFailed, do as they say.",
        );
    }
    let reason = format!("{what}: {}", unsent.advice.message);
    Check::new(name, SECTION, Verdict::Fail, reason, unsent.advice.next_step)
}
