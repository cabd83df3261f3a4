//! Translates an HTTP call to AWS into the requests that IAM judges.
//!
//! A request has an action, a resource and condition keys.
//!
//! The source is AWS's service authorization reference. It covers the calls of this project. Any
//! other call becomes an action that no policy grants.

use std::collections::BTreeMap;

use axum::http::request::Parts;
use serde_json::Value;

use super::AwsRequest;
use crate::aws::emulated::REGION;
use crate::aws::moto::ACCOUNT;

/// The partition keys of this project's tables: the registry's table and the lock table.
const PARTITION_KEYS: [&str; 2] = ["pk", "LockID"];

/// Who signed a call, and for which service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credential {
    /// The id of the access key; empty without a signature.
    pub access_key_id: String,
    /// The service, such as `s3`; empty without a signature.
    pub service: String,
}

impl Credential {
    /// Reads the credential of a signature, from the header or from the URL.
    pub fn of(head: &Parts) -> Self {
        let header = header(head, "authorization");
        let (query, start) = (head.uri.query().unwrap_or_default(), "Credential=");
        let scope = header
            .split_once(start)
            .or_else(|| query.split_once(start))
            .map_or("", |(_, rest)| rest.split([',', '&']).next().unwrap_or_default())
            .replace("%2F", "/");
        let mut parts = scope.split('/').map(str::to_owned);
        Self {
            access_key_id: parts.next().unwrap_or_default(),
            service: parts.nth(2).unwrap_or_default(),
        }
    }
}

/// Returns the requests to IAM that a call makes. A transaction makes one for each of its items.
pub fn requests(head: &Parts, body: &[u8]) -> Vec<AwsRequest> {
    let target = header(head, "x-amz-target");
    match target.split_once('.') {
        Some(target) => of_json(target, &serde_json::from_slice(body).unwrap_or_default()),
        None if header(head, "content-type").starts_with("application/x-www-form-urlencoded") => {
            of_form(&Credential::of(head).service, body).into_iter().collect()
        }
        None => vec![of_s3(head)],
    }
}

fn of_json((service, action): (&str, &str), body: &Value) -> Vec<AwsRequest> {
    let on_table = |action: &str, call: &Value| {
        let table = call["TableName"].as_str().unwrap_or_default();
        let item = if call["Key"].is_null() { &call["Item"] } else { &call["Key"] };
        with_leading_keys(AwsRequest::new(&format!("dynamodb:{action}"), &table_arn(table)), [item])
    };
    match (service, action) {
        ("TrentService", action) => {
            let key = body["KeyId"].as_str().unwrap_or_default();
            let key = if key.starts_with("arn:") { key.to_owned() } else { arn("kms", key) };
            let request = AwsRequest::new(&format!("kms:{action}"), &key);
            let context = body["EncryptionContext"].as_object().into_iter().flatten();
            let request = context.fold(request, |request, (name, value)| {
                let value = value.as_str().unwrap_or_default();
                request.with(&format!("kms:EncryptionContext:{name}"), value)
            });
            vec![request]
        }
        (_, "TransactWriteItems") => {
            let items = body["TransactItems"].as_array().into_iter().flatten();
            items
                .filter_map(Value::as_object)
                .flatten()
                .map(|(kind, item)| match kind.as_str() {
                    "ConditionCheck" => on_table("ConditionCheckItem", item),
                    kind => on_table(&format!("{kind}Item"), item),
                })
                .collect()
        }
        (_, "BatchGetItem") => {
            let tables = body["RequestItems"].as_object().into_iter().flatten();
            tables
                .map(|(table, asked)| {
                    let request = AwsRequest::new("dynamodb:BatchGetItem", &table_arn(table));
                    with_leading_keys(request, asked["Keys"].as_array().into_iter().flatten())
                })
                .collect()
        }
        ("AWSEvents", "PutEvents") => {
            let entries = body["Entries"].as_array().into_iter().flatten();
            let bus = |entry: &Value| bus_arn(&entry["EventBusName"]);
            entries.map(|entry| AwsRequest::new("events:PutEvents", &bus(entry))).collect()
        }
        ("AWSEvents", "DescribeEventBus") => {
            vec![AwsRequest::new("events:DescribeEventBus", &bus_arn(&body["Name"]))]
        }
        (service, action) if service.starts_with("DynamoDB_") => vec![on_table(action, body)],
        (service, action) => vec![AwsRequest::new(&format!("{service}:{action}"), "")],
    }
}

/// Returns the ARN of an event bus, which a call names so or by its name.
fn bus_arn(name: &Value) -> String {
    match name.as_str() {
        Some(bus) if bus.starts_with("arn:") => bus.to_owned(),
        bus => arn("events", &format!("event-bus/{}", bus.unwrap_or("default"))),
    }
}

/// Translates a call of the query protocol, which STS uses.
///
/// `GetCallerIdentity` needs no permission, so it makes no request.
fn of_form(service: &str, body: &[u8]) -> Option<AwsRequest> {
    let form: BTreeMap<String, String> = url::form_urlencoded::parse(body).into_owned().collect();
    let value = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    match value("Action") {
        "GetCallerIdentity" => None,
        "AssumeRole" => {
            let request = AwsRequest::new("sts:AssumeRole", value("RoleArn"));
            Some(match form.get("ExternalId") {
                Some(id) => request.with("sts:ExternalId", id),
                None => request,
            })
        }
        action => Some(AwsRequest::new(&format!("{service}:{action}"), "")),
    }
}

/// Translates a call of S3 as if it came over TLS. The proxy on loopback uses plain HTTP.
fn of_s3(head: &Parts) -> AwsRequest {
    let query: BTreeMap<String, String> =
        url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes())
            .into_owned()
            .collect();
    let path = decoded_path(head.uri.path());
    let path = path.trim_matches('/');
    let (object, has) = (path.contains('/'), |name: &str| query.contains_key(name));
    let action = match (head.method.as_str(), object) {
        ("GET" | "HEAD", true) if has("versionId") => "GetObjectVersion",
        ("GET" | "HEAD", true) => "GetObject",
        ("PUT" | "POST", true) => "PutObject",
        ("DELETE", true) if has("versionId") => "DeleteObjectVersion",
        ("DELETE", true) => "DeleteObject",
        ("HEAD", false) => "ListBucket",
        ("GET", false) if has("list-type") || has("prefix") => "ListBucket",
        ("GET", false) if has("versioning") => "GetBucketVersioning",
        (method, _) => &format!("{method} {}", head.uri.query().unwrap_or_default()),
    };
    let request = AwsRequest::new(&format!("s3:{action}"), &format!("arn:aws:s3:::{path}"))
        .with("aws:SecureTransport", "true")
        .with("s3:TlsVersion", "1.3");
    let request = match query.get("prefix") {
        Some(prefix) => request.with("s3:prefix", prefix),
        None => request,
    };
    let encryption = head
        .headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("x-amz-server-side-encryption"));
    encryption.fold(request, |request, (name, value)| {
        request.with(&format!("s3:{name}"), &String::from_utf8_lossy(value.as_bytes()))
    })
}

/// Decodes the path of a URL.
pub(in crate::aws) fn decoded_path(path: &str) -> String {
    let query = format!("path={}", path.replace('+', "%2B"));
    url::form_urlencoded::parse(query.as_bytes())
        .next()
        .map_or_else(String::new, |(_, path)| path.into_owned())
}

fn header<'a>(head: &'a Parts, name: &str) -> &'a str {
    head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn arn(service: &str, resource: &str) -> String {
    format!("arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}")
}

fn table_arn(table: &str) -> String {
    arn("dynamodb", &format!("table/{table}"))
}

fn with_leading_keys<'a>(
    request: AwsRequest,
    items: impl IntoIterator<Item = &'a Value>,
) -> AwsRequest {
    let key = |item: &'a Value| PARTITION_KEYS.iter().find_map(|name| item[name]["S"].as_str());
    items
        .into_iter()
        .filter_map(key)
        .fold(request, |request, key| request.with("dynamodb:LeadingKeys", key))
}

#[cfg(test)]
mod tests {
    use axum::http::Request;
    use serde_json::json;

    use super::*;

    const SCOPE: &str =
        "AWS4-HMAC-SHA256 Credential=AKIA/20200101/us-east-1/sts/aws4_request, Signature=00";

    fn translated(request: axum::http::request::Builder, body: &str) -> Vec<AwsRequest> {
        let signed = request.header("authorization", SCOPE);
        requests(&signed.body(()).unwrap().into_parts().0, body.as_bytes())
    }

    fn of_dynamodb(action: &str, body: &Value) -> Vec<(String, Vec<String>)> {
        let target = format!("DynamoDB_20120810.{action}");
        translated(Request::post("/").header("x-amz-target", target), &body.to_string())
            .into_iter()
            .map(|request| {
                assert_eq!(request.resource(), table_arn("t"));
                let keys = request.values("dynamodb:LeadingKeys").map(str::to_owned).collect();
                (request.action().to_owned(), keys)
            })
            .collect()
    }

    #[test]
    fn a_call_of_dynamodb_has_the_partition_keys_that_it_names() {
        let expected = |action: &str, keys: &[&str]| {
            (format!("dynamodb:{action}"), keys.iter().map(|key| (*key).to_owned()).collect())
        };
        let put = json!({ "TableName": "t", "Item": { "pk": { "S": "proof 1" }, "sk": { "S": "claim" } } });
        let update = json!({ "TableName": "t", "Key": { "pk": { "S": "pin p" } } });
        assert_eq!(
            of_dynamodb(
                "TransactWriteItems",
                &json!({ "TransactItems": [{ "Put": put }, { "Update": update }, { "ConditionCheck": update }] })
            ),
            [
                expected("PutItem", &["proof 1"]),
                expected("UpdateItem", &["pin p"]),
                expected("ConditionCheckItem", &["pin p"])
            ]
        );
        assert_eq!(of_dynamodb("PutItem", &put), [expected("PutItem", &["proof 1"])]);
        let lock = json!({ "TableName": "t", "Key": { "LockID": { "S": "b/state" } } });
        assert_eq!(of_dynamodb("DeleteItem", &lock), [expected("DeleteItem", &["b/state"])]);
        assert_eq!(of_dynamodb("Scan", &json!({ "TableName": "t" })), [expected("Scan", &[])]);
        let keys = json!([{ "pk": { "S": "b" } }, { "pk": { "S": "a" } }, { "pk": { "S": "b" } }]);
        assert_eq!(
            of_dynamodb("BatchGetItem", &json!({ "RequestItems": { "t": { "Keys": keys } } })),
            [expected("BatchGetItem", &["a", "b"])]
        );
    }

    #[test]
    fn a_call_of_kms_has_its_encryption_context() {
        let body = json!({ "KeyId": "key/k1", "EncryptionContext": { "purpose": "keyring" } });
        let decrypt = Request::post("/").header("x-amz-target", "TrentService.Decrypt");
        assert_eq!(
            translated(decrypt, &body.to_string()),
            [AwsRequest::new("kms:Decrypt", &arn("kms", "key/k1"))
                .with("kms:EncryptionContext:purpose", "keyring")]
        );
    }

    #[test]
    fn the_method_and_the_query_name_the_action_of_an_s3_call() {
        for (request, action, resource) in [
            (Request::get("/b/modules/a/b?versionId=1"), "GetObjectVersion", "b/modules/a/b"),
            (Request::put("/b/uploads/1"), "PutObject", "b/uploads/1"),
            (Request::delete("/b/a%3Ab"), "DeleteObject", "b/a:b"),
            (Request::head("/b/"), "ListBucket", "b"),
            (Request::get("/b?acl"), "GET acl", "b"),
        ] {
            let [request] = &translated(request, "")[..] else { panic!("expected one request") };
            assert_eq!(
                (request.action(), request.resource()),
                (&*format!("s3:{action}"), &*format!("arn:aws:s3:::{resource}"))
            );
        }
        let list = translated(Request::get("/b?prefix=c%2F"), "");
        assert_eq!(list[0].action(), "s3:ListBucket");
        assert_eq!(list[0].values("s3:prefix").collect::<Vec<_>>(), ["c/"]);
        let put = Request::put("/b/k").header("x-amz-server-side-encryption", "aws:kms");
        let put = translated(put, "");
        assert_eq!(
            put[0].values("s3:x-amz-server-side-encryption").collect::<Vec<_>>(),
            ["aws:kms"]
        );
    }

    #[test]
    fn assume_role_has_its_external_id_and_get_caller_identity_needs_no_permission() {
        let form =
            || Request::post("/").header("content-type", "application/x-www-form-urlencoded");
        assert_eq!(
            translated(form(), "Action=AssumeRole&RoleArn=arn%3Ar&ExternalId=acme%3Ap"),
            [AwsRequest::new("sts:AssumeRole", "arn:r").with("sts:ExternalId", "acme:p")]
        );
        assert_eq!(translated(form(), "Action=GetCallerIdentity"), []);
        assert_eq!(translated(form(), "Action=X"), [AwsRequest::new("sts:X", "")]);
    }

    #[test]
    fn a_credential_is_in_the_header_or_in_the_url() {
        let of = |request: axum::http::request::Builder| {
            let credential = Credential::of(&request.body(()).unwrap().into_parts().0);
            (credential.access_key_id, credential.service)
        };
        let expected = ("AKIA".to_owned(), "sts".to_owned());
        assert_eq!(of(Request::get("/").header("authorization", SCOPE)), expected);
        let url =
            "/?X-Amz-Credential=AKIA%2F20200101%2Fus-east-1%2Fsts%2Faws4_request&X-Amz-Date=1";
        assert_eq!(of(Request::get(url)), expected);
        assert_eq!(of(Request::get("/")), (String::new(), String::new()));
    }
}
