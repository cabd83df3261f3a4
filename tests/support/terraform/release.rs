//! Installs other releases of Terraform than the one on `PATH`.
//!
//! They come from Python packages that contain HashiCorp's code as a library.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use crate::process::venv;
use crate::skipped::skipped;

/// A program that passes its arguments to the library's command line.
const RUNNER: &str = include_str!("../../fixtures/terraform_release.py");

/// The releases that tests use.
pub const RELEASES: [&str; 3] = ["1.6", "1.9", "1.15"];

/// Returns the Python program of a release's environment, and first creates that environment if
/// necessary.
pub fn python(release: &str) -> Option<PathBuf> {
    let name = format!("terraform-{release}");
    venv::python(&name, &format!("{name}-requirements.txt"))
}

/// Returns the program of a release such as `1.9`.
///
/// If the release cannot be installed, it records a skip and returns `None`.
pub fn terraform_release(release: &str, shows: &str) -> Option<PathBuf> {
    let Some(python) = python(release) else {
        // The skip names `python3`, because Python provides the releases. If CI has Python, a skip
        // then fails the run.
        skipped("python3", &format!("Terraform {release}: {shows}"));
        return None;
    };
    let program = python.with_file_name("terraform");
    if !program.is_file() {
        // Rename the program into place, because another process may start it at the same time.
        let aside = tempfile::NamedTempFile::new_in(python.parent().unwrap()).unwrap();
        std::fs::write(aside.path(), format!("#!{}\n{RUNNER}", python.display())).unwrap();
        std::fs::set_permissions(aside.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        aside.persist(&program).unwrap();
    }
    Some(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_has_the_version_that_a_test_names() {
        for release in RELEASES {
            let Some(program) = terraform_release(release, "the version of the release") else {
                continue;
            };
            let ran = std::process::Command::new(program)
                .arg("version")
                .env_clear()
                .env("CHECKPOINT_DISABLE", "1")
                .output()
                .unwrap();
            assert!(
                String::from_utf8_lossy(&ran.stdout).starts_with(&format!("Terraform v{release}.")),
                "{ran:?}"
            );
        }
    }
}
