//! The audit chains of a test's store: changes by several writers, signatures, and a hand that changes
//! stored rows.

use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use stile_core::audit::{Chain, Head, SignedHead};
use stile_core::principal::Principal;
use stile_protocol::audience::Audience;
use stile_protocol::names::{Permission, Permissions};
use stile_store::{Change, ExpiryChange, Store, StoredSignedHead, Updated};

use crate::aws::emulated::EmulatedAws;
use crate::broker::operator::{AsOperator as _, kept, operator};
use crate::broker::{Backend, HOST};
use crate::process::home::{CommandOutput, Home};
use crate::process::programs::{ADMIN, program};
use crate::store_home::StoreHome;
use crate::time_limits;

/// The next end of a grant. Each is another one, so that no change is without effect.
static NEXT_END: AtomicI64 = AtomicI64::new(4_000_000_000);

/// The namespace whose chain the tests change.
pub const CHAIN: &str = "acme";

/// A store with an audit key, and a home whose `stile-admin` uses it.
pub struct AuditedRegistry {
    /// The home.
    pub home: Home,
    /// The store, as the broker of [`HOST`] opens it.
    pub store: Store,
    aws: Option<EmulatedAws>,
}

impl AuditedRegistry {
    /// Creates a registry with a recorded host. Returns `None` if a tool is missing.
    pub async fn new(backend: Backend) -> Option<Self> {
        Self::with_key(backend, true).await
    }

    /// Creates a registry with or without an audit key.
    pub async fn with_key(backend: Backend, has_key: bool) -> Option<Self> {
        let audience = Audience::parse(HOST).unwrap();
        let StoreHome { mut home, mut store, mut aws } = StoreHome::new(backend).await?;
        if let Some(aws) = aws.as_mut().filter(|_| has_key) {
            let key = create_key(aws).await;
            home.variable("STILE_AUDIT_KEY", &key);
            aws.place.audit_key = Some(key);
            store = aws.store(None);
        }
        let store = store.for_registry(audience.clone());
        store.as_operator().record_host(&audience).await.unwrap();
        if has_key {
            store.create_audit_key().await.unwrap();
        }
        Some(Self { home, store, aws })
    }

    /// Runs `stile-admin audit`.
    pub async fn audit(&self, arguments: &[&str]) -> CommandOutput {
        self.home.run(&program(ADMIN), &[&["audit"][..], arguments].concat()).await
    }

    /// Runs `stile-admin audit verify`, and returns its exit code and its lines.
    pub async fn verify(&self, arguments: &[&str]) -> (Option<i32>, Vec<String>) {
        let ran = self.audit(&[&["verify"][..], arguments].concat()).await;
        assert!(ran.stderr.is_empty(), "{ran:?}");
        (ran.code, ran.stdout.lines().map(str::to_owned).collect())
    }

    /// Lets four writers make that many changes of grants on [`CHAIN`] at that time, all at once.
    pub async fn change(&self, changes: u64, at: i64) {
        let writers = (0..4).map(|writer| {
            let store = self.store.clone();
            let count = changes / 4 + u64::from(writer < changes % 4);
            tokio::spawn(async move { write(&store, writer, count, at).await })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
    }

    /// Signs the heads, as a broker does each minute.
    pub async fn sign(&self, now: i64) -> usize {
        signed_now(&self.store, now).await.len()
    }

    /// Keeps what `audit head` prints in a file outside of the store.
    pub async fn keep_heads(&self, name: &str) -> String {
        let ran = self.audit(&["head"]).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let file = self.home.path().join(name);
        std::fs::write(&file, ran.stdout).unwrap();
        file.to_str().unwrap().to_owned()
    }

    /// Returns the head of [`CHAIN`].
    pub async fn head(&self) -> Head {
        let chain = Chain::parse_stored(CHAIN).unwrap();
        let heads = self.store.audit_heads().await.unwrap();
        heads.into_iter().find(|head| head.chain == chain).unwrap()
    }

    /// Changes the rows of a data folder by hand.
    pub fn by_hand(&self, sql: &str) {
        let database = PathBuf::from(self.home.value("STILE_DATA").unwrap()).join("stile.sqlite3");
        rusqlite::Connection::open(database).unwrap().execute_batch(sql).unwrap();
    }

    /// Opens the store again, as a broker that has just started.
    pub fn opened_again(&self) -> Store {
        match &self.aws {
            None => {
                let data = PathBuf::from(self.home.value("STILE_DATA").unwrap());
                Store::open_folder(&data, time_limits::embedded()).unwrap()
            }
            Some(aws) => aws.store(None),
        }
    }

    /// Makes the head of [`CHAIN`] unreadable by hand.
    pub async fn damage_head(&self) {
        let Some(aws) = &self.aws else {
            return self
                .by_hand(&format!("UPDATE audit_heads SET hash = x'00' WHERE chain = '{CHAIN}'"));
        };
        let key = json!({ "pk": { "S": "audit heads" }, "sk": { "S": CHAIN } });
        let values = json!({ ":hash": { "B": STANDARD.encode([0]) } });
        let update = json!({
            "Key": key, "UpdateExpression": "SET event_hash = :hash",
            "ExpressionAttributeValues": values,
        });
        aws.dynamodb("UpdateItem", update).await;
    }

    /// Deletes events of [`CHAIN`] by hand.
    pub async fn remove_events(&self, seqs: impl Iterator<Item = u64>) {
        for seq in seqs {
            match &self.aws {
                None => self.by_hand(&format!(
                    "DELETE FROM audit_events WHERE chain = '{CHAIN}' AND seq = {seq}"
                )),
                Some(aws) => {
                    aws.dynamodb("DeleteItem", json!({ "Key": event_key(seq) })).await;
                }
            }
        }
    }

    /// Replaces the text of an event of [`CHAIN`] by hand.
    pub async fn change_event(&self, seq: u64, from: &str, to: &str) {
        let Some(aws) = &self.aws else {
            return self.by_hand(&format!(
                "UPDATE audit_events SET body = replace(body, '{from}', '{to}') \
                 WHERE chain = '{CHAIN}' AND seq = {seq}"
            ));
        };
        let mut item = event(aws, seq).await;
        let body = item["body"]["S"].as_str().unwrap().replace(from, to);
        item["body"]["S"] = body.into();
        aws.dynamodb("PutItem", json!({ "Item": item })).await;
    }

    /// Replaces the hash of an event of [`CHAIN`] by hand.
    pub async fn change_hash(&self, seq: u64) {
        let Some(aws) = &self.aws else {
            return self.by_hand(&format!(
                "UPDATE audit_events SET hash = zeroblob(32) WHERE chain = '{CHAIN}' AND seq = {seq}"
            ));
        };
        let mut item = event(aws, seq).await;
        item["event_hash"]["B"] = STANDARD.encode([0; 32]).into();
        aws.dynamodb("PutItem", json!({ "Item": item })).await;
    }

    /// Puts signed heads into the store by hand.
    pub async fn store_signed(&self, heads: &[StoredSignedHead]) {
        for head in heads.iter().map(|stored| stored.in_place().unwrap()) {
            let (chain, record) = (&head.statement.chain, head.to_json());
            let (seq, segment) = (head.statement.seq, head.statement.segment);
            let Some(aws) = &self.aws else {
                self.by_hand(&format!(
                    "INSERT OR REPLACE INTO audit_signed_heads VALUES ('{chain}', {seq}, '{record}')"
                ));
                continue;
            };
            let item = json!({
                "pk": { "S": "audit signed heads" }, "sk": { "S": format!("{chain} {segment:020}") },
                "seq": { "N": seq.to_string() }, "record": { "S": record },
            });
            aws.dynamodb("PutItem", json!({ "Item": item })).await;
        }
    }

    /// Swaps the places of two events of [`CHAIN`] by hand.
    pub async fn swap_events(&self, one: u64, other: u64) {
        let Some(aws) = &self.aws else {
            return self.by_hand(&format!(
                "UPDATE audit_events SET seq = -1 WHERE chain = '{CHAIN}' AND seq = {one}; \
                 UPDATE audit_events SET seq = {one} WHERE chain = '{CHAIN}' AND seq = {other}; \
                 UPDATE audit_events SET seq = {other} WHERE chain = '{CHAIN}' AND seq = -1;"
            ));
        };
        let (mut first, mut second) = (event(aws, one).await, event(aws, other).await);
        (first["sk"], second["sk"]) = (second["sk"].clone(), first["sk"].clone());
        for item in [first, second] {
            aws.dynamodb("PutItem", json!({ "Item": item })).await;
        }
    }

    /// Lets [`CHAIN`] end at an event by hand, without a trace in the store: its later events, its head
    /// and its signed heads are gone.
    pub async fn cut_tail(&self, last: u64) {
        let head = self.head().await;
        let chain = head.chain.clone();
        let link = self.store.audit_page(&chain, last - 1, 1).await.unwrap().links.remove(0);
        self.remove_events(last + 1..=head.seq).await;
        let Some(aws) = &self.aws else {
            return self.by_hand(&format!(
                "UPDATE audit_heads SET seq = {last}, hash = x'{}' WHERE chain = '{CHAIN}'; \
                 DELETE FROM audit_signed_heads WHERE chain = '{CHAIN}'",
                hex::encode(&link.hash)
            ));
        };
        let item = event(aws, last).await;
        let key = json!({ "pk": { "S": "audit heads" }, "sk": { "S": CHAIN } });
        let values = json!({ ":seq": { "N": last.to_string() }, ":hash": item["event_hash"] });
        let set = "SET seq = :seq, event_hash = :hash";
        let update = json!({
            "Key": key, "UpdateExpression": set, "ExpressionAttributeValues": values,
        });
        aws.dynamodb("UpdateItem", update).await;
        for stored in self.store.signed_heads(Some(&chain)).await.unwrap() {
            let segment = stored.in_place().unwrap().statement.segment;
            let sk = format!("{CHAIN} {segment:020}");
            let key = json!({ "pk": { "S": "audit signed heads" }, "sk": { "S": sk } });
            aws.dynamodb("DeleteItem", json!({ "Key": key })).await;
        }
    }
}

/// Signs the heads, and returns them.
pub async fn signed_now(store: &Store, now: i64) -> Vec<SignedHead> {
    let mut heads = Vec::new();
    let long = Duration::from_secs(3600);
    store.sign_audit_heads(now, long, |head| heads.push(head.clone())).await.unwrap();
    heads
}

/// Makes an asymmetric KMS key that can sign, and returns its ARN.
pub async fn create_key(aws: &EmulatedAws) -> String {
    let wanted = json!({ "KeyUsage": "SIGN_VERIFY", "KeySpec": "ECC_NIST_P256" });
    let created = aws.kms("CreateKey", wanted).await;
    created["KeyMetadata"]["Arn"].as_str().unwrap().to_owned()
}

fn event_key(seq: u64) -> Value {
    json!({ "pk": { "S": format!("audit events {CHAIN}") }, "sk": { "S": format!("{seq:020}") } })
}

async fn event(aws: &EmulatedAws, seq: u64) -> Value {
    aws.dynamodb("GetItem", json!({ "Key": event_key(seq) })).await["Item"].clone()
}

/// Changes the grant of one writer's principal that many times.
async fn write(store: &Store, writer: u64, changes: u64, at: i64) {
    let principal = format!("aws:111122223333:role/writer-{writer}");
    let principal = Principal::parse_stored(&principal).unwrap();
    let access = operator().grant_access(CHAIN.parse().unwrap());
    for _ in 0..changes {
        let end = ExpiryChange::At(NEXT_END.fetch_add(1, Ordering::Relaxed));
        let change = Change { set: Permissions::NONE, clear: Permissions::NONE, expires_at: end };
        let updated = store.update_grant(&access, principal.clone(), change, None, &kept(at)).await;
        if matches!(updated.unwrap(), Updated::Absent) {
            create(store, &principal, at).await;
        }
    }
}

async fn create(store: &Store, principal: &Principal, at: i64) {
    let access = operator().grant_access(CHAIN.parse().unwrap());
    let permissions = [Permission::Download, Permission::Upload].into_iter().collect();
    let principal = principal.clone();
    let new = stile_store::NewGrant { principal, permissions, expires_at: None, pin: None };
    store.create_grant(&access, new, &kept(at)).await.unwrap();
}
