//! The changes of records, each with its condition. Every backend implements every mutation.
//!
//! The contract of a backend:
//!
//! - A commit first checks the condition of every mutation, and then makes the changes. So no
//!   condition sees a change of the same commit.
//! - A record that does not exist has the revision [`Revision::default`], or 0 for the keyring.
//! - The backend gives a changed record its next revision, and a revision never repeats. Only a
//!   keyring has its next revision from the caller.
//! - A change keeps every field that it does not name, also a field of a newer program.
//! - A read sees every commit that ended before it.

use stile_core::audit::{Head, Link};
use stile_core::grants::{Grant, GrantNamespace};
use stile_core::package::provider::{NamespaceKeys, Release};
use stile_core::package::{Life, PackageAddress, SearchText, UploadId, Version};
use stile_core::principal::{LocalName, Principal, UniqueId};
use stile_core::refused_exchange::RefusedExchange;
use stile_core::service_token::ServiceToken;
use stile_core::token::TokenId;
use stile_core::usage::DownloadKey;
use stile_core::version_event::VersionEvent;
use stile_core::webhook::WebhookName;
use stile_protocol::audience::Audience;
use stile_protocol::names::{ModuleAddress, Namespace};

use super::model::{
    CountedUsage, LeaseRecord, OpenUploads, PackageRecord, PrincipalGrants, Quota,
    RecordedNamespace, Revision, RevocationRecords, SealedKeyring, UploadRecord, VersionRecord,
};
use super::stored_object::StoredObject;
use super::trust_record::TrustRecord;
use super::waiting_file::{WaitingFile, WaitingKey};
use crate::outgoing::SendingState;
use crate::{Delivery, Destination, NamespaceRecord, NamespaceUsage, Webhook};

/// One change. A commit makes all of its changes, or none.
#[derive(Debug, Clone)]
pub(crate) enum Mutation {
    /// Records a digest, if it is not recorded yet. The backend may delete digests that are older
    /// than `forget_before`, in Unix seconds.
    RecordSingleUse { digest: [u8; 32], keep_until: i64, forget_before: i64 },
    /// Pins the id, unless another id is pinned. If an operator disabled the pin, the condition
    /// holds, and the pin stays disabled.
    PinFirst { principal: Principal, id: UniqueId },
    /// Sets the pin, unless another one is set. `None` disables pinning, and a disabled pin is one
    /// that is set: only `None` may follow it.
    SetPin { principal: Principal, id: Option<UniqueId> },
    /// Removes the pin, if there is one.
    ClearPin { principal: Principal },
    /// Changes the grants of a principal, if they have not changed since the read.
    ChangeGrants { principal: Principal, before: PrincipalGrants, change: GrantsChange },
    /// Changes nothing. The condition holds if no revocation has changed since the read.
    KeepRevocations { before: Revision },
    /// Changes nothing. The condition holds if the grants of the principal have not changed since the
    /// read. A commit has it next to a change that depends on these grants.
    KeepGrants { principal: Principal, before: Revision },
    /// Replaces all revocations, if they have not changed since the read.
    ChangeRevocations { before: RevocationRecords, after: RevocationRecords },
    /// Adds a version, if it does not exist. The revision of its package changes only by
    /// [`Mutation::PutPackage`].
    AddVersion { address: PackageAddress, version: Version, record: VersionRecord },
    /// Changes which object a version uses, if the version exists and still has the same bytes.
    MoveArchive {
        address: PackageAddress,
        version: Version,
        sha256: String,
        object_version: Option<String>,
    },
    /// Changes the object of a version, if the version still has the object `before`.
    ReplaceObject {
        address: PackageAddress,
        version: Version,
        before: StoredObject,
        after: StoredObject,
    },
    /// Replaces the files of a provider's version, if it still has the release `before`.
    ReplaceRelease { address: PackageAddress, version: Version, before: Release, after: Release },
    /// Replaces the signing keys of a namespace, if they have not changed since the read.
    PutSigningKeys { namespace: Namespace, before: Revision, keys: NamespaceKeys },
    /// Changes nothing. The condition holds if the signing keys of the namespace have not changed since
    /// the read.
    KeepSigningKeys { namespace: Namespace, before: Revision },
    /// Adds or replaces a file that waits for its version, if it has not changed since the read, and
    /// if nobody deletes its object. The backend may delete files that wait since before
    /// `forget_before`, in Unix seconds.
    PutWaitingFile {
        address: PackageAddress,
        version: Version,
        key: WaitingKey,
        before: Revision,
        after: WaitingFile,
        forget_before: i64,
    },
    /// Changes the life of a version, if the version exists and its life is still `before`.
    ChangeLife { address: PackageAddress, version: Version, before: Life, after: Life },
    /// Records the text by which a module is found: that of its latest version. The condition always
    /// holds. A backend that finds it in the version itself changes nothing.
    PutSearchText { address: ModuleAddress, text: SearchText },
    /// Replaces the list of a package's versions, if it has not changed since the read.
    PutPackage { address: PackageAddress, before: Revision, package: PackageRecord },
    /// Counts that many bytes in a namespace, and a version if it `is_new`, if the limits have not
    /// changed since the read, and neither exceeds one.
    CountVersion { namespace: Namespace, bytes: u64, is_new: bool, quota: Quota },
    /// Adds an upload to a namespace, if its id is free and the open uploads have not changed since
    /// the read. The namespace then has the open uploads in `after` and the new one. The backend may
    /// delete uploads that are older than `forget_before`, in Unix seconds.
    AddUpload {
        upload: UploadRecord,
        namespace: Namespace,
        before: Revision,
        after: OpenUploads,
        forget_before: i64,
    },
    /// Deletes an upload to a namespace. The condition also holds if there is no such upload.
    DeleteUpload { id: UploadId, namespace: Namespace },
    /// Adds to the counts of downloads, and replaces the latest download of a deprecated version of
    /// each principal in `deprecated`. The condition always holds. The backend may delete counts of
    /// days before `forget_before`.
    CountDownloads {
        counts: Vec<(DownloadKey, u64)>,
        deprecated: Vec<DownloadKey>,
        forget_before: i64,
    },
    /// Keeps the record of a refused exchange, and replaces one of the same request. The condition
    /// always holds. The backend may delete records from before `forget_before`, in Unix seconds, and
    /// all but the newest [`KEPT_REFUSED_EXCHANGES`](super::refused_exchanges).
    AddRefusedExchange { refused: RefusedExchange, forget_before: i64 },
    /// Replaces the sealed keyring, if its revision is still `before`. `keyring` has the next one.
    PutKeyring { before: i64, keyring: SealedKeyring },
    /// Adds the record of a namespace, if it has none.
    AddNamespace(NamespaceRecord),
    /// Sets the limits of a namespace, and adds its record if it has none. Its record and the
    /// counted usage must not have changed since the read. `usage` is the new count, for a backend
    /// that does not count by itself.
    SetLimits {
        before: Option<RecordedNamespace>,
        record: NamespaceRecord,
        counted: Option<CountedUsage>,
        usage: NamespaceUsage,
    },
    /// Sets the allowed sources of a namespace, and adds its record if it has none. Its record must
    /// not have changed since the read.
    SetSources { before: Option<RecordedNamespace>, record: NamespaceRecord },
    /// Keeps an event for each of the destinations. The condition always holds. The backend may
    /// delete events that are older than `forget_before`, in Unix seconds.
    AddEvent { event: VersionEvent, destinations: Vec<Destination>, forget_before: i64 },
    /// Deletes an event for one destination. The condition also holds if there is no such event.
    RemoveDelivery(Delivery),
    /// Replaces the state of a destination, if its revision is still `before`. `after` has the next
    /// one.
    PutSendingState { destination: Destination, before: i64, after: SendingState },
    /// Adds a webhook, if its name is free.
    AddWebhook(Webhook),
    /// Removes a webhook and its state as a destination, if it still has this id.
    RemoveWebhook { name: WebhookName, id: String },
    /// Adds a service token, if its id is free.
    AddServiceToken(Box<ServiceToken>),
    /// Replaces the record of a service token, if it is still `before`.
    ChangeServiceToken { id: TokenId, before: String, after: String },
    /// Deletes a service token, if it exists.
    DeleteServiceToken(TokenId),
    /// Records the day of a service token's last use. The condition always holds.
    RecordServiceTokenUse { id: TokenId, day: i64 },
    /// Adds a trust, if its name is free.
    AddTrust(TrustRecord),
    /// Replaces the record of a trust, if it still has the same id and the revision `before`.
    PutTrust { before: i64, after: TrustRecord },
    /// Removes a trust, if it still has this id.
    RemoveTrust { name: LocalName, id: UniqueId },
    /// Changes nothing. The condition holds if the trust of this name still has this id.
    KeepTrust { name: LocalName, id: UniqueId },
    /// Records the registry that the records are for, if none is recorded.
    AddHost(Audience),
    /// Replaces the lease on files of grants, if its revision is still `before`. `after` has the
    /// next one.
    PutGrantLease { before: i64, after: LeaseRecord },
    /// Appends an event to its chain, if the head of the chain is still `before` and the event does
    /// not exist. A change never replaces or deletes an event.
    AppendAudit { before: Head, link: Link, after: Head },
}

/// A change of one principal's grants.
#[derive(Debug, Clone)]
pub(crate) enum GrantsChange {
    /// Adds a grant, and deletes the grants on the namespaces in `forget`, which ended long ago.
    ///
    /// If it `reserves` the name, no principal with the same name in another case gets a grant from an
    /// operator after it, and the condition fails if another one has reserved it
    /// ([`PrincipalGrants::same_name`]).
    Create { grant: Grant, forget: Vec<GrantNamespace>, reserves: bool },
    /// Adds each of these grants, or changes the permissions and the end of the one on the same
    /// namespace. It deletes the grants on the namespaces in `forget`, which ended long ago.
    Give { grants: Vec<Grant>, forget: Vec<GrantNamespace> },
    /// Changes the permissions and the end of a grant, and no other field.
    Update(Grant),
    /// Deletes a grant.
    Delete(GrantNamespace),
}

/// The result of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The backend made all changes.
    Done,
    /// The backend made no change, because a condition does not hold. This is the index of the first
    /// such mutation. The index of the first mutation of a commit is 0.
    Refused(usize),
    /// The backend made no change, because another writer was active. This is neither yes nor no,
    /// and the caller must try again.
    Conflict,
    /// The backend made no change, because a record would become larger than it can hold.
    TooLarge,
}
