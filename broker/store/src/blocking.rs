//! Runs blocking disk operations on a thread that may block.

use crate::StoreError;

/// Runs the work on a blocking thread. Its log lines belong to the span of the current request.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let request = tracing::Span::current();
    tokio::task::spawn_blocking(move || request.in_scope(work))
        .await
        .map_err(|error| StoreError::unavailable("the store operation did not finish", error))?
}
