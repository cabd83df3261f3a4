//! Real Terraform with a service token in a `credentials` block, and no AWS identity.

use std::fs;

use stile_protocol::names::Permission::{Download, Upload};
use stile_tests::broker::served::Served;
use stile_tests::broker::{deploy, module_zip, role};
use stile_tests::skipped::{skipped, tool};
use stile_tests::terraform::Terraform;

const INITIALIZED: &str = "Terraform has been successfully initialized!";

#[tokio::test]
async fn terraform_installs_with_a_service_token_in_a_block_until_it_is_revoked() {
    let Some(file) = tool("terraform") else {
        return skipped("terraform", "Terraform installs with a service token");
    };
    let Some(served) = Served::start_on(super::BACKEND, |router| router).await else { return };
    served.test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    let token = served.test.token(&deploy(), &[Upload]).await;
    let published = served.test.publish("acme/vpc/aws", "1.0.0", module_zip("hello"), &token);
    assert_eq!(published.await.status, 201);

    let mut terraform = Terraform::new(&file, served.home(&deploy()));
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"] {
        terraform.home.unset(name);
    }
    terraform.write_module_call("vpc", &served.source("acme/vpc/aws"), "1.0.0");
    let write = |token: &str| {
        let host = served.host();
        terraform.write_rc(&format!("credentials \"{host}\" {{\n  token = \"{token}\"\n}}\n"));
    };
    let elsewhere = served.test.issue("elsewhere", &["tools"], &[Download]).await;
    write(&elsewhere.token);
    let ran = terraform.init().await;
    assert!(!ran.stdout.contains(INITIALIZED), "it is for another namespace: {ran:?}");

    let issued = served.test.issue("ci", &["acme"], &[Download]).await;
    write(&issued.token);
    let sts = served.test.sts.calls();
    let ran = terraform.init().await;
    assert!(ran.stdout.contains(INITIALIZED), "{ran:?}");
    assert_eq!(served.test.sts.calls(), sts, "a service token costs no call of STS");

    assert!(served.test.revoke_service_token(&issued.id).await);
    served.test.advance(10);
    fs::remove_dir_all(terraform.configuration().join(".terraform")).unwrap();
    let ran = terraform.init().await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.words().contains("401 Unauthorized"), "{ran:?}");
}
