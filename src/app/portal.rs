//! The portal's view of the app, and of a deployment that cannot run.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;
use tracing::{Instrument as _, warn};

use super::App;
use crate::clock::Clock;
use crate::config::{ConfigError, Reporting, Vars};
use crate::domain::advice::Advice;
use crate::domain::runs::{Kind, PastRun};
use crate::domain::standing::Standing;
use crate::domain::timestamp::Timestamp;
use crate::error_chain::Chain;
use crate::identity::{Code, IdentityError};
use crate::pipeline;
use crate::pipeline::backfill::CannotStart;
use crate::portal::{
    Deployment, Export, Facts, Fault, FormKey, Invitation, Order, Portal, Refusal, Timetable,
};
use crate::store::StoreError;
use crate::store::backfill::{Cancel, Start};

/// What the page shows.
const DAY: Duration = Duration::from_hours(24);
/// Where the last run is looked for if that day had none and none was due: a
/// schedule of one day a week.
const LONGEST_PAUSE: Duration = Duration::from_hours(8 * 24);
/// How long a visitor waits for what the page is made of.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two runs where no schedule is set.
const USUAL_TICK: Duration = Duration::from_mins(5);

impl App {
    /// The page of this app.
    pub fn portal(&self) -> Portal {
        Portal::new(Arc::new(self.clone()), self.form_key.clone())
    }

    /// The sign-in after at most one question to Entra, and the code that
    /// waits, if one still does.
    async fn sign_in(&self) -> Result<(Standing, Option<Invitation>), IdentityError> {
        let standing = self.identity.poll().await?;
        let code = match &standing {
            Standing::Pending { .. } => self.identity.waiting().await?,
            Standing::SignedOut | Standing::SignedIn(_) | Standing::Refused { .. } => None,
        };
        Ok((standing, code.map(invitation)))
    }

    /// The same, carried through whatever becomes of whoever asked: Entra gives
    /// the tokens for a code once.
    async fn sign_in_to_its_end(&self) -> Result<(Standing, Option<Invitation>), Advice> {
        let app = self.clone();
        let asked = tokio::spawn(async move { app.sign_in().await }.in_current_span());
        match asked.await {
            Ok(answer) => answer.map_err(|error| error.advice()),
            Err(_panicked) => Err(Advice::new(
                "The sign-in could not be read, which is a fault of this program.",
                "Load this page again. If that does not help, tell the central team, with the time.",
            )),
        }
    }

    /// Those of the live export: a backfill's end says nothing of it.
    async fn runs(&self, from: Timestamp) -> Result<Vec<PastRun>, StoreError> {
        let mut runs = self.state.runs().since(from).await?;
        runs.retain(|run| run.kind == Kind::Run);
        Ok(runs)
    }

    /// Those of the last day, and the last of all: by a schedule that pauses it
    /// may be older.
    async fn past(&self, now: Timestamp) -> Result<(Vec<PastRun>, Option<PastRun>), StoreError> {
        let day = self.runs(now - DAY).await?;
        let last = match day.last() {
            None if !self.due().is_silent(now - DAY, now) => {
                self.runs(now - LONGEST_PAUSE).await?.pop()
            }
            last => last.cloned(),
        };
        Ok((day, last))
    }

    fn due(&self) -> Timetable {
        let own = self.exporter.rules.own_slots.clone();
        Timetable::new(move |at| match &own {
            Some(schedule) => schedule.next(at),
            None => Some(at + USUAL_TICK),
        })
    }
}

#[async_trait]
impl Deployment for App {
    async fn look(&self) -> Facts {
        // Together: each may take its time, and a person waits for all.
        let (sign_in, checkpoint, backfill, past, unsent) = tokio::join!(
            in_time("The sign-in", self.sign_in_to_its_end()),
            in_time("How far the export is", in_words(self.state.checkpoint())),
            in_time("The backfill", in_words(self.exporter.backfill_state())),
            in_time("The last runs", in_words(self.past(self.clock.now()))),
            in_time("What waits to be sent", in_words(self.state.unsent())),
        );
        let now = self.clock.now();
        let rules = &self.exporter.rules;
        let (sign_in, invitation) = match sign_in {
            Ok((standing, invitation)) => (Ok(standing), invitation),
            Err(advice) => (Err(advice), None),
        };
        let scope = rules.scope.fingerprint();
        let live = checkpoint.as_ref().ok().and_then(Option::as_ref);
        let last_run = past.as_ref().ok().and_then(|(_, last)| last.clone());
        let export = Export {
            sign_in,
            invitation,
            only_others: live.is_some_and(|live| live.memo.met.only_others(&scope)),
            possible: live.map(|live| self.exporter.possible_backfill(live)),
            checkpoint,
            backfill,
            runs: past.map(|(day, _)| day),
            last_run,
            due: self.due(),
            // That it cannot be read is said where the checkpoint stands.
            unsent: unsent.unwrap_or_default(),
            allowed: rules.scope.names().into_iter().map(str::to_owned).collect(),
        };
        Facts { now, trust: rules.trust.clone(), faults: Vec::new(), export: Some(export) }
    }

    async fn act(&self, order: Order, person: &str) -> Result<Option<Invitation>, Refusal> {
        let in_words = |error: IdentityError| Refusal::Said(error.advice());
        let of_state = |error: StoreError| Refusal::Said(advice(&error));
        match order {
            Order::SignIn => {
                let code = self.identity.start(person).await.map_err(in_words)?;
                return Ok(Some(invitation(code)));
            }
            Order::Cancel => drop(self.identity.cancel().await.map_err(in_words)?),
            Order::SignOut => self.identity.sign_out().await.map_err(in_words)?,
            Order::Resume => drop(self.state.resume().await.map_err(of_state)?),
            Order::Backfill(span, known) => {
                match self.exporter.start_backfill(span, known, person).await {
                    Ok(Start::Begun | Start::GoesOn) => {}
                    Ok(Start::Another(_)) => return Err(another()),
                    Err(CannotStart::State(error)) => return Err(of_state(error)),
                    Err(error) => return Err(Refusal::Backfill(error)),
                }
            }
            Order::CancelBackfill => {
                let cancel = self.exporter.cancel_backfill().await.map_err(of_state)?;
                if cancel == Cancel::Nothing {
                    return Err(nothing_to_cancel());
                }
            }
        }
        Ok(None)
    }
}

async fn in_words<T>(question: impl Future<Output = Result<T, StoreError>>) -> Result<T, Advice> {
    question.await.map_err(|error| advice(&error))
}

/// What is not answered in time is as good as unread.
async fn in_time<T>(
    what: &str,
    question: impl Future<Output = Result<T, Advice>>,
) -> Result<T, Advice> {
    timeout(PATIENCE, question).await.unwrap_or_else(|_elapsed| {
        warn!(what, "the portal had no answer in time");
        Err(Advice::new(
            format!("{what} could not be read within {} seconds.", PATIENCE.as_secs()),
            "Load this page again in a minute. If that does not help, check that the storage account exists and can be reached from the app's network.",
        ))
    })
}

fn another() -> Refusal {
    Refusal::Said(Advice::new(
        "The backfill was not started: another is under way.",
        "It is shown below. Wait until it has ended, or cancel it.",
    ))
}

fn nothing_to_cancel() -> Refusal {
    Refusal::Said(Advice::new("Nothing was cancelled: the backfill had ended before.", ""))
}

fn advice(error: &StoreError) -> Advice {
    warn!(error = %Chain(error), "the portal could not read the state");
    pipeline::storage(error)
}

fn invitation(code: Code) -> Invitation {
    Invitation {
        user_code: code.user_code,
        address: code.verification_uri,
        expires_at: code.expires_at,
        ticket: code.ticket,
    }
}

/// A deployment whose settings are not in order: a page that says so.
#[derive(Clone, Debug)]
pub struct FaultyPortal {
    trust: String,
    faults: Vec<Fault>,
}

impl FaultyPortal {
    /// For settings with faults of their own.
    pub fn of_settings(vars: &Vars, error: &ConfigError) -> Portal {
        let fault = |name: &str, what: &str| Fault { name: name.to_owned(), what: what.to_owned() };
        let faults = error.faults().iter().map(|it| fault(it.name, &it.what)).collect();
        Self::portal(vars, faults)
    }

    /// For settings that are well-formed and cannot be used all the same.
    pub fn of_error(vars: &Vars, what: String) -> Portal {
        Self::portal(vars, vec![Fault { name: String::new(), what }])
    }

    fn portal(vars: &Vars, faults: Vec<Fault>) -> Portal {
        let trust = Reporting::load(vars).trust_name;
        Portal::new(Arc::new(Self { trust, faults }), FormKey::random())
    }
}

#[async_trait]
impl Deployment for FaultyPortal {
    async fn look(&self) -> Facts {
        let now = Clock::System.now();
        Facts { now, trust: self.trust.clone(), faults: self.faults.clone(), export: None }
    }

    async fn act(&self, _order: Order, _person: &str) -> Result<Option<Invitation>, Refusal> {
        Err(Refusal::Said(Advice::new(
            "Nothing was done: the settings must be corrected first.",
            "Correct what is listed below in the Function App's settings.",
        )))
    }
}
