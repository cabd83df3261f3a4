//! The records as the rules use them, independent of the backend.

use std::collections::HashSet;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use stile_core::grants::{Grant, PermittedNamespaces, Pin, StateRevisions};
use stile_core::package::provider::{Release, ReleaseFile};
use stile_core::package::source::ModuleSource;
use stile_core::package::{AnnouncedArchive, Claimed, Format, Life, SearchText, UploadId, Version};
use stile_core::principal::Principal;
use stile_core::token::TokenId;
use stile_core::trust::LiveTrust;
use stile_core::usage::DeprecatedDownload;
use stile_protocol::audience::Audience;
use stile_protocol::names::Namespace;

use super::stored_object::StoredObject;
use crate::provider_answers::{ProviderManifest, sums_sha256};
use crate::{NamespaceLimits, NamespaceRecord, NamespaceUsage, StoreError};

/// The revision of a record, which changes with every change of the record. Only the backend that
/// returned it can compare it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Revision(pub(crate) i64);

/// One grant as the backend found it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StoredGrant {
    /// The principal as it is stored. Empty if it cannot be read.
    pub(crate) who: String,
    /// The namespace as it is stored. It identifies the grant even if the rest cannot be read.
    pub(crate) on: String,
    /// The grant. `None` if this program does not understand it, so that it allows nothing.
    pub(crate) grant: Option<Grant>,
    /// All stored fields, so that a change of one field loses no other.
    pub(crate) raw: Value,
}

/// Everything that a change of a principal's grants depends on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PrincipalGrants {
    pub(crate) revision: Revision,
    pub(crate) grants: Vec<StoredGrant>,
    /// A principal with grants whose name is the same, or differs only by case.
    pub(crate) same_name: Option<String>,
    pub(crate) pin: Pin,
}

/// Everything that a decision about a caller depends on.
#[derive(Debug)]
pub(crate) struct CallerRecords {
    /// The grants of all the caller's principals.
    pub(crate) grants: Vec<StoredGrant>,
    /// The pin of the first principal, the role or user itself.
    pub(crate) pin: Pin,
    /// The trust that has the name of the first principal, if there is one.
    pub(crate) trust: Option<LiveTrust>,
    /// The first of the caller's principals that is revoked.
    pub(crate) revoked: Option<Principal>,
    pub(crate) revoked_tokens: HashSet<TokenId>,
    /// The sealed keyring, if the keyring is a record.
    pub(crate) keyring: Option<SealedKeyring>,
    /// The revisions of the grants and of the revocations.
    pub(crate) revisions: StateRevisions,
    /// The latest download of a deprecated version by the first principal. A record that cannot be
    /// read counts as none, because nothing is decided by it.
    pub(crate) deprecated_download: Option<DeprecatedDownload>,
}

/// All revocations as the backend found them. An entry that cannot be read revokes nothing, and the
/// next change preserves it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct RevocationRecords {
    pub(crate) revision: Revision,
    /// Token ids, and until when the store keeps each, in Unix seconds.
    pub(crate) tokens: Vec<(Value, i64)>,
    /// Principals, and since when each is revoked, in Unix seconds.
    pub(crate) principals: Vec<(Value, i64)>,
    /// Fields that a newer program added.
    pub(crate) unknown: Map<String, Value>,
}

/// A package with the list of its versions.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PackageRecord {
    pub(crate) revision: Revision,
    /// The ready-made answer to clients, with the fields that a newer program added to it.
    pub(crate) document: Value,
    /// The versions in the document, in order.
    pub(crate) versions: Vec<Version>,
    /// Time at which the latest version was published, in Unix seconds.
    pub(crate) latest_at: i64,
    /// Fields outside of the document that a newer program added.
    pub(crate) unknown: Map<String, Value>,
}

/// A page of a list of packages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PackagesPage<'a> {
    /// The namespaces that the caller may read.
    pub(crate) reach: &'a PermittedNamespaces,
    /// The only namespace of the page, if it has one.
    pub(crate) namespace: Option<&'a Namespace>,
    /// How many packages are before the page.
    pub(crate) offset: usize,
    /// The most packages of the page.
    pub(crate) limit: usize,
}

/// The record of a namespace, with the revision of its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordedNamespace {
    pub(crate) record: NamespaceRecord,
    /// Changes with every change of the limits. Always 0 in a backend that checks them itself.
    pub(crate) limits_revision: i64,
}

/// The limits of a namespace, and what it has. A namespace without limits has no quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quota {
    pub(crate) limits: NamespaceLimits,
    /// The revision of the limits.
    pub(crate) limits_revision: i64,
    pub(crate) used: NamespaceUsage,
}

/// What the backend counted of a namespace, for the limits of that revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CountedUsage {
    pub(crate) limits_revision: i64,
    pub(crate) used: NamespaceUsage,
}

/// One version, published or unpublished.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct VersionRecord {
    pub(crate) content: Content,
    pub(crate) bytes: u64,
    pub(crate) published_by: String,
    pub(crate) published_at: i64,
    /// The id of the publisher's token. An older release did not record it.
    pub(crate) token_id: Option<String>,
    /// What the publisher's environment claims.
    pub(crate) claimed: Option<Claimed>,
    pub(crate) life: Life,
    /// The text by which the version is found. Empty for a version of an older release.
    pub(crate) search: SearchText,
}

/// What clients get of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// An archive of this registry.
    Archive(StoredArchive),
    /// A repository, or an archive at another server.
    Source(ModuleSource),
    /// An object of another bucket.
    Object(StoredObject),
    /// The files of a provider.
    Provider(Release),
}

/// The formats that a version with a source, or with an object, has in the store. A release that
/// does not know them cannot read the version, so it never looks for an archive.
const SOURCE_FORMAT: &str = "source";
pub(crate) const OBJECT_FORMAT: &str = "object";

/// The format that a version of a provider has in the store.
const PROVIDER_FORMAT: &str = "provider";

impl VersionRecord {
    /// Returns whether the document of the package lists the version.
    ///
    /// An unpublished version of a provider stays listed, with a warning: without it, `init` fails for
    /// every configuration whose lock file names the version.
    pub(crate) const fn is_listed(&self) -> bool {
        self.life.unpublished.is_none() || matches!(self.content, Content::Provider(_))
    }

    /// Returns the archives of this registry that the version has, each with its length.
    pub(crate) fn archives(&self) -> Vec<(StoredArchive, u64)> {
        match &self.content {
            Content::Archive(archive) => vec![(archive.clone(), self.bytes)],
            Content::Provider(release) => {
                release.files.values().map(|file| (StoredArchive::of(file), file.bytes)).collect()
            }
            Content::Source(_) | Content::Object(_) => Vec::new(),
        }
    }
}

impl Content {
    /// Returns the SHA-256 of the archive, in lower-case hex. For a source it is a digest of the
    /// text, which no archive has. For a provider it is that of the list of digests.
    pub(crate) fn sha256(&self) -> String {
        match self {
            Self::Archive(archive) => archive.sha256.clone(),
            Self::Object(object) => object.sha256.clone(),
            Self::Provider(release) => release.sha256(),
            Self::Source(source) => {
                let text = [b"source\0", source.as_str().as_bytes()].concat();
                hex::encode(Sha256::digest(text))
            }
        }
    }

    /// Returns the name of the format in the store.
    pub(crate) const fn format(&self) -> &'static str {
        match self {
            Self::Archive(archive) => archive.format.extension(),
            Self::Source(_) => SOURCE_FORMAT,
            Self::Object(_) => OBJECT_FORMAT,
            Self::Provider(_) => PROVIDER_FORMAT,
        }
    }

    /// Returns the version of the object, if the archive is an object with versions.
    pub(crate) fn object_version(&self) -> Option<&str> {
        match self {
            Self::Archive(archive) => archive.object_version.as_deref(),
            Self::Object(object) => object.state.version(),
            Self::Source(_) | Self::Provider(_) => None,
        }
    }

    /// Returns the text that says where the content is, unless it is an archive of this registry.
    pub(crate) fn origin(&self) -> Option<String> {
        match self {
            Self::Archive(_) | Self::Provider(_) => None,
            Self::Source(source) => Some(source.to_string()),
            Self::Object(object) => Some(object.origin()),
        }
    }

    /// Returns the text with the files of a provider.
    pub(crate) fn release(&self) -> Option<String> {
        match self {
            Self::Provider(release) => Some(release.to_text()),
            Self::Archive(_) | Self::Source(_) | Self::Object(_) => None,
        }
    }

    /// Reads what the store has of a version. `None` if it is malformed.
    pub(crate) fn read(
        sha256: &str,
        format: &str,
        object_version: Option<&str>,
        origin: Option<&str>,
        release: Option<&str>,
    ) -> Option<Self> {
        let content = match origin {
            _ if release.is_some() => Self::Provider(Release::read(release?)?),
            Some(origin) if format == OBJECT_FORMAT => {
                Self::Object(StoredObject::read(sha256, object_version, origin)?)
            }
            Some(origin) => Self::Source(ModuleSource::parse(origin).ok()?),
            None => Self::Archive(StoredArchive {
                sha256: sha256.to_owned(),
                format: Format::from_extension(format)?,
                object_version: object_version.map(str::to_owned),
            }),
        };
        // A source or a release with another digest, or with the format of an archive, is not what was
        // published.
        let is_whole = content.sha256() == sha256 && content.format() == format;
        is_whole.then_some(content)
    }
}

/// The archive of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredArchive {
    /// SHA-256 in lower-case hexadecimal.
    pub(crate) sha256: String,
    pub(crate) format: Format,
    /// The version of the object, if the archives are objects with versions.
    pub(crate) object_version: Option<String>,
}

impl StoredArchive {
    /// Returns the archive of one platform of a provider.
    pub(crate) fn of(file: &ReleaseFile) -> Self {
        let (sha256, object_version) = (file.sha256.clone(), file.object_version.clone());
        Self { sha256, format: Format::Zip, object_version }
    }
}

/// What a client announced that it uploads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AnnouncedUpload {
    /// The archive of a module.
    Archive(AnnouncedArchive),
    /// The files of a provider.
    Release(Box<ProviderManifest>),
}

impl AnnouncedUpload {
    /// Returns the name of the format in the store. A release that does not know it cannot read the
    /// upload.
    pub(crate) const fn format(&self) -> &'static str {
        match self {
            Self::Archive(archive) => archive.format.extension(),
            Self::Release(_) => PROVIDER_FORMAT,
        }
    }

    /// Returns the number of bytes that the client announced.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Archive(archive) => archive.bytes,
            Self::Release(manifest) => manifest.total(),
        }
    }

    /// Returns the SHA-256 of the archive, or of the list of digests.
    pub(crate) fn sha256(&self) -> String {
        match self {
            Self::Archive(archive) => archive.sha256.clone(),
            Self::Release(manifest) => sums_sha256(manifest.sums.text()),
        }
    }

    /// Returns what the publisher's environment claims.
    pub(crate) fn claimed(&self) -> Option<&Claimed> {
        match self {
            Self::Archive(archive) => archive.claimed.as_ref(),
            Self::Release(manifest) => manifest.claimed.as_ref(),
        }
    }

    /// Returns the text with the files of a provider.
    pub(crate) fn release(&self) -> Option<String> {
        match self {
            Self::Archive(_) => None,
            Self::Release(manifest) => Some(manifest.to_text()),
        }
    }

    /// Reads what the store has of an upload. `None` if it is malformed.
    pub(crate) fn read(
        (address, version): (&str, &str),
        (format, bytes, sha256): (&str, u64, &str),
        release: Option<&str>,
        claimed: Option<Claimed>,
    ) -> Option<Self> {
        let Some(release) = release else {
            let (format, sha256) = (Format::from_extension(format)?, sha256.to_owned());
            return Some(Self::Archive(AnnouncedArchive { format, bytes, sha256, claimed }));
        };
        let manifest = ProviderManifest::read(release, address, version, claimed)?;
        (format == PROVIDER_FORMAT).then(|| Self::Release(Box::new(manifest)))
    }
}

/// An upload that a client began and that goes directly to the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UploadRecord {
    pub(crate) id: UploadId,
    pub(crate) principal: String,
    pub(crate) address: String,
    pub(crate) version: String,
    pub(crate) announced: AnnouncedUpload,
    /// Until when the client can complete it, in Unix seconds.
    pub(crate) complete_until: i64,
}

/// The uploads to one namespace that clients began and did not end.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OpenUploads {
    pub(crate) revision: Revision,
    /// The uploads, also those whose time has passed.
    pub(crate) uploads: Vec<OpenUpload>,
    /// Fields that a newer program added.
    pub(crate) unknown: Map<String, Value>,
}

/// One upload that counts as open until its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OpenUpload {
    pub(crate) id: UploadId,
    pub(crate) principal: String,
    /// Until when the client can complete it, in Unix seconds.
    pub(crate) complete_until: i64,
}

/// The keyring as a record. Ids and times are not encrypted. The secrets are in a blob that only
/// the key store decrypts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SealedKeyring {
    pub(crate) revision: i64,
    /// The registry that the keyring is for.
    pub(crate) audience: String,
    pub(crate) keys: Vec<ClearKey>,
    pub(crate) blob: Option<Vec<u8>>,
}

/// The part of one key that is not encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClearKey {
    pub(crate) id: String,
    pub(crate) created_at: i64,
    pub(crate) mints_from: i64,
}

/// The sealed keyring, and the registry that the records are for. An unreadable host is an error
/// only for callers that need the host.
pub(crate) type KeyringAndHost = (Option<SealedKeyring>, Result<Option<Audience>, StoreError>);

/// The lease on files of grants as a record. By default, nobody has ever held it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct LeaseRecord {
    pub(crate) revision: i64,
    /// The operator of the program that holds it.
    pub(crate) holder: Option<String>,
}
