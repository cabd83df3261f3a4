//! A hundred `kill -9` at random moments of publishes of providers. No acknowledged publish is
//! lost, and no version is listed of which a client cannot install each listed platform.
//!
//! The moments follow from a seed, which a run prints and `STILE_TEST_SEED` sets.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use stile_core::principal::Principal;
use stile_protocol::exchange::Namespaces;
use stile_protocol::names::Permission::{CreateGrant, Download, Upload};
use stile_tests::aws::emulated::EmulatedAws;
use stile_tests::broker::operator::AsOperator as _;
use stile_tests::broker::served::system_time;
use stile_tests::broker::{Backend, deploy, role};
use stile_tests::process::programs::{Broker, Setup, free_port};
use stile_tests::provider::dist::{ProviderDist, SignedDist};
use stile_tests::provider::gnupg::{GnuPg, PublisherKey};
use stile_tests::provider::publisher::{ProviderPublisher, Wire};
use stile_tests::seed::SeededRandom;
use stile_tests::store_home::StoreHome;
use stile_tests::sts::identity::Identity;
use stile_tests::sts::local::LocalSts;
use stile_tests::sts::proof::{Proof, document};
use tokio::sync::mpsc;

use crate::kills_aim::moment;
use crate::kills_clients::mint;

/// The namespaces, each with a provider. A kill leaves uploads open, and a namespace has at most 64.
const NAMESPACES: [&str; 5] = ["n0", "n1", "n2", "n3", "n4"];

/// The number of kills while a publisher uses one namespace.
const KILLS_OF_ONE: u32 = 20;

/// The platforms of each version. The third is added later.
const PLATFORMS: [&str; 3] = ["darwin_arm64", "linux_amd64", "windows_amd64"];

/// The number of publishers at a time.
const WORKERS: u32 = 2;

/// The number of versions that one publisher sends until the kill.
const VERSIONS: u32 = 3;

/// A version with two platforms, and the same with the third.
type Grown = [SignedDist; 2];

struct Registry {
    stand: StoreHome,
    sts: LocalSts,
    identity: Identity,
    port: u16,
    chance: SeededRandom,
    sent: BTreeMap<String, Grown>,
    /// For each version, the number of its platforms in the latest acknowledged publish.
    acknowledged: BTreeMap<String, usize>,
    /// What the test has fetched and compared: versions with their number of platforms.
    fetched: BTreeSet<(String, usize)>,
    /// The number of kills that cut a publish.
    cut: u32,
}

impl Registry {
    async fn new(backend: Backend, test: &str) -> Option<Self> {
        let stand = StoreHome::new(backend).await?;
        for namespace in NAMESPACES {
            let grant = stile_core::grants::Grant {
                principal: Principal::parse_stored(&role("deploy")).unwrap(),
                namespace: namespace.parse().unwrap(),
                permissions: [CreateGrant, Download, Upload].into_iter().collect(),
                expires_at: None,
                created_by: "test".to_owned(),
                created_at: system_time(),
            };
            stand.store.as_operator().create_grant(grant, None).await.unwrap();
        }
        let identity = deploy();
        let sts = LocalSts::start([identity.clone()], Arc::new(system_time));
        Some(Self {
            stand,
            sts,
            identity,
            port: free_port(),
            chance: SeededRandom::new(test),
            sent: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            fetched: BTreeSet::new(),
            cut: 0,
        })
    }

    async fn start(&self) -> Broker {
        let home = self.stand.home.path();
        let setup = match &self.stand.aws {
            None => Setup::new(self.port, &home.join("data")),
            Some(aws) => Setup::on_aws(self.port, aws as &EmulatedAws),
        };
        setup.sts(&self.sts.endpoint()).start(&home.join("broker.log")).await
    }

    async fn token(&self, broker: &Broker) -> String {
        let document = document(3600, Namespaces::All, &[CreateGrant, Download, Upload]);
        let proof = Proof::new(&self.identity)
            .audience(&format!("127.0.0.1:{}", self.port))
            .now(system_time())
            .document(&document)
            .build();
        mint(broker, &proof).await.expect("a healthy broker mints")
    }

    /// Kills a broker while it publishes versions that grow.
    async fn kill(
        &mut self,
        mut broker: Broker,
        token: &str,
        key: &PublisherKey<'_>,
        round: u32,
        longest: u64,
    ) {
        let (tell, mut received) = mpsc::unbounded_channel();
        let mut workers = Vec::new();
        for worker in 0..WORKERS {
            let names = (0..VERSIONS).map(|at| format!("{round}.{worker}.{at}"));
            let grown: Vec<Grown> = names.map(|version| grown(&version, key)).collect();
            for one in &grown {
                self.sent.insert(one[0].dist.version.clone(), one.clone());
            }
            let wire = Wire::Http(broker.client().clone(), broker.url(""));
            let publisher = ProviderPublisher::new(wire, token);
            workers.push(tokio::spawn(publishes(publisher, grown, tell.clone())));
        }
        drop(tell);
        moment(&mut self.chance, Duration::from_millis(longest)).await;
        broker.kill_9();
        let mut ended = 0;
        while let Some((version, platforms)) = received.recv().await {
            self.acknowledged.insert(version, platforms);
            ended += 1;
        }
        for worker in workers {
            worker.await.expect("the registry refuses nothing that is right");
        }
        self.cut += u32::from(ended < WORKERS * VERSIONS * 2);
    }

    /// Compares what the registry lists with what was sent and acknowledged.
    async fn check(&mut self, broker: &Broker, token: &str, what: &str) {
        let get = async |path: String| {
            broker.client().get(broker.url(&path)).bearer_auth(token).send().await.unwrap()
        };
        let mut listed = Vec::new();
        for namespace in NAMESPACES {
            let answer = get(format!("/v1/providers/{namespace}/dns/versions")).await;
            let status = answer.status();
            let list: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
            assert!(status == 200 || status == 404, "{what}: {status} {list}\n{}", broker.log());
            listed.extend(list["versions"].as_array().cloned().unwrap_or_default());
        }
        let mut found = BTreeMap::new();
        for version in &listed {
            let name = version["version"].as_str().unwrap().to_owned();
            let platforms = version["platforms"].as_array().unwrap().len();
            assert!(found.insert(name, platforms).is_none(), "{what}: {version} is there twice");
        }
        for (version, platforms) in &self.acknowledged {
            assert!(found.get(version) >= Some(platforms), "{what}: {version} lacks {platforms}");
        }
        for (version, platforms) in found {
            if !self.fetched.insert((version.clone(), platforms)) {
                continue;
            }
            let what = format!("{what}: {version} of {platforms} platforms");
            let base = format!("/v1/providers/{}/dns", namespace_of(&version));
            let sent = self.sent.get(&version).unwrap_or_else(|| panic!("{what}: never sent"));
            let sent = sent.iter().find(|one| one.dist.zips.len() == platforms);
            let sent = sent.unwrap_or_else(|| panic!("{what}: half-listed"));
            for (platform, zip) in &sent.dist.zips {
                let (os, arch) = platform.split_once('_').unwrap();
                let answer = get(format!("{base}/{version}/download/{os}/{arch}")).await;
                assert_eq!(answer.status(), 200, "{what}: {platform}");
                let download: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
                assert_eq!(download["shasum"], sent.dist.sha256(platform), "{what}");
                for (field, expected) in [
                    ("download_url", zip.as_slice()),
                    ("shasums_url", sent.sums.as_bytes()),
                    ("shasums_signature_url", &sent.signature),
                ] {
                    let url = download[field].as_str().unwrap();
                    let url = reach(broker, url);
                    let served = broker.client().get(&url).send().await.unwrap();
                    assert_eq!(served.status(), 200, "{what}: {field} {url}");
                    assert!(served.bytes().await.unwrap() == expected, "{what}: {field}");
                }
            }
        }
    }
}

/// Returns the URL at which a program reaches what a broker without TLS serves.
fn reach(broker: &Broker, url: &str) -> String {
    let origin = format!("https://{}", broker.host());
    match url.strip_prefix(&origin) {
        Some(path) => broker.url(path),
        None if url.starts_with('/') => broker.url(url),
        None => url.to_owned(),
    }
}

/// Returns the namespace of a version. Its first number is that of the kill.
fn namespace_of(version: &str) -> &'static str {
    let kill: u32 = version.split('.').next().unwrap().parse().unwrap();
    NAMESPACES[usize::try_from(kill / KILLS_OF_ONE).unwrap()]
}

fn grown(version: &str, key: &PublisherKey<'_>) -> Grown {
    let of = |platforms: &[&str]| ProviderDist::new("dns", version, platforms).signed(key);
    [of(&PLATFORMS[..2]), of(&PLATFORMS)]
}

async fn publishes(
    publisher: ProviderPublisher<'_>,
    versions: Vec<Grown>,
    tell: mpsc::UnboundedSender<(String, usize)>,
) {
    for signed in versions.iter().flatten() {
        match publisher.try_publish(namespace_of(&signed.dist.version), signed).await {
            Ok(_) => {
                let _ = tell.send((signed.dist.version.clone(), signed.dist.zips.len()));
            }
            // The connection broke, so nothing is acknowledged.
            Err(None) => return,
            // A store on AWS is reached over another connection than the broker.
            Err(Some(answer)) => panic!("{}: {answer:?}", signed.dist.version),
        }
    }
}

async fn outlives(backend: Backend, kills: u32, longest: u64, test: &str) {
    let Some(gnupg) = GnuPg::new(system_time(), test) else { return };
    let Some(mut registry) = Registry::new(backend, test).await else { return };
    let key = gnupg.key("Acme <providers@acme.example>");
    let mut broker = registry.start().await;
    let mut token = registry.token(&broker).await;
    let wire = Wire::Http(broker.client().clone(), broker.url(""));
    let publisher = ProviderPublisher::new(wire, &token);
    for namespace in NAMESPACES {
        let added = publisher.add_key(namespace, &key.armor).await;
        assert_eq!(added.status, 201, "{added:?}");
    }
    for round in 1..=kills {
        let what = format!("seed {}, kill {round}", registry.chance.seed());
        registry.kill(broker, &token, &key, round, longest).await;
        broker = registry.start().await;
        token = registry.token(&broker).await;
        registry.check(&broker, &token, &what).await;
    }
    let seed = registry.chance.seed().to_owned();
    let _ = writeln!(
        std::io::stderr(),
        "{test}: {} of {kills} kills cut a publish, {} of {} versions are acknowledged",
        registry.cut,
        registry.acknowledged.len(),
        registry.sent.len()
    );
    assert!(registry.cut > 0 && !registry.acknowledged.is_empty(), "seed {seed}");
    // What a kill cut off can be published again.
    let wire = Wire::Http(broker.client().clone(), broker.url(""));
    let publisher = ProviderPublisher::new(wire, &token);
    let mut published = 0;
    for [_, whole] in registry.sent.clone().into_values().rev().take(40) {
        let version = &whole.dist.version;
        match publisher.try_publish(namespace_of(version), &whole).await {
            Ok(_) => {
                registry.acknowledged.insert(version.clone(), PLATFORMS.len());
                published += 1;
            }
            // A killed broker had the turn to verify a file, and a turn lasts two minutes.
            Err(Some(answer)) if answer.status == 202 => {}
            Err(stopped) => panic!("seed {seed}, {version}: {stopped:?}"),
        }
    }
    assert!(published > 30, "seed {seed}: only {published} of 40");
    registry.check(&broker, &token, &format!("seed {seed}, at the end")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_eighty_kills_the_embedded_store_lists_whole_providers_only() {
    outlives(Backend::Embedded, 80, 400, "kills of publishes of providers").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_twenty_kills_the_store_on_aws_lists_whole_providers_only() {
    outlives(Backend::Aws, 20, 2_000, "kills of publishes of providers on AWS").await;
}
