//! The region and the profile: variables without a value, the default region, `install --region`.

use crate::support::{Sandbox, StubBroker};

const GET: [&str; 2] = ["get", "registry.example.com"];
const TOKEN: &str = "{\"token\":\"stile_v4.local.number-0\"}\n";

fn config(broker: &StubBroker, line: &str) -> String {
    format!("[registry.\"registry.example.com\"]\nurl = \"{}\"\n{line}\n", broker.url)
}

#[test]
fn a_gateway_without_a_region_is_an_error() {
    for service in ["execute-api", "lambda"] {
        let broker = StubBroker::granting_every_token();
        let sandbox = Sandbox::new()
            .configured(&config(&broker, &format!("service = \"{service}\"")))
            .with("AWS_REGION", "");
        sandbox.run(&GET).fails_with(
            "no token for `registry.example.com`: no AWS region is set, and a gateway accepts only \
             signatures for its own region; hint: set `AWS_REGION`, `region` in the AWS profile, \
             or `region` in the helper's `config.toml`",
        );
        assert!(broker.requests().is_empty(), "{service}");
    }
}

#[test]
fn without_a_region_the_helper_signs_for_us_east_1_and_doctor_says_so() {
    for value in ["", " ", "\n"] {
        let broker = StubBroker::granting_every_token();
        let sandbox = Sandbox::of(&broker).with("AWS_REGION", value);
        sandbox.run(&GET).prints(TOKEN);
        assert_eq!(broker.requests()[0].json()["region"], "us-east-1", "{value:?}");
        let report = sandbox.run(&["doctor", "registry.example.com"]).stdout;
        let line = "for region us-east-1, because no region is set (`AWS_REGION`, `region` in `config.toml`)\n";
        assert!(report.contains(line), "{value:?}: {report}");
    }
}

#[test]
fn a_region_without_a_value_hides_no_other_region() {
    let profile = "[default]\nregion = us-west-2\n[profile ci]\nregion = eu-west-3\n";
    for (variables, expected) in [
        (&[("AWS_REGION", ""), ("AWS_DEFAULT_REGION", "eu-west-1")][..], "eu-west-1"),
        (&[("AWS_REGION", ""), ("AWS_DEFAULT_REGION", "")], "us-west-2"),
        (&[("AWS_REGION", ""), ("AWS_PROFILE", "ci")], "eu-west-3"),
        (&[("AWS_REGION", "eu-north-1\n"), ("AWS_DEFAULT_REGION", "eu-west-1")], "eu-north-1"),
        (&[("AWS_REGION", ""), ("AWS_PROFILE", "")], "us-west-2"),
    ] {
        let broker = StubBroker::granting_every_token();
        let mut sandbox = Sandbox::of(&broker);
        for (name, value) in variables {
            sandbox = sandbox.with(name, value);
        }
        sandbox.write(".aws/config", profile);
        sandbox.run(&GET).prints(TOKEN);
        assert_eq!(broker.requests()[0].json()["region"], expected, "{variables:?}");
        let report = sandbox.run(&["doctor", "registry.example.com"]).stdout;
        assert!(!report.contains("no region is set"), "{variables:?}: {report}");
    }
}

#[test]
fn a_profile_without_a_value_hides_no_keys_of_the_default_profile() {
    for value in ["", " ", "\t"] {
        let broker = StubBroker::granting_every_token();
        let sandbox = Sandbox::of(&broker).without_keys().with("AWS_PROFILE", value);
        sandbox.write(
            ".aws/config",
            "[default]\naws_access_key_id = AKIAIOSFODNN7DEFAULT\naws_secret_access_key = other\n",
        );
        sandbox.run(&GET).prints(TOKEN);
        let body = broker.requests()[0].json();
        assert_eq!(body["access_key_id"], "AKIAIOSFODNN7DEFAULT", "{value:?}");
    }
}

#[test]
fn install_writes_a_region_that_the_helper_then_signs_for() {
    for region in ["eu-west-2", "us-gov-west-1", "cn-north-1"] {
        let broker = StubBroker::granting_every_token();
        let sandbox = Sandbox::of(&broker);
        let install = ["install", "--registry-host", "registry.example.com", "--region", region];
        assert_eq!(sandbox.run(&install).code, 0, "{region}");
        sandbox.run(&GET).prints(TOKEN);
        assert_eq!(broker.requests()[0].json()["region"], region);
    }
    let sandbox = Sandbox::new();
    for region in ["", "eu-nowhere-1", "us-east-1.evil.example"] {
        let install = ["install", "--registry-host", "registry.example.com", "--region", region];
        let run = sandbox.run(&install);
        assert!(run.code == 1 && run.stderr.contains("is not an AWS region"), "{}", run.stderr);
        assert!(sandbox.files().is_empty(), "{region}");
    }
}
