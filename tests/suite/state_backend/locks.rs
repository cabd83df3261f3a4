//! Projects that write, and who is kept from writing meanwhile: in a file, in a table, and across the two.

use stile_tests::recorder::Recorder;
use stile_tests::state_backend::{Backends, Project};

use super::{WITH_TABLE, WITHOUT_TABLE, encryption, project};

/// Clients that know no lock file, and those that do, in one backend.
pub async fn in_a_table(backends: &Backends, recorder: &Recorder) {
    let old = project(backends, recorder, WITH_TABLE, "opentofu_before_1_10").await;
    let other = project(backends, recorder, WITH_TABLE, "opentofu_before_1_10").await;
    let new = project(backends, recorder, WITH_TABLE, "terraform_from_1_10").await;
    written(backends, WITH_TABLE, &old).await;
    locked_out(backends, recorder, WITH_TABLE, &old, &[&other, &new]).await;
    locked_out(backends, recorder, WITH_TABLE, &new, &[&old]).await;
    workspaces(backends, WITH_TABLE, &new).await;

    // The snippet for Terraform up to 1.9 names the role where later ones refuse it, which is why there are two.
    let snippet = backends.output(WITH_TABLE, "backend")["ledger"]["terraform_before_1_10"].as_str().unwrap();
    let ran = Project::new(recorder, snippet).run(&["init", "-input=false", "-no-color"]).await;
    assert!(ran.code == Some(0) || ran.words().contains("An argument named \"role_arn\" is not expected here."), "{ran:?}");
}

/// Clients that all know lock files.
pub async fn in_a_file(backends: &Backends, recorder: &Recorder) {
    let first = project(backends, recorder, WITHOUT_TABLE, "terraform_from_1_10").await;
    written(backends, WITHOUT_TABLE, &first).await;
    let second = Project::new(recorder, "terraform {\n  backend \"s3\" {}\n}\n");
    second.write("state.tfbackend", backends.output(WITHOUT_TABLE, "backend_config")["ledger"]["terraform_from_1_10"].as_str().unwrap());
    second.done(&["init", "-input=false", "-no-color", "-backend-config=state.tfbackend"]).await;
    locked_out(backends, recorder, WITHOUT_TABLE, &first, &[&second]).await;
    workspaces(backends, WITHOUT_TABLE, &second).await;
}

/// What is written is encrypted with the module's own key.
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

/// While one writes, which its call to S3 being held up makes sure of, nobody else does.
async fn locked_out(backends: &Backends, recorder: &Recorder, namespace: &str, writer: &Project, others: &[&Project]) {
    let state = format!("{}/ledger/terraform.tfstate", backends.text(namespace, "bucket"));
    let mut held = recorder.hold("PUT", &format!("/{state}"));
    let word = format!("word {}", others.len());
    let mut writing = Box::pin(writer.apply(&word));
    tokio::select! {
        ran = &mut writing => panic!("it ended before it wrote: {ran:?}"),
        () = held.arrived() => {}
    }
    for other in others {
        let ran = other.apply("of another").await;
        assert_eq!(ran.code, Some(1), "two wrote at once: {ran:?}");
        for part in ["Error acquiring the state lock", "Lock Info:", &format!("Path: {state}")] {
            assert!(ran.words().contains(part), "`{part}` is not in: {}", ran.words());
        }
    }
    if namespace == WITHOUT_TABLE {
        with_the_key(backends, namespace, "ledger/terraform.tfstate.tflock").await;
    }
    held.let_go();
    let ran = writing.await;
    assert_eq!(ran.code, Some(0), "{}", ran.words());
    assert_eq!(encryption(backends, namespace, "ledger/terraform.tfstate.tflock").await, None, "the lock was given back");
}

/// A workspace of its own is below the project's prefix, and can be deleted.
async fn workspaces(backends: &Backends, namespace: &str, project: &Project) {
    let object = "ledger/workspaces/dev/ledger/terraform.tfstate";
    project.done(&["workspace", "new", "-no-color", "dev"]).await;
    let ran = project.apply("in dev").await;
    assert_eq!(ran.code, Some(0), "{}", ran.words());
    with_the_key(backends, namespace, object).await;
    assert_eq!(project.done(&["workspace", "list"]).await.trim(), "default\n* dev");
    project.done(&["workspace", "select", "-no-color", "default"]).await;
    let ran = project.run(&["workspace", "delete", "-no-color", "dev"]).await;
    assert!(ran.code == Some(1) && ran.words().contains("Workspace is not empty"), "{ran:?}");
    project.done(&["workspace", "delete", "-no-color", "-force", "dev"]).await;
    assert_eq!(project.done(&["workspace", "list"]).await.trim(), "* default");
    assert_eq!(encryption(backends, namespace, object).await, None);
}
