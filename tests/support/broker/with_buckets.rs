//! Brokers that can read objects in buckets of an emulated AWS, on each kind of store.

use std::sync::Arc;

use stile_protocol::audience::Audience;
use stile_protocol::region::REGIONS;

use super::{Backend, HOST, Place, TestBroker};
use crate::aws::emulated::EmulatedAws;
use crate::sts::local::LocalSts;
use crate::time_limits;

/// Creates an empty place, and an emulated AWS for buckets. The store on AWS is there as well.
///
/// If a tool is missing, it records a skip and returns `None`.
pub async fn place_with_buckets(backend: Backend) -> Option<(Place, Arc<EmulatedAws>)> {
    match backend {
        Backend::Embedded => {
            let aws = Arc::new(EmulatedAws::start_empty()?);
            Some((Place::Folder(Arc::new(tempfile::tempdir().unwrap())), aws))
        }
        Backend::Aws => {
            let aws = Arc::new(EmulatedAws::start().await?);
            Some((Place::Aws(Arc::clone(&aws)), aws))
        }
    }
}

impl TestBroker {
    /// Starts a broker for [`HOST`] on that kind of store that can read the buckets of the returned
    /// AWS.
    ///
    /// If a tool is missing, it records a skip and returns `None`.
    pub async fn start_with_buckets(backend: Backend) -> Option<(Self, Arc<EmulatedAws>)> {
        let (place, aws) = place_with_buckets(backend).await?;
        Some((Self::start_at_buckets(HOST, place, &aws), aws))
    }

    /// Starts a broker for that host at that place that can read the buckets of that AWS.
    pub fn start_at_buckets(host: &str, place: Place, aws: &EmulatedAws) -> Self {
        let audience = Audience::parse(host).unwrap();
        let (location, store) = place.open(&audience);
        let store = match &place {
            Place::Folder(_) => store.reading_objects_with(&aws.sdk(), time_limits::aws()),
            Place::Aws(_) => store,
        };
        let regions: Vec<_> = REGIONS.iter().collect();
        Self::assemble(audience, 3600, place, (location, store), &regions, LocalSts::endpoint)
    }
}
