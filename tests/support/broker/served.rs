//! Runs the real broker in the process of a test, over TLS on loopback, for Terraform and the
//! helper.
//!
//! Its clock follows the system's clock, because programs have no other.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use stile_protocol::region::REGIONS;
use stile_store::Blobs;
use tempfile::TempDir;

use crate::aws::emulated::EmulatedAws;
use crate::broker::with_buckets::place_with_buckets;
use crate::broker::{Backend, Place, Serving, TestBroker};
use crate::dev_ca::{DevCa, Files};
use crate::process::home::Home;
use crate::process::programs::free_port;
use crate::sts::identity::Identity;

/// Returns the time of the system's clock, in Unix seconds. Real programs use that clock.
pub fn system_time() -> i64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "Terraform, moto and the helper have no clock but the system's"
    )]
    let now = chrono::Utc::now();
    now.timestamp()
}

/// A broker that programs can connect to.
pub struct Served {
    /// The broker, its store and its STS.
    pub test: TestBroker,
    /// The broker's certificate, and the certificate of its authority.
    pub files: Files,
    host: String,
    port: u16,
    _folder: TempDir,
    _serving: Serving,
}

impl Served {
    /// Starts a broker on the embedded store that follows the system's clock.
    pub async fn start() -> Self {
        Self::start_with(0, |router| router).await
    }

    /// Starts a broker with a layer around its routes.
    ///
    /// The clocks of the broker and of its STS are that many seconds ahead of the system's clock.
    pub async fn start_with(ahead: i64, between: impl FnOnce(Router) -> Router) -> Self {
        Self::start_at(ahead, Place::Folder(Arc::new(tempfile::tempdir().unwrap())), between).await
    }

    /// Starts a broker on that kind of store, with a layer around its routes.
    ///
    /// It follows the system's clock. If a tool is missing, it records a skip and returns `None`.
    pub async fn start_on(
        backend: Backend,
        between: impl FnOnce(Router) -> Router,
    ) -> Option<Self> {
        let place = Place::new(backend).await?;
        Some(Self::start_at(0, place, between).await)
    }

    /// Starts a broker on that kind of store, that many seconds ahead of the system's clock.
    ///
    /// If a tool is missing, it records a skip and returns `None`.
    pub async fn start_ahead(backend: Backend, ahead: i64) -> Option<Self> {
        let place = Place::new(backend).await?;
        Some(Self::start_at(ahead, place, |router| router).await)
    }

    /// Starts a broker for a registry host without a port, with a layer around its routes.
    ///
    /// A program reaches it through a proxy that connects the host to [`Served::port`].
    pub async fn start_named(host: &str, between: impl FnOnce(Router) -> Router) -> Self {
        let place = Place::Folder(Arc::new(tempfile::tempdir().unwrap()));
        Self::start_for(host, host, free_port(), 0, place, between).await
    }

    async fn start_at(ahead: i64, place: Place, between: impl FnOnce(Router) -> Router) -> Self {
        let port = free_port();
        let host = format!("127.0.0.1:{port}");
        Self::start_for(&host, "127.0.0.1", port, ahead, place, between).await
    }

    /// Starts a broker on that kind of store that can read the buckets of the returned AWS.
    ///
    /// It follows the system's clock. If a tool is missing, it records a skip and returns `None`.
    pub async fn start_with_buckets(backend: Backend) -> Option<(Self, Arc<EmulatedAws>)> {
        let (place, aws) = place_with_buckets(backend).await?;
        let port = free_port();
        let (host, buckets) = (format!("127.0.0.1:{port}"), Arc::clone(&aws));
        let start = move |host: &str| TestBroker::start_at_buckets(host, place, &buckets);
        Some((Self::start_by(&host, "127.0.0.1", port, 0, start, |router| router).await, aws))
    }

    async fn start_for(
        host: &str,
        certified: &str,
        port: u16,
        ahead: i64,
        place: Place,
        between: impl FnOnce(Router) -> Router,
    ) -> Self {
        let start = |host: &str| {
            TestBroker::start_at(host, 3600, place, &REGIONS.iter().collect::<Vec<_>>())
        };
        Self::start_by(host, certified, port, ahead, start, between).await
    }

    async fn start_by(
        host: &str,
        certified: &str,
        port: u16,
        ahead: i64,
        start: impl FnOnce(&str) -> TestBroker,
        between: impl FnOnce(Router) -> Router,
    ) -> Self {
        let (now, folder) = (system_time(), tempfile::tempdir().unwrap());
        let files = DevCa::new(now).write(folder.path(), &[certified]);
        let test = start(host);
        test.follow_system_time(ahead);
        let _serving = test.serve_on(port, Some(&files), between).await;
        Self { test, files, host: host.to_owned(), port, _folder: folder, _serving }
    }

    /// Returns its registry host: `127.0.0.1:PORT`, or the name that it was started with.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port of 127.0.0.1 that it listens on.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Returns the source address of a module in this registry.
    pub fn source(&self, address: &str) -> String {
        format!("{}/{address}", self.host)
    }

    /// Creates a home that trusts the broker, configures the helper for it, and has the identity's
    /// AWS keys.
    pub fn home(&self, identity: &Identity) -> Home {
        self.test.sts.add_identity(identity.clone());
        let mut home = Home::temporary();
        home.trust(&self.files.ca);
        home.act_as(identity, "us-east-1");
        home.configure_helper(&format!("[registry.\"{}\"]\n", self.host));
        home
    }

    /// Returns the path of a published archive.
    pub fn archive(&self, sha256: &str) -> PathBuf {
        match self.test.store().blobs() {
            Blobs::Disk(disk) => disk.archive(sha256, stile_core::package::Format::Zip),
            Blobs::S3(_) => panic!("the archives are in a bucket"),
        }
    }
}
