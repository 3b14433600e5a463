//! Where alerts come from.
//!
//! A window of update time is pulled alert by alert while its pages arrive:
//! [`paging`] decides what to ask for, [`defender`] or [`graph`] asks,
//! [`elements`] takes the answer apart, and the [`Reader`] tries again from
//! where a page broke. Whatever the API, an alert comes out in Defender's form:
//! [`graph_alert`] sees to it.

mod answer;
pub mod defender;
pub mod elements;
mod endpoint;
pub mod failure;
pub mod graph;
mod graph_alert;
mod graph_groups;
pub mod page_size;
mod paging;
pub mod reader;
mod reading;
mod ties;
mod wire;

use reqwest::Response;
use secrecy::SecretString;
use url::Url;

pub use self::defender::Defender;
pub use self::failure::{Api, Cause, Failure, FetchError, Quota, Said};
pub use self::graph::Graph;
pub use self::page_size::PageSize;
pub use self::reader::{Item, Reader};

use self::elements::Elements;
use self::endpoint::Endpoint;
use self::paging::{Ask, Paging};
use self::ties::Ties;
use crate::domain::alert::Alert;
use crate::domain::budget::Budget;
use crate::domain::window::Window;

/// Which API alerts are read from: `FunctionConfigAlertSource`.
#[derive(Clone, Debug)]
pub enum Source {
    /// Defender for Endpoint, `/api/alerts`.
    Defender(Defender),
    /// Microsoft Graph, `/security/alerts_v2`.
    Graph(Graph),
}

/// How much of an alert is wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Detail {
    Whole,
    /// Id, update time and device groups; the rest may be missing.
    Survey,
}

impl Source {
    /// Begins to read every alert version updated within `window`.
    ///
    /// Nothing is asked for before the first [`Reader::next`].
    pub fn read(
        &self,
        window: Window,
        token: SecretString,
        pages: PageSize,
        budget: Budget,
    ) -> Reader {
        Reader::new(self.clone(), window, Detail::Whole, token, pages, budget)
    }

    /// Begins to read what there is within `window`: each alert's id, update
    /// time and device groups can be relied on, and nothing else. Cheaper than
    /// [`Self::read`] where evidence can be left out, which Graph cannot.
    ///
    /// Nothing is asked for before the first [`Reader::next`].
    pub fn survey(
        &self,
        window: Window,
        token: SecretString,
        pages: PageSize,
        budget: Budget,
    ) -> Reader {
        Reader::new(self.clone(), window, Detail::Survey, token, pages, budget)
    }

    /// Which API it is, for people to read.
    pub fn api(&self) -> Api {
        self.endpoint().api
    }

    fn endpoint(&self) -> &Endpoint {
        match self {
            Self::Defender(defender) => &defender.endpoint,
            Self::Graph(graph) => &graph.endpoint,
        }
    }

    fn paging(&self, window: Window) -> Paging {
        match self {
            Self::Defender(_) => Paging::new(window, Ties::Counted),
            Self::Graph(_) => {
                Paging::new(window, Ties::ByCreation { largest: graph::LARGEST_PAGE })
            }
        }
    }

    /// Alerts it gives at once at most.
    pub fn largest_page(&self) -> u32 {
        match self {
            Self::Defender(_) => defender::LARGEST_PAGE,
            Self::Graph(_) => graph::LARGEST_PAGE,
        }
    }

    fn address(&self, ask: &Ask, detail: Detail) -> Url {
        match self {
            Self::Defender(defender) => defender.address(ask, detail),
            Self::Graph(graph) => graph.address(ask),
        }
    }

    async fn get(&self, url: Url, token: &SecretString) -> Result<Response, Failure> {
        match self {
            Self::Defender(defender) => defender.get(url, token).await,
            Self::Graph(graph) => graph.get(url, token).await,
        }
    }

    /// What says that a page may lack alerts.
    fn shortfall(&self, answer: &Response) -> Option<Failure> {
        match self {
            Self::Defender(_) => None,
            Self::Graph(_) => Graph::shortfall(answer),
        }
    }

    /// Hands out what has arrived of a page, in Defender's form.
    fn alerts(&self, page: &mut Elements, mut found: impl FnMut(Alert)) -> Result<(), Failure> {
        match self {
            Self::Defender(_) => page.take_alerts(found),
            Self::Graph(_) => {
                while let Some(element) = page.take()? {
                    let form =
                        graph_alert::in_defenders_form(&element).ok_or(Failure::NotAnAlert)?;
                    let alert = Alert::parse(form.into());
                    found(alert.map_err(|_quotes_the_alert| Failure::NotAnAlert)?);
                }
                Ok(())
            }
        }
    }
}
