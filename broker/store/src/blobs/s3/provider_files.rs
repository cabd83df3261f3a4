//! Files of providers as S3 objects: the zip archives, and the signed list of digests.
//!
//! The key of each contains its own digest. So a list that a later one replaces stays for the clients
//! that have its URL.

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ServerSideEncryption;
use sha2::{Digest as _, Sha256};
use stile_core::package::provider::{Release, ReleaseFile, SignedSums};
use stile_core::package::{
    ArchiveUpload, Format, PackageAddress, UploadId, VerifiedProviderFile, Version,
};

use super::archives::{FileToPut, PROVIDERS, SIGNATURE, SUMS, checksum, key};
use super::uploads::{PutToSign, UPLOADS};
use super::{S3, presigned_get};
use crate::blobs::upload::FetchedObject;
use crate::provider_answers::PendingFile;
use crate::{Location, PresignedPut, ProviderLocations, StoreError};

/// Returns the keys of a list of digests, and of its signature.
pub(crate) fn sums_keys(
    address: &PackageAddress,
    version: &Version,
    sums: &SignedSums,
) -> [String; 2] {
    let key = |content: &[u8], end: &str| {
        format!("{PROVIDERS}{address}/{version}/{}.{end}", hex::encode(Sha256::digest(content)))
    };
    [key(sums.text.as_bytes(), SUMS), key(&sums.signature, SIGNATURE)]
}

impl S3 {
    /// Stores a verified file and returns the version of the object. It is safe to repeat with the
    /// same bytes.
    pub(crate) async fn put_provider_file(
        &self,
        address: &PackageAddress,
        version: &Version,
        file: &VerifiedProviderFile,
    ) -> Result<String, StoreError> {
        self.put_file(&FileToPut {
            key: &key(address, version, file.sha256(), Format::Zip),
            path: file.path(),
            sha256: file.sha256(),
            bytes: file.bytes(),
            content_type: Format::Zip.content_type(),
        })
        .await
    }

    /// Stores the signed list of digests.
    ///
    /// It puts both also if they exist: an operator can delete the old ones at the same time, and then
    /// the new versions stay.
    pub(crate) async fn put_sums(
        &self,
        address: &PackageAddress,
        version: &Version,
        sums: &SignedSums,
    ) -> Result<(), StoreError> {
        let [sums_key, signature_key] = sums_keys(address, version, sums);
        let contents = [
            (sums_key, sums.text.as_bytes(), "text/plain; charset=utf-8"),
            (signature_key, sums.signature.as_slice(), "application/pgp-signature"),
        ];
        for (key, content, content_type) in contents {
            let mut put = self
                .client
                .put_object()
                .bucket(&self.bucket)
                .key(&key)
                .content_type(content_type)
                .checksum_sha256(checksum(&hex::encode(Sha256::digest(content)))?)
                .body(ByteStream::from(content.to_vec()));
            if let Some(kms_key) = &self.kms_key {
                put = put
                    .server_side_encryption(ServerSideEncryption::AwsKms)
                    .ssekms_key_id(kms_key)
                    .bucket_key_enabled(true);
            }
            Box::pin(put.send()).await.map(drop).map_err(|error| {
                StoreError::unavailable(format!("cannot write object `{key}`"), error)
            })?;
        }
        Ok(())
    }

    /// Returns signed URLs of a zip archive, of the list of digests and of its signature.
    pub(crate) async fn provider_locations(
        &self,
        address: &PackageAddress,
        version: &Version,
        release: &Release,
        file: &ReleaseFile,
        now: i64,
        ttl: i64,
    ) -> Result<ProviderLocations, StoreError> {
        let no_version = || StoreError::corrupt("the file of a provider names no object version");
        let object_version = file.object_version.as_deref().ok_or_else(no_version)?;
        let zip = key(address, version, &file.sha256, Format::Zip);
        let [sums, signature] = sums_keys(address, version, &release.sums);
        let get = |key: String| self.client.get_object().bucket(&self.bucket).key(key);
        let zip = get(zip).version_id(object_version);
        let sign = async |get| presigned_get(get, &self.signer, now, ttl).await;
        Ok(ProviderLocations {
            zip: Location::Presigned(sign(zip).await?),
            sums: Location::Presigned(sign(get(sums)).await?),
            signature: Location::Presigned(sign(get(signature)).await?),
        })
    }

    /// Returns the request that puts a file of an upload into the bucket.
    pub(crate) async fn provider_put(
        &self,
        id: &UploadId,
        file: &PendingFile,
        now: i64,
    ) -> Result<PresignedPut, StoreError> {
        let put = PutToSign {
            key: upload_key(id, file),
            bytes: file.bytes,
            sha256: &file.sha256,
            content_type: Format::Zip.content_type(),
        };
        let (url, headers, _) = self.sign_put(&put, now).await?;
        Ok(PresignedPut { url, headers })
    }

    /// Fetches an uploaded file, and stops reading one chunk after the announced size.
    pub(crate) async fn fetch_provider_file(
        &self,
        id: &UploadId,
        file: &PendingFile,
        into: &mut ArchiveUpload,
    ) -> Result<FetchedObject, StoreError> {
        let limit: Duration = self.deadlines.of_object(file.bytes);
        let fetched = self.fetch(upload_key(id, file), file.bytes, into);
        tokio::time::timeout(limit, fetched)
            .await
            .map_err(|error| StoreError::unavailable("fetching an upload took too long", error))?
    }
}

fn upload_key(id: &UploadId, file: &PendingFile) -> String {
    format!("{UPLOADS}{}/{}", id.as_str(), file.platform)
}
