//! The state backend: real Terraform creates it in an emulator, real projects use it, and the tests
//! evaluate its policies.

mod isolation;
mod locks;

use std::collections::BTreeSet;

use stile_tests::aws::emulated::{ACCESS_KEY_ID, REGION};
use stile_tests::aws::moto::ACCOUNT;
use stile_tests::aws::policy::{AwsRequest, Decision, Policy};
use stile_tests::aws::proxy::AwsProxy;
use stile_tests::process::home::words;
use stile_tests::process::programs::client;
use stile_tests::terraform::docs::differences;
use stile_tests::terraform::state_backend::{Backends, Module, Project, source};

/// The backend of the example that old clients also use.
const WITH_TABLE: &str = "Payments & Cards";

/// The backend that locks only in files.
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
    let Some(mut module) = Module::copied("http://127.0.0.1:9", "the state backend's own tests")
    else {
        return;
    };
    let formatted = module.run("", &["fmt", "-check", "-recursive", "-diff", "-no-color"]).await;
    assert_eq!((formatted.code, formatted.stdout.as_str()), (Some(0), ""), "{}", formatted.stderr);
    let ran = module.run("", &["init", "-input=false", "-no-color"]).await;
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stdout, ran.stderr);
    let _provider = module.keep_provider().await;
    for arguments in [["validate", "-no-color"], ["test", "-no-color"]] {
        let ran = module.run("", &arguments).await;
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
    let printed = words(&ran.stderr);
    for (at, (_, _, sentence)) in wrong.iter().enumerate() {
        assert!(
            printed.contains(sentence) && printed.contains(&format!("in module \"wrong_{at}\"")),
            "{sentence}: {}",
            ran.stderr
        );
    }
    assert_eq!(
        printed.matches("Error: Invalid value for variable").count(),
        wrong.len(),
        "{}",
        ran.stderr
    );
}

#[tokio::test]
async fn two_backends_are_made_used_and_given_up() {
    let Some(backends) = Backends::apply("the state backend in an emulator").await else { return };
    let proxy = AwsProxy::start_unlisted(backends.endpoint());
    tokio::join!(
        Box::pin(nothing_is_left_to_change(&backends)),
        Box::pin(locks::in_a_table(&backends, &proxy)),
        Box::pin(locks::in_a_file(&backends, &proxy)),
    );
    for namespace in [WITH_TABLE, WITHOUT_TABLE] {
        every_call_is_allowed_and_no_more(&backends, &proxy, namespace);
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

/// Checks every call of the projects against the applied policies, and that these allow no more.
fn every_call_is_allowed_and_no_more(backends: &Backends, proxy: &AwsProxy, namespace: &str) {
    let role = backends.policy(namespace, "aws_iam_role_policy", "policy", Some("ledger"));
    let bucket = backends.policy(namespace, "aws_s3_bucket_policy", "policy", None);
    let trust = backends.policy(namespace, "aws_iam_role", "assume_role_policy", Some("ledger"));
    let role_arn = backends.output(namespace, "role_arns")["ledger"].as_str().unwrap();
    let (trust, allowed) = (Policy::of([&trust]), Policy::of([&role, &bucket]));
    let (mut used, mut assumed) = (BTreeSet::new(), 0);
    for call in proxy.calls() {
        for request in &call.requests {
            if request.action() == "sts:AssumeRole" && request.resource() == role_arn {
                let request = request.clone().by("arn:aws:iam::111122223333:role/deploy-ledger");
                assert_eq!(
                    trust.decide(&request),
                    Decision::Allowed("Assume".to_owned()),
                    "{call:?}"
                );
                assumed += 1;
            }
            if !is_of(backends, namespace, request) {
                continue;
            }
            assert_ne!(call.access_key_id, ACCESS_KEY_ID, "without the role: {call:?}");
            match allowed.decide(request) {
                Decision::Allowed(sid) => used.insert(format!("{sid} {}", request.action())),
                other => panic!("{other:?}: {call:?}"),
            };
        }
    }
    assert!(assumed > 0, "no caller assumed `{role_arn}`");
    // Calls to KMS in a project's name never show as calls of the project. These states are small,
    // so no client uploads one in parts, and no upload breaks off.
    let unseen =
        |right: &String| right.contains(" kms:") || right.ends_with(" s3:AbortMultipartUpload");
    let unused: Vec<_> = Policy::of([&role])
        .granted()
        .into_iter()
        .filter(|right| !used.contains(right) && !unseen(right))
        .collect();
    assert_eq!(unused, Vec::<String>::new(), "granted in `{namespace}`, but never used");
}

/// Returns whether a request is about that backend: its bucket, an object in it, or its lock table.
fn is_of(backends: &Backends, namespace: &str, request: &AwsRequest) -> bool {
    let bucket = format!("arn:aws:s3:::{}", backends.text(namespace, "bucket"));
    let table = &backends.output(namespace, "config")["ledger"]["dynamodb_table"];
    let object = request.resource().strip_prefix(&bucket);
    object.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        || table.as_str().is_some_and(|table| request.resource() == table_arn(table))
}

fn table_arn(table: &str) -> String {
    format!("arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{table}")
}

/// Builds a request for an action on the lock table.
fn table_request(backends: &Backends, action: &str) -> AwsRequest {
    AwsRequest::new(action, &table_arn(backends.text(WITH_TABLE, "lock_table")))
}

/// Returns the encryption and the key of an object, or `None` if the object does not exist.
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

/// Returns the part of a signature from which the emulator finds the service.
fn scope(service: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential=none/20200101/{REGION}/{service}/aws4_request, SignedHeaders=host, Signature=00"
    )
}

/// Creates a project of that backend with the snippet for a client. The snippet must have the
/// format of `terraform fmt`.
async fn project(backends: &Backends, proxy: &AwsProxy, namespace: &str, client: &str) -> Project {
    initialised(backends, namespace, client, |snippet| Project::new(proxy, snippet)).await
}

/// Does the same for any caller that creates a project with that snippet.
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
