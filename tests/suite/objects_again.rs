//! Versions with an object of another bucket after their publication: the same bytes again, and what S3
//! can say about an object.

use axum::http::StatusCode;
use serde_json::{Value, json};
use stile_store::LimitChange::{At, Keep};
use stile_tests::aws::proxy::Fault;
use stile_tests::broker::journal::Journal;
use stile_tests::broker::module_zip;
use stile_tests::broker::operator::AsOperator as _;
use stile_tests::process::programs::client;
use stile_tests::terraform::as_fetched;

use super::objects::{Registry, VERSION, digest, parameters, sentence};

impl Registry {
    /// Returns what the details of the version say about its object.
    async fn recorded(&self) -> Value {
        let shown = self.test.get(&format!("/v1/modules/{VERSION}"), &self.token).await.json();
        let provenance = &shown["provenance"];
        json!([provenance["source"], provenance["object_version"]])
    }

    /// Returns the location of the version, which must have one.
    async fn location(&self) -> String {
        let found = self.download(VERSION).await;
        assert_eq!(found.status, StatusCode::NO_CONTENT, "{found:?}");
        found.header("x-terraform-get").to_owned()
    }
}

#[tokio::test]
async fn a_version_that_lost_its_object_is_repaired_with_the_same_bytes_and_with_no_others() {
    for versioned in [true, false] {
        let Some(registry) = Registry::start_with(versioned).await else { return };
        let archive = module_zip("first");
        let sha256 = digest(&archive);
        let lost = registry.bucket.address("own/vpc.zip");
        let first = registry.bucket.put("own/vpc.zip", archive.clone()).await;
        assert_eq!(registry.publish(VERSION, &lost, &sha256).await.status, 201);
        let before = registry.recorded().await;
        if versioned {
            registry.bucket.delete_version("own/vpc.zip", &first).await;
            assert_ne!(registry.test.fetch(&registry.location().await).await.0, 200);
        } else {
            registry.bucket.delete("own/vpc.zip").await;
            assert_eq!(registry.download(VERSION).await.status, 410);
        }

        // An object that is missing, not allowed or another one repairs nothing.
        let other = registry.put("own/other.zip", &module_zip("other")).await;
        let hidden = registry.put("hidden/vpc.zip", &archive).await;
        let missing = registry.bucket.address("own/missing.zip");
        for (object, status) in [(&lost, 400), (&missing, 400), (&other, 400), (&hidden, 403)] {
            let refused = registry.publish(VERSION, object, &sha256).await;
            assert_eq!(refused.status, status, "{object}: {refused:?}");
            assert_eq!(registry.recorded().await, before, "{object}");
        }

        // Another key, and then the same key with the same bytes again.
        let journal = Journal::start();
        for key in ["own/again.zip", "own/vpc.zip"] {
            let version = registry.bucket.put(key, archive.clone()).await;
            let object = registry.bucket.address(key);
            journal.taken();
            let replaced = registry.publish(VERSION, &object, &sha256).await;
            let expected = json!({
                "module": "acme/vpc/aws", "version": "1.0.0", "sha256": sha256, "object": object,
                "status": "replaced", "warnings": [],
            });
            assert_eq!((replaced.status.as_u16(), replaced.json()), (200, expected));
            let event = journal.taken().audit().pop().unwrap();
            let logged = (&event["decision"], &event["source"]);
            assert_eq!(logged, (&"changed".into(), &object.as_str().into()));
            let version = versioned.then_some(version);
            assert_eq!(registry.recorded().await, json!([object, version]));
            let location = registry.location().await;
            assert_eq!(registry.test.fetch(&location).await, (200, archive.clone()), "{location}");
            let again = registry.publish(VERSION, &object, &sha256).await.json();
            let answer = (&again["status"], &again["object"]);
            assert_eq!(answer, (&"unchanged".into(), &json!(object)));
        }
    }
}

#[tokio::test]
async fn the_same_bytes_as_an_archive_are_unchanged_and_no_answer_names_an_object_that_nobody_read()
{
    let Some(registry) = Registry::start().await else { return };
    let archive = module_zip("first");
    let sha256 = digest(&archive);
    let sent = registry.test.publish("acme/vpc/aws", "1.0.0", archive.clone(), &registry.token);
    assert_eq!(sent.await.status, 201);
    let journal = Journal::start();
    let missing = registry.bucket.address("own/never-existed.zip");
    let there = registry.put("own/vpc.zip", &archive).await;
    for object in [&missing, &there] {
        journal.taken();
        let reply = registry.publish(VERSION, object, &sha256).await;
        let expected = json!({
            "module": "acme/vpc/aws", "version": "1.0.0", "sha256": sha256,
            "status": "unchanged", "warnings": [],
        });
        assert_eq!((reply.status.as_u16(), reply.json()), (200, expected));
        let event = journal.taken().audit().pop().unwrap();
        let logged = (&event["decision"], &event["source"]);
        assert_eq!(logged, (&"unchanged".into(), &Value::Null), "{object}");
        let conflict = registry.publish(VERSION, object, &digest(b"other")).await;
        assert_eq!(conflict.status, 409);
        assert_eq!(journal.taken().audit().pop().unwrap()["source"], Value::Null, "{object}");
    }
    assert_eq!(registry.test.fetch(&registry.location().await).await, (200, archive));
}

#[tokio::test]
async fn of_two_publishers_who_repair_a_version_at_once_one_wins_and_its_life_stays() {
    let Some(registry) = Registry::start().await else { return };
    let archive = module_zip("first");
    let sha256 = digest(&archive);
    let lost = registry.put("own/vpc.zip", &archive).await;
    assert_eq!(registry.publish(VERSION, &lost, &sha256).await.status, 201);
    let mut objects = Vec::new();
    for number in 0..4 {
        objects.push(registry.put(&format!("own/{number}.zip"), &archive).await);
    }
    let one = |number: usize| {
        let (registry, object, sha256) = (&registry, &objects[number % 4], &sha256);
        async move {
            // Under load, a store may answer that it is busy.
            loop {
                let reply = registry.publish(VERSION, object, sha256).await;
                if !matches!(reply.status.as_u16(), 429 | 503) {
                    return reply;
                }
            }
        }
    };
    for reply in futures_util::future::join_all((0..8).map(one)).await {
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    let recorded = registry.recorded().await;
    assert!(objects.iter().any(|object| recorded[0] == *object.as_str()), "{recorded}");
    assert_eq!(registry.test.fetch(&registry.location().await).await, (200, archive));
}

#[tokio::test]
async fn an_object_with_a_content_encoding_is_not_published_and_no_url_lets_clients_decode_it() {
    let Some(registry) = Registry::start_with(false).await else { return };
    let archive = module_zip("first");
    let sha256 = digest(&archive);
    let object = registry.bucket.address("own/vpc.zip");
    registry.bucket.put_encoded("own/vpc.zip", "gzip", archive.clone()).await;
    let refused = registry.publish(VERSION, &object, &sha256).await;
    assert_eq!(refused.status, 400, "{refused:?}");
    assert!(sentence(&refused).contains("has a content encoding"), "{}", sentence(&refused));

    registry.bucket.put("own/vpc.zip", archive.clone()).await;
    assert_eq!(registry.publish(VERSION, &object, &sha256).await.status, 201);
    // The same bytes have the same ETag, so the broker cannot see the new encoding.
    registry.bucket.put_encoded("own/vpc.zip", "gzip", archive.clone()).await;
    let location = registry.location().await;
    let encoding = ("response-content-encoding".to_owned(), "identity".to_owned());
    assert!(parameters(&location).contains(&encoding), "{location}");
    let answer = client(None).get(as_fetched(&location)).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["content-encoding"], "identity");
    assert_eq!(answer.bytes().await.unwrap(), archive);
}

#[tokio::test]
async fn a_registry_that_may_not_read_versions_says_so_before_it_publishes_one() {
    let Some(registry) = Registry::start().await else { return };
    let archive = module_zip("x");
    let (object, sha256) = (registry.put("own/vpc.zip", &archive).await, digest(&archive));
    for (fault, status, words) in [
        (Fault::DeniedByS3(""), 400, "allow the registry `s3:GetObjectVersion`"),
        (Fault::RefusedByS3(404, "NoSuchVersion", ""), 400, "there is no object"),
        (Fault::Fail, 503, "cannot reach its store"),
        (Fault::Close, 503, "cannot reach its store"),
    ] {
        registry.aws.proxy.inject("s3 HEAD", .., fault.clone());
        let reply = registry.publish(VERSION, &object, &sha256).await;
        registry.aws.proxy.repair();
        assert_eq!(reply.status.as_u16(), status, "{fault:?}: {reply:?}");
        assert!(sentence(&reply).contains(words), "{fault:?}: {}", sentence(&reply));
        assert_eq!(registry.download(VERSION).await.status, 404, "{fault:?}");
    }
    assert_eq!(registry.publish(VERSION, &object, &sha256).await.status, 201);
}

#[tokio::test]
async fn a_download_tells_an_object_that_changed_from_one_that_s3_denies_and_from_an_s3_that_is_down()
 {
    let Some(registry) = Registry::start_with(false).await else { return };
    let archive = module_zip("x");
    let (object, sha256) = (registry.put("own/vpc.zip", &archive).await, digest(&archive));
    assert_eq!(registry.publish(VERSION, &object, &sha256).await.status, 201);
    let journal = Journal::start();
    let list = "User: x is not authorized to perform: s3:ListBucket on resource: y";
    let encrypted = "The object was stored using a form of Server Side Encryption.";
    for (fault, status, words, alarm) in [
        (Fault::Fail, 503, "cannot reach its store", None),
        (Fault::Throttle, 503, "cannot reach its store", None),
        (Fault::Close, 503, "cannot reach its store", None),
        (Fault::Portal, 503, "cannot reach its store", None),
        (Fault::RefusedByS3(400, "ExpiredToken", ""), 503, "cannot reach its store", None),
        (Fault::RefusedByS3(403, "InvalidAccessKeyId", ""), 500, "not set up correctly", None),
        (Fault::RefusedByS3(301, "PermanentRedirect", ""), 500, "not set up correctly", None),
        (Fault::DeniedByS3("Access Denied"), 500, "may not read the object", Some("object_denied")),
        (
            Fault::RefusedByS3(400, "KMS.DisabledException", ""),
            500,
            "may not read the object",
            Some("object_denied"),
        ),
        (Fault::DeniedByS3(list), 410, "does not exist any more", Some("object_changed")),
        (Fault::NoBucket, 410, "does not exist any more", Some("object_changed")),
        (
            Fault::RefusedByS3(403, "InvalidObjectState", ""),
            410,
            "archive storage class",
            Some("object_changed"),
        ),
        (
            Fault::RefusedByS3(400, "InvalidRequest", encrypted),
            410,
            "another ETag",
            Some("object_changed"),
        ),
    ] {
        registry.aws.proxy.inject("s3 ", .., fault.clone());
        journal.taken();
        let reply = registry.download(VERSION).await;
        registry.aws.proxy.repair();
        assert_eq!(reply.status.as_u16(), status, "{fault:?}: {reply:?}");
        assert!(reply.text().contains(words), "{fault:?}: {}", reply.text());
        let text = journal.taken().json.text;
        let alarms: Vec<&str> = ["object_denied", "object_changed"]
            .into_iter()
            .filter(|alarm| text.contains(&format!("\"alarm\":\"{alarm}\"")))
            .collect();
        assert_eq!(alarms, Vec::from_iter(alarm), "{fault:?}: {text}");
    }
    // The answer to a HEAD request has no code, and the byte arrives: nobody knows.
    registry.aws.proxy.inject("s3 HEAD", .., Fault::DeniedByS3(""));
    assert_eq!(registry.download(VERSION).await.status, 503);
    registry.aws.proxy.repair();
    assert_eq!(registry.download(VERSION).await.status, 204);

    registry.bucket.put_in_class("own/vpc.zip", "GLACIER", archive).await;
    let reply = registry.download(VERSION).await;
    assert_eq!(reply.status, 410, "{reply:?}");
    assert!(reply.text().contains("archive storage class"), "{}", reply.text());
}

#[tokio::test]
async fn a_namespace_above_its_lowered_limit_of_bytes_takes_an_object_and_no_archive() {
    let Some(registry) = Registry::start().await else { return };
    let (store, now) = (registry.test.store().clone(), registry.test.time());
    let archive = module_zip("x");
    let (object, sha256) = (registry.put("own/vpc.zip", &archive).await, digest(&archive));
    let send = async |version: &str| {
        let sent = registry.test.publish("acme/vpc/aws", version, archive.clone(), &registry.token);
        sent.await.status.as_u16()
    };
    assert_eq!(send("0.1.0").await, 201);
    store.as_operator().set_limits("acme", At(1), Keep, now).await.unwrap();
    assert_eq!(send("0.2.0").await, 413);
    let created = registry.publish(VERSION, &object, &sha256).await;
    assert_eq!(created.status, 201, "{created:?}");
}
