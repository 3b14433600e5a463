//! Questions that change nothing: is the tenant there, is the application a
//! public client, is another API consented to.

use super::advice;
use super::audience::scope;
use super::wire::{Complaint, Heard};
use super::{Identity, IdentityError};
use crate::domain::advice::Advice;
use crate::domain::judge::KeyRing;

/// What Entra says of the tenant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Tenant {
    /// There, at the addresses used here.
    Found,
    /// There, and not as used here.
    Otherwise(&'static str),
    /// Not there.
    Refused(Advice),
}

/// Whether Entra would give a token for another API.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Consent {
    /// It does.
    Given,
    /// Nobody consented yet. The text is for support.
    Missing(String),
    /// It refused for another reason.
    Refused(Advice),
    /// Nobody is signed in to ask for.
    NobodySignedIn,
}

impl Identity {
    /// Looks the tenant up in the authority's own directory.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Busy`] when Entra gave no answer.
    pub async fn tenant(&self) -> Result<Tenant, IdentityError> {
        let found = match self.authority.configuration().await {
            Ok(Heard::Granted(found)) => found,
            Ok(Heard::Refused(complaint)) => return Ok(Tenant::Refused(self.words(&complaint))),
            Ok(Heard::Pending | Heard::SlowDown) => return Err(self.busy(None)),
            Err(gave_up) => return Err(self.busy(Some(gave_up))),
        };
        let issuer_ends = format!("/{}/v2.0", self.expected.tenant);
        Ok(if !found.issuer.ends_with(&issuer_ends) {
            Tenant::Otherwise("it answers for another tenant")
        } else if !self.authority.asks_at(&found.token_endpoint) {
            Tenant::Otherwise("it names another address for tokens than the one in use")
        } else if found.device_authorization_endpoint.is_none() {
            Tenant::Otherwise("it names no address for sign-in with a code")
        } else {
            Tenant::Found
        })
    }

    /// Asks for a code and at once whether it was used. The code is shown to
    /// nobody and ends by itself; the stored sign-in is not touched.
    ///
    /// # Errors
    ///
    /// [`IdentityError::NotStarted`] with Entra's reason,
    /// [`IdentityError::Busy`] when it gave no answer.
    pub async fn try_application(&self) -> Result<(), IdentityError> {
        let refused = |complaint| Err(IdentityError::NotStarted(self.words(&complaint)));
        let code = match self.authority.ask().await {
            Ok(Heard::Granted(code)) => code.device_code().secret().as_str().into(),
            Ok(Heard::Refused(complaint)) => return refused(complaint),
            Ok(Heard::Pending | Heard::SlowDown) => return Err(self.busy(None)),
            Err(gave_up) => return Err(self.busy(Some(gave_up))),
        };
        match self.authority.poll(&code, None).await {
            Ok(Heard::Granted(_) | Heard::Pending | Heard::SlowDown) => Ok(()),
            Ok(Heard::Refused(complaint)) => refused(complaint),
            Err(_undecided) => Err(self.busy(None)),
        }
    }

    /// Asks for a token for `audience` with the stored sign-in, and throws it
    /// away.
    ///
    /// # Errors
    ///
    /// As [`Self::standing`], and [`IdentityError::Busy`].
    pub async fn consent(&self, audience: &str) -> Result<Consent, IdentityError> {
        let held = self.vault.load().await?;
        let Some(sign_in) = held.session.sign_in() else { return Ok(Consent::NobodySignedIn) };
        match self.authority.try_scope(&sign_in.grant.refresh_token, &scope(audience)).await {
            Ok(Heard::Granted(_)) => Ok(Consent::Given),
            Ok(Heard::Refused(complaint)) if lacks_consent(&complaint) => {
                Ok(Consent::Missing(advice::for_support(&complaint, self.clock.now())))
            }
            Ok(Heard::Refused(complaint)) => Ok(Consent::Refused(self.words(&complaint))),
            Ok(Heard::Pending | Heard::SlowDown) => Err(self.busy(None)),
            Err(gave_up) => Err(self.busy(Some(gave_up))),
        }
    }

    /// The key of the sign-in loaded last; `None` if none is stored.
    pub fn key_ring(&self) -> Option<KeyRing> {
        self.vault.key_ring()
    }

    fn words(&self, complaint: &Complaint) -> Advice {
        advice::refusal(complaint, self.audience, self.clock.now()).advice
    }
}

/// AADSTS65001 and its kin, or the words Entra has for them.
fn lacks_consent(complaint: &Complaint) -> bool {
    matches!(complaint.code, Some(65_001 | 65_004 | 90_094 | 650_057))
        || complaint.suberror.as_deref() == Some("consent_required")
        || complaint.error == "consent_required"
}
