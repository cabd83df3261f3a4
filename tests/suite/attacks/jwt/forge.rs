//! Builds a JWT as a case describes it: another library signs, and the test bends the rest.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use stile_tests::jwt::claims;
use stile_tests::jwt::issuer::Issuers;
use stile_tests::jwt::signer::{PublicKey, Signer};

use super::file::{Input, Job, Sign};
use crate::attacks::file::Encoding;
use crate::attacks::text::{Values, expand, expand_json};

/// The keys, each with its algorithm. Their public parts are in the key sets of the issuers, except
/// that of `stranger`.
const KEYS: [(&str, &str); 8] = [
    ("rs", "RS256"),
    ("es", "ES256"),
    ("es384", "ES384"),
    ("ed", "EdDSA"),
    ("es512", "ES512"),
    ("ps", "PS256"),
    ("encryption", "RS256"),
    ("stranger", "RS256"),
];

/// The order of the curve P-256 (FIPS 186-5), which ECDSA signatures are modulo.
const P256_ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// A program that signs, its keys, and the last JWT.
pub(super) struct Forge {
    signer: Signer,
    keys: BTreeMap<&'static str, PublicKey>,
    last: Parts,
}

/// The parts of a JWT, in base64url.
#[derive(Clone, Default)]
struct Parts {
    header: String,
    payload: String,
    signature: String,
}

impl Forge {
    /// Creates the keys, and publishes the same key set for all of these issuers.
    pub(super) fn new(signer: Signer, issuers: &Issuers, names: &[&str]) -> Self {
        let keys: BTreeMap<_, _> =
            KEYS.into_iter().map(|(name, alg)| (name, signer.key(name, alg))).collect();
        let mut published: Vec<Value> = keys
            .iter()
            .filter(|(name, _)| **name != "stranger")
            .map(|(_, key)| key.jwk.clone())
            .collect();
        for key in &mut published {
            if key["kid"] == "encryption" {
                key["use"] = "enc".into();
            }
        }
        // A public key of RSA that the issuer lists as a secret.
        published.push(json!({ "kty": "oct", "kid": "secret", "alg": "HS256", "k": "c2VjcmV0" }));
        for name in names {
            issuers.publish(name, json!({ "keys": published }));
        }
        Self { signer, keys, last: Parts::default() }
    }

    /// Builds a JWT, and adds it and its parts to the values of texts.
    pub(super) fn jwt(
        &mut self,
        issuers: &Issuers,
        input: &Input,
        job: Job,
        now: i64,
        values: &mut Values,
    ) -> String {
        let issuer = input.issuer.as_deref().unwrap_or(match job {
            Job::Github => "actions.example",
            Job::Gitlab => "gitlab.example",
        });
        for (name, part) in [
            ("last header", &self.last.header),
            ("last payload", &self.last.payload),
            ("last signature", &self.last.signature),
        ] {
            values.insert(name, part.clone());
        }
        for (name, count) in [("1000 claims", 1000), ("10000 claims", 10_000)] {
            values.insert(name, (0..count).map(|n| format!("\"c{n}\":0,")).collect());
        }
        values.insert("port", issuers.port().to_string());
        let mut parts = if input.again {
            self.last.clone()
        } else {
            self.parts(&issuers.url(issuer), input, job, now, values)
        };
        parts.signature = self.signature(input, &parts);
        values.insert("header", parts.header.clone());
        values.insert("payload", parts.payload.clone());
        values.insert("signature", parts.signature.clone());
        values.insert("padded signature", {
            let padding = "=".repeat((4 - parts.signature.len() % 4) % 4);
            format!("{}{padding}", parts.signature)
        });
        values.insert("trailing bits", with_trailing_bits(&parts.signature));
        let form = input.jwt.as_deref().unwrap_or("«header».«payload».«signature»");
        let jwt = expand(form, values);
        values.insert("jwt", jwt.clone());
        self.last = parts;
        jwt
    }

    fn parts(&self, issuer: &str, input: &Input, job: Job, now: i64, values: &mut Values) -> Parts {
        let mut claims = match job {
            Job::Github => claims::github(issuer, now),
            Job::Gitlab => claims::gitlab(issuer, now),
        };
        for (name, after) in &input.at {
            claims[name.as_str()] = (now + after).into();
        }
        for (name, value) in &input.claims {
            claims[name.as_str()] = expand_json(value, values);
        }
        let key = input.key.as_deref().unwrap_or("rs");
        let alg = KEYS.iter().find(|(name, _)| *name == key).map_or("RS256", |(_, alg)| *alg);
        let mut header = json!({ "alg": alg, "typ": "JWT", "kid": key });
        for (name, value) in &input.header {
            header[name.as_str()] = expand_json(value, values);
        }
        for (object, names) in [(&mut claims, &input.drop), (&mut header, &input.header_drop)] {
            names.iter().for_each(|name| {
                object.as_object_mut().unwrap().remove(name);
            });
        }
        let text = |object: &Value, raw: &Option<String>, values: &mut Values| {
            values.insert("object", object.to_string());
            // Without the opening bracket, so that a text can put a duplicate field before the rest.
            values.insert("fields", object.to_string()[1..].to_owned());
            raw.as_ref().map_or_else(|| object.to_string(), |raw| expand(raw, values))
        };
        let header = text(&header, &input.raw_header, values);
        let claims = text(&claims, &input.raw_claims, values);
        let claims = match input.encoding {
            Encoding::Latin1 => {
                claims.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
            }
            _ => claims.into_bytes(),
        };
        Parts {
            header: URL_SAFE_NO_PAD.encode(header),
            payload: URL_SAFE_NO_PAD.encode(claims),
            signature: String::new(),
        }
    }

    fn signature(&self, input: &Input, parts: &Parts) -> String {
        let signed = format!("{}.{}", parts.header, parts.payload);
        let name = input.key.as_deref().unwrap_or("rs");
        let alg = KEYS.iter().find(|(known, _)| *known == name).unwrap().1;
        let public = &self.keys[name];
        let genuine = || {
            if input.again {
                return URL_SAFE_NO_PAD.decode(&self.last.signature).unwrap();
            }
            self.signer.sign_bytes(name, alg, signed.as_bytes())
        };
        let mac = |secret: &[u8]| {
            let mac = Hmac::<Sha256>::new_from_slice(secret).unwrap().chain_update(&signed);
            mac.finalize().into_bytes().to_vec()
        };
        let signature = match input.sign {
            Sign::Key => genuine(),
            Sign::None => Vec::new(),
            Sign::PublicPem => mac(public.pem.as_bytes()),
            Sign::PublicDer => mac(&public.der),
            Sign::PublicJwk => mac(public.jwk.to_string().as_bytes()),
            Sign::NoSecret => mac(b""),
            Sign::OtherS => other_s(&genuine()),
            Sign::Zeros => vec![0; genuine().len()],
            Sign::Flipped => {
                let mut signature = genuine();
                signature[0] ^= 0x80;
                signature
            }
            Sign::Longer => [genuine(), vec![0]].concat(),
        };
        URL_SAFE_NO_PAD.encode(signature)
    }
}

/// Returns the other ECDSA signature on P-256 that verifies: `(r, n − s)`.
fn other_s(signature: &[u8]) -> Vec<u8> {
    let (r, s) = signature.split_at(32);
    let mut other = r.to_vec();
    let mut difference = [0; 32];
    let mut borrow = false;
    for at in (0..32).rev() {
        let (digit, first) = P256_ORDER[at].overflowing_sub(s[at]);
        let (digit, second) = digit.overflowing_sub(u8::from(borrow));
        (difference[at], borrow) = (digit, first || second);
    }
    other.extend_from_slice(&difference);
    other
}

/// Returns another base64url text of the same bytes, if its last character has unused bits.
fn with_trailing_bits(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let Some(last) = text.bytes().last() else { return String::new() };
    let at = ALPHABET.iter().position(|c| *c == last).unwrap();
    let other = char::from(ALPHABET[at ^ 1]);
    format!("{}{other}", &text[..text.len() - 1])
}

#[test]
fn the_other_signature_has_the_negative_of_s() {
    let mut one = [0; 64];
    one[63] = 1;
    let mut expected = P256_ORDER;
    expected[31] -= 1;
    assert_eq!(other_s(&one)[32..], expected);
    assert_eq!(other_s(&other_s(&one)), one);
}
