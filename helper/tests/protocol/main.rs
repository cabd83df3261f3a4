//! Runs the real program and checks the exact stdout, stderr and exit code.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails at the first unexpected value")]

mod check;
mod ci_page;
mod doctor;
mod exchange;
mod failure_log;
mod help;
mod id_token;
mod identity;
mod install;
mod login;
mod notice;
mod people;
mod profile;
mod proxy;
mod reasons;
mod region;
mod revocation;
mod sign_in;
mod support;
mod web_identity;

use std::os::unix::fs::{PermissionsExt as _, symlink};

use crate::support::{Sandbox, StubBroker};

const MANAGED: &str = "[registry.\"registry.example.com\"]\nurl = \"http://127.0.0.1:9\"\n";

#[test]
fn get_prints_an_empty_object_for_a_host_that_is_not_a_stile_registry() {
    for sandbox in [Sandbox::new(), Sandbox::new().configured(MANAGED)] {
        for host in [
            "registry.terraform.io",
            "app.terraform.io",
            "xn--caf-dma.fr",
            "a.example:8443",
            "localhost:8080",
            "[::1]:1",
            "x y",
            "",
        ] {
            sandbox.run(&["get", host]).prints("{}\n");
        }
    }
}

#[test]
fn get_works_for_other_hosts_without_a_home_folder() {
    let sandbox = Sandbox::new().with("HOME", "").with("XDG_CONFIG_HOME", "relative");
    sandbox.run(&["get", "registry.terraform.io"]).prints("{}\n");
}

#[test]
fn get_works_for_other_hosts_if_the_configuration_folder_is_not_a_folder() {
    let home_is_a_device = Sandbox::new().with("HOME", "/dev/null");
    let folder_is_a_file = Sandbox::new();
    folder_is_a_file.write(".config", "");
    let stile_is_a_file = Sandbox::new();
    stile_is_a_file.write(".config/stile", "");
    for sandbox in [home_is_a_device, folder_is_a_file, stile_is_a_file] {
        for host in ["registry.terraform.io", "app.terraform.io", "localhost:8080"] {
            sandbox.run(&["get", host]).prints("{}\n");
        }
    }
    let named = Sandbox::new().with("STILE_CONFIG", "/dev/null/config.toml");
    named.run(&["get", "registry.terraform.io"]).fails_with(
        "no token for `registry.terraform.io`: cannot read `/dev/null/config.toml`: Not a directory (os error 20)",
    );
}

#[test]
fn an_invalid_command_fails_with_empty_stdout() {
    let sandbox = Sandbox::new();
    for arguments in [
        &[][..],
        &["get"],
        &["get", "a.example", "b.example"],
        &["revoke", "a.example"],
        &["help", "get"],
        &["--nothing"],
    ] {
        let run = sandbox.run(arguments);
        assert_eq!(
            (run.stdout.as_str(), run.code, run.stderr.is_empty()),
            ("", 1, false),
            "{arguments:?}"
        );
    }
}

#[test]
fn an_unreachable_registry_is_a_failure_with_one_line() {
    let sandbox = Sandbox::new().configured(MANAGED);
    sandbox.run(&["get", "registry.example.com"]).fails_with(
        "no token for `registry.example.com`: cannot reach `http://127.0.0.1:9/v1/token`: Connection refused (os error 111); \
         hint: check the network, and `url` in the helper's `config.toml`",
    );
}

#[test]
fn flags_from_the_cli_configuration_come_before_the_verb() {
    let broker = StubBroker::granting_every_token();
    let sandbox = Sandbox::new();
    sandbox.write(
        "elsewhere.toml",
        &format!("[registry.\"registry.example.com\"]\nurl = \"{}\"\n", broker.url),
    );
    let config = sandbox.path("elsewhere.toml");
    let run = sandbox.run(&[
        "--config",
        config.to_str().unwrap(),
        "--region",
        "us-west-2",
        "get",
        "REGISTRY.example.com:443",
    ]);
    run.prints("{\"token\":\"stile_v4.local.number-0\"}\n");
    assert_eq!(broker.requests()[0].json()["region"], "us-west-2");
    let by_variable = sandbox.with("STILE_CONFIG", config.to_str().unwrap());
    by_variable
        .run(&["get", "registry.example.com"])
        .prints("{\"token\":\"stile_v4.local.number-0\"}\n");
    assert_eq!(broker.requests().len(), 1, "the region is not part of the cache key");
}

#[test]
fn an_invalid_configuration_is_an_error_for_every_host() {
    for (text, problem) in [
        (
            "[registry.\"registry.example.com\"]\nregoin = \"x\"\n",
            "`~/.config/stile/config.toml` line 2: unknown field `regoin`, expected one of \
             `region`, `profile`, `service`, `ttl`, `permissions`, `url`, `proof`, `trust`, `audience`, `id_token_env`, `id_token_file`",
        ),
        (
            "[registry.\"registry.example.com\"]\nurl = \"http://registry.example.com\"\n",
            "`~/.config/stile/config.toml` [registry.\"registry.example.com\"]: \
             `http://registry.example.com` is plain HTTP, which only loopback addresses may use; use `https`",
        ),
    ] {
        let sandbox = Sandbox::new().configured(text);
        for host in ["registry.example.com", "registry.terraform.io"] {
            sandbox.run(&["get", host]).fails_with(&format!("no token for `{host}`: {problem}"));
        }
        sandbox
            .run_with_stdin(&["store", "app.terraform.io"], "{\"token\":\"x\"}")
            .fails_with(problem);
    }
    let missing = Sandbox::new().with("STILE_CONFIG", "/nonexistent/config.toml");
    missing.run(&["get", "registry.terraform.io"]).fails_with(
        "no token for `registry.terraform.io`: cannot read `/nonexistent/config.toml`: No such file or directory (os error 2)",
    );
}

#[test]
fn a_token_of_another_host_can_be_stored_read_and_deleted() {
    let sandbox = Sandbox::new().configured(MANAGED);
    sandbox.run(&["forget", "app.terraform.io"]).prints("");
    sandbox.run_with_stdin(&["store", "app.terraform.io"], "{\"token\":\"first\"}\n").prints("");
    sandbox
        .run_with_stdin(&["store", "localhost:8080"], "{\"token\":\"other \\\"quoted\\\"\"}")
        .prints("");
    sandbox.run_with_stdin(&["store", "app.terraform.io"], "{ \"token\": \"second\" }").prints("");
    sandbox.run(&["get", "app.terraform.io"]).prints("{\"token\":\"second\"}\n");
    sandbox.run(&["get", "localhost:8080"]).prints("{\"token\":\"other \\\"quoted\\\"\"}\n");
    let file = sandbox.path(".local/share/stile/tokens.json");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    sandbox.run(&["forget", "app.terraform.io"]).prints("");
    sandbox.run(&["forget", "app.terraform.io"]).prints("");
    sandbox.run(&["get", "app.terraform.io"]).prints("{}\n");
    sandbox.run(&["get", "localhost:8080"]).prints("{\"token\":\"other \\\"quoted\\\"\"}\n");
}

#[test]
fn a_cache_folder_that_is_a_file_is_an_error_for_forget() {
    let sandbox = Sandbox::new().configured(MANAGED);
    sandbox.write(".cache/stile", "");
    sandbox
        .run(&["forget", "registry.example.com"])
        .fails_with("cannot access `~/.cache/stile`: Not a directory (os error 20)");
}

#[test]
fn parallel_stores_keep_every_token() {
    let sandbox = Sandbox::new();
    let hosts: Vec<_> = (0..12).map(|number| format!("host-{number}.example")).collect();
    std::thread::scope(|scope| {
        for host in &hosts {
            let sandbox = &sandbox;
            scope.spawn(move || {
                sandbox
                    .run_with_stdin(&["store", host], &format!("{{\"token\":\"{host}\"}}"))
                    .prints("");
            });
        }
    });
    for host in &hosts {
        sandbox.run(&["get", host]).prints(&format!("{{\"token\":\"{host}\"}}\n"));
    }
}

#[test]
fn input_that_cannot_be_stored_is_rejected_and_changes_nothing() {
    let sandbox = Sandbox::new().configured(MANAGED);
    let before = sandbox.files();
    for (host, stdin, line) in [
        (
            "registry.example.com",
            "{\"token\":\"sekret\"}",
            "`registry.example.com` is a Stile registry, whose tokens come from AWS credentials; there is nothing to store",
        ),
        (
            "Registry.Example.com:443",
            "{\"token\":\"sekret\"}",
            "`Registry.Example.com:443` is a Stile registry, whose tokens come from AWS credentials; there is nothing to store",
        ),
        ("../../x", "{\"token\":\"sekret\"}", "`../../x` is not a host name"),
        (
            "a.example",
            "{\"token\":\"sekret\\r\\nx: y\"}",
            "stdin: `token` must be one line of text",
        ),
        ("a.example", "{\"token\":\"\"}", "stdin: `token` must be one line of text"),
    ] {
        sandbox.run_with_stdin(&["store", host], stdin).fails_with(line);
    }
    for stdin in [
        "",
        "garbage sekret",
        "{\"token\":\"sekret\",\"expires\":1}",
        "{\"tokens\":\"sekret\"}",
        "[\"sekret\"]",
    ] {
        let run = sandbox.run_with_stdin(&["store", "a.example"], stdin);
        assert_eq!(
            (run.stdout.as_str(), run.code, run.stderr.lines().count()),
            ("", 1, 1),
            "{stdin}"
        );
        assert!(
            run.stderr.starts_with("stile: stdin: ") && !run.stderr.contains("sekret"),
            "{}",
            run.stderr
        );
    }
    let long = format!("{{\"token\":\"{}\"}}", "x".repeat(4097));
    sandbox
        .run_with_stdin(&["store", "a.example"], &long)
        .fails_with("stdin: `token` is longer than 4096 bytes");
    assert_eq!(sandbox.files(), before);
}

/// Writes `tokens.json` so that only its owner may access it.
fn write_tokens(sandbox: &Sandbox, text: &str) {
    sandbox.write(".local/share/stile/tokens.json", text);
    let file = sandbox.path(".local/share/stile/tokens.json");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn stored_tokens_of_the_release_before_versions_are_read_and_kept() {
    let sandbox = Sandbox::new();
    write_tokens(&sandbox, include_str!("../fixtures/before-versions/tokens.json"));
    sandbox.run(&["get", "app.terraform.io"]).prints("{\"token\":\"first\"}\n");
    sandbox.run_with_stdin(&["store", "a.example"], "{\"token\":\"third\"}").prints("");
    sandbox.run(&["get", "app.terraform.io"]).prints("{\"token\":\"first\"}\n");
    assert_eq!(
        sandbox.read(".local/share/stile/tokens.json"),
        r#"{"$version":"1","a.example":"third","app.terraform.io":"first","localhost:8080":"second"}"#
    );
}

#[test]
fn stored_tokens_keep_what_a_newer_program_added() {
    let sandbox = Sandbox::new();
    write_tokens(
        &sandbox,
        r#"{"$later":[1],"$version":"1","a.example":{"token":"x"},"b.example":"y"}"#,
    );
    sandbox.run(&["get", "a.example"]).prints("{}\n");
    sandbox.run(&["get", "b.example"]).prints("{\"token\":\"y\"}\n");
    sandbox.run(&["forget", "b.example"]).prints("");
    assert_eq!(
        sandbox.read(".local/share/stile/tokens.json"),
        r#"{"$later":[1],"$version":"1","a.example":{"token":"x"}}"#
    );
}

#[test]
fn stored_tokens_of_a_newer_version_are_neither_used_nor_changed() {
    let version = env!("CARGO_PKG_VERSION");
    for (text, problem) in [
        (
            r#"{"$version":"99","a.example":"x"}"#,
            format!("has format version 99, and this program ({version}) supports version 1"),
        ),
        (
            r#"{"$crit":["$audience"],"$audience":"y","a.example":"x"}"#,
            format!(
                "requires support for `$audience`, which this program ({version}) does not have"
            ),
        ),
    ] {
        let sandbox = Sandbox::new();
        write_tokens(&sandbox, text);
        let before = sandbox.read(".local/share/stile/tokens.json");
        let line = format!(
            "`~/.local/share/stile/tokens.json` {problem}; \
             hint: use the newer version of `terraform-credentials-stile`"
        );
        let run = sandbox.run(&["get", "a.example"]);
        assert_eq!(
            (run.stdout.as_str(), run.stderr, run.code),
            ("{}\n", format!("stile: {line}\n"), 0)
        );
        sandbox.run_with_stdin(&["store", "a.example"], "{\"token\":\"z\"}").fails_with(&line);
        sandbox.run(&["forget", "a.example"]).fails_with(&line);
        assert_eq!(sandbox.read(".local/share/stile/tokens.json"), before);
    }
}

#[test]
fn stored_tokens_in_an_untrusted_file_are_not_used() {
    let sandbox = Sandbox::new();
    sandbox.run_with_stdin(&["store", "a.example"], "{\"token\":\"x\"}").prints("");
    let file = sandbox.path(".local/share/stile/tokens.json");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    sandbox.run(&["get", "a.example"]).prints("{}\n");
    sandbox.run_with_stdin(&["store", "b.example"], "{\"token\":\"y\"}").fails_with(
        "`~/.local/share/stile/tokens.json` is accessible to other users; hint: restrict it to its owner: `chmod 600 ~/.local/share/stile/tokens.json`",
    );
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    sandbox.run(&["get", "a.example"]).prints("{\"token\":\"x\"}\n");
    std::fs::rename(&file, sandbox.path("moved.json")).unwrap();
    symlink(sandbox.path("moved.json"), &file).unwrap();
    sandbox.run(&["get", "a.example"]).prints("{}\n");
    std::fs::remove_file(&file).unwrap();
    write_tokens(&sandbox, "{\"a.exa");
    sandbox
        .run(&["forget", "a.example"])
        .fails_with("`~/.local/share/stile/tokens.json` is damaged; hint: delete it, and run `terraform login` for its hosts again");
}
