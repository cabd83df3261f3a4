//! A publisher that fills the disk of an embedded store. It can no longer publish, and everything
//! else works.

use std::io;
use std::ops::RangeFrom;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::Request;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream;
use stile_protocol::names::Permission::{Download, Upload};
use stile_tests::broker::journal::{Journal, Logged};
use stile_tests::broker::{
    ACCOUNT, HOST, Reply, TestBroker, deploy, embedded, large_zip, module_zip, role,
};
use stile_tests::process::home::{CommandOutput, Home};
use stile_tests::process::programs::{ADMIN, BROKER, program};
use stile_tests::small_disk::SmallDisk;
use stile_tests::sts::identity::Identity;
use stile_tests::time_limits;

use crate::faults_on_disk::VERSIONS;

const MIB: u64 = 1 << 20;

/// The reserve of the brokers here, in MiB.
const RESERVE: u64 = 2;

/// A broker on a disk of 12 MiB, with a publisher's token.
struct Registry {
    // The broker is dropped before its disk.
    test: TestBroker,
    publisher: String,
    disk: Arc<SmallDisk>,
}

impl Registry {
    async fn start() -> Option<Self> {
        let disk = Arc::new(SmallDisk::mount(12)?);
        let data = Arc::new(tempfile::tempdir_in(disk.path()).unwrap());
        let test = with_reserve(&TestBroker::start_with(HOST, 3600, data), RESERVE);
        test.grant(&role("publisher"), "acme", &[Upload]).await;
        test.grant(&role("deploy"), "acme", &[Download]).await;
        let publisher = publisher(&test).await;
        Some(Self { test, publisher, disk })
    }

    /// Publishes 24 versions at once, until the broker refuses all of them. Returns the number of
    /// published versions.
    async fn publish_until_full(&self, bytes: usize, numbers: &mut RangeFrom<usize>) -> usize {
        let mut published = 0;
        loop {
            let uploads = numbers.by_ref().take(24).map(|number| {
                // Two archives of different lengths are different archives.
                let archive = large_zip(bytes + number);
                let request = self.request(&format!("1.0.{number}"));
                let request = match number % 2 {
                    0 => request.header("content-length", archive.len()).body(Body::from(archive)),
                    _ => request.body(chunked(&archive)),
                };
                self.test.send(request.unwrap())
            });
            let (done, refused): (Vec<_>, Vec<_>) =
                join_all(uploads).await.into_iter().partition(|reply| reply.status == 201);
            refused.iter().for_each(is_refused);
            published += done.len();
            if done.is_empty() {
                return published;
            }
        }
    }

    fn request(&self, version: &str) -> axum::http::request::Builder {
        Request::post(format!("/v1/modules/acme/vpc/aws/{version}"))
            .header("authorization", format!("Bearer {}", self.publisher))
            .header("content-type", "application/zip")
    }

    fn incoming(&self) -> usize {
        std::fs::read_dir(self.test.data().join("incoming")).unwrap().count()
    }

    /// Runs a program on the data folder.
    async fn run(&self, name: &str, arguments: &[&str]) -> CommandOutput {
        let mut home = Home::temporary();
        // There is no STS, and the test ignores the result about it.
        home.variable("STILE_STS_ENDPOINT", "http://127.0.0.1:9");
        let data = ["--data", self.test.data().to_str().unwrap()];
        home.run(&program(name), &[arguments, &data].concat()).await
    }
}

/// Starts another broker of the same registry, with a reserve in MiB.
fn with_reserve(test: &TestBroker, mib: u64) -> TestBroker {
    let store = embedded(test.data(), time_limits::embedded());
    test.over(store.with_disk_reserve(mib * MIB))
}

async fn publisher(test: &TestBroker) -> String {
    test.token(&Identity::role(ACCOUNT, "publisher", "i-0abc"), &[Upload]).await
}

/// Creates a body of small chunks, whose length the client does not announce.
fn chunked(archive: &[u8]) -> Body {
    let chunks: Vec<_> = archive.chunks(16 * 1024).map(Bytes::copy_from_slice).collect();
    Body::from_stream(stream::iter(chunks).map(Ok::<_, io::Error>))
}

/// Checks the answer to an upload for which the disk has too little space.
fn is_refused(reply: &Reply) {
    let (status, retry_after) = (reply.status.as_u16(), reply.header("retry-after"));
    assert_eq!((status, retry_after), (507, "60"), "{}", reply.text());
    let says = "the registry has too little free disk space for the archive; hint: try again later";
    assert!(reply.text().contains(says) && !reply.text().contains('/'), "{}", reply.text());
}

fn alarms(logged: &Logged) -> usize {
    logged.json.text.lines().filter(|line| line.contains(r#""alarm":"disk_full""#)).count()
}

#[tokio::test]
async fn an_archive_that_does_not_fit_is_refused_before_it_arrives() {
    let Some(registry) = Registry::start().await else { return };
    let unread = std::iter::from_fn(|| -> Option<io::Result<Bytes>> {
        panic!("the broker reads an archive that does not fit")
    });
    let request = registry.request("1.0.0").header("content-length", 11 * MIB);
    let body = Body::from_stream(stream::iter(unread));
    is_refused(&registry.test.send(request.body(body).unwrap()).await);
    assert_eq!(registry.incoming(), 0);
}

#[tokio::test]
async fn an_upload_in_progress_ends_when_another_program_fills_the_disk() {
    let Some(registry) = Registry::start().await else { return };
    let (archive, disk) = (large_zip(200_000), Arc::clone(&registry.disk));
    let parts = archive.chunks(100_000).map(Bytes::copy_from_slice).collect::<Vec<_>>();
    let body = stream::iter(parts.into_iter().enumerate()).map(move |(number, part)| {
        if number > 0 {
            disk.fill();
        }
        Ok::<_, io::Error>(part)
    });
    let request = registry.request("1.0.0").header("content-length", archive.len());
    let request = request.body(Body::from_stream(body)).unwrap();
    is_refused(&registry.test.send(request).await);
    assert_eq!(registry.incoming(), 0, "the broker deleted the partial archive");
    registry.disk.clear();
    let request = registry.request("1.0.0").body(archive.into()).unwrap();
    assert_eq!(registry.test.send(request).await.status, 201);
}

#[tokio::test]
async fn a_publisher_that_fills_the_disk_stops_publishing_and_nothing_else() {
    let Some(registry) = Registry::start().await else { return };
    let (test, hello) = (&registry.test, module_zip("hello"));
    let published = test.publish("acme/vpc/aws", "0.1.0", hello.clone(), &registry.publisher).await;
    assert_eq!(published.status, 201, "{}", published.text());
    let journal = Journal::start();
    let mut numbers = 0..;
    let large = registry.publish_until_full(400_000, &mut numbers).await;
    assert!(large > 0, "the disk has space at first");
    registry.publish_until_full(40_000, &mut numbers).await;
    registry.publish_until_full(300, &mut numbers).await;
    assert!(registry.disk.free() > (RESERVE - 1) * MIB, "{} bytes are free", registry.disk.free());
    assert_eq!(registry.incoming(), 0);
    assert_eq!(alarms(&journal.taken()), 1, "many refusals in a minute are one alarm");
    test.advance(60);
    registry.publish_until_full(300, &mut numbers).await;
    assert_eq!(alarms(&journal.taken()), 1, "in the next minute");

    let ready = test.get_anonymously("/readyz").await;
    assert_eq!(ready.status, 200, "{}", ready.text());
    assert_eq!(ready.json()["warning"], "publishing is refused: too little free disk space");
    let check = ["check", "--host", HOST, "--regions", "us-east-1", "--disk-reserve", "2"];
    let ran = registry.run(BROKER, &check).await;
    assert!(
        ran.code == Some(1)
            && ran.stdout.contains("failed  data folder")
            && ran.stdout.contains("the broker refuses to publish"),
        "{ran:?}"
    );

    // A mint uses its proof, and a read goes on.
    let identity = deploy();
    test.sts.add_identity(identity.clone());
    let proof = test.proof(&identity).build();
    let minted = test.exchange(&proof).await;
    assert_eq!(minted.status, 200, "{}", minted.text());
    assert_eq!(test.exchange(&proof).await.error(), "401 proof_replayed");
    let reader = minted.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(test.get(VERSIONS, &reader).await.status, 200);
    let download = test.get("/v1/modules/acme/vpc/aws/0.1.0/download", &reader).await;
    assert_eq!(test.fetch(download.header("x-terraform-get")).await, (200, hello.clone()));

    // The keys rotate.
    let before = test.store().keyring().await.unwrap().revision;
    test.advance(25 * 3600);
    let reader = test.token(&deploy(), &[Download]).await;
    assert_eq!(test.store().keyring().await.unwrap().revision, before + 1);

    // An operator deletes the grant of the publisher, and then revokes every token.
    let token = publisher(test).await;
    let arn = format!("arn:aws:iam::{ACCOUNT}:role/publisher");
    let delete = ["grant", "delete", "--role-arn", &arn, "--namespace", "acme"];
    let ran = registry.run(ADMIN, &delete).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    test.advance(11);
    let refused = test.publish("acme/vpc/aws", "2.0.0", hello.clone(), &token).await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    let ran = registry.run(ADMIN, &["token", "revoke", "--all", "--yes"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    test.advance(11);
    assert_eq!(test.get(VERSIONS, &reader).await.status, 401);
    let reader = test.token(&deploy(), &[Download]).await;
    assert_eq!(test.get(VERSIONS, &reader).await.status, 200);

    // With free space above the reserve, the broker publishes again.
    let test = with_reserve(test, 1);
    test.grant(&role("publisher"), "acme", &[Upload]).await;
    let token = publisher(&test).await;
    let published = test.publish("acme/vpc/aws", "2.0.0", hello, &token).await;
    assert_eq!(published.status, 201, "{}", published.text());
    assert_eq!(test.get_anonymously("/readyz").await.json()["warning"], serde_json::Value::Null);
}
