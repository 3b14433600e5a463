//! The settings: a line for each that is wrong or to be known.

use crate::config::Parts;
use crate::domain::check::{Check, Section, Verdict};

const NAME: &str = "settings";

pub(super) fn checks(parts: &Parts) -> Vec<Check> {
    let line = |verdict, next_step: &'static str| {
        move |fault: &crate::config::Fault| {
            let reason = format!("{}: {}.", fault.name, fault.what);
            Check::new(NAME, Section::Settings, verdict, reason, next_step)
        }
    };
    let correct = "Correct it in the Function App's settings (Environment variables), or run the deployment again. Values are never shown here.";
    let mut checks: Vec<_> = parts.faults.iter().map(line(Verdict::Fail, correct)).collect();
    if parts.platform.is_app && parts.storage.as_ref().is_some_and(|it| it.account.is_none()) {
        checks.push(Check::new(
            NAME,
            Section::Settings,
            Verdict::Fail,
            "AzureWebJobsStorage: not set; under the Functions host it must be.",
            correct,
        ));
    }
    let known = "If that is on purpose, nothing; else remove the setting.";
    checks.extend(parts.cautions.iter().map(line(Verdict::Warn, known)));
    if checks.is_empty() {
        checks.push(Check::ok(NAME, Section::Settings, "All settings are well-formed."));
    }
    checks
}
