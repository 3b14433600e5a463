//! Which of Defender's addresses is in use.
//!
//! Documented: one address for all regions and one for each, `uk.api…`. The
//! XDR pages write theirs the other way round, `api-uk…`, and older pages name
//! `securitycenter` hosts that still answer.
//! <https://learn.microsoft.com/defender-endpoint/api/exposed-apis-list>,
//! <https://learn.microsoft.com/defender-endpoint/gov>

use super::check::{Check, Section, Verdict};

const NAME: &str = "region";
const REGIONS: [&str; 7] = ["us", "eu", "uk", "au", "swa", "ina", "aea"];
/// The address for all regions.
pub const EVERYWHERE: &str = "api.security.microsoft.com";

/// Whether `host` is the address of one region.
pub fn is_regional(host: &str) -> bool {
    REGIONS.iter().any(|region| host == format!("{region}.{EVERYWHERE}"))
}

/// The address in `FunctionConfigDefenderEndpoint`, with the identity service
/// used beside it. Where the documents are silent, so is this.
pub fn region(host: &str, authority: &str) -> Check {
    let ok = |reason: String| Check::ok(NAME, Section::Alerts, reason);
    if host == EVERYWHERE {
        return ok(format!(
            "{EVERYWHERE} serves every region. Microsoft advises the nearest: for a tenant in the United Kingdom that is uk.{EVERYWHERE}; both show the same alerts."
        ));
    }
    if is_regional(host) {
        return ok(format!("{host} is the documented address of its region."));
    }
    if host == "api-gcc.securitycenter.microsoft.us" {
        return ok(format!("{host} is the documented address of GCC."));
    }
    if host == "api-gov.securitycenter.microsoft.us" {
        return if authority == "login.microsoftonline.us" {
            ok(format!("{host} is the documented address of GCC High and DoD."))
        } else {
            Check::new(
                NAME,
                Section::Alerts,
                Verdict::Fail,
                format!(
                    "{host} is the address of GCC High and DoD, whose accounts sign in at login.microsoftonline.us."
                ),
                "Set FunctionConfigIdentityAuthority to https://login.microsoftonline.us, or FunctionConfigDefenderEndpoint to an address of the cloud the account is in.",
            )
        };
    }
    if let Some(better) = better(host) {
        return Check::new(
            NAME,
            Section::Alerts,
            Verdict::Warn,
            format!("{host} is not the address that is documented for alerts."),
            format!("Set FunctionConfigDefenderEndpoint to https://{better}."),
        );
    }
    ok("FunctionConfigDefenderEndpoint is not an address of Microsoft's, so there is no region to compare.".to_owned())
}

/// The documented address in place of one that is known and is not.
fn better(host: &str) -> Option<String> {
    let rest = host
        .strip_suffix(".securitycenter.microsoft.com")
        .or_else(|| host.strip_suffix(".securitycenter.windows.com"))
        .or_else(|| host.strip_suffix(".security.microsoft.com"))?;
    match rest.strip_prefix("api-") {
        Some(region) if REGIONS.contains(&region) => Some(format!("{region}.{EVERYWHERE}")),
        _ => Some(EVERYWHERE.to_owned()),
    }
}

/// The region's address does not answer and the one for all regions does.
pub fn moved(host: &str) -> Check {
    Check::new(
        NAME,
        Section::Alerts,
        Verdict::Fail,
        format!("{host} does not show alerts, and {EVERYWHERE} does, with the same sign-in."),
        format!("Set FunctionConfigDefenderEndpoint to https://{EVERYWHERE}."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_that_is_known_leads_to_the_documented_one() {
        let public = "login.microsoftonline.com";
        for (host, authority, verdict, words) in [
            ("api.security.microsoft.com", public, Verdict::Ok, "uk.api.security.microsoft.com"),
            ("uk.api.security.microsoft.com", public, Verdict::Ok, "documented"),
            ("aea.api.security.microsoft.com", public, Verdict::Ok, "documented"),
            ("api-uk.security.microsoft.com", public, Verdict::Warn, "https://uk.api.security"),
            (
                "api-eu.securitycenter.microsoft.com",
                public,
                Verdict::Warn,
                "https://eu.api.security",
            ),
            ("api.securitycenter.windows.com", public, Verdict::Warn, "https://api.security"),
            ("api-eu3.securitycenter.microsoft.com", public, Verdict::Warn, "https://api.security"),
            ("api-gcc.securitycenter.microsoft.us", public, Verdict::Ok, "GCC"),
            (
                "api-gov.securitycenter.microsoft.us",
                public,
                Verdict::Fail,
                "login.microsoftonline.us",
            ),
            ("api-gov.securitycenter.microsoft.us", "login.microsoftonline.us", Verdict::Ok, "DoD"),
            ("127.0.0.1", public, Verdict::Ok, "no region"),
        ] {
            let check = region(host, authority);
            assert_eq!(check.verdict, verdict, "{host}");
            let text = format!("{} {}", check.reason, check.next_step);
            assert!(text.contains(words), "{host}: {text}");
        }
        assert!(is_regional("uk.api.security.microsoft.com"));
        assert!(!is_regional("xx.api.security.microsoft.com"));
    }
}
