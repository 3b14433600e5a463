use serde_json::Value;

use super::*;
use crate::domain::heartbeat::{Counts, Status};
use crate::domain::record::{Account, Making};
use crate::domain::runs::{Kind, PastRun, Seen};

fn at(minute: i64) -> Timestamp {
    Timestamp::from_unix_seconds(minute * 60)
}

fn idle(minute: i64) -> Progress {
    Progress::Idle { position: at(minute) }
}

/// The run of a minute, which moved the position from `before` to `after`.
fn account(minute: i64, before: Option<i64>, after: Option<i64>) -> Account {
    let run = PastRun {
        at: at(minute),
        status: Status::Ok,
        message: "m".to_owned(),
        next_step: "n".to_owned(),
        counts: Counts { fetched: 6, delivered: 5, ..Counts::default() },
        lag_seconds: Some(60),
        duration_ms: 7,
        groups: Seen { allowed: ["RXX".to_owned()].into(), ..Seen::default() },
        kind: Kind::Run,
    };
    Account {
        run_id: format!("run{minute}"),
        instance_id: "i".to_owned(),
        version: "0.1.0".to_owned(),
        making: Making { settings: Hash::of(b"s"), binary: Some(Hash::of(b"b")) },
        window_start: before.map(at),
        window_end: after.map(at),
        position: Some(Passage { before: before.map(at), after: after.map(at) }),
        run,
    }
}

/// A chain of `moves`, one run a minute from minute 1 on.
fn chain(moves: &[(i64, i64)]) -> (Chain, Vec<Stored>) {
    let mut rows = Vec::new();
    let mut chain: Option<Chain> = None;
    for (minute, (before, after)) in (1..).zip(moves) {
        let account = account(minute, Some(*before), Some(*after));
        let (text, next) = match chain {
            Some(chain) => chain.follow(&account).unwrap(),
            None => Chain::begin(0, &account).unwrap(),
        };
        chain = Some(next);
        rows.push(Stored { row: format!("{}.run{minute}", at(minute).sortable()), text });
    }
    (chain.unwrap(), rows)
}

/// One minute each.
fn five() -> (Chain, Vec<Stored>) {
    chain(&[(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)])
}

fn said(chain: Option<Chain>, rows: &[Stored], progress: &Progress) -> Vec<String> {
    let found = verify(chain, rows, Some(progress));
    found.findings.iter().map(ToString::to_string).collect()
}

/// The names of the members of a record, those within others too.
fn members(json: &Value, path: &str, into: &mut Vec<String>) {
    match json {
        Value::Object(object) => {
            object.iter().for_each(|(name, value)| members(value, &format!("{path}/{name}"), into));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            into.push(path.to_owned());
        }
    }
}

#[test]
fn an_untouched_chain_is_unbroken() {
    let (chain, rows) = five();
    let found = verify(Some(chain), &rows, Some(&idle(5)));
    assert_eq!(found.findings, []);
    assert_eq!((found.records.len(), found.head), (5, Some(chain.head)));
    assert_eq!(verify(None, &[], None).findings, []);
}

#[test]
fn a_change_of_any_member_names_the_record() {
    let (chain, rows) = five();
    let mut paths = Vec::new();
    members(&serde_json::from_str(&rows[2].text).unwrap(), "", &mut paths);
    assert_eq!(paths.len(), 27, "{paths:?}");
    for path in paths {
        let mut rows = rows.clone();
        let mut json: Value = serde_json::from_str(&rows[2].text).unwrap();
        let place = json.pointer_mut(&path).unwrap();
        *place = match &*place {
            Value::Number(number) => (number.as_u64().unwrap() + 100).into(),
            Value::String(text) if text.contains("1970") => at(77).to_string().into(),
            Value::String(text) if text.len() == 64 => Hash::of(b"x").to_string().into(),
            Value::Array(_) => vec!["RYY"].into(),
            Value::String(_) | Value::Null | Value::Bool(_) | Value::Object(_) => "x".into(),
        };
        rows[2].text = json.to_string();
        let said = said(Some(chain), &rows, &idle(5)).join("\n");
        let named = match path.as_str() {
            "/Number" => {
                "Missing: record 3, between record 2 of 1970-01-01T00:02:00Z (run run2) and record 4 of 1970-01-01T00:04:00Z (run run4)"
            }
            "/RunId" => "Changed: record 3 of 1970-01-01T00:03:00Z (run x).",
            "/At" => "Changed: record 3 of 1970-01-01T01:17:00Z (run run3).",
            _ => "Changed: record 3 of 1970-01-01T00:03:00Z (run run3).",
        };
        assert!(said.contains(named), "{path}: {said}");
    }
}

#[test]
fn a_change_of_spelling_alone_names_the_record() {
    let (chain, mut rows) = five();
    rows[2].text = rows[2].text.replacen(':', ": ", 1);
    let said = said(Some(chain), &rows, &idle(5));
    assert_eq!(
        said,
        [
            "Changed: record 3 of 1970-01-01T00:03:00Z (run run3). Its hash is not the one that the record after it carries."
        ]
    );
}

#[test]
fn the_hash_a_record_carries_cannot_be_changed_to_hide_another_change() {
    let (chain, mut rows) = five();
    let before = Hash::of(rows[1].text.as_bytes()).to_string();
    rows[1].text = rows[1].text.replace("\"Delivered\":5", "\"Delivered\":6");
    let after = Hash::of(rows[1].text.as_bytes()).to_string();
    rows[2].text = rows[2].text.replace(&before, &after);
    let said = said(Some(chain), &rows, &idle(5)).join("\n");
    assert!(said.starts_with("Changed: record 3 "), "{said}");
    rows[2].text = rows[2].text.replace(&after, &before);
    let said = self::said(Some(chain), &rows, &idle(5)).join("\n");
    assert!(said.starts_with("Changed: record 2 "), "{said}");
}

#[test]
fn the_newest_record_is_proven_by_the_row_that_names_it() {
    let (chain, mut rows) = five();
    rows[4].text = rows[4].text.replace("\"Fetched\":6", "\"Fetched\":7");
    let said = said(Some(chain), &rows, &idle(5)).join("\n");
    assert!(said.starts_with("Changed: record 5 "), "{said}");
    assert!(said.contains("or the row `Chain`"), "{said}");
}

#[test]
fn a_record_that_is_gone_is_named_by_its_number_and_neighbours() {
    for (gone, expected) in [
        (
            0..1,
            "Missing: record 1, the oldest kept, before record 2 of 1970-01-01T00:02:00Z (run run2).",
        ),
        (
            2..3,
            "Missing: record 3, between record 2 of 1970-01-01T00:02:00Z (run run2) and record 4 of 1970-01-01T00:04:00Z (run run4).",
        ),
        (
            1..4,
            "Missing: records 2 to 4, between record 1 of 1970-01-01T00:01:00Z (run run1) and record 5 of 1970-01-01T00:05:00Z (run run5).",
        ),
        (3..5, "Missing: records 4 to 5, the newest"),
    ] {
        let (chain, mut rows) = five();
        rows.drain(gone);
        let said = said(Some(chain), &rows, &idle(5));
        assert!(said[0].starts_with(expected) || said[0].contains(", the newest."), "{said:?}");
        assert!(said[0].starts_with(expected.trim_end_matches(", the newest")), "{said:?}");
    }
    let (chain, _) = five();
    assert_eq!(
        said(Some(chain), &[], &idle(5)),
        ["Every record up to the newest, number 5, is gone."]
    );
}

#[test]
fn a_record_that_was_inserted_is_named() {
    let (chain, rows) = five();
    let stray = |number: u64, minute: i64| {
        let mut account = account(minute, Some(3), Some(4));
        account.run_id = "stray".to_owned();
        let (text, _) = Chain::begin(number - 1, &account).unwrap();
        Stored { row: format!("{}.stray", at(minute).sortable()), text }
    };
    for number in [2, 5, 6, 99] {
        let mut rows = rows.clone();
        rows.push(stray(number, 4));
        let said = said(Some(chain), &rows, &idle(5));
        let expected = format!(
            "In the chain there is no record {number} of 1970-01-01T00:04:00Z (run stray): it was inserted."
        );
        assert_eq!(said, [expected]);
    }
    let mut copied = rows.clone();
    copied.push(Stored { row: "1970-01-01T00:09:00.0000000Z.x".to_owned(), ..rows[1].clone() });
    let copy = said(Some(chain), &copied, &idle(5)).join("\n");
    assert!(copy.contains("`1970-01-01T00:09:00.0000000Z.x` holds record 2 of"), "{copy}");
    copied.push(Stored { row: "y".to_owned(), text: "{}".to_owned() });
    let garbage = said(Some(chain), &copied, &idle(5)).join("\n");
    assert!(garbage.contains("The row `y` holds no record that can be read"), "{garbage}");
}

#[test]
fn what_was_let_go_by_age_is_no_gap_and_anchors_the_rest() {
    let (chain, mut rows) = five();
    let gone = rows.remove(0);
    let second = rows.remove(0);
    let hash = Hash::of(second.text.as_bytes());
    let anchored = Chain { let_go: Some(Link { number: 2, hash }), ..chain };
    assert_eq!(said(Some(anchored), &rows, &idle(5)), Vec::<String>::new());
    let all = Chain { let_go: Some(anchored.head), ..chain };
    assert_eq!(said(Some(all), &[], &idle(5)), Vec::<String>::new());
    let other = Link { number: 2, hash: Hash::of(gone.text.as_bytes()) };
    let changed = said(Some(Chain { let_go: Some(other), ..chain }), &rows, &idle(5));
    assert!(changed[0].starts_with("The oldest one kept, record 3 of"), "{changed:?}");
    rows.insert(0, second);
    let put_back = said(Some(anchored), &rows, &idle(5));
    assert!(put_back[0].starts_with("In the chain there is no record 2 of"), "{put_back:?}");
}

#[test]
fn the_row_that_names_the_newest_cannot_vanish_unseen() {
    let (_, mut rows) = five();
    let no_head = said(None, &rows, &idle(5));
    assert!(no_head[0].starts_with("The row `Chain`") && no_head.len() == 1, "{no_head:?}");
    // The run after it began the chain anew.
    let account = account(6, Some(5), Some(6));
    let (text, chain) = Chain::begin(5, &account).unwrap();
    rows.push(Stored { row: format!("{}.run6", at(6).sortable()), text });
    let anew = said(Some(chain), &rows, &idle(6));
    assert_eq!(anew.len(), 1, "{anew:?}");
    assert!(
        anew[0]
            .starts_with("With record 6 of 1970-01-01T00:06:00Z (run run6) the chain begins anew")
    );
}

#[test]
fn a_position_without_any_record_is_named() {
    let said = said(None, &[], &idle(5));
    assert!(said[0].starts_with("There is a position (1970-01-01T00:05:00Z)"), "{said:?}");
}

#[test]
fn a_run_that_moved_the_position_and_left_no_record_is_named_by_its_span() {
    for moves in [&[(0, 1), (1, 2), (3, 4)][..], &[(0, 1), (1, 2), (3, 3), (3, 4)]] {
        let (chain, rows) = chain(moves);
        let said = said(Some(chain), &rows, &idle(4));
        let minute = moves.len();
        let start =
            "Without a record the position moved from 1970-01-01T00:02:00Z to 1970-01-01T00:03:00Z";
        assert!(
            said.len() == 1
                && said[0].starts_with(
                    &start.replace("00:02", if minute == 4 { "00:03" } else { "00:02" })
                ),
            "{said:?}"
        );
        assert!(said[0].contains("A process that was killed between"), "{said:?}");
    }
}

#[test]
fn a_position_put_elsewhere_is_named() {
    let (chain, rows) = five();
    let moved = said(Some(chain), &rows, &idle(9));
    let span = "from 1970-01-01T00:05:00Z to 1970-01-01T00:09:00Z; record 5 of";
    assert!(moved[0].contains(span), "{moved:?}");
    let gone = verify(Some(chain), &rows, None).findings;
    assert!(gone[0].to_string().contains("to nowhere"), "{gone:?}");
    let claim = crate::domain::progress::Claim {
        run: "r".to_owned(),
        instance: "i".to_owned(),
        until: at(9),
    };
    let running = Progress::Running { position: at(9), claim };
    assert_eq!(said(Some(chain), &rows, &running), Vec::<String>::new());
    let (chain, rows) = self::chain(&[(0, 1), (1, 2), (1, 3)]);
    let back = said(Some(chain), &rows, &idle(3)).join("\n");
    assert!(back.contains("moved from 1970-01-01T00:02:00Z to 1970-01-01T00:01:00Z"), "{back}");
}

#[test]
fn runs_that_end_at_once_may_leave_their_records_in_either_order() {
    for moves in [
        &[(0, 1), (2, 3), (1, 2), (3, 4)][..],
        &[(2, 3), (1, 2), (3, 4)],
        &[(0, 1), (2, 2), (1, 2), (2, 4)],
        // It looked while another was at it.
        &[(0, 1), (1, 3), (1, 1), (2, 2), (3, 4)],
    ] {
        let (chain, rows) = chain(moves);
        assert_eq!(said(Some(chain), &rows, &idle(4)), Vec::<String>::new(), "{moves:?}");
    }
}
