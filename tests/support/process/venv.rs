//! Creates Python environments in the target folder, each once from its requirements.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::process::programs::target;
use crate::skipped::tool;

/// The folder of the requirements files.
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");

/// Returns the Python program of an environment. The first process creates the environment.
///
/// It returns `None` without `python3`, and if pip cannot install a requirement. The messages of
/// pip go to stderr.
pub fn python(name: &str, requirements: &str) -> Option<PathBuf> {
    let (python, requirements) = (tool("python3")?, Path::new(FIXTURES).join(requirements));
    let folder = target().join(format!("{name}-venv"));
    let lock = File::create(target().join(format!("{name}-venv.lock"))).unwrap();
    lock.lock().unwrap();
    let version = run(Command::new(&python).arg("--version")).unwrap();
    let wanted = format!(
        "{}{}",
        String::from_utf8_lossy(&version.stdout),
        std::fs::read_to_string(&requirements).unwrap()
    );
    let (marker, inner) = (folder.join("made-from.txt"), folder.join("bin/python"));
    if std::fs::read_to_string(&marker).is_ok_and(|made| made == wanted) {
        return Some(inner);
    }
    let _ = writeln!(
        std::io::stderr(),
        "creating {} for {name}, once; this takes a minute",
        folder.display()
    );
    let _ = std::fs::remove_dir_all(&folder);
    run(Command::new(python).args(["-m", "venv"]).arg(&folder))?;
    let mut install = Command::new(&inner);
    install.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-input",
        "--disable-pip-version-check",
        "--no-deps",
        "--require-hashes",
        // Python compiles what a test imports. pip would compile everything, which takes longer.
        "--no-compile",
    ]);
    run(install.arg("--requirement").arg(requirements))?;
    std::fs::write(marker, wanted).unwrap();
    Some(inner)
}

/// Runs a command, and returns its output. If it fails, it writes its messages to stderr.
pub(super) fn run(command: &mut Command) -> Option<Output> {
    let output = command.stdin(Stdio::null()).output().unwrap();
    if !output.status.success() {
        let _ = writeln!(std::io::stderr(), "`{command:?}` ended with {}", output.status);
        let _ = std::io::stderr().write_all(&output.stderr);
        return None;
    }
    Some(output)
}
