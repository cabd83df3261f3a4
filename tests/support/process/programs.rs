//! Builds the three programs from the current sources, and runs the broker as its own process.

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

/// The broker.
pub const BROKER: &str = "stile-broker";

/// Terraform's credentials helper.
pub const HELPER: &str = "terraform-credentials-stile";

/// The admin program.
pub const ADMIN: &str = "stile-admin";

/// The time between two checks of an event, for example that the broker answers.
const ASK: Duration = Duration::from_millis(20);

/// Returns the path of a program.
///
/// The first call in a process builds all programs, so tests never run an old one.
pub fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let path = BUILT.get_or_init(build).join(name);
    assert!(path.is_file(), "cargo did not build `{}`", path.display());
    path
}

/// Returns the workspace's target folder.
pub fn target() -> PathBuf {
    let folder = profile_folder();
    let marked = folder.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    marked.or(folder.parent()).unwrap().to_owned()
}

/// Returns the folder of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Returns a free port of 127.0.0.1. A process returns a port only once.
///
/// The port is outside the range of ephemeral ports. So no outgoing connection takes it before the
/// broker.
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

/// The settings with which a test starts a broker.
#[derive(Debug)]
pub struct Setup {
    port: u16,
    tls: Option<Files>,
    command: Command,
}

impl Setup {
    /// Sets up a broker over plain HTTP on that port of 127.0.0.1.
    ///
    /// The address is also the registry host. The broker inherits no environment.
    pub fn new(port: u16, data: &Path) -> Self {
        let mut setup = Self::bare(port);
        setup.command.env("STILE_DATA", data);
        setup
    }

    /// Sets up a broker over plain HTTP with a store on an emulated AWS.
    pub fn on_aws(port: u16, aws: &EmulatedAws) -> Self {
        let mut setup = Self::bare(port);
        setup.command.envs(aws.environment());
        setup
    }

    /// Sets up a broker on that port of 127.0.0.1 that gets its registry from these variables only.
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

    /// Sets the URL of the STS.
    #[must_use]
    pub fn sts(self, endpoint: &str) -> Self {
        self.env("STILE_STS_ENDPOINT", endpoint)
    }

    /// Sets one variable, or replaces it.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Adds an argument after `serve`.
    #[must_use]
    pub fn arg(mut self, argument: &str) -> Self {
        self.command.arg(argument);
        self
    }

    /// Selects another build of the broker.
    #[must_use]
    pub fn run_by(mut self, broker: &Path) -> Self {
        let mut command = Command::new(broker);
        command.args(self.command.get_args()).env_clear();
        command.envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        self.command = command;
        self
    }

    /// Starts the broker through another command, which gets the broker's command as its last
    /// arguments.
    ///
    /// An empty command changes nothing.
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

    /// Starts the broker, and waits until it answers. Its output goes to the file `log`.
    pub async fn start(self, log: &Path) -> Broker {
        let mut broker = self.spawn(log);
        broker.ready().await;
        broker
    }

    /// Starts the broker, and does not wait.
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

/// A running broker. Dropping it kills the process.
#[derive(Debug)]
pub struct Broker {
    process: Process,
    port: u16,
    tls: bool,
    client: reqwest::Client,
    log: PathBuf,
}

impl Broker {
    /// Returns the registry host, `127.0.0.1:PORT`, which is the audience.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns the URL of a path, which starts with `/`.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", if self.tls { "https" } else { "http" }, self.host())
    }

    /// Returns a client that trusts only this broker, and follows no redirects.
    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// Returns the broker's output so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned()
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Kills the broker with SIGKILL.
    pub fn kill_9(&mut self) {
        self.process.kill_9();
    }

    /// Sends SIGHUP, and does not wait.
    pub fn send_hangup(&self) {
        self.process.send_hangup();
    }

    /// Waits until the log contains the text.
    pub async fn logs(&self, text: &str) {
        let logged = time_limits::wait(async {
            let mut tick = tokio::time::interval(ASK);
            while !self.log().contains(text) {
                tick.tick().await;
            }
        });
        assert!(logged.await.is_some(), "the log has no `{text}`:\n{}", self.log());
    }

    /// Sends SIGTERM, and waits for the end of the process.
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

/// How long a client keeps a connection without a request.
///
/// The broker closes one after ten seconds. On a busy machine, a client that keeps it for as long sends
/// a request at the moment at which the broker closes it.
const KEPT: Duration = Duration::from_secs(3);

/// Creates a client that uses no proxy, follows no redirects, and trusts only that authority.
pub fn client(tls: Option<&Files>) -> reqwest::Client {
    let builder = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .pool_idle_timeout(KEPT);
    let roots = tls
        .map(|files| reqwest::Certificate::from_pem(&std::fs::read(&files.ca).unwrap()).unwrap());
    builder.tls_certs_only(roots).build().unwrap()
}

/// Returns the target folder of this build profile, where cargo writes programs.
fn profile_folder() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let folder = program.parent().unwrap();
    if folder.ends_with("deps") { folder.parent().unwrap().to_owned() } else { folder.to_owned() }
}

/// Builds all programs, as `tests/run` does.
///
/// A build of one program would build its dependencies again with other features.
fn build() -> PathBuf {
    let folder = profile_folder();
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(profile) => profile,
        None => panic!("`{}` is not the folder of a build profile", folder.display()),
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
    fn this_program_is_in_the_target_folder() {
        let (target, program) = (target(), std::env::current_exe().unwrap());
        // Cargo marks the folder with `CACHEDIR.TAG` only if it created the folder itself.
        assert!(program.starts_with(&target), "{}", target.display());
        assert_eq!(profile_folder().parent(), Some(target.as_path()));
    }

    #[test]
    fn a_free_port_is_free_and_returned_once() {
        let (first, second) = (free_port(), free_port());
        assert_ne!(first, second);
        TcpListener::bind((Ipv4Addr::LOCALHOST, first)).unwrap();
    }
}
