//! Parses a JWT before its signature is verified: size, shape, header and claims.
//!
//! Nothing here is true yet. The broker uses it only to reject garbage without a call, and to choose
//! whose keys must verify it.

use std::fmt;

use jsonwebtoken::Algorithm;
use secrecy::SecretString;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use stile_protocol::exchange::decode_base64url;
use stile_protocol::strict_json::parse_unique;

/// The longest JWT, in bytes. The form around it has a limit, too.
pub const MAX_JWT: usize = 24 * 1024;

/// The longest `kid`, `jti` and `sub`, in bytes. So the store and the audit log stay small.
const MAX_TEXT: usize = 1024;

/// The most audiences of a JWT.
const MAX_AUDIENCES: usize = 10;

/// The allowed algorithms.
///
/// An attacker chooses the header. `none` would need no signature at all. With `HS256`, the issuer's
/// public key would be the secret, and everyone has it (CVE-2015-9235).
const ALGORITHMS: [(&str, Algorithm); 4] = [
    ("RS256", Algorithm::RS256),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

/// Parameters of a header that bring a key, or the address of one (RFC 7515, section 4.1).
///
/// A verifier that follows them lets each attacker choose the key. The broker reads keys only from
/// the issuer.
const KEYS_OF_ITS_OWN: [&str; 4] = ["jku", "jwk", "x5c", "x5u"];

/// The text is not a JWT that the broker can verify. The sentence says why, and has nothing from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`subject_token` is not a JWT that this registry can verify: {0}")]
pub struct MalformedJwt(&'static str);

/// A JWT whose signature nobody has verified yet.
pub struct UnverifiedJwt {
    signed: String,
    signature: SecretString,
    /// The algorithm, one of the allowed ones.
    pub unverified_algorithm: Algorithm,
    /// The id of the key in the issuer's key set.
    pub unverified_key_id: String,
    /// The issuer.
    pub unverified_issuer: String,
    /// The subject, printable text.
    pub unverified_subject: String,
    /// The audiences, at least one.
    pub unverified_audiences: Vec<String>,
    /// When the issuer signed it, in Unix seconds.
    pub unverified_issued_at: i64,
    /// Before when it is not valid, in Unix seconds.
    pub unverified_not_before: Option<i64>,
    /// Until when it is valid, in Unix seconds.
    pub unverified_expires_at: i64,
    /// The id that the issuer gave it.
    pub unverified_id: Option<String>,
    /// All claims.
    pub unverified_claims: Map<String, Value>,
}

impl fmt::Debug for UnverifiedJwt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("UnverifiedJwt")
            .field("unverified_issuer", &self.unverified_issuer)
            .field("unverified_subject", &self.unverified_subject)
            .finish_non_exhaustive()
    }
}

impl UnverifiedJwt {
    /// Parses a JWT in the compact form (RFC 7515, section 3.1).
    ///
    /// # Errors
    ///
    /// [`MalformedJwt`], if the broker never verifies such a text.
    pub fn parse(text: &str) -> Result<Self, MalformedJwt> {
        let malformed = |reason| Err(MalformedJwt(reason));
        if text.len() > MAX_JWT {
            return malformed("it is longer than 24 KiB");
        }
        let (signed, signature) = text.rsplit_once('.').unwrap_or_default();
        let (header, payload) = signed.split_once('.').unwrap_or_default();
        if payload.contains('.') || [header, payload, signature].contains(&"") {
            return malformed("it does not have three parts with a dot between them");
        }
        let parts = [header, payload, signature].map(decode_base64url);
        let [Some(header), Some(payload), Some(_)] = parts else {
            return malformed("a part is not canonical base64url without padding");
        };
        let Ok(header) = parse_unique(&header) else {
            return malformed("its header is not one JSON object with distinct fields");
        };
        let (unverified_algorithm, unverified_key_id) = read_header(&header)?;
        let Ok(claims) = parse_unique(&payload) else {
            return malformed("its payload is not one JSON object with distinct fields");
        };
        let audiences = claims.get("aud").and_then(audiences);
        let unverified_audiences =
            audiences.ok_or(MalformedJwt("`aud` is not a text, or a list of 1 to 10 texts"))?;
        let text = |name, reason| match claims.get(name).and_then(Value::as_str) {
            Some(text) if is_plain(text) => Ok(text.to_owned()),
            _ => Err(MalformedJwt(reason)),
        };
        let time = |name| claims.get(name).and_then(Value::as_i64);
        let unverified_id = match claims.get("jti") {
            None => None,
            Some(_) => Some(text("jti", "`jti` is not a printable text of 1 to 1024 bytes")?),
        };
        let unverified_not_before = match claims.get("nbf") {
            None => None,
            Some(_) => Some(time("nbf").ok_or(MalformedJwt("`nbf` is not a whole number"))?),
        };
        let issued_at = time("iat").ok_or(MalformedJwt("`iat` is not a whole number"))?;
        let expires_at = time("exp").ok_or(MalformedJwt("`exp` is not a whole number"))?;
        // With the leeway on both ends, such a JWT would be good for two minutes.
        if expires_at <= issued_at {
            return malformed("`exp` is not after `iat`");
        }
        Ok(Self {
            signed: signed.to_owned(),
            signature: signature.to_owned().into(),
            unverified_algorithm,
            unverified_key_id,
            unverified_issuer: text("iss", "`iss` is not a printable text of 1 to 1024 bytes")?,
            unverified_subject: text("sub", "`sub` is not a printable text of 1 to 1024 bytes")?,
            unverified_audiences,
            unverified_issued_at: issued_at,
            unverified_not_before,
            unverified_expires_at: expires_at,
            unverified_id,
            unverified_claims: claims,
        })
    }

    /// Returns the header and the payload as they were signed.
    pub fn signed(&self) -> &str {
        &self.signed
    }

    /// Returns the signature, in base64url. With it, the JWT can be used once.
    pub const fn signature(&self) -> &SecretString {
        &self.signature
    }

    /// Returns the digest of what was signed, which names this JWT in the store.
    ///
    /// It does not cover the signature: one ECDSA signature can be written in two ways, and a copy with
    /// the other one would count as another JWT.
    pub fn signed_digest(&self) -> [u8; 32] {
        Sha256::new()
            .chain_update(b"stile-jwt-signed\0")
            .chain_update(&self.signed)
            .finalize()
            .into()
    }

    /// Returns the digest of issuer and `jti`, if it has one.
    pub fn id_digest(&self) -> Option<[u8; 32]> {
        let id = self.unverified_id.as_ref()?;
        // Neither of them contains a control character, so no two pairs have the same bytes.
        let digest = Sha256::new().chain_update(b"stile-jwt-id\0");
        let digest = digest.chain_update(&self.unverified_issuer).chain_update(b"\0");
        Some(digest.chain_update(id).finalize().into())
    }
}

/// Reads the algorithm and the key id.
fn read_header(header: &Map<String, Value>) -> Result<(Algorithm, String), MalformedJwt> {
    let text = |name| header.get(name).and_then(Value::as_str);
    let named = text("alg").unwrap_or_default();
    let algorithm = ALGORITHMS.iter().find(|(name, _)| *name == named);
    let (_, algorithm) =
        algorithm.ok_or(MalformedJwt("`alg` is not RS256, ES256, ES384 or EdDSA"))?;
    // A JWT of another kind, such as an access token, is not made to prove who its holder is
    // (RFC 8725, section 3.11).
    let typ = header.get("typ").map(|typ| typ.as_str().unwrap_or_default());
    if typ.is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT")) {
        return Err(MalformedJwt("`typ` is not `JWT`"));
    }
    // The signer demands that each verifier understands what it lists, and the broker understands
    // no extension (RFC 7515, section 4.1.11).
    if header.contains_key("crit") || header.contains_key("b64") {
        return Err(MalformedJwt("its header has extensions (`crit`)"));
    }
    if KEYS_OF_ITS_OWN.iter().any(|name| header.contains_key(*name)) {
        return Err(MalformedJwt("its header brings a key of its own"));
    }
    let key_id = text("kid").filter(|kid| is_plain(kid));
    let key_id = key_id.ok_or(MalformedJwt("`kid` is not a printable text of 1 to 1024 bytes"))?;
    Ok((*algorithm, key_id.to_owned()))
}

fn audiences(value: &Value) -> Option<Vec<String>> {
    let texts: Vec<String> = match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) if (1..=MAX_AUDIENCES).contains(&items.len()) => {
            items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<_>>()?
        }
        _ => return None,
    };
    texts.iter().all(|text| is_plain(text)).then_some(texts)
}

fn is_plain(text: &str) -> bool {
    (1..=MAX_TEXT).contains(&text.len()) && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    use super::*;

    const HEADER: &str = r#"{"alg":"ES256","kid":"k1","typ":"JWT"}"#;
    const CLAIMS: &str = r#"{"iss":"https://a.example","sub":"s","aud":"x","iat":1,"exp":2}"#;

    fn compact(header: &str, payload: &str) -> String {
        let [header, payload] = [header, payload].map(|part| URL_SAFE_NO_PAD.encode(part));
        format!("{header}.{payload}.AAAA")
    }

    fn refused(text: &str) -> &'static str {
        UnverifiedJwt::parse(text).unwrap_err().0
    }

    #[test]
    fn a_text_of_another_shape_is_not_a_jwt() {
        let good = compact(HEADER, CLAIMS);
        let (signed, _) = good.rsplit_once('.').unwrap();
        for text in [
            "",
            ".",
            "..",
            "...",
            "a.b",
            signed,
            &format!("{signed}."),
            &format!(".{good}"),
            &format!("{good}."),
            &format!("{good}.AAAA"),
            &format!(" {good}"),
            &format!("{good}\n"),
            &format!("{good}="),
            &format!("{signed}.AAA+"),
            // The last character has bits that no byte uses: a second spelling of the same bytes.
            &format!("{signed}.AAB"),
            &format!("{signed}.\u{e9}"),
            "AAAA.AAAA.AAAA",
        ] {
            assert!(UnverifiedJwt::parse(text).is_err(), "{text:?}");
        }
        let long = format!("{signed}.{}", "A".repeat(MAX_JWT));
        assert_eq!(refused(&long), "it is longer than 24 KiB");
        assert!(UnverifiedJwt::parse(&good).is_ok());
    }

    #[test]
    fn a_header_that_chooses_how_it_is_verified_is_refused() {
        for header in [
            "[]",
            "{}",
            r#"{"alg":"none","kid":"k1"}"#,
            r#"{"alg":"NONE","kid":"k1"}"#,
            r#"{"alg":"","kid":"k1"}"#,
            r#"{"alg":null,"kid":"k1"}"#,
            r#"{"alg":["ES256"],"kid":"k1"}"#,
            r#"{"alg":"HS256","kid":"k1"}"#,
            r#"{"alg":"HS512","kid":"k1"}"#,
            r#"{"alg":"RS512","kid":"k1"}"#,
            r#"{"alg":"PS256","kid":"k1"}"#,
            r#"{"alg":"es256","kid":"k1"}"#,
            r#"{"alg":"ES256"}"#,
            r#"{"alg":"ES256","kid":""}"#,
            r#"{"alg":"ES256","kid":7}"#,
            r#"{"alg":"ES256","kid":"a\nb"}"#,
            r#"{"alg":"ES256","kid":"k1","typ":"at+jwt"}"#,
            r#"{"alg":"ES256","kid":"k1","typ":""}"#,
            r#"{"alg":"ES256","kid":"k1","typ":7}"#,
            r#"{"alg":"ES256","kid":"k1","crit":["exp"]}"#,
            r#"{"alg":"ES256","kid":"k1","crit":[]}"#,
            r#"{"alg":"ES256","kid":"k1","b64":false}"#,
            r#"{"alg":"ES256","kid":"k1","jku":"https://evil.example/keys"}"#,
            r#"{"alg":"ES256","kid":"k1","x5u":"https://evil.example/keys"}"#,
            r#"{"alg":"ES256","kid":"k1","x5c":[]}"#,
            r#"{"alg":"ES256","kid":"k1","jwk":{"kty":"EC"}}"#,
            r#"{"alg":"none","alg":"ES256","kid":"k1"}"#,
            r#"{"alg":"ES256","kid":"k1"} {}"#,
        ] {
            assert!(UnverifiedJwt::parse(&compact(header, CLAIMS)).is_err(), "{header}");
        }
        for header in
            [r#"{"alg":"EdDSA","kid":"k"}"#, r#"{"typ":"jwt","x5t":"x","alg":"RS256","kid":"k"}"#]
        {
            assert!(UnverifiedJwt::parse(&compact(header, CLAIMS)).is_ok(), "{header}");
        }
    }

    #[test]
    fn a_claim_of_the_wrong_type_and_a_claim_twice_are_refused() {
        let many: Vec<_> = (0..11).map(|n| n.to_string()).collect();
        for (claim, value) in [
            ("iss", json!(null)),
            ("iss", json!(["https://a.example"])),
            ("iss", json!("")),
            ("sub", json!(7)),
            ("sub", json!("a\u{0}b")),
            ("sub", json!("a".repeat(1025))),
            ("aud", json!([])),
            ("aud", json!(["x", 7])),
            ("aud", json!({"x": 1})),
            ("aud", json!(many)),
            ("iat", json!("1")),
            ("iat", json!(1.5)),
            ("exp", json!("2")),
            ("exp", json!(u64::MAX)),
            ("nbf", json!(null)),
            ("nbf", json!("1")),
            ("jti", json!(null)),
            ("jti", json!("")),
            ("jti", json!({})),
        ] {
            let mut claims: Value = serde_json::from_str(CLAIMS).unwrap();
            claims[claim] = value;
            let text = claims.to_string();
            assert!(UnverifiedJwt::parse(&compact(HEADER, &text)).is_err(), "{text}");
        }
        for claim in ["iss", "sub", "aud", "iat", "exp"] {
            let mut claims: Map<String, Value> = serde_json::from_str(CLAIMS).unwrap();
            claims.remove(claim);
            let text = Value::Object(claims).to_string();
            assert!(UnverifiedJwt::parse(&compact(HEADER, &text)).is_err(), "without {claim}");
        }
        let twice = CLAIMS.replacen('{', r#"{"sub":"other","#, 1);
        assert!(UnverifiedJwt::parse(&compact(HEADER, &twice)).is_err());
        let nested = CLAIMS.replacen('{', r#"{"n":{"a":1,"a":2},"#, 1);
        assert!(UnverifiedJwt::parse(&compact(HEADER, &nested)).is_err());
    }

    #[test]
    fn the_digest_is_that_of_the_signed_bytes_and_another_one_of_issuer_and_id() {
        let parse = |text: &str| UnverifiedJwt::parse(text).unwrap();
        let good = compact(HEADER, CLAIMS);
        let jwt = parse(&good);
        assert_eq!(jwt.id_digest(), None);
        let resigned = parse(&good.replace(".AAAA", ".BBBB"));
        assert_eq!(resigned.signed_digest(), jwt.signed_digest());
        let with_id = |issuer: &str, id: &str| {
            let claims = CLAIMS.replace("https://a.example", issuer);
            parse(&compact(HEADER, &claims.replacen('{', &format!(r#"{{"jti":"{id}","#), 1)))
        };
        let one = with_id("https://a.example", "1");
        assert_ne!(one.signed_digest(), jwt.signed_digest());
        assert_eq!(one.id_digest(), with_id("https://a.example", "1").id_digest());
        assert_ne!(one.id_digest(), with_id("https://a.example", "2").id_digest());
        assert_ne!(one.id_digest(), with_id("https://b.example", "1").id_digest());
        assert_ne!(one.id_digest(), Some(one.signed_digest()));
        assert!(!format!("{jwt:?}").contains("AAAA"), "{jwt:?}");
    }
}
