//! Archives as S3 objects. A key contains the address, version and digest of the archive. An object
//! is written once, and never overwritten.

use std::path::Path;

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::put_object::PutObjectError;
use aws_sdk_s3::primitives::{ByteStream, ByteStreamError};
use aws_sdk_s3::types::{BucketVersioningStatus, ServerSideEncryption};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::S3;
use crate::aws::{Genuine, Measured, is_from_aws, own_retries};
use crate::records::model::StoredArchive;
use crate::{Leftover, Service, ServiceCalls, StoreError};
use stile_core::package::{
    Format, PackageAddress, PackageKind, VerifiedArchive, Version, is_sha256,
};

/// Creates a client that adds no optional checksums to a request.
pub(in crate::blobs) fn client(sdk: &SdkConfig, calls: &ServiceCalls) -> Client {
    let config = aws_sdk_s3::config::Builder::from(sdk)
        .interceptor(Genuine)
        .interceptor(Measured::new(Service::S3, calls))
        .retry_partition(own_retries("s3"))
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    Client::from_conf(config.build())
}

/// Prefix of the keys of modules' archives.
const MODULES: &str = "modules/";

/// Prefix of the keys of providers' files.
pub(super) const PROVIDERS: &str = "providers/";

/// The ends of the keys of a list of digests, and of its signature.
pub(super) const SUMS: &str = "SHA256SUMS";
pub(super) const SIGNATURE: &str = "SHA256SUMS.sig";

/// Returns the address and the version in the key of an archive, or of the signed list of digests of a
/// provider. `None` for every other key.
pub(crate) fn parse_key(key: &str) -> Option<(PackageAddress, Version)> {
    let (kind, rest) = match key.strip_prefix(MODULES) {
        Some(rest) => (PackageKind::Module, rest),
        None => (PackageKind::Provider, key.strip_prefix(PROVIDERS)?),
    };
    let (folder, name) = rest.rsplit_once('/')?;
    let (sha256, extension) = name.split_once('.')?;
    let is_sums = kind == PackageKind::Provider && [SUMS, SIGNATURE].contains(&extension);
    let is_known = is_sums || Format::from_extension(extension).is_some();
    if !is_known || !is_sha256(sha256) {
        return None;
    }
    let (address, version) = folder.rsplit_once('/')?;
    Some((PackageAddress::of_kind(kind, address)?, Version::parse(version).ok()?))
}

/// Returns the key of an archive. The key contains the digest, so an existing object has the same
/// content, whatever program wrote it.
pub(crate) fn key(
    address: &PackageAddress,
    version: &Version,
    sha256: &str,
    format: Format,
) -> String {
    let folder = match address {
        PackageAddress::Module(module) => format!("{MODULES}{module}"),
        PackageAddress::Provider(provider) => format!("{PROVIDERS}{provider}"),
    };
    format!("{folder}/{version}/{sha256}.{}", format.extension())
}

/// A verified file on its way to the bucket.
#[derive(Debug, Clone, Copy)]
pub(super) struct FileToPut<'a> {
    pub(super) key: &'a str,
    pub(super) path: &'a Path,
    pub(super) sha256: &'a str,
    pub(super) bytes: u64,
    pub(super) content_type: &'a str,
}

impl S3 {
    /// Stores a verified archive and returns the version of the object. It is safe to repeat with
    /// the same bytes.
    pub(crate) async fn put(
        &self,
        address: &PackageAddress,
        version: &Version,
        archive: &VerifiedArchive,
    ) -> Result<String, StoreError> {
        self.put_file(&FileToPut {
            key: &key(address, version, archive.sha256(), archive.format()),
            path: archive.path(),
            sha256: archive.sha256(),
            bytes: archive.bytes(),
            content_type: archive.format().content_type(),
        })
        .await
    }

    /// Stores a verified file and returns the version of the object.
    pub(super) async fn put_file(&self, file: &FileToPut<'_>) -> Result<String, StoreError> {
        let FileToPut { key, path, sha256, bytes, content_type } = *file;
        let checksum = checksum(sha256)?;
        let body = ByteStream::from_path(path).await.map_err(|error| {
            StoreError::unavailable("cannot read the verified archive from disk", error)
        })?;
        let mut put = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .if_none_match("*")
            .content_type(content_type)
            .content_length(bytes.try_into().unwrap_or(i64::MAX))
            .checksum_sha256(&checksum)
            .body(body);
        if let Some(kms_key) = &self.kms_key {
            put = put
                .server_side_encryption(ServerSideEncryption::AwsKms)
                .ssekms_key_id(kms_key)
                .bucket_key_enabled(true);
        }
        let put = put.customize().config_override(
            aws_sdk_s3::config::Builder::new().timeout_config(self.object_timeouts(bytes)),
        );
        match Box::pin(put.send()).await {
            // S3 returns the checksum if it has verified it.
            Ok(done) if done.checksum_sha256.as_deref() == Some(&checksum) => {
                self.versioned(done.version_id)
            }
            Ok(_) => self.read_back(file).await,
            // The object exists, from a publish that stopped halfway or from a concurrent one.
            Err(error) if already_exists(&error) => self.read_back(file).await,
            Err(error) => {
                Err(StoreError::unavailable(format!("cannot write object `{key}`"), error))
            }
        }
    }

    /// Reads an object back and returns its version, if its bytes are those of the verified file.
    async fn read_back(&self, file: &FileToPut<'_>) -> Result<String, StoreError> {
        let FileToPut { key, sha256, bytes: length, .. } = *file;
        let failed = || format!("cannot read object `{key}` back");
        let asked = self.client.get_object().bucket(&self.bucket).key(key).customize();
        let asked = asked.config_override(
            aws_sdk_s3::config::Builder::new().timeout_config(self.object_timeouts(length)),
        );
        let mut answer = Box::pin(asked.send())
            .await
            .map_err(|error| StoreError::unavailable(failed(), error))?;
        let (mut hash, mut bytes) = (Sha256::new(), 0);
        let read = async {
            // A longer object differs in any case, so the store does not read the rest.
            while bytes <= length {
                let Some(chunk) = answer.body.try_next().await? else { break };
                bytes += chunk.len() as u64;
                hash.update(&chunk);
            }
            Ok(())
        };
        // The client's own timeout ends when the body begins.
        let read = tokio::time::timeout(self.deadlines.of_object(length), read)
            .await
            .map_err(|error| StoreError::unavailable(failed(), error))?;
        read.map_err(|error: ByteStreamError| StoreError::unavailable(failed(), error))?;
        if hex::encode(hash.finalize()) != sha256 {
            tracing::error!(
                alarm = "archive_differs",
                key,
                "the content of an object in the bucket does not match the digest in its key"
            );
            return Err(StoreError::corrupt(format!(
                "the content of object `{key}` does not match the digest in its key"
            )));
        }
        self.versioned(answer.version_id)
    }

    /// Returns whether the object version that signed URLs name exists. An object version never
    /// changes, so its bytes need no check.
    pub(crate) async fn exists(
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
                format!("cannot check whether object `{key}` exists"),
                error,
            )),
        }
    }

    /// Returns every version of every object that can be an archive, in the order of the keys.
    pub(crate) async fn all(&self) -> Result<Vec<Leftover>, StoreError> {
        let mut found = Vec::new();
        for prefix in [MODULES, PROVIDERS] {
            self.list(prefix, &mut found).await?;
        }
        Ok(found)
    }

    async fn list(&self, prefix: &str, found: &mut Vec<Leftover>) -> Result<(), StoreError> {
        let failed = || format!("cannot list the archives in bucket `{}`", self.bucket);
        let mut from = (None, None);
        loop {
            let (key, version) = from;
            let asked = self
                .client
                .list_object_versions()
                .bucket(&self.bucket)
                .prefix(prefix)
                .set_key_marker(key)
                .set_version_id_marker(version);
            let answer = Box::pin(asked.send())
                .await
                .map_err(|error| StoreError::unavailable(failed(), error))?;
            found.extend(answer.versions.unwrap_or_default().into_iter().filter_map(|object| {
                Some(Leftover {
                    archive: object.key?,
                    object_version: object.version_id,
                    bytes: object.size.and_then(|bytes| bytes.try_into().ok()).unwrap_or_default(),
                    written_at: object.last_modified.map_or(0, |at| at.secs()),
                })
            }));
            match answer.next_key_marker {
                Some(key) if answer.is_truncated == Some(true) => {
                    from = (Some(key), answer.next_version_id_marker);
                }
                _ => return Ok(()),
            }
        }
    }

    /// Deletes one version of an object. Other versions stay.
    pub(crate) async fn delete_archive(
        &self,
        key: &str,
        object_version: &str,
    ) -> Result<(), StoreError> {
        let object = self.client.delete_object().bucket(&self.bucket).key(key);
        let asked = object.version_id(object_version).send();
        Box::pin(asked).await.map(drop).map_err(|error| {
            StoreError::unavailable(format!("cannot delete object `{key}`"), error)
        })
    }

    /// Checks that the bucket exists.
    pub(crate) async fn health_check(&self) -> Result<(), StoreError> {
        let asked = self.client.head_bucket().bucket(&self.bucket).send();
        Box::pin(asked).await.map(drop).map_err(|error| {
            StoreError::unavailable(format!("cannot reach bucket `{}`", self.bucket), error)
        })
    }

    /// Checks that the bucket exists and has versioning enabled.
    pub(crate) async fn diagnose(&self) -> Result<(), StoreError> {
        self.health_check().await?;
        let asked = self.client.get_bucket_versioning().bucket(&self.bucket).send();
        let failed = |error| {
            StoreError::unavailable(
                format!("cannot read the versioning of bucket `{}`", self.bucket),
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

    /// Returns the timeouts of a call that transfers this many bytes.
    pub(super) fn object_timeouts(&self, bytes: u64) -> TimeoutConfig {
        let whole = self.deadlines.of_object(bytes);
        TimeoutConfig::builder().operation_timeout(whole).operation_attempt_timeout(whole).build()
    }

    fn versioned(&self, id: Option<String>) -> Result<String, StoreError> {
        id.filter(|id| id != "null").ok_or_else(|| self.unversioned())
    }

    /// Creates the error for a bucket without versioning. In such a bucket, anyone with write
    /// access could change an archive after its verification.
    fn unversioned(&self) -> StoreError {
        StoreError::misconfigured(format!(
            "bucket `{}` has no versioning; hint: enable versioning on it",
            self.bucket
        ))
    }
}

/// Encodes a hexadecimal digest in base64, as S3 expects it.
pub(super) fn checksum(sha256: &str) -> Result<String, StoreError> {
    hex::decode(sha256).map(|digest| STANDARD.encode(digest)).map_err(|error| {
        StoreError::corrupt("the digest of an archive is not hexadecimal").caused_by(error)
    })
}

/// Returns the object version of an archive. A record without one was not written for this bucket.
pub(super) fn object_version(archive: &StoredArchive) -> Result<&str, StoreError> {
    let unversioned = || {
        StoreError::corrupt("the record of a version does not name an object version in the bucket")
    };
    archive.object_version.as_deref().ok_or_else(unversioned)
}

pub(super) fn already_exists(error: &SdkError<PutObjectError>) -> bool {
    // S3 returns 409 to one of two writers that put the same key at the same time.
    error.raw_response().is_some_and(|response| matches!(response.status().as_u16(), 409 | 412))
}

/// Returns whether S3 says that the object does not exist.
///
/// S3 returns 404 only to callers that may list the bucket. To others it returns 403, which does
/// not answer the question. A 404 from a proxy that does not know the page is not an answer,
/// either.
pub(super) fn is_absent<E>(error: &SdkError<E>) -> bool {
    error
        .raw_response()
        .is_some_and(|response| response.status().as_u16() == 404 && is_from_aws(response))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_contains_address_version_and_digest_and_ends_with_the_extension() {
        let address = PackageAddress::Module("acme/vpc/aws".parse().unwrap());
        let version = Version::parse("1.0.0-rc.1").unwrap();
        let path = format!("modules/acme/vpc/aws/1.0.0-rc.1/{}", "ab".repeat(32));
        let digest = "ab".repeat(32);
        assert_eq!(key(&address, &version, &digest, Format::Zip), format!("{path}.zip"));
        assert_eq!(key(&address, &version, &digest, Format::TarGz), format!("{path}.tar.gz"));
        assert_eq!(parse_key(&format!("{path}.tar.gz")), Some((address, version)));
        let address = PackageAddress::parse("acme/dns").unwrap();
        let version = Version::parse("1.0.0").unwrap();
        let zip = key(&address, &version, &digest, Format::Zip);
        assert_eq!(zip, format!("providers/acme/dns/1.0.0/{digest}.zip"));
        for end in ["zip", "SHA256SUMS", "SHA256SUMS.sig"] {
            let found = parse_key(&format!("providers/acme/dns/1.0.0/{digest}.{end}"));
            assert_eq!(found, Some((address.clone(), version.clone())), "{end}");
        }
        assert!(parse_key(&format!("modules/acme/vpc/aws/1.0.0/{digest}.SHA256SUMS")).is_none());
        let other = format!("modules/acme/vpc/aws/1.0.0/{digest}");
        let others = [".zip.sig", ".tar", ""].map(|end| format!("{other}{end}"));
        let bad = ["", "modules/", "modules/acme/vpc/aws/x", "uploads/x", "modules/a/1.0.0/x"];
        for bad in bad.into_iter().chain(others.iter().map(String::as_str)) {
            assert!(parse_key(bad).is_none(), "{bad}");
        }
    }
}
