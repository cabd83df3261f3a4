//! A stand-in for the parts of a registry that an export reads: a table of paths and answers.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pgp::composed::{Deserializable as _, SignedSecretKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{PacketTrait as _, SignatureConfig, SignatureType, Subpacket, SubpacketData};
use pgp::types::{KeyDetails as _, Password, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use stile_core::package::provider::SigningKey;

use crate::broker::{Broker, http};
use crate::provider_registry::fixture;
use crate::support::{Machine, Run};

/// The flags that select the registry and the folder of every export.
pub(crate) const FLAGS: &str = "--registry-host registry.example.com --out tree";

type Routes = Arc<Mutex<BTreeMap<String, String>>>;

/// Signs a text with the key `ed25519` of the fixtures. Returns the detached signature as base64.
pub(crate) fn sign(text: &str) -> String {
    let private = std::fs::read_to_string(fixture("ed25519.asc")).unwrap();
    let key = SignedSecretKey::from_string(&private).unwrap().0.primary_key;
    let mut config =
        SignatureConfig::v4(SignatureType::Binary, key.algorithm(), HashAlgorithm::Sha512);
    let (at, fingerprint) = (Timestamp::from_secs(1_767_225_600), key.fingerprint());
    for data in
        [SubpacketData::SignatureCreationTime(at), SubpacketData::IssuerFingerprint(fingerprint)]
    {
        config.hashed_subpackets.push(Subpacket::regular(data).unwrap());
    }
    let signature = config.sign(&key, &Password::empty(), text.as_bytes()).unwrap();
    let mut packet = Vec::new();
    signature.to_writer_with_header(&mut packet).unwrap();
    STANDARD.encode(packet)
}

/// A path whose answer waits, with the two ends of the wait.
type Held = Arc<Mutex<Option<(String, Sender<()>, Receiver<()>)>>>;

/// A registry with a machine that reads it.
pub(crate) struct Registry {
    pub(crate) broker: Broker,
    pub(crate) machine: Machine,
    routes: Routes,
    held: Held,
    providers: Vec<String>,
    modules: Vec<String>,
}

impl Registry {
    /// Creates a registry without packages.
    pub(crate) fn new() -> Self {
        let (routes, held) = (Routes::default(), Held::default());
        let (served, holding) = (Arc::clone(&routes), Arc::clone(&held));
        let broker = Broker::new(move |_, request| {
            let path = request.line.split(' ').nth(1).unwrap().split('?').next().unwrap();
            let wait = holding.lock().unwrap().take_if(|(held, ..)| held == path);
            if let Some((_, reached, released)) = wait {
                let _ = reached.send(());
                let _ = released.recv();
            }
            let absent = || http("404 Not Found", "", r#"{"errors":["there is no such thing"]}"#);
            served.lock().unwrap().get(path).cloned().unwrap_or_else(absent)
        });
        let mut registry = Self {
            machine: broker.machine(),
            broker,
            routes,
            held,
            providers: Vec::new(),
            modules: Vec::new(),
        };
        let services = json!({ "modules.v1": "/v1/modules/", "providers.v1": "/v1/providers/" });
        registry.ok("/.well-known/terraform.json", &services);
        registry.list();
        registry
    }

    /// Creates a registry with a provider for two platforms, and a module.
    pub(crate) fn with_packages() -> Self {
        let mut registry = Self::new();
        registry.provider("acme/dns", &[("1.0.0", &["linux_amd64", "darwin_arm64"])]);
        registry.module("acme/vpc/aws", &["1.0.0"]);
        registry
    }

    /// Sets the whole answer to a path.
    pub(crate) fn set(&mut self, path: &str, answer: String) {
        self.routes.lock().unwrap().insert(path.to_owned(), answer);
    }

    /// Sets a successful answer to a path.
    pub(crate) fn ok(&mut self, path: &str, body: &Value) {
        self.set(path, http("200 OK", "", &body.to_string()));
    }

    /// Sets the error of a path.
    pub(crate) fn refuse(&mut self, path: &str, status: &str, error: &str) {
        self.set(path, http(status, "", &json!({ "errors": [error] }).to_string()));
    }

    /// Holds the next answer to a path. The first end gets a message when a client asks. The answer
    /// follows when the second end is dropped.
    pub(crate) fn hold(&self, path: &str) -> (Receiver<()>, Sender<()>) {
        let ((reached, on_reached), (release, released)) = (channel(), channel());
        *self.held.lock().unwrap() = Some((path.to_owned(), reached, released));
        (on_reached, release)
    }

    /// Returns the whole answer to a path.
    pub(crate) fn answer(&self, path: &str) -> String {
        self.routes.lock().unwrap()[path].clone()
    }

    /// Returns the JSON in the answer to a path.
    pub(crate) fn body(&self, path: &str) -> Value {
        let answer = self.answer(path);
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    /// Changes the JSON in the answer to a path.
    pub(crate) fn change(&mut self, path: &str, change: impl FnOnce(&mut Value)) {
        let mut body = self.body(path);
        change(&mut body);
        self.ok(path, &body);
    }

    /// Removes packages from the lists only, as a change between two pages can do.
    pub(crate) fn hide_lists(&mut self) {
        for kind in ["modules", "providers"] {
            self.ok(&format!("/v1/{kind}"), &json!({ "meta": {}, kind: [] }));
        }
    }

    /// Publishes these versions of a module, and no others.
    pub(crate) fn module(&mut self, address: &str, versions: &[&str]) {
        let base = format!("/v1/modules/{address}");
        let listed: Vec<_> = versions.iter().map(|version| json!({ "version": version })).collect();
        self.ok(&format!("{base}/versions"), &json!({ "modules": [{ "versions": listed }] }));
        for version in versions {
            let text = format!("archive of {address} {version}");
            let sha256 = hex::encode(Sha256::digest(&text));
            let provenance = json!({
                "sha256": sha256, "bytes": text.len(), "format": "zip", "source": null,
            });
            self.ok(
                &format!("{base}/{version}"),
                &json!({ "version": version, "unpublished": null, "provenance": provenance }),
            );
            let place = format!("/archives/{sha256}.zip?token=secret&archive=zip");
            self.set(
                &format!("{base}/{version}/download"),
                http("204 No Content", &format!("x-terraform-get: {place}\r\n"), ""),
            );
            self.set(&format!("/archives/{sha256}.zip"), http("200 OK", "", &text));
        }
        self.modules.retain(|listed| listed != address);
        if !versions.is_empty() {
            self.modules.push(address.to_owned());
        }
        self.list();
    }

    /// Publishes these versions of a provider with their platforms, and no others.
    pub(crate) fn provider(&mut self, address: &str, versions: &[(&str, &[&str])]) {
        let base = format!("/v1/providers/{address}");
        let listed: Vec<_> =
            versions.iter().map(|(version, _)| json!({ "version": version })).collect();
        self.ok(&format!("{base}/versions"), &json!({ "versions": listed, "warnings": [] }));
        for (version, platforms) in versions {
            self.provider_version(address, version, platforms);
        }
        self.providers.retain(|listed| listed != address);
        self.providers.push(address.to_owned());
        self.list();
    }

    fn provider_version(&mut self, address: &str, version: &str, platforms: &[&str]) {
        let base = format!("/v1/providers/{address}/{version}");
        let of_type = address.split_once('/').unwrap().1;
        let armor = std::fs::read_to_string(fixture("ed25519.public.asc")).unwrap();
        let key_id = SigningKey::read(&armor).unwrap().key_id().as_str().to_owned();
        let (mut sums, mut shown) = (String::new(), Vec::new());
        for platform in platforms {
            let (os, arch) = platform.split_once('_').unwrap();
            let text = format!("provider {address} {version} for {platform}");
            let sha256 = hex::encode(Sha256::digest(&text));
            let name = format!("terraform-provider-{of_type}_{version}_{platform}.zip");
            writeln!(sums, "{sha256}  {name}").unwrap();
            shown.push(json!({
                "os": os, "arch": arch, "sha256": sha256, "h1": "h1:x=", "bytes": text.len(),
            }));
            self.set(&format!("/files/{name}"), http("200 OK", "", &text));
            let key = json!({ "key_id": key_id, "ascii_armor": armor });
            let download = json!({
                "download_url": format!("/files/{name}?token=secret"),
                "shasums_url": "/sums?token=secret",
                "signing_keys": { "gpg_public_keys": [key] },
            });
            self.ok(&format!("{base}/download/{os}/{arch}"), &download);
        }
        let details = json!({
            "version": version, "protocols": ["5.0"], "platforms": shown, "sha256sums": sums,
            "signature": sign(&sums), "key_id": key_id, "manifest": null,
        });
        self.ok(&base, &details);
    }

    fn list(&mut self) {
        let listed = |address: &String| {
            let parts: Vec<&str> = address.split('/').collect();
            match parts.as_slice() {
                [namespace, name, provider] => {
                    json!({ "namespace": namespace, "name": name, "provider": provider })
                }
                _ => json!({ "namespace": parts[0], "type": parts[1] }),
            }
        };
        let modules: Vec<_> = self.modules.iter().map(listed).collect();
        let providers: Vec<_> = self.providers.iter().map(listed).collect();
        for namespace in ["", "/acme"] {
            let of = |kind: &str| format!("/v1/{kind}{namespace}");
            self.ok(&of("modules"), &json!({ "meta": {}, "modules": modules }));
            self.ok(&of("providers"), &json!({ "meta": {}, "providers": providers }));
        }
    }

    /// Runs an export with more flags.
    pub(crate) fn export(&self, flags: &str) -> Run {
        self.machine.run(&format!("export {FLAGS} {flags}"))
    }

    /// Runs an export that must succeed. Returns its JSON and what it wrote to stderr.
    #[track_caller]
    pub(crate) fn exported(&self, flags: &str) -> (Value, String) {
        let run = self.export(&format!("{flags} --output json"));
        assert_eq!(run.code, 0, "{}", run.stderr);
        (serde_json::from_str(&run.stdout).unwrap(), run.stderr)
    }

    /// Returns the text of a file of the tree, if it exists.
    pub(crate) fn file(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.machine.path("tree").join(path)).ok()
    }

    /// Returns the JSON in a file of the tree.
    #[track_caller]
    pub(crate) fn document(&self, path: &str) -> Value {
        serde_json::from_str(&self.file(path).unwrap()).unwrap()
    }

    /// Returns the paths of the files in the tree, without those of the program itself.
    pub(crate) fn tree(&self) -> Vec<String> {
        let root = self.machine.path("tree");
        let mut found = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = std::fs::read_dir(folder) else { continue };
            for entry in entries.map(|entry| entry.unwrap().path()) {
                if entry.is_dir() {
                    folders.push(entry);
                } else {
                    let path = entry.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                    found.push(path);
                }
            }
        }
        found.retain(|path| !path.starts_with(".stile-export"));
        found.sort();
        found
    }
}
