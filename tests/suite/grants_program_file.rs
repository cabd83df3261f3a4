//! A file of grants through the API: `grant plan`, `apply` and `export` with `--registry-host`. Also a
//! run that is killed, runs at once, and changes of rights while it runs.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use stile_protocol::names::Permission::{CreateGrant, DeleteGrant, Download, Upload};
use stile_tests::broker::role;
use stile_tests::broker::served::system_time;
use stile_tests::process::home::CommandOutput;
use stile_tests::process::programs::{ADMIN, program};
use stile_tests::time_limits;

use super::grants_program::{Stage, large};

const SAME: &str = "0 to create, 0 to change, 0 to delete\n";

/// The namespaces of a large file.
const MANY: [&str; 8] = ["n0", "n1", "n2", "n3", "n4", "n5", "n6", "n7"];

/// A grant of a file: a role, a namespace and permissions.
type Entry<'a> = (&'a str, &'a str, &'a [&'a str]);

/// Everything, for the giver of grants who applies a file.
const ALL: &[&str] = &["create_grant", "delete_grant", "download", "upload"];

/// Returns a file that owns these namespaces.
fn file(owns: &[&str], grants: &[Entry<'_>]) -> String {
    let mut text = format!("version = 1\nowns = {owns:?}\n");
    for (name, on, permissions) in grants {
        text += &format!(
            "[[grant]]\nprincipal = \"arn:aws:iam::111122223333:role/{name}\"\n\
             namespace = \"{on}\"\npermissions = {permissions:?}\n"
        );
    }
    text
}

/// Returns a file with so many grants of one permission, and with those of `lead`. Also the grants of
/// others, as they are stored.
fn many(count: usize, permission: &str) -> (String, BTreeSet<String>) {
    let names: Vec<String> =
        (0..count.div_ceil(8)).map(|number| format!("{permission}{number}")).collect();
    let permissions = [permission];
    let lead = MANY.iter().map(|on| ("lead", *on, ALL));
    let grants = (0..count).map(|at| (names[at / 8].as_str(), MANY[at % 8], &permissions[..]));
    let lines = grants.clone().map(|(name, on, _)| format!("{name} {on} {permission}")).collect();
    (file(&MANY, &lead.chain(grants).collect::<Vec<_>>()), lines)
}

impl Stage {
    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.lead.path().join(name), text).unwrap();
    }

    fn start_program(&self, words: &[&str]) -> tokio::process::Child {
        let mut command = self.lead.command(&program(ADMIN), self.arguments(words));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    async fn lines(&self) -> BTreeSet<String> {
        self.stored().await.into_iter().collect()
    }
}

#[tokio::test]
async fn a_file_for_a_namespace_without_the_right_or_with_an_account_changes_nothing() {
    let Some(stage) = Stage::start().await else { return };
    let test = &stage.served.test;
    test.grant(&role("some"), "web", &[CreateGrant, Download]).await;
    test.grant(&role("old"), "web", &[Download]).await;
    let before = stage.lines().await;
    let some = stage.home("some");
    let apply = ["apply", "grants.toml", "--yes", "--allow-deletes", "9"];
    for (text, says) in [
        (file(&["acme", "web"], &[("new", "web", &["download"])]), "`create_grant`"),
        // It may create a grant of `download`, and no other, and delete none.
        (file(&["web"], &[("new", "web", &["upload"])]), "nothing was changed"),
        (file(&["web"], &[("new", "web", &["download"])]), "nothing was changed"),
    ] {
        std::fs::write(some.path().join("grants.toml"), text).unwrap();
        let ran = stage.ran_by(&some, &apply).await;
        assert!(ran.code == Some(1) && ran.words().contains(says), "{says}: {ran:?}");
        assert_eq!(stage.lines().await, before);
    }
    test.grant("account:aws:111122223333", "acme", &[Download]).await;
    let before = stage.lines().await;
    stage.write("grants.toml", &file(&["acme"], &[("lead", "acme", ALL)]));
    let planned = stage.ran(&["plan", "grants.toml"]).await;
    let account = "only an operator changes the grant of `account:aws:111122223333`";
    assert!(planned.code == Some(0) && planned.words().contains(account), "{planned:?}");
    let ran = stage.ran(&apply).await;
    assert!(ran.code == Some(1) && ran.words().contains(account), "{ran:?}");
    assert_eq!(stage.lines().await, before);
}

#[tokio::test]
async fn apply_makes_the_grants_of_the_file_and_plan_checks_for_drift() {
    let Some(stage) = Stage::with(&["acme", "web"]).await else { return };
    let test = &stage.served.test;
    test.grant(&role("deploy"), "acme", &[Download]).await;
    test.grant(&role("old"), "acme", &[Upload]).await;
    test.grant(&role("old"), "other", &[Upload]).await;
    let lead = [("lead", "acme", ALL), ("lead", "web", ALL)];
    let entries: [Entry<'_>; 2] =
        [("deploy", "acme", &["download", "upload"]), ("new", "web", &["download"])];
    stage.write("grants.toml", &file(&["acme", "web"], &[&lead[..], &entries].concat()));
    let plan = "~ aws:111122223333:role/deploy on acme: download -> download,upload\n\
                + aws:111122223333:role/new on web: download\n\
                - aws:111122223333:role/old on acme: upload\n\
                1 to create, 1 to change, 1 to delete\n";
    assert_eq!(stage.done(&["plan", "grants.toml"]).await, plan);
    let drift = stage.ran(&["plan", "grants.toml", "--check"]).await;
    assert_eq!((drift.code, drift.stdout.as_str()), (Some(1), plan));
    let applied = stage.done(&["apply", "grants.toml", "--yes"]).await;
    assert_eq!(applied, format!("{plan}created 1, changed 1, deleted 1\n"));
    let expected = ["deploy acme download,upload", "new web download", "old other upload"];
    assert_eq!(stage.lines().await, expected.map(str::to_owned).into());
    assert_eq!(stage.done(&["plan", "grants.toml", "--check"]).await, SAME);
    assert_eq!(stage.done(&["apply", "grants.toml"]).await, SAME);
    for form in ["table", "json"] {
        let words = ["export", "--namespace", "acme", "--namespace", "web", "--output", form];
        let name = if form == "json" { "exported.json" } else { "exported.toml" };
        stage.write(name, &stage.done(&words).await);
        assert_eq!(stage.done(&["plan", name, "--check"]).await, SAME);
    }
}

#[tokio::test]
async fn a_large_file_is_applied_and_then_there_is_no_difference() {
    let Some(stage) = Stage::with(&MANY).await else { return };
    let count = large() - 1;
    let (text, lines) = many(count, "download");
    stage.write("grants.toml", &text);
    let applied = stage.done(&["apply", "grants.toml", "--yes"]).await;
    let end = format!("created {count}, changed 0, deleted 0\n");
    assert!(applied.ends_with(&end), "{}", applied.lines().last().unwrap());
    assert_eq!(stage.lines().await, lines);
    assert_eq!(stage.done(&["plan", "grants.toml", "--check"]).await, SAME);
}

#[tokio::test]
async fn an_apply_that_is_killed_half_way_and_runs_again_ends_the_same() {
    let Some(stage) = Stage::with(&MANY).await else { return };
    let (text, lines) = many((large() - 1) / 4, "download");
    stage.write("grants.toml", &text);
    stage.served.test.grant(&role("old"), "n0", &[Upload]).await;
    let apply = ["apply", "grants.toml", "--yes"];
    let mut child = stage.start_program(&apply);
    let half = time_limits::wait(async {
        let mut tick = tokio::time::interval(Duration::from_millis(2));
        while stage.lines().await.len() < lines.len() / 4 {
            tick.tick().await;
        }
    });
    half.await.expect("the program makes changes");
    child.kill().await.unwrap();
    let left = stage.lines().await;
    assert!(left.len() < lines.len() && left.contains("old n0 upload"));
    stage.done(&apply).await;
    assert_eq!(stage.lines().await, lines);
    assert_eq!(stage.done(&["plan", "grants.toml", "--check"]).await, SAME);
}

#[tokio::test]
async fn a_registry_that_goes_down_half_way_stops_the_run_which_says_what_it_did() {
    let Some(stage) = Stage::start().await else { return };
    stage.served.test.grant(&role("old"), "acme", &[Upload]).await;
    let entries: [Entry<'_>; 2] = [("lead", "acme", ALL), ("new", "acme", &["download"])];
    stage.write("grants.toml", &file(&["acme"], &entries));
    let apply = ["apply", "grants.toml", "--yes"];
    stage.between.cut(Method::DELETE);
    let ran = stage.ran(&apply).await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stdout.ends_with("created 1, changed 0, deleted 0\n"), "{ran:?}");
    assert!(ran.words().contains("error: made 1 of 2 changes: "), "{ran:?}");
    stage.between.is_through();
    // The deletion was made, and only its answer was lost.
    assert_eq!(stage.done(&["plan", "grants.toml", "--check"]).await, SAME);

    stage.served.test.grant(&role("old"), "acme", &[Upload]).await;
    stage.between.refuse(&Method::DELETE, StatusCode::SERVICE_UNAVAILABLE, 2);
    let ran = stage.ran(&apply).await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
    let says = "error: made 0 of 1 changes: the registry is unavailable: a test says so";
    assert!(ran.words().contains(says), "{ran:?}");
    let applied = stage.done(&apply).await;
    assert!(applied.ends_with("created 0, changed 0, deleted 1\n"), "{applied}");
}

/// A refusal of the registry: the method, the status, the number of
/// requests that get it, the grant of the file, and the sign of its change.
type Refusal = (Method, StatusCode, usize, Entry<'static>, &'static str);

#[tokio::test]
async fn a_refused_change_stops_the_run_before_anything_is_taken_away() {
    let Some(stage) = Stage::start().await else { return };
    let test = &stage.served.test;
    let days = |days: i64| Some(system_time() + days * 86_400);
    let giver = [CreateGrant, DeleteGrant, Download];
    test.grant_until(&role("short"), "acme", &giver, days(30)).await;
    test.grant_until(&role("ends"), "acme", &[Download], days(9)).await;
    for who in ["mixed", "old"] {
        test.grant(&role(who), "acme", &[Download]).await;
    }
    let before = stage.lines().await;
    let apply = ["apply", "grants.toml", "--yes"];
    let owned = |entry: Entry<'_>| file(&["acme"], &[("lead", "acme", ALL), entry]);
    // The giver has all permissions, and its own grant ends earlier than what it gives.
    let short = stage.home("short");
    for (name, sign) in [("new", "+"), ("ends", "~")] {
        std::fs::write(short.path().join("grants.toml"), owned((name, "acme", &["download"])))
            .unwrap();
        let ran = stage.ran_by(&short, &apply).await;
        assert_eq!((ran.code, stage.lines().await), (Some(1), before.clone()), "{ran:?}");
        assert!(ran.stdout.ends_with("created 0, changed 0, deleted 0\n"), "{ran:?}");
        for says in [
            "error: made 0 of ",
            &format!("changes: `{sign} aws:111122223333:role/{name} on acme: download"),
            "` was refused: ",
            "so it cannot give a permission there for longer",
        ] {
            assert!(ran.words().contains(says), "{says}: {ran:?}");
        }
    }
    let refusals: [Refusal; 4] = [
        (Method::POST, StatusCode::BAD_REQUEST, 1, ("new", "acme", &["download"]), "+"),
        // The program replaces its token, and asks once more.
        (Method::POST, StatusCode::UNAUTHORIZED, 2, ("new", "acme", &["download"]), "+"),
        (Method::PATCH, StatusCode::FORBIDDEN, 1, ("old", "acme", &["download", "upload"]), "~"),
        // This change gives and takes.
        (Method::PATCH, StatusCode::FORBIDDEN, 1, ("mixed", "acme", &["upload"]), "~"),
    ];
    for (method, status, count, entry, sign) in refusals {
        stage.write("grants.toml", &owned(entry));
        stage.between.refuse(&method, status, count);
        let ran = stage.ran(&apply).await;
        stage.between.is_through();
        assert_eq!((ran.code, stage.lines().await), (Some(1), before.clone()), "{ran:?}");
        let says = format!("changes: `{sign} aws:111122223333:role/{} on acme: ", entry.0);
        assert!(ran.words().contains(&says), "{says}: {ran:?}");
        assert!(ran.words().contains("hint: change the file, or ask for the missing"), "{ran:?}");
        let seen = stage.between.seen();
        assert!(!seen.iter().any(|seen| seen.line == "DELETE /v1/grants"), "{ran:?}");
    }
    // A caller with the rights makes the grants like the same file.
    stage.done(&apply).await;
    assert_eq!(stage.lines().await, ["mixed acme upload".to_owned()].into());
}

#[tokio::test]
async fn a_deletion_of_something_else_is_none_and_stops_the_run() {
    let Some(stage) = Stage::start().await else { return };
    stage.served.test.grant(&role("old"), "acme", &[Upload]).await;
    stage.write("grants.toml", &file(&["acme"], &[("lead", "acme", ALL)]));
    stage.between.refuse(&Method::DELETE, StatusCode::NOT_FOUND, 1);
    let ran = stage.ran(&["apply", "grants.toml", "--yes"]).await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stdout.ends_with("created 0, changed 0, deleted 0\n"), "{ran:?}");
    assert!(ran.words().contains("sent `404` for a grant that exists"), "{ran:?}");
    assert_eq!(stage.lines().await, ["old acme upload".to_owned()].into());
}

#[tokio::test]
async fn the_loss_of_the_callers_own_right_is_said_before_the_confirmation() {
    let Some(stage) = Stage::start().await else { return };
    stage.served.test.grant(&role("other"), "acme", &[CreateGrant, DeleteGrant]).await;
    let rights = &["create_grant", "delete_grant"];
    let own = "notice: the file takes your own right to change grants on `acme`\n";
    let plan = ["plan", "grants.toml"];
    stage.write("grants.toml", &file(&["acme"], &[("other", "acme", rights)]));
    let planned = stage.ran(&plan).await;
    assert_eq!((planned.code, planned.stderr.as_str()), (Some(0), own), "{planned:?}");
    let asked = stage.ran(&["apply", "grants.toml"]).await;
    let terminal = "error: nothing was changed, because there is no terminal to ask on; ";
    assert_eq!(asked.code, Some(1), "{asked:?}");
    assert!(asked.stderr.starts_with(&format!("{own}{terminal}")), "{asked:?}");
    let made = stage.ran(&["apply", "grants.toml", "--yes"]).await;
    assert_eq!(made.stderr.matches(own).count(), 1, "{made:?}");
    assert_eq!(stage.lines().await, ["other acme create_grant,delete_grant".to_owned()].into());
}

#[tokio::test]
async fn givers_of_grants_change_places_and_the_namespace_has_one_at_every_moment() {
    let Some(stage) = Stage::start().await else { return };
    let test = &stage.served.test;
    test.grant(&role("first"), "acme", &[CreateGrant, DeleteGrant]).await;
    test.grant(&role("second"), "acme", &[DeleteGrant, Upload]).await;
    // In the order of names, `first` would lose its right before `second` has one, and `lead` its own
    // before it has made the other changes.
    let entries: [Entry<'_>; 2] = [
        ("first", "acme", &["delete_grant", "download"]),
        ("second", "acme", &["create_grant", "delete_grant"]),
    ];
    stage.write("grants.toml", &file(&["acme"], &entries));
    let ran = stage.ran(&["apply", "grants.toml", "--yes"]).await;
    assert!(ran.stdout.ends_with("created 0, changed 2, deleted 1\n"), "{ran:?}");
    assert!(ran.words().contains("the file takes your own right to change grants on `acme`"));
    let expected = ["first acme delete_grant,download", "second acme create_grant,delete_grant"];
    assert_eq!(stage.served.test.stored_grants().await, expected);
}

#[tokio::test]
async fn a_file_without_a_giver_of_grants_leaves_the_last_one() {
    let Some(stage) = Stage::start().await else { return };
    stage.served.test.grant(&role("old"), "acme", &[Download]).await;
    stage.write("grants.toml", &file(&["acme"], &[("new", "acme", &["download"])]));
    let apply = ["apply", "grants.toml", "--yes", "--allow-deletes", "2"];
    let ran = stage.ran(&apply).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stdout.ends_with("created 1, changed 0, deleted 1\n"), "{ran:?}");
    let why = "not made: - aws:111122223333:role/lead on acme: \
               create_grant,delete_grant,download,upload; nobody else has `create_grant`";
    assert!(ran.words().contains(why), "{ran:?}");
    let left = ["lead acme create_grant,delete_grant,download,upload", "new acme download"];
    assert_eq!(stage.served.test.stored_grants().await, left);
}

#[tokio::test]
async fn a_change_by_others_is_not_overwritten_and_nothing_is_taken_away_at_the_same_time() {
    let Some(stage) = Stage::start().await else { return };
    let test = &stage.served.test;
    for who in ["old", "widen"] {
        test.grant(&role(who), "acme", &[Download]).await;
    }
    let entries: [Entry<'_>; 2] =
        [("lead", "acme", ALL), ("widen", "acme", &["download", "upload"])];
    stage.write("grants.toml", &file(&["acme"], &entries));
    let apply = ["apply", "grants.toml", "--yes"];
    // Another editor changes the grant that the run is about to widen.
    let mut held = stage.between.hold(Method::PATCH);
    let (ran, ()) = tokio::join!(stage.ran(&apply), async {
        held.arrived().await;
        test.delete_grant(&role("widen"), "acme").await;
        test.grant(&role("widen"), "acme", &[DeleteGrant]).await;
        held.pass();
    });
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let says = "made 0 of 2 changes: others changed grants at the same time, so no grant was \
                narrowed or deleted";
    assert!(ran.words().contains(says), "{ran:?}");
    let left: BTreeSet<String> =
        ["old acme download", "widen acme delete_grant"].map(str::to_owned).into();
    assert_eq!(stage.lines().await, left);
    // The next run sees the change, and makes the grants like the file.
    stage.done(&apply).await;
    assert_eq!(stage.lines().await, ["widen acme download,upload".to_owned()].into());
}

#[tokio::test]
async fn two_files_at_once_end_in_one_of_them_or_one_run_says_so() {
    let Some(stage) = Stage::with(&MANY).await else { return };
    let count = (large() - 1) / 10;
    let (one, one_lines) = many(count, "download");
    let (other, other_lines) = many(count, "upload");
    stage.write("one.toml", &one);
    stage.write("other.toml", &other);
    let apply = |name| ["apply", name, "--yes", "--allow-deletes", "1000"];
    for _ in 0..2 {
        let run = |name: &'static str| {
            let child = stage.start_program(&apply(name));
            async { time_limits::wait(child.wait_with_output()).await.unwrap().unwrap() }
        };
        let (first, second) = tokio::join!(run("one.toml"), run("other.toml"));
        let codes = [first.status.code(), second.status.code()];
        let ends = stage.lines().await;
        let ends_in_one = ends == one_lines || ends == other_lines;
        assert!(codes.iter().all(|code| matches!(code, Some(0 | 1))), "{first:?} {second:?}");
        assert!(ends_in_one || codes.contains(&Some(1)), "{codes:?} {ends:#?}");
        let both: BTreeSet<String> = one_lines.union(&other_lines).cloned().collect();
        assert!(ends.is_subset(&both), "{ends:#?}");
        let ran: CommandOutput = stage.ran(&apply("one.toml")).await;
        assert_eq!((ran.code, stage.lines().await), (Some(0), one_lines.clone()), "{ran:?}");
    }
}
