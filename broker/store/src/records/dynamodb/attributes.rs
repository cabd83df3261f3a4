//! Reads and writes the attributes of an item, including those that a newer program added.

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Map, Value};

/// The attributes of an item.
pub(super) type Row = HashMap<String, AttributeValue>;

pub(super) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub(super) fn number(value: i64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

pub(super) fn texts<'a>(values: impl IntoIterator<Item = &'a str>) -> AttributeValue {
    AttributeValue::Ss(values.into_iter().map(str::to_owned).collect())
}

pub(super) fn bytes(value: impl Into<Vec<u8>>) -> AttributeValue {
    AttributeValue::B(Blob::new(value))
}

pub(super) fn read_text<'a>(row: &'a Row, name: &str) -> Option<&'a str> {
    row.get(name)?.as_s().ok().map(String::as_str)
}

pub(super) fn read_number(row: &Row, name: &str) -> Option<i64> {
    row.get(name)?.as_n().ok()?.parse().ok()
}

pub(super) fn read_bytes<'a>(row: &'a Row, name: &str) -> Option<&'a [u8]> {
    row.get(name)?.as_b().ok().map(AsRef::as_ref)
}

/// Returns the attributes that this program does not know, as JSON. It skips binary ones, because
/// no program writes one that matters outside of a document.
pub(super) fn unknown(row: &Row, known: &[&str]) -> Map<String, Value> {
    let unknown = row.iter().filter(|(name, _)| !known.contains(&name.as_str()));
    unknown.filter_map(|(name, value)| Some((name.clone(), to_json(value)?))).collect()
}

/// Converts the result of [`unknown`] back into attributes.
pub(super) fn from_unknown(unknown: &Map<String, Value>) -> Vec<(String, AttributeValue)> {
    unknown.iter().map(|(name, value)| (name.clone(), from_json(value))).collect()
}

fn to_json(value: &AttributeValue) -> Option<Value> {
    Some(match value {
        AttributeValue::S(text) => Value::from(text.as_str()),
        AttributeValue::N(number) => Value::Number(serde_json::from_str(number).ok()?),
        AttributeValue::Bool(yes) => Value::from(*yes),
        AttributeValue::Null(_) => Value::Null,
        AttributeValue::L(list) => list.iter().map(to_json).collect::<Option<_>>()?,
        AttributeValue::M(map) => {
            let entry =
                |(name, value): (&String, &AttributeValue)| Some((name.clone(), to_json(value)?));
            Value::Object(map.iter().map(entry).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

fn from_json(value: &Value) -> AttributeValue {
    match value {
        Value::Null => AttributeValue::Null(true),
        Value::Bool(yes) => AttributeValue::Bool(*yes),
        Value::Number(number) => AttributeValue::N(number.to_string()),
        Value::String(text) => AttributeValue::S(text.clone()),
        Value::Array(list) => AttributeValue::L(list.iter().map(from_json).collect()),
        Value::Object(map) => {
            let entries = map.iter().map(|(name, value)| (name.clone(), from_json(value)));
            AttributeValue::M(entries.collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn attributes_of_a_newer_program_are_written_back_unchanged() {
        let added = json!({"a": "x", "b": 7, "c": [true, null, {"d": 1.5}]});
        let row: Row = from_unknown(added.as_object().unwrap())
            .into_iter()
            .chain([("known".to_owned(), text("y")), ("blob".to_owned(), bytes([1]))])
            .collect();
        assert_eq!(Value::Object(unknown(&row, &["known"])), added);
    }
}
