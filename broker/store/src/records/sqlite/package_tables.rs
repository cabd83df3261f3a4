//! The tables of each kind of package. They have the same columns, apart from those of the address.

use rusqlite::ToSql;
use stile_core::package::{PackageAddress, PackageKind};

/// The tables of one kind of package.
#[derive(Debug)]
pub(super) struct PackageTables {
    /// The kind.
    pub(super) kind: PackageKind,
    /// The table with one row for each package.
    pub(super) packages: &'static str,
    /// The table with one row for each version.
    pub(super) versions: &'static str,
    /// The columns of the address in both, as a list.
    pub(super) address: &'static str,
    /// The named parameters for these columns, as a list.
    pub(super) parameters: &'static str,
    /// The condition for one package, with these parameters.
    pub(super) is_package: &'static str,
    /// The column of a version with the files of a provider, or a text in its place.
    pub(super) release: &'static str,
}

const MODULES: PackageTables = PackageTables {
    kind: PackageKind::Module,
    packages: "modules",
    versions: "module_versions",
    address: "namespace, name, system",
    parameters: ":namespace, :name, :system",
    is_package: "namespace = :namespace AND name = :name AND system = :system",
    release: "NULL",
};

const PROVIDERS: PackageTables = PackageTables {
    kind: PackageKind::Provider,
    packages: "providers",
    versions: "provider_versions",
    address: "namespace, type",
    parameters: ":namespace, :type",
    is_package: "namespace = :namespace AND type = :type",
    release: "release",
};

/// The `SELECT` of the SHA-256, the format and the length of each file of a provider's versions.
pub(super) const PROVIDER_FILES: &str = "SELECT file.value ->> '$.sha256' AS sha256, 'zip' AS format, file.value ->> '$.bytes' AS bytes \
     FROM provider_versions, json_each(provider_versions.release, '$.files') AS file";

/// The tables of all kinds.
pub(super) const ALL: [&PackageTables; 2] = [&MODULES, &PROVIDERS];

/// Returns the tables of a kind.
pub(super) const fn tables(kind: PackageKind) -> &'static PackageTables {
    match kind {
        PackageKind::Module => &MODULES,
        PackageKind::Provider => &PROVIDERS,
    }
}

/// Returns the tables of a package.
pub(super) const fn tables_of(address: &PackageAddress) -> &'static PackageTables {
    tables(address.package_kind())
}

/// The values of named parameters.
pub(super) type Named<'a> = Vec<(&'static str, &'a dyn ToSql)>;

/// The address of a package as the values of its columns.
pub(super) struct AddressValues(Vec<(&'static str, String)>);

impl AddressValues {
    /// Returns the values of an address.
    pub(super) fn of(address: &PackageAddress) -> Self {
        let namespace = (":namespace", address.namespace().to_string());
        Self(match address {
            PackageAddress::Module(module) => vec![
                namespace,
                (":name", module.name.to_string()),
                (":system", module.system.to_string()),
            ],
            PackageAddress::Provider(provider) => {
                vec![namespace, (":type", provider.provider_type.to_string())]
            }
        })
    }

    /// Returns these values and more.
    pub(super) fn and<'a>(&'a self, more: &[(&'static str, &'a dyn ToSql)]) -> Named<'a> {
        let address = self.0.iter().map(|(name, value)| (*name, value as &dyn ToSql));
        address.chain(more.iter().copied()).collect()
    }
}
