//! The authorizer in front of another registry: its answers to golden events of its three kinds.

use serde_json::{Value, json};
use stile_broker::http::lambda::EventError;
use stile_tests::broker::journal::Journal;
use stile_tests::broker::role;
use stile_tests::lambda::events::golden;

use crate::lambda::{answer, registry};

fn asked(name: &str, token: &str) -> Value {
    serde_json::from_str(
        &golden(name).to_string().replace("Bearer TOKEN", &format!("Bearer {token}")),
    )
    .unwrap()
}

fn with_header(mut event: Value, token: &str) -> Value {
    event["headers"]["Authorization"] = format!("Bearer {token}").into();
    event["multiValueHeaders"]["Authorization"] = json!([format!("Bearer {token}")]);
    event
}

/// Replaces method and path in every place of the event that has them.
fn about(mut event: Value, method: &str, path: &str) -> Value {
    for arn in ["methodArn", "routeArn"] {
        if let Some(text) = event[arn].as_str() {
            let start: Vec<_> = text.split('/').take(2).collect();
            event[arn] = format!("{}/{method}{path}", start.join("/")).into();
        }
    }
    for (pointer, value) in [
        ("/path", path),
        ("/rawPath", path),
        ("/httpMethod", method),
        ("/requestContext/httpMethod", method),
        ("/requestContext/http/path", path),
        ("/requestContext/http/method", method),
    ] {
        if let Some(place) = event.pointer_mut(pointer) {
            *place = value.into();
        }
    }
    event
}

const GOLDEN: [&str; 3] = ["authorizer_token", "authorizer_request_v1", "authorizer_request_v2"];

pub(crate) fn question(name: &str, token: &str) -> Value {
    if name == "authorizer_request_v1" {
        with_header(golden(name), token)
    } else {
        asked(name, token)
    }
}

/// Describes an answer briefly: its effect, and the resource.
fn decided(answer: &Result<Value, EventError>) -> String {
    match answer {
        Err(failure) => failure.to_string(),
        Ok(answer) if answer["policyDocument"].is_object() => {
            let statements = answer["policyDocument"]["Statement"].as_array().unwrap();
            assert_eq!(
                (statements.len(), &statements[0]["Action"]),
                (1, &json!("execute-api:Invoke"))
            );
            assert!(!answer["principalId"].as_str().unwrap().is_empty());
            format!(
                "{} {}",
                statements[0]["Effect"].as_str().unwrap(),
                statements[0]["Resource"].as_str().unwrap()
            )
        }
        Ok(answer) => format!("isAuthorized: {}", answer["isAuthorized"]),
    }
}

#[tokio::test]
async fn an_authorizer_allows_what_the_token_may_and_names_the_one_request() {
    let (test, token) = registry().await;
    let function = test.function(None, Some("/terraform"));
    for name in GOLDEN {
        for (method, path, allowed) in [
            ("GET", "/terraform/v1/modules/acme/vpc/aws/versions", true),
            ("HEAD", "/terraform/v1/providers/acme/x/versions", true),
            ("GET", "/terraform/v1/modules/acme/vpc/aws/1.0.0+b/download", true),
            ("POST", "/terraform/v1/modules/acme/vpc/aws/1.0.0", true),
            ("DELETE", "/terraform/v1/modules/acme/vpc/aws/1.0.0", true),
            ("GET", "/terraform/v1/modules/other/vpc/aws/versions", false),
            ("POST", "/terraform/v1/modules/other/vpc/aws/1.0.0", false),
            ("OPTIONS", "/terraform/v1/modules/acme/vpc/aws/versions", false),
            ("GET", "/terraform/v1/token", false),
            ("GET", "/v1/modules/acme/vpc/aws/versions", false),
        ] {
            let event = about(question(name, &token), method, path);
            let outcome = answer(&function, &event).await;
            let arn = event["methodArn"].as_str().or(event["routeArn"].as_str()).unwrap();
            let expected = match (name, allowed) {
                ("authorizer_request_v2", _) => format!("isAuthorized: {allowed}"),
                (_, true) => format!("Allow {arn}"),
                (_, false) => format!("Deny {arn}"),
            };
            assert_eq!(decided(&outcome), expected, "{name} {method} {path}");
            let permission =
                if method == "GET" || method == "HEAD" { "download" } else { "upload" };
            let context =
                json!({"principal": role("deploy"), "namespace": "acme", "permission": permission});
            assert_eq!(outcome.unwrap()["context"], if allowed { context } else { Value::Null });
        }
    }
}

#[tokio::test]
async fn an_authorizer_refuses_what_it_cannot_vouch_for() {
    let (test, token) = registry().await;
    let function = test.function(None, Some("/terraform"));
    let refused = |name: &str| {
        if name == "authorizer_request_v2" { "isAuthorized: false" } else { "Unauthorized" }
    };
    for name in GOLDEN {
        for path in ["*", "a?b", "a%2Fb", "acme/../other", "${aws:username}", "acme//vpc", "acme/"]
        {
            let event =
                about(question(name, &token), "GET", &format!("/terraform/v1/modules/{path}"));
            assert_eq!(decided(&answer(&function, &event).await), refused(name), "{name} {path}");
        }
        for bad in ["garbage", "", &format!("{token}, Bearer {token}")] {
            assert_eq!(
                decided(&answer(&function, &question(name, bad)).await),
                refused(name),
                "{name} {bad}"
            );
        }
        assert_eq!(
            decided(&answer(&test.function(None, None), &question(name, &token)).await),
            "Unauthorized",
            "{name}: the authorizer is off"
        );
        for arn in ["methodArn", "routeArn"] {
            let mut event = question(name, &token);
            if event[arn].is_null() {
                continue;
            }
            for other in [
                json!(null),
                json!("*"),
                json!("arn:aws:execute-api:us-east-1:111122223333:abcdef1234/prod/GET/*"),
            ] {
                event[arn] = other;
                assert_eq!(
                    decided(&answer(&function, &event).await),
                    refused(name),
                    "{name} {}",
                    event[arn]
                );
            }
        }
    }
    for (name, pointer, other) in [
        ("authorizer_request_v1", "/path", "/terraform/v1/modules/other/vpc/aws/versions"),
        ("authorizer_request_v1", "/httpMethod", "POST"),
        ("authorizer_request_v1", "/requestContext/httpMethod", "POST"),
        ("authorizer_request_v1", "/requestContext/apiId", "zyxwvu9876"),
        ("authorizer_request_v1", "/requestContext/accountId", "444455556666"),
        ("authorizer_request_v1", "/requestContext/stage", "test"),
        ("authorizer_request_v2", "/rawPath", "/terraform/v1/modules/other/vpc/aws/versions"),
        ("authorizer_request_v2", "/requestContext/http/method", "POST"),
        ("authorizer_request_v2", "/requestContext/apiId", "zyxwvu9876"),
        ("authorizer_request_v2", "/requestContext/accountId", "444455556666"),
        ("authorizer_request_v2", "/requestContext/stage", "test"),
    ] {
        let mut event = question(name, &token);
        *event.pointer_mut(pointer).unwrap() = other.into();
        assert_eq!(decided(&answer(&function, &event).await), refused(name), "{name} {pointer}");
    }
    let mut twins = question("authorizer_request_v1", &token);
    twins["multiValueHeaders"]["Authorization"] =
        json!([format!("Bearer {token}"), format!("Bearer {token}")]);
    assert_eq!(decided(&answer(&function, &twins).await), "Unauthorized");
}

#[tokio::test]
async fn every_answer_of_an_authorizer_has_one_event() {
    let journal = Journal::start();
    let (test, token) = registry().await;
    let function = test.function(None, Some("/terraform"));
    let vpc = "/terraform/v1/modules/acme/vpc/aws/versions";
    let other = "/terraform/v1/modules/other/vpc/aws/versions";
    let principal = role("deploy");
    for name in GOLDEN {
        for (event, expected) in [
            (about(question(name, &token), "GET", vpc), ("allowed", None, Some(&principal))),
            (
                about(question(name, &token), "GET", other),
                ("refused", Some("no_grant"), Some(&principal)),
            ),
            (
                about(question(name, &token), "OPTIONS", vpc),
                ("refused", Some("no_grant"), Some(&principal)),
            ),
            (about(question(name, "garbage"), "GET", vpc), ("refused", Some("unauthorized"), None)),
            (
                about(question(name, &token), "GET", "/terraform/v1/modules/*"),
                ("refused", Some("invalid_request"), None),
            ),
        ] {
            journal.taken();
            let _ = answer(&function, &event).await;
            let events = journal.taken().audit();
            let seen: Vec<_> = events
                .iter()
                .map(|event| {
                    assert_eq!(event["event"], "authorize");
                    let text = |field: &str| event[field].as_str();
                    (text("decision").unwrap(), text("code"), text("principal"))
                })
                .collect();
            let (decision, code, principal) = expected;
            assert_eq!(seen, [(decision, code, principal.map(String::as_str))], "{name} {event}");
        }
    }
}
