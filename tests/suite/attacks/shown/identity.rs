//! Grants that an attacker or operator wrote into the store by hand, and known callers while the
//! table is away.

use std::io::{Read as _, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use stile_protocol::names::Permission::Download;
use stile_tests::aws::emulated::EmulatedAws;
use stile_tests::broker::{ACCOUNT, Backend, deploy, namespaces, role};
use stile_tests::process::home::Home;
use stile_tests::process::programs::{ADMIN, program};
use stile_tests::sts::identity::Identity;
use stile_tests::sts::local::{Answer, LocalSts, fixed_clock};
use stile_tests::sts::proof::document;

use super::super::ground::{Ground, Outcome, exchange, secrets};

/// Sends a request for that namespace as the role `deploy`.
async fn asks(ground: &Ground, namespace: &str, answer: &str, calls: &str) -> Outcome {
    asks_as(ground, deploy(), namespace, answer, calls).await
}

async fn asks_as(
    ground: &Ground,
    identity: Identity,
    namespace: &str,
    answer: &str,
    calls: &str,
) -> Outcome {
    ground.test.sts.add_identity(identity.clone());
    let proof = ground
        .test
        .proof(&identity)
        .document(&document(600, namespaces(&[namespace]), &[Download]))
        .build();
    ground.expect(exchange(proof.to_string()), &secrets(&identity, &proof), answer, calls).await
}

/// Returns what `stile-admin grant list` prints.
async fn listed(ground: &Ground) -> (String, String) {
    let mut home = Home::temporary();
    match ground.test.backend() {
        Backend::Embedded => home.variable("STILE_DATA", ground.test.data()),
        Backend::Aws => ground
            .test
            .aws()
            .environment()
            .into_iter()
            .for_each(|(name, value)| home.variable(name, value)),
    }
    let ran = home.run(&program(ADMIN), &["grant", "list", "--output", "json"]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    (ran.stdout, ran.stderr)
}

/// Adds entries to the grants document of the role `deploy`.
async fn write_document(aws: &EmulatedAws, more: &[Value]) {
    let key = json!({"pk": {"S": format!("principal {}", role("deploy"))}, "sk": {"S": "grants"}});
    let mut row = aws.dynamodb("GetItem", json!({"Key": key})).await["Item"].clone();
    let folded = STANDARD.decode(row["document"]["B"].as_str().unwrap()).unwrap();
    let mut text = String::new();
    flate2::read::DeflateDecoder::new(&*folded).read_to_string(&mut text).unwrap();
    let mut entries: Vec<Value> = serde_json::from_str(&text).unwrap();
    entries.splice(1..1, more.iter().cloned());
    let mut encoder =
        flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(Value::from(entries).to_string().as_bytes()).unwrap();
    row["document"]["B"] = STANDARD.encode(encoder.finish().unwrap()).into();
    aws.dynamodb("PutItem", json!({"Item": row})).await;
}

/// Writes a row of the list of grants.
async fn write_row(ground: &Ground, principal: &str, namespace: &str, permissions: i64) {
    match ground.test.backend() {
        Backend::Embedded => super::database(
            &ground.test,
            &format!(
                "INSERT INTO grants (principal, namespace, permissions, expires_at, created_by, created_at, folded) VALUES ('{principal}', '{namespace}', {permissions}, NULL, 'x', 0, '{principal}')"
            ),
        ),
        Backend::Aws => {
            for (pk, sk) in [
                ("grants".to_owned(), format!("{principal} {namespace}")),
                (format!("namespace {namespace}"), principal.to_owned()),
            ] {
                let row = json!({
                    "pk": {"S": pk}, "sk": {"S": sk}, "principal": {"S": principal}, "namespace": {"S": namespace},
                    "permissions": {"N": permissions.to_string()}, "created_by": {"S": "x"}, "created_at": {"N": "0"},
                });
                ground.test.aws().dynamodb("PutItem", json!({"Item": row})).await;
            }
        }
    }
}

const UNREADABLE_GRANT: &str = "a grant in the store cannot be read and allows nothing";

/// Counts the alarms in the log. Each must be on a line of the request that found the problem.
fn alarms(outcome: &Outcome) -> usize {
    let alarms: Vec<_> =
        outcome.logged.json.text.lines().filter(|line| line.contains(UNREADABLE_GRANT)).collect();
    for line in &alarms {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            (&line["level"], &line["alarm"]),
            (&json!("ERROR"), &json!("unreadable_grant")),
            "{line}"
        );
        assert_eq!(line["span"]["name"], "request", "{line}");
    }
    alarms.len()
}

pub(super) async fn a_pattern_written_by_hand_allows_nothing(backend: Backend) {
    let ground = Ground::plain(backend).await;
    let patterns = ["x|.*", "a)|(?:.*", "^a", "a*b"];
    let whole = [
        ".*",
        "aws:111122223333:role/.*",
        "aws:111122223333:role/str*",
        "aws:*:role/stranger",
        "aws:111122223333:role/%",
    ];
    for pattern in patterns {
        write_row(&ground, pattern, "acme", 1).await;
        write_row(&ground, &role("deploy"), pattern, 1).await;
    }
    for pattern in whole {
        write_row(&ground, pattern, "acme", 1).await;
    }
    if backend == Backend::Aws {
        write_document(
            ground.test.aws(),
            &patterns.map(|on| json!({"on": on, "may": 1, "by": "x", "at": 0})),
        )
        .await;
    }
    let outcome = asks(&ground, "axb", "403 no_grant", "1/0/1/1").await;
    assert_eq!(alarms(&outcome), patterns.len(), "{}", outcome.logged.human.text);
    asks(&ground, "acme", "200 -", "1/0/1/1").await;
    // The principals that a pattern would match get no rights.
    for stranger in ["stranger", "a", "axb", "x"] {
        let identity = Identity::role(ACCOUNT, stranger, "i-0abc");
        asks_as(&ground, identity, "acme", "403 no_grant", "1/0/1/1").await;
    }
    let (printed, complained) = listed(&ground).await;
    assert_eq!(
        complained.matches(UNREADABLE_GRANT).count(),
        2 * patterns.len() + whole.len(),
        "{complained}"
    );
    assert!(patterns.iter().chain(&whole).all(|pattern| !printed.contains(pattern)), "{printed}");
}

pub(super) async fn a_row_that_cannot_be_read_leaves_the_others_good(backend: Backend) {
    let ground = Ground::plain(backend).await;
    ground.test.grant(&role("deploy"), "third", &[Download]).await;
    let unreadable = match backend {
        // A permission that no version has yet, as a later version could write it.
        Backend::Embedded => {
            write_row(&ground, &role("deploy"), "fourth", 16).await;
            1
        }
        Backend::Aws => {
            let bad = [
                json!({"on": "fourth", "may": 16, "by": "x", "at": 0}),
                json!({"version": 2, "grant": {}}),
                json!(null),
            ];
            write_document(ground.test.aws(), &bad).await;
            bad.len()
        }
    };
    for (namespace, answer, calls) in [
        ("fourth", "403 no_grant", "1/0/1/1"),
        ("acme", "200 -", "1/0/1/1"),
        ("team-a", "200 -", "1/0/1/1"),
        ("third", "200 -", "1/0/1/1"),
    ] {
        let outcome = asks(&ground, namespace, answer, calls).await;
        assert_eq!(alarms(&outcome), unreadable, "{namespace}: {}", outcome.logged.human.text);
    }
}

pub(super) async fn without_the_table_a_known_caller_is_not_refused(backend: Backend) {
    let ground = Ground::plain(backend).await;
    let identity = deploy();
    ground.test.sts.add_identity(identity.clone());
    let proof = ground.test.proof(&identity).build();
    super::without_table(&ground.test, "grants", true);
    let outcome = ground.watch(exchange(proof.to_string()), &secrets(&identity, &proof)).await;
    super::without_table(&ground.test, "grants", false);
    assert_eq!(
        (outcome.reply.error().as_str(), outcome.calls.sts),
        ("503 store_unavailable", 1),
        "{}",
        outcome.reply.text()
    );
    assert!(
        outcome.problems.is_empty() && !outcome.reply.header("retry-after").is_empty(),
        "{:?}",
        outcome.problems
    );
    assert!(
        outcome.reply.json()["token"].is_null() && !outcome.reply.text().contains(ACCOUNT),
        "{}",
        outcome.reply.text()
    );

    // moto never throttles a table, so this server answers in the words of DynamoDB.
    if backend == Backend::Aws {
        let throttled = LocalSts::start([], fixed_clock(0));
        let body = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException","message":"slow down"}"#;
        throttled.answer(Answer::Raw {
            status: 400,
            content_type: "application/x-amz-json-1.0".to_owned(),
            body: body.into(),
        });
        let sdk = ground.test.aws().sdk().to_builder().endpoint_url(throttled.endpoint()).build();
        let store = ground.test.aws().store_over(&sdk, Some(stile_tests::broker::HOST));
        let process = ground.test.over(store);
        process.sts.add_identity(identity.clone());
        let outcome = ground
            .watch_in(&process, exchange(proof.to_string()), &secrets(&identity, &proof))
            .await;
        assert_eq!(outcome.reply.error(), "503 store_unavailable", "{}", outcome.reply.text());
        assert!(outcome.problems.is_empty() && process.sts.calls() == 1, "{:?}", outcome.problems);
        assert!((1..=3).contains(&throttled.calls()), "{} calls of the table", throttled.calls());
    }
}
