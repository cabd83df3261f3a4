//! Namespaces, addresses and permissions: the names in tokens, grants and routes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A name that violates its grammar. The message contains the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{name}` {problem}")]
pub struct NameError {
    what: &'static str,
    name: String,
    problem: &'static str,
}

impl NameError {
    fn new(what: &'static str, name: &str, problem: &'static str) -> Self {
        Self {
            what,
            name: name.chars().take(80).map(|c| if c.is_control() { '?' } else { c }).collect(),
            problem,
        }
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(String);

        impl $type {
            /// Parses the name without trimming or case folding.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                let check: fn(&str) -> Result<(), &'static str> = $check;
                check(text).map_err(|problem| NameError::new($what, text, problem))?;
                Ok(Self(text.to_owned()))
            }

            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }
    };
}

name! {
    /// A namespace: the first part of a module address. A grant applies to one namespace.
    Namespace, "namespace", check_namespace
}
name! {
    /// The name of a module.
    ModuleName, "module name", |text| {
        if matches_grammar(text, b"-_", 64) { Ok(()) } else { Err("must be 1 to 64 of `a-z`, `0-9`, `-`, `_`, with a letter or digit at both ends") }
    }
}
name! {
    /// The target system of a module, for example `aws`.
    System, "system", |text| {
        if matches_grammar(text, b"", 64) { Ok(()) } else { Err("must be 1 to 64 of `a-z` and `0-9`") }
    }
}

name! {
    /// The type of a provider, for example `aws`: the part of the address that Terraform calls `TYPE`.
    ProviderType, "provider type", check_provider_type
}

fn check_provider_type(text: &str) -> Result<(), &'static str> {
    if text.starts_with("terraform-") {
        return Err(
            "must not begin with `terraform-`; `terraform-provider-aws` has the type `aws`",
        );
    }
    if matches_grammar(text, b"-", 64) && !text.contains("--") {
        return Ok(());
    }
    Err("must be 1 to 64 of `a-z`, `0-9` and single `-`, with a letter or digit at both ends")
}

/// Paths under `/v1/modules/` that are routes, so no namespace can have these names.
const RESERVED: [&str; 2] = ["search", "all"];

fn check_namespace(text: &str) -> Result<(), &'static str> {
    if RESERVED.contains(&text) {
        return Err("is reserved");
    }
    if matches_grammar(text, b"-", 64) && !text.contains("--") {
        return Ok(());
    }
    Err("must be 1 to 64 of `a-z`, `0-9` and single `-`, with a letter or digit at both ends")
}

fn matches_grammar(text: &str, inner: &[u8], longest: usize) -> bool {
    let bytes = text.as_bytes();
    let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=longest).contains(&bytes.len())
        && bytes.iter().all(|b| plain(b) || inner.contains(b))
        && bytes.first().is_some_and(plain)
        && bytes.last().is_some_and(plain)
}

/// The address `namespace/name/system` of a module with all its versions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModuleAddress {
    /// The namespace.
    pub namespace: Namespace,
    /// The name.
    pub name: ModuleName,
    /// The system.
    pub system: System,
}

impl FromStr for ModuleAddress {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let mut parts = text.split('/');
        let (Some(namespace), Some(name), Some(system), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(NameError::new(
                "module address",
                text,
                "must be `namespace/name/system`, for example `acme/vpc/aws`",
            ));
        };
        Ok(Self {
            namespace: Namespace::parse(namespace)?,
            name: ModuleName::parse(name)?,
            system: System::parse(system)?,
        })
    }
}

impl fmt::Display for ModuleAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}/{}", self.namespace, self.name, self.system)
    }
}

/// The address `namespace/type` of a provider with all its versions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProviderAddress {
    /// The namespace.
    pub namespace: Namespace,
    /// The type.
    pub provider_type: ProviderType,
}

impl FromStr for ProviderAddress {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let mut parts = text.split('/');
        let (Some(namespace), Some(provider_type), None) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err(NameError::new(
                "provider address",
                text,
                "must be `namespace/type`, for example `acme/dns`",
            ));
        };
        Ok(Self {
            namespace: Namespace::parse(namespace)?,
            provider_type: ProviderType::parse(provider_type)?,
        })
    }
}

impl fmt::Display for ProviderAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.provider_type)
    }
}

/// One permission of a grant in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Permission {
    /// Grant permissions that the principal itself has.
    CreateGrant = 1,
    /// Delete grants.
    DeleteGrant = 2,
    /// Download modules.
    Download = 4,
    /// Publish modules.
    Upload = 8,
}

impl Permission {
    /// Every permission, ordered by name.
    pub const ALL: [Self; 4] = [Self::CreateGrant, Self::DeleteGrant, Self::Download, Self::Upload];

    /// Returns the name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CreateGrant => "create_grant",
            Self::DeleteGrant => "delete_grant",
            Self::Download => "download",
            Self::Upload => "upload",
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Permission {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::ALL.into_iter().find(|permission| permission.as_str() == text).ok_or_else(|| {
            NameError::new(
                "permission",
                text,
                "must be one of `create_grant`, `delete_grant`, `download`, `upload`",
            )
        })
    }
}

/// A set of permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Permissions(u8);

impl Permissions {
    /// No permission.
    pub const NONE: Self = Self(0);

    /// Tells whether the set contains a permission.
    pub const fn contains(self, permission: Permission) -> bool {
        self.0 & permission as u8 != 0
    }

    /// Tells whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the set with this permission.
    #[must_use]
    pub const fn with(self, permission: Permission) -> Self {
        Self(self.0 | permission as u8)
    }

    /// Returns the set without this permission.
    #[must_use]
    pub const fn without(self, permission: Permission) -> Self {
        Self(self.0 & !(permission as u8))
    }

    /// Returns the union of both sets.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the permissions of this set that are not in the other one.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Iterates over the permissions, ordered by name.
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL.into_iter().filter(move |permission| self.contains(*permission))
    }

    /// Returns the bits for storage.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Parses stored bits. An unknown bit makes the whole set invalid.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits < 16 { Some(Self(bits)) } else { None }
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        permissions.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Display for Permissions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, permission) in self.iter().enumerate() {
            if at > 0 {
                formatter.write_str(",")?;
            }
            formatter.write_str(permission.as_str())?;
        }
        Ok(())
    }
}

impl Serialize for Permissions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(Permission::as_str))
    }
}

impl<'de> Deserialize<'de> for Permissions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        names
            .iter()
            .map(|name| name.parse::<Permission>())
            .collect::<Result<_, _>>()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_never_trimmed_case_folded_or_decoded() {
        let long = "a".repeat(65);
        for text in [
            "",
            "-",
            "a-",
            "-a",
            "a--b",
            "Team-A",
            "team_a",
            "team-a/",
            "team-a/..",
            "team-a\0",
            "te\u{430}m-a",
            "cafe\u{301}",
            " team",
            "team ",
            "team%2da",
            "search",
            "all",
            "*",
            "a.b",
            &long,
        ] {
            assert!(Namespace::parse(text).is_err(), "{text:?}");
        }
        for text in ["a", "0", "team-a", "a-b-c", &"a".repeat(64)] {
            assert_eq!(Namespace::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn an_address_has_three_parts() {
        for text in [
            "", "a", "a/b", "a/b/c/d", "a/b/", "/b/c", "A/b/c", "a/B/c", "a/b/C", "a/b/a_b",
            "a/_b/c", "a//c",
        ] {
            assert!(text.parse::<ModuleAddress>().is_err(), "{text:?}");
        }
        assert_eq!(
            "acme/vpc_v2/aws".parse::<ModuleAddress>().unwrap().to_string(),
            "acme/vpc_v2/aws"
        );
    }

    #[test]
    fn the_address_of_a_provider_has_two_parts_and_the_type_without_its_prefix() {
        for text in [
            "",
            "acme",
            "acme/",
            "/dns",
            "acme/dns/x",
            "Acme/dns",
            "acme/Dns",
            "acme/my_dns",
            "acme/d--ns",
            "acme/dns-",
            "acme/terraform-provider-dns",
            "search/dns",
        ] {
            assert!(text.parse::<ProviderAddress>().is_err(), "{text:?}");
        }
        let error = "acme/terraform-dns".parse::<ProviderAddress>().unwrap_err().to_string();
        assert!(error.ends_with("`terraform-provider-aws` has the type `aws`"), "{error}");
        assert_eq!("acme/my-dns".parse::<ProviderAddress>().unwrap().to_string(), "acme/my-dns");
    }

    #[test]
    fn a_permission_set_is_ordered_and_survives_storage() {
        let set: Permissions = [Permission::Upload, Permission::Download].into_iter().collect();
        assert_eq!(set.to_string(), "download,upload");
        assert_eq!(set.without(Permission::Upload).to_string(), "download");
        assert_eq!(Permissions::from_bits(set.bits()), Some(set));
        assert_eq!(Permissions::from_bits(16), None);
        assert_eq!(serde_json::to_string(&set).unwrap(), r#"["download","upload"]"#);
        assert!("Download".parse::<Permission>().is_err());
    }
}
