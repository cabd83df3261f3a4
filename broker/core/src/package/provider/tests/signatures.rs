//! Which signatures are accepted.

use pgp::composed::{Deserializable, SignedSecretKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{
    Notation, PacketTrait as _, SignatureConfig, SignatureType, Subpacket, SubpacketData,
};
use pgp::types::{Duration, KeyDetails as _, Password, Timestamp};

use super::{LATER, NOW, armored, fixture, key, verified};
use crate::package::provider::{SignatureError, SigningKey};

#[test]
fn a_signature_of_gnupg_that_clients_could_reject_is_refused_with_a_sentence() {
    for (file, name, now, problem) in [
        ("sha1.sig", "rsa4096", NOW, "has the weak SHA1"),
        ("sha224.sig", "rsa4096", NOW, "has SHA224"),
        ("text.sig", "rsa4096", NOW, "of the type `binary`"),
        ("armored.sig", "rsa4096", NOW, "is ASCII-armored"),
        ("expiring.sig", "rsa4096", NOW, "has a time of expiry"),
        ("several.sig", "rsa4096", NOW, "exactly one signature"),
        ("before-key.sig", "rsa4096", NOW, "before the creation of its key"),
        ("rsa4096.sig", "rsa4096", 1_769_903_999 - 300, "a time in the future"),
        ("ed25519.sig", "rsa4096", NOW, "which is another one"),
        ("rsa4096.sig", "subkey", NOW, "which is another one"),
        ("expires.sig", "expires", LATER, "the key expired at"),
        ("old-subkey.sig", "old-subkey", LATER, "the subkey that made the signature is expired"),
        ("rsa4096.asc", "rsa4096", NOW, "is ASCII-armored"),
        ("SHA256SUMS", "rsa4096", NOW, "is not a detached OpenPGP signature"),
    ] {
        let error = verified(name, &fixture(file), now).unwrap_err().to_string();
        assert!(error.contains(problem), "{file}: {error}");
        assert!(!error.contains('\n'), "{error:?}");
    }
}

#[test]
fn a_signature_is_as_valid_as_when_it_was_made() {
    let text = fixture("SHA256SUMS");
    let as_made = |name: &str, file: &str, text: &[u8]| {
        SigningKey::read(&armored(name)).unwrap().verify_as_made(text, &fixture(file))
    };
    for (name, file, problem) in [
        ("rsa4096", "sha1.sig", "has the weak SHA1"),
        ("rsa4096", "before-key.sig", "before the creation of its key"),
        ("rsa4096", "ed25519.sig", "which is another one"),
    ] {
        let error = as_made(name, file, &text).unwrap_err().to_string();
        assert!(error.contains(problem), "{file}: {error}");
    }
    assert_eq!(as_made("expires", "expires.sig", b"x"), Err(SignatureError::Mismatch));
    // The first key, and the subkey of the second, expired later.
    for name in ["expires", "old-subkey", "rsa4096", "subkey"] {
        assert_eq!(as_made(name, &format!("{name}.sig"), &text), Ok(()), "{name}");
    }
}

#[test]
fn a_changed_signature_or_text_is_refused() {
    let good = fixture("ed25519.sig");
    for bytes in [Vec::new(), vec![0; 9_000], good[..good.len() - 1].to_vec(), vec![0xc2]] {
        assert!(verified("ed25519", &bytes, NOW).is_err(), "{} bytes", bytes.len());
    }
    for trailing in [&b"\n"[..], b"\xc2", b"\x00", b"\xca\x03PGP", b"\xcd\x01x"] {
        let bytes = [&good, trailing].concat();
        assert!(verified("ed25519", &bytes, NOW).is_err(), "{trailing:?}");
    }
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        let outcome = verified("ed25519", &bytes, NOW);
        assert!(outcome.is_err(), "byte {at}: {outcome:?}");
    }
    let text = [&fixture("SHA256SUMS"), &b"\n"[..]].concat();
    let outcome = key("ed25519").verify(&text, &good, NOW);
    assert_eq!(outcome, Err(SignatureError::Mismatch));
}

/// Signs the fixture with the key `ed25519`, and returns the outcome of the verification.
fn signed(change: impl FnOnce(&mut SignatureConfig)) -> Result<(), SignatureError> {
    let (secret, _) = SignedSecretKey::from_string(&armored("private")).unwrap();
    let kind = SignatureType::Binary;
    let mut config = SignatureConfig::v4(kind, secret.algorithm(), HashAlgorithm::Sha512);
    let created = Timestamp::from_secs(1_770_000_000);
    config.hashed_subpackets = vec![
        Subpacket::critical(SubpacketData::SignatureCreationTime(created)).unwrap(),
        Subpacket::regular(SubpacketData::IssuerFingerprint(secret.fingerprint())).unwrap(),
    ];
    config.unhashed_subpackets =
        vec![Subpacket::regular(SubpacketData::IssuerKeyId(secret.legacy_key_id())).unwrap()];
    change(&mut config);
    let text = fixture("SHA256SUMS");
    let signature = config.sign(&secret.primary_key, &Password::empty(), &text[..]).unwrap();
    let mut bytes = Vec::new();
    signature.to_writer_with_header(&mut bytes).unwrap();
    verified("ed25519", &bytes, NOW)
}

#[test]
fn a_signature_that_programs_read_differently_is_refused() {
    let regular = |data| Subpacket::regular(data).unwrap();
    let note = || Notation {
        readable: true,
        name: b"x@example.com".to_vec().into(),
        value: b"x".to_vec().into(),
    };
    let other = || SubpacketData::IssuerKeyId([7; 8].into());
    assert_eq!(signed(|_| ()), Ok(()));
    assert_eq!(
        signed(|config| config.hashed_subpackets.push(regular(SubpacketData::Notation(note())))),
        Ok(())
    );
    let critical = Subpacket::critical(SubpacketData::Notation(note())).unwrap();
    let ambiguous = Err(SignatureError::Ambiguous);
    assert_eq!(signed(|config| config.hashed_subpackets.push(critical)), ambiguous);
    let unsigned = regular(SubpacketData::Notation(note()));
    assert_eq!(signed(|config| config.unhashed_subpackets.push(unsigned)), ambiguous);
    let issuer = Err(SignatureError::Issuer);
    assert_eq!(signed(|config| config.unhashed_subpackets.push(regular(other()))), issuer);
    let without = signed(|config| {
        config.hashed_subpackets.truncate(1);
        config.unhashed_subpackets.clear();
    });
    assert_eq!(without, issuer);
    let unnamed = signed(|config| {
        config.hashed_subpackets.truncate(1);
        config.unhashed_subpackets = vec![regular(other())];
    });
    assert!(matches!(unnamed, Err(SignatureError::OtherKey(_))), "{unnamed:?}");
}

#[test]
fn a_signature_needs_a_time_that_it_covers_and_a_strong_hash() {
    let without_time = signed(|config| {
        let time = config.hashed_subpackets.remove(0);
        config.unhashed_subpackets.push(time);
    });
    assert_eq!(without_time, Err(SignatureError::Ambiguous));
    assert_eq!(
        signed(|config| {
            config.hashed_subpackets.remove(0);
        }),
        Err(SignatureError::Malformed)
    );
    let expires = |seconds| SubpacketData::SignatureExpirationTime(Duration::from_secs(seconds));
    let expiring = |seconds| {
        move |config: &mut SignatureConfig| {
            config.hashed_subpackets.push(Subpacket::regular(expires(seconds)).unwrap());
        }
    };
    assert_eq!(signed(expiring(60)), Err(SignatureError::Expires));
    assert_eq!(signed(expiring(0)), Ok(()));
    let text = signed(|config| config.typ = SignatureType::Text);
    assert_eq!(text, Err(SignatureError::NotBinary));
    let sha3 = signed(|config| config.hash_alg = HashAlgorithm::Sha3_256);
    assert_eq!(sha3, Err(SignatureError::WeakHash("SHA3-256".to_owned())));
    // The fourth byte after the header of two bytes is the number of the hash.
    for (number, name) in [(1, "the weak MD5"), (2, "the weak SHA1"), (3, "RIPEMD160"), (99, "")] {
        let mut bytes = fixture("ed25519.sig");
        bytes[5] = number;
        match verified("ed25519", &bytes, NOW) {
            Err(SignatureError::WeakHash(found)) => assert!(found.contains(name), "{found}"),
            other => panic!("{number}: {other:?}"),
        }
    }
}
