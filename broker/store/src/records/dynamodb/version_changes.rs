//! Changes of the item of a version: its object, or its life.

use aws_sdk_dynamodb::types::AttributeValue;
use stile_core::package::provider::Release;
use stile_core::package::{Life, PackageAddress, Version};

use super::DynamoDb;
use super::attributes::{Row, number, read_text, text};
use super::packages::{read_version, unreadable_version, version_key};
use super::table::{Key, Write};
use crate::StoreError;
use crate::records::model::Content;
use crate::records::stored_object::StoredObject;

/// The attributes of a version that a change can replace, and their names in a condition.
const CHANGING: [(&str, &str); 4] = [
    ("life", ":life"),
    ("object_version", ":object_version"),
    ("origin", ":origin"),
    ("provider_release", ":provider_release"),
];

impl DynamoDb {
    /// Returns the write that changes which object a version uses. `None` if the version does not
    /// exist.
    ///
    /// It puts the whole item, including what a newer program added. An update of a part needs
    /// another permission in AWS, which the broker has for pins only.
    pub(super) async fn moved_archive(
        &self,
        address: &PackageAddress,
        version: &Version,
        sha256: &str,
        object_version: Option<&str>,
    ) -> Result<Option<Write>, StoreError> {
        let key = version_key(address, version);
        let Some(row) = self.row(&key).await? else { return Ok(None) };
        if read_text(&row, "sha256") != Some(sha256) {
            return Ok(None);
        }
        Ok(Some(changed(key, &row, [("object_version", object_version.map(text))])))
    }

    /// Returns the write that changes the object of a version. `None` if the version does not exist, or
    /// has another object.
    pub(super) async fn replaced_object(
        &self,
        address: &PackageAddress,
        version: &Version,
        before: &StoredObject,
        after: &StoredObject,
    ) -> Result<Option<Write>, StoreError> {
        let key = version_key(address, version);
        let Some(row) = self.row(&key).await? else { return Ok(None) };
        let record = read_version(&row).ok_or_else(|| unreadable_version(address, version))?;
        match record.content {
            Content::Object(object) if object == *before => {}
            _ => return Ok(None),
        }
        let changes = [
            ("object_version", after.state.version().map(text)),
            ("origin", Some(text(after.origin()))),
        ];
        Ok(Some(changed(key, &row, changes)))
    }

    /// Returns the write that replaces the files of a provider's version. `None` if the version does not
    /// exist, or has another release.
    pub(super) async fn replaced_release(
        &self,
        address: &PackageAddress,
        version: &Version,
        before: &Release,
        after: &Release,
    ) -> Result<Option<Write>, StoreError> {
        let key = version_key(address, version);
        let Some(row) = self.row(&key).await? else { return Ok(None) };
        let record = read_version(&row).ok_or_else(|| unreadable_version(address, version))?;
        match record.content {
            Content::Provider(release) if release == *before => {}
            _ => return Ok(None),
        }
        // The digest and the length follow from the release, which the condition compares.
        let changes = [
            ("sha256", Some(text(after.sha256()))),
            ("bytes", Some(number(after.bytes().try_into().unwrap_or(i64::MAX)))),
            ("provider_release", Some(text(after.to_text()))),
        ];
        Ok(Some(changed(key, &row, changes)))
    }

    /// Returns the write that changes the life of a version. `None` if the version does not exist, or
    /// has another life.
    pub(super) async fn changed_life(
        &self,
        address: &PackageAddress,
        version: &Version,
        before: &Life,
        after: &Life,
    ) -> Result<Option<Write>, StoreError> {
        let key = version_key(address, version);
        let Some(row) = self.row(&key).await? else { return Ok(None) };
        let record = read_version(&row).ok_or_else(|| unreadable_version(address, version))?;
        if record.life != *before {
            return Ok(None);
        }
        Ok(Some(changed(key, &row, [("life", after.to_text().map(text))])))
    }
}

/// Returns the write that puts the item of a version with other values of these attributes, if nobody
/// has changed the item since the read.
fn changed<const N: usize>(
    key: Key,
    before: &Row,
    changes: [(&str, Option<AttributeValue>); N],
) -> Write {
    let mut row = before.clone();
    for (name, value) in changes {
        match value {
            Some(value) => row.insert(name.to_owned(), value),
            None => row.remove(name),
        };
    }
    let row = row.iter().map(|(name, value)| (name.as_str(), value.clone()));
    // The other attributes of a version never change.
    let mut conditions = vec!["attribute_exists(pk)".to_owned()];
    let mut values = Vec::new();
    for (name, placeholder) in CHANGING {
        match before.get(name) {
            Some(value) => {
                conditions.push(format!("{name} = {placeholder}"));
                values.push((placeholder, value.clone()));
            }
            None => conditions.push(format!("attribute_not_exists({name})")),
        }
    }
    let write = Write::put(key, row).only_if(conditions.join(" AND "));
    values.into_iter().fold(write, |write, (name, value)| write.value(name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        let address = PackageAddress::Module("acme/vpc/aws".parse().unwrap());
        version_key(&address, &Version::parse("1.0.0").unwrap())
    }

    #[test]
    fn the_item_of_a_version_is_replaced_only_if_it_is_as_it_was_read() {
        for present in 0..16_u8 {
            let has = |at: usize| present & (1 << at) != 0;
            let mut row: Row = [("note".to_owned(), text("x"))].into();
            for (at, (name, _)) in CHANGING.into_iter().enumerate() {
                if has(at) {
                    row.insert(name.to_owned(), text("before"));
                }
            }
            for (changing, _) in CHANGING {
                let write = changed(key(), &row, [(changing, Some(text("after")))]);
                let condition = write.condition().unwrap();
                assert!(condition.starts_with("attribute_exists(pk) AND "), "{condition}");
                for (at, (name, placeholder)) in CHANGING.into_iter().enumerate() {
                    let (same, absent) = (
                        format!("{name} = {placeholder}"),
                        format!("attribute_not_exists({name})"),
                    );
                    assert_eq!(condition.contains(&same), has(at), "{condition}");
                    assert_eq!(condition.contains(&absent), !has(at), "{condition}");
                }
                let after = write.row().unwrap();
                assert_eq!(
                    (after.get(changing), after.get("note")),
                    (Some(&text("after")), row.get("note"))
                );
                let without = changed(key(), &row, [(changing, None)]);
                assert!(without.row().unwrap().get(changing).is_none());
            }
        }
    }
}
