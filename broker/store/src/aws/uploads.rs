//! Uploads past the broker: an address in the bucket that takes the announced bytes and no others, and what was said of it.
//!
//! Nothing that arrives there is served. It is fetched, checked, and written to its place like any other archive.

use std::time::{Duration, UNIX_EPOCH};

use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::presigning::{PresignedRequest, PresigningConfig};
use aws_sdk_s3::types::ServerSideEncryption;
use stile_protocol::names::ModuleAddress;

use super::Aws;
use super::archives::checksum;
use super::genuine::is_from_aws;
use super::mint::MARGIN;
use super::retry::Retry;
use super::table::{Key, Row, TTL, Write, Written, number, read_number, read_text, text};
use crate::{FetchedUpload, StoreError, UploadSession};
use stile_core::package::{
    AnnouncedArchive, ArchiveUpload, Format, UploadError, UploadId, Version,
};
use stile_core::principal::Principal;

/// How long after it was begun the putting may start, in seconds: S3 looks at the time when a request arrives, and an
/// address that somebody copies must not be good for long.
const PUT_WITHIN: i64 = 15 * 60;

/// How long after it was begun an upload can be completed, in seconds: the slowest one has arrived by then.
const COMPLETE_WITHIN: i64 = 3600;

/// What the keys of uploads begin with; the bucket clears away what is older than a day there.
pub(super) const UPLOADS: &str = "uploads/";

/// What must be signed: with these S3 takes exactly the announced bytes, once, and without them whatever the holder likes.
const SIGNED: [&str; 3] = ["content-length", "if-none-match", "x-amz-checksum-sha256"];

/// An upload that was begun and has not ended. Made by the store alone, for whoever began it.
#[derive(Debug)]
pub struct PendingUpload {
    id: UploadId,
    announced: AnnouncedArchive,
    object_version: Option<String>,
}

impl PendingUpload {
    /// What is to have arrived.
    pub const fn announced(&self) -> &AnnouncedArchive {
        &self.announced
    }
}

impl Aws {
    pub(crate) async fn begin_upload(
        &self,
        principal: &Principal,
        address: &ModuleAddress,
        version: &Version,
        announced: &AnnouncedArchive,
        now: i64,
    ) -> Result<UploadSession, StoreError> {
        let id = UploadId::random().map_err(|error| {
            StoreError::unavailable("there is no randomness to name an upload with", error)
        })?;
        let begun = self.presigned_put(id, announced, now).await?;
        let complete_until = now.saturating_add(COMPLETE_WITHIN);
        let row = [
            ("principal", text(principal.as_str())),
            ("address", text(address.to_string())),
            ("version", text(version.to_string())),
            ("format", text(announced.format.extension())),
            ("bytes", number(announced.bytes.try_into().unwrap_or(i64::MAX))),
            ("sha256", text(&announced.sha256)),
            ("complete_until", number(complete_until)),
            (TTL, number(complete_until.saturating_add(MARGIN))),
        ];
        let mut retry = Retry::default();
        loop {
            match self
                .transact(vec![Write::put(row_key(&begun.id), row.clone()).only_if_absent()])
                .await?
            {
                Written::Done => return Ok(begun),
                Written::Refused(_) => {
                    return Err(StoreError::busy("an upload of that name is there already"));
                }
                Written::Conflict => retry.again().await?,
            }
        }
    }

    pub(crate) async fn pending_upload(
        &self,
        principal: &Principal,
        address: &ModuleAddress,
        version: &Version,
        id: &UploadId,
        now: i64,
    ) -> Result<Option<PendingUpload>, StoreError> {
        let Some(row) = self.row(&row_key(id)).await? else { return Ok(None) };
        let for_this = [
            ("principal", principal.to_string()),
            ("address", address.to_string()),
            ("version", version.to_string()),
        ];
        let complete_until = read_number(&row, "complete_until").ok_or_else(unreadable)?;
        // By its own time and not by whether the table has cleared it away, which takes days.
        if now >= complete_until
            || for_this.iter().any(|(name, value)| read_text(&row, name) != Some(value))
        {
            return Ok(None);
        }
        let announced = read_announced(&row).ok_or_else(unreadable)?;
        Ok(Some(PendingUpload { id: id.clone(), announced, object_version: None }))
    }

    pub(crate) async fn fetch_upload(
        &self,
        pending: &mut PendingUpload,
        into: &mut ArchiveUpload,
    ) -> Result<FetchedUpload, StoreError> {
        // The client's own limit ends when an answer begins.
        let fetched = tokio::time::timeout(
            self.deadlines.of_object(pending.announced.bytes),
            self.fetch(pending, into),
        );
        fetched
            .await
            .map_err(|error| StoreError::unavailable("an upload was not fetched in time", error))?
    }

    async fn fetch(
        &self,
        pending: &mut PendingUpload,
        into: &mut ArchiveUpload,
    ) -> Result<FetchedUpload, StoreError> {
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
            StoreError::unavailable("an upload cannot be fetched", error)
        };
        let asked = self
            .s3
            .get_object()
            .bucket(&self.place.bucket)
            .key(object_key(&pending.id))
            .customize();
        let asked = asked.config_override(
            aws_sdk_s3::config::Builder::new()
                .timeout_config(self.patience(pending.announced.bytes)),
        );
        let mut answer = match Box::pin(asked.send()).await {
            Ok(answer) => answer,
            Err(error) if is_absent(&error) => return Ok(FetchedUpload::Nothing),
            Err(error) => return Err(failed(error.into())),
        };
        pending.object_version = answer.version_id.filter(|id| id != "null");
        // Whoever may write to the bucket may have put something endless there.
        while into.bytes() <= pending.announced.bytes {
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
        Ok(FetchedUpload::All)
    }

    pub(crate) async fn end_upload(&self, pending: PendingUpload) {
        // The very version: a delete that names none leaves a mark of deletion behind, whether something was there or not.
        if let Some(object_version) = &pending.object_version {
            let object =
                self.s3.delete_object().bucket(&self.place.bucket).key(object_key(&pending.id));
            if let Err(error) = Box::pin(object.version_id(object_version).send()).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "an upload that has ended was left in the bucket"
                );
            }
        }
        if let Err(error) = self.transact(vec![Write::delete(row_key(&pending.id))]).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the row of an upload that has ended was left in the table"
            );
        }
    }

    /// The address, signed with all that is to be sent there.
    async fn presigned_put(
        &self,
        id: UploadId,
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
            .s3
            .put_object()
            .bucket(&self.place.bucket)
            .key(object_key(&id))
            // Once: each time again would be another version of the object, of as many bytes.
            .if_none_match("*")
            .content_type(announced.format.content_type())
            .content_length(announced.bytes.try_into().unwrap_or(i64::MAX))
            .checksum_sha256(checksum(&announced.sha256)?);
        if let Some(kms_key) = &self.place.bucket_kms_key {
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
            id,
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

fn row_key(id: &UploadId) -> Key {
    Key::new(format!("upload {}", id.as_str()), "upload")
}

fn object_key(id: &UploadId) -> String {
    format!("{UPLOADS}{}", id.as_str())
}

fn read_announced(row: &Row) -> Option<AnnouncedArchive> {
    Some(AnnouncedArchive {
        format: Format::from_extension(read_text(row, "format")?)?,
        bytes: read_number(row, "bytes")?.try_into().ok()?,
        sha256: read_text(row, "sha256")?.to_owned(),
    })
}

fn unreadable() -> StoreError {
    StoreError::corrupt("an upload in the store cannot be read")
}
