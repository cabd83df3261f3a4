//! Changes grants through the API, as a test of it does.

use axum::body::Body;
use axum::http::Request;
use serde_json::Value;
use stile_core::grants::Grant;
use stile_core::principal::Principal;
use stile_protocol::names::Permission;

use super::operator::AsOperator as _;
use super::{NOW, Reply, TestBroker};

/// The time of a grant's end, and the same as text: one day after a test starts.
pub const LATER: (i64, &str) = (NOW + 86_400, "2026-11-21T10:11:12Z");

/// Returns the path with which one grant is read or deleted.
pub fn path_of(principal: &str, namespace: &str) -> String {
    format!("/v1/grants?principal={principal}&namespace={namespace}")
}

impl TestBroker {
    /// Sends a request with a token. A body that is `null` is none.
    pub async fn ask(&self, method: &str, path: &str, token: &str, body: &Value) -> Reply {
        self.ask_if(method, path, token, body, &[]).await
    }

    /// Sends the same with headers `If-Match`.
    pub async fn ask_if(
        &self,
        method: &str,
        path: &str,
        token: &str,
        body: &Value,
        expected: &[&str],
    ) -> Reply {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {token}"));
        let request =
            expected.iter().fold(request, |request, tag| request.header("if-match", *tag));
        let request = if body.is_null() {
            request.body(Body::empty())
        } else {
            request.header("content-type", "application/json").body(Body::from(body.to_string()))
        };
        self.send(request.unwrap()).await
    }

    /// Creates a grant with an end, as an operator.
    pub async fn grant_until(&self, who: &str, on: &str, may: &[Permission], end: Option<i64>) {
        let grant = Grant {
            principal: Principal::parse_stored(who).unwrap(),
            namespace: on.parse().unwrap(),
            permissions: may.iter().copied().collect(),
            expires_at: end,
            created_by: "test".to_owned(),
            created_at: self.time(),
        };
        self.store().as_operator().create_grant(grant, None).await.unwrap();
    }

    /// Returns all grants in the store, as `role namespace permissions` and the seconds until its end
    /// since the test started.
    pub async fn stored_grants(&self) -> Vec<String> {
        let grants = self.store().as_operator().grants(None, None).await.unwrap();
        let line = |grant: &Grant| {
            let end = grant.expires_at.map_or_else(String::new, |end| format!(" {}", end - NOW));
            let who = grant.principal.name().unwrap_or(grant.principal.as_str());
            format!("{who} {} {}{end}", grant.namespace, grant.permissions)
        };
        grants.iter().map(line).collect()
    }
}
