//! AWS's own JWT (`sts:GetWebIdentityToken`): its issuers, and what it says of a caller.
//!
//! Source: IAM user guide, "Understanding token claims", and the AWS STS API reference,
//! `GetWebIdentityToken`.

use std::fmt;

use serde_json::{Map, Value};
use stile_protocol::region::{Partition, Region};

use super::IssuerUrl;
use crate::principal::{
    AwsGroup, AwsGroupKind, CallerArn, CallerArnError, Principal, TagScope, is_account, is_org_id,
    is_unit_path, parse_own_arn,
};

/// The claim with everything that AWS says of a caller, apart from its ARN.
const CLAIM: &str = "https://sts.amazonaws.com/";

/// The domains of the issuers of each partition. A partition has none if AWS documents none.
const DOMAINS: [(Partition, &str); 1] = [(Partition::Aws, "tokens.sts.global.api.aws")];

/// The length of the id of an account's issuer, a UUID (RFC 9562, section 4).
const ID_LEN: usize = 36;

/// The most organizational units of a caller, and the most tags. IAM allows 50 of its own and 50 of a
/// session.
const MAX_UNITS: usize = 10;
const MAX_TAGS: usize = 100;

/// The most bytes of the workload in the audit event: an ARN of AWS has at most so many.
const MAX_WORKLOAD_LEN: usize = 256;

/// Returns the partition whose accounts have an issuer of this form: `https`, a UUID in lower case, and
/// the domain, with nothing before, between and after. `None` if it is not AWS's.
///
/// A broker fetches the keys of an issuer that no operator listed only if this is `Some`. A looser
/// form would let a caller choose the host.
pub fn aws_issuer(issuer: &str) -> Option<Partition> {
    let (id, domain) = issuer.strip_prefix("https://")?.split_once('.')?;
    let (partition, _) = DOMAINS.iter().find(|(_, known)| *known == domain)?;
    is_uuid(id).then_some(*partition)
}

/// Returns the issuer that stands for all issuers of a partition, in a trust in an organization. No
/// JWT has it as its `iss`.
pub fn aws_issuers(partition: Partition) -> Option<IssuerUrl> {
    let (_, domain) = DOMAINS.iter().find(|(known, _)| *known == partition)?;
    format!("https://{domain}").parse().ok()
}

fn is_uuid(text: &str) -> bool {
    text.len() == ID_LEN
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

/// Which callers of AWS a trust believes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsCallers {
    /// Of which accounts.
    pub of: AwsAccounts,
    /// Whether a caller has its grants by name although an id is pinned, which no JWT of AWS shows.
    ///
    /// A role that someone deletes and creates again then has the access of the first one.
    pub without_pin: bool,
}

/// The accounts whose callers a trust believes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AwsAccounts {
    /// One account, whose own issuer signs.
    One(Partition, String),
    /// All accounts of an organization, each with its own issuer.
    Organization(Partition, String),
}

/// Formats them as the flags of an operator.
impl fmt::Display for AwsCallers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.of {
            AwsAccounts::One(partition, account) => {
                write!(formatter, "aws-account={partition}:{account}")?;
            }
            AwsAccounts::Organization(partition, org) => {
                write!(formatter, "aws-org={partition}:{org}")?;
            }
        }
        formatter.write_str(if self.without_pin { " without-pin" } else { "" })
    }
}

impl AwsAccounts {
    /// Parses an account, `111122223333` or `PARTITION:111122223333`. `None` if it is not one.
    pub fn account(text: &str) -> Option<Self> {
        let (partition, account) = in_partition(text)?;
        is_account(account).then(|| Self::One(partition, account.to_owned()))
    }

    /// Parses an organization, `o-a1b2c3d4e5` or `PARTITION:o-a1b2c3d4e5`. `None` if it is not one.
    pub fn organization(text: &str) -> Option<Self> {
        let (partition, id) = in_partition(text)?;
        is_org_id(id).then(|| Self::Organization(partition, id.to_owned()))
    }
}

fn in_partition(text: &str) -> Option<(Partition, &str)> {
    match text.split_once(':') {
        None => Some((Partition::Aws, text)),
        Some((partition, rest)) => Some((Partition::named(partition)?, rest)),
    }
}

/// The reason why a JWT of AWS gives no caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AwsCallerError {
    /// The broker never accepts callers of this kind.
    #[error("{0}")]
    Unsupported(&'static str),
    /// AWS signs no such JWT.
    #[error("{0}")]
    Malformed(&'static str),
    /// The JWT names two callers, or one of another account or organization.
    #[error("{0}")]
    Inconsistent(&'static str),
}

/// What a verified JWT of AWS says of its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsCaller {
    arn: CallerArn,
    org: Option<String>,
    units: Vec<String>,
    tags: Vec<(String, String)>,
    region: Option<&'static Region>,
    workload: Option<String>,
}

impl AwsCaller {
    /// Reads the claims of a JWT whose signature the caller of this function verified, with the keys
    /// of an issuer that `believed` allows.
    ///
    /// # Errors
    ///
    /// [`AwsCallerError`], if the claims name no role or user of these accounts, or disagree.
    pub fn read(
        believed: &AwsAccounts,
        claims: &Map<String, Value>,
    ) -> Result<Self, AwsCallerError> {
        let subject = claims.get("sub").and_then(Value::as_str);
        let subject = subject.ok_or(AwsCallerError::Malformed("it has no `sub`"))?;
        let arn = parse_own_arn(subject).map_err(|error| match error {
            CallerArnError::Unsupported(sentence) => AwsCallerError::Unsupported(sentence),
            CallerArnError::Malformed => {
                AwsCallerError::Malformed("its `sub` is not the ARN of a role or a user")
            }
        })?;
        let aws = claims.get(CLAIM).and_then(Value::as_object);
        let aws = aws.ok_or(AwsCallerError::Malformed(
            "it has no claim `https://sts.amazonaws.com/` with an object",
        ))?;
        if aws.get("aws_account").and_then(Value::as_str) != Some(arn.account.as_str()) {
            return Err(AwsCallerError::Inconsistent(
                "its `sub` and its `aws_account` name different accounts",
            ));
        }
        // With `SubjectMode=OriginIdentity`, `sub` is the user for whom the caller acts. Its text
        // comes from another issuer, so it could be the ARN of any role.
        if aws.get("principal_id").is_some_and(|caller| caller.as_str() != Some(subject)) {
            return Err(AwsCallerError::Inconsistent(
                "its `sub` is not its `principal_id`, which is the role or user that asked for it",
            ));
        }
        let org = match aws.get("org_id") {
            None | Some(Value::Null) => None,
            Some(id) => Some(
                id.as_str()
                    .filter(|id| is_org_id(id))
                    .ok_or(AwsCallerError::Malformed("its `org_id` is no organization"))?,
            ),
        };
        let (partition, agrees) = match believed {
            AwsAccounts::One(partition, account) => (partition, *account == arn.account),
            AwsAccounts::Organization(partition, id) => (partition, org == Some(id.as_str())),
        };
        if arn.partition != *partition || !agrees {
            return Err(AwsCallerError::Inconsistent(match believed {
                AwsAccounts::One(..) => "it is for another account than the trust",
                AwsAccounts::Organization(..) => "it is for another organization than the trust",
            }));
        }
        let text = |name: &str| aws.get(name).and_then(Value::as_str);
        let workload =
            text("lambda_source_function_arn").or_else(|| text("ec2_source_instance_arn"));
        Ok(Self {
            arn,
            org: org.map(str::to_owned),
            units: units(aws.get("ou_path"), org),
            tags: tags(aws.get("principal_tags")),
            region: text("source_region").and_then(Region::named),
            workload: workload.filter(|text| is_printable(text)).map(str::to_owned),
        })
    }

    /// Returns the role or user, and its aliases.
    pub const fn arn(&self) -> &CallerArn {
        &self.arn
    }

    /// Returns the region whose STS signed, for the audit log only.
    pub const fn region(&self) -> Option<&'static Region> {
        self.region
    }

    /// Returns the ARN of the Lambda function or EC2 instance that asked, for the audit log only.
    pub fn workload(&self) -> Option<&str> {
        self.workload.as_deref()
    }

    /// Returns whether the caller is one of the group.
    pub fn is_in(&self, group: &AwsGroup) -> bool {
        match group.kind() {
            AwsGroupKind::Organization(id) => self.org.as_ref() == Some(id),
            AwsGroupKind::Unit(path) => self.is_in_unit(path),
            AwsGroupKind::Tag { scope, key, value } => {
                let is_scoped = match scope {
                    TagScope::AnyAccount => true,
                    TagScope::Account(partition, account) => {
                        (*partition, account) == (self.arn.partition, &self.arn.account)
                    }
                    TagScope::Unit(path) => self.is_in_unit(path),
                };
                is_scoped && self.tags.iter().any(|(known, has)| (known, has) == (key, value))
            }
        }
    }

    /// Returns the starts of the canonical texts of all groups that the caller can be in. Empty for a
    /// caller of whom the JWT says nothing of this kind.
    pub fn group_starts(&self) -> Vec<String> {
        let org = self.org.iter().map(|id| format!("org:{id}"));
        let unit = self.org.iter().filter(|_| !self.units.is_empty());
        let unit = unit.map(|id| format!("ou:{id}/"));
        let (partition, account) = (self.arn.partition, &self.arn.account);
        let tags = ["tag:".to_owned(), format!("account:{partition}:{account}/")];
        let tags = tags.into_iter().filter(|_| !self.tags.is_empty());
        org.chain(unit).chain(tags).collect()
    }

    /// Returns the organization of the caller, as a principal.
    pub fn organization(&self) -> Option<Principal> {
        Principal::parse_stored(&format!("org:{}", self.org.as_ref()?)).ok()
    }

    /// Returns those of the principals that are groups of the caller.
    pub fn groups_among<'a>(
        &self,
        principals: impl IntoIterator<Item = &'a Principal>,
    ) -> Vec<Principal> {
        let is_own = |principal: &&Principal| match principal {
            Principal::AwsGroup(group) => self.is_in(group),
            _ => false,
        };
        principals.into_iter().filter(is_own).cloned().collect()
    }

    /// Returns whether one of the caller's units is this one or is below it. Only whole segments
    /// count: `ou-ab12-11111111` is not above `ou-ab12-111111112`.
    fn is_in_unit(&self, path: &str) -> bool {
        let below = |unit: &String| {
            unit.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.units.iter().any(below)
    }
}

/// Reads the entity paths, which end with a slash. AWS writes a text or a list of texts. A path that is
/// malformed, or of another organization, gives no access.
fn units(claim: Option<&Value>, org: Option<&str>) -> Vec<String> {
    let Some(org) = org else { return Vec::new() };
    let one = claim.filter(|claim| claim.is_string()).into_iter();
    let many = claim.and_then(Value::as_array).into_iter().flatten().take(MAX_UNITS);
    let path = |value: &Value| {
        let path = value.as_str()?;
        let path = path.strip_suffix('/').unwrap_or(path);
        let ours = path.split('/').next() == Some(org);
        (ours && is_unit_path(path)).then(|| path.to_owned())
    };
    one.chain(many).filter_map(path).collect()
}

/// Reads the tags. One whose value is not a text gives no access.
fn tags(claim: Option<&Value>) -> Vec<(String, String)> {
    let claim = claim.and_then(Value::as_object).into_iter().flatten().take(MAX_TAGS);
    claim.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

fn is_printable(text: &str) -> bool {
    (1..=MAX_WORKLOAD_LEN).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ROLE: &str = "arn:aws:iam::111122223333:role/ci/deploy";
    const UNIT: &str = "o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/ou-ab12-22222222";

    fn account() -> AwsAccounts {
        AwsAccounts::One(Partition::Aws, "111122223333".to_owned())
    }

    fn organization() -> AwsAccounts {
        AwsAccounts::Organization(Partition::Aws, "o-a1b2c3d4e5".to_owned())
    }

    /// The claims of a Lambda function, as the IAM user guide shows them.
    fn claims() -> Value {
        json!({
            "iss": "https://a1d2b0fd-1177-4468-9351-2f0123456723.tokens.sts.global.api.aws",
            "aud": "https://registry.example.com",
            "sub": ROLE,
            CLAIM: {
                "aws_account": "111122223333",
                "source_region": "us-east-1",
                "org_id": "o-a1b2c3d4e5",
                "ou_path": [format!("{UNIT}/")],
                "principal_id": ROLE,
                "principal_tags": {"team": "data", "u:use-case": "x/y=z"},
                "request_tags": {"team": "security", "stage": "prod"},
                "lambda_source_function_arn":
                    "arn:aws:lambda:us-east-1:111122223333:function:process",
            },
        })
    }

    fn read(believed: &AwsAccounts, claims: &Value) -> Result<AwsCaller, AwsCallerError> {
        AwsCaller::read(believed, claims.as_object().unwrap())
    }

    fn is_in(caller: &AwsCaller, group: &str) -> bool {
        match Principal::parse_stored(group).unwrap() {
            Principal::AwsGroup(group) => caller.is_in(&group),
            other => panic!("{other} is no group"),
        }
    }

    #[test]
    fn accounts_and_organizations_are_read_as_they_are_written() {
        for text in ["", "11112222333", "aws-moon:111122223333", "aws:", "aws:x", ":111122223333"] {
            assert_eq!(AwsAccounts::account(text), None, "{text}");
        }
        for text in ["", "o-", "O-a1b2c3d4e5", "aws-moon:o-a1b2c3d4e5", "111122223333"] {
            assert_eq!(AwsAccounts::organization(text), None, "{text}");
        }
        assert_eq!(AwsAccounts::account("111122223333"), Some(account()));
        assert_eq!(AwsAccounts::account("aws:111122223333"), Some(account()));
        assert_eq!(AwsAccounts::organization("o-a1b2c3d4e5"), Some(organization()));
        let callers = |of, without_pin| AwsCallers { of, without_pin }.to_string();
        assert_eq!(callers(account(), true), "aws-account=aws:111122223333 without-pin");
        assert_eq!(callers(organization(), false), "aws-org=aws:o-a1b2c3d4e5");
    }

    #[test]
    fn only_the_exact_form_is_an_issuer_of_aws() {
        let id = "a1d2b0fd-1177-4468-9351-2f0123456723";
        for issuer in [
            String::new(),
            format!("https://{id}.tokens.sts.global.api.aws/"),
            format!("https://{id}.tokens.sts.global.api.aws:443"),
            format!("https://{id}.tokens.sts.global.api.aws.evil.example"),
            format!("https://{id}.evil.tokens.sts.global.api.aws"),
            format!("https://evil.example/{id}.tokens.sts.global.api.aws"),
            format!("https://x@{id}.tokens.sts.global.api.aws"),
            format!("https://{id}.TOKENS.sts.global.api.aws"),
            format!("https://{}.tokens.sts.global.api.aws", id.to_uppercase()),
            format!("http://{id}.tokens.sts.global.api.aws"),
            format!("https://{id}a.tokens.sts.global.api.aws"),
            format!("https://{}.tokens.sts.global.api.aws", id.replace('-', "a")),
            format!("https://{}.tokens.sts.global.api.aws", id.replace('f', "g")),
            "https://.tokens.sts.global.api.aws".to_owned(),
            "https://tokens.sts.global.api.aws".to_owned(),
            "https://abc123.tokens.sts.global.api.aws".to_owned(),
        ] {
            assert_eq!(aws_issuer(&issuer), None, "{issuer}");
        }
        let good = format!("https://{id}.tokens.sts.global.api.aws");
        assert_eq!(aws_issuer(&good), Some(Partition::Aws));
        assert!(good.parse::<IssuerUrl>().is_ok());
        let all = aws_issuers(Partition::Aws).unwrap();
        assert_eq!(
            (all.as_str(), aws_issuer(all.as_str())),
            ("https://tokens.sts.global.api.aws", None)
        );
        assert_eq!(aws_issuers(Partition::AwsCn), None);
    }

    #[test]
    fn claims_that_name_no_caller_or_two_are_refused() {
        type Change = fn(&mut Value);
        let cases: [(Change, AwsCallerError); 17] = [
            (|c| c["sub"] = json!(null), AwsCallerError::Malformed("")),
            (
                |c| c["sub"] = json!(["arn:aws:iam::111122223333:role/deploy"]),
                AwsCallerError::Malformed(""),
            ),
            (|c| c["sub"] = json!("deploy"), AwsCallerError::Malformed("")),
            (
                |c| c["sub"] = json!("arn:aws:iam::111122223333:root"),
                AwsCallerError::Unsupported(""),
            ),
            (
                |c| c["sub"] = json!("arn:aws:sts::111122223333:assumed-role/deploy/s1"),
                AwsCallerError::Unsupported(""),
            ),
            (
                |c| c["sub"] = json!("arn:aws:sts::111122223333:federated-user/x"),
                AwsCallerError::Unsupported(""),
            ),
            (
                |c| c["sub"] = json!("arn:aws:iam::111122223333:role/AWSServiceRoleForX"),
                AwsCallerError::Unsupported(""),
            ),
            (
                |c| c["sub"] = json!("arn:aws:iam::444455556666:role/ci/deploy"),
                AwsCallerError::Inconsistent(""),
            ),
            (|c| c[CLAIM]["aws_account"] = json!("444455556666"), AwsCallerError::Inconsistent("")),
            (
                |c| c[CLAIM]["aws_account"] = json!(111_122_223_333_u64),
                AwsCallerError::Inconsistent(""),
            ),
            (|c| c[CLAIM]["aws_account"] = json!(null), AwsCallerError::Inconsistent("")),
            (
                |c| c[CLAIM]["principal_id"] = json!("arn:aws:iam::111122223333:role/other"),
                AwsCallerError::Inconsistent(""),
            ),
            // The path belongs to the ARN.
            (
                |c| c[CLAIM]["principal_id"] = json!("arn:aws:iam::111122223333:role/deploy"),
                AwsCallerError::Inconsistent(""),
            ),
            (
                |c| c[CLAIM]["principal_id"] = json!("AROAEXAMPLEEXAMPLE222"),
                AwsCallerError::Inconsistent(""),
            ),
            (|c| c[CLAIM]["principal_id"] = json!(null), AwsCallerError::Inconsistent("")),
            (|c| c[CLAIM] = json!("111122223333"), AwsCallerError::Malformed("")),
            (|c| c[CLAIM]["org_id"] = json!("o-*"), AwsCallerError::Malformed("")),
        ];
        for (at, (change, expected)) in cases.into_iter().enumerate() {
            let mut changed = claims();
            change(&mut changed);
            for believed in [account(), organization()] {
                let error = read(&believed, &changed).unwrap_err();
                assert_eq!(
                    std::mem::discriminant(&error),
                    std::mem::discriminant(&expected),
                    "case {at}: {error}"
                );
            }
        }
        let mut without = claims();
        without.as_object_mut().unwrap().remove(CLAIM);
        assert!(matches!(read(&account(), &without), Err(AwsCallerError::Malformed(_))));
    }

    #[test]
    fn a_caller_of_another_account_or_organization_is_refused() {
        let mut other = claims();
        other["sub"] = json!("arn:aws:iam::444455556666:role/deploy");
        other[CLAIM]["aws_account"] = json!("444455556666");
        other[CLAIM]["principal_id"] = other["sub"].clone();
        assert!(matches!(read(&account(), &other), Err(AwsCallerError::Inconsistent(_))));
        assert!(read(&organization(), &other).is_ok(), "it is of the organization");
        for org in [json!("o-b1b2c3d4e5"), json!(null)] {
            other[CLAIM]["org_id"] = org;
            assert!(matches!(read(&organization(), &other), Err(AwsCallerError::Inconsistent(_))));
        }
        let mut china = claims();
        china["sub"] = json!("arn:aws-cn:iam::111122223333:role/deploy");
        china[CLAIM]["principal_id"] = china["sub"].clone();
        for believed in [account(), organization()] {
            assert!(matches!(read(&believed, &china), Err(AwsCallerError::Inconsistent(_))));
        }
    }

    #[test]
    fn a_caller_is_the_role_without_its_path() {
        let caller = read(&account(), &claims()).unwrap();
        assert_eq!(caller.arn().principal.as_str(), "aws:111122223333:role/deploy");
        assert_eq!(caller.region().map(|region| region.name), Some("us-east-1"));
        assert_eq!(
            caller.workload(),
            Some("arn:aws:lambda:us-east-1:111122223333:function:process")
        );
        // A claim that is only for the log never prevents access, and is never a long or strange text.
        let mut odd = claims();
        odd[CLAIM]["source_region"] = json!("us-moon-1");
        odd[CLAIM]["lambda_source_function_arn"] = json!("x\ny");
        odd[CLAIM].as_object_mut().unwrap().remove("principal_id");
        let odd = read(&account(), &odd).unwrap();
        assert_eq!((odd.region(), odd.workload()), (None, None));
    }

    #[test]
    fn an_organizational_unit_covers_whole_segments_below_it_and_nothing_else() {
        let caller = read(&organization(), &claims()).unwrap();
        for (group, expected) in [
            ("org:o-a1b2c3d4e5", true),
            ("org:o-a1b2c3d4e6", false),
            ("ou:o-a1b2c3d4e5/r-ab12", true),
            ("ou:o-a1b2c3d4e5/r-ab12/ou-ab12-11111111", true),
            ("ou:o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/ou-ab12-22222222", true),
            ("ou:o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/ou-ab12-222222222", false),
            ("ou:o-a1b2c3d4e5/r-ab12/ou-ab12-22222222", false),
            ("ou:o-a1b2c3d4e5/r-ab1", false),
            ("ou:o-b1b2c3d4e5/r-ab12", false),
        ] {
            // `r-ab1` is too short to be a root.
            if Principal::parse_stored(group).is_ok() {
                assert_eq!(is_in(&caller, group), expected, "{group}");
            }
        }
        let mut longer = claims();
        longer[CLAIM]["ou_path"] = json!("o-a1b2c3d4e5/r-ab12/ou-ab12-111111112/");
        let longer = read(&organization(), &longer).unwrap();
        assert!(!is_in(&longer, "ou:o-a1b2c3d4e5/r-ab12/ou-ab12-11111111"));
        assert!(is_in(&longer, "ou:o-a1b2c3d4e5/r-ab12/ou-ab12-111111112"), "a text, not a list");
        for bad in [
            json!("o-b1b2c3d4e5/r-ab12/"),
            json!("o-a1b2c3d4e5/r-ab12//"),
            json!("/o-a1b2c3d4e5/r-ab12/"),
            json!("o-a1b2c3d4e5/r-ab12/../"),
            json!({"0": "o-a1b2c3d4e5/r-ab12/"}),
            json!(7),
            json!([]),
        ] {
            let mut changed = claims();
            changed[CLAIM]["ou_path"] = bad.clone();
            let caller = read(&organization(), &changed).unwrap();
            assert!(!is_in(&caller, "ou:o-a1b2c3d4e5/r-ab12"), "{bad}");
        }
    }

    #[test]
    fn only_tags_of_the_principal_count_and_only_in_their_scope() {
        let caller = read(&account(), &claims()).unwrap();
        for (group, expected) in [
            ("tag:team=data", true),
            ("tag:u:use-case=x/y=z", true),
            ("account:aws:111122223333/tag:team=data", true),
            ("ou:o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/tag:team=data", true),
            // The caller chooses the tags of its request.
            ("tag:team=security", false),
            ("tag:stage=prod", false),
            ("tag:Team=data", false),
            ("tag:team=Data", false),
            ("tag:team=dat", false),
            ("account:aws:444455556666/tag:team=data", false),
            ("account:aws-cn:111122223333/tag:team=data", false),
            ("ou:o-a1b2c3d4e5/r-ab12/ou-ab12-33333333/tag:team=data", false),
        ] {
            assert_eq!(is_in(&caller, group), expected, "{group}");
        }
        let mut odd = claims();
        for tags in [json!({"team": ["data"]}), json!([["team", "data"]]), json!("team=data")] {
            odd[CLAIM]["principal_tags"] = tags;
            assert!(!is_in(&read(&account(), &odd).unwrap(), "tag:team=data"));
        }
    }

    #[test]
    fn every_group_of_a_caller_begins_with_one_of_its_starts() {
        let caller = read(&account(), &claims()).unwrap();
        let starts = caller.group_starts();
        let groups = [
            "org:o-a1b2c3d4e5",
            "ou:o-a1b2c3d4e5/r-ab12",
            "tag:team=data",
            "account:aws:111122223333/tag:team=data",
            "ou:o-a1b2c3d4e5/r-ab12/tag:team=data",
            "tag:team=security",
            "account:aws:111122223333",
        ]
        .map(|text| Principal::parse_stored(text).unwrap());
        for group in &groups {
            let account = matches!(group, Principal::Account(_));
            assert_eq!(starts.iter().any(|start| group.as_str().starts_with(start)), !account);
        }
        assert_eq!(caller.groups_among(&groups), groups[..5]);
        let mut plain = claims();
        plain[CLAIM] = json!({"aws_account": "111122223333"});
        assert!(read(&account(), &plain).unwrap().group_starts().is_empty());
    }
}
