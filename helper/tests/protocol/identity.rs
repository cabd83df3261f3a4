//! `get` for sources of credentials that change their identity without a change of the settings.

use std::sync::{Arc, Mutex};

use chrono::TimeDelta;

use crate::support::{ReceivedRequest, Sandbox, StubBroker, http, now, rfc3339, token_reply};

const GET: [&str; 2] = ["get", "registry.example.com"];

/// Builds credentials as agents, instance metadata and processes print them.
fn credentials(access_key_id: &str) -> String {
    serde_json::json!({
        "Version": 1, "Code": "Success", "AccessKeyId": access_key_id, "SecretAccessKey": "sekret",
        "Token": "token", "SessionToken": "token",
        "Expiration": rfc3339(now() + TimeDelta::hours(1)), "LastUpdated": rfc3339(now()),
    })
    .to_string()
}

/// Starts a registry whose tokens name the access key of their proof.
///
/// Other requests are for credentials, and the test answers them.
fn registry(source: impl Fn(&ReceivedRequest) -> String + Send + Sync + 'static) -> StubBroker {
    StubBroker::new(move |_, request| {
        if request.line.starts_with("POST /v1/token ") {
            let access_key_id = request.json()["access_key_id"].as_str().unwrap().to_owned();
            return token_reply(&format!("token-of-{access_key_id}"), 3600);
        }
        source(request)
    })
}

fn exchanges(broker: &StubBroker) -> usize {
    broker.requests().iter().filter(|request| request.line.starts_with("POST")).count()
}

/// Runs `get` twice and checks whose token it prints, and how many exchanges there were until now.
#[track_caller]
fn prints_token_of(access_key_id: &str, sandbox: &Sandbox, broker: &StubBroker, count: usize) {
    for _ in 0..2 {
        sandbox.run(&GET).prints(&format!("{{\"token\":\"token-of-{access_key_id}\"}}\n"));
        assert_eq!(exchanges(broker), count, "{access_key_id}");
    }
}

/// Credentials that a test changes while the settings stay the same.
#[derive(Clone)]
struct Role(Arc<Mutex<String>>);

impl Role {
    fn new(access_key_id: &str) -> Self {
        Self(Arc::new(Mutex::new(access_key_id.to_owned())))
    }

    fn change(&self, access_key_id: &str) {
        access_key_id.clone_into(&mut self.0.lock().unwrap());
    }

    fn credentials(&self) -> String {
        http("200 OK", "", &credentials(&self.0.lock().unwrap()))
    }
}

#[test]
fn a_process_that_changed_its_role_gets_another_token() {
    for (section, flags) in [
        ("default", &[""; 0][..]),
        ("profile default", &[]),
        ("profile deploy", &["--profile", "deploy"]),
    ] {
        let broker = registry(|_| http("404 Not Found", "", ""));
        let sandbox = Sandbox::of(&broker).without_keys();
        let keys = sandbox.path("keys.json");
        let process = format!("[{section}]\ncredential_process = /bin/cat {}\n", keys.display());
        sandbox.write(".aws/config", &process);
        let get = [flags, &GET[..]].concat();
        for (number, access_key_id) in ["ASIA1", "ASIA2", "ASIA1", "ASIA3"].iter().enumerate() {
            sandbox.write("keys.json", &credentials(access_key_id));
            for _ in 0..2 {
                let expected = format!("{{\"token\":\"token-of-{access_key_id}\"}}\n");
                sandbox.run(&get).prints(&expected);
                assert_eq!(exchanges(&broker), number + 1, "{section}");
            }
        }
        sandbox.write("keys.json", "");
        let run = sandbox.run(&get);
        assert_eq!((run.stdout.as_str(), run.code), ("", 1), "the identity is not known");
        assert_eq!(exchanges(&broker), 4);
    }
}

#[test]
fn keys_in_the_environment_run_no_process() {
    let broker = registry(|_| http("404 Not Found", "", ""));
    let sandbox = Sandbox::of(&broker);
    sandbox.write(".aws/config", "[default]\ncredential_process = /bin/false\n");
    prints_token_of("ASIAIOSFODNN7EXAMPLE", &sandbox, &broker, 1);
}

#[test]
fn containers_with_one_home_have_tokens_of_their_own() {
    let broker = registry(|request| {
        let secret = request.headers.get("authorization").cloned().unwrap_or_default();
        http("200 OK", "", &credentials(&format!("ASIA{secret}")))
    });
    let agent = format!("{}/keys", broker.url);
    let with_agent = |sandbox: Sandbox| {
        sandbox.without_keys().with("AWS_CONTAINER_CREDENTIALS_FULL_URI", &agent)
    };
    let mut sandbox = with_agent(Sandbox::of(&broker));
    for (secret, count) in [("1", 1), ("2", 2), ("1", 2), ("3", 3)] {
        sandbox = sandbox.with("AWS_CONTAINER_AUTHORIZATION_TOKEN", secret);
        prints_token_of(&format!("ASIA{secret}"), &sandbox, &broker, count);
    }
    let file = sandbox.path("secret").to_str().unwrap().to_owned();
    sandbox = sandbox.with("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &file);
    for (secret, count) in [("4", 4), ("5", 5), ("4", 5)] {
        sandbox.write("secret", secret);
        prints_token_of(&format!("ASIA{secret}"), &sandbox, &broker, count);
    }
}

#[test]
fn an_agent_without_a_secret_is_asked_for_its_identity_each_time() {
    let role = Role::new("ASIA1");
    let answers = role.clone();
    let broker = registry(move |_| answers.credentials());
    let agent = format!("{}/keys", broker.url);
    let sandbox =
        Sandbox::of(&broker).without_keys().with("AWS_CONTAINER_CREDENTIALS_FULL_URI", &agent);
    for (access_key_id, count) in [("ASIA1", 1), ("ASIA2", 2), ("ASIA1", 3)] {
        role.change(access_key_id);
        prints_token_of(access_key_id, &sandbox, &broker, count);
    }
}

#[test]
fn instances_with_one_home_have_tokens_of_their_own() {
    let role = Role::new("ASIA1");
    let answers = role.clone();
    let broker = registry(move |request| match request.line.split(' ').nth(1).unwrap() {
        "/latest/api/token" => {
            http("200 OK", "x-aws-ec2-metadata-token-ttl-seconds: 21600\r\n", "session")
        }
        "/latest/meta-data/iam/security-credentials/" => http("200 OK", "", "deploy"),
        "/latest/meta-data/iam/security-credentials/deploy" => answers.credentials(),
        _ => http("404 Not Found", "", ""),
    });
    let sandbox = Sandbox::of(&broker)
        .without_keys()
        .with("AWS_EC2_METADATA_DISABLED", "false")
        .with("AWS_EC2_METADATA_SERVICE_ENDPOINT", &broker.url);
    for (access_key_id, count) in [("ASIA1", 1), ("ASIA2", 2), ("ASIA1", 3), ("ASIA3", 4)] {
        role.change(access_key_id);
        prints_token_of(access_key_id, &sandbox, &broker, count);
    }
}
