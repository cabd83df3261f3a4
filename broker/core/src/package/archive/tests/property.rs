//! Property tests: accepted archives unpack inside the target folder, and no input causes a panic.

use std::io::{Cursor, Read};
use std::path::{Component, Path};

use proptest::prelude::*;

use super::super::{ArchiveContents, ArchiveLimits, Format};
use super::pack::{gzip, inspected, tar_entry, tar_of, zip_entry, zip_of};

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
    (prop_oneof![2 => plain, 1 => nasty], 0..5_u8)
        .prop_map(|(parts, end)| parts.join("/") + if end == 0 { "/" } else { "" })
}

/// The kind of an entry, independent of its name.
#[derive(Debug, Clone)]
enum Kind {
    /// A file, or a folder if the name ends with `/`.
    AsNamed(Vec<u8>),
    /// A folder.
    Folder,
    /// A symbolic link to the target.
    Symlink(&'static str),
    /// A hard link to the target.
    HardLink(&'static str),
}

fn entries() -> impl Strategy<Value = Vec<(String, Kind)>> {
    let data = proptest::collection::vec(any::<u8>(), 0..40);
    let target = prop::sample::select(&["..", "../..", "../outside", "main.tf", "a", "."][..]);
    let is = prop_oneof![
        6 => data.prop_map(Kind::AsNamed),
        1 => Just(Kind::Folder),
        1 => target.clone().prop_map(Kind::Symlink),
        1 => target.prop_map(Kind::HardLink),
    ];
    // Names that often collide, differ only in form, or lead through another entry.
    let known = prop::sample::select(
        &["main.tf", "./main.tf", "MAIN.tf", "a", "a/", "a/b", "a/evil.tf", "A/b", "./a/b"][..],
    );
    let name = prop_oneof![names(), known.prop_map(str::to_owned)];
    proptest::collection::vec((name, is), 0..5).prop_map(|mut entries| {
        entries.insert(0, ("main.tf".to_owned(), Kind::AsNamed(b"x".to_vec())));
        entries
    })
}

fn as_zip(entries: &[(String, Kind)]) -> Vec<u8> {
    let zip = entries.iter().map(|(name, is)| match is {
        Kind::AsNamed(data) => zip_entry(name, if name.ends_with('/') { b"" } else { data }),
        Kind::Folder => zip_entry(name, b"").unix(0o40_755),
        Kind::Symlink(target) | Kind::HardLink(target) => {
            zip_entry(name, target.as_bytes()).unix(0o120_777)
        }
    });
    zip_of(&zip.collect::<Vec<_>>())
}

fn as_tar(entries: &[(String, Kind)]) -> Vec<u8> {
    let tar = entries.iter().map(|(name, is)| match is {
        Kind::AsNamed(data) => tar_entry(name, if name.ends_with('/') { b"" } else { data }),
        Kind::Folder => tar_entry(name, b"").kind(b'5'),
        Kind::Symlink(target) => tar_entry(name, b"").kind(b'2').link(target),
        Kind::HardLink(target) => tar_entry(name, b"").kind(b'1').link(target),
    });
    tar_of(&tar.collect::<Vec<_>>())
}

/// Unpacks as a program that trusts every entry: it creates links and follows existing ones.
fn unpack(folder: &Path, entries: &[(Vec<u8>, Kind)]) {
    for (name, is) in entries {
        let name = std::str::from_utf8(name).unwrap();
        // This assertion is before any write, so that a failing test does no harm.
        assert!(
            Path::new(name)
                .components()
                .all(|part| matches!(part, Component::Normal(_) | Component::CurDir)),
            "{name:?}"
        );
        let path = folder.join(name);
        assert!(path.starts_with(folder), "{name:?}");
        match is {
            Kind::AsNamed(_) if name.ends_with('/') => std::fs::create_dir_all(path).unwrap(),
            Kind::Folder => std::fs::create_dir_all(path).unwrap(),
            Kind::AsNamed(data) => {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, data).unwrap();
            }
            Kind::Symlink(target) | Kind::HardLink(target) => {
                let _ = std::fs::create_dir_all(path.parent().unwrap());
                let _ = std::os::unix::fs::symlink(target, path);
            }
        }
    }
}

/// Unpacks on disk, and checks that only the folder has changed and has the reported content.
fn assert_unpacks_inside(contents: ArchiveContents, entries: &[(Vec<u8>, Kind)]) {
    let around = tempfile::tempdir().unwrap();
    let inside = around.path().join("module");
    std::fs::create_dir(&inside).unwrap();
    unpack(&inside, entries);
    assert_eq!(
        std::fs::read_dir(around.path()).unwrap().count(),
        1,
        "a file outside the folder: {entries:?}"
    );
    let sizes = sizes(&inside);
    assert_eq!(
        contents,
        ArchiveContents { files: sizes.len(), unpacked_bytes: sizes.iter().sum() },
        "{entries:?}"
    );
}

/// Returns the size of each file below the folder, and asserts that there are no links.
fn sizes(folder: &Path) -> Vec<u64> {
    let mut sizes = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let data = path.symlink_metadata().unwrap();
        assert!(data.is_dir() || data.is_file(), "{path:?}");
        sizes.extend(if data.is_dir() { self::sizes(&path) } else { vec![data.len()] });
    }
    sizes
}

fn read_zip(bytes: &[u8]) -> Vec<(Vec<u8>, Kind)> {
    let mut archive = ::zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
    let read = (0..archive.len()).map(|at| {
        let mut entry = archive.by_index(at).unwrap();
        let mut data = Vec::new();
        entry.read_to_end(&mut data).unwrap();
        let is = match (entry.is_symlink(), entry.is_dir()) {
            (true, _) => Kind::Symlink(".."),
            (_, true) => Kind::Folder,
            _ => Kind::AsNamed(data),
        };
        (entry.name_raw().to_vec(), is)
    });
    read.collect()
}

fn read_tar(bytes: &[u8]) -> Vec<(Vec<u8>, Kind)> {
    let mut archive = tar::Archive::new(bytes);
    let read = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut data = Vec::new();
        entry.read_to_end(&mut data).unwrap();
        let is = match entry.header().entry_type() {
            tar::EntryType::Regular => Kind::AsNamed(data),
            tar::EntryType::Directory => Kind::Folder,
            _ => Kind::Symlink(".."),
        };
        (entry.path_bytes().into_owned(), is)
    });
    read.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn an_accepted_zip_archive_unpacks_inside_its_folder(entries in entries()) {
        let bytes = as_zip(&entries);
        if let Ok(contents) = inspected(&bytes, Format::Zip, &ArchiveLimits::default()) {
            assert_unpacks_inside(contents, &read_zip(&bytes));
        }
    }

    #[test]
    fn an_accepted_tar_archive_unpacks_inside_its_folder(entries in entries()) {
        let bytes = as_tar(&entries);
        if let Ok(contents) = inspected(&gzip(&bytes), Format::TarGz, &ArchiveLimits::default()) {
            assert_unpacks_inside(contents, &read_tar(&bytes));
        }
    }

    #[test]
    fn a_changed_byte_causes_no_panic_and_no_write_outside_the_folder(entries in entries(), at: prop::sample::Index, byte: u8) {
        for (format, mut bytes) in [(Format::Zip, as_zip(&entries)), (Format::TarGz, as_tar(&entries))] {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            match format {
                Format::Zip => if let Ok(contents) = inspected(&bytes, format, &ArchiveLimits::default()) {
                    assert_unpacks_inside(contents, &read_zip(&bytes));
                },
                Format::TarGz => if let Ok(contents) = inspected(&gzip(&bytes), format, &ArchiveLimits::default()) {
                    assert_unpacks_inside(contents, &read_tar(&bytes));
                },
            }
        }
    }
}
