//! Seals claims into tokens and opens them: PASETO v4.local, with one canonical encoding and one
//! audience. It has no clock and no I/O.
//!
//! <https://github.com/paseto-standard/paseto-spec/blob/master/docs/01-Protocol-Versions/Version4.md>

use pasetors::Local;
use pasetors::keys::SymmetricKey;
use pasetors::token::UntrustedToken;
use pasetors::version4::{LocalToken, V4};
use stile_protocol::audience::Audience;
use stile_protocol::exchange::decode_base64url;

use super::claims::Claims;
use super::keyring::{Key, KeyId};

/// Maximum length of a token in bytes. It fits into the header limit of every gateway.
///
/// The broker rejects longer tokens before it decodes them, so that they cost no memory or time.
pub const MAX_TOKEN_LEN: usize = 4096;

/// The prefix of every token, so that secret scanners can recognise leaked tokens.
const PREFIX: &str = "stile_";

/// The header of the only supported PASETO version and purpose.
///
/// The parser rejects every other header before any cryptography, which prevents algorithm confusion.
const HEADER: &str = "v4.local.";

/// A token in canonical encoding, whose seal is not verified yet.
#[derive(Debug)]
pub struct Sealed<'a> {
    paseto: &'a str,
    /// The id of the key, as the token claims it.
    pub unverified_key_id: KeyId,
}

impl<'a> Sealed<'a> {
    /// Parses length, prefix, encoding and key id, or returns `None`. It does not verify the seal.
    pub fn parse(token: &'a str) -> Option<Self> {
        if token.len() > MAX_TOKEN_LEN {
            return None;
        }
        let paseto = token.strip_prefix(PREFIX)?;
        let (payload, footer) = paseto.strip_prefix(HEADER)?.split_once('.')?;
        // Both decoders reject padding and stray bits, so a token has only one encoding. Otherwise,
        // another encoding could bypass a cache or a revocation that uses the text as its key.
        decode_base64url(payload).filter(|bytes| bytes.len() > 64)?;
        let footer = decode_base64url(footer)?;
        let id = footer.strip_prefix(b"{\"kid\":\"")?.strip_suffix(b"\"}")?;
        let unverified_key_id = KeyId::parse(std::str::from_utf8(id).ok()?)?;
        Some(Self { paseto, unverified_key_id })
    }

    /// Verifies and opens the seal, and parses the claims.
    ///
    /// `None`, if the seal is invalid for this key and audience, or the claims are malformed.
    pub fn open(&self, key: &Key, audience: &Audience) -> Option<Claims> {
        Claims::parse(&self.open_bytes(key, audience)?).ok()
    }

    /// Verifies and opens the seal. Only a holder of the key can have sealed the returned message.
    pub(super) fn open_bytes(&self, key: &Key, audience: &Audience) -> Option<Vec<u8>> {
        let token = UntrustedToken::<Local, V4>::try_from(self.paseto).ok()?;
        let secret = SymmetricKey::<V4>::from(key.secret()).ok()?;
        let opened = LocalToken::decrypt(
            &secret,
            &token,
            Some(footer(key.id()).as_bytes()),
            Some(&assertion(audience)),
        )
        .ok()?;
        Some(opened.payload().as_bytes().to_vec())
    }
}

/// Seals claims into a token for the audience. `None`, if the PASETO library fails.
pub fn seal(key: &Key, audience: &Audience, claims: &Claims) -> Option<String> {
    seal_bytes(key, audience, &claims.to_bytes())
}

/// Seals a message for the audience.
pub(super) fn seal_bytes(key: &Key, audience: &Audience, message: &[u8]) -> Option<String> {
    let secret = SymmetricKey::<V4>::from(key.secret()).ok()?;
    let sealed = LocalToken::encrypt(
        &secret,
        message,
        Some(footer(key.id()).as_bytes()),
        Some(&assertion(audience)),
    )
    .ok()?;
    Some(format!("{PREFIX}{sealed}"))
}

fn footer(id: &KeyId) -> String {
    format!("{{\"kid\":\"{}\"}}", id.as_str())
}

/// Returns the implicit assertion, which binds a token to its registry.
///
/// It prevents token reuse between registries: two registries that share a key by mistake still reject
/// each other's tokens.
fn assertion(audience: &Audience) -> Vec<u8> {
    [b"stile-token\0", audience.as_str().as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;

    use super::*;

    const ALPHABET: &[u8] =
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ ";

    fn audience() -> Audience {
        Audience::parse("registry.example.com").unwrap()
    }

    fn open(key: &Key, token: &str) -> Option<Vec<u8>> {
        Sealed::parse(token)
            .filter(|sealed| sealed.unverified_key_id == *key.id())?
            .open_bytes(key, &audience())
    }

    #[test]
    fn foreign_tokens_are_rejected_before_any_cryptography() {
        let key = Key::random(0, 0).unwrap();
        let token = seal_bytes(&key, &audience(), b"{}").unwrap();
        let paseto = token.strip_prefix("stile_").unwrap();
        let (body, footer) = paseto.rsplit_once('.').unwrap();
        for bad in [
            String::new(),
            paseto.to_owned(),
            format!("tfr_{paseto}"),
            format!("stile_svc_{paseto}"),
            token.replace("v4.local", "v2.local"),
            token.replace("v4.local", "v4.public"),
            token.replace("v4.local", "V4.local"),
            format!("stile_{body}"),
            format!("stile_{body}."),
            format!("stile_{body}.{footer}."),
            format!("stile_{body}.{footer}="),
            format!("{token}\n"),
            format!(" {token}"),
            format!("stile_v4.local..{footer}"),
            "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.".to_owned(),
            "stile_".repeat(1000),
            "a".repeat(1_000_000),
        ] {
            assert!(Sealed::parse(&bad).is_none(), "{bad:.80}");
        }
    }

    #[test]
    fn a_token_opens_only_with_its_own_key_and_audience() {
        let (key, other) = (Key::random(0, 0).unwrap(), Key::random(0, 0).unwrap());
        let token = seal_bytes(&key, &audience(), b"{\"a\":1}").unwrap();
        assert_eq!(open(&key, &token).as_deref(), Some(b"{\"a\":1}".as_slice()));
        let sealed = Sealed::parse(&token).unwrap();
        assert_eq!(sealed.open_bytes(&other, &audience()), None);
        assert_eq!(sealed.open_bytes(&key, &Audience::parse("other.example.com").unwrap()), None);
    }

    /// Returns other encodings that a lenient decoder would accept as the same token.
    fn other_encodings(token: &str) -> Vec<String> {
        let parts: Vec<&str> = token.split('.').collect();
        let &[prefix, local, payload, footer] = parts.as_slice() else { panic!("{token}") };
        let mut encodings = vec![
            token.to_ascii_uppercase(),
            token.to_ascii_lowercase(),
            format!("{prefix}.{local}.{}.{footer}", payload.replace('-', "+").replace('_', "/")),
            token.replace('.', "%2E"),
            token.strip_prefix("stile_").unwrap().to_owned(),
            format!("stile_{token}"),
            format!("Stile_{}", &token[6..]),
        ];
        for (payload, footer) in [
            (payload, footer.to_owned() + "="),
            (payload, footer.to_owned() + "=="),
            (payload, String::new()),
        ] {
            encodings.push(format!("{prefix}.{local}.{payload}.{footer}"));
        }
        for padding in ["=", "==", "A", "\n", " ", "\0"] {
            encodings.push(format!("{prefix}.{local}.{payload}{padding}.{footer}"));
            encodings.push(format!("{token}{padding}"));
            encodings.push(format!("{padding}{token}"));
        }
        // The last character of a part may contain unused bits, so several characters decode alike.
        for (at, part) in [(2, payload), (3, footer)] {
            for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".chars() {
                let mut parts = [prefix, local, payload, footer].map(str::to_owned);
                parts[at] = format!("{}{last}", &part[..part.len() - 1]);
                encodings.push(parts.join("."));
            }
        }
        encodings
            .push(format!("{prefix}.{local}.{payload}.{}", URL_SAFE_NO_PAD.encode(spaced(footer))));
        encodings.retain(|encoding| encoding != token);
        encodings
    }

    /// Returns the same footer with other JSON whitespace.
    fn spaced(footer: &str) -> String {
        String::from_utf8(decode_base64url(footer).unwrap()).unwrap().replace(':', ": ")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn no_other_encoding_of_a_token_opens(message in "\\PC{1,40}") {
            let key = Key::random(0, 0).unwrap();
            let token = seal_bytes(&key, &audience(), message.as_bytes()).unwrap();
            for encoding in other_encodings(&token) {
                prop_assert_eq!(open(&key, &encoding), None, "{}", encoding);
            }
            prop_assert_eq!(open(&key, &token), Some(message.into_bytes()));
        }

        #[test]
        fn opening_returns_the_sealed_message(message in "\\PC{1,300}") {
            let key = Key::random(0, 0).unwrap();
            prop_assert_eq!(open(&key, &seal_bytes(&key, &audience(), message.as_bytes()).unwrap()), Some(message.into_bytes()));
        }

        #[test]
        fn a_changed_truncated_or_longer_token_is_rejected(at in any::<prop::sample::Index>(), with in 0..ALPHABET.len()) {
            let key = Key::random(0, 0).unwrap();
            let token = seal_bytes(&key, &audience(), b"{\"a\":1}").unwrap();
            let at = at.index(token.len());
            let letter = char::from(ALPHABET[with]);
            let mut changed = token.clone();
            changed.replace_range(at..=at, &letter.to_string());
            if changed != token {
                prop_assert_eq!(open(&key, &changed), None);
            }
            prop_assert_eq!(open(&key, &token[..at]), None);
            let mut longer = token;
            longer.insert(at, letter);
            prop_assert_eq!(open(&key, &longer), None);
        }

        #[test]
        fn a_token_with_a_flipped_bit_is_rejected(at in any::<prop::sample::Index>(), bit in 0..8_u32) {
            let key = Key::random(0, 0).unwrap();
            let mut bytes = seal_bytes(&key, &audience(), b"{\"a\":1}").unwrap().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            if let Ok(text) = std::str::from_utf8(&bytes) {
                prop_assert_eq!(open(&key, text), None);
            }
        }
    }
}
