//! Options and variables with wrong values: each program refuses them, and says each sentence once.

use std::collections::BTreeSet;

use stile_tests::broker::HOST;
use stile_tests::process::home::{CommandOutput, Home};
use stile_tests::process::programs::{ADMIN, BROKER, HELPER, program};

/// The length from which an equal part of a message counts as a repetition.
const SENTENCE: usize = 12;

/// Returns a part of the text that appears twice.
fn repeated(text: &str) -> Option<&str> {
    let parts: Vec<&str> =
        text.split(": ").flat_map(|part| part.split("; ")).map(str::trim).collect();
    let is_repeated = |(at, part): &(usize, &&str)| {
        part.len() >= SENTENCE && parts[..*at].iter().any(|earlier| earlier.contains(**part))
    };
    parts.iter().enumerate().find(is_repeated).map(|(_, part)| *part)
}

/// Checks that a program failed, and said each sentence once.
fn said_once(ran: &CommandOutput, what: &str) {
    let said = ran.words();
    assert!(matches!(ran.code, Some(1 | 2)), "{what}: {ran:?}");
    assert!(!said.is_empty(), "{what}: {ran:?}");
    assert_eq!(repeated(&said), None, "{what}: {said}");
}

/// Wrong values of options of the broker.
const WRONG: [(&str, &str); 21] = [
    ("--host", "localhost"),
    ("--listen", "nowhere"),
    ("--listen", "0.0.0.0:8443"),
    ("--max-ttl", "59"),
    ("--max-ttl", "soon"),
    ("--default-ttl", "43201"),
    ("--iam-source", "abcdef1234"),
    ("--authorizer-base", "terraform"),
    ("--regions", "us-attacker-1"),
    ("--sts-endpoint", "https://sts.example.com"),
    ("--sts-endpoint", "here"),
    ("--event-bus", "my bus"),
    ("--link-ttl", "59"),
    ("--store-timeout", "0"),
    ("--sts-timeout", "601"),
    ("--log", "stile_broker=loud"),
    ("--log-format", "yaml"),
    ("--metrics-listen", "0.0.0.0:9464"),
    ("--metrics-namespace", "AWS/Lambda"),
    ("--bucket", "acme"),
    ("--tls-cert", "/nothing/here.pem"),
];

#[tokio::test]
async fn a_wrong_option_or_variable_of_the_broker_is_refused_and_each_sentence_said_once() {
    let broker = program(BROKER);
    for (option, value) in WRONG {
        let variable = format!("STILE_{}", option[2..].to_uppercase().replace('-', "_"));
        for as_variable in [false, true] {
            let mut home = Home::temporary();
            home.variable("STILE_HOST", HOST);
            home.variable("STILE_DATA", "/nothing/here");
            if option == "--tls-cert" {
                home.variable("STILE_TLS_KEY", "/nothing/here.key");
            }
            let arguments = if as_variable { vec!["serve"] } else { vec!["serve", option, value] };
            if as_variable {
                home.variable(&variable, value);
            }
            let ran = home.run(&broker, &arguments).await;
            said_once(&ran, &format!("{option} {value} {as_variable}"));
            assert!(!ran.stderr.contains("is not a data folder"), "{option} {value}: {ran:?}");
        }
    }
}

/// Returns the variables in the help of the broker.
async fn variables_of_the_broker() -> BTreeSet<String> {
    let help = Home::temporary().run(&program(BROKER), &["serve", "--help"]).await.stdout;
    let names = help.split("[env:").skip(1).filter_map(|rest| rest.split(['=', ']']).next());
    names.map(|name| name.trim().to_owned()).collect()
}

#[tokio::test]
async fn a_variable_of_the_broker_that_is_set_to_nothing_is_not_set() {
    let (broker, variables) = (program(BROKER), variables_of_the_broker().await);
    assert!(variables.len() > 20, "{variables:?}");
    assert!(variables.contains("STILE_DISK_RESERVE"), "{variables:?}");
    let check = ["check", "--host", HOST, "--data", "/nothing/here"];
    for (arguments, expected) in
        [(&check[..], "is not a data folder"), (&check[..1], "exactly one of `--data` and")]
    {
        let unset = Home::temporary().run(&broker, arguments).await;
        let said = format!("{} {}", unset.stdout, unset.words());
        assert!(unset.code == Some(1) && said.contains(expected), "{arguments:?}: {unset:?}");
        for variable in &variables {
            let mut home = Home::temporary();
            home.variable(variable, "");
            assert_eq!(home.run(&broker, arguments).await, unset, "{variable}");
        }
    }
}

#[tokio::test]
async fn a_wrong_option_or_variable_of_the_helper_is_refused_and_each_sentence_said_once() {
    let helper = program(HELPER);
    let get_token = ["get-token", "token", "--registry-host", HOST];
    for wrong in [
        &["--timeout", "0"][..],
        &["--region", "us-attacker-1"],
        &["--profile", ""],
        &["--profile", "missing"],
        &["--time", "1"],
        &["--time", "soon"],
        &["--service", "s3"],
        &["--namespace", "-"],
        &["--permission", "write"],
        &["--config", "/nothing/here"],
    ] {
        let ran = Home::temporary().run(&helper, &[&get_token[..], wrong].concat()).await;
        said_once(&ran, &format!("{wrong:?}"));
    }
    for verb in ["whoami", "doctor"] {
        said_once(&Home::temporary().run(&helper, &[verb, "localhost"]).await, verb);
    }
    for (variable, value) in [
        ("STILE_TIMEOUT", "601"),
        ("STILE_CONFIG", "/nothing/here"),
        ("AWS_REGION", "us-attacker-1"),
        ("AWS_PROFILE", "missing"),
        ("SSL_CERT_FILE", "/nothing/here.pem"),
        ("AWS_CONFIG_FILE", "/nothing/here"),
    ] {
        let mut home = Home::temporary();
        home.configure_helper(&format!("[registry.\"{HOST}\"]\nurl = \"https://127.0.0.1:9\"\n"));
        if variable.starts_with("SSL_") {
            home.variable("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE");
            home.variable("AWS_SECRET_ACCESS_KEY", "secret");
        }
        home.variable(variable, value);
        let ran = home.run(&helper, &get_token).await;
        said_once(&ran, &format!("{variable}={value}"));
    }
    for wrong in [
        "x = ",
        "version = 99",
        "[registry.\"localhost\"]",
        "[registry.\"registry.example.com\"]\nttl = 1",
        "[registry.\"registry.example.com\"]\nurl = \"here\"",
        "[registry.\"registry.example.com\"]\nregion = \"us-attacker-1\"",
        "[registry.\"registry.example.com\"]\npermissions = []",
        "[registry.\"registry.example.com\"]\nother = 1",
    ] {
        let mut home = Home::temporary();
        home.configure_helper(wrong);
        said_once(&home.run(&helper, &get_token).await, wrong);
    }
}

#[tokio::test]
async fn a_wrong_option_or_variable_of_the_admin_program_is_refused_and_each_sentence_said_once() {
    let admin = program(ADMIN);
    let data = ["--data", "/nothing/here"];
    let table = ["--table", "t", "--bucket", "b", "--kms-key", "k"];
    let list = ["grant", "list"];
    let create = ["grant", "create", "--namespace", "acme", "--download"];
    let role = ["--role-arn", "arn:aws:iam::111122223333:role/deploy"];
    let publish = ["module", "publish", "acme/vpc/aws", "1.0.0", "/nothing/here.zip"];
    for wrong in [
        [&list[..], &data].concat(),
        [&list[..], &data, &["--store-timeout", "0"]].concat(),
        [&list[..], &data, &table].concat(),
        [&list[..], &table[..2]].concat(),
        [&list[..], &data, &["--namespace", "-"]].concat(),
        [&list[..], &data, &["--principal", "deploy"]].concat(),
        [&create[..], &data, &["--role-arn", "deploy"]].concat(),
        [&create[..], &data, &role, &["--expires", "soon"]].concat(),
        [&["store", "init", "--host", "localhost"][..], &table].concat(),
        [&["token", "revoke", "--token", "deploy"][..], &data].concat(),
        [&publish[..], &["--registry-host", "localhost"]].concat(),
        [&publish[..], &["--registry-host", HOST]].concat(),
        [&publish[..], &["--registry-host", HOST, "--config", "/nothing/here"]].concat(),
        [&publish[..], &["--registry-host", HOST, "--region", "us-attacker-1"]].concat(),
        [&publish[..], &["--registry-host", HOST, "--timeout", "0"]].concat(),
    ] {
        for format in [&[][..], &["--output", "json"]] {
            let ran = Home::temporary().run(&admin, &[&wrong[..], format].concat()).await;
            said_once(&ran, &format!("{wrong:?} {format:?}"));
        }
    }
    for (variable, value) in [
        ("STILE_STORE_TIMEOUT", "601"),
        ("STILE_AUDIT_LOG", "/nothing/here.log"),
        ("STILE_TABLE", "t"),
        ("STILE_DATA", "/nothing/here"),
    ] {
        let mut home = Home::temporary();
        home.variable(variable, value);
        let flags = if variable == "STILE_DATA" { &[][..] } else { &data[..] };
        let ran = home.run(&admin, &[&["store", "migrate"][..], flags].concat()).await;
        said_once(&ran, variable);
    }
}

#[test]
fn a_repetition_is_found() {
    assert_eq!(repeated("error: no: must be a number: must be a number"), Some("must be a number"));
    assert_eq!(repeated("error: no; hint: no"), None);
    assert_eq!(repeated("`a`: no such file; hint: create one"), None);
}
