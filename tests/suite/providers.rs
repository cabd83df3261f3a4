//! Providers from the key to the bytes of a file: what the broker refuses, what it lists, and what a
//! client gets.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use stile_core::package::Version;
use stile_core::package::provider::SigningKey;
use stile_protocol::names::Permission::{CreateGrant, Download, Upload};
use stile_tests::broker::{Backend, NOW, TestBroker, deploy, module_zip, role};
use stile_tests::provider::{
    TestRelease, TestSigner, add_key, begin, complete, provider_zip, publish, send, send_file,
    verify,
};
use stile_tests::sts::identity::Identity;

const VERSIONS: &str = "/v1/providers/acme/dns/versions";

const PLATFORMS: [&str; 3] = ["linux_amd64", "darwin_arm64", "windows_amd64"];

/// When the keys of tests were created: a day before the tests.
const CREATED: i64 = NOW - 24 * 3600;

/// A registry with the key of a publisher, and a token with all rights on namespace `acme`.
pub(super) struct Registry {
    pub(super) test: TestBroker,
    token: String,
    signer: TestSigner,
}

impl Registry {
    pub(super) async fn start() -> Option<Self> {
        let test = TestBroker::start_on(super::BACKEND).await?;
        test.grant(&role("deploy"), "acme", &[CreateGrant, Download, Upload]).await;
        let token = test.token(&deploy(), &[CreateGrant, Download, Upload]).await;
        let signer = TestSigner::new("acme", CREATED);
        let added = add_key(&test, "acme", &signer, &token).await;
        assert_eq!(added.status, 201, "{}", added.text());
        Some(Self { test, token, signer })
    }

    fn release(&self, version: &str, platforms: &[&str]) -> TestRelease {
        TestRelease::new("acme/dns", version, platforms, &self.signer, self.test.time())
    }

    pub(super) async fn published(&self, version: &str, platforms: &[&str]) -> TestRelease {
        let release = self.release(version, platforms);
        let reply = publish(&self.test, &release, &self.token).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        release
    }

    async fn listed(&self) -> Value {
        let reply = self.test.get(VERSIONS, &self.token).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    }

    async fn retire(&self, query: &str) -> Value {
        let path = format!("/v1/namespaces/acme/signing-keys/{}{query}", self.signer.key_id());
        let reply = send(&self.test, "DELETE", &path, None, &self.token).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    }
}

fn download(version: &str, platform: &str) -> String {
    let (os, arch) = platform.split_once('_').unwrap();
    format!("/v1/providers/acme/dns/{version}/download/{os}/{arch}")
}

fn versions_of(document: &Value) -> Vec<&str> {
    let listed = document["versions"].as_array().unwrap();
    listed.iter().map(|entry| entry["version"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn an_announcement_that_no_client_could_verify_is_refused_with_a_sentence() {
    let Some(registry) = Registry::start().await else { return };
    let Registry { test, token, signer } = &registry;
    let good = registry.release("1.0.0", &PLATFORMS);
    let stranger = TestSigner::new("stranger", CREATED);
    let signed = |sums: String| {
        let mut body = good.announcement();
        body["signature"] = signer.sign(&sums, NOW).into();
        body["sha256sums"] = sums.into();
        body
    };
    let with = |field: &str, value: Value| {
        let mut body = good.announcement();
        body[field] = value;
        body
    };
    let without = |field: &str| {
        let mut body = good.announcement();
        body.as_object_mut().unwrap().remove(field);
        body
    };
    let sums = good.sums.clone();
    let first = sums.lines().next().unwrap().to_owned();
    let manifest = "terraform-provider-dns_1.0.0_manifest.json";
    for (what, body, words) in [
        ("a blank line", signed(format!("{sums}\n")), "blank"),
        ("CR", signed(sums.replace('\n', "\r\n")), "LF"),
        ("no end", signed(sums.trim_end().to_owned()), "must end with a line break"),
        ("a line twice", signed(format!("{sums}{first}\n")), "two lines"),
        (
            "two files of one platform",
            signed(format!("{sums}{}{}\n", "ab".repeat(32), &first[64..])),
            "two lines",
        ),
        (
            "a manifest that is missing",
            signed(format!("{sums}{}  {manifest}\n", "ab".repeat(32))),
            "but `manifest` is missing",
        ),
        ("upper case", signed(sums.to_uppercase()), "line 1"),
        ("one space", signed(sums.replace("  ", " ")), "line 1"),
        ("no name", signed(format!("{}\n", "ab".repeat(32))), "line 1"),
        ("another provider", signed(sums.replace("dns", "aws")), "line 1"),
        ("another version", signed(sums.replace("1.0.0", "1.0.1")), "line 1"),
        ("an underscore", signed(sums.replace("dns", "d_s")), "line 1"),
        ("macos", signed(sums.replace("darwin", "macos")), "`darwin` of Go"),
        ("a path", signed(sums.replace("terraform-provider-dns", "../dns")), "line 1"),
        ("nothing", signed(String::new()), "`SHA256SUMS` is empty"),
        ("no signature", without("signature"), "field `signature` is missing"),
        ("no base64", with("signature", "?".into()), "`signature` must be base64"),
        ("no OpenPGP", with("signature", "AAAA".into()), "signature"),
        ("other bytes", with("signature", signer.sign("x", NOW).into()), "signature"),
        (
            "a key of nobody",
            with("signature", stranger.sign(&sums, NOW).into()),
            "which the namespace has not registered",
        ),
        ("the future", with("signature", signer.sign(&sums, NOW + 24 * 3600).into()), "future"),
        ("no protocols", without("protocols"), "`manifest` or `protocols` is missing"),
        ("protocol x", with("protocols", json!(["x"])), "protocol"),
        ("a manifest that is not listed", with("manifest", "{}".into()), "has no line for"),
        ("no files", without("files"), "field `files` is missing"),
        ("a file of nobody", with("files", json!([{"name": "x", "bytes": 1}])), "`files`"),
        (
            "an empty file",
            with("files", json!([{"name": good.name("linux_amd64"), "bytes": 0}])),
            "1 byte to 1 GB",
        ),
        (
            "a large file",
            with("files", json!([{"name": good.name("linux_amd64"), "bytes": 1_000_000_001}])),
            "1 byte to 1 GB",
        ),
        ("an unknown field", with("url", "x".into()), "field `url` is not known"),
    ] {
        let reply = send(test, "POST", &good.path("uploads"), Some(body), token).await;
        assert_eq!(reply.status, 400, "{what}: {}", reply.text());
        let sentence = reply.json()["errors"][0].as_str().unwrap().to_owned();
        assert!(sentence.contains(words), "{what}: {sentence}");
    }
    assert_eq!(test.get(VERSIONS, token).await.status, 404);
    assert_eq!(test.archives().await, 0);
}

#[tokio::test]
async fn a_bad_file_is_refused_with_a_sentence_and_nothing_is_listed() {
    let Some(registry) = Registry::start().await else { return };
    let Registry { test, token, signer } = &registry;
    let named = |name: &str, mode: u32| {
        use std::io::Write as _;
        let options = zip::write::SimpleFileOptions::default().unix_permissions(mode);
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        zip.start_file(name, options).unwrap();
        zip.write_all(b"x").unwrap();
        zip.finish().unwrap().into_inner()
    };
    for (what, bytes) in [
        ("text", b"hello".to_vec()),
        ("a cut zip", provider_zip("dns", "x")[..60].to_vec()),
        ("no provider", module_zip("x")),
        ("another provider", provider_zip("aws", "x")),
        ("in a folder", named("bin/terraform-provider-dns", 0o755)),
        ("not executable", named("terraform-provider-dns", 0o644)),
        ("out of the folder", named("../terraform-provider-dns", 0o755)),
    ] {
        let mut release = registry.release("1.0.0", &["linux_amd64"]);
        release.files.insert("linux_amd64".to_owned(), bytes);
        release.sign(signer, NOW);
        let begun = begin(test, &release, token).await;
        assert_eq!(begun.status, 201, "{what}: {}", begun.text());
        let (session, name) = (begun.json(), release.name("linux_amd64"));
        let refused = send_file(test, &release, &session, &name, token).await;
        assert_eq!(refused.status, 400, "{what}: {}", refused.text());
        assert!(refused.json()["errors"][0].as_str().unwrap().starts_with("the archive"), "{what}");
        let incomplete = complete(test, &release, &session, token).await;
        assert_eq!(incomplete.status, 409, "{what}");
        assert!(incomplete.text().contains(&name), "{}", incomplete.text());
    }
    let release = registry.release("1.0.0", &["linux_amd64"]);
    let (session, name) = (begin(test, &release, token).await.json(), release.name("linux_amd64"));
    if test.backend() == Backend::Embedded {
        let other =
            verify(test, &release, &session, &name, Some(b"PK other".to_vec()), token).await;
        assert_eq!(other.status, 400, "{}", other.text());
        assert!(other.text().contains("another size or SHA-256"), "{}", other.text());
    } else {
        let body = verify(test, &release, &session, &name, Some(b"PK".to_vec()), token).await;
        assert_eq!(body.status, 400, "the file belongs to its URL: {}", body.text());
    }
    let nothing = verify(test, &release, &session, &name, None, token).await;
    assert_eq!(nothing.status, 409, "{}", nothing.text());
    for (upload, name, status) in [
        ("0".repeat(32), name.clone(), 404),
        ("x".to_owned(), name.clone(), 404),
        (session["upload"].as_str().unwrap().to_owned(), release.name("linux_arm64"), 404),
    ] {
        let session = json!({ "upload": upload });
        let reply = verify(test, &release, &session, &name, None, token).await;
        assert_eq!(reply.status.as_u16(), status, "{upload} {name}: {}", reply.text());
    }
    assert_eq!(test.get(VERSIONS, token).await.status, 404);
}

#[tokio::test]
async fn a_published_provider_is_listed_and_a_client_can_verify_each_file() {
    let Some(registry) = Registry::start().await else { return };
    let Registry { test, token, signer } = &registry;
    let release = registry.published("1.0.0", &PLATFORMS).await;
    let listed = registry.listed().await;
    assert_eq!(versions_of(&listed), ["1.0.0"]);
    assert_eq!(listed["versions"][0]["protocols"], json!(["5.0"]));
    assert_eq!(listed["versions"][0]["platforms"].as_array().unwrap().len(), 3);
    let key = SigningKey::parse(&signer.armor(), NOW).unwrap();
    for platform in PLATFORMS {
        let reply = test.get(&download("1.0.0", platform), token).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let document = reply.json();
        let zip = &release.files[platform];
        let sha256 = hex::encode(Sha256::digest(zip));
        assert_eq!(
            format!("{}_{}", document["os"].as_str().unwrap(), document["arch"].as_str().unwrap()),
            platform
        );
        assert_eq!(document["filename"], release.name(platform).as_str());
        assert_eq!(document["shasum"], sha256.as_str());
        assert_eq!(document["packages"].as_object().unwrap().len(), 3);
        assert_eq!(document["packages"][platform]["package_size"], zip.len());
        assert_eq!(document["packages"][platform]["hashes"][0], format!("zh:{sha256}"));
        let keys = &document["signing_keys"]["gpg_public_keys"];
        assert_eq!(keys[0]["key_id"], signer.key_id().as_str());
        let fetch = async |field: &str| {
            let (status, bytes) = test.fetch(document[field].as_str().unwrap()).await;
            assert_eq!(status, 200, "{field}");
            bytes
        };
        assert_eq!(fetch("download_url").await, *zip);
        let sums = fetch("shasums_url").await;
        assert_eq!(sums, release.sums.as_bytes());
        let signature = fetch("shasums_signature_url").await;
        assert_eq!(STANDARD.encode(&signature), release.signature);
        key.verify(&sums, &signature, NOW).unwrap();
    }
    for path in [
        download("1.0.0", "linux_arm64"),
        download("1.0.1", "linux_amd64"),
        download("1.0", "linux_amd64"),
        download("1.0.0", "macos_arm64"),
        "/v1/providers/acme/other/1.0.0/download/linux/amd64".to_owned(),
    ] {
        assert_eq!(test.get(&path, token).await.status, 404, "{path}");
    }
    let details = test.get(&release.path(""), token).await.json();
    assert_eq!(details["sha256sums"], release.sums.as_str());
    assert_eq!(details["signature"], release.signature.as_str());
    assert_eq!(details["compromised_key"], Value::Null);
    assert_eq!(details["published_by"], role("deploy").as_str());
    assert_eq!(details["platforms"].as_array().unwrap().len(), 3);
    assert_eq!(test.get("/v1/providers/acme/dns", token).await.json(), details);
    for path in ["/v1/providers", "/v1/providers/acme"] {
        let list = test.get(path, token).await.json();
        assert_eq!(list["providers"][0]["id"], "acme/dns/1.0.0", "{path}: {list}");
    }
}

#[tokio::test]
async fn versions_are_listed_in_semver_order_and_the_same_release_again_changes_nothing() {
    let Some(registry) = Registry::start().await else { return };
    let Registry { test, token, .. } = &registry;
    let versions = ["1.10.0", "1.2.0-rc.10", "1.2.0", "1.2.0-rc.2", "0.9.0"];
    for version in versions {
        registry.published(version, &["linux_amd64"]).await;
    }
    let listed = registry.listed().await;
    let mut sorted = versions.map(|version| Version::parse(version).unwrap());
    sorted.sort();
    assert_eq!(versions_of(&listed), sorted.map(|version| version.to_string()));
    let again = publish(test, &registry.release("1.2.0", &["linux_amd64"]), token).await;
    assert_eq!((again.status.as_u16(), &again.json()["status"]), (200, &json!("unchanged")));
    assert_eq!(registry.listed().await, listed);
    let mut other = registry.release("1.2.0", &["linux_amd64"]);
    other.files.insert("linux_amd64".to_owned(), provider_zip("dns", "other"));
    other.sign(&registry.signer, NOW);
    let refused = publish(test, &other, token).await;
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert!(refused.text().contains("another file for `linux_amd64`"), "{}", refused.text());
}

#[tokio::test]
async fn a_platform_added_later_gives_the_union_and_a_list_without_an_old_line_is_stale() {
    let Some(registry) = Registry::start().await else { return };
    let Registry { test, token, .. } = &registry;
    registry.published("1.0.0", &PLATFORMS[..2]).await;
    let stale = begin(test, &registry.release("1.0.0", &PLATFORMS[2..]), token).await;
    assert_eq!(stale.status, 409, "{}", stale.text());
    assert!(stale.text().contains("`linux_amd64`"), "{}", stale.text());
    let whole = registry.release("1.0.0", &PLATFORMS);
    let mut announcement = whole.announcement();
    // The files of published platforms may be left out.
    announcement["files"]
        .as_array_mut()
        .unwrap()
        .retain(|file| file["name"] == whole.name(PLATFORMS[2]).as_str());
    let begun = send(test, "POST", &whole.path("uploads"), Some(announcement), token).await;
    assert_eq!(begun.status, 201, "{}", begun.text());
    let session = begun.json();
    let added = send_file(test, &whole, &session, &whole.name(PLATFORMS[2]), token).await;
    assert_eq!(added.status, 200, "{}", added.text());
    let changed = complete(test, &whole, &session, token).await;
    assert_eq!((changed.status.as_u16(), &changed.json()["status"]), (200, &json!("changed")));
    let listed = registry.listed().await;
    assert_eq!(listed["versions"][0]["platforms"].as_array().unwrap().len(), 3);
    for platform in PLATFORMS {
        let document = test.get(&download("1.0.0", platform), token).await.json();
        let (_, sums) = test.fetch(document["shasums_url"].as_str().unwrap()).await;
        assert_eq!(sums, whole.sums.as_bytes());
        let (_, zip) = test.fetch(document["download_url"].as_str().unwrap()).await;
        assert_eq!(zip, whole.files[platform]);
    }
}

#[tokio::test]
async fn of_ten_who_publish_at_once_each_version_and_each_platform_is_there() {
    let Some(registry) = Registry::start().await else { return };
    let registry = Arc::new(registry);
    let sent: Vec<_> = (0..10)
        .map(|n| {
            let registry = Arc::clone(&registry);
            tokio::spawn(async move {
                registry.published(&format!("1.{n}.0"), &["linux_amd64"]).await;
            })
        })
        .collect();
    for task in sent {
        task.await.unwrap();
    }
    assert_eq!(versions_of(&registry.listed().await).len(), 10);
    // Two begin from nothing with one platform each: one of them must sign the union.
    let first = registry.release("2.0.0", &PLATFORMS[..1]);
    let second = registry.release("2.0.0", &PLATFORMS[1..2]);
    let Registry { test, token, .. } = &*registry;
    let sessions =
        [begin(test, &first, token).await.json(), begin(test, &second, token).await.json()];
    let mut outcomes = BTreeSet::new();
    for (release, session) in [&first, &second].into_iter().zip(&sessions) {
        let name = release.name(release.files.keys().next().unwrap());
        assert_eq!(send_file(test, release, session, &name, token).await.status, 200);
        outcomes.insert(complete(test, release, session, token).await.status.as_u16());
    }
    assert_eq!(outcomes, BTreeSet::from([201, 409]));
    let union = registry.release("2.0.0", &PLATFORMS[..2]);
    let session = begin(test, &union, token).await.json();
    let statuses: Vec<_> =
        session["files"].as_array().unwrap().iter().map(|file| &file["status"]).collect();
    assert_eq!(statuses, ["verified", "verified"], "the file of the other session is there");
    assert_eq!(complete(test, &union, &session, token).await.status, 200);
}

#[tokio::test]
async fn a_version_that_was_taken_back_stays_listed_and_available_with_a_warning() {
    let Some(registry) = Registry::start().await else { return };
    let Registry { test, token, .. } = &registry;
    let release = registry.published("1.0.0", &["linux_amd64"]).await;
    registry.published("1.1.0", &["linux_amd64"]).await;
    let warnings = async || registry.listed().await["warnings"].clone();
    assert_eq!(warnings().await, json!([]));
    let because = || Some(json!({ "reason": "It leaks.", "replacement": "1.1.0" }));
    for (method, route, body, status, words) in [
        (
            "PUT",
            "deprecation",
            because(),
            "deprecated",
            Some("acme/dns 1.0.0 is deprecated: It leaks"),
        ),
        ("DELETE", "deprecation", None, "undeprecated", None),
        ("DELETE", "", because(), "unpublished", Some("acme/dns 1.0.0 is yanked: It leaks")),
        ("DELETE", "", because(), "unchanged", Some("yanked")),
        ("POST", "restore", None, "restored", None),
    ] {
        let reply = send(test, method, &release.path(route), body, token).await;
        assert_eq!(reply.status, 200, "{method} {route}: {}", reply.text());
        assert_eq!(
            reply.json(),
            json!({ "provider": "acme/dns", "version": "1.0.0", "status": status })
        );
        let listed = registry.listed().await;
        assert_eq!(versions_of(&listed), ["1.0.0", "1.1.0"], "{method} {route}");
        match words {
            Some(words) => {
                assert!(listed["warnings"][0].as_str().unwrap().contains(words), "{listed}");
            }
            None => assert_eq!(listed["warnings"], json!([])),
        }
        assert_eq!(test.get(&download("1.0.0", "linux_amd64"), token).await.status, 200);
    }
    let itself = Some(json!({ "reason": "x", "replacement": "1.0.0" }));
    let refused = send(test, "PUT", &release.path("deprecation"), itself, token).await;
    assert_eq!(refused.status, 400, "{}", refused.text());
}

#[tokio::test]
async fn a_grant_that_ends_soon_is_a_warning_for_its_holder_only() {
    let Some(registry) = Registry::start().await else { return };
    let Registry { test, token, .. } = &registry;
    registry.published("1.0.0", &["linux_amd64"]).await;
    let end = test.time() + 3 * 24 * 3600;
    let grant = json!({
        "principal": role("reader"),
        "namespace": "acme",
        "permissions": ["download"],
        "expires_at": stile_core::clock::rfc3339(end),
    });
    let created = send(test, "POST", "/v1/grants", Some(grant), token).await;
    assert_eq!(created.status, 201, "{}", created.text());
    let reader = Identity::role("111122223333", "reader", "i-0abc");
    let reader = test.token(&reader, &[Download]).await;
    let warnings = test.get(VERSIONS, &reader).await.json()["warnings"].clone();
    let warning = warnings[0].as_str().unwrap();
    assert!(
        warning.starts_with("your grant of `download` on namespace `acme` ends in 3 days"),
        "{warning}"
    );
    assert_eq!(registry.listed().await["warnings"], json!([]));
}

#[tokio::test]
async fn only_create_grant_changes_keys_and_upload_may_list_them() {
    let Some(registry) = Registry::start().await else { return };
    let Registry { test, signer, .. } = &registry;
    let path = "/v1/namespaces/acme/signing-keys";
    let other = TestSigner::new("other", CREATED);
    let publisher = test.token(&deploy(), &[Upload]).await;
    let reader = test.token(&deploy(), &[Download]).await;
    let key = format!("{path}/{}", signer.key_id());
    for (token, list, change) in [(&publisher, 200, 403), (&reader, 403, 403)] {
        assert_eq!(test.get(path, token).await.status.as_u16(), list);
        assert_eq!(add_key(test, "acme", &other, token).await.status.as_u16(), change);
        assert_eq!(send(test, "DELETE", &key, None, token).await.status.as_u16(), change);
    }
    let listed = test.get(path, &publisher).await.json();
    assert_eq!(listed["keys"].as_array().unwrap().len(), 1);
    assert_eq!(listed["keys"][0]["key_id"], signer.key_id().as_str());
    assert_eq!(listed["keys"][0]["state"], "active");
    assert_eq!(listed["keys"][0]["added_by"], role("deploy").as_str());
}

#[tokio::test]
async fn a_key_that_is_no_key_or_was_retired_is_not_added() {
    let Some(registry) = Registry::start().await else { return };
    let Registry { test, token, signer } = &registry;
    let path = "/v1/namespaces/acme/signing-keys";
    let again = add_key(test, "acme", signer, token).await;
    assert_eq!((again.status.as_u16(), &again.json()["status"]), (200, &json!("unchanged")));
    assert_eq!(again.json()["warnings"].as_array().unwrap().len(), 1, "it is Ed25519");
    let armor = signer.armor();
    for (body, words) in [
        (json!({}), "field `ascii_armor` is missing"),
        (json!({ "ascii_armor": 7 }), "must be a string"),
        (json!({ "ascii_armor": "x" }), "armored block"),
        (json!({ "ascii_armor": armor.replace("PUBLIC", "PRIVATE") }), "private key"),
        (json!({ "ascii_armor": format!("{armor}{armor}") }), "several keys"),
        (json!({ "ascii_armor": armor, "x": 1 }), "field `x` is not known"),
    ] {
        let refused = send(test, "POST", path, Some(body), token).await;
        assert_eq!(refused.status, 400, "{words}: {}", refused.text());
        assert!(refused.text().contains(words), "{words}: {}", refused.text());
    }
    for (id, query, status) in [
        ("x", "", 400),
        ("0000000000000000", "", 404),
        ("0000000000000000", "?compromised=yes", 400),
        ("0000000000000000", "?force=true", 400),
    ] {
        let reply = send(test, "DELETE", &format!("{path}/{id}{query}"), None, token).await;
        assert_eq!(reply.status.as_u16(), status, "{id} {query}: {}", reply.text());
    }
    assert_eq!(registry.retire("").await, json!({ "status": "retired", "versions": [] }));
    assert_eq!(registry.retire("").await["status"], "unchanged");
    assert_eq!(add_key(test, "acme", signer, token).await.status, 409);
}

#[tokio::test]
async fn versions_of_a_retired_key_install_and_it_signs_no_new_one() {
    let Some(registry) = Registry::start().await else { return };
    let Registry { test, token, signer } = &registry;
    registry.published("1.0.0", &["linux_amd64"]).await;
    let next = TestSigner::new("next", CREATED);
    assert_eq!(add_key(test, "acme", &next, token).await.status, 201);
    registry.retire("").await;
    let refused = begin(test, &registry.release("1.1.0", &["linux_amd64"]), token).await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(refused.text().contains("retired"), "{}", refused.text());
    let second = TestRelease::new("acme/dns", "2.0.0", &["linux_amd64"], &next, NOW);
    assert_eq!(publish(test, &second, token).await.status, 201);
    for (version, first) in [("1.0.0", signer), ("2.0.0", &next)] {
        let document = test.get(&download(version, "linux_amd64"), token).await.json();
        let keys = document["signing_keys"]["gpg_public_keys"].as_array().unwrap();
        assert_eq!(keys.len(), 2, "{version}");
        assert_eq!(keys[0]["key_id"], first.key_id().as_str(), "{version}");
    }
    assert_eq!(registry.listed().await["warnings"], json!([]));
}

#[tokio::test]
async fn versions_of_a_compromised_key_are_refused_until_they_are_signed_again() {
    let Some(registry) = Registry::start().await else { return };
    let Registry { test, token, signer } = &registry;
    let mut release = registry.published("1.0.0", &["linux_amd64"]).await;
    let release_path = release.path("");
    let retired = registry.retire("?compromised=true").await;
    assert_eq!(retired, json!({ "status": "compromised", "versions": ["acme/dns 1.0.0"] }));
    let path = download("1.0.0", "linux_amd64");
    let compromised_key =
        async || test.get(&release_path, token).await.json()["compromised_key"].clone();
    let since = stile_core::clock::rfc3339(test.time());
    let expected = json!({ "key_id": signer.key_id(), "at": since });
    assert_eq!(compromised_key().await, expected);
    let refused = test.get(&path, token).await;
    assert_eq!(refused.status, 410, "{}", refused.text());
    assert!(refused.text().contains(&signer.key_id()), "{}", refused.text());
    let listed = registry.listed().await;
    assert_eq!(versions_of(&listed), ["1.0.0"]);
    assert!(listed["warnings"][0].as_str().unwrap().contains("no longer trusts"), "{listed}");
    let again = begin(test, &release, token).await;
    assert_eq!(again.status, 400, "{}", again.text());
    let next = TestSigner::new("next", CREATED);
    assert_eq!(add_key(test, "acme", &next, token).await.status, 201);
    release.sign(&next, test.time());
    let resigned = publish(test, &release, token).await;
    assert_eq!((resigned.status.as_u16(), &resigned.json()["status"]), (200, &json!("changed")));
    assert_eq!(compromised_key().await, Value::Null);
    let document = test.get(&path, token).await.json();
    let keys = document["signing_keys"]["gpg_public_keys"].as_array().unwrap();
    assert_eq!(keys.len(), 1, "the compromised key is gone");
    assert_eq!(keys[0]["key_id"], next.key_id().as_str());
    assert_eq!(registry.listed().await["warnings"], json!([]));
}

#[tokio::test]
async fn a_key_of_another_namespace_signs_nothing_and_another_tenant_learns_nothing() {
    let Some(registry) = Registry::start().await else { return };
    let Registry { test, token, .. } = &registry;
    test.grant(&role("tenant"), "other", &[CreateGrant, Download, Upload]).await;
    let tenant = Identity::role("111122223333", "tenant", "i-0abc");
    let tenant = test.token(&tenant, &[CreateGrant, Download, Upload]).await;
    let foreign = TestSigner::new("foreign", CREATED);
    assert_eq!(add_key(test, "other", &foreign, &tenant).await.status, 201);
    let forged = TestRelease::new("acme/dns", "1.0.0", &["linux_amd64"], &foreign, NOW);
    let refused = begin(test, &forged, token).await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(refused.text().contains("has not registered"), "{}", refused.text());
    let release = registry.release("1.0.0", &["linux_amd64"]);
    let session = begin(test, &release, token).await.json();
    let name = release.name("linux_amd64");
    assert_eq!(send_file(test, &release, &session, &name, token).await.status, 200);
    for reply in [
        begin(test, &release, &tenant).await,
        verify(test, &release, &session, &name, None, &tenant).await,
        complete(test, &release, &session, &tenant).await,
        add_key(test, "acme", &foreign, &tenant).await,
        test.get(VERSIONS, &tenant).await,
        test.get(&download("1.0.0", "linux_amd64"), &tenant).await,
        test.get("/v1/providers/acme", &tenant).await,
        test.get("/v1/namespaces/acme/signing-keys", &tenant).await,
    ] {
        assert_eq!(reply.status, 403, "{}", reply.text());
    }
    let all = test.get("/v1/providers", &tenant).await.json();
    assert_eq!(all["providers"], json!([]));
    // Another principal of the namespace cannot continue the session either.
    test.grant(&role("second"), "acme", &[Upload]).await;
    let second = Identity::role("111122223333", "second", "i-0abc");
    let second = test.token(&second, &[Upload]).await;
    assert_eq!(complete(test, &release, &session, &second).await.status, 404);
    assert_eq!(complete(test, &release, &session, token).await.status, 201);
}
