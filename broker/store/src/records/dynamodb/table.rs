//! The one table: keys, reads that see every write before them, and writes that all take place or none does.
//!
//! | question | key | how |
//! |---|---|---|
//! | who may this principal | `principal P` / `grants` | one read, a ready-made document |
//! | which unique id it must have | `pin P` / `pin` | in the same batch |
//! | is there one that differs by case | `folded p` / `principal` | in the same batch |
//! | all grants; all on a namespace | `grants` / `P N`; `namespace N` / `P` | one paged query |
//! | the `versions` document of a module | `module A` / `versions` | one read |
//! | one version | `module A` / `version V` | one read |
//! | which namespaces have a record | `namespaces` / `N` | one read, or one paged query |
//! | all modules, or those of a namespace | `modules` / `N NAME SYSTEM` | one paged query |
//! | the keyring; which registry this is | `keyring` / `keyring`; `host` / `host` | one batch |
//! | what is revoked | `revocations` / `revocations` | one read |
//! | what was said of an upload | `upload I` / `upload` | one read |
//! | was this proof used | `proof D` / `claim` | a conditional write |
//!
//! Nothing is ever scanned. A space parts what keys are made of: it sorts before everything that may be in a name.

use std::collections::HashMap;

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    AttributeValue, Delete, KeysAndAttributes, Put, TransactWriteItem, Update,
};

use super::DynamoDb;
use super::attributes::{Row, number, read_number, read_text, text};
use crate::StoreError;
use crate::records::mutation::Outcome;
use crate::retry::Retry;

/// The partition key.
pub(super) const PK: &str = "pk";

/// The sort key.
pub(super) const SK: &str = "sk";

/// When DynamoDB may clear a row away, Unix seconds. It comes days late or never, so nothing is decided by it.
pub(super) const TTL: &str = "ttl";

/// The version of an item's format, a number; an item without it has version 1. It stands at the top of each item.
pub(super) const VERSION: &str = "v";

/// The format of items that this program writes, and the newest that it reads.
pub(super) const FORMAT: i64 = 1;

/// What names a row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pk: String,
    sk: String,
}

impl Key {
    pub(super) fn new(pk: impl Into<String>, sk: impl Into<String>) -> Self {
        Self { pk: pk.into(), sk: sk.into() }
    }

    fn row(&self) -> Row {
        [(PK.to_owned(), text(&self.pk)), (SK.to_owned(), text(&self.sk))].into()
    }

    fn of(row: &Row) -> Option<Self> {
        Some(Self::new(read_text(row, PK)?, read_text(row, SK)?))
    }
}

/// One write of a transaction, with the condition under which it takes place.
#[derive(Debug)]
pub(super) struct Write {
    key: Key,
    row: Option<Row>,
    update: Option<&'static str>,
    condition: Option<&'static str>,
    values: Row,
}

impl Write {
    /// Puts a row, whatever is there.
    pub(super) fn put<'a>(
        key: Key,
        attributes: impl IntoIterator<Item = (&'a str, AttributeValue)>,
    ) -> Self {
        let mut row = key.row();
        row.insert(VERSION.to_owned(), number(FORMAT));
        row.extend(attributes.into_iter().map(|(name, value)| (name.to_owned(), value)));
        Self { key, row: Some(row), update: None, condition: None, values: Row::new() }
    }

    /// Changes a row by an expression.
    pub(super) fn update(key: Key, expression: &'static str) -> Self {
        Self { key, row: None, update: Some(expression), condition: None, values: Row::new() }
    }

    /// Removes a row.
    pub(super) fn delete(key: Key) -> Self {
        Self { key, row: None, update: None, condition: None, values: Row::new() }
    }

    /// Only under this condition.
    pub(super) fn only_if(mut self, condition: &'static str) -> Self {
        self.condition = Some(condition);
        self
    }

    /// Only if nothing is there.
    pub(super) fn only_if_absent(self) -> Self {
        self.only_if("attribute_not_exists(pk)")
    }

    /// Only if the row is of that revision; 0 is that of a row that is not there.
    pub(super) fn only_if_revision(self, revision: i64) -> Self {
        if revision == 0 {
            self.only_if_absent()
        } else {
            self.only_if("revision = :revision").value(":revision", number(revision))
        }
    }

    /// What a placeholder stands for.
    pub(super) fn value(mut self, name: &'static str, value: AttributeValue) -> Self {
        self.values.insert(name.to_owned(), value);
        self
    }

    /// The row it puts.
    #[cfg(test)]
    pub(super) fn row(&self) -> Option<&Row> {
        self.row.as_ref()
    }

    fn build(self, table: &str) -> Result<TransactWriteItem, StoreError> {
        let values = (!self.values.is_empty()).then_some(self.values);
        let condition = self.condition.map(str::to_owned);
        let built = match (self.row, self.update) {
            (Some(row), _) => Put::builder()
                .table_name(table)
                .set_item(Some(row))
                .set_condition_expression(condition)
                .set_expression_attribute_values(values)
                .build()
                .map(|put| TransactWriteItem::builder().put(put)),
            (None, Some(update)) => Update::builder()
                .table_name(table)
                .set_key(Some(self.key.row()))
                .update_expression(update)
                .set_condition_expression(condition)
                .set_expression_attribute_values(values)
                .build()
                .map(|update| TransactWriteItem::builder().update(update)),
            (None, None) => Delete::builder()
                .table_name(table)
                .set_key(Some(self.key.row()))
                .set_condition_expression(condition)
                .set_expression_attribute_values(values)
                .build()
                .map(|delete| TransactWriteItem::builder().delete(delete)),
        };
        built
            .map(|item| item.build())
            .map_err(|error| StoreError::unavailable("a write cannot be made", error))
    }
}

impl DynamoDb {
    /// One row as it is now.
    pub(super) async fn row(&self, key: &Key) -> Result<Option<Row>, StoreError> {
        let asked = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(key.row()))
            .consistent_read(true);
        let found = Box::pin(asked.send()).await.map_err(|error| unreadable(self, error))?.item;
        found.map(|row| self.check_format(&row).map(|()| row)).transpose()
    }

    /// Several rows, each as it is now, in one call; those that are not there are left out.
    pub(super) async fn rows(&self, keys: &[Key]) -> Result<HashMap<Key, Row>, StoreError> {
        let mut found = HashMap::new();
        let mut wanted: Vec<Row> = keys.iter().map(Key::row).collect();
        let mut retry = Retry::default();
        loop {
            let asked =
                KeysAndAttributes::builder().set_keys(Some(wanted)).consistent_read(true).build();
            let asked =
                asked.map_err(|error| StoreError::unavailable("a read cannot be made", error))?;
            let sent = self.client.batch_get_item().request_items(&self.table, asked);
            let answer = Box::pin(sent.send()).await.map_err(|error| unreadable(self, error))?;
            for row in answer.responses.unwrap_or_default().into_values().flatten() {
                self.check_format(&row)?;
                if let Some(key) = Key::of(&row) {
                    found.insert(key, row);
                }
            }
            // What DynamoDB had no capacity for is left over, and the answer is a success all the same: taken for
            // absent, a revocation would be none.
            let left = answer
                .unprocessed_keys
                .unwrap_or_default()
                .into_values()
                .flat_map(|left| left.keys)
                .collect::<Vec<_>>();
            if left.is_empty() {
                return Ok(found);
            }
            wanted = left;
            retry.again().await?;
        }
    }

    /// Every row of a partition whose sort key begins so, in order, however many answers it takes; `enough` ends it
    /// before. It gets `None` for a row that a newer program wrote.
    pub(super) async fn query(
        &self,
        pk: &str,
        prefix: &str,
        mut enough: impl FnMut(Option<Row>) -> bool,
    ) -> Result<(), StoreError> {
        let mut from = None;
        loop {
            let mut asked = self
                .client
                .query()
                .table_name(&self.table)
                .consistent_read(true)
                .set_exclusive_start_key(from);
            asked = asked.expression_attribute_values(":pk", text(pk));
            asked = if prefix.is_empty() {
                asked.key_condition_expression("pk = :pk")
            } else {
                asked
                    .key_condition_expression("pk = :pk AND begins_with(sk, :sk)")
                    .expression_attribute_values(":sk", text(prefix))
            };
            let answer = Box::pin(asked.send()).await.map_err(|error| unreadable(self, error))?;
            for row in answer.items.unwrap_or_default() {
                if enough(self.check_format(&row).is_ok().then_some(row)) {
                    return Ok(());
                }
            }
            // An answer may be empty and yet not the last: the mark alone says so.
            match answer.last_evaluated_key {
                Some(key) if !key.is_empty() => from = Some(key),
                _ => return Ok(()),
            }
        }
    }

    /// Writes all or nothing. The client's token makes a call that is sent twice take place once.
    pub(super) async fn transact(&self, writes: Vec<Write>) -> Result<Outcome, StoreError> {
        let writes = writes
            .into_iter()
            .map(|write| write.build(&self.table))
            .collect::<Result<Vec<_>, _>>()?;
        match Box::pin(self.client.transact_write_items().set_transact_items(Some(writes)).send())
            .await
        {
            Ok(_) => Ok(Outcome::Done),
            Err(error) => refused(&error).ok_or_else(|| {
                StoreError::unavailable(format!("table `{}` cannot be written", self.table), error)
            }),
        }
    }

    /// Refuses an item that a newer program wrote: what it means may have changed.
    fn check_format(&self, row: &Row) -> Result<(), StoreError> {
        let format = match row.get(VERSION) {
            None => 1,
            Some(_) => read_number(row, VERSION).unwrap_or(i64::MAX),
        };
        if format <= FORMAT {
            return Ok(());
        }
        let key = Key::of(row).map(|key| key.pk).unwrap_or_default();
        Err(StoreError::corrupt(format!(
            "item `{key}` of table `{}` has format {format}, and this program reads formats up to {FORMAT}; hint: run a newer release",
            self.table
        )))
    }

    /// Whether a write goes through.
    pub(crate) async fn health_check(&self) -> Result<(), StoreError> {
        // Two who look at the same time hinder each other, and the table has answered all the same.
        self.transact(vec![Write::put(Key::new("reach", "reach"), [])]).await.map(drop)
    }
}

/// What a cancelled transaction says, where it is an answer and no failure.
fn refused(error: &SdkError<TransactWriteItemsError>) -> Option<Outcome> {
    // Nothing else is one: a call that is still in progress under its token after it was sent again may yet take place,
    // and under another token it would meet itself, as if the proof had been used by somebody else.
    let TransactWriteItemsError::TransactionCanceledException(cancelled) =
        error.as_service_error()?
    else {
        return None;
    };
    let codes: Vec<&str> = cancelled
        .cancellation_reasons()
        .iter()
        .map(|reason| reason.code().unwrap_or("None"))
        .collect();
    verdict(&codes)
}

/// A conflict or a throttled item comes before a condition that did not hold: only when every item was looked at is a
/// condition an answer.
fn verdict(codes: &[&str]) -> Option<Outcome> {
    let again = [
        "TransactionConflict",
        "ThrottlingError",
        "ProvisionedThroughputExceeded",
        "DuplicateItem",
    ];
    if codes.iter().any(|code| again.contains(code)) {
        return Some(Outcome::Conflict);
    }
    if codes.iter().any(|code| !["None", "ConditionalCheckFailed"].contains(code)) {
        return None;
    }
    codes.iter().position(|code| *code == "ConditionalCheckFailed").map(Outcome::Refused)
}

fn unreadable(
    store: &DynamoDb,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> StoreError {
    StoreError::unavailable(format!("table `{}` cannot be read", store.table), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_is_no_answer_and_a_condition_that_did_not_hold_is_one() {
        for (codes, expected) in [
            (vec!["None", "TransactionConflict"], Some(Outcome::Conflict)),
            (vec!["ConditionalCheckFailed", "TransactionConflict"], Some(Outcome::Conflict)),
            (vec!["ThrottlingError", "None"], Some(Outcome::Conflict)),
            (vec!["ProvisionedThroughputExceeded"], Some(Outcome::Conflict)),
            (vec!["ConditionalCheckFailed", "ValidationError"], None),
            (vec!["ItemCollectionSizeLimitExceeded"], None),
            (vec!["None", "None"], None),
            (vec![], None),
            (
                vec!["None", "ConditionalCheckFailed", "ConditionalCheckFailed"],
                Some(Outcome::Refused(1)),
            ),
            (vec!["ConditionalCheckFailed", "None"], Some(Outcome::Refused(0))),
        ] {
            assert_eq!(verdict(&codes), expected, "{codes:?}");
        }
    }
}
