//! Tests of the life of a version: `deprecate`, `undeprecate`, `unpublish`, `restore` and `show`.

use serde_json::json;

use crate::broker::{Broker, Request, http};
use crate::support::{Machine, Run};

const HOST: &str = "--registry-host registry.example.com";
const VERSION: &str = "/v1/modules/acme/vpc/aws/1.2.0";

/// Answers each change with this status.
fn changing(status: &'static str) -> Broker {
    Broker::new(move |_, _| {
        let body = json!({ "module": "acme/vpc/aws", "version": "1.2.0", "status": status });
        http("200 OK", "", &body.to_string())
    })
}

fn last(broker: &Broker) -> (String, serde_json::Value) {
    let Request { line, body, .. } = broker.requests().pop().unwrap();
    let body = serde_json::from_slice(&body).unwrap_or(serde_json::Value::Null);
    (line.trim_end_matches(" HTTP/1.1").to_owned(), body)
}

fn printed(line: &str) -> Run {
    Run { stdout: format!("{line}\n"), stderr: String::new(), code: 0 }
}

#[test]
fn a_change_that_cannot_be_meant_causes_no_request() {
    let broker = Broker::new(|_, _| panic!("the broker receives no request"));
    let machine = broker.machine();
    for (arguments, expected) in [
        ("deprecate acme/vpc 1.2.0 --reason x", "module address `acme/vpc` must be"),
        ("deprecate acme/vpc/aws v1.2.0 --reason x", "version `v1.2.0` must have the form"),
        ("deprecate acme/vpc/aws 1.2.0", "--reason <TEXT>"),
        ("deprecate acme/vpc/aws 1.2.0 --reason=", "`--reason` must be one line of text"),
        ("deprecate acme/vpc/aws 1.2.0 --reason x --link http://x.example", "must begin with"),
        ("deprecate acme/vpc/aws 1.2.0 --reason x --replacement 1.3", "`--replacement`: version"),
        ("unpublish acme/vpc/aws 1.2.0", "--reason <TEXT>"),
        ("unpublish acme/vpc/aws 1.2.0 --reason x --link https://a@x.example", "contains a user"),
        ("unpublish acme/vpc/aws --reason x", "<VERSION>"),
        ("restore acme/vpc/aws", "<VERSION>"),
        ("undeprecate acme/vpc/aws 1.2.0 --reason x", "'--reason'"),
        ("show acme/vpc", "module address `acme/vpc` must be"),
        ("show acme/vpc/aws 1.2", "version `1.2` must have the form"),
    ] {
        let run = machine.run(&format!("module {arguments} {HOST}"));
        assert_eq!((run.stdout.as_str(), run.code), ("", 2), "{arguments}: {}", run.stderr);
        assert!(run.stderr.contains(expected), "{arguments}: {}", run.stderr);
    }
    assert!(broker.requests().is_empty());
}

#[test]
fn a_refusal_names_the_change_and_has_another_exit_code_than_an_outage() {
    for (status, sentence, code, expected) in [
        (
            "404 Not Found",
            "there is no such version",
            1,
            "error: `acme/vpc/aws` 1.2.0 was not unpublished: there is no such version\n",
        ),
        (
            "403 Forbidden",
            "no `upload` on `acme`; hint: ask",
            1,
            "error: `acme/vpc/aws` 1.2.0 was not unpublished: no `upload` on `acme`; hint: ask\n",
        ),
        (
            "403 Forbidden",
            "no `upload` on `acme`; hint: ask; request id: 64ee87ba88f3e21a",
            1,
            "error: `acme/vpc/aws` 1.2.0 was not unpublished: no `upload` on `acme` (request id: 64ee87ba88f3e21a); hint: ask\n",
        ),
        (
            "503 Service Unavailable",
            "down",
            2,
            "error: `acme/vpc/aws` 1.2.0 was not unpublished: the registry is unavailable: down\n",
        ),
    ] {
        let broker = Broker::new(move |_, _| {
            http(status, "retry-after: 0\r\n", &json!({ "errors": [sentence] }).to_string())
        });
        let run =
            broker.machine().run(&format!("module unpublish acme/vpc/aws 1.2.0 --reason x {HOST}"));
        let stderr = expected.to_owned();
        assert_eq!(run, Run { stdout: String::new(), stderr, code });
    }
}

#[test]
fn a_refusal_as_json_has_the_id_of_the_request_apart() {
    let sentence = "no `upload` on `acme`; hint: ask; request id: 64ee87ba88f3e21a";
    let broker = Broker::new(move |_, _| {
        http("403 Forbidden", "", &json!({ "errors": [sentence] }).to_string())
    });
    let command = format!("module unpublish acme/vpc/aws 1.2.0 --reason x {HOST} --output json");
    let run = broker.machine().run(&command);
    let error: serde_json::Value = serde_json::from_str(&run.stderr).unwrap();
    let expected = json!({
        "error": "refused",
        "message": "`acme/vpc/aws` 1.2.0 was not unpublished: no `upload` on `acme`",
        "hint": "ask",
        "request_id": "64ee87ba88f3e21a",
    });
    assert_eq!((error, run.code), (expected, 1));
}

#[test]
fn each_change_is_one_request_with_what_the_publisher_says() {
    for (arguments, status, line, body) in [
        (
            "deprecate acme/vpc/aws 1.2.0 --reason old",
            "deprecated",
            format!("PUT {VERSION}/deprecation"),
            json!({ "reason": "old" }),
        ),
        (
            "deprecate acme/vpc/aws 1.2.0 --reason old --link https://x.example/a --replacement 1.3.0",
            "deprecated",
            format!("PUT {VERSION}/deprecation"),
            json!({ "reason": "old", "link": "https://x.example/a", "replacement": "1.3.0" }),
        ),
        (
            "undeprecate acme/vpc/aws 1.2.0",
            "undeprecated",
            format!("DELETE {VERSION}/deprecation"),
            json!(null),
        ),
        (
            "unpublish acme/vpc/aws 1.2.0 --reason bad --link https://x.example/a --replacement acme/net/aws",
            "unpublished",
            format!("DELETE {VERSION}"),
            json!({ "reason": "bad", "link": "https://x.example/a", "replacement": "acme/net/aws" }),
        ),
        ("restore acme/vpc/aws 1.2.0", "restored", format!("POST {VERSION}/restore"), json!(null)),
    ] {
        for answer in [status, "unchanged"] {
            let broker = changing(answer);
            let machine = broker.machine();
            let run = machine.run(&format!("module {arguments} {HOST}"));
            assert_eq!(run, printed(&format!("{answer} acme/vpc/aws 1.2.0")), "{arguments}");
            assert_eq!(last(&broker), (line.clone(), body.clone()), "{arguments}");
            let expected =
                json!({ "status": answer, "module": "acme/vpc/aws", "version": "1.2.0" });
            assert_eq!(machine.json(&format!("module {arguments} {HOST}")), expected);
        }
    }
}

/// Returns the answer about a version that a CI job published.
fn detail() -> serde_json::Value {
    json!({
        "id": "acme/vpc/aws/1.2.0", "namespace": "acme", "name": "vpc", "provider": "aws",
        "version": "1.2.0", "published_at": "2026-11-20T10:11:12Z", "source": null,
        "versions": ["1.2.0", "1.1.0"],
        "unpublished": {
            "reason": "it deletes the wrong bucket", "replacement": "1.1.0",
            "unpublished_by": "aws:111122223333:role/deploy", "unpublished_at": "2026-11-21T10:11:12Z",
        },
        "provenance": {
            "published_by": "aws:111122223333:role/deploy", "sha256": "00", "bytes": 512,
            "claimed": { "environment": "github-actions", "commit": "c0\u{1b}[2Jffee" },
        },
    })
}

#[test]
fn a_version_is_shown_with_its_state_and_claims_are_named_as_claimed() {
    let broker = Broker::new(|_, request| match request.line.split(' ').nth(1).unwrap() {
        "/v1/modules/acme/vpc/aws" | VERSION => http("200 OK", "", &detail().to_string()),
        "/v1/modules/acme/list/aws" => http("200 OK", "", "[]"),
        _ => http("404 Not Found", "", r#"{"errors":["there is no such version"]}"#),
    });
    let machine: Machine = broker.machine();
    let expected = "module                acme/vpc/aws\n\
                    version               1.2.0\n\
                    state                 unpublished\n\
                    \x20 reason              it deletes the wrong bucket\n\
                    \x20 use instead         1.1.0\n\
                    \x20 by                  aws:111122223333:role/deploy\n\
                    \x20 at                  <time>\n\
                    published at          <time>\n\
                    published by          aws:111122223333:role/deploy\n\
                    sha256                00\n\
                    bytes                 512\n\
                    environment (claimed) github-actions\n\
                    commit (claimed)      c0 [2Jffee\n\
                    versions              1.2.0\n\
                    \x20                     1.1.0\n";
    for version in ["", "1.2.0"] {
        assert_eq!(machine.done(&format!("module show acme/vpc/aws {version} {HOST}")), expected);
    }
    let json = machine.json(&format!("module show acme/vpc/aws 1.2.0 {HOST}"));
    assert_eq!(json["provenance"]["claimed"]["environment"], "github-actions");
    assert_eq!(json["unpublished"]["replacement"], "1.1.0");

    let absent = machine.run(&format!("module show acme/vpc/aws 9.0.0 {HOST}"));
    let stderr = "error: `acme/vpc/aws` 9.0.0: there is no such version\n".to_owned();
    assert_eq!(absent, Run { stdout: String::new(), stderr, code: 1 });
    let other = machine.run(&format!("module show acme/list/aws {HOST}"));
    assert_eq!((other.stdout.as_str(), other.code), ("", 2), "{}", other.stderr);
}
