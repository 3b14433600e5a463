//! What a run does that finds a position in the future: a clock ran ahead when
//! it was saved, or was set back since. What has come meanwhile was passed over.

use tracing::warn;

use super::report::{Described, Report};
use super::{Exporter, RunError};
use crate::domain::heartbeat::Status;
use crate::domain::progress::SetBack;
use crate::domain::timestamp::Timestamp;
use crate::store::state::Opened;

impl Exporter {
    /// Goes back from a position that cannot be, and believes no other time that
    /// is yet to come. Saved with the claim.
    pub(super) async fn set_back(
        &self,
        opened: &mut Opened,
        report: &mut Report,
        now: Timestamp,
    ) -> Result<(), RunError> {
        let to = self.rules.windows.fallback(opened.checkpoint.deployed_at, now);
        let Some(back) = opened.checkpoint.impossible(to, now) else {
            opened.checkpoint.no_later_than(now);
            return Ok(());
        };
        warn!(from = %back.from(), to = %back.to(), "the saved position lies in the future; it is set back");
        report.set_back = Some(back);
        Ok(self.state.set_back(opened, back, now).await?)
    }
}

impl Described {
    /// Says first that the position was set back: what was said of it before
    /// was wrong.
    pub(super) fn set_back(&mut self, back: Option<SetBack>) {
        let Some(back) = back else { return };
        let (from, to) = (back.from().to_the_second(), back.to().to_the_second());
        if matches!(self.status, Status::Ok | Status::SignInExpiring) {
            self.status = Status::CatchingUp;
        }
        let said = format!(
            "The saved time up to which alerts were delivered, {from}, lay in the future: a clock had run ahead, or was set back. Alerts are read again from {to} on; those that are known to be delivered are not sent twice."
        );
        let advice = format!(
            "In a Function App Azure keeps the clock: restart the app, and if this comes again, ask Microsoft's support. Elsewhere check the clock of the machine (`defender-alert-export doctor`). If earlier heartbeats show that the clock was wrong before {to}, bring what came before with a backfill."
        );
        let joined = |first: String, then: &str| format!("{first} {then}").trim().to_owned();
        self.advice.message = joined(said, &self.advice.message);
        self.advice.next_step = joined(advice, &self.advice.next_step);
    }
}
