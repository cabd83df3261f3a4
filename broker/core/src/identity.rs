//! Who a request comes from, once an issuer has vouched for it: what every way to authenticate ends in.

use stile_protocol::region::Partition;

use crate::principal::{CallerArnError, Principal, UniqueId, parse_caller_arn};

/// Who vouches for an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Issuer {
    /// AWS STS answered `GetCallerIdentity` for a request that the caller signed.
    Sts,
    /// API Gateway or a function URL verified the signature, and the event's request context names the caller.
    Gateway,
}

impl Issuer {
    /// The name in the audit log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sts => "proof",
            Self::Gateway => "gateway",
        }
    }
}

/// A caller that an issuer vouches for. It says who, never what the caller may do.
///
/// Only the broker's `authn` module makes one, from an answer that it has checked; a test of the source holds that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    principals: Vec<Principal>,
    issuer: Issuer,
    subject: String,
    unique_id: Option<UniqueId>,
    session: Option<String>,
}

impl Identity {
    /// The identity of an IAM role or user, if account, ARN and user id agree with each other.
    ///
    /// `partitions` are those that the issuer can speak for. Source: AWS STS, `GetCallerIdentity`.
    pub fn from_iam(
        issuer: Issuer,
        account: &str,
        arn: &str,
        user_id: &str,
        partitions: &[Partition],
    ) -> Result<Self, IdentityError> {
        let caller = parse_caller_arn(arn).map_err(|error| match error {
            CallerArnError::Unsupported(sentence) => IdentityError::Unsupported(sentence),
            CallerArnError::Malformed => IdentityError::Malformed("its ARN is out of the grammar"),
        })?;
        let (id, user_id_session) = match user_id.split_once(':') {
            Some((id, session)) => (id, Some(session)),
            None => (user_id, None),
        };
        if caller.account != account {
            return Err(IdentityError::Inconsistent("the ARN is of another account"));
        }
        if !partitions.contains(&caller.partition) {
            return Err(IdentityError::Inconsistent(
                "the ARN is of another partition than the region",
            ));
        }
        if user_id_session != caller.session_name.as_deref() {
            return Err(IdentityError::Inconsistent("UserId and Arn name different sessions"));
        }
        if !id.starts_with(caller.unique_id_prefix()) {
            return Err(IdentityError::Inconsistent("UserId is of another kind than Arn"));
        }
        let unique_id = UniqueId::parse(id)
            .ok_or(IdentityError::Malformed("its UserId is out of the grammar"))?;
        Ok(Self {
            principals: caller.principals().cloned().collect(),
            issuer,
            subject: arn.to_owned(),
            unique_id: Some(unique_id),
            session: caller.session_name,
        })
    }

    /// The one principal that the caller is: a role or a user.
    #[expect(
        clippy::indexing_slicing,
        reason = "every constructor puts the principal itself first"
    )]
    pub fn principal(&self) -> &Principal {
        &self.principals[0]
    }

    /// Every principal whose grants apply to this caller, its own first; at most three.
    pub fn principals(&self) -> &[Principal] {
        &self.principals
    }

    /// Who vouches for it.
    pub const fn issuer(&self) -> Issuer {
        self.issuer
    }

    /// The caller in the issuer's own words: the ARN, for AWS. For the audit log only.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The issuer's unchangeable id of the principal, if the issuer has one. It tells a role from a later one of the
    /// same name.
    pub const fn unique_id(&self) -> Option<&UniqueId> {
        self.unique_id.as_ref()
    }

    /// The name that the caller chose for its session. For the audit log only, since any caller can choose any name.
    pub fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }
}

/// Why an issuer's answer makes no identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// A kind of caller that is never admitted.
    #[error("{0}")]
    Unsupported(&'static str),
    /// The answer is not one that the issuer gives.
    #[error("{0}")]
    Malformed(&'static str),
    /// The answer contradicts itself or the region.
    #[error("{0}")]
    Inconsistent(&'static str),
}

/// What keeps an authentication from being used twice.
///
/// A proof that could be used twice would let anyone who copies it mint a token.
#[derive(Debug, PartialEq, Eq)]
pub enum SingleUse {
    /// The store must record this digest first; it refuses a digest that it has recorded before.
    Record {
        /// SHA-256 of what the caller signed.
        digest: [u8; 32],
        /// How long the issuer itself would accept it, Unix seconds.
        keep_until: i64,
    },
    /// The issuer accepts a signature once or for seconds only, and nothing reached the broker that could be copied.
    ByIssuer,
}

/// A caller who authenticated: its identity, and what keeps that from being used twice.
#[derive(Debug)]
pub struct Authenticated {
    /// Who it is.
    pub identity: Identity,
    /// What the mint must hand to the store.
    pub single_use: SingleUse,
}
