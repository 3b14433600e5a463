//! Facts in, one line out: what the doctor and the heartbeat make of the same
//! facts, in the same words.

use std::time::Duration;

use super::advice::counted;
use super::check::{Check, Section, Verdict};
use super::standing::{Lifetime, Standing, Working};
use super::timestamp::Timestamp;

/// Off by less than this harms nothing: windows end a minute behind now.
const UNNOTICED: i64 = 30;
/// From here on Entra's proofs of who signed in are refused, here as in other
/// clients (<https://learn.microsoft.com/entra/identity-platform/id-token-claims-reference>).
const REFUSED: i64 = 120;

/// By how much this machine's clock is ahead of a server's; negative: behind.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Skew(i64);

/// Which key the stored sign-in is sealed with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyRing {
    /// `FunctionConfigSessionKey`.
    Current {
        /// `FunctionConfigSessionKeyPrevious` is set all the same.
        previous_is_set: bool,
    },
    /// `FunctionConfigSessionKeyPrevious`.
    Previous,
}

impl Skew {
    /// Between `ours` and what a server said at that moment.
    pub fn between(ours: Timestamp, servers: Timestamp) -> Self {
        Self(ours.unix_seconds().saturating_sub(servers.unix_seconds()))
    }
}

/// How far alerts can have been read: our time, or the newest of `servers` if
/// ours is ahead of it by more than two minutes.
pub fn at_the_latest(ours: Timestamp, servers: impl Iterator<Item = Timestamp>) -> Timestamp {
    let is_ahead = |newest: &Timestamp| Skew::between(ours, *newest).0 > REFUSED;
    servers.max().filter(is_ahead).unwrap_or(ours)
}

/// This machine's clock against the servers'. The smallest difference counts:
/// if this clock were off, it would be off against every one of them.
pub fn clock(skews: &[Skew]) -> Check {
    const NAME: &str = "clock";
    let Some(Skew(off)) = skews.iter().copied().min_by_key(|Skew(off)| off.unsigned_abs()) else {
        return Check::not_checked(NAME, Section::Clock, "no server answered with its time");
    };
    let size = off.unsigned_abs();
    let servers =
        if skews.len() == 1 { "1 server".to_owned() } else { format!("{} servers", skews.len()) };
    if off.abs() <= UNNOTICED {
        let reason = format!("This machine's clock agrees with {servers}, to {size} s.");
        return Check::ok(NAME, Section::Clock, reason);
    }
    let where_to = if off > 0 { "ahead of" } else { "behind" };
    let what = format!("This machine's clock is {size} s {where_to} that of {servers}");
    let next_step = "Set the clock of the machine this runs on and switch on its time synchronisation (NTP). In a Function App Azure keeps the clock: restart the app, and if it stays, ask Microsoft support.";
    if off.abs() <= REFUSED {
        let reason = format!("{what}. From two minutes on, sign-ins are refused.");
        return Check::new(NAME, Section::Clock, Verdict::Warn, reason, next_step);
    }
    let reason = format!(
        "{what}. Sign-ins are refused from two minutes on and signed requests from fifteen, and alerts are looked for at the wrong time."
    );
    Check::new(NAME, Section::Clock, Verdict::Fail, reason, next_step)
}

/// The stored sign-in. Before the first one nothing is wrong yet: `was_used`
/// says whether this deployment ever exported.
pub fn sign_in(standing: &Standing, was_used: bool, now: Timestamp) -> Check {
    const NAME: &str = "sign-in";
    let check =
        |verdict, reason, next_step| Check::new(NAME, Section::SignIn, verdict, reason, next_step);
    if let Some(working) = standing.working() {
        return working_sign_in(working, now);
    }
    match standing {
        Standing::Refused { advice, .. } => {
            Check::advised(NAME, Section::SignIn, Verdict::Fail, advice.clone())
        }
        Standing::Pending { expires_at, .. } => check(
            if was_used { Verdict::Fail } else { Verdict::Warn },
            format!("Somebody has asked for a code and not used it yet; it is valid until {}.", expires_at.to_the_second()),
            "Whoever asked for it: finish that sign-in. If nobody you know did, cancel it in the portal (one begun on a command line: there, with Ctrl-C).",
        ),
        Standing::SignedOut | Standing::SignedIn(_) if was_used => check(
            Verdict::Fail,
            "Nobody is signed in, so no alerts can be read.".to_owned(),
            "Sign in with the trust's export account: in the app's portal, or with `defender-alert-export sign-in`.",
        ),
        Standing::SignedOut | Standing::SignedIn(_) => check(
            Verdict::Warn,
            "Nobody has signed in yet. That is right before the first sign-in; alerts flow after it.".to_owned(),
            "When the deployment is done, sign in with the trust's export account: in the app's portal, or with `defender-alert-export sign-in`.",
        ),
    }
}

fn working_sign_in(working: &Working, now: Timestamp) -> Check {
    const NAME: &str = "sign-in";
    let Working { account, idle_days, lifetime, .. } = working;
    let ends = working.renewed_at + super::standing::DEAD_AFTER;
    let who = format!(
        "Signed in as {} in tenant {}; last renewed {} ago",
        account.username,
        account.tenant,
        counted(*idle_days, "day")
    );
    let (mut verdict, mut reason, mut next_step) = match lifetime {
        Lifetime::Good => {
            let left = ends.since(now).as_secs() / DAY.as_secs();
            (
                Verdict::Ok,
                format!("{who}. Unused, it would last {} more.", counted(left, "day")),
                String::new(),
            )
        }
        Lifetime::Expiring(at) => (
            Verdict::Warn,
            format!("{who}. It ends on {} if it is not renewed before.", at.to_the_second()),
            "Check that the app runs every few minutes; sign in again before that day.".to_owned(),
        ),
        Lifetime::Dead => (
            Verdict::Fail,
            format!("{who}. Microsoft forgets a sign-in that was not renewed for 90 days."),
            "Sign in again with the trust's export account.".to_owned(),
        ),
    };
    for also in beside(working) {
        verdict = verdict.max(also.verdict);
        for (text, more) in [(&mut reason, also.reason), (&mut next_step, also.next_step)] {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(&more);
        }
    }
    Check::new(NAME, Section::SignIn, verdict, reason, next_step)
}

/// What a person should know of a sign-in that works.
pub fn beside(working: &Working) -> Vec<Check> {
    let mut found = Vec::new();
    if let Some(before) = &working.replaced {
        found.push(Check::new(
            "sign-in",
            Section::SignIn,
            Verdict::Warn,
            format!("Before it, another account was signed in: {}.", before.username),
            "If nobody changed the account on purpose, sign out and tell the central team. If it was on purpose, sign in once more with the new account: this warning then disappears.",
        ));
    }
    if let Some(failed) = &working.failed_attempt {
        found.push(Check::new(
            "sign-in",
            Section::SignIn,
            Verdict::Warn,
            format!("The last attempt to sign in anew failed: {}", failed.message),
            failed.next_step.clone(),
        ));
    }
    found
}

/// The key the stored sign-in is sealed with.
pub fn key_ring(ring: KeyRing) -> Check {
    const NAME: &str = "session-key";
    match ring {
        KeyRing::Current { previous_is_set: false } => Check::ok(
            NAME,
            Section::SignIn,
            "The stored sign-in is sealed with FunctionConfigSessionKey.",
        ),
        KeyRing::Current { previous_is_set: true } => Check::ok(
            NAME,
            Section::SignIn,
            "The stored sign-in is sealed with FunctionConfigSessionKey. FunctionConfigSessionKeyPrevious is no longer needed and can be removed.",
        ),
        KeyRing::Previous => Check::new(
            NAME,
            Section::SignIn,
            Verdict::Warn,
            "The stored sign-in is still sealed with FunctionConfigSessionKeyPrevious.",
            "Leave that setting for now: the next renewal, within two hours of running, seals it with FunctionConfigSessionKey. Then run `doctor` again and remove it.",
        ),
    }
}

/// What the Functions host says of itself; `None` outside it.
pub fn program(version: &str, extension: Option<&str>, worker: Option<&str>) -> Check {
    const NAME: &str = "program";
    let ours = format!("defender-alert-export {version}");
    if let Some(worker) = worker.filter(|worker| !worker.eq_ignore_ascii_case("custom")) {
        return Check::new(
            NAME,
            Section::Program,
            Verdict::Fail,
            format!("{ours} runs in a Function App for {}, not for custom handlers.", word(worker)),
            "Set FUNCTIONS_WORKER_RUNTIME to `custom`; running the deployment again does it.",
        );
    }
    match extension {
        Some("~4") => Check::ok(NAME, Section::Program, format!("{ours} under Functions host ~4.")),
        Some(extension) => Check::new(
            NAME,
            Section::Program,
            Verdict::Warn,
            format!(
                "{ours} was made for Functions host ~4; FUNCTIONS_EXTENSION_VERSION is {}.",
                word(extension)
            ),
            "Set FUNCTIONS_EXTENSION_VERSION to `~4`; running the deployment again does it.",
        ),
        None => Check::ok(NAME, Section::Program, format!("{ours}.")),
    }
}

/// A value only if it is a plain word: any setting could hold a secret.
fn word(text: &str) -> &str {
    let plain = |c: char| c.is_ascii_alphanumeric() || "~.-".contains(c);
    if text.len() <= 20 && text.chars().all(plain) { text } else { "something else" }
}

const DAY: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::advice::Advice;
    use crate::domain::sign_in::Account;
    use crate::domain::standing::DEAD_AFTER;

    fn off(seconds: i64) -> Skew {
        Skew(seconds)
    }

    #[test]
    fn a_clock_is_judged_by_the_server_that_agrees_best() {
        let verdict =
            |skews: &[i64]| clock(&skews.iter().copied().map(off).collect::<Vec<_>>()).verdict;
        for (skews, expected) in [
            (&[0][..], Verdict::Ok),
            (&[30], Verdict::Ok),
            (&[-31], Verdict::Warn),
            (&[120], Verdict::Warn),
            (&[-121], Verdict::Fail),
            (&[9_000, -2, 9_000], Verdict::Ok),
            (&[], Verdict::Warn),
        ] {
            assert_eq!(verdict(skews), expected, "{skews:?}");
        }
        let text = clock(&[off(-45), off(60)]).reason;
        assert!(
            text.starts_with("This machine's clock is 45 s behind that of 2 servers."),
            "{text}"
        );
    }

    fn account(name: &str) -> Account {
        let oid = Uuid::from_u128(1);
        Account { username: name.to_owned(), name: None, oid, tenant: Uuid::from_u128(2) }
    }

    fn working(idle_days: u64) -> Working {
        let renewed_at = Timestamp::EPOCH;
        let now = renewed_at + Duration::from_hours(24 * idle_days);
        Working {
            account: account("a@b"),
            since: renewed_at,
            renewed_at,
            idle_days,
            lifetime: Lifetime::of(renewed_at, now),
            back_off_until: None,
            replaced: None,
            failed_attempt: None,
        }
    }

    #[test]
    fn a_sign_in_is_judged_by_how_long_it_was_left_alone() {
        for (idle, verdict, words) in [
            (0, Verdict::Ok, "last renewed 0 days ago. Unused, it would last 90 days more."),
            (59, Verdict::Ok, "last renewed 59 days ago. Unused, it would last 31 days more."),
            (60, Verdict::Warn, "It ends on 1970-04-01T00:00:00Z"),
            (90, Verdict::Fail, "Microsoft forgets"),
        ] {
            let now = Timestamp::EPOCH + Duration::from_hours(24 * idle);
            let check = sign_in(&Standing::SignedIn(working(idle)), true, now);
            assert_eq!(check.verdict, verdict, "{idle}");
            assert!(check.reason.contains(words), "{}", check.reason);
            assert_eq!(check.next_step.is_empty(), verdict == Verdict::Ok);
        }
        assert_eq!(DEAD_AFTER, Duration::from_hours(24 * 90));
    }

    #[test]
    fn another_account_and_a_failed_attempt_are_said_beside_it() {
        let mut working = working(1);
        working.replaced = Some(account("mallory@b"));
        working.failed_attempt = Some(Advice::new("It was refused.", "Ask."));
        let check = sign_in(&Standing::SignedIn(working), true, Timestamp::EPOCH);
        assert_eq!(check.verdict, Verdict::Warn);
        for words in ["mallory@b", "It was refused."] {
            assert!(check.reason.contains(words), "{}", check.reason);
        }
        assert!(
            check.next_step.ends_with("this warning then disappears. Ask."),
            "{}",
            check.next_step
        );
    }

    #[test]
    fn nobody_signed_in_is_a_failure_only_once_it_has_been_otherwise() {
        let verdict = |used| sign_in(&Standing::SignedOut, used, Timestamp::EPOCH).verdict;
        assert_eq!((verdict(false), verdict(true)), (Verdict::Warn, Verdict::Fail));
    }
}
