//! Tests of `grant create --skip-expired`: a list of commands goes past a grant that has ended.

use serde_json::{Value, json};

use crate::support::{DEPLOY, Machine};

fn create(flags: &str) -> String {
    format!("grant create --role-arn {DEPLOY} --namespace acme {flags}")
}

/// Moves all grants of the store into the past.
fn make_older(machine: &Machine, seconds: i64) {
    let database = rusqlite::Connection::open(machine.path("data/stile.sqlite3")).unwrap();
    let sql = "UPDATE grants SET created_at = created_at - ?1, expires_at = expires_at - ?1";
    database.execute(sql, [seconds]).unwrap();
}

#[test]
fn an_end_in_the_past_is_an_error_without_the_flag_and_for_values_that_are_no_end() {
    let machine = Machine::with_store();
    for (flags, says) in [
        ("--download --expires 2020-01-01", "`2020-01-01` is not in the future"),
        ("--download --expires 0s --skip-expired", "`0s` is not in the future"),
        ("--download --expires soon --skip-expired", "`soon` is neither a time"),
        ("--expires 2020-01-01 --skip-expired", "a grant needs at least one permission"),
        ("--download --skip-expired", "--expires <WHEN>"),
    ] {
        let run = machine.run(&create(flags));
        assert_eq!((run.stdout.as_str(), run.code), ("", 2), "{flags}: {}", run.stderr);
        assert!(run.stderr.contains(says), "{flags}: {}", run.stderr);
    }
    let update = "grant update --role-arn arn:aws:iam::111122223333:role/deploy --namespace acme";
    let run = machine.run(&format!("{update} --expires 2020-01-01"));
    assert_eq!(run.code, 2, "{}", run.stderr);
}

#[test]
fn a_grant_that_has_ended_is_skipped_with_a_notice_and_nothing_is_written() {
    let machine = Machine::with_store();
    let log = machine.path("audit.jsonl").to_str().unwrap().to_owned();
    let machine = machine.with("STILE_AUDIT_LOG", &log);
    let flags = create("--download --expires 2020-01-01 --skip-expired");
    let run = machine.run(&flags);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let line =
        "skipped aws:111122223333:role/deploy on acme: download until 2020-01-01T00:00:00Z\n";
    assert_eq!(run.stdout, line);
    let notice = "notice: the grant ended at 2020-01-01T00:00:00Z, so nothing was created; hint: ";
    assert!(run.stderr.starts_with(notice), "{}", run.stderr);
    let json = machine.json(&flags);
    assert_eq!((&json["status"], &json["created_at"]), (&json!("expired"), &Value::Null), "{json}");
    assert_eq!(machine.json("grant list"), json!([]));
    assert_eq!(machine.json("namespace list"), json!([]));
    assert_eq!(std::fs::read_to_string(log).unwrap(), "", "there is no event");
}

#[test]
fn a_grant_whose_duration_has_passed_since_its_creation_is_skipped_too() {
    let machine = Machine::with_store();
    let flags = create("--download --expires 90d");
    machine.done(&flags);
    make_older(&machine, 91 * 86_400);
    let before = machine.json("grant list");
    assert_eq!(machine.run(&flags).code, 1, "without the flag it is an error");
    let run = machine.run(&format!("{flags} --skip-expired"));
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.starts_with("skipped "), "{}", run.stdout);
    for other in
        ["--upload --expires 90d", "--download --expires 30d", "--download --expires 90d --no-pin"]
    {
        let run = machine.run(&create(&format!("{other} --skip-expired")));
        assert_eq!((run.stdout.as_str(), run.code), ("", 1), "{other}: {}", run.stderr);
    }
    assert_eq!(machine.json("grant list"), before);
}

#[test]
fn a_live_grant_that_the_list_says_has_ended_is_an_error() {
    for held in ["--download", "--download --expires 90d", "--upload --expires 2999-01-31"] {
        let machine = Machine::with_store();
        machine.done(&create(held));
        let before = machine.json("grant list");
        let run = machine.run(&create("--download --expires 2020-01-01 --skip-expired"));
        assert_eq!((run.stdout.as_str(), run.code), ("", 1), "{held}: {}", run.stderr);
        let error = "error: the grant already exists and has not ended: ";
        assert!(run.stderr.starts_with(error), "{held}: {}", run.stderr);
        assert!(run.stderr.contains("stile-admin grant delete --data"), "{held}: {}", run.stderr);
        assert_eq!(machine.json("grant list"), before);
    }
    let machine = Machine::with_store();
    machine.done(&create("--upload --expires 90d"));
    make_older(&machine, 91 * 86_400);
    let run = machine.run(&create("--download --expires 2020-01-01 --skip-expired"));
    assert_eq!(run.code, 0, "neither grant allows anything: {}", run.stderr);
}

#[test]
fn a_list_of_commands_under_sh_e_goes_past_a_grant_that_has_ended() {
    let machine = Machine::with_store();
    let list = |flag: &str| {
        ["2020-01-01", "2999-01-31", "90d"]
            .iter()
            .enumerate()
            .map(|(at, end)| {
                format!("stile-admin grant create --role-arn {DEPLOY} --namespace 'n{at}' --download --expires '{end}'{flag}\n")
            })
            .collect::<String>()
    };
    let stopped = machine.shell("-e", &list(""));
    assert_eq!((stopped.stdout.as_str(), stopped.code), ("", 2), "{}", stopped.stderr);
    for (time, outcome) in [("the first time", "created "), ("again", "unchanged: ")] {
        let ran = machine.shell("-e", &list(" --skip-expired"));
        assert_eq!(ran.code, 0, "{time}: {}", ran.stderr);
        let lines: Vec<&str> = ran.stdout.lines().collect();
        let [first, rest @ ..] = &lines[..] else { panic!("{time}: {}", ran.stdout) };
        assert!(first.starts_with("skipped "), "{time}: {first}");
        assert!(rest.len() == 2 && rest.iter().all(|line| line.starts_with(outcome)), "{rest:?}");
    }
    let namespaces: Vec<Value> = machine
        .json("grant list")
        .as_array()
        .unwrap()
        .iter()
        .map(|grant| grant["namespace"].clone())
        .collect();
    assert_eq!(namespaces, [json!("n1"), json!("n2")]);
}
