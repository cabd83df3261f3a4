//! Replays of proofs: at once, in another spelling and in another process, also while no store can
//! say whether they are replays.

use axum::body::Body;
use axum::http::Request;
use serde_json::Value;
use stile_tests::broker::{Backend, deploy};
use stile_tests::sts::identity::Identity;

use super::super::ground::{Ground, exchange, secrets};

fn proof(ground: &Ground) -> (Identity, Value, Vec<String>) {
    let identity = deploy();
    ground.test.sts.add_identity(identity.clone());
    let proof = ground.test.proof(&identity).build();
    let hidden = secrets(&identity, &proof);
    (identity, proof, hidden)
}

pub(super) async fn a_proof_that_is_sent_again_is_refused(backend: Backend) {
    let ground = Ground::plain(backend).await;
    let (_, proof, hidden) = proof(&ground);
    ground.expect(exchange(proof.to_string()), &hidden, "200 -", "1/0/1/1").await;
    ground.test.advance(1);
    ground.expect(exchange(proof.to_string()), &hidden, "401 proof_replayed", "0/0/0/0").await;
    ground.test.advance(298);
    ground.expect(exchange(proof.to_string()), &hidden, "401 proof_replayed", "0/0/0/0").await;
    ground.test.advance(2);
    ground.expect(exchange(proof.to_string()), &hidden, "401 proof_expired", "0/0/0/0").await;
}

pub(super) async fn a_replay_in_other_words_is_known(backend: Backend) {
    let ground = Ground::plain(backend).await;
    let (_, proof, hidden) = proof(&ground);
    ground.expect(exchange(proof.to_string()), &hidden, "200 -", "1/0/1/1").await;
    let mut fields: Vec<_> = proof.as_object().unwrap().iter().collect();
    fields.reverse();
    let turned: Vec<_> =
        fields.iter().map(|(name, value)| format!(" \"{name}\" :\t{value}")).collect();
    let escaped = proof.to_string().replacen("us-east-1", "\\u0075s-east-1", 1);
    for body in [
        serde_json::to_string_pretty(&proof).unwrap(),
        format!("{{\n{}\r\n}}\n", turned.join(" ,")),
        escaped,
    ] {
        ground.expect(exchange(body), &hidden, "401 proof_replayed", "0/0/0/0").await;
    }
    let request = Request::post("/v1/token")
        .header("content-type", "application/json; charset=utf-8")
        .header("x-other", "1");
    let request =
        request.header("authorization", "Bearer x").body(Body::from(proof.to_string())).unwrap();
    ground.expect(request, &hidden, "401 proof_replayed", "0/0/0/0").await;
}

pub(super) async fn a_replay_in_another_process_costs_one_write(backend: Backend) {
    let ground = Ground::plain(backend).await;
    let (identity, proof, hidden) = proof(&ground);
    ground.expect(exchange(proof.to_string()), &hidden, "200 -", "1/0/1/1").await;
    let other = ground.test.restarted();
    other.sts.add_identity(identity);
    assert_eq!(other.get("/v1/whoami", &ground.token).await.status, 200);
    ground
        .expect_in(&other, exchange(proof.to_string()), &hidden, "401 proof_replayed", "1/0/1/1")
        .await;
    ground
        .expect_in(&other, exchange(proof.to_string()), &hidden, "401 proof_replayed", "0/0/0/0")
        .await;
}

/// This test counts no calls to a store that is away, because no service counts them there.
pub(super) async fn without_the_store_nothing_is_minted(backend: Backend) {
    let ground = Ground::plain(backend).await;
    let (_, proof, hidden) = proof(&ground);
    super::without_table(&ground.test, "proofs", true);
    let outcome = ground.watch(exchange(proof.to_string()), &hidden).await;
    super::without_table(&ground.test, "proofs", false);
    assert_eq!(
        (outcome.reply.error().as_str(), outcome.calls.sts),
        ("503 store_unavailable", 1),
        "{}",
        outcome.reply.text()
    );
    assert!(
        outcome.problems.is_empty() && !outcome.reply.header("retry-after").is_empty(),
        "{:?}",
        outcome.problems
    );
    ground.forget();
    assert_eq!(ground.test.exchange(&proof).await.status, 200, "and the proof is still unused");
}
