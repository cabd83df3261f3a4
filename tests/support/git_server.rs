//! A git repository that is served over HTTPS on loopback, as files (git's "dumb" protocol).

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use stile_broker::http::Server;
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::broker::served::system_time;
use crate::dev_ca::{DevCa, Files};
use crate::process::home::Home;
use crate::time_limits;

/// The path of the repository at its server.
const PATH: &str = "acme/vpc";

/// A server with one repository.
#[derive(Debug)]
pub struct GitServer {
    git: PathBuf,
    folder: TempDir,
    files: Files,
    port: u16,
    _stop: oneshot::Sender<()>,
}

impl GitServer {
    /// Starts a server with an empty repository.
    pub async fn start(git: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certificates = folder.path().join("tls");
        std::fs::create_dir_all(&certificates).unwrap();
        let files = DevCa::new(system_time()).write(&certificates, &["127.0.0.1"]);
        let server = Server::bind((Ipv4Addr::LOCALHOST, 0).into(), Some(files.tls()))
            .await
            .unwrap()
            .with_timeouts(time_limits::connections());
        let port = server.address().unwrap().port();
        let served = folder.path().join("served");
        let router = Router::new().fallback(move |request: Request| {
            let file = served.join(request.uri().path().trim_start_matches('/'));
            async move { std::fs::read(file).map_err(|_| StatusCode::NOT_FOUND) }
        });
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(server.run(router, async {
            let _ = stopped.await;
        }));
        let server = Self { git: git.to_owned(), folder, files, port, _stop: stop };
        for path in ["work", "served/acme"] {
            std::fs::create_dir_all(server.folder.path().join(path)).unwrap();
        }
        server.run("work", &["init", "--quiet"]);
        server.run("served", &["init", "--quiet", "--bare", PATH]);
        server
    }

    /// Returns the address of the repository, as a source has it.
    pub fn source(&self) -> String {
        format!("git::https://127.0.0.1:{}/{PATH}", self.port)
    }

    /// Makes git trust the server.
    pub fn trust(&self, home: &mut Home) {
        home.variable("GIT_SSL_CAINFO", self.files.ca.clone());
    }

    /// Commits a file, and returns the id of the commit.
    pub fn commit(&self, file: &str, text: &str) -> String {
        let path = self.folder.path().join("work").join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self.run("work", &["add", "--all"]);
        self.run("work", &["commit", "--quiet", "--message", "x"]);
        self.serve();
        self.run("work", &["rev-parse", "HEAD"])
    }

    /// Creates or moves an annotated tag to the newest commit.
    pub fn tag(&self, name: &str) {
        self.run("work", &["tag", "--force", "--annotate", "--message", "x", name]);
        self.serve();
    }

    /// Copies everything to the served repository, and writes the files that clients without the
    /// newer protocol read.
    fn serve(&self) {
        let bare = format!("served/{PATH}");
        let work = self.folder.path().join("work");
        self.run(&bare, &["fetch", "--quiet", work.to_str().unwrap(), "+refs/*:refs/*"]);
        self.run(&bare, &["update-server-info"]);
    }

    /// Runs git in a folder without the configuration of the machine, and returns its output.
    fn run(&self, folder: &str, arguments: &[&str]) -> String {
        let output = Command::new(&self.git)
            .args(["-c", "init.defaultBranch=main", "-c", "protocol.file.allow=always"])
            .args(["-c", "user.name=x", "-c", "user.email=x@example.com"])
            .args(arguments)
            .current_dir(self.folder.path().join(folder))
            .env("HOME", self.folder.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env_remove("GIT_DIR")
            .output()
            .unwrap();
        assert!(output.status.success(), "git {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}
