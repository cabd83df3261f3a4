//! Runs an emulator of AWS that is a Python program.

use std::io::{BufRead as _, BufReader, Read as _, Seek as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::process::Process;

/// A running server. It stops when dropped, and when this process ends.
#[derive(Debug)]
pub(super) struct PythonServer {
    address: SocketAddr,
    _process: Process,
}

impl PythonServer {
    /// Starts a script that prints its port, and that ends when its standard input closes. It has
    /// only those variables.
    pub(super) fn start(python: &Path, script: &str, variables: &[(&str, &str)]) -> Self {
        let mut said = tempfile::tempfile().unwrap();
        let mut command = Command::new(python);
        command
            .arg(script)
            .env_clear()
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(said.try_clone().unwrap());
        let mut process = Process::start(&mut command);
        let mut line = String::new();
        BufReader::new(process.child().stdout.take().unwrap()).read_line(&mut line).unwrap();
        let Ok(port) = line.trim().parse::<u16>() else {
            process.kill_9();
            let mut why = String::new();
            said.rewind().unwrap();
            said.read_to_string(&mut why).unwrap();
            panic!("{script} did not start:\n{why}");
        };
        Self { address: (Ipv4Addr::LOCALHOST, port).into(), _process: process }
    }

    /// Returns the URL that it listens on: `http://127.0.0.1:PORT`.
    pub(super) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}
