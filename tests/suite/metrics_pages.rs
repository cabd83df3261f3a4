//! The pages and dashboards that name metrics: each name is one of the broker's list.

use std::collections::BTreeSet;

use serde_json::Value;
use stile_broker::metrics::{Kind, METRICS, Metric};
use stile_tests::process::programs::workspace;

fn read(path: &str) -> String {
    std::fs::read_to_string(workspace().join(path)).unwrap()
}

/// Returns the names of metrics in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
    text.split(|character| !is_part(character)).filter(|word| word.starts_with("stile_")).collect()
}

/// Returns the metric that has samples of this name.
fn metric(sample: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| match metric.kind {
        Kind::Histogram => ["_bucket", "_sum", "_count"]
            .iter()
            .any(|suffix| sample.strip_suffix(suffix) == Some(metric.name)),
        _ => metric.name == sample,
    })
}

#[test]
fn operations_lists_every_metric_with_its_labels_and_what_to_do() {
    let page = read("docs/operations.md");
    let section = page.split("\n## Metrics\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows: Vec<Vec<&str>> = section
        .lines()
        .filter(|line| line.starts_with("| `stile_"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    let written: Vec<(String, String)> = rows
        .iter()
        .map(|row| {
            let [name, labels, meaning, action] = &row[..] else { panic!("{row:?}") };
            assert!(meaning.len() > 10 && action.len() > 10, "{row:?}");
            (name.replace('`', ""), labels.replace('`', ""))
        })
        .collect();
    let expected: Vec<(String, String)> =
        METRICS.iter().map(|metric| (metric.name.to_owned(), metric.labels.join(", "))).collect();
    assert_eq!(written, expected);
}

#[test]
fn the_grafana_dashboard_shows_every_metric_and_no_other() {
    let dashboard: Value =
        serde_json::from_str(&read("docs/examples/grafana-dashboard.json")).unwrap();
    let mut shown = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            let samples = names(expression);
            assert!(!samples.is_empty(), "{title}: {expression}");
            for sample in samples {
                let metric = metric(sample).unwrap_or_else(|| panic!("{title}: `{sample}`"));
                shown.insert(metric.name);
                let grouped = expression.split("by (").skip(1);
                let grouped = grouped.filter_map(|rest| rest.split(')').next());
                for label in grouped.flat_map(|labels| labels.split(", ")) {
                    assert!(
                        metric.labels.contains(&label) || ["instance", "le"].contains(&label),
                        "{title}: `{label}` is no label of `{sample}`"
                    );
                }
            }
        }
    }
    assert_eq!(shown, METRICS.iter().map(|metric| metric.name).collect());
}

#[test]
fn the_cloudwatch_dashboard_shows_every_metric_that_a_function_writes_by_its_dimensions() {
    let text = read("infra/registry/dashboard.tf");
    let written = METRICS.iter().filter(|metric| metric.dimensions.is_some());
    assert_eq!(names(&text), written.map(|metric| metric.name).collect());
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut searched = BTreeSet::new();
    for pair in lines.windows(2).filter(|pair| pair[1].starts_with("dimensions = ")) {
        let name = names(pair[0]).pop_first().unwrap();
        let dimensions: Vec<&str> = pair[1].split('"').skip(1).step_by(2).collect();
        assert_eq!(metric_of(name).dimensions, Some(&dimensions[..]), "{name}");
        searched.insert(name);
    }
    for metric in METRICS {
        let has_dimensions = metric.dimensions.is_some_and(|dimensions| !dimensions.is_empty());
        assert_eq!(searched.contains(metric.name), has_dimensions, "{}", metric.name);
    }
}

fn metric_of(name: &str) -> &'static Metric {
    METRICS.iter().find(|metric| metric.name == name).unwrap()
}
