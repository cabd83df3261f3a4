//! Every route with every state of a credential, as one table that a person can read. A route that
//! is not in the table fails the suite.

use std::collections::BTreeSet;
use std::path::Path;

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use stile_core::audit::{Kind, Outcome};
use stile_protocol::names::Permission::{CreateGrant, DeleteGrant, Download, Upload};
use stile_tests::broker::journal::Journal;
use stile_tests::broker::operator::AsOperator as _;
use stile_tests::broker::{Reply, TestBroker, deploy, module_zip, role};
use stile_tests::sts::identity::Identity;

/// One request for each route. The paths are those of the router, with values for their parameters.
pub(super) const ROUTES: [(&str, &str, &str); 50] = [
    ("GET", "/.well-known/terraform.json", "/.well-known/terraform.json"),
    ("GET", "/healthz", "/healthz"),
    ("GET", "/readyz", "/readyz"),
    ("GET", "/openapi.json", "/openapi.json"),
    ("POST", "/v1/token", "/v1/token"),
    ("GET", "/v1/token", "/v1/token"),
    ("GET", "/v1/whoami", "/v1/whoami"),
    ("GET", "/v1/grants", "/v1/grants?namespace=acme"),
    ("POST", "/v1/grants", "/v1/grants"),
    ("PATCH", "/v1/grants", "/v1/grants"),
    (
        "GET",
        "/v1/grants/explain",
        "/v1/grants/explain?principal=aws:111122223333:role/nobody&namespace=acme&permission=download",
    ),
    ("DELETE", "/v1/grants", "/v1/grants?principal=aws:111122223333:role/nobody&namespace=acme"),
    ("GET", "/v1/audit", "/v1/audit?namespace=acme"),
    ("GET", "/v1/service-tokens", "/v1/service-tokens"),
    ("POST", "/v1/service-tokens", "/v1/service-tokens"),
    ("DELETE", "/v1/service-tokens/{id}", "/v1/service-tokens/AAAAAAAAAAAAAAAAAAAAAA"),
    ("GET", "/v1/namespaces/{namespace}/signing-keys", "/v1/namespaces/acme/signing-keys"),
    ("POST", "/v1/namespaces/{namespace}/signing-keys", "/v1/namespaces/acme/signing-keys"),
    (
        "DELETE",
        "/v1/namespaces/{namespace}/signing-keys/{key_id}",
        "/v1/namespaces/acme/signing-keys/0000000000000000",
    ),
    ("GET", "/v1/modules", "/v1/modules"),
    ("GET", "/v1/modules/search", "/v1/modules/search"),
    ("GET", "/v1/modules/{namespace}", "/v1/modules/acme"),
    (
        "GET",
        "/v1/modules/{namespace}/{name}/{system}/versions",
        "/v1/modules/acme/vpc/aws/versions",
    ),
    (
        "GET",
        "/v1/modules/{namespace}/{name}/{system}/download",
        "/v1/modules/acme/vpc/aws/download",
    ),
    (
        "GET",
        "/v1/modules/{namespace}/{name}/{system}/{version}/download",
        "/v1/modules/acme/vpc/aws/1.0.0/download",
    ),
    ("GET", "/v1/modules/{namespace}/{name}/{system}/usage", "/v1/modules/acme/vpc/aws/usage"),
    ("GET", "/v1/modules/{namespace}/{name}/{system}", "/v1/modules/acme/vpc/aws"),
    ("GET", "/v1/modules/{namespace}/{name}/{system}/{version}", "/v1/modules/acme/vpc/aws/1.0.0"),
    ("POST", "/v1/modules/{namespace}/{name}/{system}/{version}", "/v1/modules/acme/vpc/aws/1.0.0"),
    (
        "DELETE",
        "/v1/modules/{namespace}/{name}/{system}/{version}",
        "/v1/modules/acme/vpc/aws/1.0.0",
    ),
    (
        "POST",
        "/v1/modules/{namespace}/{name}/{system}/{version}/restore",
        "/v1/modules/acme/vpc/aws/1.0.0/restore",
    ),
    (
        "PUT",
        "/v1/modules/{namespace}/{name}/{system}/{version}/deprecation",
        "/v1/modules/acme/vpc/aws/1.0.0/deprecation",
    ),
    (
        "DELETE",
        "/v1/modules/{namespace}/{name}/{system}/{version}/deprecation",
        "/v1/modules/acme/vpc/aws/1.0.0/deprecation",
    ),
    (
        "POST",
        "/v1/modules/{namespace}/{name}/{system}/{version}/uploads",
        "/v1/modules/acme/vpc/aws/1.0.0/uploads",
    ),
    (
        "POST",
        "/v1/modules/{namespace}/{name}/{system}/{version}/uploads/{upload}",
        "/v1/modules/acme/vpc/aws/1.0.0/uploads/00000000000000000000000000000000",
    ),
    ("GET", "/v1/providers", "/v1/providers"),
    ("GET", "/v1/providers/{namespace}", "/v1/providers/acme"),
    ("GET", "/v1/providers/{namespace}/{type}", "/v1/providers/acme/dns"),
    ("GET", "/v1/providers/{namespace}/{type}/versions", "/v1/providers/acme/dns/versions"),
    (
        "GET",
        "/v1/providers/{namespace}/{type}/{version}/download/{os}/{arch}",
        "/v1/providers/acme/dns/1.0.0/download/linux/amd64",
    ),
    ("GET", "/v1/providers/{namespace}/{type}/{version}", "/v1/providers/acme/dns/1.0.0"),
    ("DELETE", "/v1/providers/{namespace}/{type}/{version}", "/v1/providers/acme/dns/1.0.0"),
    (
        "POST",
        "/v1/providers/{namespace}/{type}/{version}/restore",
        "/v1/providers/acme/dns/1.0.0/restore",
    ),
    (
        "PUT",
        "/v1/providers/{namespace}/{type}/{version}/deprecation",
        "/v1/providers/acme/dns/1.0.0/deprecation",
    ),
    (
        "DELETE",
        "/v1/providers/{namespace}/{type}/{version}/deprecation",
        "/v1/providers/acme/dns/1.0.0/deprecation",
    ),
    (
        "POST",
        "/v1/providers/{namespace}/{type}/{version}/uploads",
        "/v1/providers/acme/dns/1.0.0/uploads",
    ),
    (
        "POST",
        "/v1/providers/{namespace}/{type}/{version}/uploads/{upload}",
        "/v1/providers/acme/dns/1.0.0/uploads/00000000000000000000000000000000",
    ),
    (
        "POST",
        "/v1/providers/{namespace}/{type}/{version}/uploads/{upload}/files/{file}",
        "/v1/providers/acme/dns/1.0.0/uploads/00000000000000000000000000000000/files/x.zip",
    ),
    ("GET", "/v1/archives/{file}", "/v1/archives/0000.zip"),
    (
        "GET",
        "/v1/providers-files/{namespace}/{type}/{version}/{file}",
        "/v1/providers-files/acme/dns/1.0.0/terraform-provider-dns_1.0.0_SHA256SUMS",
    ),
];

/// Starts a broker with one module, and creates a token for each state of a credential.
pub(super) async fn states() -> Option<(TestBroker, Vec<(&'static str, Option<String>)>)> {
    let test = TestBroker::start_on(super::BACKEND).await?;
    let named = |name: &str| Identity::role("111122223333", name, "i-0abc");
    test.grant(&role("deploy"), "acme", &[CreateGrant, DeleteGrant, Download, Upload]).await;
    test.grant(&role("elsewhere"), "other", &[CreateGrant, DeleteGrant, Download, Upload]).await;
    test.grant(&role("revoked"), "acme", &[Download]).await;
    let all = test.token(&deploy(), &[CreateGrant, DeleteGrant, Download, Upload]).await;
    assert_eq!(test.publish("acme/vpc/aws", "1.0.0", module_zip("x"), &all).await.status, 201);

    let mut states = vec![("none", None), ("malformed", Some("nonsense".to_owned()))];
    let expired =
        test.token_for(&deploy(), stile_protocol::exchange::Namespaces::All, &[Download], 60).await;
    test.advance(61);
    states.push(("expired", Some(expired)));
    let foreign = TestBroker::start();
    foreign.grant(&role("deploy"), "acme", &[Download]).await;
    states.push(("foreign key", Some(foreign.token(&deploy(), &[Download]).await)));
    let revoked = test.token(&named("revoked"), &[Download]).await;
    test.store()
        .as_operator()
        .revoke_principal(named_principal("revoked"), test.time())
        .await
        .unwrap();
    states.push(("revoked", Some(revoked)));
    let elsewhere =
        test.token(&named("elsewhere"), &[CreateGrant, DeleteGrant, Download, Upload]).await;
    states.push(("no grant", Some(elsewhere)));
    for permission in [CreateGrant, DeleteGrant, Download, Upload] {
        states.push((permission.as_str(), Some(test.token(&deploy(), &[permission]).await)));
    }
    states.push(("all", Some(all)));
    Some((test, states))
}

/// Returns the content type and the body of a request, which most routes take as an archive.
fn content(method: &str, path: &str) -> (&'static str, Body) {
    let grant = |more: Value| {
        let mut grant = json!({"principal": role("nobody"), "namespace": "acme"});
        grant.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ("application/json", Body::from(grant.to_string()))
    };
    if path.starts_with("/v1/service-tokens") {
        let token = json!({
            "name": "renovate", "namespaces": ["acme"], "permissions": ["download"],
            "expires_at": "2026-12-20T00:00:00Z",
        });
        let body = if method == "POST" { Body::from(token.to_string()) } else { Body::empty() };
        return ("application/json", body);
    }
    match (method, path.starts_with("/v1/grants")) {
        ("POST", true) => grant(json!({"permissions": ["download"]})),
        ("PATCH", true) => grant(json!({"set": ["upload"]})),
        (_, true) => ("application/json", Body::empty()),
        (_, false) => ("application/zip", Body::from(module_zip("x"))),
    }
}

/// Sends the request of a route with that credential.
pub(super) async fn ask(
    test: &TestBroker,
    method: &str,
    path: &str,
    token: Option<&String>,
) -> Reply {
    let (content_type, body) = content(method, path);
    let request = Request::builder().method(method).uri(path).header("content-type", content_type);
    let request = token
        .iter()
        .fold(request, |request, token| request.header("authorization", format!("Bearer {token}")));
    test.send(request.body(body).unwrap()).await
}

#[tokio::test]
async fn every_route_answers_every_credential_state_as_written_here() {
    let Some((test, states)) = states().await else { return };
    let mut table = format!(
        "{:<83}{}\n",
        "",
        states.iter().map(|(state, _)| format!("{state:>13}")).collect::<String>()
    );
    for (method, route, path) in ROUTES {
        let mut line = format!("{method:<7}{route:<76}");
        for (_, token) in &states {
            let status = ask(&test, method, path, token.as_ref()).await.status;
            line.push_str(&format!("{:>13}", status.as_u16()));
        }
        table.push_str(&line);
        table.push('\n');
    }
    insta::assert_snapshot!(table);
}

/// The routes that decide nothing, and so write no audit event. `GET /v1/token` is one of them for
/// callers without a gateway. `gateway.rs` tests the others.
const UNDECIDED: [(&str, &str); 5] = [
    ("GET", "/.well-known/terraform.json"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/openapi.json"),
    ("GET", "/v1/token"),
];

#[tokio::test]
async fn every_decision_has_one_event_that_names_a_known_caller() {
    let journal = Journal::start();
    let Some((test, states)) = states().await else { return };
    let mut table = String::new();
    for (method, route, path) in ROUTES {
        for (state, token) in &states {
            journal.taken();
            let reply = ask(&test, method, path, token.as_ref()).await;
            let events = journal.taken().audit();
            if UNDECIDED.contains(&(method, route)) {
                assert!(events.is_empty(), "{method} {route} {state}: {events:?}");
                continue;
            }
            let [event] = events.as_slice() else {
                panic!("{method} {route} {state}: {} events: {events:?}", events.len())
            };
            assert_eq!(event["v"], 1);
            assert!(
                event["span"]["id"].is_string(),
                "the id of the request finds its event: {event}"
            );
            let decision = event["decision"].as_str().unwrap();
            let refused = ["refused", "absent", "failed"].contains(&decision);
            assert_eq!(refused, event["code"].is_string(), "a refusal has a code: {event}");
            // The grid has no caller for a route that authenticates by something other than a
            // token.
            let bearer = !["exchange", "fetch"].contains(&event["event"].as_str().unwrap());
            let known = bearer && !["none", "malformed", "expired", "foreign key"].contains(state);
            for name in ["principal", "unique_id", "token_id"] {
                assert_eq!(event[name].is_string(), known, "{name}: {event}");
            }
            let served = reply.status.is_success() || reply.status.is_redirection();
            assert_eq!(served, !refused && decision != "conflict", "{event}");
            let words = ["event", "decision", "code", "namespace", "permission", "package"];
            let words: Vec<_> = words.iter().filter_map(|name| event[*name].as_str()).collect();
            table.push_str(&format!("{method:<7}{route:<76}{state:<13} {}\n", words.join(" ")));
        }
    }
    insta::assert_snapshot!(table);
}

#[tokio::test]
async fn an_event_of_the_audit_log_has_no_field_that_the_manual_does_not_list() {
    let journal = Journal::start();
    let Some((test, states)) = states().await else { return };
    for (method, _, path) in ROUTES {
        for (_, token) in &states {
            ask(&test, method, path, token.as_ref()).await;
        }
    }
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
    let manual = std::fs::read_to_string(manual).unwrap();
    let of_the_subscriber = ["timestamp", "level", "target", "span", "spans"];
    let events = journal.taken().audit();
    let fields: BTreeSet<_> = events
        .iter()
        .flat_map(|event| event.as_object().unwrap().keys())
        .filter(|name| !of_the_subscriber.contains(&name.as_str()))
        .collect();
    assert!(fields.len() > 12, "{fields:?}");
    for name in fields {
        assert!(manual.contains(&format!("| `{name}` |")), "`{name}` is not in the manual");
    }
    for name in Kind::ALL.iter().map(|kind| kind.as_str()) {
        assert!(manual.contains(&format!("`{name}`")), "event `{name}` is not in the manual");
    }
    for name in Outcome::ALL.iter().map(|outcome| outcome.as_str()) {
        assert!(manual.contains(&format!("`{name}`")), "decision `{name}` is not in the manual");
    }
}

fn named_principal(name: &str) -> stile_core::principal::Principal {
    stile_core::principal::Principal::parse_stored(&role(name)).unwrap()
}

/// Ways to add routes that this test cannot parse, so that no code may use them.
const OTHER_WAYS: [&str; 4] =
    [".route_service(", ".nest_service(", ".fallback_service(", "MethodRouter"];

/// Returns the methods and paths of every route that a source adds. A function can nest its routes
/// below a prefix, which another function in the source names. `.merge` adds only the routes of
/// another function.
fn routes_of(source: &str) -> Vec<(String, String)> {
    let functions = source.split("\nfn ").flat_map(|part| part.split("\npub fn "));
    let nested: Vec<(&str, &str)> = source
        .split(".nest(\"")
        .skip(1)
        .map(|nested| {
            let (prefix, rest) = nested.split_once("\", ").unwrap();
            (prefix, rest.split_once('(').unwrap().0)
        })
        .collect();
    let mut routes = Vec::new();
    for function in functions {
        let name = function.split_once('(').unwrap_or_default().0;
        let prefix = nested.iter().find(|(_, nested)| *nested == name).map_or("", |(at, _)| at);
        routes.extend(routes_of_function(function).into_iter().map(|(method, path)| {
            let below = if path == "/" && !prefix.is_empty() { "" } else { &path };
            (method, format!("{prefix}{below}"))
        }));
    }
    routes
}

/// Does the same for one function, in any layout.
fn routes_of_function(source: &str) -> Vec<(String, String)> {
    let code: String = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code: String = code.chars().filter(|c| !c.is_whitespace()).collect();
    let mut routes = Vec::new();
    for route in code.split(".route(").skip(1) {
        let (path, mut rest) = route
            .strip_prefix('"')
            .and_then(|route| route.split_once("\","))
            .unwrap_or_else(|| panic!("no path: {route}"));
        // One method after another, up to the end of this route.
        loop {
            let (method, behind) =
                rest.split_once('(').unwrap_or_else(|| panic!("no method: {rest}"));
            match method {
                "get" | "post" | "put" | "delete" | "patch" | "head" | "options" | "trace"
                | "connect" => {
                    routes.push((method.to_ascii_uppercase(), path.to_owned()));
                }
                "fallback" => {}
                other => panic!("`{path}` is made by `{other}`, which this test does not know"),
            }
            rest = behind_the_bracket(behind);
            match rest.strip_prefix('.') {
                Some(next) => rest = next,
                None => break,
            }
        }
        assert!(
            rest.starts_with(')') || rest.starts_with(",)"),
            "`{path}` continues in a way that this test cannot parse: {rest}"
        );
    }
    routes
}

/// Returns the code after the matching closing bracket.
fn behind_the_bracket(code: &str) -> &str {
    let mut open = 1;
    let close = code.char_indices().find(|(_, c)| {
        open += i32::from(*c == '(') - i32::from(*c == ')');
        open == 0
    });
    close.map_or_else(|| panic!("no end: {code}"), |(at, _)| &code[at + 1..])
}

#[test]
fn no_route_is_missing_from_the_table() {
    let http = Path::new(env!("CARGO_MANIFEST_DIR")).join("../broker/src/http");
    let mut sources = vec![http.clone()];
    let mut built = Vec::new();
    while let Some(path) = sources.pop() {
        if path.is_dir() {
            sources.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let source = std::fs::read_to_string(&path).unwrap();
        let other = OTHER_WAYS.iter().find(|way| source.contains(*way));
        assert_eq!(
            other,
            None,
            "{} adds routes in a way that this test cannot parse",
            path.display()
        );
        let routes = routes_of(&source);
        // The metrics have a listener of their own, and `metrics_endpoint.rs` shows that it has
        // only this route.
        if path == http.join("metrics.rs") {
            assert_eq!(routes, [("GET".to_owned(), "/metrics".to_owned())]);
            continue;
        }
        assert!(
            path == http.join("mod.rs") || routes.is_empty(),
            "{} adds a route",
            path.display()
        );
        // Each route has its own path, so the counts must agree.
        let paths: BTreeSet<_> = routes.iter().map(|(_, path)| path).collect();
        let is_whole = |at: usize| {
            !source[at + ".route".len()..]
                .starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        };
        let there = source.match_indices(".route").filter(|(at, _)| is_whole(*at)).count();
        assert_eq!(paths.len(), there, "{}", path.display());
        built.extend(routes);
    }
    let mut shown: Vec<(String, String)> = ROUTES
        .iter()
        .map(|(method, route, _)| ((*method).to_owned(), (*route).to_owned()))
        .collect();
    built.sort();
    shown.sort();
    assert_eq!(built, shown);
}

#[test]
fn a_route_is_found_however_it_is_written() {
    let found = |source: &str| -> Vec<String> {
        routes_of(source).into_iter().map(|(method, path)| format!("{method} {path}")).collect()
    };
    assert_eq!(found("Router::new()"), [""; 0]);
    assert_eq!(
        found("a.route(\"/a\", get(a::b)).route(\"/b/{c}\", post(b))"),
        ["GET /a", "POST /b/{c}"]
    );
    assert_eq!(
        found(".route(\n  \"/a\",\n  get(a)\n    .post(b)\n    .fallback(c),\n)\n.layer(x)"),
        ["GET /a", "POST /a"]
    );
    assert_eq!(found(".route(\"/a\", get(async || b()).put(c))"), ["GET /a", "PUT /a"]);
    assert_eq!(
        found(
            "pub fn router() {\n  Router::new().route(\"/a\", get(a)).nest(\"/b\", b(x))\n}\n\nfn b(x: X) {\n  Router::new().route(\"/\", get(b)).route(\"/{c}\", post(b))\n}"
        ),
        ["GET /a", "GET /b", "POST /b/{c}"]
    );
    for source in [
        ".route(PATH, get(a))",
        ".route(\"/a\", any(b))",
        ".route(\"/a\", get(b).layer(c))",
        ".route(\"/a\", methods)",
    ] {
        assert!(std::panic::catch_unwind(|| routes_of(source)).is_err(), "{source}");
    }
}
