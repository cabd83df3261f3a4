//! Signed URLs of archives in S3: presigned by this process, without a call, for one version of one object.

use std::time::{Duration, UNIX_EPOCH};

use aws_sdk_s3::presigning::PresigningConfig;
use stile_core::package::{PackageAddress, Version};

use super::{S3, archives};
use crate::StoreError;
use crate::records::model::StoredArchive;

impl S3 {
    /// A link to that version of the archive, in the one form clients take for one: a URL whose path ends as an archive
    /// and which names its checksum.
    pub(crate) async fn presigned(
        &self,
        address: &PackageAddress,
        version: &Version,
        archive: &StoredArchive,
        now: i64,
        ttl: i64,
    ) -> Result<String, StoreError> {
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
            StoreError::unavailable("the link cannot be signed", error)
        };
        let (credentials, ttl) = self.signer.credentials(now, ttl).await?;
        let seconds = |count: i64| Duration::from_secs(count.try_into().unwrap_or_default());
        let config = PresigningConfig::builder()
            .start_time(UNIX_EPOCH + seconds(now))
            .expires_in(seconds(ttl))
            .build();
        let signed = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(archives::key(address, version, &archive.sha256, archive.format))
            .version_id(archives::object_version(archive)?)
            .customize()
            .config_override(aws_sdk_s3::config::Builder::new().credentials_provider(credentials))
            .mutate_request(|request| {
                // The SDK's own mark, which means nothing to S3.
                let without =
                    request.uri().replace("?x-id=GetObject&", "?").replace("&x-id=GetObject", "");
                if request.set_uri(without).is_err() {
                    tracing::error!("a link could not be shortened");
                }
            })
            .presigned(config.map_err(|error| failed(error.into()))?);
        let signed = Box::pin(signed).await.map_err(|error| failed(error.into()))?;
        if signed.headers().next().is_some() {
            return Err(StoreError::misconfigured(
                "the link would need headers, which clients do not send",
            ));
        }
        // The client takes this off before it asks, so it is not signed.
        Ok(format!("{}&checksum=sha256:{}", signed.uri(), archive.sha256))
    }
}
