//! The three programs, built from the sources as they are now, and a broker running as a process of its own.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use crate::aws::emulated::EmulatedAws;
use crate::dev_ca::Files;
use crate::process::Process;
use crate::time_limits;

/// The service.
pub const BROKER: &str = "stile-broker";

/// Terraform's credentials helper.
pub const HELPER: &str = "terraform-credentials-stile";

/// The operator's program.
pub const ADMIN: &str = "stile-admin";

/// How often it is asked.
const ASK: Duration = Duration::from_millis(20);

/// The path of a program, which is built first, once per process: a stale one is never tested.
pub fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let path = BUILT.get_or_init(build).join(name);
    assert!(path.is_file(), "`{}` was not built", path.display());
    path
}

/// The workspace's target folder.
pub fn target() -> PathBuf {
    let folder = profile_folder();
    let marked = folder.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    marked.or(folder.parent()).unwrap().to_owned()
}

/// The folder of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// A port of 127.0.0.1 that nobody listens on, and that this process hands out once.
///
/// It lies below those that systems give to connections: such a one could be taken before, or between two runs of, a broker.
pub fn free_port() -> u16 {
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    let next = NEXT.get_or_init(|| {
        let mut start = [0; 2];
        getrandom::fill(&mut start).unwrap();
        AtomicU16::new(u16::from_be_bytes(start))
    });
    let ports = std::iter::repeat_with(|| 20_000 + next.fetch_add(1, Ordering::Relaxed) % 12_000)
        .take(12_000);
    ports.into_iter().find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).unwrap()
}

/// How a broker is to be started.
#[derive(Debug)]
pub struct Setup {
    port: u16,
    tls: Option<Files>,
    command: Command,
}

impl Setup {
    /// A broker on that port of 127.0.0.1, which is its registry host too, over plain HTTP; nothing else in its environment.
    pub fn new(port: u16, data: &Path) -> Self {
        let mut setup = Self::bare(port);
        setup.command.env("STILE_DATA", data);
        setup
    }

    /// The same on AWS, or what stands in for it.
    pub fn on_aws(port: u16, aws: &EmulatedAws) -> Self {
        let mut setup = Self::bare(port);
        setup.command.envs(aws.environment());
        setup
    }

    /// A broker that is told by these variables alone which registry it is, on that port of 127.0.0.1.
    pub fn from_variables(port: u16, variables: &[(String, String)]) -> Self {
        let mut setup = Self::bare(port);
        setup
            .command
            .env_remove("STILE_HOST")
            .envs(variables.iter().map(|(name, value)| (name, value)));
        setup
    }

    fn bare(port: u16) -> Self {
        let mut command = Command::new(program(BROKER));
        command.arg("serve").env_clear().envs(time_limits::VARIABLES);
        command
            .env("STILE_HOST", format!("127.0.0.1:{port}"))
            .env("STILE_LISTEN", format!("127.0.0.1:{port}"));
        Self { port, tls: None, command }
    }

    /// Serves TLS with these files.
    #[must_use]
    pub fn tls(mut self, files: &Files) -> Self {
        self.command.env("STILE_TLS_CERT", &files.cert).env("STILE_TLS_KEY", &files.key);
        self.tls = Some(files.clone());
        self
    }

    /// Connects there for STS.
    #[must_use]
    pub fn sts(self, endpoint: &str) -> Self {
        self.env("STILE_STS_ENDPOINT", endpoint)
    }

    /// Sets one more variable, or one anew.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Adds an argument behind `serve`.
    #[must_use]
    pub fn arg(mut self, argument: &str) -> Self {
        self.command.arg(argument);
        self
    }

    /// Has another program start it, which is given the broker's own command behind its arguments; nothing changes for none.
    #[must_use]
    pub fn wrapped_by(mut self, other: &[&str]) -> Self {
        if let Some((program, arguments)) = other.split_first() {
            let mut command = Command::new(program);
            command
                .args(arguments)
                .arg(self.command.get_program())
                .args(self.command.get_args())
                .env_clear();
            command.envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
            self.command = command;
        }
        self
    }

    /// Starts it and waits until it answers; what it says on stdout and stderr goes to the file `log`.
    pub async fn start(self, log: &Path) -> Broker {
        let mut broker = self.spawn(log);
        broker.ready().await;
        broker
    }

    /// Starts it, and does not wait.
    pub fn spawn(mut self, log: &Path) -> Broker {
        let out = File::create(log).unwrap();
        self.command.stdin(Stdio::null()).stderr(out.try_clone().unwrap()).stdout(out);
        Broker {
            process: Process::start(&mut self.command),
            port: self.port,
            client: client(self.tls.as_ref()),
            tls: self.tls.is_some(),
            log: log.to_owned(),
        }
    }
}

/// A broker that runs; killed when dropped.
#[derive(Debug)]
pub struct Broker {
    process: Process,
    port: u16,
    tls: bool,
    client: reqwest::Client,
    log: PathBuf,
}

impl Broker {
    /// Its registry host, `127.0.0.1:PORT`: the audience.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The URL of a path, which begins with `/`.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", if self.tls { "https" } else { "http" }, self.host())
    }

    /// A client that trusts it and nobody else, and follows nothing.
    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Kills it in the middle of whatever it does.
    pub fn kill_9(&mut self) {
        self.process.kill_9();
    }

    /// Asks it to end and waits until it has.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.process.terminate().await
    }

    async fn ready(&mut self) {
        let answers = time_limits::wait(async {
            let mut tick = tokio::time::interval(ASK);
            loop {
                tick.tick().await;
                if let Some(status) = self.process.ended() {
                    panic!("the broker ended with {status} before it answered:\n{}", self.log());
                }
                if self
                    .client
                    .get(self.url("/healthz"))
                    .send()
                    .await
                    .is_ok_and(|answer| answer.status() == 200)
                {
                    return;
                }
            }
        });
        if answers.await.is_none() {
            panic!("the broker does not answer:\n{}", self.log());
        }
    }
}

/// A client for tests: no proxy, no redirect, no root but that authority.
pub fn client(tls: Option<&Files>) -> reqwest::Client {
    let builder = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    let roots = tls
        .map(|files| reqwest::Certificate::from_pem(&std::fs::read(&files.ca).unwrap()).unwrap());
    builder.tls_certs_only(roots).build().unwrap()
}

/// The folder of this build's profile, where programs are put.
fn profile_folder() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let folder = program.parent().unwrap();
    if folder.ends_with("deps") { folder.parent().unwrap().to_owned() } else { folder.to_owned() }
}

/// Builds all programs, as `tests/run` does: one of them alone has other features of what it depends on, and all of that would
/// be built a second time.
fn build() -> PathBuf {
    let folder = profile_folder();
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(profile) => profile,
        None => panic!("`{}` is no folder of a profile", folder.display()),
    };
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "build",
        "--quiet",
        "--workspace",
        "--bins",
        "--profile",
        profile,
        "--manifest-path",
    ]);
    let built = cargo
        .arg(workspace().join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target())
        .output()
        .unwrap();
    assert!(
        built.status.success(),
        "the programs do not build:\n{}",
        String::from_utf8_lossy(&built.stderr)
    );
    folder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_folder_is_above_this_very_program() {
        let (target, program) = (target(), std::env::current_exe().unwrap());
        assert!(
            program.starts_with(&target) && target.join("CACHEDIR.TAG").is_file(),
            "{}",
            target.display()
        );
        assert_eq!(profile_folder().parent(), Some(target.as_path()));
    }

    #[test]
    fn a_free_port_can_be_listened_on_and_is_given_to_one() {
        let (first, second) = (free_port(), free_port());
        assert_ne!(first, second);
        TcpListener::bind((Ipv4Addr::LOCALHOST, first)).unwrap();
    }
}
