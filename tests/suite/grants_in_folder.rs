//! Grants through the API with thousands of them in a data folder, where rows are quick to add.

use rusqlite::Connection;
use serde_json::json;
use stile_protocol::names::Permission;
use stile_tests::broker::{Backend, TestBroker, deploy, role};
use stile_tests::sts::identity::Identity;

#[tokio::test]
async fn a_list_continues_after_a_thousand_grants_of_one_principal() {
    let test = TestBroker::start_on(Backend::Embedded).await.unwrap();
    test.grant(&role("everywhere"), "*", &Permission::ALL).await;
    let database = Connection::open(test.data().join("stile.sqlite3")).unwrap();
    let many = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 1499)
         INSERT INTO grants (principal, namespace, permissions, created_by, created_at, folded)
         SELECT 'aws:111122223333:role/a', printf('n%04d', i), 1, 'test', 0, '' FROM n";
    assert_eq!(database.execute(many, []).unwrap(), 1500);
    let everywhere = Identity::role("111122223333", "everywhere", "i-0abc");
    let token = test.token(&everywhere, &Permission::ALL).await;
    let (mut listed, mut path) = (Vec::new(), "/v1/grants".to_owned());
    for _ in 0..16 {
        let page = test.get(&path, &token).await.json();
        let grants = page["grants"].as_array().unwrap();
        listed.extend(grants.iter().map(|grant| grant["namespace"].as_str().unwrap().to_owned()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/grants?cursor={cursor}");
    }
    let expected: Vec<String> = (0..1500).map(|i| format!("n{i:04}")).collect();
    assert_eq!(listed[..1500], expected);
    assert_eq!(listed[1500..], ["*"]);
}

#[tokio::test]
async fn the_api_creates_two_thousand_grants_on_a_namespace_and_leaves_some_of_a_principal() {
    let test = TestBroker::start_on(Backend::Embedded).await.unwrap();
    test.grant(&role("deploy"), "acme", &Permission::ALL).await;
    let token = test.token(&deploy(), &Permission::ALL).await;
    let many = |principal: &str, namespace: &str, number: usize| {
        let database = Connection::open(test.data().join("stile.sqlite3")).unwrap();
        let sql = format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {number}) \
             INSERT INTO grants (principal, namespace, permissions, created_by, created_at, folded) \
             SELECT {principal}, {namespace}, 1, 'test', 0, '' FROM n"
        );
        database.execute(&sql, []).unwrap();
    };
    let new = json!({"principal": role("ci"), "namespace": "acme", "permissions": ["download"]});
    many("'aws:111122223333:role/ci'", "'n' || i", 1_900);
    let full = test.ask("POST", "/v1/grants", &token, &new).await;
    assert_eq!(full.error(), "409 conflict", "{}", full.text());
    assert!(full.text().contains("1900"), "{}", full.text());
    test.grant(&role("ci"), "acme", &[Permission::Download]).await;
    many("'aws:111122223333:role/r' || i", "'acme'", 2_000);
    let new = json!({"principal": role("new"), "namespace": "acme", "permissions": ["download"]});
    let full = test.ask("POST", "/v1/grants", &token, &new).await;
    assert_eq!(full.error(), "409 conflict", "{}", full.text());
    assert!(full.text().contains("2000"), "{}", full.text());
}
