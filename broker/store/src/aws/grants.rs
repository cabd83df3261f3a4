//! Grants: one ready-made document a principal, by which is decided, and a row each for the lists; written together.
//!
//! The document has a revision. Who changes it does so only if nobody else has since it was read.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use stile_protocol::names::Permissions;

use super::Aws;
use super::document;
use super::mint;
use super::retry::Retry;
use super::table::{
    Key, Row, TTL, Write, Written, bytes, number, read_bytes, read_number, read_text, text,
};
use crate::{Change, Created, StoreError, Updated};
use stile_core::grants::{Grant, GrantNamespace, MAX_GRANTS, Pin};
use stile_core::principal::Principal;

/// How long a grant that has ended is still listed, in seconds, so that an operator sees what became of it.
const LISTED_FOR: i64 = 90 * 24 * 3600;

/// The partition of the list of all grants.
const ALL: &str = "grants";

/// One grant of a document. What has another shape was not made by this program and allows nothing.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    on: String,
    may: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<i64>,
    by: String,
    at: i64,
}

impl Entry {
    fn of(grant: &Grant) -> Self {
        Self {
            on: grant.namespace.to_string(),
            may: grant.permissions.bits(),
            until: grant.expires_at,
            by: grant.created_by.clone(),
            at: grant.created_at,
        }
    }

    fn grant(self, principal: &Principal) -> Option<Grant> {
        Some(Grant {
            principal: principal.clone(),
            namespace: self.on.parse().ok()?,
            permissions: Permissions::from_bits(self.may)
                .filter(|permissions| !permissions.is_empty())?,
            expires_at: self.until,
            created_by: self.by,
            created_at: self.at,
        })
    }
}

/// What is kept about a principal while it is changed.
struct Held {
    revision: i64,
    /// As they were found: what cannot be read is not lost by a change of something else.
    entries: Vec<Value>,
    /// Who has the name in any case.
    named: Option<String>,
    pin: Pin,
}

/// What a look at a principal's grants leads to.
enum Step<T> {
    Answer(T),
    Write(T, Vec<Write>),
}

impl Aws {
    pub(crate) async fn create_grant(
        &self,
        grant: Grant,
        pin: Option<Pin>,
    ) -> Result<Created, StoreError> {
        let (principal, on) = (grant.principal.clone(), grant.namespace.to_string());
        let created = self.change(&principal, |held| {
            if let Some(at) = held.position(&on) {
                let existing = held.grant(at, &principal).ok_or_else(|| unreadable(&principal))?;
                return Ok(Step::Answer(Created::Exists(existing)));
            }
            let twin = held.named.as_deref().filter(|named| *named != principal.as_str());
            if let Some(twin) = twin.and_then(|named| Principal::parse_stored(named).ok()) {
                return Ok(Step::Answer(Created::DiffersByCase(twin)));
            }
            held.entries.retain(|entry| {
                !entry["until"].as_i64().is_some_and(|until| long_ended(until, grant.created_at))
            });
            if held.pin != Pin::Unpinned && pin.as_ref().is_some_and(|wanted| *wanted != held.pin) {
                return Ok(Step::Answer(Created::PinnedOtherwise(held.pin.clone())));
            }
            if held.entries.len() >= MAX_GRANTS {
                return Ok(Step::Answer(Created::TooMany));
            }
            held.insert(&on, &grant)?;
            let mut writes = rows(&grant);
            let name =
                Write::put(folded_key(&principal), [("principal", text(principal.as_str()))]);
            writes.push(
                name.only_if("attribute_not_exists(pk) OR principal = :principal")
                    .value(":principal", text(principal.as_str())),
            );
            let wanted = match &pin {
                None | Some(Pin::Unpinned) => None,
                Some(Pin::Disabled) => Some(NEVER),
                Some(Pin::Pinned(id)) => Some(id.as_str()),
            };
            // A mint may have pinned since it was looked at.
            writes.extend(wanted.map(|wanted| {
                let pin = Write::put(pin_key(&principal), [("pin", text(wanted))]);
                pin.only_if("attribute_not_exists(pin) OR pin = :pin").value(":pin", text(wanted))
            }));
            Ok(Step::Write(Created::Done(grant.clone()), writes))
        });
        // A document that is full is cured as too many grants are: by one on `*`.
        Ok(created.await?.unwrap_or(Created::TooMany))
    }

    pub(crate) async fn update_grant(
        &self,
        principal: Principal,
        namespace: GrantNamespace,
        change: Change,
    ) -> Result<Updated, StoreError> {
        let on = namespace.to_string();
        let updated = self.change(&principal, |held| {
            let Some(at) = held.position(&on) else { return Ok(Step::Answer(Updated::Absent)) };
            let mut grant = held.grant(at, &principal).ok_or_else(|| unreadable(&principal))?;
            grant.permissions =
                change.clear.iter().fold(grant.permissions.union(change.set), Permissions::without);
            if grant.permissions.is_empty() {
                return Ok(Step::Answer(Updated::WouldBeEmpty));
            }
            grant.expires_at = change.expires_at.or(grant.expires_at);
            held.entries.remove(at);
            held.insert(&on, &grant)?;
            let writes = rows(&grant);
            Ok(Step::Write(Updated::Done(grant), writes))
        });
        updated.await?.ok_or_else(|| {
            StoreError::busy(
                "the principal's grants are too many for one document; hint: grant on `*`",
            )
        })
    }

    pub(crate) async fn delete_grant(
        &self,
        principal: Principal,
        namespace: GrantNamespace,
    ) -> Result<bool, StoreError> {
        let on = namespace.to_string();
        let deleted = self.change(&principal, |held| {
            let Some(at) = held.position(&on) else { return Ok(Step::Answer(false)) };
            held.entries.remove(at);
            let mut writes =
                row_keys(&principal, &on).map(Write::delete).into_iter().collect::<Vec<_>>();
            if held.entries.is_empty() {
                writes.push(Write::delete(folded_key(&principal)));
            }
            Ok(Step::Write(true, writes))
        });
        deleted
            .await?
            .ok_or_else(|| StoreError::corrupt("the principal's grants cannot be written"))
    }

    pub(crate) async fn grants(
        &self,
        principal: Option<Principal>,
        namespace: Option<GrantNamespace>,
    ) -> Result<Vec<Grant>, StoreError> {
        if let Some(principal) = principal {
            let row = self.row(&grants_key(&principal)).await?;
            let mut grants = of(&principal, row.as_ref());
            grants.retain(|grant| {
                namespace.as_ref().is_none_or(|namespace| grant.namespace == *namespace)
            });
            return Ok(grants);
        }
        let mut grants = Vec::new();
        let partition = namespace.map_or_else(
            || ALL.to_owned(),
            |namespace| namespace_partition(&namespace.to_string()),
        );
        self.query(&partition, "", |row| {
            match read_row(&row) {
                Some(grant) => grants.push(grant),
                None => alarm(),
            }
            false
        })
        .await?;
        Ok(grants)
    }

    /// Changes a principal's document by what `step` makes of it, as often as somebody else was faster; `None` where it
    /// would be larger than can be kept.
    async fn change<T>(
        &self,
        principal: &Principal,
        mut step: impl FnMut(&mut Held) -> Result<Step<T>, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let (grants, folded, pin) =
            (grants_key(principal), folded_key(principal), pin_key(principal));
        let mut retry = Retry::default();
        loop {
            let found = self.rows(&[grants.clone(), folded.clone(), pin.clone()]).await?;
            let named =
                found.get(&folded).and_then(|row| read_text(row, "principal")).map(str::to_owned);
            let (revision, entries) = match found.get(&grants) {
                None => (0, Vec::new()),
                Some(row) => read_document(row).ok_or_else(|| unreadable(principal))?,
            };
            let mut held = Held { revision, entries, named, pin: mint::pin(found.get(&pin))? };
            let (answer, mut writes) = match step(&mut held)? {
                Step::Answer(answer) => return Ok(Some(answer)),
                Step::Write(answer, writes) => (answer, writes),
            };
            let Some(folded_up) = document::fold(Value::from(held.entries).to_string().as_bytes())
            else {
                return Ok(None);
            };
            // An empty document stays: were its revision to begin anew, a writer that slept would take it for the old one.
            let document = [
                ("revision", number(held.revision.saturating_add(1))),
                ("document", bytes(folded_up)),
            ];
            writes.push(Write::put(grants.clone(), document).only_if_revision(held.revision));
            match self.transact(writes).await? {
                Written::Done => return Ok(Some(answer)),
                Written::Refused(_) | Written::Conflict => retry.again().await?,
            }
        }
    }
}

impl Held {
    fn position(&self, on: &str) -> Option<usize> {
        self.entries.iter().position(|entry| entry["on"] == on)
    }

    fn grant(&self, at: usize, principal: &Principal) -> Option<Grant> {
        read_entry(self.entries.get(at)?, principal)
    }

    /// In its place, so that lists are in order.
    fn insert(&mut self, on: &str, grant: &Grant) -> Result<(), StoreError> {
        let entry = serde_json::to_value(Entry::of(grant))
            .map_err(|error| StoreError::unavailable("the grant cannot be written", error))?;
        let at =
            self.entries.partition_point(|entry| entry["on"].as_str().unwrap_or_default() < on);
        self.entries.insert(at, entry);
        Ok(())
    }
}

/// The stored form of a pin that an operator wants none of.
pub(super) const NEVER: &str = "never";

/// The ready-made document of a principal.
pub(super) fn grants_key(principal: &Principal) -> Key {
    Key::new(format!("principal {principal}"), "grants")
}

/// The pin of a role or user, in a partition of its own: a mint may write there, and not where the grants are.
pub(super) fn pin_key(principal: &Principal) -> Key {
    Key::new(format!("pin {principal}"), "pin")
}

/// The grants of a principal from its document; what cannot be read allows nothing, and the others work.
pub(super) fn of(principal: &Principal, row: Option<&Row>) -> Vec<Grant> {
    let Some(row) = row else { return Vec::new() };
    let Some((_, entries)) = read_document(row) else {
        alarm();
        return Vec::new();
    };
    let read = entries.iter().filter_map(|entry| {
        read_entry(entry, principal).or_else(|| {
            alarm();
            None
        })
    });
    read.collect()
}

fn read_document(row: &Row) -> Option<(i64, Vec<Value>)> {
    let entries = serde_json::from_slice(&document::unfold(read_bytes(row, "document")?)?).ok()?;
    Some((read_number(row, "revision")?, entries))
}

fn read_entry(entry: &Value, principal: &Principal) -> Option<Grant> {
    Entry::deserialize(entry).ok()?.grant(principal)
}

fn folded_key(principal: &Principal) -> Key {
    Key::new(format!("folded {}", principal.folded()), "principal")
}

fn namespace_partition(on: &str) -> String {
    format!("namespace {on}")
}

/// Where a grant stands in the list of all and in that of its namespace.
fn row_keys(principal: &Principal, on: &str) -> [Key; 2] {
    [
        Key::new(ALL, format!("{principal} {on}")),
        Key::new(namespace_partition(on), principal.as_str()),
    ]
}

fn rows(grant: &Grant) -> Vec<Write> {
    let on = grant.namespace.to_string();
    let mut attributes = vec![
        ("principal", text(grant.principal.as_str())),
        ("namespace", text(on.as_str())),
        ("permissions", number(grant.permissions.bits().into())),
        ("created_by", text(grant.created_by.as_str())),
        ("created_at", number(grant.created_at)),
    ];
    if let Some(until) = grant.expires_at {
        attributes.extend([
            ("expires_at", number(until)),
            (TTL, number(until.saturating_add(LISTED_FOR))),
        ]);
    }
    row_keys(&grant.principal, &on).map(|key| Write::put(key, attributes.clone())).into()
}

fn read_row(row: &Row) -> Option<Grant> {
    let entry = Entry {
        on: read_text(row, "namespace")?.to_owned(),
        may: read_number(row, "permissions")?.try_into().ok()?,
        until: match row.get("expires_at") {
            None => None,
            Some(_) => Some(read_number(row, "expires_at")?),
        },
        by: read_text(row, "created_by")?.to_owned(),
        at: read_number(row, "created_at")?,
    };
    entry.grant(&Principal::parse_stored(read_text(row, "principal")?).ok()?)
}

fn long_ended(until: i64, now: i64) -> bool {
    until.saturating_add(LISTED_FOR) <= now
}

fn unreadable(principal: &Principal) -> StoreError {
    alarm();
    StoreError::corrupt(format!(
        "the grants of `{principal}` in the store cannot be read, and are not written over"
    ))
}

fn alarm() {
    tracing::error!(
        alarm = "unreadable_grant",
        "a grant in the store cannot be read and allows nothing"
    );
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(document: &str) -> Row {
        [
            ("revision".to_owned(), number(1)),
            ("document".to_owned(), bytes(document::fold(document.as_bytes()).unwrap())),
        ]
        .into()
    }

    #[test]
    fn what_is_no_grant_allows_nothing_and_the_others_work() {
        let principal = Principal::parse_stored("aws:111122223333:role/deploy").unwrap();
        let good = json!({"on": "acme", "may": 1, "by": "x", "at": 5});
        let bad = [
            json!({"on": "a|.*", "may": 1, "by": "x", "at": 5}),
            json!({"on": "^a", "may": 1, "by": "x", "at": 5}),
            json!({"on": "b", "may": 16, "by": "x", "at": 5}),
            json!({"on": "c", "may": 0, "by": "x", "at": 5}),
            json!({"on": "d", "may": 1, "by": "x", "at": 5, "unless": "tuesday"}),
            json!({"on": "e", "may": 1, "by": "x", "at": "5"}),
            json!({"on": "f"}),
            json!(null),
            json!("acme"),
        ];
        let all: Vec<Value> = bad.into_iter().chain([good]).collect();
        let grants = of(&principal, Some(&row(&Value::from(all).to_string())));
        assert_eq!(
            grants.iter().map(|grant| grant.namespace.to_string()).collect::<Vec<_>>(),
            ["acme"]
        );
        for document in ["", "{}", "[", "null"] {
            assert_eq!(of(&principal, Some(&row(document))), [], "{document}");
        }
        assert_eq!(of(&principal, Some(&Row::new())), []);
        assert_eq!(of(&principal, None), []);
    }

    #[test]
    fn as_many_grants_as_one_may_hold_fit_into_a_document() {
        let entry = |n: usize| {
            let mut digest = [0; 24];
            getrandom::fill(&mut digest).unwrap();
            json!({"on": format!("{}-{n}", hex::encode(digest)), "may": 15, "until": 1_900_000_000 + n, "by": hex::encode(digest), "at": n})
        };
        let entries: Vec<Value> = (0..MAX_GRANTS).map(entry).collect();
        assert!(document::fold(Value::from(entries).to_string().as_bytes()).is_some());
    }

    #[test]
    fn a_grant_comes_back_from_its_row() {
        let principal = Principal::parse_stored("sso:aws:111122223333/Admin").unwrap();
        for until in [None, Some(7)] {
            let entry = Entry { on: "*".to_owned(), may: 3, until, by: "x".to_owned(), at: 5 };
            let grant = entry.grant(&principal).unwrap();
            for write in rows(&grant) {
                assert_eq!(read_row(write.row().unwrap()).as_ref(), Some(&grant));
            }
        }
        assert_eq!(read_row(&Row::new()), None);
    }
}
