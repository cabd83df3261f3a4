//! The store on AWS: which calls the broker makes and how often, what happens without AWS, and what
//! KMS and S3 store.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use stile_core::token::Keyring;
use stile_protocol::names::Permission::{Download, Upload};
use stile_store::Store;
use stile_tests::aws::emulated::EmulatedAws;
use stile_tests::aws::source_bucket::SourceBucket;
use stile_tests::broker::operator::AsOperator as _;
use stile_tests::broker::{Backend, HOST, NOW, TestBroker, deploy, module_zip, role};
use stile_tests::process::programs::{ADMIN, BROKER, Setup, free_port, program};
use stile_tests::time_limits::{self};

pub(crate) const VERSIONS: &str = "/v1/modules/acme/vpc/aws/versions";
pub(crate) const DOWNLOAD: &str = "/v1/modules/acme/vpc/aws/1.0.0/download";

/// Starts a registry with one module, and returns a token that reads and writes it. No call counts
/// yet.
pub(crate) async fn published() -> Option<(TestBroker, String)> {
    Some(published_on(TestBroker::start_on(Backend::Aws).await?).await)
}

/// Does the same on a separate emulated AWS, for tests that put a high load on it.
pub(crate) async fn published_on_own_aws() -> Option<(TestBroker, String)> {
    Some(published_on(TestBroker::start_alone_on_aws().await?).await)
}

async fn published_on(test: TestBroker) -> (TestBroker, String) {
    test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    let token = test.token(&deploy(), &[Download, Upload]).await;
    assert_eq!(
        test.publish("acme/vpc/aws", "1.0.0", module_zip("hello"), &token).await.status,
        201
    );
    test.aws().proxy.take_counts();
    (test, token)
}

pub(crate) fn calls<const N: usize>(calls: [(&str, usize); N]) -> BTreeMap<String, usize> {
    calls.map(|(name, count)| (name.to_owned(), count)).into()
}

#[tokio::test]
async fn what_is_fresh_is_not_asked_again_and_what_is_refused_asks_nobody() {
    let Some((test, token)) = published().await else { return };
    let proxy = &test.aws().proxy;
    assert_eq!(test.get(VERSIONS, &token).await.status, 200);
    assert_eq!(proxy.take_counts(), calls([("dynamodb GetItem", 1)]));
    for (path, token, status, expected) in [
        (VERSIONS, token.as_str(), 200, calls([("dynamodb GetItem", 1)])),
        (DOWNLOAD, &token, 204, calls([("dynamodb GetItem", 1)])),
        ("/v1/modules/other/vpc/aws/versions", &token, 403, calls([])),
        ("/v1/modules/other/vpc/aws/1.0.0/download", &token, 403, calls([])),
        (VERSIONS, "nonsense", 401, calls([])),
        (VERSIONS, &token[..token.len() - 1], 401, calls([])),
        ("/v1/whoami", &token, 200, calls([])),
    ] {
        assert_eq!(test.get(path, token).await.status.as_u16(), status, "{path}");
        assert_eq!(proxy.take_counts(), expected, "{path}");
    }
    test.advance(10);
    assert_eq!(test.get("/v1/whoami", &token).await.status, 200);
    assert_eq!(
        proxy.take_counts(),
        calls([("dynamodb BatchGetItem", 1)]),
        "one refresh, without KMS"
    );
}

#[tokio::test]
async fn a_download_of_an_object_costs_one_call_or_two_in_a_bucket_without_versions() {
    let Some((test, token)) = published().await else { return };
    let aws = test.aws();
    let archive = module_zip("own");
    let sha256 = hex::encode(Sha256::digest(&archive));
    for (end, versioned, version) in [("versioned", true, "2.0.0"), ("plain", false, "3.0.0")] {
        let bucket = SourceBucket::create(aws, end, versioned).await;
        bucket.put("own/vpc.zip", archive.clone()).await;
        let (prefix, now) = (bucket.address("own"), test.time());
        test.store().as_operator().allow_objects("acme", &[&prefix], now).await.unwrap();
        let body = json!({ "object": bucket.address("own/vpc.zip"), "sha256": sha256 });
        let request = Request::post(format!("/v1/modules/acme/vpc/aws/{version}"))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json");
        aws.proxy.take_counts();
        let created = test.send(request.body(Body::from(body.to_string())).unwrap()).await;
        assert_eq!(created.status, 201, "{created:?}");
        let mut publish = aws.proxy.take_counts();
        let (read, written) = (publish.remove("s3 GET"), publish.remove("s3 PUT"));
        assert_eq!((read, written), (Some(1), Some(1)), "the object, and its metadata");
        let download = format!("/v1/modules/acme/vpc/aws/{version}/download");
        let look = if versioned { vec![] } else { vec![("s3 HEAD", 1)] };
        for table in [("dynamodb GetItem", 2), ("dynamodb BatchGetItem", 1)] {
            assert_eq!(test.get(&download, &token).await.status, 204);
            let expected = look.iter().copied().chain([table]);
            let expected = expected.map(|(name, count)| (name.to_owned(), count)).collect();
            assert_eq!(aws.proxy.take_counts(), expected, "{version}");
        }
    }
}

#[tokio::test]
async fn a_mint_is_one_read_and_one_write_and_a_cold_start_one_decryption() {
    let Some((test, _)) = published().await else { return };
    let proxy = &test.aws().proxy;
    let sts = test.sts.calls();
    let token = test.token(&deploy(), &[Download]).await;
    assert_eq!(
        proxy.take_counts(),
        calls([("dynamodb BatchGetItem", 1), ("dynamodb TransactWriteItems", 1)])
    );
    assert_eq!(test.sts.calls() - sts, 1);

    let cold = test.restarted();
    assert_eq!(cold.get_anonymously("/readyz").await.status, 200);
    assert_eq!(proxy.take_counts().get("kms Decrypt"), Some(&1));
    assert_eq!(cold.get(VERSIONS, &token).await.status, 200);
    assert_eq!(proxy.take_counts(), calls([("dynamodb BatchGetItem", 1), ("dynamodb GetItem", 1)]));

    // An unknown key id causes one read of the keyring. The keyring has not changed, so the broker
    // does not call KMS.
    let Some((_, strangers)) = published().await else { return };
    for _ in 0..3 {
        assert_eq!(cold.get(VERSIONS, &strangers).await.status, 401);
    }
    assert_eq!(proxy.take_counts(), calls([("dynamodb BatchGetItem", 1)]));
}

#[tokio::test]
async fn a_replay_in_another_process_costs_one_refused_write() {
    let Some((test, _)) = published().await else { return };
    let identity = deploy();
    test.sts.add_identity(identity.clone());
    let proof = test.proof(&identity).build();
    assert_eq!(test.exchange(&proof).await.status, 200);
    let other = test.restarted();
    other.sts.add_identity(identity);
    assert_eq!(other.get_anonymously("/readyz").await.status, 200);
    test.aws().proxy.take_counts();
    assert_eq!(other.exchange(&proof).await.error(), "401 proof_replayed");
    assert_eq!(
        test.aws().proxy.take_counts(),
        calls([("dynamodb BatchGetItem", 1), ("dynamodb TransactWriteItems", 1)])
    );
}

#[tokio::test]
async fn without_aws_all_is_503_and_nothing_is_half_written_and_it_goes_on_without_a_restart() {
    let Some((test, token)) = published().await else { return };
    let objects = test.archives().await;
    test.break_store();
    let identity = deploy();
    test.sts.add_identity(identity.clone());
    let proof = test.proof(&identity).build();
    for (what, reply) in [
        ("versions", test.get(VERSIONS, &token).await),
        ("download", test.get(DOWNLOAD, &token).await),
        ("list", test.get("/v1/modules", &token).await),
        ("publish", test.publish("acme/vpc/aws", "2.0.0", module_zip("next"), &token).await),
        ("mint", test.exchange(&proof).await),
        ("readiness", test.get_anonymously("/readyz").await),
    ] {
        assert!(
            reply.status == 503 && !reply.header("retry-after").is_empty(),
            "{what}: {} {}",
            reply.status,
            reply.text()
        );
        assert!(
            !reply.text().contains("127.0.0.1") && !reply.text().contains(&test.aws().place.table),
            "{what}: {}",
            reply.text()
        );
    }
    test.repair_store();
    assert_eq!(test.archives().await, objects);
    assert_eq!(test.get("/v1/modules/acme/vpc/aws/2.0.0/download", &token).await.status, 404);
    assert_eq!(test.get(VERSIONS, &token).await.status, 200);
    assert_eq!(test.exchange(&proof).await.status, 200, "the proof is still unused");
    assert_eq!(test.publish("acme/vpc/aws", "2.0.0", module_zip("next"), &token).await.status, 201);
}

#[tokio::test]
async fn a_publish_that_died_half_way_can_be_repeated() {
    let Some((test, token)) = published().await else { return };
    let archive = module_zip("half");
    assert_eq!(test.publish("acme/vpc/aws", "2.0.0", archive.clone(), &token).await.status, 201);
    // The state after the process ended between the object and the row.
    for sk in ["version 2.0.0", "versions"] {
        test.aws()
            .dynamodb(
                "DeleteItem",
                json!({"Key": {"pk": {"S": "module acme/vpc/aws"}, "sk": {"S": sk}}}),
            )
            .await;
    }
    assert_eq!(test.get("/v1/modules/acme/vpc/aws/2.0.0/download", &token).await.status, 404);
    assert_eq!(test.publish("acme/vpc/aws", "2.0.0", archive.clone(), &token).await.status, 201);
    let location = test
        .get("/v1/modules/acme/vpc/aws/2.0.0/download", &token)
        .await
        .header("x-terraform-get")
        .to_owned();
    assert_eq!(test.fetch(&location).await, (200, archive));
}

#[tokio::test]
async fn an_object_that_is_not_what_its_name_says_is_never_listed() {
    let Some((test, token)) = published().await else { return };
    let archive = module_zip("genuine");
    let sha256 = hex::encode(Sha256::digest(&archive));
    test.aws()
        .put_object(&format!("/modules/acme/vpc/aws/2.0.0/{sha256}.zip"), &module_zip("planted"))
        .await;
    assert_eq!(test.publish("acme/vpc/aws", "2.0.0", archive, &token).await.status, 500);
    assert_eq!(test.get("/v1/modules/acme/vpc/aws/2.0.0/download", &token).await.status, 404);
}

#[tokio::test]
async fn of_twenty_with_the_same_bytes_in_four_processes_one_creates_the_version() {
    let Some((test, token)) = published().await else { return };
    let processes: Vec<Arc<TestBroker>> = (0..4).map(|_| Arc::new(test.restarted())).collect();
    let sent: Vec<_> = (0..20)
        .map(|n: usize| {
            let (process, token) = (Arc::clone(&processes[n % 4]), token.clone());
            tokio::spawn(async move {
                process
                    .publish("acme/vpc/aws", "2.0.0", module_zip("same"), &token)
                    .await
                    .status
                    .as_u16()
            })
        })
        .collect();
    let mut outcomes = Vec::new();
    for task in sent {
        outcomes.push(task.await.unwrap());
    }
    outcomes.sort_unstable();
    assert_eq!(outcomes, [vec![200; 19], vec![201]].concat());
}

#[tokio::test]
async fn a_keyring_without_its_context_or_of_another_registry_opens_nothing() {
    let Some((test, token)) = published().await else { return };
    let aws = test.aws();
    let key = json!({"pk": {"S": "keyring"}, "sk": {"S": "keyring"}});
    let row = aws.dynamodb("GetItem", json!({"Key": key})).await["Item"].clone();
    let text = row.to_string();
    let stored: Value = serde_json::from_str(row["keys"]["S"].as_str().unwrap()).unwrap();
    assert_eq!(
        (
            row["revision"]["N"].as_str(),
            stored.as_array().unwrap().len(),
            row["audience"]["S"].as_str()
        ),
        (Some("1"), 1, Some(HOST))
    );
    assert!(!text.contains("secret"), "{text}");

    // The registry of another owner under the same KMS key. The broker does not accept its blob
    // under this registry's name.
    let other = aws.store(Some("other.example.com"));
    assert!(other.keyring().await.is_err(), "this registry's keyring does not open for another");
    aws.dynamodb("DeleteItem", json!({"Key": key})).await;
    assert!(other.replace_keyring(0, Keyring::default().rotated(NOW).unwrap()).await.unwrap());
    let mut planted = aws.dynamodb("GetItem", json!({"Key": key})).await["Item"].clone();
    planted["audience"]["S"] = HOST.into();
    for (what, blob) in [
        ("of another registry", planted["blob"]["B"].clone()),
        ("not a blob of KMS", json!("AAAA")),
    ] {
        planted["blob"]["B"] = blob;
        aws.dynamodb("PutItem", json!({"Item": planted})).await;
        let cold = test.restarted();
        let reply = cold.get(VERSIONS, &token).await;
        assert_eq!(reply.status, 500, "{what}: {}", reply.text());
        let identity = deploy();
        cold.sts.add_identity(identity.clone());
        assert_eq!(
            cold.exchange(&cold.proof(&identity).build()).await.error(),
            "500 internal",
            "{what}"
        );
    }
    aws.dynamodb("PutItem", json!({"Item": row})).await;
    assert_eq!(test.restarted().get(VERSIONS, &token).await.status, 200);
}

#[tokio::test]
async fn of_two_who_rotate_at_once_one_wins_and_the_other_follows() {
    let Some((test, token)) = published().await else { return };
    let other = test.restarted();
    assert_eq!(other.get(VERSIONS, &token).await.status, 200);
    test.advance(24 * 3600);
    other.advance(24 * 3600);
    let (mine, yours) = (deploy(), deploy());
    let (one, two) = tokio::join!(test.token(&mine, &[Download]), other.token(&yours, &[Download]));
    assert_eq!(test.store().keyring().await.unwrap().revision, 2);
    for process in [&test, &other] {
        for token in [&one, &two] {
            assert_eq!(process.get(VERSIONS, token).await.status, 200);
        }
    }
}

#[tokio::test]
async fn what_is_missing_is_created_once_and_a_check_names_it() {
    let Some((test, _)) = published().await else { return };
    let aws = test.aws();
    let made = Store::init_on_aws(&aws.place, &aws.sdk(), time_limits::aws()).await.unwrap();
    assert!(!made.table && !made.bucket && !made.key, "{made:?}");
    let looked = test.store().diagnose().await;
    assert!(looked.iter().all(|(_, outcome)| outcome.is_ok()), "{looked:?}");
    let elsewhere = stile_store::Place {
        table: "no-such-table".to_owned(),
        bucket: "no-such-bucket".to_owned(),
        kms_key: "alias/no-such-key".to_owned(),
        bucket_kms_key: None,
        audit_key: None,
    };
    let nothing = Store::on_aws(&elsewhere, None, &aws.sdk(), time_limits::aws());
    let looked = nothing.diagnose().await;
    assert!(looked.iter().all(|(_, outcome)| outcome.is_err()), "{looked:?}");
    let said = looked[0].1.as_ref().unwrap_err().to_string();
    assert!(said.contains("stile-admin store init --table no-such-table"), "{said}");
}

#[tokio::test]
async fn the_program_finds_its_store_by_its_environment_and_checks_it() {
    let Some(aws) = EmulatedAws::start().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let broker = Setup::on_aws(port, &aws)
        .sts(&aws.proxy.endpoint())
        .start(&folder.path().join("log"))
        .await;
    let ready = broker.client().get(broker.url("/readyz")).send().await.unwrap();
    assert_eq!(ready.status(), 200, "{}", broker.log());
    let check = |aws: &EmulatedAws, without: &str| {
        let mut command = std::process::Command::new(program(BROKER));
        command.args([
            "check",
            "--regions",
            "us-east-1",
            "--host",
            &broker.host(),
            "--sts-endpoint",
            &aws.proxy.endpoint(),
        ]);
        command
            .env_clear()
            .envs(aws.environment().into_iter().filter(|(name, _)| *name != without));
        let output = command.output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (_, said) = check(&aws, "");
    assert!(said.contains("warning audit key: no head of the audit chains is signed"), "{said}");
    for part in ["table", "bucket", "KMS key", "keyring"] {
        assert!(
            said.lines().any(|line| line.starts_with(&format!("ok      {part}"))),
            "{part}: {said}"
        );
    }
    let (code, said) = check(&aws, "AWS_ENDPOINT_URL");
    assert!(
        code == Some(1) && said.contains("a loopback `--sts-endpoint` cannot be combined"),
        "{said}"
    );
}

#[tokio::test]
async fn the_broker_and_the_admin_program_read_the_endpoints_of_one_service_by_the_same_rule() {
    let Some(aws) = EmulatedAws::start().await else { return };
    let endpoint = aws.proxy.endpoint();
    // Nothing listens at the endpoint of all services.
    let mut by_service = aws.environment();
    by_service.retain(|(name, _)| *name != "AWS_ENDPOINT_URL");
    by_service.extend([
        ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", free_port())),
        ("AWS_ENDPOINT_URL_DYNAMODB", endpoint.clone()),
        ("AWS_ENDPOINT_URL_S3", endpoint.clone()),
        ("AWS_ENDPOINT_URL_KMS", endpoint.clone()),
        ("AWS_ENDPOINT_URL_STS", endpoint),
    ]);
    let run = |program: &Path, arguments: &[&str], variables: &[(&str, String)]| {
        let mut command = std::process::Command::new(program);
        command.args(arguments).env_clear().envs(variables.iter().cloned());
        let output = command.output().unwrap();
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    };
    let check = ["check", "--regions", "us-east-1", "--host", HOST, "--sts-timeout", "1"];
    let said = run(&program(BROKER), &check, &by_service);
    for part in ["table", "bucket", "KMS key", "keyring"] {
        let ok = said.lines().any(|line| line.starts_with(&format!("ok      {part}")));
        assert!(ok, "{part}: {said}");
    }
    for (name, value, says) in [
        ("AWS_ENDPOINT_URL", "", "is set to nothing"),
        ("AWS_ENDPOINT_URL_DYNAMODB", "", "is set to nothing"),
        ("AWS_ENDPOINT_URL_KMS", "", "is set to nothing"),
        ("AWS_ENDPOINT_URL_STS", "", "is set to nothing"),
        ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "yes", "is neither `true` nor `false`"),
    ] {
        let mut wrong = by_service.clone();
        wrong.retain(|(set, _)| *set != name);
        wrong.push((name, value.to_owned()));
        for said in [
            run(&program(BROKER), &check, &wrong),
            run(&program(ADMIN), &["namespace", "list"], &wrong),
        ] {
            assert!(said.contains(&format!("`{name}` {says}")), "{said}");
        }
    }
    run(&program(ADMIN), &["namespace", "create", "acme"], &by_service);
    let said = run(&program(ADMIN), &["namespace", "list"], &aws.environment());
    assert!(said.contains("acme"), "it is in the table of the broker: {said}");
}

#[tokio::test]
async fn an_operator_makes_a_store_and_manages_its_grants_and_tokens() {
    let Some(aws) = EmulatedAws::start().await else { return };
    let admin = |arguments: &[&str]| {
        let mut command = std::process::Command::new(program(ADMIN));
        command.args(arguments).env_clear().envs(aws.environment());
        let output = command.output().unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap(),
        )
    };
    let on = ["--role-arn", "arn:aws:iam::111122223333:role/deploy", "--namespace", "acme"];
    let grant = |verb: &'static str, flags: &[&'static str]| {
        admin(&[&["grant", verb], &on[..], flags].concat())
    };
    for (outcome, code, says) in [
        (grant("delete", &[]), 1, "there is no grant"),
        (
            grant("create", &["--download"]),
            0,
            "created aws:111122223333:role/deploy on acme: download",
        ),
        (
            grant("create", &["--download", "--expires", "never"]),
            0,
            "unchanged: aws:111122223333:role/deploy on acme: download",
        ),
        (grant("create", &["--upload"]), 1, "hint: change it with `stile-admin grant update"),
        (
            admin(&[
                "grant",
                "create",
                "--role-arn",
                "arn:aws:iam::111122223333:role/deplyo",
                "--namespace",
                "amce",
                "--upload",
            ]),
            0,
            "the nearest known namespace is `acme`",
        ),
        (admin(&["grant", "list", "--namespace", "amce"]), 0, "aws:111122223333:role/deplyo"),
        (grant("update", &["--expires", "2999-01-31"]), 0, "until 2999-01-31T00:00:00Z"),
        (grant("update", &["--expires", "never"]), 0, "on acme: download\n"),
        (
            grant("update", &["--upload"]),
            0,
            "updated aws:111122223333:role/deploy on acme: download,upload",
        ),
        (grant("explain", &[]), 0, "yes"),
        (admin(&["grant", "list", "--namespace", "acme"]), 0, "download,upload"),
        (
            admin(&["token", "revoke", "--principal", "arn:aws:iam::111122223333:role/deploy"]),
            0,
            "revoked",
        ),
        (admin(&["token", "list"]), 0, "aws:111122223333:role/deploy"),
        (
            admin(&["token", "lift", "--principal", "arn:aws:iam::111122223333:role/deploy"]),
            0,
            "lifted",
        ),
        (admin(&["store", "init"]), 0, "unchanged: table, bucket and KMS key already exist"),
        (admin(&["store", "init", "--table", "another"]), 0, "created the table `another`"),
        (
            admin(&["store", "init", "--data", "/nowhere", "--host", "registry.example.com"]),
            2,
            "exactly one of",
        ),
        (
            admin(&["grant", "list", "--data", "/nowhere"]),
            2,
            "exactly one of `--data` and `--table` is required",
        ),
    ] {
        assert_eq!((outcome.0, outcome.1.contains(says)), (code, true), "{says}: {}", outcome.1);
    }
}
