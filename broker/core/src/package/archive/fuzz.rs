//! The fuzz target `archive`: inspects archives and unpacks the accepted ones. Not part of the service.

use std::borrow::Cow;
use std::io::{Cursor, Read, Seek, Write};
use std::path::{Component, Path};
use std::time::Duration;

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::{ArchiveContents, ArchiveError, ArchiveLimits, Format, inspect};
use crate::fuzz::{Verdict, is_plain};

/// Low limits, so that a decompression bomb costs little time.
const LIMITS: ArchiveLimits =
    ArchiveLimits { unpacked_bytes: 1_000_000, entries: 1_000, time: Duration::from_secs(600) };

/// Inspects the input in the format of its first bytes.
///
/// It treats other input as an uncompressed tar archive, corrects the header checksums and compresses
/// it. Otherwise, almost no mutation would have valid checksums.
pub fn archive(bytes: &[u8]) -> Verdict {
    let (bytes, format) = match Format::sniff(bytes) {
        Some(format) => (Cow::Borrowed(bytes), format),
        None => (Cow::Owned(gzip(&with_checksums(bytes))), Format::TarGz),
    };
    match inspect(&mut file_of(&bytes), format, &LIMITS) {
        Ok(contents) => {
            let entries = match format {
                Format::Zip => from_zip(&bytes),
                Format::TarGz => from_tar_gz(&bytes),
            };
            unpacks_inside(&entries, contents);
            Verdict::Accepted
        }
        Err(ArchiveError::Rejected { message, .. }) => {
            assert!(is_plain(&message), "{message:?}");
            Verdict::Rejected
        }
        Err(error @ (ArchiveError::Unreadable(_) | ArchiveError::TooSlow(_))) => {
            unreachable!("an invalid archive gave another error: {error:?}")
        }
    }
}

/// An entry as a lenient reader returns it: its name, and the size if it is a file.
type EntrySummary = (String, Option<u64>);

fn unpacks_inside(entries: &[EntrySummary], contents: ArchiveContents) {
    let inside = |name: &str| {
        Path::new(name)
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
    };
    assert!(
        entries.iter().all(|(name, _)| inside(name) && !name.contains('\\') && !name.contains(':')),
        "{entries:?}"
    );
    let files: Vec<u64> = entries.iter().filter_map(|(_, size)| *size).collect();
    assert_eq!(
        contents,
        ArchiveContents { files: files.len(), unpacked_bytes: files.iter().sum() }
    );
    assert!(contents.unpacked_bytes <= LIMITS.unpacked_bytes && entries.len() <= LIMITS.entries);
}

fn from_zip(bytes: &[u8]) -> Vec<EntrySummary> {
    let mut archive =
        ::zip::ZipArchive::new(Cursor::new(bytes)).expect("an accepted zip archive can be opened");
    let read = (0..archive.len()).map(|at| {
        let mut entry = archive.by_index(at).expect("each entry can be opened");
        assert!(!entry.is_symlink(), "an accepted archive has no links");
        let size = std::io::copy(&mut entry, &mut std::io::sink()).expect("the data is complete");
        (
            String::from_utf8(entry.name_raw().to_vec()).expect("the name is UTF-8"),
            entry.is_file().then_some(size),
        )
    });
    read.collect()
}

fn from_tar_gz(bytes: &[u8]) -> Vec<EntrySummary> {
    let mut archive = tar::Archive::new(MultiGzDecoder::new(bytes));
    let entries = archive.entries().expect("an accepted tar archive can be opened");
    let read = entries.filter_map(|entry| {
        let mut entry = entry.expect("each entry is complete");
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            return None;
        }
        assert!(kind.is_file() || kind.is_dir(), "an accepted archive has no links");
        let mut data = Vec::new();
        entry.read_to_end(&mut data).expect("the data is complete");
        let name = String::from_utf8(entry.path_bytes().into_owned()).expect("the name is UTF-8");
        Some((name, kind.is_file().then_some(data.len() as u64)))
    });
    read.collect()
}

fn file_of(bytes: &[u8]) -> std::fs::File {
    let mut file = tempfile::tempfile().expect("the temporary file can be created");
    file.write_all(bytes).and_then(|()| file.rewind()).expect("the temporary file can be written");
    file
}

/// Corrects the checksum in each header of a tar archive (POSIX `ustar`: bytes 148 to 156, which
/// count as spaces).
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut at = 0_usize;
    while let Some(header) = bytes
        .get_mut(at..at.saturating_add(512))
        .filter(|header| header.iter().any(|byte| *byte != 0))
    {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let size = header[124..136].iter().filter(|byte| (b'0'..=b'7').contains(byte));
        let size = size.fold(0_usize, |size, digit| (size << 3) | usize::from(digit - b'0'));
        at = at.saturating_add(512).saturating_add(size.div_ceil(512).saturating_mul(512));
    }
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("writing to memory succeeds")
}
