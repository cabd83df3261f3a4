//! The verbs that users run: `get-token`, `whoami`, `doctor`.

use crate::support::{
    ProgramOutput, Sandbox, StubBroker, discovery, http, now, refusal, token_reply, with_request_id,
};

const HOST: [&str; 2] = ["--registry-host", "registry.example.com"];

fn whoami_reply() -> String {
    http(
        "200 OK",
        "",
        r#"{"principal":"aws:111122223333:role/deploy","expires_at":"2026-11-20T11:11:12Z","namespaces":"all","permissions":["download"],
            "grants":[{"principal":"aws:111122223333:role/deploy","namespace":"acme","permissions":["download"],"expires_at":null}]}"#,
    )
}

fn full_broker() -> StubBroker {
    StubBroker::new(|number, request| match request.path() {
        "/v1/token" => token_reply(&format!("stile_v4.local.number-{number}"), 3600),
        "/v1/whoami" => whoami_reply(),
        "/.well-known/terraform.json" => discovery(now()),
        other => http("404 Not Found", "", other),
    })
}

#[test]
fn get_token_prints_a_new_token_in_each_format() {
    for (form, expected) in [
        ("token", "stile_v4.local.number-0\n"),
        (
            "config",
            "credentials \"registry.example.com\" {\n  token = \"stile_v4.local.number-0\"\n}\n",
        ),
        ("env", "export TF_TOKEN_registry_example_com=stile_v4.local.number-0\n"),
        ("fish", "set -gx TF_TOKEN_registry_example_com 'stile_v4.local.number-0'\n"),
        ("powershell", "$env:TF_TOKEN_registry_example_com = 'stile_v4.local.number-0'\n"),
    ] {
        let broker = StubBroker::granting_every_token();
        let sandbox = Sandbox::of(&broker);
        sandbox.run(&[&["get-token", form], &HOST[..]].concat()).prints(expected);
        assert!(!sandbox.path(".cache").exists(), "`get-token` does not cache its token");
    }
}

#[test]
fn get_token_prints_json_with_the_expiry_of_the_token() {
    for time in ["60", "900", "3600"] {
        let broker = StubBroker::new(|_, request| {
            token_reply("stile_v4.local.number-0", request.document().ttl)
        });
        let before = now();
        let run =
            Sandbox::of(&broker).run(&[&["get-token", "json", "--time", time], &HOST[..]].concat());
        assert_eq!((run.stderr.as_str(), run.code), ("", 0));
        let printed: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!(printed.as_object().unwrap().len(), 2, "{printed}");
        assert_eq!(printed["token"], "stile_v4.local.number-0");
        let expires_at: chrono::DateTime<chrono::Utc> =
            printed["expires_at"].as_str().unwrap().parse().unwrap();
        let lifetime = (expires_at - before).num_seconds() - time.parse::<i64>().unwrap();
        assert!((-1..600).contains(&lifetime), "{printed}");
    }
}

#[test]
fn get_token_masks_its_token_in_the_logs_of_github() {
    for token in ["stile_v4.local.x", "~root", "a=b"] {
        let broker = StubBroker::new(move |_, _| token_reply(token, 3600));
        let run = Sandbox::of(&broker).run(&[&["get-token", "github"], &HOST[..]].concat());
        assert_eq!(run.stdout, format!("TF_TOKEN_registry_example_com={token}\n"));
        assert_eq!((run.stderr, run.code), (format!("::add-mask::{token}\n"), 0));
    }
}

#[test]
fn a_shorter_lifetime_than_requested_is_reported() {
    let dated = |reply: String| {
        let date = now().format("date: %a, %d %b %Y %H:%M:%S GMT\r\ncontent-type");
        reply.replacen("content-type", &date.to_string(), 1)
    };
    let without_date = |reply: String| reply;
    let change: [fn(String) -> String; 2] = [dated, without_date];
    for change in change {
        for (requested, issued, is_reported) in
            [(7200, 3600, true), (3600, 240, true), (43_200, 3600, true), (3600, 3600, false)]
        {
            let broker =
                StubBroker::new(move |_, _| change(token_reply("stile_v4.local.x", issued)));
            let sandbox = Sandbox::of(&broker);
            let text = sandbox.read(".config/stile/config.toml");
            sandbox.write(".config/stile/config.toml", &format!("{text}ttl = {requested}\n"));
            let time = requested.to_string();
            for arguments in [
                &[&["get-token", "token", "--time", time.as_str()], &HOST[..]].concat()[..],
                &["get", "registry.example.com"],
            ] {
                let run = sandbox.run(arguments);
                let start = format!(
                    "stile: the registry shortened the requested lifetime of {requested} s; \
                     the token expires at 2"
                );
                assert_eq!(run.code, 0, "{}", run.stderr);
                assert_eq!(run.stderr.starts_with(&start), is_reported, "{}", run.stderr);
                assert_eq!(run.stderr.lines().count(), usize::from(is_reported));
            }
        }
    }
}

#[test]
fn get_token_warns_about_a_block_that_overrides_the_helper() {
    let broker = StubBroker::granting_every_token();
    let sandbox = Sandbox::of(&broker);
    sandbox.write(".terraformrc", "credentials_helper \"stile\" {}\n");
    for (form, warning) in [
        ("token", ""),
        (
            "config",
            "stile: the helper already provides tokens for `registry.example.com`; if you add this block to the same CLI configuration, Terraform ignores the helper\n",
        ),
    ] {
        let run = sandbox.run(&[&["get-token", form], &HOST[..]].concat());
        assert_eq!((run.stderr.as_str(), run.code), (warning, 0), "{form}");
    }
}

#[test]
fn the_request_document_contains_the_requested_scope() {
    let broker = StubBroker::granting_every_token();
    let sandbox = Sandbox::of(&broker);
    let wanted = [
        "-T",
        "900",
        "--namespace",
        "zeta,acme",
        "--namespace",
        "acme",
        "--permission",
        "download,upload",
        "--region",
        "us-east-2",
    ];
    sandbox
        .run(&[&["get-token", "token"], &HOST[..], &wanted].concat())
        .prints("stile_v4.local.number-0\n");
    let request = &broker.requests()[0];
    assert_eq!(request.json()["region"], "us-east-2");
    let document = request.document();
    assert_eq!(document.ttl, 900);
    assert_eq!(serde_json::json!(document.namespaces), serde_json::json!(["acme", "zeta"]));
    assert_eq!(document.permissions.to_string(), "download,upload");
}

#[test]
fn a_gateway_that_verifies_signatures_gets_a_signed_get_request() {
    for service in ["execute-api", "lambda"] {
        let broker = StubBroker::granting_every_token();
        let lists =
            ["--namespace", "zeta", "--namespace", "acme", "--permission", "upload,download"];
        let wanted = [&["--service", service, "--time", "600"], &lists[..]].concat();
        Sandbox::of(&broker)
            .run(&[&["get-token", "token"], &HOST[..], &wanted].concat())
            .prints("stile_v4.local.number-0\n");
        let request = &broker.requests()[0];
        assert_eq!(
            request.line,
            "GET /v1/token?expiration_seconds=600&namespace=acme%2Czeta&permission=download%2Cupload HTTP/1.1"
        );
        let authorization = &request.headers["authorization"];
        assert!(
            authorization.contains(&format!("/eu-central-1/{service}/aws4_request, SignedHeaders=host;x-amz-date;x-amz-security-token"))
        );
        assert_eq!(request.headers["x-amz-security-token"], "IQoJb3JpZ2luX2VjEXAMPLE");
        assert_eq!(request.headers["host"], broker.url.trim_start_matches("http://"));
    }
}

#[test]
fn get_token_prints_nothing_to_stdout_on_failure() {
    let sandbox = Sandbox::new();
    let port = ["--registry-host", "127.0.0.1:9"];
    for form in ["env", "fish", "powershell", "github"] {
        sandbox.run(&[&["get-token", form], &port[..]].concat()).fails_with(
            "`127.0.0.1:9` has a port, which a shell variable name cannot contain; \
             hint: use `get-token config`, and add its block to the CLI configuration",
        );
    }
    sandbox.run(&[&["get-token", "token"], &port[..]].concat()).fails_with(
        "no token for `127.0.0.1:9`: cannot reach `https://127.0.0.1:9/v1/token`: Connection refused (os error 111); \
         hint: check the network, and `url` in the helper's `config.toml`",
    );
    for wrong in [
        &["get-token", "token"][..],
        &["get-token", "--registry-host", "registry.example.com"],
        &["get-token", "toml", "--registry-host", "registry.example.com"],
        &["get-token", "token", "--registry-host", "localhost"],
        &["get-token", "token", "--registry-host", "registry.example.com", "--time", "59"],
        &["get-token", "token", "--registry-host", "registry.example.com", "--time", "1h"],
        &["get-token", "token", "--registry-host", "registry.example.com", "--namespace", "Acme"],
        &["get-token", "token", "--registry-host", "registry.example.com", "--namespace", ""],
        &["get-token", "token", "--registry-host", "registry.example.com", "--permission", "admin"],
        &[
            "get-token",
            "token",
            "--registry-host",
            "registry.example.com",
            "--region",
            "us-east-1.evil.org",
        ],
        &["get-token", "token", "--registry-host", "registry.example.com", "--service", "ec2"],
    ] {
        let run = sandbox.run(wrong);
        assert_eq!(
            (run.stdout.as_str(), run.code, run.stderr.starts_with("error: ")),
            ("", 1, true),
            "{wrong:?}"
        );
    }
}

#[test]
fn whoami_fails_for_an_unknown_host_and_for_a_rejected_token() {
    Sandbox::new().run(&["whoami", "registry.example.com"]).fails_with(
        "`registry.example.com` is not configured as a Stile registry; \
         hint: run `terraform-credentials-stile install --registry-host registry.example.com`",
    );
    let broker = StubBroker::new(|_, request| match request.line.starts_with("POST") {
        true => token_reply("stile_v4.local.x", 3600),
        false => with_request_id(
            &refusal(
                "401 Unauthorized",
                "unauthorized",
                "no good token",
                None,
                "2026-11-20T10:11:12Z",
            ),
            "64ee87ba88f3e21a",
        ),
    });
    Sandbox::of(&broker).run(&["whoami", "registry.example.com"]).fails_with(
        "cannot identify you to `registry.example.com`: no good token (request id: 64ee87ba88f3e21a)",
    );
    assert_eq!(broker.requests().len(), 2, "a rejected new token is not replaced");
}

#[test]
fn whoami_shows_the_principal_and_its_grants() {
    let broker = full_broker();
    Sandbox::of(&broker).run(&["whoami", "registry.example.com"]).prints(
        "principal    aws:111122223333:role/deploy\nexpires      2026-11-20T11:11:12Z\nnamespaces   all\npermissions  download\n\
         grants       acme: download\n",
    );
    assert_eq!(broker.requests()[1].headers["authorization"], "Bearer stile_v4.local.number-0");
}

#[test]
fn whoami_replaces_a_revoked_cached_token() {
    let broker = StubBroker::new(|_, request| {
        match request.headers.get("authorization").map(String::as_str) {
            None if request.line.starts_with("POST") => {
                token_reply(&format!("t{}", request.json()["signature"].as_str().unwrap()), 3600)
            }
            Some(_) if request.line.ends_with("HTTP/1.1") => http("401 Unauthorized", "", "{}"),
            _ => http("404 Not Found", "", ""),
        }
    });
    let sandbox = Sandbox::of(&broker);
    let first = sandbox.run(&["get", "registry.example.com"]).stdout;
    let run = sandbox.run(&["whoami", "registry.example.com"]);
    assert_eq!(run.code, 1);
    let posts = broker.requests().iter().filter(|request| request.line.starts_with("POST")).count();
    assert_eq!(posts, 2);
    assert_ne!(
        sandbox.run(&["get", "registry.example.com"]).stdout,
        first,
        "the revoked token is deleted"
    );
}

#[test]
fn doctor_tries_the_cached_token_and_deletes_a_rejected_one() {
    let broker = StubBroker::new(|number, request| {
        match request.headers.get("authorization").map(String::as_str) {
            None if request.line.starts_with("GET") => discovery(now()),
            None => token_reply(&format!("stile_v4.local.number-{number}"), 3600),
            Some("Bearer stile_v4.local.number-0") => http("401 Unauthorized", "", "{}"),
            Some(_) => whoami_reply(),
        }
    });
    let sandbox = Sandbox::of(&broker);
    let cached = "{\"token\":\"stile_v4.local.number-0\"}\n";
    sandbox.run(&["get", "registry.example.com"]).prints(cached);
    let call = |run: ProgramOutput| {
        run.stdout.lines().find(|line| line.contains("authorised call")).unwrap().to_owned()
    };
    assert_eq!(
        call(sandbox.run(&["doctor"])),
        "ok   authorised call: the registry rejected the cached token, now deleted; the registry accepts the new token of `aws:111122223333:role/deploy`"
    );
    assert_ne!(sandbox.run(&["get", "registry.example.com"]).stdout, cached);
    assert_eq!(
        call(sandbox.run(&["doctor"])),
        "ok   authorised call: the registry accepts the cached token of `aws:111122223333:role/deploy`"
    );
}

#[test]
fn doctor_names_what_is_missing_and_how_to_fix_it() {
    let sandbox = Sandbox::new();
    let run = sandbox.run(&["doctor", "registry.example.com"]);
    insta::assert_snapshot!(run.stdout, @r#"
    FAIL plugin: the program is not in `~/.terraform.d/plugins`; hint: run `terraform-credentials-stile install --registry-host registry.example.com`
    -    helper configuration: `~/.config/stile/config.toml` does not exist, so no registry is configured
    ok   token cache: `~/.cache/stile` does not exist yet
    -    log of `get`: `~/.cache/stile/get.log`; no failures yet
    FAIL CLI configuration: found no `credentials_helper "stile"` block; hint: run `terraform-credentials-stile install --registry-host registry.example.com`
    FAIL registry: `registry.example.com` is not configured as a Stile registry; hint: run `terraform-credentials-stile install --registry-host registry.example.com`
    "#);
    assert_eq!((run.stderr.as_str(), run.code), ("stile: 3 steps failed\n", 1));
    assert_eq!(sandbox.run(&["doctor"]).code, 1, "no registry at all");
}

#[test]
fn doctor_names_settings_that_override_the_helper() {
    let broker = full_broker();
    for (name, value, file, text, expected) in [
        (
            "TF_TOKEN_registry_example_com",
            "x",
            "unused",
            "",
            "`TF_TOKEN_registry_example_com` is set",
        ),
        (
            "X",
            "x",
            ".terraformrc",
            "credentials \"registry.example.com\" {}\n",
            "has a `credentials \"registry.example.com\"` block",
        ),
        (
            "X",
            "x",
            ".terraform.d/credentials.tfrc.json",
            "{\"credentials\":{\"registry.example.com\":{\"token\":\"x\"}}}",
            "has a `credentials \"registry.example.com\"` block",
        ),
        (
            "X",
            "x",
            ".terraformrc",
            "credentials_helper \"vault\" {}\n",
            "configures another helper, `vault`",
        ),
    ] {
        let sandbox = Sandbox::of(&broker).with(name, value);
        sandbox.write(file, text);
        let run = sandbox.run(&["doctor"]);
        let line = run.stdout.lines().find(|line| line.contains("CLI configuration")).unwrap();
        assert!(line.starts_with("FAIL") && line.contains(expected), "{line}");
    }
}

#[test]
fn doctor_passes_every_step_after_an_install() {
    let broker = full_broker();
    let sandbox = Sandbox::of(&broker);
    assert_eq!(sandbox.run(&[&["install"], &HOST[..]].concat()).code, 0);
    let run = sandbox.run(&["doctor"]);
    let stdout = run.stdout.replace(&broker.url, "http://BROKER");
    let expiry =
        stdout.find("valid until 2").map(|at| stdout[at + 12..at + 32].to_owned()).unwrap();
    insta::assert_snapshot!(stdout.replace(&expiry, "LATER"), @r"
    ok   plugin: `~/.terraform.d/plugins/terraform-credentials-stile`
    ok   helper configuration: `~/.config/stile/config.toml`
    ok   token cache: `~/.cache/stile` does not exist yet
    -    log of `get`: `~/.cache/stile/get.log`; no failures yet
    ok   CLI configuration: `~/.terraformrc` configures the helper
    ok   registry: `registry.example.com` at http://BROKER
    ok   AWS credentials: `ASIAIOSFODNN7EXAMPLE` from the environment, without a known expiry, for region eu-central-1
    ok   discovery and clock: modules.v1; the clocks agree
    ok   exchange: got a token for `aws:111122223333:role/deploy`, valid until LATER
    ok   authorised call: the registry accepts the new token of `aws:111122223333:role/deploy`
    ok   grants: 1; Terraform gets `403 Forbidden` on any other namespace
         acme: download
    ");
    assert_eq!((run.stderr.as_str(), run.code), ("", 0));
}
