//! Several changes as one transaction: `POST $batch` with one change set.
//!
//! At most 100 rows of one partition, each named once, in at most 4 MiB. The
//! answer is 202 even when the transaction failed: each part carries its own
//! status, and a failed transaction is answered with the one part that failed.
//! <https://learn.microsoft.com/rest/api/storageservices/performing-entity-group-transactions>

use reqwest::Method;
use url::Url;

use super::table_call::Failed;
use super::table_wire::{at, error_code, row_url, to_json};
use super::{Change, ETag};

/// Bytes of one transaction on the wire at most.
pub(super) const MAX_BYTES: usize = 4 * 1024 * 1024;

/// How one change is asked for, alone or in a transaction.
#[derive(Debug)]
pub(super) struct Operation<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) if_match: Option<&'a str>,
    pub(super) body: Option<String>,
}

pub(super) fn operation<'a>(base: &Url, table: &str, change: &'a Change) -> Operation<'a> {
    match change {
        Change::Insert { key, fields } => Operation {
            method: Method::POST,
            url: at(base, table),
            if_match: None,
            body: Some(to_json(key, fields)),
        },
        Change::Replace { key, etag, fields } => Operation {
            method: Method::PUT,
            url: row_url(base, table, key),
            if_match: Some(&etag.0),
            body: Some(to_json(key, fields)),
        },
        Change::Delete { key, etag } => Operation {
            method: Method::DELETE,
            url: row_url(base, table, key),
            if_match: Some(&etag.0),
            body: None,
        },
    }
}

/// What `changes` come to on the wire, but for the length of the account's
/// address in each: room for a longer one is counted in.
pub(super) fn size(changes: &[Change]) -> usize {
    const AROUND_EACH: usize = 600;
    let wire = |change: &Change| {
        let body = change.fields().map(|fields| to_json(change.key(), fields).len());
        AROUND_EACH + 3 * change.key().len() + body.unwrap_or(0)
    };
    changes.iter().map(wire).sum()
}

/// The transaction's body. `id` must not occur in any value: a random one.
pub(super) fn render(base: &Url, table: &str, changes: &[Change], id: &str) -> String {
    let part = |change| {
        let Operation { method, url, if_match, body } = operation(base, table, change);
        let if_match = if_match.map(|etag| format!("If-Match: {etag}\r\n")).unwrap_or_default();
        let prefer = if method == Method::POST { "Prefer: return-no-content\r\n" } else { "" };
        let kind = if body.is_some() { "Content-Type: application/json\r\n" } else { "" };
        let body = body.unwrap_or_default();
        format!(
            "--changeset_{id}\r\nContent-Type: application/http\r\n\
             Content-Transfer-Encoding: binary\r\n\r\n\
             {method} {url} HTTP/1.1\r\nAccept: application/json;odata=minimalmetadata\r\n\
             DataServiceVersion: 3.0;\r\n{if_match}{prefer}{kind}\r\n{body}\r\n"
        )
    };
    let parts: String = changes.iter().map(part).collect();
    format!(
        "--batch_{id}\r\nContent-Type: multipart/mixed; boundary=changeset_{id}\r\n\r\n\
         {parts}--changeset_{id}--\r\n--batch_{id}--\r\n"
    )
}

/// One part of the answer.
struct Part<'a> {
    status: u16,
    etag: Option<&'a str>,
    body: String,
}

/// What the transaction came to: a version for each change, `None` for a
/// deletion.
pub(super) fn read(
    status: u16,
    body: &[u8],
    changes: &[Change],
) -> Result<Vec<Option<ETag>>, Failed> {
    let unreadable = || Failed::Unreadable { status };
    let text = String::from_utf8_lossy(body);
    let parts = parts(&text).ok_or_else(unreadable)?;
    for part in &parts {
        if !(200..300).contains(&part.status) {
            let code = error_code(part.body.as_bytes());
            return Err(Failed::Refused { status: part.status, code, after: None });
        }
    }
    if parts.len() != changes.len() {
        return Err(unreadable());
    }
    let version = |(part, change): (Part<'_>, &Change)| match (change, part.etag) {
        (Change::Delete { .. }, _) => Ok(None),
        (_, Some(etag)) => Ok(Some(ETag(etag.to_owned()))),
        (_, None) => Err(unreadable()),
    };
    parts.into_iter().zip(changes).map(version).collect()
}

/// A part begins with its status line; its body ends at the next boundary.
/// Neither can begin a line of a body: those are one line of JSON.
fn parts(text: &str) -> Option<Vec<Part<'_>>> {
    let mut parts: Vec<Part<'_>> = Vec::new();
    let mut in_headers = false;
    let mut in_body = false;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
            let status = rest.split(' ').next().and_then(|status| status.parse().ok())?;
            parts.push(Part { status, etag: None, body: String::new() });
            (in_headers, in_body) = (true, false);
        } else if line.starts_with("--") {
            (in_headers, in_body) = (false, false);
        } else if let Some(part) = parts.last_mut() {
            if in_headers {
                match line.split_once(':') {
                    Some((name, value)) if name.eq_ignore_ascii_case("etag") => {
                        part.etag = Some(value.trim());
                    }
                    Some(_) => {}
                    None => (in_headers, in_body) = (false, true),
                }
            } else if in_body {
                part.body.push_str(line);
            }
        }
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::super::{Fields, Value};
    use super::*;

    fn changes() -> [Change; 3] {
        let etag = || ETag("W/\"datetime'1'\"".to_owned());
        let fields = || Fields::from([("on".to_owned(), Value::Bool(true))]);
        [
            Change::Insert { key: "a".to_owned(), fields: fields() },
            Change::Replace { key: "b'".to_owned(), etag: etag(), fields: fields() },
            Change::Delete { key: "c".to_owned(), etag: etag() },
        ]
    }

    const SENT: &str = r#"--batch_1
Content-Type: multipart/mixed; boundary=changeset_1

--changeset_1
Content-Type: application/http
Content-Transfer-Encoding: binary

POST https://trust.table.core.windows.net/state HTTP/1.1
Accept: application/json;odata=minimalmetadata
DataServiceVersion: 3.0;
Prefer: return-no-content
Content-Type: application/json

{"PartitionKey":"CachedValue","RowKey":"a","on":true}
--changeset_1
Content-Type: application/http
Content-Transfer-Encoding: binary

PUT https://trust.table.core.windows.net/state(PartitionKey='CachedValue',RowKey='b%27%27') HTTP/1.1
Accept: application/json;odata=minimalmetadata
DataServiceVersion: 3.0;
If-Match: W/"datetime'1'"
Content-Type: application/json

{"PartitionKey":"CachedValue","RowKey":"b'","on":true}
--changeset_1
Content-Type: application/http
Content-Transfer-Encoding: binary

DELETE https://trust.table.core.windows.net/state(PartitionKey='CachedValue',RowKey='c') HTTP/1.1
Accept: application/json;odata=minimalmetadata
DataServiceVersion: 3.0;
If-Match: W/"datetime'1'"


--changeset_1--
--batch_1--
"#;

    #[test]
    fn a_transaction_is_one_change_set() {
        let base = Url::parse("https://trust.table.core.windows.net/").unwrap();
        let sent = render(&base, "state", &changes(), "1");
        assert_eq!(sent, SENT.replace('\n', "\r\n"));
        assert!(size(&changes()) > sent.len(), "what is counted covers what is sent");
    }

    fn answered(parts: &[&str]) -> Result<Vec<Option<ETag>>, Failed> {
        let part =
            |part| format!("--changesetresponse_1\nContent-Type: application/http\n\n{part}\n");
        let parts: String = parts.iter().map(part).collect();
        let body = format!(
            "--batchresponse_1\nContent-Type: multipart/mixed; boundary=changesetresponse_1\n\n\
             {parts}--changesetresponse_1--\n--batchresponse_1--\n"
        );
        read(202, body.replace('\n', "\r\n").as_bytes(), &changes())
    }

    const DONE: &str = "HTTP/1.1 204 No Content\nETag: W/\"2\"\nDataServiceVersion: 3.0;\n\n";

    #[test]
    fn each_part_of_the_answer_is_a_rows_new_version() {
        let deleted = "HTTP/1.1 204 No Content\nDataServiceVersion: 3.0;\n\n";
        let versions = answered(&[DONE, DONE, deleted]).unwrap();
        let two = || Some(ETag("W/\"2\"".to_owned()));
        assert_eq!(versions, [two(), two(), None]);
    }

    #[test]
    fn one_failed_part_is_the_whole_transactions_failure() {
        let failed = "HTTP/1.1 412 Precondition Failed\nContent-Type: application/json\n\n\
             {\"odata.error\":{\"code\":\"UpdateConditionNotSatisfied\",\"message\":\
             {\"lang\":\"en-US\",\"value\":\"1:HTTP/1.1 204 no.\"}}}\n";
        for parts in [&[failed][..], &[DONE, failed, DONE]] {
            match answered(parts) {
                Err(Failed::Refused { status: 412, code, .. }) => {
                    assert_eq!(code, "UpdateConditionNotSatisfied");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn an_answer_for_fewer_rows_or_without_versions_is_not_a_success() {
        let unversioned = "HTTP/1.1 204 No Content\n\n";
        let cases: [&[&str]; 5] = [
            &[],
            &[DONE, DONE],
            &[DONE, DONE, DONE, DONE],
            &[DONE, unversioned, DONE],
            &[DONE, DONE, "HTTP/1.1 fine\n\n"],
        ];
        for parts in cases {
            let result = answered(parts);
            assert!(matches!(result, Err(Failed::Unreadable { status: 202 })), "{result:?}");
        }
    }
}
