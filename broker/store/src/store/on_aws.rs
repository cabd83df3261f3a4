//! A store on AWS: a DynamoDB table, an S3 bucket, and the keyring sealed by KMS. Nothing of it is on this machine.

use aws_config::SdkConfig;
use stile_protocol::audience::Audience;

use super::Store;
use crate::aws::{bounded, configuration};
use crate::blobs::{Blobs, S3};
use crate::keys::{Keys, Kms};
use crate::records::{DynamoDb, Records};
use crate::{AwsDeadlines, Place, StoreError};

/// What [`Store::init_aws`] made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AwsMade {
    /// The table was not there.
    pub table: bool,
    /// The bucket was not there.
    pub bucket: bool,
    /// The key was not there.
    pub key: bool,
}

impl Store {
    /// The store at that place, reached as the SDK's own variables and files say; `emulator` answers for all of AWS where
    /// it is given. Nothing is called yet.
    ///
    /// `audience` is the registry the keyring is for. Without one, as operators have it, it is the one in the table.
    pub async fn connect_aws(
        place: &Place,
        audience: Option<Audience>,
        emulator: Option<&str>,
        deadlines: AwsDeadlines,
    ) -> Self {
        Self::on_aws(place, audience, &configuration(emulator).await, deadlines)
    }

    /// The store over a configuration of the SDK.
    pub fn on_aws(
        place: &Place,
        audience: Option<Audience>,
        sdk: &SdkConfig,
        deadlines: AwsDeadlines,
    ) -> Self {
        let (dynamodb, s3, kms) = parts(place, sdk, deadlines);
        Self {
            records: Records::DynamoDb(dynamodb),
            blobs: Blobs::S3(s3),
            keys: Keys::Kms(kms),
            audience,
        }
    }

    /// Makes what is missing of table, bucket and key; safe to repeat. What is there is not changed.
    ///
    /// A key is made only under an alias, `alias/…`: an id is not for the caller to choose.
    pub async fn init_aws(
        place: &Place,
        emulator: Option<&str>,
        deadlines: AwsDeadlines,
    ) -> Result<AwsMade, StoreError> {
        Self::init_on_aws(place, &configuration(emulator).await, deadlines).await
    }

    /// The same over a configuration of the SDK.
    pub async fn init_on_aws(
        place: &Place,
        sdk: &SdkConfig,
        deadlines: AwsDeadlines,
    ) -> Result<AwsMade, StoreError> {
        let (dynamodb, s3, kms) = parts(place, sdk, deadlines);
        let key = kms.make().await?;
        let bucket = s3.make(sdk.region().map(AsRef::as_ref), &place.kms_key).await?;
        let table = dynamodb.make().await?;
        Ok(AwsMade { table, bucket, key })
    }
}

fn parts(place: &Place, sdk: &SdkConfig, deadlines: AwsDeadlines) -> (DynamoDb, S3, Kms) {
    let sdk = bounded(sdk, deadlines);
    (
        DynamoDb::new(&place.table, &sdk),
        S3::new(&place.bucket, place.bucket_kms_key.as_deref(), &sdk, deadlines),
        Kms::new(&place.kms_key, &sdk),
    )
}
