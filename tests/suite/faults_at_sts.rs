//! STS is gone, hangs, throttles or lies, and `stile-broker check` is asked what is wrong: each is told apart, and nothing
//! is used up or written.

use std::time::Duration;

use serde_json::Value;
use stile_protocol::names::Permission::Download;
use stile_tests::emulated_aws::EmulatedAws;
use stile_tests::local_sts::{LocalSts, fixed_clock};
use stile_tests::meter::{Fault, Meter};
use stile_tests::programs::{BROKER, program};
use stile_tests::test_broker::{Backend, Place, TestBroker, deploy, role};

fn answer(status: u16, content_type: &'static str, body: impl Into<String>) -> Fault {
    Fault::Answer { status, content_type, body: body.into() }
}

/// A fault, the answer to it, and how often STS is asked.
fn faults(elsewhere: &Meter) -> Vec<(Fault, &'static str, usize)> {
    vec![
        (Fault::Close, "503 sts_unavailable", 2),
        (Fault::Throttle, "503 sts_unavailable", 2),
        (Fault::Fail, "503 sts_unavailable", 2),
        (Fault::Portal, "502 sts_bad_response", 1),
        (Fault::Empty, "502 sts_bad_response", 1),
        (Fault::Large, "502 sts_bad_response", 1),
        (Fault::Redirect(elsewhere.endpoint()), "502 sts_bad_response", 1),
        (Fault::Truncate, "502 sts_bad_response", 1),
        (answer(200, "text/xml", "x".repeat(70_000)), "502 sts_bad_response", 1),
        (answer(200, "text/xml", "<GetCallerIdentityResponse"), "502 sts_bad_response", 1),
        (answer(404, "text/html", "<html>not here</html>"), "502 sts_bad_response", 1),
        (answer(503, "text/html", "<html>not now</html>"), "503 sts_unavailable", 2),
        (Fault::Hang, "504 sts_timeout", 1),
        (Fault::Stall, "504 sts_timeout", 1),
    ]
}

/// One broker for each fault, all at once: those that hang wait for each other's time.
async fn each_fault_is_told_apart(backend: Backend) {
    let nowhere = LocalSts::start([], fixed_clock(0));
    let elsewhere = Meter::start(nowhere.endpoint());
    let Some(place) = Place::new(backend).await else { return };
    let (first, _line) = TestBroker::start_on_a_line(place.clone());
    first.grant(&role("deploy"), "acme", &[Download]).await;
    let token = first.token(&deploy(), &[Download]).await;
    let mut running = Vec::new();
    for (fault, expected, calls) in faults(&elsewhere) {
        let (test, line) = TestBroker::start_on_a_line(place.clone());
        let token = token.clone();
        running.push(async move {
            let identity = deploy();
            test.sts.know(identity.clone());
            let proof = test.proof(&identity).build();
            line.trouble("", .., fault.clone());
            let reply = test.exchange(&proof).await;
            assert_eq!(reply.error(), expected, "{fault:?}: {}", reply.text());
            assert_eq!(!reply.header("retry-after").is_empty(), reply.status == 503, "{fault:?}");
            assert_eq!(line.taken().get("sts GetCallerIdentity"), Some(&calls), "{fault:?}");
            assert_eq!(
                test.get("/v1/whoami", &token).await.status,
                200,
                "{fault:?}: who has a token goes on"
            );
            assert_eq!(
                test.get_anonymously("/readyz").await.status,
                200,
                "{fault:?}: the store and the keys are there"
            );
            line.mend();
            let minted = test.exchange(&proof).await;
            assert_eq!(minted.status, 200, "{fault:?}, and mended: {}", minted.text());
            assert_eq!(test.exchange(&proof).await.error(), "401 proof_replayed", "{fault:?}");
            // One hiccup is tried over where the failure says that nobody was asked, or that it is worth it.
            line.trouble("", ..1, fault.clone());
            let tried_over = test.exchange(&test.proof(&identity).build()).await;
            let expected = if calls == 2 { "200 -" } else { expected };
            assert_eq!(tried_over.error(), expected, "{fault:?} once");
        });
    }
    futures_util::future::join_all(running).await;
    assert_eq!(elsewhere.taken_in_order(), [""; 0], "a redirect is not followed");

    let (test, line) = TestBroker::start_on_a_line(place);
    let identity = deploy();
    test.sts.know(identity.clone());
    let proof = test.proof(&identity).build();
    line.remove();
    assert_eq!(test.exchange(&proof).await.error(), "503 sts_unavailable", "nobody listens");
    line.mend();
    assert_eq!(test.exchange(&proof).await.error(), "200 -");
}

#[tokio::test]
async fn on_the_embedded_store_each_fault_of_sts_is_told_apart_and_uses_nothing_up() {
    each_fault_is_told_apart(Backend::Embedded).await;
}

#[tokio::test]
async fn on_aws_each_fault_of_sts_is_told_apart_and_uses_nothing_up() {
    each_fault_is_told_apart(Backend::Aws).await;
}

#[tokio::test]
async fn many_who_wait_for_a_service_that_hangs_wait_once_and_ask_once() {
    let Some(test) = TestBroker::start_on(Backend::Aws).await else { return };
    test.grant(&role("deploy"), "acme", &[Download]).await;
    let token = test.token(&deploy(), &[Download]).await;
    let meter = &test.aws().meter;
    for (what, on) in [("KMS", "kms"), ("the table", "dynamodb")] {
        let cold = test.restarted();
        let identity = deploy();
        cold.sts.know(identity.clone());
        let proofs: Vec<Value> = (0..12).map(|_| cold.proof(&identity).build()).collect();
        meter.taken();
        meter.trouble(on, .., Fault::Hang);
        let mints = futures_util::future::join_all(proofs.iter().map(|proof| cold.exchange(proof)));
        let reads = futures_util::future::join_all((0..12).map(|_| cold.get("/v1/whoami", &token)));
        let looks =
            futures_util::future::join_all((0..12).map(|_| cold.get_anonymously("/readyz")));
        // In turns each would take seconds; together they are done in the time of a few.
        let all = tokio::time::timeout(Duration::from_secs(30), async {
            tokio::join!(mints, reads, looks)
        });
        let (mints, reads, looks) = all.await.expect("nobody waits for all the others");
        for reply in mints.iter().chain(&reads).chain(&looks) {
            assert_eq!(reply.status, 503, "{what}: {}", reply.text());
        }
        if on == "kms" {
            let asked = meter.taken()["kms Decrypt"];
            assert!(asked <= 9, "{what}: asked {asked} times, tries included");
        }
        meter.mend();
        cold.advance(10);
        assert_eq!(cold.exchange(&proofs[0]).await.status, 200, "{what}, and mended");
        assert_eq!(cold.get("/v1/whoami", &token).await.status, 200, "{what}, and mended");
        assert_eq!(cold.get_anonymously("/readyz").await.status, 200, "{what}, and mended");
    }
}

/// What `stile-broker check` prints, each line by what it is about, and how it ends.
fn check(aws: &EmulatedAws, line: &Meter) -> (Option<i32>, Vec<(String, bool)>, String) {
    let mut command = std::process::Command::new(program(BROKER));
    command.args([
        "check",
        "--regions",
        "us-east-1",
        "--host",
        "registry.example.com",
        "--sts-endpoint",
        &line.endpoint(),
    ]);
    let output = command.env_clear().envs(aws.environment()).output().unwrap();
    let said =
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    let parts = ["table", "bucket", "KMS key", "keyring", "STS"];
    let of = |part: &str| {
        let line =
            said.lines().find(|line| line.contains(&format!("  {part}"))).unwrap_or_default();
        (part.to_owned(), line.starts_with("ok"))
    };
    (output.status.code(), parts.map(of).into(), said.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_names_what_is_down_and_nothing_else() {
    let Some(aws) = EmulatedAws::start().await else { return };
    let sts = LocalSts::start([], fixed_clock(0));
    let well = |names: &[&str]| -> Vec<(String, bool)> {
        ["table", "bucket", "KMS key", "keyring", "STS"]
            .map(|part| (part.to_owned(), !names.contains(&part)))
            .into()
    };
    let cases: Vec<(&str, Option<Fault>, &[&str])> = vec![
        ("dynamodb", Some(Fault::Close), &["table", "keyring"]),
        ("dynamodb", Some(Fault::Hang), &["table", "keyring"]),
        ("dynamodb", Some(Fault::Throttle), &["table", "keyring"]),
        ("dynamodb", Some(Fault::Empty), &["table", "keyring"]),
        ("kms", Some(Fault::Fail), &["KMS key", "keyring"]),
        ("kms", Some(Fault::Hang), &["KMS key", "keyring"]),
        ("kms", Some(Fault::Portal), &["KMS key", "keyring"]),
        ("s3", Some(Fault::Close), &["bucket"]),
        ("s3", Some(Fault::Portal), &["bucket"]),
        ("s3", Some(Fault::Redirect("http://127.0.0.1:9".to_owned())), &["bucket"]),
        ("sts", Some(Fault::Close), &["STS"]),
        ("sts", Some(Fault::Hang), &["STS"]),
        ("", None, &[]),
    ];
    let aws = &aws;
    for (service, fault, failed) in cases {
        let line = Meter::start(sts.endpoint());
        match (&fault, service) {
            (None, _) => {}
            (Some(fault), "sts") => line.trouble("", .., fault.clone()),
            (Some(fault), _) => aws.meter.trouble(service, .., fault.clone()),
        }
        let (code, parts, said) = check(aws, &line);
        assert_eq!(
            (code, &parts),
            (Some(i32::from(!failed.is_empty())), &well(failed)),
            "{service} {fault:?}: {said}"
        );
        aws.meter.mend();
    }
}
