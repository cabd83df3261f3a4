//! Reads an object of another bucket, and compares it with what was published.

use std::fmt;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::StorageClass;
use bytes::Bytes;
use stile_core::package::source::ObjectAddress;
use tokio::time::Instant;

use super::SourceBuckets;
use super::reason::{Reason, genuine_status};
use crate::records::stored_object::{ObjectState, StoredObject};
use crate::{ObjectChange, ObjectRefusal, PermittedObject, StoreError, StoreErrorKind};

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

/// The object that the store has of a version. Only the store creates it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedObject(pub(crate) StoredObject);

impl OpenedObject {
    /// Returns the length of the object in bytes.
    pub const fn bytes(&self) -> u64 {
        self.read.bytes
    }

    /// Returns whether S3 sends exactly what the store has of a version, so that its bytes are known.
    pub fn is(&self, recorded: &RecordedObject) -> bool {
        let (ReadObject { address, bytes, state }, RecordedObject(stored)) = (&self.read, recorded);
        (address, bytes, state) == (&stored.address, &stored.bytes, &stored.state)
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
            Err(error) => {
                let reason = Reason::of(&error);
                let Reason::Refused(refusal) = reason else {
                    return Err(reason.failure(address, region, error));
                };
                // No alarm: a publisher with a mistyped key must not call an operator.
                tracing::warn!(
                    object = address.as_str(),
                    error = &error as &dyn std::error::Error,
                    "S3 does not give the registry an object that a publisher named"
                );
                return Ok(Err(refusal));
            }
        };
        if answer.content_encoding.as_deref().is_some_and(is_encoded) {
            return Ok(Err(ObjectRefusal::Encoded));
        }
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
        if let ObjectState::Version(version) = &state
            && let Some(refusal) = self.version_refusal(object, version).await?
        {
            return Ok(Err(refusal));
        }
        let until = Instant::now() + self.whole(bytes);
        let read = ReadObject { address: address.clone(), bytes, state };
        Ok(Ok(OpenedObject { read, body: answer.body, until }))
    }

    /// Returns why S3 does not give this version of the object by its id, as clients read it. That is
    /// another right than reading the newest version.
    async fn version_refusal(
        &self,
        object: &PermittedObject,
        version: &str,
    ) -> Result<Option<ObjectRefusal>, StoreError> {
        let PermittedObject { address, region } = object;
        let (client, _) = self.client(region).await?;
        let asked = client.head_object().bucket(address.bucket()).key(address.key());
        match Box::pin(asked.version_id(version).send()).await {
            Ok(_) => Ok(None),
            // The answer to a HEAD request has no body, and so no code.
            Err(error) => match genuine_status(&error) {
                Some(403) => {
                    tracing::warn!(
                        object = address.as_str(),
                        error = &error as &dyn std::error::Error,
                        "S3 denies the registry a read of a version of an object"
                    );
                    Ok(Some(ObjectRefusal::VersionDenied))
                }
                Some(404) => Ok(Some(ObjectRefusal::Missing)),
                _ => Err(Reason::of(&error).failure(address, region, error)),
            },
        }
    }

    /// Returns how an object without a version differs from what was published, or that S3 does not
    /// show it. `None` if clients can get it.
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
                if answer.e_tag.as_deref() != Some(etag) || bytes != Some(object.bytes) {
                    return Ok(Some(ObjectChange::Different));
                }
                Ok(is_archived(&answer).then_some(ObjectChange::Archived))
            }
            Err(error) => match genuine_status(&error) {
                // The answer to a HEAD request has no code, and a read of one byte has.
                Some(400..500) => self.unreadable(region, address, &client).await.map(Some),
                _ => Err(Reason::of(&error).failure(address, region, error)),
            },
        }
    }

    /// Returns why S3 does not show an object, by reading its first byte.
    async fn unreadable(
        &self,
        region: &'static str,
        address: &ObjectAddress,
        client: &Client,
    ) -> Result<ObjectChange, StoreError> {
        let asked = client.get_object().bucket(address.bucket()).key(address.key());
        let Err(error) = Box::pin(asked.range("bytes=0-0").send()).await else {
            return Err(StoreError::new(
                StoreErrorKind::Unavailable,
                format!("S3 sends object `{address}`, and does not describe it"),
            ));
        };
        match Reason::of(&error) {
            Reason::Refused(ObjectRefusal::Missing | ObjectRefusal::NoBucket) => {
                Ok(ObjectChange::Gone)
            }
            Reason::Refused(ObjectRefusal::Archived) => Ok(ObjectChange::Archived),
            // The published object needed no key of a client, and had no content encoding.
            Reason::Refused(ObjectRefusal::CustomerKey | ObjectRefusal::Encoded) => {
                Ok(ObjectChange::Different)
            }
            Reason::Refused(ObjectRefusal::Denied | ObjectRefusal::VersionDenied) => {
                tracing::error!(
                    alarm = "object_denied",
                    object = address.as_str(),
                    error = &error as &dyn std::error::Error,
                    "S3 denies the registry the object of a version, or the object does not exist"
                );
                Ok(ObjectChange::Denied)
            }
            reason => Err(reason.failure(address, region, error)),
        }
    }

    /// Returns the time limit for the transfer of an object of this size.
    fn whole(&self, bytes: u64) -> Duration {
        self.0.deadlines.of_object(bytes)
    }
}

/// Returns whether a client would decode the object. `aws-chunked` is how it was uploaded.
fn is_encoded(content_encoding: &str) -> bool {
    let mut codings = content_encoding.split(',').map(str::trim);
    !codings.all(|coding| matches!(coding, "" | "identity" | "aws-chunked"))
}

/// Returns whether S3 must restore the object before it sends it.
fn is_archived(answer: &HeadObjectOutput) -> bool {
    let is_cold = match &answer.storage_class {
        Some(StorageClass::Glacier | StorageClass::DeepArchive) => true,
        // A part of Intelligent-Tiering.
        _ => answer.archive_status.is_some(),
    };
    let restored = r#"ongoing-request="false""#;
    is_cold && !answer.restore.as_deref().is_some_and(|restore| restore.contains(restored))
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::types::ArchiveStatus;

    use super::*;

    #[test]
    fn an_object_is_encoded_if_a_client_would_decode_it() {
        for encoded in ["gzip", "GZIP", "br", "aws-chunked,gzip", "aws-chunked, zstd", "x"] {
            assert!(is_encoded(encoded), "{encoded}");
        }
        for plain in ["", "identity", "aws-chunked", "aws-chunked,"] {
            assert!(!is_encoded(plain), "{plain}");
        }
    }

    #[test]
    fn an_object_is_archived_until_s3_has_restored_it() {
        let head = |class: Option<StorageClass>, tier: Option<ArchiveStatus>, restore: &str| {
            let head = HeadObjectOutput::builder().set_storage_class(class);
            let restore = (!restore.is_empty()).then(|| restore.to_owned());
            is_archived(&head.set_archive_status(tier).set_restore(restore).build())
        };
        let under_way = r#"ongoing-request="true""#;
        let restored = r#"ongoing-request="false", expiry-date="Fri, 21 Dec 2029 00:00:00 GMT""#;
        for class in [StorageClass::Glacier, StorageClass::DeepArchive] {
            assert!(head(Some(class.clone()), None, ""));
            assert!(head(Some(class.clone()), None, under_way));
            assert!(!head(Some(class), None, restored));
        }
        let tier = Some(ArchiveStatus::ArchiveAccess);
        assert!(head(Some(StorageClass::IntelligentTiering), tier, ""));
        for class in [StorageClass::GlacierIr, StorageClass::IntelligentTiering] {
            assert!(!head(Some(class), None, ""));
        }
        assert!(!head(None, None, ""));
    }
}
