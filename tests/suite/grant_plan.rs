//! Grants as a file: `grant plan`, `grant apply` and `grant export`. Also a run that is killed, two
//! runs at once, and changes by others.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stile_core::grants::{Grant, GrantTag};
use stile_core::principal::Principal;
use stile_protocol::names::Permission::{self, Download, Upload};
use stile_store::{Deleted, GRANT_LEASE, LeaseTaken, LeaseWatch, Leased, Store};
use stile_tests::aws::emulated::EmulatedAws;
use stile_tests::aws::moto::Moto;
use stile_tests::broker::Backend;
use stile_tests::broker::operator::{AsOperator as _, kept, operator};
use stile_tests::broker::served::system_time;
use stile_tests::process::home::{CommandOutput, Home};
use stile_tests::process::programs::{ADMIN, program};
use stile_tests::store_home::StoreHome;
use stile_tests::time_limits;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

/// Runs a program on a terminal of its own, which shows what the program prints.
const ON_A_TERMINAL: &str =
    "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";

/// Runs a program whose input and errors are on a terminal, and whose output is not. The user answers
/// `yes` to every question.
const OUTPUT_ELSEWHERE: &str = "import os, pty, subprocess, sys
ours, theirs = pty.openpty()
ran = subprocess.Popen(sys.argv[1:], stdin=theirs, stderr=theirs, stdout=subprocess.PIPE)
os.write(ours, b'yes\\n')
shown = ran.stdout.read()
code = ran.wait()
os.close(theirs)
try:
    while part := os.read(ours, 65536): shown += part
except OSError: pass
sys.stdout.buffer.write(shown)
sys.exit(code)";

/// A store, and a home whose `stile-admin` uses it.
struct Registry {
    home: Home,
    store: Store,
    aws: Option<EmulatedAws>,
}

impl Registry {
    async fn new() -> Option<Self> {
        let StoreHome { home, store, aws } = StoreHome::new(super::BACKEND).await?;
        Some(Self { home, store, aws })
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.home.path().join(name), text).unwrap();
    }

    async fn admin(&self, arguments: &[&str]) -> CommandOutput {
        self.home.run(&program(ADMIN), &[&["grant"][..], arguments].concat()).await
    }

    /// Runs the program, which must succeed, and returns what it prints. It can have notices.
    async fn done(&self, arguments: &[&str]) -> String {
        let ran = self.admin(arguments).await;
        assert_eq!(ran.code, Some(0), "{arguments:?}: {ran:?}");
        let is_notice = |line: &str| line.starts_with("notice: ") || line.contains("\"notice\"");
        assert!(ran.stderr.lines().all(is_notice), "{arguments:?}: {ran:?}");
        ran.stdout
    }

    /// Runs the program, which must fail with exit code 1 or 2 and one error.
    async fn fails(&self, arguments: &[&str], code: i32, words: &str) -> CommandOutput {
        let ran = self.admin(arguments).await;
        assert_eq!(ran.code, Some(code), "{arguments:?}: {ran:?}");
        assert!(ran.words().contains(words), "{arguments:?}: {ran:?}");
        ran
    }

    fn start(&self, arguments: &[&str]) -> tokio::process::Child {
        let arguments = [&["grant"][..], arguments].concat();
        let mut command = self.home.command(&program(ADMIN), arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    async fn grant(&self, name: &str, on: &str, permissions: &[Permission]) {
        self.grant_until(name, on, permissions, None).await;
    }

    async fn grant_until(&self, name: &str, on: &str, list: &[Permission], end: Option<i64>) {
        let grant = Grant {
            principal: Principal::parse_stored(&role(name)).unwrap(),
            namespace: on.parse().unwrap(),
            permissions: list.iter().copied().collect(),
            expires_at: end,
            created_by: "test".to_owned(),
            created_at: 7,
        };
        self.store.as_operator().create_grant(grant, None).await.unwrap();
    }

    async fn grants(&self) -> Vec<Grant> {
        self.store.as_operator().grants(None, None).await.unwrap()
    }

    /// Returns the grants as texts.
    async fn lines(&self) -> BTreeSet<String> {
        let line = |grant: &Grant| {
            format!("{} {} {}", grant.principal, grant.namespace, grant.permissions)
        };
        self.grants().await.iter().map(line).collect()
    }
}

fn role(name: &str) -> String {
    format!("aws:111122223333:role/{name}")
}

/// Returns a file that owns these namespaces. Each grant is a role, a namespace and permissions.
fn file(owns: &[&str], grants: &[(&str, &str, &[&str])]) -> String {
    let mut text = format!("version = 1\nowns = {owns:?}\n");
    if grants.is_empty() {
        text += "grant = []\n";
    }
    for (name, on, permissions) in grants {
        text += &format!(
            "[[grant]]\nprincipal = \"arn:aws:iam::111122223333:role/{name}\"\n\
             namespace = \"{on}\"\npermissions = {permissions:?}\n"
        );
    }
    text
}

/// Returns a file with so many grants on `acme` and other namespaces, which it owns, and the grants
/// as texts.
fn many(count: usize, permission: &str) -> (String, BTreeSet<String>) {
    let namespaces: Vec<String> = (0..8).map(|number| format!("n{number}")).collect();
    let names: Vec<String> =
        (0..count.div_ceil(8)).map(|number| format!("{permission}{number}")).collect();
    let permissions = [permission];
    let grants: Vec<(&str, &str, &[&str])> = (0..count)
        .map(|at| (names[at / 8].as_str(), namespaces[at % 8].as_str(), &permissions[..]))
        .collect();
    let owned: Vec<&str> = namespaces.iter().map(String::as_str).collect();
    let lines = grants.iter().map(|(name, on, _)| format!("{} {on} {permission}", role(name)));
    (file(&owned, &grants), lines.collect())
}

const SAME: &str = "0 to create, 0 to change, 0 to delete";

#[tokio::test]
async fn a_wrong_file_is_refused_with_each_wrong_line_and_changes_nothing() {
    let Some(test) = Registry::new().await else { return };
    test.grant("deploy", "acme", &[Download]).await;
    let before = test.grants().await;
    test.write("wrong.toml", &file(&["acme"], &[("deploy", "web", &["read"])]));
    for verb in ["plan", "apply"] {
        let ran = test.fails(&[verb, "wrong.toml"], 2, "").await;
        let lines: Vec<&str> = ran.stderr.lines().collect();
        let [first, second] = lines.as_slice() else { panic!("{ran:?}") };
        let start =
            "error: `wrong.toml` line 5, column 13: the file does not own the namespace `web`";
        assert!(first.starts_with(start), "{first}");
        assert!(second.starts_with("error: `wrong.toml` line 6, column 16: permission `read`"));
    }
    test.write("wrong.json", "{\"version\": 1,\n \"owns\": [\"acme\"], \"grant\": [{}]}");
    let ran = test.fails(&["plan", "wrong.json", "--output", "json"], 2, "").await;
    let first: Value = serde_json::from_str(ran.stderr.lines().next().unwrap()).unwrap();
    assert_eq!(first["message"], "`wrong.json` line 2, column 30: the grant has no `principal`");
    test.fails(&["plan", "absent.toml"], 2, "cannot read `absent.toml`").await;
    assert_eq!(test.grants().await, before);
}

#[tokio::test]
async fn apply_makes_the_grants_of_the_file_and_removes_only_what_the_file_owns() {
    let Some(test) = Registry::new().await else { return };
    test.grant("deploy", "acme", &[Download]).await;
    test.grant("old", "acme", &[Upload]).await;
    test.grant("old", "other", &[Upload]).await;
    test.grant("old", "*", &[Upload]).await;
    let wanted = file(
        &["acme", "web"],
        &[("deploy", "acme", &["download", "upload"]), ("new", "web", &["download"])],
    );
    test.write("grants.toml", &wanted);
    let plan = "~ aws:111122223333:role/deploy on acme: download -> download,upload\n\
                + aws:111122223333:role/new on web: download\n\
                - aws:111122223333:role/old on acme: upload\n\
                1 to create, 1 to change, 1 to delete\n";
    assert_eq!(test.done(&["plan", "grants.toml"]).await, plan);
    let ran = test.fails(&["plan", "grants.toml", "--check"], 1, "").await;
    let notice =
        "notice: the store has nothing of the namespace `web`; the nearest known namespace is";
    assert_eq!(ran.stdout, plan);
    assert!(ran.stderr.starts_with(notice), "{ran:?}");
    let json = test.done(&["plan", "grants.toml", "--output", "json"]).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["delete"], &json["changes"][2]["action"]), (&1.into(), &"delete".into()));

    let part = test.done(&["plan", "grants.toml", "--namespace", "web"]).await;
    let only =
        "+ aws:111122223333:role/new on web: download\n1 to create, 0 to change, 0 to delete\n";
    assert_eq!(part, only);
    let words = "`grants.toml` does not own the namespace `other`";
    test.fails(&["plan", "grants.toml", "--namespace", "other"], 2, words).await;

    let before = test.grants().await;
    let ran = test.fails(&["apply", "grants.toml"], 1, "there is no terminal to ask on").await;
    assert_eq!(ran.stdout, plan);
    assert_eq!(test.grants().await, before);

    let applied = test.done(&["apply", "grants.toml", "--yes"]).await;
    assert_eq!(applied, format!("{plan}created 1, changed 1, deleted 1\n"));
    let expected = [
        "aws:111122223333:role/deploy acme download,upload",
        "aws:111122223333:role/new web download",
        "aws:111122223333:role/old * upload",
        "aws:111122223333:role/old other upload",
    ];
    assert_eq!(test.lines().await, expected.map(str::to_owned).into());
    let grants = test.grants().await;
    let changed = &grants[0];
    assert_eq!((changed.created_by.as_str(), changed.created_at), ("test", 7));
    assert_eq!(test.done(&["plan", "grants.toml", "--check"]).await, format!("{SAME}\n"));
    let again = test.done(&["apply", "grants.toml"]).await;
    assert_eq!(again, format!("{SAME}\n"), "without a change, there is nothing to confirm");

    for (namespaces, name) in [(&[][..], "all"), (&["--namespace", "acme"][..], "acme")] {
        for form in ["toml", "json"] {
            let output = ["--output", if form == "json" { "json" } else { "table" }];
            let exported = test.done(&[&["export"][..], namespaces, &output].concat()).await;
            let name = format!("{name}.{form}");
            test.write(&name, &exported);
            let planned = test.done(&["plan", &name, "--check"]).await;
            assert_eq!(planned, format!("{SAME}\n"), "{exported}");
        }
    }
    let drift = ["update", "--role-arn", &role("new"), "--namespace", "web", "--upload"];
    test.done(&drift).await;
    test.fails(&["plan", "grants.toml", "--check"], 1, "").await;
}

#[tokio::test]
async fn a_grant_to_an_account_or_on_every_namespace_needs_a_confirmation_on_the_command_line() {
    let Some(test) = Registry::new().await else { return };
    let wide = "{\"version\": 1, \"owns\": \"all\", \"grant\": [{\"principal\": \
                \"account:111122223333\", \"namespace\": \"acme\", \"permissions\": [\"download\"]}]}";
    test.write("wide.json", wide);
    let words = "means all roles and users of account `111122223333`; hint: add `--yes` to confirm";
    test.fails(&["apply", "wide.json"], 1, words).await;
    assert_eq!(test.grants().await, []);
    let applied = test.done(&["apply", "wide.json", "--yes", "--output", "json"]).await;
    let applied: Value = serde_json::from_str(&applied).unwrap();
    assert_eq!((&applied["created"], &applied["remaining"]), (&1.into(), &Value::Array(vec![])));
    test.done(&["apply", "wide.json"]).await;
}

#[tokio::test]
async fn a_file_can_come_from_a_pipe_and_leave_out_grants_that_have_ended() {
    let Some(test) = Registry::new().await else { return };
    let ended = "{\"version\": 1, \"owns\": [\"acme\"], \"grant\": [\n\
                 {\"principal\": \"arn:aws:iam::111122223333:role/old\", \"namespace\": \"acme\", \
                 \"permissions\": [\"download\"], \"expires\": \"2020-01-01\"}]}";
    let piped = async |arguments: &[&str]| {
        let arguments = [&["grant"][..], arguments].concat();
        let mut command = test.home.command(&program(ADMIN), arguments);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(ended.as_bytes()).await.unwrap();
        time_limits::wait(child.wait_with_output()).await.unwrap().unwrap()
    };
    let refused = piped(&["plan", "-"]).await;
    let stderr = String::from_utf8(refused.stderr).unwrap();
    assert!(stderr.contains("`standard input` line 2, column 114: the grant ended"), "{stderr}");
    let planned = piped(&["plan", "-", "--skip-expired", "--check"]).await;
    assert_eq!(String::from_utf8(planned.stdout).unwrap(), format!("{SAME}\n"));
}

#[tokio::test]
async fn on_a_terminal_the_plan_has_colours_and_apply_asks() {
    let Some(mut test) = Registry::new().await else { return };
    let Some(python) = Moto::python() else { return };
    test.home.variable("TERM", "xterm");
    test.grant("old", "acme", &[Upload]).await;
    test.write("grants.toml", &file(&["acme"], &[("new", "acme", &["download"])]));
    for (answer, code, grants) in
        [("no\n", 1, "old acme upload"), ("yes\n", 0, "new acme download")]
    {
        let admin = program(ADMIN);
        let admin = admin.to_str().unwrap();
        let arguments = ["-c", ON_A_TERMINAL, admin, "grant", "apply", "grants.toml"];
        let arguments = [&arguments[..], &["--allow-deletes", "1"]].concat();
        let mut command = test.home.command(&python, arguments);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(answer.as_bytes()).await.unwrap();
        let ran = time_limits::wait(child.wait_with_output()).await.unwrap().unwrap();
        drop(stdin);
        let shown = String::from_utf8(ran.stdout).unwrap();
        assert_eq!(ran.status.code(), Some(code), "{shown}");
        let line = "\u{1b}[31m- aws:111122223333:role/old on acme: upload\u{1b}[0m";
        assert!(shown.contains(line) && shown.contains("Only `yes` makes them"), "{shown:?}");
        assert_eq!(test.lines().await, [format!("aws:111122223333:role/{grants}")].into());
    }
    test.home.variable("NO_COLOR", "1");
    test.grant("old", "acme", &[Upload]).await;
    let admin = program(ADMIN);
    let arguments = ["-c", ON_A_TERMINAL, admin.to_str().unwrap(), "grant", "plan", "grants.toml"];
    let shown = CommandOutput::of(test.home.command(&python, arguments)).await.stdout;
    assert!(
        shown.contains("- aws:111122223333:role/old") && !shown.contains('\u{1b}'),
        "{shown:?}"
    );
}

#[tokio::test]
async fn a_grant_that_ended_is_made_again_also_if_the_table_lists_it_no_more() {
    let Some(test) = Registry::new().await else { return };
    test.grant_until("deploy", "acme", &[Upload], Some(system_time() - 60)).await;
    if let Some(aws) = &test.aws {
        // The table deletes items that ended long ago, and the document of the principal stays.
        let keys = [("grants".to_owned(), format!("{} acme", role("deploy")))];
        for (pk, sk) in keys {
            let key = json!({ "pk": { "S": pk }, "sk": { "S": sk } });
            aws.dynamodb("DeleteItem", json!({ "Key": key })).await;
        }
        assert_eq!(test.grants().await, []);
    }
    test.write("none.toml", &file(&["acme"], &[]));
    assert_eq!(test.done(&["plan", "none.toml", "--check"]).await, format!("{SAME}\n"));
    test.write("grants.toml", &file(&["acme"], &[("deploy", "acme", &["download"])]));
    test.done(&["apply", "grants.toml", "--yes"]).await;
    let grants = test.grants().await;
    let [grant] = grants.as_slice() else { panic!("{grants:?}") };
    assert_eq!((grant.permissions.to_string().as_str(), grant.expires_at), ("download", None));
    assert_eq!(test.done(&["plan", "grants.toml", "--check"]).await, format!("{SAME}\n"));
}

#[tokio::test]
async fn an_ended_grant_of_the_name_in_another_case_is_deleted_for_the_new_one() {
    let Some(test) = Registry::new().await else { return };
    test.grant_until("Deploy", "acme", &[Upload], Some(system_time() - 60)).await;
    test.write("grants.toml", &file(&["acme"], &[("deploy", "acme", &["download"])]));
    let applied = test.done(&["apply", "grants.toml", "--yes"]).await;
    assert!(applied.ends_with("created 1, changed 0, deleted 1\n"), "{applied}");
    assert_eq!(test.lines().await, [format!("{} acme download", role("deploy"))].into());
}

/// The number of grants in a large file. The emulator is slow.
fn large() -> usize {
    match super::BACKEND {
        Backend::Embedded => 2_000,
        Backend::Aws => 200,
    }
}

#[tokio::test]
async fn a_large_file_is_applied_and_then_there_is_no_difference() {
    let Some(test) = Registry::new().await else { return };
    let (text, lines) = many(large(), "download");
    test.write("grants.toml", &text);
    let applied = test.done(&["apply", "grants.toml", "--yes"]).await;
    let end = format!("created {}, changed 0, deleted 0\n", large());
    assert!(applied.ends_with(&end), "{}", applied.lines().last().unwrap());
    assert_eq!(test.lines().await, lines);
    assert_eq!(test.done(&["plan", "grants.toml", "--check"]).await, format!("{SAME}\n"));
}

#[tokio::test]
async fn an_apply_that_is_killed_half_way_and_runs_again_ends_the_same() {
    let Some(test) = Registry::new().await else { return };
    let (text, lines) = many(large() / 4, "download");
    test.write("grants.toml", &text);
    test.grant("old", "n0", &[Upload]).await;
    let apply = ["apply", "grants.toml", "--yes", "--allow-deletes", "1"];
    let mut child = test.start(&apply);
    let half = time_limits::wait(async {
        let mut tick = tokio::time::interval(Duration::from_millis(2));
        while test.grants().await.len() < lines.len() / 4 {
            tick.tick().await;
        }
    });
    half.await.expect("the program makes changes");
    child.kill().await.unwrap();
    let left = test.lines().await;
    assert!(left.len() < lines.len() && left.contains("aws:111122223333:role/old n0 upload"));
    // It waits for the end of the lease of the killed one.
    let ran = test.admin(&apply).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(test.lines().await, lines);
    assert_eq!(test.done(&["plan", "grants.toml", "--check"]).await, format!("{SAME}\n"));
}

#[tokio::test]
async fn two_files_at_once_end_in_one_of_them() {
    let Some(test) = Registry::new().await else { return };
    let (one, one_lines) = many(large() / 10, "download");
    let (other, other_lines) = many(large() / 10, "upload");
    test.write("one.toml", &one);
    test.write("other.toml", &other);
    for _ in 0..2 {
        let run = |name: &'static str| {
            let child = test.start(&["apply", name, "--yes", "--allow-deletes", "1000"]);
            async { time_limits::wait(child.wait_with_output()).await.unwrap().unwrap() }
        };
        let (first, second) = tokio::join!(run("one.toml"), run("other.toml"));
        assert_eq!((first.status.code(), second.status.code()), (Some(0), Some(0)));
        let ends = test.lines().await;
        assert!(ends == one_lines || ends == other_lines, "{ends:#?}");
    }
}

#[tokio::test]
async fn a_second_apply_waits_for_the_first_and_plans_after_it() {
    let Some(test) = Registry::new().await else { return };
    test.write("grants.toml", &file(&["acme"], &[("new", "acme", &["download"])]));
    let operator = operator();
    let mut watch = LeaseWatch::default();
    let taken = test.store.take_grant_lease(&operator, &mut watch, Instant::now).await.unwrap();
    let LeaseTaken::Done(lease) = taken else { panic!("{taken:?}") };
    let mut child = test.start(&["apply", "grants.toml", "--yes", "--allow-deletes", "1"]);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let said = time_limits::wait(lines.next_line()).await.unwrap().unwrap().unwrap();
    assert_eq!(said, "notice: waiting for the end of another `grant apply`, of `test`");
    test.grant("old", "acme", &[Upload]).await;
    test.store.end_grant_lease(lease).await.unwrap();
    let ran = time_limits::wait(child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(ran.status.code(), Some(0));
    let printed = String::from_utf8(ran.stdout).unwrap();
    assert!(printed.ends_with("created 1, changed 0, deleted 1\n"), "{printed}");
    assert_eq!(test.lines().await, ["aws:111122223333:role/new acme download".to_owned()].into());
}

#[tokio::test]
async fn who_lost_the_lease_changes_no_grant_however_late_the_change_arrives() {
    let Some(test) = Registry::new().await else { return };
    test.grant("old", "acme", &[Upload]).await;
    let (operator, start) = (operator(), Instant::now());
    let take = async |watch: &mut LeaseWatch, after: Duration| {
        let taken = test.store.take_grant_lease(&operator, watch, || start + after).await.unwrap();
        match taken {
            LeaseTaken::Done(lease) => Some(lease),
            LeaseTaken::Held { .. } => None,
        }
    };
    let mut first = take(&mut LeaseWatch::default(), Duration::ZERO).await.unwrap();
    let mut watch = LeaseWatch::default();
    assert!(take(&mut watch, GRANT_LEASE * 9).await.is_none(), "it has not waited");
    let mut second = take(&mut watch, GRANT_LEASE * 10).await.unwrap();
    let grants = test.grants().await;
    let [old] = grants.as_slice() else { panic!("{grants:?}") };
    let access = operator.grant_access(old.namespace.clone());
    let (who, tag) = (old.principal.clone(), GrantTag::of(old));
    let late =
        test.store.delete_grant_under(&mut first, &access, who.clone(), &tag, &kept(0)).await;
    assert_eq!(late.unwrap(), Leased::Lost);
    assert_eq!(test.grants().await, grants);
    let deleted = test.store.delete_grant_under(&mut second, &access, who, &tag, &kept(0)).await;
    assert_eq!(deleted.unwrap(), Leased::Done(Deleted::Done(Some(old.clone()))));
    test.store.end_grant_lease(first).await.unwrap();
    assert!(take(&mut LeaseWatch::default(), Duration::ZERO).await.is_none());
    test.store.end_grant_lease(second).await.unwrap();
    assert!(take(&mut LeaseWatch::default(), Duration::ZERO).await.is_some());
}

#[tokio::test]
async fn a_file_that_lost_its_end_deletes_nothing_without_a_permission() {
    let Some(test) = Registry::new().await else { return };
    test.grant("one", "acme", &[Download]).await;
    test.grant("two", "acme", &[Upload]).await;
    let before = test.grants().await;
    test.write("cut.toml", "version = 1\nowns = \"all\"\n");
    for arguments in [&["plan", "cut.toml"][..], &["apply", "cut.toml", "--yes"]] {
        test.fails(arguments, 2, "the file has no `grant`; hint: add the grants").await;
    }
    test.write("none.toml", "version = 1\nowns = \"all\"\ngrant = []\n");
    let planned = test.admin(&["plan", "none.toml"]).await;
    let words = "deletes 2 of the 2 grants that the file owns; hint: check that the file is \
                 complete; `grant apply` needs `--allow-deletes 2`";
    assert!(planned.code == Some(0) && planned.words().contains(words), "{planned:?}");
    for allowed in ["0", "1"] {
        let apply = ["apply", "none.toml", "--yes", "--allow-deletes", allowed];
        test.fails(&apply, 1, "nothing was changed, because the plan deletes 2 of the 2").await;
        assert_eq!(test.grants().await, before);
    }
    test.done(&["apply", "none.toml", "--yes", "--allow-deletes", "2"]).await;
    assert_eq!(test.grants().await, []);
}

#[tokio::test]
async fn a_grant_of_a_newer_program_is_drift_and_keeps_no_other_from_its_change() {
    let Some(test) = Registry::new().await else { return };
    test.grant("kept", "acme", &[Download]).await;
    test.grant("newer", "acme", &[Upload]).await;
    test.grant("old", "acme", &[Upload]).await;
    match &test.aws {
        None => {
            let database = test.home.path().join("data/stile.sqlite3");
            let sql = "UPDATE grants SET crit = '[\"hours\"]' WHERE principal LIKE '%/newer'";
            rusqlite::Connection::open(database).unwrap().execute_batch(sql).unwrap();
        }
        Some(aws) => {
            let newer = role("newer");
            let row = json!({ "pk": { "S": "grants" }, "sk": { "S": format!("{newer} acme") } });
            let document =
                json!({ "pk": { "S": format!("principal {newer}") }, "sk": { "S": "grants" } });
            for (key, field, value) in [
                (row, "crit", json!({ "S": "[\"hours\"]" })),
                (document, "document", json!({ "B": "AAAA" })),
            ] {
                let update = json!({
                    "Key": key, "UpdateExpression": format!("SET {field} = :value"),
                    "ExpressionAttributeValues": { ":value": value },
                });
                aws.dynamodb("UpdateItem", update).await;
            }
        }
    }
    let same = file(&["acme"], &[("kept", "acme", &["download"]), ("old", "acme", &["upload"])]);
    test.write("same.toml", &same);
    let ran = test.fails(&["plan", "same.toml", "--check"], 1, "").await;
    let unread = "? aws:111122223333:role/newer on acme: this program cannot read the grant\n";
    assert!(ran.stdout.starts_with(unread), "{ran:?}");
    test.fails(&["apply", "same.toml", "--yes"], 1, "cannot read 1 of the grants").await;
    let grants = [("kept", "acme", &["download"][..]), ("newer", "acme", &["upload"])];
    test.write("grants.toml", &file(&["acme"], &grants));
    let ran = test.fails(&["apply", "grants.toml", "--yes"], 1, "1 grant is not like the").await;
    let why = "not made: + aws:111122223333:role/newer on acme: upload; cannot read the grants";
    assert!(ran.words().contains(why), "{ran:?}");
    assert!(ran.stdout.ends_with("created 0, changed 0, deleted 1\n"), "{ran:?}");
    assert_eq!(test.lines().await, [format!("{} acme download", role("kept"))].into());
}

#[tokio::test]
async fn apply_asks_nothing_if_the_plan_is_not_on_the_terminal() {
    let Some(test) = Registry::new().await else { return };
    let Some(python) = Moto::python() else { return };
    test.write("grants.toml", &file(&["acme"], &[("new", "acme", &["download"])]));
    let admin = program(ADMIN);
    let arguments =
        ["-c", OUTPUT_ELSEWHERE, admin.to_str().unwrap(), "grant", "apply", "grants.toml"];
    let ran = CommandOutput::of(test.home.command(&python, arguments)).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stdout.contains("the plan is not on the terminal"), "{ran:?}");
    assert_eq!(test.grants().await, []);
}

#[tokio::test]
async fn a_mistyped_name_is_refused_or_has_a_notice() {
    let Some(test) = Registry::new().await else { return };
    test.grant("deploy", "acme", &[Download]).await;
    let grants = [("deploy", "acme", &["download"][..]), ("deplyo", "amce", &["download"])];
    let named = file(&["acme", "amce"], &grants);
    test.write("all.toml", &named.replace("[\"acme\", \"amce\"]", "\"all\""));
    for verb in [&["plan", "all.toml"][..], &["apply", "all.toml", "--yes"], &["export"]] {
        let arguments = [verb, &["--namespace", "acem"]].concat();
        let words = "no module of the namespace `acem`; the nearest known namespace is `acme`";
        test.fails(&arguments, 2, words).await;
    }
    test.done(&["plan", "all.toml", "--namespace", "amce"]).await;
    test.done(&["plan", "all.toml", "--namespace", "acme"]).await;
    test.write("named.toml", &named);
    for arguments in [&["plan", "named.toml"][..], &["apply", "named.toml", "--yes"]] {
        let ran = test.admin(arguments).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let notices: Vec<&str> = ran.stderr.lines().collect();
        let expected = [
            "notice: the store has nothing of the namespace `amce`; the nearest known namespace is `acme`",
            "notice: nothing in the store mentions the role `arn:aws:iam::111122223333:role/deplyo`; \
             the nearest known name is `arn:aws:iam::111122223333:role/deploy`",
        ];
        assert_eq!(notices, expected);
    }
}
