//! JWTs of CI systems that other libraries sign: every way in, every process, and trusts that go.

use serde_json::{Value, json};
use stile_protocol::names::Permission::Download;
use stile_tests::broker::signed_jwts::jwt_request;
use stile_tests::jwt::claims;
use stile_tests::jwt::signer::{Library, Signer, key_set};
use stile_tests::jwt::stage::{CI, GITLAB, JwtStage, OTHER, outcome, terms};
use stile_tests::lambda::events::{Sent, Shape};
use stile_tests::skipped::skipped;

use crate::lambda::answer;

/// The algorithms that the registry accepts.
const ALGORITHMS: [&str; 4] = ["RS256", "ES256", "ES384", "EdDSA"];

#[tokio::test]
async fn jwts_that_two_libraries_sign_for_two_ci_systems_mint_with_every_algorithm() {
    let shows = "a JWT of another library mints";
    let Some(stage) = JwtStage::start(super::BACKEND, shows).await else { return };
    let github = stage.issuers.url(OTHER);
    let conditions = ["repository_id=740034", "repository_owner_id=650012", "ref=refs/heads/main"];
    stage.test.believe("hub", terms(github.parse().unwrap(), &conditions)).await;
    stage.test.grant("oidc:hub", "acme", &[Download]).await;
    for library in [Library::PyJwt, Library::Jose] {
        let Some(signer) = Signer::start(library) else {
            skipped(library.tool(), "a JWT of another library mints");
            continue;
        };
        let keys: Vec<_> = ALGORITHMS.iter().map(|alg| signer.key(alg, alg)).collect();
        for name in [GITLAB, OTHER] {
            stage.issuers.publish(name, key_set(&keys));
        }
        // A new process, which knows no keys.
        let process = stage.test.with_issuers(&stage.issuers);
        for alg in ALGORITHMS {
            let now = process.time();
            for (principal, claims) in [
                (CI, claims::gitlab(&stage.issuers.url(GITLAB), now)),
                ("oidc:hub", claims::github(&github, now)),
            ] {
                let header = json!({ "kid": alg, "typ": "JWT" });
                let jwt = signer.sign(alg, alg, &header, &claims);
                let more = [("scope", "acme:download"), ("audience", "registry.example.com")];
                let reply = process.exchange_signed(&jwt, &more).await;
                assert_eq!(outcome(&reply), "200 -", "{library:?} {alg}: {}", reply.text());
                let body = reply.json();
                for (field, expected) in [
                    ("token_type", "Bearer"),
                    ("issued_token_type", "urn:ietf:params:oauth:token-type:access_token"),
                    ("scope", "acme:download"),
                ] {
                    assert_eq!(body[field], expected, "{field}");
                }
                assert_eq!(reply.header("cache-control"), "no-store");
                let token = body["access_token"].as_str().unwrap();
                let whoami = process.get("/v1/whoami", token).await;
                assert_eq!(
                    (whoami.status.as_u16(), &whoami.json()["principal"]),
                    (200, &json!(principal))
                );
                let again = process.exchange_signed(&jwt, &more).await;
                assert_eq!(outcome(&again), "401 jwt_replayed", "{library:?} {alg}");
            }
        }
    }
}

#[tokio::test]
async fn a_jwt_in_a_jwt_of_the_issuer_is_not_opened() {
    let shows = "an encrypted JWT is refused";
    let Some(stage) = JwtStage::start(super::BACKEND, shows).await else { return };
    let Some(jose) = Signer::start(Library::Jose) else {
        return skipped(Library::Jose.tool(), shows);
    };
    let mut key = jose.key("box", "RSA-OAEP");
    key.jwk["use"] = "enc".into();
    stage.issuers.publish(GITLAB, key_set([&stage.one, &key]));
    let encrypted = jose.encrypt("box", "RSA-OAEP", &stage.claims(GITLAB));
    assert_eq!(encrypted.split('.').count(), 5);
    assert_eq!(stage.exchange(&encrypted).await, "400 invalid_request");
    assert_eq!(stage.issuers.fetches(), 0);
}

#[tokio::test]
async fn a_jwt_is_good_for_one_token_in_all_processes_at_once() {
    let shows = "a JWT is good for one token";
    let Some(stage) = JwtStage::start(super::BACKEND, shows).await else { return };
    let others: Vec<_> = (0..4).map(|_| stage.test.with_issuers(&stage.issuers)).collect();
    for process in &others {
        assert_eq!(outcome(&process.exchange_signed(&stage.jwt(), &[]).await), "200 -");
    }
    for round in 0..5 {
        let jwt = stage.jwt();
        let all = others.iter().flat_map(|process| {
            [process.exchange_signed(&jwt, &[]), process.exchange_signed(&jwt, &[])]
        });
        let all = futures_util::future::join_all(all).await;
        let mut answers: Vec<String> = all.iter().map(outcome).collect();
        answers.sort();
        assert_eq!(answers.remove(0), "200 -", "round {round}");
        let refused = answers.iter().all(|answer| answer == "401 jwt_replayed");
        assert!(refused, "round {round}: {answers:?}");
    }
    let jwt = stage.jwt();
    assert_eq!(stage.exchange(&jwt).await, "200 -");
    let restarted = stage.test.with_issuers(&stage.issuers);
    assert_eq!(outcome(&restarted.exchange_signed(&jwt, &[]).await), "401 jwt_replayed");
}

#[tokio::test]
async fn a_record_of_use_lasts_as_long_as_any_trust_can_believe_the_jwt() {
    let shows = "a record of use lasts";
    let Some(stage) = JwtStage::start(super::BACKEND, shows).await else { return };
    let mut claims = stage.claims(GITLAB);
    claims["exp"] = (stage.test.time() + 30 * 24 * 3600).into();
    let jwt = stage.sign(&stage.one, &claims);
    assert_eq!(stage.exchange(&jwt).await, "200 -");
    // An operator lets the JWTs live longer after the first use.
    let mut longer = stage.terms(GITLAB);
    longer.max_age = 24 * 3600;
    stage.test.believe_instead("ci", longer).await;
    for later in [11, 3600 + 61, 20 * 3600] {
        stage.test.advance(later);
        assert_eq!(stage.exchange(&jwt).await, "401 jwt_replayed", "{later}");
        // Others use the store meanwhile, which forgets what is old.
        assert_eq!(stage.exchange(&stage.jwt()).await, "200 -");
    }
}

#[tokio::test]
async fn the_events_of_all_four_gateways_exchange_a_jwt() {
    let shows = "a Lambda function exchanges a JWT";
    let Some(stage) = JwtStage::start(super::BACKEND, shows).await else { return };
    let function = stage.test.function(None, None);
    for shape in Shape::ALL {
        let sent = form(&stage.jwt(), &[("scope", "acme:download")]).await;
        let ask =
            async |sent: &Sent| shape.reply(&answer(&function, &shape.event(sent)).await.unwrap());
        let reply = ask(&sent).await;
        assert_eq!(outcome(&reply), "200 -", "{shape:?}: {}", reply.text());
        assert_eq!(reply.json()["principal"], CI, "{shape:?}");
        let token = reply.json()["access_token"].as_str().unwrap().to_owned();
        let whoami = ask(&Sent::new("GET", "/v1/whoami").bearer(&token)).await;
        assert_eq!(whoami.status, 200, "{shape:?}");
        assert_eq!(outcome(&ask(&sent).await), "401 jwt_replayed", "{shape:?}");
        let bad = form(&stage.jwt().replacen('.', "..", 1), &[]).await;
        assert_eq!(outcome(&ask(&bad).await), "400 invalid_request", "{shape:?}");
        let twice = form(&stage.jwt(), &[("trust", "ci"), ("trust", "ci")]).await;
        assert_eq!(outcome(&ask(&twice).await), "400 invalid_request", "{shape:?}");
        let query = form_to("/v1/token?trust=ci", &stage.jwt(), &[]).await;
        assert_eq!(outcome(&ask(&query).await), "400 invalid_request", "{shape:?}");
    }
}

async fn form(jwt: &str, more: &[(&str, &str)]) -> Sent {
    form_to("/v1/token", jwt, more).await
}

async fn form_to(target: &str, jwt: &str, more: &[(&str, &str)]) -> Sent {
    let (parts, body) = jwt_request(jwt, more).into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let kind = parts.headers["content-type"].to_str().unwrap();
    Sent::new("POST", target).body(kind, body.to_vec())
}

#[tokio::test]
async fn a_new_trust_of_an_old_name_at_another_issuer_has_nothing_of_the_old_one() {
    let shows = "a new trust of an old name has nothing";
    let Some(stage) = JwtStage::start(super::BACKEND, shows).await else { return };
    let old = stage.token(&stage.jwt()).await;
    assert_eq!(stage.test.get("/v1/whoami", &old).await.status, 200);
    let pending = stage.jwt();

    stage.test.delete_grant(CI, "acme").await;
    stage.test.stop_believing("ci").await;
    stage.test.advance(11);
    assert_eq!(stage.test.get("/v1/whoami", &old).await.status, 401, "its tokens end");
    assert_eq!(stage.exchange(&pending).await, "401 jwt_not_trusted");

    let two = stage.signer.key("two", "RS256");
    stage.issuers.publish(OTHER, key_set([&two]));
    stage.test.believe("ci", stage.terms(OTHER)).await;
    stage.test.advance(11);
    let reply = stage.test.exchange_signed(&stage.jwt_of(OTHER, &two), &[]).await;
    assert_eq!(outcome(&reply), "403 no_grant", "{}", reply.text());
    stage.test.grant(CI, "beta", &[Download]).await;
    let new = stage.token(&stage.jwt_of(OTHER, &two)).await;
    assert_eq!(stage.test.get("/v1/modules/beta/vpc/aws/versions", &new).await.status, 404);
    assert_eq!(stage.test.get("/v1/modules/acme/vpc/aws/versions", &new).await.status, 403);
    // The token of the old trust gives nothing, and its issuer signs nothing for the new one.
    for (path, refused) in [
        ("/v1/modules/acme/vpc/aws/versions", true),
        ("/v1/modules/beta/vpc/aws/versions", true),
        ("/v1/modules", false),
        ("/v1/whoami", false),
    ] {
        let reply = stage.test.get(path, &old).await;
        let is_refused = [401, 403].contains(&reply.status.as_u16());
        assert!(is_refused || !refused, "{path}: {}", reply.text());
        for name in ["acme", "beta"] {
            assert!(!reply.text().contains(name) || is_refused, "{path}: {}", reply.text());
        }
    }
    assert_eq!(stage.exchange(&stage.jwt()).await, "401 jwt_not_trusted");
    let confused = stage.jwt_of(OTHER, &stage.one);
    assert_eq!(stage.exchange(&confused).await, "401 jwt_bad_signature");
}

#[tokio::test]
async fn a_trust_that_changes_ends_its_tokens_and_believes_the_new_terms_only() {
    let shows = "a changed trust ends its tokens";
    let Some(stage) = JwtStage::start(super::BACKEND, shows).await else { return };
    let old = stage.token(&stage.jwt()).await;
    let narrower = terms(
        stage.issuers.url(GITLAB).parse().unwrap(),
        &["project_id=3022", "environment=staging"],
    );
    stage.test.believe_instead("ci", narrower).await;
    // The process still has the old terms for ten seconds, and mints nothing with them.
    let reply = stage.test.exchange_signed(&stage.jwt(), &[]).await;
    assert!(!reply.status.is_success(), "{}", reply.text());
    stage.test.advance(11);
    assert_eq!(stage.test.get("/v1/whoami", &old).await.status, 401);
    assert_eq!(stage.exchange(&stage.jwt()).await, "401 jwt_not_trusted");
    let mut claims: Value = stage.claims(GITLAB);
    claims["environment"] = "staging".into();
    assert_eq!(stage.exchange(&stage.sign(&stage.one, &claims)).await, "200 -");
}

#[tokio::test]
async fn a_jwt_gives_no_more_than_its_form_asks_for_and_its_trust_holds() {
    let shows = "a JWT gives no more than its trust holds";
    let Some(stage) = JwtStage::start(super::BACKEND, shows).await else { return };
    stage.test.grant(CI, "beta", &[Download]).await;
    let one = stage.test.exchange_signed(&stage.jwt(), &[("scope", "beta:download")]).await;
    let token = one.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(stage.test.get("/v1/modules/beta/vpc/aws/versions", &token).await.status, 404);
    assert_eq!(stage.test.get("/v1/modules/acme/vpc/aws/versions", &token).await.status, 403);
    let published = stage.test.publish("beta/vpc/aws", "1.0.0", vec![], &token).await;
    assert_eq!(published.status, 403);
    stage.test.delete_grant(CI, "beta").await;
    stage.test.advance(11);
    assert_eq!(stage.test.get("/v1/modules/beta/vpc/aws/versions", &token).await.status, 403);
}
