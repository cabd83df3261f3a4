//! Installs schemathesis, which sends random requests by an OpenAPI document and checks the answers.

use std::path::PathBuf;
use std::process::Command;

use crate::process::venv::{python, run};

/// Returns schemathesis as a Python program and its script. The first process installs it.
///
/// It returns `None` without `python3`, if pip cannot install it, or if it does not start: below
/// Python 3.11, it needs packages that are not in its requirements here.
pub fn installed() -> Option<(PathBuf, PathBuf)> {
    let python = python("schemathesis", "schemathesis-requirements.txt")?;
    let script = python.with_file_name("schemathesis");
    run(Command::new(&python).arg(&script).arg("--version"))?;
    Some((python, script))
}
