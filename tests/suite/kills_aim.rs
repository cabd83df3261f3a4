//! The moment of a kill: before a program touches the store, while it works there, or after it
//! reports success.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use stile_tests::aws::emulated::EmulatedAws;
use stile_tests::seed::SeededRandom;
use stile_tests::time_limits;

/// The moment that a kill hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hit {
    /// The program had not touched the store.
    Before,
    /// It had touched the store, and had not reported success.
    During,
    /// It had reported success.
    After,
}

/// The kills so far in one kind of work.
#[derive(Debug, Default)]
pub(crate) struct Aimed {
    pub(crate) turns: u32,
    pub(crate) hits: BTreeMap<Hit, u32>,
    /// The longest time from the first touch of the store to the acknowledgement.
    pub(crate) longest: Duration,
}

impl Aimed {
    /// Waits for the moment of the next kill of a running program, and returns what the kill hits.
    pub(crate) async fn aim(
        &mut self,
        chance: &mut SeededRandom,
        mut touches: impl FnMut() -> bool,
        mut is_done: impl FnMut() -> bool,
    ) -> Hit {
        let turn = self.turns % 4;
        self.turns += 1;
        if turn != 1 {
            until(|| touches() || is_done()).await;
            let touched = Instant::now();
            match turn {
                0 => {
                    until(&mut is_done).await;
                    self.longest = self.longest.max(touched.elapsed());
                }
                2 => moment(chance, self.longest).await,
                _ => {}
            }
        }
        // The order matters: if the work ends during the check, it counts as in progress.
        let (done, touched) = (is_done(), touches());
        let hit = match (done, touched) {
            (true, _) => Hit::After,
            (false, true) => Hit::During,
            (false, false) => Hit::Before,
        };
        *self.hits.entry(hit).or_default() += 1;
        hit
    }

    /// Returns the number of kills at that moment.
    pub(crate) fn hits(&self, hit: Hit) -> u32 {
        self.hits.get(&hit).copied().unwrap_or_default()
    }
}

/// Waits for a random time, up to `longest`.
pub(crate) async fn moment(chance: &mut SeededRandom, longest: Duration) {
    let longest = u64::try_from(longest.as_micros()).unwrap().max(1);
    let _ = tokio::time::timeout(
        Duration::from_micros(chance.below(longest)),
        std::future::pending::<()>(),
    )
    .await;
}

/// Waits until a condition holds.
async fn until(mut is_so: impl FnMut() -> bool) {
    let waited = time_limits::wait(async {
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        while !is_so() {
            tick.tick().await;
        }
    });
    waited.await.expect("a program touches the store, and ends");
}

/// Returns a check whether a process that just started has touched the store.
pub(crate) fn touches(aws: Option<&EmulatedAws>, pid: u32) -> impl FnMut() -> bool {
    let mut has_called = false;
    move || match aws {
        None => has_open(pid, "stile.sqlite3"),
        Some(aws) => {
            has_called = has_called || !aws.proxy.take_names().is_empty();
            has_called
        }
    }
}

/// Returns whether a process has a file of that name open.
fn has_open(pid: u32, name: &str) -> bool {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    open.filter_map(|entry| std::fs::read_link(entry.path()).ok()).any(|file| file.ends_with(name))
}
