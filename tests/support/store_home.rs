//! A store without a broker, and a home whose `stile-admin` uses it.

use stile_store::Store;

use crate::aws::emulated::EmulatedAws;
use crate::broker::{Backend, embedded};
use crate::process::home::Home;
use crate::time_limits;

/// An empty store, and a home whose `stile-admin` uses it.
pub struct StoreHome {
    /// The home. Its environment names the store.
    pub home: Home,
    /// The store.
    pub store: Store,
    /// The emulated AWS of a store on AWS.
    pub aws: Option<EmulatedAws>,
}

impl StoreHome {
    /// Creates a store of that kind. Returns `None` if a tool is missing.
    pub async fn new(backend: Backend) -> Option<Self> {
        let mut home = Home::temporary();
        let (aws, store) = match backend {
            Backend::Embedded => {
                let data = home.path().join("data");
                let store = embedded(&data, time_limits::embedded());
                home.variable("STILE_DATA", data);
                for (name, value) in time_limits::VARIABLES {
                    home.variable(name, value);
                }
                (None, store)
            }
            Backend::Aws => {
                let aws = EmulatedAws::start().await?;
                for (name, value) in aws.environment() {
                    home.variable(name, value);
                }
                let store = aws.store(None);
                (Some(aws), store)
            }
        };
        Some(Self { home, store, aws })
    }
}
