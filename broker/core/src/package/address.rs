//! The address of a package, for every kind of package.

use std::fmt;

use stile_protocol::names::{ModuleAddress, Namespace};

/// The address of one package with all its versions.
///
/// The enum is closed, because Terraform has few kinds of packages.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PackageAddress {
    /// A module, `namespace/name/system`.
    Module(ModuleAddress),
}

impl PackageAddress {
    /// Returns the namespace of the package.
    pub const fn namespace(&self) -> &Namespace {
        match self {
            Self::Module(module) => &module.namespace,
        }
    }

    /// Returns the kind as one word, for store keys, responses and the audit log.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Module(_) => "module",
        }
    }
}

impl fmt::Display for PackageAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Module(module) => module.fmt(formatter),
        }
    }
}
