//! A clean environment for the program, with a home folder for the store.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// The role of most grants in the tests.
pub(crate) const DEPLOY: &str = "arn:aws:iam::111122223333:role/deploy";

/// A temporary home folder, with an otherwise empty environment.
pub(crate) struct Machine {
    folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

/// The result of one run of the program.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: i32,
}

impl Machine {
    /// Creates a machine without a store.
    pub(crate) fn new() -> Self {
        let machine = Self { folder: tempfile::tempdir().unwrap(), environment: Vec::new() };
        let home = machine.folder.path().to_str().unwrap().to_owned();
        machine.with("HOME", &home).with("USER", "tester").with("AWS_EC2_METADATA_DISABLED", "true")
    }

    /// Creates a machine with a store in `STILE_DATA`.
    pub(crate) fn with_store() -> Self {
        let machine = Self::new();
        let data = machine.path("data").to_str().unwrap().to_owned();
        let machine = machine.with("STILE_DATA", &data);
        assert_eq!(machine.run("store init").code, 0);
        machine
    }

    /// Sets an environment variable.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(there, _)| there != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file below the home folder.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Starts the program. Spaces separate the arguments.
    pub(crate) fn start(&self, arguments: &str) -> Child {
        Command::new(env!("CARGO_BIN_EXE_stile-admin"))
            .args(arguments.split(' ').filter(|word| !word.is_empty()))
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Waits for a started program, and returns its result.
    pub(crate) fn end(&self, child: Child) -> Run {
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| {
            String::from_utf8(bytes).unwrap().replace(self.folder.path().to_str().unwrap(), "~")
        };
        Run {
            stdout: text(output.stdout),
            stderr: text(output.stderr),
            code: output.status.code().unwrap(),
        }
    }

    /// Runs a script of the shell, which finds only this program and its own commands.
    pub(crate) fn shell(&self, options: &str, script: &str) -> Run {
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_stile-admin"));
        let child = Command::new("/bin/sh")
            .args([options, "-c", script])
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("PATH", program.parent().unwrap())
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        self.end(child)
    }

    pub(crate) fn run(&self, arguments: &str) -> Run {
        self.end(self.start(arguments))
    }

    /// Runs the program, asserts success, and returns stdout without times.
    #[track_caller]
    pub(crate) fn done(&self, arguments: &str) -> String {
        let run = self.run(arguments);
        assert_eq!(run.code, 0, "{arguments}: {}", run.stderr);
        timeless(&run.stdout)
    }

    /// Runs the program like [`Self::done`], and parses its output as JSON.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &str) -> serde_json::Value {
        serde_json::from_str(&self.done(&format!("{arguments} --output json"))).unwrap()
    }

    /// Returns the output of the commands as on a terminal. It replaces times on stdout.
    pub(crate) fn transcript(&self, commands: &[&str]) -> String {
        let mut transcript = String::new();
        for command in commands {
            let Run { stdout, stderr, code } = self.run(command);
            let stdout = timeless(&stdout);
            let printed = command.replace(self.folder.path().to_str().unwrap(), "~");
            let exit = if code == 0 { String::new() } else { format!("exit {code}\n") };
            writeln!(transcript, "$ stile-admin {printed}\n{stdout}{stderr}{exit}").unwrap();
        }
        transcript
    }
}

/// Replaces each time with a placeholder.
fn timeless(text: &str) -> String {
    let mut rest = text;
    let mut result = String::new();
    while let Some(at) = rest.find("20") {
        let (before, found) = rest.split_at(at);
        result.push_str(before);
        let time =
            found.get(..20).filter(|time| chrono::DateTime::parse_from_rfc3339(time).is_ok());
        result.push_str(if time.is_some() { "<time>" } else { "20" });
        rest = &found[if time.is_some() { 20 } else { 2 }..];
    }
    result + rest
}
