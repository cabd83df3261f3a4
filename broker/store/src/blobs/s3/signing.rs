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

/// How long credentials without an expiry are used before they are loaded again, in seconds. The AWS
/// SDK does the same.
const RELOAD_AFTER: i64 = 15 * 60;

/// Loads and caches the credentials that sign URLs.
pub(in crate::blobs) struct Signer {
    provider: Option<SharedCredentialsProvider>,
    cached: Mutex<Option<Loaded>>,
    /// Time limit for loading credentials.
    deadline: Duration,
}

/// Credentials as the provider returned them.
struct Loaded {
    credentials: Credentials,
    /// When, in Unix seconds.
    at: i64,
}

impl Loaded {
    /// Returns whether the credentials are valid for `ttl` seconds from now. Those without an expiry are
    /// not used for longer than [`RELOAD_AFTER`], because someone can replace them at any time.
    fn is_usable(&self, now: i64, ttl: i64) -> bool {
        let is_recent = (self.at..self.at.saturating_add(RELOAD_AFTER)).contains(&now);
        let ends = self.credentials.expiry().is_some();
        if ends { seconds_left(&self.credentials, now) >= ttl } else { is_recent }
    }
}

impl Signer {
    pub(in crate::blobs) fn new(
        provider: Option<SharedCredentialsProvider>,
        deadline: Duration,
    ) -> Self {
        Self { provider, cached: Mutex::default(), deadline }
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
        let mut cached = self.cached.lock().await;
        if let Some(loaded) = cached.as_ref().filter(|loaded| loaded.is_usable(now, ttl)) {
            return Ok((loaded.credentials.clone(), ttl));
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
        *cached = Some(Loaded { credentials: fresh.clone(), at: now });
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use aws_credential_types::provider::future;

    use super::*;

    /// Returns a key with another number at each load.
    #[derive(Debug, Default)]
    struct Rotated {
        loads: AtomicUsize,
        expiry: Option<u64>,
    }

    impl ProvideCredentials for Rotated {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let id = self.loads.fetch_add(1, Ordering::Relaxed).to_string();
            let expiry = self.expiry.map(|at| UNIX_EPOCH + Duration::from_secs(at));
            future::ProvideCredentials::ready(Ok(Credentials::new(id, "x", None, expiry, "test")))
        }
    }

    fn signer(expiry: Option<u64>) -> Signer {
        let provider = Rotated { expiry, ..Rotated::default() };
        Signer::new(Some(SharedCredentialsProvider::new(provider)), Duration::from_secs(5))
    }

    async fn key_and_ttl(signer: &Signer, now: i64, ttl: i64) -> (String, i64) {
        let (credentials, ttl) = signer.credentials(now, ttl).await.unwrap();
        (credentials.access_key_id().to_owned(), ttl)
    }

    #[tokio::test]
    async fn credentials_without_an_expiry_are_loaded_again_after_a_quarter_of_an_hour() {
        let signer = signer(None);
        for (now, key) in [(1000, "0"), (1000, "0"), (1899, "0"), (1900, "1"), (2799, "1")] {
            assert_eq!(key_and_ttl(&signer, now, 3600).await, (key.to_owned(), 3600), "{now}");
        }
        let (key, _) = key_and_ttl(&signer, 1000, 60).await;
        assert_eq!(key, "2", "the clock went back, so nobody knows how old they are");
    }

    #[tokio::test]
    async fn credentials_with_an_expiry_are_used_until_they_are_too_short() {
        let signer = signer(Some(5000));
        for (now, key) in [(1000, "0"), (4700, "0"), (4701, "1")] {
            assert_eq!(key_and_ttl(&signer, now, 300).await.0, key, "{now}");
        }
        assert_eq!(key_and_ttl(&signer, 4900, 300).await.1, 100, "a URL ends with them");
        signer.credentials(4971, 300).await.unwrap_err();
    }
}
