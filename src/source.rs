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

use secrecy::SecretString;

pub use self::defender::Defender;
pub use self::failure::{Cause, Failure, FetchError, Quota, Said};
pub use self::page_size::PageSize;
pub use self::reader::{Item, Reader};

use crate::domain::budget::Budget;
use crate::domain::window::Window;

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
        match self {
            Self::Defender(defender) => Reader::new(defender.clone(), window, token, pages, budget),
        }
    }
}
