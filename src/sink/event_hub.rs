//! Delivery to an event hub, over its REST interface.
//!
//! `POST {endpoint}{hub}/messages?timeout=60&api-version=2014-01` with
//! `application/vnd.microsoft.servicebus.json`: an array of `{"Body":".."}`, one
//! event each; 201 when taken. A shared access signature or a bearer token for
//! `https://eventhubs.azure.net`; 401 where the sender's right is missing, too:
//! no 403 is documented. One request holds 1 MB (Basic tier: 256 KB), else 413.
//! A throughput unit takes 1 MB a second; a throttled hub answers 429 or 503,
//! mostly without `Retry-After`.
//! <https://learn.microsoft.com/rest/api/eventhub/send-batch-events>

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::answer::{PostError, Refusal, exchange};
use crate::azure::credential::Credential;
use crate::azure::sas;
use crate::clock::Clock;
use crate::config::{self, EventHubAuth, SasPolicy};
use crate::domain::batch::BatchLimits;
use crate::http::Http;

/// Whom a token must be for.
pub const AUDIENCE: &str = "https://eventhubs.azure.net";
/// Below the Standard tier's 1 MB, which counts each event's own overhead too.
pub(super) const LIMITS: BatchLimits = BatchLimits::of(5_000, 900_000);
/// How long a throttled hub wants to be left alone; it does not say so itself.
/// <https://learn.microsoft.com/azure/event-hubs/event-hubs-messaging-exceptions>:
/// "wait for 4 seconds". At random, so that several batches do not come back as
/// one.
const THROTTLED: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(10));
/// A signature is made for each request, so it need not outlive one by much;
/// this much for a clock that runs behind.
const SIGNATURE_LIFE: Duration = Duration::from_mins(20);

/// An event hub.
#[derive(Clone, Debug)]
pub struct EventHub {
    pub(super) http: Http,
    pub(super) clock: Clock,
    address: Url,
    auth: Auth,
}

#[derive(Clone, Debug)]
enum Auth {
    Identity(Credential),
    Sas {
        policy: SasPolicy,
        /// What the signature is for: the hub or the whole namespace.
        resource: Url,
    },
}

impl EventHub {
    pub(super) fn new(
        hub: &config::EventHub,
        http: Http,
        clock: Clock,
        credential: Credential,
    ) -> Self {
        let below = |path: &str| {
            let mut url = hub.endpoint.clone();
            url.set_path(&format!("{}{path}", url.path()));
            url
        };
        let mut address = below(&format!("{}/messages", hub.hub));
        address.set_query(Some("timeout=60&api-version=2014-01"));
        let auth = match &hub.auth {
            EventHubAuth::Identity => Auth::Identity(credential),
            EventHubAuth::Sas(policy) => Auth::Sas {
                resource: below(if policy.whole_namespace { "" } else { &hub.hub }),
                policy: policy.clone(),
            },
        };
        Self { http, clock, address, auth }
    }

    /// Whether a policy signs, rather than the app's identity.
    pub(super) fn signs_with_policy(&self) -> bool {
        matches!(self.auth, Auth::Sas { .. })
    }

    /// Forgets the identity's token; `false` if a policy signs instead.
    pub(super) fn forget_token(&self) -> bool {
        match &self.auth {
            Auth::Identity(credential) => {
                credential.forget(AUDIENCE);
                true
            }
            Auth::Sas { .. } => false,
        }
    }

    /// Posts an array of events once.
    pub(super) async fn post(&self, body: Bytes) -> Result<(), PostError> {
        let authorization = self.authorization().await?;
        let request = self
            .http
            .client
            .post(self.address.clone())
            .header(CONTENT_TYPE, "application/vnd.microsoft.servicebus.json")
            .header(AUTHORIZATION, authorization.expose_secret())
            .body(body);
        let taken = exchange(&self.http, request, 201, None, &self.clock).await;
        taken.map_err(|error| self.with_patience(error))
    }

    /// A throttled hub is given the time it does not ask for.
    fn with_patience(&self, mut error: PostError) -> PostError {
        let (shortest, longest) = THROTTLED;
        if let PostError::Refused(Refusal { status: 429 | 503, retry_after: wait @ None, .. }) =
            &mut error
        {
            *wait = Some(self.http.retry.between(shortest, longest));
        }
        error
    }

    async fn authorization(&self) -> Result<SecretString, PostError> {
        match &self.auth {
            Auth::Identity(credential) => {
                let token = credential.token(AUDIENCE).await.map_err(PostError::NoToken)?;
                Ok(format!("Bearer {}", token.expose_secret()).into())
            }
            Auth::Sas { policy, resource } => {
                let expires_at = self.clock.now() + SIGNATURE_LIFE;
                Ok(sas::token(resource.as_str(), &policy.name, &policy.key, expires_at))
            }
        }
    }
}
