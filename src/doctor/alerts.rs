//! Reading alerts as the person who signed in: right, groups, region.

use std::time::Duration;

use url::Url;

use super::Patient;
use super::sign_in::SignedIn;
use crate::config::SourceKind;
use crate::domain::budget::Budget;
use crate::domain::check::{Check, Section, Verdict};
use crate::domain::heartbeat::Status;
use crate::domain::region;
use crate::domain::runs::Seen;
use crate::domain::scope::Scope;
use crate::domain::timestamp::Timestamp;
use crate::domain::visible::{Visible, groups};
use crate::domain::window::Window;
use crate::identity::{AccessToken, Demand, Identity};
use crate::pipeline;
use crate::source::{Failure, FetchError, Item, PageSize, Source};

const NAME: &str = "alerts";
const SECTION: Section = Section::Alerts;
/// How far back alerts and runs are looked at.
const DAYS: u64 = 7;
const BACK: Duration = Duration::from_hours(24 * DAYS);
/// Calls made at most; they count for the quota of the whole fleet.
const CALLS: u32 = 4;
/// A page with evidence takes longer than any other question.
const LONGER: u32 = 3;

/// `alerts`, `groups` and `region`.
pub(super) async fn checks(
    patient: &Patient,
    identity: &Identity,
    signed_in: &SignedIn,
) -> Vec<Check> {
    let (Some(source), Some(token)) = (&patient.reads.source, &signed_in.token) else {
        let because = match &patient.reads.source {
            Some(_) => "there is no token to read alerts with",
            None => "settings are wrong",
        };
        return vec![
            Check::not_checked(NAME, SECTION, because),
            no_groups(because),
            region(patient, None).await,
        ];
    };
    let scope = patient.parts.scope.as_ref();
    let read = Read { patient, source, scope };
    let outcome = match read.page(token).await {
        // As a run does: once more, with a token made anew.
        Some(Err(FetchError { failure: Failure::Unauthorized { claims, .. }, .. })) => {
            match identity.access_token(Demand::Renewed { claims }).await {
                Ok(fresh) => read.page(&fresh).await,
                Err(error) => {
                    return vec![
                        Check::advised(NAME, SECTION, Verdict::Fail, error.advice()),
                        no_groups("no alerts could be read"),
                        region(patient, None).await,
                    ];
                }
            }
        }
        outcome => outcome,
    };
    let tries_elsewhere = (!matches!(outcome, Some(Ok(_)))).then_some(token);
    let mut checks = match outcome {
        None => {
            let late = super::late(NAME, SECTION, patient.patience * LONGER);
            vec![late, no_groups("no alerts could be read")]
        }
        Some(Err(error)) => {
            let (status, advice) = pipeline::fetch(&error);
            // Whoever is asked for fewer calls has been let in.
            let verdict =
                if status == Status::SourceThrottled { Verdict::Warn } else { Verdict::Fail };
            let check = Check::advised(NAME, SECTION, verdict, advice);
            vec![check, no_groups("no alerts could be read")]
        }
        Some(Ok(visible)) => {
            let check = Check::ok(NAME, SECTION, "Alerts can be read with this sign-in.");
            [vec![check], read.judge(visible.as_ref()).await].concat()
        }
    };
    checks.push(region(patient, tries_elsewhere).await);
    checks
}

struct Read<'a> {
    patient: &'a Patient,
    source: &'a Source,
    scope: Option<&'a Scope>,
}

impl Read<'_> {
    /// A page of the last days; `None` if it did not come in time.
    async fn page(&self, token: &AccessToken) -> Option<Result<Option<Visible>, FetchError>> {
        let now = self.patient.clock.now();
        let page = Box::pin(page(self.source, self.scope, token, now, self.size()));
        tokio::time::timeout(self.patient.patience * LONGER, page).await.ok()
    }

    fn size(&self) -> u32 {
        self.patient.parts.source.as_ref().map_or(1, |source| source.page_size)
    }

    async fn judge(&self, visible: Option<&Visible>) -> Vec<Check> {
        let (Some(scope), Some(visible)) = (self.scope, visible) else {
            return vec![no_groups("FunctionConfigDeviceGroups is wrong")];
        };
        let runs = self.patient.within(self.runs(), Vec::new).await;
        groups(scope, &visible.groups(runs), DAYS)
    }

    /// What the runs of the same days met. Without them the sample counts alone.
    async fn runs(&self) -> Vec<Seen> {
        let Some(state) = self.patient.state() else { return Vec::new() };
        let runs = state.runs().since(self.patient.clock.now() - BACK).await.unwrap_or_default();
        runs.into_iter().map(|run| run.groups).collect()
    }
}

async fn page(
    source: &Source,
    scope: Option<&Scope>,
    token: &AccessToken,
    now: Timestamp,
    size: u32,
) -> Result<Option<Visible>, FetchError> {
    let mut visible = scope.map(Visible::new);
    let Some(window) = Window::new(now - BACK, now) else { return Ok(visible) };
    let secret = token.secret.clone();
    let mut reader = source.survey(window, secret, PageSize::new(size), Budget::new(CALLS));
    let mut left = size;
    while left > 0 {
        match reader.next().await {
            Ok(Some(Item::Alert(alert))) => {
                if let (Some(scope), Some(visible)) = (scope, &mut visible) {
                    visible.note(scope, alert.groups());
                }
                left -= 1;
            }
            Ok(Some(Item::Through(_))) => {}
            Ok(None) | Err(FetchError { failure: Failure::BudgetSpent(_), .. }) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(visible)
}

/// The address itself; with a token, whether the one for all regions is better.
async fn region(patient: &Patient, token: Option<&AccessToken>) -> Check {
    const NAME: &str = "region";
    let Some(source) = &patient.parts.source else {
        return Check::not_checked(NAME, SECTION, "settings are wrong");
    };
    if source.kind == SourceKind::Graph {
        return Check::ok(NAME, SECTION, "Microsoft Graph has one address for all regions.");
    }
    let host = |url: &Url| url.host_str().unwrap_or_default().to_owned();
    if let (Some(token), Some(everywhere)) = (token, &patient.reads.everywhere) {
        let ask = Box::pin(page(everywhere, None, token, patient.clock.now(), 1));
        if patient.within(async { ask.await.is_ok() }, || false).await {
            return region::moved(&host(&source.defender));
        }
    }
    let authority = patient.parts.identity.as_ref().map(|identity| host(&identity.authority));
    region::region(&host(&source.defender), &authority.unwrap_or_default())
}

fn no_groups(because: &str) -> Check {
    Check::not_checked("groups", Section::Groups, because)
}
