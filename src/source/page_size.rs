//! How many alerts to ask for at once.

/// Pages never shrink below this many alerts, unless fewer are configured.
const SMALLEST: u32 = 50;
/// As many as `$top` may be.
/// <https://learn.microsoft.com/defender-endpoint/api/get-alerts>
const LARGEST: u32 = 10_000;
/// `FunctionConfigPageSize` where nobody has chosen another.
const USUAL: u32 = 1_000;
/// Good pages in a row before pages grow again.
const GOOD_PAGES: u32 = 3;
/// Written after a size that is small only beside [`LARGEST`].
const OF_LARGEST: &str = " of 10000";

/// Alerts asked for in one call: fewer after a page that broke, and by and by
/// as many as configured again.
///
/// A page of large alerts can be more than the API manages within its own time
/// limit; without this one such page would stop the export for good.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PageSize {
    configured: u32,
    current: u32,
    good: u32,
}

impl PageSize {
    /// `FunctionConfigPageSize` alerts at once.
    pub fn new(configured: u32) -> Self {
        let configured = configured.max(1);
        Self { configured, current: configured, good: 0 }
    }

    /// As a former run left it. Text that is not its own is no reason to stop:
    /// the size is then as configured.
    pub fn decode(text: &str, configured: u32) -> Self {
        let mut size = Self::new(configured);
        let text = text.trim_end_matches(OF_LARGEST);
        let saved = text.split_once('+').and_then(|(current, good)| {
            Some((current.parse::<u32>().ok()?, good.parse::<u32>().ok()?))
        });
        if let Some((current, good)) = saved {
            size.current = current.clamp(size.smallest(), size.configured);
            size.good = good.min(GOOD_PAGES);
        }
        size
    }

    /// As many as Defender gives at once, or as a former run left such pages:
    /// of those that broke, the size counts, be it more or less than configured.
    pub fn decode_largest(text: &str, configured: u32) -> Self {
        if configured >= USUAL && text.ends_with(OF_LARGEST) {
            Self::decode(text, LARGEST)
        } else {
            Self::decode(text, configured).largest()
        }
    }

    /// For the position's row: `250+2`, the size and the good pages since; or
    /// `5000+0 of 10000`.
    pub fn encode(self) -> String {
        let large = self.configured == LARGEST && self.current < LARGEST;
        let of_largest = if large { OF_LARGEST } else { "" };
        format!("{}+{}{of_largest}", self.current, self.good)
    }

    /// As many as Defender gives at once, where calls are scarce. Not where
    /// small pages are configured, nor while they are small because some broke.
    #[must_use]
    pub fn largest(self) -> Self {
        let small = self.configured < USUAL || self.current < self.configured;
        if small { self } else { Self::new(LARGEST) }
    }

    /// No more than `largest`, which is all the API gives at once.
    #[must_use]
    pub(super) fn at_most(self, largest: u32) -> Self {
        let configured = self.configured.min(largest);
        Self { configured, current: self.current.min(configured), ..self }
    }

    /// Alerts to ask for now.
    pub fn get(self) -> u32 {
        self.current
    }

    fn smallest(self) -> u32 {
        SMALLEST.min(self.configured)
    }

    /// After a page that broke.
    pub(super) fn shrink(&mut self) {
        self.current = (self.current / 2).max(self.smallest());
        self.good = 0;
    }

    /// After a page that arrived whole.
    pub(super) fn grow(&mut self) {
        if self.current == self.configured {
            return;
        }
        self.good += 1;
        if self.good >= GOOD_PAGES {
            self.good = 0;
            self.current = self.current.saturating_mul(2).min(self.configured);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_pages_are_for_those_who_did_not_choose_small_ones() {
        assert_eq!(PageSize::new(1_000).largest().get(), 10_000);
        assert_eq!(PageSize::new(999).largest().get(), 999);
        let mut broken = PageSize::new(1_000);
        broken.shrink();
        assert_eq!(broken.largest().get(), 500);
        let noted = PageSize::new(1_000).largest().encode();
        assert_eq!(PageSize::decode(&noted, 1_000).get(), 1_000, "for one run");
    }

    #[test]
    fn large_pages_that_broke_are_smaller_in_the_next_run_and_grow_back_later() {
        // Whatever is configured: half of the largest may be just that.
        for configured in [1_000, 2_500, 5_000, 10_000] {
            let mut noted = String::new();
            let mut run = |breaks: bool| {
                let mut size = PageSize::decode_largest(&noted, configured);
                let asked = size.get();
                if breaks {
                    size.shrink();
                } else {
                    size.grow();
                }
                noted = size.encode();
                asked
            };
            let broke: Vec<_> = (0..5).map(|_| run(true)).collect();
            assert_eq!(broke, [10_000, 5_000, 2_500, 1_250, 625]);
            let good: Vec<_> = (0..17).map(|_| run(false)).collect();
            assert_eq!(good[..4], [312, 312, 312, 624]);
            assert_eq!(good[12..], [4_992, 4_992, 4_992, 9_984, 9_984]);
            noted = "5000+1 of 10000".to_owned();
            assert_eq!(PageSize::decode(&noted, configured).get(), configured.min(5_000));
            assert_eq!(PageSize::decode_largest(&noted, 999).get(), 999, "small ones were chosen");
        }
    }

    #[test]
    fn pages_halve_down_to_fifty_and_double_back_after_three_good_ones() {
        let mut size = PageSize::new(1_000);
        let shrunk: Vec<_> = (0..6)
            .map(|_| {
                size.shrink();
                size.get()
            })
            .collect();
        assert_eq!(shrunk, [500, 250, 125, 62, 50, 50]);
        let grown: Vec<_> = (0..16)
            .map(|_| {
                size.grow();
                size.get()
            })
            .collect();
        assert_eq!(
            grown,
            [50, 50, 100, 100, 100, 200, 200, 200, 400, 400, 400, 800, 800, 800, 1_000, 1_000]
        );
    }

    #[test]
    fn a_broken_page_begins_the_count_of_good_ones_anew() {
        let mut size = PageSize::decode("100+2", 1_000);
        size.shrink();
        size.grow();
        assert_eq!(size.encode(), "50+1");
    }

    #[test]
    fn an_apis_own_limit_counts_as_configured() {
        let mut size = PageSize::decode("4000+2", 5_000).at_most(1_000);
        assert_eq!(size.encode(), "1000+2");
        size.grow();
        assert_eq!(size.get(), 1_000);
        size.shrink();
        assert_eq!(size.get(), 500);
        assert_eq!(PageSize::new(20).at_most(1_000).get(), 20);
    }

    #[test]
    fn the_size_is_kept_between_runs_within_what_is_configured() {
        assert_eq!(PageSize::decode("250+2", 1_000).encode(), "250+2");
        assert_eq!(PageSize::decode("250+2", 100).get(), 100);
        assert_eq!(PageSize::decode("1+0", 100).get(), 50);
        assert_eq!(PageSize::decode("rubbish", 100).get(), 100);
        assert_eq!(PageSize::decode("", 20).get(), 20);
    }
}
