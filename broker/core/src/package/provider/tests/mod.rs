//! Tests of keys and signatures, with the fixtures of GnuPG in `tests/fixtures/openpgp`.

mod keys;
mod namespace_keys;
mod signatures;

use std::fs;
use std::path::Path;

use super::{SignatureError, SigningKey};

/// 2026-03-01, after the fixtures were signed and before the first of them expires.
const NOW: i64 = 1_772_323_200;

/// 2026-07-01, after the key `expires` and the subkey of `old-subkey` expired.
const LATER: i64 = 1_782_864_000;

pub(super) fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/openpgp");
    fs::read(folder.join(name)).unwrap()
}

fn armored(name: &str) -> String {
    String::from_utf8(fixture(&format!("{name}.asc"))).unwrap()
}

fn key(name: &str) -> SigningKey {
    SigningKey::parse(&armored(name), NOW).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn verified(name: &str, signature: &[u8], now: i64) -> Result<(), SignatureError> {
    let key = SigningKey::parse(&armored(name), NOW).unwrap();
    key.verify(&fixture("SHA256SUMS"), signature, now)
}
