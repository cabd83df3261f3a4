//! What the store is asked and what it answers: the types of its public methods.

use stile_core::grants::{Grant, Pin};
use stile_core::package::{AnnouncedArchive, SignedUrl, UploadId};
use stile_core::principal::Principal;
use stile_core::token::TokenId;
use stile_protocol::names::{Namespace, Permissions};

/// Evidence that an authentication was not used before, and that what had to be pinned is pinned. Made only by the store.
#[derive(Debug)]
pub struct Recorded(pub(crate) ());

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

/// A grant to create: the maker's choices. The evidence says which namespace it is on and who makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewGrant {
    /// The principal that gets it.
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
    /// The store has it.
    Done {
        /// The grant.
        grant: Grant,
        /// Whether the store knew nothing about its namespace before. A mistyped name is one too.
        new_namespace: bool,
    },
    /// The principal has one on that namespace already.
    Exists(Grant),
    /// A principal has one whose name differs by case only; IAM would take both names for the same.
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

/// The record of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceRecord {
    /// The name.
    pub namespace: Namespace,
    /// Who created it: an operator, or a principal.
    pub created_by: String,
    /// The time of its creation, in Unix seconds.
    pub created_at: i64,
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
}

/// The result of creating a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamespaceCreated {
    /// The store has the record from now on.
    Done(NamespaceRecord),
    /// The store had a record before; nothing changed.
    Exists(NamespaceRecord),
}

/// Which permissions a change touches; the others stay as they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Change {
    /// Permissions to add.
    pub set: Permissions,
    /// Permissions to remove.
    pub clear: Permissions,
    /// A new end, where one is given.
    pub expires_at: Option<i64>,
}

/// A revoked token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedToken {
    /// Its id.
    pub id: TokenId,
    /// Until when the store remembers it, Unix seconds; the token has expired by then.
    pub keep_until: i64,
}

/// A principal that gets no token, and whose tokens the broker rejects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedPrincipal {
    /// The principal.
    pub principal: Principal,
    /// Since when, Unix seconds.
    pub revoked_at: i64,
}

/// Everything that is revoked, except by dropping keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocations {
    /// Tokens, ordered by the time at which the store forgets them.
    pub tokens: Vec<RevokedToken>,
    /// Principals, in order.
    pub principals: Vec<RevokedPrincipal>,
}

/// What came of writing the registry's host into the store.
#[derive(Debug, PartialEq, Eq)]
pub enum HostKept {
    /// The store has it from now on.
    Made,
    /// The store had it.
    Same,
    /// The store is for another registry, or its keys are; nothing changed.
    Another(String),
}

/// What came of publishing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// The version is listed from now on.
    Created,
    /// The same bytes were published before; nothing changed.
    Same,
    /// Other bytes were published before; nothing changed.
    Different,
    /// The package has as many versions as its document can hold; nothing changed.
    Full,
}

/// What came of beginning an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BegunUpload {
    /// The archive must come through the broker.
    ThroughBroker,
    /// The sender puts the archive into the bucket itself.
    Session(UploadSession),
}

/// Where a sender puts an archive that does not come through the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadSession {
    /// The id of the upload.
    pub id: UploadId,
    /// The URL to put it to, with a signature over all of `headers`.
    pub url: String,
    /// The headers to send, with exactly these values.
    pub headers: Vec<(String, String)>,
    /// Until when the sender may begin to put it, Unix seconds.
    pub expires_at: i64,
}

/// What came of fetching an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchedUpload {
    /// All of it, or as much as was announced and one piece more, is in the file.
    All,
    /// Nothing was put there, or it is gone.
    Nothing,
}

/// An upload that was begun and has not ended. Made only by the store, for the principal that began it.
#[derive(Debug)]
pub struct PendingUpload {
    pub(crate) id: UploadId,
    pub(crate) announced: AnnouncedArchive,
    pub(crate) object_version: Option<String>,
}

impl PendingUpload {
    /// What its sender announced.
    pub const fn announced(&self) -> &AnnouncedArchive {
        &self.announced
    }
}

/// Where a client fetches an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// At this broker, by a URL that the broker still has to sign.
    Local(SignedUrl),
    /// Elsewhere, by this signed URL.
    Presigned(String),
}
