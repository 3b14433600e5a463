//! Each stage by itself, on alerts of about 4 KB: `cargo bench --bench stages`.

use std::iter::repeat_with;
use std::time::Duration;

use bytes::Bytes;
use defender_alert_export::domain::alert::Alert;
use defender_alert_export::domain::batch::{BatchLimits, Batcher};
use defender_alert_export::domain::ledger::{Digest, Entry, ExportKey, Ledger, Memory};
use defender_alert_export::domain::shape::{Shape, Stamp};
use defender_alert_export::domain::timestamp::Timestamp;
use defender_alert_export::sandbox::sample;
use defender_alert_export::sink::logs_ingestion;
use defender_alert_export::source::elements::Elements;
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use serde::de::IgnoredAny;

/// Bytes that the network delivers at once.
const CHUNK: usize = 16 * 1024;
/// What one request to a data collection rule holds.
const LIMITS: BatchLimits = BatchLimits::of(10_000, 1_000_000);
const MEMORY: Memory =
    Memory::Versions { reach: Duration::from_mins(30), kept: Duration::from_mins(30) };

fn main() {
    divan::main();
}

fn texts() -> impl Iterator<Item = Bytes> {
    let latest = Timestamp::from_unix_seconds(1_795_000_000);
    (0..).map(move |n| sample::alert(n, "RXX", latest + Duration::from_millis(n)).json())
}

/// A thousand alerts as Defender sends them.
fn page() -> Vec<u8> {
    let alerts: Vec<_> = texts().take(1_000).collect();
    [&b"{\"value\":["[..], &alerts.join(&b','), b"]}"].concat()
}

fn alert() -> Option<Alert> {
    texts().next().and_then(|text| Alert::parse(text).ok())
}

fn row(shape: Shape) -> Option<(Vec<u8>, Entry)> {
    let alert = alert()?;
    let key = ExportKey::of(&alert).ok()?;
    let entry = MEMORY.entry(&alert, &key).ok()?;
    let mut row = Vec::new();
    let stamp = Stamp { sent_at: entry.at, trust: "RXX", run: "run" };
    shape.write(&mut row, &alert, &key, entry, stamp, LIMITS.largest_row());
    Some((row, entry))
}

/// A page as the network brings it; `take` takes what there is of it and says
/// how long that was.
fn take_a_page(bencher: Bencher<'_, '_>, take: impl Fn(&mut Elements) -> usize + Sync) {
    let page = Bytes::from(page());
    bencher.counter(BytesCount::new(page.len())).bench(|| {
        let mut elements = Elements::default();
        let mut bytes = 0;
        for start in (0..page.len()).step_by(CHUNK) {
            elements.feed(page.slice(start..page.len().min(start + CHUNK)));
            bytes += take(&mut elements);
        }
        bytes
    });
}

/// Only to find where each alert ends, as is done with those that came in
/// pieces.
#[divan::bench]
fn split_a_page(bencher: Bencher<'_, '_>) {
    take_a_page(bencher, |elements| {
        let taken = std::iter::from_fn(|| elements.take().ok().flatten());
        taken.map(|element| element.len()).sum()
    });
}

/// As a page is read.
#[divan::bench]
fn split_and_parse_a_page(bencher: Bencher<'_, '_>) {
    take_a_page(bencher, |elements| {
        let mut bytes = 0;
        let taken = elements.take_alerts(|alert| bytes += alert.raw().len());
        taken.map_or(0, |()| bytes)
    });
}

#[divan::bench]
fn parse_an_alert(bencher: Bencher<'_, '_>) {
    let text = texts().next().unwrap_or_default();
    let bytes = BytesCount::new(text.len());
    bencher.counter(bytes).bench(|| Alert::parse(black_box(text.clone())).is_ok());
}

/// The same text by the library's own way, which tells no members.
#[divan::bench]
fn skip_an_alert_with_serde_json(bencher: Bencher<'_, '_>) {
    let text = texts().next().unwrap_or_default();
    let bytes = BytesCount::new(text.len());
    let skip = |text: &[u8]| serde_json::from_slice::<IgnoredAny>(text).is_ok();
    bencher.counter(bytes).bench(|| skip(black_box(&text)));
}

#[divan::bench]
fn look_up_in_a_ledger_of_100_000(bencher: Bencher<'_, '_>) {
    let mut ledger = Ledger::default();
    for digest in 0..100_000 {
        let text = format!("{digest}");
        let digest = Digest::of(&text);
        ledger.note(Entry { at: Timestamp::EPOCH, digest });
    }
    let alert = alert();
    bencher.counter(ItemsCount::new(1_u32)).bench(|| {
        let key = ExportKey::of(black_box(alert.as_ref()?)).ok()?;
        let entry = MEMORY.entry(alert.as_ref()?, &key).ok()?;
        Some(ledger.holds(&entry))
    });
}

#[divan::bench(args = [Shape::Columns, Shape::Classic, Shape::Event])]
fn shape_a_row(bencher: Bencher<'_, '_>, shape: Shape) {
    let alert = alert();
    let key = alert.as_ref().and_then(|alert| ExportKey::of(alert).ok());
    let Some((alert, key)) = alert.zip(key) else { return };
    let Ok(entry) = MEMORY.entry(&alert, &key) else { return };
    let stamp = Stamp { sent_at: entry.at, trust: "RXX", run: "run" };
    let mut row = Vec::new();
    bencher.counter(BytesCount::new(alert.raw().len())).bench_local(|| {
        shape.write(&mut row, &alert, &key, entry, stamp, LIMITS.largest_row()).original.is_some()
    });
}

#[divan::bench]
fn batch_1_000_rows(bencher: Bencher<'_, '_>) {
    let Some((row, entry)) = row(Shape::Columns) else { return };
    bencher.counter(BytesCount::new(row.len() * 1_000)).bench(|| {
        let mut batcher = Batcher::new(LIMITS);
        let full = (0..1_000).filter_map(|_| batcher.push(black_box(&row), entry).ok().flatten());
        full.count() + batcher.finish().map_or(0, |batch| batch.len())
    });
}

#[divan::bench]
fn gzip_a_batch(bencher: Bencher<'_, '_>) {
    let mut batcher = Batcher::new(LIMITS);
    let mut texts = texts();
    let full = repeat_with(|| {
        let alert = Alert::parse(texts.next()?).ok()?;
        let key = ExportKey::of(&alert).ok()?;
        let entry = MEMORY.entry(&alert, &key).ok()?;
        let mut row = Vec::new();
        let stamp = Stamp { sent_at: entry.at, trust: "RXX", run: "run" };
        Shape::Columns.write(&mut row, &alert, &key, entry, stamp, LIMITS.largest_row());
        batcher.push(&row, entry).ok().flatten()
    });
    let Some(full) = full.take(1_000).flatten().next() else { return };
    let bytes = BytesCount::new(full.body().len());
    bencher.counter(bytes).bench(|| logs_ingestion::gzip(black_box(full.body())).is_ok());
}
