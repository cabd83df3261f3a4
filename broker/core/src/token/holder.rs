//! Whose state decides about the holder of a token: the holder's principal, its groups, and the trust
//! that believed it.

use serde_json::Value;
use stile_protocol::exchange::Namespaces;
use stile_protocol::strict_json::FieldError;

use crate::principal::Principal;

/// The most groups of a token, each of which costs a read of its grants.
pub const MAX_GROUPS: usize = 16;

/// The most bytes of a token's namespaces and groups together. A longer token would not fit into a
/// header, and groups give way to namespaces.
const MAX_LISTED: usize = 2_400;

/// Whose state decides about the holder of a token.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Holder {
    /// The holder's own principal.
    pub principal: Principal,
    /// What the token names: the holder's permission set, its groups, and the trust that believed it.
    more: Vec<Principal>,
    /// Whether a JWT of AWS named the holder. Only its ARN shows whether the holder has a permission
    /// set: everyone who may create roles can choose a name that looks like one.
    by_jwt: bool,
}

impl Holder {
    /// Creates the holder of a token that names only its principal.
    pub const fn plain(principal: Principal) -> Self {
        Self { principal, more: Vec::new(), by_jwt: false }
    }

    /// Creates the holder of a token that a JWT of AWS gave, with all that the token names.
    pub(super) fn by_jwt(principal: &Principal, more: Vec<Principal>) -> Self {
        Self { principal: principal.clone(), more, by_jwt: true }
    }

    /// Returns every principal whose grants or revocation matter, the holder's own first.
    pub fn principals(&self) -> Vec<Principal> {
        let mut aliases = self.principal.aliases();
        if self.by_jwt {
            aliases.retain(|alias| !matches!(alias, Principal::PermissionSet(_)));
        }
        let own = std::iter::once(self.principal.clone()).chain(aliases);
        own.chain(self.more.iter().cloned()).collect()
    }
}

/// Reads the permission set and the groups. It leaves out what it does not know, which gives less
/// access.
pub(super) fn read_via(claim: Value) -> Result<Vec<Principal>, FieldError> {
    let malformed = || FieldError::new("via", "a list of at most 16 groups");
    let Value::Array(groups) = claim else { return Err(malformed()) };
    if groups.len() > MAX_GROUPS {
        return Err(malformed());
    }
    let group = |group: &Value| {
        let group = Principal::parse_stored(group.as_str()?).ok()?;
        matches!(group, Principal::AwsGroup(_) | Principal::PermissionSet(_)).then_some(group)
    };
    Ok(groups.iter().filter_map(group).collect())
}

/// Returns the groups that fit into a token with these namespaces, the first ones first. A
/// permission set and the organization lead, and are short enough to fit always: a token must end
/// with a revocation of its organization.
pub(super) fn fitting(groups: &[Principal], namespaces: &Namespaces) -> Vec<Principal> {
    let listed = match namespaces {
        Namespaces::All => 0,
        Namespaces::List(list) => list.iter().map(|one| one.as_str().len() + 3).sum(),
    };
    let mut left = MAX_LISTED.saturating_sub(listed);
    let fits = |group: &&Principal| match left.checked_sub(group.as_str().len() + 3) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    };
    groups.iter().filter(fits).take(MAX_GROUPS).cloned().collect()
}

#[cfg(test)]
mod tests {
    use stile_protocol::exchange::MAX_NAMESPACES;
    use stile_protocol::names::Namespace;

    use super::*;

    #[test]
    fn groups_give_way_to_namespaces() {
        let unit = format!("ou:o-{}/r-{}", "a".repeat(32), "b".repeat(32));
        let unit =
            format!("{unit}{}", format!("/ou-{}-{}", "b".repeat(32), "c".repeat(32)).repeat(5));
        let tag = format!("{unit}/tag:{}={}", "k".repeat(128), "v".repeat(256));
        let groups: Vec<Principal> = (0..20)
            .map(|n| Principal::parse_stored(&format!("{}{n}", &tag[..tag.len() - 2])).unwrap())
            .collect();
        let many: Vec<Namespace> = (0..MAX_NAMESPACES)
            .map(|n| Namespace::parse(&format!("{}{n}", "n".repeat(62))).unwrap())
            .collect();
        for (namespaces, least) in [(Namespaces::All, 2), (Namespaces::List(many), 0)] {
            let fit = fitting(&groups, &namespaces);
            assert!(fit.len() >= least && fit.len() < 4, "{}", fit.len());
            // A sealed token is base64, with less than 100 bytes of its own. The other claims have less
            // than 500.
            let listed = serde_json::json!({"ns": namespaces, "via": fit}).to_string().len();
            let sealed = (listed + 600) * 4 / 3;
            assert!(sealed <= crate::token::MAX_TOKEN_LEN, "{sealed}");
        }
        let short: Vec<Principal> = (0..20)
            .map(|n| Principal::parse_stored(&format!("tag:team=data{n}")).unwrap())
            .collect();
        assert_eq!(fitting(&short, &Namespaces::All).len(), MAX_GROUPS);
    }
}
