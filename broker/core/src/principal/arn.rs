//! Reads the ARN that AWS answered for a caller, strictly, and says whose grants apply to it.

use stile_protocol::region::Partition;

use super::{Principal, SERVICE_LINKED, is_account, split_path};

/// Who signed, as AWS names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerArn {
    /// The one role or user.
    pub principal: Principal,
    /// The partition, which must be that of the region whose STS answered.
    pub partition: Partition,
    /// The account, 12 digits.
    pub account: String,
    /// The session of a role, for the audit log only: whoever assumes the role chooses it, so it never authorises.
    pub session_name: Option<String>,
    /// What else the caller is: the permission set that the role stands for, and every role and user of the account.
    pub aliases: Vec<Principal>,
}

impl CallerArn {
    /// The principals whose grants apply, at most three, the role or user first.
    pub fn principals(&self) -> impl Iterator<Item = &Principal> {
        std::iter::once(&self.principal).chain(&self.aliases)
    }

    /// What the unique id of such a caller begins with (IAM user guide, "Unique identifiers").
    pub const fn unique_id_prefix(&self) -> &'static str {
        if matches!(self.principal, Principal::Role(_)) { "AROA" } else { "AIDA" }
    }
}

/// Why an ARN names no caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallerArnError {
    /// AWS writes such ARNs, but callers of that kind are never let in; the sentence says which and why.
    #[error("{0}")]
    Unsupported(&'static str),
    /// AWS writes no such ARN for a caller, so what answered is not to be believed.
    #[error("the ARN is not one that AWS gives a caller")]
    Malformed,
}

/// Reads the `Arn` of STS's `GetCallerIdentity`.
///
/// Kinds that are never let in are told from bad ARNs first: some of them, such as EC2 instance identity, have a `:` where names have none.
/// Source: "Unique identifiers" and "ARN formats" in the IAM user guide.
pub fn parse_caller_arn(arn: &str) -> Result<CallerArn, CallerArnError> {
    let (partition, service, account, resource) = split(arn).ok_or(CallerArnError::Malformed)?;
    if let Some(sentence) = unsupported(resource) {
        return Err(CallerArnError::Unsupported(sentence));
    }
    caller(partition, service, account, resource).ok_or(CallerArnError::Malformed)
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

/// Why callers of the resource's kind are never let in, if they are not.
pub(super) fn unsupported(resource: &str) -> Option<&'static str> {
    let (kind, rest) = resource.split_once('/').unwrap_or((resource, ""));
    match kind {
        "root" if rest.is_empty() => {
            Some("an account's root user is never let in: sign in as a role or a user")
        }
        "federated-user" => Some("federated users are never let in: sign in as a role or a user"),
        "assumed-role" if rest.starts_with("aws:ec2-instance/") => Some(
            "EC2 instance identity is never let in, since no policy can keep an instance from it: give the instance a role of its own",
        ),
        "assumed-role" if rest.starts_with("aws:") => {
            Some("identities that AWS gives its own services are never let in")
        }
        "assumed-role" if rest.starts_with(SERVICE_LINKED) => Some(SERVICE_LINKED_REFUSED),
        "role" if rest.rsplit('/').next().is_some_and(|name| name.starts_with(SERVICE_LINKED)) => {
            Some(SERVICE_LINKED_REFUSED)
        }
        "assumed-role" | "role" | "user" => None,
        _ if is_word(kind) => Some("callers are let in as a role or a user only"),
        _ => None,
    }
}

const SERVICE_LINKED_REFUSED: &str =
    "service-linked roles are never let in: only an AWS service assumes them";

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
}

/// A role session's name (AWS STS, `AssumeRole`, `RoleSessionName`).
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
    fn an_arn_that_aws_gives_no_caller_is_malformed() {
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
    fn a_kind_that_is_never_let_in_is_told_from_a_malformed_arn() {
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
            ("arn:aws:sts::111122223333:assumed-root/x", "role or a user only"),
            ("arn:aws:sts::111122223333:self", "role or a user only"),
        ] {
            match parse_caller_arn(arn) {
                Err(CallerArnError::Unsupported(sentence)) => {
                    assert!(sentence.contains(word), "{arn}: {sentence}")
                }
                other => panic!("{arn}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_caller_is_a_role_or_a_user_its_permission_set_and_its_account() {
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
            assert!(caller.principal.is_concrete());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn whatever_is_read_is_canonical(arn in near_principals(), name in "[a-z*:/]{0,6}") {
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
        fn two_callers_are_one_principal_only_if_account_partition_kind_and_name_are_alike(one in callers(), other in callers()) {
            let [first, second] = [&one, &other].map(|caller| parse_caller_arn(&caller.arn()).unwrap().principal);
            prop_assert_eq!(first == second, one.whom() == other.whom(), "{} {}", one.arn(), other.arn());
            prop_assert_eq!(first.as_str() == second.as_str(), first == second);
        }

        #[test]
        fn a_callers_other_principals_are_its_account_and_its_own_permission_set(caller in callers()) {
            let read = parse_caller_arn(&caller.arn()).unwrap();
            let (partition, account) = (caller.partition, caller.account);
            let suffix = "_0123456789abcdef";
            let set = caller.name.strip_prefix("AWSReservedSSO_").and_then(|rest| rest.strip_suffix(suffix)).filter(|set| !set.is_empty());
            let set = set.filter(|_| caller.kind == "role").map(|set| format!("sso:{partition}:{account}/{set}"));
            let expected: Vec<_> = set.into_iter().chain([format!("account:{partition}:{account}")]).collect();
            prop_assert_eq!(read.aliases.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
        }
    }

    /// A caller in its parts, few enough of each that two are often alike in all but one.
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
        fn whom(&self) -> [&'static str; 4] {
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
