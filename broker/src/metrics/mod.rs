//! The metrics of one broker: what it decides, what it calls, and what waits.
//!
//! A label has only values of this program, of the store, and of callers with a right. What a
//! stranger sends is in no label, so that nobody can fill the memory with series.

mod emf;
mod list;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::{EncodeLabelSet, prometheus_text, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric as Registered, Registry, Unit};
use stile_core::audit::Event;
use stile_core::package::PackageAddress;
use stile_protocol::names::Namespace;
use stile_store::ServiceCalls;

pub use emf::{CloudWatchNamespace, Emf, NamespaceError};
pub use list::{Kind, METRICS, Metric};

/// The most modules with a label of their own.
///
/// Each is a series in every place that reads the metrics. So a publisher with many modules cannot
/// fill the memory.
const MODULES: usize = 100;

/// The most modules of one namespace with a label of their own. So one tenant cannot take the labels
/// of all others.
const MODULES_OF_NAMESPACE: usize = 50;

/// The label of the other modules. No module has this name: an address contains `/`.
const OTHER_MODULES: &str = "other";

/// The value of a label that has none.
const NONE: &str = "none";

/// No label set has been read yet.
const NEVER: i64 = i64::MIN;

/// A gauge without labels, which can have no value.
type OptionalGauge = Family<[(String, String); 0], Gauge>;

/// The number of open connections.
pub type Connections = Gauge;

/// A cache, in the label `cache`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cache {
    /// The keys that seal tokens.
    Keyring,
    /// Opened tokens.
    Tokens,
    /// The grants and revocations of callers.
    Principals,
    /// Service tokens.
    ServiceTokens,
    /// The words of the modules of a namespace.
    Search,
    /// All trusts.
    Trusts,
}

impl Cache {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Keyring => "keyring",
            Self::Tokens => "tokens",
            Self::Principals => "principals",
            Self::ServiceTokens => "service_tokens",
            Self::Search => "search",
            Self::Trusts => "trusts",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    event: &'static str,
    decision: &'static str,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CacheLabels {
    cache: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModuleLabels {
    module: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DestinationLabels {
    destination: String,
}

/// A text format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The format of Prometheus before OpenMetrics, version 0.0.4.
    Prometheus,
}

/// Values that the broker has at the time of a read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Current {
    /// The time, in Unix seconds.
    pub now: i64,
    /// The creation of the key that seals new tokens, in Unix seconds. `None` before its first read.
    pub key_created_at: Option<i64>,
    /// Exchanges in progress.
    pub exchanges: usize,
    /// Uploads in progress.
    pub uploads: usize,
}

/// The metrics of one broker.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    calls: ServiceCalls,
    decisions: Family<DecisionLabels, Counter>,
    downloads: Family<ModuleLabels, Counter>,
    /// The number of modules with a label of their own, by namespace. Its holder adds one.
    modules: Mutex<HashMap<Namespace, usize>>,
    hits: Family<CacheLabels, Counter>,
    misses: Family<CacheLabels, Counter>,
    key_age: OptionalGauge,
    revocations_age: OptionalGauge,
    revocations_read_at: AtomicI64,
    events: Family<DestinationLabels, Gauge>,
    /// The destinations with a number. Its holder replaces the numbers.
    destinations: Mutex<HashSet<String>>,
    connections: Gauge,
    exchanges: Gauge,
    uploads: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(ServiceCalls::default())
    }
}

impl Metrics {
    /// Creates metrics that are all zero, except for the calls of this store.
    pub fn new(calls: ServiceCalls) -> Self {
        let mut new = Self {
            registry: Registry::default(),
            calls,
            decisions: Family::default(),
            downloads: Family::default(),
            modules: Mutex::default(),
            hits: Family::default(),
            misses: Family::default(),
            key_age: Family::default(),
            revocations_age: Family::default(),
            revocations_read_at: AtomicI64::new(NEVER),
            events: Family::default(),
            destinations: Mutex::default(),
            connections: Gauge::default(),
            exchanges: Gauge::default(),
            uploads: Gauge::default(),
        };
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        let to = &mut new.registry;
        register(to, &list::BUILD, build);
        register(to, &list::DECISIONS, new.decisions.clone());
        register(to, &list::DOWNLOADS, new.downloads.clone());
        register(to, &list::CALLS, new.calls.counted().clone());
        register(to, &list::DURATIONS, new.calls.durations().clone());
        register(to, &list::HITS, new.hits.clone());
        register(to, &list::MISSES, new.misses.clone());
        register(to, &list::KEY_AGE, new.key_age.clone());
        register(to, &list::REVOCATIONS_AGE, new.revocations_age.clone());
        register(to, &list::EVENTS, new.events.clone());
        register(to, &list::CONNECTIONS, new.connections.clone());
        register(to, &list::EXCHANGES, new.exchanges.clone());
        register(to, &list::UPLOADS, new.uploads.clone());
        new
    }

    /// Returns the calls of services.
    pub const fn calls(&self) -> &ServiceCalls {
        &self.calls
    }

    /// Returns the number of open connections, which the server changes.
    pub const fn connections(&self) -> &Connections {
        &self.connections
    }

    /// Counts one decision.
    pub fn decided(&self, event: &Event) {
        let (kind, outcome, code) = event.decided();
        let labels = DecisionLabels {
            event: kind.as_str(),
            decision: outcome.as_str(),
            code: code.map_or(NONE, |code| code.as_str()),
        };
        self.decisions.get_or_create(&labels).inc();
    }

    /// Counts one download of a module that exists, by a caller with the right to it.
    pub fn downloaded(&self, address: &PackageAddress) {
        let mut labels = ModuleLabels { module: address.to_string() };
        if let Some(count) = self.downloads.get(&labels) {
            count.inc();
            return;
        }
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        let of_namespace = modules.get(address.namespace()).copied().unwrap_or_default();
        if of_namespace >= MODULES_OF_NAMESPACE || modules.values().sum::<usize>() >= MODULES {
            OTHER_MODULES.clone_into(&mut labels.module);
        } else if self.downloads.get(&labels).is_none() {
            modules.insert(address.namespace().clone(), of_namespace + 1);
        }
        self.downloads.get_or_create(&labels).inc();
    }

    /// Counts one answer of a cache.
    pub fn hit(&self, cache: Cache) {
        self.hits.get_or_create(&CacheLabels { cache: cache.as_str() }).inc();
    }

    /// Counts one answer that a cache did not have.
    pub fn missed(&self, cache: Cache) {
        self.misses.get_or_create(&CacheLabels { cache: cache.as_str() }).inc();
    }

    /// Records that the store answered with the grants and revocations of a caller.
    pub fn revocations_read(&self, now: i64) {
        self.revocations_read_at.fetch_max(now, Ordering::Relaxed);
    }

    /// Replaces the numbers of waiting events. A destination that is not listed has none any more.
    ///
    /// A listed destination has a number at each time, so that no read of the metrics misses it.
    pub fn events_waiting(&self, waiting: impl IntoIterator<Item = (String, usize)>) {
        let mut known = self.destinations.lock().unwrap_or_else(PoisonError::into_inner);
        let mut gone = std::mem::take(&mut *known);
        for (destination, count) in waiting {
            gone.remove(&destination);
            known.insert(destination.clone());
            set(&self.events.get_or_create(&DestinationLabels { destination }), count);
        }
        for destination in gone {
            self.events.remove(&DestinationLabels { destination });
        }
    }

    /// Returns all metrics as text. It calls nothing and waits for nothing.
    pub fn encode(&self, current: Current, format: Format) -> String {
        let Current { now, key_created_at, exchanges, uploads } = current;
        let read_at = self.revocations_read_at.load(Ordering::Relaxed);
        set_age(&self.key_age, key_created_at, now);
        set_age(&self.revocations_age, Some(read_at).filter(|read_at| *read_at != NEVER), now);
        set(&self.exchanges, exchanges);
        set(&self.uploads, uploads);
        let mut encoded = String::new();
        let done = match format {
            Format::OpenMetrics => text::encode(&mut encoded, &self.registry),
            Format::Prometheus => prometheus_text::encode(&mut encoded, &self.registry),
        };
        // Only a writer can fail, and a `String` does not.
        done.map_or_else(|_| String::new(), |()| encoded)
    }
}

/// Registers a metric of the list. The library adds its own suffixes to the name.
fn register(registry: &mut Registry, listed: &Metric, metric: impl Registered) {
    let suffix = match metric.metric_type() {
        prometheus_client::metrics::MetricType::Info => "_info",
        _ if listed.is_in_seconds() => "_seconds",
        _ => "_total",
    };
    let name = listed.name.strip_suffix(suffix).unwrap_or(listed.name);
    if listed.is_in_seconds() {
        registry.register_with_unit(name, listed.help, Unit::Seconds, metric);
    } else {
        registry.register(name, listed.help, metric);
    }
}

fn set(gauge: &Gauge, count: usize) {
    gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
}

/// Sets the age of something. Without a time, the gauge has no value.
fn set_age(gauge: &OptionalGauge, since: Option<i64>, now: i64) {
    match since {
        Some(since) => {
            gauge.get_or_create(&[]).set(now.saturating_sub(since));
        }
        None => gauge.clear(),
    }
}

/// Shares metrics that nobody reads, for a part of a broker that a test creates on its own.
#[cfg(test)]
pub(crate) fn unread() -> std::sync::Arc<Metrics> {
    std::sync::Arc::default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_hundred_modules_have_a_label_and_the_others_one_together() {
        let metrics = Metrics::default();
        let modules = [("acme", MODULES), ("beta", 40), ("gamma", 17)];
        for _ in 0..2 {
            for (namespace, count) in modules {
                for n in 0..count {
                    let address = format!("{namespace}/m{n}/aws").parse().unwrap();
                    metrics.downloaded(&PackageAddress::Module(address));
                }
            }
        }
        let text = metrics.encode(Current::default(), Format::OpenMetrics);
        let counts: BTreeMap<&str, &str> = text
            .lines()
            .filter_map(|line| {
                line.strip_prefix("stile_downloads_total{module=\"")?.split_once("\"} ")
            })
            .collect();
        assert_eq!(counts.len(), MODULES + 1);
        let of = |namespace| counts.keys().filter(|name| name.starts_with(namespace)).count();
        assert_eq!((of("acme/"), of("beta/"), of("gamma/")), (MODULES_OF_NAMESPACE, 40, 10));
        assert_eq!((counts["acme/m0/aws"], counts["gamma/m9/aws"]), ("2", "2"));
        assert_eq!(counts[OTHER_MODULES], "114");
    }

    #[test]
    fn a_read_while_the_numbers_of_waiting_events_change_misses_none() {
        let metrics = Metrics::default();
        metrics.events_waiting([("ci".to_owned(), 1)]);
        std::thread::scope(|scope| {
            let counting = scope.spawn(|| {
                for count in 0..10_000 {
                    metrics.events_waiting([("bot".to_owned(), 1), ("ci".to_owned(), count)]);
                }
            });
            while !counting.is_finished() {
                let text = metrics.encode(Current::default(), Format::OpenMetrics);
                assert!(text.contains("stile_events_waiting{destination=\"ci\"}"), "{text}");
            }
        });
    }

    #[test]
    fn what_is_not_known_yet_has_no_value() {
        let metrics = Metrics::default();
        let text = |current| metrics.encode(current, Format::Prometheus);
        let at = Current { now: 100, ..Current::default() };
        let before = text(at);
        for name in ["stile_key_age_seconds", "stile_revocations_age_seconds", "stile_events"] {
            assert!(!before.contains(name), "{before}");
        }
        metrics.revocations_read(90);
        metrics.revocations_read(70);
        metrics.events_waiting([("ci".to_owned(), 3)]);
        let known = text(Current { key_created_at: Some(40), ..at });
        for line in [
            "stile_key_age_seconds 60",
            "stile_revocations_age_seconds 10",
            "stile_events_waiting{destination=\"ci\"} 3",
            "stile_connections 0",
        ] {
            assert!(known.lines().any(|found| found == line), "{line}: {known}");
        }
        metrics.events_waiting([]);
        assert!(!text(at).contains("stile_events"), "the webhook was removed");
    }
}
