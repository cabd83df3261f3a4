//! STS is away, hangs, throttles or sends wrong answers. The broker and `stile-broker check` name
//! each fault, and nothing is used up or written.

use futures_util::future::join_all;
use serde_json::Value;
use stile_protocol::names::Permission::Download;
use stile_tests::aws::emulated::EmulatedAws;
use stile_tests::aws::proxy::{AwsProxy, Fault};
use stile_tests::broker::{Backend, Place, TestBroker, deploy, role};
use stile_tests::process::programs::{BROKER, program};
use stile_tests::sts::local::{LocalSts, fixed_clock};
use stile_tests::time_limits::{self, past_deadlines};

fn answer(status: u16, content_type: &'static str, body: impl Into<String>) -> Fault {
    Fault::Answer { status, content_type, body: body.into() }
}

/// Returns each fault, the answer to it, and the number of calls to STS.
fn faults(elsewhere: &AwsProxy) -> Vec<(Fault, &'static str, usize)> {
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

/// Tests one broker for each fault, one after the other. If STS hangs, the clock jumps to the
/// deadlines.
async fn each_fault_has_its_own_answer(backend: Backend) {
    let nowhere = LocalSts::start([], fixed_clock(0));
    let elsewhere = AwsProxy::start(nowhere.endpoint());
    let Some(place) = Place::new(backend).await else { return };
    let (first, _line) = TestBroker::start_with_sts_proxy(place.clone());
    first.grant(&role("deploy"), "acme", &[Download]).await;
    let token = first.token(&deploy(), &[Download]).await;
    for (fault, expected, calls) in faults(&elsewhere) {
        let (test, line) = TestBroker::start_with_sts_proxy(place.clone());
        let exchange = async |proof: &Value| match fault.takes_long() {
            true => past_deadlines(line.next_stuck(), test.exchange(proof)).await.0,
            false => test.exchange(proof).await,
        };
        let identity = deploy();
        test.sts.add_identity(identity.clone());
        let proof = test.proof(&identity).build();
        line.inject("", .., fault.clone());
        let reply = exchange(&proof).await;
        assert_eq!(reply.error(), expected, "{fault:?}: {}", reply.text());
        assert_eq!(!reply.header("retry-after").is_empty(), reply.status == 503, "{fault:?}");
        assert_eq!(line.take_counts().get("sts GetCallerIdentity"), Some(&calls), "{fault:?}");
        assert_eq!(
            test.get("/v1/whoami", &token).await.status,
            200,
            "{fault:?}: a token gives access as before"
        );
        assert_eq!(
            test.get_anonymously("/readyz").await.status,
            200,
            "{fault:?}: the store and the keys are available"
        );
        line.repair();
        let minted = test.exchange(&proof).await;
        assert_eq!(minted.status, 200, "{fault:?} after the repair: {}", minted.text());
        assert_eq!(test.exchange(&proof).await.error(), "401 proof_replayed", "{fault:?}");
        // The broker retries if the failure says that STS did not get the request, or that a retry
        // makes sense.
        line.inject("", ..1, fault.clone());
        let tried_over = exchange(&test.proof(&identity).build()).await;
        let expected = if calls == 2 { "200 -" } else { expected };
        assert_eq!(tried_over.error(), expected, "{fault:?} once");
    }
    assert_eq!(elsewhere.take_names(), [""; 0], "no program follows a redirect");

    let (test, line) = TestBroker::start_with_sts_proxy(place);
    let identity = deploy();
    test.sts.add_identity(identity.clone());
    let proof = test.proof(&identity).build();
    line.refuse_connections();
    assert_eq!(test.exchange(&proof).await.error(), "503 sts_unavailable", "no STS listens");
    line.repair();
    assert_eq!(test.exchange(&proof).await.error(), "200 -");
}

#[tokio::test]
async fn on_the_embedded_store_each_fault_of_sts_has_its_own_answer_and_uses_nothing_up() {
    each_fault_has_its_own_answer(Backend::Embedded).await;
}

#[tokio::test]
async fn on_aws_each_fault_of_sts_has_its_own_answer_and_uses_nothing_up() {
    each_fault_has_its_own_answer(Backend::Aws).await;
}

#[tokio::test]
async fn many_who_wait_for_a_service_that_hangs_wait_once_and_ask_once() {
    let Some(test) = TestBroker::start_on(Backend::Aws).await else { return };
    test.grant(&role("deploy"), "acme", &[Download]).await;
    let token = test.token(&deploy(), &[Download]).await;
    let proxy = &test.aws().proxy;
    for (what, on) in [("KMS", "kms"), ("the table", "dynamodb")] {
        let cold = test.restarted();
        let identity = deploy();
        cold.sts.add_identity(identity.clone());
        let proofs: Vec<Value> = (0..12).map(|_| cold.proof(&identity).build()).collect();
        proxy.take_counts();
        proxy.inject(on, .., Fault::Hang);
        let mints = join_all(proofs.iter().map(|proof| cold.exchange(proof)));
        // The clock must not jump during the calls to STS: each mint has its answer before it comes
        // to the table.
        let others = async {
            proxy.wait_for_calls("dynamodb BatchGetItem", proofs.len()).await;
            let reads = join_all((0..12).map(|_| cold.get("/v1/whoami", &token)));
            let looks = join_all((0..12).map(|_| cold.get_anonymously("/readyz")));
            tokio::join!(reads, looks)
        };
        let stuck = async {
            proxy.wait_for_calls("dynamodb BatchGetItem", proofs.len()).await;
            proxy.wait_until_stuck().await;
        };
        let all = async { tokio::join!(mints, others) };
        let ((mints, (reads, looks)), jumped) = past_deadlines(stuck, all).await;
        // One after another, each would wait for a deadline. Together they wait for only a few.
        assert!(
            jumped < 6 * time_limits::aws().call,
            "{what}: a request waited for others, {jumped:?}"
        );
        for reply in mints.iter().chain(&reads).chain(&looks) {
            assert_eq!(reply.status, 503, "{what}: {}", reply.text());
        }
        if on == "kms" {
            let asked = proxy.take_counts()["kms Decrypt"];
            assert!(asked <= 9, "{what}: {asked} calls, retries included");
        }
        proxy.repair();
        cold.advance(10);
        assert_eq!(cold.exchange(&proofs[0]).await.status, 200, "{what} after the repair");
        assert_eq!(cold.get("/v1/whoami", &token).await.status, 200, "{what} after the repair");
        assert_eq!(cold.get_anonymously("/readyz").await.status, 200, "{what} after the repair");
    }
}

/// Runs `stile-broker check`. Returns its lines by subject, and its exit code.
async fn check(
    aws: &EmulatedAws,
    sts: &AwsProxy,
    waits: [(&'static str, &'static str); 4],
) -> (Option<i32>, Vec<(String, bool)>, String) {
    let mut command = tokio::process::Command::new(program(BROKER));
    command.args([
        "check",
        "--regions",
        "us-east-1",
        "--host",
        "registry.example.com",
        "--sts-endpoint",
        &sts.endpoint(),
    ]);
    let output = command.env_clear().envs(aws.environment()).envs(waits).output().await.unwrap();
    let said =
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    let of = |part: &str| {
        let line =
            said.lines().find(|line| line.contains(&format!("  {part}"))).unwrap_or_default();
        (part.to_owned(), line.starts_with("ok"))
    };
    (output.status.code(), PARTS.map(of).into(), said.clone())
}

/// The subjects of `stile-broker check`.
const PARTS: [&str; 5] = ["table", "bucket", "KMS key", "keyring", "STS"];

/// How long the program waits when one service hangs and the others are healthy, in seconds.
const HANGING: &str = "15";

#[tokio::test]
async fn check_names_what_is_down_and_nothing_else() {
    // Uses a separate AWS: while one service hangs, the others have only their own time limits.
    let Some(aws) = EmulatedAws::start_alone().await else { return };
    let sts = LocalSts::start([], fixed_clock(0));
    let well = |names: &[&str]| -> Vec<(String, bool)> {
        PARTS.map(|part| (part.to_owned(), !names.contains(&part))).into()
    };
    let cases: [(&str, Option<Fault>, &[&str]); 13] = [
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
    // Each check uses its own connections, and all run at once: those that hang all wait at the
    // same time.
    let (aws, sts) = (&aws, &sts);
    let each = cases.map(|(service, fault, failed)| async move {
        let (line, aws) = (AwsProxy::start(sts.endpoint()), aws.behind_another_proxy());
        let mut waits = time_limits::VARIABLES;
        if let Some(fault) = &fault {
            let (proxy, on, wait) =
                if service == "sts" { (&line, "", 1) } else { (&aws.proxy, service, 0) };
            proxy.inject(on, .., fault.clone());
            if fault.takes_long() {
                waits[wait].1 = HANGING;
            }
        }
        let (code, parts, said) = check(&aws, &line, waits).await;
        assert_eq!(
            (code, &parts),
            (Some(i32::from(!failed.is_empty())), &well(failed)),
            "{service} {fault:?}: {said}"
        );
    });
    join_all(each).await;
}
