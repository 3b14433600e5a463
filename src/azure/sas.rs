//! Shared access signatures of Service Bus and Event Hubs.
//!
//! The signature covers the percent-encoded address and the expiry, with the
//! policy's key used as the text it is (it looks like base64 but must not be
//! decoded).
//! <https://learn.microsoft.com/azure/event-hubs/authenticate-shared-access-signature>

use secrecy::{ExposeSecret as _, SecretString};

use super::signature::{keyed, sign};
use crate::domain::timestamp::Timestamp;

/// The value of the `Authorization` header: the right to use `resource`, and
/// what lies beneath it, until `expires_at` (whole seconds, exclusive).
///
/// `resource` is an address such as `https://ns.servicebus.windows.net/hub`;
/// its scheme and case only have to be what the token itself says.
pub fn token(
    resource: &str,
    policy: &str,
    key: &SecretString,
    expires_at: Timestamp,
) -> SecretString {
    let resource = encode(resource);
    let expiry = expires_at.unix_seconds();
    let keyed = keyed(key.expose_secret().as_bytes());
    let signature = encode(&sign(&keyed, &format!("{resource}\n{expiry}")));
    let policy = encode(policy);
    format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry}&skn={policy}").into()
}

fn encode(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_policy_signs_as_the_service_expects() {
        let token = token(
            "https://ns.servicebus.windows.net/hub",
            "send",
            &"c2VjcmV0LWtleQ==".into(),
            Timestamp::from_unix_seconds(1_800_000_000),
        );
        assert_eq!(
            token.expose_secret(),
            "SharedAccessSignature sr=https%3A%2F%2Fns.servicebus.windows.net%2Fhub\
             &sig=WiyFvPgZ0M%2FRb2u8CdvmzxOUxlyK2col09Eo6t3kzKQ%3D&se=1800000000&skn=send"
        );
    }
}
