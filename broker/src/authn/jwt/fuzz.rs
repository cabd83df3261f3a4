//! The fuzz target for JWTs that nobody has verified. The service does not contain this module.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::ExposeSecret as _;
use stile_core::fuzz::{Verdict, is_plain};
use stile_protocol::audience::Audience;
use stile_protocol::exchange::decode_base64url;

use super::judge::{Expected, JwtRefusal, find_trust, last_use};
use super::key_set::KeySet;
use super::unverified::UnverifiedJwt;

/// The public keys of the examples in RFC 7515 and RFC 8037. No input is signed with them.
const KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"k1","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},{"kty":"OKP","crv":"Ed25519","kid":"k1","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

/// Tests the parser of a JWT. Header and payload are lines of the input, because generated base64url
/// would rarely be JSON. An input without a line break is the compact form itself.
///
/// For every accepted JWT, the parsed values are those of the bytes that a key must have signed, and
/// no key has signed it.
pub fn jwt(bytes: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(bytes) else { return Verdict::Rejected };
    let compact = match text.split_once('\n') {
        None => text.to_owned(),
        Some((header, payload)) => {
            let [header, payload] = [header, payload].map(|part| URL_SAFE_NO_PAD.encode(part));
            format!("{header}.{payload}.AAAA")
        }
    };
    let jwt = match UnverifiedJwt::parse(&compact) {
        Ok(jwt) => jwt,
        Err(error) => {
            assert!(is_plain(&error.to_string()), "{error}");
            return Verdict::Rejected;
        }
    };
    let again = format!("{}.{}", jwt.signed(), jwt.signature().expose_secret());
    assert_eq!(again, compact, "one spelling");
    let (header, payload) = jwt.signed().split_once('.').expect("two parts");
    let json = |part: &str| -> serde_json::Value {
        let bytes = decode_base64url(part).expect("base64url");
        serde_json::from_slice(&bytes).expect("JSON")
    };
    let (header, payload) = (json(header), json(payload));
    assert!(
        ["RS256", "ES256", "ES384", "EdDSA"].iter().any(|name| header["alg"] == *name),
        "{header}"
    );
    assert_eq!(header["kid"], jwt.unverified_key_id.as_str());
    assert_eq!(payload["iss"], jwt.unverified_issuer.as_str());
    assert_eq!(payload["exp"], jwt.unverified_expires_at);
    assert!(!jwt.unverified_audiences.is_empty());
    let _ = last_use(&jwt);
    let host = Audience::parse("registry.example.com").expect("a registry host");
    let expected = Expected { host: &host, chosen: None, issued_from: None, now: 0 };
    let found = find_trust(&[], &jwt, expected);
    assert_eq!(found.err(), Some(JwtRefusal::UnknownIssuer), "no trust believes nothing");
    let keys = KeySet::parse(KEYS.as_bytes()).expect("a set of keys");
    assert!(!keys.verify(&jwt), "its signature is not one of these keys");
    Verdict::Accepted
}
