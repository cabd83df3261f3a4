//! Delegated grants on AWS: what the function's role must be allowed, and the calls of a change.

use serde_json::{Value, json};
use stile_protocol::names::Permission;
use stile_tests::aws::proxy::Fault;
use stile_tests::broker::grants::path_of;
use stile_tests::broker::{TestBroker, deploy, role};
use stile_tests::sts::identity::Identity;

use crate::aws_store::calls;

/// The answer of DynamoDB to a call that no policy of the caller allows.
fn denied() -> Fault {
    let message = "User: arn:aws:sts::111122223333:assumed-role/stile-function/stile is not authorized to perform: dynamodb:PutItem on resource: arn:aws:dynamodb:eu-west-1:111122223333:table/stile because no identity-based policy allows the dynamodb:PutItem action";
    let kind = "com.amazon.coral.service#AccessDeniedException";
    Fault::Answer {
        status: 400,
        content_type: "application/x-amz-json-1.0",
        body: json!({"__type": kind, "Message": message}).to_string(),
    }
}

async fn registry() -> Option<(TestBroker, String)> {
    let test = TestBroker::start_alone_on_aws().await?;
    test.grant(&role("deploy"), "acme", &Permission::ALL).await;
    test.grant(&role("second"), "acme", &Permission::ALL).await;
    let token = test.token(&deploy(), &Permission::ALL).await;
    assert_eq!(test.get("/v1/grants", &token).await.status, 200);
    Some((test, token))
}

fn requests() -> [(&'static str, String, Value); 3] {
    let ci = role("ci");
    [
        (
            "POST",
            "/v1/grants".to_owned(),
            json!({"principal": ci, "namespace": "acme", "permissions": ["download"]}),
        ),
        (
            "PATCH",
            "/v1/grants".to_owned(),
            json!({"principal": role("second"), "namespace": "acme", "clear": ["upload"]}),
        ),
        ("DELETE", path_of(&role("second"), "acme"), Value::Null),
    ]
}

#[tokio::test]
async fn a_broker_whose_role_may_not_write_grants_says_who_can_allow_it() {
    let Some((test, token)) = registry().await else { return };
    test.aws().proxy.inject("dynamodb TransactWriteItems", .., denied());
    for (method, path, body) in requests() {
        let refused = test.ask(method, &path, &token, &body).await;
        assert_eq!(refused.error(), "403 no_grant", "{method}: {}", refused.text());
        let reply = refused.json();
        assert_eq!(reply["message"], "this registry does not let its broker change grants");
        assert!(reply["hint"].as_str().unwrap().contains("`delegated_grants = true`"), "{reply}");
        assert!(!refused.text().contains("arn:aws:sts"), "{reply}");
    }
    test.aws().proxy.repair();
    assert_eq!(test.stored_grants().await.len(), 2);
    // A read that AWS denies says nothing about grants.
    test.aws().proxy.inject("dynamodb BatchGetItem", .., denied());
    for (method, path, body) in requests() {
        let failed = test.ask(method, &path, &token, &body).await;
        assert_eq!(failed.error(), "503 store_unavailable", "{method}");
    }
}

#[tokio::test]
async fn a_change_reads_the_rights_and_the_grant_and_writes_once() {
    let Some((test, token)) = registry().await else { return };
    let [create, change, delete] = requests();
    // The first read has the rights of the bearer, and the second one the grants of the principal. To
    // create a grant, the broker looks for a name in another case on the namespace. To delete a grant giver, the broker looks for another one, and reads its grants.
    // Each change reads the head of the chain of its audit event.
    let (read, write, query) =
        ("dynamodb BatchGetItem", "dynamodb TransactWriteItems", "dynamodb Query");
    let head = ("dynamodb GetItem", 1);
    for ((method, path, body), status, expected) in [
        (create, 201, calls([(read, 2), head, (query, 1), (write, 1)])),
        (change, 200, calls([(read, 2), head, (write, 1)])),
        (delete, 204, calls([(read, 3), head, (query, 1), (write, 1)])),
    ] {
        test.aws().proxy.take_counts();
        let reply = test.ask(method, &path, &token, &body).await;
        assert_eq!(reply.status.as_u16(), status, "{}", reply.text());
        assert_eq!(test.aws().proxy.take_counts(), expected, "{method}");
    }
}

#[tokio::test]
async fn a_change_that_the_rights_in_the_cache_do_not_allow_costs_no_call() {
    let Some((test, _)) = registry().await else { return };
    let token = test.token(&deploy(), &[Permission::Download]).await;
    assert_eq!(test.get("/v1/grants", &token).await.status, 200);
    for (method, path, body) in requests() {
        test.aws().proxy.take_counts();
        let refused = test.ask(method, &path, &token, &body).await;
        assert_eq!(refused.error(), "403 out_of_scope", "{}", refused.text());
        assert_eq!(test.aws().proxy.take_counts(), calls([]), "{method}");
    }
}

#[tokio::test]
async fn a_list_reads_only_the_namespaces_and_the_grants_of_the_bearer() {
    let Some((test, leads)) = registry().await else { return };
    for n in 0..20 {
        test.grant(&role(&format!("other-{n}")), &format!("other-{n}"), &Permission::ALL).await;
    }
    let reads = test.token(&deploy(), &[Permission::Download]).await;
    test.grant(&role("everywhere"), "*", &Permission::ALL).await;
    let everywhere = Identity::role("111122223333", "everywhere", "i-0abc");
    let everywhere = test.token(&everywhere, &Permission::ALL).await;
    let (one, query) = ("dynamodb GetItem", "dynamodb Query");
    for (token, expected, shown) in [
        (&reads, calls([(one, 1)]), 1),
        (&leads, calls([(one, 1), (query, 1)]), 2),
        (&everywhere, calls([(query, 1)]), 23),
    ] {
        assert_eq!(test.get("/v1/whoami", token).await.status, 200);
        test.aws().proxy.take_counts();
        let listed = test.get("/v1/grants", token).await.json();
        assert_eq!(test.aws().proxy.take_counts(), expected);
        assert_eq!(listed["grants"].as_array().unwrap().len(), shown);
    }
    for n in 0..17 {
        test.grant(&role("many"), &format!("many-{n}"), &Permission::ALL).await;
    }
    let many = Identity::role("111122223333", "many", "i-0abc");
    let many = test.token(&many, &Permission::ALL).await;
    assert_eq!(test.get("/v1/whoami", &many).await.status, 200);
    test.aws().proxy.take_counts();
    let refused = test.get("/v1/grants", &many).await;
    assert_eq!(refused.error(), "400 invalid_request", "{}", refused.text());
    assert!(refused.text().contains("name one with `namespace`"), "{}", refused.text());
    assert_eq!(test.aws().proxy.take_counts(), calls([]), "and no cursor names a grant of others");
    let listed = test.get("/v1/grants?namespace=many-3", &many).await.json();
    assert_eq!(listed["grants"].as_array().unwrap().len(), 1);
}
