//! One thing looked at, and how it stands: what `doctor` prints a line for and
//! a heartbeat a sentence.

use serde::{Serialize, Serializer};

use super::advice::Advice;

/// How something stands.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works and needs a person's attention, or it could not be checked.
    Warn,
    /// Alerts do not flow, or not as they should, until a person acts.
    Fail,
}

/// Where the documents say more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Section {
    /// Every setting.
    Settings,
    /// The machine's clock.
    Clock,
    /// Authority, tenant, application.
    Application,
    /// The account, how long it lasts, what it is sealed with.
    SignIn,
    /// Reading alerts: address and right.
    Alerts,
    /// Whose alerts the account sees.
    Groups,
    /// The successor of Defender's own API.
    Graph,
    /// Table and container.
    Storage,
    /// The app's own identity and every target.
    Targets,
    /// Program and host.
    Program,
}

/// One line.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Check {
    /// What was looked at, in one word.
    pub name: &'static str,
    /// How it stands.
    pub verdict: Verdict,
    /// Why, in plain words.
    pub reason: String,
    /// What a person should do; empty when nothing.
    pub next_step: String,
    /// `docs/doctor.md#…`.
    pub section: Section,
}

impl Section {
    /// Every section, for a test that looks for each in the documents.
    pub const ALL: [Self; 10] = [
        Self::Settings,
        Self::Clock,
        Self::Application,
        Self::SignIn,
        Self::Alerts,
        Self::Groups,
        Self::Graph,
        Self::Storage,
        Self::Targets,
        Self::Program,
    ];

    /// Page and anchor.
    pub const fn link(self) -> &'static str {
        match self {
            Self::Settings => "README.md#settings",
            Self::Clock => "docs/doctor.md#clock",
            Self::Application => "docs/doctor.md#application",
            Self::SignIn => "docs/doctor.md#sign-in",
            Self::Alerts => "docs/doctor.md#alerts",
            Self::Groups => "docs/doctor.md#device-groups",
            Self::Graph => "docs/doctor.md#microsoft-graph",
            Self::Storage => "docs/doctor.md#storage",
            Self::Targets => "docs/doctor.md#targets",
            Self::Program => "docs/doctor.md#program",
        }
    }
}

impl Serialize for Section {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.link())
    }
}

impl Check {
    /// All is well.
    pub fn ok(name: &'static str, section: Section, reason: impl Into<String>) -> Self {
        Self::new(name, section, Verdict::Ok, reason, "")
    }

    /// Not all is well.
    pub fn new(
        name: &'static str,
        section: Section,
        verdict: Verdict,
        reason: impl Into<String>,
        next_step: impl Into<String>,
    ) -> Self {
        Self { name, verdict, reason: reason.into(), next_step: next_step.into(), section }
    }

    /// Not all is well, in words made elsewhere.
    pub fn advised(name: &'static str, section: Section, verdict: Verdict, advice: Advice) -> Self {
        Self::new(name, section, verdict, advice.message, advice.next_step)
    }

    /// What it hangs on failed. Never ok: nobody knows.
    pub fn not_checked(name: &'static str, section: Section, because: &str) -> Self {
        let reason = format!("Not checked, because {because}.");
        Self::new(
            name,
            section,
            Verdict::Warn,
            reason,
            "Put right what failed first, then check again.",
        )
    }

    /// The worst of several; ok when there are none.
    pub fn worst(checks: &[Self]) -> Verdict {
        checks.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Ok)
    }
}
