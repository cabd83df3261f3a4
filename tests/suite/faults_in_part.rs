//! DynamoDB answers only in part. The broker reads rows that are left over again, and never treats
//! them as absent. If it cannot know whether a write took place, its answer is neither yes nor no.

use serde_json::Value;
use stile_core::grants::{Grant, Pin};
use stile_core::principal::{Principal, UniqueId};
use stile_protocol::names::Permission::{Download, Upload};
use stile_store::Created;
use stile_tests::aws::proxy::Fault;
use stile_tests::broker::operator::AsOperator as _;
use stile_tests::broker::{ACCOUNT, Backend, TestBroker, deploy, role};
use stile_tests::sts::identity::Identity;

const READ: &str = "dynamodb BatchGetItem";

const WRITE: &str = "dynamodb TransactWriteItems";

/// The unique id of a role that was deleted and created again.
const OTHER_ID: &str = "AROAEXAMPLEEXAMPLE222";

/// Prefixes of the sort keys that the broker ever reads together with others.
const KINDS: [&str; 6] = ["revocations", "pin", "keyring", "host", "principal", "grants"];

/// More reads than any question takes.
const READS: usize = 8;

/// A decision of the broker, each by a process with empty caches.
#[derive(Debug, Clone, Copy)]
enum Question {
    Mint,
    MintOfRevoked,
    MintOfRecreated,
    Token,
    RevokedToken,
    TokenOfRevoked,
    GrantThatDiffersByCase,
    GrantPinnedOtherwise,
}

impl Question {
    const ALL: [Self; 8] = [
        Self::MintOfRevoked,
        Self::MintOfRecreated,
        Self::Mint,
        Self::RevokedToken,
        Self::TokenOfRevoked,
        Self::Token,
        Self::GrantThatDiffersByCase,
        Self::GrantPinnedOtherwise,
    ];

    /// The right answer, whichever rows are left over.
    const fn answer(self) -> &'static str {
        match self {
            Self::Mint => "200 -",
            Self::MintOfRevoked => "403 principal_revoked",
            Self::MintOfRecreated => "403 principal_recreated",
            Self::Token => "200 with a grant",
            Self::RevokedToken | Self::TokenOfRevoked => "401 unauthorized",
            Self::GrantThatDiffersByCase => "differs by case",
            Self::GrantPinnedOtherwise => "pinned otherwise",
        }
    }
}

/// A registry with everything that the questions are about, with its own proxy.
struct Asked {
    test: TestBroker,
    good: String,
    revoked: String,
    of_revoked: String,
}

impl Asked {
    async fn start() -> Option<Self> {
        let test = TestBroker::start_on(Backend::Aws).await?;
        for name in ["deploy", "gone", "recreated"] {
            test.grant(&role(name), "acme", &[Download, Upload]).await;
        }
        let good = test.token(&deploy(), &[Download]).await;
        let revoked = test.token(&deploy(), &[Download]).await;
        let id = test
            .broker
            .tokens
            .open(&revoked, test.store(), test.time())
            .await
            .unwrap()
            .claims
            .id()
            .clone();
        test.store().as_operator().revoke_token(id, test.time()).await.unwrap();
        let of_revoked = test.token(&named("gone"), &[Download]).await;
        assert!(
            test.store()
                .as_operator()
                .revoke_principal(principal("gone"), test.time())
                .await
                .unwrap()
        );
        test.token(&named("recreated"), &[Download]).await;
        Some(Self { test, good, revoked, of_revoked })
    }

    fn behind_another_proxy(&self) -> Self {
        let (good, revoked, of_revoked) =
            (self.good.clone(), self.revoked.clone(), self.of_revoked.clone());
        Self { test: self.test.behind_another_proxy(), good, revoked, of_revoked }
    }

    /// Returns the answer of a new process while its reads fail like this, and the number of its
    /// reads.
    async fn answer(&self, question: Question, trouble: impl FnOnce()) -> (String, usize) {
        let process = self.test.restarted();
        let mint = async |identity: Identity| {
            process.sts.add_identity(identity.clone());
            let proof = process.proof(&identity).build();
            let reply = process.exchange(&proof).await;
            assert_eq!(reply.status == 200, reply.text().contains("stile_v4"), "{}", reply.text());
            reply.error()
        };
        let whoami = async |token: &str| {
            let reply = process.get("/v1/whoami", token).await;
            match reply.status.as_u16() {
                200 if reply.json()["grants"][0]["namespace"] == "acme" => {
                    "200 with a grant".to_owned()
                }
                200 => reply.text(),
                401 => "401 unauthorized".to_owned(),
                503 => "503 store_unavailable".to_owned(),
                other => format!("{other} {}", reply.text()),
            }
        };
        let grant = async |name: &str, pin: Option<Pin>| match process
            .store()
            .as_operator()
            .create_grant(grant(name), pin)
            .await
        {
            Ok(Created::DiffersByCase(_)) => "differs by case".to_owned(),
            Ok(Created::PinnedOtherwise(_)) => "pinned otherwise".to_owned(),
            Ok(other) => format!("{other:?}"),
            Err(_) => "503 store_unavailable".to_owned(),
        };
        self.test.aws().proxy.take_counts();
        trouble();
        let answer = match question {
            Question::Mint => mint(deploy()).await,
            Question::MintOfRevoked => mint(named("gone")).await,
            Question::MintOfRecreated => {
                mint(Identity { user_id: format!("{OTHER_ID}:i-0abc"), ..named("recreated") }).await
            }
            Question::Token => whoami(&self.good).await,
            Question::RevokedToken => whoami(&self.revoked).await,
            Question::TokenOfRevoked => whoami(&self.of_revoked).await,
            Question::GrantThatDiffersByCase => grant("Deploy", None).await,
            Question::GrantPinnedOtherwise => {
                grant("recreated", Some(Pin::Pinned(UniqueId::parse(OTHER_ID).unwrap()))).await
            }
        };
        self.test.aws().proxy.repair();
        let reads = self.test.aws().proxy.take_counts().get(READ).copied().unwrap_or_default();
        (answer, reads)
    }
}

fn named(name: &str) -> Identity {
    Identity::role(ACCOUNT, name, "i-0abc")
}

fn principal(name: &str) -> Principal {
    Principal::parse_stored(&role(name)).unwrap()
}

/// A grant on a namespace that no other grant has.
fn grant(name: &str) -> Grant {
    Grant {
        principal: principal(name),
        namespace: "elsewhere".parse().unwrap(),
        permissions: [Download].into_iter().collect(),
        expires_at: None,
        created_by: "test".to_owned(),
        created_at: 0,
    }
}

/// Leaves rows of each kind over once, in each read of one question. Returns the kinds that had
/// rows.
async fn once(asked: &Asked, question: Question) -> Vec<&'static str> {
    let proxy = &asked.test.aws().proxy;
    let (answer, healthy) = asked.answer(question, || {}).await;
    assert_eq!(answer, question.answer(), "{question:?}");
    let mut kinds = Vec::new();
    for kind in KINDS {
        for read in 0..healthy {
            let (answer, reads) = asked
                .answer(question, || proxy.inject(READ, read..=read, Fault::LeaveOver(kind)))
                .await;
            assert_eq!(
                answer,
                question.answer(),
                "{question:?}, `{kind}` left over in read {read}"
            );
            // If no read had such a row, nothing is left to read again.
            assert!(
                (healthy..=healthy + 1).contains(&reads) && reads < READS,
                "{question:?} {kind} {read}: {reads} reads"
            );
            if reads > healthy {
                kinds.push(kind);
            }
        }
    }
    kinds
}

/// Leaves rows of each kind over in every read.
async fn always(asked: &Asked, question: Question, kinds: &[&'static str]) {
    for kind in kinds {
        let (answer, reads) = asked
            .answer(question, || asked.test.aws().proxy.inject(READ, .., Fault::LeaveOver(kind)))
            .await;
        let down = ["503 store_unavailable", "503 key_unavailable"].contains(&answer.as_str());
        assert!(
            down && reads > READS,
            "{question:?}, `{kind}` always left over: {answer} after {reads} reads"
        );
    }
}

#[tokio::test]
async fn rows_that_are_left_over_are_asked_for_again_and_where_they_stay_so_the_store_is_down() {
    let Some(asked) = Asked::start().await else { return };
    let questions = Question::ALL.map(|question| (question, asked.behind_another_proxy()));
    let each = questions.iter().map(|(question, asked)| async move {
        let mut kinds = once(asked, *question).await;
        kinds.sort_unstable();
        kinds.dedup();
        always(asked, *question, &kinds).await;
        kinds
    });
    let tried = futures_util::future::join_all(each).await;
    for kind in KINDS {
        assert!(
            tried.iter().any(|kinds| kinds.contains(&kind)),
            "`{kind}` was never left over: {tried:?}"
        );
    }
}

#[tokio::test]
async fn a_claim_of_which_nobody_can_tell_whether_it_took_place_is_down_and_no_replay() {
    let Some(asked) = Asked::start().await else { return };
    let (test, identity) = (&asked.test, deploy());
    test.sts.add_identity(identity.clone());
    let proof: Value = test.proof(&identity).build();
    let proxy = &test.aws().proxy;
    proxy.take_counts();
    // The write takes place and its answer is lost. The same call with the same idempotency token
    // gets the answer that the first is in progress.
    let pending = Fault::Answer {
        status: 400,
        content_type: "application/x-amz-json-1.0",
        body: r#"{"__type":"com.amazonaws.dynamodb.v20120810#TransactionInProgressException","Message":"in progress"}"#.to_owned(),
    };
    proxy.inject(WRITE, ..1, Fault::Truncate);
    proxy.inject(WRITE, 1..3, pending);
    let reply = test.exchange(&proof).await;
    assert_eq!(reply.error(), "503 store_unavailable", "{}", reply.text());
    assert_eq!(proxy.take_counts()[WRITE], 3, "every attempt has the same idempotency token");
    proxy.repair();
    assert_eq!(
        test.exchange(&proof).await.error(),
        "401 proof_replayed",
        "the write had taken place"
    );
}
