//! Tests of `--output json`, `--quiet` and `NO_COLOR`: what goes to stderr, and in which form.

use serde_json::{Value, json};

use crate::support::{DEPLOY, Machine, Run};

/// Parses stderr, which has one JSON object on each line.
#[track_caller]
fn objects(run: &Run) -> Vec<Value> {
    run.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn with_json_every_error_is_one_object_on_stderr() {
    let machine = Machine::with_store();
    let on_acme = format!("--role-arn {DEPLOY} --namespace acme");
    machine.done(&format!("grant create {on_acme} --download"));
    for (command, error, code, message) in [
        ("grant make", "usage", 2, "unrecognized subcommand 'make'"),
        ("grant", "usage", 2, "requires a subcommand"),
        ("grant list --colour", "usage", 2, "unexpected argument '--colour' found"),
        ("grant show", "usage", 2, "the following required arguments were not provided"),
        ("grant list --store-timeout 0", "usage", 2, "invalid value '0'"),
        ("grant list --table t", "usage", 2, "exactly one of `--data` and `--table` is required"),
        ("token revoke", "usage", 2, "the following required arguments were not provided"),
        ("module list --registry-host localhost", "usage", 2, "invalid value 'localhost'"),
        ("store init --host localhost", "usage", 2, "invalid value 'localhost'"),
        ("grant create --principal * --namespace acme --download", "usage", 2, "a pattern"),
        ("namespace show tools", "refused", 1, "there is no namespace `tools`"),
        ("grant list --namespace Acme", "usage", 2, "namespace `Acme` must be"),
        ("token revoke --all", "refused", 1, "`--all` revokes the tokens of all principals"),
        ("token lift --principal account:111122223333", "refused", 1, "is not revoked"),
        (
            "module publish acme/vpc 1.0.0 x --registry-host registry.example.com",
            "usage",
            2,
            "module address",
        ),
        ("grant list --data missing", "failed", 2, "`missing` is not a data folder"),
        ("store init --data data/stile.sqlite3/x", "failed", 2, ""),
        (
            "module publish acme/vpc/aws 1.0.0 x --registry-host registry.example.com",
            "failed",
            2,
            "cannot be read",
        ),
    ] {
        let as_text = machine.run(command);
        let run = machine.run(&format!("{command} --output json"));
        assert_eq!((run.stdout.as_str(), run.code), ("", code), "{command}: {}", run.stderr);
        assert_eq!((as_text.stdout.as_str(), as_text.code), ("", code), "{command}");
        let found = objects(&run);
        let [object] = &found[..] else { panic!("{command}: {}", run.stderr) };
        assert_eq!(object["error"], error, "{command}: {object}");
        let text = object["message"].as_str().unwrap();
        assert!(text.contains(message) && !text.contains("hint:"), "{command}: {text}");
        assert!(!text.starts_with("error"), "{command}: {text}");
        let keys: Vec<_> = object.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["error", "hint", "message"], "{command}");
    }
    let run = machine.run(&format!("--output=json grant create {on_acme} --upload"));
    let hint = objects(&run)[0]["hint"].clone();
    assert!(hint.as_str().unwrap().starts_with("change it with `stile-admin grant update "));
    let run = machine.run("grant crate --output json");
    let hint = objects(&run)[0]["hint"].clone();
    assert!(hint.as_str().unwrap().ends_with("'create'"), "{hint}");
}

#[test]
fn without_its_audit_log_the_program_reports_that_as_json_too() {
    let machine = Machine::with_store().with("STILE_AUDIT_LOG", "/dev/null/audit.jsonl");
    let run = machine.run("grant list --output json");
    assert_eq!((run.stdout.as_str(), run.code), ("", 2));
    let object = &objects(&run)[0];
    assert_eq!(object["error"], "failed", "{object}");
    assert_eq!(object["hint"], "set `STILE_AUDIT_LOG` to a writable file, or unset it");
}

#[test]
fn with_json_notices_and_alarms_are_objects_too() {
    let machine = Machine::with_store();
    let session = "arn:aws:sts::111122223333:assumed-role/build/i-0abc";
    let create = format!("grant create --principal {session} --namespace acme --download");
    let run = machine.run(&format!("{create} --output json"));
    let found = objects(&run);
    let [ignored, created] = &found[..] else { panic!("{run:?}") };
    assert!(ignored["notice"].as_str().unwrap().starts_with("the session name `i-0abc`"));
    assert!(created["notice"].as_str().unwrap().contains("created the namespace `acme`"));
    let run = machine.run(&format!("token revoke --principal {session} --output json"));
    let hint = objects(&run)[1]["hint"].clone();
    assert_eq!(
        hint,
        "run `terraform-credentials-stile forget HOST` on machines with such a helper"
    );
    let database = rusqlite::Connection::open(machine.path("data/stile.sqlite3")).unwrap();
    database.execute("UPDATE grants SET namespace = 'a*b'", []).unwrap();
    let run = machine.run("grant list --output json");
    assert_eq!(objects(&run)[0]["alarm"], "unreadable_grant", "{run:?}");
    assert_eq!(serde_json::from_str::<Value>(&run.stdout).unwrap(), json!([]));
}

#[test]
fn quiet_suppresses_notices_and_neither_results_nor_errors() {
    for format in ["", " --output json"] {
        let machine = Machine::with_store();
        for command in [
            "grant create --principal arn:aws:sts::111122223333:assumed-role/build/i-0abc --namespace acme --download",
            "grant create --principal account:111122223334 --namespace amce --download --yes",
            "token revoke --principal account:111122223333",
        ] {
            let loud = machine.run(&format!("{command}{format}"));
            assert_eq!((loud.stderr.is_empty(), loud.code), (false, 0), "{command}{format}");
            // The same command again, with the same notices.
            let quiet = machine.run(&format!("{command}{format} --quiet"));
            assert_eq!((quiet.stderr.as_str(), quiet.code), ("", 0), "{command}{format}");
            assert!(quiet.stdout.contains("unchanged"), "{command}{format}: {quiet:?}");
        }
        for (command, code, error) in [
            ("namespace show tools", 1, "there is no namespace `tools`"),
            ("grant make", 2, "unrecognized subcommand"),
            ("grant list --data missing", 2, "`missing` is not a data folder"),
        ] {
            let run = machine.run(&format!("--quiet {command}{format}"));
            assert_eq!((run.stdout.as_str(), run.code), ("", code), "{command}{format}");
            assert!(run.stderr.contains(error), "{command}{format}: {}", run.stderr);
        }
    }
    let machine = Machine::with_store();
    let (loud, quiet) = (machine.run("grant list"), machine.run("grant list --quiet"));
    assert_eq!((loud.stderr.as_str(), loud.code), ("notice: there are no grants\n", 0));
    assert_eq!((quiet.stderr.as_str(), quiet.stdout.as_str(), quiet.code), ("", "", 0));
}

#[test]
fn no_color_removes_the_colours_of_help_and_usage_errors() {
    let commands =
        ["--help", "grant --help", "grant make", "grant create", "grant list --output x"];
    let coloured = Machine::new().with("CLICOLOR_FORCE", "1");
    let escapes = |run: &Run| run.stdout.contains('\u{1b}') || run.stderr.contains('\u{1b}');
    for command in commands {
        assert!(escapes(&coloured.run(command)), "{command} has colours");
    }
    let as_json = coloured.run("grant make --output json");
    assert!(!escapes(&as_json), "{as_json:?}");
    let no_color = coloured.with("NO_COLOR", "1");
    for command in commands {
        let run = no_color.run(command);
        assert!(!escapes(&run), "{command}: {run:?}");
    }
    for command in ["store init --data data", "grant list --data data", "grant list --data missing"]
    {
        let run = Machine::new().with("CLICOLOR_FORCE", "1").run(command);
        assert!(!escapes(&run), "{command}: {run:?}");
    }
}
