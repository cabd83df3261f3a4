//! Tests of `provider publish` when the bucket or the registry fails on the way.

use std::sync::{Arc, Mutex};

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::broker::{Broker, http};
use crate::provider_publish::{publish, signed_with};
use crate::provider_registry::{State, dist, registry, zip, zip_name};
use crate::support::Machine;

/// Returns the answer of a bucket with this code.
fn bucket(status: &str, code: &str) -> String {
    http(status, "", &format!("<Error><Code>{code}</Code></Error>"))
}

/// Starts a registry with a bucket, and a machine with two archives.
fn with_bucket() -> (Arc<Mutex<State>>, Broker, Machine) {
    let state = Arc::new(Mutex::new(State { to_bucket: true, ..State::default() }));
    let broker = registry(&state);
    let machine = broker.machine();
    dist(&machine, "dist", &["darwin_arm64", "linux_amd64"]);
    (state, broker, machine)
}

/// Returns how many requests have the text in their line.
fn count(broker: &Broker, text: &str) -> usize {
    broker.requests().iter().filter(|request| request.line.contains(text)).count()
}

fn command() -> String {
    publish("dist", &format!("--jobs 1 {}", signed_with("other.asc")))
}

#[test]
fn a_bucket_that_denies_each_archive_is_an_error_without_the_signature() {
    let (state, broker, machine) = with_bucket();
    let denied = bucket("403 Forbidden", "AccessDenied");
    state.lock().unwrap().first = vec![("PUT /bucket/", denied); 40];
    let run = machine.run(&command());
    let sentence =
        "rejected the archive: `AccessDenied` (403 Forbidden); hint: run the same command";
    assert!(run.code == 1 && run.stderr.contains(sentence), "{}", run.stderr);
    assert!(!run.stderr.contains("secret"), "{}", run.stderr);
    assert_eq!(count(&broker, "PUT /bucket/"), 6, "two archives, three times");
}

#[test]
fn a_bucket_that_refuses_the_bytes_is_asked_once() {
    let (state, broker, machine) = with_bucket();
    let refused = bucket("400 Bad Request", "BadDigest");
    state.lock().unwrap().first = vec![("PUT /bucket/", refused); 40];
    let run = machine.run(&command());
    let sentence = "rejected the archive: `BadDigest` (400 Bad Request)";
    assert!(run.code == 1 && run.stderr.contains(sentence), "{}", run.stderr);
    assert_eq!(count(&broker, "PUT /bucket/"), 1);
}

#[test]
fn a_bucket_that_fails_once_does_not_end_the_publish() {
    let (state, broker, machine) = with_bucket();
    let sha256 = hex::encode(Sha256::digest(zip("linux_amd64")));
    let name = zip_name("linux_amd64");
    let verified = json!({ "name": name, "sha256": sha256, "status": "verified" });
    state.lock().unwrap().first = vec![
        ("PUT /bucket/", bucket("503 Service Unavailable", "SlowDown")),
        // The archive arrived, and the answer did not. The bucket accepts no second one.
        ("linux_amd64.zip?", String::new()),
        ("linux_amd64.zip?", bucket("412 Precondition Failed", "PreconditionFailed")),
        ("linux_amd64.zip HTTP", http("200 OK", "", &verified.to_string())),
    ];
    let run = machine.run(&command());
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    assert_eq!(count(&broker, "darwin_arm64.zip?"), 2);
    assert_eq!(count(&broker, "linux_amd64.zip?"), 2);
}

#[test]
fn an_address_of_the_bucket_that_expired_begins_the_upload_again() {
    let (state, broker, machine) = with_bucket();
    state.lock().unwrap().first = vec![
        ("PUT /bucket/", bucket("403 Forbidden", "AccessDenied")),
        ("linux_amd64.zip?", bucket("400 Bad Request", "ExpiredToken")),
    ];
    let json = machine.json(&command());
    assert_eq!(json["status"], "published");
    assert_eq!(count(&broker, "/uploads HTTP"), 2);
    assert_eq!(count(&broker, "PUT /bucket/"), 4);
}

#[test]
fn a_lost_answer_to_the_completion_is_no_unchanged_version() {
    let state = Arc::new(Mutex::new(State { loses_completion: true, ..State::default() }));
    let broker = registry(&state);
    let machine = broker.machine();
    let key = signed_with("other.asc");
    dist(&machine, "one", &["linux_amd64"]);
    dist(&machine, "two", &["darwin_arm64"]);
    assert_eq!(machine.json(&publish("one", &key))["status"], "published");
    assert_eq!(machine.json(&publish("one", &key))["status"], "unchanged");
    state.lock().unwrap().loses_completion = true;
    assert_eq!(machine.json(&publish("two", &key))["status"], "changed");
    assert_eq!(machine.json(&publish("two", &key))["status"], "unchanged");
}
