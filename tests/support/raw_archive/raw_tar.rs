//! Builds tar archives header by header, and generates archives whose headers have random changes.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::seed::SeededRandom;

/// Bytes that replace the bytes at an offset of a header, in the fields that programs read
/// differently.
const CHANGES: &[(usize, &[u8])] = &[
    (0, b"b.tf\0"),
    (0, b"b.tf\0garbage"),
    (0, b"modules/a.tf\0"),
    (0, b"a/\0"),
    (0, b"\0"),
    (100, b"0000755\0"),
    (100, b"0100644\0"),
    (100, b"0040755\0"),
    (100, b"0120777\0"),
    (100, b"   644 \0"),
    (108, b"\0\0\0\0\0\0\0\0"),
    (108, b"\x80\0\0\0\0\0\x10\0"),
    (116, b"        "),
    (124, b"00000000003\0"),
    (124, b"          3 "),
    (124, b"3\0\0\0\0\0\0\0\0\0\0\0"),
    (124, b"3 \0 7\0\0\0\0\0\0\0"),
    (124, b"00000000_03\0"),
    (124, b"0o000000003\0"),
    (124, b"+0000000003\0"),
    (124, b"\x0000000000003"),
    (124, b"000000003\0\x37\0"),
    (124, b"\x80\0\0\0\0\0\0\0\0\0\0\x03"),
    (124, b"00000000008\0"),
    (124, b"            "),
    (136, b"14711154254\0"),
    (136, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
    (156, b"\0"),
    (156, b"5"),
    (156, b"7"),
    (156, b"D"),
    (157, b"target\0"),
    (257, b"ustar\x0000"),
    (257, b"ustar  \0"),
    (257, b"ustar\0 \0"),
    (257, b"ustar\x0001"),
    (257, b"ustar 00"),
    (257, b"USTAR\x0000"),
    (257, b"\0\0\0\0\0\0\0\0"),
    (265, b"root\0"),
    (329, b"0000001\x000000002\0"),
    (345, b"folder\0"),
    (345, b"modules/b\0"),
    (345, b"15302642254\x0015302642254\0"),
    (345, b"\x0015302642254"),
    (476, b"15302642254\x0015302642254\0"),
    (483, b"00000000007\0"),
    (500, b"padding"),
    (508, b"tar\0"),
];

/// The three accepted forms of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TarForm {
    /// The form of POSIX.
    Posix,
    /// The form of GNU.
    Gnu,
    /// The form of version 7, without a magic value.
    V7,
}

impl TarForm {
    /// Returns the header of an entry with that kind and that many bytes. Its checksum is missing.
    pub fn header(self, name: &str, kind: u8, mode: u32, size: usize) -> Vec<u8> {
        let mut header = match self {
            Self::Posix => tar::Header::new_ustar(),
            Self::Gnu => tar::Header::new_gnu(),
            Self::V7 => tar::Header::new_old(),
        };
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size as u64);
        header.as_bytes().to_vec()
    }
}

/// Returns the header of an entry with that many bytes, in one of the three forms.
pub fn header(random: &mut SeededRandom, name: &str, kind: u8, size: usize) -> Vec<u8> {
    let forms = [TarForm::Posix, TarForm::Gnu, TarForm::V7];
    forms[random.below(3) as usize].header(name, kind, 0o755, size)
}

/// Appends an entry with a correct checksum.
pub fn append(archive: &mut Vec<u8>, mut header: Vec<u8>, data: &[u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    archive.extend(header);
    archive.extend(data);
    archive.resize(archive.len().next_multiple_of(512), 0);
}

/// Generates an archive with one ordinary file, and one entry whose headers have random changes.
pub fn generated(random: &mut SeededRandom) -> Vec<u8> {
    let mut archive = Vec::new();
    let first = header(random, "main.tf", b'0', 1);
    append(&mut archive, first, b"#");
    for _ in 0..random.below(3) {
        let (kind, data) = match random.below(6) {
            0 | 1 => (b'L', &b"long-name.tf\0"[..]),
            2 | 3 => (b'x', &b"20 path=extended.tf\n"[..]),
            4 => (b'g', &b"16 comment=8c8b\n"[..]),
            _ => (b'K', &b"long-link\0"[..]),
        };
        let mut before = header(random, "before", kind, data.len());
        if random.below(8) == 0 {
            change(random, &mut before);
        }
        append(&mut archive, before, data);
    }
    let (kind, data) = if random.below(4) == 0 { (b'5', &b""[..]) } else { (b'0', &b"#bc"[..]) };
    let mut entry = header(random, "entry", kind, data.len());
    for _ in 0..random.below(4) {
        change(random, &mut entry);
    }
    append(&mut archive, entry, data);
    archive.resize(archive.len() + 1_024, 0);
    archive
}

fn change(random: &mut SeededRandom, header: &mut [u8]) {
    if random.below(5) == 0 {
        header[random.below(512) as usize] = random.below(256) as u8;
        return;
    }
    let (at, bytes) = CHANGES[random.below(CHANGES.len() as u64) as usize];
    header[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Compresses with gzip.
pub fn gzip(archive: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(archive).unwrap();
    encoder.finish().unwrap()
}
