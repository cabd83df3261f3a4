//! Generates zip archives whose parts contradict each other, and compares how Python and `unzip` or
//! `bsdtar` unpack the accepted ones.

use std::fs;
use std::path::PathBuf;

use icu_normalizer::ComposingNormalizerBorrowed;
use stile_core::package::Format;
use stile_tests::raw_archive::raw_zip::{RawZip, UTF8, ZipMember, unicode_path};
use stile_tests::raw_archive::unpacked::{Files, by_program, by_python, checked};
use stile_tests::raw_archive::zip_changes::generated;
use stile_tests::seed::SeededRandom;
use stile_tests::skipped::{skipped, tool};

const GENERATED: u64 = 3_000;

const SHOWS: &str = "that other programs unpack an accepted zip archive in the same way";

/// Writes the archives into a folder, and asserts that each program unpacks the checked files of each.
fn assert_unpacked_alike(accepted: &[(Vec<u8>, Files)], seed: &str) {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> =
        (0..accepted.len()).map(|at| folder.path().join(format!("{at}.zip"))).collect();
    for (path, (archive, _)) in paths.iter().zip(accepted) {
        fs::write(path, archive).unwrap();
    }
    let names = |at: usize| format!("seed {seed}, archive {}", hex::encode(&accepted[at].0));
    match tool("python3") {
        None => skipped("python3", SHOWS),
        Some(python) => {
            let unpacked = by_python(&python, &paths);
            for (at, ((_, files), unpacked)) in accepted.iter().zip(unpacked).enumerate() {
                assert_eq!(unpacked.as_ref(), Ok(files), "Python, {}", names(at));
            }
        }
    }
    for name in ["unzip", "bsdtar"] {
        match tool(name) {
            None => skipped(name, SHOWS),
            Some(program) => {
                for (at, ((archive, files), path)) in accepted.iter().zip(&paths).enumerate() {
                    if name == "unzip" && unzip_converts_names(archive, files) {
                        continue;
                    }
                    let unpacked = by_program(&program, path, &path.with_extension(name));
                    // `bsdtar` composes letters, and file systems of macOS compose or decompose them.
                    let composed = if name == "bsdtar" { composed } else { Files::clone };
                    let expected = composed(files);
                    assert_eq!(
                        unpacked.as_ref().map(composed),
                        Ok(expected),
                        "{name}, {}",
                        names(at)
                    );
                }
            }
        }
    }
}

fn composed(files: &Files) -> Files {
    let nfc = ComposingNormalizerBorrowed::new_nfc();
    files
        .iter()
        .map(|(name, content)| (nfc.normalize(name).into_owned(), content.clone()))
        .collect()
}

/// Returns whether `unzip` converts a name from an old character set of DOS, although its flag says
/// UTF-8: it does so for entries made by DOS, and by version 5.0 on NTFS.
///
/// Windows Explorer and Go write such entries, and Terraform and Python read them as UTF-8.
fn unzip_converts_names(archive: &[u8], files: &Files) -> bool {
    let listed = archive.windows(6).filter(|bytes| bytes.starts_with(b"PK\x01\x02"));
    let mut made_by = listed.map(|bytes| (bytes[5], bytes[4]));
    !files.keys().all(|name| name.is_ascii())
        && made_by.any(|(system, version)| system == 0 || (system, version) == (11, 50))
}

#[test]
fn every_program_unpacks_the_same_files_from_an_accepted_zip_archive() {
    let mut random = SeededRandom::new("archive_zips");
    let archives = (0..GENERATED).map(|_| generated(&mut random));
    let accepted: Vec<(Vec<u8>, Files)> = archives
        .filter_map(|archive| checked(&archive, Format::Zip).map(|files| (archive, files)))
        .collect();
    let (count, seed) = (accepted.len() as u64, random.seed());
    assert!(count > 300 && count < GENERATED - 300, "{count} accepted of seed {seed}");
    assert_unpacked_alike(&accepted, seed);
}

#[test]
fn names_that_programs_unpack_differently_are_rejected_and_their_neighbours_are_not() {
    let zip = |name: &str, change: &dyn Fn(&mut ZipMember)| {
        let mut member = ZipMember::new(name, b"x");
        change(&mut member);
        RawZip::of(vec![ZipMember::new("main.tf", b""), member]).bytes()
    };
    let unchanged = |_: &mut ZipMember| {};
    let unflagged = |member: &mut ZipMember| member.both(|header| header.flags &= !UTF8);
    let second = |member: &mut ZipMember| {
        member.local.extra = unicode_path(1, b"b.tf", b"c.tf");
    };
    for (what, archive) in [
        ("no flag for UTF-8", zip("\u{e9}.tf", &unflagged)),
        ("a version of VMS", zip("b.tf;1", &unchanged)),
        ("a second name before the data", zip("b.tf", &second)),
    ] {
        assert_eq!(checked(&archive, Format::Zip), None, "{what}");
    }
    let accepted = [
        zip("\u{e9}/e\u{301}\u{20ac}\u{1f600}.tf", &unchanged),
        zip("b;1.tf", &unchanged),
        zip("b;1/c.tf", &unchanged),
        zip("b,ffe.tf", &unchanged),
        zip("-b [1] ~.tf", &unchanged),
        zip("./b.tf", &|member| {
            member.both(|header| header.extra = unicode_path(1, b"./b.tf", b"./b.tf"));
        }),
    ];
    let accepted = accepted.map(|archive| {
        let files = checked(&archive, Format::Zip).unwrap();
        (archive, files)
    });
    assert_unpacked_alike(&accepted, "none");
}
