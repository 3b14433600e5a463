//! One request of the S3 library, over this process's one HTTP client.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};
use reqwest::{Body, StatusCode};

use super::answer::{LARGEST_ANSWER, PostError, Refusal};
use crate::clock::Clock;
use crate::http::{Http, read_at_most, retry_after};

/// Gives the library our client in place of one of its own.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    pub(super) http: Http,
    pub(super) clock: Clock,
}

impl HttpConnector for Connector {
    fn connect(&self, _ours_are_set: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

/// What went wrong, on its way through the library's own errors.
#[derive(Debug)]
pub(super) struct Kept(Mutex<Option<PostError>>);

impl Kept {
    /// What went wrong; `None` if it was taken before.
    pub(super) fn take(&self) -> Option<PostError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the object was not stored")
    }
}

impl std::error::Error for Kept {}

#[async_trait]
impl HttpService for Connector {
    /// Only 200 is handed to the library: a proxy that answers something else
    /// in the service's place must not be believed.
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answered = self.exchange(request).await;
        answered.map_err(|error| {
            // Of this kind the library tries none again.
            HttpError::new(HttpErrorKind::Unknown, Kept(Mutex::new(Some(error))))
        })
    }
}

impl Connector {
    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, PostError> {
        let no_answer = |broken| PostError::NoAnswer { request: None, broken };
        let (head, body) = request.into_parts();
        let request = self
            .http
            .client
            .request(head.method, head.uri.to_string())
            .headers(head.headers)
            .body(Body::wrap(body));
        let answer = self.http.send(request).await.map_err(no_answer)?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let retry_after = retry_after(&headers, self.clock.now().to_utc().into());
        let body = read_at_most(answer, LARGEST_ANSWER).await.map_err(no_answer)?;
        if status != StatusCode::OK {
            let (status, code) = (status.as_u16(), code_in(&body));
            return Err(PostError::Refused(Refusal { status, code, request: None, retry_after }));
        }
        let mut response = HttpResponse::new(HttpResponseBody::from(body));
        *response.headers_mut() = headers;
        Ok(response)
    }
}

/// The text of the first `Code` element; empty if there is none, or it is not a
/// plain word.
fn code_in(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    let is_word =
        |code: &&str| code.len() <= 64 && code.chars().all(|c| c.is_ascii_alphabetic() || c == '.');
    code.map(|(code, _)| code).filter(is_word).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_services_code_and_never_its_message() {
        for (body, code) in [
            ("<Error><Code>NoSuchBucket</Code><Message>x</Message></Error>", "NoSuchBucket"),
            ("<Error><Code>KMS.DisabledException</Code></Error>", "KMS.DisabledException"),
            ("<Error><Message>x</Message><Code>AccessDenied</Code></Error>", "AccessDenied"),
            ("<Error><Code>ward 7 is infected</Code></Error>", ""),
            ("<Error><Code>x", ""),
            ("<html>", ""),
            ("", ""),
        ] {
            assert_eq!(code_in(body.as_bytes()), code, "{body}");
        }
    }
}
