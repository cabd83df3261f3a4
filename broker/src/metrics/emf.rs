//! Writes metrics as lines of CloudWatch's embedded metric format.
//!
//! A line has what changed since the previous one, because CloudWatch adds up the values of all
//! lines. It is made from the same text that the endpoint has, so both have the same metrics.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value, json};

use super::{Kind, METRICS, Metric};

/// The most values of one metric in a line. CloudWatch ignores a line with more.
const MAX_VALUES: u32 = 100;

/// The most characters of a namespace of CloudWatch.
const MAX_NAMESPACE: usize = 255;

/// The reason why a text is not a namespace of CloudWatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a namespace has 1 to 255 letters, digits and characters of `.-_/#`, and does not begin with `AWS/`"
)]
pub struct NamespaceError;

/// The namespace of metrics in CloudWatch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudWatchNamespace(String);

impl CloudWatchNamespace {
    /// Parses a namespace.
    ///
    /// # Errors
    ///
    /// [`NamespaceError`], if CloudWatch does not accept it, or has its own metrics there.
    pub fn parse(text: &str) -> Result<Self, NamespaceError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_/#".contains(&byte);
        let is_valid = (1..=MAX_NAMESPACE).contains(&text.len())
            && text.bytes().all(allowed)
            && !text.starts_with("AWS/");
        if is_valid { Ok(Self(text.to_owned())) } else { Err(NamespaceError) }
    }
}

impl fmt::Display for CloudWatchNamespace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The writer of lines.
#[derive(Debug)]
pub struct Emf {
    namespace: CloudWatchNamespace,
    written: Mutex<HashMap<Series, Sum>>,
}

/// A metric, and the values of its dimensions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Series {
    metric: usize,
    values: Vec<String>,
}

/// The value of a series. That of a histogram is a sum of durations, and has their number.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    value: f64,
    count: f64,
}

/// One line: the values of its dimensions, and metrics by their dimensions.
#[derive(Debug, Default)]
struct Line {
    members: Map<String, Value>,
    metrics: BTreeMap<&'static [&'static str], Vec<Value>>,
}

impl Emf {
    /// Creates a writer for metrics of that namespace.
    pub fn new(namespace: CloudWatchNamespace) -> Self {
        Self { namespace, written: Mutex::default() }
    }

    /// Returns the lines for what changed since the last call, from all metrics in the format
    /// OpenMetrics. `now` is in Unix seconds.
    pub fn lines(&self, exposition: &str, now: i64) -> Vec<String> {
        let sums = sums(exposition);
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines: Vec<Line> = Vec::new();
        for (series, sum) in &sums {
            let before = written.get(series).copied().unwrap_or_default();
            let metric = &METRICS[series.metric];
            let Some(value) = change(metric.kind, before, *sum) else { continue };
            match lines.iter_mut().find(|line| line.has_room_for(metric, &series.values)) {
                Some(line) => line.add(metric, &series.values, value),
                None => {
                    let mut line = Line::default();
                    line.add(metric, &series.values, value);
                    lines.push(line);
                }
            }
        }
        *written = sums.into_iter().collect();
        lines.into_iter().map(|line| line.write(&self.namespace, now)).collect()
    }
}

/// Returns the sums of all samples by the dimensions of their metrics.
fn sums(exposition: &str) -> BTreeMap<Series, Sum> {
    let mut sums: BTreeMap<Series, Sum> = BTreeMap::new();
    for Sample { name, labels, value } in exposition.lines().filter_map(sample) {
        let (name, is_count) = match name.strip_suffix("_count") {
            Some(name) => (name, true),
            None => (name.strip_suffix("_sum").unwrap_or(name), false),
        };
        let Some(metric) = METRICS.iter().position(|metric| metric.name == name) else { continue };
        let Some(dimensions) = METRICS[metric].dimensions else { continue };
        let of = |dimension: &&str| {
            let label = labels.iter().find(|(label, _)| label == dimension);
            label.map_or(super::NONE, |(_, value)| value).to_owned()
        };
        let series = Series { metric, values: dimensions.iter().map(of).collect() };
        let sum = sums.entry(series).or_default();
        *(if is_count { &mut sum.count } else { &mut sum.value }) += value;
    }
    sums
}

/// One value of a metric, in the text.
struct Sample<'a> {
    name: &'a str,
    labels: Vec<(&'a str, &'a str)>,
    value: f64,
}

/// Returns the sample of a line. `None` for a comment.
///
/// The labels of this program need no escapes.
fn sample(line: &str) -> Option<Sample<'_>> {
    let (series, value) = line.rsplit_once(' ').filter(|_| !line.starts_with('#'))?;
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let labels = labels.trim_end_matches('}').split(',').filter_map(|label| {
        let (label, value) = label.split_once('=')?;
        Some((label, value.trim_matches('"')))
    });
    Some(Sample { name, labels: labels.collect(), value: value.parse().ok()? })
}

/// Returns the value for a line. `None` if there is nothing to write.
///
/// A line has no single durations, so several are their mean, as many times. Usually there is one.
fn change(kind: Kind, before: Sum, now: Sum) -> Option<Value> {
    let (value, count) = (now.value - before.value, now.count - before.count);
    match kind {
        Kind::Gauge => Some(json!(now.value)),
        Kind::Counter => (value > 0.0).then(|| json!(value)),
        Kind::Histogram if count < 1.0 => None,
        Kind::Histogram => {
            let times = (1..MAX_VALUES).find(|times| f64::from(*times) >= count);
            let mean = value / count;
            Some(json!(vec![mean; times.unwrap_or(MAX_VALUES).try_into().unwrap_or(1)]))
        }
    }
}

impl Line {
    /// Returns whether the line has no other value for a dimension, and no value for the metric.
    fn has_room_for(&self, metric: &Metric, values: &[String]) -> bool {
        let dimensions = metric.dimensions.unwrap_or_default();
        let is_same = |(dimension, value): (&&str, &String)| {
            self.members.get(*dimension).is_none_or(|member| member == value)
        };
        !self.members.contains_key(metric.name) && dimensions.iter().zip(values).all(is_same)
    }

    fn add(&mut self, metric: &Metric, values: &[String], value: Value) {
        let dimensions = metric.dimensions.unwrap_or_default();
        for (dimension, value) in dimensions.iter().zip(values) {
            self.members.insert((*dimension).to_owned(), json!(value));
        }
        self.members.insert(metric.name.to_owned(), value);
        let unit = if metric.is_in_seconds() { "Seconds" } else { "Count" };
        let described = json!({ "Name": metric.name, "Unit": unit });
        self.metrics.entry(dimensions).or_default().push(described);
    }

    fn write(self, namespace: &CloudWatchNamespace, now: i64) -> String {
        let directive = |(dimensions, metrics)| json!({ "Namespace": namespace.0, "Dimensions": [dimensions], "Metrics": metrics });
        let directives: Vec<Value> = self.metrics.into_iter().map(directive).collect();
        let mut members = self.members;
        let described = json!({
            "Timestamp": now.saturating_mul(1000),
            "CloudWatchMetrics": directives,
        });
        members.insert("_aws".to_owned(), described);
        Value::Object(members).to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use stile_store::{CallResult, Service};

    use super::super::{Cache, Current, Format, Metrics};
    use super::*;

    const NOW: i64 = 1_795_169_472;

    fn lines(emf: &Emf, metrics: &Metrics) -> Vec<Value> {
        let current = Current { now: NOW, key_created_at: Some(NOW - 60), ..Current::default() };
        let lines = emf.lines(&metrics.encode(current, Format::OpenMetrics), NOW);
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn emf() -> Emf {
        Emf::new(CloudWatchNamespace::parse("stile").unwrap())
    }

    #[test]
    fn a_namespace_is_one_that_cloudwatch_accepts_and_does_not_use_itself() {
        for text in ["", "AWS/Lambda", "a b", "a:b", "é", &"a".repeat(256)] {
            assert_eq!(CloudWatchNamespace::parse(text), Err(NamespaceError), "{text}");
        }
        for text in ["stile", "Stile/eu", "a.b-c_d/e#f", "aws/x", &"a".repeat(255)] {
            assert_eq!(CloudWatchNamespace::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_counter_is_written_once_as_what_it_grew_by_and_a_gauge_each_time() {
        let (emf, metrics) = (emf(), Metrics::default());
        for expected in [json!(2.0), Value::Null] {
            if expected == json!(2.0) {
                metrics.hit(Cache::Tokens);
                metrics.hit(Cache::Keyring);
            }
            let written = lines(&emf, &metrics);
            let [line] = &written[..] else { panic!("{written:?}") };
            assert_eq!(line["stile_cache_hits_total"], expected);
            assert_eq!(line["stile_key_age_seconds"], json!(60.0));
            assert_eq!(line["_aws"]["Timestamp"], json!(NOW * 1000));
        }
    }

    #[test]
    fn every_member_that_a_line_names_is_there_and_no_dimension_has_two_values() {
        let (emf, metrics) = (emf(), Metrics::default());
        for (service, result) in [
            (Service::DynamoDb, CallResult::Ok),
            (Service::DynamoDb, CallResult::Busy),
            (Service::Sts, CallResult::Timeout),
        ] {
            for millis in [100, 300] {
                metrics.calls().record(service, "Call", result, Duration::from_millis(millis));
            }
        }
        let written = lines(&emf, &metrics);
        assert_eq!(written.len(), 3, "{written:?}");
        let mut durations = Vec::new();
        for line in &written {
            assert_eq!(line["stile_service_calls_total"], json!(2.0), "{line}");
            for directive in line["_aws"]["CloudWatchMetrics"].as_array().unwrap() {
                assert_eq!(directive["Namespace"], "stile");
                for dimension in directive["Dimensions"][0].as_array().unwrap() {
                    assert!(line[dimension.as_str().unwrap()].is_string(), "{line}");
                }
                for metric in directive["Metrics"].as_array().unwrap() {
                    assert!(!line[metric["Name"].as_str().unwrap()].is_null(), "{line}");
                }
            }
            let values = line["stile_service_call_duration_seconds"].as_array();
            durations.extend(values.map(|values| values.len()));
        }
        durations.sort_unstable();
        assert_eq!(durations, [2, 4], "one line for each service");
    }

    #[test]
    fn many_durations_are_no_more_values_than_cloudwatch_reads() {
        let (emf, metrics) = (emf(), Metrics::default());
        for _ in 0..1000 {
            let took = Duration::from_millis(500);
            metrics.calls().record(Service::Kms, "Decrypt", CallResult::Ok, took);
        }
        let written = lines(&emf, &metrics);
        let values = written[0]["stile_service_call_duration_seconds"].as_array().unwrap();
        assert_eq!((values.len(), &values[0]), (100, &json!(0.5)));
    }
}
