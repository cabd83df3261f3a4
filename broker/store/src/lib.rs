//! The store of a registry: its records, archives and keys, each on one of two backends.
//!
//! | axis | one machine | AWS |
//! |---|---|---|
//! | [`Records`] | SQLite | DynamoDB |
//! | [`Blobs`] | disk | S3 |
//! | [`Keys`] | file | KMS |
//!
//! [`Store`] combines the three. The rules are in `records`, once for all backends. A backend is a
//! module that answers typed reads and commits typed changes.

mod answers;
mod aws;
mod blobs;
mod blocking;
mod calls;
mod deadlines;
mod error;
mod event_bus;
mod files;
mod grant_changes;
mod keys;
mod outgoing;
mod package_fault;
mod provider_answers;
mod records;
mod repaired;
mod retry;
mod service_token_answers;
mod store;
mod trust_answers;

pub use answers::{
    AfterDownload, BegunUpload, DownloadTotal, FetchedUpload, HostRecorded, Leftover, LifeChanged,
    LimitChange, LimitsChange, LimitsSet, Located, Location, NamespaceCreated, NamespaceLimits,
    NamespaceRecord, NamespaceSummary, NamespaceUsage, ObjectChange, ObjectRefusal, PendingUpload,
    PermittedObject, Published, PublishedObject, QuotaExceeded, Recorded, Revocations,
    RevokedPrincipal, RevokedToken, SingleUseOutcome, SourcePublished, SourcesSet, Swept,
    UploadSession, VersionDetails,
};
pub use aws::{
    AwsCause, AwsEndpoints, AwsService, AwsSession, EndpointsError, Place, region_of_profile,
    region_of_variables,
};
pub use blobs::{
    Blobs, DISK_RESERVE, DISK_RESERVE_MIB, Disk, OpenedObject, ReadObject, RecordedObject, S3,
    SpaceAllocation,
};
pub use calls::{
    CallDurations, CallLabels, CallResult, CallsCounted, OperationLabels, Service, ServiceCalls,
};
pub use deadlines::{AwsDeadlines, EmbeddedDeadlines, STORE_TIMEOUT};
pub use error::{StoreError, StoreErrorKind};
pub use event_bus::{EventBus, EventBusName, EventBusNameError};
pub use files::sync_folder;
pub use grant_changes::{
    AfterGrant, Change, ChangeTerms, Created, DelegatedCreation, DelegatedDeletion,
    DelegatedUpdate, Deleted, ExpiryChange, NewGrant, Updated, VisiblePage,
};
pub use keys::{KeyFile, Keys, Kms, ReleaseKms, ReleaseKmsKey};
pub use outgoing::{
    Delivery, Destination, SendingClaim, SendingEnd, Webhook, WebhookAdded, WebhookSummary,
};
pub use package_fault::{CheckedPackage, PackageFault, PackageFaultKind, Relisted};
pub use provider_answers::{
    BegunProviderUpload, KeyRetired, NotReplaced, PendingFile, PendingProviderUpload, PresignedPut,
    ProviderCompletion, ProviderLocations, ProviderManifest, ProviderSession, ProviderVersion,
    SessionFile, SessionFileState, TakenTurn, VerificationTurn,
};
pub use records::{
    AuditPage, COUNTS_PER_COMMIT, DynamoDb, GRANT_LEASE, GrantLease, LISTED_NAMESPACES, LeaseTaken,
    LeaseWatch, Leased, ListedGrants, MAX_WAITING, Migrated, Records, Sqlite, StoredSignedHead,
    UnreadableGrant,
};
pub use repaired::Repaired;
pub use retry::Retry;
pub use service_token_answers::{
    IssuedServiceToken, ListedServiceTokens, ServiceTokenChanged, ServiceTokenIssued,
    StoredServiceToken,
};
pub use store::{
    AwsCreated, BackedUp, CopyProgress, ExpiredEvents, ExpiryProblem, FolderCreated, Restored,
    Store, StoredPackages,
};
pub use trust_answers::{TrustChange, TrustCreated, TrustDeleted, TrustUpdated, UnreadableTrust};
