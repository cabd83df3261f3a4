//! Mints tokens and opens them: what this process knows of the keyring, and the tokens it has opened before.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use quick_cache::sync::Cache;
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use stile_protocol::audience::Audience;

use crate::shared_failure_mutex::{SharedFailureGuard, SharedFailureMutex};
use stile_core::grants::Entitlement;
use stile_core::token::{Claims, DerivedKeys, Key, KeyId, Keyring, KeyringSummary, Sealed, seal};
use stile_store::{Recorded, Store, StoreError, StoreErrorKind};

/// How many opened tokens are remembered; garbage never opens, so only real callers take the room.
const REMEMBERED: usize = 10_000;

/// The least time between two looks at the store because of a key id nobody knows, in seconds.
///
/// Without it, made-up key ids would guard each garbage token into a read of the store.
const REFRESH_EVERY: i64 = 10;

/// Why there is no key to work with.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The keyring cannot be read or written.
    #[error("the keyring cannot be reached")]
    Store(#[from] StoreError),
    /// The system gives no random bytes, or sealing failed.
    #[error("no key can be made or used")]
    Crypto,
}

impl KeyError {
    /// What kind of failure it is, in the store's terms.
    pub const fn kind(&self) -> StoreErrorKind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Crypto => StoreErrorKind::Unavailable,
        }
    }
}

/// Why a token does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is not a live token of this registry; which of the many ways is nobody's business.
    #[error("the token is not valid")]
    Invalid,
    /// Whether it is cannot be told now.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// A token that was opened: its claims, and the key that vouches for them.
#[derive(Debug)]
pub struct Opened {
    /// What it says.
    pub claims: Claims,
    /// What it is sealed under.
    pub key_id: KeyId,
}

#[derive(Debug, Default)]
struct Refresh {
    tried_at: Option<i64>,
    failed: Option<StoreErrorKind>,
    followed_at: Option<i64>,
    follow_failed: Option<StoreErrorKind>,
    /// How the latest failure was one, for those who waited for it.
    latest_failure: Option<StoreErrorKind>,
}

impl Refresh {
    fn followed_lately(&self, now: i64) -> bool {
        self.followed_at.is_some_and(|at| (0..REFRESH_EVERY).contains(&now.saturating_sub(at)))
    }
}

/// Mints and opens tokens of one registry.
#[derive(Debug)]
pub struct Tokens {
    audience: Audience,
    max_ttl: i64,
    keyring: RwLock<Option<Arc<Keyring>>>,
    refresh: SharedFailureMutex<Refresh>,
    opened: Cache<[u8; 32], Arc<Opened>>,
    latest: AtomicI64,
}

impl Tokens {
    /// Tokens of this audience that live `max_ttl` seconds at most.
    pub fn new(audience: Audience, max_ttl: i64) -> Self {
        Self {
            audience,
            max_ttl,
            keyring: RwLock::default(),
            refresh: SharedFailureMutex::default(),
            opened: Cache::new(REMEMBERED),
            latest: AtomicI64::new(i64::MIN),
        }
    }

    /// The key to mint with, made or followed by the next if that is due.
    pub async fn minting_key(&self, store: &Store, now: i64) -> Result<Key, KeyError> {
        if let Some(key) = self
            .known()
            .filter(|keyring| !keyring.rotation_due(now))
            .and_then(|keyring| keyring.minting_key(now).cloned())
        {
            return Ok(key);
        }
        let mut guard = self.refresh.lock().await;
        waited_for_nothing(&guard)?;
        let key = self.lasting_key(store, now).await;
        if let Err(error) = &key {
            guard.latest_failure = Some(error.kind());
            guard.failed();
        }
        key
    }

    async fn lasting_key(&self, store: &Store, now: i64) -> Result<Key, KeyError> {
        // Who loses the race to follow the keyring finds the winner's on the next round.
        for _ in 0..4 {
            let keyring = store.keyring().await?;
            if !keyring.rotation_due(now) && keyring.minting_key(now).is_some() {
                return self.meet(keyring).minting_key(now).cloned().ok_or(KeyError::Crypto);
            }
            let next = keyring.rotated(now).map_err(|_| KeyError::Crypto)?;
            if store.replace_keyring(keyring.revision, next.clone()).await? {
                tracing::info!(
                    revision = next.revision,
                    keys = next.keys().len(),
                    "the keyring has a new key"
                );
                return self.meet(next).minting_key(now).cloned().ok_or(KeyError::Crypto);
            }
        }
        Err(KeyError::Store(StoreError::busy("the keyring changes too fast")))
    }

    /// Mints: seals the claims of somebody who was identified, entitled, and whose proof is claimed for this alone.
    pub fn mint(
        &self,
        key: &Key,
        entitlement: &Entitlement,
        _single_use: Recorded,
        now: i64,
    ) -> Result<(SecretString, Claims), KeyError> {
        let claims = entitlement.claims(self.max_ttl, now).map_err(|_| KeyError::Crypto)?;
        let token = seal(key, &self.audience, &claims).ok_or(KeyError::Crypto)?;
        Ok((token.into(), claims))
    }

    /// Opens a token; without a call to anything once the keyring is known.
    pub async fn open(
        &self,
        token: &str,
        store: &Store,
        now: i64,
    ) -> Result<Arc<Opened>, OpenError> {
        let now = self.never_back(now);
        let sealed = Sealed::parse(token).ok_or(OpenError::Invalid)?;
        let keyring = self.keyring_with(&sealed.unverified_key_id, store, now).await?;
        let digest: [u8; 32] = Sha256::digest(token).into();
        let opened = match self.opened.get(&digest) {
            Some(opened) => opened,
            None => {
                let opened =
                    Arc::new(self.open_sealed(&sealed, &keyring).ok_or(OpenError::Invalid)?);
                self.opened.insert(digest, Arc::clone(&opened));
                opened
            }
        };
        if keyring.key(&opened.key_id).is_none() || !opened.claims.is_valid_at(self.max_ttl, now) {
            return Err(OpenError::Invalid);
        }
        Ok(opened)
    }

    /// Before a mint: looks at the keyring again if it is not the one this process met, as a read of the store says.
    ///
    /// A revision that went back is a keyring that was removed or restored; but it may also be a read from before this
    /// process followed the keyring itself, so that is looked into once in ten seconds only.
    pub async fn follow(
        &self,
        listed: &KeyringSummary,
        store: &Store,
        now: i64,
    ) -> Result<(), KeyError> {
        let before = self.known();
        if before.as_deref().is_some_and(|keyring| listed.matches(keyring)) {
            return Ok(());
        }
        let guard = self.refresh.lock().await;
        let met = self.known();
        if met.as_deref().is_some_and(|keyring| listed.matches(keyring))
            || met.as_deref().map(|keyring| keyring.revision)
                != before.as_deref().map(|keyring| keyring.revision)
        {
            return Ok(());
        }
        waited_for_nothing(&guard)?;
        if met.is_some_and(|met| listed.revision < met.revision) && guard.followed_lately(now) {
            return Ok(());
        }
        self.look_again(guard, store, now).await
    }

    /// Holds the key of a token that opened against what a read of the store says of the keyring: a key that was dropped since
    /// opens nothing any more.
    ///
    /// For a key that is listed there neither KMS nor the store is needed: that somebody else followed the keyring while KMS
    /// is away must not end the reading.
    pub async fn confirm(
        &self,
        id: &KeyId,
        listed: &KeyringSummary,
        store: &Store,
        now: i64,
    ) -> Result<(), OpenError> {
        let met = self.known().unwrap_or_default();
        if listed.contains(id) {
            if listed.revision > met.revision {
                self.catch_up(store, now).await;
            }
        } else if listed.revision > met.revision {
            self.forget_all_but(listed);
        } else {
            // Read before this process met the key, or the keyring was removed or restored.
            self.find_out(store, now).await?;
        }
        // Whoever met another keyring meanwhile may have learned that the key is gone.
        if self.known().is_some_and(|keyring| keyring.key(id).is_some()) {
            Ok(())
        } else {
            Err(OpenError::Invalid)
        }
    }

    /// Looks at a keyring that is newer than the known one, which goes on being used while that cannot be opened: once in ten
    /// seconds, and nobody waits for who does.
    async fn catch_up(&self, store: &Store, now: i64) {
        let Some(guard) = self.refresh.try_lock().filter(|guard| !guard.followed_lately(now))
        else {
            return;
        };
        if let Err(error) = self.look_again(guard, store, now).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the next keyring cannot be opened; the one that is known is used"
            );
        }
    }

    /// Has the keyring as it was in the store within the last ten seconds.
    async fn find_out(&self, store: &Store, now: i64) -> Result<(), KeyError> {
        let guard = self.refresh.lock().await;
        waited_for_nothing(&guard)?;
        if !guard.followed_lately(now) {
            return self.look_again(guard, store, now).await;
        }
        guard.follow_failed.map_or(Ok(()), |kind| Err(a_moment_ago(kind)))
    }

    /// Drops the keys that a newer list has no more: that needs neither KMS nor the store, and holds when both are gone.
    fn forget_all_but(&self, listed: &KeyringSummary) {
        let mut keyring = self.keyring.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = keyring.as_mut().filter(|known| known.revision < listed.revision) {
            *known = Arc::new(known.restricted_to(listed));
        }
    }

    async fn look_again(
        &self,
        mut guard: SharedFailureGuard<'_, Refresh>,
        store: &Store,
        now: i64,
    ) -> Result<(), KeyError> {
        let read = store.keyring().await;
        let failure = read.as_ref().err().map(StoreError::kind);
        (guard.followed_at, guard.follow_failed) = (Some(now), failure);
        if failure.is_some() {
            guard.latest_failure = failure;
            guard.failed();
        }
        self.meet(read?);
        Ok(())
    }

    /// A key for another purpose, of every live key by its id, and the id of the one in use.
    pub async fn derived(
        &self,
        purpose: &[u8],
        store: &Store,
        now: i64,
    ) -> Result<DerivedKeys, KeyError> {
        let mints = |keyring: &Arc<Keyring>| keyring.minting_key(now).is_some();
        // A key that is due to be followed is good for this all the same: reading must not need a write.
        let keyring = match self.known().filter(mints) {
            Some(keyring) => keyring,
            None => {
                self.minting_key(store, now).await?;
                self.known().unwrap_or_default()
            }
        };
        let current = keyring.minting_key(now).ok_or(KeyError::Crypto)?.id().clone();
        let keys =
            keyring.keys().iter().map(|key| (key.id().clone(), key.derive(purpose))).collect();
        Ok(DerivedKeys { current, keys })
    }

    /// The time, and never an earlier one than it was: what has ended stays so when the clock is set back.
    pub fn never_back(&self, now: i64) -> i64 {
        self.latest.fetch_max(now, Ordering::Relaxed).max(now)
    }

    fn open_sealed(&self, sealed: &Sealed<'_>, keyring: &Keyring) -> Option<Opened> {
        let key = keyring.key(&sealed.unverified_key_id)?;
        let claims = sealed.open(key, &self.audience)?;
        Some(Opened { claims, key_id: key.id().clone() })
    }

    /// The keyring, read anew if it lacks the key, though not more than once in ten seconds.
    async fn keyring_with(
        &self,
        id: &KeyId,
        store: &Store,
        now: i64,
    ) -> Result<Arc<Keyring>, OpenError> {
        let knows = |keyring: &Arc<Keyring>| keyring.key(id).is_some();
        if let Some(keyring) = self.known().filter(knows) {
            return Ok(keyring);
        }
        let mut refresh = self.refresh.lock().await;
        if let Some(keyring) = self.known().filter(knows) {
            return Ok(keyring);
        }
        waited_for_nothing(&refresh)?;
        if refresh.tried_at.is_some_and(|at| (0..REFRESH_EVERY).contains(&now.saturating_sub(at))) {
            return Err(refresh
                .failed
                .map_or(OpenError::Invalid, |kind| a_moment_ago(kind).into()));
        }
        let read = store.keyring().await;
        let failure = read.as_ref().err().map(StoreError::kind);
        (refresh.tried_at, refresh.failed) = (Some(now), failure);
        if failure.is_some() {
            refresh.latest_failure = failure;
            refresh.failed();
        }
        let keyring = self.meet(read.map_err(KeyError::Store)?);
        if knows(&keyring) { Ok(keyring) } else { Err(OpenError::Invalid) }
    }

    fn known(&self) -> Option<Arc<Keyring>> {
        self.keyring.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn meet(&self, keyring: Keyring) -> Arc<Keyring> {
        let keyring = Arc::new(keyring);
        *self.keyring.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&keyring));
        keyring
    }
}

/// Who waited while the keyring could not be reached is not told after another try as long.
fn waited_for_nothing(guard: &SharedFailureGuard<'_, Refresh>) -> Result<(), KeyError> {
    if guard.failed_meanwhile() {
        Err(a_moment_ago(guard.latest_failure.unwrap_or(StoreErrorKind::Unavailable)))
    } else {
        Ok(())
    }
}

/// The failure of an earlier read, for a request that did not cause another.
fn a_moment_ago(kind: StoreErrorKind) -> KeyError {
    StoreError::new(kind, "the keyring could not be read a moment ago").into()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use stile_core::grants::{Grant, GrantNamespace, Pin, PrincipalState, entitle};
    use stile_core::identity::{Identity, Issuer};
    use stile_protocol::exchange::{Namespaces, RequestDocument};
    use stile_protocol::names::{Permission, Permissions};
    use stile_protocol::region::Partition;

    use super::*;
    use stile_store::EmbeddedDeadlines;

    /// A role with a grant on everything, and a request for all of it.
    fn entitlement() -> Entitlement {
        let identity = Identity::from_iam(
            Issuer::Sts,
            "111122223333",
            "arn:aws:sts::111122223333:assumed-role/deploy/test",
            "AROAEXAMPLEEXAMPLE222:test",
            &[Partition::Aws],
        )
        .unwrap();
        let permissions = Permissions::NONE.with(Permission::Download);
        let grant = Grant {
            principal: identity.principal().clone(),
            namespace: GrantNamespace::All,
            permissions,
            expires_at: None,
            created_by: "test".to_owned(),
            created_at: 0,
        };
        let state = PrincipalState {
            grants: vec![grant],
            pin: Pin::Unpinned,
            revoked: None,
            revoked_tokens: HashSet::new(),
            keyring: KeyringSummary::default(),
        };
        let document = RequestDocument {
            nonce: String::new(),
            ttl: 3600,
            namespaces: Namespaces::All,
            permissions,
        };
        entitle(identity, &document, &state, 0).unwrap()
    }

    #[tokio::test]
    async fn only_tokens_that_open_are_remembered_and_no_more_than_there_is_room_for() {
        let folder = tempfile::tempdir().unwrap();
        Store::init_folder(folder.path(), EmbeddedDeadlines::default()).unwrap();
        let store = Store::open_folder(folder.path(), EmbeddedDeadlines::default()).unwrap();
        let mut tokens = Tokens::new(Audience::parse("registry.example.com").unwrap(), 3600);
        assert!(tokens.opened.capacity() <= REMEMBERED as u64);
        tokens.opened = Cache::new(50);
        let key = tokens.minting_key(&store, 0).await.unwrap();
        let entitlement = entitlement();
        let token = || {
            let claims = entitlement.claims(3600, 0).unwrap();
            seal(&key, &tokens.audience, &claims).unwrap()
        };
        for n in 0..500 {
            let mut bent = token();
            let at = "stile_v4.local.".len() + n % 200;
            let other = if bent.as_bytes()[at] == b'A' { "B" } else { "A" };
            bent.replace_range(at..=at, other);
            assert!(matches!(tokens.open(&bent, &store, 0).await, Err(OpenError::Invalid)));
        }
        assert_eq!(tokens.opened.len(), 0);
        for _ in 0..500 {
            tokens.open(&token(), &store, 0).await.unwrap();
        }
        assert!(tokens.opened.len() <= 50, "{}", tokens.opened.len());
    }
}
