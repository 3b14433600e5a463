//! The identity tenant, the application there, and its consent to Graph.

use super::Patient;
use super::sign_in::SignedIn;
use crate::config::SourceKind;
use crate::domain::check::{Check, Section, Verdict};
use crate::domain::retirement;
use crate::identity::{Consent, GRAPH_AUDIENCE, Identity, IdentityError, Tenant};

const SECTION: Section = Section::Application;

pub(super) async fn tenant(patient: &Patient, identity: &Identity) -> Check {
    const NAME: &str = "tenant";
    let check = async {
        match identity.tenant().await {
            Ok(Tenant::Found) => Check::ok(
                NAME,
                SECTION,
                "The identity service knows the tenant and is used at the addresses it names.",
            ),
            Ok(Tenant::Otherwise(how)) => Check::new(
                NAME,
                SECTION,
                Verdict::Fail,
                format!("The identity service answers, but {how}."),
                "Check FunctionConfigIdentityAuthority: it must be the identity service of the cloud the tenant is in (https://login.microsoftonline.com for most), and nothing may stand in between.",
            ),
            Ok(Tenant::Refused(advice)) => Check::advised(NAME, SECTION, Verdict::Fail, advice),
            Err(error) => Check::advised(NAME, SECTION, Verdict::Fail, error.advice()),
        }
    };
    patient.line(NAME, SECTION, check).await
}

/// Whether the application is there and is a public client. A sign-in that
/// Entra renewed proves both; only without one a code is asked for.
pub(super) async fn application(
    patient: &Patient,
    identity: &Identity,
    signed_in: &SignedIn,
) -> Check {
    const NAME: &str = "application";
    if signed_in.token.is_some() {
        let reason = "The application is known and a public client: it renews the sign-in.";
        return Check::ok(NAME, SECTION, reason);
    }
    let check = async {
        match identity.try_application().await {
            Ok(()) => Check::ok(
                NAME,
                SECTION,
                "The identity service knows the application and hands out codes for it. Whether `Allow public client flows` is on shows for certain with the first sign-in.",
            ),
            Err(error) => Check::advised(NAME, SECTION, Verdict::Fail, error.advice()),
        }
    };
    patient.line(NAME, SECTION, check).await
}

/// Whether alerts could be read from Graph with the sign-in at hand.
pub(super) async fn graph(patient: &Patient, identity: &Identity) -> Check {
    const NAME: &str = "graph";
    let check = async {
        let needed =
            patient.parts.source.as_ref().is_some_and(|source| source.kind == SourceKind::Graph);
        // Nothing hangs on it yet while alerts come from Defender itself.
        let verdict = if needed { Verdict::Fail } else { Verdict::Warn };
        let section = Section::Graph;
        match identity.consent(GRAPH_AUDIENCE).await {
            Ok(Consent::Given) => {
                let given =
                    "The application may read alerts from Microsoft Graph with this sign-in.";
                let ends = retirement::advice(patient.clock.now()).filter(|_| !needed);
                ends.map_or_else(
                    || Check::ok(NAME, section, given),
                    |ends| {
                        let reason = format!("{} {given}", ends.message);
                        let next_step = "Set FunctionConfigAlertSource to `Graph`. Nobody has to sign in again, and the export goes on where it stands.";
                        Check::new(NAME, section, Verdict::Warn, reason, next_step)
                    },
                )
            }
            Ok(Consent::Missing(support)) => Check::new(
                NAME,
                section,
                verdict,
                format!(
                    "The application may not read alerts from Microsoft Graph: nobody consented. (For support: {support}.)"
                ),
                "Ask the central identity team to add the delegated permission Microsoft Graph / SecurityAlert.Read.All to the application and to grant admin consent. It is needed when FunctionConfigAlertSource is `Graph`, and Microsoft announced the end of Defender's own API for 1 February 2027 (MC1220762).",
            ),
            Ok(Consent::NobodySignedIn) => Check::not_checked(NAME, section, "nobody is signed in"),
            Ok(Consent::Refused(advice)) => Check::advised(NAME, section, verdict, advice),
            Err(error @ IdentityError::Busy { .. }) => {
                Check::advised(NAME, section, Verdict::Warn, error.advice())
            }
            Err(_said_before) => {
                Check::not_checked(NAME, section, "the stored sign-in cannot be read")
            }
        }
    };
    patient.line(NAME, Section::Graph, check).await
}
