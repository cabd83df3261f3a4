//! Tests of `provider publish`: what it refuses, what it sends, and that it can be repeated.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::broker::{Broker, http};
use crate::provider_registry::{
    HOST, State, VERSION, check_published, dist, fixture, key, registry, sign_dist, tarball, zip,
    zip_name,
};
use crate::support::Machine;

const SUMS: &str = "dist/terraform-provider-dns_1.2.0_SHA256SUMS";

/// Returns the arguments that publish a folder.
pub(crate) fn publish(folder: &str, flags: &str) -> String {
    format!("provider publish acme/dns 1.2.0 {folder} {flags} {HOST}")
}

/// Returns the flag with a private key of the fixtures.
pub(crate) fn signed_with(name: &str) -> String {
    format!("--key {}", key(name))
}

fn machine() -> (Broker, Machine) {
    let broker = Broker::new(|_, _| unreachable!("the broker receives no request"));
    let machine = broker.machine();
    (broker, machine)
}

/// Returns a public key of the fixtures.
pub(crate) fn public(name: &str) -> String {
    std::fs::read_to_string(fixture(name)).unwrap()
}

/// Returns the lines of the requests without tokens and reads.
pub(crate) fn writes(broker: &Broker) -> Vec<String> {
    let lines = broker.requests().into_iter().map(|request| request.line);
    lines
        .filter(|line| !line.contains("/v1/token") && !line.starts_with("GET"))
        .map(|line| line.replace(VERSION, "").replace(" HTTP/1.1", ""))
        .collect()
}

#[test]
fn a_folder_that_cannot_be_published_is_refused_with_a_sentence_and_sends_nothing() {
    /// Changes a good folder.
    type Spoil = fn(&Machine);
    let cases: [(Spoil, &str, i32, &str); 13] = [
        (
            |machine| {
                sign_dist(machine, "dist", "other.asc");
                let manifest = "dist/terraform-provider-dns_1.2.0_manifest.json";
                std::fs::remove_file(machine.path(manifest)).unwrap();
            },
            "K --protocol 5.0",
            1,
            "neither the folder nor its parent has the file; hint: use `--manifest FILE`",
        ),
        (
            |machine| {
                sign_dist(machine, "dist", "other.asc");
                machine
                    .write("new.json", r#"{"version":1,"metadata":{"protocol_versions":["6.0"]}}"#);
            },
            "K --manifest new.json",
            1,
            "SHA256SUMS` has another digest for `new.json`; hint: use `--manifest FILE`",
        ),
        (|_| {}, "K --protocol x", 2, "protocol version `x` must have the form `MAJOR.MINOR`"),
        (|_| {}, "K --protocol 6.0", 2, "the manifest has the protocol versions 5.0, and"),
        (|_| {}, "", 2, "there is no key; hint: use `--key FILE` or `--kms-key ARN`"),
        (
            |machine| {
                std::fs::remove_file(machine.path("dist").join(zip_name("linux_amd64"))).unwrap();
            },
            "K",
            1,
            "`dist` has no archive of the version; hint: name a folder with files such as",
        ),
        (
            |machine| {
                let name = "dist/terraform-provider-dns_1.3.0_linux_arm64.zip";
                std::fs::write(machine.path(name), zip("x")).unwrap();
            },
            "K",
            1,
            "must have the version `1.2.0` in its name; hint: a folder has the files of one version",
        ),
        (
            |machine| {
                machine.write(SUMS, &format!("{}  {}\n", "0".repeat(64), zip_name("linux_amd64")));
            },
            "K",
            1,
            "SHA256SUMS` has another digest for `terraform-provider-dns_1.2.0_linux_amd64.zip`",
        ),
        (
            |machine| {
                machine.write(SUMS, &format!("{}  {}\n", "0".repeat(64), zip_name("linux_arm64")));
            },
            "K",
            1,
            "SHA256SUMS` has no line for `terraform-provider-dns_1.2.0_linux_amd64.zip`",
        ),
        (
            |machine| {
                machine
                    .write(SUMS, &format!("{}  {}\n\n", "0".repeat(64), zip_name("linux_amd64")));
            },
            "K",
            1,
            "line 2 of `SHA256SUMS` is blank, and Terraform crashes on a blank line",
        ),
        (
            |machine| tarball(machine, "dist", "linux-arm64"),
            "K",
            1,
            "both zip archives and tarballs",
        ),
        (
            |machine| {
                std::fs::write(machine.path("dist").join(zip_name("linux_amd64")), "x").unwrap();
            },
            "K",
            1,
            "cannot be published: ",
        ),
        (
            |machine| {
                sign_dist(machine, "dist", "other.asc");
                machine.write(&format!("{SUMS}.sig"), "-----BEGIN PGP SIGNATURE-----");
            },
            "",
            1,
            "is an armored signature, but Terraform reads only binary ones",
        ),
    ];
    for (spoil, flags, code, expected) in cases {
        let (broker, machine) = machine();
        dist(&machine, "dist", &["linux_amd64"]);
        spoil(&machine);
        let run = machine.run(&publish("dist", &flags.replace('K', &signed_with("other.asc"))));
        assert_eq!((run.stdout.as_str(), run.code), ("", code), "{expected}: {}", run.stderr);
        let is_one_line = run.stderr.lines().count() == 1 || code == 2;
        assert!(run.stderr.contains(expected) && is_one_line, "{expected}: {}", run.stderr);
        assert!(broker.requests().is_empty());
    }
}

#[test]
fn a_key_that_cannot_sign_is_refused_and_no_message_has_the_passphrase() {
    let (broker, machine) = machine();
    dist(&machine, "dist", &["linux_amd64"]);
    machine.write("wrong", "hunter2\n");
    machine.write("text", "no key");
    machine.write("damaged", &public("other.asc").replace("l", "m"));
    let damaged = machine.path("damaged").to_str().unwrap().to_owned();
    for (flags, expected) in [
        (signed_with("missing.asc"), "cannot be read: No such file"),
        ("--key text".to_owned(), "is not an armored OpenPGP private key; hint: write it with"),
        (format!("--key {damaged}"), "has a damaged private key"),
        (signed_with("other.public.asc"), "has a public key, and only a private key can sign"),
        (signed_with("two.asc"), "has several private keys"),
        (signed_with("weak-rsa.asc"), "the RSA key has 1024 bits; the minimum is 2048"),
        (signed_with("expired.asc"), "the key expired at 2021-01-01"),
        (signed_with("revoked.asc"), "the key is revoked"),
        (signed_with("certify-only.asc"), "cannot sign a release: "),
        (
            signed_with("locked.asc"),
            "has a passphrase, and none was given; hint: use `--passphrase-file`",
        ),
        (
            format!("{} --passphrase-file wrong", signed_with("locked.asc")),
            "does not open with this passphrase",
        ),
        ("--passphrase-file wrong".to_owned(), "--key <FILE>"),
        (format!("{} --kms-key arn:x", signed_with("other.asc")), "cannot be used with"),
        ("--kms-key x".to_owned(), "`x` is not the ARN of a KMS key"),
    ] {
        let run = machine.run(&publish("dist", &flags));
        assert_eq!(run.stdout, "", "{flags}");
        assert!(run.code != 0 && run.stderr.contains(expected), "{flags}: {}", run.stderr);
        assert!(!run.stderr.contains("hunter2"), "{}", run.stderr);
    }
    assert!(broker.requests().is_empty());
}

#[test]
fn each_kind_of_key_makes_a_signature_that_gnupg_accepts() {
    for (name, public_name, flags, notice) in [
        ("rsa4096.asc", "rsa4096.public.asc", "", ""),
        ("locked.asc", "locked.public.asc", " --passphrase-file passphrase", ""),
        ("subkey.asc", "subkey.public.asc", "", ""),
        ("only-subkey.asc", "subkey.public.asc", "", ""),
        ("ed25519.asc", "ed25519.public.asc", "", "clients of before 2022 refuse it"),
    ] {
        let state = Arc::new(Mutex::new(State::default()));
        let broker = registry(&state);
        let machine = broker.machine();
        machine.write("passphrase", "correct horse\r\nanother line");
        dist(&machine, "dist", &["darwin_arm64", "linux_amd64"]);
        let run = machine.run(&publish("dist", &format!("{}{flags}", signed_with(name))));
        assert_eq!(run.code, 0, "{name}: {}", run.stderr);
        assert!(run.stderr.contains(notice), "{name}: {}", run.stderr);
        assert_eq!(run.stderr.is_empty(), notice.is_empty(), "{name}: {}", run.stderr);
        let published = state.lock().unwrap().published.clone().unwrap();
        check_published(&machine, &published, &public(public_name), "dist");
    }
}

#[test]
fn the_passphrase_can_be_in_a_variable() {
    let (_broker, machine) = machine();
    dist(&machine, "dist", &["linux_amd64"]);
    let command = publish("dist", &format!("{} --dry-run", signed_with("locked.asc")));
    let machine = machine.with("STILE_KEY_PASSPHRASE", "hunter2");
    let run = machine.run(&command);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(!run.stderr.contains("hunter2"), "{}", run.stderr);
    let machine = machine.with("STILE_KEY_PASSPHRASE", "correct horse");
    assert_eq!(machine.run(&command).code, 0);
}

#[test]
fn a_signed_dist_folder_is_sent_as_it_is() {
    let state = Arc::new(Mutex::new(State::default()));
    let broker = registry(&state);
    let machine = broker.machine();
    dist(&machine, "dist", &["darwin_arm64", "linux_amd64"]);
    sign_dist(&machine, "dist", "other.asc");
    let run = machine.run(&publish("dist", ""));
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    assert!(run.stdout.starts_with("published acme/dns 1.2.0 (sha256sums:"), "{}", run.stdout);
    let body = "      source  = \"registry.example.com/acme/dns\"\n      version = \"1.2.0\"\n";
    assert!(run.stdout.contains(body), "{}", run.stdout);
    let announced = state.lock().unwrap().announced.clone().unwrap();
    let sums = std::fs::read_to_string(machine.path(SUMS)).unwrap();
    assert_eq!(announced["sha256sums"], sums);
    let size = zip("linux_amd64").len();
    assert_eq!(announced["files"][1], json!({ "name": zip_name("linux_amd64"), "bytes": size }));
    assert_eq!(announced["protocols"], json!(["5.0"]));
    check_published(
        &machine,
        &state.lock().unwrap().published.clone().unwrap(),
        &public("other.public.asc"),
        "dist",
    );
    let lines = writes(&broker);
    assert_eq!(lines.first().map(String::as_str), Some("POST /uploads"));
    assert_eq!(lines.last().map(String::as_str), Some("POST /uploads/u1"));
    assert_eq!(lines.len(), 4, "{lines:?}");
    // The same again changes nothing.
    let again = machine.json(&publish("dist", ""));
    assert_eq!((&again["status"], &again["sent"]), (&json!("unchanged"), &json!([])));
    assert_eq!(writes(&broker).len(), 5);
}

#[test]
fn tarballs_are_repacked_and_the_same_again_changes_nothing() {
    let state = Arc::new(Mutex::new(State::default()));
    let broker = registry(&state);
    let machine = broker.machine();
    tarball(&machine, "release", "linux-amd64");
    tarball(&machine, "release", "windows-386");
    let command = publish("release", &format!("--protocol 6.0 {}", signed_with("other.asc")));
    let first = machine.json(&command);
    assert_eq!(first["status"], "published");
    let names = json!([zip_name("linux_amd64"), zip_name("windows_386")]);
    assert_eq!(first["sent"], names);
    let announced = state.lock().unwrap().announced.clone().unwrap();
    assert_eq!((&announced["protocols"], &announced["manifest"]), (&json!(["6.0"]), &Value::Null));
    let again = machine.json(&command);
    assert_eq!((&again["status"], &again["sha256"]), (&json!("unchanged"), &first["sha256"]));
}

#[test]
fn a_later_platform_joins_the_version_and_never_changes_a_published_one() {
    let state = Arc::new(Mutex::new(State::default()));
    let broker = registry(&state);
    let machine = broker.machine();
    let key = signed_with("other.asc");
    dist(&machine, "one", &["linux_amd64"]);
    dist(&machine, "two", &["darwin_arm64"]);
    dist(&machine, "signed", &["windows_amd64"]);
    sign_dist(&machine, "signed", "other.asc");
    assert_eq!(machine.run(&publish("one", &key)).code, 0);
    let json = machine.json(&publish("two", &key));
    assert_eq!(
        (&json["status"], &json["sent"]),
        (&json!("changed"), &json!([zip_name("darwin_arm64")]))
    );
    let published = state.lock().unwrap().published.clone().unwrap();
    let sums = published["sha256sums"].as_str().unwrap();
    assert_eq!(sums.lines().count(), 3, "{sums}");
    check_published(&machine, &published, &public("other.public.asc"), "two");

    let before = writes(&broker).len();
    let refused = machine.run(&publish("signed", ""));
    let sentence = "the registry has more files of the version (`darwin_arm64`, `linux_amd64`), and the signed `SHA256SUMS` of the folder has no lines for them; hint: sign the list of all files with `--key FILE`";
    assert!(refused.code == 1 && refused.stderr.contains(sentence), "{}", refused.stderr);
    std::fs::write(machine.path("one").join(zip_name("linux_amd64")), zip("other")).unwrap();
    let refused = machine.run(&publish("one", &key));
    let sentence =
        "version 1.2.0 is published with other bytes for `linux_amd64`; hint: lock files";
    assert!(refused.code == 1 && refused.stderr.contains(sentence), "{}", refused.stderr);
    assert_eq!(writes(&broker).len(), before, "neither sends anything");
}

#[test]
fn a_platform_that_another_publisher_adds_at_the_same_time_is_joined() {
    let state = Arc::new(Mutex::new(State::default()));
    let broker = registry(&state);
    let machine = broker.machine();
    let key = signed_with("other.asc");
    dist(&machine, "one", &["linux_amd64"]);
    dist(&machine, "two", &["darwin_arm64"]);
    assert_eq!(machine.run(&publish("one", &key)).code, 0);
    {
        let mut state = state.lock().unwrap();
        let published = state.published.take().unwrap();
        state.other = Some(("POST /v1/providers/acme/dns/1.2.0/uploads ", published));
    }
    let json = machine.json(&publish("two", &key));
    assert_eq!(json["status"], "changed");
    let published = state.lock().unwrap().published.clone().unwrap();
    let sums = published["sha256sums"].as_str().unwrap().to_owned();
    assert!(sums.contains("linux_amd64") && sums.contains("darwin_arm64"), "{sums}");
}

#[test]
fn a_conflict_that_nothing_explains_is_an_error_with_its_sentence() {
    let state = Arc::new(Mutex::new(State::default()));
    let broker = registry(&state);
    let machine = broker.machine();
    dist(&machine, "dist", &["linux_amd64"]);
    let refusal = http("409 Conflict", "", r#"{"errors":["the version is reserved"]}"#);
    state.lock().unwrap().first = vec![("/uploads ", refusal); 3];
    let run = machine.run(&publish("dist", &signed_with("other.asc")));
    let start = "error: `acme/dns` 1.2.0 was not published: the version is reserved; hint: run the";
    assert!(run.code == 1 && run.stderr.starts_with(start), "{}", run.stderr);
}

#[test]
fn a_stopped_publish_sends_only_what_is_missing() {
    let state = Arc::new(Mutex::new(State::default()));
    let broker = registry(&state);
    let machine = broker.machine();
    dist(&machine, "dist", &["darwin_arm64", "linux_amd64"]);
    let command = publish("dist", &format!("--jobs 1 {}", signed_with("other.asc")));
    // As a program that was killed after the first archive.
    let refusal = http("403 Forbidden", "", r#"{"errors":["no"]}"#);
    state.lock().unwrap().first = vec![("linux_amd64", refusal)];
    let run = machine.run(&command);
    assert!(run.code == 1 && run.stderr.contains("run the same command again"), "{}", run.stderr);
    let before = writes(&broker).len();
    assert_eq!(machine.json(&command)["status"], "published");
    let expected = format!("POST /uploads/u1/files/{}", zip_name("linux_amd64"));
    assert_eq!(
        writes(&broker)[before..],
        ["POST /uploads".to_owned(), expected, "POST /uploads/u1".to_owned()]
    );
}

#[test]
fn a_slow_verification_and_a_front_that_fails_are_asked_again() {
    let state = Arc::new(Mutex::new(State::default()));
    let broker = registry(&state);
    let machine = broker.machine();
    dist(&machine, "dist", &["linux_amd64"]);
    let slow = http("202 Accepted", "retry-after: 0\r\n", r#"{"status":"verifying"}"#);
    let down = |status: &str| http(status, "retry-after: 0\r\n", "<html>");
    state.lock().unwrap().first = vec![
        ("files/", slow.clone()),
        ("files/", down("502 Bad Gateway")),
        ("files/", down("504 Gateway Timeout")),
        ("files/", slow),
        ("uploads/u1 ", down("502 Bad Gateway")),
    ];
    let run = machine.run(&publish("dist", &signed_with("other.asc")));
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let bodies: Vec<usize> = broker
        .requests()
        .iter()
        .filter(|request| request.line.contains("files/"))
        .map(|request| request.body.len())
        .collect();
    // The archive, four questions, of which the last says that nothing arrived, and the archive again.
    let size = zip("linux_amd64").len();
    assert_eq!(bodies, [size, 0, 0, 0, 0, size]);
}

#[test]
fn a_registry_that_never_answers_or_got_other_bytes_is_an_error() {
    let state = Arc::new(Mutex::new(State::default()));
    let broker = registry(&state);
    let machine = broker.machine();
    dist(&machine, "dist", &["linux_amd64"]);
    let command = publish("dist", &signed_with("other.asc"));
    let down = http("502 Bad Gateway", "retry-after: 0\r\n", "<html>");
    state.lock().unwrap().first = vec![("files/", down); 40];
    let run = machine.run(&command);
    assert!(run.code == 2 && run.stderr.contains("the registry is unavailable"), "{}", run.stderr);
    state.lock().unwrap().first.clear();
    let other = json!({ "name": "x", "sha256": "0".repeat(64), "status": "verified" }).to_string();
    state.lock().unwrap().first = vec![("files/", http("200 OK", "", &other))];
    let run = machine.run(&command);
    assert!(
        run.code == 2 && run.stderr.contains("got other bytes than the sent ones"),
        "{}",
        run.stderr
    );
    assert!(state.lock().unwrap().published.is_none());
}

#[test]
fn a_dry_run_shows_the_files_and_the_key_and_sends_nothing() {
    let (broker, machine) = machine();
    tarball(&machine, "release", "linux-amd64");
    dist(&machine, "dist", &["linux_amd64"]);
    sign_dist(&machine, "dist", "other.asc");
    let key = signed_with("rsa4096.asc");
    let run = machine.run(&publish("release", &format!("--protocol 5.0 --dry-run {key}")));
    assert_eq!(run.code, 0, "{}", run.stderr);
    let first = run.stdout.lines().next().unwrap();
    let start = "would publish acme/dns 1.2.0: 1 archive, protocol 5.0, signed with key ";
    assert!(first.starts_with(start) && first.ends_with(" (RSA 4096)"), "{first}");
    assert!(run.stdout.contains("\nlinux_amd64  "), "{}", run.stdout);
    let json = machine.json(&publish("dist", "--dry-run"));
    assert_eq!((&json["status"], &json["key_id"]), (&json!("pending"), &Value::Null));
    assert_eq!(json["files"][0]["platform"], "linux_amd64");
    assert!(broker.requests().is_empty());
}
