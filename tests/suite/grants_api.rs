//! Grants through the API: which rights a change needs, and editors who meet.

use serde_json::{Value, json};
use stile_core::grants::Pin;
use stile_core::principal::Principal;
use stile_protocol::names::Permission::{self, CreateGrant, DeleteGrant, Download, Upload};
use stile_protocol::names::Permissions;
use stile_tests::broker::grants::{LATER, path_of};
use stile_tests::broker::{NOW, TestBroker, deploy, role};
use stile_tests::sts::identity::Identity;

const ALL: [Permission; 4] = Permission::ALL;

/// Returns a session of a role.
fn named(name: &str) -> Identity {
    Identity::role("111122223333", name, "i-0abc")
}

/// Starts a broker, on which `deploy` has everything on `acme`.
async fn registry() -> Option<(TestBroker, String)> {
    let test = TestBroker::start_on(super::BACKEND).await?;
    test.grant(&role("deploy"), "acme", &ALL).await;
    let token = test.token(&deploy(), &ALL).await;
    Some((test, token))
}

/// What a bearer tries on each namespace of the table, with the status of each.
const TRIES: [&str; 5] = ["list", "create", "widen", "narrow", "delete"];

/// Tries everything on one namespace. `who` is part of the names of the principals whose grants change.
async fn tries(test: &TestBroker, token: &str, namespace: &str, who: &str) -> Vec<u16> {
    let whose = |what: &str| role(&format!("{what}-{who}"));
    for (what, has, end) in [
        ("widen", &[Download][..], Some(LATER.0)),
        ("narrow", &[Download, Upload], None),
        ("delete", &[Download], None),
    ] {
        test.grant_until(&whose(what), namespace, has, end).await;
    }
    let body = |what: &str, more: Value| {
        let mut body = json!({"principal": whose(what), "namespace": namespace});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let list = format!("/v1/grants?namespace={namespace}");
    let delete = path_of(&whose("delete"), namespace);
    let mut statuses = Vec::new();
    for (method, path, body) in [
        ("GET", list.as_str(), Value::Null),
        ("POST", "/v1/grants", body("create", json!({"permissions": ["download"]}))),
        ("PATCH", "/v1/grants", body("widen", json!({"expires_at": null}))),
        ("PATCH", "/v1/grants", body("narrow", json!({"clear": ["upload"]}))),
        ("DELETE", &delete, Value::Null),
    ] {
        let reply = test.ask(method, path, token, &body).await;
        if !reply.status.is_success() {
            assert_eq!(reply.error(), "403 no_grant", "{method} {path} {body}");
        }
        statuses.push(reply.status.as_u16());
    }
    statuses
}

#[tokio::test]
async fn every_combination_of_permissions_may_do_what_is_written_here() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let on = [("acme", "acme"), ("another namespace", "other"), ("*", "*")];
    let mut table = String::new();
    for held in ["acme", "*"] {
        let columns = |cells: &[&str]| cells.iter().map(|cell| format!("{cell:<8}")).collect();
        let mut lines = vec![format!("granted on {held:<33}"), " ".repeat(44)];
        for (title, _) in on {
            lines[0].push_str(&format!("{title:<42}"));
            let names: String = columns(&TRIES);
            lines[1].push_str(&format!("{names:<42}"));
        }
        for bits in 0..16_u8 {
            let may: Vec<Permission> = Permissions::from_bits(bits).unwrap().iter().collect();
            let who = format!("{bits}-{}", if held == "*" { "all" } else { held });
            let giver = format!("giver-{who}");
            // The token is for everything, so that only the grants decide.
            test.grant(&role(&giver), "elsewhere", &ALL).await;
            if !may.is_empty() {
                test.grant(&role(&giver), held, &may).await;
            }
            let token = test.token(&named(&giver), &ALL).await;
            let names: Vec<&str> = may.iter().map(|permission| permission.as_str()).collect();
            let names = if names.is_empty() { "-".to_owned() } else { names.join(" ") };
            let mut line = format!("{names:<44}");
            for (_, namespace) in on {
                let statuses = tries(&test, &token, namespace, &who).await;
                let statuses: Vec<String> = statuses.iter().map(u16::to_string).collect();
                let statuses: Vec<&str> = statuses.iter().map(String::as_str).collect();
                let cells: String = columns(&statuses);
                line.push_str(&format!("{cells:<42}"));
            }
            lines.push(line);
        }
        for line in lines {
            table.push_str(line.trim_end());
            table.push('\n');
        }
        table.push('\n');
    }
    insta::assert_snapshot!(table);
}

#[tokio::test]
async fn a_grant_is_created_read_changed_and_deleted() {
    let Some((test, token)) = registry().await else { return };
    let typed = "arn:aws:sts::111122223333:assumed-role/ci/i-1";
    let path = path_of(&role("ci"), "acme");
    assert_eq!(test.ask("DELETE", &path, &token, &Value::Null).await.error(), "404 not_found");
    let absent = json!({"principal": typed, "namespace": "acme", "set": ["download"]});
    let absent = test.ask("PATCH", "/v1/grants", &token, &absent).await;
    assert_eq!(absent.error(), "404 not_found");
    let none = test.get(&path, &token).await;
    assert_eq!((none.json(), none.header("etag")), (json!({"grants": []}), ""));

    let new = json!({"principal": typed, "namespace": "acme", "permissions": ["upload", "download"], "expires_at": LATER.1});
    let created = test.ask("POST", "/v1/grants", &token, &new).await;
    assert_eq!(created.status, 201, "{}", created.text());
    let mut expected = json!({
        "principal": role("ci"),
        "namespace": "acme",
        "permissions": ["download", "upload"],
        "expires_at": LATER.1,
        "created_by": role("deploy"),
        "created_at": "2026-11-20T10:11:12Z",
        "etag": created.header("etag"),
    });
    assert_eq!(created.json(), expected);
    assert_eq!(created.header("cache-control"), "no-store");
    let again = test.ask("POST", "/v1/grants", &token, &new).await;
    assert_eq!((again.status.as_u16(), again.json()), (200, expected.clone()));
    assert_eq!(again.header("etag"), created.header("etag"));
    let differs = json!({"principal": typed, "namespace": "acme", "permissions": ["download"]});
    let differs = test.ask("POST", "/v1/grants", &token, &differs).await;
    assert_eq!(differs.error(), "409 conflict");
    assert!(differs.text().contains("PATCH /v1/grants"), "{}", differs.text());
    let case = json!({"principal": role("CI"), "namespace": "acme", "permissions": ["download"]});
    let case = test.ask("POST", "/v1/grants", &token, &case).await;
    assert_eq!(case.error(), "409 conflict", "{}", case.text());

    let read = test.get(&path, &token).await;
    assert_eq!(read.json(), json!({"grants": [expected]}));
    assert_eq!(read.header("etag"), created.header("etag"));
    let change =
        json!({"principal": typed, "namespace": "acme", "clear": ["upload"], "expires_at": null});
    let changed =
        test.ask_if("PATCH", "/v1/grants", &token, &change, &[created.header("etag")]).await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    assert_ne!(changed.header("etag"), created.header("etag"));
    expected["permissions"] = json!(["download"]);
    expected["etag"] = changed.header("etag").into();
    expected.as_object_mut().unwrap().remove("expires_at");
    assert_eq!(changed.json(), expected);
    assert_eq!(
        test.stored_grants().await,
        ["ci acme download", "deploy acme create_grant,delete_grant,download,upload"]
    );
    let pin = test.store().principal_state(vec![Principal::parse_stored(&role("ci")).unwrap()]);
    assert_eq!(pin.await.unwrap().pin, Pin::Unpinned, "the API sets no pin");
    let tag = [changed.header("etag")];
    let deleted = test.ask_if("DELETE", &path, &token, &Value::Null, &tag).await;
    assert_eq!((deleted.status.as_u16(), deleted.text().as_str()), (204, ""));
    assert_eq!(test.ask("DELETE", &path, &token, &Value::Null).await.error(), "404 not_found");
}

#[tokio::test]
async fn who_gives_has_an_end_and_so_has_what_it_gives_and_the_gift_outlives_the_token() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    test.grant_until(&role("deploy"), "acme", &ALL, Some(LATER.0)).await;
    let token = test.token(&deploy(), &ALL).await;
    let new = json!({"principal": role("ci"), "namespace": "acme", "permissions": ["download"], "expires_at": LATER.1});
    assert_eq!(test.ask("POST", "/v1/grants", &token, &new).await.status, 201);
    test.advance(4000);
    assert_eq!(test.get("/v1/grants", &token).await.error(), "401 unauthorized");
    let ci = test.token(&named("ci"), &[Download]).await;
    assert_eq!(test.get("/v1/modules/acme", &ci).await.status, 200);
}

#[tokio::test]
async fn of_two_editors_at_once_one_gets_412_and_nothing_is_lost() {
    let Some((test, token)) = registry().await else { return };
    test.grant(&role("ci"), "acme", &[Download]).await;
    let path = path_of(&role("ci"), "acme");
    let tag = test.get(&path, &token).await.header("etag").to_owned();
    let set = |permission: &str| json!({"principal": role("ci"), "namespace": "acme", "set": [permission]});
    let (upload, create) = (set("upload"), set("create_grant"));
    let expected = [tag.as_str()];
    let (first, second) = tokio::join!(
        test.ask_if("PATCH", "/v1/grants", &token, &upload, &expected),
        test.ask_if("PATCH", "/v1/grants", &token, &create, &expected),
    );
    let mut outcomes = [first.error(), second.error()];
    outcomes.sort();
    assert_eq!(outcomes, ["200 -", "412 precondition_failed"]);
    let now = test.get(&path, &token).await;
    let has = now.json()["grants"][0]["permissions"].as_array().unwrap().len();
    assert_eq!(has, 2, "{}", now.text());
    let late = test.ask_if("DELETE", &path, &token, &Value::Null, &expected).await;
    assert_eq!(late.error(), "412 precondition_failed");

    // Without a condition, each change adds to the other.
    let (first, second) = tokio::join!(
        test.ask("PATCH", "/v1/grants", &token, &upload),
        test.ask("PATCH", "/v1/grants", &token, &create),
    );
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (200, 200));
    assert_eq!(test.stored_grants().await[0], "ci acme create_grant,download,upload");
}

#[tokio::test]
async fn the_last_grant_giver_stays_unless_the_change_is_forced() {
    let Some((test, token)) = registry().await else { return };
    test.grant_until(&role("ended"), "acme", &ALL, Some(NOW)).await;
    test.grant(&role("reader"), "acme", &[Download, DeleteGrant]).await;
    let own = path_of(&role("deploy"), "acme");
    let clear =
        json!({"principal": role("deploy"), "namespace": "acme", "clear": ["create_grant"]});
    let deleted = test.ask("DELETE", &own, &token, &Value::Null).await;
    let cleared = test.ask("PATCH", "/v1/grants", &token, &clear).await;
    for refused in [&deleted, &cleared] {
        assert_eq!(refused.error(), "409 conflict", "{}", refused.text());
        let hint = refused.json()["hint"].as_str().unwrap().to_owned();
        assert!(hint.contains("`force=true`") && hint.contains("`--force`"), "{hint}");
    }
    // An earlier end leaves nobody from then on.
    test.grant_until(&role("shorter"), "acme", &[CreateGrant], Some(LATER.0 + 1)).await;
    let ends = json!({"principal": role("deploy"), "namespace": "acme", "expires_at": LATER.1});
    for (request, until) in [("PATCH", "2026-11-21T10:11:13Z"), ("DELETE", "2026-11-21T10:11:13Z")]
    {
        let refused = match request {
            "PATCH" => test.ask("PATCH", "/v1/grants", &token, &ends).await,
            _ => test.ask("DELETE", &own, &token, &Value::Null).await,
        };
        assert_eq!(refused.error(), "409 conflict", "{}", refused.text());
        let message = refused.json()["message"].as_str().unwrap().to_owned();
        assert!(message.ends_with(&format!("from {until} on")), "{message}");
    }
    // Of a giver that ends anyway, only as much must stay as there was.
    let ended = path_of(&role("shorter"), "acme");
    assert_eq!(test.ask("DELETE", &ended, &token, &Value::Null).await.status, 204);
    for other in ["acme", "*"] {
        test.grant(&role("second"), other, &[CreateGrant]).await;
        assert_eq!(test.ask("DELETE", &own, &token, &Value::Null).await.status, 204, "{other}");
        test.grant(&role("deploy"), "acme", &ALL).await;
        test.delete_grant(&role("second"), other).await;
    }
    let forced = test.ask("PATCH", "/v1/grants?force=true", &token, &clear).await;
    assert_eq!(forced.status, 200, "{}", forced.text());
    let forced = test.ask("DELETE", &format!("{own}&force=true"), &token, &Value::Null).await;
    assert_eq!(forced.status, 204, "{}", forced.text());
}

#[tokio::test]
async fn of_two_grant_givers_who_delete_each_other_at_once_one_stays() {
    for _ in 0..3 {
        let Some((test, first)) = registry().await else { return };
        test.grant(&role("second"), "acme", &ALL).await;
        let second = test.token(&named("second"), &ALL).await;
        let (mine, theirs) = (path_of(&role("deploy"), "acme"), path_of(&role("second"), "acme"));
        let none = Value::Null;
        let (one, other) = tokio::join!(
            test.ask("DELETE", &theirs, &first, &none),
            test.ask("DELETE", &mine, &second, &none),
        );
        let mut outcomes = [one.error(), other.error()];
        outcomes.sort();
        assert_eq!(outcomes[0], "204 -");
        // The slower one is refused for the namespace, or because it has no right any more.
        assert!(["409 conflict", "403 no_grant"].contains(&outcomes[1].as_str()), "{outcomes:?}");
        assert_eq!(test.stored_grants().await.len(), 1);
    }
}

#[tokio::test]
async fn a_name_in_another_case_is_taken_only_on_its_namespace_and_never_for_operators() {
    let Some((test, token)) = registry().await else { return };
    let new = |who: &str| json!({"principal": role(who), "namespace": "acme", "permissions": ["download"]});
    test.grant(&role("secret"), "prod", &[Download]).await;
    let created = test.ask("POST", "/v1/grants", &token, &new("Secret")).await;
    assert_eq!(created.status, 201, "and nobody finds out: {}", created.text());
    let twin = test.ask("POST", "/v1/grants", &token, &new("SECRET")).await;
    assert_eq!(twin.error(), "409 conflict", "{}", twin.text());
    assert_eq!(test.ask("POST", "/v1/grants", &token, &new("CI")).await.status, 201);
    test.grant(&role("ci"), "prod", &[Download]).await;
    let deleted = path_of(&role("CI"), "acme");
    assert_eq!(test.ask("DELETE", &deleted, &token, &Value::Null).await.status, 204);
    let stored = test.stored_grants().await;
    assert!(stored.contains(&"ci prod download".to_owned()), "{stored:?}");
    assert!(stored.contains(&"secret prod download".to_owned()), "{stored:?}");
}
