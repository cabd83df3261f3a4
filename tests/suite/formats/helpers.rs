//! The credentials helpers of two releases in one home folder: each uses what the other cached or
//! stored.

use std::fs::File;

use serde_json::{Value, json};
use stile_protocol::names::Permission::Download;
use stile_tests::broker::served::Served;
use stile_tests::broker::{deploy, role};
use stile_tests::process::home::{CommandOutput, Home};
use stile_tests::process::previous::Release::{self, Current, Previous};
use stile_tests::process::programs::HELPER;

use super::registry::previous_is_built;

/// Runs the helper of that release with a text on standard input; it must succeed.
async fn run(home: &Home, release: Release, arguments: [&str; 2], input: &Value) -> Value {
    let file = home.path().join("stdin.json");
    std::fs::write(&file, input.to_string()).unwrap();
    let mut command = home.command(&release.program(HELPER), arguments);
    command.stdin(File::open(file).unwrap());
    let ran = CommandOutput::of(command).await;
    assert_eq!(ran.code, Some(0), "{release:?} {arguments:?}: {}", ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap_or_default()
}

/// Runs a command that reads no input.
async fn ask(home: &Home, release: Release, arguments: [&str; 2]) -> Value {
    run(home, release, arguments, &Value::Null).await
}

#[tokio::test]
async fn helpers_of_two_releases_share_cached_tokens() {
    if !previous_is_built("helpers of two releases in one home") {
        return;
    }
    let served = Served::start().await;
    served.test.grant(&role("deploy"), "acme", &[Download]).await;
    let home = served.home(&deploy());
    let get = async |release| {
        let token = ask(&home, release, ["get", served.host()]).await["token"].clone();
        let accepted = served.test.get("/v1/whoami", token.as_str().unwrap()).await;
        assert_eq!(accepted.status, 200, "{release:?}");
        token
    };
    let old = get(Previous).await;
    assert_eq!(get(Current).await, old, "the current release uses the earlier cache file");
    assert_eq!(served.test.sts.calls(), 1);

    ask(&home, Current, ["forget", served.host()]).await;
    let new = get(Current).await;
    assert_ne!(new, old);
    // The previous release does not read the current cache file. It gets its own token, and
    // replaces the file.
    let replaced = get(Previous).await;
    assert_eq!(get(Current).await, replaced);
    assert!(served.test.sts.calls() <= 3, "{} calls", served.test.sts.calls());
}

#[tokio::test]
async fn helpers_of_two_releases_share_stored_tokens() {
    if !previous_is_built("helpers of two releases in one home") {
        return;
    }
    let home = Home::temporary();
    let stored =
        [(Previous, "first.example"), (Current, "second.example"), (Previous, "third.example")];
    for (release, host) in stored {
        run(&home, release, ["store", host], &json!({ "token": host })).await;
    }
    for release in [Current, Previous] {
        for (by, host) in stored {
            let got = ask(&home, release, ["get", host]).await;
            assert_eq!(got["token"], host, "{by:?} stored it, and {release:?} reads it");
        }
    }
    for (release, other, host) in
        [(Previous, Current, "second.example"), (Current, Previous, "first.example")]
    {
        ask(&home, release, ["forget", host]).await;
        assert_eq!(ask(&home, other, ["get", host]).await, json!({}), "{release:?} forgot {host}");
        assert_eq!(ask(&home, other, ["get", "third.example"]).await["token"], "third.example");
    }
}
