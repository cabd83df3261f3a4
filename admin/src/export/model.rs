//! What a registry has, as the export writes it. Every name is parsed, and every digest has its form.

use serde_json::Value;
use stile_core::package::provider::Release;
use stile_core::package::source::ModuleSource;
use stile_core::package::{Format, Version};
use stile_protocol::names::{ModuleAddress, ProviderAddress};

/// The packages of an export, and what it leaves out.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    /// The providers, in the order of their addresses.
    pub(crate) providers: Vec<Provider>,
    /// The modules, in the order of their addresses.
    pub(crate) modules: Vec<Module>,
    /// The versions that it leaves out.
    pub(crate) left_out: Vec<LeftOut>,
}

/// A version that the export leaves out, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeftOut {
    /// The sentence for the user.
    pub(crate) sentence: String,
    /// The provider, if its publisher no longer trusts the key of the version.
    pub(crate) distrusted: Option<ProviderAddress>,
    /// The version.
    pub(crate) version: Version,
}

/// A provider.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) address: ProviderAddress,
    /// At least one version, in order.
    pub(crate) versions: Vec<ProviderVersion>,
    /// The warnings that clients print.
    pub(crate) warnings: Vec<String>,
}

/// A version of a provider.
#[derive(Debug)]
pub(crate) struct ProviderVersion {
    pub(crate) version: Version,
    pub(crate) release: Release,
    /// The keys as clients get them, with the signer first.
    pub(crate) keys: Vec<Value>,
}

/// A module.
#[derive(Debug)]
pub(crate) struct Module {
    pub(crate) address: ModuleAddress,
    /// At least one version, in order.
    pub(crate) versions: Vec<ModuleVersion>,
}

/// A version of a module.
#[derive(Debug)]
pub(crate) struct ModuleVersion {
    pub(crate) version: Version,
    pub(crate) contents: Contents,
}

/// Where the files of a version are.
#[derive(Debug)]
pub(crate) enum Contents {
    /// In an archive, which the export has.
    Archive {
        /// The format.
        format: Format,
        /// The SHA-256 in lower-case hex.
        sha256: String,
        /// The size in bytes.
        bytes: u64,
        /// Whether it is an object in a bucket of the publisher, which can become unreadable.
        is_object: bool,
    },
    /// At another server.
    Source(ModuleSource),
}
