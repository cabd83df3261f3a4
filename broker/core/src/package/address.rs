//! The address of a package, for every kind of package.

use std::fmt;

use stile_protocol::names::{ModuleAddress, Namespace, ProviderAddress};

/// A kind of package.
///
/// The enum is closed, because Terraform has few kinds of packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PackageKind {
    /// Modules.
    Module,
    /// Providers.
    Provider,
}

impl PackageKind {
    /// All values.
    pub const ALL: [Self; 2] = [Self::Module, Self::Provider];

    /// Returns the kind as one word, for store keys, responses and the audit log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Module => "module",
            Self::Provider => "provider",
        }
    }
}

/// The address of one package with all its versions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PackageAddress {
    /// A module, `namespace/name/system`.
    Module(ModuleAddress),
    /// A provider, `namespace/type`.
    Provider(ProviderAddress),
}

impl PackageAddress {
    /// Parses the address of a package, whose number of parts says the kind. `None` if it is
    /// malformed.
    pub fn parse(text: &str) -> Option<Self> {
        let of_kind = |kind| Self::of_kind(kind, text);
        PackageKind::ALL.into_iter().find_map(of_kind)
    }

    /// Parses the address of a package of this kind. `None` if it is malformed.
    pub fn of_kind(kind: PackageKind, text: &str) -> Option<Self> {
        match kind {
            PackageKind::Module => text.parse().ok().map(Self::Module),
            PackageKind::Provider => text.parse().ok().map(Self::Provider),
        }
    }

    /// Returns the namespace of the package.
    pub const fn namespace(&self) -> &Namespace {
        match self {
            Self::Module(module) => &module.namespace,
            Self::Provider(provider) => &provider.namespace,
        }
    }

    /// Returns the kind of the package.
    pub const fn package_kind(&self) -> PackageKind {
        match self {
            Self::Module(_) => PackageKind::Module,
            Self::Provider(_) => PackageKind::Provider,
        }
    }

    /// Returns the kind as one word, for store keys, responses and the audit log.
    pub const fn kind(&self) -> &'static str {
        self.package_kind().as_str()
    }

    /// Returns the address of a module. `None` for another kind.
    pub const fn module(&self) -> Option<&ModuleAddress> {
        match self {
            Self::Module(module) => Some(module),
            Self::Provider(_) => None,
        }
    }

    /// Returns the address of a provider. `None` for another kind.
    pub const fn provider(&self) -> Option<&ProviderAddress> {
        match self {
            Self::Provider(provider) => Some(provider),
            Self::Module(_) => None,
        }
    }
}

impl fmt::Display for PackageAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Module(module) => module.fmt(formatter),
            Self::Provider(provider) => provider.fmt(formatter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_parts_says_the_kind_of_a_package() {
        for text in ["", "acme", "acme/", "acme/vpc/aws/x", "Acme/dns", "acme//aws"] {
            assert_eq!(PackageAddress::parse(text), None, "{text}");
        }
        for (text, kind) in [("acme/vpc/aws", "module"), ("acme/dns", "provider")] {
            let address = PackageAddress::parse(text).unwrap();
            assert_eq!((address.to_string().as_str(), address.kind()), (text, kind));
        }
        assert_eq!(PackageAddress::of_kind(PackageKind::Module, "acme/dns"), None);
        assert_eq!(PackageAddress::of_kind(PackageKind::Provider, "acme/vpc/aws"), None);
    }
}
