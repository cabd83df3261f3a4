//! Runs the benchmark: the search over 5,000 modules, compared with a read of `versions`.
//!
//! The time of one request depends on the machine. So each figure is a ratio to a request of the same
//! run, and the two alternate.

use std::fmt;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use stile_protocol::names::Permission::{Download, Upload};

use crate::broker::{Backend, TestBroker, deploy, module_zip, role};
use crate::many_modules::{COMMON, RARE, fill};
use crate::sts::identity::Identity;

/// The modules in the store.
const MODULES: usize = 5_000;

/// How often each request is measured.
const ROUNDS: usize = 200;

/// How often a search that reads the store is measured.
const COLD_ROUNDS: usize = 5;

/// The time of a search, as a multiple of the time of `versions`.
const GOAL: f64 = 20.0;

const VERSIONS: &str = "/v1/modules/acme/vpc/aws/versions";

/// One measured request.
#[derive(Debug)]
struct Row {
    name: String,
    time: Duration,
    /// The time of `versions` in the same rounds.
    baseline: Duration,
    /// Calls of AWS in all rounds.
    calls: usize,
    goal: Option<f64>,
}

impl Row {
    fn ratio(&self) -> f64 {
        self.time.as_secs_f64() / self.baseline.as_secs_f64()
    }

    fn met(&self) -> bool {
        self.goal.is_none_or(|goal| self.ratio() <= goal && self.calls == 0)
    }
}

/// The result of the benchmark.
#[derive(Debug)]
pub struct Report(Vec<Row>);

impl Report {
    /// Returns whether each request reached its goal.
    pub fn met(&self) -> bool {
        self.0.iter().all(Row::met)
    }

    /// Returns the report for programs.
    pub fn json(&self) -> Value {
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        let rows = self.0.iter().map(|row| {
            let value = json!({
                "value": micros(row.time), "unit": "us", "baseline": micros(row.baseline),
                "ratio": row.ratio(), "goal": row.goal, "met": row.met(), "calls": row.calls,
            });
            (row.name.clone(), value)
        });
        Value::Object(rows.collect::<Map<_, _>>())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<48} {:>10} {:>10} {:>7} {:>5}",
            "search", "time", "versions", "ratio", "goal"
        )?;
        for row in &self.0 {
            let micros = |time: Duration| format!("{:.0} us", time.as_secs_f64() * 1e6);
            let goal = row.goal.map_or_else(|| "-".to_owned(), |goal| goal.to_string());
            let (time, baseline) = (micros(row.time), micros(row.baseline));
            let missed = if row.met() { "" } else { "  missed" };
            let ratio = row.ratio();
            writeln!(
                f,
                "{:<48} {time:>10} {baseline:>10} {ratio:>7.1} {goal:>5}{missed}",
                row.name
            )?;
        }
        Ok(())
    }
}

/// Runs the benchmark on both stores. A store whose tools are missing is left out.
pub async fn run() -> Report {
    let mut rows = Vec::new();
    for backend in [Backend::Embedded, Backend::Aws] {
        let store = if backend == Backend::Aws { "DynamoDB" } else { "embedded" };
        if let Some(test) = TestBroker::start_on(backend).await {
            measure(&test, store, &mut rows).await;
        }
    }
    Report(rows)
}

async fn measure(test: &TestBroker, store: &str, rows: &mut Vec<Row>) {
    test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    test.grant(&role("auditor"), "*", &[Download]).await;
    let token = test.token(&deploy(), &[Download, Upload]).await;
    let auditor = Identity::role("111122223333", "auditor", "i-0abc");
    let auditor = test.token(&auditor, &[Download]).await;
    let published = test.publish("acme/vpc/aws", "1.0.0", module_zip("x"), &token).await;
    assert_eq!(published.status, 201, "{}", published.text());
    fill(test, MODULES).await;
    for (what, query, token) in [
        ("a word of one README", format!("q={RARE}"), &token),
        ("the name of one module", "q=m4321".to_owned(), &token),
        ("a word of every README", format!("q={COMMON}&limit=20"), &token),
        ("the same, a page of 100", format!("q={COMMON}"), &token),
        ("three words", format!("q={COMMON}+number+input"), &token),
        ("one letter", "q=w&limit=20".to_owned(), &token),
        ("no word", "limit=20".to_owned(), &token),
        ("of every namespace", format!("q={RARE}"), &auditor),
    ] {
        let path = format!("/v1/modules/search?{query}");
        let (mut times, mut baselines) = (Vec::new(), Vec::new());
        // The first request reads the store.
        timed(test, &path, token).await;
        count(test);
        for _ in 0..ROUNDS {
            times.push(timed(test, &path, token).await);
        }
        let calls = count(test);
        // Alternating, so that both have the same share of the machine.
        times.clear();
        for _ in 0..ROUNDS {
            baselines.push(timed(test, VERSIONS, token).await);
            times.push(timed(test, &path, token).await);
        }
        let (time, baseline) = (median(times), median(baselines));
        rows.push(Row {
            name: format!("{store}: {what}"),
            time,
            baseline,
            calls,
            goal: Some(GOAL),
        });
    }
    let path = format!("/v1/modules/search?q={RARE}");
    let (mut times, mut baselines, mut calls) = (Vec::new(), Vec::new(), 0);
    for _ in 0..COLD_ROUNDS {
        test.advance(10);
        baselines.push(timed(test, VERSIONS, &token).await);
        count(test);
        times.push(timed(test, &path, &token).await);
        calls += count(test);
    }
    let name = format!("{store}: after ten seconds, from the store");
    let (time, baseline) = (median(times), median(baselines));
    rows.push(Row { name, time, baseline, calls, goal: None });
}

/// Returns the time of one request, which must succeed.
async fn timed(test: &TestBroker, path: &str, token: &str) -> Duration {
    let start = Instant::now();
    let reply = test.get(path, token).await;
    let time = start.elapsed();
    assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    time
}

/// Returns the number of calls of AWS since the last time.
fn count(test: &TestBroker) -> usize {
    match test.backend() {
        Backend::Embedded => 0,
        Backend::Aws => test.aws().proxy.take_names().len(),
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(time: u64, calls: usize, goal: Option<f64>) -> Row {
        let (time, baseline) = (Duration::from_micros(time), Duration::from_micros(100));
        Row { name: "embedded: x".to_owned(), time, baseline, calls, goal }
    }

    #[test]
    fn a_search_misses_its_goal_if_it_takes_too_long_or_calls_aws() {
        for (row, met) in [
            (row(2_100, 0, Some(GOAL)), false),
            (row(100, 1, Some(GOAL)), false),
            (row(2_000, 0, Some(GOAL)), true),
            (row(9_000, 5, None), true),
        ] {
            let report = Report(vec![row]);
            assert_eq!(report.met(), met, "{report}");
            assert_eq!(report.json()["embedded: x"]["met"], met);
            assert_eq!(report.to_string().contains("missed"), !met, "{report}");
        }
    }

    #[test]
    fn the_median_is_the_middle_one() {
        let times = [5, 1, 9].map(Duration::from_micros);
        assert_eq!(median(times.to_vec()), Duration::from_micros(5));
    }
}
