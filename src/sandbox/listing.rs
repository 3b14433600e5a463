//! One request for alerts, and the alerts it is answered from.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use url::form_urlencoded;

use super::graph_sample;
use super::manners::{Manners, NextLink, Orderby, Otherwise};
use super::odata::{self, BadFilter, Dialect, Filter, Filtered, TextField, TimeField};
use super::sample::{ENDPOINT, Sample};
use crate::domain::timestamp::Timestamp;

/// How one API lists alerts, where the two differ.
#[derive(Debug)]
pub(super) struct Style {
    dialect: Dialect,
    /// Alerts in one page at most.
    largest_page: usize,
    /// Whether a larger `$top` is made smaller without a word, or refused.
    clamps: bool,
    /// `$skip` at most.
    largest_skip: usize,
    /// Query options it takes beside `$filter`, `$top`, `$skip` and `$orderby`.
    options: &'static [&'static str],
    /// Whether links lead on beyond `$top`: it is then a page's size and not
    /// the list's.
    links_on: bool,
    path: &'static str,
    face: Face,
}

pub(super) const DEFENDER: Style = Style {
    dialect: odata::DEFENDER,
    largest_page: 10_000,
    clamps: false,
    largest_skip: usize::MAX,
    options: &["$expand"],
    links_on: false,
    path: "api/alerts",
    face: Face::Defender,
};

pub(super) const GRAPH: Style = Style {
    dialect: odata::GRAPH,
    largest_page: 1_000,
    clamps: true,
    largest_skip: 500,
    options: &["$count", "$skiptoken"],
    links_on: true,
    path: "v1.0/security/alerts_v2",
    face: Face::Graph,
};

/// On which API an alert shows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Face {
    Defender,
    Graph,
}

/// One alert, ready to send.
#[derive(Debug)]
pub(super) struct Stored {
    id: String,
    status: String,
    severity: String,
    created: Timestamp,
    updated: Timestamp,
    service: &'static str,
    /// `rbacGroupName`.
    pub group: Option<String>,
    /// Hidden before.
    pub visible_from: Timestamp,
    json: Bytes,
    origin: Origin,
}

#[derive(Debug)]
enum Origin {
    /// Shows on both; `json` is Defender's, and has so much before the evidence.
    Sample(Box<Sample>, usize),
    /// Shows as it stands, on one.
    Raw(Face),
}

impl Stored {
    pub(super) fn of(sample: &Sample, visible_from: Timestamp) -> Self {
        let (json, evidence) = sample.render();
        Self {
            id: sample.id(),
            status: sample.status.to_owned(),
            severity: sample.severity.to_owned(),
            created: sample.created,
            updated: sample.updated,
            service: sample.service,
            group: sample.group.clone(),
            visible_from,
            json,
            origin: Origin::Sample(Box::new(sample.clone()), evidence),
        }
    }

    pub(super) fn raw(face: Face, json: Bytes, updated: Timestamp) -> Self {
        Self {
            id: String::new(),
            status: String::new(),
            severity: String::new(),
            created: updated,
            updated,
            service: ENDPOINT,
            group: None,
            visible_from: Timestamp::EPOCH,
            json,
            origin: Origin::Raw(face),
        }
    }

    fn shows_on(&self, face: Face) -> bool {
        match self.origin {
            // Defender has its own alerts only.
            Origin::Sample(..) => face == Face::Graph || self.service == ENDPOINT,
            Origin::Raw(its) => its == face,
        }
    }

    /// Defender's element, in two pieces.
    pub(super) fn defenders(&self, with_evidence: bool) -> (Bytes, Bytes) {
        match self.origin {
            Origin::Sample(_, end) if !with_evidence => {
                (self.json.slice(..end), Bytes::from_static(b"[]}"))
            }
            Origin::Sample(..) | Origin::Raw(_) => (self.json.clone(), Bytes::new()),
        }
    }

    /// Graph's element. `young_words`: enum words younger than the API too.
    pub(super) fn graphs(&self, young_words: bool) -> Bytes {
        match &self.origin {
            Origin::Sample(sample, _) => graph_sample::json(sample, young_words),
            Origin::Raw(_) => self.json.clone(),
        }
    }
}

impl Filtered for Stored {
    fn time(&self, field: TimeField) -> Option<Timestamp> {
        Some(match field {
            TimeField::Updated => self.updated,
            TimeField::Created => self.created,
        })
    }

    fn text(&self, field: TextField) -> Option<&str> {
        Some(match field {
            TextField::Id => &self.id,
            TextField::Status => &self.status,
            TextField::Severity => &self.severity,
            TextField::Service => self.service,
        })
    }
}

/// How a list is sorted.
#[derive(Clone, Copy, Debug)]
enum Sorting {
    Ascending(TimeField),
    Descending(TimeField),
    Jumbled,
}

/// A request for alerts.
#[derive(Debug)]
pub(super) struct Listing {
    /// `$expand=evidence`.
    pub evidence: bool,
    /// As the server is told.
    pub manners: Manners,
    style: &'static Style,
    query: String,
    filter: Option<Filter>,
    top: usize,
    skip: usize,
    sorting: Sorting,
}

impl Listing {
    pub(super) fn parse(
        query: &str,
        manners: Manners,
        style: &'static Style,
    ) -> Result<Self, BadFilter> {
        let mut listing = Self {
            evidence: false,
            manners,
            style,
            query: query.to_owned(),
            filter: None,
            top: style.largest_page,
            skip: 0,
            sorting: match manners.otherwise {
                Otherwise::NewestFirst => Sorting::Descending(TimeField::Created),
                Otherwise::OldestFirst => Sorting::Ascending(TimeField::Created),
                Otherwise::Jumbled => Sorting::Jumbled,
            },
        };
        let mut given = Vec::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if given.contains(&name) {
                return Err(BadFilter("an option is given twice"));
            }
            listing.take(&name, &value)?;
            given.push(name);
        }
        Ok(listing)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), BadFilter> {
        let number = || value.parse().map_err(|_not_a_number| BadFilter("not a number"));
        let dialect = &self.style.dialect;
        match name {
            "$filter" => self.filter = Some(Filter::parse(value, dialect)?),
            "$top" => self.top = number()?,
            "$skip" if number()? > self.style.largest_skip => {
                return Err(BadFilter("$skip is more than 500"));
            }
            "$skip" => self.skip = number()?,
            "$orderby" => {
                let sorting = sorting(value, dialect).ok_or(BadFilter("no such order"))?;
                match self.manners.orderby {
                    Orderby::Honoured => self.sorting = sorting,
                    Orderby::Ignored => {}
                    Orderby::Rejected => return Err(BadFilter("$orderby is not allowed")),
                }
            }
            other if !self.style.options.contains(&other) => {
                return Err(BadFilter("no such query option"));
            }
            "$expand" if value == "evidence" => self.evidence = true,
            "$skiptoken" => self.skip = number()?,
            "$count" if ["true", "false"].contains(&value) => {}
            _ => return Err(BadFilter("no such value of a query option")),
        }
        if self.style.clamps {
            self.top = self.top.min(self.style.largest_page);
        }
        if self.top > self.style.largest_page {
            return Err(BadFilter("$top is more than 10,000"));
        }
        Ok(())
    }

    /// The page, and how many alerts the next one is to pass over, if the list
    /// does not end with this one.
    pub(super) fn select(
        &self,
        alerts: &BTreeMap<(Timestamp, u64), Arc<Stored>>,
        shown: impl Fn(&Stored) -> bool,
    ) -> (Vec<Arc<Stored>>, Option<usize>) {
        let count = self.top.min(self.manners.page_cap);
        let (from, to) =
            self.filter.as_ref().map_or((Bound::Unbounded, Bound::Unbounded), Filter::updated);
        let from = match from {
            Bound::Included(at) => (at, 0),
            Bound::Excluded(_) | Bound::Unbounded => (Timestamp::EPOCH, 0),
        };
        let wanted = alerts
            .range(from..)
            .take_while(|((at, _), _)| match to {
                Bound::Included(to) => *at <= to,
                Bound::Excluded(_) | Bound::Unbounded => true,
            })
            .map(|(_, alert)| alert)
            .filter(|alert| self.filter.as_ref().is_none_or(|filter| filter.holds(alert.as_ref())))
            .filter(|alert| alert.shows_on(self.style.face) && shown(alert));
        let mut page: Vec<_> = match self.sorting {
            // The list is kept in this order.
            Sorting::Ascending(TimeField::Updated) => {
                wanted.skip(self.skip).take(count.saturating_add(1)).cloned().collect()
            }
            Sorting::Ascending(TimeField::Created) | Sorting::Descending(_) | Sorting::Jumbled => {
                let mut all: Vec<_> = wanted.cloned().collect();
                self.sort(&mut all);
                all.into_iter().skip(self.skip).take(count.saturating_add(1)).collect()
            }
        };
        let more = page.len() > count;
        page.truncate(count);
        (page, more.then_some(self.skip.saturating_add(count)))
    }

    fn sort(&self, alerts: &mut [Arc<Stored>]) {
        match self.sorting {
            Sorting::Ascending(field) => alerts.sort_by_key(|alert| alert.time(field)),
            Sorting::Descending(field) => alerts.sort_by_key(|alert| Reverse(alert.time(field))),
            Sorting::Jumbled => {
                // The last digits of the id first.
                alerts.sort_by_cached_key(|alert| alert.id.chars().rev().collect::<String>());
            }
        }
    }

    /// The address of the page that passes over `skip` alerts, if pages are
    /// linked and `$top` is not reached.
    pub(super) fn link(&self, host: &str, skip: usize) -> Option<String> {
        let left = self.top.saturating_sub(skip.saturating_sub(self.skip));
        let left = if self.style.links_on { self.top } else { left };
        if self.manners.next_link == NextLink::Never || left == 0 {
            return None;
        }
        let host = self.manners.link_host.unwrap_or(host);
        let by_token = self.manners.link_tokens && self.style.options.contains(&"$skiptoken");
        let kept = form_urlencoded::parse(self.query.as_bytes())
            .filter(|(name, _)| !["$skip", "$skiptoken", "$top"].contains(&name.as_ref()));
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(kept)
            .append_pair(if by_token { "$skiptoken" } else { "$skip" }, &skip.to_string())
            .append_pair("$top", &left.to_string())
            .finish();
        Some(format!("http://{host}/{}?{query}", self.style.path))
    }
}

fn sorting(text: &str, dialect: &Dialect) -> Option<Sorting> {
    let (name, direction) = text.split_once(' ').unwrap_or((text, "asc"));
    let field = dialect.time(name)?;
    match direction {
        "asc" => Some(Sorting::Ascending(field)),
        "desc" => Some(Sorting::Descending(field)),
        _ => None,
    }
}
