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
fn a_profile_with_only_a_region_is_named_with_what_it_lacks() {
    let lacks = "has no credentials: it needs keys, `login_session`, `sso_session`, `credential_process` or `role_arn`";
    let others = "; no other provider has any";
    for (section, profile, flags) in [
        ("default", "default", &[][..]),
        ("profile plain", "plain", &[]),
        ("profile plain", "plain", &["--profile", "plain"]),
    ] {
        let broker = StubBroker::granting_every_token();
        let variable = if profile == "default" || !flags.is_empty() { "" } else { profile };
        let sandbox = Sandbox::of(&broker).without_keys().with("AWS_PROFILE", variable);
        sandbox.write(".aws/config", &format!("[{section}]\nregion = us-west-2\noutput = json\n"));
        let run = sandbox.run(&[flags, &GET[..]].concat());
        let others = if flags.is_empty() { others } else { "" };
        run.fails_with(&format!(
            "no token for `registry.example.com`: the AWS profile `{profile}` {lacks}{others}; hint: \
             run `aws login --profile {profile}` or `aws configure sso --profile {profile}` to add credentials"
        ));
        assert!(broker.requests().is_empty(), "nothing was sent");
    }
}

#[test]
fn a_profile_whose_source_is_not_there_is_an_error_of_that_source() {
    let broker = StubBroker::granting_every_token();
    let sandbox = Sandbox::of(&broker).without_keys().with("AWS_PROFILE", "ci");
    let role = "[profile ci]\nrole_arn = arn:aws:iam::111122223333:role/ci\ncredential_source = Environment\n";
    sandbox.write(".aws/config", role);
    let run = sandbox.run(&GET);
    let start = "stile: no token for `registry.example.com`: cannot load AWS credentials from the AWS profile `ci`: ";
    assert!(run.stderr.starts_with(start), "{}", run.stderr);
    assert_eq!((run.stdout.as_str(), run.code, run.stderr.lines().count()), ("", 1, 1));
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
