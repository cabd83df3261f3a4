//! Tests of versions with an object of a bucket: `namespace set --source s3://…` and `module publish
//! --object`.

use crate::broker::{Broker, Request, http};
use crate::support::{DEPLOY, Machine};

const HOST: &str = "--registry-host registry.example.com";

const SHA256: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

macro_rules! snapshot {
    ($name:literal, $value:expr) => {
        insta::with_settings!({ prepend_module_to_snapshot => false, snapshot_path => "../snapshots", omit_expression => true }, {
            insta::assert_snapshot!($name, $value);
        });
    };
}

/// Accepts every object, and answers with what it got.
fn registry(status: &'static str) -> Broker {
    Broker::new(move |_, request: &Request| {
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        let answer = serde_json::json!({
            "object": body["object"], "sha256": body["sha256"], "status": status,
            "warnings": ["line 1 of `main.tf` is not HCL"],
        });
        http("201 Created", "", &answer.to_string())
    })
}

#[test]
fn the_allowed_objects_of_a_namespace_need_a_region_and_are_shown_with_it() {
    let machine = Machine::with_store();
    let grant = format!("grant create --role-arn {DEPLOY} --namespace acme --upload");
    assert_eq!(machine.run(&grant).code, 0);
    snapshot!(
        "namespace-objects",
        machine.transcript(&[
            "namespace set acme --source s3://acme-modules/terraform",
            "namespace set acme --source s3://acme-modules/terraform --region mars-north-1",
            "namespace set acme --source s3://Acme/terraform --region eu-central-1",
            "namespace set acme --source s3://acme-modules/../x --region eu-central-1",
            "namespace set acme --source https://files.example.com/ --region eu-central-1",
            "namespace set acme --region eu-central-1",
            "namespace set acme --source s3://acme-modules/terraform/ --region eu-central-1",
            "namespace set acme --source s3://acme-modules/terraform --region eu-central-1",
            "namespace set acme --source s3://acme-modules/terraform --source https://files.example.com/ --region us-east-1 --output json",
            "namespace show acme",
            "namespace set acme --no-source",
        ])
    );
}

#[test]
fn the_object_and_its_digest_are_sent_and_the_version_is_printed_as_a_block() {
    let broker = registry("created");
    let machine = broker.machine();
    let object = "s3://acme-modules/own/vpc.zip";
    // PowerShell prints digests in upper case.
    let upper = SHA256.to_ascii_uppercase();
    let run = machine.run(&format!(
        "module publish acme/vpc/aws 1.2.0 --object {object} --sha256 {upper} {HOST}"
    ));
    assert_eq!(run.code, 0, "{}", run.stderr);
    let first = format!("published acme/vpc/aws 1.2.0 from {object} (sha256:{SHA256})\n\n");
    assert!(run.stdout.starts_with(&first), "{}", run.stdout);
    assert!(run.stdout.contains("module \"vpc\" {\n"), "{}", run.stdout);
    assert!(run.stderr.contains("line 1 of `main.tf` is not HCL"), "{}", run.stderr);
    let named = "s3://acme-modules/own/terraform-module_acme_dns_aws_v2.0.0.tar.gz";
    let json = machine.json(&format!("module publish --object {named} --sha256 {SHA256} {HOST}"));
    assert_eq!((&json["module"], &json["version"]), (&"acme/dns/aws".into(), &"2.0.0".into()));
    assert_eq!((&json["origin"], &json["status"]), (&named.into(), &"published".into()));
    let publishes = broker.requests().into_iter().filter(|sent| !sent.line.contains("/v1/token"));
    let sent: Vec<(String, serde_json::Value)> = publishes
        .map(|sent| (sent.line.clone(), serde_json::from_slice(&sent.body).unwrap()))
        .collect();
    let body = |object: &str| serde_json::json!({ "object": object, "sha256": SHA256 });
    let expected = [
        ("POST /v1/modules/acme/vpc/aws/1.2.0 HTTP/1.1".to_owned(), body(object)),
        ("POST /v1/modules/acme/dns/aws/2.0.0 HTTP/1.1".to_owned(), body(named)),
    ];
    assert_eq!(sent, expected);

    let publish =
        format!("module publish acme/vpc/aws 1.2.0 --object {object} --sha256 {SHA256} {HOST}");
    let again = registry("unchanged").machine().done(&publish);
    assert!(again.starts_with(&format!("unchanged acme/vpc/aws 1.2.0 (sha256:{SHA256})\n")));
    let replaced = registry("replaced").machine().done(&publish);
    let first = format!("replaced acme/vpc/aws 1.2.0 from {object} (sha256:{SHA256})\n");
    assert!(replaced.starts_with(&first), "{replaced}");
}

#[test]
fn an_answer_without_the_object_is_an_archive_with_the_same_bytes_and_never_a_new_version() {
    let registry = |status: &'static str, object: Option<&'static str>| {
        Broker::new(move |_, _| {
            let mut answer =
                serde_json::json!({ "sha256": SHA256, "status": status, "warnings": [] });
            if let Some(object) = object {
                answer["object"] = object.into();
            }
            http("200 OK", "", &answer.to_string())
        })
    };
    let publish = format!(
        "module publish acme/vpc/aws 1.2.0 --object s3://acme-modules/own/vpc.zip --sha256 {SHA256} {HOST}"
    );
    for (status, object) in [
        ("created", None),
        ("replaced", None),
        ("unchanged", Some("s3://acme-modules/own/other.zip")),
        ("replaced", Some("s3://acme-modules/own/other.zip")),
    ] {
        let run = registry(status, object).machine().run(&publish);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{status} {object:?}");
        assert!(run.stderr.contains("stored another object"), "{}", run.stderr);
    }
    let json = registry("unchanged", None).machine().json(&publish);
    assert_eq!((&json["status"], &json["origin"]), (&"unchanged".into(), &serde_json::Value::Null));
}

#[test]
fn a_version_with_an_object_is_shown_with_the_version_of_the_object() {
    let broker = Broker::new(|_, _| {
        let provenance = serde_json::json!({
            "source": "s3://acme-modules/own/vpc.zip", "object_version": "3HL4kqtJvjVBH40Nrjfkd",
        });
        let shown = serde_json::json!({ "version": "1.2.0", "provenance": provenance });
        http("200 OK", "", &shown.to_string())
    });
    let shown = broker.machine().done(&format!("module show acme/vpc/aws 1.2.0 {HOST}"));
    let line = |name: &str| {
        shown.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).map(str::to_owned)
    };
    assert_eq!(line("published from").as_deref(), Some("s3://acme-modules/own/vpc.zip"));
    assert_eq!(line("object version").as_deref(), Some("3HL4kqtJvjVBH40Nrjfkd"));
}

#[test]
fn an_object_that_cannot_be_published_reaches_no_registry() {
    let broker = Broker::new(|_, _| panic!("the broker receives no request"));
    let machine = broker.machine();
    let object = format!("--object s3://acme-modules/vpc.zip --sha256 {SHA256}");
    for (words, expected) in [
        (format!("acme/vpc/aws {object}"), "there must be an address and a version"),
        (format!("acme/vpc/aws 1.2.0 ./vpc {object}"), "there must be an address and a version"),
        (format!("acme/vpc/aws 1.2 {object}"), "version `1.2` must have the form"),
        (object.clone(), "does not say which module it is"),
        (format!("acme/vpc/aws 1.2.0 {object} --include *.md"), "cannot be used with"),
        (format!("acme/vpc/aws 1.2.0 {object} --source https://h.example/a.zip"), "cannot be used"),
        ("acme/vpc/aws 1.2.0 --object s3://acme-modules/vpc.zip".to_owned(), "--sha256"),
        (format!("acme/vpc/aws 1.2.0 --sha256 {SHA256}"), "--object"),
        (
            "acme/vpc/aws 1.2.0 --object s3://acme-modules/vpc.zip --sha256 abc".to_owned(),
            "the value of `--sha256` is not 64 hexadecimal digits",
        ),
        (
            format!("acme/vpc/aws 1.2.0 --object https://h.example/vpc.zip --sha256 {SHA256}"),
            "the value of `--object` is not valid: it must begin with `s3://`",
        ),
    ] {
        let run = machine.run(&format!("module publish {words} {HOST}"));
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{words}: {}", run.stderr);
        assert!(run.stderr.contains(expected), "{words}: {}", run.stderr);
    }
    let shown = machine.done(&format!("module publish acme/vpc/aws 1.2.0 {object} --dry-run"));
    let expected = format!(
        "would publish acme/vpc/aws 1.2.0 from s3://acme-modules/vpc.zip (sha256:{SHA256})\n"
    );
    assert_eq!(shown, expected);
    assert!(broker.requests().is_empty());
}

#[test]
fn a_url_in_the_place_of_an_address_or_a_version_is_not_repeated() {
    let broker = Broker::new(|_, _| panic!("the broker receives no request"));
    let secret = "https://bob:hunter2@files.example.com/vpc.zip";
    let object = format!("--object s3://acme-modules/own/vpc.zip --sha256 {SHA256} {HOST}");
    for words in [format!("{secret} 1.2.0"), format!("acme/vpc/aws {secret}")] {
        let run = broker.machine().run(&format!("module publish {words} {object}"));
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{}", run.stderr);
        assert!(run.stderr.contains("a URL can only be the value of `--object`"), "{}", run.stderr);
        assert!(!run.stderr.contains("hunter2"), "{}", run.stderr);
    }
}
