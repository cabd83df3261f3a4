//! Which sources a list allows, and how the list is stored and changed.

use serde_json::{Value, json};

use super::super::{
    AllowedEntry, AllowedSource, AllowedSources, ModuleSource, SourceRefusal, SourcesChange,
    SourcesError,
};

fn allowed(addresses: &[&str]) -> AllowedSources {
    let add = addresses.iter().map(|text| AllowedSource::parse(text, false).unwrap()).collect();
    AllowedSources::default().changed(&SourcesChange { add, ..SourcesChange::default() }).unwrap()
}

fn source(text: &str) -> ModuleSource {
    ModuleSource::parse(text).unwrap()
}

#[test]
fn an_allowed_source_is_a_server_or_a_path_in_one_spelling() {
    for text in [
        "",
        "acme",
        "github.com/acme",
        "https://h.example",
        "git::https://h.example",
        "http://h.example/",
        "file:///srv/",
        "git::file:///srv/",
        "*",
        "https://*.example/",
        "https://h.example/*",
        "https://H.example/",
        "https://h.example:443/",
        "https://h.example./",
        "https://bob@h.example/",
        "git::ssh://bob@h.example/",
        "git::https://h.example//",
        "git::https://h.example/acme//",
        "git::https://h.example/acme//vpc",
        "git::https://h.example/../acme",
        "git::https://h.example/acme/..",
        "git::https://h.example/%61cme",
        "git::https://h.example/acme?ref=v1.0.0",
        "git::https://h.example/acme#x",
        "git::https://h.example/ac me",
        "s3://bucket/prefix",
    ] {
        AllowedSource::parse(text, false).expect_err(text);
    }
    for (text, canonical) in [
        ("git::https://github.com/acme/", "git::https://github.com/acme"),
        ("git::https://github.com/acme", "git::https://github.com/acme"),
        ("git::https://github.com/", "git::https://github.com/"),
        ("git::https://h.example/acme/vpc.git", "git::https://h.example/acme/vpc.git"),
        ("git::ssh://git@h.example:2222/a/b/", "git::ssh://git@h.example:2222/a/b"),
        ("https://h.example/", "https://h.example/"),
        ("s3::https://b.s3.amazonaws.com/", "s3::https://b.s3.amazonaws.com/"),
    ] {
        let parsed = AllowedSource::parse(text, true).unwrap();
        assert_eq!(parsed.address(), canonical);
        assert_eq!(AllowedSource::parse(parsed.address(), true).unwrap(), parsed);
        assert_eq!(
            (parsed.is_git(), parsed.moving_refs()),
            (text.starts_with("git"), parsed.is_git())
        );
    }
}

#[test]
fn a_source_is_allowed_at_an_address_and_below_and_nowhere_else() {
    for (address, text, expected) in [
        ("git::https://h.example/acme", "git::https://h.example/acme/vpc", true),
        ("git::https://h.example/acme/", "git::https://h.example/acme/vpc", true),
        ("git::https://h.example/acme", "git::https://h.example/acme/a/b/c//x", true),
        ("git::https://h.example/acme", "git::https://h.example/acme", true),
        ("git::https://h.example/acme", "git::https://h.example/acme//x", true),
        ("git::https://h.example/", "git::https://h.example/acme/vpc", true),
        ("git::https://h.example/acme", "git::https://h.example/acme-x/vpc", false),
        ("git::https://h.example/acme", "git::https://h.example/acme.git", false),
        ("git::https://h.example/acme", "git::https://h.example/acmevpc", false),
        ("git::https://h.example/acme", "git::https://h.example/ACME/vpc", false),
        ("git::https://h.example/acme", "git::https://h.example/x/acme/vpc", false),
        ("git::https://h.example/acme/vpc", "git::https://h.example/acme//vpc", false),
        ("git::https://h.example/acme/vpc", "git::https://h.example/acme", false),
        ("git::https://h.example/acme", "git::https://h.example.evil/acme/vpc", false),
        ("git::https://h.example/acme", "git::https://evil.h.example/acme/vpc", false),
        ("git::https://h.example/acme", "git::https://h.example:8443/acme/vpc", false),
        ("git::https://h.example:8443/acme", "git::https://h.example/acme/vpc", false),
        ("git::https://h.example/", "git::https://h.example.evil/acme/vpc", false),
        ("git::https://h.example/", "git::https://h.example:8443/acme/vpc", false),
        ("git::https://h.example/acme", "git::ssh://h.example/acme/vpc", false),
        ("git::https://h.example/acme", "https://h.example/acme/vpc.zip", false),
        ("https://h.example/acme", "git::https://h.example/acme/vpc", false),
        ("https://h.example/acme", "s3::https://h.example/acme/vpc.zip", false),
        ("https://h.example/acme", "https://h.example/acme/vpc.zip", true),
        ("https://h.example/acme", "https://h.example/acme.zip", false),
        ("git::ssh://git@h.example/acme", "git::ssh://git@h.example/acme/vpc", true),
        ("git::ssh://git@h.example/acme", "git::ssh://h.example/acme/vpc", false),
        ("git::ssh://h.example/acme", "git::ssh://git@h.example/acme/vpc", false),
        ("s3::https://b.s3.amazonaws.com/x", "s3::https://b.s3.amazonaws.com/x/v.zip", true),
        ("s3::https://b.s3.amazonaws.com/x", "s3::https://b.s3.amazonaws.com/x-other/v.zip", false),
        ("s3::https://b.s3.amazonaws.com/x", "s3::https://s3.amazonaws.com/b/x/v.zip", false),
    ] {
        let fixed =
            if text.starts_with("git::") { format!("{text}?ref=v1.0.0") } else { text.to_owned() };
        let decided = allowed(&[address]).permit(&source(&fixed));
        let expected = if expected { Ok(()) } else { Err(SourceRefusal::NotAllowed) };
        assert_eq!(decided, expected, "{address} {text}");
        assert_eq!(
            AllowedSources::default().permit(&source(&fixed)),
            Err(SourceRefusal::NotAllowed)
        );
    }
}

#[test]
fn a_branch_is_allowed_only_where_the_operator_allows_moving_references() {
    let list = AllowedSources::default();
    let add = ["git::https://h.example/acme", "git::https://h.example/acme/free"]
        .map(|text| AllowedSource::parse(text, text.ends_with("free")).unwrap());
    let list =
        list.changed(&SourcesChange { add: add.into(), ..SourcesChange::default() }).unwrap();
    for (text, expected) in [
        ("git::https://h.example/acme/vpc?ref=main", Err(SourceRefusal::MovingReference)),
        ("git::https://h.example/acme/vpc", Err(SourceRefusal::MovingReference)),
        ("git::https://h.example/acme/vpc?ref=v1.0.0", Ok(())),
        ("git::https://h.example/acme/free?ref=main", Ok(())),
        ("git::https://h.example/acme/free/vpc", Ok(())),
        ("git::https://h.example/acme/free-x?ref=main", Err(SourceRefusal::MovingReference)),
        ("git::https://h.example/other?ref=main", Err(SourceRefusal::NotAllowed)),
    ] {
        assert_eq!(list.permit(&source(text)), expected, "{text}");
    }
}

#[test]
fn an_entry_can_be_stricter_than_the_one_above_it() {
    let add = ["git::https://h.example/acme", "git::https://h.example/acme/vpc"]
        .map(|text| AllowedSource::parse(text, text.ends_with("acme")).unwrap());
    let list = AllowedSources::default();
    let list =
        list.changed(&SourcesChange { add: add.into(), ..SourcesChange::default() }).unwrap();
    for (text, expected) in [
        ("git::https://h.example/acme/net?ref=main", Ok(())),
        ("git::https://h.example/acme/vpc-x?ref=main", Ok(())),
        ("git::https://h.example/acme/vpc?ref=main", Err(SourceRefusal::MovingReference)),
        ("git::https://h.example/acme/vpc/x?ref=main", Err(SourceRefusal::MovingReference)),
        ("git::https://h.example/acme/vpc?ref=v1.0.0", Ok(())),
    ] {
        assert_eq!(list.permit(&source(text)), expected, "{text}");
    }
}

#[test]
fn what_a_reader_does_not_understand_allows_nothing_and_stays() {
    let acme = source("git::https://h.example/acme/vpc?ref=v1.0.0");
    let known = json!({"address": "git::https://h.example/acme"});
    let list = |entries: Value| json!({"version": 1, "sources": entries});
    for text in [
        "".to_owned(),
        "x".to_owned(),
        "[]".to_owned(),
        json!({"sources": [known]}).to_string(),
        json!({"version": 2, "sources": [known]}).to_string(),
        json!({"version": "1", "sources": [known]}).to_string(),
        json!({"version": 1}).to_string(),
        json!({"version": 1, "sources": known}).to_string(),
        json!({"version": 1, "sources": [known], "crit": ["hours"], "hours": "9-17"}).to_string(),
    ] {
        let read = AllowedSources::read(Some(&text));
        assert_eq!(read.permit(&acme), Err(SourceRefusal::NotAllowed), "{text}");
        assert!(!read.is_readable(), "{text}");
        assert_eq!(read.to_text().as_deref(), Some(text.as_str()));
        let add = vec![AllowedSource::parse("https://h.example/", false).unwrap()];
        let change = SourcesChange { add, ..SourcesChange::default() };
        assert_eq!(read.changed(&change), Err(SourcesError::Unreadable), "{text}");
        let change = SourcesChange { remove_all: true, ..change };
        assert_eq!(read.changed(&change).unwrap().entries().len(), 1, "{text}");
    }
    for entry in [
        json!("git::https://h.example/acme"),
        json!({}),
        json!({"address": 7}),
        json!({"address": "azure://h.example/acme"}),
        json!({"address": "git::https://h.example/acme", "moving_refs": "yes"}),
        json!({"address": "git::https://h.example/acme", "hours": "9-17", "crit": ["hours"]}),
        json!({"address": "git::https://h.example/acme", "crit": []}),
    ] {
        let read = AllowedSources::read(Some(&list(json!([entry])).to_string()));
        assert_eq!(read.permit(&acme), Err(SourceRefusal::NotAllowed), "{entry}");
        assert!(read.is_readable(), "{entry}");
        let add = vec![AllowedSource::parse("https://h.example/", false).unwrap()];
        let after = read.changed(&SourcesChange { add, ..SourcesChange::default() }).unwrap();
        assert_eq!(after.entries()[1], AllowedEntry::Unknown(entry.clone()));
        assert_eq!(AllowedSources::read(after.to_text().as_deref()), after, "{entry}");
    }
    let text = json!({"more": 1, "sources": [{"address": "git::https://h.example/acme", "note": "x"}], "version": 1});
    let read = AllowedSources::read(Some(&text.to_string()));
    assert_eq!(read.permit(&acme), Ok(()), "a note restricts nothing");
    let stored: Value = serde_json::from_str(&read.to_text().unwrap()).unwrap();
    assert_eq!(stored, text);
}

#[test]
fn a_change_names_what_it_adds_and_an_empty_list_is_not_stored() {
    let list =
        allowed(&["https://h.example/", "git::https://h.example/b", "git::https://h.example/a/"]);
    let addresses = |list: &AllowedSources| -> Vec<String> {
        let address = |entry: &AllowedEntry| match entry {
            AllowedEntry::Known(source) => source.address().to_owned(),
            AllowedEntry::Objects(objects) => objects.address().to_owned(),
            AllowedEntry::Unknown(value) => value.to_string(),
        };
        list.entries().iter().map(address).collect()
    };
    let sorted = ["git::https://h.example/a", "git::https://h.example/b", "https://h.example/"];
    assert_eq!(addresses(&list), sorted);
    let add = |text: &str, moving| vec![AllowedSource::parse(text, moving).unwrap()];
    let change =
        SourcesChange { add: add("git::https://h.example/b/", true), ..SourcesChange::default() };
    let moved = list.changed(&change).unwrap();
    assert_eq!(addresses(&moved), sorted, "the same address is the same entry");
    assert_eq!(moved.permit(&source("git::https://h.example/b?ref=main")), Ok(()));
    assert_eq!(list.changed(&SourcesChange::default()).unwrap(), list);
    let change = SourcesChange {
        remove_all: true,
        add: add("https://h.example/x", false),
        ..SourcesChange::default()
    };
    assert_eq!(addresses(&list.changed(&change).unwrap()), ["https://h.example/x"]);
    let none =
        list.changed(&SourcesChange { remove_all: true, ..SourcesChange::default() }).unwrap();
    assert_eq!((none.to_text(), AllowedSources::read(None)), (None, none));
    let many =
        (0..64).map(|n| AllowedSource::parse(&format!("https://h{n}.example/"), false).unwrap());
    let full = AllowedSources::default()
        .changed(&SourcesChange { add: many.collect(), ..SourcesChange::default() })
        .unwrap();
    let change =
        SourcesChange { add: add("https://h.example/", false), ..SourcesChange::default() };
    assert_eq!(full.changed(&change), Err(SourcesError::TooMany));
}
