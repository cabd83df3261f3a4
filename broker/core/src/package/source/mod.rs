//! Sources of versions that are not archives of this registry: a repository, or an archive at
//! another server. The registry hands a source to clients unchanged, and never reads it. An object of
//! an S3 bucket is the exception: the registry reads it once, when a version with it is published.
//!
//! The grammar accepts much less than clients do. Clients let the text select a local path, a
//! secret file or another server, and two programs can read an unusual URL in two ways. So each
//! source has one spelling here, and everything else is an error.

mod allowed;
mod allowed_objects;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod location;
mod module_source;
mod object;
#[cfg(test)]
mod tests;

pub use allowed::{
    AllowedEntry, AllowedSource, AllowedSources, SourceRefusal, SourcesChange, SourcesError,
};
pub use allowed_objects::AllowedObjects;
pub use location::SourceError;
pub use module_source::{GitReference, ModuleSource};
pub use object::ObjectAddress;
