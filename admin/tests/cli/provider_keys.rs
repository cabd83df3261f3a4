//! Tests of `provider keys`, and of keys in KMS.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rsa::RsaPrivateKey;
use rsa::pkcs1v15::SigningKey;
use rsa::pkcs8::{DecodePrivateKey as _, EncodePublicKey as _};
use rsa::sha2::Sha512;
use rsa::signature::SignatureEncoding as _;
use rsa::signature::hazmat::PrehashSigner as _;
use serde_json::{Value, json};

use crate::broker::{Broker, http};
use crate::provider_registry::{HOST, State, check_published, dist, fixture, registry};
use crate::support::Machine;

const ARN: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

/// Starts a stand-in for KMS with a key of the fixtures. Like AWS, and unlike some other stand-ins, it
/// signs a digest without another hash.
fn kms(key: &'static str, algorithm: &'static str) -> Broker {
    let pem = std::fs::read_to_string(fixture(key)).unwrap();
    let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let key = RsaPrivateKey::from_pkcs8_der(&STANDARD.decode(base64).unwrap()).unwrap();
    let public = key.to_public_key().to_public_key_der().unwrap().into_vec();
    let signer = SigningKey::<Sha512>::new(key);
    Broker::new(move |_, request| {
        let asked: Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(asked["KeyId"], ARN);
        let answer = match request.headers["x-amz-target"].as_str() {
            "TrentService.DescribeKey" => json!({ "KeyMetadata": {
                "KeyId": "1234abcd-12ab-34cd-56ef-1234567890ab", "Arn": ARN,
                "CreationDate": 1_577_836_800.123, "KeyUsage": "SIGN_VERIFY",
            } }),
            "TrentService.GetPublicKey" => json!({
                "KeyId": ARN, "PublicKey": STANDARD.encode(&public), "KeyUsage": "SIGN_VERIFY",
                "SigningAlgorithms": [algorithm],
            }),
            "TrentService.Sign" => {
                assert_eq!(asked["MessageType"], "DIGEST");
                assert_eq!(asked["SigningAlgorithm"], "RSASSA_PKCS1_V1_5_SHA_512");
                let digest = STANDARD.decode(asked["Message"].as_str().unwrap()).unwrap();
                let signature = signer.sign_prehash(&digest).unwrap().to_vec();
                json!({ "KeyId": ARN, "Signature": STANDARD.encode(signature) })
            }
            target => unreachable!("{target}"),
        };
        http("200 OK", "x-amzn-requestid: 1\r\n", &answer.to_string())
    })
}

const SHA_512: &str = "RSASSA_PKCS1_V1_5_SHA_512";

fn with_kms(machine: Machine, kms: &Broker) -> Machine {
    machine.with("AWS_ENDPOINT_URL_KMS", &kms.url)
}

#[test]
fn a_kms_key_signs_and_its_certificate_is_always_the_same() {
    let kms = kms("kms.pem", SHA_512);
    let state = Arc::new(Mutex::new(State::default()));
    let broker = registry(&state);
    let machine = with_kms(broker.machine(), &kms);
    let export = format!("provider keys export --kms-key {ARN}");
    machine.write(
        ".aws/credentials",
        "[release]\naws_access_key_id = AKIAOFTHEPROFILE\naws_secret_access_key = x\n",
    );
    let of_profile = machine.run(&format!("{export} --profile release --timeout 30"));
    assert_eq!(of_profile.code, 0, "{}", of_profile.stderr);
    let asked = kms.requests();
    assert!(asked.iter().all(|request| {
        request.headers["authorization"].contains("Credential=AKIAOFTHEPROFILE/")
    }));
    let (first, second) = (machine.run(&export), machine.run(&export));
    assert_eq!((first.code, first.stderr.as_str()), (0, ""));
    assert_eq!(first, second);
    assert!(first.stdout.starts_with("-----BEGIN PGP PUBLIC KEY BLOCK-----\n"), "{}", first.stdout);
    let exported = machine.json(&export);
    assert_eq!(exported["algorithm"], "RSA 4096");
    assert_eq!(exported["user_id"], format!("AWS KMS {ARN}"));
    dist(&machine, "dist", &["linux_amd64"]);
    let run = machine.run(&format!("provider publish acme/dns 1.2.0 dist --kms-key {ARN} {HOST}"));
    assert_eq!(run.code, 0, "{}", run.stderr);
    let published = state.lock().unwrap().published.clone().unwrap();
    assert_eq!(published["key_id"], exported["key_id"]);
    check_published(&machine, &published, &first.stdout, "dist");
}

#[test]
fn a_kms_key_of_another_kind_or_an_outage_of_kms_is_an_error_with_a_hint() {
    let small = kms("kms-2048.pem", SHA_512);
    let machine = with_kms(small.machine(), &small);
    let export = format!("provider keys export --kms-key {ARN}");
    let run = machine.run(&export);
    let sentence =
        format!("error: KMS key `{ARN}` is not an RSA key of 4096 bits; hint: create one");
    assert!(run.code == 1 && run.stderr.starts_with(&sentence), "{}", run.stderr);
    let pss = kms("kms.pem", "RSASSA_PSS_SHA_512");
    let run = with_kms(machine, &pss).run(&export);
    assert!(run.code == 2 && run.stderr.contains("cannot sign releases; hint:"), "{}", run.stderr);
    let refuses = Broker::new(|_, _| {
        let body = json!({ "__type": "AccessDeniedException", "message": "no" });
        http("400 Bad Request", "x-amzn-requestid: 1\r\n", &body.to_string())
    });
    let run = with_kms(refuses.machine(), &refuses).run(&export);
    assert!(
        run.code == 2 && run.stderr.contains("cannot read the public key of KMS key"),
        "{}",
        run.stderr
    );
    for arn in [
        "x",
        "arn:aws:s3:eu-central-1:111122223333:key/x",
        "arn:aws:kms::1:key/x",
        "arn:aws:kms:a:1:x",
    ] {
        let run = refuses.machine().run(&format!("provider keys export --kms-key {arn}"));
        assert_eq!((run.stdout.as_str(), run.code), ("", 2), "{arn}");
        assert!(
            run.stderr.contains("is not the ARN of a KMS key; hint: use an ARN"),
            "{}",
            run.stderr
        );
    }
}

#[test]
fn a_public_key_is_checked_before_it_is_sent_and_a_private_one_never_is() {
    let broker = Broker::new(|_, _| http("201 Created", "", "{}"));
    let machine = broker.machine();
    for (name, expected) in [
        ("other.asc", "cannot be added: the text has a private key"),
        ("make", "cannot be added: the key must be one ASCII-armored block"),
        ("missing", "cannot be read: No such file"),
    ] {
        let file = fixture(name);
        let run =
            machine.run(&format!("provider keys add {} --namespace acme {HOST}", file.display()));
        assert!(run.code != 0 && run.stderr.contains(expected), "{name}: {}", run.stderr);
    }
    assert!(broker.requests().is_empty());
    let file = fixture("other.public.asc");
    let json =
        machine.json(&format!("provider keys add {} --namespace acme {HOST}", file.display()));
    assert_eq!((&json["status"], &json["namespace"]), (&json!("added"), &json!("acme")));
    assert_eq!(json["user_id"], "other <other@example.com>");
    let sent = broker.requests().pop().unwrap();
    assert_eq!(sent.line, "POST /v1/namespaces/acme/signing-keys HTTP/1.1");
    let body: Value = serde_json::from_slice(&sent.body).unwrap();
    let armor = body["ascii_armor"].as_str().unwrap();
    assert!(armor.starts_with("-----BEGIN PGP PUBLIC KEY BLOCK-----"), "{armor}");
}

#[test]
fn keys_are_listed_and_retired_and_the_versions_of_a_stolen_key_are_named() {
    let broker = Broker::new(|_, request| {
        if request.line.starts_with("GET ") {
            let body = json!({ "keys": [{
                "key_id": "F9BA19AD6BE4698A", "state": "active", "algorithm": "RSA 4096",
                "user_id": "release\u{1b}[2J", "added_at": "2026-11-20T10:11:12Z", "expires_at": null,
            }] });
            return http("200 OK", "", &body.to_string());
        }
        let status = if request.line.contains("compromised") { "compromised" } else { "retired" };
        let body = json!({ "status": status, "versions": ["acme/dns 1.0.0", "acme/dns 1.1.0"] });
        http("200 OK", "", &body.to_string())
    });
    let machine = broker.machine();
    let listed = machine.done(&format!("provider keys list --namespace acme {HOST}"));
    assert_eq!(
        listed,
        "key               state   algorithm  user id      expires at  added at\n\
         F9BA19AD6BE4698A  active  RSA 4096   release [2J              <time>\n"
    );
    let retire = format!("provider keys retire 0xf9ba19ad6be4698a --namespace acme {HOST}");
    assert_eq!(machine.done(&retire), "retired key F9BA19AD6BE4698A of acme\n");
    let line = "DELETE /v1/namespaces/acme/signing-keys/F9BA19AD6BE4698A HTTP/1.1";
    assert_eq!(broker.requests().pop().unwrap().line, line);
    assert_eq!(
        machine.done(&format!("{retire} --compromised")),
        "retired key F9BA19AD6BE4698A of acme\n\
         clients do not get these versions until you publish each with another key:\n  \
         acme/dns 1.0.0\n  acme/dns 1.1.0\n"
    );
    let line = broker.requests().pop().unwrap().line;
    assert!(line.ends_with("/F9BA19AD6BE4698A?compromised=true HTTP/1.1"), "{line}");
    let run = machine.run(&format!("provider keys retire F9BA --namespace acme {HOST}"));
    assert!(
        run.code == 2 && run.stderr.contains("must be 16 hexadecimal digits"),
        "{}",
        run.stderr
    );
}
