//! Parses a proof, and checks its time. The values remain unverified until STS answers.

use chrono::NaiveDate;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use stile_core::clock::rfc3339;
use stile_core::identity::PROOF_MAX_AHEAD;
use stile_protocol::exchange::{self, RequestDocument};
use stile_protocol::strict_json::{FieldError, StrictObject};

/// The maximum age of a proof, in seconds, inclusive.
///
/// AWS accepts 15 minutes. A shorter limit makes a stolen proof less useful.
pub const MAX_AGE: i64 = 300;

/// How far the clock of the signer may be ahead of the broker's, in seconds, inclusive.
pub const MAX_AHEAD: i64 = PROOF_MAX_AHEAD;

/// A proof in which every field has a valid format.
///
/// The names begin with `unverified`, because the client can write any value.
#[derive(Debug)]
pub struct Proof {
    /// The region of the signature.
    pub unverified_region: String,
    /// The time of the signature, as the client wrote it.
    pub unverified_amz_date: String,
    /// The time of the signature, in Unix seconds.
    pub unverified_signed_at: i64,
    /// The access key id.
    pub unverified_access_key_id: String,
    /// The session token. An `ASIA` key requires one, and an `AKIA` key excludes it.
    pub unverified_session_token: Option<SecretString>,
    /// The signature, in lower-case hex.
    pub unverified_signature: SecretString,
    /// The request document. It is the caller's only if the signature is valid.
    pub unverified_document: RequestDocument,
    /// The SHA-256 of the document, in lower-case hex.
    pub document_digest: String,
}

/// The reason why the broker rejects a proof.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// A field of the body is not valid.
    #[error(transparent)]
    Field(FieldError),
    /// The broker does not support this version of the exchange.
    #[error("this `version` of the exchange is not supported; this registry supports version 1")]
    Version,
    /// The proof is too old.
    #[error("the proof was signed more than 5 minutes ago by this registry's clock")]
    Expired,
    /// The proof is from the future.
    #[error("the proof was signed more than 2 minutes ahead of this registry's clock")]
    FromFuture,
    /// The proof can be a used one, because the records of used proofs are from a backup.
    #[error("this registry was restored from a backup, and accepts only proofs that are signed from {} on", rfc3339(*.from))]
    BeforeRestore {
        /// The time from which proofs are accepted, in Unix seconds.
        from: i64,
    },
}

impl Proof {
    /// Parses the body of `POST /v1/token`.
    pub fn parse(body: &[u8]) -> Result<Self, ProofError> {
        check_version(body)?;
        Self::parse_version_1(body).map_err(ProofError::Field)
    }

    fn parse_version_1(body: &[u8]) -> Result<Self, FieldError> {
        let mut object = StrictObject::parse(body)?;
        object.integer("version")?;
        let region = object.string("region")?;
        let amz_date = object.string("amz_date")?;
        let access_key_id = object.string("access_key_id")?;
        let session_token = object.optional_string("session_token")?;
        let signature = object.string("signature")?;
        let request = object.string("request")?;
        object.finish()?;

        if region.len() > 64 {
            return Err(FieldError::new("region", "an AWS region"));
        }
        let signed_at = parse_amz_date(&amz_date)
            .ok_or_else(|| FieldError::new("amz_date", "a time of the form `YYYYMMDDTHHMMSSZ`"))?;
        if !is_access_key_id(&access_key_id) {
            return Err(FieldError::new(
                "access_key_id",
                "an access key id that begins with `AKIA` or `ASIA`",
            ));
        }
        match &session_token {
            Some(_) if access_key_id.starts_with("AKIA") => {
                return Err(FieldError::new("session_token", "absent with an `AKIA` key"));
            }
            None if access_key_id.starts_with("ASIA") => {
                return Err(FieldError::new("session_token", "present with an `ASIA` key"));
            }
            Some(token) if !is_session_token(token) => {
                return Err(FieldError::new("session_token", "1 to 8192 characters of base64"));
            }
            _ => {}
        }
        if !(signature.len() == 64
            && signature.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
        {
            return Err(FieldError::new("signature", "64 lower-case hex digits"));
        }
        let document = exchange::decode_base64url(&request)
            .filter(|bytes| bytes.len() <= exchange::MAX_DOCUMENT)
            .ok_or_else(|| {
                FieldError::new("request", "at most 4 KiB as canonical base64url without padding")
            })?;
        Ok(Self {
            unverified_region: region,
            unverified_amz_date: amz_date,
            unverified_signed_at: signed_at,
            unverified_access_key_id: access_key_id,
            unverified_session_token: session_token.map(SecretString::from),
            unverified_signature: signature.into(),
            unverified_document: RequestDocument::parse(&document)
                .map_err(|error| within_request(&error))?,
            document_digest: exchange::document_digest(&document),
        })
    }

    /// Rejects a proof that is too old, or from the future. Both bounds are inclusive.
    pub fn check_time(&self, now: i64) -> Result<(), ProofError> {
        if self.unverified_signed_at < now.saturating_sub(MAX_AGE) {
            return Err(ProofError::Expired);
        }
        if self.unverified_signed_at > now.saturating_add(MAX_AHEAD) {
            return Err(ProofError::FromFuture);
        }
        Ok(())
    }

    /// Rejects a proof that was signed before that time, if there is one.
    pub fn check_signed_from(&self, from: Option<i64>) -> Result<(), ProofError> {
        match from {
            Some(from) if self.unverified_signed_at < from => {
                Err(ProofError::BeforeRestore { from })
            }
            _ => Ok(()),
        }
    }

    /// Returns a digest of all fields, which identifies the proof for the single flight.
    ///
    /// A digest of only the signature is not enough. A proof with a copied signature and another
    /// request document would then share the answer for the original proof.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for field in [
            self.unverified_region.as_str(),
            &self.unverified_amz_date,
            &self.unverified_access_key_id,
            self.unverified_session_token.as_ref().map_or("", |token| token.expose_secret()),
            self.unverified_signature.expose_secret(),
            &self.document_digest,
        ] {
            hash.update((field.len() as u64).to_be_bytes());
            hash.update(field);
        }
        hash.finalize().into()
    }

    /// Returns the key of the single-use record: the SHA-256 of the signature.
    pub fn signature_digest(&self) -> [u8; 32] {
        Sha256::digest(self.unverified_signature.expose_secret()).into()
    }
}

/// Checks the version first. Otherwise the error for a later version would name an unknown field.
fn check_version(body: &[u8]) -> Result<(), ProofError> {
    let Ok(mut object) = StrictObject::parse(body) else { return Ok(()) };
    match object.take_optional("version") {
        Some(version) if version.as_i64() != Some(exchange::VERSION) => Err(ProofError::Version),
        _ => Ok(()),
    }
}

fn within_request(error: &FieldError) -> FieldError {
    FieldError {
        field: "request".to_owned(),
        problem: format!("in the request document: {}", error.problem),
    }
}

/// Parses a time of the form `YYYYMMDDTHHMMSSZ` into Unix seconds. The digits must be ASCII, and
/// the time must exist.
fn parse_amz_date(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let shaped = bytes.len() == 16
        && bytes.iter().enumerate().all(|(at, b)| match at {
            8 => *b == b'T',
            15 => *b == b'Z',
            _ => b.is_ascii_digit(),
        });
    if !shaped {
        return None;
    }
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u32>().ok();
    let year = i32::try_from(number(0, 4)?).ok()?;
    let date = NaiveDate::from_ymd_opt(year, number(4, 6)?, number(6, 8)?)?;
    // `and_hms_opt` rejects second 60, as SigV4 does.
    Some(date.and_hms_opt(number(9, 11)?, number(11, 13)?, number(13, 15)?)?.and_utc().timestamp())
}

fn is_access_key_id(text: &str) -> bool {
    (text.starts_with("AKIA") || text.starts_with("ASIA"))
        && (16..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}

fn is_session_token(text: &str) -> bool {
    (1..=exchange::MAX_SESSION_TOKEN).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const DOCUMENT: &str = r#"{"nonce":"AAAAAAAAAAAAAAAAAAAAAA","ttl":3600,"namespaces":"all","permissions":["download"]}"#;

    fn good() -> Value {
        json!({
            "version": 1, "region": "us-east-1", "amz_date": "20261120T101112Z", "access_key_id": "ASIAEXAMPLEEXAMPLE22",
            "session_token": "abc+/=", "signature": "0".repeat(64), "request": URL_SAFE_NO_PAD.encode(DOCUMENT),
        })
    }

    fn parse(value: &Value) -> Result<Proof, ProofError> {
        Proof::parse(value.to_string().as_bytes())
    }

    fn problem_with(field: &str, value: Value) -> String {
        let mut body = good();
        body[field] = value;
        match parse(&body) {
            Err(ProofError::Field(error)) => error.problem,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_error_names_the_invalid_field() {
        let long_key = format!("AKIA{}", "A".repeat(125));
        for (field, values) in [
            ("region", vec![json!(7), json!("a".repeat(65)), Value::Null]),
            (
                "amz_date",
                [
                    "20251120T101112",
                    "2025-11-20T10:11:12Z",
                    "20250230T000000Z",
                    "20251120T240000Z",
                    "20251120T235960Z",
                    "20250229T000000Z",
                    "00000000T000000Z",
                    "٢٠٢٥1120T101112Z",
                    "+0251120T101112Z",
                    " 0251120T101112Z",
                    "20251120t101112z",
                    "",
                ]
                .map(|text| json!(text))
                .to_vec(),
            ),
            (
                "access_key_id",
                [
                    "AKIA",
                    "asiaexampleexample22",
                    "AROAEXAMPLEEXAMPLE22",
                    "AIDAEXAMPLEEXAMPLE22",
                    "ABIAEXAMPLEEXAMPLE22",
                    "ASIAEXAMPLE/EXAMPLE2",
                    "ASIAEXAMPLE,EXAMPLE2",
                    "ASIAEXAMPLE=EXAMPLE2",
                    "ASIAEXAMPLE EXAMPLE2",
                    "ASIAEXAMPLE%EXAMPLE2",
                    "ASIAEXAMPLEÉXAMPLE22",
                    &long_key,
                ]
                .map(|text| json!(text))
                .to_vec(),
            ),
            (
                "session_token",
                vec![
                    json!(""),
                    json!("abc\r\nX-Injected: 1"),
                    json!("a\0"),
                    json!("%0d%0a"),
                    json!("a".repeat(8193)),
                    json!("a b"),
                    json!(["a"]),
                    Value::Null,
                ],
            ),
            (
                "signature",
                vec![
                    json!("0".repeat(63)),
                    json!("0".repeat(65)),
                    json!("A".repeat(64)),
                    json!("g".repeat(64)),
                    json!("０".repeat(64)),
                    json!(["a", "b", "c"]),
                ],
            ),
            (
                "request",
                vec![
                    json!("e30="),
                    json!("e30\n"),
                    json!("e31"),
                    json!("-_+/"),
                    json!(URL_SAFE_NO_PAD.encode(vec![b' '; 4097])),
                    json!(""),
                ],
            ),
        ] {
            for value in values {
                let problem = problem_with(field, value.clone());
                assert!(
                    problem.contains(field)
                        || field == "request" && problem.contains("request document"),
                    "{field} {value}: {problem}"
                );
            }
        }
    }

    #[test]
    fn only_a_temporary_key_has_a_session_token() {
        let mut body = good();
        body.as_object_mut().unwrap().remove("session_token");
        assert!(
            matches!(parse(&body), Err(ProofError::Field(error)) if error.field == "session_token")
        );
        body["access_key_id"] = json!("AKIAEXAMPLEEXAMPLE22");
        assert!(parse(&body).is_ok());
        body["session_token"] = json!("abc");
        assert!(
            matches!(parse(&body), Err(ProofError::Field(error)) if error.field == "session_token")
        );
    }

    #[test]
    fn the_version_is_checked_before_the_fields() {
        for version in [json!(0), json!(2), json!("1"), json!([1]), Value::Null, json!(1.5)] {
            assert_eq!(
                parse(&json!({"version": version, "something": "new"})).unwrap_err(),
                ProofError::Version,
                "{version}"
            );
        }
        let unknown = parse(&json!({"version": 1, "host": "evil.org"})).unwrap_err();
        assert_eq!(unknown.to_string(), "field `region` is missing");
        let mut body = good();
        body["host"] = json!("evil.org");
        assert_eq!(parse(&body).unwrap_err().to_string(), "field `host` is not known");
        assert_eq!(Proof::parse(b"{}").unwrap_err().to_string(), "field `version` is missing");
    }

    #[test]
    fn the_time_window_is_inclusive_at_both_ends() {
        let proof = parse(&good()).unwrap();
        let signed_at = proof.unverified_signed_at;
        for (now, expected) in [
            (signed_at + 300, Ok(())),
            (signed_at + 301, Err(ProofError::Expired)),
            (signed_at - 120, Ok(())),
            (signed_at - 121, Err(ProofError::FromFuture)),
            (i64::MAX, Err(ProofError::Expired)),
            (i64::MIN, Err(ProofError::FromFuture)),
        ] {
            assert_eq!(proof.check_time(now), expected, "{now}");
        }
    }

    #[test]
    fn february_29_is_valid_in_leap_years_only() {
        assert!(parse_amz_date("20240229T000000Z").is_some());
        assert_eq!(parse_amz_date("20250229T000000Z"), None);
    }

    #[test]
    fn the_digest_depends_on_every_field_and_not_on_the_spelling_of_the_json() {
        let first = parse(&good()).unwrap();
        let spaced =
            Proof::parse(serde_json::to_string_pretty(&good()).unwrap().as_bytes()).unwrap();
        assert_eq!(first.digest(), spaced.digest());
        let other_document = DOCUMENT.replace("3600", "3601");
        for (field, value) in [
            ("region", "us-east-2"),
            ("amz_date", "20261120T101113Z"),
            ("access_key_id", "ASIAEXAMPLEEXAMPLE23"),
            ("session_token", "abd"),
            ("signature", &"1".repeat(64)),
            ("request", &URL_SAFE_NO_PAD.encode(other_document)),
        ] {
            let mut body = good();
            body[field] = json!(value);
            assert_ne!(parse(&body).unwrap().digest(), first.digest(), "{field}");
        }
    }

    #[test]
    fn the_debug_output_of_a_proof_has_no_secret() {
        let mut body = good();
        body["session_token"] = json!("sessiontokensecret");
        let shown = format!("{:?}", parse(&body).unwrap());
        assert!(
            !shown.contains("sessiontokensecret") && !shown.contains(&"0".repeat(64)),
            "{shown}"
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Proof::parse(&bytes);
        }

        #[test]
        fn no_text_makes_the_date_parser_panic(text in "\\PC{0,20}") {
            let _ = parse_amz_date(&text);
        }
    }
}
