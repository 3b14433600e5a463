//! A proxy before an emulator, where answers are lost and requests refused, or
//! somebody is told of each request before it is passed on.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
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

/// The same, where `told` hears path and query of each request before it is
/// passed on.
pub(crate) async fn telling(
    emulator: &Url,
    told: impl Fn(&str) + Send + Sync + 'static,
) -> (Listening, Url) {
    let told = Arc::new(told);
    let tell = middleware::from_fn(move |request: Request, next: Next| {
        told(&request.uri().to_string());
        next.run(request)
    });
    serve(emulator, Router::new().fallback(pass_on).layer(tell), Script::default()).await
}

async fn serve(emulator: &Url, router: Router<Url>, script: Script) -> (Listening, Url) {
    let proxy = listen(router.with_state(emulator.clone()), script).await.unwrap();
    let address = proxy.url.join(emulator.path()).unwrap();
    (proxy, address)
}
