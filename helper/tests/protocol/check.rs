//! `check`: which installed versions are deprecated, withdrawn or compromised, and the exit codes.

use serde_json::{Value, json};

use crate::support::{ProgramOutput, Sandbox, StubBroker, http, refusal, token_reply};

const TIME: &str = "2026-11-20T10:11:12Z";
const MANIFEST: &str = ".terraform/modules/modules.json";

/// Writes the list of installed modules: sources with their versions.
fn install(sandbox: &Sandbox, modules: &[(&str, &str)]) {
    let root = json!({ "Key": "", "Source": "", "Dir": "." });
    let entries = modules.iter().enumerate().map(|(at, (source, version))| {
        let mut entry =
            json!({ "Key": format!("m{at}"), "Source": source, "Dir": format!("m{at}") });
        if !version.is_empty() {
            entry["Version"] = (*version).into();
        }
        entry
    });
    let all: Vec<Value> = [root].into_iter().chain(entries).collect();
    sandbox.write(MANIFEST, &json!({ "Modules": all }).to_string());
}

/// A broker with one published, one deprecated and one unpublished version.
fn registry() -> StubBroker {
    StubBroker::new(|number, request| {
        let detail = match request.path() {
            "/v1/token" => return token_reply(&format!("stile_v4.local.number-{number}"), 3600),
            "/v1/modules/acme/vpc/aws/1.3.0" => json!({ "unpublished": null, "deprecation": null }),
            "/v1/modules/acme/vpc/aws/1.2.0" => json!({
                "deprecation": { "reason": "it opens port 22", "replacement": "1.3.0" },
            }),
            "/v1/modules/acme/net/aws/1.0.0" => json!({
                "unpublished": { "reason": "it deletes a bucket", "replacement": "acme/vpc/aws" },
                "root": { "readme": "x".repeat(100_000) },
            }),
            "/v1/providers/acme/dns/1.0.0" => json!({
                "unpublished": { "reason": "it drops records", "replacement": "1.1.0" },
            }),
            "/v1/providers/acme/dns/0.9.0" => json!({
                "compromised_key": { "key_id": "F9BA19AD6BE4698A", "at": TIME },
                "deprecation": { "reason": "old", "replacement": "1.1.0" },
            }),
            "/v1/providers/acme/dns/1.1.0" => json!({ "deprecation": { "reason": "old" } }),
            _ => {
                let body =
                    r#"{"errors":["there is no such version; request id: 64ee87ba88f3e21a"]}"#;
                return http("404 Not Found", "", body);
            }
        };
        http("200 OK", "", &detail.to_string())
    })
}

fn output(stdout: &str, stderr: &str, code: i32) -> ProgramOutput {
    ProgramOutput { stdout: stdout.to_owned(), stderr: stderr.to_owned(), code }
}

#[test]
fn without_a_usable_list_of_modules_nothing_is_checked() {
    let broker = StubBroker::new(|_, _| panic!("the broker receives no request"));
    let sandbox = Sandbox::of(&broker);
    let hint = "hint: run `terraform init` there, or name the folder of the configuration\n";
    let missing =
        format!("stile: `./.terraform` does not exist, so nothing is installed there; {hint}");
    assert_eq!(sandbox.run(&["check"]), output("", &missing, 2));
    let missing = missing.replace("./.terraform", "prod/.terraform");
    assert_eq!(sandbox.run(&["check", "prod"]), output("", &missing, 2));
    for text in ["", "{", "{\"Modules\":7}"] {
        sandbox.write(MANIFEST, text);
        let damaged = format!("stile: `./{MANIFEST}` is damaged; {hint}");
        assert_eq!(sandbox.run(&["check"]), output("", &damaged, 2));
    }
    sandbox.write("folder/.terraform/modules/modules.json/x", "");
    assert_eq!(sandbox.run(&["check", "folder"]).code, 2);
    // Nobody writes into this pipe, so a read would never end.
    std::fs::remove_file(sandbox.path(MANIFEST)).unwrap();
    let pipe = std::process::Command::new("mkfifo").arg(sandbox.path(MANIFEST)).status();
    assert!(pipe.unwrap().success());
    let damaged = format!("stile: `./{MANIFEST}` is damaged; {hint}");
    assert_eq!(sandbox.run(&["check"]), output("", &damaged, 2));
}

#[test]
fn a_registry_that_does_not_answer_is_named_once_and_the_exit_code_is_2() {
    let refusing =
        StubBroker::new(|_, _| refusal("403 Forbidden", "no_grant", "no grant", Some("ask"), TIME));
    let sandbox = Sandbox::of(&refusing);
    install(
        &sandbox,
        &[
            ("registry.example.com/acme/net/aws", "1.0.0"),
            ("registry.example.com/acme/vpc/aws", "1.2.0"),
        ],
    );
    let table = "package                            version  state\n\
                 registry.example.com/acme/net/aws  1.0.0    unknown\n\
                 registry.example.com/acme/vpc/aws  1.2.0    unknown\n";
    let note = "stile: cannot ask `registry.example.com`: no grant; hint: ask\n";
    assert_eq!(sandbox.run(&["check"]), output(table, note, 2));

    let broker = registry();
    let sandbox = Sandbox::of(&broker);
    install(&sandbox, &[("registry.example.com/acme/other/aws", "1.0.0")]);
    let run = sandbox.run(&["check"]);
    let note = "stile: cannot check `acme/other/aws` 1.0.0: there is no such version (request id: 64ee87ba88f3e21a)\n";
    assert_eq!((run.stderr.as_str(), run.code), (note, 2), "{}", run.stdout);
}

#[test]
fn a_deprecated_version_is_a_warning_and_an_unpublished_one_fails() {
    let broker = registry();
    let sandbox = Sandbox::of(&broker);
    install(
        &sandbox,
        &[
            ("registry.example.com/acme/vpc/aws", "1.3.0"),
            ("registry.example.com/acme/vpc/aws//modules/a", "1.2.0"),
            ("registry.example.com/acme/vpc/aws//modules/b", "1.2.0"),
            ("./local", ""),
        ],
    );
    let table = "package                            version  state       use instead  reason\n\
                 registry.example.com/acme/vpc/aws  1.2.0    deprecated  1.3.0        it opens port 22\n\
                 registry.example.com/acme/vpc/aws  1.3.0    published\n";
    let note = "stile: 1 installed version is deprecated\n";
    assert_eq!(sandbox.run(&["check"]), output(table, note, 0));
    assert_eq!(broker.requests().len(), 3, "one token, and each version once");

    install(
        &sandbox,
        &[
            ("registry.example.com/acme/net/aws", "1.0.0"),
            ("registry.example.com/acme/vpc/aws", "1.2.0"),
            ("registry.example.com/acme/other/aws", "1.0.0"),
        ],
    );
    let run = sandbox.run(&["check", "."]);
    let row = "registry.example.com/acme/net/aws    1.0.0    unpublished  \
               registry.example.com/acme/vpc/aws  it deletes a bucket";
    assert!(run.stdout.lines().any(|line| line == row), "{}", run.stdout);
    let notes = "stile: cannot check `acme/other/aws` 1.0.0: there is no such version (request id: 64ee87ba88f3e21a)\n\
                 stile: 1 installed version is deprecated\n\
                 stile: 1 installed version is unpublished\n";
    assert_eq!((run.stderr.as_str(), run.code), (notes, 1));
    let tokens = broker.requests().iter().filter(|it| it.path() == "/v1/token").count();
    assert_eq!(tokens, 1, "the cached token is used again");
}

#[test]
fn modules_of_other_registries_are_listed_as_not_checked_and_cause_no_request() {
    let broker = StubBroker::new(|_, _| panic!("the broker receives no request"));
    let sandbox = Sandbox::of(&broker);
    install(
        &sandbox,
        &[
            ("registry.terraform.io/acme/vpc/aws", "1.2.0"),
            ("git::https://bob:hunter2@example.com/vpc.git?ref=v1", ""),
        ],
    );
    let run = sandbox.run(&["check"]);
    assert_eq!((run.stderr.as_str(), run.code), ("", 0));
    assert_eq!(run.stdout.lines().filter(|line| line.ends_with("not checked")).count(), 2);
    assert!(!run.stdout.contains("hunter2"), "{}", run.stdout);

    sandbox.write("empty/.terraform/terraform.tfstate", "");
    let note = "stile: no module and no provider is installed in `empty`\n";
    assert_eq!(sandbox.run(&["check", "empty"]), output("", note, 0));
    let elsewhere = sandbox.with("TF_DATA_DIR", ".data");
    assert_eq!(elsewhere.run(&["check"]).code, 2, "TF_DATA_DIR names another folder");
}

#[test]
fn a_cached_token_that_was_revoked_is_replaced_once() {
    let broker = StubBroker::new(|number, request| match request.path() {
        "/v1/token" => token_reply(&format!("stile_v4.local.number-{number}"), 3600),
        _ if request.headers["authorization"].ends_with("number-0") && number > 1 => {
            http("401 Unauthorized", "", r#"{"errors":["a valid token is required"]}"#)
        }
        _ => http("200 OK", "", "{}"),
    });
    let sandbox = Sandbox::of(&broker);
    install(&sandbox, &[("registry.example.com/acme/vpc/aws", "1.2.0")]);
    let table = "package                            version  state\n\
                 registry.example.com/acme/vpc/aws  1.2.0    published\n";
    for _ in 0..2 {
        assert_eq!(sandbox.run(&["check"]), output(table, "", 0));
    }
    let paths: Vec<String> =
        broker.requests().iter().map(|request| request.path().to_owned()).collect();
    let (token, version) = ("/v1/token", "/v1/modules/acme/vpc/aws/1.2.0");
    assert_eq!(paths, [token, version, version, token, version]);
}

/// Writes a lock file: providers with their versions.
fn lock(sandbox: &Sandbox, path: &str, providers: &[(&str, &str)]) {
    let blocks = providers.iter().map(|(address, version)| {
        format!("provider \"{address}\" {{\n  version = \"{version}\"\n  hashes = [\n  ]\n}}\n")
    });
    sandbox.write(path, &blocks.collect::<String>());
}

#[test]
fn a_damaged_lock_file_is_named_and_nothing_is_checked() {
    let broker = StubBroker::new(|_, _| panic!("the broker receives no request"));
    let sandbox = Sandbox::of(&broker);
    install(&sandbox, &[("registry.example.com/acme/vpc/aws", "1.3.0")]);
    sandbox.write(".terraform.lock.hcl", "provider \"registry.example.com/acme/dns\" {");
    let hint = "hint: run `terraform init` there, or name the folder of the configuration\n";
    let damaged = format!("stile: `./.terraform.lock.hcl` is damaged; {hint}");
    assert_eq!(sandbox.run(&["check"]), output("", &damaged, 2));
}

#[test]
fn the_providers_of_the_lock_file_are_checked_with_the_modules_and_a_yanked_one_fails() {
    let broker = registry();
    let sandbox = Sandbox::of(&broker);
    install(&sandbox, &[("registry.example.com/acme/vpc/aws", "1.3.0")]);
    let lock_file = ".terraform.lock.hcl";
    lock(
        &sandbox,
        lock_file,
        &[
            ("registry.example.com/acme/dns", "1.1.0"),
            ("registry.terraform.io/hashicorp/aws", "6.0.0"),
        ],
    );
    let table = "package                              version  state        reason\n\
                 registry.example.com/acme/vpc/aws    1.3.0    published\n\
                 registry.example.com/acme/dns        1.1.0    deprecated   old\n\
                 registry.terraform.io/hashicorp/aws  6.0.0    not checked\n";
    let note = "stile: 1 installed version is deprecated\n";
    assert_eq!(sandbox.run(&["check"]), output(table, note, 0));

    lock(&sandbox, lock_file, &[("registry.example.com/acme/dns", "1.0.0")]);
    let table = "package                            version  state      use instead  reason\n\
                 registry.example.com/acme/vpc/aws  1.3.0    published\n\
                 registry.example.com/acme/dns      1.0.0    yanked     1.1.0        it drops records\n";
    assert_eq!(sandbox.run(&["check"]), output(table, "stile: 1 installed version is yanked\n", 1));
}

#[test]
fn a_provider_that_a_compromised_key_signed_fails_with_the_key() {
    let broker = registry();
    let sandbox = Sandbox::of(&broker);
    lock(&sandbox, "prod/.terraform.lock.hcl", &[("registry.example.com/acme/dns", "0.9.0")]);
    let run = sandbox.run(&["check", "prod"]);
    let row = format!(
        "registry.example.com/acme/dns  0.9.0    compromised  1.1.0        \
         the signing key F9BA19AD6BE4698A is compromised since {TIME}"
    );
    assert_eq!(run.stdout.lines().nth(1), Some(row.as_str()));
    let ends = run.stderr.ends_with("stile: 1 installed version is compromised\n");
    assert!(ends && run.code == 1, "{run:?}");
}

#[test]
fn a_lock_file_is_checked_before_terraform_installed_anything() {
    let broker = registry();
    let sandbox = Sandbox::of(&broker);
    lock(&sandbox, "prod/.terraform.lock.hcl", &[("registry.example.com/acme/dns", "1.1.0")]);
    let run = sandbox.run(&["check", "prod"]);
    let notes = "stile: `prod/.terraform` does not exist, so nothing is installed there; its modules are not checked\n\
                 stile: 1 installed version is deprecated\n";
    assert_eq!((run.stderr.as_str(), run.code), (notes, 0), "{}", run.stdout);
}
