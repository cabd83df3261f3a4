//! Archives as objects: written once, under a key that says what they are and what is in them, and never written over.

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::head_object::HeadObjectError;
use aws_sdk_s3::operation::put_object::PutObjectError;
use aws_sdk_s3::primitives::{ByteStream, ByteStreamError};
use aws_sdk_s3::types::{BucketVersioningStatus, ServerSideEncryption};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::S3;
use crate::StoreError;
use crate::aws::{Genuine, is_from_aws};
use crate::records::model::StoredArchive;
use stile_core::package::{Format, PackageAddress, VerifiedArchive, Version};

/// A client that adds nothing of its own to what is sent.
pub(super) fn client(sdk: &SdkConfig) -> Client {
    let config = aws_sdk_s3::config::Builder::from(sdk)
        .interceptor(Genuine)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    Client::from_conf(config.build())
}

/// Where an archive is: what is in a key that exists is what its name says, whoever wrote it.
pub(super) fn key(
    address: &PackageAddress,
    version: &Version,
    sha256: &str,
    format: Format,
) -> String {
    let folder = match address {
        PackageAddress::Module(module) => format!("modules/{module}"),
    };
    format!("{folder}/{version}/{sha256}.{}", format.extension())
}

impl S3 {
    /// Puts a checked archive in its place and gives the version of the object; the same bytes again are fine.
    pub(crate) async fn keep(
        &self,
        address: &PackageAddress,
        version: &Version,
        archive: &VerifiedArchive,
    ) -> Result<String, StoreError> {
        let key = key(address, version, archive.sha256(), archive.format());
        let checksum = checksum(archive.sha256())?;
        let body = ByteStream::from_path(archive.path())
            .await
            .map_err(|error| StoreError::unavailable("the archive cannot be read", error))?;
        let mut put = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(&key)
            .if_none_match("*")
            .content_type(archive.format().content_type())
            .content_length(archive.bytes().try_into().unwrap_or(i64::MAX))
            .checksum_sha256(&checksum)
            .body(body);
        if let Some(kms_key) = &self.kms_key {
            put = put
                .server_side_encryption(ServerSideEncryption::AwsKms)
                .ssekms_key_id(kms_key)
                .bucket_key_enabled(true);
        }
        let put = put.customize().config_override(
            aws_sdk_s3::config::Builder::new().timeout_config(self.patience(archive.bytes())),
        );
        match Box::pin(put.send()).await {
            // S3 says the checksum again where it has checked it.
            Ok(done) if done.checksum_sha256.as_deref() == Some(&checksum) => {
                self.versioned(done.version_id)
            }
            Ok(_) => self.read_back(&key, archive).await,
            // It is there: from a publish that died half-way, or from one at the same time.
            Err(error) if is_there(&error) => self.read_back(&key, archive).await,
            Err(error) => Err(StoreError::unavailable(format!("`{key}` cannot be written"), error)),
        }
    }

    /// The version of an object whose bytes are what was checked, as reading it shows.
    async fn read_back(&self, key: &str, archive: &VerifiedArchive) -> Result<String, StoreError> {
        let failed = || format!("`{key}` cannot be read back");
        let asked = self.client.get_object().bucket(&self.bucket).key(key).customize();
        let asked = asked.config_override(
            aws_sdk_s3::config::Builder::new().timeout_config(self.patience(archive.bytes())),
        );
        let mut answer = Box::pin(asked.send())
            .await
            .map_err(|error| StoreError::unavailable(failed(), error))?;
        let (mut hash, mut bytes) = (Sha256::new(), 0);
        let read = async {
            // What is longer is something else, however long.
            while bytes <= archive.bytes() {
                let Some(chunk) = answer.body.try_next().await? else { break };
                bytes += chunk.len() as u64;
                hash.update(&chunk);
            }
            Ok(())
        };
        // The client's own patience ends where the body begins.
        let read = tokio::time::timeout(self.deadlines.of_object(archive.bytes()), read)
            .await
            .map_err(|error| StoreError::unavailable(failed(), error))?;
        read.map_err(|error: ByteStreamError| StoreError::unavailable(failed(), error))?;
        if hex::encode(hash.finalize()) != archive.sha256() {
            tracing::error!(
                alarm = "archive_differs",
                key,
                "an object in the bucket is not what its name says"
            );
            return Err(StoreError::corrupt(format!(
                "`{key}` is in the bucket with other content"
            )));
        }
        self.versioned(answer.version_id)
    }

    /// Whether the very object is there that links lead to. Versions of objects do not change, so its bytes need no look.
    pub(crate) async fn is_there(
        &self,
        address: &PackageAddress,
        version: &Version,
        archive: &StoredArchive,
    ) -> Result<bool, StoreError> {
        let key = key(address, version, &archive.sha256, archive.format);
        let asked = self
            .client
            .head_object()
            .bucket(&self.bucket)
            .key(&key)
            .version_id(object_version(archive)?)
            .send();
        match Box::pin(asked).await {
            Ok(_) => Ok(true),
            Err(error) if is_absent(&error) => Ok(false),
            Err(error) => Err(StoreError::unavailable(
                format!("whether `{key}` is there cannot be told"),
                error,
            )),
        }
    }

    /// Whether the bucket is there.
    pub(crate) async fn health_check(&self) -> Result<(), StoreError> {
        let asked = self.client.head_bucket().bucket(&self.bucket).send();
        Box::pin(asked).await.map(drop).map_err(|error| {
            StoreError::unavailable(format!("bucket `{}` cannot be reached", self.bucket), error)
        })
    }

    /// Whether the bucket is there and keeps versions.
    pub(crate) async fn diagnose(&self) -> Result<(), StoreError> {
        self.health_check().await?;
        let asked = self.client.get_bucket_versioning().bucket(&self.bucket).send();
        let failed = |error| {
            StoreError::unavailable(
                format!("whether bucket `{}` keeps versions cannot be read", self.bucket),
                error,
            )
        };
        let status = Box::pin(asked).await.map_err(failed)?.status;
        if status == Some(BucketVersioningStatus::Enabled) {
            Ok(())
        } else {
            Err(self.unversioned())
        }
    }

    /// The limits of a call that moves so many bytes.
    pub(super) fn patience(&self, bytes: u64) -> TimeoutConfig {
        let whole = self.deadlines.of_object(bytes);
        TimeoutConfig::builder().operation_timeout(whole).operation_attempt_timeout(whole).build()
    }

    fn versioned(&self, id: Option<String>) -> Result<String, StoreError> {
        id.filter(|id| id != "null").ok_or_else(|| self.unversioned())
    }

    /// Without versions, whoever may write to the bucket could change what was checked after it was.
    fn unversioned(&self) -> StoreError {
        StoreError::misconfigured(format!(
            "bucket `{}` keeps no versions; hint: enable versioning on it",
            self.bucket
        ))
    }
}

/// A digest as S3 writes it.
pub(super) fn checksum(sha256: &str) -> Result<String, StoreError> {
    hex::decode(sha256).map(|digest| STANDARD.encode(digest)).map_err(|error| {
        StoreError::corrupt("the digest of an archive is not hexadecimal").caused_by(error)
    })
}

/// The version of the object that an archive is. A record without one was not written for this bucket.
pub(super) fn object_version(archive: &StoredArchive) -> Result<&str, StoreError> {
    let unversioned =
        || StoreError::corrupt("a version in the store names no object of the bucket");
    archive.object_version.as_deref().ok_or_else(unversioned)
}

fn is_there(error: &SdkError<PutObjectError>) -> bool {
    // 409 is said to one of two who put the same key at once.
    error.raw_response().is_some_and(|response| matches!(response.status().as_u16(), 409 | 412))
}

/// S3 says so only to those who may list the bucket; to others it says 403, which is no answer. Nor is what a proxy says,
/// that knows no such page.
fn is_absent(error: &SdkError<HeadObjectError>) -> bool {
    error
        .raw_response()
        .is_some_and(|response| response.status().as_u16() == 404 && is_from_aws(response))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_says_what_the_archive_is_and_ends_as_one() {
        let address = PackageAddress::Module("acme/vpc/aws".parse().unwrap());
        let version = Version::parse("1.0.0-rc.1").unwrap();
        let path = format!("modules/acme/vpc/aws/1.0.0-rc.1/{}", "ab".repeat(32));
        let digest = "ab".repeat(32);
        assert_eq!(key(&address, &version, &digest, Format::Zip), format!("{path}.zip"));
        assert_eq!(key(&address, &version, &digest, Format::TarGz), format!("{path}.tar.gz"));
    }
}
