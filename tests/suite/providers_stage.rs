//! The stage of the tests of providers: a registry over TLS, GnuPG and Terraform.

use std::path::{Path, PathBuf};

use stile_protocol::names::Permission::{CreateGrant, Download, Upload};
use stile_tests::broker::served::{Served, system_time};
use stile_tests::broker::{Backend, TestBroker, deploy, role};
use stile_tests::process::programs::{HELPER, program};
use stile_tests::provider::dist::{PLATFORMS, ProviderDist};
use stile_tests::provider::gnupg::{GnuPg, PublisherKey};
use stile_tests::provider::publisher::{ProviderPublisher, Wire};
use stile_tests::skipped::{skipped, tool};
use stile_tests::terraform::Terraform;

/// What Terraform says after a good `init`.
pub(crate) const INITIALIZED: &str = "Terraform has been successfully initialized!";

/// A registry whose namespace `acme` has a publisher, and the programs of both sides.
pub(crate) struct Stage {
    pub(crate) served: Served,
    pub(crate) program: PathBuf,
    pub(crate) gnupg: GnuPg,
}

impl Stage {
    /// Starts a registry without a provider. Returns `None` if a tool is missing.
    pub(crate) async fn start(backend: Backend, shows: &str) -> Option<Self> {
        let Some(program) = tool("terraform") else {
            skipped("terraform", shows);
            return None;
        };
        let gnupg = GnuPg::new(system_time(), shows)?;
        let served = Served::start_on(backend, |router| router).await?;
        served.test.grant(&role("deploy"), "acme", &[CreateGrant, Download, Upload]).await;
        Some(Self { served, program, gnupg })
    }

    /// Starts a registry with the version `1.0.0` of `acme/dns` for three platforms.
    pub(crate) async fn with_dns(backend: Backend, shows: &str) -> Option<(Self, ProviderDist)> {
        let stage = Self::start(backend, shows).await?;
        let dist = ProviderDist::new("dns", "1.0.0", &PLATFORMS);
        let key = stage.gnupg.key("Acme <providers@acme.example>");
        let publisher = stage.publisher().await;
        publisher.add_key("acme", &key.armor).await;
        publisher.publish("acme", &dist.signed(&key)).await;
        Some((stage, dist))
    }

    /// Returns a publisher with a new token.
    pub(crate) async fn publisher(&self) -> ProviderPublisher<'_> {
        let test = &self.served.test;
        let token = test.token(&deploy(), &[CreateGrant, Download, Upload]).await;
        ProviderPublisher::new(Wire::InMemory(test), &token)
    }

    /// Prepares Terraform with the helper, the AWS keys of `deploy`, and a configuration that
    /// requires these providers of the registry.
    pub(crate) fn terraform(&self, required: &[(&str, &str)]) -> Terraform {
        self.terraform_of(&self.program, required)
    }

    /// Does the same with another release of Terraform.
    pub(crate) fn terraform_of(&self, file: &Path, required: &[(&str, &str)]) -> Terraform {
        let terraform = Terraform::new(file, self.served.home(&deploy()));
        terraform.install_helper(&program(HELPER));
        terraform.write_main(&requires(self.served.host(), required));
        terraform
    }
}

/// A registry in memory whose namespace `acme` has a publisher, and GnuPG.
pub(crate) struct Registry {
    pub(crate) test: TestBroker,
    pub(crate) token: String,
    gnupg: GnuPg,
}

impl Registry {
    /// Starts a registry without a provider. Returns `None` if a tool is missing.
    pub(crate) async fn start(backend: Backend, shows: &str) -> Option<Self> {
        let test = TestBroker::start_on(backend).await?;
        let gnupg = GnuPg::new(test.time(), shows)?;
        test.grant(&role("deploy"), "acme", &[CreateGrant, Download, Upload]).await;
        let token = test.token(&deploy(), &[CreateGrant, Download, Upload]).await;
        Some(Self { test, token, gnupg })
    }

    /// Makes a key of the publisher.
    pub(crate) fn key(&self) -> PublisherKey<'_> {
        self.gnupg.key("Acme <providers@acme.example>")
    }

    /// Returns a publisher.
    pub(crate) fn publisher(&self) -> ProviderPublisher<'_> {
        ProviderPublisher::new(Wire::InMemory(&self.test), &self.token)
    }
}

/// Returns a configuration that requires these providers, given as `NAMESPACE/TYPE` and a version.
fn requires(host: &str, required: &[(&str, &str)]) -> String {
    let one = |(address, version): &(&str, &str)| {
        let kind = address.split('/').next_back().unwrap();
        format!(
            "    {kind} = {{\n      source  = \"{host}/{address}\"\n      version = \"{version}\"\n    }}\n"
        )
    };
    let all: String = required.iter().map(one).collect();
    format!("terraform {{\n  required_providers {{\n{all}  }}\n}}\n")
}
