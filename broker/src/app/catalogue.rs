//! Reads published packages: the versions of a module, the download URL of a version, and lists.

use bytes::Bytes;
use stile_protocol::names::{Namespace, Permission};

use super::authorize::Bearer;
use super::broker::Broker;
use crate::tokens::KeyError;
use stile_core::audit::Event;
use stile_core::grants::{Download, PackageAccess};
use stile_core::package::{ModuleSummary, SignedUrl, Version};
use stile_store::{Location, StoreError};

/// The reason why a package cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The package or version does not exist.
    #[error("there is no such package")]
    Absent,
    /// The store is down.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker has no key to sign the URL.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The broker cannot sign the URL.
    #[error("the registry cannot sign the URL of the archive")]
    Sign,
}

/// One page of a list of modules.
#[derive(Debug)]
pub struct ModulePage {
    /// The modules of this page.
    pub modules: Vec<ModuleSummary>,
    /// Whether another page follows.
    pub more: bool,
}

/// Returns the versions document of a module, as JSON.
pub async fn versions(
    broker: &Broker,
    access: &PackageAccess<Download>,
) -> Result<Bytes, CatalogueError> {
    broker.store.versions_document(access).await?.ok_or(CatalogueError::Absent)
}

/// Returns the signed URL of a version's archive.
pub async fn download(
    broker: &Broker,
    access: &PackageAccess<Download>,
    version: &Version,
    event: &mut Event,
) -> Result<String, CatalogueError> {
    event.package(access.address(), Some(version));
    let now = broker.clock.now();
    let found = broker.store.location(access, version, now, broker.link_ttl).await?;
    match found.ok_or(CatalogueError::Absent)? {
        Location::Presigned(url) => Ok(url),
        Location::Local(url) => {
            let purpose = SignedUrl::purpose(&broker.audience);
            let keys = broker.tokens.derived(&purpose, &broker.store, now).await?;
            url.to_location(&keys).ok_or(CatalogueError::Sign)
        }
    }
}

/// Lists the modules that the bearer may read, in one namespace or in all.
///
/// Returns at most `limit` modules, from `offset` on.
pub async fn list(
    broker: &Broker,
    bearer: &Bearer,
    namespace: Option<&Namespace>,
    offset: usize,
    limit: usize,
) -> Result<ModulePage, CatalogueError> {
    let permitted = bearer.permitted_namespaces(Permission::Download);
    // Read one module more than `limit`, to find out whether another page follows.
    let mut modules = broker.store.modules(&permitted, namespace, offset, limit + 1).await?;
    let more = modules.len() > limit;
    modules.truncate(limit);
    Ok(ModulePage { modules, more })
}
