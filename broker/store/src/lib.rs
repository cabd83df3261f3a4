//! What is kept, one method a question. The answers are the same whichever store gives them.

mod aws;
mod deadlines;
mod embedded;
mod error;

use std::path::PathBuf;

use bytes::Bytes;
use stile_protocol::audience::Audience;
use stile_protocol::names::{Namespace, Permissions};

pub use aws::{Aws, AwsMade, PendingUpload, Place};
pub use deadlines::{AwsDeadlines, EmbeddedDeadlines, STORE_TIMEOUT};
pub use embedded::{Embedded, Made};
pub use error::{StoreError, StoreErrorKind};

use stile_core::grants::{
    Download, Grant, GrantAccess, GrantNamespace, OperatorAccess, PackageAccess,
    PermittedNamespaces, Pin, PrincipalState, Upload as UploadRight,
};
use stile_core::identity::SingleUse;
use stile_core::package::{
    AnnouncedArchive, ArchiveUpload, Format, ModuleSummary, PackageAddress, SignedUrl, UploadId,
    VerifiedArchive, Version,
};
use stile_core::principal::{Principal, UniqueId};
use stile_core::token::{Keyring, TokenId};

/// Evidence that an authentication was not used before, and that what had to be pinned is pinned. Made only by the store.
#[derive(Debug)]
pub struct Recorded(());

/// What came of recording an authentication.
#[derive(Debug)]
pub enum SingleUseOutcome {
    /// It was never used before, and now it is.
    Recorded(Recorded),
    /// It was used before.
    Replayed,
    /// Meanwhile the principal was pinned to another unique id.
    PinnedToAnother,
}

/// A grant to be made: what the maker chooses. Where it is on, and who makes it, the evidence says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewGrant {
    /// Whom it is for.
    pub principal: Principal,
    /// What it allows; never empty.
    pub permissions: Permissions,
    /// When it ends, Unix seconds.
    pub expires_at: Option<i64>,
    /// A pin to set with it, never over another.
    pub pin: Option<Pin>,
}

/// What came of creating a grant.
#[derive(Debug, PartialEq, Eq)]
pub enum Created {
    /// It is there.
    Done(Grant),
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
pub struct UploadSession {
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
pub enum FetchedUpload {
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

/// Where an archive is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// At this server, by a link that is still to be signed.
    Local(SignedUrl),
    /// Elsewhere, by this URL, which is signed.
    Presigned(String),
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
    pub async fn principal_state(
        &self,
        principals: Vec<Principal>,
    ) -> Result<PrincipalState, StoreError> {
        match self {
            Self::Embedded(store) => store.principal_state(principals).await,
            Self::Aws(store) => store.principal_state(principals).await,
        }
    }

    /// Records that an authentication was used, and pins the unique id where one is given: both or neither.
    ///
    /// Who authenticated in a way that nobody can copy has nothing to record.
    pub async fn record(
        &self,
        single_use: SingleUse,
        pin: Option<(Principal, UniqueId)>,
        now: i64,
    ) -> Result<SingleUseOutcome, StoreError> {
        match (self, single_use, pin) {
            (Self::Embedded(store), SingleUse::Record { digest, keep_until }, pin) => {
                store.claim(digest, keep_until, pin, now).await
            }
            (Self::Aws(store), SingleUse::Record { digest, keep_until }, pin) => {
                store.claim(digest, keep_until, pin).await
            }
            (_, SingleUse::ByIssuer, None) => Ok(SingleUseOutcome::Recorded(Recorded(()))),
            (Self::Embedded(store), SingleUse::ByIssuer, Some((principal, id))) => {
                store.pin(principal, id).await
            }
            (Self::Aws(store), SingleUse::ByIssuer, Some((principal, id))) => {
                store.pin(principal, id).await
            }
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
    pub async fn drop_keys(&self, _: &OperatorAccess) -> Result<Option<usize>, StoreError> {
        match self {
            Self::Embedded(store) => store.drop_keys().await,
            Self::Aws(store) => store.drop_keys().await,
        }
    }

    /// Makes a grant; one that exists is not touched.
    pub async fn create_grant(
        &self,
        access: &GrantAccess,
        new: NewGrant,
        now: i64,
    ) -> Result<Created, StoreError> {
        let grant = Grant {
            principal: new.principal,
            namespace: access.namespace().clone(),
            permissions: new.permissions,
            expires_at: new.expires_at,
            created_by: access.actor().to_owned(),
            created_at: now,
        };
        match self {
            Self::Embedded(store) => store.create_grant(grant, new.pin).await,
            Self::Aws(store) => store.create_grant(grant, new.pin).await,
        }
    }

    /// Changes the permissions that are named, and no others.
    pub async fn update_grant(
        &self,
        access: &GrantAccess,
        principal: Principal,
        change: Change,
    ) -> Result<Updated, StoreError> {
        let namespace = access.namespace().clone();
        match self {
            Self::Embedded(store) => store.update_grant(principal, namespace, change).await,
            Self::Aws(store) => store.update_grant(principal, namespace, change).await,
        }
    }

    /// Removes a grant; false where there was none.
    pub async fn delete_grant(
        &self,
        access: &GrantAccess,
        principal: Principal,
    ) -> Result<bool, StoreError> {
        let namespace = access.namespace().clone();
        match self {
            Self::Embedded(store) => store.delete_grant(principal, namespace).await,
            Self::Aws(store) => store.delete_grant(principal, namespace).await,
        }
    }

    /// Every grant, or those of a principal, or those on a namespace; in order.
    pub async fn grants(
        &self,
        _: &OperatorAccess,
        principal: Option<Principal>,
        namespace: Option<GrantNamespace>,
    ) -> Result<Vec<Grant>, StoreError> {
        match self {
            Self::Embedded(store) => store.grants(principal, namespace).await,
            Self::Aws(store) => store.grants(principal, namespace).await,
        }
    }

    /// Takes the pin of a role or user back, so that its next mint pins anew; false where nothing was pinned.
    pub async fn unpin(
        &self,
        _: &OperatorAccess,
        principal: Principal,
    ) -> Result<bool, StoreError> {
        match self {
            Self::Embedded(store) => store.unpin(principal).await,
            Self::Aws(store) => store.unpin(principal).await,
        }
    }

    /// Revokes one token, for as long as any token can live.
    pub async fn revoke_token(
        &self,
        _: &OperatorAccess,
        id: TokenId,
        now: i64,
    ) -> Result<(), StoreError> {
        match self {
            Self::Embedded(store) => store.revoke_token(id, now).await,
            Self::Aws(store) => store.revoke_token(id, now).await,
        }
    }

    /// Revokes a principal until it is lifted; false where it was revoked already.
    pub async fn revoke_principal(
        &self,
        _: &OperatorAccess,
        principal: Principal,
        now: i64,
    ) -> Result<bool, StoreError> {
        match self {
            Self::Embedded(store) => store.revoke_principal(principal, now).await,
            Self::Aws(store) => store.revoke_principal(principal, now).await,
        }
    }

    /// Lifts the revocation of a principal; false where there was none.
    pub async fn lift(&self, _: &OperatorAccess, principal: Principal) -> Result<bool, StoreError> {
        match self {
            Self::Embedded(store) => store.lift(principal).await,
            Self::Aws(store) => store.lift(principal).await,
        }
    }

    /// All that is revoked.
    pub async fn revocations(&self, _: &OperatorAccess) -> Result<Revocations, StoreError> {
        match self {
            Self::Embedded(store) => store.revocations().await,
            Self::Aws(store) => store.revocations().await,
        }
    }

    /// The ready-made `versions` document of a module; `None` where nothing is published.
    pub async fn versions_document(
        &self,
        access: &PackageAccess<Download>,
    ) -> Result<Option<Bytes>, StoreError> {
        let PackageAddress::Module(address) = access.address();
        match self {
            Self::Embedded(store) => store.versions_document(address.clone()).await,
            Self::Aws(store) => store.versions_document(address.clone()).await,
        }
    }

    /// One published version.
    pub async fn package(
        &self,
        access: &PackageAccess<Download>,
        version: &Version,
    ) -> Result<Option<Package>, StoreError> {
        let PackageAddress::Module(address) = access.address();
        match self {
            Self::Embedded(store) => store.package(address.clone(), version.clone()).await,
            Self::Aws(store) => store.package(address, version).await,
        }
    }

    /// Publishes an archive that was checked.
    pub async fn publish(
        &self,
        access: &PackageAccess<UploadRight>,
        version: &Version,
        archive: VerifiedArchive,
        now: i64,
    ) -> Result<Published, StoreError> {
        let PackageAddress::Module(address) = access.address();
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
        access: &PackageAccess<UploadRight>,
        version: &Version,
        announced: &AnnouncedArchive,
    ) -> Result<Option<Published>, StoreError> {
        let PackageAddress::Module(address) = access.address();
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
        access: &PackageAccess<UploadRight>,
        version: &Version,
        announced: &AnnouncedArchive,
        now: i64,
    ) -> Result<Option<UploadSession>, StoreError> {
        let PackageAddress::Module(address) = access.address();
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
        access: &PackageAccess<UploadRight>,
        version: &Version,
        id: &UploadId,
        now: i64,
    ) -> Result<Option<PendingUpload>, StoreError> {
        let PackageAddress::Module(address) = access.address();
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
        pending: &mut PendingUpload,
        into: &mut ArchiveUpload,
    ) -> Result<FetchedUpload, StoreError> {
        match self {
            Self::Embedded(_) => Ok(FetchedUpload::Nothing),
            Self::Aws(store) => store.fetch_upload(pending, into).await,
        }
    }

    /// Clears away what an upload left; what cannot be cleared away now is later, by the bucket and the table.
    pub async fn end_upload(&self, pending: PendingUpload) {
        if let Self::Aws(store) = self {
            store.end_upload(pending).await;
        }
    }

    /// The modules within reach, in order of address, from `offset` on; at most `limit`.
    pub async fn modules(
        &self,
        reach: &PermittedNamespaces,
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
        access: &PackageAccess<Download>,
        version: &Version,
        now: i64,
        ttl: i64,
    ) -> Result<Option<Location>, StoreError> {
        let PackageAddress::Module(address) = access.address();
        match self {
            Self::Embedded(store) => {
                let package = store.package(address.clone(), version.clone()).await?;
                let link = |Package { sha256, format }| {
                    Location::Local(SignedUrl {
                        sha256,
                        format,
                        expires_at: now.saturating_add(ttl),
                    })
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
    pub async fn health_check(&self) -> Result<(), StoreError> {
        match self {
            Self::Embedded(store) => store.health_check().await,
            Self::Aws(store) => store.health_check().await,
        }
    }

    /// Every part of it, and whether that is as it must be.
    pub async fn diagnose(&self) -> Vec<(String, Result<(), StoreError>)> {
        match self {
            Self::Embedded(store) => {
                vec![(
                    format!("data folder {}", store.folder().display()),
                    store.health_check().await,
                )]
            }
            Self::Aws(store) => store.diagnose().await,
        }
    }
}
