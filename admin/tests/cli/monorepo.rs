//! Tests of `module publish --all`: several modules of one folder, and their versions.

use std::collections::HashSet;
use std::process::Command;
use std::sync::Mutex;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::broker::{Broker, Request, http};
use crate::support::Machine;

const ALL: &str =
    "module publish --all mods --namespace acme --system aws --registry-host registry.example.com";

/// Accepts every archive, except those of the module `bad`. The first archive of a version is new.
fn registry() -> Broker {
    let published = Mutex::new(HashSet::new());
    Broker::new(move |_, request: &Request| {
        if request.line.contains("/bad/") {
            let body = json!({ "errors": ["it has other content; hint: publish the next one"] });
            return http("409 Conflict", "", &body.to_string());
        }
        let sha256 = hex::encode(Sha256::digest(&request.body));
        let is_new = published.lock().unwrap().insert(request.line.clone());
        let status = if is_new { "created" } else { "unchanged" };
        http("201 Created", "", &json!({ "sha256": sha256, "status": status }).to_string())
    })
}

fn with_modules(broker: &Broker, names: &[&str]) -> Machine {
    let machine = broker.machine().with("PATH", "/usr/local/bin:/usr/bin:/bin");
    for name in names {
        machine.write(&format!("mods/{name}/main.tf"), &format!("# {name}\n"));
    }
    machine.write("mods/README.md", "");
    machine.write("mods/docs/README.md", "");
    machine
}

fn git(machine: &Machine, arguments: &[&str]) {
    let done = Command::new("git")
        .args(["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"])
        .args(["-c", "tag.gpgsign=false", "-c", "init.defaultBranch=main"])
        .args(arguments)
        .current_dir(machine.path("mods"))
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Commits the modules, and tags the commit.
fn tagged(machine: &Machine, tags: &[&str]) {
    git(machine, &["init", "--quiet"]);
    git(machine, &["add", "."]);
    git(machine, &["commit", "--quiet", "--message", "a"]);
    for tag in tags {
        git(machine, &["tag", tag]);
    }
}

/// Returns the lines of a text without the digests.
fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split(" (sha256:").next().unwrap().to_owned()).collect()
}

#[test]
fn flags_that_do_not_fit_and_folders_without_modules_cause_no_request() {
    let broker = Broker::new(|_, _| panic!("the broker receives no request"));
    let machine = with_modules(&broker, &["vpc"]);
    let host = "--registry-host registry.example.com";
    for (arguments, code, expected) in [
        ("--all mods --namespace acme --version 1.0.0", 2, "--system <SYSTEM>"),
        ("--all mods --system aws --version 1.0.0", 2, "--namespace <NS>"),
        ("acme/vpc/aws 1.0.0 mods/vpc --namespace acme", 2, "--all"),
        ("acme/vpc/aws 1.0.0 mods/vpc --version 1.0.0", 2, "--all"),
        ("--all a b --namespace acme --system aws --version 1.0.0", 2, "`--all` takes a folder"),
        ("--all mods --namespace Acme --system aws --version 1.0.0", 2, "namespace `Acme` must"),
        ("--all mods --namespace acme --system a-b --version 1.0.0", 2, "system `a-b` must"),
        ("--all mods --namespace acme --system aws --version v1.0.0", 2, "version `v1.0.0` must"),
        ("--all missing --namespace acme --system aws --version 1.0.0", 2, "`missing` cannot be"),
        ("--all mods/vpc --namespace acme --system aws --version 1.0.0", 1, "has no folder with"),
        ("--all mods --namespace acme --system aws", 2, "git cannot tell the versions in `mods`"),
    ] {
        let run = machine.run(&format!("module publish {arguments} {host}"));
        assert_eq!((run.stdout.as_str(), run.code), ("", code), "{arguments}: {}", run.stderr);
        assert!(run.stderr.contains(expected), "{arguments}: {}", run.stderr);
    }
    let without_git = machine.with("PATH", "/nonexistent").run(ALL);
    assert_eq!(without_git.code, 2);
    assert!(without_git.stderr.contains("`git` is not installed; hint: use `--version`"));
    assert!(broker.requests().is_empty());
}

#[test]
fn a_module_that_fails_hides_no_other_and_the_exit_code_tells() {
    let broker = registry();
    let machine = with_modules(&broker, &["a", "bad", "Upper", "vpc"]);
    machine.write("mods/secret/main.tf", "");
    machine.write("mods/secret/.terraformrc", "");
    machine.write("mods/vpc/prod.tfvars", "a secret");
    let run = machine.run(&format!("{ALL} --version 1.2.0"));
    assert_eq!(lines(&run.stdout), ["published acme/a/aws 1.2.0", "published acme/vpc/aws 1.2.0"]);
    let [upper, bad, secret, skipped, end] = &run.stderr.lines().collect::<Vec<_>>()[..] else {
        panic!("{}", run.stderr)
    };
    assert!(upper.starts_with("error: `acme/Upper/aws`: module name `Upper` must be"), "{upper}");
    assert_eq!(
        *bad,
        "error: `acme/bad/aws` 1.2.0 was not published: it has other content; hint: publish the next one"
    );
    assert!(secret.starts_with("error: `acme/secret/aws`: `mods/secret` contains sec"), "{secret}");
    assert_eq!(*skipped, "notice: `acme/vpc/aws`: skipped prod.tfvars");
    assert!(end.starts_with("error: 3 of 5 modules failed; hint: run the same command"), "{end}");
    assert_eq!(run.code, 2, "a name that cannot be used is not a refusal");

    let refusals = with_modules(&registry(), &["a", "bad"]);
    let run = refusals.run(&format!("{ALL} --version 1.2.0 --output json"));
    assert_eq!(run.code, 1, "{}", run.stderr);
    let json: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(
        (&json[0]["status"], &json[0]["module"]),
        (&"published".into(), &"acme/a/aws".into())
    );
    assert_eq!((&json[1]["status"], &json[1]["version"]), (&"failed".into(), &"1.2.0".into()));
    assert_eq!(json[1]["error"]["error"], "refused");
    assert!(run.stderr.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
}

#[test]
fn without_a_token_every_module_fails_at_once_and_for_one_reason() {
    let broker = Broker::new(|_, _| panic!("the broker receives no request"));
    let machine = with_modules(&broker, &["a", "b"]);
    machine.write(
        ".config/stile/config.toml",
        "[registry.\"registry.example.com\"]\nurl = \"http://127.0.0.1:1\"\n",
    );
    let run = machine.run(&format!("{ALL} --version 1.2.0"));
    assert_eq!((run.stdout.as_str(), run.code, run.stderr.lines().count()), ("", 2, 1));
    assert!(run.stderr.starts_with("error: no token for `registry.example.com`"), "{}", run.stderr);
}

#[test]
fn a_repeated_command_changes_nothing_and_a_dry_run_sends_nothing() {
    let broker = registry();
    let machine = with_modules(&broker, &["a", "vpc"]);
    let all = format!("{ALL} --version 1.2.0");
    let dry = machine.done(&format!("{all} --dry-run"));
    assert_eq!(lines(&dry), ["would publish acme/a/aws 1.2.0", "would publish acme/vpc/aws 1.2.0"]);
    let json = machine.json(&format!("{all} --dry-run"));
    assert_eq!(
        (&json[1]["status"], json[1]["files"].as_array().unwrap().len()),
        (&"pending".into(), 1)
    );
    assert!(broker.requests().is_empty());
    for status in ["published", "unchanged"] {
        let expected =
            [format!("{status} acme/a/aws 1.2.0"), format!("{status} acme/vpc/aws 1.2.0")];
        assert_eq!(lines(&machine.done(&all)), expected);
    }
    let json = machine.json(&all);
    assert_eq!(json[1]["source"], "registry.example.com/acme/vpc/aws");
    assert_eq!(json.as_array().unwrap().len(), 2);
    let uploads = broker.requests().iter().filter(|it| it.line.contains("/modules/")).count();
    assert_eq!(uploads, 6);
}

#[test]
fn tags_that_name_no_version_or_several_publish_nothing() {
    for (tags, expected) in [
        (&[][..], "error: no tag points at HEAD, so no module has a version; hint: tag the commit"),
        (
            &["latest", "other/v1.0.0"],
            "error: the tags at HEAD name a version of no module: `latest`",
        ),
        (
            &["a-v1.0.0", "a-v1.1.0"],
            "error: `acme/a/aws`: the tags at HEAD name several versions of `a`",
        ),
    ] {
        let broker = registry();
        let machine = with_modules(&broker, &["a"]);
        tagged(&machine, tags);
        let run = machine.run(ALL);
        assert_eq!((run.stdout.as_str(), run.code), ("", 1), "{tags:?}: {}", run.stderr);
        assert!(run.stderr.starts_with(expected), "{tags:?}: {}", run.stderr);
        assert!(!broker.requests().iter().any(|request| request.line.contains("/modules/")));
    }
}

#[test]
fn a_tag_says_the_version_of_a_module_as_it_was_committed() {
    let broker = registry();
    let machine = with_modules(&broker, &["a", "b", "vpc"]);
    tagged(&machine, &["a/v1.2.0", "vpc-v2.0.0-rc.1"]);
    let run = machine.run(ALL);
    assert_eq!(
        lines(&run.stdout),
        ["published acme/a/aws 1.2.0", "published acme/vpc/aws 2.0.0-rc.1"]
    );
    assert_eq!(run.stderr, "notice: not published, because no tag at HEAD names a version: b\n");
    assert_eq!(run.code, 0);

    git(&machine, &["tag", "v3.0.0"]);
    machine.write("mods/vpc/new.tf", "");
    let run = machine.run(ALL);
    assert_eq!(lines(&run.stdout), ["unchanged acme/a/aws 1.2.0", "published acme/b/aws 3.0.0"]);
    let changed = "error: `acme/vpc/aws`: `mods/vpc` is not as in the tagged commit: `?? vpc/new.tf`; hint: commit or remove the changes, or use `--version`";
    assert_eq!(run.stderr.lines().next(), Some(changed));
    assert_eq!(run.code, 1);
    let flag = machine.run(&format!("{ALL} --version 4.0.0"));
    assert_eq!((flag.stdout.lines().count(), flag.code), (3, 0), "{}", flag.stderr);
}

#[test]
fn a_tag_says_no_version_of_files_that_are_in_no_commit() {
    for (disguise, expected) in [
        (
            &["ignored"][..],
            "`mods/vpc` has a file that is not in the tagged commit: `gen.tf`; hint: commit it",
        ),
        (&["update-index", "--assume-unchanged", "vpc/main.tf"], "`h vpc/main.tf`"),
        (&["update-index", "--skip-worktree", "vpc/main.tf"], "`S vpc/main.tf`"),
        (
            &["repository"],
            "`mods/own` has a file that is not in the tagged commit: `main.tf`; hint: commit it",
        ),
    ] {
        let broker = registry();
        let machine = with_modules(&broker, &["vpc"]);
        machine.write("mods/.gitignore", "gen.tf\n/own/\n");
        tagged(&machine, &["v1.0.0"]);
        match disguise {
            ["ignored"] => machine.write("mods/vpc/gen.tf", ""),
            ["repository"] => {
                machine.write("mods/own/main.tf", "");
                git(&machine, &["init", "--quiet", "own"]);
            }
            flags => {
                machine.write("mods/vpc/main.tf", "# other\n");
                git(&machine, flags);
            }
        }
        let run = machine.run(ALL);
        assert_eq!(run.code, 1, "{disguise:?}: {}", run.stderr);
        assert!(run.stderr.contains(expected), "{disguise:?}: {}", run.stderr);
    }
}

#[test]
fn a_file_that_is_neither_committed_nor_packed_does_not_matter() {
    let broker = registry();
    let machine = with_modules(&broker, &["vpc"]);
    machine.write("mods/.gitignore", "gen.tf\n.terraform/\n");
    machine.write("mods/vpc/.terraformignore", "gen.tf\n");
    tagged(&machine, &["v1.0.0"]);
    machine.write("mods/vpc/gen.tf", "");
    machine.write("mods/vpc/.terraform/modules/modules.json", "{}");
    let run = machine.run(ALL);
    assert_eq!(lines(&run.stdout), ["published acme/vpc/aws 1.0.0"], "{}", run.stderr);
}
