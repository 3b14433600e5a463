//! What a sign-in is made of: the code, the tokens, whose they are, and why they
//! no longer work.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use super::advice::Advice;
use super::timestamp::Timestamp;

/// An access token counts as used up this long before its end, so that it
/// outlives the run it is handed to.
pub const EARLY: Duration = Duration::from_mins(5);
/// What `slow_down` adds to the polling interval
/// (<https://www.rfc-editor.org/rfc/rfc8628#section-3.5>).
pub const SLOWER_BY: Duration = Duration::from_secs(5);
/// Longest polling interval that failures, which double it, lead to.
const SLOWEST: Duration = Duration::from_mins(1);

/// Who signed in, from the id token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Account {
    /// `preferred_username`: for people to read, never to decide by.
    pub username: String,
    /// `name`, if the token has one.
    pub name: Option<String>,
    /// `oid`: the account, within `tenant`.
    pub oid: Uuid,
    /// `tid`.
    pub tenant: Uuid,
}

/// An access token. Opaque: its text means nothing to us.
#[derive(Clone, Debug)]
pub struct Access {
    /// The token.
    pub secret: SecretString,
    /// From `expires_in`.
    pub expires_at: Timestamp,
    /// The API it was asked for; another API refuses it.
    pub audience: String,
}

/// What Entra hands out for a code or for a refresh token.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Lives 90 days from issue and stays valid when used
    /// (<https://learn.microsoft.com/entra/identity-platform/refresh-tokens>).
    pub refresh_token: SecretString,
    /// For the API asked for.
    pub access: Access,
}

/// A device code that waits for a person.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Buys the tokens once a person has agreed.
    pub device_code: SecretString,
    /// What the person types in. Whoever reads it can bind an account of their
    /// own to this export: shown to the one who asked, logged nowhere.
    pub user_code: SecretString,
    /// Where to type it in.
    pub verification_uri: String,
    /// What the last refusal demands of the next sign-in, as JSON text.
    pub claims: Option<String>,
    /// Who asked.
    pub started_by: String,
    /// When they asked.
    pub started_at: Timestamp,
    /// When Entra forgets the code; 15 minutes later.
    pub expires_at: Timestamp,
    /// Least time between two polls.
    pub interval: Duration,
    /// No poll before this.
    pub next_poll_at: Timestamp,
}

/// Why a code or a sign-in no longer works, by who can help.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Class {
    /// Signing in again is all it takes.
    SignInAgain,
    /// A second factor must be given or registered.
    SecondFactor,
    /// A policy of the identity tenant forbids it.
    Policy,
    /// The account is disabled, locked, at risk, or its password has ended.
    Account,
    /// The account is of another tenant, or unknown there.
    WrongAccount,
    /// Consent, a role or an assignment is missing.
    Permission,
    /// The app registration is not set up for this.
    Registration,
    /// The tenant id or client id set here is wrong.
    Settings,
    /// The person said no.
    Declined,
    /// The code was not used in time.
    CodeExpired,
    /// The code cannot be used, or was used before.
    CodeUnusable,
    /// A fault of this program.
    Product,
    /// Not in our tables.
    Unknown,
}

/// Why a code or a sign-in no longer works.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// Who can help.
    pub class: Class,
    /// In words.
    pub advice: Advice,
    /// What the next sign-in must bring, as JSON text from Entra.
    pub claims: Option<String>,
    /// When it was refused.
    pub at: Timestamp,
}

/// A working sign-in.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// As whom.
    pub account: Account,
    /// The tokens.
    pub grant: Grant,
    /// When the person signed in.
    pub since: Timestamp,
    /// When Entra last handed out tokens for it.
    pub renewed_at: Timestamp,
    /// Entra is not called before this.
    pub back_off_until: Option<Timestamp>,
    /// The account signed in before, if it was another: possibly somebody
    /// else's doing.
    pub replaced: Option<Account>,
    /// The last attempt to sign in anew, if it failed.
    pub failed_attempt: Option<Refusal>,
}

/// What is left of a sign-in that ended.
#[derive(Clone, Debug)]
pub enum Remains {
    /// The name, so that another one is noticed next time.
    Name(Option<Account>),
    /// The whole sign-in: Entra refused the app or the settings, not the
    /// sign-in, which works again once those are put right.
    SignIn(Box<SignedIn>),
}

/// The sign-in, apart from any code that waits for a person.
#[derive(Clone, Debug)]
pub enum Settled {
    /// Nobody is signed in.
    SignedOut {
        /// Who was, last.
        last: Option<Account>,
    },
    /// Somebody is, and it works as far as we know.
    SignedIn(Box<SignedIn>),
    /// Entra refuses, and said why.
    Refused {
        /// Why.
        refusal: Refusal,
        /// What is left.
        remains: Remains,
    },
}

/// What a poll that brought no decision means for the next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pace {
    /// The person has not decided.
    Keep,
    /// We ask too often.
    Slower,
    /// No usable answer; not before this long, if the server said.
    Failing(Option<Duration>),
    /// A poll is on its way and will have ended by then.
    Claimed(Duration),
}

impl Access {
    /// Whether it opens `audience` for longer than `margin` from `now`.
    pub fn lasts(&self, margin: Duration, audience: &str, now: Timestamp) -> bool {
        self.audience == audience && now + margin < self.expires_at
    }
}

impl Grant {
    /// Whether `refresh_token` is this grant's.
    pub fn came_with(&self, refresh_token: &SecretString) -> bool {
        self.refresh_token.expose_secret() == refresh_token.expose_secret()
    }
}

impl Account {
    /// Whether both are the same account, whatever it is called.
    pub fn is(&self, other: &Self) -> bool {
        (self.oid, self.tenant) == (other.oid, other.tenant)
    }
}

impl Flow {
    /// Whether Entra still knows the code.
    pub fn is_alive(&self, now: Timestamp) -> bool {
        now < self.expires_at
    }

    /// Whether this is the flow with that code.
    pub fn has(&self, device_code: &SecretString) -> bool {
        self.device_code.expose_secret() == device_code.expose_secret()
    }

    /// The same code, with the next poll as `pace` says.
    #[must_use]
    pub fn at(self, pace: Pace, now: Timestamp) -> Self {
        let (interval, wait) = match pace {
            Pace::Keep => (self.interval, self.interval),
            Pace::Slower => (self.interval + SLOWER_BY, self.interval + SLOWER_BY),
            Pace::Failing(asked) => {
                let doubled = (self.interval * 2).min(SLOWEST.max(self.interval));
                (doubled, asked.map_or(doubled, |asked| asked.max(doubled)))
            }
            Pace::Claimed(until) => (self.interval, until),
        };
        Self { interval, next_poll_at: now + wait, ..self }
    }
}

impl Settled {
    /// Who is or was signed in.
    pub fn account(&self) -> Option<&Account> {
        match self {
            Self::SignedOut { last } => last.as_ref(),
            Self::SignedIn(sign_in) => Some(&sign_in.account),
            Self::Refused { remains: Remains::Name(last), .. } => last.as_ref(),
            Self::Refused { remains: Remains::SignIn(kept), .. } => Some(&kept.account),
        }
    }

    /// For errors.
    pub fn name(&self) -> &'static str {
        match self {
            Self::SignedOut { .. } => "signed out",
            Self::SignedIn(_) => "signed in",
            Self::Refused { .. } => "refused",
        }
    }

    /// The tokens at hand, in use or kept.
    pub fn sign_in(&self) -> Option<&SignedIn> {
        match self {
            Self::SignedIn(sign_in) => Some(sign_in),
            Self::Refused { remains: Remains::SignIn(kept), .. } => Some(kept),
            Self::SignedOut { .. } | Self::Refused { remains: Remains::Name(_), .. } => None,
        }
    }

    /// The tokens at hand, taken out.
    pub fn into_sign_in(self) -> Option<Box<SignedIn>> {
        match self {
            Self::SignedIn(sign_in) | Self::Refused { remains: Remains::SignIn(sign_in), .. } => {
                Some(sign_in)
            }
            Self::SignedOut { .. } | Self::Refused { remains: Remains::Name(_), .. } => None,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::domain) fn second(count: u64) -> Timestamp {
        Timestamp::EPOCH + Duration::from_secs(count)
    }

    /// Begun at second 0, to be polled every five, until second 900.
    pub(in crate::domain) fn flow(code: &str) -> Flow {
        Flow {
            device_code: code.into(),
            user_code: "ABC".into(),
            verification_uri: "https://example/devicelogin".to_owned(),
            claims: None,
            started_by: "jane".to_owned(),
            started_at: second(0),
            expires_at: second(900),
            interval: Duration::from_secs(5),
            next_poll_at: second(5),
        }
    }

    #[test]
    fn polls_slow_down_when_told_to_and_when_they_fail() {
        let paced = |pace| {
            let flow = flow("code").at(pace, second(100));
            (flow.interval.as_secs(), flow.next_poll_at.unix_seconds())
        };
        let asked = |seconds| Pace::Failing(Some(Duration::from_secs(seconds)));
        assert_eq!(paced(Pace::Keep), (5, 105));
        assert_eq!(paced(Pace::Slower), (10, 110));
        assert_eq!(paced(Pace::Failing(None)), (10, 110));
        assert_eq!(paced(asked(3)), (10, 110));
        assert_eq!(paced(asked(40)), (10, 140));
        assert_eq!(paced(Pace::Claimed(Duration::from_secs(35))), (5, 135));
        let failing = (0..9).fold(flow("code"), |flow, _| flow.at(Pace::Failing(None), second(0)));
        assert_eq!(failing.interval.as_secs(), 60);
    }
}
