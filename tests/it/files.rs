//! Alerts arrive in files: every version once, in lines that are never torn.

mod blob;
mod bucket;
mod export;
mod replay;

use std::time::Duration;

use defender_alert_export::azure::credential::Credential;
use defender_alert_export::clock::Clock;
use defender_alert_export::config::Target;
use defender_alert_export::domain::batch::Batch;
use defender_alert_export::sink::Sink;
use defender_alert_export::sink::delivery::Standing;
use serde_json::{Value, json};

use crate::sinks::{NOW, batch_of, key, quick};
use crate::world::at;

/// A sink of an app that has no identity, by the clock of `clock`.
fn sink(target: &Target, clock: &Clock) -> Sink {
    let credential = Credential::new(quick(), clock.clone(), None);
    Sink::alerts(target, quick(), clock.clone(), credential).unwrap()
}

fn clock() -> Clock {
    Clock::stopped_at(at(NOW))
}

fn standing() -> Standing {
    let deployed_at = at(NOW) - Duration::from_hours(48);
    Standing { deployed_at, accepted: 0, refused: 0 }
}

/// Rows as `run` would send them.
fn rows(numbers: std::ops::Range<usize>, run: &str) -> Batch {
    batch_of(numbers.map(|n| {
        (n, json!({ "ExportKey": key(n), "RunId": run, "AlertTitle": "café\nline two, \"x\"" }))
    }))
}

/// What a file holds: whole lines, each of them JSON.
fn lines(file: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(file).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "a torn line at the end");
    assert!(!text.contains('\r') && !text.contains("\n\n"));
    text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

/// `ExportKey` of each line, sorted.
fn keys_in(lines: &[Value]) -> Vec<String> {
    let mut keys: Vec<_> =
        lines.iter().map(|line| line["ExportKey"].as_str().unwrap().to_owned()).collect();
    keys.sort();
    keys
}

/// The keys of rows made by [`rows`], sorted.
fn numbered(numbers: std::ops::Range<usize>) -> Vec<String> {
    let mut keys = crate::sinks::keys(numbers);
    keys.sort();
    keys
}
