//! Tests of the inspection of tar archives.

use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{Read, Write};

use super::super::{ArchiveLimits, Format};
use super::pack::{TarEntry, gzip, inspected, pax, tar_entry, tar_gz_of, tar_of};
use super::rejection_of;

fn rejection(bytes: &[u8]) -> String {
    rejection_of(inspected(bytes, Format::TarGz, &ArchiveLimits::default()))
}

fn good() -> TarEntry {
    tar_entry("main.tf", b"locals {}\n")
}

#[test]
fn tar_entries_must_be_regular_files_or_folders() {
    for (entry, word) in [
        (tar_entry("a", b"").kind(b'1'), "hard link"),
        (tar_entry("a", b"").kind(b'2'), "symbolic link"),
        (tar_entry("a", b"").kind(b'3'), "device"),
        (tar_entry("a", b"").kind(b'4'), "device"),
        (tar_entry("a", b"").kind(b'6'), "pipe"),
        (tar_entry("a", b"").kind(b'7'), "neither"),
        (tar_entry("a", b"").kind(b'S'), "`a` is a sparse file"),
        (tar_entry("a", b"").kind(b'V'), "neither"),
        (tar_entry("a", b"").kind(b'Z'), "neither"),
        (tar_entry("a/", b"").kind(b'0'), "empty part"),
        (tar_entry("a/", b"").kind(0), "programs read it differently"),
        (tar_entry("a/", b"x"), "folder with data"),
        (tar_entry("a", b"").mode(0o4755), "set-user-id"),
        (tar_entry("a", b"").mode(0o2755), "set-group-id"),
        (tar_entry("a/", b"").mode(0o4755), "set-user-id"),
        (tar_entry("", b""), "no name"),
    ] {
        let message = rejection(&tar_gz_of(&[good(), entry]));
        assert!(message.contains(word), "{word}: {message}");
    }
    let shared = tar_entry("a/", b"").mode(0o2775);
    assert!(
        inspected(&tar_gz_of(&[good(), shared]), Format::TarGz, &ArchiveLimits::default()).is_ok()
    );
}

#[test]
fn a_tar_entry_that_its_owner_cannot_use_is_rejected() {
    for (name, mode, shown) in [
        ("b.tf", 0, "0000"),
        ("b.tf", 0o200, "0200"),
        ("b.tf", 0o100_077, "0077"),
        ("modules/", 0o644, "0644"),
        ("modules/", 0o300, "0300"),
        ("modules/", 0o40_000, "0000"),
        ("./", 0o600, "0600"),
        ("./", 0o100, "0100"),
        ("./", 0, "0000"),
    ] {
        let bytes = tar_gz_of(&[tar_entry(name, b"").mode(mode), good()]);
        let error = inspected(&bytes, Format::TarGz, &ArchiveLimits::default()).unwrap_err();
        assert!(error.hint().is_some_and(|hint| hint.contains("chmod")));
        let message = error.to_string();
        assert!(message.contains(&format!("`{name}` has the mode {shown},")), "{message}");
    }
    for (name, mode) in [("b.tf", 0o40_644), ("b.tf", 0o120_644), ("a/", 0o100_755)] {
        let message = rejection(&tar_gz_of(&[good(), tar_entry(name, b"").mode(mode)]));
        assert!(message.contains("marks it as something else"), "{message}");
    }
    for (name, mode) in
        [("b.tf", 0o400), ("b.tf", 0o100_644), ("a/", 0o500), ("a/", 0o40_755), ("./", 0o700)]
    {
        let bytes = tar_gz_of(&[tar_entry(name, b"").mode(mode), good()]);
        assert!(inspected(&bytes, Format::TarGz, &ArchiveLimits::default()).is_ok(), "{name}");
    }
}

#[test]
fn a_name_that_is_not_utf8_is_rejected() {
    let mut entry = good();
    entry.name = b"a\xff.tf".to_vec();
    assert!(rejection(&tar_gz_of(&[entry.clone()])).contains("not UTF-8"));
    entry.name = [&[b'd'; 101][..], b"\0x"].concat();
    assert!(rejection(&tar_gz_of(&[entry])).contains("control"));
}

#[test]
fn long_names_are_checked_completely() {
    let long = format!("{}/{}.tf", "d".repeat(90), "f".repeat(90));
    let up = format!("{}/../../{}", "d".repeat(90), "f".repeat(90));
    let gnu = [good(), tar_entry(&long, b"")];
    let posix = [good(), pax(b'x', &[("mtime", "1.5"), ("path", &long)]), tar_entry("short", b"")];
    assert!(inspected(&tar_gz_of(&gnu), Format::TarGz, &ArchiveLimits::default()).is_ok());
    assert!(inspected(&tar_gz_of(&posix), Format::TarGz, &ArchiveLimits::default()).is_ok());
    assert!(rejection(&tar_gz_of(&[good(), tar_entry(&up, b"")])).contains("`..`"));
    for (record, word) in [
        (("path", "../evil.tf"), "`..`"),
        (("path", "/evil.tf"), "absolute"),
        (("size", "0"), "8 GB"),
        (("GNU.sparse.major", "1"), "sparse"),
        (("GNU.sparse.name", "x"), "sparse"),
    ] {
        let message = rejection(&tar_gz_of(&[good(), pax(b'x', &[record]), tar_entry("b", b"")]));
        assert!(message.contains(word), "{message}");
    }
    assert!(
        rejection(&tar_gz_of(&[
            good(),
            pax(b'x', &[("path", "a"), ("path", "b")]),
            tar_entry("c", b"")
        ]))
        .contains("two names")
    );
    let mut broken = pax(b'x', &[("path", "a")]);
    broken.data[0] = b'7';
    assert!(rejection(&tar_gz_of(&[good(), broken, tar_entry("c", b"")])).contains("damaged"));
}

#[test]
fn a_global_header_may_contain_only_a_comment() {
    let commit = pax(b'g', &[("comment", "8c8b2e8")]);
    assert!(
        inspected(&tar_gz_of(&[commit.clone(), good()]), Format::TarGz, &ArchiveLimits::default())
            .is_ok()
    );
    for entries in [
        vec![pax(b'g', &[("path", "../evil.tf")]), good()],
        vec![pax(b'g', &[("comment", "x"), ("size", "1")]), good()],
        vec![pax(b'x', &[("path", "../evil.tf")]), commit.clone(), good()],
    ] {
        assert!(rejection(&tar_gz_of(&entries)).contains("global header"));
    }
    let limits = ArchiveLimits { entries: 3, ..ArchiveLimits::default() };
    let many = [commit.clone(), commit.clone(), commit, good()];
    assert!(
        rejection_of(inspected(&tar_gz_of(&many), Format::TarGz, &limits)).contains("more than 3")
    );
}

/// Returns a long name of GNU for the next entry.
fn long_name(bytes: usize) -> TarEntry {
    TarEntry {
        name: b"././@LongLink".to_vec(),
        kind: b'L',
        mode: 0,
        data: vec![b'n'; bytes],
        size: None,
        link: String::new(),
    }
}

#[test]
fn the_size_of_one_entrys_long_names_and_extended_headers_is_limited() {
    let record = |bytes: usize| pax(b'x', &[("comment", &"c".repeat(bytes - 14))]);
    assert_eq!(record(4_096).data.len(), 4_096);
    let accepted = [good(), record(4_096), tar_entry("b", b""), record(4_096), tar_entry("c", b"")];
    assert!(
        inspected(&tar_gz_of(&accepted), Format::TarGz, &ArchiveLimits::default()).is_ok(),
        "each entry has its own limit"
    );
    for before in [
        vec![record(4_097)],
        vec![record(200_000)],
        vec![long_name(200_000)],
        vec![long_name(1 << 12).kind(b'K'), long_name(1)],
        vec![pax(b'g', &[("comment", "c")]).size(1 << 32)],
        vec![pax(b'g', &[("comment", &"c".repeat(4_000))]), record(100)],
    ] {
        let entries: Vec<TarEntry> =
            [good()].into_iter().chain(before).chain([tar_entry("b", b"")]).collect();
        let outcome = inspected(&tar_gz_of(&entries), Format::TarGz, &ArchiveLimits::default());
        let error = outcome.unwrap_err();
        assert!(error.to_string().contains("more than 4 KiB of long names"), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("--no-xattrs")));
    }
}

#[test]
fn the_size_of_all_long_names_and_extended_headers_is_limited() {
    let limits = ArchiveLimits { entries: 16, ..ArchiveLimits::default() };
    let record = pax(b'x', &[("comment", &"c".repeat(4_096 - 14))]);
    for (count, is_accepted) in [(2, true), (3, false)] {
        let named = |n| [record.clone(), tar_entry(&format!("{n}.tf"), b"")];
        let entries: Vec<TarEntry> = (0..count).flat_map(named).collect();
        match inspected(&tar_gz_of(&entries), Format::TarGz, &limits) {
            Ok(_) => assert!(is_accepted, "{count}"),
            error => {
                assert!(!is_accepted && rejection_of(error).contains("too many long names"));
            }
        }
    }
}

#[test]
fn the_size_of_the_map_of_a_sparse_file_is_limited() {
    let mut header = tar_entry("b", b"").kind(b'S').bytes();
    header[482] = 1;
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut continued = vec![0; 512];
    continued[504] = 1;
    let bytes = [good().bytes(), header, continued.repeat(200)].concat();
    assert!(rejection(&gzip(&bytes)).contains("headers of more than 64 KiB"));
}

#[test]
fn the_unpacked_size_of_a_tar_archive_is_limited() {
    let limits =
        ArchiveLimits { unpacked_bytes: 1_000_000, entries: 10, ..ArchiveLimits::default() };
    let zeros = std::io::repeat(0).take(64 << 20);
    let bomb = |head: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(head).unwrap();
        std::io::copy(&mut std::io::repeat(0).take(zeros.limit()), &mut encoder).unwrap();
        encoder.finish().unwrap()
    };
    for head in [
        tar_entry("a", b"").size(64 << 20).bytes(),
        tar_entry("a", b"").size(1 << 32).bytes(),
        good().bytes(),
    ] {
        let message = rejection_of(inspected(&bomb(&head), Format::TarGz, &limits));
        assert!(message.contains("at most 1000000 bytes"), "{message}");
    }
}

#[test]
fn only_zeros_may_follow_the_last_entry() {
    let tar = tar_of(&[good()]);
    for (bytes, word) in [
        (gzip(&[&tar, &b"x"[..]].concat()), "after its end marker"),
        (gzip(&[&tar[..], &tar].concat()), "after its end marker"),
        (gzip(&good().bytes()), "no end"),
        (gzip(&tar[..tar.len() - 512]), "no end"),
        ([gzip(&tar), b"x".to_vec()].concat(), "after the end of the gzip stream"),
        ([gzip(&tar), vec![0; 512]].concat(), "after the end of the gzip stream"),
        ([gzip(&tar), gzip(&tar)].concat(), "after its end marker"),
        ([gzip(&tar), gzip(b"x")].concat(), "after its end marker"),
        ([gzip(&tar), gzip(b""), b"x".to_vec()].concat(), "after the end of the gzip stream"),
        (gzip(&gzip(&tar)), "not a gzip-compressed tar archive"),
        (tar.clone(), "not compressed"),
    ] {
        let message = rejection(&bytes);
        assert!(message.contains(word), "{word}: {message}");
    }
    let blocks = gzip(&[tar, vec![0; 8_192]].concat());
    assert!(
        inspected(&blocks, Format::TarGz, &ArchiveLimits::default()).is_ok(),
        "GNU tar pads its last block"
    );
}

#[test]
fn a_damaged_tar_archive_is_rejected() {
    let tar = tar_of(&[good(), tar_entry("b", b"x")]);
    let mut checksum = tar.clone();
    checksum[1_024] ^= 1;
    assert!(rejection(&gzip(&checksum)).contains("after its entry `main.tf`"));
    let mut trailer = gzip(&tar);
    let last = trailer.len() - 1;
    trailer[last - 5] ^= 1;
    assert!(rejection(&trailer).contains("damaged"));
}

#[test]
fn a_gzip_file_with_a_damaged_member_or_data_between_members_is_rejected() {
    let tar = tar_of(&[good(), tar_entry("b", b"x")]);
    let (head, rest) = (gzip(&tar[..700]), gzip(&tar[700..]));
    let mut damaged = head.clone();
    let last = damaged.len() - 1;
    damaged[last - 5] ^= 1;
    let reserved_flag = [&rest[..3], &[0x20], &rest[4..]].concat();
    let evil = gzip(&tar_of(&[tar_entry("../evil.tf", b"")]));
    for (what, bytes, word) in [
        ("a wrong checksum of the first member", [&damaged[..], &rest].concat(), "damaged"),
        ("zeros between the members", [&head[..], &[0; 8], &rest].concat(), "damaged"),
        ("text between the members", [&head[..], b"x", &rest].concat(), "damaged"),
        ("the begin of a second member", [&head[..], &rest[..9]].concat(), "damaged"),
        ("half of a second member", [&head[..], &rest[..rest.len() - 9]].concat(), "damaged"),
        ("one byte of a third member", [&head[..], &rest, &[0x1f]].concat(), "damaged"),
        ("a flag without meaning", [&head[..], &reserved_flag].concat(), "damaged"),
        ("only the first member", head.clone(), "damaged"),
        ("an unsafe name in the second member", [gzip(&good().bytes()), evil].concat(), "`..`"),
    ] {
        let message = rejection(&bytes);
        assert!(message.contains(word), "{what}: {message}");
    }
}

#[test]
fn a_gzip_header_with_a_text_that_go_does_not_read_is_rejected() {
    let tar = tar_of(&[good()]);
    let packed = |name: usize, comment: usize, part: &[u8]| {
        let mut encoder = flate2::GzBuilder::new()
            .filename("a".repeat(name))
            .comment("b".repeat(comment))
            .write(Vec::new(), Compression::best());
        encoder.write_all(part).unwrap();
        encoder.finish().unwrap()
    };
    let accepted = packed(511, 511, &tar);
    assert!(inspected(&accepted, Format::TarGz, &ArchiveLimits::default()).is_ok());
    for archive in [
        packed(512, 0, &tar),
        packed(0, 512, &tar),
        packed(600, 600, &tar),
        [gzip(&tar[..512]), packed(512, 0, &tar[512..])].concat(),
    ] {
        let error = inspected(&archive, Format::TarGz, &ArchiveLimits::default()).unwrap_err();
        assert!(error.to_string().contains("more than 511 bytes"), "{error}");
    }
}

#[test]
fn the_members_of_a_gzip_file_are_read_as_one_stream() {
    let noise: Vec<u8> = (0..9_000_u32).map(|n| ((n * n) >> 3) as u8).collect();
    let tar = tar_of(&[good(), tar_entry("b", &noise)]);
    let with_name = |part: &[u8]| {
        let mut encoder = flate2::GzBuilder::new()
            .filename("a")
            .comment("b")
            .extra(b"SG\x02\0ab".to_vec())
            .write(Vec::new(), Compression::best());
        encoder.write_all(part).unwrap();
        encoder.finish().unwrap()
    };
    let whole = inspected(&gzip(&tar), Format::TarGz, &ArchiveLimits::default()).unwrap();
    let ends: [Vec<usize>; 6] = [
        vec![512],
        vec![0, 0, 512, 512, 513],
        vec![1, 2, 3, 511, 520, 1_024, 1_536],
        (0..tar.len()).step_by(100).collect(),
        vec![tar.len() - 1_024],
        vec![tar.len(), tar.len(), tar.len()],
    ];
    for ends in ends {
        for pack in [&gzip as &dyn Fn(&[u8]) -> Vec<u8>, &with_name] {
            let (mut bytes, mut from) = (Vec::new(), 0);
            for end in ends.iter().copied().chain([tar.len()]) {
                bytes.extend(pack(&tar[from..end]));
                from = end;
            }
            let outcome = inspected(&bytes, Format::TarGz, &ArchiveLimits::default());
            assert_eq!(outcome.unwrap(), whole, "{ends:?}");
        }
    }
}

#[test]
fn the_number_of_gzip_members_is_limited() {
    let limits = ArchiveLimits { entries: 1, ..ArchiveLimits::default() };
    let (tar, empty) = (gzip(&tar_of(&[good()])), gzip(b""));
    for (count, is_accepted) in [(4_097, true), (4_098, false)] {
        let bytes = [tar.clone(), empty.repeat(count)].concat();
        let outcome = inspected(&bytes, Format::TarGz, &limits);
        match outcome {
            Ok(_) => assert!(is_accepted, "{count}"),
            error => assert!(!is_accepted && rejection_of(error).contains("too many gzip members")),
        }
    }
}
