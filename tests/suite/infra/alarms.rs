//! The patterns of the alarms, on lines that the function really writes. Each finds its condition,
//! and a healthy run raises none.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stile_tests::aws::emulated::EmulatedAws;
use stile_tests::aws::policy::like;
use stile_tests::aws::proxy::Fault;
use stile_tests::broker::deploy;
use stile_tests::broker::served::system_time;
use stile_tests::lambda::Function;
use stile_tests::lambda::events::{Sent, Shape};
use stile_tests::process::programs::{BROKER, program, workspace};
use stile_tests::sts::local::{Answer, LocalSts};
use stile_tests::sts::proof::Proof;

/// Returns each pattern of the module by its name.
fn patterns() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(workspace().join("infra/registry/alarms.tf")).unwrap();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let named = |pair: &[&str]| {
        let pattern = pair[1].strip_prefix("pattern")?.trim_start().strip_prefix("= ")?;
        Some((pair[0].split(' ').next()?.to_owned(), serde_json::from_str(pattern).ok()?))
    };
    lines.windows(2).filter_map(named).collect()
}

/// Returns whether CloudWatch would count the line: `{ $.name = "text" }`, or several of them in
/// brackets with `&&` between.
fn counts(pattern: &str, line: &Value) -> bool {
    let inner = pattern.strip_prefix("{ ").and_then(|rest| rest.strip_suffix(" }")).unwrap();
    inner.split(" && ").all(|term| {
        let term = term.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(term);
        let (name, wanted) =
            term.strip_prefix("$.").and_then(|rest| rest.split_once(" = ")).unwrap();
        line[name].as_str().is_some_and(|found| like(wanted.trim_matches('"'), found))
    })
}

/// Returns the names of the patterns that count a line of the log.
fn raised(log: &str) -> Vec<String> {
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect();
    patterns()
        .into_iter()
        .filter(|(_, pattern)| lines.iter().any(|line| counts(pattern, line)))
        .map(|(name, _)| name)
        .collect()
}

/// The answer of KMS to a caller without the right to use the key.
fn denied() -> Fault {
    let said = json!({ "__type": "AccessDeniedException", "Message": "User is not authorized to perform: kms:Encrypt" });
    Fault::Answer {
        status: 400,
        content_type: "application/x-amz-json-1.1",
        body: said.to_string(),
    }
}

#[tokio::test]
async fn each_alarm_counts_lines_that_the_function_writes_and_a_good_day_raises_none() {
    let Some(aws) = EmulatedAws::start().await else { return };
    let (sts, folder) = (
        LocalSts::start([deploy()], std::sync::Arc::new(system_time)),
        tempfile::tempdir().unwrap(),
    );
    let identity = deploy();
    sts.add_identity(identity.clone());
    let host = "registry.example.com";
    let exchange = || {
        let proof = Proof::new(&identity).audience(host).now(system_time()).build();
        Sent::new("POST", "/v1/token").body("application/json", proof.to_string().into_bytes())
    };
    let (ready, mut running) = (|| Sent::new("GET", "/readyz"), Vec::new());
    let contradicting = "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
        <Arn>arn:aws:sts::111122223333:assumed-role/deploy/alice</Arn><UserId>AROAEXAMPLEEXAMPLE222:alice</UserId><Account>999988887777</Account>\
        </GetCallerIdentityResult><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></GetCallerIdentityResponse>";
    for (what, answer, kms, sent, expected) in [
        ("a healthy run", Answer::Genuine, true, vec![ready()], &[][..]),
        (
            "no principal has a grant",
            Answer::Genuine,
            true,
            vec![exchange()],
            &["refused_exchanges"],
        ),
        (
            "STS contradicts itself",
            Answer::xml(contradicting),
            true,
            vec![exchange()],
            &["alarm", "failures", "sts_inconsistent"],
        ),
        (
            "the key's policy denies the function",
            Answer::Genuine,
            false,
            vec![ready()],
            &["failures", "kms_denials"],
        ),
    ] {
        sts.answer(answer);
        let mut variables = aws.environment();
        variables.extend([
            ("STILE_HOST", host.to_owned()),
            ("STILE_STS_ENDPOINT", sts.endpoint()),
            ("STILE_METRICS_NAMESPACE", "Stile/test".to_owned()),
        ]);
        if !kms {
            // A table without a keyring, so that the broker needs the key.
            let fresh = EmulatedAws::start().await.unwrap();
            variables
                .retain(|(name, _)| !fresh.environment().iter().any(|(known, _)| known == name));
            variables.extend(fresh.environment());
            fresh.proxy.inject("kms", .., denied());
            running.push(fresh);
        }
        let borrowed: Vec<(&str, &str)> =
            variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let function =
            Function::start(&program(BROKER), &borrowed, &folder.path().join("log")).await;
        for sent in sent {
            function.invoke(&Shape::FunctionUrl.event(&sent)).await.unwrap();
        }
        let log = function.log();
        assert_eq!(raised(&log), expected, "{what}: {log}");
        if expected.contains(&"sts_inconsistent") {
            let pattern = &patterns()["sts_inconsistent"];
            let lines =
                log.lines().filter(|line| counts(pattern, &serde_json::from_str(line).unwrap()));
            assert_eq!(lines.count(), 1, "one answer of STS counts once: {log}");
        }
    }
}

#[test]
fn no_pattern_counts_a_line_of_metrics() {
    let line = |decision: &str, code: &str| json!({ "decision": decision, "code": code, "stile_decisions_total": 1.0, "_aws": {} });
    for line in [line("failed", "sts_inconsistent"), line("refused", "no_grant")] {
        for (name, pattern) in patterns() {
            assert!(!counts(&pattern, &line), "{name}: {line}");
        }
    }
}

#[test]
fn a_pattern_counts_what_has_every_part_of_it() {
    assert_eq!(
        patterns().keys().collect::<Vec<_>>(),
        ["alarm", "failures", "kms_denials", "refused_exchanges", "sts_inconsistent"]
    );
    for (pattern, line, expected) in [
        ("{ $.code = \"no\" }", json!({ "code": "no" }), true),
        ("{ $.code = \"no\" }", json!({ "code": "now" }), false),
        ("{ $.code = \"no\" }", json!({}), false),
        ("{ ($.a = \"*x*\") && ($.b = \"y\") }", json!({ "a": "axa", "b": "y" }), true),
        ("{ ($.a = \"*x*\") && ($.b = \"y\") }", json!({ "a": "axa" }), false),
    ] {
        assert_eq!(counts(pattern, &line), expected, "{pattern} {line}");
    }
}
