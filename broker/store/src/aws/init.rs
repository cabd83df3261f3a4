//! Makes what is missing of table, bucket and key, for a trial; and looks at each, whoever made it.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::client::Waiters;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
    TableDescription, TimeToLiveSpecification,
};
use aws_sdk_s3::error::BuildError;
use aws_sdk_s3::types::{
    AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, BucketLocationConstraint,
    BucketVersioningStatus, CreateBucketConfiguration, ExpirationStatus, LifecycleExpiration,
    LifecycleRule, LifecycleRuleFilter, NoncurrentVersionExpiration,
    PublicAccessBlockConfiguration, ServerSideEncryption, ServerSideEncryptionByDefault,
    ServerSideEncryptionConfiguration, ServerSideEncryptionRule, VersioningConfiguration,
};

use super::table::{PK, SK, TTL};
use super::uploads::UPLOADS;
use super::{Aws, Place, configuration};
use crate::{AwsDeadlines, StoreError, StoreErrorKind};

/// How long a new table may take.
const TABLE: Duration = Duration::from_secs(120);

/// What [`Aws::init`] made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AwsMade {
    /// The table was not there.
    pub table: bool,
    /// The bucket was not there.
    pub bucket: bool,
    /// The key was not there.
    pub key: bool,
}

impl Aws {
    /// Makes what is missing; safe to repeat. What is there is not changed.
    ///
    /// A key is made only under an alias, `alias/…`: an id is not for the caller to choose.
    pub async fn init(
        place: Place,
        emulator: Option<&str>,
        deadlines: AwsDeadlines,
    ) -> Result<AwsMade, StoreError> {
        Self::init_over(place, &configuration(emulator).await, deadlines).await
    }

    /// The same, over a configuration of the SDK's that is there.
    pub async fn init_over(
        place: Place,
        sdk: &SdkConfig,
        deadlines: AwsDeadlines,
    ) -> Result<AwsMade, StoreError> {
        let store = Self::over(place, None, sdk, deadlines);
        let key = store.make_key().await?;
        let bucket = store.make_bucket(sdk.region().map(AsRef::as_ref)).await?;
        let table = store.make_table().await?;
        Ok(AwsMade { table, bucket, key })
    }

    /// Whether the table is there and has the keys this program writes.
    pub(super) async fn look_at_table(&self) -> Result<(), StoreError> {
        let table = &self.place.table;
        let described = self.described().await?.ok_or_else(|| {
            StoreError::misconfigured(format!("there is no table `{table}`; hint: make one with `stile-admin store init --table {table}`"))
        })?;
        let keys: Vec<(&str, &KeyType)> = described
            .key_schema()
            .iter()
            .map(|key| (key.attribute_name(), key.key_type()))
            .collect();
        if keys != [(PK, &KeyType::Hash), (SK, &KeyType::Range)] {
            return Err(StoreError::misconfigured(format!(
                "table `{table}` was not made for this: its keys must be `{PK}` and `{SK}`"
            )));
        }
        self.reach_table().await
    }

    /// Whether the key is there and can be used.
    pub(super) async fn look_at_key(&self) -> Result<(), StoreError> {
        let found = self.key_state().await?;
        match found {
            None => Err(StoreError::misconfigured(format!(
                "there is no KMS key `{}`",
                self.place.kms_key
            ))),
            Some(false) => Err(StoreError::misconfigured(format!(
                "KMS key `{}` is not enabled",
                self.place.kms_key
            ))),
            Some(true) => Ok(()),
        }
    }

    async fn described(&self) -> Result<Option<TableDescription>, StoreError> {
        match Box::pin(self.dynamodb.describe_table().table_name(&self.place.table).send()).await {
            Ok(answer) => Ok(answer.table),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|error| error.is_resource_not_found_exception()) =>
            {
                Ok(None)
            }
            Err(error) => Err(StoreError::unavailable(
                format!("table `{}` cannot be reached", self.place.table),
                error,
            )),
        }
    }

    async fn make_table(&self) -> Result<bool, StoreError> {
        let failed = || format!("table `{}` cannot be made", self.place.table);
        if self.described().await?.is_some() {
            return Ok(false);
        }
        let mut creating = self
            .dynamodb
            .create_table()
            .table_name(&self.place.table)
            .billing_mode(BillingMode::PayPerRequest);
        for (name, kind) in [(PK, KeyType::Hash), (SK, KeyType::Range)] {
            let attribute = AttributeDefinition::builder()
                .attribute_name(name)
                .attribute_type(ScalarAttributeType::S)
                .build();
            let key = KeySchemaElement::builder().attribute_name(name).key_type(kind).build();
            creating = creating
                .attribute_definitions(
                    attribute.map_err(|error| StoreError::unavailable(failed(), error))?,
                )
                .key_schema(key.map_err(|error| StoreError::unavailable(failed(), error))?);
        }
        Box::pin(creating.send())
            .await
            .map_err(|error| StoreError::unavailable(failed(), error))?;
        let there =
            self.dynamodb.wait_until_table_exists().table_name(&self.place.table).wait(TABLE);
        Box::pin(there).await.map_err(|error| StoreError::unavailable(failed(), error))?;
        let clearing = TimeToLiveSpecification::builder().attribute_name(TTL).enabled(true).build();
        let clearing = clearing.map_err(|error| StoreError::unavailable(failed(), error))?;
        let set = self
            .dynamodb
            .update_time_to_live()
            .table_name(&self.place.table)
            .time_to_live_specification(clearing)
            .send();
        Box::pin(set).await.map_err(|error| StoreError::unavailable(failed(), error))?;
        Ok(true)
    }

    async fn make_bucket(&self, region: Option<&str>) -> Result<bool, StoreError> {
        let bucket = &self.place.bucket;
        let failed = || format!("bucket `{bucket}` cannot be made");
        match Box::pin(self.s3.head_bucket().bucket(bucket).send()).await {
            Ok(_) => return Ok(false),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_not_found()) => {}
            Err(error) => {
                return Err(StoreError::unavailable(
                    format!("bucket `{bucket}` cannot be reached"),
                    error,
                ));
            }
        }
        let place = region.filter(|region| *region != "us-east-1").map(|region| {
            CreateBucketConfiguration::builder()
                .location_constraint(BucketLocationConstraint::from(region))
                .build()
        });
        let creating =
            self.s3.create_bucket().bucket(bucket).set_create_bucket_configuration(place).send();
        Box::pin(creating).await.map_err(|error| StoreError::unavailable(failed(), error))?;
        let private = PublicAccessBlockConfiguration::builder()
            .block_public_acls(true)
            .block_public_policy(true)
            .ignore_public_acls(true)
            .restrict_public_buckets(true);
        let closing = self
            .s3
            .put_public_access_block()
            .bucket(bucket)
            .public_access_block_configuration(private.build())
            .send();
        Box::pin(closing).await.map_err(|error| StoreError::unavailable(failed(), error))?;
        let versions =
            VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        let keeping = self
            .s3
            .put_bucket_versioning()
            .bucket(bucket)
            .versioning_configuration(versions)
            .send();
        Box::pin(keeping).await.map_err(|error| StoreError::unavailable(failed(), error))?;
        let key = self.place.bucket_kms_key.as_ref().unwrap_or(&self.place.kms_key);
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
            .s3
            .put_bucket_encryption()
            .bucket(bucket)
            .server_side_encryption_configuration(rules)
            .send();
        Box::pin(encrypting).await.map_err(|error| StoreError::unavailable(failed(), error))?;
        let clearing = self.s3.put_bucket_lifecycle_configuration().bucket(bucket);
        let clearing = clearing
            .lifecycle_configuration(
                uploads_end().map_err(|error| StoreError::unavailable(failed(), error))?,
            )
            .send();
        Box::pin(clearing).await.map_err(|error| StoreError::unavailable(failed(), error))?;
        Ok(true)
    }

    async fn make_key(&self) -> Result<bool, StoreError> {
        let key = &self.place.kms_key;
        let failed = || format!("KMS key `{key}` cannot be made");
        if self.key_state().await?.is_some() {
            return Ok(false);
        }
        if !key.starts_with("alias/") {
            return Err(StoreError::misconfigured(format!(
                "there is no KMS key `{key}`; hint: name an alias, as in `alias/stile`, to have one made"
            )));
        }
        let creating =
            self.kms.create_key().description("Stile: encrypts the keyring of a registry").send();
        let made =
            Box::pin(creating).await.map_err(|error| StoreError::unavailable(failed(), error))?;
        let id = made.key_metadata.map(|made| made.key_id).ok_or_else(|| {
            StoreError::new(StoreErrorKind::Unavailable, "KMS made a key and did not say which")
        })?;
        let naming = self.kms.create_alias().alias_name(key).target_key_id(&id).send();
        Box::pin(naming).await.map_err(|error| StoreError::unavailable(failed(), error))?;
        let rotating = self.kms.enable_key_rotation().key_id(&id).send();
        Box::pin(rotating).await.map_err(|error| StoreError::unavailable(failed(), error))?;
        Ok(true)
    }

    /// Whether the key is enabled; `None` where there is none.
    async fn key_state(&self) -> Result<Option<bool>, StoreError> {
        match Box::pin(self.kms.describe_key().key_id(&self.place.kms_key).send()).await {
            Ok(answer) => Ok(answer.key_metadata.map(|key| key.enabled)),
            Err(error)
                if error.as_service_error().is_some_and(|error| error.is_not_found_exception()) =>
            {
                Ok(None)
            }
            Err(error) => Err(StoreError::unavailable(
                format!("KMS key `{}` cannot be reached", self.place.kms_key),
                error,
            )),
        }
    }
}

/// What was uploaded and never completed is gone after a day; modules stay.
fn uploads_end() -> Result<BucketLifecycleConfiguration, BuildError> {
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
    // A mark of deletion with nothing behind it; S3 takes no rule for that and for days together.
    let marks = rule("uploads-leave-nothing")
        .expiration(LifecycleExpiration::builder().expired_object_delete_marker(true).build());
    BucketLifecycleConfiguration::builder().rules(ended.build()?).rules(marks.build()?).build()
}
