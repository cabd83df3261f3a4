//! Parses the ARN that AWS returns for a caller, strictly.

use stile_protocol::region::Partition;

use super::{Principal, RESERVED_SSO, SERVICE_LINKED, is_account, split_path};

/// A caller, parsed from its ARN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerArn {
    /// The caller's own role or user.
    pub principal: Principal,
    /// The AWS partition. The caller of this function must compare it with the partition of the region.
    pub partition: Partition,
    /// The account id, 12 digits.
    pub account: String,
    /// The session name of a role, for the audit log only.
    ///
    /// It must never authorise anything: anyone who may assume the role can choose any name.
    pub session_name: Option<String>,
    /// The caller's other principals: its permission set, if it has one, and its account.
    pub aliases: Vec<Principal>,
}

impl CallerArn {
    /// Returns the principals whose grants apply: at most three, the role or user first.
    pub fn principals(&self) -> impl Iterator<Item = &Principal> {
        std::iter::once(&self.principal).chain(&self.aliases)
    }

    /// Returns the prefix of the caller's unique id (IAM user guide, "Unique identifiers").
    pub const fn unique_id_prefix(&self) -> &'static str {
        if matches!(self.principal, Principal::Role(_)) { "AROA" } else { "AIDA" }
    }
}

/// The reason why the broker does not accept an ARN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallerArnError {
    /// AWS returns such ARNs, but the broker never accepts callers of this kind. The message explains
    /// why.
    #[error("{0}")]
    Unsupported(&'static str),
    /// AWS returns no such ARN, so the answer does not come from AWS.
    #[error("the ARN does not have the format of a caller ARN from AWS")]
    Malformed,
}

/// Parses the `Arn` of an STS `GetCallerIdentity` answer.
///
/// It first checks for unsupported kinds of callers: some of them, such as EC2 instance identity,
/// contain a `:` that names must not contain. Source: IAM user guide, "Unique identifiers" and "ARN
/// formats".
///
/// # Errors
///
/// [`CallerArnError`], if the broker does not accept such callers or the ARN is malformed.
pub fn parse_caller_arn(arn: &str) -> Result<CallerArn, CallerArnError> {
    let (partition, service, account, resource) = split(arn).ok_or(CallerArnError::Malformed)?;
    if let Some(sentence) = unsupported(resource) {
        return Err(CallerArnError::Unsupported(sentence));
    }
    caller(partition, service, account, resource).ok_or(CallerArnError::Malformed)
}

/// Parses the ARN of a role or user itself, with its path, as AWS's own JWT names its subject.
///
/// A role has no session here. Its permission set is one of its principals only if the path is the one
/// that IAM Identity Center uses, where nobody else can create a role.
///
/// # Errors
///
/// [`CallerArnError`], if the broker does not accept such callers or the ARN is malformed. An ARN of a
/// session is unsupported: the JWT of a session names the role.
pub fn parse_own_arn(arn: &str) -> Result<CallerArn, CallerArnError> {
    let (partition, service, account, resource) = split(arn).ok_or(CallerArnError::Malformed)?;
    if let Some(sentence) = unsupported(resource) {
        return Err(CallerArnError::Unsupported(sentence));
    }
    let (kind, rest) = resource.split_once('/').ok_or(CallerArnError::Malformed)?;
    if kind == "assumed-role" {
        return Err(CallerArnError::Unsupported(
            "a JWT of AWS names a role, and this one names a session of a role",
        ));
    }
    let (path, name) = split_path(rest).ok_or(CallerArnError::Malformed)?;
    let principal = match (service, kind) {
        ("iam", "role") => Principal::role(partition, account, name),
        ("iam", "user") => Principal::user(partition, account, name),
        _ => None,
    };
    let principal = principal.ok_or(CallerArnError::Malformed)?;
    if path.is_some_and(|path| is_below(path, SERVICE_LINKED_PATH)) {
        return Err(CallerArnError::Unsupported(SERVICE_LINKED_UNSUPPORTED));
    }
    let mut aliases = principal.aliases();
    if !(name.starts_with(RESERVED_SSO) && path.is_some_and(|path| is_below(path, SSO_PATH))) {
        aliases.retain(|alias| !matches!(alias, Principal::PermissionSet(_)));
    }
    let account = account.to_owned();
    Ok(CallerArn { aliases, principal, partition, account, session_name: None })
}

/// The path of service-linked roles (IAM user guide, "Create a service-linked role").
const SERVICE_LINKED_PATH: &str = "aws-service-role";

/// The path of the roles of permission sets. Below it is the region of IAM Identity Center, unless it
/// is us-east-1.
const SSO_PATH: &str = "aws-reserved/sso.amazonaws.com";

fn is_below(path: &str, of: &str) -> bool {
    path.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn split(arn: &str) -> Option<(Partition, &str, &str, &str)> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let &["arn", partition, service @ ("iam" | "sts"), "", account, resource] = parts.as_slice()
    else {
        return None;
    };
    is_account(account).then_some((Partition::named(partition)?, service, account, resource))
}

fn caller(partition: Partition, service: &str, account: &str, resource: &str) -> Option<CallerArn> {
    let (principal, session_name) = match (service, resource.split_once('/')?) {
        ("sts", ("assumed-role", rest)) => {
            let (role, session) =
                rest.split_once('/').filter(|(_, session)| is_session_name(session))?;
            (Principal::role(partition, account, role)?, Some(session.to_owned()))
        }
        ("iam", ("user", rest)) => {
            (Principal::user(partition, account, split_path(rest)?.1)?, None)
        }
        _ => return None,
    };
    Some(CallerArn {
        aliases: principal.aliases(),
        principal,
        partition,
        account: account.to_owned(),
        session_name,
    })
}

/// Returns why the broker never accepts callers of the resource's kind, or `None` if it does.
pub(super) fn unsupported(resource: &str) -> Option<&'static str> {
    let (kind, rest) = resource.split_once('/').unwrap_or((resource, ""));
    match kind {
        "root" if rest.is_empty() => {
            Some("root users of accounts are not supported: use a role or a user")
        }
        "federated-user" => Some("federated users are not supported: use a role or a user"),
        "assumed-role" if rest.starts_with("aws:ec2-instance/") => Some(
            "EC2 instance identity is not supported, because no policy can withhold it from an instance: give the instance its own role",
        ),
        "assumed-role" if rest.starts_with("aws:") => {
            Some("identities that AWS gives to its own services are not supported")
        }
        "assumed-role" if rest.starts_with(SERVICE_LINKED) => Some(SERVICE_LINKED_UNSUPPORTED),
        "role" if rest.rsplit('/').next().is_some_and(|name| name.starts_with(SERVICE_LINKED)) => {
            Some(SERVICE_LINKED_UNSUPPORTED)
        }
        "assumed-role" | "role" | "user" => None,
        _ if is_word(kind) => Some("only roles and users are supported"),
        _ => None,
    }
}

const SERVICE_LINKED_UNSUPPORTED: &str =
    "service-linked roles are not supported: only an AWS service can assume them";

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
}

/// Returns whether a text is a role session name (AWS STS, `AssumeRole`, `RoleSessionName`).
fn is_session_name(text: &str) -> bool {
    (2..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::super::AwsPrincipal;
    use super::super::tests::near_principals;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_arn_that_aws_does_not_return_for_callers_is_malformed() {
        let long_path = format!("arn:aws:iam::111122223333:user/{}/alice", "p".repeat(511));
        for arn in [
            "",
            "*",
            "arn:",
            "arn:aws",
            "arn:aws:sts::1",
            "arn:aws:sts::111122223333:",
            "arn:aws:sts::111122223333:*",
            "arn:aws:sts::111122223333:assumed-role",
            "arn:aws:sts::111122223333:assumed-role/",
            "arn:aws:sts::111122223333:assumed-role/x",
            "arn:aws:sts::111122223333:assumed-role/x/",
            "arn:aws:sts::111122223333:assumed-role//s1",
            "arn:aws:sts::111122223333:assumed-role/x/s",
            "arn:aws:sts::111122223333:assumed-role/a/b/c1",
            "arn:aws:sts::111122223333:assumed-role/Org/Team/Admin/Session",
            "arn:aws:sts::111122223333:assumed-role/deploy/se ss",
            "arn:aws:sts::111122223333:assumed-role/deploy/s1:x",
            "arn:aws:sts::111122223333:assumed-role/deploy/s1\n",
            "arn:aws:sts::111122223333:assumed-role/de*y/s1",
            "arn:aws:sts::111122223333:assumed-role/d\u{435}ploy/s1",
            "arn:aws:sts::111122223333:Assumed-Role/deploy/s1",
            "arn:aws:sts::111122223333:user/alice",
            "arn:aws:sts::111122223333:role/deploy",
            "arn:aws:iam::111122223333:role/deploy",
            "arn:aws:iam::111122223333:assumed-role/deploy/s1",
            "arn:aws:iam::111122223333:user/",
            "arn:aws:iam::111122223333:user//alice",
            "arn:aws:iam::111122223333:user/a//alice",
            "arn:aws:iam::111122223333:user/a:b/alice",
            "arn:aws:iam::111122223333:User/alice",
            &long_path,
            "arn:aws:iam::11112222333:user/alice",
            "arn:aws:iam::1111222233334:user/alice",
            "arn:aws:iam::1111222233ab:user/alice",
            "arn:aws:iam:::user/alice",
            "arn:aws:iam::11112222333:root",
            "arn:aws:iam:us-east-1:111122223333:user/alice",
            "arn:aws:s3::111122223333:user/alice",
            "arn:aws:s3::111122223333:root",
            "arn:aws:STS::111122223333:assumed-role/deploy/s1",
            "ARN:aws:sts::111122223333:assumed-role/deploy/s1",
            "arn:AWS:sts::111122223333:assumed-role/deploy/s1",
            "arn:aws-moon:sts::111122223333:assumed-role/deploy/s1",
            " arn:aws:iam::111122223333:user/alice",
            "arn:aws:iam::111122223333:user/alice ",
        ] {
            assert_eq!(parse_caller_arn(arn), Err(CallerArnError::Malformed), "{arn:?}");
        }
    }

    #[test]
    fn an_own_arn_of_another_kind_is_refused() {
        for arn in [
            "",
            "*",
            "arn:aws:iam::111122223333:role",
            "arn:aws:iam::111122223333:role/",
            "arn:aws:iam::111122223333:role//deploy",
            "arn:aws:iam::111122223333:role/a//deploy",
            "arn:aws:iam::111122223333:role/a:b/deploy",
            "arn:aws:iam::111122223333:role/de*y",
            "arn:aws:iam::111122223333:role/deploy/",
            "arn:aws:iam::111122223333:role/deploy\n",
            "arn:aws:iam::111122223333:Role/deploy",
            "arn:aws:sts::111122223333:role/deploy",
            "arn:aws:iam::11112222333:role/deploy",
            "arn:aws:iam:us-east-1:111122223333:role/deploy",
            "arn:aws-moon:iam::111122223333:role/deploy",
            "aws:111122223333:role/deploy",
        ] {
            assert_eq!(parse_own_arn(arn), Err(CallerArnError::Malformed), "{arn:?}");
        }
        for (arn, word) in [
            ("arn:aws:iam::111122223333:root", "root user"),
            ("arn:aws:sts::111122223333:federated-user/x", "federated"),
            ("arn:aws:sts::111122223333:assumed-role/deploy/s1", "session"),
            ("arn:aws:iam::111122223333:assumed-role/deploy/s1", "session"),
            ("arn:aws:sts::111122223333:assumed-role/aws:ec2-instance/i-0abc", "EC2 instance"),
            ("arn:aws:iam::111122223333:role/AWSServiceRoleForSupport", "service-linked"),
            (
                "arn:aws:iam::111122223333:role/aws-service-role/x.amazonaws.com/AWSServiceRoleForX",
                "service-linked",
            ),
            ("arn:aws:iam::111122223333:role/aws-service-role/other", "service-linked"),
            ("arn:aws:iam::111122223333:group/x", "only roles and users"),
        ] {
            match parse_own_arn(arn) {
                Err(CallerArnError::Unsupported(sentence)) => {
                    assert!(sentence.contains(word), "{arn}: {sentence}");
                }
                other => panic!("{arn}: {other:?}"),
            }
        }
    }

    #[test]
    fn an_own_arn_has_the_principals_of_the_role_and_only_aws_makes_a_permission_set() {
        let account = "account:aws:111122223333";
        let sso = "AWSReservedSSO_Admin_0123456789abcdef";
        for (resource, principals) in [
            ("role/deploy", vec!["aws:111122223333:role/deploy", account]),
            ("role/Org/Team/deploy", vec!["aws:111122223333:role/deploy", account]),
            ("user/division/alice", vec!["aws:111122223333:user/alice", account]),
            (&format!("role/{sso}"), vec![&format!("aws:111122223333:role/{sso}"), account]),
            (
                &format!("role/aws-reserved/sso.amazonaws.comx/{sso}"),
                vec![&format!("aws:111122223333:role/{sso}"), account],
            ),
            (
                &format!("role/aws-reserved/sso.amazonaws.com/eu-west-1/{sso}"),
                vec![
                    &format!("aws:111122223333:role/{sso}"),
                    "sso:aws:111122223333/Admin",
                    account,
                ],
            ),
            (
                &format!("role/aws-reserved/sso.amazonaws.com/{sso}"),
                vec![
                    &format!("aws:111122223333:role/{sso}"),
                    "sso:aws:111122223333/Admin",
                    account,
                ],
            ),
        ] {
            let caller = parse_own_arn(&format!("arn:aws:iam::111122223333:{resource}")).unwrap();
            let found: Vec<String> = caller.principals().map(ToString::to_string).collect();
            assert_eq!(found, principals, "{resource}");
            assert_eq!(caller.session_name, None);
        }
    }

    #[test]
    fn unsupported_kinds_of_callers_differ_from_malformed_arns() {
        for (arn, word) in [
            ("arn:aws:iam::111122223333:root", "root user"),
            ("arn:aws:sts::111122223333:federated-user/x", "federated"),
            (
                "arn:aws:sts::111122223333:assumed-role/aws:ec2-instance/i-0abc",
                "EC2 instance identity",
            ),
            (
                "arn:aws-us-gov:sts::111122223333:assumed-role/aws:ec2-instance/i-0abc",
                "EC2 instance identity",
            ),
            (
                "arn:aws:sts::111122223333:assumed-role/aws:ec2-infrastructure/i-0abc",
                "its own services",
            ),
            (
                "arn:aws:sts::111122223333:assumed-role/AWSServiceRoleForSupport/s1",
                "service-linked",
            ),
            ("arn:aws:sts::111122223333:assumed-root/x", "only roles and users"),
            ("arn:aws:sts::111122223333:self", "only roles and users"),
        ] {
            match parse_caller_arn(arn) {
                Err(CallerArnError::Unsupported(sentence)) => {
                    assert!(sentence.contains(word), "{arn}: {sentence}");
                }
                other => panic!("{arn}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_caller_has_its_own_principal_its_permission_set_and_its_account() {
        let account = "account:aws:111122223333";
        for (arn, session, principals) in [
            (
                "arn:aws:iam::111122223333:user/alice",
                None,
                vec!["aws:111122223333:user/alice", account],
            ),
            (
                "arn:aws:iam::111122223333:user/division/sub/alice",
                None,
                vec!["aws:111122223333:user/alice", account],
            ),
            (
                "arn:aws:iam::111122223333:user/AWSReservedSSO_Admin_0123456789abcdef",
                None,
                vec!["aws:111122223333:user/AWSReservedSSO_Admin_0123456789abcdef", account],
            ),
            (
                "arn:aws:sts::111122223333:assumed-role/deploy/i-0abc",
                Some("i-0abc"),
                vec!["aws:111122223333:role/deploy", account],
            ),
            (
                "arn:aws:sts::111122223333:assumed-role/ci/deploy",
                Some("deploy"),
                vec!["aws:111122223333:role/ci", account],
            ),
            (
                "arn:aws:sts::111122223333:assumed-role/ci/AWSServiceRoleForSupport",
                Some("AWSServiceRoleForSupport"),
                vec!["aws:111122223333:role/ci", account],
            ),
            (
                "arn:aws:sts::111122223333:assumed-role/ci/..",
                Some(".."),
                vec!["aws:111122223333:role/ci", account],
            ),
            (
                "arn:aws:sts::111122223333:assumed-role/ci/a=b,c",
                Some("a=b,c"),
                vec!["aws:111122223333:role/ci", account],
            ),
            (
                "arn:aws-us-gov:sts::012345678901:assumed-role/deploy/s1",
                Some("s1"),
                vec!["aws-us-gov:012345678901:role/deploy", "account:aws-us-gov:012345678901"],
            ),
            (
                "arn:aws:sts::111122223333:assumed-role/AWSReservedSSO_Admin_0123456789abcdef/bob@x.com",
                Some("bob@x.com"),
                vec![
                    "aws:111122223333:role/AWSReservedSSO_Admin_0123456789abcdef",
                    "sso:aws:111122223333/Admin",
                    account,
                ],
            ),
            (
                "arn:aws-cn:sts::111122223333:assumed-role/AWSReservedSSO_Admin_0123456789abcdef/bob",
                Some("bob"),
                vec![
                    "aws-cn:111122223333:role/AWSReservedSSO_Admin_0123456789abcdef",
                    "sso:aws-cn:111122223333/Admin",
                    "account:aws-cn:111122223333",
                ],
            ),
            (
                "arn:aws:sts::111122223333:assumed-role/AWSReservedSSO_Admin_0123456789abcde/bob",
                Some("bob"),
                vec!["aws:111122223333:role/AWSReservedSSO_Admin_0123456789abcde", account],
            ),
        ] {
            let caller = parse_caller_arn(arn).unwrap();
            assert_eq!(caller.session_name.as_deref(), session, "{arn}");
            assert_eq!(
                caller.principals().map(Principal::as_str).collect::<Vec<_>>(),
                principals,
                "{arn}"
            );
            assert!(caller.principal.is_caller());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn every_parsed_principal_is_canonical(arn in near_principals(), name in "[a-z*:/]{0,6}") {
            for arn in [arn, format!("arn:aws:sts::111122223333:assumed-role/{name}/s1"), format!("arn:aws:iam::111122223333:user/{name}")] {
                if let Ok(caller) = parse_caller_arn(&arn) {
                    prop_assert!(caller.principals().count() <= 3);
                    for principal in caller.principals() {
                        prop_assert_eq!(&Principal::parse_stored(principal.as_str()).unwrap(), principal);
                        prop_assert_eq!(principal.aws().map(AwsPrincipal::account), Some(caller.account.as_str()));
                    }
                }
            }
        }

        #[test]
        fn callers_share_a_principal_only_if_account_partition_kind_and_name_are_equal(one in callers(), other in callers()) {
            let [first, second] = [&one, &other].map(|caller| parse_caller_arn(&caller.arn()).unwrap().principal);
            prop_assert_eq!(first == second, one.identifying_parts() == other.identifying_parts(), "{} {}", one.arn(), other.arn());
            prop_assert_eq!(first.as_str() == second.as_str(), first == second);
        }

        #[test]
        fn the_aliases_of_a_caller_are_its_account_and_its_own_permission_set(caller in callers()) {
            let read = parse_caller_arn(&caller.arn()).unwrap();
            let (partition, account) = (caller.partition, caller.account);
            let suffix = "_0123456789abcdef";
            let set = caller.name.strip_prefix("AWSReservedSSO_").and_then(|rest| rest.strip_suffix(suffix)).filter(|set| !set.is_empty());
            let set = set.filter(|_| caller.kind == "role").map(|set| format!("sso:{partition}:{account}/{set}"));
            let expected: Vec<_> = set.into_iter().chain([format!("account:{partition}:{account}")]).collect();
            prop_assert_eq!(read.aliases.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
        }
    }

    /// The parts of a caller ARN. Each part has few values, so two callers often differ in only one.
    #[derive(Debug, Clone)]
    struct Caller {
        partition: &'static str,
        account: &'static str,
        kind: &'static str,
        name: &'static str,
        path: &'static str,
        session: &'static str,
    }

    impl Caller {
        fn identifying_parts(&self) -> [&'static str; 4] {
            [self.partition, self.account, self.kind, self.name]
        }

        fn arn(&self) -> String {
            let Self { partition, account, kind, name, path, session } = self;
            match *kind {
                "role" => format!("arn:{partition}:sts::{account}:assumed-role/{name}/{session}"),
                _ => format!("arn:{partition}:iam::{account}:user/{path}{name}"),
            }
        }
    }

    fn callers() -> impl Strategy<Value = Caller> {
        let names = [
            "deploy",
            "Deploy",
            "deploy-",
            "user",
            "AWSReservedSSO_Admin_0123456789abcdef",
            "AWSReservedSSO__0123456789abcdef",
        ];
        (
            prop::sample::select(&["aws", "aws-cn", "aws-us-gov"][..]),
            prop::sample::select(&["111122223333", "011122223333"][..]),
            prop::sample::select(&["role", "user"][..]),
            prop::sample::select(names.to_vec()),
            prop::sample::select(&["", "Org/", "role/deploy/"][..]),
            prop::sample::select(&["deploy", "s1", "Deploy"][..]),
        )
            .prop_map(|(partition, account, kind, name, path, session)| Caller {
                partition,
                account,
                kind,
                name,
                path,
                session,
            })
    }
}
