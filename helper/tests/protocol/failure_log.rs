//! Failures of `get` without a terminal: the private log, and the step summary of GitHub Actions.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use crate::support::{Sandbox, StubBroker, http, refusal, with_request_id};

const GET: [&str; 2] = ["get", "registry.example.com"];
const LOG: &str = ".cache/stile/get.log";
const TIME: &str = "2026-11-20T10:11:12Z";
const FAILURE: &str = "no token for `registry.example.com`: no grant for you; hint: ask its owner";

fn refusing() -> StubBroker {
    StubBroker::new(|_, _| {
        refusal("403 Forbidden", "no_grant", "no grant for you", Some("ask its owner"), TIME)
    })
}

/// Returns the lines of the log without their times.
fn logged(sandbox: &Sandbox) -> Vec<String> {
    let line = |line: &str| {
        let (time, failure) = line.split_once(' ').unwrap();
        time.parse::<chrono::DateTime<chrono::Utc>>().unwrap();
        failure.to_owned()
    };
    sandbox.read(LOG).lines().map(line).collect()
}

#[test]
fn a_log_or_summary_that_cannot_be_written_changes_nothing_for_terraform() {
    let broker = refusing();
    let file_for_folder = Sandbox::of(&broker);
    file_for_folder.write(".cache", "");
    let folder_for_log = Sandbox::of(&broker);
    std::fs::create_dir_all(folder_for_log.path(LOG)).unwrap();
    let folder_for_summary = Sandbox::of(&broker).with("GITHUB_STEP_SUMMARY", "/");
    let nowhere = Sandbox::of(&broker).with("GITHUB_STEP_SUMMARY", "/nonexistent/summary");
    for sandbox in [file_for_folder, folder_for_log, folder_for_summary, nowhere] {
        sandbox.run(&GET).fails_with(FAILURE);
    }
}

#[test]
fn a_log_that_another_user_could_have_planted_is_replaced() {
    let broker = refusing();
    let readable = Sandbox::of(&broker);
    readable.write(LOG, "planted\n");
    let link = Sandbox::of(&broker);
    link.write("elsewhere", "planted\n");
    link.write(".cache/stile/x", "");
    symlink(link.path("elsewhere"), link.path(LOG)).unwrap();
    for sandbox in [&readable, &link] {
        sandbox.run(&GET).fails_with(FAILURE);
        assert_eq!(logged(sandbox), [FAILURE]);
        let metadata = std::fs::symlink_metadata(sandbox.path(LOG)).unwrap();
        assert!(metadata.is_file() && metadata.permissions().mode() & 0o777 == 0o600);
    }
    assert_eq!(link.read("elsewhere"), "planted\n");
}

#[test]
fn the_log_and_the_summary_contain_no_secret() {
    let token = "IQoJb3JpZ2luX2VjEXAMPLE/".repeat(20);
    let broker = StubBroker::new(|_, request| {
        let body = request.json();
        let sent = body["session_token"].as_str().unwrap_or(&request.body);
        refusal(
            "403 Forbidden",
            "no_grant",
            &format!("you sent {sent}"),
            Some("stile_v4.local.x"),
            TIME,
        )
    });
    let sandbox = Sandbox::of(&broker).with("AWS_SESSION_TOKEN", &token);
    let summary = sandbox.path("summary").to_str().unwrap().to_owned();
    let sandbox = sandbox.with("GITHUB_STEP_SUMMARY", &summary);
    let run = sandbox.run(&GET);
    assert!(run.stderr.contains("you sent "), "{}", run.stderr);
    for text in [sandbox.read(LOG), sandbox.read("summary")] {
        assert!(text.contains("you sent "), "{text}");
        for secret in ["IQoJb3JpZ2lu", "wJalrXUtnFEMI", "stile_v4"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}

#[test]
fn each_failure_of_get_is_a_line_of_the_log_which_doctor_names() {
    let broker = refusing();
    let sandbox = Sandbox::of(&broker);
    for _ in 0..3 {
        sandbox.run(&GET).fails_with(FAILURE);
    }
    assert_eq!(logged(&sandbox), [FAILURE; 3]);
    let page = sandbox.run(&["doctor", "registry.example.com"]).stdout;
    let line = page.lines().find(|line| line.contains("get.log")).unwrap();
    assert!(line.starts_with("-    log of `get`: `~/.cache/stile/get.log`; last: 2"), "{line}");
    assert!(line.ends_with(FAILURE), "{line}");
}

#[test]
fn the_step_summary_has_each_failure_once_after_its_earlier_content() {
    let broker = refusing();
    let sandbox = Sandbox::of(&broker);
    sandbox.write("summary", "# Tests\n");
    let summary = sandbox.path("summary").to_str().unwrap().to_owned();
    let sandbox = sandbox.with("GITHUB_STEP_SUMMARY", &summary);
    for _ in 0..3 {
        sandbox.run(&GET).fails_with(FAILURE);
    }
    let expected =
        format!("# Tests\n### Terraform got no token\n\n```text\nstile: {FAILURE}\n```\n\n");
    assert_eq!(sandbox.read("summary"), expected);
}

#[test]
fn a_failure_with_another_request_id_is_a_line_of_the_log_but_no_other_entry_of_the_summary() {
    let broker = StubBroker::new(|number, _| {
        let failure =
            refusal("403 Forbidden", "no_grant", "no grant for you", Some("ask its owner"), TIME);
        with_request_id(&failure, &format!("id-{number}"))
    });
    let failure = |number: usize| {
        let id = format!("no grant for you (request id: id-{number})");
        FAILURE.replace("no grant for you", &id)
    };
    let sandbox = Sandbox::of(&broker);
    let summary = sandbox.path("summary").to_str().unwrap().to_owned();
    let sandbox = sandbox.with("GITHUB_STEP_SUMMARY", &summary);
    for number in 0..3 {
        sandbox.run(&GET).fails_with(&failure(number));
    }
    assert_eq!(logged(&sandbox), [0, 1, 2].map(failure));
    let first = failure(0);
    let expected = format!("### Terraform got no token\n\n```text\nstile: {first}\n```\n\n");
    assert_eq!(sandbox.read("summary"), expected);
}

#[test]
fn the_documented_lines_for_gitlab_copy_the_log_into_the_folder_of_the_project() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/quickstart.md");
    let page = std::fs::read_to_string(page).unwrap();
    let line = page.lines().find_map(|line| line.trim().strip_prefix("- cp ")).unwrap();
    assert!(page.contains("\n    when: on_failure\n    paths: [get.log]\n"));
    let broker = refusing();
    for (cache, log) in [(None, LOG), (Some("elsewhere"), "elsewhere/stile/get.log")] {
        let mut sandbox = Sandbox::of(&broker);
        sandbox.write("project/main.tf", "");
        let home = sandbox.path("").to_str().unwrap().to_owned();
        let mut script = Command::new("/bin/sh");
        script.args(["-euc", &format!("cp {line}")]).env_clear().env("PATH", "/usr/bin:/bin");
        script.env("HOME", &home).env("CI_PROJECT_DIR", sandbox.path("project"));
        if let Some(cache) = cache {
            let folder = sandbox.path(cache).to_str().unwrap().to_owned();
            script.env("XDG_CACHE_HOME", &folder);
            sandbox = sandbox.with("XDG_CACHE_HOME", &folder);
        }
        assert!(script.output().unwrap().status.success(), "a job without a failure goes on");
        sandbox.run(&GET).fails_with(FAILURE);
        assert!(script.output().unwrap().status.success());
        assert_eq!(sandbox.read("project/get.log"), sandbox.read(log));
        assert!(sandbox.read("project/get.log").ends_with(&format!("{FAILURE}\n")));
    }
}

#[test]
fn a_success_and_other_verbs_write_neither_log_nor_summary() {
    let broker = StubBroker::granting_every_token();
    let sandbox = Sandbox::of(&broker);
    let summary = sandbox.path("summary").to_str().unwrap().to_owned();
    let sandbox = sandbox.with("GITHUB_STEP_SUMMARY", &summary);
    assert_eq!(sandbox.run(&GET).code, 0);
    assert_eq!(sandbox.run(&["get", "registry.terraform.io"]).code, 0);
    let failing = StubBroker::new(|_, _| http("403 Forbidden", "", ""));
    let other = Sandbox::of(&failing).with("GITHUB_STEP_SUMMARY", &summary);
    assert_eq!(other.run(&["whoami", "registry.example.com"]).code, 1);
    assert!(!sandbox.path(LOG).exists() && !other.path(LOG).exists());
    assert!(!sandbox.path("summary").exists());
}
