//! A registry that does everything that the suite knows, and a search of its log, its audit events and
//! its errors for each secret that it saw, by its value.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use stile_broker::app::events::Events;
use stile_protocol::names::Permission;
use stile_tests::audited_registry::create_key;
use stile_tests::audited_registry::signed_now;
use stile_tests::aws::emulated::EmulatedAws;
use stile_tests::broker::grants::path_of;
use stile_tests::broker::journal::Journal;
use stile_tests::broker::operator::{AsOperator as _, operator};
use stile_tests::broker::{Backend, Place, Reply, TestBroker, deploy, large_zip, module_zip, role};
use stile_tests::sts::identity::Identity;
use stile_tests::webhook_receiver::WebhookReceiver;

const ALL: [Permission; 4] = Permission::ALL;
const MODULE: &str = "/v1/modules/acme/vpc/aws";

/// The secrets that a run saw, by what they are, and every answer that is an error.
#[derive(Default)]
struct Seen {
    secrets: BTreeMap<String, Vec<String>>,
    errors: Vec<String>,
    statuses: BTreeMap<u16, usize>,
}

impl Seen {
    fn secret(&mut self, what: &str, value: impl Into<String>) {
        let value = value.into();
        assert!(value.len() > 15, "{what} has a value to search for: {value}");
        self.secrets.entry(what.to_owned()).or_default().push(value);
    }

    fn identity(&mut self, identity: &Identity) {
        self.secret("secret access key", &identity.secret_access_key);
        if let Some(token) = &identity.session_token {
            self.secret("session token", token);
        }
    }

    fn answer(&mut self, reply: &Reply) {
        *self.statuses.entry(reply.status.as_u16()).or_default() += 1;
        if !reply.status.is_success() {
            self.errors.push(format!("{:?} {}", reply.headers, reply.text()));
        }
    }

    /// Notes the address of an archive: its signature, and the whole query.
    fn address(&mut self, url: &str) {
        let (_, query) = url.split_once('?').unwrap();
        self.secret("signed URL", query);
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            if ["signature", "x-amz-signature", "x-amz-security-token"]
                .contains(&name.to_ascii_lowercase().as_str())
            {
                self.secret("signature of a URL", value);
            }
        }
    }

    /// Fails if a text has one of the secrets, as it is or as base64.
    fn search(&self, place: &str, text: &str) {
        for (what, values) in &self.secrets {
            for value in values {
                assert!(!text.contains(value.as_str()), "{place} has a {what}:\n{text:.2000}");
            }
        }
    }
}

/// A broker, and what it saw.
struct Run {
    test: TestBroker,
    seen: Seen,
}

impl Run {
    /// Exchanges a proof for a token, and sends the same proof again.
    async fn mint(&mut self, identity: &Identity, permissions: &[Permission]) -> String {
        self.test.sts.add_identity(identity.clone());
        self.seen.identity(identity);
        let proof = self.test.proof(identity);
        let namespaces = stile_protocol::exchange::Namespaces::All;
        let proof = proof
            .document(&stile_tests::sts::proof::document(3600, namespaces, permissions))
            .build();
        self.seen.secret("signature of a proof", proof["signature"].as_str().unwrap());
        let reply = self.test.exchange(&proof).await;
        self.seen.answer(&reply);
        let again = self.test.exchange(&proof).await;
        self.seen.answer(&again);
        let mut forged = proof;
        let signature = "0".repeat(63) + "1";
        forged["signature"] = signature.into();
        let refused = self.test.exchange(&forged).await;
        self.seen.answer(&refused);
        let token = reply.json()["token"].as_str().unwrap().to_owned();
        self.seen.secret("token", &token);
        token
    }

    async fn ask(&mut self, method: &str, path: &str, token: &str, body: Value) -> Reply {
        let reply = self.test.ask(method, path, token, &body).await;
        self.seen.answer(&reply);
        reply
    }

    async fn get(&mut self, path: &str, token: &str) -> Reply {
        self.ask("GET", path, token, Value::Null).await
    }

    async fn publish(&mut self, version: &str, archive: Vec<u8>, token: &str) -> Reply {
        let reply = self.test.publish("acme/vpc/aws", version, archive, token).await;
        self.seen.answer(&reply);
        reply
    }

    /// Begins an upload session, and notes its URL, if the store has such sessions.
    async fn upload(&mut self, token: &str) {
        let archive = large_zip(5_000_000);
        let announced = json!({
            "format": "zip", "bytes": archive.len(), "sha256": hex::encode(Sha256::digest(&archive)),
        });
        let begun = self.ask("POST", &format!("{MODULE}/9.0.0/uploads"), token, announced).await;
        if let Some(url) = begun.json()["url"].as_str() {
            self.seen.address(url);
        }
    }

    /// Notes the keys of the store.
    fn keys(&mut self) {
        if self.test.backend() == Backend::Aws {
            return;
        }
        let read = |name: &str| -> Value {
            serde_json::from_slice(&std::fs::read(self.test.data().join(name)).unwrap()).unwrap()
        };
        let (keyring, audit) = (read("keyring.json"), read("audit-key"));
        for key in keyring["keys"].as_array().unwrap() {
            self.seen.secret("key of tokens", key["secret"].as_str().unwrap());
            let bytes = URL_SAFE_NO_PAD.decode(key["secret"].as_str().unwrap()).unwrap();
            self.seen.secret("key of tokens", hex::encode(bytes));
        }
        self.seen.secret("audit key", audit["seed"].as_str().unwrap());
    }
}

#[tokio::test]
async fn no_log_no_audit_event_and_no_error_has_a_token_a_key_a_signature_or_a_signed_url() {
    let journal = Journal::start();
    let first = match super::BACKEND {
        Backend::Embedded => TestBroker::start(),
        Backend::Aws => {
            let Some(mut aws) = EmulatedAws::start().await else { return };
            aws.place.audit_key = Some(create_key(&aws).await);
            TestBroker::start_in_place(Place::Aws(Arc::new(aws)))
        }
    };
    first.grant(&role("deploy"), "acme", &ALL).await;
    let receiver = WebhookReceiver::start().await;
    let test = first.sending(Events::new(receiver.client(), None));
    let hook = test.add_webhook("ci", &receiver.url("/hook")).await;
    let mut run = Run { test, seen: Seen::default() };
    run.seen.secret("secret of a webhook", hook.secret.expose().as_str());
    run.test.store().create_audit_key().await.unwrap();

    let token = run.mint(&deploy(), &ALL).await;
    let refused = Identity::role("111122223333", "intern", "i-0abc");
    run.test.sts.add_identity(refused.clone());
    run.seen.identity(&refused);
    let proof = run.test.proof(&refused).build();
    run.seen.secret("signature of a proof", proof["signature"].as_str().unwrap());
    let reply = run.test.exchange(&proof).await;
    run.seen.answer(&reply);

    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        assert_eq!(run.publish(version, module_zip(version), &token).await.status, 201);
    }
    run.publish("1.0.0", module_zip("other bytes"), &token).await;
    run.publish("1.3.0", b"no archive".to_vec(), &token).await;
    run.upload(&token).await;
    for path in [
        "/v1/whoami",
        "/v1/modules",
        "/v1/modules/acme",
        "/v1/modules/search?q=vpc",
        "/v1/modules/acme/vpc/aws",
        "/v1/modules/acme/vpc/aws/versions",
        "/v1/modules/acme/vpc/aws/usage",
        "/v1/modules/other/vpc/aws/versions",
        "/v1/modules/acme/vpc/aws/7.7.7/download",
        "/v1/grants",
        "/v1/audit",
        "/v1/audit?namespace=other",
        "/v1/audit?cursor=x",
        "/readyz",
    ] {
        run.get(path, &token).await;
        run.get(path, "stile_garbage-that-is-no-token").await;
    }
    for version in ["1.0.0", "1.1.0"] {
        let reply = run.get(&format!("{MODULE}/{version}/download"), &token).await;
        let location = reply.header("x-terraform-get").to_owned();
        run.seen.address(&location);
        assert_eq!(run.test.fetch(&location).await.0, 200);
        if run.test.backend() == Backend::Embedded {
            let changed = location.replacen("expires=1", "expires=2", 1);
            let request = Request::get(changed).body(Body::empty()).unwrap();
            let reply = run.test.send(request).await;
            run.seen.answer(&reply);
        }
    }
    let why = json!({ "reason": "use 1.2.0" });
    run.ask("PUT", &format!("{MODULE}/1.0.0/deprecation"), &token, why.clone()).await;
    run.ask("DELETE", &format!("{MODULE}/1.0.0/deprecation"), &token, Value::Null).await;
    run.ask("DELETE", &format!("{MODULE}/1.1.0"), &token, why).await;
    run.ask("POST", &format!("{MODULE}/1.1.0/restore"), &token, Value::Null).await;
    let ci = role("ci");
    let new = json!({ "principal": ci, "namespace": "acme", "permissions": ["download"] });
    run.ask("POST", "/v1/grants", &token, new).await;
    let change = json!({ "principal": ci, "namespace": "acme", "set": ["upload"] });
    run.ask("PATCH", "/v1/grants", &token, change).await;
    run.ask("DELETE", &path_of(&ci, "acme"), &token, Value::Null).await;
    run.ask("DELETE", &path_of(&role("deploy"), "acme"), &token, Value::Null).await;
    let heads = signed_now(&run.test.broker.store, run.test.time()).await;
    heads.iter().for_each(|head| head.write());

    run.keys();
    let store = run.test.store();
    let operated = store.as_operator();
    let principal = || stile_core::principal::Principal::parse_stored(&role("deploy")).unwrap();
    operated.revoke_principal(principal(), run.test.time()).await.unwrap();
    operated.lift(principal()).await.unwrap();
    operated.drop_keys().await.unwrap();
    run.test.advance(11);
    run.get("/v1/whoami", &token).await;
    run.test.break_store();
    run.test.advance(301);
    run.get("/v1/modules", &token).await;
    run.test.repair_store();
    let _ = operator();

    let statuses = &run.seen.statuses;
    for status in [200, 201, 204, 400, 401, 403, 404, 409] {
        assert!(statuses.contains_key(&status), "{status} is missing: {statuses:?}");
    }
    let whats: Vec<&str> = run.seen.secrets.keys().map(String::as_str).collect();
    let mut expected = vec!["secret access key", "secret of a webhook", "session token"];
    expected.extend(["signature of a URL", "signature of a proof", "signed URL", "token"]);
    if run.test.backend() == Backend::Embedded {
        expected.extend(["audit key", "key of tokens"]);
    }
    expected.sort_unstable();
    assert_eq!(whats, expected, "the run saw each kind of secret");

    let taken = journal.taken();
    let log: String = taken.lines().collect::<Vec<_>>().join("\n");
    assert!(log.contains("audit_head") && log.contains("\"event\":\"publish\""), "{log:.2000}");
    run.seen.search("the log", &log);
    for error in &run.seen.errors {
        run.seen.search("an error", error);
    }
    let mut events = 0;
    for head in run.test.store().audit_heads().await.unwrap() {
        for link in run.test.store().audit_page(&head.chain, 0, 10_000).await.unwrap().links {
            run.seen.search("an audit event", link.body.as_deref().unwrap());
            events += 1;
        }
    }
    assert!(events >= 15, "the store kept {events} events");
}
