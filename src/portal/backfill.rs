//! The backfill: its form while none is under way, else how far it is.

use maud::{Markup, html};
use url::form_urlencoded;

use super::sections::{button, unknown};
use super::visitor::{FormKey, Visitor};
use super::words::{count, time};
use super::{Button, Export};
use crate::domain::backfill::{BadSpan, Known, Span, edge};
use crate::domain::heartbeat::Counts;
use crate::domain::job_state::{JobState, Phase};
use crate::domain::progress::Progress;
use crate::domain::timestamp::Timestamp;
use crate::pipeline::backfill::CannotStart;

/// A time is far shorter.
const EDGE_CHARS: usize = 40;

/// The form as somebody filled it in.
#[derive(Clone, Debug, Default)]
pub(super) struct Form {
    from: String,
    to: String,
    /// Whether what was delivered before is to be sent again.
    again: bool,
    refused: Option<Refused>,
}

/// What is wrong with it.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    field: Option<Field>,
    message: String,
    next_step: &'static str,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Field {
    From,
    To,
}

impl Form {
    /// From a request's body.
    pub(super) fn of(body: &[u8]) -> Self {
        let mut form = Self::default();
        for (name, value) in form_urlencoded::parse(body) {
            let value = || value.chars().take(EDGE_CHARS).collect();
            match name.as_ref() {
                "from" => form.from = value(),
                "to" => form.to = value(),
                "again" => form.again = true,
                _ => {}
            }
        }
        form
    }

    /// What it asks for, whether or not that can be had.
    pub(super) fn span(&self) -> Result<Span, Refused> {
        let read = |text: &str, field: Field| {
            edge(text).map_err(|_bad| Refused {
                field: Some(field),
                message: format!("{} is not a date and time.", field.word()),
                next_step: "Write it as 2026-01-31T09:30, in UTC.",
            })
        };
        Ok(Span { from: read(&self.from, Field::From)?, to: read(&self.to, Field::To)? })
    }

    /// What is to become of alerts that were delivered before.
    pub(super) fn known(&self) -> Known {
        Known::chosen(self.again)
    }

    pub(super) fn with(self, refused: Refused) -> Self {
        Self { refused: Some(refused), ..self }
    }

    fn is_wrong(&self, field: Field) -> bool {
        self.refused.as_ref().is_some_and(|refused| refused.field == Some(field))
    }
}

impl From<&CannotStart> for Refused {
    fn from(error: &CannotStart) -> Self {
        let (field, message) = match error {
            CannotStart::Span(bad) => {
                let field = match bad {
                    BadSpan::Empty(_)
                    | BadSpan::AheadOfLive { .. }
                    | BadSpan::BesideLastMinutes { .. } => Field::To,
                    BadSpan::Forgotten { .. } => Field::From,
                };
                (Some(field), bad.words(time))
            }
            CannotStart::NeverRun
            | CannotStart::Halted { .. }
            | CannotStart::TooFewCalls { .. }
            | CannotStart::State(_) => (None, error.to_string()),
        };
        Self { field, message: format!("{message}."), next_step: error.next_step() }
    }
}

impl Field {
    fn name(self) -> &'static str {
        match self {
            Self::From => "from",
            Self::To => "to",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::From => "The beginning",
            Self::To => "The end",
        }
    }
}

/// What a backfill is, and the form, or how far it is.
pub(super) fn section(
    export: &Export,
    visitor: &Visitor,
    key: &FormKey,
    form: Option<&Form>,
) -> Markup {
    html! {
        section id="backfill" {
            h2 { "Backfill" }
            @match &export.backfill {
                Err(advice) => (unknown(advice)),
                Ok(Some(state)) if state.job.is_under_way() => (under_way(state, export, visitor, key)),
                Ok(last) => {
                    (explained())
                    (fields(export.possible, visitor, key, form))
                    @if let Some(state) = last {
                        h3 { "The last one" }
                        (facts(state))
                        p { (state.message(time)) }
                    }
                },
            }
        }
    }
}

fn explained() -> Markup {
    html! {
        p {
            "Fetches the alerts last updated between two times of the past and sends those that the export does not remember sending. "
            "It never moves the live export, which goes first, and takes only the calls and the time that are left over. "
            "It may take hours; nobody has to keep this page open."
        }
        p class="soft" {
            "Those sent longer ago than it remembers come a second time, with the same ExportKey; the query DefenderRawAlert keeps one of each."
        }
    }
}

fn fields(possible: Option<Span>, visitor: &Visitor, key: &FormKey, form: Option<&Form>) -> Markup {
    let name = Button::Backfill.name();
    let refused = form.and_then(|form| form.refused.as_ref());
    html! {
        @if form.is_none() {
            noscript {
                p class="soft" {
                    "This page loads anew every minute. "
                    a href=(visitor.link(name)) { "Stop that while you fill in the form" } "."
                }
            }
        }
        form id="backfill-form" method="post" action=(visitor.link(name)) {
            input type="hidden" name="token" value=(visitor.token(key));
            @if let Some(Refused { message, next_step, .. }) = refused {
                p id="backfill-refused" class="refused" role="alert" {
                    strong { "Not started: " } (message) " " (next_step)
                }
            }
            div class="fields" {
                (edge_of(Field::From, "From (UTC)", possible, form))
                (edge_of(Field::To, "To (UTC), not included", possible, form))
            }
            p class="choice" {
                input id="backfill-again" type="checkbox" name="again" value="yes"
                    checked[form.is_some_and(|form| form.again)]
                    aria-describedby="backfill-again-for";
                label for="backfill-again" { "Send again what was delivered before" }
            }
            p id="backfill-again-for" class="soft" {
                "Only where rows were lost after the target had accepted them, as when an alarm says that rows were rejected."
            }
            @if let Some(Span { from, to }) = possible {
                p id="backfill-possible" class="soft" {
                    "Possible: from " (time(from)) " (Defender keeps 180 days) to " (time(to)) " (what is later is left to the live export)."
                }
            }
            button id=(format!("press-{name}")) { "Start the backfill" }
        }
    }
}

fn edge_of(field: Field, label: &str, possible: Option<Span>, form: Option<&Form>) -> Markup {
    let typed = form.map_or("", |form| match field {
        Field::From => form.from.as_str(),
        Field::To => form.to.as_str(),
    });
    let wrong = form.is_some_and(|form| form.is_wrong(field));
    let first = field == Field::From && form.is_some_and(|form| !form.is_wrong(Field::To));
    let described = match (wrong, possible) {
        (true, Some(_)) => Some("backfill-refused backfill-possible"),
        (true, None) => Some("backfill-refused"),
        (false, Some(_)) => Some("backfill-possible"),
        (false, None) => None,
    };
    let id = format!("backfill-{}", field.name());
    html! {
        div {
            label for=(id) { (label) }
            input id=(id) type="datetime-local" name=(field.name()) required value=(typed)
                min=[possible.map(|it| local(it.from))] max=[possible.map(|it| local(it.to))]
                placeholder="2026-01-31T09:30" autofocus[wrong || first]
                aria-invalid=[wrong.then_some("true")]
                aria-describedby=[described];
        }
    }
}

/// As the field has it: `2026-01-31T09:30`.
fn local(at: Timestamp) -> String {
    at.sortable().chars().take("2026-01-31T09:30".len()).collect()
}

fn facts(JobState { job, position, .. }: &JobState) -> Markup {
    let Counts { delivered, duplicates, withheld, quarantined, calls, .. } = job.counts;
    html! {
        dl {
            dt { "Span" } dd { (time(job.span.from)) " to " (time(job.span.to)) }
            @if job.known == Known::SentAgain {
                dt { "Delivered before" } dd { "is sent again" }
            }
            dt { "Started" } dd { "by " (job.started_by) ", " (time(job.started_at)) }
            @if job.is_under_way() {
                dt { "Delivered up to" } dd { (time(*position)) }
            }
            dt { "Alerts" }
            dd {
                (delivered) " delivered, " (duplicates) " delivered before, " (withheld) " withheld, "
                (quarantined) " set aside; " (count(calls, "call"))
            }
        }
    }
}

fn under_way(state: &JobState, export: &Export, visitor: &Visitor, key: &FormKey) -> Markup {
    let percent = state.percent();
    let live_halted =
        export.live().is_some_and(|it| matches!(it.progress, Progress::Halted { .. }));
    let problem = state.job.problem.as_ref().filter(|_| state.phase != Phase::Failed);
    html! {
        p class="far" {
            strong { (percent) " %" }
            progress max="100" value=(percent) aria-label="How far the backfill is" {}
        }
        (facts(state))
        p { (state.message(time)) }
        @if let Some(problem) = problem {
            p { "The attempt before, " (time(problem.at)) ", failed: " (problem.message) }
        }
        @if !state.next_step().is_empty() {
            p { strong { "What to do: " } (state.next_step()) }
        }
        // Where the live export is halted too, one button above is for both.
        @if matches!(state.phase, Phase::Halted { .. }) && !live_halted {
            (button(Button::Resume, "Resume the backfill", false, visitor, key))
        }
        @if state.phase != Phase::Cancelling {
            (button(Button::CancelBackfill, "Cancel this backfill", true, visitor, key))
        }
        p class="soft" {
            "It goes on with the time and calls that the live runs leave over. What is delivered stays delivered, also when it is cancelled."
        }
    }
}
