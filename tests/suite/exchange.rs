//! The mint, from the body of `POST /v1/token` to the token: what the broker rejects, with which
//! code, and at which cost.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use stile_protocol::exchange::Namespaces;
use stile_protocol::names::Permission::{Download, Upload};
use stile_tests::broker::{HOST, NOW, Place, TestBroker, deploy, namespaces, role};
use stile_tests::sts::identity::Identity;
use stile_tests::sts::proof::{document, with, with_document, without};

fn with_a_byte_behind(proof: &Value, text: &str, byte: u8) -> Vec<u8> {
    let proof = proof.to_string();
    let (before, after) = proof.split_once(text).unwrap();
    [before.as_bytes(), text.as_bytes(), &[byte], after.as_bytes()].concat()
}

#[tokio::test]
async fn an_invalid_proof_is_refused_before_any_call() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let good = test.proof(&deploy()).build();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("nothing", vec![], "400 invalid_request"),
        ("null", b"null".to_vec(), "400 invalid_request"),
        ("a list", b"[]".to_vec(), "400 invalid_request"),
        ("a list of the fields", br#"[1,"us-east-1","20261120T101112Z","AKIA","x","y"]"#.to_vec(), "400 invalid_request"),
        ("an empty object", b"{}".to_vec(), "400 invalid_request"),
        ("a text", b"\"x\"".to_vec(), "400 invalid_request"),
        ("ten thousand brackets", "[".repeat(10_000).into_bytes(), "400 invalid_request"),
        ("a byte order mark", format!("\u{feff}{good}").into_bytes(), "400 invalid_request"),
        // Here the broker looks only at a region's length. With a replacement character for the
        // byte, the region would be one that is not enabled.
        ("a byte that is not UTF-8", with_a_byte_behind(&good, "us-east-1", 0xff), "400 invalid_request"),
        ("a byte that is not UTF-8 after the end", [good.to_string().as_bytes(), b"\xff"].concat(), "400 invalid_request"),
        ("another text encoding", good.to_string().encode_utf16().flat_map(u16::to_le_bytes).collect(), "400 invalid_request"),
        ("text after the end", format!("{good}{{}}").into_bytes(), "400 invalid_request"),
        ("a duplicate field", good.to_string().replacen('{', "{\"region\":\"us-west-2\",", 1).into_bytes(), "400 invalid_request"),
        ("a duplicate field in another case", with(good.clone(), "Region", "us-west-2").to_string().into_bytes(), "400 invalid_request"),
        ("a URL", with(good.clone(), "url", "https://evil.org").to_string().into_bytes(), "400 invalid_request"),
        ("headers", with(good.clone(), "headers", json!({"host": "evil.org"})).to_string().into_bytes(), "400 invalid_request"),
        ("an action", with(good.clone(), "body", "Action=AssumeRole").to_string().into_bytes(), "400 invalid_request"),
        ("no signature", without(good.clone(), "signature").to_string().into_bytes(), "400 invalid_request"),
        ("version 0", with(good.clone(), "version", 0).to_string().into_bytes(), "400 unsupported_version"),
        ("version 2", with(good.clone(), "version", 2).to_string().into_bytes(), "400 unsupported_version"),
        ("version \"1\"", with(good.clone(), "version", "1").to_string().into_bytes(), "400 unsupported_version"),
        ("too long", format!("{good}{}", " ".repeat(16 * 1024)).into_bytes(), "413 too_large"),
        (
            "a document with an empty list",
            with_document(good.clone(), br#"{"nonce":"AAAAAAAAAAAAAAAAAAAAAA","ttl":60,"namespaces":[],"permissions":["download"]}"#)
                .to_string()
                .into_bytes(),
            "400 invalid_request",
        ),
    ];
    for (what, body, expected) in cases {
        let reply = test.exchange_bytes(body).await;
        assert_eq!(reply.error(), expected, "{what}: {}", reply.text());
        assert!(!reply.json()["server_time"].as_str().unwrap_or_default().is_empty(), "{what}");
    }
    assert_eq!(test.sts.calls(), 0);
}

#[tokio::test]
async fn only_plain_json_is_read() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let good = test.proof(&deploy()).build().to_string();
    for headers in [
        vec![],
        vec![("content-type", "text/plain")],
        vec![("content-type", "application/json; charset=utf-16")],
        vec![("content-type", "application/json"), ("content-encoding", "gzip")],
        vec![("content-type", "application/json"), ("content-type", "application/json")],
    ] {
        let request = headers.iter().fold(Request::post("/v1/token"), |request, (name, value)| {
            request.header(*name, *value)
        });
        let reply = test.send(request.body(Body::from(good.clone())).unwrap()).await;
        assert_eq!(reply.error(), "415 unsupported_media_type", "{headers:?}");
    }
    for method in ["GET", "PUT", "DELETE", "PATCH"] {
        let reply = test
            .send(Request::builder().method(method).uri("/v1/token").body(Body::empty()).unwrap())
            .await;
        assert_eq!(
            (reply.error().as_str(), reply.header("allow")),
            ("405 method_not_allowed", "POST"),
            "{method}"
        );
    }
    let request = Request::post("/v1/token?Action=GetSessionToken")
        .header("content-type", "application/json");
    let reply = test.send(request.body(Body::from(good)).unwrap()).await;
    assert_eq!(reply.error(), "400 invalid_request", "{}", reply.text());
    assert_eq!(test.sts.calls(), 0);
}

#[tokio::test]
async fn a_region_that_is_not_enabled_here_has_no_host() {
    let regions = ["us-east-1", "eu-central-1"]
        .map(|name| stile_protocol::region::Region::named(name).unwrap());
    let Some(place) = Place::new(super::BACKEND).await else { return };
    let test = TestBroker::start_at(HOST, 3600, place, &regions);
    let good = test.proof(&deploy()).build();
    for region in [
        "evil.org?us-east-1",
        "us-east-1.evil.org",
        "us-east-1@evil.org",
        "us-east-1#",
        "us-east-1/",
        "us-east-1%2e",
        "us-east-1.",
        "us-east-1:443",
        "not-a-region",
        "us-attacker-1",
        "us-northeast-1",
        "",
        ".",
        "..",
        "💩",
        "us‐east‐1",
        "ｕs-east-1",
        "US-EAST-1",
        " us-east-1",
        "us-east-1 ",
        "us-east-1\0",
        "us-east-1\n",
        "global",
        "aws-global",
    ] {
        let reply = test.exchange(&with(good.clone(), "region", region)).await;
        assert_eq!(reply.error(), "400 bad_region", "{region:?}");
        assert!(
            reply.text().contains("eu-central-1"),
            "the hint names the enabled regions: {}",
            reply.text()
        );
    }
    let reply = test.exchange(&with(good, "region", "us-west-2")).await;
    assert_eq!(reply.error(), "400 region_not_enabled");
    assert!(reply.text().contains("us-east-1, eu-central-1"), "{}", reply.text());
    assert_eq!(test.sts.calls(), 0);
}

#[tokio::test]
async fn the_time_window_is_five_minutes_back_and_two_ahead() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    test.grant(&role("deploy"), "acme", &[Download]).await;
    for (offset, expected, calls) in [
        (-301, "401 proof_expired", 0),
        (-300, "200 -", 1),
        (120, "200 -", 1),
        (121, "401 proof_from_future", 0),
        (-1200, "401 proof_expired", 0),
    ] {
        let identity = deploy();
        test.sts.add_identity(identity.clone());
        let before = test.sts.calls();
        let reply = test.exchange(&test.proof(&identity).now(NOW + offset).build()).await;
        assert_eq!(
            (reply.error().as_str(), test.sts.calls() - before),
            (expected, calls),
            "{offset}"
        );
        if expected.starts_with("401") {
            assert_eq!(reply.json()["server_time"], "2026-11-20T10:11:12Z");
        }
    }
    test.set_time(1_795_219_201);
    let identity = deploy();
    test.sts.add_identity(identity.clone());
    let before_midnight = test.proof(&identity).now(1_795_219_199).build();
    assert!(
        before_midnight["amz_date"].as_str().unwrap().contains("T235959Z"),
        "{before_midnight}"
    );
    assert_eq!(
        test.exchange(&before_midnight).await.error(),
        "200 -",
        "the date in the credential scope is the date of the proof"
    );
}

#[tokio::test]
async fn a_proof_mints_one_token_however_it_is_sent_again() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    test.grant(&role("deploy"), "acme", &[Download]).await;
    let identity = deploy();
    test.sts.add_identity(identity.clone());
    let proof = test.proof(&identity).build();
    assert_eq!(test.exchange(&proof).await.status, 200);
    test.advance(1);
    assert_eq!(test.exchange(&proof).await.error(), "401 proof_replayed");
    let respelled = serde_json::to_string_pretty(&proof).unwrap();
    assert_eq!(test.exchange_bytes(respelled).await.error(), "401 proof_replayed");
    assert_eq!(test.sts.calls(), 1, "a replay that this process remembers causes no call");

    let other = test.restarted();
    other.sts.add_identity(identity);
    assert_eq!(other.exchange(&proof).await.error(), "401 proof_replayed");
    assert_eq!(other.sts.calls(), 1, "another process calls STS once, and the store refuses");
}

#[tokio::test]
async fn of_a_hundred_copies_at_once_one_is_minted_and_sts_is_asked_once() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await.map(std::sync::Arc::new) else {
        return;
    };
    test.grant(&role("deploy"), "acme", &[Download]).await;
    let identity = deploy();
    test.sts.add_identity(identity.clone());
    let proof = test.proof(&identity).build();
    test.sts.hold();
    let sent: Vec<_> = (0..100)
        .map(|_| {
            let (test, proof) = (std::sync::Arc::clone(&test), proof.clone());
            tokio::spawn(async move { test.exchange(&proof).await.error() })
        })
        .collect();
    test.sts.wait_for_calls(1).await;
    let bent = with_document(proof, br#"{"nonce":"AAAAAAAAAAAAAAAAAAAAAA","ttl":43200,"namespaces":"all","permissions":["upload"]}"#);
    let rider = tokio::spawn({
        let test = std::sync::Arc::clone(&test);
        async move { test.exchange(&bent).await.error() }
    });
    test.sts.wait_for_calls(2).await;
    test.sts.release();
    let mut outcomes = Vec::new();
    for task in sent {
        outcomes.push(task.await.unwrap());
    }
    outcomes.sort();
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "200 -").count(), 1, "{outcomes:?}");
    assert_eq!(
        outcomes.iter().filter(|outcome| *outcome == "401 proof_replayed").count(),
        99,
        "{outcomes:?}"
    );
    assert_eq!(
        rider.await.unwrap(),
        "401 signature_mismatch",
        "a changed proof with a copied signature never shares an answer"
    );
    assert_eq!(test.sts.calls(), 2);
}

#[tokio::test]
async fn who_is_not_granted_is_refused_by_name() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    test.grant(&role("deploy"), "team-a", &[Download]).await;
    test.grant("aws:111122223333:user/ci", "team-b", &[Download]).await;
    test.grant(&role("Deploy2"), "team-a", &[Download]).await;
    let role_named = |name: &str| Identity::role("111122223333", name, "i-0abc");
    for (identity, ask, permissions, expected, names) in [
        (deploy(), namespaces(&["team-a", "team-b"]), vec![Download], "403 no_grant", "team-b"),
        (deploy(), namespaces(&["team-ab"]), vec![Download], "403 no_grant", "team-ab"),
        (deploy(), namespaces(&["team-a"]), vec![Download, Upload], "403 no_grant", "upload"),
        (deploy(), Namespaces::All, vec![Upload], "403 no_grant", "upload"),
        (
            role_named("ci"),
            Namespaces::All,
            vec![Download],
            "403 no_grant",
            "arn:aws:iam::111122223333:role/ci",
        ),
        (role_named("deploy2"), Namespaces::All, vec![Download], "403 no_grant", "role/deploy2"),
        (
            Identity::role("999999999999", "deploy", "i-0abc"),
            Namespaces::All,
            vec![Download],
            "403 no_grant",
            "999999999999",
        ),
        (
            Identity::role("111122223333", "other", "deploy"),
            Namespaces::All,
            vec![Download],
            "403 no_grant",
            "role/other",
        ),
    ] {
        test.sts.add_identity(identity.clone());
        let reply = test
            .exchange(&test.proof(&identity).document(&document(600, ask, &permissions)).build())
            .await;
        assert_eq!(reply.error(), expected, "{}", reply.text());
        assert!(reply.json()["message"].as_str().unwrap().contains(names), "{}", reply.text());
        assert!(
            reply.json()["hint"].as_str().unwrap().contains("stile-admin grant create"),
            "{}",
            reply.text()
        );
    }
}

#[tokio::test]
async fn a_token_says_what_was_asked_and_lives_no_longer_than_the_operator_allows() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    let identity = deploy();
    test.sts.add_identity(identity.clone());
    let reply = test
        .exchange(
            &test
                .proof(&identity)
                .document(&document(43_200, namespaces(&["acme"]), &[Upload]))
                .build(),
        )
        .await;
    let body = reply.json();
    assert!(body["token"].as_str().unwrap().starts_with("stile_v4.local."), "{body}");
    assert_eq!(
        without(body, "token"),
        json!({
            "expires_at": "2026-11-20T11:11:12Z", "principal": role("deploy"), "namespaces": ["acme"], "permissions": ["upload"],
        })
    );
    assert_eq!(
        (reply.header("cache-control"), reply.header("content-type")),
        ("no-store", "application/json")
    );
    let all = test.exchange(&test.proof(&identity).build()).await.json();
    assert_eq!((&all["namespaces"], &all["permissions"]), (&json!("all"), &json!(["download"])));
}

#[tokio::test]
async fn every_way_to_reach_a_caller_counts() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    test.grant("sso:aws:111122223333/Admin", "acme", &[Download]).await;
    test.grant("sso:aws-cn:111122223333/Admin", "china", &[Download]).await;
    test.grant("account:aws:111122223333", "common", &[Upload]).await;
    let sso = Identity::role(
        "111122223333",
        "AWSReservedSSO_Admin_0123456789abcdef",
        "alice@example.com",
    );
    test.sts.add_identity(sso.clone());
    for (ask, permission, expected) in [
        ("acme", Download, 200),
        ("common", Upload, 200),
        ("china", Download, 403),
        ("common", Download, 403),
    ] {
        let reply = test
            .exchange(
                &test
                    .proof(&sso)
                    .document(&document(600, namespaces(&[ask]), &[permission]))
                    .build(),
            )
            .await;
        assert_eq!(reply.status.as_u16(), expected, "{ask}: {}", reply.text());
    }
    for near in [
        "AWSReservedSSO_Admin_0123456789abcde",
        "AWSReservedSSO_Admin_0123456789ABCDEF",
        "AWSReservedSSO__0123456789abcdef",
        "AWSReservedSSO_Admin2_0123456789abcdef",
    ] {
        let identity = Identity::role("111122223333", near, "bob");
        test.sts.add_identity(identity.clone());
        let reply = test
            .exchange(
                &test
                    .proof(&identity)
                    .document(&document(600, namespaces(&["acme"]), &[Download]))
                    .build(),
            )
            .await;
        assert_eq!(reply.error(), "403 no_grant", "{near}");
    }
}

#[tokio::test]
async fn a_recreated_role_under_its_old_name_is_refused() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    test.grant(&role("deploy"), "acme", &[Download]).await;
    test.grant("account:aws:111122223333", "common", &[Download]).await;
    let original = deploy();
    let token = test.token(&original, &[Download]).await;
    let recreated = original.recreated();
    test.sts.add_identity(recreated.clone());
    let ask = |names: &[&str]| {
        test.proof(&recreated).document(&document(600, namespaces(names), &[Download])).build()
    };
    let reply = test.exchange(&ask(&["acme"])).await;
    assert_eq!(reply.error(), "403 principal_recreated", "{}", reply.text());
    assert!(reply.text().contains("grant repin"), "{}", reply.text());
    assert_eq!(
        test.exchange(&ask(&["common"])).await.status,
        200,
        "rights from other principals stay"
    );
    assert_eq!(
        test.get("/v1/modules/acme", &token).await.status,
        200,
        "the original role has access as before"
    );
}

#[tokio::test]
async fn without_a_store_or_a_keyring_nothing_is_minted() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    test.grant(&role("deploy"), "acme", &[Download]).await;
    let identity = deploy();
    test.sts.add_identity(identity.clone());
    test.break_store();
    let reply = test.exchange(&test.proof(&identity).build()).await;
    assert!(reply.status == 503 && !reply.header("retry-after").is_empty(), "{}", reply.text());
    assert!(
        !reply.text().contains("keyring.json") && !reply.text().contains("127.0.0.1"),
        "locations are only in the log: {}",
        reply.text()
    );
    assert_eq!(test.get_anonymously("/readyz").await.status, 503);
    test.repair_store();
    assert_eq!(
        test.exchange(&test.proof(&identity).build()).await.status,
        200,
        "and the broker works again without a restart"
    );
    assert_eq!(test.get_anonymously("/readyz").await.status, 200);
    test.break_store();
    test.advance(2);
    assert_eq!(
        test.get_anonymously("/readyz").await.status,
        503,
        "cached state does not make the broker ready"
    );
}

#[tokio::test]
async fn no_refusal_holds_a_secret_that_was_sent() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let identity = deploy();
    let proof = test.proof(&identity).build();
    let secrets: Vec<String> = ["session_token", "signature"]
        .iter()
        .map(|field| proof[*field].as_str().unwrap().to_owned())
        .collect();
    let mut bodies: Vec<Value> = vec![proof.clone()];
    for field in
        ["version", "region", "amz_date", "access_key_id", "session_token", "signature", "request"]
    {
        bodies.push(without(proof.clone(), field));
        bodies.push(with(
            proof.clone(),
            field,
            json!([proof["session_token"], proof["signature"]]),
        ));
        bodies.push(with(
            proof.clone(),
            field,
            format!(
                "{}{}",
                proof["session_token"].as_str().unwrap(),
                proof["signature"].as_str().unwrap()
            ),
        ));
    }
    for body in bodies {
        let reply = test.exchange(&body).await;
        assert!(reply.status.is_client_error(), "{}", reply.text());
        for secret in &secrets {
            assert!(!reply.text().contains(secret), "{}", reply.text());
        }
    }
}
