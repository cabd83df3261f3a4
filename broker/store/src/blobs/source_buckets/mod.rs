//! Objects of S3 buckets that are not the registry's own, as archives of versions.
//!
//! The registry reads such an object once, when a version with it is published. Clients then fetch it
//! with signed URLs.

mod links;
mod read;
mod reason;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_config::{Region, SdkConfig};
use aws_sdk_s3::Client;
use tokio::sync::OnceCell;

pub use read::{OpenedObject, ReadObject, RecordedObject};

use super::s3::{Signer, client};
use crate::aws::{bounded, configuration};
use crate::{AwsDeadlines, ServiceCalls, StoreError};

/// The access of a registry to the buckets of others.
///
/// It loads nothing and calls no service before the first use. So a registry on one machine needs no
/// AWS credentials, unless a namespace has an object.
#[derive(Clone)]
pub(crate) struct SourceBuckets(Arc<Access>);

struct Access {
    /// The configuration of a store on AWS. Without one, the SDK finds it in its own variables and
    /// files.
    given: Option<SdkConfig>,
    loaded: OnceCell<Loaded>,
    /// The client of each region.
    clients: Mutex<HashMap<&'static str, Client>>,
    deadlines: AwsDeadlines,
    calls: ServiceCalls,
}

struct Loaded {
    sdk: SdkConfig,
    signer: Signer,
}

impl std::fmt::Debug for SourceBuckets {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SourceBuckets").finish_non_exhaustive()
    }
}

impl SourceBuckets {
    /// Uses this configuration, with time limits for every call.
    pub(crate) fn with(sdk: &SdkConfig, deadlines: AwsDeadlines, calls: &ServiceCalls) -> Self {
        Self::over(Some(bounded(sdk, deadlines)), deadlines, calls)
    }

    /// Uses the credentials, endpoints and settings that the SDK finds in its own variables and files.
    pub(crate) fn ambient(deadlines: AwsDeadlines, calls: &ServiceCalls) -> Self {
        Self::over(None, deadlines, calls)
    }

    fn over(given: Option<SdkConfig>, deadlines: AwsDeadlines, calls: &ServiceCalls) -> Self {
        let (loaded, clients) = (OnceCell::new(), Mutex::default());
        let calls = calls.clone();
        Self(Arc::new(Access { given, loaded, clients, deadlines, calls }))
    }

    async fn loaded(&self) -> Result<&Loaded, StoreError> {
        let Access { given, loaded, deadlines, .. } = &*self.0;
        let load = async || {
            let sdk = match given {
                Some(sdk) => sdk.clone(),
                // Without a variable or a profile, the SDK asks the machine's metadata service.
                None => {
                    let found = tokio::time::timeout(deadlines.credentials, configuration(None));
                    let found = found.await.map_err(|error| {
                        StoreError::unavailable(
                            "loading the AWS configuration took too long",
                            error,
                        )
                    })?;
                    bounded(&found, *deadlines)
                }
            };
            let signer = Signer::new(sdk.credentials_provider(), deadlines.credentials);
            Ok(Loaded { sdk, signer })
        };
        loaded.get_or_try_init(load).await
    }

    /// Returns the client for buckets of a region, and the signer of URLs.
    async fn client(&self, region: &'static str) -> Result<(Client, &Signer), StoreError> {
        let Loaded { sdk, signer } = self.loaded().await?;
        let mut clients = self.0.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let sdk = || sdk.to_builder().region(Region::from_static(region)).build();
        let of_region = || client(&sdk(), &self.0.calls);
        let client = clients.entry(region).or_insert_with(of_region).clone();
        drop(clients);
        Ok((client, signer))
    }
}
