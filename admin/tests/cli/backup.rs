//! Tests of `backup` and `restore`: output, notices, exit codes and the audit log.

use crate::support::{DEPLOY, Machine};

#[test]
fn a_backup_is_restored_and_the_program_says_what_is_not_as_it_was() {
    let machine = Machine::with_store();
    assert_eq!(machine.run("store init --host registry.example.com").code, 0);
    let grant = format!("grant create --role-arn {DEPLOY} --namespace acme --download");
    assert_eq!(machine.run(&grant).code, 0);
    let run = machine.run("backup --out backup");
    assert_eq!((run.stderr.as_str(), run.code), ("", 0));
    assert_eq!(
        run.stdout,
        "backed up registry `registry.example.com` to `backup`: 0 of 0 archives were new, with 0 bytes\n"
    );
    assert_eq!(machine.run(&format!("token revoke --principal {DEPLOY}")).code, 0);

    let run = machine.run("restore --from backup --data new");
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.starts_with("restored registry `registry.example.com` as of 20"), "{run:?}");
    assert!(run.stdout.ends_with(" to `new`: 0 archives with 0 bytes\n"), "{run:?}");
    for part in [
        "a principal that was revoked later is not revoked; hint: compare `stile-admin token list --data new` with",
        "a grant that was deleted later is there again; hint: compare `stile-admin grant list --data new` with",
        "all earlier tokens are invalid, and the registry gives new ones for proofs that are signed from 20",
    ] {
        assert!(run.stderr.contains(part), "{part}: {}", run.stderr);
    }
    assert!(machine.done("grant list --data new").contains("acme"));
    assert_eq!(machine.json("token list").as_array().unwrap().len(), 1);
    assert_eq!(machine.json("token list --data new").as_array().unwrap().len(), 0);

    let json = machine.json("backup --out backup");
    assert_eq!((&json["copied"], &json["host"]), (&0.into(), &"registry.example.com".into()));
    let json = machine.json("restore --from backup --data third --quiet");
    assert_eq!((&json["archives"], &json["data"]), (&0.into(), &"third".into()));
}

#[test]
fn what_cannot_be_backed_up_or_restored_is_a_failure_and_changes_nothing() {
    let machine = Machine::with_store();
    assert_eq!(machine.run("backup --out backup").code, 0);
    for (command, expected) in [
        ("backup --data missing --out backup", "`missing` is not a data folder"),
        ("backup --out data", "the folder `data` is not empty, and it is not a backup; hint: "),
        ("restore --from data --data new", "is not a backup; hint: "),
        ("restore --from missing --data new", "`missing` is not a backup; hint: "),
        // `STILE_DATA` names the folder of the registry.
        ("restore --from backup", "data` is not empty, and a restore writes over nothing; hint: "),
    ] {
        let run = machine.run(command);
        assert_eq!((run.stdout.as_str(), run.code), ("", 2), "{command}");
        assert!(run.stderr.contains(expected), "{command}: {}", run.stderr);
    }
    assert!(!machine.path("new").exists());
}

#[test]
fn a_store_on_aws_is_neither_backed_up_nor_restored_and_the_program_says_what_does_that() {
    let machine = Machine::new();
    for command in ["backup --out backup", "restore --from backup"] {
        let run = machine.run(&format!("{command} --table t --bucket b --kms-key k"));
        assert_eq!((run.stdout.as_str(), run.code), ("", 2), "{command}");
        let sentence = "error: table `t` and bucket `b` are not copied by this program: DynamoDB's point-in-time recovery and the versions of the bucket restore them; hint: see ";
        assert!(run.stderr.starts_with(sentence), "{command}: {}", run.stderr);
    }
    assert!(!machine.path("backup").exists());
}
