//! Direct uploads: a signed URL of the bucket that accepts the announced bytes and no others.
//!
//! Nothing that arrives there is served. The broker fetches it, verifies it, and stores it like any
//! other archive.

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

/// Time in which the client can start the PUT request after an upload has begun, in seconds. S3
/// checks the time when a request arrives. The limit is short, because anyone with a copy of the
/// URL can use it.
const PUT_WITHIN: i64 = 15 * 60;

/// Prefix of the keys of uploads. The bucket deletes objects with this prefix after a day.
pub(super) const UPLOADS: &str = "uploads/";

/// The headers that the signature must cover. With them, S3 accepts exactly the announced bytes,
/// once. Without them, it accepts anything from the holder of the URL.
const SIGNED: [&str; 3] = ["content-length", "if-none-match", "x-amz-checksum-sha256"];

impl S3 {
    /// Fetches the uploaded object, and stops reading one chunk after the announced size.
    pub(crate) async fn fetch_upload(
        &self,
        id: &UploadId,
        announced: &AnnouncedArchive,
        into: &mut ArchiveUpload,
    ) -> Result<FetchedObject, StoreError> {
        // The client's own timeout ends when an answer begins.
        let fetched = tokio::time::timeout(
            self.deadlines.of_object(announced.bytes),
            self.fetch(object_key(id), announced.bytes, into),
        );
        fetched
            .await
            .map_err(|error| StoreError::unavailable("fetching an upload took too long", error))?
    }

    pub(super) async fn fetch(
        &self,
        key: String,
        announced: u64,
        into: &mut ArchiveUpload,
    ) -> Result<FetchedObject, StoreError> {
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
            StoreError::unavailable("cannot fetch an upload from the bucket", error)
        };
        let asked = self.client.get_object().bucket(&self.bucket).key(key).customize();
        let asked = asked.config_override(
            aws_sdk_s3::config::Builder::new().timeout_config(self.object_timeouts(announced)),
        );
        let mut answer = match Box::pin(asked.send()).await {
            Ok(answer) => answer,
            Err(error) if is_absent(&error) => return Ok(FetchedObject::Nothing),
            Err(error) => return Err(failed(error.into())),
        };
        let object_version = answer.version_id.take().filter(|id| id != "null");
        // Anyone with write access to the bucket can put an endless object there.
        while into.bytes() <= announced {
            match answer.body.try_next().await.map_err(|error| failed(error.into()))? {
                Some(chunk) => match into.write(&chunk).await {
                    Ok(()) => {}
                    // The object is larger than announced, so it is not the announced archive.
                    Err(UploadError::TooLarge(_)) => break,
                    Err(error) => return Err(failed(error.into())),
                },
                None => break,
            }
        }
        Ok(FetchedObject::All { object_version })
    }

    /// Deletes this version of the uploaded object. A delete without a version leaves a delete
    /// marker, whether or not an object existed.
    pub(crate) async fn delete_upload(&self, id: &UploadId, object_version: &str) {
        let object = self.client.delete_object().bucket(&self.bucket).key(object_key(id));
        if let Err(error) = Box::pin(object.version_id(object_version).send()).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot delete an ended upload from the bucket; the bucket deletes it after a day"
            );
        }
    }

    /// Returns the signed URL of an upload. The signature covers everything that the client must
    /// send.
    pub(crate) async fn presigned_put(
        &self,
        id: &UploadId,
        announced: &AnnouncedArchive,
        now: i64,
    ) -> Result<UploadSession, StoreError> {
        let put = PutToSign {
            key: object_key(id),
            bytes: announced.bytes,
            sha256: &announced.sha256,
            content_type: announced.format.content_type(),
        };
        let (url, headers, ttl) = self.sign_put(&put, now).await?;
        Ok(UploadSession { id: id.clone(), url, headers, expires_at: now.saturating_add(ttl) })
    }

    /// Returns a signed URL, the headers that its signature covers, and its lifetime in seconds.
    pub(super) async fn sign_put(
        &self,
        object: &PutToSign<'_>,
        now: i64,
    ) -> Result<(String, Vec<(String, String)>, i64), StoreError> {
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
            StoreError::unavailable("cannot sign the URL of an upload", error)
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
            .key(&object.key)
            // Only once. Each further PUT would add another version of the object with as many
            // bytes.
            .if_none_match("*")
            .content_type(object.content_type)
            .content_length(object.bytes.try_into().unwrap_or(i64::MAX))
            .checksum_sha256(checksum(object.sha256)?);
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
                // The SDK adds this parameter, and S3 ignores it.
                let without = request.uri().replace("?x-id=PutObject", "");
                if request.set_uri(without).is_err() {
                    tracing::error!("cannot remove `x-id` from the URL of an upload");
                }
            })
            .presigned(config.map_err(|error| failed(error.into()))?);
        let signed = Box::pin(signed).await.map_err(|error| failed(error.into()))?;
        let headers = signed_headers(&signed).ok_or_else(|| {
            StoreError::misconfigured(
                "the signed URL of an upload would accept other bytes than the announced ones",
            )
        })?;
        Ok((signed.uri().to_owned(), headers, ttl))
    }
}

/// An object that a client may put.
#[derive(Debug)]
pub(super) struct PutToSign<'a> {
    pub(super) key: String,
    pub(super) bytes: u64,
    pub(super) sha256: &'a str,
    pub(super) content_type: &'a str,
}

/// Returns whether S3 says that the object does not exist. A missing bucket does not count, and
/// neither does an answer that is not from S3.
fn is_absent(error: &SdkError<GetObjectError>) -> bool {
    error.as_service_error().is_some_and(GetObjectError::is_no_such_key)
        && error.raw_response().is_some_and(is_from_aws)
}

/// Returns the headers that the client must send. Returns `None` if the signature does not cover
/// all of them, or not all of [`SIGNED`].
fn signed_headers(signed: &PresignedRequest) -> Option<Vec<(String, String)>> {
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
