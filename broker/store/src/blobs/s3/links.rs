//! Creates signed URLs of archives in S3. This process signs them without a call. Each is for one
//! version of one object.

use std::time::{Duration, UNIX_EPOCH};

use aws_sdk_s3::operation::get_object::builders::GetObjectFluentBuilder;
use aws_sdk_s3::presigning::PresigningConfig;
use stile_core::package::{PackageAddress, Version};

use super::signing::Signer;
use super::{S3, archives};
use crate::StoreError;
use crate::records::model::StoredArchive;

impl S3 {
    /// Returns a signed URL for this version of the archive.
    ///
    /// Clients treat a URL as an archive only if its path ends like one. The URL also names the
    /// checksum.
    pub(crate) async fn presigned(
        &self,
        address: &PackageAddress,
        version: &Version,
        archive: &StoredArchive,
        now: i64,
        ttl: i64,
    ) -> Result<String, StoreError> {
        let key = archives::key(address, version, &archive.sha256, archive.format);
        let get = self.client.get_object().bucket(&self.bucket).key(key);
        let get = get.version_id(archives::object_version(archive)?);
        let url = presigned_get(get, &self.signer, now, ttl).await?;
        // The client removes this parameter before it sends the request, so the signature does not
        // cover it.
        Ok(format!("{url}&checksum=sha256:{}", archive.sha256))
    }
}

/// Returns a signed URL for a read of an object, until `ttl` seconds from now.
pub(in crate::blobs) async fn presigned_get(
    get: GetObjectFluentBuilder,
    signer: &Signer,
    now: i64,
    ttl: i64,
) -> Result<String, StoreError> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        StoreError::unavailable("cannot sign the URL of an archive", error)
    };
    let (credentials, ttl) = signer.credentials(now, ttl).await?;
    let seconds = |count: i64| Duration::from_secs(count.try_into().unwrap_or_default());
    let config = PresigningConfig::builder()
        .start_time(UNIX_EPOCH + seconds(now))
        .expires_in(seconds(ttl))
        .build();
    let signed = get
        .customize()
        .config_override(aws_sdk_s3::config::Builder::new().credentials_provider(credentials))
        .mutate_request(|request| {
            // The SDK adds this parameter, and S3 ignores it.
            let without =
                request.uri().replace("?x-id=GetObject&", "?").replace("&x-id=GetObject", "");
            if request.set_uri(without).is_err() {
                tracing::error!("cannot remove `x-id` from the URL of an archive");
            }
        })
        .presigned(config.map_err(|error| failed(error.into()))?);
    let signed = Box::pin(signed).await.map_err(|error| failed(error.into()))?;
    if signed.headers().next().is_some() {
        return Err(StoreError::misconfigured(
            "the signed URL of an archive requires headers, which clients do not send",
        ));
    }
    Ok(signed.uri().to_owned())
}
