//! What a registry has, as the export writes it. Every name is parsed, and every digest has its form.

use serde_json::Value;
use stile_core::package::Version;
use stile_core::package::provider::Release;
use stile_protocol::names::{ModuleAddress, ProviderAddress};

use crate::published::Contents;

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
