//! `POST /v1/token`: the request body, and the request document in it that names the wanted token.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::names::{Namespace, Permission, Permissions};
use crate::strict_json::{FieldError, StrictObject, string_list};

/// The version of the exchange protocol.
pub const VERSION: i64 = 1;

/// Longest request body, in bytes.
pub const MAX_BODY: usize = 16 * 1024;

/// Longest request document, in bytes.
pub const MAX_DOCUMENT: usize = 4 * 1024;

/// Longest session token, in bytes.
pub const MAX_SESSION_TOKEN: usize = 8192;

/// Shortest lifetime that a caller can request for a token, in seconds.
pub const MIN_TTL: i64 = 60;

/// Longest lifetime of any token, in seconds: the longest session of an AWS role.
pub const MAX_TTL: i64 = 43_200;

/// Maximum number of namespaces in one token.
pub const MAX_NAMESPACES: usize = 32;

/// The body of `POST /v1/token`: the values from which the broker rebuilds the signed request.
///
/// It contains only values: no field is a URL, a header or a body.
#[derive(Debug)]
pub struct ExchangeRequest {
    /// The region whose STS verifies the signature.
    pub region: String,
    /// The time of signing, `YYYYMMDDTHHMMSSZ`.
    pub amz_date: String,
    /// The access key id of the credentials.
    pub access_key_id: String,
    /// The session token. Only temporary credentials have one.
    pub session_token: Option<SecretString>,
    /// The SigV4 signature, 64 lower-case hex digits. Its holder can use it once, until it expires.
    pub signature: SecretString,
    /// The bytes of the request document.
    pub document: Vec<u8>,
}

impl Serialize for ExchangeRequest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut body = serializer.serialize_struct("ExchangeRequest", 7)?;
        body.serialize_field("version", &VERSION)?;
        body.serialize_field("region", &self.region)?;
        body.serialize_field("amz_date", &self.amz_date)?;
        body.serialize_field("access_key_id", &self.access_key_id)?;
        if let Some(token) = &self.session_token {
            body.serialize_field("session_token", token.expose_secret())?;
        }
        body.serialize_field("signature", self.signature.expose_secret())?;
        body.serialize_field("request", &URL_SAFE_NO_PAD.encode(&self.document))?;
        body.end()
    }
}

/// The namespaces for which a token is valid.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Namespaces {
    /// Every namespace on which the caller has a grant when it makes a request.
    All,
    /// A list of 1 to 32 distinct namespaces.
    List(Vec<Namespace>),
}

impl Namespaces {
    /// Tells whether they include a namespace.
    pub fn cover(&self, namespace: &Namespace) -> bool {
        match self {
            Self::All => true,
            Self::List(list) => list.contains(namespace),
        }
    }
}

impl Serialize for Namespaces {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("all"),
            Self::List(list) => list.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Namespaces {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        parse_namespaces("namespaces", value).map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Namespaces {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => formatter.write_str("all"),
            Self::List(list) => formatter
                .write_str(&list.iter().map(Namespace::as_str).collect::<Vec<_>>().join(",")),
        }
    }
}

/// The token that the caller requests. The signature covers its bytes, so nobody can widen it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestDocument {
    /// 16 random bytes in base64url, so that two requests within one second differ.
    pub nonce: String,
    /// The requested lifetime of the token, in seconds.
    pub ttl: i64,
    /// The requested namespaces.
    pub namespaces: Namespaces,
    /// The requested permissions, at least one.
    pub permissions: Permissions,
}

impl RequestDocument {
    /// Creates a document with a new nonce.
    pub fn new(
        ttl: i64,
        namespaces: Namespaces,
        permissions: Permissions,
    ) -> Result<Self, getrandom::Error> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce)?;
        Ok(Self { nonce: URL_SAFE_NO_PAD.encode(nonce), ttl, namespaces, permissions })
    }

    /// Returns the bytes to sign and send.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::json!({
            "nonce": self.nonce, "ttl": self.ttl, "namespaces": self.namespaces, "permissions": self.permissions,
        })
        .to_string()
        .into_bytes()
    }

    /// Parses the signed bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, FieldError> {
        let mut object = StrictObject::parse(bytes)?;
        let nonce = object.string("nonce")?;
        if !is_base64url(&nonce, 16) {
            return Err(FieldError::new("nonce", "16 bytes as 22 base64url characters"));
        }
        let ttl = object.integer("ttl")?;
        if !(MIN_TTL..=MAX_TTL).contains(&ttl) {
            return Err(FieldError::new(
                "ttl",
                format_args!("an integer from {MIN_TTL} to {MAX_TTL} seconds"),
            ));
        }
        let namespaces = parse_namespaces("namespaces", object.take("namespaces")?)?;
        let permissions = parse_permissions("permissions", object.take("permissions")?)?;
        object.finish()?;
        Ok(Self { nonce, ttl, namespaces, permissions })
    }
}

/// Parses `"all"`, or a list of 1 to 32 distinct namespaces. An empty list is an error.
pub fn parse_namespaces(field: &str, value: serde_json::Value) -> Result<Namespaces, FieldError> {
    if value == "all" {
        return Ok(Namespaces::All);
    }
    let invalid = || {
        FieldError::new(
            field,
            format_args!("`all` or a list of 1 to {MAX_NAMESPACES} distinct namespaces"),
        )
    };
    let texts = string_list(field, value).map_err(|_| invalid())?;
    if !(1..=MAX_NAMESPACES).contains(&texts.len()) {
        return Err(invalid());
    }
    let mut list: Vec<Namespace> = Vec::with_capacity(texts.len());
    for text in texts {
        let namespace = Namespace::parse(&text).map_err(|_| invalid())?;
        if list.contains(&namespace) {
            return Err(invalid());
        }
        list.push(namespace);
    }
    Ok(Namespaces::List(list))
}

/// Parses a list of 1 to 4 distinct permissions.
pub fn parse_permissions(field: &str, value: serde_json::Value) -> Result<Permissions, FieldError> {
    let invalid = || FieldError::new(field, "a list of 1 to 4 distinct permissions");
    let texts = string_list(field, value).map_err(|_| invalid())?;
    let mut permissions = Permissions::NONE;
    for text in texts {
        let permission: Permission = text.parse().map_err(|_| invalid())?;
        if permissions.contains(permission) {
            return Err(invalid());
        }
        permissions = permissions.with(permission);
    }
    if permissions.is_empty() { Err(invalid()) } else { Ok(permissions) }
}

/// Returns the value of `x-stile-request`: the SHA-256 of the document in lower-case hex.
pub fn document_digest(document: &[u8]) -> String {
    hex::encode(Sha256::digest(document))
}

/// Tells whether a text is canonical, unpadded base64url of this many bytes.
pub fn is_base64url(text: &str, length: usize) -> bool {
    decode_base64url(text).is_some_and(|bytes| bytes.len() == length)
}

/// Decodes canonical, unpadded base64url. It rejects stray bits at the end, so the text is unique.
pub fn decode_base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rejection(document: &str) -> String {
        RequestDocument::parse(document.as_bytes()).unwrap_err().problem
    }

    fn with(field: &str, value: &str) -> String {
        let mut fields = vec![
            ("nonce", "\"AAAAAAAAAAAAAAAAAAAAAA\""),
            ("ttl", "3600"),
            ("namespaces", "\"all\""),
            ("permissions", "[\"download\"]"),
        ];
        for (name, text) in &mut fields {
            if *name == field {
                *text = value;
            }
        }
        let body: Vec<_> =
            fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", body.join(","))
    }

    #[test]
    fn an_error_in_a_document_names_the_field() {
        for (field, value) in [
            ("nonce", "\"\""),
            ("nonce", "\"AAAAAAAAAAAAAAAAAAAAAB\""),
            ("nonce", "\"AAAAAAAAAAAAAAAAAAAAAA==\""),
            ("nonce", "7"),
            ("nonce", "\"AAAAAAAAAAAAAAAAAAAAA\\n\""),
            ("ttl", "59"),
            ("ttl", "43201"),
            ("ttl", "\"3600\""),
            ("ttl", "3600.5"),
            ("ttl", "-1"),
            ("ttl", "1e400"),
            ("namespaces", "[]"),
            ("namespaces", "\"ALL\""),
            ("namespaces", "[\"a\",\"a\"]"),
            ("namespaces", "[\"all\"]"),
            ("namespaces", "null"),
            ("namespaces", "[1]"),
            ("namespaces", "[\"a\",[\"b\"]]"),
            ("namespaces", "{\"a\":1}"),
            ("permissions", "[]"),
            ("permissions", "[\"download\",\"download\"]"),
            ("permissions", "[\"admin\"]"),
            ("permissions", "\"download\""),
        ] {
            let problem = rejection(&with(field, value));
            assert!(
                problem.starts_with(&format!("`{field}` must be")) || problem.contains("JSON"),
                "{field} {value}: {problem}"
            );
        }
        let many: Vec<_> = (0..33).map(|n| format!("\"n{n}\"")).collect();
        assert!(
            rejection(&with("namespaces", &format!("[{}]", many.join(","))))
                .starts_with("`namespaces`")
        );
        assert_eq!(
            rejection(&with("", "").replacen('{', "{\"host\":\"evil.org\",", 1)),
            "field `host` is not known"
        );
    }

    #[test]
    fn a_written_document_parses_to_the_same_document() {
        let document = RequestDocument::new(
            900,
            Namespaces::List(vec![Namespace::parse("acme").unwrap()]),
            Permissions::NONE.with(Permission::Upload),
        )
        .unwrap();
        assert_eq!(RequestDocument::parse(&document.to_bytes()).unwrap(), document);
    }

    #[test]
    fn the_debug_output_of_a_request_has_no_secrets() {
        let request = ExchangeRequest {
            region: "us-east-1".into(),
            amz_date: "20261120T101112Z".into(),
            access_key_id: "ASIAEXAMPLE".into(),
            session_token: Some("session-secret".to_owned().into()),
            signature: "signature-secret".to_owned().into(),
            document: vec![],
        };
        assert!(!format!("{request:?}").contains("-secret"));
    }

    proptest! {
        #[test]
        fn no_input_makes_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = RequestDocument::parse(&bytes);
        }
    }
}
