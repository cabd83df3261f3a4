//! The work of a function that has no background: a schedule asks for it each minute.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::broker::Broker;
use super::events::{Sent, send_due};
use super::sweep::sweep;
use super::usage;

/// The time after which a tick begins to send no further event. With the longest attempt, it ends
/// before Lambda stops it.
const SEND_FOR: Duration = Duration::from_secs(10);

/// The result of a tick.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ticked {
    /// The events that were sent, and the attempts that failed.
    pub events: Sent,
}

/// Sends the events that are due, adds the counted downloads to the store, and deletes what killed
/// processes left.
pub async fn tick(broker: &Arc<Broker>) -> Ticked {
    let until = Instant::now() + SEND_FOR;
    let (events, (), ()) =
        tokio::join!(send_due(broker, Some(until)), usage::flush(broker), sweep(broker));
    Ticked { events }
}
