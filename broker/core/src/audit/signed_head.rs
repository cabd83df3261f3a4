//! Signed heads: the audit key of a registry signs where a chain of events ended at a time.
//!
//! A signed head names the registry, the chain, the number and the hash of its last event. Someone
//! who can write to the store but has no audit key cannot make one. So a copy outside the store shows
//! whether events up to it are still there.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stile_protocol::exchange::decode_base64url;

use super::{Chain, Head, VERSION};
use crate::clock::{parse_rfc3339, rfc3339};
use crate::critical;

/// The format of a signed head that this program writes, and the newest that it reads.
const FORMAT: u64 = 1;

/// The first bytes of each signed text. They stop a signature of the same key for another purpose
/// from counting as one of a head.
const DOMAIN: &[u8] = b"stile-audit-head:v1\0";

/// The most bytes of one line with a signed head. A longer one is not read.
pub const MAX_SIGNED_HEAD: usize = 8 * 1024;

/// How the audit key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HeadAlgorithm {
    /// Ed25519 of RFC 8032. The public key is 32 bytes.
    Ed25519,
    /// ECDSA with P-256 and SHA-256, as KMS makes it: the signature is DER. The public key is a
    /// `SubjectPublicKeyInfo` in DER.
    EcdsaP256Sha256,
}

impl HeadAlgorithm {
    /// Returns the name in a signed head.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::EcdsaP256Sha256 => "ecdsa-p256-sha256",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Ed25519, Self::EcdsaP256Sha256].into_iter().find(|known| known.as_str() == text)
    }
}

/// The public half of an audit key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HeadKey {
    algorithm: HeadAlgorithm,
    public: Vec<u8>,
}

impl HeadKey {
    /// Creates a key from its public bytes.
    pub const fn new(algorithm: HeadAlgorithm, public: Vec<u8>) -> Self {
        Self { algorithm, public }
    }

    /// Parses the text that [`HeadKey::text`] returns.
    pub fn parse(text: &str) -> Option<Self> {
        let (algorithm, public) = text.split_once(':')?;
        let public = decode_base64url(public).filter(|public| !public.is_empty())?;
        Some(Self::new(HeadAlgorithm::parse(algorithm)?, public))
    }

    /// Returns the key as text, for example `ed25519:…`.
    pub fn text(&self) -> String {
        format!("{}:{}", self.algorithm.as_str(), URL_SAFE_NO_PAD.encode(&self.public))
    }

    /// Returns whether this key made the signature of the bytes.
    fn verify(&self, bytes: &[u8], signature: &[u8]) -> bool {
        let verified = match self.algorithm {
            HeadAlgorithm::Ed25519 => {
                UnparsedPublicKey::new(&ED25519, &self.public).verify(bytes, signature)
            }
            HeadAlgorithm::EcdsaP256Sha256 => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.public)
                    .verify(bytes, signature)
            }
        };
        verified.is_ok()
    }
}

/// What the audit key says of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadStatement {
    /// The registry host. It stops a head of another registry from counting.
    pub host: String,
    /// The chain.
    pub chain: Chain,
    /// The number of its last event.
    pub seq: u64,
    /// The hash of its last event, which depends on all events before.
    pub hash: [u8; 32],
    /// The number of the segment that has the last event.
    pub segment: u64,
    /// The greatest time of all events of its segment in Unix seconds, if the event is the last of
    /// it. Only such an event may be the last that an expiry removed.
    pub sealed_at: Option<i64>,
    /// When the key signed it, in Unix seconds.
    pub time: i64,
}

impl HeadStatement {
    /// Returns the statement about a head.
    pub fn of(host: &str, head: &Head, time: i64) -> Self {
        Self {
            host: host.to_owned(),
            chain: head.chain.clone(),
            seq: head.seq,
            hash: head.hash,
            segment: head.segment.number,
            sealed_at: None,
            time,
        }
    }

    /// Returns when the segment ended, in Unix seconds: the greatest time of its events, and not before
    /// the signature. `None` if the event is not the last of its segment.
    ///
    /// It stops an event with a wrong time from making its segment look old.
    pub fn ended_at(&self) -> Option<i64> {
        self.sealed_at.map(|at| at.max(self.time))
    }

    /// Returns the bytes that the audit key signs. Each text has its length first, so no two
    /// statements have the same bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = DOMAIN.to_vec();
        for text in [self.host.as_str(), self.chain.as_str()] {
            bytes.extend_from_slice(&(text.len() as u64).to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes.extend_from_slice(&self.seq.to_be_bytes());
        bytes.extend_from_slice(&self.hash);
        bytes.extend_from_slice(&self.segment.to_be_bytes());
        bytes.push(self.sealed_at.is_some().into());
        bytes.extend_from_slice(&self.sealed_at.unwrap_or_default().to_be_bytes());
        bytes.extend_from_slice(&self.time.to_be_bytes());
        bytes
    }
}

/// A statement with its signature. Nothing is verified before [`SignedHead::is_signed_by`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHead {
    /// The statement.
    pub statement: HeadStatement,
    /// The name of the key: of a file, the beginning of the key's digest; of KMS, the ARN.
    pub key_id: String,
    /// The public key that the signed head names.
    pub key: HeadKey,
    /// The signature.
    pub signature: Vec<u8>,
}

/// The fields of a signed head. Unknown fields are ignored, unless `crit` names them.
#[derive(Serialize, Deserialize)]
struct Document {
    v: u64,
    host: String,
    chain: String,
    seq: u64,
    hash: String,
    segment: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed_at: Option<String>,
    time: String,
    key_id: String,
    algorithm: String,
    public_key: String,
    signature: String,
    #[serde(default, skip_serializing)]
    crit: Option<Value>,
}

/// The fields that this program knows.
const KNOWN: [&str; 12] = [
    "v",
    "host",
    "chain",
    "seq",
    "hash",
    "segment",
    "sealed_at",
    "time",
    "key_id",
    "algorithm",
    "public_key",
    "signature",
];

/// The reason why a text is not a signed head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignedHeadError {
    /// The text is damaged, or something else.
    #[error("it is not a signed head")]
    Malformed,
    /// A newer program wrote it.
    #[error(
        "it has format {0}, and this program reads formats up to {FORMAT}; hint: run a newer release"
    )]
    Newer(u64),
}

impl SignedHead {
    /// Returns the signed head as one line of JSON.
    pub fn to_json(&self) -> String {
        let statement = &self.statement;
        let document = Document {
            v: FORMAT,
            host: statement.host.clone(),
            chain: statement.chain.as_str().to_owned(),
            seq: statement.seq,
            hash: hex::encode(statement.hash),
            segment: statement.segment,
            sealed_at: statement.sealed_at.map(rfc3339),
            time: rfc3339(statement.time),
            key_id: self.key_id.clone(),
            algorithm: self.key.algorithm.as_str().to_owned(),
            public_key: URL_SAFE_NO_PAD.encode(&self.key.public),
            signature: URL_SAFE_NO_PAD.encode(&self.signature),
            crit: None,
        };
        serde_json::to_string(&document).unwrap_or_default()
    }

    /// Parses one line of JSON.
    ///
    /// # Errors
    ///
    /// [`SignedHeadError`], if this program cannot read it.
    pub fn parse(text: &str) -> Result<Self, SignedHeadError> {
        #[derive(Deserialize)]
        struct Versioned {
            v: u64,
        }
        if text.len() > MAX_SIGNED_HEAD {
            return Err(SignedHeadError::Malformed);
        }
        let versioned: Versioned =
            serde_json::from_str(text).map_err(|_| SignedHeadError::Malformed)?;
        if versioned.v > FORMAT {
            return Err(SignedHeadError::Newer(versioned.v));
        }
        let document = serde_json::from_str(text).ok().and_then(read);
        document.ok_or(SignedHeadError::Malformed)
    }

    /// Writes the signed head to the log, as one line of the target `audit`. Its field `head` has
    /// the whole line, so a log that is kept elsewhere also proves the events.
    pub fn write(&self) {
        let HeadStatement { chain, seq, .. } = &self.statement;
        tracing::info!(
            target: "audit",
            v = VERSION,
            event = "audit_head",
            chain = chain.as_str(),
            seq,
            head = self.to_json(),
        );
    }

    /// Returns whether the key that the signed head names made its signature.
    ///
    /// That says nothing about whose key it is: compare [`SignedHead::key`] with a key that you trust.
    pub fn is_intact(&self) -> bool {
        self.key.verify(&self.statement.bytes(), &self.signature)
    }

    /// Returns whether one of these keys made the signature.
    pub fn is_signed_by(&self, trusted: &[HeadKey]) -> bool {
        trusted.contains(&self.key) && self.is_intact()
    }
}

fn read(document: Document) -> Option<SignedHead> {
    critical::understood(document.crit.as_ref(), &KNOWN).then_some(())?;
    let statement = HeadStatement {
        host: document.host,
        chain: Chain::parse_stored(&document.chain)?,
        seq: document.seq,
        hash: hex::decode(&document.hash).ok()?.try_into().ok()?,
        segment: document.segment,
        sealed_at: sealed_at(document.sealed_at.as_deref())?,
        time: parse_rfc3339(&document.time)?,
    };
    let key = HeadKey::new(
        HeadAlgorithm::parse(&document.algorithm)?,
        decode_base64url(&document.public_key)?,
    );
    let signature = decode_base64url(&document.signature)?;
    Some(SignedHead { statement, key_id: document.key_id, key, signature })
}

/// Reads the time of a sealed segment. The outer `None` is an unreadable one.
fn sealed_at(text: Option<&str>) -> Option<Option<i64>> {
    match text {
        None => Some(None),
        Some(text) => parse_rfc3339(text).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;

    fn statement() -> HeadStatement {
        HeadStatement {
            host: "registry.example.com".to_owned(),
            chain: Chain::parse_stored("acme").unwrap(),
            seq: 7,
            hash: [3; 32],
            segment: 2,
            sealed_at: None,
            time: 1_800_000_000,
        }
    }

    fn signed(statement: HeadStatement, seed: u8) -> SignedHead {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let signature = pair.sign(&statement.bytes()).as_ref().to_vec();
        let public = pair.public_key().as_ref().to_vec();
        let key = HeadKey::new(HeadAlgorithm::Ed25519, public);
        SignedHead { statement, key_id: "k".to_owned(), key, signature }
    }

    #[test]
    fn each_changed_field_breaks_the_signature() {
        let whole = signed(statement(), 1);
        for change in [
            (|statement| statement.host = "other.example.com".to_owned()) as fn(&mut HeadStatement),
            |statement| statement.chain = Chain::parse_stored("*").unwrap(),
            |statement| statement.seq = 8,
            |statement| statement.hash[31] = 4,
            |statement| statement.segment = 1,
            |statement| statement.sealed_at = Some(0),
            |statement| statement.time += 1,
        ] {
            let mut changed = whole.clone();
            change(&mut changed.statement);
            assert!(!changed.is_intact(), "{:?}", changed.statement);
        }
        let mut other = whole.clone();
        other.key = signed(statement(), 2).key;
        assert!(!other.is_intact(), "another key");
        let mut cut = whole.clone();
        cut.signature.pop();
        assert!(!cut.is_intact(), "a cut signature");
        assert!(whole.is_intact());
    }

    #[test]
    fn no_two_statements_share_their_bytes() {
        let mut moved = statement();
        moved.host = "registry.example.coma".to_owned();
        moved.chain = Chain::parse_stored("cme").unwrap();
        assert_ne!(moved.bytes(), statement().bytes());
    }

    #[test]
    fn only_a_trusted_key_counts() {
        let (ours, theirs) = (signed(statement(), 1), signed(statement(), 2));
        assert!(theirs.is_intact(), "the head of another key is whole");
        assert!(!theirs.is_signed_by(std::slice::from_ref(&ours.key)));
        assert!(!ours.is_signed_by(&[]));
        assert!(ours.is_signed_by(&[theirs.key, ours.key.clone()]));
    }

    #[test]
    fn a_signed_head_is_read_as_it_was_written() {
        let sealed = HeadStatement { sealed_at: Some(1_799_999_999), ..statement() };
        let sealed = signed(sealed, 1);
        assert_eq!(SignedHead::parse(&sealed.to_json()), Ok(sealed));
        let whole = signed(statement(), 1);
        let text = whole.to_json();
        assert_eq!(SignedHead::parse(&text), Ok(whole.clone()));
        assert_eq!(HeadKey::parse(&whole.key.text()), Some(whole.key));
        let with = |change: fn(&mut Value)| {
            let mut document: Value = serde_json::from_str(&text).unwrap();
            change(&mut document);
            SignedHead::parse(&document.to_string())
        };
        assert!(with(|document| document["note"] = "x".into()).is_ok(), "an unknown field");
        for change in [
            (|document| document["crit"] = serde_json::json!(["note"])) as fn(&mut Value),
            |document| document["hash"] = "00".into(),
            |document| document["chain"] = "no chain".into(),
            |document| document["time"] = "today".into(),
            |document| document["sealed_at"] = "today".into(),
            |document| document["algorithm"] = "none".into(),
            |document| document["signature"] = "!".into(),
            |document| document["seq"] = (-1).into(),
            |document| document["v"] = "1".into(),
            |document| document["note"] = "x".repeat(MAX_SIGNED_HEAD).into(),
        ] {
            assert_eq!(with(change), Err(SignedHeadError::Malformed));
        }
        assert_eq!(with(|document| document["v"] = 2.into()), Err(SignedHeadError::Newer(2)));
        for text in ["", "{", "[]", "null", &text[..text.len() - 1]] {
            assert_eq!(SignedHead::parse(text), Err(SignedHeadError::Malformed), "{text}");
        }
    }

    #[test]
    fn no_damaged_key_is_a_panic() {
        for (algorithm, public) in [
            (HeadAlgorithm::Ed25519, vec![]),
            (HeadAlgorithm::Ed25519, vec![1; 31]),
            (HeadAlgorithm::EcdsaP256Sha256, vec![]),
            (HeadAlgorithm::EcdsaP256Sha256, vec![4; 65]),
        ] {
            let mut damaged = signed(statement(), 1);
            damaged.key = HeadKey::new(algorithm, public);
            assert!(!damaged.is_intact());
        }
        for text in ["", "ed25519", "ed25519:", "rsa:AAAA", "ed25519:!"] {
            assert_eq!(HeadKey::parse(text), None, "{text}");
        }
    }
}
