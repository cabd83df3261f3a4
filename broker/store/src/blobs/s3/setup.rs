//! Creates the bucket for a trial, if it is missing.

use aws_sdk_s3::error::BuildError;
use aws_sdk_s3::types::{
    AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, BucketLocationConstraint,
    BucketVersioningStatus, CreateBucketConfiguration, ExpirationStatus, LifecycleExpiration,
    LifecycleRule, LifecycleRuleFilter, NoncurrentVersionExpiration,
    PublicAccessBlockConfiguration, ServerSideEncryption, ServerSideEncryptionByDefault,
    ServerSideEncryptionConfiguration, ServerSideEncryptionRule, VersioningConfiguration,
};

use super::S3;
use super::uploads::UPLOADS;
use crate::StoreError;

impl S3 {
    /// Creates the bucket if it is missing. Returns whether it did.
    ///
    /// `kms_key` encrypts the objects if the store names no KMS key for archives.
    pub(crate) async fn create_if_missing(
        &self,
        region: Option<&str>,
        kms_key: &str,
    ) -> Result<bool, StoreError> {
        let bucket = &self.bucket;
        let failed = || format!("cannot create bucket `{bucket}`");
        match Box::pin(self.client.head_bucket().bucket(bucket).send()).await {
            Ok(_) => return Ok(false),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_not_found()) => {}
            Err(error) => {
                return Err(StoreError::unavailable(
                    format!("cannot reach bucket `{bucket}`"),
                    error,
                ));
            }
        }
        let place = region.filter(|region| *region != "us-east-1").map(|region| {
            CreateBucketConfiguration::builder()
                .location_constraint(BucketLocationConstraint::from(region))
                .build()
        });
        let creating = self
            .client
            .create_bucket()
            .bucket(bucket)
            .set_create_bucket_configuration(place)
            .send();
        Box::pin(creating).await.map_err(|error| StoreError::unavailable(failed(), error))?;
        let private = PublicAccessBlockConfiguration::builder()
            .block_public_acls(true)
            .block_public_policy(true)
            .ignore_public_acls(true)
            .restrict_public_buckets(true);
        let closing = self
            .client
            .put_public_access_block()
            .bucket(bucket)
            .public_access_block_configuration(private.build())
            .send();
        Box::pin(closing).await.map_err(|error| StoreError::unavailable(failed(), error))?;
        let versions =
            VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        let keeping = self
            .client
            .put_bucket_versioning()
            .bucket(bucket)
            .versioning_configuration(versions)
            .send();
        Box::pin(keeping).await.map_err(|error| StoreError::unavailable(failed(), error))?;
        let key = self.kms_key.as_deref().unwrap_or(kms_key);
        let default = ServerSideEncryptionByDefault::builder()
            .sse_algorithm(ServerSideEncryption::AwsKms)
            .kms_master_key_id(key)
            .build();
        let default = default.map_err(|error| StoreError::unavailable(failed(), error))?;
        let rule = ServerSideEncryptionRule::builder()
            .apply_server_side_encryption_by_default(default)
            .bucket_key_enabled(true)
            .build();
        let rules = ServerSideEncryptionConfiguration::builder()
            .rules(rule)
            .build()
            .map_err(|error| StoreError::unavailable(failed(), error))?;
        let encrypting = self
            .client
            .put_bucket_encryption()
            .bucket(bucket)
            .server_side_encryption_configuration(rules)
            .send();
        Box::pin(encrypting).await.map_err(|error| StoreError::unavailable(failed(), error))?;
        let clearing = self.client.put_bucket_lifecycle_configuration().bucket(bucket);
        let clearing = clearing
            .lifecycle_configuration(
                upload_lifecycle().map_err(|error| StoreError::unavailable(failed(), error))?,
            )
            .send();
        Box::pin(clearing).await.map_err(|error| StoreError::unavailable(failed(), error))?;
        Ok(true)
    }
}

/// Returns the lifecycle rules of the bucket. After a day, they delete uploads that were never
/// completed. They do not apply to modules.
fn upload_lifecycle() -> Result<BucketLifecycleConfiguration, BuildError> {
    let rule = |id: &str| {
        let filter = LifecycleRuleFilter::builder().prefix(UPLOADS).build();
        LifecycleRule::builder().id(id).status(ExpirationStatus::Enabled).filter(filter)
    };
    let ended = rule("uploads-end")
        .expiration(LifecycleExpiration::builder().days(1).build())
        .noncurrent_version_expiration(
            NoncurrentVersionExpiration::builder().noncurrent_days(1).build(),
        )
        .abort_incomplete_multipart_upload(
            AbortIncompleteMultipartUpload::builder().days_after_initiation(1).build(),
        );
    // A delete marker without other versions. S3 does not accept one rule for both this and a
    // number of days.
    let marks = rule("uploads-leave-nothing")
        .expiration(LifecycleExpiration::builder().expired_object_delete_marker(true).build());
    BucketLifecycleConfiguration::builder().rules(ended.build()?).rules(marks.build()?).build()
}
