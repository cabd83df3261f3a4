//! Principals: the names to which grants apply, as one canonical text each.
//!
//! A principal is a name, not proof of an identity. Only AWS says which principal a caller is, and
//! [`parse_caller_arn`] parses its answer.

mod aliases;
mod arn;
mod aws;
mod aws_group;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod local;
mod typed;
mod unique_id;

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use stile_protocol::region::Partition;

pub use self::arn::{CallerArn, CallerArnError, parse_caller_arn, parse_own_arn};
pub use self::aws::AwsPrincipal;
pub use self::aws::is_account;
use self::aws::{MAX_NAME_LEN, MAX_PERMISSION_SET_LEN};
pub use self::aws_group::{AwsGroup, AwsGroupKind, TagScope, is_org_id, is_unit_path};
pub use self::local::{LocalName, LocalNameError, LocalPrincipal};
pub use self::typed::{TypedPrincipal, TypedPrincipalError, parse_typed};
pub use self::unique_id::{ShownId, UniqueId};

/// The error for a text that is not a canonical principal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a stored principal")]
pub struct PrincipalError(String);

/// The subject of a grant, for example `aws:111122223333:role/deploy`.
///
/// The enum is closed, because each kind needs its own comparison rules. Equality and order compare
/// the bytes of the text, without case folding, because IAM preserves the case of names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Principal {
    /// One IAM role, independent of its path and session.
    Role(AwsPrincipal),
    /// One IAM user, independent of its path.
    User(AwsPrincipal),
    /// A permission set of IAM Identity Center in one account, independent of the suffix of its role.
    PermissionSet(AwsPrincipal),
    /// All roles and users of an account. It excludes EC2 instance identity, which
    /// [`parse_caller_arn`] rejects.
    Account(AwsPrincipal),
    /// All callers whose JWT one trust of this registry believes, for example `oidc:release-ci`.
    Trust(LocalPrincipal),
    /// The holder of a service token of this registry, for example `service:renovate`.
    Service(LocalPrincipal),
    /// The callers of an organization, of an organizational unit, or with a tag. Only AWS's own JWT
    /// shows that a caller is one of them.
    AwsGroup(AwsGroup),
}

impl Principal {
    /// Parses the output of [`Display`](fmt::Display) and nothing else: it does not trim, fold case or
    /// accept ARNs.
    ///
    /// # Errors
    ///
    /// [`PrincipalError`], if the text is not canonical.
    pub fn parse_stored(text: &str) -> Result<Self, PrincipalError> {
        read_stored(text).ok_or_else(|| PrincipalError(printable(text)))
    }

    /// Returns partition, account and name, if AWS manages the principal.
    pub const fn aws(&self) -> Option<&AwsPrincipal> {
        match self {
            Self::Role(aws) | Self::User(aws) | Self::PermissionSet(aws) | Self::Account(aws) => {
                Some(aws)
            }
            Self::Trust(_) | Self::Service(_) | Self::AwsGroup(_) => None,
        }
    }

    /// Returns the kind for messages, for example `permission set`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Role(_) => "role",
            Self::User(_) => "user",
            Self::PermissionSet(_) => "permission set",
            Self::Account(_) => "account",
            Self::Trust(_) => "trust",
            Self::Service(_) => "service",
            Self::AwsGroup(group) => group.kind_name(),
        }
    }

    /// Returns the canonical text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Role(aws) | Self::User(aws) | Self::PermissionSet(aws) | Self::Account(aws) => {
                aws.as_str()
            }
            Self::Trust(local) | Self::Service(local) => local.as_str(),
            Self::AwsGroup(group) => group.as_str(),
        }
    }

    /// Returns whether it is one caller, which can sign in and have a token. Other principals stand
    /// for several callers.
    pub const fn is_caller(&self) -> bool {
        match self {
            Self::Role(_) | Self::User(_) | Self::Trust(_) | Self::Service(_) => true,
            Self::PermissionSet(_) | Self::Account(_) | Self::AwsGroup(_) => false,
        }
    }

    /// Returns whether it has an immutable unique id: AWS gives one to roles and users, and this
    /// registry gives one to each of its trusts.
    ///
    /// Its grants by name then apply only to the pinned unique id.
    pub const fn has_unique_id(&self) -> bool {
        match self {
            Self::Role(_) | Self::User(_) | Self::Trust(_) => true,
            Self::PermissionSet(_) | Self::Account(_) | Self::Service(_) | Self::AwsGroup(_) => {
                false
            }
        }
    }

    /// Returns the name that its issuer knows it by. `None` for an account, which has a number, and
    /// for a group.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Role(aws) | Self::User(aws) | Self::PermissionSet(aws) => {
                aws.as_str().rsplit_once('/').map(|(_, name)| name)
            }
            Self::Account(_) | Self::AwsGroup(_) => None,
            Self::Trust(local) | Self::Service(local) => Some(local.name()),
        }
    }

    /// Returns the principal of a trust.
    pub fn trust(name: &LocalName) -> Self {
        Self::Trust(LocalPrincipal::new(TRUST, name))
    }

    /// Returns the principal of a service.
    pub fn service(name: &LocalName) -> Self {
        Self::Service(LocalPrincipal::new(SERVICE, name))
    }

    /// Returns the text with ASCII letters in lower case.
    ///
    /// The store refuses grants to two principals with the same folded text: IAM treats their names as
    /// equal, so one could be mistaken for the other.
    pub fn folded(&self) -> String {
        self.as_str().to_ascii_lowercase()
    }

    fn role(partition: Partition, account: &str, name: &str) -> Option<Self> {
        AwsPrincipal::new("", partition, account, ":role/", Some((name, MAX_NAME_LEN)))
            .map(Self::Role)
    }

    fn user(partition: Partition, account: &str, name: &str) -> Option<Self> {
        AwsPrincipal::new("", partition, account, ":user/", Some((name, MAX_NAME_LEN)))
            .map(Self::User)
    }

    fn permission_set(partition: Partition, account: &str, name: &str) -> Option<Self> {
        let name = Some((name, MAX_PERMISSION_SET_LEN));
        AwsPrincipal::new("sso:", partition, account, "/", name).map(Self::PermissionSet)
    }

    fn account(partition: Partition, account: &str) -> Option<Self> {
        AwsPrincipal::new("account:", partition, account, "", None).map(Self::Account)
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// The start of the canonical text of a trust.
const TRUST: &str = "oidc:";

/// The start of the canonical text of a service.
const SERVICE: &str = "service:";

fn read_stored(text: &str) -> Option<Principal> {
    if let Some(name) = text.strip_prefix(TRUST) {
        return Some(Principal::trust(&name.parse().ok()?));
    }
    if let Some(name) = text.strip_prefix(SERVICE) {
        return Some(Principal::service(&name.parse().ok()?));
    }
    if let Some(group) = AwsGroup::parse(text) {
        return Some(Principal::AwsGroup(group));
    }
    if let Some(rest) = text.strip_prefix("account:") {
        let (partition, account) = rest.split_once(':')?;
        return Principal::account(Partition::named(partition)?, account);
    }
    if let Some(rest) = text.strip_prefix("sso:") {
        let (partition, rest) = rest.split_once(':')?;
        let (account, name) = rest.split_once('/')?;
        return Principal::permission_set(Partition::named(partition)?, account, name);
    }
    let (partition, rest) = text.split_once(':')?;
    let (account, rest) = rest.split_once(':')?;
    match rest.split_once('/')? {
        ("role", name) => Principal::role(Partition::named(partition)?, account, name),
        ("user", name) => Principal::user(Partition::named(partition)?, account, name),
        _ => None,
    }
}

/// Returns the permission set of a role that IAM Identity Center created, from the role's name.
///
/// The name must be `AWSReservedSSO_<set>_<16 lower-case hex digits>`. A looser match would let the
/// holder of one permission set use the grants of another set with a similar name.
fn permission_set_of(role: &str) -> Option<&str> {
    let (set, suffix) = role.strip_prefix(RESERVED_SSO)?.rsplit_once('_')?;
    let hex = suffix.len() == 16 && suffix.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (hex && !set.is_empty()).then_some(set)
}

const RESERVED_SSO: &str = "AWSReservedSSO_";

/// The name prefix of roles that only an AWS service can assume.
const SERVICE_LINKED: &str = "AWSServiceRoleFor";

/// Splits the rest of an ARN after `role/` or `user/` into an optional path and the name.
///
/// A path is printable ASCII between slashes, at most 512 bytes (IAM API reference, `CreateRole`).
/// This function rejects `:` and empty parts.
fn split_path(text: &str) -> Option<(Option<&str>, &str)> {
    let Some((path, name)) = text.rsplit_once('/') else {
        return Some((None, text));
    };
    let plain = path
        .split('/')
        .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_graphic() && b != b':'));
    (plain && path.len() <= 510).then_some((Some(path), name))
}

/// Prepares a text for an error message: one line, at most 120 characters.
fn printable(text: &str) -> String {
    text.chars().take(120).map(|c| if c.is_control() { '?' } else { c }).collect()
}

impl FromStr for Principal {
    type Err = PrincipalError;

    fn from_str(text: &str) -> Result<Self, PrincipalError> {
        Self::parse_stored(text)
    }
}

impl Ord for Principal {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl PartialOrd for Principal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Serialize for Principal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Principal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse_stored(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_canonical_texts_are_parsed() {
        for text in [
            "",
            "*",
            "aws",
            "aws:111122223333",
            "aws:111122223333:",
            "aws:111122223333:role",
            "aws:111122223333:role/",
            "aws:111122223333:Role/deploy",
            "aws:111122223333:group/deploy",
            "aws:111122223333:role/Org/deploy",
            "aws:111122223333:role/deploy/",
            "aws:111122223333:role/de ploy",
            "aws:111122223333:role/deploy\n",
            " aws:111122223333:role/deploy",
            "aws:111122223333:role/d\u{435}ploy",
            "aws:111122223333:role/a*b",
            "aws:111122223333:role/x|.*",
            "aws:111122223333:role/a)|(?:.*",
            "aws:111122223333:role/^a",
            "aws:11112222333:role/deploy",
            "aws:1111222233334:role/deploy",
            "aws:11112222333a:role/deploy",
            "aws:\u{661}11122223333:role/deploy",
            "aws::role/deploy",
            "AWS:111122223333:role/deploy",
            "aws-moon:111122223333:role/deploy",
            "arn:aws:iam::111122223333:role/deploy",
            "sso:111122223333/Admin",
            "sso:aws:111122223333/",
            "sso:aws:111122223333/a/b",
            "sso:aws:111122223333/123456789012345678901234567890123",
            "SSO:aws:111122223333/Admin",
            "account:111122223333",
            "account:aws:111122223333/",
            "account:aws:111122223333:role/deploy",
            "account:aws:*",
            "oidc:",
            "oidc:Release",
            "oidc:release ci",
            "oidc:release_ci",
            "oidc:-ci",
            "oidc:*",
            "OIDC:release",
            "service:",
            "service:7",
            "service:a/b",
            "service:renovate\n",
            &format!("aws:111122223333:role/{}", "a".repeat(65)),
        ] {
            assert!(Principal::parse_stored(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn every_kind_survives_a_round_trip() {
        type Kind = fn(AwsPrincipal) -> Principal;
        let cases: [(&str, Kind, Partition, &str, Option<&str>); 4] = [
            (
                "aws:111122223333:role/deploy",
                Principal::Role,
                Partition::Aws,
                "111122223333",
                Some("deploy"),
            ),
            (
                "aws-us-gov:012345678901:user/a+=,.@_-b",
                Principal::User,
                Partition::AwsUsGov,
                "012345678901",
                Some("a+=,.@_-b"),
            ),
            (
                "sso:aws-cn:111122223333/Admin",
                Principal::PermissionSet,
                Partition::AwsCn,
                "111122223333",
                Some("Admin"),
            ),
            (
                "account:aws-eusc:111122223333",
                Principal::Account,
                Partition::AwsEusc,
                "111122223333",
                None,
            ),
        ];
        for (text, kind, partition, account, name) in cases {
            let principal = Principal::parse_stored(text).unwrap();
            assert_eq!(principal.to_string(), text);
            let aws = principal.aws().unwrap().clone();
            assert_eq!((aws.partition(), aws.account()), (partition, account));
            assert_eq!(kind(aws), principal);
            assert_eq!(principal.name(), name);
            let one_caller = matches!(principal, Principal::Role(_) | Principal::User(_));
            assert_eq!(principal.is_caller(), one_caller);
            assert_eq!(principal.has_unique_id(), one_caller);
            let json = serde_json::to_string(&principal).unwrap();
            assert_eq!(serde_json::from_str::<Principal>(&json).unwrap(), principal);
        }
        assert!(serde_json::from_str::<Principal>("111122223333").is_err());
    }

    #[test]
    fn names_that_differ_only_by_case_are_two_principals_with_one_folded_text() {
        let upper = Principal::parse_stored("aws:111122223333:role/Deploy").unwrap();
        let lower = Principal::parse_stored("aws:111122223333:role/deploy").unwrap();
        assert_ne!(upper, lower);
        assert!(upper < lower, "the order compares bytes");
        assert_eq!(upper.folded(), lower.folded());
    }

    #[test]
    fn a_role_and_a_user_of_one_name_have_different_folded_texts() {
        let role = Principal::parse_stored("aws:111122223333:role/ci").unwrap();
        let user = Principal::parse_stored("aws:111122223333:user/ci").unwrap();
        assert_ne!(role, user);
        assert_ne!(role.folded(), user.folded());
    }

    #[test]
    fn a_permission_set_role_needs_a_suffix_of_exactly_16_lower_case_hex_digits() {
        for role in [
            "deploy",
            "AWSReservedSSO_",
            "AWSReservedSSO_Admin",
            "AWSReservedSSO_0123456789abcdef",
            "AWSReservedSSO__0123456789abcdef",
            "AWSReservedSSO_Admin_0123456789abcde",
            "AWSReservedSSO_Admin_0123456789abcdef0",
            "AWSReservedSSO_Admin_0123456789ABCDEF",
            "AWSReservedSSO_Admin_0123456789abcdeg",
            "awsreservedsso_Admin_0123456789abcdef",
            "xAWSReservedSSO_Admin_0123456789abcdef",
        ] {
            assert_eq!(permission_set_of(role), None, "{role}");
        }
        for (role, set) in [
            ("AWSReservedSSO_Admin_0123456789abcdef", "Admin"),
            ("AWSReservedSSO_Admin_Read_0123456789abcdef", "Admin_Read"),
            ("AWSReservedSSO_0123456789abcdef_0123456789abcdef", "0123456789abcdef"),
        ] {
            assert_eq!(permission_set_of(role), Some(set));
        }
    }

    /// Generates texts that are similar to principals.
    pub(super) fn near_principals() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            Just("arn:"),
            Just("aws:"),
            Just("aws-cn:"),
            Just("iam::"),
            Just("sts::"),
            Just("sso:"),
            Just("account:"),
            Just("111122223333"),
            Just(":"),
            Just("/"),
            Just("role/"),
            Just("user/"),
            Just("assumed-role/"),
            Just("root"),
            Just("federated-user/x"),
            Just("aws:ec2-instance/i-0abc"),
            Just("AWSReservedSSO_Admin_0123456789abcdef"),
            Just("AWSServiceRoleForSupport"),
            Just("deploy"),
            Just("D\u{e9}ploy"),
            Just("*"),
            Just("\0"),
        ];
        let whole = "(arn:aws(-cn)?:(iam|sts)::[0-9]{11,12}|(sso:|account:)?aws(-cn)?:[0-9]{12}):?(role|user|assumed-role|/)?(/[A-Za-z_*]{0,3}){0,3}";
        prop_oneof![
            any::<String>(),
            proptest::collection::vec(part, 0..9).prop_map(|parts| parts.concat()),
            whole
        ]
    }

    proptest! {
        #[test]
        fn a_principal_has_exactly_one_canonical_text(one in near_principals(), other in near_principals()) {
            if let Ok(principal) = Principal::parse_stored(&one) {
                prop_assert_eq!(principal.to_string(), one.clone());
                if !matches!(principal, Principal::AwsGroup(_)) {
                    prop_assert_eq!(principal.aws().map(|aws| aws.account().len()), Some(12));
                }
                if let Ok(second) = Principal::parse_stored(&other) {
                    prop_assert_eq!(principal == second, one == other);
                }
            }
        }
    }
}
