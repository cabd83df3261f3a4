//! Tools other than Terraform, which know no credentials helper: each reads a module with a token
//! that it gets as the table of the quickstart says, and not without one.

use std::path::Path;

use axum::Router;
use axum::http::Request;
use axum::middleware::map_response;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use stile_protocol::names::Permission::{Download, Upload};
use stile_tests::broker::served::Served;
use stile_tests::broker::{deploy, role};
use stile_tests::process::home::{CommandOutput, Home};
use stile_tests::process::node;
use stile_tests::process::programs::{HELPER, program, workspace};
use stile_tests::process::tunnel::Tunnel;
use stile_tests::skipped::{search_path, skipped, tool};
use stile_tests::terraform::scanners::{TRIVY_NEEDS, checkov, trivy};

/// The registry host. It has a dash, which the name of a variable cannot have in a shell.
const HOST: &str = "registry-1.example.com";

/// The host in the documentation.
const DOCUMENTED: &str = "registry.example.com";

/// The repository that the publisher of the module claims.
const REPOSITORY: &str = "https://git.example.com/acme/files";

/// How the quickstart gets the token `$t`.
const TOKEN: &str =
    "t=$(terraform-credentials-stile get-token token --registry-host registry.example.com)";

/// The location of the module's file, below a folder of a tool.
const FILE: &str = "registry-1.example.com/acme/files/aws/main.tf";

/// Scans with the checks in the program. Nothing is downloaded or sent, except the module.
const TRIVY: &str = "\"$TOOL\" config --quiet --format json --cache-dir \"$TMPDIR\" \
                     --skip-check-update --skip-version-check --disable-telemetry .";

/// Scans with the checks in the program.
const CHECKOV: &str = "\"$PYTHON\" \"$TOOL\" --directory . --framework terraform --skip-download \
                       --download-external-modules true --compact --output json || true";

/// Looks for newer versions. It changes nothing, and asks no platform.
const RENOVATE: &str = "git init --quiet && git add --all && \"$NODE\" \"$TOOL/dist/renovate.js\"";

/// A row of the table in the quickstart.
struct Row {
    /// The shell line that gives the token to the tool.
    line: String,
    /// The release with which a test shows it.
    release: String,
}

impl Row {
    fn of(tool: &str) -> Self {
        let page = std::fs::read_to_string(workspace().join("docs/quickstart.md")).unwrap();
        assert!(page.contains(TOKEN), "the quickstart gets the token as this test does");
        let start = format!("| {tool} | ");
        let row = page.lines().find_map(|line| line.strip_prefix(&start)).unwrap().to_owned();
        let (line, _) = row.strip_prefix('`').unwrap().split_once('`').unwrap();
        let release = row.trim_end_matches(" |").rsplit(' ').next().unwrap();
        Self { line: line.to_owned(), release: release.to_owned() }
    }

    /// Returns a script that gets a token, gives it to the tool, and runs that command.
    fn script(&self, command: &str) -> String {
        format!("{TOKEN}\n{}\n{command}", self.line).replace(DOCUMENTED, HOST)
    }
}

/// A registry with two versions of a module, and a proxy by which the tools reach it.
struct Stage {
    served: Served,
    tunnel: Tunnel,
}

impl Stage {
    async fn start() -> Self {
        Self::behind(|router| router).await
    }

    /// Starts it with a layer between the broker and the tools.
    async fn behind(between: impl FnOnce(Router) -> Router) -> Self {
        let served = Served::start_named(HOST, between).await;
        let tunnel = Tunnel::start(HOST, served.port()).await;
        served.test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
        let token = served.test.token(&deploy(), &[Upload]).await;
        for version in ["1.0.0", "1.1.0"] {
            let claims =
                format!(r#"{{"environment":"github-actions","repository":"{REPOSITORY}"}}"#);
            let request = Request::post(format!("/v1/modules/acme/files/aws/{version}"))
                .header("authorization", format!("Bearer {token}"))
                .header("content-type", "application/zip")
                .header("stile-claimed", URL_SAFE_NO_PAD.encode(claims));
            let reply = served.test.send(request.body(bucket().into()).unwrap()).await;
            assert_eq!(reply.status, 201, "{}", reply.text());
        }
        Self { served, tunnel }
    }

    /// Creates a home with one configuration that calls the module, and the helper on `PATH`.
    ///
    /// Each tool keeps what it downloads, so each run has its own home.
    fn home(&self, variables: &[(&str, &Path)]) -> Home {
        let mut home = self.served.home(&deploy());
        let folder = program(HELPER).parent().unwrap().to_owned();
        let inherited = search_path();
        let path = std::iter::once(folder).chain(std::env::split_paths(&inherited));
        home.variable("PATH", std::env::join_paths(path).unwrap());
        home.variable("HTTPS_PROXY", self.tunnel.url());
        for (name, folder) in [("TMPDIR", "tmp"), ("CONFIGURATION", "configuration")] {
            std::fs::create_dir(home.path().join(folder)).unwrap();
            home.variable(name, home.path().join(folder));
        }
        let source = self.served.source("acme/files/aws");
        let call =
            format!("module \"files\" {{\n  source  = \"{source}\"\n  version = \"1.0.0\"\n}}\n");
        std::fs::write(home.path().join("configuration/main.tf"), call).unwrap();
        for (name, value) in variables {
            home.variable(name, *value);
        }
        home
    }

    /// Checks that the tools asked for no other host.
    fn asked_for_nothing_else(&self) {
        let asked = self.tunnel.asked();
        assert!(asked.iter().all(|it| *it == format!("{HOST}:443")), "{asked:?}");
        assert!(!asked.is_empty());
    }
}

/// Runs a shell script in the folder of the configuration.
async fn run(home: &Home, script: &str) -> CommandOutput {
    let mut command = home.command(Path::new("/bin/sh"), ["-euc", script]);
    command.current_dir(home.path().join("configuration"));
    let ran = CommandOutput::of(command).await;
    assert_eq!(ran.code, Some(0), "{script}: {ran:?}");
    ran
}

/// Creates a module with a resource in which every scanner finds something.
fn bucket() -> Vec<u8> {
    use std::io::Write as _;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("main.tf", zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(b"resource \"aws_s3_bucket\" \"files\" {\n  bucket = \"files\"\n}\n").unwrap();
    zip.finish().unwrap().into_inner()
}

fn json(ran: &CommandOutput) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

/// Returns whether Trivy found something in the module.
fn trivy_scanned(report: &Value) -> bool {
    let found = |result: &Value| {
        result["Target"] == FILE && result["Misconfigurations"].as_array().is_some()
    };
    report["Results"].as_array().into_iter().flatten().any(found)
}

#[tokio::test]
async fn trivy_reads_a_module_with_a_token_and_not_without() {
    let Some(tool) = trivy() else {
        return skipped(TRIVY_NEEDS, "Trivy reads a module of the registry");
    };
    let (stage, row) = (Stage::start().await, Row::of("Trivy"));
    let home = || stage.home(&[("TOOL", &tool)]);
    assert!(!trivy_scanned(&json(&run(&home(), TRIVY).await)), "without a token");
    stage.asked_for_nothing_else();

    let report = json(&run(&home(), &row.script(TRIVY)).await);
    assert!(trivy_scanned(&report), "{report}");
    assert_eq!(report["Trivy"]["Version"], row.release);
    stage.asked_for_nothing_else();
}

/// Sends only the path of the archive's address.
async fn as_a_path(mut response: Response) -> Response {
    let headers = response.headers_mut();
    if let Some(whole) = headers.get("x-terraform-get") {
        let path = whole.to_str().unwrap().strip_prefix(&format!("https://{HOST}")).unwrap();
        assert!(path.starts_with("/v1/archives/"), "{path}");
        let path = path.parse().unwrap();
        headers.insert("x-terraform-get", path);
    }
    response
}

#[tokio::test]
async fn trivy_needs_the_whole_address_of_an_archive() {
    let Some(tool) = trivy() else {
        return skipped(TRIVY_NEEDS, "Trivy does not resolve the path of an archive");
    };
    let stage = Stage::behind(|router| router.layer(map_response(as_a_path))).await;
    let ran = run(&stage.home(&[("TOOL", &tool)]), &Row::of("Trivy").script(TRIVY)).await;
    assert!(!trivy_scanned(&json(&ran)), "{ran:?}");
}

#[tokio::test]
async fn checkov_reads_a_module_with_a_token_and_not_without() {
    let Some((python, tool)) = checkov() else {
        return skipped("python3", "checkov reads a module of the registry");
    };
    let (stage, row) = (Stage::start().await, Row::of("checkov"));
    let home = || {
        let mut home = stage.home(&[("PYTHON", &python), ("TOOL", &tool)]);
        // Without a proxy of its own, checkov trusts only public authorities.
        home.variable("PROXY_URL", stage.tunnel.url());
        for name in ["PROXY_CA_PATH", "REQUESTS_CA_BUNDLE"] {
            home.variable(name, &stage.served.files.ca);
        }
        // Without it, checkov asks the package index for a newer version.
        home.variable("CKV_SKIP_PACKAGE_UPDATE_CHECK", "true");
        home
    };
    let installed = format!("configuration/.external_modules/{HOST}/acme/files/aws/1.0.0/main.tf");

    let without = home();
    let script = row.script(CHECKOV).replace(&TOKEN.replace(DOCUMENTED, HOST), "t=wrong");
    assert!(script.starts_with("t=wrong\n"), "{script}");
    let ran = run(&without, &script).await;
    assert!(!without.path().join(&installed).exists(), "{ran:?}");
    stage.asked_for_nothing_else();

    let with = home();
    let report = json(&run(&with, &row.script(CHECKOV)).await);
    let text = std::fs::read_to_string(with.path().join(&installed)).unwrap();
    assert!(text.contains("aws_s3_bucket"), "{text}");
    assert_eq!(report["summary"]["checkov_version"], row.release);
    assert_eq!(report["summary"]["resource_count"], 1, "{report}");
    stage.asked_for_nothing_else();
}

/// Runs Renovate, and returns what it reports about the module.
async fn renovate(stage: &Stage, node: &Path, tool: &Path, script: &str) -> Value {
    let mut home = stage.home(&[("NODE", node), ("TOOL", tool)]);
    home.variable("NODE_EXTRA_CA_CERTS", &stage.served.files.ca);
    let report = home.path().join("report.json");
    home.variable("RENOVATE_REPORT_PATH", &report);
    home.variable("RENOVATE_BASE_DIR", home.path().join("renovate"));
    for (name, value) in [
        ("LOG_FORMAT", "json"),
        ("RENOVATE_DRY_RUN", "lookup"),
        ("RENOVATE_ENABLED_MANAGERS", "[\"terraform\"]"),
        ("RENOVATE_ONBOARDING", "false"),
        ("RENOVATE_PLATFORM", "local"),
        ("RENOVATE_REPORT_TYPE", "file"),
        ("RENOVATE_REQUIRE_CONFIG", "ignored"),
    ] {
        home.variable(name, value);
    }
    let ran = run(&home, script).await;
    let report: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    let files = &report["repositories"]["local"]["packageFiles"]["terraform"];
    let module = &files[0]["deps"][0];
    assert_eq!(module["depName"], format!("{HOST}/acme/files/aws"), "{report} {ran:?}");
    stage.asked_for_nothing_else();
    module.clone()
}

#[tokio::test]
#[ignore = "`make conformance` runs it, because Renovate takes minutes to install"]
async fn renovate_finds_a_newer_version_with_a_token_and_not_without() {
    let Some((node, tool)) = node::renovate() else { panic!("npm cannot install Renovate") };
    let (stage, row) = (Stage::start().await, Row::of("Renovate"));
    let package = std::fs::read_to_string(tool.join("package.json")).unwrap();
    let package: Value = serde_json::from_str(&package).unwrap();
    assert_eq!(package["version"], row.release);

    let without = renovate(&stage, &node, &tool, RENOVATE).await;
    assert!(without["updates"].as_array().is_none_or(Vec::is_empty), "{without}");

    let with = renovate(&stage, &node, &tool, &row.script(RENOVATE)).await;
    assert_eq!(with["updates"][0]["newVersion"], "1.1.0", "{with}");
    assert_eq!(with["datasource"], "terraform-module", "{with}");
    assert_eq!(with["sourceUrl"], REPOSITORY, "where Renovate looks for a changelog: {with}");
}

#[tokio::test]
async fn terraform_installs_with_a_service_token_in_a_variable_until_it_is_revoked() {
    let Some(terraform) = tool("terraform") else {
        return skipped("terraform", "Terraform sends a service token from `TF_TOKEN_…`");
    };
    let stage = Stage::start().await;
    let issued = stage.served.test.issue("ci", &["acme"], &[Download]).await;
    // Terraform writes a dash as two underscores.
    let init = format!(
        "export TF_TOKEN_registry__1_example_com={}\n\"$TOOL\" init -input=false -no-color || true",
        issued.token
    );
    let initialized = async || {
        let mut home = stage.home(&[("TOOL", &terraform)]);
        home.variable("CHECKPOINT_DISABLE", "1");
        let ran = run(&home, &init).await;
        let file = home.path().join("configuration/.terraform/modules/files/main.tf");
        (file.exists(), ran)
    };
    let (installed, ran) = initialized().await;
    // Without a provider, the rest of `init` fails.
    assert!(installed, "{ran:?}");

    assert!(stage.served.test.revoke_service_token(&issued.id).await);
    stage.served.test.advance(10);
    let (installed, ran) = initialized().await;
    assert!(!installed && ran.words().contains("401 Unauthorized"), "{ran:?}");
}

#[tokio::test]
#[ignore = "`make conformance` runs it, because Renovate takes minutes to install"]
async fn renovate_finds_a_newer_version_with_a_service_token_until_it_is_revoked() {
    let Some((node, tool)) = node::renovate() else { panic!("npm cannot install Renovate") };
    let stage = Stage::start().await;
    let issued = stage.served.test.issue("renovate", &["acme"], &[Download]).await;
    let rules = serde_json::json!([{
        "matchHost": HOST, "token": issued.token,
    }]);
    let script = format!("export RENOVATE_HOST_RULES='{rules}'\n{RENOVATE}");
    let with = renovate(&stage, &node, &tool, &script).await;
    assert_eq!(with["updates"][0]["newVersion"], "1.1.0", "{with}");

    assert!(stage.served.test.revoke_service_token(&issued.id).await);
    stage.served.test.advance(10);
    let revoked = renovate(&stage, &node, &tool, &script).await;
    assert!(revoked["updates"].as_array().is_none_or(Vec::is_empty), "{revoked}");
}
