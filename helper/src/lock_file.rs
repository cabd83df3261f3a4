//! Reads which providers `terraform init` selected: `.terraform.lock.hcl`.
//!
//! Terraform and OpenTofu write the same format. A reader ignores blocks and attributes that it does
//! not know.

use std::collections::BTreeSet;
use std::path::Path;

use hcl_edit::expr::Expression;
use hcl_edit::structure::{Block, Body};
use stile_protocol::names::ProviderAddress;
use terraform_credentials_stile::config;

use crate::installed::{
    self, Installed, InstalledAddress, InstalledError, InstalledVersion, is_version,
};

/// The name of the file, next to the configuration.
const LOCK_FILE: &str = ".terraform.lock.hcl";

/// Returns the selected providers, each once. `None` if there is no lock file.
///
/// # Errors
///
/// [`InstalledError`], if the file cannot be read, or has another form.
pub(crate) fn read(folder: &Path) -> Result<Option<BTreeSet<Installed>>, InstalledError> {
    let path = folder.join(LOCK_FILE);
    let Some(bytes) = installed::read_file(&path)? else { return Ok(None) };
    let text = std::str::from_utf8(&bytes).ok();
    text.and_then(parse).map(Some).ok_or(InstalledError::Damaged(path))
}

fn parse(text: &str) -> Option<BTreeSet<Installed>> {
    let body: Body = text.parse().ok()?;
    let providers = body.get_blocks("provider");
    providers.map(provider).collect()
}

/// Returns the provider of a block `provider "HOST/NAMESPACE/TYPE"`. `None` if it has another form.
fn provider(block: &Block) -> Option<Installed> {
    let [label] = block.labels.as_slice() else { return None };
    let version = match &block.body.get_attribute("version")?.value {
        Expression::String(text) => text.as_str(),
        _ => return None,
    };
    let (host, address) = label.as_str().split_once('/')?;
    let of_registry = || {
        Some(InstalledVersion {
            host: config::parse_host(host).ok()?,
            address: InstalledAddress::Provider(address.parse::<ProviderAddress>().ok()?),
            version: Some(version).filter(|text| is_version(text))?.to_owned(),
        })
    };
    // Providers of Terraform itself, such as `terraform.io/builtin/terraform`, are never in the file.
    Some(of_registry().map_or_else(|| installed::elsewhere(label.as_str()), Installed::Version))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file as Terraform 1.11 writes it.
    const WRITTEN: &str = r#"# This file is maintained automatically by "terraform init".
# Manual edits may be lost in future updates.

provider "registry.example.com/acme/dns" {
  version     = "1.2.0"
  constraints = "~> 1.0"
  hashes = [
    "h1:0Vn7pXk=",
    "zh:0ad5",
  ]
}

provider "registry.terraform.io/hashicorp/aws" {
  version = "6.0.0-beta1"
}
"#;

    fn shown(text: &str) -> Option<Vec<String>> {
        let shown = |installed: Installed| match installed {
            Installed::Version(InstalledVersion { host, address, version }) => {
                format!("{host} {address} {version}")
            }
            Installed::Elsewhere(source) => format!("elsewhere {source}"),
        };
        parse(text).map(|found| found.into_iter().map(shown).collect())
    }

    #[test]
    fn a_file_of_another_form_is_damaged() {
        for text in [
            "{",
            "provider \"a/b/c\" {",
            "provider {\n  version = \"1.0.0\"\n}\n",
            "provider \"a/b/c\" \"d\" {\n  version = \"1.0.0\"\n}\n",
            "provider \"registry.example.com/acme/dns\" {}\n",
            "provider \"registry.example.com/acme/dns\" {\n  version = 7\n}\n",
            "provider \"dns\" {\n  version = \"1.0.0\"\n}\n",
        ] {
            assert_eq!(shown(text), None, "{text}");
        }
    }

    #[test]
    fn the_providers_of_a_lock_file_are_listed_and_what_has_no_route_is_elsewhere() {
        assert_eq!(shown(""), Some(Vec::new()));
        assert_eq!(
            shown(WRITTEN).unwrap(),
            [
                "registry.example.com acme/dns 1.2.0",
                "registry.terraform.io hashicorp/aws 6.0.0-beta1"
            ]
        );
        for (label, version) in [
            ("registry.example.com/acme/dns", "../../x"),
            ("registry.example.com/acme/dns", "1.0.0?x"),
            ("registry.example.com/ac_me/dns", "1.0.0"),
            ("registry.example.com/../dns", "1.0.0"),
        ] {
            let text = format!("provider \"{label}\" {{\n  version = \"{version}\"\n}}\n");
            assert_eq!(shown(&text).unwrap(), [format!("elsewhere {label}")], "{version}");
        }
    }
}
