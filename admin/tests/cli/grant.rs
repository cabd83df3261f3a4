//! Tests of `store init` and `grant`.

use serde_json::{Value, json};

use crate::support::{DEPLOY, Machine};

macro_rules! snapshot {
    ($name:literal, $value:expr) => {
        insta::with_settings!({ prepend_module_to_snapshot => false, snapshot_path => "../snapshots", omit_expression => true }, {
            insta::assert_snapshot!($name, $value);
        });
    };
}

#[test]
fn only_store_init_creates_a_store() {
    let machine = Machine::new();
    machine.write("file", "");
    snapshot!(
        "store",
        machine.transcript(&[
            "grant list --data data",
            "store init --data file/data",
            "store init --data data",
            "store init --data data",
            "grant list --data data",
            "store init --data data --output json",
        ])
    );
}

#[test]
fn every_refusal_of_a_grant_has_a_hint() {
    let machine = Machine::with_store();
    let role = format!("grant create --role-arn {DEPLOY} --namespace");
    machine.done(&format!("{role} acme --download"));
    let create = |who: &str, rest: &str| format!("grant create --principal {who} {rest}");
    let on_acme = "--namespace acme --download";
    let commands = [
        // The principal.
        create("*", on_acme),
        create("arn:aws:iam::*:role/x", on_acme),
        create("arn:aws:iam::111122223333:user/*", on_acme),
        create("x|.*", on_acme),
        create("a)|(?:.*", on_acme),
        create("^a", on_acme),
        create("111122223333", on_acme),
        create("12345678901", on_acme),
        create("deploy", on_acme),
        create("AROAEXAMPLEEXAMPLE222", on_acme),
        create("arn:aws:iam::111122223333:root", on_acme),
        create("arn:aws:sts::111122223333:assumed-role/aws:ec2-instance/i-0abc", on_acme),
        create("arn:aws:iam::111122223333:role/Deploy", on_acme),
        create("account:111122223333", on_acme),
        // The namespace.
        create(DEPLOY, "--namespace * --download"),
        create(DEPLOY, "--namespace a*b --download"),
        create(DEPLOY, "--namespace Team-A --download"),
        create(DEPLOY, "--namespace search --download"),
        // The permissions, the expiry and the unique id.
        create(DEPLOY, "--namespace tools"),
        create(DEPLOY, "--namespace tools --download --expires 2020-01-01T00:00:00Z"),
        create(DEPLOY, "--namespace tools --download --expires 0s"),
        create(DEPLOY, "--namespace tools --download --expires soon"),
        create(DEPLOY, "--namespace tools --download --unique-id AIDAEXAMPLEEXAMPLE222"),
        create(
            "sso:111122223333/Admin",
            "--namespace tools --download --unique-id AROAEXAMPLEEXAMPLE222",
        ),
        create("sso:111122223333/Admin", "--namespace tools --download --no-pin"),
        // Existing and missing grants.
        create(DEPLOY, "--namespace acme --upload"),
        format!("grant update --role-arn {DEPLOY} --namespace acme"),
        format!("grant update --role-arn {DEPLOY} --namespace acme --download=false"),
        format!("grant update --role-arn {DEPLOY} --namespace tools --upload"),
        format!("grant delete --role-arn {DEPLOY} --namespace tools"),
        format!("grant show --role-arn {DEPLOY} --namespace tools"),
        format!("grant repin --role-arn {DEPLOY}"),
        "grant repin --principal sso:111122223333/Admin".to_owned(),
    ];
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    snapshot!("grant-refusals", machine.transcript(&commands));
    for command in &commands {
        let run = machine.run(command);
        let object = machine.run(&format!("{command} --output json")).stderr;
        let object: Value = serde_json::from_str(object.lines().last().unwrap()).unwrap();
        let code = if object["error"] == "usage" { 2 } else { 1 };
        assert_eq!((run.stdout.as_str(), run.code), ("", code), "{command}: {object}");
        assert!(
            run.stderr.starts_with("error: ") || run.stderr.starts_with("notice: "),
            "{command}: {}",
            run.stderr
        );
    }
    let left = machine.json("grant list");
    assert_eq!(left.as_array().unwrap().len(), 1, "the store has no refused grant: {left}");
}

#[test]
fn a_notice_names_each_ignored_part_of_the_arn() {
    let machine = Machine::with_store();
    let reserved = "aws-reserved/sso.amazonaws.com/eu-west-1/AWSReservedSSO_Admin_0123456789abcdef";
    let commands = [
        "grant create --principal arn:aws:sts::111122223333:assumed-role/build/i-0abc --namespace acme --download".to_owned(),
        "grant create --principal arn:aws:iam::111122223333:role/Org/Team/ship --namespace acme --download --expires 90d".to_owned(),
        format!("grant create --principal arn:aws:iam::111122223333:role/{reserved} --namespace acme --download"),
        format!("grant create --principal arn:aws:iam::111122223333:role/{reserved} --namespace acme --download --exact"),
        "grant create --principal account:111122223333 --namespace acme --download --yes".to_owned(),
        format!("grant create --role-arn {DEPLOY} --namespace * --download --yes --no-pin"),
        "grant create --role-arn arn:aws:iam::111122223333:user/alice --namespace acme --upload --unique-id AIDAEXAMPLEEXAMPLE222"
            .to_owned(),
        "grant list".to_owned(),
        "grant list --namespace *".to_owned(),
        "grant list --principal arn:aws:iam::111122223333:role/other".to_owned(),
        format!("grant show --role-arn {DEPLOY} --namespace *"),
        "grant show --principal arn:aws:iam::111122223333:user/alice --namespace acme".to_owned(),
        "grant show --principal account:111122223333 --namespace acme --output json".to_owned(),
        "grant repin --role-arn arn:aws:iam::111122223333:user/alice".to_owned(),
        "grant show --principal arn:aws:iam::111122223333:user/alice --namespace acme".to_owned(),
    ];
    snapshot!(
        "grant-notices",
        machine.transcript(&commands.iter().map(String::as_str).collect::<Vec<_>>())
    );
}

#[test]
fn an_update_changes_only_the_named_permissions() {
    let machine = Machine::with_store();
    let made = machine.json(&format!(
        "grant create --role-arn {DEPLOY} --namespace acme --download --create-grant"
    ));
    assert_eq!(made["created_by"], "local:tester");
    for (flags, permissions, expires) in [
        ("--upload", json!(["create_grant", "download", "upload"]), false),
        ("--download=false", json!(["create_grant", "upload"]), false),
        (
            "--download=true --create-grant=false --delete-grant",
            json!(["delete_grant", "download", "upload"]),
            false,
        ),
        ("--expires 12h", json!(["delete_grant", "download", "upload"]), true),
        ("--delete-grant=false", json!(["download", "upload"]), true),
    ] {
        let updated =
            machine.json(&format!("grant update --role-arn {DEPLOY} --namespace acme {flags}"));
        assert_eq!(updated["permissions"], permissions, "{flags}");
        assert_eq!(updated["expires_at"] == "<time>", expires, "{flags}: {updated}");
        assert_eq!(
            machine.json(&format!("grant show --role-arn {DEPLOY} --namespace acme"))["permissions"],
            permissions,
            "{flags}"
        );
    }
}

#[test]
fn delete_removes_only_the_named_grant() {
    let machine = Machine::with_store();
    for namespace in ["acme", "tools"] {
        machine
            .done(&format!("grant create --role-arn {DEPLOY} --namespace {namespace} --download"));
    }
    let delete = format!("grant delete --role-arn {DEPLOY} --namespace acme");
    assert_eq!(machine.done(&delete), "deleted aws:111122223333:role/deploy on acme\n");
    let again = machine.run(&delete);
    assert_eq!((again.stdout.as_str(), again.code), ("", 1));
    assert!(
        again
            .stderr
            .starts_with("error: there is no grant for `aws:111122223333:role/deploy` on `acme`"),
        "{}",
        again.stderr
    );
    assert_eq!(machine.json("grant list")[0]["namespace"], "tools");
}

#[test]
fn only_one_of_several_concurrent_creations_creates_the_grant() {
    let machine = Machine::with_store();
    let create = format!("grant create --role-arn {DEPLOY} --namespace acme --download");
    let children: Vec<_> = (0..8).map(|_| machine.start(&create)).collect();
    let runs: Vec<_> = children.into_iter().map(|child| machine.end(child)).collect();
    let codes: Vec<i32> = runs.iter().map(|run| run.code).collect();
    assert_eq!(codes, [0; 8]);
    let count = |word: &str| runs.iter().filter(|run| run.stdout.starts_with(word)).count();
    assert_eq!((count("created "), count("unchanged: ")), (1, 7));
    assert_eq!(machine.json("grant list").as_array().unwrap().len(), 1);
}

/// The flags of grants with each kind of expiry, pin and principal.
const SEVERAL: [&str; 7] = [
    "--role-arn arn:aws:iam::111122223333:role/deploy --namespace acme --download",
    "--role-arn arn:aws:iam::111122223333:role/deploy --namespace tools --upload --download",
    "--principal sso:111122223333/Admin --namespace acme --upload --expires 90d",
    "--principal account:111122223333 --namespace acme --download --expires 2999-01-31 --yes",
    "--role-arn arn:aws:iam::111122223333:role/ops --namespace * --create-grant --yes --no-pin",
    "--role-arn arn:aws:iam::111122223333:user/alice --namespace acme --upload --expires never --unique-id AIDAEXAMPLEEXAMPLE222",
    "--role-arn arn:aws:iam::111122223333:role/timed --namespace acme --download --expires 2999-01-31T18:00:00+01:00",
];

#[test]
fn a_repeated_list_of_commands_changes_nothing_and_succeeds() {
    let machine = Machine::with_store();
    for flags in SEVERAL {
        assert!(machine.done(&format!("grant create {flags}")).starts_with("created "), "{flags}");
    }
    let list = machine.json("grant list");
    for flags in SEVERAL {
        let again = machine.done(&format!("grant create {flags}"));
        assert!(again.starts_with("unchanged: "), "{flags}: {again}");
        let json = machine.json(&format!("grant create {flags}"));
        assert_eq!((&json["status"], &json["new_namespace"]), (&"unchanged".into(), &false.into()));
    }
    assert_eq!(machine.json("grant list"), list);
}

#[test]
fn a_different_grant_is_an_error_with_the_command_that_changes_the_existing_one() {
    let role = format!("--role-arn {DEPLOY} --namespace acme");
    for (held, wanted, update) in [
        ("--download", "--upload", " --upload"),
        ("--download", "--download --upload", " --upload"),
        (
            "--download --upload --create-grant",
            "--upload",
            " --create-grant=false --download=false",
        ),
        ("--download", "--download --expires 90d", " --expires 90d"),
        ("--download", "--download --expires 2999-01-31", " --expires 2999-01-31"),
        ("--download --expires 90d", "--download", " --expires never"),
        ("--download --expires 90d", "--download --expires 91d", " --expires 91d"),
        ("--download --expires 90d", "--upload --expires never", " --upload --expires never"),
    ] {
        let machine = Machine::with_store();
        machine.done(&format!("grant create {role} {held}"));
        let before = machine.json("grant list");
        let run = machine.run(&format!("grant create {role} {wanted}"));
        assert_eq!((run.stdout.as_str(), run.code), ("", 1), "{wanted}: {}", run.stderr);
        let hint = format!(
            "hint: change it with `stile-admin grant update --data ~/data {role}{update}`\n"
        );
        assert!(run.stderr.starts_with("error: the grant already exists: "), "{}", run.stderr);
        assert!(run.stderr.ends_with(&hint), "{wanted}: {}", run.stderr);
        assert_eq!(machine.json("grant list"), before);
        machine.done(&format!("grant update {role}{update}"));
    }
}

#[test]
fn a_grant_that_differs_only_by_its_pin_has_a_hint_for_the_pin() {
    let machine = Machine::with_store();
    let create = |name: &str, pin: &str| {
        format!(
            "grant create --role-arn arn:aws:iam::111122223333:role/{name} --namespace acme --download{pin}"
        )
    };
    for (name, held, wanted, hint) in [
        ("open", "", " --no-pin", "delete it with `stile-admin grant delete "),
        (
            "open",
            "",
            " --unique-id AROAEXAMPLEEXAMPLE222",
            "delete it with `stile-admin grant delete ",
        ),
        (
            "none",
            " --no-pin",
            " --unique-id AROAEXAMPLEEXAMPLE222",
            "remove that pin first with `stile-admin grant repin ",
        ),
        (
            "pinned",
            " --unique-id AROAEXAMPLEEXAMPLE222",
            " --unique-id AROAOTHEROTHEROTHER22",
            "remove that pin first with `stile-admin grant repin ",
        ),
        (
            "pinned",
            " --unique-id AROAEXAMPLEEXAMPLE222",
            " --no-pin",
            "remove that pin first with `stile-admin grant repin ",
        ),
    ] {
        machine.done(&create(name, held));
        let run = machine.run(&create(name, wanted));
        assert_eq!((run.stdout.as_str(), run.code), ("", 1), "{name}{wanted}");
        assert!(run.stderr.contains(&format!("hint: {hint}")), "{}", run.stderr);
        assert!(machine.done(&create(name, "")).starts_with("unchanged: "), "{name}");
    }
}

#[test]
fn a_duration_of_an_older_grant_counts_from_its_creation() {
    let machine = Machine::with_store();
    let create = format!("grant create --role-arn {DEPLOY} --namespace acme --download --expires");
    machine.done(&format!("{create} 90d"));
    let database = rusqlite::Connection::open(machine.path("data/stile.sqlite3")).unwrap();
    let older = |seconds: i64| {
        let sql = "UPDATE grants SET created_at = created_at - ?1, expires_at = expires_at - ?1";
        database.execute(sql, [seconds]).unwrap();
    };
    older(30 * 86_400);
    let run = machine.run(&format!("{create} 90d"));
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.starts_with("unchanged: "), "{}", run.stdout);
    let notice = "notice: the duration counts from the creation of the grant, so it ends at ";
    assert!(run.stderr.starts_with(notice), "{}", run.stderr);
    assert!(run.stderr.contains("--expires 90d` counts from now"), "{}", run.stderr);
    // An expired grant allows nothing, so it is never the requested one.
    older(60 * 86_400);
    let run = machine.run(&format!("{create} 90d"));
    assert_eq!((run.stdout.as_str(), run.code), ("", 1));
    assert!(run.stderr.contains("grant update"), "{}", run.stderr);
    assert!(run.stderr.ends_with("--expires 90d`\n"), "{}", run.stderr);
}

#[test]
fn the_end_of_a_grant_is_never_a_date_a_time_or_a_duration() {
    let machine = Machine::with_store();
    let on_acme = format!("--role-arn {DEPLOY} --namespace acme");
    for (expires, end) in [
        ("2999-01-31", json!("2999-01-31T00:00:00Z")),
        ("never", json!(null)),
        ("2999-01-31T18:00:00+01:00", json!("2999-01-31T17:00:00Z")),
    ] {
        let made = machine.json(&format!("grant create {on_acme} --download --expires {expires}"));
        assert_eq!((&made["status"], &made["expires_at"]), (&"created".into(), &end), "{expires}");
        machine.done(&format!("grant update {on_acme} --expires 12h"));
        let changed = machine.json(&format!("grant update {on_acme} --expires {expires}"));
        assert_eq!(changed["expires_at"], end, "{expires}");
        let shown = machine.json(&format!("grant show {on_acme}"));
        assert_eq!(shown["expires_at"], end, "{expires}");
        machine.done(&format!("grant delete {on_acme}"));
    }
}

#[test]
fn a_new_name_has_a_notice_with_the_nearest_known_name() {
    let machine = Machine::with_store();
    let create = |who: &str, rest: &str| format!("grant create --principal {who} {rest}");
    let on_acme = "--namespace acme --download";
    let commands = [
        create(DEPLOY, on_acme),
        create(DEPLOY, "--namespace amce --upload"),
        create("arn:aws:iam::111122223333:role/deplyo", on_acme),
        create("arn:aws:iam::111122232333:role/deploy", on_acme),
        create("arn:aws:iam::111122223333:user/deploy", on_acme),
        create("sso:111122223333/Admin", on_acme),
        create("sso:111122223333/Admni", on_acme),
        create("account:111122223333", &format!("{on_acme} --yes")),
        create("account:111122223334", &format!("{on_acme} --yes --output json")),
        create("arn:aws:iam::111122223333:role/deplyo", "--namespace toosl --upload"),
        "token revoke --principal arn:aws:iam::111122223333:role/left".to_owned(),
        create("arn:aws:iam::111122223333:role/left", on_acme),
        create("arn:aws:iam::111122223333:role/letf", &format!("{on_acme} --output json")),
        create(DEPLOY, on_acme),
    ];
    snapshot!(
        "grant-names",
        machine.transcript(&commands.iter().map(String::as_str).collect::<Vec<_>>())
    );
}

#[test]
fn explain_shows_the_decision_its_reason_and_the_differences() {
    let machine = Machine::with_store();
    for grant in [
        format!(
            "--role-arn {DEPLOY} --namespace acme --download --unique-id AROAEXAMPLEEXAMPLE222"
        ),
        "--principal sso:111122223333/Admin --namespace tools --download --upload".to_owned(),
        "--principal account:aws-cn:111122223333 --namespace tools --download --yes".to_owned(),
    ] {
        machine.done(&format!("grant create {grant}"));
    }
    let explain = |who: &str, rest: &str| format!("grant explain --role-arn {who} {rest}");
    let sso =
        "arn:aws:sts::111122223333:assumed-role/AWSReservedSSO_Admin_0123456789abcdef/bob@x.com";
    let commands = [
        explain(DEPLOY, "--namespace acme"),
        explain(DEPLOY, "--namespace acme --unique-id AROAEXAMPLEEXAMPLE222 --output json"),
        explain(DEPLOY, "--namespace acme --unique-id AROAOTHEROTHEROTHER22"),
        explain(DEPLOY, "--namespace acme --permission upload"),
        explain(DEPLOY, "--namespace tools"),
        explain("arn:aws:iam::111122223333:role/Deploy", "--namespace acme"),
        explain("arn:aws:iam::999922223333:role/deploy", "--namespace acme"),
        explain("arn:aws-us-gov:iam::111122223333:role/deploy", "--namespace acme --output json"),
        explain("arn:aws:iam::111122223333:user/deploy", "--namespace acme"),
        explain(sso, "--namespace tools --permission upload"),
        explain(
            "arn:aws:iam::111122223333:role/AWSReservedSSO_Admin_0123456789ABCDEF",
            "--namespace tools",
        ),
        explain("arn:aws:iam::555522223333:role/nobody", "--namespace zoo"),
        "token revoke --principal account:111122223333".to_owned(),
        explain(DEPLOY, "--namespace acme"),
    ];
    snapshot!(
        "grant-explain",
        machine.transcript(&commands.iter().map(String::as_str).collect::<Vec<_>>())
    );
}

#[test]
fn explain_says_yes_only_where_the_broker_cannot_refuse() {
    const ID: &str = "AROAEXAMPLEEXAMPLE222";
    let machine = Machine::with_store();
    let arn = |rest: &str| format!("arn:aws:iam::111122223333:{rest}");
    let sso = |suffix: &str| arn(&format!("role/AWSReservedSSO_Admin_{suffix}"));
    let (set, account) = ("sso:111122223333/Admin", "account:111122223333");
    for flags in [
        format!("--role-arn {} --namespace acme --unique-id {ID}", arn("role/pinned")),
        format!("--role-arn {} --namespace acme --no-pin", arn("role/none")),
        format!("--role-arn {} --namespace acme", arn("role/open")),
        format!(
            "--role-arn {} --namespace acme --unique-id AIDAEXAMPLEEXAMPLE222",
            arn("user/alice")
        ),
        format!("--principal {set} --namespace acme"),
        format!("--principal {account} --namespace shared --yes"),
        format!("--principal {set} --namespace shared"),
    ] {
        machine.done(&format!("grant create {flags} --download"));
    }
    let token = |verb: &str, principal: &str, exact: &str| {
        machine.done(&format!("token {verb} --principal {principal}{exact}"));
    };
    let check = |who: &str, on: &str, rest: &str, code: i32, says: &str| {
        let explain = format!("grant explain --principal {who} --namespace {on}{rest}");
        let run = machine.run(&explain);
        assert_eq!((run.code, run.stderr.as_str()), (code, ""), "{explain}: {}", run.stdout);
        assert!(run.stdout.starts_with(says), "{explain}: {}", run.stdout);
        let run = machine.run(&format!("{explain} --output json"));
        let json: Value = serde_json::from_str(&run.stdout).unwrap();
        let (allowed, decision) = match code {
            0 => (json!(true), "yes"),
            3 => (json!(null), "yes_if"),
            _ => (json!(false), "no"),
        };
        assert_eq!((&json["allowed"], &json["decision"]), (&allowed, &decision.into()), "{json}");
        assert_eq!(run.code, code, "{explain}");
    };
    let id = |id: &str| format!(" --unique-id {id}");
    let recreated = format!("yes, if its unique id is still `{ID}`: {}", arn("role/pinned"));
    check(&arn("role/pinned"), "acme", "", 3, &recreated);
    check(&arn("role/pinned"), "acme", &id(ID), 0, "yes: ");
    check(&arn("role/pinned"), "acme", &id("AROAOTHEROTHEROTHER22"), 1, "no: ");
    // The grant of the account does not depend on the role's id.
    check(&arn("role/pinned"), "shared", "", 0, "yes: ");
    check(&arn("user/alice"), "acme", "", 3, "yes, if its unique id is still `AIDA");
    check(&arn("user/alice"), "acme", &id("AIDAEXAMPLEEXAMPLE222"), 0, "yes: ");
    check(&arn("role/none"), "acme", "", 0, "yes: ");
    check(&arn("role/open"), "acme", "", 0, "yes: ");
    check(set, "acme", "", 0, "yes: ");
    token("revoke", &sso("0123456789abcdef"), " --exact");
    let one = "yes, if the caller is not the revoked \
               `aws:111122223333:role/AWSReservedSSO_Admin_0123456789abcdef`: sso:";
    check(set, "acme", "", 3, one);
    check(account, "shared", "", 3, &one.replace("sso:", "account:"));
    check(&sso("0123456789abcdef"), "acme", "", 1, "no: ");
    check(&sso("fedcba9876543210"), "acme", "", 0, "yes: ");
    token("lift", &sso("0123456789abcdef"), " --exact");
    check(set, "acme", "", 0, "yes: ");
    token("revoke", &arn("user/alice"), "");
    token("revoke", set, "");
    let two = "yes, if the caller is not the revoked `aws:111122223333:user/alice` or \
               `sso:aws:111122223333/Admin`: account:";
    check(account, "shared", "", 3, two);
    check(set, "shared", "", 1, "no: ");
    check(&sso("fedcba9876543210"), "shared", "", 1, "no: ");
    check(&arn("role/open"), "shared", "", 0, "yes: ");
}

#[test]
fn the_hint_of_explain_is_a_working_command() {
    let machine = Machine::new();
    machine.done("store init --data data");
    let explain = format!("grant explain --data data --role-arn {DEPLOY} --namespace acme");
    let run = machine.run(&explain);
    let hint = run
        .stdout
        .lines()
        .last()
        .unwrap()
        .strip_prefix("hint: `stile-admin ")
        .unwrap()
        .strip_suffix('`')
        .unwrap()
        .to_owned();
    machine.done(&hint);
    machine.done(&explain);
}

#[test]
fn an_unreadable_row_raises_an_alarm_and_does_not_hide_other_grants() {
    let machine = Machine::with_store();
    machine.done(&format!("grant create --role-arn {DEPLOY} --namespace acme --download"));
    let database = rusqlite::Connection::open(machine.path("data/stile.sqlite3")).unwrap();
    for (principal, namespace) in [("x|.*", "acme"), ("aws:111122223333:role/a", "a*b")] {
        database
            .execute(
                "INSERT INTO grants (principal, namespace, permissions, expires_at, created_by, created_at, folded) VALUES (?1, ?2, 4, NULL, 'x', 0, ?1)",
                [principal, namespace],
            )
            .unwrap();
    }
    let run = machine.run("grant list --output json");
    assert_eq!(serde_json::from_str::<Value>(&run.stdout).unwrap().as_array().unwrap().len(), 1);
    assert_eq!(
        run.stderr.matches("a grant in the store cannot be read and allows nothing").count(),
        2,
        "{}",
        run.stderr
    );
}
