//! Random sources and objects: an independent parser of URLs reads each accepted one as the registry
//! does.

use stile_core::package::source::{
    AllowedObjects, AllowedSource, AllowedSources, ModuleSource, ObjectAddress, SourcesChange,
};
use stile_tests::seed::SeededRandom;
use url::Url;

/// Parts of good and bad sources.
const PARTS: [&str; 44] = [
    "git::",
    "s3::",
    "file::",
    "https://",
    "https://",
    "https://",
    "ssh://",
    "http://",
    "file://",
    "git@",
    "bob:pw@",
    "@",
    "h.example",
    "h.example",
    "H.example",
    "evil.example",
    "127.0.0.1",
    "[::1]",
    ":8443",
    ":443",
    ":22",
    ":",
    "/",
    "/",
    "/",
    "//",
    "acme",
    "acme",
    "-x",
    "..",
    ".",
    "%2e%2e",
    "%2f",
    "\\",
    ".zip",
    ".git",
    "?ref=v1.0.0",
    "?ref=main",
    "&depth=1",
    "&ref=main",
    "?archive=zip",
    "#x",
    " ",
    "\u{e9}",
];

/// The number of texts that a run tries.
const TRIES: u64 = 30_000;

#[test]
fn another_parser_of_urls_reads_an_accepted_source_in_the_same_way() {
    let mut random = SeededRandom::new("another_parser_of_urls_reads_an_accepted_source");
    let allow = |address: &str| {
        let add = vec![AllowedSource::parse(address, true).unwrap()];
        let change = SourcesChange { add, ..SourcesChange::default() };
        AllowedSources::default().changed(&change).unwrap()
    };
    let lists = ["git::https", "https", "s3::https", "git::ssh"]
        .map(|scheme| (scheme, allow(&format!("{scheme}://h.example/acme"))));
    let (mut accepted, mut allowed) = (0, 0);
    for _ in 0..TRIES {
        let mut text = String::new();
        // Every other text begins well, or too few would be accepted.
        if random.below(2) == 0 {
            let begin =
                ["git::https://h.example/acme", "https://h.example/acme", "git::ssh://git@"];
            text.push_str(begin[random.below(3) as usize]);
        }
        for _ in 0..random.below(9) {
            text.push_str(PARTS[random.below(PARTS.len() as u64) as usize]);
        }
        let Ok(source) = ModuleSource::parse(&text) else { continue };
        accepted += 1;
        let plain = text.strip_prefix("git::").or_else(|| text.strip_prefix("s3::"));
        let plain = plain.unwrap_or(&text);
        let url = Url::parse(plain).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(url.as_str(), plain, "it has one spelling (seed {})", random.seed());
        assert!(["https", "ssh"].contains(&url.scheme()), "{text}");
        assert!(url.username().is_empty() || url.username() == "git" && url.scheme() == "ssh");
        assert_eq!((url.password(), url.fragment()), (None, None), "{text}");
        for (scheme, list) in &lists {
            if list.permit(&source).is_err() {
                continue;
            }
            allowed += 1;
            assert!(text.starts_with(&format!("{scheme}://")), "{text}");
            assert_eq!((url.host_str(), url.port()), (Some("h.example"), None), "{text}");
            assert_eq!(url.path_segments().unwrap().next(), Some("acme"), "{text}");
        }
    }
    assert!(accepted > 500 && allowed > 100, "{accepted} accepted, {allowed} allowed");
}

#[test]
fn another_parser_of_urls_reads_an_accepted_object_in_the_same_way() {
    let mut random = SeededRandom::new("another_parser_of_urls_reads_an_accepted_object");
    let add_objects = vec![AllowedObjects::parse("s3://h.example/acme", "eu-central-1").unwrap()];
    let change = SourcesChange { add_objects, ..SourcesChange::default() };
    let list = AllowedSources::default().changed(&change).unwrap();
    let (mut accepted, mut allowed) = (0, 0);
    for _ in 0..TRIES {
        let mut text = "s3://".to_owned();
        if random.below(2) == 0 {
            text.push_str("h.example/acme");
        }
        for _ in 0..random.below(9) {
            text.push_str(PARTS[random.below(PARTS.len() as u64) as usize]);
        }
        let Ok(object) = ObjectAddress::parse(&text) else { continue };
        accepted += 1;
        // The URL of S3 has the bucket as its host, or before the key.
        for before in [format!("https://{}.s3.example", object.bucket()), "https://s3".to_owned()] {
            let url = Url::parse(&format!("{before}/{}", object.key())).unwrap();
            assert_eq!(url.path(), format!("/{}", object.key()), "seed {}", random.seed());
            assert_eq!((url.query(), url.fragment(), url.username()), (None, None, ""), "{text}");
        }
        if list.permit_object(&object).is_ok() {
            allowed += 1;
            assert_eq!(object.bucket(), "h.example");
            assert_eq!(object.key().split('/').next(), Some("acme"), "{text}");
        }
    }
    assert!(accepted > 500 && allowed > 100, "{accepted} accepted, {allowed} allowed");
}
