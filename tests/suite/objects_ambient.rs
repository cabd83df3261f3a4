//! A broker with a data folder in its own process reads objects of buckets with the AWS credentials of
//! its machine, and needs none for everything else.

use serde_json::json;
use sha2::{Digest as _, Sha256};
use stile_tests::aws::emulated::EmulatedAws;
use stile_tests::aws::source_bucket::SourceBucket;
use stile_tests::broker::operator::AsOperator as _;
use stile_tests::broker::served::system_time;
use stile_tests::broker::{embedded, module_zip};
use stile_tests::process::programs::client;
use stile_tests::terraform::as_fetched;
use stile_tests::time_limits;

use crate::faults_on_disk::Running;

/// Starts a broker whose environment has these variables of the AWS SDK. It allows the objects of the
/// bucket for `acme`.
async fn running(variables: &[(&str, String)], bucket: &SourceBucket) -> Running {
    let variables = variables.iter().map(|(name, value)| format!("{name}={value}"));
    let words: Vec<String> = std::iter::once("/usr/bin/env".to_owned()).chain(variables).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let running = Running::start(&words).await;
    let store = embedded(&running.data(), time_limits::embedded());
    let (prefix, now) = (bucket.address("own"), system_time());
    store.as_operator().allow_objects("acme", &[&prefix], now).await.unwrap();
    running
}

/// Publishes an object as `acme/vpc/aws` 2.0.0, and returns the status.
async fn publish(running: &Running, object: &str, archive: &[u8]) -> u16 {
    let body = json!({ "object": object, "sha256": hex::encode(Sha256::digest(archive)) });
    let request = client(None)
        .post(running.broker.url("/v1/modules/acme/vpc/aws/2.0.0"))
        .bearer_auth(&running.token)
        .header("content-type", "application/json");
    request.body(body.to_string()).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_broker_with_a_folder_uses_the_credentials_of_its_machine_only_for_objects() {
    let Some(aws) = EmulatedAws::start_empty() else { return };
    let bucket = SourceBucket::create(&aws, "own", true).await;
    let archive = module_zip("own");
    bucket.put("own/vpc.zip", archive.clone()).await;
    aws.proxy.take_counts();
    let object = bucket.address("own/vpc.zip");
    let mut variables = aws.environment();
    variables.retain(|(name, _)| name.starts_with("AWS_"));

    let with = running(&variables, &bucket).await;
    assert!(aws.proxy.take_counts().is_empty(), "an archive needs no AWS");
    assert_eq!(publish(&with, &object, &archive).await, 201, "{}", with.broker.log());
    let (status, link) = with.get("/v1/modules/acme/vpc/aws/2.0.0/download").await;
    assert_eq!(status, 204, "{}", with.broker.log());
    let fetched = client(None).get(as_fetched(&link)).send().await.unwrap();
    assert_eq!(fetched.bytes().await.unwrap().to_vec(), archive);

    variables.retain(|(name, _)| !["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].contains(name));
    variables.push(("AWS_EC2_METADATA_DISABLED", "true".to_owned()));
    let without = running(&variables, &bucket).await;
    assert_eq!(publish(&without, &object, &archive).await, 500, "{}", without.broker.log());
    without.broker.logs("AWS credentials").await;
    let status = without.publish("3.0.0", module_zip("x")).await;
    assert_eq!(status, 201, "{}", without.broker.log());
}
