//! The page people look at: are alerts flowing, and if not, what to do; and the
//! buttons to sign in, cancel, sign out, resume, and backfill.
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

mod backfill;
mod facts;
mod page;
mod picture;
mod sections;
mod status;
mod timetable;
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
pub use self::timetable::Timetable;
pub use self::visitor::FormKey;

use self::backfill::{Form, Refused};
use self::page::Notice;
use self::visitor::Visitor;
use crate::domain::advice::Advice;
use crate::domain::backfill::{Known, Span};
use crate::pipeline::backfill::CannotStart;

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
    /// Why not; nothing changed.
    async fn act(&self, order: Order, person: &str) -> Result<Option<Invitation>, Refusal>;
}

/// What a person asks for.
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
    /// Bring a span of the past.
    Backfill(Span, Known),
    /// End the backfill that is under way.
    CancelBackfill,
}

/// Why nothing was done.
#[derive(Debug)]
pub enum Refusal {
    /// In words.
    Said(Advice),
    /// What the form asks for cannot be backfilled.
    Backfill(CannotStart),
}

/// A button.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Button {
    SignIn,
    Cancel,
    SignOut,
    Resume,
    Backfill,
    CancelBackfill,
}

impl Button {
    const ALL: [Self; 6] = [
        Self::SignIn,
        Self::Cancel,
        Self::SignOut,
        Self::Resume,
        Self::Backfill,
        Self::CancelBackfill,
    ];

    /// The last part of its address.
    fn name(self) -> &'static str {
        match self {
            Self::SignIn => "sign-in",
            Self::Cancel => "cancel",
            Self::SignOut => "sign-out",
            Self::Resume => "resume",
            Self::Backfill => "backfill",
            Self::CancelBackfill => "cancel-backfill",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|button| button.name() == name)
    }

    /// What it asks for with `form` around it.
    fn order(self, form: &Form) -> Result<Order, Refused> {
        Ok(match self {
            Self::SignIn => Order::SignIn,
            Self::Cancel => Order::Cancel,
            Self::SignOut => Order::SignOut,
            Self::Resume => Order::Resume,
            Self::Backfill => Order::Backfill(form.span()?, form.known()),
            Self::CancelBackfill => Order::CancelBackfill,
        })
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
        for button in Button::ALL {
            let press =
                async move |state: State<Self>, uri: Uri, headers: HeaderMap, form: Bytes| {
                    pressed(state, button, &uri, &headers, &form).await
                };
            let press = post(press);
            let press = match button {
                Button::Backfill => press.get(fill_in),
                // Who reloads after a press sees the page.
                Button::SignIn
                | Button::Cancel
                | Button::SignOut
                | Button::Resume
                | Button::CancelBackfill => press.get(home),
            };
            router = router.route(&format!("{BASE}/{}", button.name()), press);
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

    /// The page with the form as it was filled in, and what is wrong with it.
    async fn refused(&self, visitor: &Visitor, form: Form) -> Response {
        self.page(visitor, StatusCode::CONFLICT, Some(&Notice::Form(&form))).await
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

/// The page with its form open: it does not reload itself under whoever types.
async fn fill_in(State(portal): State<Portal>, uri: Uri, headers: HeaderMap) -> Response {
    let visitor = Visitor::of(&uri, &headers);
    portal.page(&visitor, StatusCode::OK, Some(&Notice::Form(&Form::default()))).await
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
    button: Button,
    uri: &Uri,
    headers: &HeaderMap,
    form: &[u8],
) -> Response {
    let visitor = Visitor::of(uri, headers);
    let name = button.name();
    if !visitor.pressed_here(headers, form, &portal.key) {
        warn!(button = name, "a button press without this page's token was refused");
        return portal.page(&visitor, StatusCode::FORBIDDEN, Some(&Notice::NotFromHere)).await;
    }
    info!(button = name, person = visitor.person, "a button of the portal was pressed");
    let form = Form::of(form);
    let done = match button.order(&form) {
        Ok(order) => portal.deployment.act(order, &visitor.person).await,
        Err(refused) => return portal.refused(&visitor, form.with(refused)).await,
    };
    match done {
        Err(Refusal::Said(advice)) => {
            portal.page(&visitor, StatusCode::CONFLICT, Some(&Notice::NotDone(&advice))).await
        }
        Err(Refusal::Backfill(error)) => {
            portal.refused(&visitor, form.with(Refused::from(&error))).await
        }
        Ok(invitation) => {
            let mut answer = to_page(&visitor.after(button));
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
