//! The result of a repair.

use crate::{Leftover, StoreError};

/// What a repair of a store deleted, and what it kept.
#[derive(Debug, Default)]
pub struct Repaired {
    /// The archives that it deleted.
    pub deleted: Vec<Leftover>,
    /// The old archives without a version that it kept, each with the reason.
    pub kept: Vec<(Leftover, String)>,
    /// The error that ended it early.
    pub error: Option<StoreError>,
}
