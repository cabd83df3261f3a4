//! The work of a function that has no background: a schedule asks for it each minute.

use std::sync::Arc;
use std::time::Duration;

use super::audit_heads::sign;
use super::broker::Broker;
use super::event_sender::{Sent, send_waiting};
use super::sweep::sweep;
use super::usage;

/// The time after which a tick begins to send no further event. With the longest attempt, it ends
/// before Lambda stops it.
const SEND_FOR: Duration = Duration::from_secs(10);

/// The time after which a tick begins to sign no further chain. The next tick goes on.
const SIGN_FOR: Duration = Duration::from_secs(10);

/// Sends the events that wait, adds the counted downloads to the store, signs the heads of the audit
/// chains, and deletes what killed processes left.
pub async fn tick(broker: &Arc<Broker>) -> Sent {
    let (sent, (), (), ()) = tokio::join!(
        send_waiting(broker, SEND_FOR),
        usage::flush(broker),
        sign(broker, SIGN_FOR),
        sweep(broker)
    );
    sent
}
