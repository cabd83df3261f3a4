//! How long tests wait: for as long as it takes, with minutes as a backstop; no test is about the speed of a machine.
//!
//! Deadlines of the broker are long in tests. A test about a deadline has something hang by design and lets the clock jump.

use std::time::Duration;

use stile_broker::authn::sigv4::StsTimeouts;
use stile_broker::http::ConnectionTimeouts;
use stile_store::{AwsDeadlines, EmbeddedDeadlines};

/// A backstop: what takes so long would never come.
pub const BACKSTOP: Duration = Duration::from_secs(600);

/// The same limits for programs, as variables of their environment.
pub const VARIABLES: [(&str, &str); 4] = [
    ("STILE_STORE_TIMEOUT", "600"),
    ("STILE_STS_TIMEOUT", "600"),
    ("STILE_TIMEOUT", "600"),
    ("TF_REGISTRY_CLIENT_TIMEOUT", "600"),
];

/// Limits of the store on AWS that no busy machine reaches.
pub fn aws() -> AwsDeadlines {
    AwsDeadlines::within(BACKSTOP)
}

/// Limits of the embedded store that no busy machine reaches.
pub fn embedded() -> EmbeddedDeadlines {
    EmbeddedDeadlines::within(BACKSTOP)
}

/// Limits of requests to STS that no busy machine reaches.
pub fn sts() -> StsTimeouts {
    StsTimeouts::within(BACKSTOP)
}

/// Limits of connections that no busy machine reaches.
pub fn connections() -> ConnectionTimeouts {
    ConnectionTimeouts { head: BACKSTOP, taking: BACKSTOP, drain: BACKSTOP }
}

/// Waits for something that comes in any case.
pub async fn wait<T>(comes: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(BACKSTOP, comes).await.ok()
}

/// Works until the work is stuck on something that hangs; from then on the clock jumps from deadline to deadline.
///
/// Returns what the work came to, and how far the clock jumped. For a runtime of one thread.
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
    async fn the_clock_jumps_for_work_that_is_stuck_and_for_no_other() {
        let hour = Duration::from_secs(3600);
        let hangs = tokio::time::timeout(hour, std::future::pending::<()>());
        let (ended, jumped) = past_deadlines(async {}, hangs).await;
        assert!(ended.is_err());
        assert!((hour..2 * hour).contains(&jumped), "{jumped:?}");
        let (done, jumped) = past_deadlines(std::future::pending(), async { 5 }).await;
        assert_eq!((done, jumped), (5, Duration::ZERO));
    }
}
