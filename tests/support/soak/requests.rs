//! Sends the requests of the soak, and lists the answers that each may get. Every request is new.

use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use stile_core::principal::Principal;
use stile_protocol::exchange::Namespaces;
use stile_protocol::names::Permission::{self, Download, Upload};
use stile_store::Store;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::broker::operator::{kept, operator};
use crate::broker::served::system_time;
use crate::broker::{ACCOUNT, deploy, make_data, module_zip, role};
use crate::process::programs::{Broker, Setup, free_port};
use crate::sts::identity::Identity;
use crate::sts::local::LocalSts;
use crate::sts::proof::{Proof, document, with};
use crate::time_limits;

const MODULE: &str = "/v1/modules/acme/vpc/aws";

/// The longest time that a slow client may stay connected.
const CUT: Duration = Duration::from_secs(20);

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Lists the versions of a module.
    Versions,
    /// Asks for the location of an archive.
    Download,
    /// Downloads the archive.
    Archive,
    /// Asks who the caller is.
    Whoami,
    /// Exchanges a valid proof for a token.
    Mint,
    /// Publishes a new version.
    Publish,
    /// Sends an invalid token, in four forms.
    GarbageToken,
    /// Sends an invalid proof, in four forms.
    GarbageExchange,
    /// Sends an expired token.
    Expired,
    /// Sends a revoked token.
    Revoked,
    /// Sends a token without a grant on the namespace.
    Ungranted,
    /// Sends one proof twice at once.
    Replayed,
    /// Sends a body or a header that is too long.
    Oversized,
    /// Sends one byte per second.
    Slow,
}

impl Kind {
    /// Returns whether this is a successful read, whose latency counts.
    pub(super) fn is_read(self) -> bool {
        matches!(self, Self::Versions | Self::Download | Self::Archive | Self::Whoami)
    }

    /// Returns the answers that this kind may get.
    pub(super) fn expected(self) -> &'static [&'static str] {
        match self {
            Self::Versions | Self::Archive | Self::Whoami | Self::Mint => &["200"],
            Self::Download => &["204"],
            Self::Publish => &["201"],
            Self::GarbageToken | Self::Expired | Self::Revoked => &["401"],
            Self::GarbageExchange => {
                &["400 invalid_request", "400 bad_region", "401 proof_expired"]
            }
            Self::Ungranted => &["403"],
            Self::Replayed => &["200, 401 proof_replayed"],
            Self::Oversized => &["413 too_large", "431"],
            Self::Slow => &["cut off"],
        }
    }
}

/// A running broker, its STS, and the tokens of the soak.
pub(super) struct Registry {
    broker: Broker,
    sts: LocalSts,
    deploy: Identity,
    good: String,
    short: (Instant, String),
    revoked: String,
    stranger: String,
    mints: AtomicI64,
    sent: AtomicU64,
    _folder: TempDir,
}

impl Registry {
    pub(super) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        make_data(&data, &role("deploy"), "acme", &[Download, Upload]).await;
        let sts = LocalSts::start([], Arc::new(system_time));
        // Discard the log: a million lines would fill the disk.
        let broker =
            Setup::new(free_port(), &data).sts(&sts.endpoint()).start(Path::new("/dev/null")).await;
        let named = |name: &str| Identity::role(ACCOUNT, name, "i-0abc");
        let (deploy, gone, stranger) = (deploy(), named("gone"), named("stranger"));
        let store = Store::open_folder(&data, time_limits::embedded()).unwrap();
        for (who, namespace) in [("gone", "acme"), ("stranger", "elsewhere")] {
            crate::broker::grant(&store, &role(who), namespace, &[Download], system_time()).await;
        }
        let mut registry = Self {
            broker,
            sts,
            deploy: deploy.clone(),
            good: String::new(),
            short: (Instant::now(), String::new()),
            revoked: String::new(),
            stranger: String::new(),
            mints: AtomicI64::new(0),
            sent: AtomicU64::new(0),
            _folder: folder,
        };
        for identity in [&deploy, &gone, &stranger] {
            registry.sts.add_identity(identity.clone());
        }
        registry.good = registry.token(&deploy, 43_200, &[Download, Upload]).await;
        registry.short = (Instant::now(), registry.token(&deploy, 60, &[Download]).await);
        registry.revoked = registry.token(&gone, 43_200, &[Download]).await;
        registry.stranger = registry.token(&stranger, 43_200, &[Download]).await;
        store
            .revoke_principal(
                &operator(),
                Principal::parse_stored(&role("gone")).unwrap(),
                &kept(system_time()),
            )
            .await
            .unwrap();
        assert_eq!(registry.publish("vpc", "1.0.0").await, "201");
        registry
    }

    /// Returns the resident memory of the broker, in KiB.
    pub(super) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.broker.id()))
            .unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default()
    }

    /// Returns the number of calls to STS beyond one for each valid proof.
    pub(super) fn unexpected_calls(&self) -> i64 {
        i64::try_from(self.sts.calls()).unwrap() - self.mints.load(Ordering::SeqCst)
    }

    /// Sends a request, and returns the answer and its latency. `None` if it is too early for that
    /// kind.
    pub(super) async fn send(&self, kind: Kind) -> Option<(String, Duration)> {
        let n = self.sent.fetch_add(1, Ordering::Relaxed);
        let started = Instant::now();
        let outcome = match kind {
            Kind::Versions => self.get(&format!("{MODULE}/versions"), &self.good).await,
            Kind::Download => self.get(&format!("{MODULE}/1.0.0/download"), &self.good).await,
            Kind::Whoami => self.get("/v1/whoami", &self.good).await,
            Kind::Archive => return Some(self.archive().await),
            Kind::Mint => {
                let proof = self.proof(&self.deploy, 3600, &[Download]).to_string();
                // The time to sign does not count.
                let started = Instant::now();
                return Some((self.exchange(proof).await, started.elapsed()));
            }
            Kind::Publish => self.publish(&format!("m{}", n / 200_000), &format!("1.0.{n}")).await,
            Kind::GarbageToken => {
                self.get(&format!("{MODULE}/versions"), &self.garbage_token(n)).await
            }
            Kind::GarbageExchange => self.exchange(self.garbage_exchange(n)).await,
            // The broker may cache a grant for ten seconds, and this token is valid for sixty.
            Kind::Expired if self.short.0.elapsed() < Duration::from_secs(62) => return None,
            Kind::Expired => self.get(&format!("{MODULE}/versions"), &self.short.1).await,
            Kind::Revoked if self.short.0.elapsed() < Duration::from_secs(12) => return None,
            Kind::Revoked => self.get(&format!("{MODULE}/versions"), &self.revoked).await,
            Kind::Ungranted => self.get(&format!("{MODULE}/versions"), &self.stranger).await,
            Kind::Replayed => self.replayed().await,
            Kind::Oversized if n.is_multiple_of(2) => self.exchange(" ".repeat(17 * 1024)).await,
            Kind::Oversized => {
                self.get(&format!("{MODULE}/versions"), &"a".repeat(60 * 1024)).await
            }
            Kind::Slow => self.slow().await,
        };
        Some((outcome, started.elapsed()))
    }

    async fn token(&self, identity: &Identity, ttl: i64, permissions: &[Permission]) -> String {
        let answer = self
            .post_proof(self.proof(identity, ttl, permissions).to_string())
            .send()
            .await
            .unwrap();
        let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        body["token"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned()
    }

    /// Creates a valid proof, for which the broker may ask STS once.
    fn proof(&self, identity: &Identity, ttl: i64, permissions: &[Permission]) -> Value {
        self.mints.fetch_add(1, Ordering::SeqCst);
        let document = document(ttl, Namespaces::All, permissions);
        Proof::new(identity)
            .audience(&self.broker.host())
            .now(system_time())
            .document(&document)
            .build()
    }

    fn post_proof(&self, body: String) -> reqwest::RequestBuilder {
        self.broker
            .client()
            .post(self.broker.url("/v1/token"))
            .header("content-type", "application/json")
            .body(body)
    }

    async fn exchange(&self, body: String) -> String {
        outcome(self.post_proof(body)).await
    }

    async fn get(&self, path: &str, token: &str) -> String {
        outcome(self.broker.client().get(self.broker.url(path)).bearer_auth(token)).await
    }

    async fn archive(&self) -> (String, Duration) {
        let asked = self
            .broker
            .client()
            .get(self.broker.url(&format!("{MODULE}/1.0.0/download")))
            .bearer_auth(&self.good)
            .send()
            .await;
        let location = asked.ok().and_then(|answer| {
            Some(answer.headers().get("x-terraform-get")?.to_str().ok()?.to_owned())
        });
        let Some(location) = location else { return ("no location".to_owned(), Duration::ZERO) };
        let started = Instant::now();
        (outcome(self.broker.client().get(&location)).await, started.elapsed())
    }

    async fn publish(&self, name: &str, version: &str) -> String {
        let request = self
            .broker
            .client()
            .post(self.broker.url(&format!("/v1/modules/acme/{name}/aws/{version}")));
        outcome(
            request
                .bearer_auth(&self.good)
                .header("content-type", "application/zip")
                .body(module_zip(version)),
        )
        .await
    }

    async fn replayed(&self) -> String {
        let proof = self.proof(&self.deploy, 600, &[Download]).to_string();
        let (one, two) = tokio::join!(self.exchange(proof.clone()), self.exchange(proof));
        let mut outcomes = [one, two];
        outcomes.sort();
        outcomes.join(", ")
    }

    async fn slow(&self) -> String {
        let Ok(stream) = TcpStream::connect(self.broker.host()).await else {
            return "not taken".to_owned();
        };
        let (mut read, mut write) = stream.into_split();
        let drip = async {
            let mut tick = tokio::time::interval(Duration::from_secs(1));
            let mut next: &[u8] = b"GET /healthz HTTP/1.1\r\nx-slow: ";
            while write.write_all(next).await.is_ok() {
                next = b"x";
                tick.tick().await;
            }
        };
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(CUT, async {
            tokio::select! { _ = read.read_to_end(&mut rest) => {}, () = drip => {} }
        });
        if ended.await.is_ok() { "cut off".to_owned() } else { "still there".to_owned() }
    }

    fn garbage_token(&self, n: u64) -> String {
        let footer = || self.good.rsplit_once('.').map_or("", |(_, footer)| footer).to_owned();
        match n % 4 {
            0 => format!(
                "stile_v4.local.{}.{}",
                random(200),
                URL_SAFE_NO_PAD.encode(format!("{{\"kid\":\"{}\"}}", random(16)))
            ),
            1 => format!("stile_v4.local.{}.{}", random(200), footer()),
            2 => random(100),
            _ => self.good[..self.good.len() - 1 - usize::try_from(n % 100).unwrap()].to_owned(),
        }
    }

    fn garbage_exchange(&self, n: u64) -> String {
        static OLD: OnceLock<Value> = OnceLock::new();
        let old = OLD.get_or_init(|| {
            Proof::new(&self.deploy).audience(&self.broker.host()).now(system_time() - 3600).build()
        });
        let mut digest = [0; 32];
        getrandom::fill(&mut digest).unwrap();
        let fresh = with(old.clone(), "signature", hex::encode(digest));
        match n % 4 {
            0 => random(300),
            1 => fresh.to_string(),
            2 => with(fresh, &random(8), "x").to_string(),
            _ => with(fresh, "request", random(80)).to_string(),
        }
    }
}

/// Sends a request, and returns the status and the error code, if the answer has one.
async fn outcome(request: reqwest::RequestBuilder) -> String {
    let Ok(answer) = request.send().await else { return "no answer".to_owned() };
    let status = answer.status();
    let Ok(body) = answer.bytes().await else { return "half an answer".to_owned() };
    if status.is_success() {
        return status.as_u16().to_string();
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    match body["error"].as_str() {
        Some(code) => format!("{} {code}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

fn random(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random).unwrap();
    URL_SAFE_NO_PAD.encode(random)
}
