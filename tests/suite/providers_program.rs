//! Providers as a publisher sees them: `stile-admin provider` against a registry, and what Terraform
//! then installs.

use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};

use serde_json::Value;
use stile_protocol::names::Permission::{CreateGrant, Download, Upload};
use stile_tests::broker::served::Served;
use stile_tests::broker::{deploy, role};
use stile_tests::process::home::{CommandOutput, Home, words};
use stile_tests::process::programs::{ADMIN, HELPER, program};
use stile_tests::skipped::{skipped, tool};
use stile_tests::terraform::Terraform;
use zip::write::SimpleFileOptions;

const MANIFEST: &str = r#"{"version":1,"metadata":{"protocol_versions":["5.0"]}}"#;

/// A registry, and a release job whose key is not registered yet.
pub(super) struct Stage {
    pub(super) served: Served,
    pub(super) job: Home,
}

/// Returns the path of a key of the fixtures.
pub(super) fn key(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/openpgp-private").join(name)
}

pub(super) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

impl Stage {
    pub(super) async fn start() -> Option<Self> {
        let served = Served::start_on(super::BACKEND, |router| router).await?;
        served.test.grant(&role("deploy"), "acme", &[CreateGrant, Download, Upload]).await;
        let job = served.home(&deploy());
        Some(Self { served, job })
    }

    /// Writes a folder as GoReleaser does, without a signature.
    pub(super) fn dist(&self, folder: &str, version: &str, platforms: &[&str]) -> String {
        let folder = self.job.path().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        let start = format!("terraform-provider-dns_{version}");
        std::fs::write(folder.join(format!("{start}_manifest.json")), MANIFEST).unwrap();
        for platform in platforms {
            let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
            let options = SimpleFileOptions::default().unix_permissions(0o755);
            zip.start_file(format!("terraform-provider-dns_v{version}"), options).unwrap();
            zip.write_all(format!("{version} {platform}").as_bytes()).unwrap();
            let bytes = zip.finish().unwrap().into_inner();
            std::fs::write(folder.join(format!("{start}_{platform}.zip")), bytes).unwrap();
        }
        text(&folder).to_owned()
    }

    /// Runs `stile-admin provider` in the job.
    pub(super) async fn provider(&self, arguments: &[&str]) -> CommandOutput {
        let host = ["--registry-host", self.served.host()];
        let arguments = [&["provider"][..], arguments, &host].concat();
        self.job.run(&program(ADMIN), &arguments).await
    }

    /// Runs it, and returns what it printed. It must succeed, and print nothing on stderr.
    pub(super) async fn done(&self, arguments: &[&str]) -> String {
        let ran = self.provider(arguments).await;
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{arguments:?}: {ran:?}");
        ran.stdout
    }

    /// Publishes a folder with the key of the fixtures, and returns the status.
    pub(super) async fn publish(&self, version: &str, folder: &str, secret: &str) -> String {
        let secret = key(secret);
        let words = ["publish", "acme/dns", version, folder, "--key", text(&secret)];
        let printed = self.done(&words).await;
        printed.split(' ').next().unwrap_or_default().to_owned()
    }
}

#[tokio::test]
async fn a_version_needs_a_registered_key_and_gets_its_platforms_one_after_another() {
    let Some(stage) = Stage::start().await else { return };
    let (secret, public) = (key("other.asc"), key("other.public.asc"));
    let first = stage.dist("first", "1.2.0", &["linux_amd64", "windows_386"]);
    let publish = ["publish", "acme/dns", "1.2.0", &first, "--key", text(&secret)];
    let refused = stage.provider(&publish).await;
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{refused:?}");
    assert!(
        refused.stderr.starts_with("error: `acme/dns` 1.2.0 was not published: "),
        "{refused:?}"
    );

    let add = ["keys", "add", text(&public), "--namespace", "acme"];
    assert!(stage.done(&add).await.starts_with("added key "), "the key is new");
    assert!(stage.done(&add).await.starts_with("unchanged key "), "the key is there");
    let listed = stage.done(&["keys", "list", "--namespace", "acme"]).await;
    assert!(listed.contains("active") && listed.contains("RSA 2048"), "{listed}");

    assert_eq!(stage.publish("1.2.0", &first, "other.asc").await, "published");
    assert_eq!(stage.publish("1.2.0", &first, "other.asc").await, "unchanged");
    let second = stage.dist("second", "1.2.0", &["darwin_arm64"]);
    assert_eq!(stage.publish("1.2.0", &second, "other.asc").await, "changed");
    assert_eq!(stage.publish("1.2.0", &second, "other.asc").await, "unchanged");
    assert_eq!(stage.publish("1.2.0", &first, "other.asc").await, "unchanged");
    let listed = stage.done(&["list", "acme/dns"]).await;
    let row = "acme/dns 1.2.0 5.0 darwin_arm64, linux_amd64, windows_386";
    assert_eq!(listed.lines().nth(1).map(words).as_deref(), Some(row), "{listed}");
    let listed = stage.done(&["list"]).await;
    assert!(listed.contains("acme/dns  1.2.0   "), "{listed}");

    // Other bytes for a platform are refused before anything is sent.
    let other = stage.dist("other", "1.2.0", &["linux_amd64"]);
    let name = "terraform-provider-dns_1.2.0_linux_amd64.zip";
    let bytes = std::fs::read(Path::new(&second).join(name.replace("linux_amd64", "darwin_arm64")));
    std::fs::write(Path::new(&other).join(name), bytes.unwrap()).unwrap();
    let refused =
        stage.provider(&["publish", "acme/dns", "1.2.0", &other, "--key", text(&secret)]).await;
    let sentence = "is published with other bytes for `linux_amd64`; hint: ";
    assert!(refused.code == Some(1) && refused.stderr.contains(sentence), "{refused:?}");
}

#[tokio::test]
async fn a_list_with_a_line_for_an_sbom_is_refused_and_the_file_itself_may_stay() {
    let Some(stage) = Stage::start().await else { return };
    let folder = stage.dist("dist", "1.0.0", &["linux_amd64"]);
    let zip = "terraform-provider-dns_1.0.0_linux_amd64.zip";
    let sums = Path::new(&folder).join("terraform-provider-dns_1.0.0_SHA256SUMS");
    let sha256 = "ab".repeat(32);
    std::fs::write(Path::new(&folder).join(format!("{zip}.sbom.json")), "{}").unwrap();
    std::fs::write(&sums, format!("{sha256}  {zip}\n{sha256}  {zip}.sbom.json\n")).unwrap();
    let secret = key("other.asc");
    let publish = ["publish", "acme/dns", "1.0.0", &folder, "--key", text(&secret), "--dry-run"];
    let refused = stage.provider(&publish).await;
    let sentence = format!("error: line 2 of `SHA256SUMS`: file `{zip}.sbom.json` must end in ");
    assert!(refused.code == Some(1) && refused.stderr.starts_with(&sentence), "{refused:?}");
    let hint = "; hint: in `.goreleaser.yml`, give the zip archives an `id`, ";
    assert!(refused.stderr.contains(hint), "{refused:?}");
    std::fs::remove_file(&sums).unwrap();
    let shown = stage.done(&publish).await;
    assert!(shown.starts_with("would publish acme/dns 1.0.0: 1 archive, "), "{shown}");
}

#[tokio::test]
async fn lost_archives_come_back_with_the_same_command_if_the_folder_has_them() {
    let Some(stage) = Stage::start().await else { return };
    stage.done(&["keys", "add", text(&key("other.public.asc")), "--namespace", "acme"]).await;
    let all = stage.dist("all", "1.0.0", &["darwin_arm64", "linux_amd64"]);
    let part = stage.dist("part", "1.0.0", &["darwin_arm64"]);
    assert_eq!(stage.publish("1.0.0", &all, "other.asc").await, "published");
    super::providers_again::lose_archives(&stage.served.test).await;
    let test = &stage.served.test;
    let token = test.token(&deploy(), &[Download]).await;
    let fetched = async |platform: &str| {
        let path = format!("/v1/providers/acme/dns/1.0.0/download/{platform}");
        let document = test.get(&path, &token).await.json();
        test.fetch(document["download_url"].as_str().unwrap()).await.0
    };
    // A folder without an archive answers 503, and a bucket 404.
    for (folder, has_linux) in [(&part, false), (&all, true)] {
        let word = stage.publish("1.0.0", folder, "other.asc").await;
        // Only in a bucket, the record of the version names the object that came back.
        assert!(["changed", "unchanged"].contains(&word.as_str()), "{word}");
        assert_eq!(fetched("darwin/arm64").await, 200);
        assert_eq!(fetched("linux/amd64").await == 200, has_linux);
    }
    assert_eq!(stage.publish("1.0.0", &all, "other.asc").await, "unchanged");
}

#[tokio::test]
async fn a_retired_key_signs_nothing_new_and_a_stolen_one_names_what_it_signed() {
    let Some(stage) = Stage::start().await else { return };
    for public in ["other.public.asc", "subkey.public.asc"] {
        stage.done(&["keys", "add", text(&key(public)), "--namespace", "acme"]).await;
    }
    let folder = stage.dist("one", "1.0.0", &["linux_amd64"]);
    assert_eq!(stage.publish("1.0.0", &folder, "other.asc").await, "published");
    let shown = stage.done(&["show", "acme/dns", "1.0.0"]).await;
    let id = shown.lines().find_map(|line| line.strip_prefix("signed by key")).unwrap().trim();
    let retired = stage.done(&["keys", "retire", id, "--namespace", "acme"]).await;
    assert_eq!(retired, format!("retired key {id} of acme\n"));
    let next = stage.dist("two", "2.0.0", &["linux_amd64"]);
    let secret = key("other.asc");
    let refused =
        stage.provider(&["publish", "acme/dns", "2.0.0", &next, "--key", text(&secret)]).await;
    assert!(refused.code == Some(1) && refused.stderr.contains("retired"), "{refused:?}");
    assert_eq!(stage.publish("2.0.0", &next, "subkey.asc").await, "published");

    let stolen = ["keys", "retire", id, "--compromised", "--namespace", "acme"];
    assert!(stage.done(&stolen).await.ends_with("\n  acme/dns 1.0.0\n"), "the version is named");
    assert_eq!(stage.publish("1.0.0", &folder, "subkey.asc").await, "changed");
    let json = stage.done(&["show", "acme/dns", "1.0.0", "--output", "json"]).await;
    let shown: Value = serde_json::from_str(&json).unwrap();
    assert_ne!(shown["key_id"], id);
}

#[tokio::test]
async fn terraform_installs_what_was_published_and_warns_of_a_yanked_version() {
    let shows = "that Terraform installs what `stile-admin provider publish` published";
    let Some(file) = tool("terraform") else { return skipped("terraform", shows) };
    let Some(stage) = Stage::start().await else { return };
    stage.done(&["keys", "add", text(&key("rsa4096.public.asc")), "--namespace", "acme"]).await;
    let folder = stage.dist("dist", "1.2.0", &["darwin_arm64", "linux_amd64", "linux_arm64"]);
    assert_eq!(stage.publish("1.2.0", &folder, "rsa4096.asc").await, "published");
    let shown = stage.done(&["show", "acme/dns"]).await;
    let id = shown.lines().find_map(|line| line.strip_prefix("signed by key")).unwrap().trim();
    let terraform = Terraform::new(&file, stage.served.home(&deploy()));
    terraform.install_helper(&program(HELPER));
    let source = stage.served.source("acme/dns");
    let main = format!(
        "terraform {{\n  required_providers {{\n    dns = {{ source = \"{source}\" }}\n  }}\n}}\n"
    );
    terraform.write_main(&main);
    let ran = terraform.init().await;
    assert!(ran.code == Some(0) && ran.stdout.contains(id), "{ran:?}");

    let said = ["yank", "acme/dns", "1.2.0", "--reason", "it deletes the wrong zone"];
    assert_eq!(stage.done(&said).await, "yanked acme/dns 1.2.0\n");
    let shown = stage.done(&["show", "acme/dns", "1.2.0"]).await;
    assert!(shown.contains("yanked") && shown.contains("it deletes the wrong zone"), "{shown}");
    let ran = terraform.init().await;
    let warned = ran.stdout.contains("it deletes the wrong zone");
    assert!(ran.code == Some(0) && warned, "{ran:?}");
    assert_eq!(stage.done(&["restore", "acme/dns", "1.2.0"]).await, "restored acme/dns 1.2.0\n");
}
