//! The arrows and the sizes of the source tree, checked.

use std::fs;
use std::path::{Path, PathBuf};

/// What a module may name outside tests, beside itself.
struct Arrows {
    module: &'static str,
    /// As the picture of the layers has it.
    drawn: &'static [&'static str],
    /// More than that, each with its reason.
    wider: Wider,
}

type Wider = &'static [(&'static str, &'static str)];

const fn arrows(module: &'static str, drawn: &'static [&'static str], wider: Wider) -> Arrows {
    Arrows { module, drawn, wider }
}

const CHAIN: (&str, &str) = ("error_chain", "what is logged names the whole chain of an error");
const SETTINGS: (&str, &str) = ("config", "is built from its own part of the settings");
const CLOCK: (&str, &str) = ("clock", "dates requests, and reads dates given as a wait");

/// `drawn` is as the house style's picture and `src/lib.rs` have it.
const EVERY_MODULE: &[Arrows] = &[
    // Decides; names nothing else.
    arrows("domain", &[], &[]),
    arrows("clock", &[], &[("domain", "what it shows is the domain's timestamp")]),
    arrows("error_chain", &[], &[]),
    arrows("program", &[], &[("domain", "its own file's hash is a value of the domain")]),
    arrows("config", &["domain"], &[]),
    arrows(
        "telemetry",
        &["clock", "config"],
        &[CHAIN, ("domain", "lines and blobs are named by the domain's timestamp")],
    ),
    // Knows no service.
    arrows("http", &[], &[]),
    // Know no table, sink or source.
    arrows(
        "azure",
        &["http", "clock"],
        &[SETTINGS, ("domain::timestamp", "signatures are over a time")],
    ),
    arrows("durable", &["http", "clock"], &[]),
    arrows("source", &["domain", "azure", "http"], &[CLOCK]),
    arrows("sink", &["domain", "azure", "http"], &[CLOCK, SETTINGS]),
    arrows("store", &["domain", "azure", "http"], &[SETTINGS]),
    arrows(
        "identity",
        &["domain", "azure", "http"],
        &[
            CLOCK,
            SETTINGS,
            CHAIN,
            ("durable", "the sign-in may be kept in a Durable entity"),
            ("store", "keeps the sealed sign-in in a row of the state table"),
        ],
    ),
    arrows(
        "pipeline",
        &["domain", "azure", "http", "source", "sink", "store", "identity", "clock"],
        &[SETTINGS, CHAIN, ("program", "a run's record says which program it was")],
    ),
    // Translate for the outside.
    arrows("host", &["pipeline", "domain"], &[("durable", "serves the host's entity")]),
    arrows("portal", &["pipeline", "domain"], &[]),
    // Asks every adapter once; put together by `app`. Drawn in lib.rs alone.
    arrows(
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
        &[],
    ),
    arrows("app", ANYTHING, &[]),
    arrows("cli", ANYTHING, &[]),
    arrows("sandbox", ANYTHING, &[]),
];

/// All but `sandbox`: what is in production names it nowhere.
const ANYTHING: &[&str] = &["*"];
/// It runs on the sandbox.
const DEMO: &str = "cli/demo.rs";

impl Arrows {
    fn permits(&self, named: &str) -> bool {
        let anything = self.drawn.contains(&"*") && !permits(&["sandbox"], named);
        anything || permits(&[self.module], named) || permits(self.drawn, named)
    }

    /// The wider arrow that permits it.
    fn wider(&self, named: &str) -> Option<&'static str> {
        self.wider.iter().map(|(module, _)| *module).find(|module| permits(&[module], named))
    }
}

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
    let (mut wrong, mut needed) = (Vec::new(), Vec::new());
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
        let Some(arrows) = EVERY_MODULE.iter().find(|arrows| arrows.module == module) else {
            wrong.push(format!("{module} has no place in the picture yet"));
            continue;
        };
        // `super` from the top of a module is the crate.
        let up = "super::".repeat(parts.len());
        for name in named(&code, "crate::").into_iter().chain(named(&code, &up)) {
            if arrows.permits(&name) || file == Path::new(DEMO) && permits(&["sandbox"], &name) {
                continue;
            }
            match arrows.wider(&name) {
                Some(wider) => needed.push((module.to_owned(), wider)),
                None => wrong.push(format!("{} names {name}", file.display())),
            }
        }
    }
    for Arrows { module, wider, .. } in EVERY_MODULE {
        let idle = wider
            .iter()
            .filter(|(to, _)| !needed.iter().any(|(from, used)| from == module && used == to));
        wrong.extend(idle.map(|(to, reason)| format!("{module} need not name {to}: {reason}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// It is no decision if it waits, looks around or tells.
#[test]
fn the_domain_waits_for_nothing_reads_no_environment_and_logs_nothing() {
    let mut wrong = Vec::new();
    for (file, text) in sources().filter(|(file, _)| file.starts_with("domain")) {
        let code = code(own(&text));
        let mut outside: Vec<_> =
            ["tokio::", "tracing::"].iter().filter(|root| !named(&code, root).is_empty()).collect();
        outside.extend([".await", "async "].iter().filter(|word| code.contains(**word)));
        wrong.extend(outside.into_iter().map(|word| format!("{}: {word}", file.display())));
        let environment = named(&code, "std::").into_iter().filter(|name| permits(&["env"], name));
        wrong.extend(environment.map(|name| format!("{}: std::{name}", file.display())));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Names of the packages in one table of `Cargo.toml`, as code names them.
fn dependencies(table: &str) -> Vec<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let table = manifest.split(&format!("\n[{table}]\n")).nth(1).unwrap();
    let lines = table.split("\n[").next().unwrap().lines();
    lines
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name.replace('-', "_"))
        .collect()
}

#[test]
fn every_dependency_is_used() {
    let texts = |folders: &[&str], own: fn(&str) -> &str| -> Vec<String> {
        let files = folders.iter().flat_map(|folder| rust_files(folder));
        files.map(|(_, text)| code(own(&text))).collect()
    };
    let names = |code: &String, name: &str| !named(code, &format!("{name}::")).is_empty();
    let whole: fn(&str) -> &str = |text| text;
    for (table, few, code) in [
        ("dependencies", 30, texts(&["src"], own)),
        ("dev-dependencies", 4, texts(&["src", "tests", "benches"], whole)),
    ] {
        let all = dependencies(table);
        assert!(all.len() > few, "{table}: {all:?}");
        let idle: Vec<_> =
            all.iter().filter(|name| !code.iter().any(|code| names(code, name))).collect();
        assert!(idle.is_empty(), "{table} that nobody uses: {idle:?}");
    }
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
