//! The record of a trust: its id and revision, which conditions compare, and a JSON text.

use serde_json::{Map, Value, json};
use stile_core::critical;
use stile_core::principal::{LocalName, UniqueId};
use stile_core::trust::{ClaimPath, Condition, IssuerUrl, LiveTrust, Rule, Trust};

use crate::StoreError;

/// The fields of the text, which its `crit` may name.
const KNOWN: [&str; 8] =
    ["issuer", "audience", "conditions", "max_age", "keys", "by", "at", "changed"];

/// A trust as a backend keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TrustRecord {
    pub(crate) name: LocalName,
    pub(crate) id: UniqueId,
    pub(crate) revision: i64,
    /// The rest, as a JSON object.
    pub(crate) text: String,
}

/// A trust as a backend found it. A part that this program cannot read is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FoundTrust {
    pub(crate) name: Option<LocalName>,
    pub(crate) id: Option<UniqueId>,
    pub(crate) revision: Option<i64>,
    pub(crate) text: Option<String>,
}

impl FoundTrust {
    /// Returns what a decision about a token needs. It is an error if this program cannot read that:
    /// neither yes nor no is known.
    pub(crate) fn live(self, name: &str) -> Result<LiveTrust, StoreError> {
        let live = self.id.zip(self.revision);
        live.map(|(id, revision)| LiveTrust { id, revision }).ok_or_else(|| {
            StoreError::corrupt(format!("cannot read the trust `{name}` in the store"))
        })
    }

    /// Returns the trust, if this program understands all of it.
    pub(crate) fn read(&self) -> Option<Trust> {
        let record = TrustRecord {
            name: self.name.clone()?,
            id: self.id.clone()?,
            revision: self.revision?,
            text: self.text.clone()?,
        };
        record.read()
    }
}

impl TrustRecord {
    /// Creates the record of a trust. It keeps the fields of `before` that this program does not know.
    pub(crate) fn of(trust: &Trust, before: Option<&str>) -> Self {
        let before = before.and_then(|text| serde_json::from_str(text).ok());
        let mut fields: Map<String, Value> = before.unwrap_or_default();
        let conditions: Vec<Value> = trust.conditions.iter().map(condition_to_json).collect();
        fields.insert("issuer".to_owned(), trust.issuer.as_str().into());
        fields.insert("conditions".to_owned(), conditions.into());
        fields.insert("max_age".to_owned(), trust.max_age.into());
        fields.insert("by".to_owned(), trust.created_by.as_str().into());
        fields.insert("at".to_owned(), trust.created_at.into());
        fields.insert("changed".to_owned(), trust.changed_at.into());
        for (name, value) in [("audience", &trust.audience), ("keys", &trust.keys)] {
            match value {
                Some(value) => fields.insert(name.to_owned(), value.as_str().into()),
                None => fields.remove(name),
            };
        }
        Self {
            name: trust.name.clone(),
            id: trust.id.clone(),
            revision: trust.revision,
            text: Value::Object(fields).to_string(),
        }
    }

    fn read(self) -> Option<Trust> {
        let fields: Map<String, Value> = serde_json::from_str(&self.text).ok()?;
        if !critical::understood(fields.get(critical::CRIT), &KNOWN) {
            return None;
        }
        let text = |name: &str| fields.get(name)?.as_str().map(str::to_owned);
        let number = |name: &str| fields.get(name)?.as_i64();
        let optional = |name: &str| match fields.get(name) {
            None => Some(None),
            Some(value) => value.as_str().map(|text| Some(text.to_owned())),
        };
        let conditions = fields.get("conditions")?.as_array()?.iter();
        let trust = Trust {
            issuer: text("issuer")?.parse::<IssuerUrl>().ok()?,
            audience: optional("audience")?,
            conditions: conditions.map(condition_from_json).collect::<Option<_>>()?,
            max_age: number("max_age")?,
            keys: optional("keys")?,
            created_by: text("by")?,
            created_at: number("at")?,
            changed_at: number("changed")?,
            id: self.id,
            name: self.name,
            revision: self.revision,
        };
        // A record with terms that no operator can choose is damaged, and could believe too much.
        trust.terms().check().is_ok().then_some(trust)
    }
}

fn condition_to_json(condition: &Condition) -> Value {
    let claim = condition.path.as_str();
    match &condition.rule {
        Rule::Equals(value) => json!({"claim": claim, "equals": value}),
        Rule::Prefix(prefix) => json!({"claim": claim, "prefix": prefix}),
        Rule::Contains(value) => json!({"claim": claim, "contains": value}),
    }
}

/// Reads a condition. One with a field that this program does not know may be stricter than what this
/// program would check, so it is unreadable.
fn condition_from_json(value: &Value) -> Option<Condition> {
    let fields = value.as_object().filter(|fields| fields.len() == 2)?;
    let path = ClaimPath::parse(fields.get("claim")?.as_str()?).ok()?;
    let (name, value) = fields.iter().find(|(name, _)| *name != "claim")?;
    let is_scalar = match value {
        Value::String(text) => !text.is_empty(),
        Value::Bool(_) => true,
        Value::Number(number) => number.is_i64() || number.is_u64(),
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    };
    let rule = match name.as_str() {
        "equals" => Rule::Equals(value.clone()),
        "prefix" => Rule::Prefix(value.as_str()?.to_owned()),
        "contains" => Rule::Contains(value.clone()),
        _ => return None,
    };
    is_scalar.then_some(Condition { path, rule })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trust() -> Trust {
        Trust {
            id: UniqueId::random_trust().unwrap(),
            name: "ci".parse().unwrap(),
            revision: 3,
            issuer: "https://git.corp.example".parse().unwrap(),
            audience: Some("https://registry.example.com".to_owned()),
            conditions: vec![
                Condition::equals("project_id=74").unwrap(),
                Condition::equals("ref_protected:=true").unwrap(),
                Condition::equals("/a~1b/n:=7").unwrap(),
                Condition::prefix("ref=release-*").unwrap(),
                Condition::contains("groups=platform").unwrap(),
            ],
            max_age: 600,
            keys: Some(r#"{"keys":[]}"#.to_owned()),
            created_by: "ops".to_owned(),
            created_at: 5,
            changed_at: 9,
        }
    }

    fn found(record: TrustRecord) -> FoundTrust {
        FoundTrust {
            name: Some(record.name),
            id: Some(record.id),
            revision: Some(record.revision),
            text: Some(record.text),
        }
    }

    #[test]
    fn a_trust_is_read_as_it_was_written() {
        let bare = Trust { audience: None, keys: None, ..trust() };
        for trust in [trust(), bare] {
            assert_eq!(found(TrustRecord::of(&trust, None)).read(), Some(trust));
        }
    }

    #[test]
    fn a_record_that_this_program_does_not_understand_believes_nothing() {
        let record = TrustRecord::of(&trust(), None);
        let fields: Value = serde_json::from_str(&record.text).unwrap();
        let condition = |condition: Value| ("conditions", json!([condition]));
        for (field, value) in [
            ("crit", json!(["aws_account"])),
            ("crit", json!([])),
            ("issuer", json!("http://git.corp.example")),
            ("issuer", json!(null)),
            ("audience", json!(7)),
            ("audience", json!("")),
            ("conditions", json!([])),
            ("conditions", json!({})),
            condition(json!("ref=main")),
            condition(json!({"claim": "ref"})),
            condition(json!({"claim": "ref", "equals": null})),
            condition(json!({"claim": "ref", "equals": ""})),
            condition(json!({"claim": "ref", "equals": [1]})),
            condition(json!({"claim": "ref", "equals": 1.5})),
            condition(json!({"claim": "ref", "prefix": ""})),
            condition(json!({"claim": "ref", "prefix": 1})),
            condition(json!({"claim": "", "equals": "a"})),
            condition(json!({"claim": "ref", "matches": "a"})),
            condition(json!({"claim": "ref", "equals": "a", "until": 7})),
            condition(json!({"Claim": "ref", "equals": "a"})),
            ("max_age", json!(0)),
            ("max_age", json!("600")),
            ("max_age", json!(90_000)),
            ("keys", json!([])),
            ("by", json!(null)),
            ("at", json!(null)),
            ("changed", json!(null)),
        ] {
            let mut changed = fields.clone();
            changed[field] = value.clone();
            let damaged = TrustRecord { text: changed.to_string(), ..record.clone() };
            assert_eq!(found(damaged).read(), None, "{field} {value}");
        }
        for text in ["", "[]", "null", "{"] {
            let damaged = TrustRecord { text: text.to_owned(), ..record.clone() };
            assert_eq!(found(damaged).read(), None, "{text}");
        }
        assert_eq!(FoundTrust::default().read(), None);
        let without_id = FoundTrust { id: None, ..found(record) };
        assert_eq!(without_id.read(), None);
    }

    #[test]
    fn a_change_keeps_what_a_newer_program_added() {
        let trust = Trust { keys: None, ..trust() };
        let before = r#"{"note":{"a":1},"keys":"old","max_age":1}"#;
        let record = TrustRecord::of(&trust, Some(before));
        let fields: Value = serde_json::from_str(&record.text).unwrap();
        assert_eq!((&fields["note"], fields.get("keys")), (&json!({"a": 1}), None));
        assert_eq!(found(record).read(), Some(trust));
    }
}
