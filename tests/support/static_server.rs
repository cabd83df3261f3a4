//! Servers of static files over HTTPS on loopback, for the tree of an export: one in the process of the
//! test, and the real nginx.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use rustix::process::{Pid, Signal, kill_process};
use stile_broker::http::Server;
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::broker::served::system_time;
use crate::dev_ca::{DevCa, Files};
use crate::process::home::Home;
use crate::process::programs::free_port;
use crate::time_limits;

/// A server that gives each file the media type in `content-types.txt` of the tree.
#[derive(Debug)]
pub struct StaticServer {
    files: Files,
    port: u16,
    _folder: TempDir,
    _stop: oneshot::Sender<()>,
}

impl StaticServer {
    /// Starts a server of that tree.
    pub async fn start(tree: &Path) -> Self {
        let (folder, files) = certificates();
        let server = Server::bind((Ipv4Addr::LOCALHOST, 0).into(), Some(files.tls()))
            .await
            .unwrap()
            .with_timeouts(time_limits::connections());
        let port = server.address().unwrap().port();
        let tree = tree.to_owned();
        let router = Router::new().fallback(move |request: Request| {
            let path = request.uri().path().trim_start_matches('/').to_owned();
            let tree = tree.clone();
            async move {
                let types = std::fs::read_to_string(tree.join("content-types.txt")).unwrap();
                let media_type = media_type(&types, &path).ok_or(StatusCode::NOT_FOUND)?;
                let bytes = std::fs::read(tree.join(path)).map_err(|_| StatusCode::NOT_FOUND)?;
                Ok::<_, StatusCode>(([(header::CONTENT_TYPE, media_type)], bytes))
            }
        });
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(server.run(router, async {
            let _ = stopped.await;
        }));
        Self { files, port, _folder: folder, _stop: stop }
    }

    /// Returns its host, as Terraform writes it.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Creates a home that trusts the server, without any credentials.
    pub fn home(&self) -> Home {
        trusting(&self.files)
    }
}

/// A running nginx that serves a tree with the snippet in it.
#[derive(Debug)]
pub struct Nginx {
    files: Files,
    port: u16,
    folder: TempDir,
}

impl Nginx {
    /// Starts nginx. It returns when the program listens.
    pub fn start(program: &Path, tree: &Path) -> Self {
        let (folder, files) = certificates();
        let nginx = Self { files, port: free_port(), folder };
        let configuration = nginx.folder.path().join("nginx.conf");
        std::fs::write(&configuration, nginx.configuration(tree)).unwrap();
        let output = Command::new(program)
            .arg("-p")
            .arg(nginx.folder.path())
            .arg("-c")
            .arg(&configuration)
            .args(["-e", "stderr"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        nginx
    }

    fn configuration(&self, tree: &Path) -> String {
        let (folder, tree) = (self.folder.path().display(), tree.display());
        let (cert, key) = (self.files.cert.display(), self.files.key.display());
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("    {kind}_temp_path {folder}/{kind};\n"))
            .concat();
        // The folders of tests are readable for their owner only.
        let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
        format!(
            "{user}worker_processes 1;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\n\
             events {{ }}\nhttp {{\n    access_log off;\n{temporary}    server {{\n        \
             listen 127.0.0.1:{} ssl;\n        ssl_certificate {cert};\n        \
             ssl_certificate_key {key};\n        root {tree};\n        \
             include {tree}/snippets/nginx.conf;\n    }}\n}}\n",
            self.port
        )
    }

    /// Returns its host, as Terraform writes it.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Creates a home that trusts the server, without any credentials.
    pub fn home(&self) -> Home {
        trusting(&self.files)
    }

    /// Returns its certificate, and the certificate of its authority.
    pub const fn files(&self) -> &Files {
        &self.files
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let id = std::fs::read_to_string(self.folder.path().join("nginx.pid"));
        let id = id.ok().and_then(|text| text.trim().parse().ok()).and_then(Pid::from_raw);
        if let Some(id) = id {
            let _ = kill_process(id, Signal::TERM);
        }
    }
}

fn certificates() -> (TempDir, Files) {
    let folder = tempfile::tempdir().unwrap();
    let files = DevCa::new(system_time()).write(folder.path(), &["127.0.0.1"]);
    (folder, files)
}

fn trusting(files: &Files) -> Home {
    let mut home = Home::temporary();
    home.trust(&files.ca);
    home
}

/// Returns the media type of the first pattern that the path has.
fn media_type(types: &str, path: &str) -> Option<String> {
    let line = types.lines().filter_map(|line| line.split_once(' '));
    line.into_iter()
        .find(|(pattern, _)| {
            let parts = pattern.split('/').count() == path.split('/').count();
            parts && pattern.split('/').zip(path.split('/')).all(|(part, found)| fits(part, found))
        })
        .map(|(_, media_type)| media_type.trim().to_owned())
}

fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, end)) => {
            text.len() >= start.len() + end.len() && text.starts_with(start) && text.ends_with(end)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_the_type_of_its_pattern_or_none() {
        let types = "v1/*/versions   application/json\nv1/*/*.zip   application/zip\n";
        for (path, expected) in [
            ("v1/x/versions", Some("application/json")),
            ("v1/x/y.zip", Some("application/zip")),
            ("v1/x/y/versions", None),
            ("v1/x/y.zip.sig", None),
            (".stile-export.json", None),
        ] {
            assert_eq!(media_type(types, path).as_deref(), expected, "{path}");
        }
    }
}
