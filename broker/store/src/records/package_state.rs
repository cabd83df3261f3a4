//! Everything that the store records of one package, and whether the parts agree. The records of the
//! versions are the truth: the list of versions is made from them.

use std::collections::{BTreeMap, BTreeSet};

use stile_core::audit::{self, Chain, Kept};
use stile_core::package::{PackageAddress, Version};

use super::model::{PackageRecord, Revision, VersionRecord};
use super::mutation::{Mutation, Outcome};
use super::packages::search_text;
use super::provider_document::DistrustedKeys;
use super::{Records, package_document};
use crate::retry::Retry;
use crate::{PackageFault, PackageFaultKind, Relisted, StoreError};
use serde_json::{Map, Value};

/// Everything that the store records of one package.
#[derive(Debug)]
pub(crate) struct PackageState {
    pub(crate) list: StoredList,
    /// The latest version with its time, in each place that has it. `None` where there is none.
    pub(crate) latest: Vec<Option<(String, i64)>>,
    /// The versions, each with its record. `None` if this program cannot read the record.
    ///
    /// A backend reads them after the list. So a version of which it reads only the record was added
    /// later, and then the list has another revision now.
    pub(crate) versions: BTreeMap<String, Option<VersionRecord>>,
    /// The signing keys of the namespace that are compromised, for the document of a provider.
    pub(crate) distrusted: DistrustedKeys,
}

/// The list of a package's versions as the backend found it.
#[derive(Debug)]
pub(crate) enum StoredList {
    /// There is none.
    Absent,
    /// This program cannot read it. Without a revision, it cannot replace it, either. It has the fields
    /// outside of the document that a newer program added.
    Unreadable(Option<Revision>, Map<String, Value>),
    /// It is readable.
    Readable(PackageRecord),
}

impl PackageState {
    /// Returns the versions that the list must have, each with its record.
    fn published(&self) -> BTreeMap<Version, &VersionRecord> {
        let published = self.versions.iter().filter_map(|(text, record)| {
            let record = record.as_ref().filter(|record| record.is_listed())?;
            Some((Version::parse(text).ok()?, record))
        });
        published.collect()
    }

    /// Returns the list with another description of its versions, if it is not as the records say it.
    pub(crate) fn described(&self, address: &PackageAddress) -> Option<PackageRecord> {
        let StoredList::Readable(package) = &self.list else { return None };
        let mut described = package.clone();
        for (version, record) in self.published() {
            described.describe(address, &version, record, &self.distrusted);
        }
        described.set_warnings(address);
        (described.document != package.document).then_some(described)
    }

    /// Returns what is wrong with the records and the list of a package, in order.
    pub(crate) fn faults(&self, address: &PackageAddress) -> BTreeSet<PackageFault> {
        let fault = |version: Option<String>, kind| PackageFault { version, kind };
        let unreadable = self.versions.iter().filter(|(_, record)| record.is_none());
        let mut faults: BTreeSet<_> = unreadable
            .map(|(text, _)| fault(Some(text.clone()), PackageFaultKind::UnreadableVersion))
            .collect();
        let is_complete = faults.is_empty();
        let published = self.published();
        let listed = match &self.list {
            StoredList::Absent => BTreeSet::new(),
            StoredList::Unreadable(..) => {
                faults.insert(fault(None, PackageFaultKind::UnreadableList));
                return faults;
            }
            StoredList::Readable(package) => package.versions.iter().cloned().collect(),
        };
        let missing = published.keys().filter(|version| !listed.contains(version));
        faults.extend(
            missing.map(|version| fault(Some(version.to_string()), PackageFaultKind::NotListed)),
        );
        for version in listed.iter().filter(|version| !published.contains_key(version)) {
            let text = version.to_string();
            let kind = match self.versions.get(&text) {
                None => PackageFaultKind::ListedWithoutRecord,
                Some(Some(_)) => PackageFaultKind::ListedUnpublished,
                // Nobody knows whether it is published.
                Some(None) => continue,
            };
            faults.insert(fault(Some(text), kind));
        }
        if is_complete && faults.is_empty() && self.described(address).is_some() {
            faults.insert(fault(None, PackageFaultKind::WrongDescription));
        }
        // A latest version that follows from another fault is no fault of its own.
        let expected = self.expected_latest(&published);
        if is_complete && faults.is_empty() && self.latest.iter().any(|found| *found != expected) {
            faults.insert(fault(None, PackageFaultKind::WrongLatest));
        }
        faults
    }

    fn expected_latest(
        &self,
        published: &BTreeMap<Version, &VersionRecord>,
    ) -> Option<(String, i64)> {
        let StoredList::Readable(package) = &self.list else { return None };
        let latest = package.latest()?;
        let record = published.get(latest)?;
        Some((latest.to_string(), record.published_at))
    }

    /// Returns the list as the records of the versions say it, and keeps what a newer program added to
    /// it.
    ///
    /// # Errors
    ///
    /// The reason why the list must stay.
    fn rebuilt(&self, address: &PackageAddress) -> Result<PackageRecord, Relisted> {
        if self.versions.values().any(Option::is_none) {
            return Err(Relisted::Unreadable);
        }
        let mut package = match &self.list {
            StoredList::Absent => package_document::empty(address),
            StoredList::Unreadable(revision, unknown) => PackageRecord {
                revision: revision.ok_or(Relisted::Unreadable)?,
                unknown: unknown.clone(),
                ..package_document::empty(address)
            },
            StoredList::Readable(package) => package.clone(),
        };
        let has_no_record = |version: &&Version| !self.versions.contains_key(&version.to_string());
        let lost = package.versions.iter().filter(has_no_record).count();
        if lost > 1 && lost > package.versions.len() / 2 {
            return Err(Relisted::RecordsLost);
        }
        let published = self.published();
        for version in package.versions.clone() {
            if !published.contains_key(&version) {
                package.remove(address, &version);
            }
        }
        for (version, record) in &published {
            package.add(address, version, record.published_at);
            package.describe(address, version, record, &self.distrusted);
        }
        package.set_warnings(address);
        let latest = package.latest().and_then(|latest| published.get(latest));
        package.latest_at = latest.map_or(0, |latest| latest.published_at);
        package.set_source(address, latest.and_then(|latest| latest.claimed.as_ref()));
        Ok(package)
    }
}

impl Records {
    /// Makes the list of a package as the records of its versions say it.
    ///
    /// Writers can change the package meanwhile, because every change of a version in the list changes
    /// the list's revision.
    pub(crate) async fn relist(
        &self,
        address: &PackageAddress,
        kept: &Kept,
    ) -> Result<Relisted, StoreError> {
        let mut retry = Retry::default();
        loop {
            let state = self.package_state(address).await?;
            if !state.faults(address).iter().any(|fault| fault.kind.is_of_the_list()) {
                return Ok(Relisted::Unchanged);
            }
            let package = match state.rebuilt(address) {
                Ok(package) => package,
                Err(stays) => return Ok(stays),
            };
            let latest =
                package.latest().and_then(|latest| state.versions.get(&latest.to_string()));
            let mut mutations = Vec::new();
            if let Some(Some(record)) = latest {
                mutations.extend(search_text(address, record));
            }
            let (chain, changed) = (Chain::from(address.namespace()), audit::Outcome::Changed);
            let (address, before) = (address.clone(), package.revision);
            mutations.push(Mutation::PutPackage { address, before, package });
            match self.commit_audited(&chain, mutations, kept, changed).await? {
                Outcome::Done => return Ok(Relisted::Done),
                Outcome::TooLarge => return Ok(Relisted::TooLarge),
                Outcome::Refused(_) | Outcome::Conflict => retry.wait().await?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};
    use stile_core::package::{Format, Life, SearchText};

    use super::*;
    use crate::records::model::{Content, StoredArchive};

    fn address() -> PackageAddress {
        PackageAddress::Module("acme/vpc/aws".parse().unwrap())
    }

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    fn record(published_at: i64, is_published: bool) -> VersionRecord {
        let unpublished = r#"{"unpublished":{"reason":"bad","by":"x","at":9}}"#;
        let archive =
            StoredArchive { sha256: "aa".to_owned(), format: Format::Zip, object_version: None };
        VersionRecord {
            content: Content::Archive(archive),
            bytes: 1,
            published_by: "x".to_owned(),
            published_at,
            token_id: None,
            claimed: None,
            life: if is_published { Life::default() } else { Life::read(unpublished).unwrap() },
            search: SearchText::default(),
        }
    }

    /// Returns a package in which 1.0.0 and 1.1.0 are published, and 2.0.0 is unpublished.
    fn right() -> PackageState {
        let mut package = package_document::empty(&address());
        package.revision = Revision(4);
        for (at, text) in [(1, "1.0.0"), (2, "1.1.0")] {
            package.add(&address(), &version(text), at);
        }
        let versions = [(1, "1.0.0", true), (2, "1.1.0", true), (3, "2.0.0", false)];
        PackageState {
            list: StoredList::Readable(package),
            latest: vec![Some(("1.1.0".to_owned(), 2))],
            versions: versions
                .map(|(at, text, listed)| (text.to_owned(), Some(record(at, listed))))
                .into(),
            distrusted: DistrustedKeys::new(),
        }
    }

    fn found(state: &PackageState) -> Vec<(String, &'static str)> {
        let faults = state.faults(&address());
        let text = |fault: PackageFault| (fault.version.unwrap_or_default(), fault.kind.as_str());
        faults.into_iter().map(text).collect()
    }

    fn list(state: &mut PackageState) -> &mut PackageRecord {
        match &mut state.list {
            StoredList::Readable(package) => package,
            other => panic!("{other:?}"),
        }
    }

    /// Checks what is wrong, and that the rebuilt list is that of [`right`].
    fn check(change: impl FnOnce(&mut PackageState), expected: &[(&str, &str)]) {
        let mut state = right();
        change(&mut state);
        let found = found(&state);
        let found: Vec<_> = found.iter().map(|(text, kind)| (text.as_str(), *kind)).collect();
        assert_eq!(found, expected);
        let rebuilt = state.rebuilt(&address()).unwrap();
        let before = right();
        let StoredList::Readable(right) = before.list else { unreachable!() };
        assert_eq!(
            (&rebuilt.document, &rebuilt.versions, rebuilt.latest_at),
            (&right.document, &right.versions, right.latest_at),
            "{expected:?}"
        );
    }

    #[test]
    fn each_difference_between_records_and_list_is_named_and_repaired() {
        check(|_| {}, &[]);
        check(
            |state| list(state).remove(&address(), &version("1.1.0")),
            &[("1.1.0", "not_listed")],
        );
        check(
            |state| list(state).add(&address(), &version("1.2.0"), 9),
            &[("1.2.0", "listed_without_record")],
        );
        check(
            |state| list(state).add(&address(), &version("2.0.0"), 9),
            &[("2.0.0", "listed_unpublished")],
        );
        check(
            |state| state.list = StoredList::Absent,
            &[("1.0.0", "not_listed"), ("1.1.0", "not_listed")],
        );
        check(
            |state| state.list = StoredList::Unreadable(Some(Revision(7)), Map::new()),
            &[("", "unreadable_list")],
        );
        for latest in [None, Some(("1.0.0".to_owned(), 2)), Some(("1.1.0".to_owned(), 3))] {
            check(|state| state.latest.push(latest), &[("", "wrong_latest")]);
        }
    }

    #[test]
    fn a_package_of_which_no_version_is_published_needs_no_list() {
        let mut state = right();
        state.versions.values_mut().for_each(|found| *found = Some(record(1, false)));
        state.latest = vec![None];
        assert_eq!(found(&state).len(), 2, "the list still has them");
        state.list = StoredList::Absent;
        assert_eq!(found(&state), []);
    }

    #[test]
    fn a_list_is_not_rebuilt_if_a_record_or_its_revision_cannot_be_read() {
        let mut state = right();
        state.versions.insert("1.1.0".to_owned(), None);
        assert_eq!(found(&state), [("1.1.0".to_owned(), "unreadable_version")]);
        let unreadable = Err(Relisted::Unreadable);
        assert_eq!(state.rebuilt(&address()), unreadable, "1.1.0 would no longer be listed");
        let mut state = right();
        state.list = StoredList::Unreadable(None, Map::new());
        assert_eq!(state.rebuilt(&address()), unreadable, "it would replace another change");
    }

    #[test]
    fn a_list_is_not_emptied_if_most_of_its_records_are_gone() {
        let mut state = right();
        state.versions.remove("1.1.0");
        assert!(state.rebuilt(&address()).is_ok(), "one of two");
        state.versions.remove("1.0.0");
        assert_eq!(state.rebuilt(&address()), Err(Relisted::RecordsLost));
    }

    #[test]
    fn a_rebuilt_list_keeps_what_a_newer_program_added() {
        let document =
            json!({"modules": [{"versions": [{"version": "1.1.0", "more": 1}]}], "x": 2});
        let mut state = right();
        state.list = StoredList::Readable(
            package_document::read(&address(), document, 2, Map::new()).unwrap(),
        );
        let rebuilt = state.rebuilt(&address()).unwrap();
        let versions = json!([{"version": "1.0.0"}, {"version": "1.1.0", "more": 1}]);
        assert_eq!(rebuilt.document, json!({"modules": [{"versions": versions}], "x": 2}));
    }
}
