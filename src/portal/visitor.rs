//! Who is looking: what their browser proves, and how links lead back.
//!
//! | cookie | proves |
//! |---|---|
//! | `portal_browser` | with a form's token: the form was made for this browser |
//! | `portal_flow` | this browser started the sign-in that waits |
//!
//! Both are sent to this page only, never to scripts and never from another
//! site. <https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html>

use axum::http::{HeaderMap, HeaderValue, Uri, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use url::form_urlencoded;
use uuid::Uuid;

use super::{BASE, Button, Facts, Invitation};
use crate::domain::standing::Standing;

const BROWSER: &str = "portal_browser";
const FLOW: &str = "portal_flow";
/// A little longer than Entra's codes live.
const FLOW_SECONDS: u32 = 1_800;
/// A name longer than this is cut off.
const NAME_CHARS: usize = 100;
/// Function keys are 56 characters; more than this is none.
const KEY_CHARS: usize = 200;

/// Makes and checks the tokens in forms. The same for all instances of one
/// deployment, or a form of one would be refused by the next.
#[derive(Clone)]
pub struct FormKey([u8; 32]);

/// One request's sender.
#[derive(Debug)]
pub(super) struct Visitor {
    /// Who App Service says they are, or what is known instead.
    pub(super) person: String,
    /// What the page was just asked to do.
    pub(super) done: Option<Button>,
    function_key: Option<SecretString>,
    browser: String,
    /// The browser did not have its cookie.
    new: bool,
    ticket: Option<SecretString>,
    over_https: bool,
}

impl FormKey {
    /// From the deployment's own secret, which it does not give away.
    pub fn derive(secret: &SecretString) -> Self {
        let digest = Sha256::new()
            .chain_update(b"portal forms|")
            .chain_update(secret.expose_secret())
            .finalize();
        Self(digest.into())
    }

    /// For a deployment that has no secret, and no button that does anything.
    pub fn random() -> Self {
        let mut key = [0; 32];
        let (one, two) = key.split_at_mut(16);
        one.copy_from_slice(Uuid::new_v4().as_bytes());
        two.copy_from_slice(Uuid::new_v4().as_bytes());
        Self(key)
    }

    fn token(&self, browser: &str) -> String {
        URL_SAFE_NO_PAD.encode(mac(&self.0, browser).finalize().into_bytes())
    }

    fn made(&self, token: &str, browser: &str) -> bool {
        let token = URL_SAFE_NO_PAD.decode(token).unwrap_or_default();
        mac(&self.0, browser).verify_slice(&token).is_ok()
    }
}

impl std::fmt::Debug for FormKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FormKey")
    }
}

impl Visitor {
    pub(super) fn of(uri: &Uri, headers: &HeaderMap) -> Self {
        let query: Vec<(String, String)> =
            form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
                .into_owned()
                .collect();
        let parameter =
            |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value);
        let known = cookie(headers, BROWSER).filter(|id| Uuid::try_parse(id).is_ok());
        Self {
            person: person(headers),
            done: parameter("done").and_then(|name| Button::named(name)),
            function_key: parameter("code")
                .filter(|key| key.len() <= KEY_CHARS)
                .map(|key| key.as_str().into()),
            new: known.is_none(),
            browser: known.map_or_else(|| Uuid::new_v4().to_string(), str::to_owned),
            ticket: cookie(headers, FLOW).map(Into::into),
            over_https: text(headers, "x-forwarded-proto") == Some("https")
                || headers.contains_key("x-arr-ssl"),
        }
    }

    /// The address of `page` of this portal, with the function key if this
    /// request had it in its own address.
    pub(super) fn link(&self, page: &str) -> String {
        self.link_with(page, None)
    }

    /// Where to go once `button` has done its work.
    pub(super) fn after(&self, button: Button) -> String {
        self.link_with("", (button != Button::SignIn).then_some(button))
    }

    fn link_with(&self, page: &str, done: Option<Button>) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if let Some(key) = &self.function_key {
            query.append_pair("code", key.expose_secret());
        }
        if let Some(button) = done {
            query.append_pair("done", button.name());
        }
        let query = query.finish();
        let slash = if page.is_empty() { "" } else { "/" };
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{BASE}{slash}{page}{mark}{query}")
    }

    /// What a form for this browser carries.
    pub(super) fn token(&self, key: &FormKey) -> String {
        key.token(&self.browser)
    }

    /// Whether a form came from a page made for this browser.
    pub(super) fn pressed_here(&self, headers: &HeaderMap, form: &[u8], key: &FormKey) -> bool {
        let site = text(headers, "sec-fetch-site").unwrap_or("same-origin");
        let token = form_urlencoded::parse(form).find(|(name, _)| name == "token");
        let token = token.map(|(_, value)| value).unwrap_or_default();
        site == "same-origin" && !self.new && key.made(&token, &self.browser)
    }

    /// Whether this browser started the sign-in of `invitation`. Compared so
    /// that the time it takes tells nothing.
    pub(super) fn started(&self, invitation: &Invitation) -> bool {
        self.ticket.as_ref().is_some_and(|ticket| {
            let expected = mac(&[0; 32], invitation.ticket.expose_secret()).finalize().into_bytes();
            mac(&[0; 32], ticket.expose_secret()).verify_slice(&expected).is_ok()
        })
    }

    /// Gives a new browser its cookie, and takes back a ticket that is over.
    pub(super) fn remember(&self, facts: &Facts, headers: &mut HeaderMap) {
        if self.new {
            self.set(BROWSER, &self.browser, None, headers);
        }
        // Only if it is known: what cannot be read for a moment may still wait.
        let read = facts.export.as_ref().and_then(|export| export.sign_in.as_ref().ok());
        let over = read.is_some_and(|standing| !matches!(standing, Standing::Pending { .. }));
        if self.ticket.is_some() && over {
            self.set(FLOW, "", Some(0), headers);
        }
    }

    /// Gives the browser the ticket of the sign-in it started.
    pub(super) fn hand_over(&self, invitation: &Invitation, headers: &mut HeaderMap) {
        self.set(FLOW, invitation.ticket.expose_secret(), Some(FLOW_SECONDS), headers);
    }

    fn set(&self, name: &str, value: &str, seconds: Option<u32>, headers: &mut HeaderMap) {
        let age = seconds.map_or_else(String::new, |seconds| format!("; Max-Age={seconds}"));
        let secure = if self.over_https { "; Secure" } else { "" };
        let cookie = format!("{name}={value}; Path={BASE}; HttpOnly; SameSite=Strict{age}{secure}");
        if let Ok(mut cookie) = HeaderValue::from_str(&cookie) {
            cookie.set_sensitive(true);
            headers.append(header::SET_COOKIE, cookie);
        }
    }
}

/// App Service sets this header itself, and takes it off requests from outside,
/// where its authentication is on
/// (<https://learn.microsoft.com/azure/app-service/configure-authentication-user-identities>).
fn person(headers: &HeaderMap) -> String {
    let name: String = text(headers, "x-ms-client-principal-name")
        .unwrap_or_default()
        .chars()
        .filter(|c| !c.is_control())
        .take(NAME_CHARS)
        .collect();
    if name.is_empty() { "somebody with the function key".to_owned() } else { name }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    lines
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

fn mac(key: &[u8; 32], text: &str) -> Hmac<Sha256> {
    // A shorter key is filled up with zeros to a block, as HMAC has it.
    let mut block = [0; 64];
    for (to, from) in block.iter_mut().zip(key) {
        *to = *from;
    }
    <Hmac<Sha256> as hmac::Mac>::new(&block.into()).chain_update(text)
}
