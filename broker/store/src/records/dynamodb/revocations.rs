//! Revocations as one document, because every bearer check reads all of them.

use serde_json::{Map, Value};
use stile_core::critical;

use super::attributes::{Row, bytes, number, read_bytes, read_number};
use super::table::{Key, Write};
use super::{DynamoDb, compression};
use crate::StoreError;
use crate::records::model::{Revision, RevocationRecords};

/// The fields of the document, which its `crit` may name.
const KNOWN: [&str; 2] = ["tokens", "principals"];

impl DynamoDb {
    /// Returns all revocations.
    pub(crate) async fn revocations(&self) -> Result<RevocationRecords, StoreError> {
        read(self.row(&key()).await?.as_ref())
    }
}

/// Returns the key of the document.
pub(super) fn key() -> Key {
    Key::new("revocations", "revocations")
}

/// Reads the document. An unreadable document is an error. If it counted as empty, revoked tokens
/// would be valid again.
pub(super) fn read(row: Option<&Row>) -> Result<RevocationRecords, StoreError> {
    let Some(row) = row else { return Ok(RevocationRecords::default()) };
    let parse = || {
        let document = compression::decompress(read_bytes(row, "document")?)?;
        let mut unknown: Map<String, Value> = serde_json::from_slice(&document).ok()?;
        if !critical::understood(unknown.get(critical::CRIT), &KNOWN) {
            return None;
        }
        let [tokens, principals] = KNOWN.map(|name| unknown.remove(name));
        Some(RevocationRecords {
            revision: Revision(read_number(row, "revision")?),
            tokens: serde_json::from_value(tokens?).ok()?,
            principals: serde_json::from_value(principals?).ok()?,
            unknown,
        })
    };
    parse().ok_or_else(|| StoreError::corrupt("cannot read the revocations in the store"))
}

/// Returns the write of the document. `None` if the document would become too large.
pub(super) fn write(before: Revision, after: &RevocationRecords) -> Option<Write> {
    let mut document = after.unknown.clone();
    document.insert("tokens".to_owned(), entries(&after.tokens));
    document.insert("principals".to_owned(), entries(&after.principals));
    let compressed = compression::compress(Value::Object(document).to_string().as_bytes())?;
    let row = [("revision", number(before.0.saturating_add(1))), ("document", bytes(compressed))];
    Some(Write::put(key(), row).only_if_revision(before.0))
}

fn entries(list: &[(Value, i64)]) -> Value {
    list.iter().map(|(name, at)| Value::from(vec![name.clone(), (*at).into()])).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use stile_core::token::TokenId;

    use super::*;

    fn row(document: &str) -> Row {
        [
            ("revision".to_owned(), number(3)),
            ("document".to_owned(), bytes(compression::compress(document.as_bytes()).unwrap())),
        ]
        .into()
    }

    #[test]
    fn an_unreadable_document_is_an_error_and_not_an_empty_one() {
        assert_eq!(read(None).unwrap(), RevocationRecords::default());
        for bad in [
            "",
            "{}",
            "[]",
            r#"{"tokens":[],"principals":[],"issuers":[],"crit":["issuers"]}"#,
            r#"{"tokens":[],"principals":[],"crit":[]}"#,
        ] {
            assert!(read(Some(&row(bad))).is_err(), "{bad}");
        }
        assert!(read(Some(&Row::new())).is_err());
    }

    #[test]
    fn a_change_preserves_unreadable_entries_and_what_a_newer_program_added() {
        let document =
            json!({"more": {"x": 1}, "principals": [["x|.*", 5]], "tokens": [["x", 5], [7, 7]]});
        let found = read(Some(&row(&document.to_string()))).unwrap();
        let written = write(found.revision, &found).unwrap();
        let again =
            compression::decompress(read_bytes(written.row().unwrap(), "document").unwrap())
                .unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&again).unwrap(), document);
    }

    #[test]
    fn ten_thousand_revoked_tokens_fit_into_the_document() {
        let tokens = (0..10_000)
            .map(|n| (TokenId::random().unwrap().as_str().into(), 1_800_000_000 + n))
            .collect();
        let all = RevocationRecords { tokens, ..RevocationRecords::default() };
        assert!(write(Revision(0), &all).is_some());
    }
}
