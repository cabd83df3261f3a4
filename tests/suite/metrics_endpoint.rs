//! The endpoint of metrics of a real server, and the lines of a real function.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use serde_json::Value;
use stile_broker::metrics::METRICS;
use stile_protocol::names::Permission::Download;
use stile_tests::aws::emulated::EmulatedAws;
use stile_tests::broker::served::system_time;
use stile_tests::broker::{HOST, allow, deploy, make_data, role};
use stile_tests::lambda::Function;
use stile_tests::lambda::events::{Sent, Shape};
use stile_tests::process::home::Home;
use stile_tests::process::programs::{BROKER, Broker, Setup, free_port, program};
use stile_tests::skipped::{skipped, tool};
use stile_tests::sts::identity::Identity;
use stile_tests::sts::local::LocalSts;
use stile_tests::sts::proof::Proof;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// Starts a server with metrics at that port.
async fn start(folder: &Path, sts: &LocalSts, metrics: u16) -> Broker {
    let data = folder.join("data");
    make_data(&data, &role("deploy"), "acme", &[Download]).await;
    let setup = Setup::new(free_port(), &data).sts(&sts.endpoint());
    let setup = setup.arg("--metrics-listen").arg(&format!("127.0.0.1:{metrics}"));
    setup.start(&folder.join("log")).await
}

fn sts(identity: &Identity) -> LocalSts {
    LocalSts::start([identity.clone()], Arc::new(system_time))
}

#[tokio::test]
async fn a_port_that_is_taken_ends_the_server_with_one_sentence() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    make_data(folder.path(), &role("deploy"), "acme", &[Download]).await;
    let mut home = Home::temporary();
    home.variable("STILE_HOST", HOST);
    home.variable("STILE_DATA", folder.path());
    home.variable("STILE_LISTEN", format!("127.0.0.1:{}", free_port()));
    home.variable("STILE_METRICS_LISTEN", &address);
    let ran = home.run(&program(BROKER), &["serve"]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let errors: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    let [error] = &errors[..] else { panic!("{ran:?}") };
    assert!(error.contains("`--metrics-listen`") && error.contains(&address), "{error}");
    assert!(!ran.stderr.contains("listening on http"), "{ran:?}");
}

#[tokio::test]
async fn only_the_endpoint_has_the_metrics_and_it_has_nothing_else() {
    let (folder, sts, port) = (tempfile::tempdir().unwrap(), sts(&deploy()), free_port());
    let broker = start(folder.path(), &sts, port).await;
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    let answer = broker.client().get(broker.url("/metrics")).send().await.unwrap();
    assert_eq!(answer.status(), 404, "the registry has no metrics");
    for path in ["/", "/metrics/", "/healthz", "/v1/token", "/.well-known/terraform.json"] {
        let answer = broker.client().get(url(path)).send().await.unwrap();
        assert_eq!(answer.status(), 404, "{path}");
    }
    let answer = broker.client().post(url("/metrics")).send().await.unwrap();
    assert_eq!(answer.status(), 405);
    for (path, host, status) in [
        ("/metrics", "rebound.example", 421),
        ("/", "rebound.example", 421),
        ("/metrics", "localhost", 200),
    ] {
        let asked = broker.client().get(url(path)).header("host", format!("{host}:{port}"));
        assert_eq!(asked.send().await.unwrap().status(), status, "{host}{path}");
    }
    let answer = broker.client().get(url("/metrics")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(
        answer.headers()["content-type"],
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    let text = answer.text().await.unwrap();
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    assert_eq!(text.matches("# EOF").count(), 1, "{text}");
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, _) = line.split_once(' ').unwrap();
        let listed = METRICS.iter().any(|metric| {
            metric.name == name
                || metric.name.strip_suffix("_total") == Some(name)
                || metric.name.strip_suffix("_info") == Some(name)
        });
        assert!(listed, "`{name}` is not in the list");
    }
    assert!(text.contains("\nstile_connections 1\n"), "the client of the test: {text}");
    assert!(!broker.log().contains("/metrics\""), "no line for each read: {}", broker.log());
}

#[tokio::test]
async fn a_flood_of_the_endpoint_does_not_reach_the_registry() {
    let (folder, sts, port) = (tempfile::tempdir().unwrap(), sts(&deploy()), free_port());
    let broker = start(folder.path(), &sts, port).await;
    let mut open = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\n").await.unwrap();
        open.push(stream);
    }
    let answer = broker.client().get(broker.url("/healthz")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    drop(open);
    let url = format!("http://127.0.0.1:{port}/metrics");
    let answer = broker.client().get(url).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn promtool_accepts_the_metrics_of_a_server() {
    let Some(promtool) = tool("promtool") else {
        return skipped("promtool", "Prometheus's own check of the metrics");
    };
    let (folder, identity, port) = (tempfile::tempdir().unwrap(), deploy(), free_port());
    let sts = sts(&identity);
    let broker = start(folder.path(), &sts, port).await;
    let proof = Proof::new(&identity).audience(&broker.host()).now(system_time()).build();
    let asked = broker.client().post(broker.url("/v1/token"));
    let asked = asked.header("content-type", "application/json").body(proof.to_string());
    assert_eq!(asked.send().await.unwrap().status(), 200, "{}", broker.log());
    let asked = broker.client().get(broker.url("/v1/whoami")).bearer_auth("garbage");
    assert_eq!(asked.send().await.unwrap().status(), 401);
    let asked = broker.client().get(format!("http://127.0.0.1:{port}/metrics"));
    let answer = asked.header("accept", "text/plain").send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = answer.text().await.unwrap();
    assert!(text.contains("stile_decisions_total{event=\"exchange\""), "{text}");
    let mut check = tokio::process::Command::new(promtool);
    check.args(["check", "metrics"]).kill_on_drop(true);
    let mut check =
        check.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    check.stdin.take().unwrap().write_all(text.as_bytes()).await.unwrap();
    let checked = check.wait_with_output().await.unwrap();
    let said = String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()).into_owned();
    assert!(checked.status.success() && said.is_empty(), "{said}\n{text}");
}

/// Starts a function with these variables, and sends it an exchange, a request without a token and a
/// tick. Returns its log.
async fn run(aws: &EmulatedAws, more: &[(&str, &str)], log: &Path) -> String {
    let identity = deploy();
    let sts = sts(&identity);
    let mut variables = aws.environment();
    variables.push(("STILE_STS_ENDPOINT", sts.endpoint()));
    let mut variables: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    variables.push(("STILE_HOST", HOST));
    variables.extend(more);
    let function = Function::start(&program(BROKER), &variables, log).await;
    let proof = Proof::new(&identity).audience(HOST).now(system_time()).build();
    for (sent, status) in [
        (Sent::new("POST", "/v1/token").body("application/json", proof.to_string()), 200),
        (Sent::new("GET", "/v1/whoami"), 401),
    ] {
        let answer = function.invoke(&Shape::FunctionUrl.event(&sent)).await.unwrap();
        assert_eq!(Shape::FunctionUrl.reply(&answer).status, status, "{}", function.log());
    }
    let tick = serde_json::json!({"stile": {"internal": "tick", "v": 1}});
    function.invoke(&tick).await.unwrap();
    function.log()
}

#[tokio::test]
async fn a_function_writes_metrics_only_if_it_has_a_namespace_and_else_nothing_changes() {
    let Some(aws) = EmulatedAws::start().await else { return };
    allow(&aws, &role("deploy"), "acme", &[Download]).await;
    let folder = tempfile::tempdir().unwrap();
    // The first function creates the key, and has a line about it.
    run(&aws, &[], &folder.path().join("first")).await;
    let off = run(&aws, &[], &folder.path().join("off")).await;
    assert!(!off.contains("_aws") && !off.contains("stile_decisions"), "{off}");
    let namespace = [("STILE_METRICS_NAMESPACE", "Stile/test")];
    let on = run(&aws, &namespace, &folder.path().join("on")).await;
    let lines: Vec<Value> = on.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (metrics, others): (Vec<&Value>, Vec<&Value>) =
        lines.iter().partition(|line| !line["_aws"].is_null());
    assert_eq!(others.len(), off.lines().count(), "{on}\n{off}");
    for line in &metrics {
        for directive in line["_aws"]["CloudWatchMetrics"].as_array().unwrap() {
            assert_eq!(directive["Namespace"], "Stile/test", "{line}");
            for metric in directive["Metrics"].as_array().unwrap() {
                let name = metric["Name"].as_str().unwrap();
                let listed = METRICS.iter().find(|metric| metric.name == name);
                let dimensions = listed.and_then(|listed| listed.dimensions).unwrap();
                let written = directive["Dimensions"][0].as_array().unwrap();
                assert!(written.iter().eq(dimensions.iter()), "{line}");
                assert!(line[name].is_number() || line[name].is_array(), "{line}");
            }
        }
    }
    let sum = |decision: &str, code: &str| -> f64 {
        let found = metrics.iter().filter(|line| line["decision"] == decision);
        let found = found.filter(|line| line["code"] == code);
        found.filter_map(|line| line["stile_decisions_total"].as_f64()).sum()
    };
    assert!((sum("minted", "none") - 1.0).abs() < 0.1, "{on}");
    assert!((sum("refused", "unauthorized") - 1.0).abs() < 0.1, "{on}");
    let called = |service: &str| {
        let mut of = metrics.iter().filter(|line| line["service"] == service);
        of.any(|line| line["stile_service_call_duration_seconds"].is_array())
    };
    assert!(called("dynamodb") && called("kms") && called("sts"), "{on}");
}
