//! Clients of a broker that may be killed at any moment: what they send, and what came back.

use serde_json::Value;
use stile_tests::process::programs::Broker;
use tokio::sync::mpsc;

pub(crate) const ADDRESS: &str = "acme/vpc/aws";

/// What was sent and what came back.
#[derive(Debug)]
pub(crate) enum Event {
    Minted {
        proof: Value,
        token: String,
    },
    /// No answer came: it may have been used up.
    Unanswered {
        proof: Value,
    },
    Published {
        version: String,
    },
}

/// Where and how a broker is asked.
#[derive(Clone)]
pub(crate) struct Asked {
    client: reqwest::Client,
    base: String,
}

impl Asked {
    pub(crate) fn of(broker: &Broker) -> Self {
        Self { client: broker.client().clone(), base: broker.url("") }
    }

    /// The status and body of an answer that arrived in full.
    pub(crate) async fn mint(&self, proof: &Value) -> Option<(u16, Value)> {
        let request = self
            .client
            .post(format!("{}/v1/token", self.base))
            .header("content-type", "application/json");
        let answer = request.body(proof.to_string()).send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, serde_json::from_str(&answer.text().await.ok()?).unwrap()))
    }
}

/// A token for a proof, or none where it was used before.
pub(crate) async fn mint(broker: &Broker, proof: &Value) -> Option<String> {
    let (status, answer) = Asked::of(broker).mint(proof).await.expect("a healthy broker answers");
    let token = answer["token"].as_str().filter(|_| status == 200).map(str::to_owned);
    assert!(
        token.is_some() || status == 401 && answer["error"] == "proof_replayed",
        "{status} {answer}:\n{}",
        broker.log()
    );
    token
}

pub(crate) async fn mints(asked: Asked, proofs: Vec<Value>, tell: mpsc::UnboundedSender<Event>) {
    for proof in proofs {
        let event = match asked.mint(&proof).await {
            Some((200, answer)) => {
                Event::Minted { proof, token: answer["token"].as_str().unwrap().to_owned() }
            }
            _ => Event::Unanswered { proof },
        };
        let went_wrong = matches!(event, Event::Unanswered { .. });
        let _ = tell.send(event);
        if went_wrong {
            return;
        }
    }
}

pub(crate) async fn publishes(
    asked: Asked,
    token: String,
    versions: Vec<(String, Vec<u8>)>,
    tell: mpsc::UnboundedSender<Event>,
) {
    for (version, archive) in versions {
        let request = asked
            .client
            .post(format!("{}/v1/modules/{ADDRESS}/{version}", asked.base))
            .bearer_auth(&token);
        let Ok(answer) =
            request.header("content-type", "application/zip").body(archive).send().await
        else {
            return;
        };
        let status = answer.status();
        // An answer that broke off acknowledges nothing.
        if answer.bytes().await.is_ok() && status == 201 {
            let _ = tell.send(Event::Published { version });
        }
    }
}
