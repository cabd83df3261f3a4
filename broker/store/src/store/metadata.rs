//! Reads the metadata of archives. The store does not look into it.

use stile_core::grants::{Download, PackageAccess};

use super::Store;
use crate::StoreError;

impl Store {
    /// Returns the metadata of the archive with this digest. `None` if there is none, because an
    /// earlier release published the archive.
    pub async fn metadata(
        &self,
        _: &PackageAccess<Download>,
        sha256: &str,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.blobs.metadata(sha256).await
    }
}
