//! Notices of the registry: on the terminal at most once a day, and never on stdout.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use serde_json::json;

use crate::support::{Sandbox, StubBroker, http, now, rfc3339};

const HOST: &str = "registry.example.com";
const FILE: &str = ".cache/stile/notice";
const NOTICE: &str = "`acme/vpc/aws` 1.2.0 is deprecated: use 1.3.0";

/// Runs a command with a terminal of its own, and prints what the terminal shows.
const ON_TERMINAL: &str =
    "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";

/// Grants every token, with these notices.
fn with_notices(notices: &'static [&'static str]) -> StubBroker {
    StubBroker::new(move |number, _| {
        let body = json!({
            "token": format!("stile_v4.local.number-{number}"),
            "expires_at": rfc3339(now() + chrono::TimeDelta::hours(1)),
            "principal": "aws:111122223333:role/deploy", "namespaces": "all",
            "permissions": ["download"], "notices": notices,
        });
        http("200 OK", "", &body.to_string())
    })
}

/// Runs `get` without a cached token, as Terraform does: stdout and stderr go elsewhere. Returns
/// what the terminal shows, stdout and stderr, or `None` without Python.
fn get_on_terminal(sandbox: &Sandbox) -> Option<(String, String, String)> {
    sandbox.run(&["forget", HOST]);
    let program = env!("CARGO_BIN_EXE_terraform-credentials-stile");
    let script = format!("'{program}' get {HOST} > out 2> err");
    let mut command = Command::new("python3");
    command.args(["-c", ON_TERMINAL, "/bin/sh", "-c", &script]);
    command.env_clear().envs(sandbox.variables()).env("PATH", "/usr/local/bin:/usr/bin:/bin");
    let shown = command.current_dir(sandbox.path("")).output().ok()?;
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    let shown = String::from_utf8(shown.stdout).unwrap();
    Some((shown, sandbox.read("out"), sandbox.read("err")))
}

#[test]
fn without_a_terminal_get_shows_no_notice_and_keeps_no_time() {
    let broker = with_notices(&[NOTICE]);
    let sandbox = Sandbox::of(&broker);
    sandbox.run(&["get", HOST]).prints("{\"token\":\"stile_v4.local.number-0\"}\n");
    assert!(!sandbox.path(FILE).exists());
}

#[test]
fn get_shows_one_notice_on_the_terminal_once_a_day() {
    let broker = with_notices(&[NOTICE, NOTICE]);
    let sandbox = Sandbox::of(&broker);
    let Some((shown, stdout, stderr)) = get_on_terminal(&sandbox) else { return };
    assert_eq!(shown.trim_end(), format!("stile: {NOTICE}"));
    assert_eq!(
        (stdout.as_str(), stderr.as_str()),
        ("{\"token\":\"stile_v4.local.number-0\"}\n", "")
    );
    let mode = std::fs::metadata(sandbox.path(FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let (shown, stdout, stderr) = get_on_terminal(&sandbox).unwrap();
    assert_eq!((shown.as_str(), stderr.as_str()), ("", ""));
    assert_eq!(stdout, "{\"token\":\"stile_v4.local.number-1\"}\n");
    let page = sandbox.run(&["doctor", HOST]).stdout;
    assert!(page.contains("has 1 token(s)"), "the file is not one of a token: {page}");

    std::fs::remove_file(sandbox.path(FILE)).unwrap();
    assert_eq!(get_on_terminal(&sandbox).unwrap().0.trim_end(), format!("stile: {NOTICE}"));
}

#[test]
fn a_notice_does_not_control_the_terminal_and_get_succeeds_if_the_time_cannot_be_kept() {
    let broker = with_notices(&["", "a\u{1b}[2J\u{202e}\nb"]);
    let sandbox = Sandbox::of(&broker);
    let Some((shown, ..)) = get_on_terminal(&sandbox) else { return };
    assert_eq!(shown.trim_end(), "stile: a [2J b");

    std::fs::remove_file(sandbox.path(FILE)).unwrap();
    std::fs::create_dir(sandbox.path(FILE)).unwrap();
    let (shown, stdout, stderr) = get_on_terminal(&sandbox).unwrap();
    assert_eq!((shown.as_str(), stderr.as_str()), ("", ""));
    assert_eq!(stdout, "{\"token\":\"stile_v4.local.number-1\"}\n");
}

#[test]
fn get_token_shows_each_notice_on_stderr() {
    let broker = with_notices(&["a\u{1b}[2Jb", "c"]);
    let run = Sandbox::of(&broker).run(&["get-token", "token", "--registry-host", HOST]);
    assert_eq!(run.stdout, "stile_v4.local.number-0\n");
    assert_eq!((run.stderr.as_str(), run.code), ("stile: a [2Jb\nstile: c\n", 0));
}
