//! A provider of 500 MB: the real programs publish and install it, on a server and through a function
//! that is frozen after each answer. The broker stays under 60 MiB.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use stile_protocol::audience::Audience;
use stile_protocol::names::Permission::{CreateGrant, Download, Upload};
use stile_tests::aws::emulated::EmulatedAws;
use stile_tests::broker::operator::AsOperator as _;
use stile_tests::broker::served::system_time;
use stile_tests::broker::{allow, deploy, make_data, role};
use stile_tests::dev_ca::{DevCa, Files};
use stile_tests::lambda::Function;
use stile_tests::lambda::function_url::FunctionUrlServer;
use stile_tests::process::home::Home;
use stile_tests::process::programs::{ADMIN, BROKER, HELPER, Setup, free_port, program};
use stile_tests::provider::big::write_big_dist;
use stile_tests::provider::plugin::PLATFORM;
use stile_tests::skipped::{skipped, tool};
use stile_tests::sts::local::LocalSts;
use stile_tests::terraform::Terraform;
use tempfile::TempDir;

use crate::providers_stage::INITIALIZED;

/// The size of the executable for this platform, and so of its archive.
const BYTES: usize = 500_000_000;

/// The most memory that the broker may ever use, in KiB.
const MOST_MEMORY: u64 = 60 * 1024;

/// The time that the function has for an event, in seconds: the shortest that the module of Terraform
/// accepts. So the function answers after five seconds, and a gateway waits 29.
const FUNCTION_TIME: i64 = 10;

/// A publisher's machine, with a registry that listens on a port of this machine.
struct Job {
    terraform: PathBuf,
    sts: LocalSts,
    files: Files,
    port: u16,
    home: Home,
    _folder: TempDir,
}

impl Job {
    /// Returns `None` if Terraform is missing.
    fn new() -> Option<Self> {
        let Some(terraform) = tool("terraform") else {
            skipped("terraform", "a provider of 500 MB is published and installed");
            return None;
        };
        let (identity, folder) = (deploy(), tempfile::tempdir().unwrap());
        let sts = LocalSts::start([identity.clone()], Arc::new(system_time));
        let files = DevCa::new(system_time()).write(folder.path(), &["127.0.0.1"]);
        let port = free_port();
        let mut home = Home::temporary();
        home.trust(&files.ca);
        home.act_as(&identity, "us-east-1");
        home.configure_helper(&format!("[registry.\"127.0.0.1:{port}\"]\n"));
        Some(Self { terraform, sts, files, port, home, _folder: folder })
    }

    fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Runs `stile-admin provider`, which must succeed. Returns what it printed.
    async fn provider(&self, arguments: &[&str], log: impl Fn() -> String) -> String {
        let host = self.host();
        let all = [&["provider"][..], arguments, &["--registry-host", &host]].concat();
        let ran = self.home.run(&program(ADMIN), &all).await;
        assert_eq!(ran.code, Some(0), "{arguments:?}: {ran:?}\n{}", log());
        ran.stdout
    }

    /// Publishes the provider, deletes the folder, and installs the provider with real Terraform.
    async fn publishes_and_installs(self, what: &str, pid: u32, log: impl Fn() -> String) {
        let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/openpgp-private");
        let [secret, public] = ["rsa4096.asc", "rsa4096.public.asc"].map(|name| keys.join(name));
        let [secret, public] = [&secret, &public].map(|path| path.to_str().unwrap());
        self.provider(&["keys", "add", public, "--namespace", "acme"], &log).await;
        let dist = self.home.path().join("dist");
        std::fs::create_dir(&dist).unwrap();
        write_big_dist(&dist, "dns", "1.0.0", BYTES, 1);
        let folder = dist.to_str().unwrap();
        let publish = ["publish", "acme/dns", "1.0.0", folder, "--key", secret];
        let begun = Instant::now();
        let said = self.provider(&publish, &log).await;
        let published = begun.elapsed();
        assert!(said.starts_with("published acme/dns 1.0.0 "), "{said}");
        std::fs::remove_dir_all(&dist).unwrap();

        let host = self.host();
        let terraform = Terraform::new(&self.terraform, self.home);
        terraform.install_helper(&program(HELPER));
        terraform.write_main(&format!(
            "terraform {{\n  required_providers {{\n    dns = {{ source = \"{host}/acme/dns\" }}\n  }}\n}}\n"
        ));
        let begun = Instant::now();
        let ran = terraform.init().await;
        let installed = begun.elapsed();
        assert!(ran.stdout.contains(INITIALIZED), "{ran:?}\n{}", log());
        let unpacked = terraform.configuration().join(format!(
            ".terraform/providers/{host}/acme/dns/1.0.0/{PLATFORM}/terraform-provider-dns_v1.0.0"
        ));
        assert_eq!(unpacked.metadata().unwrap().len(), BYTES as u64);
        let memory = peak_memory(pid);
        let _ = writeln!(
            std::io::stderr(),
            "{what}: published in {published:.1?}, installed in {installed:.1?}, broker at most {} MiB",
            memory / 1024
        );
        assert!(memory < MOST_MEMORY, "{what}: the broker used {memory} KiB");
    }
}

/// Returns the most memory that a process ever used, in KiB.
fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_a_folder_publishes_500_mb_in_60_mib() {
    let Some(job) = Job::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    make_data(&data, &role("deploy"), "acme", &[CreateGrant, Download, Upload]).await;
    let setup = Setup::new(job.port, &data).tls(&job.files).sts(&job.sts.endpoint());
    let broker = setup.start(&folder.path().join("broker.log")).await;
    job.publishes_and_installs("a folder", broker.id(), || broker.log()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_that_is_frozen_after_each_answer_publishes_500_mb_in_60_mib() {
    let Some(job) = Job::new() else { return };
    // An emulator of its own, because it keeps each object in memory for a moment.
    let Some(aws) = EmulatedAws::start_alone().await else { return };
    let host = Audience::parse(&job.host()).unwrap();
    aws.store(None).as_operator().record_host(&host).await.unwrap();
    allow(&aws, &role("deploy"), "acme", &[CreateGrant, Download, Upload]).await;
    let mut variables = aws.environment();
    variables.push(("STILE_STS_ENDPOINT", job.sts.endpoint()));
    let variables: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let log = job.home.path().join("log");
    let function = Function::start(&program(BROKER), &variables, &log).await;
    let function = Arc::new(function.limited(FUNCTION_TIME));
    let _door = FunctionUrlServer::open(job.port, &job.files, Arc::clone(&function)).await;
    job.publishes_and_installs("a function", function.id(), || function.log()).await;
}
