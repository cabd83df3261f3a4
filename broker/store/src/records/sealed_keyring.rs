//! The text format of the sealed keyring: the part of each key that is not encrypted, and the whole
//! record.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use stile_core::critical;

use super::model::{ClearKey, SealedKeyring};

/// The field names that a `crit` of a key may contain.
const KNOWN_OF_KEY: [&str; 3] = ["id", "created_at", "mints_from"];

/// The field names that a `crit` of the record may contain.
const KNOWN: [&str; 3] = ["audience", "keys", "blob"];

/// Reads the part of the keys that is not encrypted. `None` if this program does not understand all
/// of it.
pub(crate) fn keys_from_text(text: &str) -> Option<Vec<ClearKey>> {
    keys(&serde_json::from_str(text).ok()?)
}

/// Writes the part of the keys that is not encrypted.
pub(crate) fn keys_to_text(keys: &[ClearKey]) -> String {
    keys_to_json(keys).to_string()
}

/// Reads the whole record.
pub(super) fn from_text(revision: i64, text: &str) -> Option<SealedKeyring> {
    let record: Value = serde_json::from_str(text).ok()?;
    if !critical::understood(record.get(critical::CRIT), &KNOWN) {
        return None;
    }
    Some(SealedKeyring {
        revision,
        audience: record.get("audience")?.as_str()?.to_owned(),
        keys: keys(record.get("keys")?)?,
        blob: match record.get("blob") {
            None => None,
            Some(blob) => Some(STANDARD.decode(blob.as_str()?).ok()?),
        },
    })
}

/// Writes the whole record.
pub(super) fn to_text(keyring: &SealedKeyring) -> String {
    let mut record = json!({ "audience": keyring.audience, "keys": keys_to_json(&keyring.keys) });
    if let Some(blob) = &keyring.blob {
        record["blob"] = STANDARD.encode(blob).into();
    }
    record.to_string()
}

fn keys(list: &Value) -> Option<Vec<ClearKey>> {
    let key = |key: &Value| {
        let understood = critical::understood(key.get(critical::CRIT), &KNOWN_OF_KEY);
        understood.then_some(())?;
        Some(ClearKey {
            id: key.get("id")?.as_str()?.to_owned(),
            created_at: key.get("created_at")?.as_i64()?,
            mints_from: key.get("mints_from")?.as_i64()?,
        })
    };
    list.as_array()?.iter().map(key).collect()
}

fn keys_to_json(keys: &[ClearKey]) -> Value {
    let key = |key: &ClearKey| json!({ "id": key.id, "created_at": key.created_at, "mints_from": key.mints_from });
    keys.iter().map(key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyring_is_read_as_it_was_written_and_an_unknown_critical_field_is_rejected() {
        let key = ClearKey { id: "x".to_owned(), created_at: 1, mints_from: 2 };
        for blob in [None, Some(vec![1, 2, 3])] {
            let keyring = SealedKeyring {
                revision: 7,
                audience: "registry.example.com".to_owned(),
                keys: vec![key.clone()],
                blob,
            };
            assert_eq!(from_text(7, &to_text(&keyring)), Some(keyring));
        }
        let with = |more: &str| format!(r#"[{{"id":"x","created_at":1,"mints_from":2{more}}}]"#);
        assert_eq!(keys_from_text(&with(r#","more":1"#)), Some(vec![key]));
        for bad in [
            with(r#","more":1,"crit":["more"]"#),
            with(r#","crit":[]"#),
            "{}".to_owned(),
            "[1]".to_owned(),
            String::new(),
        ] {
            assert_eq!(keys_from_text(&bad), None, "{bad}");
        }
    }
}
