//! One request for alerts, and the alerts it is answered from.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use url::form_urlencoded;

use super::defender::{Manners, NextLink, Orderby, Otherwise};
use super::odata::{BadFilter, Filter, Filtered, TextField, TimeField};
use super::sample::Sample;
use crate::domain::timestamp::Timestamp;

/// Alerts in one page at most, as documented.
const MAX_TOP: usize = 10_000;

/// One alert, ready to send.
#[derive(Debug)]
pub(super) struct Stored {
    id: String,
    status: String,
    severity: String,
    created: Timestamp,
    updated: Timestamp,
    /// `rbacGroupName`.
    pub group: Option<String>,
    /// Hidden before.
    pub visible_from: Timestamp,
    json: Bytes,
    /// How much of `json` comes before the evidence, where it can be left out.
    evidence: Option<usize>,
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
            group: sample.group.clone(),
            visible_from,
            json,
            evidence: Some(evidence),
        }
    }

    pub(super) fn raw(json: Bytes, updated: Timestamp) -> Self {
        Self {
            id: String::new(),
            status: String::new(),
            severity: String::new(),
            created: updated,
            updated,
            group: None,
            visible_from: Timestamp::EPOCH,
            json,
            evidence: None,
        }
    }

    /// The element in two pieces.
    pub(super) fn json(&self, with_evidence: bool) -> (Bytes, Bytes) {
        match self.evidence.filter(|_| !with_evidence) {
            Some(end) => (self.json.slice(..end), Bytes::from_static(b"[]}")),
            None => (self.json.clone(), Bytes::new()),
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
    query: String,
    filter: Option<Filter>,
    top: usize,
    skip: usize,
    sorting: Sorting,
}

impl Listing {
    pub(super) fn parse(query: &str, manners: Manners) -> Result<Self, BadFilter> {
        let mut listing = Self {
            evidence: false,
            manners,
            query: query.to_owned(),
            filter: None,
            top: MAX_TOP,
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
        match name {
            "$filter" => self.filter = Some(Filter::parse(value)?),
            "$top" => self.top = number()?,
            "$skip" => self.skip = number()?,
            "$expand" if value == "evidence" => self.evidence = true,
            "$orderby" => {
                let sorting = sorting(value).ok_or(BadFilter("no such order"))?;
                match self.manners.orderby {
                    Orderby::Honoured => self.sorting = sorting,
                    Orderby::Ignored => {}
                    Orderby::Rejected => return Err(BadFilter("$orderby is not allowed")),
                }
            }
            _ => return Err(BadFilter("no such query option")),
        }
        if self.top > MAX_TOP { Err(BadFilter("$top is more than 10,000")) } else { Ok(()) }
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
            .filter(|alert| shown(alert));
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
        if self.manners.next_link == NextLink::Never || left == 0 {
            return None;
        }
        let kept = form_urlencoded::parse(self.query.as_bytes())
            .filter(|(name, _)| name != "$skip" && name != "$top");
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(kept)
            .append_pair("$skip", &skip.to_string())
            .append_pair("$top", &left.to_string())
            .finish();
        Some(format!("http://{host}/api/alerts?{query}"))
    }
}

fn sorting(text: &str) -> Option<Sorting> {
    let (name, direction) = text.split_once(' ').unwrap_or((text, "asc"));
    let field = TimeField::named(name)?;
    match direction {
        "asc" => Some(Sorting::Ascending(field)),
        "desc" => Some(Sorting::Descending(field)),
        _ => None,
    }
}
