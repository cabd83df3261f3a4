//! The admin program on the store on AWS: its errors if AWS does not answer as it should, and the
//! operator in its records.

use std::collections::BTreeMap;
use std::process::Stdio;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use stile_tests::aws::emulated::{EmulatedAws, SECRET_ACCESS_KEY, SESSION_TOKEN};
use stile_tests::aws::moto::Moto;
use stile_tests::aws::proxy::Fault;
use stile_tests::process::home::{CommandOutput, Home};
use stile_tests::process::programs::{ADMIN, free_port, program};
use stile_tests::time_limits;
use tokio::io::AsyncReadExt as _;

/// The variables with the credentials of an operator.
const KEYS: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// The ARN that moto reports for an access key that it did not create.
const OPERATOR: &str = "arn:aws:sts::123456789012:user/moto";

const CREATE: [&str; 7] = [
    "grant",
    "create",
    "--role-arn",
    "arn:aws:iam::111122223333:role/deploy",
    "--namespace",
    "acme",
    "--download",
];

const LIST: [&str; 2] = ["grant", "list"];

/// Returns a home whose programs use the emulated AWS.
fn home(aws: &EmulatedAws) -> Home {
    let mut home = Home::temporary();
    for (name, value) in aws.environment() {
        home.variable(name, value);
    }
    home
}

/// Returns the answer of a JSON service that rejects a call with this code and message.
fn rejected(code: &str, message: &str) -> Fault {
    let body = json!({ "__type": format!("com.amazon.coral.service#{code}"), "Message": message });
    Fault::Answer {
        status: 400,
        content_type: "application/x-amz-json-1.0",
        body: body.to_string(),
    }
}

/// Returns the answer of STS that rejects a call with this code.
fn rejected_by_sts(code: &str) -> Fault {
    let error =
        format!("<Error><Type>Sender</Type><Code>{code}</Code><Message>no</Message></Error>");
    Fault::Answer {
        status: 403,
        content_type: "text/xml",
        body: format!(
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">{error}<RequestId>1</RequestId></ErrorResponse>"
        ),
    }
}

/// Runs a command as text and as JSON, and checks that both have this sentence and this hint, the
/// exit code 2, and no secret.
async fn fails(home: &Home, command: &[&str], what: &str, sentence: &str, hint: &str) {
    let admin = program(ADMIN);
    let text = home.run(&admin, command).await;
    let as_json = home.run(&admin, &[command, &["--output", "json"]].concat()).await;
    for ran in [&text, &as_json] {
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{what}: {ran:?}");
        assert_eq!(ran.stderr.lines().count(), 1, "{what}: {ran:?}");
        for secret in [SECRET_ACCESS_KEY, SESSION_TOKEN] {
            assert!(!ran.stderr.contains(secret), "{what}: {ran:?}");
        }
    }
    let line = text.stderr.trim_end();
    assert!(line.starts_with("error: ") && line.contains(sentence), "{what}: {line}");
    let object: Value = serde_json::from_str(&as_json.stderr).unwrap();
    assert_eq!(object["error"], "failed", "{what}: {object}");
    assert!(object["message"].as_str().unwrap().contains(sentence), "{what}: {object}");
    assert!(object["hint"].as_str().unwrap().contains(hint), "{what}: {object}");
    assert_eq!(line.matches("; hint: ").count(), 1, "{what}: {line}");
}

#[tokio::test]
async fn credentials_and_a_region_that_do_not_load_are_one_sentence_with_a_hint() {
    let Some(aws) = EmulatedAws::start().await else { return };

    let mut no_region = home(&aws);
    no_region.unset("AWS_REGION");
    fails(&no_region, &LIST, "no region", "no AWS region is set", "set `AWS_REGION`").await;
    no_region.variable("AWS_REGION", " ");
    fails(&no_region, &CREATE, "a blank region", "no AWS region is set", "set `AWS_REGION`").await;

    let mut no_keys = home(&aws);
    for name in KEYS {
        no_keys.unset(name);
    }
    let hint = "sign in with `aws login` or `aws sso login`, or set `AWS_PROFILE`";
    fails(&no_keys, &LIST, "no credentials", "found no AWS credentials", hint).await;

    no_keys.variable("AWS_PROFILE", "depoly");
    let sentence = "the AWS profile `depoly` does not exist";
    fails(&no_keys, &LIST, "a missing profile", sentence, "`AWS_PROFILE`").await;

    let ended = json!({
        "Version": 1, "AccessKeyId": "ASIAEXAMPLEEXAMPLE22", "SecretAccessKey": SECRET_ACCESS_KEY,
        "SessionToken": SESSION_TOKEN, "Expiration": "2020-01-01T00:00:00Z",
    });
    let (keys, config) = (no_keys.path().join("keys.json"), no_keys.path().join("config"));
    std::fs::write(&keys, ended.to_string()).unwrap();
    let profile = format!("[profile depoly]\ncredential_process = /bin/cat {}\n", keys.display());
    std::fs::write(&config, profile).unwrap();
    no_keys.variable("AWS_CONFIG_FILE", &config);
    let sentence =
        "the AWS credentials from the AWS profile `depoly` expired at 2020-01-01T00:00:00Z";
    let hint = "run `aws configure export-credentials --profile depoly`";
    fails(&no_keys, &LIST, "credentials that have ended", sentence, hint).await;

    std::fs::write(&config, "[profile depoly\n").unwrap();
    let sentence = "cannot read the AWS configuration of the profile `depoly`";
    fails(&no_keys, &LIST, "a damaged file", sentence, "correct that line of the file").await;

    let login = "[profile depoly]\nlogin_session = arn:aws:iam::111122223333:user/bob\n";
    std::fs::write(&config, login).unwrap();
    let sentence = "the AWS profile `depoly` has no session of `aws login`";
    let hint = "run `aws login --profile depoly`";
    fails(&no_keys, &LIST, "a profile of `aws login` without a session", sentence, hint).await;

    std::fs::write(&config, "[profile depoly]\nregion = eu-central-1\n").unwrap();
    let sentence = "the AWS profile `depoly` has no credentials: it needs keys, `login_session`";
    fails(&no_keys, &LIST, "a profile of a region", sentence, hint).await;
    assert_eq!(aws.proxy.take_counts(), BTreeMap::new(), "none of them calls AWS");
}

#[tokio::test]
async fn an_operator_works_with_a_session_of_aws_login() {
    let Some(aws) = EmulatedAws::start().await else { return };
    let mut home = home(&aws);
    let session = json!({
        "accessToken": {
            "accessKeyId": home.value(KEYS[0]).unwrap().to_str(),
            "secretAccessKey": SECRET_ACCESS_KEY, "sessionToken": SESSION_TOKEN,
            "accountId": "123456789012", "expiresAt": "2999-01-01T00:00:00Z",
        },
        "tokenType": "aws_sigv4", "refreshToken": "x", "clientId": "x", "dpopKey": "x",
    });
    let name = hex::encode(Sha256::digest(OPERATOR));
    std::fs::write(home.path().join(format!("{name}.json")), session.to_string()).unwrap();
    let config = home.path().join("config");
    std::fs::write(&config, format!("[default]\nlogin_session = {OPERATOR}\n")).unwrap();
    for name in KEYS {
        home.unset(name);
    }
    home.variable("AWS_CONFIG_FILE", config);
    home.variable("AWS_LOGIN_CACHE_DIRECTORY", home.path().to_owned());
    done(&home, &CREATE).await;
    assert_eq!(done(&home, &LIST).await[0]["created_by"], OPERATOR);
}

#[tokio::test]
async fn a_call_that_aws_rejects_is_one_sentence_with_a_hint() {
    let Some(aws) = EmulatedAws::start().await else { return };
    let home = home(&aws);
    let read = format!("cannot read table `{}`: ", aws.place.table);
    let denied = "User: arn:aws:sts::111122223333:assumed-role/dev/bob is not authorized to perform: dynamodb:Query";
    for (code, message, sentence, hint) in [
        ("AccessDeniedException", denied, format!("AWS denies it: {denied}"), "`operator_policy`"),
        (
            "ExpiredTokenException",
            "The security token included in the request is expired",
            "the AWS credentials have expired".to_owned(),
            "`aws sso login`",
        ),
        (
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
            "AWS does not know the access key or the session token".to_owned(),
            "`aws sts get-caller-identity`",
        ),
        (
            "InvalidSignatureException",
            "The request signature we calculated does not match",
            "AWS rejects the signature".to_owned(),
            "the clock of this machine",
        ),
    ] {
        aws.proxy.inject("dynamodb", .., rejected(code, message));
        fails(&home, &LIST, code, &format!("{read}{sentence}"), hint).await;
        aws.proxy.repair();
    }
    assert_eq!(home.run(&program(ADMIN), &LIST).await.code, Some(0), "and then AWS answers");
}

#[tokio::test]
async fn a_table_that_does_not_exist_and_an_aws_out_of_reach_are_one_sentence_with_a_hint() {
    let Some(aws) = EmulatedAws::start().await else { return };
    let mut home = home(&aws);
    home.variable("STILE_TABLE", "no-such-table");
    let sentence = "table `no-such-table`: the table does not exist in this account and region";
    for command in [&LIST[..], &CREATE, &["token", "list"], &["namespace", "list"]] {
        fails(&home, command, &command.join(" "), sentence, "check `--table`").await;
    }
    home.variable("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", free_port()));
    let sentence = "cannot read table `no-such-table`: AWS is out of reach: ";
    fails(&home, &LIST, "an AWS out of reach", sentence, "`AWS_ENDPOINT_URL`").await;
}

/// Runs a command that must succeed, and returns its output as JSON.
async fn done(home: &Home, command: &[&str]) -> Value {
    let ran = home.run(&program(ADMIN), &[command, &["--output", "json"]].concat()).await;
    assert_eq!(ran.code, Some(0), "{command:?}: {ran:?}");
    serde_json::from_str(&ran.stdout).unwrap()
}

#[tokio::test]
async fn without_an_answer_of_sts_no_record_is_written_in_another_name() {
    let Some(aws) = EmulatedAws::start().await else { return };
    let mut home = home(&aws);
    home.variable("USER", "mallory");
    let log = home.path().join("audit.jsonl");
    home.variable("STILE_AUDIT_LOG", &log);
    let start = "nothing was changed: cannot get the operator's identity from STS: ";
    for (fault, sentence, hint) in [
        (rejected_by_sts("ExpiredToken"), "the AWS credentials have expired", "`aws sso login`"),
        (rejected_by_sts("AccessDenied"), "AWS denies it", "`operator_policy`"),
        (
            rejected_by_sts("InvalidClientTokenId"),
            "AWS does not know the access key",
            "`aws sts get-caller-identity`",
        ),
        (
            rejected_by_sts("SignatureDoesNotMatch"),
            "AWS rejects the signature",
            "secret access key",
        ),
        (Fault::Close, "AWS is out of reach: ", "check the network"),
        (Fault::Truncate, "AWS is out of reach: ", "check the network"),
    ] {
        aws.proxy.inject("sts", .., fault);
        for command in [&CREATE[..], &["namespace", "create", "acme"], &["store", "init"]] {
            fails(&home, command, &command.join(" "), &format!("{start}{sentence}"), hint).await;
        }
        aws.proxy.repair();
    }
    aws.proxy.inject("sts", .., Fault::Portal);
    let ran: CommandOutput = home.run(&program(ADMIN), &CREATE).await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.starts_with("error: nothing was changed: "), "{ran:?}");
    aws.proxy.repair();
    let counts = aws.proxy.take_counts();
    assert!(counts.keys().all(|name| name.starts_with("sts ")), "no other call: {counts:?}");
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "", "and no event");
    assert_eq!(done(&home, &LIST).await, json!([]));
}

#[tokio::test]
async fn an_operator_takes_access_away_without_an_answer_of_sts() {
    let Some(aws) = EmulatedAws::start().await else { return };
    let mut home = home(&aws);
    home.variable("USER", "bob");
    let log = home.path().join("audit.jsonl");
    home.variable("STILE_AUDIT_LOG", &log);
    done(&home, &CREATE).await;
    aws.proxy.inject("sts", .., rejected_by_sts("AccessDenied"));
    let delete = [&["grant", "delete"][..], &CREATE[2..6]].concat();
    for command in [
        &["token", "revoke", "--principal", CREATE[3]][..],
        &["token", "revoke", "--all", "--yes"],
        &delete,
    ] {
        let ran = home.run(&program(ADMIN), command).await;
        assert_eq!(ran.code, Some(0), "{command:?}: {ran:?}");
        assert!(ran.stderr.contains("STS does not say who you are"), "{command:?}: {ran:?}");
    }
    aws.proxy.repair();
    assert_eq!(done(&home, &LIST).await, json!([]));
    let log = std::fs::read_to_string(&log).unwrap();
    assert_eq!(log.matches("\"local:bob\"").count(), 3, "{log}");
}

#[tokio::test]
async fn a_record_on_aws_names_the_operator_whom_sts_names_by_one_call() {
    let Some(aws) = EmulatedAws::start().await else { return };
    let mut home = home(&aws);
    home.variable("USER", "mallory");
    let log = home.path().join("audit.jsonl");
    home.variable("STILE_AUDIT_LOG", &log);
    let delete = [&["grant", "delete"][..], &CREATE[2..6]].concat();
    for (command, asked) in [
        (&["namespace", "create", "tools"][..], 1),
        (&CREATE, 1),
        (&CREATE, 1),
        (&LIST, 0),
        (&["namespace", "list"], 0),
        (&["token", "list"], 0),
        (&["token", "revoke", "--principal", CREATE[3]], 1),
        (&["token", "lift", "--principal", CREATE[3]], 1),
        (&["token", "revoke", "--all", "--yes"], 1),
        (&["store", "init"], 1),
        (&["store", "migrate"], 0),
    ] {
        aws.proxy.take_counts();
        done(&home, command).await;
        let counts = aws.proxy.take_counts();
        assert_eq!(counts.get("sts POST").copied().unwrap_or(0), asked, "{command:?}: {counts:?}");
    }
    let grants = done(&home, &LIST).await;
    assert_eq!(grants[0]["created_by"], OPERATOR, "{grants}");
    let namespaces = done(&home, &["namespace", "list"]).await;
    for namespace in namespaces.as_array().unwrap() {
        assert_eq!(namespace["created_by"], OPERATOR, "{namespace}");
    }
    done(&home, &delete).await;
    let log = std::fs::read_to_string(&log).unwrap();
    let operators: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["operator"].clone())
        .collect();
    assert_eq!(operators, vec![json!(OPERATOR); 8], "{log}");
}

/// Runs a program on a terminal of 100 columns, and copies what the terminal shows to stdout.
const ON_A_TERMINAL: &str = r#"
import fcntl, os, pty, struct, sys, termios
child, terminal = pty.fork()
if child == 0:
    os.execv(sys.argv[1], sys.argv[1:])
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
while True:
    try:
        shown = os.read(terminal, 4096)
    except OSError:
        break
    if not shown:
        break
    os.write(1, shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"#;

#[tokio::test]
async fn a_list_that_takes_long_has_a_spinner_on_a_terminal() {
    let Some(aws) = EmulatedAws::start().await else { return };
    let Some(python) = Moto::python() else { return };
    let mut home = home(&aws);
    home.variable("TERM", "xterm");
    let held = aws.proxy.hold("POST", "/");
    let admin = program(ADMIN);
    let arguments = ["-c", ON_A_TERMINAL, admin.to_str().unwrap(), LIST[0], LIST[1]];
    let mut command = home.command(&python, arguments);
    let mut terminal = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut shows = terminal.stdout.take().unwrap();
    let mut shown = Vec::new();
    let text = |shown: &[u8]| String::from_utf8_lossy(shown).into_owned();
    let spins = async {
        while !text(&shown).contains("reading the grants") {
            assert_ne!(shows.read_buf(&mut shown).await.unwrap(), 0, "{}", text(&shown));
        }
    };
    assert!(time_limits::wait(spins).await.is_some(), "no spinner: {}", text(&shown));
    held.release();
    let ended = async {
        shows.read_to_end(&mut shown).await.unwrap();
        terminal.wait().await.unwrap()
    };
    let status = time_limits::wait(ended).await.unwrap();
    assert!(status.success(), "{status}: {}", text(&shown));
    let shown = text(&shown);
    let after = shown.rsplit("reading the grants").next().unwrap();
    assert!(after.contains("notice: there are no grants"), "the list comes after it: {shown:?}");
}
