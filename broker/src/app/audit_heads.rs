//! Signs the heads of the chains of audit events, and writes them to the log.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use stile_core::audit::SignedHead;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::broker::Broker;

/// The time between two signatures of chains that move. Until then, a writer to the store could write
/// the newest events again, and no signature would show it.
pub const SIGN_INTERVAL: Duration = Duration::from_secs(60);

/// The longest time for the last signatures of a program that stops.
const LAST: Duration = Duration::from_secs(5);

/// The seconds of a day.
const DAY: i64 = 24 * 3600;

/// Signs heads at once and after each interval, until the program ends.
pub async fn sign_audit_heads(broker: Arc<Broker>, every: Duration) {
    let mut interval = interval(every);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        sign(&broker, every).await;
    }
}

/// Signs the heads of the chains that moved, and writes each to the log at once. After the time in
/// `limit`, it begins no further chain, and the next call goes on.
pub async fn sign(broker: &Broker, limit: Duration) {
    let now = broker.clock.now();
    if let Err(error) = broker.store.sign_audit_heads(now, limit, SignedHead::write).await {
        tracing::warn!(
            error = &error as &dyn Error,
            "cannot sign the heads of the audit chains; the broker tries again in a minute"
        );
    }
}

/// Signs the heads before the program ends. It does not wait long for a key that does not answer.
pub async fn sign_last(broker: &Broker) {
    if timeout(LAST, sign(broker, LAST)).await.is_err() {
        tracing::warn!("the broker stops, and has not signed all heads of the audit chains");
    }
}

/// Removes the audit events of a data folder that are older than the configured number of days.
pub(super) async fn expire(broker: &Broker) {
    let Some(days) = broker.audit_days else { return };
    let now = broker.clock.now();
    let before = now.saturating_sub(i64::from(days).saturating_mul(DAY));
    match broker.store.expire_folder_events(before, now).await {
        Ok((expired, problems)) => {
            for expired in expired {
                tracing::info!(
                    chain = expired.chain.as_str(),
                    from = expired.from,
                    to = expired.to,
                    "removed audit events that are older than {days} days"
                );
            }
            for problem in problems {
                tracing::error!(alarm = "audit_expiry", "{problem}");
            }
        }
        Err(error) => tracing::warn!(
            error = &error as &dyn Error,
            "cannot remove old audit events; the broker tries again later"
        ),
    }
}
