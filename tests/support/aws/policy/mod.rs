//! Judges requests by IAM policies, as IAM does.
//!
//! A deny wins over an allow. The judge rejects a request that no statement allows.
//!
//! It supports the statement elements and the condition operators that this project's policies use.
//! At any other it panics, because a judge that ignores an element or an operator gives wrong
//! answers.

mod requests;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

pub(in crate::aws) use self::requests::decoded_path;
pub use self::requests::{Credential, requests};

/// The elements of a statement that the judge supports.
const ELEMENTS: [&str; 6] = ["Sid", "Effect", "Action", "Resource", "Principal", "Condition"];

/// Replaces the ARN of the registry's table in a generalized request, and in a policy that judges
/// such a request.
pub const TABLE: &str = "TABLE";

/// Replaces the ARN of the registry's bucket.
pub const BUCKET: &str = "BUCKET";

/// Replaces the ARN of the token key, which encrypts the keyring.
pub const KEY: &str = "KEY";

/// Replaces the ARN of the event bus.
pub const BUS: &str = "BUS";

/// Replaces the registry host.
pub const HOST: &str = "HOST";

/// The start of the only partition keys whose kind has two words and has its own line in the policies.
const SIGNING_KEYS: &str = "signing keys ";

/// An action on a resource, as IAM judges it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AwsRequest {
    action: String,
    resource: String,
    principal: String,
    context: BTreeMap<String, BTreeSet<String>>,
}

/// What policies decide about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The statement with this `Sid` denies the request. Other statements do not matter.
    Denied(String),
    /// The statement with this `Sid` allows the request, and no statement denies it.
    Allowed(String),
    /// No statement applies, so IAM rejects the request.
    NotAllowed,
}

impl AwsRequest {
    /// Creates a request for an action such as `s3:GetObject` on the resource with that ARN.
    ///
    /// It has no condition keys.
    pub fn new(action: &str, resource: &str) -> Self {
        Self {
            action: action.to_owned(),
            resource: resource.to_owned(),
            principal: String::new(),
            context: BTreeMap::new(),
        }
    }

    /// Sets the ARN of the caller.
    #[must_use]
    pub fn by(mut self, principal: &str) -> Self {
        self.principal = principal.to_owned();
        self
    }

    /// Adds a value of a condition key. A key with two values is a list.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.context.entry(key.to_ascii_lowercase()).or_default().insert(value.to_owned());
        self
    }

    /// Returns the action, such as `s3:GetObject`.
    pub fn action(&self) -> &str {
        &self.action
    }

    /// Returns the ARN of the resource.
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// Returns the values of a condition key.
    pub fn values(&self, key: &str) -> impl Iterator<Item = &str> {
        self.context.get(&key.to_ascii_lowercase()).into_iter().flatten().map(String::as_str)
    }

    /// Replaces the parts that differ from test to test, so that a whole run has few different
    /// requests.
    ///
    /// Names become [`TABLE`], [`BUCKET`], [`KEY`], [`BUS`] and [`HOST`]; the rest of a path or of a
    /// partition key becomes `*`.
    #[must_use]
    pub fn generalized(&self) -> Self {
        let mut request = self.clone();
        if let Some(path) = self.resource.strip_prefix("arn:aws:s3:::") {
            request.resource = match path.split('/').nth(1) {
                Some(folder) => format!("{BUCKET}/{folder}/*"),
                None => BUCKET.to_owned(),
            };
        } else if self.action.starts_with("kms:") {
            request.resource = KEY.to_owned();
        } else if self.action.starts_with("events:") {
            request.resource = BUS.to_owned();
        } else if let Some((_, table)) = self.resource.split_once(":table/") {
            request.resource = match table.split_once('/') {
                Some((_, index)) => format!("{TABLE}/{index}"),
                None => TABLE.to_owned(),
            };
        }
        for (key, values) in &mut request.context {
            let general = |value: &String| match key.as_str() {
                "dynamodb:leadingkeys" if value.starts_with(SIGNING_KEYS) => {
                    format!("{SIGNING_KEYS}*")
                }
                "dynamodb:leadingkeys" => value
                    .split_once(' ')
                    .map_or_else(|| value.clone(), |(kind, _)| format!("{kind} *")),
                "kms:encryptioncontext:audience" => HOST.to_owned(),
                _ => value.clone(),
            };
            *values = values.iter().map(general).collect();
        }
        request
    }

    /// Returns the request as JSON, without its caller.
    pub fn to_json(&self) -> Value {
        json!({ "action": self.action, "resource": self.resource, "context": self.context })
    }

    /// Parses the output of [`Self::to_json`].
    pub fn from_json(value: &Value) -> Self {
        let text = |name: &str| value[name].as_str().unwrap();
        let request = Self::new(text("action"), text("resource"));
        let context = value["context"].as_object().unwrap().iter();
        context
            .flat_map(|(key, values)| texts(values).map(move |value| (key, value)))
            .fold(request, |request, (key, value)| request.with(key, value))
    }
}

/// The statements of one or more policies. The judge applies all of them.
#[derive(Debug, Clone, Default)]
pub struct Policy(Vec<Value>);

impl Policy {
    /// Collects the statements of policy documents.
    pub fn of<'a>(documents: impl IntoIterator<Item = &'a Value>) -> Self {
        let statements: Vec<Value> = documents
            .into_iter()
            .flat_map(|document| list(&document["Statement"]))
            .cloned()
            .collect();
        for statement in &statements {
            for element in statement.as_object().unwrap().keys() {
                assert!(
                    ELEMENTS.contains(&element.as_str()),
                    "the judge does not know the statement element `{element}`"
                );
            }
        }
        Self(statements)
    }

    /// Reads policy documents from text.
    pub fn parse<'a>(documents: impl IntoIterator<Item = &'a str>) -> Self {
        let documents: Vec<Value> =
            documents.into_iter().map(|text| serde_json::from_str(text).unwrap()).collect();
        Self::of(&documents)
    }

    /// Decides a request by the statements.
    pub fn decide(&self, request: &AwsRequest) -> Decision {
        let first = |effect| self.applying(effect, request).first().map(|sid| (*sid).to_owned());
        first("Deny")
            .map(Decision::Denied)
            .or_else(|| first("Allow").map(Decision::Allowed))
            .unwrap_or(Decision::NotAllowed)
    }

    /// Returns the `Sid` of every statement that allows a request; none if one denies it.
    pub fn allowing(&self, request: &AwsRequest) -> Vec<&str> {
        if self.applying("Deny", request).is_empty() {
            self.applying("Allow", request)
        } else {
            Vec::new()
        }
    }

    /// Returns each action of each statement that allows something, as `Sid action`.
    pub fn granted(&self) -> BTreeSet<String> {
        let allowing = self.0.iter().filter(|statement| statement["Effect"] == "Allow");
        allowing
            .flat_map(|statement| {
                texts(&statement["Action"])
                    .map(move |action| format!("{} {action}", sid(statement)))
            })
            .collect()
    }

    /// Returns the statements.
    pub fn statements(&self) -> &[Value] {
        &self.0
    }

    /// Returns the `Sid` of every statement with that effect that is about a request.
    fn applying(&self, effect: &str, request: &AwsRequest) -> Vec<&str> {
        let applies = |statement: &&Value| statement["Effect"] == effect && request.fits(statement);
        self.0.iter().filter(applies).map(sid).collect()
    }
}

impl AwsRequest {
    /// Returns whether a statement is about this request.
    fn fits(&self, statement: &Value) -> bool {
        let any = |patterns: &Value, text: &str| texts(patterns).any(|pattern| like(pattern, text));
        // A trust policy names no resource, because it belongs to one role.
        let resource =
            statement.get("Resource").is_none_or(|resource| any(resource, &self.resource));
        let principal = match statement.get("Principal") {
            Some(Value::Object(principals)) => principals
                .get("AWS")
                .is_some_and(|arns| texts(arns).any(|arn| arn == "*" || arn == self.principal)),
            Some(principal) => principal == "*",
            None => true,
        };
        let mut conditions = statement["Condition"].as_object().into_iter().flatten();
        any(&statement["Action"], &self.action)
            && resource
            && principal
            && conditions.all(|(operator, keys)| {
                keys.as_object().into_iter().flatten().all(|(key, wanted)| {
                    self.meets(operator, key, &texts(wanted).collect::<Vec<_>>())
                })
            })
    }

    /// Returns whether the request's context meets one condition.
    ///
    /// An operator without `ForAllValues` or `ForAnyValue` compares a single value: a key with several values does
    /// not meet it.
    fn meets(&self, operator: &str, key: &str, wanted: &[&str]) -> bool {
        let given = self.context.get(&key.to_ascii_lowercase());
        let single = |fits: fn(&str, &str) -> bool| {
            let mut values = given.into_iter().flatten();
            match (values.next(), values.next()) {
                (Some(value), None) => wanted.iter().any(|pattern| fits(pattern, value)),
                _ => false,
            }
        };
        let all = |fits: fn(&str, &str) -> bool| {
            given
                .into_iter()
                .flatten()
                .all(|value| wanted.iter().any(|pattern| fits(pattern, value)))
        };
        let some = |fits: fn(&str, &str) -> bool| {
            let mut values = given.into_iter().flatten();
            values.any(|value| wanted.iter().any(|pattern| fits(pattern, value)))
        };
        let equal: fn(&str, &str) -> bool = |wanted, value| wanted == value;
        match operator {
            "Null" => wanted == [if given.is_none() { "true" } else { "false" }],
            "StringEquals" | "Bool" => single(equal),
            "StringNotEquals" => !single(equal),
            "StringLike" => single(like),
            "NumericLessThan" => single(|wanted, value| number(value) < number(wanted)),
            "ForAllValues:StringEquals" => all(equal),
            "ForAllValues:StringLike" => all(like),
            "ForAnyValue:StringEquals" => some(equal),
            other => panic!("the judge does not know the condition operator `{other}`"),
        }
    }
}

/// Returns whether a text fits a pattern, in which `*` stands for any text.
pub fn like(pattern: &str, text: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == text };
    let Some(rest) = text.strip_prefix(before) else { return false };
    (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| like(after, &rest[at..]))
}

fn sid(statement: &Value) -> &str {
    statement["Sid"].as_str().unwrap_or_default()
}

fn number(text: &str) -> f64 {
    text.parse().unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or_else(|| std::slice::from_ref(value), Vec::as_slice)
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    list(value).iter().filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get() -> AwsRequest {
        AwsRequest::new("s3:GetObject", "arn:aws:s3:::b/p/x")
    }

    fn policy(effect: &str, condition: &Value) -> Policy {
        let mut statement = json!({ "Sid": "S", "Effect": effect, "Action": ["s3:Get*"], "Resource": "arn:aws:s3:::b/p/*" });
        statement["Condition"] = condition.clone();
        Policy::of([&json!({ "Statement": statement })])
    }

    #[test]
    fn a_statement_applies_to_requests_that_fit_every_element() {
        let allowed = Decision::Allowed("S".to_owned());
        let like = json!({ "StringLike": { "k": ["a/*", "b/*"] } });
        let equals = json!({ "StringEquals": { "k": "v" } });
        let all_like = json!({ "ForAllValues:StringLike": { "k": "v*" } });
        let all_equal = json!({ "ForAllValues:StringEquals": { "k": ["v", "w"] } });
        for (condition, request, expected) in [
            (
                &json!({}),
                AwsRequest::new("s3:PutObject", "arn:aws:s3:::b/p/x"),
                Decision::NotAllowed,
            ),
            (
                &json!({}),
                AwsRequest::new("s3:GetObject", "arn:aws:s3:::b/q/x"),
                Decision::NotAllowed,
            ),
            (&equals, get(), Decision::NotAllowed),
            (&equals, get().with("K", "w"), Decision::NotAllowed),
            (&equals, get().with("k", "v").with("k", "w"), Decision::NotAllowed),
            (&like, get().with("k", "c/"), Decision::NotAllowed),
            (&json!({ "Null": { "k": "false" } }), get(), Decision::NotAllowed),
            (&all_like, get().with("k", "v1").with("k", "w"), Decision::NotAllowed),
            (&all_equal, get().with("k", "v").with("k", "v1"), Decision::NotAllowed),
            (&json!({}), get(), allowed.clone()),
            (&equals, get().with("K", "v"), allowed.clone()),
            (&like, get().with("k", "b/"), allowed.clone()),
            (&all_like, get(), allowed.clone()),
            (&all_like, get().with("k", "v1").with("k", "v2"), allowed.clone()),
            (&all_equal, get().with("k", "v").with("k", "w"), allowed),
        ] {
            let policy = policy("Allow", condition);
            assert_eq!(policy.decide(&request), expected, "{condition} {request:?}");
            let sids = policy.allowing(&request);
            assert_eq!(sids.is_empty(), expected == Decision::NotAllowed, "{sids:?}");
        }
    }

    #[test]
    fn a_deny_wins_over_an_allow() {
        let all = json!({ "Sid": "All", "Effect": "Allow", "Action": "s3:*", "Resource": "*" });
        let any = json!({ "ForAnyValue:StringEquals": { "k": "v *" } });
        for (condition, request, denied) in [
            (json!({ "StringNotEquals": { "k": "v" } }), get(), true),
            (json!({ "StringNotEquals": { "k": "v" } }), get().with("k", "w"), true),
            (json!({ "StringNotEquals": { "k": "v" } }), get().with("k", "v"), false),
            (json!({ "NumericLessThan": { "k": "1.2" } }), get().with("k", "1.1"), true),
            (json!({ "NumericLessThan": { "k": "1.2" } }), get().with("k", "1.2"), false),
            (json!({ "Bool": { "k": "false" } }), get().with("k", "true"), false),
            (any.clone(), get().with("k", "a").with("k", "v *"), true),
            (any.clone(), get().with("k", "v x"), false),
            (any, get(), false),
        ] {
            let mut policy = policy("Deny", &condition);
            policy.0.push(all.clone());
            let (decision, sids) = if denied {
                (Decision::Denied("S".to_owned()), vec![])
            } else {
                (Decision::Allowed("All".to_owned()), vec!["All"])
            };
            assert_eq!(policy.decide(&request), decision, "{condition} {request:?}");
            assert_eq!(policy.allowing(&request), sids, "{condition} {request:?}");
        }
    }

    #[test]
    fn a_resource_policy_applies_to_the_principals_that_it_names() {
        let document = json!({ "Statement": [{ "Sid": "S", "Effect": "Allow", "Principal": { "AWS": ["arn:a"] }, "Action": "kms:Decrypt" }] });
        let policy = Policy::parse([document.to_string().as_str()]);
        let decrypt = || AwsRequest::new("kms:Decrypt", "arn:key");
        assert_eq!(policy.decide(&decrypt().by("arn:b")), Decision::NotAllowed);
        assert_eq!(policy.decide(&decrypt()), Decision::NotAllowed);
        assert_eq!(policy.decide(&decrypt().by("arn:a")), Decision::Allowed("S".to_owned()));
        assert_eq!(policy.granted(), ["S kms:Decrypt".to_owned()].into());
    }

    #[test]
    #[should_panic(expected = "the condition operator `StringUnheardOf`")]
    fn the_judge_stops_at_an_operator_that_it_does_not_know() {
        policy("Allow", &json!({ "StringUnheardOf": { "k": "v" } })).decide(&get().with("k", "v"));
    }

    #[test]
    #[should_panic(expected = "the statement element `NotAction`")]
    fn the_judge_stops_at_an_element_that_it_does_not_know() {
        Policy::of([&json!({ "Statement": { "Effect": "Allow", "NotAction": "s3:*" } })]);
    }

    #[test]
    fn a_star_in_a_pattern_stands_for_any_text() {
        assert!(like("a*c*", "abcd") && !like("a*c", "abcd") && like("*", ""));
    }

    #[test]
    fn requests_of_different_tests_are_the_same_when_they_are_generalized() {
        let general = |action: &str, resource: &str| {
            AwsRequest::new(action, resource)
                .with("dynamodb:LeadingKeys", "proof 1")
                .with("dynamodb:LeadingKeys", "proof 2")
                .with("dynamodb:LeadingKeys", "keyring")
                .with("kms:EncryptionContext:audience", "a.example")
                .with("kms:EncryptionContext:purpose", "p")
                .generalized()
        };
        for (action, resource, expected) in [
            ("dynamodb:Query", "arn:aws:dynamodb:r:1:table/t-1", TABLE),
            ("dynamodb:Query", "arn:aws:dynamodb:r:1:table/t-1/index/i", "TABLE/index/i"),
            ("s3:ListBucket", "arn:aws:s3:::b-1", BUCKET),
            ("s3:GetObject", "arn:aws:s3:::b-1/modules/a/b", "BUCKET/modules/*"),
            ("kms:Decrypt", "arn:aws:kms:r:1:alias/a", KEY),
        ] {
            let expected = AwsRequest::new(action, expected)
                .with("dynamodb:LeadingKeys", "proof *")
                .with("dynamodb:LeadingKeys", "keyring")
                .with("kms:EncryptionContext:audience", HOST)
                .with("kms:EncryptionContext:purpose", "p");
            assert_eq!(general(action, resource), expected);
        }
    }

    #[test]
    fn a_request_is_the_same_after_it_was_json() {
        let request = get().with("K", "v").with("k", "w").with("l", "");
        assert_eq!(AwsRequest::from_json(&request.to_json()), request);
    }
}
