//! The broker as a Lambda function: golden events of four shapes, in the test process and through a
//! runtime API.

use axum::http::header;
use serde_json::{Value, json};
use stile_broker::http::lambda::{EventError, Function};
use stile_protocol::names::Permission::{Download, Upload};
use stile_protocol::request_id::is_id;
use stile_tests::broker::journal::Journal;
use stile_tests::broker::{HOST, Reply, TestBroker, deploy, module_zip, namespaces, role};
use stile_tests::lambda;
use stile_tests::lambda::events::{Sent, Shape, golden};
use stile_tests::process::programs::{BROKER, program, target};

use crate::authorizer::question;
use crate::function::{cold_starts, terraform_installs};
use crate::gateway::identity;

/// The API of the golden events.
pub(crate) const API: &str = "111122223333/abcdef1234";

pub(crate) async fn registry() -> (TestBroker, String) {
    let test = TestBroker::start();
    test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    let token = test.token(&deploy(), &[Download, Upload]).await;
    assert_eq!(test.publish("acme/vpc/aws", "1.0.0", module_zip("x"), &token).await.status, 201);
    assert_eq!(
        test.publish("acme/vpc/aws", "1.1.0-rc.1", module_zip("y"), &token).await.status,
        201
    );
    (test, token)
}

pub(crate) async fn answer(function: &Function, event: &Value) -> Result<Value, EventError> {
    let answer = function.answer(&serde_json::value::to_raw_value(event).unwrap()).await?;
    Ok(serde_json::from_str(answer.get()).unwrap())
}

/// Returns the path and the query of a download address, which is at the registry's host.
fn path_of(location: &str) -> &str {
    let path = location.strip_prefix(&format!("https://{HOST}"));
    path.filter(|path| path.starts_with("/v1/archives/")).unwrap_or_else(|| panic!("{location}"))
}

/// Returns the parts of an answer that a client sees, without the id of the request. The gateway sets
/// the content length itself.
fn seen(reply: &Reply) -> (u16, Vec<(String, String)>, Vec<u8>) {
    assert!(is_id(reply.request_id()), "{reply:?}");
    let reply = reply.without_id();
    let headers = reply.headers.iter().filter(|(name, _)| *name != header::CONTENT_LENGTH);
    let mut headers: Vec<_> = headers
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    headers.sort();
    (reply.status.as_u16(), headers, reply.body)
}

#[tokio::test]
async fn events_of_all_four_shapes_are_answered_as_the_plain_server_answers() {
    let (test, token) = registry().await;
    let function = test.function(None, None);
    let location = test
        .get("/v1/modules/acme/vpc/aws/1.0.0/download", &token)
        .await
        .header("x-terraform-get")
        .to_owned();
    let location = path_of(&location);
    let get = |target: &str| Sent::new("GET", target);
    let zip = |body: Vec<u8>| {
        Sent::new("POST", "/v1/modules/acme/vpc/aws/1.0.0")
            .bearer(&token)
            .body("application/zip", body)
    };
    for (sent, status) in [
        (get("/.well-known/terraform.json"), 200),
        (get("/healthz"), 200),
        (get("/readyz"), 200),
        (get("/"), 404),
        (get("/nothing/here?x=1"), 404),
        (get("/v1/whoami"), 401),
        (get("/v1/whoami").bearer(&token), 200),
        (get("/v1/whoami").bearer(&token).header("authorization", format!("Bearer {token}")), 401),
        (get("/v1/modules/acme/vpc/aws/versions"), 401),
        (get("/v1/modules/acme/vpc/aws/versions").bearer("garbage"), 401),
        (get("/v1/modules/acme/vpc/aws/versions").bearer(&token), 200),
        (get("/v1/modules/other/vpc/aws/versions").bearer(&token), 403),
        (get("/v1/modules/acme/nothing/aws/versions").bearer(&token), 404),
        (get("/v1/modules/acme/vpc/aws/1.0.0/download").bearer(&token), 204),
        (get("/v1/modules/acme/vpc/aws/1.1.0%2Drc.1/download").bearer(&token), 204),
        (get("/v1/modules/acme/vpc/aws/1.1.0-rc.1/download").bearer(&token), 204),
        (get("/v1/modules/acme/vpc/aws/9.9.9/download").bearer(&token), 404),
        (get("/v1/modules/acme/vpc/aws/download").bearer(&token), 302),
        (get("/v1/modules/acme/nothing/aws/download").bearer(&token), 404),
        (get("/v1/modules/other/../acme/vpc/aws/versions").bearer(&token), 404),
        (get("/v1/modules/other/%2e%2e/acme/vpc/aws/versions").bearer(&token), 404),
        (get("/v1/modules/acme%2Fvpc/aws/versions").bearer(&token), 403),
        (get("//v1/modules/acme/vpc/aws/versions").bearer(&token), 404),
        (get("/v1/modules?limit=1&offset=0").bearer(&token), 200),
        (get("/v1/modules/acme").bearer(&token), 200),
        (get(location), 200),
        (Sent::new("HEAD", location), 200),
        (get(&location.replace("expires=", "expires=1")), 403),
        (get("/v1/archives/0000.zip"), 403),
        (zip(module_zip("x")), 200),
        (zip(module_zip("other")), 409),
        (zip(b"no archive".to_vec()), 400),
        (zip(vec![]), 400),
        (
            Sent::new("POST", "/v1/modules/acme/vpc/aws/2.0.0")
                .body("application/zip", module_zip("x")),
            401,
        ),
        (Sent::new("DELETE", "/v1/modules/acme/vpc/aws/1.0.0").bearer(&token), 415),
        (get("/v1/token"), 405),
        (Sent::new("HEAD", "/v1/token"), 405),
        (Sent::new("POST", "/v1/token").body("application/json", "{}"), 400),
        (Sent::new("POST", "/v1/token").body("text/plain", "{}"), 415),
        (Sent::new("POST", "/v1/token").body("application/json", [0xff, 0xfe]), 400),
        (Sent::new("POST", "/v1/token").body("application/json", " ".repeat(17_000)), 413),
    ] {
        let plain = test.send(sent.request()).await;
        assert_eq!(plain.status, status, "{sent:?}: {}", plain.text());
        for shape in Shape::ALL {
            let event = shape.event(&sent);
            let reply = shape.reply(&answer(&function, &event).await.unwrap());
            assert_eq!(
                seen(&reply),
                seen(&plain),
                "{shape:?} {sent:?}\n{}\n{}",
                reply.text(),
                plain.text()
            );
        }
    }
}

#[tokio::test]
async fn a_proof_is_exchanged_and_an_archive_published_through_every_shape() {
    let (test, _) = registry().await;
    let function = test.function(None, None);
    for (number, shape) in Shape::ALL.into_iter().enumerate() {
        let identity = deploy();
        test.sts.add_identity(identity.clone());
        let permissions = [Download, Upload].into_iter().collect();
        let document =
            stile_protocol::exchange::RequestDocument::new(900, namespaces(&["acme"]), permissions)
                .unwrap();
        let proof = test.proof(&identity).document(&document).build().to_string();
        let sent = Sent::new("POST", "/v1/token").body("application/json", proof);
        let reply = shape.reply(&answer(&function, &shape.event(&sent)).await.unwrap());
        assert_eq!(reply.status, 200, "{shape:?}: {}", reply.text());
        let token = reply.json()["token"].as_str().unwrap().to_owned();
        let again = shape.reply(&answer(&function, &shape.event(&sent)).await.unwrap());
        assert_eq!(again.error(), "401 proof_replayed", "{shape:?}");

        let archive = module_zip(&format!("{shape:?}"));
        let target = format!("/v1/modules/acme/vpc/aws/2.0.{number}");
        let sent = Sent::new("POST", target.as_str())
            .bearer(&token)
            .body("application/zip", archive.clone());
        let reply = shape.reply(&answer(&function, &shape.event(&sent)).await.unwrap());
        assert_eq!(reply.status, 201, "{shape:?}: {}", reply.text());
        let sent = Sent::new("GET", format!("{target}/download")).bearer(&token);
        let location = shape
            .reply(&answer(&function, &shape.event(&sent)).await.unwrap())
            .header("x-terraform-get")
            .to_owned();
        let sent = Sent::new("GET", path_of(&location));
        let reply = shape.reply(&answer(&function, &shape.event(&sent)).await.unwrap());
        assert_eq!((reply.status.as_u16(), reply.body), (200, archive), "{shape:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_base64_although_the_event_says_so_is_400() {
    let journal = Journal::start();
    let (test, token) = registry().await;
    let function = test.function(None, None);
    let module = "/v1/modules/acme/vpc/aws";
    let line = "the body is not base64, although the event says so";
    for (sent, form) in [
        (
            Sent::new("POST", "/v1/token").body("application/json", "{}"),
            "{\"error\":\"invalid_request\",",
        ),
        (Sent::new("GET", "/healthz"), "{\"error\":\"invalid_request\","),
        (
            Sent::new("POST", format!("{module}/2.0.0"))
                .bearer(&token)
                .body("application/zip", module_zip("x")),
            "{\"errors\":[",
        ),
        (Sent::new("GET", format!("{module}/1.0.0/download")).bearer(&token), line),
    ] {
        for shape in Shape::ALL {
            // The last two have no padding, and bits that no encoder writes.
            for body in ["%", "{}", "e3 0=", "e30=\n", "e30==", "\u{e9}", "e30", "e31="] {
                let mut event = shape.event(&sent);
                event["body"] = json!(body);
                event["isBase64Encoded"] = json!(true);
                let reply = shape.reply(&answer(&function, &event).await.unwrap());
                let text = reply.text();
                assert_eq!(reply.status, 400, "{shape:?} {sent:?} {body:?}: {text}");
                assert!(
                    text.starts_with(form) && text.contains(line),
                    "{shape:?} {body:?}: {text}"
                );
            }
        }
    }
    for (shape, body, expected) in [
        (Shape::FunctionUrl, json!("e30="), "400 invalid_request"),
        (Shape::RestApi, json!(""), "400 invalid_request"),
        (Shape::LoadBalancer, json!(null), "400 invalid_request"),
    ] {
        let sent = Sent::new("POST", "/v1/token").body("application/json", "{}");
        let mut event = shape.event(&sent);
        (event["body"], event["isBase64Encoded"]) = (body, json!(true));
        let reply = shape.reply(&answer(&function, &event).await.unwrap());
        assert_eq!(reply.error(), expected, "{shape:?}");
        assert!(!reply.text().contains("base64"), "the route reads the body: {}", reply.text());
    }
    assert!(journal.taken().panics.is_empty());
}

#[tokio::test]
async fn an_unknown_event_is_not_a_request() {
    let (test, _) = registry().await;
    let function = test.function(Some(API), Some("/"));
    let mut unknown = golden("authorizer_token");
    unknown["type"] = json!("COGNITO");
    for event in [
        json!(null),
        json!("x"),
        json!([]),
        json!({}),
        json!({"Records": []}),
        json!({"type": 7}),
        unknown,
    ] {
        assert_eq!(answer(&function, &event).await, Err(EventError::NoEvent), "{event}");
    }
}

#[tokio::test]
async fn the_real_program_answers_lambda_without_an_argument() {
    function_answers(&program(BROKER)).await;
}

#[tokio::test]
#[ignore = "`make package` runs it on the package that it just built"]
async fn the_packaged_program_starts_and_answers() {
    use std::os::unix::fs::PermissionsExt as _;
    let zip = std::fs::File::open(target().join("package/stile-broker-x86_64.zip")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut zip = zip::ZipArchive::new(zip).unwrap();
    assert_eq!((zip.len(), zip.name_for_index(0).unwrap().unwrap().as_ref()), (1, "bootstrap"));
    zip.extract(folder.path()).unwrap();
    let program = folder.path().join("bootstrap");
    assert_eq!(program.metadata().unwrap().permissions().mode() & 0o111, 0o111, "Lambda starts it");
    function_answers(&program).await;
    cold_starts(&program).await;
    terraform_installs(&program).await;
}

/// Sends each kind of event once, through the runtime API and the program.
async fn function_answers(program: &std::path::Path) {
    let (test, _) = registry().await;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let data = test.data().to_str().unwrap();
    let variables = [
        ("STILE_HOST", "registry.example.com"),
        ("STILE_DATA", data),
        ("STILE_IAM_SOURCE", API),
        ("STILE_AUTHORIZER_BASE", "/terraform"),
    ];
    let function = lambda::Function::start(program, &variables, &log).await;
    for shape in Shape::ALL {
        let sent = Sent::new("GET", "/.well-known/terraform.json");
        let plain = test.send(sent.request()).await;
        let reply = shape.reply(&function.invoke(&shape.event(&sent)).await.unwrap());
        assert_eq!(seen(&reply), seen(&plain), "{shape:?}");
    }
    // The program now uses its own clock and keyring: it mints, and opens the token that it minted.
    let mut signed = golden("iam_rest_api");
    let (whom, [_, user, caller, _]) = identity(&mut signed);
    (whom[user], whom[caller]) = (json!(deploy().user_id), json!(deploy().user_id));
    let reply = Shape::RestApi.reply(&function.invoke(&signed).await.unwrap());
    assert_eq!(reply.status, 200, "{}", reply.text());
    let token = reply.json()["token"].as_str().unwrap().to_owned();
    let sent = Sent::new("GET", "/v1/modules/acme/vpc/aws/versions").bearer(&token);
    let plain = test
        .get("/v1/modules/acme/vpc/aws/versions", &test.token(&deploy(), &[Download]).await)
        .await;
    for shape in Shape::ALL {
        let reply = shape.reply(&function.invoke(&shape.event(&sent)).await.unwrap());
        assert_eq!(seen(&reply), seen(&plain), "{shape:?}");
    }
    let allowed = function.invoke(&question("authorizer_token", &token)).await.unwrap();
    assert_eq!(allowed["policyDocument"]["Statement"][0]["Effect"], "Allow");
    let refused = function.invoke(&question("authorizer_token", "garbage")).await.unwrap_err();
    assert_eq!(
        refused["errorMessage"], "Unauthorized",
        "the exact word for which the gateway answers 401"
    );
    let ticked = function.invoke(&json!({"stile": {"internal": "tick", "v": 1}})).await.unwrap();
    assert_eq!(ticked["delivered"], 0, "{ticked}");
    let broken = function.invoke(&json!({"requestContext": 7})).await.unwrap_err();
    assert_eq!(broken["errorType"], "NoEvent");

    let said = function.log();
    assert!(
        said.lines()
            .all(|line| serde_json::from_str::<Value>(line)
                .is_ok_and(|line| line["level"].is_string())),
        "{said}"
    );
    assert!(
        said.contains("\"decision\":\"minted\"") && said.contains("\"by\":\"gateway\""),
        "{said}"
    );
    assert!(!said.contains(&token), "the log contains no token");
}
