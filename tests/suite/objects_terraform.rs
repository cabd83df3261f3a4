//! Real Terraform and `stile-admin`: a module whose archive is an object of another bucket.

use sha2::{Digest, Sha256};
use stile_protocol::names::Permission::{Download, Upload};
use stile_tests::aws::source_bucket::SourceBucket;
use stile_tests::broker::operator::AsOperator as _;
use stile_tests::broker::served::Served;
use stile_tests::broker::{deploy, module_zip, role};
use stile_tests::process::programs::{ADMIN, HELPER, program};
use stile_tests::skipped::{skipped, tool};
use stile_tests::terraform::Terraform;

const INITIALIZED: &str = "Terraform has been successfully initialized!";

#[tokio::test]
async fn terraform_installs_an_object_as_it_was_published_and_never_another() {
    let shows = "Terraform installs an object of another bucket";
    let Some(file) = tool("terraform") else { return skipped("terraform", shows) };
    let Some((served, aws)) = Served::start_with_buckets(super::BACKEND).await else { return };
    served.test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    let home = served.home(&deploy());
    let terraform = Terraform::new(&file, home);
    terraform.install_helper(&program(HELPER));
    let archive = module_zip("first");
    let sha256 = hex::encode(Sha256::digest(&archive));
    let named = "own/terraform-module_acme_plain_aws_v1.0.0.zip";
    let versioned = SourceBucket::create(&aws, "versioned", true).await;
    let plain = SourceBucket::create(&aws, "plain", false).await;
    versioned.put("own/vpc", archive.clone()).await;
    plain.put(named, archive.clone()).await;
    let publish = async |words: &[&str], object: &str| {
        let host = ["--object", object, "--sha256", &sha256, "--registry-host", served.host()];
        let words = [&["module", "publish"], words, &host].concat();
        terraform.home.run(&program(ADMIN), &words).await
    };

    let object = versioned.address("own/vpc");
    let refused = publish(&["acme/vpc/aws", "1.0.0"], &object).await;
    assert_eq!(refused.code, Some(1), "the operator allows no object: {refused:?}");
    assert!(refused.stderr.contains("does not allow this object"), "{refused:?}");
    let (store, now) = (served.test.store(), served.test.time());
    for bucket in [&versioned, &plain] {
        let prefix = bucket.address("own");
        store.as_operator().allow_objects("acme", &[&prefix], now).await.unwrap();
    }
    for status in ["published", "unchanged"] {
        let published = publish(&["acme/vpc/aws", "1.0.0"], &object).await;
        assert_eq!(published.code, Some(0), "{published:?}");
        assert!(published.stdout.starts_with(&format!("{status} acme/vpc/aws 1.0.0 ")));
        assert!(published.stdout.contains("module \"vpc\" {\n"), "{published:?}");
    }
    let published = publish(&[], &plain.address(named)).await;
    assert_eq!(published.code, Some(0), "the name says which version it is: {published:?}");

    for name in ["vpc", "plain"] {
        let source = served.source(&format!("acme/{name}/aws"));
        terraform.write_module_call(name, &source, "1.0.0");
    }
    versioned.put("own/vpc", module_zip("second")).await;
    let ran = terraform.init().await;
    assert!(ran.stdout.contains(INITIALIZED), "{ran:?}");
    for name in ["vpc", "plain"] {
        let text = std::fs::read_to_string(terraform.installed(name).join("main.tf")).unwrap();
        assert!(text.contains("first"), "{name}: {text}");
    }

    // In the bucket without versions, the new object takes the place of the published one.
    plain.put(named, module_zip("second")).await;
    let other = Terraform::new(&file, served.home(&deploy()));
    other.install_helper(&program(HELPER));
    other.write_module_call("plain", &served.source("acme/plain/aws"), "1.0.0");
    let ran = other.init().await;
    assert_ne!(ran.code, Some(0), "{ran:?}");
    let words = ran.words();
    assert!(words.contains("the object of `acme/plain/aws` 1.0.0 changed"), "{words}");
    assert!(!other.configuration().join(".terraform/modules/plain").exists(), "{words}");
}
