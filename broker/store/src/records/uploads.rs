//! The rules of direct uploads: who began one, for which archive, and until when the client can
//! complete it.

use stile_core::package::{AnnouncedArchive, PackageAddress, UploadId, Version};
use stile_core::principal::Principal;

use super::Records;
use super::model::UploadRecord;
use super::mutation::{Mutation, Outcome};
use super::retention::MARGIN;
use crate::{PendingUpload, StoreError};

/// Time in which a client can complete an upload after it has begun, in seconds. The slowest upload
/// has arrived by then.
const COMPLETE_WITHIN: i64 = 3600;

impl Records {
    /// Records that a client began an upload.
    pub(crate) async fn add_upload(
        &self,
        id: UploadId,
        principal: &Principal,
        address: &PackageAddress,
        version: &Version,
        announced: &AnnouncedArchive,
        now: i64,
    ) -> Result<(), StoreError> {
        let upload = UploadRecord {
            id,
            principal: principal.to_string(),
            address: address.to_string(),
            version: version.to_string(),
            announced: announced.clone(),
            complete_until: now.saturating_add(COMPLETE_WITHIN),
        };
        let forget_before = now.saturating_sub(MARGIN);
        match self.commit_with_retries(vec![Mutation::AddUpload { upload, forget_before }]).await? {
            Outcome::Done => Ok(()),
            _ => Err(StoreError::busy("an upload with this id exists already")),
        }
    }

    /// Returns an upload that this principal began for this version and that has not ended. `None`
    /// for every other id.
    pub(crate) async fn pending_upload(
        &self,
        principal: &Principal,
        address: &PackageAddress,
        version: &Version,
        id: &UploadId,
        now: i64,
    ) -> Result<Option<PendingUpload>, StoreError> {
        let Some(upload) = self.upload(id).await? else { return Ok(None) };
        let for_this = upload.principal == principal.as_str()
            && upload.address == address.to_string()
            && upload.version == version.to_string();
        // The time in the record decides. The backend can take days to delete an expired record.
        if now >= upload.complete_until || !for_this {
            return Ok(None);
        }
        let UploadRecord { id, announced, .. } = upload;
        Ok(Some(PendingUpload { id, announced, object_version: None }))
    }

    /// Deletes the record of an upload that has ended. If that fails, the backend deletes it after
    /// its time.
    pub(crate) async fn end_upload(&self, id: UploadId) {
        if let Err(error) = self.commit(vec![Mutation::DeleteUpload(id)]).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot delete the record of an ended upload; the store deletes it later"
            );
        }
    }
}
