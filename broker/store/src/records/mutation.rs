//! The changes of records, each with the condition under which it takes place. A closed list: a backend renders each one.

use stile_core::grants::{Grant, GrantNamespace};
use stile_core::package::{PackageAddress, UploadId, Version};
use stile_core::principal::{Principal, UniqueId};
use stile_protocol::audience::Audience;

use super::model::{
    PackageRecord, PrincipalGrants, Revision, RevocationRecords, SealedKeyring, UploadRecord,
    VersionRecord,
};
use crate::NamespaceRecord;

/// One change. Several are committed together: all of them take place, or none.
#[derive(Debug, Clone)]
pub(crate) enum Mutation {
    /// Records a digest, if it is not recorded. `forget_before`: when older digests may be forgotten, Unix seconds.
    RecordSingleUse { digest: [u8; 32], keep_until: i64, forget_before: i64 },
    /// Pins the id, unless another id is pinned; a pin that an operator disabled stays so.
    PinFirst { principal: Principal, id: UniqueId },
    /// Sets the pin, unless another one is set. `None` disables pinning.
    SetPin { principal: Principal, id: Option<UniqueId> },
    /// Removes the pin, if there is one.
    ClearPin { principal: Principal },
    /// Changes the grants of a principal, if nobody changed them since they were read.
    ChangeGrants { principal: Principal, before: PrincipalGrants, change: GrantsChange },
    /// Replaces everything that is revoked, if nobody changed it since it was read.
    ChangeRevocations { before: RevocationRecords, after: RevocationRecords },
    /// Adds a version, if it is not there.
    AddVersion { address: PackageAddress, version: Version, record: VersionRecord },
    /// Has a version lead to another object with the same bytes, if the version still has those.
    MoveArchive {
        address: PackageAddress,
        version: Version,
        sha256: String,
        object_version: Option<String>,
    },
    /// Replaces the list of a package's versions, if nobody changed it since it was read.
    PutPackage { address: PackageAddress, before: Revision, package: PackageRecord },
    /// Adds an upload, if its id is free. `forget_before`: when older uploads may be forgotten, Unix seconds.
    AddUpload { upload: UploadRecord, forget_before: i64 },
    /// Removes an upload.
    DeleteUpload(UploadId),
    /// Replaces the sealed keyring, if it is still of that revision.
    PutKeyring { before: i64, keyring: SealedKeyring },
    /// Adds the record of a namespace, if it has none.
    AddNamespace(NamespaceRecord),
    /// Writes which registry the records are for, if none is written.
    AddHost(Audience),
}

/// A change of one principal's grants.
#[derive(Debug, Clone)]
pub(crate) enum GrantsChange {
    /// Adds a grant under a name that no other principal has, and forgets grants that ended long ago.
    Create { grant: Grant, forget: Vec<GrantNamespace> },
    /// Changes the permissions and the end of a grant.
    Update(Grant),
    /// Removes a grant.
    Delete(GrantNamespace),
}

/// What came of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All of it took place.
    Done,
    /// None of it did, because the condition of this mutation, counted from 0, did not hold.
    Refused(usize),
    /// None of it did, because somebody wrote at the same time: neither yes nor no, to be tried again.
    Conflict,
    /// None of it did, because a record would become larger than the backend can hold.
    TooLarge,
}
