//! Writes the audit log, and folds the refusals of unknown callers into one line a minute.
//!
//! A [`Draft`] is the event of an unfinished decision. The log writes it when the draft is dropped.
//! So each decision has exactly one event, even if the client disconnects.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::metrics::Metrics;
use stile_core::audit::{Anonymous, Event, Kind, Network};
use stile_core::clock::Clock;

/// The time for which the log counts refusals before it writes their number, in seconds.
const WINDOW: i64 = 60;

/// The interval at which the broker looks for ended windows.
const TICK: Duration = Duration::from_secs(5);

/// The number of windows with a network. Each counts the refusals of one kind, code and network.
///
/// Above it, one window counts all networks together, so that a client with many addresses cannot
/// fill the memory.
const MAX_WINDOWS: usize = 4096;

/// Whether the log folds the refusals of unknown callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folding {
    /// One line a minute for each kind, code and network, with the number of refusals. So bad
    /// requests cannot fill a disk.
    ByMinute,
    /// One line for each refusal. Lambda requires this: it stops an instance without notice, and
    /// the counts in memory would be lost.
    Off,
}

/// The audit log of one broker.
#[derive(Debug)]
pub struct AuditLog {
    clock: Clock,
    folded: Option<Mutex<Folded>>,
    metrics: Arc<Metrics>,
}

impl AuditLog {
    /// Creates a log that counts its events in the metrics.
    pub fn new(clock: Clock, folding: Folding, metrics: Arc<Metrics>) -> Arc<Self> {
        let folded = (folding == Folding::ByMinute).then(Mutex::default);
        Arc::new(Self { clock, folded, metrics })
    }

    /// Creates the draft of the event for a decision that begins now.
    pub fn draft(self: &Arc<Self>, kind: Kind, network: Option<Network>) -> Draft {
        let mut event = Event::new(kind);
        event.network(network);
        Draft { log: Arc::clone(self), event }
    }

    /// Writes the count of each window that has ended. Never returns.
    ///
    /// A task of its own does this, and not the next refusal: a line about many requests must not
    /// have the id of one request.
    pub async fn write_ended_windows(&self) {
        let mut ticks = tokio::time::interval(TICK);
        loop {
            ticks.tick().await;
            self.write_ended();
        }
    }

    fn write_ended(&self) {
        let now = self.clock.now();
        let ended = self.folded().map(|mut folded| folded.ended(now));
        ended.iter().flatten().for_each(Event::write);
    }

    /// Writes all counts, before the broker stops.
    pub fn flush(&self) {
        let all = self.folded().map(|mut folded| folded.take());
        all.iter().flatten().for_each(Event::write);
    }

    fn write(&self, event: &Event) {
        self.metrics.decided(event);
        match (self.folded(), event.anonymous()) {
            (Some(mut folded), Some(anonymous)) => {
                let first = folded.add(anonymous, self.clock.now());
                drop(folded);
                first.iter().for_each(Event::write);
            }
            _ => event.write(),
        }
    }

    fn folded(&self) -> Option<MutexGuard<'_, Folded>> {
        Some(self.folded.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The event of an unfinished decision. The log writes it when it is dropped.
#[derive(Debug)]
pub struct Draft {
    log: Arc<AuditLog>,
    event: Event,
}

impl Deref for Draft {
    type Target = Event;

    fn deref(&self) -> &Event {
        &self.event
    }
}

impl DerefMut for Draft {
    fn deref_mut(&mut self) -> &mut Event {
        &mut self.event
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        self.log.write(&self.event);
    }
}

/// The counts of refusals that the log has not written yet.
#[derive(Debug, Default)]
struct Folded {
    windows: HashMap<Anonymous, Window>,
}

#[derive(Debug)]
struct Window {
    since: i64,
    /// Refusals since the last line.
    count: u64,
}

impl Window {
    /// Returns whether the window has ended. A clock that was set back also ends it.
    fn has_ended(&self, now: i64) -> bool {
        !(0..WINDOW).contains(&now.saturating_sub(self.since))
    }
}

impl Folded {
    /// Counts one refusal, and returns the event to write now, if any.
    ///
    /// The log writes the first refusal of a window at once, so that an operator sees it in time.
    fn add(&mut self, of: Anonymous, now: i64) -> Option<Event> {
        let full = self.windows.len() >= MAX_WINDOWS && !self.windows.contains_key(&of);
        let of = if full { Anonymous { network: None, ..of } } else { of };
        if let Some(window) = self.windows.get_mut(&of) {
            window.count = window.count.saturating_add(1);
            return None;
        }
        self.windows.insert(of, Window { since: now, count: 0 });
        Some(Event::folded(of, 1))
    }

    /// Returns the events of the windows that have ended. An event opens the next window, so that
    /// lines are a minute apart.
    fn ended(&mut self, now: i64) -> Vec<Event> {
        let mut lines = Vec::new();
        self.windows.retain(|of, window| {
            if !window.has_ended(now) {
                return true;
            }
            let count = std::mem::take(&mut window.count);
            window.since = now;
            lines.extend((count > 0).then(|| Event::folded(*of, count)));
            count > 0
        });
        lines
    }

    /// Removes all windows, and returns their events.
    fn take(&mut self) -> Vec<Event> {
        let windows = std::mem::take(&mut self.windows);
        let counted = windows.into_iter().filter(|(_, window)| window.count > 0);
        counted.map(|(of, window)| Event::folded(of, window.count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicI64, Ordering};

    use stile_protocol::reply::ErrorCode;

    use super::*;
    use crate::metrics::unread;

    fn refusal(kind: Kind, code: ErrorCode, address: u32) -> Anonymous {
        let network = Some(Network::of(Ipv4Addr::from(address).into()));
        Anonymous { kind, code: Some(code), network }
    }

    #[test]
    fn many_refusals_are_one_line_a_minute_and_every_one_is_counted() {
        let mut folded = Folded::default();
        let of = refusal(Kind::Download, ErrorCode::Unauthorized, 1 << 8);
        let mut lines = 0;
        for second in 0..600 {
            lines += folded.ended(second).len();
            for _ in 0..50 {
                lines += usize::from(folded.add(of, second).is_some());
            }
        }
        assert_eq!(lines, 10, "in ten minutes");
        let rest: Vec<_> = folded.take();
        assert_eq!(rest.len(), 1);
        assert!(folded.take().is_empty(), "a written count is not counted again");
    }

    #[test]
    fn counts_are_exact_and_separate_for_each_kind_code_and_network() {
        let mut folded = Folded::default();
        let mut added = 0;
        let mut keys = Vec::new();
        for kind in [Kind::Download, Kind::Exchange] {
            for code in [ErrorCode::Unauthorized, ErrorCode::InvalidRequest] {
                for network in [1 << 8, 2 << 8] {
                    keys.push(refusal(kind, code, network));
                }
            }
        }
        for (times, of) in keys.iter().enumerate() {
            for _ in 0..=times {
                added += u64::from(folded.add(*of, 0).is_none());
            }
        }
        let counted: u64 = folded.windows.values().map(|window| window.count).sum();
        assert_eq!((folded.windows.len(), counted), (8, added));
        assert_eq!(folded.ended(59).len(), 0);
        assert_eq!(folded.ended(60).len(), 7, "one had one refusal, which is already written");
        assert_eq!(folded.windows.len(), 7);
        assert_eq!(folded.ended(120).len(), 0);
        assert!(folded.windows.is_empty(), "a window without refusals is removed");
    }

    #[test]
    fn a_clock_that_was_set_back_ends_a_window() {
        let mut folded = Folded::default();
        let of = refusal(Kind::Fetch, ErrorCode::OutOfScope, 1 << 8);
        assert!(folded.add(of, 1000).is_some() && folded.add(of, 1000).is_none());
        assert_eq!(folded.ended(10).len(), 1);
    }

    #[test]
    fn many_networks_do_not_fill_the_memory_and_every_refusal_is_counted() {
        let mut folded = Folded::default();
        let mut written = 0;
        for address in 0..100_000 {
            let of = refusal(Kind::Download, ErrorCode::Unauthorized, address << 8);
            written += u64::from(folded.add(of, 0).is_some());
        }
        assert_eq!(folded.windows.len(), MAX_WINDOWS + 1);
        let counted: u64 = folded.windows.values().map(|window| window.count).sum();
        assert_eq!(written + counted, 100_000);
    }

    #[test]
    fn a_draft_is_written_exactly_once() {
        let now = Arc::new(AtomicI64::new(0));
        let clock = Arc::clone(&now);
        let clock = Clock::from_fn(move || clock.load(Ordering::SeqCst));
        let log = AuditLog::new(clock, Folding::ByMinute, unread());
        for _ in 0..3 {
            let mut draft = log.draft(Kind::Whoami, None);
            draft.refused(ErrorCode::Unauthorized);
        }
        drop(log.draft(Kind::Whoami, None));
        let windows: Vec<_> = log.folded().unwrap().windows.values().map(|w| w.count).collect();
        assert_eq!(windows.iter().sum::<u64>(), 2, "the first of each window is written at once");
        assert_eq!(windows.len(), 2, "a draft without an outcome has a window of its own");
        now.store(60, Ordering::SeqCst);
        log.write_ended();
        assert!(log.folded().unwrap().windows.values().all(|window| window.count == 0));
    }
}
