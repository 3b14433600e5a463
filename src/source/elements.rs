//! Takes a page apart while it arrives.
//!
//! A page is one JSON object whose `value` is an array of alerts. It is fed in
//! as the network delivers it and each element is handed out as soon as its
//! last byte is there, so that a page is never held: memory is one network
//! chunk and the part of one element. An element shares the memory of the chunk
//! it came in; only one that came in pieces is copied together.
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
    /// What is left of the last chunk.
    chunk: Bytes,
    /// The beginning of a value, from the chunks before.
    begun: BytesMut,
    place: Place,
    name: Name,
    value: ValueEnd,
    listed: bool,
    next_link: Option<String>,
}

impl Default for Elements {
    fn default() -> Self {
        Self {
            chunk: Bytes::new(),
            begun: BytesMut::new(),
            place: Place::Start,
            name: Name::Other,
            value: ValueEnd::default(),
            listed: false,
            next_link: None,
        }
    }
}

impl Elements {
    /// Takes the next bytes of the answer. Call when [`Self::take`] wants more:
    /// else they are copied.
    pub fn feed(&mut self, chunk: Bytes) {
        self.chunk = if self.chunk.is_empty() {
            chunk
        } else {
            [std::mem::take(&mut self.chunk), chunk].concat().into()
        };
    }

    /// Hands out every alert that is all there.
    ///
    /// Their bytes share the memory of the chunk they came in.
    ///
    /// # Errors
    ///
    /// [`Failure`]; the page is lost and the alerts so far are not all.
    pub fn take_alerts(&mut self, mut found: impl FnMut(Alert)) -> Result<(), Failure> {
        let chunk = self.chunk.clone();
        let text = beginning(&chunk);
        while self.seek()? {
            let taken = chunk.len() - self.chunk.len();
            let rest = text.get(taken..).filter(|_| self.begun.is_empty());
            if let Some(alert) = rest.and_then(|text| Alert::take(&mut self.chunk, text)) {
                self.place = Place::AfterElement;
                found(alert);
                continue;
            }
            let Some(element) = self.take_element()? else { break };
            found(Alert::parse(element).map_err(|_quotes_the_alert| Failure::NotAnAlert)?);
        }
        Ok(())
    }

    /// The next element, whatever it is; `None` until more is fed.
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
            let Some(first) = self.first() else { return Ok(false) };
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
        if self.place != Place::End || !self.chunk.is_empty() || !self.begun.is_empty() {
            return Err(NotAPage::CutOff);
        }
        if self.listed { Ok(self.next_link) } else { Err(NotAPage::NoList) }
    }

    /// The first byte of what comes next, be it a value that has begun; `None`
    /// until more is fed.
    fn first(&mut self) -> Option<u8> {
        if self.begun.is_empty() {
            let space = self.chunk.iter().take_while(|byte| b" \n\r\t".contains(byte)).count();
            self.chunk.advance(space);
            self.chunk.first().copied()
        } else {
            self.begun.first().copied().filter(|_| !self.chunk.is_empty())
        }
    }

    fn step(&mut self, to: Place) {
        self.chunk.advance(1);
        self.place = to;
    }

    /// Takes a whole value, if its end is there; else what there is of it is
    /// put by.
    fn take_value(&mut self) -> Result<Option<Bytes>, NotAPage> {
        let end = self.value.find(&self.chunk);
        if self.begun.len() + end.unwrap_or(self.chunk.len()) > MAX_ELEMENT_BYTES {
            return Err(NotAPage::TooLarge);
        }
        let Some(end) = end else {
            self.value.go_on_after(self.chunk.len());
            self.begun.extend_from_slice(&std::mem::take(&mut self.chunk));
            return Ok(None);
        };
        self.value = ValueEnd::default();
        let rest = self.chunk.split_to(end);
        if self.begun.is_empty() {
            return Ok(Some(rest));
        }
        self.begun.extend_from_slice(&rest);
        Ok(Some(self.begun.split().freeze()))
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

/// As much of `bytes` as is text: all but a character cut in two, mostly.
fn beginning(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap_or_else(|error| {
        bytes.get(..error.valid_up_to()).and_then(|it| str::from_utf8(it).ok()).unwrap_or_default()
    })
}

/// Finds where a JSON value ends, going on where it stopped.
#[derive(Debug, Default)]
struct ValueEnd {
    /// Bytes of the chunk looked at so far; one more than it has where it ends
    /// with an escape.
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
    /// The value goes on in another chunk, after one of so many bytes.
    fn go_on_after(&mut self, bytes: usize) {
        self.scanned = self.scanned.saturating_sub(bytes);
    }

    /// Bytes of the value that `bytes` begins with, or goes on with, once its
    /// end is in there.
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
#[path = "elements_tests.rs"]
mod tests;
