//! What IAM would decide of a request by the policies that concern it: denied by one, allowed by one, or neither.
//!
//! It knows the operators that this project's policies use, and panics at any other: a condition that is not understood
//! decides nothing here.

use std::collections::BTreeMap;

use serde_json::Value;

/// A request, as policies see it.
#[derive(Debug, Clone)]
pub struct Request {
    action: String,
    resource: String,
    principal: String,
    context: BTreeMap<String, Vec<String>>,
}

/// What comes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The statement with this `Sid` denies it, whatever others say.
    Denied(String),
    /// The statement with this `Sid` allows it, and none denies it.
    Allowed(String),
    /// No statement concerns it, so it is refused.
    NotAllowed,
}

impl Request {
    /// An action on a resource, with nothing that a condition could ask for.
    pub fn new(action: &str, resource: &str) -> Self {
        Self {
            action: action.to_owned(),
            resource: resource.to_owned(),
            principal: String::new(),
            context: BTreeMap::new(),
        }
    }

    /// The ARN of who asks.
    #[must_use]
    pub fn by(mut self, principal: &str) -> Self {
        self.principal = principal.to_owned();
        self
    }

    /// With a value of a condition key; a second one of the same key makes it a list.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.context.entry(key.to_ascii_lowercase()).or_default().push(value.to_owned());
        self
    }

    /// The action, as `s3:GetObject`.
    pub fn action(&self) -> &str {
        &self.action
    }

    /// What these documents decide together.
    pub fn decide<'a>(&self, documents: impl IntoIterator<Item = &'a Value>) -> Decision {
        let concerned: Vec<&Value> =
            documents.into_iter().flat_map(|document| list(&document["Statement"])).collect();
        let first = |effect: &str| {
            let statement = concerned
                .iter()
                .find(|statement| statement["Effect"] == effect && self.concerned_by(statement));
            statement.map(|statement| statement["Sid"].as_str().unwrap_or_default().to_owned())
        };
        first("Deny")
            .map(Decision::Denied)
            .or_else(|| first("Allow").map(Decision::Allowed))
            .unwrap_or(Decision::NotAllowed)
    }

    fn concerned_by(&self, statement: &Value) -> bool {
        let any = |patterns: &Value, text: &str| texts(patterns).any(|pattern| like(pattern, text));
        // A key's policy says `*` for the key, and a trust policy names no resource: both are about the one they belong to.
        let resource =
            statement.get("Resource").is_none_or(|resource| any(resource, &self.resource));
        let principal = match statement.get("Principal") {
            Some(Value::Object(principals)) => {
                principals.get("AWS").is_some_and(|arns| self.is_among(arns))
            }
            Some(principal) => principal == "*",
            None => true,
        };
        let conditions = statement["Condition"].as_object().into_iter().flatten();
        any(&statement["Action"], &self.action)
            && resource
            && principal
            && conditions.into_iter().all(|(operator, keys)| {
                keys.as_object().into_iter().flatten().all(|(key, wanted)| {
                    self.fulfils(operator, key, &texts(wanted).collect::<Vec<_>>())
                })
            })
    }

    fn is_among(&self, arns: &Value) -> bool {
        texts(arns).any(|arn| arn == "*" || arn == self.principal)
    }

    fn fulfils(&self, operator: &str, key: &str, wanted: &[&str]) -> bool {
        let given = self.context.get(&key.to_ascii_lowercase());
        let any = |fits: fn(&str, &str) -> bool| {
            given.is_some_and(|values| {
                values.iter().any(|value| wanted.iter().any(|pattern| fits(pattern, value)))
            })
        };
        let all = |fits: fn(&str, &str) -> bool| {
            given
                .into_iter()
                .flatten()
                .all(|value| wanted.iter().any(|pattern| fits(pattern, value)))
        };
        match operator {
            "Null" => wanted == [if given.is_none() { "true" } else { "false" }],
            "StringEquals" | "Bool" => any(|wanted, value| wanted == value),
            "StringLike" => any(like),
            "StringNotEquals" => !any(|wanted, value| wanted == value),
            "NumericLessThan" => any(|wanted, value| number(value) < number(wanted)),
            "ForAllValues:StringLike" => all(like),
            other => panic!("the operator `{other}` is not known here"),
        }
    }
}

/// Each action of each statement that allows something, as `Sid action`.
pub fn granted(document: &Value) -> Vec<String> {
    let allowing =
        list(&document["Statement"]).into_iter().filter(|statement| statement["Effect"] == "Allow");
    let sid = |statement: &Value| statement["Sid"].as_str().unwrap_or_default().to_owned();
    allowing
        .flat_map(|statement| {
            texts(&statement["Action"]).map(move |action| format!("{} {action}", sid(statement)))
        })
        .collect()
}

/// Whether a text fits a pattern, in which `*` is anything.
fn like(pattern: &str, text: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == text };
    let Some(rest) = text.strip_prefix(before) else { return false };
    (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| like(after, &rest[at..]))
}

fn number(text: &str) -> f64 {
    text.parse().unwrap()
}

fn list(value: &Value) -> Vec<&Value> {
    value.as_array().map_or_else(|| vec![value], |values| values.iter().collect())
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    list(value).into_iter().filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn decided(effect: &str, condition: &Value, request: &Request) -> Decision {
        let mut statement = json!({ "Sid": "S", "Effect": effect, "Action": ["s3:Get*"], "Resource": "arn:aws:s3:::b/p/*" });
        statement["Condition"] = condition.clone();
        let all = json!({ "Sid": "All", "Effect": "Allow", "Action": "s3:*", "Resource": "*" });
        request.decide([
            &json!({ "Statement": statement }),
            &json!({ "Statement": if effect == "Deny" { json!([all]) } else { json!([]) } }),
        ])
    }

    #[test]
    fn a_statement_concerns_what_every_part_of_it_fits() {
        let get = || Request::new("s3:GetObject", "arn:aws:s3:::b/p/x");
        let allowed = Decision::Allowed("S".to_owned());
        for (condition, request, expected) in [
            (json!({}), Request::new("s3:PutObject", "arn:aws:s3:::b/p/x"), Decision::NotAllowed),
            (json!({}), Request::new("s3:GetObject", "arn:aws:s3:::b/q/x"), Decision::NotAllowed),
            (json!({ "StringEquals": { "k": "v" } }), get(), Decision::NotAllowed),
            (json!({ "StringEquals": { "k": "v" } }), get().with("K", "w"), Decision::NotAllowed),
            (
                json!({ "StringLike": { "k": ["a/*", "b/*"] } }),
                get().with("k", "c/"),
                Decision::NotAllowed,
            ),
            (json!({ "Null": { "k": "false" } }), get(), Decision::NotAllowed),
            (
                json!({ "ForAllValues:StringLike": { "k": "v*" } }),
                get().with("k", "v1").with("k", "w"),
                Decision::NotAllowed,
            ),
            (json!({}), get(), allowed.clone()),
            (json!({ "StringEquals": { "k": "v" } }), get().with("K", "v"), allowed.clone()),
            (
                json!({ "StringLike": { "k": ["a/*", "b/*"] } }),
                get().with("k", "b/"),
                allowed.clone(),
            ),
            (json!({ "ForAllValues:StringLike": { "k": "v*" } }), get(), allowed.clone()),
            (
                json!({ "ForAllValues:StringLike": { "k": "v*" } }),
                get().with("k", "v1").with("k", "v2"),
                allowed,
            ),
        ] {
            assert_eq!(decided("Allow", &condition, &request), expected, "{condition} {request:?}");
        }
    }

    #[test]
    fn a_denial_stands_against_what_is_allowed() {
        let get = || Request::new("s3:GetObject", "arn:aws:s3:::b/p/x");
        for (condition, request, denied) in [
            (json!({ "StringNotEquals": { "k": "v" } }), get(), true),
            (json!({ "StringNotEquals": { "k": "v" } }), get().with("k", "w"), true),
            (json!({ "StringNotEquals": { "k": "v" } }), get().with("k", "v"), false),
            (json!({ "NumericLessThan": { "k": "1.2" } }), get().with("k", "1.1"), true),
            (json!({ "NumericLessThan": { "k": "1.2" } }), get().with("k", "1.2"), false),
            (json!({ "Bool": { "k": "false" } }), get().with("k", "true"), false),
        ] {
            let expected = if denied {
                Decision::Denied("S".to_owned())
            } else {
                Decision::Allowed("All".to_owned())
            };
            assert_eq!(decided("Deny", &condition, &request), expected, "{condition} {request:?}");
        }
    }

    #[test]
    fn a_policy_of_a_resource_says_for_whom_it_is() {
        let document = json!({ "Statement": [{ "Sid": "S", "Effect": "Allow", "Principal": { "AWS": ["arn:a"] }, "Action": "kms:Decrypt" }] });
        let decrypt = || Request::new("kms:Decrypt", "arn:key");
        assert_eq!(decrypt().by("arn:b").decide([&document]), Decision::NotAllowed);
        assert_eq!(decrypt().decide([&document]), Decision::NotAllowed);
        assert_eq!(decrypt().by("arn:a").decide([&document]), Decision::Allowed("S".to_owned()));
        assert_eq!(granted(&document), ["S kms:Decrypt"]);
    }
}
