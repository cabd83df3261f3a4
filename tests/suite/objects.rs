//! Versions whose archive is an object of another bucket: who can publish which object, and what
//! clients get when the object changes.

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use stile_protocol::names::Permission::{Download, Upload};
use stile_protocol::request_id;
use stile_store::LimitChange::At;
use stile_store::SourcesSet;
use stile_tests::aws::emulated::EmulatedAws;
use stile_tests::aws::proxy::Fault;
use stile_tests::aws::source_bucket::SourceBucket;
use stile_tests::broker::journal::Journal;
use stile_tests::broker::operator::AsOperator as _;
use stile_tests::broker::{Backend, NOW, Reply, TestBroker, deploy, module_zip, role};

pub(super) const VERSION: &str = "acme/vpc/aws/1.0.0";

/// A registry, and a bucket with versions of which `acme` may use what is below `own`.
pub(super) struct Registry {
    pub(super) test: TestBroker,
    pub(super) aws: Arc<EmulatedAws>,
    pub(super) bucket: SourceBucket,
    /// A token of `deploy`, who publishes in `acme`, in `acme-x` and not in `other`.
    pub(super) token: String,
}

impl Registry {
    pub(super) async fn start() -> Option<Self> {
        Self::start_with(true).await
    }

    pub(super) async fn start_with(versioned: bool) -> Option<Self> {
        let (test, aws) = TestBroker::start_with_buckets(super::BACKEND).await?;
        for namespace in ["acme", "acme-x"] {
            test.grant(&role("deploy"), namespace, &[Download, Upload]).await;
        }
        test.grant(&role("else"), "other", &[Download, Upload]).await;
        let bucket = SourceBucket::create(&aws, "own", versioned).await;
        let token = test.token(&deploy(), &[Download, Upload]).await;
        let registry = Self { test, aws, bucket, token };
        registry.allow("acme", &[&registry.bucket.address("own")]).await;
        Some(registry)
    }

    async fn allow(&self, namespace: &str, addresses: &[&str]) {
        let (store, now) = (self.test.store(), self.test.time());
        let set = store.as_operator().allow_objects(namespace, addresses, now).await.unwrap();
        assert!(matches!(set, SourcesSet::Done { .. }), "{set:?}");
    }

    /// Puts an object, and returns its address.
    pub(super) async fn put(&self, key: &str, archive: &[u8]) -> String {
        self.bucket.put(key, archive).await;
        self.bucket.address(key)
    }

    pub(super) async fn publish(&self, path: &str, object: &str, sha256: &str) -> Reply {
        self.post(path, &json!({ "object": object, "sha256": sha256 })).await
    }

    async fn post(&self, path: &str, body: &Value) -> Reply {
        let request = Request::post(format!("/v1/modules/{path}"))
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json");
        self.test.send(request.body(Body::from(body.to_string())).unwrap()).await
    }

    pub(super) async fn download(&self, path: &str) -> Reply {
        self.test.get(&format!("/v1/modules/{path}/download"), &self.token).await
    }
}

pub(super) fn digest(archive: &[u8]) -> String {
    hex::encode(Sha256::digest(archive))
}

/// Returns the sentence of a refusal, without the id of the request.
pub(super) fn sentence(reply: &Reply) -> String {
    let json = reply.json();
    request_id::split(json["errors"][0].as_str().unwrap_or_default()).0.to_owned()
}

/// Returns the parameters of a download location.
pub(super) fn parameters(location: &str) -> Vec<(String, String)> {
    url::Url::parse(location).unwrap().query_pairs().into_owned().collect()
}

#[tokio::test]
async fn an_object_is_published_once_and_clients_get_the_version_that_was_published() {
    let Some(registry) = Registry::start().await else { return };
    let journal = Journal::start();
    let archive = module_zip("first");
    let object = registry.put("own/v=1+b/vpc.bin", &archive).await;
    let sha256 = digest(&archive);
    let created = registry.publish(VERSION, &object, &sha256).await;
    let expected = json!({
        "module": "acme/vpc/aws", "version": "1.0.0", "sha256": sha256, "object": object,
        "status": "created", "warnings": [],
    });
    assert_eq!((created.status.as_u16(), created.json()), (201, expected));
    let event = journal.taken().audit().pop().unwrap();
    let recorded = (&event["decision"], &event["source"]);
    assert_eq!(recorded, (&"created".into(), &object.as_str().into()));

    // The same object is the same content, and so is the archive itself.
    let again = registry.publish(VERSION, &object, &sha256).await.json();
    assert_eq!((&again["status"], &again["object"]), (&"unchanged".into(), &json!(object)));
    let event = journal.taken().audit().pop().unwrap();
    let recorded = (&event["decision"], &event["source"]);
    assert_eq!(recorded, (&"unchanged".into(), &object.as_str().into()));
    let sent = registry.test.publish("acme/vpc/aws", "1.0.0", archive.clone(), &registry.token);
    assert_eq!(sent.await.status, 200);
    let other = module_zip("second");
    registry.put("own/v=1+b/vpc.bin", &other).await;
    let conflict = registry.publish(VERSION, &object, &digest(&other)).await;
    assert_eq!(conflict.status, 409, "{conflict:?}");

    journal.taken();
    let found = registry.download(VERSION).await;
    assert_eq!(found.status, 204, "{found:?}");
    let location = found.header("x-terraform-get").to_owned();
    let parameters = parameters(&location);
    let has = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value);
    assert_eq!(has("archive").map(String::as_str), Some("zip"));
    assert_eq!(has("checksum"), Some(&format!("sha256:{sha256}")));
    assert!(has("versionId").is_some_and(|version| version != "null"), "{location}");
    assert_eq!(registry.test.fetch(&location).await, (200, archive), "not what is there now");
    let event = journal.taken().audit().pop().unwrap();
    let recorded = (&event["decision"], &event["source"]);
    assert_eq!(recorded, (&"allowed".into(), &object.as_str().into()));
    assert_eq!(registry.test.archives().await, 0, "the registry keeps no copy");
}

#[tokio::test]
async fn an_object_that_changed_in_a_bucket_without_versions_is_refused_and_an_event_says_so() {
    let Some(registry) = Registry::start_with(false).await else { return };
    let archive = module_zip("first");
    let object = registry.put("own/vpc.zip", &archive).await;
    let created = registry.publish(VERSION, &object, &digest(&archive)).await;
    assert_eq!(created.status, 201, "{created:?}");
    let location = async || {
        let found = registry.download(VERSION).await;
        assert_eq!(found.status, 204, "{found:?}");
        found.header("x-terraform-get").to_owned()
    };
    assert!(!location().await.contains("versionId"));
    assert_eq!(registry.test.fetch(&location().await).await, (200, archive.clone()));

    let mut flipped = archive.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let journal = Journal::start();
    for (bytes, reason) in [
        (Some(module_zip("other")), "it has another ETag or another length"),
        (Some(flipped), "it has another ETag or another length"),
        (None, "it does not exist any more"),
    ] {
        match &bytes {
            Some(bytes) => drop(registry.bucket.put("own/vpc.zip", bytes.clone()).await),
            None => registry.bucket.delete("own/vpc.zip").await,
        }
        journal.taken();
        let refused = registry.download(VERSION).await;
        let expected = format!(
            "the object of `acme/vpc/aws` 1.0.0 changed after its publication: {reason}; hint: ask the publisher to publish the version again with an object that has the same bytes, or use another version; request id: REQUEST-ID\n"
        );
        assert_eq!((refused.status.as_u16(), refused.without_id().text()), (410, expected));
        assert_eq!(refused.header("x-terraform-get"), "");
        let logged = journal.taken();
        let event = logged.audit().pop().unwrap();
        let recorded = (&event["decision"], &event["code"], &event["source"]);
        let changed = (&"refused".into(), &"object_changed".into(), &object.as_str().into());
        assert_eq!(recorded, changed);
        let alarm = |line: &str| line.contains("object_changed") && line.contains("alarm");
        assert!(logged.json.text.lines().any(alarm), "{}", logged.json.text);
    }
    registry.bucket.put("own/vpc.zip", archive.clone()).await;
    assert_eq!(registry.test.fetch(&location().await).await, (200, archive));
}

#[tokio::test]
async fn the_right_on_one_namespace_gives_no_object_of_another_through_any_spelling() {
    let Some(registry) = Registry::start().await else { return };
    let archive = module_zip("x");
    let sha256 = digest(&archive);
    let theirs = SourceBucket::create(&registry.aws, "theirs", true).await;
    registry.allow("other", &[&theirs.address("own"), &registry.bucket.address("other")]).await;
    for key in
        ["own/vpc.zip", "own-x/vpc.zip", "own.zip", "other/vpc.zip", "OWN/vpc.zip", "vpc.zip"]
    {
        registry.put(key, &archive).await;
        theirs.put(key, archive.clone()).await;
    }
    let own_archives = &registry.aws.place.bucket;
    let (mine, other) = (&registry.bucket.name, &theirs.name);
    let upper = mine.to_ascii_uppercase();
    let rows = [
        // The namespace of someone else, with an object that it allows.
        ("other/vpc/aws/1.0.0", format!("s3://{other}/own/vpc.zip")),
        ("Other/vpc/aws/1.0.0", format!("s3://{other}/own/vpc.zip")),
        ("%6fther/vpc/aws/1.0.0", format!("s3://{other}/own/vpc.zip")),
        ("acme%2f..%2fother/vpc/aws/1.0.0", format!("s3://{other}/own/vpc.zip")),
        ("acme/../other/vpc/aws/1.0.0", format!("s3://{other}/own/vpc.zip")),
        // A namespace in which the bearer publishes, and that allows no object.
        ("acme-x/vpc/aws/1.0.0", format!("s3://{mine}/own/vpc.zip")),
        // A key that only another namespace allows, or nobody.
        (VERSION, format!("s3://{mine}/other/vpc.zip")),
        (VERSION, format!("s3://{mine}/vpc.zip")),
        (VERSION, format!("s3://{mine}/own-x/vpc.zip")),
        (VERSION, format!("s3://{mine}/own.zip")),
        (VERSION, format!("s3://{mine}/OWN/vpc.zip")),
        (VERSION, format!("s3://{mine}/other/own/vpc.zip")),
        (VERSION, format!("s3://{mine}/own/../other/vpc.zip")),
        (VERSION, format!("s3://{mine}/own/./vpc.zip")),
        (VERSION, format!("s3://{mine}/own//vpc.zip")),
        (VERSION, format!("s3://{mine}//own/vpc.zip")),
        (VERSION, format!("s3://{mine}/own/%2e%2e/other/vpc.zip")),
        (VERSION, format!("s3://{mine}/own%2f..%2fother/vpc.zip")),
        (VERSION, format!("s3://{mine}/%6fwn/vpc.zip")),
        (VERSION, format!("s3://{mine}/own\\..\\other\\vpc.zip")),
        (VERSION, format!("s3://{mine}/own/vpc.zip/")),
        (VERSION, format!("s3://{mine}/own/vpc.zip?versionId=x")),
        (VERSION, format!("s3://{mine}/own/vpc.zip#x")),
        (VERSION, format!("s3://{mine}/own/\u{0}vpc.zip")),
        (VERSION, format!("s3://{mine}/own/*")),
        (VERSION, format!("s3://{mine}/own/")),
        (VERSION, format!("s3://{mine}/")),
        // A bucket that only another namespace allows, or nobody, in any spelling.
        (VERSION, format!("s3://{other}/own/vpc.zip")),
        (VERSION, format!("s3://{mine}-x/own/vpc.zip")),
        (VERSION, format!("s3://{upper}/own/vpc.zip")),
        (VERSION, format!("s3://{mine}./own/vpc.zip")),
        (VERSION, format!("s3://{mine}%2f{other}/own/vpc.zip")),
        (VERSION, format!("s3://{mine}:443/own/vpc.zip")),
        (VERSION, format!("s3://{other}@{mine}/own/vpc.zip")),
        (VERSION, format!("s3://{mine}/../{other}/own/vpc.zip")),
        (VERSION, format!("s3://arn:aws:s3:::{mine}/own/vpc.zip")),
        (VERSION, format!("s3://arn:aws:s3:us-east-1:1:accesspoint/{mine}/own/vpc.zip")),
        (VERSION, format!("s3://{mine}-s3alias/own/vpc.zip")),
        (VERSION, "s3://127.0.0.1/own/vpc.zip".to_owned()),
        (VERSION, format!("S3://{mine}/own/vpc.zip")),
        (VERSION, format!("s3::s3://{mine}/own/vpc.zip")),
        (VERSION, format!("s3::https://{mine}.s3.amazonaws.com/own/vpc.zip")),
        (VERSION, format!("https://{mine}.s3.amazonaws.com/own/vpc.zip")),
        (VERSION, format!("arn:aws:s3:::{mine}/own/vpc.zip")),
        (VERSION, format!("{mine}/own/vpc.zip")),
        (VERSION, format!("file:///{mine}/own/vpc.zip")),
        // The bucket of the registry itself has the archives of all namespaces.
        (VERSION, format!("s3://{own_archives}/modules/other/vpc/aws/1.0.0/{sha256}.zip")),
    ];
    registry.aws.proxy.take_counts();
    for (path, object) in &rows {
        let reply = registry.publish(path, object, &sha256).await;
        assert!(matches!(reply.status.as_u16(), 400 | 403 | 404), "{path} {object}: {reply:?}");
    }
    let reads = |name: &str| name == "s3 GET" || name == "s3 HEAD";
    let calls = registry.aws.proxy.take_counts();
    assert!(!calls.keys().any(|name| reads(name)), "no row costs a read of a bucket: {calls:?}");
    // A source is no way to an object, and an object is no source.
    let source = format!("s3::https://{mine}.s3.us-east-1.amazonaws.com/own/vpc.zip");
    let refused = registry.post(VERSION, &json!({ "source": source })).await;
    assert_eq!(refused.status, 403, "{refused:?}");
    for namespace in ["acme", "acme-x"] {
        let versions = format!("/v1/modules/{namespace}/vpc/aws/versions");
        assert_eq!(registry.test.get(&versions, &registry.token).await.status, 404);
    }
    // The same request succeeds with what the namespace allows.
    let reply = registry.publish(VERSION, &registry.bucket.address("own/vpc.zip"), &sha256).await;
    assert_eq!(reply.status, 201, "{reply:?}");
}

#[tokio::test]
async fn the_bucket_of_the_registry_is_no_source_even_if_an_operator_lists_it() {
    let Some(registry) = Registry::start().await else { return };
    let archive = module_zip("x");
    let sha256 = digest(&archive);
    let own = registry.aws.place.bucket.clone();
    if super::BACKEND == Backend::Embedded {
        // There, it is a bucket like any other.
        SourceBucket::create_at(&registry.aws.proxy.endpoint(), &own, true).await;
    }
    registry.aws.put_object("/own/vpc.zip", &archive).await;
    registry.allow("acme", &[&format!("s3://{own}/own")]).await;
    let reply = registry.publish(VERSION, &format!("s3://{own}/own/vpc.zip"), &sha256).await;
    let expected = if super::BACKEND == Backend::Aws { 403 } else { 201 };
    assert_eq!(reply.status, expected, "{reply:?}");
}

#[tokio::test]
async fn a_refusal_says_what_is_wrong_with_a_listed_object_and_nothing_about_others() {
    let Some(registry) = Registry::start().await else { return };
    let archive = module_zip("x");
    let sha256 = digest(&archive);
    let hidden = registry.put("hidden/vpc.zip", &archive).await;
    let answer = async |object: &str| {
        let reply = registry.publish(VERSION, object, &sha256).await;
        (reply.status.as_u16(), reply.without_id().text())
    };
    let there = answer(&hidden).await;
    let missing = answer(&registry.bucket.address("hidden/missing.zip")).await;
    assert_eq!(there, missing, "the answer does not show whether an object exists");
    assert_eq!(there.0, 403);

    let missing = registry.bucket.address("own/missing.zip");
    let reply = registry.publish(VERSION, &missing, &sha256).await;
    let expected = format!("there is no object `{missing}`; hint: check the bucket and the key");
    assert_eq!((reply.status.as_u16(), sentence(&reply)), (400, expected));

    let object = registry.put("own/vpc.zip", &archive).await;
    let claimed = digest(b"other");
    let reply = registry.publish(VERSION, &object, &claimed).await;
    assert_eq!(reply.status, 400);
    let expected = format!("the SHA-256 of object `{object}` is not {claimed}; hint");
    assert!(sentence(&reply).starts_with(&expected), "{}", sentence(&reply));
    assert!(!reply.text().contains(&sha256), "a publisher may not read it: {}", reply.text());

    let text = registry.put("own/text.zip", b"no archive").await;
    let reply = registry.publish(VERSION, &text, &digest(b"no archive")).await;
    assert_eq!(reply.status, 400);
    assert!(sentence(&reply).contains("neither a `.zip` nor a `.tar.gz`"), "{}", sentence(&reply));

    let damaged = &archive[..archive.len() - 10];
    let object = registry.put("own/damaged.zip", damaged).await;
    let reply = registry.publish(VERSION, &object, &digest(damaged)).await;
    assert_eq!(reply.status, 400, "checked like every archive: {reply:?}");

    for (body, expected) in [
        (json!({ "object": object }), "field `sha256` is missing"),
        (json!({ "object": object, "sha256": "AB" }), "`sha256` must be 64 lower-case"),
        (json!({ "object": object, "sha256": sha256, "source": "x" }), "`source` is not valid"),
        (json!({ "object": object, "sha256": sha256, "region": "x" }), "field `region` is not"),
    ] {
        let reply = registry.post(VERSION, &body).await;
        assert_eq!(reply.status, 400, "{body}: {reply:?}");
        let said = sentence(&reply);
        assert!(said.contains(expected) || said.contains("is not known"), "{body}: {said}");
    }
    let versions = registry.test.get("/v1/modules/acme/vpc/aws/versions", &registry.token).await;
    assert_eq!(versions.status, 404, "nothing is published");
}

#[tokio::test]
async fn an_object_that_is_larger_than_an_archive_may_be_is_not_read() {
    // The limit is the same on both stores, and the object is large.
    if super::BACKEND == Backend::Aws {
        return;
    }
    let Some(registry) = Registry::start().await else { return };
    let large = vec![0; 100_000_001];
    let object = registry.put("own/large.zip", &large).await;
    let reply = registry.publish(VERSION, &object, &digest(&large)).await;
    assert_eq!(reply.status, 413, "{reply:?}");
}

#[tokio::test]
async fn an_s3_that_denies_and_one_that_is_down_are_two_answers() {
    let Some(registry) = Registry::start().await else { return };
    let archive = module_zip("x");
    let (object, sha256) = (registry.put("own/vpc.zip", &archive).await, digest(&archive));
    let journal = Journal::start();
    let proxy = &registry.aws.proxy;
    for (fault, status, words) in [
        (Fault::Fail, 503, "cannot reach its store"),
        (Fault::Throttle, 503, "cannot reach its store"),
        (Fault::Close, 503, "cannot reach its store"),
        (Fault::Portal, 503, "cannot reach its store"),
        (Fault::Truncate, 503, "cannot reach its store"),
        (Fault::RefusedByS3(400, "ExpiredToken", ""), 503, "cannot reach its store"),
        (Fault::RefusedByS3(403, "InvalidAccessKeyId", ""), 500, "not set up correctly"),
        (Fault::RefusedByS3(403, "InvalidObjectState", ""), 400, "in an archive storage class"),
        (
            Fault::RefusedByS3(400, "InvalidRequest", "a form of Server Side Encryption"),
            400,
            "encrypted with a key of its own",
        ),
        (Fault::RefusedByS3(400, "KMS.DisabledException", ""), 400, "`kms:Decrypt`"),
        (Fault::DeniedByS3("Access Denied"), 400, "it does not exist, or the registry may not"),
        (
            Fault::DeniedByS3("User: x is not authorized to perform: kms:Decrypt"),
            400,
            "ask an operator to allow the registry `s3:GetObject`, and `kms:Decrypt`",
        ),
        (
            Fault::DeniedByS3("User: x is not authorized to perform: s3:ListBucket on resource: y"),
            400,
            "there is no object",
        ),
        (Fault::NoBucket, 400, "there is no bucket"),
    ] {
        journal.taken();
        proxy.inject("s3 GET", .., fault.clone());
        let reply = registry.publish(VERSION, &object, &sha256).await;
        proxy.repair();
        assert_eq!(reply.status.as_u16(), status, "{fault:?}: {reply:?}");
        assert!(sentence(&reply).contains(words), "{fault:?}: {}", sentence(&reply));
        let logged = journal.taken();
        let alarm = logged.json.text.contains("alarm");
        assert!(!alarm, "a publisher calls no operator: {fault:?}: {}", logged.json.text);
        let event = logged.audit().pop().unwrap();
        let decision = if status >= 500 { "failed" } else { "refused" };
        assert_eq!(event["decision"], decision, "{fault:?}");
    }
    let created = registry.publish(VERSION, &object, &sha256).await;
    assert_eq!(created.status, 201, "{created:?}");
    proxy.inject("s3 HEAD", .., Fault::Fail);
    assert_eq!(registry.download(VERSION).await.status, 204, "a version needs no look");
}

#[tokio::test]
async fn of_twenty_publishers_of_one_version_with_objects_one_wins() {
    let Some(registry) = Registry::start().await else { return };
    let mut objects = Vec::new();
    for number in 0..4 {
        let archive = module_zip(&number.to_string());
        let object = registry.put(&format!("own/{number}.zip"), &archive).await;
        objects.push((object, archive));
    }
    let one = |number: usize| {
        let (registry, (object, archive)) = (&registry, &objects[number % 4]);
        async move {
            // Under load, a store may answer that it is busy.
            loop {
                let reply = registry.publish(VERSION, object, &digest(archive)).await;
                if !matches!(reply.status.as_u16(), 429 | 503) {
                    return (archive, reply);
                }
            }
        }
    };
    let replies = futures_util::future::join_all((0..20).map(one)).await;
    let winner: Vec<_> = replies.iter().filter(|(_, reply)| reply.status == 201).collect();
    let [(won, _)] = winner.as_slice() else { panic!("{} winners", winner.len()) };
    for (archive, reply) in &replies {
        let expected: &[u16] = if archive == won { &[200, 201] } else { &[409] };
        assert!(expected.contains(&reply.status.as_u16()), "{reply:?}");
    }
    let found = registry.download(VERSION).await;
    let fetched = registry.test.fetch(found.header("x-terraform-get")).await;
    assert_eq!(fetched, (200, (*won).clone()));
}

#[tokio::test]
async fn an_object_that_the_operator_no_longer_allows_is_not_handed_out() {
    let Some(registry) = Registry::start().await else { return };
    let archive = module_zip("x");
    let (object, sha256) = (registry.put("own/vpc.zip", &archive).await, digest(&archive));
    assert_eq!(registry.publish(VERSION, &object, &sha256).await.status, 201);
    assert_eq!(registry.download(VERSION).await.status, 204);
    let (store, now) = (registry.test.store(), registry.test.time());
    store.as_operator().forbid_sources("acme", now).await.unwrap();
    let journal = Journal::start();
    let sentence = "namespace `acme` does not allow this object; hint: ask an operator for `stile-admin namespace set acme --source s3://BUCKET/PREFIX --region REGION`; request id: REQUEST-ID\n";
    // The first and the second download read the list in different ways.
    for _ in 0..2 {
        let refused = registry.download(VERSION).await;
        assert_eq!(
            (refused.status.as_u16(), refused.without_id().text().as_str()),
            (403, sentence)
        );
    }
    let event = journal.taken().audit().pop().unwrap();
    let recorded = (&event["code"], &event["source"]);
    assert_eq!(recorded, (&"source_not_allowed".into(), &object.as_str().into()));
    registry.allow("acme", &[&registry.bucket.address("")]).await;
    assert_eq!(registry.download(VERSION).await.status, 204);
}

#[tokio::test]
async fn a_version_with_an_object_has_metadata_and_a_life_like_any_other() {
    let Some(registry) = Registry::start().await else { return };
    let archive = module_zip("x");
    let (object, sha256) = (registry.put("own/vpc.zip", &archive).await, digest(&archive));
    assert_eq!(registry.publish(VERSION, &object, &sha256).await.status, 201);
    let shown = registry.test.get(&format!("/v1/modules/{VERSION}"), &registry.token).await.json();
    assert_eq!(shown["root"]["outputs"][0]["name"], "says", "{shown}");
    let provenance = &shown["provenance"];
    for (field, expected) in [
        ("sha256", json!(sha256)),
        ("bytes", json!(archive.len())),
        ("format", json!("zip")),
        ("source", json!(object)),
        ("published_by", json!(role("deploy"))),
    ] {
        assert_eq!(provenance[field], expected, "{provenance}");
    }
    assert!(provenance["object_version"].is_string(), "{provenance}");
    let life = async |method: &str, end: &str, body: Option<Value>| {
        let request = Request::builder()
            .method(method)
            .uri(format!("/v1/modules/{VERSION}{end}"))
            .header("authorization", format!("Bearer {}", registry.token))
            .header("content-type", "application/json");
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        registry.test.send(request.body(body).unwrap()).await.status.as_u16()
    };
    let reason = || Some(json!({ "reason": "it is old" }));
    assert_eq!(life("PUT", "/deprecation", reason()).await, 200);
    assert_eq!(registry.download(VERSION).await.status, 204);
    assert_eq!(life("DELETE", "", reason()).await, 200);
    assert_eq!(registry.download(VERSION).await.status, 410);
    let again = registry.publish(VERSION, &object, &sha256).await;
    assert_eq!(again.status, 409, "it stays unpublished: {again:?}");
    assert_eq!(life("POST", "/restore", None).await, 200);
    let found = registry.download(VERSION).await;
    let fetched = registry.test.fetch(found.header("x-terraform-get")).await;
    assert_eq!(fetched, (200, archive));
}

#[tokio::test]
async fn a_version_with_an_object_counts_as_a_version_of_no_bytes() {
    let Some(registry) = Registry::start().await else { return };
    let (store, now) = (registry.test.store().clone(), registry.test.time());
    store.as_operator().set_limits("acme", At(0), At(1), now).await.unwrap();
    let archive = module_zip("x");
    let (object, sha256) = (registry.put("own/vpc.zip", &archive).await, digest(&archive));
    assert_eq!(registry.publish(VERSION, &object, &sha256).await.status, 201);
    registry.aws.proxy.take_counts();
    let full = registry.publish("acme/vpc/aws/1.1.0", &object, &sha256).await;
    assert_eq!(full.status, 413, "{full:?}");
    assert!(!registry.aws.proxy.take_counts().contains_key("s3 GET"), "the object is not read");
    assert_eq!(registry.publish(VERSION, &object, &sha256).await.status, 200);
}

#[tokio::test]
async fn a_sweep_keeps_the_metadata_of_an_object_and_deletes_that_of_nothing() {
    // A bucket is never swept.
    if super::BACKEND == Backend::Aws {
        return;
    }
    let Some(registry) = Registry::start().await else { return };
    let archive = module_zip("x");
    let (object, sha256) = (registry.put("own/vpc.zip", &archive).await, digest(&archive));
    assert_eq!(registry.publish(VERSION, &object, &sha256).await.status, 201);
    let metadata = registry.test.data().join("metadata");
    let folder = metadata.join(&sha256[..2]);
    let kept = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let name = kept.file_name().unwrap().to_str().unwrap();
    let stray = folder.join(name.replace(&sha256, &"e".repeat(64)));
    std::fs::copy(&kept, &stray).unwrap();
    let written = UNIX_EPOCH + Duration::from_secs(NOW.try_into().unwrap());
    for path in [&kept, &stray] {
        File::options().append(true).open(path).unwrap().set_modified(written).unwrap();
    }
    let journal = Journal::start();
    registry.test.store().sweep(NOW + 40 * 24 * 3600).await.unwrap();
    assert!(kept.exists() && !stray.exists(), "only that of nothing");
    assert!(!journal.taken().json.text.contains("unnamed_archives"), "it is the right database");
    let shown = registry.test.get(&format!("/v1/modules/{VERSION}"), &registry.token).await.json();
    assert_eq!(shown["root"]["outputs"][0]["name"], "says", "{shown}");
}
