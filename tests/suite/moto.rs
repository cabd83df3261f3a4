//! The real broker with moto, a third party's STS that verifies signatures: which requests moto
//! confirms, and which not.

use serde_json::{Value, json};
use stile_protocol::names::Permission::Download;
use stile_tests::aws::moto::{ACCOUNT, Moto};
use stile_tests::broker::make_data;
use stile_tests::broker::served::system_time;
use stile_tests::process::home::Home;
use stile_tests::process::programs::{Broker, HELPER, Setup, free_port, program};
use stile_tests::skipped::skipped;
use stile_tests::sts::identity::Identity;
use stile_tests::sts::proof::{Proof, document_of, with_document};
use tempfile::TempDir;

/// A broker that uses moto as STS, in which the role `deploy` has a grant for `download`.
struct Registry {
    moto: Moto,
    broker: Broker,
    identity: Identity,
    _data: TempDir,
}

impl Registry {
    /// Returns `None` without Python, which moto needs.
    async fn start(shows: &str) -> Option<Self> {
        let Some(moto) = Moto::start() else {
            skipped("python3", shows);
            return None;
        };
        let identity = moto.role_credentials("deploy").await;
        let data = tempfile::tempdir().unwrap();
        make_data(data.path(), &format!("aws:{ACCOUNT}:role/deploy"), "acme", &[Download]).await;
        let setup = Setup::new(free_port(), data.path()).sts(&moto.endpoint());
        let broker = setup.start(&data.path().join("broker.log")).await;
        Some(Self { moto, broker, identity, _data: data })
    }

    fn proof(&self, identity: &Identity) -> Value {
        Proof::new(identity).audience(&self.broker.host()).now(system_time()).build()
    }

    /// Exchanges a proof. Returns the status and the code of an error, if there is one.
    async fn exchange(&self, proof: &Value) -> (String, Value) {
        let request = self
            .broker
            .client()
            .post(self.broker.url("/v1/token"))
            .header("content-type", "application/json");
        let answer = request.body(proof.to_string()).send().await.unwrap();
        let status = answer.status().as_u16();
        let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default();
        (format!("{status} {}", body["error"].as_str().unwrap_or("-")), body)
    }
}

#[tokio::test]
async fn a_third_party_refuses_what_was_changed_and_vouches_for_what_was_not() {
    let Some(registry) = Registry::start("a token minted through moto").await else { return };
    let proof = registry.proof(&registry.identity);
    let mut document = document_of(&proof);
    let at = document.windows(4).position(|window| window == b"3600").unwrap();
    document[at + 3] = b'1';
    let (other, session) =
        (registry.identity.clone().renewed(), registry.identity.session_token.clone());
    let wrong_secret = Identity {
        secret_access_key: other.secret_access_key.clone(),
        ..registry.identity.clone()
    };
    let unknown_key = Identity { session_token: session, ..other };
    for (what, bent, expected) in [
        (
            "one byte of the document",
            with_document(proof.clone(), &document),
            "401 signature_mismatch",
        ),
        ("another secret", registry.proof(&wrong_secret), "401 signature_mismatch"),
        ("an unknown access key", registry.proof(&unknown_key), "401 invalid_credentials"),
    ] {
        let (outcome, body) = registry.exchange(&bent).await;
        assert_eq!(outcome, expected, "{what}: {body}");
    }

    let (outcome, body) = registry.exchange(&proof).await;
    assert_eq!(outcome, "200 -", "{body}");
    assert_eq!(
        (&body["principal"], &body["permissions"]),
        (&json!(format!("aws:{ACCOUNT}:role/deploy")), &json!(["download"]))
    );
    let whoami = registry
        .broker
        .client()
        .get(registry.broker.url("/v1/whoami"))
        .bearer_auth(body["token"].as_str().unwrap());
    assert_eq!(whoami.send().await.unwrap().status(), 200);
    assert_eq!(registry.exchange(&proof).await.0, "401 proof_replayed");
}

#[tokio::test]
async fn of_a_hundred_copies_at_once_one_is_minted() {
    let Some(registry) = Registry::start("a hundred copies of a proof mint once").await else {
        return;
    };
    let registry = std::sync::Arc::new(registry);
    let proof = registry.proof(&registry.identity);
    let sent: Vec<_> = (0..100)
        .map(|_| {
            let (registry, proof) = (std::sync::Arc::clone(&registry), proof.clone());
            tokio::spawn(async move { registry.exchange(&proof).await.0 })
        })
        .collect();
    let mut outcomes = Vec::new();
    for outcome in sent {
        outcomes.push(outcome.await.unwrap());
    }
    let count = |expected: &str| outcomes.iter().filter(|outcome| *outcome == expected).count();
    assert_eq!((count("200 -"), count("401 proof_replayed")), (1, 99), "{outcomes:?}");
}

#[tokio::test]
async fn the_helper_gets_a_token_that_a_third_party_vouched_for() {
    let Some(registry) = Registry::start("the helper's token, minted through moto").await else {
        return;
    };
    let (host, helper) = (registry.broker.host(), program(HELPER));
    let mut home = Home::temporary();
    home.configure_helper(&format!(
        "[registry.\"{host}\"]\nurl = \"{}\"\n",
        registry.broker.url("")
    ));
    let stranger = registry.moto.role_credentials("stranger").await;
    for (identity, code, token, words) in [
        (
            stranger,
            Some(1),
            false,
            "hint: ask an operator for `stile-admin grant create --role-arn arn:aws:iam::123456789012:role/stranger",
        ),
        (registry.identity.clone(), Some(0), true, ""),
    ] {
        home.act_as(&identity, "us-east-1");
        let ran = home.run(&helper, &["get", &host]).await;
        assert_eq!(
            (ran.code, ran.stdout.starts_with("{\"token\":\"stile_v4.local.")),
            (code, token),
            "{}",
            ran.stderr
        );
        assert!(ran.stderr.contains(words), "{}", ran.stderr);
    }
}
