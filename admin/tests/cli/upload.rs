//! Tests of uploads to the bucket: the requests, and the errors.

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::broker::{Broker, Request, http};
use crate::support::Machine;

const PUBLISH: &str = "module publish acme/vpc/aws 1.2.0 vpc --registry-host registry.example.com";
const ID: &str = "0123456789abcdef0123456789abcdef";

/// Creates a module with incompressible content, so that its archive does not fit into every event.
fn with_large_module(broker: &Broker) -> Machine {
    let machine = broker.machine();
    machine.write("vpc/main.tf", "resource \"null_resource\" \"a\" {}\n");
    let noise: String =
        (0..24_000_u32).map(|n| hex::encode(Sha256::digest(n.to_be_bytes()))).collect();
    machine.write("vpc/noise.txt", &noise);
    machine
}

/// Returns the URL of this server.
fn own_url(request: &Request) -> String {
    format!("http://{}", request.headers["host"])
}

fn announced(request: &Request) -> serde_json::Value {
    serde_json::from_slice(&request.body).unwrap()
}

fn upload_started(url: &str, bytes: &serde_json::Value) -> String {
    let headers = json!({"content-length": bytes.to_string(), "content-type": "application/zip", "x-amz-checksum-sha256": "abc="});
    let body =
        json!({"upload": ID, "url": url, "headers": headers, "expires_at": "2999-01-01T00:00:00Z"});
    http("201 Created", "", &body.to_string())
}

fn published(outcome: &str, sha256: &serde_json::Value) -> String {
    let body =
        json!({"module": "acme/vpc/aws", "version": "1.2.0", "sha256": sha256, "status": outcome});
    http("200 OK", "", &body.to_string())
}

/// Starts a registry that is also the bucket. `put` is the response of the bucket.
fn registry(put: &'static str) -> Broker {
    let digest = std::sync::Mutex::new(serde_json::Value::Null);
    Broker::new(move |_, request| match request.line.split(' ').take(2).collect::<Vec<_>>()[..] {
        ["POST", "/v1/modules/acme/vpc/aws/1.2.0/uploads"] => {
            digest.lock().unwrap().clone_from(&announced(request)["sha256"]);
            upload_started(
                &format!("{}/bucket/uploads/{ID}?X-Amz-Signature=secret", own_url(request)),
                &announced(request)["bytes"],
            )
        }
        ["PUT", _] => put.to_owned(),
        ["POST", path] if path.ends_with(ID) => published("created", &digest.lock().unwrap()),
        _ => http("404 Not Found", "", r#"{"errors":["there is no such route"]}"#),
    })
}

#[test]
fn a_proxy_that_is_dead_is_named_and_not_the_bucket_or_the_registry() {
    let broker = Broker::new(move |_, request| match request.line.contains("/uploads ") {
        true => upload_started(
            &format!("https://bucket.example.com/uploads/{ID}?X-Amz-Signature=secret"),
            &announced(request)["bytes"],
        ),
        false => http("404 Not Found", "", "{}"),
    });
    let machine = with_large_module(&broker).with("HTTPS_PROXY", "http://bob:hunter2@127.0.0.1:9");
    let run = machine.run(PUBLISH);
    assert_eq!((run.stdout.as_str(), run.code), ("", 2), "{}", run.stderr);
    let url = format!("https://bucket.example.com/uploads/{ID}");
    let start = format!(
        "error: `acme/vpc/aws` 1.2.0 was not published: cannot reach `{url}` through the proxy `http://127.0.0.1:9` of `HTTPS_PROXY`: \
         the proxy does not answer: Connection refused"
    );
    assert!(run.stderr.starts_with(&start), "{}", run.stderr);
    let hint = "; hint: correct that variable, or add the host of the URL to `NO_PROXY` if no proxy is needed\n";
    assert!(run.stderr.ends_with(hint), "{}", run.stderr);
    for secret in ["bob", "hunter2", "X-Amz-Signature", "number-0"] {
        assert!(!run.stderr.contains(secret), "{}", run.stderr);
    }
}

#[test]
fn a_large_archive_goes_to_the_given_url_with_the_given_headers_and_without_the_token() {
    let broker = registry("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let machine = with_large_module(&broker);
    let run = machine.run(PUBLISH);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let requests = broker.requests();
    let lines: Vec<&str> =
        requests.iter().map(|request| request.line.trim_end_matches(" HTTP/1.1")).collect();
    let version = "/v1/modules/acme/vpc/aws/1.2.0";
    let put = format!("PUT /bucket/uploads/{ID}?X-Amz-Signature=secret");
    assert_eq!(
        lines,
        [
            "POST /v1/token",
            &format!("POST {version}/uploads"),
            &put,
            &format!("POST {version}/uploads/{ID}")
        ]
    );

    let (announced, put) = (announced(&requests[1]), &requests[2]);
    assert!(put.body.len() > 700_000, "{} bytes", put.body.len());
    let expected = json!({"format": "zip", "bytes": put.body.len(), "sha256": hex::encode(Sha256::digest(&put.body))});
    assert_eq!(announced, expected);
    let mut headers: Vec<(&str, &str)> =
        put.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    headers.retain(|(name, _)| !["accept", "host", "user-agent"].contains(name));
    headers.sort_unstable();
    let bytes = put.body.len().to_string();
    assert_eq!(
        headers,
        [
            ("content-length", bytes.as_str()),
            ("content-type", "application/zip"),
            ("x-amz-checksum-sha256", "abc=")
        ]
    );
    let line =
        format!("published acme/vpc/aws 1.2.0 (sha256:{})", expected["sha256"].as_str().unwrap());
    assert_eq!(run.stdout.lines().next(), Some(line.as_str()));
}

#[test]
fn the_registry_can_select_a_direct_upload_or_report_a_published_version() {
    let direct = Broker::new(|_, request| match request.line.contains("/uploads ") {
        true => published("direct", &announced(request)["sha256"]),
        false => published("created", &json!(hex::encode(Sha256::digest(&request.body)))),
    });
    assert!(with_large_module(&direct).done(PUBLISH).starts_with("published acme/vpc/aws 1.2.0 "));
    assert_eq!(
        direct.requests().last().unwrap().line,
        "POST /v1/modules/acme/vpc/aws/1.2.0 HTTP/1.1"
    );

    let there = Broker::new(|_, request| published("unchanged", &announced(request)["sha256"]));
    assert!(with_large_module(&there).done(PUBLISH).starts_with("unchanged acme/vpc/aws 1.2.0 "));
    assert_eq!(there.requests().len(), 2, "one token request, and one announcement");
}

#[test]
fn an_error_of_the_bucket_is_one_line_with_its_code_and_a_hint() {
    let error = |status: &str, code: &str| {
        let body = format!(
            "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>of X-Amz-Signature=secret</Message></Error>"
        );
        http(status, "", &body)
    };
    for (answer, code, expected) in [
        (
            error("403 Forbidden", "AccessDenied"),
            1,
            "`127.0.0.1` rejected the archive: `AccessDenied` (403 Forbidden); hint: run the",
        ),
        (
            error("400 Bad Request", "BadDigest"),
            1,
            "`127.0.0.1` rejected the archive: `BadDigest` (400 Bad Request); hint: run the",
        ),
        (
            error("503 Slow Down", "SlowDown"),
            2,
            "rejected the archive: `SlowDown` (503 Service Unavailable); hint: run the same",
        ),
        (
            http("302 Found", "location: https://evil.example/\r\n", ""),
            2,
            "responded with a redirect (302 Found)",
        ),
        (String::new(), 2, "cannot reach `"),
    ] {
        let broker = registry(Box::leak(answer.into_boxed_str()));
        let run = with_large_module(&broker).run(PUBLISH);
        assert_eq!((run.stdout.as_str(), run.code), ("", code), "{expected}: {}", run.stderr);
        assert!(
            run.stderr.starts_with("error: `acme/vpc/aws` 1.2.0 was not published: "),
            "{}",
            run.stderr
        );
        assert!(
            run.stderr.contains(expected) && run.stderr.lines().count() == 1,
            "{expected}: {}",
            run.stderr
        );
        assert!(!run.stderr.contains("secret"), "{}", run.stderr);
        assert!(
            !broker
                .requests()
                .iter()
                .any(|request| request.line.contains(&format!("uploads/{ID} "))),
            "the program does not complete the upload"
        );
    }
}

#[test]
fn an_unsafe_or_inconsistent_upload_url_is_rejected() {
    for (url, bytes, expected) in [
        (
            "http://bucket.s3.amazonaws.com/uploads/x",
            None,
            "is neither an `https` URL nor a loopback address",
        ),
        ("ftp://127.0.0.1/uploads/x", None, "is neither an `https` URL nor a loopback address"),
        ("uploads/x", None, "the registry responded with an invalid upload URL"),
        (
            "https://bucket.s3.amazonaws.com/uploads/x",
            Some(json!(7)),
            "the registry expects 7 bytes, but the archive has",
        ),
    ] {
        let broker = Broker::new(move |_, request| {
            upload_started(url, bytes.as_ref().unwrap_or(&announced(request)["bytes"]))
        });
        let run = with_large_module(&broker).run(PUBLISH);
        assert_eq!((run.stdout.as_str(), run.code), ("", 2), "{url}: {}", run.stderr);
        assert!(run.stderr.contains(expected), "{url}: {}", run.stderr);
        assert_eq!(broker.requests().len(), 2, "{url}");
    }
}
