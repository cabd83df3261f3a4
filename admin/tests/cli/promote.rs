//! Tests of `promote`: what it refuses, and that a registry that lies or is down gets nothing through.

use std::io::{Cursor, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use stile_core::package::provider::SigningKey;

use crate::broker::{Broker, Request, http};
use crate::export::registry::Registry;
use crate::provider_publish::writes;
use crate::provider_registry::fixture;
use crate::support::{Machine, Run};

const DNS: &str = "/v1/providers/acme/dns/1.0.0";
const VPC: &str = "/v1/modules/acme/vpc/aws/1.0.0";
const KEYS: &str = "/v1/namespaces/acme/signing-keys";
const ZIP: &str = "/files/terraform-provider-dns_1.0.0_linux_amd64.zip";

/// The hosts of both registries on the machine of the first one.
const HOSTS: &str = "--from staging.example.com --to registry.example.com";

const PACKAGES: [&str; 2] = ["acme/dns", "acme/vpc/aws"];

/// Configures both registries on the machine of the first one.
fn configure(machine: &Machine, from: &Broker, to: &Broker) {
    let host = |name: &str, broker: &Broker| {
        format!("[registry.\"{name}.example.com\"]\nurl = \"{}\"\n", broker.url)
    };
    let text = format!("{}{}", host("staging", from), host("registry", to));
    machine.write(".config/stile/config.toml", &text);
}

/// Returns a registry with packages, and an empty one with the key of the provider.
fn registries() -> (Registry, Registry) {
    let (from, mut to) = (Registry::with_packages(), Registry::new());
    let armor = std::fs::read_to_string(fixture("ed25519.public.asc")).unwrap();
    let key_id = SigningKey::read(&armor).unwrap().key_id().as_str().to_owned();
    to.ok(KEYS, &json!({ "keys": [{ "key_id": key_id, "state": "active" }] }));
    configure(&from.machine, &from.broker, &to.broker);
    (from, to)
}

fn promote(from: &Registry, address: &str, flags: &str) -> Run {
    let run = from.machine.run(&format!("promote {HOSTS} {address} 1.0.0 {flags}"));
    assert!(!run.stderr.contains("token=") && !run.stderr.contains("v4.local"), "{}", run.stderr);
    run
}

/// Checks that a promotion fails, and that the second registry got no request that changes it.
#[track_caller]
fn refused((from, to): (&Registry, &Registry), address: &str, code: i32, sentences: &[&str]) {
    let run = promote(from, address, "");
    assert_eq!((run.code, run.stdout.as_str()), (code, ""), "{sentences:?}: {}", run.stderr);
    for sentence in sentences {
        assert!(run.stderr.contains(sentence), "{sentence}: {}", run.stderr);
    }
    assert_eq!(writes(&to.broker), [""; 0], "{sentences:?}");
}

#[test]
fn a_command_line_without_two_registries_and_a_version_sends_nothing() {
    let (from, to) = registries();
    let same = "--from registry.example.com --to registry.example.com";
    for (line, expected) in [
        (format!("{same} acme/dns 1.0.0"), "`--from` and `--to` are the same registry"),
        (
            format!("{HOSTS} acme 1.0.0"),
            "`acme` is not an address; hint: use `namespace/name/system`",
        ),
        (format!("{HOSTS} a/b/c/d 1.0.0"), "`a/b/c/d` is not an address"),
        (format!("{HOSTS} Acme/dns 1.0.0"), "namespace"),
        (format!("{HOSTS} acme/dns 1.0"), "version"),
        ("--from staging.example.com acme/dns 1.0.0".to_owned(), "--to <HOST>"),
        ("--from https://x --to registry.example.com acme/dns 1.0.0".to_owned(), "--from <HOST>"),
    ] {
        let run = from.machine.run(&format!("promote {line}"));
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{line}: {}", run.stderr);
        assert!(run.stderr.contains(expected), "{line}: {}", run.stderr);
    }
    // Two names of one service.
    configure(&from.machine, &from.broker, &from.broker);
    let run = promote(&from, "acme/dns", "");
    assert!(run.code == 2 && run.stderr.contains("are the same registry"), "{}", run.stderr);
    assert!(from.broker.requests().is_empty() && to.broker.requests().is_empty());
}

#[test]
fn an_archive_with_other_bytes_is_refused_with_both_digests_and_nothing_is_sent() {
    for address in PACKAGES {
        let (mut from, to) = registries();
        from.provider("acme/dns", &[("1.0.0", &["linux_amd64"])]);
        let (path, text) = match address {
            "acme/dns" => (ZIP.to_owned(), "provider acme/dns 1.0.0 for linux_amd64".to_owned()),
            _ => {
                let text = "archive of acme/vpc/aws 1.0.0".to_owned();
                (format!("/archives/{}.zip", hex::encode(Sha256::digest(&text))), text)
            }
        };
        let flipped = text.replacen('a', "b", 1);
        let (expected, found) = (Sha256::digest(&text), Sha256::digest(&flipped));
        from.set(&path, http("200 OK", "", &flipped));
        let digests = format!(
            "has the SHA-256 {}, and the version at `staging.example.com` has {}; hint: nothing was sent",
            hex::encode(found),
            hex::encode(expected)
        );
        let context = format!("`{address}` 1.0.0 was not promoted: ");
        refused((&from, &to), address, 1, &[&context, &digests]);
        from.set(&path, http("200 OK", "", &format!("{text}+")));
        refused((&from, &to), address, 1, &[&context, "it has more than "]);
        from.set(&path, http("403 Forbidden", "", "no"));
        refused((&from, &to), address, 1, &[&context, "403 Forbidden"]);
        from.set(&path, http("503 Service Unavailable", "", "down"));
        refused((&from, &to), address, 2, &[&context, "cannot be promoted", "503"]);
    }
}

#[test]
fn a_list_of_digests_that_its_key_did_not_sign_is_not_promoted() {
    let (mut from, to) = registries();
    let first = from.body(DNS)["sha256sums"].as_str().unwrap().to_owned();
    let reversed: String = first.lines().rev().map(|line| format!("{line}\n")).collect();
    from.change(DNS, |details| details["sha256sums"] = reversed.into());
    refused((&from, &to), "acme/dns", 2, &["`staging.example.com`", "sent a bad signature"]);
}

#[test]
fn a_version_that_was_taken_back_or_has_no_bytes_is_refused() {
    let said = || json!({ "reason": "it is wrong" });
    for (address, path, state) in
        [("acme/dns", DNS, "it is yanked at"), ("acme/vpc/aws", VPC, "it is unpublished at")]
    {
        let (mut from, to) = registries();
        from.change(path, |details| details["unpublished"] = said());
        let restore = format!("restore {address} 1.0.0 --registry-host staging.example.com`");
        refused((&from, &to), address, 1, &[state, &restore]);
    }
    let (mut from, to) = registries();
    from.refuse(&format!("{DNS}/download/darwin/arm64"), "410 Gone", "the key is compromised");
    refused((&from, &to), "acme/dns", 1, &["`staging.example.com`: the key is compromised"]);

    let source = "git::https://github.com/acme/vpc.git?ref=v1.0.0";
    let provenance = json!({ "sha256": null, "source": source });
    from.change(VPC, |details| details["provenance"] = provenance);
    let header = format!("x-terraform-get: {source}\r\n");
    from.set(&format!("{VPC}/download"), http("204 No Content", &header, ""));
    let sentence = format!("`staging.example.com` has no bytes of it, only the source `{source}`");
    refused((&from, &to), "acme/vpc/aws", 1, &[&sentence, "module publish acme/vpc/aws 1.0.0"]);
}

#[test]
fn other_files_at_the_second_registry_are_an_error_that_names_them() {
    let zeros = "0".repeat(64);
    let (from, mut to) = registries();
    to.provider("acme/dns", &[("1.0.0", &["linux_amd64", "darwin_arm64"])]);
    to.module("acme/vpc/aws", &["1.0.0"]);
    let (dns, vpc) = (to.body(DNS), to.body(VPC));
    let own = dns["platforms"][0]["sha256"].as_str().unwrap().to_owned();
    to.change(DNS, |details| {
        let sums = details["sha256sums"].as_str().unwrap().replace(&own, &zeros);
        details["sha256sums"] = sums.into();
        details["platforms"][0]["sha256"] = zeros.as_str().into();
    });
    let digests = format!("{own} at `staging.example.com`, and {zeros} at `registry.example.com`");
    let zip = "`terraform-provider-dns_1.0.0_linux_amd64.zip` has the SHA-256";
    refused((&from, &to), "acme/dns", 1, &[zip, &digests]);
    to.ok(DNS, &dns);
    to.change(DNS, |details| details["protocols"] = json!(["6.0"]));
    refused((&from, &to), "acme/dns", 1, &["the protocol versions at"]);
    to.provider("acme/dns", &[("1.0.0", &["linux_amd64", "linux_arm64"])]);
    let more =
        "`registry.example.com` has `terraform-provider-dns_1.0.0_linux_arm64.zip`, and `staging";
    refused((&from, &to), "acme/dns", 1, &[more]);

    let own = vpc["provenance"]["sha256"].as_str().unwrap();
    to.change(VPC, |details| details["provenance"]["sha256"] = zeros.as_str().into());
    let digests = format!("{own} at `staging.example.com`, and {zeros} at `registry.example.com`");
    refused((&from, &to), "acme/vpc/aws", 1, &["version 1.0.0 has the SHA-256", &digests]);
    to.change(VPC, |details| details["provenance"] = json!({ "source": "git::https://x" }));
    refused(
        (&from, &to),
        "acme/vpc/aws",
        1,
        &["`registry.example.com` has the version with a source"],
    );
    to.ok(VPC, &vpc);
    to.change(VPC, |details| details["unpublished"] = json!({ "reason": "x" }));
    refused((&from, &to), "acme/vpc/aws", 1, &["it is unpublished at `registry.example.com`"]);
}

#[test]
fn a_key_that_cannot_sign_at_the_second_registry_is_named_before_a_download() {
    let (from, mut to) = registries();
    for (state, problem) in [
        (None, "has not registered key"),
        (Some("retired"), "accepts no new signature of key"),
        (Some("compromised"), "accepts no new signature of key"),
        (Some("other"), "cannot use key"),
    ] {
        to.change(KEYS, |keys| match state {
            Some(state) => keys["keys"][0]["state"] = state.into(),
            None => keys["keys"][0]["key_id"] = "0000000000000000".into(),
        });
        let problem = format!("`acme` at `registry.example.com` {problem} ");
        let add = "provider keys add FILE --namespace acme --registry-host registry.example.com`";
        refused((&from, &to), "acme/dns", 1, &[&problem, add]);
        to.ok(KEYS, &json!({ "keys": [from_key(&from)] }));
    }
    let lines = from.broker.requests().into_iter().map(|request| request.line);
    assert!(!lines.into_iter().any(|line| line.contains("/files/")), "no archive is downloaded");
}

fn from_key(from: &Registry) -> Value {
    json!({ "key_id": from.body(DNS)["key_id"], "state": "active" })
}

#[test]
fn a_registry_that_is_down_or_says_no_is_named() {
    let sides = [("staging.example.com", true), ("registry.example.com", false)];
    for (address, path) in PACKAGES.into_iter().zip([DNS, VPC]) {
        for (host, is_first) in sides {
            for (status, code, sentence) in [
                ("403 Forbidden", 1, "you may not"),
                ("502 Bad Gateway", 2, "the registry is unavailable: you may not"),
            ] {
                let (mut from, mut to) = registries();
                let failing = if is_first { &mut from } else { &mut to };
                failing.refuse(path, status, "you may not");
                let host = format!("`{host}`: ");
                refused((&from, &to), address, code, &[&host, sentence]);
            }
        }
    }
}

#[test]
fn a_version_with_the_same_bytes_is_unchanged_and_is_not_sent_again() {
    let (from, mut to) = registries();
    to.provider("acme/dns", &[("1.0.0", &["linux_amd64", "darwin_arm64"])]);
    to.module("acme/vpc/aws", &["1.0.0"]);
    for address in PACKAGES {
        let run = promote(&from, address, "");
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{}", run.stderr);
        assert!(run.stdout.starts_with(&format!("unchanged {address} 1.0.0 (sha256")), "{run:?}");
    }
    let lines = from.broker.requests().into_iter().map(|request| request.line);
    let is_archive = |line: String| line.contains("/files/") || line.contains("/archives/");
    assert!(!lines.into_iter().any(is_archive), "no archive is downloaded");
    // The other registry got its signature from another key, which can be one of its own.
    to.change(DNS, |details| {
        details["signature"] = "AAAA".into();
        details["unpublished"] = json!({ "reason": "x" });
    });
    let run = promote(&from, "acme/dns", "");
    assert_eq!((run.code, writes(&to.broker)), (0, Vec::new()), "{}", run.stderr);
    for notice in ["is yanked at `registry.example.com`, and stays so", "which stays\n"] {
        assert!(run.stderr.contains(notice), "{}", run.stderr);
    }
}

#[test]
fn a_dry_run_shows_what_would_be_sent_and_downloads_nothing() {
    let (mut from, to) = registries();
    for address in PACKAGES {
        let json = from.machine.json(&format!("promote {HOSTS} {address} 1.0.0 --dry-run"));
        let hosts = (&json["from"], &json["to"]);
        assert_eq!(hosts, (&json!("staging.example.com"), &json!("registry.example.com")));
        assert_eq!(json["status"], "pending", "{json}");
    }
    let lines = promote(&from, "acme/dns", "--dry-run").stdout;
    assert!(lines.lines().count() == 3 && lines.contains("\ndarwin_arm64 "), "{lines}");
    from.change(VPC, |details| details["deprecation"] = json!({ "reason": "x" }));
    let run = promote(&from, "acme/vpc/aws", "--dry-run");
    let notice =
        "is deprecated at `staging.example.com`, which is not promoted; hint: use `stile-admin";
    assert!(run.code == 0 && run.stderr.contains(notice), "{}", run.stderr);
    assert_eq!(writes(&to.broker), [""; 0]);
    let lines = from.broker.requests().into_iter().map(|request| request.line);
    let is_archive = |line: String| line.contains("/files/") || line.contains("/archives/");
    assert!(!lines.into_iter().any(is_archive));
}

/// Returns an archive of a module.
fn module_zip() -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("main.tf", zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(b"output \"a\" {\n  value = 1\n}\n").unwrap();
    zip.finish().unwrap().into_inner()
}

#[test]
fn a_registry_that_lists_another_digest_than_it_accepted_is_an_error() {
    let zip = module_zip();
    let sha256 = hex::encode(Sha256::digest(&zip));
    // Answers of the doubles are texts, so the archive is one of their bodies by another server.
    let archives = Archives::start(zip.clone());
    let object = || json!("s3://acme-modules/vpc/1.0.0.zip");
    for (listed, source, code) in [
        (sha256.clone(), Value::Null, 0),
        (sha256.clone(), object(), 0),
        ("0".repeat(64), Value::Null, 2),
    ] {
        let mut from = Registry::new();
        from.module("acme/vpc/aws", &["1.0.0"]);
        from.change(VPC, |details| {
            details["provenance"]["sha256"] = sha256.as_str().into();
            details["provenance"]["bytes"] = zip.len().into();
            details["provenance"]["source"] = source;
            details["provenance"]["claimed"] = json!({ "environment": "jenkins", "run": "7" });
        });
        let header = format!("x-terraform-get: {}/a?token=secret&archive=zip\r\n", archives.url);
        from.set(&format!("{VPC}/download"), http("204 No Content", &header, ""));
        let is_published = AtomicBool::new(false);
        let accepted = sha256.clone();
        let to = Broker::new(move |_, request: &Request| {
            if request.line.starts_with("POST") {
                assert_eq!(hex::encode(Sha256::digest(&request.body)), accepted);
                is_published.store(true, Ordering::Relaxed);
                let body = json!({ "sha256": accepted, "status": "created" });
                return http("201 Created", "", &body.to_string());
            }
            if !is_published.load(Ordering::Relaxed) {
                return http("404 Not Found", "", r#"{"errors":["there is no such version"]}"#);
            }
            http("200 OK", "", &json!({ "provenance": { "sha256": listed } }).to_string())
        });
        configure(&from.machine, &from.broker, &to);
        let run = promote(&from, "acme/vpc/aws", "");
        assert_eq!(run.code, code, "{}", run.stderr);
        if code == 0 {
            let line = format!("promoted acme/vpc/aws 1.0.0 (sha256:{sha256}) from staging");
            assert!(run.stdout.starts_with(&line), "{}", run.stdout);
            let sent =
                to.requests().into_iter().find(|request| request.line.contains("POST /v1/mod"));
            assert!(sent.unwrap().headers.contains_key("stile-claimed"));
        } else {
            let problem =
                format!("the version is published, but its SHA-256 there is {}", "0".repeat(64));
            assert!(run.stderr.contains(&problem) && run.stdout.is_empty(), "{}", run.stderr);
        }
    }
}

/// A server that answers every request with an archive.
struct Archives {
    url: String,
}

impl Archives {
    fn start(bytes: Vec<u8>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let reader = std::io::BufReader::new(stream.try_clone().unwrap());
                let lines = std::io::BufRead::lines(reader).map_while(Result::ok);
                let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                let has_token =
                    |line: &String| line.to_ascii_lowercase().starts_with("authorization");
                assert!(!head.iter().any(has_token), "the server of an archive gets no token");
                let length = bytes.len();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
                );
                let _written = stream.write_all(&[answer.as_bytes(), &bytes].concat());
            }
        });
        Self { url }
    }
}
