//! Signs the token request for API Gateway or a Lambda function URL with `AWS_IAM` authorisation.
//!
//! AWS verifies this request itself and passes the caller's identity to the broker, so it needs no proof.

use aws_sigv4::http_request::{SignableBody, SignableRequest};
use chrono::{DateTime, Utc};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use stile_protocol::exchange::Namespaces;
use stile_protocol::names::{Namespace, Permission};
use url::Url;

use crate::config::{RegistryConfig, TokenScope};
use crate::credentials::LoadedCredentials;
use crate::proof::{SigningError, sign_v4};

/// The URL and the headers of the signed `GET` request.
#[derive(Debug)]
pub struct SignedGet {
    /// The URL with its query.
    pub url: Url,
    /// `authorization`, `x-amz-date` and, with temporary credentials, `x-amz-security-token`.
    pub headers: HeaderMap,
}

/// Signs the token request.
pub fn sign(
    registry: &RegistryConfig,
    loaded: &LoadedCredentials,
    scope: &TokenScope,
    now: DateTime<Utc>,
) -> Result<SignedGet, SigningError> {
    let url = address(registry, scope)?;
    let request =
        SignableRequest::new("GET", url.as_str(), std::iter::empty(), SignableBody::Bytes(b""))?;
    let signed =
        sign_v4(request, &loaded.credentials, &loaded.region, registry.service.as_str(), now)?;
    let mut headers = HeaderMap::new();
    for (name, value) in signed.output().headers() {
        let mut value = HeaderValue::from_str(value)?;
        value.set_sensitive(true);
        headers.insert(HeaderName::from_bytes(name.as_bytes())?, value);
    }
    Ok(SignedGet { url, headers })
}

/// Builds the URL. The broker accepts each parameter once, and lists separated by commas.
fn address(registry: &RegistryConfig, scope: &TokenScope) -> Result<Url, url::ParseError> {
    let mut url = registry.url_for("/v1/token")?;
    let mut query = url.query_pairs_mut();
    query.append_pair("expiration_seconds", &scope.ttl.to_string());
    if let Namespaces::List(list) = &scope.namespaces {
        query.append_pair(
            "namespace",
            &list.iter().map(Namespace::as_str).collect::<Vec<_>>().join(","),
        );
    }
    query.append_pair(
        "permission",
        &scope.permissions.iter().map(Permission::as_str).collect::<Vec<_>>().join(","),
    );
    drop(query);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use aws_credential_types::Credentials;
    use stile_protocol::audience::Audience;
    use stile_protocol::names::Permissions;

    use super::*;
    use crate::config::{Service, parse_url};
    use crate::credentials::CredentialProvider;
    use crate::proof::reference_sigv4;

    #[test]
    fn the_signature_covers_the_request_that_is_sent() {
        let base = "https://a1b2.execute-api.eu-central-1.amazonaws.com/prod";
        let namespaces = Namespaces::List(vec![
            Namespace::parse("zeta").unwrap(),
            Namespace::parse("acme").unwrap(),
        ]);
        let permissions = Permissions::NONE.with(Permission::Upload).with(Permission::Download);
        let scope = TokenScope { ttl: 900, namespaces, permissions };
        for (service, name, token) in [
            (Service::ExecuteApi, "execute-api", Some("tok+en/=")),
            (Service::Lambda, "lambda", None),
        ] {
            let credentials = Credentials::new(
                "ASIAIOSFODNN7EXAMPLE",
                "secret",
                token.map(str::to_owned),
                None,
                "test",
            );
            let region = "eu-central-1".to_owned();
            let loaded = LoadedCredentials {
                credentials,
                provider: CredentialProvider::Environment,
                region,
                fips: false,
            };
            let host = Audience::parse("registry.example.com").unwrap();
            let registry = RegistryConfig {
                url: parse_url(base).unwrap(),
                service,
                ..RegistryConfig::new(host).unwrap()
            };

            let signed =
                sign(&registry, &loaded, &scope, "2026-11-20T10:11:12Z".parse().unwrap()).unwrap();
            let query = "expiration_seconds=900&namespace=zeta%2Cacme&permission=download%2Cupload";
            assert_eq!(signed.url.as_str(), format!("{base}/v1/token?{query}"));

            let mut headers = vec![
                ("host", "a1b2.execute-api.eu-central-1.amazonaws.com"),
                ("x-amz-date", "20261120T101112Z"),
            ];
            headers.extend(token.map(|token| ("x-amz-security-token", token)));
            let names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
            let request = reference_sigv4::Request {
                method: "GET",
                path: "/prod/v1/token",
                query,
                headers: &headers,
                body: "",
            };
            let signature = reference_sigv4::signature(
                &request,
                "secret",
                "20261120T101112Z",
                "eu-central-1",
                name,
            );
            assert_eq!(
                signed.headers["authorization"].to_str().unwrap(),
                format!(
                    "AWS4-HMAC-SHA256 Credential=ASIAIOSFODNN7EXAMPLE/20261120/eu-central-1/{name}/aws4_request, \
                     SignedHeaders={}, Signature={signature}",
                    names.join(";")
                )
            );
            assert_eq!(signed.headers["x-amz-date"], "20261120T101112Z");
            assert_eq!(
                signed.headers.get("x-amz-security-token").map(|value| value.to_str().unwrap()),
                token
            );
        }
    }
}
