//! The AWS credentials that sign URLs of S3. They are loaded once, and used while they are valid
//! long enough.

use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use tokio::sync::Mutex;

use crate::{StoreError, StoreErrorKind};

/// Minimum validity of a signed URL, in seconds. A client needs some time to follow it.
const MIN_VALIDITY: i64 = 30;

/// Loads and caches the credentials that sign URLs.
pub(in crate::blobs) struct Signer {
    provider: Option<SharedCredentialsProvider>,
    credentials: Mutex<Option<Credentials>>,
    /// Time limit for loading credentials.
    deadline: Duration,
}

impl Signer {
    pub(in crate::blobs) fn new(
        provider: Option<SharedCredentialsProvider>,
        deadline: Duration,
    ) -> Self {
        Self { provider, credentials: Mutex::default(), deadline }
    }

    /// Returns credentials, and for how many seconds a URL signed with them is valid: `ttl`, or
    /// less if the credentials expire before.
    ///
    /// A signed URL ends with the credentials that signed it, whatever expiry it contains.
    pub(in crate::blobs) async fn credentials(
        &self,
        now: i64,
        ttl: i64,
    ) -> Result<(Credentials, i64), StoreError> {
        let mut cached = self.credentials.lock().await;
        if let Some(credentials) = cached.as_ref().filter(|cached| seconds_left(cached, now) >= ttl)
        {
            return Ok((credentials.clone(), ttl));
        }
        let provider = self
            .provider
            .as_ref()
            .ok_or_else(|| StoreError::misconfigured("found no AWS credentials"))?;
        let asked = tokio::time::timeout(self.deadline, provider.provide_credentials()).await;
        let fresh = asked
            .map_err(|error| {
                StoreError::unavailable("loading AWS credentials took too long", error)
            })?
            .map_err(credentials_error)?;
        let ttl = seconds_left(&fresh, now).min(ttl);
        if ttl < MIN_VALIDITY {
            return Err(StoreError::new(
                StoreErrorKind::Unavailable,
                "the AWS credentials expire too soon to sign a URL with them",
            ));
        }
        *cached = Some(fresh.clone());
        Ok((fresh, ttl))
    }
}

/// Converts an error of the provider. If no credentials are configured, the configuration is wrong.
/// Every other failure is temporary.
fn credentials_error(error: CredentialsError) -> StoreError {
    let kind = if matches!(error, CredentialsError::CredentialsNotLoaded(_)) {
        StoreErrorKind::Misconfigured
    } else {
        StoreErrorKind::Unavailable
    };
    StoreError::new(kind, "cannot load AWS credentials").caused_by(error)
}

fn seconds_left(credentials: &Credentials, now: i64) -> i64 {
    let ends =
        credentials.expiry().map(|at| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
    ends.map_or(i64::MAX, |ends| i64::try_from(ends).unwrap_or(i64::MAX).saturating_sub(now))
}
