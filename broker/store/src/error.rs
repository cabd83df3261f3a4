//! The error type of the store. Its kind says whether a retry can help.

use std::error::Error;
use std::fmt;

/// The kind of a [`StoreError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// The disk, the database, AWS or the network does not answer.
    Unavailable,
    /// Too many clients use the same resource at the same time.
    Busy,
    /// The disk has too little free space for an archive.
    Full,
    /// The store contains something that this program cannot read: damaged data, or a newer format.
    Corrupt,
    /// The store exists, but its setup is wrong. For example, it is for another registry, has no
    /// versioning, or is open to other users.
    Misconfigured,
}

impl StoreErrorKind {
    /// Returns whether the same operation can succeed later without a repair.
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Unavailable | Self::Busy | Self::Full)
    }
}

/// A failed operation of the store. It never means "no": the store gave no answer.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl StoreError {
    /// Creates an error of this kind, without a cause.
    pub fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// Creates an error of the kind [`StoreErrorKind::Unavailable`], with its cause.
    pub fn unavailable(
        message: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self::new(StoreErrorKind::Unavailable, message).caused_by(source)
    }

    /// Creates an error of the kind [`StoreErrorKind::Busy`].
    pub fn busy(message: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::Busy, message)
    }

    /// Creates an error of the kind [`StoreErrorKind::Full`].
    pub fn full(message: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::Full, message)
    }

    /// Creates an error of the kind [`StoreErrorKind::Corrupt`].
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::Corrupt, message)
    }

    /// Creates an error of the kind [`StoreErrorKind::Misconfigured`].
    pub fn misconfigured(message: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::Misconfigured, message)
    }

    /// Adds the cause to the error.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Returns the kind of the error.
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
    fn only_temporary_failures_are_retryable_and_the_message_does_not_repeat_the_cause() {
        for (kind, retryable) in [
            (StoreErrorKind::Unavailable, true),
            (StoreErrorKind::Busy, true),
            (StoreErrorKind::Full, true),
            (StoreErrorKind::Corrupt, false),
            (StoreErrorKind::Misconfigured, false),
        ] {
            assert_eq!(kind.is_retryable(), retryable, "{kind:?}");
        }
        let error = StoreError::unavailable("cannot read the table", "no route");
        assert_eq!(error.to_string(), "cannot read the table");
        assert_eq!(error.source().unwrap().to_string(), "no route");
    }
}
