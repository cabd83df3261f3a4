//! Refusals made by hand, each by one difference: `grant explain` names it at the store, by the id of
//! the request, and through the API. The caller learns nothing of the grants of others.

use serde_json::{Value, json};
use stile_core::grants::{Grant, Pin};
use stile_core::principal::{Principal, UniqueId};
use stile_core::token::TokenId;
use stile_protocol::exchange::Namespaces;
use stile_protocol::names::Permission::{self, CreateGrant, Download, Upload};
use stile_protocol::region::Partition;
use stile_tests::broker::operator::AsOperator as _;
use stile_tests::broker::{ACCOUNT, Backend, Reply, TestBroker, deploy, namespaces, role};
use stile_tests::process::home::{CommandOutput, Home};
use stile_tests::process::programs::{ADMIN, program};
use stile_tests::sts::identity::Identity;
use stile_tests::sts::proof::document;

/// An account that is not [`ACCOUNT`].
pub(super) const OTHER: &str = "999922223333";

pub(super) const HOUR: i64 = 3600;

/// A broker, a token of a holder of `create_grant` on `*`, and a home whose `stile-admin` has the
/// store.
pub(super) struct Registry {
    pub(super) test: TestBroker,
    giver: String,
    home: Home,
}

impl Registry {
    pub(super) async fn new() -> Option<Self> {
        let test = TestBroker::start_on(super::BACKEND).await?;
        // The program looks at the records with the clock of the system.
        test.follow_system_time(0);
        test.grant("aws:777788889999:role/giver", "*", &[CreateGrant]).await;
        let giver = test.token(&named("777788889999", "giver"), &[CreateGrant]).await;
        let home = operator_of(&test);
        Some(Self { test, giver, home })
    }

    /// Creates a grant of these permissions, which ends after that many seconds.
    pub(super) async fn grant(&self, who: &str, on: &str, may: &[Permission], ends: Option<i64>) {
        let end = ends.map(|seconds| self.test.time() + seconds);
        self.test.grant_until(who, on, may, end).await;
    }

    async fn revoke(&self, who: &str) {
        let (who, now) = (Principal::parse_stored(who).unwrap(), self.test.time());
        assert!(self.test.store().as_operator().revoke_principal(who, now).await.unwrap());
    }

    /// Asks for a token.
    pub(super) async fn exchange(
        &self,
        who: &Identity,
        on: &Namespaces,
        may: &[Permission],
    ) -> Reply {
        self.test.sts.add_identity(who.clone());
        let region =
            if who.arn.starts_with("arn:aws-us-gov:") { "us-gov-west-1" } else { "eu-central-1" };
        let proof = self.test.proof(who).region(region).document(&document(HOUR, on.clone(), may));
        self.test.exchange(&proof.build()).await
    }

    pub(super) async fn explain(&self, arguments: &[&str]) -> CommandOutput {
        self.home.run(&program(ADMIN), &[&["grant", "explain"], arguments].concat()).await
    }

    async fn explained(&self, arguments: &[&str]) -> Value {
        let ran = self.explain(&[arguments, &["--output", "json"]].concat()).await;
        serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{arguments:?}: {ran:?}"))
    }
}

/// Returns a home whose `stile-admin` has the store of the broker.
pub(super) fn operator_of(test: &TestBroker) -> Home {
    let mut home = Home::temporary();
    match test.backend() {
        Backend::Embedded => home.variable("STILE_DATA", test.data()),
        Backend::Aws => {
            for (name, value) in test.aws().environment() {
                home.variable(name, value);
            }
        }
    }
    home
}

pub(super) fn named(account: &str, name: &str) -> Identity {
    Identity::role(account, name, "i-0abc")
}

/// Returns the canonical text of a caller.
fn canonical(who: &Identity) -> String {
    let parts: Vec<&str> = who.arn.split(':').collect();
    let kind = if parts[2] == "sts" { "role" } else { "user" };
    format!("{}:{}:{kind}/{}", parts[1], parts[4], who.name())
}

/// One refused exchange.
struct Refusal {
    /// The difference, in words.
    what: &'static str,
    /// The grants that exist: principal, namespace, permissions, and the seconds until their end.
    grants: Vec<(String, &'static str, Vec<Permission>, Option<i64>)>,
    who: Identity,
    on: Namespaces,
    may: Vec<Permission>,
    /// The code of the difference.
    difference: &'static str,
}

/// Returns a refusal of `download` on one namespace, with one grant of it.
fn one(
    what: &'static str,
    granted: impl Into<String>,
    granted_on: &'static str,
    ends: Option<i64>,
    who: Identity,
    on: &'static str,
    difference: &'static str,
) -> Refusal {
    let grants = vec![(granted.into(), granted_on, vec![Download], ends)];
    Refusal { what, grants, who, on: namespaces(&[on]), may: vec![Download], difference }
}

fn sso(suffix: &str) -> String {
    format!("AWSReservedSSO_{suffix}")
}

fn refusals() -> Vec<Refusal> {
    let ours = |name: &str| named(ACCOUNT, name);
    let at = |name: &str| role(name);
    let other = |name: &str| format!("aws:{OTHER}:role/{name}");
    let set = |name: &str| format!("sso:aws:{ACCOUNT}/{name}");
    vec![
        Refusal {
            what: "no similar grant",
            grants: vec![],
            who: ours("nobody"),
            on: namespaces(&["zoo"]),
            may: vec![Download],
            difference: "no_similar_grant",
        },
        one("case of a role", at("Release"), "c1", None, ours("release"), "c1", "case"),
        one(
            "case of a permission set",
            set("Writer"),
            "c2",
            None,
            ours(&sso("writer_0123456789abcdef")),
            "c2",
            "case",
        ),
        one("account of a role", other("pay"), "a1", None, ours("pay"), "a1", "account"),
        one(
            "account of a permission set",
            format!("sso:aws:{OTHER}/Ops"),
            "a2",
            None,
            ours(&sso("Ops_0123456789abcdef")),
            "a2",
            "account",
        ),
        one(
            "account of a whole account",
            "account:aws:222233334444",
            "a3",
            None,
            named("222233334445", "any"),
            "a3",
            "account",
        ),
        one(
            "partition of a role",
            format!("aws-cn:{ACCOUNT}:role/far"),
            "p1",
            None,
            ours("far"),
            "p1",
            "partition",
        ),
        one(
            "partition of a whole account",
            "account:aws:333344445555",
            "p2",
            None,
            named("333344445555", "gov").in_partition(Partition::AwsUsGov),
            "p2",
            "partition",
        ),
        one(
            "a role, not a user",
            at("alice"),
            "k1",
            None,
            Identity::user(ACCOUNT, "alice"),
            "k1",
            "kind",
        ),
        one(
            "a user, not a role",
            format!("aws:{ACCOUNT}:user/bob"),
            "k2",
            None,
            ours("bob"),
            "k2",
            "kind",
        ),
        one(
            "an earlier role of the permission set",
            at(&sso("Admin_0123456789abcdef")),
            "s1",
            None,
            ours(&sso("Admin_fedcba9876543210")),
            "s1",
            "suffix",
        ),
        one(
            "a role without the suffix of a permission set",
            set("Audit"),
            "s2",
            None,
            ours(&sso("Audit_0123")),
            "s2",
            "suffix",
        ),
        one("an ended grant", at("late"), "e1", Some(-HOUR), ours("late"), "e1", "expiry"),
        one("ended long ago", at("old"), "e2", Some(-80 * 24 * HOUR), ours("old"), "e2", "expiry"),
        one(
            "an ended grant on all namespaces",
            at("wide"),
            "*",
            Some(-HOUR),
            ours("wide"),
            "e3",
            "expiry",
        ),
        one(
            "a mistyped namespace",
            at("typist"),
            "n1-tools",
            None,
            ours("typist"),
            "n1-toosl",
            "namespace",
        ),
        one(
            "the start of a namespace",
            at("team"),
            "n2-team-a",
            None,
            ours("team"),
            "n2-team",
            "namespace",
        ),
        Refusal {
            what: "one of two namespaces",
            grants: vec![(at("half"), "n3-one", vec![Download], None)],
            who: ours("half"),
            on: namespaces(&["n3-one", "n3-two"]),
            may: vec![Download],
            difference: "namespace",
        },
        Refusal {
            may: vec![Upload],
            ..one("upload", at("reader"), "m1", None, ours("reader"), "m1", "permission")
        },
        Refusal {
            may: vec![Download, CreateGrant],
            ..one("create_grant", at("lead"), "m2", None, ours("lead"), "m2", "permission")
        },
        Refusal {
            on: Namespaces::All,
            may: vec![Upload],
            ..one(
                "upload on any namespace",
                at("roamer"),
                "m3",
                None,
                ours("roamer"),
                "m3",
                "permission",
            )
        },
        Refusal {
            on: Namespaces::All,
            ..one("every grant has ended", at("gone"), "e4", Some(-1), ours("gone"), "e4", "expiry")
        },
        one("a revoked role", at("bad"), "r1", None, ours("bad"), "r1", "revoked"),
        one(
            "a revoked permission set",
            set("Left"),
            "r2",
            None,
            ours(&sso("Left_0123456789abcdef")),
            "r2",
            "revoked",
        ),
        one(
            "a revoked account",
            "aws:444455556666:role/off",
            "r3",
            None,
            named("444455556666", "off"),
            "r3",
            "revoked",
        ),
        one(
            "a recreated role",
            at("again"),
            "u1",
            None,
            ours("again").recreated(),
            "u1",
            "unique_id",
        ),
        one("another pinned id", at("pinned"), "u2", None, ours("pinned"), "u2", "unique_id"),
    ]
}

/// Prepares what a refusal needs beyond its grants.
async fn prepare(registry: &Registry, refusal: &Refusal) {
    for (who, on, may, ends) in &refusal.grants {
        if refusal.what == "another pinned id" {
            let grant = Grant {
                principal: Principal::parse_stored(who).unwrap(),
                namespace: on.parse().unwrap(),
                permissions: may.iter().copied().collect(),
                expires_at: None,
                created_by: "test".to_owned(),
                created_at: registry.test.time(),
            };
            let pin = Pin::Pinned(UniqueId::parse("AROAOTHEROTHEROTHER22").unwrap());
            registry.test.store().as_operator().create_grant(grant, Some(pin)).await.unwrap();
        } else {
            registry.grant(who, on, may, *ends).await;
        }
    }
    match refusal.what {
        "a revoked role" => registry.revoke(&role("bad")).await,
        "a revoked permission set" => registry.revoke(&format!("sso:aws:{ACCOUNT}/Left")).await,
        "a revoked account" => registry.revoke("account:aws:444455556666").await,
        // The role that the operator granted pins its id.
        "a recreated role" => {
            registry.test.token(&named(ACCOUNT, "again"), &[Download]).await;
        }
        _ => {}
    }
}

/// Checks that the answer to the caller names the caller and what it lacks, and nothing of others.
fn names_only_the_caller(refusal: &Refusal, reply: &Reply, store: &Value) {
    let (text, own) = (reply.text(), canonical(&refusal.who));
    let caller = Principal::parse_stored(&own).unwrap();
    assert!(text.contains(&caller.display_name()), "{}: {text}", refusal.what);
    let nearest = &store["nearest"];
    let Some(granted) = nearest["principal"].as_str() else { return };
    let granted = Principal::parse_stored(granted).unwrap();
    if granted != caller {
        assert!(!text.contains(granted.as_str()), "{}: {text}", refusal.what);
        assert!(!text.contains(&granted.display_name()), "{}: {text}", refusal.what);
    }
    let on = nearest["namespace"].as_str().unwrap();
    let asked =
        matches!(&refusal.on, Namespaces::List(list) if list.iter().any(|one| one.as_str() == on));
    assert!(asked || on == "*" || !text.contains(&format!("`{on}`")), "{}: {text}", refusal.what);
}

#[tokio::test]
async fn each_refusal_is_explained_by_its_one_difference() {
    let Some(registry) = Registry::new().await else { return };
    let mut table = format!(
        "{:<48}{:<24}{:<18}{:<18}{}\n",
        "refused because of", "answer", "at the store", "by request id", "through the API"
    );
    for refusal in refusals() {
        prepare(&registry, &refusal).await;
        let reply = registry.exchange(&refusal.who, &refusal.on, &refusal.may).await;
        assert_eq!(reply.status, 403, "{}: {reply:?}", refusal.what);

        let by_id = registry.explained(&["--request-id", reply.request_id()]).await;
        assert_eq!(by_id["principal"], canonical(&refusal.who).as_str(), "{by_id}");
        assert_eq!(by_id["code"], reply.json()["error"], "{by_id}");
        assert_eq!(by_id["message"], reply.json()["message"], "{by_id}");
        assert_eq!(by_id["allowed_today"], false, "{by_id}");

        let explanations = by_id["explanations"].as_array().unwrap();
        let refused = explanations.iter().find(|one| one["decision"] != "yes").unwrap();
        names_only_the_caller(&refusal, &reply, refused);
        let (mut at_store, mut by_api) = ("-".to_owned(), "-".to_owned());
        if let (Some(on), Some(may)) =
            (refused["namespace"].as_str(), refused["permission"].as_str())
        {
            let id = refusal.who.user_id.split(':').next().unwrap();
            let store = registry
                .explained(&[
                    "--principal",
                    &canonical(&refusal.who),
                    "--namespace",
                    on,
                    "--permission",
                    may,
                    "--unique-id",
                    id,
                ])
                .await;
            assert_eq!(&store, refused, "{}: the same explanation in both ways", refusal.what);
            store["difference"].as_str().unwrap().clone_into(&mut at_store);
            let path = format!(
                "/v1/grants/explain?principal={}&namespace={on}&permission={may}",
                canonical(&refusal.who)
            );
            let api = registry.test.get(&path, &registry.giver).await;
            assert_eq!(api.status, 200, "{api:?}");
            assert!(!api.text().contains("AROA"), "{}: {}", refusal.what, api.text());
            api.json()["difference"].as_str().unwrap().clone_into(&mut by_api);
            for found in [&at_store, &by_api] {
                assert_eq!(found, refusal.difference, "{}: {store} {}", refusal.what, api.text());
            }
        }
        assert_eq!(by_id["difference"], refusal.difference, "{}: {by_id}", refusal.what);
        let code = reply.error();
        table.push_str(&format!(
            "{:<48}{code:<24}{at_store:<18}{:<18}{by_api}\n",
            refusal.what,
            by_id["difference"].as_str().unwrap()
        ));
    }
    assert!(table.lines().count() > 25, "{table}");
    insta::assert_snapshot!(table);
}

#[tokio::test]
async fn a_token_out_of_scope_or_revoked_is_explained_and_the_refusal_names_its_holder() {
    let Some(registry) = Registry::new().await else { return };
    let test = &registry.test;
    registry.grant(&role("deploy"), "acme", &[Download, Upload], None).await;
    registry.grant(&role("deploy"), "tools", &[Download], None).await;
    let narrow = test.token_for(&deploy(), namespaces(&["acme"]), &[Download], 600).await;
    let whose = role("deploy");
    let asked = ["--principal", &*whose, "--permission"];
    for (on, may, flags) in [
        ("tools", "download", ["--token-namespace", "acme"]),
        ("acme", "upload", ["--token-permission", "download"]),
    ] {
        let reply = match may {
            "upload" => test.publish("acme/vpc/aws", "1.0.0", "x", &narrow).await,
            _ => test.get(&format!("/v1/modules/{on}/vpc/aws/versions"), &narrow).await,
        };
        assert_eq!(reply.status, 403, "{reply:?}");
        assert!(reply.text().contains("this token of `arn:aws:iam::111122223333:role/deploy`"));
        let whole = registry.explained(&[&asked[..], &[may, "--namespace", on]].concat()).await;
        assert_eq!(
            (&whole["decision"], &whole["difference"]),
            (&json!("yes_if"), &json!("unique_id"))
        );
        let scoped = [&asked[..], &[may, "--namespace", on], &flags].concat();
        assert_eq!(registry.explained(&scoped).await["difference"], "scope", "{scoped:?}");
    }
    let id = TokenId::parse("6bUbVPlBBrKqJZ8Yoz3rDA").unwrap();
    test.store().as_operator().revoke_token(id.clone(), test.time()).await.unwrap();
    let revoked =
        [&asked[..], &["download", "--namespace", "acme", "--token-id", id.as_str()]].concat();
    assert_eq!(registry.explained(&revoked).await["difference"], "revoked");
}

#[tokio::test]
async fn a_bearer_without_create_grant_on_the_namespace_has_nothing_explained() {
    let Some(registry) = Registry::new().await else { return };
    let test = &registry.test;
    registry.grant(&role("deploy"), "acme", &[CreateGrant], None).await;
    registry.grant(&role("ci"), "other", &[Download], None).await;
    let token = test.token(&deploy(), &[CreateGrant]).await;
    let ask = |on: &str| {
        format!("/v1/grants/explain?principal={}&namespace={on}&permission=download", role("ci"))
    };
    for (on, status) in [("other", 403), ("*", 403), ("Acme", 400), ("acme", 200)] {
        let reply = test.get(&ask(on), &token).await;
        assert_eq!(reply.status, status, "{on}: {reply:?}");
        assert!(on == "other" || !reply.text().contains("other"), "{on}: {}", reply.text());
    }
    for query in ["", "?principal=x&namespace=acme&permission=download", "?namespace=acme"] {
        let reply = test.get(&format!("/v1/grants/explain{query}"), &token).await;
        assert_eq!(reply.error(), "400 invalid_request", "{query}");
    }
    let path = "arn:aws:iam::111122223333:role/Org/Team/ci";
    let asked = ask("acme").replace(&role("ci"), path);
    let reply = test.get(&asked, &token).await.json();
    assert!(reply["notices"][0].as_str().unwrap().contains("the path `/Org/Team/`"), "{reply}");
}

#[tokio::test]
async fn a_giver_learns_nothing_of_revocations_and_grants_outside_of_its_namespace() {
    let Some(registry) = Registry::new().await else { return };
    let test = &registry.test;
    registry.grant(&role("lead"), "acme", &[CreateGrant], None).await;
    let token = test.token(&named(ACCOUNT, "lead"), &[CreateGrant]).await;
    let asked = async |who: &str, may: &str| {
        let path = format!("/v1/grants/explain?principal={who}&namespace=acme&permission={may}");
        test.get(&path, &token).await
    };
    let account = format!("account:aws:{OTHER}");
    let bad = format!("aws:{OTHER}:role/bad");
    registry.grant(&bad, "zoo", &[Download], None).await;
    registry.revoke(&account).await;
    for who in [&bad, &account] {
        let reply = asked(who, "download").await;
        assert_eq!(reply.json()["difference"], "no_similar_grant", "{}", reply.text());
        assert!(!reply.text().contains("revoked"), "{}", reply.text());
    }
    registry.grant(&bad, "acme", &[Download], None).await;
    assert_eq!(asked(&bad, "download").await.json()["difference"], "revoked");
    assert_eq!(asked(&account, "download").await.json()["difference"], "no_similar_grant");

    // A grant on all namespaces: only its principal, and the permission of the question.
    registry.grant(&role("wide"), "*", &[Download, Upload], Some(HOUR)).await;
    let reply = asked(&role("wide"), "download").await;
    assert_eq!(
        reply.json()["grants"],
        json!([{ "principal": role("wide"), "namespace": "*", "permissions": ["download"] }]),
        "{}",
        reply.text()
    );
    for hidden in ["created", "expires", "upload", "etag"] {
        assert!(!reply.text().contains(hidden), "{hidden}: {}", reply.text());
    }
}
