//! A gate before Azurite, where one request can be made to stand still: before
//! it is passed on, or after.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use defender_alert_export::http::client;
use defender_alert_export::sandbox::script::{Listening, Script, listen};
use std::future::pending;
use tokio::sync::Notify;
use url::Url;

/// On which side of the emulator a request is stopped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    /// It is never carried out.
    Before,
    /// It is carried out, and nobody hears of it.
    After,
}

/// Both services behind one gate.
pub(crate) struct Gate {
    pub(crate) tables: Url,
    pub(crate) blobs: Url,
    rule: Shared,
    _listening: [Listening; 2],
}

#[derive(Clone, Default)]
struct Shared {
    stop: Arc<Mutex<Option<Stop>>>,
    standing: Arc<Notify>,
}

struct Stop {
    side: Side,
    method: &'static str,
    holding: &'static str,
    others_first: usize,
}

#[derive(Clone)]
struct Way {
    to: Url,
    client: reqwest::Client,
    rule: Shared,
}

impl Gate {
    pub(crate) async fn before(tables: &Url, blobs: &Url) -> Self {
        let rule = Shared::default();
        let open = async |to: &Url| {
            let way = Way { to: to.clone(), client: client().unwrap(), rule: rule.clone() };
            let router = Router::new().fallback(pass).with_state(way);
            let listening = listen(router, Script::default()).await.unwrap();
            (listening.url.join(to.path()).unwrap(), listening)
        };
        let ((tables, first), (blobs, second)) = (open(tables).await, open(blobs).await);
        Self { tables, blobs, rule, _listening: [first, second] }
    }

    /// Stops the first request of `method` with `holding` in its address or
    /// body, after letting `others_first` such pass. Only that one.
    pub(crate) fn stop(
        &self,
        side: Side,
        method: &'static str,
        holding: &'static str,
        others_first: usize,
    ) {
        *self.rule.stop.lock().unwrap() = Some(Stop { side, method, holding, others_first });
    }

    /// Waits until a request has been stopped.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let standing = Arc::clone(&self.rule.standing);
        async move { standing.notified().await }
    }
}

impl Shared {
    fn side(&self, method: &str, text: &str) -> Option<Side> {
        let mut rule = self.stop.lock().unwrap();
        let stop = rule.as_mut()?;
        if method != stop.method || !text.contains(stop.holding) {
            return None;
        }
        match stop.others_first.checked_sub(1) {
            Some(left) => {
                stop.others_first = left;
                None
            }
            None => rule.take().map(|stop| stop.side),
        }
    }

    async fn stand(&self) -> ! {
        self.standing.notify_one();
        pending().await
    }
}

async fn pass(State(way): State<Way>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let text = format!("{} {}", head.uri, String::from_utf8_lossy(&body));
    let side = way.rule.side(head.method.as_str(), &text);
    if side == Some(Side::Before) {
        way.rule.stand().await;
    }
    let mut headers = head.headers;
    for own in ["host", "transfer-encoding", "connection"] {
        headers.remove(own);
    }
    let url = way.to.join(&head.uri.to_string()).unwrap();
    let sent = way.client.request(head.method, url).headers(headers).body(body);
    // As unreachable as the emulator itself.
    let answer = sent.send().await.unwrap();
    let (status, mut headers) = (answer.status(), answer.headers().clone());
    let body = answer.bytes().await.unwrap();
    if side == Some(Side::After) {
        way.rule.stand().await;
    }
    for own in ["transfer-encoding", "connection", "keep-alive"] {
        headers.remove(own);
    }
    let mut passed = Response::new(Body::from(body));
    *passed.status_mut() = status;
    *passed.headers_mut() = headers;
    passed
}
