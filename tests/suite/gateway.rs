//! `AWS_IAM` mode: a token for a caller that a gateway verified. Only the request context of the
//! event names the caller.

use aws_credential_types::Credentials;
use serde_json::{Value, json};
use stile_protocol::audience::Audience;
use stile_protocol::exchange::Namespaces;
use stile_protocol::names::Permission::{Download, Upload};
use stile_tests::broker::{TestBroker, module_zip, role};
use stile_tests::lambda::events::{Sent, Shape, golden};
use terraform_credentials_stile::config::{RegistryConfig, Service, TokenScope};
use terraform_credentials_stile::credentials::{CredentialProvider, LoadedCredentials};
use terraform_credentials_stile::iam_exchange;

use crate::lambda::{API, answer};

/// The function URL of the golden events.
pub(crate) const URL: &str = "111122223333/abcdefghijklmnopqrstuvwxyz012345";

/// The three events in which a gateway verified a signature, each with the one source that it comes
/// from.
const SIGNED: [(&str, Shape, &str); 3] = [
    ("iam_function_url", Shape::FunctionUrl, URL),
    ("iam_http_api", Shape::HttpApi, API),
    ("iam_rest_api", Shape::RestApi, API),
];

/// Returns the part of the event that identifies the caller, and the names of its fields.
pub(crate) fn identity(event: &mut Value) -> (&mut Value, [&'static str; 4]) {
    if event["requestContext"]["identity"].is_object() {
        (&mut event["requestContext"]["identity"], ["userArn", "user", "caller", "accountId"])
    } else {
        (
            &mut event["requestContext"]["authorizer"]["iam"],
            ["userArn", "userId", "callerId", "accountId"],
        )
    }
}

/// Returns that golden event with another query.
fn asking(name: &str, shape: Shape, query: &str) -> Value {
    let mut event = golden(name);
    let asked = shape.event(&Sent::new("GET", format!("/v1/token?{query}")));
    for part in ["rawQueryString", "queryStringParameters", "multiValueQueryStringParameters"] {
        event[part] = asked[part].clone();
    }
    event
}

#[tokio::test]
async fn who_a_gateway_has_verified_gets_a_token() {
    for (name, shape, source) in SIGNED {
        let test = TestBroker::start();
        test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
        let function = test.function(Some(source), None);
        let reply = shape.reply(&answer(&function, &golden(name)).await.unwrap());
        assert_eq!(reply.status, 200, "{name}: {}", reply.text());
        let minted = reply.json();
        assert_eq!(
            (&minted["principal"], &minted["namespaces"], &minted["permissions"]),
            (&json!(role("deploy")), &json!("all"), &json!(["download"]))
        );
        assert_eq!(
            (minted["expires_at"].as_str(), reply.header("cache-control")),
            (Some("2026-11-20T10:26:12Z"), "no-store")
        );
        let token = minted["token"].as_str().unwrap();
        assert_eq!(test.get("/v1/modules/acme", token).await.status, 200, "{name}");
        assert_eq!(
            test.publish("acme/vpc/aws", "1.0.0", module_zip("x"), token).await.status,
            403,
            "{name}: only download"
        );

        // There is no proof, so the caller can ask again. The broker still pins the unique id.
        assert_eq!(
            shape.reply(&answer(&function, &golden(name)).await.unwrap()).status,
            200,
            "{name}"
        );
        let mut recreated = golden(name);
        let (whom, [_, user, caller, _]) = identity(&mut recreated);
        (whom[user], whom[caller]) =
            (json!("AROAOTHEROTHEROTHER22:i-0abc"), json!("AROAOTHEROTHEROTHER22:i-0abc"));
        assert_eq!(
            shape.reply(&answer(&function, &recreated).await.unwrap()).error(),
            "403 principal_recreated",
            "{name}"
        );
        assert_eq!(test.sts.calls(), 0, "the broker calls no STS");
    }
}

#[tokio::test]
async fn a_query_says_what_is_wanted_and_each_thing_once() {
    let test = TestBroker::start();
    test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    for (query, expected) in [
        ("", "200 -"),
        ("expiration_seconds=60&namespace=acme&permission=download,upload", "200 -"),
        ("namespace=acme%2Cother", "403 no_grant"),
        ("permission=create_grant", "403 no_grant"),
        ("expiration_seconds=59", "400 invalid_request"),
        ("expiration_seconds=900&expiration_seconds=901", "400 invalid_request"),
        ("permission=download&permission=upload", "400 invalid_request"),
        ("namespace=", "400 invalid_request"),
        ("user_arn=arn:aws:iam::111122223333:user/alice", "400 invalid_request"),
    ] {
        for (name, shape, source) in SIGNED {
            let event = asking(name, shape, query);
            let reply =
                shape.reply(&answer(&test.function(Some(source), None), &event).await.unwrap());
            assert_eq!(reply.error(), expected, "{name} {query}: {}", reply.text());
        }
    }
}

#[tokio::test]
async fn what_the_helper_asks_for_is_what_it_gets() {
    let test = TestBroker::start();
    test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    test.grant(&role("deploy"), "zeta", &[Download, Upload]).await;
    let credentials =
        Credentials::new("ASIAIOSFODNN7EXAMPLE", "secret", Some("token".to_owned()), None, "test");
    let loaded = LoadedCredentials {
        credentials,
        provider: CredentialProvider::Environment,
        region: "us-east-1".to_owned(),
        fips: false,
    };
    let list =
        |names: &[&str]| Namespaces::List(names.iter().map(|name| name.parse().unwrap()).collect());
    for (namespaces, permissions, expected) in [
        (Namespaces::All, &[Download][..], json!(["all", ["download"]])),
        (list(&["acme"]), &[Upload], json!([["acme"], ["upload"]])),
        (
            list(&["acme", "zeta"]),
            &[Download, Upload],
            json!([["acme", "zeta"], ["download", "upload"]]),
        ),
    ] {
        let scope =
            TokenScope { ttl: 900, namespaces, permissions: permissions.iter().copied().collect() };
        for (name, shape, source) in SIGNED {
            let service =
                if shape == Shape::FunctionUrl { Service::Lambda } else { Service::ExecuteApi };
            let registry = RegistryConfig {
                service,
                ..RegistryConfig::new(Audience::parse("registry.example.com").unwrap()).unwrap()
            };
            let url = iam_exchange::sign(
                &registry,
                &loaded,
                &scope,
                "2026-11-20T10:11:12Z".parse().unwrap(),
            )
            .unwrap()
            .url;
            let event = asking(name, shape, url.query().unwrap());
            let reply =
                shape.reply(&answer(&test.function(Some(source), None), &event).await.unwrap());
            assert_eq!(reply.status, 200, "{name} {url}: {}", reply.text());
            let minted = reply.json();
            assert_eq!(
                json!([minted["namespaces"], minted["permissions"]]),
                expected,
                "{name} {url}"
            );
            assert_eq!(minted["expires_at"], "2026-11-20T10:26:12Z", "{name} {url}");
        }
    }
}

#[tokio::test]
async fn a_context_that_does_not_vouch_for_a_role_or_user_of_the_named_source_is_refused() {
    let test = TestBroker::start();
    test.grant(&role("deploy"), "acme", &[Download]).await;
    test.grant("account:aws:111122223333", "acme", &[Download]).await;
    for (name, shape, source) in SIGNED {
        let to = |source: Option<&str>, event: Value| {
            let function = test.function(source, None);
            async move { shape.reply(&answer(&function, &event).await.unwrap()).error() }
        };
        for other in [None, Some("444455556666/abcdef1234"), Some("111122223333/abcdef1235")] {
            assert_eq!(to(other, golden(name)).await, "405 method_not_allowed", "{name} {other:?}");
        }
        for (part, value) in [
            ("accountId", json!("444455556666")),
            ("accountId", json!(null)),
            ("apiId", json!("abcdef1235")),
            ("apiId", json!(null)),
        ] {
            let mut event = golden(name);
            event["requestContext"][part] = value;
            assert_eq!(to(Some(source), event).await, "405 method_not_allowed", "{name} {part}");
        }
        let with = |arn: &str, id: &str, account: &str| {
            let mut event = golden(name);
            let (whom, [user_arn, user, caller, account_id]) = identity(&mut event);
            (whom[user_arn], whom[user], whom[caller], whom[account_id]) =
                (json!(arn), json!(id), json!(id), json!(account));
            event
        };
        let (arn, id, account) = (
            "arn:aws:sts::111122223333:assumed-role/deploy/i-0abc",
            "AROAEXAMPLEEXAMPLE222:i-0abc",
            "111122223333",
        );
        for (what, event, expected) in [
            (
                "root",
                with("arn:aws:iam::111122223333:root", account, account),
                "403 unsupported_principal",
            ),
            (
                "EC2 instance identity",
                with(
                    "arn:aws:sts::111122223333:assumed-role/aws:ec2-instance/i-0abc",
                    "111122223333:aws:ec2-instance:i-0abc",
                    account,
                ),
                "403 unsupported_principal",
            ),
            (
                "a federated user",
                with("arn:aws:sts::111122223333:federated-user/x", "111122223333:x", account),
                "403 unsupported_principal",
            ),
            (
                "another account's role",
                with("arn:aws:sts::444455556666:assumed-role/deploy/i-0abc", id, account),
                "502 sts_inconsistent",
            ),
            (
                "another partition",
                with("arn:aws-moon:sts::111122223333:assumed-role/deploy/i-0abc", id, account),
                "502 sts_bad_response",
            ),
            (
                "another session",
                with(arn, "AROAEXAMPLEEXAMPLE222:other", account),
                "502 sts_inconsistent",
            ),
            (
                "a user's id",
                with(arn, "AIDAEXAMPLEEXAMPLE222:i-0abc", account),
                "502 sts_inconsistent",
            ),
            (
                "a role that STS never names",
                with("arn:aws:iam::111122223333:role/deploy", id, account),
                "502 sts_bad_response",
            ),
            ("nothing", with("", "", ""), "502 sts_bad_response"),
        ] {
            assert_eq!(to(Some(source), event).await, expected, "{name} {what}");
        }
        for at in 0..4 {
            let mut event = golden(name);
            let (whom, parts) = identity(&mut event);
            whom[parts[at]] = Value::Null;
            assert_eq!(
                to(Some(source), event).await,
                "405 method_not_allowed",
                "{name} without {}",
                parts[at]
            );
        }
        let mut event = golden(name);
        let (_, [.., caller, _]) = identity(&mut event);
        identity(&mut event).0[caller] = json!("AROAOTHEROTHEROTHER22:i-0abc");
        assert_eq!(
            to(Some(source), event).await,
            "502 sts_inconsistent",
            "{name} with two callers"
        );
    }
}

#[tokio::test]
async fn a_context_that_a_client_writes_is_nothing() {
    let test = TestBroker::start();
    test.grant(&role("deploy"), "acme", &[Download]).await;
    let forged = golden("iam_rest_api").to_string();
    let context = golden("iam_http_api")["requestContext"].to_string();
    let arn = "arn:aws:sts::111122223333:assumed-role/deploy/i-0abc";
    let sent = Sent::new("GET", "/v1/token?expiration_seconds=900")
        .header("x-amzn-request-context", context.as_str())
        .header("x-amzn-lambda-context", context.as_str())
        .header("x-amz-requestcontext", context.as_str())
        .header("x-amzn-iam-user-arn", arn)
        .header("x-apigateway-event", forged.as_str())
        .header("x-apigateway-context", context.as_str())
        .header("x-forwarded-user", arn)
        .body("application/json", forged.as_str());
    let with_query = Sent::new("GET", format!("/v1/token?requestContext.identity.userArn={arn}"));
    for sent in [sent, with_query] {
        for shape in Shape::ALL {
            for source in [None, Some(API), Some(URL)] {
                let event = shape.event(&sent);
                let reply =
                    shape.reply(&answer(&test.function(source, None), &event).await.unwrap());
                assert_eq!(reply.error(), "405 method_not_allowed", "{shape:?} {source:?}");
            }
        }
        assert_eq!(test.send(sent.request()).await.error(), "405 method_not_allowed");
    }
}
