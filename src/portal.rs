//! The page people look at: are alerts flowing, and if not, what to do; and the
//! buttons to sign in, cancel, sign out and resume.
//!
//! The Functions host checks the function key and passes requests on under
//! their own path, `/api/portal/…`
//! (<https://learn.microsoft.com/azure/azure-functions/functions-custom-handlers#http-only-function>).
//! The page is whole without script and loads nothing: its one style and one
//! script are named by hash in the policy. The key stays in the page's own
//! links only; no referrer is sent and no query is logged.
//!
//! Nothing is kept in memory: what a form or a cookie proves, any instance can
//! check after any restart.

mod facts;
mod page;
mod picture;
mod sections;
mod status;
mod verdict;
mod visitor;
mod words;

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::{get, post};
use tracing::{info, warn};

pub use self::facts::{Export, Facts, Fault, Invitation};
pub use self::visitor::FormKey;

use self::page::Notice;
use self::visitor::Visitor;
use crate::domain::advice::Advice;

/// Where the page is, under the Functions host's default route prefix.
pub const BASE: &str = "/api/portal";
/// A form of this page is far shorter.
const FORM_BYTES: usize = 8 * 1024;

/// What the page shows and commands. One for a deployment that works, one for
/// a deployment whose settings are not in order.
#[async_trait]
pub trait Deployment: Send + Sync {
    /// How things stand. Asks Entra after a waiting code, at most once and only
    /// when it is time.
    async fn look(&self) -> Facts;

    /// Does what `person` asked for. A sign-in brings its code.
    ///
    /// # Errors
    ///
    /// Why not, in words; nothing changed.
    async fn act(&self, order: Order, person: &str) -> Result<Option<Invitation>, Advice>;
}

/// A button.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// Ask Entra for a code.
    SignIn,
    /// Forget the code that waits.
    Cancel,
    /// Forget the sign-in.
    SignOut,
    /// Go on after a halt.
    Resume,
}

impl Order {
    const ALL: [Self; 4] = [Self::SignIn, Self::Cancel, Self::SignOut, Self::Resume];

    /// The last part of its address.
    fn name(self) -> &'static str {
        match self {
            Self::SignIn => "sign-in",
            Self::Cancel => "cancel",
            Self::SignOut => "sign-out",
            Self::Resume => "resume",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|order| order.name() == name)
    }
}

/// The page and its buttons. Clones share the deployment.
#[derive(Clone)]
pub struct Portal {
    deployment: Arc<dyn Deployment>,
    key: FormKey,
}

impl Portal {
    /// Over `deployment`; `key` proves that a form came from this page.
    pub fn new(deployment: Arc<dyn Deployment>, key: FormKey) -> Self {
        Self { deployment, key }
    }

    /// Its routes, without a fallback.
    pub fn router(self) -> Router {
        let mut router = Router::new()
            .route(BASE, get(show))
            .route(&format!("{BASE}/"), get(show))
            .route(&format!("{BASE}/status.json"), get(facts))
            .route(&format!("{BASE}/{{*rest}}"), get(elsewhere));
        for order in Order::ALL {
            let press =
                async move |state: State<Self>, uri: Uri, headers: HeaderMap, form: Bytes| {
                    pressed(state, order, &uri, &headers, &form).await
                };
            // Who reloads after a press sees the page.
            router = router.route(&format!("{BASE}/{}", order.name()), post(press).get(home));
        }
        router.layer(DefaultBodyLimit::max(FORM_BYTES)).with_state(self)
    }

    async fn page(
        &self,
        visitor: &Visitor,
        status: StatusCode,
        notice: Option<&Notice<'_>>,
    ) -> Response {
        let facts = self.deployment.look().await;
        let html = page::page(&facts, visitor, &self.key, notice);
        let mut answer = (status, Html(html.into_string())).into_response();
        guard(answer.headers_mut());
        visitor.remember(&facts, answer.headers_mut());
        answer
    }
}

impl std::fmt::Debug for Portal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Portal").finish_non_exhaustive()
    }
}

async fn show(State(portal): State<Portal>, uri: Uri, headers: HeaderMap) -> Response {
    let visitor = Visitor::of(&uri, &headers);
    let notice = visitor.done.map(Notice::Done);
    portal.page(&visitor, StatusCode::OK, notice.as_ref()).await
}

async fn facts(State(portal): State<Portal>) -> Response {
    let facts = portal.deployment.look().await;
    let mut answer = Json(status::Status::of(&facts)).into_response();
    guard(answer.headers_mut());
    answer
}

async fn elsewhere(State(portal): State<Portal>, uri: Uri, headers: HeaderMap) -> Response {
    let visitor = Visitor::of(&uri, &headers);
    portal.page(&visitor, StatusCode::NOT_FOUND, Some(&Notice::NoSuchPage)).await
}

async fn home(uri: Uri, headers: HeaderMap) -> Response {
    to_page(&Visitor::of(&uri, &headers).link(""))
}

async fn pressed(
    State(portal): State<Portal>,
    order: Order,
    uri: &Uri,
    headers: &HeaderMap,
    form: &[u8],
) -> Response {
    let visitor = Visitor::of(uri, headers);
    let name = order.name();
    if !visitor.pressed_here(headers, form, &portal.key) {
        warn!(button = name, "a button press without this page's token was refused");
        return portal.page(&visitor, StatusCode::FORBIDDEN, Some(&Notice::NotFromHere)).await;
    }
    info!(button = name, person = visitor.person, "a button of the portal was pressed");
    match portal.deployment.act(order, &visitor.person).await {
        Err(advice) => {
            portal.page(&visitor, StatusCode::CONFLICT, Some(&Notice::NotDone(&advice))).await
        }
        Ok(invitation) => {
            let mut answer = to_page(&visitor.after(order));
            if let Some(invitation) = invitation {
                visitor.hand_over(&invitation, answer.headers_mut());
            }
            answer
        }
    }
}

/// 303: whatever was pressed, the page is fetched with GET next.
fn to_page(address: &str) -> Response {
    let mut answer = StatusCode::SEE_OTHER.into_response();
    if let Ok(address) = HeaderValue::from_str(address) {
        answer.headers_mut().insert(header::LOCATION, address);
    }
    guard(answer.headers_mut());
    answer
}

/// What every answer says to browsers.
fn guard(headers: &mut HeaderMap) {
    let policy = page::policy();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, policy.as_str()),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
}
