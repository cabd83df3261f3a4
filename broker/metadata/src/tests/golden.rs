//! Whole modules, from both formats of an archive, and golden files with what is read from them.

use std::fs;
use std::path::Path;

use stile_core::package::Format;

use super::{limits, packed, warnings};
use crate::{Metadata, read};

/// Returns the files of a module in `fixtures/`, in the order of their paths.
fn fixture(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/fixtures").join(name);
    let entries = walkdir::WalkDir::new(&folder).sort_by_file_name().into_iter();
    let files = entries.map(Result::unwrap).filter(|entry| entry.file_type().is_file());
    let files = files.map(|entry| {
        let path = entry.path().strip_prefix(&folder).unwrap().to_str().unwrap().to_owned();
        (path, fs::read(entry.path()).unwrap())
    });
    files.collect()
}

fn read_packed(files: &[(String, Vec<u8>)], format: Format) -> Metadata {
    read(&mut packed(files, format), format, &limits()).unwrap()
}

fn pretty(metadata: &Metadata) -> String {
    serde_json::to_string_pretty(metadata).unwrap()
}

/// Reads a module from both formats, in two orders, with two line endings and with byte order
/// marks.
fn read_in_every_way(name: &str) -> Metadata {
    let files = fixture(name);
    let metadata = read_packed(&files, Format::Zip);
    let mut backwards = files.clone();
    backwards.reverse();
    assert_eq!(pretty(&read_packed(&backwards, Format::TarGz)), pretty(&metadata), "{name}");
    let windows = files.iter().map(|(path, content)| {
        let text = str::from_utf8(content).unwrap().replace('\n', "\r\n");
        (path.clone(), format!("\u{feff}{text}").into_bytes())
    });
    let windows = read_packed(&windows.collect::<Vec<_>>(), Format::TarGz);
    assert_eq!(pretty(&windows), pretty(&metadata), "{name}");
    metadata
}

#[test]
fn a_module_with_everything_in_hcl_equals_its_golden_file() {
    let metadata = read_in_every_way("network");
    assert_eq!(warnings(&metadata), [""; 0]);
    insta::assert_snapshot!("network", pretty(&metadata));
}

#[test]
fn a_module_in_json_equals_its_golden_file() {
    let metadata = read_in_every_way("json-syntax");
    assert_eq!(warnings(&metadata), [""; 0]);
    insta::assert_snapshot!("json_syntax", pretty(&metadata));
}

#[test]
fn a_module_for_opentofu_with_override_files_equals_its_golden_file() {
    insta::assert_snapshot!("opentofu", pretty(&read_in_every_way("opentofu")));
}

#[test]
fn what_can_be_read_next_to_broken_files_equals_its_golden_file() {
    insta::assert_snapshot!("broken", pretty(&read_in_every_way("broken")));
}

#[test]
fn the_shape_of_the_public_registry_equals_its_golden_file() {
    let shape = read_packed(&fixture("network"), Format::Zip).registry_shape("network");
    let shape = serde_json::json!({
        "root": shape.root,
        "submodules": shape.submodules,
        "examples": shape.examples,
    });
    insta::assert_snapshot!("network_in_the_shape_of_the_registry", format!("{shape:#}"));
}

#[test]
fn metadata_survives_its_stored_format_and_readers_ignore_unknown_fields() {
    for name in ["network", "json-syntax", "opentofu", "broken"] {
        let metadata = read_packed(&fixture(name), Format::TarGz);
        let json = metadata.to_json().unwrap();
        assert_eq!(Metadata::from_json(&json).unwrap(), metadata, "{name}");
        let mut newer: serde_json::Value = serde_json::from_slice(&json).unwrap();
        newer["new"] = "x".into();
        newer["root"]["new"] = serde_json::json!([1]);
        newer["root"].as_object_mut().unwrap().remove("resources");
        let read = Metadata::from_json(newer.to_string().as_bytes()).unwrap();
        assert_eq!((read.root.resources.len(), &read.root.inputs), (0, &metadata.root.inputs));
        newer["v"] = 2.into();
        let refused = Metadata::from_json(newer.to_string().as_bytes()).unwrap_err();
        assert!(refused.to_string().contains("format 2"), "{refused}");
    }
    for bad in ["", "[]", "{}", r#"{"v":1}"#, r#"{"v":"1"}"#, r#"{"v":1,"root":[1]}"#] {
        assert!(Metadata::from_json(bad.as_bytes()).is_err(), "{bad}");
    }
}
