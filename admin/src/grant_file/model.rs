//! What a file of grants says: the namespaces that it owns, and the grants on them.

use std::collections::BTreeSet;
use std::path::Path;

use stile_core::grants::{Grant, GrantNamespace};
use stile_core::principal::Principal;
use stile_protocol::names::Permissions;
use stile_store::UnreadableGrant;

/// The version of the format that this program reads and writes.
pub(super) const VERSION: &str = "1";

/// The word for `owns` of a file that owns every grant. No namespace can have this name.
pub(super) const ALL: &str = "all";

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileFormat {
    /// TOML.
    Toml,
    /// JSON.
    Json,
}

impl FileFormat {
    /// Returns the format of a file, by the ending of its name.
    pub(crate) fn of_file(path: &Path) -> Self {
        let json = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
        if json { Self::Json } else { Self::Toml }
    }

    /// Returns the format of a text without a name. Only an object of JSON begins with `{`.
    pub(crate) fn of_text(text: &str) -> Self {
        if text.trim_start().starts_with('{') { Self::Json } else { Self::Toml }
    }
}

/// The namespaces whose grants a file owns: it is the truth for these, and for no others.
///
/// A file never owns a grant of a service. `token issue` makes these grants together with a token, so a
/// file that does not know the token would end it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owned {
    /// Every grant.
    All,
    /// The grants on these namespaces. `*` is one of them: the grants on `*`, and no others.
    These(BTreeSet<GrantNamespace>),
}

impl Owned {
    /// Returns whether the file owns the grants on this namespace.
    pub(crate) fn includes(&self, namespace: &GrantNamespace) -> bool {
        match self {
            Self::All => true,
            Self::These(these) => these.contains(namespace),
        }
    }

    /// Returns whether the file owns this grant.
    pub(crate) fn includes_grant(&self, grant: &Grant) -> bool {
        self.includes(&grant.namespace) && can_have(&grant.principal)
    }

    /// Returns whether the file can own a grant that this program cannot read. Nobody knows who owns
    /// one without a readable namespace, so every file has to say that there is one.
    pub(crate) fn can_include(&self, unreadable: &UnreadableGrant) -> bool {
        let principal = Principal::parse_stored(&unreadable.principal);
        unreadable.namespace.parse().map_or(true, |namespace| self.includes(&namespace))
            && principal.map_or(true, |principal| can_have(&principal))
    }
}

/// Returns whether a file can have grants of this principal: not of a service.
pub(super) const fn can_have(principal: &Principal) -> bool {
    !matches!(principal, Principal::Service(_))
}

/// A grant that a file wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WantedGrant {
    /// The principal that gets the grant.
    pub(crate) principal: Principal,
    /// The namespace to which the permissions apply.
    pub(crate) namespace: GrantNamespace,
    /// The permissions. Never empty.
    pub(crate) permissions: Permissions,
    /// End of the grant in Unix seconds.
    pub(crate) expires_at: Option<i64>,
}

impl WantedGrant {
    /// Returns whether a grant is the wanted one, and has not ended. Who created it does not matter.
    pub(crate) fn is(&self, held: &Grant, now: i64) -> bool {
        held.principal == self.principal
            && held.namespace == self.namespace
            && held.permissions == self.permissions
            && held.expires_at == self.expires_at
            && is_live(held, now)
    }
}

/// Returns whether a grant has not ended.
pub(super) fn is_live(grant: &Grant, now: i64) -> bool {
    grant.expires_at.is_none_or(|end| now < end)
}

/// A file of grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GrantFile {
    /// The namespaces that it owns.
    pub(crate) owned: Owned,
    /// The grants that it wants, each on a namespace that it owns.
    pub(crate) grants: Vec<WantedGrant>,
    /// Notices about parts of the file that have no effect, one sentence each.
    pub(crate) notices: Vec<String>,
    /// The namespaces that the user named, and that the file does not mention. A file that owns every
    /// grant owns a mistyped one, too.
    pub(crate) unmentioned: Vec<GrantNamespace>,
}

impl GrantFile {
    /// Returns the part of the file for these namespaces, or the first one that the file does not own.
    pub(crate) fn only(
        mut self,
        namespaces: BTreeSet<GrantNamespace>,
    ) -> Result<Self, GrantNamespace> {
        if let Some(other) = namespaces.iter().find(|namespace| !self.owned.includes(namespace)) {
            return Err(other.clone());
        }
        if self.owned == Owned::All {
            let mentioned: BTreeSet<_> = self.grants.iter().map(|grant| &grant.namespace).collect();
            let unmentioned = namespaces.iter().filter(|namespace| !mentioned.contains(namespace));
            self.unmentioned = unmentioned.cloned().collect();
        }
        self.grants.retain(|grant| namespaces.contains(&grant.namespace));
        self.owned = Owned::These(namespaces);
        Ok(self)
    }
}
