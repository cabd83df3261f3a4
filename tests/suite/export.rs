//! The static export: what Terraform installs from its tree, and what a reader sees while it changes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use stile_protocol::names::Permission::{CreateGrant, Download, Upload};
use stile_tests::broker::served::{Served, system_time};
use stile_tests::broker::{deploy, module_zip, role};
use stile_tests::process::home::{CommandOutput, Home};
use stile_tests::process::programs::{ADMIN, client, program};
use stile_tests::provider::{TestRelease, TestSigner, add_key, publish};
use stile_tests::skipped::{skipped, tool};
use stile_tests::static_server::{Nginx, StaticServer};
use stile_tests::sts::identity::Identity;
use stile_tests::terraform::Terraform;

const PLATFORMS: [&str; 3] = ["darwin_arm64", "linux_amd64", "linux_arm64"];

/// A registry with one provider and one module, and a user who may only download.
struct Stage {
    served: Served,
    signer: TestSigner,
    token: String,
    reader: Home,
}

impl Stage {
    async fn start() -> Option<Self> {
        let served = Served::start_on(super::BACKEND, |router| router).await?;
        let rights = [CreateGrant, Download, Upload];
        served.test.grant(&role("deploy"), "acme", &rights).await;
        served.test.grant(&role("reader"), "acme", &[Download]).await;
        served.test.sts.add_identity(deploy());
        let token = served.test.token(&deploy(), &rights).await;
        let signer = TestSigner::new("acme", system_time() - 24 * 3600);
        assert_eq!(add_key(&served.test, "acme", &signer, &token).await.status, 201);
        let reader = served.home(&Identity::role("111122223333", "reader", "i-0abc"));
        let stage = Self { served, signer, token, reader };
        stage.provider("acme/dns", "1.0.0", &PLATFORMS).await;
        let zip = module_zip("exported");
        let reply = stage.served.test.publish("acme/vpc/aws", "1.0.0", zip, &stage.token).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        Some(stage)
    }

    /// Publishes a version of a provider.
    async fn provider(&self, address: &str, version: &str, platforms: &[&str]) {
        let release = TestRelease::new(address, version, platforms, &self.signer, system_time());
        let reply = publish(&self.served.test, &release, &self.token).await;
        assert!(reply.status.is_success(), "{}", reply.text());
    }

    fn tree(&self) -> PathBuf {
        self.reader.path().join("tree")
    }

    async fn run(&self, home: &Home, flags: &[&str]) -> CommandOutput {
        let words = ["export", "--out", "tree", "--registry-host", self.served.host()];
        home.run(&program(ADMIN), &[&words[..], flags].concat()).await
    }

    /// Exports, and returns the JSON that it printed.
    async fn export(&self) -> Value {
        let ran = self.run(&self.reader, &["--output", "json"]).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        serde_json::from_str(&ran.stdout).unwrap()
    }
}

fn main_of(host: &str, module: bool) -> String {
    let provider = format!(
        "terraform {{\n  required_providers {{\n    dns = {{ source = \"{host}/acme/dns\" }}\n  }}\n}}\n"
    );
    let module = match module {
        true => format!("module \"vpc\" {{\n  source = \"{host}/acme/vpc/aws\"\n}}\n"),
        false => String::new(),
    };
    provider + &module
}

/// Checks that Terraform initialized, and wrote the digest of every platform into the lock file.
fn installed(terraform: &Terraform, ran: &CommandOutput, tree: &Path) {
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let lock = terraform.configuration().join(".terraform.lock.hcl");
    let lock = fs::read_to_string(lock).unwrap();
    for platform in PLATFORMS {
        let name = format!("terraform-provider-dns_1.0.0_{platform}.zip");
        let zip = fs::read(tree.join("v1/providers/acme/dns/1.0.0/files").join(name)).unwrap();
        assert!(lock.contains(&format!("zh:{}", hex::encode(Sha256::digest(zip)))), "{lock}");
    }
}

#[tokio::test]
async fn a_principal_without_download_exports_nothing() {
    let Some(stage) = Stage::start().await else { return };
    let stranger = stage.served.home(&Identity::role("111122223333", "stranger", "i-0def"));
    for flags in [&[][..], &["--namespace", "acme"]] {
        let ran = stage.run(&stranger, flags).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
        assert!(!stranger.path().join("tree/v1").exists());
    }
}

#[tokio::test]
async fn any_static_server_of_the_tree_gives_terraform_the_provider() {
    let shows = "that Terraform installs a provider from a static export";
    let Some(file) = tool("terraform") else { return skipped("terraform", shows) };
    let Some(stage) = Stage::start().await else { return };
    let done = stage.export().await;
    assert_eq!((&done["archives"], &done["versions"]), (&4.into(), &2.into()), "{done}");
    let server = StaticServer::start(&stage.tree()).await;
    let terraform = Terraform::new(&file, server.home());
    terraform.write_main(&main_of(&server.host(), false));
    let ran = terraform.init().await;
    installed(&terraform, &ran, &stage.tree());
    assert!(ran.stdout.contains(&stage.signer.key_id()), "{ran:?}");
}

#[tokio::test]
async fn behind_nginx_with_the_snippet_terraform_installs_the_module_too() {
    let shows = "that Terraform installs a module from a static export";
    let Some(file) = tool("terraform") else { return skipped("terraform", shows) };
    let Some(nginx) = tool("nginx") else { return skipped("nginx", shows) };
    let Some(stage) = Stage::start().await else { return };
    stage.export().await;
    let server = Nginx::start(&nginx, &stage.tree());
    let terraform = Terraform::new(&file, server.home());
    terraform.write_main(&main_of(&server.host(), true));
    let ran = terraform.init().await;
    installed(&terraform, &ran, &stage.tree());
    let text = fs::read_to_string(terraform.installed("vpc").join("main.tf")).unwrap();
    assert!(text.contains("exported"), "{text}");

    // The media types are those of the list, and the files of the program itself are not served.
    let (files, host) = (server.files(), server.host());
    let client = client(Some(files));
    let get = async |path: &str| {
        let answer = client.get(format!("https://{host}/{path}")).send().await.unwrap();
        let media_type = answer.headers().get("content-type");
        let media_type = media_type.map_or("", |value| value.to_str().unwrap()).to_owned();
        (answer.status().as_u16(), media_type)
    };
    for (path, status, media_type) in [
        (".well-known/terraform.json", 200, "application/json"),
        ("v1/providers/acme/dns/versions", 200, "application/json"),
        ("v1/providers/acme/dns/1.0.0/download/linux/amd64", 200, "application/json"),
        ("v1/modules/acme/vpc/aws/versions", 200, "application/json"),
        ("v1/modules/acme/vpc/aws/1.0.0/archive.zip", 200, "application/zip"),
        ("v1/modules/acme/vpc/aws/1.0.0/download", 204, ""),
        ("v1/modules/acme/vpc/aws/9.9.9/download", 404, "text/html"),
        (".stile-export.json", 404, "text/html"),
        ("snippets/nginx.conf", 404, "text/html"),
        ("content-types.txt", 404, "text/html"),
    ] {
        assert_eq!(get(path).await, (status, media_type.to_owned()), "{path}");
    }
}

#[tokio::test]
async fn the_function_for_cloudfront_answers_with_the_place_of_each_module_and_passes_the_rest_on()
{
    let shows = "that the function for CloudFront adds the header for modules";
    let Some(node) = tool("node") else { return skipped("node", shows) };
    let Some(stage) = Stage::start().await else { return };
    stage.export().await;
    let function =
        fs::read_to_string(stage.tree().join("snippets/cloudfront-function.js")).unwrap();
    let module = "/v1/modules/acme/vpc/aws/1.0.0/download";
    let uris = [module, "/v1/modules/acme/vpc/aws/versions", "/constructor"];
    let calls = uris.map(|uri| format!("handler({{ request: {{ uri: '{uri}' }} }})")).join(", ");
    let script = format!("{function}\nconsole.log(JSON.stringify([{calls}]));\n");
    let ran = stage.reader.run(&node, &["-e", &script]).await;
    let answers: Value = serde_json::from_str(&ran.stdout).unwrap();
    let document = fs::read(stage.tree().join(&module[1..])).unwrap();
    let document: Value = serde_json::from_slice(&document).unwrap();
    assert_eq!(answers[0]["statusCode"], 204, "{ran:?}");
    assert_eq!(answers[0]["headers"]["x-terraform-get"]["value"], document["location"]);
    for (at, uri) in uris.iter().enumerate().skip(1) {
        assert_eq!(answers[at], serde_json::json!({ "uri": uri }), "{ran:?}");
    }
}

/// Reads each index of the tree, and then everything that it names. Returns the number of versions.
fn read_whole(tree: &Path) -> usize {
    let mut versions = 0;
    for address in ["acme/dns", "acme/web"] {
        let base = tree.join("v1/providers").join(address);
        let Ok(index) = fs::read(base.join("versions")) else { continue };
        let index: Value = serde_json::from_slice(&index).unwrap();
        for entry in index["versions"].as_array().unwrap() {
            versions += 1;
            for platform in entry["platforms"].as_array().unwrap() {
                let part = |name: &str| platform[name].as_str().unwrap().to_owned();
                let folder = base.join(entry["version"].as_str().unwrap()).join("download");
                let folder = folder.join(part("os"));
                let document = fs::read(folder.join(part("arch"))).unwrap();
                let document: Value = serde_json::from_slice(&document).unwrap();
                let file = |url: &str| fs::read(folder.join(document[url].as_str().unwrap()));
                let zip = hex::encode(Sha256::digest(file("download_url").unwrap()));
                assert_eq!(document["shasum"], zip);
                let sums = String::from_utf8(file("shasums_url").unwrap()).unwrap();
                assert!(sums.contains(&zip), "{sums}");
                assert!(!file("shasums_signature_url").unwrap().is_empty());
            }
        }
    }
    versions
}

/// Returns each file of the tree with the time of its last change.
fn modified(tree: &Path) -> BTreeMap<PathBuf, SystemTime> {
    let mut found = BTreeMap::new();
    let mut folders = vec![tree.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else {
                let time = entry.metadata().unwrap().modified().unwrap();
                found.insert(entry.strip_prefix(tree).unwrap().to_owned(), time);
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_changes_the_documents_of_its_provider_only_and_no_reader_sees_half_of_them() {
    let Some(stage) = Stage::start().await else { return };
    stage.provider("acme/web", "1.0.0", &["linux_amd64"]).await;
    let tree = stage.tree();
    let ended = Arc::new(AtomicBool::new(false));
    let reader = std::thread::spawn({
        let (tree, ended) = (tree.clone(), Arc::clone(&ended));
        move || {
            let mut most = 0;
            while !ended.load(Ordering::Relaxed) {
                most = read_whole(&tree).max(most);
                std::thread::yield_now();
            }
            most.max(read_whole(&tree))
        }
    });
    stage.export().await;
    let before = modified(&tree);
    let unchanged = stage.export().await;
    assert_eq!(
        (&unchanged["written"], &unchanged["removed"]),
        (&Value::Array(vec![]), &Value::Array(vec![]))
    );
    assert_eq!(modified(&tree), before);

    stage.provider("acme/dns", "1.1.0", &["linux_amd64"]).await;
    stage.export().await;
    let after = modified(&tree);
    let changed = after.iter().filter(|(path, time)| before.get(*path) != Some(time));
    for (path, _) in changed {
        let is_new = path.starts_with("v1/providers/acme/dns/1.1.0");
        assert!(is_new || path == Path::new("v1/providers/acme/dns/versions"), "{path:?}");
    }
    // A version that grows.
    stage.provider("acme/web", "1.0.0", &["linux_amd64", "darwin_arm64"]).await;
    let grown = stage.export().await;
    for path in grown["written"].as_array().unwrap() {
        assert!(path.as_str().unwrap().starts_with("v1/providers/acme/web/"), "{path}");
    }
    ended.store(true, Ordering::Relaxed);
    assert_eq!(reader.join().unwrap(), 3);
}
