//! Fills a store with thousands of modules at once. To publish each of them would take minutes.

use std::collections::BTreeMap;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use stile_core::package::SearchText;

use crate::broker::{Backend, TestBroker};

/// The word that only the README of [`RARE_MODULE`] has.
pub const RARE: &str = "zeppelin";

/// The address of the module with [`RARE`].
pub const RARE_MODULE: &str = "acme/m0321/aws";

/// The word that each README has.
pub const COMMON: &str = "platform";

/// The documents with the texts of a namespace in DynamoDB.
const DOCUMENTS: u8 = 64;

fn name(number: usize) -> String {
    format!("m{number:04}")
}

/// Returns the text of a module, which is as long as the store keeps it: 200 words of the README.
fn text(number: usize) -> Value {
    let inputs: Vec<String> = (0..12).map(|at| format!("input_{}", (number + at) % 40)).collect();
    let words: Vec<String> =
        (0..198).map(|at| format!("word{}", (number * 7 + at * 13) % 3000)).collect();
    let rare = if format!("acme/{}/aws", name(number)) == RARE_MODULE { RARE } else { "" };
    let readme = format!("{COMMON} {rare} {}", words.join(" "));
    let description = format!("The module with the number {number}");
    let text = SearchText::new(Some(&description), inputs.iter().map(String::as_str), &readme);
    text.to_json().unwrap()
}

/// Adds modules to the namespace `acme`, each with the version of `acme/vpc/aws`, which must be
/// published as 1.0.0.
///
/// The broker then finds them. Only `acme/vpc/aws` can be downloaded from a store on AWS.
pub async fn fill(test: &TestBroker, modules: usize) {
    match test.backend() {
        Backend::Embedded => fill_folder(test, modules),
        Backend::Aws => fill_table(test, modules).await,
    }
}

fn fill_folder(test: &TestBroker, modules: usize) {
    let mut database = rusqlite::Connection::open(test.data().join("stile.sqlite3")).unwrap();
    let transaction = database.transaction().unwrap();
    for number in 0..modules {
        let name = name(number);
        transaction
            .execute(
                "INSERT INTO module_versions (namespace, name, system, version, sha256, format, bytes, published_by, published_at, search) \
                 SELECT namespace, ?1, system, version, sha256, format, bytes, published_by, published_at, ?2 \
                 FROM module_versions WHERE name = 'vpc'",
                [&name, &text(number).to_string()],
            )
            .unwrap();
        transaction
            .execute(
                "INSERT INTO modules (namespace, name, system, versions_document, latest, latest_at) \
                 SELECT namespace, ?1, system, versions_document, latest, latest_at FROM modules WHERE name = 'vpc'",
                [&name],
            )
            .unwrap();
    }
    transaction.commit().unwrap();
}

async fn fill_table(test: &TestBroker, modules: usize) {
    let mut documents: BTreeMap<u8, Map<String, Value>> = BTreeMap::new();
    let mut rows = Vec::new();
    for number in 0..modules {
        let name = name(number);
        rows.push(json!({
            "pk": {"S": "modules"}, "sk": {"S": format!("acme {name} aws")},
            "latest": {"S": "1.0.0"}, "latest_at": {"N": test.time().to_string()},
        }));
        let key = format!("{name}/aws");
        let document = Sha256::digest(&key)[0] % DOCUMENTS;
        documents.entry(document).or_default().insert(key, text(number));
    }
    rows.extend(documents.into_iter().map(|(number, document)| {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(Value::Object(document).to_string().as_bytes()).unwrap();
        json!({
            "pk": {"S": "search acme"}, "sk": {"S": format!("{number:02}")},
            "revision": {"N": "9"}, "document": {"B": STANDARD.encode(encoder.finish().unwrap())},
        })
    }));
    let rows: Vec<Value> =
        rows.into_iter().map(|row| json!({"PutRequest": {"Item": row}})).collect();
    let aws = test.aws();
    for batch in rows.chunks(25) {
        let items = json!({"RequestItems": {aws.place.table.clone(): batch}});
        aws.dynamodb("BatchWriteItem", items).await;
    }
}
