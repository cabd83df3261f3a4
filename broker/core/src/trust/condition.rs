//! What one claim of a JWT must say.

use std::fmt;

use serde_json::{Map, Value};

/// The most bytes of a condition as text.
const MAX_LEN: usize = 1000;

/// The reason why a text is not a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// It has no `=`.
    #[error("it is not `CLAIM=VALUE`")]
    NoValue,
    /// It has no name of a claim.
    #[error("it does not name a claim, or its JSON Pointer is malformed")]
    NoClaim,
    /// Its value is empty, which no claim should have.
    #[error("it has no value")]
    Empty,
    /// A `*` is not at the end, or is all of the value.
    #[error("a prefix is a text with one `*` at its end, such as `refs/heads/*`")]
    NoPrefix,
    /// A value contains a `*`, which equality compares as a character.
    #[error("`*` stands for itself here; use `--claim-prefix` for a prefix")]
    Star,
    /// After `:=`, there is no number and no `true` or `false`.
    #[error("after `:=` comes a number, `true` or `false`, as JSON")]
    NoJson,
    /// It is too long, or contains a control character.
    #[error("it is longer than 1000 bytes, or contains a control character")]
    Unprintable,
}

/// Where a claim is: by its name, or by a JSON Pointer (RFC 6901) for a nested one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClaimPath(String);

impl ClaimPath {
    /// Parses a name, or a JSON Pointer, which begins with `/`.
    ///
    /// # Errors
    ///
    /// [`ConditionError::NoClaim`], if it is empty or a malformed pointer.
    pub fn parse(text: &str) -> Result<Self, ConditionError> {
        // A `~` is only good before `0` or `1` (RFC 6901, section 3).
        let escaped = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
        if text.is_empty() || text == "/" || (text.starts_with('/') && !escaped) {
            return Err(ConditionError::NoClaim);
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns the text, as an operator typed it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name of the claim at the top that the path leads into.
    pub fn top(&self) -> String {
        let Some(pointer) = self.0.strip_prefix('/') else { return self.0.clone() };
        let first = pointer.split('/').next().unwrap_or_default();
        first.replace("~1", "/").replace("~0", "~")
    }

    /// Returns whether it leads to the tags that a caller of AWS chooses for each of its JWTs.
    pub(super) fn is_of_request_tags(&self) -> bool {
        let rest = self.0.strip_prefix("/https:~1~1sts.amazonaws.com~1/");
        rest.is_some_and(|rest| rest.split('/').next() == Some("request_tags"))
    }

    /// Finds the value. A pointer never leads into an array, whose order says nothing.
    fn find<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        let Some(pointer) = self.0.strip_prefix('/') else { return claims.get(&self.0) };
        let mut names = pointer.split('/').map(|name| name.replace("~1", "/").replace("~0", "~"));
        let first = claims.get(&names.next()?)?;
        names.try_fold(first, |value, name| value.as_object()?.get(&name))
    }
}

/// How a claim is compared. A claim of another JSON type never matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// The claim is this text, number or boolean.
    Equals(Value),
    /// The claim is a text that begins so, and goes on with at least one character, and with neither
    /// `/` nor `:`.
    ///
    /// Otherwise a prefix for one repository would also accept `ORG/REPO-OTHER/…` or another field of a
    /// compound claim.
    Prefix(String),
    /// The claim is an array with this text, number or boolean in it.
    Contains(Value),
}

/// A condition on one claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The claim.
    pub path: ClaimPath,
    /// What it must say.
    pub rule: Rule,
}

impl Condition {
    /// Parses `CLAIM=TEXT`, or `CLAIM:=JSON` for a number or a boolean: the claim equals the value.
    ///
    /// # Errors
    ///
    /// [`ConditionError`], with the reason.
    pub fn equals(text: &str) -> Result<Self, ConditionError> {
        let (path, value) = scalar(text)?;
        Ok(Self { path, rule: Rule::Equals(value) })
    }

    /// Parses `CLAIM=TEXT` or `CLAIM:=JSON`: the claim is an array with the value in it.
    ///
    /// # Errors
    ///
    /// [`ConditionError`], with the reason.
    pub fn contains(text: &str) -> Result<Self, ConditionError> {
        let (path, value) = scalar(text)?;
        Ok(Self { path, rule: Rule::Contains(value) })
    }

    /// Parses `CLAIM=TEXT*`: the claim begins with the text.
    ///
    /// # Errors
    ///
    /// [`ConditionError`], with the reason.
    pub fn prefix(text: &str) -> Result<Self, ConditionError> {
        let (claim, value) = split(text)?;
        let prefix = value.strip_suffix('*').ok_or(ConditionError::NoPrefix)?;
        if prefix.is_empty() || prefix.contains('*') {
            return Err(ConditionError::NoPrefix);
        }
        Ok(Self { path: ClaimPath::parse(claim)?, rule: Rule::Prefix(prefix.to_owned()) })
    }

    /// Returns whether the claim is an array, of which it says one value.
    pub const fn is_contains(&self) -> bool {
        matches!(self.rule, Rule::Contains(_))
    }

    /// Returns whether the claims meet it. A claim that is not there never does.
    pub fn is_met_by(&self, claims: &Map<String, Value>) -> bool {
        let Some(claim) = self.path.find(claims) else { return false };
        match &self.rule {
            Rule::Equals(value) => claim == value,
            Rule::Contains(value) => claim.as_array().is_some_and(|array| array.contains(value)),
            Rule::Prefix(prefix) => claim
                .as_str()
                .and_then(|claim| claim.strip_prefix(prefix.as_str()))
                .is_some_and(|rest| !rest.is_empty() && !rest.contains(['/', ':'])),
        }
    }
}

/// Formats it as an operator types it, without the flag.
impl fmt::Display for Condition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.as_str();
        match &self.rule {
            Rule::Equals(Value::String(text)) | Rule::Contains(Value::String(text)) => {
                write!(formatter, "{path}={text}")
            }
            Rule::Equals(json) | Rule::Contains(json) => write!(formatter, "{path}:={json}"),
            Rule::Prefix(prefix) => write!(formatter, "{path}={prefix}*"),
        }
    }
}

fn scalar(text: &str) -> Result<(ClaimPath, Value), ConditionError> {
    let (claim, value) = split(text)?;
    if let Some(claim) = claim.strip_suffix(':') {
        let json = serde_json::from_str(value).ok();
        let json = json.filter(|json: &Value| json.is_boolean() || json.is_i64() || json.is_u64());
        return Ok((ClaimPath::parse(claim)?, json.ok_or(ConditionError::NoJson)?));
    }
    if value.contains('*') {
        return Err(ConditionError::Star);
    }
    Ok((ClaimPath::parse(claim)?, Value::String(value.to_owned())))
}

fn split(text: &str) -> Result<(&str, &str), ConditionError> {
    if text.len() > MAX_LEN || text.chars().any(char::is_control) {
        return Err(ConditionError::Unprintable);
    }
    let (claim, value) = text.split_once('=').ok_or(ConditionError::NoValue)?;
    if value.is_empty() { Err(ConditionError::Empty) } else { Ok((claim, value)) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn meets(condition: &Condition, claims: Value) -> bool {
        let Value::Object(claims) = claims else { unreachable!("the test gives an object") };
        condition.is_met_by(&claims)
    }

    #[test]
    fn a_text_that_is_no_condition_says_why() {
        let long = format!("ref={}", "a".repeat(1000));
        for (text, error) in [
            ("ref", ConditionError::NoValue),
            ("=main", ConditionError::NoClaim),
            ("/=main", ConditionError::NoClaim),
            ("/a~2b=main", ConditionError::NoClaim),
            ("/a~=main", ConditionError::NoClaim),
            (":=1", ConditionError::NoClaim),
            ("ref=", ConditionError::Empty),
            ("ref=refs/heads/*", ConditionError::Star),
            ("id:=x", ConditionError::NoJson),
            ("id:=\"x\"", ConditionError::NoJson),
            ("id:=null", ConditionError::NoJson),
            ("id:=1.5", ConditionError::NoJson),
            ("id:=[1]", ConditionError::NoJson),
            ("ref=a\nb", ConditionError::Unprintable),
            (&long, ConditionError::Unprintable),
        ] {
            assert_eq!(Condition::equals(text), Err(error), "{text}");
            assert_eq!(Condition::contains(text), Err(error), "{text}");
        }
        for text in ["ref=main", "ref=*", "ref=a*b*", "ref=a*b"] {
            assert_eq!(Condition::prefix(text), Err(ConditionError::NoPrefix), "{text}");
        }
    }

    #[test]
    fn equality_is_by_json_type() {
        let text = Condition::equals("repository_id=74").unwrap();
        let number = Condition::equals("repository_id:=74").unwrap();
        for (claim, as_text, as_number) in [
            (json!("74"), true, false),
            (json!(74), false, true),
            (json!(74.0), false, false),
            (json!(["74"]), false, false),
            (json!([74]), false, false),
            (json!({"74": "74"}), false, false),
            (json!(" 74"), false, false),
            (json!("074"), false, false),
            (json!(null), false, false),
        ] {
            assert_eq!(meets(&text, json!({"repository_id": claim})), as_text, "{claim}");
            assert_eq!(meets(&number, json!({"repository_id": claim})), as_number, "{claim}");
        }
        assert!(!meets(&text, json!({"Repository_Id": "74"})));
        assert!(!meets(&text, json!({})));
        let protected = Condition::equals("ref_protected:=true").unwrap();
        assert!(meets(&protected, json!({"ref_protected": true})));
        assert!(!meets(&protected, json!({"ref_protected": "true"})));
    }

    #[test]
    fn a_prefix_never_crosses_a_slash_or_a_colon() {
        let branch = Condition::prefix("ref=refs/heads/release-*").unwrap();
        for (claim, expected) in [
            ("refs/heads/release-1", true),
            ("refs/heads/release-1.2_x", true),
            ("refs/heads/release-", false),
            ("refs/heads/release-1/evil", false),
            ("refs/heads/release-1:evil", false),
            ("refs/heads/main", false),
            ("refs/heads/Release-1", false),
            ("xrefs/heads/release-1", false),
        ] {
            assert_eq!(meets(&branch, json!({"ref": claim})), expected, "{claim}");
        }
        assert!(!meets(&branch, json!({"ref": ["refs/heads/release-1"]})));
        assert!(!meets(&branch, json!({"ref": 1})));
    }

    #[test]
    fn only_contains_looks_into_an_array() {
        let group = Condition::contains("groups=platform").unwrap();
        for (claim, expected) in [
            (json!(["platform"]), true),
            (json!(["a", "platform"]), true),
            (json!("platform"), false),
            (json!(["platforms"]), false),
            (json!([["platform"]]), false),
            (json!({"0": "platform"}), false),
            (json!([]), false),
        ] {
            assert_eq!(meets(&group, json!({"groups": claim})), expected, "{claim}");
        }
    }

    #[test]
    fn a_pointer_leads_into_objects_and_never_into_arrays() {
        let org = Condition::equals("/https:~1~1sts.amazonaws.com~1/org_id=o-abcdefghij").unwrap();
        assert_eq!(org.path.top(), "https://sts.amazonaws.com/");
        assert!(meets(&org, json!({"https://sts.amazonaws.com/": {"org_id": "o-abcdefghij"}})));
        assert!(!meets(&org, json!({"https://sts.amazonaws.com/": {"org_id": "o-other"}})));
        assert!(!meets(&org, json!({"https://sts.amazonaws.com/": "o-abcdefghij"})));
        let first = Condition::equals("/groups/0=admin").unwrap();
        assert!(!meets(&first, json!({"groups": ["admin"]})));
        assert!(meets(&first, json!({"groups": {"0": "admin"}})));
        // A name with a slash is no pointer unless it begins with one.
        let plain = Condition::equals("a/b=c").unwrap();
        assert!(meets(&plain, json!({"a/b": "c"})) && !meets(&plain, json!({"a": {"b": "c"}})));
    }

    #[test]
    fn a_condition_is_written_as_it_was_typed() {
        for text in ["ref=refs/heads/main", "id:=74", "p:=true", "/a~1b/c=d"] {
            assert_eq!(Condition::equals(text).unwrap().to_string(), text);
            assert_eq!(Condition::contains(text).unwrap().to_string(), text);
        }
        assert_eq!(Condition::prefix("ref=refs/*").unwrap().to_string(), "ref=refs/*");
    }
}
