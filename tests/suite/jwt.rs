//! The mint with a JWT: what the broker rejects, with which code, and at which cost.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use stile_core::identity::SingleUse;
use stile_protocol::names::Permission::{Download, Upload};
use stile_store::{SingleUseOutcome, TrustChange};
use stile_tests::broker::issuers::terms;
use stile_tests::broker::operator::{kept, operator};
use stile_tests::broker::{NOW, TestBroker};
use stile_tests::issuer::jwt::{signed, signing_input, with_signature};
use stile_tests::issuer::signing_key::SigningKey;
use stile_tests::issuer::{DISCOVERY, Issuer, KEYS};
use stile_tests::lambda::events::{Sent, Shape};
use url::form_urlencoded;

use crate::lambda::answer;

/// Starts a broker with a trust `ci` in the issuer, which has a grant on `acme`.
async fn started() -> Option<(TestBroker, Issuer, SigningKey)> {
    let test = TestBroker::start_on(super::BACKEND).await?;
    let (issuer, key) = Issuer::with_key().await;
    let test = test.believing(&issuer);
    test.trust_in("ci", &issuer.url(), &["repository_id=74"]).await;
    test.grant("oidc:ci", "acme", &[Download]).await;
    Some((test, issuer, key))
}

fn of_repository() -> Value {
    json!({ "repository_id": "74" })
}

#[tokio::test]
async fn a_jwt_that_no_trust_believes_is_refused_before_any_request_to_its_issuer() {
    let Some((test, issuer, key)) = started().await else { return };
    let good = test.jwt(&issuer, of_repository());
    let hmac = |jwt: String| {
        let input = jwt.rsplit_once('.').unwrap().0.to_owned();
        with_signature(&input, &Sha256::digest(key.jwk().to_string()))
    };
    for (what, jwt, expected) in [
        ("no JWT", "x".to_owned(), "400 invalid_request"),
        ("two parts", good.signing_input(&key), "400 invalid_request"),
        ("alg none", good.clone().header("alg", "none").signed(&key), "400 invalid_request"),
        (
            "alg none and no signature",
            format!("{}.", good.clone().header("alg", "none").signing_input(&key)),
            "400 invalid_request",
        ),
        (
            "HS256 with the public key",
            hmac(good.clone().header("alg", "HS256").signed(&key)),
            "400 invalid_request",
        ),
        ("no kid", good.clone().header("kid", Value::Null).signed(&key), "400 invalid_request"),
        (
            "a key of its own",
            good.clone().header("jwk", key.jwk()).signed(&key),
            "400 invalid_request",
        ),
        ("crit", good.clone().header("crit", json!(["exp"])).signed(&key), "400 invalid_request"),
        ("no sub", good.clone().without("sub").signed(&key), "400 invalid_request"),
        (
            "a claim twice",
            signed(
                &signing_input(r#"{"alg":"ES256","kid":"k1"}"#, r#"{"sub":"a","sub":"b"}"#),
                &key,
            ),
            "400 invalid_request",
        ),
        (
            "another issuer",
            good.clone().with("iss", format!("{}/", issuer.url())).signed(&key),
            "401 jwt_not_trusted",
        ),
        (
            "another audience",
            good.clone().with("aud", "https://other.example").signed(&key),
            "401 jwt_not_trusted",
        ),
        (
            "another repository",
            good.clone().with("repository_id", "75").signed(&key),
            "401 jwt_not_trusted",
        ),
        (
            "a number for a text",
            good.clone().with("repository_id", 74).signed(&key),
            "401 jwt_not_trusted",
        ),
        (
            "expired",
            good.clone().with("iat", NOW - 300).with("exp", NOW - 61).signed(&key),
            "401 jwt_expired",
        ),
        ("too old", good.clone().with("iat", NOW - 3661).signed(&key), "401 jwt_expired"),
        ("from the future", good.clone().with("iat", NOW + 61).signed(&key), "401 jwt_from_future"),
    ] {
        let reply = test.exchange_jwt(&jwt).await;
        assert_eq!(reply.error(), expected, "{what}: {}", reply.text());
        assert!(!reply.text().contains("repository_id"), "{what}: {}", reply.text());
    }
    let chosen = test.exchange_jwt_with(&good.signed(&key), &[("trust", "other")]).await;
    assert_eq!(chosen.error(), "401 jwt_not_trusted");
    let long = "A".repeat(1 << 20);
    assert_eq!(test.exchange_jwt(&long).await.error(), "413 too_large");
    assert_eq!((issuer.requests(DISCOVERY), issuer.requests(KEYS)), (0, 0));
    assert_eq!(test.exchange_jwt(&good.signed(&key)).await.status, 200, "and a good one is taken");
}

#[tokio::test]
async fn a_jwt_that_its_issuer_did_not_sign_is_refused() {
    let Some((test, issuer, key)) = started().await else { return };
    let good = test.jwt(&issuer, of_repository());
    let input = good.signing_input(&key);
    let strange = SigningKey::new("k1", "ES256");
    let other = SigningKey::new("k2", "ES256");
    let mut flipped = key.sign(input.as_bytes());
    flipped[7] ^= 1;
    for (what, jwt) in [
        ("another key of the same id", good.signed(&strange)),
        ("an unknown key", good.signed(&other)),
        ("a path as the id", good.clone().header("kid", "../../keys").signed(&key)),
        ("a flipped bit", with_signature(&input, &flipped)),
        ("zeros", with_signature(&input, &[0; 64])),
        ("one byte", with_signature(&input, &[1])),
        ("another algorithm of the key", good.clone().header("alg", "ES384").signed(&key)),
        ("RS256 with the ES256 key", good.clone().header("alg", "RS256").signed(&key)),
        (
            "the signature of another JWT",
            with_signature(
                &input,
                &key.sign(good.clone().with("x", 1).signing_input(&key).as_bytes()),
            ),
        ),
    ] {
        let reply = test.exchange_jwt(&jwt).await;
        assert_eq!(reply.error(), "401 jwt_bad_signature", "{what}: {}", reply.text());
    }
    assert_eq!((issuer.requests(DISCOVERY), issuer.requests(KEYS)), (1, 1), "unknown ids included");
    assert_eq!(
        test.exchange_jwt(&with_signature(&input, &key.sign(input.as_bytes()))).await.status,
        200
    );
}

#[tokio::test]
async fn a_jwt_that_a_trust_believes_gets_a_token_of_the_trust_once() {
    let Some((test, issuer, key)) = started().await else { return };
    let jwt = test.jwt(&issuer, of_repository()).signed(&key);
    let reply = test.exchange_jwt(&jwt).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let answer = reply.json();
    assert_eq!(answer["principal"], "oidc:ci");
    assert_eq!(answer["token_type"], "Bearer");
    assert_eq!(answer["scope"], "all:download");
    assert_eq!(answer["expires_in"], 3600);
    let token = answer["access_token"].as_str().unwrap();
    assert_eq!(test.get("/v1/whoami", token).await.json()["principal"], "oidc:ci");
    let refused = test.exchange_jwt(&jwt).await;
    assert_eq!(refused.error(), "401 jwt_replayed");
    assert_eq!(refused.json()["error"], "invalid_request", "the code of OAuth");
    let other = test.restarted().believing(&issuer);
    assert_eq!(other.exchange_jwt(&jwt).await.error(), "401 jwt_replayed", "another process");
    assert_eq!((issuer.requests(DISCOVERY), issuer.requests(KEYS)), (2, 2), "one for each process");
}

/// Returns the other signature that is as good as an ECDSA signature over P-256: `n - s` for `s`.
fn mirrored(signature: &[u8]) -> Vec<u8> {
    const ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let (order, mut mirrored) = (hex::decode(ORDER).unwrap(), signature.to_vec());
    let mut borrow = 0;
    for at in (0..32).rev() {
        let difference = i32::from(order[at]) - i32::from(signature[32 + at]) - borrow;
        borrow = i32::from(difference < 0);
        mirrored[32 + at] = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    mirrored
}

#[tokio::test]
async fn a_jwt_is_used_once_however_it_is_written_and_so_is_its_id() {
    let Some((test, issuer, key)) = started().await else { return };
    let without_id = test.jwt(&issuer, of_repository()).without("jti");
    let input = without_id.signing_input(&key);
    let signature = key.sign(input.as_bytes());
    assert_eq!(test.exchange_jwt(&with_signature(&input, &signature)).await.status, 200);
    let again = with_signature(&input, &mirrored(&signature));
    let reply = test.exchange_jwt(&again).await;
    assert_eq!(reply.error(), "401 jwt_replayed", "the mirrored signature: {}", reply.text());

    let with_id = test.jwt(&issuer, of_repository()).with("jti", "one");
    assert_eq!(test.exchange_jwt(&with_id.signed(&key)).await.status, 200);
    let same_id = with_id.clone().with("attempt", 2).signed(&key);
    assert_eq!(test.exchange_jwt(&same_id).await.error(), "401 jwt_replayed", "the same id");
    let other_scope = [("scope", "acme:download")];
    let reply = test.exchange_jwt_with(&with_id.signed(&key), &other_scope).await;
    assert_eq!(reply.error(), "401 jwt_replayed", "another request with the same JWT");
    assert_eq!(test.exchange_jwt(&with_id.with("jti", "two").signed(&key)).await.status, 200);
}

#[tokio::test]
async fn a_refused_scope_does_not_use_the_jwt() {
    let Some((test, issuer, key)) = started().await else { return };
    let jwt = test.jwt(&issuer, of_repository()).signed(&key);
    let reply = test.exchange_jwt_with(&jwt, &[("scope", "acme:upload")]).await;
    assert_eq!(reply.error(), "403 no_grant", "{}", reply.text());
    assert_eq!(reply.json()["error"], "invalid_scope");
    let scope = [("scope", "acme:download")];
    let reply = test.exchange_jwt_with(&jwt, &scope).await;
    assert_eq!((reply.status.as_u16(), &reply.json()["scope"]), (200, &json!("acme:download")));
}

#[tokio::test]
async fn a_trust_that_changed_costs_one_jwt_and_no_more() {
    let Some((test, issuer, key)) = started().await else { return };
    let exchange = async || {
        let jwt = test.jwt(&issuer, of_repository()).signed(&key);
        test.exchange_jwt(&jwt).await.error()
    };
    assert_eq!(exchange().await, "200 -");
    let change = TrustChange { max_age: Some(600), ..Default::default() };
    let (name, time) = ("ci".parse().unwrap(), kept(test.time()));
    test.store().update_trust(&operator(), &name, &change, &time).await.unwrap();
    assert_eq!(exchange().await, "401 invalid_credentials", "the broker knew the trust before");
    assert_eq!(exchange().await, "200 -");
}

#[tokio::test]
async fn two_trusts_that_believe_a_jwt_are_an_ambiguity_until_the_request_chooses_one() {
    let Some((test, issuer, key)) = started().await else { return };
    test.trust_in("release", &issuer.url(), &["environment=release"]).await;
    test.grant("oidc:release", "acme", &[Download, Upload]).await;
    let both = json!({ "repository_id": "74", "environment": "release" });
    let jwt = test.jwt(&issuer, both).signed(&key);
    let reply = test.exchange_jwt(&jwt).await;
    assert_eq!(reply.error(), "400 ambiguous_trust", "{}", reply.text());
    assert!(!reply.text().contains("release"), "it names no trust: {}", reply.text());
    assert_eq!(issuer.requests(DISCOVERY), 0);
    let chosen = [("trust", "release"), ("scope", "acme:download acme:upload")];
    let reply = test.exchange_jwt_with(&jwt, &chosen).await;
    assert_eq!(reply.json()["principal"], "oidc:release", "{}", reply.text());
    let reply = test.exchange_jwt_with(&jwt, &[("trust", "ci")]).await;
    assert_eq!(reply.error(), "401 jwt_replayed", "one use for all trusts");
}

#[tokio::test]
async fn a_form_that_asks_for_something_else_is_refused_in_the_form_of_oauth() {
    let Some((test, issuer, key)) = started().await else { return };
    let jwt = test.jwt(&issuer, of_repository()).signed(&key);
    let good = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
        ("subject_token", &*jwt),
    ];
    for (name, value, expected, oauth) in [
        (
            "grant_type",
            "client_credentials",
            "400 unsupported_grant_type",
            "unsupported_grant_type",
        ),
        ("grant_type", "", "400 unsupported_grant_type", "unsupported_grant_type"),
        (
            "subject_token_type",
            "urn:ietf:params:oauth:token-type:saml2",
            "400 invalid_request",
            "invalid_request",
        ),
        ("subject_token", "", "400 invalid_request", "invalid_request"),
        (
            "requested_token_type",
            "urn:ietf:params:oauth:token-type:jwt",
            "400 invalid_request",
            "invalid_request",
        ),
        ("actor_token", "x", "400 invalid_request", "invalid_request"),
        ("audience", "https://other.example", "400 invalid_target", "invalid_target"),
        ("resource", "https://registry.example.com/x", "400 invalid_target", "invalid_target"),
        ("scope", "acme", "400 invalid_scope", "invalid_scope"),
        ("scope", "acme:upload beta:download", "400 invalid_scope", "invalid_scope"),
        ("trust", "CI", "400 invalid_request", "invalid_request"),
    ] {
        let others = good.iter().filter(|(known, _)| *known != name).copied();
        let form: Vec<_> = others.chain([(name, value)]).collect();
        let reply = test.exchange_form(&form).await;
        assert_eq!(reply.error(), expected, "{name}={value}: {}", reply.text());
        assert_eq!(reply.json()["error"], oauth, "{name}={value}");
        assert!(reply.json()["error_description"].is_string(), "{name}={value}");
    }
    let twice = [&good[..], &[("scope", "acme:download"), ("scope", "acme:download")]].concat();
    assert_eq!(test.exchange_form(&twice).await.error(), "400 invalid_request");
    let more = [
        ("client_id", "x"),
        ("audience", "registry.example.com"),
        ("resource", "https://registry.example.com/"),
        ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
    ];
    let reply = test.exchange_form(&[&good[..], &more].concat()).await;
    assert_eq!(reply.status, 200, "other parameters are ignored: {}", reply.text());
}

#[tokio::test]
async fn every_allowed_algorithm_and_the_keys_of_a_trust_verify() {
    let Some((test, issuer, key)) = started().await else { return };
    let keys = ["RS256", "ES256", "ES384", "EdDSA"]
        .map(|algorithm| SigningKey::new(&algorithm.to_ascii_lowercase(), algorithm));
    issuer.publish(&keys.iter().collect::<Vec<_>>());
    for key in &keys {
        let jwt = test.jwt(&issuer, of_repository()).signed(key);
        let reply = test.exchange_jwt(&jwt).await;
        assert_eq!(reply.status, 200, "{}: {}", key.algorithm(), reply.text());
    }
    let url = "https://unreachable.example";
    let of_trust = json!({ "keys": [key.jwk()] }).to_string();
    let terms = stile_core::trust::TrustTerms { keys: Some(of_trust), ..terms(url, &["x=1"]) };
    test.trust_with("offline", terms).await;
    test.grant("oidc:offline", "acme", &[Download]).await;
    test.advance(10);
    let jwt = test.jwt(&issuer, json!({ "iss": url, "x": "1" })).with("iss", url);
    let reply = test.exchange_jwt(&jwt.signed(&key)).await;
    assert_eq!(reply.json()["principal"], "oidc:offline", "{}", reply.text());
    let strange = SigningKey::new("k1", "ES256");
    let jwt = jwt.with("jti", "other").signed(&strange);
    assert_eq!(test.exchange_jwt(&jwt).await.error(), "401 jwt_bad_signature");
}

#[tokio::test]
async fn while_the_store_is_down_no_jwt_is_used() {
    let Some((test, issuer, key)) = started().await else { return };
    let first = test.jwt(&issuer, of_repository()).signed(&key);
    assert_eq!(test.exchange_jwt(&first).await.status, 200);
    test.break_store();
    let jwt = test.jwt(&issuer, of_repository()).signed(&key);
    let reply = test.exchange_jwt(&jwt).await;
    assert!(reply.status == 503 && !reply.header("retry-after").is_empty(), "{}", reply.text());
    assert_eq!(reply.json()["error"], "temporarily_unavailable");
    test.repair_store();
    assert_eq!(test.exchange_jwt(&jwt).await.status, 200, "the same JWT");
}

#[tokio::test]
async fn a_jwt_mints_the_same_behind_every_gateway_of_a_function() {
    let Some((test, issuer, key)) = started().await else { return };
    let function = test.function(None, None);
    for shape in Shape::ALL {
        let jwt = test.jwt(&issuer, of_repository()).signed(&key);
        let form = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([
                ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
                ("subject_token_type", "urn:ietf:params:oauth:token-type:id_token"),
                ("subject_token", &jwt),
            ])
            .finish();
        let sent = Sent::new("POST", "/v1/token").body("application/x-www-form-urlencoded", form);
        let reply = shape.reply(&answer(&function, &shape.event(&sent)).await.unwrap());
        assert_eq!(reply.json()["principal"], "oidc:ci", "{shape:?}: {}", reply.text());
        let reply = shape.reply(&answer(&function, &shape.event(&sent)).await.unwrap());
        assert_eq!(reply.error(), "401 jwt_replayed", "{shape:?}");
    }
}

#[tokio::test]
async fn no_refusal_has_a_part_of_the_jwt() {
    let Some((test, issuer, key)) = started().await else { return };
    let good = test.jwt(&issuer, of_repository());
    let used = good.signed(&key);
    assert_eq!(test.exchange_jwt(&used).await.status, 200);
    let expired = good.clone().with("exp", NOW - 100).with("jti", "a").signed(&key);
    let strange = good.clone().with("jti", "b").signed(&SigningKey::new("k1", "ES256"));
    let malformed = good.clone().header("typ", "at+jwt").signed(&key);
    for jwt in [used, expired, strange, malformed] {
        let reply = test.exchange_jwt(&jwt).await;
        assert!(reply.status.is_client_error(), "{}", reply.text());
        for part in jwt.split('.') {
            assert!(!reply.text().contains(part), "{}", reply.text());
        }
    }
}

#[tokio::test]
async fn one_known_digest_of_two_rejects_both_and_records_neither() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let record = async |digest: u8, named: Option<u8>| {
        let named = named.map(|named| [named; 32]);
        let single_use = SingleUse::Record { digest: [digest; 32], named, keep_until: NOW + 60 };
        test.store().record(single_use, None, NOW).await.unwrap()
    };
    assert!(matches!(record(1, Some(2)).await, SingleUseOutcome::Recorded(_)));
    assert!(matches!(record(3, Some(2)).await, SingleUseOutcome::Replayed));
    assert!(matches!(record(1, Some(4)).await, SingleUseOutcome::Replayed));
    assert!(matches!(record(2, None).await, SingleUseOutcome::Replayed));
    assert!(matches!(record(3, Some(4)).await, SingleUseOutcome::Recorded(_)), "neither was");
}
