//! Renewing: what Entra's answer does to the stored sign-in.

use std::sync::PoisonError;
use std::time::Duration;

use tracing::{info, warn};

use super::vault::Held;
use super::wire::{Heard, Tokens, Undecided};
use super::{AccessToken, Identity, IdentityError, Updated, advice, id_token};
use crate::domain::session::{Fate, Session};
use crate::domain::sign_in::{Access, Account, Class, EARLY, Grant, SignedIn};
use crate::domain::timestamp::Timestamp;
use crate::error_chain::Chain;
use crate::http::retry::GaveUp;

/// How long until a sign-in kept through a refusal is tried again: a policy or a
/// lockout set by mistake is often gone within the hour.
const ASK_AGAIN: Duration = Duration::from_hours(1);
/// The same where a permission is missing: somebody has just changed
/// `FunctionConfigAlertSource`, and alerts wait for what they do next.
const ASK_FOR_PERMISSION_AGAIN: Duration = Duration::from_mins(15);

/// A token that could not be stored, with the account it is for.
#[derive(Debug)]
pub(super) struct Unsaved {
    account: Account,
    access: Access,
}

impl Identity {
    /// Asks Entra for new tokens and stores what it decides. `None` when others
    /// were faster: what they stored counts.
    pub(super) async fn renew(
        &self,
        held: Held,
        sign_in: &SignedIn,
        claims: Option<&str>,
        force: bool,
    ) -> Result<Option<AccessToken>, IdentityError> {
        let used = &sign_in.grant.refresh_token;
        let heard = self.authority.renew(used, claims).await;
        let now = self.clock.now();
        let (refusal, fate) = match heard {
            Ok(Heard::Granted(tokens)) if is_same(&sign_in.account, &tokens) => {
                let refresh = tokens.refresh_token.clone().unwrap_or_else(|| used.clone());
                let grant = self.grant(tokens, refresh, now);
                return self.store_renewed(held, sign_in, grant, now).await;
            }
            Ok(Heard::Granted(_)) => (advice::changed_account(now), Fate::Forgotten),
            Ok(Heard::Refused(complaint)) => {
                warn!(error = %complaint.error, code = complaint.code, "the sign-in was not renewed");
                let refusal = advice::refusal(&complaint, self.audience, now);
                let fate = if advice::ends_the_sign_in(&complaint) {
                    Fate::Forgotten
                } else if refusal.class == Class::Permission {
                    Fate::KeptUntil(now + ASK_FOR_PERMISSION_AGAIN)
                } else {
                    Fate::KeptUntil(now + ASK_AGAIN)
                };
                (refusal, fate)
            }
            Ok(Heard::Pending | Heard::SlowDown) => {
                return self.put_off(held, sign_in, None, force).await;
            }
            Err(gave_up) => return self.put_off(held, sign_in, Some(gave_up), force).await,
        };
        let lose = |session: Session| session.lose(used, refusal.clone(), fate);
        match self.update(held, lose).await {
            Ok(Updated::Overtaken(_)) => return Ok(None),
            Ok(Updated::Saved(_)) => {}
            Err(error) => warn!(error = %Chain(&error), "the refused sign-in is still stored"),
        }
        Err(IdentityError::SignInNeeded(refusal.advice))
    }

    async fn store_renewed(
        &self,
        held: Held,
        sign_in: &SignedIn,
        grant: Grant,
        now: Timestamp,
    ) -> Result<Option<AccessToken>, IdentityError> {
        let used = &sign_in.grant.refresh_token;
        let renew = |session: Session| session.renew(used, grant.clone(), now);
        let stored = match self.update(held, renew).await {
            Ok(Updated::Overtaken(_)) => return Ok(None),
            Ok(Updated::Saved(_)) => {
                info!(expires = %grant.access.expires_at, "the sign-in was renewed");
                self.keep_unsaved(None);
                true
            }
            Err(error) => {
                warn!(error = %Chain(&error), "the renewed sign-in could not be stored");
                let account = sign_in.account.clone();
                self.keep_unsaved(Some(Unsaved { account, access: grant.access.clone() }));
                false
            }
        };
        Ok(Some(AccessToken::of(&grant.access, stored)))
    }

    /// Entra decided nothing: it is left alone for a while, and the token at
    /// hand serves while it lasts.
    async fn put_off(
        &self,
        held: Held,
        sign_in: &SignedIn,
        cause: Option<GaveUp<Undecided>>,
        force: bool,
    ) -> Result<Option<AccessToken>, IdentityError> {
        let retry_at = self.retry_at(cause.as_ref());
        let busy = IdentityError::Busy { retry_at, cause };
        warn!(until = %retry_at, error = %Chain(&busy), "the sign-in could not be renewed yet");
        let used = &sign_in.grant.refresh_token;
        let back_off = |session: Session| session.back_off(used, retry_at);
        match self.update(held, back_off).await {
            Ok(Updated::Overtaken(_)) => return Ok(None),
            Ok(Updated::Saved(_)) => {}
            Err(error) => warn!(error = %Chain(&error), "the wait could not be stored"),
        }
        let access = &sign_in.grant.access;
        if !force && access.lasts(Duration::ZERO, self.audience, self.clock.now()) {
            return Ok(Some(AccessToken::of(access, true)));
        }
        Err(busy)
    }

    pub(super) fn kept_unsaved(&self, sign_in: &SignedIn, now: Timestamp) -> Option<AccessToken> {
        let unsaved = self.unsaved.lock().unwrap_or_else(PoisonError::into_inner);
        let Unsaved { account, access } = unsaved.as_ref()?;
        let fits = account.is(&sign_in.account) && access.lasts(EARLY, self.audience, now);
        fits.then(|| AccessToken::of(access, false))
    }

    pub(super) fn keep_unsaved(&self, token: Option<Unsaved>) {
        *self.unsaved.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }
}

impl AccessToken {
    pub(super) fn of(access: &Access, stored: bool) -> Self {
        Self { secret: access.secret.clone(), expires_at: access.expires_at, stored }
    }
}

/// Whether renewed tokens are for `account`. Entra need not say so again.
fn is_same(account: &Account, tokens: &Tokens) -> bool {
    match tokens.id_token.as_ref().map(id_token::subject) {
        Some(Ok(subject)) => account.is(&subject),
        Some(Err(_)) | None => true,
    }
}
