//! Tests that a value that the program itself judges is a usage error, like one that clap judges.

use serde_json::Value;

use crate::support::{DEPLOY, Machine};

#[test]
fn a_value_that_the_program_judges_exits_with_2_as_one_that_clap_judges() {
    let machine = Machine::with_store();
    machine.write("module.tar", "");
    machine.write("module.zip", "PK");
    let on_acme = format!("--role-arn {DEPLOY} --namespace acme");
    let host = "--registry-host registry.example.com";
    for (what, command) in [
        ("a namespace", "namespace create Acme".to_owned()),
        ("a namespace to show", "namespace show a--b".to_owned()),
        ("a namespace of a grant", format!("grant list --namespace {DEPLOY}")),
        ("a reserved namespace", format!("grant show --role-arn {DEPLOY} --namespace search")),
        ("a pattern as principal", "grant list --principal arn:aws:iam::*:role/x".to_owned()),
        ("a number as principal", "token revoke --principal 111122223333".to_owned()),
        ("a word as principal", "token lift --principal deploy".to_owned()),
        (
            "a root user",
            "grant explain --role-arn arn:aws:iam::111122223333:root --namespace acme".to_owned(),
        ),
        ("a principal without an id", "grant repin --role-arn sso:111122223333/Admin".to_owned()),
        ("an expiry", format!("grant create {on_acme} --download --expires soon")),
        (
            "an expiry in the past",
            format!("grant create {on_acme} --download --expires 2020-01-01"),
        ),
        ("an expiry to change", format!("grant update {on_acme} --expires 0s")),
        ("no permission", format!("grant create {on_acme}")),
        ("no change", format!("grant update {on_acme}")),
        (
            "a unique id",
            format!("grant create {on_acme} --download --unique-id AIDAEXAMPLEEXAMPLE222"),
        ),
        ("a token id", "token revoke stile_v4.local.AAAAAAAAAAAAAAAAAAAA".to_owned()),
        ("an address", format!("module publish acme/vpc 1.0.0 module.zip {host}")),
        ("an address to list", format!("module list acme/VPC/aws {host}")),
        ("a namespace to list", format!("module list Acme {host}")),
        ("a version", format!("module publish acme/vpc/aws v1.0.0 module.zip {host}")),
        (
            "a version with metadata",
            format!("module publish acme/vpc/aws 1.0.0+b module.zip {host}"),
        ),
        ("an extension", format!("module publish acme/vpc/aws 1.0.0 module.tar {host}")),
        (
            "a pattern",
            format!("module publish acme/vpc/aws 1.0.0 module.zip --include [z-a] {host}"),
        ),
        ("a missing version", format!("module publish acme/vpc/aws module.zip {host}")),
        ("a name without a module", format!("module publish module.zip {host}")),
        ("a URL", format!("module publish acme/vpc/aws 1.0.0 http://example.com/a.zip {host}")),
        // Clap judges these.
        ("a permission", format!("grant explain {on_acme} --permission read")),
        ("a region", format!("module list {host} --region us-attacker-1")),
        ("a host", "module list --registry-host localhost".to_owned()),
    ] {
        let text = machine.run(&command);
        assert_eq!((text.stdout.as_str(), text.code), ("", 2), "{what}: {}", text.stderr);
        let json = machine.run(&format!("{command} --output json"));
        assert_eq!((json.stdout.as_str(), json.code), ("", 2), "{what}: {}", json.stderr);
        let object: Value = serde_json::from_str(&json.stderr).unwrap();
        assert_eq!(object["error"], "usage", "{what}: {object}");
    }
    assert_eq!(machine.json("grant list"), Value::Array(Vec::new()), "the store is unchanged");
}

#[test]
fn a_decision_about_valid_values_exits_with_1() {
    let machine = Machine::with_store();
    let on_acme = format!("--role-arn {DEPLOY} --namespace acme");
    machine.done(&format!("grant create {on_acme} --download"));
    for command in [
        "namespace show tools".to_owned(),
        format!("grant create {on_acme} --upload"),
        format!("grant update {on_acme} --download=false"),
        format!("grant delete --role-arn {DEPLOY} --namespace tools"),
        format!("token lift --principal {DEPLOY}"),
        "token revoke --all".to_owned(),
    ] {
        let run = machine.run(&format!("{command} --output json"));
        assert_eq!((run.stdout.as_str(), run.code), ("", 1), "{command}: {}", run.stderr);
        let object: Value = serde_json::from_str(&run.stderr).unwrap();
        assert_eq!(object["error"], "refused", "{command}: {object}");
    }
}
