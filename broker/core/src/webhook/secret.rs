//! The secret of a webhook, and the signature of a message, after the specification Standard
//! Webhooks.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

/// The prefix of a secret as text.
const PREFIX: &str = "whsec_";

/// The length of a new secret, in bytes.
const LENGTH: usize = 32;

/// The reason why a text is not the secret of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the secret of the webhook is malformed")]
pub struct SecretError;

/// The secret of a webhook. It signs each message, so that the receiver knows who sent it.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(Zeroizing<Vec<u8>>);

impl WebhookSecret {
    /// Creates a random secret.
    ///
    /// # Errors
    ///
    /// If the system provides no random bytes.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = Zeroizing::new(vec![0; LENGTH]);
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Parses the text of a secret.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let encoded = text.strip_prefix(PREFIX).ok_or(SecretError)?;
        let bytes = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| SecretError)?);
        if bytes.len() == LENGTH { Ok(Self(bytes)) } else { Err(SecretError) }
    }

    /// Returns the secret as text. It is for the store, and for the operator who creates it.
    pub fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{PREFIX}{}", STANDARD.encode(self.0.as_slice())))
    }

    /// Returns the signature of a message that is sent at that time, in Unix seconds: the value of
    /// the header `webhook-signature`.
    pub fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        // HMAC takes a key of any length.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return String::new() };
        mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("WebhookSecret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_secret_is_refused_and_a_random_one_is_read_as_it_was_written() {
        let short = format!("{PREFIX}{}", STANDARD.encode([7; 31]));
        for text in ["", "whsec_", "whsec_x", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", &short] {
            assert_eq!(WebhookSecret::parse(text).err(), Some(SecretError), "{text}");
        }
        let (one, two) = (WebhookSecret::random().unwrap(), WebhookSecret::random().unwrap());
        assert_ne!(one, two);
        assert_eq!(WebhookSecret::parse(&one.expose()), Ok(one.clone()));
        assert_eq!(format!("{one:?}"), "WebhookSecret");
    }

    #[test]
    fn a_signature_covers_the_id_the_time_and_the_body() {
        let secret =
            WebhookSecret::parse(&format!("{PREFIX}{}", STANDARD.encode([7; 32]))).unwrap();
        let signature = secret.sign("evt_1", 1_795_169_472, "{}");
        // `printf 'evt_1.1795169472.{}' | openssl dgst -sha256 -mac hmac -macopt hexkey:0707… -binary | base64`
        assert_eq!(signature, "v1,Vnoh/EcpsSeprH5OHNhK435UAzOV/Z0nmobLPcTiAvc=");
        for other in [
            secret.sign("evt_2", 1_795_169_472, "{}"),
            secret.sign("evt_1", 1_795_169_473, "{}"),
            secret.sign("evt_1", 1_795_169_472, "{ }"),
            WebhookSecret::random().unwrap().sign("evt_1", 1_795_169_472, "{}"),
        ] {
            assert_ne!(other, signature);
        }
    }
}
