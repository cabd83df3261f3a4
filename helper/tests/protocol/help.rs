//! Snapshots of every help page.

use crate::support::Sandbox;

#[test]
fn every_help_page_matches_its_snapshot() {
    let sandbox = Sandbox::new();
    for verb in [
        "",
        "get",
        "store",
        "forget",
        "get-token",
        "install",
        "whoami",
        "doctor",
        "check",
        "config",
        "config show",
    ] {
        let arguments: Vec<_> = verb.split_whitespace().chain(["--help"]).collect();
        let run = sandbox.run(&arguments);
        assert_eq!((run.stderr.as_str(), run.code), ("", 0));
        let name = if verb.is_empty() { "help".to_owned() } else { verb.replace(' ', "-") };
        insta::with_settings!({ prepend_module_to_snapshot => false, snapshot_path => "../snapshots" }, {
            insta::assert_snapshot!(name, run.stdout);
        });
    }
}

#[test]
fn the_version_is_one_line() {
    Sandbox::new().run(&["--version"]).prints(concat!(
        "terraform-credentials-stile ",
        env!("CARGO_PKG_VERSION"),
        "\n"
    ));
}
