//! The parts under the sentence.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use maud::{Markup, PreEscaped, html};
use qrcode::{Color, QrCode};
use secrecy::ExposeSecret as _;

use super::picture;
use super::visitor::{FormKey, Visitor};
use super::words::{count, countdown, span, time};
use super::{Button, Export, Fault, Invitation};
use crate::domain::advice::Advice;
use crate::domain::progress::Progress;
use crate::domain::runs::PastRun;
use crate::domain::standing::{DEAD_AFTER, Lifetime, Standing, Working};
use crate::domain::timestamp::Timestamp;

/// Where a person ends their own sessions.
const MY_SIGN_INS: &str = "https://mysignins.microsoft.com";
/// How an administrator ends an account's.
const REVOKE: &str = "https://learn.microsoft.com/entra/identity/users/users-revoke-access";

pub(super) fn faults(faults: &[Fault]) -> Markup {
    html! {
        section id="faults" {
            h2 { "Settings to correct" }
            ul {
                @for fault in faults {
                    li {
                        @if !fault.name.is_empty() { strong { (fault.name) } ": " }
                        (fault.what)
                    }
                }
            }
            p class="soft" { "Values are not shown, for any of them could be a secret." }
        }
    }
}

pub(super) fn unknown(advice: &Advice) -> Markup {
    html! { p { (advice.message) " " (advice.next_step) } }
}

pub(super) fn button(
    button: Button,
    label: &str,
    plain: bool,
    visitor: &Visitor,
    key: &FormKey,
) -> Markup {
    let name = button.name();
    html! {
        form method="post" action=(visitor.link(name)) {
            input type="hidden" name="token" value=(visitor.token(key));
            button id=(format!("press-{name}")) class=[plain.then_some("plain")] { (label) }
        }
    }
}

/// Who is signed in, and the way to change that.
pub(super) fn sign_in(export: &Export, now: Timestamp, visitor: &Visitor, key: &FormKey) -> Markup {
    let standing = match &export.sign_in {
        Ok(standing) => standing,
        Err(advice) => {
            return html! {
                section id="sign-in" {
                    h2 { "Sign-in" }
                    (unknown(advice))
                    (button(Button::SignIn, "Sign in", false, visitor, key))
                }
            };
        }
    };
    let in_use = standing.working().is_some();
    html! {
        section id="sign-in" {
            h2 { "Sign-in" }
            @match standing {
                Standing::SignedOut => p { "Nobody is signed in." },
                Standing::Refused { advice, since, resumes, .. } => {
                    p { "Refused on " (time(*since)) ": " (advice.message) }
                    p { (advice.next_step) }
                    @if *resumes {
                        p { "The sign-in is kept and works again by itself once this is put right." }
                    }
                },
                Standing::Pending { expires_at, started_by, .. } => (pending(export, *expires_at, started_by, now, visitor, key)),
                Standing::SignedIn(_) => {},
            }
            @if let Some(working) = standing.working() { (account(working, now)) }
            @if !matches!(standing, Standing::Pending { .. }) {
                (button(Button::SignIn, if in_use { "Sign in again" } else { "Sign in" }, in_use, visitor, key))
            }
            @if in_use {
                (button(Button::SignOut, "Sign out", true, visitor, key))
            }
            p class="soft" {
                "Signing out forgets the sign-in here. To end it at Microsoft too, revoke the account's sessions: "
                a href=(MY_SIGN_INS) rel="noreferrer" { "your own" } ", or "
                a href=(REVOKE) rel="noreferrer" { "as an administrator" } "."
            }
        }
    }
}

fn account(working: &Working, now: Timestamp) -> Markup {
    let ends = working.renewed_at + DEAD_AFTER;
    html! {
        dl {
            dt { "Account" } dd { (working.account.username) }
            dt { "Tenant" } dd { (working.account.tenant) }
            dt { "Signed in" } dd { (time(working.since)) }
            dt { "Last renewed" } dd { (time(working.renewed_at)) }
            dt { "May stay unused" }
            dd {
                @match working.lifetime {
                    Lifetime::Dead => "not any longer: 90 days have passed without a renewal",
                    Lifetime::Good | Lifetime::Expiring(_) => {
                        (span(ends.since(now).as_secs())) " more, until " (time(ends)) "; every run that renews it begins the 90 days anew"
                    },
                }
            }
        }
        @if let Some(until) = working.back_off_until {
            p { "Microsoft asked this app to wait; it asks again after " (time(until)) "." }
        }
        @if let Some(before) = &working.replaced {
            p { "Before, " strong { (before.username) } " was signed in. If this change was not meant, sign in again with the right account." }
        }
        @if let Some(advice) = &working.failed_attempt {
            p { "The last attempt to sign in again failed: " (advice.message) " " (advice.next_step) }
        }
    }
}

fn pending(
    export: &Export,
    expires_at: Timestamp,
    started_by: &str,
    now: Timestamp,
    visitor: &Visitor,
    key: &FormKey,
) -> Markup {
    let left = countdown(expires_at.since(now).as_secs());
    let own = export.invitation.as_ref().filter(|invitation| visitor.started(invitation));
    html! {
        @match own {
            Some(invitation) => (invite(invitation)),
            None => p {
                "A sign-in is under way, started by " strong { (started_by) }
                ". Its code is shown only in the browser that started it. If nobody you know did, cancel it and tell your security team."
            },
        }
        p id="time-left" { "The code ends in " strong { (left) } ". This page looks by itself whether it was used." }
        (button(Button::Cancel, "Cancel this sign-in", true, visitor, key))
    }
}

fn invite(invitation: &Invitation) -> Markup {
    html! {
        div class="invite" {
            ol {
                li { "Open " a id="address" href=(invitation.address) target="_blank" rel="noopener noreferrer" { (invitation.address) }
                    " on any device, or scan the picture." }
                li { "Enter this code:" br; span id="code" class="code" { (invitation.user_code.expose_secret()) } }
                li { "Sign in with the trust's export account: the one that may see your trust's devices only." }
            }
            @if let Some(picture) = qr(&invitation.address) { p class="qr" { (picture) } }
        }
        p class="careful" { "Only enter this code if you started this sign-in yourself, just now. Do not pass it on." }
    }
}

/// The address as a picture for a phone's camera; the code is not in it.
fn qr(address: &str) -> Option<Markup> {
    let code = QrCode::new(address).ok()?;
    let (width, quiet) = (code.width(), 4);
    let mut path = String::new();
    for (at, color) in code.to_colors().into_iter().enumerate() {
        if color == Color::Dark {
            // Writing to a String does not fail.
            let _written = write!(path, "M{} {}h1v1h-1z", at % width + quiet, at / width + quiet);
        }
    }
    let side = width + 2 * quiet;
    Some(html! {
        svg viewBox=(format!("0 0 {side} {side}")) role="img" aria-label="QR code of the address" shape-rendering="crispEdges" {
            path fill="#000" d=(path) {}
        }
    })
}

/// The last 24 hours, as a picture and as a table.
pub(super) fn day(export: &Export, now: Timestamp) -> Markup {
    let runs = match &export.runs {
        Ok(runs) => runs,
        Err(advice) => {
            return html! { section id="day" { h2 { "The last 24 hours" } (unknown(advice)) } };
        }
    };
    let deployed_at = export.live().map(|it| it.deployed_at);
    html! {
        section id="day" {
            h2 { "The last 24 hours" }
            (PreEscaped(picture::day(runs, &export.due, deployed_at, now).into_string()))
            details {
                summary { "The runs as a table (" (runs.len()) ")" }
                div class="scroll" role="region" aria-label="Runs of the last 24 hours" tabindex="0" { (table(runs)) }
            }
        }
    }
}

fn table(runs: &[PastRun]) -> Markup {
    html! {
        table {
            caption { "Newest first. What is already delivered is not sent twice." }
            thead { tr {
                th scope="col" { "Ended" } th scope="col" { "Status" } th scope="col" { "Delivered" }
                th scope="col" { "Already delivered" } th scope="col" { "Withheld" } th scope="col" { "Set aside" }
                th scope="col" { "Lag" } th scope="col" { "Took" }
            } }
            tbody {
                @for run in runs.iter().rev() {
                    tr {
                        td { time datetime=(run.at) { (time(run.at)) } }
                        td { (format!("{:?}", run.status)) }
                        td { (run.counts.delivered) }
                        td { (run.counts.duplicates) }
                        td { (run.counts.withheld) }
                        td { (run.counts.quarantined) }
                        td { (run.lag_seconds.map_or_else(|| "-".to_owned(), span)) }
                        td { (run.duration_ms) " ms" }
                    }
                }
            }
        }
    }
}

/// How far the export is, and the way on after a halt.
pub(super) fn position(
    export: &Export,
    now: Timestamp,
    visitor: &Visitor,
    key: &FormKey,
) -> Markup {
    html! {
        section id="position" {
            h2 { "Position" }
            @match &export.checkpoint {
                Err(advice) => (unknown(advice)),
                Ok(None) => p { "No run has read anything yet." },
                Ok(Some(checkpoint)) => {
                    @let position = checkpoint.progress.position();
                    dl {
                        dt { "Delivered up to" } dd { (time(position)) }
                        dt { "Lag" } dd { (span(now.since(position).as_secs())) }
                        @if let Some(until) = checkpoint.left_alone_until(now) {
                            dt { "Defender is called again" } dd { (time(until)) }
                        }
                    }
                    @if let Progress::Halted { since, .. } = &checkpoint.progress {
                        p { strong { "Halted" } " since " (time(*since)) ": alerts of another device group were met, and FunctionConfigScopeGuard is halt." }
                        (button(Button::Resume, "Resume the export", false, visitor, key))
                    }
                },
            }
            @if let Some(unsent) = &export.unsent {
                p id="unsent" { (unsent.message()) " " (unsent.advice.next_step) }
            }
            @if let Some(run) = &export.last_run {
                p { "Last run, " (time(run.at)) ": " (run.message) }
            }
        }
    }
}

/// The device groups seen, held against those allowed.
pub(super) fn groups(export: &Export) -> Markup {
    let runs = export.runs.as_deref().unwrap_or_default();
    let mut last_seen: BTreeMap<&str, Timestamp> = BTreeMap::new();
    for run in runs {
        last_seen.extend(run.groups.allowed.iter().map(|name| (name.as_str(), run.at)));
    }
    let foreign = runs.iter().map(|run| run.groups.foreign).max().unwrap_or_default();
    let ungrouped = runs.iter().any(|run| run.groups.ungrouped > 0);
    let unreadable = runs.iter().any(|run| run.groups.unreadable > 0);
    let every = export.allowed.iter().any(|name| name == "*");
    let names: Vec<&str> = if every {
        last_seen.keys().copied().collect()
    } else {
        export.allowed.iter().map(String::as_str).collect()
    };
    html! {
        section id="groups" {
            h2 { "Device groups" }
            @if every {
                p { strong { "The guard is off:" } " FunctionConfigDeviceGroups is *, so alerts of every group are exported." }
            }
            dl {
                @for name in names {
                    dt { (name) }
                    dd {
                        @match last_seen.get(name) {
                            Some(at) => { "allowed; alerts last met " (time(*at)) },
                            None => "allowed; no alerts met in the last 24 hours",
                        }
                    }
                }
                dt { "Other groups" }
                dd {
                    @if foreign > 0 {
                        "alerts of " (count(foreign, "other group")) " met in one run and withheld; their names are not kept"
                    } @else { "none met in the last 24 hours" }
                }
                @if ungrouped { dt { "No group" } dd { "alerts without a device group were met and withheld" } }
                @if unreadable { dt { "Unreadable" } dd { "alerts whose group could not be read were met and withheld" } }
            }
        }
    }
}
