//! The decoded segments of the routes of packages, by which modules and providers share handlers.

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use stile_protocol::names::NameError;
use stile_protocol::reply::ErrorCode;

use crate::app::authorize::{AccessError, Bearer};
use crate::http::error::ApiError;
use stile_core::audit::Event;
use stile_core::grants::{PackageAccess, Right};
use stile_core::package::Version;

/// The segments of a route, if they are text.
pub(super) type PathResult<P> = Result<Path<P>, PathRejection>;

/// The decoded segments of the route of one package.
///
/// The broker decodes them once. So it decides on the same package that it later reads.
pub trait PackagePath: DeserializeOwned + Send + 'static {
    /// The kind of the package as one word, for messages.
    const KIND: &'static str;

    /// Decides the right on this package, and parses the rest of its address after that.
    fn decide<R: Right>(
        &self,
        bearer: &Bearer,
        event: &mut Event,
    ) -> Result<PackageAccess<R>, AccessError>;

    /// Returns the segment with the version.
    fn unverified_version(&self) -> &str;

    /// Returns the segment with the id of an upload session.
    fn upload(&self) -> &str;

    /// Decides the right on this package. `bad_name` is the answer for a bearer that has the right,
    /// but sent an invalid address.
    fn access<R: Right>(
        &self,
        bearer: &Bearer,
        event: &mut Event,
        bad_name: impl FnOnce(NameError) -> ApiError,
    ) -> Result<PackageAccess<R>, ApiError> {
        self.decide(bearer, event).map_err(|error| ApiError::access(error, bad_name))
    }

    /// Parses the version.
    fn version(&self) -> Result<Version, ApiError> {
        Version::parse(self.unverified_version())
            .map_err(|error| ApiError::new(ErrorCode::InvalidRequest, error.to_string()))
    }

    /// Returns the answer for a package that does not exist.
    fn absent() -> ApiError {
        ApiError::not_found(format!("there is no such {}", Self::KIND))
    }
}

/// Returns the answer for a version that does not exist.
pub(super) fn no_version() -> ApiError {
    ApiError::not_found("there is no such version")
}

/// The decoded segments of a module route.
#[derive(Debug, Deserialize)]
pub struct ModulePath {
    namespace: String,
    name: String,
    system: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    upload: String,
}

impl PackagePath for ModulePath {
    const KIND: &'static str = "module";

    fn decide<R: Right>(
        &self,
        bearer: &Bearer,
        event: &mut Event,
    ) -> Result<PackageAccess<R>, AccessError> {
        bearer.module(&self.namespace, &self.name, &self.system, event)
    }

    fn unverified_version(&self) -> &str {
        &self.version
    }

    fn upload(&self) -> &str {
        &self.upload
    }
}

/// The decoded segments of a provider route.
#[derive(Debug, Deserialize)]
pub struct ProviderPath {
    namespace: String,
    #[serde(rename = "type")]
    provider_type: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    arch: String,
    #[serde(default)]
    upload: String,
    #[serde(default)]
    file: String,
}

impl ProviderPath {
    /// Returns the segments with the operating system and the architecture.
    pub fn unverified_platform(&self) -> (&str, &str) {
        (&self.os, &self.arch)
    }

    /// Returns the address as the client wrote it.
    pub fn unverified_address(&self) -> String {
        format!("{}/{}", self.namespace, self.provider_type)
    }

    /// Returns the segment with the name of a file.
    pub fn file(&self) -> &str {
        &self.file
    }
}

impl PackagePath for ProviderPath {
    const KIND: &'static str = "provider";

    fn decide<R: Right>(
        &self,
        bearer: &Bearer,
        event: &mut Event,
    ) -> Result<PackageAccess<R>, AccessError> {
        bearer.provider(&self.namespace, &self.provider_type, event)
    }

    fn unverified_version(&self) -> &str {
        &self.version
    }

    fn upload(&self) -> &str {
        &self.upload
    }
}
