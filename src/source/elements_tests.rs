use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// The elements and the link, however the page is cut.
fn take(page: &[u8], sizes: &[usize]) -> Result<(Vec<Value>, Option<String>), NotAPage> {
    let mut elements = Elements::default();
    let mut taken = Vec::new();
    let mut rest = page;
    let mut sizes = sizes.iter().copied().cycle();
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(sizes.next().unwrap_or(1).clamp(1, rest.len()));
        elements.feed(Bytes::copy_from_slice(chunk));
        rest = after;
        while let Some(element) = elements.take()? {
            taken.push(serde_json::from_slice(&element).expect("one whole value"));
        }
    }
    Ok((taken, elements.finish()?))
}

#[test]
fn alerts_are_the_same_wherever_the_network_cuts_them() {
    let alerts = [r#"{"id":"a","n":-1.5}"#, r#"{"id":"\"}"}"#, r#"{"id":"c","x":[{}]}"#];
    let page = format!(r#"{{"value":[{}]}}"#, alerts.join(" ,"));
    for size in 1..=page.len() {
        let mut elements = Elements::default();
        let mut taken = Vec::new();
        for chunk in page.as_bytes().chunks(size) {
            elements.feed(Bytes::copy_from_slice(chunk));
            elements.take_alerts(|alert| taken.push(alert.raw().clone())).expect("a page");
        }
        assert_eq!(taken, alerts, "chunks of {size}");
        assert_eq!(elements.finish().unwrap(), None);
    }
}

#[test]
fn an_element_that_is_no_alert_is_no_alert_however_it_comes() {
    for element in ["7", "null", "[]", r#"{"id":tru}"#, "{\"id\":\"\u{1}\"}"] {
        for size in [1, 99] {
            let page = format!(r#"{{"value":[{element}]}}"#);
            let mut elements = Elements::default();
            let taken = page.as_bytes().chunks(size).find_map(|chunk| {
                elements.feed(Bytes::copy_from_slice(chunk));
                elements.take_alerts(|alert| panic!("{alert:?}")).err()
            });
            assert!(matches!(taken, Some(Failure::NotAnAlert)), "{element}");
        }
    }
}

#[test]
fn what_is_fed_before_it_is_wanted_is_not_lost() {
    let page = Bytes::from_static(br#"{"value":[{"id":"a"},{"id":"b"}]}"#);
    for cut in 1..page.len() {
        let mut elements = Elements::default();
        elements.feed(page.slice(..cut));
        elements.feed(page.slice(cut..));
        let mut ids = Vec::new();
        elements.take_alerts(|alert| ids.push(alert.id().unwrap().into_owned())).unwrap();
        assert_eq!(ids, ["a", "b"], "cut at {cut}");
    }
}

fn whole(page: &str) -> Result<(Vec<Value>, Option<String>), NotAPage> {
    take(page.as_bytes(), &[usize::MAX])
}

const PAGE: &str = "\r\n {\"@odata.context\" : \"x[{\\\"\",\"n\":[1,{\"value\":[2]}],\"value\": [ {\"a\":\"]}\\\\\",\"b\":[1,{}]} , {\"c\":\"caf\u{e9} \\u00e9 \\\" \\\\\"},12.5e-3,true,null,\"t\",[[]],{}\n],\"@odata.nextLink\":\"http:\\/\\/h\\/n?a=1\"} \n";

#[test]
fn a_page_gives_its_elements_and_its_link_wherever_the_network_cuts_it() {
    let expected = vec![
        json!({"a": "]}\\", "b": [1, {}]}),
        json!({"c": "caf\u{e9} \u{e9} \" \\"}),
        json!(12.5e-3),
        json!(true),
        json!(null),
        json!("t"),
        json!([[]]),
        json!({}),
    ];
    for size in 1..=PAGE.len() {
        let (elements, link) = take(PAGE.as_bytes(), &[size]).unwrap();
        assert_eq!(elements, expected, "chunks of {size}");
        assert_eq!(link.as_deref(), Some("http://h/n?a=1"));
    }
}

#[test]
fn a_page_cut_off_at_any_byte_is_an_error_and_never_a_short_page() {
    let end = PAGE.trim_end().len();
    for cut in 0..end {
        let error = take(&PAGE.as_bytes()[..cut], &[7]).unwrap_err();
        assert!(matches!(error, NotAPage::CutOff), "cut after {cut}: {error:?}");
    }
    assert!(take(&PAGE.as_bytes()[..end], &[7]).is_ok());
}

#[test]
fn an_empty_page_is_a_page_and_the_link_may_stand_before_the_list() {
    assert_eq!(whole(r#"{"value":[]}"#).unwrap(), (vec![], None));
    let (elements, link) = whole(r#"{"@odata.nextLink":"l","value":[{}]}"#).unwrap();
    assert_eq!((elements, link.as_deref()), (vec![json!({})], Some("l")));
    assert_eq!(whole(r#"{"value":[],"@odata.nextLink":null}"#).unwrap().1, None);
}

#[test]
fn what_is_not_a_page_is_told_apart() {
    let no_list = [
        "{}",
        r#"{"values":[]}"#,
        r#"{"value":null}"#,
        r#"{"value":{}}"#,
        r#"{"value":"[]"}"#,
        r#"{"value":[],"value":[]}"#,
        r#"{"error":{"code":"x"}}"#,
    ];
    for page in no_list {
        let error = whole(page).unwrap_err();
        assert!(matches!(error, NotAPage::NoList), "{page}: {error:?}");
    }
    let garbage = [
        "<html><body>502</body></html>",
        "[]",
        "\u{feff}{}",
        r#"{"value":[]} x"#,
        r#"{"value":[]}{}"#,
        r#"{"value":[,]}"#,
        r#"{"value":[{},]}"#,
        r#"{"value":[{} {}]}"#,
        r#"{"value":[}"#,
        r#"{"value":[]"x":1}"#,
        r#"{"value":[],}"#,
        r"{value:[]}",
        r#"{"a":,"value":[]}"#,
        r#"{"a":tru,"value":[]}"#,
        r#"{"a" "value":[]}"#,
        r#"{"value":[],"@odata.nextLink":7}"#,
    ];
    for page in garbage {
        let error = whole(page).unwrap_err();
        assert!(matches!(error, NotAPage::Garbage), "{page}: {error:?}");
    }
}

#[test]
fn an_element_without_end_does_not_fill_the_memory() {
    let mut elements = Elements::default();
    elements.feed(Bytes::from_static(br#"{"value":[{"a":""#));
    let chunk = Bytes::from(vec![b'x'; 1024 * 1024]);
    let mut fed = 0;
    let error = loop {
        elements.feed(chunk.clone());
        fed += 1;
        if let Err(error) = elements.take() {
            break error;
        }
    };
    assert!(matches!(error, NotAPage::TooLarge));
    assert_eq!(fed, 16);
}

fn any_json() -> impl Strategy<Value = Value> {
    let text = r#"[\[\]{}",:\\ a-z\u{e9}\u{1f600}\n]{0,12}"#;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((text, inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_page_in_any_chunks_gives_the_same_elements(
        list in prop::collection::vec(any_json(), 0..12),
        others in prop::collection::btree_map("[a-u]{1,3}", any_json(), 0..3),
        link in prop::option::of("[ -~]{0,20}"),
        pretty: bool,
        sizes in prop::collection::vec(1_usize..40, 1..20),
    ) {
        let mut page = serde_json::Map::new();
        page.extend(others);
        page.insert("value".into(), list.clone().into());
        if let Some(link) = &link {
            page.insert("@odata.nextLink".into(), link.clone().into());
        }
        let page = Value::Object(page);
        let text = if pretty { format!("{page:#}") } else { page.to_string() };
        let (elements, found) = take(text.as_bytes(), &sizes).unwrap();
        prop_assert_eq!(elements, list);
        prop_assert_eq!(found, link);
    }
}
