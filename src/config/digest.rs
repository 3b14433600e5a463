//! A digest of the settings, so that a run's record tells under which it ran.

use super::reader::Vars;
use crate::domain::hash::Hash;

/// Every setting of this product begins so. What the host sets by itself, such
/// as ports and the instance, differs from process to process and is left out.
const PREFIXES: [&str; 3] = ["FunctionConfig", "AzureWebJobsStorage", "WEBSITE_SITE_NAME"];
/// Words in the names of settings that may hold a secret.
const SECRET: [&str; 6] = ["Key", "Secret", "Password", "Token", "Sas", "ConnectionString"];
/// Names with such a word that hold none.
const NOT_SECRET: [&str; 2] = ["KeyName", "KeyType"];
/// Holds a key within.
const CONNECTION: &str = "AzureWebJobsStorage";

/// SHA-256 over `name=value` lines, sorted by name. Of what may be a secret
/// only that it is set. A setting that is absent and one that has its default
/// are told apart.
pub(super) fn of(vars: &Vars) -> Hash {
    let lines = vars.beginning(&PREFIXES).into_iter().map(|(name, value)| {
        let value = if may_be_secret(&name) { "(set)" } else { value.as_str() };
        format!("{name}={value}\n")
    });
    Hash::of(lines.collect::<String>().as_bytes())
}

fn may_be_secret(name: &str) -> bool {
    name == CONNECTION
        || (SECRET.iter().any(|word| name.contains(word))
            && !NOT_SECRET.iter().any(|end| name.ends_with(end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(pairs: &[(&'static str, &'static str)]) -> String {
        of(&Vars::map(pairs.iter().copied())).to_string()
    }

    #[test]
    fn the_digest_is_stable_because_it_is_compared() {
        let settings = [
            ("FunctionConfigTrustName", "RXX"),
            ("FunctionConfigSessionKey", "secret"),
            ("HOSTNAME", "ignored"),
            ("AzureWebJobsStorage", "AccountKey=secret"),
        ];
        // sha256 of "AzureWebJobsStorage=(set)\nFunctionConfigSessionKey=(set)\nFunctionConfigTrustName=RXX\n".
        assert_eq!(
            digest(&settings),
            "bf9f5c9d01638f6daae26ff6c9de9bf72885eddf1edac731636a022abb6511ca"
        );
    }

    #[test]
    fn every_setting_counts_and_of_secret_ones_only_whether_they_are_set() {
        let differs = [
            ("FunctionConfigTrustName", "RXX", "RYY", true),
            ("FunctionConfigEventHubAccessKeyName", "one", "two", true),
            ("AzureWebJobsStorage__accountName", "one", "two", true),
            ("FunctionConfigEventHubAccessKeyValue", "one", "two", false),
            ("FunctionConfigSessionKeyPrevious", "one", "two", false),
            ("AzureWebJobsStorage", "one", "two", false),
            ("WEBSITE_INSTANCE_ID", "one", "two", false),
        ];
        for (name, one, two, expected) in differs {
            assert_eq!(digest(&[(name, one)]) != digest(&[(name, two)]), expected, "{name}");
        }
        assert_ne!(digest(&[("FunctionConfigSessionKeyPrevious", "one")]), digest(&[]));
    }
}
