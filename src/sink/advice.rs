//! What a failed delivery means for the person who runs the trust's deployment:
//! what happened, and what to do about it, in plain words.

use std::error::Error as _;
use std::time::Duration;

use super::answer::PostError;
pub use super::place::Place;
use super::s3_advice;
use crate::azure::credential::CredentialError;
use crate::domain::advice::Advice;

/// How long Azure may take until a role assignment is in force everywhere.
/// <https://learn.microsoft.com/azure/azure-monitor/logs/tutorial-logs-ingestion-portal#assign-permissions-to-the-dcr>
const ROLE_TAKES: Duration = Duration::from_mins(30);

const API_GONE: &str = "Microsoft retired this interface (the HTTP Data Collector API) in September 2026. Set FunctionConfigAlertTargetType to LogsIngestion and run the deployment again, which makes the data collection rule it needs. Nothing is lost meanwhile: the app goes on from where it stopped.";

/// Whether `error` says that the app's role is not in force, of a deployment so
/// young that it may be in force any moment.
pub(super) fn is_early(place: Place, error: &PostError, deployed: Duration) -> bool {
    deployed < ROLE_TAKES && error.status().is_some_and(|status| place.lacks_role(status))
}

/// What `error` means at `place`, `deployed` after the deployment was made.
pub fn advise(place: Place, error: &PostError, deployed: Duration) -> Advice {
    match error {
        PostError::NoToken(error) => no_token(place, error),
        PostError::BadKey(_) => Advice::new(
            "The workspace key is not a key: it is not base64 text.",
            "Copy the primary key of the Log Analytics workspace into FunctionConfigLogAnalyticsKeyValue, whole and without spaces.",
        ),
        PostError::NotCompressed(_) => Advice::new(
            "The alerts could not be compressed for sending.",
            "Restart the Function App. If it happens again, report it to the central team.",
        ),
        PostError::NoAnswer { broken, .. } => {
            let never_reached = broken
                .source()
                .and_then(|error| error.downcast_ref::<reqwest::Error>())
                .is_some_and(reqwest::Error::is_connect);
            unreachable(place, never_reached)
        }
        PostError::Garbled => garbled(place),
        PostError::Refused(refusal) if place == Place::S3 => {
            s3_advice::refused(refusal.status, &refusal.code)
        }
        PostError::Refused(refusal) => refused(place, refusal.status, &refusal.code, deployed),
    }
}

/// What it means that rows are refused one after the other.
pub fn every_row(place: Place, last: &PostError) -> Advice {
    let name = place.name();
    let status = last.status().unwrap_or_default();
    let next_step = match place {
        Place::LogsIngestion => {
            "Run the deployment again, so that the table and the rule's stream have the columns this version sends. If that does not help, report it to the central team with the time of this run."
        }
        Place::DataCollector => {
            "Check that the table named in FunctionConfigLogAnalyticsTableName has not been changed to a type that no longer takes these rows. If it has not, report it to the central team with the time of this run."
        }
        Place::EventHubByIdentity | Place::EventHubByPolicy => {
            "Check the namespace's pricing tier: Basic takes messages of up to 256 KB only. If it is Standard or better, report it to the central team with the time of this run."
        }
        Place::StorageBlobByIdentity | Place::StorageBlobByKey | Place::S3 => {
            "Ask the network team whether a proxy between this app and the storage limits how much may be sent at once. If none does, report it to the central team with the time of this run."
        }
    };
    let next_step = format!(
        "{next_step} Once it is mended, see with `defender-alert-export replay`, or under quarantine/ in the storage container, whether earlier alerts were set aside."
    );
    Advice::new(
        format!(
            "{name} refuses every alert it is sent ({status}). These alerts are kept and sent again."
        ),
        next_step,
    )
}

fn refused(place: Place, status: u16, code: &str, deployed: Duration) -> Advice {
    let name = place.name();
    match status {
        400 if code == "InactiveCustomer" => Advice::new(
            format!("{name} is closed (400 {code})."),
            "Ask whoever owns the trust's Azure subscription why the workspace was closed.",
        ),
        400 | 413 => Advice::new(
            format!("{name} does not understand what it is sent ({status})."),
            format!("{} If all is right, report it to the central team.", place.identifiers()),
        ),
        401 | 403 if place.lacks_role(status) && deployed < ROLE_TAKES => Advice::new(
            format!(
                "{name} does not let the app in yet ({status}). Role assignments take up to 30 minutes to take effect, and this deployment is younger than that."
            ),
            format!(
                "Wait: every run tries again and nothing is lost. If this is still here half an hour after the deployment: {}",
                place.grant()
            ),
        ),
        401 if place.lacks_role(status) => Advice::new(
            format!("{name} does not let the app in (401)."),
            format!("{} If that is not it: {}", place.grant(), refused_token(place)),
        ),
        401 if place.needs_role() => Advice::new(
            format!("{name} does not accept the app's token (401), not even a fresh one."),
            refused_token(place),
        ),
        401 => Advice::new(format!("{name} does not accept the app's key (401)."), place.grant()),
        403 => Advice::new(format!("{name} does not let the app in (403)."), place.grant()),
        409 | 412 if !place.reads_rows() => not_appended(place, status, code),
        404 if place == Place::DataCollector => Advice::new(
            "There is no such Log Analytics workspace at this address (404).",
            format!(
                "{} If it is right, the interface itself may be gone. {API_GONE}",
                place.identifiers()
            ),
        ),
        404 => Advice::new(format!("{name} was not found (404)."), place.identifiers()),
        410 if place == Place::DataCollector => {
            Advice::new("The address alerts are sent to no longer exists (410).", API_GONE)
        }
        408 | 429 => {
            Advice::new(format!("{name} asks for fewer requests ({status})."), place.wait())
        }
        500..=599 => {
            Advice::new(format!("{name} has a fault of its own ({status})."), place.wait())
        }
        _ => stands_between(
            place,
            &format!("{name} seems to answer {status}, which Azure never does here"),
        ),
    }
}

/// What may be wrong with a token, fresh as it is.
fn refused_token(place: Place) -> String {
    format!(
        "Check that {} is an address of the cloud this app runs in. If it is, restart the Function App. If the app's managed identity was switched off and on again, run the deployment again: the new identity has no rights yet.",
        place.address_settings()
    )
}

/// The container is there, and the file in it takes no more.
fn not_appended(place: Place, status: u16, code: &str) -> Advice {
    if status == 412 {
        return Advice::new(
            "Others append to the same file all the time (412).",
            "Give each deployment a container of its own (FunctionConfigAlertBlobContainer). Nothing is lost meanwhile: every run tries again.",
        );
    }
    Advice::new(
        format!("{} does not take more lines just now ({status} {code}).", place.name()),
        "Every run tries again and nothing is lost. If it lasts for more than an hour, look in the container for a blob of this hour that this app did not make, and ask whoever owns the storage account whether the container was deleted or has an immutability policy that forbids appending.",
    )
}

fn garbled(place: Place) -> Advice {
    let name = place.name();
    stands_between(place, &format!("{name} seems to answer something that is not its own"))
}

fn stands_between(place: Place, what: &str) -> Advice {
    Advice::new(
        format!("{what}: perhaps a proxy or a gateway answers in its place."),
        format!(
            "Ask the network team whether something stands between this app and {}, and check {}.",
            if place == Place::S3 { "the bucket" } else { "Azure" },
            place.address_settings()
        ),
    )
}

fn unreachable(place: Place, never_reached: bool) -> Advice {
    let name = place.name();
    let address = place.address_settings();
    if !never_reached {
        return Advice::new(
            format!("{name} did not answer, or broke off in the middle."),
            place.wait(),
        );
    }
    let gone = if place == Place::DataCollector { API_GONE } else { "" };
    Advice::new(
        format!("{name} cannot be reached: no connection to its address."),
        format!(
            "Check {address}, and ask the network team whether this app can resolve that name and reach it by HTTPS (port 443). {gone}"
        )
        .trim_end(),
    )
}

fn no_token(place: Place, error: &CredentialError) -> Advice {
    match error {
        CredentialError::NoIdentity => Advice::new(
            "The Function App has no managed identity to send alerts with.",
            format!(
                "In the Azure portal, open the Function App, Identity, and switch the system-assigned identity on (a Contributor can). Then: {}",
                place.grant()
            ),
        ),
        CredentialError::NotSignedIn(_) => Advice::new(
            "This program has no identity to send alerts with: it runs outside a Function App, or the Function App has no managed identity, and nobody is signed in with az or azd.",
            format!(
                "On a Function App: open Identity in the Azure portal and switch the system-assigned identity on. On your own machine: run `az login`. Then: {}",
                place.grant()
            ),
        ),
        CredentialError::Refused { .. }
        | CredentialError::Unreachable(_)
        | CredentialError::Garbled => Advice::new(
            "The Function App could not get a token for its managed identity.",
            "Every run tries again and nothing is lost. If it lasts for more than an hour, restart the Function App, then look at Identity in the Azure portal: the identity must be on, and a user-assigned one must have the client id named in AzureWebJobsStorage__clientId.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::answer::Refusal;
    use super::*;

    const OLD: Duration = Duration::from_hours(48);
    const YOUNG: Duration = Duration::from_mins(29);
    const PLACES: [Place; 7] = [
        Place::LogsIngestion,
        Place::DataCollector,
        Place::EventHubByIdentity,
        Place::EventHubByPolicy,
        Place::StorageBlobByIdentity,
        Place::StorageBlobByKey,
        Place::S3,
    ];

    fn status(status: u16) -> PostError {
        let code = String::new();
        PostError::Refused(Refusal { status, code, request: None, retry_after: None })
    }

    #[test]
    fn every_refusal_says_what_happened_and_what_to_do() {
        for place in PLACES {
            for code in [200, 302, 400, 401, 403, 404, 408, 409, 410, 412, 413, 429, 500, 503] {
                let advice = advise(place, &status(code), OLD);
                assert!(advice.message.contains(&code.to_string()), "{place:?}: {advice:?}");
                assert!(advice.message.starts_with(char::is_uppercase), "{advice:?}");
                assert!(advice.next_step.ends_with('.'), "{place:?}: {advice:?}");
            }
        }
    }

    #[test]
    fn who_lacks_a_role_is_told_which_and_where() {
        for (place, words) in [
            (Place::LogsIngestion, "Monitoring Metrics Publisher"),
            (Place::EventHubByIdentity, "Azure Event Hubs Data Sender"),
            (Place::EventHubByPolicy, "FunctionConfigEventHubAccessKeyValue"),
            (Place::DataCollector, "FunctionConfigLogAnalyticsKeyValue"),
            (Place::StorageBlobByIdentity, "Storage Blob Data Contributor"),
            (Place::StorageBlobByKey, "AzureWebJobsStorage"),
            (Place::S3, "s3:PutObject"),
        ] {
            let advice = advise(place, &status(403), OLD);
            assert!(advice.next_step.contains(words), "{advice:?}");
            assert!(!advice.message.contains("yet"), "{advice:?}");
        }
    }

    #[test]
    fn a_fresh_role_is_waited_for_and_a_key_is_not() {
        let told = |code, age| {
            PLACES.map(|place| {
                let told = advise(place, &status(code), age).message.contains("up to 30 minutes");
                assert_eq!(told, is_early(place, &status(code), age), "{place:?} {code}");
                told
            })
        };
        assert_eq!(told(403, YOUNG), [true, false, true, false, true, false, false]);
        assert_eq!(told(401, YOUNG), [false, false, true, false, false, false, false]);
        assert_eq!((told(403, ROLE_TAKES), told(401, ROLE_TAKES)), ([false; 7], [false; 7]));
    }

    #[test]
    fn an_event_hub_that_answers_401_asks_for_the_role_and_then_for_the_token() {
        let next_step = advise(Place::EventHubByIdentity, &status(401), OLD).next_step;
        let role = next_step.find("Azure Event Hubs Data Sender").expect("the role");
        let address = next_step.find("FunctionConfigEventHubNamespace").expect("the address");
        assert!(role < address, "{next_step}");
        let by_policy = advise(Place::EventHubByPolicy, &status(401), YOUNG);
        assert!(by_policy.message.contains("the app's key (401)"), "{by_policy:?}");
    }

    #[test]
    fn the_retired_interface_says_where_to_go_instead() {
        for code in [404, 410] {
            let next_step = advise(Place::DataCollector, &status(code), OLD).next_step;
            assert!(next_step.contains("LogsIngestion"), "{code}: {next_step}");
        }
        assert!(unreachable(Place::DataCollector, true).next_step.contains("LogsIngestion"));
        assert!(!unreachable(Place::LogsIngestion, true).next_step.contains("retired"));
    }
}
