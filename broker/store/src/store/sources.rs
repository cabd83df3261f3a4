//! Publishes versions with a source, if the namespace allows it.

use stile_core::audit::Kept;
use stile_core::grants::{PackageAccess, Upload as UploadRight};
use stile_core::package::source::ModuleSource;
use stile_core::package::{Claimed, Life, SearchText, Version};
use stile_core::version_event::{Consists, Happening};

use super::Store;
use super::outbox::Reported;
use crate::records::compare;
use crate::records::model::{Content, VersionRecord};
use crate::{Destination, Published, SourcePublished, StoreError};

impl Store {
    /// Publishes a version with a source, if the namespace allows it. In the commit that adds the
    /// version, it keeps an event for each listener.
    ///
    /// `claimed` is what the publisher's environment claims about the version.
    pub async fn publish_source(
        &self,
        access: &PackageAccess<UploadRight>,
        version: &Version,
        source: &ModuleSource,
        claimed: Option<Claimed>,
        listeners: &[Destination],
        kept: &Kept,
    ) -> Result<SourcePublished, StoreError> {
        let address = access.address();
        let (existing, allowed) = self.records.version_and_sources(address, version).await?;
        if let Err(refusal) = allowed.permit(source) {
            return Ok(SourcePublished::Refused(refusal));
        }
        let content = Content::Source(source.clone());
        if let Some(existing) = existing {
            return Ok(SourcePublished::Answered(compare(&existing, &content.sha256())));
        }
        let sha256 = content.sha256();
        let Some(guard) = self.guard_without_archive(address, version, &sha256, kept.at()).await?
        else {
            return Ok(SourcePublished::Answered(Published::InProgress));
        };
        let published = self.list_source(access, version, source, claimed, listeners, kept).await;
        guard.end_after(&published).await;
        published.map(SourcePublished::Answered)
    }

    async fn list_source(
        &self,
        access: &PackageAccess<UploadRight>,
        version: &Version,
        source: &ModuleSource,
        claimed: Option<Claimed>,
        listeners: &[Destination],
        kept: &Kept,
    ) -> Result<Published, StoreError> {
        let (happening, now) = (Happening::Published, kept.at());
        let reported = Reported { happening, access, version, reason: None, at: now };
        let event =
            self.keep_event(&reported, Consists::Source(source.as_str()), listeners).await?;
        let record = VersionRecord {
            content: Content::Source(source.clone()),
            bytes: 0,
            published_by: access.principal().to_string(),
            published_at: now,
            token_id: Some(access.access().token_id().as_str().to_owned()),
            claimed,
            life: Life::default(),
            search: SearchText::default(),
        };
        self.records.add_version(access.address(), version, record, event, kept).await
    }
}
