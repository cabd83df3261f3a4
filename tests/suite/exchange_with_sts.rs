//! The mint and STS: what the broker sends to STS, and what it does with each answer.

use axum::body::Body;
use axum::http::Request;
use stile_protocol::names::Permission::{Download, Upload};
use stile_tests::broker::{HOST, NOW, TestBroker, deploy, namespaces, role};
use stile_tests::sts::local::{Answer, LocalSts, fixed_clock, identity_xml};
use stile_tests::sts::proof::{document, document_of, with, with_document};
use stile_tests::time_limits::{self, past_deadlines};

#[tokio::test]
async fn a_changed_proof_is_a_signature_mismatch_at_sts() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    let identity = deploy();
    test.sts.add_identity(identity.clone());
    let good =
        test.proof(&identity).document(&document(600, namespaces(&["acme"]), &[Download])).build();
    let widened = String::from_utf8(document_of(&good)).unwrap().replace("download", "upload");
    let longer = String::from_utf8(document_of(&good)).unwrap().replace("600", "601");
    for (what, body) in [
        ("another permission", with_document(good.clone(), widened.as_bytes())),
        ("another lifetime", with_document(good.clone(), longer.as_bytes())),
        ("another second", with(good.clone(), "amz_date", "20261120T101113Z")),
        ("another region", with(good.clone(), "region", "us-west-2")),
        ("another signature", with(good.clone(), "signature", "0".repeat(64))),
        ("another registry", test.proof(&identity).audience("other.example.com").build()),
        (
            "the registry in another case",
            test.proof(&identity).audience("Registry.example.com").build(),
        ),
        (
            "the registry with its port",
            test.proof(&identity).audience("registry.example.com:443").build(),
        ),
    ] {
        let reply = test.exchange(&body).await;
        assert_eq!(reply.error(), "401 signature_mismatch", "{what}: {}", reply.text());
        assert!(reply.json()["hint"].as_str().unwrap().contains(HOST), "{what}");
    }
    assert_eq!(
        test.exchange(&good).await.status,
        200,
        "and the genuine proof is still unused after its copies"
    );
}

#[tokio::test]
async fn the_request_to_sts_is_the_template_and_nothing_else() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    test.grant(&role("deploy"), "acme", &[Download]).await;
    let identity = deploy();
    test.sts.add_identity(identity.clone());
    let body = test.proof(&identity).region("cn-north-1").build().to_string();
    let request = Request::post("/v1/token")
        .header("content-type", "application/json")
        .header("accept", "application/json")
        .header("x-forwarded-host", "evil.org")
        .header("x-amz-mallory-header", "<?xml><h4ck0r/>")
        .header("host", "evil.org");
    test.send(request.body(Body::from(body)).unwrap()).await;
    let seen = test.sts.requests().pop().unwrap();
    assert_eq!(
        (seen.method.as_str(), seen.path.as_str(), seen.header("host")),
        ("POST", "/", Some("sts.cn-north-1.amazonaws.com.cn"))
    );
    assert_eq!(seen.body, b"Action=GetCallerIdentity&Version=2011-06-15");
    assert_eq!(
        seen.header_names(),
        [
            "accept",
            "authorization",
            "content-length",
            "content-type",
            "host",
            "x-amz-date",
            "x-amz-security-token",
            "x-stile-audience",
            "x-stile-request"
        ]
    );
    assert_eq!(seen.header("accept"), Some("*/*"), "from the client library, not from the caller");
}

#[tokio::test]
async fn each_error_of_sts_has_its_own_code_and_its_text_is_not_repeated() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let identity = deploy();
    let unknown = test.exchange(&test.proof(&identity).build()).await;
    assert_eq!(unknown.error(), "401 invalid_credentials");
    for (code, text, expected) in [
        (
            "SignatureDoesNotMatch",
            "Credential should be scoped to a valid region.",
            "401 signature_mismatch",
        ),
        (
            "SignatureDoesNotMatch",
            "Signature expired: 20261120T101112Z is now earlier than",
            "401 proof_expired",
        ),
        (
            "InvalidClientTokenId",
            "The security token included in the request is invalid.",
            "401 invalid_credentials",
        ),
        (
            "ExpiredToken",
            "The security token included in the request is expired",
            "401 expired_credentials",
        ),
    ] {
        let body = format!(
            "<ErrorResponse><Error><Code>{code}</Code><Message>{text}</Message></Error></ErrorResponse>"
        );
        test.sts.answer(Answer::Raw {
            status: 403,
            content_type: "text/xml".into(),
            body: body.into(),
        });
        let reply = test.exchange(&test.proof(&identity).build()).await;
        assert_eq!(reply.error(), expected, "{text}");
        assert!(
            !reply.text().contains(text) && !reply.text().contains(&identity.access_key_id),
            "{}",
            reply.text()
        );
    }
}

#[tokio::test]
async fn an_sts_that_is_down_or_lies_is_not_a_no() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    test.grant(&role("deploy"), "acme", &[Download]).await;
    let identity = deploy();
    test.sts.add_identity(identity.clone());
    let xml = |text: String| Answer::xml(text);
    let genuine = identity_xml(&identity);
    let raw = |status, content_type: &str, body: &str| Answer::Raw {
        status,
        content_type: content_type.into(),
        body: body.as_bytes().to_vec(),
    };
    for (what, answer, expected, calls) in [
        ("throttles", Answer::Throttle, "503 sts_unavailable", 2),
        ("is unavailable", Answer::Unavailable, "503 sts_unavailable", 2),
        ("answers too many requests", raw(429, "text/xml", ""), "503 sts_unavailable", 2),
        ("redirects", Answer::Redirect(test.sts.endpoint()), "502 sts_bad_response", 1),
        (
            "is a captive portal",
            raw(200, "text/html", "<html>Welcome</html>"),
            "502 sts_bad_response",
            1,
        ),
        ("never ends", Answer::Endless, "502 sts_bad_response", 1),
        ("sends an empty answer", raw(200, "text/xml", ""), "502 sts_bad_response", 1),
        ("says JSON", raw(200, "application/json", "{}"), "502 sts_bad_response", 1),
        (
            "names another account",
            xml(genuine.replace("<Account>111122223333", "<Account>999999999999")),
            "502 sts_inconsistent",
            1,
        ),
        (
            "names another session",
            xml(genuine.replace(":i-0abc</UserId>", ":i-other</UserId>")),
            "502 sts_inconsistent",
            1,
        ),
        (
            "names another partition",
            xml(genuine.replace("arn:aws:", "arn:aws-cn:")),
            "502 sts_inconsistent",
            1,
        ),
        (
            "names two results",
            xml(genuine
                .replace("<ResponseMetadata>", "<GetCallerIdentityResult/><ResponseMetadata>")),
            "502 sts_bad_response",
            1,
        ),
        (
            "names root",
            xml(genuine.replace("assumed-role/deploy/i-0abc", "root").replace(":sts:", ":iam:")),
            "403 unsupported_principal",
            1,
        ),
        (
            "names an instance",
            xml(genuine
                .replace("assumed-role/deploy/i-0abc", "assumed-role/aws:ec2-instance/i-0abc")),
            "403 unsupported_principal",
            1,
        ),
        (
            "names too many parts",
            xml(genuine.replace("assumed-role/deploy/i-0abc", "assumed-role/a/b/i-0abc")),
            "502 sts_bad_response",
            1,
        ),
    ] {
        let before = test.sts.calls();
        test.sts.answer(answer);
        let reply = test.exchange(&test.proof(&identity).build()).await;
        assert_eq!(
            (reply.error().as_str(), test.sts.calls() - before),
            (expected, calls),
            "{what}: {}",
            reply.text()
        );
        assert_eq!(!reply.header("retry-after").is_empty(), reply.status == 503, "{what}");
    }
    test.sts.answer(Answer::Genuine);
    test.sts.answer_next([Answer::Throttle]);
    assert_eq!(
        test.exchange(&test.proof(&identity).build()).await.status,
        200,
        "the broker retries after one failure"
    );
}

#[tokio::test]
async fn a_redirect_of_sts_is_followed_to_nobody() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    test.grant(&role("deploy"), "acme", &[Download]).await;
    let identity = deploy();
    // This server would confirm any identity.
    let accomplice = LocalSts::start([], fixed_clock(NOW));
    accomplice.answer(Answer::xml(identity_xml(&identity)));
    test.sts.answer(Answer::Redirect(accomplice.endpoint()));
    assert_eq!(test.exchange(&test.proof(&identity).build()).await.error(), "502 sts_bad_response");
    assert_eq!((test.sts.calls(), accomplice.calls()), (1, 0));
}

#[tokio::test]
async fn an_sts_that_does_not_answer_is_given_its_time_and_no_more() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let identity = deploy();
    test.sts.answer(Answer::Hang);
    let proof = test.proof(&identity).build();
    let arrived = test.sts.wait_for_calls(test.sts.calls() + 1);
    let (reply, jumped) = past_deadlines(arrived, test.exchange(&proof)).await;
    assert_eq!(reply.error(), "504 sts_timeout");
    // Time before the call arrives is the machine's own time.
    let given = time_limits::sts().total;
    assert!((given / 2..2 * given).contains(&jumped), "{jumped:?} of {given:?}");
    let nobody = TestBroker::start();
    let body = nobody.proof(&identity).build();
    let TestBroker { sts, .. } = &nobody;
    sts.answer(Answer::Unavailable);
    assert_eq!(nobody.exchange(&body).await.error(), "503 sts_unavailable");
}
