//! Creates signed URLs of objects in the buckets of others, without a call.

use super::super::s3::presigned_get;
use super::SourceBuckets;
use crate::StoreError;
use crate::records::stored_object::StoredObject;

impl SourceBuckets {
    /// Returns a signed URL for the object, and for the version of it that was published, if the
    /// bucket has versions.
    ///
    /// The key can have any end, so the URL also names the format.
    pub(crate) async fn presigned(
        &self,
        region: &'static str,
        object: &StoredObject,
        now: i64,
        ttl: i64,
    ) -> Result<String, StoreError> {
        let (client, signer) = self.client(region).await?;
        let get = client.get_object().bucket(object.address.bucket()).key(object.address.key());
        let get = get.set_version_id(object.state.version().map(str::to_owned));
        // Everyone who can write to a bucket without versions can give the object a content encoding.
        // Clients would then decode it before they compare the checksum.
        let get = get.response_content_encoding("identity");
        let url = presigned_get(get, signer, now, ttl).await?;
        // The client removes these parameters before it sends the request, so the signature does not
        // cover them. Without a version, it is the checksum that detects a later change.
        let (format, sha256) = (object.format.extension(), &object.sha256);
        Ok(format!("{url}&archive={format}&checksum=sha256:{sha256}"))
    }
}
