//! What the fuzz target `token` tries on tokens and on what is under their seal; no part of the service.

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

/// A token under [`KEY`] for [`AUDIENCE`], as one may have been overheard.
const GENUINE: &str = include_str!("../../../../tests/fixtures/fuzz/token/taken-genuine");

static AUDIENCE: LazyLock<Audience> =
    LazyLock::new(|| Audience::parse("registry.example.com").expect("a registry's host"));

static KEY: LazyLock<Key> = LazyLock::new(|| {
    let id = KeyId::parse("AAAAAAAAAAAAAAAAAAAAAA").expect("a key id");
    Key::stored(id, Zeroizing::new([7; 32]), 0, 0)
});

/// As a token that somebody sends, and as a message under a seal of ours.
pub fn token(bytes: &[u8]) -> Verdict {
    let under = claims(bytes);
    match std::str::from_utf8(bytes).ok().and_then(opened) {
        Some(_) => {
            assert_eq!(
                bytes,
                GENUINE.as_bytes(),
                "a token has one spelling, and nobody else makes one"
            );
            Verdict::Accepted
        }
        None => under,
    }
}

fn opened(text: &str) -> Option<Vec<u8>> {
    let sealed = Sealed::parse(text)?;
    assert!(text.len() <= MAX_TOKEN_LEN);
    let parts: Vec<_> = text.split('.').collect();
    for part in parts.iter().skip(2) {
        let bytes = exchange::decode_base64url(part).expect("looked at already");
        assert_eq!(URL_SAFE_NO_PAD.encode(bytes), *part, "one spelling");
    }
    assert!(parts.len() == 4 && sealed.unverified_key_id.as_str().len() == 22);
    sealed.open_bytes(&KEY, &AUDIENCE)
}

/// Seals the message, has one bit of the token flipped, and reads the message as claims.
fn claims(message: &[u8]) -> Verdict {
    // PASETO seals text (the library refuses an empty one).
    let sealed = std::str::from_utf8(message)
        .ok()
        .filter(|text| !text.is_empty())
        .and_then(|_| seal_bytes(&KEY, &AUDIENCE, message));
    if let Some(sealed) = sealed.filter(|sealed| sealed.len() <= MAX_TOKEN_LEN) {
        assert_eq!(opened(&sealed).as_deref(), Some(message), "opening undoes sealing");
        let sum = message
            .iter()
            .fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
        let mut flipped = sealed.into_bytes();
        let at = sum % flipped.len();
        flipped[at] ^= 1 << (sum % 7);
        assert_eq!(
            std::str::from_utf8(&flipped).ok().and_then(opened),
            None,
            "no flipped bit opens"
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
        "what they say can be said again"
    );
    assert!(claims.principal().is_concrete());
    let end = claims.expires_at();
    for max_ttl in [exchange::MIN_TTL, exchange::MAX_TTL] {
        assert!(
            !claims.is_valid_at(max_ttl, end) && !claims.is_valid_at(max_ttl, i64::MAX),
            "they end"
        );
        assert!(
            !claims.is_valid_at(max_ttl, end.saturating_sub(max_ttl).saturating_sub(61)),
            "and were not yet"
        );
    }
    Verdict::Accepted
}
