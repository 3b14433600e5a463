//! An embedded Entra: one tenant, one public client, device codes and refresh
//! tokens.
//!
//! As strict as the documents: form content type, client, scope of one
//! resource, polling interval, codes that work once, no secret from a public
//! client
//! (<https://learn.microsoft.com/entra/identity-platform/v2-oauth2-device-code>).
//! A person's part is played by [`Entra::approve`] and its siblings.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use url::{Url, form_urlencoded};
use uuid::Uuid;

use super::device_login;
use super::script::{Listening, Reach, Script, serve};
use super::tokens::{ACCESS_LIVES, Person, Spent, Tokens};
use crate::clock::Clock;
use crate::domain::timestamp::Timestamp;

/// How long a code waits for its person.
const CODE_LIVES: Duration = Duration::from_mins(15);
/// Least time between two polls.
const INTERVAL: Duration = Duration::from_secs(5);
/// What a client that polls too fast has to add.
const SLOWER_BY: Duration = Duration::from_secs(5);
/// The APIs this tenant knows, and what the application may do there.
const RESOURCES: [(&str, &str); 2] = [
    ("https://api.securitycenter.microsoft.com", "Alert.Read"),
    ("https://graph.microsoft.com", "SecurityAlert.Read.All"),
];

/// An embedded Entra. Stops when dropped.
#[derive(Debug)]
pub struct Entra {
    /// The authority, with a trailing slash.
    pub url: Url,
    /// What it is told to do wrong, and what it has seen.
    pub script: Script,
    /// What it has handed out, for other clouds to check.
    pub tokens: Tokens,
    cloud: Cloud,
    pub(super) listening: Listening,
}

/// One refusal, for one request.
#[derive(Clone, Debug, Default)]
pub struct AadstsError {
    /// OAuth's name, such as `invalid_grant`.
    pub error: String,
    /// AADSTS codes.
    pub codes: Vec<u32>,
    /// Finer than `error`.
    pub suberror: Option<String>,
    /// What the next sign-in must bring, as JSON text.
    pub claims: Option<String>,
}

/// A request as it arrived, without its secrets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Asked {
    /// `grant_type`; empty for a request for a code.
    pub grant_type: String,
    /// `scope`; empty when absent.
    pub scope: String,
    /// `claims`, if sent.
    pub claims: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) struct Cloud {
    clock: Clock,
    tenant: Uuid,
    client: Uuid,
    tokens: Tokens,
    desk: Arc<Mutex<Desk>>,
}

#[derive(Debug, Default)]
struct Desk {
    codes: Vec<DeviceCode>,
    failures: VecDeque<AadstsError>,
    asked: Vec<Asked>,
}

#[derive(Debug)]
struct DeviceCode {
    text: String,
    user_code: String,
    audience: String,
    expires_at: Timestamp,
    interval: Duration,
    polled_at: Timestamp,
    decision: Decision,
}

#[derive(Clone, Debug)]
pub(super) enum Decision {
    Waiting,
    Approved(Person),
    Declined,
    Used,
}

type Form = BTreeMap<String, String>;

impl AadstsError {
    /// With one code.
    pub fn new(error: &str, code: u32) -> Self {
        Self { error: error.to_owned(), codes: vec![code], ..Self::default() }
    }

    fn named(error: &str) -> Self {
        Self { error: error.to_owned(), ..Self::default() }
    }
}

impl Entra {
    /// Starts one that knows `tenant` and `client` only.
    ///
    /// # Errors
    ///
    /// When no port can be had.
    pub async fn start(clock: Clock, tenant: Uuid, client: Uuid) -> io::Result<Self> {
        Self::reached_by(Reach::Socket, clock, tenant, client).await
    }

    pub(super) async fn reached_by(
        reach: Reach,
        clock: Clock,
        tenant: Uuid,
        client: Uuid,
    ) -> io::Result<Self> {
        let script = Script::default();
        let tokens = Tokens::new(clock.clone());
        let cloud = Cloud { clock, tenant, client, tokens: tokens.clone(), desk: Arc::default() };
        let router = Router::new()
            .route("/{tenant}/oauth2/v2.0/devicecode", post(ask_code))
            .route("/{tenant}/oauth2/v2.0/token", post(ask_tokens))
            .route("/{tenant}/v2.0/.well-known/openid-configuration", get(configuration))
            .merge(device_login::router())
            .with_state(cloud.clone());
        script.tell_time_by(cloud.clock.clone());
        let listening = serve(router, script.clone(), 1, reach).await?;
        Ok(Self { url: listening.url.clone(), script, tokens, cloud, listening })
    }

    /// A person types in the newest code that waits, and agrees as `username`
    /// of this tenant. False when no code waits.
    pub fn approve(&self, username: &str, oid: Uuid) -> bool {
        self.approve_from(username, oid, self.cloud.tenant)
    }

    /// As [`Self::approve`], with an account of another tenant.
    pub fn approve_from(&self, username: &str, oid: Uuid, tenant: Uuid) -> bool {
        let username = username.to_owned();
        self.decide(Decision::Approved(Person { username, oid, tenant }))
    }

    /// A person types in the newest code that waits, and says no.
    pub fn decline(&self) -> bool {
        self.decide(Decision::Declined)
    }

    /// Every code handed out so far ends now.
    pub fn expire_codes(&self) {
        let now = self.cloud.clock.now();
        self.cloud.desk(|desk| desk.codes.iter_mut().for_each(|code| code.expires_at = now));
    }

    /// The next request is refused like this. Several are used up in order.
    pub fn fail_with(&self, failure: AadstsError) {
        self.cloud.desk(|desk| desk.failures.push_back(failure));
    }

    /// An administrator revokes every session: all tokens are worthless.
    pub fn revoke_all(&self) {
        self.tokens.revoke_all();
    }

    /// What was asked so far, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.cloud.desk(|desk| desk.asked.clone())
    }

    fn decide(&self, decision: Decision) -> bool {
        self.cloud.desk(|desk| {
            let waits = |code: &&mut DeviceCode| matches!(code.decision, Decision::Waiting);
            let newest = desk.codes.iter_mut().rfind(waits);
            newest.map(|code| code.decision = decision).is_some()
        })
    }
}

impl Cloud {
    pub(super) fn tenant(&self) -> Uuid {
        self.tenant
    }

    /// A person types in `user_code` and decides. False if it does not wait.
    pub(super) fn enter(&self, user_code: &str, decision: Decision) -> bool {
        let now = self.clock.now();
        self.desk(|desk| {
            let waits = |code: &&mut DeviceCode| {
                code.user_code == user_code
                    && code.expires_at > now
                    && matches!(code.decision, Decision::Waiting)
            };
            desk.codes.iter_mut().find(waits).map(|code| code.decision = decision).is_some()
        })
    }

    fn desk<T>(&self, act: impl FnOnce(&mut Desk) -> T) -> T {
        act(&mut self.desk.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The form, or the refusal.
    fn read(&self, tenant: &str, headers: &HeaderMap, body: &[u8]) -> Result<Form, AadstsError> {
        let form: Form = form_urlencoded::parse(body).into_owned().collect();
        let failure = self.desk(|desk| {
            let text = |name: &str| form.get(name).cloned();
            desk.asked.push(Asked {
                grant_type: text("grant_type").unwrap_or_default(),
                scope: text("scope").unwrap_or_default(),
                claims: text("claims"),
            });
            desk.failures.pop_front()
        });
        let is_form = headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind == "application/x-www-form-urlencoded");
        if let Some(failure) = failure {
            Err(failure)
        } else if !is_form {
            Err(AadstsError::new("invalid_request", 900_144))
        } else if tenant != self.tenant.to_string() {
            Err(AadstsError::new("invalid_request", 90_002))
        } else if form.contains_key("client_secret") || form.contains_key("client_assertion") {
            Err(AadstsError::new("invalid_client", 700_025))
        } else if required(&form, "client_id")? == self.client.to_string() {
            Ok(form)
        } else {
            Err(AadstsError::new("unauthorized_client", 700_016))
        }
    }

    fn ask_code(&self, form: &Form, host: &str) -> Result<serde_json::Value, AadstsError> {
        let audience = audience(required(form, "scope")?)?;
        let now = self.clock.now();
        let text = self.tokens.secret("device");
        let user_code = Uuid::new_v4().simple().to_string().to_uppercase();
        let user_code: String = user_code.chars().take(9).collect();
        self.tokens.remember(user_code.clone());
        let answer = json!({
            "device_code": text,
            "user_code": user_code,
            "verification_uri": format!("http://{host}/devicelogin"),
            "expires_in": CODE_LIVES.as_secs(),
            "interval": INTERVAL.as_secs(),
            "message": format!("To sign in, enter the code {user_code}."),
        });
        let code = DeviceCode {
            text,
            user_code,
            audience,
            expires_at: now + CODE_LIVES,
            interval: INTERVAL,
            polled_at: now,
            decision: Decision::Waiting,
        };
        self.desk(|desk| desk.codes.push(code));
        Ok(answer)
    }

    fn ask_tokens(&self, form: &Form, host: &str) -> Result<serde_json::Value, AadstsError> {
        match required(form, "grant_type")? {
            "urn:ietf:params:oauth:grant-type:device_code" => {
                let (person, audience) = self.redeem_code(required(form, "device_code")?)?;
                Ok(self.grant(&person, &audience, host))
            }
            "refresh_token" => {
                let audience = audience(required(form, "scope")?)?;
                let person = self.tokens.redeem(required(form, "refresh_token")?);
                let person = person.map_err(|spent| {
                    let code = match spent {
                        Spent::Unknown => 70_000,
                        Spent::Revoked => 50_173,
                        Spent::Unused90Days => 700_082,
                    };
                    AadstsError::new("invalid_grant", code)
                })?;
                Ok(self.grant(&person, &audience, host))
            }
            _ => Err(AadstsError::new("unsupported_grant_type", 70_003)),
        }
    }

    fn redeem_code(&self, text: &str) -> Result<(Person, String), AadstsError> {
        let now = self.clock.now();
        self.desk(|desk| {
            let code = desk.codes.iter_mut().find(|code| code.text == text);
            let code = code.ok_or_else(|| AadstsError::new("bad_verification_code", 70_018))?;
            let early = now < code.polled_at + code.interval;
            code.polled_at = now;
            if code.expires_at <= now {
                return Err(AadstsError::new("expired_token", 70_019));
            }
            if early {
                code.interval += SLOWER_BY;
                return Err(AadstsError::named("slow_down"));
            }
            match code.decision.clone() {
                Decision::Waiting => Err(AadstsError::new("authorization_pending", 70_016)),
                Decision::Declined => Err(AadstsError::named("authorization_declined")),
                Decision::Used => Err(AadstsError::new("invalid_grant", 90_120)),
                Decision::Approved(person) => {
                    code.decision = Decision::Used;
                    Ok((person, code.audience.clone()))
                }
            }
        })
    }

    fn grant(&self, person: &Person, audience: &str, host: &str) -> serde_json::Value {
        json!({
            "token_type": "Bearer",
            "scope": permission(audience).map(|permission| format!("{audience}/{permission}")),
            "expires_in": ACCESS_LIVES.as_secs(),
            "ext_expires_in": ACCESS_LIVES.as_secs(),
            "access_token": self.tokens.issue_access(person, audience),
            "refresh_token": self.tokens.issue_refresh(person),
            "id_token": self.id_token(person, host),
        })
    }

    /// Unsigned: it comes over the token endpoint, and clients need not check.
    fn id_token(&self, person: &Person, host: &str) -> String {
        let now = self.clock.now().unix_seconds();
        let claims = json!({
            "aud": self.client.to_string(),
            "iss": format!("http://{host}/{}/v2.0", person.tenant),
            "iat": now, "nbf": now, "exp": now + 3_600,
            "name": "Alert export",
            "oid": person.oid.to_string(),
            "preferred_username": person.username,
            "sub": Uuid::new_v5(&self.client, person.oid.as_bytes()).to_string(),
            "tid": person.tenant.to_string(),
            "ver": "2.0",
        });
        let header = json!({"typ": "JWT", "alg": "none"});
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        self.tokens.remember(format!("{}.{}.unsigned", part(header), part(claims)))
    }
}

async fn ask_code(
    State(cloud): State<Cloud>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let form = cloud.read(&tenant, &headers, &body);
    answer(&cloud, form.and_then(|form| cloud.ask_code(&form, host(&headers))))
}

async fn ask_tokens(
    State(cloud): State<Cloud>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let form = cloud.read(&tenant, &headers, &body);
    answer(&cloud, form.and_then(|form| cloud.ask_tokens(&form, host(&headers))))
}

async fn configuration(
    State(cloud): State<Cloud>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
) -> Response {
    if tenant != cloud.tenant.to_string() {
        return answer(&cloud, Err(AadstsError::new("invalid_tenant", 90_002)));
    }
    let base = format!("http://{}/{tenant}", host(&headers));
    let configuration = json!({
        "issuer": format!("{base}/v2.0"),
        "token_endpoint": format!("{base}/oauth2/v2.0/token"),
        "device_authorization_endpoint": format!("{base}/oauth2/v2.0/devicecode"),
    });
    answer(&cloud, Ok(configuration))
}

fn host(headers: &HeaderMap) -> &str {
    headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost")
}

fn required<'a>(form: &'a Form, name: &str) -> Result<&'a str, AadstsError> {
    let value = form.get(name).filter(|value| !value.is_empty());
    value.map(String::as_str).ok_or_else(|| AadstsError::new("invalid_request", 900_144))
}

fn permission(audience: &str) -> Option<&'static str> {
    RESOURCES.iter().find(|(known, _)| *known == audience).map(|(_, permission)| *permission)
}

/// The one resource a scope names, with a permission there or with all of them.
fn audience(scope: &str) -> Result<String, AadstsError> {
    let mut resources = scope
        .split(' ')
        .filter(|part| !["offline_access", "openid", "profile", "email"].contains(part));
    let one = resources.next().and_then(|one| one.rsplit_once('/'));
    match (one, resources.next()) {
        (Some((audience, wanted)), None) => match permission(audience) {
            Some(granted) if [".default", granted].contains(&wanted) => Ok(audience.to_owned()),
            Some(_) => Err(AadstsError::new("invalid_grant", 65_001)),
            None => Err(AadstsError::new("invalid_resource", 500_011)),
        },
        (Some(_), Some(_)) => Err(AadstsError::new("invalid_scope", 28_002)),
        (None, _) => Err(AadstsError::new("invalid_scope", 70_011)),
    }
}

fn answer(cloud: &Cloud, outcome: Result<serde_json::Value, AadstsError>) -> Response {
    let (status, body) = match outcome {
        Ok(body) => (StatusCode::OK, body),
        Err(refusal) => (StatusCode::BAD_REQUEST, refusal.body(cloud.clock.now())),
    };
    let kind = [
        (header::CONTENT_TYPE, "application/json; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store, no-cache"),
    ];
    (status, kind, body.to_string()).into_response()
}

impl AadstsError {
    fn body(&self, now: Timestamp) -> serde_json::Value {
        let code = self.codes.first().copied().unwrap_or_default();
        let (trace, correlation) = (Uuid::new_v4(), Uuid::new_v4());
        let at =
            format!("{}Z", now.sortable().replace('T', " ").chars().take(19).collect::<String>());
        let mut body = json!({
            "error": self.error,
            "error_description": format!(
                "AADSTS{code}: The account jane.doe@example.nhs.uk was refused. Trace ID: {trace}"
            ),
            "error_codes": self.codes,
            "timestamp": at,
            "trace_id": trace.to_string(),
            "correlation_id": correlation.to_string(),
            "error_uri": format!("https://login.microsoftonline.com/error?code={code}"),
        });
        if let Some(body) = body.as_object_mut() {
            let extra = [("suberror", &self.suberror), ("claims", &self.claims)];
            for (name, value) in extra {
                if let Some(value) = value {
                    body.insert(name.to_owned(), json!(value));
                }
            }
        }
        body
    }
}
