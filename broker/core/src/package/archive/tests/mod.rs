//! Tests of the inspection: rejected archives with their error, and accepted archives.

mod header;
mod pack;
mod property;
mod provider;
mod tar_gz;
mod zip;

use std::io::Write as _;
use std::time::Duration;

use self::pack::{TarEntry, ZipEntry, inspected, tar_entry, tar_gz_of, zip_entry, zip_of};
use super::{
    ArchiveContents, ArchiveError, ArchiveLimits, ArchivedFile, FileContent, Format, inspect,
    inspect_and_list, inspect_and_read,
};

/// Names that are invalid in both formats, and a part of the error.
const BAD_NAMES: &[(&str, &str)] = &[
    ("../evil.tf", "`..`"),
    ("a/../../evil.tf", "`..`"),
    ("a/../b.tf", "`..`"),
    ("a/..", "`..`"),
    ("/etc/passwd", "absolute"),
    ("//host/share", "absolute"),
    ("C:/evil.tf", "`:`"),
    ("c:evil.tf", "`:`"),
    ("main.tf:stream", "`:`"),
    ("..\\evil.tf", "`\\`"),
    ("a\\b.tf", "`\\`"),
    ("a\nb.tf", "control"),
    ("a\u{7f}b.tf", "control"),
    ("a\u{1b}[31mb.tf", "control"),
    ("a\u{202e}ft.b", "control"),
    ("a//b.tf", "empty part"),
    ("a/./b.tf", "`.`"),
    ("././b.tf", "`.`"),
    ("a/.", "`.`"),
    (".//b.tf", "empty part"),
    ("./../b.tf", "`..`"),
    (".", "no name"),
    ("a/b.", "dot or a space"),
    ("a /b.tf", "dot or a space"),
    (".../b.tf", "dot or a space"),
    ("main.tf.", "dot or a space"),
    ("main.tf ", "dot or a space"),
    ("a./", "dot or a space"),
    ("a<b.tf", "Windows does not allow"),
    ("a>b.tf", "Windows does not allow"),
    ("\"a\".tf", "Windows does not allow"),
    ("a|b/c.tf", "Windows does not allow"),
    ("what?/", "Windows does not allow"),
    ("*.tf", "Windows does not allow"),
    ("aux", "Windows device"),
    ("aux.tf", "Windows device"),
    ("AuX.tf.json", "Windows device"),
    ("con", "Windows device"),
    ("prn.tf", "Windows device"),
    ("NUL/", "Windows device"),
    ("nul/main.tf", "Windows device"),
    ("./modules/Nul.d/main.tf", "Windows device"),
    ("nul .txt", "Windows device"),
    ("com1.json", "Windows device"),
    ("a/COM9", "Windows device"),
    ("lpt5.tf", "Windows device"),
    ("LPT\u{b9}.txt", "Windows device"),
    ("com\u{b2}", "Windows device"),
    ("Com\u{b3}.tf", "Windows device"),
    ("CONIN$", "Windows device"),
    ("conout$.tf", "Windows device"),
];

fn rejection_of<T: std::fmt::Debug>(outcome: Result<T, ArchiveError>) -> String {
    match outcome {
        Err(ArchiveError::Rejected { message, .. }) => message,
        other => panic!("not rejected: {other:?}"),
    }
}

fn both(
    entries: &[(&str, &[u8])],
    limits: &ArchiveLimits,
) -> [Result<ArchiveContents, ArchiveError>; 2] {
    let zip: Vec<ZipEntry> = entries.iter().map(|(name, data)| zip_entry(name, data)).collect();
    let tar: Vec<TarEntry> = entries.iter().map(|(name, data)| tar_entry(name, data)).collect();
    [
        inspected(&zip_of(&zip), Format::Zip, limits),
        inspected(&tar_gz_of(&tar), Format::TarGz, limits),
    ]
}

#[test]
fn an_unsafe_name_is_rejected_with_an_error_of_one_line() {
    let long = [vec!["d"; 33].join("/"), "p".repeat(256), vec!["x".repeat(250); 5].join("/")];
    let long = long.iter().map(String::as_str).zip(["32 folders", "255 bytes", "1,024 bytes"]);
    for (name, word) in BAD_NAMES.iter().copied().chain(long) {
        for outcome in both(&[("main.tf", b""), (name, b"x")], &ArchiveLimits::default()) {
            let message = rejection_of(outcome);
            assert!(
                message.contains(word) && message.starts_with("the archive's entry `"),
                "{name:?}: {message}"
            );
            assert!(!message.contains(char::is_control) && message.len() < 500, "{message:?}");
        }
    }
}

#[test]
fn entries_that_collide_on_some_systems_are_rejected() {
    for (entries, word) in [
        (["main.tf", "main.tf"], "two entries of one name"),
        (["main.tf", "./main.tf"], "twice"),
        (["a/", "./a/"], "twice"),
        (["main.tf", "MAIN.tf"], "only by case from `main.tf`"),
        (["a/x.tf", "A/y.tf"], "only by case from `a`"),
        (["stra\u{df}e.tf", "STRASSE.tf"], "only by case"),
        (["k.tf", "\u{212a}.tf"], "only by case"),
        (["caf\u{e9}.tf", "cafe\u{301}.tf"], "normal form from `caf\u{e9}.tf`"),
        (["e\u{301}/a.tf", "\u{e9}/b.tf"], "normal form from `e\u{301}`"),
        (["\u{ac00}.tf", "\u{1100}\u{1161}.tf"], "normal form"),
        (["a\u{323}\u{307}.tf", "a\u{307}\u{323}.tf"], "normal form"),
        (["CAF\u{c9}.tf", "cafe\u{301}.tf"], "only by case"),
        (["a", "a/b.tf"], "both a file and a folder"),
        (["a/b.tf", "a"], "both a file and a folder"),
    ] {
        let entries = entries.map(|name| (name, &b""[..]));
        for outcome in both(&entries, &ArchiveLimits::default()) {
            let message = rejection_of(outcome);
            assert!(message.contains(word) || message.contains("twice"), "{entries:?}: {message}");
        }
    }
}

#[test]
fn the_error_for_an_archive_without_a_module_at_the_top_level_has_a_hint() {
    let cases: [(&[&str], &str, &str); 8] = [
        (&[], "no `.tf` file", "send a Terraform module"),
        (&["README.md", "a/"], "no `.tf` file", "send a Terraform module"),
        (
            &[".tf", "a/.hidden.tf", "main.tf.bak", "main.TF"],
            "no `.tf` file",
            "send a Terraform module",
        ),
        (&["vpc-1.0.0/", "vpc-1.0.0/main.tf"], "in the folder `vpc-1.0.0`", "tar -C"),
        (
            &["vpc/main.tf", "vpc/modules/a/main.tf", "._vpc", "__MACOSX/._vpc"],
            "in the folder `vpc`",
            "tar -C",
        ),
        (&["modules/main.tf"], "in the folder `modules`", "tar -C"),
        (&["README.md", "src/main.tf"], "no `.tf` file at the top", "submodules in `modules/`"),
        (&["a/main.tf", "b/main.tf"], "no `.tf` file at the top", "submodules in `modules/`"),
    ];
    for (names, word, hint) in cases {
        let entries: Vec<(&str, &[u8])> = names.iter().map(|name| (*name, &b""[..])).collect();
        for outcome in both(&entries, &ArchiveLimits::default()) {
            let error = outcome.unwrap_err();
            assert!(error.to_string().contains(word), "{names:?}: {error}");
            assert!(
                error.hint().is_some_and(|text| text.contains(hint)),
                "{names:?}: {:?}",
                error.hint()
            );
        }
    }
}

#[test]
fn a_module_is_accepted_in_both_formats() {
    let cases: [&[&str]; 8] = [
        &["main.tf"],
        &["./", "./main.tf", "./modules/", "./modules/a/main.tf"],
        &["main.tf.json"],
        &["main.tofu"],
        &["main.tofu.json", "README.md"],
        &["modules/vpc/main.tf", "README.md"],
        &[
            "main.tf",
            "\u{e9}t\u{e9}/caf\u{e9} \u{1f600}.txt",
            "a..b",
            "..c",
            ".terraform-docs.yml",
            "a b.txt",
        ],
        &[
            "main.tf",
            "auxiliary.tf",
            "my.aux",
            "com.tf",
            "com0",
            "com10.tf",
            "lpt\u{2074}",
            "null/",
            "console.tf",
            "conin",
            "cafe\u{301}.tf",
        ],
    ];
    for names in cases {
        let entries: Vec<(&str, &[u8])> = names
            .iter()
            .map(|name| (*name, if name.ends_with('/') { &b""[..] } else { b"data" }))
            .collect();
        let files = names.iter().filter(|name| !name.ends_with('/')).count();
        for outcome in both(&entries, &ArchiveLimits::default()) {
            assert_eq!(
                outcome.unwrap(),
                ArchiveContents { files, unpacked_bytes: 4 * files as u64 },
                "{names:?}"
            );
        }
    }
}

#[test]
fn the_files_of_an_accepted_archive_are_listed_with_their_sizes() {
    let long = format!("docs/{}.md", "n".repeat(150));
    let entries: [(&str, &[u8]); 5] = [
        ("./", b""),
        ("./main.tf", b"locals {}\n"),
        ("modules/a/", b""),
        ("modules/a/main.tf", b""),
        (&long, b"abc"),
    ];
    let expected = [("main.tf", 10), ("modules/a/main.tf", 0), (&long, 3)]
        .map(|(path, bytes)| ArchivedFile { path: path.to_owned(), bytes });
    let zip = zip_of(&entries.map(|(name, data)| zip_entry(name, data)));
    let tar = tar_gz_of(&entries.map(|(name, data)| tar_entry(name, data)));
    for (bytes, format) in [(zip, Format::Zip), (tar, Format::TarGz)] {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let listed = inspect_and_list(&mut file, format, &ArchiveLimits::default()).unwrap();
        assert_eq!(listed, expected, "{format:?}");
        file.set_len(bytes.len() as u64 - 1).unwrap();
        assert!(inspect_and_list(&mut file, format, &ArchiveLimits::default()).is_err());
    }
}

#[test]
fn only_the_wanted_bytes_of_the_wanted_files_are_returned() {
    let long = "x".repeat(100_000);
    let entries: [(&str, &[u8]); 5] = [
        ("./main.tf", b"locals {}\n"),
        ("modules/a/", b""),
        ("modules/a/empty.tf", b""),
        ("skipped.md", b"abc"),
        ("long.md", long.as_bytes()),
    ];
    let wants = |file: &ArchivedFile| match file.path.as_str() {
        "skipped.md" => None,
        "long.md" => Some(70_000),
        _ => Some(10),
    };
    let expected = [
        ("main.tf", 10, "locals {}\n"),
        ("modules/a/empty.tf", 0, ""),
        ("long.md", 100_000, &long),
    ]
    .map(|(path, bytes, content)| FileContent {
        file: ArchivedFile { path: path.to_owned(), bytes },
        content: content.as_bytes()[..content.len().min(70_000)].to_vec(),
    });
    let zip = zip_of(&entries.map(|(name, data)| zip_entry(name, data)));
    let tar = tar_gz_of(&entries.map(|(name, data)| tar_entry(name, data)));
    let limits = ArchiveLimits::default();
    for (bytes, format) in [(zip, Format::Zip), (tar, Format::TarGz)] {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let read = inspect_and_read(&mut file, format, &limits, wants).unwrap();
        assert_eq!(read, expected, "{format:?}");
        file.set_len(bytes.len() as u64 - 1).unwrap();
        assert!(inspect_and_read(&mut file, format, &limits, wants).is_err());
    }
}

#[test]
fn the_limit_of_the_unpacked_size_is_exact() {
    let limits = ArchiveLimits { unpacked_bytes: 1_000, ..ArchiveLimits::default() };
    for (sizes, good) in
        [([1_000, 0], true), ([500, 500], true), ([1_001, 0], false), ([500, 501], false)]
    {
        let data = sizes.map(|size| vec![b'x'; size]);
        for outcome in both(&[("main.tf", &data[0]), ("b", &data[1])], &limits) {
            match outcome {
                Ok(contents) => assert!(good && contents.unpacked_bytes == 1_000, "{sizes:?}"),
                Err(error) => assert!(
                    !good && error.to_string().contains("at most 1000 bytes"),
                    "{sizes:?}: {error}"
                ),
            }
        }
    }
}

#[test]
fn the_limit_of_entries_includes_folders_that_appear_only_in_paths() {
    let limits = ArchiveLimits { entries: 3, ..ArchiveLimits::default() };
    for (names, good) in [
        (vec!["main.tf", "b", "c"], true),
        (vec!["main.tf", "a/b"], true),
        (vec!["main.tf", "b", "c", "d"], false),
        (vec!["main.tf", "a/b/c/d"], false),
        (vec!["main.tf", "./", "a", "b"], false),
    ] {
        let entries: Vec<(&str, &[u8])> = names.iter().map(|name| (*name, &b""[..])).collect();
        for outcome in both(&entries, &limits) {
            assert_eq!(outcome.is_ok(), good, "{names:?}");
            assert!(good || rejection_of(outcome).contains("more than 3 entries"), "{names:?}");
        }
    }
}

#[test]
fn bytes_that_are_not_an_archive_are_rejected() {
    for bytes in [
        &b""[..],
        b"PK",
        b"PK\x03\x04",
        b"PK\x05\x06",
        b"\x1f\x8b",
        b"\x1f\x8b\x08\0\0\0\0\0\0\xff",
        b"<html></html>",
        &[0; 2_048],
    ] {
        for format in Format::ALL {
            rejection_of(inspected(bytes, format, &ArchiveLimits::default()));
        }
    }
    rejection_of(inspected(
        &zip_of(&[zip_entry("main.tf", b"")]),
        Format::TarGz,
        &ArchiveLimits::default(),
    ));
    rejection_of(inspected(
        &tar_gz_of(&[tar_entry("main.tf", b"")]),
        Format::Zip,
        &ArchiveLimits::default(),
    ));
}

#[test]
fn an_archive_truncated_anywhere_is_rejected() {
    let data: Vec<u8> = (0..=255).collect();
    let whole = [
        (Format::Zip, zip_of(&[zip_entry("main.tf", &data), zip_entry("b/c.tf", b"x")])),
        (Format::TarGz, tar_gz_of(&[tar_entry("main.tf", &data), tar_entry("b/c.tf", b"x")])),
    ];
    for (format, bytes) in whole {
        assert!(inspected(&bytes, format, &ArchiveLimits::default()).is_ok());
        for length in 0..bytes.len() {
            rejection_of(inspected(&bytes[..length], format, &ArchiveLimits::default()));
        }
    }
}

#[test]
fn a_disk_error_is_not_reported_as_an_invalid_archive() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("archive");
    std::fs::write(&path, tar_gz_of(&[tar_entry("main.tf", b"")])).unwrap();
    for format in Format::ALL {
        let mut unreadable = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        assert!(matches!(
            inspect(&mut unreadable, format, &ArchiveLimits::default()),
            Err(ArchiveError::Unreadable(_))
        ));
    }
}

#[test]
fn an_inspection_ends_at_its_deadline_without_a_verdict() {
    let hour = Duration::from_secs(3_600);
    for (time, is_late) in [(Duration::ZERO, true), (hour, false)] {
        let limits = ArchiveLimits { time, ..ArchiveLimits::default() };
        for outcome in both(&[("main.tf", b"")], &limits) {
            match outcome {
                Err(error @ ArchiveError::TooSlow(_)) => {
                    assert!(is_late && error.hint().is_some(), "{error}");
                    assert_eq!(
                        error.to_string(),
                        "the check of the archive takes longer than 0 seconds"
                    );
                }
                other => assert!(!is_late && other.is_ok(), "{other:?}"),
            }
        }
    }
}

#[test]
fn a_format_has_an_extension_a_media_type_and_first_bytes() {
    for format in Format::ALL {
        assert_eq!(Format::from_content_type(format.content_type()), Some(format));
        assert_eq!(Format::from_extension(format.extension()), Some(format));
    }
    assert_eq!(Format::from_content_type("Application/ZIP"), Some(Format::Zip));
    for text in ["", "zip", "application/zip; charset=utf-8", "application/x-tar", "text/plain"] {
        assert_eq!(Format::from_content_type(text), None, "{text}");
    }
    for text in ["", "ZIP", ".zip", "gz", "tgz"] {
        assert_eq!(Format::from_extension(text), None, "{text}");
    }
    assert_eq!(Format::sniff(&zip_of(&[zip_entry("a", b"")])), Some(Format::Zip));
    assert_eq!(Format::sniff(&zip_of(&[])), Some(Format::Zip));
    assert_eq!(Format::sniff(&tar_gz_of(&[])), Some(Format::TarGz));
    for bytes in [&b""[..], b"PK", b"PK\x07\x08", b"#!/bin/sh", b"MZ"] {
        assert_eq!(Format::sniff(bytes), None);
    }
}
