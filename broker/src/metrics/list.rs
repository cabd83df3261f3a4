//! The list of all metrics. The endpoint, CloudWatch, the dashboards and the table in
//! `docs/operations.md` have the names of this list; tests compare them.

/// What a metric measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A number that only increases while the process runs.
    Counter,
    /// A value at one time.
    Gauge,
    /// A distribution of durations.
    Histogram,
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// The name of its samples. Those of a histogram add `_bucket`, `_sum` and `_count`.
    pub name: &'static str,
    /// What it measures.
    pub kind: Kind,
    /// The meaning, in one sentence without its full stop.
    pub help: &'static str,
    /// The labels. Each has a bounded number of values, and no unknown caller chooses one.
    pub labels: &'static [&'static str],
    /// The labels that are dimensions in CloudWatch, where each combination of values has a price.
    /// `None` if the metric is not in CloudWatch.
    pub dimensions: Option<&'static [&'static str]>,
}

impl Metric {
    /// Returns whether the unit of the metric is seconds. Otherwise, it counts something.
    pub fn is_in_seconds(&self) -> bool {
        self.name.ends_with("_seconds")
    }
}

macro_rules! metrics {
    ($($id:ident: $kind:ident $name:literal [$($label:literal),*] $dimensions:expr, $help:literal;)+) => {
        $(
            #[doc = $help]
            pub(super) const $id: Metric = Metric {
                name: $name,
                kind: Kind::$kind,
                help: $help,
                labels: &[$($label),*],
                dimensions: $dimensions,
            };
        )+

        /// All metrics.
        pub const METRICS: &[Metric] = &[$($id),+];
    };
}

metrics! {
    BUILD: Gauge "stile_build_info" ["version"] None,
        "The version of the broker, with the value 1";
    DECISIONS: Counter "stile_decisions_total" ["event", "decision", "code"] Some(&["decision", "code"]),
        "Decisions by the fields `event`, `decision` and `code` of the audit log";
    DOWNLOADS: Counter "stile_downloads_total" ["module"] None,
        "Signed URLs of a module, of which the first 100 modules of a process have a label";
    CALLS: Counter "stile_service_calls_total" ["service", "operation", "result"]
        Some(&["service", "result"]),
        "Calls of AWS, and reads and writes of the database";
    DURATIONS: Histogram "stile_service_call_duration_seconds" ["service", "operation"]
        Some(&["service"]),
        "Durations of calls of AWS with their retries, and of reads and writes of the database";
    HITS: Counter "stile_cache_hits_total" ["cache"] Some(&[]),
        "Answers from a cache";
    MISSES: Counter "stile_cache_misses_total" ["cache"] Some(&[]),
        "Answers that a cache did not have";
    KEY_AGE: Gauge "stile_key_age_seconds" [] Some(&[]),
        "Age of the key that seals new tokens";
    REVOCATIONS_AGE: Gauge "stile_revocations_age_seconds" [] None,
        "Time since this broker last read the grants and revocations of a caller";
    EVENTS: Gauge "stile_events_waiting" ["destination"] Some(&["destination"]),
        "Events that a destination has not got yet, at most 1000";
    CONNECTIONS: Gauge "stile_connections" [] None,
        "Open connections of clients";
    EXCHANGES: Gauge "stile_exchanges" [] None,
        "Exchanges in progress";
    UPLOADS: Gauge "stile_uploads" [] None,
        "Uploads in progress";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_follow_openmetrics() {
        for Metric { name, kind, help, labels, dimensions } in METRICS {
            let is_plain = |text: &str| {
                text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
                    && !text.contains("__")
            };
            assert!(name.starts_with("stile_") && is_plain(name), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert!(!help.ends_with('.') && !help.contains('\n'), "{name}: {help}");
            assert!(labels.iter().all(|label| is_plain(label)), "{name}: {labels:?}");
            let dimensions = dimensions.unwrap_or_default();
            assert!(dimensions.iter().all(|label| labels.contains(label)), "{name}");
        }
    }
}
