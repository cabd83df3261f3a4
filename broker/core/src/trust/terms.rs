//! What an operator chooses of a trust, and which choices are refused.

use std::fmt;

use sha2::{Digest, Sha256};
use stile_protocol::region::Partition;

use super::public_issuers::{NamedOwner, PublicIssuer};
use super::{
    AwsAccounts, AwsCallers, Condition, IssuerUrl, LONGEST_MAX_AGE, MAX_CONDITIONS, Rule, Trust,
    aws_issuer, aws_issuers,
};

/// The most bytes of an audience.
const MAX_AUDIENCE: usize = 500;

/// The shortest age that a trust can allow, in seconds. A client needs some time to use its JWT.
const SHORTEST_MAX_AGE: i64 = 60;

/// What an operator chooses of a trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustTerms {
    /// The issuer of the JWTs.
    pub issuer: IssuerUrl,
    /// The audience of the JWTs. `None`: the registry's host, with or without `https://`.
    pub audience: Option<String>,
    /// What the claims must say, all of it.
    pub conditions: Vec<Condition>,
    /// How old a JWT may be, in seconds since its `iat`.
    pub max_age: i64,
    /// Which callers of AWS it believes, if its JWTs are AWS's own.
    pub aws: Option<AwsCallers>,
    /// The keys of the issuer, from [`issuer_keys()`](super::issuer_keys()). `None`: the issuer's own.
    pub keys: Option<String>,
}

/// The reason why no trust may have these terms.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    /// It believes every JWT of its issuer.
    #[error("the trust has no condition, so it would believe every JWT of its issuer")]
    NoCondition,
    /// It has too many conditions.
    #[error("a trust has at most {MAX_CONDITIONS} conditions")]
    TooManyConditions,
    /// Two conditions are on one claim, and at most one of them can be met, or one is idle.
    #[error("two conditions are on the claim `{0}`")]
    SameClaim(String),
    /// Everyone can get a JWT of the issuer, and no condition says whose it is.
    #[error(
        "everyone can get a JWT of {}, so a condition must say whose it is: one of {}",
        .0.name, listed(.0)
    )]
    NoOwner(&'static PublicIssuer),
    /// A condition is about tags that the caller chooses for each JWT.
    #[error("the caller chooses `request_tags`, so no condition can be on them")]
    RequestTags,
    /// The trust believes callers of AWS, and its issuer is not AWS's, or not of that partition.
    #[error("the issuer is not `https://ID.tokens.sts.global.api.aws`, where AWS signs JWTs")]
    NoAwsIssuer,
    /// AWS signs the JWTs of its issuer, and it does not say whose callers it believes. Then nothing
    /// would compare the subject with the account: an identity provider could have chosen it.
    #[error(
        "AWS signs the JWTs of this issuer, so the trust must name the account or organization"
    )]
    NoAwsCallers,
    /// A trust in an organization has keys of its own, although each account has other ones.
    #[error(
        "a trust in an organization has no keys of its own, because each account has other ones"
    )]
    KeysOfOrganization,
    /// The audience is empty, too long, or contains a space or a control character.
    #[error("an audience has 1 to {MAX_AUDIENCE} printable characters without a space")]
    Audience,
    /// The age is too short or too long.
    #[error("the age of a JWT is between {SHORTEST_MAX_AGE} seconds and 24 hours")]
    MaxAge,
}

/// Formats them in one line, as the flags of an operator, with a digest of the keys.
impl fmt::Display for TrustTerms {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "issuer={}", self.issuer)?;
        if let Some(audience) = &self.audience {
            write!(formatter, " audience={audience}")?;
        }
        for condition in &self.conditions {
            let flag = match condition.rule {
                Rule::Equals(_) => "claim",
                Rule::Prefix(_) => "claim-prefix",
                Rule::Contains(_) => "claim-contains",
            };
            write!(formatter, " {flag}={condition}")?;
        }
        write!(formatter, " max-age={}", self.max_age)?;
        if let Some(aws) = &self.aws {
            write!(formatter, " {aws}")?;
        }
        if let Some(keys) = &self.keys {
            write!(formatter, " jwks=sha256:{}", hex::encode(Sha256::digest(keys)))?;
        }
        Ok(())
    }
}

impl TrustTerms {
    /// Checks that a trust may have these terms.
    ///
    /// # Errors
    ///
    /// [`TermsError`], with the first reason.
    pub fn check(&self) -> Result<(), TermsError> {
        // The account or the organization is a condition, too.
        if self.conditions.is_empty() && self.aws.is_none() {
            return Err(TermsError::NoCondition);
        }
        self.check_aws()?;
        if self.conditions.len() > MAX_CONDITIONS {
            return Err(TermsError::TooManyConditions);
        }
        for (at, condition) in self.conditions.iter().enumerate() {
            let is_same = |other: &Condition| {
                let both = other.is_contains() && condition.is_contains();
                other.path == condition.path && (!both || other == condition)
            };
            if self.conditions.iter().skip(at + 1).any(is_same) {
                return Err(TermsError::SameClaim(condition.path.as_str().to_owned()));
            }
        }
        let public = PublicIssuer::of(&self.issuer);
        if let Some(public) =
            public.filter(|public| public.owner_in(&self.conditions) == NamedOwner::Nobody)
        {
            return Err(TermsError::NoOwner(public));
        }
        let printable = |audience: &String| {
            (1..=MAX_AUDIENCE).contains(&audience.len())
                && audience.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if !self.audience.as_ref().is_none_or(printable) {
            return Err(TermsError::Audience);
        }
        if !(SHORTEST_MAX_AGE..=LONGEST_MAX_AGE).contains(&self.max_age) {
            return Err(TermsError::MaxAge);
        }
        Ok(())
    }

    fn check_aws(&self) -> Result<(), TermsError> {
        if self.conditions.iter().any(|condition| condition.path.is_of_request_tags()) {
            return Err(TermsError::RequestTags);
        }
        let fits = match self.aws.as_ref().map(|aws| &aws.of) {
            None if is_of_aws(&self.issuer) => return Err(TermsError::NoAwsCallers),
            None => true,
            Some(AwsAccounts::One(partition, _)) => {
                aws_issuer(self.issuer.as_str()) == Some(*partition)
            }
            Some(AwsAccounts::Organization(..)) if self.keys.is_some() => {
                return Err(TermsError::KeysOfOrganization);
            }
            Some(AwsAccounts::Organization(partition, _)) => {
                aws_issuers(*partition).as_ref() == Some(&self.issuer)
            }
        };
        if fits { Ok(()) } else { Err(TermsError::NoAwsIssuer) }
    }
}

/// Returns whether the issuer is one of AWS, or stands for all of a partition.
fn is_of_aws(issuer: &IssuerUrl) -> bool {
    let stands_for_all = |partition| aws_issuers(partition).as_ref() == Some(issuer);
    aws_issuer(issuer.as_str()).is_some() || Partition::ALL.into_iter().any(stands_for_all)
}

impl Trust {
    /// Returns what the operator chose.
    pub fn terms(&self) -> TrustTerms {
        TrustTerms {
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            conditions: self.conditions.clone(),
            max_age: self.max_age,
            aws: self.aws.clone(),
            keys: self.keys.clone(),
        }
    }

    /// Replaces what the operator chose.
    #[must_use]
    pub fn with_terms(self, terms: TrustTerms) -> Self {
        let TrustTerms { issuer, audience, conditions, max_age, aws, keys } = terms;
        Self { issuer, audience, conditions, max_age, aws, keys, ..self }
    }
}

fn listed(public: &PublicIssuer) -> String {
    let owners = public.ids.iter().chain(public.names);
    let quoted: Vec<String> = owners.map(|claim| format!("`{claim}`")).collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(issuer: &str, conditions: &[Condition]) -> TrustTerms {
        TrustTerms {
            issuer: issuer.parse().unwrap(),
            audience: None,
            conditions: conditions.to_vec(),
            max_age: 3600,
            aws: None,
            keys: None,
        }
    }

    fn equals(text: &str) -> Condition {
        Condition::equals(text).unwrap()
    }

    const OWN: &str = "https://git.corp.example";
    const GITHUB: &str = "https://token.actions.githubusercontent.com";

    #[test]
    fn a_trust_that_believes_everyone_is_refused() {
        assert_eq!(terms(OWN, &[]).check(), Err(TermsError::NoCondition));
        let many: Vec<_> = (0..21).map(|n| equals(&format!("c{n}=x"))).collect();
        assert_eq!(terms(OWN, &many).check(), Err(TermsError::TooManyConditions));
        assert_eq!(terms(OWN, &many[..20]).check(), Ok(()));
        let github = |conditions: &[Condition]| terms(GITHUB, conditions).check();
        let refused = github(&[equals("ref=refs/heads/main")]).unwrap_err();
        assert!(
            refused.to_string().starts_with(
                "everyone can get a JWT of GitHub Actions, so a condition must say whose it is: \
                 one of `repository_id`, "
            ),
            "{refused}"
        );
        assert_eq!(github(&[equals("repository_id=74")]), Ok(()));
    }

    #[test]
    fn a_trust_in_aws_needs_an_issuer_of_aws_and_no_condition() {
        let own = "https://a1d2b0fd-1177-4468-9351-2f0123456723.tokens.sts.global.api.aws";
        let all = "https://tokens.sts.global.api.aws";
        let account = |partition| AwsAccounts::One(partition, "111122223333".to_owned());
        let org = |partition| AwsAccounts::Organization(partition, "o-a1b2c3d4e5".to_owned());
        let checked = |issuer: &str, of: AwsAccounts, keys: Option<&str>| {
            let aws = Some(AwsCallers { of, without_pin: false });
            let keys = keys.map(str::to_owned);
            TrustTerms { aws, keys, ..terms(issuer, &[]) }.check()
        };
        let keys = Some(r#"{"keys":[]}"#);
        for (issuer, of, keys, expected) in [
            (OWN, account(Partition::Aws), None, Err(TermsError::NoAwsIssuer)),
            (all, account(Partition::Aws), None, Err(TermsError::NoAwsIssuer)),
            (own, account(Partition::AwsCn), None, Err(TermsError::NoAwsIssuer)),
            (own, org(Partition::Aws), None, Err(TermsError::NoAwsIssuer)),
            (all, org(Partition::AwsCn), None, Err(TermsError::NoAwsIssuer)),
            (all, org(Partition::Aws), keys, Err(TermsError::KeysOfOrganization)),
            (own, account(Partition::Aws), None, Ok(())),
            (own, account(Partition::Aws), keys, Ok(())),
            (all, org(Partition::Aws), None, Ok(())),
        ] {
            assert_eq!(checked(issuer, of.clone(), keys), expected, "{issuer} {of:?}");
        }
        for claim in ["request_tags", "request_tags/team", "request_tags/a~1b"] {
            let condition = equals(&format!("/https:~1~1sts.amazonaws.com~1/{claim}=data"));
            assert_eq!(terms(OWN, &[condition]).check(), Err(TermsError::RequestTags), "{claim}");
        }
        let team = equals("/https:~1~1sts.amazonaws.com~1/principal_tags/team=data");
        for issuer in [own, all] {
            let plain = terms(issuer, std::slice::from_ref(&team)).check();
            assert_eq!(plain, Err(TermsError::NoAwsCallers), "{issuer}");
        }
        let aws = Some(AwsCallers { of: account(Partition::Aws), without_pin: false });
        assert_eq!(TrustTerms { aws, ..terms(own, &[team]) }.check(), Ok(()));
    }

    #[test]
    fn two_conditions_on_one_claim_are_refused_unless_an_array_must_contain_both() {
        let prefix = Condition::prefix("ref=refs/heads/*").unwrap();
        let contains = |text| Condition::contains(text).unwrap();
        for (conditions, fine) in [
            (vec![equals("ref=a"), equals("ref=b")], false),
            (vec![equals("ref=a"), prefix], false),
            (vec![contains("groups=a"), contains("groups=a")], false),
            (vec![contains("groups=a"), contains("groups=b")], true),
            (vec![equals("ref=a"), equals("/ref/x=b")], true),
        ] {
            let checked = terms(OWN, &conditions).check();
            assert_eq!(checked.is_ok(), fine, "{conditions:?}: {checked:?}");
        }
    }

    #[test]
    fn the_audience_and_the_age_have_limits() {
        let fine = terms(OWN, &[equals("sub=a")]);
        for audience in ["", "a b", "a\n", "\u{e9}", &"a".repeat(501)] {
            let refused = TrustTerms { audience: Some(audience.to_owned()), ..fine.clone() };
            assert_eq!(refused.check(), Err(TermsError::Audience), "{audience:?}");
        }
        for (max_age, expected) in
            [(-1, false), (59, false), (60, true), (86_400, true), (86_401, false)]
        {
            let checked = TrustTerms { max_age, ..fine.clone() }.check();
            assert_eq!(checked.is_ok(), expected, "{max_age}: {checked:?}");
        }
        let audience = Some("sts.example:443/x".to_owned());
        assert_eq!(TrustTerms { audience, ..fine }.check(), Ok(()));
    }
}
