//! The types that the public methods of the store take and return.

use stile_core::package::source::{
    AllowedSources, ModuleSource, ObjectAddress, SourceRefusal, SourcesError,
};
use stile_core::package::{
    AnnouncedArchive, Claimed, Format, Life, SignedProviderText, SignedUrl, Step, UploadId, Version,
};
use stile_core::principal::Principal;
use stile_core::token::TokenId;
use stile_protocol::names::Namespace;

/// Evidence that an authentication was not used before, and that the required pin is set. Only the
/// store creates it.
#[derive(Debug)]
pub struct Recorded(pub(crate) ());

/// The result of recording an authentication.
#[derive(Debug)]
pub enum SingleUseOutcome {
    /// It was not used before. The store has recorded it.
    Recorded(Recorded),
    /// It was used before.
    Replayed,
    /// Another request has pinned the principal to another unique id in the meantime.
    PinnedToAnother,
}

/// The record of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceRecord {
    /// The name.
    pub namespace: Namespace,
    /// Who created it: an operator, or a principal.
    pub created_by: String,
    /// The time of its creation, in Unix seconds.
    pub created_at: i64,
    /// The limits of its versions.
    pub limits: NamespaceLimits,
    /// The sources that its versions may have, apart from archives of this registry.
    pub sources: AllowedSources,
}

/// The limits of a namespace. `None` means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NamespaceLimits {
    /// The most bytes of the archives of all its versions together.
    pub max_bytes: Option<u64>,
    /// The most versions of all its packages together.
    pub max_versions: Option<u64>,
}

impl NamespaceLimits {
    /// Returns whether the namespace has no limit.
    pub const fn is_unlimited(&self) -> bool {
        self.max_bytes.is_none() && self.max_versions.is_none()
    }
}

/// What a namespace has of that which its limits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NamespaceUsage {
    /// The bytes of the archives of all its versions together.
    pub bytes: u64,
    /// The number of versions of all its packages together.
    pub versions: u64,
}

/// The limit of a namespace that a new version would exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaExceeded {
    /// The archive does not fit into the limit of bytes.
    Bytes {
        /// The limit.
        max: u64,
        /// The bytes that the namespace has.
        used: u64,
        /// The bytes of the archive.
        archive: u64,
    },
    /// The namespace has as many versions as its limit, or more.
    Versions {
        /// The limit.
        max: u64,
        /// The versions that the namespace has.
        used: u64,
    },
}

/// A change of one limit of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LimitChange {
    /// The limit does not change.
    #[default]
    Keep,
    /// There is no limit.
    Unlimited,
    /// This is the limit.
    At(u64),
}

impl LimitChange {
    /// Returns the limit after the change.
    pub(crate) const fn after(self, limit: Option<u64>) -> Option<u64> {
        match self {
            Self::Keep => limit,
            Self::Unlimited => None,
            Self::At(limit) => Some(limit),
        }
    }
}

/// A change of the limits of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LimitsChange {
    /// The change of the limit of bytes.
    pub max_bytes: LimitChange,
    /// The change of the limit of versions.
    pub max_versions: LimitChange,
}

/// The result of setting the limits of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitsSet {
    /// The namespace has the limits.
    Done {
        /// The limits before.
        before: NamespaceLimits,
        /// The limits now.
        limits: NamespaceLimits,
        /// What the namespace has, if the store counts it. The table counts only for a limit.
        usage: Option<NamespaceUsage>,
    },
    /// The namespace has no record, no grant and no module. Nothing changed.
    Absent,
}

/// The result of setting the allowed sources of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourcesSet {
    /// The namespace allows the sources.
    Done {
        /// What it allowed before.
        before: AllowedSources,
        /// What it allows now.
        sources: AllowedSources,
    },
    /// The namespace has no record, no grant and no module. Nothing changed.
    Absent,
    /// The list cannot have this change. Nothing changed.
    Rejected(SourcesError),
}

/// A namespace with the numbers of its grants and modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceSummary {
    /// The name.
    pub namespace: Namespace,
    /// Its record. An older release created namespaces without one.
    pub record: Option<NamespaceRecord>,
    /// The number of grants on it, without the grants on all namespaces.
    pub grants: usize,
    /// The number of modules in it.
    pub modules: usize,
    /// The number of its providers.
    pub providers: usize,
    /// What it has, if the store counts it. The table counts only for a limit.
    pub usage: Option<NamespaceUsage>,
}

/// The result of creating a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamespaceCreated {
    /// The store created the record.
    Done(NamespaceRecord),
    /// The store had a record before. Nothing changed.
    Exists(NamespaceRecord),
}

/// A revoked token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedToken {
    /// Its id.
    pub id: TokenId,
    /// Until when the store keeps the revocation, in Unix seconds. The token has expired by then.
    pub keep_until: i64,
}

/// A principal that gets no token, and whose tokens the broker rejects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedPrincipal {
    /// The principal.
    pub principal: Principal,
    /// Time of the revocation in Unix seconds.
    pub revoked_at: i64,
}

/// All revoked tokens and principals. Tokens whose key was deleted are not included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocations {
    /// Tokens, ordered by the time at which the store deletes the revocation.
    pub tokens: Vec<RevokedToken>,
    /// Principals, in order.
    pub principals: Vec<RevokedPrincipal>,
}

/// The result of recording the registry host in the store.
#[derive(Debug, PartialEq, Eq)]
pub enum HostRecorded {
    /// The store recorded the host.
    Created,
    /// The store had the same host before.
    Same,
    /// The store or its keyring is for another registry. Nothing changed.
    Another(String),
}

/// The result of publishing a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// The store published the version.
    Created,
    /// The version was published before, with the same bytes. Nothing changed.
    Same,
    /// The version was published before, with the same bytes in another object, or in another version
    /// of it. It has the new object now.
    Replaced,
    /// The version was published before, with other bytes. Nothing changed.
    Different,
    /// The version was published before with the same bytes, and is unpublished. Nothing changed.
    Unpublished,
    /// Another publisher is about to publish the version with other content. Nothing changed.
    InProgress,
    /// The package has as many versions as its document can hold. Nothing changed.
    Full,
    /// The version would exceed a limit of the namespace. Nothing changed.
    OverQuota(QuotaExceeded),
}

/// The result of publishing a version with a source or an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourcePublished {
    /// The namespace allows the source or the object. This is the result.
    Answered(Published),
    /// The namespace does not allow the source. Nothing changed.
    Refused(SourceRefusal),
}

/// Evidence that a namespace allows an object now. Only the store creates it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PermittedObject {
    pub(crate) address: ObjectAddress,
    /// The region of the bucket.
    pub(crate) region: &'static str,
}

/// The reason why S3 does not give an object to the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectRefusal {
    /// The object does not exist.
    Missing,
    /// The bucket does not exist.
    NoBucket,
    /// S3 denies access. To a caller that may not list the bucket, it also denies what does not
    /// exist.
    Denied,
    /// S3 gives the newest version of the object, and denies a read that names the version.
    VersionDenied,
    /// The object is in an archive storage class, and must be restored first.
    Archived,
    /// The object is encrypted with a key that S3 does not store (SSE-C), so no signed URL can read it.
    CustomerKey,
    /// The object has a content encoding, which clients would decode before they compare the digest.
    Encoded,
}

/// Why nobody gets an object of a bucket without versions: it is not what was published, or S3 does
/// not show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ObjectChange {
    /// It has another ETag, or another length.
    #[error("it has another ETag or another length")]
    Different,
    /// It does not exist.
    #[error("it does not exist any more")]
    Gone,
    /// It is in an archive storage class, and must be restored first.
    #[error("it is in an archive storage class")]
    Archived,
    /// S3 denies access. To a caller that may not list the bucket, it also denies what does not
    /// exist.
    #[error("S3 denies access to it, or it does not exist any more")]
    Denied,
}

/// The object that a version has as its archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedObject {
    /// The address.
    pub address: ObjectAddress,
    /// The version of the object. `None` in a bucket without versions.
    pub version: Option<String>,
}

/// The result of beginning an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BegunUpload {
    /// The client must send the archive to the broker.
    ThroughBroker,
    /// The client puts the archive into the bucket itself.
    Session(UploadSession),
    /// The version would exceed a limit of the namespace. Nothing began.
    OverQuota(QuotaExceeded),
    /// The principal or the namespace has the maximum number of open uploads. Nothing began.
    TooManyOpen,
}

/// The request with which a client puts an archive directly into the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadSession {
    /// The id of the upload.
    pub id: UploadId,
    /// The URL for the PUT request. Its signature covers all of `headers`.
    pub url: String,
    /// The headers to send, with exactly these values.
    pub headers: Vec<(String, String)>,
    /// Until when the client can start the PUT request, in Unix seconds.
    pub expires_at: i64,
}

/// The result of fetching an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchedUpload {
    /// The file contains the upload. The store stops reading one chunk after the announced size.
    All,
    /// The client put nothing there, or the object is gone.
    Nothing,
}

/// An upload that a principal began and that has not ended. Only the store creates it, and only for
/// that principal.
#[derive(Debug)]
pub struct PendingUpload {
    pub(crate) id: UploadId,
    pub(crate) announced: AnnouncedArchive,
    pub(crate) object_version: Option<String>,
}

impl PendingUpload {
    /// Returns the announcement of the client.
    pub const fn announced(&self) -> &AnnouncedArchive {
        &self.announced
    }
}

/// A version, with everything that the store records of it.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionDetails {
    /// SHA-256 of the archive or the object, in lower-case hexadecimal. `None` for a version with a
    /// source.
    pub sha256: Option<String>,
    /// The format of the archive or the object. `None` for a version with a source.
    pub format: Option<Format>,
    /// The size of the archive or the object. 0 for a version with a source.
    pub bytes: u64,
    /// The source, if the version has no archive.
    pub source: Option<ModuleSource>,
    /// The object of another bucket, if the version has one.
    pub object: Option<PublishedObject>,
    /// The principal that published it.
    pub published_by: String,
    /// The id of the publisher's token, which the audit log has with the session. An older release did
    /// not record it.
    pub token_id: Option<String>,
    /// The time of its publication, in Unix seconds.
    pub published_at: i64,
    /// What the publisher's environment claims. Nobody verified it.
    pub claimed: Option<Claimed>,
    /// Whether it is deprecated or unpublished.
    pub life: Life,
}

/// The result of changing a version's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LifeChanged {
    /// The store made the change.
    Done,
    /// The change would change nothing.
    Unchanged,
    /// The version does not exist.
    Absent,
    /// The package has as many versions as its document can hold. Nothing changed.
    Full,
}

/// The downloads of one version by one principal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownloadTotal {
    /// The version.
    pub version: Version,
    /// The principal, or [`OTHER`](stile_core::usage::OTHER).
    pub principal: String,
    /// The number of downloads.
    pub downloads: u64,
    /// The last day with a download, as the number of days since 1970-01-01 in UTC.
    pub last_day: i64,
}

/// The place in the downloads of a package after which a page begins: the text of a version, and a
/// principal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AfterDownload {
    /// The version as text. Pages are in the order of the texts.
    pub version: String,
    /// The principal.
    pub principal: String,
}

/// The answer to a client that wants a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Located {
    /// The version is published.
    At {
        /// The place of the archive.
        location: Location,
        /// Whether the version is deprecated.
        is_deprecated: bool,
    },
    /// Nobody gets the version, since this step.
    Unpublished(Step),
    /// Nobody gets the version, because the namespace does not allow its source any more.
    SourceRefused {
        /// The source.
        source: ModuleSource,
        /// Why the namespace does not allow it.
        refusal: SourceRefusal,
    },
    /// Nobody gets the version, because the namespace does not allow its object any more.
    ObjectRefused {
        /// The object.
        object: ObjectAddress,
        /// Why the namespace does not allow it.
        refusal: SourceRefusal,
    },
    /// Nobody gets the version, because its object is not what was published.
    ObjectChanged {
        /// The object.
        object: ObjectAddress,
        /// How it differs.
        change: ObjectChange,
    },
}

/// The place from which a client fetches an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// On this broker, with a URL that the broker must still sign.
    Local(SignedUrl),
    /// On this broker: the signed list of digests of a provider, with a URL that the broker must still
    /// sign.
    ProviderText(SignedProviderText),
    /// In the bucket, with this signed URL.
    Presigned(String),
    /// At another server. The namespace allows this source.
    Source(ModuleSource),
    /// In another bucket. The namespace allows this object.
    Object {
        /// The object.
        object: ObjectAddress,
        /// Its signed URL.
        url: String,
    },
}

/// An archive that no version names: of a publish that lost a race, was killed, or is in progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The path of its file in the data folder, or its key in the bucket.
    pub archive: String,
    /// The version of the object, in a bucket.
    pub object_version: Option<String>,
    /// Its size.
    pub bytes: u64,
    /// The time at which it was written, in Unix seconds.
    pub written_at: i64,
}

/// The numbers of what a sweep deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Archives that no version names.
    pub archives: usize,
    /// Temporary files of killed processes.
    pub temporary: usize,
}
