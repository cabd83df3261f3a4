//! An emulated AWS for one test: its own table, bucket and key in an emulator, behind a proxy.

use std::sync::{Arc, OnceLock};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use serde_json::{Value, json};
use stile_protocol::audience::Audience;
use stile_store::{Place, Store};

use crate::aws::emulator::Emulator;
use crate::aws::proxy::AwsProxy;
use crate::process::programs::client;
use crate::time_limits;

/// The access key that signs every call; the emulators do not verify it.
pub const ACCESS_KEY_ID: &str = "ASIAEXAMPLEEXAMPLE22";

/// The secret of [`ACCESS_KEY_ID`].
pub const SECRET_ACCESS_KEY: &str = "not/a+secret=";

/// The session token of [`ACCESS_KEY_ID`], with every character that a URL can spoil.
pub const SESSION_TOKEN: &str = "IQoJb3JpZ2luX2Vj//EXAMPLE+token/with+all==";

/// The variables with the credentials that sign every call.
const CREDENTIALS: [(&str, &str); 3] = [
    ("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID),
    ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY),
    ("AWS_SESSION_TOKEN", SESSION_TOKEN),
];

/// The region of the table, the bucket and the key.
pub const REGION: &str = "us-east-1";

/// An emulated AWS for one test: a table, a bucket and a key behind a proxy.
#[derive(Debug)]
pub struct EmulatedAws {
    /// The proxy in front of the emulator.
    pub proxy: AwsProxy,
    /// The names of the table, the bucket and the key.
    pub place: Place,
    /// The emulator; `None` if all tests share it.
    own: Option<Arc<Emulator>>,
}

impl EmulatedAws {
    /// Creates a table, a bucket and a key in the emulator that all tests share.
    ///
    /// Without `python3` it records a skip and returns `None`.
    pub async fn start() -> Option<Self> {
        Some(Self::create(AwsProxy::start(shared()?.endpoint()), None).await)
    }

    /// Names a table, a bucket and a key in the shared emulator, and creates none of them.
    pub fn start_empty() -> Option<Self> {
        Some(Self::with_random_names(AwsProxy::start(shared()?.endpoint()), None))
    }

    /// Creates a table, a bucket and a key in an emulator of their own.
    ///
    /// A test uses it if its load would slow down other tests.
    pub async fn start_alone() -> Option<Self> {
        let emulator = Emulator::start(&CREDENTIALS)?;
        Some(Self::create(AwsProxy::start(emulator.endpoint()), Some(Arc::new(emulator))).await)
    }

    async fn create(proxy: AwsProxy, own: Option<Arc<Emulator>>) -> Self {
        let emulated = Self::with_random_names(proxy, own);
        Store::init_on_aws(&emulated.place, &emulated.sdk(), time_limits::aws()).await.unwrap();
        emulated.proxy.take_counts();
        emulated
    }

    fn with_random_names(proxy: AwsProxy, own: Option<Arc<Emulator>>) -> Self {
        let mut random = [0; 8];
        getrandom::fill(&mut random).unwrap();
        let name = format!("stile-{}", hex::encode(random));
        let place = Place {
            table: name.clone(),
            bucket: name.clone(),
            kms_key: format!("alias/{name}"),
            bucket_kms_key: None,
            audit_key: None,
        };
        Self { proxy, place, own }
    }

    /// Returns the same table, bucket and key behind another proxy.
    #[must_use]
    pub fn behind_another_proxy(&self) -> Self {
        Self { proxy: self.proxy.another(), place: self.place.clone(), own: self.own.clone() }
    }

    /// Returns a configuration of the SDK that reaches the emulator.
    pub fn sdk(&self) -> SdkConfig {
        self.sdk_of(None)
    }

    /// Returns the same configuration with credentials that expire at that time.
    pub fn sdk_of(&self, expires_at: Option<std::time::SystemTime>) -> SdkConfig {
        let credentials = Credentials::new(
            ACCESS_KEY_ID,
            SECRET_ACCESS_KEY,
            Some(SESSION_TOKEN.to_owned()),
            expires_at,
            "test",
        );
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .endpoint_url(self.proxy.endpoint())
            .build()
    }

    /// Returns the environment variables with which a program reaches the emulator.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        [
            ("STILE_TABLE", self.place.table.clone()),
            ("STILE_BUCKET", self.place.bucket.clone()),
            ("STILE_KMS_KEY", self.place.kms_key.clone()),
            ("AWS_ENDPOINT_URL", self.proxy.endpoint()),
            ("AWS_REGION", REGION.to_owned()),
        ]
        .into_iter()
        .chain(CREDENTIALS.map(|(name, value)| (name, value.to_owned())))
        .chain(time_limits::VARIABLES.map(|(name, value)| (name, value.to_owned())))
        .collect()
    }

    /// Returns the store on AWS, for that registry host if the test gives one.
    pub fn store(&self, host: Option<&str>) -> Store {
        self.store_over(&self.sdk(), host)
    }

    /// Returns the same store over that configuration of the SDK.
    pub fn store_over(&self, sdk: &SdkConfig, host: Option<&str>) -> Store {
        let audience = host.map(|host| Audience::parse(host).unwrap());
        Store::on_aws(&self.place, audience, sdk, time_limits::aws())
    }

    /// Calls DynamoDB from outside the project, and adds the name of the table to the body.
    pub async fn dynamodb(&self, action: &str, mut body: Value) -> Value {
        if body.get("RequestItems").is_none() {
            body["TableName"] = json!(self.place.table);
        }
        self.call("dynamodb", "DynamoDB_20120810", action, &body).await
    }

    /// Calls KMS from outside the project, and adds the name of the key to the body.
    pub async fn kms(&self, action: &str, mut body: Value) -> Value {
        body["KeyId"] = json!(self.place.kms_key);
        self.call("kms", "TrentService", action, &body).await
    }

    /// Calls a service from outside the project.
    pub(in crate::aws) async fn call(
        &self,
        service: &str,
        api: &str,
        action: &str,
        body: &Value,
    ) -> Value {
        let request =
            client(None).post(self.proxy.endpoint()).header("authorization", unsigned(service));
        let request = request
            .header("x-amz-target", format!("{api}.{action}"))
            .header("content-type", "application/x-amz-json-1.0");
        let answer = request.body(body.to_string()).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert_eq!(status, 200, "{action}: {text}");
        self.proxy.take_counts();
        serde_json::from_str(&text).unwrap()
    }

    /// Puts an object into the bucket from outside the project, and returns its version.
    pub async fn put_object(&self, path: &str, body: &[u8]) -> String {
        let url = format!("{}/{}{path}", self.proxy.endpoint(), self.place.bucket);
        let answer = client(None)
            .put(url)
            .header("authorization", unsigned("s3"))
            .body(body.to_vec())
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        self.proxy.take_counts();
        let version = answer.headers().get("x-amz-version-id");
        version.and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned()
    }

    /// Reads the bytes of an object from outside the project.
    pub async fn object(&self, path: &str) -> Vec<u8> {
        let url = format!("{}/{}{path}", self.proxy.endpoint(), self.place.bucket);
        let request = client(None).get(url).header("authorization", unsigned("s3"));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        let body = answer.bytes().await.unwrap().to_vec();
        self.proxy.take_counts();
        body
    }

    /// Deletes every version of every object.
    pub async fn lose_objects(&self) {
        let bucket = format!("{}/{}", self.proxy.endpoint(), self.place.bucket);
        let text = client(None)
            .get(format!("{bucket}?versions"))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        let document = roxmltree::Document::parse(&text).unwrap();
        for version in document.descendants().filter(|node| node.tag_name().name() == "Version") {
            let text = |name: &str| {
                version
                    .children()
                    .find(|node| node.tag_name().name() == name)
                    .and_then(|node| node.text())
                    .unwrap()
            };
            let url = format!("{bucket}/{}?versionId={}", text("Key"), text("VersionId"));
            let answer = client(None)
                .delete(url)
                .header("authorization", unsigned("s3"))
                .send()
                .await
                .unwrap();
            assert!(answer.status().is_success(), "{}", answer.status());
        }
        assert_eq!(self.objects().await, 0);
        self.proxy.take_counts();
    }

    /// Counts the versions of objects in the bucket.
    pub async fn versions(&self) -> usize {
        let listed = client(None)
            .get(format!("{}/{}?versions", self.proxy.endpoint(), self.place.bucket))
            .send()
            .await
            .unwrap();
        self.proxy.take_counts();
        listed.text().await.unwrap().matches("<Version>").count()
    }

    /// Counts the objects in the bucket, without the metadata of archives.
    pub async fn objects(&self) -> usize {
        let listed = client(None)
            .get(format!("{}/{}?list-type=2", self.proxy.endpoint(), self.place.bucket))
            .send()
            .await
            .unwrap();
        let text = listed.text().await.unwrap();
        assert!(text.contains("ListBucketResult"), "{text}");
        text.matches("<Key>").count() - text.matches("<Key>metadata/").count()
    }
}

/// Returns the emulator that all tests share. Without `python3` it records a skip and returns
/// `None`.
fn shared() -> Option<&'static Emulator> {
    static EMULATOR: OnceLock<Option<Emulator>> = OnceLock::new();
    EMULATOR.get_or_init(|| Emulator::start(&CREDENTIALS)).as_ref()
}

/// Returns an authorization header that names the service. The emulators do not verify its signature.
pub(super) fn unsigned(service: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential=none/20200101/{REGION}/{service}/aws4_request, SignedHeaders=host, Signature=00"
    )
}
