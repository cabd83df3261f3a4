//! What each call of AWS must be allowed to do, by which names IAM knows it; and whether a policy allows it.
//!
//! Written from AWS's service authorization reference, and for the calls of this project alone: what is not known here gets
//! a name that no policy has.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Write as _;
use std::sync::Mutex;

use axum::http::request::Parts;
use serde_json::Value;

use crate::aws::emulated::REGION;
use crate::aws::moto::ACCOUNT;
use crate::process::programs::target;

/// One right that a call needs, with what a condition could ask of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// The id of the key that signed, or would have.
    pub who: String,
    /// As in a policy: `dynamodb:PutItem`.
    pub action: String,
    /// The ARN.
    pub resource: String,
    /// Condition keys, each with all its values.
    pub keys: BTreeMap<String, BTreeSet<String>>,
}

/// What this process has called through a meter, and how that was written down.
static SEEN: Mutex<(BTreeSet<Right>, BTreeSet<String>)> =
    Mutex::new((BTreeSet::new(), BTreeSet::new()));

/// Remembers what a call needs.
pub fn note(head: &Parts, body: &[u8]) {
    for right in needed(head, body) {
        let (rights, lines) = &mut *SEEN.lock().unwrap();
        let line = format!("{right}\n");
        // Unsigned calls are those of the tests themselves.
        let signed = !["", "none"].contains(&right.who.as_str());
        rights.insert(right);
        if signed && lines.insert(line.clone()) {
            let mut list = std::fs::OpenOptions::new()
                .append(true)
                .create(true)
                .open(target().join(CALLED))
                .unwrap();
            list.write_all(line.as_bytes()).unwrap();
        }
    }
}

/// The file under the target folder that says what a whole run has called, a right a line.
pub const CALLED: &str = "aws-calls.txt";

/// What has been called with that key, as far as this process knows.
pub fn of(access_key_id: &str) -> BTreeSet<Right> {
    SEEN.lock().unwrap().0.iter().filter(|right| right.who == access_key_id).cloned().collect()
}

/// The action, and in which folder of the bucket, where it is one: what does not differ from test to test.
impl fmt::Display for Right {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&brief(&self.action, &self.resource))
    }
}

fn brief(action: &str, resource: &str) -> String {
    match resource.strip_prefix("arn:aws:s3:::").and_then(|path| path.split('/').nth(1)) {
        Some(folder) => format!("{action} {folder}/"),
        None => action.to_owned(),
    }
}

/// The rights that a call needs; several for a transaction, one for each thing in it.
pub fn needed(head: &Parts, body: &[u8]) -> Vec<Right> {
    let target = head
        .headers
        .get("x-amz-target")
        .and_then(|target| target.to_str().ok())
        .unwrap_or_default();
    let who = signer(head);
    let right = |action: String, resource: String, keys: BTreeMap<String, BTreeSet<String>>| {
        Right { who: who.clone(), action, resource, keys }
    };
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let table = |call: &Value| {
        arn("dynamodb", &format!("table/{}", call["TableName"].as_str().unwrap_or_default()))
    };
    match target.split_once('.') {
        Some(("TrentService", action)) => {
            let key = json["KeyId"].as_str().unwrap_or_default();
            let key = if key.starts_with("arn:") { key.to_owned() } else { arn("kms", key) };
            let context = json["EncryptionContext"].as_object().into_iter().flatten();
            let context = context.map(|(name, value)| {
                (format!("kms:EncryptionContext:{name}"), one(value.as_str().unwrap_or_default()))
            });
            vec![right(format!("kms:{action}"), key, context.collect())]
        }
        Some((_, "TransactWriteItems")) => {
            let items = json["TransactItems"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_object)
                .flatten();
            items
                .map(|(kind, item)| {
                    right(
                        format!(
                            "dynamodb:{}",
                            if kind == "ConditionCheck" {
                                "ConditionCheckItem".to_owned()
                            } else {
                                format!("{kind}Item")
                            }
                        ),
                        table(item),
                        write_keys(item),
                    )
                })
                .collect()
        }
        Some((_, "BatchGetItem")) => {
            let tables = json["RequestItems"].as_object().into_iter().flatten();
            let keys = |asked: &Value| leading(asked["Keys"].as_array().into_iter().flatten());
            tables
                .map(|(name, asked)| {
                    right(
                        "dynamodb:BatchGetItem".into(),
                        arn("dynamodb", &format!("table/{name}")),
                        keys(asked),
                    )
                })
                .collect()
        }
        Some((service, action)) if service.starts_with("DynamoDB_") => {
            let keys = if action == "GetItem" { leading([&json["Key"]]) } else { BTreeMap::new() };
            vec![right(format!("dynamodb:{action}"), table(&json), keys)]
        }
        Some((service, action)) => {
            vec![right(format!("{service}:{action}"), String::new(), BTreeMap::new())]
        }
        None => vec![right(
            s3_action(head),
            format!("arn:aws:s3:::{}", head.uri.path().trim_matches('/')),
            BTreeMap::new(),
        )],
    }
}

/// S3's calls have no name; what they are, method, path and query say.
fn s3_action(head: &Parts) -> String {
    let query = head.uri.query().unwrap_or_default();
    let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
    let object = head.uri.path().trim_matches('/').contains('/');
    let action = match (head.method.as_str(), object) {
        ("GET" | "HEAD", true) if has("versionId") => "GetObjectVersion",
        ("GET" | "HEAD", true) => "GetObject",
        ("PUT" | "POST", true) => "PutObject",
        ("DELETE", true) if has("versionId") => "DeleteObjectVersion",
        ("DELETE", true) => "DeleteObject",
        ("HEAD", false) => "ListBucket",
        ("GET", false) if has("list-type") => "ListBucket",
        ("GET", false) if has("versioning") => "GetBucketVersioning",
        (method, _) => return format!("s3:{method} {query}"),
    };
    format!("s3:{action}")
}

fn arn(service: &str, resource: &str) -> String {
    format!("arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}")
}

fn one(value: &str) -> BTreeSet<String> {
    [value.to_owned()].into()
}

fn leading<'a>(keys: impl IntoIterator<Item = &'a Value>) -> BTreeMap<String, BTreeSet<String>> {
    let keys =
        keys.into_iter().filter_map(|key| key["pk"]["S"].as_str()).map(str::to_owned).collect();
    [("dynamodb:LeadingKeys".to_owned(), keys)].into()
}

fn write_keys(item: &Value) -> BTreeMap<String, BTreeSet<String>> {
    leading([if item["Key"].is_null() { &item["Item"] } else { &item["Key"] }])
}

/// The key id that a call is signed with, in its header or in its URL.
fn signer(head: &Parts) -> String {
    let header =
        head.headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (query, start) = (head.uri.query().unwrap_or_default(), "Credential=");
    let credential =
        header.split_once(start).or_else(|| query.split_once(start)).map_or("", |(_, rest)| rest);
    credential.split(['/', '%']).next().unwrap_or_default().to_owned()
}

/// The statements of a policy.
#[derive(Debug, Clone, Default)]
pub struct Policy(Vec<Value>);

impl Policy {
    /// Reads documents, all of which count.
    pub fn read<'a>(documents: impl IntoIterator<Item = &'a str>) -> Self {
        let read = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
        Self(documents.into_iter().flat_map(|text| list(&read(text)["Statement"])).collect())
    }

    /// The name of the statement that allows it, if one does.
    pub fn allows(&self, right: &Right) -> Option<&str> {
        self.allowing(right).next()
    }

    /// The names of all statements that allow it.
    pub fn allowing(&self, right: &Right) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |statement| applies(statement, right))
            .filter_map(|statement| statement["Sid"].as_str())
    }

    /// Each action of each statement that allows something, as `Sid action`.
    pub fn granted(&self) -> BTreeSet<String> {
        let allowing = self.0.iter().filter(|statement| statement["Effect"] == "Allow");
        let each = |statement: &Value| -> Vec<String> {
            let sid = statement["Sid"].as_str().unwrap_or_default().to_owned();
            texts(&statement["Action"])
                .into_iter()
                .map(|action| format!("{sid} {action}"))
                .collect()
        };
        allowing.flat_map(each).collect()
    }

    /// The same without the names of statements, and with the folder of the bucket: as rights are written in [`CALLED`].
    pub fn brief(&self) -> BTreeSet<String> {
        let allowing = self.0.iter().filter(|statement| statement["Effect"] == "Allow");
        let each = |statement: &Value| -> Vec<String> {
            let resources = texts(&statement["Resource"]);
            let of = |action: &String| {
                resources.iter().map(|resource| brief(action, resource)).collect::<Vec<_>>()
            };
            texts(&statement["Action"]).iter().flat_map(of).collect()
        };
        allowing.flat_map(each).collect()
    }

    /// The statements.
    pub fn statements(&self) -> &[Value] {
        &self.0
    }
}

fn applies(statement: &Value, right: &Right) -> bool {
    statement["Effect"] == "Allow"
        && texts(&statement["Action"]).contains(&right.action)
        && texts(&statement["Resource"]).iter().any(|pattern| like(pattern, &right.resource))
        && statement["Condition"].as_object().into_iter().flatten().all(|(operator, asked)| {
            asked
                .as_object()
                .into_iter()
                .flatten()
                .all(|(key, wanted)| holds(operator, right.keys.get(key), &texts(wanted)))
        })
}

/// What has no such key fulfils nothing, but for what is said of all its values.
fn holds(operator: &str, given: Option<&BTreeSet<String>>, wanted: &[String]) -> bool {
    let each = |equal: fn(&str, &str) -> bool| {
        given.into_iter().flatten().all(|value| wanted.iter().any(|pattern| equal(pattern, value)))
    };
    match operator {
        "StringEquals" => {
            given.is_some_and(|values| values.len() == 1) && each(|wanted, value| wanted == value)
        }
        "ForAllValues:StringEquals" => each(|wanted, value| wanted == value),
        "ForAllValues:StringLike" => each(like),
        _ => false,
    }
}

/// Whether a text fits a pattern, in which `*` is anything.
pub fn like(pattern: &str, text: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == text };
    let Some(rest) = text.strip_prefix(before) else { return false };
    (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| like(after, &rest[at..]))
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_else(|| vec![value.clone()])
}

fn texts(value: &Value) -> Vec<String> {
    list(value).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use axum::http::Request;
    use serde_json::json;

    use super::*;

    fn rights(request: axum::http::request::Builder, body: &Value) -> Vec<Right> {
        let signed = request.header(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=AKIA/20200101/us-east-1/x/aws4_request, Signature=00",
        );
        needed(&signed.body(()).unwrap().into_parts().0, body.to_string().as_bytes())
    }

    #[test]
    fn a_transaction_needs_what_is_in_it_and_an_object_what_its_query_says() {
        let post =
            || Request::post("/").header("x-amz-target", "DynamoDB_20120810.TransactWriteItems");
        let body = json!({ "TransactItems": [
            { "Put": { "TableName": "t", "Item": { "pk": { "S": "proof 1" }, "sk": { "S": "claim" } } } },
            { "Update": { "TableName": "t", "Key": { "pk": { "S": "pin p" } } } },
        ] });
        let told = rights(post(), &body);
        assert_eq!(
            told.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["dynamodb:PutItem", "dynamodb:UpdateItem"]
        );
        let of =
            |right: &Right| right.keys["dynamodb:LeadingKeys"].iter().cloned().collect::<Vec<_>>();
        assert_eq!(
            (of(&told[0]), of(&told[1])),
            (vec!["proof 1".to_owned()], vec!["pin p".to_owned()])
        );
        for (request, expected) in [
            (Request::get("/b/modules/a/b?versionId=1"), "s3:GetObjectVersion modules/"),
            (Request::put("/b/uploads/1"), "s3:PutObject uploads/"),
            (Request::head("/b/"), "s3:ListBucket"),
            (Request::get("/b?acl"), "s3:GET acl"),
        ] {
            assert_eq!(rights(request, &Value::Null)[0].to_string(), expected);
        }
    }

    #[test]
    fn a_policy_allows_what_each_of_its_parts_allows_and_no_more() {
        let statement = |condition: Value| {
            let mut statement = json!({ "Sid": "S", "Effect": "Allow", "Action": ["kms:Decrypt"], "Resource": arn("kms", "key/k*") });
            statement["Condition"] = condition;
            Policy::read([json!({ "Statement": statement }).to_string().as_str()])
        };
        let decrypt = |key: &str, purpose: &str| {
            let body =
                json!({ "KeyId": arn("kms", key), "EncryptionContext": { "purpose": purpose } });
            rights(Request::post("/").header("x-amz-target", "TrentService.Decrypt"), &body)
                .remove(0)
        };
        let bound =
            statement(json!({ "StringEquals": { "kms:EncryptionContext:purpose": "keyring" } }));
        for (policy, right, expected) in [
            (&bound, decrypt("key/k1", "other"), None),
            (&bound, decrypt("key/other", "keyring"), None),
            (&bound, Right { action: "kms:Encrypt".into(), ..decrypt("key/k1", "keyring") }, None),
            (
                &statement(json!({ "StringEquals": { "kms:ViaService": "s3" } })),
                decrypt("key/k1", "keyring"),
                None,
            ),
            (
                &statement(
                    json!({ "StringUnheardOf": { "kms:EncryptionContext:purpose": "keyring" } }),
                ),
                decrypt("key/k1", "keyring"),
                None,
            ),
            (&bound, decrypt("key/k1", "keyring"), Some("S")),
        ] {
            assert_eq!(policy.allows(&right), expected, "{right}");
        }
        assert_eq!(
            (bound.granted(), bound.brief()),
            (["S kms:Decrypt".to_owned()].into(), ["kms:Decrypt".to_owned()].into())
        );
        assert!(like("a*c*", "abcd") && !like("a*c", "abcd") && like("*", ""));
    }
}
