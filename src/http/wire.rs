//! How a request travels: over the network, or to a server in this process.
//!
//! The second arm is there for virtual time. What a fleet of trusts does in a
//! day depends on windows, budgets, offsets and retries together, and can only
//! be seen by letting the real code live through that day in minutes. A socket
//! belongs to the machine's time: while a byte is on its way the paused clock
//! would run ahead and every timeout would strike. So a base address alone, the
//! seam all other tests use, is not enough here.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use reqwest::{Request, RequestBuilder, Response};
use tokio::time::timeout;
use url::Url;

use super::{Broken, READ_TIMEOUT};

/// Answers one request, whatever its status.
pub type Server = Arc<dyn Fn(Request) -> BoxFuture<'static, Response> + Send + Sync>;

/// Servers in this process, by the origin of their addresses. Clones share them.
#[derive(Clone, Default)]
pub struct Servers(Arc<HashMap<String, Server>>);

impl Servers {
    /// Each under the scheme, host and port of its address.
    pub fn new(servers: impl IntoIterator<Item = (Url, Server)>) -> Self {
        let servers = servers.into_iter();
        Self(Arc::new(servers.map(|(url, server)| (origin(&url), server)).collect()))
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// What carries a request.
#[derive(Clone, Debug)]
pub(super) enum Wire {
    /// The client's own connections.
    Network,
    /// No connection at all.
    InProcess(Servers),
}

/// A request within the process got no answer.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error("there is no server at this address in the process")]
    Unknown,
    #[error("the answer did not begin in time")]
    TimedOut,
}

impl Wire {
    pub(super) async fn carry(&self, request: RequestBuilder) -> Result<Response, Broken> {
        match self {
            Self::Network => Ok(request.send().await?),
            Self::InProcess(servers) => servers.answer(request).await,
        }
    }
}

impl Servers {
    async fn answer(&self, request: RequestBuilder) -> Result<Response, Broken> {
        let request = request.build()?;
        let Some(server) = self.0.get(&origin(request.url())) else {
            return Err(Broken(Unanswered::Unknown.into()));
        };
        // As the network client: its silence limit, unless the request has one.
        let patience = request.timeout().copied().unwrap_or(READ_TIMEOUT);
        match timeout(patience, server(request)).await {
            Ok(answer) => Ok(answer),
            Err(_elapsed) => Err(Broken(Unanswered::TimedOut.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use axum::http::Response as Answer;
    use tokio::time::Instant;

    use super::super::{Http, client};
    use super::*;
    use crate::http::retry::RetryPolicy;

    fn http(server: Server) -> Http {
        let url = Url::parse("https://here.example/").unwrap();
        Http::in_process(client().unwrap(), RetryPolicy::RUN, Servers::new([(url, server)]))
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_in_the_process_is_found_by_its_origin() {
        let http = http(Arc::new(|request| {
            let text = format!("{} {}", request.method(), request.url().path());
            Box::pin(async move { Response::from(Answer::new(text)) })
        }));
        let answer = http.send(http.client.get("https://here.example/a?b=c")).await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "GET /a");
        for elsewhere in ["http://here.example/", "https://here.example:8443/", "https://x/"] {
            assert!(http.send(http.client.get(elsewhere)).await.is_err(), "{elsewhere}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_hangs_is_left_as_on_the_network() {
        let http = http(Arc::new(|_| Box::pin(pending())));
        let begun = Instant::now();
        assert!(http.send(http.client.get("https://here.example/")).await.is_err());
        assert_eq!(begun.elapsed().as_secs(), 90);
        let request = http.client.get("https://here.example/");
        assert!(http.send(request.timeout(READ_TIMEOUT / 9)).await.is_err());
        assert_eq!(begun.elapsed().as_secs(), 100);
    }
}
