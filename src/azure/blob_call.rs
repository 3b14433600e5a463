//! How a request of the blob client is signed, tried and judged.
//!
//! The client's own retries are switched off: this crate has one retry loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::error::ErrorKind;
use azure_core::http::headers::{AUTHORIZATION, HeaderName};
use azure_core::http::policies::{Policy, PolicyResult};
use azure_core::http::{Context, Request, StatusCode};
use secrecy::ExposeSecret as _;

use super::credential::CredentialError;
use super::http_date;
use super::storage::{RESOURCE, Right, plain_code};
use crate::clock::Clock;
use crate::http::Broken;
use crate::http::retry::{Classify, GaveUp, RetryPolicy, Verdict};

const DATE: HeaderName = HeaderName::from_static("x-ms-date");

/// Signs each request, or puts the identity's token on it.
#[derive(Debug)]
pub(super) struct Authorize {
    pub(super) right: Right,
    pub(super) clock: Clock,
}

#[expect(elided_lifetimes_in_paths, reason = "the trait's own signature hides it")]
#[async_trait]
impl Policy for Authorize {
    async fn send(
        &self,
        ctx: &Context,
        request: &mut Request,
        next: &[Arc<dyn Policy>],
    ) -> PolicyResult {
        let answer = self.send_once(ctx, request, next).await?;
        match &self.right {
            Right::Identity(credential) if answer.status() == StatusCode::Unauthorized => {
                credential.forget(RESOURCE);
                self.send_once(ctx, request, next).await
            }
            Right::Identity(_) | Right::Key(_) => Ok(answer),
        }
    }
}

impl Authorize {
    async fn send_once(
        &self,
        ctx: &Context<'_>,
        request: &mut Request,
        next: &[Arc<dyn Policy>],
    ) -> PolicyResult {
        request.insert_header(DATE, http_date(self.clock.now()));
        let authorization = match &self.right {
            Right::Key(key) => key.blob(request),
            Right::Identity(credential) => {
                let token = credential.token(RESOURCE).await;
                let token =
                    token.map_err(|error| azure_core::Error::new(ErrorKind::Credential, error))?;
                format!("Bearer {}", token.expose_secret())
            }
        };
        request.insert_header(AUTHORIZATION, authorization);
        match next.split_first() {
            Some((first, rest)) => first.send(ctx, request, rest).await,
            None => Err(ErrorKind::Other.into_error()),
        }
    }
}

/// Why one attempt failed.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// No answer. A write may or may not have been done.
    #[error("no answer")]
    Broken(#[source] Broken),
    /// An answer the client cannot make sense of: a proxy's page. A write may
    /// or may not have been done.
    #[error("an answer that is not the blob storage's")]
    Garbled,
    /// The service said no.
    #[error("refused with {status} {code}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Azure's error code, such as `ContainerNotFound`; may be empty.
        code: String,
        /// From `Retry-After`.
        after: Option<Duration>,
    },
    /// Nothing was sent.
    #[error("no token")]
    NoToken(#[source] CredentialError),
}

impl From<azure_core::Error> for Failed {
    fn from(error: azure_core::Error) -> Self {
        if let ErrorKind::HttpResponse { status, error_code, raw_response } = error.kind() {
            let wait = raw_response.as_ref().and_then(|raw| {
                raw.headers().get_optional_str(&HeaderName::from_static("retry-after"))
            });
            return Self::Refused {
                status: u16::from(*status),
                code: plain_code(error_code.as_deref().unwrap_or_default()),
                after: wait.and_then(|wait| wait.parse().ok()).map(Duration::from_secs),
            };
        }
        // Nothing but the two below is kept: other texts may quote an address.
        let Ok(inner) = error.into_inner() else { return Self::Garbled };
        let inner = match inner.downcast::<reqwest::Error>() {
            Ok(error) => return Self::Broken(Broken::from(*error)),
            Err(other) => other,
        };
        match inner.downcast::<CredentialError>() {
            Ok(error) => Self::NoToken(*error),
            Err(_other) => Self::Garbled,
        }
    }
}

impl Classify for Failed {
    fn verdict(&self) -> Verdict {
        match self {
            // Asking again is harmless: a blob put whole ends up the same, an
            // append names the length it expects, what is deleted stays so.
            Self::Broken(_) | Self::Garbled => Verdict::Retry { after: None },
            // Not done, or not known: the same holds.
            Self::Refused { status: 408 | 429 | 500 | 502..=504, after, .. } => {
                Verdict::Retry { after: *after }
            }
            Self::Refused { .. } | Self::NoToken(_) => Verdict::Fatal,
        }
    }
}

/// The last failure, and whether any attempt may have been carried out.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) gave_up: GaveUp<Failed>,
    pub(super) in_doubt: bool,
}

impl Ended {
    /// Whether the last answer was the refusal `status` with one of `codes`.
    pub(super) fn with(&self, status: u16, codes: &[&str]) -> bool {
        matches!(&self.gave_up.last, Failed::Refused { status: answered, code, .. }
            if *answered == status && codes.contains(&code.as_str()))
    }
}

/// Runs `operation` until it succeeds or another attempt is useless.
pub(super) async fn run<T, F>(
    retry: &RetryPolicy,
    operation: impl Fn() -> F + Sync,
) -> Result<T, Ended>
where
    F: Future<Output = azure_core::Result<T>> + Send,
    T: Send,
{
    let in_doubt = AtomicBool::new(false);
    let attempt = || async {
        operation().await.map_err(|error| {
            let failed = Failed::from(error);
            if matches!(
                failed,
                Failed::Broken(_) | Failed::Garbled | Failed::Refused { status: 408 | 500.., .. }
            ) {
                in_doubt.store(true, Ordering::Relaxed);
            }
            failed
        })
    };
    let result = retry.run(attempt).await;
    result.map_err(|gave_up| Ended { gave_up, in_doubt: in_doubt.load(Ordering::Relaxed) })
}
