//! Runs the soak: the released broker under good and bad requests at once, and checks the
//! conditions.
//!
//! Garbage arrives at a steady rate, as from strangers on the internet, and not at full speed. The
//! soak measures whether good requests get slower. It does not measure the throughput of one
//! machine.

mod requests;
mod tally;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use self::requests::Kind::{
    self, Archive, Download, Expired, GarbageExchange, GarbageToken, Mint, Oversized, Publish,
    Replayed, Revoked, Slow, Ungranted, Versions, Whoami,
};
use self::requests::Registry;
use self::tally::Tally;
pub use self::tally::{Invariant, Report};

/// The garbage tokens and garbage exchanges of a soak of ten minutes. A shorter soak sends fewer.
const TOKENS: u64 = 1_000_000;
const EXCHANGES: u64 = 100_000;

/// Garbage tokens per second. The soak sends ten times fewer exchanges.
const TOKENS_PER_SECOND: u32 = 4_000;

/// The requests whose latency the soak measures.
const GOOD: [Plan; 2] = [
    Plan {
        kinds: &[Versions, Download, Versions, Archive, Versions, Whoami],
        workers: 4,
        per_second: 200,
    },
    Plan { kinds: &[Mint], workers: 2, per_second: 10 },
];

/// The other kinds of requests, which the soak sends together with [`GOOD`].
const MIXED: [Plan; 6] = [
    Plan { kinds: &[Publish], workers: 1, per_second: 2 },
    Plan {
        kinds: &[GarbageToken, GarbageToken, GarbageToken, GarbageExchange],
        workers: 4,
        per_second: 1_000,
    },
    Plan { kinds: &[Expired, Revoked, Ungranted], workers: 2, per_second: 100 },
    Plan { kinds: &[Replayed], workers: 1, per_second: 5 },
    Plan { kinds: &[Oversized], workers: 1, per_second: 10 },
    Plan { kinds: &[Slow], workers: 20, per_second: 20 },
];

/// A phase of the soak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// All kinds of requests, until the broker has made its one-time allocations.
    WarmUp,
    /// Only good requests.
    Usual,
    /// Good requests under garbage.
    Garbage,
    /// All kinds of requests.
    Mixed,
}

/// A plan to send requests of these kinds in turn, at a rate.
#[derive(Debug, Clone, Copy)]
struct Plan {
    kinds: &'static [Kind],
    workers: u32,
    per_second: u32,
}

/// The end of a plan: at a time, after the last request, or on a signal.
#[derive(Debug, Clone)]
struct Ends {
    at: Option<Instant>,
    left: Option<Arc<AtomicU64>>,
    stopped: Arc<AtomicBool>,
}

impl Ends {
    fn after(time: Duration) -> Self {
        Self { at: Some(Instant::now() + time), left: None, stopped: Arc::default() }
    }

    fn when_sent(requests: u64) -> Self {
        Self { at: None, left: Some(Arc::new(AtomicU64::new(requests))), stopped: Arc::default() }
    }

    fn when_stopped() -> Self {
        Self { at: None, left: None, stopped: Arc::default() }
    }

    /// Takes the next request from the plan. Returns `false` if the plan has ended.
    fn more(&self) -> bool {
        let sent = |left: &Arc<AtomicU64>| {
            left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                .is_err()
        };
        !(self.stopped.load(Ordering::SeqCst)
            || self.at.is_some_and(|at| Instant::now() >= at)
            || self.left.as_ref().is_some_and(sent))
    }
}

/// Runs the soak for about that many minutes, and returns the report.
pub async fn run(minutes: u64) -> Report {
    let whole = Duration::from_secs(60 * minutes.max(1));
    let progress = Progress::new(whole);
    progress.phase("starting the broker");
    let soak = Soak { registry: Arc::new(Registry::start().await), tally: Arc::default() };
    let started = Instant::now();
    let ticking = tokio::spawn(progress.clone().tick(started));

    progress.phase("warming up: all kinds of requests");
    soak.mixed(Phase::WarmUp, whole / 10).await;
    let start = soak.registry.memory();
    progress.phase("good requests only");
    soak.together(Phase::Usual, &GOOD, &Ends::after(whole / 5)).await;
    let (tokens, exchanges) =
        (TOKENS * minutes.clamp(1, 10) / 10, EXCHANGES * minutes.clamp(1, 10) / 10);
    progress.phase(&format!(
        "good requests under {tokens} garbage tokens and {exchanges} garbage exchanges"
    ));
    let calls = soak.registry.unexpected_calls();
    soak.garbage(tokens, exchanges).await;
    let garbage_calls = soak.registry.unexpected_calls() - calls;
    progress.phase("all kinds of requests");
    soak.mixed(Phase::Mixed, whole.saturating_sub(started.elapsed()).max(whole / 5)).await;
    ticking.abort();
    progress.end();
    let end = soak.registry.memory();
    soak.tally.report(
        started.elapsed(),
        start,
        end,
        garbage_calls,
        soak.registry.unexpected_calls(),
    )
}

struct Soak {
    registry: Arc<Registry>,
    tally: Arc<Tally>,
}

impl Soak {
    async fn mixed(&self, phase: Phase, time: Duration) {
        self.together(phase, &[&GOOD[..], &MIXED[..]].concat(), &Ends::after(time)).await;
    }

    async fn garbage(&self, tokens: u64, exchanges: u64) {
        let stopped = Ends::when_stopped();
        let token = [Plan { kinds: &[GarbageToken], workers: 16, per_second: TOKENS_PER_SECOND }];
        let exchange =
            [Plan { kinds: &[GarbageExchange], workers: 4, per_second: TOKENS_PER_SECOND / 10 }];
        let garbage = async {
            let (tokens, exchanges) = (Ends::when_sent(tokens), Ends::when_sent(exchanges));
            tokio::join!(
                self.together(Phase::Garbage, &token, &tokens),
                self.together(Phase::Garbage, &exchange, &exchanges)
            );
            stopped.stopped.store(true, Ordering::SeqCst);
        };
        tokio::join!(garbage, self.together(Phase::Garbage, &GOOD, &stopped));
    }

    /// Runs plans at the same time, until all have ended.
    async fn together(&self, phase: Phase, plans: &[Plan], ends: &Ends) {
        let mut workers = JoinSet::new();
        for plan in plans {
            for worker in 0..plan.workers {
                workers.spawn(work(
                    Arc::clone(&self.registry),
                    Arc::clone(&self.tally),
                    phase,
                    *plan,
                    worker,
                    ends.clone(),
                ));
            }
        }
        while let Some(ended) = workers.join_next().await {
            ended.unwrap();
        }
    }
}

async fn work(
    registry: Arc<Registry>,
    tally: Arc<Tally>,
    phase: Phase,
    plan: Plan,
    worker: u32,
    ends: Ends,
) {
    let mut tick =
        tokio::time::interval(Duration::from_secs(plan.workers.into()) / plan.per_second);
    // Do not catch up on missed ticks: that would cause a burst.
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for kind in plan.kinds.iter().cycle().skip(worker as usize) {
        if !ends.more() {
            return;
        }
        tick.tick().await;
        if let Some((outcome, took)) = registry.send(*kind).await {
            tally.add(phase, *kind, outcome, took);
        }
    }
}

/// The progress display: a bar on a terminal, otherwise one line for each phase.
#[derive(Clone)]
struct Progress(ProgressBar);

impl Progress {
    fn new(whole: Duration) -> Self {
        let style = ProgressStyle::with_template("{elapsed_precise} {bar:30} {msg}").unwrap();
        Self(ProgressBar::new(whole.as_secs()).with_style(style))
    }

    fn phase(&self, what: &str) {
        if self.0.is_hidden() {
            use std::io::Write as _;
            let _ = writeln!(std::io::stderr(), "soak: {what}");
        }
        self.0.set_message(what.to_owned());
    }

    async fn tick(self, started: Instant) {
        let mut tick = tokio::time::interval(Duration::from_millis(500));
        loop {
            tick.tick().await;
            self.0.set_position(started.elapsed().as_secs());
        }
    }

    fn end(&self) {
        self.0.finish_and_clear();
    }
}
