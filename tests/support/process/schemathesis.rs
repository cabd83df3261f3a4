//! Installs schemathesis, which sends random requests by an OpenAPI document and checks the answers.

use std::path::PathBuf;

use crate::process::venv;

/// Returns schemathesis as a Python program and its script. The first process installs it.
///
/// It returns `None` without `python3`, or if pip cannot install it.
pub fn installed() -> Option<(PathBuf, PathBuf)> {
    let python = venv::python("schemathesis", "schemathesis-requirements.txt")?;
    let script = python.with_file_name("schemathesis");
    Some((python, script))
}
