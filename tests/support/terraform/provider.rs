//! Finds the provider hashicorp/aws in a mirror, or downloads it once from the public registry.
//!
//! The provider gets the URL of an emulator and invalid keys, so it never reaches a real account.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::aws::emulated::{ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY};
use crate::process::home::Home;
use crate::process::programs::{target, workspace};
use crate::skipped::{search_path, skipped, tool};
use crate::terraform::Terraform;

/// The versions that the tests use.
const VERSIONS: &str = "~> 5.100";

/// A script that prints a CLI configuration with a mirror. It is in a folder above the sources, or
/// next to them.
const MIRROR: &str = "shared/tools/terraform-mirror-rc";

/// Returns Terraform with an empty configuration and the provider. An emulator replaces AWS.
///
/// Without `terraform` or the provider, it records a skip and returns `None`.
pub fn terraform_on(endpoint: &str, shows: &str) -> Option<Terraform> {
    let Some(program) = tool("terraform") else {
        skipped("terraform", shows);
        return None;
    };
    let Some(rc) = cli_configuration(&program) else {
        skipped("hashicorp/aws", shows);
        return None;
    };
    let terraform = emulated(&program, endpoint);
    terraform.write_rc(rc);
    Some(terraform)
}

/// Returns Terraform from that program with an empty configuration and no provider.
///
/// An emulator replaces AWS.
pub fn emulated(program: &Path, endpoint: &str) -> Terraform {
    let mut terraform = Terraform::new(program, Home::temporary());
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID),
        ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY),
        ("AWS_REGION", REGION),
        ("AWS_ENDPOINT_URL", endpoint),
    ] {
        terraform.home.variable(name, value);
    }
    terraform
}

/// Returns the CLI configuration with which Terraform finds the provider.
///
/// Each process looks for it once.
pub fn cli_configuration(terraform: &Path) -> Option<&'static str> {
    static FOUND: OnceLock<Option<String>> = OnceLock::new();
    FOUND.get_or_init(|| from_mirror(workspace()).or_else(|| from_registry(terraform))).as_deref()
}

fn from_mirror(checkout: &Path) -> Option<String> {
    let script = checkout
        .ancestors()
        .skip(1)
        .map(|folder| folder.join(MIRROR))
        .find(|script| script.is_file())?;
    let printed = Command::new(script)
        .env_clear()
        .env("PATH", search_path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    if printed.status.success() {
        return Some(String::from_utf8(printed.stdout).unwrap());
    }
    let _ = std::io::stderr().write_all(&printed.stderr);
    None
}

/// Downloads the provider with `terraform init` into the target folder.
///
/// The unpacked provider there is a mirror for all later runs.
fn from_registry(terraform: &Path) -> Option<String> {
    let folder = target().join("terraform-provider");
    let lock = File::create(target().join("terraform-provider.lock")).unwrap();
    lock.lock().unwrap();
    let mirror = folder.join(".terraform/providers");
    let (marker, wanted) = (folder.join("made-from.txt"), format!("hashicorp/aws {VERSIONS}\n"));
    if std::fs::read_to_string(&marker).is_ok_and(|made| made == wanted) {
        return Some(mirror_at(&mirror));
    }
    let _ = writeln!(
        std::io::stderr(),
        "downloading hashicorp/aws to {}, once; this takes a minute",
        folder.display()
    );
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let requirement = format!(
        "aws = {{\n      source  = \"hashicorp/aws\"\n      version = \"{VERSIONS}\"\n    }}"
    );
    std::fs::write(
        folder.join("main.tf"),
        format!("terraform {{\n  required_providers {{\n    {requirement}\n  }}\n}}\n"),
    )
    .unwrap();
    let mut init = Command::new(terraform);
    init.args(["init", "-input=false", "-no-color"]).current_dir(&folder).stdin(Stdio::null());
    let init = init
        .env_clear()
        .env("PATH", search_path())
        .env("HOME", &folder)
        .env("CHECKPOINT_DISABLE", "1")
        .output()
        .unwrap();
    if !init.status.success() {
        let _ = std::io::stderr().write_all(&init.stderr);
        return None;
    }
    std::fs::write(marker, wanted).unwrap();
    Some(mirror_at(&mirror))
}

fn mirror_at(folder: &Path) -> String {
    let (path, provider) = (folder.display(), "[\"registry.terraform.io/hashicorp/aws\"]");
    let mirror =
        format!("filesystem_mirror {{\n    path    = \"{path}\"\n    include = {provider}\n  }}");
    format!(
        "provider_installation {{\n  {mirror}\n  direct {{\n    exclude = {provider}\n  }}\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use super::*;

    fn script(checkout: &Path, text: &str) -> PathBuf {
        let script = checkout.parent().unwrap().join(MIRROR);
        std::fs::create_dir_all(script.parent().unwrap()).unwrap();
        std::fs::write(&script, text).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        script
    }

    #[test]
    fn the_nearest_script_next_to_the_sources_or_above_names_the_mirror() {
        let folder = tempfile::tempdir().unwrap();
        let checkout = folder.path().join("trees/this");
        assert_eq!(from_mirror(&checkout), None, "without a script");
        script(&checkout, "#!/bin/sh\necho none here >&2\nexit 1\n");
        assert_eq!(from_mirror(&checkout), None, "a script that fails");
        script(&folder.path().join("trees"), "#!/bin/sh\necho above\n");
        assert_eq!(from_mirror(&checkout), None, "only the nearest script counts");
        script(&checkout, "#!/bin/sh\necho nearest\n");
        assert_eq!(from_mirror(&checkout).as_deref(), Some("nearest\n"));
        assert_eq!(from_mirror(&folder.path().join("trees")).as_deref(), Some("above\n"));
    }

    #[tokio::test]
    async fn terraform_finds_the_provider_in_its_mirror() {
        let Some(terraform) = terraform_on("http://127.0.0.1:9", "Terraform finds hashicorp/aws")
        else {
            return;
        };
        terraform.write_main("terraform {\n  required_providers {\n    aws = {\n      source = \"hashicorp/aws\"\n    }\n  }\n}\n");
        let ran = terraform.init().await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.stdout.contains("Installed hashicorp/aws v5."), "{ran:?}");
        let found = terraform.configuration().join(".terraform/providers");
        std::fs::rename(&found, terraform.home.path().join("mirror")).unwrap();
        terraform.write_rc(&mirror_at(&terraform.home.path().join("mirror")));
        let ran = terraform.init().await;
        assert!(
            ran.stdout.contains("Installed hashicorp/aws v5."),
            "the downloaded provider is a mirror: {ran:?}"
        );
    }
}
