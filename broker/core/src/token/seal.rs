//! Seals claims into a token and opens them again: PASETO v4.local, one spelling, one audience. No clock and no I/O.
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

/// Longest token that is looked at, in bytes: what fits every gateway's header limit.
pub const MAX_TOKEN_LEN: usize = 4096;

/// What every token begins with, so that secret scanners can know one.
const PREFIX: &str = "stile_";

/// The header of the one version and purpose there is; another is refused before any cryptography, so there is no
/// algorithm to confuse.
const HEADER: &str = "v4.local.";

/// A token in its one spelling, whose key id is known and whose seal nobody has looked at.
#[derive(Debug)]
pub struct Sealed<'a> {
    paseto: &'a str,
    /// The key that it says it is sealed under.
    pub unverified_key_id: KeyId,
}

impl<'a> Sealed<'a> {
    /// Looks at length, prefix, alphabet and key id, in that order.
    pub fn parse(token: &'a str) -> Option<Self> {
        if token.len() > MAX_TOKEN_LEN {
            return None;
        }
        let paseto = token.strip_prefix(PREFIX)?;
        let (payload, footer) = paseto.strip_prefix(HEADER)?.split_once('.')?;
        // Both decoders refuse padding and stray bits, so no second spelling of a token opens: a cache or a revocation
        // keyed by the text cannot be slipped past.
        decode_base64url(payload).filter(|bytes| bytes.len() > 64)?;
        let footer = decode_base64url(footer)?;
        let id = footer.strip_prefix(b"{\"kid\":\"")?.strip_suffix(b"\"}")?;
        let unverified_key_id = KeyId::parse(std::str::from_utf8(id).ok()?)?;
        Some(Self { paseto, unverified_key_id })
    }

    /// Opens the seal and reads the claims; a holder of the key made them, for this audience.
    pub fn open(&self, key: &Key, audience: &Audience) -> Option<Claims> {
        Claims::parse(&self.open_bytes(key, audience)?).ok()
    }

    /// Opens the seal; what comes out was put in by a holder of the key, for this audience.
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

/// Seals claims into a token for the audience.
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

/// Binds a token to its registry: two registries that share a key by mistake still refuse each other's tokens.
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
    fn what_is_no_token_of_ours_is_refused_before_any_cryptography() {
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
    fn a_token_opens_under_its_own_key_and_audience_alone() {
        let (key, other) = (Key::random(0, 0).unwrap(), Key::random(0, 0).unwrap());
        let token = seal_bytes(&key, &audience(), b"{\"a\":1}").unwrap();
        assert_eq!(open(&key, &token).as_deref(), Some(b"{\"a\":1}".as_slice()));
        let sealed = Sealed::parse(&token).unwrap();
        assert_eq!(sealed.open_bytes(&other, &audience()), None);
        assert_eq!(sealed.open_bytes(&key, &Audience::parse("other.example.com").unwrap()), None);
    }

    /// The other ways to write what a token's decoder might take for the same bytes.
    fn respelled(token: &str) -> Vec<String> {
        let parts: Vec<&str> = token.split('.').collect();
        let &[prefix, local, payload, footer] = parts.as_slice() else { panic!("{token}") };
        let mut spellings = vec![
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
            spellings.push(format!("{prefix}.{local}.{payload}.{footer}"));
        }
        for padding in ["=", "==", "A", "\n", " ", "\0"] {
            spellings.push(format!("{prefix}.{local}.{payload}{padding}.{footer}"));
            spellings.push(format!("{token}{padding}"));
            spellings.push(format!("{padding}{token}"));
        }
        // The last character of a part may hold bits that no byte has: all that decode alike but for those.
        for (at, part) in [(2, payload), (3, footer)] {
            for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".chars() {
                let mut parts = [prefix, local, payload, footer].map(str::to_owned);
                parts[at] = format!("{}{last}", &part[..part.len() - 1]);
                spellings.push(parts.join("."));
            }
        }
        spellings
            .push(format!("{prefix}.{local}.{payload}.{}", URL_SAFE_NO_PAD.encode(spaced(footer))));
        spellings.retain(|spelling| spelling != token);
        spellings
    }

    /// The same footer as another writer of JSON would have put it.
    fn spaced(footer: &str) -> String {
        String::from_utf8(decode_base64url(footer).unwrap()).unwrap().replace(':', ": ")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn no_other_spelling_of_a_token_opens(message in "\\PC{1,40}") {
            let key = Key::random(0, 0).unwrap();
            let token = seal_bytes(&key, &audience(), message.as_bytes()).unwrap();
            for spelling in respelled(&token) {
                prop_assert_eq!(open(&key, &spelling), None, "{}", spelling);
            }
            prop_assert_eq!(open(&key, &token), Some(message.into_bytes()));
        }

        #[test]
        fn opening_undoes_sealing(message in "\\PC{1,300}") {
            let key = Key::random(0, 0).unwrap();
            prop_assert_eq!(open(&key, &seal_bytes(&key, &audience(), message.as_bytes()).unwrap()), Some(message.into_bytes()));
        }

        #[test]
        fn any_changed_cut_or_longer_token_is_refused(at in any::<prop::sample::Index>(), with in 0..ALPHABET.len()) {
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
        fn any_flipped_bit_is_refused(at in any::<prop::sample::Index>(), bit in 0..8_u32) {
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
