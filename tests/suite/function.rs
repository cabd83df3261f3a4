//! The broker as a function with only a table: the calls of its start, and real Terraform as its
//! client.

use std::path::Path;
use std::sync::Arc;

use stile_protocol::audience::Audience;
use stile_protocol::names::Permission::{Download, Upload};
use stile_store::HostRecorded;
use stile_tests::aws::emulated::EmulatedAws;
use stile_tests::broker::operator::AsOperator as _;
use stile_tests::broker::served::system_time;
use stile_tests::broker::{HOST, allow, deploy, namespaces, role};
use stile_tests::dev_ca::DevCa;
use stile_tests::lambda::Function;
use stile_tests::lambda::events::{Sent, Shape};
use stile_tests::lambda::function_url::FunctionUrlServer;
use stile_tests::process::home::Home;
use stile_tests::process::programs::{ADMIN, BROKER, HELPER, free_port, program, workspace};
use stile_tests::skipped::{skipped, tool};
use stile_tests::sts::local::LocalSts;
use stile_tests::sts::proof::{Proof, document};
use stile_tests::terraform::Terraform;

/// Creates a table that names its registry, in which `deploy` has every permission on the
/// namespace.
async fn table_for(host: &str) -> Option<EmulatedAws> {
    let aws = EmulatedAws::start().await?;
    let store = aws.store(None);
    assert_eq!(
        store.as_operator().record_host(&Audience::parse(host).unwrap()).await.unwrap(),
        HostRecorded::Created
    );
    allow(&aws, &role("deploy"), "acme", &[Download, Upload]).await;
    aws.proxy.take_counts();
    Some(aws)
}

/// Starts the program as Lambda does, with that table and without a host.
async fn start(program: &Path, aws: &EmulatedAws, sts: &LocalSts, log: &Path) -> Function {
    let mut variables = aws.environment();
    variables.push(("STILE_STS_ENDPOINT", sts.endpoint()));
    let variables: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Function::start(program, &variables, log).await
}

#[tokio::test]
async fn a_cold_start_reads_the_host_and_opens_the_keyring_once() {
    cold_starts(&program(BROKER)).await;
}

#[tokio::test]
async fn terraform_installs_from_a_function() {
    terraform_installs(&program(BROKER)).await;
}

#[tokio::test]
async fn a_function_without_a_host_and_without_its_table_does_not_start_and_says_why() {
    let Some(aws) = EmulatedAws::start().await else { return };
    let (sts, folder) = (LocalSts::start([], Arc::new(system_time)), tempfile::tempdir().unwrap());
    let log = folder.path().join("log");
    let function = start(&program(BROKER), &aws, &sts, &log).await;
    assert!(!function.ends().await.success());
    assert!(function.log().contains("store init --table"), "{}", function.log());
    aws.proxy.cut();
    let function = start(&program(BROKER), &aws, &sts, &log).await;
    assert!(!function.ends().await.success());
    assert!(function.log().contains("cannot read table"), "{}", function.log());
}

/// Records the calls of the program until it is ready, for its first event, and for the first event
/// of the next instance.
pub(crate) async fn cold_starts(program: &Path) {
    let Some(aws) = table_for(HOST).await else { return };
    let (identity, folder) = (deploy(), tempfile::tempdir().unwrap());
    let sts = LocalSts::start([identity.clone()], Arc::new(system_time));
    let first = start(program, &aws, &sts, &folder.path().join("first")).await;
    first.started().await;
    assert_eq!(
        aws.proxy.take_counts(),
        [("dynamodb GetItem".to_owned(), 1)].into(),
        "only the host"
    );
    let wanted = document(900, namespaces(&["acme"]), &[Download]);
    let proof = Proof::new(&identity).audience(HOST).now(system_time()).document(&wanted).build();
    let sent = Sent::new("POST", "/v1/token").body("application/json", proof.to_string());
    let reply =
        Shape::FunctionUrl.reply(&first.invoke(&Shape::FunctionUrl.event(&sent)).await.unwrap());
    assert_eq!(reply.status, 200, "{}\n{}", reply.text(), first.log());
    let calls = aws.proxy.take_counts();
    assert_eq!(
        (calls.get("kms Encrypt"), calls.get("kms Decrypt")),
        (Some(&1), None),
        "the registry's first key: {calls:?}"
    );
    let token = reply.json()["token"].as_str().unwrap().to_owned();

    let next = start(program, &aws, &sts, &folder.path().join("next")).await;
    next.started().await;
    assert_eq!(
        aws.proxy.take_counts(),
        [("dynamodb GetItem".to_owned(), 1)].into(),
        "only the host"
    );
    let sent = Sent::new("GET", "/v1/modules/acme/vpc/aws/versions").bearer(&token);
    for (what, expected) in [
        (
            "the first",
            vec![("dynamodb BatchGetItem", 2), ("dynamodb GetItem", 1), ("kms Decrypt", 1)],
        ),
        ("every other", vec![("dynamodb GetItem", 1)]),
    ] {
        let reply =
            Shape::FunctionUrl.reply(&next.invoke(&Shape::FunctionUrl.event(&sent)).await.unwrap());
        assert_eq!(reply.status, 404, "{}\n{}", reply.text(), next.log());
        let expected = expected.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
        assert_eq!(aws.proxy.take_counts(), expected, "{what}");
    }
}

/// An operator grants, a publisher publishes through the function, and Terraform installs from it.
pub(crate) async fn terraform_installs(program_file: &Path) {
    let Some(terraform) = tool("terraform") else {
        return skipped("terraform", "a module is installed from a function");
    };
    let port = free_port();
    let host = format!("127.0.0.1:{port}");
    let Some(aws) = table_for(&host).await else { return };
    let (identity, folder) = (deploy(), tempfile::tempdir().unwrap());
    let sts = LocalSts::start([identity.clone()], Arc::new(system_time));
    let files = DevCa::new(system_time()).write(folder.path(), &["127.0.0.1"]);
    let function = Arc::new(start(program_file, &aws, &sts, &folder.path().join("log")).await);
    let _door = FunctionUrlServer::open(port, &files, Arc::clone(&function)).await;

    let mut home = Home::temporary();
    home.trust(&files.ca);
    home.act_as(&identity, "us-east-1");
    home.configure_helper(&format!("[registry.\"{host}\"]\n"));
    let module = workspace().join("tests/fixtures/module");
    let publish = [
        "module",
        "publish",
        "acme/vpc/aws",
        "1.0.0",
        module.to_str().unwrap(),
        "--registry-host",
        &host,
    ];
    let published = home.run(&program(ADMIN), &publish).await;
    assert_eq!(published.code, Some(0), "{published:?}\n{}", function.log());

    let terraform = Terraform::new(&terraform, home);
    terraform.install_helper(&program(HELPER));
    terraform.write_module_call("vpc", &format!("{host}/acme/vpc/aws"), "1.0.0");
    let ran = terraform.init().await;
    assert!(
        ran.stdout.contains("Terraform has been successfully initialized!"),
        "{ran:?}\n{}",
        function.log()
    );
    let installed = std::fs::read_to_string(terraform.installed("vpc").join("main.tf")).unwrap();
    assert_eq!(installed, std::fs::read_to_string(module.join("main.tf")).unwrap());
    let calls = aws.proxy.take_counts();
    assert_eq!(
        (calls.get("kms Encrypt"), calls.get("kms Decrypt")),
        (Some(&1), None),
        "the registry's first key: {calls:?}"
    );

    std::fs::remove_dir_all(terraform.configuration().join(".terraform")).unwrap();
    terraform.write_main("");
    terraform.write_module_call("vpc", &format!("{host}/other/vpc/aws"), "1.0.0");
    let refused = terraform.init().await;
    assert!(refused.code == Some(1) && refused.words().contains("403 Forbidden"), "{refused:?}");
    assert!(!terraform.installed("vpc").join("main.tf").exists());
}
