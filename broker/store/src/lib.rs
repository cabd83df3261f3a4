//! The store of a registry: its records, its archives and its keys, each on one of several backends.
//!
//! | axis | one machine | AWS |
//! |---|---|---|
//! | [`Records`] | SQLite | DynamoDB |
//! | [`Blobs`] | disk | S3 |
//! | [`Keys`] | file | KMS |
//!
//! [`Store`] puts the three together. The rules are written once above the records, in `records`; a backend is a folder
//! that answers typed reads and commits typed changes.

mod answers;
mod aws;
mod blobs;
mod blocking;
mod deadlines;
mod error;
mod files;
mod keys;
mod records;
mod retry;
mod store;

pub use answers::{
    BegunUpload, Change, Created, FetchedUpload, HostKept, Location, NamespaceCreated,
    NamespaceRecord, NamespaceSummary, NewGrant, PendingUpload, Published, Recorded, Revocations,
    RevokedPrincipal, RevokedToken, SingleUseOutcome, Updated, UploadSession,
};
pub use aws::Place;
pub use blobs::{Blobs, Disk, S3};
pub use deadlines::{AwsDeadlines, EmbeddedDeadlines, STORE_TIMEOUT};
pub use error::{StoreError, StoreErrorKind};
pub use keys::{KeyFile, Keys, Kms};
pub use records::{DynamoDb, Migrated, Records, Sqlite};
pub use store::{AwsMade, Made, Store};
