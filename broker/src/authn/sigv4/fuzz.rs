//! The fuzz targets for proofs and for answers of STS. The service does not contain this module.

use serde_json::Value;
use stile_protocol::audience::Audience;
use stile_protocol::exchange::{self, MAX_TTL, MIN_TTL, Namespaces, RequestDocument};
use stile_protocol::names::Permission;
use stile_protocol::region::{Partition, Region};

use super::answer::{self, Outcome};
use super::request::reconstruct;
use crate::authn::sigv4::proof::{MAX_AGE, MAX_AHEAD, Proof};
use stile_core::fuzz::{Verdict, is_plain};
use stile_core::principal::{AwsPrincipal, Principal};

/// Tests the body of an exchange.
///
/// For every accepted body, the request to STS differs from the template only in the fields.
pub fn request_body(bytes: &[u8]) -> Verdict {
    let proof = match Proof::parse(bytes) {
        Ok(proof) => proof,
        Err(error) => {
            assert!(is_plain(&error.to_string()), "{error}");
            return Verdict::Rejected;
        }
    };
    let sent: Value = serde_json::from_slice(bytes).expect("an accepted body is JSON");
    let signed_at = proof.unverified_signed_at;
    assert!(
        proof.check_time(signed_at + MAX_AGE).is_ok()
            && proof.check_time(signed_at - MAX_AHEAD).is_ok()
    );
    assert!(proof.check_time(i64::MAX).is_err() && proof.check_time(i64::MIN).is_err());
    assert_eq!(
        Proof::parse(sent.to_string().as_bytes()).map(|again| again.digest()),
        Ok(proof.digest()),
        "the digest does not depend on the spelling of the JSON"
    );

    let Some(region) = Region::named(&proof.unverified_region) else { return Verdict::Accepted };
    let audience = Audience::parse("registry.example.com").expect("a registry host");
    let request = reconstruct(&proof, region, region.host, &audience);
    assert_eq!(request.body, "Action=GetCallerIdentity&Version=2011-06-15");
    let text =
        |value: &reqwest::header::HeaderValue| value.to_str().expect("plain text").to_owned();
    let headers: Vec<_> =
        request.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    assert_eq!(headers, template(&sent, region.host), "the template, except for its fields");
    Verdict::Accepted
}

/// Returns the expected headers of the request to STS, from an independent implementation.
fn template(sent: &Value, host: &str) -> Vec<(String, String)> {
    let field = |name: &str| sent[name].as_str().expect("a string").to_owned();
    let (date, key) = (field("amz_date"), field("access_key_id"));
    let document = exchange::decode_base64url(&field("request")).expect("base64url");
    let (mut headers, mut signed) =
        (vec![("host", host.to_owned())], "content-type;host;x-amz-date".to_owned());
    headers.push(("content-type", "application/x-www-form-urlencoded; charset=utf-8".to_owned()));
    headers.push(("x-amz-date", date.clone()));
    if key.starts_with("ASIA") {
        headers.push(("x-amz-security-token", field("session_token")));
        signed.push_str(";x-amz-security-token");
    }
    headers.push(("x-stile-audience", "registry.example.com".to_owned()));
    headers.push(("x-stile-request", exchange::document_digest(&document)));
    let (day, region, signature) =
        (date.split('T').next().unwrap_or_default(), field("region"), field("signature"));
    headers.push((
        "authorization",
        format!(
            "AWS4-HMAC-SHA256 Credential={key}/{day}/{region}/sts/aws4_request, \
             SignedHeaders={signed};x-stile-audience;x-stile-request, Signature={signature}"
        ),
    ));
    headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Tests the request document of a proof.
pub fn request_document(bytes: &[u8]) -> Verdict {
    let document = match RequestDocument::parse(bytes) {
        Ok(document) => document,
        Err(error) => {
            assert!(is_plain(&error.problem) && is_plain(&error.field), "{error}");
            return Verdict::Rejected;
        }
    };
    assert!((MIN_TTL..=MAX_TTL).contains(&document.ttl));
    assert!(exchange::is_base64url(&document.nonce, 16));
    assert!(
        [
            Permission::Download,
            Permission::Upload,
            Permission::CreateGrant,
            Permission::DeleteGrant
        ]
        .iter()
        .any(|permission| document.permissions.contains(*permission))
    );
    if let Namespaces::List(list) = &document.namespaces {
        let mut distinct: Vec<_> = list.iter().map(|namespace| namespace.as_str()).collect();
        distinct.sort_unstable();
        distinct.dedup();
        assert!(
            (1..=32).contains(&distinct.len()) && distinct.len() == list.len(),
            "an empty list is never `all`"
        );
    }
    assert_eq!(
        RequestDocument::parse(&document.to_bytes()),
        Ok(document),
        "a document can be written and parsed again"
    );
    Verdict::Accepted
}

/// Tests an answer of STS: only an answer with status 200 has an identity, and of one caller.
pub fn sts_answer(bytes: &[u8]) -> Verdict {
    for (status, content_type) in [
        (400, "text/xml"),
        (403, "text/xml"),
        (503, "text/xml"),
        (200, "text/html"),
        (302, "text/xml"),
    ] {
        let outcome = answer::read(status, content_type, bytes, Partition::Aws);
        assert!(
            !matches!(outcome, Ok(Outcome::Identity(_))),
            "{status} {content_type} has no identity"
        );
    }
    let (other, outcome) = (Partition::AwsCn, answer::read(200, "text/xml", bytes, Partition::Aws));
    let caller = match outcome {
        Ok(Outcome::Identity(caller)) => caller,
        Ok(Outcome::Overloaded) => unreachable!("200 is never overloaded"),
        Err(error) => {
            assert!(is_plain(&error.to_string()), "{error}");
            return Verdict::Rejected;
        }
    };
    assert!(answer::read(200, "text/xml", bytes, other).is_err(), "a caller has one partition");
    let principal = caller.principal();
    assert!(principal.is_caller() && caller.principals().len() <= 3);
    for each in caller.principals() {
        assert_eq!(Principal::parse_stored(each.as_str()).as_ref(), Ok(each));
        let aws = each.aws().expect("an AWS principal");
        assert_eq!(aws.partition(), Partition::Aws);
        assert_eq!(Some(aws.account()), principal.aws().map(AwsPrincipal::account));
    }
    let role = matches!(principal, Principal::Role(_));
    assert_eq!(caller.unique_id().is_some_and(|id| id.as_str().starts_with("AROA")), role);
    assert_eq!(caller.session().is_some(), role);
    assert!(
        caller
            .session()
            .is_none_or(|name| (2..=64).contains(&name.len()) && !name.contains([':', '/']))
    );
    Verdict::Accepted
}
