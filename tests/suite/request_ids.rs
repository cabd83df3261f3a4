//! The id of a request on this store: each answer has it, each error shows it, and the lines of the
//! log have it.

use std::collections::BTreeSet;
use std::io;
use std::task::Poll;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use futures_util::stream;
use serde_json::{Value, json};
use stile_protocol::names::Permission::{Download, Upload};
use stile_protocol::request_id::{is_id, split};
use stile_tests::broker::journal::{Journal, Logged};
use stile_tests::broker::served::Served;
use stile_tests::broker::{ACCOUNT, Reply, TestBroker, deploy, role};
use stile_tests::lambda::events::{Sent, Shape};
use stile_tests::process::programs::{ADMIN, HELPER, program};
use stile_tests::sts::identity::Identity;
use stile_tests::time_limits::BACKSTOP;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::routes::{ROUTES, ask, states};
use crate::lambda::answer;

const MODULE: &str = "/v1/modules/acme/vpc/aws";

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Returns the id in the body of an error, in any of its three forms.
fn shown(reply: &Reply) -> Option<String> {
    let (json, text) = (reply.json(), reply.text());
    let line = json["errors"][0].as_str().unwrap_or(text.trim_end_matches('\n'));
    json["request_id"].as_str().or(split(line).1).map(str::to_owned)
}

/// Returns the lines of the log about requests: the audit log, and one line for each request.
fn lines(logged: &Logged) -> Vec<Value> {
    let all = logged.json.text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let targets = ["audit", "stile_broker::http::trace"];
    all.filter(|line| targets.iter().any(|target| line["target"] == *target)).collect()
}

/// Checks that an answer, its body if it is an error, and the lines about its request have one id.
/// Returns the id.
fn id_of(reply: &Reply, logged: &Logged, what: &str) -> String {
    let id = reply.request_id().to_owned();
    assert!(is_id(&id) && id.len() == 16, "{what}: {reply:?}");
    if reply.status.is_client_error() || reply.status.is_server_error() {
        assert_eq!(shown(reply).as_deref(), Some(&*id), "{what}: {}", reply.text());
    }
    let lines = lines(logged);
    let requests = lines.iter().filter(|line| line["target"] != "audit").count();
    assert_eq!(requests, 1, "{what}: {lines:?}");
    for line in lines {
        assert_eq!(line["span"]["id"], id.as_str(), "{what}: {line}");
    }
    id
}

fn request(method: &str, path: &str, token: &str) -> Request<Body> {
    let request = Request::builder().method(method).uri(path);
    let request = request.header("authorization", format!("Bearer {token}"));
    request.header("content-type", "application/zip").body(Body::empty()).unwrap()
}

#[tokio::test]
async fn every_answer_of_every_route_has_an_id_of_its_own_which_the_log_has_too() {
    let journal = Journal::start();
    let Some((test, states)) = states().await else { return };
    let mut ids = BTreeSet::new();
    let mut answers = 0;
    for (state, token) in states {
        if !["none", "no grant", "download", "all"].contains(&state) {
            continue;
        }
        for (method, _, path) in ROUTES {
            journal.taken();
            let reply = ask(&test, method, path, token.as_ref()).await;
            ids.insert(id_of(&reply, &journal.taken(), &format!("{method} {path} {state}")));
            answers += 1;
        }
    }
    assert_eq!((ids.len(), answers), (answers, 4 * ROUTES.len()), "no two requests have one id");
}

#[tokio::test]
async fn a_request_that_reaches_no_handler_has_an_id_in_the_form_of_its_route() {
    let journal = Journal::start();
    let Some((test, states)) = states().await else { return };
    let token = states.into_iter().find_map(|(state, token)| token.filter(|_| state == "all"));
    let token = token.unwrap();
    for (method, path, status, form) in [
        ("GET", "/", 404, "{\"error\":"),
        ("GET", "/nothing/here", 404, "{\"error\":"),
        ("GET", "//v1/modules", 404, "{\"error\":"),
        ("DELETE", "/healthz", 405, "{\"error\":"),
        ("PATCH", "/v1/token", 405, "{\"error\":"),
        ("GET", "/v1/modules/a/b/c/d/e/f/g", 404, "{\"errors\":["),
        ("GET", "/v1/modules/a%ff/b/c/versions", 404, "{\"errors\":["),
        ("PUT", &format!("{MODULE}/versions"), 405, "{\"errors\":["),
        ("POST", &format!("{MODULE}/1.0.0/download"), 405, "this route does not support"),
        ("GET", &format!("{MODULE}/9.9.9/download"), 404, "there is no such version"),
    ] {
        journal.taken();
        let reply = test.send(request(method, path, &token)).await;
        let what = format!("{method} {path}");
        assert_eq!(reply.status, status, "{what}: {}", reply.text());
        assert!(reply.text().starts_with(form), "{what}: {}", reply.text());
        id_of(&reply, &journal.taken(), &what);
    }
}

#[tokio::test]
async fn a_panic_and_a_store_that_is_down_are_answered_with_an_id() {
    let journal = Journal::start();
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    let token = test.token(&deploy(), &[Download, Upload]).await;
    for (path, kind) in
        [("/v1/token", "application/json"), ("/v1/modules/acme/vpc/aws/1.0.0", "application/zip")]
    {
        journal.taken();
        let broken = stream::poll_fn(|_| -> Poll<Option<io::Result<Bytes>>> { panic!("broken") });
        let (parts, ()) = Request::post(path)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", kind)
            .body(())
            .unwrap()
            .into_parts();
        let reply = test.send(Request::from_parts(parts, Body::from_stream(broken))).await;
        let logged = journal.taken();
        assert_eq!(reply.status, 500, "{path}: {}", reply.text());
        assert_eq!(logged.panics.len(), 1, "{path}: {:?}", logged.panics);
        id_of(&reply, &logged, path);
    }
    let (process, identity) = (test.restarted(), deploy());
    process.sts.add_identity(identity.clone());
    test.break_store();
    journal.taken();
    let reply = process.exchange(&process.proof(&identity).build()).await;
    assert!(reply.status == 503 && !reply.header("retry-after").is_empty(), "{}", reply.text());
    id_of(&reply, &journal.taken(), "the store is down");
    test.repair_store();
}

#[tokio::test]
async fn an_id_that_a_client_sends_is_neither_answered_nor_logged() {
    let journal = Journal::start();
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let mut ids = BTreeSet::new();
    for sent in [
        vec!["forged"],
        vec!["0123456789abcdef"],
        vec!["forged", "forged"],
        vec!["forged\tlevel=ERROR alarm=forged"],
        vec![""],
    ] {
        let request = Request::get("/v1/whoami");
        let request = sent.iter().fold(request, |request, id| request.header("X-Request-Id", *id));
        journal.taken();
        let reply = test.send(request.body(Body::empty()).unwrap()).await;
        let logged = journal.taken();
        let id = id_of(&reply, &logged, &format!("{sent:?}"));
        for text in sent.iter().filter(|text| !text.is_empty()) {
            assert!(!logged.lines().any(|line| line.contains(text)), "{text}: {logged:?}");
        }
        assert!(!sent.contains(&&*id) && ids.insert(id), "{sent:?}");
    }
}

#[tokio::test]
async fn the_log_has_the_trace_id_of_a_valid_traceparent_and_nothing_of_an_invalid_one() {
    let journal = Journal::start();
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let valid = format!("00-{TRACE}-00f067aa0ba902b7-01");
    for (sent, expected) in [
        (vec![valid.clone()], true),
        (vec![valid.replace("00-4", "cc-4")], true),
        (vec![], false),
        (vec![valid.to_uppercase()], false),
        (vec![valid.clone(), valid.clone()], false),
        (vec![format!("{valid}-{TRACE}")], false),
        (vec![format!("00-{TRACE}\u{e9}")], false),
        (vec![valid.replace('-', "_")], false),
        (vec![valid.repeat(100)], false),
    ] {
        let mut request = Request::get("/v1/whoami").body(Body::empty()).unwrap();
        for value in &sent {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            request.headers_mut().append("traceparent", value);
        }
        journal.taken();
        let reply = test.send(request).await;
        let logged = journal.taken();
        id_of(&reply, &logged, &format!("{sent:?}"));
        let lines = lines(&logged);
        assert_eq!(lines.len(), 2, "the request and its decision: {lines:?}");
        for line in &lines {
            let expected = if expected { json!(TRACE) } else { Value::Null };
            assert_eq!(line["span"]["trace_id"], expected, "{sent:?}: {line}");
        }
        let named = |line: &str| line.to_ascii_lowercase().contains(TRACE);
        assert_eq!(logged.lines().all(named), expected, "{sent:?}: {logged:?}");
        assert_eq!(logged.lines().any(named), expected, "{sent:?}: {logged:?}");
    }
}

/// Sends bytes to a server, and reads its answer until it closes the connection.
async fn answer_to(test: &TestBroker, request: &[u8]) -> Reply {
    let serving = test.serve(None).await;
    let mut stream = TcpStream::connect(serving.address).await.unwrap();
    // The server may answer and close before it reads all of it.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(BACKSTOP, stream.read_to_end(&mut answer)).await.expect("ended");
    let text = String::from_utf8(answer).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    let status = StatusCode::from_bytes(status.as_bytes()).unwrap();
    Reply { status, headers, body: body.as_bytes().to_vec() }
}

#[tokio::test]
async fn a_malformed_request_of_a_connection_is_answered_with_an_id() {
    let journal = Journal::start();
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let host = "host: a\r\nconnection: close\r\n";
    let token = "POST /v1/token HTTP/1.1\r\ncontent-type: application/json\r\n";
    for (request, status) in [
        ("GET /v1/whoami HTTP/1.1\r\n\r\n".to_owned(), 400),
        (format!("GET {MODULE}/versions HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"), 400),
        (format!("GET {MODULE}/1.0.0/download HTTP/1.1\r\nhost: a b\r\n\r\n"), 400),
        (format!("GET http://evil.example/nothing HTTP/1.1\r\n{host}\r\n"), 404),
        (format!("OPTIONS * HTTP/1.1\r\n{host}\r\n"), 404),
        (format!("CONNECT evil.example:443 HTTP/1.1\r\n{host}\r\n"), 404),
        (format!("{token}{host}content-length: 2\r\n\r\n{{}}"), 400),
        (format!("{token}{host}transfer-encoding: chunked\r\n\r\nnonsense\r\n"), 400),
        (format!("{token}{host}content-length: 20000\r\n\r\n{}", " ".repeat(20_000)), 413),
        (format!("GET /healthz HTTP/1.1\r\n{host}x-request-id: forged\r\n\r\n"), 200),
    ] {
        journal.taken();
        let reply = answer_to(&test, request.as_bytes()).await;
        let what = format!("{request:.80}");
        assert_eq!(reply.status, status, "{what}: {}", reply.text());
        id_of(&reply, &journal.taken(), &what);
    }
}

#[tokio::test]
async fn bytes_that_are_no_request_have_neither_an_id_nor_a_line() {
    let journal = Journal::start();
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let long = "a".repeat(70_000);
    for (bytes, status) in [
        ("nonsense\r\n\r\n".to_owned(), 400),
        ("GET /healthz HTTP/7.0\r\nhost: a\r\n\r\n".to_owned(), 400),
        ("GET /healthz HTTP/1.1\r\nhost: a\r\nx y: z\r\n\r\n".to_owned(), 400),
        (format!("GET /healthz HTTP/1.1\r\nhost: a\r\nx-long: {long}\r\n\r\n"), 431),
    ] {
        journal.taken();
        let reply = answer_to(&test, bytes.as_bytes()).await;
        let what = format!("{bytes:.60}");
        assert_eq!((reply.status.as_u16(), reply.text().as_str()), (status, ""), "{what}");
        assert_eq!(reply.request_id(), "", "{what}");
        let logged = journal.taken();
        assert!(lines(&logged).is_empty(), "{what}: {logged:?}");
    }
}

#[tokio::test]
async fn an_answer_to_an_event_of_every_shape_has_an_id_of_its_own() {
    let journal = Journal::start();
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let function = test.function(None, None);
    let mut ids = BTreeSet::new();
    let sent = [
        ("GET", "/healthz".to_owned(), 200),
        ("DELETE", "/healthz".to_owned(), 405),
        ("GET", "/nothing/here".to_owned(), 404),
        ("GET", "/v1/whoami".to_owned(), 401),
        ("GET", format!("{MODULE}/versions"), 401),
        ("GET", format!("{MODULE}/1.0.0/download"), 401),
        ("POST", "/v1/token".to_owned(), 400),
    ];
    for shape in Shape::ALL {
        for (method, path, status) in &sent {
            let mut event = shape.event(
                &Sent::new(*method, path)
                    .header("x-request-id", "forged")
                    .header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01"))
                    .body("application/json", "{}"),
            );
            if *method == "POST" {
                (event["body"], event["isBase64Encoded"]) = (json!("%"), json!(true));
            }
            journal.taken();
            let reply = shape.reply(&answer(&function, &event).await.unwrap());
            let (logged, what) = (journal.taken(), format!("{shape:?} {method} {path}"));
            assert_eq!(reply.status, *status, "{what}: {}", reply.text());
            assert!(ids.insert(id_of(&reply, &logged, &what)), "{what}");
            for line in lines(&logged) {
                assert_eq!(line["span"]["trace_id"], TRACE, "{what}: {line}");
            }
            // AWS itself logs its trace id.
            for text in ["forged", "Root=1-"] {
                assert!(!logged.json.text.contains(text), "{what}: {logged:?}");
            }
        }
    }
    assert_eq!(ids.len(), Shape::ALL.len() * sent.len());
}

/// Returns the id that a program printed.
fn printed(stderr: &str) -> &str {
    let rest = stderr.split_once(" (request id: ").unwrap_or_else(|| panic!("no id: {stderr}")).1;
    let (id, _) = rest.split_once(')').unwrap();
    assert!(is_id(id), "{stderr}");
    id
}

#[tokio::test]
async fn an_operator_finds_a_refusal_by_the_id_that_a_program_of_a_user_printed() {
    let journal = Journal::start();
    let Some(served) = Served::start_on(super::BACKEND, |router| router).await else { return };
    served.test.grant(&role("deploy"), "acme", &[Download]).await;
    let (user, intern) =
        (served.home(&deploy()), served.home(&Identity::role(ACCOUNT, "intern", "i-0abc")));
    let host = ["--registry-host", served.host()];
    let get_token = [&["get-token", "token"][..], &host].concat();
    let show = [&["module", "show", "acme/nothing/aws"][..], &host].concat();
    for (home, name, arguments, code, hint) in [
        (&intern, HELPER, &get_token, "no_grant", "; hint: ask an operator for `"),
        (&intern, ADMIN, &show, "no_grant", "; hint: ask an operator for `"),
        (&user, ADMIN, &show, "not_found", "\n"),
    ] {
        journal.taken();
        let ran = home.run(&program(name), arguments).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{name}: {ran:?}");
        let id = printed(&ran.stderr);
        assert!(ran.stderr.contains(&format!("(request id: {id}){hint}")), "{name}: {ran:?}");
        let lines = lines(&journal.taken());
        let found: Vec<_> = lines.iter().filter(|line| line["span"]["id"] == id).collect();
        assert_eq!(found.len(), 2, "{name}: the request and its decision of {id}: {lines:?}");
        assert!(found.iter().all(|line| line["code"] == code), "{name}: {found:?}");
    }
    let ran = user.run(&program(ADMIN), &[&show[..], &["--output", "json"]].concat()).await;
    let error: Value = serde_json::from_str(&ran.stderr).unwrap();
    assert!(is_id(error["request_id"].as_str().unwrap()), "{error}");
    assert_eq!(error["message"], "`acme/nothing/aws`: there is no such version", "{error}");
}
