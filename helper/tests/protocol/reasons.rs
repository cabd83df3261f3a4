//! What `get` prints for the failures that people meet: the true reason, and the cure.
//!
//! Each has a snapshot in `tests/snapshots/get`.

use std::time::Duration;

use chrono::TimeDelta;

use crate::support::{Sandbox, StubBroker, http, now, refusal, rfc3339, tls_server};

const GET: [&str; 2] = ["get", "registry.example.com"];
const TIME: &str = "2026-11-20T10:11:12Z";

/// Compares the line that `get` prints with the snapshot of that name. Nothing goes to stdout.
#[track_caller]
fn prints(name: &str, sandbox: &Sandbox) {
    prints_without(name, sandbox, "PORT");
}

/// Does the same, without the port of a stand-in.
#[track_caller]
fn prints_without(name: &str, sandbox: &Sandbox, port: &str) {
    let run = sandbox.run(&GET);
    assert_eq!((run.stdout.as_str(), run.code), ("", 1), "{}", run.stderr);
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    assert!(run.stderr.contains("; hint: "), "{}", run.stderr);
    insta::with_settings!({
        prepend_module_to_snapshot => false,
        omit_expression => true,
        snapshot_path => "../snapshots/get",
    }, {
        insta::assert_snapshot!(name, run.stderr.replace(port, "PORT"));
    });
}

/// Compares what `get` prints behind a proxy on this port, whose variable has a user and a password.
#[track_caller]
fn prints_behind(name: &str, variable: &str, port: &str) {
    let sandbox = Sandbox::new()
        .configured("[registry.\"registry.example.com\"]\n")
        .with(variable, &format!("http://bob:sekret@127.0.0.1:{port}"));
    prints_without(name, &sandbox, port);
    let run = sandbox.run(&GET);
    assert!(!run.stderr.contains("sekret") && !run.stderr.contains("bob"), "{}", run.stderr);
    assert!(
        run.stderr.contains(&format!("`http://127.0.0.1:{port}` of `{variable}`")),
        "{}",
        run.stderr
    );
}

#[test]
fn a_profile_of_sso_whose_session_has_ended_is_named_with_the_command_that_signs_in() {
    let broker = StubBroker::granting_every_token();
    let sandbox = Sandbox::of(&broker).without_keys().with("AWS_PROFILE", "deploy");
    sandbox.write(
        ".aws/config",
        "[profile deploy]\nsso_session = corp\nsso_account_id = 111122223333\nsso_role_name = deploy\n\
         [sso-session corp]\nsso_start_url = https://corp.example.com/start\nsso_region = eu-central-1\n",
    );
    // The name of the file is the SHA-1 of `corp`.
    let token = r#"{"accessToken":"x","expiresAt":"2020-01-01T00:00:00Z"}"#;
    sandbox.write(".aws/sso/cache/ee0bfd2552fbd840c02cc48b6e823320543c450f.json", token);
    prints("expired-sso", &sandbox);
    assert!(broker.requests().is_empty());
}

#[test]
fn keys_of_a_session_that_has_ended_are_named_with_where_they_come_from() {
    let broker = StubBroker::new(|_, _| {
        let message = "AWS reports that the credentials have expired";
        refusal("401 Unauthorized", "expired_credentials", message, None, TIME)
    });
    prints("expired-session-in-environment", &Sandbox::of(&broker));

    let sandbox = Sandbox::of(&broker).without_keys().with("AWS_PROFILE", "deploy");
    let keys = "aws_access_key_id = ASIAIOSFODNN7EXAMPLE\naws_secret_access_key = sekret\n";
    sandbox.write(".aws/config", &format!("[profile deploy]\n{keys}aws_session_token = token\n"));
    prints("expired-session-in-profile", &sandbox);
}

#[test]
fn a_wrong_secret_is_named_with_where_it_comes_from() {
    let broker = StubBroker::new(|_, _| {
        let message = "AWS reports that the signature does not match the request";
        refusal("401 Unauthorized", "signature_mismatch", message, Some("sign again"), TIME)
    });
    let sandbox = Sandbox::of(&broker).without_keys().with("AWS_PROFILE", "deploy");
    let keys = "aws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = sekret\n";
    sandbox.write(".aws/config", &format!("[profile deploy]\n{keys}"));
    prints("wrong-secret-in-profile", &sandbox);
}

#[test]
fn a_role_that_demands_an_mfa_code_is_an_error_with_the_command_that_asks_for_it() {
    let broker = StubBroker::granting_every_token();
    let sts = StubBroker::new(|_, _| {
        let error = "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error>\
                     <Type>Sender</Type><Code>AccessDenied</Code><Message>User: arn:aws:iam::111122223333:user/bob is not \
                     authorized to perform: sts:AssumeRole</Message></Error></ErrorResponse>";
        http("403 Forbidden", "", error)
    });
    let sandbox = Sandbox::of(&broker)
        .without_keys()
        .with("AWS_PROFILE", "deploy")
        .with("AWS_ENDPOINT_URL_STS", &sts.url);
    sandbox.write(
        ".aws/config",
        "[profile deploy]\nrole_arn = arn:aws:iam::111122223333:role/deploy\nsource_profile = base\n\
         mfa_serial = arn:aws:iam::111122223333:mfa/bob\n\
         [profile base]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = sekret\n",
    );
    prints("mfa", &sandbox);
    assert!(broker.requests().is_empty());
}

#[test]
fn a_proxy_that_demands_a_password_refuses_or_is_dead_is_named_and_not_the_registry() {
    let demands = StubBroker::new(|_, _| http("407 Proxy Authentication Required", "", ""));
    prints_behind("proxy-407", "HTTPS_PROXY", port(&demands));
    let refuses = StubBroker::new(|_, _| http("403 Forbidden", "", ""));
    prints_behind("proxy-403", "https_proxy", port(&refuses));
    prints_behind("proxy-dead", "ALL_PROXY", "9");
}

/// Returns the port of a stand-in.
fn port(stand_in: &StubBroker) -> &str {
    stand_in.url.rsplit(':').next().unwrap()
}

#[test]
fn a_502_of_something_in_front_is_not_an_answer_of_the_registry() {
    let broker = StubBroker::new(|_, _| http("502 Bad Gateway", "", "<html>"));
    prints("gateway-502", &Sandbox::of(&broker));
}

#[test]
fn a_clock_that_is_three_days_off_is_named() {
    for (name, code, off) in [
        ("clock-behind", "proof_expired", TimeDelta::days(3) + TimeDelta::minutes(30)),
        ("clock-ahead", "proof_from_future", TimeDelta::days(-3) - TimeDelta::minutes(30)),
    ] {
        let broker = StubBroker::new(move |_, request| {
            let time = rfc3339(request.signed_at() + off);
            refusal("401 Unauthorized", code, "the clock is wrong", None, &time)
        });
        prints(name, &Sandbox::of(&broker));
        assert_eq!(broker.requests().len(), 1, "and no second proof is signed");
    }
}

/// Creates an authority, and a server certificate that is valid for a day from that time on.
fn certificate(from: TimeDelta) -> (String, rcgen::Certificate, rcgen::KeyPair) {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority =
        rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
    let mut params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let seconds = u64::try_from((now() + from).timestamp()).unwrap();
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    params.not_after = params.not_before + Duration::from_secs(24 * 3600);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    (authority.pem(), certificate, key)
}

#[test]
fn a_certificate_that_is_not_valid_at_this_time_points_to_the_clock() {
    for (from, problem) in [
        (TimeDelta::days(3), "certificate not valid yet"),
        (TimeDelta::days(-3), "certificate expired"),
    ] {
        let (authority, certificate, key) = certificate(from);
        let url = tls_server(certificate.der(), &key);
        let sandbox = Sandbox::new()
            .configured(&format!("[registry.\"registry.example.com\"]\nurl = \"{url}\"\n"));
        sandbox.write("ca.pem", &authority);
        let ca = sandbox.path("ca.pem").to_str().unwrap().to_owned();
        let run = sandbox.with("SSL_CERT_FILE", &ca).run(&GET);
        assert!(run.stderr.contains(problem), "{}", run.stderr);
        let hint = "; hint: set this computer's clock; if it is correct, the registry's certificate has ended or is not valid yet\n";
        assert!(run.stderr.ends_with(hint), "{}", run.stderr);
        assert_eq!((run.stdout.as_str(), run.code), ("", 1));
    }
}
