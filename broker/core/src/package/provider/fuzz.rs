//! The fuzz targets of providers: lists of digests, signing keys and signatures. Not part of the
//! service.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use stile_protocol::names::ProviderType;

use super::{ProviderFile, SigningKey, Sums};
use crate::fuzz::{Verdict, is_plain};
use crate::package::Version;

/// 2026-03-01, after the fixtures were signed.
const NOW: i64 = 1_772_323_200;

/// The key of the target `provider_signature`.
const KEY: &str = include_str!("../../../../../tests/fixtures/openpgp/ed25519.asc");

/// The text that the seeds of the target `provider_signature` sign.
const SIGNED: &[u8] = include_bytes!("../../../../../tests/fixtures/openpgp/SHA256SUMS");

fn outcome<T, E: std::fmt::Display>(outcome: &Result<T, E>) -> Verdict {
    match outcome {
        Ok(_) => Verdict::Accepted,
        Err(error) => {
            let sentence = error.to_string();
            assert!(is_plain(&sentence), "{sentence:?}");
            Verdict::Rejected
        }
    }
}

/// Parses the list of digests of `dns` 1.0.0, and reads an accepted one as Terraform does.
pub fn sums(bytes: &[u8]) -> Verdict {
    let (dns, version) = (ProviderType::parse("dns"), Version::parse("1.0.0"));
    let (Ok(dns), Ok(version), Ok(text)) = (dns, version, std::str::from_utf8(bytes)) else {
        return Verdict::Rejected;
    };
    let parsed = Sums::parse(text, &dns, &version);
    if let Ok(sums) = &parsed {
        let zips = sums.files().iter().map(|(os, sha256)| (ProviderFile::Zip(os.clone()), sha256));
        let manifest = sums.manifest().map(str::to_owned);
        let mut expected: Vec<_> =
            zips.map(|(file, sha256)| (file.name(&dns, &version), sha256.clone())).collect();
        expected
            .extend(manifest.map(|sha256| (ProviderFile::Manifest.name(&dns, &version), sha256)));
        let mut read: Vec<_> = text
            .lines()
            .map(|line| {
                let mut fields = line.split_ascii_whitespace();
                let sha256 = fields.next().expect("Terraform crashes on a blank line");
                let name = fields.next().expect("a line has a name");
                assert_eq!(hex::decode(sha256).map(|bytes| bytes.len()), Ok(32));
                (name.to_owned(), sha256.to_owned())
            })
            .collect();
        expected.sort_unstable();
        read.sort_unstable();
        assert_eq!(read, expected);
    }
    outcome(&parsed)
}

/// Parses a key. It armors an input that is not a text, because few mutations of base64 are packets.
pub fn signing_key(bytes: &[u8]) -> Verdict {
    let armored = std::str::from_utf8(bytes).ok().filter(|text| text.contains("-----BEGIN"));
    let text = armored.map_or_else(
        || {
            let body = STANDARD.encode(bytes);
            format!(
                "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n{body}\n-----END PGP PUBLIC KEY BLOCK-----"
            )
        },
        str::to_owned,
    );
    let parsed = SigningKey::parse(&text, NOW);
    if let Ok(key) = &parsed {
        let again = SigningKey::parse(key.armor(), NOW).expect("a written key is accepted");
        assert_eq!(again.armor(), key.armor());
        assert_eq!(again.fingerprint(), key.fingerprint());
        assert!(is_plain(key.user_id()));
    }
    outcome(&parsed)
}

/// Verifies a signature with a fixed key and text.
pub fn provider_signature(bytes: &[u8]) -> Verdict {
    let key = SigningKey::parse(KEY, NOW).expect("the fixture is a key");
    let verified = key.verify(SIGNED, bytes, NOW);
    outcome(&verified)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::fixture;
    use super::*;

    /// Changes, removes and repeats some bytes.
    fn mutated(mut bytes: Vec<u8>, changes: &[(usize, u8, u8)]) -> Vec<u8> {
        for (at, kind, value) in changes {
            let at = at % bytes.len().max(1);
            match kind % 4 {
                0 if at < bytes.len() => bytes[at] = *value,
                1 if at < bytes.len() => bytes[at] ^= 1 << (value % 8),
                2 => bytes.truncate(bytes.len().saturating_sub(usize::from(value % 16))),
                _ => {
                    let end = (at + usize::from(*value)).min(bytes.len());
                    let part = bytes[at.min(end)..end].to_vec();
                    bytes.extend(part);
                }
            }
        }
        bytes
    }

    fn packets(name: &str) -> Vec<u8> {
        let text = String::from_utf8(fixture(name)).unwrap();
        let body = text.lines().skip(2).take_while(|line| !line.starts_with(['=', '-']));
        STANDARD.decode(body.collect::<String>()).unwrap()
    }

    fn changes() -> impl Strategy<Value = Vec<(usize, u8, u8)>> {
        prop::collection::vec((0_usize..3_000, any::<u8>(), any::<u8>()), 1..6)
    }

    proptest! {
        #[test]
        fn damaged_input_is_refused_with_a_plain_sentence(changes in changes(), which in 0_usize..5) {
            let name = ["ed25519.asc", "subkey.asc", "rsa2048.asc", "p256.asc", "old-subkey.asc"];
            signing_key(&mutated(packets(name[which]), &changes));
            provider_signature(&mutated(fixture("ed25519.sig"), &changes));
            sums(&mutated(fixture("SHA256SUMS"), &changes));
        }
    }
}
