//! The one table: its keys, strongly consistent reads, and writes that take effect together or not
//! at all.
//!
//! | content | key | access |
//! |---|---|---|
//! | grants of a principal | `principal P` / `grants` | one read of a ready-made document |
//! | pin of a principal | `pin P` / `pin` | in the same batch |
//! | principal of a name, in any case | `folded p` / `principal` | in the same batch |
//! | all grants; all grants on a namespace | `grants` / `P N`; `namespace N` / `P` | one paged query |
//! | versions document of a package | `module A`, `provider A` / `versions` | one read |
//! | one version | `module A`, `provider A` / `version V` | one read, for a provider in a batch |
//! | signing keys of a namespace | `signing keys N` / `keys` | one read, or in the same batch |
//! | files that wait for a version | `waiting provider A V` / `PLATFORM D` | one paged query |
//! | record of a namespace; all records | `namespaces` / `N` | one read, or one paged query |
//! | what a limited namespace has | `usage N` / `usage` | in a batch, with the record |
//! | open uploads to a namespace | `uploads N` / `open` | in the same batch |
//! | all modules; those of a namespace | `modules` / `N NAME SYSTEM` | one paged query |
//! | all providers; those of a namespace | `providers` / `N TYPE` | one paged query |
//! | keyring; registry host | `keyring` / `keyring`; `host` / `host` | one batch |
//! | lease on files of grants | `grant lease` / `lease` | one read |
//! | all revocations | `revocations` / `revocations` | one read |
//! | texts of modules, for the search | `search N` / `00` to `63` | one paged query |
//! | one upload | `upload I` / `upload` | one read |
//! | latest download of a deprecated version | `deprecated P` / `download` | in the same batch |
//! | downloads of a package on a day | `downloads module A` / `V P DAY` | one paged query |
//! | a service token; all service tokens | `service tokens` / `I` | one batch, or one paged query |
//! | last use of a service token | `service token uses` / `I` | in the same batch |
//! | all webhooks | `webhooks` / `N` | one paged query |
//! | all trusts; one trust | `trusts` / `N` | one paged query; one read, or in the same batch |
//! | events to send to a destination | `outbox webhook I`, `outbox bus` / `N E` | one paged query |
//! | heads of the chains of audit events | `audit heads` / `N` or `*` | one read, or one paged query |
//! | audit events of a chain | `audit events N` / a number of 20 digits | one paged query |
//! | signed heads of the chains | `audit signed heads` / `N`, and the number of a segment | one paged query |
//! | who may send to a destination | `sending webhook I`, `sending bus` / `state` | one read, or one batch |
//! | use of a proof | `proof D` / `claim` | one conditional write |
//! | a refused exchange | `refused I` / `exchange` | one read |
//!
//! The store never scans the table. A space separates the parts of a key, because it sorts before
//! every character that a name can contain.

use std::borrow::Cow;
use std::collections::HashMap;

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    AttributeValue, ConditionCheck, Delete, KeysAndAttributes, Put, Select, TransactWriteItem,
    Update,
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

/// The time from which DynamoDB may delete a row, in Unix seconds. It deletes the row days later or
/// never, so no decision depends on it.
pub(super) const TTL: &str = "ttl";

/// The version of an item's format, a number at the top level of the item. An item without it has
/// version 1.
pub(super) const VERSION: &str = "v";

/// The format of the items that this program writes, and the newest that it reads.
pub(super) const FORMAT: i64 = 1;

/// The key of a row.
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

/// One write of a transaction, with its condition.
#[derive(Debug)]
pub(super) struct Write {
    key: Key,
    row: Option<Row>,
    update: Option<Cow<'static, str>>,
    /// Whether the write changes nothing, and has only its condition.
    is_check: bool,
    condition: Option<Cow<'static, str>>,
    names: HashMap<String, String>,
    values: Row,
}

impl Write {
    /// Creates a write that puts a row, and replaces an existing one.
    pub(super) fn put<'a>(
        key: Key,
        attributes: impl IntoIterator<Item = (&'a str, AttributeValue)>,
    ) -> Self {
        let mut row = key.row();
        row.insert(VERSION.to_owned(), number(FORMAT));
        row.extend(attributes.into_iter().map(|(name, value)| (name.to_owned(), value)));
        Self { row: Some(row), ..Self::delete(key) }
    }

    /// Creates a write that changes a row with an update expression.
    pub(super) fn update(key: Key, expression: impl Into<Cow<'static, str>>) -> Self {
        let update = Some(expression.into());
        Self { update, ..Self::delete(key) }
    }

    /// Creates a write that deletes a row.
    pub(super) fn delete(key: Key) -> Self {
        Self {
            key,
            row: None,
            update: None,
            is_check: false,
            condition: None,
            names: HashMap::new(),
            values: Row::new(),
        }
    }

    /// Creates a write that changes nothing. The transaction takes place only if its condition holds.
    pub(super) fn check(key: Key) -> Self {
        Self { is_check: true, ..Self::delete(key) }
    }

    /// Adds a condition to the write.
    pub(super) fn only_if(mut self, condition: impl Into<Cow<'static, str>>) -> Self {
        self.condition = Some(condition.into());
        self
    }

    /// Adds the condition that the row does not exist.
    pub(super) fn only_if_absent(self) -> Self {
        self.only_if("attribute_not_exists(pk)")
    }

    /// Adds the condition that the row has this revision. Revision 0 means that the row does not
    /// exist.
    pub(super) fn only_if_revision(self, revision: i64) -> Self {
        if revision == 0 {
            self.only_if_absent()
        } else {
            self.only_if("revision = :revision").value(":revision", number(revision))
        }
    }

    /// Sets the attribute that a placeholder of an update names, because its name is reserved.
    pub(super) fn name(mut self, placeholder: &'static str, name: &'static str) -> Self {
        self.names.insert(placeholder.to_owned(), name.to_owned());
        self
    }

    /// Sets the value of a placeholder.
    pub(super) fn value(mut self, name: &'static str, value: AttributeValue) -> Self {
        self.values.insert(name.to_owned(), value);
        self
    }

    /// Returns the row that the write puts.
    #[cfg(test)]
    pub(super) fn row(&self) -> Option<&Row> {
        self.row.as_ref()
    }

    /// Returns the condition of the write.
    #[cfg(test)]
    pub(super) fn condition(&self) -> Option<&str> {
        self.condition.as_deref()
    }

    fn build(self, table: &str) -> Result<TransactWriteItem, StoreError> {
        let values = (!self.values.is_empty()).then_some(self.values);
        let names = (!self.names.is_empty()).then_some(self.names);
        let condition = self.condition.map(Cow::into_owned);
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
                .set_expression_attribute_names(names)
                .set_expression_attribute_values(values)
                .build()
                .map(|update| TransactWriteItem::builder().update(update)),
            (None, None) if self.is_check => ConditionCheck::builder()
                .table_name(table)
                .set_key(Some(self.key.row()))
                .set_condition_expression(condition)
                .set_expression_attribute_values(values)
                .build()
                .map(|check| TransactWriteItem::builder().condition_check(check)),
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
            .map_err(|error| StoreError::unavailable("cannot build a write for the table", error))
    }
}

/// The order of the rows of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Up,
    Down,
}

impl DynamoDb {
    /// Reads one row as it is now.
    pub(super) async fn row(&self, key: &Key) -> Result<Option<Row>, StoreError> {
        let asked = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(key.row()))
            .consistent_read(true);
        let found = Box::pin(asked.send()).await.map_err(|error| read_error(self, error))?.item;
        found.map(|row| self.check_format(&row).map(|()| row)).transpose()
    }

    /// Reads several rows, each as it is now, in one call. The result does not contain rows that do
    /// not exist.
    pub(super) async fn rows(&self, keys: &[Key]) -> Result<HashMap<Key, Row>, StoreError> {
        let mut found = HashMap::new();
        let mut wanted: Vec<Row> = keys.iter().map(Key::row).collect();
        let mut retry = Retry::default();
        loop {
            let asked =
                KeysAndAttributes::builder().set_keys(Some(wanted)).consistent_read(true).build();
            let asked = asked.map_err(|error| {
                StoreError::unavailable("cannot build a read of the table", error)
            })?;
            let sent = self.client.batch_get_item().request_items(&self.table, asked);
            let answer = Box::pin(sent.send()).await.map_err(|error| read_error(self, error))?;
            for row in answer.responses.unwrap_or_default().into_values().flatten() {
                self.check_format(&row)?;
                if let Some(key) = Key::of(&row) {
                    found.insert(key, row);
                }
            }
            // If DynamoDB has no capacity for some keys, it returns them in an answer that is a
            // success. If the store took these rows for missing, a revocation would have no effect.
            let unprocessed = answer
                .unprocessed_keys
                .unwrap_or_default()
                .into_values()
                .flat_map(|unprocessed| unprocessed.keys)
                .collect::<Vec<_>>();
            if unprocessed.is_empty() {
                return Ok(found);
            }
            wanted = unprocessed;
            retry.wait().await?;
        }
    }

    /// Reads every row of a partition whose sort key starts with `prefix`, in order, from all
    /// pages.
    ///
    /// It stops early if `enough` returns true. `enough` gets `None` for a row that a newer program
    /// wrote.
    pub(super) async fn query(
        &self,
        pk: &str,
        prefix: &str,
        enough: impl FnMut(Option<Row>) -> bool,
    ) -> Result<(), StoreError> {
        // A key condition may not have an empty string.
        let sort_key = (!prefix.is_empty()).then_some(("begins_with(sk, :sk)", prefix));
        self.query_where(pk, sort_key, None, Order::Up, enough).await
    }

    /// Reads every row of a partition whose sort key is before `end`, the last one first, in the same
    /// way, in pages of at most that many rows.
    pub(super) async fn query_back(
        &self,
        pk: &str,
        end: &str,
        page: usize,
        enough: impl FnMut(Option<Row>) -> bool,
    ) -> Result<(), StoreError> {
        let page = i32::try_from(page).ok();
        self.query_where(pk, Some(("sk < :sk", end)), page, Order::Down, enough).await
    }

    /// Reads every row of a partition whose sort key is at least `first`, in the same way.
    pub(super) async fn query_from(
        &self,
        pk: &str,
        first: &str,
        enough: impl FnMut(Option<Row>) -> bool,
    ) -> Result<(), StoreError> {
        self.query_where(pk, Some(("sk >= :sk", first)), None, Order::Up, enough).await
    }

    /// Reads every row of a partition whose sort key is after `last`, in the same way, in pages of at
    /// most that many rows.
    pub(super) async fn query_after(
        &self,
        pk: &str,
        last: &str,
        page: usize,
        enough: impl FnMut(Option<Row>) -> bool,
    ) -> Result<(), StoreError> {
        // A key condition may not have an empty string.
        let sort_key = (!last.is_empty()).then_some(("sk > :sk", last));
        self.query_where(pk, sort_key, i32::try_from(page).ok(), Order::Up, enough).await
    }

    /// Reads every row of a partition whose sort key is at least `first`, in the same way.
    pub(super) async fn query_pages_from(
        &self,
        pk: &str,
        first: &str,
        page: usize,
        enough: impl FnMut(Option<Row>) -> bool,
    ) -> Result<(), StoreError> {
        let sort_key = (!first.is_empty()).then_some(("sk >= :sk", first));
        self.query_where(pk, sort_key, i32::try_from(page).ok(), Order::Up, enough).await
    }

    /// Counts the rows of a partition, or those whose sort key starts with `prefix`, up to that many.
    pub(super) async fn count_rows(
        &self,
        pk: &str,
        prefix: Option<&str>,
        most: usize,
    ) -> Result<usize, StoreError> {
        let (mut count, mut from) = (0, None);
        loop {
            let asked = self
                .client
                .query()
                .table_name(&self.table)
                .consistent_read(true)
                .select(Select::Count)
                .set_limit(i32::try_from(most.saturating_sub(count)).ok())
                .set_exclusive_start_key(from)
                .expression_attribute_values(":pk", text(pk));
            let asked = match prefix {
                Some(prefix) => asked
                    .key_condition_expression("pk = :pk AND begins_with(sk, :sk)")
                    .expression_attribute_values(":sk", text(prefix)),
                None => asked.key_condition_expression("pk = :pk"),
            };
            let answer = Box::pin(asked.send()).await.map_err(|error| read_error(self, error))?;
            count += usize::try_from(answer.count).unwrap_or_default();
            match answer.last_evaluated_key {
                Some(key) if !key.is_empty() && count < most => from = Some(key),
                _ => return Ok(count),
            }
        }
    }

    async fn query_where(
        &self,
        pk: &str,
        sort_key: Option<(&str, &str)>,
        page: Option<i32>,
        order: Order,
        mut enough: impl FnMut(Option<Row>) -> bool,
    ) -> Result<(), StoreError> {
        let mut from = None;
        loop {
            let mut asked = self
                .client
                .query()
                .table_name(&self.table)
                .consistent_read(true)
                .set_limit(page)
                .scan_index_forward(order == Order::Up)
                .set_exclusive_start_key(from);
            asked = asked.expression_attribute_values(":pk", text(pk));
            asked = match sort_key {
                None => asked.key_condition_expression("pk = :pk"),
                Some((condition, value)) => asked
                    .key_condition_expression(format!("pk = :pk AND {condition}"))
                    .expression_attribute_values(":sk", text(value)),
            };
            let answer = Box::pin(asked.send()).await.map_err(|error| read_error(self, error))?;
            for row in answer.items.unwrap_or_default() {
                if enough(self.check_format(&row).is_ok().then_some(row)) {
                    return Ok(());
                }
            }
            // A page can be empty without being the last one. Only the missing `last_evaluated_key`
            // marks the last page.
            match answer.last_evaluated_key {
                Some(key) if !key.is_empty() => from = Some(key),
                _ => return Ok(()),
            }
        }
    }

    /// Makes all of the writes or none. The client's token ensures that a call that is sent twice
    /// takes effect once.
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
                StoreError::unavailable(format!("cannot write to table `{}`", self.table), error)
            }),
        }
    }

    /// Returns an error for an item that a newer program wrote, because its meaning may have
    /// changed.
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

    /// Checks that a write succeeds.
    pub(crate) async fn health_check(&self) -> Result<(), StoreError> {
        // Two concurrent checks can conflict, but then the table has answered, too.
        self.transact(vec![Write::put(Key::new("reach", "reach"), [])]).await.map(drop)
    }
}

/// Returns the outcome of a cancelled transaction. `None` if the error is a failure and not an
/// answer.
fn refused(error: &SdkError<TransactWriteItemsError>) -> Option<Outcome> {
    // No other error is an answer. A call that was sent again can still be in progress under its
    // token, and take effect later. Under another token it would conflict with itself, as if
    // another caller had used the proof.
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

/// Returns the outcome for these cancellation reasons.
///
/// A conflict or a throttled item comes before a condition that does not hold. A condition is an
/// answer only if DynamoDB checked every item.
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

fn read_error(
    store: &DynamoDb,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> StoreError {
    StoreError::unavailable(format!("cannot read table `{}`", store.table), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_is_not_an_answer_and_a_failed_condition_is_one() {
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
