//! Snapshots of all help pages.

use crate::support::Machine;

#[test]
fn every_command_has_a_help_page() {
    let machine = Machine::new();
    for page in [
        "",
        "store",
        "store init",
        "store migrate",
        "store check",
        "namespace",
        "namespace create",
        "namespace set",
        "namespace show",
        "namespace list",
        "grant",
        "grant create",
        "grant update",
        "grant delete",
        "grant show",
        "grant list",
        "grant explain",
        "grant repin",
        "grant plan",
        "grant apply",
        "grant export",
        "token",
        "token issue",
        "token rotate",
        "token adopt",
        "token revoke",
        "token lift",
        "token list",
        "audit",
        "audit list",
        "audit head",
        "audit verify",
        "audit expire",
        "trust",
        "trust create",
        "trust update",
        "trust list",
        "trust show",
        "trust delete",
        "webhook",
        "webhook add",
        "webhook list",
        "webhook remove",
        "module",
        "module publish",
        "module list",
        "module search",
        "module show",
        "module usage",
        "module deprecate",
        "module undeprecate",
        "module unpublish",
        "module restore",
        "provider",
        "provider publish",
        "provider list",
        "provider show",
        "provider deprecate",
        "provider undeprecate",
        "provider yank",
        "provider restore",
        "provider keys",
        "provider keys add",
        "provider keys list",
        "provider keys retire",
        "provider keys export",
        "export",
        "promote",
        "backup",
        "restore",
        "config",
        "config show",
    ] {
        let run = machine.run(&format!("{page} --help"));
        assert_eq!((run.stderr.as_str(), run.code), ("", 0), "{page}");
        let name = if page.is_empty() {
            "help".to_owned()
        } else {
            format!("help-{}", page.replace(' ', "-"))
        };
        insta::with_settings!({ prepend_module_to_snapshot => false, snapshot_path => "../snapshots", omit_expression => true }, {
            insta::assert_snapshot!(name, run.stdout);
        });
    }
}

#[test]
fn an_invalid_command_line_exits_with_2_and_an_empty_stdout() {
    let machine = Machine::new();
    for arguments in [
        "",
        "grant",
        "grant make",
        "grant list",
        "grant create --data d --namespace acme",
        "grant create --data d --role-arn a --principal a --namespace acme",
        "grant create --data d --role-arn a --namespace acme --download=false",
        "grant update --data d --role-arn a --namespace acme --download=maybe",
        "grant update --data d --role-arn a --namespace acme --download false",
        "grant explain --data d --role-arn a --namespace acme --permission read",
        "grant create --data d --role-arn a --namespace acme --no-pin --unique-id AROAEXAMPLEEXAMPLE222",
        "token revoke --data d",
        "token revoke --data d --all --principal a",
        "token revoke --data d x --all",
        "module list",
        "module list --registry-host localhost",
        "module publish acme/vpc/aws 1.0.0 --registry-host registry.example.com",
        "grant list --data d --output yaml",
        "store init --data d --host localhost",
        "store init --table t --bucket b --kms-key k --host localhost",
    ] {
        let run = machine.run(arguments);
        assert_eq!((run.stdout.as_str(), run.code), ("", 2), "{arguments}");
        assert!(!run.stderr.is_empty(), "{arguments}");
    }
}

#[test]
fn the_version_is_one_line() {
    assert_eq!(
        Machine::new().done("--version"),
        concat!("stile-admin ", env!("CARGO_PKG_VERSION"), "\n")
    );
}
