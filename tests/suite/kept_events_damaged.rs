//! What a damaged chain of audit events stops, and what it never stops: taking access away.

use serde_json::{Value, json};
use stile_core::audit::{Chain, Fault};
use stile_core::principal::Principal;
use stile_core::token::TokenId;
use stile_protocol::names::Permission;
use stile_store::StoreErrorKind;
use stile_tests::broker::journal::Journal;
use stile_tests::broker::kept_events::kept_events;
use stile_tests::broker::operator::AsOperator as _;
use stile_tests::broker::{ACCOUNT, Backend, TestBroker, deploy, role};
use stile_tests::process::home::Home;
use stile_tests::process::programs::{ADMIN, program};

const ALL: [Permission; 4] = Permission::ALL;

/// Starts a registry with events in the chains `acme` and `*`.
async fn registry() -> Option<TestBroker> {
    let test = TestBroker::start_on(super::BACKEND).await?;
    test.grant(&role("deploy"), "acme", &ALL).await;
    test.grant(&role("all"), "*", &ALL).await;
    test.token(&deploy(), &ALL).await;
    Some(test)
}

fn arn(name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:role/{name}")
}

fn principal(name: &str) -> Principal {
    Principal::parse_stored(&role(name)).unwrap()
}

/// Writes rows by hand, as one with the rights of a writer can.
async fn write(test: &TestBroker, sql: &str, rows: &[Value]) {
    match super::BACKEND {
        Backend::Embedded => {
            let database = rusqlite::Connection::open(test.data().join("stile.sqlite3")).unwrap();
            database.execute_batch(sql).unwrap();
        }
        Backend::Aws => {
            for row in rows {
                test.aws().dynamodb("PutItem", json!({ "Item": row })).await;
            }
        }
    }
}

/// Returns an item of a chain with that sort key.
fn row(chain: &str, key: &str) -> Value {
    json!({
        "pk": { "S": format!("audit events {chain}") }, "sk": { "S": key }, "v": { "N": "1" },
        "body": { "S": "{}" },
    })
}

/// Puts a row after the head of the chain of operators.
async fn add_after_head(test: &TestBroker) {
    let heads = test.store().audit_heads().await.unwrap();
    let next = heads.iter().find(|head| head.chain == Chain::Operator).unwrap().seq + 1;
    let sql = format!("INSERT INTO audit_events VALUES ('*', {next}, 1, '{{}}', x'00')");
    write(test, &sql, &[row("*", &format!("{next:020}"))]).await;
}

/// Makes the head of the chain of operators unreadable.
async fn break_head(test: &TestBroker) {
    let sql = "UPDATE audit_heads SET hash = x'00' WHERE chain = '*'";
    let head = json!({ "pk": { "S": "audit heads" }, "sk": { "S": "*" }, "v": { "N": "1" } });
    write(test, sql, &[head]).await;
}

/// Takes access away in each way, with an alarm for each, and finds other changes refused.
async fn revoke_all(test: &TestBroker) {
    let journal = Journal::start();
    let store = test.store().as_operator();
    let alarms = || {
        let log = journal.taken().json.text;
        log.lines().filter(|line| line.contains(r#""alarm":"audit_chain_damaged""#)).count()
    };
    let refused = store.unpin(principal("deploy")).await.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Corrupt, "{refused}");
    assert!(refused.to_string().contains("`*`"), "{refused}");
    assert_eq!(alarms(), 0);
    let now = test.time();
    store.revoke_token(TokenId::random().unwrap(), now).await.unwrap();
    assert_eq!(alarms(), 1);
    assert!(store.revoke_principal(principal("x"), now).await.unwrap());
    assert!(!store.revoke_principal(principal("x"), now).await.unwrap());
    assert_eq!(alarms(), 1);
    assert!(store.lift(principal("x")).await.unwrap());
    assert_eq!(alarms(), 1);
    assert_eq!(store.drop_keys().await.unwrap(), Some(1));
    assert_eq!(alarms(), 1);
    let revocations = store.revocations().await.unwrap();
    assert_eq!((revocations.tokens.len(), revocations.principals.len()), (1, 0));
}

#[tokio::test]
async fn an_event_after_the_head_stops_no_revocation() {
    let Some(test) = registry().await else { return };
    add_after_head(&test).await;
    revoke_all(&test).await;
}

#[tokio::test]
async fn an_unreadable_head_stops_no_revocation() {
    let Some(test) = registry().await else { return };
    break_head(&test).await;
    revoke_all(&test).await;
}

#[tokio::test]
async fn the_command_that_revokes_prints_the_alarm_and_other_commands_refuse() {
    let Some(test) = registry().await else { return };
    add_after_head(&test).await;
    let run = async |arguments: &[&str]| {
        let mut home = Home::temporary();
        match super::BACKEND {
            Backend::Embedded => home.variable("STILE_DATA", test.data()),
            Backend::Aws => {
                for (name, value) in test.aws().environment() {
                    home.variable(name, value);
                }
            }
        }
        home.run(&program(ADMIN), arguments).await
    };
    let ran = run(&["grant", "repin", "--role-arn", &arn("deploy")]).await;
    assert!(ran.code != Some(0) && ran.stderr.contains("so nothing was changed"), "{ran:?}");
    for arguments in [
        &["token", "revoke", "--principal", &arn("x")][..],
        &["token", "lift", "--principal", &arn("x")],
        &["token", "revoke", "--all", "--yes"],
    ] {
        let ran = run(arguments).await;
        let alarm = "has no event in the store, because a chain of audit events is damaged";
        assert!(ran.code == Some(0) && ran.stderr.contains(alarm), "{ran:?}");
    }
}

#[tokio::test]
async fn rows_that_are_no_events_are_named_once_and_listed_never() {
    let Some(test) = registry().await else { return };
    for name in ["one", "two", "three"] {
        test.grant(&role(name), "acme", &ALL).await;
    }
    let whole = kept_events(test.store()).await["acme"].len();
    let (aws, folder) =
        (["!", "00000000000000000000", "000000000000000000020", "5", "x"], ["-5", "0"]);
    let sql =
        "INSERT INTO audit_events VALUES ('acme', 0, 1, '{}', x''), ('acme', -5, 1, '{}', x'')";
    write(&test, sql, &aws.map(|key| row("acme", key))).await;
    let chain = Chain::parse_stored("acme").unwrap();
    for limit in [1, 2, 100] {
        let (mut numbers, mut strays, mut last) = (Vec::new(), Vec::new(), 0);
        loop {
            let page = test.store().audit_page(&chain, last, limit).await.unwrap();
            strays.extend(page.strays);
            let Some(link) = page.links.last() else { break };
            assert!(link.seq > last, "each page goes on");
            last = link.seq;
            numbers.extend(page.links.iter().map(|link| link.seq));
        }
        assert_eq!(numbers, (1..=whole as u64).collect::<Vec<_>>());
        match super::BACKEND {
            Backend::Embedded => assert_eq!(strays, folder),
            Backend::Aws => assert_eq!(strays, aws),
        }
    }
    let listed = test.store().audit_page_before(&chain, u64::MAX, 100).await.unwrap();
    assert_eq!(listed.len(), whole);
    assert!(listed.iter().all(|link| link.seq > 0));
    assert!(Fault::Stray { key: "x".to_owned() }.to_string().contains("\"x\""));
}
