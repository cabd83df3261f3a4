//! Plays the refusals of the demo: a role without a grant, and a proof that the demo sends twice.

use serde_json::Value;

use super::play::{Actor, Play, grant, typed};
use super::show::{End, Failed};
use crate::broker::served::system_time;
use crate::process::programs::{HELPER, program};
use crate::sts::proof::Proof;

/// The command in the hint of a refusal, up to the ARN.
const ASK: &str = "`stile-admin grant create --role-arn ";

/// Asks for a token as a role without a grant, and sends a proof twice.
pub(super) async fn after_all(play: &mut Play) -> Result<(), Failed> {
    play.show.step("A role without a grant gets no token, but a hint: the command by which an operator grants it access");
    let intern = Actor { name: "intern", home: play.stage.home_of("intern").0 };
    let host = play.stage.host();
    play.show
        .run(
            &intern.home,
            typed(intern.name, &program(HELPER), &["get-token", "token", "--registry-host", &host]),
            End::Refused(ASK),
        )
        .await?;

    play.show
        .step("A proof is valid once: the broker rejects the same bytes when they are sent again");
    let Some(keys) = &play.keys else { return Ok(()) };
    let proof = Proof::new(keys).audience(&host).now(system_time()).build();
    for (time, expected) in [("first", "200 a token"), ("second", "401 proof_replayed")] {
        let outcome = exchange(play, &proof).await?;
        play.show.note(&format!("POST /v1/token, the {time} time: {outcome}"));
        if outcome != expected {
            return Err(Failed::new(format!(
                "the {time} answer to the proof was `{outcome}` instead of `{expected}`"
            )));
        }
    }
    Ok(())
}

/// Asks for a token before any grant exists.
///
/// The refusal names the caller's ARN. The operator then creates the grant for it.
pub(super) async fn before_the_grant(play: &mut Play, operator: &Actor) -> Result<(), Failed> {
    play.show.step(
        "No grant exists yet, so the broker refuses you, and names the ARN by which AWS identifies you",
    );
    let host = play.stage.host();
    let asked = play
        .deploy(HELPER, &["get-token", "token", "--registry-host", &host], End::Refused(""))
        .await?;
    let words = asked.words();
    let arn = arn_in(&words).ok_or_else(|| {
        let line = words.trim_start_matches("stile: ");
        Failed::new(format!("the demo needs an AWS identity, and AWS did not confirm one: {line}"))
    })?;
    play.show.step("The operator runs the command in the refusal, and adds `upload`, because you also publish the module");
    grant(&play.show, &play.stage, operator, &["--role-arn", &arn], &["--download", "--upload"])
        .await
}

async fn exchange(play: &Play, proof: &Value) -> Result<String, Failed> {
    let down = |error: reqwest::Error| Failed::new(format!("the broker did not answer: {error}"));
    let request = play
        .broker
        .client()
        .post(play.broker.url("/v1/token"))
        .header("content-type", "application/json");
    let answer = request.body(proof.to_string()).send().await.map_err(down)?;
    let status = answer.status().as_u16();
    let body: Value = serde_json::from_str(&answer.text().await.map_err(down)?).unwrap_or_default();
    let said =
        if body["token"].is_string() { "a token" } else { body["error"].as_str().unwrap_or("-") };
    Ok(format!("{status} {said}"))
}

fn arn_in(words: &str) -> Option<String> {
    let (_, rest) = words.split_once(ASK)?;
    rest.split([' ', '`']).next().filter(|arn| arn.starts_with("arn:")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_names_the_arn_to_grant() {
        for (words, expected) in [
            ("stile: found no AWS credentials; hint: sign in", None),
            ("hint: ask an operator for `stile-admin grant create --role-arn", None),
            (
                "hint: ask an operator for `stile-admin grant create --role-arn arn:aws:iam::111122223333:role/deploy --namespace NAMESPACE`",
                Some("arn:aws:iam::111122223333:role/deploy"),
            ),
        ] {
            assert_eq!(arn_in(words).as_deref(), expected, "{words}");
        }
    }
}
