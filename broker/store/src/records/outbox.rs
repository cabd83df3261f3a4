//! The rules of the outbox: events that a destination has not got yet.
//!
//! An event is kept in the commit of the change that it reports, once for each destination. A broker
//! deletes it after the destination has got it, so it is sent at least once.
//!
//! One broker at a time sends to a destination: the one that holds the claim on it. After a failure,
//! no broker sends to the destination for a while, so a receiver that is down costs few attempts.

use futures_util::future::join_all;
use stile_core::version_event::VersionEvent;
use stile_protocol::names::Namespace;

use super::Records;
use super::mutation::{Mutation, Outcome};
use crate::outgoing::{SendingEnd, SendingState};
use crate::{Delivery, Destination, SendingClaim, StoreError};

/// The most events of a namespace that wait for a destination. So a namespace with many changes
/// neither fills the store nor delays the events of others for long.
pub const MAX_WAITING: usize = 500;

/// The time for which a claim excludes other brokers, in seconds, if its holder does not end it.
const CLAIMED_FOR: i64 = 60;

/// The wait after the first failed attempt, in seconds. It doubles with each further one.
const FIRST_WAIT: i64 = 5;

/// The longest wait between two attempts, in seconds.
const LONGEST_WAIT: i64 = 3600;

/// The age at which the backend may delete an event, in seconds, also if no broker was there to send
/// it.
const KEPT_FOR: i64 = 7 * 24 * 3600;

/// Returns the time until which the backend keeps an event, in Unix seconds.
pub(crate) const fn kept_until(created_at: i64) -> i64 {
    created_at.saturating_add(KEPT_FOR)
}

/// An event of a change, and who gets it.
#[derive(Debug)]
pub(crate) struct KeptEvent {
    event: VersionEvent,
    kept: Vec<Destination>,
    dropped: Vec<Destination>,
}

impl KeptEvent {
    /// Returns the mutation that keeps the event. `None` if nobody gets it.
    pub(crate) fn mutation(&self) -> Option<Mutation> {
        (!self.kept.is_empty()).then(|| Mutation::AddEvent {
            event: self.event.clone(),
            destinations: self.kept.clone(),
            forget_before: self.event.at.saturating_sub(KEPT_FOR),
        })
    }

    /// Raises the alarm for each destination that does not get the event, after the commit of the
    /// change.
    pub(crate) fn report_dropped(&self) {
        for destination in &self.dropped {
            tracing::error!(
                alarm = "event_dropped",
                destination = destination.key(),
                namespace = self.event.namespace.as_str(),
                event = self.event.id,
                "too many events of the namespace wait for the destination, so it does not get this one"
            );
        }
    }
}

/// Returns the deliveries of a new event.
pub(crate) fn deliveries<'a>(
    event: &'a VersionEvent,
    destinations: &'a [Destination],
) -> impl Iterator<Item = Delivery> + 'a {
    destinations
        .iter()
        .map(|destination| Delivery { destination: destination.clone(), event: event.clone() })
}

/// Reports an event that this program cannot read, and so does not send.
pub(crate) fn report_unreadable(destination: &Destination) {
    tracing::error!(
        alarm = "unreadable_event",
        destination = destination.key(),
        "an event in the store cannot be read, and is not sent"
    );
}

/// Returns the wait after so many failures, in seconds.
fn wait_after(failures: u32) -> i64 {
    let doublings = failures.saturating_sub(1).min(30);
    (FIRST_WAIT << doublings).min(LONGEST_WAIT)
}

impl SendingState {
    /// Returns whether a broker may send now.
    fn is_free(&self, now: i64) -> bool {
        let wait = self.not_before.saturating_sub(now);
        // A longer wait comes from a broker whose clock was ahead.
        self.gone_at.is_none() && !(1..=LONGEST_WAIT).contains(&wait)
    }

    /// Returns the state while a broker sends.
    fn claimed(&self, now: i64) -> Self {
        Self { not_before: now.saturating_add(CLAIMED_FOR), ..self.next() }
    }

    /// Returns the state after a broker has sent.
    fn after(&self, end: SendingEnd<'_>, now: i64) -> Self {
        match end {
            SendingEnd::Well => Self { revision: self.next().revision, ..Self::default() },
            SendingEnd::NotTried => Self { not_before: 0, ..self.next() },
            SendingEnd::Unfinished { reached } => Self {
                revision: self.next().revision,
                reached: reached.to_owned(),
                ..Self::default()
            },
            SendingEnd::Failed { reached, took_others } => {
                let before = if took_others { 0 } else { self.failures };
                let failures = before.saturating_add(1);
                Self {
                    failures,
                    failing_since: self.failing_since.filter(|_| !took_others).or(Some(now)),
                    not_before: now.saturating_add(wait_after(failures)),
                    reached: reached.to_owned(),
                    ..self.next()
                }
            }
            SendingEnd::Gone => Self { gone_at: Some(now), ..self.next() },
        }
    }

    fn next(&self) -> Self {
        Self { revision: self.revision.saturating_add(1), ..self.clone() }
    }
}

impl Records {
    /// Decides which of the destinations get an event: not one for which too many events of the
    /// namespace wait. It counts for all of them at once.
    ///
    /// If it cannot count, the destination gets the event. So the limit never stops a publisher.
    pub(crate) async fn keep_event(
        &self,
        event: VersionEvent,
        destinations: &[Destination],
    ) -> KeptEvent {
        let namespace = Some(&event.namespace);
        let count = |destination| self.count_waiting(destination, namespace, MAX_WAITING);
        let counts = join_all(destinations.iter().map(count)).await;
        let (mut kept, mut dropped) = (Vec::new(), Vec::new());
        for (destination, count) in destinations.iter().zip(counts) {
            match count {
                Ok(count) if count >= MAX_WAITING => dropped.push(destination.clone()),
                Ok(_) => kept.push(destination.clone()),
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        destination = destination.key(),
                        "cannot count the events that wait for a destination; it gets this one, too"
                    );
                    kept.push(destination.clone());
                }
            }
        }
        KeptEvent { event, kept, dropped }
    }

    /// Counts the events that wait for a destination, of one namespace or of all, up to `limit`.
    pub(crate) async fn count_waiting(
        &self,
        destination: &Destination,
        namespace: Option<&Namespace>,
        limit: usize,
    ) -> Result<usize, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.count_waiting(destination, namespace, limit).await,
            Self::DynamoDb(dynamodb) => dynamodb.count_waiting(destination, namespace, limit).await,
        }
    }

    /// Returns at most `limit` events that wait for a destination, in order of key, from the first
    /// one after `after` on.
    ///
    /// It leaves out one that this program cannot read, and raises the alarm.
    pub(crate) async fn waiting(
        &self,
        destination: &Destination,
        after: &str,
        limit: usize,
    ) -> Result<Vec<Delivery>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.waiting(destination, after, limit).await,
            Self::DynamoDb(dynamodb) => dynamodb.waiting(destination, after, limit).await,
        }
    }

    /// Returns how the last attempts to send to each destination ended. `None` for one whose state
    /// this program cannot read.
    pub(crate) async fn sending_states(
        &self,
        destinations: &[Destination],
    ) -> Result<Vec<Option<SendingState>>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.sending_states(destinations).await,
            Self::DynamoDb(dynamodb) => dynamodb.sending_states(destinations).await,
        }
    }

    /// Claims a destination. `None` if nothing waits for it, if no broker may send to it now, or if
    /// another broker was faster.
    pub(crate) async fn claim(
        &self,
        destination: &Destination,
        now: i64,
    ) -> Result<Option<SendingClaim>, StoreError> {
        if self.waiting(destination, "", 1).await?.is_empty() {
            return Ok(None);
        }
        let states = self.sending_states(std::slice::from_ref(destination)).await?;
        let before = states.into_iter().next().flatten().ok_or_else(|| {
            StoreError::corrupt("cannot read the state of a destination of events in the store")
        })?;
        if !before.is_free(now) {
            return Ok(None);
        }
        let state = before.claimed(now);
        let claimed = self.put_state(destination, before, state.clone()).await?;
        Ok(claimed.then(|| SendingClaim { destination: destination.clone(), state }))
    }

    /// Ends a claim. If it has run out, and another broker has claimed the destination, it changes
    /// nothing.
    pub(crate) async fn end_claim(
        &self,
        claim: SendingClaim,
        end: SendingEnd<'_>,
        now: i64,
    ) -> Result<(), StoreError> {
        let after = claim.state.after(end, now);
        self.put_state(&claim.destination, claim.state, after).await.map(drop)
    }

    async fn put_state(
        &self,
        destination: &Destination,
        before: SendingState,
        after: SendingState,
    ) -> Result<bool, StoreError> {
        let put = Mutation::PutSendingState {
            destination: destination.clone(),
            before: before.revision,
            after,
        };
        Ok(self.commit_with_retries(vec![put]).await? == Outcome::Done)
    }

    /// Deletes events that need not be sent any more.
    pub(crate) async fn remove_deliveries(
        &self,
        deliveries: Vec<Delivery>,
    ) -> Result<(), StoreError> {
        let remove = deliveries.into_iter().map(Mutation::RemoveDelivery).collect();
        match self.commit_with_retries(remove).await? {
            Outcome::Done => Ok(()),
            _ => Err(StoreError::busy("cannot delete an event that was sent")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_from_five_seconds_to_an_hour() {
        for (failures, wait) in
            [(0, 5), (1, 5), (2, 10), (3, 20), (10, 2560), (11, 3600), (63, 3600), (u32::MAX, 3600)]
        {
            assert_eq!(wait_after(failures), wait, "{failures}");
        }
    }

    #[test]
    fn nobody_sends_during_a_claim_or_a_wait_and_a_wrong_clock_stops_nobody() {
        let claimed = SendingState::default().claimed(1000);
        for (now, expected) in [(1000, false), (1059, false), (1060, true), (-5000, true)] {
            assert_eq!(claimed.is_free(now), expected, "{now}");
        }
        let gone = SendingState { gone_at: Some(1), ..SendingState::default() };
        assert!(SendingState::default().is_free(0) && !gone.is_free(i64::MAX));
    }

    #[test]
    fn a_failure_lets_the_next_attempt_begin_after_it_and_a_success_forgets_all() {
        let fail = |state: &SendingState, took_others, now| {
            state.after(SendingEnd::Failed { reached: "acme evt_1", took_others }, now)
        };
        let first = fail(&SendingState::default(), false, 100);
        let second = fail(&first, false, 200);
        let third = fail(&second, true, 300);
        let summary =
            |state: &SendingState| (state.failures, state.failing_since, state.not_before);
        assert_eq!(summary(&first), (1, Some(100), 105));
        assert_eq!(summary(&second), (2, Some(100), 210));
        assert_eq!(summary(&third), (1, Some(300), 305), "it took another one");
        assert_eq!((third.revision, third.reached.as_str()), (3, "acme evt_1"));
        let well = third.after(SendingEnd::Well, 400);
        assert_eq!(well, SendingState { revision: 4, ..SendingState::default() });
        let unfinished = third.after(SendingEnd::Unfinished { reached: "acme!" }, 400);
        assert_eq!((unfinished.reached.as_str(), summary(&unfinished)), ("acme!", (0, None, 0)));
        let not_tried = third.claimed(400).after(SendingEnd::NotTried, 401);
        assert_eq!(summary(&not_tried), (1, Some(300), 0), "it is as before the claim");
        assert_eq!(not_tried.reached, "acme evt_1");
        let gone = third.after(SendingEnd::Gone, 400);
        assert_eq!((gone.gone_at, gone.failures), (Some(400), 1));
    }
}
