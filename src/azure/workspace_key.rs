//! The shared-key signature of the HTTP Data Collector API.
//!
//! It covers the body's length in bytes, not characters: an alert that names a
//! café is one byte longer than it looks, and a signature over the shorter
//! number is answered 403.
//! <https://learn.microsoft.com/previous-versions/azure/azure-monitor/logs/data-collector-api>

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};

use super::signature::{keyed, sign};

/// The workspace key is not base64; every request would be refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the workspace key is not base64")]
pub struct BadKey;

/// The value of the `Authorization` header for a `POST` to `/api/logs` of
/// `body_bytes` bytes of `application/json`, sent with `x-ms-date: {date}`.
///
/// The service refuses a date more than 15 minutes from its own clock.
///
/// # Errors
///
/// [`BadKey`] if `key` is not the base64 text the portal shows.
pub fn authorization(
    workspace: &str,
    key: &SecretString,
    body_bytes: usize,
    date: &str,
) -> Result<SecretString, BadKey> {
    let key = STANDARD.decode(key.expose_secret()).map_err(|_position| BadKey)?;
    let text = format!("POST\n{body_bytes}\napplication/json\nx-ms-date:{date}\n/api/logs");
    Ok(format!("SharedKey {workspace}:{}", sign(&keyed(&key), &text)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw==";

    #[test]
    fn the_signature_covers_bytes_and_not_characters() {
        let body = r#"[{"name":"café"}]"#;
        let header =
            authorization("ws", &KEY.into(), body.len(), "Mon, 04 Apr 2016 08:00:00 GMT").unwrap();
        assert_eq!(
            header.expose_secret(),
            "SharedKey ws:NjwIan7oZe4xG2QD+cvjInFeu7/tnwSvoWz21tjvQiw="
        );
    }

    #[test]
    fn a_key_that_is_not_base64_is_said_to_be_so_without_showing_it() {
        let error = authorization("ws", &"hunter2!".into(), 1, "now").unwrap_err();
        assert_eq!(error.to_string(), "the workspace key is not base64");
    }
}
