//! Lists of grants on the embedded store, which continue in the middle of one principal.

use rusqlite::Connection;
use stile_protocol::names::Permission;
use stile_tests::broker::{Backend, TestBroker, role};
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
