//! Requests as bytes on a connection: bodies past their limit or without an end, and headers past
//! theirs. Also a proxy in the environment of the real program.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::Request;
use hyper::body::Frame;
use stile_protocol::names::Permission::Download;
use stile_tests::broker::served::system_time;
use stile_tests::broker::{ACCOUNT, Backend, Place, TestBroker, role};
use stile_tests::process::programs::{Setup, free_port};
use stile_tests::sts::identity::Identity;
use stile_tests::sts::local::{Clock, LocalSts};
use stile_tests::sts::proof::Proof;
use stile_tests::time_limits::BACKSTOP;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::super::ground::Ground;

const HEAD: &str =
    "POST /v1/token HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/json\r\n";

/// Returns the server's answer to these bytes, up to the end of the connection.
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

/// An endless body of spaces that counts the spaces the server took.
struct Spaces(Arc<AtomicUsize>);

impl hyper::body::Body for Spaces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.fetch_add(1024, Ordering::SeqCst);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b' '; 1024])))))
    }
}

pub(super) async fn a_body_is_never_taken_in_past_the_limit(backend: Backend) {
    let ground = Ground::plain(backend).await;
    let taken = Arc::new(AtomicUsize::new(0));
    let request = Request::post("/v1/token").header("content-type", "application/json");
    let request = request.body(Body::new(Spaces(Arc::clone(&taken)))).unwrap();
    ground.expect(request, &[], "413 too_large", "0/0/0/0").await;
    assert_eq!(
        taken.load(Ordering::SeqCst),
        17 * 1024,
        "the server takes no piece after the one past the limit"
    );

    let sts = ground.test.sts.calls();
    let chunk = format!("1000\r\n{}\r\n", " ".repeat(0x1000));
    for (what, bytes, expected) in [
        (
            "the stated length",
            format!("{HEAD}content-length: 16385\r\n\r\n{}", " ".repeat(16_385)),
            "413",
        ),
        (
            "in pieces",
            format!("{HEAD}transfer-encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk.repeat(5)),
            "413",
        ),
        (
            "in endless pieces",
            format!("{HEAD}transfer-encoding: chunked\r\n\r\n{}", chunk.repeat(5)),
            "413",
        ),
        (
            "longer than the stated length",
            format!("{HEAD}content-length: 5\r\n\r\n{}", " ".repeat(20_000)),
            "400",
        ),
        (
            "both lengths",
            format!(
                "{HEAD}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n{}0\r\n\r\n",
                chunk.repeat(5)
            ),
            "413",
        ),
        (
            "two lengths",
            format!("{HEAD}content-length: 5\r\ncontent-length: 6\r\n\r\n      "),
            "400",
        ),
    ] {
        let answer = answer_to(&ground.test, bytes.as_bytes()).await;
        assert_eq!(status(&answer), expected, "{what}: {answer}");
    }
    assert_eq!(ground.test.sts.calls(), sts);
}

pub(super) async fn a_body_that_never_ends_is_cut_off_and_others_are_served(backend: Backend) {
    let ground = Ground::plain(backend).await;
    let serving = ground.test.serve(None).await;
    let mut slow = TcpStream::connect(serving.address).await.unwrap();
    slow.write_all(format!("{HEAD}content-length: 100\r\n\r\n{{").as_bytes()).await.unwrap();
    let mut slow_head = TcpStream::connect(serving.address).await.unwrap();
    slow_head.write_all(b"POST /v1/token HTTP/1.1\r\nx-slow: ").await.unwrap();
    let mut other = TcpStream::connect(serving.address).await.unwrap();
    let asked = format!(
        "GET /v1/whoami HTTP/1.1\r\nhost: a\r\nconnection: close\r\nauthorization: Bearer {}\r\n\r\n",
        ground.token
    );
    other.write_all(asked.as_bytes()).await.unwrap();
    let mut answer = String::new();
    other.read_to_string(&mut answer).await.unwrap();
    assert_eq!(status(&answer), "200", "{answer}");
    let is_held = |stream: &TcpStream| matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock);
    assert!(is_held(&slow) && is_held(&slow_head), "other clients did not wait for the slow ones");
    // A byte now and then: the time limit is for the whole body.
    let mut beat = tokio::time::interval(Duration::from_secs(1));
    let (mut reads, mut writes) = slow.split();
    let mut answer = String::new();
    let cut = tokio::time::timeout(BACKSTOP, async {
        tokio::select! {
            done = reads.read_to_string(&mut answer) => { let _ = done; }
            () = async { loop { beat.tick().await; let _ = writes.write_all(b" ").await; } } => {}
        }
    });
    cut.await.expect("the server closes the connection");
    assert_eq!(status(&answer), "408", "{answer}");
    let mut nothing = Vec::new();
    let _ = tokio::time::timeout(BACKSTOP, slow_head.read_to_end(&mut nothing))
        .await
        .expect("the server closes the connection");
}

pub(super) async fn headers_past_the_limit_are_refused(backend: Backend) {
    let ground = Ground::plain(backend).await;
    let many: String = (0..1000).map(|n| format!("x-{n}: 1\r\n")).collect();
    let long = format!("x-long: {}\r\n", "a".repeat(64 * 1024));
    let sts = ground.test.sts.calls();
    for headers in [many, long] {
        let answer =
            answer_to(&ground.test, format!("{HEAD}{headers}content-length: 0\r\n\r\n").as_bytes())
                .await;
        assert_eq!(status(&answer), "431", "{answer}");
    }
    assert_eq!(ground.test.sts.calls(), sts);
}

/// Uses the real program, because an environment belongs to a process.
pub(super) async fn a_proxy_in_the_environment_is_not_used(backend: Backend) {
    let attacker = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    attacker.set_nonblocking(true).unwrap();
    let proxy = format!("http://{}", attacker.local_addr().unwrap());
    let now: Clock = Arc::new(system_time);
    let identity = Identity::role(ACCOUNT, "deploy", "i-0abc");
    let sts = LocalSts::start([identity.clone()], now);
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let place = Place::new(backend).await.expect("the suite checked the tools before");
    let host = format!("127.0.0.1:{port}");
    let test = TestBroker::start_at(
        &host,
        3600,
        place.clone(),
        &[stile_protocol::region::Region::named("us-east-1").unwrap()],
    );
    test.grant(&role("deploy"), "acme", &[Download]).await;
    let setup = match &place {
        Place::Folder(data) => Setup::new(port, data.path()),
        Place::Aws(aws) => Setup::on_aws(port, aws),
    };
    // The SDK reads these variables too, as it reads all its own. The AWS emulator uses plain HTTP,
    // so a proxy for `http` would apply to it.
    let names = match backend {
        Backend::Embedded => {
            &["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"][..]
        }
        Backend::Aws => &["HTTPS_PROXY", "https_proxy"],
    };
    let setup =
        names.iter().fold(setup.sts(&sts.endpoint()), |setup, name| setup.env(name, &proxy));
    let broker = setup.start(&folder.path().join("log")).await;
    let proof = Proof::new(&identity).audience(&host).now(system_time()).build();
    let request =
        broker.client().post(broker.url("/v1/token")).header("content-type", "application/json");
    let answer = request.body(proof.to_string()).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}\n{}", answer.text().await.unwrap(), broker.log());
    assert_eq!(sts.calls(), 1);
    assert!(attacker.accept().is_err(), "no program called the proxy");
}
