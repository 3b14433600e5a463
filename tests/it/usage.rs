//! `--help` and the README's table of verbs name the same flags.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

/// On every verb that needs it, and told beneath the table.
const BENEATH: [&str; 2] = ["--help", "--state-dir"];

fn help(verb: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_defender-alert-export"));
    let output = command.args(verb).arg("--help").env_clear().output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{verb:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Every `--flag` in `text`.
fn flags(text: &str) -> BTreeSet<String> {
    text.split(|c: char| c != '-' && !c.is_ascii_lowercase())
        .filter(|word| word.starts_with("--") && word.len() > 2)
        .map(str::to_owned)
        .collect()
}

/// The flags of each verb, as the README's table has them.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"));
    let readme = readme.unwrap();
    let section = readme.split("\n## Command line").nth(1).unwrap();
    let table = section.split("\n\nWithout `AzureWebJobsStorage`").next().unwrap();
    let mut verbs = BTreeMap::<_, BTreeSet<_>>::new();
    for row in table.lines().filter_map(|line| line.strip_prefix("| `")) {
        let usage = row.split(" | ").next().unwrap();
        let verb = usage.split([' ', '`']).next().unwrap();
        verbs.entry(verb.to_owned()).or_default().extend(flags(usage));
    }
    verbs
}

#[test]
fn the_readme_names_every_flag_of_every_verb_and_no_other() {
    let documented = documented();
    let all = help(&[]);
    let listed = all.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let verbs: BTreeSet<_> = listed
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|verb| !verb.is_empty() && *verb != "help")
        .map(str::to_owned)
        .collect();
    assert_eq!(verbs, documented.keys().cloned().collect());
    for (verb, documented) in documented {
        let mut own = flags(&help(&[&verb]));
        own.retain(|flag| !BENEATH.contains(&flag.as_str()));
        assert_eq!(own, documented, "{verb}");
    }
}

/// What a person reads who asks how a backfill is started.
#[test]
fn the_help_of_backfill_says_what_each_flag_is_for() {
    let help = help(&["backfill"]).split_whitespace().collect::<Vec<_>>().join(" ");
    for line in [
        "Export a span of the past, beside the live export",
        "Usage: defender-alert-export backfill [OPTIONS]",
        "--from <T>",
        "Where it begins: 2026-01-31 or 2026-01-31T09:30:00Z, of the alerts' lastUpdateTime",
        "--to <T>",
        "Where it ends, not included",
        "--dry-run",
        "Count what is there and say what it takes; send nothing",
        "--cancel",
        "End the backfill that is under way; what it delivered stays delivered",
        "--json",
    ] {
        assert!(help.contains(line), "{line} not in {help}");
    }
}
