//! A store on AWS: a DynamoDB table, an S3 bucket, and a keyring that KMS encrypts. No part of it
//! is on this machine.

use aws_config::SdkConfig;
use stile_protocol::audience::Audience;

use super::Store;
use super::head_signer::HeadSigner;
use super::listed_versions::ListedVersions;
use crate::aws::{bounded, configuration};
use crate::blobs::{Blobs, S3, SourceBuckets};
use crate::keys::{AuditKey, AuditKms, Keys, Kms};
use crate::records::{DynamoDb, Records};
use crate::{AwsDeadlines, Place, ServiceCalls, StoreError};

/// The parts of a store on AWS that [`Store::init_on_aws`] created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AwsCreated {
    /// Whether it created the table.
    pub table: bool,
    /// Whether it created the bucket.
    pub bucket: bool,
    /// Whether it created the key.
    pub key: bool,
}

impl Store {
    /// Opens a store on AWS without calling it. The SDK finds credentials and endpoints in its own
    /// variables and files.
    ///
    /// `emulator` is the URL of a service that replaces all of AWS. `audience` is the registry that
    /// the keyring is for. Operators pass none, and then the registry in the table applies.
    pub async fn connect_aws(
        place: &Place,
        audience: Option<Audience>,
        emulator: Option<&str>,
        deadlines: AwsDeadlines,
    ) -> Self {
        Self::on_aws(place, audience, &configuration(emulator).await, deadlines)
    }

    /// Opens a store on AWS with this SDK configuration.
    pub fn on_aws(
        place: &Place,
        audience: Option<Audience>,
        sdk: &SdkConfig,
        deadlines: AwsDeadlines,
    ) -> Self {
        let calls = ServiceCalls::default();
        let (dynamodb, s3, kms) = parts(place, sdk, deadlines, &calls);
        let audit_key = match &place.audit_key {
            Some(key) => AuditKey::Kms(AuditKms::new(key, &bounded(sdk, deadlines))),
            None => AuditKey::Missing,
        };
        Self {
            records: Records::DynamoDb(dynamodb),
            blobs: Blobs::S3(s3),
            keys: Keys::Kms(kms),
            source_buckets: SourceBuckets::with(sdk, deadlines, &calls),
            calls,
            listed_versions: ListedVersions::default(),
            head_signer: HeadSigner::new(audit_key),
            audience,
            // Amazon restores tables, so operators wait there: see `docs/operations.md`.
            restored_at: None,
        }
    }

    /// Creates the missing ones of table, bucket and key. It is safe to repeat, and does not change
    /// existing ones.
    ///
    /// It creates a key only for an alias, `alias/…`, because a caller cannot choose the id of a
    /// key.
    pub async fn init_on_aws(
        place: &Place,
        sdk: &SdkConfig,
        deadlines: AwsDeadlines,
    ) -> Result<AwsCreated, StoreError> {
        let (dynamodb, s3, kms) = parts(place, sdk, deadlines, &ServiceCalls::default());
        let key = kms.create_if_missing().await?;
        let bucket = s3.create_if_missing(sdk.region().map(AsRef::as_ref), &place.kms_key).await?;
        let table = dynamodb.create_if_missing().await?;
        Ok(AwsCreated { table, bucket, key })
    }
}

fn parts(
    place: &Place,
    sdk: &SdkConfig,
    deadlines: AwsDeadlines,
    calls: &ServiceCalls,
) -> (DynamoDb, S3, Kms) {
    let sdk = bounded(sdk, deadlines);
    (
        DynamoDb::new(&place.table, &sdk, calls),
        S3::new(&place.bucket, place.bucket_kms_key.as_deref(), &sdk, deadlines, calls),
        Kms::new(&place.kms_key, &sdk, calls),
    )
}
