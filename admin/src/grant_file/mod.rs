//! Grants as a file: parses a file, compares it with the grants of a store, and writes it. Nothing
//! here reads or changes a store.

mod diff;
mod from_json;
mod from_toml;
mod model;
mod node;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use diff::{Change, Counts, Deletions, Plan, unreadable_json, unreadable_name};
pub(crate) use model::{FileFormat, GrantFile, Owned, WantedGrant};
pub(crate) use read::{MAX_BYTES, parse, text_of};
pub(crate) use write::{to_json, to_toml};
