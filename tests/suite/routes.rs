//! Every route in every credential state, as one table that a person can read. A route that is not in it fails the suite.

use axum::body::Body;
use axum::http::Request;
use stile_protocol::names::Permission::{CreateGrant, DeleteGrant, Download, Upload};
use stile_tests::identity::Identity;
use stile_tests::test_broker::{TestBroker, deploy, module_zip, role};

/// One request a route; the paths are those of the router with their parameters filled in.
const ROUTES: [(&str, &str, &str); 14] = [
    ("GET", "/.well-known/terraform.json", "/.well-known/terraform.json"),
    ("GET", "/healthz", "/healthz"),
    ("GET", "/readyz", "/readyz"),
    ("POST", "/v1/token", "/v1/token"),
    ("GET", "/v1/token", "/v1/token"),
    ("GET", "/v1/whoami", "/v1/whoami"),
    ("GET", "/v1/modules", "/v1/modules"),
    ("GET", "/v1/modules/{namespace}", "/v1/modules/acme"),
    ("GET", "/v1/modules/{namespace}/{name}/{system}/versions", "/v1/modules/acme/vpc/aws/versions"),
    ("GET", "/v1/modules/{namespace}/{name}/{system}/{version}/download", "/v1/modules/acme/vpc/aws/1.0.0/download"),
    ("POST", "/v1/modules/{namespace}/{name}/{system}/{version}", "/v1/modules/acme/vpc/aws/1.0.0"),
    ("POST", "/v1/modules/{namespace}/{name}/{system}/{version}/uploads", "/v1/modules/acme/vpc/aws/1.0.0/uploads"),
    (
        "POST",
        "/v1/modules/{namespace}/{name}/{system}/{version}/uploads/{upload}",
        "/v1/modules/acme/vpc/aws/1.0.0/uploads/00000000000000000000000000000000",
    ),
    ("GET", "/v1/archives/{file}", "/v1/archives/0000.zip"),
];

#[tokio::test]
async fn every_route_answers_every_credential_state_as_written_here() {
    let test = TestBroker::start();
    let named = |name: &str| Identity::role("111122223333", name, "i-0abc");
    test.grant(&role("deploy"), "acme", &[CreateGrant, DeleteGrant, Download, Upload]).await;
    test.grant(&role("elsewhere"), "other", &[CreateGrant, DeleteGrant, Download, Upload]).await;
    test.grant(&role("revoked"), "acme", &[Download]).await;
    let all = test.token(&deploy(), &[CreateGrant, DeleteGrant, Download, Upload]).await;
    assert_eq!(test.publish("acme/vpc/aws", "1.0.0", module_zip("x"), &all).await.status, 201);

    let mut states = vec![("none", None), ("malformed", Some("nonsense".to_owned()))];
    let expired = test.token_for(&deploy(), stile_protocol::exchange::Namespaces::All, &[Download], 60).await;
    test.advance(61);
    states.push(("expired", Some(expired)));
    let foreign = TestBroker::start();
    foreign.grant(&role("deploy"), "acme", &[Download]).await;
    states.push(("foreign key", Some(foreign.token(&deploy(), &[Download]).await)));
    let revoked = test.token(&named("revoked"), &[Download]).await;
    test.store().revoke_principal(named_principal("revoked"), test.time()).await.unwrap();
    states.push(("revoked", Some(revoked)));
    let elsewhere = test.token(&named("elsewhere"), &[CreateGrant, DeleteGrant, Download, Upload]).await;
    states.push(("no grant", Some(elsewhere)));
    for permission in [CreateGrant, DeleteGrant, Download, Upload] {
        states.push((permission.as_str(), Some(test.token(&deploy(), &[permission]).await)));
    }
    states.push(("all", Some(all)));

    let mut table = format!("{:<73}{}\n", "", states.iter().map(|(state, _)| format!("{state:>13}")).collect::<String>());
    for (method, route, path) in ROUTES {
        let mut line = format!("{method:<5}{route:<68}");
        for (_, token) in &states {
            let request = Request::builder().method(method).uri(path).header("content-type", "application/zip");
            let request = token.iter().fold(request, |request, token| request.header("authorization", format!("Bearer {token}")));
            let status = test.send(request.body(Body::from(module_zip("x"))).unwrap()).await.status;
            line.push_str(&format!("{:>13}", status.as_u16()));
        }
        table.push_str(&line);
        table.push('\n');
    }
    insta::assert_snapshot!(table);
}

fn named_principal(name: &str) -> stile_broker::principal::Principal {
    stile_broker::principal::Principal::parse_stored(&role(name)).unwrap()
}

#[test]
fn no_route_is_missing_from_the_table() {
    let router = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../broker/src/http/mod.rs")).unwrap();
    let mut built: Vec<(String, String)> = Vec::new();
    for line in router.lines().map(str::trim).filter_map(|line| line.strip_prefix(".route(\"")) {
        let (route, rest) = line.split_once('"').unwrap();
        for method in ["get", "post", "put", "delete", "patch"] {
            if rest.contains(&format!("{method}(")) {
                built.push((method.to_ascii_uppercase(), route.to_owned()));
            }
        }
    }
    let mut shown: Vec<(String, String)> = ROUTES.iter().map(|(method, route, _)| ((*method).to_owned(), (*route).to_owned())).collect();
    built.sort();
    shown.sort();
    assert_eq!(built, shown);
}
