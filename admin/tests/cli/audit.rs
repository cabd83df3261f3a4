//! Tests of the audit log: one event for each change, and no change without a log.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::support::{DEPLOY, Machine};

/// A token id: 16 bytes in base64url.
const JTI: &str = "AAAAAAAAAAAAAAAAAAAAAA";

fn events(machine: &Machine) -> Vec<Value> {
    let log = std::fs::read_to_string(machine.path("audit.jsonl")).unwrap_or_default();
    log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn each_change_appends_one_event_and_what_only_reads_appends_none() {
    let machine = Machine::with_store();
    let log = machine.path("audit.jsonl").to_str().unwrap().to_owned();
    let machine = machine.with("STILE_AUDIT_LOG", &log);
    let on_acme = format!("--role-arn {DEPLOY} --namespace acme");
    let mut before = 0;
    for (command, expected) in [
        ("store init".to_owned(), Some("store unchanged")),
        ("store migrate".to_owned(), None),
        ("backup --out backup".to_owned(), Some("backup created")),
        ("backup --out data".to_owned(), Some("backup failed")),
        ("restore --from backup --data new-store".to_owned(), Some("store created")),
        ("namespace create acme".to_owned(), Some("namespace created")),
        ("namespace create acme".to_owned(), Some("namespace unchanged")),
        ("namespace list".to_owned(), None),
        ("webhook add ci https://ci.example.com/".to_owned(), Some("webhook created")),
        ("webhook add ci https://ci.example.com/".to_owned(), Some("webhook conflict")),
        ("webhook list".to_owned(), None),
        ("webhook remove ci".to_owned(), Some("webhook deleted")),
        ("webhook remove ci".to_owned(), Some("webhook absent")),
        (format!("grant create {on_acme} --download"), Some("grant created")),
        (format!("grant create {on_acme} --download"), Some("grant unchanged")),
        (format!("grant create {on_acme} --upload"), Some("grant conflict")),
        (format!("grant update {on_acme} --upload"), Some("grant changed")),
        (format!("grant update {on_acme} --upload=false --download=false"), Some("grant conflict")),
        (format!("grant show {on_acme}"), None),
        ("grant list".to_owned(), None),
        (format!("grant delete {on_acme}"), Some("grant deleted")),
        (format!("grant delete {on_acme}"), Some("grant absent")),
        (format!("grant update {on_acme} --upload"), Some("grant absent")),
        (format!("grant repin --role-arn {DEPLOY}"), Some("repin absent")),
        (format!("token revoke {JTI}"), Some("revoke revoked")),
        (format!("token revoke --principal {DEPLOY}"), Some("revoke revoked")),
        (format!("token revoke --principal {DEPLOY}"), Some("revoke unchanged")),
        (format!("token lift --principal {DEPLOY}"), Some("lift lifted")),
        (format!("token lift --principal {DEPLOY}"), Some("lift absent")),
        ("token list".to_owned(), None),
        ("token revoke --all".to_owned(), None),
        ("token revoke --all --yes".to_owned(), Some("key unchanged")),
    ] {
        let run = machine.run(&command);
        let events = events(&machine);
        let new: Vec<String> = events
            .iter()
            .skip(before)
            .map(|event| {
                assert_eq!((&event["v"], &event["operator"]), (&1.into(), &"local:tester".into()));
                let on_principal =
                    ![JTI, "--all", "store", "backup", "namespace create", "webhook"]
                        .iter()
                        .any(|other| command.contains(other));
                assert_eq!(event["about"] == "aws:111122223333:role/deploy", on_principal);
                assert_eq!(event["token_id"] == JTI, command.contains(JTI));
                assert_eq!(event["namespace"] == "acme", command.contains("acme"));
                format!(
                    "{} {}",
                    event["event"].as_str().unwrap(),
                    event["decision"].as_str().unwrap()
                )
            })
            .collect();
        assert_eq!(new, Vec::from_iter(expected), "{command}: {}", run.stderr);
        before = events.len();
    }
    let mode = std::fs::metadata(&log).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
}

#[test]
fn without_its_audit_log_a_command_changes_nothing() {
    let machine = Machine::with_store().with("STILE_AUDIT_LOG", "/dev/null/audit.jsonl");
    let create = format!("grant create --role-arn {DEPLOY} --namespace acme --download");
    let run = machine.run(&create);
    assert_eq!((run.stdout.as_str(), run.code), ("", 2));
    assert!(
        run.stderr.contains("cannot open the audit log `/dev/null/audit.jsonl`"),
        "{}",
        run.stderr
    );
    let machine = machine.with("STILE_AUDIT_LOG", "");
    assert!(!machine.done("grant list").contains("acme"), "the store has no grant");
}
