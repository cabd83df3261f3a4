//! Other releases of the real Terraform than the one on `PATH`: HashiCorp's own code as a library, which Python packages bring.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use crate::process::venv;
use crate::skipped::skipped;

/// Hands its arguments to the library's command line.
const RUNNER: &str = include_str!("../../fixtures/terraform_release.py");

/// The program of a release, as `1.9`; none, and that is noted, where it is not to be had for this machine.
pub fn terraform_release(release: &str, shows: &str) -> Option<PathBuf> {
    let Some(python) = venv::made(
        &format!("terraform-{release}"),
        &format!("terraform-{release}-requirements.txt"),
    ) else {
        // By the name of what brings it: where Python is, CI does not pass without the releases.
        skipped("python3", &format!("Terraform {release}: {shows}"));
        return None;
    };
    let program = python.with_file_name("terraform");
    if !program.is_file() {
        // Renamed into its place, since others may be about to run it.
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
    fn a_release_is_the_one_that_is_asked_for() {
        for release in ["1.6", "1.9", "1.15"] {
            let Some(program) = terraform_release(release, "the release that is asked for") else {
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
