//! `proof = "oidc"`: JWTs of GitHub Actions, and fixed JWTs in variables and files.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use url::form_urlencoded;

use crate::support::{ReceivedRequest, Sandbox, StubBroker, http, now, rfc3339};

const HOST: &str = "registry.example.com";
const GET: [&str; 2] = ["get", HOST];
const GET_TOKEN: [&str; 4] = ["get-token", "token", "--registry-host", HOST];
const SECRET: &str = "request-sekret";

/// A second registry that the job uses.
const STAGING: &str = "staging.example.com";

/// Returns a JWT about this job for the registry, which no test verifies.
fn jwt(job: &str) -> String {
    jwt_for(HOST, job)
}

fn jwt_for(audience: &str, job: &str) -> String {
    let claims =
        serde_json::json!({ "iss": "https://gitlab.example.com", "aud": audience, "sub": job });
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{}", part(r#"{"alg":"RS256"}"#), part(&claims.to_string()), part("signature"))
}

/// Returns the fields of a form.
fn form(request: &ReceivedRequest) -> HashMap<String, String> {
    assert_eq!(request.line, "POST /v1/token HTTP/1.1");
    assert_eq!(request.headers["content-type"], "application/x-www-form-urlencoded");
    form_urlencoded::parse(request.body.as_bytes()).into_owned().collect()
}

/// Builds the response with a token.
fn access_token(token: &str, scope: &str) -> String {
    let body = serde_json::json!({
        "access_token": token, "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "token_type": "Bearer", "expires_in": 3600, "scope": scope,
        "expires_at": rfc3339(now() + TimeDelta::hours(1)), "principal": "oidc:ci",
    });
    http("200 OK", "cache-control: no-store\r\n", &body.to_string())
}

/// Builds an error of OAuth.
fn oauth_error(status: &str, error: &str, code: &str, message: &str) -> String {
    let body = serde_json::json!({
        "error": error, "error_description": message, "code": code, "message": message,
        "server_time": "2026-11-20T10:11:12Z", "request_id": "64ee87ba88f3e21a",
    });
    http(status, "", &body.to_string())
}

/// Starts a registry that accepts each JWT once. The token shows the scope and the number of tokens
/// before it.
fn registry() -> StubBroker {
    let used = Mutex::new(HashSet::new());
    StubBroker::new(move |_, request| {
        if request.path() != "/v1/token" {
            return http("404 Not Found", "", "");
        }
        let form = form(request);
        let mut used = used.lock().unwrap();
        let before = used.len();
        if !used.insert(form["subject_token"].clone()) {
            return oauth_error(
                "400 Bad Request",
                "invalid_grant",
                "jwt_replayed",
                "the JWT was already used",
            );
        }
        let scope = form["scope"].replace([':', ' '], "-");
        access_token(&format!("stile_v4.local.{scope}-{before}"), &form["scope"])
    })
}

/// Returns a home of a job whose table has these lines.
fn job(broker: &StubBroker, lines: &str) -> Sandbox {
    Sandbox::new().without_keys().configured(&format!(
        "[registry.\"{HOST}\"]\nurl = \"{}\"\nproof = \"oidc\"\n{lines}",
        broker.url
    ))
}

/// Returns a home of a job that uses two registries.
fn job_of_two(production: &StubBroker, staging: &StubBroker) -> Sandbox {
    let table = |host: &str, broker: &StubBroker| {
        format!("[registry.\"{host}\"]\nurl = \"{}\"\nproof = \"oidc\"\n", broker.url)
    };
    let both = table(HOST, production) + &table(STAGING, staging);
    Sandbox::new().without_keys().configured(&both)
}

/// Returns the JWTs that a registry received.
fn received(broker: &StubBroker) -> Vec<String> {
    broker.requests().iter().map(|request| form(request)["subject_token"].clone()).collect()
}

/// Returns the scopes of all requests to a registry.
fn scopes(broker: &StubBroker) -> Vec<String> {
    broker.requests().iter().map(|request| form(request)["scope"].clone()).collect()
}

/// Starts GitHub Actions' service for JWTs. Each JWT names its number and its audience.
fn github() -> StubBroker {
    StubBroker::new(|number, request| {
        let audience = request.path().rsplit_once("&audience=").unwrap().1.to_owned();
        let is_own = request.headers.get("authorization").map(String::as_str)
            == Some(&format!("Bearer {SECRET}"));
        if !is_own {
            return http("401 Unauthorized", "", "{}");
        }
        let value = jwt(&format!("{number} for {audience}"));
        http("200 OK", "", &serde_json::json!({ "count": 1, "value": value }).to_string())
    })
}

fn on_github(sandbox: Sandbox, github: &StubBroker) -> Sandbox {
    sandbox
        .with("ACTIONS_ID_TOKEN_REQUEST_URL", &format!("{}/idtoken?api-version=2.0", github.url))
        .with("ACTIONS_ID_TOKEN_REQUEST_TOKEN", SECRET)
}

#[test]
fn a_job_without_a_jwt_gets_the_name_of_what_to_declare() {
    let broker = registry();
    let missing = job(&broker, "").run(&GET);
    missing.fails_with(
        "no token for `registry.example.com`: found no JWT: neither the variables of GitHub Actions nor `STILE_ID_TOKEN` is set; \
         hint: on GitHub Actions, add `permissions: { id-token: write }` to the job; on GitLab, declare `STILE_ID_TOKEN` below \
         `id_tokens`; elsewhere, set `id_token_env` or `id_token_file`",
    );
    let unset = job(&broker, "id_token_env = [\"A\", \"B\"]\n").with("B", "").run(&GET);
    unset.fails_with(
        "no token for `registry.example.com`: found no JWT: `A` or `B` is not set; hint: declare it below `id_tokens` of the \
         GitLab job, or correct `id_token_env`",
    );
    let damaged = job(&broker, "id_token_env = \"A\"\n").with("A", "sekret").run(&GET);
    assert!(damaged.stderr.contains("`A` does not contain a JWT"), "{damaged:?}");
    assert!(!damaged.stderr.contains("sekret"));
    assert!(broker.requests().is_empty());
}

#[test]
fn a_refusal_of_oauth_is_one_sentence() {
    for (response, expected) in [
        (
            oauth_error(
                "400 Bad Request",
                "invalid_grant",
                "jwt_not_trusted",
                "no trust believes it",
            ),
            "no trust believes it (request id: 64ee87ba88f3e21a)",
        ),
        (
            oauth_error(
                "400 Bad Request",
                "invalid_request",
                "ambiguous_trust",
                "two trusts match",
            ),
            "two trusts match (request id: 64ee87ba88f3e21a); hint: set `trust` in the helper's `config.toml` to the name of one of them",
        ),
        (
            http("400 Bad Request", "", r#"{"error":"unsupported_grant_type"}"#),
            "the registry accepts no JWTs",
        ),
        (
            oauth_error(
                "503 Service Unavailable",
                "temporarily_unavailable",
                "issuer_unavailable",
                "the issuer is away",
            ),
            "the registry is unavailable: the issuer is away (request id: 64ee87ba88f3e21a)",
        ),
    ] {
        let broker = StubBroker::new(move |_, _| response.clone());
        let run = job(&broker, "").with("STILE_ID_TOKEN", &jwt("1")).run(&GET);
        run.fails_with(&format!("no token for `registry.example.com`: {expected}"));
        assert_eq!(broker.requests().len(), 1);
    }
}

#[test]
fn github_gives_a_new_jwt_for_each_exchange_and_its_secret_stays_there() {
    let (broker, github) = (registry(), github());
    let sandbox = on_github(job(&broker, "trust = \"ci\"\n"), &github);
    let first = sandbox.run(&GET);
    first.prints("{\"token\":\"stile_v4.local.all-download-0\"}\n");
    sandbox.run(&GET).prints(&first.stdout);
    for number in 1..3 {
        let narrow = [&GET_TOKEN[..], &["--namespace", "acme"]].concat();
        sandbox.run(&narrow).prints(&format!("stile_v4.local.acme-download-{number}\n"));
    }
    assert_eq!(github.requests().len(), 3, "the second `get` has the cached token");
    for request in broker.requests() {
        let form = form(&request);
        assert_eq!(form["trust"], "ci");
        assert_eq!(form["audience"], HOST);
        assert!(!format!("{request:?}").contains(SECRET));
    }
    let asked = &github.requests()[0];
    assert_eq!(asked.path(), "/idtoken?api-version=2.0&audience=registry.example.com");
    for (path, content) in sandbox.files() {
        let content = String::from_utf8_lossy(&content);
        assert!(!content.contains(SECRET) && !content.contains("eyJ"), "{}", path.display());
    }
}

#[test]
fn another_job_of_github_on_the_same_computer_gets_a_token_of_its_own() {
    let (broker, github) = (registry(), github());
    let sandbox = on_github(job(&broker, ""), &github);
    sandbox.run(&GET).prints("{\"token\":\"stile_v4.local.all-download-0\"}\n");
    let url = format!("{}/other?api-version=2.0", github.url);
    let sandbox = sandbox.with("ACTIONS_ID_TOKEN_REQUEST_URL", &url);
    sandbox.run(&GET).prints("{\"token\":\"stile_v4.local.all-download-1\"}\n");
}

#[test]
fn github_that_refuses_redirects_or_answers_nonsense_is_named() {
    let elsewhere = github();
    let location = format!("location: {}/idtoken?x=y&audience=a\r\n", elsewhere.url);
    for (response, expected) in [
        (
            http("403 Forbidden", "", r#"{"message":"no"}"#),
            "GitHub Actions gives no JWT: 403 Forbidden: no",
        ),
        (http("200 OK", "", "{}"), "the response of GitHub Actions does not contain a JWT"),
        (
            http("200 OK", "", r#"{"value":"sekret"}"#),
            "the response of GitHub Actions does not contain a JWT",
        ),
        (http("302 Found", &location, ""), "responded with a redirect (302 Found)"),
    ] {
        let (broker, github) = (registry(), StubBroker::new(move |_, _| response.clone()));
        let run = on_github(job(&broker, ""), &github).run(&GET);
        assert!(run.code == 1 && run.stderr.contains(expected), "{run:?}");
        assert!(!run.stderr.contains("sekret") && broker.requests().is_empty(), "{run:?}");
    }
    assert!(elsewhere.requests().is_empty(), "the secret goes to no other host");
    let plain = job(&registry(), "")
        .with("ACTIONS_ID_TOKEN_REQUEST_URL", "http://actions.example.com/x")
        .with("ACTIONS_ID_TOKEN_REQUEST_TOKEN", SECRET)
        .run(&GET);
    assert!(
        plain.stderr.contains("`ACTIONS_ID_TOKEN_REQUEST_URL` is not an `https` URL"),
        "{plain:?}"
    );
}

#[test]
fn a_job_with_one_fixed_jwt_asks_once_with_every_permission_of_its_table() {
    let broker = registry();
    let sandbox = job(&broker, "permissions = [\"download\", \"upload\"]\n")
        .with("STILE_ID_TOKEN", &jwt("1"));
    let token = "stile_v4.local.all-download-all-upload-0";
    sandbox.run(&GET).prints(&format!("{{\"token\":\"{token}\"}}\n"));
    for permission in ["download", "upload"] {
        let run = sandbox.run(&[&GET_TOKEN[..], &["--permission", permission]].concat());
        assert_eq!((run.stdout, run.code), (format!("{token}\n"), 0));
        assert_eq!(
            run.stderr,
            "stile: the token has the permissions `download,upload`, because the job has no other unused JWT, and all calls of \
             the job share this token\n"
        );
    }
    sandbox.run(&GET_TOKEN).prints(&format!("{token}\n"));
    assert_eq!(scopes(&broker), ["all:download all:upload"]);
    // AWS credentials of a later step are another identity for AWS only.
    let later = sandbox.with("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE");
    later.run(&GET).prints(&format!("{{\"token\":\"{token}\"}}\n"));
    assert_eq!(broker.requests().len(), 1);
}

#[test]
fn a_token_that_the_shared_one_does_not_cover_needs_a_jwt_of_its_own() {
    let broker = registry();
    let sandbox = job(&broker, "").with("STILE_ID_TOKEN", &jwt("1"));
    sandbox.run(&GET).prints("{\"token\":\"stile_v4.local.all-download-0\"}\n");
    for flags in [["--namespace", "acme"], ["--permission", "upload"]] {
        sandbox.run(&[&GET_TOKEN[..], &flags].concat()).fails_with(
            "no token for `registry.example.com`: the JWT in `STILE_ID_TOKEN` is used: a registry accepts each JWT once, and the token \
             of this request is not in the cache; hint: declare one more JWT for the job, such as `STILE_ID_TOKEN_2`, and add its \
             variable to `id_token_env` if that is set; or ask for the permissions of the registry's table in every namespace, whose \
             token all calls of a job share",
        );
    }
    assert_eq!(broker.requests().len(), 1, "a used JWT is not sent again");
    let sandbox = sandbox.with("STILE_ID_TOKEN_2", &jwt("2"));
    let narrow = [&GET_TOKEN[..], &["--namespace", "acme"]].concat();
    sandbox.run(&narrow).prints("stile_v4.local.acme-download-1\n");
}

#[test]
fn a_spare_jwt_gives_exactly_the_requested_scope_and_one_stays_for_the_shared_token() {
    let broker = registry();
    let table = "permissions = [\"download\", \"upload\"]\nid_token_env = [\"A\", \"B\", \"C\"]\n";
    let sandbox =
        job(&broker, table).with("A", &jwt("1")).with("B", &jwt("2")).with("C", &jwt("3"));
    let narrow = [&GET_TOKEN[..], &["--permission", "upload"]].concat();
    sandbox.run(&narrow).prints("stile_v4.local.all-upload-0\n");
    sandbox.run(&narrow).prints("stile_v4.local.all-upload-1\n");
    let third = sandbox.run(&narrow);
    assert_eq!(third.stdout, "stile_v4.local.all-download-all-upload-2\n");
    let get = "{\"token\":\"stile_v4.local.all-download-all-upload-2\"}\n";
    sandbox.run(&GET).prints(get);
    assert_eq!(broker.requests().len(), 3);
}

#[test]
fn a_jwt_that_another_computer_used_is_skipped() {
    let broker = registry();
    let with = |sandbox: Sandbox| sandbox.with("A", &jwt("1")).with("B", &jwt("2"));
    let table = "id_token_env = [\"A\", \"B\"]\n";
    let one = with(job(&broker, table));
    one.run(&GET).prints("{\"token\":\"stile_v4.local.all-download-0\"}\n");
    let other = with(job(&broker, table));
    other.run(&GET).prints("{\"token\":\"stile_v4.local.all-download-1\"}\n");
    let third = with(job(&broker, table)).run(&GET);
    assert!(third.stderr.contains("the JWTs in `A` and `B` are used"), "{third:?}");
    assert_eq!(broker.requests().len(), 5);
}

#[test]
fn a_fixed_jwt_goes_only_to_the_registry_that_its_audience_names() {
    let (production, staging) = (registry(), registry());
    let own = jwt_for(&format!("https://{STAGING}"), "1");
    let sandbox = job_of_two(&production, &staging)
        .with("STILE_ID_TOKEN", &jwt("1"))
        .with("STILE_ID_TOKEN_2", &own);
    sandbox.run(&["get", STAGING]).prints("{\"token\":\"stile_v4.local.all-download-0\"}\n");
    assert_eq!(
        received(&staging),
        std::slice::from_ref(&own),
        "the JWT of the other registry stays here"
    );
    assert!(production.requests().is_empty());
    sandbox.run(&GET).prints("{\"token\":\"stile_v4.local.all-download-0\"}\n");
    assert_eq!(received(&production), [jwt("1")]);
    // A JWT for another registry is none to spare, and none to try next.
    let narrow = ["get-token", "token", "--registry-host", STAGING, "--namespace", "acme"];
    let refused = sandbox.run(&narrow);
    assert!(refused.stderr.contains("the JWT in `STILE_ID_TOKEN_2` is used"), "{refused:?}");
    assert_eq!((received(&staging), received(&production)), (vec![own], vec![jwt("1")]));
}

#[test]
fn a_job_without_a_jwt_for_the_registry_sends_nothing_and_says_which_audience_is_missing() {
    let (production, staging) = (registry(), registry());
    let both = serde_json::json!([STAGING, HOST]);
    let part = URL_SAFE_NO_PAD.encode(serde_json::json!({ "aud": both }).to_string());
    let sandbox = job_of_two(&production, &staging)
        .with("STILE_ID_TOKEN", &jwt("1"))
        .with("STILE_ID_TOKEN_2", &format!("e30.{part}.x"));
    let reason = "found no JWT with the audience `staging.example.com`: the JWT in `STILE_ID_TOKEN` has the audience \
         `registry.example.com`, the JWT in `STILE_ID_TOKEN_2` has the audience `[\"staging.example.com\",\"registry.example.com\"]`";
    sandbox.run(&["get", STAGING]).fails_with(&format!(
        "no token for `staging.example.com`: {reason}; hint: declare a JWT of the job with `aud: staging.example.com`; if the trust of \
         the registry has another audience, set `audience` in `config.toml`, or `--audience`"
    ));
    sandbox.write("jwt", &jwt("2"));
    let get_token = ["get-token", "token", "--registry-host", STAGING];
    for flags in [
        &[][..],
        &["--namespace", "acme"],
        &["--id-token-env", "STILE_ID_TOKEN"],
        &["--id-token-file", "jwt"],
        &["--trust", "ci"],
        &["--audience", "stile"],
    ] {
        let run = sandbox.run(&[&get_token[..], flags].concat());
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{flags:?}: {run:?}");
        assert!(run.stderr.contains("found no JWT with the audience"), "{flags:?}: {run:?}");
        assert!(!run.stderr.contains("eyJ"), "{flags:?}: {run:?}");
    }
    let shown = sandbox.run(&["config", "show"]);
    assert!(shown.code == 2 && shown.stderr.contains(reason), "{shown:?}");
    assert!(staging.requests().is_empty() && production.requests().is_empty());
}

#[test]
fn the_jwt_for_a_trust_with_an_audience_of_its_own_needs_a_setting() {
    let broker = registry();
    let with = |lines: &str| job(&broker, lines).with("STILE_ID_TOKEN", &jwt_for("stile", "1"));
    let refused = with("").run(&GET);
    assert!(refused.stderr.contains("found no JWT with the audience `registry.example.com`"));
    assert!(broker.requests().is_empty());
    let token = "stile_v4.local.all-download-0";
    with("audience = \"stile\"\n").run(&GET).prints(&format!("{{\"token\":\"{token}\"}}\n"));
    let sent = form(&broker.requests()[0]);
    assert_eq!(sent["audience"], HOST, "the token is for the registry all the same");

    let (broker, github) = (registry(), github());
    let sandbox = on_github(job(&broker, ""), &github);
    sandbox.run(&[&GET_TOKEN[..], &["--audience", "stile"]].concat()).prints(&format!("{token}\n"));
    assert_eq!(github.requests()[0].path(), "/idtoken?api-version=2.0&audience=stile");
}

#[test]
fn only_a_token_or_a_replay_makes_a_jwt_a_used_one() {
    let broker = StubBroker::new(|number, request| match number {
        0 => oauth_error(
            "503 Service Unavailable",
            "temporarily_unavailable",
            "issuer_unavailable",
            "down",
        ),
        1 => oauth_error("429 Too Many Requests", "temporarily_unavailable", "throttled", "busy"),
        2 => oauth_error("400 Bad Request", "invalid_grant", "jwt_not_trusted", "no trust"),
        3 => oauth_error(
            "503 Service Unavailable",
            "temporarily_unavailable",
            "jwt_replayed",
            "down",
        ),
        4 => http("200 OK", "", "{}"),
        _ => access_token("stile_v4.local.x", &form(request)["scope"]),
    });
    let sandbox = job(&broker, "").with("STILE_ID_TOKEN", &jwt("1"));
    for _ in 0..5 {
        assert_eq!(sandbox.run(&GET).code, 1);
        assert!(!sandbox.path(".cache/stile/used-id-tokens").exists());
    }
    sandbox.run(&GET).prints("{\"token\":\"stile_v4.local.x\"}\n");
    assert!(sandbox.path(".cache/stile/used-id-tokens").exists());
    assert_eq!(received(&broker), [(); 6].map(|()| jwt("1")));
}

#[test]
fn the_memory_of_used_jwts_is_private_and_contains_no_jwt() {
    let broker = registry();
    let sandbox = job(&broker, "").with("STILE_ID_TOKEN", &jwt("1"));
    sandbox.run(&GET);
    let path = sandbox.path(".cache/stile/used-id-tokens");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!sandbox.read(".cache/stile/used-id-tokens").contains("eyJ"));
    std::fs::remove_file(path).unwrap();
    let run = sandbox.run(&[&GET_TOKEN[..], &["--namespace", "acme"]].concat());
    assert!(run.stderr.contains("is used"), "the registry remembers it, too: {run:?}");
}

#[test]
fn a_refused_jwt_can_be_sent_again() {
    let broker = StubBroker::new(|number, request| match number {
        0 => oauth_error("403 Forbidden", "invalid_grant", "no_grant", "no grant for `oidc:ci`"),
        _ => access_token("stile_v4.local.x", &form(request)["scope"]),
    });
    let sandbox = job(&broker, "").with("STILE_ID_TOKEN", &jwt("1"));
    let refused = sandbox.run(&GET);
    assert!(refused.stderr.contains("no grant for `oidc:ci`"), "{refused:?}");
    sandbox.run(&GET).prints("{\"token\":\"stile_v4.local.x\"}\n");
}

#[test]
fn get_token_sends_the_jwt_in_a_file_without_any_configuration() {
    let broker = registry();
    let sandbox = Sandbox::of(&broker).without_keys();
    sandbox.write("jwt", &format!("{}\n", jwt("1")));
    let flags = ["--id-token-file", "jwt", "--trust", "ci"];
    let asked = [&GET_TOKEN[..], &flags].concat();
    sandbox.run(&asked).prints("stile_v4.local.all-download-0\n");
    let sent = form(&broker.requests()[0]);
    assert_eq!((sent["subject_token"].as_str(), sent["trust"].as_str()), (jwt("1").as_str(), "ci"));
    sandbox.write("jwt", "no");
    let damaged = sandbox.run(&asked);
    assert!(damaged.stderr.contains("`jwt` does not contain a JWT"), "{damaged:?}");
    let missing = sandbox.run(&[&GET_TOKEN[..], &["--id-token-file", "none"]].concat());
    assert!(missing.stderr.contains("cannot read the JWT from `none`"), "{missing:?}");
}

#[test]
fn flags_that_do_not_go_together_are_refused() {
    let broker = registry();
    let sandbox = job(&broker, "").with("STILE_ID_TOKEN", &jwt("1"));
    for (flags, expected) in [
        (&["--proof", "sigv4", "--id-token-env", "A"][..], "need `proof = \"oidc\"`"),
        (&["--proof", "sigv4", "--trust", "ci"], "`trust` needs `proof = \"oidc\"`"),
        (&["--service", "lambda"], "`service = \"lambda\"` needs `proof = \"sigv4\"`"),
        (&["--time", "900"], "`--time` needs `proof = \"sigv4\"`"),
        (&["--id-token-env", "A", "--id-token-file", "b"], "cannot be used with"),
        (&["--id-token-env", "A B"], "`id_token_env` must name variables"),
        (&["--proof", "sigv4", "--audience", "a"], "`audience` needs `proof = \"oidc\"`"),
        (&["--audience", "a b"], "`audience` must have 1 to 500 printable characters"),
        (&["--trust", "A"], "`trust` must be the name of a trust"),
    ] {
        let run = sandbox.run(&[&GET_TOKEN[..], flags].concat());
        assert!(run.code != 0 && run.stderr.contains(expected), "{flags:?}: {run:?}");
        assert_eq!(run.stdout, "");
    }
    assert!(broker.requests().is_empty());
}

#[test]
fn install_writes_how_the_job_proves_its_identity_and_a_second_run_changes_nothing() {
    let sandbox = Sandbox::new().without_keys();
    let install = ["install", "--registry-host", HOST];
    for (flags, table) in [
        (&["--proof", "oidc"][..], "proof = \"oidc\"\n"),
        (&["--proof", "oidc", "--audience", "stile"], "proof = \"oidc\"\naudience = \"stile\"\n"),
        (&["--id-token-env", "A,B"], "id_token_env = [\"A\", \"B\"]\nproof = \"oidc\"\n"),
        (
            &["--proof", "web-identity", "--trust", "ci", "--permission", "upload,download"],
            "permissions = [\"download\", \"upload\"]\nproof = \"web-identity\"\ntrust = \"ci\"\n",
        ),
    ] {
        sandbox.write(".config/stile/config.toml", "");
        let command = [&install[..], flags].concat();
        assert_eq!(sandbox.run(&command).code, 0);
        let written = sandbox.read(".config/stile/config.toml");
        assert_eq!(written, format!("[registry.\"{HOST}\"]\n{table}"), "{flags:?}");
        let again = sandbox.run(&command);
        assert!(again.stderr.contains("nothing changed"), "{again:?}");
    }
    sandbox.write(".config/stile/config.toml", "");
    sandbox.run(&[&install[..], &["--id-token-file", "jwt"]].concat());
    let written = sandbox.read(".config/stile/config.toml");
    assert!(written.contains("/jwt\"\n") && written.contains("proof = \"oidc\"\n"), "{written}");
}

#[test]
fn doctor_shows_what_a_trust_can_say_about_the_job_and_uses_up_one_jwt_at_most() {
    let used = registry();
    let whoami = serde_json::json!({
        "principal": "oidc:ci", "expires_at": "2026-11-20T11:11:12Z", "namespaces": "all",
        "permissions": ["download"],
        "grants": [{ "principal": "oidc:ci", "namespace": "acme", "permissions": ["download"], "expires_at": null }],
    });
    let broker = StubBroker::new(move |_, request| match request.path() {
        "/.well-known/terraform.json" => crate::support::discovery(now()),
        "/v1/whoami" => http("200 OK", "", &whoami.to_string()),
        _ => access_token("stile_v4.local.x", &form(request)["scope"]),
    });
    let sandbox = job(&broker, "id_token_env = [\"A\", \"B\"]\n")
        .installed()
        .with("A", &jwt("repo:acme/app"))
        .with("B", &jwt("2"));
    let run = sandbox.run(&["doctor", HOST, "--namespace", "acme"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{}", run.stdout);
    for line in [
        "ok   JWT: `A`, 2 of 2 unused; `iss` is `https://gitlab.example.com`, `aud` is `registry.example.com`, `sub` is `repo:acme/app`",
        "ok   authorised call: the registry accepts the cached token of `oidc:ci`",
        "-    other permissions: not checked, because a registry accepts each JWT of the job once",
        "-    namespace: not checked, because a registry accepts each JWT of the job once",
    ] {
        assert!(run.stdout.contains(line), "{line}\n{}", run.stdout);
    }
    let sent = broker.requests().iter().filter(|request| request.path() == "/v1/token").count();
    assert_eq!(sent, 1);
    assert!(used.requests().is_empty());
}

#[test]
fn config_show_names_the_place_of_the_jwt_and_not_the_jwt() {
    let broker = registry();
    let sandbox =
        job(&broker, "id_token_env = [\"A\", \"B\"]\ntrust = \"ci\"\n").with("A", &jwt("1"));
    let run = sandbox.run(&["config", "show"]);
    assert_eq!(run.code, 0, "{run:?}");
    for (name, value) in
        [("proof", "oidc"), ("trust", "ci"), ("audience", HOST), ("id_token_env", "A,B")]
    {
        let has = |line: &str| {
            let words: Vec<_> = line.split_whitespace().collect();
            words.first() == Some(&name) && words.contains(&value)
        };
        assert!(run.stdout.lines().any(has), "{name}: {}", run.stdout);
    }
    assert!(!run.stdout.contains("eyJ"));
    let missing = job(&broker, "id_token_env = \"A\"\n").run(&["config", "show"]);
    assert_eq!(missing.code, 2);
    assert!(missing.stderr.contains("found no JWT: `A` is not set"), "{missing:?}");
}
