//! The one retry loop and the one place that waits.

use std::num::NonZeroU32;
use std::time::Duration;

use rand::RngExt as _;
use tokio::time::Instant;
use tracing::info;

/// When to try again and when to stop.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// Attempts in all, the first included.
    pub attempts: NonZeroU32,
    /// Wait before the second attempt; doubles after each failure.
    pub base: Duration,
    /// Longest single wait. A server that asks for more is not waited for: the
    /// next run comes soon enough.
    pub cap: Duration,
    /// No attempt starts later than this after the first.
    pub budget: Duration,
    /// Whether waits vary at random between half and whole, so that a fleet
    /// does not come back in step. Tests switch it off.
    pub jitter: bool,
}

impl RetryPolicy {
    /// For use inside one timer run: about ten seconds of patience.
    pub const RUN: Self = Self {
        attempts: NonZeroU32::new(4).expect("not zero"),
        base: Duration::from_millis(500),
        cap: Duration::from_secs(30),
        budget: Duration::from_mins(1),
        jitter: true,
    };
}

/// What one failure means for the attempt after it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Worth another attempt, after the server's own delay if it named one.
    Retry {
        /// From `Retry-After`.
        after: Option<Duration>,
    },
    /// Another attempt would fail the same way.
    Fatal,
}

/// An error that knows whether trying again could help.
pub trait Classify {
    /// Judges this failure.
    fn verdict(&self) -> Verdict;
}

/// The last error, with how hard we tried.
#[derive(Debug, thiserror::Error)]
#[error("gave up after {attempts} attempts in {elapsed:.1?}")]
pub struct GaveUp<E: std::error::Error + 'static> {
    /// Attempts made.
    pub attempts: u32,
    /// From first attempt to last failure.
    pub elapsed: Duration,
    /// Why the last attempt failed.
    #[source]
    pub last: E,
}

/// Waits. Nothing else in this crate does.
pub async fn pause(delay: Duration) {
    #[expect(clippy::disallowed_methods, reason = "the one place that waits")]
    tokio::time::sleep(delay).await;
}

impl RetryPolicy {
    /// A wait between two bounds for a service that is known to need it and does
    /// not ask for it; no longer than [`Self::cap`], and the shortest there is
    /// where waits do not vary.
    pub fn between(&self, shortest: Duration, longest: Duration) -> Duration {
        let random = || rand::rng().random_range(shortest..=longest);
        let wait = if self.jitter { random() } else { shortest };
        wait.min(self.cap)
    }

    /// `None` when the server asks for more than the cap.
    fn delay(&self, attempt: u32, asked: Option<Duration>) -> Option<Duration> {
        if let Some(asked) = asked {
            return (asked <= self.cap).then_some(asked);
        }
        let doubled = self.base.saturating_mul(2_u32.saturating_pow(attempt - 1));
        let whole = doubled.min(self.cap);
        Some(if self.jitter { whole.mul_f64(rand::rng().random_range(0.5..=1.0)) } else { whole })
    }

    /// Runs `operation` until it succeeds, is fatal, or the policy ends.
    ///
    /// # Errors
    ///
    /// [`GaveUp`] around the last failure.
    // Not `AsyncFnMut`: its future cannot be proven `Send` inside a handler.
    pub async fn run<T, E, F>(&self, mut operation: impl FnMut() -> F) -> Result<T, GaveUp<E>>
    where
        F: Future<Output = Result<T, E>>,
        E: Classify + std::error::Error + 'static,
    {
        let mut attempts = self.begin();
        loop {
            match operation().await {
                Ok(value) => return Ok(value),
                Err(error) => attempts.again(error).await?,
            }
        }
    }

    /// The same rules for work that hands on results while it goes, and so
    /// cannot be one future. All other work uses [`Self::run`].
    pub fn begin(&self) -> Attempts {
        Attempts { policy: *self, started: Instant::now(), made: 0 }
    }
}

/// The attempts made at one piece of work.
#[derive(Debug)]
pub struct Attempts {
    policy: RetryPolicy,
    started: Instant,
    made: u32,
}

impl Attempts {
    /// Waits until the attempt after the one that failed with `last` may start.
    ///
    /// # Errors
    ///
    /// [`GaveUp`] around `last` if there is to be none.
    pub async fn again<E>(&mut self, last: E) -> Result<(), GaveUp<E>>
    where
        E: Classify + std::error::Error + 'static,
    {
        self.made += 1;
        let elapsed = self.started.elapsed();
        let next = match last.verdict() {
            Verdict::Retry { after } if self.made < self.policy.attempts.get() => {
                self.policy.delay(self.made, after)
            }
            Verdict::Retry { .. } | Verdict::Fatal => None,
        };
        let Some(delay) = next.filter(|delay| elapsed + *delay <= self.policy.budget) else {
            return Err(GaveUp { attempts: self.made, elapsed, last });
        };
        info!(
            attempt = self.made,
            delay_ms = delay.as_millis(),
            error = %last,
            "request failed; trying again"
        );
        pause(delay).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("scripted {0:?}")]
    struct Scripted(Verdict);

    impl Classify for Scripted {
        fn verdict(&self) -> Verdict {
            self.0
        }
    }

    const BUSY: Verdict = Verdict::Retry { after: None };

    const POLICY: RetryPolicy = RetryPolicy {
        attempts: NonZeroU32::new(4).unwrap(),
        base: Duration::from_secs(1),
        cap: Duration::from_secs(10),
        budget: Duration::from_mins(1),
        jitter: false,
    };

    async fn play(
        policy: RetryPolicy,
        script: &[Verdict],
    ) -> (Result<(), GaveUp<Scripted>>, Duration) {
        let mut script: VecDeque<_> = script.iter().copied().collect();
        let started = Instant::now();
        let result = policy
            .run(|| {
                let next = script.pop_front();
                async move { next.map_or(Ok(()), |verdict| Err(Scripted(verdict))) }
            })
            .await;
        (result, started.elapsed())
    }

    fn asked(seconds: u64) -> Verdict {
        Verdict::Retry { after: Some(Duration::from_secs(seconds)) }
    }

    #[tokio::test(start_paused = true)]
    async fn waits_double_each_time() {
        let (result, elapsed) = play(POLICY, &[BUSY, BUSY, BUSY]).await;
        assert!(result.is_ok());
        assert_eq!(elapsed.as_secs(), 1 + 2 + 4);
    }

    #[tokio::test(start_paused = true)]
    async fn jitter_waits_at_least_half_and_at_most_the_whole() {
        let policy = RetryPolicy { jitter: true, ..POLICY };
        let (_, elapsed) = play(policy, &[BUSY, BUSY, BUSY]).await;
        assert!((3.5..=7.1).contains(&elapsed.as_secs_f64()), "{elapsed:?}");
    }

    #[test]
    fn a_wait_between_two_bounds_varies_and_is_never_longer_than_the_cap() {
        let [four, ten, hour] = [4, 10, 3_600].map(Duration::from_secs);
        assert_eq!(POLICY.between(four, ten), four);
        assert_eq!(POLICY.between(hour, hour), POLICY.cap);
        let policy = RetryPolicy { jitter: true, ..POLICY };
        let waits: Vec<_> = (0..50).map(|_| policy.between(four, ten)).collect();
        assert!(waits.iter().all(|wait| (four..=ten).contains(wait)), "{waits:?}");
        assert!(waits.iter().any(|wait| *wait != waits[0]), "{waits:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn obeys_the_server_while_it_asks_for_little() {
        let (result, elapsed) = play(POLICY, &[asked(7), asked(9)]).await;
        assert!(result.is_ok());
        assert_eq!(elapsed.as_secs(), 16);
    }

    #[tokio::test(start_paused = true)]
    async fn does_not_come_back_early_when_the_server_asks_for_much() {
        let (result, elapsed) = play(POLICY, &[asked(600)]).await;
        assert_eq!(result.unwrap_err().attempts, 1);
        assert_eq!(elapsed, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn stops_at_once_when_fatal() {
        let (result, elapsed) = play(POLICY, &[Verdict::Fatal]).await;
        assert_eq!(result.unwrap_err().attempts, 1);
        assert_eq!(elapsed, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_with_the_last_error() {
        let (result, _) = play(POLICY, &[BUSY; 9]).await;
        let error = result.unwrap_err();
        assert_eq!(
            crate::error_chain::Chain(&error).to_string(),
            "gave up after 4 attempts in 7.0s: scripted Retry { after: None }"
        );
    }
}
