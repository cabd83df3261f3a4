//! Builds a zip archive whose local headers, directory and end record can contradict each other.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::DeflateEncoder;

/// The flag of a data descriptor after the data.
pub const DESCRIBED: u16 = 1 << 3;

/// The flag of a name in UTF-8.
pub const UTF8: u16 = 1 << 11;

/// The fields that an entry has in its local header and in the directory.
#[derive(Debug, Clone)]
pub struct ZipHeader {
    /// The name.
    pub name: Vec<u8>,
    /// The version that a reader needs.
    pub needs: u16,
    /// The flags.
    pub flags: u16,
    /// The compression method.
    pub method: u16,
    /// The checksum of the content.
    pub crc: u32,
    /// The size of the packed data.
    pub packed: u32,
    /// The size of the content.
    pub size: u32,
    /// The extra fields.
    pub extra: Vec<u8>,
}

impl ZipHeader {
    fn bytes(&self) -> Vec<u8> {
        let words = [self.needs, self.flags, self.method, 0, 0x21].map(u16::to_le_bytes).concat();
        let sizes = [self.crc, self.packed, self.size].map(u32::to_le_bytes).concat();
        let lengths = [self.name.len() as u16, self.extra.len() as u16];
        [words, sizes, lengths.map(u16::to_le_bytes).concat()].concat()
    }
}

/// One entry. At first, both headers are equal and correct.
#[derive(Debug, Clone)]
pub struct ZipMember {
    /// The header before the data.
    pub local: ZipHeader,
    /// The header in the directory.
    pub listed: ZipHeader,
    /// The system that made the entry in the upper byte, and the version of the program.
    pub made_by: u16,
    /// The external attributes: for Unix, the mode in the upper half.
    pub attributes: u32,
    /// The number of the disk on which the entry begins.
    pub disk: u16,
    /// The comment in the directory.
    pub comment: Vec<u8>,
    /// The position in the directory, if it is wrong.
    pub at: Option<u32>,
    /// Bytes before the local header.
    pub gap: Vec<u8>,
    /// The packed data.
    pub data: Vec<u8>,
    /// Bytes after the data.
    pub descriptor: Vec<u8>,
}

impl ZipMember {
    /// Creates a file, or a folder if the name ends with `/`, as a program on Unix packs it.
    pub fn new(name: &str, content: &[u8]) -> Self {
        let is_folder = name.ends_with('/');
        let data = if is_folder { Vec::new() } else { deflated(content) };
        let header = ZipHeader {
            name: name.into(),
            needs: 20,
            flags: if name.is_ascii() { 0 } else { UTF8 },
            method: if is_folder { 0 } else { 8 },
            crc: crc(content),
            packed: data.len() as u32,
            size: content.len() as u32,
            extra: Vec::new(),
        };
        Self {
            local: header.clone(),
            listed: header,
            made_by: 0x0314,
            attributes: if is_folder { 0o40_755 << 16 } else { 0o100_644 << 16 },
            disk: 0,
            comment: Vec::new(),
            at: None,
            gap: Vec::new(),
            data,
            descriptor: Vec::new(),
        }
    }

    /// Sets the mode of Unix.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.attributes = mode << 16;
        self
    }

    /// Makes the entry one of a system without modes. `system` is 0 for FAT and 11 for NTFS.
    #[must_use]
    pub fn without_mode(mut self, system: u8) -> Self {
        self.made_by = u16::from_be_bytes([system, 20]);
        self.attributes = if self.local.name.ends_with(b"/") { 0x10 } else { 0x20 };
        self
    }

    /// Changes both headers.
    pub fn both(&mut self, change: impl Fn(&mut ZipHeader)) {
        change(&mut self.local);
        change(&mut self.listed);
    }
}

/// A zip archive.
#[derive(Debug, Clone, Default)]
pub struct RawZip {
    /// The entries.
    pub members: Vec<ZipMember>,
    /// Bytes before everything. The positions do not count them.
    pub before: Vec<u8>,
    /// Bytes between the entries and the directory.
    pub before_directory: Vec<u8>,
    /// Bytes between the directory and the end record, such as zip64 records.
    pub before_end: Vec<u8>,
    /// Whether zip64 end records precede the end record, and the position is a placeholder.
    pub zip64: bool,
    /// Added to the number of entries, to the size of the directory and to its position.
    pub wrong_end: [i32; 3],
    /// The comment.
    pub comment: Vec<u8>,
    /// Bytes after everything.
    pub after: Vec<u8>,
}

impl RawZip {
    /// Creates an archive of these entries.
    pub fn of(members: Vec<ZipMember>) -> Self {
        Self { members, ..Self::default() }
    }

    /// Returns the archive.
    pub fn bytes(&self) -> Vec<u8> {
        let (mut bytes, mut directory) = (Vec::new(), Vec::new());
        for member in &self.members {
            bytes.extend(&member.gap);
            let at = member.at.unwrap_or(bytes.len() as u32);
            bytes.extend(b"PK\x03\x04");
            bytes.extend(member.local.bytes());
            for part in [&member.local.name, &member.local.extra, &member.data, &member.descriptor]
            {
                bytes.extend(part);
            }
            directory.extend(b"PK\x01\x02");
            directory.extend(member.made_by.to_le_bytes());
            directory.extend(member.listed.bytes());
            let words = [member.comment.len() as u16, member.disk, 0];
            directory.extend(words.map(u16::to_le_bytes).concat());
            directory.extend(member.attributes.to_le_bytes());
            directory.extend(at.to_le_bytes());
            for part in [&member.listed.name, &member.listed.extra, &member.comment] {
                directory.extend(part);
            }
        }
        bytes.extend(&self.before_directory);
        let right = [self.members.len(), directory.len(), bytes.len()].map(|it| it as u32);
        let [count, size, at] =
            [0, 1, 2].map(|field| right[field].wrapping_add_signed(self.wrong_end[field]));
        bytes.extend(&directory);
        bytes.extend(&self.before_end);
        if self.zip64 {
            let record = bytes.len() as u64;
            bytes.extend([&b"PK\x06\x06"[..], &44_u64.to_le_bytes(), &[30, 3, 45, 0]].concat());
            bytes.extend([0; 8]);
            bytes.extend([count, count, size, at].map(|it| u64::from(it).to_le_bytes()).concat());
            bytes.extend(
                [&b"PK\x06\x07\0\0\0\0"[..], &record.to_le_bytes(), &[1, 0, 0, 0]].concat(),
            );
        }
        let at = if self.zip64 { u32::MAX } else { at };
        bytes.extend(b"PK\x05\x06\0\0\0\0");
        bytes.extend([count as u16; 2].map(u16::to_le_bytes).concat());
        bytes.extend([size, at].map(u32::to_le_bytes).concat());
        bytes.extend((self.comment.len() as u16).to_le_bytes());
        [&self.before[..], &bytes, &self.comment, &self.after].concat()
    }
}

/// Returns an extra field.
pub fn extra(id: u16, data: &[u8]) -> Vec<u8> {
    [&id.to_le_bytes()[..], &(data.len() as u16).to_le_bytes(), data].concat()
}

/// Returns the extra field with a name in UTF-8 (APPNOTE 4.6.9) for an entry of another name.
pub fn unicode_path(version: u8, of: &[u8], name: &[u8]) -> Vec<u8> {
    extra(0x7075, &[&[version][..], &crc(of).to_le_bytes(), name].concat())
}

/// Compresses with deflate.
pub fn deflated(content: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// Returns the checksum of a zip archive.
pub fn crc(content: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(content);
    crc.sum()
}
