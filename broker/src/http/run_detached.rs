//! Work that runs to its end though whoever asks for it hangs up.

use std::future::Future;
use std::panic::resume_unwind;

use stile_protocol::reply::ErrorCode;
use tracing::Instrument;

use super::error::ApiError;

/// Has the work done by a task of its own, and waits for what comes of it.
///
/// A panic goes on here as if it had happened here: so it is logged, and raises the alarm, as one of any handler.
pub(super) async fn run_detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::spawn(work.in_current_span()).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            Err(_) => Err(ApiError::new(ErrorCode::Internal, "the work was broken off")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_in_the_work_is_one_of_whoever_waits_for_it() {
        let waiting = tokio::spawn(run_detached(async {
            if true { unreachable!("it broke") } else { Ok(()) }
        }));
        assert!(waiting.await.unwrap_err().is_panic());
        assert_eq!(run_detached(async { Ok(1) }).await.unwrap(), 1);
    }
}
