//! Grants through the API with `stile-admin grant … --registry-host`, against a real broker: refusals,
//! a registry that is down, lost answers, and two editors.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use stile_protocol::names::Permission::{self, CreateGrant, DeleteGrant, Download, Upload};
use stile_tests::between::Between;
use stile_tests::broker::served::{Served, system_time};
use stile_tests::broker::{Backend, role};
use stile_tests::process::home::{CommandOutput, Home};
use stile_tests::process::programs::{ADMIN, program};
use stile_tests::sts::identity::Identity;

/// A registry, with a layer in front of its broker, and the home of someone who may change everything
/// on `acme`.
pub(super) struct Stage {
    pub(super) served: Served,
    pub(super) between: Between,
    pub(super) lead: Home,
}

impl Stage {
    /// Returns `None` if a tool is missing.
    pub(super) async fn start() -> Option<Self> {
        Self::with(&["acme"]).await
    }

    /// Starts a registry where `lead` may change everything on these namespaces.
    pub(super) async fn with(namespaces: &[&str]) -> Option<Self> {
        let between = Between::default();
        let served = Served::start_on(super::BACKEND, |router| between.around(router)).await?;
        for namespace in namespaces {
            served.test.grant(&role("lead"), namespace, &Permission::ALL).await;
        }
        let lead = served.home(&named("lead"));
        Some(Self { served, between, lead })
    }

    /// Returns the home of another role.
    pub(super) fn home(&self, name: &str) -> Home {
        self.served.home(&named(name))
    }

    /// Returns the arguments of a command that calls this registry.
    pub(super) fn arguments<'a>(&'a self, words: &[&'a str]) -> Vec<&'a str> {
        [&["grant"][..], words, &["--registry-host", self.served.host()]].concat()
    }

    pub(super) async fn ran_by(&self, home: &Home, words: &[&str]) -> CommandOutput {
        home.run(&program(ADMIN), &self.arguments(words)).await
    }

    pub(super) async fn ran(&self, words: &[&str]) -> CommandOutput {
        self.ran_by(&self.lead, words).await
    }

    /// Runs a command of `lead`, which must succeed without a word on stderr.
    pub(super) async fn done(&self, words: &[&str]) -> String {
        let ran = self.ran(words).await;
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{words:?}: {ran:?}");
        ran.stdout
    }

    /// Runs a command of `lead`, which must fail with this exit code, and says these words.
    #[track_caller]
    pub(super) fn failed(ran: &CommandOutput, code: i32, words: &str) {
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{ran:?}");
        assert!(ran.words().contains(words), "{words}: {ran:?}");
    }

    /// Returns the grants of these roles in the store, as `role namespace permissions`.
    pub(super) async fn stored(&self) -> Vec<String> {
        let mut all = self.served.test.stored_grants().await;
        all.retain(|line| !line.starts_with("lead "));
        all
    }
}

pub(super) fn named(name: &str) -> Identity {
    Identity::role("111122223333", name, "i-0abc")
}

/// Returns the words of a command about one grant.
fn about<'a>(verb: &'a str, who: &'a str, on: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&[verb, "--principal", who, "--namespace", on][..], more].concat()
}

const CI: &str = "arn:aws:iam::111122223333:role/ci";

#[tokio::test]
async fn what_only_an_operator_does_is_refused_before_any_call() {
    let Some(stage) = Stage::start().await else { return };
    let file = |owns: &str| format!("version = 1\nowns = {owns}\ngrant = []\n");
    for (name, owns) in [("all.toml", "\"all\""), ("star.toml", "[\"acme\", \"*\"]")] {
        std::fs::write(stage.lead.path().join(name), file(owns)).unwrap();
    }
    let account = "account:111122223333";
    let pin = ["--download", "--unique-id", "AROAEXAMPLEEXAMPLE222"];
    for words in [
        about("create", account, "acme", &["--download"]),
        about("create", account, "acme", &["--download", "--yes"]),
        about("create", CI, "*", &["--download", "--yes"]),
        about("create", CI, "acme", &["--download", "--no-pin"]),
        about("create", CI, "acme", &pin),
        about("update", account, "acme", &["--download"]),
        about("update", CI, "*", &["--download"]),
        about("delete", account, "acme", &[]),
        about("delete", CI, "*", &["--force"]),
        about("show", CI, "*", &[]),
        vec!["repin", "--role-arn", CI],
        vec!["plan", "all.toml"],
        vec!["plan", "star.toml"],
        vec!["apply", "all.toml", "--yes"],
        vec!["apply", "star.toml", "--yes"],
        vec!["export"],
        vec!["export", "--namespace", "acme", "--namespace", "*"],
    ] {
        let ran = stage.ran(&words).await;
        Stage::failed(&ran, 1, "error: only an operator ");
        assert!(ran.words().contains("with `--data DIR` or `--table NAME`"), "{words:?}: {ran:?}");
    }
    assert_eq!(stage.between.seen().len(), 0, "no request");
    assert_eq!(stage.stored().await, [""; 0]);
}

#[tokio::test]
async fn a_refusal_has_exit_code_1_and_changes_nothing() {
    let Some(stage) = Stage::start().await else { return };
    stage.served.test.grant(&role("ci"), "acme", &[Download]).await;
    stage.served.test.grant(&role("reader"), "acme", &[Download]).await;
    stage.served.test.grant(&role("taker"), "acme", &[DeleteGrant]).await;
    let soon = Some(system_time() + 86_400);
    stage.served.test.grant_until(&role("short"), "acme", &[CreateGrant, Download], soon).await;
    let before = stage.stored().await;
    for (who, words, says) in [
        (
            "short",
            about("create", "arn:aws:iam::111122223333:role/new", "acme", &["--download"]),
            { "so it cannot give a permission there for longer" },
        ),
        ("reader", about("create", CI, "acme", &["--download"]), "`create_grant`"),
        ("reader", about("update", CI, "acme", &["--upload"]), "`create_grant`"),
        ("reader", about("delete", CI, "acme", &[]), "`delete_grant`"),
        ("reader", about("show", CI, "acme", &[]), "`create_grant`"),
        ("reader", vec!["list", "--namespace", "acme"], "`create_grant`"),
        ("reader", vec!["export", "--namespace", "acme"], "`create_grant`"),
        ("taker", about("update", CI, "acme", &["--upload"]), "`create_grant`"),
        ("taker", about("create", CI, "other", &["--download"]), "`create_grant`"),
        ("lead", about("create", CI, "other", &["--download"]), "`create_grant`"),
        ("lead", about("update", CI, "acme", &["--download=false"]), "the last permission"),
        ("lead", about("update", "arn:aws:iam::111122223333:role/no", "acme", &["--upload"]), {
            "there is no grant for `aws:111122223333:role/no` on `acme`; hint: create it with"
        }),
        ("lead", about("delete", "arn:aws:iam::111122223333:role/no", "acme", &[]), "is no grant"),
        ("lead", about("show", "arn:aws:iam::111122223333:role/no", "acme", &[]), "is no grant"),
        ("lead", about("create", CI, "acme", &["--upload"]), {
            "the grant already exists: aws:111122223333:role/ci on acme: download; hint: change it"
        }),
        ("lead", about("create", "arn:aws:iam::111122223333:role/CI", "acme", &["--upload"]), {
            "differs only by case"
        }),
        ("lead", about("delete", "arn:aws:iam::111122223333:role/lead", "acme", &[]), "`--force`"),
    ] {
        let ran = stage.ran_by(&stage.home(who), &words).await;
        Stage::failed(&ran, 1, says);
        assert_eq!(stage.stored().await, before, "{words:?}");
    }
    let list = stage.ran_by(&stage.home("reader"), &["list", "--output", "json"]).await;
    let list: Value = serde_json::from_str(&list.stdout).unwrap();
    let own = json!([{
        "principal": role("reader"), "namespace": "acme", "permissions": ["download"],
        "expires_at": null, "created_by": null, "created_at": null,
    }]);
    assert_eq!(list, own, "everyone may list their own grants");
    let narrowed = about("update", CI, "acme", &["--expires", "1d"]);
    let ran = stage.ran_by(&stage.home("taker"), &narrowed).await;
    assert_eq!(ran.code, Some(0), "who may only take can end a grant earlier: {ran:?}");
}

#[tokio::test]
async fn a_registry_that_is_down_has_exit_code_2_and_changes_nothing() {
    let Some(mut stage) = Stage::start().await else { return };
    stage.served.test.grant(&role("ci"), "acme", &[Download]).await;
    let before = stage.stored().await;
    let new = about("create", "arn:aws:iam::111122223333:role/new", "acme", &["--download"]);
    let update = about("update", CI, "acme", &["--upload"]);
    let delete = about("delete", CI, "acme", &[]);
    for status in [
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::INTERNAL_SERVER_ERROR,
    ] {
        for (method, words) in [
            (Method::POST, &new),
            (Method::PATCH, &update),
            (Method::DELETE, &delete),
            (Method::GET, &vec!["list"]),
            (Method::GET, &vec!["export", "--namespace", "acme"]),
        ] {
            // The program repeats what a busy registry answers, once.
            let repeats = usize::from(status != StatusCode::INTERNAL_SERVER_ERROR);
            stage.between.refuse(&method, status, 1 + repeats);
            let ran = stage.ran(words).await;
            Stage::failed(&ran, 2, "error: the registry is unavailable: a test says so");
            let is_change = method != Method::GET;
            assert_eq!(ran.words().contains("can have made the change"), is_change, "{ran:?}");
            stage.between.is_through();
            assert_eq!(stage.stored().await, before, "{words:?}");
        }
    }
    stage.lead.configure_helper(&format!(
        "[registry.\"{}\"]\nurl = \"https://127.0.0.1:1\"\n",
        stage.served.host()
    ));
    let ran = stage.ran(&update).await;
    Stage::failed(&ran, 2, "Connection refused");
}

#[tokio::test]
async fn a_grant_is_created_changed_shown_listed_and_deleted() {
    let Some(stage) = Stage::start().await else { return };
    let create = about("create", CI, "acme", &["--download", "--expires", "90d"]);
    let created = stage.done(&create).await;
    assert!(
        created.starts_with("created aws:111122223333:role/ci on acme: download until 20"),
        "{created}"
    );
    // The same duration counts from the creation, so a repeated command changes nothing.
    let again = stage.ran(&create).await;
    assert!(again.code == Some(0) && again.stdout.starts_with("unchanged: aws:"), "{again:?}");
    let other = stage.ran(&about("create", CI, "acme", &["--download", "--expires", "9d"])).await;
    let hint = format!(
        "hint: change it with `stile-admin grant update --registry-host {} --config",
        stage.served.host()
    );
    Stage::failed(&other, 1, &hint);

    let update = about("update", CI, "acme", &["--upload", "--expires", "never"]);
    let updated = stage.done(&update).await;
    assert_eq!(updated, "updated aws:111122223333:role/ci on acme: download,upload\n");
    assert_eq!(stage.stored().await, ["ci acme download,upload"]);
    let shown = stage.done(&about("show", CI, "acme", &["--output", "json"])).await;
    let mut shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["created_by"], role("lead"));
    let fields: Vec<&str> = shown.as_object().unwrap().keys().map(String::as_str).collect();
    let same = ["created_at", "created_by", "expires_at", "namespace", "permissions", "principal"];
    assert_eq!(fields, [&same[..], &["unique_id"]].concat(), "as with the store");
    let lines = stage.done(&about("show", CI, "acme", &[])).await;
    assert!(lines.contains("unique id    not shown by the API"), "{lines}");
    shown.as_object_mut().unwrap().remove("unique_id");
    for words in [
        &["list", "--output", "json"][..],
        &["list", "--output", "json", "--namespace", "acme"],
        &["list", "--output", "json", "--principal", CI],
    ] {
        let list: Value = serde_json::from_str(&stage.done(words).await).unwrap();
        assert!(list.as_array().unwrap().contains(&shown), "{words:?}: {list}");
    }

    let narrow = about("update", CI, "acme", &["--download=false"]);
    assert_eq!(stage.done(&narrow).await, "updated aws:111122223333:role/ci on acme: upload\n");
    let deleted = stage.done(&about("delete", CI, "acme", &["--output", "json"])).await;
    let deleted: Value = serde_json::from_str(&deleted).unwrap();
    let expected = json!({ "status": "deleted", "principal": role("ci"), "namespace": "acme" });
    assert_eq!((deleted, stage.stored().await), (expected, vec![]));
    let past = ["--download", "--expires", "2020-01-01", "--skip-expired"];
    let skipped = stage.ran(&about("create", CI, "acme", &past)).await;
    assert!(skipped.code == Some(0) && skipped.stdout.starts_with("skipped "), "{skipped:?}");
}

#[tokio::test]
async fn the_last_grant_giver_goes_only_by_force() {
    let Some(stage) = Stage::start().await else { return };
    stage.served.test.grant(&role("only"), "web", &Permission::ALL).await;
    let only = stage.home("only");
    let arn = "arn:aws:iam::111122223333:role/only";
    for words in [
        about("update", arn, "web", &["--create-grant=false"]),
        about("update", arn, "web", &["--expires", "1d"]),
        about("delete", arn, "web", &[]),
    ] {
        let ran = stage.ran_by(&only, &words).await;
        Stage::failed(&ran, 1, "`create_grant` on namespace `web`");
        assert!(ran.words().contains("`--force` of `stile-admin`"), "{ran:?}");
    }
    let forced = stage.ran_by(&only, &about("delete", arn, "web", &["--force"])).await;
    assert_eq!((forced.code, stage.stored().await), (Some(0), vec![]), "{forced:?}");
}

#[tokio::test]
async fn two_editors_at_once_never_overwrite_each_other() {
    let Some(stage) = Stage::start().await else { return };
    stage.served.test.grant(&role("other"), "acme", &Permission::ALL).await;
    let other = stage.home("other");
    for (method, words, meanwhile, left) in [
        (
            Method::PATCH,
            about("update", CI, "acme", &["--upload"]),
            { about("update", CI, "acme", &["--expires", "9d"]) },
            Some("download"),
        ),
        (
            Method::PATCH,
            about("update", CI, "acme", &["--upload"]),
            { about("delete", CI, "acme", &[]) },
            None,
        ),
        (
            Method::DELETE,
            about("delete", CI, "acme", &[]),
            { about("update", CI, "acme", &["--upload"]) },
            Some("download,upload"),
        ),
    ] {
        let create = about("create", CI, "acme", &["--download"]);
        stage.done(&create).await;
        let mut held = stage.between.hold(method);
        let (ran, ()) = tokio::join!(stage.ran(&words), async {
            held.arrived().await;
            let ran = stage.ran_by(&other, &meanwhile).await;
            assert_eq!(ran.code, Some(0), "{ran:?}");
            held.pass();
        });
        let says = "error: others changed the grant for `aws:111122223333:role/ci` on `acme` \
                    meanwhile, so nothing was changed; hint: look at it with `stile-admin grant \
                    show --registry-host ";
        Stage::failed(&ran, 1, says);
        let stored = stage.stored().await;
        let found = stored.iter().find(|line| line.starts_with("ci "));
        let may = found.map(|line| line.split(' ').nth(2).unwrap());
        assert_eq!(may, left, "the change of the other stays");
        if left.is_some() {
            stage.done(&about("delete", CI, "acme", &[])).await;
        }
    }
    // Both delete at once: it is gone, as both want it.
    stage.done(&about("create", CI, "acme", &["--download"])).await;
    let mut held = stage.between.hold(Method::DELETE);
    let delete = about("delete", CI, "acme", &[]);
    let (ran, ()) = tokio::join!(stage.ran(&delete), async {
        held.arrived().await;
        assert_eq!(stage.ran_by(&other, &delete).await.code, Some(0));
        held.pass();
    });
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
}

#[tokio::test]
async fn a_change_whose_answer_is_lost_is_found_again_or_said_to_be_unknown() {
    let Some(stage) = Stage::start().await else { return };
    // A busy answer is repeated, and the second request finds what the first one has done.
    let busy = StatusCode::SERVICE_UNAVAILABLE;
    for (method, words, says) in [
        (Method::POST, about("create", CI, "acme", &["--download"]), "unchanged: "),
        (Method::PATCH, about("update", CI, "acme", &["--upload"]), "updated "),
        (Method::DELETE, about("delete", CI, "acme", &[]), "deleted "),
    ] {
        stage.between.replace(method, busy);
        let done = stage.done(&words).await;
        assert!(done.starts_with(says), "{done}");
        stage.between.is_through();
    }
    for (method, words, stored) in [
        (Method::POST, about("create", CI, "acme", &["--download"]), "ci acme download"),
        (Method::PATCH, about("update", CI, "acme", &["--upload"]), "ci acme download,upload"),
        (Method::DELETE, about("delete", CI, "acme", &[]), ""),
    ] {
        stage.between.cut(method);
        let ran = stage.ran(&words).await;
        Stage::failed(
            &ran,
            2,
            "hint: the registry can have made the change; look with `stile-admin",
        );
        stage.between.is_through();
        assert_eq!(stage.stored().await.join(""), stored, "it had made it");
    }
}

#[tokio::test]
async fn each_call_has_a_token_for_one_namespace_and_for_only_what_it_needs() {
    let Some(stage) = Stage::with(&["acme", "web"]).await else { return };
    let now = system_time();
    stage.served.test.grant_until(&role("ended"), "acme", &[Upload], Some(now - 60)).await;
    let ended = "arn:aws:iam::111122223333:role/ended";
    const GET: &str = "GET acme create_grant";
    for (words, expected) in [
        (about("create", CI, "acme", &["--download"]), &["POST acme create_grant,download"][..]),
        (about("update", CI, "acme", &["--upload"]), {
            &[GET, "PATCH acme create_grant,download,upload"]
        }),
        (about("update", CI, "acme", &["--upload=false"]), {
            &["GET acme delete_grant", "PATCH acme delete_grant"]
        }),
        (about("update", CI, "acme", &["--expires", "9d"]), &[GET, "PATCH acme delete_grant"]),
        (about("update", CI, "acme", &["--expires", "10d"]), {
            &[GET, "PATCH acme create_grant,download"]
        }),
        (about("update", ended, "acme", &["--expires", "1d"]), {
            &[GET, "PATCH acme create_grant,upload"]
        }),
        (about("show", CI, "acme", &[]), &[GET]),
        (vec!["list", "--namespace", "acme"], &[GET]),
        (vec!["export", "--namespace", "acme"], &[GET]),
        (about("delete", CI, "acme", &[]), &["GET acme delete_grant", "DELETE acme delete_grant"]),
        (vec!["list"], &["GET all create_grant,delete_grant"]),
    ] {
        stage.between.seen();
        stage.done(&words).await;
        let mut calls = Vec::new();
        for seen in stage.between.seen() {
            let Some(method) = seen.line.strip_suffix(" /v1/grants") else { continue };
            let whoami = stage.served.test.get("/v1/whoami", &seen.token).await.json();
            let on = match &whoami["namespaces"] {
                Value::String(all) => all.clone(),
                some => some.as_array().unwrap().iter().filter_map(Value::as_str).collect(),
            };
            let may = whoami["permissions"].as_array().unwrap().iter().filter_map(Value::as_str);
            calls.push(format!("{method} {on} {}", may.collect::<Vec<_>>().join(",")));
        }
        assert_eq!(calls, expected, "{words:?}");
    }
}

#[tokio::test]
async fn a_404_of_something_else_is_no_deletion() {
    let Some(stage) = Stage::start().await else { return };
    stage.served.test.grant(&role("ci"), "acme", &[Download]).await;
    let delete = about("delete", CI, "acme", &[]);
    stage.between.refuse(&Method::DELETE, StatusCode::NOT_FOUND, 1);
    let ran = stage.ran(&delete).await;
    Stage::failed(&ran, 2, "sent `404` for a grant that exists; hint: the registry can have made");
    assert_eq!(stage.stored().await, ["ci acme download"]);
    // The registry itself says 404 after another deletion.
    stage.between.replace(Method::DELETE, StatusCode::NOT_FOUND);
    assert!(stage.done(&delete).await.starts_with("deleted "));
    assert_eq!(stage.stored().await, [""; 0]);
}

#[tokio::test]
async fn a_list_or_a_file_asks_for_few_tokens_that_the_registry_refuses() {
    let Some(stage) = Stage::start().await else { return };
    let test = &stage.served.test;
    test.grant(&role("reader"), "acme", &[Download]).await;
    test.grant(&role("giver"), "acme", &[CreateGrant, Download]).await;
    for on in ["acme", "tools", "web"] {
        test.grant(&role("taker"), on, &[DeleteGrant]).await;
    }
    let exchanges = || {
        let seen = stage.between.seen();
        seen.iter().filter(|seen| seen.line == "POST /v1/token").count()
    };
    exchanges();
    // The last number is that of the tokens. Each other exchange was refused.
    for (who, grants, asked, tokens) in
        [("reader", 1, 3, 1), ("giver", 4, 2, 1), ("taker", 6, 2, 1), ("lead", 4, 2, 2)]
    {
        let home = stage.home(who);
        let list = stage.ran_by(&home, &["list", "--output", "json"]).await;
        let list: Value = serde_json::from_str(&list.stdout).unwrap();
        let number = list.as_array().unwrap().len();
        assert_eq!((number, exchanges()), (grants, asked), "{who}: {list}");
        let again = stage.ran_by(&home, &["list"]).await;
        assert_eq!((again.code, exchanges()), (Some(0), asked - tokens), "{who}: {again:?}");
    }
    let taker = stage.home("taker");
    let file = "version = 1\nowns = [\"acme\", \"tools\", \"web\"]\ngrant = []\n";
    std::fs::write(taker.path().join("grants.toml"), file).unwrap();
    let planned = stage.ran_by(&taker, &["plan", "grants.toml"]).await;
    assert_eq!((planned.code, exchanges()), (Some(0), 4), "one is refused: {planned:?}");
}

/// The number of grants in a long list. The emulator is slow.
pub(super) fn large() -> usize {
    match super::BACKEND {
        Backend::Embedded => 2_001,
        Backend::Aws => 201,
    }
}

#[tokio::test]
async fn a_list_follows_the_cursor_to_its_end() {
    let Some(stage) = Stage::start().await else { return };
    stage.served.test.grant(&role("lead"), "web", &[CreateGrant]).await;
    for number in 0..large() {
        let on = if number % 2 == 0 { "acme" } else { "web" };
        stage.served.test.grant(&role(&format!("r{number}")), on, &[Download]).await;
    }
    let list: Value =
        serde_json::from_str(&stage.done(&["list", "--output", "json"]).await).unwrap();
    assert_eq!(list.as_array().unwrap().len(), large() + 2);
    let table = stage.done(&["list", "--namespace", "web"]).await;
    let rows = table.lines().filter(|line| line.contains("role/r")).count();
    assert_eq!(rows, large() / 2);
}
