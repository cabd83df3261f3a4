//! The keyring: the keys that seal and open tokens, and their rotation. It has no clock and no I/O.

use std::collections::HashMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hkdf::Hkdf;
use sha2::Sha256;
use stile_protocol::exchange;
use zeroize::Zeroizing;

/// Age in seconds at which the newest key needs a successor.
pub const ROTATION_INTERVAL: i64 = 24 * 3600;

/// Time in seconds between a key's publication and its first mint.
///
/// Within it, every process reads the new key, so no process receives a token that it cannot open.
pub const ACTIVATION_DELAY: i64 = 300;

/// Time in seconds by which the clock of another broker may be ahead.
///
/// A key that is created later than that is from the future: this clock or the other one is wrong.
/// If such a key counted as the newest, rotation would stop until its time has come.
pub const MAX_AHEAD: i64 = ACTIVATION_DELAY;

/// Maximum number of keys in a keyring.
///
/// With one rotation a day, the oldest of four keys was replaced two days ago, and its last token
/// has long expired. Two of the four can come from a clock that is ahead.
pub const MAX_KEYS: usize = 4;

/// A key id: 128 random bits as 22 base64url characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyId(String);

impl KeyId {
    /// Parses an id, or returns `None`.
    pub fn parse(text: &str) -> Option<Self> {
        exchange::is_base64url(text, 16).then(|| Self(text.to_owned()))
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One key: its id, its 256-bit secret, and its times in Unix seconds.
///
/// `Debug` shows no secret. Dropping a key overwrites its secret in memory.
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
    /// Creates a random key.
    ///
    /// # Errors
    ///
    /// If the system provides no random bytes.
    pub fn random(created_at: i64, mints_from: i64) -> Result<Self, getrandom::Error> {
        let mut id = [0; 16];
        getrandom::fill(&mut id)?;
        let mut secret = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *secret)?;
        Ok(Self { id: KeyId(URL_SAFE_NO_PAD.encode(id)), secret, created_at, mints_from })
    }

    /// Creates a key from its stored parts.
    pub fn stored(
        id: KeyId,
        secret: Zeroizing<[u8; 32]>,
        created_at: i64,
        mints_from: i64,
    ) -> Self {
        Self { id, secret, created_at, mints_from }
    }

    /// Returns the key id.
    pub const fn id(&self) -> &KeyId {
        &self.id
    }

    /// Returns the time of creation in Unix seconds.
    pub const fn created_at(&self) -> i64 {
        self.created_at
    }

    /// Returns whether the time of creation is more than [`MAX_AHEAD`] after `now`.
    pub const fn is_from_the_future(&self, now: i64) -> bool {
        self.created_at > now.saturating_add(MAX_AHEAD)
    }

    /// Returns the time of the first mint in Unix seconds.
    pub const fn mints_from(&self) -> i64 {
        self.mints_from
    }

    /// Returns the secret. Only the sealing code and the store may use it.
    pub fn secret(&self) -> &[u8] {
        &*self.secret
    }

    /// Derives a key for another purpose with HKDF-SHA-256 (RFC 5869).
    ///
    /// A leaked derived key reveals neither this key nor the keys for other purposes.
    pub fn derive(&self, purpose: &[u8]) -> Zeroizing<[u8; 32]> {
        let mut derived = Zeroizing::new([0; 32]);
        // `expand` fails only for more than 255 blocks. A key of zeros must never be returned.
        match Hkdf::<Sha256>::new(None, &*self.secret).expand(purpose, &mut *derived) {
            Ok(()) => derived,
            Err(_) => unreachable!("32 bytes are below the limit of HKDF"),
        }
    }
}

/// The current keys, oldest first, and their revision in the store.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    /// The revision, which increases by one with each change.
    pub revision: i64,
    keys: Vec<Key>,
}

impl Keyring {
    /// Creates a keyring from its stored parts.
    pub fn stored(revision: i64, mut keys: Vec<Key>) -> Self {
        keys.sort_by_key(Key::mints_from);
        Self { revision, keys }
    }

    /// Returns the keys, oldest first.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Returns the key with this id.
    pub fn key(&self, id: &KeyId) -> Option<&Key> {
        self.keys.iter().find(|key| key.id == *id)
    }

    /// Returns the key that mints at `now`: the newest whose first mint is not in the future.
    pub fn minting_key(&self, now: i64) -> Option<&Key> {
        self.keys.iter().rev().find(|key| key.mints_from <= now)
    }

    /// Returns the keys that are from the future, oldest first.
    pub fn keys_from_the_future(&self, now: i64) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(move |key| key.is_from_the_future(now))
    }

    /// Returns whether the keyring needs a rotation before the next mint.
    ///
    /// This is also true for a process whose copy is a day old. So no process mints with a key that
    /// another process has already replaced. A key from the future does not count.
    pub fn rotation_due(&self, now: i64) -> bool {
        self.keys
            .iter()
            .rev()
            .find(|key| !key.is_from_the_future(now))
            .is_none_or(|newest| now >= newest.created_at.saturating_add(ROTATION_INTERVAL))
    }

    /// Returns the next keyring: with a new key, and without the oldest key if it has four.
    ///
    /// The first key mints at once. Each later key first waits for [`ACTIVATION_DELAY`].
    ///
    /// It removes keys by number and not by time. A clock that is ahead would otherwise remove keys
    /// whose tokens are still valid. A key from the future stays, too: a broker whose clock is
    /// behind must not remove the keys of all others.
    ///
    /// # Errors
    ///
    /// If the system provides no random bytes.
    pub fn rotated(&self, now: i64) -> Result<Self, getrandom::Error> {
        let minting = self.minting_key(now).map(Key::id);
        let mints_from = if minting.is_none() { now } else { now.saturating_add(ACTIVATION_DELAY) };
        let mut keys = self.keys.clone();
        while keys.len() >= MAX_KEYS {
            // Removes the oldest key. If that one mints, removes the second, which has never minted.
            keys.remove(usize::from(keys.first().map(Key::id) == minting));
        }
        keys.push(Key::random(now, mints_from)?);
        Ok(Self::stored(self.revision.saturating_add(1), keys))
    }

    /// Returns the keyring without the keys that the summary does not contain.
    #[must_use]
    pub fn restricted_to(&self, listed: &KeyringSummary) -> Self {
        Self {
            revision: self.revision,
            keys: self.keys.iter().filter(|key| listed.contains(&key.id)).cloned().collect(),
        }
    }

    /// Returns the next keyring without any keys, which revokes every token.
    #[must_use]
    pub fn cleared(&self) -> Self {
        Self { revision: self.revision.saturating_add(1), keys: Vec::new() }
    }
}

/// Keys for another purpose than tokens, one derived from each key of the keyring.
#[derive(Debug)]
pub struct DerivedKeys {
    /// The id of the key that signs.
    pub current: KeyId,
    /// All derived keys, by the id of their key.
    pub keys: HashMap<KeyId, Zeroizing<[u8; 32]>>,
}

/// The plaintext part of a stored keyring: its revision and key ids, without secrets.
///
/// Every read of the store returns it, so that each process notices a deleted key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyringSummary {
    /// The revision of the keyring.
    pub revision: i64,
    /// The ids of the current keys.
    pub ids: Vec<KeyId>,
}

impl KeyringSummary {
    /// Returns whether the keyring contains a key with this id.
    pub fn contains(&self, id: &KeyId) -> bool {
        self.ids.contains(id)
    }

    /// Returns whether this summary describes the keyring.
    ///
    /// It compares the ids too: after a restore, another keyring can have the same revision.
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
    fn the_first_key_mints_at_once_and_later_keys_after_the_activation_delay() {
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

    /// Returns a keyring that a correct clock rotated each day from time 0 on.
    fn rotated_daily(rotations: i64) -> Keyring {
        (0..rotations).fold(Keyring::default(), |keyring, day| keyring.rotated(day * DAY).unwrap())
    }

    /// Returns the ids of the keys that sealed a token that is valid at `now`.
    fn needed(keyring: &Keyring, now: i64) -> Vec<KeyId> {
        let keys = keyring.keys();
        let last_token_ends = |at: usize| {
            keys.get(at + 1).map_or(i64::MAX, |next| next.mints_from() + exchange::MAX_TTL)
        };
        let needed = (0..keys.len()).filter(|at| now < last_token_ends(*at));
        needed.map(|at| keys[at].id().clone()).collect()
    }

    #[test]
    fn a_rotation_removes_a_key_only_after_its_last_token_has_expired() {
        let mut removed = 0;
        for day in 1..10 {
            let before = rotated_daily(day);
            let after = before.rotated(day * DAY).unwrap();
            for key in needed(&before, day * DAY) {
                assert!(after.key(&key).is_some(), "day {day}");
            }
            removed += before.keys().iter().filter(|key| after.key(key.id()).is_none()).count();
        }
        assert_eq!(removed, 6, "each day from the fourth on, one key goes");
    }

    #[test]
    fn two_jumps_of_a_clock_remove_no_key_whose_tokens_are_valid() {
        for (rotations, later) in
            (1..8).flat_map(|day| [0, ACTIVATION_DELAY, 3600, 40_000, DAY - 1].map(|at| (day, at)))
        {
            let before = rotated_daily(rotations);
            let now = (rotations - 1) * DAY + later;
            let (valid, minting) = (needed(&before, now), before.minting_key(now).unwrap().id());
            for jumps in [[25, 50], [24, 40], [960, 984], [960, 960], [960, 36], [96_000, 960]] {
                let mut keyring = before.clone();
                for ahead in jumps.map(|hours| now + hours * 3600) {
                    if keyring.rotation_due(ahead) {
                        keyring = keyring.rotated(ahead).unwrap();
                    }
                }
                let what = format!("{rotations} rotations, {later} s later, then {jumps:?} h");
                for key in &valid {
                    assert!(keyring.key(key).is_some(), "{what}");
                }
                assert_eq!(keyring.minting_key(now).unwrap().id(), minting, "{what}");
                // The clock is correct again, and the next rotation is at its usual time.
                let next = rotations * DAY;
                let followed = keyring.rotated(next).unwrap();
                let replaced = keyring.minting_key(next).unwrap().id();
                assert!(followed.key(replaced).is_some(), "{what}");
                let new = followed.minting_key(next + ACTIVATION_DELAY).unwrap();
                assert_eq!(new.created_at(), next, "{what}");
            }
        }
    }

    #[test]
    fn a_key_from_the_future_neither_stops_rotation_nor_ends_the_other_keys() {
        for jump in [2 * DAY, 40 * DAY, 4000 * DAY] {
            // A clock that is ahead rotates the keyring once. Then it is right again.
            let jumped = Keyring::default().rotated(0).unwrap().rotated(jump).unwrap();
            let future = jumped.keys().last().unwrap().id().clone();
            assert_eq!(jumped.keys_from_the_future(DAY).count(), 1, "{jump}");
            let mut keyring = jumped;
            for day in 1..10 {
                let now = day * DAY;
                if keyring.key(&future).is_some_and(|key| !key.is_from_the_future(now)) {
                    break;
                }
                assert!(keyring.rotation_due(now), "day {day} of {jump}");
                let before = keyring.minting_key(now).unwrap().id().clone();
                keyring = keyring.rotated(now).unwrap();
                assert!(!keyring.rotation_due(now), "day {day} of {jump}");
                let minting = keyring.minting_key(now + ACTIVATION_DELAY).unwrap();
                assert_eq!(minting.created_at(), now, "the new key mints: {jump}");
                assert!(keyring.key(&before).is_some(), "its tokens are valid: {jump}");
                assert!(keyring.key(&future).is_some(), "day {day} of {jump}");
            }
        }
    }

    #[test]
    fn the_first_key_of_a_clock_that_was_ahead_is_replaced_at_once() {
        let ahead = Keyring::default().rotated(400 * DAY).unwrap();
        assert!(ahead.minting_key(0).is_none() && ahead.rotation_due(0));
        let next = ahead.rotated(0).unwrap();
        assert_eq!(next.minting_key(0).unwrap().created_at(), 0);
        assert!(!next.rotation_due(DAY - 1) && next.rotation_due(DAY));
        assert_eq!(next.keys().len(), 2, "the keyring still opens what the other key sealed");
    }

    #[test]
    fn a_broker_whose_clock_is_behind_never_removes_the_keys_of_the_others() {
        let mut keyring = Keyring::default().rotated(100 * DAY).unwrap();
        keyring = keyring.rotated(101 * DAY).unwrap();
        let good: Vec<_> = keyring.keys().iter().map(|key| key.id().clone()).collect();
        for day in 0..20 {
            if keyring.rotation_due(day * DAY) {
                keyring = keyring.rotated(day * DAY).unwrap();
            }
            assert!(good.iter().all(|id| keyring.key(id).is_some()), "day {day}");
        }
        let now = 101 * DAY + ACTIVATION_DELAY;
        assert_eq!(keyring.minting_key(now).unwrap().id(), &good[1]);
        assert!(!keyring.rotation_due(now), "for a broker whose clock is right, nothing changed");
    }

    #[test]
    fn a_key_that_is_as_far_ahead_as_two_clocks_may_differ_is_the_newest() {
        let keyring = Keyring::default().rotated(MAX_AHEAD).unwrap();
        assert_eq!(keyring.keys_from_the_future(0).count(), 0);
        assert!(!keyring.rotation_due(0));
        assert_eq!(keyring.keys_from_the_future(-1).count(), 1);
    }

    #[test]
    fn a_keyring_has_at_most_four_keys_after_any_number_of_rotations() {
        let mut keyring = Keyring::default();
        for now in 0..10 {
            keyring = keyring.rotated(now).unwrap();
            assert!(keyring.keys().len() <= MAX_KEYS);
        }
        assert!(keyring.minting_key(9).is_some(), "one key still mints");
    }

    #[test]
    fn a_cleared_keyring_has_no_keys_and_its_next_key_mints_at_once() {
        let first = Keyring::default().rotated(0).unwrap();
        let cleared = first.cleared();
        assert!(cleared.key(first.keys()[0].id()).is_none());
        assert_eq!(cleared.revision, 2);
        assert!(cleared.rotated(5).unwrap().minting_key(5).is_some());
    }

    #[test]
    fn a_summary_matches_only_a_keyring_with_the_same_revision_and_keys() {
        let (first, other) =
            (Keyring::default().rotated(0).unwrap(), Keyring::default().rotated(0).unwrap());
        let listed = KeyringSummary::from(&first);
        assert!(listed.matches(&first) && listed.contains(first.keys()[0].id()));
        assert!(!listed.matches(&other), "a restored keyring with the same revision");
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
