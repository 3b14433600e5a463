//! The daily audit: what the source shows of the last days, held against the
//! ledger. What is missing is read whole and delivered like everything else.
//!
//! It never moves the position, and takes at most half of the hour's calls, or
//! one beside the runs of the hour, and only what time a run has left. It
//! passes over alerts of foreign groups without counting them, and without
//! halting: the live runs see to that.
//!
//! An alert that changes between the two looks is not found again under its
//! former time: its new version is later than the position and comes by itself.

use std::collections::{BTreeMap, HashSet};

use secrecy::SecretString;
use tokio::time::Instant;
use tracing::{info, warn};

use super::report::Report;
use super::run::Run;
use super::{Exporter, RunError, is_of_reading};
use crate::domain::alert::Alert;
use crate::domain::audit::{Audit, AuditPolicy, Found, spans};
use crate::domain::backfill::at_hand;
use crate::domain::ledger::{Digest, Entry, ExportKey};
use crate::domain::pace::Manner;
use crate::domain::scope::Ruling;
use crate::domain::timestamp::Timestamp;
use crate::domain::window::Window;
use crate::error_chain::Chain;
use crate::identity::Demand;
use crate::source::{Failure, FetchError, Item, PageSize, Reader};
use crate::store::backfill::Caller;

/// Alerts asked for in one call: as many as the source gives, they are small.
const PAGE: u32 = 10_000;

/// What one look at the source gave, by time. What comes at a mark's very time
/// may come again after it.
#[derive(Debug, Default)]
struct Look {
    /// Alerts of ours.
    seen: BTreeMap<Timestamp, HashSet<Digest>>,
    /// Of those, what a target lacked.
    missing: BTreeMap<Timestamp, HashSet<Entry>>,
    /// Rows set aside before what is missing was delivered.
    aside: u64,
}

/// How far a look came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Came {
    /// Everything before this was looked at.
    To(Timestamp),
    /// The run has had its time.
    OutOfTime,
}

impl Exporter {
    /// Begins or goes on with the audit, if one is due. What is not done in
    /// this run, the next one goes on with.
    ///
    /// # Errors
    ///
    /// [`RunError`] where a live run would fail too. That the source cannot be
    /// read is not one: the live windows were.
    pub(super) async fn audit(
        &self,
        run: &mut Run<'_>,
        report: &mut Report,
        give_up_at: Instant,
    ) -> Result<(), RunError> {
        let Some(policy) = self.rules.audit else { return Ok(()) };
        let outcome = self.due(run, policy, give_up_at).await;
        let checkpoint = &mut run.books.opened.checkpoint;
        let now = self.clock.now();
        if let Some((resting, reconciled)) = checkpoint.audit.finish(now) {
            checkpoint.audit = resting;
            report.reconciled = Some(reconciled);
            let Found { counted, repaired, .. } = reconciled.found;
            info!(alerts.counted = counted, alerts.repaired = repaired, "audit done");
        }
        match outcome {
            Err(RunError::Fetch(FetchError { failure: Failure::BudgetSpent(_), .. })) => Ok(()),
            Err(RunError::Fetch(failed)) => {
                warn!(error = %Chain(&failed), "the audit is cut off; the next run goes on with it");
                if let Failure::Throttled { after: Some(after), .. } = failed.failure {
                    run.books.opened.checkpoint.not_before = Some(now + after);
                }
                Ok(())
            }
            outcome => outcome,
        }
    }

    async fn due(
        &self,
        run: &mut Run<'_>,
        policy: AuditPolicy,
        give_up_at: Instant,
    ) -> Result<(), RunError> {
        let checkpoint = &mut run.books.opened.checkpoint;
        // What is later is still read again by the live runs.
        let end = checkpoint.progress.position() - self.rules.windows.overlap;
        let Some(audit) =
            policy.next(checkpoint.audit, checkpoint.whole_from, end, self.clock.now())
        else {
            return Ok(());
        };
        checkpoint.audit = audit;
        if run.budget().for_audit().remaining(self.clock.now()) == 0 {
            return Ok(());
        }
        if self.is_being_backfilled(audit.rest()).await? {
            info!("the audit waits: a backfill is at what it compares");
            return Ok(());
        }
        let token = self.access(Demand::Any).await?;
        self.state.read_whole_ledger(&mut run.books.opened).await?;
        run.all_read();
        run.books.begin_audit();
        let compared = self.compare(run, &token.secret, give_up_at).await;
        run.books.end_audit();
        compared
    }

    /// Whether another process is just backfilling some of `rest`: what it has
    /// on its way would be taken for missing, and come twice. One that begins
    /// later waits for this run.
    async fn is_being_backfilled(&self, rest: Option<Window>) -> Result<bool, RunError> {
        let now = self.clock.now();
        let backfill = self.state.neighbours(Caller::Live).await?.backfill;
        let held = backfill.filter(|it| it.job.is_under_way() && it.is_held(now));
        let at_hand = held.and_then(|it| at_hand(&it.checkpoint));
        Ok(rest.zip(at_hand).is_some_and(|(rest, at_hand)| rest.meets(at_hand)))
    }

    /// Looks and repairs, from mark to mark. Where there is no call left to read
    /// what a look would find, everything is read whole instead: else a
    /// deployment with few calls an hour would look for ever.
    async fn compare(
        &self,
        run: &mut Run<'_>,
        token: &SecretString,
        give_up_at: Instant,
    ) -> Result<(), RunError> {
        while let Some(rest) = run.books.opened.checkpoint.audit.rest() {
            let calls = run.budget().for_audit().remaining(self.clock.now());
            let came = if calls > 1 {
                self.look_and_repair(run, (rest, give_up_at), token).await?
            } else {
                self.read_whole(run, (rest, give_up_at), token).await?
            };
            run.save().await?;
            if came == Came::OutOfTime || Instant::now() >= give_up_at {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn look_and_repair(
        &self,
        run: &mut Run<'_>,
        (rest, give_up_at): (Window, Instant),
        token: &SecretString,
    ) -> Result<Came, RunError> {
        let budget = run.budget().for_audit();
        let survey = self.source.survey(rest, token.clone(), PageSize::new(PAGE), budget);
        let mut survey = survey.with_manner(run.audit_manner());
        let mut look = Look::default();
        let came = self.look(run, &mut survey, &mut look, (rest, give_up_at)).await;
        run.audit_has_read(&survey);
        let came = came?;
        if let Came::To(mark) = came {
            self.repair(run, look.before(mark), mark, token).await?;
        }
        Ok(came)
    }

    /// Reads on to the first mark with something missing before it, or to the
    /// end. Marks with nothing missing are passed.
    async fn look(
        &self,
        run: &mut Run<'_>,
        survey: &mut Reader,
        look: &mut Look,
        (rest, give_up_at): (Window, Instant),
    ) -> Result<Came, RunError> {
        while let Some(item) = survey.next().await? {
            match item {
                Item::Alert(alert) => {
                    if let Some((_, entry)) = self.ours(&alert) {
                        look.hold(run, entry, rest);
                    }
                }
                Item::Through(mark) if look.missing.range(..mark).next().is_some() => {
                    return Ok(Came::To(mark));
                }
                Item::Through(mark) => run.compared(Some(mark), look.before(mark).found(0, 0)),
            }
            if Instant::now() >= give_up_at {
                return Ok(Came::OutOfTime);
            }
        }
        Ok(Came::To(rest.end()))
    }

    /// Reads the rest whole and delivers what is missing as it comes. What came
    /// after the last mark is delivered too, and met again by the next run.
    async fn read_whole(
        &self,
        run: &mut Run<'_>,
        (rest, give_up_at): (Window, Instant),
        token: &SecretString,
    ) -> Result<Came, RunError> {
        let mut reader = self.reader(run, rest, token);
        let mut look = Look::default();
        let came = self.take_in(run, &mut reader, &mut look, (rest, give_up_at)).await;
        run.audit_has_read(&reader);
        let settled = run.settle(is_of_reading(&came)).await.and_then(|()| run.undelivered());
        run.account(&look, None);
        settled.and(came)
    }

    async fn take_in(
        &self,
        run: &mut Run<'_>,
        reader: &mut Reader,
        look: &mut Look,
        (rest, give_up_at): (Window, Instant),
    ) -> Result<Came, RunError> {
        look.aside = run.books.counts.quarantined;
        while let Some(item) = reader.next().await? {
            match item {
                Item::Alert(alert) => {
                    if let Some((key, entry)) = self.ours(&alert) {
                        look.hold(run, entry, rest);
                        run.export(&alert, &key, entry).await?;
                    }
                }
                Item::Through(mark) => {
                    run.settle(true).await?;
                    run.undelivered()?;
                    run.account(&look.before(mark), Some(mark));
                    look.aside = run.books.counts.quarantined;
                }
            }
            if Instant::now() >= give_up_at {
                return Ok(Came::OutOfTime);
            }
        }
        Ok(Came::To(rest.end()))
    }

    /// What an alert of ours is known by. One without id or time has no key to
    /// be held by; the live runs set it aside.
    fn ours(&self, alert: &Alert) -> Option<(ExportKey, Entry)> {
        let Ruling::Export = self.rules.scope.rule_all(alert.groups()) else { return None };
        let key = ExportKey::of(alert).ok()?;
        let entry = self.rules.memory.entry(alert, &key).ok()?;
        Some((key, entry))
    }

    /// Reads what is missing whole, and delivers it. What was read before the
    /// source stopped answering is sent all the same, so that the next run has
    /// less to do.
    async fn repair(
        &self,
        run: &mut Run<'_>,
        mut look: Look,
        mark: Timestamp,
        token: &SecretString,
    ) -> Result<(), RunError> {
        look.aside = run.books.counts.quarantined;
        let times = look.missing.keys().copied().collect();
        let mut outcome = Ok(());
        for span in spans(&times) {
            let read = self.deliver_again(run, span, token).await;
            outcome = run.settle(is_of_reading(&read)).await.and(read);
            if outcome.is_err() {
                break;
            }
        }
        // Nothing is passed that a target did not take.
        let outcome = run.undelivered().and(outcome);
        run.account(&look, outcome.is_ok().then_some(mark));
        outcome
    }

    async fn deliver_again(
        &self,
        run: &mut Run<'_>,
        span: Window,
        token: &SecretString,
    ) -> Result<(), RunError> {
        let mut reader = self.reader(run, span, token);
        let outcome = async {
            while let Some(item) = reader.next().await? {
                if let Item::Alert(alert) = item
                    && let Some((key, entry)) = self.ours(&alert)
                {
                    run.export(&alert, &key, entry).await?;
                }
            }
            Ok(())
        };
        let outcome = outcome.await;
        run.audit_has_read(&reader);
        outcome
    }

    /// Reads whole alerts, within the audit's calls.
    fn reader(&self, run: &mut Run<'_>, span: Window, token: &SecretString) -> Reader {
        let (pages, budget) = (run.page_size(), run.budget().for_audit());
        self.source.read(span, token.clone(), pages, budget).with_manner(run.audit_manner())
    }
}

impl Look {
    /// Holds one alert of ours against the ledger.
    fn hold(&mut self, run: &mut Run<'_>, entry: Entry, rest: Window) {
        if entry.at < rest.start() || entry.at >= rest.end() {
            return;
        }
        self.seen.entry(entry.at).or_default().insert(entry.digest);
        if run.lacks(entry) {
            self.missing.entry(entry.at).or_default().insert(entry);
        }
    }

    /// What came before `mark`; the rest stays.
    fn before(&mut self, mark: Timestamp) -> Self {
        let (seen, missing) = (self.seen.split_off(&mark), self.missing.split_off(&mark));
        let later = Self { seen, missing, aside: self.aside };
        std::mem::replace(self, later)
    }

    fn found(&self, settled: usize, quarantined: u64) -> Found {
        let count = |many: usize| u64::try_from(many).unwrap_or(u64::MAX);
        Found {
            counted: count(self.seen.values().map(HashSet::len).sum()),
            repaired: count(settled).saturating_sub(quarantined),
            quarantined,
            calls: 0,
        }
    }
}

impl Run<'_> {
    /// Everything of the audit before `mark` is compared; without a mark, no
    /// more than before.
    fn compared(&mut self, mark: Option<Timestamp>, found: Found) {
        let audit = &mut self.books.opened.checkpoint.audit;
        *audit = audit.through(mark.unwrap_or(Timestamp::EPOCH), found);
    }

    /// Takes down what became of what was missing. Without a mark, the next run
    /// sees and counts it again, and does not find it missing.
    fn account(&mut self, look: &Look, mark: Option<Timestamp>) {
        let missing = look.missing.values().flatten();
        let settled = missing.filter(|entry| !self.lacks(**entry)).count();
        let found = look.found(settled, self.books.counts.quarantined - look.aside);
        let counted = if mark.is_some() { found.counted } else { 0 };
        self.compared(mark, Found { counted, ..found });
    }

    /// As a run asks; how often is for the budget to say.
    fn audit_manner(&self) -> Manner {
        Manner { calls: u32::MAX, ..self.manner() }
    }

    /// Takes over the calls a reader of the audit made.
    fn audit_has_read(&mut self, reader: &Reader) {
        let whole = self.budget();
        let checkpoint = &mut self.books.opened.checkpoint;
        checkpoint.budget = whole.counted_by(&reader.budget());
        self.note_spent_hour(reader);
        let checkpoint = &mut self.books.opened.checkpoint;
        let calls = Found { calls: reader.calls(), ..Found::default() };
        if let Audit::UnderWay { through, .. } = checkpoint.audit {
            checkpoint.audit = checkpoint.audit.through(through, calls);
        }
    }
}
