//! Tests of `namespace` and `store migrate`.

use crate::support::{DEPLOY, Machine};

macro_rules! snapshot {
    ($name:literal, $value:expr) => {
        insta::with_settings!({ prepend_module_to_snapshot => false, snapshot_path => "../snapshots", omit_expression => true }, {
            insta::assert_snapshot!($name, $value);
        });
    };
}

#[test]
fn a_grant_on_a_mistyped_namespace_says_that_it_creates_one() {
    let machine = Machine::with_store();
    snapshot!(
        "namespaces",
        machine.transcript(&[
            "namespace list",
            "namespace show acme",
            "namespace create Acme",
            "namespace create *",
            "namespace create acme",
            "namespace create acme",
            &format!("grant create --role-arn {DEPLOY} --namespace acme --download"),
            &format!("grant create --role-arn {DEPLOY} --namespace acmee --download"),
            &format!("grant create --role-arn {DEPLOY} --namespace * --download --yes"),
            &format!("grant create --role-arn {DEPLOY} --namespace acmeee --upload --output json"),
            "namespace list",
            "namespace show acmee",
            "namespace list --output json",
        ])
    );
}

#[test]
fn a_store_is_migrated_on_request_and_a_dry_run_changes_nothing() {
    let machine = Machine::with_store();
    let database = rusqlite::Connection::open(machine.path("data/stile.sqlite3")).unwrap();
    let format =
        || -> i64 { database.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap() };
    let newest = format();
    database.pragma_update(None, "user_version", 0).unwrap();
    let dry_run = machine.json("store migrate --dry-run");
    assert_eq!((&dry_run["status"], &dry_run["from"]), (&"pending".into(), &0.into()));
    assert_eq!((&dry_run["to"], format()), (&newest.into(), 0));
    assert_eq!(machine.json("store migrate")["status"], "migrated");
    assert_eq!((&machine.json("store migrate")["status"], format()), (&"unchanged".into(), newest));
    database.pragma_update(None, "user_version", 99).unwrap();
    for command in ["store migrate", "store migrate --dry-run", "namespace list", "store init"] {
        let run = machine.run(command);
        let sentence =
            format!("the database has format 99, and this program reads formats up to {newest}");
        assert!(run.stderr.contains(&sentence), "{command}: {}", run.stderr);
        assert_eq!((run.code, run.stdout.as_str(), format()), (2, "", 99), "{command}");
    }
}

#[test]
fn without_a_store_there_is_nothing_to_migrate() {
    let machine = Machine::new();
    let run = machine.run("store migrate --data data");
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("`data` is not a data folder"), "{}", run.stderr);
    assert!(!machine.path("data").exists());
}
