//! A machine with nothing on it but the program and a folder for the store.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A role that much is granted to.
pub(crate) const DEPLOY: &str = "arn:aws:iam::111122223333:role/deploy";

/// A home folder of its own, and an environment in which nothing else is set.
pub(crate) struct Machine {
    folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

/// What one run of the program gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: i32,
}

impl Machine {
    /// A machine without a store.
    pub(crate) fn new() -> Self {
        let machine = Self { folder: tempfile::tempdir().unwrap(), environment: Vec::new() };
        let home = machine.folder.path().to_str().unwrap().to_owned();
        machine.with("HOME", &home).with("USER", "tester").with("AWS_EC2_METADATA_DISABLED", "true")
    }

    /// A machine with a store that `STILE_DATA` names.
    pub(crate) fn with_store() -> Self {
        let machine = Self::new();
        let data = machine.path("data").to_str().unwrap().to_owned();
        let machine = machine.with("STILE_DATA", &data);
        assert_eq!(machine.run("store init").code, 0);
        machine
    }

    /// Sets a variable.
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

    /// Starts the program; words are parted by spaces.
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

    /// What a started program gave in the end.
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

    pub(crate) fn run(&self, arguments: &str) -> Run {
        self.end(self.start(arguments))
    }

    /// Runs it and expects a "yes"; gives what is on stdout, without times.
    #[track_caller]
    pub(crate) fn done(&self, arguments: &str) -> String {
        let run = self.run(arguments);
        assert_eq!(run.code, 0, "{arguments}: {}", run.stderr);
        timeless(&run.stdout)
    }

    /// The same, as JSON.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &str) -> serde_json::Value {
        serde_json::from_str(&self.done(&format!("{arguments} --output json"))).unwrap()
    }

    /// Everything the commands print, as somebody would see it on a terminal; times on stdout are left out.
    pub(crate) fn transcript(&self, commands: &[&str]) -> String {
        let mut transcript = String::new();
        for command in commands {
            let Run { stdout, stderr, code } = self.run(command);
            let stdout = timeless(&stdout);
            let shown = command.replace(self.folder.path().to_str().unwrap(), "~");
            let exit = if code == 0 { String::new() } else { format!("exit {code}\n") };
            writeln!(transcript, "$ stile-admin {shown}\n{stdout}{stderr}{exit}").unwrap();
        }
        transcript
    }
}

/// Puts a word in the place of each time, which is another one each day.
fn timeless(text: &str) -> String {
    let mut rest = text;
    let mut kept = String::new();
    while let Some(at) = rest.find("20") {
        let (before, found) = rest.split_at(at);
        kept.push_str(before);
        let time =
            found.get(..20).filter(|time| chrono::DateTime::parse_from_rfc3339(time).is_ok());
        kept.push_str(if time.is_some() { "<time>" } else { "20" });
        rest = &found[if time.is_some() { 20 } else { 2 }..];
    }
    kept + rest
}
