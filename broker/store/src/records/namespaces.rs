//! The rules of namespaces. Each has one record, which its first grant or an operator creates.
//!
//! Earlier releases created no records of namespaces. There, a namespace had only grants or
//! packages. The store knows such a namespace without a record, and its next grant adds the record.

use std::collections::BTreeMap;

use stile_core::audit::{self, Chain, Kept};
use stile_core::grants::{GrantNamespace, PermittedNamespaces};
use stile_core::package::PackageKind;
use stile_core::package::source::AllowedSources;
use stile_protocol::names::Namespace;

use super::Records;
use super::model::{PackagesPage, RecordedNamespace};
use super::mutation::{Mutation, Outcome};
use crate::retry::Retry;
use crate::{NamespaceCreated, NamespaceLimits, NamespaceRecord, NamespaceSummary, StoreError};

/// A record as the backend found it; `None` if this program cannot read it.
pub(crate) type StoredNamespace = Option<RecordedNamespace>;

/// What the store knows about a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// It has a record.
    Recorded,
    /// It has no record, but a grant or a package.
    InUse,
    /// It has nothing.
    Unknown,
}

impl Records {
    /// Creates the record of a namespace. It does not change an existing record.
    pub(crate) async fn create_namespace(
        &self,
        record: NamespaceRecord,
        kept: &Kept,
    ) -> Result<NamespaceCreated, StoreError> {
        let mut retry = Retry::default();
        loop {
            if let Some(stored) = self.namespace_record(&record.namespace).await? {
                let stored = readable(stored, &record.namespace)?;
                return Ok(NamespaceCreated::Exists(stored.record));
            }
            let (chain, created) = (Chain::from(&record.namespace), audit::Outcome::Created);
            let add = vec![Mutation::AddNamespace(record.clone())];
            match self.commit_audited(&chain, add, kept, created).await? {
                Outcome::Done => return Ok(NamespaceCreated::Done(record)),
                _ => retry.wait().await?,
            }
        }
    }

    /// Returns what the store knows about a namespace.
    pub(super) async fn known_namespace(&self, namespace: &Namespace) -> Result<Known, StoreError> {
        if let Some(stored) = self.namespace_record(namespace).await? {
            return readable(stored, namespace).map(|_| Known::Recorded);
        }
        let used = self.is_used(namespace).await?;
        Ok(if used { Known::InUse } else { Known::Unknown })
    }

    async fn is_used(&self, namespace: &Namespace) -> Result<bool, StoreError> {
        let grants = self.stored_grants(None, Some(GrantNamespace::One(namespace.clone())));
        if !grants.await?.is_empty() {
            return Ok(true);
        }
        let reach = &PermittedNamespaces::All;
        let page = PackagesPage { reach, namespace: Some(namespace), offset: 0, limit: 1 };
        for kind in PackageKind::ALL {
            if !self.summaries(kind, &page).await?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns one namespace with the numbers of its grants and modules; `None` if it has nothing.
    pub(crate) async fn namespace(
        &self,
        namespace: &Namespace,
    ) -> Result<Option<NamespaceSummary>, StoreError> {
        let stored = self.namespace_record(namespace).await?;
        let record = stored.map(|stored| readable(stored, namespace)).transpose()?;
        let record = record.map(|recorded| recorded.record);
        let grants =
            self.stored_grants(None, Some(GrantNamespace::One(namespace.clone()))).await?.len();
        let modules = self.all_summaries(PackageKind::Module, Some(namespace)).await?.len();
        let providers = self.all_summaries(PackageKind::Provider, Some(namespace)).await?.len();
        let known = record.is_some() || grants > 0 || modules > 0 || providers > 0;
        let usage = self.usages(std::slice::from_ref(namespace)).await?.remove(namespace);
        Ok(known.then(|| NamespaceSummary {
            namespace: namespace.clone(),
            record,
            grants,
            modules,
            providers,
            usage,
        }))
    }

    /// Returns all namespaces, in order, with the numbers of their grants and modules.
    ///
    /// It leaves out a record that it cannot read, and raises the alarm.
    pub(crate) async fn namespaces(&self) -> Result<Vec<NamespaceSummary>, StoreError> {
        let (mut found, mut limited) = (Found::default(), Vec::new());
        for stored in self.namespace_records().await? {
            match stored {
                Some(RecordedNamespace { record, .. }) => {
                    let namespace = record.namespace.clone();
                    if !record.limits.is_unlimited() {
                        limited.push(namespace.clone());
                    }
                    found.entry(&namespace).record = Some(record);
                }
                None => alarm(),
            }
        }
        for grant in self.stored_grants(None, None).await? {
            if let Ok(GrantNamespace::One(namespace)) = grant.on.parse() {
                found.entry(&namespace).grants += 1;
            }
        }
        for module in self.all_summaries(PackageKind::Module, None).await? {
            found.entry(module.address.namespace()).modules += 1;
        }
        for provider in self.all_summaries(PackageKind::Provider, None).await? {
            found.entry(provider.address.namespace()).providers += 1;
        }
        for (namespace, usage) in self.usages(&limited).await? {
            found.entry(&namespace).usage = Some(usage);
        }
        Ok(found.0.into_values().collect())
    }
}

/// The namespaces counted so far, in order.
#[derive(Debug, Default)]
struct Found(BTreeMap<Namespace, NamespaceSummary>);

impl Found {
    fn entry(&mut self, namespace: &Namespace) -> &mut NamespaceSummary {
        let empty = || NamespaceSummary {
            namespace: namespace.clone(),
            record: None,
            grants: 0,
            modules: 0,
            providers: 0,
            usage: None,
        };
        self.0.entry(namespace.clone()).or_insert_with(empty)
    }
}

/// Returns a new record, without limits and without allowed sources.
pub(super) fn empty(namespace: &Namespace, created_by: &str, now: i64) -> NamespaceRecord {
    NamespaceRecord {
        namespace: namespace.clone(),
        created_by: created_by.to_owned(),
        created_at: now,
        limits: NamespaceLimits::default(),
        sources: AllowedSources::default(),
    }
}

/// Returns the record, or an error for a record that this program cannot read.
pub(super) fn readable(
    stored: StoredNamespace,
    namespace: &Namespace,
) -> Result<RecordedNamespace, StoreError> {
    stored.ok_or_else(|| {
        alarm();
        StoreError::corrupt(format!("cannot read the record of namespace `{namespace}`"))
    })
}

fn alarm() {
    tracing::error!(
        alarm = "unreadable_namespace",
        "cannot read the record of a namespace in the store"
    );
}
