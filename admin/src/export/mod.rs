//! The static export: a tree of files that any web server can serve as a registry.
//!
//! A file comes before the document that names it, and a document before the index that names it.
//! Each file gets its name when it is complete. So a client reads a consistent registry at any time.

mod documents;
mod download;
mod folder;
mod model;
mod path;
mod plan;
mod read;
mod snippets;

pub(crate) use download::{Fetched, fetch};
pub(crate) use folder::{Folder, Written};
pub(crate) use path::{Owner, TreePath};
pub(crate) use plan::Plan;
pub(crate) use read::read;
