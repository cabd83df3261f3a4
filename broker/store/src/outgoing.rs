//! Events on their way to those who listen: destinations, webhooks, and who may send now.

use stile_core::version_event::VersionEvent;
use stile_core::webhook::{WebhookName, WebhookSecret, WebhookUrl};

/// A receiver of events that an operator lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// The id, which the store chose. A webhook that is added again under its name has another one.
    pub id: String,
    /// The name that the operator chose.
    pub name: WebhookName,
    /// Where the broker sends events.
    pub url: WebhookUrl,
    /// The secret that signs them.
    pub secret: WebhookSecret,
    /// The operator who added it.
    pub created_by: String,
    /// The time at which it was added, in Unix seconds.
    pub created_at: i64,
}

impl Webhook {
    /// Returns the webhook as a destination of events.
    pub fn destination(&self) -> Destination {
        Destination::Webhook(self.id.clone())
    }
}

/// A webhook, and how the last attempts to send it an event ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookSummary {
    /// The webhook.
    pub webhook: Webhook,
    /// The time of the first of the attempts that failed since the last success, in Unix seconds.
    pub failing_since: Option<i64>,
    /// The time since which it gets nothing, because its receiver said that it is gone.
    pub gone_at: Option<i64>,
}

/// The result of adding a webhook.
#[derive(Debug, PartialEq, Eq)]
pub enum WebhookAdded {
    /// The store added it.
    Done(Box<Webhook>),
    /// There is a webhook with this name already. Nothing changed.
    Exists,
    /// The registry has the maximum number of webhooks. Nothing changed.
    TooMany,
}

/// Where an event goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Destination {
    /// The webhook with this id.
    Webhook(String),
    /// The event bus that the broker is configured with.
    EventBus,
}

impl Destination {
    /// Returns the name in keys of the store.
    pub(crate) fn key(&self) -> String {
        match self {
            Self::Webhook(id) => format!("webhook {id}"),
            Self::EventBus => "bus".to_owned(),
        }
    }
}

/// An event that a destination has not got yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The destination.
    pub destination: Destination,
    /// The event.
    pub event: VersionEvent,
}

impl Delivery {
    /// Returns the key among the events of the destination. Those of one namespace are next to each
    /// other, the oldest first.
    pub fn key(&self) -> String {
        format!("{} {}", self.event.namespace, self.event.id)
    }

    /// Returns a key after those of all events of the same namespace, and before those of the next.
    pub fn end_of_namespace(&self) -> String {
        // `!` is the first character after the space.
        format!("{}!", self.event.namespace)
    }
}

/// How the last attempts to send to a destination ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SendingState {
    /// Increases with each change. 0 if there is no record.
    pub(crate) revision: i64,
    /// The number of attempts that failed since the last success.
    pub(crate) failures: u32,
    /// The time of the first of them, in Unix seconds.
    pub(crate) failing_since: Option<i64>,
    /// The time before which no other broker sends, in Unix seconds.
    pub(crate) not_before: i64,
    /// Where the next attempt begins, in the text of the broker.
    pub(crate) reached: String,
    /// The time at which the receiver said that it is gone, in Unix seconds.
    pub(crate) gone_at: Option<i64>,
}

/// Evidence that this process may send to a destination, and no other process does so meanwhile.
/// Only [`Store::claim`](crate::Store::claim) creates it.
#[derive(Debug)]
pub struct SendingClaim {
    pub(crate) destination: Destination,
    pub(crate) state: SendingState,
}

impl SendingClaim {
    /// Returns the destination.
    pub const fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Returns where to begin, as the end of the last claim said.
    pub fn begin_after(&self) -> &str {
        &self.state.reached
    }

    /// Returns for how long every attempt has failed, in seconds. 0 if the last one did not.
    pub fn failing_for(&self, now: i64) -> i64 {
        self.state.failing_since.map_or(0, |since| now.saturating_sub(since))
    }
}

/// How the work under a [`SendingClaim`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendingEnd<'a> {
    /// No attempt failed, and nothing waits.
    Well,
    /// There was no time for any attempt.
    NotTried,
    /// No attempt failed, and there was no time for more.
    Unfinished {
        /// Where the next attempt begins.
        reached: &'a str,
    },
    /// An attempt failed.
    Failed {
        /// Where the next attempt begins.
        reached: &'a str,
        /// Whether the destination took another event under the same claim.
        took_others: bool,
    },
    /// The receiver said that it is gone, and wants no more events.
    Gone,
}
