//! The sign-in: its states, and the only ways from one to the next.
//!
//! ```text
//!               begin                complete
//! SignedOut ───────────► Pending ───────────────► SignedIn ◄─┐ renew, back_off
//!     ▲                  │  │  ▲                   │  │  └───┘
//!     │      cancel      │  │  └───── begin ───────┘  │
//!     ├──◄ what was ─────┘  │                         │ lose
//!     │    there before     │ reject                  ▼
//!     │                     └─────────────────────► Refused ── begin ─► Pending
//!     └── sign_out, from anywhere                     │
//!                                   SignedIn ◄─ renew ┘ when the sign-in was kept
//! ```
//!
//! A code that waits for a person hides nothing: the sign-in it would replace
//! stays behind it and goes on working, and comes back if the code comes to
//! nothing.

use std::time::Duration;

use secrecy::SecretString;

use super::advice::Advice;
use super::sign_in::{
    Access, Account, EARLY, Flow, Grant, Pace, Refusal, Remains, Settled, SignedIn,
};
use super::timestamp::Timestamp;

/// The sign-in.
#[derive(Clone, Debug)]
pub enum Session {
    /// Nothing waits for a person.
    Settled(Settled),
    /// A code waits for a person.
    Pending {
        /// The code.
        flow: Flow,
        /// What it would replace; goes on working meanwhile.
        behind: Settled,
    },
}

/// The state does not allow this. Nothing changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the sign-in is {state}: it cannot {step}")]
pub struct IllegalMove {
    state: &'static str,
    step: &'static str,
}

/// What becomes of a sign-in that was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// Entra refused the sign-in itself: its tokens are forgotten.
    Forgotten,
    /// Entra refused the app; ask again then.
    KeptUntil(Timestamp),
}

/// Where an access token is to come from.
#[derive(Clone, Copy, Debug)]
pub enum Way<'a> {
    /// This one will do.
    Use(&'a Access),
    /// A new one must be asked for.
    Renew(&'a SignedIn),
    /// Entra is not to be called before then, and no token is left.
    Wait(Timestamp),
    /// Only a person can help: `None` when nobody is signed in.
    SignIn(Option<&'a Advice>),
}

impl Session {
    /// The code that waits for a person, alive or not.
    pub fn flow(&self) -> Option<&Flow> {
        match self {
            Self::Settled(_) => None,
            Self::Pending { flow, .. } => Some(flow),
        }
    }

    /// The sign-in, apart from any code that waits.
    pub fn settled(&self) -> &Settled {
        match self {
            Self::Settled(settled) | Self::Pending { behind: settled, .. } => settled,
        }
    }

    /// The tokens at hand, in use or kept.
    pub fn sign_in(&self) -> Option<&SignedIn> {
        self.settled().sign_in()
    }

    /// What the last refusal demands of the next sign-in.
    pub fn demanded_claims(&self) -> Option<&str> {
        match self.settled() {
            Settled::Refused { refusal, .. } => refusal.claims.as_deref(),
            Settled::SignedOut { .. } | Settled::SignedIn(_) => None,
        }
    }

    /// Where an access token for `audience` is to come from. `force`: the one
    /// at hand was refused by the API and is worth nothing.
    pub fn way(&self, audience: &str, force: bool, now: Timestamp) -> Way<'_> {
        match self.settled() {
            Settled::SignedOut { .. } => Way::SignIn(None),
            Settled::SignedIn(sign_in) => {
                let access = &sign_in.grant.access;
                let waiting = sign_in.back_off_until.filter(|until| now < *until);
                match waiting {
                    _ if !force && access.lasts(EARLY, audience, now) => Way::Use(access),
                    Some(_) if !force && access.lasts(Duration::ZERO, audience, now) => {
                        Way::Use(access)
                    }
                    Some(until) => Way::Wait(until),
                    None => Way::Renew(sign_in),
                }
            }
            Settled::Refused { refusal, remains } => match remains {
                Remains::SignIn(kept) if kept.back_off_until.is_none_or(|until| until <= now) => {
                    Way::Renew(kept)
                }
                Remains::SignIn(_) | Remains::Name(_) => Way::SignIn(Some(&refusal.advice)),
            },
        }
    }

    /// A person has asked for a code.
    ///
    /// # Errors
    ///
    /// [`IllegalMove`] while another code is alive.
    pub fn begin(self, flow: Flow, now: Timestamp) -> Result<Self, IllegalMove> {
        match self {
            Self::Pending { flow: other, .. } if other.is_alive(now) => {
                Err(IllegalMove { state: "pending", step: "begin" })
            }
            Self::Pending { behind, .. } | Self::Settled(behind) => {
                Ok(Self::Pending { flow, behind })
            }
        }
    }

    /// A poll brought no decision, or is about to be sent.
    ///
    /// # Errors
    ///
    /// [`IllegalMove`] if this code no longer waits.
    pub fn poll_later(
        self,
        device_code: &SecretString,
        pace: Pace,
        now: Timestamp,
    ) -> Result<Self, IllegalMove> {
        let (flow, behind) = self.pending(device_code, "poll")?;
        Ok(Self::Pending { flow: flow.at(pace, now), behind })
    }

    /// The person agreed.
    ///
    /// # Errors
    ///
    /// [`IllegalMove`] if this code no longer waits: it was cancelled or
    /// replaced meanwhile, and what it brought must be thrown away.
    pub fn complete(
        self,
        device_code: &SecretString,
        grant: Grant,
        account: Account,
        now: Timestamp,
    ) -> Result<Self, IllegalMove> {
        let (_, behind) = self.pending(device_code, "complete")?;
        let replaced = behind.account().filter(|before| !before.is(&account)).cloned();
        Ok(Self::Settled(Settled::SignedIn(Box::new(SignedIn {
            account,
            grant,
            since: now,
            renewed_at: now,
            back_off_until: None,
            replaced,
            failed_attempt: None,
        }))))
    }

    /// The code came to nothing. A sign-in behind it goes on, and remembers.
    ///
    /// # Errors
    ///
    /// [`IllegalMove`] if this code no longer waits.
    pub fn reject(self, device_code: &SecretString, refusal: Refusal) -> Result<Self, IllegalMove> {
        let (_, behind) = self.pending(device_code, "reject")?;
        Ok(Self::Settled(match behind {
            Settled::SignedIn(sign_in) => {
                Settled::SignedIn(Box::new(SignedIn { failed_attempt: Some(refusal), ..*sign_in }))
            }
            Settled::SignedOut { last } => {
                Settled::Refused { refusal, remains: Remains::Name(last) }
            }
            Settled::Refused { remains, .. } => Settled::Refused { refusal, remains },
        }))
    }

    /// A person has thought better of it.
    ///
    /// # Errors
    ///
    /// [`IllegalMove`] if no code waits.
    pub fn cancel(self) -> Result<Self, IllegalMove> {
        match self {
            Self::Pending { behind, .. } => Ok(Self::Settled(behind)),
            Self::Settled(settled) => {
                Err(IllegalMove { state: settled.name(), step: "cancel a code" })
            }
        }
    }

    /// Entra handed out new tokens for the refresh token `used`.
    ///
    /// # Errors
    ///
    /// [`IllegalMove`] if there is no sign-in, or it was renewed or replaced
    /// meanwhile: what is stored is as good as what came.
    pub fn renew(
        self,
        used: &SecretString,
        grant: Grant,
        now: Timestamp,
    ) -> Result<Self, IllegalMove> {
        self.map_sign_in(used, "renew", |sign_in| {
            Settled::SignedIn(Box::new(SignedIn {
                grant,
                renewed_at: now,
                back_off_until: None,
                ..*sign_in
            }))
        })
    }

    /// Entra is not to be called before `until`. A kept sign-in stays refused.
    ///
    /// # Errors
    ///
    /// [`IllegalMove`] as for [`Self::renew`].
    pub fn back_off(self, used: &SecretString, until: Timestamp) -> Result<Self, IllegalMove> {
        let refusal = match self.settled() {
            Settled::Refused { refusal, .. } => Some(refusal.clone()),
            Settled::SignedOut { .. } | Settled::SignedIn(_) => None,
        };
        self.map_sign_in(used, "back off", |sign_in| {
            let sign_in = Box::new(SignedIn { back_off_until: Some(until), ..*sign_in });
            match refusal {
                Some(refusal) => Settled::Refused { refusal, remains: Remains::SignIn(sign_in) },
                None => Settled::SignedIn(sign_in),
            }
        })
    }

    /// Entra refused to renew with the refresh token `used`.
    ///
    /// # Errors
    ///
    /// [`IllegalMove`] as for [`Self::renew`].
    pub fn lose(
        self,
        used: &SecretString,
        refusal: Refusal,
        fate: Fate,
    ) -> Result<Self, IllegalMove> {
        self.map_sign_in(used, "lose it", |sign_in| {
            let remains = match fate {
                Fate::Forgotten => Remains::Name(Some(sign_in.account)),
                Fate::KeptUntil(until) => {
                    Remains::SignIn(Box::new(SignedIn { back_off_until: Some(until), ..*sign_in }))
                }
            };
            Settled::Refused { refusal, remains }
        })
    }

    /// A person has signed out. Every token and code is forgotten; who it was
    /// is not, so that another account is noticed.
    #[must_use]
    pub fn sign_out(self) -> Self {
        Self::Settled(Settled::SignedOut { last: self.settled().account().cloned() })
    }

    fn pending(
        self,
        device_code: &SecretString,
        step: &'static str,
    ) -> Result<(Flow, Settled), IllegalMove> {
        match self {
            Self::Pending { flow, behind } if flow.has(device_code) => Ok((flow, behind)),
            Self::Pending { .. } => Err(IllegalMove { state: "pending for another code", step }),
            Self::Settled(settled) => Err(IllegalMove { state: settled.name(), step }),
        }
    }

    fn map_sign_in(
        self,
        used: &SecretString,
        step: &'static str,
        change: impl FnOnce(Box<SignedIn>) -> Settled,
    ) -> Result<Self, IllegalMove> {
        let change = |settled: Settled| {
            let state = settled.name();
            let sign_in = settled.into_sign_in().ok_or(IllegalMove { state, step })?;
            if !sign_in.grant.came_with(used) {
                return Err(IllegalMove { state: "signed in anew", step });
            }
            Ok(change(sign_in))
        };
        Ok(match self {
            Self::Settled(settled) => Self::Settled(change(settled)?),
            Self::Pending { flow, behind } => Self::Pending { flow, behind: change(behind)? },
        })
    }
}

impl Default for Session {
    /// Nobody has ever signed in.
    fn default() -> Self {
        Self::Settled(Settled::SignedOut { last: None })
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;
    use uuid::Uuid;

    use super::super::sign_in::Class;
    use super::*;

    const API: &str = "https://api.example";

    fn second(count: u64) -> Timestamp {
        Timestamp::EPOCH + Duration::from_secs(count)
    }

    fn account(oid: u128) -> Account {
        let username = format!("export{oid}@example.nhs.uk");
        Account { username, name: None, oid: Uuid::from_u128(oid), tenant: Uuid::from_u128(7) }
    }

    fn flow(code: &str) -> Flow {
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

    /// Access tokens here live for an hour.
    fn grant(text: &str, now: Timestamp) -> Grant {
        let expires_at = now + Duration::from_hours(1);
        let access = Access { secret: text.into(), expires_at, audience: API.to_owned() };
        Grant { refresh_token: text.into(), access }
    }

    fn refusal() -> Refusal {
        let advice = Advice { message: "no".to_owned(), next_step: "ask".to_owned() };
        Refusal { class: Class::Policy, advice, claims: Some("{}".to_owned()), at: second(9) }
    }

    fn pending() -> Session {
        Session::default().begin(flow("code"), second(0)).unwrap()
    }

    fn signed_in() -> Session {
        pending().complete(&"code".into(), grant("one", second(5)), account(1), second(5)).unwrap()
    }

    /// `use`, `renew`, `wait SECOND`, `sign in` or `sign in: WHY`.
    fn way(session: &Session, force: bool, now: u64) -> String {
        match session.way(API, force, second(now)) {
            Way::Use(access) => format!("use {}", access.secret.expose_secret()),
            Way::Renew(_) => "renew".to_owned(),
            Way::Wait(until) => format!("wait {}", until.unix_seconds()),
            Way::SignIn(None) => "sign in".to_owned(),
            Way::SignIn(Some(advice)) => format!("sign in: {}", advice.message),
        }
    }

    #[test]
    fn only_one_code_waits_at_a_time_until_it_ends() {
        assert!(pending().begin(flow("other"), second(899)).is_err());
        let next = pending().begin(flow("other"), second(900)).unwrap();
        assert!(next.flow().unwrap().has(&"other".into()));
    }

    #[test]
    fn what_another_code_brings_is_thrown_away() {
        let other = SecretString::from("other");
        let now = second(5);
        assert!(pending().poll_later(&other, Pace::Keep, now).is_err());
        assert!(pending().complete(&other, grant("x", now), account(1), now).is_err());
        assert!(pending().reject(&other, refusal()).is_err());
        let cancelled = pending().cancel().unwrap();
        assert!(cancelled.complete(&"code".into(), grant("x", now), account(1), now).is_err());
    }

    #[test]
    fn a_token_serves_until_five_minutes_before_its_end() {
        let session = signed_in();
        let end = 5 + 3_600;
        assert_eq!(way(&session, false, end - 301), "use one");
        assert_eq!(way(&session, false, end - 300), "renew");
        assert_eq!(way(&session, true, 6), "renew");
        assert!(matches!(session.way("https://other", false, second(6)), Way::Renew(_)));
    }

    #[test]
    fn while_entra_is_left_alone_the_old_token_serves_to_its_end() {
        let end = 5 + 3_600;
        let session = signed_in().back_off(&"one".into(), second(end + 60)).unwrap();
        assert_eq!(way(&session, false, end - 1), "use one");
        assert_eq!(way(&session, true, end - 1), "wait 3665");
        assert_eq!(way(&session, false, end), "wait 3665");
        assert_eq!(way(&session, false, end + 60), "renew");
        let renewed = session.renew(&"one".into(), grant("two", second(4_000)), second(4_000));
        assert_eq!(way(&renewed.unwrap(), false, 4_001), "use two");
    }

    #[test]
    fn a_sign_in_renewed_by_others_is_neither_lost_nor_overwritten() {
        let used = SecretString::from("one");
        let others = || signed_in().renew(&used, grant("two", second(9)), second(9)).unwrap();
        assert!(others().lose(&used, refusal(), Fate::Forgotten).is_err());
        assert!(others().renew(&used, grant("three", second(9)), second(9)).is_err());
        assert!(others().back_off(&used, second(99)).is_err());
    }

    #[test]
    fn a_refused_sign_in_leaves_a_name_and_no_token() {
        let session = signed_in().lose(&"one".into(), refusal(), Fate::Forgotten).unwrap();
        assert_eq!(way(&session, false, 6), "sign in: no");
        assert!(session.sign_in().is_none());
        assert_eq!(session.settled().account(), Some(&account(1)));
        assert_eq!(session.demanded_claims(), Some("{}"));
    }

    #[test]
    fn a_sign_in_refused_for_the_apps_sake_is_tried_again_later() {
        let fate = Fate::KeptUntil(second(100));
        let session = signed_in().lose(&"one".into(), refusal(), fate).unwrap();
        assert_eq!(way(&session, false, 99), "sign in: no");
        assert_eq!(way(&session, false, 100), "renew");
        let later = session.clone().back_off(&"one".into(), second(200)).unwrap();
        assert_eq!(way(&later, false, 199), "sign in: no");
        let renewed = session.renew(&"one".into(), grant("two", second(100)), second(100));
        assert_eq!(way(&renewed.unwrap(), false, 101), "use two");
    }

    #[test]
    fn a_code_that_comes_to_nothing_gives_back_what_was_there() {
        let again = || signed_in().begin(flow("again"), second(10)).unwrap();
        assert_eq!(way(&again(), false, 11), "use one");
        assert_eq!(way(&again().cancel().unwrap(), false, 11), "use one");
        let rejected = again().reject(&"again".into(), refusal()).unwrap();
        assert_eq!(way(&rejected, false, 11), "use one");
        assert_eq!(rejected.sign_in().unwrap().failed_attempt, Some(refusal()));
        assert_eq!(
            way(&pending().reject(&"code".into(), refusal()).unwrap(), false, 11),
            "sign in: no"
        );
    }

    #[test]
    fn another_account_than_before_is_noticed_even_after_signing_out() {
        let next = |before: Session, oid| {
            let again = before.begin(flow("again"), second(1_000)).unwrap();
            let done = again.complete(
                &"again".into(),
                grant("n", second(1_000)),
                account(oid),
                second(1_000),
            );
            done.unwrap().sign_in().unwrap().replaced.clone()
        };
        let refused = signed_in().lose(&"one".into(), refusal(), Fate::Forgotten).unwrap();
        for before in [signed_in(), signed_in().sign_out(), refused] {
            assert_eq!(next(before.clone(), 1), None);
            assert_eq!(next(before, 2), Some(account(1)));
        }
    }

    #[test]
    fn signing_out_leaves_no_token_and_no_code() {
        let session = signed_in().begin(flow("again"), second(10)).unwrap().sign_out();
        assert!(session.flow().is_none() && session.sign_in().is_none());
        assert_eq!(way(&session, false, 11), "sign in");
    }
}
