//! Clients of a broker that a test can kill at any moment: their requests and the answers.

use serde_json::Value;
use stile_tests::process::programs::Broker;
use tokio::sync::mpsc;

pub(crate) const ADDRESS: &str = "acme/vpc/aws";

/// A request and its answer.
#[derive(Debug)]
pub(crate) enum Event {
    Minted {
        proof: Value,
        token: String,
    },
    /// No answer arrived: the proof may be used up.
    Unanswered {
        proof: Value,
    },
    Published {
        version: String,
    },
}

/// The address of a broker, and a client for it.
#[derive(Clone)]
pub(crate) struct Asked {
    client: reqwest::Client,
    base: String,
}

impl Asked {
    pub(crate) fn of(broker: &Broker) -> Self {
        Self { client: broker.client().clone(), base: broker.url("") }
    }

    /// Returns the status and body of a complete answer.
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

/// Returns a token for a proof, or `None` if the proof was used before.
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
        // A truncated answer acknowledges nothing.
        if answer.bytes().await.is_ok() && status == 201 {
            let _ = tell.send(Event::Published { version });
        }
    }
}
