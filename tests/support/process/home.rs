//! Runs programs in a home folder and an environment that the test controls.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;

use crate::skipped::search_path;
use crate::sts::identity::Identity;
use crate::time_limits;

/// A home folder, and the environment of its programs. They see no other variables.
#[derive(Debug)]
pub struct Home {
    folder: PathBuf,
    variables: Vec<(OsString, OsString)>,
    _temporary: Option<TempDir>,
}

/// The exit code and the output of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOutput {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    /// The standard output.
    pub stdout: String,
    /// The standard error.
    pub stderr: String,
}

impl Home {
    /// Creates an empty home with long time limits. Dropping it deletes the folder.
    pub fn temporary() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut home = Self { _temporary: Some(folder), ..Self::at(PathBuf::new()) }.with_folder();
        for (name, value) in time_limits::VARIABLES {
            home.variable(name, value);
        }
        home
    }

    /// Creates a home in that folder. Dropping it does not delete the folder.
    pub fn at(folder: PathBuf) -> Self {
        let mut home = Self { folder, variables: Vec::new(), _temporary: None };
        home.variable("PATH", search_path());
        home.variable("AWS_EC2_METADATA_DISABLED", "true");
        home.with_folder()
    }

    /// Creates a home in that folder, whose programs inherit the environment.
    ///
    /// They do not inherit variables of Terraform and Stile.
    pub fn inheriting(folder: PathBuf) -> Self {
        let ours = |name: &OsStr| {
            name.to_str()
                .is_some_and(|name| ["TF_", "STILE_"].iter().any(|prefix| name.starts_with(prefix)))
        };
        let variables = std::env::vars_os().filter(|(name, _)| !ours(name)).collect();
        Self { folder, variables, _temporary: None }.with_folder()
    }

    /// Returns the folder.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Returns the value of a variable.
    pub fn value(&self, name: &str) -> Option<&OsStr> {
        self.variables
            .iter()
            .find(|(set, _)| set.as_os_str() == name)
            .map(|(_, value)| value.as_os_str())
    }

    /// Sets a variable.
    pub fn variable(&mut self, name: &str, value: impl Into<OsString>) {
        self.unset(name);
        self.variables.push((name.into(), value.into()));
    }

    /// Removes a variable.
    pub fn unset(&mut self, name: &str) {
        self.variables.retain(|(set, _)| set.as_os_str() != name);
    }

    /// Sets the AWS credentials and the region, and removes an older session token.
    pub fn act_as(&mut self, identity: &Identity, region: &str) {
        self.unset("AWS_SESSION_TOKEN");
        for (name, value) in identity.environment(region) {
            self.variable(name, value);
        }
    }

    /// Makes programs trust that certificate authority only.
    pub fn trust(&mut self, ca: &Path) {
        self.variable("SSL_CERT_FILE", ca);
    }

    /// Writes the configuration file of the helper, and points the helper to it.
    pub fn configure_helper(&mut self, text: &str) {
        let file = self.folder.join("stile.toml");
        std::fs::write(&file, text).unwrap();
        self.variable("STILE_CONFIG", file);
    }

    /// Returns a command that runs this program in the home folder.
    pub fn command(
        &self,
        program: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(program);
        command
            .args(arguments)
            .current_dir(&self.folder)
            .env_clear()
            .envs(self.variables.iter().cloned());
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs a program in the home folder, and waits for its end.
    pub async fn run(&self, program: &Path, arguments: &[&str]) -> CommandOutput {
        CommandOutput::of(self.command(program, arguments)).await
    }

    fn with_folder(mut self) -> Self {
        if let Some(folder) = &self._temporary {
            self.folder = folder.path().to_owned();
        }
        self.variable("HOME", self.folder.clone());
        self
    }
}

impl CommandOutput {
    /// Runs a command, and waits for its end.
    pub async fn of(mut command: tokio::process::Command) -> Self {
        let Some(output) = time_limits::wait(command.output()).await else {
            panic!("`{:?}` does not end", command.as_std())
        };
        let output = match output {
            Ok(output) => output,
            Err(error) => {
                panic!("`{}` cannot be started: {error}", command.as_std().get_program().display())
            }
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// Returns standard error as one line, without the frames and line breaks for terminals.
    pub fn words(&self) -> String {
        words(&self.stderr)
    }
}

/// Returns the text as one line, without the frames and line breaks for terminals.
pub fn words(text: &str) -> String {
    let plain: String =
        text.chars().map(|c| if matches!(c, '│' | '╷' | '╵') { ' ' } else { c }).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_sees_only_the_variables_that_a_test_sets() {
        let mut home = Home::temporary();
        home.act_as(&Identity::role("111122223333", "deploy", "alice"), "us-east-1");
        home.act_as(&Identity::user("111122223333", "bob"), "eu-central-1");
        let ran = home.run(Path::new("/usr/bin/env"), &[]).await;
        let mut names: Vec<_> =
            ran.stdout.lines().filter_map(|line| line.split('=').next()).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "AWS_ACCESS_KEY_ID",
                "AWS_EC2_METADATA_DISABLED",
                "AWS_REGION",
                "AWS_SECRET_ACCESS_KEY",
                "HOME",
                "PATH",
                "STILE_STORE_TIMEOUT",
                "STILE_STS_TIMEOUT",
                "STILE_TIMEOUT",
                "TF_REGISTRY_CLIENT_TIMEOUT"
            ]
        );
        assert!(ran.stdout.contains("AWS_REGION=eu-central-1\n"), "{}", ran.stdout);
        let folder = home.path().to_owned();
        drop(home);
        assert!(!folder.exists());
    }

    #[test]
    fn words_have_no_frames_and_no_line_breaks() {
        assert_eq!(words("╷\n│ Error: no\n│ \n│ such  thing\n╵\n"), "Error: no such thing");
    }
}
