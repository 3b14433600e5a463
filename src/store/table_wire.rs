//! Rows as the Table service writes them in JSON.
//!
//! Whole metadata is asked for: only it is documented to carry every row's
//! ETag and every value's type. Types this program never writes (times, GUIDs,
//! fractions) are read as text, because the partition is shared with the
//! predecessor.
//! <https://learn.microsoft.com/rest/api/storageservices/payload-format-for-table-service-operations>

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value as Json};
use url::Url;

use super::{ETag, Fields, Row, StoreError, Value};
use crate::azure::storage::plain_code;

/// The predecessor's partition, so that its row and ours fit one transaction.
pub(super) const PARTITION: &str = "CachedValue";

/// What a page's or a row's answer is asked to look like.
pub(super) const ACCEPT: &str = "application/json;odata=fullmetadata";

/// `{base}{table}(PartitionKey='CachedValue',RowKey='{key}')`.
pub(super) fn row_url(base: &Url, table: &str, key: &str) -> Url {
    let key = escaped(&key.replace('\'', "''"));
    at(base, &format!("{table}(PartitionKey='{PARTITION}',RowKey='{key}')"))
}

/// `{base}{rest}`; `rest` is percent-encoded already.
pub(super) fn at(base: &Url, rest: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{rest}", base.path()));
    url
}

/// The rows with `from <= key < to`, from the page that `next` names on.
pub(super) fn page_url(base: &Url, table: &str, range: (&str, &str), next: &Next) -> Url {
    let quoted = |key: &str| format!("'{}'", key.replace('\'', "''"));
    let filter = format!(
        "PartitionKey eq '{PARTITION}' and RowKey ge {} and RowKey lt {}",
        quoted(range.0),
        quoted(range.1)
    );
    let mut query = format!("$filter={}", escaped(&filter));
    let marks = [("NextPartitionKey", &next.partition), ("NextRowKey", &next.row)];
    for (name, mark) in marks {
        if let Some(mark) = mark {
            query.extend(["&", name, "=", &escaped(mark)]);
        }
    }
    let mut url = at(base, &format!("{table}()"));
    url.set_query(Some(&query));
    url
}

/// Where the next page begins, from the two `x-ms-continuation-` headers. No
/// mark, no next page; a page itself may be empty.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Next {
    pub(super) partition: Option<String>,
    pub(super) row: Option<String>,
}

/// Everything but letters, digits and `-_.~` as `%XX`.
fn escaped(text: &str) -> String {
    let escape = |byte: u8| {
        let plain = byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
        if plain { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(escape).collect()
}

/// A row's JSON, as inserts and replacements send it.
pub(super) fn to_json(key: &str, fields: &Fields) -> String {
    let mut row = Map::new();
    row.insert("PartitionKey".into(), PARTITION.into());
    row.insert("RowKey".into(), key.into());
    for (name, value) in fields {
        let (kind, value) = match value {
            Value::Text(text) => (None, Json::from(text.as_str())),
            Value::Bytes(bytes) => (Some("Edm.Binary"), STANDARD.encode(bytes).into()),
            // As text: JSON numbers are 32 bits wide here.
            Value::Int(number) => (Some("Edm.Int64"), number.to_string().into()),
            Value::Bool(truth) => (None, Json::from(*truth)),
        };
        if let Some(kind) = kind {
            row.insert(format!("{name}@odata.type"), kind.into());
        }
        row.insert(name.clone(), value);
    }
    Json::Object(row).to_string()
}

/// The JSON of one answer: a row, or a page of rows in `value`.
#[derive(Deserialize)]
struct Page {
    value: Vec<Map<String, Json>>,
}

/// The rows of a page. `None` if the answer is no page.
pub(super) fn page(body: &[u8]) -> Option<Vec<Map<String, Json>>> {
    serde_json::from_slice(body).ok().map(|page: Page| page.value)
}

/// One row. `None` if the answer is no row.
pub(super) fn single(body: &[u8]) -> Option<Map<String, Json>> {
    serde_json::from_slice(body).ok()
}

/// A row's key; `None` if it is no row of our partition.
pub(super) fn key_of(row: &Map<String, Json>) -> Option<&str> {
    let text = |name| row.get(name).and_then(Json::as_str);
    text("RowKey").filter(|_| text("PartitionKey") == Some(PARTITION))
}

/// Reads a row's values. `etag` is the answer's own header; a page's rows
/// carry theirs inside.
pub(super) fn row(
    key: &str,
    etag: Option<&str>,
    json: &Map<String, Json>,
) -> Result<Row, StoreError> {
    let corrupt = |what| StoreError::Corrupt { row: key.to_owned(), what };
    let etag = etag
        .or_else(|| json.get("odata.etag").and_then(Json::as_str))
        .ok_or_else(|| corrupt("no ETag"))?;
    let mut fields = Fields::new();
    for (name, held) in json {
        let of_the_service = matches!(name.as_str(), "PartitionKey" | "RowKey" | "Timestamp");
        if of_the_service || name.contains("odata.") {
            continue;
        }
        let kind = json.get(&format!("{name}@odata.type")).and_then(Json::as_str);
        if let Some(value) = value(kind, held).map_err(corrupt)? {
            fields.insert(name.clone(), value);
        }
    }
    Ok(Row { key: key.to_owned(), etag: ETag(etag.to_owned()), fields })
}

fn value(kind: Option<&str>, held: &Json) -> Result<Option<Value>, &'static str> {
    Ok(Some(match (kind, held) {
        (_, Json::Null) => return Ok(None),
        (Some("Edm.Binary"), Json::String(text)) => {
            Value::Bytes(STANDARD.decode(text).map_err(|_garbage| "binary that is not base64")?)
        }
        (Some("Edm.Int64"), Json::String(text)) => {
            Value::Int(text.parse().map_err(|_garbage| "a whole number that is none")?)
        }
        (_, Json::String(text)) => Value::Text(text.clone()),
        (_, Json::Bool(truth)) => Value::Bool(*truth),
        (_, Json::Number(number)) => match number.as_i64() {
            Some(number) if kind != Some("Edm.Double") => Value::Int(number),
            Some(_) | None => Value::Text(number.to_string()),
        },
        (_, Json::Array(_) | Json::Object(_)) => return Err("a value no table can hold"),
    }))
}

/// Azure's error code from an error body: letters and digits, else nothing.
pub(super) fn error_code(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Body {
        #[serde(rename = "odata.error")]
        error: Error,
    }
    #[derive(Deserialize)]
    struct Error {
        code: String,
    }
    let code = serde_json::from_slice(body).map(|body: Body| body.error.code);
    plain_code(code.as_deref().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Url {
        Url::parse("http://127.0.0.1:10002/devstoreaccount1/").unwrap()
    }

    #[test]
    fn a_quote_in_a_key_is_doubled_and_the_rest_is_escaped() {
        assert_eq!(
            row_url(&base(), "state", "o'brien|a b%").as_str(),
            "http://127.0.0.1:10002/devstoreaccount1/state(PartitionKey='CachedValue',RowKey='o%27%27brien%7Ca%20b%25')"
        );
    }

    #[test]
    fn a_page_is_asked_for_by_range_and_mark() {
        let next = Next { partition: Some("1!8!Q2FjaA--".into()), row: Some("1!4!YQ--".into()) };
        assert_eq!(
            page_url(&base(), "state", ("a'", "b"), &next).as_str(),
            "http://127.0.0.1:10002/devstoreaccount1/state()?$filter=PartitionKey%20eq%20%27CachedValue%27%20and%20RowKey%20ge%20%27a%27%27%27%20and%20RowKey%20lt%20%27b%27&NextPartitionKey=1%218%21Q2FjaA--&NextRowKey=1%214%21YQ--"
        );
    }

    #[test]
    fn a_row_is_written_with_the_types_json_lacks() {
        let fields = Fields::from([
            ("bytes".to_owned(), Value::Bytes(vec![0, 255])),
            ("count".to_owned(), Value::Int(i64::MAX)),
            ("on".to_owned(), Value::Bool(true)),
            ("text".to_owned(), Value::Text("a\"b".into())),
        ]);
        assert_eq!(
            to_json("k", &fields),
            r#"{"PartitionKey":"CachedValue","RowKey":"k","bytes":"AP8=","bytes@odata.type":"Edm.Binary","count":"9223372036854775807","count@odata.type":"Edm.Int64","on":true,"text":"a\"b"}"#
        );
    }

    #[test]
    fn types_this_program_never_writes_are_read_as_text() {
        let json = r#"{"odata.etag":"W/\"1\"","odata.type":"x","PartitionKey":"CachedValue","RowKey":"k",
            "Timestamp@odata.type":"Edm.DateTime","Timestamp":"2026-11-21T10:00:00Z",
            "when@odata.type":"Edm.DateTime","when":"2026-11-21T10:00:00Z",
            "id@odata.type":"Edm.Guid","id":"c9da6455-213d-42c9-9a79-3e9149a57833",
            "ratio":1.5,"whole@odata.type":"Edm.Double","whole":2,"nan@odata.type":"Edm.Double","nan":"NaN",
            "small":7,"gone":null}"#;
        let read = row("k", None, &single(json.as_bytes()).unwrap()).unwrap();
        assert_eq!(read.etag, ETag("W/\"1\"".into()));
        let shown: Vec<_> =
            read.fields.iter().map(|(name, value)| format!("{name} {value:?}")).collect();
        assert_eq!(
            shown,
            [
                r#"id Text("c9da6455-213d-42c9-9a79-3e9149a57833")"#,
                r#"nan Text("NaN")"#,
                r#"ratio Text("1.5")"#,
                "small Int(7)",
                r#"when Text("2026-11-21T10:00:00Z")"#,
                r#"whole Text("2")"#,
            ]
        );
    }

    #[test]
    fn a_value_that_is_not_its_type_names_the_row() {
        let json = r#"{"odata.etag":"1","b@odata.type":"Edm.Binary","b":"%%"}"#;
        let error = row("k", None, &single(json.as_bytes()).unwrap()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the stored row `k` cannot be read: binary that is not base64"
        );
    }

    #[test]
    fn an_error_code_is_a_word_or_nothing() {
        let body = r#"{"odata.error":{"code":"TableNotFound","message":{"value":"secret"}}}"#;
        assert_eq!(error_code(body.as_bytes()), "TableNotFound");
        assert_eq!(error_code(br#"{"odata.error":{"code":"a b <script>"}}"#), "");
        assert_eq!(error_code(b"<html>"), "");
    }
}
