//! Sets the stage of the demo: a folder in `target/`, a certificate authority, an STS, and the
//! broker.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Sts;
use super::show::{Failed, Show, short};
use crate::broker::served::system_time;
use crate::dev_ca::{DevCa, Files};
use crate::process::home::Home;
use crate::process::programs::{Broker, Setup, free_port, target};
use crate::sts::identity::Identity;
use crate::sts::local::LocalSts;

/// The registry's port, if it is free.
const PORT: u16 = 8443;

/// The account of the throw-away keys.
const ACCOUNT: &str = "111122223333";

/// The files in which operating systems have the root certificates that they trust.
const ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Everything that exists before the first command.
pub(super) struct Stage {
    /// `target/demo`.
    pub(super) folder: PathBuf,
    /// The registry's port.
    pub(super) port: u16,
    /// The registry's certificate and the authority's certificate.
    pub(super) files: Files,
    /// The local STS; `None` with the STS of AWS.
    pub(super) sts: Option<LocalSts>,
    _lock: File,
}

impl Stage {
    /// Creates an empty folder, and everything that needs no command.
    pub(super) fn set(show: &mut Show, sts: Sts) -> Result<Self, Failed> {
        show.step("A new folder for everything: the demo changes nothing else on this machine");
        let folder = target().join("demo");
        let lock =
            File::create(target().join("demo.lock")).map_err(|error| failed(&folder, &error))?;
        if lock.try_lock().is_err() {
            return Err(Failed::new(format!("another demo is running in `{}`", short(&folder))));
        }
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(|error| failed(&folder, &error))?;
        }
        std::fs::create_dir_all(&folder).map_err(|error| failed(&folder, &error))?;
        show.note(&short(&folder));

        show.step("A certificate authority for the demo, because Terraform talks to registries only over TLS");
        let files = DevCa::new(system_time()).write(&folder, &["127.0.0.1"]);
        let port = if std::net::TcpListener::bind(("127.0.0.1", PORT)).is_ok() {
            PORT
        } else {
            free_port()
        };
        show.note(&format!(
            "{} signed a certificate for 127.0.0.1; the registry's host is 127.0.0.1:{port}",
            short(&files.ca)
        ));

        let sts = match sts {
            Sts::Aws => {
                show.step("AWS identifies you: the broker asks the real STS with a request that your credentials sign");
                show.note("the credentials are those that AWS tools find; their secrets stay on this machine");
                None
            }
            Sts::Local => {
                show.step("A local STS that verifies signatures as AWS does, with throw-away keys of three roles");
                let sts = LocalSts::start([], Arc::new(system_time));
                show.note(&format!(
                    "{} replaces AWS; the roles are `publisher`, `deploy` and `intern`",
                    sts.endpoint()
                ));
                Some(sts)
            }
        };
        Ok(Self { folder, port, files, sts, _lock: lock })
    }

    /// Returns the registry's host.
    pub(super) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns the data folder of the broker.
    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Returns the path of Terraform's CLI configuration.
    pub(super) fn rc(&self) -> PathBuf {
        self.folder.join("home/.terraformrc")
    }

    /// Returns the folder of the configuration that Terraform initializes.
    pub(super) fn configuration(&self) -> PathBuf {
        self.folder.join("configuration")
    }

    /// Creates a home with new keys of a role, and adds the keys to the local STS.
    pub(super) fn home_of(&self, role: &str) -> (Home, Identity) {
        let identity = Identity::role(ACCOUNT, role, "demo");
        if let Some(sts) = &self.sts {
            sts.add_identity(identity.clone());
        }
        let mut home = Home::at(self.home_folder());
        home.act_as(&identity, "us-east-1");
        home.trust(&self.files.ca);
        (self.with_terraform(home), identity)
    }

    /// Creates a home in which AWS tools find the caller's own configuration.
    pub(super) fn home_of_caller(&self) -> Result<Home, Failed> {
        let mut home = Home::inheriting(self.home_folder());
        let (own, here) = (
            std::env::home_dir().unwrap_or_default().join(".aws"),
            self.home_folder().join(".aws"),
        );
        if own.is_dir() && !here.exists() {
            std::os::unix::fs::symlink(&own, &here).map_err(|error| failed(&here, &error))?;
        }
        // `SSL_CERT_FILE` also applies to the AWS SDK, which must still trust AWS.
        let system = home
            .value("SSL_CERT_FILE")
            .map(PathBuf::from)
            .into_iter()
            .chain(ROOTS.map(PathBuf::from));
        let roots = system.filter_map(|file| std::fs::read(file).ok()).next().unwrap_or_default();
        let own = std::fs::read(&self.files.ca).map_err(|error| failed(&self.files.ca, &error))?;
        let bundle = self.folder.join("roots.pem");
        std::fs::write(&bundle, [roots, own].join(&b'\n'))
            .map_err(|error| failed(&bundle, &error))?;
        home.trust(&bundle);
        Ok(self.with_terraform(home))
    }

    /// Starts the broker, and waits until it answers.
    pub(super) async fn serve(&self, caller: Option<&Home>) -> Broker {
        let mut setup = Setup::new(self.port, &self.data()).tls(&self.files);
        if let Some(sts) = &self.sts {
            setup = setup.sts(&sts.endpoint());
        }
        // The broker needs the bundle to reach AWS if the system has its root certificates in an
        // unusual place.
        if let Some(bundle) =
            caller.and_then(|home| home.value("SSL_CERT_FILE")).and_then(|file| file.to_str())
        {
            setup = setup.env("SSL_CERT_FILE", bundle);
        }
        setup.start(&self.folder.join("broker.log")).await
    }

    fn home_folder(&self) -> PathBuf {
        let folder = self.folder.join("home");
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn with_terraform(&self, mut home: Home) -> Home {
        home.variable("TF_CLI_CONFIG_FILE", self.rc());
        home.variable("CHECKPOINT_DISABLE", "1");
        home
    }
}

pub(super) fn failed(path: &Path, error: &std::io::Error) -> Failed {
    Failed::new(format!("`{}` cannot be created: {error}", short(path)))
}
