//! A day of 250 trusts in virtual time: calls, refusals and lag.
//!
//! The real export, 250 times, against one embedded Defender that counts 100
//! calls a minute and 1,500 an hour for all. Prints the README's tables:
//! `cargo bench --bench fleet`. Takes some minutes.
#![expect(clippy::print_stdout, reason = "a table is what this is for")]

#[path = "fleet/day.rs"]
mod day;
#[path = "fleet/report.rs"]
mod report;

use std::path::Path;
use std::time::Duration;
use std::{env, fs};

use anyhow::Result;
use defender_alert_export::sandbox::defender::Outage;

use self::day::{Event, Fleet, Phase};

const HEAD: &str = "\
| part of the day | calls | refused | most in a minute | most in an hour | worst lag | all current after |
|---|---:|---:|---:|---:|---:|---:|";

fn hours(count: u64) -> Duration {
    Duration::from_hours(count)
}

/// Calm hours, and between them everything that can happen.
fn day() -> Vec<Phase> {
    let twenty = Duration::from_mins(20);
    [
        ("first start of all", Event::Nothing, 2),
        ("calm", Event::Nothing, 4),
        ("an hour of 503, and the hour after", Event::Outage(Outage::Unavailable), 2),
        ("calm", Event::Nothing, 2),
        ("50,000 alerts change at once", Event::MassUpdate(50_000), 3),
        ("all start again in one second", Event::Restart(twenty), 2),
        ("calm", Event::Nothing, 2),
        ("an hour without an answer, and the hour after", Event::Outage(Outage::Hangs), 2),
        ("calm", Event::Nothing, 5),
    ]
    .map(|(name, event, lasts)| Phase { name, event, lasts: hours(lasts) })
    .into()
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<()> {
    let fleet = |trusts, share, refused_count| Fleet {
        trusts,
        share,
        quotas: (100, 1_500),
        refused_count,
        day: day(),
    };
    let fleets = [
        ("250 trusts, FunctionConfigCallsPerHour 6", fleet(250, Some(6), true)),
        ("250 trusts that were not told their share", fleet(250, None, true)),
        ("40 trusts, FunctionConfigCallsPerHour 37", fleet(40, Some(37), true)),
    ];
    let only = env::args().skip(1).find_map(|text| text.parse::<usize>().ok());
    let folder =
        env::temp_dir().join(format!("defender-alert-export-fleet-{}", std::process::id()));
    for (index, (name, fleet)) in fleets.into_iter().enumerate() {
        if only.is_none_or(|only| only == index) {
            print(name, &fleet, &folder.join(index.to_string())).await?;
        }
    }
    fs::remove_dir_all(&folder)?;
    Ok(())
}

async fn print(name: &str, fleet: &Fleet, folder: &Path) -> Result<()> {
    let lived = day::live(fleet, folder).await?;
    println!("{name}\n\n{HEAD}");
    for row in &lived.rows {
        println!("{row}");
    }
    let shortest = lived.periods.iter().min().copied().unwrap_or_default();
    let longest = lived.periods.iter().max().copied().unwrap_or_default();
    println!(
        "\nPeriod at the end: {shortest} to {longest} minutes. Alerts: {}; rows delivered: {}.\n",
        lived.expected, lived.delivered
    );
    Ok(())
}
