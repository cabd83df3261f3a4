//! The URL of an upload session: which bytes it accepts, how often, and how long it lives.

use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use stile_protocol::audience::Audience;
use stile_store::Store;
use stile_tests::aws::emulated::{ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, SESSION_TOKEN};
use stile_tests::aws::proxy::Fault;
use stile_tests::broker::{HOST, NOW, large_zip};
use stile_tests::process::programs::client;
use stile_tests::sts::sigv4::{Request, Scope};
use stile_tests::time_limits;

use crate::aws_uploads::{LARGE, Registry, announced};

#[tokio::test]
async fn the_address_of_an_upload_takes_the_announced_bytes_alone() {
    let Some(registry) = Registry::start().await else { return };
    let archive = large_zip(LARGE);
    for kms_key in [None, Some("alias/archives")] {
        let aws = registry.test.aws();
        let mut place = aws.place.clone();
        place.bucket_kms_key = kms_key.map(str::to_owned);
        let audience = Some(Audience::parse(HOST).unwrap());
        let store = Store::on_aws(&place, audience, &aws.sdk(), time_limits::aws());
        let other = registry.test.over(store);
        let registry = Registry {
            function: other.function(None, None),
            test: other,
            token: registry.token.clone(),
        };
        let session = registry.begin("1.0.0", &archive).await;

        assert_eq!(session.id.len(), 32);
        let place = format!("{}/{}/uploads/{}", aws.proxy.endpoint(), aws.place.bucket, session.id);
        assert_eq!(session.url.as_str().split_once('?').unwrap().0, place);
        let digest = STANDARD.encode(Sha256::digest(&archive));
        let mut expected = vec![
            ("content-length", "700001"),
            ("content-type", "application/zip"),
            ("if-none-match", "*"),
            ("x-amz-checksum-sha256", &digest),
        ];
        if let Some(key) = kms_key {
            expected.push(("x-amz-server-side-encryption", "aws:kms"));
            expected.push(("x-amz-server-side-encryption-aws-kms-key-id", key));
            expected.push(("x-amz-server-side-encryption-bucket-key-enabled", "true"));
        }
        let headers: Vec<(&str, &str)> =
            session.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(
            headers.iter().collect::<std::collections::BTreeSet<_>>(),
            expected.iter().collect()
        );
        let mut names: Vec<&str> = expected.iter().map(|(name, _)| *name).chain(["host"]).collect();
        names.sort_unstable();
        assert_eq!(
            session.parameter("X-Amz-SignedHeaders"),
            names.join(";"),
            "the signature covers every header"
        );
        assert_eq!(
            (session.parameter("X-Amz-Expires"), session.parameter("X-Amz-Date")),
            ("900".to_owned(), "20261120T101112Z".to_owned())
        );
        assert_eq!(session.parameter("X-Amz-Security-Token"), SESSION_TOKEN);
        assert!(session.parameter("X-Amz-Credential").starts_with(ACCESS_KEY_ID));

        // The signature that S3 computes over the request as the client sends it, and over nothing
        // else.
        let query: Vec<&str> = session
            .url
            .query()
            .unwrap()
            .split('&')
            .filter(|pair| !pair.starts_with("X-Amz-Signature="))
            .collect();
        let host = aws.proxy.endpoint().replace("http://", "");
        let signature = |changed: Option<(&str, &str)>| {
            let mut sent: Vec<(String, String)> = session
                .headers
                .clone()
                .into_iter()
                .chain([("host".to_owned(), host.clone())])
                .collect();
            for (name, value) in &mut sent {
                if let Some((_, other)) = changed.filter(|(changed, _)| changed == name) {
                    *value = other.to_owned();
                }
            }
            let request = Request {
                method: "PUT",
                path: session.url.path(),
                query: &query.join("&"),
                headers: &sent,
                body: b"",
            };
            let canonical = request
                .canonical(&names.join(";"))
                .unwrap()
                .replace(&hex::encode(Sha256::digest(b"")), "UNSIGNED-PAYLOAD");
            let scope = Scope {
                date: "20261120".to_owned(),
                region: REGION.to_owned(),
                service: "s3".to_owned(),
            };
            scope.signature(SECRET_ACCESS_KEY, "20261120T101112Z", &canonical)
        };
        assert_eq!(signature(None), session.parameter("X-Amz-Signature"));
        let others = [
            ("content-length", "700002"),
            ("x-amz-checksum-sha256", "AAAA"),
            ("content-type", "text/html"),
            ("if-none-match", "x"),
        ];
        for changed in others {
            assert_ne!(
                signature(Some(changed)),
                session.parameter("X-Amz-Signature"),
                "{changed:?}"
            );
        }
    }
}

#[tokio::test]
async fn the_address_of_an_upload_takes_them_once_and_who_lost_the_answer_completes_or_begins_again()
 {
    let Some(registry) = Registry::start().await else { return };
    let archive = large_zip(LARGE);
    let session = registry.begin("1.0.0", &archive).await;
    // A transfer that breaks off stores nothing, and does not block the next one.
    registry.test.aws().proxy.inject("s3 PUT", ..1, Fault::Close);
    assert!(client(None).put(session.url.clone()).body(archive.clone()).send().await.is_err());
    registry.test.aws().proxy.repair();
    session.put(&archive).await;
    for _ in 0..3 {
        session.put_for(&archive, 412).await;
    }
    assert_eq!(
        registry.test.aws().versions().await,
        1,
        "another put would add a version of the same size"
    );
    let again = registry.begin("1.0.0", &archive).await;
    again.put(&archive).await;
    assert_eq!(registry.complete("1.0.0", &session).await.status, 201);
    let unchanged = registry.complete("1.0.0", &again).await;
    assert_eq!(
        (unchanged.status.as_u16(), unchanged.json()["status"].as_str()),
        (200, Some("unchanged")),
        "{}",
        unchanged.text()
    );
    assert_eq!(
        registry.test.aws().versions().await,
        2,
        "only the published archive and its metadata are left"
    );
}

#[tokio::test]
async fn the_address_of_an_upload_never_outlives_the_credentials_that_signed_it() {
    let Some(registry) = Registry::start().await else { return };
    let archive = large_zip(LARGE);
    for (left, expected) in [
        (None, Some(900)),
        (Some(5000), Some(900)),
        (Some(120), Some(120)),
        (Some(29), None),
        (Some(-5), None),
    ] {
        let expires_at = left
            .map(|left: i64| UNIX_EPOCH + Duration::from_secs((NOW + left).try_into().unwrap()));
        let aws = registry.test.aws();
        let store = aws.store_over(&aws.sdk_of(expires_at), Some(HOST));
        let other = registry.test.over(store);
        let signing = Registry {
            function: other.function(None, None),
            test: other,
            token: registry.token.clone(),
        };
        let reply =
            signing.post("1.0.0/uploads", &announced(&archive).to_string(), &signing.token).await;
        match expected {
            None => assert_eq!(reply.status, 503, "{left:?}"),
            Some(seconds) => assert!(
                reply.text().contains(&format!("X-Amz-Expires={seconds}&")),
                "{left:?}: {}",
                reply.text()
            ),
        }
    }
}
