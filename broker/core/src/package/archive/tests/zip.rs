//! Tests of the inspection of zip archives.

use super::super::{ArchiveLimits, Format};
use super::pack::{ZipEntry, inspected, zip_entry, zip_of, zip_with};
use super::rejection_of;

fn rejection(bytes: &[u8]) -> String {
    rejection_of(inspected(bytes, Format::Zip, &ArchiveLimits::default()))
}

fn assert_accepted(bytes: &[u8]) {
    inspected(bytes, Format::Zip, &ArchiveLimits::default()).unwrap();
}

fn good() -> ZipEntry {
    zip_entry("main.tf", b"locals {}\n")
}

#[test]
fn zip_entries_must_be_regular_files_or_folders() {
    for (entry, word) in [
        (zip_entry("a", b"").unix(0o120_777), "symbolic link"),
        (zip_entry("a/", b"").unix(0o120_777), "symbolic link"),
        (zip_entry("a", b"").unix(0o020_644), "neither"),
        (zip_entry("a", b"").unix(0o060_644), "neither"),
        (zip_entry("a", b"").unix(0o010_644), "neither"),
        (zip_entry("a", b"").unix(0o140_644), "neither"),
        (zip_entry("a", b"").unix(0o040_755), "marked as a folder"),
        (zip_entry("a/", b"").unix(0o100_644), "marked as a file"),
        (zip_entry("a", b"").with(|entry| entry.attributes = 0x10), "marked as a folder"),
        (zip_entry("a", b"").unix(0o104_755), "set-user-id"),
        (zip_entry("a", b"").unix(0o102_755), "set-group-id"),
        (zip_entry("a/", b"").unix(0o044_755), "set-user-id"),
        (zip_entry("a/", b"x"), "folder with data"),
        (zip_entry("a", b"x").with(|entry| entry.flags = 1), "encrypted"),
        (zip_entry("a", b"x").with(|entry| entry.method = 12), "other than deflate"),
        (zip_entry("a", b"x").with(|entry| entry.method = 99), "other than deflate"),
        (zip_entry("", b""), "no name"),
        (zip_entry("", b"").with(|entry| entry.name = b"a\xff".to_vec()), "not UTF-8"),
        (zip_entry("", b"").with(|entry| entry.name = b"a\0b.tf".to_vec()), "control"),
    ] {
        let message = rejection(&zip_of(&[good(), entry]));
        assert!(message.contains(word), "{word}: {message}");
    }
    for entry in [
        zip_entry("a", b"x").unix(0o100_755),
        zip_entry("a/", b"").unix(0o042_775),
        zip_entry("a/", b"").with(|entry| entry.attributes = 0x10),
    ] {
        assert_accepted(&zip_of(&[good(), entry]));
    }
    assert_accepted(&zip_of(&[good().with(|entry| entry.method = 0)]));
}

#[test]
fn a_zip_file_that_its_owner_cannot_read_is_rejected() {
    for made_by in [3, 19] {
        for (mode, shown) in
            [(0, "0000"), (0o100_000, "0000"), (0o100_200, "0200"), (0o100_077, "0077")]
        {
            let entry = zip_entry("b.tf", b"x").unix(mode).with(|entry| entry.made_by = made_by);
            let error =
                inspected(&zip_of(&[good(), entry]), Format::Zip, &ArchiveLimits::default())
                    .unwrap_err();
            assert!(error.hint().is_some_and(|hint| hint.contains("chmod")));
            let message = error.to_string();
            assert!(message.contains(&format!("`b.tf` has the mode {shown},")), "{message}");
        }
    }
    for made_by in [1, 10, 255] {
        let entry = zip_entry("b.tf", b"x").with(|entry| entry.made_by = made_by);
        let message = rejection(&zip_of(&[good(), entry]));
        assert!(
            message.contains(&format!("`b.tf` was made on a system with the number {made_by}"))
        );
    }
    for made_by in [0, 11, 14] {
        let entry = zip_entry("b.tf", b"x").with(|entry| entry.made_by = made_by);
        let marked = entry.with(|entry| entry.attributes |= 0x10);
        assert!(rejection(&zip_of(&[good(), marked])).contains("marked as a folder"));
    }
    for mode in [0o100_400, 0o100_444, 0o100_644, 0o100_755, 0o600] {
        assert_accepted(&zip_of(&[good(), zip_entry("b.tf", b"x").unix(mode)]));
    }
    for mode in [0, 0o40_000, 0o40_644] {
        assert_accepted(&zip_of(&[good(), zip_entry("a/", b"").unix(mode)]));
    }
}

#[test]
fn a_zip_archive_without_unix_modes_is_accepted() {
    let described = 1 << 3;
    for (program, made_by, flags, attributes) in [
        ("Windows Explorer", 0, 0, 0x20),
        ("Windows Explorer, on NTFS", 11, 0, 0x20),
        ("Compress-Archive", 0, 0, 0),
        ("Compress-Archive, of a file that is read-only", 0, 0, 1),
        ("Go", 0, described, 0),
        ("a program on VFAT", 14, 0, 0x20),
    ] {
        let made = |name: &str, data: &[u8], attributes| {
            zip_entry(name, data).with(|entry| {
                entry.made_by = made_by;
                entry.flags = flags;
                entry.attributes = attributes;
            })
        };
        let bytes = zip_of(&[
            made("main.tf", b"locals {}\n", attributes),
            made("modules/", b"", 0x10),
            made("modules/a/main.tf", b"x", attributes),
        ]);
        let outcome = inspected(&bytes, Format::Zip, &ArchiveLimits::default());
        assert!(outcome.is_ok(), "{program}: {outcome:?}");
    }
}

#[test]
fn the_data_of_an_entry_is_one_whole_deflate_stream() {
    let with = |entry: ZipEntry, change: &dyn Fn(&mut Vec<u8>)| {
        let mut packed = entry.packed();
        change(&mut packed);
        entry.with(|entry| entry.packed = Some(packed))
    };
    let empty = || zip_entry("main.tf", b"");
    for (what, entry, word) in [
        ("a byte", with(good(), &|packed| packed.push(0)), "data after the end"),
        ("a second stream", with(good(), &|packed| packed.extend([3, 0])), "data after the end"),
        ("a hidden file", with(empty(), &|packed| packed.extend(b"secret")), "data after the end"),
        ("no end", with(good(), &|packed| packed[0] &= !1), "is truncated"),
        (
            "a missing byte",
            with(good(), &|packed| packed.truncate(packed.len() - 1)),
            "is truncated",
        ),
        ("no stream at all", with(empty(), &Vec::clear), "is truncated"),
    ] {
        let message = rejection(&zip_of(&[entry]));
        assert!(message.contains(word), "{what}: {message}");
    }
    let folder = zip_entry("modules/", b"");
    assert_accepted(&zip_of(&[good(), with(folder.with(|entry| entry.method = 8), &Vec::clear)]));
    assert_accepted(&zip_of(&[empty()]));
}

#[test]
fn sizes_and_checksums_must_match_the_data() {
    for (entry, word) in [
        (good().with(|entry| entry.size = Some(3)), "`main.tf` is damaged"),
        (good().with(|entry| entry.size = Some(300)), "`main.tf` is truncated"),
        (good().with(|entry| entry.crc = Some(1)), "`main.tf` is damaged"),
        (
            good().with(|entry| entry.flags = 8).with(|entry| entry.descriptor = Some(vec![])),
            "invalid data descriptor",
        ),
        (
            good().with(|entry| entry.flags = 8).with(|entry| entry.descriptor = Some(vec![0; 16])),
            "invalid data descriptor",
        ),
    ] {
        let message = rejection(&zip_of(&[entry]));
        assert!(message.contains(word), "{word}: {message}");
    }
    for signature in [&b"PK\x07\x08"[..], b""] {
        for width in [4, 8] {
            for data in [&b""[..], b"x"] {
                let entry = zip_entry("main.tf", data).with(|entry| entry.flags = 8);
                let descriptor = entry.described(signature, width);
                assert_accepted(&zip_of(&[
                    entry.with(|entry| entry.descriptor = Some(descriptor)),
                    zip_entry("b", b"x"),
                ]));
            }
        }
    }
}

#[test]
fn the_unpacked_size_of_a_zip_archive_is_limited() {
    let limits =
        ArchiveLimits { unpacked_bytes: 1_000_000, entries: 10, ..ArchiveLimits::default() };
    let zeros = vec![0; 20_000_000];
    for size in [None, Some(5)] {
        let message = rejection_of(inspected(
            &zip_of(&[zip_entry("main.tf", &zeros).with(|entry| entry.size = size)]),
            Format::Zip,
            &limits,
        ));
        assert!(
            message.contains("at most 1000000 bytes") || message.contains("damaged"),
            "{message}"
        );
    }
}

#[test]
fn every_byte_must_belong_to_one_entry() {
    let whole = zip_of(&[good(), zip_entry("b.tf", b"x")]);
    let stored = |name: &str, data: &[u8]| zip_entry(name, data).with(|entry| entry.method = 0);
    let (entries, end) = whole.split_at(whole.len() - 22);
    let mut padded = [entries, b"xx", end].concat();
    padded[entries.len() + 2 + 12] += 2;
    let inner = zip_of(&[stored("evil.tf", b"x")]);
    for (what, bytes, word) in [
        (
            "a script before",
            [b"#!/bin/sh\n".to_vec(), whole.clone()].concat(),
            "belongs to no entry",
        ),
        (
            "a script before, with adjusted offsets",
            zip_of(&[good().with(|entry| entry.gap = b"#!/bin/sh\n".to_vec())]),
            "data before it",
        ),
        (
            "a hidden entry",
            zip_of(&[good(), zip_entry("b", b"").with(|entry| entry.gap = inner[..40].to_vec())]),
            "is inconsistent",
        ),
        (
            "a gap",
            zip_of(&[good(), zip_entry("b", b"").with(|entry| entry.gap = vec![0; 8])]),
            "data before it",
        ),
        ("a gap before the directory", zip_with(&[good()], 1, b"", b"xx"), "belongs to no entry"),
        ("a byte after", [whole.clone(), b"x".to_vec()].concat(), "after its end record"),
        ("an archive after", [&whole[..], &whole].concat(), "belongs to no entry"),
        ("an archive in the comment", zip_with(&[good()], 1, &inner, b""), "belongs to no entry"),
        ("a second end in the comment", zip_with(&[good()], 1, b"PK\x05\x06", b""), "damaged"),
        (
            "fewer entries counted",
            zip_with(&[good(), zip_entry("b", b"x")], 1, b"", b""),
            "is inconsistent",
        ),
        ("extra data in the directory", padded, "more than its entries"),
        ("more entries counted", zip_with(&[good()], 2, b"", b""), "damaged directory"),
        (
            "one entry's data for two",
            zip_of(&[
                good(),
                good()
                    .with(|entry| entry.at = Some(0))
                    .with(|entry| entry.listed_name = Some(b"main.tf".to_vec())),
            ]),
            "two entries of one name",
        ),
    ] {
        let message = rejection(&bytes);
        assert!(message.contains(word), "{what}: {message}");
    }
    assert_accepted(&zip_with(&[good()], 1, b"8c8b2e8f0d", b""));
}

#[test]
fn the_directory_and_the_entries_must_agree() {
    let twice = zip_entry("b.tf", b"locals {}\n").with(|entry| entry.at = Some(0));
    let renamed = good().with(|entry| entry.listed_name = Some(b"evil.tf".to_vec()));
    for entries in [vec![renamed], vec![good(), twice]] {
        assert!(rejection(&zip_of(&entries)).contains("describe an entry differently"));
    }
}

#[test]
fn an_entry_has_one_name() {
    let mut crc = flate2::Crc::new();
    crc.update(b"main.tf");
    let second = |name: &[u8]| {
        [
            &b"\x75\x70"[..],
            &(name.len() as u16 + 5).to_le_bytes(),
            &[1],
            &crc.sum().to_le_bytes(),
            name,
        ]
        .concat()
    };
    let message = rejection(&zip_of(&[good().with(|entry| entry.extra = second(b"evil.tf"))]));
    assert!(message.contains("two names") || message.contains("is inconsistent"), "{message}");
    assert_accepted(&zip_of(&[good().with(|entry| entry.extra = second(b"main.tf"))]));
}

#[test]
fn a_split_archive_and_zip64_end_records_that_do_not_agree_are_rejected() {
    let whole = zip_of(&[good()]);
    let end = whole.len() - 22;
    let located = [&whole[..end], b"PK\x06\x07", &[0; 16], &whole[end..]].concat();
    assert!(rejection(&located).contains("zip64"));
    for (at, value, word) in [
        (4, &b"\x01\0"[..], "split archive"),
        (8, b"\x02\0", "split archive"),
        (8, b"\xff\xff\xff\xff", "zip64"),
        (8, b"\xfe\xff\xfe\xff", "more than 10000"),
        (12, b"\xff\xff\xff\x7f", "directory that is too long"),
        (16, b"\xff\xff\xff\xff", "zip64"),
    ] {
        let mut bytes = whole.clone();
        bytes[end + at..end + at + value.len()].copy_from_slice(value);
        let message = rejection(&bytes);
        assert!(message.contains(word), "{word}: {message}");
    }
}

/// Inserts zip64 end records before the end record, as Info-ZIP does with `-fz`, and replaces bytes
/// of the end record.
fn with_zip64_end(zip: &[u8], replaced: &[(usize, &[u8])]) -> Vec<u8> {
    let (head, end) = zip.split_at(zip.len() - 22);
    let long = |bytes: &[u8]| [bytes, &[0; 8][bytes.len()..]].concat();
    let mut record = [b"PK\x06\x06", &long(&[44])[..], &[30, 3, 45, 0], &[0; 8]].concat();
    for field in [&end[8..10], &end[10..12], &end[12..16], &end[16..20]] {
        record.extend(long(field));
    }
    let at = (head.len() as u64).to_le_bytes();
    let locator = [&b"PK\x06\x07\0\0\0\0"[..], &at, &[1, 0, 0, 0]].concat();
    let mut end = end.to_vec();
    for (from, bytes) in replaced {
        end[*from..from + bytes.len()].copy_from_slice(bytes);
    }
    [head, &record, &locator, &end].concat()
}

#[test]
fn a_small_zip64_archive_is_accepted_if_its_end_records_agree() {
    let whole = zip_of(&[good(), zip_entry("b.tf", b"x")]);
    assert_accepted(&whole);
    let (count, size, position): (&[u8], &[u8], &[u8]) = (&[0xff; 4], &[0xff; 4], &[0xff; 4]);
    for replaced in [
        &[(16, position)][..],
        &[(8, count)],
        &[(8, count), (16, position)],
        &[(12, size), (16, position)],
        &[(8, count), (12, size), (16, position)],
        &[(4, count), (8, count), (12, size), (16, position)],
    ] {
        let bytes = with_zip64_end(&whole, replaced);
        assert_accepted(&bytes);
        let start = bytes.len() - 98;
        // The program that made the archive, and the version that reads it, do not matter.
        for at in (start..start + 76).filter(|at| !(start + 12..start + 16).contains(at)) {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let outcome = inspected(&changed, Format::Zip, &ArchiveLimits::default());
            assert!(outcome.is_err(), "{replaced:?}, byte {} changed", at - start);
        }
    }
    for (what, replaced) in [
        ("no placeholder", &[][..]),
        ("only the size is a placeholder", &[(12, size)]),
        ("another number of entries", &[(8, &[1, 0, 1, 0][..]), (16, position)]),
        ("another size", &[(12, &[1, 0, 0, 0]), (16, position)]),
        ("another position", &[(8, count), (16, &[1, 0, 0, 0])]),
    ] {
        let message = rejection(&with_zip64_end(&whole, replaced));
        assert!(message.contains("zip64 end records"), "{what}: {message}");
    }
}

#[test]
fn an_extra_field_that_is_longer_than_its_area_is_rejected() {
    for extra in [
        &[1, 0, 9, 0, 10, 0, 0, 0, 0, 0, 0, 0][..],
        &[0x55, 0x54, 1, 0],
        &[0x55, 0x54, 1, 0, 1, 0xfe, 0xca, 255, 255],
    ] {
        let entry = good().with(|entry| entry.extra = extra.to_vec());
        let message = rejection(&zip_of(&[entry]));
        assert!(message.contains("damaged"), "{extra:?}: {message}");
    }
    assert_accepted(&zip_of(&[good().with(|entry| entry.extra = vec![0xfe, 0xca, 1, 0, 1])]));
}

#[test]
fn an_entry_has_one_zip64_field_with_its_real_size() {
    let sized = |sizes: &[u64]| {
        let field = |size: &u64| [&[1, 0, 8, 0][..], &size.to_le_bytes()].concat();
        let extra: Vec<u8> = sizes.iter().flat_map(field).collect();
        good().with(|entry| (entry.size, entry.extra) = (Some(u32::MAX), extra))
    };
    assert_accepted(&zip_of(&[sized(&[10])]));
    for (sizes, word) in [
        (&[][..], ""),
        (&[9], "`main.tf` is damaged"),
        (&[11], "`main.tf` is truncated"),
        (&[1 << 40], "`main.tf` is truncated"),
        (&[10, 10], "`main.tf` has two zip64 fields"),
        (&[10, 9], ""),
        (&[9, 10], ""),
    ] {
        let message = rejection(&zip_of(&[sized(sizes)]));
        assert!(message.contains(word), "{sizes:?}: {message}");
    }
}

#[test]
fn a_zip_header_that_programs_read_differently_is_rejected() {
    let named = |name: &str| zip_entry(name, b"x");
    let path = |version: u8, of: &[u8], name: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(of);
        let length = (name.len() as u16 + 5).to_le_bytes();
        [&b"\x75\x70"[..], &length, &[version], &crc.sum().to_le_bytes(), name].concat()
    };
    let own = path(1, b"b.tf", b"b.tf");
    for (what, entry, word) in [
        ("patched data", named("b.tf").with(|entry| entry.flags = 1 << 5), "has flags"),
        ("a reserved flag", named("b.tf").with(|entry| entry.flags = 1 << 4), "has flags"),
        ("masked headers", named("b.tf").with(|entry| entry.flags = 1 << 13), "has flags"),
        ("a name without its flag", named("\u{e9}.tf").with(|entry| entry.flags = 0), "for UTF-8"),
        ("a version of VMS", named("modules/b.tf;1"), "ends in `;` and digits"),
        ("a version of VMS without digits", named("b.tf;"), "ends in `;` and digits"),
        (
            "a second name of another version",
            named("b.tf").with(|entry| entry.extra = path(2, b"b.tf", b"b.tf")),
            "two names",
        ),
        (
            "a second name twice",
            named("b.tf").with(|entry| entry.extra = [own.clone(), own.clone()].concat()),
            "two names",
        ),
        (
            "a second name and a data descriptor",
            named("b.tf").with(|entry| entry.flags = 8).with(|entry| entry.extra = own.clone()),
            "a second name and a data descriptor",
        ),
        (
            "the rest of an extra field",
            named("b.tf").with(|entry| entry.extra = vec![0xfe, 0xca]),
            "damaged",
        ),
    ] {
        let message = rejection(&zip_of(&[good(), entry]));
        assert!(message.contains(word), "{what}: {message}");
    }
    for entry in [
        named("b;1.tf"),
        named("modules;1/b.tf"),
        named("b.tf").with(|entry| entry.flags = 0b1110),
        named("b.tf").with(|entry| entry.flags = 1 << 11),
        named("b.tf").with(|entry| entry.extra = own.clone()),
    ] {
        assert_accepted(&zip_of(&[good(), entry]));
    }
}

#[test]
fn a_version_or_a_disk_that_not_every_program_knows_is_rejected_in_both_headers() {
    let whole = zip_of(&[good()]);
    let directory = whole.windows(4).position(|bytes| bytes == b"PK\x01\x02").unwrap();
    for (at, value, word) in [
        (4, [45, 0], ""),
        (4, [46, 0], "needs version 4.6"),
        (4, [63, 0], "needs version 6.3"),
        (4, [20, 3], "needs version 78.8"),
        (directory + 6, [45, 0], ""),
        (directory + 6, [46, 0], "needs version 4.6"),
        (directory + 6, [255, 0], "needs version 25.5"),
        (directory + 34, [1, 0], "on another disk"),
        (directory + 34, [255, 255], "on another disk"),
    ] {
        let mut bytes = whole.clone();
        bytes[at..at + 2].copy_from_slice(&value);
        if word.is_empty() {
            assert_accepted(&bytes);
        } else {
            let message = rejection(&bytes);
            assert!(message.contains(word), "{word}: {message}");
        }
    }
}
