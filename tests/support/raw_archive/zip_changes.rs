//! Generates zip archives in which a few fields are changed, where programs may disagree.

use crate::raw_archive::raw_zip::{
    DESCRIBED, RawZip, UTF8, ZipHeader, ZipMember, crc, deflated, extra, unicode_path,
};
use crate::seed::SeededRandom;

/// The content of the changed entry.
const CONTENT: &[u8] = b"locals {}\n";

const NAMES: &[&[u8]] = &[
    b"c.tf",
    b"B.tf",
    b"./b.tf",
    b"modules/b.tf",
    b"modules/a/b.tf",
    b"modules/",
    b"./",
    b"b.tf;1",
    b"b.tf;",
    b"b;1.tf",
    b"modules;1/b.tf",
    b"b,ffe.tf",
    b"-b.tf",
    b"b [1].tf",
    b"~b.tf",
    b"b.tf\0c.tf",
    b"b\\c.tf",
    b"b\x82.tf",
    b"\xc3\xa9.tf",
    b"e\xcc\x81.tf",
    b"\xe2\x82\xac/b.tf",
    b"\xf0\x9f\x98\x80.tf",
    b"../b.tf",
    b"/b.tf",
    b"main.tf",
    b"",
];

const MADE_BY: &[u16] = &[
    0x0014, 0x0019, 0x0000, 0x0314, 0x031e, 0x033f, 0x0714, 0x0a14, 0x0b14, 0x0b32, 0x0e14, 0x1314,
    0x0614, 0x0214, 0x0d14,
];

const ATTRIBUTES: &[u32] = &[
    0,
    0x01,
    0x10,
    0x20,
    0o644 << 16,
    0o100_644 << 16,
    0o100_600 << 16,
    0o100_755 << 16,
    0o40_755 << 16,
    0o120_777 << 16,
    0o100_000 << 16,
    (0o100_644 << 16) | 0x01,
    (0o100_644 << 16) | 0x10,
];

const VERSIONS: &[u16] = &[0, 10, 20, 21, 45, 46, 47, 51, 62, 63, 64, 255, 0x0314, 0x0214, 0x0014];

/// Returns one of the values.
fn any<T: Clone>(random: &mut SeededRandom, values: &[T]) -> T {
    values[random.below(values.len() as u64) as usize].clone()
}

/// Changes the local header, the one in the directory, or both.
fn change_headers(
    random: &mut SeededRandom,
    member: &mut ZipMember,
    change: impl Fn(&mut ZipHeader),
) {
    match random.below(4) {
        0 => change(&mut member.local),
        1 => change(&mut member.listed),
        _ => member.both(change),
    }
}

/// Generates an archive of `main.tf` and a second entry, with up to three changes.
pub fn generated(random: &mut SeededRandom) -> Vec<u8> {
    let first = ZipMember::new("main.tf", b"#");
    let mut zip = RawZip::of(vec![first, ZipMember::new("b.tf", CONTENT)]);
    for _ in 0..random.below(4) {
        if random.below(5) == 0 {
            change_archive(random, &mut zip);
        } else {
            change_member(random, &mut zip.members[1]);
        }
    }
    zip.bytes()
}

fn change_member(random: &mut SeededRandom, member: &mut ZipMember) {
    match random.below(13) {
        0 => {
            let bit = 1 << random.below(16);
            change_headers(random, member, |header| header.flags ^= bit);
        }
        1 => {
            let (name, utf8) = (any(random, NAMES), random.below(2) == 0 || random.below(3) == 0);
            change_headers(random, member, |header| {
                header.name = name.to_vec();
                if utf8 {
                    header.flags |= UTF8;
                }
            });
            if name.ends_with(b"/") && random.below(2) == 0 {
                *member = ZipMember::new(std::str::from_utf8(name).unwrap(), b"");
            }
        }
        2 => {
            let method = any(random, &[0, 8, 8, 9, 12, 99]);
            change_headers(random, member, |header| header.method = method);
            if method == 0 && random.below(2) == 0 {
                member.data = CONTENT.to_vec();
                member.both(|header| header.packed = CONTENT.len() as u32);
            }
        }
        3 => {
            let size = any(random, &[0, 9, 11, u32::MAX]);
            let is_packed = random.below(2) == 0;
            change_headers(random, member, |header| {
                *(if is_packed { &mut header.packed } else { &mut header.size }) = size;
            });
        }
        4 => {
            let crc = any(random, &[0, 1, u32::MAX]);
            change_headers(random, member, |header| header.crc = crc);
        }
        5 => {
            let needs = any(random, VERSIONS);
            change_headers(random, member, |header| header.needs = needs);
        }
        6 => {
            member.made_by = any(random, MADE_BY);
            member.attributes = any(random, ATTRIBUTES);
        }
        7 => describe(random, member),
        8 => {
            let of = any(random, &[&b"b.tf"[..], b"b.tf", b"c.tf"]);
            let name = any(random, &[&b"b.tf"[..], b"b.tf", b"c.tf", b"\xc3\xa9.tf", b""]);
            let field = unicode_path(any(random, &[1, 1, 1, 0, 2]), of, name);
            change_headers(random, member, |header| header.extra.extend(&field));
        }
        9 => zip64(random, member),
        10 => {
            let field = any(
                random,
                &[
                    extra(0x5455, b"\x01\0\0\0\0"),
                    extra(0x7875, b"\x01\x04\0\0\0\0\x04\0\0\0\0"),
                    extra(0x9901, b"\x02\0AE\x03\x08\0"),
                    extra(0x000a, &[0; 32]),
                    extra(0x000d, &[0; 12]),
                    extra(0x756e, &[0; 14]),
                    extra(0x6375, &[1, 0, 0, 0, 0, b'c']),
                    extra(0xcafe, b""),
                    vec![0x55, 0x54, 9, 0, 1],
                    vec![0xfe, 0xca],
                    vec![0; 4],
                ],
            );
            change_headers(random, member, |header| header.extra.extend(&field));
        }
        11 => match random.below(4) {
            0 => member.comment = any(random, &[&b"comment"[..], b"PK\x05\x06", b"\xff"]).to_vec(),
            1 => member.disk = any(random, &[1, u16::MAX]),
            2 => member.at = Some(any(random, &[0, 1, u32::MAX])),
            _ => member.gap = b"PK\x03\x04 a gap".to_vec(),
        },
        _ => {
            let more: &[u8] = any(random, &[&b"x"[..], b"\x03\0", b"PK\x07\x08"]);
            member.data.extend(more);
            if random.below(2) == 0 {
                let length = member.data.len() as u32;
                member.both(|header| header.packed = length);
            }
        }
    }
}

/// Adds a data descriptor, often a wrong one.
fn describe(random: &mut SeededRandom, member: &mut ZipMember) {
    let sizes = [member.listed.packed, member.listed.size];
    let sizes = match random.below(4) {
        0 => sizes.map(|size| u64::from(size).to_le_bytes().to_vec()),
        _ => sizes.map(|size| size.to_le_bytes().to_vec()),
    };
    let signature: &[u8] = any(random, &[&b"PK\x07\x08"[..], b"PK\x07\x08", b"", b"PK\x07\x09"]);
    let checksum = any(random, &[member.listed.crc, member.listed.crc, member.listed.crc, 0]);
    member.descriptor = [signature, &checksum.to_le_bytes(), &sizes.concat()].concat();
    match random.below(5) {
        0 => member.local.flags |= DESCRIBED,
        1 => member.listed.flags |= DESCRIBED,
        _ => member.both(|header| header.flags |= DESCRIBED),
    }
    if random.below(4) > 0 {
        (member.local.crc, member.local.packed, member.local.size) = (0, 0, 0);
    }
}

/// Adds a zip64 field, with placeholders for some of the sizes, and sometimes with wrong sizes.
fn zip64(random: &mut SeededRandom, member: &mut ZipMember) {
    let (packed, size) = (member.data.len() as u64, CONTENT.len() as u64);
    let wrong = any(random, &[0, 0, 0, 0, 1, u64::MAX]);
    let sizes = [size.wrapping_add(wrong), packed].map(u64::to_le_bytes);
    let (is_short, is_twice) = (random.below(4) == 0, random.below(8) == 0);
    let field = extra(1, if is_short { &sizes[0][..] } else { sizes.as_flattened() });
    let placeholders = random.below(4);
    change_headers(random, member, |header| {
        if placeholders & 1 == 0 {
            header.size = u32::MAX;
        }
        if placeholders < 2 {
            header.packed = u32::MAX;
        }
        header.needs = 45;
        header.extra.extend(&field);
        if is_twice {
            header.extra.extend(&field);
        }
    });
}

fn change_archive(random: &mut SeededRandom, zip: &mut RawZip) {
    let inner =
        || RawZip::of(vec![ZipMember::new("main.tf", b"another"), ZipMember::new("c.tf", b"")]);
    match random.below(10) {
        0 => zip.before = any(random, &[b"#!/bin/sh\n".to_vec(), inner().bytes()]),
        1 => zip.after = any(random, &[b"x".to_vec(), vec![0; 22], inner().bytes()]),
        2 => {
            let end = inner().bytes();
            let end = end[end.len() - 22..].to_vec();
            zip.comment = any(random, &[b"a comment".to_vec(), inner().bytes(), end]);
        }
        3 => zip.before_directory = any(random, &[b"x".to_vec(), inner().bytes()]),
        4 => zip.before_end = any(random, &[b"x".to_vec(), inner().bytes()]),
        5 => zip.zip64 = true,
        6 => {
            let field = random.below(3) as usize;
            zip.wrong_end[field] = any(random, &[1, -1, 54, -54]);
        }
        7 => {
            let mut again = any(random, &zip.members);
            if random.below(2) == 0 {
                again.data = deflated(b"#gain");
                again.both(|header| {
                    (header.crc, header.size) = (crc(b"#gain"), 5);
                    header.packed = deflated(b"#gain").len() as u32;
                });
            }
            zip.members.push(again);
        }
        8 => zip.members.reverse(),
        _ => {
            let at = random.below(zip.members.len() as u64) as usize;
            zip.members[at].gap = inner().bytes();
        }
    }
}
