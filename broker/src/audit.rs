//! Writes the audit log, and folds the refusals of callers whom nobody knows into one line a minute.
//!
//! A [`Draft`] is the event of a decision that is being made. It is written when it is dropped, so each decision has
//! exactly one event, whatever becomes of the request.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stile_core::audit::{Anonymous, Event, Kind, Network};
use stile_core::clock::Clock;

/// How long refusals are counted before a line says how many there were, in seconds.
const WINDOW: i64 = 60;

/// How often the broker looks for windows that have ended.
const TICK: Duration = Duration::from_secs(5);

/// Kinds of refusals that are counted apart, by what was asked for, code and network. Past that, networks count as one:
/// whoever has many addresses must not fill the memory.
const APART: usize = 4096;

/// Whether refusals of callers whom nobody knows are folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folding {
    /// One line a minute for each code and network, with their number, so that garbage cannot fill a disk.
    ByMinute,
    /// One line each. Lambda needs it: it stops an instance without a word, and what was counted there would be lost.
    Off,
}

/// The audit log of one broker.
#[derive(Debug)]
pub struct AuditLog {
    clock: Clock,
    folded: Option<Mutex<Folded>>,
}

impl AuditLog {
    /// A log that folds or does not, by that clock.
    pub fn new(clock: Clock, folding: Folding) -> Arc<Self> {
        let folded = (folding == Folding::ByMinute).then(Mutex::default);
        Arc::new(Self { clock, folded })
    }

    /// The event of a decision that begins now.
    pub fn draft(self: &Arc<Self>, kind: Kind, network: Option<Network>) -> Draft {
        let mut event = Event::new(kind);
        event.network(network);
        Draft { log: Arc::clone(self), event }
    }

    /// Writes the count of each window that has ended; never returns.
    ///
    /// Here, and not at the next refusal: a line that stands for many requests must not carry the id of one.
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

    /// Writes every count there is, before the broker stops.
    pub fn flush(&self) {
        let all = self.folded().map(|mut folded| folded.take());
        all.iter().flatten().for_each(Event::write);
    }

    fn write(&self, event: &Event) {
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

/// The event of a decision that is being made. Dropped, it is written.
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

/// Refusals that are counted and not yet written.
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
    /// A clock that was set back ends a window too.
    fn has_ended(&self, now: i64) -> bool {
        !(0..WINDOW).contains(&now.saturating_sub(self.since))
    }
}

impl Folded {
    /// Counts one refusal. The first of a window is written at once, so that an operator sees it when it happens.
    fn add(&mut self, of: Anonymous, now: i64) -> Option<Event> {
        let full = self.windows.len() >= APART && !self.windows.contains_key(&of);
        let of = if full { Anonymous { network: None, ..of } } else { of };
        if let Some(window) = self.windows.get_mut(&of) {
            window.count = window.count.saturating_add(1);
            return None;
        }
        self.windows.insert(of, Window { since: now, count: 0 });
        Some(Event::folded(of, 1))
    }

    /// The lines of the windows that have ended. A line opens the next window, so that lines are a minute apart.
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

    fn refusal(kind: Kind, code: ErrorCode, address: u32) -> Anonymous {
        let network = Some(Network::of(Ipv4Addr::from(address).into()));
        Anonymous { kind, code: Some(code), network }
    }

    #[test]
    fn a_flood_is_one_line_a_minute_and_none_of_it_is_lost() {
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
        assert!(folded.take().is_empty(), "what was written is not counted again");
    }

    #[test]
    fn counts_are_exact_and_apart_by_code_network_and_what_was_asked() {
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
        assert_eq!(folded.ended(60).len(), 7, "one was refused once, and its line is written");
        assert_eq!(folded.windows.len(), 7);
        assert_eq!(folded.ended(120).len(), 0);
        assert!(folded.windows.is_empty(), "who is gone is forgotten");
    }

    #[test]
    fn a_clock_that_is_set_back_ends_a_window() {
        let mut folded = Folded::default();
        let of = refusal(Kind::Fetch, ErrorCode::OutOfScope, 1 << 8);
        assert!(folded.add(of, 1000).is_some() && folded.add(of, 1000).is_none());
        assert_eq!(folded.ended(10).len(), 1);
    }

    #[test]
    fn many_networks_do_not_fill_the_memory_and_are_counted_all_the_same() {
        let mut folded = Folded::default();
        let mut written = 0;
        for address in 0..100_000 {
            let of = refusal(Kind::Download, ErrorCode::Unauthorized, address << 8);
            written += u64::from(folded.add(of, 0).is_some());
        }
        assert_eq!(folded.windows.len(), APART + 1);
        let counted: u64 = folded.windows.values().map(|window| window.count).sum();
        assert_eq!(written + counted, 100_000);
    }

    #[test]
    fn a_draft_is_written_once_whatever_becomes_of_it() {
        let now = Arc::new(AtomicI64::new(0));
        let clock = Arc::clone(&now);
        let log =
            AuditLog::new(Clock::from_fn(move || clock.load(Ordering::SeqCst)), Folding::ByMinute);
        for _ in 0..3 {
            let mut draft = log.draft(Kind::Whoami, None);
            draft.refused(ErrorCode::Unauthorized);
        }
        drop(log.draft(Kind::Whoami, None));
        let windows: Vec<_> = log.folded().unwrap().windows.values().map(|w| w.count).collect();
        assert_eq!(windows.iter().sum::<u64>(), 2, "the first of each is written at once");
        assert_eq!(windows.len(), 2, "and who hung up is counted apart");
        now.store(60, Ordering::SeqCst);
        log.write_ended();
        assert!(log.folded().unwrap().windows.values().all(|window| window.count == 0));
    }
}
