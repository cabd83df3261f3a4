//! Strangers flood the token exchange with garbage, and known callers still get tokens.

use std::iter::repeat_n;
use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use stile_broker::authn::sigv4::SourceNetwork;
use stile_core::audit::Network;
use stile_protocol::names::Permission::Download;
use stile_tests::broker::{TestBroker, deploy, role};
use stile_tests::sts::identity::Identity;
use stile_tests::sts::local::Answer;

/// The strangers' connections.
const STRANGERS: usize = 90;

/// The mints of the known caller meanwhile.
const MINTS: usize = 30;

fn network(address: &str) -> SourceNetwork {
    SourceNetwork(Network::of(address.parse::<IpAddr>().unwrap()))
}

/// Sends a new proof of this identity from that network, and returns the status.
async fn exchange(test: &TestBroker, identity: &Identity, from: Option<SourceNetwork>) -> u16 {
    let proof = test.proof(identity).build();
    let mut request = Request::post("/v1/token").header("content-type", "application/json");
    if let Some(from) = from {
        request = request.extension(from);
    }
    test.send(request.body(Body::from(proof.to_string())).unwrap()).await.status.as_u16()
}

#[tokio::test]
async fn known_callers_mint_while_strangers_hold_what_they_can_of_sts() {
    let (ours, theirs) = (network("198.51.100.1"), network("192.0.2.1"));
    let known = deploy();
    // A stranger can read an access key id in a log. Without the secret, it signs garbage.
    let with_our_key = Identity { secret_access_key: "garbage".to_owned(), ..known.clone() };
    let unknown = || Identity::role("111122223333", "nobody", "i-0abc");
    for (what, strangers, from, held) in [
        ("their own keys", None, None, 48),
        ("their own keys, from one network", None, Some(theirs), 16),
        ("our key", Some(with_our_key), Some(theirs), 2),
    ] {
        let test = Arc::new(TestBroker::start());
        test.grant(&role("deploy"), "acme", &[Download]).await;
        test.sts.add_identity(known.clone());
        assert_eq!(exchange(&test, &known, Some(ours)).await, 200, "it mints, and is known");
        let before = test.sts.calls();
        test.sts.answer_next(repeat_n(Answer::Hang, held));
        let flood: Vec<_> = (0..STRANGERS)
            .map(|_| {
                let (test, stranger) = (Arc::clone(&test), strangers.clone());
                let stranger = stranger.unwrap_or_else(unknown);
                tokio::spawn(async move { exchange(&test, &stranger, from).await })
            })
            .collect();
        test.sts.wait_for_calls(before + held).await;
        for _ in 0..MINTS {
            assert_eq!(exchange(&test, &known, Some(ours)).await, 200, "{what}");
        }
        assert_eq!(test.sts.calls(), before + held + MINTS, "{what}: the others wait");
        flood.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
