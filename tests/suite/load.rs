//! The cost of garbage, copies and a hanging region: the number of calls, the memory, and the
//! requests that must wait.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use stile_protocol::names::Permission::{Download, Upload};
use stile_tests::aws::proxy::Fault;
use stile_tests::broker::{Backend, HOST, NOW, Place, TestBroker, deploy, module_zip, role};
use stile_tests::sts::identity::Identity;
use stile_tests::sts::proof::{with, with_document};

const VERSIONS: &str = "/v1/modules/acme/vpc/aws/versions";

/// The number of each kind here. `make soak` sends ten and a hundred times as many to the program
/// itself.
const GARBAGE: usize = 20_000;

/// The time in which the test sends them, in seconds of the test clock.
const SECONDS: usize = 40;

/// The time after which the client disconnects.
const HASTE: std::time::Duration = std::time::Duration::from_millis(3);

/// A registry with one module and a token. No call counts yet.
async fn registry() -> Option<(TestBroker, String)> {
    let test = TestBroker::start_on(super::BACKEND).await?;
    test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    let token = test.token(&deploy(), &[Download, Upload]).await;
    assert_eq!(test.publish("acme/vpc/aws", "1.0.0", module_zip("x"), &token).await.status, 201);
    assert_eq!(test.get("/v1/whoami", &token).await.status, 200);
    calls(&test);
    Some((test, token))
}

/// Returns the calls to the store on AWS since the last count. The embedded store has no calls to
/// count.
fn calls(test: &TestBroker) -> Vec<(String, usize)> {
    match test.backend() {
        Backend::Embedded => Vec::new(),
        Backend::Aws => test.aws().proxy.take_counts().into_iter().collect(),
    }
}

/// Returns so many random bytes in base64url.
fn random(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random).unwrap();
    URL_SAFE_NO_PAD.encode(random)
}

/// Returns a well-formed token under a key that does not exist.
fn made_up() -> String {
    let footer = URL_SAFE_NO_PAD.encode(format!("{{\"kid\":\"{}\"}}", random(16)));
    format!("stile_v4.local.{}.{footer}", random(200))
}

#[tokio::test]
async fn garbage_tokens_cost_one_look_at_the_keyring_in_ten_seconds() {
    let Some((test, token)) = registry().await else { return };
    let (sts, footer) = (test.sts.calls(), token.rsplit_once('.').unwrap().1.to_owned());
    for n in 0..GARBAGE {
        if n % (GARBAGE / SECONDS) == 0 {
            test.advance(1);
        }
        let garbage = match n % 4 {
            0 => made_up(),
            // With an existing key id, which every reader of a token knows.
            1 => format!("stile_v4.local.{}.{footer}", random(200)),
            2 => random(100),
            _ => token[..token.len() - 1 - n % 100].to_owned(),
        };
        assert_eq!(test.get(VERSIONS, &garbage).await.status, 401, "{garbage}");
    }
    assert_eq!(test.sts.calls(), sts);
    let looks = if test.backend() == Backend::Aws {
        vec![("dynamodb BatchGetItem".to_owned(), SECONDS / 10)]
    } else {
        vec![]
    };
    assert_eq!(calls(&test), looks, "in {SECONDS} seconds");
    assert_eq!(test.get(VERSIONS, &token).await.status, 200);
}

#[tokio::test]
async fn a_client_that_disconnects_causes_no_second_read() {
    let Some((test, token)) = registry().await else { return };
    test.advance(10);
    for _ in 0..50 {
        // Long enough that the broker calls the store, and mostly too short for the answer.
        let _ = tokio::time::timeout(HASTE, test.get(VERSIONS, &made_up())).await;
        let _ = tokio::time::timeout(HASTE, test.get_anonymously("/readyz")).await;
    }
    assert_eq!(test.get_anonymously("/readyz").await.status, 200);
    assert_eq!(test.get(VERSIONS, &made_up()).await.status, 401);
    if test.backend() == Backend::Aws {
        let made: Vec<String> = calls(&test)
            .into_iter()
            .filter(|(_, count)| *count > 2)
            .map(|(name, _)| name)
            .collect();
        assert_eq!(made, [""; 0], "one read of the keyring and one of everything");
    }
    assert_eq!(test.get(VERSIONS, &token).await.status, 200);
    if test.backend() == Backend::Aws {
        test.advance(10);
        calls(&test);
        test.aws().proxy.inject("", .., Fault::Hang);
        let asked = test.aws().proxy.next_stuck();
        let garbage = made_up();
        tokio::select! {
            reply = test.get(VERSIONS, &garbage) => panic!("{}", reply.text()),
            () = asked => {}
        }
        for _ in 0..50 {
            let _ = tokio::time::timeout(HASTE, test.get(VERSIONS, &made_up())).await;
        }
        let made: usize = calls(&test).into_iter().map(|(_, count)| count).sum();
        assert!((1..=3).contains(&made), "one read, which the SDK tries three times: {made}");
    }
}

#[tokio::test]
async fn garbage_exchanges_cost_no_call() {
    let regions = ["us-east-1"].map(|name| stile_protocol::region::Region::named(name).unwrap());
    let Some(place) = Place::new(super::BACKEND).await else { return };
    let test = TestBroker::start_at(HOST, 3600, place, &regions);
    let good = test.proof(&deploy()).build();
    let old = test.proof(&deploy()).now(NOW - 301).build();
    for n in 0..GARBAGE {
        // Each has its own signature, so nothing that the broker remembers of one helps with the
        // next.
        let mut digest = [0; 32];
        getrandom::fill(&mut digest).unwrap();
        let fresh = |body: &serde_json::Value| with(body.clone(), "signature", hex::encode(digest));
        let (body, expected) = match n % 6 {
            0 => (random(300), "400 invalid_request"),
            1 => (fresh(&old).to_string(), "401 proof_expired"),
            2 => (with(fresh(&good), "region", "eu-west-1").to_string(), "400 region_not_enabled"),
            3 => (with(fresh(&good), "region", random(20)).to_string(), "400 bad_region"),
            4 => (
                with_document(fresh(&good), random(80).as_bytes()).to_string(),
                "400 invalid_request",
            ),
            _ => (with(fresh(&good), &random(8), random(8)).to_string(), "400 invalid_request"),
        };
        assert_eq!(test.exchange_bytes(body.clone()).await.error(), expected, "{body}");
    }
    assert_eq!((test.sts.calls(), calls(&test)), (0, vec![]));
}

#[tokio::test]
async fn of_a_thousand_copies_at_once_one_mints_and_what_is_bent_rides_on_nothing() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await.map(Arc::new) else { return };
    test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    let identity = deploy();
    test.sts.add_identity(identity.clone());
    let proof = test.proof(&identity).build();
    let send = |body: serde_json::Value| {
        let test = Arc::clone(&test);
        tokio::spawn(async move { test.exchange(&body).await.error() })
    };
    let copies: Vec<_> = (0..1000).map(|_| send(proof.clone())).collect();
    let riders: Vec<_> = [Upload.as_str(), "create_grant"]
        .map(|permission| {
            let document = json!({"nonce": random(16), "ttl": 43_200, "namespaces": "all", "permissions": [permission]}).to_string();
            send(with_document(proof.clone(), document.as_bytes()))
        })
        .into();
    let mut outcomes = Vec::new();
    for copy in copies {
        outcomes.push(copy.await.unwrap());
    }
    let of = |outcome: &str| outcomes.iter().filter(|found| *found == outcome).count();
    assert_eq!((of("200 -"), of("401 proof_replayed")), (1, 999), "{outcomes:?}");
    for rider in riders {
        assert_eq!(rider.await.unwrap(), "401 signature_mismatch");
    }
    assert_eq!(test.sts.calls(), 3, "one for all copies, and one for each changed proof");
    assert_eq!(test.exchange(&proof).await.error(), "401 proof_replayed");
    assert_eq!(test.sts.calls(), 3);
}

#[tokio::test]
async fn who_finds_no_room_is_asked_to_come_back_and_costs_nothing() {
    let Some((test, token)) = registry().await else { return };
    let identity = deploy();
    test.sts.add_identity(identity.clone());
    let (sts, proof) = (test.sts.calls(), test.proof(&identity).build());
    let publish = || test.publish("acme/vpc/aws", "2.0.0", module_zip("y"), &token);
    let exchanges = test.broker.limits.exchanges.acquire_many(2048).await.unwrap();
    let uploads = test.broker.limits.uploads.acquire_many(32).await.unwrap();
    for (what, reply) in
        [("an exchange", test.exchange(&proof).await), ("an upload", publish().await)]
    {
        assert_eq!(
            (reply.status.as_u16(), reply.header("retry-after")),
            (429, "2"),
            "{what}: {}",
            reply.text()
        );
    }
    assert_eq!((test.sts.calls(), calls(&test)), (sts, vec![]));
    assert_eq!(test.get(VERSIONS, &token).await.status, 200, "while others read");
    drop((exchanges, uploads));
    assert_eq!(
        (test.exchange(&proof).await.status.as_u16(), publish().await.status.as_u16()),
        (200, 201)
    );
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_wherever_it_is_sent() {
    let Some((test, token)) = registry().await else { return };
    let stranger = Identity::role("111122223333", "stranger", "i-0abc");
    test.grant(&role("stranger"), "elsewhere", &[Upload]).await;
    let strangers = test.token(&stranger, &[Upload]).await;
    calls(&test);
    for (path, token, expected) in [
        ("/v1/token", "", 415),
        ("/v1/whoami", token.as_str(), 405),
        (VERSIONS, "", 405),
        ("/v1/modules/acme/vpc/aws/2.0.0", "", 401),
        ("/v1/modules/acme/vpc/aws/2.0.0", &strangers, 403),
        ("/nothing", "", 404),
    ] {
        // A body that fails the test when it is read: the server must read none of these.
        let body = Body::from_stream(futures_util::stream::once(async {
            panic!("the server read the body");
            #[expect(unreachable_code, reason = "the closure needs the item type of a stream")]
            Ok::<Vec<u8>, std::io::Error>(Vec::new())
        }));
        let request = Request::post(path)
            .header("content-type", "application/zip")
            .header("authorization", format!("Bearer {token}"));
        assert_eq!(
            test.send(request.body(body).unwrap()).await.status.as_u16(),
            expected,
            "{path}"
        );
    }
}
