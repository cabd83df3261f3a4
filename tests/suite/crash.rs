//! A broker that crashes while it publishes, and one that gets a stop signal: every acknowledged
//! version is there and whole.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};
use stile_protocol::exchange::Namespaces;
use stile_protocol::names::Permission::{Download, Upload};
use stile_tests::broker::served::system_time;
use stile_tests::broker::{deploy, make_data, module_zip, role};
use stile_tests::dev_ca::{DevCa, Files};
use stile_tests::process::home::Home;
use stile_tests::process::programs::{Broker, Setup, free_port};
use stile_tests::skipped::{skipped, tool};
use stile_tests::sts::local::LocalSts;
use stile_tests::sts::proof::{Proof, document};
use stile_tests::terraform::Terraform;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// How often the test kills a broker, and how many versions it publishes meanwhile.
const ROUNDS: u8 = 4;
const PUBLISHES: u8 = 50;

const ADDRESS: &str = "acme/vpc/aws";

/// A data folder, and everything to run a broker over it again and again.
struct Registry {
    folder: TempDir,
    sts: LocalSts,
    port: u16,
    files: Option<Files>,
}

impl Registry {
    async fn new(tls: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        make_data(&folder.path().join("data"), &role("deploy"), "acme", &[Download, Upload]).await;
        let files = tls.then(|| DevCa::new(system_time()).write(folder.path(), &["127.0.0.1"]));
        Self { sts: LocalSts::start([], Arc::new(system_time)), port: free_port(), files, folder }
    }

    async fn start(&self) -> Broker {
        let setup =
            Setup::new(self.port, &self.folder.path().join("data")).sts(&self.sts.endpoint());
        let setup = self.files.iter().fold(setup, Setup::tls);
        setup.start(&self.folder.path().join("broker.log")).await
    }

    async fn token(&self, broker: &Broker) -> String {
        let identity = deploy();
        self.sts.add_identity(identity.clone());
        let document = document(3600, Namespaces::All, &[Download, Upload]);
        let proof = Proof::new(&identity)
            .audience(&broker.host())
            .now(system_time())
            .document(&document)
            .build();
        let request = broker
            .client()
            .post(broker.url("/v1/token"))
            .header("content-type", "application/json");
        let answer: Value = serde_json::from_str(
            &request.body(proof.to_string()).send().await.unwrap().text().await.unwrap(),
        )
        .unwrap();
        answer["token"].as_str().unwrap().to_owned()
    }
}

/// Sends one version. Returns the status, or `None` if no answer arrived.
async fn publish(
    client: &reqwest::Client,
    url: String,
    token: &str,
    archive: Vec<u8>,
) -> Option<u16> {
    let sent = client
        .post(url)
        .bearer_auth(token)
        .header("content-type", "application/zip")
        .body(archive)
        .send()
        .await
        .ok()?;
    let status = sent.status().as_u16();
    // A truncated answer acknowledges nothing.
    sent.bytes().await.ok().map(|_| status)
}

/// Returns a module that fills many packets and differs from every other.
fn archive(version: &str) -> Vec<u8> {
    let mut noise = vec![0; 48 * 1024];
    getrandom::fill(&mut noise).unwrap();
    module_zip(&format!("{version} {}", hex::encode(noise)))
}

/// Returns every listed version with the digest of the archive from its signed URL.
async fn listed(broker: &Broker, token: &str) -> BTreeMap<String, String> {
    let get = async |path: String| {
        broker.client().get(broker.url(&path)).bearer_auth(token).send().await.unwrap()
    };
    let answer = get(format!("/v1/modules/{ADDRESS}/versions")).await;
    if answer.status() == 404 {
        return BTreeMap::new();
    }
    let document: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    let mut listed = BTreeMap::new();
    for version in document["modules"][0]["versions"].as_array().unwrap() {
        let version = version["version"].as_str().unwrap();
        let answer = get(format!("/v1/modules/{ADDRESS}/{version}/download")).await;
        assert_eq!(answer.status(), 204, "{version}");
        let link = answer.headers()["x-terraform-get"].to_str().unwrap();
        let archive = broker.client().get(link).send().await.unwrap();
        assert_eq!(archive.status(), 200, "{version}");
        listed.insert(
            version.to_owned(),
            hex::encode(Sha256::digest(archive.bytes().await.unwrap())),
        );
    }
    listed
}

/// Publishes versions, so many at once. Kills the broker a moment after the given number of
/// acknowledgements.
async fn publish_until_killed(
    broker: &mut Broker,
    token: &str,
    versions: Vec<(String, Vec<u8>)>,
    at_once: usize,
    kill: Moment,
) -> BTreeSet<String> {
    let waiting = Arc::new(Mutex::new(versions.into_iter()));
    let (tell, mut acknowledgements) = mpsc::unbounded_channel();
    for _ in 0..at_once {
        let (waiting, tell, client, token) =
            (Arc::clone(&waiting), tell.clone(), broker.client().clone(), token.to_owned());
        let base = broker.url(&format!("/v1/modules/{ADDRESS}"));
        tokio::spawn(async move {
            loop {
                let Some((version, archive)) = waiting.lock().unwrap().next() else { return };
                if publish(&client, format!("{base}/{version}"), &token, archive).await == Some(201)
                {
                    let _ = tell.send(version);
                }
            }
        });
    }
    drop(tell);
    let mut acknowledged = BTreeSet::new();
    while acknowledged.len() < kill.acknowledged {
        acknowledged.insert(
            acknowledgements.recv().await.expect("the broker acknowledges published versions"),
        );
    }
    let more = async {
        while let Some(version) = acknowledgements.recv().await {
            acknowledged.insert(version);
        }
    };
    let _ = tokio::time::timeout(kill.after, more).await;
    broker.kill_9();
    while let Some(version) = acknowledgements.recv().await {
        acknowledged.insert(version);
    }
    acknowledged
}

/// When to kill: the delay after the given number of acknowledgements.
#[derive(Debug, Clone, Copy)]
struct Moment {
    acknowledged: usize,
    after: Duration,
}

impl Moment {
    fn of(seed: [u8; 8], round: u8) -> Self {
        let digest = Sha256::new().chain_update(seed).chain_update([round]).finalize();
        let after =
            Duration::from_micros(u64::from(u16::from_be_bytes([digest[1], digest[2]])) % 20_000);
        Self { acknowledged: usize::from(digest[0] % PUBLISHES), after }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_before_a_kill_is_listed_whole_and_nothing_else_is() {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).unwrap();
    println!("seed {}", hex::encode(seed));
    let registry = Registry::new(true).await;
    let mut broker = registry.start().await;
    let token = registry.token(&broker).await;
    let mut sent = BTreeMap::new();
    let mut acknowledged = BTreeSet::new();
    let mut lost = Vec::new();
    for round in 0..ROUNDS {
        let versions: Vec<_> = (0..PUBLISHES)
            .map(|n| format!("{round}.0.{n}"))
            .map(|version| (version.clone(), archive(&version)))
            .collect();
        sent.extend(
            versions
                .iter()
                .map(|(version, archive)| (version.clone(), hex::encode(Sha256::digest(archive)))),
        );
        let (at_once, moment) = (if round % 2 == 0 { 8 } else { 1 }, Moment::of(seed, round));
        let mut of_round =
            publish_until_killed(&mut broker, &token, versions.clone(), at_once, moment).await;
        lost.extend(versions.into_iter().filter(|(version, _)| !of_round.contains(version)));
        acknowledged.append(&mut of_round);
        broker = registry.start().await;
        let listed = listed(&broker, &token).await;
        let what = format!("seed {}, round {round}, {moment:?}", hex::encode(seed));
        println!(
            "{what}: {} of {} acknowledged, {} listed",
            acknowledged.len(),
            sent.len(),
            listed.len()
        );
        for version in &acknowledged {
            assert!(
                listed.contains_key(version),
                "{what}: {version} was acknowledged and is missing"
            );
        }
        for (version, digest) in &listed {
            assert_eq!(Some(digest), sent.get(version), "{what}: {version}");
        }
    }
    for (version, archive) in lost {
        let url = broker.url(&format!("/v1/modules/{ADDRESS}/{version}"));
        let again = publish(broker.client(), url, &token, archive).await;
        assert!(matches!(again, Some(200 | 201)), "{version} can be published again: {again:?}");
    }
    assert_eq!(listed(&broker, &token).await, sent);
    installs(&registry, &broker, &token, &acknowledged).await;
}

/// Installs versions with Terraform, each by its own module call. Terraform checks their digests.
async fn installs(registry: &Registry, broker: &Broker, token: &str, versions: &BTreeSet<String>) {
    let Some(program) = tool("terraform") else {
        return skipped("terraform", "versions that outlived a kill are installed");
    };
    let mut home = Home::temporary();
    home.trust(&registry.files.as_ref().unwrap().ca);
    let terraform = Terraform::new(&program, home);
    terraform
        .write_rc(&format!("credentials \"{}\" {{\n  token = \"{token}\"\n}}\n", broker.host()));
    for version in versions {
        terraform.write_module_call(
            &call(version),
            &format!("{}/{ADDRESS}", broker.host()),
            version,
        );
    }
    let ran = terraform.init().await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for version in versions {
        let main =
            std::fs::read_to_string(terraform.installed(&call(version)).join("main.tf")).unwrap();
        assert!(main.contains(&format!("\"{version} ")), "{version}");
    }
}

fn call(version: &str) -> String {
    format!("v{}", version.replace('.', "_"))
}

#[tokio::test]
async fn a_broker_that_is_asked_to_stop_lets_an_upload_end() {
    let registry = Registry::new(false).await;
    let mut broker = registry.start().await;
    let (token, archive) = (registry.token(&broker).await, archive("1.0.0"));
    let address = broker.host();
    let mut slow = TcpStream::connect(&address).await.unwrap();
    let head = format!(
        "POST /v1/modules/{ADDRESS}/1.0.0 HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\ncontent-type: application/zip\r\n\
         content-length: {}\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n",
        archive.len()
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    slow.read_exact(&mut interim).await.unwrap();
    assert_eq!(
        &interim, b"HTTP/1.1 100 Continue\r\n\r\n",
        "the broker has begun to read the upload"
    );
    let (first, rest) = archive.split_at(archive.len() / 2);
    slow.write_all(first).await.unwrap();

    let (status, answer) = tokio::join!(broker.terminate(), async {
        while TcpStream::connect(&address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        // After the broker has ended, the write fails and no answer arrives.
        let _ = slow.write_all(rest).await;
        let mut answer = Vec::new();
        let _ = slow.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    });
    assert!(
        answer.starts_with("HTTP/1.1 201 "),
        "the answer to the upload is `{answer}`:\n{}",
        broker.log()
    );
    assert!(status.success(), "{status}");
    let broker = registry.start().await;
    let expected = BTreeMap::from([("1.0.0".to_owned(), hex::encode(Sha256::digest(&archive)))]);
    assert_eq!(listed(&broker, &token).await, expected);
    assert_eq!(incoming(&registry.folder.path().join("data")), 0);
}

fn incoming(data: &Path) -> usize {
    std::fs::read_dir(data.join("incoming")).unwrap().count()
}
