//! Signing in as the trust's own account, and staying signed in.
//!
//! A person signs in with a device code; from then on the refresh token keeps
//! it going (90 days from its last use). Everything is stored, sealed, in one
//! place, so that a code asked for by one instance can be polled by another and
//! a renewal serves them all. Nothing is kept in memory but a token that could
//! not be stored.
//!
//! Entra decides by an answer in its own form and by nothing else: whatever
//! comes from a proxy, a broken line or a data centre in trouble leaves the
//! sign-in as it is.

mod advice;
mod audience;
mod authority;
mod error;
mod id_token;
mod meanings;
mod probe;
mod renewal;
mod saved;
mod seal;
mod vault;
mod wire;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use oauth2::StandardDeviceAuthorizationResponse;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use tracing::{info, warn};

pub use self::audience::{DEFENDER_AUDIENCE, GRAPH_AUDIENCE};
pub use self::error::IdentityError;
pub use self::probe::{Consent, Tenant};
pub use self::seal::SealError;
pub use self::vault::Place;
pub use self::wire::Undecided;

use self::authority::{Authority, PATIENCE};
use self::id_token::Expected;
use self::renewal::Unsaved;
use self::seal::Seal;
use self::vault::{Held, Vault, VaultError};
use self::wire::{Heard, Tokens};
use crate::clock::Clock;
use crate::config::IdentityConfig;
use crate::domain::session::{IllegalMove, Session, Way};
use crate::domain::sign_in::{Access, Account, Flow, Grant, Pace, Refusal};
use crate::domain::standing::Standing;
use crate::domain::timestamp::Timestamp;
use crate::error_chain::Chain;
use crate::http::Http;
use crate::http::retry::GaveUp;
use crate::store::StoreError;

/// How often a change is tried when others change the sign-in meanwhile.
const ATTEMPTS: u32 = 4;
/// A poll in flight keeps others from polling for this long.
const CLAIM: Duration = Duration::from_secs(PATIENCE.as_secs() + 5);
/// How long Entra is left alone after it was busy and did not say how long.
const BACK_OFF: Duration = Duration::from_mins(1);
/// Codes live 15 minutes; an answer that says more than this is not believed.
const LONGEST_CODE: Duration = Duration::from_hours(1);

/// The trust's sign-in. Clones share it.
#[derive(Clone, Debug)]
pub struct Identity {
    authority: Authority,
    vault: Vault,
    expected: Expected,
    audience: &'static str,
    clock: Clock,
    unsaved: Arc<Mutex<Option<Unsaved>>>,
}

/// A code, for the person who asked for it and nobody else.
#[derive(Clone, Debug)]
pub struct Code {
    /// What to type in.
    pub user_code: SecretString,
    /// Where.
    pub verification_uri: String,
    /// Until when.
    pub expires_at: Timestamp,
    /// A poll before this does nothing.
    pub next_poll_at: Timestamp,
    /// Proves to any instance that its bearer started this sign-in; made from
    /// the device code, which it does not give away.
    pub ticket: SecretString,
}

/// What sort of access token is wanted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Demand {
    /// Any that is valid.
    Any,
    /// A new one, for the API refused the last with 401.
    Renewed {
        /// The claims of its challenge, as JSON text
        /// (<https://learn.microsoft.com/entra/identity-platform/claims-challenge>).
        claims: Option<String>,
    },
}

/// A token for the API.
#[derive(Clone, Debug)]
pub struct AccessToken {
    /// Goes into `Authorization: Bearer`.
    pub secret: SecretString,
    /// When the API stops accepting it.
    pub expires_at: Timestamp,
    /// False: this run may use it, but the sign-in it came with could not be
    /// stored, and the next run has to renew again. Worth a person's attention.
    pub stored: bool,
}

/// What a poll led to.
enum Outcome {
    Wait(Pace),
    Complete(Grant, Account),
    Reject(Refusal),
}

/// The stored sign-in after a change was tried on it.
enum Updated {
    Saved(Session),
    /// Others changed it so that the change no longer makes sense.
    Overtaken(Session),
}

impl Identity {
    /// For tokens of `audience`: [`DEFENDER_AUDIENCE`] or [`GRAPH_AUDIENCE`]. A
    /// sign-in serves both, if both were consented to.
    ///
    /// # Errors
    ///
    /// [`IdentityError::SealingKey`] naming the key setting that is no key.
    pub fn new(
        http: Http,
        clock: Clock,
        config: &IdentityConfig,
        audience: &'static str,
        place: impl Into<Place>,
    ) -> Result<Self, IdentityError> {
        let authority = Authority::new(http, clock.clone(), config, audience);
        let vault = Vault::new(place.into(), Seal::new(config)?);
        let expected = Expected {
            tenant: config.tenant,
            client: config.client,
            authority: config.authority.clone(),
        };
        Ok(Self { authority, vault, expected, audience, clock, unsaved: Arc::default() })
    }

    /// Asks Entra for a code on behalf of `started_by`. A sign-in that works
    /// goes on working until the code is used.
    ///
    /// # Errors
    ///
    /// [`IdentityError::UnderWay`] while another code is alive. After any error
    /// the sign-in is as it was.
    pub async fn start(&self, started_by: &str) -> Result<Code, IdentityError> {
        let held = self.vault.load_or_give_up().await?;
        self.none_under_way(&held.session)?;
        let answer = match self.authority.ask().await {
            Ok(Heard::Granted(answer)) => answer,
            Ok(Heard::Refused(complaint)) => {
                warn!(error = %complaint.error, code = complaint.code, "a code was refused");
                let refusal = advice::refusal(&complaint, self.audience, self.clock.now());
                return Err(IdentityError::NotStarted(refusal.advice));
            }
            Ok(Heard::Pending | Heard::SlowDown) => return Err(self.busy(None)),
            Err(gave_up) => return Err(self.busy(Some(gave_up))),
        };
        let now = self.clock.now();
        let claims = held.session.demanded_claims().map(str::to_owned);
        let flow = flow(&answer, claims, started_by, now);
        let updated = self.update(held, |session| session.begin(flow.clone(), now)).await?;
        if let Updated::Overtaken(session) = updated {
            self.none_under_way(&session)?;
        }
        info!(expires = %flow.expires_at, "a sign-in was started");
        Ok(Code::of(&flow))
    }

    /// The code that waits for a person, for whoever bears its ticket.
    ///
    /// # Errors
    ///
    /// As [`Self::standing`].
    pub async fn waiting(&self) -> Result<Option<Code>, IdentityError> {
        let held = self.vault.load().await?;
        let now = self.clock.now();
        Ok(held.session.flow().filter(|flow| flow.is_alive(now)).map(Code::of))
    }

    /// Asks Entra at most once whether the code was used, and not before its
    /// time; then says how the sign-in stands.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Storage`]; if it happens just as the code was used, a
    /// new sign-in must be started. Entra's troubles are no error: the code is
    /// polled again later.
    pub async fn poll(&self) -> Result<Standing, IdentityError> {
        let held = self.vault.load().await?;
        let now = self.clock.now();
        let Some(flow) = held.session.flow().cloned() else {
            return Ok(Standing::of(&held.session, now));
        };
        if !flow.is_alive(now) {
            let refusal = advice::too_late(now);
            return self.settle(held, &flow, Outcome::Reject(refusal)).await;
        }
        if now < flow.next_poll_at {
            return Ok(Standing::of(&held.session, now));
        }
        // Claimed first: of two polls at once the one refused would otherwise
        // wipe out the tokens of the other.
        let Ok(claimed) = held.session.poll_later(&flow.device_code, Pace::Claimed(CLAIM), now)
        else {
            return self.standing().await;
        };
        let version = match self.vault.save(held.version, &claimed, now).await {
            Err(VaultError::Store(StoreError::Conflict)) => return self.standing().await,
            saved => saved?,
        };
        let heard = self.authority.poll(&flow.device_code, flow.claims.as_deref()).await;
        let outcome = self.judge(heard);
        self.settle(Held { session: claimed, version }, &flow, outcome).await
    }

    /// An access token, renewed if need be: five minutes before its end, or on
    /// demand. New tokens are stored before they are handed out.
    ///
    /// # Errors
    ///
    /// [`IdentityError::SignInNeeded`] when only a person can help;
    /// [`IdentityError::Busy`] when Entra is in trouble and no valid token is
    /// left.
    pub async fn access_token(&self, demand: Demand) -> Result<AccessToken, IdentityError> {
        let (forced, claims) = match demand {
            Demand::Any => (false, None),
            Demand::Renewed { claims } => (true, claims),
        };
        // The token the API refused; one that others stored meanwhile will do.
        let mut refused = None;
        for _ in 0..ATTEMPTS {
            let held = self.vault.load().await?;
            let now = self.clock.now();
            let at_hand = held.session.sign_in().map(|sign_in| &sign_in.grant.access.secret);
            if forced && refused.is_none() {
                refused = at_hand.cloned();
            }
            let is_refused = |token: &SecretString| {
                refused.as_ref().is_some_and(|it| it.expose_secret() == token.expose_secret())
            };
            let force = at_hand.is_some_and(is_refused);
            let sign_in = match held.session.way(self.audience, force, now) {
                Way::Use(access) => return Ok(AccessToken::of(access, true)),
                Way::Wait(retry_at) => {
                    return Err(IdentityError::Busy { retry_at, cause: None });
                }
                Way::SignIn(None) => return Err(IdentityError::nobody()),
                Way::SignIn(Some(advice)) => {
                    return Err(IdentityError::SignInNeeded(advice.clone()));
                }
                Way::Renew(sign_in) => sign_in.clone(),
            };
            if !force && let Some(token) = self.kept_unsaved(&sign_in, now) {
                return Ok(token);
            }
            if let Some(token) = self.renew(held, &sign_in, claims.as_deref(), force).await? {
                return Ok(token);
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// How the sign-in stands. Asks nobody but the store.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Storage`] or [`IdentityError::SealingKey`].
    pub async fn standing(&self) -> Result<Standing, IdentityError> {
        Ok(Standing::of(&self.vault.load().await?.session, self.clock.now()))
    }

    /// Forgets the code that waits, if one does.
    ///
    /// # Errors
    ///
    /// As [`Self::standing`].
    pub async fn cancel(&self) -> Result<Standing, IdentityError> {
        let held = self.vault.load().await?;
        let (Updated::Saved(session) | Updated::Overtaken(session)) =
            self.update(held, Session::cancel).await?;
        Ok(Standing::of(&session, self.clock.now()))
    }

    /// Forgets every token. Entra is not told: an administrator of the identity
    /// tenant revokes sessions there.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Storage`]; the sign-in may then still be stored.
    pub async fn sign_out(&self) -> Result<(), IdentityError> {
        self.keep_unsaved(None);
        let held = self.vault.load_or_give_up().await?;
        self.update(held, |session| Ok(session.sign_out())).await?;
        info!("signed out");
        Ok(())
    }

    fn none_under_way(&self, session: &Session) -> Result<(), IdentityError> {
        match session.flow() {
            Some(flow) if flow.is_alive(self.clock.now()) => {
                Err(IdentityError::UnderWay { expires_at: flow.expires_at })
            }
            Some(_) | None => Ok(()),
        }
    }

    fn busy(&self, cause: Option<GaveUp<Undecided>>) -> IdentityError {
        IdentityError::Busy { retry_at: self.retry_at(cause.as_ref()), cause }
    }

    fn retry_at(&self, cause: Option<&GaveUp<Undecided>>) -> Timestamp {
        let asked = cause.and_then(|gave_up| gave_up.last.asked());
        self.clock.now() + asked.map_or(BACK_OFF, |asked| asked.max(BACK_OFF))
    }

    /// What Entra's answer to a poll means.
    fn judge(&self, heard: Result<Heard<Tokens>, Undecided>) -> Outcome {
        let now = self.clock.now();
        match heard {
            Ok(Heard::Pending) => Outcome::Wait(Pace::Keep),
            Ok(Heard::SlowDown) => Outcome::Wait(Pace::Slower),
            Err(undecided) => {
                warn!(error = %Chain(&undecided), "a poll of the sign-in brought no answer");
                Outcome::Wait(Pace::Failing(undecided.asked()))
            }
            Ok(Heard::Refused(complaint)) => {
                warn!(error = %complaint.error, code = complaint.code, "the sign-in was refused");
                Outcome::Reject(advice::refusal(&complaint, self.audience, now))
            }
            Ok(Heard::Granted(tokens)) => {
                let account = match tokens.id_token.as_ref() {
                    Some(token) => self.expected.check(token, now).map_err(Some),
                    None => Err(None),
                };
                match (account, tokens.refresh_token.clone()) {
                    (Err(why), _) => {
                        warn!(?why, "tokens came that prove nothing; they were thrown away");
                        Outcome::Reject(advice::not_proven(why, now))
                    }
                    (Ok(_), None) => Outcome::Reject(advice::not_lasting(now)),
                    (Ok(account), Some(refresh)) => {
                        Outcome::Complete(self.grant(tokens, refresh, now), account)
                    }
                }
            }
        }
    }

    /// Stores what a poll of `flow` led to. If that flow is gone meanwhile, so
    /// is what it brought.
    async fn settle(
        &self,
        held: Held,
        flow: &Flow,
        outcome: Outcome,
    ) -> Result<Standing, IdentityError> {
        let now = self.clock.now();
        let code = &flow.device_code;
        let updated = self
            .update(held, |session| match &outcome {
                Outcome::Wait(pace) => session.poll_later(code, *pace, now),
                Outcome::Complete(grant, account) => {
                    session.complete(code, grant.clone(), account.clone(), now)
                }
                Outcome::Reject(refusal) => session.reject(code, refusal.clone()),
            })
            .await?;
        let (Updated::Saved(session) | Updated::Overtaken(session)) = updated;
        if let Outcome::Complete(..) = outcome {
            self.keep_unsaved(None);
            info!("signed in");
        }
        Ok(Standing::of(&session, now))
    }

    fn grant(&self, tokens: Tokens, refresh_token: SecretString, now: Timestamp) -> Grant {
        let access = Access {
            secret: tokens.access_token,
            expires_at: now + tokens.lives,
            audience: self.audience.to_owned(),
        };
        Grant { refresh_token, access }
    }

    /// Tries `step` on the stored sign-in until it is stored or makes no sense.
    async fn update(
        &self,
        mut held: Held,
        step: impl Fn(Session) -> Result<Session, IllegalMove>,
    ) -> Result<Updated, IdentityError> {
        for _ in 0..ATTEMPTS {
            let Ok(next) = step(held.session.clone()) else {
                return Ok(Updated::Overtaken(held.session));
            };
            match self.vault.save(held.version, &next, self.clock.now()).await {
                Ok(_newest) => return Ok(Updated::Saved(next)),
                Err(VaultError::Store(StoreError::Conflict)) => {
                    held = self.vault.load_or_give_up().await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict.into())
    }
}

impl Code {
    fn of(flow: &Flow) -> Self {
        let ticket = Sha256::new()
            .chain_update(b"who started this sign-in|")
            .chain_update(flow.device_code.expose_secret())
            .finalize();
        Self {
            user_code: flow.user_code.clone(),
            verification_uri: flow.verification_uri.clone(),
            expires_at: flow.expires_at,
            next_poll_at: flow.next_poll_at,
            ticket: URL_SAFE_NO_PAD.encode(ticket).into(),
        }
    }
}

fn flow(
    answer: &StandardDeviceAuthorizationResponse,
    claims: Option<String>,
    started_by: &str,
    now: Timestamp,
) -> Flow {
    let interval = answer.interval().max(Duration::from_secs(1));
    Flow {
        device_code: answer.device_code().secret().as_str().into(),
        user_code: answer.user_code().secret().as_str().into(),
        verification_uri: answer.verification_uri().to_string(),
        claims,
        started_by: started_by.to_owned(),
        started_at: now,
        expires_at: now + answer.expires_in().min(LONGEST_CODE),
        interval,
        next_poll_at: now + interval,
    }
}
