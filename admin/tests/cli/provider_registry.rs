//! A stand-in for the routes of providers, and releases to publish to it.

use std::collections::HashMap;
use std::io::{Cursor, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use zip::write::SimpleFileOptions;

use crate::broker::{Broker, Request, http};
use crate::support::Machine;

/// The flag with the registry of each command.
pub(crate) const HOST: &str = "--registry-host registry.example.com";

/// The path of the version that the tests publish.
pub(crate) const VERSION: &str = "/v1/providers/acme/dns/1.2.0";

const MANIFEST: &str = r#"{"version":1,"metadata":{"protocol_versions":["5.0"]}}"#;

/// What the registry knows. A test can change it between two commands.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// The published version: the body of its detail.
    pub(crate) published: Option<Value>,
    /// The digests of the verified archives by name.
    pub(crate) verified: HashMap<String, String>,
    /// The last announcement.
    pub(crate) announced: Option<Value>,
    /// Answers that come before those of the registry, for the first request whose line has the text.
    pub(crate) first: Vec<(&'static str, String)>,
    /// Whether clients put archives into a bucket, which is the same server.
    pub(crate) to_bucket: bool,
    /// Whether the answer to the next completion is lost.
    pub(crate) loses_completion: bool,
    /// Changes of the registry by another publisher, after the first request whose line has the text.
    pub(crate) other: Option<(&'static str, Value)>,
}

/// Starts a registry with this state.
pub(crate) fn registry(state: &Arc<Mutex<State>>) -> Broker {
    let state = Arc::clone(state);
    Broker::new(move |_, request| {
        let mut state = state.lock().unwrap();
        let found = state.first.iter().position(|(text, _)| request.line.contains(text));
        if let Some(at) = found {
            return state.first.remove(at).1;
        }
        if let Some((text, _)) = &state.other
            && request.line.contains(text)
        {
            state.published = state.other.take().map(|(_, published)| published);
        }
        answer(&mut state, request)
    })
}

fn answer(state: &mut State, request: &Request) -> String {
    let line = request.line.trim_end_matches(" HTTP/1.1").to_owned();
    let (method, path) = line.split_once(' ').unwrap();
    if let ("PUT", Some((_, name))) = (method, path.rsplit_once('/')) {
        let (name, query) = name.split_once('?').unwrap();
        assert_eq!(query, "X-Amz-Signature=secret");
        state.verified.insert(name.to_owned(), hex::encode(Sha256::digest(&request.body)));
        return http("200 OK", "", "");
    }
    let below = path.strip_prefix(VERSION).unwrap();
    match (method, below) {
        ("GET", "") => match &state.published {
            Some(published) => http("200 OK", "", &published.to_string()),
            None => http("404 Not Found", "", r#"{"errors":["there is no such version"]}"#),
        },
        ("POST", "/uploads") => begin(state, request),
        ("POST", "/uploads/u1") if state.announced.is_none() => {
            http("404 Not Found", "", r#"{"errors":["there is no such upload"]}"#)
        }
        ("POST", "/uploads/u1") => {
            let answer = complete(state);
            if !std::mem::take(&mut state.loses_completion) {
                return answer;
            }
            state.announced = None;
            http("502 Bad Gateway", "retry-after: 0\r\n", "<html>")
        }
        ("POST", below) => {
            let name = below.strip_prefix("/uploads/u1/files/").unwrap().to_owned();
            if !request.body.is_empty() {
                let sha256 = hex::encode(Sha256::digest(&request.body));
                state.verified.insert(name.clone(), sha256);
            }
            match state.verified.get(&name) {
                Some(sha256) => {
                    let body = json!({ "name": name, "sha256": sha256, "status": "verified" });
                    http("200 OK", "", &body.to_string())
                }
                None => http("409 Conflict", "", r#"{"errors":["nothing was put"]}"#),
            }
        }
        _ => http("404 Not Found", "", r#"{"errors":["there is no such route"]}"#),
    }
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.ends_with(".zip")).collect()
}

fn begin(state: &mut State, request: &Request) -> String {
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let sums = body["sha256sums"].as_str().unwrap();
    let done = |status: &str| {
        let sha256 = hex::encode(Sha256::digest(sums));
        json!({ "provider": "acme/dns", "version": "1.2.0", "sha256": sha256, "status": status })
    };
    if let Some(published) = &state.published {
        let old = published["sha256sums"].as_str().unwrap();
        if lines(old).iter().any(|line| !lines(sums).contains(line)) {
            let stale = json!({ "errors": ["the list lacks lines of published platforms"] });
            return http("409 Conflict", "", &stale.to_string());
        }
        if old == sums && published["signature"] == body["signature"] {
            return http("200 OK", "", &done("unchanged").to_string());
        }
    }
    let files = body["files"].as_array().unwrap().iter().map(|file| {
        let (name, length) = (file["name"].as_str().unwrap(), &file["bytes"]);
        let line = lines(sums).into_iter().find(|line| line.ends_with(name)).unwrap();
        let is_verified = state.verified.get(name).is_some_and(|sha256| line.starts_with(sha256));
        let status = if is_verified { "verified" } else { "missing" };
        let mut file = json!({ "name": name, "sha256": line[..64], "status": status });
        if state.to_bucket && !is_verified {
            let host = &request.headers["host"];
            file["url"] = format!("http://{host}/bucket/{name}?X-Amz-Signature=secret").into();
            // As the signature of a bucket demands, so that the body is not chunked.
            let bytes = length.to_string();
            file["headers"] = json!({ "content-length": bytes, "if-none-match": "*" });
        }
        file
    });
    // Like the registry, it lists the published archives, too.
    let old = state.published.iter().flat_map(|published| {
        let file =
            |line: &str| json!({ "name": line[66..], "sha256": line[..64], "status": "verified" });
        let old = lines(published["sha256sums"].as_str().unwrap());
        old.into_iter().map(file).collect::<Vec<_>>()
    });
    let files: Vec<Value> = files.chain(old).collect();
    let expires_at = "2999-01-01T00:00:00Z";
    let session = json!({ "upload": "u1", "expires_at": expires_at, "files": files });
    state.announced = Some(body);
    http("201 Created", "", &session.to_string())
}

fn complete(state: &mut State) -> String {
    let body = state.announced.clone().unwrap();
    let sums = body["sha256sums"].as_str().unwrap();
    let status = if state.published.is_some() { "changed" } else { "created" };
    let sha256 = hex::encode(Sha256::digest(sums));
    let reply =
        json!({ "provider": "acme/dns", "version": "1.2.0", "sha256": sha256, "status": status });
    state.published = Some(json!({
        "version": "1.2.0", "sha256sums": sums, "signature": body["signature"],
        "key_id": issuer(&STANDARD.decode(body["signature"].as_str().unwrap()).unwrap()),
        "manifest": body["manifest"], "protocols": body["protocols"],
    }));
    http("201 Created", "", &reply.to_string())
}

/// Returns the id of the key that a signature names: the last bytes of its fingerprint.
fn issuer(signature: &[u8]) -> String {
    // A subpacket of type 33, with version 4 and a fingerprint of 20 bytes (RFC 9580, 5.2.3.35).
    let at = signature.windows(3).position(|bytes| bytes == [22, 33, 4]).unwrap() + 3;
    hex::encode_upper(&signature[at + 12..at + 20])
}

/// Returns the path of a private key of the fixtures.
pub(crate) fn key(name: &str) -> String {
    fixture(name).to_str().unwrap().to_owned()
}

/// Returns the path of a file of the fixtures.
pub(crate) fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/openpgp-private").join(name)
}

/// Returns the name of a zip archive.
pub(crate) fn zip_name(platform: &str) -> String {
    format!("terraform-provider-dns_1.2.0_{platform}.zip")
}

/// Returns a zip archive with an executable.
pub(crate) fn zip(content: &str) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().unix_permissions(0o755);
    zip.start_file("terraform-provider-dns_v1.2.0", options).unwrap();
    zip.write_all(content.as_bytes()).unwrap();
    zip.finish().unwrap().into_inner()
}

/// Writes a tarball of a platform with an executable.
pub(crate) fn tarball(machine: &Machine, folder: &str, platform: &str) {
    std::fs::create_dir_all(machine.path(folder)).unwrap();
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(
        Vec::new(),
        flate2::Compression::default(),
    ));
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o755);
    header.set_mtime(1_700_000_000);
    header.set_size(platform.len() as u64);
    tar.append_data(&mut header, "terraform-provider-dns_v1.2.0", platform.as_bytes()).unwrap();
    let bytes = tar.into_inner().unwrap().finish().unwrap();
    let name = format!("terraform-provider-dns-v1.2.0-{platform}-bin.tar.gz");
    std::fs::write(machine.path(folder).join(name), bytes).unwrap();
}

/// Writes a `dist` folder with a manifest and a zip archive for each platform, and no list of digests.
pub(crate) fn dist(machine: &Machine, folder: &str, platforms: &[&str]) {
    machine.write(&format!("{folder}/terraform-provider-dns_1.2.0_manifest.json"), MANIFEST);
    for platform in platforms {
        std::fs::write(machine.path(folder).join(zip_name(platform)), zip(platform)).unwrap();
    }
}

/// Writes a repository with a `dist` as GoReleaser leaves it. It has files and folders that belong to
/// no release, and the list has a line for a manifest that is only in the repository.
pub(crate) fn goreleaser_dist(machine: &Machine, repository: &str, platforms: &[&str]) {
    machine.write(&format!("{repository}/terraform-registry-manifest.json"), MANIFEST);
    for name in ["artifacts.json", "metadata.json", "config.yaml", "CHANGELOG.md"] {
        machine.write(&format!("{repository}/dist/{name}"), "{}");
    }
    let mut sums = String::new();
    for platform in platforms {
        let built = format!("terraform-provider-dns_{platform}_v1/terraform-provider-dns_v1.2.0");
        machine.write(&format!("{repository}/dist/{built}"), platform);
        let zip = zip(platform);
        sums += &format!("{}  {}\n", hex::encode(Sha256::digest(&zip)), zip_name(platform));
        let path = machine.path(repository).join("dist").join(zip_name(platform));
        std::fs::write(path, zip).unwrap();
    }
    let sha256 = hex::encode(Sha256::digest(MANIFEST));
    sums += &format!("{sha256}  terraform-provider-dns_1.2.0_manifest.json\n");
    machine.write(&format!("{repository}/dist/{SUMS}"), &sums);
}

/// The name of the list of digests.
const SUMS: &str = "terraform-provider-dns_1.2.0_SHA256SUMS";

/// Writes the list of digests of a `dist` folder, and signs it with GnuPG.
pub(crate) fn sign_dist(machine: &Machine, folder: &str, key: &str) {
    let script = format!("sha256sum *.zip *.json > {SUMS}");
    let listed = gnupg(machine).args(["-c", &script]).current_dir(machine.path(folder)).status();
    assert!(listed.unwrap().success());
    sign_sums(machine, folder, key);
}

/// Signs the list of digests in a folder with GnuPG.
pub(crate) fn sign_sums(machine: &Machine, folder: &str, key: &str) {
    let script = format!(
        "gpg --batch --quiet --import {} && \
         gpg --batch --quiet --trust-model always --detach-sign {SUMS}",
        fixture(key).display()
    );
    let signed = gnupg(machine).args(["-c", &script]).current_dir(machine.path(folder)).status();
    assert!(signed.unwrap().success());
}

/// Returns a shell with GnuPG, whose home is a folder of the machine.
pub(crate) fn gnupg(machine: &Machine) -> Command {
    let home = machine.path("gnupg");
    std::fs::create_dir_all(&home).unwrap();
    // GnuPG warns about a home that other users can read.
    std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o700)).unwrap();
    let mut shell = Command::new("sh");
    shell.env("GNUPGHOME", home);
    shell
}

/// Checks with GnuPG and coreutils what is published: the signature by this public key, and the digest
/// of each archive in the folder.
#[track_caller]
pub(crate) fn check_published(machine: &Machine, published: &Value, public: &str, folder: &str) {
    let folder = machine.path(folder);
    std::fs::write(folder.join("sums"), published["sha256sums"].as_str().unwrap()).unwrap();
    let signature = STANDARD.decode(published["signature"].as_str().unwrap()).unwrap();
    std::fs::write(folder.join("sums.sig"), signature).unwrap();
    std::fs::write(folder.join("key.asc"), public).unwrap();
    let script = "gpg --batch --quiet --import key.asc && gpg --batch --verify sums.sig sums && \
                  sha256sum --strict --check --ignore-missing sums && rm sums sums.sig key.asc";
    let checked = gnupg(machine).args(["-c", script]).current_dir(folder).output().unwrap();
    let stderr = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success() && stderr.contains("Good signature from"), "{stderr}");
}
