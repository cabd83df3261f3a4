//! Uses of an applied registry that need more than its API: an archive that goes past the function,
//! and an object of another bucket.

use std::sync::Arc;

use serde_json::json;
use sha2::{Digest as _, Sha256};
use stile_tests::aws::emulated::REGION;
use stile_tests::aws::moto::ACCOUNT;
use stile_tests::aws::source_bucket::SourceBucket;
use stile_tests::broker::served::system_time;
use stile_tests::broker::{deploy, large_zip, module_zip};
use stile_tests::dev_ca::DevCa;
use stile_tests::lambda::Function;
use stile_tests::lambda::function_url::FunctionUrlServer;
use stile_tests::process::home::Home;
use stile_tests::process::programs::{ADMIN, BROKER, free_port, program};

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
