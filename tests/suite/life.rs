//! The life of a version: deprecated, unpublished and restored, who may do that, and what readers of
//! the version then get. Also what the registry records of its publication.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use stile_protocol::names::Permission::{Download, Upload};
use stile_tests::broker::{Reply, TestBroker, deploy, module_zip, role};
use stile_tests::sts::identity::Identity;

const MODULE: &str = "/v1/modules/acme/vpc/aws";

/// Starts a registry with the versions 1.0.0, 1.1.0 and 2.0.0 of one module, and a token of their
/// publisher.
async fn registry() -> Option<(TestBroker, String)> {
    let test = TestBroker::start_on(super::BACKEND).await?;
    test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    let token = test.token(&deploy(), &[Download, Upload]).await;
    for version in ["1.0.0", "1.1.0", "2.0.0"] {
        let published = test.publish("acme/vpc/aws", version, module_zip(version), &token).await;
        assert_eq!(published.status, 201);
        test.advance(1);
    }
    Some((test, token))
}

async fn send(
    test: &TestBroker,
    method: &str,
    path: &str,
    body: Option<Value>,
    token: &str,
) -> Reply {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {token}"));
    let request = match body {
        Some(body) => {
            request.header("content-type", "application/json").body(Body::from(body.to_string()))
        }
        None => request.body(Body::empty()),
    };
    test.send(request.unwrap()).await
}

async fn unpublish(test: &TestBroker, version: &str, body: Value, token: &str) -> Reply {
    send(test, "DELETE", &format!("{MODULE}/{version}"), Some(body), token).await
}

async fn deprecate(test: &TestBroker, version: &str, body: Value, token: &str) -> Reply {
    send(test, "PUT", &format!("{MODULE}/{version}/deprecation"), Some(body), token).await
}

/// Returns the listed versions.
async fn listed(test: &TestBroker, token: &str) -> Vec<String> {
    let reply = test.get(&format!("{MODULE}/versions"), token).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let document = reply.json();
    let versions = document["modules"][0]["versions"].as_array().unwrap();
    versions.iter().map(|listed| listed["version"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_change_that_is_malformed_or_of_no_version_says_why_and_changes_nothing() {
    let Some((test, token)) = registry().await else { return };
    let reason = json!({"reason": "x"});
    for (method, path, body, status, words) in [
        ("DELETE", "/1.0.0", None, 415, "`application/json`"),
        ("DELETE", "/1.0.0", Some(json!({})), 400, "field `reason` is missing"),
        ("DELETE", "/1.0.0", Some(json!({"reason": "a\nb"})), 400, "`reason` must be one line"),
        ("DELETE", "/1.0.0", Some(json!({"reason": "x", "by": "me"})), 400, "field `by`"),
        ("DELETE", "/1.0", Some(reason.clone()), 400, "must have the form"),
        ("DELETE", "/9.9.9", Some(reason.clone()), 404, "there is no such version"),
        (
            "PUT",
            "/1.0.0/deprecation",
            Some(json!({"reason": "x", "link": "http://a"})),
            400,
            "`link`",
        ),
        (
            "PUT",
            "/1.0.0/deprecation",
            Some(json!({"reason": "x", "replacement": "1"})),
            400,
            "`replacement`",
        ),
        ("PUT", "/9.9.9/deprecation", Some(reason), 404, "there is no such version"),
        (
            "PUT",
            "/1.0.0/deprecation",
            Some(json!({"reason": "x", "replacement": "1.0.0"})),
            400,
            "another version",
        ),
        ("PUT", "/1.0.0/deprecation?x=1", Some(json!({"reason": "x"})), 400, "query parameters"),
        ("DELETE", "/1.0.0/deprecation", Some(json!({})), 400, "takes no body"),
        ("POST", "/1.0.0/restore?x=1", None, 400, "takes no query"),
        ("POST", "/1.0.0/restore", Some(json!({"bogus": 1})), 400, "takes no body"),
        ("DELETE", "/9.9.9/deprecation", None, 404, "there is no such version"),
        ("POST", "/9.9.9/restore", None, 404, "there is no such version"),
    ] {
        let reply = send(&test, method, &format!("{MODULE}{path}"), body, &token).await;
        assert_eq!(reply.status.as_u16(), status, "{method} {path}: {}", reply.text());
        let error = reply.json()["errors"][0].as_str().unwrap_or_default().to_owned();
        assert!(error.contains(words), "{method} {path}: {error}");
    }
    assert_eq!(listed(&test, &token).await, ["1.0.0", "1.1.0", "2.0.0"]);
}

#[tokio::test]
async fn upload_on_one_namespace_changes_no_life_in_another() {
    let Some((test, token)) = registry().await else { return };
    test.grant(&role("other"), "other", &[Download, Upload]).await;
    test.grant(&role("reader"), "acme", &[Download]).await;
    let named = |name: &str| Identity::role("111122223333", name, "i-0abc");
    let other = test.token(&named("other"), &[Download, Upload]).await;
    let reader = test.token(&named("reader"), &[Download]).await;
    let reason = || Some(json!({"reason": "x"}));
    for (who, token) in [("other", &other), ("reader", &reader)] {
        for (method, path, body) in [
            ("DELETE", "acme/vpc/aws/1.0.0", reason()),
            ("DELETE", "acme/vpc/aws/9.9.9", reason()),
            ("DELETE", "acme%2Fvpc/aws/x/1.0.0", reason()),
            ("DELETE", "Acme/vpc/aws/1.0.0", reason()),
            ("PUT", "acme/vpc/aws/1.0.0/deprecation", reason()),
            ("PUT", "acme/vpc/aws/9.9.9/deprecation", reason()),
            ("PUT", "%61cme/vpc/aws/1.0.0/deprecation", reason()),
            ("DELETE", "acme/vpc/aws/1.0.0/deprecation", None),
            ("POST", "acme/vpc/aws/1.0.0/restore", None),
            ("POST", "acme/vpc/aws/9.9.9/restore", None),
        ] {
            let reply = send(&test, method, &format!("/v1/modules/{path}"), body, token).await;
            assert_eq!(reply.status, 403, "{who} {method} {path}: {}", reply.text());
        }
    }
    for path in ["", "/1.0.0", "/9.9.9"] {
        assert_eq!(test.get(&format!("{MODULE}{path}"), &other).await.status, 403, "{path}");
    }
    assert_eq!(listed(&test, &token).await, ["1.0.0", "1.1.0", "2.0.0"]);
}

#[tokio::test]
async fn a_deprecated_version_is_served_as_before_and_its_details_say_why() {
    let Some((test, token)) = registry().await else { return };
    let before = test.get(&format!("{MODULE}/1.0.0"), &token).await.json();
    assert_eq!((&before["deprecation"], &before["unpublished"]), (&Value::Null, &Value::Null));
    let body =
        json!({"reason": "It leaks.", "link": "https://example.com/1", "replacement": "1.1.0"});
    for status in ["deprecated", "unchanged"] {
        let reply = deprecate(&test, "1.0.0", body.clone(), &token).await;
        let expected = json!({"module": "acme/vpc/aws", "version": "1.0.0", "status": status});
        assert_eq!((reply.status.as_u16(), reply.json()), (200, expected));
    }
    let shown = test.get(&format!("{MODULE}/1.0.0"), &token).await.json();
    assert_eq!(
        shown["deprecation"],
        json!({
            "reason": "It leaks.", "link": "https://example.com/1", "replacement": "1.1.0",
            "deprecated_by": role("deploy"), "deprecated_at": "2026-11-20T10:11:15Z",
        })
    );
    assert_eq!(listed(&test, &token).await, ["1.0.0", "1.1.0", "2.0.0"]);
    assert_eq!(test.get(&format!("{MODULE}/1.0.0/download"), &token).await.status, 204);
    let path = format!("{MODULE}/1.0.0/deprecation");
    for status in ["undeprecated", "unchanged"] {
        assert_eq!(send(&test, "DELETE", &path, None, &token).await.json()["status"], status);
    }
    assert_eq!(
        test.get(&format!("{MODULE}/1.0.0"), &token).await.json()["deprecation"],
        Value::Null
    );
}

#[tokio::test]
async fn an_unpublished_version_is_given_to_nobody_and_its_number_is_free_for_nobody() {
    let Some((test, token)) = registry().await else { return };
    let body = json!({"reason": "It deletes data", "replacement": "1.1.0"});
    for status in ["unpublished", "unchanged"] {
        let reply = unpublish(&test, "2.0.0", body.clone(), &token).await;
        assert_eq!((reply.status.as_u16(), reply.json()["status"].as_str()), (200, Some(status)));
    }
    assert_eq!(listed(&test, &token).await, ["1.0.0", "1.1.0"]);
    let refused = test.get(&format!("{MODULE}/2.0.0/download"), &token).await;
    assert_eq!(
        (refused.status.as_u16(), refused.without_id().text().as_str()),
        (
            410,
            "`acme/vpc/aws` 2.0.0 was unpublished on 2026-11-20: It deletes data; use `1.1.0`; request id: REQUEST-ID\n"
        )
    );
    let latest = test.get(&format!("{MODULE}/download"), &token).await;
    assert_eq!(latest.header("location"), format!("{MODULE}/1.1.0/download"));
    let modules = test.get("/v1/modules/acme", &token).await.json();
    assert_eq!(
        (&modules["modules"][0]["version"], &modules["modules"][0]["published_at"]),
        (&json!("1.1.0"), &json!("2026-11-20T10:11:13Z"))
    );
    let shown = test.get(&format!("{MODULE}/2.0.0"), &token).await.json();
    assert_eq!(shown["unpublished"]["reason"], "It deletes data");
    assert_eq!(shown["versions"], json!(["1.0.0", "1.1.0"]));

    let again = test.publish("acme/vpc/aws", "2.0.0", module_zip("2.0.0"), &token).await;
    assert_eq!(again.status, 409);
    assert!(
        again.text().contains("stile-admin module restore acme/vpc/aws 2.0.0"),
        "{}",
        again.text()
    );
    let other = test.publish("acme/vpc/aws", "2.0.0", module_zip("other"), &token).await;
    assert_eq!(other.status, 409);
    assert!(other.text().contains("already published with other content"), "{}", other.text());

    let restore = format!("{MODULE}/2.0.0/restore");
    for status in ["restored", "unchanged"] {
        assert_eq!(send(&test, "POST", &restore, None, &token).await.json()["status"], status);
    }
    assert_eq!(listed(&test, &token).await, ["1.0.0", "1.1.0", "2.0.0"]);
    assert_eq!(test.get(&format!("{MODULE}/2.0.0/download"), &token).await.status, 204);
}

#[tokio::test]
async fn a_module_whose_versions_are_all_unpublished_is_not_listed_and_comes_back() {
    let Some((test, token)) = registry().await else { return };
    for version in ["2.0.0", "1.0.0", "1.1.0"] {
        let reply = unpublish(&test, version, json!({"reason": "x"}), &token).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    assert!(listed(&test, &token).await.is_empty());
    assert_eq!(test.get("/v1/modules/acme", &token).await.json()["modules"], json!([]));
    for path in ["", "/download"] {
        assert_eq!(test.get(&format!("{MODULE}{path}"), &token).await.status, 404, "{path}");
    }
    assert_eq!(test.get(&format!("{MODULE}/1.0.0"), &token).await.status, 200);
    let published = test.publish("acme/vpc/aws", "3.0.0-rc.1", module_zip("new"), &token).await;
    assert_eq!(published.status, 201);
    assert_eq!(listed(&test, &token).await, ["3.0.0-rc.1"]);
    send(&test, "POST", &format!("{MODULE}/1.0.0/restore"), None, &token).await;
    assert_eq!(listed(&test, &token).await, ["1.0.0", "3.0.0-rc.1"]);
}

#[tokio::test]
async fn changes_at_the_same_time_as_publications_lose_neither() {
    let Some((test, token)) = registry().await else { return };
    let test = Arc::new(test);
    let changes: Vec<_> = (0..12)
        .map(|n| {
            let (test, token) = (Arc::clone(&test), token.clone());
            tokio::spawn(async move {
                match n % 3 {
                    0 => unpublish(&test, "1.0.0", json!({"reason": "x"}), &token).await,
                    1 => deprecate(&test, "1.1.0", json!({"reason": "x"}), &token).await,
                    _ => {
                        let version = format!("3.{n}.0");
                        test.publish("acme/vpc/aws", &version, module_zip(&version), &token).await
                    }
                }
            })
        })
        .collect();
    let mut done = Vec::new();
    for change in changes {
        let reply = change.await.unwrap();
        assert!(reply.status.is_success(), "{}", reply.text());
        done.push(reply.json()["status"].as_str().unwrap().to_owned());
    }
    for (status, expected) in
        [("unpublished", 1), ("deprecated", 1), ("unchanged", 6), ("created", 4)]
    {
        assert_eq!(done.iter().filter(|found| *found == status).count(), expected, "{done:?}");
    }
    let expected = ["1.1.0", "2.0.0", "3.2.0", "3.5.0", "3.8.0", "3.11.0"];
    assert_eq!(listed(&test, &token).await, expected);
}

#[tokio::test]
async fn the_registry_records_who_published_a_version_and_names_what_the_environment_claims() {
    let Some((test, token)) = registry().await else { return };
    let claims = json!({
        "environment": "github-actions", "repository": "https://github.com/acme/vpc",
        "commit": "0123abc", "run": "42",
    });
    let publish = async |version: &str, header: String| {
        let request = Request::post(format!("{MODULE}/{version}"))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/zip")
            .header("stile-claimed", header);
        test.send(request.body(Body::from(module_zip(version))).unwrap()).await
    };
    for (header, words) in [
        ("%%%".to_owned(), "`claimed` must be"),
        (URL_SAFE_NO_PAD.encode("[]"), "`claimed` must be"),
        (URL_SAFE_NO_PAD.encode(r#"{"environment":"x","run":"a\u0000"}"#), "`run` must be"),
        (
            URL_SAFE_NO_PAD.encode(r#"{"environment":"x","repository":"https://u:secret@a/"}"#),
            "`repository` must be",
        ),
    ] {
        let reply = publish("3.0.0", header).await;
        assert_eq!(reply.status, 400, "{}", reply.text());
        assert!(
            reply.text().contains(words) && !reply.text().contains("secret"),
            "{}",
            reply.text()
        );
    }
    let published = publish("3.0.0", URL_SAFE_NO_PAD.encode(claims.to_string())).await;
    assert_eq!(published.status, 201, "{}", published.text());
    let shown = test.get(&format!("{MODULE}/3.0.0"), &token).await.json();
    let sha256 = published.json()["sha256"].clone();
    assert_eq!(
        shown["provenance"],
        json!({
            "published_by": role("deploy"), "token_id": shown["provenance"]["token_id"],
            "source": null,
            "published_at": "2026-11-20T10:11:15Z", "sha256": sha256,
            "bytes": module_zip("3.0.0").len(), "format": "zip", "claimed": claims,
        })
    );
    assert_eq!(shown["provenance"]["token_id"].as_str().unwrap().len(), 22);
    let plain = test.get(MODULE, &token).await.json();
    assert_eq!(plain["version"], "3.0.0");
    let unclaimed = test.get(&format!("{MODULE}/2.0.0"), &token).await.json();
    assert_eq!(unclaimed["provenance"]["claimed"], Value::Null);
}

/// Publishes a version from a job that claims this repository.
async fn publish_claiming(test: &TestBroker, version: &str, repository: &str, token: &str) {
    let claims = json!({"environment": "github-actions", "repository": repository}).to_string();
    let request = Request::post(format!("{MODULE}/{version}"))
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/zip")
        .header("stile-claimed", URL_SAFE_NO_PAD.encode(claims));
    let reply = test.send(request.body(Body::from(module_zip(version))).unwrap()).await;
    assert_eq!(reply.status, 201, "{version}: {}", reply.text());
}

#[tokio::test]
async fn the_list_of_versions_names_the_repository_that_the_latest_version_claims() {
    let Some((test, token)) = registry().await else { return };
    let source = async || {
        let document = test.get(&format!("{MODULE}/versions"), &token).await.json();
        document["modules"][0].get("source").cloned()
    };
    assert_eq!(source().await, None, "the latest version claims none");
    let (own, other) = ("https://github.com/acme/vpc", "https://github.com/acme/other");
    for (version, repository, expected, why) in [
        ("2.1.0", own, Some(json!(own)), "the latest version claims it"),
        ("1.2.0", other, Some(json!(own)), "an older version does not change it"),
        ("3.0.0-rc.1", other, Some(json!(own)), "a pre-release does not, either"),
        ("2.2.0", "ssh://github.com/acme/vpc", None, "no program could open it"),
        ("2.3.0", "https://github.com/acme/vpc?token=x", None, "a query can be a secret"),
    ] {
        publish_claiming(&test, version, repository, &token).await;
        assert_eq!(source().await, expected, "{version}: {why}");
    }
    for (version, expected) in [("2.1.0", json!(own)), ("1.2.0", json!(other))] {
        let details = test.get(&format!("{MODULE}/{version}"), &token).await.json();
        assert_eq!(details["source"], expected, "{version}");
    }
    for version in ["2.0.0", "2.2.0", "2.3.0"] {
        let details = test.get(&format!("{MODULE}/{version}"), &token).await.json();
        assert_eq!(details.get("source"), Some(&Value::Null), "{version}");
    }
    for (version, expected) in [
        ("2.3.0", None),
        ("2.2.0", Some(json!(own))),
        ("2.1.0", None),
        ("2.0.0", Some(json!(other))),
    ] {
        let reply = unpublish(&test, version, json!({"reason": "x"}), &token).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(source().await, expected, "{version} is unpublished");
    }
    for (version, expected) in [("2.0.0", None), ("2.1.0", Some(json!(own)))] {
        let path = format!("{MODULE}/{version}/restore");
        assert_eq!(send(&test, "POST", &path, None, &token).await.status, 200);
        assert_eq!(source().await, expected, "{version} is restored");
    }
    let expected = ["1.0.0", "1.1.0", "1.2.0", "2.0.0", "2.1.0", "3.0.0-rc.1"];
    assert_eq!(listed(&test, &token).await, expected);
}
