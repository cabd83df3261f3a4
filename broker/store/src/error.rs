//! The error of every question to the store: what kind of failure it is, so that a caller knows whether to try again.

use std::error::Error;
use std::fmt;

/// What kind of failure a [`StoreError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// Disk, database, AWS or the network does not answer.
    Unavailable,
    /// Too many use the same thing at once.
    Busy,
    /// The store holds something that this program cannot read: damaged, or of a newer format.
    Corrupt,
    /// The store is there and is not set up as it must be: another registry's, unversioned, open to others.
    Misconfigured,
}

impl StoreErrorKind {
    /// Whether the same question may succeed later although nobody repairs anything.
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Unavailable | Self::Busy)
    }
}

/// Why the store gives no answer. It never means "no".
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl StoreError {
    /// A failure of that kind, without a cause.
    pub fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// Something that the store needs failed.
    pub fn unavailable(
        message: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self::new(StoreErrorKind::Unavailable, message).caused_by(source)
    }

    /// Too many use the same thing at once.
    pub fn busy(message: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::Busy, message)
    }

    /// The store holds something that cannot be read.
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::Corrupt, message)
    }

    /// The store is not set up as it must be.
    pub fn misconfigured(message: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::Misconfigured, message)
    }

    /// The same with its cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of failure it is.
    pub const fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_ends_by_itself_may_be_tried_again_and_the_cause_is_not_repeated() {
        for (kind, retryable) in [
            (StoreErrorKind::Unavailable, true),
            (StoreErrorKind::Busy, true),
            (StoreErrorKind::Corrupt, false),
            (StoreErrorKind::Misconfigured, false),
        ] {
            assert_eq!(kind.is_retryable(), retryable, "{kind:?}");
        }
        let error = StoreError::unavailable("the table cannot be read", "no route");
        assert_eq!(error.to_string(), "the table cannot be read");
        assert_eq!(error.source().unwrap().to_string(), "no route");
    }
}
