//! The uses of a registry, each as a flow that a test can repeat while a service fails.

use std::cell::Cell;

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use stile_broker::http::lambda::Function;
use stile_core::principal::{Principal, UniqueId};
use stile_core::token::TokenId;
use stile_protocol::names::Permission::{self, CreateGrant, Download, Upload};
use stile_store::{Change, Created, SingleUseOutcome, StoreError, Updated};
use stile_tests::aws::proxy::{AwsProxy, Fault};
use stile_tests::broker::grants::path_of;
use stile_tests::broker::operator::AsOperator as _;
use stile_tests::broker::{Backend, Reply, TestBroker, deploy, large_zip, module_zip, role};
use stile_tests::lambda::events::{Sent, Shape, golden};
use stile_tests::process::programs::client;

use crate::{authorizer, gateway, lambda};

const VERSIONS: &str = "/v1/modules/acme/vpc/aws/versions";

/// The shape whose requests carry the least, so that a large archive can be as small as possible.
const SHAPE: Shape = Shape::LoadBalancer;

const DAY: i64 = 24 * 3600;

/// The uses of a registry, each from a process with empty caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    Versions,
    Download,
    List,
    Whoami,
    Publish,
    Ready,
    Mint,
    /// A mint on a gateway's identity: a pin and no single use.
    Pin,
    /// An operator revokes a token.
    Revoke,
    /// An operator creates a grant.
    Grant,
    /// An operator changes a grant.
    Change,
    /// An operator deletes a grant.
    Ungrant,
    /// A bearer creates a grant.
    Give,
    /// A bearer deletes a grant of `create_grant`, for which another one must stay.
    Take,
    /// An operator lifts the revocation of a principal.
    Lift,
    /// An operator repins a role that was deleted and created again.
    Unpin,
    /// A mint for a caller that a gateway verified.
    Gateway,
    /// A gateway asks the authorizer about a token.
    Authorizer,
    /// A publisher begins an upload session.
    Begin,
    /// The archive is in the bucket, and the publisher completes the upload.
    Complete,
    /// A reader looks at the details of a version.
    Show,
    /// A reader searches modules.
    Search,
    /// A publisher looks at the downloads of a module.
    Usage,
    /// A publisher deprecates a version.
    Deprecate,
    /// A publisher unpublishes a version.
    Unpublish,
    /// A publisher restores an unpublished version.
    Republish,
    /// A publisher repeats a version whose archive is missing in the bucket.
    Restore,
    /// An operator drops every key.
    RevokeAll,
    /// A mint when the newest key is a day old.
    Rotation,
    /// The first mint of a registry.
    FirstMint,
}

impl Flow {
    /// Flows that remove the registry's keys come last, since they end the tokens of the others.
    pub(crate) const ALL: [Self; 30] = [
        Self::Versions,
        Self::Download,
        Self::List,
        Self::Whoami,
        Self::Publish,
        Self::Ready,
        Self::Mint,
        Self::Pin,
        Self::Revoke,
        Self::Grant,
        Self::Change,
        Self::Ungrant,
        Self::Give,
        Self::Take,
        Self::Lift,
        Self::Unpin,
        Self::Gateway,
        Self::Authorizer,
        Self::Begin,
        Self::Complete,
        Self::Show,
        Self::Search,
        Self::Usage,
        Self::Deprecate,
        Self::Unpublish,
        Self::Republish,
        Self::Restore,
        Self::Rotation,
        Self::FirstMint,
        Self::RevokeAll,
    ];

    /// Returns whether a flow changes keys or objects that other flows depend on, or would repeat its
    /// commit because of other flows.
    const fn needs_own_store(self) -> bool {
        self.changes_life()
            || matches!(self, Self::Restore | Self::Rotation | Self::FirstMint | Self::RevokeAll)
    }

    /// Returns whether a flow changes the life of a version.
    const fn changes_life(self) -> bool {
        matches!(self, Self::Deprecate | Self::Unpublish | Self::Republish)
    }

    const fn mints(self) -> bool {
        matches!(self, Self::Mint | Self::Rotation | Self::FirstMint)
    }
}

/// A registry on AWS with one module, and a token that reads and writes it.
pub(crate) struct Registry {
    test: TestBroker,
    token: String,
    cases: Cell<u32>,
}

/// One run of a flow, which a test can repeat.
pub(crate) struct Case<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) flow: Flow,
    pub(crate) process: TestBroker,
    pub(crate) name: String,
    pub(crate) proof: Value,
    pub(crate) jti: TokenId,
    /// The upload session, if the flow completes one.
    pub(crate) upload: String,
}

/// The answer of a flow, as a client sees it.
#[derive(Debug)]
pub(crate) struct FlowAnswer {
    pub(crate) status: u16,
    pub(crate) retry_after: String,
    pub(crate) text: String,
}

impl From<Reply> for FlowAnswer {
    fn from(reply: Reply) -> Self {
        Self {
            status: reply.status.as_u16(),
            retry_after: reply.header("retry-after").to_owned(),
            text: reply.text(),
        }
    }
}

impl FlowAnswer {
    /// Makes an answer from the result of an operator's program, in the form of the service.
    fn of<T>(outcome: Result<T, impl std::fmt::Display>) -> Self {
        match outcome {
            Ok(_) => Self { status: 200, retry_after: String::new(), text: String::new() },
            Err(error) => Self {
                status: 503,
                retry_after: "2".to_owned(),
                text: format!("store_unavailable: {error}"),
            },
        }
    }
}

impl Registry {
    pub(crate) async fn start() -> Option<Self> {
        let test = TestBroker::start_on(Backend::Aws).await?;
        test.grant(&role("deploy"), "acme", &Permission::ALL).await;
        let token = test.token(&deploy(), &Permission::ALL).await;
        assert_eq!(
            test.publish("acme/vpc/aws", "1.0.0", module_zip("hello"), &token).await.status,
            201
        );
        test.aws().proxy.take_counts();
        Some(Self { test, token, cases: Cell::new(1) })
    }

    /// Starts a registry for each flow, each with its own proxy. Some have their own store as well.
    pub(crate) async fn for_each_flow() -> Option<Vec<(Flow, Self)>> {
        let shared = Self::start().await?;
        let mut registries = Vec::new();
        for (n, flow) in (1..).zip(Flow::ALL) {
            let registry = match flow.needs_own_store() {
                true => Self::start().await?,
                false => Self {
                    test: shared.test.behind_another_proxy(),
                    token: shared.token.clone(),
                    cases: Cell::default(),
                },
            };
            registry.cases.set(if flow == Flow::Rotation { 1 } else { n * 1000 });
            registries.push((flow, registry));
        }
        Some(registries)
    }

    pub(crate) fn proxy(&self) -> &AwsProxy {
        &self.test.aws().proxy
    }

    pub(crate) async fn case(&self, flow: Flow) -> Case<'_> {
        let n = self.cases.get();
        self.cases.set(n + 1);
        let process = self.test.restarted();
        let name = format!("1.0.{n}");
        let (mut upload, who) = (String::new(), principal(&role(&name)));
        match flow {
            // So late that the key of the previous case is also a day old.
            Flow::Rotation => process.advance(i64::from(n) * (DAY + 3600)),
            Flow::FirstMint => {
                let keyring = json!({"Key": {"pk": {"S": "keyring"}, "sk": {"S": "keyring"}}});
                self.test.aws().dynamodb("DeleteItem", keyring).await;
            }
            // A key to drop, since the previous case may have dropped all.
            Flow::RevokeAll => drop(self.test.restarted().token(&deploy(), &[Download]).await),
            Flow::Change | Flow::Ungrant => {
                self.test.grant(who.as_str(), "acme", &[Download]).await;
            }
            Flow::Take => self.test.grant(who.as_str(), "acme", &[CreateGrant]).await,
            Flow::Lift => {
                assert!(
                    self.test
                        .store()
                        .as_operator()
                        .revoke_principal(who, self.test.time())
                        .await
                        .unwrap()
                );
            }
            Flow::Unpin => pin(&self.test, &name, who).await.unwrap(),
            Flow::Restore => self.test.aws().lose_objects().await,
            Flow::Complete => upload = self.begun(&name).await,
            Flow::Deprecate | Flow::Unpublish | Flow::Republish => {
                let archive = module_zip(&name);
                let published =
                    self.test.publish("acme/vpc/aws", &name, archive, &self.token).await;
                assert_eq!(published.status, 201);
                if flow == Flow::Republish {
                    let gone = change_life(&self.test, "DELETE", &name, &self.token).await;
                    assert_eq!(gone.status, 200);
                }
            }
            _ => {}
        }
        let identity = deploy();
        process.sts.add_identity(identity.clone());
        let proof = process.proof(&identity).build();
        self.proxy().take_counts();
        Case { registry: self, flow, process, name, proof, jti: TokenId::random().unwrap(), upload }
    }

    /// Begins an upload of that version, and puts its archive into the bucket.
    pub(crate) async fn begun(&self, version: &str) -> String {
        let answer = begin(&self.test, version, &self.token).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        let answer = answer.json();
        let mut put = client(None).put(answer["url"].as_str().unwrap());
        for (name, value) in answer["headers"]
            .as_object()
            .unwrap()
            .iter()
            .filter(|(name, _)| *name != "content-length")
        {
            put = put.header(name, value.as_str().unwrap());
        }
        assert_eq!(put.body(large()).send().await.unwrap().status(), 200);
        answer["upload"].as_str().unwrap().to_owned()
    }

    /// Returns the calls of a healthy run.
    ///
    /// A run in which the broker repeats a call has more calls than steps. So this is the shortest of
    /// three runs.
    pub(crate) async fn calls(&self, flow: Flow) -> Vec<String> {
        let mut runs = Vec::new();
        for _ in 0..3 {
            let case = self.case(flow).await;
            let answer = case.run().await;
            assert!(answer.status < 300, "{flow:?}: {answer:?}");
            runs.push(self.proxy().take_names());
        }
        runs.into_iter().min_by_key(Vec::len).unwrap_or_default()
    }
}

impl Case<'_> {
    pub(crate) async fn run(&self) -> FlowAnswer {
        let (process, token) = (&self.process, self.registry.token.as_str());
        match self.flow {
            Flow::Versions => process.get(VERSIONS, token).await.into(),
            Flow::Download => {
                process.get("/v1/modules/acme/vpc/aws/1.0.0/download", token).await.into()
            }
            Flow::List => process.get("/v1/modules", token).await.into(),
            Flow::Whoami => process.get("/v1/whoami", token).await.into(),
            Flow::Publish => process
                .publish("acme/vpc/aws", &self.name, module_zip(&self.name), token)
                .await
                .into(),
            Flow::Ready => process.get_anonymously("/readyz").await.into(),
            Flow::Mint | Flow::Rotation | Flow::FirstMint => {
                process.exchange(&self.proof).await.into()
            }
            Flow::Pin => FlowAnswer::of(pin(process, &self.name, self.who()).await),
            Flow::Unpin => FlowAnswer::of(process.store().as_operator().unpin(self.who()).await),
            Flow::Lift => FlowAnswer::of(process.store().as_operator().lift(self.who()).await),
            Flow::Change => {
                let change = Change { set: [Upload].into_iter().collect(), ..Change::default() };
                FlowAnswer::of(
                    process
                        .store()
                        .as_operator()
                        .update_grant(self.who(), "acme".parse().unwrap(), change)
                        .await
                        .map(|updated| {
                            assert!(matches!(updated, Updated::Done { .. }), "{updated:?}");
                        }),
                )
            }
            Flow::Ungrant => FlowAnswer::of(
                process
                    .store()
                    .as_operator()
                    .delete_grant(self.who(), "acme".parse().unwrap())
                    .await,
            ),
            Flow::Give => {
                let new = json!({"principal": self.who(), "namespace": "acme", "permissions": ["download"]});
                process.ask("POST", "/v1/grants", token, &new).await.into()
            }
            Flow::Take => {
                let path = path_of(self.who().as_str(), "acme");
                let taken = process.ask("DELETE", &path, token, &Value::Null).await;
                // A repeated run finds nothing any more.
                if taken.error() == "404 not_found" {
                    FlowAnswer::of(Ok::<_, StoreError>(()))
                } else {
                    taken.into()
                }
            }
            Flow::RevokeAll => {
                FlowAnswer::of(process.store().as_operator().drop_keys().await.map(drop))
            }
            Flow::Gateway => {
                let mut event = golden("iam_function_url");
                let (whom, [_, user, caller, _]) = gateway::identity(&mut event);
                (whom[user], whom[caller]) = (deploy().user_id.into(), deploy().user_id.into());
                through(&process.function(Some(gateway::URL), None), Shape::FunctionUrl, &event)
                    .await
                    .into()
            }
            Flow::Authorizer => {
                let event = authorizer::question("authorizer_request_v2", token);
                let answer =
                    lambda::answer(&process.function(None, Some("/terraform")), &event).await;
                FlowAnswer::of(
                    answer.map(|answer| assert_eq!(answer["isAuthorized"], true, "{answer}")),
                )
            }
            Flow::Begin => begin(process, &self.name, token).await.into(),
            Flow::Complete => {
                let path =
                    format!("/v1/modules/acme/vpc/aws/{}/uploads/{}", self.name, self.upload);
                let event = SHAPE.event(&Sent::new("POST", path).bearer(token));
                through(&process.function(None, None), SHAPE, &event).await.into()
            }
            Flow::Show => process.get("/v1/modules/acme/vpc/aws/1.0.0", token).await.into(),
            Flow::Search => process.get("/v1/modules/search?q=vpc", token).await.into(),
            Flow::Usage => process.get("/v1/modules/acme/vpc/aws/usage", token).await.into(),
            Flow::Deprecate => {
                let path = format!("{}/deprecation", self.name);
                change_life(process, "PUT", &path, token).await.into()
            }
            Flow::Unpublish => change_life(process, "DELETE", &self.name, token).await.into(),
            Flow::Republish => {
                let path = format!("{}/restore", self.name);
                change_life(process, "POST", &path, token).await.into()
            }
            Flow::Restore => {
                process.publish("acme/vpc/aws", "1.0.0", module_zip("hello"), token).await.into()
            }
            Flow::Revoke => FlowAnswer::of(
                process.store().as_operator().revoke_token(self.jti.clone(), process.time()).await,
            ),
            Flow::Grant => FlowAnswer::of(
                process.store().as_operator().create_grant(self.grant(), None).await.map(
                    |created| {
                        assert!(
                            matches!(created, Created::Done { .. } | Created::Exists { .. }),
                            "{created:?}"
                        );
                    },
                ),
            ),
        }
    }

    pub(crate) fn who(&self) -> Principal {
        principal(&role(&self.name))
    }

    /// Returns the archive that the flow publishes.
    pub(crate) fn archive(&self) -> (&str, Vec<u8>) {
        match self.flow {
            Flow::Complete => (&self.name, large()),
            Flow::Restore => ("1.0.0", module_zip("hello")),
            _ => (&self.name, module_zip(&self.name)),
        }
    }

    /// Returns whether the flow is done, so that the calls from that step on only clean up.
    pub(crate) fn is_over(&self, calls: &[String], step: usize) -> bool {
        let changed = || calls[..step].iter().any(|call| call == "dynamodb TransactWriteItems");
        match self.flow {
            Flow::Complete => calls[..=step].iter().any(|call| call == "s3 DELETE"),
            // Afterwards, the broker looks up who needs a notice, or what a notice says.
            flow if flow.changes_life() => changed(),
            flow => flow.mints() && calls[step] == "dynamodb GetItem" && changed(),
        }
    }

    pub(crate) fn grant(&self) -> stile_core::grants::Grant {
        stile_core::grants::Grant {
            principal: self.who(),
            namespace: "acme".parse().unwrap(),
            permissions: [Download].into_iter().collect(),
            expires_at: None,
            created_by: "test".to_owned(),
            created_at: self.process.time(),
        }
    }

    /// Checks from another process that the flow did its work as a whole or not at all.
    pub(crate) async fn is_whole(&self, what: &str) {
        let test = &self.registry.test;
        match self.flow {
            Flow::Publish | Flow::Complete | Flow::Restore => {
                let (version, archive) = self.archive();
                let listed = test
                    .get(VERSIONS, &self.registry.token)
                    .await
                    .text()
                    .contains(&format!("\"{version}\""));
                let download = test
                    .get(
                        &format!("/v1/modules/acme/vpc/aws/{version}/download"),
                        &self.registry.token,
                    )
                    .await;
                assert_eq!(download.status.as_u16(), if listed { 204 } else { 404 }, "{what}");
                if listed {
                    let (status, fetched) = test.fetch(download.header("x-terraform-get")).await;
                    let lost = self.flow == Flow::Restore && status == 404;
                    assert!(lost || (status, &fetched) == (200, &archive), "{what}: {status}");
                }
            }
            Flow::Deprecate | Flow::Unpublish | Flow::Republish => {
                let path = format!("/v1/modules/acme/vpc/aws/{}", self.name);
                let shown = test.get(&path, &self.registry.token).await.json();
                let listed = shown["versions"].as_array().unwrap().contains(&json!(self.name));
                assert_eq!(listed, shown["unpublished"].is_null(), "{what}: {shown}");
                let download = test.get(&format!("{path}/download"), &self.registry.token).await;
                assert_eq!(download.status.as_u16(), if listed { 204 } else { 410 }, "{what}");
            }
            Flow::Grant | Flow::Change | Flow::Ungrant | Flow::Give | Flow::Take => {
                let who = self.who();
                let listed =
                    test.store().as_operator().grants(Some(who.clone()), None).await.unwrap().len();
                let on_namespace = test
                    .store()
                    .as_operator()
                    .grants(None, Some("acme".parse().unwrap()))
                    .await
                    .unwrap();
                let counts =
                    test.store().principal_state(vec![who.clone()]).await.unwrap().grants.len();
                let found = on_namespace.iter().filter(|grant| grant.principal == who).count();
                assert!(listed == found && found == counts, "{what}: {listed} {found} {counts}");
            }
            _ => {}
        }
    }

    /// Checks that the same process works again, and that a proof that minted a token is used up.
    pub(crate) async fn works_again(&self, what: &str, fault: &Fault) {
        if self.flow == Flow::Begin {
            // A begun upload counts although its answer was lost, and there may be only so many.
            let open = json!({"pk": {"S": "uploads acme"}, "sk": {"S": "open"}});
            self.registry.test.aws().dynamodb("DeleteItem", json!({ "Key": open })).await;
        }
        if !self.flow.mints() {
            // The broker reads a keyring again ten seconds after it could not.
            self.process.advance(10);
        }
        let again = self.run().await;
        let used_up = again.status == 401 && again.text.contains("proof_replayed");
        let may_be_used_up = self.flow.mints() && fault.takes_place() && used_up;
        assert!(again.status < 300 || may_be_used_up, "{what}, after the repair: {again:?}");
        assert_eq!(
            self.process.get_anonymously("/readyz").await.status,
            200,
            "{what}, after the repair"
        );
        self.is_whole(what).await;
        if self.flow.mints() {
            assert_eq!(
                self.process.exchange(&self.proof).await.error(),
                "401 proof_replayed",
                "{what}"
            );
            let answer: Value = serde_json::from_str(&again.text).unwrap();
            if let Some(token) = answer["token"].as_str() {
                let opened = self.process.restarted().get("/v1/whoami", token).await;
                assert_eq!(opened.status, 200, "{what}: {}", opened.text());
            }
        }
    }
}

fn principal(text: &str) -> Principal {
    Principal::parse_stored(text).unwrap()
}

/// Uses up a proof with the given name, and pins the principal.
async fn pin(process: &TestBroker, name: &str, who: Principal) -> Result<(), StoreError> {
    let pin = (who, UniqueId::parse("AROAEXAMPLEEXAMPLE222").unwrap());
    let digest = std::array::from_fn(|at| name.as_bytes().get(at).copied().unwrap_or_default());
    let claim = process
        .store()
        .as_operator()
        .claim(digest, process.time() + 900, Some(pin), process.time())
        .await?;
    assert!(!matches!(claim, SingleUseOutcome::PinnedToAnother));
    Ok(())
}

/// Returns the smallest archive that no event of [`SHAPE`] can carry.
fn large() -> Vec<u8> {
    large_zip(700_001)
}

async fn begin(process: &TestBroker, version: &str, token: &str) -> Reply {
    let announced = json!({"format": "zip", "bytes": large().len(), "sha256": hex::encode(Sha256::digest(large()))});
    let sent =
        Sent::new("POST", format!("/v1/modules/acme/vpc/aws/{version}/uploads")).bearer(token);
    through(
        &process.function(None, None),
        SHAPE,
        &SHAPE.event(&sent.body("application/json", announced.to_string())),
    )
    .await
}

async fn through(function: &Function, shape: Shape, event: &Value) -> Reply {
    shape.reply(&lambda::answer(function, event).await.unwrap())
}

/// Changes the life of a version of `acme/vpc/aws`. A restore needs no explanation.
async fn change_life(test: &TestBroker, method: &str, path: &str, token: &str) -> Reply {
    let request = Request::builder()
        .method(method)
        .uri(format!("/v1/modules/acme/vpc/aws/{path}"))
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json");
    let body = json!({"reason": "x"}).to_string();
    let body = if method == "POST" { Body::empty() } else { Body::from(body) };
    test.send(request.body(body).unwrap()).await
}
