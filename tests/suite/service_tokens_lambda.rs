//! Service tokens behind the four gateways of a function, and in the questions of an authorizer.

use serde_json::{Value, json};
use stile_broker::http::lambda::{EventError, Function};
use stile_protocol::names::Permission::Download;
use stile_tests::broker::TestBroker;
use stile_tests::lambda::events::{Sent, Shape};

use crate::authorizer::question;
use crate::lambda::{answer, registry};

/// A network with the address of the client in the golden events.
const SOURCE: &str = "203.0.113.0/24";

const VERSIONS: &str = "/v1/modules/acme/vpc/aws/versions";

async fn status(function: &Function, shape: Shape, token: &str) -> u16 {
    let event = shape.event(&Sent::new("GET", VERSIONS).bearer(token));
    let answer = answer(function, &event).await.unwrap();
    shape.reply(&answer).status.as_u16()
}

/// Returns the tokens of one registry: for everywhere, for a network, and a revoked one.
async fn issued(test: &TestBroker, network: &str) -> [String; 3] {
    let anywhere = test.issue("renovate", &["acme"], &[Download]).await;
    let here =
        test.issue_with(test.terms("renovate", &["acme"], &[Download], &[network], 60)).await;
    let revoked = test.issue("renovate", &["acme"], &[Download]).await;
    assert!(test.revoke_service_token(&revoked.id).await);
    [anywhere.token, here.token, revoked.token]
}

#[tokio::test]
async fn events_of_all_four_shapes_take_service_tokens_and_name_addresses_where_they_are_true() {
    let (test, _) = registry().await;
    let function = test.function(None, None);
    let [anywhere, elsewhere, revoked] = issued(&test, "198.18.0.0/15").await;
    for shape in Shape::ALL {
        let [_, here, _] = issued(&test, SOURCE).await;
        for (token, expected) in [(&revoked, 401), (&elsewhere, 401), (&anywhere, 200)] {
            assert_eq!(status(&function, shape, token).await, expected, "{shape:?}");
        }
        // What a load balancer says of the client depends on how it is set up.
        let knows = shape != Shape::LoadBalancer;
        let expected = if knows { 200 } else { 401 };
        assert_eq!(status(&function, shape, &here).await, expected, "{shape:?}");
    }
}

/// Describes an answer of an authorizer.
fn allowed(answer: &Result<Value, EventError>) -> bool {
    match answer {
        Err(_) => false,
        Ok(answer) if answer["policyDocument"].is_object() => {
            answer["policyDocument"]["Statement"][0]["Effect"] == "Allow"
        }
        Ok(answer) => answer["isAuthorized"] == true,
    }
}

#[tokio::test]
async fn an_authorizer_takes_service_tokens() {
    let (test, _) = registry().await;
    let function = test.function(None, Some("/terraform"));
    let [anywhere, elsewhere, revoked] = issued(&test, "198.18.0.0/15").await;
    for name in ["authorizer_token", "authorizer_request_v1", "authorizer_request_v2"] {
        for (token, expected) in [(&revoked, false), (&elsewhere, false), (&anywhere, true)] {
            let answer = answer(&function, &question(name, token)).await;
            assert_eq!(allowed(&answer), expected, "{name} {answer:?}");
        }
        let answer = answer(&function, &question(name, &anywhere)).await.unwrap();
        assert_eq!(answer["context"]["principal"], json!("service:renovate"));
    }
}
