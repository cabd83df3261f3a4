//! The ready-made versions document of a package: reads it, and adds or removes a version. It preserves
//! what a newer program added.

use serde_json::{Map, Value, json};
use stile_core::package::{Claimed, PackageAddress, Version, versions_document};

use super::model::{Content, PackageRecord, Revision, VersionRecord};
use super::provider_document::{self, Described, DistrustedKeys};

/// Returns a package without versions.
pub(crate) fn empty(address: &PackageAddress) -> PackageRecord {
    let document = match address {
        PackageAddress::Module(_) => versions_document(std::iter::empty()),
        PackageAddress::Provider(_) => json!({ "versions": [], "warnings": [] }).to_string(),
    };
    PackageRecord {
        revision: Revision::default(),
        document: serde_json::from_str(&document).unwrap_or_default(),
        versions: Vec::new(),
        latest_at: 0,
        unknown: Map::new(),
    }
}

/// Reads a document. `None` if it is malformed. The caller sets the revision.
pub(crate) fn read(
    address: &PackageAddress,
    document: Value,
    latest_at: i64,
    unknown: Map<String, Value>,
) -> Option<PackageRecord> {
    let entries = document.pointer(entries(address))?.as_array()?;
    let versions: Vec<Version> = entries
        .iter()
        .map(|entry| Version::parse(entry.get("version")?.as_str()?).ok())
        .collect::<Option<_>>()?;
    let revision = Revision::default();
    versions.is_sorted().then_some(PackageRecord {
        revision,
        document,
        versions,
        latest_at,
        unknown,
    })
}

/// The field with the repository of a module, as Terraform's public registry has it. Renovate reads
/// it, to find the changelog.
const SOURCE: &str = "source";

/// Returns the JSON pointer to the versions in the document of such a package.
const fn entries(address: &PackageAddress) -> &'static str {
    match address {
        PackageAddress::Module(_) => "/modules/0/versions",
        PackageAddress::Provider(_) => provider_document::VERSIONS,
    }
}

impl PackageRecord {
    /// Adds a version at its place in the order, unless the document contains it.
    pub(crate) fn add(&mut self, address: &PackageAddress, version: &Version, now: i64) {
        let at = self.versions.partition_point(|listed| listed < version);
        if self.versions.get(at) != Some(version) {
            self.versions.insert(at, version.clone());
            let listed = self.document.pointer_mut(entries(address)).and_then(Value::as_array_mut);
            if let Some(listed) = listed {
                listed.insert(at, json!({ "version": version.to_string() }));
            }
        }
        if self.latest() == Some(version) {
            self.latest_at = now;
        }
    }

    /// Removes a version, if the document contains it. The caller sets `latest_at` for the version
    /// that is the latest then.
    pub(crate) fn remove(&mut self, address: &PackageAddress, version: &Version) {
        let at = self.versions.partition_point(|listed| listed < version);
        if self.versions.get(at) == Some(version) {
            self.versions.remove(at);
            let listed = self.document.pointer_mut(entries(address)).and_then(Value::as_array_mut);
            if let Some(listed) = listed {
                listed.remove(at);
            }
        }
    }

    /// Sets the repository that the latest version claims. Without one, the document names none.
    ///
    /// It is a copy of a field of that version. A release without it adds versions and leaves the copy
    /// as it is, so nothing may decide by it.
    pub(crate) fn set_source(&mut self, address: &PackageAddress, claimed: Option<&Claimed>) {
        if address.module().is_none() {
            return;
        }
        let module = self.document.pointer_mut("/modules/0").and_then(Value::as_object_mut);
        let Some(module) = module else { return };
        match claimed.and_then(Claimed::repository_url) {
            Some(url) => module.insert(SOURCE.to_owned(), url.into()),
            None => module.remove(SOURCE),
        };
    }

    /// Sets what the document says about a listed version. Of a module it says only the number.
    pub(crate) fn describe(
        &mut self,
        address: &PackageAddress,
        version: &Version,
        record: &VersionRecord,
        distrusted: &DistrustedKeys,
    ) {
        let Content::Provider(release) = &record.content else { return };
        let Ok(at) = self.versions.binary_search(version) else { return };
        let entry = self.document.pointer_mut(entries(address)).and_then(|all| all.get_mut(at));
        if let Some(entry) = entry.and_then(Value::as_object_mut) {
            let described = Described { address, version, release, life: &record.life, distrusted };
            provider_document::describe(entry, &described);
        }
    }

    /// Makes the warnings of the document, after its entries changed. That of a module has none.
    pub(crate) fn set_warnings(&mut self, address: &PackageAddress) {
        if address.provider().is_some() {
            provider_document::set_warnings(&mut self.document);
        }
    }

    /// Returns the highest release, or the highest pre-release if there is no release.
    pub(crate) fn latest(&self) -> Option<&Version> {
        self.versions.iter().rev().find(|version| !version.is_prerelease()).or(self.versions.last())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    #[test]
    fn versions_are_added_in_order_and_the_latest_is_a_release_if_there_is_one() {
        let address = PackageAddress::Module("acme/vpc/aws".parse().unwrap());
        let mut package = empty(&address);
        for (now, added, latest, latest_at) in [
            (1, "2.0.0-rc.1", "2.0.0-rc.1", 1),
            (2, "1.2.0", "1.2.0", 2),
            (3, "1.10.0", "1.10.0", 3),
            (4, "1.9.0", "1.10.0", 3),
            (5, "1.9.0", "1.10.0", 3),
        ] {
            package.add(&address, &version(added), now);
            let expected = (Some(&version(latest)), latest_at);
            assert_eq!((package.latest(), package.latest_at), expected, "{added}");
            let (document, latest_at) = (package.document.clone(), package.latest_at);
            assert_eq!(package, read(&address, document, latest_at, Map::new()).unwrap());
        }
        let versions = ["1.2.0", "1.9.0", "1.10.0", "2.0.0-rc.1"].map(version);
        assert_eq!(package.document.to_string(), versions_document(versions.iter()));
    }

    #[test]
    fn a_removed_version_is_not_listed_and_the_one_below_it_is_the_latest() {
        let address = PackageAddress::Module("acme/vpc/aws".parse().unwrap());
        let mut package = empty(&address);
        for (now, added) in [(1, "1.0.0"), (2, "1.1.0"), (3, "2.0.0-rc.1")] {
            package.add(&address, &version(added), now);
        }
        for (removed, left) in [
            ("3.0.0", Some("1.1.0")),
            ("1.1.0", Some("1.0.0")),
            ("1.1.0", Some("1.0.0")),
            ("1.0.0", Some("2.0.0-rc.1")),
            ("2.0.0-rc.1", None),
        ] {
            package.remove(&address, &version(removed));
            assert_eq!(package.latest(), left.map(version).as_ref(), "{removed}");
            let (document, latest_at) = (package.document.clone(), package.latest_at);
            assert_eq!(package, read(&address, document, latest_at, Map::new()).unwrap());
        }
        assert_eq!(package.document, json!({"modules": [{"versions": []}]}));
    }

    #[test]
    fn the_source_is_what_the_latest_version_claims_or_nothing() {
        let address = PackageAddress::Module("acme/vpc/aws".parse().unwrap());
        let claimed = |url: &str| {
            Claimed::parse(&json!({"environment": "jenkins", "repository": url})).unwrap()
        };
        let url = "https://github.com/acme/vpc";
        let mut package = empty(&address);
        package.add(&address, &version("1.0.0"), 1);
        let plain = package.document.clone();
        for (claimed, expected) in [
            (None, json!(null)),
            (Some(claimed(url)), json!(url)),
            (Some(claimed("https://github.com/acme/net")), json!("https://github.com/acme/net")),
            (Some(claimed("ssh://github.com/acme/vpc")), json!(null)),
            (Some(claimed(url)), json!(url)),
            (None, json!(null)),
        ] {
            package.set_source(&address, claimed.as_ref());
            assert_eq!(package.document["modules"][0]["source"], expected, "{claimed:?}");
            let document = package.document.clone();
            assert_eq!(read(&address, document, 1, Map::new()).unwrap().versions.len(), 1);
        }
        assert_eq!(package.document, plain, "and the name of the field is gone, too");
    }

    #[test]
    fn adding_a_version_preserves_what_a_newer_program_added() {
        let address = PackageAddress::Module("acme/vpc/aws".parse().unwrap());
        let found = json!({"modules": [{"source": "x", "versions": [{"version": "1.0.0", "yanked": true}]}], "more": 1});
        let mut package = read(&address, found, 0, Map::new()).unwrap();
        package.add(&address, &version("0.9.0"), 5);
        let expected = json!({"modules": [{"source": "x", "versions": [{"version": "0.9.0"}, {"version": "1.0.0", "yanked": true}]}], "more": 1});
        assert_eq!(package.document, expected);
        for bad in [
            json!({}),
            json!([]),
            json!({"modules": []}),
            json!({"modules": [{"versions": [{"version": "x"}]}]}),
            Value::Null,
        ] {
            assert!(read(&address, bad.clone(), 0, Map::new()).is_none(), "{bad}");
        }
    }
}
