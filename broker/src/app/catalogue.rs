//! Reads what is published: the versions of a module, where one is downloaded, and lists.

use bytes::Bytes;
use stile_protocol::names::{Namespace, Permission};

use super::authorize::Bearer;
use super::broker::Broker;
use crate::tokens::KeyError;
use stile_core::audit::Event;
use stile_core::grants::{Download, PackageAccess};
use stile_core::package::{ModuleSummary, SignedUrl, Version};
use stile_store::{Location, StoreError};

/// Why nothing can be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// There is no such package or version.
    #[error("there is no such package")]
    Absent,
    /// The store is down.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no key to sign a URL with.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The URL cannot be signed.
    #[error("the link cannot be signed")]
    Sign,
}

/// Modules of a list.
#[derive(Debug)]
pub struct ModulePage {
    /// The modules.
    pub modules: Vec<ModuleSummary>,
    /// Whether there are more.
    pub more: bool,
}

/// The `versions` document of a module, as JSON.
pub async fn versions(
    broker: &Broker,
    access: &PackageAccess<Download>,
) -> Result<Bytes, CatalogueError> {
    broker.store.versions_document(access).await?.ok_or(CatalogueError::Absent)
}

/// The URL at which one version is downloaded, signed.
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

/// The modules that the bearer may read, of one namespace or of all; at most `limit` of them, from `offset` on.
pub async fn list(
    broker: &Broker,
    bearer: &Bearer,
    namespace: Option<&Namespace>,
    offset: usize,
    limit: usize,
) -> Result<ModulePage, CatalogueError> {
    let reach = bearer.reach(Permission::Download);
    // One more than asked for says whether there are more.
    let mut modules = broker.store.modules(&reach, namespace, offset, limit + 1).await?;
    let more = modules.len() > limit;
    modules.truncate(limit);
    Ok(ModulePage { modules, more })
}
