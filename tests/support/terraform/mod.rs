//! Runs the real Terraform in its own home, with its provider for AWS, the state backend module,
//! and the scanners of modules.

pub mod docs;
pub mod provider;
pub mod release;
pub mod running_provider;
pub mod scanners;
pub mod state_backend;

use std::path::{Path, PathBuf};

use crate::process::home::{CommandOutput, Home};

/// Returns the URL from which Terraform fetches a location.
///
/// Terraform's installer removes its own parameters from the query. It decodes, sorts and encodes
/// the others as Go does.
pub fn as_fetched(location: &str) -> String {
    let url = url::Url::parse(location).unwrap();
    let mut pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    pairs.retain(|(name, _)| !["archive", "checksum", "filename"].contains(&name.as_str()));
    pairs.sort();
    let escaped = |text: &str| -> String {
        let escape = |byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            b' ' => "+".to_owned(),
            other => format!("%{other:02X}"),
        };
        text.bytes().map(escape).collect()
    };
    let query: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(value))).collect();
    format!("{}?{}", location.split('?').next().unwrap(), query.join("&"))
}

/// A Terraform program with its own home and one configuration.
#[derive(Debug)]
pub struct Terraform {
    program: PathBuf,
    /// The home; a test may change its environment between commands.
    pub home: Home,
}

impl Terraform {
    /// Creates a home for that program with an empty configuration, no update check, and no
    /// credentials helper.
    pub fn new(program: &Path, home: Home) -> Self {
        let mut terraform = Self { program: program.to_owned(), home };
        std::fs::create_dir_all(terraform.plugins()).unwrap();
        std::fs::create_dir_all(terraform.configuration()).unwrap();
        terraform.write_rc("");
        let rc = terraform.rc();
        terraform.home.variable("TF_CLI_CONFIG_FILE", rc);
        for (name, value) in [("CHECKPOINT_DISABLE", "1"), ("TF_IN_AUTOMATION", "1")] {
            terraform.home.variable(name, value);
        }
        terraform
    }

    /// Returns the folder in which Terraform looks for credentials helpers.
    pub fn plugins(&self) -> PathBuf {
        self.home.path().join(".terraform.d/plugins")
    }

    /// Returns the folder of `main.tf`.
    pub fn configuration(&self) -> PathBuf {
        self.home.path().join("configuration")
    }

    /// Returns the path of its CLI configuration.
    pub fn rc(&self) -> PathBuf {
        self.home.path().join(".terraformrc")
    }

    /// Writes the whole CLI configuration.
    pub fn write_rc(&self, text: &str) {
        std::fs::write(self.rc(), text).unwrap();
    }

    /// Installs a credentials helper, and names it in the CLI configuration.
    pub fn install_helper(&self, helper: &Path) {
        let name = helper.file_name().unwrap();
        std::os::unix::fs::symlink(helper, self.plugins().join(name)).unwrap();
        let short = name.to_str().unwrap().trim_start_matches("terraform-credentials-");
        self.write_rc(&format!("credentials_helper \"{short}\" {{}}\n"));
    }

    /// Writes the whole `main.tf`.
    pub fn write_main(&self, text: &str) {
        std::fs::write(self.configuration().join("main.tf"), text).unwrap();
    }

    /// Adds a module call to `main.tf`.
    pub fn write_module_call(&self, name: &str, source: &str, version: &str) {
        let main = self.configuration().join("main.tf");
        let before = std::fs::read_to_string(&main).unwrap_or_default();
        self.write_main(&format!("{before}module \"{name}\" {{\n  source  = \"{source}\"\n  version = \"{version}\"\n}}\n"));
    }

    /// Returns the folder of an installed module call.
    pub fn installed(&self, name: &str) -> PathBuf {
        self.configuration().join(".terraform/modules").join(name)
    }

    /// Runs `terraform init`.
    pub async fn init(&self) -> CommandOutput {
        self.run(&["init", "-input=false", "-no-color"]).await
    }

    /// Runs `terraform get -update`.
    pub async fn get_update(&self) -> CommandOutput {
        self.run(&["get", "-update", "-no-color"]).await
    }

    /// Runs a command in the folder of `main.tf`.
    pub async fn run(&self, arguments: &[&str]) -> CommandOutput {
        let mut command = self.home.command(&self.program, arguments);
        command.current_dir(self.configuration());
        CommandOutput::of(command).await
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::{Arc, mpsc};

    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{ServerConfig, ServerConnection, StreamOwned};

    use super::*;
    use crate::broker::served::system_time;
    use crate::dev_ca::DevCa;
    use crate::skipped::{skipped, tool};

    /// Answers every request with a discovery document and an empty list, and sends the first line
    /// of each request.
    fn serve(cert: &str, key: &str) -> (u16, mpsc::Receiver<String>) {
        let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap();
        let config = Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let mut stream =
                    StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream);
                let mut request = [0; 4096];
                let Ok(length) = stream.read(&mut request) else { continue };
                let line = String::from_utf8_lossy(&request[..length])
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .to_owned();
                let body = r#"{"modules.v1":"/v1/modules/","modules":[{"versions":[]}]}"#;
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
                    body.len()
                );
                let _ = write!(stream, "{head}connection: close\r\n\r\n{body}");
                stream.conn.send_close_notify();
                let _ = stream.flush();
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        (port, lines)
    }

    fn home(ca: &Path) -> Home {
        let mut home = Home::temporary();
        home.trust(ca);
        home
    }

    #[tokio::test]
    async fn terraform_trusts_the_authority_it_is_given_and_no_other() {
        let Some(program) = tool("terraform") else {
            return skipped("terraform", "Terraform accepts the development CA");
        };
        let now = system_time();
        let (ca, folder) = (DevCa::new(now), tempfile::tempdir().unwrap());
        let files = ca.write(folder.path(), &["127.0.0.1"]);
        let read = |path| std::fs::read_to_string(path).unwrap();
        let (port, lines) = serve(&read(&files.cert), &read(&files.key));
        let source = format!("127.0.0.1:{port}/acme/vpc/aws");

        let stranger = folder.path().join("stranger.pem");
        std::fs::write(&stranger, DevCa::new(now).pem()).unwrap();
        let refused = Terraform::new(&program, home(&stranger));
        refused.write_module_call("vpc", &source, "1.0.0");
        let ran = refused.init().await;
        assert_eq!(ran.code, Some(1));
        assert!(ran.stderr.contains("certificate signed by unknown authority"), "{ran:?}");
        assert_eq!(lines.try_recv(), Err(mpsc::TryRecvError::Empty));

        let terraform = Terraform::new(&program, home(&files.ca));
        terraform.write_module_call("vpc", &source, "1.0.0");
        for update in [false, true] {
            let ran = if update { terraform.get_update().await } else { terraform.init().await };
            assert_eq!(ran.code, Some(1));
            assert!(ran.stderr.contains("has no versions"), "{ran:?}");
            let requests: Vec<_> = lines.try_iter().collect();
            assert_eq!(
                requests,
                [
                    "GET /.well-known/terraform.json HTTP/1.1",
                    "GET /v1/modules/acme/vpc/aws/versions HTTP/1.1"
                ]
            );
        }
        assert!(!terraform.installed("vpc").exists());
    }
}
