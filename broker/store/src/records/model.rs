//! The records as the rules see them, whichever backend holds them.

use std::collections::HashSet;

use serde_json::{Map, Value};
use stile_core::grants::{Grant, Pin};
use stile_core::package::{AnnouncedArchive, Format, UploadId, Version};
use stile_core::principal::Principal;
use stile_core::token::TokenId;
use stile_protocol::audience::Audience;

use crate::StoreError;

/// Changes with every change of the record it was read with. Only the backend that gave it can compare it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Revision(pub(crate) i64);

/// One grant as it was found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StoredGrant {
    /// The namespace as it is written there, to find the grant although the rest cannot be read.
    pub(crate) on: String,
    /// The grant; `None` where this program does not understand it, so that it allows nothing.
    pub(crate) grant: Option<Grant>,
    /// All that the backend found, so that a change of another field loses none of it.
    pub(crate) raw: Value,
}

/// Everything that a change of a principal's grants depends on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PrincipalGrants {
    pub(crate) revision: Revision,
    pub(crate) grants: Vec<StoredGrant>,
    /// The principal with grants whose name is the same or differs by case only.
    pub(crate) same_name: Option<String>,
    pub(crate) pin: Pin,
}

/// Everything that a decision about a caller depends on.
#[derive(Debug)]
pub(crate) struct CallerRecords {
    /// Of all the caller's principals.
    pub(crate) grants: Vec<StoredGrant>,
    /// Of the first principal, the role or user itself.
    pub(crate) pin: Pin,
    /// The first of the caller's principals that is revoked.
    pub(crate) revoked: Option<Principal>,
    pub(crate) revoked_tokens: HashSet<TokenId>,
    /// The sealed keyring, where the keys are sealed into a record.
    pub(crate) keyring: Option<SealedKeyring>,
}

/// Everything that is revoked, as it was found: an entry that cannot be read revokes nothing, and the next change keeps it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct RevocationRecords {
    pub(crate) revision: Revision,
    /// Token ids, and until when each is remembered.
    pub(crate) tokens: Vec<(Value, i64)>,
    /// Principals, and since when each is revoked.
    pub(crate) principals: Vec<(Value, i64)>,
    /// What a newer program added.
    pub(crate) unknown: Map<String, Value>,
}

/// A package as the list of its versions.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PackageRecord {
    pub(crate) revision: Revision,
    /// The ready-made answer to clients, what a newer program added to it included.
    pub(crate) document: Value,
    /// The versions in it, in order.
    pub(crate) versions: Vec<Version>,
    /// When the latest version was published, Unix seconds.
    pub(crate) latest_at: i64,
    /// What a newer program added beside it.
    pub(crate) unknown: Map<String, Value>,
}

/// One version as it is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VersionRecord {
    pub(crate) archive: StoredArchive,
    pub(crate) bytes: u64,
    pub(crate) published_by: String,
    pub(crate) published_at: i64,
}

/// Which archive a version has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredArchive {
    /// Lower-case hex SHA-256.
    pub(crate) sha256: String,
    pub(crate) format: Format,
    /// The version of the object, where the archives are objects with versions.
    pub(crate) object_version: Option<String>,
}

/// An upload that was begun and does not come through the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UploadRecord {
    pub(crate) id: UploadId,
    pub(crate) principal: String,
    pub(crate) address: String,
    pub(crate) version: String,
    pub(crate) announced: AnnouncedArchive,
    /// Until when it can be completed, Unix seconds.
    pub(crate) complete_until: i64,
}

/// The keyring as a record: names and times in the clear, secrets in a blob that only the keys axis opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SealedKeyring {
    pub(crate) revision: i64,
    /// The registry it is for.
    pub(crate) audience: String,
    pub(crate) keys: Vec<ClearKey>,
    pub(crate) blob: Option<Vec<u8>>,
}

/// What stands in the clear of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClearKey {
    pub(crate) id: String,
    pub(crate) created_at: i64,
    pub(crate) mints_from: i64,
}

/// The sealed keyring, and which registry the records are for. An unreadable host ends only what needs the host.
pub(crate) type KeyringAndHost = (Option<SealedKeyring>, Result<Option<Audience>, StoreError>);
