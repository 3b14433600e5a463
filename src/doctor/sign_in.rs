//! The stored sign-in: does it open, whose is it, does Entra still renew it.

use super::{Patient, may_not_look};
use crate::domain::check::{Check, Section, Verdict};
use crate::domain::judge;
use crate::durable::{NotKept, SidecarError};
use crate::identity::{AccessToken, Demand, Identity, IdentityError};
use crate::store::StoreError;

const SECTION: Section = Section::SignIn;
const NAME: &str = "sign-in";
const KEY: &str = "session-key";

/// What is known of the sign-in.
pub(super) struct SignedIn {
    /// `sign-in` and `session-key`.
    pub(super) checks: Vec<Check>,
    /// A token for the source, if one could be had.
    pub(super) token: Option<AccessToken>,
}

pub(super) async fn check(patient: &Patient, identity: &Identity, was_used: bool) -> SignedIn {
    let ask = async {
        // A token first: renewing it is what proves the sign-in.
        let token = identity.access_token(Demand::Any).await;
        let check = match (identity.standing().await, &token) {
            (Ok(standing), Err(error @ IdentityError::Busy { .. }))
                if standing.working().is_some() =>
            {
                Check::advised(NAME, SECTION, Verdict::Fail, error.advice())
            }
            (Ok(standing), _) => judge::sign_in(&standing, was_used, patient.clock.now()),
            (Err(IdentityError::Storage(StoreError::Refused { status: 403, .. })), _)
                if patient.uses_storage_as_a_person() =>
            {
                may_not_look(NAME, SECTION, "The stored sign-in", 403)
            }
            (Err(error), _) => unread(&error),
        };
        (check, token.ok())
    };
    let late = || (super::late(NAME, SECTION, patient.patience), None);
    let (check, token) = patient.within(ask, late).await;
    SignedIn { checks: vec![check, key(identity)], token }
}

/// The sign-in could not be looked at.
fn unread(error: &IdentityError) -> Check {
    // Only the Functions host can; the portal shows it there.
    let elsewhere = matches!(error, IdentityError::Entity(NotKept::Sidecar(SidecarError::Outside)));
    let verdict = if elsewhere { Verdict::Warn } else { Verdict::Fail };
    Check::advised(NAME, SECTION, verdict, error.advice())
}

fn key(identity: &Identity) -> Check {
    match identity.key_ring() {
        Some(ring) => judge::key_ring(ring),
        None => Check::not_checked(KEY, SECTION, "no stored sign-in could be opened"),
    }
}
