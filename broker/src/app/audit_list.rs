//! Lists the kept audit events of the namespaces whose grants a bearer may create.
//!
//! Events of operators that are about no single namespace are in another chain, which no bearer sees.

use std::ops::Bound;

use serde_json::{Map, Value};

use super::authorize::Bearer;
use super::broker::Broker;
use stile_core::audit::{Chain, Event, StoredLink};
use stile_core::clock::parse_rfc3339;
use stile_core::grants::{Access, CreateGrant, PermittedNamespaces, Refusal};
use stile_core::principal::Principal;
use stile_protocol::names::{Namespace, Permission};
use stile_store::StoreError;

/// The most events that one request reads, whatever it filters. So no filter costs more than a few
/// reads of the store.
const MAX_READ: usize = 1000;

/// The most chains that one request reads.
const MAX_CHAINS: usize = 16;

/// How far the times of neighbours in a chain can be out of order, in seconds: the clocks of two
/// brokers differ a little, and a clock can be corrected. A list does not end before it.
const OUT_OF_ORDER: i64 = 3600;

/// The fields of an event that name a principal: who did it, and to whom.
const PRINCIPALS: [&str; 2] = ["principal", "about"];

/// Which events a list has.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Only events that this principal caused, or that are about it.
    pub principal: Option<Principal>,
    /// Only events from this time on, in Unix seconds.
    pub since: Option<i64>,
    /// Only events before this time, in Unix seconds.
    pub until: Option<i64>,
}

/// Where the next page of a list begins: in a chain, before an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeforeEvent {
    /// The namespace of the chain.
    pub namespace: Namespace,
    /// The number of the event. The page has events before it.
    pub seq: u64,
}

/// One page of a list: by namespace, and in each the latest first.
#[derive(Debug, Default)]
pub struct AuditPage {
    /// The events, as the store keeps them.
    pub events: Vec<Map<String, Value>>,
    /// Where the next page begins, if there is one. This page can be empty nevertheless.
    pub next: Option<BeforeEvent>,
}

/// The reason why a bearer gets no list.
#[derive(Debug, thiserror::Error)]
pub enum AuditListError {
    /// The bearer may not see the events.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The page is not one of this list.
    #[error("`cursor` must be the `next_cursor` of a page of this list")]
    OtherList,
    /// The store is down.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AuditFilter {
    fn has(&self, event: &Map<String, Value>) -> bool {
        let text = |name: &str| event.get(name).and_then(Value::as_str);
        let time = text("time").and_then(parse_rfc3339);
        let named = |principal: &Principal| {
            PRINCIPALS.iter().any(|name| text(name) == Some(principal.as_str()))
        };
        self.principal.as_ref().is_none_or(named)
            && self.since.is_none_or(|since| time.is_some_and(|time| time >= since))
            && self.until.is_none_or(|until| time.is_some_and(|time| time < until))
    }

    /// Returns whether all events before this one are too old.
    fn is_past(&self, event: &Map<String, Value>) -> bool {
        let time = event.get("time").and_then(Value::as_str).and_then(parse_rfc3339);
        self.since.zip(time).is_some_and(|(since, time)| time < since.saturating_sub(OUT_OF_ORDER))
    }
}

/// Returns a page of events: of one namespace, or of all whose grants the bearer may create.
pub async fn list(
    broker: &Broker,
    bearer: &Bearer,
    namespace: Option<&Namespace>,
    filter: &AuditFilter,
    from: Option<BeforeEvent>,
    limit: usize,
    event: &mut Event,
) -> Result<AuditPage, AuditListError> {
    if let Some(principal) = &filter.principal {
        event.about(principal);
    }
    let namespaces = match namespace {
        Some(namespace) => {
            bearer.access::<CreateGrant>(namespace, event)?;
            vec![namespace.clone()]
        }
        None => permitted(broker, bearer, from.as_ref()).await?,
    };
    // A cursor that this list did not make must not move it to another chain.
    if from.as_ref().is_some_and(|from| !namespaces.contains(&from.namespace)) {
        return Err(AuditListError::OtherList);
    }
    let start = from
        .as_ref()
        .and_then(|from| namespaces.iter().position(|namespace| *namespace == from.namespace));
    let mut left = MAX_READ;
    let mut page = AuditPage::default();
    let rest = namespaces.iter().skip(start.unwrap_or_default());
    for (at, namespace) in rest.enumerate() {
        let first = from.as_ref().filter(|from| from.namespace == *namespace);
        let before = first.map_or(u64::MAX, |from| from.seq);
        if at >= MAX_CHAINS || left == 0 || page.events.len() >= limit {
            page.next = Some(BeforeEvent { namespace: namespace.clone(), seq: before });
            break;
        }
        let access = bearer.may_create_grants(namespace)?;
        page.next =
            read(broker, &access, filter, before, limit, &mut left, &mut page.events).await?;
        if page.next.is_some() {
            break;
        }
    }
    Ok(page)
}

/// Adds the events of one chain to a page. Returns where the next page begins, unless the chain ended.
async fn read(
    broker: &Broker,
    access: &Access<CreateGrant>,
    filter: &AuditFilter,
    mut before: u64,
    limit: usize,
    left: &mut usize,
    events: &mut Vec<Map<String, Value>>,
) -> Result<Option<BeforeEvent>, StoreError> {
    let go_on = |seq| Some(BeforeEvent { namespace: access.namespace().clone(), seq });
    loop {
        let wanted = limit.saturating_sub(events.len()).min(*left);
        if wanted == 0 {
            return Ok(go_on(before));
        }
        let links = broker.store.audit_events(access, before, wanted).await?;
        *left = left.saturating_sub(links.len().max(1));
        let is_last = links.len() < wanted;
        for link in links {
            before = link.seq;
            // `stile-admin audit verify` names an event that cannot be read.
            let Some(event) = fields(&link) else { continue };
            if filter.is_past(&event) {
                return Ok(None);
            }
            if filter.has(&event) {
                events.push(event);
            }
        }
        if is_last {
            return Ok(None);
        }
    }
}

/// Returns the namespaces on which the bearer may create grants, in order.
async fn permitted(
    broker: &Broker,
    bearer: &Bearer,
    from: Option<&BeforeEvent>,
) -> Result<Vec<Namespace>, AuditListError> {
    let permission = Permission::CreateGrant;
    match bearer.permitted_namespaces(permission) {
        PermittedNamespaces::Only(namespaces) if namespaces.is_empty() => {
            let principal = bearer.principal().clone();
            Err(Refusal::NoGrant { principal, namespace: None, permission }.into())
        }
        PermittedNamespaces::Only(namespaces) => Ok(namespaces.into_iter().collect()),
        PermittedNamespaces::All => {
            let mut namespaces = std::collections::BTreeSet::new();
            for head in broker.store.audit_heads().await? {
                if let Chain::Namespace(namespace) = head.chain {
                    namespaces.insert(namespace);
                }
            }
            let first = from.map_or(Bound::Unbounded, |from| Bound::Included(&from.namespace));
            Ok(namespaces.range((first, Bound::Unbounded)).cloned().collect())
        }
    }
}

fn fields(link: &StoredLink) -> Option<Map<String, Value>> {
    serde_json::from_str(link.body.as_deref()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(value: Value) -> Map<String, Value> {
        let Value::Object(fields) = value else { panic!("an object") };
        fields
    }

    #[test]
    fn a_filter_has_the_events_that_a_principal_caused_or_that_are_about_it() {
        let deploy = "aws:111122223333:role/deploy";
        let filter = AuditFilter {
            principal: Some(Principal::parse_stored(deploy).unwrap()),
            ..AuditFilter::default()
        };
        for (fields, expected) in [
            (json!({ "principal": deploy }), true),
            (json!({ "principal": "aws:111122223333:role/other", "about": deploy }), true),
            (json!({ "principal": "aws:111122223333:role/other" }), false),
            (json!({ "session": deploy }), false),
            (json!({}), false),
        ] {
            assert_eq!(filter.has(&event(fields.clone())), expected, "{fields}");
        }
    }

    #[test]
    fn a_filter_begins_at_its_start_and_ends_before_its_end() {
        let filter =
            AuditFilter { since: Some(1_000), until: Some(2_000), ..AuditFilter::default() };
        for (time, expected) in [
            (json!("1970-01-01T00:16:39Z"), false),
            (json!("1970-01-01T00:16:40Z"), true),
            (json!("1970-01-01T00:33:19Z"), true),
            (json!("1970-01-01T00:33:20Z"), false),
            (json!("yesterday"), false),
            (json!(1_500), false),
        ] {
            let fields = event(json!({ "time": time }));
            assert_eq!(filter.has(&fields), expected, "{time}");
        }
    }

    #[test]
    fn a_list_does_not_end_at_an_event_whose_clock_was_a_little_behind() {
        let filter = AuditFilter { since: Some(10_000), ..AuditFilter::default() };
        let at = |time: &str| filter.is_past(&event(json!({ "time": time })));
        assert!(!at("1970-01-01T01:46:40Z") && at("1970-01-01T01:46:39Z"));
    }
}
