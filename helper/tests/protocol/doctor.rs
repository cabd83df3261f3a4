//! `doctor` in broken set-ups: it names the step that fails, and prints a cure to paste.
//!
//! Each set-up has a snapshot in `tests/snapshots/doctor`.

use std::os::unix::fs::PermissionsExt as _;

use chrono::TimeDelta;
use serde_json::json;
use stile_protocol::exchange::Namespaces;

use crate::sign_in::{self, SessionKey, SignIn};
use crate::support::{
    ReceivedRequest, Sandbox, StubBroker, discovery, http, now, refusal, rfc3339, tls_server,
    token_reply,
};

const DOCTOR: [&str; 2] = ["doctor", "registry.example.com"];
const PRINCIPAL: &str = "aws:111122223333:role/deploy";
const ARN: &str = "arn:aws:iam::111122223333:role/deploy";
const TIME: &str = "2026-11-20T10:11:12Z";

/// Permissions of the caller: a namespace and a permission each.
type Granted = &'static [(&'static str, &'static str)];

const READER: Granted = &[("acme", "download")];

/// Starts a registry that decides as a broker does, whose clock is ahead of this computer's.
fn registry_ahead(ahead: TimeDelta, granted: Granted) -> StubBroker {
    StubBroker::new(move |_, request| match request.path() {
        "/.well-known/terraform.json" => discovery(now() + ahead),
        "/v1/token" => exchange(request, ahead, granted),
        "/v1/whoami" => whoami(request, granted),
        other => http("404 Not Found", "", other),
    })
}

fn registry(granted: Granted) -> StubBroker {
    registry_ahead(TimeDelta::zero(), granted)
}

/// Starts a registry that refuses every exchange.
fn refusing(status: &'static str, code: &'static str, message: &str, hint: &str) -> StubBroker {
    let refused = refusal(status, code, message, Some(hint), TIME);
    StubBroker::new(move |_, request| match request.path() {
        "/.well-known/terraform.json" => discovery(now()),
        _ => refused.clone(),
    })
}

fn exchange(request: &ReceivedRequest, ahead: TimeDelta, granted: Granted) -> String {
    let server_time = now() + ahead;
    if (server_time - request.signed_at()).abs() > TimeDelta::minutes(5) {
        let message = "the proof was signed more than 5 minutes ago by this registry's clock";
        let time = rfc3339(server_time);
        return refusal("401 Unauthorized", "proof_expired", message, None, &time);
    }
    let document = request.document();
    for permission in document.permissions.iter() {
        let has = |namespace: &str| granted.contains(&(namespace, permission.as_str()));
        let missing = match &document.namespaces {
            Namespaces::All if granted.iter().any(|(_, it)| *it == permission.as_str()) => None,
            Namespaces::All => Some(("any namespace".to_owned(), "NAMESPACE")),
            Namespaces::List(list) => list
                .iter()
                .map(|namespace| namespace.as_str())
                .find(|namespace| !has(namespace))
                .map(|namespace| (format!("namespace `{namespace}`"), namespace)),
        };
        if let Some((place, namespace)) = missing {
            let message = format!("`{ARN}` has no `{permission}` on {place}");
            let flag = permission.as_str().replace('_', "-");
            let hint = format!(
                "ask an operator for `stile-admin grant create --role-arn {ARN} --namespace {namespace} --{flag}`"
            );
            return refusal("403 Forbidden", "no_grant", &message, Some(&hint), TIME);
        }
    }
    let permissions = document.permissions.to_string().replace(',', "/");
    token_reply(&format!("stile_v4.local.{permissions}"), 3600 + ahead.num_seconds())
}

fn whoami(request: &ReceivedRequest, granted: Granted) -> String {
    let token = &request.headers["authorization"];
    let permissions: Vec<_> =
        token.trim_start_matches("Bearer stile_v4.local.").split('/').collect();
    let grants: Vec<_> = granted
        .iter()
        .filter(|(_, permission)| permissions.contains(permission))
        .map(|(namespace, permission)| {
            json!({ "principal": PRINCIPAL, "namespace": namespace, "permissions": [permission],
                "expires_at": null })
        })
        .collect();
    let body = json!({ "principal": PRINCIPAL, "expires_at": TIME, "namespaces": "all",
        "permissions": permissions, "grants": grants });
    http("200 OK", "", &body.to_string())
}

/// Creates a sandbox with everything in its place, for a registry at this URL.
fn installed_at(url: &str) -> Sandbox {
    Sandbox::new()
        .configured(&format!("[registry.\"registry.example.com\"]\nurl = \"{url}\"\n"))
        .installed()
}

/// Runs the program and returns what it prints, without ports and times.
fn page(sandbox: &Sandbox, url: &str, arguments: &[&str]) -> String {
    let run = sandbox.run(arguments);
    let page = format!(
        "$ terraform-credentials-stile {}\n{}{}exit code {}\n",
        arguments.join(" "),
        run.stdout,
        run.stderr,
        run.code
    );
    let mut parts = page.split("valid until ");
    let first = parts.next().unwrap_or_default().to_owned();
    let page = parts.fold(first, |page, part| {
        format!("{page}valid until LATER{}", part.trim_start_matches(|c: char| !";,\n".contains(c)))
    });
    let (scheme, address) = url.split_once("://").unwrap();
    page.replace(url, &format!("{scheme}://BROKER")).replace(address, "BROKER")
}

/// Compares the page of `doctor` with the snapshot of this set-up.
///
/// These steps fail, and no others, and each failure has a complete command.
#[track_caller]
fn shows(set_up: &str, sandbox: &Sandbox, url: &str, arguments: &[&str], steps: &[&str]) {
    let page = page(sandbox, url, arguments);
    let failures: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("FAIL ")).collect();
    let names: Vec<_> = failures.iter().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(names, steps, "{page}");
    for failure in failures {
        let (_, cure) = failure.split_once("; hint: ").unwrap();
        assert!(cure.contains('`') && !cure.contains("HOST`"), "{failure}");
    }
    let code = if steps.is_empty() { 0 } else { 1 };
    assert!(page.ends_with(&format!("exit code {code}\n")), "{page}");
    matches(set_up, &page);
}

#[track_caller]
fn matches(set_up: &str, page: &str) {
    insta::with_settings!({
        prepend_module_to_snapshot => false,
        omit_expression => true,
        snapshot_path => "../snapshots/doctor",
    }, {
        insta::assert_snapshot!(set_up, page);
    });
}

#[test]
fn a_wrong_clock_fails_although_the_exchange_corrects_it() {
    let ahead = TimeDelta::minutes(150) + TimeDelta::seconds(30);
    let broker = registry_ahead(ahead, READER);
    let sandbox = Sandbox::of(&broker).installed();
    shows("clock", &sandbox, &broker.url, &DOCTOR, &["discovery and clock"]);

    let broker = registry_ahead(TimeDelta::days(3) + TimeDelta::minutes(30), READER);
    let sandbox = Sandbox::of(&broker).installed();
    let failed = ["discovery and clock", "exchange"];
    shows("clock-three-days", &sandbox, &broker.url, &DOCTOR, &failed);
}

#[test]
fn missing_credentials_fail_with_the_command_that_makes_some() {
    let broker = registry(READER);
    let sandbox = Sandbox::of(&broker).installed().without_keys();
    shows("no-credentials", &sandbox, &broker.url, &DOCTOR, &["AWS credentials"]);
    assert!(broker.requests().iter().all(|it| it.line.starts_with("GET")), "nothing was signed");
}

#[test]
fn missing_credentials_fail_with_a_profile_that_exists() {
    let broker = registry(READER);
    let sandbox = Sandbox::of(&broker).installed().without_keys();
    sandbox.write(
        ".aws/config",
        "[profile deploy]\nregion = eu-west-1\n[profile dev]\nlogin_session = x\n[profile test]\nlogin_session = x\n",
    );
    shows("no-credentials-but-profiles", &sandbox, &broker.url, &DOCTOR, &["AWS credentials"]);
}

#[test]
fn a_profile_with_only_a_region_fails_with_how_to_fill_it_or_another_profile() {
    let broker = registry(READER);
    let sandbox = Sandbox::of(&broker).installed().without_keys().with("AWS_PROFILE", "deploy");
    let empty = "[profile deploy]\nregion = eu-west-1\n[profile empty]\nregion = eu-west-1\n";
    sandbox.write(".aws/config", empty);
    shows("profile-of-a-region", &sandbox, &broker.url, &DOCTOR, &["AWS credentials"]);

    sandbox.write(".aws/config", &format!("{empty}[profile test]\nlogin_session = x\n"));
    shows("profile-of-a-region-and-another", &sandbox, &broker.url, &DOCTOR, &["AWS credentials"]);
}

#[test]
fn a_wrong_profile_fails_with_the_nearest_one() {
    let broker = registry(READER);
    let profiles = "[profile deploy]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\n\
                    aws_secret_access_key = sekret\n[profile dev]\n";
    let sandbox = Sandbox::of(&broker).installed().without_keys().with("AWS_PROFILE", "depoly");
    sandbox.write(".aws/config", profiles);
    shows("wrong-profile-in-variable", &sandbox, &broker.url, &DOCTOR, &["AWS credentials"]);

    let flag = [&DOCTOR[..], &["--profile", "depoly"]].concat();
    shows("wrong-profile-in-flag", &sandbox, &broker.url, &flag, &["AWS credentials"]);

    let config = sandbox.read(".config/stile/config.toml");
    let named = Sandbox::new().configured(&format!("{config}profile = \"depoly\"\n")).installed();
    named.write(".aws/config", profiles);
    shows("wrong-profile-in-config", &named, &broker.url, &DOCTOR, &["AWS credentials"]);
}

#[test]
fn an_expired_profile_fails_with_the_command_that_renews_it() {
    let broker = registry(READER);
    let config = Sandbox::of(&broker).read(".config/stile/config.toml");
    let sandbox = Sandbox::new().configured(&format!("{config}profile = \"deploy\"\n")).installed();
    sandbox.write(
        ".aws/config",
        "[profile deploy]\nsso_session = corp\nsso_account_id = 111122223333\nsso_role_name = deploy\n\
         [sso-session corp]\nsso_start_url = https://corp.example.com/start\nsso_region = eu-central-1\n",
    );
    shows("expired-sso-profile", &sandbox, &broker.url, &DOCTOR, &["AWS credentials"]);

    sandbox.write(
        "old.json",
        r#"{"Version":1,"AccessKeyId":"ASIAX","SecretAccessKey":"y","SessionToken":"z","Expiration":"2020-01-01T00:00:00Z"}"#,
    );
    let old = sandbox.path("old.json");
    let process = format!("[profile deploy]\ncredential_process = /bin/cat {}\n", old.display());
    sandbox.write(".aws/config", &process);
    shows("expired-process-profile", &sandbox, &broker.url, &DOCTOR, &["AWS credentials"]);

    sandbox.write(
        ".aws/config",
        "[profile deploy]\nrole_arn = arn:aws:iam::111122223333:role/deploy\nsource_profile = base\n\
         [profile base]\nsso_start_url = https://corp.example.com/start\nsso_region = eu-central-1\n\
         sso_account_id = 111122223333\nsso_role_name = base\n",
    );
    shows("expired-source-profile", &sandbox, &broker.url, &DOCTOR, &["AWS credentials"]);
}

#[test]
fn a_profile_of_aws_login_without_a_valid_session_fails_with_the_command_that_signs_in() {
    let broker = registry(READER);
    let sandbox = Sandbox::of(&broker).installed().without_keys().with("AWS_PROFILE", "dev");
    sandbox.write(".aws/config", &sign_in::profile("dev"));
    shows("login-without-session", &sandbox, &broker.url, &DOCTOR, &["AWS credentials"]);

    sandbox.write(&sign_in::session_file(), "{");
    shows("login-with-damaged-session", &sandbox, &broker.url, &DOCTOR, &["AWS credentials"]);

    let key = SessionKey::new();
    let ended = SignIn::answering(sign_in::refused("TOKEN_EXPIRED"));
    let sandbox = ended.before(sandbox);
    key.sign_in(&sandbox, "ASIAIOSFODNN7EXAMPLE", -60);
    shows("login-with-ended-session", &sandbox, &broker.url, &DOCTOR, &["AWS credentials"]);

    let sandbox = sandbox.with("AWS_ENDPOINT_URL_SIGNIN", "http://127.0.0.1:9");
    shows("login-without-aws", &sandbox, &broker.url, &DOCTOR, &["AWS credentials"]);

    key.sign_in(&sandbox, "ASIAIOSFODNN7EXAMPLE", 900);
    shows("login", &sandbox, &broker.url, &DOCTOR, &[]);
}

#[test]
fn a_wrong_secret_fails_with_the_command_that_sets_it() {
    let broker = refusing(
        "401 Unauthorized",
        "signature_mismatch",
        "AWS reports that the signature does not match the request",
        "sign for registry host `registry.example.com`",
    );
    let sandbox = Sandbox::of(&broker).installed();
    shows("wrong-secret-in-environment", &sandbox, &broker.url, &DOCTOR, &["exchange"]);

    let sandbox = sandbox.without_keys().with("AWS_PROFILE", "deploy");
    sandbox.write(
        ".aws/config",
        "[profile deploy]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = sekret\n",
    );
    shows("wrong-secret-in-profile", &sandbox, &broker.url, &DOCTOR, &["exchange"]);
}

#[test]
fn a_registry_that_is_down_fails_once_and_the_exchange_is_not_tried() {
    let url = "http://127.0.0.1:9";
    shows("registry-down", &installed_at(url), url, &DOCTOR, &["discovery and clock"]);
}

#[test]
fn a_502_of_a_proxy_fails_with_the_commands_that_ask_the_registry_itself() {
    let broker = StubBroker::new(|_, _| http("502 Bad Gateway", "", "<html>"));
    let sandbox = Sandbox::of(&broker).installed();
    shows("proxy-502", &sandbox, &broker.url, &DOCTOR, &["discovery and clock"]);

    let text = "[registry.\"registry.example.com\"]\n";
    let tunnel = Sandbox::new().configured(text).installed().with("HTTPS_PROXY", &broker.url);
    shows("proxy-refuses-tunnel", &tunnel, &broker.url, &DOCTOR, &["discovery and clock"]);

    let closed = StubBroker::new(|_, _| http("407 Proxy Authentication Required", "", ""));
    let tunnel = tunnel.with("HTTPS_PROXY", &closed.url);
    shows("proxy-demands-a-password", &tunnel, &closed.url, &DOCTOR, &["discovery and clock"]);

    let dead = "http://127.0.0.1:9";
    let tunnel = tunnel.with("HTTPS_PROXY", dead);
    shows("proxy-is-dead", &tunnel, dead, &DOCTOR, &["discovery and clock"]);
}

#[test]
fn a_certificate_that_is_not_trusted_fails_with_the_variable_that_names_the_authority() {
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let url = tls_server(certified.cert.der(), &certified.signing_key);
    let mut params = rcgen::CertificateParams::new(["ca.example.com".to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "Another authority");
    let other = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    let sandbox = installed_at(&url);
    sandbox.write("ca.pem", &other.pem());
    let ca = sandbox.path("ca.pem").to_str().unwrap().to_owned();
    let sandbox = sandbox.with("SSL_CERT_FILE", &ca);
    shows("tls-not-trusted", &sandbox, &url, &DOCTOR, &["discovery and clock"]);
}

#[test]
fn a_wrong_host_fails_with_the_hosts_that_are_configured() {
    let broker = registry(READER);
    let sandbox = Sandbox::of(&broker).installed();
    let mistyped = ["doctor", "registry.exmaple.com"];
    shows("wrong-host", &sandbox, &broker.url, &mistyped, &["registry"]);

    let other = StubBroker::new(|_, _| http("200 OK", "", "<html>"));
    let sandbox = Sandbox::of(&other).installed();
    shows("wrong-server", &sandbox, &other.url, &DOCTOR, &["discovery and clock"]);
    assert_eq!(other.requests().len(), 1, "another server gets no proof");
}

#[test]
fn a_helper_that_terraform_does_not_find_fails_with_the_install_command() {
    let broker = registry(READER);
    let sandbox = Sandbox::of(&broker).installed();
    let program = sandbox.path(".terraform.d/plugins/terraform-credentials-stile");
    std::fs::remove_file(&program).unwrap();
    let flags = [&DOCTOR[..], &["--region", "eu-west-1"]].concat();
    shows("helper-not-in-folder", &sandbox, &broker.url, &flags, &["plugin"]);

    std::fs::write(&program, "").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o644)).unwrap();
    shows("helper-not-executable", &sandbox, &broker.url, &DOCTOR, &["plugin"]);
}

#[test]
fn a_damaged_cache_fails_with_the_command_that_deletes_it() {
    let broker = registry(READER);
    let sandbox = Sandbox::of(&broker).installed();
    let write = |name: &str, text: &str, mode: u32| {
        sandbox.write(name, text);
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(sandbox.path(name), permissions).unwrap();
    };
    write(".cache/stile/0123456789abcdef-1.json", "{\"token\":", 0o600);
    write(".cache/stile/0123456789abcdef-2.json", "{}", 0o644);
    shows("damaged-cache", &sandbox, &broker.url, &DOCTOR, &["token cache"]);

    std::fs::remove_dir_all(sandbox.path(".cache")).unwrap();
    sandbox.write(".cache/stile", "");
    shows("cache-is-a-file", &sandbox, &broker.url, &DOCTOR, &["token cache"]);
}

#[test]
fn a_stale_cache_is_described_and_harms_nothing() {
    let broker = registry(READER);
    let sandbox = Sandbox::of(&broker).installed();
    assert_eq!(sandbox.run(&["get", "registry.example.com"]).code, 0);
    let name = ".cache/stile/0123456789abcdef-1.json";
    sandbox.write(name, &json!({ "token": "x", "expires_at": TIME }).to_string());
    let permissions = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(sandbox.path(name), permissions).unwrap();
    shows("stale-cache", &sandbox, &broker.url, &DOCTOR, &[]);
}

#[test]
fn a_revoked_token_is_deleted_and_a_revoked_principal_fails() {
    let broker = StubBroker::new(|number, request| match (number, request.path()) {
        (0, _) => token_reply("stile_v4.local.revoked", 3600),
        (_, "/.well-known/terraform.json") => discovery(now()),
        (_, "/v1/token") => exchange(request, TimeDelta::zero(), READER),
        _ if request.headers["authorization"].ends_with(".revoked") => {
            http("401 Unauthorized", "", "{}")
        }
        _ => whoami(request, READER),
    });
    let sandbox = Sandbox::of(&broker).installed();
    assert_eq!(sandbox.run(&["get", "registry.example.com"]).code, 0);
    shows("revoked-token", &sandbox, &broker.url, &DOCTOR, &[]);

    let broker = refusing(
        "403 Forbidden",
        "principal_revoked",
        &format!("`{ARN}` is revoked"),
        &format!("ask an operator for `stile-admin token lift --principal {ARN}`"),
    );
    let sandbox = Sandbox::of(&broker).installed();
    shows("revoked-principal", &sandbox, &broker.url, &DOCTOR, &["exchange"]);
}

#[test]
fn a_caller_without_any_grant_fails_with_the_command_of_the_operator() {
    let broker = registry(&[]);
    let sandbox = Sandbox::of(&broker).installed();
    shows("no-grant-at-all", &sandbox, &broker.url, &DOCTOR, &["exchange"]);
    let namespace = [&DOCTOR[..], &["--namespace", "tools"]].concat();
    shows("no-grant-at-all-for-namespace", &sandbox, &broker.url, &namespace, &["exchange"]);
}

#[test]
fn a_namespace_without_a_grant_fails_and_the_grants_are_shown() {
    let broker = registry(&[("acme", "download"), ("acme", "upload"), ("tools", "upload")]);
    let sandbox = Sandbox::of(&broker).installed();
    let without = [&DOCTOR[..], &["--namespace", "tools"]].concat();
    shows("no-grant-on-namespace", &sandbox, &broker.url, &without, &["namespace"]);
    shows("without-a-namespace", &sandbox, &broker.url, &DOCTOR, &[]);
    let with = [&DOCTOR[..], &["--namespace", "acme"]].concat();
    shows("grant-on-namespace", &sandbox, &broker.url, &with, &[]);

    let invalid = sandbox.run(&["doctor", "--namespace", "Acme"]);
    assert_eq!((invalid.stdout.as_str(), invalid.code), ("", 1));
}

#[test]
fn a_caller_without_download_is_shown_with_the_permissions_that_it_has() {
    let broker = registry(&[("acme", "upload"), ("acme", "delete_grant")]);
    let sandbox = Sandbox::of(&broker).installed();
    let with = [&DOCTOR[..], &["--namespace", "acme"]].concat();
    shows("without-download", &sandbox, &broker.url, &with, &[]);
    let without = [&DOCTOR[..], &["--namespace", "tools"]].concat();
    shows("without-download-on-namespace", &sandbox, &broker.url, &without, &["namespace"]);
    let whoami = page(&sandbox, &broker.url, &["whoami", "registry.example.com"]);
    matches("whoami-without-download", &whoami);
    let cached = |path: &std::path::Path| path.extension().is_some_and(|it| it == "json");
    assert!(!sandbox.files().iter().any(|(path, _)| cached(path)), "no such token is cached");
}

#[test]
fn each_permission_is_enough_for_whoami_and_doctor() {
    let each: [Granted; 4] = [
        &[("acme", "create_grant")],
        &[("acme", "delete_grant")],
        &[("acme", "download")],
        &[("acme", "upload")],
    ];
    for granted in each {
        let broker = registry(granted);
        let sandbox = Sandbox::of(&broker).installed();
        let line = format!("acme: {}\n", granted[0].1);
        for verb in ["whoami", "doctor"] {
            let run = sandbox.run(&[verb, "registry.example.com"]);
            assert_eq!((run.stderr.as_str(), run.code), ("", 0), "{verb} {}", run.stdout);
            assert!(run.stdout.contains(&line), "{verb}: {}", run.stdout);
        }
    }
}
