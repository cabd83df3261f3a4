//! Modules: a row a version, a ready-made `versions` document a module, and a row a module for the lists; written together.

use bytes::Bytes;
use serde::Deserialize;
use stile_protocol::names::{ModuleAddress, Namespace};

use super::Aws;
use super::document;
use super::retry::Retry;
use super::table::{
    Key, Row, Write, Written, bytes, number, read_bytes, read_number, read_text, text,
};
use crate::{Location, Package, Published, StoreError};
use stile_core::grants::PermittedNamespaces;
use stile_core::package::{
    AnnouncedArchive, Format, ModuleSummary, VerifiedArchive, Version, versions_document,
};

/// The partition of the list of all modules.
const ALL: &str = "modules";

/// Past so many namespaces a list is read as a whole and sifted, since a query each would take longer.
const QUERIES: usize = 25;

/// One version, and where its archive is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) package: Package,
    /// The version of the object in S3, which nobody can write over.
    pub(super) object_version: String,
}

/// A module's document while a version is added to it.
#[derive(Default)]
struct Document {
    revision: i64,
    versions: Vec<Version>,
    latest_at: i64,
}

/// The shape of the answer that [`versions_document`] writes.
#[derive(Deserialize)]
struct Answer {
    modules: [Listed; 1],
}

#[derive(Deserialize)]
struct Listed {
    versions: Vec<ListedVersion>,
}

#[derive(Deserialize)]
struct ListedVersion {
    version: String,
}

impl Aws {
    pub(crate) async fn versions_document(
        &self,
        address: ModuleAddress,
    ) -> Result<Option<Bytes>, StoreError> {
        let Some(row) = self.row(&document_key(&address)).await? else { return Ok(None) };
        let document =
            read_bytes(&row, "document").and_then(document::unfold).ok_or_else(unreadable)?;
        Ok(Some(document.into()))
    }

    pub(crate) async fn package(
        &self,
        address: &ModuleAddress,
        version: &Version,
    ) -> Result<Option<Package>, StoreError> {
        Ok(self.kept(address, version).await?.map(|kept| kept.package))
    }

    pub(crate) async fn location(
        &self,
        address: &ModuleAddress,
        version: &Version,
        now: i64,
        ttl: i64,
    ) -> Result<Option<Location>, StoreError> {
        let Some(kept) = self.kept(address, version).await? else { return Ok(None) };
        self.presigned(address, version, &kept, now, ttl)
            .await
            .map(|url| Some(Location::Presigned(url)))
    }

    pub(crate) async fn publish(
        &self,
        address: ModuleAddress,
        version: Version,
        archive: VerifiedArchive,
        by: String,
        now: i64,
    ) -> Result<Published, StoreError> {
        // Looked at first, so that a version that is taken costs no object; decided again in the transaction.
        if let Some(kept) = self.kept(&address, &version).await? {
            let outcome = compare(&kept.package, archive.sha256());
            let same = outcome == Published::Same && kept.package.format == archive.format();
            // An object that was lost comes back when the same bytes are sent again.
            if same && !self.is_there(&address, &version, &kept).await? {
                self.restore(&address, &version, &archive).await?;
            }
            return Ok(outcome);
        }
        let object_version = self.keep(&address, &version, &archive).await?;
        let row = [
            ("sha256", text(archive.sha256())),
            ("format", text(archive.format().extension())),
            ("bytes", number(archive.bytes().try_into().unwrap_or(i64::MAX))),
            ("object_version", text(object_version)),
            ("published_by", text(by)),
            ("published_at", number(now)),
        ];
        let mut retry = Retry::default();
        loop {
            let found = self.row(&document_key(&address)).await?;
            let mut module = found
                .as_ref()
                .map_or_else(|| Some(Document::default()), Document::read)
                .ok_or_else(unreadable)?;
            let revision = module.revision;
            module.add(&version, now);
            let Some(listed) = module.write(&address) else { return Ok(Published::Full) };
            let mut writes =
                vec![Write::put(version_key(&address, &version), row.clone()).only_if_absent()];
            writes.extend(listed.map(|(write, guarded)| {
                if guarded { write.only_if_revision(revision) } else { write }
            }));
            match self.transact(writes).await? {
                Written::Done => return Ok(Published::Created),
                // Somebody published this version meanwhile.
                Written::Refused(0) => {
                    let kept = self.kept(&address, &version).await?.ok_or_else(unreadable)?;
                    return Ok(compare(&kept.package, archive.sha256()));
                }
                // Somebody published another one, or was about to.
                Written::Refused(_) | Written::Conflict => retry.again().await?,
            }
        }
    }

    /// Puts the archive of a published version back, and has links lead to what was put.
    async fn restore(
        &self,
        address: &ModuleAddress,
        version: &Version,
        archive: &VerifiedArchive,
    ) -> Result<(), StoreError> {
        let object_version = self.keep(address, version, archive).await?;
        let mut retry = Retry::default();
        loop {
            // The whole row: to change a part of one is another right, which the broker has for pins alone.
            let mut row = self.row(&version_key(address, version)).await?.ok_or_else(unreadable)?;
            row.insert("object_version".to_owned(), text(&object_version));
            let row = row.iter().map(|(name, value)| (name.as_str(), value.clone()));
            let mended = Write::put(version_key(address, version), row)
                .only_if("sha256 = :sha256")
                .value(":sha256", text(archive.sha256()));
            match self.transact(vec![mended]).await? {
                Written::Done => {
                    tracing::warn!(module = %address, %version, "an archive that was lost in the bucket is there again");
                    return Ok(());
                }
                Written::Refused(_) => {
                    return Err(StoreError::busy(
                        "a version changed while its archive was put back",
                    ));
                }
                Written::Conflict => retry.again().await?,
            }
        }
    }

    pub(crate) async fn published(
        &self,
        address: &ModuleAddress,
        version: &Version,
        announced: &AnnouncedArchive,
    ) -> Result<Option<Published>, StoreError> {
        let Some(kept) = self.kept(address, version).await? else { return Ok(None) };
        let outcome = compare(&kept.package, &announced.sha256);
        if outcome == Published::Same && !self.is_there(address, version, &kept).await? {
            return Ok(None);
        }
        Ok(Some(outcome))
    }

    pub(crate) async fn modules(
        &self,
        reach: &PermittedNamespaces,
        namespace: Option<Namespace>,
        offset: usize,
        limit: usize,
    ) -> Result<Vec<ModuleSummary>, StoreError> {
        let within = |namespace: &Namespace| match reach {
            PermittedNamespaces::All => true,
            PermittedNamespaces::Only(namespaces) => namespaces.contains(namespace),
        };
        let prefixes: Vec<String> = match (&namespace, reach) {
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
            let mut take = |row: Row| {
                match read_summary(&row) {
                    Some(module) if !within(&module.address.namespace) => {}
                    Some(_) if skipped < offset => skipped += 1,
                    Some(module) => found.push(module),
                    None => tracing::error!(
                        alarm = "unreadable_module",
                        "a module in the store cannot be read and is not listed"
                    ),
                }
                found.len() >= limit
            };
            self.query(ALL, &prefix, &mut take).await?;
        }
        Ok(found)
    }

    async fn kept(
        &self,
        address: &ModuleAddress,
        version: &Version,
    ) -> Result<Option<Kept>, StoreError> {
        let Some(row) = self.row(&version_key(address, version)).await? else { return Ok(None) };
        read_kept(&row)
            .map(Some)
            .ok_or_else(|| StoreError::corrupt("a version in the store cannot be read"))
    }
}

impl Document {
    fn read(row: &Row) -> Option<Self> {
        let answer: Answer =
            serde_json::from_slice(&document::unfold(read_bytes(row, "document")?)?).ok()?;
        let [Listed { versions }] = answer.modules;
        Some(Self {
            revision: read_number(row, "revision")?,
            versions: versions
                .iter()
                .map(|listed| Version::parse(&listed.version).ok())
                .collect::<Option<_>>()?,
            latest_at: read_number(row, "latest_at")?,
        })
    }

    fn add(&mut self, version: &Version, now: i64) {
        let at = self.versions.partition_point(|listed| listed < version);
        if self.versions.get(at) != Some(version) {
            self.versions.insert(at, version.clone());
        }
        if self.latest() == Some(version) {
            self.latest_at = now;
        }
    }

    /// The highest version; a pre-release only where there is nothing else.
    fn latest(&self) -> Option<&Version> {
        self.versions.iter().rev().find(|version| !version.is_prerelease()).or(self.versions.last())
    }

    /// The document, which its revision guards, and the module's row in the list; `None` where it would be too large.
    fn write(&self, address: &ModuleAddress) -> Option<impl Iterator<Item = (Write, bool)>> {
        let folded = document::fold(versions_document(self.versions.iter()).as_bytes())?;
        let latest =
            [("latest", text(self.latest()?.to_string())), ("latest_at", number(self.latest_at))];
        let document =
            [("revision", number(self.revision.saturating_add(1))), ("document", bytes(folded))];
        let listed = Write::put(listed_key(address), latest.clone());
        Some(
            [
                (Write::put(document_key(address), document.into_iter().chain(latest)), true),
                (listed, false),
            ]
            .into_iter(),
        )
    }
}

fn document_key(address: &ModuleAddress) -> Key {
    Key::new(format!("module {address}"), "versions")
}

fn version_key(address: &ModuleAddress, version: &Version) -> Key {
    Key::new(format!("module {address}"), format!("version {version}"))
}

fn listed_key(address: &ModuleAddress) -> Key {
    Key::new(ALL, format!("{} {} {}", address.namespace, address.name, address.system))
}

fn read_kept(row: &Row) -> Option<Kept> {
    let package = Package {
        sha256: read_text(row, "sha256")?.to_owned(),
        format: Format::from_extension(read_text(row, "format")?)?,
    };
    Some(Kept { package, object_version: read_text(row, "object_version")?.to_owned() })
}

fn read_summary(row: &Row) -> Option<ModuleSummary> {
    Some(ModuleSummary {
        address: read_text(row, "sk")?.replace(' ', "/").parse().ok()?,
        latest: Version::parse(read_text(row, "latest")?).ok()?,
        published_at: read_number(row, "latest_at")?,
    })
}

fn compare(kept: &Package, sha256: &str) -> Published {
    if kept.sha256 == sha256 { Published::Same } else { Published::Different }
}

fn unreadable() -> StoreError {
    StoreError::corrupt("the versions of a module in the store cannot be read")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    fn row(document: &Document, address: &ModuleAddress) -> Row {
        let (write, _) = document.write(address).unwrap().next().unwrap();
        write.row().unwrap().clone()
    }

    #[test]
    fn versions_are_added_in_order_and_the_latest_is_a_release_where_there_is_one() {
        let address: ModuleAddress = "acme/vpc/aws".parse().unwrap();
        let mut document = Document::default();
        for (now, added, latest, latest_at) in [
            (1, "2.0.0-rc.1", "2.0.0-rc.1", 1),
            (2, "1.2.0", "1.2.0", 2),
            (3, "1.10.0", "1.10.0", 3),
            (4, "1.9.0", "1.10.0", 3),
            (5, "1.9.0", "1.10.0", 3),
        ] {
            document.add(&version(added), now);
            assert_eq!(
                (document.latest(), document.latest_at),
                (Some(&version(latest)), latest_at),
                "{added}"
            );
            document = Document::read(&row(&document, &address)).unwrap();
        }
        assert_eq!(document.revision, 5);
        let listed: Vec<String> = document.versions.iter().map(ToString::to_string).collect();
        assert_eq!(listed, ["1.2.0", "1.9.0", "1.10.0", "2.0.0-rc.1"]);
    }

    #[test]
    fn four_thousand_versions_fit_and_what_does_not_is_refused_before_the_table_refuses_it() {
        let address: ModuleAddress = "acme/vpc/aws".parse().unwrap();
        let numbered = |n: u64| version(&format!("{}.{}.{}", n / 400, n / 20 % 20, n % 20));
        let mut document =
            Document { versions: (0..4000).map(numbered).collect(), ..Document::default() };
        let folded = read_bytes(&row(&document, &address), "document").unwrap().len();
        assert!(folded < document::CEILING / 4, "{folded} bytes");
        let random = |_| {
            let mut bytes = [0; 24];
            getrandom::fill(&mut bytes).unwrap();
            version(&format!("1.0.0-x{}", hex::encode(bytes)))
        };
        document.versions = (0..20_000).map(random).collect();
        assert!(document.write(&address).is_none());
    }

    #[test]
    fn a_module_is_listed_by_what_its_row_says() {
        let address: ModuleAddress = "a-b/vpc/aws".parse().unwrap();
        let mut document = Document::default();
        document.add(&version("1.0.0"), 7);
        let (listed, _) = document.write(&address).unwrap().last().unwrap();
        let summary = read_summary(listed.row().unwrap()).unwrap();
        assert_eq!(
            (summary.address, summary.latest, summary.published_at),
            (address, version("1.0.0"), 7)
        );
        assert_eq!(read_summary(&Row::new()), None);
    }
}
