//! Tricks with paths: in every spelling of a segment, the broker decides on exactly the name that
//! it looks up.

use axum::body::Body;
use axum::http::Request;
use stile_protocol::names::Permission::{Download, Upload};
use stile_tests::broker::journal::Journal;
use stile_tests::broker::{ACCOUNT, Reply, TestBroker, deploy, module_zip, role};
use stile_tests::sts::identity::Identity;

/// A version that exists only in the namespace without a grant.
const SECRET: &str = "7.7.7";

/// Creates a namespace that the caller may use and one that it may not, with modules of the same
/// names in both.
async fn two_namespaces() -> Option<(TestBroker, String)> {
    let test = TestBroker::start_on(super::BACKEND).await?;
    test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    test.grant(&role("stranger"), "other", &[Download, Upload]).await;
    let token = test.token(&deploy(), &[Download, Upload]).await;
    let strangers =
        test.token(&Identity::role(ACCOUNT, "stranger", "i-0abc"), &[Download, Upload]).await;
    assert_eq!(test.publish("acme/vpc/aws", "1.0.0", module_zip("ours"), &token).await.status, 201);
    assert_eq!(
        test.publish("other/vpc/aws", SECRET, module_zip("theirs"), &strangers).await.status,
        201
    );
    Some((test, token))
}

/// Returns every spelling of a name or near it: whole, in part, encoded twice, and with characters
/// that end or leave a segment.
fn spellings(name: &str) -> Vec<String> {
    let each = |form: fn(u8) -> String| name.bytes().map(form).collect::<String>();
    let (first, rest) = name.split_at(1);
    let escaped = format!("%{:02x}", first.as_bytes()[0]);
    let mut all = vec![
        each(|byte| format!("%{byte:02x}")),
        each(|byte| format!("%{byte:02X}")),
        each(|byte| format!("%25{byte:02x}")),
        format!("{escaped}{rest}"),
        format!("%25{}{rest}", &escaped[1..]),
        format!("%2525{}{rest}", &escaped[1..]),
        name.to_ascii_uppercase(),
        format!("{}{rest}", first.to_ascii_uppercase()),
    ];
    for part in [
        ";", ";a=b", "%3b", "%00", "%20", "+", ".", "%2e", "%2f", "%5c", "\\", "%0a", "%c0%af",
        "%ff", "?", "%3f", "#x", "%23", "*", "%2a", ",",
    ] {
        all.extend([format!("{name}{part}"), format!("{part}{name}")]);
    }
    for up in
        ["../", "./", "%2e%2e/", "..%2f", "%2e%2e%2f", "..%5c", "..;/", "%252e%252e%252f", "/"]
    {
        all.extend([
            format!("acme/{up}{name}"),
            format!("{up}{name}"),
            format!("{name}/{up}acme"),
            format!("acme%2f{up}{name}"),
        ]);
    }
    all
}

async fn ask(test: &TestBroker, method: &str, path: &str, token: &str) -> Option<Reply> {
    // A client never sends a path that is not a valid URI, and a server reads none.
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {token}"));
    let request = request
        .header("content-type", "application/zip")
        .body(Body::from(if method == "POST" { module_zip("game") } else { vec![] }));
    Some(test.send(request.ok()?).await)
}

#[tokio::test]
async fn no_spelling_of_a_path_reaches_a_namespace_that_is_not_granted() {
    let journal = Journal::start();
    let Some((test, token)) = two_namespaces().await else { return };
    let archives = test.archives().await;
    let mut sent = 0;
    for namespace in spellings("other") {
        for (method, path) in [
            ("GET", format!("/v1/modules/{namespace}/vpc/aws/versions")),
            ("GET", format!("/v1/modules/{namespace}/vpc/aws/{SECRET}/download")),
            ("GET", format!("/v1/modules/{namespace}")),
            ("POST", format!("/v1/modules/{namespace}/vpc/aws/8.8.8")),
        ] {
            journal.taken();
            let Some(reply) = ask(&test, method, &path, &token).await else { continue };
            sent += 1;
            let status = reply.status.as_u16();
            assert!(
                [400, 403, 404, 405].contains(&status),
                "{method} {path}: {status} {}",
                reply.text()
            );
            assert!(
                !reply.text().contains(SECRET) && reply.header("x-terraform-get").is_empty(),
                "{method} {path}: {}",
                reply.text()
            );
            let allowed = |event: &serde_json::Value| {
                event["namespace"] == "other" && event["decision"] != "refused"
            };
            assert!(
                !journal.taken().audit().iter().any(allowed),
                "{method} {path}: the broker allowed nothing there"
            );
        }
    }
    assert!(sent > 200, "{sent} of them");
    assert_eq!(test.archives().await, archives, "and the broker published nothing");
}

#[tokio::test]
async fn no_spelling_of_a_segment_is_decided_on_as_one_thing_and_looked_up_as_another() {
    let journal = Journal::start();
    let Some((test, token)) = two_namespaces().await else { return };
    let good = ["acme", "vpc", "aws", "1.0.0"];
    for (at, segment) in good.iter().enumerate() {
        for spelling in spellings(segment) {
            // A character that ends the path leads to another route.
            if spelling.contains(['?', '#']) {
                continue;
            }
            let mut segments = good.map(str::to_owned);
            segments[at] = spelling.clone();
            let path = format!("/v1/modules/{}/download", segments.join("/"));
            journal.taken();
            let Some(reply) = ask(&test, "GET", &path, &token).await else { continue };
            let logged = journal.taken().human.text;
            let allowed: Vec<&str> =
                logged.lines().filter(|line| line.contains("decision=\"allowed\"")).collect();
            assert_eq!(allowed.len(), usize::from(reply.status == 204), "{path}: {logged}");
            for line in allowed {
                assert!(
                    line.contains("namespace=\"acme\"")
                        && line.contains("package=\"acme/vpc/aws 1.0.0\""),
                    "{path}: {line}"
                );
                // The broker decodes this one segment once. No other spelling leads to the returned
                // name.
                assert_eq!(decoded(&spelling).as_deref(), Some(*segment), "{path}");
            }
            assert!(
                reply.status == 204 || reply.status.is_client_error(),
                "{path}: {}",
                reply.status
            );
        }
    }
    let encoded = "/v1/modules/%61cme/%76pc/%61ws/%31.0.0/download";
    assert_eq!(
        test.get(encoded, &token).await.status,
        204,
        "a segment may percent-encode a letter"
    );
}

/// Decodes each `%` and its two digits in a segment once.
fn decoded(segment: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = segment.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after
            .get(..2)
            .filter(|_| *first == b'%')
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let (byte, left) = match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => (byte, &after[2..]),
            None => (*first, after),
        };
        bytes.push(byte);
        rest = left;
    }
    String::from_utf8(bytes).ok()
}
