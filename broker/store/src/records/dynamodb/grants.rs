//! Grants: one ready-made document for each principal, which decisions read, and items for the
//! lists. The store writes them together.
//!
//! The document has a revision. A writer changes it only if it has not changed since the read.
//!
//! An entry can have fields that a newer program added. They do not change. The items of the lists
//! have each of them under its own name, as JSON text.

use serde_json::{Map, Value, json};
use stile_core::critical;
use stile_core::grants::{Grant, GrantNamespace, Pin};
use stile_core::principal::{Principal, UniqueId};
use stile_protocol::names::Permissions;

use super::attributes::{Row, bytes, number, read_bytes, read_number, read_text, text};
use super::table::{Key, TTL, Write};
use super::{DynamoDb, compression};
use crate::records::aws_groups::{MAX_ROWS, too_many};
use crate::records::grants_page::{Found, GrantsPage, Source};
use crate::records::model::{PrincipalGrants, Revision, StoredGrant};
use crate::records::mutation::GrantsChange;
use crate::records::retention::EXPIRED_GRANT_RETENTION;
use crate::{StoreError, StoreErrorKind};

/// The partition of the list of all grants.
const ALL: &str = "grants";

/// The rows that one call reads for a page of grants. A bearer can see few of them.
const ROWS: usize = 250;

/// The fields of an entry, which its `crit` may name.
const KNOWN: [&str; 5] = ["on", "may", "until", "by", "at"];

impl DynamoDb {
    /// Reads everything that a change of the principal's grants depends on.
    pub(crate) async fn principal_grants(
        &self,
        principal: &Principal,
    ) -> Result<PrincipalGrants, StoreError> {
        let (grants, folded, pin) =
            (grants_key(principal), folded_key(principal), pin_key(principal));
        let found = self.rows(&[grants.clone(), folded.clone(), pin.clone()]).await?;
        let (revision, entries) = match found.get(&grants) {
            None => (0, Vec::new()),
            Some(row) => read_document(row).ok_or_else(|| {
                StoreError::corrupt(format!(
                    "cannot read the grants of `{principal}` in the store, and did not change them"
                ))
            })?,
        };
        let same_name = found.get(&folded).and_then(|row| read_text(row, "principal"));
        Ok(PrincipalGrants {
            revision: Revision(revision),
            grants: entries.into_iter().map(|entry| stored(principal, entry)).collect(),
            same_name: same_name.map(str::to_owned),
            pin: read_pin(principal, found.get(&pin))?,
        })
    }

    /// Returns grants in order: all, those of a principal, or those on a namespace.
    pub(crate) async fn grants(
        &self,
        principal: Option<Principal>,
        namespace: Option<GrantNamespace>,
    ) -> Result<Vec<StoredGrant>, StoreError> {
        let on = namespace.map(|namespace| namespace.to_string());
        if let Some(principal) = principal {
            let row = self.row(&grants_key(&principal)).await?;
            let mut grants = of_principal(&principal, row.as_ref());
            grants.retain(|grant| on.as_ref().is_none_or(|on| grant.on == *on));
            return Ok(grants);
        }
        let mut grants = Vec::new();
        let partition = on.map_or_else(|| ALL.to_owned(), |on| namespace_partition(&on));
        self.query(&partition, "", |row| {
            grants.push(row.map_or_else(|| unreadable(""), |row| from_row(&row)));
            false
        })
        .await?;
        Ok(grants)
    }

    /// Returns the principals with a grant whose text begins with one of these.
    pub(crate) async fn granted_principals(
        &self,
        starts: &[String],
    ) -> Result<Vec<String>, StoreError> {
        let mut principals = Vec::new();
        for start in starts {
            let mut read = 0;
            self.query(ALL, start, |row| {
                let principal = row.as_ref().and_then(|row| read_text(row, "principal"));
                principals.extend(principal.map(str::to_owned));
                read += 1;
                read > MAX_ROWS
            })
            .await?;
            if read > MAX_ROWS {
                too_many(start);
            }
        }
        Ok(principals)
    }

    /// Returns one page of grants, in order.
    pub(crate) async fn grants_page(&self, page: &GrantsPage) -> Result<Found, StoreError> {
        let mut collected = page.collect();
        let after = page.after.as_ref();
        let (partition, first) = match &page.source {
            Source::Principal(principal) => {
                let row = match self.row(&grants_key(principal)).await {
                    // A document of a newer format shows nothing, as every other unreadable one.
                    Err(error) if error.kind() == StoreErrorKind::Corrupt => {
                        collected.add(unreadable(principal.as_str()));
                        return Ok(collected.finish());
                    }
                    row => row?,
                };
                for grant in of_principal(principal, row.as_ref()) {
                    if collected.add(grant) {
                        break;
                    }
                }
                return Ok(collected.finish());
            }
            // Where a list continues. The page skips the first row, if it has it already.
            Source::Namespace(on) => (
                namespace_partition(&on.to_string()),
                after.map(|after| after.principal.to_string()),
            ),
            Source::All => (
                ALL.to_owned(),
                after.map(|after| list_sort_key(&after.principal, &after.namespace.to_string())),
            ),
        };
        self.query_pages_from(&partition, &first.unwrap_or_default(), ROWS, |row| {
            collected.add(row.map_or_else(|| unreadable(""), |row| from_row(&row)))
        })
        .await?;
        Ok(collected.finish())
    }
}

/// Returns the writes of a change. `None` if the document would become too large.
pub(super) fn writes(
    principal: &Principal,
    before: &PrincipalGrants,
    change: &GrantsChange,
) -> Option<Vec<Write>> {
    let mut entries: Vec<(String, Value)> =
        before.grants.iter().map(|grant| (grant.on.clone(), grant.raw.clone())).collect();
    let writes = match change {
        GrantsChange::Create { grant, forget, reserves } => {
            let forget: Vec<String> = forget.iter().map(ToString::to_string).collect();
            entries.retain(|(on, _)| !forget.contains(on));
            let on = grant.namespace.to_string();
            let entry = entry_of(Map::new(), grant);
            let mut writes = list_items(grant, &entry);
            // Insert it at its place in the order, so that lists are in order.
            let at = entries.partition_point(|(other, _)| *other < on);
            entries.insert(at, (on, Value::Object(entry)));
            if !reserves {
                return finish(principal, before, entries, writes);
            }
            let name = principal.as_str();
            let held = Write::put(folded_key(principal), [("principal", text(name))])
                .only_if("attribute_not_exists(pk) OR principal = :principal");
            writes.push(held.value(":principal", text(name)));
            writes
        }
        GrantsChange::Give { grants, forget } => {
            let forget: Vec<String> = forget.iter().map(ToString::to_string).collect();
            entries.retain(|(on, _)| !forget.contains(on));
            let mut writes = Vec::new();
            for grant in grants {
                let on = grant.namespace.to_string();
                let at = entries.partition_point(|(other, _)| *other < on);
                let held = entries.get(at).filter(|(other, _)| *other == on);
                let before = held.and_then(|(_, entry)| entry.as_object().cloned());
                let entry = entry_of(before.clone().unwrap_or_default(), grant);
                writes.extend(list_items(grant, &entry));
                if before.is_some() {
                    entries.remove(at);
                }
                entries.insert(at, (on, Value::Object(entry)));
            }
            writes
        }
        GrantsChange::Update(grant) => {
            let on = grant.namespace.to_string();
            let (_, entry) = entries.iter_mut().find(|(other, _)| *other == on)?;
            let changed = entry_of(entry.as_object().cloned().unwrap_or_default(), grant);
            let writes = list_items(grant, &changed);
            *entry = Value::Object(changed);
            writes
        }
        GrantsChange::Delete(namespace) => {
            let on = namespace.to_string();
            entries.retain(|(other, _)| *other != on);
            let mut writes: Vec<Write> =
                list_keys(principal, &on).map(Write::delete).into_iter().collect();
            // The name can be reserved for another principal.
            if entries.is_empty() && before.same_name.as_deref() == Some(principal.as_str()) {
                writes.push(Write::delete(folded_key(principal)));
            }
            writes
        }
    };
    finish(principal, before, entries, writes)
}

/// Adds the write of the document with these entries. `None` if it would become too large.
fn finish(
    principal: &Principal,
    before: &PrincipalGrants,
    entries: Vec<(String, Value)>,
    mut writes: Vec<Write>,
) -> Option<Vec<Write>> {
    let entries: Value = entries.into_iter().map(|(_, entry)| entry).collect();
    // An empty document is not deleted. If its revision started again, a delayed writer could
    // mistake it for the old document.
    let document = [
        ("revision", number(before.revision.0.saturating_add(1))),
        ("document", bytes(compression::compress(entries.to_string().as_bytes())?)),
    ];
    let document = Write::put(grants_key(principal), document);
    writes.push(document.only_if_revision(before.revision.0));
    Some(writes)
}

/// Returns an entry with the fields of the grant, and with all other fields of the old entry.
fn entry_of(mut entry: Map<String, Value>, grant: &Grant) -> Map<String, Value> {
    entry.insert("on".to_owned(), grant.namespace.to_string().into());
    entry.insert("may".to_owned(), grant.permissions.bits().into());
    entry.insert("by".to_owned(), grant.created_by.as_str().into());
    entry.insert("at".to_owned(), grant.created_at.into());
    match grant.expires_at {
        Some(until) => entry.insert("until".to_owned(), until.into()),
        None => entry.remove("until"),
    };
    entry
}

/// The stored form of a pin that an operator disabled.
pub(super) const NEVER: &str = "never";

/// Returns the key of a principal's document.
pub(super) fn grants_key(principal: &Principal) -> Key {
    Key::new(format!("principal {principal}"), "grants")
}

/// Returns the key of a pin. Pins have their own partition, because a mint may write there, and not
/// where the grants are.
pub(super) fn pin_key(principal: &Principal) -> Key {
    Key::new(format!("pin {principal}"), "pin")
}

/// Reads the grants of a principal from its document.
pub(super) fn of_principal(principal: &Principal, row: Option<&Row>) -> Vec<StoredGrant> {
    let Some(row) = row else { return Vec::new() };
    let Some((_, entries)) = read_document(row) else {
        return vec![unreadable(principal.as_str())];
    };
    entries.into_iter().map(|entry| stored(principal, entry)).collect()
}

/// Returns the revision of a principal's document. An unreadable one has a revision that no condition
/// allows.
pub(super) fn revision_of(row: Option<&Row>) -> Revision {
    Revision(row.map_or(0, |row| read_number(row, "revision").unwrap_or(-1)))
}

/// Reads a pin from its item.
pub(super) fn read_pin(principal: &Principal, row: Option<&Row>) -> Result<Pin, StoreError> {
    let Some(row) = row else { return Ok(Pin::Unpinned) };
    // An invalid id is an error. If it counted as no pin, every role of that name would have the
    // grants.
    match read_text(row, "pin") {
        Some(NEVER) => Ok(Pin::Disabled),
        other => other.and_then(UniqueId::parse).map(Pin::Pinned).ok_or_else(|| {
            StoreError::corrupt(format!("cannot read the pinned unique id of `{principal}`"))
        }),
    }
}

fn unreadable(who: &str) -> StoredGrant {
    StoredGrant { who: who.to_owned(), on: String::new(), grant: None, raw: Value::Null }
}

fn read_document(row: &Row) -> Option<(i64, Vec<Value>)> {
    let entries =
        serde_json::from_slice(&compression::decompress(read_bytes(row, "document")?)?).ok()?;
    Some((read_number(row, "revision")?, entries))
}

fn stored(principal: &Principal, entry: Value) -> StoredGrant {
    let on = entry.get("on").and_then(Value::as_str).unwrap_or_default().to_owned();
    StoredGrant {
        who: principal.as_str().to_owned(),
        on,
        grant: read_entry(principal, &entry),
        raw: entry,
    }
}

fn read_entry(principal: &Principal, entry: &Value) -> Option<Grant> {
    if !critical::understood(entry.get(critical::CRIT), &KNOWN) {
        return None;
    }
    Some(Grant {
        principal: principal.clone(),
        namespace: entry.get("on")?.as_str()?.parse().ok()?,
        permissions: Permissions::from_bits(entry.get("may")?.as_u64()?.try_into().ok()?)
            .filter(|permissions| !permissions.is_empty())?,
        expires_at: match entry.get("until") {
            None | Some(Value::Null) => None,
            Some(until) => Some(until.as_i64()?),
        },
        created_by: entry.get("by")?.as_str()?.to_owned(),
        created_at: entry.get("at")?.as_i64()?,
    })
}

fn folded_key(principal: &Principal) -> Key {
    Key::new(format!("folded {}", principal.folded()), "principal")
}

fn namespace_partition(on: &str) -> String {
    format!("namespace {on}")
}

/// Returns the keys of a grant's items: in the list of all grants, and in the list of its
/// namespace.
fn list_keys(principal: &Principal, on: &str) -> [Key; 2] {
    [
        Key::new(ALL, list_sort_key(principal, on)),
        Key::new(namespace_partition(on), principal.as_str()),
    ]
}

/// Returns the sort key in the list of all grants. Its order is that of principals, and then that of
/// namespaces, because a space sorts before every character of a principal.
fn list_sort_key(principal: &Principal, on: &str) -> String {
    format!("{principal} {on}")
}

/// Returns the writes of a grant's items in the lists. An item has the fields of the grant, and
/// those that a newer program added to its entry.
fn list_items(grant: &Grant, entry: &Map<String, Value>) -> Vec<Write> {
    let on = grant.namespace.to_string();
    let mut attributes: Vec<(&str, _)> = entry
        .iter()
        .filter(|(name, _)| !KNOWN.contains(&name.as_str()))
        .map(|(name, value)| (name.as_str(), text(value.to_string())))
        .collect();
    attributes.extend([
        ("principal", text(grant.principal.as_str())),
        ("namespace", text(on.as_str())),
        ("permissions", number(grant.permissions.bits().into())),
        ("created_by", text(grant.created_by.as_str())),
        ("created_at", number(grant.created_at)),
    ]);
    if let Some(until) = grant.expires_at {
        attributes.extend([
            ("expires_at", number(until)),
            (TTL, number(until.saturating_add(EXPIRED_GRANT_RETENTION))),
        ]);
    }
    list_keys(&grant.principal, &on).map(|key| Write::put(key, attributes.clone())).into()
}

fn from_row(row: &Row) -> StoredGrant {
    let on = read_text(row, "namespace").unwrap_or_default().to_owned();
    let read = || {
        let mut entry = json!({
            "on": on,
            "may": read_number(row, "permissions")?,
            "by": read_text(row, "created_by")?,
            "at": read_number(row, "created_at")?,
        });
        if row.contains_key("expires_at") {
            entry["until"] = read_number(row, "expires_at")?.into();
        }
        if row.contains_key(critical::CRIT) {
            entry[critical::CRIT] = serde_json::from_str(read_text(row, critical::CRIT)?).ok()?;
        }
        let principal = Principal::parse_stored(read_text(row, "principal")?).ok()?;
        read_entry(&principal, &entry)
    };
    let who = read_text(row, "principal").unwrap_or_default().to_owned();
    StoredGrant { who, grant: read(), on, raw: Value::Null }
}

#[cfg(test)]
mod tests {
    use stile_core::grants::MAX_GRANTS;

    use super::*;

    fn row(document: &str) -> Row {
        [
            ("revision".to_owned(), number(1)),
            ("document".to_owned(), bytes(compression::compress(document.as_bytes()).unwrap())),
        ]
        .into()
    }

    fn deploy() -> Principal {
        Principal::parse_stored("aws:111122223333:role/deploy").unwrap()
    }

    fn readable(grants: &[StoredGrant]) -> Vec<String> {
        grants
            .iter()
            .filter_map(|stored| Some(stored.grant.as_ref()?.namespace.to_string()))
            .collect()
    }

    #[test]
    fn a_malformed_grant_allows_nothing_and_does_not_affect_the_others() {
        let entry = |on: &str| json!({"on": on, "may": 1, "by": "x", "at": 5});
        let (mut newer, mut restricted) = (entry("newer"), entry("restricted"));
        newer["note"] = json!("for the migration");
        restricted["hours"] = json!("9-17");
        restricted["crit"] = json!(["hours"]);
        let mut of_odd_crit = entry("odd");
        of_odd_crit["crit"] = json!([]);
        let bad = [
            json!({"on": "a|.*", "may": 1, "by": "x", "at": 5}),
            json!({"on": "^a", "may": 1, "by": "x", "at": 5}),
            json!({"on": "b", "may": 16, "by": "x", "at": 5}),
            json!({"on": "c", "may": 0, "by": "x", "at": 5}),
            json!({"on": "e", "may": 1, "by": "x", "at": "5"}),
            json!({"on": "f"}),
            restricted,
            of_odd_crit,
            json!(null),
            json!("acme"),
        ];
        let all: Vec<Value> = bad.into_iter().chain([entry("acme"), newer]).collect();
        let grants = of_principal(&deploy(), Some(&row(&Value::from(all).to_string())));
        assert_eq!(readable(&grants), ["acme", "newer"]);
        assert_eq!(grants.len(), 12);
        for document in ["", "{}", "[", "null"] {
            assert_eq!(
                of_principal(&deploy(), Some(&row(document))),
                [unreadable(deploy().as_str())],
                "{document}"
            );
        }
        assert_eq!(of_principal(&deploy(), Some(&Row::new())), [unreadable(deploy().as_str())]);
        assert_eq!(of_principal(&deploy(), None), []);
    }

    #[test]
    fn the_maximum_number_of_grants_fits_into_a_document() {
        let entry = |n: usize| {
            let mut digest = [0; 24];
            getrandom::fill(&mut digest).unwrap();
            json!({"on": format!("{}-{n}", hex::encode(digest)), "may": 15, "until": 1_900_000_000 + n, "by": hex::encode(digest), "at": n})
        };
        let entries: Vec<Value> = (0..MAX_GRANTS).map(entry).collect();
        assert!(compression::compress(Value::from(entries).to_string().as_bytes()).is_some());
    }

    #[test]
    fn a_change_preserves_what_a_newer_program_added_to_the_document_and_the_lists() {
        let found =
            json!({"on": "acme", "may": 1, "by": "x", "at": 5, "until": 9, "note": {"a": 1}});
        let before = PrincipalGrants {
            revision: Revision(3),
            grants: vec![stored(&deploy(), json!(null)), stored(&deploy(), found)],
            same_name: None,
            pin: Pin::Unpinned,
        };
        let mut grant = before.grants[1].grant.clone().unwrap();
        grant.permissions = Permissions::from_bits(3).unwrap();
        let writes = writes(&deploy(), &before, &GrantsChange::Update(grant)).unwrap();
        let rows: Vec<&Row> = writes.iter().map(|write| write.row().unwrap()).collect();
        for list_item in &rows[..2] {
            assert_eq!(read_text(list_item, "note"), Some(r#"{"a":1}"#));
            assert_eq!(from_row(list_item).grant.unwrap().permissions.bits(), 3);
        }
        let (revision, entries) = read_document(rows[2]).unwrap();
        let expected =
            json!({"on": "acme", "may": 3, "by": "x", "at": 5, "until": 9, "note": {"a": 1}});
        assert_eq!((revision, entries), (4, vec![json!(null), expected]));
    }

    #[test]
    fn a_grant_is_read_from_its_list_items_as_it_was_written() {
        let principal = Principal::parse_stored("sso:aws:111122223333/Admin").unwrap();
        for until in [json!(null), json!(7)] {
            let entry = json!({"on": "*", "may": 3, "until": until, "by": "x", "at": 5});
            let grant = read_entry(&principal, &entry).unwrap();
            for write in list_items(&grant, &entry_of(Map::new(), &grant)) {
                assert_eq!(from_row(write.row().unwrap()).grant.as_ref(), Some(&grant));
            }
            let mut restricted = entry_of(Map::new(), &grant);
            restricted.insert("crit".to_owned(), json!(["hours"]));
            for write in list_items(&grant, &restricted) {
                assert_eq!(from_row(write.row().unwrap()).grant, None);
            }
        }
        assert_eq!(from_row(&Row::new()).grant, None);
    }

    #[test]
    fn an_unreadable_pin_is_an_error() {
        let row = |value: &str| -> Row { [("pin".to_owned(), text(value))].into() };
        let pin = |row: Option<&Row>| read_pin(&deploy(), row);
        assert_eq!(pin(None).unwrap(), Pin::Unpinned);
        assert_eq!(pin(Some(&row("never"))).unwrap(), Pin::Disabled);
        assert!(matches!(pin(Some(&row("AROAEXAMPLEEXAMPLE222"))), Ok(Pin::Pinned(_))));
        for bad in ["", "NEVER", "x", "arn:aws:iam::111122223333:role/deploy"] {
            assert!(pin(Some(&row(bad))).is_err(), "{bad}");
        }
        assert!(pin(Some(&Row::new())).is_err());
    }
}
