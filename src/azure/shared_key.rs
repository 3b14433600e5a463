//! Requests signed with a storage account's key.
//!
//! Both forms are HMAC-SHA256 over a few lines of the request, as
//! <https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key>
//! lays down. A path-style address, as the emulator's, already begins with the
//! account, which the signed resource then names twice. A clock more than 15
//! minutes off makes every signature invalid (403 `AuthenticationFailed`).

use std::collections::BTreeMap;
use std::fmt;

use azure_core::http::Request;
use azure_core::http::headers::HeaderName;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::signature::{Keyed, keyed, sign};

/// The lines of the full form between the verb and the `x-ms-` headers.
/// `content-length` is left empty when it is 0; the date is in `x-ms-date`.
const SIGNED: [&str; 11] = [
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
];

/// The account's key is not base64.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "the AccountKey in AzureWebJobsStorage is not base64; copy the connection string from the storage account again"
)]
pub struct BadKey;

/// A storage account's name and key, ready to sign with.
#[derive(Clone)]
pub struct AccountKey {
    account: String,
    keyed: Keyed,
}

impl fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountKey").field("account", &self.account).finish_non_exhaustive()
    }
}

impl AccountKey {
    /// `key` as a connection string has it, in base64.
    ///
    /// # Errors
    ///
    /// [`BadKey`] if it is not.
    pub fn new(account: &str, key: &SecretString) -> Result<Self, BadKey> {
        let key = STANDARD.decode(key.expose_secret()).map_err(|_garbage| BadKey)?;
        Ok(Self { account: account.to_owned(), keyed: keyed(&key) })
    }

    /// The `Authorization` header of a request to the Table service:
    /// `SharedKeyLite`, which covers the date and the path.
    ///
    /// `date` is the `x-ms-date` header's value. No query is signed: this
    /// product never uses the one parameter that would be, `comp`.
    pub fn table(&self, date: &str, url: &Url) -> String {
        let signature = sign(&self.keyed, &format!("{date}\n/{}{}", self.account, url.path()));
        format!("SharedKeyLite {}:{signature}", self.account)
    }

    /// The `Authorization` header of a request to the Blob service:
    /// `SharedKey`, which covers all headers the service reads. Every header
    /// but this one must be in place, `x-ms-date` too.
    pub fn blob(&self, request: &Request) -> String {
        let signature = sign(&self.keyed, &blob_lines(&self.account, request));
        format!("SharedKey {}:{signature}", self.account)
    }
}

fn blob_lines(account: &str, request: &Request) -> String {
    let mut text = request.method().as_str().to_owned();
    for name in SIGNED {
        let value = request.headers().get_optional_str(&HeaderName::from_static(name));
        text.push('\n');
        match (name, value) {
            ("content-length", Some("0")) => {}
            // Where the client leaves it out, the transport will write it.
            ("content-length", None) => text.push_str(&body_length(request)),
            (_, value) => text.push_str(value.unwrap_or_default()),
        }
    }
    text.push('\n');
    let own: BTreeMap<_, _> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(name, _)| name.starts_with("x-ms-"))
        .collect();
    for (name, value) in own {
        text.extend([name, ":", value.trim(), "\n"]);
    }
    text.extend(["/", account, request.url().path()]);
    let mut query: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in request.url().query_pairs() {
        query.entry(name.to_lowercase()).or_default().push(value.into_owned());
    }
    for (name, mut values) in query {
        values.sort();
        text.extend(["\n", &name, ":", &values.join(",")]);
    }
    text
}

/// A stream of unknown length is sent without one.
fn body_length(request: &Request) -> String {
    let length = request.body().len().filter(|length| *length > 0);
    length.map(|length| length.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use azure_core::http::Method;

    use super::*;

    /// The emulator's well-known key; no secret.
    const KEY: &str =
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
    const DATE: &str = "Mon, 04 Apr 2016 08:00:00 GMT";

    fn key() -> AccountKey {
        AccountKey::new("devstoreaccount1", &KEY.into()).unwrap()
    }

    #[test]
    fn a_table_request_is_signed_over_date_and_path() {
        let url = "http://127.0.0.1:10002/devstoreaccount1/state(PartitionKey='CachedValue',RowKey='QueryEndTime')?$top=1";
        assert_eq!(
            key().table(DATE, &Url::parse(url).unwrap()),
            "SharedKeyLite devstoreaccount1:hU9h+Ls4Y7qCj1r+dvRpx7QLcyPqmjlpu63ZtEYpM4E="
        );
    }

    #[test]
    fn a_blob_request_is_signed_over_its_headers_and_sorted_query() {
        let url = "https://myaccount.blob.core.windows.net/mycontainer?timeout=20&restype=container&comp=metadata";
        let mut request = Request::new(Url::parse(url).unwrap(), Method::Get);
        request.insert_header("x-ms-version", "2015-02-21");
        request.insert_header("x-ms-date", "Fri, 26 Jun 2015 23:39:12 GMT");
        request.insert_header("content-length", "0");
        assert_eq!(
            blob_lines("myaccount", &request),
            "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-version:2015-02-21\n/myaccount/mycontainer\ncomp:metadata\nrestype:container\ntimeout:20"
        );
    }

    #[test]
    fn a_blob_write_is_signed_with_its_length_and_type() {
        let url = "http://127.0.0.1:10000/devstoreaccount1/logs/a%2Fb";
        let mut request = Request::new(Url::parse(url).unwrap(), Method::Put);
        request.insert_header("content-length", "3");
        request.insert_header("content-type", "application/octet-stream");
        request.insert_header("if-none-match", "*");
        request.insert_header("x-ms-date", DATE);
        assert_eq!(
            key().blob(&request),
            "SharedKey devstoreaccount1:65SPdvepg+rz6jYvuxn66g5YWxmLaAP/6qK8TkdFta8="
        );
    }

    #[test]
    fn a_body_is_signed_with_the_length_the_transport_will_write() {
        let url = Url::parse("https://a.blob.core.windows.net/c/b?comp=blocklist").unwrap();
        let mut request = Request::new(url, Method::Put);
        request.set_body("12345".as_bytes().to_vec());
        let lines = blob_lines("a", &request);
        assert_eq!(lines, "PUT\n\n\n5\n\n\n\n\n\n\n\n\n/a/c/b\ncomp:blocklist");
    }

    #[test]
    fn the_key_is_neither_shown_nor_accepted_broken() {
        let shown = format!("{:?}", key());
        assert_eq!(shown, "AccountKey { account: \"devstoreaccount1\", .. }");
        assert_eq!(AccountKey::new("a", &"not base64!".into()).unwrap_err(), BadKey);
    }
}
