//! `proof = "web-identity"`: a JWT of AWS about the caller, from a stand-in of STS.

use std::collections::HashMap;

use chrono::TimeDelta;
use url::form_urlencoded;

use crate::support::{ReceivedRequest, Sandbox, StubBroker, discovery, http, now, rfc3339};

const HOST: &str = "registry.example.com";
const GET: [&str; 2] = ["get", HOST];

fn fields(request: &ReceivedRequest) -> HashMap<String, String> {
    form_urlencoded::parse(request.body.as_bytes()).into_owned().collect()
}

fn xml(status: &str, body: &str) -> String {
    http(status, "", body).replace("application/json", "text/xml")
}

/// Starts an STS that signs JWTs. Each names its number.
fn sts() -> StubBroker {
    StubBroker::new(|number, _| {
        let end = rfc3339(now() + TimeDelta::minutes(5));
        xml(
            "200 OK",
            &format!(
                "<GetWebIdentityTokenResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
                 <GetWebIdentityTokenResult><Expiration>{end}</Expiration>\
                 <WebIdentityToken>eyJ.e30.number-{number}</WebIdentityToken></GetWebIdentityTokenResult>\
                 <ResponseMetadata><RequestId>x</RequestId></ResponseMetadata></GetWebIdentityTokenResponse>"
            ),
        )
    })
}

fn refusing(code: &'static str, message: &'static str) -> StubBroker {
    StubBroker::new(move |_, _| {
        xml(
            "403 Forbidden",
            &format!(
                "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
                 <Code>{code}</Code><Message>{message}</Message></Error><RequestId>x</RequestId></ErrorResponse>"
            ),
        )
    })
}

/// Starts a registry whose token shows the JWT.
fn registry() -> StubBroker {
    StubBroker::new(|_, request| {
        if request.path() != "/v1/token" {
            return discovery(now());
        }
        let jwt = fields(request)["subject_token"].clone();
        let body = serde_json::json!({
            "access_token": format!("stile_v4.local.{jwt}"), "expires_in": 3600, "scope": "all:download",
            "expires_at": rfc3339(now() + TimeDelta::hours(1)), "principal": "aws:111122223333:role/deploy",
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token", "token_type": "Bearer",
        });
        http("200 OK", "", &body.to_string())
    })
}

fn sandbox(broker: &StubBroker, sts: &StubBroker) -> Sandbox {
    Sandbox::new()
        .configured(&format!(
            "[registry.\"{HOST}\"]\nurl = \"{}\"\nproof = \"web-identity\"\n",
            broker.url
        ))
        .with("AWS_ENDPOINT_URL_STS", &sts.url)
}

#[test]
fn an_account_without_jwts_is_named_with_the_command_that_enables_them() {
    let text = "the AWS account gives no JWTs, because outbound web identity federation is not enabled; hint: an administrator of the \
                account runs `aws iam enable-outbound-web-identity-federation`; or set `proof = \"sigv4\"`";
    let broker = registry();
    let sts = refusing("OutboundWebIdentityFederationDisabledException", "not enabled");
    let sandbox = sandbox(&broker, &sts).installed();
    sandbox.run(&GET).fails_with(&format!("no token for `{HOST}`: {text}"));
    let doctor = sandbox.run(&["doctor", HOST]);
    assert!(doctor.stdout.contains(&format!("FAIL JWT of AWS: {text}\n")), "{}", doctor.stdout);
    assert!(doctor.stdout.contains("-    exchange: skipped\n"), "{}", doctor.stdout);
    assert!(broker.requests().iter().all(|request| request.path() != "/v1/token"));
}

#[test]
fn an_identity_that_sts_refuses_gets_the_name_of_the_missing_permission() {
    let broker = registry();
    for (sts, expected) in [
        (
            refusing("AccessDenied", "User: x is not authorized"),
            "the AWS identity may not call `sts:GetWebIdentityToken`: User: x is not authorized; hint: allow \
             `sts:GetWebIdentityToken` in the policy of the identity",
        ),
        (
            refusing("InvalidClientTokenId", "The security token is invalid"),
            "cannot get a JWT from AWS STS: InvalidClientTokenId: The security token is invalid; hint: check the network to STS, \
             and the region",
        ),
    ] {
        let run = sandbox(&broker, &sts).run(&GET);
        run.fails_with(&format!("no token for `{HOST}`: {expected}"));
    }
    assert!(broker.requests().is_empty());
}

#[test]
fn the_helper_asks_for_a_short_jwt_for_the_registry_and_sends_it_there() {
    let (broker, sts) = (registry(), sts());
    let sandbox = sandbox(&broker, &sts);
    sandbox.run(&GET).prints("{\"token\":\"stile_v4.local.eyJ.e30.number-0\"}\n");
    sandbox.run(&GET).prints("{\"token\":\"stile_v4.local.eyJ.e30.number-0\"}\n");
    let [asked] = sts.requests().try_into().unwrap();
    let sent = fields(&asked);
    for (name, value) in [
        ("Action", "GetWebIdentityToken"),
        ("Audience.member.1", HOST),
        ("DurationSeconds", "300"),
        ("SigningAlgorithm", "ES384"),
    ] {
        assert_eq!(sent[name], value);
    }
    let signed = &asked.headers["authorization"];
    assert!(signed.contains("ASIAIOSFODNN7EXAMPLE/"), "{signed}");
    assert!(signed.contains("/eu-central-1/sts/aws4_request"), "{signed}");
    let form = fields(&broker.requests()[0]);
    assert_eq!(form["subject_token_type"], "urn:ietf:params:oauth:token-type:jwt");
    assert!(!broker.requests()[0].body.contains("ASIA"), "no AWS credentials go to the registry");
}

#[test]
fn a_token_of_a_signed_request_and_one_of_a_jwt_are_not_mixed_up() {
    let (broker, sts) = (registry(), sts());
    let sandbox = sandbox(&broker, &sts);
    sandbox.run(&GET).prints("{\"token\":\"stile_v4.local.eyJ.e30.number-0\"}\n");
    let sandbox = sandbox.configured(&format!(
        "[registry.\"{HOST}\"]\nurl = \"{}\"\nproof = \"web-identity\"\ntrust = \"aws\"\n",
        broker.url
    ));
    sandbox.run(&GET).prints("{\"token\":\"stile_v4.local.eyJ.e30.number-1\"}\n");
}
