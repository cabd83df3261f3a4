//! `get` for a Stile registry: the request, every kind of response, and the cache.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use chrono::TimeDelta;
use stile_protocol::exchange::Namespaces;

use crate::support::{
    Sandbox, StubBroker, http, now, refusal, rfc3339, token_reply, with_request_id,
};

const GET: [&str; 2] = ["get", "registry.example.com"];
const TOKEN: &str = "{\"token\":\"stile_v4.local.number-0\"}\n";
const TIME: &str = "2026-11-20T10:11:12Z";
const ID: &str = "64ee87ba88f3e21a";

#[test]
fn an_error_of_the_broker_is_printed_as_one_line() {
    let denied = "no grant for `aws:111122223333:role/deploy`";
    for (response, line) in [
        (
            refusal("403 Forbidden", "no_grant", denied, Some("ask its owner"), TIME),
            format!("{denied}; hint: ask its owner"),
        ),
        (
            with_request_id(
                &refusal("403 Forbidden", "no_grant", denied, Some("ask its owner"), TIME),
                ID,
            ),
            format!("{denied} (request id: {ID}); hint: ask its owner"),
        ),
        (
            with_request_id(
                &refusal("503 Service Unavailable", "sts_unavailable", "STS is away", None, TIME),
                ID,
            ),
            format!("the registry is unavailable: STS is away (request id: {ID})"),
        ),
        (
            refusal("401 Unauthorized", "proof_replayed", "used\n\u{1b}[31malready", None, TIME),
            "used [31malready".to_owned(),
        ),
        (
            refusal(
                "503 Service Unavailable",
                "sts_unavailable",
                "STS is away",
                Some("try again"),
                TIME,
            ),
            "the registry is unavailable: STS is away; hint: try again".to_owned(),
        ),
        (
            http("502 Bad Gateway", "", "<html>"),
            "the registry is unavailable: a proxy or gateway in front of the registry answered `502 Bad Gateway`; \
             hint: try again; if it stays, run `doctor`, and send its output to the registry's operator"
                .to_owned(),
        ),
        (
            http("403 Forbidden", "", "{\"message\":\"Missing Authentication Token\"}"),
            "403 Forbidden: Missing Authentication Token".to_owned(),
        ),
    ] {
        let broker = StubBroker::new(move |_, _| response.clone());
        Sandbox::of(&broker)
            .run(&GET)
            .fails_with(&format!("no token for `registry.example.com`: {line}"));
        assert_eq!(broker.requests().len(), 1);
    }
}

#[test]
fn a_response_without_a_valid_token_is_rejected() {
    let long = "x".repeat(70_000);
    for (response, problem) in [
        (http("200 OK", "", ""), "does not contain a valid token"),
        (http("200 OK", "", "{}"), "does not contain a valid token"),
        (token_reply("two words", 3600), "does not contain a valid token"),
        (token_reply("line\nbreak", 3600), "does not contain a valid token"),
        (http("200 OK", "", &long), "responded with more than 65536 bytes"),
        (http("403 Forbidden", "", &long), "responded with more than 65536 bytes"),
    ] {
        let broker = StubBroker::new(move |_, _| response.clone());
        let run = Sandbox::of(&broker).run(&GET);
        assert!(run.stderr.contains(&format!("`{}/v1/token` {problem}", broker.url)), "{run:?}");
        assert_eq!((run.stdout.as_str(), run.code, run.stderr.lines().count()), ("", 1, 1));
    }
}

#[test]
fn a_proof_never_follows_a_redirect() {
    for status in
        ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"]
    {
        let elsewhere = StubBroker::granting_every_token();
        let location = format!("location: {}/v1/token\r\n", elsewhere.url);
        let broker = StubBroker::new(move |_, _| http(status, &location, ""));
        Sandbox::of(&broker).run(&GET).fails_with(&format!(
            "no token for `registry.example.com`: `{}/v1/token` responded with a redirect ({status}), and proofs and tokens never \
             follow one; hint: set `url` in the helper's `config.toml` to the registry's final address",
            broker.url
        ));
        assert!(elsewhere.requests().is_empty());
    }
}

#[test]
fn the_helper_sends_only_the_exchange_request() {
    let broker = StubBroker::granting_every_token();
    let before = now();
    Sandbox::of(&broker).run(&GET).prints(TOKEN);
    let request = &broker.requests()[0];
    assert_eq!(request.line, "POST /v1/token HTTP/1.1");
    assert_eq!(request.headers["content-type"], "application/json");
    assert!(!request.headers.contains_key("authorization"));
    let body = request.json();
    let mut fields: Vec<_> = body.as_object().unwrap().keys().cloned().collect();
    fields.sort();
    assert_eq!(
        fields,
        ["access_key_id", "amz_date", "region", "request", "session_token", "signature", "version"]
    );
    assert_eq!(body["version"], 1);
    assert_eq!(
        (&body["region"], &body["access_key_id"]),
        (&"eu-central-1".into(), &"ASIAIOSFODNN7EXAMPLE".into())
    );
    assert_eq!(body["session_token"], "IQoJb3JpZ2luX2VjEXAMPLE");
    assert!((request.signed_at() - before).abs() < TimeDelta::seconds(30));
    let asked = request.document();
    assert_eq!(
        (asked.ttl, &asked.namespaces, asked.permissions.to_string().as_str()),
        (3600, &Namespaces::All, "download")
    );
    assert!(!request.body.contains("wJalrXUtnFEMI"), "the request contains no secret key");
}

#[test]
fn a_wrong_clock_is_reported_and_corrected_once() {
    for (code, minutes, direction) in
        [("proof_expired", 14, "behind"), ("proof_from_future", -14, "ahead of")]
    {
        let broker = StubBroker::new(move |number, request| match number {
            0 => {
                let server_time = request.signed_at() + TimeDelta::minutes(minutes);
                refusal("401 Unauthorized", code, "the clock is wrong", None, &rfc3339(server_time))
            }
            _ => token_reply("stile_v4.local.number-0", 3600),
        });
        let run = Sandbox::of(&broker).run(&GET);
        assert_eq!((run.stdout.as_str(), run.code), (TOKEN, 0));
        let names_the_skew = |line: &str| {
            line.contains("14 min 0 s")
                || line.contains("13 min 59 s")
                || line.contains("14 min 1 s")
        };
        assert!(
            names_the_skew(&run.stderr)
                && run.stderr.contains(direction)
                && run.stderr.lines().count() == 1,
            "{}",
            run.stderr
        );
        let requests = broker.requests();
        assert_eq!(requests.len(), 2);
        assert_eq!(requests[1].signed_at() - requests[0].signed_at(), TimeDelta::minutes(minutes));
        assert_ne!(requests[0].document().nonce, requests[1].document().nonce);
    }
}

#[test]
fn a_second_clock_error_is_final() {
    let broker = StubBroker::new(|_, _| {
        refusal("401 Unauthorized", "proof_expired", "the proof is too old", None, &rfc3339(now()))
    });
    Sandbox::of(&broker)
        .run(&GET)
        .fails_with("no token for `registry.example.com`: the proof is too old");
    assert_eq!(broker.requests().len(), 2);
}

#[test]
fn a_proof_is_never_signed_for_a_time_more_than_26_hours_away() {
    for (code, ahead, skews) in [
        ("proof_from_future", TimeDelta::days(90), ["90 d 0 h behind", "89 d 23 h behind"]),
        ("proof_expired", TimeDelta::days(90), ["90 d 0 h behind", "89 d 23 h behind"]),
        ("proof_from_future", TimeDelta::days(-90), ["90 d 0 h ahead of", "89 d 23 h ahead of"]),
        ("proof_expired", TimeDelta::minutes(26 * 60 + 1), ["1 d 2 h behind"; 2]),
        ("proof_from_future", TimeDelta::minutes(-26 * 60 - 1), ["1 d 2 h ahead of"; 2]),
    ] {
        let broker = StubBroker::new(move |number, request| match number {
            0 => refusal(
                "401 Unauthorized",
                code,
                "the clock is wrong",
                None,
                &rfc3339(request.signed_at() + ahead),
            ),
            _ => token_reply("stile_v4.local.number-0", 3600),
        });
        let lines = skews.map(|skew| {
            format!(
                "stile: no token for `registry.example.com`: this computer's clock is {skew} the registry's, and the helper corrects at \
                 most 26 h; hint: set this computer's clock; if it is correct, the registry's clock is wrong, or the response is not \
                 from the registry\n"
            )
        });
        let run = Sandbox::of(&broker).run(&GET);
        assert!(lines.contains(&run.stderr), "{}", run.stderr);
        assert_eq!(
            (run.stdout.as_str(), run.code, broker.requests().len()),
            ("", 1, 1),
            "{code} {ahead}"
        );
    }
}

#[test]
fn a_clock_that_is_set_to_another_time_zone_is_corrected() {
    let most = 26 * 60 - 1;
    for (code, minutes, direction) in [
        ("proof_expired", most, "1 d 1 h behind"),
        ("proof_from_future", -most, "1 d 1 h ahead of"),
    ] {
        let broker = StubBroker::new(move |number, request| match number {
            0 => {
                let server_time = request.signed_at() + TimeDelta::minutes(minutes);
                refusal("401 Unauthorized", code, "the clock is wrong", None, &rfc3339(server_time))
            }
            _ => token_reply("stile_v4.local.number-0", 3600),
        });
        let run = Sandbox::of(&broker).run(&GET);
        assert_eq!((run.stdout.as_str(), run.code, broker.requests().len()), (TOKEN, 0, 2));
        assert!(run.stderr.contains(direction), "{}", run.stderr);
    }
}

#[test]
fn a_token_is_minted_once_and_then_read_from_a_private_file() {
    let broker = StubBroker::granting_every_token();
    let sandbox = Sandbox::of(&broker);
    for _ in 0..3 {
        sandbox.run(&GET).prints(TOKEN);
    }
    assert_eq!(broker.requests().len(), 1);
    let cached: Vec<_> = sandbox
        .files()
        .into_iter()
        .filter(|(path, _)| path.starts_with(sandbox.path(".cache")))
        .collect();
    for (path, bytes) in &cached {
        assert_eq!(
            std::fs::metadata(path).unwrap().permissions().mode() & 0o777,
            0o600,
            "{}",
            path.display()
        );
        assert!(!String::from_utf8_lossy(bytes).contains("wJalrXUtnFEMI"));
    }
    sandbox.run(&["forget", "registry.example.com"]).prints("");
    sandbox.run(&GET).prints("{\"token\":\"stile_v4.local.number-1\"}\n");
    let other_keys = sandbox.with("AWS_ACCESS_KEY_ID", "ASIAIOSFODNN7EXAMPLF");
    other_keys.run(&GET).prints("{\"token\":\"stile_v4.local.number-2\"}\n");
}

#[test]
fn the_cache_deletes_no_other_files_in_its_folder() {
    let broker = StubBroker::granting_every_token();
    let sandbox = Sandbox::of(&broker);
    // As on Windows, where the cache and the stored tokens share a folder.
    let shared = sandbox.path("local").to_str().unwrap().to_owned();
    let sandbox = sandbox.with("XDG_CACHE_HOME", &shared).with("XDG_DATA_HOME", &shared);
    sandbox.run_with_stdin(&["store", "app.terraform.io"], "{\"token\":\"by-login\"}").prints("");
    for name in ["local/stile/tokens.json", "local/stile/notes.txt"] {
        let file =
            std::fs::OpenOptions::new().append(true).create(true).open(sandbox.path(name)).unwrap();
        file.set_modified((now() - TimeDelta::hours(25)).into()).unwrap();
    }
    sandbox.run(&GET).prints(TOKEN);
    sandbox.run(&["get", "app.terraform.io"]).prints("{\"token\":\"by-login\"}\n");
    assert!(sandbox.path("local/stile/notes.txt").exists());
}

#[test]
fn an_untrusted_cache_file_is_replaced_by_a_private_one() {
    let broker = StubBroker::granting_every_token();
    let sandbox = Sandbox::of(&broker);
    sandbox.run(&GET).prints(TOKEN);
    let is_token = |path: &std::path::Path| {
        path.extension().is_some_and(|extension| extension == "json")
            && path.starts_with(sandbox.path(".cache"))
    };
    let (path, whole) = sandbox.files().into_iter().find(|(path, _)| is_token(path)).unwrap();
    let expired = String::from_utf8(whole.clone())
        .unwrap()
        .replace(&now().format("%Y-").to_string(), "2001-");
    let other_host = String::from_utf8(whole.clone())
        .unwrap()
        .replace("registry.example.com", "registry.example.org");
    let spoilt: [&dyn Fn(); 6] = [
        &|| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap(),
        &|| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o622)).unwrap(),
        &|| std::fs::write(&path, &whole[..whole.len() / 2]).unwrap(),
        &|| std::fs::write(&path, &expired).unwrap(),
        &|| std::fs::write(&path, &other_host).unwrap(),
        &|| {
            std::fs::rename(&path, sandbox.path("moved")).unwrap();
            symlink(sandbox.path("moved"), &path).unwrap();
        },
    ];
    for (at, spoil) in spoilt.iter().enumerate() {
        spoil();
        let expected = format!("{{\"token\":\"stile_v4.local.number-{}\"}}\n", at + 1);
        sandbox.run(&GET).prints(&expected);
        sandbox.run(&GET).prints(&expected);
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        assert!(
            metadata.is_file() && metadata.permissions().mode() & 0o777 == 0o600,
            "number {at}"
        );
    }
}

#[test]
fn a_token_that_expires_soon_is_used_but_not_read_from_the_cache() {
    let broker =
        StubBroker::new(|number, _| token_reply(&format!("stile_v4.local.number-{number}"), 240));
    let sandbox = Sandbox::of(&broker);
    for number in 0..2 {
        let run = sandbox.run(&GET);
        let token = format!("{{\"token\":\"stile_v4.local.number-{number}\"}}\n");
        assert_eq!((run.stdout, run.code), (token, 0));
        assert!(run.stderr.contains("shortened the requested lifetime"), "{}", run.stderr);
    }
}

#[test]
fn a_cache_that_cannot_be_written_costs_only_a_new_token() {
    let broker = StubBroker::granting_every_token();
    let sandbox = Sandbox::of(&broker).with("XDG_CACHE_HOME", "/proc/nowhere");
    sandbox.run(&GET).prints(TOKEN);
    sandbox.run(&GET).prints("{\"token\":\"stile_v4.local.number-1\"}\n");
}

#[test]
fn many_parallel_processes_share_one_new_token() {
    let broker = StubBroker::granting_every_token();
    let sandbox = Sandbox::of(&broker);
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| sandbox.run(&GET).prints(TOKEN));
        }
    });
    assert_eq!(broker.requests().len(), 1);
}

#[test]
fn an_error_names_the_provider_that_has_no_credentials() {
    let broker = StubBroker::granting_every_token();
    let prefix = "no token for `registry.example.com`: ";
    let starts = |sandbox: Sandbox, expected: &str, hint: &str| {
        let run = sandbox.run(&GET);
        assert!(run.stderr.starts_with(&format!("stile: {prefix}{expected}")), "{}", run.stderr);
        assert!(run.stderr.contains(&format!("hint: {hint}")), "{}", run.stderr);
        assert_eq!((run.stdout.as_str(), run.code, run.stderr.lines().count()), ("", 1, 1));
    };
    starts(
        Sandbox::of(&broker).without_keys(),
        "found no AWS credentials",
        "sign in with `aws login` or `aws sso login`",
    );
    starts(
        Sandbox::of(&broker).without_keys().with("AWS_REGION", ""),
        "found no AWS credentials",
        "sign in with `aws login` or `aws sso login`",
    );
    let named = Sandbox::of(&broker);
    named.write(
        ".config/stile/config.toml",
        &format!(
            "[registry.\"registry.example.com\"]\nurl = \"{}\"\nprofile = \"deploy\"\n",
            broker.url
        ),
    );
    starts(named, "the AWS profile `deploy` does not exist", "check the spelling");
    let missing = Sandbox::of(&broker).without_keys().with("AWS_PROFILE", "deploi");
    let role = r#"{"Version":1,"AccessKeyId":"ASIAX","SecretAccessKey":"y","SessionToken":"z"}"#;
    missing.write("keys.json", role);
    missing.write(
        ".aws/config",
        &format!(
            "[default]\ncredential_process = /bin/cat {}\n",
            missing.path("keys.json").display()
        ),
    );
    starts(missing, "the AWS profile `deploi` does not exist", "check the spelling");
    let nowhere = Sandbox::of(&broker).without_keys().with("AWS_PROFILE", "deploi");
    starts(nowhere, "the AWS profile `deploi` does not exist", "check the spelling");
    let region_only = Sandbox::of(&broker).without_keys().with("AWS_PROFILE", "plain");
    region_only.write(".aws/config", "[profile plain]\nregion = us-west-2\n");
    starts(
        region_only,
        "the AWS profile `plain` has no credentials",
        "run `aws login --profile plain`",
    );
    let process = Sandbox::of(&broker).without_keys();
    process.write(".aws/config", "[default]\ncredential_process = /bin/false\n");
    starts(
        process,
        "cannot load AWS credentials from the AWS profile `default`",
        "run `aws configure export-credentials --profile default`",
    );
    let old = Sandbox::of(&broker).without_keys();
    old.write(
        "old.json",
        r#"{"Version":1,"AccessKeyId":"ASIAX","SecretAccessKey":"y","SessionToken":"z","Expiration":"2020-01-01T00:00:00Z"}"#,
    );
    old.write(
        ".aws/config",
        &format!("[default]\ncredential_process = /bin/cat {}\n", old.path("old.json").display()),
    );
    starts(
        old,
        "the AWS credentials from the AWS profile `default` expired at 2020-01-01T00:00:00Z",
        "run `aws configure export-credentials --profile default`",
    );
    let web = Sandbox::of(&broker)
        .without_keys()
        .with("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/ci");
    starts(
        web.with("AWS_WEB_IDENTITY_TOKEN_FILE", "/nonexistent/token"),
        "cannot load AWS credentials from web identity",
        "check `AWS_ROLE_ARN`",
    );
    assert!(broker.requests().is_empty(), "nothing was sent");
}

#[test]
fn an_unusable_region_is_an_error() {
    let broker = StubBroker::granting_every_token();
    for (name, value, line) in [
        (
            "AWS_REGION",
            "eu-attacker-1",
            "this version of the helper does not know the AWS region `eu-attacker-1`; \
             hint: set `region` in the helper's `config.toml` to a region that the registry accepts",
        ),
        (
            "AWS_USE_FIPS_ENDPOINT",
            "true",
            "the AWS configuration requires FIPS endpoints, and STS has none in `eu-central-1`; \
             hint: set `region` in the helper's `config.toml` to a US region",
        ),
    ] {
        let sandbox = Sandbox::of(&broker).with(name, value);
        sandbox.run(&GET).fails_with(&format!("no token for `registry.example.com`: {line}"));
    }
    assert!(broker.requests().is_empty());
}

#[test]
fn a_named_profile_takes_precedence_over_keys_in_the_environment() {
    let broker = StubBroker::granting_every_token();
    let sandbox = Sandbox::of(&broker);
    sandbox.write(
        ".aws/config",
        "[profile deploy]\nregion = us-west-2\naws_access_key_id = AKIAIOSFODNN7PROFILE\naws_secret_access_key = other\n",
    );
    sandbox.run(&["--profile", "deploy", "get", "registry.example.com"]).prints(TOKEN);
    let body = broker.requests()[0].json();
    assert_eq!(body["access_key_id"], "AKIAIOSFODNN7PROFILE");
    assert!(body.get("session_token").is_none());
}

#[test]
fn a_changed_file_that_a_tilde_names_gets_a_new_token() {
    for (variable, path, section) in [
        ("AWS_CONFIG_FILE", "aws/config", "[default]"),
        ("AWS_CONFIG_FILE", "config", "[profile default]"),
        ("AWS_SHARED_CREDENTIALS_FILE", "aws/keys", "[default]"),
    ] {
        let broker = StubBroker::granting_every_token();
        let sandbox = Sandbox::of(&broker).without_keys().with(variable, &format!("~/{path}"));
        for (number, key) in ["AKIAIOSFODNN7EXAMPL1", "AKIAIOSFODNN7EXAMPL2"].iter().enumerate() {
            let text = format!("{section}\naws_access_key_id = {key}\naws_secret_access_key = x\n");
            sandbox.write(path, &text);
            // As after `cp -p`, the time of the file stays the same.
            let file = std::fs::File::options().write(true).open(sandbox.path(path)).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
            for _ in 0..2 {
                let token = format!("{{\"token\":\"stile_v4.local.number-{number}\"}}\n");
                sandbox.run(&GET).prints(&token);
            }
            assert_eq!(broker.requests()[number].json()["access_key_id"], *key, "{variable}");
        }
    }
}
