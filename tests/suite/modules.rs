//! Modules from publishing to the bytes of the archive: what the broker rejects, what it lists, and
//! what a signed URL returns.

use std::io::Write;

use axum::body::Body;
use axum::http::Request;
use serde_json::json;
use sha2::{Digest, Sha256};
use stile_protocol::names::Permission::{Download, Upload};
use stile_tests::broker::{Backend, HOST, TestBroker, deploy, module_zip, role};
use stile_tests::sts::identity::Identity;

async fn registry() -> Option<(TestBroker, String)> {
    let test = TestBroker::start_on(super::BACKEND).await?;
    test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    let token = test.token(&deploy(), &[Download, Upload]).await;
    Some((test, token))
}

fn zip_with(name: &str) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(module_zip("x")));
    zip = zip::ZipWriter::new_append(zip.finish().unwrap()).unwrap();
    zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(b"x").unwrap();
    zip.finish().unwrap().into_inner()
}

#[tokio::test]
async fn a_bad_archive_is_refused_with_a_sentence_and_nothing_is_stored() {
    let Some((test, token)) = registry().await else { return };
    let bomb = {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        zip.start_file("main.tf", zip::write::SimpleFileOptions::default()).unwrap();
        for _ in 0..101 {
            zip.write_all(&vec![0; 1_000_000]).unwrap();
        }
        zip.finish().unwrap().into_inner()
    };
    let link = {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        zip.add_symlink("main.tf", "../../etc/passwd", zip::write::SimpleFileOptions::default())
            .unwrap();
        zip.finish().unwrap().into_inner()
    };
    for (what, archive) in [
        ("nothing", vec![]),
        ("text", b"hello".to_vec()),
        ("a cut archive", module_zip("x")[..60].to_vec()),
        ("a path out of the folder", zip_with("../evil.tf")),
        ("an absolute path", zip_with("/etc/evil.tf")),
        ("a drive", zip_with("C:\\evil.tf")),
        ("a symbolic link", link),
        ("a bomb", bomb),
    ] {
        let reply = test.publish("acme/vpc/aws", "1.0.0", archive, &token).await;
        assert_eq!(reply.status, 400, "{what}: {}", reply.text());
        assert!(
            reply.json()["errors"][0].as_str().unwrap().starts_with("the archive"),
            "{what}: {}",
            reply.text()
        );
    }
    assert_eq!(test.archives().await, 0);
    assert_eq!(test.get("/v1/modules/acme/vpc/aws/versions", &token).await.status, 404);
}

#[tokio::test]
async fn a_publish_that_is_not_allowed_or_not_addressed_changes_nothing() {
    let Some((test, token)) = registry().await else { return };
    let reader = test.token(&deploy(), &[Download]).await;
    let good = module_zip("x");
    for (address, version, token, expected) in [
        ("acme/vpc/aws", "1.0.0", &reader, 403),
        ("other/vpc/aws", "1.0.0", &token, 403),
        ("Acme/vpc/aws", "1.0.0", &token, 403),
        ("acme%2fx/vpc/aws", "1.0.0", &token, 403),
        ("acme/VPC/aws", "1.0.0", &token, 400),
        ("acme/vpc/a_s", "1.0.0", &token, 400),
        ("acme/vpc/aws", "1.0", &token, 400),
        ("acme/vpc/aws", "v1.0.0", &token, 400),
        ("acme/vpc/aws", "1.0.0+b1", &token, 400),
        ("acme/vpc/aws", "..%2f..", &token, 400),
        ("acme/vpc/aws", "1.0.0%00", &token, 400),
    ] {
        let reply = test.publish(address, version, good.clone(), token).await;
        assert_eq!(reply.status.as_u16(), expected, "{address} {version}: {}", reply.text());
    }
    let untyped = Request::post("/v1/modules/acme/vpc/aws/1.0.0")
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "text/plain");
    assert_eq!(test.send(untyped.body(Body::from(good.clone())).unwrap()).await.status, 415);
    let huge = Request::post("/v1/modules/acme/vpc/aws/1.0.0")
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/zip")
        .header("content-length", "100000001");
    assert_eq!(test.send(huge.body(Body::empty()).unwrap()).await.status, 413);
    assert_eq!(test.archives().await, 0);
}

#[tokio::test]
async fn a_version_is_published_once() {
    let Some((test, token)) = registry().await else { return };
    let first = module_zip("first");
    let reply = test.publish("acme/vpc/aws", "1.0.0", first.clone(), &token).await;
    assert_eq!(reply.status, 201);
    assert_eq!(
        reply.json(),
        json!({"module": "acme/vpc/aws", "version": "1.0.0", "sha256": hex::encode(Sha256::digest(&first)), "status": "created", "warnings": []})
    );
    let again = test.publish("acme/vpc/aws", "1.0.0", first, &token).await;
    assert_eq!((again.status.as_u16(), again.json()["status"].as_str()), (200, Some("unchanged")));
    let other = test.publish("acme/vpc/aws", "1.0.0", module_zip("other"), &token).await;
    assert_eq!(other.status, 409);
    assert!(other.text().contains("a published version never changes"), "{}", other.text());
}

#[tokio::test]
async fn of_twenty_who_publish_one_version_at_once_one_creates_it() {
    let Some((test, token)) = registry().await else { return };
    let test = std::sync::Arc::new(test);
    let sent: Vec<_> = (0..20)
        .map(|n| {
            let (test, token) = (std::sync::Arc::clone(&test), token.clone());
            tokio::spawn(async move {
                test.publish("acme/vpc/aws", "1.0.0", module_zip(&format!("number {n}")), &token)
                    .await
                    .status
                    .as_u16()
            })
        })
        .collect();
    let mut outcomes = Vec::new();
    for task in sent {
        outcomes.push(task.await.unwrap());
    }
    outcomes.sort_unstable();
    assert_eq!(
        (outcomes[0], outcomes.iter().filter(|status| **status == 409).count()),
        (201, 19),
        "{outcomes:?}"
    );
    let sent: Vec<_> = (0..10)
        .map(|n| {
            let (test, token) = (std::sync::Arc::clone(&test), token.clone());
            tokio::spawn(async move {
                test.publish(
                    "acme/many/aws",
                    &format!("1.{n}.0"),
                    module_zip(&format!("number {n}")),
                    &token,
                )
                .await
                .status
                .as_u16()
            })
        })
        .collect();
    for task in sent {
        assert_eq!(task.await.unwrap(), 201);
    }
    let listed = test.get("/v1/modules/acme/many/aws/versions", &token).await.json();
    assert_eq!(listed["modules"][0]["versions"].as_array().unwrap().len(), 10);
}

#[tokio::test]
async fn many_versions_are_listed_in_order_in_one_answer() {
    let Some((test, token)) = registry().await else { return };
    // One archive under all versions, sent out of order. An emulator in Python needs its time for a
    // hundred.
    let archive = module_zip("x");
    let count = if test.backend() == Backend::Aws { 100 } else { 1000 };
    let versions: Vec<String> =
        (0..count).map(|n| format!("{}.{}.{}", n / 100, n / 10 % 10, n % 10)).collect();
    for n in 0..count {
        let version = &versions[n * 7 % count];
        assert_eq!(
            test.publish("acme/vpc/aws", version, archive.clone(), &token).await.status,
            201,
            "{version}"
        );
    }
    let listed = test.get("/v1/modules/acme/vpc/aws/versions", &token).await;
    let found: Vec<String> = listed.json()["modules"][0]["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["version"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(found, versions);
    assert_eq!(listed.header("content-type"), "application/json");
}

#[tokio::test]
async fn a_download_is_a_signed_link_that_needs_no_token_and_ends() {
    let Some((test, token)) = registry().await else { return };
    let archive = module_zip("hello");
    test.publish("acme/vpc/aws", "1.0.0", archive.clone(), &token).await;
    let reply = test.get("/v1/modules/acme/vpc/aws/1.0.0/download", &token).await;
    assert_eq!(
        (reply.status.as_u16(), reply.body.len(), reply.header("cache-control")),
        (204, 0, "no-store")
    );
    let location = reply.header("x-terraform-get").to_owned();
    let sha256 = hex::encode(Sha256::digest(&archive));
    assert!(
        location.contains(&format!("/{sha256}.zip?"))
            && location.contains(&format!("checksum=sha256:{sha256}")),
        "{location}"
    );
    assert!(!location.contains("stile_"), "the URL does not contain the token");
    assert_eq!(test.fetch(&location).await, (200, archive.clone()));
    if test.backend() == Backend::Aws {
        assert_eq!(
            test.get_anonymously(&format!("/v1/archives/{sha256}.zip")).await.status,
            404,
            "the broker does not serve archives of AWS"
        );
        return;
    }
    assert!(
        location.starts_with(&format!(
            "https://{HOST}/v1/archives/{sha256}.zip?checksum=sha256:{sha256}&"
        )),
        "{location}"
    );

    let fetched = test.get_anonymously(&location).await;
    assert_eq!((fetched.status.as_u16(), fetched.header("content-type")), (200, "application/zip"));
    assert_eq!(fetched.body, archive);
    let head = test.send(Request::head(&location).body(Body::empty()).unwrap()).await;
    assert_eq!(
        (head.status.as_u16(), head.body.len(), head.header("content-length")),
        (200, 0, archive.len().to_string().as_str())
    );
    let with_bad_token = Request::get(&location)
        .header("authorization", "Bearer nonsense")
        .body(Body::empty())
        .unwrap();
    assert_eq!(test.send(with_bad_token).await.status, 200, "the archive route ignores a token");

    for (what, bent) in [
        ("another archive", location.replacen(&sha256[..4], "0000", 1)),
        ("another format", location.replacen(".zip", ".tar.gz", 1)),
        ("a later end", location.replacen("expires=1", "expires=2", 1)),
        ("no signature", location.split("&signature").next().unwrap().to_owned()),
        (
            "a path out of the folder",
            location.replacen("/v1/archives/", "/v1/archives/..%2f..%2f", 1),
        ),
    ] {
        let reply = test.get_anonymously(&bent).await;
        assert_eq!(reply.status, 403, "{what}");
        assert!(!reply.text().contains("signature="), "{what}");
    }
    test.advance(299);
    assert_eq!(test.get_anonymously(&location).await.status, 200);
    test.advance(1);
    assert_eq!(test.get_anonymously(&location).await.status, 403);
}

#[tokio::test]
async fn a_download_address_is_a_whole_url_of_the_configured_host_whatever_the_request_says() {
    let Some((test, token)) = registry().await else { return };
    test.publish("acme/vpc/aws", "1.0.0", module_zip("hello"), &token).await;
    let path = "/v1/modules/acme/vpc/aws/1.0.0/download";
    for (target, headers) in [
        (path.to_owned(), vec![("host", "evil.example")]),
        (format!("http://evil.example{path}"), vec![("host", "evil.example")]),
        (
            path.to_owned(),
            vec![("x-forwarded-host", "evil.example"), ("x-forwarded-proto", "http")],
        ),
        (path.to_owned(), vec![("forwarded", "host=evil.example;proto=http")]),
        (path.to_owned(), vec![("x-original-url", "http://evil.example/"), ("origin", "http://a")]),
    ] {
        let request = Request::get(target).header("authorization", format!("Bearer {token}"));
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let reply = test.send(request.body(Body::empty()).unwrap()).await;
        let location = reply.header("x-terraform-get");
        assert_eq!(reply.status, 204, "{headers:?}");
        assert!(!location.contains("evil"), "{headers:?}: {location}");
        match test.backend() {
            Backend::Aws => assert!(location.contains("X-Amz-Signature="), "{location}"),
            Backend::Embedded => {
                assert!(
                    location.starts_with(&format!("https://{HOST}/v1/archives/")),
                    "{location}"
                );
            }
        }
        assert_eq!(test.fetch(location).await.0, 200, "{headers:?}");
    }
}

#[tokio::test]
async fn a_download_without_a_version_redirects_to_the_latest_release() {
    let Some((test, token)) = registry().await else { return };
    let latest = async |module: &str| {
        let reply = test.get(&format!("/v1/modules/{module}/download"), &token).await;
        (reply.status.as_u16(), reply.header("location").to_owned())
    };
    for (module, expected) in [
        ("acme/vpc/aws", 404),
        ("acme/VPC/aws", 404),
        ("acme/vpc/a_s", 404),
        ("other/vpc/aws", 403),
        ("ACME/vpc/aws", 403),
    ] {
        assert_eq!(latest(module).await, (expected, String::new()), "{module}");
    }
    let unknown = test.get_anonymously("/v1/modules/acme/vpc/aws/download").await;
    assert_eq!(unknown.status, 401);
    assert_eq!(unknown.text().lines().count(), 1, "{}", unknown.text());

    for (version, expected) in [
        ("2.0.0-rc.2", "2.0.0-rc.2"),
        ("2.0.0-rc.10", "2.0.0-rc.10"),
        ("1.2.0", "1.2.0"),
        ("1.10.0", "1.10.0"),
        ("1.9.0", "1.10.0"),
        ("3.0.0-beta", "1.10.0"),
        ("2.0.0", "2.0.0"),
    ] {
        let reply = test.publish("acme/vpc/aws", version, module_zip(version), &token).await;
        assert_eq!(reply.status, 201, "{version}");
        let (status, location) = latest("acme/vpc/aws").await;
        let whole = format!("/v1/modules/acme/vpc/aws/{expected}/download");
        assert_eq!((status, location.as_str()), (302, whole.as_str()), "after {version}");
        let download = test.get(&location, &token).await;
        assert_eq!(download.status, 204, "after {version}");
        let fetched = test.fetch(download.header("x-terraform-get")).await;
        assert_eq!(fetched, (200, module_zip(expected)), "after {version}");
    }
    let uploader = test.token(&deploy(), &[Upload]).await;
    let refused = test.get("/v1/modules/acme/vpc/aws/download", &uploader).await;
    assert_eq!(refused.status, 403, "it needs `download`");
    let version = Request::post("/v1/modules/acme/vpc/aws/download")
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/zip");
    let reply = test.send(version.body(module_zip("x").into()).unwrap()).await;
    assert_eq!(reply.status, 405, "no version has this name");
}

#[tokio::test]
async fn a_refused_download_is_one_plain_line_and_tells_nothing_of_what_is_there() {
    let Some((test, token)) = registry().await else { return };
    test.publish("acme/vpc/aws", "1.0.0", module_zip("hello"), &token).await;
    let stranger = Identity::role("111122223333", "stranger", "i-0abc");
    test.grant(&role("stranger"), "elsewhere", &[Download]).await;
    let strangers = test.token(&stranger, &[Download]).await;
    let there = test.get("/v1/modules/acme/vpc/aws/1.0.0/download", &strangers).await;
    let not_there = test.get("/v1/modules/acme/nothing/aws/9.9.9/download", &strangers).await;
    assert_eq!(there.status, 403);
    assert_eq!(there.without_id().text(), not_there.without_id().text());
    assert_eq!(there.text().lines().count(), 1);
    assert!(
        there.text().starts_with("`arn:aws:iam::111122223333:role/stranger` has no `download` on namespace `acme`; hint: ask an operator"),
        "{}",
        there.text()
    );
    assert!(there.header("content-type").starts_with("text/plain"));

    for (path, expected) in [
        ("acme/vpc/aws/9.9.9/download", 404),
        ("acme/vpc/aws/1.0/download", 404),
        ("acme/nothing/aws/1.0.0/download", 404),
        ("acme/nothing/aws/versions", 404),
        ("acme/VPC/aws/versions", 404),
        ("ACME/vpc/aws/versions", 403),
        ("acme%2f/vpc/aws/versions", 403),
        ("acme%2e%2e/vpc/aws/versions", 403),
        ("..%2facme/vpc/aws/versions", 403),
        ("acme;x/vpc/aws/versions", 403),
        ("%61cme/vpc/aws/versions", 200),
        ("%2561cme/vpc/aws/versions", 403),
        ("%ff/vpc/aws/versions", 404),
        ("/acme/vpc/aws/versions", 404),
        ("acme//vpc/aws/versions", 404),
    ] {
        assert_eq!(
            test.get(&format!("/v1/modules/{path}"), &token).await.status.as_u16(),
            expected,
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_list_holds_what_the_caller_may_read_and_no_more() {
    let Some((test, token)) = registry().await else { return };
    test.grant(&role("deploy"), "hidden", &[Upload]).await;
    test.grant(&role("admin"), "*", &[Download, Upload]).await;
    let admin =
        test.token(&Identity::role("111122223333", "admin", "i-0abc"), &[Download, Upload]).await;
    for (address, version) in [
        ("acme/vpc/aws", "1.2.0"),
        ("acme/vpc/aws", "1.10.0"),
        ("acme/vpc/aws", "2.0.0-rc.1"),
        ("acme/dns/aws", "1.0.0"),
        ("hidden/x/aws", "1.0.0"),
    ] {
        assert_eq!(test.publish(address, version, module_zip(address), &admin).await.status, 201);
    }
    let ids = |reply: &serde_json::Value| -> Vec<String> {
        reply["modules"]
            .as_array()
            .unwrap()
            .iter()
            .map(|module| module["id"].as_str().unwrap().to_owned())
            .collect()
    };
    test.advance(10);
    assert_eq!(
        ids(&test.get("/v1/modules", &token).await.json()),
        ["acme/dns/aws/1.0.0", "acme/vpc/aws/1.10.0"]
    );
    assert_eq!(
        ids(&test.get("/v1/modules", &admin).await.json()),
        ["acme/dns/aws/1.0.0", "acme/vpc/aws/1.10.0", "hidden/x/aws/1.0.0"]
    );
    assert_eq!(ids(&test.get("/v1/modules/acme", &token).await.json()).len(), 2);
    assert_eq!(test.get("/v1/modules/hidden", &token).await.status, 403);
    let page = test.get("/v1/modules?limit=1&offset=1", &admin).await.json();
    assert_eq!(
        (ids(&page), &page["meta"]),
        (
            vec!["acme/vpc/aws/1.10.0".to_owned()],
            &json!({"limit": 1, "current_offset": 1, "next_offset": 2})
        )
    );
    assert_eq!(test.get("/v1/modules?limit=x", &admin).await.status, 400);
}

#[tokio::test]
async fn discovery_names_what_is_built_and_anyone_may_ask() {
    let Some((test, _)) = registry().await else { return };
    let reply = test.get_anonymously("/.well-known/terraform.json").await;
    assert_eq!(
        (reply.status.as_u16(), reply.header("content-type"), reply.json()),
        (
            200,
            "application/json",
            json!({"modules.v1": "/v1/modules/", "providers.v1": "/v1/providers/"})
        )
    );
    assert_eq!(test.get_anonymously("/healthz").await.status, 200);
    assert_eq!(test.get_anonymously("/readyz").await.status, 200);
    assert_eq!(test.get_anonymously("/nothing").await.error(), "404 not_found");
}

#[tokio::test]
async fn a_grant_taken_away_during_an_upload_ends_it() {
    let Some((test, token)) = registry().await else { return };
    let archive = module_zip("x");
    let (head, tail) = (archive[..10].to_vec(), archive[10..].to_vec());
    let (send, receive) = tokio::sync::mpsc::channel::<Vec<u8>>(1);
    let body = Body::from_stream(futures_util::stream::unfold(receive, async |mut receive| {
        receive.recv().await.map(|chunk| (Ok::<_, std::io::Error>(chunk), receive))
    }));
    let upload = test.publish("acme/vpc/aws", "1.0.0", body, &token);
    let meanwhile = async {
        send.send(head).await.unwrap();
        send.reserve().await.unwrap();
        test.delete_grant(&role("deploy"), "acme").await;
        test.advance(10);
        send.send(tail).await.unwrap();
        drop(send);
    };
    let (reply, ()) = tokio::join!(upload, meanwhile);
    assert_eq!(reply.status, 403, "{}", reply.text());
    assert_eq!(test.archives().await, 0);
}
