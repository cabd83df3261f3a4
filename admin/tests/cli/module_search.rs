//! Tests of `module search`: what it asks the registry, and what it prints.

use serde_json::{Value, json};

use crate::broker::{Broker, Request, http};
use crate::support::Run;

const HOST: &str = "--registry-host registry.example.com";

fn module(name: &str, description: Option<&str>) -> Value {
    json!({
        "id": format!("acme/{name}/aws/1.2.0"), "namespace": "acme", "name": name, "provider": "aws",
        "version": "1.2.0", "published_at": "2026-11-20T10:11:12Z", "description": description,
    })
}

fn page(modules: &[Value], next: Option<u64>) -> String {
    let meta = json!({ "limit": 100, "current_offset": 0, "next_offset": next });
    http("200 OK", "", &json!({ "meta": meta, "modules": modules }).to_string())
}

fn target(request: &Request) -> &str {
    request.line.trim_end_matches(" HTTP/1.1").trim_start_matches("GET /v1/modules/search")
}

/// Returns the queries of the searches that a registry got.
fn queries(broker: &Broker) -> Vec<String> {
    let requests = broker.requests();
    let searches = requests.iter().filter(|request| request.line.contains("/search"));
    searches.map(|request| target(request).to_owned()).collect()
}

#[test]
fn what_cannot_be_meant_causes_no_request() {
    let broker = Broker::new(|_, _| panic!("the broker receives no request"));
    let machine = broker.machine();
    for (arguments, expected) in [
        ("", "<WORD>..."),
        ("vpc --limit 0", "0 is not in 1..=1000"),
        ("vpc --limit 1001", "1001 is not in 1..=1000"),
        ("vpc --namespace Acme", "namespace `Acme` must be"),
        ("vpc --system A_B", "`A_B` must be"),
    ] {
        let run = machine.run(&format!("module search {arguments} {HOST}"));
        assert_eq!((run.stdout.as_str(), run.code), ("", 2), "{arguments}: {}", run.stderr);
        assert!(run.stderr.contains(expected), "{arguments}: {}", run.stderr);
    }
    assert!(broker.requests().is_empty());
}

#[test]
fn a_refusal_an_outage_and_another_answer_have_their_exit_codes() {
    for (answer, code, expected) in [
        (
            http("400 Bad Request", "", r#"{"errors":["`q` must have at most 8 words"]}"#),
            1,
            "error: `q` must have at most 8 words\n",
        ),
        (
            http("503 Service Unavailable", "retry-after: 0\r\n", r#"{"errors":["down"]}"#),
            2,
            "error: the registry is unavailable: down\n",
        ),
    ] {
        let broker = Broker::new(move |_, _| answer.clone());
        let run = broker.machine().run(&format!("module search vpc {HOST}"));
        assert_eq!(run, Run { stdout: String::new(), stderr: expected.to_owned(), code });
    }
    let other = Broker::new(|_, _| http("200 OK", "", r#"{"modules":7}"#));
    assert_eq!(other.machine().run(&format!("module search vpc {HOST}")).code, 2);
}

#[test]
fn the_words_are_one_query_and_each_module_is_one_line() {
    let found = [
        module("vpc", Some("A network with subnets")),
        module("net", Some("a\u{1b}[2J\nb")),
        module("dns", None),
    ];
    let broker = Broker::new(move |_, _| page(&found, None));
    let machine = broker.machine();
    let search = format!("module search vpc a&b=c é {HOST}");
    let shown = machine.done(&search);
    let expected = "module        latest  description\n\
                    acme/vpc/aws  1.2.0   A network with subnets\n\
                    acme/net/aws  1.2.0   a [2J b\n\
                    acme/dns/aws  1.2.0\n";
    assert_eq!(shown, expected);
    assert_eq!(queries(&broker), ["?q=vpc+a%26b%3Dc+%C3%A9&limit=20&offset=0"]);
    let objects = machine.json(&format!("{search} --namespace acme --system aws --limit 3"));
    let last = "?q=vpc+a%26b%3Dc+%C3%A9&namespace=acme&provider=aws&limit=3&offset=0";
    assert_eq!(queries(&broker).last().map(String::as_str), Some(last));
    let expected = json!({
        "module": "acme/dns/aws", "latest": "1.2.0", "published_at": "<time>", "description": null,
    });
    assert_eq!(objects[2], expected);

    let nothing = Broker::new(|_, _| page(&[], None));
    let stderr = "notice: there are no such modules\n".to_owned();
    let run = nothing.machine().run(&search);
    assert_eq!(run, Run { stdout: String::new(), stderr, code: 0 });
}

#[test]
fn pages_are_read_up_to_the_limit_and_a_notice_says_that_there_are_more() {
    let broker = Broker::new(|_, request| match target(request) {
        "?q=x&limit=100&offset=0" => page(&vec![module("a", None); 100], Some(100)),
        "?q=x&limit=50&offset=100" => page(&vec![module("b", None); 50], Some(150)),
        "?q=x&limit=100&offset=100" => page(&vec![module("b", None); 60], None),
        "?q=x&limit=20&offset=0" => page(&vec![module("a", None); 30], None),
        other => http("404 Not Found", "", &json!({ "errors": [other] }).to_string()),
    });
    let machine = broker.machine();
    let more = "notice: there are more modules; hint: search more words, or use `--limit`\n";
    for (limit, lines, notice) in [
        ("", 20, more),
        ("--limit 100", 100, more),
        ("--limit 150", 150, more),
        ("--limit 200", 160, ""),
    ] {
        let run = machine.run(&format!("module search x {limit} {HOST}"));
        let shown = (run.stdout.lines().count(), run.stderr.as_str(), run.code);
        assert_eq!(shown, (lines + 1, notice, 0), "{limit}");
    }
    let endless = Broker::new(|_, _| page(&[module("a", None)], Some(0)));
    let run = endless.machine().run(&format!("module search x {HOST}"));
    assert_eq!((run.stdout.lines().count(), run.code), (2, 0), "{run:?}");
    assert_eq!(queries(&endless).len(), 1);
}
