//! The Terraform modules without AWS: their format, validity and own tests, and their answers to
//! wrong variables.

use std::path::{Path, PathBuf};

use stile_tests::process::home::CommandOutput;
use stile_tests::process::programs::workspace;
use stile_tests::skipped::{skipped, tool};
use stile_tests::terraform::Terraform;
use stile_tests::terraform::provider::terraform_on;

/// Nothing listens on this address, so a call of AWS fails.
const NOWHERE: &str = "http://127.0.0.1:9";

/// Copies the modules to where Terraform runs, so that it writes nothing into the source tree.
pub(super) fn copy_infra(terraform: &Terraform) {
    copy(&workspace().join("infra"), &terraform.configuration().join("infra"));
}

pub(super) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, name) = (entry.path(), entry.file_name());
        if name.to_string_lossy().starts_with(".terraform") {
            continue;
        }
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else {
            std::fs::copy(path, to.join(name)).unwrap();
        }
    }
}

/// Returns every folder of configuration below `infra`.
pub(super) fn folders() -> Vec<PathBuf> {
    let infra = workspace().join("infra");
    let mut found = vec![PathBuf::from("registry"), PathBuf::from("state-backend")];
    for examples in ["registry/examples", "state-backend/examples", "examples"] {
        let mut names: Vec<_> = std::fs::read_dir(infra.join(examples))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        found.extend(names.into_iter().map(|name| Path::new(examples).join(name)));
    }
    found
}

async fn succeeds(terraform: &Terraform, folder: &Path, arguments: &[&str]) -> CommandOutput {
    let place = format!("-chdir=infra/{}", folder.display());
    let ran = terraform.run(&[&[place.as_str()], arguments, &["-no-color"]].concat()).await;
    assert_eq!(ran.code, Some(0), "{place} {arguments:?}: {}\n{}", ran.stdout, ran.stderr);
    ran
}

#[tokio::test]
async fn everything_is_formatted() {
    let Some(program) = tool("terraform") else {
        return skipped("terraform", "the modules are formatted");
    };
    let terraform = Terraform::new(&program, stile_tests::process::home::Home::temporary());
    copy_infra(&terraform);
    let ran = terraform.run(&["fmt", "-check", "-recursive", "-diff", "infra"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{ran:?}");
}

#[tokio::test]
async fn modules_and_examples_are_valid_and_the_registry_s_own_tests_hold() {
    let Some(mut terraform) = terraform_on(NOWHERE, "`terraform validate` and `terraform test`")
    else {
        return;
    };
    copy_infra(&terraform);
    for folder in folders() {
        succeeds(&terraform, &folder, &["init", "-backend=false", "-input=false"]).await;
    }
    let registry = Path::new("registry");
    let _provider =
        terraform.keep_provider(&terraform.configuration().join("infra").join(registry)).await;
    for folder in folders() {
        succeeds(&terraform, &folder, &["validate"]).await;
    }
    let ran = succeeds(&terraform, registry, &["test"]).await;
    assert!(ran.stdout.contains(" passed, 0 failed."), "{}", ran.stdout);
}
