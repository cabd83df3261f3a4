//! Metadata of archives as S3 objects, named by the digest of the archive.

use aws_sdk_s3::primitives::{ByteStream, ByteStreamError};
use aws_sdk_s3::types::ServerSideEncryption;

use super::S3;
use super::archives::{already_exists, is_absent};
use crate::StoreError;
use crate::blobs::metadata::{MAX_COMPRESSED, compress, decompress, file_name};

/// Prefix of the keys of metadata.
const PREFIX: &str = "metadata/";

impl S3 {
    /// Writes the metadata of an archive, if there is none yet.
    pub(crate) async fn put_metadata(&self, sha256: &str, json: &[u8]) -> Result<(), StoreError> {
        let key = format!("{PREFIX}{}", file_name(sha256));
        let compressed = compress(json)?;
        let bytes = compressed.len() as u64;
        let mut put = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(&key)
            .if_none_match("*")
            .content_type("application/gzip")
            .body(ByteStream::from(compressed));
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
            Ok(_) => Ok(()),
            Err(error) if already_exists(&error) => Ok(()),
            Err(error) => {
                Err(StoreError::unavailable(format!("cannot write object `{key}`"), error))
            }
        }
    }

    /// Reads the metadata of an archive. `None` if there is none.
    pub(crate) async fn metadata(&self, sha256: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let key = format!("{PREFIX}{}", file_name(sha256));
        let failed = || format!("cannot read object `{key}`");
        let asked = self.client.get_object().bucket(&self.bucket).key(&key).customize();
        let asked = asked.config_override(
            aws_sdk_s3::config::Builder::new().timeout_config(self.object_timeouts(MAX_COMPRESSED)),
        );
        let mut answer = match Box::pin(asked.send()).await {
            Ok(answer) => answer,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(StoreError::unavailable(failed(), error)),
        };
        let mut compressed = Vec::new();
        let read = async {
            while compressed.len() as u64 <= MAX_COMPRESSED {
                let Some(chunk) = answer.body.try_next().await? else { break };
                compressed.extend_from_slice(&chunk);
            }
            Ok(())
        };
        // The client's own timeout ends when the body begins.
        let read = tokio::time::timeout(self.deadlines.of_object(MAX_COMPRESSED), read)
            .await
            .map_err(|error| StoreError::unavailable(failed(), error))?;
        read.map_err(|error: ByteStreamError| StoreError::unavailable(failed(), error))?;
        decompress(&compressed, &key).map(Some)
    }
}
