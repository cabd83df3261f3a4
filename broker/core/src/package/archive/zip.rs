//! Inspects a zip archive: its directory and its entries must agree and must cover every byte.
//!
//! A zip archive lists its content twice, in the directory and in local headers, and neither has a
//! fixed position. So one file can be two different archives for two programs. The library compares the
//! lists. This module checks that no data is before, between or after them.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use zip::read::{ArchiveOffset, Config};
use zip::{CompressionMethod, ZipArchive};

use super::listing::{EntryKind, Listing};
use super::{ArchiveError, ArchiveFile};

/// Length of the end of central directory record without its comment (APPNOTE 4.3.16).
const END_RECORD_LEN: usize = 22;

/// Length of the zip64 end of central directory locator (APPNOTE 4.3.15).
const ZIP64_LOCATOR_LEN: usize = 20;

/// Maximum size of the directory in bytes per allowed entry. The library holds the directory in memory,
/// so the limit bounds the memory that an archive can consume.
const MAX_DIRECTORY_BYTES_PER_ENTRY: u64 = 2_048;

pub(super) fn read(disk: ArchiveFile<'_>, listing: &mut Listing<'_>) -> Result<(), ArchiveError> {
    let mut file = BufReader::new(disk);
    let end = EndRecord::find(&mut file, listing)?;
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let mut archive = ZipArchive::with_config(config, BufReader::new(disk))
        .map_err(|_| ArchiveError::archive("has a damaged directory"))?;
    if archive.has_duplicate_names() {
        return Err(ArchiveError::archive("has two entries of one name"));
    }
    if archive.central_directory_start() != end.directory || archive.len() as u64 != end.entries {
        return Err(ArchiveError::archive("has more than one directory"));
    }
    let mut members = members(&mut archive, listing)?;
    archive.validate_header_consistency().map_err(|_| {
        ArchiveError::archive(
            "is inconsistent: its directory and its data describe an entry differently",
        )
    })?;
    check_directory(&mut file, &mut members, &end).map_err(|_| damaged())??;
    check_data(&mut file, &mut members, &end).map_err(|_| damaged())??;
    for member in &members {
        let mut entry = archive
            .by_index(member.index)
            .map_err(|_| ArchiveError::entry(&member.name, "is damaged"))?;
        listing.measure(&member.name, member.size, &mut entry)?;
        if !member.raw_name.ends_with(b"/") {
            listing.list(&member.raw_name, member.size);
        }
    }
    Ok(())
}

fn damaged() -> ArchiveError {
    ArchiveError::archive("is damaged or truncated")
}

/// The end of central directory record: position and size of the directory.
struct EndRecord {
    at: u64,
    directory: u64,
    entries: u64,
}

impl EndRecord {
    /// Finds the last such record, as every reader does, and requires that the file ends with it.
    fn find(file: &mut (impl Read + Seek), listing: &Listing<'_>) -> Result<Self, ArchiveError> {
        let (tail, before) = tail(file).map_err(|_| damaged())?;
        let Some(at) = tail.windows(4).rposition(|bytes| bytes == b"PK\x05\x06") else {
            return Err(ArchiveError::archive("is not a zip archive, or is truncated"));
        };
        let record = tail.get(at..at + END_RECORD_LEN).ok_or_else(damaged)?;
        let word = |from: usize| u64::from(u16::from_le_bytes([record[from], record[from + 1]]));
        let long = |from: usize| word(from) | word(from + 2) << 16;
        if tail.len() - at - END_RECORD_LEN != word(20) as usize {
            return Err(ArchiveError::archive("has data after its end record"));
        }
        let (entries, size, directory, record_at, at) =
            (word(10), long(12), long(16), at, before + at as u64);
        if word(4) != 0 || word(6) != 0 || word(8) != entries {
            return Err(ArchiveError::archive("is one part of a split archive"));
        }
        let located = tail
            .get(record_at.saturating_sub(ZIP64_LOCATOR_LEN)..)
            .is_some_and(|bytes| bytes.starts_with(b"PK\x06\x07"));
        if entries == 0xffff || directory == 0xffff_ffff || located {
            return Err(ArchiveError::archive(
                "is in the zip64 format, which is only necessary above 4 GB",
            ));
        }
        if entries > listing.limits().entries as u64 {
            return Err(listing.too_many());
        }
        if size > MAX_DIRECTORY_BYTES_PER_ENTRY.saturating_mul(listing.limits().entries as u64) {
            return Err(ArchiveError::archive("has a directory that is too long"));
        }
        if directory + size != at {
            return Err(ArchiveError::archive("contains data that belongs to no entry"));
        }
        Ok(Self { at, directory, entries })
    }
}

/// Returns the end of the file, long enough for the record and the longest comment, and its offset.
fn tail(file: &mut (impl Read + Seek)) -> io::Result<(Vec<u8>, u64)> {
    let length = file.seek(SeekFrom::End(0))?;
    let before = length.saturating_sub((END_RECORD_LEN + usize::from(u16::MAX)) as u64);
    file.seek(SeekFrom::Start(before))?;
    let mut tail = Vec::new();
    file.take(length - before).read_to_end(&mut tail)?;
    Ok((tail, before))
}

/// One entry, with the positions of its parts.
struct ZipMember {
    index: usize,
    name: String,
    raw_name: Vec<u8>,
    header: u64,
    data: u64,
    compressed: u64,
    size: u64,
    crc: u32,
    /// Whether a data descriptor follows the data (APPNOTE 4.3.9).
    has_descriptor: bool,
    listed: u64,
}

fn members<R: Read + Seek>(
    archive: &mut ZipArchive<R>,
    listing: &mut Listing<'_>,
) -> Result<Vec<ZipMember>, ArchiveError> {
    let mut members = Vec::new();
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(|_| damaged())?;
        let kind =
            if entry.name_raw().ends_with(b"/") { EntryKind::Folder } else { EntryKind::File };
        let name = listing.add(entry.name_raw(), kind)?;
        let rejected = |problem: &str| Err(ArchiveError::entry(&name, problem));
        if entry.encrypted() {
            return rejected("is encrypted");
        }
        if !matches!(entry.compression(), CompressionMethod::Stored | CompressionMethod::Deflated) {
            return rejected("uses a compression method other than deflate");
        }
        let (mode, marked) =
            (entry.external_attributes() >> 16, entry.external_attributes() & 0x10 != 0);
        match (mode & 0o170_000, kind) {
            (0, EntryKind::File) if marked => {
                return rejected("is marked as a folder, but named as a file");
            }
            (0, _) | (0o100_000, EntryKind::File) | (0o040_000, EntryKind::Folder) => {}
            (0o100_000, _) => return rejected("is marked as a file, but named as a folder"),
            (0o040_000, _) => return rejected("is marked as a folder, but named as a file"),
            (0o120_000, _) => return rejected("is a symbolic link; replace it with its target"),
            _ => return rejected("is neither a file nor a folder"),
        }
        if mode & 0o4000 != 0 || kind == EntryKind::File && mode & 0o2000 != 0 {
            return rejected("is set-user-id or set-group-id");
        }
        if kind == EntryKind::Folder && entry.size() != 0 {
            return rejected("is a folder with data");
        }
        let (raw_name, data) = (entry.name_raw().to_vec(), entry.data_start().ok_or_else(damaged)?);
        members.push(ZipMember {
            index,
            name,
            raw_name,
            header: entry.header_start(),
            data,
            compressed: entry.compressed_size(),
            size: entry.size(),
            crc: entry.crc32(),
            has_descriptor: entry.flags().is_using_data_descriptor(),
            listed: entry.central_header_start(),
        });
    }
    Ok(members)
}

/// Checks that the directory contains only its entries, with the names that the library returned.
///
/// An extra field can give an entry a second name (APPNOTE 4.6.9). The library uses that name, and
/// Terraform ignores it.
fn check_directory(
    file: &mut (impl Read + Seek),
    members: &mut [ZipMember],
    end: &EndRecord,
) -> io::Result<Result<(), ArchiveError>> {
    members.sort_unstable_by_key(|member| member.listed);
    file.seek(SeekFrom::Start(end.directory))?;
    let mut at = end.directory;
    for member in members {
        let mut fixed = [0; 46];
        file.read_exact(&mut fixed)?;
        let length = |from: usize| u64::from(u16::from_le_bytes([fixed[from], fixed[from + 1]]));
        let (name, rest) = (length(28), length(30) + length(32));
        let mut raw_name = Vec::new();
        file.by_ref().take(name).read_to_end(&mut raw_name)?;
        if let Some(error) = mode_problem(&fixed, member) {
            return Ok(Err(error));
        }
        if member.listed != at || raw_name != member.raw_name {
            return Ok(Err(ArchiveError::entry(&member.name, "has two names")));
        }
        io::copy(&mut file.by_ref().take(rest), &mut io::sink())?;
        at += 46 + name + rest;
    }
    Ok(if at == end.at {
        Ok(())
    } else {
        Err(ArchiveError::archive("has a directory that contains more than its entries"))
    })
}

/// Returns the error for a file that Terraform would unpack without the right to read it.
///
/// Go takes the mode from the upper half of the attributes if the entry was made on Unix (3) or macOS
/// (19), even the mode 0. It gives every right if it was made on FAT (0), NTFS (11) or VFAT (14): Windows
/// Explorer, `Compress-Archive` and Go itself write these. It gives no right for any other system. Folders
/// always get mode 0755.
fn mode_problem(listed: &[u8; 46], member: &ZipMember) -> Option<ArchiveError> {
    if member.raw_name.ends_with(b"/") {
        return None;
    }
    let mode = u32::from(u16::from_le_bytes([listed[40], listed[41]]));
    match listed[5] {
        3 | 19 if mode & 0o400 == 0 => {
            Some(ArchiveError::unusable(&member.name, mode, EntryKind::File))
        }
        3 | 19 => None,
        0 | 11 | 14 if listed[38] & 0x10 == 0 => None,
        0 | 11 | 14 => {
            Some(ArchiveError::entry(&member.name, "is marked as a folder, but named as a file"))
        }
        system => Some(ArchiveError::entry(
            &member.name,
            format_args!(
                "was made on a system with the number {system}, whose files Terraform cannot read after it unpacks them"
            ),
        )),
    }
}

/// Checks that the entries fill the file from the first byte to the directory, without gaps and
/// overlaps.
fn check_data(
    file: &mut (impl Read + Seek),
    members: &mut [ZipMember],
    end: &EndRecord,
) -> io::Result<Result<(), ArchiveError>> {
    members.sort_unstable_by_key(|member| member.header);
    let mut at = 0;
    for member in members {
        if member.header < at {
            return Ok(Err(ArchiveError::entry(
                &member.name,
                "shares its data with another entry",
            )));
        }
        if member.header > at {
            return Ok(Err(ArchiveError::entry(
                &member.name,
                "has data before it that belongs to no entry",
            )));
        }
        at = member.data.saturating_add(member.compressed);
        if member.has_descriptor {
            file.seek(SeekFrom::Start(at))?;
            let mut bytes = Vec::new();
            file.by_ref().take(24).read_to_end(&mut bytes)?;
            let Some(length) = descriptor_len(&bytes, member) else {
                return Ok(Err(ArchiveError::entry(
                    &member.name,
                    "has an invalid data descriptor",
                )));
            };
            at += length;
        }
    }
    Ok(if at == end.directory {
        Ok(())
    } else {
        Err(ArchiveError::archive("contains data that belongs to no entry"))
    })
}

/// Returns the length of an entry's data descriptor (APPNOTE 4.3.9), if it agrees with the directory.
///
/// The signature is optional, and sizes have 8 or 4 bytes.
fn descriptor_len(bytes: &[u8], member: &ZipMember) -> Option<u64> {
    let crc = member.crc.to_le_bytes();
    let sizes = [member.compressed.to_le_bytes(), member.size.to_le_bytes()];
    for width in [8, 4] {
        let [compressed, size] = sizes.map(|size| size[..width].to_vec());
        for signature in [b"PK\x07\x08".as_slice(), b""] {
            let record = [signature, &crc, &compressed, &size].concat();
            if bytes.starts_with(&record) {
                return Some(record.len() as u64);
            }
        }
    }
    None
}
