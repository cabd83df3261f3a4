//! Errors of AWS profiles and keys: each names the true cause, the profile and the cure.

use crate::support::{Sandbox, StubBroker};

const GET: [&str; 2] = ["get", "registry.example.com"];
const KEYS: &str = "aws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = sekret\n";

/// Runs `get` and checks one line that starts and ends like this, and that nothing was sent.
#[track_caller]
fn fails(sandbox: &Sandbox, broker: &StubBroker, start: &str, hint: &str) {
    let run = sandbox.run(&GET);
    let line = run.stderr.trim_end();
    let expected = format!("stile: no token for `registry.example.com`: {start}");
    assert!(line.starts_with(&expected), "{line}");
    assert!(line.ends_with(&format!("; hint: {hint}")), "{line}");
    assert!(!line.contains("sekret") && !line.contains('\n'), "{line}");
    assert_eq!((run.stdout.as_str(), run.code), ("", 1));
    assert!(broker.requests().is_empty(), "nothing was sent");
}

#[test]
fn a_misspelt_profile_is_named_with_and_without_a_region() {
    let hint = "check the spelling in `AWS_PROFILE`, `--profile` or `config.toml`; \
                `aws configure list-profiles` lists the profiles";
    for name in ["depoly", "Deploy", "deploy "] {
        for region in ["", "eu-central-1"] {
            let broker = StubBroker::granting_every_token();
            let sandbox = Sandbox::of(&broker)
                .without_keys()
                .with("AWS_REGION", region)
                .with("AWS_PROFILE", name);
            sandbox.write(".aws/config", &format!("[profile deploy]\nregion = us-east-1\n{KEYS}"));
            fails(&sandbox, &broker, &format!("the AWS profile `{name}` does not exist"), hint);
        }
    }
}

#[test]
fn a_damaged_configuration_is_named_with_its_file_and_line() {
    for (text, line) in [
        ("[default\nregion = us-east-1\n", 1),
        ("[default]\nregion\n", 2),
        ("region = us-east-1\n", 1),
    ] {
        for profile in ["default", "deploy"] {
            let broker = StubBroker::granting_every_token();
            let sandbox = Sandbox::of(&broker)
                .without_keys()
                .with("AWS_REGION", "")
                .with("AWS_PROFILE", profile);
            sandbox.write(".aws/config", text);
            let start = format!(
                "cannot read the AWS configuration of the profile `{profile}`: \
                 could not parse profile file: error parsing ~/.aws/config on line {line}:"
            );
            fails(
                &sandbox,
                &broker,
                &start,
                "correct that line of the file, or make the file readable",
            );
        }
    }
}

#[test]
fn a_key_with_a_blank_or_a_line_end_is_named() {
    let hint = "set the value again without it; `echo` and some editors add a line end";
    for (name, value, part) in [
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE ", "access key id"),
        ("AWS_SECRET_ACCESS_KEY", "sekret\n", "secret access key"),
        ("AWS_SECRET_ACCESS_KEY", " sekret", "secret access key"),
        ("AWS_SECRET_ACCESS_KEY", "sekret\r", "secret access key"),
    ] {
        let broker = StubBroker::granting_every_token();
        let sandbox = Sandbox::of(&broker).with(name, value);
        let start = format!("the {part} from the environment contains a blank or a line end");
        fails(&sandbox, &broker, &start, hint);
    }
    for (profile, section) in [("default", "[default]"), ("deploy", "[profile deploy]")] {
        let broker = StubBroker::granting_every_token();
        let sandbox = Sandbox::of(&broker).without_keys().with("AWS_PROFILE", profile);
        sandbox.write(".aws/config", &format!("{section}\n{}", KEYS.replace("sekret", "sek ret")));
        let start = format!(
            "the secret access key from the AWS profile `{profile}` contains a blank or a line end"
        );
        fails(&sandbox, &broker, &start, hint);
    }
}

#[test]
fn a_profile_of_aws_login_is_an_error_that_names_the_way_around() {
    let hint = "use another profile with \
                `credential_process = aws configure export-credentials --profile NAME --format process`";
    for profile in ["console", "dev", "default"] {
        let broker = StubBroker::granting_every_token();
        let sandbox = Sandbox::of(&broker).without_keys().with("AWS_PROFILE", profile);
        let session = "login_session = arn:aws:sts::111122223333:assumed-role/deploy/first.last";
        sandbox.write(".aws/config", &format!("[profile {profile}]\n{session}\n"));
        let start = format!(
            "the AWS profile `{profile}` uses `aws login`, which this program does not support"
        );
        fails(&sandbox, &broker, &start, hint);
    }
}

#[test]
fn keys_in_the_environment_need_no_profile() {
    for text in ["[default\n", "[profile other]\nregion = us-east-1\n", ""] {
        let broker = StubBroker::granting_every_token();
        let sandbox = Sandbox::of(&broker).with("AWS_PROFILE", "depoly");
        sandbox.write(".aws/config", text);
        sandbox.run(&GET).prints("{\"token\":\"stile_v4.local.number-0\"}\n");
    }
}
