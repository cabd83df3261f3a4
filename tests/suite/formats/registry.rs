//! A registry that programs of two releases serve and manage at the same time.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use stile_protocol::exchange::Namespaces;
use stile_protocol::names::Permission;
use stile_store::Store;
use stile_tests::broker::served::system_time;
use stile_tests::broker::{ACCOUNT, HOST, Place};
use stile_tests::process::home::{CommandOutput, Home};
use stile_tests::process::previous::{PREVIOUS, Release, is_built};
use stile_tests::process::programs::{ADMIN, BROKER, Broker, Setup, free_port};
use stile_tests::skipped::skipped;
use stile_tests::sts::identity::Identity;
use stile_tests::sts::local::LocalSts;
use stile_tests::sts::proof::{Proof, document};
use stile_tests::terraform::as_fetched;
use stile_tests::time_limits;
use tempfile::TempDir;

/// The time between two checks whether a change has reached a broker.
const ASK: Duration = Duration::from_millis(100);

/// The module of these tests.
pub const MODULE: &str = "acme/vpc/aws";

/// Returns whether the programs of the previous release are built. If not, records a skip.
pub fn previous_is_built(shows: &str) -> bool {
    let built = is_built();
    if !built {
        skipped(&format!("the programs of {PREVIOUS} (tests/previous-release)"), shows);
    }
    built
}

/// The ARN of a role.
pub fn arn(role: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:role/{role}")
}

/// A session of a role.
pub fn session(role: &str) -> Identity {
    Identity::role(ACCOUNT, role, "test")
}

/// Repeats a question as long as the answer is `before`, and then expects `after`.
pub async fn until<T: PartialEq + Debug>(before: T, after: T, ask: impl AsyncFn() -> T) {
    let changed = time_limits::wait(async {
        let mut tick = tokio::time::interval(ASK);
        loop {
            tick.tick().await;
            let answer = ask().await;
            if answer != before {
                return answer;
            }
        }
    });
    match changed.await {
        Some(answer) => assert_eq!(answer, after, "after {before:?}"),
        None => panic!("the answer is always {before:?}, and never {after:?}"),
    }
}

/// A place, and the STS that its brokers ask.
pub struct Registry {
    place: Place,
    sts: LocalSts,
    logs: TempDir,
}

impl Registry {
    /// The registry at that place.
    pub fn at(place: Place) -> Self {
        let sts = LocalSts::start([], Arc::new(system_time));
        Self { place, sts, logs: tempfile::tempdir().unwrap() }
    }

    /// The store.
    pub fn store(&self) -> Store {
        match &self.place {
            Place::Folder(data) => {
                Store::open_folder(data.path(), time_limits::embedded()).unwrap()
            }
            Place::Aws(aws) => aws.store(None),
        }
    }

    /// How a broker of that release starts.
    pub fn setup(&self, release: Release) -> Setup {
        let port = free_port();
        let setup = match &self.place {
            Place::Folder(data) => Setup::new(port, data.path()),
            Place::Aws(aws) => Setup::on_aws(port, aws),
        };
        setup.env("STILE_HOST", HOST).sts(&self.sts.endpoint()).run_by(&release.program(BROKER))
    }

    /// Starts a broker of that release.
    pub async fn serve(&self, release: Release) -> Broker {
        self.setup(release).start(&self.new_log()).await
    }

    /// A file for the output of one more broker.
    pub fn new_log(&self) -> std::path::PathBuf {
        let brokers = std::fs::read_dir(self.logs.path()).unwrap().count();
        self.logs.path().join(format!("{brokers}.log"))
    }

    /// Runs a program of that release to its end.
    pub async fn run(&self, release: Release, name: &str, arguments: &[&str]) -> CommandOutput {
        let mut home = Home::temporary();
        match &self.place {
            Place::Folder(data) => home.variable("STILE_DATA", data.path()),
            Place::Aws(aws) => {
                for (name, value) in aws.environment() {
                    home.variable(name, value);
                }
            }
        }
        home.run(&release.program(name), arguments).await
    }

    /// Runs `stile-admin` of that release, which must succeed, and returns its output.
    pub async fn admin(&self, release: Release, arguments: &[&str]) -> String {
        let ran = self.run(release, ADMIN, arguments).await;
        assert_eq!(ran.code, Some(0), "{release:?} {arguments:?}: {}", ran.stderr);
        ran.stdout
    }

    /// Exchanges a proof for a token: the token, or the status and the error code.
    pub async fn exchange(
        &self,
        broker: &Broker,
        identity: &Identity,
        permissions: &[Permission],
    ) -> Result<String, String> {
        self.sts.add_identity(identity.clone());
        let proof = Proof::new(identity)
            .audience(HOST)
            .now(system_time())
            .document(&document(3600, Namespaces::All, permissions))
            .build();
        let request = broker
            .client()
            .post(broker.url("/v1/token"))
            .header("content-type", "application/json");
        let answer = request.body(proof.to_string()).send().await.unwrap();
        let status = answer.status().as_u16();
        let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default();
        match body["token"].as_str() {
            Some(token) => Ok(token.to_owned()),
            None => Err(format!("{status} {}", body["error"].as_str().unwrap_or("-"))),
        }
    }
}

/// Returns the status of a request with a token.
pub async fn whoami(broker: &Broker, token: &str) -> u16 {
    let request = broker.client().get(broker.url("/v1/whoami")).bearer_auth(token);
    request.send().await.unwrap().status().as_u16()
}

/// Returns the id of the token that this broker minted for a role, from its audit log.
pub async fn token_id(broker: &Broker, role: &str) -> String {
    let found = || {
        let log = broker.log();
        let line = log.lines().rfind(|line| {
            line.contains("decision=\"minted\"") && line.contains(&format!(":role/{role}\""))
        })?;
        let (_, id) = line.split_once("token_id=\"")?;
        Some(id.split_once('"')?.0.to_owned())
    };
    until(false, true, async || found().is_some()).await;
    found().unwrap()
}

/// Publishes a version of [`MODULE`] and returns the status.
pub async fn publish(
    broker: &Broker,
    token: &str,
    version: &str,
    content_type: &str,
    archive: Vec<u8>,
) -> u16 {
    let request = broker
        .client()
        .post(broker.url(&format!("/v1/modules/{MODULE}/{version}")))
        .bearer_auth(token)
        .header("content-type", content_type);
    request.body(archive).send().await.unwrap().status().as_u16()
}

/// Lists the versions of [`MODULE`] in order. The list is empty if the broker refuses.
pub async fn versions(broker: &Broker, token: &str) -> Vec<String> {
    let url = broker.url(&format!("/v1/modules/{MODULE}/versions"));
    let answer = broker.client().get(url).bearer_auth(token).send().await.unwrap();
    let document: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default();
    let listed = document["modules"][0]["versions"].as_array().cloned().unwrap_or_default();
    let mut versions: Vec<String> =
        listed.iter().map(|listed| listed["version"].as_str().unwrap().to_owned()).collect();
    versions.sort();
    versions
}

/// Publishes a version of [`MODULE`] that points to a source, and returns the status.
pub async fn publish_source(broker: &Broker, token: &str, version: &str, source: &str) -> u16 {
    let body = serde_json::json!({ "source": source }).to_string();
    publish(broker, token, version, "application/json", body.into_bytes()).await
}

/// Returns where a client fetches a version of [`MODULE`], or the status of an answer without a place.
pub async fn location(broker: &Broker, token: &str, version: &str) -> Result<String, u16> {
    let url = broker.url(&format!("/v1/modules/{MODULE}/{version}/download"));
    let answer = broker.client().get(url).bearer_auth(token).send().await.unwrap();
    let place = answer.headers().get("x-terraform-get");
    place.map(|place| place.to_str().unwrap().to_owned()).ok_or(answer.status().as_u16())
}

/// Downloads a version of [`MODULE`] as Terraform does. Returns the archive, or the status.
pub async fn download(broker: &Broker, token: &str, version: &str) -> Result<Vec<u8>, u16> {
    let url = broker.url(&format!("/v1/modules/{MODULE}/{version}/download"));
    let answer = broker.client().get(url).bearer_auth(token).send().await.unwrap();
    if answer.status() != 204 {
        return Err(answer.status().as_u16());
    }
    let location = answer.headers()["x-terraform-get"].to_str().unwrap();
    // The previous release answers with a path. This one answers with a URL at the registry's host,
    // which no test can reach.
    let path = location.strip_prefix(&format!("https://{HOST}")).unwrap_or(location);
    let url = if path.starts_with('/') { broker.url(path) } else { as_fetched(location) };
    let archive = broker.client().get(url).send().await.unwrap();
    assert_eq!(archive.status(), 200, "{location}");
    Ok(archive.bytes().await.unwrap().to_vec())
}
