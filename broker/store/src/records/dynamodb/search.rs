//! The text by which modules are found: documents with the texts of many modules, so that a search
//! reads few items.
//!
//! A module's document depends on its name only. A publish replaces one document, if nobody else has
//! replaced it since the read.

use std::collections::HashMap;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use stile_core::grants::PermittedNamespaces;
use stile_core::package::SearchText;
use stile_core::search::SearchEntry;
use stile_protocol::names::{ModuleAddress, Namespace};

use super::attributes::{Row, bytes, number, read_bytes, read_number};
use super::table::{Key, Write};
use super::{DynamoDb, compression};
use crate::StoreError;

/// The number of documents of a namespace.
///
/// A namespace of 5,000 modules has about 80 in each, in 40 KB. Never change it: a module would have
/// a text in two documents.
const DOCUMENTS: u8 = 64;

impl DynamoDb {
    /// Returns the modules of a namespace, each with the text of its latest version.
    ///
    /// The list of modules says which there are, so that one of an older release is found by its
    /// name.
    pub(crate) async fn search_entries(
        &self,
        namespace: &Namespace,
    ) -> Result<Vec<SearchEntry>, StoreError> {
        let mut texts: HashMap<String, SearchText> = HashMap::new();
        self.query(&partition(namespace), "", |row| {
            let document = row.as_ref().and_then(read);
            texts.extend(
                document.into_iter().flatten().map(|(name, text)| (name, SearchText::read(&text))),
            );
            false
        })
        .await?;
        let modules = self.modules(&PermittedNamespaces::All, Some(namespace), 0, usize::MAX);
        Ok(modules
            .await?
            .into_iter()
            .map(|module| SearchEntry {
                text: texts.remove(&name_of(&module.address)).unwrap_or_default(),
                address: module.address,
                version: module.latest,
                published_at: module.published_at,
            })
            .collect())
    }

    /// Returns the write that records the text of a module. `None` if it would not fit, or if the
    /// document cannot be read: then the module is found by its name only.
    pub(super) async fn put_search_text(
        &self,
        address: &ModuleAddress,
        text: &SearchText,
    ) -> Result<Option<Write>, StoreError> {
        let key = key(address);
        let found = self.row(&key).await?;
        let (revision, document) = match &found {
            None => (0, Some(Map::new())),
            Some(row) => (read_number(row, "revision").unwrap_or_default(), read(row)),
        };
        let write = document.and_then(|mut document| {
            match text.to_json() {
                Some(text) => document.insert(name_of(address), text),
                None => document.remove(&name_of(address)),
            };
            let compressed = compression::compress(Value::Object(document).to_string().as_bytes())?;
            let row =
                [("revision", number(revision.saturating_add(1))), ("document", bytes(compressed))];
            Some(Write::put(key, row).only_if_revision(revision))
        });
        if write.is_none() {
            tracing::error!(
                alarm = "search_text_left_out",
                module = %address,
                "the text of a module does not fit into the search, so it is found by its name only"
            );
        }
        Ok(write)
    }
}

fn partition(namespace: &Namespace) -> String {
    format!("search {namespace}")
}

fn name_of(address: &ModuleAddress) -> String {
    format!("{}/{}", address.name, address.system)
}

/// Returns the key of the document that has the text of a module.
fn key(address: &ModuleAddress) -> Key {
    let digest = Sha256::digest(name_of(address));
    let number = digest.first().map_or(0, |byte| byte % DOCUMENTS);
    Key::new(partition(&address.namespace), format!("{number:02}"))
}

fn read(row: &Row) -> Option<Map<String, Value>> {
    let document = compression::decompress(read_bytes(row, "document")?)?;
    serde_json::from_slice(&document).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_of_a_module_depends_on_its_name_and_never_moves() {
        let key_of = |address: &str| key(&address.parse().unwrap());
        assert_eq!(key_of("acme/vpc/aws"), Key::new("search acme", "35"));
        assert_ne!(key_of("acme/vpc/aws"), key_of("other/vpc/aws"));
        let all: std::collections::HashSet<Key> =
            (0..2000).map(|n| key_of(&format!("acme/m{n}/aws"))).collect();
        assert_eq!(all.len(), usize::from(DOCUMENTS));
    }
}
