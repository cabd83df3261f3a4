//! Proxies of the environment: never for credential endpoints, always for the registry and STS.

use crate::support::{ReceivedRequest, Sandbox, StubBroker, http, now, rfc3339, token_reply};

const GET: [&str; 2] = ["get", "registry.example.com"];
const TOKEN: &str = "{\"token\":\"stile_v4.local.number-0\"}\n";

/// Starts a proxy that records every request and fails it.
fn recording_proxy() -> StubBroker {
    StubBroker::new(|_, _| http("502 Bad Gateway", "", ""))
}

/// Starts an endpoint that returns credentials, as a container and instance metadata do.
fn credential_endpoint() -> StubBroker {
    StubBroker::new(|_, request| {
        let expires_at = rfc3339(now() + chrono::TimeDelta::hours(1));
        let keys = serde_json::json!({
            "Code": "Success", "Type": "AWS-HMAC", "LastUpdated": rfc3339(now()),
            "AccessKeyId": "ASIAIOSFODNN7CONTAIN", "SecretAccessKey": "secret", "Token": "c2Vzc2lvbg==",
            "Expiration": expires_at,
        });
        let body = match request.line.split(' ').nth(1).unwrap() {
            "/latest/api/token" => "metadata-token".to_owned(),
            "/latest/meta-data/iam/security-credentials/"
            | "/latest/meta-data/iam/security-credentials-extended/" => "deploy".to_owned(),
            _ => keys.to_string(),
        };
        http("200 OK", "x-aws-ec2-metadata-token-ttl-seconds: 21600\r\n", &body)
    })
}

/// Each way to name a credential endpoint, and its variables.
fn credential_sources(endpoint: &str) -> [(&'static str, Vec<(&'static str, String)>); 3] {
    let address = format!("{endpoint}/creds");
    let name = address.replace("127.0.0.1", "localhost");
    let pod_token = ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "pod-token".to_owned());
    let container = |url| vec![("AWS_CONTAINER_CREDENTIALS_FULL_URI", url), pod_token.clone()];
    let metadata = vec![
        ("AWS_EC2_METADATA_DISABLED", "false".to_owned()),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint.to_owned()),
    ];
    [
        ("a container endpoint", container(address)),
        ("a container endpoint by name", container(name)),
        ("instance metadata", metadata),
    ]
}

#[test]
fn a_proxy_never_receives_a_request_for_credentials() {
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        let (proxy, endpoint) = (recording_proxy(), credential_endpoint());
        for (source, variables) in credential_sources(&endpoint.url) {
            let broker = StubBroker::granting_every_token();
            let mut sandbox = Sandbox::of(&broker).without_keys().with(name, &proxy.url);
            for (name, value) in &variables {
                sandbox = sandbox.with(name, value);
            }
            sandbox.run(&GET).prints(TOKEN);
            assert_eq!(broker.requests()[0].json()["access_key_id"], "ASIAIOSFODNN7CONTAIN");
            let lines: Vec<_> = proxy.requests().into_iter().map(|it| it.line).collect();
            assert!(lines.is_empty(), "{name}, {source}: {lines:?}");
        }
        let authorized = |request: &ReceivedRequest| {
            request.headers.get("authorization").is_some_and(|value| value == "pod-token")
        };
        assert!(endpoint.requests().iter().any(authorized), "the endpoint got the pod's token");
    }
}

#[test]
fn a_profile_that_uses_a_container_asks_it_without_a_proxy() {
    let (proxy, endpoint) = (recording_proxy(), credential_endpoint());
    let sandbox = Sandbox::new()
        .without_keys()
        .configured("[registry.\"registry.example.com\"]\nurl = \"http://127.0.0.1:9\"\n")
        .with("HTTP_PROXY", &proxy.url)
        .with("AWS_ENDPOINT_URL_STS", "http://sts.invalid")
        .with("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("{}/creds", endpoint.url))
        .with("AWS_CONTAINER_AUTHORIZATION_TOKEN", "pod-token");
    sandbox.write(
        ".aws/config",
        "[default]\nrole_arn = arn:aws:iam::111122223333:role/ci\ncredential_source = EcsContainer\n",
    );
    assert_eq!(sandbox.run(&GET).code, 1);
    assert_eq!(endpoint.requests().len(), 1);
    let requests = proxy.requests();
    assert!(!requests.is_empty(), "the proxy still receives the requests for STS");
    for request in requests {
        assert!(request.line.starts_with("POST http://sts.invalid/ "), "{}", request.line);
        assert!(
            request.headers.get("authorization").is_some_and(|value| value.starts_with("AWS4-"))
        );
    }
}

#[test]
fn a_registry_on_another_machine_is_still_asked_through_the_proxy() {
    for (name, list) in
        [("NO_PROXY", None), ("NO_PROXY", Some("")), ("no_proxy", Some("a.example"))]
    {
        let proxy = StubBroker::new(|_, _| token_reply("stile_v4.local.number-0", 3600));
        let mut sandbox = Sandbox::new()
            .configured("[registry.\"registry.example.com\"]\n")
            .with("HTTPS_PROXY", &proxy.url);
        if let Some(list) = list {
            sandbox = sandbox.with(name, list);
        }
        assert_eq!(sandbox.run(&GET).code, 1);
        let lines: Vec<_> = proxy.requests().into_iter().map(|it| it.line).collect();
        assert_eq!(lines, ["CONNECT registry.example.com:443 HTTP/1.1"], "{name}={list:?}");
    }
}
