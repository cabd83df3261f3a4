//! Tests of `webhook`.

use serde_json::{Value, json};

use crate::support::Machine;

const URL: &str = "https://ci.example.com/hooks/stile";

#[test]
fn a_url_that_a_broker_would_not_connect_to_is_refused_and_the_reason_is_given() {
    let machine = Machine::with_store();
    for (arguments, code, reason) in [
        ("add ci http://ci.example.com/", 2, "does not begin with `https://`"),
        ("add ci ci.example.com", 2, "not a URL"),
        ("add ci https://user:S3CRET@ci.example.com/", 2, "user name or a password"),
        ("add ci http://ci.example.com/S3CRET", 2, "does not begin with `https://`"),
        ("add ci https://127.0.0.1/", 2, "`127.0.0.1` is not a public address"),
        ("add ci https://[fd00::1]/", 2, "`fd00::1` is not a public address"),
        ("add ci https://169.254.169.254/latest", 2, "is not a public address"),
        ("add CI https://ci.example.com/", 2, "lower-case"),
        ("remove CI", 2, "lower-case"),
        ("remove ci", 1, "there is no webhook `ci`"),
    ] {
        let run = machine.run(&format!("webhook {arguments}"));
        assert_eq!((run.stdout.as_str(), run.code), ("", code), "{arguments}: {}", run.stderr);
        assert!(run.stderr.contains(reason), "{arguments}: {}", run.stderr);
        assert!(!run.stderr.contains("S3CRET"), "{arguments}: {}", run.stderr);
    }
    assert_eq!(machine.json("webhook list"), json!([]));
}

#[test]
fn a_secret_is_printed_once_and_never_listed() {
    let machine = Machine::with_store();
    let added = machine.json(&format!("webhook add ci {URL}"));
    let secret = added["secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_"), "{added}");
    assert_eq!(
        (&added["status"], &added["webhook"], &added["url"]),
        (&json!("created"), &json!("ci"), &json!(URL))
    );
    let again = machine.run(&format!("webhook add ci {URL}"));
    assert_eq!((again.stdout.as_str(), again.code), ("", 1));
    assert!(again.stderr.contains("remove it first with `stile-admin webhook remove"), "{again:?}");
    for format in ["", " --output json"] {
        let listed = machine.run(&format!("webhook list{format}"));
        assert!(listed.stdout.contains(URL), "{listed:?}");
        assert!(!listed.stdout.contains("whsec_") && !listed.stderr.contains("whsec_"));
    }
    let listed = machine.json("webhook list");
    assert_eq!(
        (&listed[0]["webhook"], &listed[0]["created_by"]),
        (&json!("ci"), &json!("local:tester"))
    );
    assert_eq!(
        (&listed[0]["failing_since"], &listed[0]["gone_since"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(machine.run("webhook remove ci").code, 0);
    assert_eq!(machine.json("webhook list"), json!([]));
    let other = machine.run(&format!("webhook add ci {URL}"));
    assert!(other.stdout.contains("whsec_") && !other.stdout.contains(secret), "{other:?}");
}
