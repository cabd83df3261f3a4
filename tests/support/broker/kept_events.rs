//! Reads the audit events that a store keeps, and verifies every chain.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use stile_core::audit::{Head, Verifier};
use stile_store::Store;

/// Returns the kept events of each chain. Every chain must be whole up to its head.
pub async fn kept_events(store: &Store) -> BTreeMap<String, Vec<Value>> {
    let mut chains = BTreeMap::new();
    for head in store.audit_heads().await.unwrap() {
        let mut verifier = Verifier::after(Head::empty(head.chain.clone()));
        verifier.expect(head.seq, head.hash);
        let mut events = Vec::new();
        loop {
            let page = store.audit_page(&head.chain, verifier.last(), 100).await.unwrap();
            assert!(page.strays.is_empty(), "{}: {:?}", head.chain, page.strays);
            if page.links.is_empty() {
                break;
            }
            for link in page.links {
                assert_eq!(verifier.check(&link), [], "{}: {link:?}", head.chain);
                events.push(serde_json::from_str(&link.body.unwrap()).unwrap());
            }
        }
        assert_eq!(verifier.finish(), None, "{}", head.chain);
        chains.insert(head.chain.to_string(), events);
    }
    chains
}

/// Returns the fields of a kept event without its place and time, which no line of the log has.
pub fn without_place(event: &Value) -> Map<String, Value> {
    let mut fields = event.as_object().unwrap().clone();
    for name in ["chain", "seq", "time"] {
        assert!(fields.remove(name).is_some(), "{event}");
    }
    fields
}

/// Returns the fields of a line of the log as a kept event has them.
pub fn as_kept(line: &Value) -> Map<String, Value> {
    let mut fields = line.as_object().unwrap().clone();
    if let Some(id) = fields.get("span").and_then(|span| span.get("id")).cloned() {
        fields.insert("request_id".to_owned(), id);
    }
    for name in ["timestamp", "level", "target", "span", "spans"] {
        fields.remove(name);
    }
    fields
}
