//! The sign-in as people see it: no secret in it.

use std::time::Duration;

use super::advice::Advice;
use super::session::Session;
use super::sign_in::{Account, Class, Settled};
use super::timestamp::Timestamp;

/// Without a renewal for this long, people are warned.
pub const WARN_AFTER: Duration = Duration::from_hours(24 * 60);
/// Without a renewal for this long, Entra forgets a sign-in
/// (<https://learn.microsoft.com/entra/identity-platform/refresh-tokens#token-lifetime>).
pub const DEAD_AFTER: Duration = Duration::from_hours(24 * 90);

/// For this long people are told that an attempt to sign in anew failed.
const TOLD_FOR: Duration = Duration::from_hours(24);

/// How much longer a sign-in lives unused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lifetime {
    /// Long enough.
    Good,
    /// Not renewed for 60 days: it ends then unless it is.
    Expiring(Timestamp),
    /// Not renewed for 90 days: expected to be refused.
    Dead,
}

/// A working sign-in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Working {
    /// As whom, and in which tenant.
    pub account: Account,
    /// When the person signed in.
    pub since: Timestamp,
    /// When Entra last handed out tokens for it.
    pub renewed_at: Timestamp,
    /// Whole days since then.
    pub idle_days: u64,
    /// How much longer it lives unused.
    pub lifetime: Lifetime,
    /// Entra is not called before this; set after it was busy or unreachable.
    pub back_off_until: Option<Timestamp>,
    /// The account signed in before, if it was another: to be checked by a
    /// person.
    pub replaced: Option<Account>,
    /// Why the last attempt to sign in anew failed, for a day after it: whoever
    /// tried knows by then, and the sign-in that works goes on.
    pub failed_attempt: Option<Advice>,
}

/// How the sign-in stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Standing {
    /// Nobody is signed in.
    SignedOut,
    /// A code waits for a person.
    Pending {
        /// Until when.
        expires_at: Timestamp,
        /// A poll before this does nothing.
        next_poll_at: Timestamp,
        /// Who asked for it.
        started_by: String,
        /// The sign-in that goes on working meanwhile.
        meanwhile: Option<Working>,
    },
    /// Somebody is signed in.
    SignedIn(Working),
    /// The sign-in, or the attempt at one, was refused.
    Refused {
        /// Who can help.
        class: Class,
        /// What happened and what to do.
        advice: Advice,
        /// When.
        since: Timestamp,
        /// Whether the export goes on by itself once the cause is put right.
        /// Otherwise a person must sign in.
        resumes: bool,
    },
}

impl Standing {
    /// How `session` stands at `now`.
    pub fn of(session: &Session, now: Timestamp) -> Self {
        let settled = settled(session.settled(), now);
        match session.flow().filter(|flow| flow.is_alive(now)) {
            None => settled,
            Some(flow) => Self::Pending {
                expires_at: flow.expires_at,
                next_poll_at: flow.next_poll_at,
                started_by: flow.started_by.clone(),
                meanwhile: settled.into_working(),
            },
        }
    }

    /// The sign-in that works now, also behind a code that waits.
    pub fn working(&self) -> Option<&Working> {
        match self {
            Self::SignedIn(working) => Some(working),
            Self::Pending { meanwhile, .. } => meanwhile.as_ref(),
            Self::SignedOut | Self::Refused { .. } => None,
        }
    }

    fn into_working(self) -> Option<Working> {
        match self {
            Self::SignedIn(working) => Some(working),
            Self::SignedOut | Self::Pending { .. } | Self::Refused { .. } => None,
        }
    }
}

impl Lifetime {
    /// Of a sign-in last renewed at `renewed_at`.
    pub fn of(renewed_at: Timestamp, now: Timestamp) -> Self {
        let idle = now.since(renewed_at);
        if idle >= DEAD_AFTER {
            Self::Dead
        } else if idle >= WARN_AFTER {
            Self::Expiring(renewed_at + DEAD_AFTER)
        } else {
            Self::Good
        }
    }
}

fn settled(settled: &Settled, now: Timestamp) -> Standing {
    match settled {
        Settled::SignedOut { .. } => Standing::SignedOut,
        Settled::SignedIn(sign_in) => Standing::SignedIn(Working {
            account: sign_in.account.clone(),
            since: sign_in.since,
            renewed_at: sign_in.renewed_at,
            idle_days: now.since(sign_in.renewed_at).as_secs() / (24 * 60 * 60),
            lifetime: Lifetime::of(sign_in.renewed_at, now),
            back_off_until: sign_in.back_off_until.filter(|until| now < *until),
            replaced: sign_in.replaced.clone(),
            failed_attempt: sign_in
                .failed_attempt
                .as_ref()
                .filter(|failed| now.since(failed.at) < TOLD_FOR)
                .map(|failed| failed.advice.clone()),
        }),
        Settled::Refused { refusal, .. } => Standing::Refused {
            class: refusal.class,
            advice: refusal.advice.clone(),
            since: refusal.at,
            resumes: settled.sign_in().is_some(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unused_sign_in_is_warned_of_at_60_days_and_dead_at_90() {
        let renewed = Timestamp::EPOCH;
        let day = Duration::from_hours(24);
        let of = |age| Lifetime::of(renewed, renewed + age);
        let almost = |days| Duration::from_secs(u64::from(days * 24 * 60 * 60) - 1);
        assert_eq!(of(almost(60_u32)), Lifetime::Good);
        assert_eq!(of(day * 60), Lifetime::Expiring(renewed + day * 90));
        assert_eq!(of(almost(90)), Lifetime::Expiring(renewed + day * 90));
        assert_eq!(of(day * 90), Lifetime::Dead);
    }
}
