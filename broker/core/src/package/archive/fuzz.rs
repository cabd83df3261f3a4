//! What the fuzz target `archive` tries on archives; no part of the service.

use std::borrow::Cow;
use std::io::{Cursor, Read, Seek, Write};
use std::path::{Component, Path};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use super::{ArchiveContents, ArchiveError, ArchiveLimits, Format, inspect};
use crate::fuzz::{Verdict, is_plain};

/// Small, so that a bomb is quick.
const LIMITS: ArchiveLimits = ArchiveLimits { unpacked_bytes: 1_000_000, entries: 1_000 };

/// As the format they begin like; what begins like neither is a bare tar archive, whose checksums are made good and which
/// is compressed, since no mutation gets a checksum right.
pub fn archive(bytes: &[u8]) -> Verdict {
    let (bytes, format) = match Format::sniff(bytes) {
        Some(format) => (Cow::Borrowed(bytes), format),
        None => (Cow::Owned(gzip(&summed(bytes))), Format::TarGz),
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
        Err(error @ ArchiveError::Unreadable(_)) => {
            unreachable!("the archive's fault passed for the disk's: {error:?}")
        }
    }
}

/// An entry as a reader gives it that refuses nothing: its name, and the bytes of a file.
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
        ::zip::ZipArchive::new(Cursor::new(bytes)).expect("a zip archive that was taken is one");
    let read = (0..archive.len()).map(|at| {
        let mut entry = archive.by_index(at).expect("its entries are there");
        assert!(!entry.is_symlink(), "no link is taken");
        let size = std::io::copy(&mut entry, &mut std::io::sink()).expect("they are whole");
        (
            String::from_utf8(entry.name_raw().to_vec()).expect("their names are UTF-8"),
            entry.is_file().then_some(size),
        )
    });
    read.collect()
}

fn from_tar_gz(bytes: &[u8]) -> Vec<EntrySummary> {
    let mut archive = tar::Archive::new(GzDecoder::new(bytes));
    let entries = archive.entries().expect("a tar archive that was taken is one");
    let read = entries.filter_map(|entry| {
        let mut entry = entry.expect("its entries are whole");
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            return None;
        }
        assert!(kind.is_file() || kind.is_dir(), "no link is taken");
        let mut data = Vec::new();
        entry.read_to_end(&mut data).expect("they are whole");
        let name =
            String::from_utf8(entry.path_bytes().into_owned()).expect("their names are UTF-8");
        Some((name, kind.is_file().then_some(data.len() as u64)))
    });
    read.collect()
}

fn file_of(bytes: &[u8]) -> std::fs::File {
    let mut file = tempfile::tempfile().expect("there is room for a file");
    file.write_all(bytes).and_then(|()| file.rewind()).expect("and for its bytes");
    file
}

/// The same tar archive with the right checksum in each header (POSIX `ustar`: bytes 148 to 156, taken for spaces).
fn summed(bytes: &[u8]) -> Vec<u8> {
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
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory can be written to")
}
