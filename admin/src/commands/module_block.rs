//! The block that uses a published version in Terraform.

use stile_core::package::Version;
use stile_protocol::names::ModuleAddress;

/// Returns the block that uses a version in Terraform.
pub(super) fn block(address: &ModuleAddress, source: &str, version: &Version) -> String {
    let name = address.name.as_str();
    // A name in HCL begins with no digit.
    let label = if name.starts_with(|c: char| c.is_ascii_digit()) {
        "_".to_owned() + name
    } else {
        name.to_owned()
    };
    format!("module \"{label}\" {{\n  source  = \"{source}\"\n  version = \"{version}\"\n}}")
}
