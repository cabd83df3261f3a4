//! Exchanges a JWT for a token, by the form of OAuth 2.0 Token Exchange (RFC 8693).
//!
//! The JWT is the proof, so nothing here is signed, and this computer's clock does not matter. The
//! registry decides how long the token lives.

use chrono::DateTime;
use reqwest::Client;
use reqwest::header::CONTENT_TYPE;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use stile_protocol::reply::{ErrorCode, TokenReply};
use stile_protocol::request_id::is_id;
use stile_protocol::token_exchange::{
    AccessTokenReply, GRANT_TYPE, JWT, MEDIA_TYPE, OAuthErrorReply, Scope,
};
use url::form_urlencoded;

use crate::bearer;
use crate::call::{self, BrokerResponse, Refusal};
use crate::config::{Environment, RegistryConfig, TokenScope};
use crate::exchange::{ExchangeError, ExchangedToken};
use crate::message;

/// An OAuth server's refusal (RFC 6749, section 5.2). A registry also sends [`OAuthErrorReply`].
#[derive(Deserialize)]
struct BareError {
    error: String,
    error_description: Option<String>,
}

/// Sends a JWT to a registry.
pub async fn exchange(
    client: &Client,
    registry: &RegistryConfig,
    jwt: &SecretString,
    scope: &TokenScope,
    environment: &Environment,
) -> Result<ExchangedToken, ExchangeError> {
    let url = registry
        .url_for("/v1/token")
        .map_err(|_| ExchangeError::InvalidReply(registry.url.clone()))?;
    let body = form(registry, jwt, scope);
    let request = client.post(url).header(CONTENT_TYPE, MEDIA_TYPE).body(body);
    let response = call::send(request, environment).await?;
    parse_reply(&response, scope)
}

fn form(registry: &RegistryConfig, jwt: &SecretString, scope: &TokenScope) -> String {
    let text = Scope { namespaces: scope.namespaces.clone(), permissions: scope.permissions };
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", GRANT_TYPE)
        .append_pair("subject_token_type", JWT)
        .append_pair("subject_token", jwt.expose_secret())
        .append_pair("scope", &text.to_string())
        .append_pair("audience", registry.host.as_str());
    if let Some(trust) = &registry.trust {
        form.append_pair("trust", trust);
    }
    form.finish()
}

fn parse_reply(
    response: &BrokerResponse,
    scope: &TokenScope,
) -> Result<ExchangedToken, ExchangeError> {
    if response.status.is_server_error() || response.status.as_u16() == 429 {
        return Err(ExchangeError::Unavailable(refusal(response)));
    }
    if !response.status.is_success() {
        return Err(ExchangeError::Refused(refusal(response)));
    }
    let unreadable = || ExchangeError::InvalidReply(response.url.clone());
    let reply: AccessTokenReply =
        serde_json::from_slice(&response.body).map_err(|_| unreadable())?;
    if !bearer::is_usable(&reply.access_token) {
        return Err(unreadable());
    }
    let expires_at =
        DateTime::parse_from_rfc3339(&reply.expires_at).map_err(|_| unreadable())?.to_utc();
    let reply = TokenReply {
        token: reply.access_token,
        expires_at: reply.expires_at,
        principal: reply.principal,
        namespaces: scope.namespaces.clone(),
        permissions: scope.permissions,
        notices: reply.notices,
    };
    Ok(ExchangedToken { reply, expires_at, skew: None, shortened: false })
}

/// Parses a refusal: of a registry, of an OAuth server in front of it, or of a gateway.
fn refusal(response: &BrokerResponse) -> Refusal {
    let plain = response.refusal();
    if let Ok(reply) = serde_json::from_slice::<OAuthErrorReply>(&response.body) {
        let hint = if reply.code == ErrorCode::AmbiguousTrust.as_str() {
            Some("set `trust` in the helper's `config.toml` to the name of one of them".to_owned())
        } else {
            reply.hint.as_deref().map(message::one_line)
        };
        let time = DateTime::parse_from_rfc3339(&reply.server_time).ok();
        return Refusal {
            status: response.status,
            code: Some(message::one_line(&reply.code)),
            message: message::one_line(&reply.message),
            hint,
            server_time: time.map(|time| time.to_utc()),
            request_id: reply.request_id.filter(|id| is_id(id)),
        };
    }
    if plain.code.is_some() {
        return plain;
    }
    let Ok(reply) = serde_json::from_slice::<BareError>(&response.body) else { return plain };
    let code = message::one_line(&reply.error);
    let text = reply.error_description.as_deref().map(message::one_line);
    Refusal { message: text.unwrap_or_else(|| sentence(&code)), code: Some(code), ..plain }
}

/// Explains a code of OAuth that comes without a sentence.
fn sentence(code: &str) -> String {
    match code {
        "invalid_request" => "the registry cannot read the request for a token".to_owned(),
        "invalid_grant" => "the registry does not accept the JWT".to_owned(),
        "invalid_scope" => "the registry does not give a token of this scope".to_owned(),
        "invalid_target" => "the server is not the registry that the request names".to_owned(),
        "unsupported_grant_type" => "the registry accepts no JWTs".to_owned(),
        other => format!("the registry refuses the JWT: `{other}`"),
    }
}

#[cfg(test)]
mod tests {
    use reqwest::{StatusCode, Url};
    use stile_protocol::audience::Audience;
    use stile_protocol::exchange::Namespaces;
    use stile_protocol::names::{Namespace, Permission, Permissions};
    use stile_protocol::token_exchange::ACCESS_TOKEN;

    use super::*;

    fn response(status: u16, body: &str) -> BrokerResponse {
        BrokerResponse {
            url: Url::parse("https://registry.example.com/v1/token").unwrap(),
            status: StatusCode::from_u16(status).unwrap(),
            date: None,
            body: body.as_bytes().to_vec(),
        }
    }

    fn registry() -> RegistryConfig {
        RegistryConfig::new(Audience::parse("registry.example.com").unwrap()).unwrap()
    }

    #[test]
    fn a_response_without_a_usable_token_is_rejected_and_not_shown() {
        let reply = |token: &str, end: &str| {
            serde_json::json!({
                "access_token": token, "issued_token_type": ACCESS_TOKEN, "token_type": "Bearer",
                "expires_in": 3600, "scope": "all:download", "expires_at": end, "principal": "oidc:ci",
            })
            .to_string()
        };
        let end = "2026-11-20T11:11:12Z";
        for body in ["", "{}", "[]", &reply("a b", end), &reply("", end), &reply("sekret", "soon")]
        {
            let error = parse_reply(&response(200, body), &registry().scope()).unwrap_err();
            assert!(matches!(error, ExchangeError::InvalidReply(_)), "{body}");
            assert!(!error.to_string().contains("sekret"));
        }
        let read = parse_reply(&response(200, &reply("a-_B", end)), &registry().scope()).unwrap();
        assert_eq!((read.reply.token.as_str(), read.shortened), ("a-_B", false));
        assert_eq!(read.reply.principal, "oidc:ci");
    }

    #[test]
    fn an_error_of_oauth_becomes_a_sentence() {
        let own = r#"{"error":"invalid_grant","error_description":"used","code":"jwt_replayed",
            "message":"used","hint":"ask","server_time":"2026-11-20T10:11:12Z","request_id":"1a"}"#;
        for (status, body, code, message) in [
            (400, own, Some("jwt_replayed"), "used (request id: 1a)"),
            (
                400,
                r#"{"error":"invalid_grant","error_description":"too\nold"}"#,
                Some("invalid_grant"),
                "too old",
            ),
            (
                400,
                r#"{"error":"invalid_grant"}"#,
                Some("invalid_grant"),
                "the registry does not accept the JWT",
            ),
            (
                400,
                r#"{"error":"odd\u001b[2J"}"#,
                Some("odd [2J"),
                "the registry refuses the JWT: `odd [2J`",
            ),
            (403, r#"{"message":"Forbidden"}"#, None, "403 Forbidden: Forbidden"),
            (404, "<html>", None, "404 Not Found"),
        ] {
            let error = parse_reply(&response(status, body), &registry().scope()).unwrap_err();
            let ExchangeError::Refused(refusal) = error else { panic!("{body}") };
            assert_eq!(refusal.code.as_deref(), code, "{body}");
            assert_eq!(refusal.message_with_id(), message, "{body}");
        }
        for status in [429, 500, 502, 503, 504] {
            let error = parse_reply(&response(status, own), &registry().scope()).unwrap_err();
            assert!(matches!(error, ExchangeError::Unavailable(_)), "{status}");
        }
    }

    #[test]
    fn the_form_says_what_the_table_says() {
        let namespaces = Namespaces::List(vec![
            Namespace::parse("acme").unwrap(),
            Namespace::parse("tools").unwrap(),
        ]);
        let permissions = Permissions::NONE.with(Permission::Upload).with(Permission::Download);
        let narrow = TokenScope { ttl: 60, namespaces, permissions };
        let trusted = RegistryConfig { trust: Some("ci".to_owned()), ..registry() };
        for (registry, scope, text, trust) in [
            (&registry(), &registry().scope(), "all:download", None),
            (
                &trusted,
                &narrow,
                "acme:download acme:upload tools:download tools:upload",
                Some("ci"),
            ),
        ] {
            let body = form(registry, &"a.b.c".into(), scope);
            let sent: Vec<(String, String)> =
                form_urlencoded::parse(body.as_bytes()).into_owned().collect();
            let mut expected = vec![
                ("grant_type", GRANT_TYPE),
                ("subject_token_type", JWT),
                ("subject_token", "a.b.c"),
                ("scope", text),
                ("audience", "registry.example.com"),
            ];
            expected.extend(trust.map(|trust| ("trust", trust)));
            let expected: Vec<_> =
                expected.into_iter().map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
            assert_eq!(sent, expected);
        }
    }
}
