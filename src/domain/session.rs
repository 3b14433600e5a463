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
    /// Its refresh token has ended: its tokens are forgotten.
    Forgotten,
    /// Refused for what may be put right without it: ask again then.
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
#[path = "session_tests.rs"]
mod tests;
