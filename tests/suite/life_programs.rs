//! The life of a version as people see it: published by a CI job, deprecated, unpublished and
//! restored with `stile-admin`, and what Terraform and the helper's `check` then show.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use stile_protocol::names::Permission::{Download, Upload};
use stile_tests::broker::served::Served;
use stile_tests::broker::{deploy, role};
use stile_tests::process::home::{CommandOutput, Home, words};
use stile_tests::process::programs::{ADMIN, HELPER, program};
use stile_tests::skipped::{skipped, tool};
use stile_tests::sts::identity::Identity;
use stile_tests::terraform::Terraform;
use stile_tests::terraform::release::{RELEASES, terraform_release};

const INITIALIZED: &str = "Terraform has been successfully initialized!";

const MODULE: &str = "acme/vpc/aws";

/// Runs a program on a terminal of its own, and prints what the terminal shows.
const ON_A_TERMINAL: &str =
    "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";

/// A registry with the versions 1.0.0 and 1.1.0 of one module, which a job of GitHub Actions
/// published with `stile-admin`.
struct Stage {
    served: Served,
    file: PathBuf,
    job: Home,
}

impl Stage {
    /// Returns `None` if a tool is missing.
    async fn start(shows: &str) -> Option<Self> {
        let Some(file) = tool("terraform") else {
            skipped("terraform", shows);
            return None;
        };
        let served = Served::start_on(super::BACKEND, |router| router).await?;
        served.test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
        served.test.grant(&role("reader"), "acme", &[Download]).await;
        let mut job = served.home(&deploy());
        for (name, value) in [
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_SERVER_URL", "https://bot:hunter2@github.com"),
            ("GITHUB_REPOSITORY", "acme/vpc"),
            ("GITHUB_SHA", "8b0c3c5e0f6a4b1d9c7e2f3a4d5b6c7d8e9f0a1b"),
            ("GITHUB_RUN_ID", "42"),
        ] {
            job.variable(name, value);
        }
        let stage = Self { served, file, job };
        for version in ["1.0.0", "1.1.0"] {
            let folder = stage.job.path().join(version);
            std::fs::create_dir(&folder).unwrap();
            let text = format!("output \"says\" {{\n  value = \"{version}\"\n}}\n");
            std::fs::write(folder.join("main.tf"), text).unwrap();
            let published = stage.admin(&["publish", MODULE, version, version]).await;
            let block =
                format!("source  = \"{}\"\n  version = \"{version}\"", stage.served.source(MODULE));
            let start = format!("published {MODULE} {version} (sha256:");
            assert!(published.starts_with(&start) && published.contains(&block), "{published}");
        }
        Some(stage)
    }

    /// Runs `stile-admin module` in the job. It must succeed, and print nothing on stderr.
    async fn admin(&self, arguments: &[&str]) -> String {
        let host = ["--registry-host", self.served.host()];
        let arguments = [&["module"][..], arguments, &host].concat();
        let ran = self.job.run(&program(ADMIN), &arguments).await;
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{arguments:?}: {ran:?}");
        ran.stdout
    }

    /// Returns the lines of `module show` for 1.1.0, without the spaces between their columns.
    async fn shown(&self) -> Vec<String> {
        let page = self.admin(&["show", MODULE, "1.1.0"]).await;
        page.lines().map(words).collect()
    }

    /// Prepares Terraform for a user who may only download, with a call of the module.
    fn user(&self, version: &str) -> Terraform {
        self.user_of(&self.file, version)
    }

    /// Does the same with another program.
    fn user_of(&self, program_file: &Path, version: &str) -> Terraform {
        let home = self.served.home(&Identity::role("111122223333", "reader", "i-0abc"));
        let terraform = Terraform::new(program_file, home);
        terraform.install_helper(&program(HELPER));
        terraform.write_module_call("vpc", &self.served.source(MODULE), version);
        terraform
    }

    /// Returns what the helper's `check` prints for a module of this version.
    fn table(&self, rows: &[&str]) -> Vec<String> {
        let row = |row: &&str| format!("{} {row}", self.served.source(MODULE));
        rows.iter().map(row).collect()
    }
}

/// Runs the helper's `check`, and returns the rows of its table, without the spaces between their
/// columns.
async fn check(terraform: &Terraform) -> (CommandOutput, Vec<String>) {
    let folder = terraform.configuration();
    let arguments = ["check", folder.to_str().unwrap()];
    let ran = terraform.home.run(&program(HELPER), &arguments).await;
    let rows = ran.stdout.lines().skip(1).map(words).collect();
    (ran, rows)
}

fn says(terraform: &Terraform) -> String {
    std::fs::read_to_string(terraform.installed("vpc").join("main.tf")).unwrap_or_default()
}

/// Checks that Terraform installed this version.
fn installed(terraform: &Terraform, ran: &CommandOutput, version: &str) {
    assert!(ran.code == Some(0) && ran.stdout.contains(INITIALIZED), "{ran:?}");
    assert!(says(terraform).contains(&format!("\"{version}\"")), "{}", says(terraform));
}

#[tokio::test]
async fn each_program_shows_a_version_that_is_deprecated_unpublished_and_restored() {
    let shows = "what Terraform and `check` show of a version that is taken back";
    let Some(stage) = Stage::start(shows).await else { return };
    let early = stage.user("1.1.0");
    installed(&early, &early.init().await, "1.1.0");
    assert!(stage.shown().await.contains(&"state published".to_owned()));
    let (ran, rows) = check(&early).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert_eq!(rows, stage.table(&["1.1.0 published"]));

    let reason = "it opens port 22";
    let said = ["--reason", reason, "--link", "https://wiki.example.com/vpc"];
    let said = [&said[..], &["--replacement", "1.0.0"]].concat();
    let deprecated = stage.admin(&[&["deprecate", MODULE, "1.1.0"][..], &said].concat()).await;
    assert_eq!(deprecated, "deprecated acme/vpc/aws 1.1.0\n");
    let shown = stage.shown().await;
    for line in [
        "state deprecated".to_owned(),
        "reason it opens port 22".to_owned(),
        "link https://wiki.example.com/vpc".to_owned(),
        "use instead 1.0.0".to_owned(),
        format!("by {}", role("deploy")),
    ] {
        assert!(shown.contains(&line), "`{line}` is not in {shown:?}");
    }
    let new = stage.user("~> 1.0");
    let ran = new.init().await;
    installed(&new, &ran, "1.1.0");
    assert!(!ran.words().contains("deprecated"), "Terraform does not show it: {ran:?}");
    let advice = "1.0.0 it opens port 22 (https://wiki.example.com/vpc)";
    for terraform in [&early, &new] {
        let (ran, rows) = check(terraform).await;
        let warning = "stile: 1 installed version is deprecated\n";
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), warning));
        assert_eq!(rows, stage.table(&[&format!("1.1.0 deprecated {advice}")]));
    }

    let said = ["--reason", "it deletes the wrong bucket"];
    let unpublished = stage.admin(&[&["unpublish", MODULE, "1.1.0"][..], &said].concat()).await;
    assert_eq!(unpublished, "unpublished acme/vpc/aws 1.1.0\n");
    let shown = stage.shown().await;
    for line in ["state unpublished", "reason it deletes the wrong bucket"] {
        assert!(shown.contains(&line.to_owned()), "`{line}` is not in {shown:?}");
    }
    let (ran, rows) = check(&early).await;
    let failure = "stile: 1 installed version is unpublished\n";
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), failure));
    assert_eq!(rows, stage.table(&["1.1.0 unpublished it deletes the wrong bucket"]));
    installed(&early, &early.init().await, "1.1.0");
    let validated = early.run(&["validate", "-no-color"]).await;
    assert_eq!(validated.code, Some(0), "what is installed goes on working: {validated:?}");
    let pinned = stage.user("1.1.0");
    let refused = pinned.init().await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    for part in ["There is no available version", "The newest available version is 1.0.0."] {
        assert!(refused.words().contains(part), "`{part}` is not in {}", refused.words());
    }
    assert_eq!(says(&pinned), "");
    let ranged = stage.user("~> 1.0");
    installed(&ranged, &ranged.init().await, "1.0.0");

    assert_eq!(stage.admin(&["restore", MODULE, "1.1.0"]).await, "restored acme/vpc/aws 1.1.0\n");
    assert!(stage.shown().await.contains(&"state deprecated".to_owned()), "as before");
    let undeprecated = stage.admin(&["undeprecate", MODULE, "1.1.0"]).await;
    assert_eq!(undeprecated, "undeprecated acme/vpc/aws 1.1.0\n");
    let shown = stage.shown().await;
    assert!(shown.contains(&"state published".to_owned()), "{shown:?}");
    assert!(!shown.iter().any(|line| line.starts_with("reason")), "{shown:?}");
    installed(&pinned, &pinned.init().await, "1.1.0");
    for terraform in [&early, &pinned] {
        let (ran, rows) = check(terraform).await;
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
        assert_eq!(rows, stage.table(&["1.1.0 published"]));
    }
}

#[tokio::test]
async fn who_installed_a_version_that_is_deprecated_reads_one_line_a_day_on_the_terminal() {
    let shows = "the helper's line about a deprecated version on Terraform's terminal";
    let Some(python) = tool("python3") else { return skipped("python3", shows) };
    let Some(stage) = Stage::start(shows).await else { return };
    let user = stage.user("~> 1.0");
    let on_a_terminal = async || {
        // A new token, as the next day.
        let forgotten = user.home.run(&program(HELPER), &["forget", stage.served.host()]).await;
        assert_eq!(forgotten.code, Some(0), "{forgotten:?}");
        let folder = user.configuration();
        let _absent = std::fs::remove_dir_all(folder.join(".terraform"));
        let mut command = user.home.command(&python, ["-c", ON_A_TERMINAL]);
        command.arg(&stage.file).args(["init", "-input=false", "-no-color"]).current_dir(folder);
        let ran = CommandOutput::of(command).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(words(&ran.stdout).contains(INITIALIZED), "{ran:?}");
        words(&ran.stdout)
    };
    let line = "is deprecated: it opens port 22; use `1.0.0`";
    assert!(!on_a_terminal().await.contains("stile: "), "nothing is deprecated");
    let deprecate = ["deprecate", MODULE, "1.1.0", "--reason", "it opens port 22"];
    stage.admin(&[&deprecate[..], &["--replacement", "1.0.0"]].concat()).await;
    let shown = on_a_terminal().await;
    let start = "stile: `acme/vpc/aws` 1.1.0, which you fetched on 20";
    assert_eq!((shown.matches(start).count(), shown.matches(line).count()), (1, 1), "{shown}");
    let again = on_a_terminal().await;
    assert!(!again.contains("stile: "), "one line a day: {again}");
}

#[tokio::test]
async fn what_a_job_says_about_a_version_is_named_as_claimed_and_who_published_it_is_not() {
    let shows = "the provenance of a version of a job of GitHub Actions";
    let Some(stage) = Stage::start(shows).await else { return };
    let shown = stage.shown().await;
    let commit = "8b0c3c5e0f6a4b1d9c7e2f3a4d5b6c7d8e9f0a1b";
    for line in [
        format!("published by {}", role("deploy")),
        "environment (claimed) github-actions".to_owned(),
        "repository (claimed) https://github.com/acme/vpc".to_owned(),
        format!("commit (claimed) {commit}"),
        "run (claimed) https://github.com/acme/vpc/actions/runs/42".to_owned(),
    ] {
        assert!(shown.contains(&line), "`{line}` is not in {shown:?}");
    }
    let token = stage.served.test.token(&deploy(), &[Download]).await;
    let listed = stage.served.test.get(&format!("/v1/modules/{MODULE}/versions"), &token).await;
    assert_eq!(listed.json()["modules"][0]["source"], "https://github.com/acme/vpc");
    let path = format!("/v1/modules/{MODULE}/1.1.0");
    let reply = stage.served.test.get(&path, &token).await;
    assert!(!reply.text().contains("hunter2"), "{}", reply.text());
    let provenance = reply.json()["provenance"].clone();
    let claimed = json!({
        "environment": "github-actions", "repository": "https://github.com/acme/vpc",
        "commit": commit, "run": "https://github.com/acme/vpc/actions/runs/42",
    });
    assert_eq!(provenance["claimed"], claimed);
    assert_eq!(provenance["published_by"], role("deploy"));
    for name in ["token_id", "published_at", "sha256", "bytes", "format"] {
        assert_ne!(provenance[name], Value::Null, "{name}");
    }

    // Every client reads the list with the repository.
    for release in RELEASES {
        let shows = "it reads a list of versions with the repository of the module";
        let Some(file) = terraform_release(release, shows) else { return };
        let earlier = stage.user_of(&file, "~> 1.0");
        let ran = earlier.init().await;
        assert_eq!(ran.code, Some(0), "Terraform {release}: {ran:?}");
        installed(&earlier, &ran, "1.1.0");
    }

    // A person claims nothing.
    let folder = stage.job.path().join("1.0.0");
    let person = stage.served.home(&deploy());
    let words = ["module", "publish", MODULE, "1.2.0", folder.to_str().unwrap()];
    let words = [&words[..], &["--registry-host", stage.served.host()]].concat();
    assert_eq!(person.run(&program(ADMIN), &words).await.code, Some(0));
    let plain = stage.admin(&["show", MODULE, "1.2.0"]).await;
    assert!(plain.contains(&role("deploy")) && !plain.contains("(claimed)"), "{plain}");
}
