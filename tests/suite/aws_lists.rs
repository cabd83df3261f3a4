//! Long lists in DynamoDB: the broker reads thousands of versions and grants page by page, and a
//! decision reads no more than it needs.

use serde_json::{Value, json};
use stile_tests::broker::operator::AsOperator as _;
use stile_tests::broker::{TestBroker, module_zip, role};

use crate::aws_store::{VERSIONS, calls, published_on_own_aws};

#[tokio::test]
async fn four_thousand_versions_are_listed_and_one_more_is_added() {
    use std::io::Write;
    let Some((test, token)) = published_on_own_aws().await else { return };
    let key = json!({"pk": {"S": "module acme/vpc/aws"}, "sk": {"S": "versions"}});
    let mut row = test.aws().dynamodb("GetItem", json!({"Key": key})).await["Item"].clone();
    let versions: Vec<Value> =
        (0..4000).map(|n| json!({"version": format!("1.{}.{}", n / 20, n % 20)})).collect();
    let mut folded = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    folded.write_all(json!({"modules": [{"versions": versions}]}).to_string().as_bytes()).unwrap();
    row["document"]["B"] = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        folded.finish().unwrap(),
    )
    .into();
    test.aws().dynamodb("PutItem", json!({"Item": row})).await;
    let listed = |reply: &Value| reply["modules"][0]["versions"].as_array().unwrap().len();
    assert_eq!(listed(&test.get(VERSIONS, &token).await.json()), 4000);
    assert_eq!(test.aws().proxy.take_counts(), calls([("dynamodb GetItem", 1)]));
    assert_eq!(test.publish("acme/vpc/aws", "2.0.0", module_zip("x"), &token).await.status, 201);
    let all = test.get(VERSIONS, &token).await.json();
    assert_eq!(
        (listed(&all), &all["modules"][0]["versions"][4000]),
        (4001, &json!({"version": "2.0.0"}))
    );
}

#[tokio::test]
async fn five_thousand_grants_are_listed_page_by_page() {
    let Some((test, _)) = published_on_own_aws().await else { return };
    // Rows as the broker writes them, each padded so that one answer of 1 MB holds only a part of
    // them.
    let by = "x".repeat(250);
    put(
        &test,
        (0..5000).map(|n| grant_row("grants", &format!("{} acme", other(n)), &other(n), &by)),
    )
    .await;
    let grants = test.store().as_operator().grants(None, None).await.unwrap();
    assert_eq!(grants.len(), 5001);
    assert!(grants.is_sorted_by_key(|grant| grant.principal.to_string()));
    assert!(test.aws().proxy.take_counts()["dynamodb Query"] > 1);
}

#[tokio::test]
async fn a_decision_reads_as_many_bytes_with_five_thousand_grants_of_others_as_without() {
    let Some((test, token)) = published_on_own_aws().await else { return };
    let before = decision(&test, &token).await;
    let key = json!({"pk": {"S": format!("principal {}", role("deploy"))}, "sk": {"S": "grants"}});
    let document =
        test.aws().dynamodb("GetItem", json!({"Key": key})).await["Item"]["document"].clone();
    assert!(document["B"].is_string(), "{document}");
    let ready = |n| {
        json!({
            "pk": {"S": format!("principal {}", other(n))}, "sk": {"S": "grants"}, "revision": {"N": "1"}, "document": document,
        })
    };
    let rows = |n| {
        let principal = other(n);
        [
            grant_row("grants", &format!("{principal} acme"), &principal, "x"),
            grant_row("namespace acme", &principal, &principal, "x"),
            ready(n),
        ]
    };
    put(&test, (0..5000).flat_map(rows)).await;
    assert_eq!(decision(&test, &token).await, before);
}

/// Returns a principal other than `deploy`, by number.
fn other(n: usize) -> String {
    role(&format!("role-{n:04}"))
}

fn grant_row(pk: &str, sk: &str, principal: &str, by: &str) -> Value {
    json!({
        "pk": {"S": pk}, "sk": {"S": sk}, "principal": {"S": principal}, "namespace": {"S": "acme"},
        "permissions": {"N": "1"}, "created_by": {"S": by}, "created_at": {"N": "5"},
    })
}

/// Puts rows into the table, in the largest batches that DynamoDB accepts.
async fn put(test: &TestBroker, rows: impl Iterator<Item = Value>) {
    let rows: Vec<Value> = rows.map(|row| json!({"PutRequest": {"Item": row}})).collect();
    for batch in rows.chunks(25) {
        test.aws()
            .dynamodb(
                "BatchWriteItem",
                json!({"RequestItems": {test.aws().place.table.clone(): batch}}),
            )
            .await;
    }
}

/// Returns the bytes that a request with an expired cache reads: a refresh of the principal state,
/// and the list. One number is for a process that knows its keys, the other for one that just
/// started.
async fn decision(test: &TestBroker, token: &str) -> [usize; 2] {
    let proxy = &test.aws().proxy;
    let cold = test.restarted();
    test.advance(10);
    proxy.take_counts();
    proxy.take_bytes();
    assert_eq!(test.get(VERSIONS, token).await.status, 200);
    assert_eq!(proxy.take_counts(), calls([("dynamodb BatchGetItem", 1), ("dynamodb GetItem", 1)]));
    let warm = proxy.take_bytes();
    assert_eq!(cold.get(VERSIONS, token).await.status, 200);
    assert_eq!(
        proxy.take_counts(),
        calls([("dynamodb BatchGetItem", 2), ("dynamodb GetItem", 1), ("kms Decrypt", 1)])
    );
    [warm, proxy.take_bytes()]
}

#[tokio::test]
async fn a_list_that_takes_several_answers_is_read_to_its_last() {
    let Some(test) = TestBroker::start_alone_on_aws().await else { return };
    // Each grant is so long that an answer of 1 MB holds a few dozen of them.
    let by = "x".repeat(20_000);
    let rows: Vec<Value> = (0..150)
        .map(|n| {
            let principal = role(&format!("role-{n:03}"));
            json!({"PutRequest": {"Item": {
                "pk": {"S": "grants"}, "sk": {"S": format!("{principal} acme")}, "principal": {"S": principal}, "namespace": {"S": "acme"},
                "permissions": {"N": "1"}, "created_by": {"S": by}, "created_at": {"N": "5"},
            }}})
        })
        .collect();
    for batch in rows.chunks(25) {
        test.aws()
            .dynamodb(
                "BatchWriteItem",
                json!({"RequestItems": {test.aws().place.table.clone(): batch}}),
            )
            .await;
    }
    test.aws().proxy.take_counts();
    assert_eq!(test.store().as_operator().grants(None, None).await.unwrap().len(), 150);
    assert!(test.aws().proxy.take_counts()["dynamodb Query"] > 1);
}
