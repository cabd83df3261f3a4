//! The rules of allowed sources: a namespace has a list, which only an operator changes.

use stile_core::audit::{self, Chain, Kept};
use stile_core::package::source::{AllowedSources, SourcesChange};
use stile_core::package::{PackageAddress, Version};
use stile_protocol::names::Namespace;

use super::Records;
use super::model::VersionRecord;
use super::mutation::{Mutation, Outcome};
use super::namespaces::{Known, empty, readable};
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

    /// Returns one version, and the sources that the versions of its namespace may have, in one read.
    pub(crate) async fn version_and_sources(
        &self,
        address: &PackageAddress,
        version: &Version,
    ) -> Result<(Option<VersionRecord>, AllowedSources), StoreError> {
        let (found, stored) = self.version_and_namespace(address, version).await?;
        let namespace = stored.map(|stored| readable(stored, address.namespace())).transpose()?;
        let sources = namespace.map(|found| found.record.sources).unwrap_or_default();
        Ok((found, sources))
    }

    /// Changes the list of a namespace.
    pub(crate) async fn set_sources(
        &self,
        namespace: &Namespace,
        change: &SourcesChange,
        created_by: &str,
        kept: &Kept,
    ) -> Result<SourcesSet, StoreError> {
        let mut retry = Retry::default();
        loop {
            let before = self.recorded(namespace).await?;
            if before.is_none() && self.known_namespace(namespace).await? == Known::Unknown {
                return Ok(SourcesSet::Absent);
            }
            let mut record = before.as_ref().map_or_else(
                || empty(namespace, created_by, kept.at()),
                |before| before.record.clone(),
            );
            let held = record.sources.clone();
            record.sources = match held.changed(change) {
                Ok(sources) => sources,
                Err(error) => return Ok(SourcesSet::Rejected(error)),
            };
            let sources = record.sources.clone();
            if sources == held {
                return Ok(SourcesSet::Done { before: held, sources });
            }
            let (chain, changed) = (Chain::from(namespace), audit::Outcome::Changed);
            let set = vec![Mutation::SetSources { before, record }];
            match self.commit_audited(&chain, set, kept, changed).await? {
                Outcome::Done => return Ok(SourcesSet::Done { before: held, sources }),
                _ => retry.wait().await?,
            }
        }
    }
}
