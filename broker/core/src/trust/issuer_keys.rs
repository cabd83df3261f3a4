//! The keys of an issuer that cannot be reached: a JWK set in the hand of an operator.

use serde_json::Value;

/// The most bytes of a JWK set. A broker reads the sets of all trusts at once.
const MAX_LEN: usize = 64 * 1024;

/// The most keys of a JWK set.
const MAX_KEYS: usize = 50;

/// The members of a JWK that are secret (RFC 7518, sections 6.2.2, 6.3.2 and 6.4.1).
///
/// A set with one of them would give everyone who reads the store the key that signs JWTs.
const SECRET: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// The reason why a text is not the public keys of an issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IssuerKeysError {
    /// It is too long.
    #[error("it is longer than {MAX_LEN} bytes")]
    TooLong,
    /// It is no JWK set (RFC 7517, section 5).
    #[error("it is not a JWK set, which is a JSON object with a list `keys`")]
    NoSet,
    /// It has no key, or too many.
    #[error("it has no key, or more than {MAX_KEYS}")]
    Count,
    /// A key is of another type than RSA, EC and OKP.
    #[error("a key has a `kty` other than `RSA`, `EC` and `OKP`")]
    Type,
    /// A key has no id, so no JWT can name it.
    #[error("a key has no `kid`, or two keys have the same one")]
    Id,
    /// A key contains its secret part.
    #[error("a key contains its private part, which must stay with the issuer")]
    Secret,
}

/// Checks a JWK set, and returns it in one line.
///
/// # Errors
///
/// [`IssuerKeysError`], with the first reason. It has nothing of the text.
pub fn issuer_keys(text: &str) -> Result<String, IssuerKeysError> {
    if text.len() > MAX_LEN {
        return Err(IssuerKeysError::TooLong);
    }
    let set: Value = serde_json::from_str(text).map_err(|_| IssuerKeysError::NoSet)?;
    let keys = set.get("keys").and_then(Value::as_array).ok_or(IssuerKeysError::NoSet)?;
    if keys.is_empty() || keys.len() > MAX_KEYS {
        return Err(IssuerKeysError::Count);
    }
    let mut ids = Vec::new();
    for key in keys {
        let key = key.as_object().ok_or(IssuerKeysError::NoSet)?;
        // First of all, so that no other error is in the way of this one.
        if SECRET.iter().any(|member| key.contains_key(*member)) {
            return Err(IssuerKeysError::Secret);
        }
        if !matches!(key.get("kty").and_then(Value::as_str), Some("RSA" | "EC" | "OKP")) {
            return Err(IssuerKeysError::Type);
        }
        let id = key.get("kid").and_then(Value::as_str).filter(|id| !id.is_empty());
        let id = id.filter(|id| !ids.contains(id)).ok_or(IssuerKeysError::Id)?;
        ids.push(id);
    }
    Ok(set.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_sets_of_public_keys_with_ids_are_taken() {
        let ec = |kid: &str| json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": "a", "y": "b"});
        let many: Vec<Value> = (0..51).map(|n| ec(&n.to_string())).collect();
        let with = |member: &str| {
            let mut key = ec("a");
            key[member] = json!("secret");
            json!({"keys": [key]})
        };
        let mut cases = vec![
            (json!([]), IssuerKeysError::NoSet),
            (json!({}), IssuerKeysError::NoSet),
            (ec("a"), IssuerKeysError::NoSet),
            (json!({"keys": {"a": ec("a")}}), IssuerKeysError::NoSet),
            (json!({"keys": ["a"]}), IssuerKeysError::NoSet),
            (json!({"keys": []}), IssuerKeysError::Count),
            (json!({"keys": many}), IssuerKeysError::Count),
            (json!({"keys": [{"kty": "oct", "kid": "a"}]}), IssuerKeysError::Type),
            (json!({"keys": [{"kid": "a"}]}), IssuerKeysError::Type),
            (json!({"keys": [{"kty": "EC"}]}), IssuerKeysError::Id),
            (json!({"keys": [ec("")]}), IssuerKeysError::Id),
            (json!({"keys": [ec("a"), ec("a")]}), IssuerKeysError::Id),
            (json!({"keys": [{"kty": "oct", "kid": "a", "k": "x"}]}), IssuerKeysError::Secret),
        ];
        cases.extend(SECRET.map(|member| (with(member), IssuerKeysError::Secret)));
        for (set, error) in cases {
            assert_eq!(issuer_keys(&set.to_string()), Err(error), "{set}");
        }
        assert_eq!(issuer_keys("x"), Err(IssuerKeysError::NoSet));
        let long = format!(r#"{{"keys":[]{}}}"#, " ".repeat(MAX_LEN));
        assert_eq!(issuer_keys(&long), Err(IssuerKeysError::TooLong));
        let good = json!({"keys": [ec("a"), ec("b")]});
        let pretty = serde_json::to_string_pretty(&good).unwrap();
        assert_eq!(issuer_keys(&pretty), Ok(good.to_string()));
    }
}
