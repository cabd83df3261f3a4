//! A sandbox to run the program in, and a stub broker on a loopback address.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use stile_protocol::exchange::RequestDocument;

/// A temporary home folder and an environment with only the given variables.
pub(crate) struct Sandbox {
    folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

/// The output and exit code of one run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ProgramOutput {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: i32,
}

impl Sandbox {
    /// Creates a sandbox with AWS keys in its environment and no other credentials.
    pub(crate) fn new() -> Self {
        let sandbox = Self { folder: tempfile::tempdir().unwrap(), environment: Vec::new() };
        let home = sandbox.folder.path().to_str().unwrap().to_owned();
        sandbox
            .with("HOME", &home)
            .with("AWS_ACCESS_KEY_ID", "ASIAIOSFODNN7EXAMPLE")
            .with("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
            .with("AWS_SESSION_TOKEN", "IQoJb3JpZ2luX2VjEXAMPLE")
            .with("AWS_REGION", "eu-central-1")
            .with("AWS_EC2_METADATA_DISABLED", "true")
    }

    /// Sets a variable.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(existing, _)| existing != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Removes the AWS keys from the environment.
    pub(crate) fn without_keys(mut self) -> Self {
        self.environment.retain(|(name, _)| {
            !name.starts_with("AWS_") || name == "AWS_REGION" || name == "AWS_EC2_METADATA_DISABLED"
        });
        self
    }

    /// Writes the helper's configuration.
    pub(crate) fn configured(self, text: &str) -> Self {
        self.write(".config/stile/config.toml", text);
        self
    }

    /// Puts the program and a CLI configuration where `install` puts them.
    pub(crate) fn installed(self) -> Self {
        let folder = self.path(".terraform.d/plugins");
        std::fs::create_dir_all(&folder).unwrap();
        let program = env!("CARGO_BIN_EXE_terraform-credentials-stile");
        symlink(program, folder.join("terraform-credentials-stile")).unwrap();
        self.write(".terraformrc", "credentials_helper \"stile\" {}\n");
        self
    }

    /// Creates a sandbox in which `registry.example.com` is a registry of the stub broker.
    pub(crate) fn of(broker: &StubBroker) -> Self {
        Self::new()
            .configured(&format!("[registry.\"registry.example.com\"]\nurl = \"{}\"\n", broker.url))
    }

    /// Returns the environment of the program, for a test that starts it in another way.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Returns every file below the home folder with its content.
    pub(crate) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        fn walk(folder: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, files);
                } else {
                    files.push((path.clone(), std::fs::read(&path).unwrap()));
                }
            }
        }
        let mut files = Vec::new();
        walk(self.folder.path(), &mut files);
        files.sort();
        files
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> ProgramOutput {
        self.run_with_stdin(arguments, "")
    }

    pub(crate) fn run_with_stdin(&self, arguments: &[&str], stdin: &str) -> ProgramOutput {
        let mut child = Command::new(env!("CARGO_BIN_EXE_terraform-credentials-stile"))
            .args(arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A program that fails early may not read stdin.
        let _written = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| {
            String::from_utf8(bytes).unwrap().replace(self.folder.path().to_str().unwrap(), "~")
        };
        ProgramOutput {
            stdout: text(output.stdout),
            stderr: text(output.stderr),
            code: output.status.code().unwrap(),
        }
    }
}

impl ProgramOutput {
    /// Asserts empty stdout, this one line on stderr, and exit code 1.
    #[track_caller]
    pub(crate) fn fails_with(&self, line: &str) {
        assert_eq!(
            *self,
            Self { stdout: String::new(), stderr: format!("stile: {line}\n"), code: 1 }
        );
    }

    /// Asserts this stdout, empty stderr, and exit code 0.
    #[track_caller]
    pub(crate) fn prints(&self, product: &str) {
        assert_eq!(*self, Self { stdout: product.to_owned(), stderr: String::new(), code: 0 });
    }
}

/// A request that the stub broker received.
#[derive(Debug, Clone)]
pub(crate) struct ReceivedRequest {
    pub(crate) line: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

impl ReceivedRequest {
    /// Returns the body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// Returns the path of the request line.
    pub(crate) fn path(&self) -> &str {
        self.line.split(' ').nth(1).unwrap()
    }

    /// Returns the request document of a proof.
    pub(crate) fn document(&self) -> RequestDocument {
        let encoded = self.json()["request"].as_str().unwrap().to_owned();
        RequestDocument::parse(&URL_SAFE_NO_PAD.decode(encoded).unwrap()).unwrap()
    }

    /// Returns the time for which a proof is signed.
    pub(crate) fn signed_at(&self) -> DateTime<Utc> {
        let text = self.json()["amz_date"].as_str().unwrap().to_owned();
        NaiveDateTime::parse_from_str(&text, "%Y%m%dT%H%M%SZ").unwrap().and_utc()
    }
}

/// Responds on a loopback address as the test wants, and records the requests.
pub(crate) struct StubBroker {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<ReceivedRequest>>>,
}

impl StubBroker {
    /// Starts a broker whose response depends on the request and its number, from 0.
    pub(crate) fn new(
        response: impl Fn(usize, &ReceivedRequest) -> String + Send + Sync + 'static,
    ) -> Self {
        Self::answering(usize::MAX, response)
    }

    /// Starts a broker that closes its port after so many requests.
    pub(crate) fn answering(
        requests_until_closed: usize,
        response: impl Fn(usize, &ReceivedRequest) -> String + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let response = Arc::new(response);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten().take(requests_until_closed) {
                let (seen, response) = (Arc::clone(&seen), Arc::clone(&response));
                std::thread::spawn(move || serve(stream, &seen, response.as_ref()));
            }
        });
        Self { url, requests }
    }

    /// Starts a broker that grants a token to every request.
    pub(crate) fn granting_every_token() -> Self {
        Self::new(|number, _| token_reply(&format!("stile_v4.local.number-{number}"), 3600))
    }

    pub(crate) fn requests(&self) -> Vec<ReceivedRequest> {
        self.requests.lock().unwrap().clone()
    }
}

fn serve(
    mut stream: TcpStream,
    seen: &Mutex<Vec<ReceivedRequest>>,
    response: &(impl Fn(usize, &ReceivedRequest) -> String + ?Sized),
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut lines = (&mut reader).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let Some(line) = lines.next() else { return };
    let headers: HashMap<_, _> = lines
        .filter_map(|line| {
            line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        })
        .collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let request = ReceivedRequest { line, headers, body: String::from_utf8(body).unwrap() };
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        seen.len() - 1
    };
    let _written = stream.write_all(response(number, &request).as_bytes());
}

/// Starts a TLS server with this certificate and key, which closes after the handshake. Returns its URL.
pub(crate) fn tls_server(certificate: &CertificateDer<'static>, key: &rcgen::KeyPair) -> String {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let _refused = session.complete_io(&mut stream);
        }
    });
    url
}

/// Builds an HTTP response.
pub(crate) fn http(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Builds the response with Terraform's discovery document, and the time of the server.
pub(crate) fn discovery(time: DateTime<Utc>) -> String {
    let date = format!("date: {}\r\n", time.format("%a, %d %b %Y %H:%M:%S GMT"));
    http("200 OK", &date, r#"{"modules.v1":"/v1/modules/"}"#)
}

/// Builds a response with a token that expires after this many seconds.
pub(crate) fn token_reply(token: &str, seconds: i64) -> String {
    let expires_at = now() + TimeDelta::seconds(seconds);
    let body = serde_json::json!({
        "token": token, "expires_at": rfc3339(expires_at), "principal": "aws:111122223333:role/deploy",
        "namespaces": "all", "permissions": ["download"],
    });
    http("200 OK", "", &body.to_string())
}

/// Builds a broker's error response.
pub(crate) fn refusal(
    status: &str,
    code: &str,
    message: &str,
    hint: Option<&str>,
    server_time: &str,
) -> String {
    let mut body =
        serde_json::json!({ "error": code, "message": message, "server_time": server_time });
    if let Some(hint) = hint {
        body["hint"] = hint.into();
    }
    http(status, "", &body.to_string())
}

/// Adds the id of a request to a broker's error response.
pub(crate) fn with_request_id(response: &str, id: &str) -> String {
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let mut body: serde_json::Value = serde_json::from_str(body).unwrap();
    body["request_id"] = id.into();
    http(head.lines().next().unwrap().split_once(' ').unwrap().1, "", &body.to_string())
}

/// Returns the system time, as the program under test sees it.
#[expect(
    clippy::disallowed_methods,
    reason = "the program under test uses the system time, and the responses must match it"
)]
pub(crate) fn now() -> DateTime<Utc> {
    Utc::now()
}

pub(crate) fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}
