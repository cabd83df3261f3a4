//! Projects that write, and the lock that stops other writers: in a file, in a table, and across
//! the two.

use stile_tests::aws::proxy::AwsProxy;
use stile_tests::terraform::release::terraform_release;
use stile_tests::terraform::state_backend::{Backends, Project};

use super::{WITH_TABLE, WITHOUT_TABLE, encryption, initialised, project};

/// Clients with and without support for lock files, in one backend.
pub async fn in_a_table(backends: &Backends, proxy: &AwsProxy) {
    let old = project(backends, proxy, WITH_TABLE, "opentofu_before_1_10").await;
    let other = project(backends, proxy, WITH_TABLE, "opentofu_before_1_10").await;
    let new = project(backends, proxy, WITH_TABLE, "terraform_from_1_10").await;
    written(backends, WITH_TABLE, &old).await;
    locked_out(backends, proxy, WITH_TABLE, &old, &[&other, &new]).await;
    locked_out(backends, proxy, WITH_TABLE, &new, &[&old]).await;
    workspaces(backends, WITH_TABLE, &new).await;
    for (release, client) in [
        ("1.6", "terraform_before_1_10"),
        ("1.9", "terraform_before_1_10"),
        ("1.15", "terraform_from_1_10"),
    ] {
        let Some(program) =
            terraform_release(release, "a project's state by its snippet for that release")
        else {
            continue;
        };
        let older_or_newer = initialised(backends, WITH_TABLE, client, |snippet| {
            Project::run_by(&program, proxy, snippet)
        })
        .await;
        locked_out(backends, proxy, WITH_TABLE, &older_or_newer, &[&new]).await;
        locked_out(backends, proxy, WITH_TABLE, &new, &[&older_or_newer]).await;
        workspaces(backends, WITH_TABLE, &older_or_newer).await;
    }
}

/// Clients that all support lock files.
pub async fn in_a_file(backends: &Backends, proxy: &AwsProxy) {
    let first = project(backends, proxy, WITHOUT_TABLE, "terraform_from_1_10").await;
    written(backends, WITHOUT_TABLE, &first).await;
    let second = Project::new(proxy, "terraform {\n  backend \"s3\" {}\n}\n");
    second.write(
        "state.tfbackend",
        backends.output(WITHOUT_TABLE, "backend_config")["ledger"]["terraform_from_1_10"]
            .as_str()
            .unwrap(),
    );
    second.done(&["init", "-input=false", "-no-color", "-backend-config=state.tfbackend"]).await;
    locked_out(backends, proxy, WITHOUT_TABLE, &first, &[&second]).await;
    workspaces(backends, WITHOUT_TABLE, &second).await;
}

/// Checks that the module's own key encrypts each written object.
async fn written(backends: &Backends, namespace: &str, project: &Project) {
    assert_eq!(encryption(backends, namespace, "ledger/terraform.tfstate").await, None);
    let ran = project.apply("one").await;
    assert_eq!(ran.code, Some(0), "{}", ran.words());
    with_the_key(backends, namespace, "ledger/terraform.tfstate").await;
}

async fn with_the_key(backends: &Backends, namespace: &str, object: &str) {
    let expected = ("aws:kms".to_owned(), backends.text(namespace, "kms_key_arn").to_owned());
    assert_eq!(encryption(backends, namespace, object).await, Some(expected), "{object}");
}

/// While one client writes, no other can. The test holds the first one's call to S3 to make sure of
/// that.
async fn locked_out(
    backends: &Backends,
    proxy: &AwsProxy,
    namespace: &str,
    writer: &Project,
    others: &[&Project],
) {
    let state = format!("{}/ledger/terraform.tfstate", backends.text(namespace, "bucket"));
    let mut held = proxy.hold("PUT", &format!("/{state}"));
    let word = format!("word {}", proxy.calls().len());
    let mut writing = Box::pin(writer.apply(&word));
    tokio::select! {
        ran = &mut writing => panic!("the client ended before it wrote: {ran:?}"),
        () = held.arrived() => {}
    }
    for other in others {
        let ran = other.apply("of another").await;
        assert_eq!(ran.code, Some(1), "two clients wrote at once: {ran:?}");
        for part in ["Error acquiring the state lock", "Lock Info:", &format!("Path: {state}")] {
            assert!(ran.words().contains(part), "`{part}` is not in: {}", ran.words());
        }
    }
    if namespace == WITHOUT_TABLE {
        with_the_key(backends, namespace, "ledger/terraform.tfstate.tflock").await;
    }
    held.release();
    let ran = writing.await;
    assert_eq!(ran.code, Some(0), "{}", ran.words());
    assert_eq!(
        encryption(backends, namespace, "ledger/terraform.tfstate.tflock").await,
        None,
        "the client released the lock"
    );
}

/// Checks that a separate workspace is below the project's prefix, and that a client can delete it.
async fn workspaces(backends: &Backends, namespace: &str, project: &Project) {
    let object = "ledger/workspaces/dev/ledger/terraform.tfstate";
    project.done(&["workspace", "new", "-no-color", "dev"]).await;
    let ran = project.apply("in dev").await;
    assert_eq!(ran.code, Some(0), "{}", ran.words());
    with_the_key(backends, namespace, object).await;
    assert_eq!(listed(project).await, ["default", "* dev"]);
    project.done(&["workspace", "select", "-no-color", "default"]).await;
    let ran = project.run(&["workspace", "delete", "-no-color", "dev"]).await;
    assert!(ran.code == Some(1) && ran.words().contains("Workspace is not empty"), "{ran:?}");
    project.done(&["workspace", "delete", "-no-color", "-force", "dev"]).await;
    assert_eq!(listed(project).await, ["* default"]);
    assert_eq!(encryption(backends, namespace, object).await, None);
}

/// Returns the listed workspaces, without the warnings that some releases print among them.
async fn listed(project: &Project) -> Vec<String> {
    let printed = project.done(&["workspace", "list"]).await;
    let name = |line: &&str| {
        !line.is_empty()
            && line.trim_start_matches("* ").bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    printed.lines().map(str::trim).filter(name).map(str::to_owned).collect()
}
