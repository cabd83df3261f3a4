//! The rules of direct uploads: who began one, for which archive, and until when the client can
//! complete it.

use stile_core::package::{PackageAddress, UploadId, Version};
use stile_core::principal::Principal;

use stile_protocol::names::Namespace;

use super::Records;
use super::model::{AnnouncedUpload, OpenUpload, UploadRecord};
use super::mutation::{Mutation, Outcome};
use super::retention::MARGIN;
use super::waiting_file::WaitingBytes;
use crate::retry::Retry;
use crate::{QuotaExceeded, StoreError};

/// Time in which a client can complete an upload after it has begun, in seconds. The slowest upload
/// has arrived by then.
pub(crate) const COMPLETE_WITHIN: i64 = 3600;

/// Maximum number of open uploads to one namespace. Each can leave an archive in the bucket until the
/// bucket deletes it.
const OPEN_UPLOADS: usize = 64;

/// Maximum number of open uploads of one principal to one namespace, so that one publisher cannot
/// block the others.
const OPEN_UPLOADS_OF_ONE: usize = 48;

/// The result of recording an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UploadAdded {
    /// The store recorded it.
    Done,
    /// The archive would exceed a limit of the namespace.
    OverQuota(QuotaExceeded),
    /// The principal or the namespace has the maximum number of open uploads.
    TooManyOpen,
}

impl Records {
    /// Records that a client began an upload, unless too many are open.
    pub(crate) async fn add_upload(
        &self,
        id: UploadId,
        principal: &Principal,
        address: &PackageAddress,
        version: &Version,
        announced: AnnouncedUpload,
        now: i64,
    ) -> Result<UploadAdded, StoreError> {
        let namespace = address.namespace();
        // A version of a provider can exist, and its completion checks the number of versions.
        let is_new = matches!(announced, AnnouncedUpload::Archive(_));
        let bytes = announced.bytes();
        let upload = UploadRecord {
            id,
            principal: principal.to_string(),
            address: address.to_string(),
            version: version.to_string(),
            announced,
            complete_until: now.saturating_add(COMPLETE_WITHIN),
        };
        let waiting = match &upload.announced {
            AnnouncedUpload::Release(manifest) => {
                let is_announced = |file: &WaitingBytes| {
                    file.address == upload.address
                        && file.version == upload.version
                        && manifest.sums.files().get(&file.key.platform) == Some(&file.key.sha256)
                };
                self.waiting_bytes(namespace, is_announced, now).await?
            }
            AnnouncedUpload::Archive(_) => 0,
        };
        let mut retry = Retry::default();
        loop {
            let (mut open, quota) = self.open_uploads(namespace).await?;
            if let Some(exceeded) =
                quota.and_then(|quota| quota.with(waiting).exceeded(bytes, is_new))
            {
                return Ok(UploadAdded::OverQuota(exceeded));
            }
            open.uploads.retain(|upload| now < upload.complete_until);
            let by_this = |open: &&OpenUpload| open.principal == upload.principal;
            if open.uploads.len() >= OPEN_UPLOADS
                || open.uploads.iter().filter(by_this).count() >= OPEN_UPLOADS_OF_ONE
            {
                return Ok(UploadAdded::TooManyOpen);
            }
            let add = Mutation::AddUpload {
                upload: upload.clone(),
                namespace: namespace.clone(),
                before: open.revision,
                after: open,
                forget_before: now.saturating_sub(MARGIN),
            };
            match self.commit(vec![add]).await? {
                Outcome::Done => return Ok(UploadAdded::Done),
                // Another upload to the namespace began or ended.
                _ => retry.wait().await?,
            }
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
    ) -> Result<Option<UploadRecord>, StoreError> {
        let Some(upload) = self.upload(id).await? else { return Ok(None) };
        let for_this = upload.principal == principal.as_str()
            && upload.address == address.to_string()
            && upload.version == version.to_string();
        // The time in the record decides. The backend can take days to delete an expired record.
        if now >= upload.complete_until || !for_this {
            return Ok(None);
        }
        Ok(Some(upload))
    }

    /// Deletes the record of an upload that has ended. If that fails, the backend deletes it after
    /// its time.
    pub(crate) async fn end_upload(&self, id: UploadId, namespace: &Namespace) {
        let delete = Mutation::DeleteUpload { id, namespace: namespace.clone() };
        if let Err(error) = self.commit_with_retries(vec![delete]).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot delete the record of an ended upload; the store deletes it later"
            );
        }
    }
}
