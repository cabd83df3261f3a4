//! Profiles of `aws login`: their sessions sign, are renewed, or are an error with the command that
//! signs in.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::sign_in::{ARN, SessionKey, SignIn, profile, refused, session_file};
use crate::support::{ProgramOutput, Sandbox, StubBroker, http, token_reply};

const GET: [&str; 2] = ["get", "registry.example.com"];
const OLD: &str = "ASIAIOSFODNN7OLDLOGI";
const NEW: &str = "ASIAIOSFODNN7NEWLOGI";

/// Seconds that a session lasts. The SDK renews one that lasts less than five minutes.
const LASTS: i64 = 900;

/// Starts a registry whose tokens name the access key of their proof.
fn registry() -> StubBroker {
    StubBroker::new(|_, request| {
        let access_key_id = request.json()["access_key_id"].as_str().unwrap().to_owned();
        token_reply(&format!("token-of-{access_key_id}"), 3600)
    })
}

/// Creates a sandbox whose only credentials are those of the profile `dev`, of `aws login`.
fn sandbox(broker: &StubBroker) -> Sandbox {
    let sandbox = Sandbox::of(broker).without_keys().with("AWS_PROFILE", "dev");
    sandbox.write(".aws/config", &profile("dev"));
    sandbox
}

/// Checks one line that says this about the profile `dev` and has this hint, and no secret.
#[track_caller]
fn fails(run: &ProgramOutput, problem: &str, hint: &str) {
    assert_eq!((run.stdout.as_str(), run.code, run.stderr.lines().count()), ("", 1, 1));
    let start =
        format!("stile: no token for `registry.example.com`: the AWS profile `dev` {problem}");
    assert!(run.stderr.starts_with(&start), "{}", run.stderr);
    assert!(run.stderr.ends_with(&format!("; hint: {hint}\n")), "{}", run.stderr);
    assert!(!run.stderr.contains("sekret"), "{}", run.stderr);
}

fn token_of(access_key_id: &str) -> String {
    format!("{{\"token\":\"token-of-{access_key_id}\"}}\n")
}

const SIGN_IN: &str = "run `aws login --profile dev`";

#[test]
fn a_profile_without_a_session_is_named_with_the_command_that_signs_in() {
    let broker = registry();
    let sandbox = sandbox(&broker);
    fails(&sandbox.run(&GET), "has no session of `aws login`; hint", SIGN_IN);

    sandbox.write(
        ".aws/config",
        &format!(
            "[profile ci]\nrole_arn = arn:aws:iam::111122223333:role/ci\nsource_profile = dev\nmfa_serial = x\n{}",
            profile("dev")
        ),
    );
    let sandbox = sandbox.with("AWS_PROFILE", "ci");
    fails(&sandbox.run(&GET), "has no session of `aws login`; hint", SIGN_IN);
    assert!(broker.requests().is_empty(), "nothing was sent");
}

#[test]
fn a_damaged_session_is_named_and_none_of_it_is_shown() {
    let broker = registry();
    let whole = SessionKey::new().session(OLD, LASTS);
    let without = |pointer: &str, name: &str| {
        let mut session = whole.clone();
        session.pointer_mut(pointer).unwrap().as_object_mut().unwrap().remove(name).unwrap();
        session.to_string()
    };
    let mut texts: Vec<String> =
        ["", "{", "{}", "[]", "null", "sekret", "{\"accessToken\":null}", "\u{0}\u{0}"]
            .map(str::to_owned)
            .into();
    texts.push(whole.to_string().replace('}', ""));
    texts.push(whole.to_string().split_at(200).0.to_owned());
    for name in ["accessKeyId", "secretAccessKey", "sessionToken", "accountId", "expiresAt"] {
        texts.push(without("/accessToken", name));
    }
    for name in ["accessToken", "refreshToken", "clientId", "dpopKey"] {
        texts.push(without("", name));
    }
    let mut bad_key = SessionKey::new().session(OLD, 0);
    bad_key["dpopKey"] =
        json!("-----BEGIN EC PRIVATE KEY-----\nsekret\n-----END EC PRIVATE KEY-----\n");
    texts.push(bad_key.to_string());
    for text in texts {
        let sandbox = sandbox(&broker);
        sandbox.write(&session_file(), &text);
        let run = sandbox.run(&GET);
        assert!(run.stderr.contains("has a damaged session"), "{text}: {}", run.stderr);
        fails(&run, "has a damaged session of `aws login`; hint", SIGN_IN);
    }
    assert!(broker.requests().is_empty(), "nothing was sent");
}

#[test]
fn a_session_that_cannot_be_read_is_named_with_its_file() {
    let broker = registry();
    let sandbox = sandbox(&broker);
    std::fs::create_dir_all(sandbox.path(&session_file())).unwrap();
    let problem = format!(
        "has a session of `aws login` that cannot be read: failed to read `~/{}`: Is a directory",
        session_file()
    );
    fails(&sandbox.run(&GET), &problem, &format!("make the file readable, or {SIGN_IN}"));
}

#[test]
fn a_session_that_aws_renews_no_more_is_named_with_the_command_that_signs_in() {
    let broker = registry();
    let invalid = json!({ "error": "INVALID_REQUEST", "message": "no" }).to_string();
    for response in [
        refused("TOKEN_EXPIRED"),
        refused("USER_CREDENTIALS_CHANGED"),
        refused("SOMETHING_NEW"),
        http("400 Bad Request", "x-amzn-errortype: ValidationException\r\n", &invalid),
    ] {
        let sign_in = SignIn::answering(response);
        let sandbox = sign_in.before(sandbox(&broker));
        SessionKey::new().sign_in(&sandbox, OLD, -60);
        let before = sandbox.read(&session_file());
        fails(&sandbox.run(&GET), "has a session of `aws login` that has ended; hint", SIGN_IN);
        assert_eq!(sandbox.read(&session_file()), before);
        assert_eq!(sign_in.asked(), 1);
    }

    let sign_in = SignIn::answering(refused("INSUFFICIENT_PERMISSIONS"));
    let sandbox = sign_in.before(sandbox(&broker));
    SessionKey::new().sign_in(&sandbox, OLD, -60);
    let hint = format!(
        "ask an administrator for the AWS policy `SignInLocalDevelopmentAccess`, then {SIGN_IN}"
    );
    fails(&sandbox.run(&GET), "may not renew its session of `aws login`; hint", &hint);
    assert!(broker.requests().is_empty(), "nothing was sent");
}

#[test]
fn an_aws_sign_in_that_does_not_answer_does_not_end_the_session() {
    let broker = registry();
    let down = http("503 Service Unavailable", "", "<html>");
    let sign_in = SignIn::answering(down);
    let closed = sandbox(&broker).with("AWS_ENDPOINT_URL_SIGNIN", "http://127.0.0.1:9");
    // An answer can repeat the request, which has the refresh token.
    let body = r#"{"error":"server_error","message":"bad token S3CRET","expiresIn":"S3CRET"}"#;
    let repeating = [
        ("500 Internal Server Error", "InternalServerException"),
        ("418 I am a teapot", "S3CRET-1"),
    ]
    .map(|(status, code)| {
        SignIn::answering(http(status, &format!("x-amzn-errortype: {code}\r\n"), body))
    });
    let unreadable = SignIn::answering(http("200 OK", "", body));
    for (sandbox, cause) in [
        (closed, "Connection refused"),
        (sign_in.before(sandbox(&broker)), "AWS Sign-In gave no usable answer"),
        (repeating[0].before(sandbox(&broker)), "AWS Sign-In answered `InternalServerException`"),
        (repeating[1].before(sandbox(&broker)), "AWS Sign-In gave no usable answer"),
        (unreadable.before(sandbox(&broker)), "AWS Sign-In gave no usable answer"),
    ] {
        SessionKey::new().sign_in(&sandbox, OLD, -60);
        let problem = format!("cannot renew its session of `aws login`: {cause}");
        let hint = "check the network, and run `aws sts get-caller-identity --profile dev`, which renews the session in the same way";
        let run = sandbox.run(&GET);
        assert!(!run.stderr.contains("S3CRET"), "{}", run.stderr);
        fails(&run, &problem, hint);
    }
    assert!(broker.requests().is_empty(), "nothing was sent");
}

#[test]
fn a_role_that_its_session_may_not_assume_is_not_blamed_on_the_session() {
    let broker = registry();
    let sts = StubBroker::new(|_, _| {
        let error = "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error>\
                     <Type>Sender</Type><Code>AccessDenied</Code><Message>not authorized</Message></Error></ErrorResponse>";
        http("403 Forbidden", "", error)
    });
    let sandbox = sandbox(&broker).with("AWS_PROFILE", "ci").with("AWS_ENDPOINT_URL_STS", &sts.url);
    sandbox.write(
        ".aws/config",
        &format!(
            "[profile ci]\nrole_arn = arn:aws:iam::111122223333:role/ci\nsource_profile = dev\n{}",
            profile("dev")
        ),
    );
    SessionKey::new().sign_in(&sandbox, OLD, LASTS);
    let run = sandbox.run(&GET);
    let start = "stile: no token for `registry.example.com`: cannot load AWS credentials from the AWS profile `ci`: ";
    assert!(run.stderr.starts_with(start), "{}", run.stderr);
    assert!(
        run.stderr.contains("not authorized") && !run.stderr.contains("session of"),
        "{}",
        run.stderr
    );
    assert!(sts.requests()[0].headers["authorization"].contains(OLD), "the session signed");
}

#[test]
fn a_session_signs_without_a_request_to_aws_and_its_token_is_cached() {
    let broker = registry();
    for (section, variable) in [("profile dev", "dev"), ("default", "")] {
        let sandbox = sandbox(&broker)
            .with("AWS_PROFILE", variable)
            .with("AWS_ENDPOINT_URL_SIGNIN", "http://127.0.0.1:9");
        sandbox.write(".aws/config", &format!("[{section}]\nlogin_session = {ARN}\n"));
        let key = SessionKey::new();
        key.sign_in(&sandbox, OLD, LASTS);
        let before = sandbox.read(&session_file());
        let count = broker.requests().len();
        sandbox.run(&GET).prints(&token_of(OLD));
        assert_eq!(sandbox.read(&session_file()), before);

        // The settings fix the identity, so a cached token needs no session.
        key.sign_in(&sandbox, NEW, LASTS);
        sandbox.run(&GET).prints(&token_of(OLD));
        std::fs::remove_file(sandbox.path(&session_file())).unwrap();
        sandbox.run(&GET).prints(&token_of(OLD));
        assert_eq!(
            broker.requests().iter().filter(|it| it.path() == "/v1/token").count(),
            count + 1
        );
    }
}

#[test]
fn another_session_or_another_folder_of_sessions_gets_another_token() {
    let broker = registry();
    let sandbox = sandbox(&broker);
    let key = SessionKey::new();
    key.sign_in(&sandbox, OLD, LASTS);
    sandbox.run(&GET).prints(&token_of(OLD));

    let other = ARN.replace("first.last", "another.one");
    sandbox.write(".aws/config", &profile("dev").replace(ARN, &other));
    fails(&sandbox.run(&GET), "has no session of `aws login`; hint", SIGN_IN);

    sandbox.write(".aws/config", &profile("dev"));
    let folder = sandbox.path("sessions");
    let sandbox = sandbox.with("AWS_LOGIN_CACHE_DIRECTORY", folder.to_str().unwrap());
    fails(&sandbox.run(&GET), "has no session of `aws login`; hint", SIGN_IN);
    let file = session_file().replace(".aws/login/cache", "sessions");
    sandbox.write(&file, &key.session(NEW, LASTS).to_string());
    sandbox.run(&GET).prints(&token_of(NEW));
}

#[test]
fn a_session_that_has_expired_is_renewed_once_and_stored_for_other_tools() {
    for seconds in [-3600, 0, 200] {
        let (broker, key) = (registry(), SessionKey::new());
        let sign_in = SignIn::renewing(&key, NEW);
        let sandbox = sign_in.before(sandbox(&broker));
        key.sign_in(&sandbox, OLD, seconds);
        sandbox.run(&GET).prints(&token_of(NEW));

        let session: Value = serde_json::from_str(&sandbox.read(&session_file())).unwrap();
        assert_eq!(session["accessToken"]["accessKeyId"], NEW);
        assert_eq!(session["accessToken"]["sessionToken"], "second-sekret");
        assert_eq!(session["refreshToken"], "next-sekret");
        let mode = std::fs::metadata(sandbox.path(&session_file())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let another =
            sandbox.run(&["get-token", "token", "--registry-host", "registry.example.com"]);
        another.prints(&format!("token-of-{NEW}\n"));
        assert_eq!(sign_in.asked(), 1, "the renewed session needs no other renewal");
    }
}

#[test]
fn many_parallel_processes_renew_a_session_once() {
    let (broker, key) = (registry(), SessionKey::new());
    let sign_in = SignIn::renewing(&key, NEW);
    let sandbox = sign_in.before(sandbox(&broker));
    key.sign_in(&sandbox, OLD, -60);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| sandbox.run(&GET).prints(&token_of(NEW)));
        }
    });
    assert_eq!((sign_in.asked(), broker.requests().len()), (1, 1));
}
