//! Runs work that waits for a disk on a thread that may wait.

use crate::StoreError;

/// Runs the work; its log lines belong to the request that asked for it.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let request = tracing::Span::current();
    tokio::task::spawn_blocking(move || request.in_scope(work))
        .await
        .map_err(|error| StoreError::unavailable("the store's work was cut off", error))?
}
