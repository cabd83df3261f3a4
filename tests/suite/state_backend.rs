//! The state backend: made by real Terraform in an emulator, used by real projects, and its policies as data.

mod isolation;
mod locks;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use stile_tests::aws::emulated::{ACCESS_KEY_ID, REGION};
use stile_tests::aws::iam::{Decision, Request, granted};
use stile_tests::aws::recorder::{Call, Recorder};
use stile_tests::process::home::words;
use stile_tests::process::programs::client;
use stile_tests::terraform::docs::differences;
use stile_tests::terraform::state_backend::{Backends, Module, Project, source};

/// The backend of the example that old clients use too.
const WITH_TABLE: &str = "Payments & Cards";

/// The one that locks in files alone.
const WITHOUT_TABLE: &str = "analytics";

#[test]
fn the_readme_says_what_the_module_takes_and_gives() {
    let wrong = differences(&source());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_module_configures_no_provider_so_that_it_can_be_called_many_times() {
    for entry in std::fs::read_dir(source()).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|extension| extension == "tf") {
            let text = std::fs::read_to_string(&file).unwrap();
            assert!(!text.lines().any(|line| line.starts_with("provider ")), "{}", file.display());
        }
    }
}

#[tokio::test]
async fn the_module_is_in_order_and_passes_its_own_tests() {
    let Some(module) = Module::copied("http://127.0.0.1:9", "the state backend's own tests") else {
        return;
    };
    let formatted = module.run("", &["fmt", "-check", "-recursive", "-diff", "-no-color"]).await;
    assert_eq!((formatted.code, formatted.stdout.as_str()), (Some(0), ""), "{}", formatted.stderr);
    for arguments in [
        ["init", "-input=false", "-no-color"].as_slice(),
        &["validate", "-no-color"],
        &["test", "-no-color"],
    ] {
        let ran = module.run("", arguments).await;
        assert_eq!(ran.code, Some(0), "{arguments:?}: {}\n{}", ran.stdout, ran.stderr);
        assert!(
            arguments[0] != "test" || ran.stdout.contains("Success! 10 passed, 0 failed."),
            "{}",
            ran.stdout
        );
    }
}

#[tokio::test]
async fn what_is_wrong_is_refused_before_anything_is_made_and_with_a_sentence() {
    let Some(module) = Module::copied("http://127.0.0.1:9", "wrong variables of the state backend")
    else {
        return;
    };
    let principal = "principal_arns = [\"arn:aws:iam::111122223333:root\"]";
    let project = format!("projects = {{ p = {{ {principal} }} }}");
    let wrong = [
        ("namespace = \" \"", project.clone(), "The namespace is empty: say whose state this is"),
        ("", "projects = {}".to_owned(), "A backend serves 1 to 40 projects"),
        (
            "",
            format!("projects = {{ \"A/b\" = {{ {principal} }} }}"),
            "A project's name is 1 to 40 of `a-z`, `0-9`, `-` and `_`",
        ),
        (
            "",
            "projects = { p = { principal_arns = [] } }".to_owned(),
            "a role that nobody may assume serves nobody",
        ),
        (
            "",
            "projects = { p = { principal_arns = [\"*\"] } }".to_owned(),
            "A principal is the ARN of an IAM role",
        ),
        (
            "",
            format!("projects = {{ p = {{ {principal}, external_id = \"a b\" }} }}"),
            "An external id is 2 to 1224 letters",
        ),
        (
            "bucket_name = \"Acme_States\"",
            project.clone(),
            "A bucket's name is 3 to 63 of `a-z`, `0-9` and `-`",
        ),
        (
            "bucket_name = \"xn--states\"",
            project.clone(),
            "has none of the prefixes and suffixes that Amazon S3 reserves",
        ),
        (
            "noncurrent_version_days = 1",
            project.clone(),
            "States that were written over are kept for 7 to 3650 whole days",
        ),
        (
            "access_log_bucket = \"arn:aws:s3:::logs\"",
            project.clone(),
            "is given by its name, 3 to 63 of",
        ),
        (
            "permissions_boundary_arn = \"boundary\"",
            project.clone(),
            "A permissions boundary is the ARN of an IAM policy",
        ),
        (
            "key_deletion_days = 31",
            project.clone(),
            "AWS KMS keeps a key that is to be deleted for 7 to 30 whole days.",
        ),
        ("tags = { \"aws:x\" = \"y\" }", project.clone(), "and does not begin with `aws:`"),
        (
            "tags = { StateBackend = \"y\" }",
            project,
            "The tags `StateBackend` and `StateProject` are set by this module",
        ),
    ];
    let mut main = String::new();
    for (at, (variable, project, _)) in wrong.iter().enumerate() {
        let namespace = if variable.starts_with("namespace") { "" } else { "namespace = \"acme\"" };
        main.push_str(&format!("module \"wrong_{at}\" {{\n  source = \"../..\"\n  {namespace}\n  {variable}\n  {project}\n}}\n"));
    }
    module.write("examples/wrong/main.tf", &main);
    let ran = module.run("examples/wrong", &["init", "-input=false", "-no-color"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let ran = module.run("examples/wrong", &["validate", "-no-color"]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let told = words(&ran.stderr);
    for (at, (_, _, sentence)) in wrong.iter().enumerate() {
        assert!(
            told.contains(sentence) && told.contains(&format!("in module \"wrong_{at}\"")),
            "{sentence}: {}",
            ran.stderr
        );
    }
    assert_eq!(
        told.matches("Error: Invalid value for variable").count(),
        wrong.len(),
        "{}",
        ran.stderr
    );
}

#[tokio::test]
async fn two_backends_are_made_used_and_given_up() {
    let Some(backends) = Backends::apply("the state backend in an emulator").await else { return };
    let recorder = Recorder::start(backends.endpoint()).await;
    tokio::join!(
        Box::pin(nothing_is_left_to_change(&backends)),
        Box::pin(locks::in_a_table(&backends, &recorder)),
        Box::pin(locks::in_a_file(&backends, &recorder)),
    );
    for namespace in [WITH_TABLE, WITHOUT_TABLE] {
        every_call_is_allowed_and_no_more(&backends, &recorder, namespace);
        isolation::of_projects(&backends, namespace);
        isolation::of_the_key(&backends, namespace);
        isolation::of_the_bucket(&backends, namespace);
    }
    isolation::of_lock_rows(&backends);
    backends.destroy().await;
    nothing_is_left(&backends).await;
}

async fn nothing_is_left_to_change(backends: &Backends) {
    let ran = backends.plan().await;
    assert_eq!(ran.code, Some(0), "the second plan is not empty: {}", ran.stdout);
    let platform = "-var=platform_arns=[\"arn:aws:iam::111122223333:role/platform\"]";
    for arguments in [&["init"][..], &["plan", platform]] {
        let ran = backends
            .module()
            .run("examples/minimal", &[arguments, &["-input=false", "-no-color"]].concat())
            .await;
        assert_eq!(ran.code, Some(0), "{arguments:?}: {}", ran.stderr);
    }
}

/// Each call that projects made, held against the policies that were really applied; and what these allow beyond.
fn every_call_is_allowed_and_no_more(backends: &Backends, recorder: &Recorder, namespace: &str) {
    let role = backends.policy(namespace, "aws_iam_role_policy", "policy", Some("ledger"));
    let bucket = backends.policy(namespace, "aws_s3_bucket_policy", "policy", None);
    let trust = backends.policy(namespace, "aws_iam_role", "assume_role_policy", Some("ledger"));
    let role_arn = backends.output(namespace, "role_arns")["ledger"].as_str().unwrap();
    let (mut used, mut assumed) = (BTreeSet::new(), 0);
    for call in recorder.calls() {
        if let Some(request) = assume(&call, role_arn) {
            assert_eq!(
                request.decide([&trust]),
                Decision::Allowed("Assume".to_owned()),
                "{call:?}"
            );
            assumed += 1;
        }
        let Some(request) = request(backends, namespace, &call) else { continue };
        assert_ne!(call.access_key, ACCESS_KEY_ID, "without the role: {call:?}");
        match request.decide([&role, &bucket]) {
            Decision::Allowed(sid) => used.insert(format!("{sid} {}", request.action())),
            other => panic!("{other:?}: {call:?}"),
        };
    }
    assert!(assumed > 0, "nobody assumed `{role_arn}`");
    // What KMS is asked for in a project's name never shows as a call of the project's; and these states are small, so none
    // is put in parts, of which an upload that breaks off leaves some behind.
    let unseen =
        |right: &String| right.contains(" kms:") || right.ends_with(" s3:AbortMultipartUpload");
    let unused: Vec<_> = granted(&role)
        .into_iter()
        .filter(|right| !used.contains(right) && !unseen(right))
        .collect();
    assert_eq!(unused, Vec::<String>::new(), "granted in `{namespace}` and never used");
}

/// The request for that role's credentials, if the call is one.
fn assume(call: &Call, role_arn: &str) -> Option<Request> {
    let form: BTreeMap<String, String> =
        url::form_urlencoded::parse(call.body.as_bytes()).into_owned().collect();
    if form.get("Action").is_none_or(|action| action != "AssumeRole") || form["RoleArn"] != role_arn
    {
        return None;
    }
    let request =
        Request::new("sts:AssumeRole", role_arn).by("arn:aws:iam::111122223333:role/deploy-ledger");
    Some(form.get("ExternalId").map_or(request.clone(), |id| request.with("sts:ExternalId", id)))
}

/// What a call asks for, if it is one of that backend's.
fn request(backends: &Backends, namespace: &str, call: &Call) -> Option<Request> {
    if let Some((_, action)) =
        call.headers.get("x-amz-target").and_then(|target| target.split_once('.'))
    {
        let body: Value = serde_json::from_str(&call.body).unwrap();
        let table = backends.output(namespace, "config")["ledger"]["dynamodb_table"].as_str()?;
        if body["TableName"] != table {
            return None;
        }
        let key =
            ["Key", "Item"].iter().find_map(|part| body[part]["LockID"]["S"].as_str()).unwrap();
        return Some(
            table_request(backends, &format!("dynamodb:{action}"))
                .with("dynamodb:LeadingKeys", key),
        );
    }
    let bucket = backends.text(namespace, "bucket");
    let path = call.path.strip_prefix('/')?.strip_prefix(bucket)?;
    if path.trim_matches('/').is_empty() {
        assert_eq!(call.method, "GET", "{call:?}");
        let request = sent(Request::new("s3:ListBucket", &format!("arn:aws:s3:::{bucket}")), call);
        return Some(
            call.query
                .get("prefix")
                .map_or(request.clone(), |prefix| request.with("s3:prefix", prefix)),
        );
    }
    let action = match call.method.as_str() {
        "GET" | "HEAD" => "s3:GetObject",
        "PUT" => "s3:PutObject",
        "DELETE" => "s3:DeleteObject",
        _ => panic!("{call:?}"),
    };
    Some(sent(Request::new(action, &format!("arn:aws:s3:::{bucket}{path}")), call))
}

/// With what S3 tells policies of a request, and as if it had come over TLS.
fn sent(request: Request, call: &Call) -> Request {
    let request = request.with("aws:SecureTransport", "true").with("s3:TlsVersion", "1.3");
    let encryption =
        call.headers.iter().filter(|(name, _)| name.starts_with("x-amz-server-side-encryption"));
    encryption.fold(request, |request, (name, value)| request.with(&format!("s3:{name}"), value))
}

/// An action on the lock table.
fn table_request(backends: &Backends, action: &str) -> Request {
    let table = backends.text(WITH_TABLE, "lock_table");
    Request::new(
        action,
        &format!("arn:aws:dynamodb:{REGION}:{}:table/{table}", stile_tests::aws::moto::ACCOUNT),
    )
}

/// Which encryption an object has, and with which key; none if there is no such object.
async fn encryption(backends: &Backends, namespace: &str, key: &str) -> Option<(String, String)> {
    let url = format!("{}/{}/{key}", backends.endpoint(), backends.text(namespace, "bucket"));
    let answer = client(None).head(url).header("authorization", scope("s3")).send().await.unwrap();
    assert!([200, 404].contains(&answer.status().as_u16()), "{key}: {}", answer.status());
    let header = |name: &str| {
        answer.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned()
    };
    (answer.status() == 200).then(|| {
        (
            header("x-amz-server-side-encryption"),
            header("x-amz-server-side-encryption-aws-kms-key-id"),
        )
    })
}

/// As much of a signature as the emulator needs to know which service is meant.
fn scope(service: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential=none/20200101/{REGION}/{service}/aws4_request, SignedHeaders=host, Signature=00"
    )
}

/// A project of that backend, with the snippet for a client, which is as `terraform fmt` would have it.
async fn project(
    backends: &Backends,
    recorder: &Recorder,
    namespace: &str,
    client: &str,
) -> Project {
    initialised(backends, namespace, client, |snippet| Project::new(recorder, snippet)).await
}

/// The same, of whoever makes a project with that snippet.
async fn initialised(
    backends: &Backends,
    namespace: &str,
    client: &str,
    with: impl FnOnce(&str) -> Project,
) -> Project {
    let snippet = backends.output(namespace, "backend")["ledger"][client].as_str().unwrap();
    let project = with(snippet);
    assert_eq!(project.done(&["fmt", "-check", "-diff", "backend.tf"]).await, "", "{snippet}");
    project.done(&["init", "-input=false", "-no-color"]).await;
    project
}

async fn nothing_is_left(backends: &Backends) {
    let ask = |service: &'static str, target: &'static str, body: &'static str| {
        let kind = if target.is_empty() {
            "application/x-www-form-urlencoded"
        } else {
            "application/x-amz-json-1.0"
        };
        let request = client(None)
            .post(backends.endpoint())
            .header("authorization", scope(service))
            .header("content-type", kind);
        let request =
            if target.is_empty() { request } else { request.header("x-amz-target", target) };
        async move { request.body(body).send().await.unwrap().text().await.unwrap() }
    };
    assert_eq!(ask("dynamodb", "DynamoDB_20120810.ListTables", "{}").await, "{\"TableNames\": []}");
    assert!(!ask("iam", "", "Action=ListRoles&Version=2010-05-08").await.contains("<RoleName>"));
    assert!(!ask("kms", "TrentService.ListAliases", "{}").await.contains("tfstate-"));
    for namespace in [WITH_TABLE, WITHOUT_TABLE] {
        let url = format!("{}/{}", backends.endpoint(), backends.text(namespace, "bucket"));
        assert_eq!(
            client(None)
                .head(url)
                .header("authorization", scope("s3"))
                .send()
                .await
                .unwrap()
                .status(),
            404,
            "{namespace}"
        );
    }
}
