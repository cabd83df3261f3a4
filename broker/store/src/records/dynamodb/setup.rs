//! Creates the table for a trial, if it is missing, and checks the table.

use std::time::Duration;

use aws_sdk_dynamodb::client::Waiters;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
    TableDescription, TimeToLiveSpecification,
};

use super::DynamoDb;
use super::table::{PK, SK, TTL};
use crate::StoreError;

/// Time limit for the creation of a table.
const CREATION_TIMEOUT: Duration = Duration::from_secs(120);

impl DynamoDb {
    /// Checks that the table exists, has the keys that this program uses, and accepts a write.
    pub(crate) async fn diagnose(&self) -> Result<(), StoreError> {
        let table = &self.table;
        let described = self.described().await?.ok_or_else(|| {
            StoreError::misconfigured(format!("table `{table}` does not exist; hint: create it with `stile-admin store init --table {table}`"))
        })?;
        let keys: Vec<(&str, &KeyType)> = described
            .key_schema()
            .iter()
            .map(|key| (key.attribute_name(), key.key_type()))
            .collect();
        if keys != [(PK, &KeyType::Hash), (SK, &KeyType::Range)] {
            return Err(StoreError::misconfigured(format!(
                "table `{table}` is not a table of Stile: its keys must be `{PK}` and `{SK}`"
            )));
        }
        self.health_check().await
    }

    /// Creates the table if it is missing. Returns whether it did.
    pub(crate) async fn create_if_missing(&self) -> Result<bool, StoreError> {
        let failed = || format!("cannot create table `{}`", self.table);
        if self.described().await?.is_some() {
            return Ok(false);
        }
        let mut creating = self
            .client
            .create_table()
            .table_name(&self.table)
            .billing_mode(BillingMode::PayPerRequest);
        for (name, kind) in [(PK, KeyType::Hash), (SK, KeyType::Range)] {
            let attribute = AttributeDefinition::builder()
                .attribute_name(name)
                .attribute_type(ScalarAttributeType::S)
                .build();
            let key = KeySchemaElement::builder().attribute_name(name).key_type(kind).build();
            creating = creating
                .attribute_definitions(
                    attribute.map_err(|error| StoreError::unavailable(failed(), error))?,
                )
                .key_schema(key.map_err(|error| StoreError::unavailable(failed(), error))?);
        }
        Box::pin(creating.send())
            .await
            .map_err(|error| StoreError::unavailable(failed(), error))?;
        let there =
            self.client.wait_until_table_exists().table_name(&self.table).wait(CREATION_TIMEOUT);
        Box::pin(there).await.map_err(|error| StoreError::unavailable(failed(), error))?;
        let clearing = TimeToLiveSpecification::builder().attribute_name(TTL).enabled(true).build();
        let clearing = clearing.map_err(|error| StoreError::unavailable(failed(), error))?;
        let set = self
            .client
            .update_time_to_live()
            .table_name(&self.table)
            .time_to_live_specification(clearing)
            .send();
        Box::pin(set).await.map_err(|error| StoreError::unavailable(failed(), error))?;
        Ok(true)
    }

    async fn described(&self) -> Result<Option<TableDescription>, StoreError> {
        match Box::pin(self.client.describe_table().table_name(&self.table).send()).await {
            Ok(answer) => Ok(answer.table),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|error| error.is_resource_not_found_exception()) =>
            {
                Ok(None)
            }
            Err(error) => {
                Err(StoreError::unavailable(format!("cannot reach table `{}`", self.table), error))
            }
        }
    }
}
