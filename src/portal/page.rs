//! The page: one sentence, then what it rests on.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest as _, Sha256};

use super::backfill::{self, Form};
use super::sections;
use super::verdict::{Flow, Verdict};
use super::visitor::{FormKey, Visitor};
use super::{Button, Facts};
use crate::domain::advice::Advice;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// Seconds between two looks while a code waits: Entra's own polling interval.
const WHILE_WAITING: u32 = 5;
/// Seconds between two looks otherwise.
const OTHERWISE: u32 = 60;

/// What came of the request itself.
#[derive(Clone, Debug)]
pub(super) enum Notice<'a> {
    /// A button did its work.
    Done(Button),
    /// A button did nothing.
    NotDone(&'a Advice),
    /// A form that was not made for this browser.
    NotFromHere,
    /// Another address under the page's own.
    NoSuchPage,
    /// The backfill's form is open, or was filled in wrongly.
    Form(&'a Form),
}

/// Allows this page's own style and script, its own forms and looks, and
/// nothing else
/// (<https://developer.mozilla.org/docs/Web/HTTP/Reference/Headers/Content-Security-Policy>).
pub(super) fn policy() -> String {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
}

/// The whole page, for one visitor.
pub(super) fn page(
    facts: &Facts,
    visitor: &Visitor,
    key: &FormKey,
    notice: Option<&Notice<'_>>,
) -> Markup {
    let verdict = Verdict::of(facts);
    let waits = facts.export.as_ref().is_some_and(|export| export.invitation.is_some());
    let refresh = if waits { WHILE_WAITING } else { OTHERWISE };
    let here = visitor.link("");
    let form = match notice {
        Some(Notice::Form(form)) => Some(*form),
        Some(Notice::Done(_) | Notice::NotDone(_) | Notice::NotFromHere | Notice::NoSuchPage)
        | None => None,
    };
    html! {
        (DOCTYPE)
        html lang="en-GB" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { (word(verdict.flow)) " - alert export of " (facts.trust) }
                style { (PreEscaped(STYLE)) }
                // A notice stays until its reader goes on.
                @if notice.is_none() {
                    noscript { meta http-equiv="refresh" content=(format!("{refresh};url={here}")); }
                }
            }
            body {
                header { h1 { "Defender alert export of " (facts.trust) } }
                main data-self=(here) data-refresh=(refresh) {
                    @if let Some(notice) = notice { (told(notice, &here)) }
                    (headline(&verdict))
                    @if !facts.faults.is_empty() { (sections::faults(&facts.faults)) }
                    @if let Some(export) = &facts.export {
                        (sections::sign_in(export, facts.now, visitor, key))
                        (sections::day(export, facts.now))
                        (sections::position(export, facts.now, visitor, key))
                        (backfill::section(export, visitor, key, form))
                        (sections::groups(export))
                    }
                }
                footer class="soft" {
                    p { "Version " (env!("CARGO_PKG_VERSION")) ". Times are UTC. The same facts for machines: "
                        a href=(visitor.link("status.json")) { "status.json" } "." }
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    }
}

fn word(flow: Flow) -> &'static str {
    match flow {
        Flow::Flowing => "Flowing",
        Flow::Attention => "Attention",
        Flow::Stopped => "Not flowing",
    }
}

fn headline(verdict: &Verdict) -> Markup {
    let (class, mark) = match verdict.flow {
        Flow::Flowing => ("verdict flowing", "✓"),
        Flow::Attention => ("verdict attention", "!"),
        Flow::Stopped => ("verdict stopped", "✕"),
    };
    // What only support can read stands under Sign-in.
    let message = verdict.advice.message.as_str();
    let message = message.split_once(" (For support:").map_or(message, |(words, _)| words);
    html! {
        section id="verdict" class=(class) role="status" {
            h2 class="say" { span class="mark" aria-hidden="true" { (mark) " " } (message) }
            @if !verdict.advice.next_step.is_empty() {
                p { strong { "What to do: " } (verdict.advice.next_step) }
            }
        }
    }
}

fn told(notice: &Notice<'_>, here: &str) -> Markup {
    let (message, next_step) = match notice {
        Notice::Done(Button::SignIn) => ("A sign-in was started.", ""),
        Notice::Done(Button::Cancel) => (
            "The sign-in was cancelled; its code no longer works here.",
            "Press Sign in when you want to start again.",
        ),
        Notice::Done(Button::SignOut) => (
            "Signed out: the stored sign-in is forgotten, and no alerts are read until somebody signs in.",
            "To end it at Microsoft too, revoke the account's sessions; the link is below.",
        ),
        Notice::Done(Button::Resume) => {
            ("Resumed. The next run goes on from where the export stopped.", "")
        }
        Notice::Done(Button::Backfill) => (
            "The backfill was started. Nobody has to keep this page open.",
            "How far it is stands below.",
        ),
        Notice::Done(Button::CancelBackfill) => (
            "The backfill was cancelled; a run that is working on it stops before it fetches the next page.",
            "What it delivered stays delivered.",
        ),
        Notice::NotDone(advice) => (advice.message.as_str(), advice.next_step.as_str()),
        Notice::NotFromHere => (
            "Nothing was done: this press could not be matched to this page.",
            "Press the button on this page. If that does not help, allow cookies for this address.",
        ),
        Notice::NoSuchPage => ("There is no such page here.", "This is the only one."),
        // What is wrong with it stands beside it.
        Notice::Form(_) => return html! {},
    };
    html! {
        section id="notice" class="notice" role="alert" {
            h2 { "Your request" }
            p { (message) }
            @if !next_step.is_empty() { p { (next_step) } }
            p { a href=(here) { "Go on without this message" } }
        }
    }
}
