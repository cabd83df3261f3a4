//! Tests of versions with a source: `namespace set --source` and `module publish --source`.

use std::os::unix::fs::PermissionsExt as _;

use crate::broker::{Broker, Request, http};
use crate::support::{DEPLOY, Machine};

const HOST: &str = "--registry-host registry.example.com";

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

macro_rules! snapshot {
    ($name:literal, $value:expr) => {
        insta::with_settings!({ prepend_module_to_snapshot => false, snapshot_path => "../snapshots", omit_expression => true }, {
            insta::assert_snapshot!($name, $value);
        });
    };
}

/// Accepts every source, and answers with what it got.
fn registry() -> Broker {
    Broker::new(|_, request: &Request| {
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        let answer = serde_json::json!({ "source": body["source"], "status": "created" });
        http("201 Created", "", &answer.to_string())
    })
}

/// Puts a program on the machine that takes the place of git. It writes down its arguments.
fn with_git(machine: Machine, script: &str) -> Machine {
    let log = machine.path("git.log");
    machine.write("bin/git", &format!("#!/bin/sh\necho \"$@\" >> '{}'\n{script}\n", log.display()));
    let git = machine.path("bin/git");
    std::fs::set_permissions(&git, std::fs::Permissions::from_mode(0o755)).unwrap();
    let folder = machine.path("bin").to_str().unwrap().to_owned();
    machine.with("PATH", &folder)
}

/// Returns the sources that the registry got.
fn sources(broker: &Broker) -> Vec<String> {
    let publishes = broker.requests().into_iter().filter(|sent| !sent.line.contains("/v1/token"));
    let source = |sent: Request| {
        assert_eq!(sent.line, "POST /v1/modules/acme/vpc/aws/1.2.0 HTTP/1.1");
        assert_eq!(sent.headers["content-type"], "application/json");
        let body: serde_json::Value = serde_json::from_slice(&sent.body).unwrap();
        assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
        body["source"].as_str().unwrap().to_owned()
    };
    publishes.map(source).collect()
}

#[test]
fn the_allowed_sources_of_a_namespace_are_added_shown_and_removed() {
    let machine = Machine::with_store();
    let grant = format!("grant create --role-arn {DEPLOY} --namespace acme --upload");
    assert_eq!(machine.run(&grant).code, 0);
    snapshot!(
        "namespace-sources",
        machine.transcript(&[
            "namespace set acme --source github.com/acme",
            "namespace set acme --source https://bob:hunter2@files.example.com/",
            "namespace set acme --source git::https://github.com/acme?ref=v1.0.0",
            "namespace set acme --allow-moving-refs",
            "namespace set acme --source https://files.example.com/ --allow-moving-refs",
            "namespace set acmee --source https://files.example.com/",
            "namespace set acme --no-source",
            "namespace set acme --source git::https://github.com/acme/ --source https://files.example.com/modules",
            "namespace set acme --source git::https://github.com/acme",
            "namespace set acme --source git::https://github.com/acme --allow-moving-refs --output json",
            "namespace show acme",
            "namespace set acme --max-versions 5 --no-source --source git::ssh://git@git.example.com/acme",
            "namespace list --output json",
            "namespace set acme --max-versions 5 --no-source --output json",
            "namespace show acme",
        ])
    );
}

#[test]
fn a_list_of_sources_that_this_program_cannot_read_is_shown_as_such_and_kept() {
    let machine = Machine::with_store();
    assert_eq!(machine.run("namespace create acme").code, 0);
    let database = rusqlite::Connection::open(machine.path("data/stile.sqlite3")).unwrap();
    let write = |text: &str| {
        database.execute("UPDATE namespaces SET sources = ?1", [text]).unwrap();
    };
    let newer = r#"{"version":2,"sources":[]}"#;
    write(newer);
    assert!(machine.done("namespace show acme").contains("a list that this program cannot read"));
    assert!(machine.json("namespace show acme")["sources"].is_null());
    let run = machine.run("namespace set acme --source https://files.example.com/");
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("cannot read the list of allowed sources"), "{}", run.stderr);
    let stored: String =
        database.query_row("SELECT sources FROM namespaces", [], |row| row.get(0)).unwrap();
    assert_eq!(stored, newer);
    write(r#"{"version":1,"sources":[{"address":"azure://h/","note":"\u001b[2J"}]}"#);
    let shown = machine.done("namespace show acme");
    assert!(shown.contains("(this program cannot read it, and it allows nothing)"), "{shown}");
    assert!(!shown.contains('\u{1b}'), "{shown}");
}

#[test]
fn the_commit_of_a_tag_is_published_and_a_commit_needs_no_git() {
    let broker = registry();
    let machine = broker.machine().with("PATH", "/without/git");
    let publish = |source: &str, more: &str| {
        format!("module publish acme/vpc/aws 1.2.0 --source {source} {HOST} {more}")
    };
    let vpc = "git::https://git.example.com/acme/vpc//modules/net";
    // Without git, only a source that needs none is published.
    let archive = "https://files.example.com/vpc.zip";
    for source in [format!("{vpc}?ref={COMMIT}"), archive.to_owned()] {
        let run = machine.run(&publish(&source, ""));
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert!(run.stdout.starts_with(&format!("published acme/vpc/aws 1.2.0 from {source}\n\n")));
    }
    let kept = machine.run(&publish(&format!("{vpc}?ref=v1.2.0"), "--keep-ref"));
    assert_eq!(kept.code, 0, "{}", kept.stderr);
    let run = machine.run(&publish(&format!("{vpc}?ref=v1.2.0"), ""));
    assert_eq!((run.code, run.stdout.as_str()), (2, ""));
    assert!(run.stderr.contains("cannot start `git`"), "{}", run.stderr);
    assert!(run.stderr.contains("hint: install git"), "{}", run.stderr);

    let lines = format!(
        "printf '%s\\trefs/tags/v1.2.0\\n%s\\trefs/tags/v1.2.0^{{}}\\n' {} {COMMIT}",
        "f".repeat(40)
    );
    let machine = with_git(machine, &lines);
    let shown = machine.done(&publish(&format!("{vpc}?ref=v1.2.0"), "--dry-run"));
    let pinned = format!("{vpc}?ref={COMMIT}");
    assert_eq!(shown, format!("would publish acme/vpc/aws 1.2.0 from {pinned}\n"));
    let json = machine.json(&publish(&format!("{vpc}?ref=v1.2.0"), ""));
    assert_eq!((&json["origin"], &json["status"]), (&pinned.clone().into(), &"published".into()));
    let log = std::fs::read_to_string(machine.path("git.log")).unwrap();
    let call = "ls-remote --quiet -- https://git.example.com/acme/vpc refs/tags/v1.2.0^{} refs/tags/v1.2.0 refs/heads/v1.2.0\n";
    assert_eq!(log, call.repeat(2));
    let got = sources(&broker);
    let expected =
        [format!("{vpc}?ref={COMMIT}"), archive.to_owned(), format!("{vpc}?ref=v1.2.0"), pinned];
    assert_eq!(got, expected);
}

#[test]
fn a_source_that_cannot_be_published_reaches_no_registry_and_is_not_repeated() {
    let broker = Broker::new(|_, _| panic!("the broker receives no request"));
    let machine = with_git(broker.machine(), "echo 'fatal: no \u{1b}[2Jrepository' >&2; exit 128");
    let publish = |words: &str| format!("module publish {words} {HOST}");
    let source = "--source git::https://git.example.com/acme/vpc?ref=v1.2.0";
    for (words, code, expected) in [
        (format!("acme/vpc/aws {source}"), 2, "an address and a version are needed"),
        (format!("acme/vpc/aws 1.2.0 ./vpc {source}"), 2, "no other word"),
        (format!("acme/vpc/aws 1.2 {source}"), 2, "version `1.2` must have the form"),
        (
            format!("acme/vpc/aws https://bob:hunter2@h.example/a.zip {source}"),
            2,
            "a URL can only be the value of `--source`",
        ),
        (
            format!("https://bob:hunter2@h.example/a.zip 1.2.0 {source}"),
            2,
            "a URL can only be the value of `--source`",
        ),
        (format!("acme/vpc/aws 1.2.0 {source} --include *.md"), 2, "cannot be used with"),
        ("acme/vpc/aws 1.2.0 ./vpc --keep-ref".to_owned(), 2, "--source"),
        (
            "acme/vpc/aws 1.2.0 --source git::https://bob:hunter2@git.example.com/vpc".to_owned(),
            2,
            "the value of `--source` is not valid: it must have no user and no password",
        ),
        (
            "acme/vpc/aws 1.2.0 --source file:///etc/hunter2".to_owned(),
            2,
            "the value of `--source` is not valid: it must begin with one of",
        ),
        (
            format!("acme/vpc/aws 1.2.0 {source}"),
            2,
            "cannot read the references of `https://git.example.com/acme/vpc`: git: fatal: no [2Jrepository",
        ),
    ] {
        let run = machine.run(&publish(&words));
        assert_eq!((run.code, run.stdout.as_str()), (code, ""), "{words}: {}", run.stderr);
        assert!(run.stderr.contains(expected), "{words}: {}", run.stderr);
        assert!(!run.stderr.contains("hunter2"), "{words}: {}", run.stderr);
    }
    let machine = with_git(machine, "printf '%s\\trefs/tags/v1.2.00\\n' x");
    let run = machine.run(&publish(&format!("acme/vpc/aws 1.2.0 {source}")));
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stderr.contains("has no tag and no branch `v1.2.0`"), "{}", run.stderr);
    let run = machine.run(&publish(&format!("acme/vpc/aws 1.2.0 {source}&depth=1")));
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(broker.requests().is_empty());
}
