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

/// Returns the events that the store in a folder keeps, as a line of the log has them, in order of
/// chain.
fn kept(machine: &Machine, folder: &str) -> Vec<Value> {
    let database = machine.path(folder).join("stile.sqlite3");
    let connection = rusqlite::Connection::open(database).unwrap();
    let mut query =
        connection.prepare("SELECT body FROM audit_events ORDER BY chain, seq").unwrap();
    let bodies = query.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let read = |body: String| {
        let mut event: Value = serde_json::from_str(&body).unwrap();
        for name in ["chain", "seq", "time"] {
            assert!(event.as_object_mut().unwrap().remove(name).is_some(), "{body}");
        }
        event
    };
    bodies.map(|body| read(body.unwrap())).collect()
}

/// Returns the fields of a line of the log, without those that say when and how it was written.
fn fields(line: &Value) -> Value {
    let mut line = line.clone();
    line.as_object_mut()
        .unwrap()
        .retain(|name, _| !["timestamp", "level", "target"].contains(&name.as_str()));
    line
}

#[test]
fn the_store_keeps_the_event_of_each_change_and_only_of_changes() {
    let machine = Machine::with_store();
    let log = machine.path("audit.jsonl").to_str().unwrap().to_owned();
    let machine = machine.with("STILE_AUDIT_LOG", &log);
    let on_acme = format!("--role-arn {DEPLOY} --namespace acme");
    let (mut lines, mut before) = (0, kept(&machine, "data"));
    assert_eq!(before.len(), 1, "that the store was created: {before:?}");
    for (command, changes) in [
        ("store init", false),
        ("namespace create acme", true),
        ("namespace create acme", false),
        ("namespace set acme --max-versions 5", true),
        ("namespace set acme --max-versions 5", false),
        ("namespace set acme --source git::https://git.example.com/acme", true),
        ("namespace set acme --no-source", true),
        ("namespace set acme --no-source", false),
        ("webhook add ci https://ci.example.com/", true),
        ("webhook add ci https://ci.example.com/", false),
        ("webhook remove ci", true),
        ("webhook remove ci", false),
        ("grant create ON --download --expires 9999-12-31T23:59:59Z", true),
        ("grant create ON --upload", false),
        ("grant update ON --upload --expires never", true),
        ("grant update ON --upload=false --download=false", false),
        ("grant delete ON", true),
        ("grant delete ON", false),
        ("grant create ON --download --unique-id AROAEXAMPLEEXAMPLE222", true),
        ("grant repin --role-arn DEPLOY", true),
        ("grant repin --role-arn DEPLOY", false),
        ("token revoke AAAAAAAAAAAAAAAAAAAAAA", true),
        ("token revoke --principal DEPLOY", true),
        ("token revoke --principal DEPLOY", false),
        ("token lift --principal DEPLOY", true),
        ("token lift --principal DEPLOY", false),
        ("token revoke --all --yes", false),
        ("store check --repair", false),
        ("store init --host registry.example.com", true),
        ("backup --out backup", false),
    ] {
        let run = machine.run(&command.replace("ON", &on_acme).replace("DEPLOY", DEPLOY));
        let after = kept(&machine, "data");
        let new: Vec<&Value> = after.iter().filter(|event| !before.contains(event)).collect();
        let logged = events(&machine);
        let last: Vec<Value> = logged[lines..].iter().map(fields).collect();
        match (new.as_slice(), changes) {
            ([], false) => {}
            ([event], true) => {
                assert!(last.contains(event), "{command}: {event} is not in {last:?}");
            }
            (new, _) => panic!("{command}: {new:?}: {}", run.stderr),
        }
        (lines, before) = (logged.len(), after);
    }
    let update = before.iter().find(|event| event["requested"] == "+upload").unwrap();
    assert_eq!(
        (&update["permissions_before"], &update["expires_at_before"], &update["expires_at"]),
        (&"download".into(), &"9999-12-31T23:59:59Z".into(), &"never".into())
    );
    machine.run("restore --from backup --data new-store");
    let restored = kept(&machine, "new-store");
    assert_eq!(restored.len(), before.len() + 1);
    let line = fields(events(&machine).last().unwrap());
    assert!(restored.contains(&line), "{line} is not in {restored:?}");
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
