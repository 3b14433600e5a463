//! The part of OData both lists of alerts document: `$filter` with `eq`, `ne`,
//! `gt`, `ge`, `lt`, `le`, `and`, `or` and parentheses.
//! <https://learn.microsoft.com/defender-endpoint/api/exposed-apis-odata-samples>,
//! <https://learn.microsoft.com/graph/filter-query-parameter>

use std::iter::Peekable;
use std::ops::Bound;

use crate::domain::timestamp::Timestamp;

/// A condition on one alert.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Filter {
    /// Both.
    And(Box<Self>, Box<Self>),
    /// Either or both.
    Or(Box<Self>, Box<Self>),
    /// A time against a literal, to the tick.
    Time(TimeField, Operator, Timestamp),
    /// A text against a quoted literal: `eq` and `ne` only.
    Text(TextField, Operator, String),
}

/// A member that is a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TimeField {
    /// Of the last update.
    Updated,
    /// Of the creation.
    Created,
}

/// A member that is a text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TextField {
    /// `id`.
    Id,
    /// `status`.
    Status,
    /// `severity`.
    Severity,
    /// `serviceSource`: the product that made it.
    Service,
}

/// How one API names what can be filtered by.
#[derive(Debug)]
pub struct Dialect {
    /// Its members that are times.
    pub times: &'static [(&'static str, TimeField)],
    /// Its members that are texts.
    pub texts: &'static [(&'static str, TextField)],
    /// Whether words of enums begin with a small letter.
    pub small_words: bool,
}

/// Defender's.
/// <https://learn.microsoft.com/defender-endpoint/api/get-alerts>
pub const DEFENDER: Dialect = Dialect {
    times: &[("lastUpdateTime", TimeField::Updated), ("alertCreationTime", TimeField::Created)],
    texts: &[
        ("id", TextField::Id),
        ("status", TextField::Status),
        ("severity", TextField::Severity),
    ],
    small_words: false,
};

/// Graph's. Its `id` cannot be filtered by.
/// <https://learn.microsoft.com/graph/api/security-list-alerts_v2>
pub const GRAPH: Dialect = Dialect {
    times: &[("lastUpdateDateTime", TimeField::Updated), ("createdDateTime", TimeField::Created)],
    texts: &[
        ("serviceSource", TextField::Service),
        ("status", TextField::Status),
        ("severity", TextField::Severity),
    ],
    small_words: true,
};

/// A comparison.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Operator {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Later.
    Gt,
    /// Later or equal.
    Ge,
    /// Earlier.
    Lt,
    /// Earlier or equal.
    Le,
}

/// The text is not such a filter; Defender answers 400 `ODataError`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct BadFilter(pub &'static str);

/// An alert as a filter sees it.
pub trait Filtered {
    /// A time; `None` if the alert has none, which compares to nothing.
    fn time(&self, field: TimeField) -> Option<Timestamp>;
    /// A text.
    fn text(&self, field: TextField) -> Option<&str>;
}

impl Dialect {
    /// A member that is a time. Names are case-sensitive.
    pub fn time(&self, name: &str) -> Option<TimeField> {
        self.times.iter().find(|(known, _)| *known == name).map(|(_, field)| *field)
    }

    fn text(&self, name: &str) -> Option<TextField> {
        self.texts.iter().find(|(known, _)| *known == name).map(|(_, field)| *field)
    }

    /// A word of the dialect as it is stored, which is Defender's; `None` if it
    /// is none of its words.
    fn word(&self, word: &str) -> Option<String> {
        let mut letters = word.chars();
        match letters.next() {
            Some(first) if self.small_words => first
                .is_ascii_lowercase()
                .then(|| first.to_ascii_uppercase().to_string() + letters.as_str()),
            _ => Some(word.to_owned()),
        }
    }
}

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    ///
    /// [`BadFilter`] for unknown members and operators, a quoted time, a time
    /// without `Z`, an unquoted text, or anything left over.
    pub fn parse(text: &str, dialect: &Dialect) -> Result<Self, BadFilter> {
        let words = words(text)?;
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let mut words = words.into_iter().peekable();
        let filter = either(&mut words, dialect)?;
        match words.next() {
            None => Ok(filter),
            Some(_) => Err(BadFilter("something follows the filter")),
        }
    }

    /// Whether `alert` is wanted.
    pub fn holds(&self, alert: &impl Filtered) -> bool {
        match self {
            Self::And(a, b) => a.holds(alert) && b.holds(alert),
            Self::Or(a, b) => a.holds(alert) || b.holds(alert),
            Self::Time(field, operator, literal) => {
                alert.time(*field).is_some_and(|time| operator.compare(&time, literal))
            }
            Self::Text(field, operator, literal) => {
                alert.text(*field).is_some_and(|text| operator.compare(text, literal.as_str()))
            }
        }
    }

    /// A span of update time that holds everything wanted.
    pub fn updated(&self) -> (Bound<Timestamp>, Bound<Timestamp>) {
        match self {
            Self::And(a, b) => {
                let ((from, to), (other_from, other_to)) = (a.updated(), b.updated());
                // The narrower side is not needed: either holds everything.
                (from_side(from, other_from), from_side(to, other_to))
            }
            Self::Time(TimeField::Updated, operator, at) => match operator {
                Operator::Eq => (Bound::Included(*at), Bound::Included(*at)),
                Operator::Ge | Operator::Gt => (Bound::Included(*at), Bound::Unbounded),
                Operator::Lt | Operator::Le => (Bound::Unbounded, Bound::Included(*at)),
                Operator::Ne => (Bound::Unbounded, Bound::Unbounded),
            },
            Self::Or(..) | Self::Time(..) | Self::Text(..) => (Bound::Unbounded, Bound::Unbounded),
        }
    }
}

fn from_side(one: Bound<Timestamp>, other: Bound<Timestamp>) -> Bound<Timestamp> {
    if one == Bound::Unbounded { other } else { one }
}

impl Operator {
    fn named(name: &str) -> Option<Self> {
        match name {
            "eq" => Some(Self::Eq),
            "ne" => Some(Self::Ne),
            "gt" => Some(Self::Gt),
            "ge" => Some(Self::Ge),
            "lt" => Some(Self::Lt),
            "le" => Some(Self::Le),
            _ => None,
        }
    }

    fn compare<T: Ord + ?Sized>(self, value: &T, literal: &T) -> bool {
        match self {
            Self::Eq => value == literal,
            Self::Ne => value != literal,
            Self::Gt => value > literal,
            Self::Ge => value >= literal,
            Self::Lt => value < literal,
            Self::Le => value <= literal,
        }
    }
}

/// Words, parentheses and quoted texts; the latter with their first quote.
fn words(text: &str) -> Result<Vec<String>, BadFilter> {
    let mut words = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(first) = rest.next() {
        match first {
            ' ' => {}
            '(' | ')' => words.push(first.to_string()),
            '\'' => {
                let mut word = String::from('\'');
                loop {
                    match rest.next() {
                        None => return Err(BadFilter("a quote is not closed")),
                        Some('\'') if rest.next_if_eq(&'\'').is_none() => break,
                        Some(letter) => word.push(letter),
                    }
                }
                words.push(word);
            }
            _ => {
                let mut word = String::from(first);
                while let Some(letter) = rest.next_if(|letter| !" ()'".contains(*letter)) {
                    word.push(letter);
                }
                words.push(word);
            }
        }
    }
    Ok(words)
}

type Words<'w> = Peekable<std::vec::IntoIter<&'w str>>;

fn either(words: &mut Words<'_>, dialect: &Dialect) -> Result<Filter, BadFilter> {
    let mut filter = both(words, dialect)?;
    while words.next_if_eq(&"or").is_some() {
        filter = Filter::Or(Box::new(filter), Box::new(both(words, dialect)?));
    }
    Ok(filter)
}

fn both(words: &mut Words<'_>, dialect: &Dialect) -> Result<Filter, BadFilter> {
    let mut filter = one(words, dialect)?;
    while words.next_if_eq(&"and").is_some() {
        filter = Filter::And(Box::new(filter), Box::new(one(words, dialect)?));
    }
    Ok(filter)
}

fn one(words: &mut Words<'_>, dialect: &Dialect) -> Result<Filter, BadFilter> {
    const SHORT: BadFilter = BadFilter("the filter ends early");
    if words.next_if_eq(&"(").is_some() {
        let filter = either(words, dialect)?;
        return words
            .next_if_eq(&")")
            .map(|_| filter)
            .ok_or(BadFilter("a parenthesis is not closed"));
    }
    let field = words.next().ok_or(SHORT)?;
    let operator = words.next().ok_or(SHORT)?;
    let operator = Operator::named(operator).ok_or(BadFilter("unknown operator"))?;
    let literal = words.next().ok_or(SHORT)?;
    if let Some(field) = dialect.time(field) {
        let time = literal.strip_suffix('Z').and_then(|_| literal.parse().ok());
        let time = time.ok_or(BadFilter("not an unquoted time in UTC"))?;
        return Ok(Filter::Time(field, operator, time));
    }
    let field = dialect.text(field).ok_or(BadFilter("no such member to filter by"))?;
    let text = literal.strip_prefix('\'').ok_or(BadFilter("a text is not quoted"))?;
    let text = match field {
        TextField::Status | TextField::Severity => dialect.word(text),
        TextField::Id | TextField::Service => Some(text.to_owned()),
    };
    let text = text.ok_or(BadFilter("no such word"))?;
    match operator {
        Operator::Eq | Operator::Ne => Ok(Filter::Text(field, operator, text)),
        Operator::Gt | Operator::Ge | Operator::Lt | Operator::Le => {
            Err(BadFilter("texts have no order"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct One;

    impl Filtered for One {
        fn time(&self, field: TimeField) -> Option<Timestamp> {
            let text = match field {
                TimeField::Updated => "2026-11-19T08:41:53.17Z",
                TimeField::Created => "2026-11-19T08:00:00Z",
            };
            text.parse().ok()
        }

        fn text(&self, field: TextField) -> Option<&str> {
            Some(match field {
                TextField::Id => "da1's",
                TextField::Status => "New",
                TextField::Severity => "High",
                TextField::Service => "microsoftDefenderForEndpoint",
            })
        }
    }

    #[test]
    fn what_is_documented_can_be_asked() {
        let cases = [
            ("lastUpdateTime ge 2026-11-19T08:41:53.17Z", true),
            ("lastUpdateTime gt 2026-11-19T08:41:53.17Z", false),
            ("lastUpdateTime lt 2026-11-19T08:41:53.1700001Z", true),
            ("lastUpdateTime le 2026-11-19T08:41:53.1699999Z", false),
            ("status eq 'New' and severity eq 'Low'", false),
            ("status eq 'New' or severity eq 'Low' and id eq 'x'", true),
            ("(status eq 'New' or severity eq 'Low') and id eq 'x'", false),
            ("id eq 'da1''s'", true),
            ("severity ne 'High'", false),
            ("alertCreationTime eq 2026-11-19T08:00:00Z", true),
        ];
        for (text, expected) in cases {
            assert_eq!(Filter::parse(text, &DEFENDER).unwrap().holds(&One), expected, "{text}");
        }
    }

    #[test]
    fn graph_has_names_and_words_of_its_own() {
        let cases = [
            ("lastUpdateDateTime ge 2026-11-19T08:41:53.17Z", Some(true)),
            ("createdDateTime lt 2026-11-19T08:00:00Z", Some(false)),
            ("serviceSource eq 'microsoftDefenderForEndpoint' and severity eq 'high'", Some(true)),
            ("serviceSource eq 'microsoftDefenderForOffice365'", Some(false)),
            ("severity eq 'High'", None),
            ("id eq 'da1'", None),
            ("lastUpdateTime ge 2026-11-19T08:41:53.17Z", None),
        ];
        for (text, expected) in cases {
            let filter = Filter::parse(text, &GRAPH).ok();
            assert_eq!(filter.map(|filter| filter.holds(&One)), expected, "{text}");
        }
        assert!(Filter::parse("serviceSource eq 'x'", &DEFENDER).is_err());
    }

    #[test]
    fn what_is_not_documented_is_refused() {
        for text in [
            "",
            "rbacGroupName eq 'RXX'",
            "LastUpdateTime ge 2026-11-19T08:41:53Z",
            "lastUpdateTime ge '2026-11-19T08:41:53Z'",
            "lastUpdateTime ge 2026-11-19T08:41:53+00:00",
            "lastUpdateTime ge 2026-11-19",
            "lastUpdateTime since 2026-11-19T08:41:53Z",
            "status eq New",
            "status gt 'New'",
            "status eq 'New",
            "(status eq 'New'",
            "status eq 'New' and",
            "status eq 'New' status",
        ] {
            assert!(Filter::parse(text, &DEFENDER).is_err(), "{text}");
        }
    }
}
