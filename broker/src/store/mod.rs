//! What is kept, one method a question. The answers are the same whichever store gives them.

mod aws;
mod deadlines;
mod embedded;

use std::path::PathBuf;

use bytes::Bytes;
use stile_protocol::audience::Audience;
use stile_protocol::names::{ModuleAddress, Namespace, Permission, Permissions};

pub use aws::{Aws, AwsMade, Pending, Place};
pub use deadlines::{AwsDeadlines, EmbeddedDeadlines, STORE_TIMEOUT};
pub use embedded::{Embedded, Made};

use crate::grants::{Access, Grant, GrantNamespace, Pin, Reach, Standing};
use crate::principal::{Principal, UniqueId};
use crate::registry::{Announced, Checked, Format, Link, ModuleSummary, Upload, UploadId, Version};
use crate::sts::VerifiedByGateway;
use crate::token::{Keyring, TokenId};

/// The store cannot be reached, or what is in it cannot be read: "down", never "no".
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct StoreError {
    what: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl StoreError {
    /// A failure with its cause.
    pub fn new(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { what: what.into(), source: Some(source.into()) }
    }

    /// Too much at once, or tried too lately.
    pub fn busy(what: &str) -> Self {
        Self { what: what.to_owned(), source: None }
    }
}

/// What a mint needs: a single-use claim was written, or a gateway's evidence stands for it; and what had to be pinned
/// is pinned. Made by the store alone.
#[derive(Debug)]
pub struct Claimed(());

/// What came of claiming a proof.
#[derive(Debug)]
pub enum Claim {
    /// It was never used before, and now it is.
    Claimed(Claimed),
    /// It was used before.
    Replayed,
    /// Meanwhile the principal was pinned to another unique id.
    PinnedToAnother,
}

/// What came of creating a grant.
#[derive(Debug, PartialEq, Eq)]
pub enum Created {
    /// It is there.
    Done,
    /// There is one already.
    Exists(Grant),
    /// There is one for a principal whose name differs by case alone, which IAM would take for the same.
    DiffersByCase(Principal),
    /// The principal holds as many as it may.
    TooMany,
    /// A pin was given, and the principal has another, which counts for all its grants.
    PinnedOtherwise(Pin),
}

/// What came of changing a grant.
#[derive(Debug, PartialEq, Eq)]
pub enum Updated {
    /// It is now this.
    Done(Grant),
    /// There is none.
    Absent,
    /// It would allow nothing.
    WouldBeEmpty,
}

/// Which permissions a change touches; the others stay as they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Change {
    /// To be held from now on.
    pub set: Permissions,
    /// To be held no more.
    pub clear: Permissions,
    /// A new end, where one is given.
    pub expires_at: Option<i64>,
}

/// A token that is good no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedToken {
    /// Which.
    pub id: TokenId,
    /// Until when that is remembered, Unix seconds; it has expired by then.
    pub keep_until: i64,
}

/// A principal that gets no token, and whose tokens are good for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedPrincipal {
    /// Which.
    pub principal: Principal,
    /// Since when, Unix seconds.
    pub revoked_at: i64,
}

/// All that is revoked, but for what dropped keys have ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocations {
    /// Tokens, those that are forgotten next first.
    pub tokens: Vec<RevokedToken>,
    /// Principals, in order.
    pub principals: Vec<RevokedPrincipal>,
}

/// What came of writing down which registry a table is for.
#[derive(Debug, PartialEq, Eq)]
pub enum HostKept {
    /// It is there from now on.
    Made,
    /// It was there.
    Same,
    /// The table is for another registry, or its keys are; nothing changed.
    Another(String),
}

/// What came of publishing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// It is listed from now on.
    Created,
    /// The same bytes were published before; nothing changed.
    Same,
    /// Other bytes were published before; nothing changed.
    Different,
    /// The module has as many versions as its document can hold; nothing changed.
    Full,
}

/// Where an archive is to be put that does not come through this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// What names the upload.
    pub id: UploadId,
    /// Where it is to be put, with a signature over all of `headers`.
    pub url: String,
    /// What must be sent with it, and with exactly these values.
    pub headers: Vec<(String, String)>,
    /// Until when the putting may begin, Unix seconds.
    pub expires_at: i64,
}

/// What came of fetching an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetched {
    /// All that there is, or as much of it as was announced and one piece more, is in the file.
    All,
    /// Nothing was put there, or it is there no more.
    Nothing,
}

/// One published version, as a download needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Lower-case hex SHA-256 of the archive.
    pub sha256: String,
    /// What kind of archive it is.
    pub format: Format,
}

/// A fault of ours, not of a caller: the request fails, rather than reach where its access does not.
const MISUSED: &str = "an access is used for what it was not decided for";

/// Where an archive is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// At this server, by a link that is still to be signed.
    Here(Link),
    /// Elsewhere, by this URL, which is signed.
    Elsewhere(String),
}

/// Where everything is kept. Closed, because there is one way for one machine and one for AWS.
#[derive(Debug, Clone)]
pub enum Store {
    /// A folder with SQLite, archives and the keyring.
    Embedded(Embedded),
    /// DynamoDB, S3 and KMS.
    Aws(Aws),
}

impl Store {
    /// All that is kept about a caller who is reached by these principals, the role or user itself first.
    pub async fn standing(&self, principals: Vec<Principal>) -> Result<Standing, StoreError> {
        match self {
            Self::Embedded(store) => store.standing(principals).await,
            Self::Aws(store) => store.standing(principals).await,
        }
    }

    /// Marks a proof as used until `keep_until`, and pins the unique id where one is given: both or neither.
    pub async fn claim(
        &self,
        signature_digest: [u8; 32],
        keep_until: i64,
        pin: Option<(Principal, UniqueId)>,
        now: i64,
    ) -> Result<Claim, StoreError> {
        match self {
            Self::Embedded(store) => store.claim(signature_digest, keep_until, pin, now).await,
            Self::Aws(store) => store.claim(signature_digest, keep_until, pin).await,
        }
    }

    /// Pins the unique id where one is given, for a caller whose signature a gateway has verified: there is no proof to claim.
    pub async fn pin(
        &self,
        _instead_of_a_claim: VerifiedByGateway,
        pin: Option<(Principal, UniqueId)>,
    ) -> Result<Claim, StoreError> {
        match (self, pin) {
            (_, None) => Ok(Claim::Claimed(Claimed(()))),
            (Self::Embedded(store), Some((principal, id))) => store.pin(principal, id).await,
            (Self::Aws(store), Some((principal, id))) => store.pin(principal, id).await,
        }
    }

    /// The keyring as it is; an empty one where there is none yet.
    pub async fn keyring(&self) -> Result<Keyring, StoreError> {
        match self {
            Self::Embedded(store) => store.keyring().await,
            Self::Aws(store) => store.keyring().await,
        }
    }

    /// Replaces the keyring, unless it is no longer of the given revision.
    pub async fn replace_keyring(&self, revision: i64, next: Keyring) -> Result<bool, StoreError> {
        match self {
            Self::Embedded(store) => store.replace_keyring(revision, next).await,
            Self::Aws(store) => store.replace_keyring(revision, next).await,
        }
    }

    /// Drops every key, so that no token opens any more, and says how many there were; `None` where the keyring changed in that
    /// moment. No key is opened for it.
    pub async fn drop_keys(&self) -> Result<Option<usize>, StoreError> {
        match self {
            Self::Embedded(store) => store.drop_keys().await,
            Self::Aws(store) => store.drop_keys().await,
        }
    }

    /// Makes a grant; one that exists is not touched. A pin that is given is set with it, never over another.
    pub async fn create_grant(
        &self,
        grant: Grant,
        pin: Option<Pin>,
    ) -> Result<Created, StoreError> {
        match self {
            Self::Embedded(store) => store.create_grant(grant, pin).await,
            Self::Aws(store) => store.create_grant(grant, pin).await,
        }
    }

    /// Changes the permissions that are named, and no others.
    pub async fn update_grant(
        &self,
        principal: Principal,
        namespace: GrantNamespace,
        change: Change,
    ) -> Result<Updated, StoreError> {
        match self {
            Self::Embedded(store) => store.update_grant(principal, namespace, change).await,
            Self::Aws(store) => store.update_grant(principal, namespace, change).await,
        }
    }

    /// Removes a grant; false where there was none.
    pub async fn delete_grant(
        &self,
        principal: Principal,
        namespace: GrantNamespace,
    ) -> Result<bool, StoreError> {
        match self {
            Self::Embedded(store) => store.delete_grant(principal, namespace).await,
            Self::Aws(store) => store.delete_grant(principal, namespace).await,
        }
    }

    /// Every grant, or those of a principal, or those on a namespace; in order.
    pub async fn grants(
        &self,
        principal: Option<Principal>,
        namespace: Option<GrantNamespace>,
    ) -> Result<Vec<Grant>, StoreError> {
        match self {
            Self::Embedded(store) => store.grants(principal, namespace).await,
            Self::Aws(store) => store.grants(principal, namespace).await,
        }
    }

    /// Takes the pin of a role or user back, so that its next mint pins anew; false where nothing was pinned.
    pub async fn unpin(&self, principal: Principal) -> Result<bool, StoreError> {
        match self {
            Self::Embedded(store) => store.unpin(principal).await,
            Self::Aws(store) => store.unpin(principal).await,
        }
    }

    /// Revokes one token, for as long as any token can live.
    pub async fn revoke_token(&self, id: TokenId, now: i64) -> Result<(), StoreError> {
        match self {
            Self::Embedded(store) => store.revoke_token(id, now).await,
            Self::Aws(store) => store.revoke_token(id, now).await,
        }
    }

    /// Revokes a principal until it is lifted; false where it was revoked already.
    pub async fn revoke_principal(
        &self,
        principal: Principal,
        now: i64,
    ) -> Result<bool, StoreError> {
        match self {
            Self::Embedded(store) => store.revoke_principal(principal, now).await,
            Self::Aws(store) => store.revoke_principal(principal, now).await,
        }
    }

    /// Lifts the revocation of a principal; false where there was none.
    pub async fn lift(&self, principal: Principal) -> Result<bool, StoreError> {
        match self {
            Self::Embedded(store) => store.lift(principal).await,
            Self::Aws(store) => store.lift(principal).await,
        }
    }

    /// All that is revoked.
    pub async fn revocations(&self) -> Result<Revocations, StoreError> {
        match self {
            Self::Embedded(store) => store.revocations().await,
            Self::Aws(store) => store.revocations().await,
        }
    }

    /// The ready-made `versions` document of a module; `None` where nothing is published.
    pub async fn versions_document(
        &self,
        access: &Access,
        address: &ModuleAddress,
    ) -> Result<Option<Bytes>, StoreError> {
        assert!(access.is_for(&address.namespace, Permission::Download), "{MISUSED}");
        match self {
            Self::Embedded(store) => store.versions_document(address.clone()).await,
            Self::Aws(store) => store.versions_document(address.clone()).await,
        }
    }

    /// One published version.
    pub async fn package(
        &self,
        access: &Access,
        address: &ModuleAddress,
        version: &Version,
    ) -> Result<Option<Package>, StoreError> {
        assert!(access.is_for(&address.namespace, Permission::Download), "{MISUSED}");
        match self {
            Self::Embedded(store) => store.package(address.clone(), version.clone()).await,
            Self::Aws(store) => store.package(address, version).await,
        }
    }

    /// Publishes an archive that was checked.
    pub async fn publish(
        &self,
        access: &Access,
        address: &ModuleAddress,
        version: &Version,
        archive: Checked,
        now: i64,
    ) -> Result<Published, StoreError> {
        assert!(access.is_for(&address.namespace, Permission::Upload), "{MISUSED}");
        let by = access.principal().to_string();
        match self {
            Self::Embedded(store) => {
                store.publish(address.clone(), version.clone(), archive, by, now).await
            }
            Self::Aws(store) => {
                store.publish(address.clone(), version.clone(), archive, by, now).await
            }
        }
    }

    /// What publishing these bytes would come to without a change: [`Published::Same`] or [`Published::Different`]; `None`
    /// where there is no such version, or its archive was lost and can be put back.
    pub async fn published(
        &self,
        access: &Access,
        address: &ModuleAddress,
        version: &Version,
        announced: &Announced,
    ) -> Result<Option<Published>, StoreError> {
        assert!(access.is_for(&address.namespace, Permission::Upload), "{MISUSED}");
        match self {
            Self::Embedded(store) => {
                store.published(address.clone(), version.clone(), announced).await
            }
            Self::Aws(store) => store.published(address, version, announced).await,
        }
    }

    /// Begins an upload that does not come through this server; `None` where archives are kept on this machine.
    pub async fn begin_upload(
        &self,
        access: &Access,
        address: &ModuleAddress,
        version: &Version,
        announced: &Announced,
        now: i64,
    ) -> Result<Option<Begun>, StoreError> {
        assert!(access.is_for(&address.namespace, Permission::Upload), "{MISUSED}");
        match self {
            Self::Embedded(_) => Ok(None),
            Self::Aws(store) => store
                .begin_upload(access.principal(), address, version, announced, now)
                .await
                .map(Some),
        }
    }

    /// An upload that this principal began for this version and that has not ended; `None` for every other id.
    pub async fn pending_upload(
        &self,
        access: &Access,
        address: &ModuleAddress,
        version: &Version,
        id: &UploadId,
        now: i64,
    ) -> Result<Option<Pending>, StoreError> {
        assert!(access.is_for(&address.namespace, Permission::Upload), "{MISUSED}");
        match self {
            Self::Embedded(_) => Ok(None),
            Self::Aws(store) => {
                store.pending_upload(access.principal(), address, version, id, now).await
            }
        }
    }

    /// Fetches what was put there into a file that is still to be checked.
    pub async fn fetch_upload(
        &self,
        pending: &mut Pending,
        into: &mut Upload,
    ) -> Result<Fetched, StoreError> {
        match self {
            Self::Embedded(_) => Ok(Fetched::Nothing),
            Self::Aws(store) => store.fetch_upload(pending, into).await,
        }
    }

    /// Clears away what an upload left; what cannot be cleared away now is later, by the bucket and the table.
    pub async fn end_upload(&self, pending: Pending) {
        if let Self::Aws(store) = self {
            store.end_upload(pending).await;
        }
    }

    /// The modules within reach, in order of address, from `offset` on; at most `limit`.
    pub async fn modules(
        &self,
        reach: &Reach,
        namespace: Option<&Namespace>,
        offset: usize,
        limit: usize,
    ) -> Result<Vec<ModuleSummary>, StoreError> {
        match self {
            Self::Embedded(store) => store.modules(reach, namespace.cloned(), offset, limit).await,
            Self::Aws(store) => store.modules(reach, namespace.cloned(), offset, limit).await,
        }
    }

    /// The folder in which an upload grows until it is checked, on the same file system as the archives.
    pub fn incoming(&self) -> PathBuf {
        match self {
            Self::Embedded(store) => store.incoming(),
            Self::Aws(store) => store.incoming(),
        }
    }

    /// Where one published version is fetched until `ttl` seconds from now; `None` where there is no such version.
    pub async fn location(
        &self,
        access: &Access,
        address: &ModuleAddress,
        version: &Version,
        now: i64,
        ttl: i64,
    ) -> Result<Option<Location>, StoreError> {
        assert!(access.is_for(&address.namespace, Permission::Download), "{MISUSED}");
        match self {
            Self::Embedded(store) => {
                let package = store.package(address.clone(), version.clone()).await?;
                let link = |Package { sha256, format }| {
                    Location::Here(Link { sha256, format, expires_at: now.saturating_add(ttl) })
                };
                Ok(package.map(link))
            }
            Self::Aws(store) => store.location(address, version, now, ttl).await,
        }
    }

    /// The archives that this server hands out itself, if they are on this machine.
    pub const fn archives(&self) -> Option<&Embedded> {
        match self {
            Self::Embedded(store) => Some(store),
            Self::Aws(_) => None,
        }
    }

    /// Which registry it says it is for; `None` where it does not say, and an error where it says another than it was
    /// opened for.
    pub async fn host(&self) -> Result<Option<Audience>, StoreError> {
        match self {
            Self::Embedded(_) => Ok(None),
            Self::Aws(store) => store.host().await,
        }
    }

    /// Whether it answers, to reads and to writes.
    pub async fn reach(&self) -> Result<(), StoreError> {
        match self {
            Self::Embedded(store) => store.reach().await,
            Self::Aws(store) => store.reach().await,
        }
    }

    /// Every part of it, and whether that is as it must be.
    pub async fn look(&self) -> Vec<(String, Result<(), StoreError>)> {
        match self {
            Self::Embedded(store) => {
                vec![(format!("data folder {}", store.folder().display()), store.reach().await)]
            }
            Self::Aws(store) => store.look().await,
        }
    }
}
