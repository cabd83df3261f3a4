//! Sets how long tests wait. A test waits for an event, and ten minutes are only a backstop.
//!
//! The broker's time limits are long in tests. A test about a limit makes a call hang, and the
//! clock jumps.

use std::time::Duration;

use stile_broker::authn::sigv4::StsTimeouts;
use stile_broker::http::ConnectionTimeouts;
use stile_store::{AwsDeadlines, EmbeddedDeadlines};

/// The longest time that a test waits for an event.
pub const BACKSTOP: Duration = Duration::from_secs(600);

/// The environment variables that set the same time limits for programs.
pub const VARIABLES: [(&str, &str); 4] = [
    ("STILE_STORE_TIMEOUT", "600"),
    ("STILE_STS_TIMEOUT", "600"),
    ("STILE_TIMEOUT", "600"),
    ("TF_REGISTRY_CLIENT_TIMEOUT", "600"),
];

/// Returns time limits of the store on AWS that a busy machine does not reach.
pub fn aws() -> AwsDeadlines {
    AwsDeadlines::within(BACKSTOP)
}

/// Returns time limits of the embedded store that a busy machine does not reach.
pub fn embedded() -> EmbeddedDeadlines {
    EmbeddedDeadlines::within(BACKSTOP)
}

/// Returns time limits of requests to STS that a busy machine does not reach.
pub fn sts() -> StsTimeouts {
    StsTimeouts::within(BACKSTOP)
}

/// Returns time limits of connections that a busy machine does not reach.
pub fn connections() -> ConnectionTimeouts {
    ConnectionTimeouts { head: BACKSTOP, write: BACKSTOP, drain: BACKSTOP }
}

/// Waits for an event that must come; `None` after the backstop.
pub async fn wait<T>(comes: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(BACKSTOP, comes).await.ok()
}

/// Runs `work`. When `stuck` reports that it hangs, the clock jumps from time limit to time limit
/// until it ends.
///
/// Returns the result, and how far the clock jumped. It needs a runtime of one thread.
pub async fn past_deadlines<T>(
    stuck: impl Future<Output = ()>,
    work: impl Future<Output = T>,
) -> (T, Duration) {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        biased;
        done = &mut work => (done, Duration::ZERO),
        () = stuck => {
            tokio::time::pause();
            let started = tokio::time::Instant::now();
            let done = work.await;
            let jumped = started.elapsed();
            tokio::time::resume();
            (done, jumped)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_clock_jumps_for_stuck_work_only() {
        let hour = Duration::from_secs(3600);
        let hangs = tokio::time::timeout(hour, std::future::pending::<()>());
        let (ended, jumped) = past_deadlines(async {}, hangs).await;
        assert!(ended.is_err());
        assert!((hour..2 * hour).contains(&jumped), "{jumped:?}");
        let (done, jumped) = past_deadlines(std::future::pending(), async { 5 }).await;
        assert_eq!((done, jumped), (5, Duration::ZERO));
    }
}
