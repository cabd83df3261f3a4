//! `stile-admin token issue`, `rotate`, `adopt`, `revoke` and `list` of service tokens, in a store.

use serde_json::{Value, json};
use stile_core::service_token::PresentedToken;
use stile_core::token::TokenId;
use stile_tests::process::home::CommandOutput;
use stile_tests::process::programs::{ADMIN, program};
use stile_tests::store_home::StoreHome;

const RENOVATE: [&str; 7] =
    ["issue", "--name", "renovate", "--namespace", "acme", "--permission", "download"];

async fn ran(store: &StoreHome, words: &[&str]) -> CommandOutput {
    store.home.run(&program(ADMIN), &[&["token"], words].concat()).await
}

/// Runs a command that must succeed, and returns its JSON.
async fn done(store: &StoreHome, words: &[&str]) -> Value {
    let ran = ran(store, &[words, &["--output", "json"]].concat()).await;
    assert_eq!(ran.code, Some(0), "{words:?}: {ran:?}");
    serde_json::from_str(&ran.stdout).unwrap()
}

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&RENOVATE[..], more].concat()
}

#[tokio::test]
async fn a_token_without_an_end_or_with_another_right_is_not_issued() {
    let Some(store) = StoreHome::new(super::BACKEND).await else { return };
    for (words, code, says) in [
        (with(&[]), 2, "--expires"),
        (with(&["--expires", "never"]), 2, "every service token has an end"),
        (with(&["--expires", "401d"]), 2, "at most 400 days"),
        (with(&["--expires", "2020-01-01"]), 2, "not in the future"),
        (with(&["--expires", "1d", "--permission", "create_grant"]), 2, "never has `create_grant`"),
        (with(&["--expires", "1d", "--permission", "delete_grant"]), 2, "never has `delete_grant`"),
        (with(&["--expires", "1d", "--namespace", "*"]), 2, "means all namespaces"),
        (with(&["--expires", "1d", "--cidr", "10.0.0.1/8"]), 2, "no bit after the length"),
        (
            vec![
                "issue",
                "--name",
                "Bad",
                "--namespace",
                "acme",
                "--permission",
                "download",
                "--expires",
                "1d",
            ],
            2,
            "lower-case letters",
        ),
        (
            vec![
                "issue",
                "--name",
                "all",
                "--namespace",
                "*",
                "--permission",
                "download",
                "--expires",
                "1d",
            ],
            1,
            "add `--yes`",
        ),
        (
            vec!["rotate", "AAAAAAAAAAAAAAAAAAAAAA", "--expires", "1d"],
            1,
            "there is no service token",
        ),
        (vec!["rotate", "stile_svc_x", "--expires", "1d"], 2, "not the token itself"),
        (vec!["adopt", "AAAAAAAAAAAAAAAAAAAAAA"], 1, "there is no service token"),
    ] {
        let ran = ran(&store, &words).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{words:?}: {ran:?}");
        assert!(ran.words().contains(says), "{words:?}: {ran:?}");
    }
    assert_eq!(done(&store, &["list"]).await, json!([]));
}

#[tokio::test]
async fn no_command_gives_a_service_rights_to_others() {
    let Some(store) = StoreHome::new(super::BACKEND).await else { return };
    let grant = ["--principal", "service:renovate", "--namespace", "acme"];
    for right in ["--create-grant", "--delete-grant"] {
        for verb in ["create", "update"] {
            let words = [&["grant", verb][..], &grant, &["--download", right]].concat();
            let ran = store.home.run(&program(ADMIN), &words).await;
            assert_eq!(ran.code, Some(2), "{words:?}: {ran:?}");
            assert!(ran.words().contains("a grant of a service never has"), "{ran:?}");
        }
    }
    let file = "version = 1\nowns = [\"acme\"]\n[[grant]]\nprincipal = \"service:renovate\"\n\
         namespace = \"acme\"\npermissions = [\"create_grant\"]\n";
    std::fs::write(store.home.path().join("grants.toml"), file).unwrap();
    let words = ["grant", "apply", "grants.toml", "--yes"];
    let ran = store.home.run(&program(ADMIN), &words).await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.words().contains("a file has no grants of services"), "{ran:?}");
}

#[tokio::test]
async fn a_token_is_shown_once_listed_rotated_and_revoked() {
    let Some(store) = StoreHome::new(super::BACKEND).await else { return };
    let issued = done(&store, &with(&["--expires", "30d", "--cidr", "203.0.113.0/24"])).await;
    let (token, id) = (issued["token"].as_str().unwrap(), issued["id"].as_str().unwrap());
    assert_eq!(PresentedToken::parse(token).unwrap().unverified_id().as_str(), id);
    assert_eq!(issued["grants"][0]["principal"], "service:renovate");
    assert_eq!(issued["new_namespaces"], json!(["acme"]));
    let shown = ran(&store, &["list"]).await;
    assert!(shown.stdout.contains(id) && !shown.stdout.contains(&token[32..75]), "{shown:?}");
    assert!(shown.stdout.contains("renovate: download on acme, until "), "{shown:?}");

    let next = done(&store, &["rotate", id, "--expires", "60d", "--old-ends", "1h"]).await;
    let next_id = next["id"].as_str().unwrap();
    assert_ne!(next["token"], issued["token"]);
    assert_eq!(next["networks"], json!(["203.0.113.0/24"]));
    let listed = done(&store, &["list"]).await;
    let of = |id: &str| {
        let all = listed.as_array().unwrap();
        all.iter().find(|token| token["id"] == id).unwrap().clone()
    };
    assert_eq!(of(id)["replaced_by"], next_id);
    assert!(of(id)["expires_at"].as_str() < of(next_id)["expires_at"].as_str(), "{listed}");

    let revoked = done(&store, &["revoke", id]).await;
    assert_eq!(revoked, json!({"status": "revoked", "service_token": id}));
    let stored = store.store.service_token(&TokenId::parse(id).unwrap()).await.unwrap();
    assert!(stored.is_none());
    let again = done(&store, &["revoke", id]).await;
    assert_eq!(again, json!({"status": "revoked", "jti": id}), "it counts as the id of a token");
    let all = done(&store, &["revoke", "--all", "--yes"]).await;
    assert_eq!((&all["status"], &all["service_tokens"]), (&json!("revoked"), &json!(1)));
    let left = done(&store, &["list"]).await;
    assert!(left.as_array().unwrap().iter().all(|it| it["kind"] != "service_token"), "{left}");
}

#[tokio::test]
async fn a_withdrawn_grant_of_a_service_names_the_tokens_that_a_later_grant_gives_access_again() {
    let Some(store) = StoreHome::new(super::BACKEND).await else { return };
    let on_acme = with(&["--expires", "30d", "--permission", "upload"]);
    let issued = done(&store, &on_acme).await;
    let id = issued["id"].as_str().unwrap();
    let elsewhere = ["issue", "--name", "renovate", "--namespace", "tools", "--permission"];
    let other = done(&store, &[&elsewhere[..], &["download", "--expires", "30d"]].concat()).await;
    let grant = async |verb: &str, more: &[&str]| {
        let of = ["grant", verb, "--principal", "service:renovate", "--namespace", "acme"];
        let ran = store.home.run(&program(ADMIN), &[&of[..], more].concat()).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran.words()
    };
    let hint = format!("run `stile-admin token revoke {id}`");
    for said in [grant("update", &["--upload=false"]).await, grant("delete", &[]).await] {
        assert!(said.contains(&hint), "{said}");
        assert!(!said.contains(other["id"].as_str().unwrap()), "it is for `tools`: {said}");
    }
    let created = grant("create", &["--download"]).await;
    assert!(!created.contains(&hint), "{created}");
    assert!(!grant("update", &["--upload"]).await.contains(&hint), "it takes nothing away");
}
