//! The identity endpoint of App Service, and the tokens it gave out.
//!
//! `GET /msi/token?api-version=2019-08-01&resource=..[&client_id=..]` with the
//! secret of the process in `X-IDENTITY-HEADER`.
//! <https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference>

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use url::Url;
use uuid::Uuid;

use super::script::{Listening, Reach, Script, serve};
use crate::clock::Clock;
use crate::config::ManagedIdentityEndpoint;
use crate::domain::timestamp::Timestamp;

/// How long a token lasts, as for real ones.
const LIFE: Duration = Duration::from_hours(24);

/// Whether the token of an `Authorization: Bearer` header is good.
#[derive(Clone)]
pub struct Bearer(Arc<dyn Fn(&str) -> bool + Send + Sync>);

impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bearer")
    }
}

impl Bearer {
    /// Judged by `judge`, which is given the token alone.
    pub fn judged_by(judge: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(judge))
    }

    /// Whether `headers` carry a good token.
    pub fn admits(&self, headers: &HeaderMap) -> bool {
        let header = headers.get("authorization").and_then(|value| value.to_str().ok());
        header.and_then(|text| text.strip_prefix("Bearer ")).is_some_and(|token| (self.0)(token))
    }
}

/// Tokens given out. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Tokens(Arc<Mutex<HashMap<String, Grant>>>);

#[derive(Debug)]
struct Grant {
    resource: String,
    expires_on: Timestamp,
}

impl Tokens {
    /// A judge for services that take tokens for `resource`.
    pub fn bearer(&self, resource: &str, clock: &Clock) -> Bearer {
        let (tokens, resource, clock) = (self.clone(), resource.to_owned(), clock.clone());
        Bearer::judged_by(move |token| {
            let tokens = tokens.0.lock().unwrap_or_else(PoisonError::into_inner);
            tokens
                .get(token)
                .is_some_and(|grant| grant.resource == resource && grant.expires_on > clock.now())
        })
    }

    /// How many were given out and not revoked.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Every token given out and not revoked: for checks that nothing leaks.
    pub fn secrets(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Makes every token given out so far worthless.
    pub fn revoke(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Shaped as real ones are, for services that look into them.
    fn issue(&self, resource: &str, now: Timestamp, expires_on: Timestamp) -> String {
        let part = |json: serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let header = part(json!({ "typ": "JWT", "alg": "RS256", "kid": "sandbox" }));
        let claims = part(json!({
            "aud": resource,
            "iss": format!("https://sts.windows.net/{}/", Uuid::nil()),
            "iat": now.unix_seconds(),
            "nbf": now.unix_seconds(),
            "exp": expires_on.unix_seconds(),
        }));
        let signature = URL_SAFE_NO_PAD.encode(Uuid::new_v4());
        let token = format!("{header}.{claims}.{signature}");
        let grant = Grant { resource: resource.to_owned(), expires_on };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(token.clone(), grant);
        token
    }
}

/// The endpoint.
#[derive(Debug)]
pub struct ManagedIdentity {
    /// What it is told to do wrong, and what it saw.
    pub script: Script,
    /// What it gave out.
    pub tokens: Tokens,
    secret: String,
    client_id: Option<String>,
    pub(super) listening: Listening,
}

/// Which identity the app has.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Assigned {
    Nothing,
    System,
    /// By its client id.
    User(String),
}

#[derive(Clone)]
struct Endpoint {
    clock: Clock,
    tokens: Tokens,
    secret: String,
    assigned: Assigned,
}

impl ManagedIdentity {
    /// An app with a system-assigned identity.
    ///
    /// # Errors
    ///
    /// When no port can be had.
    pub async fn start(clock: Clock) -> io::Result<Self> {
        Self::reached_by(Reach::Socket, clock).await
    }

    pub(super) async fn reached_by(reach: Reach, clock: Clock) -> io::Result<Self> {
        Self::serve(clock, Assigned::System, reach).await
    }

    /// An app with one user-assigned identity.
    ///
    /// # Errors
    ///
    /// When no port can be had.
    pub async fn start_user_assigned(clock: Clock, client_id: &str) -> io::Result<Self> {
        Self::serve(clock, Assigned::User(client_id.to_owned()), Reach::Socket).await
    }

    /// An app whose identity was taken away.
    ///
    /// # Errors
    ///
    /// When no port can be had.
    pub async fn start_unassigned(clock: Clock) -> io::Result<Self> {
        Self::serve(clock, Assigned::Nothing, Reach::Socket).await
    }

    async fn serve(clock: Clock, assigned: Assigned, reach: Reach) -> io::Result<Self> {
        let (script, tokens) = (Script::default(), Tokens::default());
        let secret = Uuid::new_v4().simple().to_string();
        let client_id = match &assigned {
            Assigned::User(id) => Some(id.clone()),
            Assigned::System | Assigned::Nothing => None,
        };
        let told = clock.clone();
        let endpoint = Endpoint { clock, tokens: tokens.clone(), secret: secret.clone(), assigned };
        let router = Router::new().route("/msi/token", get(give)).with_state(endpoint);
        script.tell_time_by(told);
        let listening = serve(router, script.clone(), 5, reach).await?;
        Ok(Self { script, tokens, secret, client_id, listening })
    }

    /// What the platform tells the app: `IDENTITY_ENDPOINT` and
    /// `IDENTITY_HEADER`.
    pub fn endpoint(&self) -> ManagedIdentityEndpoint {
        ManagedIdentityEndpoint {
            endpoint: self.url(),
            header: self.secret.clone().into(),
            client_id: self.client_id.clone(),
        }
    }

    fn url(&self) -> Url {
        let mut url = self.listening.url.clone();
        url.set_path("/msi/token");
        url
    }
}

async fn give(
    State(endpoint): State<Endpoint>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let sent = headers.get("x-identity-header").and_then(|value| value.to_str().ok());
    if sent != Some(&endpoint.secret) {
        return refuse(StatusCode::FORBIDDEN, "The X-IDENTITY-HEADER is missing or wrong.");
    }
    if query.get("api-version").map(String::as_str) != Some("2019-08-01") {
        return refuse(StatusCode::BAD_REQUEST, "The api-version is missing or not supported.");
    }
    let Some(resource) = query.get("resource").filter(|text| text.starts_with("https://")) else {
        return refuse(StatusCode::BAD_REQUEST, "The resource is missing or not an address.");
    };
    let asked = query.get("client_id").cloned().map_or(Assigned::System, Assigned::User);
    if endpoint.assigned != asked {
        let message = "No Managed Identity found for specified ClientId/ResourceId/PrincipalId.";
        return refuse(StatusCode::BAD_REQUEST, message);
    }
    let now = endpoint.clock.now();
    let expires_on = now + LIFE;
    Json(json!({
        "access_token": endpoint.tokens.issue(resource, now, expires_on),
        "expires_on": expires_on.unix_seconds().to_string(),
        "resource": resource,
        "token_type": "Bearer",
        "client_id": Uuid::nil().to_string(),
    }))
    .into_response()
}

fn refuse(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "statusCode": status.as_u16(), "message": message }))).into_response()
}
