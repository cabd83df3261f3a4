//! `examples/complete` from apply to destroy. Between them a broker runs with only the
//! configuration from the apply.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use stile_tests::aws::emulated::REGION;
use stile_tests::aws::moto::{ACCOUNT, Moto};
use stile_tests::aws::policy::{AwsRequest, BUCKET, BUS, Decision, HOST, KEY, Policy, TABLE};
use stile_tests::aws::proxy::{AwsProxy, CALLS};
use stile_tests::broker::served::system_time;
use stile_tests::broker::{deploy, module_zip};
use stile_tests::process::home::{CommandOutput, Home};
use stile_tests::process::programs::{
    ADMIN, Broker, HELPER, Setup, client, free_port, program, target, workspace,
};
use stile_tests::skipped::skipped;
use stile_tests::sts::identity::Identity;
use stile_tests::sts::local::LocalSts;
use stile_tests::terraform::Terraform;
use stile_tests::terraform::provider::terraform_on;
use stile_tests::time_limits;
use tempfile::TempDir;

use super::lists::{BY_HAND, BY_HAND_ON, LISTS};
use super::plan::copy_infra;

mod uses;

/// Granted actions that no test sees as a call, each with its reason.
const UNSEEN: [(&str, &str); 6] = [
    ("TableEncryption kms:Decrypt", "DynamoDB asks KMS itself, with the rights of its caller"),
    ("ArchivesEncryption kms:Decrypt", "S3 asks KMS itself"),
    ("ArchivesEncryption kms:GenerateDataKey", "S3 asks KMS itself"),
    ("SourceObjectsEncryption kms:Decrypt", "S3 asks KMS itself"),
    ("MainLog logs:CreateLogStream", "Lambda writes the log"),
    ("MainLog logs:PutLogEvents", "Lambda writes the log"),
];

/// The file in the target folder with the policies of the function and the operator, for
/// generalized requests.
const GRANTED: &str = "aws-granted.json";

/// An applied example.
struct Applied {
    moto: Moto,
    terraform: Terraform,
    registry: Value,
    backend_tf: String,
    variables: Vec<(String, String)>,
    folder: TempDir,
}

impl Applied {
    async fn start(shows: &str) -> Option<Self> {
        let Some(moto) = Moto::start() else {
            skipped("python3", shows);
            return None;
        };
        let terraform = terraform_on(&moto.endpoint(), shows)?;
        copy_infra(&terraform);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("package.zip"), module_zip("a function")).unwrap();
        let variables = [
            ("package_path", folder.path().join("package.zip").display().to_string()),
            ("deployer_arn", "arn:aws:iam::111122223333:role/deploy".to_owned()),
            ("platform_arns", "[\"arn:aws:iam::111122223333:role/platform\"]".to_owned()),
            ("iam_route", "true".to_owned()),
            ("source_buckets", uses::source_buckets()),
            ("delegated_grants", "true".to_owned()),
            ("disposable", "true".to_owned()),
        ];
        let mut applied = Self {
            moto,
            terraform,
            registry: Value::Null,
            backend_tf: String::new(),
            variables: Vec::new(),
            folder,
        };
        for (name, value) in variables {
            applied.terraform.home.variable(&format!("TF_VAR_{name}"), value);
        }
        applied.done(&["init", "-input=false"]).await;
        applied.done(&["apply", "-input=false", "-auto-approve"]).await;
        let outputs: Value =
            serde_json::from_str(&applied.done(&["output", "-json"]).await.stdout).unwrap();
        applied.registry = outputs["registry"]["value"].clone();
        applied.backend_tf =
            outputs["backend_tf"]["value"]["platform"].as_str().unwrap().to_owned();
        applied.variables = applied.function_environment().await;
        Some(applied)
    }

    async fn run(&self, arguments: &[&str]) -> CommandOutput {
        let all = [&["-chdir=infra/examples/complete"], arguments, &["-no-color"]].concat();
        self.terraform.run(&all).await
    }

    async fn done(&self, arguments: &[&str]) -> CommandOutput {
        let ran = self.run(arguments).await;
        assert_eq!(ran.code, Some(0), "{arguments:?}: {}\n{}", ran.stdout, ran.stderr);
        ran
    }

    fn output(&self, name: &str) -> &str {
        self.registry[name].as_str().unwrap_or_default()
    }

    fn table_arn(&self) -> String {
        format!("arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{}", self.output("table"))
    }

    /// Returns the variables that Lambda would give the function.
    async fn function_environment(&self) -> Vec<(String, String)> {
        let name = self.registry["function"]["name"].as_str().unwrap();
        let described = self
            .call("lambda", &format!("GET /2015-03-31/functions/{name}/configuration"), "")
            .await;
        let described: Value = serde_json::from_str(&described).unwrap();
        let variables = described["Environment"]["Variables"].as_object().unwrap();
        variables
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
            .collect()
    }

    /// Returns the policies of the function's role, as IAM has them.
    async fn role_policy(&self) -> Policy {
        let role = self.registry["role"]["name"].as_str().unwrap();
        let mut documents = Vec::new();
        for name in ["store", "log"] {
            let described = self
                .call(
                    "iam",
                    &format!("GetRolePolicy 2010-05-08 RoleName={role} PolicyName={name}"),
                    "",
                )
                .await;
            let document = described
                .split("<PolicyDocument>")
                .nth(1)
                .and_then(|rest| rest.split("</PolicyDocument>").next())
                .unwrap();
            documents.push(
                url::form_urlencoded::parse(
                    format!("x={}", document.replace('+', "%2B")).as_bytes(),
                )
                .next()
                .unwrap()
                .1
                .replace("&quot;", "\""),
            );
        }
        Policy::parse(documents.iter().map(String::as_str))
    }

    /// Returns a policy with those statements, for generalized requests.
    fn generalized(&self, statements: &[Value]) -> String {
        let table = self.table_arn();
        let bucket = format!("arn:aws:s3:::{}", self.output("bucket"));
        json!({ "Statement": statements })
            .to_string()
            .replace(&table, TABLE)
            .replace(&bucket, BUCKET)
            .replace(&format!("arn:aws:s3:::{}", uses::SOURCE_BUCKET), BUCKET)
            .replace(self.output("event_bus"), BUS)
            .replace(self.output("token_key_arn"), KEY)
            .replace(self.output("audit_key_arn"), KEY)
            .replace(&format!("{:?}", self.output("host")), &format!("{HOST:?}"))
    }

    /// Calls the emulator without credentials: `METHOD PATH`, `TARGET.ACTION` with a JSON body, or
    /// `ACTION VERSION NAME=VALUE…`.
    async fn call(&self, service: &str, what: &str, body: &str) -> String {
        let scope = format!(
            "AWS4-HMAC-SHA256 Credential=none/20200101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=00"
        );
        let (client, endpoint) = (client(None), self.moto.endpoint());
        let mut words = what.split(' ');
        let request = match (words.next().unwrap(), words.next()) {
            ("GET", Some(path)) => client.get(format!("{endpoint}{path}")),
            ("POST", Some(path)) => client
                .post(format!("{endpoint}{path}"))
                .header("content-type", "application/json")
                .body(body.to_owned()),
            (target, None) => client
                .post(endpoint)
                .header("x-amz-target", target)
                .header("content-type", "application/x-amz-json-1.1")
                .body(body.to_owned()),
            (action, Some(version)) => {
                let form = [&format!("Action={action}"), &format!("Version={version}")]
                    .map(String::as_str)
                    .into_iter()
                    .chain(words)
                    .collect::<Vec<_>>()
                    .join("&");
                client
                    .post(endpoint)
                    .header("content-type", "application/x-www-form-urlencoded")
                    .body(form)
            }
        };
        let answer = request
            .header("authorization", scope)
            .header("host", format!("{service}.us-east-1.amazonaws.com"))
            .send()
            .await
            .unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{service} {what}: {status} {text}");
        text
    }

    /// Counts the existing things by service.
    async fn things(&self) -> BTreeMap<String, usize> {
        let mut found = BTreeMap::new();
        for (service, what, body, mark) in LISTS {
            let count = self.call(service, what, body).await.matches(mark).count();
            found.insert(format!("{service} {what} {mark}"), count);
        }
        found
    }
}

/// A running registry: a broker with the configuration from the apply, behind a proxy, and its
/// users.
struct AtWork {
    proxy: AwsProxy,
    sts: LocalSts,
    broker: Broker,
    host: String,
    function: Identity,
    operator: Identity,
}

impl AtWork {
    async fn start(applied: &Applied) -> Self {
        let proxy = AwsProxy::start(applied.moto.endpoint());
        let sts = LocalSts::start([], Arc::new(system_time));
        let (function, operator) = (
            Identity::role("123456789012", "stile-function", "stile"),
            Identity::role("123456789012", "operator", "o"),
        );
        let broker = started(applied, &proxy, &sts, &function, "first.log").await;
        Self { proxy, sts, broker, host: applied.output("host").to_owned(), function, operator }
    }

    /// Returns a home whose programs reach the registry under its own name.
    fn home(&self, identity: &Identity) -> Home {
        self.sts.add_identity(identity.clone());
        let mut home = Home::temporary();
        home.act_as(identity, "us-east-1");
        home.configure_helper(&format!(
            "[registry.\"{}\"]\nurl = \"{}\"\n",
            self.host,
            self.broker.url("")
        ));
        home
    }

    fn asked(&self, identity: &Identity) -> BTreeSet<AwsRequest> {
        self.proxy.requests_by(&identity.access_key_id)
    }

    /// Runs a command of `stile-admin` on the table, as an operator.
    async fn operate(&self, applied: &Applied, arguments: &[&str]) -> CommandOutput {
        let mut home = Home::temporary();
        home.act_as(&self.operator, "us-east-1");
        home.variable("AWS_ENDPOINT_URL", self.proxy.endpoint());
        for (name, value) in applied.registry["environment"].as_object().unwrap() {
            home.variable(name, value.as_str().unwrap());
        }
        let ran = home.run(&program(ADMIN), arguments).await;
        assert_eq!(ran.code, Some(0), "{arguments:?}: {ran:?}");
        ran
    }

    /// Runs Terraform's own `init` on a module of the registry.
    async fn install(&self, version: &str) -> (Terraform, CommandOutput) {
        let program_file = stile_tests::skipped::tool("terraform").unwrap();
        let terraform = Terraform::new(&program_file, self.home(&deploy()));
        terraform.install_helper(&program(HELPER));
        // The name of the registry leads to the broker, as with DNS and API Gateway.
        let services = format!("{{ \"modules.v1\" = \"{}\" }}", self.broker.url("/v1/modules/"));
        let helper = std::fs::read_to_string(terraform.rc()).unwrap();
        terraform
            .write_rc(&format!("{helper}host \"{}\" {{\n  services = {services}\n}}\n", self.host));
        terraform.write_module_call("tags", &format!("{}/acme/tags/aws", self.host), version);
        let ran = terraform.init().await;
        (terraform, ran)
    }
}

/// Starts a broker process with the environment that Lambda would give it, and the function's
/// credentials.
async fn started(
    applied: &Applied,
    proxy: &AwsProxy,
    sts: &LocalSts,
    function: &Identity,
    log: &str,
) -> Broker {
    let mut setup = Setup::from_variables(free_port(), &applied.variables)
        .sts(&sts.endpoint())
        .env("AWS_ENDPOINT_URL", &proxy.endpoint());
    for (name, value) in function.environment("us-east-1") {
        setup = setup.env(name, &value);
    }
    setup.start(&applied.folder.path().join(log)).await
}

#[tokio::test]
async fn what_is_applied_is_whole_serves_and_goes_without_a_trace() {
    let Some(applied) =
        Applied::start("`examples/complete` is applied, serves, and is destroyed").await
    else {
        return;
    };
    let empty = applied.run(&["plan", "-input=false", "-detailed-exitcode"]).await;
    assert_eq!(
        empty.code,
        Some(0),
        "a second plan changes something: {}\n{}",
        empty.stdout,
        empty.stderr
    );
    assert!(
        applied.things().await.values().filter(|count| **count > 0).count() >= 15,
        "{:?}",
        applied.things().await
    );

    for line in [
        "key                  = \"platform/terraform.tfstate\"",
        "use_lockfile         = true",
        "assume_role = {",
    ] {
        assert!(applied.backend_tf.contains(line), "{line}: {}", applied.backend_tf);
    }

    let described: BTreeMap<_, _> =
        applied.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    for (name, output) in [
        ("STILE_HOST", "host"),
        ("STILE_TABLE", "table"),
        ("STILE_BUCKET", "bucket"),
        ("STILE_KMS_KEY", "token_key_arn"),
        ("STILE_AUDIT_KEY", "audit_key_arn"),
    ] {
        assert_eq!(described[name], applied.output(output), "{name}");
    }
    let (function, operator) = serve(&applied).await;
    let policy = applied.role_policy().await;
    least_privilege(&policy, &function, &UNSEEN);
    let operators = [(
        "AdminTableEncryption kms:Decrypt",
        "DynamoDB asks KMS itself, with the rights of its caller",
    )];
    let operator_policy = Policy::parse([applied.output("operator_policy")]);
    least_privilege(&operator_policy, &operator, &operators);
    let granted = [policy.statements(), operator_policy.statements()].concat();
    std::fs::write(target().join(GRANTED), applied.generalized(&granted)).unwrap();

    applied.done(&["destroy", "-input=false", "-auto-approve"]).await;
    let left = applied.things().await;
    assert!(left.values().all(|count| *count == 0), "{left:?}");
}

#[test]
#[ignore = "checks the calls of all other tests, so `tests/run` runs it last"]
fn whatever_the_suite_has_called_is_granted() {
    let read = |name: &str| std::fs::read_to_string(target().join(name)).unwrap_or_default();
    let (called, granted) = (read(CALLS), read(GRANTED));
    if granted.is_empty() {
        return skipped("hashicorp/aws", "every call of the suite is one that the module grants");
    }
    let policy = Policy::parse([granted.as_str()]);
    let requests: Vec<AwsRequest> = called
        .lines()
        .map(|line| AwsRequest::from_json(&serde_json::from_str(line).unwrap()))
        .collect();
    assert!(
        requests.iter().any(|request| request.resource() == TABLE),
        "the suite has called a table"
    );
    let refused: Vec<&AwsRequest> = requests
        .iter()
        .filter(|request| {
            !BY_HAND.contains(&request.action())
                && !BY_HAND_ON.contains(&(request.action(), request.resource()))
                && !matches!(policy.decide(request), Decision::Allowed(_))
        })
        .collect();
    assert!(refused.is_empty(), "called without a grant: {refused:#?}");
}

/// Grants with the file from the apply, publishes a module, and installs it as a user with
/// Terraform. Returns the requests that the function and the operator made to IAM.
async fn serve(applied: &Applied) -> (BTreeSet<AwsRequest>, BTreeSet<AwsRequest>) {
    let work = AtWork::start(applied).await;
    let (_, refused) = work.install("1.0.0").await;
    assert!(refused.words().contains("401 Unauthorized"), "{refused:?}");

    let grants = applied.folder.path().join("grants.json");
    std::fs::write(&grants, applied.output("grants_file")).unwrap();
    let apply = ["grant", "apply", grants.to_str().unwrap(), "--skip-expired", "--yes"];
    let granted = work.operate(applied, &apply).await;
    assert!(
        granted.stdout.starts_with("+ aws:111122223333:role/deploy on acme: download,upload\n"),
        "{granted:?}"
    );

    let publisher = work.home(&deploy());
    let module = workspace().join("tests/fixtures/module");
    let publish = [
        "module",
        "publish",
        "acme/tags/aws",
        "1.0.0",
        module.to_str().unwrap(),
        "--registry-host",
        &work.host,
    ];
    for _ in ["the first time", "again, the same"] {
        let ran = publisher.run(&program(ADMIN), &publish).await;
        assert_eq!(ran.code, Some(0), "{ran:?}\n{}", work.broker.log());
    }
    let (terraform, ran) = work.install("1.0.0").await;
    assert_eq!(ran.code, Some(0), "{ran:?}\n{}", work.broker.log());
    assert!(terraform.installed("tags").join("main.tf").is_file());

    let ready = work.broker.client().get(work.broker.url("/readyz")).send().await.unwrap();
    assert_eq!(ready.status(), 200, "{}", work.broker.log());
    exercise(applied, &work, &publisher).await;
    events_are_sent(applied, &work).await;
    (work.asked(&work.function), work.asked(&work.operator))
}

/// Waits until the broker has sent an event to the bus, and deleted its row.
async fn events_are_sent(applied: &Applied, work: &AtWork) {
    let put = AwsRequest::new("events:PutEvents", applied.output("event_bus"));
    let deleted = AwsRequest::new("dynamodb:DeleteItem", &applied.table_arn())
        .with("dynamodb:LeadingKeys", "outbox bus");
    let sent = time_limits::wait(async {
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        while !work.asked(&work.function).is_superset(&[put.clone(), deleted.clone()].into()) {
            tick.tick().await;
        }
    });
    assert!(sent.await.is_some(), "{}", work.broker.log());
}

/// Runs the other uses of the programs in the life of a registry.
async fn exercise(applied: &Applied, work: &AtWork, publisher: &Home) {
    // The state after a publish died half-way: the archive is in its place, and no row names it.
    let archive = module_zip("left behind");
    let place =
        format!("modules/acme/tags/aws/1.1.0/{}.zip", hex::encode(Sha256::digest(&archive)));
    let put = client(None).put(format!(
        "{}/{}/{place}",
        applied.moto.endpoint(),
        applied.output("bucket")
    ));
    assert_eq!(put.body(archive.clone()).send().await.unwrap().status(), 200);
    let file = applied.folder.path().join("left.zip");
    std::fs::write(&file, archive).unwrap();
    for arguments in [
        &["module", "publish", "acme/tags/aws", "1.1.0", file.to_str().unwrap()][..],
        &["module", "list"],
        &["module", "show", "acme/tags/aws", "1.1.0"],
    ] {
        let ran = publisher
            .run(&program(ADMIN), &[arguments, &["--registry-host", &work.host]].concat())
            .await;
        assert_eq!(ran.code, Some(0), "{arguments:?}: {ran:?}\n{}", work.broker.log());
    }
    let (terraform, ran) = work.install("1.1.0").await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        std::fs::read_to_string(terraform.installed("tags").join("main.tf"))
            .unwrap()
            .contains("left behind")
    );

    uses::provider(applied, work).await;
    uses::too_large_for_an_event(applied, work).await;
    uses::object_of_another_bucket(applied, work, publisher).await;
    uses::grants_through_the_api(applied, work).await;

    // The first broker created the keyring, and another one opens it. At its start, it signs the heads
    // of the audit chains.
    let second = started(applied, &work.proxy, &work.sts, &work.function, "second.log").await;
    second.logs("audit_head").await;

    let role = ["--role-arn", "arn:aws:iam::111122223333:role/deploy"];
    let on = [&role[..], &["--namespace", "acme"]].concat();
    // The publisher's first token pinned this id.
    let publisher = deploy().user_id;
    let (id, _) = publisher.split_once(':').unwrap();
    for arguments in [
        &["grant", "list"][..],
        &["grant", "list", "--namespace", "acme"],
        &[&["grant", "show"], &on[..]].concat(),
        &[&["grant", "explain", "--permission", "upload", "--unique-id", id], &on[..]].concat(),
        &[&["grant", "update", "--upload=false"], &on[..]].concat(),
        &[&["grant", "repin"], &role[..]].concat(),
        &["token", "revoke", "--principal", role[1]],
        &["token", "list"],
        &["token", "lift", "--principal", role[1]],
        &["token", "revoke", "--all", "--yes"],
        &["audit", "verify"],
        &[&["grant", "delete"], &on[..]].concat(),
    ] {
        work.operate(applied, arguments).await;
    }
}

/// Checks that a statement allows each call, and that a test called each action of each statement,
/// with listed exceptions.
fn least_privilege(policy: &Policy, called: &BTreeSet<AwsRequest>, unseen: &[(&str, &str)]) {
    assert!(!called.is_empty());
    let refused: Vec<&AwsRequest> =
        called.iter().filter(|request| policy.allowing(request).is_empty()).collect();
    assert!(refused.is_empty(), "called without a grant: {refused:#?}");
    let used: BTreeSet<String> = called
        .iter()
        .flat_map(|request| {
            let sids = policy.allowing(request).into_iter();
            sids.map(move |sid| format!("{sid} {}", request.action()))
        })
        .collect();
    let excused = |granted: &String| unseen.iter().any(|(name, _)| name == granted);
    let idle: Vec<_> = policy
        .granted()
        .into_iter()
        .filter(|granted| !used.contains(granted) && !excused(granted))
        .collect();
    assert!(idle.is_empty(), "granted but never used: {idle:?}");
    for statement in policy.statements().iter().filter(|statement| statement["Effect"] == "Allow") {
        let wide = statement["Action"].to_string().contains('*')
            || statement["Resource"].to_string().contains("\"*\"");
        assert!(statement["Sid"].is_string() && !wide, "as narrow as possible: {statement}");
    }
}
