//! What fuzz targets share: the verdict on some bytes, and the targets of this package.
//!
//! Not part of the service: only tests and the programs in `tests/fuzz/` are built with it.

pub use crate::package::archive::fuzz::archive;
pub use crate::principal::fuzz::arn;
pub use crate::token::fuzz::token;

/// What became of the bytes, so that a replay notices a seed that is no longer good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// They were what they claimed to be.
    Accepted,
    /// They were not, and an error said so.
    Rejected,
}

/// Whether a sentence may stand in a reply and on one line of a log, whatever was sent.
pub fn is_plain(sentence: &str) -> bool {
    sentence.len() <= 600 && !sentence.contains(char::is_control)
}
