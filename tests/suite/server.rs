//! The limits of the plain server itself, over real sockets: slow, large and broken requests, and a
//! stop that loses nothing. And its log in both formats.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;
use stile_protocol::names::Permission::Download;
use stile_tests::broker::served::system_time;
use stile_tests::broker::{HOST, TestBroker, make_data, role};
use stile_tests::dev_ca::DevCa;
use stile_tests::process::home::Home;
use stile_tests::process::programs::{BROKER, Setup, client, free_port, program};
use stile_tests::time_limits::BACKSTOP;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

async fn answer_to(test: &TestBroker, request: &[u8]) -> String {
    let serving = test.serve(None).await;
    let mut stream = TcpStream::connect(serving.address).await.unwrap();
    // The server may answer and close before it reads all of it.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(BACKSTOP, stream.read_to_end(&mut answer))
        .await
        .expect("the server closes the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("closed")
}

#[tokio::test]
async fn too_many_and_too_long_headers_are_refused() {
    let test = TestBroker::start();
    let many: String = (0..1000).map(|n| format!("x-{n}: 1\r\n")).collect();
    assert_eq!(
        status(
            &answer_to(&test, format!("GET /healthz HTTP/1.1\r\nhost: a\r\n{many}\r\n").as_bytes())
                .await
        ),
        "431"
    );
    let long = "a".repeat(70_000);
    assert_eq!(
        status(
            &answer_to(
                &test,
                format!("GET /healthz HTTP/1.1\r\nhost: a\r\nx-long: {long}\r\n\r\n").as_bytes()
            )
            .await
        ),
        "431"
    );
    let token = "a".repeat(20_000);
    let carried = format!(
        "GET /v1/whoami HTTP/1.1\r\nhost: a\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    assert_eq!(status(&answer_to(&test, carried.as_bytes()).await), "401");
}

#[tokio::test]
async fn a_body_longer_than_it_says_or_than_is_allowed_is_never_taken_in_whole() {
    let test = TestBroker::start();
    let head = "POST /v1/token HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/json\r\n";
    let too_long = format!("{head}content-length: 20000\r\n\r\n{}", " ".repeat(20_000));
    assert_eq!(status(&answer_to(&test, too_long.as_bytes()).await), "413");
    let chunk = format!("1000\r\n{}\r\n", " ".repeat(0x1000));
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk.repeat(5));
    assert_eq!(status(&answer_to(&test, chunked.as_bytes()).await), "413");
    let lying = format!("{head}content-length: 5\r\n\r\n{}", " ".repeat(20_000));
    assert_eq!(status(&answer_to(&test, lying.as_bytes()).await), "400");
}

/// Returns the answer to a `GET` of a path with these header lines, in that version of HTTP.
async fn answer_to_get(test: &TestBroker, version: &str, path: &str, headers: &str) -> String {
    let request = format!("GET {path} HTTP/{version}\r\nconnection: close\r\n{headers}\r\n");
    answer_to(test, request.as_bytes()).await
}

#[tokio::test]
async fn a_request_without_exactly_one_valid_host_is_400() {
    let test = TestBroker::start();
    for (version, hosts) in [
        ("1.1", ""),
        ("1.1", "x-host: a\r\n"),
        ("1.1", "host: a\r\nhost: b\r\n"),
        ("1.1", "Host: a\r\nx-between: 1\r\nhOST: a\r\n"),
        ("1.1", "host: a\r\nhost:\r\n"),
        ("1.0", "host: a\r\nhost: b\r\n"),
        ("1.0", "host: a b\r\n"),
        ("1.1", "host:\r\n"),
        ("1.1", "host: a b\r\n"),
        ("1.1", "host: a, b\r\n"),
        ("1.1", "host: a/b\r\n"),
        ("1.1", "host: user@a\r\n"),
        ("1.1", "host: https://a\r\n"),
        ("1.1", "host: a:http\r\n"),
        ("1.1", "host: a:65536\r\n"),
        ("1.1", "host: [::1\r\n"),
        ("1.1", "host: caf\u{e9}.example.com\r\n"),
    ] {
        let answer = answer_to_get(&test, version, "/healthz", hosts).await;
        assert_eq!(status(&answer), "400", "HTTP/{version} {hosts:?}: {answer}");
        assert!(
            answer.contains("\"invalid_request\"") && answer.contains("`Host` header"),
            "HTTP/{version} {hosts:?}: {answer}"
        );
    }
    for (version, hosts) in [
        ("1.0", ""),
        ("1.0", "host: a\r\n"),
        ("1.1", "host: a\r\n"),
        ("1.1", "Host:registry.example.com\r\n"),
        ("1.1", "host: 127.0.0.1:8443\r\n"),
        ("1.1", "host: [::1]:8443\r\n"),
    ] {
        let answer = answer_to_get(&test, version, "/healthz", hosts).await;
        assert_eq!(status(&answer), "200", "HTTP/{version} {hosts:?}: {answer}");
    }
}

#[tokio::test]
async fn a_request_without_a_host_is_refused_in_the_form_of_its_route_and_ends_the_connection() {
    let test = TestBroker::start();
    let module = "/v1/modules/acme/vpc/aws";
    for (path, expected) in [
        ("/v1/whoami".to_owned(), "{\"error\":\"invalid_request\","),
        ("/nothing/here".to_owned(), "{\"error\":\"invalid_request\","),
        (format!("{module}/versions"), "{\"errors\":[\"an HTTP/1.1 request needs a `Host` header"),
        (
            format!("{module}/1.0.0/download"),
            "an HTTP/1.1 request needs a `Host` header; request id: ",
        ),
    ] {
        // The client asks twice on one connection, and does not ask to close it.
        let request = format!("GET {path} HTTP/1.1\r\n\r\n");
        let answer = answer_to(&test, request.repeat(2).as_bytes()).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(status(head), "400", "{path}: {answer}");
        assert!(head.to_ascii_lowercase().contains("connection: close"), "{path}: {head}");
        assert!(body.starts_with(expected), "{path}: {body}");
        assert_eq!(answer.matches("HTTP/1.1 400").count(), 1, "{path}: {answer}");
    }
}

/// Returns whether the server still holds the connection, and has sent nothing on it.
fn is_held(stream: &TcpStream) -> bool {
    matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

async fn healthy(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    stream
}

async fn read_to_end(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    tokio::time::timeout(BACKSTOP, stream.read_to_string(&mut answer))
        .await
        .expect("the server closes the connection")
        .unwrap();
    answer
}

#[tokio::test]
async fn who_sends_slowly_is_cut_off_and_others_are_served_meanwhile() {
    let test = TestBroker::start();
    let serving = test.serve(None).await;
    let mut slow_head = TcpStream::connect(serving.address).await.unwrap();
    slow_head.write_all(b"GET /healthz HTTP/1.1\r\nx-slow: ").await.unwrap();
    let mut slow_body = TcpStream::connect(serving.address).await.unwrap();
    slow_body
        .write_all(b"POST /v1/token HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{")
        .await
        .unwrap();
    assert_eq!(status(&read_to_end(healthy(serving.address).await).await), "200");
    assert!(
        is_held(&slow_head) && is_held(&slow_body),
        "other clients did not wait for the slow ones"
    );

    let mut ends = Vec::new();
    tokio::time::timeout(BACKSTOP, slow_head.read_to_end(&mut ends))
        .await
        .expect("the server closes the connection")
        .unwrap();
    let mut answer = vec![0; 64];
    let read = tokio::time::timeout(BACKSTOP, slow_body.read(&mut answer))
        .await
        .expect("answered")
        .unwrap();
    assert_eq!(status(&String::from_utf8_lossy(&answer[..read])), "408");
}

/// The number of slow clients that came, and the number that the server disconnected.
#[derive(Default)]
struct Slow {
    there: AtomicUsize,
    ended: AtomicUsize,
}

/// Sends a byte a second until the server closes the connection, and counts that. Returns the
/// answer.
async fn drip(address: SocketAddr, head: &[u8], counted: &Slow) -> String {
    let (mut read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
    write.write_all(head).await.unwrap();
    counted.there.fetch_add(1, Ordering::SeqCst);
    let dripping = tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        loop {
            tick.tick().await;
            if write.write_all(b"x").await.is_err() {
                return;
            }
        }
    });
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(BACKSTOP, read.read_to_end(&mut answer))
        .await
        .expect("the server closes the connection");
    counted.ended.fetch_add(1, Ordering::SeqCst);
    dripping.abort();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_byte_a_second_is_cut_off_and_so_is_who_never_reads_and_others_are_served_meanwhile() {
    let test = TestBroker::start();
    let serving = test.serve(None).await;
    let (address, counts) = (serving.address, Arc::new(Slow::default()));
    let (counted, deaf_counted) = (Arc::clone(&counts), Arc::clone(&counts));
    let slow = tokio::spawn(async move {
        tokio::join!(
            drip(address, b"GET /healthz HTTP/1.1\r\nx-slow: ", &counted),
            drip(
                address,
                b"POST /v1/token HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 10000\r\n\r\n{",
                &counted
            ),
            // One client sends nothing at all. One sends nothing more after its first request was
            // answered.
            drip(address, b"", &counted),
            drip(address, b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n", &counted),
        )
    });
    let deaf = tokio::spawn(async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        deaf_counted.there.fetch_add(1, Ordering::SeqCst);
        // When the answers fill every buffer on the way, the server reads nothing more, and closes
        // the connection.
        while stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await.is_ok() {}
    });
    // Counts all other clients. Also counts those that came after every slow one and were served
    // before the first slow one ended.
    let (mut served, mut meanwhile) = (0, 0);
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    while !(slow.is_finished() && deaf.is_finished()) {
        let all_there = counts.there.load(Ordering::SeqCst) == 5;
        assert_eq!(status(&read_to_end(healthy(address).await).await), "200");
        served += 1;
        let none_ended = counts.ended.load(Ordering::SeqCst) == 0 && !deaf.is_finished();
        meanwhile += usize::from(all_there && none_ended);
        tick.tick().await;
    }
    let (head, body, nothing, idle) = slow.await.unwrap();
    assert_eq!(
        (status(&head), status(&body), status(&nothing), status(&idle)),
        ("closed", "408", "closed", "200")
    );
    tokio::time::timeout(BACKSTOP, deaf).await.expect("ended").unwrap();
    assert!(meanwhile > 0, "{meanwhile} of {served} did not wait for a slow client");
}

#[tokio::test]
async fn an_address_that_has_its_share_of_the_connections_leaves_the_others_to_others() {
    let (test, folder) = (TestBroker::start(), tempfile::tempdir().unwrap());
    let files = DevCa::new(system_time()).write(folder.path(), &["127.0.0.1"]);
    // The server does not disconnect any of them for silence.
    let serving = test.serve_on(0, Some(&files), |router| router).await;
    let connect = async |from: [u8; 4]| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        socket.connect(serving.address).await.unwrap()
    };
    let greedy = [127, 0, 0, 2];
    let mut held = Vec::new();
    for _ in 0..256 {
        held.push(connect(greedy).await);
    }
    let mut refused = connect(greedy).await;
    let read = tokio::time::timeout(BACKSTOP, refused.read(&mut [0])).await.expect("ended");
    assert!(matches!(read, Ok(0) | Err(_)), "the server closes the next one: {read:?}");
    // Each of them is as silent as the next, and came earlier. A server that disconnects silent
    // clients would have begun with them.
    let open = held.iter().filter(|stream| is_held(stream)).count();
    assert_eq!(open, held.len(), "the server closes it at once, and not the earlier ones");
    let answer = client(Some(&files))
        .get(format!("https://{}/healthz", serving.address))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200, "and the server serves another address");
}

#[tokio::test]
async fn past_a_thousand_and_twenty_four_connections_the_next_one_waits_until_one_of_them_has_ended()
 {
    let test = TestBroker::start();
    // Both ends belong to this process, as do those of the other tests in it.
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(8192, |most| most.min(8192));
    if limit.current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum })
            .unwrap();
    }
    let serving = test.serve(None).await;
    let mut held = Vec::new();
    for _ in 0..1024 {
        held.push(TcpStream::connect(serving.address).await.unwrap());
    }
    // They send nothing, so the server ends each in time. The next client is accepted when the
    // first of them ends.
    assert_eq!(status(&read_to_end(healthy(serving.address).await).await), "200");
    assert!(
        held.iter().any(|stream| !is_held(stream)),
        "the server served it while all of them were connected"
    );
}

/// Runs the program with these variables and arguments, and returns the lines of its log: those of
/// its start, of one refused request and of its end.
async fn log_of(variables: &[(&str, &str)], arguments: &[&str]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    make_data(&data, &role("deploy"), "acme", &[Download]).await;
    let setup = Setup::new(free_port(), &data);
    let setup = variables.iter().fold(setup, |setup, (name, value)| setup.env(name, value));
    let setup = arguments.iter().fold(setup, |setup, argument| setup.arg(argument));
    let mut broker = setup.start(&folder.path().join("log")).await;
    let asked = broker.client().get(broker.url("/v1/whoami")).bearer_auth("garbage").send();
    assert_eq!(asked.await.unwrap().status(), 401);
    assert!(broker.terminate().await.success());
    broker.log().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn every_line_of_the_log_is_json_if_the_operator_wants_json() {
    for (variables, arguments) in [
        (vec![], vec!["--log-format", "json"]),
        (vec![("STILE_LOG_FORMAT", "json")], vec![]),
        (vec![("STILE_LOG_FORMAT", "text")], vec!["--log-format=json"]),
    ] {
        let log = log_of(&variables, &arguments).await;
        let lines: Vec<Value> =
            log.iter().map(|line| serde_json::from_str(line).expect(line)).collect();
        for line in &lines {
            for field in ["timestamp", "level", "target"] {
                assert!(line[field].is_string(), "`{field}` is not in: {line}");
            }
        }
        let has = |field: &str, value: &str| lines.iter().any(|line| line[field] == value);
        assert!(lines.iter().any(|line| {
            line["message"].as_str().is_some_and(|message| message.starts_with("listening on "))
        }));
        assert!(has("target", "audit") && has("event", "whoami"), "{log:?}");
    }
    for (variables, arguments) in [
        (vec![], vec![]),
        (vec![("STILE_LOG_FORMAT", "")], vec![]),
        (vec![("STILE_LOG_FORMAT", "json")], vec!["--log-format", "text"]),
    ] {
        let log = log_of(&variables, &arguments).await;
        assert!(log.iter().any(|line| line.contains("event=\"whoami\"")), "{log:?}");
        assert!(log.iter().all(|line| !line.starts_with('{')), "{log:?}");
    }
}

#[tokio::test]
async fn the_log_of_the_program_has_the_id_of_an_answer_in_both_formats() {
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    for (format, parts) in [
        ("text", ["request{id=ID trace_id=TRACE}: ", "code=\"unauthorized\""]),
        ("json", [r#""span":{"id":"ID","trace_id":"TRACE","name":"request"}"#, r#""status":401"#]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        make_data(&data, &role("deploy"), "acme", &[Download]).await;
        let setup = Setup::new(free_port(), &data).arg("--log-format").arg(format);
        let broker = setup.start(&folder.path().join("log")).await;
        let asked = broker.client().get(broker.url("/v1/whoami"));
        let asked = asked.header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
        let answer = asked.send().await.unwrap();
        let id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
        for part in parts {
            broker.logs(&part.replace("ID", &id).replace("TRACE", trace)).await;
        }
    }
}

#[tokio::test]
async fn the_error_that_ends_the_program_has_the_format_of_the_log() {
    for (arguments, message) in [
        (vec!["--host", HOST, "--data", "/nothing/here"], "is not a data folder"),
        (vec!["--host", "localhost", "--data", "/nothing/here"], "is not a registry host"),
        (vec!["--host", HOST], "exactly one of `--data` and `--table` is required"),
        (vec!["--host", HOST, "--data", "/d", "--log", "stile_broker=loud"], "is not a log level"),
    ] {
        let arguments = [&["serve"], &arguments[..]].concat();
        let home = Home::temporary();
        let text = home.run(&program(BROKER), &arguments).await;
        assert_eq!(text.code, Some(1), "{text:?}");
        assert!(text.stderr.starts_with("error: ") && text.stderr.contains(message), "{text:?}");
        let arguments = [&arguments[..], &["--log-format", "json"]].concat();
        let json = home.run(&program(BROKER), &arguments).await;
        assert_eq!((json.code, json.stderr.lines().count()), (Some(1), 1), "{json:?}");
        let line: Value = serde_json::from_str(&json.stderr).unwrap();
        assert_eq!(line["level"], "ERROR");
        assert!(line["timestamp"].is_string(), "{line}");
        assert!(line["message"].as_str().unwrap().contains(message), "{line}");
    }
    let refused = Home::temporary().run(&program(BROKER), &["serve", "--log-format", "yaml"]).await;
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("[possible values: json, text]"), "{refused:?}");
}
