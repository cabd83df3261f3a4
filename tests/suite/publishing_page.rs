//! The scripts of `docs/publishing.md`, run as a reader runs them.

use std::path::Path;

use stile_protocol::names::Permission::{Download, Upload};
use stile_tests::broker::served::Served;
use stile_tests::broker::{deploy, module_zip, role};
use stile_tests::process::home::{CommandOutput, Home};
use stile_tests::process::programs::{ADMIN, program};
use stile_tests::skipped::{skipped, tool};

/// Returns the shell script below a heading of the page.
fn script(heading: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/publishing.md");
    let page = std::fs::read_to_string(page).unwrap();
    let section = page.split(&format!("## {heading}\n")).nth(1).unwrap();
    let block = section.split("```sh\n").nth(1).unwrap();
    block.split("```").next().unwrap().to_owned()
}

/// Starts a registry with a grant for `deploy`. Returns it with a home in which the programs of this
/// project are on `PATH`.
async fn registry() -> (Served, Home) {
    let served = Served::start().await;
    served.test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    let mut home = served.home(&deploy());
    let mut folders = vec![program(ADMIN).parent().unwrap().to_owned()];
    folders.extend(std::env::split_paths(home.value("PATH").unwrap()));
    home.variable("PATH", std::env::join_paths(folders).unwrap());
    home.variable("STILE_HOST", served.host().to_owned());
    (served, home)
}

async fn run(home: &Home, script: &str) -> CommandOutput {
    home.run(Path::new("/bin/sh"), &["-c", script]).await
}

/// Returns the listed versions of `acme/vpc/aws`.
async fn listed(served: &Served) -> Vec<String> {
    let token = served.test.token(&deploy(), &[Download]).await;
    let reply = served.test.get("/v1/modules/acme/vpc/aws/versions", &token).await;
    let document = reply.json();
    let versions = document["modules"][0]["versions"].as_array().cloned().unwrap_or_default();
    versions.iter().map(|listed| listed["version"].as_str().unwrap().to_owned()).collect()
}

/// Commits a module that says this, and tags the commit.
const COMMIT: &str = r#"
printf 'output "says" {\n  value = "%s"\n}\n' "$says" > main.tf
git add main.tf
git -c user.name=x -c user.email=x@example.com commit --quiet --message "$says"
git tag "$tag"
"#;

#[tokio::test]
async fn the_loop_over_git_tags_publishes_each_version_and_is_safe_to_repeat() {
    if tool("git").is_none() {
        return skipped("git", "the loop over git tags");
    }
    let (served, mut home) = registry().await;
    let outside = run(&home, &script("Move in from git tags")).await;
    assert_ne!(outside.code, Some(0), "there is no git repository: {outside:?}");
    assert_eq!(run(&home, "git init --quiet .").await.code, Some(0));
    for (tag, says) in
        [("v1.0.0", "one"), ("v1.1.0", "two"), ("latest", "three"), ("v2.0.0-rc.1", "four")]
    {
        home.variable("tag", tag);
        home.variable("says", says);
        let ran = run(&home, &format!("set -eu\n{COMMIT}")).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
    let script = script("Move in from git tags");
    for outcome in ["published", "unchanged"] {
        let ran = run(&home, &script).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(ran.stdout.matches(outcome).count(), 3, "{ran:?}");
    }
    assert_eq!(listed(&served).await, ["1.0.0", "1.1.0", "2.0.0-rc.1"]);

    home.variable("tag", "v3");
    home.variable("says", "five");
    assert_eq!(run(&home, COMMIT).await.code, Some(0));
    let refused = run(&home, &script).await;
    assert_ne!(refused.code, Some(0), "{refused:?}");
    assert!(refused.stderr.contains("version `3` must have the form"), "{refused:?}");
}

#[tokio::test]
async fn the_loop_over_another_registry_copies_each_version() {
    for name in ["curl", "python3"] {
        if tool(name).is_none() {
            return skipped(name, "the loop over another registry");
        }
    }
    let (old, _) = registry().await;
    let publisher = old.test.token(&deploy(), &[Upload]).await;
    for version in ["1.0.0", "1.1.0"] {
        let archive = module_zip(version);
        let published = old.test.publish("acme/vpc/aws", version, archive, &publisher).await;
        assert_eq!(published.status, 201);
    }
    let (new, mut home) = registry().await;
    let both = home.path().join("both.pem");
    let certificates = [&old, &new].map(|served| std::fs::read(&served.files.ca).unwrap());
    std::fs::write(&both, certificates.concat()).unwrap();
    home.variable("SSL_CERT_FILE", &both);
    home.variable("CURL_CA_BUNDLE", &both);
    home.variable("OLD_TOKEN", old.test.token(&deploy(), &[Download]).await);
    let script = script("Move in from another registry").replace("old.example.com", old.host());
    let away = run(&home, &script.replace(old.host(), "127.0.0.1:9")).await;
    assert!(away.code != Some(0) && away.stderr.contains("127.0.0.1"), "{away:?}");
    let ran = run(&home, &script).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.stdout.matches("published").count(), 2, "{ran:?}");
    assert_eq!(listed(&new).await, ["1.0.0", "1.1.0"]);
}
