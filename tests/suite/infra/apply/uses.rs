//! Uses of an applied registry that need more than one program: an archive that goes past the
//! function, an object of another bucket, and grants that a bearer changes.

use std::sync::Arc;

use serde_json::json;
use sha2::{Digest as _, Sha256};
use stile_tests::aws::emulated::REGION;
use stile_tests::aws::moto::ACCOUNT;
use stile_tests::aws::source_bucket::SourceBucket;
use stile_tests::broker::grants::path_of;
use stile_tests::broker::served::system_time;
use stile_tests::broker::{deploy, large_zip, module_zip};
use stile_tests::dev_ca::DevCa;
use stile_tests::lambda::Function;
use stile_tests::lambda::function_url::FunctionUrlServer;
use stile_tests::process::home::Home;
use stile_tests::process::programs::{ADMIN, BROKER, HELPER, client, free_port, program};
use stile_tests::sts::identity::Identity;

use super::{Applied, AtWork};

/// The bucket of someone else, with objects that the registry may read below `own`.
pub(super) const SOURCE_BUCKET: &str = "acme-modules";

/// Returns the variable of the example with that bucket.
pub(super) fn source_buckets() -> String {
    let key = format!("arn:aws:kms:{REGION}:{ACCOUNT}:key/1");
    json!([{ "bucket": SOURCE_BUCKET, "prefix": "own", "kms_key_arn": key }]).to_string()
}

/// Publishes an object of a bucket that the registry does not own, and installs it.
pub(super) async fn object_of_another_bucket(applied: &Applied, work: &AtWork, publisher: &Home) {
    let bucket = SourceBucket::create_at(&applied.moto.endpoint(), SOURCE_BUCKET, true).await;
    let archive = module_zip("of another bucket");
    let sha256 = hex::encode(Sha256::digest(&archive));
    let version = bucket.put("own/tags.zip", archive).await;
    let (prefix, object) = (bucket.address("own"), bucket.address("own/tags.zip"));
    let allow = ["namespace", "set", "acme", "--source", &prefix, "--region", REGION];
    work.operate(applied, &allow).await;
    let publish = ["module", "publish", "acme/tags/aws", "1.2.0", "--object", &object];
    let more = ["--sha256", &sha256, "--registry-host", &work.host];
    let ran = publisher.run(&program(ADMIN), &[&publish[..], &more].concat()).await;
    assert_eq!(ran.code, Some(0), "{ran:?}\n{}", work.broker.log());
    let (terraform, ran) = work.install("1.2.0").await;
    assert_eq!(ran.code, Some(0), "{ran:?}\n{}", work.broker.log());
    assert!(terraform.installed("tags").join("main.tf").is_file());
    bucket.remove("own/tags.zip", &version).await;
}

/// Changes grants through the API, as a role that holds `create_grant` and `delete_grant`. One of them is
/// to a trust, which operators create, change and delete.
pub(super) async fn grants_through_the_api(applied: &Applied, work: &AtWork) {
    for name in ["lead", "deputy"] {
        let arn = format!("arn:aws:iam::111122223333:role/{name}");
        let create = ["grant", "create", "--role-arn", &arn, "--namespace", "acme"];
        let may = ["--create-grant", "--delete-grant", "--download"];
        work.operate(applied, &[&create[..], &may].concat()).await;
    }
    let claim = ["--issuer", "https://git.corp.example", "--claim", "project_id=74"];
    work.operate(applied, &[&["trust", "create", "ci"][..], &claim].concat()).await;
    let lead = work.home(&Identity::role("111122223333", "lead", "i-0abc"));
    let get = ["get-token", "token", "--registry-host", &work.host];
    let may = ["create_grant", "delete_grant", "download"].map(|name| ["--permission", name]);
    let got = lead.run(&program(HELPER), &[&get[..], may.as_flattened()].concat()).await;
    assert_eq!(got.code, Some(0), "{got:?}\n{}", work.broker.log());
    let (ci, deputy) = ("aws:111122223333:role/ci", "aws:111122223333:role/deputy");
    let new = json!({"principal": ci, "namespace": "acme", "permissions": ["download"]});
    let ends = json!({"principal": ci, "namespace": "acme", "expires_at": "2999-01-31T00:00:00Z"});
    let to_trust =
        json!({"principal": "oidc:ci", "namespace": "acme", "permissions": ["download"]});
    for (method, path, body, status) in [
        ("POST", "/v1/grants".to_owned(), Some(to_trust), 201),
        ("POST", "/v1/grants".to_owned(), Some(new), 201),
        ("PATCH", "/v1/grants".to_owned(), Some(ends), 200),
        ("GET", "/v1/grants".to_owned(), None, 200),
        ("DELETE", path_of(ci, "acme"), None, 204),
        ("DELETE", path_of(deputy, "acme"), None, 204),
    ] {
        let request = client(None).request(method.parse().unwrap(), work.broker.url(&path));
        let request = request.bearer_auth(got.stdout.trim());
        let request = match body {
            Some(body) => request.header("content-type", "application/json").body(body.to_string()),
            None => request,
        };
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{method} {path}\n{}", work.broker.log());
    }
    for arguments in [
        &["trust", "list"][..],
        &["trust", "show", "ci"],
        &["trust", "update", "ci", "--max-age", "2h"],
        &["trust", "delete", "ci", "--with-grants"],
    ] {
        work.operate(applied, arguments).await;
    }
}

/// Publishes an archive that goes past the function into the bucket. Lambda starts the function.
pub(super) async fn too_large_for_an_event(applied: &Applied, work: &AtWork) {
    let mut variables = applied.variables.clone();
    variables.extend([
        ("STILE_STS_ENDPOINT".to_owned(), work.sts.endpoint()),
        ("AWS_ENDPOINT_URL".to_owned(), work.proxy.endpoint()),
    ]);
    variables.extend(
        work.function
            .environment("us-east-1")
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value)),
    );
    let variables: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let function = Arc::new(
        Function::start(&program(BROKER), &variables, &applied.folder.path().join("function.log"))
            .await,
    );
    let files = DevCa::new(system_time()).write(applied.folder.path(), &["127.0.0.1"]);
    let port = free_port();
    let _door = FunctionUrlServer::open(port, &files, Arc::clone(&function)).await;

    let mut publisher = work.home(&deploy());
    publisher.trust(&files.ca);
    publisher.configure_helper(&format!(
        "[registry.\"{}\"]\nurl = \"https://127.0.0.1:{port}\"\n",
        work.host
    ));
    let file = applied.folder.path().join("large.zip");
    std::fs::write(&file, large_zip(5_000_000)).unwrap();
    let publish = [
        "module",
        "publish",
        "acme/large/aws",
        "1.0.0",
        file.to_str().unwrap(),
        "--registry-host",
        &work.host,
    ];
    let ran = publisher.run(&program(ADMIN), &publish).await;
    assert_eq!(ran.code, Some(0), "{ran:?}\n{}", function.log());
}
