//! The one HTTP client: timeouts, user agent, bounded reads, no redirects.
//!
//! Every adapter shares one connection pool. Redirects are refused because a
//! bearer token must reach the host it was made for and no other. Addresses are
//! stripped from errors: some carry a signature.

mod dates;
pub mod retry;
mod wire;

use std::error::Error;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, redirect};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

pub use self::dates::Dates;
use self::retry::RetryPolicy;
use self::wire::Wire;
pub use self::wire::{Server, Servers};

/// Longest wait for a connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence between two reads of one answer. Large alert pages with
/// evidence take Defender up to a minute to begin.
const READ_TIMEOUT: Duration = Duration::from_secs(90);
/// Idle connections are dropped before the load balancers in between do it.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_mins(1);

/// `defender-alert-export/0.1.0`.
pub const USER_AGENT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));

/// The shared client and how to try again: what every adapter is built with.
#[derive(Clone, Debug)]
pub struct Http {
    /// Shared connection pool. Builds requests; [`Self::send`] carries them.
    pub client: reqwest::Client,
    /// When to try again. Adapters only classify.
    pub retry: RetryPolicy,
    /// What the servers' clocks show.
    pub dates: Dates,
    wire: Wire,
}

impl Http {
    /// Over the network.
    pub fn new(client: reqwest::Client, retry: RetryPolicy) -> Self {
        Self { client, retry, dates: Dates::default(), wire: Wire::Network }
    }

    /// Over the network, with a client of its own. Call once per process.
    ///
    /// # Errors
    ///
    /// [`NoClient`] when the machine's certificate store cannot be read.
    pub fn network(retry: RetryPolicy) -> Result<Self, NoClient> {
        Ok(Self::new(client()?, retry))
    }

    /// To servers in this process, and to nobody else; for virtual time.
    pub fn in_process(client: reqwest::Client, retry: RetryPolicy, servers: Servers) -> Self {
        Self { client, retry, dates: Dates::default(), wire: Wire::InProcess(servers) }
    }

    /// Sends a request once. An answer may have any status; its body is still
    /// to come.
    ///
    /// # Errors
    ///
    /// [`Broken`] if no answer began.
    pub async fn send(&self, request: RequestBuilder) -> Result<Response, Broken> {
        let answer = self.wire.carry(request).await?;
        self.dates.note(&answer);
        Ok(answer)
    }
}

/// No complete answer arrived: refused, reset, timed out or cut off.
///
/// Whether the far side acted on the request is unknown.
#[derive(Debug, thiserror::Error)]
#[error("no complete answer")]
pub struct Broken(#[source] Box<dyn Error + Send + Sync>);

impl From<reqwest::Error> for Broken {
    fn from(error: reqwest::Error) -> Self {
        Self(Box::new(error.without_url()))
    }
}

/// The TLS stack or its root certificates could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client could not start")]
pub struct NoClient(#[source] reqwest::Error);

/// Builds the client. Call once per process.
///
/// # Errors
///
/// [`NoClient`] when the machine's certificate store cannot be read.
pub fn client() -> Result<reqwest::Client, NoClient> {
    #[expect(clippy::disallowed_methods, reason = "the one place that builds a client")]
    reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .redirect(redirect::Policy::none())
        .tcp_nodelay(true)
        .build()
        .map_err(NoClient)
}

/// Longest wait a server is granted: one that asks for a year has made a
/// mistake, and must not stop the export for a year. As long as Microsoft's own
/// library waits for Entra.
pub const LONGEST_ASKED: Duration = Duration::from_hours(1);

/// The wait a server asks for: `Retry-After` in seconds or as an HTTP date, an
/// hour at most.
///
/// A date in the past is no wait; text that is neither is ignored.
pub fn retry_after(headers: &HeaderMap, now: OffsetDateTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds).min(LONGEST_ASKED));
    }
    let at = OffsetDateTime::parse(text, &Rfc2822).ok()?;
    Some(Duration::try_from(at - now).unwrap_or(Duration::ZERO).min(LONGEST_ASKED))
}

/// Reads at most `limit` bytes of an answer; what lies beyond is not read.
///
/// For small answers (tokens, errors, rows), where more would be garbage.
///
/// # Errors
///
/// [`Broken`] if the answer ends early.
pub async fn read_at_most(mut answer: Response, limit: usize) -> Result<Bytes, Broken> {
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await? {
        let room = limit.saturating_sub(body.len());
        body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
        if body.len() >= limit {
            break;
        }
    }
    Ok(body.freeze())
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_wait_is_read_in_seconds_or_as_a_date() {
        let now = datetime!(2026-11-21 10:00:00 UTC);
        let wait = |text: &'static str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]);
            retry_after(&headers, now).map(|wait| wait.as_secs())
        };
        assert_eq!(wait("17"), Some(17));
        assert_eq!(wait("Sat, 21 Nov 2026 10:02:00 GMT"), Some(120));
        assert_eq!(wait("Sat, 21 Nov 2026 09:00:00 GMT"), Some(0));
        assert_eq!(wait("soon"), None);
        assert_eq!(wait("31536000"), Some(3_600));
        assert_eq!(wait("18446744073709551615"), Some(3_600));
        assert_eq!(wait("Sun, 21 Nov 2027 10:00:00 GMT"), Some(3_600));
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
