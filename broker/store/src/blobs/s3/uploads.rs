//! Uploads past the broker: a URL in the bucket that takes the announced bytes and no others.
//!
//! Nothing that arrives there is served. It is fetched, checked, and written to its place like any other archive.

use std::time::{Duration, UNIX_EPOCH};

use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::presigning::{PresignedRequest, PresigningConfig};
use aws_sdk_s3::types::ServerSideEncryption;
use stile_core::package::{AnnouncedArchive, ArchiveUpload, UploadError, UploadId};

use super::S3;
use super::archives::checksum;
use crate::aws::is_from_aws;
use crate::blobs::upload::FetchedObject;
use crate::{StoreError, UploadSession};

/// How long after it was begun the putting may start, in seconds: S3 looks at the time when a request arrives, and an
/// address that somebody copies must not be good for long.
const PUT_WITHIN: i64 = 15 * 60;

/// What the keys of uploads begin with; the bucket clears away what is older than a day there.
pub(super) const UPLOADS: &str = "uploads/";

/// What must be signed: with these S3 takes exactly the announced bytes, once, and without them whatever the holder likes.
const SIGNED: [&str; 3] = ["content-length", "if-none-match", "x-amz-checksum-sha256"];

impl S3 {
    /// Fetches what was put there, as much of it as was announced and one piece more.
    pub(crate) async fn fetch_upload(
        &self,
        id: &UploadId,
        announced: &AnnouncedArchive,
        into: &mut ArchiveUpload,
    ) -> Result<FetchedObject, StoreError> {
        // The client's own limit ends when an answer begins.
        let fetched = tokio::time::timeout(
            self.deadlines.of_object(announced.bytes),
            self.fetch(id, announced, into),
        );
        fetched
            .await
            .map_err(|error| StoreError::unavailable("an upload was not fetched in time", error))?
    }

    async fn fetch(
        &self,
        id: &UploadId,
        announced: &AnnouncedArchive,
        into: &mut ArchiveUpload,
    ) -> Result<FetchedObject, StoreError> {
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
            StoreError::unavailable("an upload cannot be fetched", error)
        };
        let asked = self.client.get_object().bucket(&self.bucket).key(object_key(id)).customize();
        let asked = asked.config_override(
            aws_sdk_s3::config::Builder::new().timeout_config(self.patience(announced.bytes)),
        );
        let mut answer = match Box::pin(asked.send()).await {
            Ok(answer) => answer,
            Err(error) if is_absent(&error) => return Ok(FetchedObject::Nothing),
            Err(error) => return Err(failed(error.into())),
        };
        let object_version = answer.version_id.take().filter(|id| id != "null");
        // Whoever may write to the bucket may have put something endless there.
        while into.bytes() <= announced.bytes {
            match answer.body.try_next().await.map_err(|error| failed(error.into()))? {
                Some(chunk) => match into.write(&chunk).await {
                    Ok(()) => {}
                    // More than was announced, and so not that.
                    Err(UploadError::TooLarge) => break,
                    Err(error) => return Err(failed(error.into())),
                },
                None => break,
            }
        }
        Ok(FetchedObject::All { object_version })
    }

    /// Removes what was put there: that very version. A delete that names none leaves a delete marker behind, whether
    /// something was there or not.
    pub(crate) async fn delete_upload(&self, id: &UploadId, object_version: &str) {
        let object = self.client.delete_object().bucket(&self.bucket).key(object_key(id));
        if let Err(error) = Box::pin(object.version_id(object_version).send()).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "an upload that has ended was left in the bucket"
            );
        }
    }

    /// The address, signed with all that is to be sent there.
    pub(crate) async fn presigned_put(
        &self,
        id: &UploadId,
        announced: &AnnouncedArchive,
        now: i64,
    ) -> Result<UploadSession, StoreError> {
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
            StoreError::unavailable("an upload cannot be signed", error)
        };
        let (credentials, ttl) = self.signer.credentials(now, PUT_WITHIN).await?;
        let seconds = |count: i64| Duration::from_secs(count.try_into().unwrap_or_default());
        let config = PresigningConfig::builder()
            .start_time(UNIX_EPOCH + seconds(now))
            .expires_in(seconds(ttl))
            .build();
        let mut put = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(object_key(id))
            // Once: each time again would be another version of the object, of as many bytes.
            .if_none_match("*")
            .content_type(announced.format.content_type())
            .content_length(announced.bytes.try_into().unwrap_or(i64::MAX))
            .checksum_sha256(checksum(&announced.sha256)?);
        if let Some(kms_key) = &self.kms_key {
            put = put
                .server_side_encryption(ServerSideEncryption::AwsKms)
                .ssekms_key_id(kms_key)
                .bucket_key_enabled(true);
        }
        let signed = put
            .customize()
            .config_override(aws_sdk_s3::config::Builder::new().credentials_provider(credentials))
            .mutate_request(|request| {
                // The SDK's own mark, which means nothing to S3.
                let without = request.uri().replace("?x-id=PutObject", "");
                if request.set_uri(without).is_err() {
                    tracing::error!("an upload's address could not be shortened");
                }
            })
            .presigned(config.map_err(|error| failed(error.into()))?);
        let signed = Box::pin(signed).await.map_err(|error| failed(error.into()))?;
        let headers = bound(&signed).ok_or_else(|| {
            StoreError::misconfigured(
                "an upload's address would take other bytes than were announced",
            )
        })?;
        Ok(UploadSession {
            id: id.clone(),
            url: signed.uri().to_owned(),
            headers,
            expires_at: now.saturating_add(ttl),
        })
    }
}

/// Whether S3 says that nothing was put: not that the bucket is gone, and nobody in its name.
fn is_absent(error: &SdkError<GetObjectError>) -> bool {
    error.as_service_error().is_some_and(GetObjectError::is_no_such_key)
        && error.raw_response().is_some_and(is_from_aws)
}

/// The headers to be sent, where each of them is under the signature and all of [`SIGNED`] are among them.
fn bound(signed: &PresignedRequest) -> Option<Vec<(String, String)>> {
    let headers: Vec<(String, String)> =
        signed.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let list = signed
        .uri()
        .split(['?', '&'])
        .find_map(|pair| pair.strip_prefix("X-Amz-SignedHeaders="))?;
    let list: Vec<&str> = list.split("%3B").collect();
    let all = headers.iter().all(|(name, _)| list.contains(&name.as_str()))
        && SIGNED.iter().all(|name| list.contains(name));
    all.then_some(headers)
}

fn object_key(id: &UploadId) -> String {
    format!("{UPLOADS}{}", id.as_str())
}
