//! The broker as a Lambda function: events of four shapes, `AWS_IAM` mode, and the authorizer, with golden events.

use axum::http::header;
use serde_json::{Value, json};
use stile_broker::http::lambda::{Failure, Function};
use stile_protocol::names::Permission::{Download, Upload};
use stile_tests::events::{Sent, Shape, golden};
use stile_tests::lambda;
use stile_tests::programs::{BROKER, program};
use stile_tests::test_broker::{Reply, TestBroker, deploy, module_zip, namespaces, role};

/// The API of the golden events.
const API: &str = "111122223333/abcdef1234";

/// The function URL of the golden events.
const URL: &str = "111122223333/abcdefghijklmnopqrstuvwxyz012345";

async fn registry() -> (TestBroker, String) {
    let test = TestBroker::start();
    test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    let token = test.token(&deploy(), &[Download, Upload]).await;
    assert_eq!(test.publish("acme/vpc/aws", "1.0.0", module_zip("x"), &token).await.status, 201);
    assert_eq!(test.publish("acme/vpc/aws", "1.1.0-rc.1", module_zip("y"), &token).await.status, 201);
    (test, token)
}

async fn answer(function: &Function, event: &Value) -> Result<Value, Failure> {
    let answer = function.answer(&serde_json::value::to_raw_value(event).unwrap()).await?;
    Ok(serde_json::from_str(answer.get()).unwrap())
}

/// What an answer is to a client; how many bytes there are, the gateway says itself.
fn seen(reply: &Reply) -> (u16, Vec<(String, String)>, &[u8]) {
    let headers = reply.headers.iter().filter(|(name, _)| *name != header::CONTENT_LENGTH);
    let mut headers: Vec<_> = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    headers.sort();
    (reply.status.as_u16(), headers, &reply.body)
}

#[tokio::test]
async fn events_of_all_four_shapes_are_answered_as_the_plain_server_answers() {
    let (test, token) = registry().await;
    let function = test.function(None, None);
    let location = test.get("/v1/modules/acme/vpc/aws/1.0.0/download", &token).await.header("x-terraform-get").to_owned();
    assert!(location.starts_with("/v1/archives/"), "{location}");
    let get = |target: &str| Sent::new("GET", target);
    let zip = |body: Vec<u8>| Sent::new("POST", "/v1/modules/acme/vpc/aws/1.0.0").bearer(&token).body("application/zip", body);
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
        (get("/v1/modules/other/../acme/vpc/aws/versions").bearer(&token), 404),
        (get("/v1/modules/other/%2e%2e/acme/vpc/aws/versions").bearer(&token), 404),
        (get("/v1/modules/acme%2Fvpc/aws/versions").bearer(&token), 404),
        (get("//v1/modules/acme/vpc/aws/versions").bearer(&token), 404),
        (get("/v1/modules?limit=1&offset=0").bearer(&token), 200),
        (get("/v1/modules/acme").bearer(&token), 200),
        (get(&location), 200),
        (Sent::new("HEAD", location.as_str()), 200),
        (get(&location.replace("expires=", "expires=1")), 403),
        (get("/v1/archives/0000.zip"), 403),
        (zip(module_zip("x")), 200),
        (zip(module_zip("other")), 409),
        (zip(b"no archive".to_vec()), 400),
        (zip(vec![]), 400),
        (Sent::new("POST", "/v1/modules/acme/vpc/aws/2.0.0").body("application/zip", module_zip("x")), 401),
        (Sent::new("DELETE", "/v1/modules/acme/vpc/aws/1.0.0").bearer(&token), 405),
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
            assert_eq!(seen(&reply), seen(&plain), "{shape:?} {sent:?}\n{}\n{}", reply.text(), plain.text());
        }
    }
}

#[tokio::test]
async fn a_proof_is_exchanged_and_an_archive_published_through_every_shape() {
    let (test, _) = registry().await;
    let function = test.function(None, None);
    for (number, shape) in Shape::ALL.into_iter().enumerate() {
        let identity = deploy();
        test.sts.know(identity.clone());
        let permissions = [Download, Upload].into_iter().collect();
        let document = stile_protocol::exchange::RequestDocument::new(900, namespaces(&["acme"]), permissions).unwrap();
        let proof = test.proof(&identity).document(&document).build().to_string();
        let sent = Sent::new("POST", "/v1/token").body("application/json", proof);
        let reply = shape.reply(&answer(&function, &shape.event(&sent)).await.unwrap());
        assert_eq!(reply.status, 200, "{shape:?}: {}", reply.text());
        let token = reply.json()["token"].as_str().unwrap().to_owned();
        let again = shape.reply(&answer(&function, &shape.event(&sent)).await.unwrap());
        assert_eq!(again.error(), "401 proof_replayed", "{shape:?}");

        let archive = module_zip(&format!("{shape:?}"));
        let target = format!("/v1/modules/acme/vpc/aws/2.0.{number}");
        let sent = Sent::new("POST", target.as_str()).bearer(&token).body("application/zip", archive.clone());
        let reply = shape.reply(&answer(&function, &shape.event(&sent)).await.unwrap());
        assert_eq!(reply.status, 201, "{shape:?}: {}", reply.text());
        let sent = Sent::new("GET", format!("{target}/download")).bearer(&token);
        let location = shape.reply(&answer(&function, &shape.event(&sent)).await.unwrap()).header("x-terraform-get").to_owned();
        let reply = shape.reply(&answer(&function, &shape.event(&Sent::new("GET", location))).await.unwrap());
        assert_eq!((reply.status.as_u16(), reply.body), (200, archive), "{shape:?}");
    }
}

/// The three events in which a gateway has verified a signature, and the one source each is from.
const SIGNED: [(&str, Shape, &str); 3] =
    [("iam_function_url", Shape::FunctionUrl, URL), ("iam_http_api", Shape::HttpApi, API), ("iam_rest_api", Shape::RestApi, API)];

/// The part of the event in which the gateway says who called, and what it calls the parts of that.
fn identity(event: &mut Value) -> (&mut Value, [&'static str; 4]) {
    if event["requestContext"]["identity"].is_object() {
        (&mut event["requestContext"]["identity"], ["userArn", "user", "caller", "accountId"])
    } else {
        (&mut event["requestContext"]["authorizer"]["iam"], ["userArn", "userId", "callerId", "accountId"])
    }
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
        assert_eq!((minted["expires_at"].as_str(), reply.header("cache-control")), (Some("2026-11-20T10:26:12Z"), "no-store"));
        let token = minted["token"].as_str().unwrap();
        assert_eq!(test.get("/v1/modules/acme", token).await.status, 200, "{name}");
        assert_eq!(test.publish("acme/vpc/aws", "1.0.0", module_zip("x"), token).await.status, 403, "{name}: download alone");

        // There is no proof, so it may be asked again; the unique id is pinned all the same.
        assert_eq!(shape.reply(&answer(&function, &golden(name)).await.unwrap()).status, 200, "{name}");
        let mut anew = golden(name);
        let (whom, [_, user, caller, _]) = identity(&mut anew);
        (whom[user], whom[caller]) = (json!("AROAOTHEROTHEROTHER22:i-0abc"), json!("AROAOTHEROTHEROTHER22:i-0abc"));
        assert_eq!(shape.reply(&answer(&function, &anew).await.unwrap()).error(), "403 principal_recreated", "{name}");
        assert_eq!(test.sts.calls(), 0, "nobody is asked");
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
            let mut event = golden(name);
            let asked = shape.event(&Sent::new("GET", format!("/v1/token?{query}")));
            for part in ["rawQueryString", "queryStringParameters", "multiValueQueryStringParameters"] {
                event[part] = asked[part].clone();
            }
            let reply = shape.reply(&answer(&test.function(Some(source), None), &event).await.unwrap());
            assert_eq!(reply.error(), expected, "{name} {query}: {}", reply.text());
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
        for (part, value) in
            [("accountId", json!("444455556666")), ("accountId", json!(null)), ("apiId", json!("abcdef1235")), ("apiId", json!(null))]
        {
            let mut event = golden(name);
            event["requestContext"][part] = value;
            assert_eq!(to(Some(source), event).await, "405 method_not_allowed", "{name} {part}");
        }
        let with = |arn: &str, id: &str, account: &str| {
            let mut event = golden(name);
            let (whom, [user_arn, user, caller, account_id]) = identity(&mut event);
            (whom[user_arn], whom[user], whom[caller], whom[account_id]) = (json!(arn), json!(id), json!(id), json!(account));
            event
        };
        let (arn, id, account) = ("arn:aws:sts::111122223333:assumed-role/deploy/i-0abc", "AROAEXAMPLEEXAMPLE222:i-0abc", "111122223333");
        for (what, event, expected) in [
            ("root", with("arn:aws:iam::111122223333:root", account, account), "403 unsupported_principal"),
            (
                "EC2 instance identity",
                with("arn:aws:sts::111122223333:assumed-role/aws:ec2-instance/i-0abc", "111122223333:aws:ec2-instance:i-0abc", account),
                "403 unsupported_principal",
            ),
            (
                "a federated user",
                with("arn:aws:sts::111122223333:federated-user/x", "111122223333:x", account),
                "403 unsupported_principal",
            ),
            ("another account's role", with("arn:aws:sts::444455556666:assumed-role/deploy/i-0abc", id, account), "502 sts_inconsistent"),
            ("another partition", with("arn:aws-moon:sts::111122223333:assumed-role/deploy/i-0abc", id, account), "502 sts_bad_response"),
            ("another session", with(arn, "AROAEXAMPLEEXAMPLE222:other", account), "502 sts_inconsistent"),
            ("a user's id", with(arn, "AIDAEXAMPLEEXAMPLE222:i-0abc", account), "502 sts_inconsistent"),
            ("a role that STS never names", with("arn:aws:iam::111122223333:role/deploy", id, account), "502 sts_bad_response"),
            ("nothing", with("", "", ""), "502 sts_bad_response"),
        ] {
            assert_eq!(to(Some(source), event).await, expected, "{name} {what}");
        }
        for at in 0..4 {
            let mut event = golden(name);
            let (whom, parts) = identity(&mut event);
            whom[parts[at]] = Value::Null;
            assert_eq!(to(Some(source), event).await, "405 method_not_allowed", "{name} without {}", parts[at]);
        }
        let mut event = golden(name);
        let (_, [.., caller, _]) = identity(&mut event);
        identity(&mut event).0[caller] = json!("AROAOTHEROTHEROTHER22:i-0abc");
        assert_eq!(to(Some(source), event).await, "502 sts_inconsistent", "{name} with two callers");
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
    let in_query = Sent::new("GET", format!("/v1/token?requestContext.identity.userArn={arn}"));
    for sent in [sent, in_query] {
        for shape in Shape::ALL {
            for source in [None, Some(API), Some(URL)] {
                let event = shape.event(&sent);
                let reply = shape.reply(&answer(&test.function(source, None), &event).await.unwrap());
                assert_eq!(reply.error(), "405 method_not_allowed", "{shape:?} {source:?}");
            }
        }
        assert_eq!(test.send(sent.request()).await.error(), "405 method_not_allowed");
    }
}

#[tokio::test]
async fn what_is_no_event_is_no_request() {
    let (test, _) = registry().await;
    let function = test.function(Some(API), Some("/"));
    let mut unknown = golden("authorizer_token");
    unknown["type"] = json!("COGNITO");
    for event in [json!(null), json!("x"), json!([]), json!({}), json!({"Records": []}), json!({"type": 7}), unknown] {
        assert_eq!(answer(&function, &event).await, Err(Failure::NoEvent), "{event}");
    }
}

fn asked(name: &str, token: &str) -> Value {
    serde_json::from_str(&golden(name).to_string().replace("Bearer TOKEN", &format!("Bearer {token}"))).unwrap()
}

fn with_header(mut event: Value, token: &str) -> Value {
    event["headers"]["Authorization"] = format!("Bearer {token}").into();
    event["multiValueHeaders"]["Authorization"] = json!([format!("Bearer {token}")]);
    event
}

/// Another method and path, in every place where the event says them.
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

fn question(name: &str, token: &str) -> Value {
    if name == "authorizer_request_v1" { with_header(golden(name), token) } else { asked(name, token) }
}

/// An answer in few words: what it does, and to what.
fn decided(answer: &Result<Value, Failure>) -> String {
    match answer {
        Err(failure) => failure.to_string(),
        Ok(answer) if answer["policyDocument"].is_object() => {
            let statements = answer["policyDocument"]["Statement"].as_array().unwrap();
            assert_eq!((statements.len(), &statements[0]["Action"]), (1, &json!("execute-api:Invoke")));
            assert!(!answer["principalId"].as_str().unwrap().is_empty());
            format!("{} {}", statements[0]["Effect"].as_str().unwrap(), statements[0]["Resource"].as_str().unwrap())
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
            let permission = if method == "GET" || method == "HEAD" { "download" } else { "upload" };
            let context = json!({"principal": role("deploy"), "namespace": "acme", "permission": permission});
            assert_eq!(outcome.unwrap()["context"], if allowed { context } else { Value::Null });
        }
    }
}

#[tokio::test]
async fn an_authorizer_refuses_what_it_cannot_vouch_for() {
    let (test, token) = registry().await;
    let function = test.function(None, Some("/terraform"));
    let refused = |name: &str| if name == "authorizer_request_v2" { "isAuthorized: false" } else { "Unauthorized" };
    for name in GOLDEN {
        for path in ["*", "a?b", "a%2Fb", "acme/../other", "${aws:username}", "acme//vpc", "acme/"] {
            let event = about(question(name, &token), "GET", &format!("/terraform/v1/modules/{path}"));
            assert_eq!(decided(&answer(&function, &event).await), refused(name), "{name} {path}");
        }
        for bad in ["garbage", "", &format!("{token}, Bearer {token}")] {
            assert_eq!(decided(&answer(&function, &question(name, bad)).await), refused(name), "{name} {bad}");
        }
        assert_eq!(decided(&answer(&test.function(None, None), &question(name, &token)).await), "Unauthorized", "{name}: it is off");
        for arn in ["methodArn", "routeArn"] {
            let mut event = question(name, &token);
            if event[arn].is_null() {
                continue;
            }
            for other in [json!(null), json!("*"), json!("arn:aws:execute-api:us-east-1:111122223333:abcdef1234/prod/GET/*")] {
                event[arn] = other;
                assert_eq!(decided(&answer(&function, &event).await), refused(name), "{name} {}", event[arn]);
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
    twins["multiValueHeaders"]["Authorization"] = json!([format!("Bearer {token}"), format!("Bearer {token}")]);
    assert_eq!(decided(&answer(&function, &twins).await), "Unauthorized");
}

#[tokio::test]
async fn the_real_program_answers_lambda_without_an_argument() {
    function_answers(&program(BROKER)).await;
}

/// Each kind of event once, through the runtime API and the program.
async fn function_answers(program: &std::path::Path) {
    let (test, _) = registry().await;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let data = test.data().to_str().unwrap();
    let variables =
        [("STILE_HOST", "registry.example.com"), ("STILE_DATA", data), ("STILE_IAM_SOURCE", API), ("STILE_AUTHORIZER_BASE", "/terraform")];
    let function = lambda::Function::start(program, &variables, &log).await;
    for shape in Shape::ALL {
        let sent = Sent::new("GET", "/.well-known/terraform.json");
        let plain = test.send(sent.request()).await;
        let reply = shape.reply(&function.invoke(&shape.event(&sent)).await.unwrap());
        assert_eq!(seen(&reply), seen(&plain), "{shape:?}");
    }
    // Its own clock and keyring are at work now: it mints, and opens what it minted.
    let mut signed = golden("iam_rest_api");
    let (whom, [_, user, caller, _]) = identity(&mut signed);
    (whom[user], whom[caller]) = (json!(deploy().user_id), json!(deploy().user_id));
    let reply = Shape::RestApi.reply(&function.invoke(&signed).await.unwrap());
    assert_eq!(reply.status, 200, "{}", reply.text());
    let token = reply.json()["token"].as_str().unwrap().to_owned();
    let sent = Sent::new("GET", "/v1/modules/acme/vpc/aws/versions").bearer(&token);
    let plain = test.get("/v1/modules/acme/vpc/aws/versions", &test.token(&deploy(), &[Download]).await).await;
    for shape in Shape::ALL {
        let reply = shape.reply(&function.invoke(&shape.event(&sent)).await.unwrap());
        assert_eq!(seen(&reply), seen(&plain), "{shape:?}");
    }
    let allowed = function.invoke(&question("authorizer_token", &token)).await.unwrap();
    assert_eq!(allowed["policyDocument"]["Statement"][0]["Effect"], "Allow");
    let refused = function.invoke(&question("authorizer_token", "garbage")).await.unwrap_err();
    assert_eq!(refused["errorMessage"], "Unauthorized", "the literal word that makes a 401");
    let broken = function.invoke(&json!({"requestContext": 7})).await.unwrap_err();
    assert_eq!(broken["errorType"], "NoEvent");

    let said = function.log();
    assert!(said.lines().all(|line| serde_json::from_str::<Value>(line).is_ok_and(|line| line["level"].is_string())), "{said}");
    assert!(said.contains("\"decision\":\"minted\"") && said.contains("\"by\":\"gateway\""), "{said}");
    assert!(!said.contains(&token), "no token is logged");
}
