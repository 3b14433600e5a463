//! The arrows and the sizes of the source tree, checked.

use std::fs;
use std::path::{Path, PathBuf};

/// Every module, and what else it may name outside tests.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("clock", &["domain"]),
    ("error_chain", &[]),
    // Reads its own file, once.
    ("program", &["domain"]),
    // Decides; names nothing else.
    ("domain", &[]),
    ("config", &["domain"]),
    ("telemetry", &["clock", "config", "domain", "error_chain"]),
    // Knows no service.
    ("http", &[]),
    // Know no table, sink or source.
    ("azure", MECHANICS),
    ("durable", MECHANICS),
    ("source", ADAPTER),
    ("sink", ADAPTER),
    ("store", ADAPTER),
    // Keeps the sealed sign-in in a row or an entity.
    (
        "identity",
        &["azure", "clock", "config", "domain", "durable", "error_chain", "http", "store"],
    ),
    (
        "pipeline",
        &[
            "azure",
            "clock",
            "config",
            "domain",
            "error_chain",
            "http",
            "identity",
            "program",
            "sink",
            "source",
            "store",
        ],
    ),
    // Translate for the outside.
    ("host", &["domain", "durable", "error_chain", "pipeline"]),
    ("portal", &["domain", "error_chain", "pipeline"]),
    // Asks every adapter once; put together by `app`.
    (
        "doctor",
        &[
            "azure",
            "clock",
            "config",
            "domain",
            "durable",
            "error_chain",
            "http",
            "identity",
            "pipeline",
            "sink",
            "source",
            "store",
        ],
    ),
    ("app", ANYTHING_BUT_SANDBOX),
    // `demo` runs on the sandbox.
    ("cli", ANYTHING),
    ("sandbox", ANYTHING),
];

const MECHANICS: &[&str] = &["clock", "config", "domain::timestamp", "error_chain", "http"];
const ADAPTER: &[&str] = &["azure", "clock", "config", "domain", "durable", "error_chain", "http"];
const ANYTHING: &[&str] = &["*", "sandbox"];
const ANYTHING_BUT_SANDBOX: &[&str] = &["*"];

/// Where a file's own tests begin.
const TESTS: &str = "\n#[cfg(test)]\nmod ";
/// How the name of a file ends that holds another's tests, of which there are
/// many.
const TESTS_OF: &str = "_tests.rs";
/// Lines of one file at most.
const MAX_LINES: usize = 500;
/// Folders that may lie one level deeper: a file for each destination's row.
const DEEPER: &[&str] = &["domain/shape"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// Every file beneath `src` but those that hold tests only.
fn sources() -> impl Iterator<Item = (PathBuf, String)> {
    let is_tests = |file: &Path| file.to_string_lossy().ends_with(TESTS_OF);
    rust_files("src").into_iter().filter(move |(file, _)| !is_tests(file))
}

/// Every file beneath `folder`, with its path from there and its text.
fn rust_files(folder: &str) -> Vec<(PathBuf, String)> {
    let top = root().join(folder);
    let mut open = vec![top.clone()];
    let mut files = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path.strip_prefix(&top).unwrap().to_owned(), text));
            }
        }
    }
    files
}

/// The file's text without its own tests.
fn own(text: &str) -> &str {
    text.split(TESTS).next().unwrap()
}

/// What is left of `text` without comments.
fn code(text: &str) -> String {
    text.lines()
        .map(|line| line.split_once("//").map_or(line, |(code, _)| code))
        .collect::<Vec<_>>()
        .join("\n")
}

/// What is named after each `root` in `code`, as in `crate::a::b` and
/// `crate::{a::b, c}`.
fn named(code: &str, root: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices(root) {
        let (before, rest) = code.split_at(at);
        if before.ends_with(|c: char| c == '_' || c == ':' || c.is_alphanumeric()) {
            continue;
        }
        let rest = rest.strip_prefix(root).unwrap();
        match rest.strip_prefix('{') {
            None => names.push(path(rest)),
            Some(group) => names.extend(group_members(group)),
        }
    }
    names
}

/// The path that `text` begins with: `a::b`.
fn path(text: &str) -> String {
    let path: String =
        text.chars().take_while(|c| matches!(c, '_' | ':') || c.is_alphanumeric()).collect();
    path.trim_end_matches(':').to_owned()
}

/// Whether `allowed` has the module that `named` lies in.
fn permits(allowed: &[&str], named: &str) -> bool {
    allowed.iter().any(|module| {
        named.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    })
}

/// The paths of a group's members, up to the brace that closes it.
fn group_members(group: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut depth = 0;
    let mut member = true;
    for (at, c) in group.char_indices() {
        match c {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => member = true,
            c if member && !c.is_whitespace() => {
                names.push(path(group.split_at(at).1));
                member = false;
            }
            _ => {}
        }
    }
    names
}

#[test]
fn dependencies_point_one_way() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let stem = file.with_extension("");
        let parts: Vec<_> = stem.iter().map(|part| part.to_str().unwrap()).collect();
        let module = parts[0];
        let code = code(own(&text));
        // The map and the thin binary: declarations, and the composed app.
        if module == "lib" {
            assert!(named(&code, "crate::").is_empty(), "lib.rs only declares modules");
            continue;
        }
        if module == "main" {
            let names = named(&code, "defender_alert_export::");
            let allowed = ["app", "cli", "clock", "config", "host", "telemetry"];
            wrong.extend(
                names
                    .iter()
                    .filter(|name| !permits(&allowed, name))
                    .map(|name| format!("main names {name}")),
            );
            continue;
        }
        let Some((_, allowed)) = MAY_NAME.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!("{module} has no place in the picture yet"));
            continue;
        };
        // `super` from the top of a module is the crate.
        let up = "super::".repeat(parts.len());
        for name in named(&code, "crate::").into_iter().chain(named(&code, &up)) {
            let free = allowed.contains(&"*") && !permits(&["sandbox"], &name);
            if !free && !permits(&[module], &name) && !permits(allowed, &name) {
                wrong.push(format!("{} names {name}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Only [`Http::send`] knows whether there is a network.
///
/// [`Http::send`]: defender_alert_export::http::Http::send
#[test]
fn every_request_goes_one_way() {
    let past_it = |(file, text): &(PathBuf, String)| {
        let flat: String = code(own(text)).split_whitespace().collect();
        flat.contains(".send().await") && !file.starts_with("http")
    };
    let wrong: Vec<_> = sources().filter(past_it).map(|(file, _)| file).collect();
    assert!(wrong.is_empty(), "{wrong:?} send requests by themselves");
}

#[test]
fn files_stay_small_and_folders_shallow() {
    let mut wrong = Vec::new();
    for folder in ["src", "tests"] {
        for (file, text) in rust_files(folder) {
            let lines = text.lines().count();
            if lines > MAX_LINES {
                wrong.push(format!("{folder}/{} has {lines} lines", file.display()));
            }
            // One folder beneath `src` and beneath `tests/it`.
            let depth = file.iter().count() - usize::from(folder == "tests");
            let deep = depth > 2 && !DEEPER.iter().any(|known| file.starts_with(known));
            if deep || file.ends_with("mod.rs") {
                wrong.push(format!("{folder}/{} is in the wrong place", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The check itself: it sees every way this crate names a module.
#[test]
fn a_wrong_arrow_does_not_hide() {
    let text = "
//! [`crate::doc`]
use crate::one::Thing;
use crate::{two, three::{Inner, deep::Er}, four::Four as F};
#[cfg(test)]
use super::super::five;
fn f() { crate::six::g(); my_crate::no(); $crate::no2() } // crate::comment
#[cfg(test)]
mod tests { use crate::only_tests; }
";
    let code = code(own(text));
    assert_eq!(
        named(&code, "crate::"),
        ["one::Thing", "two", "three", "four::Four", "six::g", "no2"]
    );
    assert_eq!(named(&code, "super::super::"), ["five"]);
    assert!(named(&code, "super::super::super::").is_empty());
}
