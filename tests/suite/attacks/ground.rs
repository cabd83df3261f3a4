//! A warm broker under watch: the test counts its calls, and checks that no reply and no log line
//! contains a secret.

use axum::body::Body;
use axum::http::Request;
use serde_json::Value;
use stile_protocol::names::Permission::{CreateGrant, DeleteGrant, Download, Upload};
use stile_protocol::region::{REGIONS, Region};
use stile_tests::broker::journal::{Journal, Logged};
use stile_tests::broker::operator::AsOperator as _;
use stile_tests::broker::{Backend, HOST, Place, Reply, TestBroker, deploy, module_zip, role};
use stile_tests::jwt::issuer::Issuers;
use stile_tests::sts::identity::Identity;
use stile_tests::sts::local::Seen;

use super::file::{Calls, World};
use super::forge;

/// The longest allowed line of a log, in bytes: an error of 512 characters, and the fields that
/// every request or decision has.
pub(super) const LONGEST_LINE: usize = 1536;

/// The only headers that the broker sends to STS with a session's proof.
const TO_STS: [&str; 9] = [
    "accept",
    "authorization",
    "content-length",
    "content-type",
    "host",
    "x-amz-date",
    "x-amz-security-token",
    "x-stile-audience",
    "x-stile-request",
];

/// A broker with full caches and one module, and a token with every permission on the module's
/// namespace.
pub(super) struct Ground {
    pub(super) test: TestBroker,
    pub(super) token: String,
    journal: Journal,
}

/// The outcome of one request.
pub(super) struct Outcome {
    pub(super) reply: Reply,
    pub(super) calls: Calls,
    pub(super) logged: Logged,
    /// The requests that STS received.
    pub(super) asked: Vec<Seen>,
    /// Problems that are wrong for every request.
    pub(super) problems: Vec<String>,
}

impl Ground {
    /// Starts a broker on an empty store of that kind. Returns `None` if a tool is missing.
    pub(super) async fn new(backend: Backend, world: &World) -> Option<Self> {
        let journal = Journal::start();
        let place = Place::new(backend).await?;
        let named: Vec<&'static Region> =
            world.regions.iter().map(|name| Region::named(name).unwrap()).collect();
        let regions = if named.is_empty() { REGIONS.iter().collect() } else { named };
        let test = TestBroker::start_at(HOST, 3600, place, &regions);
        if let Some(now) = &world.now {
            test.set_time(seconds(now));
        }
        Some(Self::warm(test, journal).await)
    }

    /// Starts a broker that reads the keys of these issuers.
    pub(super) async fn believing(backend: Backend, issuers: &Issuers) -> Self {
        let journal = Journal::start();
        let place = Place::new(backend).await.expect("the suite checked the tools before");
        let regions: Vec<&'static Region> = REGIONS.iter().collect();
        let test = TestBroker::start_at(HOST, 3600, place, &regions).with_issuers(issuers);
        Self::warm(test, journal).await
    }

    /// Starts a broker with the default configuration.
    pub(super) async fn plain(backend: Backend) -> Self {
        Self::new(backend, &World::default()).await.expect("the suite checked the tools before")
    }

    async fn warm(test: TestBroker, journal: Journal) -> Self {
        let all = [CreateGrant, DeleteGrant, Download, Upload];
        for namespace in ["acme", "team-a"] {
            test.grant(&role("deploy"), namespace, &all).await;
        }
        let sources = ["git::https://git.example.com/acme"];
        let store = test.store().as_operator();
        store.allow_sources("acme", &sources, test.time()).await.unwrap();
        let token = test.token(&deploy(), &all).await;
        assert_eq!(
            test.publish("acme/vpc/aws", "1.0.0", module_zip("warm"), &token).await.status,
            201
        );
        let ground = Self { test, token, journal };
        ground.refresh().await;
        ground
    }

    /// Fills the caches, so that no request fills one while the test counts calls. The caches hold
    /// the caller's principal state, and the one keyring read in ten seconds that an unknown key id
    /// can cause.
    pub(super) async fn refresh(&self) {
        assert_eq!(self.test.get("/v1/whoami", &self.token).await.status, 200);
        let unknown = forge::under_an_unknown_key(&self.test).await;
        assert_eq!(self.test.get("/v1/whoami", &unknown).await.status, 401);
        self.forget();
    }

    /// Drops the calls and log lines so far. Fails if a task panicked after its request was
    /// answered.
    pub(super) fn forget(&self) {
        let panics = self.journal.taken().panics;
        assert!(panics.is_empty(), "a task panicked between two requests: {panics:?}");
        if self.test.backend() == Backend::Aws {
            self.test.aws().proxy.take_counts();
        }
    }

    /// Sends a request and checks everything that holds for every request. `secrets` are the
    /// secrets in the request.
    pub(super) async fn watch(&self, request: Request<Body>, secrets: &[String]) -> Outcome {
        self.watch_in(&self.test, request, secrets).await
    }

    /// Does the same in another process of the same registry.
    pub(super) async fn watch_in(
        &self,
        process: &TestBroker,
        request: Request<Body>,
        secrets: &[String],
    ) -> Outcome {
        self.forget();
        let before = process.sts.calls();
        let path = request.uri().path().to_owned();
        let reply = process.send(request).await;
        let asked: Vec<Seen> =
            process.sts.requests().split_off(before.min(process.sts.requests().len()));
        let (calls, logged) = (self.calls(process.sts.calls() - before), self.journal.taken());
        let mut outcome = Outcome { reply, calls, logged, asked, problems: Vec::new() };
        outcome.look(&path, secrets);
        if process.backend() == Backend::Aws && outcome.calls.reads == usize::MAX {
            outcome.problems.push("the broker called S3".to_owned());
        }
        outcome
    }

    /// Does the same, and also checks the answer, the calls and that nothing is wrong.
    pub(super) async fn expect(
        &self,
        request: Request<Body>,
        secrets: &[String],
        answer: &str,
        calls: &str,
    ) -> Outcome {
        let outcome = self.watch(request, secrets).await;
        self.settle(outcome, answer, calls)
    }

    /// Does the same in another process.
    pub(super) async fn expect_in(
        &self,
        process: &TestBroker,
        request: Request<Body>,
        secrets: &[String],
        answer: &str,
        calls: &str,
    ) -> Outcome {
        let outcome = self.watch_in(process, request, secrets).await;
        self.settle(outcome, answer, calls)
    }

    fn settle(&self, outcome: Outcome, answer: &str, calls: &str) -> Outcome {
        let said = outcome.reply.text();
        assert_eq!(outcome.reply.error(), answer, "{said}");
        self.cost(&outcome, Calls::parse(calls).unwrap()).map_or(Ok(()), Err).unwrap();
        assert!(outcome.problems.is_empty(), "{answer}: {:?}\n{said}", outcome.problems);
        outcome
    }

    /// Says how the calls differ from the budget. The embedded store calls no service, so only
    /// calls to STS count there.
    pub(super) fn cost(&self, outcome: &Outcome, budget: Calls) -> Option<String> {
        let budget = if self.test.backend() == Backend::Aws {
            budget
        } else {
            Calls { sts: budget.sts, ..Calls::default() }
        };
        (outcome.calls != budget)
            .then(|| format!("it cost {:?} instead of {budget:?}", outcome.calls))
    }

    fn calls(&self, sts: usize) -> Calls {
        let mut calls = Calls { sts, ..Calls::default() };
        if self.test.backend() == Backend::Embedded {
            return calls;
        }
        for (name, count) in self.test.aws().proxy.take_counts() {
            match name.as_str() {
                "dynamodb GetItem"
                | "dynamodb BatchGetItem"
                | "dynamodb Query"
                | "dynamodb Scan" => calls.reads += count,
                other if other.starts_with("dynamodb ") => calls.writes += count,
                other if other.starts_with("kms ") => calls.kms += count,
                // No request here may read an archive, so this is a number that no budget has.
                _ => calls.reads = usize::MAX,
            }
        }
        calls
    }
}

impl Outcome {
    fn look(&mut self, path: &str, secrets: &[String]) {
        let mut problems = Vec::new();
        let mut wrong = |problem: String| problems.push(problem);
        if self.reply.status == 500 {
            wrong("the broker failed".to_owned());
        }
        let (text, headers) = (self.reply.text(), format!("{:?}", self.reply.headers));
        for secret in secrets.iter().filter(|secret| secret.len() > 7) {
            if text.contains(secret.as_str()) || headers.contains(secret.as_str()) {
                wrong(format!("the reply contains `{secret:.60}`"));
            }
        }
        let mut given: Vec<String> = secrets.to_vec();
        for field in ["token", "access_token"] {
            given.extend(self.reply.json()[field].as_str().map(str::to_owned));
        }
        given.extend(
            ["stile_v4.local.", "X-Amz-", "x-amz-", "AWS4-HMAC", "Bearer ", "&signature="]
                .map(str::to_owned),
        );
        for line in self.logged.lines() {
            if let Some(secret) =
                given.iter().find(|secret| secret.len() > 6 && line.contains(secret.as_str()))
            {
                wrong(format!("the log contains `{secret:.60}`: {line}"));
            }
            if line.len() > LONGEST_LINE || line.chars().any(|c| c.is_control()) {
                wrong(format!(
                    "a log line of {} bytes, or one with control characters: {line:.200}",
                    line.len()
                ));
            }
            if line.contains("panic") {
                wrong(format!("the log contains a panic: {line}"));
            }
        }
        for written in [&self.logged.human, &self.logged.json] {
            if written.events != written.text.lines().count() {
                wrong(format!(
                    "the number of lines is not the number of events, {}: {}",
                    written.events, written.text
                ));
            }
        }
        if self.logged.json.text.lines().any(|line| serde_json::from_str::<Value>(line).is_err()) {
            wrong(format!("a line is not JSON: {}", self.logged.json.text));
        }
        if !self.logged.panics.is_empty() {
            wrong(format!("a task panicked: {:?}", self.logged.panics));
        }
        if self.logged.human.text.lines().filter(|line| line.contains(" status=")).count() != 1 {
            wrong(format!(
                "a request to {path} has more or less than one line: {}",
                self.logged.human.text
            ));
        }
        for asked in &self.asked {
            let expected: Vec<_> = TO_STS
                .into_iter()
                .filter(|name| *name != "x-amz-security-token" || asked.header(name).is_some())
                .collect();
            let plain = asked.method == "POST"
                && asked.path == "/"
                && asked.body == b"Action=GetCallerIdentity&Version=2011-06-15";
            if !plain
                || asked.header_names() != expected
                || asked.header("x-stile-audience") != Some(HOST)
            {
                wrong(format!("STS received a request that is not the template: {asked:?}"));
            }
        }
        self.problems.extend(problems);
    }
}

/// Returns the parts of an identity and its proof that no reply and no log may contain.
pub(super) fn secrets(identity: &Identity, proof: &Value) -> Vec<String> {
    let mut secrets = vec![identity.access_key_id.clone(), identity.secret_access_key.clone()];
    secrets.extend(identity.session_token.clone());
    secrets.extend(
        ["signature", "access_key_id", "session_token"]
            .iter()
            .filter_map(|field| proof[*field].as_str().map(str::to_owned)),
    );
    secrets
}

/// Builds the request of an exchange.
pub(super) fn exchange(body: impl Into<Body>) -> Request<Body> {
    Request::post("/v1/token").header("content-type", "application/json").body(body.into()).unwrap()
}

/// Builds a `GET` request with a token.
pub(super) fn get(path: &str, token: &str) -> Request<Body> {
    Request::get(path)
        .header("authorization", format!("Bearer {token}"))
        .body(Body::empty())
        .unwrap()
}

/// Returns the Unix seconds of an RFC 3339 time.
pub(super) fn seconds(text: &str) -> i64 {
    chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp()
}
