//! Reads an object of another bucket, and compares it with what was published.

use std::fmt;
use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use stile_core::package::source::ObjectAddress;
use tokio::time::Instant;

use super::SourceBuckets;
use crate::aws::is_from_aws;
use crate::records::stored_object::{ObjectState, StoredObject};
use crate::{ObjectChange, ObjectRefusal, PermittedObject, StoreError};

/// How long the credentials of a call must be valid, in seconds.
const CALL: i64 = 60;

/// An object that S3 began to send.
pub struct OpenedObject {
    read: ReadObject,
    body: ByteStream,
    /// When the whole object must have arrived.
    until: Instant,
}

impl fmt::Debug for OpenedObject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("OpenedObject").field("read", &self.read).finish_non_exhaustive()
    }
}

/// An object as S3 sent it. Only [`OpenedObject::finish`] creates it.
#[derive(Debug, Clone)]
pub struct ReadObject {
    pub(crate) address: ObjectAddress,
    pub(crate) bytes: u64,
    pub(crate) state: ObjectState,
}

impl OpenedObject {
    /// Returns the length of the object in bytes.
    pub const fn bytes(&self) -> u64 {
        self.read.bytes
    }

    /// Returns the next bytes. `None` at the end of the object.
    ///
    /// # Errors
    ///
    /// [`StoreError`], if the connection breaks off, or if the object takes too long.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        let failed = || format!("cannot read object `{}`", self.read.address);
        let next = tokio::time::timeout_at(self.until, self.body.try_next()).await;
        let next = next.map_err(|error| StoreError::unavailable(failed(), error))?;
        next.map_err(|error| StoreError::unavailable(failed(), error))
    }

    /// Ends the reading, after the last bytes.
    pub fn finish(self) -> ReadObject {
        self.read
    }
}

impl SourceBuckets {
    /// Begins to read the newest version of an object.
    pub(crate) async fn open(
        &self,
        object: &PermittedObject,
        now: i64,
    ) -> Result<Result<OpenedObject, ObjectRefusal>, StoreError> {
        let PermittedObject { address, region } = object;
        let (client, signer) = self.client(region).await?;
        // Missing credentials are another error than an S3 that is down.
        signer.credentials(now, CALL).await?;
        let asked = client.get_object().bucket(address.bucket()).key(address.key());
        let answer = match Box::pin(asked.send()).await {
            Ok(answer) => answer,
            Err(error) => return refusal(object, error).map(Err),
        };
        let lacks = |what| {
            let message = format!("S3 sends object `{address}` without its {what}");
            StoreError::misconfigured(message)
        };
        let bytes = answer.content_length.and_then(|bytes| bytes.try_into().ok());
        let bytes: u64 = bytes.ok_or_else(|| lacks("length"))?;
        let state = match answer.version_id.filter(|id| id != ObjectState::UNVERSIONED) {
            Some(version) => ObjectState::Version(version),
            None => ObjectState::Entity(answer.e_tag.ok_or_else(|| lacks("ETag"))?),
        };
        let until = Instant::now() + self.whole(bytes);
        let read = ReadObject { address: address.clone(), bytes, state };
        Ok(Ok(OpenedObject { read, body: answer.body, until }))
    }

    /// Returns how an object without a version differs from what was published. `None` if it does
    /// not.
    pub(crate) async fn change(
        &self,
        region: &'static str,
        object: &StoredObject,
        etag: &str,
        now: i64,
    ) -> Result<Option<ObjectChange>, StoreError> {
        let address = &object.address;
        let (client, signer) = self.client(region).await?;
        signer.credentials(now, CALL).await?;
        let asked = client.head_object().bucket(address.bucket()).key(address.key());
        match Box::pin(asked.send()).await {
            Ok(answer) => {
                let bytes = answer.content_length.and_then(|bytes| bytes.try_into().ok());
                let same = answer.e_tag.as_deref() == Some(etag) && bytes == Some(object.bytes);
                Ok((!same).then_some(ObjectChange::Different))
            }
            // The answer to a HEAD request has no body, and so no code.
            Err(error) => match genuine_status(&error) {
                Some(404) => Ok(Some(ObjectChange::Gone)),
                Some(403) => Ok(Some(ObjectChange::Denied)),
                status => Err(failure(address, region, status, error)),
            },
        }
    }

    /// Returns the time limit for the transfer of an object of this size.
    fn whole(&self, bytes: u64) -> Duration {
        self.0.deadlines.of_object(bytes)
    }
}

/// Returns why S3 does not give the object, or the error if S3 does not say that.
fn refusal(
    object: &PermittedObject,
    error: SdkError<GetObjectError>,
) -> Result<ObjectRefusal, StoreError> {
    let PermittedObject { address, region } = object;
    let status = genuine_status(&error);
    match (status, error.code()) {
        (Some(404), Some("NoSuchKey")) => Ok(ObjectRefusal::Missing),
        // To a caller that may not list the bucket, S3 denies what does not exist, and names the
        // action that would show it (Amazon S3, "Troubleshoot access denied errors").
        (Some(403), Some("AccessDenied"))
            if error.message().is_some_and(|text| text.contains("s3:ListBucket")) =>
        {
            Ok(ObjectRefusal::Missing)
        }
        (Some(403), Some("AccessDenied")) => {
            tracing::error!(
                alarm = "object_denied",
                object = address.as_str(),
                error = &error as &dyn std::error::Error,
                "S3 denies the registry an object that a namespace allows, or the object does not exist"
            );
            Ok(ObjectRefusal::Denied)
        }
        _ => Err(failure(address, region, status, error)),
    }
}

/// Returns the status of an error that S3 itself sent.
fn genuine_status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    let response = error.raw_response().filter(|response| is_from_aws(response));
    response.map(|response| response.status().as_u16())
}

/// Returns the error for an answer that says nothing about the object. The same request succeeds
/// later only if S3 was not available.
fn failure<E>(
    address: &ObjectAddress,
    region: &str,
    status: Option<u16>,
    error: SdkError<E, HttpResponse>,
) -> StoreError
where
    E: std::error::Error + Send + Sync + 'static,
{
    match status {
        Some(301 | 307 | 400 | 404) => StoreError::misconfigured(format!(
            "cannot read object `{address}`; hint: check that its bucket is in region `{region}`, and correct it with `stile-admin namespace set NAMESPACE --source s3://BUCKET/PREFIX --region REGION`"
        ))
        .caused_by(error),
        Some(403) => {
            let message = format!("S3 does not accept the credentials for object `{address}`");
            StoreError::misconfigured(message).caused_by(error)
        }
        _ => StoreError::unavailable(format!("cannot read object `{address}`"), error),
    }
}
