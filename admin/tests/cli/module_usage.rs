//! Tests of `module usage`: who downloads which version.

use serde_json::{Value, json};

use crate::broker::{Broker, http};
use crate::support::Run;

const USAGE: &str = "module usage acme/vpc/aws --registry-host registry.example.com";
const PATH: &str = "GET /v1/modules/acme/vpc/aws/usage";

fn line(version: &str, name: &str, downloads: u64, last_day: &str) -> Value {
    let principal = format!("aws:111122223333:role/{name}");
    json!({ "version": version, "principal": principal, "downloads": downloads, "last_day": last_day })
}

fn page(lines: &[Value], next: Option<&str>) -> String {
    let mut meta = json!({ "limit": 100 });
    if let Some(next) = next {
        meta["next_cursor"] = next.into();
    }
    let page = json!({
        "module": "acme/vpc/aws", "since": "2026-10-22", "downloads": lines, "meta": meta,
    });
    http("200 OK", "", &page.to_string())
}

/// A registry with two pages of downloads, in the order of the texts.
fn registry() -> Broker {
    Broker::new(|_, request| {
        let target = request.line.trim_end_matches(" HTTP/1.1");
        match target.strip_prefix(PATH).unwrap_or_default() {
            "?days=30" | "?days=90" => page(
                &[
                    line("1.10.0", "app", 7, "2026-11-20"),
                    line("1.2.0", "app", 1, "2026-10-22"),
                    line("1.2.0", "web", 2, "2026-11-19"),
                ],
                Some("a&b=c"),
            ),
            "?days=30&cursor=a%26b%3Dc" | "?days=90&cursor=a%26b%3Dc" => {
                page(&[line("2.0.0", "app", 30, "2026-11-20")], None)
            }
            other => http("400 Bad Request", "", &json!({ "errors": [other] }).to_string()),
        }
    })
}

#[test]
fn what_cannot_be_meant_causes_no_request() {
    let broker = Broker::new(|_, _| panic!("the broker receives no request"));
    let machine = broker.machine();
    for (arguments, expected) in [
        ("module usage", "<ADDRESS>"),
        ("module usage acme/vpc", "module address `acme/vpc` must be"),
        ("module usage acme/vpc/aws --version v1", "`--version v1` is neither a version nor"),
        ("module usage acme/vpc/aws --days x", "invalid value 'x' for '--days <DAYS>'"),
        ("module usage acme/vpc/aws --days=-1", "invalid value '-1' for '--days <DAYS>'"),
    ] {
        let run = machine.run(&format!("{arguments} --registry-host registry.example.com"));
        assert_eq!((run.stdout.as_str(), run.code), ("", 2), "{arguments}: {}", run.stderr);
        assert!(run.stderr.contains(expected), "{arguments}: {}", run.stderr);
    }
    assert!(broker.requests().is_empty());
}

#[test]
fn a_refusal_and_an_answer_without_an_end_are_errors() {
    let refusing = Broker::new(|_, _| {
        http("403 Forbidden", "", r#"{"errors":["no `upload` on `acme`; hint: ask"]}"#)
    });
    let stderr = "error: `acme/vpc/aws`: no `upload` on `acme`; hint: ask\n".to_owned();
    assert_eq!(refusing.machine().run(USAGE), Run { stdout: String::new(), stderr, code: 1 });
    for lines in [&[][..], &[line("1.2.0", "app", 1, "2026-11-20")]] {
        let lines = lines.to_vec();
        let endless = Broker::new(move |_, _| page(&lines, Some("again")));
        let run = endless.machine().run(USAGE);
        assert_eq!((run.stdout.as_str(), run.code), ("", 2), "{}", run.stderr);
        assert!(run.stderr.contains("the registry sent an unexpected response"), "{}", run.stderr);
        assert!(endless.requests().len() <= 3, "{}", endless.requests().len());
    }
    let other = Broker::new(|_, _| http("200 OK", "", "[]"));
    assert_eq!(other.machine().run(USAGE).code, 2);
}

#[test]
fn the_downloads_of_every_page_are_listed_by_version_and_principal() {
    let broker = registry();
    let machine = broker.machine();
    let expected = "version  principal                  downloads  last day\n\
                    1.2.0    aws:111122223333:role/app  1          2026-10-22\n\
                    1.2.0    aws:111122223333:role/web  2          2026-11-19\n\
                    1.10.0   aws:111122223333:role/app  7          2026-11-20\n\
                    2.0.0    aws:111122223333:role/app  30         2026-11-20\n";
    assert_eq!(machine.done(USAGE), expected);
    let json = machine.json(&format!("{USAGE} --days 90"));
    assert_eq!(json.as_array().unwrap().len(), 4);
    let first = json!({
        "module": "acme/vpc/aws", "version": "1.2.0", "principal": "aws:111122223333:role/app",
        "downloads": 1, "last_day": "2026-10-22",
    });
    assert_eq!(json[0], first);
}

#[test]
fn a_version_or_its_beginning_selects_lines() {
    let broker = registry();
    let machine = broker.machine();
    for (version, expected) in [
        ("1", &["1.2.0", "1.2.0", "1.10.0"][..]),
        ("1.2", &["1.2.0", "1.2.0"]),
        ("1.10.0", &["1.10.0"]),
    ] {
        let json = machine.json(&format!("{USAGE} --version {version}"));
        let versions: Vec<_> =
            json.as_array().unwrap().iter().map(|line| line["version"].as_str().unwrap()).collect();
        assert_eq!(versions, expected, "{version}");
    }
    let none = machine.run(&format!("{USAGE} --version 3"));
    let stderr = "notice: there are no downloads of 3 since 2026-10-22\n".to_owned();
    assert_eq!(none, Run { stdout: String::new(), stderr, code: 0 });
}

#[test]
fn nothing_of_an_answer_controls_the_terminal() {
    let evil = "a\u{1b}[2J\nb";
    let lines = json!({ "version": evil, "principal": evil, "downloads": 1, "last_day": evil });
    let answer = json!({ "since": evil, "downloads": [lines], "meta": {} }).to_string();
    let broker = Broker::new(move |_, _| http("200 OK", "", &answer));
    let shown = broker.machine().done(USAGE);
    assert!(!shown.contains('\u{1b}') && shown.lines().count() == 2, "{shown:?}");
    let empty = json!({ "since": evil, "downloads": [], "meta": {} }).to_string();
    let broker = Broker::new(move |_, _| http("200 OK", "", &empty));
    let run = broker.machine().run(USAGE);
    assert_eq!(run.stderr, "notice: there are no downloads since a [2J b\n");
}
