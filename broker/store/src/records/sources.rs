//! The rules of allowed sources: a namespace has a list, which only an operator changes.

use stile_core::package::source::{AllowedSources, SourcesChange};
use stile_protocol::names::Namespace;

use super::Records;
use super::mutation::{Mutation, Outcome};
use super::namespaces::{Known, empty};
use crate::retry::Retry;
use crate::{SourcesSet, StoreError};

impl Records {
    /// Returns the sources that the versions of a namespace may have.
    pub(crate) async fn allowed_sources(
        &self,
        namespace: &Namespace,
    ) -> Result<AllowedSources, StoreError> {
        Ok(self.recorded(namespace).await?.map(|found| found.record.sources).unwrap_or_default())
    }

    /// Changes the list of a namespace.
    pub(crate) async fn set_sources(
        &self,
        namespace: &Namespace,
        change: &SourcesChange,
        created_by: &str,
        now: i64,
    ) -> Result<SourcesSet, StoreError> {
        let mut retry = Retry::default();
        loop {
            let before = self.recorded(namespace).await?;
            if before.is_none() && self.known_namespace(namespace).await? == Known::Unknown {
                return Ok(SourcesSet::Absent);
            }
            let mut record = before
                .as_ref()
                .map_or_else(|| empty(namespace, created_by, now), |before| before.record.clone());
            let held = record.sources.clone();
            record.sources = match held.changed(change) {
                Ok(sources) => sources,
                Err(error) => return Ok(SourcesSet::Rejected(error)),
            };
            let sources = record.sources.clone();
            if sources == held {
                return Ok(SourcesSet::Done { before: held, sources });
            }
            match self.commit(vec![Mutation::SetSources { before, record }]).await? {
                Outcome::Done => return Ok(SourcesSet::Done { before: held, sources }),
                _ => retry.wait().await?,
            }
        }
    }
}
