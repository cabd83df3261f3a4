//! The fuzz targets of this package, and the verdict that every fuzz target returns.
//!
//! The service does not contain this module. Only tests and the programs in `tests/fuzz/` do.

pub use crate::package::archive::fuzz::archive;
pub use crate::package::provider::fuzz::{provider_signature, signing_key, sums};
pub use crate::package::source::fuzz::source;
pub use crate::principal::fuzz::arn;
pub use crate::token::fuzz::token;

/// The result for one input. A replay compares it with the file name of the seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The parser accepted the input.
    Accepted,
    /// The parser returned an error.
    Rejected,
}

/// Returns whether a message fits on one line of a log: no control characters, at most 600 bytes.
pub fn is_plain(sentence: &str) -> bool {
    sentence.len() <= 600 && !sentence.contains(char::is_control)
}
