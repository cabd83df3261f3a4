//! Reads published packages: the versions of a module and the latest one, the download URL of a
//! version, and lists.

use bytes::Bytes;
use serde::Deserialize;
use stile_protocol::names::{ModuleAddress, Namespace, Permission, ProviderAddress};

use super::authorize::Bearer;
use super::broker::Broker;
use crate::tokens::KeyError;
use stile_core::audit::Event;
use stile_core::grants::{Download, PackageAccess};
use stile_core::package::provider::KeyId;
use stile_core::package::source::SourceRefusal;
use stile_core::package::{SignedUrl, Step, Summary, Version};
use stile_store::{Located, Location, ObjectChange, StoreError, VersionDetails};

/// The reason why a package cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The package or version does not exist.
    #[error("there is no such package")]
    Absent,
    /// A publisher took the version back.
    #[error("the version is unpublished")]
    Unpublished {
        /// The version, with the address of its package.
        version: String,
        /// Who took it back, when and why.
        step: Step,
    },
    /// The namespace does not allow the source of the version any more.
    #[error("{refusal}")]
    SourceRefused {
        /// Why it does not.
        refusal: SourceRefusal,
        /// The namespace.
        namespace: Namespace,
    },
    /// The namespace does not allow the object of the version any more.
    #[error("{refusal}")]
    ObjectRefused {
        /// Why it does not.
        refusal: SourceRefusal,
        /// The namespace.
        namespace: Namespace,
    },
    /// The object of the version is not what was published.
    #[error("the object of {version} changed after its publication: {change}")]
    ObjectChanged {
        /// The version, with the address of its package.
        version: String,
        /// How the object differs.
        change: ObjectChange,
    },
    /// S3 denies the registry the object of the version, or the object does not exist any more.
    #[error(
        "the registry may not read the object of {version}, or the object does not exist any more"
    )]
    ObjectDenied {
        /// The version, with the address of its package.
        version: String,
    },
    /// The namespace does not trust the key any more that signed the version of a provider.
    #[error("{version} is signed by key {key_id}, which its publisher no longer trusts")]
    CompromisedKey {
        /// The version, with the address of its package.
        version: String,
        /// The key.
        key_id: KeyId,
    },
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

/// One page of a list of packages of one kind.
#[derive(Debug)]
pub struct Page<A> {
    /// The packages of this page.
    pub packages: Vec<Summary<A>>,
    /// Whether another page follows.
    pub more: bool,
}

impl<A> Page<A> {
    /// Creates a page of at most `limit` packages, of which one more was read.
    fn of(mut packages: Vec<Summary<A>>, limit: usize) -> Self {
        let more = packages.len() > limit;
        packages.truncate(limit);
        Self { packages, more }
    }
}

/// Returns the versions document of a package, as JSON.
pub async fn versions(
    broker: &Broker,
    access: &PackageAccess<Download>,
) -> Result<Bytes, CatalogueError> {
    broker.store.versions_document(access).await?.ok_or(CatalogueError::Absent)
}

/// Returns the latest version of a package: the highest release, or the highest pre-release if there
/// is no release.
pub async fn latest(
    broker: &Broker,
    access: &PackageAccess<Download>,
    event: &mut Event,
) -> Result<Version, CatalogueError> {
    let latest = latest_of(listed(broker, access).await?).ok_or(CatalogueError::Absent)?;
    event.package(access.address(), Some(&latest));
    Ok(latest)
}

/// Returns the listed versions of a package, in order.
pub async fn listed(
    broker: &Broker,
    access: &PackageAccess<Download>,
) -> Result<Vec<Version>, CatalogueError> {
    let document = versions(broker, access).await?;
    let document: VersionsDocument = serde_json::from_slice(&document).map_err(|error| {
        let message = format!("the versions document of `{}` is malformed", access.address());
        StoreError::corrupt(message).caused_by(error)
    })?;
    Ok(document.versions())
}

/// The versions document of either kind of package, as far as [`listed`] reads it.
#[derive(Deserialize)]
#[serde(untagged)]
enum VersionsDocument {
    Module { modules: Vec<ListedModule> },
    Provider { versions: Vec<ListedVersion> },
}

#[derive(Deserialize)]
struct ListedModule {
    versions: Vec<ListedVersion>,
}

#[derive(Deserialize)]
struct ListedVersion {
    version: String,
}

impl VersionsDocument {
    fn versions(self) -> Vec<Version> {
        let listed = match self {
            Self::Module { modules } => {
                modules.into_iter().flat_map(|module| module.versions).collect()
            }
            Self::Provider { versions } => versions,
        };
        listed.iter().filter_map(|listed| Version::parse(&listed.version).ok()).collect()
    }
}

fn latest_of(listed: Vec<Version>) -> Option<Version> {
    // A release is higher than every pre-release here, whatever its number.
    listed.into_iter().max_by_key(|version| (!version.is_prerelease(), version.clone()))
}

/// The place of a version.
#[derive(Debug)]
pub struct DownloadUrl {
    /// The signed URL of its archive, or its source.
    pub url: String,
    /// Whether the version is deprecated.
    pub is_deprecated: bool,
}

/// Returns the signed URL of a version's archive, or its source.
pub async fn download(
    broker: &Broker,
    access: &PackageAccess<Download>,
    version: &Version,
    event: &mut Event,
) -> Result<DownloadUrl, CatalogueError> {
    event.package(access.address(), Some(version));
    let now = broker.clock.now();
    let found = broker.store.location(access, version, now, broker.link_ttl).await?;
    let (location, is_deprecated) = match found.ok_or(CatalogueError::Absent)? {
        Located::Unpublished(step) => {
            let version = format!("`{}` {version}", access.address());
            return Err(CatalogueError::Unpublished { version, step });
        }
        Located::SourceRefused { source, refusal } => {
            event.source(&source);
            let namespace = access.address().namespace().clone();
            return Err(CatalogueError::SourceRefused { refusal, namespace });
        }
        Located::ObjectRefused { object, refusal } => {
            event.object(&object);
            let namespace = access.address().namespace().clone();
            return Err(CatalogueError::ObjectRefused { refusal, namespace });
        }
        // The store raised the alarm, which has the answer of S3.
        Located::ObjectChanged { object, change: ObjectChange::Denied } => {
            event.object(&object);
            let version = format!("`{}` {version}", access.address());
            return Err(CatalogueError::ObjectDenied { version });
        }
        Located::ObjectChanged { object, change } => {
            event.object(&object);
            tracing::error!(
                alarm = "object_changed",
                package = %access.address(),
                %version,
                object = object.as_str(),
                "the object of a published version is not what was published: {change}"
            );
            let version = format!("`{}` {version}", access.address());
            return Err(CatalogueError::ObjectChanged { version, change });
        }
        Located::At { location, is_deprecated } => (location, is_deprecated),
    };
    match &location {
        Location::Source(source) => event.source(source),
        Location::Object { object, .. } => event.object(object),
        Location::Presigned(_) | Location::Local(_) | Location::ProviderText(_) => {}
    }
    let url = url_of(broker, location, now).await?;
    Ok(DownloadUrl { url, is_deprecated })
}

/// Returns the address of a location. The broker signs one of its own. It is a whole URL then, because
/// some clients cannot resolve a path.
pub(super) async fn url_of(
    broker: &Broker,
    location: Location,
    now: i64,
) -> Result<String, CatalogueError> {
    let keys = async {
        let purpose = SignedUrl::purpose(&broker.audience);
        broker.tokens.derived(&purpose, &broker.store, now).await
    };
    let path = match location {
        Location::Source(source) => return Ok(source.to_string()),
        Location::Object { url, .. } | Location::Presigned(url) => return Ok(url),
        Location::Local(url) => url.to_location(&keys.await?),
        Location::ProviderText(url) => url.to_location(&keys.await?),
    };
    Ok(format!("{}{}", broker.origin, path.ok_or(CatalogueError::Sign)?))
}

/// Returns everything that the store records of a version, also of an unpublished one.
pub async fn details(
    broker: &Broker,
    access: &PackageAccess<Download>,
    version: &Version,
    event: &mut Event,
) -> Result<VersionDetails, CatalogueError> {
    event.package(access.address(), Some(version));
    broker.store.version_details(access, version).await?.ok_or(CatalogueError::Absent)
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
) -> Result<Page<ModuleAddress>, CatalogueError> {
    let permitted = bearer.permitted_namespaces(Permission::Download);
    // Read one module more than `limit`, to find out whether another page follows.
    let modules = broker.store.modules(&permitted, namespace, offset, limit + 1).await?;
    Ok(Page::of(modules, limit))
}

/// Lists the providers that the bearer may read, as [`list`] does.
pub async fn list_providers(
    broker: &Broker,
    bearer: &Bearer,
    namespace: Option<&Namespace>,
    offset: usize,
    limit: usize,
) -> Result<Page<ProviderAddress>, CatalogueError> {
    let permitted = bearer.permitted_namespaces(Permission::Download);
    let providers = broker.store.providers(&permitted, namespace, offset, limit + 1).await?;
    Ok(Page::of(providers, limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_version_is_the_highest_release_or_else_the_highest_pre_release() {
        for (listed, expected) in [
            (vec![], None),
            (vec!["x", "1.0"], None),
            (vec!["0.1.0-rc.2", "0.1.0-rc.10", "0.1.0-beta.11"], Some("0.1.0-rc.10")),
            (vec!["1.2.0", "1.10.0", "1.9.0"], Some("1.10.0")),
            (vec!["1.0.0", "2.0.0-rc.1"], Some("1.0.0")),
            (vec!["0.0.1", "0.0.1-rc.1", "9.0.0-a", "1.0.0-b"], Some("0.0.1")),
        ] {
            let versions: Vec<_> = listed
                .iter()
                .map(|text| serde_json::json!({ "version": text, "more": 1 }))
                .collect();
            for document in [
                serde_json::json!({ "modules": [{ "versions": versions }], "more": 1 }),
                serde_json::json!({ "versions": versions, "warnings": ["x"] }),
            ] {
                let document: VersionsDocument = serde_json::from_value(document).unwrap();
                let latest = latest_of(document.versions()).map(|version| version.to_string());
                assert_eq!(latest.as_deref(), expected, "{listed:?}");
            }
        }
    }
}
