//! The text by which modules are found: documents with the texts of many modules, so that a search
//! reads few items.
//!
//! A module's document depends on its name only. A publish replaces one document, if nobody else has
//! replaced it since the read.

use std::collections::HashMap;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use stile_core::grants::PermittedNamespaces;
use stile_core::package::{PackageKind, SearchText};
use stile_core::search::SearchEntry;
use stile_protocol::names::{ModuleAddress, Namespace};

use super::attributes::{Row, bytes, number, read_bytes, read_number};
use super::table::{Key, Write};
use super::{DynamoDb, compression};
use crate::StoreError;
use crate::records::model::PackagesPage;

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
        let reach = &PermittedNamespaces::All;
        let page = PackagesPage { reach, namespace: Some(namespace), offset: 0, limit: usize::MAX };
        let modules = self.summaries(PackageKind::Module, &page).await?;
        let entries = modules.into_iter().filter_map(|module| {
            let address = module.address.module()?.clone();
            Some(SearchEntry {
                text: texts.remove(&name_of(&address)).unwrap_or_default(),
                address,
                version: module.latest,
                published_at: module.published_at,
            })
        });
        Ok(entries.collect())
    }

    /// Returns the write that records the text of a module. If it would not fit, the document loses
    /// the text of the version before, so that the module is found by its name only.
    ///
    /// `None` if the document cannot be read, or has no text of the module and cannot have one.
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
        let changed = document.map(|document| with_text(document, &name_of(address), text));
        if !matches!(changed, Some((_, true))) {
            tracing::error!(
                alarm = "search_text_left_out",
                module = %address,
                "the text of a module does not fit into the search, so it is found by its name only"
            );
        }
        let write = changed.and_then(|(document, _)| document).map(|compressed| {
            let row =
                [("revision", number(revision.saturating_add(1))), ("document", bytes(compressed))];
            Write::put(key, row).only_if_revision(revision)
        });
        Ok(write)
    }
}

/// Returns the compressed document with the text of a module, and whether that fits. If not, it is
/// the document without the module, which is not larger than the one before.
fn with_text(
    mut document: Map<String, Value>,
    name: &str,
    text: &SearchText,
) -> (Option<Vec<u8>>, bool) {
    let compress = |document: &Map<String, Value>| {
        let json = serde_json::to_vec(document).ok()?;
        compression::compress(&json)
    };
    let before = document.remove(name);
    if let Some(text) = text.to_json() {
        document.insert(name.to_owned(), text);
        if let Some(compressed) = compress(&document) {
            return (Some(compressed), true);
        }
        document.remove(name);
        let document = before.and_then(|_| compress(&document));
        return (document, false);
    }
    let document = before.and_then(|_| compress(&document));
    (document, true)
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

    #[test]
    fn a_text_that_does_not_fit_leaves_no_text_of_an_earlier_version() {
        let mut bytes = vec![0; 280_000];
        getrandom::fill(&mut bytes).unwrap();
        let random = |bytes: &[u8]| Value::from(hex::encode(bytes));
        let earlier = SearchText::new(Some("earlier"), [], "");
        let mut document = Map::new();
        document.insert("x/aws".to_owned(), earlier.to_json().unwrap());
        document.insert("others/aws".to_owned(), random(&bytes));
        let words: String = bytes.chunks(19).map(|word| hex::encode(word) + " ").collect();
        let text = SearchText::new(None, [], &words);
        let names = |written: Option<Vec<u8>>| -> Vec<String> {
            let document = compression::decompress(&written.unwrap()).unwrap();
            let document: Map<String, Value> = serde_json::from_slice(&document).unwrap();
            document.keys().cloned().collect()
        };
        let (written, fits) = with_text(document.clone(), "x/aws", &text);
        assert_eq!(
            (names(written), fits),
            (vec!["others/aws".to_owned(), "x/aws".to_owned()], true)
        );
        // The documents of others grow, until there is no space for it.
        let mut more = vec![0; 120_000];
        getrandom::fill(&mut more).unwrap();
        let mut full = document.clone();
        let (written, _) = (40_000..120_000)
            .step_by(1_000)
            .find_map(|length| {
                full.insert("more/aws".to_owned(), random(&more[..length]));
                let (written, fits) = with_text(full.clone(), "x/aws", &text);
                (!fits).then_some((written, fits))
            })
            .unwrap();
        assert_eq!(names(written), ["more/aws", "others/aws"]);
        full.remove("x/aws");
        assert_eq!(with_text(full, "x/aws", &text), (None, false), "there is nothing to take out");
        let (written, fits) = with_text(document, "x/aws", &SearchText::default());
        assert_eq!((names(written), fits), (vec!["others/aws".to_owned()], true));
    }
}
