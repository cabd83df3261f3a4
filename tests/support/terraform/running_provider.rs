//! Keeps one process of a provider for many commands of Terraform.
//!
//! Terraform starts a provider for each command and for each run of its own tests, and the start of
//! hashicorp/aws takes seconds.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

use crate::terraform::Terraform;
use crate::time_limits;

/// The variable in which Terraform reads the addresses of running providers.
///
/// See <https://developer.hashicorp.com/terraform/plugin/debugging>.
const VARIABLE: &str = "TF_REATTACH_PROVIDERS";

/// A running provider. It stops when dropped.
#[derive(Debug)]
pub struct RunningProvider {
    _process: Child,
}

impl Terraform {
    /// Starts the provider that `init` installed in that folder. All later commands use it.
    pub async fn keep_provider(&mut self, folder: &Path) -> RunningProvider {
        let program = installed(&folder.join(".terraform/providers"));
        let mut command = self.home.command(&program, ["-debug"]);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = time_limits::wait(async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if let Some(value) = line.trim().strip_prefix(VARIABLE) {
                    return value.trim_matches(['=', '\'']).to_owned();
                }
            }
            panic!("{} ended without an address", program.display())
        });
        let address = address.await.unwrap();
        // The provider must be able to write on.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        self.home.variable(VARIABLE, address);
        RunningProvider { _process: process }
    }
}

/// Returns the only provider below that folder. It may be behind a link to a mirror.
fn installed(folder: &Path) -> PathBuf {
    let mut entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let found = entries.find(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        path.is_dir() || name.starts_with("terraform-provider-")
    });
    match found {
        Some(path) if path.is_dir() => installed(&path),
        Some(path) => path,
        None => panic!("{} contains no provider", folder.display()),
    }
}
