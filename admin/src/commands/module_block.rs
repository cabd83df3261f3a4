//! The block that uses a published version in Terraform.

use stile_core::package::Version;
use stile_protocol::names::{ModuleAddress, ProviderAddress};

/// Returns the block that uses a version of a module in Terraform.
pub(super) fn block(address: &ModuleAddress, source: &str, version: &Version) -> String {
    let label = label(address.name.as_str());
    format!("module \"{label}\" {{\n  source  = \"{source}\"\n  version = \"{version}\"\n}}")
}

/// Returns the block that uses a version of a provider in Terraform.
pub(super) fn provider_block(address: &ProviderAddress, source: &str, version: &Version) -> String {
    let label = label(address.provider_type.as_str());
    format!(
        "terraform {{\n  required_providers {{\n    {label} = {{\n      source  = \"{source}\"\n      version = \"{version}\"\n    }}\n  }}\n}}"
    )
}

/// Returns a name for a block. A name in HCL begins with no digit.
fn label(name: &str) -> String {
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        "_".to_owned() + name
    } else {
        name.to_owned()
    }
}
