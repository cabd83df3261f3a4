//! The fuzz targets for `Authorization` headers and Lambda events. The service does not contain
//! this module.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::value::RawValue;
use stile_protocol::audience::Audience;
use stile_protocol::names::Permission;
use stile_protocol::region::Region;
use tempfile::TempDir;

use super::decision::bearer;
use super::lambda::Function;
use crate::audit::Folding;
use crate::authn::gateway::IamSource;
use crate::authn::sigv4::{Endpoint, Endpoints, StsTimeouts};
use crate::boot;
use crate::client_source::ClientSource;
use crate::config::{AuthorizerBase, Config, MetricsConfig, StoreLocation};
use stile_core::audit::{Event, Kept, Kind};
use stile_core::clock::Clock;
use stile_core::fuzz::Verdict;
use stile_core::grants::OperatorAccess;
use stile_core::package::SIGNED_URL_LIFETIME;
use stile_core::principal::Principal;
use stile_core::token::MAX_TOKEN_LEN;
use stile_store::{EmbeddedDeadlines, NewGrant, Store};

/// Tests `Authorization` headers, one for each line.
pub fn bearer_header(bytes: &[u8]) -> Verdict {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(16) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(header::AUTHORIZATION, value);
        }
    }
    let Some(token) = bearer(&headers) else { return Verdict::Rejected };
    let values: Vec<_> =
        headers.get_all(header::AUTHORIZATION).iter().map(HeaderValue::as_bytes).collect();
    let [value] = values.as_slice() else {
        unreachable!("{} headers were accepted as one", values.len())
    };
    assert!(
        value.to_ascii_lowercase().starts_with(b"bearer ") && &value[7..] == token.as_bytes(),
        "the scheme, a space, the token"
    );
    assert!(!token.is_empty() && token.len() <= MAX_TOKEN_LEN);
    assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)));
    Verdict::Accepted
}

/// Tests a Lambda event, with a function that trusts no gateway and one that trusts one API.
pub fn lambda_event(bytes: &[u8]) -> Verdict {
    let Ok(event) = serde_json::from_slice::<Box<RawValue>>(bytes) else {
        return Verdict::Rejected;
    };
    thread_local! {
        static REGISTRY: Registry = Registry::start();
    }
    REGISTRY.with(|registry| {
        let without_gateway = registry.answer(&registry.plain, &event);
        assert!(
            without_gateway.as_ref().is_none_or(|answer| !mints(answer)),
            "no trusted API vouches for the caller"
        );
        let Some(answer) = registry.answer(&registry.gateway, &event) else {
            return Verdict::Rejected;
        };
        if mints(&answer) {
            let event: Value = serde_json::from_str(event.get()).expect("an event is JSON");
            let context = &event["requestContext"];
            assert!(
                context["accountId"] == ACCOUNT
                    && context["apiId"] == API
                    && event["type"].is_null(),
                "the event is from the trusted API: {event}"
            );
            let minted: Value = serde_json::from_str(&body(&answer)).expect("the answer is JSON");
            assert_eq!(minted["principal"], GRANTED);
        }
        Verdict::Accepted
    })
}

const ACCOUNT: &str = "111122223333";
const API: &str = "abcdef1234";
const GRANTED: &str = "aws:111122223333:role/deploy";

/// 2026-11-20T10:11:12Z.
const NOW: i64 = 1_795_169_472;

/// A broker with one grant, behind two functions.
struct Registry {
    runtime: tokio::runtime::Runtime,
    plain: Function,
    gateway: Function,
    _data: TempDir,
}

impl Registry {
    fn start() -> Self {
        let data = tempfile::tempdir().expect("a temporary folder");
        Store::init_folder(data.path(), EmbeddedDeadlines::default())
            .expect("the store is created");
        let store = Store::open_folder(data.path(), EmbeddedDeadlines::default())
            .expect("the store is open");
        let audience = Audience::parse("registry.example.com").expect("a registry host");
        let config = Config {
            host: Some(audience.clone()),
            store: StoreLocation::Folder(data.path().to_path_buf()),
            listen: ([127, 0, 0, 1], 0).into(),
            tls: None,
            plain_http: false,
            clients: ClientSource::Connection,
            private_issuers: Vec::new(),
            regions: Region::named("us-west-2").into_iter().collect(),
            max_ttl: 3600,
            default_ttl: 3600,
            iam_source: None,
            openapi: false,
            authorizer_base: None,
            event_bus: None,
            link_ttl: SIGNED_URL_LIFETIME,
            fips: false,
            audit_days: None,
            store_timeout: None,
            disk_reserve: None,
            sts_timeouts: StsTimeouts::default(),
            metrics: MetricsConfig::default(),
            // No server listens there, because no event may cause a call of STS.
            sts: Endpoints::new([Endpoint::parse("http://127.0.0.1:9").expect("an endpoint")]),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime starts");
        let access = OperatorAccess::for_store_writer("fuzz")
            .grant_access("acme".parse().expect("a namespace"));
        let kept = Kept::new(&Event::new(Kind::Grant), NOW);
        let grant = NewGrant {
            principal: Principal::parse_stored(GRANTED).expect("a principal"),
            permissions: [Permission::Download].into_iter().collect(),
            expires_at: None,
            pin: None,
        };
        runtime.block_on(store.create_grant(&access, grant, &kept)).expect("the grant is created");
        let broker = Arc::new(
            boot::assemble(&config, audience, store, None, Clock::from_fn(|| NOW), Folding::Off)
                .expect("a broker starts"),
        );
        let function = |source: Option<&str>| {
            let source = source.map(|source| IamSource::parse(source).expect("a source"));
            let base = AuthorizerBase::parse("/terraform").expect("a path");
            Function::new(
                super::router(Arc::clone(&broker)),
                Arc::clone(&broker),
                source,
                Some(base),
            )
        };
        let (plain, gateway) = (function(None), function(Some(&format!("{ACCOUNT}/{API}"))));
        Self { runtime, plain, gateway, _data: data }
    }

    /// Returns the answer, if the bytes are an event. Asserts that the function did not fail, and
    /// did not allow a request without a token.
    fn answer(&self, function: &Function, event: &RawValue) -> Option<Value> {
        let answer = self.runtime.block_on(function.answer(event)).ok()?;
        let answer: Value = serde_json::from_str(answer.get()).expect("an answer is JSON");
        assert!(answer["statusCode"] != 500, "the function failed: {answer}");
        assert!(answer["isAuthorized"] != true, "allowed without a token: {answer}");
        assert!(
            answer["policyDocument"]["Statement"][0]["Effect"] != "Allow",
            "allowed without a token: {answer}"
        );
        Some(answer)
    }
}

fn body(answer: &Value) -> String {
    let body = answer["body"].as_str().unwrap_or_default();
    if answer["isBase64Encoded"] == true {
        return String::from_utf8_lossy(&STANDARD.decode(body).expect("base64")).into_owned();
    }
    body.to_owned()
}

fn mints(answer: &Value) -> bool {
    body(answer).contains("stile_v4.local.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_function_that_trusts_the_api_mints_for_its_caller() {
        let seed = include_str!("../../../tests/fixtures/fuzz/lambda_event/taken-iam-http-api");
        let event = serde_json::from_str::<Box<RawValue>>(seed).unwrap();
        let registry = Registry::start();
        assert!(mints(&registry.answer(&registry.gateway, &event).unwrap()));
        assert!(!mints(&registry.answer(&registry.plain, &event).unwrap()));
    }
}
