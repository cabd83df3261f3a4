//! An STS that hangs, sends wrong lengths, or is an impostor.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use stile_protocol::names::Permission::Download;
use stile_tests::broker::served::system_time;
use stile_tests::broker::{Backend, Place, allow, deploy, make_data, role};
use stile_tests::dev_ca::DevCa;
use stile_tests::process::programs::{Setup, free_port};
use stile_tests::sts::local::{Answer, identity_xml};
use stile_tests::sts::proof::Proof;
use stile_tests::time_limits::{self, past_deadlines};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::super::ground::{Ground, exchange, secrets};

/// The number of requests to one region that the broker has in progress at most for strangers.
const IN_FLIGHT: usize = 48;

pub(super) async fn an_answer_longer_than_its_stated_length_is_rejected(backend: Backend) {
    let ground = Ground::plain(backend).await;
    for answer in [
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/xml\r\ncontent-length: 5\r\n\r\n{}",
            "<a/>".repeat(13)
        ),
        "HTTP/1.1 200 OK\r\ncontent-type: text/xml\r\ncontent-length: 50\r\n\r\n<GetC".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-type: text/xml\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"
            .to_owned(),
    ] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let process = ground.test.asking(&format!("http://{}", listener.local_addr().unwrap()));
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"Version=2011-06-15") {
                assert_ne!(
                    stream.read_buf(&mut asked).await.unwrap(),
                    0,
                    "the whole request arrives"
                );
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let _ = stream.read_to_end(&mut asked).await;
        });
        let identity = deploy();
        let proof = process.proof(&identity).build();
        ground
            .expect_in(
                &process,
                exchange(proof.to_string()),
                &secrets(&identity, &proof),
                "502 sts_bad_response",
                "0/0/0/0",
            )
            .await;
    }
}

pub(super) async fn an_sts_that_hangs_holds_one_region_and_no_other(backend: Backend) {
    let ground = std::rc::Rc::new(Ground::plain(backend).await);
    let before = ground.test.sts.calls();
    ground.test.sts.answer_next(std::iter::repeat_n(Answer::Hang, IN_FLIGHT));
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let send = |region: &'static str| {
                let ground = std::rc::Rc::clone(&ground);
                async move {
                    let identity = deploy();
                    ground.test.sts.add_identity(identity.clone());
                    let proof = ground.test.proof(&identity).region(region).build();
                    ground.test.exchange(&proof).await
                }
            };
            let hanging: Vec<_> =
                (0..IN_FLIGHT).map(|_| tokio::task::spawn_local(send("us-east-1"))).collect();
            ground.test.sts.wait_for_calls(before + IN_FLIGHT).await;
            let (refused, waited) = past_deadlines(async {}, send("us-east-1")).await;
            assert!(waited < 2 * time_limits::sts().queue, "{waited:?}");
            assert_eq!(
                (refused.error().as_str(), ground.test.sts.calls() - before),
                ("429 throttled", IN_FLIGHT),
                "the broker calls no STS"
            );
            assert!(!refused.header("retry-after").is_empty());
            let elsewhere = send("us-west-2").await;
            assert_eq!(elsewhere.status, 200, "{}", elsewhere.text());
            // From here on every task only waits for the deadline.
            let (ended, jumped) =
                past_deadlines(async {}, futures_util::future::join_all(hanging)).await;
            for reply in ended {
                assert_eq!(reply.unwrap().error(), "504 sts_timeout");
            }
            assert!(jumped < 2 * time_limits::sts().total, "{jumped:?}");
            assert_eq!(ground.test.sts.calls() - before, IN_FLIGHT + 1);
            assert_eq!(send("us-east-1").await.status, 200, "and the broker uses the region again");
        })
        .await;
}

pub(super) async fn an_sts_without_a_certificate_that_holds_is_not_asked(backend: Backend) {
    let ground = Ground::plain(backend).await;
    for names in [["127.0.0.1"], ["sts.us-east-1.amazonaws.com"]] {
        let folder = tempfile::tempdir().unwrap();
        let files = DevCa::new(system_time()).write(folder.path(), &names);
        let serving = ground.test.serve_on(0, Some(&files), |router| router).await;
        let process = ground.test.asking(&format!("https://{}", serving.address));
        let identity = deploy();
        let proof = process.proof(&identity).build();
        let outcome = ground
            .expect_in(
                &process,
                exchange(proof.to_string()),
                &secrets(&identity, &proof),
                "502 sts_bad_response",
                "0/0/0/0",
            )
            .await;
        assert!(
            outcome.reply.text().contains("does not have a valid certificate"),
            "{}",
            outcome.reply.text()
        );
    }
    // The first three certificates are valid except for the name. The last one shows that the name
    // decides.
    for (names, status, says, calls) in [
        (["sts.us-east-1.amazonaws.com"], 502, "does not have a valid certificate", 0),
        (["localhost"], 502, "does not have a valid certificate", 0),
        (["127.0.0.2"], 502, "does not have a valid certificate", 0),
        (["127.0.0.1"], 200, "stile_v4.local.", 1),
    ] {
        let (answer, body, asked) = of_a_trusted_authority(backend, &ground, &names).await;
        assert_eq!((answer, asked), (status, calls), "{names:?}: {body}");
        assert!(body.contains(says), "{names:?}: {body}");
    }
}

/// Returns the answer of the real program, and how often it called STS. In the place of STS is a
/// server with a certificate for these names, by an authority that the program trusts. The program
/// runs as a process because the trusted authorities come from its environment.
async fn of_a_trusted_authority(
    backend: Backend,
    ground: &Ground,
    names: &[&str],
) -> (u16, String, usize) {
    let (folder, port, identity, now) =
        (tempfile::tempdir().unwrap(), free_port(), deploy(), system_time());
    let files = DevCa::new(now).write(folder.path(), names);
    let (answer, asked) = (identity_xml(&identity), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&asked);
    let vouching = Router::new().fallback(async move || {
        counted.fetch_add(1, Ordering::SeqCst);
        ([("content-type", "text/xml")], answer)
    });
    let sts = ground.test.serve_on(0, Some(&files), |_| vouching).await;
    let place = Place::new(backend).await.expect("the suite checked the tools before");
    let setup = match &place {
        Place::Folder(data) => {
            make_data(data.path(), &role("deploy"), "acme", &[Download]).await;
            Setup::new(port, data.path())
        }
        Place::Aws(aws) => {
            allow(aws, &role("deploy"), "acme", &[Download]).await;
            Setup::on_aws(port, aws)
        }
    };
    let setup = setup
        .sts(&format!("https://{}", sts.address))
        .env("SSL_CERT_FILE", files.ca.to_str().unwrap());
    let broker = setup.start(&folder.path().join("log")).await;
    let proof = Proof::new(&identity).audience(&broker.host()).now(now).build();
    let request =
        broker.client().post(broker.url("/v1/token")).header("content-type", "application/json");
    let answer = request.body(proof.to_string()).send().await.unwrap();
    let (status, body) = (answer.status().as_u16(), answer.text().await.unwrap());
    (status, body, asked.load(Ordering::SeqCst))
}
