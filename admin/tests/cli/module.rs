//! Tests of `module`, which uses the broker's API.

use sha2::{Digest as _, Sha256};

use crate::broker::{Broker, Request, http};
use crate::support::{Machine, Run};

const PUBLISH: &str = "module publish acme/vpc/aws 1.2.0 vpc --registry-host registry.example.com";
/// The block that follows a published version.
const BLOCK: &str = "
module \"vpc\" {
  source  = \"registry.example.com/acme/vpc/aws\"
  version = \"1.2.0\"
}
";
const LIST: &str = "module list --registry-host registry.example.com";

/// Returns the response to an accepted archive.
fn accepted(status: &str, outcome: &str, request: &Request) -> String {
    let sha256 = hex::encode(Sha256::digest(&request.body));
    let body = serde_json::json!({ "module": "acme/vpc/aws", "version": "1.2.0", "sha256": sha256, "status": outcome });
    http(status, "", &body.to_string())
}

fn errors(status: &str, sentence: &str) -> String {
    http(status, "retry-after: 0\r\n", &serde_json::json!({ "errors": [sentence] }).to_string())
}

fn with_module(broker: &Broker) -> Machine {
    let machine = broker.machine();
    machine.write("vpc/main.tf", "resource \"null_resource\" \"a\" {}\n");
    machine.write("vpc/modules/b/main.tf", "\n");
    machine
}

fn bearers(broker: &Broker) -> Vec<String> {
    let number = |request: &Request| {
        request
            .headers
            .get("authorization")
            .and_then(|value| value.rsplit('-').next())
            .map(str::to_owned)
    };
    broker
        .requests()
        .iter()
        .map(|request| number(request).unwrap_or_else(|| "proof".to_owned()))
        .collect()
}

#[test]
fn an_invalid_module_causes_no_request() {
    let broker = Broker::new(|_, _| panic!("the broker receives no request"));
    let machine = with_module(&broker);
    machine.write("plain/README.md", "");
    machine.write("nested/vpc/main.tf", "");
    machine.write("module.tar", "");
    machine.write("broken.zip", "PK");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(machine.path("pipe.zip"))
            .status()
            .unwrap()
            .success()
    );
    machine.write("linked/main.tf", "");
    std::os::unix::fs::symlink("/etc/passwd", machine.path("linked/passwd")).unwrap();
    machine.write("secret/main.tf", "");
    machine.write("secret/.terraformrc", "");
    machine.write("secret/keys/id_rsa", "");
    let key = "-----BEGIN PRIVATE KEY-----\nMIIBVAIBADANBgkqhkiG9w0BAQEFAASCAT4wggE6AgEAAkEA\n";
    machine.write("secret/server.pem", key);
    machine.write("rules/main.tf", "");
    machine.write("rules/.terraformignore", "docs/\n[a-\n");
    let host = "--registry-host registry.example.com";
    let commands = [
        format!("module publish acme/vpc 1.2.0 vpc {host}"),
        format!("module publish acme/VPC/aws 1.2.0 vpc {host}"),
        format!("module publish acme/vpc/aws v1.2.0 vpc {host}"),
        format!("module publish acme/vpc/aws 1.2.0+b1 vpc {host}"),
        format!("module publish acme/vpc/aws 1.2.0 missing {host}"),
        format!("module publish acme/vpc/aws 1.2.0 plain {host}"),
        format!("module publish acme/vpc/aws 1.2.0 nested {host}"),
        format!("module publish acme/vpc/aws 1.2.0 module.tar {host}"),
        format!("module publish acme/vpc/aws 1.2.0 broken.zip {host}"),
        format!("module publish acme/vpc/aws 1.2.0 pipe.zip {host}"),
        format!("module publish acme/vpc/aws 1.2.0 linked {host}"),
        format!("module publish acme/vpc/aws 1.2.0 secret {host}"),
        format!("module publish acme/vpc/aws 1.2.0 secret --include *.pem --dry-run {host}"),
        format!("module publish acme/vpc/aws 1.2.0 rules {host}"),
        format!("module publish acme/vpc/aws 1.2.0 vpc --include [z-a] {host}"),
        format!("module publish acme/vpc/aws 1.2.0 broken.zip --include *.md {host}"),
        format!("module list Acme {host}"),
        format!("module list acme/vpc {host}"),
        format!("{PUBLISH} --config missing.toml"),
    ];
    insta::with_settings!({ prepend_module_to_snapshot => false, snapshot_path => "../snapshots", omit_expression => true }, {
        insta::assert_snapshot!("module-refusals", machine.transcript(&commands.iter().map(String::as_str).collect::<Vec<_>>()));
    });
    assert!(broker.requests().is_empty());
}

#[test]
fn a_folder_is_published_as_the_same_archive_every_time() {
    let broker = Broker::new(|number, request| match number {
        0 => accepted("201 Created", "created", request),
        _ => accepted("200 OK", "unchanged", request),
    });
    let machine = with_module(&broker);
    machine.write("vpc/terraform.tfstate", "a secret");
    let first = machine.run(PUBLISH);
    let other_day =
        std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    std::fs::File::options()
        .write(true)
        .open(machine.path("vpc/main.tf"))
        .unwrap()
        .set_modified(other_day)
        .unwrap();
    let second = machine.run(PUBLISH);

    let uploads: Vec<Request> = broker
        .requests()
        .into_iter()
        .filter(|request| request.line.contains("/modules/"))
        .collect();
    let sha256 = hex::encode(Sha256::digest(&uploads[0].body));
    let notice = "notice: skipped terraform.tfstate\n";
    for (run, word) in [(first, "published"), (second, "unchanged")] {
        let stdout = format!("{word} acme/vpc/aws 1.2.0 (sha256:{sha256})\n{BLOCK}");
        assert_eq!(run, Run { stdout, stderr: notice.to_owned(), code: 0 });
    }
    for upload in &uploads {
        assert_eq!(upload.line, "POST /v1/modules/acme/vpc/aws/1.2.0 HTTP/1.1");
        assert_eq!(upload.headers["content-type"], "application/zip");
        assert_eq!(upload.headers["authorization"], "Bearer stile_v4.local.number-0");
        assert_eq!(upload.body, uploads[0].body);
    }
    assert!(!uploads[0].body.windows(8).any(|bytes| bytes == b"a secret"));
}

#[test]
fn the_skipped_files_are_one_notice_and_a_list_in_json() {
    let broker = Broker::new(|_, request| accepted("201 Created", "created", request));
    let machine = with_module(&broker);
    for name in [".git/config", ".terraform/x", "a/.env", "b/dev.tfvars", "docs/a.md", "tools/x"] {
        machine.write(&format!("vpc/{name}"), "a secret");
    }
    machine.write("vpc/.terraformignore", "docs/\ntools\n");
    let skipped = [".git/", ".terraform/", "a/.env", "b/dev.tfvars", "docs/"];
    let notice = format!("notice: skipped {}\n", skipped.join(", "));
    let tools =
        "notice: `.terraformignore` excludes `tools`, but not the files in it; write `tools/`\n";
    let run = machine.run(PUBLISH);
    assert_eq!((run.stderr, run.code), (format!("{notice}{tools}"), 0));
    let json = machine.json(PUBLISH);
    assert_eq!(json["skipped"], serde_json::json!(skipped));

    let included = machine.json(&format!("{PUBLISH} --include /b/dev.tfvars --include .env"));
    assert_eq!(included["skipped"], serde_json::json!([".git/", ".terraform/", "docs/a.md"]));
    assert_ne!(included["sha256"], json["sha256"]);

    for number in 0..60 {
        machine.write(&format!("vpc/{number:02}.tfvars"), "");
    }
    let run = machine.run(PUBLISH);
    assert!(run.stderr.contains("46.tfvars, 47.tfvars, and 15 more\n"), "{}", run.stderr);
    assert_eq!(machine.json(PUBLISH)["skipped"].as_array().unwrap().len(), 65);
}

#[test]
fn a_dry_run_lists_the_files_and_sends_nothing() {
    let broker = Broker::new(|_, _| panic!("the broker receives no request"));
    let machine = with_module(&broker);
    machine.write("vpc/prod.tfvars", "a secret");
    let dry = machine.run(&format!("{PUBLISH} --dry-run"));
    let json = machine.json(&format!("{PUBLISH} --dry-run"));
    let (sha256, bytes) = (json["sha256"].as_str().unwrap(), &json["bytes"]);
    let stdout = format!(
        "would publish acme/vpc/aws 1.2.0 (sha256:{sha256}): 2 files in {bytes} bytes\n\
         \x20         32  main.tf\n           1  modules/b/main.tf\n"
    );
    let stderr = "notice: skipped prod.tfvars\n".to_owned();
    assert_eq!(dry, Run { stdout, stderr, code: 0 });
    let files = serde_json::json!([
        { "path": "main.tf", "bytes": 32 },
        { "path": "modules/b/main.tf", "bytes": 1 },
    ]);
    let expected = serde_json::json!({
        "status": "pending", "module": "acme/vpc/aws", "version": "1.2.0", "sha256": sha256,
        "bytes": bytes, "files": files, "skipped": ["prod.tfvars"],
    });
    assert_eq!(json, expected);

    let packed = std::process::Command::new("tar")
        .args(["--sort=name", "-czf", "vpc.tar.gz", "-C", "vpc", "."])
        .current_dir(machine.path(""))
        .status()
        .unwrap();
    assert!(packed.success());
    let packed = PUBLISH.replace(" vpc ", " vpc.tar.gz ");
    let json = machine.json(&format!("{packed} --include *.tfvars --dry-run"));
    let archive = std::fs::read(machine.path("vpc.tar.gz")).unwrap();
    let paths: Vec<&str> = json["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["path"].as_str().unwrap())
        .collect();
    assert_eq!(paths, ["main.tf", "modules/b/main.tf", "prod.tfvars"]);
    assert_eq!(json["sha256"], hex::encode(Sha256::digest(&archive)));
    assert_eq!(json["bytes"], archive.len());
    assert_eq!(json["skipped"], serde_json::json!([]));

    let later = Broker::new(|_, request| accepted("201 Created", "created", request));
    let machine = with_module(&later);
    assert!(machine.done(PUBLISH).ends_with(&format!("(sha256:{sha256})\n{BLOCK}")));
    assert!(broker.requests().is_empty());
}

#[test]
fn an_archive_file_is_sent_unchanged() {
    let broker = Broker::new(|_, request| accepted("201 Created", "created", request));
    let machine = with_module(&broker);
    let archive = machine.path("vpc.tar.gz");
    let packed = std::process::Command::new("tar")
        .arg("-C")
        .arg(machine.path("vpc"))
        .arg("-czf")
        .arg(&archive)
        .arg(".")
        .status()
        .unwrap();
    assert!(packed.success());
    let json = machine
        .json("module publish acme/vpc/aws 1.2.0 vpc.tar.gz --registry-host registry.example.com");
    let upload = broker.requests().pop().unwrap();
    assert_eq!(upload.headers["content-type"], "application/gzip");
    assert_eq!(upload.body, std::fs::read(archive).unwrap());
    assert_eq!(json["status"], "published");
    assert_eq!(json["sha256"], hex::encode(Sha256::digest(&upload.body)));
}

#[test]
fn the_error_contains_the_brokers_message_and_refused_and_down_have_different_exit_codes() {
    for (answer, code, expected) in [
        (
            errors(
                "409 Conflict",
                "`acme/vpc/aws` 1.2.0 is already published with other content; hint: publish the next one",
            ),
            1,
            "`acme/vpc/aws` 1.2.0 was not published: `acme/vpc/aws` 1.2.0 is already published with other content; hint: publish the next one",
        ),
        (
            errors("403 Forbidden", "no\u{1b}[2J"),
            1,
            "`acme/vpc/aws` 1.2.0 was not published: no [2J",
        ),
        (
            errors("503 Service Unavailable", "down"),
            2,
            "`acme/vpc/aws` 1.2.0 was not published: the registry is unavailable: down",
        ),
        (
            http("201 Created", "", "<html>"),
            2,
            "sent an unexpected response; hint: check that `url`",
        ),
        (
            http("201 Created", "", r#"{"sha256":"00","status":"created"}"#),
            2,
            "the registry stored different bytes than the sent archive as `acme/vpc/aws` 1.2.0",
        ),
        (
            http("302 Found", "location: https://evil.example\r\n", ""),
            2,
            "responded with a redirect (302 Found)",
        ),
    ] {
        let broker = Broker::new(move |_, _| answer.clone());
        let run = with_module(&broker).run(PUBLISH);
        assert_eq!((run.stdout.as_str(), run.code), ("", code), "{expected}: {}", run.stderr);
        assert!(
            run.stderr.starts_with("error: ") && run.stderr.contains(expected),
            "{expected}: {}",
            run.stderr
        );
    }
}

#[test]
fn a_busy_broker_gets_one_retry_with_the_complete_archive() {
    let broker = Broker::new(|number, request| match number {
        0 => errors("503 Service Unavailable", "busy"),
        _ => accepted("201 Created", "created", request),
    });
    assert!(
        with_module(&broker).done(PUBLISH).starts_with("published acme/vpc/aws 1.2.0 (sha256:")
    );
    let bodies: Vec<_> =
        broker.requests().into_iter().skip(1).map(|request| request.body).collect();
    assert!(bodies.len() == 2 && bodies[0] == bodies[1] && !bodies[0].is_empty());
}

#[test]
fn a_rejected_cached_token_is_replaced_once() {
    let broker =
        Broker::new(|_, request| match request.headers["authorization"].ends_with("number-0") {
            true => errors("401 Unauthorized", "a valid token is required"),
            false => accepted("201 Created", "created", request),
        });
    let machine = with_module(&broker);
    let refused = machine.run(PUBLISH);
    assert_eq!(refused.code, 1, "a rejected new token is not replaced: {}", refused.stderr);
    assert!(machine.done(PUBLISH).starts_with("published"));
    assert_eq!(bearers(&broker), ["proof", "0", "0", "proof", "1"]);
}

#[test]
fn a_truncated_response_does_not_replace_the_token() {
    let broker = Broker::new(|number, request| match number {
        0 => accepted("201 Created", "created", request),
        1 => String::new(),
        _ => accepted("200 OK", "unchanged", request),
    });
    let machine = with_module(&broker);
    machine.done(PUBLISH);
    let broken = machine.run(PUBLISH);
    assert_eq!(broken.code, 2, "{}", broken.stderr);
    assert!(machine.done(PUBLISH).starts_with("unchanged"));
    assert_eq!(
        bearers(&broker),
        ["proof", "0", "0", "0"],
        "the program uses the cached token again"
    );
}

#[test]
fn an_unreachable_registry_is_a_failure_and_not_a_refusal() {
    let broker = Broker::new(|_, _| unreachable!("the broker receives no request"));
    let machine = with_module(&broker);
    machine.write(
        ".config/stile/config.toml",
        "[registry.\"registry.example.com\"]\nurl = \"http://127.0.0.1:1\"\n",
    );
    let run = machine.run(PUBLISH);
    assert_eq!((run.stdout.as_str(), run.code), ("", 2));
    assert!(
        run.stderr.starts_with("error: `acme/vpc/aws` 1.2.0 was not published: no token for `registry.example.com`: cannot reach `http://127.0.0.1:1/v1/token`"),
        "{}",
        run.stderr
    );
}

#[test]
fn a_list_contains_every_page() {
    let module = |name: &str| {
        serde_json::json!({ "id": format!("acme/{name}/aws/1.0.0"), "namespace": "acme", "name": name, "provider": "aws",
            "version": "1.0.0", "published_at": "2026-11-20T10:11:12Z" })
    };
    let broker = Broker::new(move |_, request| {
        let (name, next) = match request.line.as_str() {
            "GET /v1/modules?offset=0 HTTP/1.1" | "GET /v1/modules/acme?offset=0 HTTP/1.1" => {
                ("a", Some(1))
            }
            "GET /v1/modules?offset=1 HTTP/1.1" | "GET /v1/modules/acme?offset=1 HTTP/1.1" => {
                ("b", None)
            }
            other => return errors("404 Not Found", other),
        };
        http("200 OK", "", &serde_json::json!({ "meta": { "limit": 1, "next_offset": next }, "modules": [module(name)] }).to_string())
    });
    let machine = broker.machine();
    let expected = "module      latest  published at\nacme/a/aws  1.0.0   <time>\nacme/b/aws  1.0.0   <time>\n";
    assert_eq!(machine.done(LIST), expected);
    let json = machine.json("module list acme --registry-host registry.example.com");
    assert_eq!(
        json[1],
        serde_json::json!({ "module": "acme/b/aws", "latest": "1.0.0", "published_at": "<time>" })
    );
}

#[test]
fn the_list_of_versions_has_the_order_of_the_broker() {
    let broker = Broker::new(|_, request| match request.line.as_str() {
        "GET /v1/modules/acme/vpc/aws/versions HTTP/1.1" => http(
            "200 OK",
            "",
            r#"{"modules":[{"versions":[{"version":"1.2.0"},{"version":"1.10.0"}]}]}"#,
        ),
        _ => errors("404 Not Found", "there is no such module"),
    });
    let machine = broker.machine();
    let versions = machine.done("module list acme/vpc/aws --registry-host registry.example.com");
    assert_eq!(versions, "module        version\nacme/vpc/aws  1.2.0\nacme/vpc/aws  1.10.0\n");
    let absent = machine.run("module list acme/x/aws --registry-host registry.example.com");
    assert_eq!(
        absent,
        Run {
            stdout: String::new(),
            stderr: "error: `acme/x/aws`: there is no such module\n".to_owned(),
            code: 1
        }
    );
}
