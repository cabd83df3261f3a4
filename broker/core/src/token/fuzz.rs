//! The fuzz target `token`: parses and opens tokens, and parses claims. Not part of the service.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use stile_protocol::audience::Audience;
use stile_protocol::exchange;
use zeroize::Zeroizing;

use super::claims::Claims;
use super::keyring::{Key, KeyId};
use super::seal::{MAX_TOKEN_LEN, Sealed, seal_bytes};
use crate::fuzz::{Verdict, is_plain};

/// A valid token under [`KEY`] for [`AUDIENCE`], as an attacker could have observed it.
const GENUINE: &str = include_str!("../../../../tests/fixtures/fuzz/token/taken-genuine");

static AUDIENCE: LazyLock<Audience> =
    LazyLock::new(|| Audience::parse("registry.example.com").expect("a registry's host"));

static KEY: LazyLock<Key> = LazyLock::new(|| {
    let id = KeyId::parse("AAAAAAAAAAAAAAAAAAAAAA").expect("a key id");
    Key::stored(id, Zeroizing::new([7; 32]), 0, 0)
});

/// Opens the input as a token, and parses it as the message of a sealed token.
pub fn token(bytes: &[u8]) -> Verdict {
    let verdict_on_claims = claims(bytes);
    match std::str::from_utf8(bytes).ok().and_then(opened) {
        Some(_) => {
            assert_eq!(bytes, GENUINE.as_bytes(), "nobody can forge or re-encode a token");
            Verdict::Accepted
        }
        None => verdict_on_claims,
    }
}

fn opened(text: &str) -> Option<Vec<u8>> {
    let sealed = Sealed::parse(text)?;
    assert!(text.len() <= MAX_TOKEN_LEN);
    let parts: Vec<_> = text.split('.').collect();
    for part in parts.iter().skip(2) {
        let bytes = exchange::decode_base64url(part).expect("`Sealed::parse` checked the encoding");
        assert_eq!(URL_SAFE_NO_PAD.encode(bytes), *part, "the encoding is canonical");
    }
    assert!(parts.len() == 4 && sealed.unverified_key_id.as_str().len() == 22);
    sealed.open_bytes(&KEY, &AUDIENCE)
}

/// Seals and opens the message, tries a token with a flipped bit, and parses the message as claims.
fn claims(message: &[u8]) -> Verdict {
    // PASETO seals text. The library rejects an empty message.
    let sealed = std::str::from_utf8(message)
        .ok()
        .filter(|text| !text.is_empty())
        .and_then(|_| seal_bytes(&KEY, &AUDIENCE, message));
    if let Some(sealed) = sealed.filter(|sealed| sealed.len() <= MAX_TOKEN_LEN) {
        assert_eq!(opened(&sealed).as_deref(), Some(message), "opening returns the sealed message");
        let sum = message
            .iter()
            .fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
        let mut flipped = sealed.into_bytes();
        let at = sum % flipped.len();
        flipped[at] ^= 1 << (sum % 7);
        assert_eq!(
            std::str::from_utf8(&flipped).ok().and_then(opened),
            None,
            "a token with a flipped bit does not open"
        );
    }
    let claims = match Claims::parse(message) {
        Ok(claims) => claims,
        Err(error) => {
            assert!(is_plain(&error.problem), "{error}");
            return Verdict::Rejected;
        }
    };
    assert_eq!(
        Claims::parse(&claims.to_bytes()).as_ref(),
        Ok(&claims),
        "claims survive a round trip"
    );
    assert!(claims.principal().is_caller());
    let end = claims.expires_at();
    for max_ttl in [exchange::MIN_TTL, exchange::MAX_TTL] {
        assert!(
            !claims.is_valid_at(max_ttl, end) && !claims.is_valid_at(max_ttl, i64::MAX),
            "claims expire"
        );
        assert!(
            !claims.is_valid_at(max_ttl, end.saturating_sub(max_ttl).saturating_sub(61)),
            "claims from the future are invalid"
        );
    }
    Verdict::Accepted
}
