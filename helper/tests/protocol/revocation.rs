//! `get` after a revocation: when it checks its cached token, and what each outcome means.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::mpsc::channel;

use chrono::TimeDelta;

use crate::support::{ProgramOutput, Sandbox, StubBroker, http, now, refusal, token_reply};

const GET: [&str; 2] = ["get", "registry.example.com"];
const TOKEN: &str = "stile_v4.local.number-1";
const TIME: &str = "2026-11-20T10:11:12Z";

/// Returns the file of the one cached token.
fn cache_file(sandbox: &Sandbox) -> PathBuf {
    let files = sandbox.files().into_iter().map(|(path, _)| path);
    let mut cached = files.filter(|path| {
        path.starts_with(sandbox.path(".cache")) && path.extension().is_some_and(|it| it == "json")
    });
    let file = cached.next().unwrap();
    assert_eq!(cached.next(), None);
    file
}

/// Changes the cached token's last check to two minutes ago, so that the next `get` checks it.
fn make_due(sandbox: &Sandbox) {
    let file = cache_file(sandbox);
    let mut entry: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    entry["checked_at"] = serde_json::json!(now() - TimeDelta::minutes(2));
    std::fs::write(&file, entry.to_string()).unwrap();
}

/// Counts the requests whose line starts with a method.
fn count(broker: &StubBroker, method: &str) -> usize {
    broker.requests().iter().filter(|request| request.line.starts_with(method)).count()
}

/// Starts a broker that issues numbered tokens, and has one response to every other request.
fn checking(response: impl Fn() -> String + Send + Sync + 'static) -> StubBroker {
    let issued = Mutex::new(0);
    StubBroker::new(move |_, request| {
        if !request.line.starts_with("POST") {
            return response();
        }
        let mut issued = issued.lock().unwrap();
        *issued += 1;
        token_reply(&format!("stile_v4.local.number-{issued}"), 3600)
    })
}

fn token(number: usize) -> String {
    format!("{{\"token\":\"stile_v4.local.number-{number}\"}}\n")
}

/// Makes the token due and runs `get`, until the registry answers a check in time.
///
/// A check may take a second. A busy computer can need longer, and then `get` keeps its token.
fn get_another(sandbox: &Sandbox, earlier: &str) -> ProgramOutput {
    let get = |_| {
        make_due(sandbox);
        sandbox.run(&GET)
    };
    (0..20).map(get).find(|run| run.stdout != earlier).unwrap()
}

#[test]
fn a_revoked_token_is_replaced_although_no_process_can_take_the_lock() {
    let broker = checking(|| http("401 Unauthorized", "", "{}"));
    let sandbox = Sandbox::of(&broker);
    sandbox.run(&GET).prints(&token(1));
    let mut lock = cache_file(&sandbox).into_os_string();
    lock.push(".lock");
    let _absent = std::fs::remove_file(&lock);
    std::fs::create_dir(&lock).unwrap();
    let run = get_another(&sandbox, &token(1));
    assert_eq!((run.stdout, run.code), (token(2), 0));
}

#[test]
fn a_revoked_token_is_not_printed_if_the_exchange_fails() {
    for (response, line) in [
        (
            refusal("403 Forbidden", "principal_revoked", "revoked", Some("ask"), TIME),
            "revoked; hint: ask",
        ),
        (
            http("503 Service Unavailable", "", ""),
            "the registry is unavailable: a proxy or gateway",
        ),
        (token_reply("two words", 3600), "does not contain a valid token"),
    ] {
        let broker = StubBroker::new(move |number, request| match number {
            0 => token_reply("stile_v4.local.number-1", 3600),
            _ if request.line.starts_with("GET") => http("401 Unauthorized", "", "{}"),
            _ => response.clone(),
        });
        let sandbox = Sandbox::of(&broker);
        sandbox.run(&GET).prints(&token(1));
        for run in [get_another(&sandbox, &token(1)), sandbox.run(&GET)] {
            assert_eq!((run.stdout.as_str(), run.code), ("", 1));
            assert!(run.stderr.contains(line) && run.stderr.lines().count() == 1, "{}", run.stderr);
        }
    }
}

#[test]
fn a_401_in_any_form_leads_to_one_exchange() {
    for response in [
        refusal("401 Unauthorized", "unauthorized", "no good token", Some("get one"), TIME),
        http("401 Unauthorized", "www-authenticate: Bearer\r\n", "{\"message\":\"Unauthorized\"}"),
        http("401 Unauthorized", "", "<html>"),
        http("401 Unauthorized", "", ""),
    ] {
        let broker = checking(move || response.clone());
        let sandbox = Sandbox::of(&broker);
        sandbox.run(&GET).prints(&token(1));
        get_another(&sandbox, &token(1)).prints(&token(2));
        let checks = count(&broker, "GET");
        for _ in 0..3 {
            sandbox.run(&GET).prints(&token(2));
        }
        assert_eq!((count(&broker, "POST"), count(&broker, "GET")), (2, checks));
        let check = broker.requests()[1].clone();
        assert_eq!(check.line, "GET /v1/whoami HTTP/1.1");
        assert_eq!(check.headers["authorization"], "Bearer stile_v4.local.number-1");
    }
}

#[test]
fn every_other_answer_to_a_check_keeps_the_token_for_another_minute() {
    for response in [
        http("200 OK", "", "{}"),
        http("200 OK", "", "<html>"),
        http("302 Found", "location: http://127.0.0.1:9/v1/whoami\r\n", ""),
        http("400 Bad Request", "", ""),
        refusal("403 Forbidden", "forbidden", "no grant", None, TIME),
        http("404 Not Found", "", "{\"message\":\"Not Found\"}"),
        http("407 Proxy Authentication Required", "", ""),
        http("429 Too Many Requests", "retry-after: 60\r\n", "{}"),
        http("500 Internal Server Error", "", "{}"),
        http("502 Bad Gateway", "", "<html>"),
        http("503 Service Unavailable", "retry-after: 5\r\n", "{}"),
        http("504 Gateway Timeout", "", ""),
        "garbage 401 Unauthorized\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\ncut".to_owned(),
        String::new(),
    ] {
        let shown = response.clone();
        let broker = checking(move || response.clone());
        let sandbox = Sandbox::of(&broker);
        sandbox.run(&GET).prints(&token(1));
        make_due(&sandbox);
        for _ in 0..3 {
            sandbox.run(&GET).prints(&token(1));
        }
        assert_eq!((count(&broker, "POST"), count(&broker, "GET")), (1, 1), "{shown}");
    }
}

#[test]
fn a_registry_that_does_not_answer_a_check_keeps_the_token() {
    let (_release, held) = channel::<()>();
    let held = Mutex::new(held);
    let hangs = checking(move || {
        let _released = held.lock().unwrap().recv();
        String::new()
    });
    let closes_its_port = StubBroker::answering(1, |_, _| token_reply(TOKEN, 3600));
    for (broker, checks) in [(hangs, 1), (closes_its_port, 0)] {
        let sandbox = Sandbox::of(&broker);
        sandbox.run(&GET).prints(&token(1));
        make_due(&sandbox);
        for _ in 0..3 {
            sandbox.run(&GET).prints(&token(1));
        }
        assert_eq!((count(&broker, "POST"), count(&broker, "GET")), (1, checks));
    }
}

#[test]
fn a_token_is_checked_at_most_once_a_minute() {
    let broker = checking(|| http("200 OK", "", "{}"));
    let sandbox = Sandbox::of(&broker);
    for _ in 0..3 {
        sandbox.run(&GET).prints(&token(1));
    }
    assert_eq!(count(&broker, "GET"), 0, "a new token needs no check");
    for checks in 1..=3 {
        make_due(&sandbox);
        for _ in 0..3 {
            sandbox.run(&GET).prints(&token(1));
        }
        assert_eq!((count(&broker, "POST"), count(&broker, "GET")), (1, checks));
    }
}

#[test]
fn of_many_processes_only_one_checks_a_token() {
    let broker = checking(|| http("200 OK", "", "{}"));
    let sandbox = Sandbox::of(&broker);
    sandbox.run(&GET).prints(&token(1));
    make_due(&sandbox);
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| sandbox.run(&GET).prints(&token(1)));
        }
    });
    assert_eq!((count(&broker, "POST"), count(&broker, "GET")), (1, 1));
}
