//! The page of the protocol, as other implementers use it: its test vectors, and its examples with
//! the signers of AWS for Python and JavaScript.

use std::path::{Path, PathBuf};

use aws_credential_types::Credentials;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::NaiveDateTime;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use stile_protocol::audience::Audience;
use stile_protocol::exchange::{RequestDocument, document_digest};
use stile_protocol::names::Permission::Download;
use stile_protocol::region::Region;
use stile_protocol::signed_request::signed_headers;
use stile_tests::aws::moto::Moto;
use stile_tests::broker::served::Served;
use stile_tests::broker::{deploy, role};
use stile_tests::process::home::{CommandOutput, Home};
use stile_tests::process::node;
use stile_tests::skipped::skipped;
use terraform_credentials_stile::proof::ProofSigner;

/// The root of the repository.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Returns the test vectors of `docs/protocol.md`.
fn vectors() -> Vec<Value> {
    let page = std::fs::read_to_string(Path::new(ROOT).join("docs/protocol.md")).unwrap();
    let block = page.split("### Test vectors").nth(1).unwrap();
    let json = block.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    serde_json::from_str(json).unwrap()
}

#[test]
fn the_helper_signs_each_test_vector_of_the_page_as_it_is_written_there() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 2, "one with a session token, and one without");
    for vector in &vectors {
        let text = |name: &str| vector[name].as_str().unwrap();
        let document = text("document").as_bytes();
        RequestDocument::parse(document).unwrap();
        let token = vector["session_token"].as_str().map(str::to_owned);
        let credentials =
            Credentials::new(text("access_key_id"), text("secret_access_key"), token, None, "page");
        let now = NaiveDateTime::parse_from_str(text("amz_date"), "%Y%m%dT%H%M%SZ").unwrap();
        let signer = ProofSigner {
            credentials: &credentials,
            region: Region::named(text("region")).unwrap(),
            fips: false,
            audience: &Audience::parse(text("audience")).unwrap(),
        };
        let proof = signer.prove(document, now.and_utc()).unwrap();
        let with_token = vector.get("session_token").is_some();
        assert_eq!(signed_headers(with_token), text("signed_headers"));
        assert_eq!(proof.signature.expose_secret(), text("signature"));
        assert_eq!(document_digest(document), text("x_stile_request"));
        assert_eq!(URL_SAFE_NO_PAD.encode(document), text("request"));
    }
}

/// Runs an example with a wrong secret, with no credentials, and with good ones. Then it uses the
/// token.
async fn run_example(program: &Path, script: &Path, ca: &str) {
    let served = Served::start().await;
    served.test.grant(&role("deploy"), "acme", &[Download]).await;
    let identity = deploy();
    served.test.sts.add_identity(identity.clone());
    let home = |change: &dyn Fn(&mut Home)| {
        let mut home = Home::temporary();
        home.variable(ca, &served.files.ca);
        home.act_as(&identity, "eu-west-1");
        change(&mut home);
        home
    };
    let arguments = [script.to_str().unwrap(), served.host(), "acme"];

    let wrong = home(&|home| home.variable("AWS_SECRET_ACCESS_KEY", "wrong"));
    let ran = wrong.run(program, &arguments).await;
    assert!(
        ran.code == Some(1) && ran.stderr.contains("signature_mismatch"),
        "{:?}: {}",
        ran.code,
        ran.stderr
    );
    assert_eq!(ran.stdout, "");

    let none = home(&|home| {
        home.unset("AWS_ACCESS_KEY_ID");
        home.unset("AWS_SECRET_ACCESS_KEY");
    });
    let ran = none.run(program, &arguments).await;
    assert!(ran.code != Some(0) && ran.stderr.contains("hint: set AWS_"), "{}", ran.stderr);

    for namespaces in [&arguments[..], &arguments[..2]] {
        let ran = home(&|_| ()).run(program, namespaces).await;
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        let reply = served.test.get("/v1/whoami", ran.stdout.trim()).await;
        assert_eq!(reply.json()["principal"], role("deploy"), "{}", reply.text());
    }
}

fn example(name: &str) -> PathBuf {
    Path::new(ROOT).join("docs/examples").join(name).canonicalize().unwrap()
}

#[tokio::test]
async fn the_example_for_python_gets_a_token() {
    let Some(python) = Moto::python() else {
        return skipped("python3", "the example for Python gets a token");
    };
    run_example(&python, &example("get_token.py"), "SSL_CERT_FILE").await;
}

#[tokio::test]
async fn the_example_for_javascript_gets_a_token() {
    let Some((node, folder)) = node::packages() else {
        return skipped("npm", "the example for JavaScript gets a token");
    };
    // Node looks for packages next to the script, and not in the current folder.
    let script = folder.join("get-token.mjs");
    std::fs::copy(example("get-token.mjs"), &script).unwrap();
    run_example(&node, &script, "NODE_EXTRA_CA_CERTS").await;
}

#[tokio::test]
async fn a_signer_that_adds_a_header_learns_which_headers_the_signature_covers() {
    let Some((node, folder)) = node::packages() else {
        return skipped("npm", "a signer with its defaults learns the signed headers");
    };
    let script = folder.join("get-token-with-defaults.mjs");
    let text = std::fs::read_to_string(example("get-token.mjs")).unwrap();
    assert!(text.contains("applyChecksum: false"));
    std::fs::write(&script, text.replace("applyChecksum: false", "applyChecksum: true")).unwrap();
    let served = Served::start().await;
    let identity = deploy();
    served.test.sts.add_identity(identity.clone());
    let mut home = Home::temporary();
    home.variable("NODE_EXTRA_CA_CERTS", &served.files.ca);
    home.act_as(&identity, "us-east-1");
    let ran: CommandOutput = home.run(&node, &[script.to_str().unwrap(), served.host()]).await;
    for expected in [
        "signature_mismatch",
        "content-type;host;x-amz-date;x-amz-security-token;x-stile-audience;x-stile-request",
        served.host(),
    ] {
        assert!(ran.stderr.contains(expected), "{expected}: {}", ran.stderr);
    }
}
