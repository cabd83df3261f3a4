//! The rules of the registry host in the records: it is recorded once, and no flag overrides it.

use stile_core::audit::{self, Chain, Kept};
use stile_protocol::audience::Audience;

use super::Records;
use super::mutation::{Mutation, Outcome};
use crate::retry::Retry;
use crate::{HostRecorded, StoreError};

impl Records {
    /// Records the host, unless one is recorded. An operator's change has an event.
    pub(crate) async fn record_host(
        &self,
        host: &Audience,
        kept: Option<&Kept>,
    ) -> Result<HostRecorded, StoreError> {
        let mut retry = Retry::default();
        loop {
            let (sealed, recorded) = self.sealed_keyring().await?;
            if let Some(recorded) = recorded? {
                return Ok(if recorded == *host {
                    HostRecorded::Same
                } else {
                    HostRecorded::Another(recorded.to_string())
                });
            }
            // For another registry, KMS would not decrypt any of the keys.
            if let Some(other) = sealed.filter(|sealed| sealed.audience != host.as_str()) {
                return Ok(HostRecorded::Another(other.audience));
            }
            let add = vec![Mutation::AddHost(host.clone())];
            let outcome = match kept {
                Some(kept) => {
                    let (chain, created) = (Chain::Operator, audit::Outcome::Created);
                    self.commit_audited(&chain, add, kept, created).await?
                }
                None => self.commit(add).await?,
            };
            match outcome {
                Outcome::Done => return Ok(HostRecorded::Created),
                _ => retry.wait().await?,
            }
        }
    }

    /// Returns an error if the records name another host than the one that the store was opened
    /// for.
    pub(crate) fn check_host(
        &self,
        recorded: Option<&Audience>,
        opened_for: Option<&Audience>,
    ) -> Result<(), StoreError> {
        match (recorded, opened_for) {
            (Some(recorded), Some(given)) if recorded != given => {
                let hint = match self {
                    // With a folder, a broker needs `--host`.
                    Self::Sqlite(_) => format!("give `--host {recorded}`, or another data folder"),
                    Self::DynamoDb(_) => "leave `--host` out".to_owned(),
                };
                Err(StoreError::misconfigured(format!(
                    "{} is for registry `{recorded}`, and `--host` says `{given}`; hint: {hint}",
                    self.name()
                )))
            }
            _ => Ok(()),
        }
    }
}
