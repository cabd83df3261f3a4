//! Runs the real broker in the process of a test.
//!
//! The test sets the clock, and the broker asks a local STS. Requests arrive in memory or over TCP.

pub mod archives;
pub mod contract;
pub mod events;
pub mod grants;
pub mod issuers;
pub mod journal;
pub mod kept_events;
pub mod operator;
mod prepared;
pub mod reply;
pub mod served;
pub mod service_tokens;
pub mod signed_jwts;
pub mod test_clock;
pub mod trusts;
pub mod with_buckets;

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use serde_json::Value;
use stile_broker::app::Broker;
use stile_broker::audit::Folding;
use stile_broker::authn::gateway::IamSource;
use stile_broker::authn::sigv4::{Endpoint, Endpoints};
use stile_broker::boot;
use stile_broker::client_source::ClientSource;
use stile_broker::config::{AuthorizerBase, Config, MetricsConfig, StoreLocation};
use stile_broker::http::lambda::Function;
use stile_broker::http::{self, ConnectionTimeouts, Server};
use stile_core::clock::Clock;
use stile_core::package::SIGNED_URL_LIFETIME;
use stile_core::principal::Principal;
use stile_protocol::audience::Audience;
use stile_protocol::exchange::Namespaces;
use stile_protocol::names::{Namespace, Permission};
use stile_protocol::region::{REGIONS, Region};
use stile_store::{EmbeddedDeadlines, Store};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::aws::emulated::EmulatedAws;
use crate::aws::proxy::AwsProxy;
pub use crate::broker::archives::{large_zip, module_zip};
use crate::broker::operator::AsOperator as _;
pub(crate) use crate::broker::prepared::grant;
pub use crate::broker::prepared::{allow, make_data};
pub use crate::broker::reply::Reply;
use crate::broker::test_clock::TestClock;
use crate::dev_ca::Files;
use crate::sts::identity::Identity;
use crate::sts::local::LocalSts;
use crate::sts::proof::{Proof, document};
use crate::time_limits;

/// The time at which every test starts, in Unix seconds: 2026-11-20T10:11:12Z.
pub const NOW: i64 = 1_795_169_472;

/// The registry host of tests that name no other.
pub const HOST: &str = "registry.example.com";

/// The account of [`deploy`].
pub const ACCOUNT: &str = "111122223333";

/// Returns a session of the role `deploy`, which most tests use.
pub fn deploy() -> Identity {
    Identity::role(ACCOUNT, "deploy", "i-0abc")
}

/// Returns the canonical text of a role in [`ACCOUNT`].
pub fn role(name: &str) -> String {
    format!("aws:{ACCOUNT}:role/{name}")
}

/// The kind of store that a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The embedded store, in a folder.
    Embedded,
    /// DynamoDB, S3 and KMS, emulated by moto.
    Aws,
}

/// The place of the data of a test's registry. Brokers with the same place serve one registry.
#[derive(Debug, Clone)]
pub enum Place {
    /// A folder.
    Folder(Arc<TempDir>),
    /// An emulated AWS.
    Aws(Arc<EmulatedAws>),
}

impl Place {
    /// Creates an empty place. If a tool is missing, it records a skip and returns `None`.
    pub async fn new(backend: Backend) -> Option<Self> {
        match backend {
            Backend::Embedded => Some(Self::Folder(Arc::new(tempfile::tempdir().unwrap()))),
            Backend::Aws => EmulatedAws::start().await.map(|aws| Self::Aws(Arc::new(aws))),
        }
    }

    fn open(&self, audience: &Audience) -> (StoreLocation, Store) {
        match self {
            Self::Folder(data) => (
                StoreLocation::Folder(data.path().to_path_buf()),
                embedded(data.path(), time_limits::embedded()),
            ),
            Self::Aws(aws) => {
                let store = aws.store(Some(audience.as_str()));
                (
                    StoreLocation::Aws {
                        place: aws.place.clone(),
                        emulator: Some(aws.proxy.endpoint()),
                    },
                    store,
                )
            }
        }
    }
}

/// A broker in the process of the test, whose store is empty at the start.
pub struct TestBroker {
    /// The STS that the broker asks.
    pub sts: LocalSts,
    /// The broker.
    pub broker: Arc<Broker>,
    router: Router,
    clock: Arc<TestClock>,
    audience: String,
    place: Place,
}

impl TestBroker {
    /// Starts a broker for [`HOST`] on the embedded store. Its tokens live for at most an hour.
    pub fn start() -> Self {
        Self::start_with(HOST, 3600, Arc::new(tempfile::tempdir().unwrap()))
    }

    /// Starts a broker for [`HOST`] on that kind of store.
    ///
    /// If a tool is missing, it records a skip and returns `None`.
    pub async fn start_on(backend: Backend) -> Option<Self> {
        let place = Place::new(backend).await?;
        Some(Self::start_at(HOST, 3600, place, &REGIONS.iter().collect::<Vec<_>>()))
    }

    /// Starts a broker for [`HOST`] on an emulated AWS that no other test shares.
    pub async fn start_alone_on_aws() -> Option<Self> {
        let place = Place::Aws(Arc::new(EmulatedAws::start_alone().await?));
        Some(Self::start_at(HOST, 3600, place, &REGIONS.iter().collect::<Vec<_>>()))
    }

    /// Starts a broker for that host and data folder, with that longest token lifetime.
    pub fn start_with(host: &str, max_ttl: i64, data: Arc<TempDir>) -> Self {
        Self::start_in(host, max_ttl, data, &REGIONS.iter().collect::<Vec<_>>())
    }

    /// Starts a broker as [`Self::start_with`] does, for proofs of these regions only.
    pub fn start_in(
        host: &str,
        max_ttl: i64,
        data: Arc<TempDir>,
        regions: &[&'static Region],
    ) -> Self {
        Self::start_at(host, max_ttl, Place::Folder(data), regions)
    }

    /// Starts a broker as [`Self::start_in`] does, at any place.
    pub fn start_at(host: &str, max_ttl: i64, place: Place, regions: &[&'static Region]) -> Self {
        let audience = Audience::parse(host).unwrap();
        let (location, store) = place.open(&audience);
        Self::assemble(audience, max_ttl, place, (location, store), regions, LocalSts::endpoint)
    }

    /// Starts a broker for [`HOST`] at that place, with a proxy between it and its STS.
    pub fn start_with_sts_proxy(place: Place) -> (Self, AwsProxy) {
        let audience = Audience::parse(HOST).unwrap();
        let (location, store) = place.open(&audience);
        let mut line = None;
        let metered = |sts: &LocalSts| line.insert(AwsProxy::start(sts.endpoint())).endpoint();
        let test = Self::assemble(
            audience,
            3600,
            place,
            (location, store),
            &REGIONS.iter().collect::<Vec<_>>(),
            metered,
        );
        (test, line.unwrap())
    }

    fn assemble(
        audience: Audience,
        max_ttl: i64,
        place: Place,
        (location, store): (StoreLocation, Store),
        regions: &[&'static Region],
        asked_at: impl FnOnce(&LocalSts) -> String,
    ) -> Self {
        let host = audience.as_str().to_owned();
        let clock = Arc::new(TestClock::at(NOW));
        let (for_sts, for_broker) = (Arc::clone(&clock), Arc::clone(&clock));
        let sts = LocalSts::start([], Arc::new(move || for_sts.now()));
        let config = Config {
            host: Some(audience.clone()),
            store: location,
            listen: "127.0.0.1:0".parse().unwrap(),
            tls: None,
            // A test that serves TLS gives the files to the server itself.
            plain_http: false,
            clients: ClientSource::Connection,
            regions: regions.to_vec(),
            private_issuers: Vec::new(),
            max_ttl,
            default_ttl: 3600,
            iam_source: None,
            authorizer_base: None,
            openapi: false,
            event_bus: None,
            link_ttl: SIGNED_URL_LIFETIME,
            fips: false,
            sts: Endpoints::new([Endpoint::parse(&asked_at(&sts)).unwrap()]),
            audit_days: None,
            store_timeout: Some(time_limits::BACKSTOP),
            disk_reserve: None,
            sts_timeouts: time_limits::sts(),
            metrics: MetricsConfig::default(),
        };
        let broker = Arc::new(
            boot::assemble(
                &config,
                audience,
                store,
                None,
                Clock::from_fn(move || for_broker.now()),
                Folding::Off,
            )
            .unwrap(),
        );
        Self {
            sts,
            router: http::router(Arc::clone(&broker)),
            broker,
            clock,
            audience: host,
            place,
        }
    }

    /// Starts another broker of the same registry: same store, host and time, with empty caches.
    pub fn restarted(&self) -> Self {
        self.restarted_as(&self.audience, 3600)
    }

    /// Starts another broker of the same store for that host, with that longest token lifetime.
    pub fn restarted_as(&self, host: &str, max_ttl: i64) -> Self {
        let again =
            Self::start_at(host, max_ttl, self.place.clone(), &REGIONS.iter().collect::<Vec<_>>());
        again.clock.follow(&self.clock);
        again
    }

    /// Starts another broker of the same registry, behind another proxy to the same AWS.
    pub fn behind_another_proxy(&self) -> Self {
        let place = Place::Aws(Arc::new(self.aws().behind_another_proxy()));
        let again =
            Self::start_at(&self.audience, 3600, place, &REGIONS.iter().collect::<Vec<_>>());
        again.clock.follow(&self.clock);
        again
    }

    /// Starts another broker of the same registry over that store.
    pub fn over(&self, store: Store) -> Self {
        let audience = Audience::parse(&self.audience).unwrap();
        let (location, _) = self.place.open(&audience);
        let again = Self::assemble(
            audience,
            3600,
            self.place.clone(),
            (location, store),
            &REGIONS.iter().collect::<Vec<_>>(),
            LocalSts::endpoint,
        );
        again.clock.follow(&self.clock);
        again
    }

    /// Starts another broker of the same registry, which asks the STS at that URL.
    pub fn asking(&self, url: &str) -> Self {
        let audience = Audience::parse(&self.audience).unwrap();
        let opened = self.place.open(&audience);
        let again = Self::assemble(
            audience,
            3600,
            self.place.clone(),
            opened,
            &REGIONS.iter().collect::<Vec<_>>(),
            |_| url.to_owned(),
        );
        again.clock.follow(&self.clock);
        again
    }

    /// Returns the data folder of the embedded store.
    pub fn data(&self) -> &Path {
        match &self.place {
            Place::Folder(data) => data.path(),
            Place::Aws(_) => panic!("the store on AWS has no folder"),
        }
    }

    /// Returns the emulated AWS of the store.
    pub fn aws(&self) -> &EmulatedAws {
        match &self.place {
            Place::Folder(_) => panic!("the embedded store is not on AWS"),
            Place::Aws(aws) => aws,
        }
    }

    /// Returns the kind of store.
    pub fn backend(&self) -> Backend {
        match &self.place {
            Place::Folder(_) => Backend::Embedded,
            Place::Aws(_) => Backend::Aws,
        }
    }

    /// Makes the store fail: makes the keyring unreadable, or cuts the connection to AWS.
    pub fn break_store(&self) {
        match &self.place {
            Place::Folder(data) => {
                let keyring = data.path().join("keyring.json");
                if keyring.exists() {
                    std::fs::rename(&keyring, data.path().join("aside.json")).unwrap();
                }
                std::fs::create_dir(keyring).unwrap();
            }
            Place::Aws(aws) => aws.proxy.cut(),
        }
    }

    /// Undoes [`Self::break_store`].
    pub fn repair_store(&self) {
        match &self.place {
            Place::Folder(data) => {
                let (keyring, aside) =
                    (data.path().join("keyring.json"), data.path().join("aside.json"));
                std::fs::remove_dir(&keyring).unwrap();
                if aside.exists() {
                    std::fs::rename(aside, keyring).unwrap();
                }
            }
            Place::Aws(aws) => aws.proxy.repair(),
        }
    }

    /// Counts the archives in the store, including uploads in progress.
    pub async fn archives(&self) -> usize {
        fn files(folder: &Path) -> usize {
            let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            entries.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
        }
        match &self.place {
            Place::Folder(data) => {
                files(&data.path().join("archives")) + files(&data.path().join("incoming"))
            }
            Place::Aws(aws) => aws.objects().await,
        }
    }

    /// Downloads from a location as Terraform does: removes the checksum, and sorts the query.
    pub async fn fetch(&self, location: &str) -> (u16, Vec<u8>) {
        if location.starts_with(&format!("{}/", self.broker.origin)) {
            let reply = self.get_anonymously(location).await;
            return (reply.status.as_u16(), reply.body);
        }
        let client = crate::process::programs::client(None);
        let answer = client.get(crate::terraform::as_fetched(location)).send().await.unwrap();
        (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
    }

    /// Returns the time of the broker, in Unix seconds.
    pub fn time(&self) -> i64 {
        self.clock.now()
    }

    /// Makes the broker and its STS follow the system's clock, that many seconds ahead.
    pub fn follow_system_time(&self, ahead: i64) {
        self.clock.follow_system(ahead);
    }

    /// Stops the clock of the broker and of its STS at that time.
    pub fn set_time(&self, now: i64) {
        self.clock.set(now);
    }

    /// Moves the time forward.
    pub fn advance(&self, seconds: i64) {
        self.clock.advance(seconds);
    }

    /// Creates a grant.
    pub async fn grant(&self, principal: &str, namespace: &str, permissions: &[Permission]) {
        grant(self.store(), principal, namespace, permissions, self.time()).await;
    }

    /// Deletes a grant, which must exist.
    pub async fn delete_grant(&self, principal: &str, namespace: &str) {
        let principal = Principal::parse_stored(principal).unwrap();
        let done =
            self.store().as_operator().delete_grant(principal, namespace.parse().unwrap()).await;
        assert!(done.unwrap(), "the grant to delete exists");
    }

    /// Returns the store of the broker.
    pub fn store(&self) -> &Store {
        &self.broker.store
    }

    /// Creates a proof that this identity signs now for this registry.
    pub fn proof(&self, identity: &Identity) -> Proof {
        Proof::new(identity).audience(&self.audience).now(self.time())
    }

    /// Sends a JSON body to the token exchange.
    pub async fn exchange(&self, body: &Value) -> Reply {
        self.exchange_bytes(body.to_string()).await
    }

    /// Sends any body to the token exchange.
    pub async fn exchange_bytes(&self, body: impl Into<Body>) -> Reply {
        self.send(
            Request::post("/v1/token")
                .header("content-type", "application/json")
                .body(body.into())
                .unwrap(),
        )
        .await
    }

    /// Exchanges a proof for a token for all namespaces with these permissions.
    pub async fn token(&self, identity: &Identity, permissions: &[Permission]) -> String {
        self.token_for(identity, Namespaces::All, permissions, 3600).await
    }

    /// Exchanges a proof for a token for these namespaces.
    pub async fn token_for(
        &self,
        identity: &Identity,
        namespaces: Namespaces,
        permissions: &[Permission],
        ttl: i64,
    ) -> String {
        self.sts.add_identity(identity.clone());
        let proof = self.proof(identity).document(&document(ttl, namespaces, permissions)).build();
        let reply = self.exchange(&proof).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()["token"].as_str().unwrap().to_owned()
    }

    /// Sends `GET` with a token.
    pub async fn get(&self, path: &str, token: &str) -> Reply {
        self.send(
            Request::get(path)
                .header("authorization", format!("Bearer {token}"))
                .body(Body::empty())
                .unwrap(),
        )
        .await
    }

    /// Sends `GET` without a token.
    pub async fn get_anonymously(&self, path: &str) -> Reply {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    /// Publishes an archive.
    pub async fn publish(
        &self,
        address: &str,
        version: &str,
        archive: impl Into<Body>,
        token: &str,
    ) -> Reply {
        let request = Request::post(format!("/v1/modules/{address}/{version}"))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/zip");
        self.send(request.body(archive.into()).unwrap()).await
    }

    /// Sends a request to the router in memory, and checks that the OpenAPI document has the answer.
    pub async fn send(&self, request: Request<Body>) -> Reply {
        contract::send(self.router.clone(), request).await
    }

    /// Returns the same router as a Lambda function.
    ///
    /// `iam_source` is the API that it trusts, and `authorizer_base` is the path of the routes that
    /// it authorizes.
    pub fn function(&self, iam_source: Option<&str>, authorizer_base: Option<&str>) -> Function {
        let source = iam_source.map(|text| IamSource::parse(text).unwrap());
        let base = authorizer_base.map(|text| AuthorizerBase::parse(text).unwrap());
        Function::new(self.router.clone(), Arc::clone(&self.broker), source, base)
    }

    /// Serves over TCP with the default time limits, until the result is dropped. It uses TLS if the
    /// test gives certificate files.
    pub async fn serve(&self, tls: Option<&Files>) -> Serving {
        self.serve_with(0, tls, |router| router, ConnectionTimeouts::default()).await
    }

    /// Serves on that port of 127.0.0.1 with long time limits and a layer around the routes.
    pub async fn serve_on(
        &self,
        port: u16,
        tls: Option<&Files>,
        between: impl FnOnce(Router) -> Router,
    ) -> Serving {
        self.serve_with(port, tls, between, time_limits::connections()).await
    }

    async fn serve_with(
        &self,
        port: u16,
        tls: Option<&Files>,
        between: impl FnOnce(Router) -> Router,
        timeouts: ConnectionTimeouts,
    ) -> Serving {
        let tls = tls.map(Files::tls);
        let server = Server::bind((Ipv4Addr::LOCALHOST, port).into(), tls)
            .await
            .unwrap()
            .with_timeouts(timeouts);
        let address = server.address().unwrap();
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(server.run(between(self.router.clone()), async {
            let _ = stopped.await;
        }));
        Serving { address, _stop: stop }
    }
}

/// Creates the missing parts of a data folder, and opens it.
pub fn embedded(folder: &Path, deadlines: EmbeddedDeadlines) -> Store {
    Store::init_folder(folder, deadlines).unwrap();
    Store::open_folder(folder, deadlines).unwrap()
}

/// A broker that serves over TCP until the test drops this value.
pub struct Serving {
    /// The address that the broker listens on.
    pub address: std::net::SocketAddr,
    _stop: oneshot::Sender<()>,
}

/// Creates a list of namespaces.
pub fn namespaces(names: &[&str]) -> Namespaces {
    Namespaces::List(names.iter().map(|name| Namespace::parse(name).unwrap()).collect())
}
