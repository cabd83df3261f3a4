//! The real broker in the process of a test, over TLS on loopback and in system time, for Terraform
//! and the helper.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use stile_protocol::region::REGIONS;
use stile_store::Blobs;
use tempfile::TempDir;

use crate::broker::{Backend, Place, Serving, TestBroker};
use crate::dev_ca::{DevCa, Files};
use crate::process::home::Home;
use crate::process::programs::free_port;
use crate::sts::identity::Identity;

/// The time of the system clock in Unix seconds, which real programs use.
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
    /// Its certificate and the certificate of its authority.
    pub files: Files,
    host: String,
    _folder: TempDir,
    _serving: Serving,
}

impl Served {
    /// A broker that follows the system's clock.
    pub async fn start() -> Self {
        Self::start_with(0, |router| router).await
    }

    /// A broker whose clock and STS are that many seconds ahead of the system, with a layer around
    /// its routes.
    pub async fn start_with(ahead: i64, between: impl FnOnce(Router) -> Router) -> Self {
        Self::start_at(ahead, Place::Folder(Arc::new(tempfile::tempdir().unwrap())), between).await
    }

    /// A broker on that kind of store that follows the system's clock, with a layer around its
    /// routes. If a tool is missing, it records a skip and returns `None`.
    pub async fn start_on(
        backend: Backend,
        between: impl FnOnce(Router) -> Router,
    ) -> Option<Self> {
        let place = Place::new(backend).await?;
        Some(Self::start_at(0, place, between).await)
    }

    /// The same, that many seconds ahead of the system's time.
    pub async fn start_ahead(backend: Backend, ahead: i64) -> Option<Self> {
        let place = Place::new(backend).await?;
        Some(Self::start_at(ahead, place, |router| router).await)
    }

    async fn start_at(ahead: i64, place: Place, between: impl FnOnce(Router) -> Router) -> Self {
        let (port, now, folder) = (free_port(), system_time(), tempfile::tempdir().unwrap());
        let host = format!("127.0.0.1:{port}");
        let files = DevCa::new(now).write(folder.path(), &["127.0.0.1"]);
        let test = TestBroker::start_at(&host, 3600, place, &REGIONS.iter().collect::<Vec<_>>());
        test.follow_system_time(ahead);
        let _serving = test.serve_on(port, Some(&files), between).await;
        Self { test, files, host, _folder: folder, _serving }
    }

    /// Its registry host, `127.0.0.1:PORT`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The source address of a module in this registry.
    pub fn source(&self, address: &str) -> String {
        format!("{}/{address}", self.host)
    }

    /// A home that trusts the broker, configures the helper for it, and has the AWS keys of the
    /// identity.
    pub fn home(&self, identity: &Identity) -> Home {
        self.test.sts.add_identity(identity.clone());
        let mut home = Home::temporary();
        home.trust(&self.files.ca);
        home.act_as(identity, "us-east-1");
        home.configure_helper(&format!("[registry.\"{}\"]\n", self.host));
        home
    }

    /// The file of a published archive.
    pub fn archive(&self, sha256: &str) -> PathBuf {
        match self.test.store().blobs() {
            Blobs::Disk(disk) => disk.archive(sha256, stile_core::package::Format::Zip),
            Blobs::S3(_) => panic!("the archives are in a bucket"),
        }
    }
}
