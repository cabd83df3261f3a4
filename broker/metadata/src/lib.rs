//! Reads what the archive of a module says about itself: README, inputs, outputs, resources and
//! what it depends on.
//!
//! It only parses. It runs nothing, and has no network and no store. A file that does not parse is
//! never an error: the result has a warning and the rest.
//!
//! The modules import each other in this order only: `limits`, `model`, `notes`, `names`,
//! `declarations`, `cost`, `hcl`, `json`, `assemble`, `archive`, `registry_shape`,
//! `description`.

mod archive;
mod assemble;
mod cost;
mod declarations;
mod description;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod hcl;
mod json;
mod limits;
mod model;
mod names;
mod notes;
mod registry_shape;

#[cfg(test)]
mod tests;

pub use archive::read;
pub use limits::Limits;
pub use model::{
    FORMAT, FormatError, Input, Metadata, Module, ModuleCall, Output, Provider, Resource,
    Validation, Warning,
};
pub use registry_shape::RegistryShape;
