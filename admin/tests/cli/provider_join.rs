//! Tests of `provider publish` for a version that the registry already has: whose lines it signs, and
//! what a later platform needs. Also the `dist` of GoReleaser, whose manifest is outside.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::provider_publish::{public, publish, signed_with, writes};
use crate::provider_registry::{
    State, check_published, dist, goreleaser_dist, registry, sign_sums, tarball, zip_name,
};

/// Publishes a folder to a registry of its own, and returns what that registry then has.
fn published_elsewhere(folder: &str, platforms: &[&str], flags: &str) -> Value {
    let state = Arc::new(Mutex::new(State::default()));
    let broker = registry(&state);
    let machine = broker.machine();
    dist(&machine, folder, platforms);
    let run = machine.run(&publish(folder, flags));
    assert_eq!(run.code, 0, "{}", run.stderr);
    let published = state.lock().unwrap().published.clone();
    published.unwrap()
}

#[test]
fn the_key_signs_no_line_that_only_the_registry_says() {
    let key = signed_with("other.asc");
    let own = published_elsewhere("dist", &["linux_amd64"], &key);
    let sums = own["sha256sums"].as_str().unwrap();
    let line = format!("{}  {}\n", "0".repeat(64), zip_name("windows_amd64"));
    let with = |sums: &str, signature: Value| {
        let mut published = own.clone();
        published["sha256sums"] = sums.into();
        published["signature"] = signature;
        published
    };
    let forged = format!("{sums}{line}");
    let thief = signed_with("rsa4096.asc");
    let cases = [
        with(&forged, own["signature"].clone()),
        with(&forged, STANDARD.encode("no signature").into()),
        with(&forged, "*".into()),
        with(&forged, Value::from("")),
        // A thief of another key of the namespace.
        published_elsewhere("dist", &["linux_amd64", "windows_amd64"], &thief),
    ];
    for published in cases {
        let state = Arc::new(Mutex::new(State::default()));
        let broker = registry(&state);
        let machine = broker.machine();
        state.lock().unwrap().published = Some(published.clone());
        dist(&machine, "all", &["linux_amd64"]);
        dist(&machine, "more", &["darwin_arm64", "linux_amd64"]);
        for folder in ["all", "more"] {
            let run = machine.run(&publish(folder, &key));
            let sentence = "version 1.2.0 is published with a signature that the key of this publish did not make, and the folder has no archive for `windows_amd64`; hint: publish a folder with all platforms of the version, or a new version if you did not build one of them";
            assert!(run.code == 1 && run.stderr.contains(sentence), "{published}: {}", run.stderr);
        }
        assert_eq!(writes(&broker), Vec::<String>::new());
    }
}

#[test]
fn a_manifest_that_the_key_did_not_sign_is_not_signed() {
    let key = signed_with("other.asc");
    let mut published = published_elsewhere("dist", &["linux_amd64"], &key);
    let state = Arc::new(Mutex::new(State::default()));
    let broker = registry(&state);
    let machine = broker.machine();
    dist(&machine, "more", &["darwin_arm64", "linux_amd64"]);
    let manifest = "terraform-provider-dns_1.2.0_manifest.json";
    std::fs::rename(machine.path("more").join(manifest), machine.path("manifest")).unwrap();
    published["manifest"] =
        r#"{"version":1,"metadata":{"protocol_versions":["5.0"]},"more":1}"#.into();
    state.lock().unwrap().published = Some(published.clone());
    let run = machine.run(&publish("more", &key));
    let sentence = "the registry sent another manifest than its list of digests has";
    assert!(run.code == 2 && run.stderr.contains(sentence), "{}", run.stderr);
    let other = signed_with("rsa4096.asc");
    let run = machine.run(&publish("more", &other));
    let sentence = "did not make, and the folder has no manifest; hint: add the manifest of the version with `--manifest FILE`";
    assert!(run.code == 1 && run.stderr.contains(sentence), "{}", run.stderr);
    assert_eq!(writes(&broker), Vec::<String>::new());
    let run = machine.run(&publish("more", &format!("--manifest manifest {other}")));
    assert_eq!(run.code, 0, "{}", run.stderr);
}

#[test]
fn after_a_change_of_the_key_a_folder_with_all_platforms_gets_a_new_signature() {
    let all = ["darwin_arm64", "linux_amd64"];
    let before = published_elsewhere("dist", &all, &signed_with("other.asc"));
    let state = Arc::new(Mutex::new(State::default()));
    let broker = registry(&state);
    let machine = broker.machine();
    state.lock().unwrap().published = Some(before.clone());
    dist(&machine, "dist", &all);
    let json = machine.json(&publish("dist", &signed_with("rsa4096.asc")));
    // The stand-in keeps no archives, so it asks for those of the folder again.
    let sent = json!(all.map(zip_name));
    assert_eq!((&json["status"], &json["sent"]), (&json!("changed"), &sent));
    let after = state.lock().unwrap().published.clone().unwrap();
    assert_eq!(after["sha256sums"], before["sha256sums"]);
    assert_ne!(after["key_id"], before["key_id"]);
    check_published(&machine, &after, &public("rsa4096.public.asc"), "dist");
}

#[test]
fn a_later_platform_needs_no_protocol_and_cannot_change_that_of_the_others() {
    let state = Arc::new(Mutex::new(State::default()));
    let broker = registry(&state);
    let machine = broker.machine();
    let key = signed_with("other.asc");
    tarball(&machine, "release", "linux-amd64");
    tarball(&machine, "more", "linux-arm64");
    let unknown = machine.run(&publish("more", &key));
    let sentence =
        "nothing says which plugin protocol the provider has; hint: use `--protocol 5.0`";
    assert!(unknown.code == 2 && unknown.stderr.contains(sentence), "{}", unknown.stderr);
    let shown = machine.run(&publish("more", &format!("{key} --dry-run")));
    let start = "would publish acme/dns 1.2.0: 1 archive, protocol of the published version, ";
    assert!(shown.stdout.starts_with(start), "{shown:?}");
    assert_eq!(machine.run(&publish("release", &format!("--protocol 5.0 {key}"))).code, 0);
    let before = writes(&broker).len();
    let other = machine.run(&publish("more", &format!("--protocol 6.0 {key}")));
    let sentence = "version 1.2.0 is published with the protocol versions 5.0, and this publish has 6.0; hint: publish a folder with all platforms";
    assert!(other.code == 1 && other.stderr.contains(sentence), "{}", other.stderr);
    assert_eq!(writes(&broker).len(), before);
    assert_eq!(machine.json(&publish("more", &key))["status"], "changed");
    let announced = state.lock().unwrap().announced.clone().unwrap();
    assert_eq!(announced["protocols"], json!(["5.0"]));
    // A version with a manifest keeps it.
    state.lock().unwrap().published = None;
    dist(&machine, "dist", &["linux_386"]);
    assert_eq!(machine.json(&publish("dist", &key))["status"], "published");
    let manifest = state.lock().unwrap().announced.clone().unwrap()["manifest"].clone();
    assert_eq!(machine.json(&publish("more", &key))["status"], "changed");
    let announced = state.lock().unwrap().announced.clone().unwrap();
    assert_eq!((&announced["manifest"], &announced["protocols"]), (&manifest, &json!(["5.0"])));
}

#[test]
fn the_dist_of_goreleaser_is_published_with_the_manifest_of_its_repository() {
    let state = Arc::new(Mutex::new(State::default()));
    let broker = registry(&state);
    let machine = broker.machine();
    goreleaser_dist(&machine, "repository", &["darwin_arm64", "linux_amd64"]);
    sign_sums(&machine, "repository/dist", "other.asc");
    let sums = "repository/dist/terraform-provider-dns_1.2.0_SHA256SUMS";
    let sums = std::fs::read_to_string(machine.path(sums)).unwrap();
    let run = machine.run(&publish("repository/dist", ""));
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let announced = state.lock().unwrap().announced.clone().unwrap();
    assert_eq!(
        (&announced["sha256sums"], &announced["protocols"]),
        (&json!(sums), &json!(["5.0"]))
    );
    let manifest = machine.path("repository/terraform-registry-manifest.json");
    assert_eq!(announced["manifest"], std::fs::read_to_string(&manifest).unwrap());
    // In another place, the publisher names it.
    std::fs::rename(&manifest, machine.path("elsewhere.json")).unwrap();
    let refused = machine.run(&publish("repository/dist", ""));
    let sentence = "has a line for a manifest, and neither the folder nor its parent has the file; hint: use `--manifest FILE`";
    assert!(refused.code == 1 && refused.stderr.contains(sentence), "{}", refused.stderr);
    let again = machine.json(&publish("repository/dist", "--manifest elsewhere.json"));
    assert_eq!(again["status"], "unchanged");
}
