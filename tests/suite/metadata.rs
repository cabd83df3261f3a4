//! The metadata of a version: what publishing says about it, what the details of a version show, and
//! what search finds by it.

use std::io::Write as _;

use serde_json::Value;
use stile_protocol::names::Permission::{Download, Upload};
use stile_tests::broker::{TestBroker, deploy, role};

const MODULE: &str = "/v1/modules/acme/vpc/aws";

fn zip_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (path, content) in files {
        zip.start_file(path, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

async fn registry() -> Option<(TestBroker, String)> {
    let test = TestBroker::start_on(super::BACKEND).await?;
    test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    let token = test.token(&deploy(), &[Download, Upload]).await;
    Some((test, token))
}

#[tokio::test]
async fn a_module_that_does_not_parse_is_published_with_warnings_and_what_could_be_read() {
    let Some((test, token)) = registry().await else { return };
    let archive = zip_of(&[
        ("main.tf", b"variable \"broken\" {\n  type = list(\n}\n\nvariable \"good\" {}\n"),
        ("latin.tf", b"# caf\xe9\n"),
    ]);
    let published = test.publish("acme/vpc/aws", "1.0.0", archive, &token).await;
    assert_eq!(published.status, 201, "{}", published.text());
    let warnings = published.json()["warnings"].as_array().unwrap().clone();
    assert_eq!(warnings[0], "`latin.tf` is not UTF-8, and was not read");
    assert!(warnings[1].as_str().unwrap().starts_with("`main.tf` has an error in line"));
    let shown = test.get(&format!("{MODULE}/1.0.0"), &token).await.json();
    assert_eq!(shown["root"]["inputs"][0]["name"], "good");
    assert_eq!(shown["root"]["inputs"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_details_of_a_version_show_its_metadata_and_search_finds_it_by_a_word_of_its_readme() {
    let Some((test, token)) = registry().await else { return };
    let archive = zip_of(&[
        ("README.md", b"# Network\n\nA zeppelin with subnets.\n"),
        ("main.tf", b"variable \"cidr\" {\n  type    = string\n  default = \"x\"\n}\n"),
        ("modules/subnet/main.tf", b"resource \"aws_subnet\" \"this\" {}\n"),
        ("examples/all/main.tf", b"module \"vpc\" {\n  source = \"../..\"\n}\n"),
    ]);
    let published = test.publish("acme/vpc/aws", "1.0.0", archive, &token).await;
    assert_eq!(published.json()["warnings"], Value::Array(Vec::new()));
    let shown = test.get(&format!("{MODULE}/1.0.0"), &token).await.json();
    assert_eq!(shown["description"], "A zeppelin with subnets.");
    assert_eq!(shown["readme"], shown["root"]["readme"]);
    assert_eq!(shown["root"]["name"], "vpc");
    assert_eq!(shown["root"]["inputs"][0]["default"], "\"x\"");
    assert_eq!(shown["submodules"][0]["path"], "modules/subnet");
    assert_eq!(shown["submodules"][0]["resources"][0]["type"], "aws_subnet");
    assert_eq!(shown["examples"][0]["dependencies"][0]["source"], "../..");
    assert_eq!(shown["source"], Value::Null);
    let found = test.get("/v1/modules/search?q=zeppelin", &token).await.json();
    assert_eq!(found["modules"][0]["name"], "vpc");
    assert_eq!(found["modules"][0]["description"], "A zeppelin with subnets.");
}
