//! Tests the local STS with requests that the SDK signs, and with the changes of an attacker.

use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use stile_protocol::signed_request::{BODY, CONTENT_TYPE};

use super::answers::Refusal;
use super::*;
use crate::sts::proof::Proof;

const NOW: i64 = 1_795_169_472;
const AUDIENCE: &str = "127.0.0.1:8443";

fn alice() -> Identity {
    Identity::role("111122223333", "deploy", "alice")
}

fn proof(identity: &Identity) -> Proof {
    Proof::new(identity).audience(AUDIENCE).now(NOW)
}

fn seen(proof: &Proof) -> Seen {
    let (headers, body) = proof.sts_request();
    Seen {
        method: "POST".to_owned(),
        path: "/".to_owned(),
        headers,
        body: body.as_bytes().to_vec(),
    }
}

fn replace(seen: &mut Seen, name: &str, change: impl Fn(&str) -> String) {
    let header = seen.headers.iter_mut().find(|(sent, _)| sent == name).unwrap();
    header.1 = change(&header.1);
}

fn refusal(seen: &Seen, identities: &[Identity], now: i64) -> Refusal {
    verify::caller(seen, identities, now).unwrap_err()
}

async fn send(sts: &LocalSts, proof: &Proof) -> (u16, String, String) {
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let (headers, body) = proof.sts_request();
    let mut request = client.post(sts.endpoint()).body(body);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let response = request.send().await.unwrap();
    let content_type = response
        .headers()
        .get("content-type")
        .map(|value| value.to_str().unwrap().to_owned())
        .unwrap_or_default();
    (response.status().as_u16(), content_type, response.text().await.unwrap())
}

fn code_of(xml: &str) -> String {
    let document = roxmltree::Document::parse(xml).unwrap();
    let code = document.descendants().find(|node| node.tag_name().name() == "Code").unwrap();
    assert_eq!(code.tag_name().namespace(), Some("https://sts.amazonaws.com/doc/2011-06-15/"));
    code.text().unwrap().to_owned()
}

#[test]
fn one_changed_bit_anywhere_under_the_signature_is_a_mismatch() {
    let identity = alice();
    let good = seen(&proof(&identity));
    verify::caller(&good, std::slice::from_ref(&identity), NOW).unwrap();
    let flip = |text: &str| {
        let mut bytes = text.as_bytes().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        String::from_utf8(bytes).unwrap()
    };
    for name in [
        "host",
        "content-type",
        "x-amz-date",
        "x-stile-audience",
        "x-stile-request",
        "authorization",
    ] {
        let mut bent = good.clone();
        let change =
            |text: &str| if name == "x-amz-date" { text.replace("12Z", "13Z") } else { flip(text) };
        replace(&mut bent, name, change);
        assert_ne!(bent, good);
        assert_eq!(
            refusal(&bent, std::slice::from_ref(&identity), NOW).code,
            "SignatureDoesNotMatch",
            "{name}"
        );
    }
    for (what, bent) in [
        (
            "body",
            Seen { body: b"Action=GetCallerIdentity&Version=2011-06-14".to_vec(), ..good.clone() },
        ),
        ("method", Seen { method: "PUT".to_owned(), ..good.clone() }),
        ("path", Seen { path: "//".to_owned(), ..good.clone() }),
        ("query", Seen { path: "/?Action=GetCallerIdentity".to_owned(), ..good.clone() }),
    ] {
        assert_eq!(
            refusal(&bent, std::slice::from_ref(&identity), NOW).code,
            "SignatureDoesNotMatch",
            "{what}"
        );
    }
    let other = Identity { secret_access_key: flip(&identity.secret_access_key), ..identity };
    assert_eq!(refusal(&good, &[other], NOW).code, "SignatureDoesNotMatch", "secret");
}

#[test]
fn a_request_is_rejected_with_the_messages_of_aws() {
    let identity = alice();
    let with = |name: &str, change: &dyn Fn(&str) -> String| {
        let mut bent = seen(&proof(&identity));
        replace(&mut bent, name, change);
        bent
    };
    let without = |name: &str| {
        let mut bent = seen(&proof(&identity));
        bent.headers.retain(|(sent, _)| sent != name);
        bent
    };
    let unsigned = |name: &str| {
        let mut bent = seen(&proof(&identity));
        bent.headers.push((name.to_owned(), "x".to_owned()));
        bent
    };
    for (bent, status, code, words) in [
        (without("authorization"), 403, "MissingAuthenticationToken", "is missing"),
        (
            with("authorization", &|text| text.replace("AWS4-HMAC", "AWS4-ECDSA")),
            400,
            "IncompleteSignature",
            "incomplete",
        ),
        (
            with("authorization", &|text| text.replace("/aws4_request", "/aws4_request/x")),
            400,
            "IncompleteSignature",
            "incomplete",
        ),
        (
            with("authorization", &|text| text.replace(", Sig", ", X=1, Sig")),
            400,
            "IncompleteSignature",
            "incomplete",
        ),
        (
            with("authorization", &|text| format!("{text}, X=1")),
            400,
            "IncompleteSignature",
            "incomplete",
        ),
        (
            with("authorization", &|text| text.replace("=ASIA", "=ASIB")),
            403,
            "InvalidClientTokenId",
            "is invalid",
        ),
        (
            with("x-amz-security-token", &|text| format!("{text}x")),
            403,
            "InvalidClientTokenId",
            "is invalid",
        ),
        (without("x-amz-security-token"), 403, "InvalidClientTokenId", "is invalid"),
        (without("x-amz-date"), 400, "IncompleteSignature", "ISO-8601"),
        (
            with("x-amz-date", &|_| "20261121T101112Z".to_owned()),
            403,
            "SignatureDoesNotMatch",
            "Date in Credential scope",
        ),
        (
            with("authorization", &|text| text.replace("/sts/", "/s3/")),
            403,
            "SignatureDoesNotMatch",
            "correct service: 'sts'",
        ),
        (
            with("authorization", &|text| text.replace("us-east-1", "eu-west-1")),
            403,
            "SignatureDoesNotMatch",
            "valid region",
        ),
        (
            with("host", &|_| "sts.amazonaws.com".to_owned()),
            403,
            "SignatureDoesNotMatch",
            "valid region",
        ),
        (without("host"), 403, "SignatureDoesNotMatch", "valid region"),
        (without("x-stile-audience"), 403, "SignatureDoesNotMatch", "does not match"),
        (
            unsigned("x-amz-mallory"),
            403,
            "SignatureDoesNotMatch",
            "'x-amz-mallory' must be a 'SignedHeader'",
        ),
        (unsigned("x-stile-audience"), 403, "SignatureDoesNotMatch", "does not match"),
    ] {
        let refusal = refusal(&bent, std::slice::from_ref(&identity), NOW);
        assert_eq!((refusal.status, refusal.code), (status, code), "{refusal:?}");
        assert!(refusal.message.contains(words), "{refusal:?}");
    }
}

#[test]
fn a_signature_is_valid_for_15_minutes_in_both_directions() {
    let identity = alice();
    let good = seen(&proof(&identity));
    for (now, words) in [
        (NOW + 901, "Signature expired: 20261120T101112Z is now earlier than 20261120T101113Z"),
        (NOW - 901, "Signature not yet current"),
    ] {
        let refusal = refusal(&good, std::slice::from_ref(&identity), now);
        assert_eq!((refusal.status, refusal.code), (403, "SignatureDoesNotMatch"));
        assert!(refusal.message.starts_with(words), "{refusal:?}");
    }
    for now in [NOW - 900, NOW, NOW + 900] {
        verify::caller(&good, std::slice::from_ref(&identity), now).unwrap();
    }
}

#[test]
fn credentials_expire_at_their_time() {
    let identity = alice().expiring_at(NOW);
    let good = seen(&proof(&identity));
    assert_eq!(refusal(&good, std::slice::from_ref(&identity), NOW).code, "ExpiredToken");
    verify::caller(&good, &[identity], NOW - 1).unwrap();
}

#[test]
fn another_action_is_rejected_with_a_valid_signature() {
    let identity = alice();
    for body in
        ["Action=AssumeRole&Version=2011-06-15", "Action=GetCallerIdentityX&Version=2011-06-15", ""]
    {
        let refusal = refusal(
            &signed_by_aws(&identity, "us-east-1", body),
            std::slice::from_ref(&identity),
            NOW,
        );
        assert_eq!((refusal.status, refusal.code), (400, "InvalidAction"), "{body:?}");
    }
}

#[test]
fn a_request_that_the_aws_library_signs_is_accepted() {
    for identity in [alice(), Identity::user("111122223333", "bob")] {
        for region in ["us-east-1", "cn-north-1", "eusc-de-east-1"] {
            let seen = signed_by_aws(&identity, region, BODY);
            assert_eq!(
                verify::caller(&seen, std::slice::from_ref(&identity), NOW),
                Ok(&identity),
                "{region}"
            );
        }
    }
}

#[test]
fn a_proof_equals_what_the_aws_library_signs() {
    let identity = alice();
    let document = crate::sts::proof::document(
        900,
        stile_protocol::exchange::Namespaces::All,
        &[stile_protocol::names::Permission::Upload],
    );
    let proof = Proof::new(&identity).audience(AUDIENCE).now(NOW).document(&document);
    let ours = seen(&proof);
    let theirs = signed(
        &identity,
        "us-east-1",
        BODY,
        &[
            ("x-stile-audience", AUDIENCE),
            ("x-stile-request", ours.header("x-stile-request").unwrap()),
        ],
    );
    assert_eq!(ours.header("authorization"), theirs.header("authorization"));
}

fn signed_by_aws(identity: &Identity, region: &str, body: &str) -> Seen {
    signed(identity, region, body, &[("x-stile-audience", AUDIENCE), ("x-stile-request", "00")])
}

fn signed(identity: &Identity, region: &str, body: &str, more: &[(&str, &str)]) -> Seen {
    let host = stile_protocol::region::Region::named(region).unwrap().host;
    let credentials = Credentials::new(
        &identity.access_key_id,
        &identity.secret_access_key,
        identity.session_token.clone(),
        None,
        "test",
    )
    .into();
    let params = v4::SigningParams::builder()
        .identity(&credentials)
        .region(region)
        .name("sts")
        .time(UNIX_EPOCH + Duration::from_secs(NOW.unsigned_abs()))
        .settings(SigningSettings::default())
        .build()
        .unwrap()
        .into();
    let mut headers = vec![("host", host), ("content-type", CONTENT_TYPE)];
    headers.extend(more);
    let uri = format!("https://{host}/");
    let request = SignableRequest::new(
        "POST",
        &uri,
        headers.iter().copied(),
        SignableBody::Bytes(body.as_bytes()),
    )
    .unwrap();
    let (instructions, _) = sign(request, &params).unwrap().into_parts();
    let headers = headers
        .into_iter()
        .chain(instructions.headers())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Seen {
        method: "POST".to_owned(),
        path: "/".to_owned(),
        headers,
        body: body.as_bytes().to_vec(),
    }
}

#[tokio::test]
async fn a_test_sets_the_answers_of_sts() {
    let identity = alice();
    let sts = LocalSts::start([identity.clone()], fixed_clock(NOW));
    sts.answer_next([
        Answer::Throttle,
        Answer::Unavailable,
        Answer::Redirect("http://127.0.0.1:9/".to_owned()),
        Answer::Raw {
            status: 200,
            content_type: "text/html".to_owned(),
            body: b"<p>sign in".to_vec(),
        },
        Answer::Raw { status: 200, content_type: String::new(), body: vec![] },
    ]);
    let (status, content_type, body) = send(&sts, &proof(&identity)).await;
    assert_eq!(
        (status, content_type.as_str(), code_of(&body).as_str()),
        (400, "text/xml", "Throttling")
    );
    let (status, _, body) = send(&sts, &proof(&identity)).await;
    assert_eq!((status, code_of(&body).as_str()), (503, "ServiceUnavailable"));
    assert_eq!(send(&sts, &proof(&identity)).await.0, 307);
    assert_eq!(
        send(&sts, &proof(&identity)).await,
        (200, "text/html".to_owned(), "<p>sign in".to_owned())
    );
    assert_eq!(send(&sts, &proof(&identity)).await, (200, String::new(), String::new()));
    let (status, content_type, body) = send(&sts, &proof(&alice())).await;
    assert_eq!(
        (status, content_type.as_str(), code_of(&body).as_str()),
        (403, "text/xml", "InvalidClientTokenId")
    );
    sts.remove_identity(&identity.access_key_id);
    assert_eq!(send(&sts, &proof(&identity)).await.0, 403);
    assert_eq!(sts.calls(), 7);
}

#[tokio::test]
async fn an_endless_body_goes_on_and_a_hung_call_ends_with_the_server() {
    let identity = alice();
    let sts = LocalSts::start([identity.clone()], fixed_clock(NOW));
    sts.answer(Answer::Endless);
    let mut response = reqwest::Client::builder()
        .no_proxy()
        .build()
        .unwrap()
        .post(sts.endpoint())
        .send()
        .await
        .unwrap();
    let mut read = 0;
    while read < 1 << 20 {
        read += response.chunk().await.unwrap().unwrap().len();
    }
    drop(response);
    sts.answer(Answer::Hang);
    let endpoint = sts.endpoint();
    let hung = tokio::spawn(async move {
        reqwest::Client::builder().no_proxy().build().unwrap().post(endpoint).send().await
    });
    sts.wait_for_calls(2).await;
    drop(sts);
    assert!(hung.await.unwrap().is_err());
}

#[tokio::test]
async fn sts_holds_back_answers_and_not_calls() {
    let identity = alice();
    let sts = Arc::new(LocalSts::start([identity.clone()], fixed_clock(NOW)));
    sts.hold();
    let calls: Vec<_> = (0..3)
        .map(|_| {
            let (sts, proof) = (Arc::clone(&sts), proof(&identity));
            tokio::spawn(async move { send(&sts, &proof).await.0 })
        })
        .collect();
    sts.wait_for_calls(3).await;
    assert!(calls.iter().all(|call| !call.is_finished()));
    sts.release();
    for call in calls {
        assert_eq!(call.await.unwrap(), 200);
    }
}

#[tokio::test]
async fn sts_names_the_signer_and_remembers_the_request() {
    let identity = alice();
    let sts = LocalSts::start([], fixed_clock(NOW));
    sts.add_identity(identity.clone());
    let (status, content_type, body) = send(&sts, &proof(&identity)).await;
    assert_eq!((status, content_type.as_str()), (200, "text/xml"));
    let document = roxmltree::Document::parse(&body).unwrap();
    let text = |name: &str| {
        document
            .descendants()
            .find(|node| node.tag_name().name() == name)
            .unwrap()
            .text()
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        (text("Arn"), text("UserId"), text("Account")),
        (identity.arn.clone(), identity.user_id.clone(), identity.account.clone())
    );
    assert_eq!(document.root_element().tag_name().name(), "GetCallerIdentityResponse");
    assert_eq!(text("RequestId").len(), 36);
    let [request] = &sts.requests()[..] else { panic!("expected one request") };
    assert_eq!(
        (request.method.as_str(), request.path.as_str(), request.body.as_slice()),
        ("POST", "/", BODY.as_bytes())
    );
    assert_eq!(request.header("host"), Some("sts.us-east-1.amazonaws.com"));
    assert_eq!(request.header("x-stile-audience"), Some(AUDIENCE));
    assert!(request.header_names().contains(&"x-amz-security-token"));
}
