//! What the broker of one test logs, in the two forms that the program writes, kept apart from every other test's.
//!
//! It hears one thread, and with it a broker that runs on that thread's own runtime; threads that wait for disks are not
//! heard.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use tracing::subscriber::{DefaultGuard, NoSubscriber};
use tracing::{Dispatch, Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::{EnvFilter, Registry, fmt};

/// What is heard: all that the broker can be asked to log, and what its libraries say at the usual level.
const LEVELS: &str = "info,stile_broker=trace";

/// Hears its thread until it is dropped.
pub struct Journal {
    events: Arc<AtomicUsize>,
    human: Buffer,
    json: Buffer,
    _hears: DefaultGuard,
}

/// What was logged since the last look.
#[derive(Debug, Clone, Default)]
pub struct Logged {
    /// How many events there were, each of which is to be one line.
    pub events: usize,
    /// As a person reads them.
    pub human: String,
    /// As CloudWatch reads them.
    pub json: String,
}

impl Journal {
    /// Hears this thread from now on.
    pub fn start() -> Self {
        // Where one subscriber is all there is, `tracing` asks the thread that comes by a log line first whether anybody
        // wants it, and that may be another test's, where nobody does. Two that stay make it ask them all.
        static MORE_THAN_ONE: OnceLock<[Dispatch; 2]> = OnceLock::new();
        MORE_THAN_ONE.get_or_init(|| [Dispatch::new(NoSubscriber::new()), Dispatch::new(NoSubscriber::new())]);
        let (events, human, json) = (Arc::default(), Buffer::default(), Buffer::default());
        let (for_human, for_json) = (human.clone(), json.clone());
        let subscriber = Registry::default()
            .with(EnvFilter::new(LEVELS))
            .with(Count(Arc::clone(&events)))
            .with(fmt::layer().with_ansi(false).with_writer(move || for_human.clone()))
            .with(fmt::layer().json().flatten_event(true).with_writer(move || for_json.clone()));
        Self { events, human, json, _hears: tracing::subscriber::set_default(subscriber) }
    }

    /// What was logged since the last look.
    pub fn taken(&self) -> Logged {
        Logged { events: self.events.swap(0, Ordering::SeqCst), human: self.human.taken(), json: self.json.taken() }
    }
}

impl Logged {
    /// Every line in both forms.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.human.lines().chain(self.json.lines())
    }
}

struct Count(Arc<AtomicUsize>);

impl<S: Subscriber> Layer<S> for Count {
    fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn taken(&self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut *self.0.lock().unwrap())).into_owned()
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_hears_its_own_thread_and_no_other() {
        let journal = Journal::start();
        tracing::info!(what = "first", "here");
        std::thread::spawn(|| {
            let other = Journal::start();
            tracing::info!("there");
            assert_eq!(other.taken().events, 1);
        })
        .join()
        .unwrap();
        let logged = journal.taken();
        assert_eq!((logged.events, logged.human.lines().count(), logged.json.lines().count()), (1, 1, 1));
        assert!(logged.lines().all(|line| line.contains("here") && line.contains("first")), "{logged:?}");
        assert_eq!(journal.taken().events, 0);
    }
}
