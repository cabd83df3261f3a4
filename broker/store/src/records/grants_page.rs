//! One page of a list of grants, as a bearer sees it.

use stile_core::grants::{GrantNamespace, VisibleGrants};
use stile_core::principal::Principal;

use super::model::StoredGrant;
use crate::AfterGrant;

/// One page of a list of grants.
#[derive(Debug)]
pub(crate) struct GrantsPage {
    pub(crate) visible: VisibleGrants,
    pub(crate) principal: Option<Principal>,
    pub(crate) namespace: Option<GrantNamespace>,
    pub(crate) after: Option<AfterGrant>,
    pub(crate) limit: usize,
}

impl GrantsPage {
    /// Adds a grant to the page, if it is visible. Returns whether the page is full.
    ///
    /// It also adds a grant that this program does not understand, for the alarm. Nobody sees it.
    pub(crate) fn add(&self, stored: StoredGrant, found: &mut Vec<StoredGrant>) -> bool {
        if stored.grant.as_ref().is_none_or(|grant| self.visible.shows(grant)) {
            found.push(stored);
        }
        found.iter().filter(|stored| stored.grant.is_some()).count() >= self.limit
    }
}
