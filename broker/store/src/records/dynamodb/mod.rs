//! Records in one DynamoDB table.

mod attributes;
mod audit;
mod caller;
mod commit;
mod compression;
mod grants;
mod namespaces;
mod outbox;
mod package_state;
mod packages;
mod providers;
mod refused_exchanges;
mod reservations;
mod revocations;
mod search;
mod service_tokens;
mod setup;
mod signed_heads;
mod single;
mod table;
mod trusts;
mod uploads;
mod usage;
mod version_changes;
mod webhooks;

use aws_config::SdkConfig;

use crate::aws::{Genuine, Measured, own_retries};
use crate::records::audit::ChainTurns;
use crate::{Service, ServiceCalls};

/// A DynamoDB table. The client is created once, and makes no call before the first operation.
#[derive(Clone)]
pub struct DynamoDb {
    client: aws_sdk_dynamodb::Client,
    table: String,
    chain_turns: ChainTurns,
}

impl std::fmt::Debug for DynamoDb {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("DynamoDb").field("table", &self.table).finish_non_exhaustive()
    }
}

impl DynamoDb {
    /// Creates a client for the table with this name.
    pub(crate) fn new(table: &str, sdk: &SdkConfig, calls: &ServiceCalls) -> Self {
        let config = aws_sdk_dynamodb::config::Builder::from(sdk)
            .interceptor(Genuine)
            .interceptor(Measured::new(Service::DynamoDb, calls))
            .retry_partition(own_retries("dynamodb"));
        Self {
            client: aws_sdk_dynamodb::Client::from_conf(config.build()),
            table: table.to_owned(),
            chain_turns: ChainTurns::default(),
        }
    }

    /// Returns the turns of this process to append to chains of events.
    pub(crate) const fn chain_turns(&self) -> &ChainTurns {
        &self.chain_turns
    }

    /// Returns the name of the table, for messages.
    pub(crate) fn name(&self) -> String {
        format!("table `{}`", self.table)
    }
}
