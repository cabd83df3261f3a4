//! The signing keys of a namespace: lists them, adds one, and retires one.
//!
//! Only `create_grant` may change them. With `upload` alone, a stolen token could bring its own key, and
//! clients would trust what that signs.

use super::authorize::{AccessError, AuthenticateError, Bearer};
use super::broker::Broker;
use stile_core::audit::{Event, Kept, Outcome};
use stile_core::grants::{Access, CreateGrant, Upload};
use stile_core::package::provider::{KeyAdded, KeyError, KeyId, NamespaceKeys, SigningKey};
use stile_protocol::names::Namespace;
use stile_store::{KeyRetired, StoreError};

/// The reason why the signing keys of a namespace are not shown or not changed.
#[derive(Debug, thiserror::Error)]
pub enum SigningKeysError {
    /// The bearer does not have the right.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The token is not valid any more.
    #[error(transparent)]
    Authenticate(#[from] AuthenticateError),
    /// The text is not a key that can sign.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The namespace retired the key before.
    #[error("key {0} was retired before, and cannot be added again")]
    Retired(KeyId),
    /// The key lacks a part that could sign until now.
    #[error(
        "the key {0} lacks a primary key or a subkey that could sign until now, and clients could not verify what that signed"
    )]
    Lacks(KeyId),
    /// Another key of the namespace has the same id.
    #[error("another key with the id {0} is there, and clients choose keys by their id")]
    SameId(KeyId),
    /// The namespace has the maximum number of keys.
    #[error("the namespace has the maximum number of signing keys")]
    Full,
    /// The namespace does not have the key.
    #[error("the namespace has no key {0}")]
    Absent(KeyId),
    /// The store is down.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The result of adding a key.
#[derive(Debug)]
pub struct AddedKey {
    /// The key.
    pub key: SigningKey,
    /// How the keys of the namespace changed.
    pub change: KeyChange,
}

/// How an addition changed the keys of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyChange {
    /// The key is new.
    Added,
    /// The key has other user ids, subkeys or another end now.
    Renewed,
    /// The namespace had exactly this key.
    Unchanged,
}

/// The result of retiring a key.
#[derive(Debug)]
pub struct RetiredKey {
    /// Whether the state of the key changed.
    pub changed: bool,
    /// The versions that the key signed, each as an address and a version, if the key is compromised.
    pub versions: Vec<String>,
}

/// Returns the keys of a namespace, for a bearer with `create_grant` or `upload`.
pub async fn list(
    broker: &Broker,
    bearer: &Bearer,
    unverified_namespace: &str,
    event: &mut Event,
) -> Result<NamespaceKeys, SigningKeysError> {
    let granter = bearer.namespace::<CreateGrant>(unverified_namespace, event);
    let keys = match granter {
        Ok(access) => broker.store.signing_keys(&access).await?,
        Err(AccessError::Refused(_)) => {
            let publisher: Access<Upload> = bearer.namespace(unverified_namespace, event)?;
            broker.store.signing_keys(&publisher).await?
        }
        Err(error) => return Err(error.into()),
    };
    Ok(keys)
}

/// Decides with the rights in the cache whether the bearer may change keys, and returns the namespace. A
/// refusal costs no read.
pub fn may_change(
    bearer: &Bearer,
    unverified_namespace: &str,
    event: &mut Event,
) -> Result<Namespace, SigningKeysError> {
    let access = bearer.namespace::<CreateGrant>(unverified_namespace, event)?;
    Ok(access.namespace().clone())
}

/// Adds a key.
pub async fn add(
    broker: &Broker,
    bearer: &Bearer,
    namespace: &Namespace,
    armor: &str,
    event: &mut Event,
) -> Result<AddedKey, SigningKeysError> {
    let now = broker.clock.now();
    let key = SigningKey::parse(armor, now)?;
    event.requested(format!("+{}", key.fingerprint()));
    let access = changer(broker, bearer, namespace, event).await?;
    let kept = Kept::new(event, now);
    match broker.store.add_signing_key(&access, &key, &kept).await? {
        KeyAdded::Added => {
            event.outcome(Outcome::Created);
            Ok(AddedKey { key, change: KeyChange::Added })
        }
        KeyAdded::Renewed => {
            event.outcome(Outcome::Changed);
            Ok(AddedKey { key, change: KeyChange::Renewed })
        }
        KeyAdded::Unchanged => {
            event.outcome(Outcome::Unchanged);
            Ok(AddedKey { key, change: KeyChange::Unchanged })
        }
        KeyAdded::Lacks => {
            event.outcome(Outcome::Conflict);
            Err(SigningKeysError::Lacks(key.key_id().clone()))
        }
        KeyAdded::SameId => {
            event.outcome(Outcome::Conflict);
            Err(SigningKeysError::SameId(key.key_id().clone()))
        }
        KeyAdded::Retired => {
            event.outcome(Outcome::Conflict);
            Err(SigningKeysError::Retired(key.key_id().clone()))
        }
        KeyAdded::Full => {
            event.outcome(Outcome::Full);
            Err(SigningKeysError::Full)
        }
    }
}

/// Retires a key: it signs no new version. If it is `compromised`, clients do not get what it signed.
pub async fn retire(
    broker: &Broker,
    bearer: &Bearer,
    namespace: &Namespace,
    key_id: &KeyId,
    compromised: bool,
    event: &mut Event,
) -> Result<RetiredKey, SigningKeysError> {
    let state = if compromised { " compromised" } else { "" };
    event.requested(format!("-{key_id}{state}"));
    let access = changer(broker, bearer, namespace, event).await?;
    let kept = Kept::new(event, broker.clock.now());
    let (changed, versions) =
        match broker.store.retire_signing_key(&access, key_id, compromised, &kept).await? {
            KeyRetired::Done { versions } => (true, versions),
            KeyRetired::Unchanged { versions } => (false, versions),
            KeyRetired::Absent => return Err(SigningKeysError::Absent(key_id.clone())),
        };
    event.outcome(if changed { Outcome::Changed } else { Outcome::Unchanged });
    let versions = versions.iter().map(|(address, version)| format!("{address} {version}"));
    Ok(RetiredKey { changed, versions: versions.collect() })
}

/// Decides the right to change keys with the grants in the store, because the change outlives the token.
async fn changer(
    broker: &Broker,
    bearer: &Bearer,
    namespace: &Namespace,
    event: &mut Event,
) -> Result<Access<CreateGrant>, SigningKeysError> {
    let current = bearer.current(broker).await?;
    Ok(current.access(namespace, event).map_err(AccessError::Refused)?)
}
