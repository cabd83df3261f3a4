//! The address of a package: a module, and every other kind of package that a registry will hold.

use std::fmt;

use stile_protocol::names::{ModuleAddress, Namespace};

/// One package of a registry, all its versions. Closed, since Terraform knows few kinds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PackageAddress {
    /// A module, `namespace/name/system`.
    Module(ModuleAddress),
}

impl PackageAddress {
    /// The namespace it is in.
    pub const fn namespace(&self) -> &Namespace {
        match self {
            Self::Module(module) => &module.namespace,
        }
    }

    /// The kind as one word, as keys of the store, replies and the audit log name it.
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
