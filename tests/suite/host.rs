//! The registry that a store is for. It is written once, every broker on a table without a host of
//! its own reads it, and no other broker overrules it.

use std::path::Path;

use serde_json::{Value, json};
use stile_core::token::Keyring;
use stile_protocol::audience::Audience;
use stile_protocol::names::Permission::Download;
use stile_store::{HostRecorded, Store};
use stile_tests::aws::emulated::EmulatedAws;
use stile_tests::broker::operator::AsOperator as _;
use stile_tests::broker::served::system_time;
use stile_tests::broker::{Backend, HOST, NOW, TestBroker, allow, deploy, make_data, role};
use stile_tests::process::home::{CommandOutput, Home};
use stile_tests::process::programs::{ADMIN, BROKER, Setup, free_port, program, workspace};
use stile_tests::sts::local::{LocalSts, fixed_clock};
use stile_tests::sts::proof::Proof;

/// The item as `docs/aws.md` shows it, for operators who create the table without `stile-admin`.
const ITEM: &str =
    r#"{"pk": {"S": "host"}, "sk": {"S": "host"}, "host": {"S": "registry.example.com"}}"#;

/// Runs a program with only the table in its environment.
async fn run(aws: &EmulatedAws, name: &str, arguments: &[&str]) -> CommandOutput {
    let mut home = Home::temporary();
    for (name, value) in aws.environment() {
        home.variable(name, value);
    }
    home.run(&program(name), arguments).await
}

async fn row(aws: &EmulatedAws) -> Value {
    aws.dynamodb("GetItem", json!({"Key": {"pk": {"S": "host"}, "sk": {"S": "host"}}})).await["Item"].clone()
}

fn documented() -> Value {
    let page = std::fs::read_to_string(workspace().join("docs/aws.md")).unwrap();
    assert!(page.contains(ITEM), "docs/aws.md shows the item that this test uses");
    serde_json::from_str(ITEM).unwrap()
}

fn store(aws: &EmulatedAws, host: Option<&str>) -> Store {
    aws.store(host)
}

#[tokio::test]
async fn without_a_host_in_flag_or_table_no_broker_starts_and_with_two_that_differ_neither() {
    let Some(aws) = EmulatedAws::start().await else { return };
    let table = &aws.place.table;
    let how = format!(
        "hint: give `--host HOST`, or write the host into the table with `stile-admin store init --table {table} --host HOST`"
    );
    for verb in ["serve", "check"] {
        let ran = run(&aws, BROKER, &[verb]).await;
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(ran.code == Some(1) && said.contains(&how), "{verb}: {said}");
    }
    aws.dynamodb("PutItem", json!({"Item": documented()})).await;
    for verb in ["serve", "check"] {
        let ran = run(&aws, BROKER, &[verb, "--host", "other.example.com"]).await;
        let said = format!("{}{}", ran.stdout, ran.stderr);
        let differs = format!(
            "table `{table}` is for registry `{HOST}`, and `--host` says `other.example.com`"
        );
        assert!(ran.code == Some(1) && said.contains(&differs), "{verb}: {said}");
    }
    let keyring = aws
        .dynamodb("GetItem", json!({"Key": {"pk": {"S": "keyring"}, "sk": {"S": "keyring"}}}))
        .await;
    assert_eq!(keyring["Item"], Value::Null, "and the broker creates no key for another registry");
}

/// Runs a program with the data folder as its last argument.
async fn run_on(data: &Path, name: &str, arguments: &[&str]) -> CommandOutput {
    let arguments = [arguments, &["--data", data.to_str().unwrap()]].concat();
    Home::temporary().run(&program(name), &arguments).await
}

#[tokio::test]
async fn a_data_folder_is_served_for_one_host_only() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    make_data(&data, &role("deploy"), "acme", &[Download]).await;
    // No STS listens there, and the test ignores the result about it.
    let sts = ["--regions", "us-east-1", "--sts-endpoint", "http://127.0.0.1:9"];
    let check = async |host: &str| {
        run_on(&data, BROKER, &[&["check", "--host", host][..], &sts].concat()).await
    };
    let checked = check("other.example.com").await;
    let line = "ok      registry host other.example.com";
    assert!(
        checked.stdout.lines().any(|said| said == line),
        "a check records nothing: {checked:?}"
    );
    let first = Setup::new(free_port(), &data).start(&folder.path().join("first.log")).await;
    let host = first.host();
    let differs = format!(
        "database `{}` is for registry `{host}`, and `--host` says `other.example.com`; hint: give `--host {host}`, or another data folder",
        data.join("stile.sqlite3").display()
    );
    let serve = ["serve", "--host", "other.example.com", "--listen", "127.0.0.1:0"];
    for (verb, ran) in [
        ("serve", run_on(&data, BROKER, &serve).await),
        ("check", check("other.example.com").await),
    ] {
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(ran.code == Some(1) && said.contains(&differs), "{verb}: {said}");
    }
    let line =
        format!("ok      registry host {host}, the same as in data folder {}", data.display());
    let checked = check(&host).await;
    assert!(checked.stdout.lines().any(|said| said == line), "{checked:?}");
    let second = Setup::new(free_port(), &data).env("STILE_HOST", &host);
    let mut second = second.start(&folder.path().join("second.log")).await;
    assert!(second.terminate().await.success(), "another broker of the same registry runs");
}

#[tokio::test]
async fn an_operator_records_the_host_of_a_data_folder_once() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    for (host, code, says) in [
        ("localhost", 2, "has no dot"),
        ("Registry.Example.com:443", 0, "; the folder is now for registry `registry.example.com`"),
        (HOST, 0, "; the folder was already for registry `registry.example.com`"),
        (
            "other.example.com",
            1,
            "belongs to registry `registry.example.com`, not `other.example.com`; hint: create a separate folder",
        ),
    ] {
        let ran = run_on(&data, ADMIN, &["store", "init", "--host", host]).await;
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(ran.code == Some(code) && said.contains(says), "{host}: {said}");
    }
    let other = ["serve", "--host", "other.example.com", "--listen", "127.0.0.1:0"];
    let ran = run_on(&data, BROKER, &other).await;
    assert!(ran.code == Some(1) && ran.stderr.contains("is for registry"), "{ran:?}");
    assert!(!data.join("keyring.json").exists(), "and the broker creates no key for it");
}

#[tokio::test]
async fn a_host_that_cannot_be_read_is_rejected() {
    let Some(aws) = EmulatedAws::start().await else { return };
    for (host, says) in [
        (json!({"S": "localhost"}), "is not a valid registry host"),
        (json!({"S": "https://registry.example.com"}), "is not a valid registry host"),
        (json!({"S": ""}), "is not a valid registry host"),
        (json!({"N": "7"}), "cannot read the host"),
    ] {
        aws.dynamodb(
            "PutItem",
            json!({"Item": {"pk": {"S": "host"}, "sk": {"S": "host"}, "host": host}}),
        )
        .await;
        for host_flag in [None, Some(HOST)] {
            let said = store(&aws, host_flag).host().await.unwrap_err().to_string();
            assert!(
                said.contains(says) && said.contains(&aws.place.table),
                "{host} {host_flag:?}: {said}"
            );
            assert!(store(&aws, host_flag).keyring().await.is_err(), "{host} {host_flag:?}");
        }
        assert!(
            store(&aws, None)
                .as_operator()
                .record_host(&Audience::parse(HOST).unwrap())
                .await
                .is_err(),
            "{host}"
        );
    }
}

#[tokio::test]
async fn an_operator_writes_the_host_once() {
    let Some(aws) = EmulatedAws::start().await else { return };
    for (host, code, says) in [
        ("localhost", 2, "has no dot"),
        ("Registry.Example.com:443", 0, "the table is now for registry `registry.example.com`"),
        (HOST, 0, "the table was already for registry `registry.example.com`"),
        (
            "other.example.com",
            1,
            "belongs to registry `registry.example.com`, not `other.example.com`; hint: create a separate table",
        ),
    ] {
        let ran = run(&aws, ADMIN, &["store", "init", "--host", host]).await;
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(ran.code == Some(code) && said.contains(says), "{host}: {said}");
    }
    let mut expected = documented();
    // The format version of an item. The documented item has none, which means the first.
    expected["v"] = json!({"N": "1"});
    assert_eq!(row(&aws).await, expected);
    // A table without this row can have keys, and those are for one registry.
    aws.dynamodb("DeleteItem", json!({"Key": {"pk": {"S": "host"}, "sk": {"S": "host"}}})).await;
    assert!(
        store(&aws, Some(HOST))
            .replace_keyring(0, Keyring::default().rotated(NOW).unwrap())
            .await
            .unwrap()
    );
    let recorded = store(&aws, None)
        .as_operator()
        .record_host(&Audience::parse("other.example.com").unwrap())
        .await
        .unwrap();
    assert_eq!(recorded, HostRecorded::Another(HOST.to_owned()));
    assert_eq!(
        store(&aws, None).as_operator().record_host(&Audience::parse(HOST).unwrap()).await.unwrap(),
        HostRecorded::Created
    );
}

#[tokio::test]
async fn a_broker_without_a_host_serves_the_registry_that_the_table_names() {
    let Some(aws) = EmulatedAws::start().await else { return };
    aws.dynamodb("PutItem", json!({"Item": documented()})).await;
    let checked = run(
        &aws,
        BROKER,
        &["check", "--regions", "us-east-1", "--sts-endpoint", &aws.proxy.endpoint()],
    )
    .await;
    let line = format!("ok      registry host {HOST}, the same as in table {}", aws.place.table);
    assert!(checked.stdout.lines().any(|said| said == line), "{checked:?}");

    let (now, identity, folder) = (system_time(), deploy(), tempfile::tempdir().unwrap());
    let sts = LocalSts::start([identity.clone()], fixed_clock(now));
    let setup = Setup::on_aws(free_port(), &aws).env("STILE_HOST", "").sts(&sts.endpoint());
    let broker = setup.start(&folder.path().join("log")).await;
    assert!(broker.log().contains(HOST), "{}", broker.log());
    allow(&aws, &role("deploy"), "acme", &[Download]).await;
    for (audience, status) in [("other.example.com", 401), (HOST, 200)] {
        let proof = Proof::new(&identity).audience(audience).now(now).build();
        let request = broker
            .client()
            .post(broker.url("/v1/token"))
            .header("content-type", "application/json");
        // The broker never takes the host from a request.
        let request = request.header("host", audience).header("x-forwarded-host", audience);
        let answer = request.body(proof.to_string()).send().await.unwrap();
        assert_eq!(answer.status(), status, "{audience}: {}", answer.text().await.unwrap());
    }
}

#[tokio::test]
async fn a_table_that_turns_out_to_be_another_registrys_mints_and_opens_nothing() {
    let Some(test) = TestBroker::start_on(Backend::Aws).await else { return };
    test.grant(&role("deploy"), "acme", &[Download]).await;
    let token = test.token(&deploy(), &[Download]).await;
    let mut other = documented();
    other["host"]["S"] = json!("other.example.com");
    test.aws().dynamodb("PutItem", json!({"Item": other})).await;
    let cold = test.restarted();
    let identity = deploy();
    cold.sts.add_identity(identity.clone());
    assert_eq!(cold.exchange(&cold.proof(&identity).build()).await.error(), "500 internal");
    assert_eq!(cold.get("/v1/whoami", &token).await.status, 500);
    assert_eq!(cold.get_anonymously("/readyz").await.status, 500);
    test.aws().dynamodb("PutItem", json!({"Item": documented()})).await;
    assert_eq!(test.restarted().get("/v1/whoami", &token).await.status, 200);
}
