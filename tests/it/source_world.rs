//! A source over embedded clouds, and what it gives.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use defender_alert_export::clock::Clock;
use defender_alert_export::domain::budget::Budget;
use defender_alert_export::domain::timestamp::Timestamp;
use defender_alert_export::domain::window::Window;
use defender_alert_export::http::retry::RetryPolicy;
use defender_alert_export::http::{self, Http};
use defender_alert_export::sandbox::manners::Manners;
use defender_alert_export::sandbox::sample;
use defender_alert_export::sandbox::script::{Listening, Script, Seen};
use defender_alert_export::sandbox::{defender as cloud, graph};
use defender_alert_export::source::{
    Api, Defender, Failure, FetchError, Graph, Item, PageSize, Reader, Source,
};

pub(crate) const RETRY: RetryPolicy = RetryPolicy {
    attempts: NonZeroU32::new(4).unwrap(),
    base: Duration::from_millis(1),
    cap: Duration::from_secs(2),
    budget: Duration::from_mins(1),
    jitter: false,
};

pub(crate) const GROUP: &str = "RXX Example Trust";

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// So many milliseconds into the window.
pub(crate) fn ms(count: u64) -> Timestamp {
    at("2026-11-19T08:00:00Z") + Duration::from_millis(count)
}

pub(crate) fn window() -> Window {
    Window::new(at("2026-11-19T08:00:00Z"), at("2026-11-19T09:00:00Z")).unwrap()
}

pub(crate) const BOTH: [Api; 2] = [Api::Defender, Api::Graph];

pub(crate) struct World {
    pub(crate) cloud: cloud::Defender,
    pub(crate) graph: graph::Graph,
    pub(crate) clock: Clock,
    pub(crate) source: Source,
    pub(crate) listening: Listening,
}

/// What a window gave.
pub(crate) struct Got {
    /// How often each alert was yielded, by id.
    pub(crate) alerts: BTreeMap<String, usize>,
    pub(crate) marks: Vec<Timestamp>,
    /// Alerts without an id.
    pub(crate) nameless: usize,
    pub(crate) end: Result<(), FetchError>,
    pub(crate) reader: Reader,
}

impl World {
    pub(crate) async fn of(api: Api) -> Self {
        let clock = Clock::stopped_at(at("2026-11-19T12:00:00Z"));
        let accepts: cloud::Accepts = Arc::new(|token| token == "good");
        let cloud = cloud::Defender::new(clock.clone(), accepts.clone());
        let graph = graph::Graph::new(clock.clone(), accepts, cloud.alerts());
        let http = Http::new(http::client().unwrap(), RETRY);
        let (listening, source) = match api {
            Api::Defender => {
                let listening = cloud.listen().await.unwrap();
                let source = Defender::new(http, clock.clone(), listening.url.clone());
                (listening, Source::Defender(source))
            }
            Api::Graph => {
                let listening = graph.listen().await.unwrap();
                let source = Graph::new(http, clock.clone(), listening.url.clone());
                (listening, Source::Graph(source))
            }
        };
        let world = Self { cloud, graph, clock, source, listening };
        world.behave(|manners| manners.quotas = false);
        world
    }

    /// Changes the manners of the API that is read.
    pub(crate) fn behave(&self, change: impl FnOnce(&mut Manners)) {
        match self.source.api() {
            Api::Defender => self.cloud.behave(change),
            Api::Graph => self.graph.behave(change),
        }
    }

    pub(crate) fn script(&self) -> &Script {
        match self.source.api() {
            Api::Defender => self.cloud.script(),
            Api::Graph => self.graph.script(),
        }
    }

    /// Where the API that is read lists alerts.
    pub(crate) fn listing_path(&self) -> &'static str {
        match self.source.api() {
            Api::Defender => "/api/alerts",
            Api::Graph => "/v1.0/security/alerts_v2",
        }
    }

    /// Adds an element in Defender's form, in the form of the API that is read.
    pub(crate) fn add_raw(&self, element: &str, at: Timestamp) {
        match self.source.api() {
            Api::Defender => self.cloud.add_raw(element, at),
            Api::Graph => {
                let element = element.replace("lastUpdateTime", "lastUpdateDateTime");
                self.graph.add_raw(&element, at);
            }
        }
    }

    /// Alerts one to a millisecond from the window's start.
    pub(crate) fn add(&self, count: u64) {
        self.cloud.add((0..count).map(|n| sample::alert(n, GROUP, ms(n))));
    }

    pub(crate) fn reader(&self, page_size: u32) -> Reader {
        let (pages, budget) = (PageSize::new(page_size), Budget::new(1_500));
        self.source.read(window(), "good".into(), pages, budget)
    }

    pub(crate) async fn read(&self, page_size: u32) -> Got {
        pull(self.reader(page_size)).await
    }

    pub(crate) fn targets(&self) -> Vec<String> {
        self.script().seen().into_iter().map(|Seen { target, .. }| target).collect()
    }

    /// `$top` of each request, in order.
    pub(crate) fn tops(&self) -> Vec<u32> {
        let top = |target: &String| {
            let (_, rest) = target.split_once("%24top=")?;
            rest.split('&').next()?.parse().ok()
        };
        self.targets().iter().filter_map(top).collect()
    }
}

pub(crate) async fn pull(mut reader: Reader) -> Got {
    let mut alerts = BTreeMap::new();
    let mut marks = Vec::new();
    let mut nameless = 0;
    let end = loop {
        match reader.next().await {
            Ok(Some(Item::Alert(alert))) => match alert.id() {
                Ok(id) => *alerts.entry(id.into_owned()).or_default() += 1,
                Err(_) => nameless += 1,
            },
            Ok(Some(Item::Through(mark))) => marks.push(mark),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    Got { alerts, marks, nameless, end, reader }
}

impl Got {
    pub(crate) fn ids(&self) -> BTreeSet<String> {
        self.alerts.keys().cloned().collect()
    }

    /// All of `count` alerts, once each, to the window's end.
    pub(crate) fn assert_calm(&self, count: usize) {
        assert!(self.end.is_ok(), "{:?}", self.end);
        assert_eq!(self.alerts.len(), count);
        assert!(self.alerts.values().all(|times| *times == 1), "{:?}", self.alerts);
        assert_eq!(self.marks.last(), Some(&window().end()));
        assert!(self.marks.is_sorted_by(|a, b| a < b), "{:?}", self.marks);
    }

    pub(crate) fn failure(self) -> Failure {
        self.end.unwrap_err().failure
    }
}
