//! Reports the result of a soak: counts, latencies, memory, and the conditions.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

use super::Phase;
use super::requests::Kind;

/// The number of wrong answers that the report lists one by one.
const LISTED: usize = 20;

/// The largest growth of the memory, in percent.
const GROWTH: u64 = 10;

/// Below this latency, the 99th percentile may be more than twice the usual one.
///
/// Clients and broker share the machine, so small latencies vary.
const UNNOTICED: Duration = Duration::from_millis(5);

/// The counts and latencies so far.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    outcomes: BTreeMap<(Kind, String), u64>,
    surprises: u64,
    listed: Vec<String>,
    reads: BTreeMap<Phase, Vec<Duration>>,
    mints: BTreeMap<Phase, Vec<Duration>>,
}

impl Tally {
    pub(super) fn add(&self, phase: Phase, kind: Kind, outcome: String, took: Duration) {
        let mut counts = self.0.lock().unwrap();
        if !kind.expected().contains(&outcome.as_str()) {
            counts.surprises += 1;
            if counts.listed.len() < LISTED {
                counts
                    .listed
                    .push(format!("{kind:?} was answered with {outcome} in phase {phase:?}"));
            }
        } else if kind.is_read() {
            counts.reads.entry(phase).or_default().push(took);
        } else if kind == Kind::Mint {
            counts.mints.entry(phase).or_default().push(took);
        }
        *counts.outcomes.entry((kind, outcome)).or_default() += 1;
    }

    pub(super) fn report(
        &self,
        took: Duration,
        start: u64,
        end: u64,
        garbage_calls: i64,
        calls: i64,
    ) -> Report {
        let counts = self.0.lock().unwrap();
        let latencies = |of: &BTreeMap<Phase, Vec<Duration>>| {
            [Phase::Usual, Phase::Garbage, Phase::Mixed]
                .map(|phase| Latency::of(of.get(&phase).cloned().unwrap_or_default()))
        };
        let [reads, mints] = [&counts.reads, &counts.mints].map(latencies);
        let failed: u64 = counts
            .outcomes
            .iter()
            .filter(|((_, outcome), _)| is_5xx(outcome))
            .map(|(_, n)| n)
            .sum();
        let latency = |what: &str, [usual, garbage, mixed]: &[Latency; 3]| {
            // A latency without measurements must not count as fast.
            let of = |said: &str,
                      usual: (usize, Duration),
                      under: (usize, Duration),
                      unnoticed: Duration| Invariant {
                what: format!("{what} {said}"),
                held: usual.0 > 0 && under.0 > 0 && under.1 <= (usual.1 * 2).max(unnoticed),
                found: format!("{} against {}", shown(under.1), shown(usual.1)),
            };
            let [usual_p50, garbage_p50, mixed_p50] =
                [usual, garbage, mixed].map(|latency| (latency.count, latency.p50));
            let [usual_p99, garbage_p99] =
                [usual, garbage].map(|latency| (latency.count, latency.p99));
            [
                of(
                    "under garbage take at most twice as long at the median",
                    usual_p50,
                    garbage_p50,
                    Duration::ZERO,
                ),
                of(
                    "under garbage take at most twice as long at the 99th percentile, or less than 5 ms",
                    usual_p99,
                    garbage_p99,
                    UNNOTICED,
                ),
                of(
                    "next to slow clients and all other kinds take at most twice as long at the median",
                    usual_p50,
                    mixed_p50,
                    Duration::ZERO,
                ),
            ]
        };
        let mut invariants = vec![
            Invariant {
                what: "no answer is a 5xx".to_owned(),
                held: failed == 0,
                found: failed.to_string(),
            },
            Invariant {
                what: "every answer is an expected one".to_owned(),
                held: counts.surprises == 0,
                found: format!("{} are not; {}", counts.surprises, counts.listed.join("; "))
                    .trim_end_matches("; ")
                    .to_owned(),
            },
            Invariant {
                what: "garbage causes no call to STS".to_owned(),
                held: garbage_calls == 0,
                found: garbage_calls.to_string(),
            },
            Invariant {
                what: "the broker asks STS once for a valid proof".to_owned(),
                held: calls == 0,
                found: format!("{calls} more calls"),
            },
            Invariant {
                what: "the memory was measured".to_owned(),
                held: start > 0 && end > 0,
                found: format!("{start} KiB, then {end} KiB"),
            },
            Invariant {
                what: format!("memory grows by at most {GROWTH} % after the warm-up"),
                held: end * 100 <= start * (100 + GROWTH),
                found: format!("{start} KiB, then {end} KiB"),
            },
        ];
        invariants.extend(latency("reads", &reads));
        invariants.extend(latency("mints", &mints));
        Report { took, start, end, outcomes: counts.outcomes.clone(), reads, mints, invariants }
    }
}

fn is_5xx(outcome: &str) -> bool {
    outcome.split(", ").any(|part| part.len() >= 3 && part.starts_with('5'))
}

/// A condition that must hold, and the measured figures.
#[derive(Debug)]
pub struct Invariant {
    /// The condition.
    pub what: String,
    /// Whether it held.
    pub held: bool,
    /// The measured figures.
    pub found: String,
}

#[derive(Debug, Default)]
struct Latency {
    count: usize,
    p50: Duration,
    p99: Duration,
}

impl Latency {
    fn of(mut took: Vec<Duration>) -> Self {
        took.sort_unstable();
        let at = |percent: usize| {
            took.get((took.len() * percent / 100).min(took.len().saturating_sub(1)))
                .copied()
                .unwrap_or_default()
        };
        Self { count: took.len(), p50: at(50), p99: at(99) }
    }

    fn json(&self) -> Value {
        json!({"count": self.count, "p50_us": micros(self.p50), "p99_us": micros(self.p99)})
    }
}

/// The results of a soak.
#[derive(Debug)]
pub struct Report {
    took: Duration,
    start: u64,
    end: u64,
    outcomes: BTreeMap<(Kind, String), u64>,
    reads: [Latency; 3],
    mints: [Latency; 3],
    invariants: Vec<Invariant>,
}

impl Report {
    /// Returns whether every condition held.
    pub fn held(&self) -> bool {
        self.invariants.iter().all(|invariant| invariant.held)
    }

    /// Returns the report as JSON.
    pub fn json(&self) -> Value {
        let phases = |[usual, garbage, mixed]: &[Latency; 3]| json!({"usual": usual.json(), "garbage": garbage.json(), "mixed": mixed.json()});
        let requests: u64 = self.outcomes.values().sum();
        json!({
            "seconds": self.took.as_secs(), "requests": requests,
            "outcomes": self.outcomes.iter().map(|((kind, outcome), n)| json!({"kind": format!("{kind:?}"), "outcome": outcome, "count": n})).collect::<Vec<_>>(),
            "memory_kib": {"start": self.start, "end": self.end}, "reads": phases(&self.reads), "mints": phases(&self.mints),
            "invariants": self.invariants.iter().map(|invariant| json!({"what": invariant.what, "held": invariant.held, "found": invariant.found})).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let requests: u64 = self.outcomes.values().sum();
        writeln!(formatter, "{requests} requests in {} s\n", self.took.as_secs())?;
        for ((kind, outcome), count) in &self.outcomes {
            writeln!(formatter, "{:<18}{outcome:<28}{count:>10}", format!("{kind:?}"))?;
        }
        writeln!(
            formatter,
            "\n{:<8}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}",
            "", "usual p50", "p99", "garbage p50", "p99", "mixed p50", "p99"
        )?;
        for (what, phases) in [("reads", &self.reads), ("mints", &self.mints)] {
            let cells: String = phases
                .iter()
                .map(|phase| format!("{:>12}{:>12}", shown(phase.p50), shown(phase.p99)))
                .collect();
            writeln!(formatter, "{what:<8}{cells}")?;
        }
        writeln!(
            formatter,
            "\nmemory: {} KiB after the warm-up, {} KiB at the end\n",
            self.start, self.end
        )?;
        for invariant in &self.invariants {
            writeln!(
                formatter,
                "{:<8}{}: {}",
                if invariant.held { "held" } else { "FAILED" },
                invariant.what,
                invariant.found
            )?;
        }
        Ok(())
    }
}

fn micros(duration: Duration) -> u64 {
    duration.as_micros().try_into().unwrap_or(u64::MAX)
}

fn shown(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEASURED: [Phase; 3] = [Phase::Usual, Phase::Garbage, Phase::Mixed];

    /// Creates a tally of reads and mints of 1 to 100 ms in those phases.
    fn measured(phases: &[Phase], kinds: &[Kind]) -> Tally {
        let tally = Tally::default();
        for (phase, kind) in
            phases.iter().flat_map(|phase| kinds.iter().map(move |kind| (*phase, *kind)))
        {
            for n in 1..=100 {
                tally.add(phase, kind, "200".to_owned(), Duration::from_millis(n));
            }
        }
        tally
    }

    fn held(tally: &Tally) -> bool {
        tally.report(Duration::from_secs(60), 1000, 1100, 0, 0).held()
    }

    #[test]
    fn a_condition_that_does_not_hold_fails_the_soak() {
        let kinds = [Kind::Versions, Kind::Mint];
        assert!(held(&measured(&MEASURED, &kinds)));
        for (kind, outcome, expected) in [
            (Kind::Versions, "503 store_unavailable", false),
            (Kind::Versions, "401", false),
            (Kind::GarbageToken, "200", false),
            (Kind::Replayed, "200, 200", false),
            (Kind::GarbageToken, "401", true),
            (Kind::Oversized, "431", true),
        ] {
            let tally = measured(&MEASURED, &kinds);
            tally.add(Phase::Mixed, kind, outcome.to_owned(), Duration::ZERO);
            assert_eq!(held(&tally), expected, "{kind:?} {outcome}");
        }
        let tally = measured(&MEASURED, &kinds);
        for (start, end, garbage, calls, expected) in [
            (1000, 1101, 0, 0, false),
            (1000, 1000, 1, 1, false),
            (1000, 1000, 0, 1, false),
            (0, 0, 0, 0, false),
            (1000, 0, 0, 0, false),
            (1000, 1100, 0, 0, true),
        ] {
            assert_eq!(
                tally.report(Duration::ZERO, start, end, garbage, calls).held(),
                expected,
                "{start} {end} {garbage} {calls}"
            );
        }
    }

    #[test]
    fn slow_requests_fail_the_soak_and_so_do_requests_that_were_not_measured() {
        for (kind, other) in [(Kind::Versions, Kind::Mint), (Kind::Mint, Kind::Versions)] {
            for (at, phase) in [(1, Phase::Garbage), (2, Phase::Mixed)] {
                let slow = measured(&MEASURED, &[Kind::Versions, Kind::Mint]);
                for _ in 0..200 {
                    slow.add(phase, kind, "200".to_owned(), Duration::from_millis(500));
                }
                assert!(!held(&slow), "{kind:?} while {phase:?}");
                let mut without = MEASURED.to_vec();
                without.remove(at);
                let unmeasured = measured(&without, &[kind]);
                for phase in MEASURED {
                    unmeasured.add(phase, other, "200".to_owned(), Duration::from_millis(1));
                }
                assert!(!held(&unmeasured), "no {kind:?} while {phase:?}");
            }
        }
    }

    #[test]
    fn percentiles_are_measured_latencies() {
        let latency = Latency::of((1..=1000).map(Duration::from_micros).collect());
        assert_eq!((latency.p50.as_micros(), latency.p99.as_micros()), (501, 991));
        assert_eq!(Latency::of(vec![]).p99, Duration::ZERO);
    }
}
