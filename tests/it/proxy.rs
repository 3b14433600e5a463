//! A proxy before an emulator, where answers are lost and requests refused, by a
//! script or by whoever is asked about each request before it is passed on, or
//! versions forgotten.

use std::future::pending;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::middleware::{self, Next};
use axum::response::Response;
use defender_alert_export::http::client;
use defender_alert_export::sandbox::script::{Listening, Script, listen};
use url::Url;

/// Passes every request on, as the script allows. The host's name stays that of
/// the proxy: some signatures cover it.
async fn pass_on(State(emulator): State<Url>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut url = emulator;
    url.set_path(parts.uri.path());
    url.set_query(parts.uri.query());
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let headers = parts.headers;
    let head = parts.method == "HEAD";
    let client = client().unwrap();
    let answer = client.request(parts.method, url).headers(headers).body(body).send().await;
    let answer = answer.unwrap();
    let mut passed = Response::builder().status(answer.status());
    for (name, value) in answer.headers() {
        if name != "transfer-encoding" && (head || name != "content-length") {
            passed = passed.header(name, value);
        }
    }
    passed.body(Body::from(answer.bytes().await.unwrap())).unwrap()
}

/// A proxy before an emulator, and the emulator's address behind it.
pub(crate) async fn before(emulator: &Url, script: &Script) -> (Listening, Url) {
    serve(emulator, Router::new().fallback(pass_on), script.clone()).await
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fate {
    /// It is passed on.
    Pass,
    /// It is answered with this status and not passed on.
    Refuse(u16),
    /// It is neither passed on nor answered.
    Hang,
}

/// The same, where `ask` hears path, query and body of each request and decides.
pub(crate) async fn asking(
    emulator: &Url,
    ask: impl Fn(&str, &[u8]) -> Fate + Send + Sync + 'static,
) -> (Listening, Url) {
    let ask = Arc::new(ask);
    let decide = middleware::from_fn(move |request: Request, next: Next| {
        let ask = Arc::clone(&ask);
        async move {
            let (head, body) = request.into_parts();
            let body = to_bytes(body, usize::MAX).await.unwrap();
            match ask(&head.uri.to_string(), &body) {
                Fate::Pass => next.run(Request::from_parts(head, Body::from(body))).await,
                Fate::Refuse(status) => {
                    Response::builder().status(status).body(Body::empty()).unwrap()
                }
                Fate::Hang => pending().await,
            }
        }
    });
    serve(emulator, Router::new().fallback(pass_on).layer(decide), Script::default()).await
}

/// The same, for a table: what names a version is passed on as if it named none.
pub(crate) async fn forgetting_versions(emulator: &Url) -> (Listening, Url) {
    let forget = middleware::from_fn(async |request: Request, next: Next| {
        let (mut head, body) = request.into_parts();
        if head.headers.contains_key("if-match") {
            head.headers.insert("if-match", HeaderValue::from_static("*"));
        }
        let body = to_bytes(body, usize::MAX).await.unwrap();
        // The changes of a transaction are in its body, with headers of their own.
        let named = |line: &str| line.to_ascii_lowercase().starts_with("if-match:");
        let text = String::from_utf8(body.to_vec()).unwrap();
        let lines = text.split_inclusive('\n');
        let text: String =
            lines.map(|line| if named(line) { "If-Match: *\r\n" } else { line }).collect();
        head.headers.remove("content-length");
        next.run(Request::from_parts(head, Body::from(text))).await
    });
    serve(emulator, Router::new().fallback(pass_on).layer(forget), Script::default()).await
}

async fn serve(emulator: &Url, router: Router<Url>, script: Script) -> (Listening, Url) {
    let proxy = listen(router.with_state(emulator.clone()), script).await.unwrap();
    let address = proxy.url.join(emulator.path()).unwrap();
    (proxy, address)
}
