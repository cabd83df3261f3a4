//! Runs work in a task of its own, so that it continues when the client disconnects.

use std::future::Future;
use std::panic::resume_unwind;

use stile_protocol::reply::ErrorCode;
use tracing::Instrument;

use super::error::ApiError;

/// Runs the work in a task of its own, and waits for its result.
///
/// A panic of the task continues in the caller. So the answer is the same as for a panic of any
/// handler.
pub(super) async fn run_detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::spawn(work.in_current_span()).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            Err(_) => Err(ApiError::new(ErrorCode::Internal, "the registry cancelled the request")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_in_detached_work_continues_in_the_waiting_task() {
        let waiting = tokio::spawn(run_detached(async {
            if true { unreachable!("it broke") } else { Ok(()) }
        }));
        assert!(waiting.await.unwrap_err().is_panic());
        assert_eq!(run_detached(async { Ok(1) }).await.unwrap(), 1);
    }
}
