//! The OpenAPI document: it has every route, method and error code of the broker, the program
//! prints what the broker serves, and a real broker answers as it says.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use stile_protocol::exchange::Namespaces;
use stile_protocol::names::Permission::{CreateGrant, DeleteGrant, Download, Upload};
use stile_protocol::reply::ErrorCode;
use stile_tests::broker::contract::{document, resolve};
use stile_tests::broker::served::system_time;
use stile_tests::broker::{deploy, make_data, module_zip, role};
use stile_tests::process::home::Home;
use stile_tests::process::programs::{BROKER, Broker, Setup, free_port, program};
use stile_tests::process::schemathesis;
use stile_tests::skipped::skipped;
use stile_tests::sts::local::LocalSts;
use stile_tests::sts::proof::{Proof, document as request_document};
use tempfile::TempDir;

use super::routes::ROUTES;

/// The seed of the random requests. The same seed sends the same requests to the same broker.
const SEED: u32 = 20_261_120;

/// The most random requests for each method of each route. Requests for the bounds of each
/// parameter come in addition.
const EXAMPLES: u32 = 40;

/// What schemathesis checks in each answer.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance,negative_data_rejection,\
    unsupported_method,ignored_auth,missing_required_header";

/// Returns each object of the document, at any depth.
fn objects(value: &Value) -> Vec<&Value> {
    let inner: Box<dyn Iterator<Item = &Value>> = match value {
        Value::Object(fields) => Box::new(fields.values()),
        Value::Array(items) => Box::new(items.iter()),
        _ => Box::new(std::iter::empty()),
    };
    std::iter::once(value).chain(inner.flat_map(objects)).collect()
}

/// Returns each method of the document, with its path.
fn operations() -> Vec<(String, String, &'static Value)> {
    let paths = document()["paths"].as_object().unwrap();
    let methods = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().iter();
        methods.map(|(method, described)| (method.to_uppercase(), path.clone(), described))
    });
    methods.collect()
}

#[test]
fn the_document_has_every_method_of_every_route_and_no_other() {
    let described: BTreeSet<_> =
        operations().into_iter().map(|(method, path, _)| (method, path)).collect();
    let routes: BTreeSet<_> = ROUTES
        .iter()
        .map(|(method, route, _)| ((*method).to_owned(), (*route).to_owned()))
        .collect();
    let missing: Vec<_> = routes.difference(&described).collect();
    let unknown: Vec<_> = described.difference(&routes).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "missing: {missing:?}; unknown: {unknown:?}");
}

#[test]
fn the_document_has_every_error_code() {
    let described: BTreeSet<&str> = objects(document())
        .into_iter()
        .flat_map(|value| value["x-error-codes"].as_array().into_iter().flatten())
        .map(|code| code.as_str().unwrap())
        .collect();
    let codes: BTreeSet<&str> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(described, codes);
}

#[test]
fn each_reference_leads_somewhere_and_each_component_is_used() {
    let used: BTreeSet<&str> =
        objects(document()).into_iter().filter_map(|value| value["$ref"].as_str()).collect();
    for reference in &used {
        resolve(&json!({ "$ref": reference }));
    }
    for (kind, components) in document()["components"].as_object().unwrap() {
        for name in components.as_object().unwrap().keys() {
            let reference = format!("#/components/{kind}/{name}");
            // A requirement names a security scheme without a reference.
            assert!(kind == "securitySchemes" || used.contains(&*reference), "{reference}");
        }
    }
}

#[test]
fn each_method_has_its_own_id_and_the_parameters_of_its_path() {
    let mut ids = BTreeSet::new();
    for (method, path, described) in operations() {
        let id = described["operationId"].as_str().unwrap();
        assert!(ids.insert(id), "{method} {path} has the id of another method");
        let parameters = described["parameters"].as_array().into_iter().flatten().map(resolve);
        let described: BTreeSet<String> = parameters
            .filter(|parameter| parameter["in"] == "path")
            .map(|parameter| parameter["name"].as_str().unwrap().to_owned())
            .collect();
        let of_path: BTreeSet<String> = path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .map(str::to_owned)
            .collect();
        assert_eq!(described, of_path, "{method} {path}");
    }
}

/// A broker in its own process on the embedded store, with two versions of a module, and a token
/// with every right.
struct Registry {
    broker: Broker,
    token: String,
    _sts: LocalSts,
    _data: TempDir,
    _log: TempDir,
}

impl Registry {
    async fn start(flags: &[&str]) -> Self {
        let all = [CreateGrant, DeleteGrant, Download, Upload];
        let (data, log) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        make_data(data.path(), &role("deploy"), "*", &all).await;
        let identity = deploy();
        let sts = LocalSts::start([identity.clone()], Arc::new(system_time));
        let setup = Setup::new(free_port(), data.path()).sts(&sts.endpoint());
        let setup = flags.iter().fold(setup, |setup, flag| setup.arg(flag));
        let broker = setup.start(&log.path().join("log")).await;
        let proof = Proof::new(&identity).audience(&broker.host()).now(system_time());
        let proof = proof.document(&request_document(3600, Namespaces::All, &all)).build();
        let request = broker.client().post(broker.url("/v1/token"));
        let request = request.header("content-type", "application/json").body(proof.to_string());
        let answer = request.send().await.unwrap().text().await.unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let token = answer["token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
        let registry = Self { broker, token, _sts: sts, _data: data, _log: log };
        for (version, archive) in [("1.0.0", with_metadata()), ("1.1.0", module_zip("x"))] {
            registry.publish(version, archive).await;
        }
        registry
    }

    async fn publish(&self, version: &str, archive: Vec<u8>) {
        let url = self.broker.url(&format!("/v1/modules/acme/vpc/aws/{version}"));
        let request = self.broker.client().post(url).bearer_auth(&self.token);
        let request = request.header("content-type", "application/zip").body(archive);
        assert_eq!(request.send().await.unwrap().status(), 201);
    }

    async fn described(&self) -> (u16, String) {
        let answer = self.broker.client().get(self.broker.url("/openapi.json"));
        let answer = answer.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

/// Returns an archive with something in each list of its metadata.
fn with_metadata() -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let main = r#"
terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

variable "cidr" {
  type    = string
  default = "x"
  validation {
    condition     = true
    error_message = "no"
  }
}

output "id" {
  value = 1
}

resource "aws_vpc" "this" {}

data "aws_region" "here" {}

module "subnet" {
  source = "./modules/subnet"
}
"#;
    for (path, content) in [
        ("README.md", "# Network\n\nA network with subnets.\n"),
        ("main.tf", main),
        ("modules/subnet/main.tf", "variable \"size\" {}\n"),
        ("examples/all/main.tf", "module \"vpc\" {\n  source = \"../..\"\n}\n"),
    ] {
        zip.start_file(path, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(content.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[tokio::test]
async fn only_a_broker_with_the_flag_serves_the_document_and_the_program_prints_the_same() {
    let without = Registry::start(&[]).await;
    let (status, text) = without.described().await;
    assert_eq!(status, 404, "{text}");
    assert!(text.contains("there is no such route"), "{text}");
    let with = Registry::start(&["--openapi"]).await;
    let (status, text) = with.described().await;
    assert_eq!(status, 200, "{text}");
    let printed = Home::temporary().run(&program(BROKER), &["openapi"]).await;
    assert_eq!((printed.code, printed.stderr.as_str()), (Some(0), ""));
    let [served, printed] = [text.as_str(), printed.stdout.as_str()]
        .map(|text| serde_json::from_str::<Value>(text).unwrap());
    assert_eq!(served, printed);
    assert_eq!(&served, document());
}

/// Returns the document with two differences. An object with listed fields has no other field, so
/// that a field of an answer that the document does not list is a failure. And a parameter of a
/// path is often the one of its example, so that random requests reach the module of the registry.
fn for_random_requests() -> Value {
    let mut document = document().clone();
    for parameter in document["components"]["parameters"].as_object_mut().unwrap().values_mut() {
        if parameter["in"] == "path" && parameter["example"].is_string() {
            let (known, any) = (parameter["example"].clone(), parameter["schema"].clone());
            parameter["schema"] = json!({ "anyOf": [{ "const": known }, any] });
        }
    }
    for schema in document["components"]["schemas"].as_object_mut().unwrap().values_mut() {
        if schema.get("properties").is_some() {
            schema["additionalProperties"] = false.into();
        }
    }
    document
}

/// Returns the numbers of answers by status, from the log of the broker.
fn statuses(log: &str) -> BTreeMap<u64, usize> {
    let mut counts = BTreeMap::new();
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_default();
        if let Some(status) = line["status"].as_u64() {
            *counts.entry(status).or_insert(0) += 1;
        }
    }
    counts
}

#[tokio::test]
async fn a_real_broker_answers_random_requests_as_the_document_says() {
    let Some((python, script)) = schemathesis::installed() else {
        return skipped(
            "python3",
            "random requests get the answers of the OpenAPI document (needs Python 3.11 or later)",
        );
    };
    let registry = Registry::start(&["--openapi", "--log-format", "json"]).await;
    let home = Home::temporary();
    let file: PathBuf = home.path().join("openapi.json");
    std::fs::write(&file, for_random_requests().to_string()).unwrap();
    let (seed, examples) = (SEED.to_string(), EXAMPLES.to_string());
    let header = format!("Authorization: Bearer {}", registry.token);
    let url = registry.broker.url("");
    let arguments = [
        &[script.to_str().unwrap(), "run", file.to_str().unwrap(), "--url", &url],
        &["--header", &header, "--checks", CHECKS][..],
        &["--phases", "examples,coverage,fuzzing", "--max-examples", &examples, "--seed", &seed],
        &["--generation-database", "none", "--workers", "1"],
        &["--suppress-health-check", "all", "--no-shrink", "--continue-on-failure"],
        &["--max-redirects", "0", "--warnings", "off", "--no-color"],
    ]
    .concat();
    let ran = home.run(&python, &arguments).await;
    let counts = statuses(&registry.broker.log());
    let summary: Vec<&str> = ran.stdout.lines().filter(|line| line.contains("generated")).collect();
    let _ = writeln!(std::io::stderr(), "seed {SEED}: {summary:?}; answers by status: {counts:?}");
    assert_eq!(ran.code, Some(0), "seed {SEED}\n{}\n{}", ran.stdout, ran.stderr);
    assert!(counts.keys().all(|status| *status < 500), "{counts:?}");
    for status in [200, 201, 204, 302, 400, 403, 404, 415] {
        assert!(counts.contains_key(&status), "no request got {status}: {counts:?}");
    }
}
