//! What a failed delivery means for the person who runs the trust's deployment:
//! what happened, and what to do about it, in plain words.

use std::error::Error as _;
use std::time::Duration;

use super::answer::PostError;
use crate::azure::credential::CredentialError;
use crate::domain::advice::Advice;

/// How long Azure may take until a role assignment is in force everywhere.
/// <https://learn.microsoft.com/azure/azure-monitor/logs/tutorial-logs-ingestion-portal#assign-permissions-to-the-dcr>
const ROLE_TAKES: Duration = Duration::from_mins(30);

/// A destination, as far as advice differs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// Data collection rule, by the app's identity.
    LogsIngestion,
    /// Workspace, by its key.
    DataCollector,
    /// Event hub, by the app's identity.
    EventHubByIdentity,
    /// Event hub, by a shared access policy.
    EventHubByPolicy,
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Self::LogsIngestion => "The data collection rule",
            Self::DataCollector => "The Log Analytics workspace",
            Self::EventHubByIdentity | Self::EventHubByPolicy => "The event hub",
        }
    }

    /// The settings its address is made of.
    fn address_settings(self) -> &'static str {
        match self {
            Self::LogsIngestion => "FunctionConfigLogsIngestionEndpoint",
            Self::DataCollector => {
                "FunctionConfigLogAnalyticsWorkspaceId (and FunctionConfigLogAnalyticsEndpoint, if set)"
            }
            Self::EventHubByIdentity | Self::EventHubByPolicy => {
                "FunctionConfigEventHubNamespace (and FunctionConfigEventHubEndpoint, if set)"
            }
        }
    }

    /// The right to send, and who can give it.
    fn grant(self) -> &'static str {
        match self {
            Self::LogsIngestion => {
                "In the Azure portal, open the data collection rule, Access control (IAM), and give the Function App's managed identity the role \"Monitoring Metrics Publisher\". An Owner or User Access Administrator of the resource group can do this; running the deployment again does it too. If the role is there, ask whether the rule's endpoint is closed to public networks."
            }
            Self::DataCollector => {
                "Copy the workspace's primary key again into FunctionConfigLogAnalyticsKeyValue and check FunctionConfigLogAnalyticsWorkspaceId and this machine's clock, which may be 15 minutes off at most. If all are right, ask a Log Analytics Contributor whether the workspace has local authentication switched off or is closed to public networks, and whether a proxy inspects this app's traffic. Consider FunctionConfigAlertTargetType LogsIngestion, which needs no key."
            }
            Self::EventHubByIdentity => {
                "In the Azure portal, open the event hub, Access control (IAM), and give the Function App's managed identity the role \"Azure Event Hubs Data Sender\". An Owner or User Access Administrator of the resource group can do this. If the role is there, check under Networking of the namespace that this app may reach it."
            }
            Self::EventHubByPolicy => {
                "In the Azure portal, open the event hub's Shared access policies. The policy named in FunctionConfigEventHubAccessKeyName must exist and have the right Send; copy its primary key again into FunctionConfigEventHubAccessKeyValue. FunctionConfigEventHubAccessKeyType must be Namespace if the policy belongs to the whole namespace, else EventHub. An Owner or Contributor of the namespace can do this."
            }
        }
    }

    /// What to compare when the address leads nowhere.
    fn identifiers(self) -> &'static str {
        match self {
            Self::LogsIngestion => {
                "Compare FunctionConfigLogsIngestionRuleId with the rule's immutable id and FunctionConfigLogsIngestionEndpoint with its logs ingestion address (JSON view of the rule in the portal), and check that the rule has the streams Custom-{FunctionConfigLogAnalyticsTableName} and Custom-Heartbeat. Running the deployment again sets all of them."
            }
            Self::DataCollector => {
                "Compare FunctionConfigLogAnalyticsWorkspaceId with the Workspace ID on the workspace's overview page, and remove FunctionConfigLogAnalyticsEndpoint unless you need it."
            }
            Self::EventHubByIdentity | Self::EventHubByPolicy => {
                "Compare FunctionConfigEventHubNamespace and FunctionConfigEventHubName with the namespace and the hub in the Azure portal. If the hub was deleted, create it again."
            }
        }
    }
}

const API_GONE: &str = "Microsoft retired this interface (the HTTP Data Collector API) in September 2026. Set FunctionConfigAlertTargetType to LogsIngestion and run the deployment again, which makes the data collection rule it needs. Nothing is lost meanwhile: the app goes on from where it stopped.";
const WAIT: &str = "Nothing to do: every run tries again and nothing is lost. If it lasts for more than an hour, look at status.azure.com and at the quotas of the resource, then ask Microsoft support.";

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
            "Restart the Function App. If it happens again, report it to the makers of this program.",
        ),
        PostError::NoAnswer { broken, .. } => {
            let never_reached = broken
                .source()
                .and_then(|error| error.downcast_ref::<reqwest::Error>())
                .is_some_and(reqwest::Error::is_connect);
            unreachable(place, never_reached)
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
            "Run the deployment again, so that the table and the rule's stream have the columns this version sends. If that does not help, report it to the makers of this program with the time of this run."
        }
        Place::DataCollector => {
            "Check that the table named in FunctionConfigLogAnalyticsTableName has not been changed to a type that no longer takes these rows. If it has not, report it to the makers of this program with the time of this run."
        }
        Place::EventHubByIdentity | Place::EventHubByPolicy => {
            "Check the namespace's pricing tier: Basic takes messages of up to 256 KB only. If it is Standard or better, report it to the makers of this program with the time of this run."
        }
    };
    Advice::new(
        format!(
            "{name} refuses every alert it is sent ({status}). No alert was set aside; they are kept and sent again."
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
            format!(
                "{} If all is right, report it to the makers of this program.",
                place.identifiers()
            ),
        ),
        401 if !needs_role(place) => {
            Advice::new(format!("{name} does not accept the app's key (401)."), place.grant())
        }
        401 => Advice::new(
            format!("{name} does not accept the app's token (401), not even a fresh one."),
            format!(
                "Check that {} is an address of the cloud this app runs in. If it is, restart the Function App. If the app's managed identity was switched off and on again, run the deployment again: the new identity has no rights yet.",
                place.address_settings()
            ),
        ),
        403 if deployed < ROLE_TAKES && needs_role(place) => Advice::new(
            format!(
                "{name} does not let the app in yet (403). Role assignments take up to 30 minutes to take effect, and this deployment is younger than that."
            ),
            format!(
                "Wait: every run tries again and nothing is lost. If this is still here half an hour after the deployment: {}",
                place.grant()
            ),
        ),
        403 => Advice::new(format!("{name} does not let the app in (403)."), place.grant()),
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
        408 | 429 => Advice::new(format!("{name} asks for fewer requests ({status})."), WAIT),
        500..=599 => Advice::new(format!("{name} has a fault of its own ({status})."), WAIT),
        _ => Advice::new(
            format!(
                "{name} seems to answer {status}, which Azure never does here: perhaps a proxy or a gateway answers in its place."
            ),
            format!(
                "Ask the network team whether something stands between this app and Azure, and check {}.",
                place.address_settings()
            ),
        ),
    }
}

fn unreachable(place: Place, never_reached: bool) -> Advice {
    let name = place.name();
    let address = place.address_settings();
    if !never_reached {
        return Advice::new(format!("{name} did not answer, or broke off in the middle."), WAIT);
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

/// Whether a role lets the app in, and roles take time.
fn needs_role(place: Place) -> bool {
    match place {
        Place::LogsIngestion | Place::EventHubByIdentity => true,
        Place::DataCollector | Place::EventHubByPolicy => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::answer::Refusal;
    use super::*;

    const OLD: Duration = Duration::from_hours(48);
    const YOUNG: Duration = Duration::from_mins(29);
    const PLACES: [Place; 4] = [
        Place::LogsIngestion,
        Place::DataCollector,
        Place::EventHubByIdentity,
        Place::EventHubByPolicy,
    ];

    fn status(status: u16) -> PostError {
        let code = String::new();
        PostError::Refused(Refusal { status, code, request: None, retry_after: None })
    }

    #[test]
    fn every_refusal_says_what_happened_and_what_to_do() {
        for place in PLACES {
            for code in [200, 302, 400, 401, 403, 404, 408, 410, 413, 429, 500, 503] {
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
        ] {
            let advice = advise(place, &status(403), OLD);
            assert!(advice.next_step.contains(words), "{advice:?}");
            assert!(!advice.message.contains("yet"), "{advice:?}");
        }
    }

    #[test]
    fn a_fresh_role_is_waited_for_and_a_key_is_not() {
        let young = |place| advise(place, &status(403), YOUNG).message.contains("up to 30 minutes");
        assert_eq!(PLACES.map(young), [true, false, true, false]);
        let old = |place| advise(place, &status(403), ROLE_TAKES).message.contains("30 minutes");
        assert_eq!(PLACES.map(old), [false; 4]);
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
