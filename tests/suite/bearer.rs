//! What a token gives access to and what not: how a client sends it, when it ends, and which rights
//! its principal has now.

use axum::body::Body;
use axum::http::Request;
use serde_json::json;
use stile_protocol::exchange::Namespaces;
use stile_protocol::names::Permission::{CreateGrant, Download, Upload};
use stile_tests::broker::operator::AsOperator as _;
use stile_tests::broker::{Backend, HOST, TestBroker, deploy, module_zip, namespaces, role};

const VERSIONS: &str = "/v1/modules/acme/vpc/aws/versions";

/// Starts a broker with one module, and returns a token that reads and writes it.
async fn published() -> Option<(TestBroker, String)> {
    let test = TestBroker::start_on(super::BACKEND).await?;
    test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    let token = test.token(&deploy(), &[Download, Upload]).await;
    assert_eq!(
        test.publish("acme/vpc/aws", "1.0.0", module_zip("hello"), &token).await.status,
        201
    );
    Some((test, token))
}

#[tokio::test]
async fn a_token_is_accepted_in_one_form_only() {
    let Some((test, token)) = published().await else { return };
    let calls = test.sts.calls();
    for headers in [
        vec![],
        vec![("authorization", "Bearer".to_owned())],
        vec![("authorization", "Bearer ".to_owned())],
        vec![("authorization", token.clone())],
        vec![("authorization", format!("Basic {token}"))],
        vec![("authorization", format!("Bearer  {token}"))],
        vec![("authorization", format!("Bearer\t{token}"))],
        vec![("authorization", format!("Bearer {token}, Bearer {token}"))],
        vec![
            ("authorization", format!("Bearer {token}")),
            ("authorization", format!("Bearer {token}")),
        ],
        vec![
            ("authorization", format!("Bearer {token}")),
            ("authorization", "Bearer x".to_owned()),
        ],
        vec![("x-authorization", format!("Bearer {token}"))],
        vec![("cookie", format!("token={token}"))],
        vec![("authorization", format!("Bearer {}", "a".repeat(4097)))],
    ] {
        let request = headers
            .iter()
            .fold(Request::get(VERSIONS), |request, (name, value)| request.header(*name, value));
        let reply = test.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(
            (reply.status.as_u16(), reply.header("www-authenticate")),
            (401, "Bearer"),
            "{headers:?}"
        );
        assert_eq!(
            reply.without_id().json(),
            json!({"errors": ["a valid token is required; hint: run `terraform-credentials-stile doctor` to find the cause; request id: REQUEST-ID"]})
        );
    }
    let with_query = test.get_anonymously(&format!("{VERSIONS}?token={token}")).await;
    assert_eq!(with_query.status, 401);
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let request = Request::get(VERSIONS).header("authorization", format!("{scheme} {token}"));
        assert_eq!(test.send(request.body(Body::empty()).unwrap()).await.status, 200, "{scheme}");
    }
    assert_eq!(test.sts.calls(), calls, "a request with a token never causes a call to STS");
}

#[tokio::test]
async fn garbage_and_strangers_tokens_get_the_one_answer() {
    let Some((test, token)) = published().await else { return };
    let Some((stranger, strangers_token)) = published().await else { return };
    let proof = test.proof(&deploy()).build().to_string();
    let paseto = token.strip_prefix("stile_").unwrap();
    for garbage in [
        "x",
        paseto,
        &strangers_token,
        &format!("tfr_{paseto}"),
        &token.replace("v4.local", "v2.local"),
        &token.replace("v4.local", "v4.public"),
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290In0.",
        &token[..token.len() - 1],
        &format!("{token}A"),
        &token.to_ascii_uppercase(),
        &hex::encode(proof),
    ] {
        let reply = test.get(VERSIONS, garbage).await;
        assert_eq!(
            (reply.status.as_u16(), reply.text().contains("a valid token is required")),
            (401, true),
            "{garbage:.60}"
        );
    }
    assert_eq!(stranger.get(VERSIONS, &strangers_token).await.status, 200);
    let reply = test.exchange(&json!({ "version": 1, "token": token })).await;
    assert_eq!(reply.error(), "400 invalid_request", "a token is not a proof");
}

#[tokio::test]
async fn a_token_ends_when_it_says_and_stays_dead_when_the_clock_is_set_back() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    test.grant(&role("deploy"), "acme", &[Download]).await;
    let token = test.token_for(&deploy(), Namespaces::All, &[Download], 60).await;
    test.advance(59);
    assert_eq!(test.get("/v1/whoami", &token).await.status, 200);
    test.advance(1);
    assert_eq!(test.get("/v1/whoami", &token).await.error(), "401 unauthorized");
    test.advance(-30);
    assert_eq!(test.get("/v1/whoami", &token).await.error(), "401 unauthorized");
}

#[tokio::test]
async fn a_lowered_maximum_ends_what_was_given_longer() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    test.grant(&role("deploy"), "acme", &[Download]).await;
    let token = test.token(&deploy(), &[Download]).await;
    let strict = test.restarted_as(HOST, 600);
    strict.set_time(test.time() + 599);
    assert_eq!(strict.get("/v1/whoami", &token).await.status, 200);
    strict.advance(1);
    assert_eq!(strict.get("/v1/whoami", &token).await.status, 401);
}

#[tokio::test]
async fn another_registry_with_the_same_keys_refuses_the_token() {
    let Some((test, token)) = published().await else { return };
    let other = test.restarted_as("other.example.com", 3600);
    // KMS does not open the keyring of another registry at all, so this broker cannot say whether
    // the token is valid.
    let expected = if test.backend() == Backend::Aws { 500 } else { 401 };
    assert_eq!(other.get(VERSIONS, &token).await.status.as_u16(), expected);
    assert_eq!(
        test.restarted().get(VERSIONS, &token).await.status,
        200,
        "while this registry accepts it after a restart"
    );
}

#[tokio::test]
async fn a_grant_taken_away_ends_access_within_ten_seconds() {
    let Some((test, token)) = published().await else { return };
    assert_eq!(test.get(VERSIONS, &token).await.status, 200);
    test.delete_grant(&role("deploy"), "acme").await;
    test.advance(9);
    assert_eq!(test.get(VERSIONS, &token).await.status, 200);
    test.advance(1);
    let reply = test.get(VERSIONS, &token).await;
    assert_eq!(reply.status, 403);
    assert!(reply.text().contains("arn:aws:iam::111122223333:role/deploy"), "{}", reply.text());
}

#[tokio::test]
async fn what_is_revoked_ends_within_ten_seconds_in_every_process_and_mints_no_more() {
    let Some((test, token)) = published().await else { return };
    let next = test.token(&deploy(), &[Download]).await;
    let processes = [&test, &test.restarted()];
    let answers = async |token: &str| {
        let mut statuses = Vec::new();
        for process in processes {
            process.set_time(test.time());
            statuses.push(process.get("/v1/whoami", token).await.status.as_u16());
        }
        statuses
    };
    assert_eq!((answers(&token).await, answers(&next).await), (vec![200, 200], vec![200, 200]));
    let claims =
        test.broker.tokens.open(&token, test.store(), test.time()).await.unwrap().claims.clone();
    test.store().as_operator().revoke_token(claims.id().clone(), test.time()).await.unwrap();
    test.advance(10);
    assert_eq!(
        (answers(&token).await, answers(&next).await),
        (vec![401, 401], vec![200, 200]),
        "one token"
    );

    let principal = claims.principal().clone();
    test.store().as_operator().revoke_principal(principal.clone(), test.time()).await.unwrap();
    let identity = deploy();
    test.sts.add_identity(identity.clone());
    assert_eq!(
        test.exchange(&test.proof(&identity).build()).await.error(),
        "403 principal_revoked",
        "the broker stops minting at once"
    );
    test.advance(10);
    assert_eq!(answers(&next).await, [401, 401], "every token of the principal");
    assert!(test.store().as_operator().lift(principal).await.unwrap());
    test.advance(10);
    assert_eq!(
        (answers(&token).await, answers(&next).await),
        (vec![401, 401], vec![200, 200]),
        "until it is lifted"
    );
}

#[tokio::test]
async fn a_later_grant_counts_for_a_token_for_all() {
    let Some((test, token)) = published().await else { return };
    assert_eq!(test.get("/v1/modules/other/vpc/aws/versions", &token).await.status, 403);
    test.grant(&role("deploy"), "other", &[Download]).await;
    test.advance(10);
    assert_eq!(test.get("/v1/modules/other/vpc/aws/versions", &token).await.status, 404);
}

#[tokio::test]
async fn a_token_reaches_no_further_than_it_says() {
    let Some((test, _)) = published().await else { return };
    test.grant(&role("deploy"), "other", &[Download, Upload]).await;
    let narrow = test.token_for(&deploy(), namespaces(&["acme"]), &[Download], 600).await;
    assert_eq!(test.get(VERSIONS, &narrow).await.status, 200);
    for (reply, what) in [
        (test.get("/v1/modules/other/vpc/aws/versions", &narrow).await, "another namespace"),
        (
            test.publish("acme/vpc/aws", "2.0.0", module_zip("x"), &narrow).await,
            "another permission",
        ),
    ] {
        assert_eq!(reply.status, 403, "{what}");
        let whose = "this token of `arn:aws:iam::111122223333:role/deploy` is not for `";
        assert!(reply.text().contains(whose), "{what}: {}", reply.text());
    }
}

#[tokio::test]
async fn while_the_store_is_down_reads_go_on_for_five_minutes_and_minting_stops() {
    let Some((test, token)) = published().await else { return };
    assert_eq!(test.get("/v1/whoami", &token).await.status, 200);
    test.break_store();
    for (seconds, expected) in [(11, 200), (200, 200), (88, 200), (1, 503)] {
        test.advance(seconds);
        assert_eq!(
            test.get("/v1/whoami", &token).await.status.as_u16(),
            expected,
            "after {seconds} more seconds"
        );
    }
    let identity = deploy();
    test.sts.add_identity(identity.clone());
    assert_eq!(test.exchange(&test.proof(&identity).build()).await.status, 503);
    test.repair_store();
    assert_eq!(
        test.get("/v1/whoami", &token).await.status,
        200,
        "and the broker works again without a restart"
    );
}

#[tokio::test]
async fn whoami_tells_the_bearer_what_is_known_of_it() {
    let Some((test, token)) = published().await else { return };
    test.grant("account:aws:111122223333", "common", &[Download]).await;
    test.advance(10);
    assert_eq!(
        test.get("/v1/whoami", &token).await.json(),
        json!({
            "principal": role("deploy"), "expires_at": "2026-11-20T11:11:12Z", "namespaces": "all", "permissions": ["download", "upload"],
            "grants": [
                {"principal": role("deploy"), "namespace": "acme", "permissions": ["download", "upload"], "expires_at": null},
                {"principal": "account:aws:111122223333", "namespace": "common", "permissions": ["download"], "expires_at": null},
            ],
        })
    );
}

#[tokio::test]
async fn whoami_shows_only_what_the_scope_of_the_token_covers() {
    let Some((test, _)) = published().await else { return };
    for (namespace, permissions) in
        [("tools", &[Download, Upload][..]), ("secret", &[Upload]), ("*", &[CreateGrant, Download])]
    {
        test.grant(&role("deploy"), namespace, permissions).await;
    }
    test.grant("account:aws:111122223333", "tools", &[Download]).await;
    test.advance(10);
    for (namespaces, permission, expected) in [
        (namespaces(&["acme"]), Download, vec!["acme download", "acme download"]),
        (namespaces(&["acme"]), CreateGrant, vec!["acme create_grant"]),
        (namespaces(&["acme", "tools"]), Upload, vec!["acme upload", "tools upload"]),
        (namespaces(&["secret"]), Upload, vec!["secret upload"]),
        (namespaces(&["new", "secret"]), Download, vec!["new download", "secret download"]),
        (Namespaces::All, CreateGrant, vec!["* create_grant"]),
        (Namespaces::All, Upload, vec!["acme upload", "secret upload", "tools upload"]),
        (
            Namespaces::All,
            Download,
            vec!["* download", "acme download", "tools download", "tools download"],
        ),
    ] {
        let token = test.token_for(&deploy(), namespaces.clone(), &[permission], 3600).await;
        let known = test.get("/v1/whoami", &token).await.json();
        let mut shown: Vec<String> = known["grants"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|grant| {
                let namespace = grant["namespace"].as_str().unwrap();
                let permissions = grant["permissions"].as_array().unwrap();
                permissions.iter().map(move |one| format!("{namespace} {}", one.as_str().unwrap()))
            })
            .collect();
        shown.sort();
        assert_eq!(shown, expected, "{namespaces:?} {permission}");
    }
}

#[tokio::test]
async fn after_every_key_was_dropped_the_next_token_is_good_at_once() {
    let Some((test, token)) = published().await else { return };
    assert_eq!(test.store().as_operator().drop_keys().await.unwrap(), Some(1));
    let next = test.token(&deploy(), &[Download]).await;
    assert_eq!(test.get(VERSIONS, &next).await.status, 200);
    test.advance(10);
    assert_eq!(
        test.get(VERSIONS, &token).await.status,
        401,
        "and the old token ends within ten seconds"
    );
}

#[tokio::test]
async fn a_keyring_that_was_removed_opens_nothing_within_ten_seconds() {
    let Some((test, token)) = published().await else { return };
    assert_eq!(test.get(VERSIONS, &token).await.status, 200);
    match test.backend() {
        Backend::Embedded => std::fs::remove_file(test.data().join("keyring.json")).unwrap(),
        Backend::Aws => {
            let key = json!({"pk": {"S": "keyring"}, "sk": {"S": "keyring"}});
            test.aws().dynamodb("DeleteItem", json!({ "Key": key })).await;
        }
    }
    test.advance(20);
    assert_eq!(test.get(VERSIONS, &token).await.status, 401);
}

#[tokio::test]
async fn tokens_of_two_processes_live_through_rotations_to_their_own_end_and_no_longer() {
    let Some((test, _)) = published().await else { return };
    let processes = [test.restarted(), test.restarted()];
    let mut minted: Vec<(i64, String)> = Vec::new();
    for day in 1..=4 {
        // Around the second at which the next key starts to mint, and on until the first tokens
        // expire.
        for step in [0, 150, 149, 1, 1, 1800, 1499, 1] {
            processes.iter().for_each(|process| process.advance(step));
            let (mine, yours) = (deploy(), deploy());
            let (one, two) = tokio::join!(
                processes[0].token(&mine, &[Download]),
                processes[1].token(&yours, &[Download])
            );
            let ends = processes[0].time() + 3600;
            minted.extend([(ends, one), (ends, two)]);
            for (ends, token) in &minted {
                for process in &processes {
                    let expected = if process.time() < *ends { 200 } else { 401 };
                    assert_eq!(
                        process.get("/v1/whoami", token).await.status.as_u16(),
                        expected,
                        "day {day}, {step}"
                    );
                }
            }
        }
        assert_eq!(test.store().keyring().await.unwrap().revision, day);
        processes.iter().for_each(|process| process.advance(24 * 3600));
    }
}
