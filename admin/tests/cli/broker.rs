//! A fake broker on loopback, which records the requests.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::support::Machine;

/// A recorded request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) line: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// A fake broker: it returns a token to every caller, and other responses from a function.
pub(crate) struct Broker {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Broker {
    /// Starts a broker that computes each response from the number of the request (from 0, without
    /// token requests) and its content.
    pub(crate) fn new(answer: impl Fn(usize, &Request) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serve(stream, &seen, &answer);
            }
        });
        Self { url, requests }
    }

    /// Returns the recorded requests, including token requests.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Returns a machine with AWS keys, on which `registry.example.com` is this broker.
    pub(crate) fn machine(&self) -> Machine {
        let machine = Machine::new()
            .with("AWS_ACCESS_KEY_ID", "ASIAIOSFODNN7EXAMPLE")
            .with("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
            .with("AWS_SESSION_TOKEN", "IQoJb3JpZ2luX2VjEXAMPLE")
            .with("AWS_REGION", "eu-central-1");
        machine.write(
            ".config/stile/config.toml",
            &format!("[registry.\"registry.example.com\"]\nurl = \"{}\"\n", self.url),
        );
        machine
    }
}

/// Returns a complete HTTP response.
pub(crate) fn http(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn serve(
    mut stream: TcpStream,
    seen: &Mutex<Vec<Request>>,
    answer: &impl Fn(usize, &Request) -> String,
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut lines = (&mut reader).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let Some(line) = lines.next() else { return };
    let headers: HashMap<_, _> = lines
        .filter_map(|line| {
            line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        })
        .collect();
    let mut body =
        vec![0; headers.get("content-length").map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).unwrap();
    let request = Request { line, headers, body };
    let (tokens, others) = {
        let mut seen = seen.lock().unwrap();
        let tokens = seen.iter().filter(|request| is_for_token(request)).count();
        seen.push(request.clone());
        (tokens, seen.len() - 1 - tokens)
    };
    let response = if is_for_token(&request) { token(tokens) } else { answer(others, &request) };
    let _written = stream.write_all(response.as_bytes());
}

fn is_for_token(request: &Request) -> bool {
    request.line.starts_with("POST /v1/token ")
}

fn token(number: usize) -> String {
    let body = serde_json::json!({
        "token": format!("stile_v4.local.number-{number}"), "expires_at": "2999-01-01T00:00:00Z",
        "principal": "aws:111122223333:role/deploy", "namespaces": ["acme"], "permissions": ["upload"],
    });
    http("200 OK", "", &body.to_string())
}
