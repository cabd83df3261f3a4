//! Signed URLs of archives in S3: what they are for, how long they live, and what happens without
//! the credentials that sign them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use sha2::{Digest, Sha256};
use stile_tests::aws::emulated::{ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, SESSION_TOKEN};
use stile_tests::broker::{HOST, NOW, deploy, module_zip};
use stile_tests::sts::sigv4::{Request, Scope};
use stile_tests::terraform::as_fetched;
use stile_tests::time_limits::{self, past_deadlines};
use tokio::sync::Notify;

use crate::aws_store::{DOWNLOAD, VERSIONS, calls, published};

#[tokio::test]
async fn a_link_is_for_one_version_of_an_object_and_survives_what_clients_do_to_it() {
    let Some((test, token)) = published().await else { return };
    let location = test.get(DOWNLOAD, &token).await.header("x-terraform-get").to_owned();
    let archive = module_zip("hello");
    let sha256 = hex::encode(Sha256::digest(&archive));
    let (path, query) = location.split_once('?').unwrap();
    let aws = test.aws();
    assert_eq!(
        path,
        format!(
            "{}/{}/modules/acme/vpc/aws/1.0.0/{sha256}.zip",
            aws.proxy.endpoint(),
            aws.place.bucket
        )
    );
    assert!(query.ends_with(&format!("&checksum=sha256:{sha256}")), "{query}");
    let mut names: Vec<&str> =
        query.split('&').map(|pair| pair.split('=').next().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "X-Amz-Algorithm",
            "X-Amz-Credential",
            "X-Amz-Date",
            "X-Amz-Expires",
            "X-Amz-Security-Token",
            "X-Amz-Signature",
            "X-Amz-SignedHeaders",
            "checksum",
            "versionId"
        ]
    );

    // The signature over the URL as the client sends it is the one that S3 computes.
    let fetched = as_fetched(&location);
    let parameter = |name: &str| {
        let url = url::Url::parse(&fetched).unwrap();
        url.query_pairs()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.into_owned())
            .unwrap()
    };
    assert_eq!(
        (parameter("X-Amz-Expires").as_str(), parameter("X-Amz-SignedHeaders").as_str()),
        ("300", "host")
    );
    assert_eq!(parameter("X-Amz-Date"), "20261120T101112Z");
    assert_eq!(parameter("X-Amz-Security-Token"), SESSION_TOKEN);
    assert!(parameter("X-Amz-Credential").starts_with(ACCESS_KEY_ID));
    let without_signature: Vec<&str> = fetched
        .split_once('?')
        .unwrap()
        .1
        .split('&')
        .filter(|pair| !pair.starts_with("X-Amz-Signature="))
        .collect();
    let host = aws.proxy.endpoint().replace("http://", "");
    let address = url::Url::parse(path).unwrap();
    let request = Request {
        method: "GET",
        path: address.path(),
        query: &without_signature.join("&"),
        headers: &[("host".to_owned(), host)],
        body: b"",
    };
    let canonical = request
        .canonical("host")
        .unwrap()
        .replace(&hex::encode(Sha256::digest(b"")), "UNSIGNED-PAYLOAD");
    let scope =
        Scope { date: "20261120".to_owned(), region: REGION.to_owned(), service: "s3".to_owned() };
    assert_eq!(
        scope.signature(SECRET_ACCESS_KEY, "20261120T101112Z", &canonical),
        parameter("X-Amz-Signature")
    );

    // A client that overwrites the object does not change what the signed URL returns.
    aws.put_object(path.split_once(&aws.place.bucket).unwrap().1, b"other").await;
    assert_eq!(test.fetch(&location).await, (200, archive));
}

#[tokio::test]
async fn a_link_never_outlives_the_credentials_that_signed_it() {
    let Some((test, token)) = published().await else { return };
    for (left, expected) in [
        (None, Some("300")),
        (Some(1000), Some("300")),
        (Some(120), Some("120")),
        (Some(29), None),
        (Some(-5), None),
    ] {
        let expires_at = left
            .map(|left: i64| UNIX_EPOCH + Duration::from_secs((NOW + left).try_into().unwrap()));
        let aws = test.aws();
        // The credentials of the clients stay valid. Only those that sign URLs expire.
        let store = aws.store_over(&aws.sdk_of(expires_at), Some(HOST));
        let signing = test.over(store);
        let reply = signing.get(DOWNLOAD, &token).await;
        match expected {
            None => assert_eq!(reply.status, 503, "{left:?}"),
            Some(seconds) => assert!(
                reply.header("x-terraform-get").contains(&format!("X-Amz-Expires={seconds}&")),
                "{left:?}"
            ),
        }
    }
}

/// Returns whether it took at most six deadlines of the store, which is how long a gateway waits.
fn in_time(jumped: Duration) -> bool {
    jumped < 6 * time_limits::aws().call
}

/// Credentials from a container endpoint that may not answer.
#[derive(Debug)]
struct Credentials {
    given: SharedCredentialsProvider,
    come: Arc<AtomicBool>,
    /// A message to send when the broker asks for credentials that do not arrive.
    missed: Arc<Notify>,
}

impl ProvideCredentials for Credentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            match self.come.load(Ordering::SeqCst) {
                true => self.given.provide_credentials().await,
                false => {
                    self.missed.notify_waiters();
                    std::future::pending().await
                }
            }
        })
    }
}

#[tokio::test]
async fn credentials_that_do_not_come_are_waited_for_until_a_deadline_and_used_when_they_do() {
    let Some((test, token)) = published().await else { return };
    let sdk = test.aws().sdk();
    let (come, missed) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
    let process = || {
        let credentials = Credentials {
            given: sdk.credentials_provider().unwrap(),
            come: Arc::clone(&come),
            missed: Arc::clone(&missed),
        };
        let sdk = sdk
            .to_builder()
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .build();
        test.over(test.aws().store_over(&sdk, Some(HOST)))
    };
    // The credentials for calls are loaded, and those that sign URLs are not.
    let (signing, process) = (process(), process());
    come.store(true, Ordering::SeqCst);
    assert_eq!(signing.get(VERSIONS, &token).await.status, 200);
    come.store(false, Ordering::SeqCst);
    let (unsigned, jumped) = past_deadlines(missed.notified(), signing.get(DOWNLOAD, &token)).await;
    assert!(in_time(jumped), "{jumped:?}");
    assert_eq!(unsigned.status, 503, "{}", unsigned.text());
    assert!(
        test.aws().proxy.take_counts().contains_key("dynamodb GetItem"),
        "the broker read the version"
    );
    let identity = deploy();
    process.sts.add_identity(identity.clone());
    let proof = process.proof(&identity).build();
    test.aws().proxy.take_counts();
    // Each makes its own call, and all of them end in the time that a gateway waits for one.
    let looks = async {
        tokio::join!(
            process.get_anonymously("/readyz"),
            process.get(DOWNLOAD, &token),
            process.publish("acme/vpc/aws", "2.0.0", module_zip("x"), &token),
        )
    };
    let ((ready, download, published), looked) = past_deadlines(missed.notified(), looks).await;
    // This mint runs first, since STS must answer before the clock jumps.
    let (minted, exchanged) = past_deadlines(missed.notified(), process.exchange(&proof)).await;
    assert!(in_time(looked + exchanged), "{looked:?} and {exchanged:?}");
    for (what, reply) in
        [("mint", minted), ("readiness", ready), ("download", download), ("publish", published)]
    {
        assert!(
            reply.status == 503 && !reply.header("retry-after").is_empty(),
            "{what}: {} {}",
            reply.status,
            reply.text()
        );
    }
    assert_eq!(
        test.aws().proxy.take_counts(),
        calls([]),
        "the broker calls no service without credentials"
    );
    come.store(true, Ordering::SeqCst);
    process.advance(10);
    assert_eq!(process.exchange(&proof).await.status, 200, "the proof is still unused");
    for process in [process, signing] {
        assert_eq!(process.get(DOWNLOAD, &token).await.status, 204);
        assert_eq!(process.get_anonymously("/readyz").await.status, 200);
    }
}
