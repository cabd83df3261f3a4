//! Deletes what lost races and killed processes left in the store, at the start and each hour.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::audit_heads::expire;
use super::broker::Broker;
use stile_store::Swept;

/// The time between two sweeps.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(3600);

/// Sweeps the store at once and after each interval, until the program ends.
pub async fn sweep_store(broker: Arc<Broker>, every: Duration) {
    let mut interval = interval(every);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        sweep(&broker).await;
        expire(&broker).await;
    }
}

/// Sweeps the store once.
pub(super) async fn sweep(broker: &Broker) {
    match broker.store.sweep(broker.clock.now()).await {
        Ok(swept) if swept == Swept::default() => {}
        Ok(Swept { archives, temporary }) => tracing::info!(
            archives,
            temporary,
            "deleted archives and temporary files that nothing needs"
        ),
        Err(error) => tracing::warn!(
            error = &error as &dyn Error,
            "cannot delete what nothing needs in the store; the broker tries again later"
        ),
    }
}
