//! Where alerts come from.
//!
//! A window of update time is pulled alert by alert while its pages arrive:
//! [`paging`] decides what to ask for, [`defender`] asks, [`elements`] takes the
//! answer apart, and the [`Reader`] tries again from where a page broke.

mod answer;
pub mod defender;
pub mod elements;
pub mod failure;
pub mod page_size;
mod paging;
pub mod reader;
mod wire;

use bytes::Bytes;
use reqwest::Response;
use secrecy::SecretString;
use url::Url;

pub use self::defender::Defender;
pub use self::failure::{Cause, Failure, FetchError, Quota, Said};
pub use self::page_size::PageSize;
pub use self::reader::{Item, Reader};

use self::paging::Ask;
use crate::clock::Clock;
use crate::domain::alert::Alert;
use crate::domain::budget::Budget;
use crate::domain::window::Window;
use crate::http::Http;

/// Which API alerts are read from: `FunctionConfigAlertSource`.
#[derive(Clone, Debug)]
pub enum Source {
    /// Defender for Endpoint, `/api/alerts`.
    Defender(Defender),
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
        Reader::new(self.clone(), window, token, pages, budget)
    }

    /// Begins to read what there is within `window`: each alert's id, update
    /// time and device group can be relied on, and nothing else.
    ///
    /// Nothing is asked for before the first [`Reader::next`].
    pub fn survey(
        &self,
        window: Window,
        token: SecretString,
        pages: PageSize,
        budget: Budget,
    ) -> Reader {
        self.read(window, token, pages, budget)
    }

    fn http(&self) -> &Http {
        match self {
            Self::Defender(defender) => &defender.http,
        }
    }

    fn clock(&self) -> &Clock {
        match self {
            Self::Defender(defender) => &defender.clock,
        }
    }

    /// Whether asking for an order is worth it.
    fn takes_order(&self) -> bool {
        match self {
            Self::Defender(defender) => defender.takes_order(),
        }
    }

    fn stop_asking_for_order(&self) {
        match self {
            Self::Defender(defender) => defender.stop_asking_for_order(),
        }
    }

    fn address(&self, ask: &Ask) -> Url {
        match self {
            Self::Defender(defender) => defender.address(ask),
        }
    }

    /// Where a page's link leads, if it stays on the source's own server.
    fn linked(&self, link: &str) -> Result<Url, Failure> {
        match self {
            Self::Defender(defender) => defender.linked(link),
        }
    }

    async fn get(&self, url: Url, token: &SecretString) -> Result<Response, Failure> {
        match self {
            Self::Defender(defender) => defender.get(url, token).await,
        }
    }

    /// An element of a page, in Defender's form.
    fn alert(&self, element: Bytes) -> Result<Alert, Failure> {
        match self {
            Self::Defender(_) => {
                Alert::parse(element).map_err(|_quotes_the_alert| Failure::NotAnAlert)
            }
        }
    }
}
