//! Builds archives byte by byte: valid ones, and invalid ones that no packing program creates.

use std::fs::File;
use std::io::{Seek, Write};

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder};

use super::super::{ArchiveContents, ArchiveError, ArchiveLimits, Format, inspect};

/// Writes the bytes into a file and inspects it.
pub(super) fn inspected(
    bytes: &[u8],
    format: Format,
    limits: &ArchiveLimits,
) -> Result<ArchiveContents, ArchiveError> {
    let mut file: File = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    inspect(&mut file, format, limits)
}

/// One entry of a tar archive.
#[derive(Clone)]
pub(super) struct TarEntry {
    pub name: Vec<u8>,
    pub kind: u8,
    pub mode: u32,
    pub data: Vec<u8>,
    /// The size in the header, if it is wrong.
    pub size: Option<u64>,
    /// The target of a link.
    pub link: String,
}

pub(super) fn tar_entry(name: &str, data: &[u8]) -> TarEntry {
    let kind = if name.ends_with('/') { b'5' } else { b'0' };
    TarEntry {
        name: name.into(),
        kind,
        mode: if kind == b'5' { 0o755 } else { 0o644 },
        data: data.to_vec(),
        size: None,
        link: "target".to_owned(),
    }
}

impl TarEntry {
    pub(super) fn kind(mut self, kind: u8) -> Self {
        self.kind = kind;
        self
    }

    pub(super) fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    pub(super) fn link(mut self, link: &str) -> Self {
        self.link = link.to_owned();
        self
    }

    pub(super) fn size(mut self, size: u64) -> Self {
        self.size = Some(size);
        self
    }

    /// Returns the header and the padded data. As in GNU tar, an entry before it contains a long name.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.name.len() > 100 {
            let long = Self {
                name: b"././@LongLink".to_vec(),
                kind: b'L',
                mode: 0,
                data: [&self.name, &b"\0"[..]].concat(),
                size: None,
                link: "target".to_owned(),
            };
            bytes = long.bytes();
        }
        let mut header = tar::Header::new_gnu();
        let length = self.name.len().min(100);
        header.as_old_mut().name[..length].copy_from_slice(&self.name[..length]);
        header.as_old_mut().linkflag = [self.kind];
        header.set_mode(self.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(self.size.unwrap_or(self.data.len() as u64));
        if matches!(self.kind, b'1' | b'2') {
            header.set_link_name_literal(&self.link).unwrap();
        }
        if let (b'S', Some(gnu)) = (self.kind, header.as_gnu_mut()) {
            gnu.set_real_size(0);
        }
        header.set_cksum();
        bytes.extend(header.as_bytes());
        bytes.extend(padded(&self.data));
        bytes
    }
}

pub(super) fn padded(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    data.resize(data.len().next_multiple_of(512), 0);
    data
}

/// Returns extended headers for the next entry (`x`) or for all entries (`g`).
pub(super) fn pax(kind: u8, records: &[(&str, &str)]) -> TarEntry {
    let mut data = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while rest + length.to_string().len() != length {
            length += 1;
        }
        data.extend(format!("{length} {key}={value}\n").bytes());
    }
    TarEntry {
        name: b"pax".to_vec(),
        kind,
        mode: 0o644,
        data,
        size: None,
        link: "target".to_owned(),
    }
}

pub(super) fn tar_of(entries: &[TarEntry]) -> Vec<u8> {
    let mut bytes: Vec<u8> = entries.iter().flat_map(TarEntry::bytes).collect();
    bytes.resize(bytes.len() + 1_024, 0);
    bytes
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn tar_gz_of(entries: &[TarEntry]) -> Vec<u8> {
    gzip(&tar_of(entries))
}

/// One entry of a zip archive, with optional wrong values for the directory.
#[derive(Clone)]
pub(super) struct ZipEntry {
    pub name: Vec<u8>,
    pub listed_name: Option<Vec<u8>>,
    pub data: Vec<u8>,
    pub method: u16,
    pub flags: u16,
    /// The number of the system that made the entry: 3 is Unix.
    pub made_by: u8,
    pub attributes: u32,
    pub extra: Vec<u8>,
    /// The unpacked size in the directory, if it is wrong.
    pub size: Option<u32>,
    pub crc: Option<u32>,
    /// Data before the local header.
    pub gap: Vec<u8>,
    /// The position in the directory, if it is wrong.
    pub at: Option<u32>,
    /// Replaces the packed data.
    pub packed: Option<Vec<u8>>,
    /// Replaces the data descriptor.
    pub descriptor: Option<Vec<u8>>,
}

pub(super) fn zip_entry(name: &str, data: &[u8]) -> ZipEntry {
    ZipEntry {
        name: name.into(),
        listed_name: None,
        data: data.to_vec(),
        method: 8,
        flags: if name.is_ascii() { 0 } else { 1 << 11 },
        made_by: 3,
        attributes: if name.ends_with('/') { 0o40_755 << 16 } else { 0o100_644 << 16 },
        extra: Vec::new(),
        size: None,
        crc: None,
        gap: Vec::new(),
        at: None,
        packed: None,
        descriptor: None,
    }
}

impl ZipEntry {
    pub(super) fn unix(mut self, mode: u32) -> Self {
        self.attributes = mode << 16;
        self
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(super) fn packed(&self) -> Vec<u8> {
        if let Some(packed) = &self.packed {
            return packed.clone();
        }
        if self.method != 8 {
            return self.data.clone();
        }
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&self.data).unwrap();
        encoder.finish().unwrap()
    }

    pub(super) fn described(&self, signature: &[u8], width: usize) -> Vec<u8> {
        let sizes = [self.packed().len() as u64, self.data.len() as u64]
            .map(|size| size.to_le_bytes()[..width].to_vec());
        [signature, &self.checksum().to_le_bytes(), &sizes.concat()].concat()
    }

    fn checksum(&self) -> u32 {
        let mut crc = flate2::Crc::new();
        crc.update(&self.data);
        crc.sum()
    }
}

pub(super) fn zip_of(entries: &[ZipEntry]) -> Vec<u8> {
    zip_with(entries, entries.len() as u16, b"", b"")
}

/// Builds a zip archive with a given entry count, a comment, and extra data before the directory.
pub(super) fn zip_with(
    entries: &[ZipEntry],
    count: u16,
    comment: &[u8],
    before_directory: &[u8],
) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        bytes.extend(&entry.gap);
        let (at, packed, described) = (bytes.len() as u32, entry.packed(), entry.flags & 8 != 0);
        let (crc, length) = (entry.crc.unwrap_or_else(|| entry.checksum()), packed.len() as u32);
        let size = entry.size.unwrap_or(entry.data.len() as u32);
        let fields = |described: bool, name: &[u8]| {
            let sizes = if described { [0; 3] } else { [crc, length, size] };
            let words = [entry.flags, entry.method, 0, 0x21].map(u16::to_le_bytes).concat();
            let lengths =
                [name.len() as u16, entry.extra.len() as u16].map(u16::to_le_bytes).concat();
            [words, sizes.map(u32::to_le_bytes).concat(), lengths].concat()
        };
        bytes.extend(b"PK\x03\x04\x14\0");
        bytes.extend(fields(described, &entry.name));
        bytes.extend([entry.name.as_slice(), &entry.extra, &packed].concat());
        if described {
            bytes.extend(
                entry.descriptor.clone().unwrap_or_else(|| entry.described(b"PK\x07\x08", 4)),
            );
        }
        let listed_name = entry.listed_name.as_ref().unwrap_or(&entry.name);
        directory.extend([&b"PK\x01\x02\x14"[..], &[entry.made_by], b"\x14\0"].concat());
        directory.extend(fields(false, listed_name));
        directory.extend([0; 6]);
        directory.extend(entry.attributes.to_le_bytes());
        directory.extend(entry.at.unwrap_or(at).to_le_bytes());
        directory.extend([listed_name.as_slice(), &entry.extra].concat());
    }
    bytes.extend(before_directory);
    let at = bytes.len() as u32;
    bytes.extend(&directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend([count.to_le_bytes(), count.to_le_bytes()].concat());
    bytes.extend([(directory.len() as u32).to_le_bytes(), at.to_le_bytes()].concat());
    bytes.extend((comment.len() as u16).to_le_bytes());
    bytes.extend(comment);
    bytes
}
