//! The applied policies as data: what the project's role, the key and the bucket allow, and what
//! not.

use serde_json::Value;
use stile_tests::aws::moto::ACCOUNT;
use stile_tests::aws::policy::{AwsRequest, Decision, Policy};
use stile_tests::terraform::state_backend::Backends;

use super::{WITH_TABLE, table_request};

/// Checks a decision: the `Sid` that allows or denies the request, or `-` if nothing allows it.
fn check(documents: &[&Value], request: &AwsRequest, expected: &str) {
    let decision = match Policy::of(documents.iter().copied()).decide(request) {
        Decision::Allowed(sid) => format!("allowed by {sid}"),
        Decision::Denied(sid) => format!("denied by {sid}"),
        Decision::NotAllowed => "-".to_owned(),
    };
    assert_eq!(decision, expected, "{request:?}");
}

/// The role of `ledger` in its bucket: only its own prefix.
pub fn of_projects(backends: &Backends, namespace: &str) {
    let role = backends.policy(namespace, "aws_iam_role_policy", "policy", Some("ledger"));
    let bucket = format!("arn:aws:s3:::{}", backends.text(namespace, "bucket"));
    let (read, delete) =
        ("allowed by ReadAndWriteOwnStates", "allowed by DeleteOwnWorkspacesAndLocks");
    for (action, key, expected) in [
        ("s3:GetObject", "gateway/terraform.tfstate", "-"),
        ("s3:GetObject", "ledger-of-another/terraform.tfstate", "-"),
        ("s3:GetObject", "ledger", "-"),
        ("s3:GetObject", "x/ledger/terraform.tfstate", "-"),
        ("s3:PutObject", "gateway/terraform.tfstate.tflock", "-"),
        ("s3:PutObject", "gateway/workspaces/dev/ledger/terraform.tfstate", "-"),
        ("s3:DeleteObject", "ledger/terraform.tfstate", "-"),
        ("s3:DeleteObject", "gateway/terraform.tfstate.tflock", "-"),
        ("s3:DeleteObject", "gateway/workspaces/dev/gateway/terraform.tfstate", "-"),
        ("s3:GetObjectVersion", "ledger/terraform.tfstate", "-"),
        ("s3:DeleteObjectVersion", "ledger/workspaces/dev/ledger/terraform.tfstate", "-"),
        ("s3:PutObjectAcl", "ledger/terraform.tfstate", "-"),
        ("s3:GetObject", "ledger/terraform.tfstate", read),
        ("s3:PutObject", "ledger/network/terraform.tfstate", read),
        ("s3:PutObject", "ledger/terraform.tfstate.tflock", read),
        ("s3:DeleteObject", "ledger/terraform.tfstate.tflock", delete),
        ("s3:DeleteObject", "ledger/workspaces/dev/ledger/terraform.tfstate", delete),
    ] {
        check(&[&role], &AwsRequest::new(action, &format!("{bucket}/{key}")), expected);
    }
    for (prefix, expected) in [
        (None, "-"),
        (Some(""), "-"),
        (Some("ledger"), "-"),
        (Some("ledger-of-another/"), "-"),
        (Some("gateway/workspaces/"), "-"),
        (Some("ledger/workspaces/"), "allowed by ListOwnWorkspaces"),
    ] {
        let list = AwsRequest::new("s3:ListBucket", &bucket);
        check(
            &[&role],
            &prefix.map_or(list.clone(), |prefix| list.with("s3:prefix", prefix)),
            expected,
        );
    }
    check(
        &[&role],
        &AwsRequest::new("s3:GetObject", "arn:aws:s3:::another/ledger/terraform.tfstate"),
        "-",
    );
    check(&[&role], &AwsRequest::new("s3:PutBucketPolicy", &bucket), "-");

    let trust = backends.policy(namespace, "aws_iam_role", "assume_role_policy", Some("ledger"));
    let assume = |by: &str| {
        AwsRequest::new("sts:AssumeRole", "").by(&format!("arn:aws:iam::111122223333:{by}"))
    };
    check(&[&trust], &assume("role/deploy-ledger"), "-");
    check(&[&trust], &assume("role/deploy-ledger").with("sts:ExternalId", "acme:gateway"), "-");
    check(&[&trust], &assume("role/deploy-gateway").with("sts:ExternalId", "acme:ledger"), "-");
    check(&[&trust], &assume("root").with("sts:ExternalId", "acme:ledger"), "-");
    check(
        &[&trust],
        &assume("role/deploy-ledger").with("sts:ExternalId", "acme:ledger"),
        "allowed by Assume",
    );
}

/// The key: each role uses it for the objects of its project through S3, and administrators manage
/// it.
pub fn of_the_key(backends: &Backends, namespace: &str) {
    let key = backends.policy(namespace, "aws_kms_key", "policy", None);
    let role_policy = backends.policy(namespace, "aws_iam_role_policy", "policy", Some("ledger"));
    let arn = backends.text(namespace, "kms_key_arn");
    let bucket = format!("arn:aws:s3:::{}", backends.text(namespace, "bucket"));
    let role = backends.output(namespace, "role_arns")["ledger"].as_str().unwrap();
    let root = format!("arn:aws:iam::{ACCOUNT}:root");
    let (s3, dynamodb) = ("s3.us-east-1.amazonaws.com", "dynamodb.us-east-1.amazonaws.com");
    let crypt = |action: &str, by: &str, via: &str, object: &str| {
        let request = AwsRequest::new(action, arn).by(by).with("kms:ViaService", via);
        request.with("kms:EncryptionContext:aws:s3:arn", &format!("{bucket}/{object}"))
    };
    let own = "ledger/terraform.tfstate";
    let sid = key["Statement"]
        .as_array()
        .unwrap()
        .iter()
        .find(|statement| statement["Principal"]["AWS"] == role)
        .unwrap()["Sid"]
        .as_str();
    let allowed = format!("allowed by {}", sid.unwrap());
    for (request, by_the_key, by_the_role) in [
        (AwsRequest::new("kms:Decrypt", arn).by(role), "-", "-"),
        (crypt("kms:Decrypt", role, s3, "gateway/terraform.tfstate"), "-", "-"),
        (crypt("kms:Decrypt", role, s3, "ledger-of-another/terraform.tfstate"), "-", "-"),
        (crypt("kms:Decrypt", role, "secretsmanager.us-east-1.amazonaws.com", own), "-", "-"),
        (crypt("kms:CreateGrant", role, s3, own), "-", "-"),
        (crypt("kms:ScheduleKeyDeletion", role, s3, own), "-", "-"),
        (crypt("kms:Decrypt", role, s3, own), allowed.as_str(), "allowed by EncryptOwnStates"),
        (
            crypt("kms:GenerateDataKey", role, s3, own),
            allowed.as_str(),
            "allowed by EncryptOwnStates",
        ),
    ] {
        check(&[&key], &request, by_the_key);
        check(&[&role_policy], &request, by_the_role);
    }
    // Any IAM policy of the account can pass on the rights of the account's root.
    for action in [
        "kms:Decrypt",
        "kms:GenerateDataKey",
        "kms:CreateGrant",
        "kms:Encrypt",
        "kms:ReEncryptFrom",
    ] {
        check(&[&key], &crypt(action, &root, s3, own), "-");
        check(&[&key], &AwsRequest::new(action, arn).by(&root), "-");
    }
    check(
        &[&key],
        &AwsRequest::new("kms:PutKeyPolicy", arn).by(&root),
        "allowed by AdministerAndNoMore",
    );
    let table = |table: &str| {
        let request =
            AwsRequest::new("kms:Decrypt", arn).by(&root).with("kms:ViaService", dynamodb);
        request.with("kms:EncryptionContext:aws:dynamodb:tableName", table)
    };
    check(&[&key], &table("another"), "-");
    if namespace == WITH_TABLE {
        check(
            &[&key],
            &table(backends.text(namespace, "lock_table")),
            "allowed by LocksThroughDynamoDB",
        );
    }
}

/// The bucket: only over TLS, and only with its own key or without a named key.
pub fn of_the_bucket(backends: &Backends, namespace: &str) {
    let policy = backends.policy(namespace, "aws_s3_bucket_policy", "policy", None);
    let role = backends.policy(namespace, "aws_iam_role_policy", "policy", Some("ledger"));
    let (key, bucket) =
        (backends.text(namespace, "kms_key_arn"), backends.text(namespace, "bucket"));
    let put = |secure: &str, version: &str| {
        let request = AwsRequest::new(
            "s3:PutObject",
            &format!("arn:aws:s3:::{bucket}/ledger/terraform.tfstate"),
        );
        request.with("aws:SecureTransport", secure).with("s3:TlsVersion", version)
    };
    let algorithm = |name: &str| put("true", "1.3").with("s3:x-amz-server-side-encryption", name);
    let id = "s3:x-amz-server-side-encryption-aws-kms-key-id";
    let allowed = "allowed by ReadAndWriteOwnStates";
    for (request, expected) in [
        (put("false", "1.3"), "denied by DenyPlainHttp"),
        (put("true", "1.1"), "denied by DenyOldTls"),
        (algorithm("AES256"), "denied by DenyOtherEncryption"),
        (algorithm("aws:kms:dsse").with(id, key), "denied by DenyOtherEncryption"),
        (algorithm("aws:kms"), "denied by DenyKmsWithoutThisKey"),
        (
            algorithm("aws:kms").with(id, "arn:aws:kms:us-east-1:666666666666:key/theirs"),
            "denied by DenyKmsWithoutThisKey",
        ),
        (
            put("true", "1.3").with("s3:x-amz-server-side-encryption-customer-algorithm", "AES256"),
            "denied by DenyKeysOfCustomers",
        ),
        (algorithm("aws:kms").with(id, key), allowed),
        (put("true", "1.2"), allowed),
    ] {
        check(&[&policy, &role], &request, expected);
    }
}

/// The lock table: rows of the project's own states, and their digests.
pub fn of_lock_rows(backends: &Backends) {
    let role = backends.policy(WITH_TABLE, "aws_iam_role_policy", "policy", Some("ledger"));
    let bucket = backends.text(WITH_TABLE, "bucket");
    let allowed = "allowed by LockOwnStates";
    for (action, key, expected) in [
        ("PutItem", format!("{bucket}/gateway/terraform.tfstate"), "-"),
        ("PutItem", format!("{bucket}/gateway/terraform.tfstate-md5"), "-"),
        ("DeleteItem", format!("{bucket}/ledger-of-another/terraform.tfstate"), "-"),
        ("GetItem", "another/ledger/terraform.tfstate".to_owned(), "-"),
        ("UpdateItem", format!("{bucket}/ledger/terraform.tfstate"), "-"),
        ("BatchGetItem", format!("{bucket}/ledger/terraform.tfstate"), "-"),
        ("GetItem", format!("{bucket}/ledger/terraform.tfstate"), allowed),
        ("PutItem", format!("{bucket}/ledger/terraform.tfstate-md5"), allowed),
        (
            "DeleteItem",
            format!("{bucket}/ledger/workspaces/dev/ledger/terraform.tfstate-md5"),
            allowed,
        ),
    ] {
        let request = table_request(backends, &format!("dynamodb:{action}"))
            .with("dynamodb:LeadingKeys", &key);
        check(&[&role], &request, expected);
    }
    for action in ["dynamodb:Scan", "dynamodb:GetItem", "dynamodb:DeleteTable"] {
        check(&[&role], &table_request(backends, action), "-");
    }
}
