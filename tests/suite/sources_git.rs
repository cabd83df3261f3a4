//! Real Terraform and git: a module in a repository, published by its tag, stays at the commit.

use stile_protocol::names::Permission::{Download, Upload};
use stile_tests::broker::operator::AsOperator as _;
use stile_tests::broker::served::Served;
use stile_tests::broker::{deploy, role};
use stile_tests::git_server::GitServer;
use stile_tests::process::programs::{ADMIN, HELPER, program};
use stile_tests::skipped::{skipped, tool};
use stile_tests::terraform::Terraform;

const INITIALIZED: &str = "Terraform has been successfully initialized!";

#[tokio::test]
async fn terraform_installs_the_commit_that_a_tag_had_when_it_was_published() {
    let shows = "Terraform installs a module from a git repository";
    let Some(file) = tool("terraform") else { return skipped("terraform", shows) };
    let Some(git) = tool("git") else { return skipped("git", shows) };
    let Some(served) = Served::start_on(super::BACKEND, |router| router).await else { return };
    let repository = GitServer::start(&git).await;
    let first = repository.commit("modules/net/main.tf", "# first\n");
    repository.tag("v1.0.0");
    served.test.grant(&role("deploy"), "acme", &[Download, Upload]).await;

    let mut home = served.home(&deploy());
    repository.trust(&mut home);
    let terraform = Terraform::new(&file, home);
    terraform.install_helper(&program(HELPER));
    let publish = async |version: &str, query: &str, more: &[&str]| {
        let source = format!("{}//modules/net{query}", repository.source());
        let words = ["module", "publish", "acme/net/aws", version, "--source", &source];
        let host = ["--registry-host", served.host()];
        let words: Vec<&str> = words.iter().chain(&host).chain(more).copied().collect();
        terraform.home.run(&program(ADMIN), &words).await
    };

    let refused = publish("1.0.0", "?ref=v1.0.0", &[]).await;
    assert_eq!(refused.code, Some(1), "the operator allows no source: {refused:?}");
    assert!(refused.stderr.contains("namespace `acme` does not allow this source"), "{refused:?}");
    let address = repository.source();
    let address = address.strip_suffix("/vpc").unwrap();
    let (store, now) = (served.test.store(), served.test.time());
    store.as_operator().allow_sources("acme", &[address], now).await.unwrap();
    let missing = publish("1.0.0", "?ref=v9.9.9", &[]).await;
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!(missing.stderr.contains("has no tag and no branch `v9.9.9`"), "{missing:?}");

    let pinned = format!("{}//modules/net?ref={first}", repository.source());
    let shown = publish("1.0.0", "?ref=v1.0.0", &["--dry-run"]).await;
    assert_eq!(shown.stdout, format!("would publish acme/net/aws 1.0.0 from {pinned}\n"));
    for status in ["published", "unchanged"] {
        let published = publish("1.0.0", "?ref=v1.0.0", &[]).await;
        assert_eq!(published.code, Some(0), "{published:?}");
        let expected = format!("{status} acme/net/aws 1.0.0 from {pinned}\n\nmodule \"net\" {{\n");
        assert!(published.stdout.starts_with(&expected), "{published:?}");
    }
    let kept = publish("1.1.0", "?ref=v1.0.0", &["--keep-ref"]).await;
    assert_eq!(kept.code, Some(0), "{kept:?}");
    let second = repository.commit("modules/net/main.tf", "# second\n");
    repository.tag("v1.0.0");
    assert_ne!(first, second);
    let conflict = publish("1.0.0", "?ref=v1.0.0", &[]).await;
    assert_eq!(conflict.code, Some(1), "the tag has another commit now: {conflict:?}");
    let branch = publish("1.2.0", "", &[]).await;
    assert_eq!(branch.code, Some(0), "the commit of the default branch: {branch:?}");

    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        let name = format!("net-{version}").replace('.', "-");
        terraform.write_module_call(&name, &served.source("acme/net/aws"), version);
    }
    let ran = terraform.init().await;
    assert!(ran.stdout.contains(INITIALIZED), "{ran:?}");
    let manifest =
        std::fs::read_to_string(terraform.configuration().join(".terraform/modules/modules.json"))
            .unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let says = |name: &str| {
        let modules = manifest["Modules"].as_array().unwrap();
        let found = modules.iter().find(|module| module["Key"] == name).unwrap();
        let folder = terraform.configuration().join(found["Dir"].as_str().unwrap());
        std::fs::read_to_string(folder.join("main.tf")).unwrap()
    };
    assert_eq!(says("net-1-0-0"), "# first\n", "the commit at its publication");
    assert_eq!(says("net-1-1-0"), "# second\n", "a tag that was kept moves");
    assert_eq!(says("net-1-2-0"), "# second\n");
}
