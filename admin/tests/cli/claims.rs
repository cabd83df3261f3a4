//! Tests of what a CI job claims about a version, and how the program sends it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::broker::{Broker, Request, http};
use crate::support::Machine;

const PUBLISH: &str = "module publish acme/vpc/aws 1.2.0 vpc --registry-host registry.example.com";

/// Makes a machine in a job of GitHub Actions whose repository has a password.
fn in_github(machine: Machine) -> Machine {
    machine
        .with("GITHUB_ACTIONS", "true")
        .with("GITHUB_SERVER_URL", "https://bob:hunter2@github.example.com")
        .with("GITHUB_REPOSITORY", "acme/vpc")
        .with("GITHUB_SHA", "c0ffee")
        .with("GITHUB_RUN_ID", "42")
}

fn claims() -> Value {
    json!({
        "environment": "github-actions", "repository": "https://github.example.com/acme/vpc",
        "commit": "c0ffee", "run": "https://github.example.com/acme/vpc/actions/runs/42",
    })
}

fn published(sha256: &str) -> String {
    http("201 Created", "", &json!({ "sha256": sha256, "status": "created" }).to_string())
}

#[test]
fn a_job_sends_its_claims_in_a_header_and_a_person_sends_none() {
    let broker = Broker::new(|_, request| published(&hex::encode(Sha256::digest(&request.body))));
    let machine = broker.machine();
    machine.write("vpc/main.tf", "");
    machine.done(PUBLISH);
    assert!(!broker.requests().pop().unwrap().headers.contains_key("stile-claimed"));

    in_github(machine).done(PUBLISH);
    let header = broker.requests().pop().unwrap().headers["stile-claimed"].clone();
    let sent: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    assert_eq!(sent, claims());
    let secrets = |request: &Request| format!("{request:?}").contains("hunter2");
    assert!(!broker.requests().iter().any(secrets));
}

/// Returns the answer to an announcement that selects one request to the registry.
fn direct(request: &Request) -> String {
    let announced: Value = serde_json::from_slice(&request.body).unwrap();
    let body = json!({ "sha256": announced["sha256"], "status": "direct" });
    http("200 OK", "", &body.to_string())
}

fn with_large_module(broker: &Broker) -> Machine {
    let machine = in_github(broker.machine());
    machine.write("vpc/main.tf", "");
    let noise: String =
        (0..24_000_u32).map(|n| hex::encode(Sha256::digest(n.to_be_bytes()))).collect();
    machine.write("vpc/noise.txt", &noise);
    machine
}

fn announcements(broker: &Broker) -> Vec<Value> {
    let requests = broker.requests();
    let found = requests.iter().filter(|request| request.line.contains("/uploads "));
    found.map(|request| serde_json::from_slice(&request.body).unwrap()).collect()
}

#[test]
fn an_announcement_has_the_claims_unless_the_registry_does_not_know_them() {
    let knows = Broker::new(|_, request| match request.line.contains("/uploads ") {
        true => direct(request),
        false => published(&hex::encode(Sha256::digest(&request.body))),
    });
    with_large_module(&knows).done(PUBLISH);
    let announced = announcements(&knows);
    assert_eq!((announced.len(), &announced[0]["claimed"]), (1, &claims()));

    let earlier = Broker::new(|_, request| {
        let is_announcement = request.line.contains("/uploads ");
        match is_announcement && request.body.windows(7).any(|bytes| bytes == b"claimed") {
            true => http("400 Bad Request", "", r#"{"errors":["field `claimed` is not known"]}"#),
            false if is_announcement => direct(request),
            false => published(&hex::encode(Sha256::digest(&request.body))),
        }
    });
    with_large_module(&earlier).done(PUBLISH);
    let announced = announcements(&earlier);
    assert_eq!(announced.len(), 2);
    assert!(announced[0].get("claimed").is_some() && announced[1].get("claimed").is_none());

    let refusing = Broker::new(|_, _| {
        http("400 Bad Request", "", r#"{"errors":["`sha256` must be 64 digits"]}"#)
    });
    let run = with_large_module(&refusing).run(PUBLISH);
    assert_eq!((run.code, announcements(&refusing).len()), (1, 1), "{}", run.stderr);
}
