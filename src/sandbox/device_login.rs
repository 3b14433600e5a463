//! The page where people type in a device code, as Entra's
//! `https://microsoft.com/devicelogin` is: one field, and yes or no.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Html;
use axum::routing::get;
use url::form_urlencoded;
use uuid::Uuid;

use super::clouds::{ACCOUNT, ACCOUNT_ID};
use super::entra::{Cloud, Decision};
use super::tokens::Person;

const PAGE: &str = r#"<!DOCTYPE html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Enter code (sandbox)</title>
<h1>Enter code</h1><p>This stands in for Microsoft's page. It is served on this machine.</p>
<form method="post"><p><label>Code <input name="code" autocomplete="off" required></label></p>
<p><button name="answer" value="approve">Sign in as the trust's export account</button></p>
<p><button name="answer" value="other">Sign in with an account of another tenant</button></p>
<p><button name="answer" value="decline">Cancel</button></p></form></html>"#;

/// Its one address.
pub(super) fn router() -> Router<Cloud> {
    Router::new().route("/devicelogin", get(async || Html(PAGE)).post(answer))
}

async fn answer(State(cloud): State<Cloud>, form: Bytes) -> (StatusCode, Html<&'static str>) {
    let field = |name: &str| {
        let found = form_urlencoded::parse(&form).into_owned().find(|(key, _)| key == name);
        found.map(|(_, value)| value).unwrap_or_default()
    };
    let person = |tenant| Person { username: ACCOUNT.to_owned(), oid: ACCOUNT_ID, tenant };
    let decision = match field("answer").as_str() {
        "approve" => Decision::Approved(person(cloud.tenant())),
        "other" => Decision::Approved(person(Uuid::from_u128(0x000d_d7e4))),
        _ => Decision::Declined,
    };
    if cloud.enter(field("code").trim(), decision) {
        (StatusCode::OK, Html("<p>Done. You may close this page.</p>"))
    } else {
        (StatusCode::BAD_REQUEST, Html("<p>That code is not valid.</p>"))
    }
}
