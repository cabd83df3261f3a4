//! The identity of an authenticated caller: the result of every authentication method.

use std::collections::BTreeSet;

use stile_protocol::region::Partition;

use crate::principal::{CallerArnError, Principal, ShownId, UniqueId, parse_caller_arn};
use crate::trust::{AwsCaller, Trust, TrustStamp, shown_id};

/// How far the clock of the signer of a proof may be ahead of the broker's, in seconds, inclusive.
pub const PROOF_MAX_AHEAD: i64 = 120;

/// The system that authenticated the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Issuer {
    /// AWS STS: it answered a `GetCallerIdentity` request that the caller signed.
    Sts,
    /// API Gateway or a Lambda function URL: it verified the signature, and the event's request
    /// context names the caller.
    Gateway,
    /// An issuer that a trust believes: it signed the caller's JWT.
    Trust,
}

impl Issuer {
    /// Returns the name in the audit log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sts => "proof",
            Self::Gateway => "gateway",
            Self::Trust => "jwt",
        }
    }
}

/// An authenticated caller. It says who the caller is, not what the caller may do.
///
/// Only the broker's `authn` module creates one, from an answer that it verified. A test of the
/// source code enforces this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    principals: Vec<Principal>,
    issuer: Issuer,
    subject: String,
    unique_id: Option<UniqueId>,
    trust_revision: Option<i64>,
    trust: Option<TrustStamp>,
    aws: Option<AwsCaller>,
    groups: Vec<Principal>,
    session: Option<String>,
}

impl Identity {
    /// Creates the identity of an IAM role or user, if account, ARN and user id are consistent.
    ///
    /// `partitions` are the AWS partitions that the issuer is responsible for. Source: AWS STS API
    /// reference, `GetCallerIdentity`.
    ///
    /// # Errors
    ///
    /// [`IdentityError`], if the broker does not accept such callers or a field is invalid.
    pub fn from_iam(
        issuer: Issuer,
        account: &str,
        arn: &str,
        user_id: &str,
        partitions: &[Partition],
    ) -> Result<Self, IdentityError> {
        let caller = parse_caller_arn(arn).map_err(|error| match error {
            CallerArnError::Unsupported(sentence) => IdentityError::Unsupported(sentence),
            CallerArnError::Malformed => IdentityError::Malformed("its ARN is malformed"),
        })?;
        let (id, user_id_session) = match user_id.split_once(':') {
            Some((id, session)) => (id, Some(session)),
            None => (user_id, None),
        };
        if caller.account != account {
            return Err(IdentityError::Inconsistent("the ARN is for a different account"));
        }
        if !partitions.contains(&caller.partition) {
            return Err(IdentityError::Inconsistent(
                "the ARN and the region are in different partitions",
            ));
        }
        if user_id_session != caller.session_name.as_deref() {
            return Err(IdentityError::Inconsistent("UserId and Arn name different sessions"));
        }
        if !id.starts_with(caller.unique_id_prefix()) {
            return Err(IdentityError::Inconsistent("UserId and Arn are of different types"));
        }
        let unique_id =
            UniqueId::parse(id).ok_or(IdentityError::Malformed("its UserId is malformed"))?;
        Ok(Self {
            principals: caller.principals().cloned().collect(),
            issuer,
            subject: arn.to_owned(),
            unique_id: Some(unique_id),
            trust_revision: None,
            trust: None,
            aws: None,
            groups: Vec::new(),
            session: caller.session_name,
        })
    }

    /// Creates the identity of a caller whose verified JWT a trust believes. `subject` is its `sub`
    /// claim.
    pub fn from_trust(trust: &Trust, subject: &str) -> Self {
        Self {
            principals: vec![trust.principal()],
            issuer: Issuer::Trust,
            subject: subject.to_owned(),
            unique_id: Some(trust.id.clone()),
            trust_revision: Some(trust.revision),
            trust: None,
            aws: None,
            groups: Vec::new(),
            session: None,
        }
    }

    /// Creates the identity of a role or user whose verified JWT of AWS a trust believes. The JWT shows
    /// no unique id.
    pub fn from_aws(trust: TrustStamp, caller: AwsCaller, subject: &str) -> Self {
        let trusted = trust.principal();
        Self {
            principals: caller.arn().principals().cloned().chain([trusted]).collect(),
            issuer: Issuer::Trust,
            subject: subject.to_owned(),
            unique_id: None,
            trust_revision: None,
            trust: Some(trust),
            aws: Some(caller),
            groups: Vec::new(),
            session: None,
        }
    }

    /// Adds the caller's organization, and those of the principals that are groups of the caller, in
    /// their order. A token names at most [`MAX_GROUPS`](crate::token::MAX_GROUPS). So groups that are
    /// revoked must come first: groups with grants must not push one out.
    #[must_use]
    pub fn in_groups(mut self, known: &[Principal], most: usize) -> Self {
        if let Some(caller) = &self.aws {
            let mut groups: Vec<Principal> = caller.organization().into_iter().collect();
            groups.extend(caller.groups_among(known));
            let mut seen = BTreeSet::new();
            groups.retain(|group| seen.insert(group.clone()));
            let sets = self.principals.iter().filter(|one| is_set(one)).count();
            groups.truncate(most.saturating_sub(sets));
            self.principals.extend(groups.iter().cloned());
            self.groups = groups;
        }
        self
    }

    /// Returns the caller's own principal: a role or a user.
    #[expect(
        clippy::indexing_slicing,
        reason = "every constructor puts the principal itself first"
    )]
    pub fn principal(&self) -> &Principal {
        &self.principals[0]
    }

    /// Returns every principal whose grants or revocation matter for this caller, its own first: at most
    /// three, and for a caller with a JWT of AWS its groups and its trust.
    pub fn principals(&self) -> &[Principal] {
        &self.principals
    }

    /// Returns the system that authenticated the caller.
    pub const fn issuer(&self) -> Issuer {
        self.issuer
    }

    /// Returns the issuer's name for the caller, for the audit log only. For AWS, it is the ARN.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Returns the issuer's immutable id of the principal, if it has one.
    ///
    /// It distinguishes a role from a later role of the same name.
    pub const fn unique_id(&self) -> Option<&UniqueId> {
        self.unique_id.as_ref()
    }

    /// Returns what the authentication showed of the unique id.
    pub fn shown_id(&self) -> ShownId<'_> {
        shown_id(self.unique_id.as_ref(), self.trust.as_ref())
    }

    /// Returns the revision of the trust that believed the caller, if one did.
    pub const fn trust_revision(&self) -> Option<i64> {
        self.trust_revision
    }

    /// Returns the trust that believed the caller's JWT of AWS, if that is how it came.
    pub const fn trust(&self) -> Option<&TrustStamp> {
        self.trust.as_ref()
    }

    /// Returns what the caller's JWT of AWS says, if that is how it came.
    pub const fn aws(&self) -> Option<&AwsCaller> {
        self.aws.as_ref()
    }

    /// Returns the groups of the caller.
    pub fn groups(&self) -> &[Principal] {
        &self.groups
    }

    /// Returns what a token names for a caller with a JWT of AWS: the permission set that the ARN
    /// showed, and the groups. Empty for any other caller.
    pub fn via(&self) -> Vec<Principal> {
        let sets = self.principals.iter().filter(|one| self.trust.is_some() && is_set(one));
        sets.chain(&self.groups).cloned().collect()
    }

    /// Returns the session name, for the audit log only: the caller can choose any name.
    pub fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }
}

const fn is_set(principal: &Principal) -> bool {
    matches!(principal, Principal::PermissionSet(_))
}

/// The reason why the broker cannot create an identity from the issuer's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The broker never accepts callers of this kind.
    #[error("{0}")]
    Unsupported(&'static str),
    /// The issuer does not give such an answer.
    #[error("{0}")]
    Malformed(&'static str),
    /// The answer contradicts itself or the region.
    #[error("{0}")]
    Inconsistent(&'static str),
}

/// The measure that prevents a second use of an authentication.
///
/// Without it, anyone who copies a proof could mint a token with it (replay).
#[derive(Debug, PartialEq, Eq)]
pub enum SingleUse {
    /// The store must record these digests before the mint, and must reject a known digest.
    Record {
        /// SHA-256 of the signed content.
        digest: [u8; 32],
        /// SHA-256 of the name that the issuer gave to the authentication, if it gave one. It is
        /// recorded and rejected as `digest` is.
        named: Option<[u8; 32]>,
        /// Time until which the issuer itself would accept the signature, in Unix seconds.
        keep_until: i64,
    },
    /// The issuer prevents replays, and the broker received nothing that an attacker could replay.
    ByIssuer,
}

impl SingleUse {
    /// Returns the digests that the store must not know yet.
    pub fn digests(&self) -> Vec<[u8; 32]> {
        match self {
            Self::Record { digest, named, .. } => [*digest].into_iter().chain(*named).collect(),
            Self::ByIssuer => Vec::new(),
        }
    }
}

/// The result of an authentication: the caller's identity, and the replay protection.
#[derive(Debug)]
pub struct Authenticated {
    /// The caller.
    pub identity: Identity,
    /// The replay protection, which the mint must pass to the store.
    pub single_use: SingleUse,
}
