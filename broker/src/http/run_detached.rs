//! Runs work in a task of its own, so that it continues when the client disconnects.

use std::future::Future;
use std::panic::resume_unwind;
use std::time::Duration;

use stile_protocol::reply::ErrorCode;
use tokio::task::JoinError;
use tracing::Instrument;

use super::error::ApiError;

/// An extension of a request whose process stops after the answer, as a Lambda function does: the time
/// until it must answer. No client can set it.
///
/// Work that goes on after the answer stops with the process, and goes on with the next event.
#[derive(Debug, Clone, Copy)]
pub(super) struct StopsAfterAnswer(pub(super) Duration);

/// Runs the work in a task of its own, and waits for its result.
///
/// A panic of the task continues in the caller. So the answer is the same as for a panic of any
/// handler.
pub(super) async fn run_detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    done(tokio::spawn(work.in_current_span()).await)
}

/// Does the same, but waits only for that time. `None` if the work still goes on then.
pub(super) async fn run_detached_for<T: Send + 'static>(
    time: Duration,
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<Option<T>, ApiError> {
    let task = tokio::spawn(work.in_current_span());
    match tokio::time::timeout(time, task).await {
        Ok(finished) => done(finished).map(Some),
        Err(_) => Ok(None),
    }
}

fn done<T>(finished: Result<Result<T, ApiError>, JoinError>) -> Result<T, ApiError> {
    match finished {
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

    #[tokio::test(start_paused = true)]
    async fn work_that_takes_longer_than_the_answer_may_goes_on_after_it() {
        let time = Duration::from_secs(20);
        assert_eq!(run_detached_for(time, async { Ok(1) }).await.unwrap(), Some(1));
        let (begin, begun) = tokio::sync::oneshot::channel::<()>();
        let (end, ended) = tokio::sync::oneshot::channel();
        let work = async move {
            let _ = begun.await;
            let _ = end.send(2);
            Ok(())
        };
        assert_eq!(run_detached_for(time, work).await.unwrap(), None);
        begin.send(()).unwrap();
        assert_eq!(ended.await.unwrap(), 2);
    }
}
