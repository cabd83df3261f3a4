//! What the broker of one test logs, in the two forms that the program writes, and what panics there; each test's apart.
//!
//! It hears one runtime: its own thread, every task, and the threads on which it waits for disks. Where there is no runtime
//! it hears its thread.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, Once, OnceLock, PoisonError};
use std::thread::ThreadId;

use tokio::runtime::Handle;
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt};

/// What is heard: all that the broker can be asked to log, and what its libraries say at the usual level.
const LEVELS: &str = "info,stile_broker=trace";

/// Hears where it was started, until it is dropped; where two were, the younger one does.
pub struct Journal {
    place: Place,
    ears: Arc<Ears>,
}

/// What was logged since the last look.
#[derive(Debug, Clone, Default)]
pub struct Logged {
    /// As a person reads it.
    pub human: Written,
    /// As CloudWatch reads it.
    pub json: Written,
    /// What every panic said, wherever it was caught.
    pub panics: Vec<String>,
}

/// Lines in one form.
#[derive(Debug, Clone, Default)]
pub struct Written {
    /// How many events there were, each of which is to be one line.
    pub events: usize,
    /// The lines.
    pub text: String,
}

impl Journal {
    /// Hears this runtime, or this thread where there is none, from now on.
    pub fn start() -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(listen);
        let (place, ears) = (Place::here(), Arc::<Ears>::default());
        listening().entry(place).or_default().push(Arc::clone(&ears));
        Self { place, ears }
    }

    /// What was logged since the last look.
    pub fn taken(&self) -> Logged {
        let [human, json] = [&self.ears.human, &self.ears.json]
            .map(|written| std::mem::take(&mut *locked(written)));
        Logged { human, json, panics: std::mem::take(&mut *locked(&self.ears.panics)) }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let mut listening = listening();
        if let Some(here) = listening.get_mut(&self.place) {
            here.retain(|ears| !Arc::ptr_eq(ears, &self.ears));
            if here.is_empty() {
                listening.remove(&self.place);
            }
        }
    }
}

impl Logged {
    /// The events of the audit log.
    pub fn audit(&self) -> Vec<serde_json::Value> {
        let lines = self.json.text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.filter(|line: &serde_json::Value| line["target"] == "audit").collect()
    }

    /// Every line in both forms.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.human.text.lines().chain(self.json.text.lines())
    }
}

/// Where something is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    Runtime(tokio::runtime::Id),
    Thread(ThreadId),
}

impl Place {
    /// A thread that waits for a disk is its runtime's as well.
    fn here() -> Self {
        Handle::try_current().map_or_else(
            |_| Self::Thread(std::thread::current().id()),
            |runtime| Self::Runtime(runtime.id()),
        )
    }
}

#[derive(Default)]
struct Ears {
    human: Mutex<Written>,
    json: Mutex<Written>,
    panics: Mutex<Vec<String>>,
}

impl Ears {
    fn here() -> Option<Arc<Self>> {
        listening().get(&Place::here())?.last().cloned()
    }
}

/// One subscriber for the process, since a thread's own would not be heard on the others of its runtime; and one who is
/// told of panics, which nobody logs where a task is left to itself.
fn listen() {
    let subscriber = Registry::default()
        .with(EnvFilter::new(LEVELS))
        .with(dynamic_filter_fn(|_, _| Ears::here().is_some()))
        .with(
            fmt::layer()
                .with_ansi(false)
                .with_writer(|| Line { ears: Ears::here(), form: |ears| &ears.human }),
        )
        .with(
            fmt::layer()
                .json()
                .flatten_event(true)
                .with_writer(|| Line { ears: Ears::here(), form: |ears| &ears.json }),
        );
    tracing::subscriber::set_global_default(subscriber)
        .expect("nobody else listens in a process of tests");
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if let Some(ears) = Ears::here() {
            locked(&ears.panics).push(panic.to_string());
        }
        usual(panic);
    }));
}

fn listening() -> MutexGuard<'static, HashMap<Place, Vec<Arc<Ears>>>> {
    static LISTENING: OnceLock<Mutex<HashMap<Place, Vec<Arc<Ears>>>>> = OnceLock::new();
    locked(LISTENING.get_or_init(Mutex::default))
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes one event: it is written in one piece.
struct Line {
    ears: Option<Arc<Ears>>,
    form: fn(&Ears) -> &Mutex<Written>,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if let Some(ears) = &self.ears {
            let mut written = locked((self.form)(ears));
            written.events += 1;
            written.text.push_str(&String::from_utf8_lossy(bytes));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(logged: &Logged) -> [usize; 4] {
        [
            logged.human.events,
            logged.human.text.lines().count(),
            logged.json.events,
            logged.json.text.lines().count(),
        ]
    }

    #[test]
    fn a_journal_without_a_runtime_hears_its_own_thread_and_no_other() {
        let journal = Journal::start();
        tracing::info!(what = "first", "here");
        std::thread::spawn(|| {
            let other = Journal::start();
            tracing::info!("there");
            assert_eq!(events(&other.taken()), [1; 4]);
        })
        .join()
        .unwrap();
        let logged = journal.taken();
        assert_eq!(events(&logged), [1; 4]);
        assert!(
            logged.lines().all(|line| line.contains("here") && line.contains("first")),
            "{logged:?}"
        );
        assert_eq!(events(&journal.taken()), [0; 4]);
    }

    #[tokio::test]
    async fn a_journal_hears_every_thread_and_task_of_its_runtime_and_no_other_runtime() {
        let journal = Journal::start();
        std::thread::spawn(|| {
            let other = tokio::runtime::Builder::new_current_thread().build().unwrap();
            other.block_on(async {
                tracing::info!("elsewhere");
                tokio::task::spawn_blocking(|| tracing::info!("elsewhere on a disk"))
                    .await
                    .unwrap();
                assert!(tokio::spawn(async { panic!("elsewhere") }).await.is_err());
            });
        })
        .join()
        .unwrap();
        tokio::task::spawn_blocking(|| tracing::info!("on a disk")).await.unwrap();
        tokio::spawn(async { tracing::info!("in a task") }).await.unwrap();
        assert!(tokio::spawn(async { panic!("left to itself") }).await.is_err());
        assert!(tokio::task::spawn_blocking(|| panic!("while it waits")).await.is_err());
        let logged = journal.taken();
        assert_eq!(events(&logged), [2; 4], "{logged:?}");
        assert!(
            logged.human.text.contains("on a disk") && logged.human.text.contains("in a task"),
            "{logged:?}"
        );
        let [task, disk] = &logged.panics[..] else { panic!("{logged:?}") };
        assert!(task.contains("left to itself") && disk.contains("while it waits"), "{logged:?}");
    }

    #[tokio::test]
    async fn the_younger_journal_of_two_hears_until_it_is_dropped() {
        let elder = Journal::start();
        let younger = Journal::start();
        tracing::info!("one");
        assert_eq!((events(&elder.taken()), events(&younger.taken())), ([0; 4], [1; 4]));
        drop(younger);
        tracing::info!("two");
        assert_eq!(events(&elder.taken()), [1; 4]);
    }
}
