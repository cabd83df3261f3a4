//! The credentials that URLs of S3 are signed with: asked for once for as long as they are good.

use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use tokio::sync::Mutex;

use crate::{StoreError, StoreErrorKind};

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
