//! Why the registry does not accept a signing key.

/// The error for a text that is not a signing key that clients accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is too long.
    #[error("the key is larger than 32 KiB; export it with `gpg --export-options export-minimal`")]
    TooLarge,
    /// The text is not an armored key.
    #[error("the key must be one ASCII-armored block, as `gpg --armor --export KEYID` writes it")]
    NotArmored,
    /// Text precedes or follows the armored block.
    #[error("the key must be one armored block without text before or after it")]
    TextAround,
    /// The text has a private key.
    #[error(
        "the text has a private key; send the public key, as `gpg --armor --export KEYID` writes it, and consider the private key stolen"
    )]
    Private,
    /// The text has several keys.
    #[error("the text has several keys; add each key in a request of its own")]
    Several,
    /// The key cannot be parsed.
    #[error("the key is damaged, or has parts that clients do not know")]
    Malformed,
    /// The key has another version.
    #[error("the key must be an OpenPGP key of version 4, because clients read no other")]
    Version,
    /// The algorithm is weak, or a client does not know it.
    #[error("the key has the algorithm {0}; use RSA with 4096 bits")]
    Algorithm(String),
    /// The key is too short.
    #[error("the RSA key has {0} bits; the minimum is 2048, and 4096 are recommended")]
    WeakRsa(u16),
    /// A signature of the key over its own parts is invalid.
    #[error("the key has an invalid signature over one of its own parts")]
    BrokenSignature,
    /// The signatures of the key over its own user ids have a weak hash.
    #[error("the key signs its user ids only with {0}; sign them again with SHA-256 or SHA-512")]
    WeakHash(String),
    /// No valid user id.
    #[error("the key has no user id that it signed and did not revoke")]
    NoUserId,
    /// The key is revoked.
    #[error("the key is revoked")]
    Revoked,
    /// The key is expired.
    #[error("the key expired at {}", time(*.0))]
    Expired(i64),
    /// A signing subkey did not sign the primary key, so another key's subkey could be adopted.
    #[error("the signing subkey `{0}` has no valid signature over its primary key")]
    NoBackSignature(String),
    /// No part of the key can sign data.
    #[error("the key cannot sign data: neither the primary key nor a subkey has the usage `sign`")]
    CannotSign,
    /// The key is from the future.
    #[error("the key, or its signature over itself, has a time in the future")]
    FromFuture,
}

/// Returns a time for an error, in UTC.
fn time(at: i64) -> String {
    chrono::DateTime::from_timestamp(at, 0)
        .map_or_else(|| at.to_string(), |at| at.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}
