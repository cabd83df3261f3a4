//! Installs the scanners that adopters of the Terraform modules run: checkov and Trivy.

use std::path::PathBuf;

use crate::process::venv;

/// What this machine needs for Trivy. Its Python package has the program for one system only.
pub const TRIVY_NEEDS: &str =
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) { "python3" } else { "x86_64-linux" };

/// Returns checkov as a Python program and its script. The first process installs it.
///
/// It returns `None` without `python3`, or if pip cannot install it.
pub fn checkov() -> Option<(PathBuf, PathBuf)> {
    let python = venv::python("checkov", "checkov-requirements.txt")?;
    let script = python.with_file_name("checkov");
    Some((python, script))
}

/// Returns the program of Trivy. The first process installs it.
///
/// It returns `None` without what [`TRIVY_NEEDS`] names, or if pip cannot install it.
pub fn trivy() -> Option<PathBuf> {
    if TRIVY_NEEDS != "python3" {
        return None;
    }
    let python = venv::python("trivy", "trivy-requirements.txt")?;
    Some(python.with_file_name("trivy"))
}
