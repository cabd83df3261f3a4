//! Seals tokens with the library instead of the broker's code, under the registry's own key or
//! under an unknown one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pasetors::keys::SymmetricKey;
use pasetors::version4::{LocalToken, V4};
use serde_json::json;
use stile_tests::broker::{HOST, TestBroker, deploy, role};

use super::file::Forged;
use super::text::{Values, expand, expand_json};

/// Returns the token that the case describes.
pub(super) async fn forged(test: &TestBroker, forged: &Forged, values: &Values) -> String {
    let keyring = test.store().keyring().await.unwrap();
    let key = keyring.keys().last().unwrap();
    let id = if forged.unknown_key { random_id(16) } else { key.id().as_str().to_owned() };
    let now = test.time();
    let unique_id = deploy().user_id.split(':').next().unwrap().to_owned();
    let mut claims = json!({
        "jti": random_id(16), "sub": role("deploy"), "uid": unique_id, "iat": now + forged.iat,
        "exp": now + forged.exp.unwrap_or(forged.iat + 600), "ns": "all", "perm": ["download"],
    });
    for (name, value) in &forged.set {
        claims[name.as_str()] = expand_json(value, values);
    }
    for name in &forged.drop {
        claims.as_object_mut().unwrap().remove(name);
    }
    let mut values = values.clone();
    values.insert("claims", claims.to_string());
    // Without the opening bracket, so that a text can put a duplicate field before the rest.
    values.insert("more claims", claims.to_string()[1..].to_owned());
    let message =
        forged.raw.as_ref().map_or_else(|| claims.to_string(), |raw| expand(raw, &values));
    let footer = forged
        .footer
        .as_ref()
        .map_or_else(|| format!("{{\"kid\":\"{id}\"}}"), |footer| expand(footer, &values));
    seal(key.secret(), &message, &footer, forged.audience.as_deref().unwrap_or(HOST))
}

/// Returns a well-formed token under a key that is not in the keyring.
pub(super) async fn under_an_unknown_key(test: &TestBroker) -> String {
    forged(test, &Forged { unknown_key: true, ..Forged::default() }, &Values::new()).await
}

fn seal(secret: &[u8], message: &str, footer: &str, audience: &str) -> String {
    let secret = SymmetricKey::<V4>::from(secret).unwrap();
    let assertion = [b"stile-token\0", audience.as_bytes()].concat();
    let sealed =
        LocalToken::encrypt(&secret, message.as_bytes(), Some(footer.as_bytes()), Some(&assertion))
            .unwrap();
    format!("stile_{sealed}")
}

fn random_id(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random).unwrap();
    URL_SAFE_NO_PAD.encode(random)
}
