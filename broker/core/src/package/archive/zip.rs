//! Inspects a zip archive: its directory and its entries must agree and must cover every byte.
//!
//! A zip archive lists its content twice, in the directory and in local headers, and neither has a
//! fixed position. So one file can be two different archives for two programs. The library compares the
//! lists. This module checks that no data is before, between or after them.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use zip::read::{ArchiveOffset, Config};
use zip::{CompressionMethod, ZipArchive};

use super::listing::{EntryKind, Listing};
use super::zip_data::EntryData;
use super::zip_header::EntryHeader;
use super::{ArchiveError, ArchiveFile};

/// Length of the end of central directory record without its comment (APPNOTE 4.3.16).
const END_RECORD_LEN: usize = 22;

/// Length of the zip64 end of central directory locator (APPNOTE 4.3.15).
const ZIP64_LOCATOR_LEN: usize = 20;

/// Length of the zip64 end of central directory record without extensible data (APPNOTE 4.3.14).
const ZIP64_RECORD_LEN: usize = 56;

/// Length of both zip64 records, which precede the end of central directory record.
const ZIP64_LEN: usize = ZIP64_RECORD_LEN + ZIP64_LOCATOR_LEN;

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
        let packed = archive
            .by_index_raw(member.index)
            .map_err(|_| ArchiveError::entry(&member.name, "is damaged"))?;
        let is_folder = member.raw_name.ends_with(b"/");
        if !is_folder {
            listing.begin_file(&member.raw_name, member.data.size);
        }
        // Nobody reads the data of a folder, so it may lack even the end of a deflate stream.
        if !is_folder || member.data.packed > 0 {
            let sha256 = member.data.check(&member.name, packed, listing)?;
            if !is_folder {
                listing.add_hashed(&member.raw_name, member.mode, sha256);
            }
        }
    }
    Ok(())
}

fn damaged() -> ArchiveError {
    ArchiveError::archive("is damaged or truncated")
}

/// The end of the directory, and its position and number of entries.
struct EndRecord {
    /// Where the directory ends. The end records follow.
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
        if tail.len() - at - END_RECORD_LEN != number(record, 20, 2) as usize {
            return Err(ArchiveError::archive("has data after its end record"));
        }
        let parts = [(4, 2), (6, 2), (8, 2), (10, 2), (12, 4), (16, 4)];
        let [disk, first_disk, on_disk, entries, size, directory] =
            parts.map(|(from, length)| number(record, from, length));
        let end = before + at as u64;
        let zip64 = zip64_end(&tail[..at], before, [entries, size, directory])?;
        let is_first = |disk| disk == 0 || disk == 0xffff && zip64.is_some();
        if !is_first(disk) || !is_first(first_disk) || on_disk != entries {
            return Err(ArchiveError::archive("is one part of a split archive"));
        }
        let (at, [entries, size, directory]) = match zip64 {
            Some(zip64) => (end - ZIP64_LEN as u64, zip64),
            None => (end, [entries, size, directory]),
        };
        if entries > listing.limits().entries as u64 {
            return Err(listing.too_many());
        }
        if size > MAX_DIRECTORY_BYTES_PER_ENTRY.saturating_mul(listing.limits().entries as u64) {
            return Err(ArchiveError::archive("has a directory that is too long"));
        }
        if directory.saturating_add(size) != at {
            return Err(ArchiveError::archive("contains data that belongs to no entry"));
        }
        Ok(Self { at, directory, entries })
    }
}

/// Reads the zip64 end records at the end of a text, if there are any: the number of entries, and
/// the size and the position of the directory. `plain` has these numbers of the end record.
///
/// Info-ZIP writes zip64 also for a small archive. Go reads these records only if the number of
/// entries or the position is a placeholder, and Python always reads them. So one of the two must be a
/// placeholder, and all other numbers must agree.
fn zip64_end(tail: &[u8], before: u64, plain: [u64; 3]) -> Result<Option<[u64; 3]>, ArchiveError> {
    let ambiguous = || {
        ArchiveError::archive("has zip64 end records that programs do not read in the same way")
            .or_hint("pack it again without zip64, which is only necessary above 4 GB")
    };
    let placeholders = [0xffff, 0xffff_ffff, 0xffff_ffff];
    let [entries, size, directory] = [0, 1, 2].map(|at| plain[at] == placeholders[at]);
    let locator = tail.len().checked_sub(ZIP64_LOCATOR_LEN).map(|at| &tail[at..]);
    let Some(locator) = locator.filter(|bytes| bytes.starts_with(b"PK\x06\x07")) else {
        return if entries || size || directory { Err(ambiguous()) } else { Ok(None) };
    };
    let at = tail.len().checked_sub(ZIP64_LEN).ok_or_else(ambiguous)?;
    let record = &tail[at..at + ZIP64_RECORD_LEN];
    let is_plain_record = record.starts_with(b"PK\x06\x06")
        && number(record, 4, 8) == ZIP64_RECORD_LEN as u64 - 12
        && number(record, 16, 4) == 0
        && number(record, 20, 4) == 0
        && number(record, 24, 8) == number(record, 32, 8);
    let is_located = number(locator, 4, 4) == 0
        && number(locator, 8, 8) == before + at as u64
        && number(locator, 16, 4) == 1;
    let found = [32, 40, 48].map(|from| number(record, from, 8));
    let agrees = (0..3).all(|at| plain[at] == found[at] || plain[at] == placeholders[at]);
    if is_plain_record && is_located && agrees && (entries || directory) {
        Ok(Some(found))
    } else {
        Err(ambiguous())
    }
}

/// Returns the number in little-endian order at a position of a record.
fn number(record: &[u8], from: usize, length: usize) -> u64 {
    record[from..from + length].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Returns the end of the file, long enough for the records and the longest comment, and its offset.
fn tail(file: &mut (impl Read + Seek)) -> io::Result<(Vec<u8>, u64)> {
    let length = file.seek(SeekFrom::End(0))?;
    let longest = ZIP64_LEN + END_RECORD_LEN + usize::from(u16::MAX);
    let before = length.saturating_sub(longest as u64);
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
    data: EntryData,
    /// Whether a data descriptor follows the data (APPNOTE 4.3.9).
    has_descriptor: bool,
    /// The mode, if the entry was made on a system with modes.
    mode: Option<u32>,
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
        let (raw_name, at) = (entry.name_raw().to_vec(), entry.data_start().ok_or_else(damaged)?);
        members.push(ZipMember {
            index,
            name,
            raw_name,
            header: entry.header_start(),
            data: EntryData {
                at,
                is_deflated: entry.compression() == CompressionMethod::Deflated,
                packed: entry.compressed_size(),
                size: entry.size(),
                crc: entry.crc32(),
            },
            has_descriptor: entry.flags().is_using_data_descriptor(),
            mode: None,
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
        let (name, extra, comment) = (length(28), length(30), length(32));
        let mut raw_name = Vec::new();
        file.by_ref().take(name).read_to_end(&mut raw_name)?;
        if let Some(error) = mode_problem(&fixed, member) {
            return Ok(Err(error));
        }
        member.mode = mode(&fixed);
        if member.listed != at || raw_name != member.raw_name {
            return Ok(Err(ArchiveError::entry(&member.name, "has two names")));
        }
        let mut fields = Vec::new();
        file.by_ref().take(extra).read_to_end(&mut fields)?;
        let header = EntryHeader {
            needs: u16::from_le_bytes([fixed[6], fixed[7]]),
            flags: u16::from_le_bytes([fixed[8], fixed[9]]),
            is_described: member.has_descriptor,
            name: &raw_name,
            extra: &fields,
        };
        if let Err(error) = header.check(&member.name) {
            return Ok(Err(error));
        }
        // Only some programs read the number of the disk.
        if length(34) != 0 {
            return Ok(Err(ArchiveError::entry(&member.name, "is on another disk")));
        }
        io::copy(&mut file.by_ref().take(comment), &mut io::sink())?;
        at += 46 + name + extra + comment;
    }
    Ok(if at == end.at {
        Ok(())
    } else {
        Err(ArchiveError::archive("has a directory that contains more than its entries"))
    })
}

/// Returns the mode in a record of the directory, if the entry was made on Unix (3) or macOS (19).
fn mode(listed: &[u8; 46]) -> Option<u32> {
    let mode = u32::from(u16::from_le_bytes([listed[40], listed[41]]));
    matches!(listed[5], 3 | 19).then_some(mode)
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
        if let Err(error) = local_header(file, member)? {
            return Ok(Err(error));
        }
        at = member.data.at.saturating_add(member.data.packed);
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

/// Checks the header before the data of an entry.
fn local_header(
    file: &mut (impl Read + Seek),
    member: &ZipMember,
) -> io::Result<Result<(), ArchiveError>> {
    file.seek(SeekFrom::Start(member.header))?;
    let mut fixed = [0; 30];
    file.read_exact(&mut fixed)?;
    let word = |from: usize| u16::from_le_bytes([fixed[from], fixed[from + 1]]);
    let (mut name, mut extra) = (Vec::new(), Vec::new());
    file.by_ref().take(word(26).into()).read_to_end(&mut name)?;
    file.by_ref().take(word(28).into()).read_to_end(&mut extra)?;
    let header = EntryHeader {
        needs: word(4),
        flags: word(6),
        is_described: member.has_descriptor,
        name: &name,
        extra: &extra,
    };
    Ok(header.check(&member.name))
}

/// Returns the length of an entry's data descriptor (APPNOTE 4.3.9), if it agrees with the directory.
///
/// The signature is optional, and sizes have 8 or 4 bytes.
fn descriptor_len(bytes: &[u8], member: &ZipMember) -> Option<u64> {
    let crc = member.data.crc.to_le_bytes();
    let sizes = [member.data.packed.to_le_bytes(), member.data.size.to_le_bytes()];
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
