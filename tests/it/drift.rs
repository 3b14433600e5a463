//! What stands in two places says the same in both.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// What the names of settings begin with.
const PREFIXES: [&str; 5] =
    ["FunctionConfig", "AzureWebJobsStorage", "WEBSITE_", "IDENTITY_", "FUNCTIONS_"];

/// Every word of `text` that is a setting's name.
fn settings(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| c != '_' && !c.is_ascii_alphanumeric())
        .filter(|word| {
            let longer = |prefix: &&str| word.starts_with(*prefix) && word != prefix;
            PREFIXES.iter().any(longer)
                || ["AzureWebJobsStorage", "HOSTNAME", "CONTAINER_NAME"].contains(word)
        })
        .collect()
}

/// The files that read settings: `src/config*`, and the port's.
fn files_that_read_settings() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config");
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let parts = names.map(|name| format!("src/config/{name}"));
    parts.chain(["src/config.rs", "src/cli/serve.rs"].map(str::to_owned)).collect()
}

/// The settings that code reads: names in string literals.
fn settings_in_code() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for path in files_that_read_settings() {
        let text = read(&path);
        let code = text.split("#[cfg(test)]").next().unwrap();
        let literals = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        for literal in literals.flat_map(|line| line.split('"').skip(1).step_by(2)) {
            let whole = settings(literal).into_iter().filter(|name| *name == literal);
            names.extend(whole.map(str::to_owned));
        }
    }
    names
}

#[test]
fn every_setting_stands_in_the_readme_and_the_reverse() {
    let readme = read("README.md");
    let section = readme.split("\n## Settings").nth(1).unwrap().split("\n## ").next().unwrap();
    let documented = settings(section);
    let code = settings_in_code();
    assert!(code.len() > 40, "the search found only {} settings", code.len());
    // Read by the Functions host itself; listed so that people find it.
    let hosts_own = BTreeSet::from(["AzureWebJobsStorage__credential"]);
    let missing: Vec<_> = code.iter().filter(|name| !documented.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "not in the README: {missing:?}");
    let stale: Vec<_> = documented
        .iter()
        .filter(|name| !code.contains(**name) && !hosts_own.contains(**name))
        .collect();
    assert!(stale.is_empty(), "in the README only: {stale:?}");
}

#[test]
fn every_status_stands_in_the_readme() {
    let readme = read("README.md");
    let heartbeat = read("src/domain/heartbeat.rs");
    let body = heartbeat.split("pub enum Status {").nth(1).unwrap().split('}').next().unwrap();
    let statuses: Vec<_> = body
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("//"))
        .map(|line| line.trim_end_matches(','))
        .collect();
    assert_eq!(statuses.len(), 12);
    for status in statuses {
        assert!(readme.contains(&format!("\n| `{status}` |")), "{status} is not in the README");
    }
}
