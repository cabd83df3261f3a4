//! The differences between a grant and the access that a question is about.

use super::REVOKED;
use crate::principal::Principal;

/// The code of a pinned unique id that the caller does not have.
pub(super) const UNIQUE_ID: &str = "unique_id";

/// One difference. Less significant differences sort first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// The grant expired at this time, in Unix seconds.
    Expiry(i64),
    /// This unique id is pinned, and the caller has another one. `None` for those who may not know it.
    UniqueId(Option<String>),
    /// The names of the grant and of the caller differ only by case.
    Case(String, String),
    /// The grant is for this other role of the caller's permission set.
    OtherSuffix(String),
    /// The caller's role name has this invalid suffix, so no permission set applies.
    NoSuffix(String),
    /// The grant has these permissions instead.
    Permission(String),
    /// The grant is on another namespace. The more similar its name, the nearer the grant.
    Namespace {
        /// The number of typing errors between the two names.
        typing_errors: usize,
        /// The namespace of the grant.
        granted: String,
    },
    /// The grant is for this partition instead.
    Partition(String),
    /// The grant is for this account instead.
    Account(String),
    /// The grant is for this kind of principal instead, with the same name.
    Kind(&'static str),
    /// There is no trust of the caller's name, so nobody is the caller.
    NoTrust,
    /// An operator revoked the token.
    TokenRevoked,
    /// The scope of the token has only these permissions.
    TokenPermissions(String),
    /// The scope of the token has only these namespaces.
    TokenNamespaces(String),
}

/// Returns how the principal of a grant differs from the caller's principal of the same kind.
///
/// `principals` are the caller's principals, its own first. `None` if they have nothing in common.
pub(super) fn between_principals(
    principals: &[Principal],
    granted: &Principal,
) -> Option<Vec<Difference>> {
    let caller = principals.first()?;
    if principals.contains(granted) {
        return Some(Vec::new());
    }
    // Nobody types the one kind of name for the other, and a group has no name.
    let is_group = |principal: &Principal| matches!(principal, Principal::AwsGroup(_));
    if is_group(granted) || is_group(caller) {
        return None;
    }
    if granted.aws().is_some() != caller.aws().is_some() {
        return None;
    }
    let by_arn = has_arn(granted);
    let own = principals.iter().find(|own| own.kind() == granted.kind() || by_arn && has_arn(own));
    let (theirs, mut differences) = (name(granted), Vec::new());
    let ours = match own {
        Some(own) => name(own),
        None => {
            let (set, suffix) =
                reserved(name(caller)).filter(|_| matches!(caller, Principal::Role(_)))?;
            differences.push(Difference::NoSuffix(suffix.to_owned()));
            set
        }
    };
    if theirs != ours {
        let one_set =
            reserved(theirs).zip(reserved(ours)).is_some_and(|((one, _), (other, _))| one == other);
        differences.push(match () {
            () if theirs.eq_ignore_ascii_case(ours) => {
                Difference::Case(theirs.to_owned(), ours.to_owned())
            }
            () if one_set => Difference::OtherSuffix(theirs.to_owned()),
            () => return None,
        });
    }
    let own = own.unwrap_or(caller);
    if let (Some(theirs), Some(ours)) = (granted.aws(), own.aws()) {
        let (partition, account) =
            (theirs.partition() != ours.partition(), theirs.account() != ours.account());
        if matches!(granted, Principal::Account(_)) && partition && account {
            return None;
        }
        if partition {
            differences.push(Difference::Partition(theirs.partition().to_string()));
        }
        if account {
            differences.push(Difference::Account(theirs.account().to_owned()));
        }
    }
    if by_arn && granted.kind() != own.kind() {
        differences.push(Difference::Kind(granted.kind()));
    }
    Some(differences)
}

impl Difference {
    /// Returns the name of the difference, as in the output.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Expiry(_) => "expiry",
            Self::UniqueId(_) => "unique id",
            Self::Case(..) => "case",
            Self::OtherSuffix(_) | Self::NoSuffix(_) => "suffix",
            Self::Permission(_) => "permission",
            Self::Namespace { .. } => "namespace",
            Self::Partition(_) => "partition",
            Self::Account(_) => "account",
            Self::Kind(_) => "kind",
            Self::NoTrust => "trust",
            Self::TokenRevoked => REVOKED,
            Self::TokenPermissions(_) | Self::TokenNamespaces(_) => "scope",
        }
    }

    /// Returns the name of the difference for programs: the label as one word.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::UniqueId(_) => UNIQUE_ID,
            _ => self.label(),
        }
    }
}

/// Returns the name of a role, user or permission set. Empty for an account.
fn name(principal: &Principal) -> &str {
    principal.name().unwrap_or_default()
}

/// Returns whether AWS has an ARN for it, so that a role and a user of one name can be mistaken for
/// each other.
const fn has_arn(principal: &Principal) -> bool {
    match principal {
        Principal::Role(_) | Principal::User(_) => true,
        Principal::PermissionSet(_)
        | Principal::Account(_)
        | Principal::Trust(_)
        | Principal::Service(_)
        | Principal::AwsGroup(_) => false,
    }
}

/// Splits the name of a role of IAM Identity Center into permission set and suffix, without checks.
fn reserved(role: &str) -> Option<(&str, &str)> {
    role.strip_prefix("AWSReservedSSO_")?.rsplit_once('_').filter(|(set, _)| !set.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::principals_of;
    use super::*;

    const SSO: &str = "aws:111122223333:role/AWSReservedSSO_Admin_0123456789abcdef";

    fn words(caller: &str, granted: &str) -> Option<Vec<&'static str>> {
        let principal = |text| Principal::parse_stored(text).unwrap();
        Some(
            between_principals(&principals_of(&principal(caller)), &principal(granted))?
                .iter()
                .map(Difference::label)
                .collect(),
        )
    }

    #[test]
    fn unrelated_grants_are_not_near() {
        for (caller, granted) in [
            ("aws:111122223333:role/deploy", "aws:111122223333:role/deployer"),
            ("aws:111122223333:role/deploy", "sso:aws:111122223333/Admin"),
            (SSO, "sso:aws:111122223333/AdminReadOnly"),
            (SSO, "aws:111122223333:role/AWSReservedSSO_AdminReadOnly_0123456789abcdef"),
            ("aws:111122223333:role/AWSReservedSSO_Admin_0123", "sso:aws:111122223333/Other"),
            ("sso:aws:111122223333/Admin", "aws:111122223333:role/deploy"),
            ("account:aws:111122223333", "aws:111122223333:role/deploy"),
            ("aws:111122223333:role/deploy", "account:aws-cn:999922223333"),
        ] {
            assert_eq!(words(caller, granted), None, "{caller} {granted}");
        }
    }

    #[test]
    fn each_difference_has_a_label() {
        for (caller, granted, expected) in [
            ("aws:111122223333:role/deploy", "aws:111122223333:role/deploy", vec![]),
            ("aws:111122223333:role/deploy", "account:aws:111122223333", vec![]),
            (SSO, "sso:aws:111122223333/Admin", vec![]),
            ("sso:aws:111122223333/Admin", "account:aws:111122223333", vec![]),
            ("aws:111122223333:role/deploy", "aws:111122223333:role/Deploy", vec!["case"]),
            ("aws:111122223333:role/deploy", "aws:999922223333:role/deploy", vec!["account"]),
            ("aws:111122223333:role/deploy", "aws-cn:111122223333:role/deploy", vec!["partition"]),
            ("aws:111122223333:role/deploy", "aws:111122223333:user/deploy", vec!["kind"]),
            ("aws:111122223333:user/deploy", "aws:111122223333:role/Deploy", vec!["case", "kind"]),
            ("aws:111122223333:role/deploy", "account:aws:999922223333", vec!["account"]),
            (SSO, "sso:aws:111122223333/admin", vec!["case"]),
            (SSO, "sso:aws-us-gov:111122223333/Admin", vec!["partition"]),
            (SSO, "aws:111122223333:role/AWSReservedSSO_Admin_fedcba9876543210", vec!["suffix"]),
            (
                "aws:111122223333:role/AWSReservedSSO_Admin_0123",
                "sso:aws:111122223333/Admin",
                vec!["suffix"],
            ),
        ] {
            assert_eq!(words(caller, granted), Some(expected), "{caller} {granted}");
        }
    }
}
