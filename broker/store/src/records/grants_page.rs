//! One page of a list of grants, as a bearer sees it.

use stile_core::grants::{Grant, GrantNamespace, VisibleGrants};
use stile_core::principal::Principal;

use super::model::StoredGrant;
use crate::AfterGrant;

/// Where the grants of a page are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// The grants of a principal.
    Principal(Principal),
    /// The grants on a namespace.
    Namespace(GrantNamespace),
    /// All grants.
    All,
}

/// One page of a list of grants.
#[derive(Debug)]
pub(crate) struct GrantsPage {
    pub(crate) visible: VisibleGrants,
    pub(crate) source: Source,
    /// The only namespace of the page, if it has one.
    pub(crate) namespace: Option<GrantNamespace>,
    pub(crate) after: Option<AfterGrant>,
    pub(crate) limit: usize,
    /// The rows after which the page ends, even if it is not full.
    pub(crate) rows: usize,
}

/// The grants of a page, and where it ended because it read too many rows.
pub(crate) type Found = (Vec<StoredGrant>, Option<AfterGrant>);

/// Collects the grants of a page.
pub(crate) struct Collected<'a> {
    page: &'a GrantsPage,
    found: Found,
    full: usize,
    rows: usize,
}

impl GrantsPage {
    pub(crate) fn collect(&self) -> Collected<'_> {
        Collected { page: self, found: (Vec::new(), None), full: 0, rows: 0 }
    }

    fn wants(&self, grant: &Grant) -> bool {
        let place = (&grant.principal, grant.namespace.to_string());
        let later = |after: &AfterGrant| place > (&after.principal, after.namespace.to_string());
        self.after.as_ref().is_none_or(later)
            && self.namespace.as_ref().is_none_or(|namespace| *namespace == grant.namespace)
            && self.visible.show(grant).is_some()
    }
}

impl Collected<'_> {
    /// Adds a grant to the page, if it belongs there. Returns whether the page ends.
    ///
    /// It also adds a grant that this program does not understand, for the alarm. Nobody sees it.
    pub(crate) fn add(&mut self, stored: StoredGrant) -> bool {
        self.rows += 1;
        let Some(grant) = &stored.grant else {
            self.found.0.push(stored);
            return false;
        };
        if self.rows >= self.page.rows {
            self.found.1 = Some(place(grant));
        }
        if self.page.wants(grant) {
            self.full += 1;
            self.found.0.push(stored);
        }
        self.full >= self.page.limit || self.found.1.is_some()
    }

    pub(crate) fn finish(self) -> Found {
        self.found
    }
}

/// Returns the place of a grant in the list.
pub(crate) fn place(grant: &Grant) -> AfterGrant {
    AfterGrant { principal: grant.principal.clone(), namespace: grant.namespace.clone() }
}

/// Sorts grants of several sources into the order of the list. Each stays once.
pub(crate) fn sort(grants: &mut Vec<Grant>) {
    let order = |grant: &Grant| (grant.principal.clone(), grant.namespace.to_string());
    grants.sort_by_cached_key(order);
    grants.dedup_by(|one, other| {
        one.principal == other.principal && one.namespace == other.namespace
    });
}
