//! Whatever is taken unpacks inside its folder, as told; whatever bytes are sent, there is an answer.

use std::collections::HashSet;
use std::io::{Cursor, Read};
use std::path::{Component, Path, PathBuf};

use proptest::prelude::*;

use super::super::{Contents, Format, Limits};
use super::pack::{gzip, inspected, tar_gz_of, tarred, zip_of, zipped};

fn names() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => "[abA]{1,2}",
        1 => Just("..".to_owned()),
        1 => Just(".".to_owned()),
        1 => Just(String::new()),
        1 => Just("C:".to_owned()),
        1 => Just("a\\b".to_owned()),
        1 => Just("...".to_owned()),
        1 => Just("\u{e9}".to_owned()),
        1 => Just("x".repeat(120)),
        1 => "\\PC{1,3}",
        1 => any::<String>(),
    ];
    let plain = proptest::collection::vec("[a-dA]{1,2}", 1..4);
    let nasty = proptest::collection::vec(part, 1..5);
    (prop_oneof![2 => plain, 1 => nasty], 0..5_u8).prop_map(|(parts, end)| parts.join("/") + if end == 0 { "/" } else { "" })
}

fn archives() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let data = proptest::collection::vec(any::<u8>(), 0..40);
    proptest::collection::vec((names(), data), 0..5).prop_map(|mut entries| {
        entries.insert(0, ("main.tf".to_owned(), b"x".to_vec()));
        entries.into_iter().map(|(name, data)| if name.ends_with('/') { (name, Vec::new()) } else { (name, data) }).collect()
    })
}

/// Unpacks as a program would that trusts every name: joins, makes folders, writes.
fn unpack(folder: &Path, entries: &[(Vec<u8>, Vec<u8>)]) -> HashSet<PathBuf> {
    let mut written = HashSet::new();
    for (name, data) in entries {
        let name = std::str::from_utf8(name).unwrap();
        let path = folder.join(name);
        assert!(Path::new(name).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)), "{name:?}");
        assert!(path.starts_with(folder), "{name:?}");
        if name.ends_with('/') {
            std::fs::create_dir_all(path).unwrap();
            continue;
        }
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, data).unwrap();
        assert!(written.insert(path.canonicalize().unwrap()), "{name:?} overwrites another");
    }
    written
}

fn unpacks(contents: Contents, entries: &[(Vec<u8>, Vec<u8>)]) {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().canonicalize().unwrap();
    let written = unpack(&inside, entries);
    assert!(written.iter().all(|path| path.starts_with(&inside)));
    let bytes: u64 = written.iter().map(|path| path.metadata().unwrap().len()).sum();
    assert_eq!(contents, Contents { files: written.len(), unpacked_bytes: bytes });
}

proptest! {
    #[test]
    fn what_is_taken_from_a_zip_unpacks_inside_its_folder(entries in archives()) {
        let bytes = zip_of(&entries.iter().map(|(name, data)| zipped(name, data)).collect::<Vec<_>>());
        if let Ok(contents) = inspected(&bytes, Format::Zip, &Limits::default()) {
            let mut archive = ::zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
            let read = (0..archive.len()).map(|at| {
                let mut entry = archive.by_index(at).unwrap();
                let mut data = Vec::new();
                entry.read_to_end(&mut data).unwrap();
                (entry.name_raw().to_vec(), data)
            });
            unpacks(contents, &read.collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_taken_from_a_tar_unpacks_inside_its_folder(entries in archives()) {
        let bytes = tar_gz_of(&entries.iter().map(|(name, data)| tarred(name, data)).collect::<Vec<_>>());
        if let Ok(contents) = inspected(&bytes, Format::TarGz, &Limits::default()) {
            let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(Cursor::new(bytes)));
            let read = archive.entries().unwrap().map(|entry| {
                let mut entry = entry.unwrap();
                let mut data = Vec::new();
                entry.read_to_end(&mut data).unwrap();
                (entry.path_bytes().into_owned(), data)
            });
            unpacks(contents, &read.collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_changed_byte_never_panics(entries in archives(), at: prop::sample::Index, byte: u8) {
        let zip = zip_of(&entries.iter().map(|(name, data)| zipped(name, data)).collect::<Vec<_>>());
        let tar: Vec<u8> = entries.iter().flat_map(|(name, data)| tarred(name, data).bytes()).chain([0; 1_024]).collect();
        for (format, mut bytes) in [(Format::Zip, zip), (Format::TarGz, tar)] {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let bytes = if format == Format::TarGz { gzip(&bytes) } else { bytes };
            let _ = inspected(&bytes, format, &Limits::default());
        }
    }
}
