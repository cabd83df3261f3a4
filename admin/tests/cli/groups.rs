//! Tests of grants to organizations, units and tags, and of services in a file of grants.

use std::collections::BTreeSet;

use serde_json::json;

use crate::support::{DEPLOY, Machine};

const UNIT: &str = "ou:o-a1b2c3d4e5/r-ab12/ou-ab12-11111111";

/// Returns the principals of all grants.
fn principals(machine: &Machine) -> BTreeSet<String> {
    let grants = machine.json("grant list");
    let principals = grants.as_array().unwrap().iter();
    principals.map(|grant| grant["principal"].as_str().unwrap().to_owned()).collect()
}

/// Returns a file of one grant on `acme`.
fn file(principal: &str, permissions: &str) -> String {
    format!(
        "version = 1\nowns = [\"acme\"]\n\n[[grant]]\nprincipal = \"{principal}\"\n\
         namespace = \"acme\"\npermissions = [{permissions}]\n"
    )
}

#[test]
fn a_grant_to_a_group_needs_a_confirmation_and_a_tag_of_any_account_its_own() {
    let machine = Machine::with_store();
    let create = |who: &str| format!("grant create --principal {who} --namespace acme --download");
    for (who, flags, says, hint) in [
        ("org:o-a1b2c3d4e5", "", "all accounts of the organization", "add `--yes`"),
        (UNIT, "", "all accounts in the organizational unit and below", "add `--yes`"),
        (UNIT, "--any-account", "all accounts in the organizational unit", "add `--yes`"),
        ("account:111122223333/tag:team=data", "", "of the account with the tag", "add `--yes`"),
        ("tag:team=data", "", "every account that a trust believes", "add `--any-account`"),
        ("tag:team=data", "--yes", "the administrators", "`account:111122223333/tag:team=data`"),
        ("tag:team=data", "--any-account", "every account that a trust believes", "add `--yes`"),
    ] {
        let run = machine.run(&format!("{} {flags}", create(who)));
        assert_eq!((run.stdout.as_str(), run.code), ("", 1), "{who} {flags}: {run:?}");
        assert!(run.stderr.contains(says) && run.stderr.contains(hint), "{who} {flags}: {run:?}");
    }
    for who in ["org:a1b2c3d4e5", "ou:o-a1b2c3d4e5/ou-ab12-11111111", "tag:team", "tag:=data"] {
        let run = machine.run(&format!("{} --yes --any-account", create(who)));
        assert_eq!((run.stdout.as_str(), run.code), ("", 2), "{who}: {run:?}");
    }
    assert_eq!(machine.json("grant list"), json!([]));

    let tag = "ou:o-a1b2c3d4e5/r-ab12/tag:team=data";
    for (who, flags) in [
        ("org:o-a1b2c3d4e5", "--yes"),
        (UNIT, "--yes"),
        ("account:111122223333/tag:team=data", "--yes"),
        (tag, "--yes"),
        ("tag:team=data", "--yes --any-account"),
    ] {
        machine.done(&format!("--quiet {} {flags}", create(who)));
        let again = machine.json(&format!("--quiet {} {flags}", create(who)));
        assert_eq!(again["status"], "unchanged", "{who}");
    }
    let expected =
        ["account:aws:111122223333/tag:team=data", "org:o-a1b2c3d4e5", UNIT, tag, "tag:team=data"];
    assert_eq!(principals(&machine), expected.map(str::to_owned).into());
}

#[test]
fn a_file_needs_the_same_confirmation_for_a_tag_of_any_account() {
    let machine = Machine::with_store();
    let apply = "grant apply grants.toml";
    machine.write("grants.toml", &file("tag:team=data", "\"download\""));
    let asked = machine.run(&format!("{apply} --any-account"));
    assert_eq!(asked.code, 1, "{asked:?}");
    assert!(asked.stderr.contains("add `--yes` to confirm"), "{asked:?}");
    for flags in ["", "--yes"] {
        let refused = machine.run(&format!("{apply} {flags}"));
        assert_eq!(refused.code, 1, "{flags}: {refused:?}");
        assert!(refused.stderr.contains("error: nothing was changed: `tag:team=data`"), "{flags}");
        assert!(refused.stderr.contains("add `--any-account` to confirm"), "{refused:?}");
    }
    assert_eq!(machine.json("grant list"), json!([]));
    machine.done(&format!("{apply} --yes --any-account"));
    assert_eq!(principals(&machine), ["tag:team=data".to_owned()].into());
    machine.done(&format!("{apply} --yes"));

    machine.write("grants.toml", &file("tag:team=data", "\"download\", \"upload\""));
    assert_eq!(machine.run(&format!("{apply} --yes")).code, 1, "the grant would be wider");
    machine.write("grants.toml", &file("account:111122223333/tag:team=data", "\"download\""));
    machine.done(&format!("{apply} --yes --allow-deletes 1"));
    assert_eq!(principals(&machine), ["account:aws:111122223333/tag:team=data".to_owned()].into());
}

#[test]
fn a_file_leaves_the_grants_of_services_as_they_are() {
    let machine = Machine::with_store();
    machine.write("grants.toml", &file("service:renovate", "\"download\""));
    let refused = machine.run("grant apply grants.toml --yes");
    assert_eq!((refused.stdout.as_str(), refused.code), ("", 2), "{refused:?}");
    assert!(refused.stderr.contains("a file has no grants of services"), "{refused:?}");

    machine.done(
        "--quiet token issue --name renovate --namespace acme --permission download --expires 9d",
    );
    machine.done(&format!("--quiet grant create --role-arn {DEPLOY} --namespace acme --download"));
    let exported = machine.done("grant export");
    assert!(exported.contains(DEPLOY) && !exported.contains("renovate"), "{exported}");
    let json = machine.json("grant export --namespace acme");
    assert_eq!(json["grant"].as_array().unwrap().len(), 1, "{json}");
    machine.write("grants.toml", &exported);
    machine.done("grant plan grants.toml --check");
    machine.write("grants.toml", "version = 1\nowns = \"all\"\ngrant = []\n");
    let applied = machine.json("grant apply grants.toml --yes --allow-deletes 1");
    assert_eq!(applied["deleted"], 1, "{applied}");
    assert_eq!(principals(&machine), ["service:renovate".to_owned()].into());
    machine.done("grant plan grants.toml --check");
}
