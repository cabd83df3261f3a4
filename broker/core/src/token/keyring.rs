//! The keys that tokens are sealed under: which one mints, which ones open, and what comes next. No clock and no I/O.

use std::collections::HashMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hkdf::Hkdf;
use sha2::Sha256;
use stile_protocol::exchange;
use zeroize::Zeroizing;

/// Age at which a key is followed by the next, in seconds.
pub const ROTATION_INTERVAL: i64 = 24 * 3600;

/// Between a key's publication and its first use, in seconds, so that every process has met it by then.
pub const ACTIVATION_DELAY: i64 = 300;

/// Most keys alive at once.
pub const MAX_KEYS: usize = 4;

/// How long after its last mint a key may be needed, in seconds: the longest token, and what clocks differ by.
const RETENTION_AFTER_MINT: i64 = exchange::MAX_TTL + 60;

/// A key's name: 128 random bits as 22 base64url characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyId(String);

impl KeyId {
    /// Reads one.
    pub fn parse(text: &str) -> Option<Self> {
        exchange::is_base64url(text, 16).then(|| Self(text.to_owned()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One key: its name, its secret, and when it was made and first mints (Unix seconds).
#[derive(Clone)]
pub struct Key {
    id: KeyId,
    secret: Zeroizing<[u8; 32]>,
    created_at: i64,
    mints_from: i64,
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Key")
            .field("id", &self.id)
            .field("mints_from", &self.mints_from)
            .finish_non_exhaustive()
    }
}

impl Key {
    /// A new one.
    pub fn random(created_at: i64, mints_from: i64) -> Result<Self, getrandom::Error> {
        let mut id = [0; 16];
        getrandom::fill(&mut id)?;
        let mut secret = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *secret)?;
        Ok(Self { id: KeyId(URL_SAFE_NO_PAD.encode(id)), secret, created_at, mints_from })
    }

    /// One that was kept.
    pub fn stored(
        id: KeyId,
        secret: Zeroizing<[u8; 32]>,
        created_at: i64,
        mints_from: i64,
    ) -> Self {
        Self { id, secret, created_at, mints_from }
    }

    /// Its name.
    pub const fn id(&self) -> &KeyId {
        &self.id
    }

    /// When it was made.
    pub const fn created_at(&self) -> i64 {
        self.created_at
    }

    /// When it first mints.
    pub const fn mints_from(&self) -> i64 {
        self.mints_from
    }

    /// The secret itself, for sealing and for the store alone.
    pub fn secret(&self) -> &[u8] {
        &*self.secret
    }

    /// A key for another purpose, from which neither this one nor a third can be told (RFC 5869).
    pub fn derive(&self, purpose: &[u8]) -> Zeroizing<[u8; 32]> {
        let mut derived = Zeroizing::new([0; 32]);
        // 32 bytes are within HKDF's limit of 255 blocks, the only thing that can fail here; a key of zeros is never given.
        match Hkdf::<Sha256>::new(None, &*self.secret).expand(purpose, &mut *derived) {
            Ok(()) => derived,
            Err(_) => unreachable!("32 bytes are within the limit of HKDF"),
        }
    }
}

/// The keys alive, oldest first, and the revision under which they were kept.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    /// Grows by one with each change.
    pub revision: i64,
    keys: Vec<Key>,
}

impl Keyring {
    /// A keyring as it was kept.
    pub fn stored(revision: i64, mut keys: Vec<Key>) -> Self {
        keys.sort_by_key(Key::mints_from);
        Self { revision, keys }
    }

    /// The keys, oldest first.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The key of that name.
    pub fn key(&self, id: &KeyId) -> Option<&Key> {
        self.keys.iter().find(|key| key.id == *id)
    }

    /// The key to mint with now.
    pub fn minting_key(&self, now: i64) -> Option<&Key> {
        self.keys.iter().rev().find(|key| key.mints_from <= now)
    }

    /// Whether this keyring should be followed by the next before anything is minted under it.
    ///
    /// A process that has not looked for a day is due as well: so no key mints once its successor has been met.
    pub fn rotation_due(&self, now: i64) -> bool {
        self.keys
            .last()
            .is_none_or(|newest| now >= newest.created_at.saturating_add(ROTATION_INTERVAL))
    }

    /// The keyring that follows: with the next key, without those whose last token has expired.
    ///
    /// The first key of all mints at once; every later one when all have had time to meet it.
    pub fn rotated(&self, now: i64) -> Result<Self, getrandom::Error> {
        let mints_from = if self.minting_key(now).is_none() {
            now
        } else {
            now.saturating_add(ACTIVATION_DELAY)
        };
        let mut keys: Vec<Key> = Vec::with_capacity(MAX_KEYS);
        for (at, key) in self.keys.iter().enumerate() {
            let followed_at = self.keys.get(at + 1).map_or(mints_from, |next| next.mints_from);
            if now < followed_at.saturating_add(RETENTION_AFTER_MINT) {
                keys.push(key.clone());
            }
        }
        while keys.len() >= MAX_KEYS {
            // The oldest goes, unless it is the one that mints; then the one after it, which never did.
            let minting = self.minting_key(now).map(Key::id);
            keys.remove(usize::from(keys.first().map(Key::id) == minting));
        }
        keys.push(Key::random(now, mints_from)?);
        Ok(Self { revision: self.revision.saturating_add(1), keys })
    }

    /// The same without the keys that are not listed.
    #[must_use]
    pub fn restricted_to(&self, listed: &KeyringSummary) -> Self {
        Self {
            revision: self.revision,
            keys: self.keys.iter().filter(|key| listed.contains(&key.id)).cloned().collect(),
        }
    }

    /// The keyring that opens nothing any more: what revokes every token at once.
    #[must_use]
    pub fn cleared(&self) -> Self {
        Self { revision: self.revision.saturating_add(1), keys: Vec::new() }
    }
}

/// Keys for another purpose than tokens, derived from each live key of the keyring.
#[derive(Debug)]
pub struct DerivedKeys {
    /// The key in use.
    pub current: KeyId,
    /// All of them.
    pub keys: HashMap<KeyId, Zeroizing<[u8; 32]>>,
}

/// What a read of the store says of a keyring in the clear: enough to know that a key is gone, and to open nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyringSummary {
    /// Its revision.
    pub revision: i64,
    /// The names of the keys alive.
    pub ids: Vec<KeyId>,
}

impl KeyringSummary {
    /// Whether a key of that name is alive.
    pub fn contains(&self, id: &KeyId) -> bool {
        self.ids.contains(id)
    }

    /// Whether it is that keyring. The revision alone does not say it: one that was restored counts on from where it was.
    pub fn matches(&self, keyring: &Keyring) -> bool {
        self.revision == keyring.revision
            && self.ids.len() == keyring.keys.len()
            && keyring.keys.iter().all(|key| self.contains(&key.id))
    }
}

impl From<&Keyring> for KeyringSummary {
    fn from(keyring: &Keyring) -> Self {
        Self {
            revision: keyring.revision,
            ids: keyring.keys.iter().map(|key| key.id.clone()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3600;

    #[test]
    fn the_first_key_mints_at_once_and_the_next_when_all_have_met_it() {
        let empty = Keyring::default();
        assert!(empty.rotation_due(0) && empty.minting_key(0).is_none());
        let first = empty.rotated(1000).unwrap();
        let old = first.minting_key(1000).unwrap().id().clone();
        assert!(!first.rotation_due(1000 + DAY - 1) && first.rotation_due(1000 + DAY));
        let now = 1000 + DAY;
        let second = first.rotated(now).unwrap();
        assert_eq!(second.revision, 2);
        assert_eq!(second.minting_key(now + ACTIVATION_DELAY - 1).unwrap().id(), &old);
        assert_ne!(second.minting_key(now + ACTIVATION_DELAY).unwrap().id(), &old);
        assert!(!second.rotation_due(now + ACTIVATION_DELAY));
    }

    #[test]
    fn a_key_is_kept_until_the_last_token_under_it_has_expired() {
        let first = Keyring::default().rotated(0).unwrap();
        let second = first.rotated(DAY).unwrap();
        let old = first.keys()[0].id();
        let last_mint = DAY + ACTIVATION_DELAY - 1;
        assert!(second.rotated(last_mint + exchange::MAX_TTL).unwrap().key(old).is_some());
        assert!(
            second
                .rotated(DAY + ACTIVATION_DELAY + RETENTION_AFTER_MINT)
                .unwrap()
                .key(old)
                .is_none()
        );
    }

    #[test]
    fn no_more_than_four_keys_live_however_often_they_rotate() {
        let mut keyring = Keyring::default();
        for now in 0..10 {
            keyring = keyring.rotated(now).unwrap();
            assert!(keyring.keys().len() <= MAX_KEYS);
        }
        assert!(keyring.minting_key(9).is_some(), "something still mints");
    }

    #[test]
    fn a_dropped_keyring_opens_nothing_and_its_next_key_mints_at_once() {
        let first = Keyring::default().rotated(0).unwrap();
        let dropped = first.cleared();
        assert!(dropped.key(first.keys()[0].id()).is_none());
        assert_eq!(dropped.revision, 2);
        assert!(dropped.rotated(5).unwrap().minting_key(5).is_some());
    }

    #[test]
    fn what_is_listed_is_a_keyring_of_the_same_revision_and_the_same_keys() {
        let (first, other) =
            (Keyring::default().rotated(0).unwrap(), Keyring::default().rotated(0).unwrap());
        let listed = KeyringSummary::from(&first);
        assert!(listed.matches(&first) && listed.contains(first.keys()[0].id()));
        assert!(!listed.matches(&other), "a restored keyring that counted on");
        assert!(!listed.matches(&first.cleared()) && !listed.matches(&first.rotated(1).unwrap()));
    }

    #[test]
    fn derived_keys_differ_by_purpose_and_key_and_secrets_are_not_shown() {
        let (key, other) = (Key::random(0, 0).unwrap(), Key::random(0, 0).unwrap());
        assert_ne!(*key.derive(b"a"), *key.derive(b"b"));
        assert_ne!(*key.derive(b"a"), *other.derive(b"a"));
        assert_ne!(&key.derive(b"a")[..], key.secret());
        assert!(!format!("{key:?}").contains("secret"));
    }
}
