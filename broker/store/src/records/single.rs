//! The rules of which registry the records are for: written once, and never overruled by a flag.

use stile_protocol::audience::Audience;

use super::Records;
use super::mutation::{Mutation, Outcome};
use crate::retry::Retry;
use crate::{HostKept, StoreError};

impl Records {
    /// Writes the host, unless one is there.
    pub(crate) async fn keep_host(&self, host: &Audience) -> Result<HostKept, StoreError> {
        let mut retry = Retry::default();
        loop {
            let (sealed, kept) = self.sealed_keyring().await?;
            if let Some(kept) = kept? {
                return Ok(if kept == *host {
                    HostKept::Same
                } else {
                    HostKept::Another(kept.to_string())
                });
            }
            // Under another name, not one of the keys would open.
            if let Some(other) = sealed.filter(|sealed| sealed.audience != host.as_str()) {
                return Ok(HostKept::Another(other.audience));
            }
            match self.commit(vec![Mutation::AddHost(host.clone())]).await? {
                Outcome::Done => return Ok(HostKept::Made),
                _ => retry.again().await?,
            }
        }
    }

    /// Refuses a host in the records that is another than the one the store is opened for.
    pub(crate) fn check_host(
        &self,
        kept: Option<&Audience>,
        opened_for: Option<&Audience>,
    ) -> Result<(), StoreError> {
        match (kept, opened_for) {
            (Some(kept), Some(given)) if kept != given => Err(StoreError::misconfigured(format!(
                "{} is for registry `{kept}`, and `--host` says `{given}`; hint: leave `--host` out",
                self.name()
            ))),
            _ => Ok(()),
        }
    }
}
