//! Decides which trust would believe a JWT, before the broker reads any key.
//!
//! The claims are not verified yet. So a "yes" here only says whose keys must verify the JWT, and a
//! "no" costs no call.

use stile_core::clock::rfc3339;
use stile_core::identity::PROOF_MAX_AHEAD;
use stile_core::principal::LocalName;
use stile_core::trust::{AwsCaller, AwsCallerError, Trust};
use stile_protocol::audience::Audience;

use super::unverified::UnverifiedJwt;

/// How far the clock of an issuer may differ from the broker's, in seconds, inclusive.
const LEEWAY: i64 = 60;

/// The reason why no trust believes a JWT.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwtRefusal {
    /// No trust has its issuer.
    #[error("no trust of this registry believes the issuer of the JWT")]
    UnknownIssuer,
    /// The request chooses a trust that there is not, or that has another issuer.
    #[error("the chosen trust does not believe the issuer of the JWT")]
    OtherTrust,
    /// It is for another audience.
    #[error("the JWT is for another audience")]
    OtherAudience,
    /// Its claims do not meet the conditions of any trust.
    #[error("the claims of the JWT do not meet the conditions of a trust")]
    OtherClaims,
    /// It is a JWT of AWS, and names no caller that the trust believes.
    #[error("the JWT of AWS is not accepted: {0}")]
    NoCallerOfAws(AwsCallerError),
    /// More than one trust believes it.
    #[error("more than one trust of this registry believes the JWT")]
    Ambiguous,
    /// It has expired.
    #[error("the JWT has expired")]
    Expired,
    /// It was signed longer ago than the trust allows, although it has not expired.
    #[error("the JWT was issued longer ago than its trust allows")]
    TooOld,
    /// It was signed in the future, or is not valid yet.
    #[error("the JWT is from the future")]
    FromFuture,
    /// It was signed before the store was restored from a backup.
    #[error(
        "the registry was restored from a backup, and accepts JWTs issued since {}", rfc3339(*.from)
    )]
    BeforeRestore {
        /// The earliest time of issue, in Unix seconds.
        from: i64,
    },
    /// The issuer has no key with its `kid`.
    #[error("the issuer has no key with the `kid` of the JWT")]
    UnknownKey,
    /// The issuer did not sign it.
    #[error("the signature of the JWT is not valid")]
    BadSignature,
    /// It was already used.
    #[error("this JWT was already used")]
    Replayed,
}

/// What a JWT must match, apart from a trust.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The registry.
    pub host: &'a Audience,
    /// The trust that the request chooses, if any.
    pub chosen: Option<&'a LocalName>,
    /// The earliest time of issue, if the store was restored from a backup. In Unix seconds.
    pub issued_from: Option<i64>,
    /// The time, in Unix seconds.
    pub now: i64,
}

/// Finds the one trust that would believe the JWT.
///
/// # Errors
///
/// [`JwtRefusal`], with the first reason why there is none, or more than one.
pub fn find_trust<'a>(
    trusts: &'a [Trust],
    jwt: &UnverifiedJwt,
    expected: Expected<'_>,
) -> Result<&'a Trust, JwtRefusal> {
    let Expected { host, chosen, issued_from, now } = expected;
    // Byte for byte: `https://issuer.example` and `https://issuer.example/` are two issuers, and a
    // prefix would let an attacker register `https://issuer.example.evil.org`.
    let mut found: Vec<&Trust> =
        trusts.iter().filter(|trust| trust.is_of_issuer(&jwt.unverified_issuer)).collect();
    keep(&mut found, JwtRefusal::UnknownIssuer, |_| true)?;
    keep(&mut found, JwtRefusal::OtherTrust, |trust| {
        chosen.is_none_or(|name| trust.name == *name)
    })?;
    keep(&mut found, JwtRefusal::OtherAudience, |trust| is_for(jwt, trust, host))?;
    check_times(jwt, issued_from, now)?;
    keep(&mut found, JwtRefusal::OtherClaims, |trust| {
        let unmet = trust.unmet(&jwt.unverified_claims);
        // The caller may be anyone, so only the log says which claim it is, and never its value.
        if let Some(condition) = unmet {
            let (trust, claim) = (trust.name.as_str(), condition.path.as_str());
            tracing::debug!(trust, claim, "a JWT does not meet a condition of a trust");
        }
        unmet.is_none()
    })?;
    // After the claims, so that the age which another trust allows hides no reason.
    keep(&mut found, JwtRefusal::TooOld, |trust| {
        let age = now.saturating_sub(jwt.unverified_issued_at);
        age <= trust.max_age.saturating_add(LEEWAY)
    })?;
    keep_callers_of_aws(&mut found, jwt)?;
    match found[..] {
        [trust] => Ok(trust),
        _ => Err(JwtRefusal::Ambiguous),
    }
}

/// Keeps the trusts that meet the condition. It is an error if none does.
fn keep(
    found: &mut Vec<&Trust>,
    otherwise: JwtRefusal,
    meets: impl Fn(&Trust) -> bool,
) -> Result<(), JwtRefusal> {
    found.retain(|trust| meets(trust));
    if found.is_empty() { Err(otherwise) } else { Ok(()) }
}

/// Keeps the trusts for which the JWT names a caller, if they believe callers of AWS. It is an error if
/// none is left.
fn keep_callers_of_aws(found: &mut Vec<&Trust>, jwt: &UnverifiedJwt) -> Result<(), JwtRefusal> {
    let mut refused = None;
    found.retain(|trust| {
        let Some(aws) = &trust.aws else { return true };
        match AwsCaller::read(&aws.of, &jwt.unverified_claims) {
            Ok(_) => true,
            Err(error) => {
                refused.get_or_insert(error);
                false
            }
        }
    });
    match refused.filter(|_| found.is_empty()) {
        Some(error) => Err(JwtRefusal::NoCallerOfAws(error)),
        None => Ok(()),
    }
}

/// Returns whether every audience of the JWT is the trust's, or this registry.
///
/// With another audience next to it, the other service could use the JWT here.
fn is_for(jwt: &UnverifiedJwt, trust: &Trust, host: &Audience) -> bool {
    jwt.unverified_audiences.iter().all(|audience| match &trust.audience {
        Some(own) => audience == own,
        None => is_registry(audience, host),
    })
}

/// Returns whether the text is the host, or its URL without a path.
pub fn is_registry(text: &str, host: &Audience) -> bool {
    text.strip_prefix("https://").unwrap_or(text) == host.as_str()
}

fn check_times(jwt: &UnverifiedJwt, from: Option<i64>, now: i64) -> Result<(), JwtRefusal> {
    let starts = jwt.unverified_not_before.unwrap_or(i64::MIN).max(jwt.unverified_issued_at);
    if starts > now.saturating_add(LEEWAY) {
        return Err(JwtRefusal::FromFuture);
    }
    if now > jwt.unverified_expires_at.saturating_add(LEEWAY) {
        return Err(JwtRefusal::Expired);
    }
    // A JWT that was used after the backup has no record.
    match from.filter(|from| jwt.unverified_issued_at < *from) {
        Some(from) => Err(JwtRefusal::BeforeRestore { from }),
        None => Ok(()),
    }
}

/// Returns the time until which some trust could believe the JWT, in Unix seconds. An operator can
/// raise the age that a trust allows.
pub fn last_use(jwt: &UnverifiedJwt) -> i64 {
    let oldest = jwt.unverified_issued_at.saturating_add(stile_core::trust::LONGEST_MAX_AGE);
    oldest.min(jwt.unverified_expires_at).saturating_add(LEEWAY)
}

/// The clock of an issuer may be no further ahead than that of a signer of a proof. Otherwise a JWT
/// that was used after a backup would pass for one that was issued after the restore.
const _: () = assert!(LEEWAY <= PROOF_MAX_AHEAD);

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};
    use stile_core::principal::UniqueId;
    use stile_core::trust::{Condition, DEFAULT_MAX_AGE, LONGEST_MAX_AGE};

    use super::*;

    const NOW: i64 = 1_795_169_472;
    const ISSUER: &str = "https://issuer.example";

    fn trust(name: &str, issuer: &str, condition: &str) -> Trust {
        Trust {
            id: UniqueId::random_trust().unwrap(),
            name: name.parse().unwrap(),
            revision: 1,
            issuer: issuer.parse().unwrap(),
            audience: None,
            conditions: vec![Condition::equals(condition).unwrap()],
            max_age: DEFAULT_MAX_AGE,
            aws: None,
            keys: None,
            created_by: String::new(),
            created_at: 0,
            changed_at: 0,
        }
    }

    fn jwt(changes: &Value) -> UnverifiedJwt {
        let mut claims = json!({
            "iss": ISSUER, "sub": "s", "aud": "https://registry.example.com", "project_id": "74",
            "iat": NOW, "exp": NOW + 300,
        });
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let parts = [r#"{"alg":"ES256","kid":"k"}"#.to_owned(), claims.to_string()];
        let [header, payload] = parts.map(|part| URL_SAFE_NO_PAD.encode(part));
        UnverifiedJwt::parse(&format!("{header}.{payload}.AAAA")).unwrap()
    }

    fn judged(
        trusts: &[Trust],
        changes: &Value,
        chosen: Option<&str>,
    ) -> Result<String, JwtRefusal> {
        let host = Audience::parse("registry.example.com").unwrap();
        let chosen = chosen.map(|name| name.parse().unwrap());
        let expected =
            Expected { host: &host, chosen: chosen.as_ref(), issued_from: None, now: NOW };
        find_trust(trusts, &jwt(changes), expected).map(|trust| trust.name.to_string())
    }

    #[test]
    fn an_issuer_is_compared_byte_for_byte() {
        let trusts = [trust("ci", ISSUER, "project_id=74")];
        for issuer in [
            "https://issuer.example/",
            "https://ISSUER.example",
            "https://issuer.example.evil.org",
            "https://issuer.exampl",
            "http://issuer.example",
            "https://issuer.example:443",
            "issuer.example",
            " https://issuer.example",
        ] {
            let judged = judged(&trusts, &json!({ "iss": issuer }), None);
            assert_eq!(judged, Err(JwtRefusal::UnknownIssuer), "{issuer}");
        }
        assert_eq!(judged(&[], &json!({}), None), Err(JwtRefusal::UnknownIssuer));
        assert_eq!(judged(&trusts, &json!({}), None).as_deref(), Ok("ci"));
    }

    #[test]
    fn a_jwt_for_another_audience_or_for_one_more_is_refused() {
        let plain = trust("ci", ISSUER, "project_id=74");
        let own = Trust { audience: Some("api://stile".to_owned()), ..plain.clone() };
        for (audience, by_plain, by_own) in [
            (json!("registry.example.com"), true, false),
            (json!("https://registry.example.com"), true, false),
            (json!(["https://registry.example.com"]), true, false),
            (json!(["https://registry.example.com", "registry.example.com"]), true, false),
            (json!("api://stile"), false, true),
            (json!(["api://stile"]), false, true),
            (json!("https://registry.example.com/"), false, false),
            (json!("http://registry.example.com"), false, false),
            (json!("https://https://registry.example.com"), false, false),
            (json!("https://registry.example.com.evil.org"), false, false),
            (json!("Registry.example.com"), false, false),
            (json!("https://github.com/acme"), false, false),
            (json!(["https://registry.example.com", "https://other.example"]), false, false),
            (json!(["api://stile", "https://registry.example.com"]), false, false),
        ] {
            for (trust, expected) in [(&plain, by_plain), (&own, by_own)] {
                let judged = judged(std::slice::from_ref(trust), &json!({ "aud": audience }), None);
                let expected =
                    if expected { Ok("ci".into()) } else { Err(JwtRefusal::OtherAudience) };
                assert_eq!(judged, expected, "{audience}");
            }
        }
    }

    #[test]
    fn times_have_a_minute_of_leeway_and_age_counts_from_the_issue() {
        let trusts = [trust("ci", ISSUER, "project_id=74")];
        let day = [Trust { max_age: LONGEST_MAX_AGE, ..trusts[0].clone() }];
        let week = NOW + 7 * 24 * 3600;
        for (changes, by_hour, by_day) in [
            (json!({"iat": NOW - 300, "exp": NOW - 60}), None, None),
            (
                json!({"iat": NOW - 300, "exp": NOW - 61}),
                Some(JwtRefusal::Expired),
                Some(JwtRefusal::Expired),
            ),
            (
                json!({"iat": i64::MIN, "exp": i64::MIN + 1}),
                Some(JwtRefusal::Expired),
                Some(JwtRefusal::Expired),
            ),
            (json!({"iat": NOW + 60}), None, None),
            (json!({"iat": NOW + 61}), Some(JwtRefusal::FromFuture), Some(JwtRefusal::FromFuture)),
            (json!({"nbf": NOW + 60}), None, None),
            (json!({"nbf": NOW + 61}), Some(JwtRefusal::FromFuture), Some(JwtRefusal::FromFuture)),
            (json!({"nbf": i64::MAX}), Some(JwtRefusal::FromFuture), Some(JwtRefusal::FromFuture)),
            (json!({"iat": NOW - 3660, "exp": week}), None, None),
            (json!({"iat": NOW - 3661, "exp": week}), Some(JwtRefusal::TooOld), None),
            (
                json!({"iat": NOW - LONGEST_MAX_AGE - 61, "exp": i64::MAX}),
                Some(JwtRefusal::TooOld),
                Some(JwtRefusal::TooOld),
            ),
            (
                json!({"iat": i64::MIN, "exp": i64::MAX}),
                Some(JwtRefusal::TooOld),
                Some(JwtRefusal::TooOld),
            ),
        ] {
            for (trusts, refusal) in [(&trusts, by_hour), (&day, by_day)] {
                let expected = refusal.map_or(Ok("ci".to_owned()), Err);
                assert_eq!(judged(trusts, &changes, None), expected, "{changes}");
            }
        }
    }

    #[test]
    fn a_jwt_from_before_a_restore_is_refused() {
        let (trusts, host) =
            ([trust("ci", ISSUER, "project_id=74")], Audience::parse("registry.example.com"));
        let host = host.unwrap();
        for (from, expected) in [(NOW, true), (NOW + 1, false)] {
            let expected_of =
                Expected { host: &host, chosen: None, issued_from: Some(from), now: NOW };
            let found = find_trust(&trusts, &jwt(&json!({})), expected_of);
            assert_eq!(found.is_ok(), expected, "{from}");
        }
    }

    #[test]
    fn two_trusts_that_match_are_an_ambiguity_until_one_is_chosen() {
        let trusts = [
            trust("one", ISSUER, "project_id=74"),
            trust("two", ISSUER, "sub=s"),
            trust("three", ISSUER, "project_id=75"),
            trust("four", "https://other.example", "project_id=74"),
        ];
        assert_eq!(judged(&trusts, &json!({}), None), Err(JwtRefusal::Ambiguous));
        for (chosen, expected) in [
            ("one", Ok("one".to_owned())),
            ("two", Ok("two".to_owned())),
            ("three", Err(JwtRefusal::OtherClaims)),
            ("four", Err(JwtRefusal::OtherTrust)),
            ("five", Err(JwtRefusal::OtherTrust)),
        ] {
            assert_eq!(judged(&trusts, &json!({}), Some(chosen)), expected, "{chosen}");
        }
        let other = json!({"project_id": "76", "sub": "t"});
        assert_eq!(judged(&trusts, &other, None), Err(JwtRefusal::OtherClaims));
        let by_type = json!({"project_id": 74, "sub": "t"});
        assert_eq!(judged(&trusts, &by_type, None), Err(JwtRefusal::OtherClaims));
    }

    #[test]
    fn a_used_jwt_is_remembered_for_as_long_as_any_trust_could_believe_it() {
        for (changes, expected) in [
            (json!({"exp": NOW + 300}), NOW + 360),
            (json!({"exp": i64::MAX}), NOW + LONGEST_MAX_AGE + 60),
        ] {
            assert_eq!(last_use(&jwt(&changes)), expected);
        }
    }
}
