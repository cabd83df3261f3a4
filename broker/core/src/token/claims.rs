//! The claims of a token: principal, namespaces, permissions and expiry.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use stile_protocol::exchange::{self, Namespaces};
use stile_protocol::names::Permissions;
use stile_protocol::strict_json::{FieldError, StrictObject};

use super::holder::{Holder, fitting, read_via};
use crate::critical::{self, CRIT};
use crate::principal::{Principal, ShownId, UniqueId};
use crate::trust::{TrustStamp, shown_id};

/// Maximum clock skew in seconds: how far ahead the clock of the minting process may be.
const MAX_CLOCK_SKEW: i64 = 60;

/// The claims that this program understands, so that `crit` may list them.
const KNOWN_CLAIMS: [&str; 10] =
    ["jti", "sub", "uid", "rev", "trust", "via", "iat", "exp", "ns", "perm"];

/// A token id: 128 random bits as 22 base64url characters (`jti` in RFC 7519).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenId(String);

impl TokenId {
    /// Creates a random id.
    ///
    /// # Errors
    ///
    /// If the system provides no random bytes.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// Parses an id, or returns `None`.
    pub fn parse(text: &str) -> Option<Self> {
        exchange::is_base64url(text, 16).then(|| Self(text.to_owned()))
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The claims of a new token without its id, from
/// [`Entitlement::claims`](crate::grants::Entitlement::claims).
pub(crate) struct NewClaims<'a> {
    pub(crate) principal: &'a Principal,
    pub(crate) unique_id: Option<&'a UniqueId>,
    pub(crate) trust_revision: Option<i64>,
    pub(crate) trust: Option<&'a TrustStamp>,
    pub(crate) via: &'a [Principal],
    pub(crate) namespaces: &'a Namespaces,
    pub(crate) permissions: Permissions,
    pub(crate) issued_at: i64,
    pub(crate) expires_at: i64,
}

/// The claims of a service token, from [`HeldToken`](crate::service_token::HeldToken).
pub(crate) struct ServiceClaims {
    pub(crate) id: TokenId,
    pub(crate) principal: Principal,
    pub(crate) namespaces: Namespaces,
    pub(crate) permissions: Permissions,
    pub(crate) issued_at: i64,
    pub(crate) expires_at: i64,
}

/// The claims of one token. Only an [`Entitlement`](crate::grants::Entitlement), an opened token or a
/// verified service token gives them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    jti: TokenId,
    sub: Principal,
    uid: Option<UniqueId>,
    rev: Option<i64>,
    trust: Option<TrustStamp>,
    via: Vec<Principal>,
    iat: i64,
    exp: i64,
    ns: Namespaces,
    perm: Permissions,
}

impl Claims {
    /// Creates the claims of a new token, with a random id.
    pub(crate) fn new(claims: &NewClaims<'_>) -> Result<Self, getrandom::Error> {
        Ok(Self {
            jti: TokenId::random()?,
            sub: claims.principal.clone(),
            uid: claims.unique_id.cloned(),
            rev: claims.trust_revision,
            trust: claims.trust.cloned(),
            via: fitting(claims.via, claims.namespaces),
            iat: claims.issued_at,
            exp: claims.expires_at,
            ns: claims.namespaces.clone(),
            perm: claims.permissions,
        })
    }

    /// Creates the claims of a service token, which no broker seals.
    pub(crate) fn of_service(service: ServiceClaims) -> Self {
        Self {
            jti: service.id,
            sub: service.principal,
            uid: None,
            rev: None,
            trust: None,
            via: Vec::new(),
            iat: service.issued_at,
            exp: service.expires_at,
            ns: service.namespaces,
            perm: service.permissions,
        }
    }

    #[cfg(test)]
    pub(crate) fn for_test(
        sub: Principal,
        ns: Namespaces,
        perm: Permissions,
        iat: i64,
        exp: i64,
    ) -> Self {
        let uid = UniqueId::parse("AROAEXAMPLEEXAMPLE222").unwrap();
        let jti = TokenId::random().unwrap();
        let (trust, via) = (None, Vec::new());
        Self { jti, sub, uid: Some(uid), rev: None, trust, via, iat, exp, ns, perm }
    }

    /// Returns the token id.
    pub const fn id(&self) -> &TokenId {
        &self.jti
    }

    /// Returns the principal of the token.
    pub const fn principal(&self) -> &Principal {
        &self.sub
    }

    /// Returns the issuer's immutable id of the principal, if it has one.
    pub const fn unique_id(&self) -> Option<&UniqueId> {
        self.uid.as_ref()
    }

    /// Returns what the authentication showed of the principal's unique id.
    pub fn shown_id(&self) -> ShownId<'_> {
        shown_id(self.uid.as_ref(), self.trust.as_ref())
    }

    /// Returns the revision that the trust had at the mint, if the principal is a trust. The token
    /// ends when its trust changes.
    pub const fn trust_revision(&self) -> Option<i64> {
        self.rev
    }

    /// Returns the trust that believed the caller at the mint, if a JWT of AWS named the caller. Such a
    /// token has no unique id, and it ends when its trust changes.
    pub const fn trust(&self) -> Option<&TrustStamp> {
        self.trust.as_ref()
    }

    /// Returns the permission set that the caller's JWT of AWS showed, and the groups that the caller
    /// was in at the mint.
    pub fn via(&self) -> &[Principal] {
        &self.via
    }

    /// Returns whose state decides about the holder.
    pub fn holder(&self) -> Holder {
        match &self.trust {
            Some(trust) => {
                let more = self.via.iter().cloned().chain([trust.principal()]);
                Holder::by_jwt(&self.sub, more.collect())
            }
            None => Holder::plain(self.sub.clone()),
        }
    }

    /// Returns the expiry in Unix seconds.
    pub const fn expires_at(&self) -> i64 {
        self.exp
    }

    /// Returns the namespaces of the token.
    pub const fn namespaces(&self) -> &Namespaces {
        &self.ns
    }

    /// Returns the permissions of the token.
    pub const fn permissions(&self) -> Permissions {
        self.perm
    }

    /// Returns whether the token is valid at `now`.
    ///
    /// `max_ttl` is the configured maximum lifetime in seconds. A lower maximum also ends tokens that
    /// the broker minted before.
    pub fn is_valid_at(&self, max_ttl: i64, now: i64) -> bool {
        let started = self.iat <= now.saturating_add(MAX_CLOCK_SKEW);
        let spans = self
            .exp
            .checked_sub(self.iat)
            .is_some_and(|span| (1..=exchange::MAX_TTL).contains(&span));
        started && spans && now < self.exp && now < self.iat.saturating_add(max_ttl)
    }

    /// Serialises the claims as the message of a sealed token.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut claims = serde_json::json!({
            "jti": self.jti.as_str(), "sub": self.sub.to_string(),
            "iat": self.iat, "exp": self.exp, "ns": self.ns, "perm": self.perm,
        });
        if let Some(uid) = &self.uid {
            claims["uid"] = uid.as_str().into();
        }
        if let Some(revision) = self.rev {
            claims["rev"] = revision.into();
        }
        if let Some(trust) = &self.trust {
            claims["trust"] = trust.to_claim();
        }
        if !self.via.is_empty() {
            claims["via"] = self.via.iter().map(Principal::as_str).collect();
        }
        claims.to_string().into_bytes()
    }

    /// Parses the message of an opened token.
    ///
    /// A newer broker may have written it. This function ignores unknown claims, unless `crit` lists
    /// them: such a claim may restrict access, so it rejects the token.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, FieldError> {
        let mut object = StrictObject::parse(bytes)?;
        let jti = object.string("jti")?;
        let sub = object.string("sub")?;
        let uid = object.optional_string("uid")?;
        let rev = object.take_optional("rev");
        let revision = || FieldError::new("rev", "the revision of a trust");
        let rev = rev.map(|rev| rev.as_i64().ok_or_else(revision)).transpose()?;
        let malformed = || FieldError::new("trust", "the trust that believed a role or a user");
        let trust = object.take_optional("trust");
        let trust =
            trust.map(|trust| TrustStamp::read(&trust).ok_or_else(malformed)).transpose()?;
        let via = object.take_optional("via").map(read_via).transpose()?.unwrap_or_default();
        if !critical::understood(object.take_optional(CRIT).as_ref(), &KNOWN_CLAIMS) {
            return Err(FieldError::new(CRIT, "a list of claims that this broker understands"));
        }
        let claims = Self {
            jti: TokenId::parse(&jti).ok_or_else(|| FieldError::new("jti", "a token id"))?,
            sub: Principal::parse_stored(&sub)
                .ok()
                // A service has a token of another kind, which no broker seals.
                .filter(|sub| sub.is_caller() && !matches!(sub, Principal::Service(_)))
                .ok_or_else(|| FieldError::new("sub", "a role, a user or a trust"))?,
            uid: uid
                .map(|uid| UniqueId::parse(&uid).ok_or(()))
                .transpose()
                .map_err(|()| FieldError::new("uid", "a unique id"))?,
            rev,
            trust,
            via,
            iat: object.integer("iat")?,
            exp: object.integer("exp")?,
            ns: exchange::parse_namespaces("ns", object.take("ns")?)?,
            perm: exchange::parse_permissions("perm", object.take("perm")?)?,
        };
        // Only a JWT of AWS shows no unique id, and then its trust says what that means. A broker that
        // does not know the claim `trust` misses the unique id, and so rejects the token.
        if claims.trust.is_some() && (claims.sub.aws().is_none() || claims.uid.is_some()) {
            return Err(malformed());
        }
        // Without it, a deleted and recreated role would have the access of the original role.
        if claims.sub.has_unique_id() && claims.uid.is_none() && claims.trust.is_none() {
            return Err(FieldError::new("uid", "the unique id of the role, user or trust"));
        }
        if !claims.via.is_empty() && claims.trust.is_none() {
            return Err(FieldError::new("via", "the groups of a caller that a trust believed"));
        }
        let aliases = claims.sub.aliases();
        let is_other_set =
            |via: &Principal| matches!(via, Principal::PermissionSet(_)) && !aliases.contains(via);
        if claims.via.iter().any(is_other_set) {
            return Err(FieldError::new("via", "no permission set but that of the role"));
        }
        // Without it, a token would outlive a change of its trust.
        if matches!(claims.sub, Principal::Trust(_)) != claims.rev.is_some() {
            return Err(revision());
        }
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use stile_protocol::names::{Namespace, Permission};

    use super::*;

    fn good() -> Claims {
        let sub = Principal::parse_stored("aws:111122223333:role/deploy").unwrap();
        Claims::for_test(
            sub,
            Namespaces::All,
            Permissions::NONE.with(Permission::Download),
            1000,
            4600,
        )
    }

    #[test]
    fn malformed_claims_are_rejected() {
        let value: Value = serde_json::from_slice(&good().to_bytes()).unwrap();
        let many: Vec<String> = (0..10_000).map(|n| format!("n{n}")).collect();
        for (field, bad) in [
            ("jti", json!("short")),
            ("sub", json!("account:aws:111122223333")),
            ("sub", json!("*")),
            ("sub", json!("service:renovate")),
            ("sub", json!("oidc:release-ci")),
            ("rev", json!(1)),
            ("rev", json!("1")),
            ("uid", json!("x")),
            ("iat", json!("1000")),
            ("exp", json!(1.5)),
            ("ns", json!([])),
            ("ns", json!(many)),
            ("ns", Value::Null),
            ("perm", json!([])),
            ("crit", json!(["x"])),
            ("crit", json!([])),
            ("crit", json!("exp")),
            ("uid", Value::Null),
        ] {
            let mut changed = value.clone();
            changed[field] = bad;
            assert!(Claims::parse(changed.to_string().as_bytes()).is_err(), "{field}");
        }
        for field in ["jti", "sub", "uid", "iat", "exp", "ns", "perm"] {
            let mut changed = value.clone();
            changed.as_object_mut().unwrap().remove(field);
            assert!(Claims::parse(changed.to_string().as_bytes()).is_err(), "{field}");
        }
        let twin = value.to_string().replacen('{', "{\"exp\":9999999999,", 1);
        assert!(Claims::parse(twin.as_bytes()).is_err());
        let claims = good();
        assert_eq!(Claims::parse(&claims.to_bytes()), Ok(claims));
    }

    #[test]
    fn a_token_of_a_trust_says_its_revision_and_no_other_token_does() {
        let mut value: Value = serde_json::from_slice(&good().to_bytes()).unwrap();
        assert!(value.get("rev").is_none());
        value["sub"] = json!("oidc:release-ci");
        value["uid"] = json!(UniqueId::random_trust().unwrap().as_str());
        assert!(Claims::parse(value.to_string().as_bytes()).is_err(), "it has no revision");
        value["rev"] = json!(3);
        let claims = Claims::parse(value.to_string().as_bytes()).unwrap();
        assert_eq!(claims.trust_revision(), Some(3));
        assert_eq!(Claims::parse(&claims.to_bytes()), Ok(claims));
        for bad in [json!("3"), json!(3.5), Value::Null] {
            value["rev"] = bad;
            assert!(Claims::parse(value.to_string().as_bytes()).is_err());
        }
    }

    /// A token that a trust in an account of AWS gave.
    fn of_aws() -> Value {
        let mut value: Value = serde_json::from_slice(&good().to_bytes()).unwrap();
        let fields = value.as_object_mut().unwrap();
        fields.remove("uid");
        let stamp = TrustStamp {
            name: "aws".parse().unwrap(),
            id: UniqueId::random_trust().unwrap(),
            revision: 2,
            without_pin: false,
        };
        fields.insert("trust".to_owned(), stamp.to_claim());
        fields.insert("via".to_owned(), json!(["org:o-a1b2c3d4e5", "tag:team=data"]));
        value
    }

    #[test]
    fn a_token_without_a_unique_id_names_the_trust_that_believed_its_holder() {
        let good = of_aws();
        let with = |field: &str, value: Value| {
            let mut changed = good.clone();
            changed[field] = value;
            Claims::parse(changed.to_string().as_bytes())
        };
        for (field, bad) in [
            ("trust", Value::Null),
            ("trust", json!("aws")),
            ("trust", json!({})),
            ("uid", json!("AROAEXAMPLEEXAMPLE222")),
            ("rev", json!(2)),
            ("sub", json!("oidc:aws")),
            ("sub", json!("account:aws:111122223333")),
            ("via", json!("tag:team=data")),
            ("via", json!(vec!["tag:team=data"; 17])),
        ] {
            assert!(with(field, bad.clone()).is_err(), "{field} {bad}");
        }
        // What an older broker sees: it does not know the claim, and misses the unique id.
        let mut older = good.clone();
        older.as_object_mut().unwrap().remove("trust");
        older.as_object_mut().unwrap().remove("via");
        assert!(Claims::parse(older.to_string().as_bytes()).is_err());
        let mut pinned = older;
        pinned["uid"] = json!("AROAEXAMPLEEXAMPLE222");
        pinned["via"] = json!(["tag:team=data"]);
        assert!(Claims::parse(pinned.to_string().as_bytes()).is_err(), "no trust gave the group");

        let claims = Claims::parse(good.to_string().as_bytes()).unwrap();
        assert_eq!((claims.unique_id(), claims.trust().unwrap().revision), (None, 2));
        assert_eq!(Claims::parse(&claims.to_bytes()).as_ref(), Ok(&claims));
        let principals: Vec<String> =
            claims.holder().principals().iter().map(ToString::to_string).collect();
        assert_eq!(
            principals,
            [
                "aws:111122223333:role/deploy",
                "account:aws:111122223333",
                "org:o-a1b2c3d4e5",
                "tag:team=data",
                "oidc:aws",
            ]
        );
        // Only a permission set that the token names counts, and the name of the role must allow it.
        let lookalike = |via: Value| {
            let mut value = good.clone();
            value["sub"] = json!("aws:111122223333:role/AWSReservedSSO_Admin_0123456789abcdef");
            value["via"] = via;
            Claims::parse(value.to_string().as_bytes())
        };
        let set = "sso:aws:111122223333/Admin";
        let has_set = |claims: &Claims| {
            claims.holder().principals().iter().any(|principal| principal.as_str() == set)
        };
        assert!(!has_set(&lookalike(json!(["org:o-a1b2c3d4e5"])).unwrap()));
        assert!(has_set(&lookalike(json!([set])).unwrap()));
        assert!(lookalike(json!(["sso:aws:111122223333/Other"])).is_err());
        assert!(with("via", json!([set])).is_err(), "the role has no permission set");
        // A kind of group that a newer broker added, and a principal that is no group.
        let newer = json!(["region:eu-west-1", "account:aws:444455556666", 7, "tag:team=data"]);
        let newer = with("via", newer).unwrap();
        let groups: Vec<&str> = newer.via().iter().map(Principal::as_str).collect();
        assert_eq!(groups, ["tag:team=data"]);
    }

    #[test]
    fn an_unknown_claim_is_ignored_unless_it_is_critical() {
        let mut newer: Value = serde_json::from_slice(&good().to_bytes()).unwrap();
        newer["jti"] = json!(good().id().as_str());
        newer["hours"] = json!("09:00-17:00");
        assert!(Claims::parse(newer.to_string().as_bytes()).is_ok());
        newer["crit"] = json!(["hours"]);
        assert!(Claims::parse(newer.to_string().as_bytes()).is_err());
        newer["crit"] = json!(["exp", "ns"]);
        assert!(Claims::parse(newer.to_string().as_bytes()).is_ok(), "it understands these claims");
    }

    #[test]
    fn extreme_times_never_extend_the_lifetime_of_a_token() {
        let with = |iat: &str, exp: &str| {
            let text = String::from_utf8(good().to_bytes()).unwrap();
            let text = text
                .replace("\"exp\":4600", &format!("\"exp\":{exp}"))
                .replace("\"iat\":1000", &format!("\"iat\":{iat}"));
            Claims::parse(text.as_bytes())
        };
        for exp in [
            "9223372036854775808",
            "18446744073709551615",
            "-9223372036854775809",
            "1e400",
            "4600.0",
            "4.6e3",
            "-0.0",
            "null",
            "\"4600\"",
        ] {
            assert!(with("1000", exp).is_err() && with(exp, "4600").is_err(), "{exp}");
        }
        // Beyond the calendar of chrono, which ends in the year 262142, and at the limits of `i64`.
        let limits = [
            i64::MIN,
            i64::MIN + 1,
            -8_334_601_228_801,
            -1,
            0,
            8_210_266_876_799,
            8_210_266_876_800,
            i64::MAX - 1,
            i64::MAX,
        ];
        for exp in limits {
            for iat in limits {
                let claims = with(&iat.to_string(), &exp.to_string()).unwrap();
                for now in limits.into_iter().chain([1000, 4599]) {
                    let lives = claims.is_valid_at(exchange::MAX_TTL, now);
                    let may = now < exp
                        && i128::from(exp) - i128::from(iat) <= 43_200
                        && i128::from(iat) <= i128::from(now) + 60;
                    assert!(!lives || may, "{iat} {exp} {now}");
                }
                assert!(!claims.is_valid_at(exchange::MAX_TTL, exp), "{exp} has expired");
                assert!(
                    !crate::clock::rfc3339(claims.expires_at()).is_empty(),
                    "it can be formatted"
                );
            }
        }
    }

    #[test]
    fn a_token_is_valid_from_its_mint_until_the_second_before_its_expiry() {
        for (iat, exp, max_ttl, now, expected) in [
            (1000, 4600, 3600, 4599, true),
            (1000, 4600, 3600, 4600, false),
            (1000, 4600, 600, 1599, true),
            (1000, 4600, 600, 1600, false),
            (1060, 4600, 3600, 1000, true),
            (1061, 4600, 3600, 1000, false),
            (1000, 1000 + 43_201, 43_200, 1000, false),
            (1000, 1000, 3600, 999, false),
            (1000, 999, 3600, 998, false),
            (i64::MIN, i64::MAX, 3600, 1000, false),
            (1000, i64::MAX, i64::MAX, 1000, false),
            (i64::MAX, i64::MAX, 3600, i64::MAX, false),
            (i64::MAX - 10, i64::MAX, 3600, i64::MAX - 5, true),
        ] {
            let mut claims = good();
            (claims.iat, claims.exp) = (iat, exp);
            assert_eq!(claims.is_valid_at(max_ttl, now), expected, "{iat} {exp} {max_ttl} {now}");
        }
    }

    proptest! {
        #[test]
        fn claims_survive_a_round_trip(
            name in "[A-Za-z0-9+=,.@_-]{1,64}", names in proptest::collection::hash_set("[a-z][a-z0-9]{2,20}", 0..32), perm in 1..16_u8,
            iat: i64, exp: i64,
        ) {
            let names: Vec<_> = names.into_iter().filter(|name| name != "all" && name != "search").collect();
            let ns = match names.as_slice() {
                [] => Namespaces::All,
                names => Namespaces::List(names.iter().map(|name| Namespace::parse(name).unwrap()).collect()),
            };
            let all = [Permission::CreateGrant, Permission::DeleteGrant, Permission::Download, Permission::Upload];
            let perm = (0..4).filter(|bit| perm & (1 << bit) != 0).map(|bit| all[bit]).collect();
            let sub = Principal::parse_stored(&format!("aws:111122223333:user/{name}")).unwrap();
            let claims = Claims::for_test(sub, ns, perm, iat, exp);
            prop_assert_eq!(Claims::parse(&claims.to_bytes()), Ok(claims));
        }
    }
}
