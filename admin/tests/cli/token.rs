//! Tests of `token`.

use crate::support::{DEPLOY, Machine};

/// A token id: 16 bytes in base64url.
const JTI: &str = "AAAAAAAAAAAAAAAAAAAAAA";

#[test]
fn the_list_contains_a_revoked_principal_until_it_is_lifted() {
    let machine = Machine::with_store();
    let commands = [
        "token list".to_owned(),
        "token revoke stile_v4.local.AAAAAAAAAAAAAAAAAAAA".to_owned(),
        format!("token revoke {JTI}"),
        format!("token revoke {JTI} --output json"),
        format!("token revoke --principal {DEPLOY}"),
        format!("token revoke --principal {DEPLOY}"),
        "token revoke --principal account:111122223333".to_owned(),
        "token revoke --principal arn:aws:iam::111122223333:role/*".to_owned(),
        "token list".to_owned(),
        "token list --output json".to_owned(),
        format!("token lift --principal {DEPLOY}"),
        format!("token lift --principal {DEPLOY}"),
        "token list".to_owned(),
        "token revoke --all".to_owned(),
        "token revoke --all --yes".to_owned(),
    ];
    insta::with_settings!({ prepend_module_to_snapshot => false, snapshot_path => "../snapshots", omit_expression => true }, {
        insta::assert_snapshot!("token", machine.transcript(&commands.iter().map(String::as_str).collect::<Vec<_>>()));
    });
}

#[test]
fn a_token_id_that_begins_with_a_hyphen_is_an_id_and_an_unknown_flag_is_not() {
    let machine = Machine::with_store();
    for id in ["-LmPxvvan7Jfcr-vbMMbwg", "--AAAAAAAAAAAAAAAAAAAA", "-hhhhhhhhhhhhhhhhhhhhw"] {
        assert_eq!(machine.done(&format!("token revoke {id}")), format!("revoked token {id}\n"));
        let quiet = machine.run(&format!("token revoke {id} --quiet --output json"));
        assert_eq!((quiet.code, quiet.stderr.as_str()), (0, ""), "flags after the id are flags");
    }
    for unknown in ["-x", "--everything", "--principals aws:111122223333:role/deploy"] {
        let refused = machine.run(&format!("token revoke {unknown}"));
        assert_eq!((refused.code, refused.stdout.as_str()), (2, ""), "{unknown}");
    }
    assert!(machine.done("token revoke --help").contains("Usage:"));
}

#[test]
fn revoking_all_tokens_deletes_all_keys() {
    let machine = Machine::with_store();
    let keyring = machine.path("data/keyring.json");
    let key = r#"{"id":"AAAAAAAAAAAAAAAAAAAAAA","created_at":0,"mints_from":0,"secret":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#;
    machine.write("data/keyring.json", &format!(r#"{{"revision":7,"keys":[{key}]}}"#));
    std::fs::set_permissions(&keyring, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .unwrap();
    assert_eq!(machine.run("token revoke --all").code, 1);
    assert!(
        std::fs::read_to_string(&keyring).unwrap().contains("mints_from"),
        "without `--yes`, all keys remain"
    );
    assert_eq!(machine.done("token revoke --all --yes"), "revoked all tokens\n");
    assert_eq!(std::fs::read_to_string(&keyring).unwrap(), r#"{"revision":8,"keys":[]}"#);
}
