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
fn the_limits_of_a_namespace_are_set_shown_and_removed() {
    let machine = Machine::with_store();
    let grant = format!("grant create --role-arn {DEPLOY} --namespace acme --upload");
    assert_eq!(machine.run(&grant).code, 0);
    let published = |version: &str| {
        let database = rusqlite::Connection::open(machine.path("data/stile.sqlite3")).unwrap();
        let sql = "INSERT INTO module_versions (namespace, name, system, version, sha256, format, bytes, published_by, published_at) \
                   VALUES ('acme', 'vpc', 'aws', ?1, 'ab', 'zip', 1500, 'x', 7)";
        database.execute(sql, [version])
    };
    published("1.0.0").unwrap();
    published("1.1.0").unwrap();
    snapshot!(
        "namespace-limits",
        machine.transcript(&[
            "namespace set acme",
            "namespace set acme --max-bytes 10gb",
            "namespace set acme --max-bytes -1",
            "namespace set acme --max-versions many",
            "namespace set Acme --max-versions 5",
            "namespace set acmee --max-versions 5",
            "namespace set acmee --max-versions 5 --output json",
            "namespace set acme --max-bytes 1MB --max-versions 5",
            "namespace set acme --max-versions 5",
            "namespace set acme --max-versions 3 --output json",
            "namespace show acme",
            "namespace set acme --max-versions 1",
            "namespace list",
            "namespace set acme --max-bytes none",
            "namespace list --output json",
            "namespace set acme --max-versions none",
            "namespace show acme",
        ])
    );
    assert!(published("1.2.0").is_ok());
    assert_eq!(machine.run("namespace set acme --max-versions 3").code, 0);
    assert!(published("1.3.0").unwrap_err().to_string().contains("limit of its namespace"));
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
