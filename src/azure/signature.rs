//! HMAC-SHA256 in base64: how every shared key of Azure signs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// A key, ready to sign with.
pub(super) type Keyed = Hmac<Sha256>;

/// Takes a key of any length.
#[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
pub(super) fn keyed(key: &[u8]) -> Keyed {
    Keyed::new_from_slice(key).expect("any length is taken")
}

/// The signature of `text`.
pub(super) fn sign(keyed: &Keyed, text: &str) -> String {
    STANDARD.encode(keyed.clone().chain_update(text).finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// <https://www.rfc-editor.org/rfc/rfc4231#section-4>, cases 2 and 6.
    #[test]
    fn short_and_long_keys_sign_as_the_standard_says() {
        for (key, text, signature) in [
            (
                &b"Jefe"[..],
                "what do ya want for nothing?",
                "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=",
            ),
            (
                &[0xaa; 131],
                "Test Using Larger Than Block-Size Key - Hash Key First",
                "YOQxWR7gtn8Niiaqy/W3f44LxiE3KMUUBUYEDw7jf1Q=",
            ),
        ] {
            assert_eq!(sign(&keyed(key), text), signature);
        }
    }
}
