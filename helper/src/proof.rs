//! Makes a proof: signs the STS request that the broker rebuilds. It sends nothing.

use aws_credential_types::Credentials;
use aws_sigv4::SigningOutput;
use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SigningInstructions, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use chrono::{DateTime, Utc};
use secrecy::SecretString;
use stile_protocol::audience::Audience;
use stile_protocol::exchange::{ExchangeRequest, document_digest};
use stile_protocol::region::Region;
use stile_protocol::signed_request;

/// Signs proofs with AWS credentials for one registry.
#[derive(Debug, Clone, Copy)]
pub struct ProofSigner<'a> {
    /// The AWS credentials.
    pub credentials: &'a Credentials,
    /// The region whose STS verifies the proof.
    pub region: &'static Region,
    /// Whether to use only FIPS endpoints.
    pub fips: bool,
    /// The registry for which the proof is valid.
    pub audience: &'a Audience,
}

/// Why a proof could not be signed.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// STS has no FIPS endpoint in the region.
    #[error("the AWS configuration requires FIPS endpoints, and STS has none in `{0}`")]
    NoFipsHost(&'static str),
    /// Signing failed, for example because the session token is not a valid header value.
    #[error("cannot sign with the AWS credentials")]
    Signing(#[from] SigningError),
}

/// An error of the signing library.
pub type SigningError = Box<dyn std::error::Error + Send + Sync>;

impl ProofSigner<'_> {
    /// Signs a proof for the bytes of a request document, with `now` as its time.
    pub fn prove(
        &self,
        document: &[u8],
        now: DateTime<Utc>,
    ) -> Result<ExchangeRequest, ProofError> {
        let host = self.region.host(self.fips).ok_or(ProofError::NoFipsHost(self.region.name))?;
        let signature = self.sign(host, document, now)?;
        Ok(ExchangeRequest {
            region: self.region.name.to_owned(),
            amz_date: amz_date(now),
            access_key_id: self.credentials.access_key_id().to_owned(),
            session_token: self.credentials.session_token().map(SecretString::from),
            signature: SecretString::from(signature),
            document: document.to_vec(),
        })
    }

    fn sign(
        &self,
        host: &str,
        document: &[u8],
        now: DateTime<Utc>,
    ) -> Result<String, SigningError> {
        let digest = document_digest(document);
        let headers = [
            ("content-type", signed_request::CONTENT_TYPE),
            ("host", host),
            (signed_request::AUDIENCE_HEADER, self.audience.as_str()),
            (signed_request::REQUEST_HEADER, &digest),
        ];
        let url = format!("https://{host}{}", signed_request::PATH);
        let body = SignableBody::Bytes(signed_request::BODY.as_bytes());
        let request = SignableRequest::new(signed_request::METHOD, url, headers.into_iter(), body)?;
        Ok(sign_v4(request, self.credentials, self.region.name, signed_request::SERVICE, now)?
            .signature()
            .to_owned())
    }
}

/// Signs a request with Signature Version 4. The signature always covers a session token.
pub(crate) fn sign_v4(
    request: SignableRequest<'_>,
    credentials: &Credentials,
    region: &str,
    service: &str,
    now: DateTime<Utc>,
) -> Result<SigningOutput<SigningInstructions>, SigningError> {
    let identity = credentials.clone().into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service)
        .time(now.into())
        .settings(SigningSettings::default())
        .build()?;
    Ok(sign(request, &parameters.into())?)
}

/// Formats a time for the `x-amz-date` header.
fn amz_date(now: DateTime<Utc>) -> String {
    now.format("%Y%m%dT%H%M%SZ").to_string()
}

/// A reference implementation of SigV4, written from AWS's documentation to check the library.
///
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>
#[cfg(test)]
pub(crate) mod reference_sigv4 {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    use sha2::{Digest as _, Sha256};

    /// The input of a signature. Header names must be lower case and sorted.
    pub(crate) struct Request<'a> {
        pub(crate) method: &'a str,
        pub(crate) path: &'a str,
        pub(crate) query: &'a str,
        pub(crate) headers: &'a [(&'a str, &'a str)],
        pub(crate) body: &'a str,
    }

    pub(crate) fn signature(
        request: &Request<'_>,
        secret: &str,
        amz_date: &str,
        region: &str,
        service: &str,
    ) -> String {
        let headers: String =
            request.headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let names: Vec<_> = request.headers.iter().map(|(name, _)| *name).collect();
        let body = hex::encode(Sha256::digest(request.body));
        let canonical = format!(
            "{}\n{}\n{}\n{headers}\n{}\n{body}",
            request.method,
            request.path,
            request.query,
            names.join(";")
        );
        let (date, _) = amz_date.split_once('T').unwrap();
        let scope = format!("{date}/{region}/{service}/aws4_request");
        let to_sign = format!(
            "AWS4-HMAC-SHA256\n{amz_date}\n{scope}\n{}",
            hex::encode(Sha256::digest(canonical))
        );
        let key = scope
            .split('/')
            .fold(format!("AWS4{secret}").into_bytes(), |key, part| hmac(&key, part));
        hex::encode(hmac(&key, &to_sign))
    }

    fn hmac(key: &[u8], text: &str) -> Vec<u8> {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().to_vec()
    }

    #[test]
    fn it_signs_the_worked_example_of_aws() {
        // `get-vanilla` of the SigV4 test suite.
        let headers = [("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z")];
        let request = Request { method: "GET", path: "/", query: "", headers: &headers, body: "" };
        let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        assert_eq!(
            signature(&request, secret, "20150830T123600Z", "us-east-1", "service"),
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
        );
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;
    use stile_protocol::signed_request::signed_headers;

    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    const DOCUMENT: &[u8] = br#"{"nonce":"AAAAAAAAAAAAAAAAAAAAAA","ttl":3600,"namespaces":"all","permissions":["download"]}"#;

    fn now() -> DateTime<Utc> {
        "2026-11-20T10:11:12.987Z".parse().unwrap()
    }

    fn prove(token: Option<&str>, region: &str, fips: bool) -> Result<ExchangeRequest, ProofError> {
        let key = if token.is_some() { "ASIAIOSFODNN7EXAMPLE" } else { "AKIAIOSFODNN7EXAMPLE" };
        let credentials = Credentials::new(key, SECRET, token.map(str::to_owned), None, "test");
        let audience = Audience::parse("registry.example.com:8443").unwrap();
        let signer = ProofSigner {
            credentials: &credentials,
            region: Region::named(region).unwrap(),
            fips,
            audience: &audience,
        };
        signer.prove(DOCUMENT, now())
    }

    #[test]
    fn a_region_without_a_fips_endpoint_is_an_error_if_fips_is_required() {
        let error = prove(None, "eu-central-1", true).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the AWS configuration requires FIPS endpoints, and STS has none in `eu-central-1`"
        );
    }

    #[test]
    fn a_session_token_that_is_not_a_header_value_is_an_error() {
        assert!(matches!(prove(Some("a\nb"), "us-east-1", false), Err(ProofError::Signing(_))));
    }

    #[test]
    fn the_signature_covers_exactly_the_request_that_the_broker_rebuilds() {
        for (token, region, fips, host) in [
            (None, "us-east-1", false, "sts.us-east-1.amazonaws.com"),
            (None, "us-east-1", true, "sts-fips.us-east-1.amazonaws.com"),
            (
                Some("IQoJb3JpZ2luX2VjE+a/b=="),
                "cn-north-1",
                false,
                "sts.cn-north-1.amazonaws.com.cn",
            ),
            (Some("FwoGZXIvYXdzE"), "us-gov-west-1", true, "sts.us-gov-west-1.amazonaws.com"),
        ] {
            let digest = document_digest(DOCUMENT);
            let mut headers = vec![
                ("content-type", signed_request::CONTENT_TYPE),
                ("host", host),
                ("x-amz-date", "20261120T101112Z"),
                ("x-stile-audience", "registry.example.com:8443"),
                ("x-stile-request", digest.as_str()),
            ];
            if let Some(token) = token {
                headers.insert(3, ("x-amz-security-token", token));
            }
            let names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
            assert_eq!(names.join(";"), signed_headers(token.is_some()));
            let request = reference_sigv4::Request {
                method: "POST",
                path: "/",
                query: "",
                headers: &headers,
                body: signed_request::BODY,
            };

            let proof = prove(token, region, fips).unwrap();
            let expected =
                reference_sigv4::signature(&request, SECRET, "20261120T101112Z", region, "sts");
            assert_eq!(proof.signature.expose_secret(), expected, "{region}");
            assert_eq!(
                (proof.amz_date.as_str(), proof.region.as_str()),
                ("20261120T101112Z", region)
            );
            assert_eq!(proof.session_token.as_ref().map(|token| token.expose_secret()), token);
            assert_eq!(proof.document, DOCUMENT);
        }
    }
}
