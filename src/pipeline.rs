//! One run, in order.
//!
//! ```text
//! window -> fetch -> scope -> shape -> batch -> deliver -> checkpoint -> heartbeat
//! ```
//!
//! Nothing in a run needs to be undone. Rows may be sent twice when a run is
//! cut off between a sink's answer and the next save; they then carry the same
//! `ExportKey`. The position is saved only up to what was accepted or set aside.

mod audit;
pub mod backfill;
mod backfill_end;
mod beat;
mod beside;
mod books;
mod ended;
pub mod estimate;
mod failed;
mod lane;
mod not_yet;
mod record;
pub mod replay;
mod report;
mod run;
mod set_back;
mod turn;
mod withheld;

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use secrecy::ExposeSecret as _;
use tokio::time::{Instant, timeout};
use tracing::{error, info, warn};
use uuid::Uuid;

pub use self::ended::Ended;
pub(crate) use self::failed::{container, fetch, storage};
use self::record::Saved;
use self::report::{Report, describe};
use self::run::Run;
use crate::clock::Clock;
use crate::config::{Schedule, SignInPrompt};
use crate::domain::audit::AuditPolicy;
use crate::domain::check::Check;
use crate::domain::hash::Hash;
use crate::domain::judge::{self, Skew};
use crate::domain::ledger::Memory;
use crate::domain::pace::{Found, Later, Turn};
use crate::domain::progress::{IllegalMove, NotNow};
use crate::domain::runs::Seen;
use crate::domain::scope::{OnForeign, Scope};
use crate::domain::standing::Standing;
use crate::domain::timestamp::Timestamp;
use crate::domain::visible;
use crate::domain::window::{Plan, WindowPolicy};
use crate::error_chain::Chain;
use crate::http::Dates;
use crate::identity::{AccessToken, Demand, Identity, IdentityError};
use crate::sink::Sink;
use crate::sink::delivery::{Cause, SinkFailed};
use crate::source::{Failure, FetchError, Item, Reader, Source};
use crate::store::state::State;
use crate::store::{BlobError, Blobs, StoreError};

/// How long one run goes on taking windows. Well inside the timer's period, the
/// lease and the shortest function timeout there is (five minutes).
const RUN_LIMIT: Duration = Duration::from_secs(210);
/// When a run that still waits for somebody's answer is given up, so that its
/// heartbeat goes out before the host kills it.
const HARD_LIMIT: Duration = Duration::from_secs(270);

/// Everything a run needs.
#[derive(Debug)]
pub struct Exporter {
    /// Time.
    pub clock: Clock,
    /// As whom alerts are read.
    pub identity: Identity,
    /// Where alerts come from.
    pub source: Source,
    /// Where rows go: at least one sink, no two of one name.
    pub sinks: Vec<Sink>,
    /// Where heartbeats go; `None` when they are switched off.
    pub heartbeats: Option<Sink>,
    /// Position, ledger, unsent heartbeats.
    pub state: State,
    /// Quarantine and whole alerts.
    pub blobs: Blobs,
    /// What the servers' clocks show.
    pub dates: Dates,
    /// What decides.
    pub rules: Rules,
}

/// What decides, and what every row is labelled with.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Which span next.
    pub windows: WindowPolicy,
    /// Whose alerts may leave.
    pub scope: Scope,
    /// What a foreign alert means.
    pub on_foreign: OnForeign,
    /// What counts as delivered before.
    pub memory: Memory,
    /// When this deployment's timer fires; `None` where that is not known.
    pub own_slots: Option<Schedule>,
    /// Alerts asked for in one call.
    pub page_size: u32,
    /// Who may start a sign-in.
    pub prompt: SignInPrompt,
    /// `TrustName`.
    pub trust: String,
    /// `InstanceId`.
    pub instance: String,
    /// Of the settings, for the record.
    pub settings: Hash,
    /// The daily audit, if there is one.
    pub audit: Option<AuditPolicy>,
}

/// Why a run ended before everything that has settled was delivered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// Nothing was read.
    #[error("the run may not begin")]
    NotNow(#[from] NotNow),
    /// Nothing was read.
    #[error("no token to read alerts with")]
    SignIn(#[source] IdentityError),
    /// What was read before was delivered and saved.
    #[error("alerts could not be read")]
    Fetch(#[from] FetchError),
    /// A foreign alert was met and the guard says halt.
    #[error("an alert of another device group was met")]
    Foreign,
    /// Some rows may have been stored; they will be sent again.
    #[error("rows could not be delivered")]
    Deliver(#[source] Undelivered),
    /// A row could not be set aside; it will be read again.
    #[error("a row could not be set aside")]
    SetAside(#[from] BlobError),
    /// What was delivered since the last save will be sent again.
    #[error("the state could not be read or saved")]
    State(#[from] StoreError),
    /// What was not saved is done again by the next run.
    #[error("the run took too long")]
    TooLong,
    /// A bug in this crate. What was not saved is done again by the next run.
    #[error("the run panicked")]
    Panicked,
    /// A bug in this crate.
    #[error("a row set aside is not JSON")]
    NotJson(#[from] serde_json::Error),
    /// A bug in this crate.
    #[error("progress moved out of order")]
    Order(#[from] IllegalMove),
}

/// Targets that did not take their rows.
#[derive(Debug, thiserror::Error)]
#[error("a target did not take its rows")]
pub(crate) struct Undelivered {
    /// The first of them, and why.
    first: &'static str,
    #[source]
    error: Box<SinkFailed>,
    /// The others that failed.
    more: Vec<(&'static str, Box<SinkFailed>)>,
    /// How many did not fail.
    unhindered: usize,
}

impl Undelivered {
    /// Whether row after row was refused, which may be the rows' fault after
    /// all: seen once others are beside them.
    fn is_of_all_rows(&self) -> bool {
        let mut more = self.more.iter().map(|(_, error)| error);
        let every_row = |it: &SinkFailed| matches!(it.error, Cause::EveryRow(_));
        every_row(&self.error) || more.any(|it| every_row(it))
    }
}

/// What is left when a run ends without error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Left {
    /// Nothing that has settled.
    Nothing,
    /// Older alerts; the next run goes on.
    More,
    /// Older alerts; this trust's calls for the hour are used up.
    Budget,
    /// The source asked not to be called yet.
    Waiting,
    /// It is not this trust's turn to call the source.
    NotYet(Later),
}

impl Left {
    /// Whether all that had settled when Defender was asked is delivered.
    fn is_complete(self) -> bool {
        match self {
            Self::Nothing => true,
            Self::NotYet(later) => later.found == Found::Everything,
            Self::More | Self::Budget | Self::Waiting => false,
        }
    }
}

impl Exporter {
    /// Exports what has settled since the last run and reports on it.
    ///
    /// Never fails: a failure is a heartbeat that says so. Safe to call at any
    /// time, from any number of instances.
    pub async fn run(&self, id: Uuid) -> Ended {
        let started = Instant::now();
        let mut report = Report { api: self.source.api(), ..Report::default() };
        let run = id.to_string();
        self.dates.forget();
        let outcome = self.bounded(&run, &mut report).await;
        match &outcome {
            Err(RunError::NotNow(NotNow::Busy) | RunError::State(StoreError::Conflict)) => {
                info!("another instance is exporting; this run ends");
                return Ended::StoodAside;
            }
            Err(failure) => error!(error = %Chain(failure), "the export run failed"),
            Ok(_) => {}
        }
        let standing = self.identity.standing().await;
        let now = self.clock.now();
        let mut described = describe(&outcome, &report, standing.as_ref().ok(), now);
        described.add(self.noticed(&report.groups, standing.as_ref().ok(), now));
        described.set_back(report.set_back);
        let mut heartbeat = report.heartbeat(id, &self.rules, described, now, started.elapsed());
        let audited = outcome.is_ok().then(|| report.audited(&heartbeat)).flatten();
        let untold = report.untold.take();
        let backfill_waits = report.backfill.is_some() && matches!(outcome, Ok(Left::Nothing));
        self.record(&mut heartbeat, report).await;
        let unsent = self.send(&heartbeat, audited.as_ref()).await;
        self.let_go().await;
        if let Some(job) = untold {
            self.report_backfill(Uuid::new_v4(), &job, Seen::default()).await;
        }
        if backfill_waits {
            self.backfill_meanwhile(started).await;
        }
        Ended::Reported(Box::new(heartbeat), unsent.map(Box::new))
    }

    /// What else a run sees of what `doctor` looks at, judged alike.
    fn noticed(&self, groups: &Seen, standing: Option<&Standing>, now: Timestamp) -> Vec<Check> {
        let dates = self.dates.now();
        let skews: Vec<_> = dates.into_iter().map(|date| Skew::between(now, date.into())).collect();
        let clock = (!skews.is_empty()).then(|| judge::clock(&skews));
        let key = self.identity.key_ring().map(judge::key_ring);
        let sign_in = standing.and_then(Standing::working).map(judge::beside).unwrap_or_default();
        clock.into_iter().chain(visible::nobodys(groups)).chain(key).chain(sign_in).collect()
    }

    /// The export, for a bounded time; a panic in it is an outcome like others,
    /// so that its heartbeat goes out too.
    async fn bounded(&self, id: &str, report: &mut Report) -> Result<Left, RunError> {
        let export = AssertUnwindSafe(self.export(id, report)).catch_unwind();
        match timeout(HARD_LIMIT, export).await {
            Ok(Ok(outcome)) => outcome,
            // Its text can quote the data at hand; the panic hook says where.
            Ok(Err(_panic)) => Err(RunError::Panicked),
            Err(_elapsed) => Err(RunError::TooLong),
        }
    }

    async fn export(&self, id: &str, report: &mut Report) -> Result<Left, RunError> {
        let now = self.clock.now();
        let mut opened = self.state.open(self.rules.windows.first_position(now), now).await?;
        let saved = opened.saved_position();
        report.saved = Saved::Seen(saved);
        self.set_back(&mut opened, report, now).await?;
        report.position = opened.saved_position();
        let scope = self.rules.scope.fingerprint();
        report.said = opened.checkpoint.memo.said();
        report.has_met(&opened.checkpoint.memo.met, &scope, now);
        if let Some(until) = opened.checkpoint.left_alone_until(now) {
            self.look_beside(report, opened.checkpoint.audit).await?;
            return Ok(self.left_alone(&opened.checkpoint, until, now));
        }
        // Claimed only once there is a token: a deployment that waits for its
        // sign-in writes nothing.
        let token = self.token(report).await?;
        let manner = match self.turn(&mut opened, now).await? {
            Turn::Ask(manner) => manner,
            Turn::Later(later) => {
                self.look_beside(report, opened.checkpoint.audit).await?;
                return Ok(Left::NotYet(later));
            }
        };
        report.saved = Saved::Begun(saved);
        let mut run = Run::begin(self, opened, id, manner, &report.counts).await?;
        report.position = Some(run.books.opened.checkpoint.progress.position());
        self.send_earlier().await;
        let give_up_at = Instant::now() + RUN_LIMIT;
        let mut outcome = self.catch_up(&mut run, token, give_up_at).await;
        if matches!(outcome, Ok(Left::Nothing))
            && let Err(failure) = self.audit(&mut run, report, give_up_at).await
        {
            outcome = Err(failure);
        }
        report.overdue = self.overdue(run.books.opened.checkpoint.audit);
        run.end(outcome, report).await
    }

    /// A token, renewed if it must be: work may take longer than one lives.
    async fn access(&self, demand: Demand) -> Result<AccessToken, RunError> {
        self.identity.access_token(demand).await.map_err(RunError::SignIn)
    }

    /// A token to read with. A sign-in that waits for a person is asked after
    /// first: it may have been completed.
    async fn token(&self, report: &mut Report) -> Result<AccessToken, RunError> {
        self.identity.poll().await.map_err(RunError::SignIn)?;
        match self.identity.access_token(Demand::Any).await {
            Ok(token) => {
                report.sign_in_unsaved = !token.stored;
                Ok(token)
            }
            Err(error @ IdentityError::SignInNeeded(_)) => {
                if self.rules.prompt == SignInPrompt::Log {
                    self.prompt_in_log().await;
                }
                Err(RunError::SignIn(error))
            }
            Err(error) => Err(RunError::SignIn(error)),
        }
    }

    /// Starts a sign-in and shows its code to whoever reads the log, as the
    /// predecessor did. Only where `FunctionConfigSignInPrompt` is `log`.
    async fn prompt_in_log(&self) {
        match self.identity.start("the timer").await {
            Ok(code) => warn!(
                address = code.verification_uri,
                code = code.user_code.expose_secret(),
                valid_until = %code.expires_at,
                "sign in at this address with this code"
            ),
            Err(IdentityError::UnderWay { .. }) => {}
            Err(error) => warn!(error = %Chain(&error), "a sign-in could not be started"),
        }
    }

    /// Window after window, until nothing settled is left or the run has had
    /// its time.
    async fn catch_up(
        &self,
        run: &mut Run<'_>,
        token: AccessToken,
        give_up_at: Instant,
    ) -> Result<Left, RunError> {
        let left = self.read_windows(run, token, give_up_at).await?;
        // The targets that work have had what is new; the run failed all the same.
        run.undelivered().map(|()| left)
    }

    async fn read_windows(
        &self,
        run: &mut Run<'_>,
        mut token: AccessToken,
        give_up_at: Instant,
    ) -> Result<Left, RunError> {
        let mut renewed = false;
        while let Some(plan) = run.next_plan() {
            let reader =
                self.source.read(plan.read, token.secret.clone(), run.page_size(), run.budget());
            let mut reader = reader.with_manner(run.manner()).asking_ahead();
            match self.window(run, plan, &mut reader, give_up_at).await {
                Err(RunError::Fetch(FetchError {
                    failure: Failure::Unauthorized { claims, .. },
                    ..
                })) if !renewed => {
                    renewed = true;
                    let demand = Demand::Renewed { claims };
                    token = self.access(demand).await?;
                }
                Err(RunError::Fetch(FetchError {
                    failure: Failure::BudgetSpent(_) | Failure::TurnOver,
                    ..
                })) => {
                    return Ok(Left::Budget);
                }
                Err(error) => return Err(error),
                Ok(Finished::OutOfTime | Finished::GaveWay) => return Ok(Left::More),
                Ok(Finished::NobodyTakes) => {}
                Ok(Finished::Window) => {
                    run.window_done(plan);
                    if !plan.more {
                        run.group_done();
                    } else if Instant::now() >= give_up_at {
                        return Ok(Left::More);
                    } else {
                        run.save().await?;
                    }
                }
            }
        }
        Ok(Left::Nothing)
    }

    /// One window, until every batch of it has come back.
    async fn window(
        &self,
        run: &mut Run<'_>,
        plan: Plan,
        reader: &mut Reader,
        give_up_at: Instant,
    ) -> Result<Finished, RunError> {
        let drained = self.drain(run, plan, reader, give_up_at).await;
        reader.stop().await;
        run.has_read(reader);
        // What was read before the API stopped answering is sent all the same:
        // else a deployment with few calls an hour would never get on.
        let settled = run.settle(is_of_reading(&drained)).await;
        run.advance()?;
        drained.and_then(|finished| settled.map(|()| finished))
    }

    /// One window, alert by alert.
    async fn drain(
        &self,
        run: &mut Run<'_>,
        plan: Plan,
        reader: &mut Reader,
        give_up_at: Instant,
    ) -> Result<Finished, RunError> {
        while let Some(item) = reader.next().await? {
            match item {
                Item::Through(time) => {
                    run.reached(plan, time);
                    if run.gives_way().await? {
                        return Ok(Finished::GaveWay);
                    }
                }
                Item::Alert(alert) => {
                    if run.books.in_scope(&alert)?
                        && let Some((key, entry)) = run.books.identify(&alert).await?
                    {
                        run.export(&alert, &key, entry).await?;
                    }
                }
            }
            let now = Instant::now();
            run.save_when_due(reader, now).await?;
            if !run.is_read_for() {
                return Ok(Finished::NobodyTakes);
            }
            if now >= give_up_at {
                return Ok(Finished::OutOfTime);
            }
        }
        Ok(Finished::Window)
    }

    /// When this deployment was made; now, while that is not known.
    async fn deployed_at(&self, now: Timestamp) -> Timestamp {
        let checkpoint = self.state.checkpoint().await.ok().flatten();
        checkpoint.map_or(now, |checkpoint| checkpoint.deployed_at)
    }
}

/// Whether what was read can be sent: at most the reading failed.
fn is_of_reading<T>(outcome: &Result<T, RunError>) -> bool {
    matches!(outcome, Ok(_) | Err(RunError::Fetch(_)))
}

/// Why reading a window stopped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Finished {
    Window,
    OutOfTime,
    /// Others go first.
    GaveWay,
    /// Every target it was for has failed.
    NobodyTakes,
}
