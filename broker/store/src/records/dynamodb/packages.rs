//! Packages: one item for each version, one for each package with its versions document, and one
//! for each package in the list.

use bytes::Bytes;
use stile_core::grants::PermittedNamespaces;
use stile_core::package::{
    Claimed, Life, PackageAddress, PackageKind, PackageSummary, SearchText, Version,
};
use stile_protocol::names::Namespace;

use super::attributes::{
    Row, bytes, from_unknown, number, read_bytes, read_number, read_text, text, unknown,
};
use super::table::{Key, PK, SK, VERSION, Write};
use super::{DynamoDb, compression, namespaces};
use crate::records::model::{Content, PackageRecord, PackagesPage, Quota, Revision, VersionRecord};
use crate::records::namespaces::StoredNamespace;
use crate::records::{alarm_about_unreadable, package_document};
use crate::{NamespaceUsage, StoreError};

/// Returns the partition of the list of all packages of a kind.
pub(super) const fn list(kind: PackageKind) -> &'static str {
    match kind {
        PackageKind::Module => "modules",
        PackageKind::Provider => "providers",
    }
}

/// The start of the sort key of a version.
pub(super) const VERSION_PREFIX: &str = "version ";

/// Maximum number of namespaces that the store queries one by one. For more, it reads the whole
/// list and filters it, which is faster.
const QUERIES: usize = 25;

/// The attributes of a package's item.
pub(super) const KNOWN: [&str; 7] =
    [PK, SK, VERSION, "revision", "document", "latest", "latest_at"];

impl DynamoDb {
    /// Returns the versions document of a package.
    pub(crate) async fn package_document(
        &self,
        address: &PackageAddress,
    ) -> Result<Option<Bytes>, StoreError> {
        let Some(row) = self.row(&document_key(address)).await? else { return Ok(None) };
        let document = read_bytes(&row, "document").and_then(compression::decompress);
        document.map(|document| Some(document.into())).ok_or_else(|| unreadable(address))
    }

    /// Returns a package with the list of its versions, and the quota of its namespace, in one read.
    pub(crate) async fn package_and_quota(
        &self,
        address: &PackageAddress,
    ) -> Result<(Option<PackageRecord>, Option<Quota>), StoreError> {
        let key = document_key(address);
        let (found, quota) =
            self.rows_and_quota(address.namespace(), std::slice::from_ref(&key)).await?;
        let Some(row) = found.get(&key) else { return Ok((None, quota)) };
        let package = read_package(address, row).ok_or_else(|| unreadable(address))?;
        Ok((Some(package), quota))
    }

    /// Returns one version, and the quota of its namespace, in one read.
    pub(crate) async fn version_and_quota(
        &self,
        address: &PackageAddress,
        version: &Version,
    ) -> Result<(Option<VersionRecord>, Option<Quota>), StoreError> {
        let key = version_key(address, version);
        let (found, quota) =
            self.rows_and_quota(address.namespace(), std::slice::from_ref(&key)).await?;
        let Some(row) = found.get(&key) else { return Ok((None, quota)) };
        let published = read_version(row).ok_or_else(|| unreadable_version(address, version))?;
        Ok((Some(published), quota))
    }

    /// Returns one version, and the record of its namespace, in one read.
    pub(crate) async fn version_and_namespace(
        &self,
        address: &PackageAddress,
        version: &Version,
    ) -> Result<(Option<VersionRecord>, Option<StoredNamespace>), StoreError> {
        let key = version_key(address, version);
        let keys = [key, namespaces::key(address.namespace())];
        let found = self.rows(&keys).await?;
        let [key, namespace] = &keys;
        let namespace = found.get(namespace).map(namespaces::record);
        let Some(row) = found.get(key) else { return Ok((None, namespace)) };
        let published = read_version(row).ok_or_else(|| unreadable_version(address, version))?;
        Ok((Some(published), namespace))
    }

    /// Returns one version.
    pub(crate) async fn version(
        &self,
        address: &PackageAddress,
        version: &Version,
    ) -> Result<Option<VersionRecord>, StoreError> {
        let Some(row) = self.row(&version_key(address, version)).await? else { return Ok(None) };
        read_version(&row).map(Some).ok_or_else(|| unreadable_version(address, version))
    }

    /// Counts the versions of a namespace and their bytes, by reading all of them. Unpublished ones
    /// count, too.
    pub(crate) async fn count(&self, namespace: &Namespace) -> Result<NamespaceUsage, StoreError> {
        let mut all = Vec::new();
        for kind in PackageKind::ALL {
            self.query(list(kind), &format!("{namespace} "), |row| {
                all.extend(row.as_ref().and_then(|row| read_address(kind, row)));
                false
            })
            .await?;
        }
        let (mut counted, mut is_readable) = (NamespaceUsage::default(), true);
        for address in all {
            self.query(&partition(&address), VERSION_PREFIX, |row| {
                match row.as_ref().and_then(read_version) {
                    Some(version) => {
                        counted.bytes = counted.bytes.saturating_add(version.bytes);
                        counted.versions += 1;
                    }
                    None => is_readable = false,
                }
                !is_readable
            })
            .await?;
            if !is_readable {
                return Err(unreadable(&address));
            }
        }
        Ok(counted)
    }

    /// Returns the versions of a package, each with its record.
    pub(crate) async fn versions(
        &self,
        address: &PackageAddress,
    ) -> Result<Vec<(Version, VersionRecord)>, StoreError> {
        let (mut versions, mut is_readable) = (Vec::new(), true);
        self.query(&partition(address), VERSION_PREFIX, |row| {
            let read = || {
                let row = row.as_ref()?;
                let version = read_text(row, SK)?.strip_prefix(VERSION_PREFIX)?;
                Some((Version::parse(version).ok()?, read_version(row)?))
            };
            match read() {
                Some(version) => versions.push(version),
                None => is_readable = false,
            }
            !is_readable
        })
        .await?;
        if is_readable { Ok(versions) } else { Err(unreadable(address)) }
    }

    /// Returns the packages of this kind that the page has, in order of address.
    pub(crate) async fn summaries(
        &self,
        kind: PackageKind,
        page: &PackagesPage<'_>,
    ) -> Result<Vec<PackageSummary>, StoreError> {
        let PackagesPage { reach, namespace, offset, limit } = *page;
        let within = |namespace: &Namespace| reach.permits(namespace);
        let prefixes: Vec<String> = match (namespace, reach) {
            (Some(namespace), _) if !within(namespace) => Vec::new(),
            (Some(namespace), _) => vec![format!("{namespace} ")],
            (None, PermittedNamespaces::Only(namespaces)) if namespaces.len() <= QUERIES => {
                namespaces.iter().map(|namespace| format!("{namespace} ")).collect()
            }
            (None, _) => vec![String::new()],
        };
        let (mut skipped, mut found) = (0, Vec::new());
        for prefix in prefixes {
            if found.len() >= limit {
                break;
            }
            let mut take = |row: Option<Row>| {
                // The item of a package without a listed version has no latest one.
                if row.as_ref().is_some_and(|row| !row.contains_key("latest")) {
                    return false;
                }
                match row.as_ref().and_then(|row| read_summary(kind, row)) {
                    Some(package) if !within(package.address.namespace()) => {}
                    Some(_) if skipped < offset => skipped += 1,
                    Some(package) => found.push(package),
                    None => alarm_about_unreadable(kind),
                }
                found.len() >= limit
            };
            self.query(list(kind), &prefix, &mut take).await?;
        }
        Ok(found)
    }
}

/// Returns the write that adds a version. [`read_version`] reads it.
pub(super) fn add_version(
    address: &PackageAddress,
    version: &Version,
    record: &VersionRecord,
) -> Write {
    let content = &record.content;
    let row = [
        ("sha256", text(content.sha256())),
        ("format", text(content.format())),
        ("bytes", number(record.bytes.try_into().unwrap_or(i64::MAX))),
        ("published_by", text(record.published_by.as_str())),
        ("published_at", number(record.published_at)),
    ];
    let optional = [
        ("object_version", content.object_version().map(str::to_owned)),
        ("origin", content.origin()),
        ("provider_release", content.release()),
        ("token_id", record.token_id.clone()),
        ("claimed", record.claimed.as_ref().and_then(Claimed::to_text)),
        ("life", record.life.to_text()),
        ("search", record.search.to_json().map(|json| json.to_string())),
    ];
    let optional = optional.into_iter().filter_map(|(name, value)| Some((name, text(value?))));
    Write::put(version_key(address, version), row.into_iter().chain(optional)).only_if_absent()
}

/// Returns the writes of the document, which its revision guards, and of the package's item in the
/// list. `None` if the document would become too large.
pub(super) fn put_package(
    address: &PackageAddress,
    before: Revision,
    package: &PackageRecord,
) -> Option<[Write; 2]> {
    let compressed = compression::compress(package.document.to_string().as_bytes())?;
    let latest = package.latest().map(|latest| ("latest", text(latest.to_string())));
    let latest = latest.into_iter().chain([("latest_at", number(package.latest_at))]);
    let document =
        [("revision", number(before.0.saturating_add(1))), ("document", bytes(compressed))];
    let unknown = from_unknown(&package.unknown);
    let unknown = unknown.iter().map(|(name, value)| (name.as_str(), value.clone()));
    let row = document.into_iter().chain(latest.clone()).chain(unknown);
    Some([
        Write::put(document_key(address), row).only_if_revision(before.0),
        Write::put(list_key(address), latest),
    ])
}

pub(super) fn read_package(address: &PackageAddress, row: &Row) -> Option<PackageRecord> {
    let document =
        serde_json::from_slice(&compression::decompress(read_bytes(row, "document")?)?).ok()?;
    let latest_at = read_number(row, "latest_at")?;
    let mut package = package_document::read(address, document, latest_at, unknown(row, &KNOWN))?;
    package.revision = Revision(read_number(row, "revision")?);
    Some(package)
}

pub(super) fn partition(address: &PackageAddress) -> String {
    match address {
        PackageAddress::Module(module) => format!("module {module}"),
        PackageAddress::Provider(provider) => format!("provider {provider}"),
    }
}

pub(super) fn document_key(address: &PackageAddress) -> Key {
    Key::new(partition(address), "versions")
}

pub(super) fn version_key(address: &PackageAddress, version: &Version) -> Key {
    Key::new(partition(address), format!("{VERSION_PREFIX}{version}"))
}

pub(super) fn list_key(address: &PackageAddress) -> Key {
    Key::new(list(address.package_kind()), address.to_string().replace('/', " "))
}

pub(super) fn read_version(row: &Row) -> Option<VersionRecord> {
    Some(VersionRecord {
        content: Content::read(
            read_text(row, "sha256")?,
            read_text(row, "format")?,
            optional(row, "object_version")?,
            optional(row, "origin")?,
            optional(row, "provider_release")?,
        )?,
        bytes: read_number(row, "bytes")?.try_into().ok()?,
        published_by: read_text(row, "published_by")?.to_owned(),
        published_at: read_number(row, "published_at")?,
        token_id: optional(row, "token_id")?.map(str::to_owned),
        // What is malformed counts as missing, because nothing is decided by it.
        claimed: read_text(row, "claimed").and_then(Claimed::read),
        life: optional(row, "life")?.map_or_else(|| Some(Life::default()), Life::read)?,
        // What is malformed counts as missing: it only finds less.
        search: read_text(row, "search")
            .and_then(|text| serde_json::from_str(text).ok())
            .map(|json| SearchText::read(&json))
            .unwrap_or_default(),
    })
}

/// Returns the text of an attribute that may be missing. `None` if it holds something else.
fn optional<'a>(row: &'a Row, name: &str) -> Option<Option<&'a str>> {
    if row.contains_key(name) { read_text(row, name).map(Some) } else { Some(None) }
}

pub(super) fn read_address(kind: PackageKind, row: &Row) -> Option<PackageAddress> {
    PackageAddress::of_kind(kind, &read_text(row, SK)?.replace(' ', "/"))
}

fn read_summary(kind: PackageKind, row: &Row) -> Option<PackageSummary> {
    Some(PackageSummary {
        address: read_address(kind, row)?,
        latest: Version::parse(read_text(row, "latest")?).ok()?,
        published_at: read_number(row, "latest_at")?,
    })
}

pub(super) fn unreadable_version(address: &PackageAddress, version: &Version) -> StoreError {
    StoreError::corrupt(format!("cannot read `{address}` {version} in the store"))
}

fn unreadable(address: &PackageAddress) -> StoreError {
    StoreError::corrupt(format!("cannot read the versions of `{address}` in the store"))
}

#[cfg(test)]
mod tests {
    use stile_core::package::source::{ModuleSource, ObjectAddress};
    use stile_core::package::{Format, versions_document};

    use super::*;
    use crate::records::model::StoredArchive;
    use crate::records::stored_object::{ObjectState, StoredObject};

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    fn address(text: &str) -> PackageAddress {
        PackageAddress::Module(text.parse().unwrap())
    }

    #[test]
    fn a_package_is_read_as_it_was_written_with_what_a_newer_program_added() {
        let address = address("acme/vpc/aws");
        let mut package = package_document::empty(&address);
        package.add(&address, &version("1.0.0"), 7);
        package.unknown.insert("note".to_owned(), "x".into());
        let [document, _] = put_package(&address, Revision(4), &package).unwrap();
        package.revision = Revision(5);
        assert_eq!(read_package(&address, document.row().unwrap()), Some(package));
    }

    #[test]
    fn a_version_is_read_as_it_was_written_and_not_at_all_if_it_is_damaged() {
        let life = Life::read(r#"{"deprecated":{"reason":"old","by":"x","at":7}}"#).unwrap();
        let claimed = Claimed::read(r#"{"environment":"jenkins","run":"7"}"#);
        for (object_version, token_id, claimed, life) in [
            (None, None, None, Life::default()),
            (Some("x".to_owned()), Some("i-0abc".to_owned()), claimed, life),
        ] {
            let has_life = life != Life::default();
            let record = VersionRecord {
                content: Content::Archive(StoredArchive {
                    sha256: "aa".to_owned(),
                    format: Format::TarGz,
                    object_version,
                }),
                bytes: 5,
                published_by: "x".to_owned(),
                published_at: 7,
                token_id,
                claimed,
                search: SearchText::new(Some("x"), ["y"], "words"),
                life,
            };
            let written = add_version(&address("acme/vpc/aws"), &version("1.0.0"), &record);
            let mut row = written.row().unwrap().clone();
            assert_eq!(read_version(&row), Some(record));
            for field in ["sha256", "format", "bytes", "published_by", "published_at"] {
                let value = row.remove(field).unwrap();
                assert_eq!(read_version(&row), None, "{field}");
                row.insert(field.to_owned(), value);
            }
            for field in ["token_id", "life"] {
                let value = row.insert(field.to_owned(), number(7));
                assert_eq!(read_version(&row), None, "{field}");
                assert_eq!(value.is_some(), has_life, "{field}");
                value.into_iter().for_each(|value| drop(row.insert(field.to_owned(), value)));
                if !has_life {
                    row.remove(field);
                }
            }
        }
    }

    /// Returns a version whose files are not in the registry.
    fn elsewhere(content: Content) -> VersionRecord {
        VersionRecord {
            content,
            bytes: 0,
            published_by: "x".to_owned(),
            published_at: 7,
            token_id: None,
            claimed: None,
            life: Life::default(),
            search: SearchText::default(),
        }
    }

    #[test]
    fn a_source_is_read_as_it_was_written_and_never_as_an_archive() {
        let source = ModuleSource::parse("git::https://h.example/vpc?ref=v1.0.0").unwrap();
        let record = elsewhere(Content::Source(source));
        let written = add_version(&address("acme/vpc/aws"), &version("1.0.0"), &record);
        let row = written.row().unwrap();
        assert_eq!(read_version(row), Some(record));
        for (name, value) in [
            ("origin", text("file:///etc/passwd")),
            ("origin", text("git::https://h.example/vpc?ref=v2.0.0")),
            ("origin", number(1)),
            ("sha256", text("ab".repeat(32))),
            ("format", text("zip")),
        ] {
            let mut changed = row.clone();
            changed.insert(name.to_owned(), value);
            assert_eq!(read_version(&changed), None, "{name}");
        }
        let mut without = row.clone();
        without.remove("origin");
        assert_eq!(read_version(&without), None, "as for a release that does not know sources");
    }

    #[test]
    fn an_object_is_read_as_it_was_written_and_never_as_an_archive() {
        let object = StoredObject {
            address: ObjectAddress::parse("s3://bucket/vpc.zip").unwrap(),
            sha256: "ab".repeat(32),
            format: Format::Zip,
            bytes: 7,
            state: ObjectState::Version("v1".to_owned()),
        };
        let record = elsewhere(Content::Object(object));
        let written = add_version(&address("acme/vpc/aws"), &version("1.0.0"), &record);
        let row = written.row().unwrap();
        assert_eq!(read_version(row), Some(record));
        for removed in ["origin", "object_version"] {
            let mut without = row.clone();
            without.remove(removed);
            assert_eq!(read_version(&without), None, "{removed}");
        }
    }

    #[test]
    fn four_thousand_versions_fit_and_a_document_that_is_too_large_is_not_written() {
        let address = address("acme/vpc/aws");
        let of = |mut versions: Vec<Version>| {
            versions.sort();
            let document = serde_json::from_str(&versions_document(versions.iter())).unwrap();
            package_document::read(&address, document, 0, serde_json::Map::new()).unwrap()
        };
        let numbered = |n: u64| version(&format!("{}.{}.{}", n / 400, n / 20 % 20, n % 20));
        let package = of((0..4000).map(numbered).collect());
        let [document, _] = put_package(&address, Revision(0), &package).unwrap();
        let compressed = read_bytes(document.row().unwrap(), "document").unwrap().len();
        assert!(compressed < compression::MAX_COMPRESSED / 4, "{compressed} bytes");
        let random = |_| {
            let mut bytes = [0; 24];
            getrandom::fill(&mut bytes).unwrap();
            version(&format!("1.0.0-x{}", hex::encode(bytes)))
        };
        let package = of((0..20_000).map(random).collect());
        assert!(put_package(&address, Revision(0), &package).is_none());
    }

    #[test]
    fn a_module_without_a_listed_version_keeps_its_item_in_the_list() {
        let address = address("acme/vpc/aws");
        let mut package = package_document::empty(&address);
        package.add(&address, &version("1.0.0"), 7);
        package.remove(&address, &version("1.0.0"));
        let [document, listed] = put_package(&address, Revision(4), &package).unwrap();
        assert!(document.row().unwrap().get("latest").is_none());
        let listed = listed.row().unwrap();
        assert_eq!(read_summary(PackageKind::Module, listed), None);
        assert_eq!(read_address(PackageKind::Module, listed), Some(address));
    }

    #[test]
    fn a_module_is_read_from_its_list_item() {
        let address = address("a-b/vpc/aws");
        let mut package = package_document::empty(&address);
        package.add(&address, &version("1.0.0"), 7);
        let [_, listed] = put_package(&address, Revision(0), &package).unwrap();
        let summary = read_summary(PackageKind::Module, listed.row().unwrap()).unwrap();
        assert_eq!(
            (summary.address, summary.latest, summary.published_at),
            (address, version("1.0.0"), 7)
        );
        assert_eq!(read_summary(PackageKind::Module, &Row::new()), None);
    }
}
