//! Which keys are accepted, and in which form clients get them.

use pgp::composed::{ArmorOptions, Deserializable, SignedPublicKey, SignedPublicSubKey};
use pgp::packet::{PacketTrait as _, Subpacket, SubpacketData, UserId};
use pgp::types::PacketHeaderVersion;

use super::{LATER, NOW, armored, key, verified};
use crate::package::provider::{KeyError, SigningKey};

fn refused(text: &str) -> String {
    SigningKey::parse(text, NOW).unwrap_err().to_string()
}

#[test]
fn a_text_that_is_not_one_public_key_is_refused_with_a_sentence() {
    let good = armored("rsa2048");
    let block = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
    for (text, problem) in [
        (String::new(), "must be one ASCII-armored block"),
        ("ssh-ed25519 AAAA".to_owned(), "must be one ASCII-armored block"),
        (good.replace("PUBLIC KEY BLOCK", "MESSAGE"), "must be one ASCII-armored block"),
        (good.replace("PUBLIC KEY BLOCK", "SIGNATURE"), "must be one ASCII-armored block"),
        (armored("private"), "has a private key"),
        (armored("private").replace("PRIVATE", "PUBLIC"), "has a private key"),
        (format!("{good}{}", armored("private")), "has a private key"),
        (format!("{good}{}", armored("ed25519")), "has several keys"),
        (armored("two"), "has several keys"),
        (format!("my key:\n{good}"), "without text before or after it"),
        (format!("{good}\nbest regards"), "without text before or after it"),
        (format!("{good}-----BEGIN PGP SIGNATURE-----\n"), "without text before or after it"),
        (good.replace("-----END PGP PUBLIC KEY BLOCK-----", ""), "without text before or after it"),
        (format!("{block}\n\n-----END PGP PUBLIC KEY BLOCK-----"), "is damaged"),
        (format!("{block}\n\n????\n-----END PGP PUBLIC KEY BLOCK-----"), "is damaged"),
        (good.lines().take(8).chain(good.lines().last()).collect::<Vec<_>>().join("\n"), "damaged"),
        (" ".repeat(40_000), "larger than 32 KiB"),
    ] {
        let error = refused(&text);
        assert!(error.contains(problem), "{text:.80}: {error}");
        assert!(!error.contains('\n'), "{error:?}");
    }
}

#[test]
fn a_key_that_is_weak_or_that_clients_do_not_read_is_refused() {
    for (name, problem) in [
        ("weak-rsa", "the RSA key has 1024 bits"),
        ("dsa", "the algorithm DSA"),
        ("secp256k1", "the algorithm ECDSA on secp256k1"),
        ("v6", "of version 4"),
        ("sha1", "signs its user ids only with the weak SHA1"),
        ("revoked", "the key is revoked"),
        ("certify-only", "the key cannot sign data"),
        ("encrypts", "the key cannot sign data"),
    ] {
        let error = refused(&armored(name));
        assert!(error.contains(problem), "{name}: {error}");
    }
}

#[test]
fn a_key_is_valid_from_its_creation_to_its_end() {
    let text = armored("expires");
    let at = |now| SigningKey::parse(&text, now).map(|key| key.expires_at().unwrap());
    let created = key("expires").created_at();
    assert_eq!(at(created - 301), Err(KeyError::FromFuture));
    let end = at(created - 300).unwrap();
    assert_eq!(at(end - 1), Ok(end));
    assert_eq!(at(end), Err(KeyError::Expired(end)));
    assert_eq!(at(LATER).unwrap_err().to_string(), "the key expired at 2026-06-01T12:00:00Z");
}

fn changed(name: &str, change: impl FnOnce(&mut SignedPublicKey)) -> String {
    let (mut key, _) = SignedPublicKey::from_string(&armored(name)).unwrap();
    change(&mut key);
    key.to_armored_string(ArmorOptions::default()).unwrap()
}

#[test]
fn a_key_with_a_part_that_it_did_not_sign_is_refused() {
    let stolen = SignedPublicKey::from_string(&armored("subkey")).unwrap().0.public_subkeys;
    let other_id = |key: &mut SignedPublicKey| {
        let header = PacketHeaderVersion::New;
        key.details.users[0].id = UserId::from_str(header, "mallory <m@example.com>").unwrap();
    };
    for (text, problem) in [
        (changed("rsa2048", other_id), "an invalid signature over one of its own parts"),
        (changed("two-names", other_id), "an invalid signature over one of its own parts"),
        (changed("rsa2048", |key| key.details.users.clear()), "no user id"),
        (
            changed("rsa2048", |key| key.public_subkeys.extend(stolen.clone())),
            "an invalid signature over one of its own parts",
        ),
    ] {
        let error = refused(&text);
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn a_signing_subkey_that_did_not_sign_its_primary_key_is_refused() {
    let back_signature = |subkey: &mut SignedPublicSubKey, twice: bool| {
        let binding = &mut subkey.signatures[0];
        let subpackets = &binding.config().unwrap().unhashed_subpackets;
        let is_back = |one: &Subpacket| matches!(one.data, SubpacketData::EmbeddedSignature(_));
        let at = subpackets.iter().position(is_back).unwrap();
        let removed = binding.unhashed_subpacket_remove(at).unwrap();
        if twice {
            binding.unhashed_subpacket_push(removed.clone()).unwrap();
            binding.unhashed_subpacket_push(removed).unwrap();
        }
    };
    for twice in [false, true] {
        let text = changed("subkey", |key| back_signature(&mut key.public_subkeys[0], twice));
        let error = refused(&text);
        assert!(error.contains("has no valid signature over its primary key"), "{error}");
    }
}

#[test]
fn a_strong_key_is_accepted_with_its_values() {
    for (name, algorithm, is_old_client_safe) in [
        ("rsa4096", "RSA 4096", true),
        ("rsa2048", "RSA 2048", true),
        ("p256", "ECDSA P-256", true),
        ("ed25519", "Ed25519", false),
        ("subkey", "RSA 2048", true),
    ] {
        let key = key(name);
        assert_eq!(key.algorithm(), algorithm, "{name}");
        assert_eq!(key.is_old_client_safe(), is_old_client_safe, "{name}");
        assert_eq!(key.user_id(), format!("{name} <{name}@example.com>"));
        assert_eq!(key.created_at(), 1_767_225_600, "{name}");
        assert_eq!(key.expires_at(), None, "{name}");
        assert_eq!(key.fingerprint().len(), 40);
        assert!(key.fingerprint().ends_with(key.key_id().as_str()), "{name}");
    }
    assert_eq!(key("two-names").user_id(), "second <second@example.com>");
}

#[test]
fn clients_get_one_block_with_only_what_they_need() {
    for name in ["rsa4096", "ed25519", "p256", "subkey", "certified", "two-names", "old-subkey"] {
        let written = key(name).armor().to_owned();
        assert!(written.starts_with("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n"), "{written}");
        assert_eq!(written.matches("-----").count(), 4, "{written}");
        let again = SigningKey::parse(&written, NOW).unwrap();
        assert_eq!(again.armor(), written, "{name}");
        assert_eq!(again.fingerprint(), key(name).fingerprint());
    }
    let parts = |name: &str| SignedPublicKey::from_string(key(name).armor()).unwrap().0;
    assert_eq!(parts("subkey").public_subkeys.len(), 1, "no encryption subkey");
    assert_eq!(parts("certified").details.users[0].signatures.len(), 1, "no foreign signature");
    assert_eq!(parts("two-names").details.users.len(), 2);

    let noisy = changed("rsa2048", |key| {
        let note = Subpacket::critical(SubpacketData::Experimental(101, b"x".to_vec().into()));
        let signature = &mut key.details.users[0].signatures[0];
        signature.unhashed_subpacket_push(note.unwrap()).unwrap();
        assert!(signature.packet_header().packet_length().maybe_len().is_some());
    });
    assert_eq!(SigningKey::parse(&noisy, NOW).unwrap().armor(), key("rsa2048").armor());
    let windows = armored("rsa2048").replace('\n', "\r\n");
    assert_eq!(SigningKey::parse(&windows, NOW).unwrap().armor(), key("rsa2048").armor());
}

#[test]
fn the_written_key_still_verifies() {
    for name in ["rsa4096", "rsa2048", "ed25519", "p256", "subkey"] {
        let signature = super::fixture(&format!("{name}.sig"));
        assert_eq!(verified(name, &signature, NOW), Ok(()), "{name}");
        let written = SigningKey::parse(key(name).armor(), NOW).unwrap();
        assert_eq!(written.verify(&super::fixture("SHA256SUMS"), &signature, NOW), Ok(()));
    }
}
