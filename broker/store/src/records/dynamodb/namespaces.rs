//! Namespaces, one item for each, all in one partition. An item for each limited namespace counts
//! what it has.
//!
//! The broker may write the counts, and not the records with the limits. A count is for one revision
//! of the limits, so a version is added only under the current limits.

use std::collections::{BTreeMap, HashMap};

use stile_core::critical;
use stile_core::package::source::AllowedSources;
use stile_protocol::names::Namespace;

use super::DynamoDb;
use super::attributes::{Row, number, read_number, read_text, text};
use super::table::{Key, Write};
use crate::records::model::{CountedUsage, Quota, RecordedNamespace};
use crate::records::namespaces::{StoredNamespace, readable};
use crate::records::quota::LIMITS;
use crate::retry::Retry;
use crate::{NamespaceLimits, NamespaceRecord, NamespaceUsage, StoreError};

/// The partition of all namespaces. It is not `namespace N`, which lists the grants on N.
const ALL: &str = "namespaces";

/// The attribute with the revision of the limits, in a record and in a count.
const REVISION: &str = "limits_revision";

/// The attribute with the allowed sources, as text.
const SOURCES: &str = "sources";

/// The largest number of rows in one batch (`BatchGetItem`).
const BATCH: usize = 100;

impl DynamoDb {
    /// Returns the record of a namespace, if it has one.
    pub(crate) async fn namespace_record(
        &self,
        namespace: &Namespace,
    ) -> Result<Option<StoredNamespace>, StoreError> {
        Ok(self.row(&key(namespace)).await?.map(|row| record(&row)))
    }

    /// Returns all records of namespaces, in order.
    pub(crate) async fn namespace_records(&self) -> Result<Vec<StoredNamespace>, StoreError> {
        let mut records = Vec::new();
        self.query(ALL, "", |row| {
            records.push(row.and_then(|row| record(&row)));
            false
        })
        .await?;
        Ok(records)
    }

    /// Reads several rows in one call, and the quota of a namespace. `None` means that the namespace
    /// has no limit.
    pub(super) async fn rows_and_quota(
        &self,
        namespace: &Namespace,
        keys: &[Key],
    ) -> Result<(HashMap<Key, Row>, Option<Quota>), StoreError> {
        let keys = [keys, &[key(namespace), usage_key(namespace)]].concat();
        let mut retry = Retry::default();
        loop {
            let found = self.rows(&keys).await?;
            let Some(row) = found.get(&key(namespace)) else { return Ok((found, None)) };
            let recorded = readable(record(row), namespace)?;
            let limits = recorded.record.limits;
            if limits.is_unlimited() {
                return Ok((found, None));
            }
            let counted = usage(namespace, found.get(&usage_key(namespace)))?;
            let current =
                |counted: &CountedUsage| counted.limits_revision == recorded.limits_revision;
            if let Some(counted) = counted.filter(current) {
                let CountedUsage { limits_revision, used } = counted;
                return Ok((found, Some(Quota { limits, limits_revision, used })));
            }
            // The rows of a batch are not of one moment, and an operator set the limits in between.
            retry.wait().await?;
        }
    }

    /// Returns what a namespace with limits has, as the versions were counted.
    pub(crate) async fn counted_usage(
        &self,
        namespace: &Namespace,
    ) -> Result<Option<CountedUsage>, StoreError> {
        usage(namespace, self.row(&usage_key(namespace)).await?.as_ref())
    }

    /// Returns what those of the namespaces have that have limits.
    pub(crate) async fn usages(
        &self,
        namespaces: &[Namespace],
    ) -> Result<BTreeMap<Namespace, NamespaceUsage>, StoreError> {
        let mut usages = BTreeMap::new();
        for some in namespaces.chunks(BATCH) {
            let found = self.rows(&some.iter().map(usage_key).collect::<Vec<_>>()).await?;
            for namespace in some {
                if let Some(counted) = usage(namespace, found.get(&usage_key(namespace)))? {
                    usages.insert(namespace.clone(), counted.used);
                }
            }
        }
        Ok(usages)
    }

    /// Returns the writes that set the limits of a namespace, and the count for them. `None` if the
    /// record has changed since the read.
    ///
    /// It puts the whole item, including what a newer program added, because operators have no
    /// permission to update items.
    pub(super) async fn set_limits(
        &self,
        before: Option<&RecordedNamespace>,
        after: &NamespaceRecord,
        counted: Option<&CountedUsage>,
        used: NamespaceUsage,
    ) -> Result<Option<Vec<Write>>, StoreError> {
        let key = key(&after.namespace);
        let found = self.row(&key).await?;
        let mut row = match &found {
            Some(row) if record(row).as_ref() == before => row.clone(),
            None if before.is_none() => attributes(after),
            _ => return Ok(None),
        };
        let revision = before.map_or(0, |before| before.limits_revision);
        let next = revision.saturating_add(1);
        row.insert(REVISION.to_owned(), number(next));
        let NamespaceLimits { max_bytes, max_versions } = after.limits;
        for (name, limit) in LIMITS.into_iter().zip([max_bytes, max_versions]) {
            match limit {
                Some(limit) => row.insert(name.to_owned(), number(signed(limit))),
                None => row.remove(name),
            };
        }
        match after.limits.crit() {
            Some(crit) => row.insert(critical::CRIT.to_owned(), text(crit)),
            None => row.remove(critical::CRIT),
        };
        let row = row.iter().map(|(name, value)| (name.as_str(), value.clone()));
        let record = only_if_unchanged(Write::put(key, row), found.as_ref());
        Ok(Some(std::iter::once(record).chain(count_write(after, next, counted, used)).collect()))
    }

    /// Returns the write that sets the allowed sources of a namespace. `None` if the record has
    /// changed since the read.
    pub(super) async fn set_sources(
        &self,
        before: Option<&RecordedNamespace>,
        after: &NamespaceRecord,
    ) -> Result<Option<Write>, StoreError> {
        let key = key(&after.namespace);
        let found = self.row(&key).await?;
        let mut row = match &found {
            Some(row) if record(row).as_ref() == before => row.clone(),
            None if before.is_none() => attributes(after),
            _ => return Ok(None),
        };
        match after.sources.to_text() {
            Some(sources) => row.insert(SOURCES.to_owned(), text(sources)),
            None => row.remove(SOURCES),
        };
        let row = row.iter().map(|(name, value)| (name.as_str(), value.clone()));
        Ok(Some(only_if_unchanged(Write::put(key, row), found.as_ref())))
    }
}

/// Adds the condition that nobody has changed the record of a namespace since the read. A write puts
/// the whole item, so it would undo such a change.
fn only_if_unchanged(write: Write, found: Option<&Row>) -> Write {
    let Some(found) = found else { return write.only_if_absent() };
    let (revision, sources) = (found.get(REVISION), found.get(SOURCES));
    let mut write = write.only_if(match (revision, sources) {
        (None, None) => {
            "attribute_exists(pk) AND attribute_not_exists(limits_revision) AND attribute_not_exists(sources)"
        }
        (None, Some(_)) => "attribute_not_exists(limits_revision) AND sources = :sources",
        (Some(_), None) => "limits_revision = :revision AND attribute_not_exists(sources)",
        (Some(_), Some(_)) => "limits_revision = :revision AND sources = :sources",
    });
    for (name, value) in [(":revision", revision), (":sources", sources)] {
        if let Some(value) = value {
            write = write.value(name, value.clone());
        }
    }
    write
}

/// Returns the write of the count for new limits, if it must not have changed since the read.
fn count_write(
    record: &NamespaceRecord,
    revision: i64,
    counted: Option<&CountedUsage>,
    used: NamespaceUsage,
) -> Option<Write> {
    let key = usage_key(&record.namespace);
    if record.limits.is_unlimited() {
        return counted.map(|_| Write::delete(key));
    }
    let count = Write::put(
        key,
        [
            (REVISION, number(revision)),
            ("used_bytes", number(signed(used.bytes))),
            ("used_versions", number(signed(used.versions))),
        ],
    );
    Some(match counted {
        None => count.only_if_absent(),
        Some(before) => count
            .only_if("used_bytes = :bytes AND used_versions = :versions")
            .value(":bytes", number(signed(before.used.bytes)))
            .value(":versions", number(signed(before.used.versions))),
    })
}

/// Returns the write that counts bytes, and a version if it `is_new`, if the limits are still those of the quota, and the
/// namespace has room. A condition has no arithmetic, so it compares with the room that is left.
pub(super) fn count_version(
    namespace: &Namespace,
    bytes: u64,
    is_new: bool,
    quota: &Quota,
) -> Write {
    let room = |max: Option<u64>, more: u64| number(max.map_or(i64::MAX, signed) - signed(more));
    let NamespaceLimits { max_bytes, max_versions } = quota.limits;
    // A version without bytes fits even above a lowered limit.
    let max_bytes = max_bytes.filter(|_| bytes > 0);
    let max_versions = max_versions.filter(|_| is_new);
    let one = u64::from(is_new);
    Write::update(
        usage_key(namespace),
        "SET used_bytes = used_bytes + :bytes, used_versions = used_versions + :one",
    )
    .only_if(
        "limits_revision = :revision AND used_bytes <= :room_bytes AND used_versions <= :room_versions",
    )
    .value(":bytes", number(signed(bytes)))
    .value(":one", number(signed(one)))
    .value(":revision", number(quota.limits_revision))
    .value(":room_bytes", room(max_bytes, bytes))
    .value(":room_versions", room(max_versions, one))
}

/// Creates the write that adds a record, if there is none.
pub(super) fn add(record: &NamespaceRecord) -> Write {
    let row = attributes(record);
    let row = row.iter().map(|(name, value)| (name.as_str(), value.clone()));
    Write::put(key(&record.namespace), row).only_if_absent()
}

/// Returns the attributes of a record without limits and without allowed sources.
fn attributes(record: &NamespaceRecord) -> Row {
    [
        ("created_by".to_owned(), text(record.created_by.as_str())),
        ("created_at".to_owned(), number(record.created_at)),
    ]
    .into()
}

pub(super) fn key(namespace: &Namespace) -> Key {
    Key::new(ALL, namespace.as_str())
}

fn usage_key(namespace: &Namespace) -> Key {
    Key::new(format!("usage {namespace}"), "usage")
}

pub(super) fn record(row: &Row) -> StoredNamespace {
    // A `crit` that is not a list of names is not understood, either.
    let crit = row.contains_key(critical::CRIT).then(|| {
        let text = read_text(row, critical::CRIT);
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    });
    if !critical::understood(crit.as_ref(), &LIMITS) {
        return None;
    }
    let limit = |name: &str| match row.get(name) {
        None => Some(None),
        Some(_) => Some(Some(read_number(row, name)?.try_into().ok()?)),
    };
    let [max_bytes, max_versions] = LIMITS;
    let record = NamespaceRecord {
        namespace: read_text(row, super::table::SK)?.parse().ok()?,
        created_by: read_text(row, "created_by")?.to_owned(),
        created_at: read_number(row, "created_at")?,
        limits: NamespaceLimits {
            max_bytes: limit(max_bytes)?,
            max_versions: limit(max_versions)?,
        },
        sources: match row.get(SOURCES) {
            None => AllowedSources::default(),
            Some(_) => AllowedSources::read(Some(read_text(row, SOURCES)?)),
        },
    };
    // A limit that is named and has no value would be a restriction that nobody keeps.
    if crit.is_some_and(|crit| !record.limits.has_all(&crit)) {
        return None;
    }
    let limits_revision = match row.get(REVISION) {
        None => 0,
        Some(_) => read_number(row, REVISION)?,
    };
    Some(RecordedNamespace { record, limits_revision })
}

fn usage(namespace: &Namespace, row: Option<&Row>) -> Result<Option<CountedUsage>, StoreError> {
    let Some(row) = row else { return Ok(None) };
    let read = |name: &str| u64::try_from(read_number(row, name)?).ok();
    let counted = || {
        let used = NamespaceUsage { bytes: read("used_bytes")?, versions: read("used_versions")? };
        Some(CountedUsage { limits_revision: read_number(row, REVISION)?, used })
    };
    counted().map(Some).ok_or_else(|| {
        StoreError::corrupt(format!(
            "cannot read the usage of namespace `{namespace}` in the store"
        ))
    })
}

fn signed(value: u64) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected() -> NamespaceRecord {
        NamespaceRecord {
            namespace: "acme".parse().unwrap(),
            created_by: "local:alice".to_owned(),
            created_at: 7,
            limits: NamespaceLimits::default(),
            sources: AllowedSources::default(),
        }
    }

    #[test]
    fn a_record_is_read_from_its_item_and_a_malformed_item_is_not_a_record() {
        let write = add(&expected());
        let row = write.row().unwrap();
        let recorded = RecordedNamespace { record: expected(), limits_revision: 0 };
        assert_eq!(record(row), Some(recorded));
        let with = |name: &str, value: aws_sdk_dynamodb::types::AttributeValue| {
            let mut changed = row.clone();
            changed.insert(name.to_owned(), value);
            record(&changed).map(|recorded| recorded.record.limits)
        };
        assert!(with("note", text("{}")).is_some(), "a newer program added a setting");
        let limit = NamespaceLimits { max_bytes: Some(5), max_versions: None };
        assert_eq!(with("max_bytes", number(5)), Some(limit));
        assert_eq!(with("crit", text(r#"["max_bytes"]"#)), None, "its value is missing");
        for (name, value) in [
            ("created_at", text("7")),
            ("max_bytes", text("5")),
            ("max_versions", number(-1)),
            ("limits_revision", text("1")),
            ("crit", text(r#"["hours"]"#)),
            ("crit", text("max_bytes")),
            ("crit", number(1)),
            ("sources", number(1)),
        ] {
            assert_eq!(with(name, value), None, "{name}");
        }
    }

    #[test]
    fn a_record_is_replaced_only_if_its_limits_and_its_sources_are_as_they_were_read() {
        for (attributes, expected) in [
            (
                vec![],
                vec!["attribute_exists(pk)", "not_exists(limits_revision)", "not_exists(sources)"],
            ),
            (vec![REVISION], vec!["limits_revision = :revision", "not_exists(sources)"]),
            (vec![SOURCES], vec!["not_exists(limits_revision)", "sources = :sources"]),
            (vec![REVISION, SOURCES], vec!["limits_revision = :revision", "sources = :sources"]),
        ] {
            let row: Row = attributes.iter().map(|name| ((*name).to_owned(), text("x"))).collect();
            let write = only_if_unchanged(Write::put(key(&expected_namespace()), []), Some(&row));
            for part in expected {
                assert!(write.condition().unwrap().contains(part), "{attributes:?} {part}");
            }
        }
        let write = only_if_unchanged(Write::put(key(&expected_namespace()), []), None);
        assert_eq!(write.condition(), Some("attribute_not_exists(pk)"));
    }

    fn expected_namespace() -> Namespace {
        expected().namespace
    }

    #[test]
    fn a_count_is_read_as_it_was_written_and_a_malformed_one_is_an_error() {
        let record = NamespaceRecord {
            limits: NamespaceLimits { max_bytes: Some(9), max_versions: None },
            ..expected()
        };
        let used = NamespaceUsage { bytes: 5, versions: 1 };
        let write = count_write(&record, 3, None, used).unwrap();
        let mut row = write.row().unwrap().clone();
        let counted = CountedUsage { limits_revision: 3, used };
        assert_eq!(usage(&record.namespace, Some(&row)).unwrap(), Some(counted));
        assert_eq!(usage(&record.namespace, None).unwrap(), None);
        for name in ["used_bytes", "used_versions", REVISION] {
            let value = row.insert(name.to_owned(), text("5")).unwrap();
            usage(&record.namespace, Some(&row)).unwrap_err();
            row.insert(name.to_owned(), value);
        }
        assert!(
            count_write(&expected(), 3, None, used).is_none(),
            "without limits, nothing counts"
        );
    }
}
