//! Tokens over time and in several processes, every changed spelling of a token, and where a token
//! or an answer could leak.

use axum::body::Body;
use axum::http::{HeaderValue, Request};
use serde_json::Value;
use stile_core::principal::Principal;
use stile_core::token::TokenId;
use stile_protocol::names::Permission::Download;
use stile_tests::broker::operator::AsOperator as _;
use stile_tests::broker::{ACCOUNT, Backend, TestBroker, deploy, role};
use stile_tests::sts::identity::Identity;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::file::Forged;
use super::super::forge;
use super::super::ground::{Ground, get};
use super::super::text::Values;

const WHOAMI: &str = "/v1/whoami";
const DOWNLOAD: &str = "/v1/modules/acme/vpc/aws/1.0.0/download";

async fn status(process: &TestBroker, token: &str) -> u16 {
    process.get(WHOAMI, token).await.status.as_u16()
}

/// Sends a token of one megabyte over a connection. The server rejects such headers before it looks
/// at the token.
pub(super) async fn a_megabyte_of_token_is_refused(backend: Backend) {
    let ground = Ground::plain(backend).await;
    let serving = ground.test.serve(None).await;
    for (length, expected) in [(4097, "401"), (1 << 20, "431")] {
        let mut stream = tokio::net::TcpStream::connect(serving.address).await.unwrap();
        let head = format!(
            "GET {WHOAMI} HTTP/1.1\r\nhost: a\r\nconnection: close\r\nauthorization: Bearer {}\r\n\r\n",
            "a".repeat(length)
        );
        let _ = stream.write_all(head.as_bytes()).await;
        let mut answer = [0; 64];
        let read = stream.read(&mut answer).await.unwrap_or_default();
        assert!(
            String::from_utf8_lossy(&answer[..read]).starts_with(&format!("HTTP/1.1 {expected} ")),
            "{length}"
        );
    }
}

/// Tries every change, not a sample. The property tests in the code try random ones.
pub(super) async fn every_bent_token_is_refused(backend: Backend) {
    let ground = Ground::plain(backend).await;
    let good = ground.token.as_bytes();
    let flipped = (0..good.len() * 8).map(|bit| {
        let mut bent = good.to_vec();
        bent[bit / 8] ^= 1 << (bit % 8);
        bent
    });
    let cut = (0..good.len()).map(|length| good[..length].to_vec());
    let beheaded = (1..good.len()).map(|from| good[from..].to_vec());
    let longer = (0..=good.len()).flat_map(|at| {
        [b'A', b'.', b'=', b'_', b' '].map(|letter| {
            let mut bent = good.to_vec();
            bent.insert(at, letter);
            bent
        })
    });
    let (mut sent, sts) = (0, ground.test.sts.calls());
    for bent in flipped.chain(cut).chain(beheaded).chain(longer) {
        // A client cannot send a token that no header can carry.
        let Ok(value) = HeaderValue::from_bytes(&[b"Bearer ", &*bent].concat()) else { continue };
        // A reader of headers ignores a space after the token, and sees two spaces for one before
        // it. The broker rejects both.
        let request =
            Request::get(WHOAMI).header("authorization", value).body(Body::empty()).unwrap();
        let reply = ground.test.send(request).await;
        assert_eq!(reply.error(), "401 unauthorized", "{}", String::from_utf8_lossy(&bent));
        sent += 1;
    }
    assert!(sent > good.len() * 10, "{sent} of them");
    assert_eq!(ground.test.sts.calls(), sts);
    if backend == Backend::Aws {
        assert!(
            ground.test.aws().proxy.take_counts().is_empty(),
            "and the broker called no service"
        );
    }
    assert_eq!(status(&ground.test, &ground.token).await, 200);
}

pub(super) async fn a_token_under_a_dropped_key_is_refused(backend: Backend) {
    let ground = Ground::plain(backend).await;
    let old = forge::forged(&ground.test, &Forged::default(), &Values::new()).await;
    assert_eq!(status(&ground.test, &old).await, 200);
    assert_eq!(ground.test.store().as_operator().drop_keys().await.unwrap(), Some(1));
    let next = ground.test.token(&deploy(), &[Download]).await;
    ground.test.advance(10);
    assert_eq!(status(&ground.test, &next).await, 200);
    ground.forget();
    ground
        .expect(get(WHOAMI, &old), std::slice::from_ref(&old), "401 unauthorized", "0/0/1/0")
        .await;
    for _ in 0..3 {
        ground
            .expect(get(WHOAMI, &old), std::slice::from_ref(&old), "401 unauthorized", "0/0/0/0")
            .await;
    }
}

pub(super) async fn what_is_revoked_is_refused_everywhere(backend: Backend) {
    let ground = Ground::plain(backend).await;
    let other = ground.test.restarted();
    let both = [&ground.test, &other];
    let (by_id, of_another) = (ground.test.token(&deploy(), &[Download]).await, {
        ground.test.grant(&role("another"), "acme", &[Download]).await;
        ground.test.token(&Identity::role(ACCOUNT, "another", "i-0abc"), &[Download]).await
    });
    let pass = |seconds| both.iter().for_each(|process| process.advance(seconds));
    let everywhere = async |token: &str, expected: u16, what: &str| {
        for process in both {
            assert_eq!(status(process, token).await, expected, "{what}");
        }
    };
    for token in [&ground.token, &by_id, &of_another] {
        everywhere(token, 200, "before").await;
    }
    ground
        .test
        .store()
        .as_operator()
        .revoke_token(id(&ground.test, &by_id).await, ground.test.time())
        .await
        .unwrap();
    pass(10);
    everywhere(&by_id, 401, "a token").await;
    everywhere(&ground.token, 200, "another token of the same role").await;
    ground
        .test
        .store()
        .as_operator()
        .revoke_principal(Principal::parse_stored(&role("another")).unwrap(), ground.test.time())
        .await
        .unwrap();
    pass(10);
    everywhere(&of_another, 401, "a role").await;
    assert_eq!(ground.test.store().as_operator().drop_keys().await.unwrap(), Some(1));
    pass(10);
    everywhere(&ground.token, 401, "everyone").await;
}

/// Returns the id in a token's claims.
async fn id(test: &TestBroker, token: &str) -> TokenId {
    let opened = test.broker.tokens.open(token, test.store(), test.time()).await.unwrap();
    opened.claims.id().clone()
}

pub(super) async fn a_snapshot_older_than_five_minutes_is_not_used(backend: Backend) {
    let ground = Ground::plain(backend).await;
    super::without_table(&ground.test, "revoked_principals", true);
    for (seconds, expected) in [(11, 200), (200, 200), (88, 200), (1, 503), (600, 503)] {
        ground.test.advance(seconds);
        let outcome =
            ground.watch(get(WHOAMI, &ground.token), std::slice::from_ref(&ground.token)).await;
        assert_eq!(
            outcome.reply.status.as_u16(),
            expected,
            "after {seconds} more seconds: {}",
            outcome.reply.text()
        );
        assert!(outcome.problems.is_empty(), "{:?}", outcome.problems);
        assert_eq!(outcome.reply.header("retry-after").is_empty(), expected == 200);
    }
    super::without_table(&ground.test, "revoked_principals", false);
    assert_eq!(status(&ground.test, &ground.token).await, 200);
}

pub(super) async fn a_grant_taken_away_ends_access_everywhere(backend: Backend) {
    let ground = Ground::plain(backend).await;
    let other = ground.test.restarted();
    let hidden = [ground.token.clone()];
    for process in [&ground.test, &other] {
        assert_eq!(process.get(DOWNLOAD, &ground.token).await.status, 204);
    }
    ground.test.delete_grant(&role("deploy"), "acme").await;
    for process in [&ground.test, &other] {
        process.advance(10);
        // The one refresh in ten seconds, and then no call.
        ground.expect_in(process, get(DOWNLOAD, &ground.token), &hidden, "403 -", "0/0/1/0").await;
        ground.expect_in(process, get(DOWNLOAD, &ground.token), &hidden, "403 -", "0/0/0/0").await;
    }
}

/// The broker caches nothing between two authorizer events. What a gateway caches is for the one
/// request in the policy.
pub(super) async fn an_authorizer_names_the_one_request(backend: Backend) {
    let ground = Ground::plain(backend).await;
    let function = ground.test.function(None, Some("/terraform"));
    let ask = |path: &str| {
        let mut event = crate::authorizer::question("authorizer_token", &ground.token);
        let arn = event["methodArn"].as_str().unwrap();
        let start: Vec<_> = arn.split('/').take(2).collect();
        event["methodArn"] = format!("{}/GET{path}", start.join("/")).into();
        event
    };
    let good = "/terraform/v1/modules/acme/vpc/aws/versions";
    let allowed = crate::lambda::answer(&function, &ask(good)).await.unwrap();
    let statement = &allowed["policyDocument"]["Statement"];
    assert_eq!(
        (statement.as_array().unwrap().len(), &statement[0]["Effect"]),
        (1, &Value::from("Allow"))
    );
    assert!(
        statement[0]["Resource"].as_str().unwrap().ends_with(&format!("/GET{good}")),
        "{statement}"
    );
    let other =
        crate::lambda::answer(&function, &ask("/terraform/v1/modules/other/vpc/aws/versions"))
            .await
            .unwrap();
    assert_eq!(
        other["policyDocument"]["Statement"][0]["Effect"], "Deny",
        "although it just allowed the other request"
    );
    for path in [
        "*",
        "acme/*",
        "acme/vp?/aws/versions",
        "acme%2Fvpc/aws/versions",
        "%61cme/vpc/aws/versions",
        "acme/../other",
        "acme//vpc",
    ] {
        let refused =
            crate::lambda::answer(&function, &ask(&format!("/terraform/v1/modules/{path}"))).await;
        assert_eq!(refused.unwrap_err().to_string(), "Unauthorized", "{path}");
    }
}

pub(super) async fn a_link_carries_no_token(backend: Backend) {
    let ground = Ground::plain(backend).await;
    let hidden = [ground.token.clone()];
    // The broker makes a presigned URL without a call. One read of the version says where the
    // archive is.
    let outcome = ground.expect(get(DOWNLOAD, &ground.token), &hidden, "204 -", "0/0/1/0").await;
    let location = outcome.reply.header("x-terraform-get").to_owned();
    assert!(
        !location.is_empty()
            && !location.contains("stile_v4")
            && !location.to_ascii_lowercase().contains("bearer"),
        "{location}"
    );
    let start = location.split('?').next().unwrap();
    assert!(
        outcome.logged.lines().all(|line| !line.contains(start)),
        "the log contains no signed URL: {}",
        outcome.logged.human.text
    );
    match backend {
        Backend::Aws => assert!(location.contains("X-Amz-Expires=300&"), "{location}"),
        Backend::Embedded => {
            let ends = ground.test.time() + 300;
            assert!(location.contains(&format!("expires={ends}&")), "{location}");
            assert_eq!(ground.test.get_anonymously(&location).await.status, 200);
            ground.test.advance(300);
            assert_eq!(ground.test.get_anonymously(&location).await.status, 403);
        }
    }
}
