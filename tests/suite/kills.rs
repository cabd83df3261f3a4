//! Two hundred `kill -9` at random moments of mints, publishes, rotations and changes by an
//! operator. No acknowledged change is lost, no partial change is visible, and a proof that minted
//! a token stays used.
//!
//! A program that starts has nothing to lose before it touches the store, so the test waits for
//! that. It kills every fourth at once. It kills the others at the first touch of the store, during
//! the work, or after the acknowledgement. The moments follow from a seed, which a run prints and
//! `STILE_TEST_SEED` sets. The timing of the kernel does not follow from it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use stile_core::principal::Principal;
use stile_protocol::exchange::Namespaces;
use stile_protocol::names::Permission::{Download, Upload};
use stile_store::Store;
use stile_tests::aws::emulated::EmulatedAws;
use stile_tests::broker::kept_events::kept_events;
use stile_tests::broker::operator::AsOperator as _;
use stile_tests::broker::served::system_time;
use stile_tests::broker::{Backend, deploy, embedded, module_zip, role};
use stile_tests::process::Process;
use stile_tests::process::programs::{ADMIN, Broker, Setup, free_port, program};
use stile_tests::seed::SeededRandom;
use stile_tests::sts::identity::Identity;
use stile_tests::sts::local::LocalSts;
use stile_tests::sts::proof::{Proof, document};
use stile_tests::time_limits;
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::kills_aim::{Aimed, Hit, moment, touches};
use crate::kills_clients::{ADDRESS, Asked, Event, mint, mints, publishes};

/// The log message of a broker after it added a key.
const ADDED: &str = "the keyring has a new key";

/// The number of kills of each kind.
#[derive(Debug, Clone, Copy)]
struct Plan {
    /// Kills of a broker that mints and publishes.
    at_work: u32,
    /// Kills of a broker that starts and has a key to add.
    at_start: u32,
    /// Kills of an operator's program.
    of_admin: u32,
    /// The longest time until the test kills a working broker, in milliseconds.
    work: u64,
}

/// The expected state, whichever program was killed.
#[derive(Default)]
struct Ledger {
    /// Every version that was sent, with its digest.
    sent: BTreeMap<String, String>,
    acknowledged: BTreeSet<String>,
    fetched: BTreeSet<String>,
    tokens: Vec<String>,
    used: Vec<Value>,
    unanswered: Vec<Value>,
    /// For each namespace, the possible permissions of its grant: exactly one after an acknowledged
    /// change.
    grants: BTreeMap<String, BTreeSet<String>>,
    /// Whether a principal may be revoked.
    revoked: BTreeSet<bool>,
}

struct Registry {
    folder: TempDir,
    aws: Option<EmulatedAws>,
    sts: LocalSts,
    identity: Identity,
    port: u16,
    store: Store,
    chance: SeededRandom,
    ledger: Ledger,
    starts: Aimed,
    changes: Aimed,
    /// The number of working brokers that had answered something and still owed an answer.
    cut_at_work: u32,
}

impl Registry {
    async fn new(backend: Backend, test: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let (aws, store) = match backend {
            Backend::Embedded => {
                let data = folder.path().join("data");
                (None, embedded(&data, time_limits::embedded()))
            }
            Backend::Aws => {
                let aws = EmulatedAws::start().await?;
                let store = aws.store(None);
                (Some(aws), store)
            }
        };
        let grant = stile_core::grants::Grant {
            principal: Principal::parse_stored(&role("deploy")).unwrap(),
            namespace: "acme".parse().unwrap(),
            permissions: [Download, Upload].into_iter().collect(),
            expires_at: None,
            created_by: "test".to_owned(),
            created_at: system_time(),
        };
        store.as_operator().create_grant(grant, None).await.unwrap();
        let identity = deploy();
        let sts = LocalSts::start([identity.clone()], Arc::new(system_time));
        let (port, chance) = (free_port(), SeededRandom::new(test));
        let ledger = Ledger { revoked: [false].into(), ..Ledger::default() };
        let (starts, changes) = (Aimed::default(), Aimed::default());
        Some(Self {
            folder,
            aws,
            sts,
            identity,
            port,
            store,
            chance,
            ledger,
            starts,
            changes,
            cut_at_work: 0,
        })
    }

    fn setup(&self) -> Setup {
        let setup = match &self.aws {
            None => Setup::new(self.port, &self.folder.path().join("data")),
            // The emulator of AWS allows a loopback STS on AWS as well.
            Some(aws) => Setup::on_aws(self.port, aws),
        };
        setup.sts(&self.sts.endpoint())
    }

    async fn start(&self) -> Broker {
        self.setup().start(&self.folder.path().join("broker.log")).await
    }

    fn proof(&self) -> Value {
        let document = document(3600, Namespaces::All, &[Download, Upload]);
        Proof::new(&self.identity)
            .audience(&format!("127.0.0.1:{}", self.port))
            .now(system_time())
            .document(&document)
            .build()
    }

    fn admin(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program(ADMIN));
        command
            .args(arguments)
            .env_clear()
            .envs(time_limits::VARIABLES)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        match &self.aws {
            None => command.arg("--data").arg(self.folder.path().join("data")),
            Some(aws) => command.envs(aws.environment()),
        };
        command
    }

    /// Forgets the calls so far.
    fn forget_calls(&self) {
        if let Some(aws) = &self.aws {
            aws.proxy.take_counts();
        }
    }

    /// Kills a broker while it mints and publishes.
    async fn kill_at_work(&mut self, mut broker: Broker, round: u32, longest: u64) {
        let token = mint(&broker, &self.proof()).await.expect("a healthy broker mints");
        self.ledger.tokens.push(token.clone());
        let (tell, mut received) = mpsc::unbounded_channel();
        for worker in 0..2 {
            let proofs: Vec<Value> = (0..20).map(|_| self.proof()).collect();
            tokio::spawn(mints(Asked::of(&broker), proofs, tell.clone()));
            let versions: Vec<(String, Vec<u8>)> = (0..20)
                .map(|n| format!("{round}.{worker}.{n}"))
                .map(|version| (version.clone(), module_zip(&version)))
                .collect();
            self.ledger.sent.extend(
                versions.iter().map(|(version, archive)| {
                    (version.clone(), hex::encode(Sha256::digest(archive)))
                }),
            );
            tokio::spawn(publishes(Asked::of(&broker), token.clone(), versions, tell.clone()));
        }
        drop(tell);
        let mut events = Vec::new();
        for _ in 0..self.chance.below(8) {
            events.extend(received.recv().await);
        }
        moment(&mut self.chance, Duration::from_millis(longest)).await;
        broker.kill_9();
        while let Some(event) = received.recv().await {
            events.push(event);
        }
        let owed = events.iter().filter(|event| matches!(event, Event::Unanswered { .. })).count();
        self.cut_at_work += u32::from(owed > 0 && owed < events.len());
        for event in events {
            match event {
                Event::Minted { proof, token } => {
                    self.ledger.tokens.push(token);
                    self.ledger.used.push(proof);
                }
                Event::Unanswered { proof } => self.ledger.unanswered.push(proof),
                Event::Published { version } => {
                    self.ledger.acknowledged.insert(version);
                }
            }
        }
    }

    /// Starts a broker whose newest key is a day old. Kills it before, while or after it adds the
    /// next key.
    async fn kill_at_start(&mut self) {
        let before = self.store.keyring().await.unwrap();
        self.age_the_newest_key().await;
        self.forget_calls();
        let mut broker = self.setup().spawn(&self.folder.path().join("broker.log"));
        let touches = touches(self.aws.as_ref(), broker.id());
        let has_added = || broker.log().contains(ADDED);
        let hit = self.starts.aim(&mut self.chance, touches, has_added).await;
        let added = has_added();
        broker.kill_9();
        let after = self.store.keyring().await.unwrap();
        let rotations = if added { 1..=1 } else { 0..=1 };
        assert!(
            rotations.contains(&(after.revision - before.revision)),
            "seed {}, {hit:?}",
            self.chance.seed()
        );
        assert!(
            after.keys().iter().any(|key| key.mints_from() <= system_time()),
            "seed {}: the keyring has a key that mints",
            self.chance.seed()
        );
    }

    /// Makes the newest key a day older. The key that mints stays the same.
    async fn age_the_newest_key(&self) {
        let age = |keys: &mut Value| {
            let newest = keys
                .as_array_mut()
                .unwrap()
                .iter_mut()
                .max_by_key(|key| key["mints_from"].as_i64())
                .unwrap();
            newest["created_at"] = json!(newest["created_at"].as_i64().unwrap() - 25 * 3600);
        };
        match &self.aws {
            None => {
                let path = self.folder.path().join("data/keyring.json");
                let mut keyring: Value =
                    serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
                age(&mut keyring["keys"]);
                std::fs::write(&path, keyring.to_string()).unwrap();
            }
            Some(aws) => {
                let key = json!({"pk": {"S": "keyring"}, "sk": {"S": "keyring"}});
                let mut row = aws.dynamodb("GetItem", json!({ "Key": key })).await["Item"].clone();
                let mut keys: Value =
                    serde_json::from_str(row["keys"]["S"].as_str().unwrap()).unwrap();
                age(&mut keys);
                row["keys"]["S"] = keys.to_string().into();
                aws.dynamodb("PutItem", json!({ "Item": row })).await;
            }
        }
    }

    /// Kills an operator's program that changes something. Its output until then counts.
    async fn kill_admin(&mut self) {
        let namespace = format!("n{}", self.chance.below(4));
        let on = ["--role-arn", "arn:aws:iam::111122223333:role/other", "--namespace", &namespace];
        let none = BTreeSet::from([String::new()]);
        let held = self.ledger.grants.get(&namespace).unwrap_or(&none).clone();
        let (arguments, becomes) = match self.chance.below(5) {
            0 => (
                vec!["token", "revoke", "--principal", "arn:aws:iam::111122223333:role/other"],
                None,
            ),
            1 => {
                (vec!["token", "lift", "--principal", "arn:aws:iam::111122223333:role/other"], None)
            }
            2 => ([&["grant", "delete"], &on[..]].concat(), Some("")),
            3 => ([&["grant", "create"], &on[..], &["--download"]].concat(), Some("download")),
            _ => ([&["grant", "update"], &on[..], &["--upload"]].concat(), Some("download,upload")),
        };
        self.forget_calls();
        let mut process = Process::start(&mut self.admin(&arguments));
        let touches = touches(self.aws.as_ref(), process.id());
        let hit = self.changes.aim(&mut self.chance, touches, || process.ended().is_some()).await;
        // Exit code 2 means that it could not try.
        let done = hit == Hit::After
            && process.ended().and_then(|status| status.code()).is_some_and(|code| code < 2);
        process.kill_9();
        match becomes {
            None => {
                let revoked = arguments[1] == "revoke";
                // A refusal means that the change is already there.
                if done {
                    self.ledger.revoked.clear();
                }
                self.ledger.revoked.insert(revoked);
            }
            Some(becomes) => {
                let outcome: BTreeSet<String> =
                    held.iter().map(|held| changed(arguments[1], held, becomes)).collect();
                let may_be = if done { outcome } else { held.union(&outcome).cloned().collect() };
                self.ledger.grants.insert(namespace, may_be);
            }
        }
    }

    /// Compares the state with the acknowledged changes. If both outcomes are possible, it accepts
    /// the one it finds.
    async fn check(&mut self, broker: &Broker, what: &str) {
        self.check_operator(what).await;
        let ready = broker.client().get(broker.url("/readyz")).send().await.unwrap();
        assert_eq!(ready.status(), 200, "{what}:\n{}", broker.log());
        for token in &self.ledger.tokens {
            let answer = broker
                .client()
                .get(broker.url("/v1/whoami"))
                .bearer_auth(token)
                .send()
                .await
                .unwrap();
            assert_eq!(
                answer.status(),
                200,
                "{what}: the broker opens a token that it minted:\n{}",
                broker.log()
            );
        }
        for proof in std::mem::take(&mut self.ledger.unanswered) {
            // Either the proof is used up, or it mints one token.
            if let Some(token) = mint(broker, &proof).await {
                self.ledger.tokens.push(token);
            }
            self.ledger.used.push(proof);
        }
        for proof in std::mem::take(&mut self.ledger.used) {
            assert_eq!(mint(broker, &proof).await, None, "{what}: a used proof mints again");
        }
        // From here on, the latest few stand for all.
        let old = self.ledger.tokens.len().saturating_sub(8);
        self.ledger.tokens.drain(..old);
        self.check_modules(broker, what).await;
    }

    async fn check_operator(&mut self, what: &str) {
        let other = Principal::parse_stored(&role("other")).unwrap();
        let grants = self.store.as_operator().grants(Some(other.clone()), None).await.unwrap();
        let state = self.store.principal_state(vec![other.clone()]).await.unwrap();
        assert_eq!(grants, state.grants, "{what}: exactly the listed grants count");
        for (namespace, may_be) in &mut self.ledger.grants {
            let found = grants.iter().find(|grant| grant.namespace.to_string() == *namespace);
            let found = found.map(|grant| grant.permissions.to_string()).unwrap_or_default();
            let listed = self
                .store
                .as_operator()
                .grants(None, Some(namespace.parse().unwrap()))
                .await
                .unwrap();
            assert_eq!(
                listed.is_empty(),
                found.is_empty(),
                "{what}: {namespace} is in the list in both cases"
            );
            assert!(
                may_be.contains(&found),
                "{what}: {namespace} has `{found}`, and may have {may_be:?}"
            );
            *may_be = [found].into();
        }
        let revoked = state.revoked.is_some();
        assert!(self.ledger.revoked.contains(&revoked), "{what}: revoked {revoked}");
        self.ledger.revoked = [revoked].into();
    }

    async fn check_modules(&mut self, broker: &Broker, what: &str) {
        let token = self.ledger.tokens.last().expect("the broker minted a token");
        let get = async |path: String| {
            broker.client().get(broker.url(&path)).bearer_auth(token).send().await.unwrap()
        };
        let answer = get(format!("/v1/modules/{ADDRESS}/versions")).await;
        let document: Value = if answer.status() == 404 {
            json!({})
        } else {
            serde_json::from_str(&answer.text().await.unwrap()).unwrap()
        };
        let listed: BTreeSet<&str> = document["modules"][0]["versions"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|listed| listed["version"].as_str().unwrap())
            .collect();
        let kept = kept_events(&self.store).await.remove("acme").unwrap_or_default();
        let published = kept.iter().filter(|event| event["event"] == "publish");
        let published: Vec<&str> = published
            .map(|event| event["package"].as_str().unwrap().split_once(' ').unwrap().1)
            .collect();
        assert_eq!(published.len(), listed.len(), "{what}: one event for each version");
        assert!(published.iter().all(|version| listed.contains(version)), "{what}");
        for version in &self.ledger.acknowledged {
            assert!(
                listed.contains(version.as_str()),
                "{what}: {version} was acknowledged and is missing"
            );
        }
        for version in listed {
            if !self.ledger.fetched.insert(version.to_owned()) {
                continue;
            }
            let answer = get(format!("/v1/modules/{ADDRESS}/{version}/download")).await;
            assert_eq!(answer.status(), 204, "{what}: {version}");
            let link = answer.headers()["x-terraform-get"].to_str().unwrap();
            let link = stile_tests::terraform::as_fetched(link);
            let archive = broker.client().get(link).send().await.unwrap().bytes().await.unwrap();
            assert_eq!(
                Some(&hex::encode(Sha256::digest(archive))),
                self.ledger.sent.get(version),
                "{what}: {version}"
            );
        }
    }
}

/// Returns the permissions of a grant after a change that took place, or that the store refused.
fn changed(verb: &str, held: &str, becomes: &str) -> String {
    match (verb, held) {
        ("create", "") | ("delete", _) => becomes.to_owned(),
        ("update", held) if held.contains("download") => becomes.to_owned(),
        (_, held) => held.to_owned(),
    }
}

async fn outlives(backend: Backend, plan: Plan, test: &str) {
    let Some(mut registry) = Registry::new(backend, test).await else { return };
    let mut left = [plan.at_work, plan.at_start, plan.of_admin];
    let mut broker = registry.start().await;
    let first = mint(&broker, &registry.proof()).await.expect("a healthy broker mints");
    registry.ledger.tokens.push(first);
    let mut round = 0;
    while left.iter().sum::<u32>() > 0 {
        round += 1;
        let mut drawn = registry.chance.below(left.iter().sum::<u32>().into());
        let mut kind = 0;
        while drawn >= u64::from(left[kind]) {
            drawn -= u64::from(left[kind]);
            kind += 1;
        }
        left[kind] -= 1;
        let what = format!("seed {}, kill {round}, of kind {kind}", registry.chance.seed());
        match kind {
            0 => {
                registry.kill_at_work(broker, round, plan.work).await;
                broker = registry.start().await;
                registry.check(&broker, &what).await;
            }
            1 => {
                broker.kill_9();
                registry.kill_at_start().await;
                broker = registry.start().await;
                registry.check(&broker, &what).await;
            }
            _ => {
                registry.kill_admin().await;
                registry.check_operator(&what).await;
            }
        }
    }
    let Ledger { sent, acknowledged, fetched, .. } = &registry.ledger;
    let (sent, acknowledged, listed) = (sent.len(), acknowledged.len(), fetched.len());
    let _ = writeln!(
        std::io::stderr(),
        "{test}: {round} kills; of {sent} versions sent {acknowledged} were acknowledged, {listed} listed"
    );
    let (starts, changes, seed) = (&registry.starts, &registry.changes, registry.chance.seed());
    let _ = writeln!(
        std::io::stderr(),
        "{test}: {} at work, rotations {:?}, changes {:?}",
        registry.cut_at_work,
        starts.hits,
        changes.hits
    );
    assert!(
        registry.cut_at_work > 0 && acknowledged > 0,
        "seed {seed}: no kill hit a working broker"
    );
    for (what, aimed, kills) in
        [("rotations", starts, plan.at_start), ("changes", changes, plan.of_admin)]
    {
        let (before, during, after) =
            (aimed.hits(Hit::Before), aimed.hits(Hit::During), aimed.hits(Hit::After));
        // Of four kills, one is immediate, one at the first touch of the store, and one after the
        // work.
        assert!(
            before > 0 && during > kills / 20 && after >= kills / 4,
            "seed {seed}: of {what}, the kills hit {:?}",
            aimed.hits
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_two_hundred_kills_the_embedded_store_has_what_was_acknowledged_and_nothing_by_halves()
 {
    let plan = Plan { at_work: 50, at_start: 40, of_admin: 110, work: 60 };
    outlives(Backend::Embedded, plan, "kills on the embedded store").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_as_many_kills_as_there_is_time_for_the_store_on_aws_has_what_was_acknowledged() {
    let plan = Plan { at_work: 8, at_start: 6, of_admin: 16, work: 300 };
    outlives(Backend::Aws, plan, "kills on AWS").await;
}
