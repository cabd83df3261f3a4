//! Links to archives in S3: presigned by this process, without a call, for one version of one object.

use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_s3::presigning::PresigningConfig;
use stile_protocol::names::ModuleAddress;
use tokio::sync::Mutex;

use super::modules::Kept;
use super::{Aws, archives};
use crate::{StoreError, StoreErrorKind};
use stile_core::package::Version;

/// Shortest link that is given, in seconds: a client needs some time to follow it.
const SHORTEST: i64 = 30;

/// What links are signed with.
pub(super) struct Signer {
    provider: Option<SharedCredentialsProvider>,
    credentials: Mutex<Option<Credentials>>,
    /// How long credentials may take to come.
    deadline: Duration,
}

impl Signer {
    pub(super) fn new(provider: Option<SharedCredentialsProvider>, deadline: Duration) -> Self {
        Self { provider, credentials: Mutex::default(), deadline }
    }

    /// Credentials, and how long a link by them is good: `ttl`, or as long as they live.
    ///
    /// A link ends with the credentials that signed it, whatever it says itself.
    pub(super) async fn credentials(
        &self,
        now: i64,
        ttl: i64,
    ) -> Result<(Credentials, i64), StoreError> {
        let mut kept = self.credentials.lock().await;
        if let Some(credentials) = kept.as_ref().filter(|kept| life(kept, now) >= ttl) {
            return Ok((credentials.clone(), ttl));
        }
        let provider = self
            .provider
            .as_ref()
            .ok_or_else(|| StoreError::misconfigured("there are no AWS credentials"))?;
        let asked = tokio::time::timeout(self.deadline, provider.provide_credentials()).await;
        let fresh = asked
            .map_err(|error| {
                StoreError::unavailable("AWS credentials did not come in time", error)
            })?
            .map_err(unprovided)?;
        let ttl = life(&fresh, now).min(ttl);
        if ttl < SHORTEST {
            return Err(StoreError::new(
                StoreErrorKind::Unavailable,
                "the AWS credentials end before a link could be followed",
            ));
        }
        *kept = Some(fresh.clone());
        Ok((fresh, ttl))
    }
}

impl Aws {
    /// A link to that version of the archive, in the one form clients take for one: a URL whose path ends as an archive
    /// and which names its checksum.
    pub(super) async fn presigned(
        &self,
        address: &ModuleAddress,
        version: &Version,
        kept: &Kept,
        now: i64,
        ttl: i64,
    ) -> Result<String, StoreError> {
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
            StoreError::unavailable("the link cannot be signed", error)
        };
        let (credentials, ttl) = self.signer.credentials(now, ttl).await?;
        let seconds = |count: i64| Duration::from_secs(count.try_into().unwrap_or_default());
        let config = PresigningConfig::builder()
            .start_time(UNIX_EPOCH + seconds(now))
            .expires_in(seconds(ttl))
            .build();
        let signed = self
            .s3
            .get_object()
            .bucket(&self.place.bucket)
            .key(archives::key(address, version, &kept.package))
            .version_id(&kept.object_version)
            .customize()
            .config_override(aws_sdk_s3::config::Builder::new().credentials_provider(credentials))
            .mutate_request(|request| {
                // The SDK's own mark, which means nothing to S3.
                let without =
                    request.uri().replace("?x-id=GetObject&", "?").replace("&x-id=GetObject", "");
                if request.set_uri(without).is_err() {
                    tracing::error!("a link could not be shortened");
                }
            })
            .presigned(config.map_err(|error| failed(error.into()))?);
        let signed = Box::pin(signed).await.map_err(|error| failed(error.into()))?;
        if signed.headers().next().is_some() {
            return Err(StoreError::misconfigured(
                "the link would need headers, which clients do not send",
            ));
        }
        // The client takes this off before it asks, so it is not signed.
        Ok(format!("{}&checksum=sha256:{}", signed.uri(), kept.package.sha256))
    }
}

/// A provider that found nothing to try is a matter of configuration; every other failure passes.
fn unprovided(error: CredentialsError) -> StoreError {
    let kind = if matches!(error, CredentialsError::CredentialsNotLoaded(_)) {
        StoreErrorKind::Misconfigured
    } else {
        StoreErrorKind::Unavailable
    };
    StoreError::new(kind, "no AWS credentials can be loaded").caused_by(error)
}

fn life(credentials: &Credentials, now: i64) -> i64 {
    let ends =
        credentials.expiry().map(|at| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
    ends.map_or(i64::MAX, |ends| i64::try_from(ends).unwrap_or(i64::MAX).saturating_sub(now))
}
