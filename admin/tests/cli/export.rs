//! Tests of `export`: what a hostile or failing registry cannot do, and what the tree has.

pub(crate) mod registry;

use std::fs::{self, OpenOptions};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use self::registry::{FLAGS, Registry, sign};
use crate::broker::http;
use crate::provider_registry::fixture;

const DNS: &str = "v1/providers/acme/dns";
const VPC: &str = "v1/modules/acme/vpc/aws";

/// The names of files that no export may create.
const ESCAPED: [&str; 3] = ["escaped", "versions", "download"];

#[test]
fn no_name_of_a_hostile_registry_becomes_a_path() {
    let details = format!("/{DNS}/1.0.0");
    let versions = |version: &str| json!({ "modules": [{ "versions": [{ "version": version }] }] });
    let listed = |namespace: &str, name: &str| {
        let module = json!({ "namespace": namespace, "name": name, "provider": "aws" });
        json!({ "meta": {}, "modules": [module] })
    };
    let provider = |of_type: &str| json!({ "meta": {}, "providers": [{ "namespace": "acme", "type": of_type }] });
    let modules = || "/v1/modules".to_owned();
    for (path, body, problem) in [
        (modules(), listed("..", "vpc"), "a name that is not valid"),
        (modules(), listed("../..", "vpc"), "a name that is not valid"),
        (modules(), listed("acme", "../../escaped"), "a name that is not valid"),
        (modules(), listed("acme", "/escaped"), "a name that is not valid"),
        (modules(), listed("acme", ""), "a name that is not valid"),
        ("/v1/providers".to_owned(), provider("../../../escaped"), "a name that is not valid"),
        ("/v1/providers".to_owned(), provider("dns\u{0}"), "a name that is not valid"),
        (format!("/{VPC}/versions"), versions("../../../../../escaped"), "a bad name: version"),
        (format!("/{VPC}/versions"), versions("1.0.0/../.."), "a bad name: version"),
        (format!("/{VPC}/versions"), versions("1.0.0+../x"), "a bad name: version"),
        (format!("/{DNS}/versions"), json!({ "versions": [{ "version": ".." }] }), "a bad name"),
    ] {
        let mut registry = Registry::with_packages();
        registry.ok(&path, &body);
        refused_with(&registry, problem, &format!("{path} {body}"));
    }
    for (field, value, problem) in [
        ("os", json!("../../.."), "a bad platform"),
        ("arch", json!("/escaped"), "a bad platform"),
        ("sha256", json!("../escaped"), "no valid digest"),
        ("bytes", json!(2_000_000_000), "no valid digest"),
        ("sha256", json!("0".repeat(64)), "contradictory digests"),
    ] {
        let mut registry = Registry::with_packages();
        registry.change(&details, |details| details["platforms"][0][field] = value.clone());
        refused_with(&registry, problem, &format!("{field} {value}"));
    }
    let blank = "\n".to_owned();
    let named = format!("{}  ../../../../escaped\n", "0".repeat(64));
    for (field, value, problem) in [
        ("sha256sums", json!(blank), "a bad list of digests"),
        ("sha256sums", json!(named), "a bad list of digests"),
        ("signature", json!("%"), "not base64"),
        ("key_id", json!("../x"), "a bad key id"),
        ("protocols", json!(["x"]), "a bad protocol"),
        ("protocols", json!([]), "no protocol version"),
        ("platforms", json!([]), "no platform"),
        ("manifest", json!("{}"), "a manifest with another digest"),
    ] {
        let mut registry = Registry::with_packages();
        registry.change(&details, |details| details[field] = value.clone());
        refused_with(&registry, problem, &format!("{field} {value}"));
    }
    for (source, problem) in [
        ("file:///etc/passwd", "a bad source"),
        ("git::https://git.example.com/a\"; root /; #", "a bad source"),
        ("../../escaped", "a bad source"),
        ("git::https://git.example.com/$host/a", "a bad source"),
        ("git::https://git.example.com/acme/vpc?ref=v1.0.0", "two different sources"),
    ] {
        let mut registry = Registry::with_packages();
        let provenance = json!({ "sha256": null, "source": source });
        registry.change(&format!("/{VPC}/1.0.0"), |module| module["provenance"] = provenance);
        refused_with(&registry, problem, source);
    }
}

/// Checks that an export fails with a sentence, and wrote no file of a package.
#[track_caller]
fn refused_with(registry: &Registry, problem: &str, case: &str) {
    let run = registry.export("");
    assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{case}: {}", run.stderr);
    assert!(run.stderr.contains(problem), "{case}: {}", run.stderr);
    assert_eq!(registry.tree(), [""; 0], "{case}");
    for name in ESCAPED {
        assert!(!registry.machine.path(name).exists(), "{case}: {name}");
    }
}

#[test]
fn a_key_that_did_not_sign_the_version_and_a_private_key_are_refused() {
    let other = fs::read_to_string(fixture("rsa4096.public.asc")).unwrap();
    for (field, value, problem) in [
        ("key_id", "0000000000000000", "did not send the key that signed it"),
        ("ascii_armor", "-----BEGIN PGP PRIVATE KEY BLOCK-----", "sent a bad key: the text has a"),
        ("ascii_armor", "-----BEGIN PGP PUBLIC KEY BLOCK-----", "sent a bad key: the key must be"),
        ("ascii_armor", &other, "a key under the id of another"),
    ] {
        let mut registry = Registry::with_packages();
        for platform in ["linux/amd64", "darwin/arm64"] {
            registry.change(&format!("/{DNS}/1.0.0/download/{platform}"), |document| {
                document["signing_keys"]["gpg_public_keys"][0][field] = value.into();
            });
        }
        refused_with(&registry, problem, field);
    }
}

#[test]
fn a_signature_that_no_client_accepts_and_a_further_key_that_is_broken_are_refused() {
    let details = format!("/{DNS}/1.0.0");
    for (signature, problem) in [
        (sign("other digests"), "sent a bad signature: the signature does not match"),
        ("AAAA".to_owned(), "sent a bad signature: the signature is not a detached"),
    ] {
        let mut registry = Registry::with_packages();
        registry.change(&details, |details| details["signature"] = signature.clone().into());
        refused_with(&registry, problem, &signature);
    }
    let mut registry = Registry::with_packages();
    for platform in ["linux/amd64", "darwin/arm64"] {
        registry.change(&format!("{details}/download/{platform}"), |document| {
            let broken = json!({ "key_id": "0000000000000000", "ascii_armor": "x" });
            document["signing_keys"]["gpg_public_keys"].as_array_mut().unwrap().push(broken);
        });
    }
    refused_with(&registry, "`acme/dns 1.0.0`: the registry sent a bad key", "a broken key");
}

#[test]
fn an_archive_with_another_digest_is_not_in_the_tree_and_no_index_names_it() {
    let name = "terraform-provider-dns_1.0.0_linux_amd64.zip";
    let mut registry = Registry::with_packages();
    let text = "provider acme/dns 1.0.0 for linux_amd64".replace("linux", "Linux");
    registry.set(&format!("/files/{name}"), http("200 OK", "", &text));
    let run = registry.export("");
    assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{}", run.stderr);
    assert!(run.stderr.contains("has the SHA-256"), "{}", run.stderr);
    assert!(!run.stderr.contains("secret"), "{}", run.stderr);
    let tree = registry.tree();
    assert!(!tree.contains(&format!("{DNS}/1.0.0/files/{name}")), "{tree:?}");
    assert!(!tree.iter().any(|path| path.ends_with("/versions")), "{tree:?}");

    // More bytes than the registry announced.
    registry.set(&format!("/files/{name}"), http("200 OK", "", &"x".repeat(1000)));
    let run = registry.export("");
    assert!(run.code != 0 && run.stderr.contains("it has more than"), "{}", run.stderr);
    // A file of this machine.
    for place in ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://192.0.2.1/x", ""] {
        registry.change(&format!("/{DNS}/1.0.0/download/linux/amd64"), |document| {
            document["download_url"] = place.into();
        });
        let run = registry.export("");
        assert_eq!(run.code, 2, "{place}: {}", run.stderr);
        assert!(!registry.tree().iter().any(|path| path.ends_with("/versions")), "{place}");
    }
}

#[test]
fn a_folder_with_other_files_and_an_export_of_another_registry_are_refused() {
    let registry = Registry::with_packages();
    registry.machine.write("tree/index.html", "mine");
    let run = registry.export("");
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("is not empty, and it is not an export"), "{}", run.stderr);
    assert_eq!(registry.tree(), ["index.html"]);

    let registry = Registry::with_packages();
    registry.exported("");
    let marker = registry.machine.path("tree/.stile-export.json");
    let other = fs::read_to_string(&marker).unwrap().replace("registry.example", "other.example");
    fs::write(&marker, other).unwrap();
    let run = registry.export("");
    assert_eq!(run.code, 2);
    let expected =
        "is an export of the registry `other.example.com`, not of `registry.example.com`";
    assert!(run.stderr.contains(expected), "{}", run.stderr);
}

#[test]
fn two_exports_at_once_do_not_write_to_one_folder() {
    let registry = Registry::with_packages();
    registry.exported("");
    let lock = registry.machine.path("tree/.stile-export.lock");
    let lock = OpenOptions::new().write(true).open(lock).unwrap();
    lock.try_lock().unwrap();
    let run = registry.export("");
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("another program exports to `tree`"), "{}", run.stderr);
    drop(lock);
    registry.exported("");
}

#[test]
fn a_registry_that_fails_in_the_middle_leaves_each_index_as_it_was() {
    let mut registry = Registry::with_packages();
    registry.exported("");
    let index = format!("{DNS}/versions");
    let before = (registry.file(&index).unwrap(), registry.tree());
    registry.provider(
        "acme/dns",
        &[("1.0.0", &["linux_amd64", "darwin_arm64"]), ("1.1.0", &["linux_amd64", "darwin_arm64"])],
    );
    let name = "/files/terraform-provider-dns_1.1.0_linux_amd64.zip";
    let whole = registry.exported("--dry-run").0;
    for (path, answer) in [
        (name.to_owned(), http("503 Service Unavailable", "", "")),
        // The connection ends before the last byte.
        (name.to_owned(), "HTTP/1.1 200 OK\r\ncontent-length: 39\r\n\r\nhalf".to_owned()),
        (format!("/{DNS}/1.1.0"), http("503 Service Unavailable", "retry-after: 0\r\n", "{}")),
        (format!("/{DNS}/versions"), http("500 Internal Server Error", "", "{}")),
        (format!("/{DNS}/versions"), http("403 Forbidden", "", r#"{"errors":["no"]}"#)),
        ("/v1/modules".to_owned(), http("502 Bad Gateway", "", "")),
    ] {
        let kept = registry.answer(&path);
        registry.set(&path, answer.clone());
        let run = registry.export("");
        assert!(run.code != 0, "{path} {answer}");
        assert_eq!(registry.file(&index).as_ref(), Some(&before.0), "{path} {answer}");
        let partial = registry.tree().into_iter().find(|path| path.contains(".stile-partial-"));
        assert_eq!(partial, None, "{path}");
        registry.set(&path, kept);
    }
    let (done, _) = registry.exported("");
    assert!(done["written"].as_array().unwrap().contains(&json!(index)), "{done}");
    assert!(
        whole["written"].as_array().unwrap().len() >= done["written"].as_array().unwrap().len()
    );
    assert!(registry.tree().len() > before.1.len());
}

#[test]
fn an_interrupted_export_leaves_no_half_file_and_the_next_one_continues() {
    let registry = Registry::with_packages();
    let (on_reached, release) =
        registry.hold("/files/terraform-provider-dns_1.0.0_linux_amd64.zip");
    let child = registry.machine.start(&format!("export {FLAGS}"));
    on_reached.recv().unwrap();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), None, "{output:?}");
    drop(release);
    // An archive in progress has no name of the tree, and the next export deletes it.
    let is_whole = |path: &String| path.ends_with(".zip") || path.contains("/.stile-partial-");
    assert!(registry.tree().iter().all(is_whole), "{:?}", registry.tree());
    // What a killed program leaves.
    let partial = "tree/v1/providers/acme/dns/.stile-partial-x";
    registry.machine.write(partial, "half");
    registry.exported("--dry-run");
    assert!(registry.machine.path(partial).exists());
    registry.exported("");
    assert!(!registry.machine.path(partial).exists());
    assert!(registry.file(&format!("{DNS}/versions")).is_some());
}

#[test]
fn a_package_leaves_the_index_only_if_the_registry_says_that_it_is_gone() {
    let mut registry = Registry::with_packages();
    registry.exported("");
    let tree = registry.tree();
    // A list that lost packages between two pages.
    registry.hide_lists();
    let (done, _) = registry.exported("");
    assert_eq!((&done["written"], &done["removed"]), (&json!([]), &json!([])));
    assert_eq!(registry.tree(), tree);
    // A lost grant.
    registry.refuse(&format!("/{VPC}/versions"), "403 Forbidden", "no grant");
    let run = registry.export("");
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stderr.contains("the export stays as it is"), "{}", run.stderr);
    assert_eq!(registry.tree(), tree);
    // An unpublished module.
    registry.refuse(&format!("/{VPC}/versions"), "404 Not Found", "there is no such module");
    let (done, notices) = registry.exported("");
    assert_eq!(done["removed"], json!([format!("{VPC}/versions")]));
    assert_eq!(done["stale"], 2, "{done}");
    assert!(notices.contains("2 files of earlier versions stay"), "{notices}");
    assert!(registry.file(&format!("{VPC}/1.0.0/archive.zip")).is_some());
    let (done, _) = registry.exported("--prune");
    assert_eq!(
        done["removed"],
        json!([format!("{VPC}/1.0.0/archive.zip"), format!("{VPC}/1.0.0/download")])
    );
    assert!(!registry.machine.path("tree/v1/modules").exists());
}

#[test]
fn the_tree_has_relative_urls_and_no_secret_of_the_registry() {
    let mut registry = Registry::with_packages();
    let source = "git::https://git.example.com/acme/vpc?ref=v2.0.0";
    registry.module("acme/vpc/aws", &["1.0.0", "2.0.0"]);
    registry.change(&format!("/{VPC}/2.0.0"), |module| {
        module["provenance"] = json!({ "sha256": null, "source": source });
    });
    let get = format!("x-terraform-get: {source}\r\n");
    registry.set(&format!("/{VPC}/2.0.0/download"), http("204 No Content", &get, ""));
    let (done, notices) = registry.exported("");
    assert_eq!(
        (&done["providers"], &done["modules"], &done["versions"], &done["archives"]),
        (&json!(1), &json!(1), &json!(3), &json!(3))
    );
    assert!(notices.contains("wrote 16 files (3 archives, 108 bytes)"), "{notices}");
    let pair = registry.tree().into_iter().find(|path| path.ends_with("SHA256SUMS")).unwrap();
    let pair = pair.split('/').nth(6).unwrap().to_owned();
    let name = "terraform-provider-dns_1.0.0";
    assert_eq!(
        registry.tree(),
        [
            ".well-known/terraform.json".to_owned(),
            "content-types.txt".to_owned(),
            "snippets/cloudfront-function.js".to_owned(),
            "snippets/cloudfront-keys.json".to_owned(),
            "snippets/nginx.conf".to_owned(),
            format!("{VPC}/1.0.0/archive.zip"),
            format!("{VPC}/1.0.0/download"),
            format!("{VPC}/2.0.0/download"),
            format!("{VPC}/versions"),
            format!("{DNS}/1.0.0/download/darwin/arm64"),
            format!("{DNS}/1.0.0/download/linux/amd64"),
            format!("{DNS}/1.0.0/files/{name}_darwin_arm64.zip"),
            format!("{DNS}/1.0.0/files/{name}_linux_amd64.zip"),
            format!("{DNS}/1.0.0/sums/{pair}/{name}_SHA256SUMS"),
            format!("{DNS}/1.0.0/sums/{pair}/{name}_SHA256SUMS.sig"),
            format!("{DNS}/versions"),
        ]
    );
    for path in registry.tree() {
        let bytes = fs::read(registry.machine.path("tree").join(&path)).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("secret"), "{path}");
    }
    let download = registry.document(&format!("{DNS}/1.0.0/download/linux/amd64"));
    assert_eq!(download["download_url"], format!("../../files/{name}_linux_amd64.zip"));
    assert_eq!(download["shasums_url"], format!("../../sums/{pair}/{name}_SHA256SUMS"));
    assert_eq!(download["signing_keys"]["gpg_public_keys"][0]["trust_signature"], "");
    assert_eq!(download["packages"].as_object().unwrap().len(), 2);
    let platforms =
        json!([{ "os": "darwin", "arch": "arm64" }, { "os": "linux", "arch": "amd64" }]);
    let entry = json!({ "version": "1.0.0", "protocols": ["5.0"], "platforms": platforms });
    let versions = registry.document(&format!("{DNS}/versions"));
    assert_eq!(versions, json!({ "versions": [entry], "warnings": [] }));
    let location = registry.document(&format!("{VPC}/1.0.0/download"))["location"].clone();
    assert!(location.as_str().unwrap().starts_with("./archive.zip?checksum=sha256:"), "{location}");
    assert_eq!(registry.document(&format!("{VPC}/2.0.0/download")), json!({ "location": source }));
    let nginx = registry.file("snippets/nginx.conf").unwrap();
    for location in [location.as_str().unwrap(), source] {
        assert!(nginx.contains(&format!("add_header X-Terraform-Get \"{location}\";")), "{nginx}");
    }
}

#[test]
fn a_second_export_touches_only_the_documents_of_what_changed() {
    let mut registry = Registry::with_packages();
    registry.provider("acme/web", &[("1.0.0", &["linux_amd64"])]);
    registry.exported("");
    let requests = registry.broker.requests().len();
    let (done, _) = registry.exported("");
    assert_eq!((&done["written"], &done["removed"]), (&json!([]), &json!([])));
    let again = registry.broker.requests();
    let fetched = again[requests..].iter().filter(|request| request.line.contains("/files/"));
    assert_eq!(fetched.count(), 0, "an archive with the right digest stays");

    let before = modified(&registry);
    registry.provider(
        "acme/dns",
        &[("1.0.0", &["linux_amd64", "darwin_arm64"]), ("1.1.0", &["linux_amd64"])],
    );
    let (done, _) = registry.exported("");
    let written: Vec<&str> =
        done["written"].as_array().unwrap().iter().map(|path| path.as_str().unwrap()).collect();
    assert_eq!(written.len(), 5, "{written:?}");
    for path in &written {
        let is_new = path.starts_with("v1/providers/acme/dns/1.1.0/");
        assert!(is_new || *path == "v1/providers/acme/dns/versions", "{path}");
    }
    for (path, time) in modified(&registry) {
        let same = before.iter().any(|other| *other == (path.clone(), time));
        assert_eq!(same, !written.contains(&path.as_str()), "{path}");
    }

    // Another platform of an old version: its archive stays, and so does its earlier list.
    registry.provider("acme/web", &[("1.0.0", &["linux_amd64", "windows_amd64"])]);
    let (done, _) = registry.exported("");
    let of_web = |path: &Value| path.as_str().unwrap().starts_with("v1/providers/acme/web/");
    assert!(done["written"].as_array().unwrap().iter().all(of_web), "{done}");
    assert_eq!((&done["archives"], &done["stale"]), (&json!(1), &json!(2)));
}

/// Returns each file of the tree with the time of its last change.
fn modified(registry: &Registry) -> Vec<(String, std::time::SystemTime)> {
    let root = registry.machine.path("tree");
    let time = |path: &String| fs::metadata(root.join(path)).unwrap().modified().unwrap();
    registry.tree().into_iter().map(|path| (path.clone(), time(&path))).collect()
}

#[test]
fn a_yanked_version_stays_with_its_warning_and_a_stolen_key_takes_its_version_away() {
    let mut registry = Registry::with_packages();
    registry.provider("acme/dns", &[("1.0.0", &["linux_amd64"]), ("1.1.0", &["linux_amd64"])]);
    registry.exported("");
    let warnings = [
        "acme/dns 1.1.0 is signed by a key that its publisher no longer trusts",
        "acme/dns 1.0.0 is yanked: it deletes zones",
        "and 3 more",
        "your grant of `download` on namespace `acme` ends today, at 2026-12-01T00:00:00Z",
    ];
    registry.change(&format!("/{DNS}/versions"), |body| body["warnings"] = json!(warnings));
    let reason = "1.1.0 is signed by key F9BA, which its publisher no longer trusts";
    registry.refuse(&format!("/{DNS}/1.1.0/download/linux/amd64"), "410 Gone", reason);
    let (done, notices) = registry.exported("");
    let versions = registry.document(&format!("{DNS}/versions"));
    assert_eq!(versions["warnings"], json!(&warnings[1..3]));
    assert_eq!(versions["versions"].as_array().unwrap().len(), 1);
    assert_eq!(versions["versions"][0]["version"], "1.0.0");
    let removed = done["removed"].as_array().unwrap();
    let of_version = |path: &Value| path.as_str().unwrap().starts_with(&format!("{DNS}/1.1.0/"));
    assert!(removed.len() == 4 && removed.iter().all(of_version), "{done}");
    assert_eq!(done["left_out"], json!([format!("acme/dns 1.1.0 is left out: {reason}")]));
    assert!(notices.contains("is left out"), "{notices}");
}

#[test]
fn an_object_that_nobody_can_read_is_left_out_and_the_rest_is_exported() {
    let mut registry = Registry::with_packages();
    registry.module("acme/vpc/aws", &["1.0.0", "2.0.0"]);
    registry.change(&format!("/{VPC}/2.0.0"), |module| {
        module["provenance"]["source"] = "s3://acme-modules/vpc.zip".into();
    });
    let sha256 = registry.body(&format!("/{VPC}/2.0.0"))["provenance"]["sha256"].clone();
    let archive = format!("/archives/{}.zip", sha256.as_str().unwrap());
    registry.set(&archive, http("403 Forbidden", "", "<Error/>"));
    let (done, _) = registry.exported("");
    let versions = registry.document(&format!("{VPC}/versions"));
    assert_eq!(versions, json!({ "modules": [{ "versions": [{ "version": "1.0.0" }] }] }));
    let left_out = done["left_out"][0].as_str().unwrap();
    assert!(left_out.starts_with("acme/vpc/aws 2.0.0 is left out: "), "{left_out}");
    assert!(left_out.contains("403 Forbidden") && !left_out.contains("secret"), "{left_out}");
    // Down is not a refusal.
    registry.set(&archive, http("503 Service Unavailable", "", ""));
    assert_eq!(registry.export("").code, 2);
}

#[test]
fn a_selection_of_namespaces_is_the_whole_index_and_a_dry_run_changes_nothing() {
    let mut registry = Registry::with_packages();
    let run = registry.export("--namespace Acme");
    assert_eq!(run.code, 2, "{}", run.stderr);
    let (planned, _) = registry.exported("--dry-run");
    assert_eq!(registry.tree(), [""; 0]);
    assert!(!registry.machine.path("tree").exists());
    let (done, _) = registry.exported("--namespace acme");
    assert_eq!(planned["written"], done["written"]);
    for kind in ["modules", "providers"] {
        registry.ok(&format!("/v1/{kind}/other"), &json!({ "meta": {}, kind: [] }));
    }
    let lines = registry.export("--namespace other --dry-run");
    let would = format!("would remove {VPC}/versions\nwould remove {DNS}/versions\n");
    assert!(lines.stdout.ends_with(&would), "{}", lines.stdout);
    registry.exported("--namespace other");
    assert_eq!(registry.file(&format!("{DNS}/versions")), None);
    // A registry that answers for other namespaces than the selected one.
    let all = registry.body("/v1/modules");
    registry.ok("/v1/modules/other", &all);
    let run = registry.export("--namespace other");
    assert!(run.stderr.contains("which is in another namespace"), "{}", run.stderr);
}
