//! Captures the log of one test's broker, as text and as JSON, and the panics.
//!
//! A journal captures the threads, the tasks and the blocking threads of one runtime. Without a
//! runtime, it captures the current thread only.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, Once, OnceLock, PoisonError};
use std::thread::ThreadId;

use tokio::runtime::Handle;
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt};

/// The log levels: `trace` for the broker, and the usual level for its libraries.
const LEVELS: &str = "info,stile_broker=trace";

/// Captures events of its runtime until it is dropped. Of two journals, the newer one captures.
pub struct Journal {
    place: Place,
    sink: Arc<Sink>,
}

/// The log lines and panics since the last take.
#[derive(Debug, Clone, Default)]
pub struct Logged {
    /// The lines in the form for people.
    pub human: Written,
    /// The lines in the form for CloudWatch.
    pub json: Written,
    /// The message of every panic, including those that were caught.
    pub panics: Vec<String>,
}

/// Log lines in one form.
#[derive(Debug, Clone, Default)]
pub struct Written {
    /// The number of events. Each must be one line.
    pub events: usize,
    /// The lines.
    pub text: String,
}

impl Journal {
    /// Starts to capture events of this runtime. Without a runtime, it captures this thread.
    pub fn start() -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(listen);
        let (place, sink) = (Place::here(), Arc::<Sink>::default());
        listening().entry(place).or_default().push(Arc::clone(&sink));
        Self { place, sink }
    }

    /// Takes the log lines and panics since the last take.
    pub fn taken(&self) -> Logged {
        let [human, json] = [&self.sink.human, &self.sink.json]
            .map(|written| std::mem::take(&mut *locked(written)));
        Logged { human, json, panics: std::mem::take(&mut *locked(&self.sink.panics)) }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let mut listening = listening();
        if let Some(here) = listening.get_mut(&self.place) {
            here.retain(|sink| !Arc::ptr_eq(sink, &self.sink));
            if here.is_empty() {
                listening.remove(&self.place);
            }
        }
    }
}

impl Logged {
    /// Returns the events of the audit log.
    pub fn audit(&self) -> Vec<serde_json::Value> {
        let lines = self.json.text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.filter(|line: &serde_json::Value| line["target"] == "audit").collect()
    }

    /// Returns every line in both forms.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.human.text.lines().chain(self.json.text.lines())
    }
}

/// The runtime or thread that an event comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    Runtime(tokio::runtime::Id),
    Thread(ThreadId),
}

impl Place {
    /// Returns the current runtime, which includes its blocking threads; otherwise the current
    /// thread.
    fn here() -> Self {
        Handle::try_current().map_or_else(
            |_| Self::Thread(std::thread::current().id()),
            |runtime| Self::Runtime(runtime.id()),
        )
    }
}

#[derive(Default)]
struct Sink {
    human: Mutex<Written>,
    json: Mutex<Written>,
    panics: Mutex<Vec<String>>,
}

impl Sink {
    fn here() -> Option<Arc<Self>> {
        listening().get(&Place::here())?.last().cloned()
    }
}

/// Installs one subscriber for the process, because a thread-local one misses the other threads of
/// its runtime.
///
/// It also installs a panic hook, because nothing logs the panic of a detached task.
fn listen() {
    let subscriber = Registry::default()
        .with(EnvFilter::new(LEVELS))
        .with(dynamic_filter_fn(|_, _| Sink::here().is_some()))
        .with(
            fmt::layer()
                .with_ansi(false)
                .with_writer(|| Line { sink: Sink::here(), form: |sink| &sink.human }),
        )
        .with(
            fmt::layer()
                .json()
                .flatten_event(true)
                .with_writer(|| Line { sink: Sink::here(), form: |sink| &sink.json }),
        );
    tracing::subscriber::set_global_default(subscriber)
        .expect("a test process installs no other subscriber");
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if let Some(sink) = Sink::here() {
            locked(&sink.panics).push(panic.to_string());
        }
        usual(panic);
    }));
}

fn listening() -> MutexGuard<'static, HashMap<Place, Vec<Arc<Sink>>>> {
    static LISTENING: OnceLock<Mutex<HashMap<Place, Vec<Arc<Sink>>>>> = OnceLock::new();
    locked(LISTENING.get_or_init(Mutex::default))
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes one event to a journal. An event arrives in one piece.
struct Line {
    sink: Option<Arc<Sink>>,
    form: fn(&Sink) -> &Mutex<Written>,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if let Some(sink) = &self.sink {
            let mut written = locked((self.form)(sink));
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
    fn a_journal_without_a_runtime_captures_its_own_thread_only() {
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
    async fn a_journal_captures_every_thread_and_task_of_its_own_runtime_only() {
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
    async fn the_newer_journal_of_two_captures_until_it_is_dropped() {
        let older = Journal::start();
        let newer = Journal::start();
        tracing::info!("one");
        assert_eq!((events(&older.taken()), events(&newer.taken())), ([0; 4], [1; 4]));
        drop(newer);
        tracing::info!("two");
        assert_eq!(events(&older.taken()), [1; 4]);
    }
}
