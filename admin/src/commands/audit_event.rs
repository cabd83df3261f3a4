//! Kept audit events as rows, and which of them a list has.

use serde::Deserialize;
use serde_json::{Map, Value};
use stile_core::clock::parse_rfc3339;
use stile_core::principal::Principal;

/// The header of a table of events.
pub(super) const HEADER: [&str; 7] =
    ["time", "chain", "number", "event", "decision", "by", "about"];

/// The fields that say what a change is about, in the order in which people read them.
const ABOUT: [&str; 7] =
    ["about", "package", "webhook", "trust", "permissions", "requested", "expires_at"];

/// One event, with the fields that the store keeps.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(super) struct KeptEvent(Map<String, Value>);

/// Which events a list has.
#[derive(Debug, Clone, Default)]
pub(super) struct EventFilter {
    pub(super) principal: Option<Principal>,
    /// In Unix seconds, inclusive.
    pub(super) since: Option<i64>,
    /// In Unix seconds, exclusive.
    pub(super) until: Option<i64>,
}

impl EventFilter {
    pub(super) fn has(&self, event: &KeptEvent) -> bool {
        let time = event.time();
        let named = |principal: &Principal| {
            ["principal", "about"].iter().any(|name| event.text(name) == principal.as_str())
        };
        self.principal.as_ref().is_none_or(named)
            && self.since.is_none_or(|since| time.is_some_and(|time| time >= since))
            && self.until.is_none_or(|until| time.is_some_and(|time| time < until))
    }
}

impl KeptEvent {
    /// Parses the text in the store. `None` if it is not an event.
    pub(super) fn parse(body: Option<&str>) -> Option<Self> {
        serde_json::from_str(body?).ok()
    }

    fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn chain(&self) -> &str {
        self.text("chain")
    }

    pub(super) fn seq(&self) -> u64 {
        self.0.get("seq").and_then(Value::as_u64).unwrap_or_default()
    }

    /// Returns the time in Unix seconds.
    pub(super) fn time(&self) -> Option<i64> {
        parse_rfc3339(self.text("time"))
    }

    /// Returns where the event is in a list of several chains.
    pub(super) fn place(&self) -> (i64, String, u64) {
        (self.time().unwrap_or_default(), self.chain().to_owned(), self.seq())
    }

    pub(super) fn row(&self) -> Vec<String> {
        let by = ["principal", "operator"].map(|name| self.text(name));
        let by = by.into_iter().find(|text| !text.is_empty()).unwrap_or("-");
        let about: Vec<&str> =
            ABOUT.iter().map(|name| self.text(name)).filter(|text| !text.is_empty()).collect();
        vec![
            self.text("time").to_owned(),
            self.chain().to_owned(),
            self.seq().to_string(),
            self.text("event").to_owned(),
            self.text("decision").to_owned(),
            by.to_owned(),
            if about.is_empty() { "-".to_owned() } else { about.join(" ") },
        ]
    }

    pub(super) fn json(&self) -> Value {
        self.0.clone().into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_names_who_made_the_change_and_what_it_is_about() {
        let body = json!({
            "v": 1, "chain": "acme", "seq": 7, "time": "2023-11-14T22:13:20Z", "event": "grant",
            "decision": "created", "operator": "alice", "about": "aws:111122223333:role/deploy",
            "permissions": "download upload",
        });
        let event = KeptEvent::parse(Some(&body.to_string())).unwrap();
        let about = "aws:111122223333:role/deploy download upload";
        let expected = ["2023-11-14T22:13:20Z", "acme", "7", "grant", "created", "alice", about];
        assert_eq!(event.row(), expected);
        let bare = KeptEvent::parse(Some("{}")).unwrap();
        assert_eq!(bare.row(), ["", "", "0", "", "", "-", "-"]);
        for body in [None, Some(""), Some("[]"), Some("7")] {
            assert_eq!(KeptEvent::parse(body), None);
        }
    }
}
