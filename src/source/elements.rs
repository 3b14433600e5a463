//! Takes a page apart while it arrives.
//!
//! A page is one JSON object whose `value` is an array of alerts. It is fed in
//! as the network delivers it and each element is handed out as soon as its
//! last byte is there, so that a page is never held: memory is one network
//! chunk and the part of one element.
//!
//! An element's own grammar is checked by the parser of alerts, which also
//! finds its end where all of it has arrived. The end of one that came in
//! pieces is looked for here, so that no byte is parsed over and over.
//! Everything around the elements is checked here, because a page that ends
//! early must be an error and never a short list.

use bytes::{Buf as _, Bytes, BytesMut};
use memchr::memchr2;
use serde::de::IgnoredAny;

use super::failure::Failure;
use crate::domain::alert::Alert;

/// Bytes of one element or member at most. An alert with all its evidence is
/// some hundred kilobytes at worst.
pub const MAX_ELEMENT_BYTES: usize = 16 * 1024 * 1024;

/// The answer is not a whole page.
#[derive(Debug, thiserror::Error)]
pub enum NotAPage {
    /// It ends before its closing brace.
    #[error("the answer is cut off")]
    CutOff,
    /// It is not a JSON object, or something follows it.
    #[error("the answer is not the JSON it should be")]
    Garbage,
    /// It has no list of alerts, or two.
    #[error("the answer has no list of alerts")]
    NoList,
    /// One element is larger than [`MAX_ELEMENT_BYTES`].
    #[error("the answer holds an alert of more than 16 MiB")]
    TooLarge,
}

/// What is expected next, outside of any value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    Start,
    FirstName,
    Name,
    Colon,
    List,
    Member,
    AfterMember,
    FirstElement,
    Element,
    AfterElement,
    End,
}

/// What a member's name means to us.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Name {
    Value,
    NextLink,
    Other,
}

/// One page on its way in.
#[derive(Debug)]
pub struct Elements {
    buffer: BytesMut,
    place: Place,
    name: Name,
    value: ValueEnd,
    listed: bool,
    next_link: Option<String>,
}

impl Default for Elements {
    fn default() -> Self {
        Self {
            buffer: BytesMut::new(),
            place: Place::Start,
            name: Name::Other,
            value: ValueEnd::default(),
            listed: false,
            next_link: None,
        }
    }
}

impl Elements {
    /// Takes the next bytes of the answer. Call when [`Self::take`] wants more.
    pub fn feed(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next element; `None` until more is fed.
    ///
    /// Its bytes share the memory of the chunk they came in.
    ///
    /// # Errors
    ///
    /// [`Failure`]; the page is lost and the alerts so far are not all.
    pub fn take_alert(&mut self) -> Result<Option<Alert>, Failure> {
        if !self.seek()? {
            return Ok(None);
        }
        if self.value.scanned == 0
            && let Some(alert) = Alert::take(&mut self.buffer)
        {
            self.place = Place::AfterElement;
            return Ok(Some(alert));
        }
        let alert = self.take_element()?.map(Alert::parse).transpose();
        alert.map_err(|_quotes_the_alert| Failure::NotAnAlert)
    }

    /// As [`Self::take_alert`], whatever the element is.
    ///
    /// # Errors
    ///
    /// [`NotAPage`]; the page is lost and the elements so far are not all.
    pub fn take(&mut self) -> Result<Option<Bytes>, NotAPage> {
        if self.seek()? { self.take_element() } else { Ok(None) }
    }

    fn take_element(&mut self) -> Result<Option<Bytes>, NotAPage> {
        let element = self.take_value()?;
        if element.is_some() {
            self.place = Place::AfterElement;
        }
        Ok(element)
    }

    /// Goes to the next element; whether any of it is there.
    fn seek(&mut self) -> Result<bool, NotAPage> {
        loop {
            self.skip_space();
            let Some(&first) = self.buffer.first() else {
                return Ok(false);
            };
            match (self.place, first) {
                (Place::Start, b'{') => self.step(Place::FirstName),
                (Place::FirstName | Place::AfterMember, b'}') => self.step(Place::End),
                (Place::FirstName | Place::Name, b'"') => {
                    let Some(name) = self.take_value()? else { return Ok(false) };
                    self.enter(&name)?;
                }
                (Place::Colon, b':') if self.name == Name::Value => self.step(Place::List),
                (Place::Colon, b':') => self.step(Place::Member),
                (Place::List, b'[') => self.step(Place::FirstElement),
                (Place::List, _) => return Err(NotAPage::NoList),
                (Place::Member, _) => {
                    let Some(value) = self.take_value()? else { return Ok(false) };
                    self.leave(&value)?;
                }
                (Place::AfterMember, b',') => self.step(Place::Name),
                (Place::FirstElement | Place::AfterElement, b']') => {
                    self.step(Place::AfterMember);
                }
                (Place::AfterElement, b',') => self.step(Place::Element),
                (Place::FirstElement | Place::Element, byte) if !b",]}:".contains(&byte) => {
                    return Ok(true);
                }
                _ => return Err(NotAPage::Garbage),
            }
        }
    }

    /// Ends the page and gives its `@odata.nextLink`, if it had one.
    ///
    /// # Errors
    ///
    /// [`NotAPage`] unless every byte of a whole page was fed and taken.
    pub fn finish(self) -> Result<Option<String>, NotAPage> {
        if self.place != Place::End || !self.buffer.is_empty() {
            return Err(NotAPage::CutOff);
        }
        if self.listed { Ok(self.next_link) } else { Err(NotAPage::NoList) }
    }

    fn skip_space(&mut self) {
        let space = self.buffer.iter().take_while(|byte| b" \n\r\t".contains(byte)).count();
        if space > 0 {
            self.buffer.advance(space);
        }
    }

    fn step(&mut self, to: Place) {
        self.buffer.advance(1);
        self.place = to;
    }

    /// Cuts a whole value off the front of the buffer, if its end is there.
    fn take_value(&mut self) -> Result<Option<Bytes>, NotAPage> {
        let end = self.value.find(&self.buffer);
        if end.unwrap_or(self.buffer.len()) > MAX_ELEMENT_BYTES {
            return Err(NotAPage::TooLarge);
        }
        Ok(end.map(|end| {
            self.value = ValueEnd::default();
            self.buffer.split_to(end).freeze()
        }))
    }

    fn enter(&mut self, name: &[u8]) -> Result<(), NotAPage> {
        let name: String = serde_json::from_slice(name).map_err(|_not_text| NotAPage::Garbage)?;
        self.name = match name.as_str() {
            "value" if self.listed => return Err(NotAPage::NoList),
            "value" => {
                self.listed = true;
                Name::Value
            }
            "@odata.nextLink" => Name::NextLink,
            _ => Name::Other,
        };
        self.place = Place::Colon;
        Ok(())
    }

    fn leave(&mut self, value: &[u8]) -> Result<(), NotAPage> {
        if self.name == Name::NextLink {
            self.next_link =
                serde_json::from_slice(value).map_err(|_not_text| NotAPage::Garbage)?;
        } else {
            serde_json::from_slice::<IgnoredAny>(value).map_err(|_not_json| NotAPage::Garbage)?;
        }
        self.place = Place::AfterMember;
        Ok(())
    }
}

/// Finds where a JSON value ends, going on where it stopped.
#[derive(Debug, Default)]
struct ValueEnd {
    /// Bytes of the value looked at so far.
    scanned: usize,
    /// Brackets open there.
    depth: usize,
    in_text: bool,
}

/// What a byte outside of texts means for where a value ends.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Kind {
    Plain,
    Quote,
    Open,
    Close,
    /// Ends a number or a word that stands in no bracket.
    Between,
}

fn kind(byte: u8) -> Kind {
    match byte {
        b'"' => Kind::Quote,
        b'{' | b'[' => Kind::Open,
        b'}' | b']' => Kind::Close,
        b',' | b':' | b' ' | b'\n' | b'\r' | b'\t' => Kind::Between,
        _ => Kind::Plain,
    }
}

impl ValueEnd {
    /// Bytes of the value that `bytes` begins with, once its end is in there.
    fn find(&mut self, bytes: &[u8]) -> Option<usize> {
        loop {
            let rest = bytes.get(self.scanned..)?;
            if self.in_text {
                let Some(at) = memchr2(b'"', b'\\', rest) else {
                    self.scanned = bytes.len();
                    return None;
                };
                if rest.get(at) == Some(&b'\\') {
                    // Past the escaped byte, which may not be here yet.
                    self.scanned += at + 2;
                    continue;
                }
                self.scanned += at + 1;
                self.in_text = false;
                if self.depth == 0 {
                    return Some(self.scanned);
                }
                continue;
            }
            let depth = self.depth;
            let stop = rest.iter().position(|byte| match kind(*byte) {
                Kind::Plain => false,
                Kind::Between => depth == 0,
                Kind::Quote | Kind::Open | Kind::Close => true,
            });
            let Some(at) = stop else {
                self.scanned = bytes.len();
                return None;
            };
            match rest.get(at).copied().map(kind) {
                Some(Kind::Quote) => self.in_text = true,
                Some(Kind::Open) => self.depth += 1,
                Some(Kind::Close) if depth > 1 => self.depth -= 1,
                Some(Kind::Close) if depth == 1 => return Some(self.scanned + at + 1),
                // The end of a number or a word.
                _ => return Some(self.scanned + at),
            }
            self.scanned += at + 1;
        }
    }
}

#[cfg(test)]
mod tests {
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
            elements.feed(chunk);
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
                elements.feed(chunk);
                while let Some(alert) = elements.take_alert().expect("a page") {
                    taken.push(alert.raw().clone());
                }
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
                    elements.feed(chunk);
                    elements.take_alert().transpose()
                });
                assert!(matches!(taken, Some(Err(Failure::NotAnAlert))), "{element}");
            }
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
        elements.feed(br#"{"value":[{"a":""#);
        let chunk = vec![b'x'; 1024 * 1024];
        let mut fed = 0;
        let error = loop {
            elements.feed(&chunk);
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
}
