//! Parses the principals that operators type, and reports every part of the input that it ignores.
//!
//! It rejects patterns, because a grant applies to exactly one principal. Each error has a hint with
//! the correct input.

use stile_protocol::region::Partition;

use super::arn::{parse_caller_arn, unsupported};
use super::{
    AwsGroup, AwsGroupKind, Principal, RESERVED_SSO, is_account, permission_set_of, printable,
    split_path,
};

/// The start of the notice about a path.
const PATH_NOTICE: &str = "the path `";

/// A principal that an operator typed, in canonical form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypedPrincipal {
    /// The principal.
    pub principal: Principal,
    /// Notices for the operator, one sentence each.
    pub notices: Vec<String>,
    /// Whether the operator must confirm a grant, because the principal is a whole account or a group
    /// of AWS callers.
    pub needs_confirmation: bool,
}

impl TypedPrincipal {
    /// Returns the notice that the path of a role or user makes no difference, if the input has one.
    pub fn path_notice(&self) -> Option<&str> {
        self.notices.iter().map(String::as_str).find(|notice| notice.starts_with(PATH_NOTICE))
    }
}

/// The error for a text that is not a principal, with a hint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` {problem}")]
pub struct TypedPrincipalError {
    text: String,
    problem: String,
    hint: String,
}

impl TypedPrincipalError {
    /// Returns the hint: the correct input.
    pub fn hint(&self) -> &str {
        &self.hint
    }
}

/// Parses an ARN, a short form or the canonical text.
///
/// It replaces a role of IAM Identity Center with its permission set, because the role's name changes
/// when the set is provisioned again. `exact` prevents the replacement. It never replaces a principal
/// in canonical form.
///
/// # Errors
///
/// [`TypedPrincipalError`], with a hint, if the text is not exactly one principal.
pub fn parse_typed(text: &str, exact: bool) -> Result<TypedPrincipal, TypedPrincipalError> {
    let rejected = |problem: &str, hint: &str| Err(refusal(text, problem, hint));
    if let Some(sign) = text.chars().find(|c| "*?^$|()[]{}\\".contains(*c)) {
        return rejected(
            &format!("contains `{sign}`, but a grant cannot apply to a pattern"),
            ONE_OR_ALL,
        );
    }
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return rejected(
            "is empty or contains an invalid character",
            "the principal in ASCII characters, without spaces and quotes",
        );
    }
    if let Some(rest) = text.strip_prefix("arn:") {
        return arn(text, rest, exact);
    }
    let whole = match text.split_once(':') {
        Some(("sso", rest)) if starts_with_account(rest) => format!("sso:aws:{rest}"),
        Some(("account", rest)) if starts_with_account(rest) => format!("account:aws:{rest}"),
        _ => text.to_owned(),
    };
    if let Ok(principal) = Principal::parse_stored(&whole) {
        return canonical(text, principal);
    }
    if is_account(text) {
        return rejected(
            "is an account id, which does not say which of its roles and users you mean",
            &format!("`account:{text}` for all its roles and users, or the ARN of one role"),
        );
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return rejected(
            "is a number, but not an account id",
            "all 12 digits of the account id, including leading zeros, as in `account:012345678901`",
        );
    }
    if ["AROA", "AIDA"].iter().any(|kind| text.starts_with(kind))
        && text.bytes().all(|b| b.is_ascii_alphanumeric())
    {
        return rejected(
            "is a unique id, not a name",
            "the ARN of the role or user, and pass the id as `--unique-id`",
        );
    }
    rejected("is not a principal", FORMS)
}

const ONE_OR_ALL: &str = "the ARN of one role, such as `arn:aws:iam::111122223333:role/deploy`, or `account:111122223333` for all roles and users of an account";

const FORMS: &str = "`arn:aws:iam::111122223333:role/deploy`, `arn:aws:iam::111122223333:user/alice`, `sso:111122223333/PermissionSet`, `account:111122223333`, `oidc:TRUST`, `service:NAME`, `org:o-…`, `ou:o-…/r-…/ou-…` or `account:111122223333/tag:KEY=VALUE`; before the account, `sso:` and `account:` also take a partition, as in `sso:aws-us-gov:111122223333/PermissionSet`";

fn refusal(text: &str, problem: &str, hint: &str) -> TypedPrincipalError {
    TypedPrincipalError {
        text: printable(text),
        problem: problem.to_owned(),
        hint: format!("type {hint}"),
    }
}

fn starts_with_account(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
}

fn canonical(text: &str, principal: Principal) -> Result<TypedPrincipal, TypedPrincipalError> {
    let notice = match &principal {
        Principal::Role(aws) | Principal::User(aws) => {
            if let Some((_, resource)) = aws.as_str().rsplit_once(':') {
                allowed(text, resource, aws.account())?;
            }
            None
        }
        Principal::PermissionSet(_) | Principal::Trust(_) | Principal::Service(_) => None,
        Principal::Account(aws) => Some(format!(
            "the grant applies to all roles and users of account `{}`, but not to EC2 instance identity",
            aws.account()
        )),
        Principal::AwsGroup(group) => Some(group_notice(group)),
    };
    let needs_confirmation = notice.is_some();
    Ok(TypedPrincipal { principal, notices: notice.into_iter().collect(), needs_confirmation })
}

/// Returns whom a grant to a group reaches, and who decides that.
fn group_notice(group: &AwsGroup) -> String {
    let tag = match group.kind() {
        AwsGroupKind::Tag { .. } => "; the administrators of these accounts can set the tag",
        AwsGroupKind::Organization(_) | AwsGroupKind::Unit(_) => "",
    };
    format!("the grant applies to {}{tag}; only a JWT of AWS shows this", group.whom())
}

/// Rejects a resource of an unsupported kind, with a hint that names a supported principal.
fn allowed(text: &str, resource: &str, account: &str) -> Result<(), TypedPrincipalError> {
    let Some(sentence) = unsupported(resource) else {
        return Ok(());
    };
    let hint = match resource.split_once('/').map_or(resource, |(kind, _)| kind) {
        "root" => format!(
            "`account:{account}` for all roles and users of the account, or the ARN of one role"
        ),
        "assumed-role" if resource.contains("aws:ec2-instance") => {
            "the ARN of the role in the instance's profile".to_owned()
        }
        "instance-profile" => "the ARN of the role in the instance profile".to_owned(),
        "group" => "the ARN of each user of the group".to_owned(),
        _ => ONE_OR_ALL.to_owned(),
    };
    Err(refusal(text, &format!("cannot have grants: {sentence}"), &hint))
}

fn arn(text: &str, rest: &str, exact: bool) -> Result<TypedPrincipal, TypedPrincipalError> {
    let rejected = |problem: &str, hint: &str| Err(refusal(text, problem, hint));
    let parts: Vec<&str> = rest.splitn(5, ':').collect();
    let &[partition, service, region, account, resource] = parts.as_slice() else {
        return rejected("is not a complete ARN", FORMS);
    };
    let Some(partition) = Partition::named(partition) else {
        return rejected("names an unknown AWS partition", FORMS);
    };
    if service == "sso" {
        return rejected(
            "names a permission set by an id, which AWS does not report for callers",
            "`sso:111122223333/PermissionSet`, by its name",
        );
    }
    if !matches!(service, "iam" | "sts") || !region.is_empty() {
        return rejected("is not the ARN of a role or a user", FORMS);
    }
    if !is_account(account) {
        return rejected(
            "has no valid account id",
            "the account id with all 12 digits, including leading zeros",
        );
    }
    allowed(text, resource, account)?;
    match (service, resource.split_once('/')) {
        ("sts", Some(("assumed-role", rest))) => {
            assumed_role(text, rest, partition, account, exact)
        }
        ("iam", Some(("role", rest))) => {
            named(text, Principal::role, rest, partition, account, exact)
        }
        ("iam", Some(("user", rest))) => {
            named(text, Principal::user, rest, partition, account, exact)
        }
        _ => rejected("is not the ARN of a role or a user", FORMS),
    }
}

fn assumed_role(
    text: &str,
    rest: &str,
    partition: Partition,
    account: &str,
    exact: bool,
) -> Result<TypedPrincipal, TypedPrincipalError> {
    let Ok(caller) = parse_caller_arn(text) else {
        let role =
            rest.split('/').next().and_then(|role| Principal::role(partition, account, role));
        let hint =
            role.map_or_else(|| FORMS.to_owned(), |role| format!("`{}`", role.display_name()));
        return Err(refusal(text, "is not the ARN of a role session", &hint));
    };
    let session = caller.session_name.unwrap_or_default();
    let notice = format!(
        "the session name `{session}` is ignored, because anyone who assumes the role can choose it"
    );
    Ok(reserved(caller.principal, vec![notice], exact))
}

fn named(
    text: &str,
    of: fn(Partition, &str, &str) -> Option<Principal>,
    rest: &str,
    partition: Partition,
    account: &str,
    exact: bool,
) -> Result<TypedPrincipal, TypedPrincipalError> {
    let parts =
        split_path(rest).and_then(|(path, name)| Some((path, of(partition, account, name)?)));
    let Some((path, principal)) = parts else {
        return Err(refusal(text, "has no valid name", FORMS));
    };
    let notice =
        path.map(|path| format!("{PATH_NOTICE}/{path}/` is ignored, because AWS does not report it for callers; names are unique without it"));
    Ok(reserved(principal, notice.into_iter().collect(), exact))
}

/// Replaces a role that IAM Identity Center created with its permission set, unless `exact`.
fn reserved(principal: Principal, mut notices: Vec<String>, exact: bool) -> TypedPrincipal {
    let (role, set) = match &principal {
        Principal::Role(aws) => {
            let set = permission_set_of(aws.name());
            let set =
                set.and_then(|set| Principal::permission_set(aws.partition(), aws.account(), set));
            (aws.name().to_owned(), set)
        }
        _ => (String::new(), None),
    };
    let principal = match set {
        Some(set) if exact => {
            notices.push(format!("the role's name changes when the permission set is provisioned again; a grant to `{set}` does not depend on that name"));
            principal
        }
        Some(set) => {
            notices = vec![format!(
                "the permission set replaces the role `{role}`, because the role's name changes when the set is provisioned again; `--exact` keeps the role"
            )];
            set
        }
        None => {
            if role.starts_with(RESERVED_SSO) {
                notices.push(
                    "the role's name has no suffix of IAM Identity Center (16 lower-case hex digits), so it is an ordinary role"
                        .to_owned(),
                );
            }
            principal
        }
    };
    TypedPrincipal { principal, notices, needs_confirmation: false }
}

#[cfg(test)]
mod tests {
    use super::super::tests::near_principals;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_invalid_principal_has_an_error_and_a_hint_with_the_correct_input() {
        for (text, problem, hint) in [
            ("", "character", "without spaces"),
            ("*", "`*`", "arn:aws:iam::111122223333:role/deploy"),
            ("arn:aws:iam::*:role/x", "`*`", "account:111122223333"),
            ("arn:aws:iam::111122223333:user/*", "`*`", "account:111122223333"),
            ("arn:aws:sts::111122223333:assumed-role/deploy/*", "`*`", "role/deploy"),
            ("arn:aws:iam::111122223333:role/deplo?", "`?`", "role/deploy"),
            ("x|.*", "`|`", "never"),
            ("a)|(?:.*", "`)`", "never"),
            ("^a", "`^`", "never"),
            ("aws:111122223333:role/a*b", "`*`", "never"),
            (" arn:aws:iam::111122223333:role/deploy", "character", "without spaces"),
            ("arn:aws:iam::111122223333:role/d\u{435}ploy", "character", "ASCII"),
            ("111122223333", "account", "`account:111122223333`"),
            ("12345678901", "number", "leading zeros"),
            ("1111222233334", "number", "12 digits"),
            ("AROA3XFRBF535PLBIFPI4", "unique id", "--unique-id"),
            ("deploy", "not a principal", "arn:aws:iam::111122223333:role/deploy"),
            ("role/deploy", "not a principal", "arn:aws:iam"),
            ("sso:111122223333", "not a principal", "sso:111122223333/PermissionSet"),
            ("sso:111122223333/a/b", "not a principal", "sso:"),
            ("sso:111122223333/123456789012345678901234567890123", "not a principal", "sso:"),
            ("sso:aws-moon:111122223333/Admin", "not a principal", "sso:"),
            ("account:12345678901", "not a principal", "account:"),
            ("account:111122223333/x", "not a principal", "account:"),
            ("ARN:aws:iam::111122223333:role/deploy", "not a principal", "arn:aws:iam"),
            ("aws:111122223333:role/Org/deploy", "not a principal", "arn:aws:iam"),
            ("arn:aws:iam", "complete ARN", "arn:aws:iam"),
            ("arn:aws-moon:iam::111122223333:role/deploy", "partition", "arn:aws:iam"),
            ("arn:aws:s3:::bucket", "not the ARN of a role", "arn:aws:iam"),
            (
                "arn:aws:iam:us-east-1:111122223333:role/deploy",
                "not the ARN of a role",
                "arn:aws:iam",
            ),
            ("arn:aws:iam::aws:role/deploy", "no valid account", "12 digits"),
            ("arn:aws:iam::12345678901:role/deploy", "no valid account", "leading zeros"),
            (
                "arn:aws:sso:::permissionSet/ssoins-1/ps-1",
                "permission set",
                "sso:111122223333/PermissionSet",
            ),
            ("arn:aws:iam::111122223333:root", "root user", "account:111122223333"),
            ("arn:aws:sts::111122223333:federated-user/x", "federated", "role/deploy"),
            (
                "arn:aws:sts::111122223333:assumed-role/aws:ec2-instance/i-0abc",
                "EC2 instance identity",
                "instance's profile",
            ),
            (
                "arn:aws:iam::111122223333:instance-profile/x",
                "only roles and users",
                "in the instance profile",
            ),
            ("arn:aws:iam::111122223333:group/x", "only roles and users", "each user"),
            (
                "arn:aws:iam::111122223333:role/aws-service-role/s.amazonaws.com/AWSServiceRoleForSupport",
                "service-linked",
                "role/deploy",
            ),
            ("aws:111122223333:role/AWSServiceRoleForSupport", "service-linked", "role/deploy"),
            (
                "arn:aws:sts::111122223333:assumed-role/build",
                "session",
                "`arn:aws:iam::111122223333:role/build`",
            ),
            (
                "arn:aws-cn:sts::111122223333:assumed-role/a/b/c",
                "session",
                "`arn:aws-cn:iam::111122223333:role/a`",
            ),
            ("arn:aws:sts::111122223333:assumed-role//s1", "session", "role/deploy"),
            (
                "arn:aws:sts::111122223333:role/deploy",
                "not the ARN of a role or a user",
                "arn:aws:iam",
            ),
            ("arn:aws:iam::111122223333:role/", "no valid name", "role/deploy"),
            ("arn:aws:iam::111122223333:role//deploy", "no valid name", "role/deploy"),
            ("arn:aws:iam::111122223333:role/a:b", "no valid name", "role/deploy"),
        ] {
            let hint = if hint == "never" { "arn:aws:iam::111122223333:role/deploy" } else { hint };
            for exact in [false, true] {
                let error = parse_typed(text, exact).unwrap_err();
                assert!(error.to_string().contains(problem), "{text:?}: {error}");
                assert!(error.hint().contains(hint), "{text:?}: {}", error.hint());
            }
        }
    }

    #[test]
    fn a_notice_names_each_ignored_part_of_an_arn() {
        for (text, exact, stored, notice) in [
            ("arn:aws:iam::111122223333:role/deploy", false, "aws:111122223333:role/deploy", None),
            ("arn:aws:iam::111122223333:role/deploy", true, "aws:111122223333:role/deploy", None),
            (
                "arn:aws-us-gov:iam::012345678901:role/deploy",
                false,
                "aws-us-gov:012345678901:role/deploy",
                None,
            ),
            (
                "arn:aws:iam::111122223333:role/Org/Team/deploy",
                false,
                "aws:111122223333:role/deploy",
                Some("`/Org/Team/`"),
            ),
            ("arn:aws:iam::111122223333:user/alice", false, "aws:111122223333:user/alice", None),
            (
                "arn:aws:iam::111122223333:user/division/sub/alice",
                false,
                "aws:111122223333:user/alice",
                Some("`/division/sub/`"),
            ),
            (
                "arn:aws:sts::111122223333:assumed-role/deploy/i-0abc",
                false,
                "aws:111122223333:role/deploy",
                Some("`i-0abc`"),
            ),
            ("sso:111122223333/Admin", false, "sso:aws:111122223333/Admin", None),
            ("sso:aws-cn:111122223333/Admin", false, "sso:aws-cn:111122223333/Admin", None),
            ("aws:111122223333:role/deploy", false, "aws:111122223333:role/deploy", None),
            ("aws:111122223333:user/alice", false, "aws:111122223333:user/alice", None),
        ] {
            let typed = parse_typed(text, exact).unwrap();
            assert_eq!(typed.principal.as_str(), stored, "{text}");
            assert_eq!(
                typed.notices.len(),
                usize::from(notice.is_some()),
                "{text}: {:?}",
                typed.notices
            );
            assert!(
                notice.is_none_or(|word| typed.notices[0].contains(word)),
                "{text}: {:?}",
                typed.notices
            );
            assert!(!typed.needs_confirmation);
        }
    }

    #[test]
    fn a_permission_set_replaces_its_role_unless_exact() {
        let role = "AWSReservedSSO_Admin_0123456789abcdef";
        for path in
            ["", "aws-reserved/sso.amazonaws.com/", "aws-reserved/sso.amazonaws.com/eu-west-1/"]
        {
            let arn = format!("arn:aws:iam::111122223333:role/{path}{role}");
            let set = parse_typed(&arn, false).unwrap();
            assert_eq!(set.principal.as_str(), "sso:aws:111122223333/Admin");
            assert!(
                set.notices.len() == 1 && set.notices[0].contains("--exact"),
                "{:?}",
                set.notices
            );
            let exact = parse_typed(&arn, true).unwrap();
            assert_eq!(exact.principal.as_str(), format!("aws:111122223333:role/{role}"));
            assert!(
                exact.notices.iter().any(|notice| notice.contains("`sso:aws:111122223333/Admin`")),
                "{:?}",
                exact.notices
            );
        }
        let session = parse_typed(
            &format!("arn:aws-cn:sts::111122223333:assumed-role/{role}/bob@x.com"),
            false,
        )
        .unwrap();
        assert_eq!(session.principal.as_str(), "sso:aws-cn:111122223333/Admin");
        let short =
            parse_typed("arn:aws:iam::111122223333:role/AWSReservedSSO_Admin_0123", false).unwrap();
        assert_eq!(short.principal.as_str(), "aws:111122223333:role/AWSReservedSSO_Admin_0123");
        assert!(short.notices[0].contains("suffix"));
        let stored = parse_typed(&format!("aws:111122223333:role/{role}"), false).unwrap();
        assert_eq!(
            stored.principal.as_str(),
            format!("aws:111122223333:role/{role}"),
            "the canonical text stays as it is"
        );
    }

    #[test]
    fn a_whole_account_must_be_confirmed() {
        for (text, stored) in [
            ("account:111122223333", "account:aws:111122223333"),
            ("account:aws-cn:111122223333", "account:aws-cn:111122223333"),
        ] {
            let typed = parse_typed(text, false).unwrap();
            assert_eq!(typed.principal.as_str(), stored);
            assert!(typed.needs_confirmation);
            assert!(typed.notices[0].contains("not to EC2 instance identity"));
        }
    }

    #[test]
    fn a_group_of_aws_callers_must_be_confirmed() {
        for (text, stored, notice) in [
            ("org:o-a1b2c3d4e5", "org:o-a1b2c3d4e5", "of the organization"),
            ("ou:o-a1b2c3d4e5/r-ab12", "ou:o-a1b2c3d4e5/r-ab12", "and below"),
            (
                "account:111122223333/tag:team=data",
                "account:aws:111122223333/tag:team=data",
                "can set the tag",
            ),
            ("tag:team=data", "tag:team=data", "every account"),
        ] {
            let typed = parse_typed(text, false).unwrap();
            assert_eq!(typed.principal.as_str(), stored);
            assert!(typed.needs_confirmation && typed.notices[0].contains(notice), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn typing_the_canonical_text_gives_the_same_principal(text in near_principals(), exact: bool, again: bool) {
            match parse_typed(&text, exact) {
                Ok(typed) => {
                    let stored = parse_typed(typed.principal.as_str(), again).unwrap();
                    prop_assert_eq!(&stored.principal, &typed.principal);
                    prop_assert_eq!(stored.needs_confirmation, typed.needs_confirmation);
                }
                Err(error) => prop_assert!(!error.to_string().contains('\n') && !error.hint().is_empty()),
            }
        }

        /// Two inputs give the same principal only if the documentation says so.
        #[test]
        fn two_inputs_give_one_principal_only_as_documented(one in ways(), other in ways(), exact: bool) {
            let [first, second] = [&one, &other].map(|(text, _)| parse_typed(text, exact).unwrap().principal);
            let set = |whom: &str| whom.replacen(":role/AWSReservedSSO_Admin_0123456789abcdef", "/Admin", 1);
            let whom = |(text, whom): &(String, String)| match set(whom) {
                set if set != *whom && !exact && text.starts_with("arn:") => format!("sso:{set}"),
                _ => whom.clone(),
            };
            prop_assert_eq!(first == second, whom(&one) == whom(&other), "{} {}", one.0, other.0);
            prop_assert_eq!(first.as_str(), whom(&one));
        }
    }

    /// Generates one of the input forms of a principal, and its canonical text.
    fn ways() -> impl Strategy<Value = (String, String)> {
        let parts = (
            prop::sample::select(&["aws", "aws-cn"][..]),
            prop::sample::select(&["111122223333", "011122223333"][..]),
            prop::sample::select(&["Admin", "admin", "AWSReservedSSO_Admin_0123456789abcdef"][..]),
        );
        (parts, 0..8_u8).prop_map(|((partition, account, name), way)| {
            let (role, user) = (
                format!("{partition}:{account}:role/{name}"),
                format!("{partition}:{account}:user/{name}"),
            );
            match way {
                0 => (format!("arn:{partition}:iam::{account}:role/{name}"), role),
                1 => (format!("arn:{partition}:iam::{account}:role/Org/Team/{name}"), role),
                2 => (format!("arn:{partition}:sts::{account}:assumed-role/{name}/Admin"), role),
                3 => (role.clone(), role),
                4 => (format!("arn:{partition}:iam::{account}:user/{name}"), user),
                5 => (user.clone(), user),
                6 => (
                    format!("sso:{partition}:{account}/Admin"),
                    format!("sso:{partition}:{account}/Admin"),
                ),
                _ => (
                    format!("account:{partition}:{account}"),
                    format!("account:{partition}:{account}"),
                ),
            }
        })
    }
}
