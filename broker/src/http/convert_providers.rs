//! Converts the errors of publishing providers, and of signing keys, into answers.

use stile_protocol::names::Namespace;
use stile_protocol::reply::ErrorCode;

use super::error::ApiError;
use crate::app::authorize::AccessError;
use crate::app::provider_upload::ProviderUploadError;
use crate::app::signing_keys::SigningKeysError;
use crate::app::upload::SessionError;
use stile_core::package::provider::{Platform, SignerError};
use stile_core::package::{PackageAddress, Version};
use stile_store::NotReplaced;

impl ApiError {
    /// Converts the error of publishing a provider in that namespace.
    pub fn provider_upload(error: ProviderUploadError, namespace: &Namespace) -> Self {
        let message = error.to_string();
        match error {
            ProviderUploadError::Signer(SignerError::NoKeys) => {
                Self::new(ErrorCode::InvalidRequest, message).hint(format!(
                    "ask a holder of `create_grant` for `stile-admin provider keys add FILE --namespace {namespace}`"
                ))
            }
            ProviderUploadError::Signer(_) => {
                Self::new(ErrorCode::InvalidRequest, message).hint(format!(
                    "`stile-admin provider keys list --namespace {namespace}` shows the keys"
                ))
            }
            ProviderUploadError::UnknownFile => Self::not_found(message),
            ProviderUploadError::NotHere => Self::new(ErrorCode::InvalidRequest, message),
            ProviderUploadError::Nothing => Self::new(ErrorCode::Conflict, message)
                .hint("send the file as the answer to `POST …/uploads` says, then try again"),
            ProviderUploadError::Refused(_) => Self::new(ErrorCode::BadArchive, message),
            ProviderUploadError::NotAnnounced => Self::new(ErrorCode::BadArchive, message)
                .hint("send the file that `SHA256SUMS` has"),
            ProviderUploadError::Stale(_) => Self::new(ErrorCode::Conflict, message)
                .hint("read the version again, and sign a list with all of its lines"),
            ProviderUploadError::Different(_) => Self::new(ErrorCode::Conflict, message)
                .hint("a published file never changes; publish the next version"),
            ProviderUploadError::NotReplaced(NotReplaced::Older) => {
                Self::new(ErrorCode::Conflict, message)
                    .hint("sign the list of the published version again, and publish that")
            }
            ProviderUploadError::NotReplaced(NotReplaced::Protocols | NotReplaced::Manifest) => {
                Self::new(ErrorCode::Conflict, message)
                    .hint("a published version keeps them; publish the next version")
            }
            ProviderUploadError::Missing(_) => Self::new(ErrorCode::Conflict, message)
                .hint("verify each with `POST …/uploads/{upload}/files/{file}`, then complete again"),
            ProviderUploadError::Session(error) => Self::upload_session(error, namespace),
        }
    }

    /// Returns the error for a list of digests without lines of published files.
    pub fn stale(address: &PackageAddress, version: &Version, missing: &[Platform]) -> Self {
        let missing: Vec<_> = missing.iter().map(|platform| format!("`{platform}`")).collect();
        let message = format!(
            "`{address}` {version} has files for platforms that `SHA256SUMS` does not list: {}",
            missing.join(", ")
        );
        Self::new(ErrorCode::Conflict, message)
            .hint("read the version again, and sign a list with all of its lines")
    }

    /// Returns the error for another file of a platform that is published.
    pub fn other_file(address: &PackageAddress, version: &Version, platform: &Platform) -> Self {
        let message =
            format!("`{address}` {version} is published with another file for `{platform}`");
        Self::new(ErrorCode::Conflict, message)
            .hint("a published file never changes; publish the next version")
    }

    /// Returns the error for files that the registry needs, and whose sizes the publisher left out.
    pub fn unannounced(missing: &[Platform]) -> Self {
        let missing: Vec<_> = missing.iter().map(|platform| format!("`{platform}`")).collect();
        let message = format!("`files` has no file for {}", missing.join(", "));
        Self::new(ErrorCode::InvalidRequest, message)
            .hint("list each zip archive that is not published, with its size")
    }

    /// Returns the error for too many open sessions.
    pub fn too_many_open(namespace: &Namespace) -> Self {
        Self::upload_session(SessionError::TooManyOpen, namespace)
    }

    /// Converts the error of signing keys.
    pub fn signing_keys(error: SigningKeysError) -> Self {
        let message = error.to_string();
        match error {
            SigningKeysError::Access(AccessError::BadName(_)) => {
                Self::new(ErrorCode::InvalidRequest, message)
            }
            SigningKeysError::Access(error) => {
                Self::access(error, |error| Self::new(ErrorCode::InvalidRequest, error.to_string()))
            }
            SigningKeysError::Authenticate(error) => Self::authenticate(error),
            SigningKeysError::Key(_) => Self::new(ErrorCode::InvalidRequest, message),
            SigningKeysError::Retired(_) => {
                Self::new(ErrorCode::Conflict, message).hint("make a new key, and add that")
            }
            SigningKeysError::Lacks(_) => Self::new(ErrorCode::Conflict, message)
                .hint("add another key, sign the versions again with that, then retire this one"),
            SigningKeysError::SameId(_) => {
                Self::new(ErrorCode::Conflict, message).hint("make another key, and add that")
            }
            SigningKeysError::Full => Self::new(ErrorCode::Conflict, message)
                .hint("publish with a key that the namespace has"),
            SigningKeysError::Absent(_) => Self::not_found(message),
            SigningKeysError::Store(error) => Self::store(error),
        }
    }
}
