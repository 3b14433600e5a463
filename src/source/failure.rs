//! Why alerts could not be read.

use std::fmt;
use std::time::Duration;

use super::elements::NotAPage;
use crate::domain::budget::Spent;
use crate::http::Broken;
use crate::http::retry::{Classify, Verdict};

/// Reading stopped before the end of the window.
///
/// What was yielded stays yielded, and all before the last `Through` was; the
/// next run goes on from there.
#[derive(Debug, thiserror::Error)]
#[error("alerts could not be read from {api} to the end of the window; calls made: {calls}")]
pub struct FetchError {
    /// From where.
    pub api: Api,
    /// Calls made for this window, the failed ones included.
    pub calls: u64,
    /// Attempts at the page that failed.
    pub attempts: u32,
    /// What stopped it.
    #[source]
    pub failure: Failure,
}

/// Which API alerts are read from.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Api {
    /// Defender for Endpoint's own.
    #[default]
    Defender,
    /// Microsoft Graph.
    Graph,
}

impl Api {
    /// The setting that holds its address.
    pub fn address_setting(self) -> &'static str {
        match self {
            Self::Defender => "FunctionConfigDefenderEndpoint",
            Self::Graph => "FunctionConfigGraphEndpoint",
        }
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Defender => "Defender",
            Self::Graph => "Microsoft Graph",
        })
    }
}

/// What stops a page. Its words go on where [`FetchError`]'s end: "it" is the
/// API named there.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No complete answer, again and again.
    #[error("it cannot be reached")]
    Unreachable(#[from] Broken),
    /// The API failed on its side, again and again.
    #[error("it answered {said}")]
    Failing {
        /// When to come back, if it said so.
        after: Option<Duration>,
        /// Its answer.
        said: Said,
    },
    /// An answer that is not a page of alerts, again and again.
    #[error("it sent something that is not a page of alerts")]
    NotAPage(#[from] NotAPage),
    /// An element of a page that is not an alert, again and again.
    #[error("it sent an alert that is not a JSON object")]
    NotAnAlert,
    /// More alerts than fit a page carry one and the same time, and their pages
    /// did not fit together, again and again.
    #[error("it changed the order of alerts while they were read")]
    Shifted,
    /// More alerts than the API can list have the same update time and the same
    /// creation time.
    #[error("it has more alerts of one and the same time than it can list")]
    Crowded,
    /// A page that may lack alerts, again and again. What it held was yielded.
    #[error("it sent a part of the alerts only{}", missing_words(.missing.as_deref()))]
    Partial {
        /// The service behind it that did not answer, as it words it.
        missing: Option<String>,
    },
    /// Too many calls, by this deployment or by others of the same application.
    #[error("it asked for fewer calls{}: it answered {said}", quota_words(*.quota))]
    Throttled {
        /// When to come back, if it said so.
        after: Option<Duration>,
        /// Which quota is used up, if it said so.
        quota: Option<Quota>,
        /// Its answer.
        said: Said,
    },
    /// The access token is not accepted; one for the claims asked for, or a new
    /// sign-in, may be.
    #[error("it does not accept the access token: it answered {said}")]
    Unauthorized {
        /// JSON text to ask for the next token with.
        claims: Option<String>,
        /// Its answer.
        said: Said,
    },
    /// The token is good and the right is missing.
    #[error("it refused to show alerts: it answered {said}. {}", .cause.words(*.api))]
    Forbidden {
        /// Who.
        api: Api,
        /// The likely cause and what to do.
        cause: Cause,
        /// Its answer.
        said: Said,
    },
    /// The API does not take the request as it is.
    #[error("it refused the request: it answered {0}")]
    Refused(Said),
    /// The answer names its next page on another server. It was not followed:
    /// the access token is for that API alone.
    #[error("its answer names its next page on another server; it was not followed")]
    ForeignLink,
    /// This deployment's own share of calls is used up. Nobody was asked.
    #[error("this deployment's calls for the hour are used up (FunctionConfigCallsPerHour)")]
    BudgetSpent(Spent),
    /// This run's part of the share is used up. Defender was not asked.
    #[error("this deployment has made its calls for now")]
    TurnOver,
}

/// How the API said no.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Said {
    /// HTTP status.
    pub status: u16,
    /// Its error code.
    pub code: Option<String>,
    /// The correlation id Microsoft support asks for.
    pub target: Option<String>,
}

/// What may be used up; both are shared by every deployment that signs in with
/// the same application.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Quota {
    /// 100 calls a minute.
    Minute,
    /// 1,500 calls an hour.
    Hour,
}

/// Why a 403 was given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// The application has no permission on the API.
    ApiPermission,
    /// The account that signed in has no role that shows alerts.
    Role,
    /// The token was made for another API.
    Audience,
    /// Any of these.
    Unknown,
}

/// Whether the lesser permission is enough to list alerts is not documented.
const DEFENDER_PERMISSION: &str = "The application may not read alerts: ask the central team to \
    grant it the delegated permission Alert.Read of WindowsDefenderATP, with admin consent. If it \
    has that already, ask Microsoft whether Alert.ReadWrite is needed before granting it";
const GRAPH_PERMISSION: &str = "The application may not read alerts: ask the central team to \
    grant it the delegated permission SecurityAlert.Read.All of Microsoft Graph, with admin consent";
const ROLE: &str = "The account that signed in may not see alerts: ask the central team to give \
    it a Defender role with View Data for this trust's device group";

impl Cause {
    /// What is likely wrong and what to do.
    fn words(self, api: Api) -> String {
        let permission = match api {
            Api::Defender => DEFENDER_PERMISSION,
            Api::Graph => GRAPH_PERMISSION,
        };
        let audience = format!(
            "The access token was made for another service: check {} and sign in again",
            api.address_setting()
        );
        match self {
            Self::ApiPermission => format!("{permission}."),
            Self::Role => format!("{ROLE}."),
            Self::Audience => format!("{audience}."),
            Self::Unknown => format!(
                "One of three things is wrong. (1) {permission}. (2) {ROLE}. (3) {audience}."
            ),
        }
    }
}

fn missing_words(missing: Option<&str>) -> String {
    let of = missing.map_or_else(String::new, |missing| format!(" ({missing})"));
    format!(", because a service behind it did not answer{of}")
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        if let Some(code) = &self.code {
            write!(f, " {code}")?;
        }
        if let Some(target) = &self.target {
            write!(f, " (correlation id {target})")?;
        }
        Ok(())
    }
}

fn quota_words(quota: Option<Quota>) -> &'static str {
    match quota {
        Some(Quota::Minute) => " a minute",
        Some(Quota::Hour) => " an hour",
        None => "",
    }
}

impl Failure {
    /// Whether a smaller page might have passed.
    pub(super) fn may_be_size(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(_) | Self::Failing { .. } | Self::NotAPage(_) | Self::NotAnAlert
        )
    }

    /// Whether the source may be failing for everybody.
    pub fn is_outage(&self) -> bool {
        self.may_be_size() || matches!(self, Self::Shifted | Self::Partial { .. })
    }

    /// How long the source asked to be left alone, if it did; an hour at most.
    pub fn asked_wait(&self) -> Option<Duration> {
        match self {
            Self::Failing { after, .. } | Self::Throttled { after, .. } => *after,
            Self::Unreachable(_)
            | Self::NotAPage(_)
            | Self::NotAnAlert
            | Self::Shifted
            | Self::Crowded
            | Self::Partial { .. }
            | Self::Unauthorized { .. }
            | Self::Forbidden { .. }
            | Self::Refused(_)
            | Self::ForeignLink
            | Self::BudgetSpent(_)
            | Self::TurnOver => None,
        }
    }

    /// Whether the hour's calls of all deployments are used up. Where the text
    /// does not say, a wait of more than two minutes is not for a minute's.
    pub fn is_spent_hour(&self) -> bool {
        let Self::Throttled { after, quota, .. } = self else { return false };
        match quota {
            Some(quota) => *quota == Quota::Hour,
            None => after.is_some_and(|after| after > Duration::from_mins(2)),
        }
    }
}

impl Classify for Failure {
    /// Reading changes nothing, so any of it may be repeated.
    fn verdict(&self) -> Verdict {
        match self {
            Self::Unreachable(_)
            | Self::NotAPage(_)
            | Self::NotAnAlert
            | Self::Shifted
            | Self::Partial { .. } => Verdict::Retry { after: None },
            Self::Failing { after, .. } => Verdict::Retry { after: *after },
            // Without a time to come back, an hour's quota is not worth a try.
            Self::Throttled { after: None, quota: Some(Quota::Hour), .. } => Verdict::Fatal,
            Self::Throttled { after, .. } => Verdict::Retry { after: *after },
            // Free again in seconds, the run waits; else the next one goes on.
            Self::BudgetSpent(spent) => Verdict::Retry { after: Some(spent.free_in) },
            Self::Crowded
            | Self::Unauthorized { .. }
            | Self::Forbidden { .. }
            | Self::Refused(_)
            | Self::ForeignLink
            | Self::TurnOver => Verdict::Fatal,
        }
    }
}
