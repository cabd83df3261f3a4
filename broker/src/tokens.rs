//! Mints and opens tokens, with a cached keyring and a cache of opened tokens.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use quick_cache::sync::Cache;
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use stile_protocol::audience::Audience;

use crate::metrics::{self, Metrics};
use crate::shared_failure_mutex::{SharedFailureGuard, SharedFailureMutex};
use stile_core::clock::rfc3339;
use stile_core::grants::Entitlement;
use stile_core::token::{Claims, DerivedKeys, Key, KeyId, Keyring, KeyringSummary, Sealed, seal};
use stile_store::{Recorded, Store, StoreError, StoreErrorKind};

/// The capacity of the cache, in opened tokens. Invalid tokens are not cached.
const CAPACITY: usize = 10_000;

/// The shortest time between two reads of the keyring because of an unknown key id, in seconds.
///
/// Without it, each invalid token with a made-up key id would cost a read of the store.
const REFRESH_EVERY: i64 = 10;

/// The reason why the broker has no usable key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The keyring cannot be read or written.
    #[error("the broker cannot read or write the keyring")]
    Store(#[from] StoreError),
    /// The system has no random bytes, or a cryptographic operation failed.
    #[error("the broker cannot create or use a key")]
    Crypto,
}

impl KeyError {
    /// Returns the kind of the failure, as the store classifies it.
    pub const fn kind(&self) -> StoreErrorKind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Crypto => StoreErrorKind::Unavailable,
        }
    }
}

/// The reason why a token does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is not a valid token of this registry. The answer does not say why.
    #[error("the token is not valid")]
    Invalid,
    /// The broker cannot verify the token now.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// An opened token: its claims, and the key that vouches for them.
#[derive(Debug)]
pub struct Opened {
    /// The claims.
    pub claims: Claims,
    /// The id of the key that sealed the token.
    pub key_id: KeyId,
}

/// The latest reads of the keyring, so that the broker does not repeat them too often.
#[derive(Debug, Default)]
struct Reads {
    /// The time of the last read because of an unknown key id.
    unknown_key_at: Option<i64>,
    /// The failure of that read.
    unknown_key_failure: Option<StoreErrorKind>,
    /// The time of the last read because the keyring changed.
    reloaded_at: Option<i64>,
    /// The failure of that read.
    reload_failure: Option<StoreErrorKind>,
    /// The kind of the latest failure of any read, for the requests that waited for it.
    latest_failure: Option<StoreErrorKind>,
}

impl Reads {
    fn reloaded_recently(&self, now: i64) -> bool {
        self.reloaded_at.is_some_and(|at| (0..REFRESH_EVERY).contains(&now.saturating_sub(at)))
    }
}

/// Mints and opens the tokens of one registry.
#[derive(Debug)]
pub struct Tokens {
    audience: Audience,
    max_ttl: i64,
    keyring: RwLock<Option<Arc<Keyring>>>,
    reads: SharedFailureMutex<Reads>,
    opened: Cache<[u8; 32], Arc<Opened>>,
    latest: AtomicI64,
    metrics: Arc<Metrics>,
}

impl Tokens {
    /// Creates the tokens of this audience, with a lifetime of at most `max_ttl` seconds.
    pub fn new(audience: Audience, max_ttl: i64, metrics: Arc<Metrics>) -> Self {
        Self {
            audience,
            max_ttl,
            keyring: RwLock::default(),
            reads: SharedFailureMutex::default(),
            opened: Cache::new(CAPACITY),
            latest: AtomicI64::new(i64::MIN),
            metrics,
        }
    }

    /// Returns the key to mint with. Creates the first key, and rotates the keyring if that is due.
    pub async fn minting_key(&self, store: &Store, now: i64) -> Result<Key, KeyError> {
        if let Some(key) = self
            .cached()
            .filter(|keyring| !keyring.rotation_due(now))
            .and_then(|keyring| keyring.minting_key(now).cloned())
        {
            self.metrics.hit(metrics::Cache::Keyring);
            return Ok(key);
        }
        let mut guard = self.reads.lock().await;
        share_failure(&guard)?;
        let key = self.rotated_key(store, now).await;
        if let Err(error) = &key {
            guard.latest_failure = Some(error.kind());
            guard.record_failure();
        }
        key
    }

    /// Reads the keyring from the store, rotates it if that is due, and returns the key to mint
    /// with.
    async fn rotated_key(&self, store: &Store, now: i64) -> Result<Key, KeyError> {
        // If another broker rotates the keyring first, the next iteration reads its result.
        for _ in 0..4 {
            let keyring = self.read(store).await?;
            if !keyring.rotation_due(now) && keyring.minting_key(now).is_some() {
                return self.cache(keyring, now).minting_key(now).cloned().ok_or(KeyError::Crypto);
            }
            let next = keyring.rotated(now).map_err(|_| KeyError::Crypto)?;
            if store.replace_keyring(keyring.revision, next.clone()).await? {
                tracing::info!(
                    revision = next.revision,
                    keys = next.keys().len(),
                    "the keyring has a new key"
                );
                return self.cache(next, now).minting_key(now).cloned().ok_or(KeyError::Crypto);
            }
        }
        Err(KeyError::Store(StoreError::busy("other brokers change the keyring too often")))
    }

    /// Mints a token: seals the claims of an entitlement, after the store recorded the single use.
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

    /// Opens a token. With a cached keyring, this calls no service.
    pub async fn open(
        &self,
        token: &str,
        store: &Store,
        now: i64,
    ) -> Result<Arc<Opened>, OpenError> {
        let now = self.monotonic(now);
        let sealed = Sealed::parse(token).ok_or(OpenError::Invalid)?;
        let keyring = self.keyring_with(&sealed.unverified_key_id, store, now).await?;
        let digest: [u8; 32] = Sha256::digest(token).into();
        let opened = match self.opened.get(&digest) {
            Some(opened) => {
                self.metrics.hit(metrics::Cache::Tokens);
                opened
            }
            None => {
                self.metrics.missed(metrics::Cache::Tokens);
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

    /// Before a mint: reads the keyring again, if the store lists another one than the cached one.
    ///
    /// A lower revision usually means that an operator removed or restored the keyring. But the
    /// list can also be from before this process rotated the keyring. So the broker reads the
    /// keyring at most once in ten seconds for it.
    pub async fn follow(
        &self,
        listed: &KeyringSummary,
        store: &Store,
        now: i64,
    ) -> Result<(), KeyError> {
        let before = self.cached();
        if before.as_deref().is_some_and(|keyring| listed.matches(keyring)) {
            return Ok(());
        }
        let guard = self.reads.lock().await;
        let cached = self.cached();
        if cached.as_deref().is_some_and(|keyring| listed.matches(keyring))
            || cached.as_deref().map(|keyring| keyring.revision)
                != before.as_deref().map(|keyring| keyring.revision)
        {
            return Ok(());
        }
        share_failure(&guard)?;
        if cached.is_some_and(|cached| listed.revision < cached.revision)
            && guard.reloaded_recently(now)
        {
            return Ok(());
        }
        self.reload(guard, store, now).await
    }

    /// Checks that the store still lists the key of an opened token. A removed key opens no token.
    ///
    /// For a listed key, this requires neither KMS nor the store. If another broker rotates the
    /// keyring while KMS is down, this broker must still serve reads.
    pub async fn confirm(
        &self,
        id: &KeyId,
        listed: &KeyringSummary,
        store: &Store,
        now: i64,
    ) -> Result<(), OpenError> {
        let cached = self.cached().unwrap_or_default();
        if listed.contains(id) {
            if listed.revision > cached.revision {
                self.try_reload(store, now).await;
            }
        } else if listed.revision > cached.revision {
            self.restrict_to(listed);
        } else {
            // The list is from before this process read the key, or an operator removed or restored
            // the keyring.
            self.reload_if_old(store, now).await?;
        }
        // Meanwhile, another request may have cached a keyring without the key.
        if self.cached().is_some_and(|keyring| keyring.key(id).is_some()) {
            Ok(())
        } else {
            Err(OpenError::Invalid)
        }
    }

    /// Reads a newer keyring, at most once in ten seconds. Other requests do not wait for the read.
    ///
    /// If the read fails, the broker continues with the cached keyring.
    async fn try_reload(&self, store: &Store, now: i64) {
        let Some(guard) = self.reads.try_lock().filter(|guard| !guard.reloaded_recently(now))
        else {
            return;
        };
        if let Err(error) = self.reload(guard, store, now).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the broker cannot read the new keyring, and uses the previous one"
            );
        }
    }

    /// Reads the keyring, unless the last read is less than ten seconds old.
    async fn reload_if_old(&self, store: &Store, now: i64) -> Result<(), KeyError> {
        let guard = self.reads.lock().await;
        share_failure(&guard)?;
        if !guard.reloaded_recently(now) {
            return self.reload(guard, store, now).await;
        }
        guard.reload_failure.map_or(Ok(()), |kind| Err(recent_failure(kind)))
    }

    /// Removes the cached keys that a newer list does not contain. This requires neither KMS nor
    /// the store, so it works while both are down.
    fn restrict_to(&self, listed: &KeyringSummary) {
        let mut keyring = self.keyring.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(cached) = keyring.as_mut().filter(|cached| cached.revision < listed.revision) {
            *cached = Arc::new(cached.restricted_to(listed));
        }
    }

    /// Reads the keyring from the store, and caches it.
    async fn reload(
        &self,
        mut guard: SharedFailureGuard<'_, Reads>,
        store: &Store,
        now: i64,
    ) -> Result<(), KeyError> {
        let read = self.read(store).await;
        let failure = read.as_ref().err().map(StoreError::kind);
        (guard.reloaded_at, guard.reload_failure) = (Some(now), failure);
        if failure.is_some() {
            guard.latest_failure = failure;
            guard.record_failure();
        }
        self.cache(read?, now);
        Ok(())
    }

    /// Derives a key for another purpose from every live key.
    pub async fn derived(
        &self,
        purpose: &[u8],
        store: &Store,
        now: i64,
    ) -> Result<DerivedKeys, KeyError> {
        let mints = |keyring: &Arc<Keyring>| keyring.minting_key(now).is_some();
        // A key remains usable when a rotation is due, because a read must not require a write.
        let keyring = match self.cached().filter(mints) {
            Some(keyring) => keyring,
            None => {
                self.minting_key(store, now).await?;
                self.cached().unwrap_or_default()
            }
        };
        let current = keyring.minting_key(now).ok_or(KeyError::Crypto)?.id().clone();
        let keys =
            keyring.keys().iter().map(|key| (key.id().clone(), key.derive(purpose))).collect();
        Ok(DerivedKeys { current, keys })
    }

    /// Returns the time, or the latest earlier result if the clock was set back.
    ///
    /// So an expired token or grant does not become valid again.
    pub fn monotonic(&self, now: i64) -> i64 {
        self.latest.fetch_max(now, Ordering::Relaxed).max(now)
    }

    fn open_sealed(&self, sealed: &Sealed<'_>, keyring: &Keyring) -> Option<Opened> {
        let key = keyring.key(&sealed.unverified_key_id)?;
        let claims = sealed.open(key, &self.audience)?;
        Some(Opened { claims, key_id: key.id().clone() })
    }

    /// Returns a keyring with the key. Reads the keyring again if the cached one does not have the
    /// key, at most once in ten seconds.
    async fn keyring_with(
        &self,
        id: &KeyId,
        store: &Store,
        now: i64,
    ) -> Result<Arc<Keyring>, OpenError> {
        let has_key = |keyring: &Arc<Keyring>| keyring.key(id).is_some();
        if let Some(keyring) = self.cached().filter(has_key) {
            self.metrics.hit(metrics::Cache::Keyring);
            return Ok(keyring);
        }
        let mut guard = self.reads.lock().await;
        if let Some(keyring) = self.cached().filter(has_key) {
            self.metrics.hit(metrics::Cache::Keyring);
            return Ok(keyring);
        }
        share_failure(&guard)?;
        if guard
            .unknown_key_at
            .is_some_and(|at| (0..REFRESH_EVERY).contains(&now.saturating_sub(at)))
        {
            return Err(guard
                .unknown_key_failure
                .map_or(OpenError::Invalid, |kind| recent_failure(kind).into()));
        }
        let read = self.read(store).await;
        let failure = read.as_ref().err().map(StoreError::kind);
        (guard.unknown_key_at, guard.unknown_key_failure) = (Some(now), failure);
        if failure.is_some() {
            guard.latest_failure = failure;
            guard.record_failure();
        }
        let keyring = self.cache(read.map_err(KeyError::Store)?, now);
        if has_key(&keyring) { Ok(keyring) } else { Err(OpenError::Invalid) }
    }

    /// Reads the keyring from the store.
    async fn read(&self, store: &Store) -> Result<Keyring, StoreError> {
        self.metrics.missed(metrics::Cache::Keyring);
        store.keyring().await
    }

    /// Returns the creation of the cached key that seals new tokens, in Unix seconds.
    pub fn key_created_at(&self, now: i64) -> Option<i64> {
        self.cached()?.minting_key(now).map(Key::created_at)
    }

    fn cached(&self) -> Option<Arc<Keyring>> {
        self.keyring.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Caches a keyring. Raises the alarm if a new revision has a key from the future.
    fn cache(&self, keyring: Keyring, now: i64) -> Arc<Keyring> {
        let keyring = Arc::new(keyring);
        let before = self
            .keyring
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(Arc::clone(&keyring));
        if before.is_none_or(|before| before.revision != keyring.revision) {
            for key in keyring.keys_from_the_future(now) {
                tracing::error!(
                    alarm = "key_from_the_future",
                    key = key.id().as_str(),
                    created_at = rfc3339(key.created_at()),
                    "a key is from the future: the clock of this broker is behind, or the clock of the broker that created the key was ahead"
                );
            }
        }
        keyring
    }
}

/// Fails if a read failed while this request waited for it, so that the request does not wait for
/// a second read.
fn share_failure(guard: &SharedFailureGuard<'_, Reads>) -> Result<(), KeyError> {
    if guard.failed_while_waiting() {
        Err(recent_failure(guard.latest_failure.unwrap_or(StoreErrorKind::Unavailable)))
    } else {
        Ok(())
    }
}

/// Returns the failure of a recent read, for a request that does not read again.
fn recent_failure(kind: StoreErrorKind) -> KeyError {
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
    use crate::metrics::unread;
    use stile_store::EmbeddedDeadlines;

    /// Returns the entitlement of a role with a grant on all namespaces.
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
            trust: None,
            revoked: None,
            revoked_tokens: HashSet::new(),
            keyring: KeyringSummary::default(),
            revisions: stile_core::grants::StateRevisions::default(),
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
    async fn the_token_cache_has_only_valid_tokens_and_does_not_grow_beyond_its_capacity() {
        let folder = tempfile::tempdir().unwrap();
        Store::init_folder(folder.path(), EmbeddedDeadlines::default()).unwrap();
        let store = Store::open_folder(folder.path(), EmbeddedDeadlines::default()).unwrap();
        let mut tokens =
            Tokens::new(Audience::parse("registry.example.com").unwrap(), 3600, unread());
        assert!(tokens.opened.capacity() <= CAPACITY as u64);
        tokens.opened = Cache::new(50);
        let key = tokens.minting_key(&store, 0).await.unwrap();
        let entitlement = entitlement();
        let token = || {
            let claims = entitlement.claims(3600, 0).unwrap();
            seal(&key, &tokens.audience, &claims).unwrap()
        };
        for n in 0..500 {
            let mut damaged = token();
            let at = "stile_v4.local.".len() + n % 200;
            let other = if damaged.as_bytes()[at] == b'A' { "B" } else { "A" };
            damaged.replace_range(at..=at, other);
            assert!(matches!(tokens.open(&damaged, &store, 0).await, Err(OpenError::Invalid)));
        }
        assert_eq!(tokens.opened.len(), 0);
        for _ in 0..500 {
            tokens.open(&token(), &store, 0).await.unwrap();
        }
        assert!(tokens.opened.len() <= 50, "{}", tokens.opened.len());
    }
}
