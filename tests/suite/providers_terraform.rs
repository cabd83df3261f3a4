//! Real Terraform and the provider registry: what it installs, the lock file that it writes, and
//! what a user reads.

use std::path::Path;

use stile_tests::provider::dist::{PLATFORMS, ProviderDist};
use stile_tests::provider::plugin::{PLATFORM, real_dist};
use stile_tests::terraform::Terraform;
use stile_tests::terraform::release::{RELEASES, terraform_release};

use crate::providers_stage::{INITIALIZED, Stage};

/// Returns the lock file of a configuration.
fn lock_file(terraform: &Terraform) -> String {
    std::fs::read_to_string(terraform.configuration().join(".terraform.lock.hcl")).unwrap()
}

/// Checks that a lock file has the `zh:` hash of every platform, and that many `h1:` hashes.
fn locked(lock: &str, dist: &ProviderDist, unpacked: usize) {
    for platform in dist.zips.keys() {
        assert!(lock.contains(&format!("\"zh:{}\"", dist.sha256(platform))), "{platform}: {lock}");
    }
    assert_eq!(lock.matches("\"h1:").count(), unpacked, "{lock}");
}

/// Runs commands of Terraform, which must succeed. Returns the output of the last.
async fn runs(terraform: &Terraform, arguments: &[&str]) -> String {
    let ran = terraform.run(arguments).await;
    assert_eq!(ran.code, Some(0), "{arguments:?}: {ran:?}");
    ran.stdout
}

/// Mirrors a provider for these platforms, given as flags, and compares each archive with the published
/// one. Returns the CLI configuration that installs from the mirror only.
async fn mirrors(
    terraform: &Terraform,
    host: &str,
    dist: &ProviderDist,
    platforms: &[&str],
) -> String {
    let mirror = terraform.home.path().join("mirror");
    let folder = mirror.to_str().unwrap();
    let command = [&["providers", "mirror", "-no-color"], platforms, &[folder]].concat();
    runs(terraform, &command).await;
    for platform in platforms.iter().map(|flag| flag.trim_start_matches("-platform=")) {
        let file = mirror.join(format!("{host}/acme/dns/{}", dist.zip_name(platform)));
        assert!(std::fs::read(&file).unwrap() == dist.zips[platform], "{}", file.display());
    }
    format!("provider_installation {{\n  filesystem_mirror {{\n    path = {folder:?}\n  }}\n}}\n")
}

#[tokio::test]
async fn without_a_grant_or_a_file_for_the_platform_terraform_says_why_it_installs_nothing() {
    let shows = "what a user reads whose provider cannot be installed";
    let Some(stage) = Stage::start(super::BACKEND, shows).await else { return };
    let key = stage.gnupg.key("Acme <providers@acme.example>");
    let publisher = stage.publisher().await;
    publisher.add_key("acme", &key.armor).await;
    let other = ProviderDist::new("dns", "1.0.0", &["darwin_arm64"]);
    publisher.publish("acme", &other.signed(&key)).await;

    let host = stage.served.host();
    for (source, words) in [
        ("acme/nothing", "does not have a provider named 127.0.0.1:"),
        ("other/dns", "rejected the given authentication credentials"),
        ("acme/dns", "does not have a package available for your current platform, linux_amd64"),
    ] {
        let terraform = stage.terraform(&[(source, "1.0.0")]);
        let ran = terraform.init().await;
        assert_eq!(ran.code, Some(1), "{source}: {ran:?}");
        assert!(ran.words().contains(words), "{source}: {}", ran.words());
        assert!(!terraform.configuration().join(".terraform.lock.hcl").exists());
    }
    let anonymous = stage.terraform(&[("acme/dns", "1.0.0")]);
    anonymous.write_rc("");
    let ran = anonymous.init().await;
    let words = format!("host {host} requires authentication credentials");
    assert!(ran.code == Some(1) && ran.words().contains(&words), "{}", ran.words());
}

#[tokio::test]
async fn init_installs_a_real_plugin_and_the_lock_file_has_the_hashes_of_every_platform() {
    let shows = "Terraform installs and starts a real plugin";
    let Some(stage) = Stage::start(super::BACKEND, shows).await else { return };
    let Some(dist) = real_dist(&stage.program, "cloud", "5.100.0") else {
        return stile_tests::skipped::skipped("hashicorp/aws", shows);
    };
    let key = stage.gnupg.key("Acme <providers@acme.example>");
    let publisher = stage.publisher().await;
    assert_eq!(publisher.add_key("acme", &key.armor).await.status, 201);
    let published = publisher.publish("acme", &dist.signed(&key)).await;
    assert_eq!((published.status, &published.json["status"]), (201, &"created".into()));

    let terraform = stage.terraform(&[("acme/cloud", "~> 5.0")]);
    let ran = terraform.init().await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains(INITIALIZED), "{ran:?}");
    let line = format!("acme/cloud v5.100.0 (self-signed, key ID {})", key.id());
    assert!(ran.stdout.contains(&line), "{line}: {ran:?}");
    locked(&lock_file(&terraform), &dist, 1);
    // Terraform starts the plugin for its schema.
    let main = std::fs::read_to_string(terraform.configuration().join("main.tf")).unwrap();
    terraform
        .write_main(&format!("{main}data \"aws_region\" \"here\" {{\n  provider = cloud\n}}\n"));
    runs(&terraform, &["validate", "-no-color"]).await;
    let again = terraform.init().await;
    assert!(again.stdout.contains("Using previously-installed"), "{again:?}");
    let installed = terraform.configuration().join(".terraform/providers");
    let file = installed.join(format!("{}/acme/cloud/5.100.0/{PLATFORM}", stage.served.host()));
    assert!(file.is_dir(), "{}", file.display());
}

#[tokio::test]
async fn a_lock_file_that_was_written_for_darwin_works_on_linux() {
    let shows = "a lock file of another platform";
    let Some((stage, dist)) = Stage::with_dns(super::BACKEND, shows).await else { return };
    let terraform = stage.terraform(&[("acme/dns", "1.0.0")]);
    let platform = format!("-platform={}", PLATFORMS[0]);
    runs(&terraform, &["providers", "lock", "-no-color", &platform]).await;
    let written = lock_file(&terraform);
    locked(&written, &dist, 1);

    let ran = terraform.run(&["init", "-input=false", "-no-color", "-lockfile=readonly"]).await;
    assert!(ran.code == Some(0) && ran.stdout.contains(INITIALIZED), "{ran:?}");
    assert_eq!(lock_file(&terraform), written, "the lock file did not change");
    std::fs::remove_dir_all(terraform.configuration().join(".terraform")).unwrap();
    let ran = terraform.init().await;
    assert!(ran.code == Some(0) && ran.stdout.contains(INITIALIZED), "{ran:?}");
    locked(&lock_file(&terraform), &dist, 2);
}

#[tokio::test]
async fn three_platforms_are_locked_and_mirrored_and_the_mirror_installs_without_the_registry() {
    let shows = "`terraform providers lock` and `mirror`";
    let Some((stage, dist)) = Stage::with_dns(super::BACKEND, shows).await else { return };
    let terraform = stage.terraform(&[("acme/dns", "1.0.0")]);
    let platforms = PLATFORMS.map(|platform| format!("-platform={platform}"));
    let [one, two, three] = platforms.each_ref().map(String::as_str);
    runs(&terraform, &["providers", "lock", "-no-color", one, two, three]).await;
    locked(&lock_file(&terraform), &dist, 3);

    let rc = mirrors(&terraform, stage.served.host(), &dist, &[one, two, three]).await;
    let lock = lock_file(&terraform);
    drop(stage);
    terraform.write_rc(&rc);
    let ran = terraform.init().await;
    assert!(ran.code == Some(0) && ran.stdout.contains(INITIALIZED), "{ran:?}");
    assert_eq!(lock_file(&terraform), lock);
}

#[tokio::test]
async fn after_a_rotation_the_versions_of_both_keys_install_and_the_retired_key_signs_no_more() {
    let shows = "a rotation of signing keys";
    let Some(stage) = Stage::start(super::BACKEND, shows).await else { return };
    let (first, second) =
        (stage.gnupg.key("First <a@acme.example>"), stage.gnupg.key("Second <b@acme.example>"));
    let publisher = stage.publisher().await;
    let dist = |version| ProviderDist::new("dns", version, &PLATFORMS);
    publisher.add_key("acme", &first.armor).await;
    publisher.publish("acme", &dist("1.0.0").signed(&first)).await;
    assert_eq!(publisher.add_key("acme", &second.armor).await.status, 201);
    publisher.publish("acme", &dist("2.0.0").signed(&second)).await;
    assert_eq!(publisher.retire_key("acme", first.id(), false).await.status, 200);

    let refused = publisher.try_publish("acme", &dist("3.0.0").signed(&first)).await.unwrap_err();
    let refused = refused.expect("the registry answers");
    assert!(refused.status == 400 && refused.json.to_string().contains("retired"), "{refused:?}");
    for (version, key) in [("1.0.0", &first), ("2.0.0", &second)] {
        let ran = stage.terraform(&[("acme/dns", version)]).init().await;
        assert_eq!(ran.code, Some(0), "{version}: {ran:?}");
        let line = format!("acme/dns v{version} (self-signed, key ID {})", key.id());
        assert!(ran.stdout.contains(&line), "{line}: {ran:?}");
    }
}

#[tokio::test]
async fn a_version_of_a_stolen_key_is_listed_with_a_warning_and_not_installed_until_signed_again() {
    let shows = "a signing key that was stolen";
    let Some(stage) = Stage::start(super::BACKEND, shows).await else { return };
    let (stolen, next) =
        (stage.gnupg.key("First <a@acme.example>"), stage.gnupg.key("Second <b@acme.example>"));
    let publisher = stage.publisher().await;
    let dist = |version| ProviderDist::new("dns", version, &PLATFORMS);
    for key in [&stolen, &next] {
        publisher.add_key("acme", &key.armor).await;
    }
    publisher.publish("acme", &dist("1.0.0").signed(&stolen)).await;
    publisher.publish("acme", &dist("2.0.0").signed(&next)).await;
    let retired = publisher.retire_key("acme", stolen.id(), true).await;
    assert_eq!(retired.json["versions"], serde_json::json!(["acme/dns 1.0.0"]), "{retired:?}");

    let terraform = stage.terraform(&[("acme/dns", "1.0.0")]);
    let ran = terraform.init().await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.words().contains("410 Gone"), "{}", ran.words());
    let ran = stage.terraform(&[("acme/dns", "2.0.0")]).init().await;
    assert_eq!(ran.code, Some(0), "the other version installs: {ran:?}");
    let said = stile_tests::process::home::words(&ran.stdout);
    assert!(said.contains("acme/dns 1.0.0 is signed by a key"), "{said}");

    let again = publisher.publish("acme", &dist("1.0.0").signed(&next)).await;
    assert_eq!(again.json["status"], "changed", "{again:?}");
    let ran = terraform.init().await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains(&format!("key ID {}", next.id())), "{ran:?}");
}

#[tokio::test]
async fn a_yanked_or_deprecated_version_warns_and_installs() {
    let shows = "the warnings of a provider";
    let Some((stage, _)) = Stage::with_dns(super::BACKEND, shows).await else { return };
    let publisher = stage.publisher().await;
    let reason = |text: &str| serde_json::json!({ "reason": text }).to_string().into_bytes();
    for (method, path, text, says) in [
        ("PUT", "1.0.0/deprecation", "Use 2.x", "acme/dns 1.0.0 is deprecated: Use 2.x"),
        ("DELETE", "1.0.0", "It deletes data", "acme/dns 1.0.0 is yanked: It deletes data"),
    ] {
        let path = format!("/v1/providers/acme/dns/{path}");
        let json = Some("application/json");
        let changed = publisher.send(method.parse().unwrap(), &path, json, reason(text)).await;
        assert_eq!(changed.unwrap().status, 200);
        let ran = stage.terraform(&[("acme/dns", "1.0.0")]).init().await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let said = stile_tests::process::home::words(&ran.stdout);
        assert!(said.contains("Additional provider information from registry"), "{said}");
        assert!(said.contains(says), "{says}: {said}");
        assert!(said.contains(INITIALIZED), "{said}");
    }
}

#[tokio::test]
async fn older_and_newer_releases_of_terraform_install_lock_and_mirror_the_same() {
    let shows = "other releases install and mirror a provider";
    let Some((stage, dist)) = Stage::with_dns(super::BACKEND, shows).await else { return };
    let mut locks = vec![installs_with(&stage, &stage.program, &dist).await];
    for release in RELEASES {
        let Some(file) = terraform_release(release, shows) else { continue };
        locks.push(installs_with(&stage, &file, &dist).await);
    }
    assert!(locks.iter().all(|lock| *lock == locks[0]), "{locks:?}");
}

async fn installs_with(stage: &Stage, file: &Path, dist: &ProviderDist) -> String {
    let terraform = stage.terraform_of(file, &[("acme/dns", "1.0.0")]);
    let ran = terraform.init().await;
    assert!(ran.code == Some(0) && ran.stdout.contains(INITIALIZED), "{}: {ran:?}", file.display());
    assert!(ran.stdout.contains("(self-signed, key ID "), "{ran:?}");
    let lock = lock_file(&terraform);
    locked(&lock, dist, 1);
    let platforms = [PLATFORM, PLATFORMS[0]].map(|platform| format!("-platform={platform}"));
    runs(&terraform, &["providers", "lock", "-no-color", &platforms[0], &platforms[1]]).await;
    let two = lock_file(&terraform);
    locked(&two, dist, 2);
    let flags = platforms.each_ref().map(String::as_str);
    let rc = mirrors(&terraform, stage.served.host(), dist, &flags).await;
    std::fs::remove_dir_all(terraform.configuration().join(".terraform")).unwrap();
    terraform.write_rc(&rc);
    let ran = terraform.init().await;
    assert!(ran.code == Some(0) && ran.stdout.contains(INITIALIZED), "{}: {ran:?}", file.display());
    assert_eq!(lock_file(&terraform), two, "the mirror has the same files");
    lock + &two
}
