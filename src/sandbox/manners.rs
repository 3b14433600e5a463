//! How the embedded lists of alerts behave where the documents are silent.

/// How it behaves where the documents are silent.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    /// What it makes of `$orderby`.
    pub orderby: Orderby,
    /// The order it uses otherwise.
    pub otherwise: Otherwise,
    /// Whether a page that does not end the list names the next, and where.
    pub next_link: NextLink,
    /// Whether those links have no `$skip`, which would be bounded. Graph only.
    pub link_tokens: bool,
    /// Another host that those links lead to.
    pub link_host: Option<&'static str>,
    /// Alerts in one page at most, whatever was asked for. Only sensible with
    /// a link: without one the rest is lost to the client.
    pub page_cap: usize,
    /// Whether the documented quotas are kept.
    pub quotas: bool,
    /// Calls within a minute; of Defender alone, as what follows.
    pub per_minute: usize,
    /// Calls within an hour.
    pub per_hour: usize,
    /// Whether a call refused for a quota counts in it too.
    pub refused_count: bool,
    /// What it does instead of answering. Such calls count in the quotas.
    pub outage: Option<Outage>,
}

/// How it fails.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outage {
    /// 503 without `Retry-After`.
    Unavailable,
    /// No answer at all.
    Hangs,
}

/// What becomes of `$orderby`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Orderby {
    /// Done as asked, which is what has been seen.
    Honoured,
    /// Passed over.
    Ignored,
    /// 400 `ODataError`.
    Rejected,
}

/// The order of a list nobody ordered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Otherwise {
    /// By creation, the newest first: what the documents imply.
    NewestFirst,
    /// By creation, the oldest first.
    OldestFirst,
    /// None to recognise, but always the same.
    Jumbled,
}

/// Whether and where a page names the next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NextLink {
    /// Nowhere, as documented.
    Never,
    /// Before `value`.
    Before,
    /// After `value`.
    After,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            orderby: Orderby::Honoured,
            otherwise: Otherwise::NewestFirst,
            next_link: NextLink::Never,
            link_tokens: false,
            link_host: None,
            page_cap: usize::MAX,
            quotas: true,
            per_minute: 100,
            per_hour: 1_500,
            refused_count: false,
            outage: None,
        }
    }
}
