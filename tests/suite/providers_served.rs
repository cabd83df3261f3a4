//! What the registry serves of a provider, as other programs read it, and publishes at the same
//! time.

use std::collections::BTreeMap;
use std::process::Stdio;

use axum::http::Method;
use futures_util::future::join_all;
use serde_json::{Value, json};
use stile_tests::broker::served::system_time;
use stile_tests::provider::dist::{PLATFORMS, ProviderDist};
use stile_tests::provider::gnupg::{GnuPg, PublisherKey};
use stile_tests::provider::publisher::ProviderPublisher;
use stile_tests::skipped::{skipped, tool};

use crate::providers_stage::Registry;

const BASE: &str = "/v1/providers/acme/dns";

/// Ten versions in the order of their precedence.
pub(super) const VERSIONS: [&str; 10] = [
    "0.9.0",
    "1.0.0-alpha",
    "1.0.0-alpha.2",
    "1.0.0-alpha.10",
    "1.0.0-beta",
    "1.0.0-rc.1",
    "1.0.0",
    "1.2.0",
    "1.10.0",
    "2.0.0",
];

/// Ten platforms.
pub(super) const TEN: [&str; 10] = [
    "darwin_amd64",
    "darwin_arm64",
    "freebsd_386",
    "freebsd_amd64",
    "linux_386",
    "linux_amd64",
    "linux_arm",
    "linux_arm64",
    "windows_386",
    "windows_amd64",
];

/// Returns the URL of a document as an absolute one or as a path of the broker, and fetches it.
async fn fetched(registry: &Registry, document: &Value, field: &str) -> Vec<u8> {
    let url = document[field].as_str().unwrap();
    let test = &registry.test;
    if url.starts_with('/') || url.starts_with(&test.broker.origin) {
        let reply = test.get_anonymously(url).await;
        assert_eq!(reply.status, 200, "{field}: {}", reply.text());
        return reply.body;
    }
    let answer = stile_tests::process::programs::client(None).get(url).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{field}");
    answer.bytes().await.unwrap().to_vec()
}

async fn document(registry: &Registry, path: &str) -> Value {
    let reply = registry.test.get(&format!("{BASE}/{path}"), &registry.token).await;
    assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    reply.json()
}

#[tokio::test]
async fn gnupg_and_sha256sum_accept_what_the_registry_serves() {
    let shows = "other programs verify a provider";
    let Some(registry) = Registry::start(super::BACKEND, shows).await else { return };
    let Some(sha256sum) = tool("sha256sum") else { return skipped("sha256sum", shows) };
    let (key, dist) = (registry.key(), ProviderDist::new("dns", "1.0.0", &PLATFORMS));
    let publisher = registry.publisher();
    publisher.add_key("acme", &key.armor).await;
    publisher.publish("acme", &dist.signed(&key)).await;

    let folder = tempfile::tempdir().unwrap();
    let consumer = GnuPg::new(system_time().max(registry.test.time()), shows).unwrap();
    for platform in PLATFORMS {
        let (os, arch) = platform.split_once('_').unwrap();
        let download = document(&registry, &format!("1.0.0/download/{os}/{arch}")).await;
        let zip = fetched(&registry, &download, "download_url").await;
        assert!(zip == dist.zips[platform], "{platform}: {} bytes", zip.len());
        assert_eq!(download["shasum"], dist.sha256(platform));
        assert_eq!(download["filename"], dist.zip_name(platform));
        assert_eq!([&download["os"], &download["arch"]], [os, arch]);
        std::fs::write(folder.path().join(dist.zip_name(platform)), zip).unwrap();

        let signer = &download["signing_keys"]["gpg_public_keys"][0];
        assert_eq!((&signer["key_id"], &signer["trust_signature"]), (&key.id().into(), &"".into()));
        consumer.import(signer["ascii_armor"].as_str().unwrap());
        let sums = fetched(&registry, &download, "shasums_url").await;
        let signature = fetched(&registry, &download, "shasums_signature_url").await;
        let (good, says) = consumer.verify(&sums, &signature);
        assert!(good && says.contains("Good signature"), "{says}");
        std::fs::write(folder.path().join(dist.sums_name()), sums).unwrap();
        let packages = download["packages"].as_object().unwrap();
        assert_eq!(packages.keys().collect::<Vec<_>>(), PLATFORMS.iter().collect::<Vec<_>>());
        for (platform, package) in packages {
            let zh = format!("zh:{}", dist.sha256(platform));
            assert!(package["hashes"].as_array().unwrap().contains(&zh.into()), "{package}");
            assert_eq!(package["package_size"], dist.zips[platform].len());
        }
    }
    std::fs::write(folder.path().join(dist.manifest_name()), dist.manifest()).unwrap();
    let mut check = tokio::process::Command::new(sha256sum);
    check.args(["--check", "--strict", &dist.sums_name()]).current_dir(folder.path());
    let checked = check.env_clear().stdin(Stdio::null()).output().await.unwrap();
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success() && said.matches(": OK\n").count() == 4, "{checked:?}");
}

#[tokio::test]
async fn ten_versions_at_once_are_all_listed_in_their_order() {
    let shows = "ten publishes at once";
    let Some(registry) = Registry::start(super::BACKEND, shows).await else { return };
    let (key, publisher) = (registry.key(), registry.publisher());
    publisher.add_key("acme", &key.armor).await;
    let signed = VERSIONS.map(|version| ProviderDist::new("dns", version, &PLATFORMS).signed(&key));
    let published = join_all(signed.iter().map(|one| publisher.publish("acme", one))).await;
    assert!(published.iter().all(|one| one.status == 201), "{published:?}");

    let listed = document(&registry, "versions").await;
    let versions = listed["versions"].as_array().unwrap();
    let names: Vec<&str> = versions.iter().map(|one| one["version"].as_str().unwrap()).collect();
    assert_eq!(names, VERSIONS);
    for version in versions {
        assert_eq!(version["protocols"], json!(["5.0"]));
        assert_eq!(platforms(version), PLATFORMS, "{version}");
    }
    let again = join_all(signed.iter().map(|one| publisher.publish("acme", one))).await;
    assert!(again.iter().all(|one| one.json["status"] == "unchanged"), "{again:?}");
}

/// Returns the platforms of a version in a list, in order.
pub(super) fn platforms(version: &Value) -> Vec<String> {
    let one = |platform: &Value| {
        format!("{}_{}", platform["os"].as_str().unwrap(), platform["arch"].as_str().unwrap())
    };
    let mut all: Vec<String> = version["platforms"].as_array().unwrap().iter().map(one).collect();
    all.sort();
    all
}

/// Adds a platform to a version at the same time as others.
///
/// It signs the union of what is there and its own file. It begins again if the registry then has
/// more.
async fn adds(publisher: &ProviderPublisher<'_>, key: &PublisherKey<'_>, platform: &str) -> usize {
    let own = ProviderDist::new("dns", "1.0.0", &[platform]);
    for attempt in 1..=50 {
        let detail = publisher.send(Method::GET, &format!("{BASE}/1.0.0"), None, Vec::new()).await;
        let detail = detail.unwrap();
        let before = detail.json["sha256sums"].as_str().unwrap_or_default();
        let mut signed = own.signed(key);
        let new = own.sums();
        let mut lines: Vec<&str> = before.lines().chain(new.lines()).collect();
        lines.sort_unstable_by_key(|line| line.rsplit(' ').next().unwrap().to_owned());
        lines.dedup();
        signed.sums = lines.iter().map(|line| format!("{line}\n")).collect();
        signed.signature = key.sign(signed.sums.as_bytes());
        match publisher.try_publish("acme", &signed).await {
            Ok(_) => return attempt,
            Err(Some(answer)) if answer.status == 409 => {}
            Err(stopped) => panic!("{platform}: {stopped:?}"),
        }
    }
    panic!("{platform} is never added")
}

#[tokio::test]
async fn ten_platforms_at_once_are_all_in_the_version_and_in_one_signed_list() {
    let shows = "ten publishes of one version at once";
    let Some(registry) = Registry::start(super::BACKEND, shows).await else { return };
    let (key, publisher) = (registry.key(), registry.publisher());
    publisher.add_key("acme", &key.armor).await;
    join_all(TEN.iter().map(|platform| adds(&publisher, &key, platform))).await;

    let listed = document(&registry, "versions").await;
    assert_eq!(platforms(&listed["versions"][0]), TEN, "{listed}");
    let detail = document(&registry, "1.0.0").await;
    let sums = detail["sha256sums"].as_str().unwrap();
    let whole = ProviderDist::new("dns", "1.0.0", &TEN);
    let expected: BTreeMap<String, String> =
        TEN.map(|platform| (whole.zip_name(platform), whole.sha256(platform))).into();
    for (name, sha256) in &expected {
        assert!(sums.contains(&format!("{sha256}  {name}\n")), "{name}: {sums}");
    }
    assert_eq!(sums.lines().count(), 11, "{sums}");
    let download = document(&registry, "1.0.0/download/linux/arm").await;
    assert_eq!(fetched(&registry, &download, "shasums_url").await, sums.as_bytes());
    let consumer = GnuPg::new(registry.test.time(), shows).unwrap();
    consumer.import(&key.armor);
    let signature = fetched(&registry, &download, "shasums_signature_url").await;
    let (good, says) = consumer.verify(sums.as_bytes(), &signature);
    assert!(good, "{says}");
}
