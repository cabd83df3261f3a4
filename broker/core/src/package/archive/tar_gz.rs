//! Reads a tar archive in gzip to its last byte, and refuses what other readers would see differently.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::GzDecoder;
use tar::{Archive, Entry, EntryType, PaxExtensions};

use super::listing::{EntryKind, Listing};
use super::{ArchiveError, ArchiveFile};

/// EntryKind headers, padding and the end may take of the stream for each entry, beside the files.
const MAX_OVERHEAD_PER_ENTRY: u64 = 4_096;

/// The most that one entry's headers may take, long names and extended attributes included: they are read into memory whole, so without
/// this a name of gigabytes would be.
const MAX_HEADER_BYTES: u64 = 64 * 1_024;

/// Where a tar archive ends: two blocks of zeros.
const END_MARKER_LEN: u64 = 1_024;

pub(super) fn read(disk: ArchiveFile<'_>, listing: &mut Listing<'_>) -> Result<(), ArchiveError> {
    let mut disk = BufReader::with_capacity(64 * 1_024, disk);
    if !disk.fill_buf().is_ok_and(|first| first.starts_with(&[0x1f, 0x8b])) {
        return Err(ArchiveError::archive("is not compressed with gzip"));
    }
    let limits = listing.limits();
    let budget = ReadBudget::default();
    budget.left.set(
        limits
            .unpacked_bytes
            .saturating_add(MAX_OVERHEAD_PER_ENTRY.saturating_mul(limits.entries as u64 + 256)),
    );
    let mut archive =
        Archive::new(BudgetedReader { stream: GzDecoder::new(disk), budget: &budget });
    let outcome = entries(&mut archive, &budget, listing);
    let outcome = outcome.and_then(|()| check_end(archive.into_inner()));
    match budget.exceeded.take() {
        Some(Exceeded::Stream) => {
            Err(ArchiveError::archive(format_args!("is too large: {}", listing.too_large())))
        }
        Some(Exceeded::Headers) => {
            Err(ArchiveError::archive("has an entry with headers of more than 64 KiB"))
        }
        None => outcome,
    }
}

fn entries<R: Read>(
    archive: &mut Archive<R>,
    budget: &ReadBudget,
    listing: &mut Listing<'_>,
) -> Result<(), ArchiveError> {
    let mut last = None;
    let mut entries = archive.entries().map_err(|_| damaged(None))?;
    loop {
        budget.headers.set(Some(MAX_HEADER_BYTES));
        let next = entries.next();
        budget.headers.set(None);
        let Some(entry) = next else { return Ok(()) };
        let mut entry = entry.map_err(|_| damaged(last.as_deref()))?;
        if entry.header().entry_type() == EntryType::XGlobalHeader {
            listing.count_entry()?;
            check_global_header(&mut entry)?;
            continue;
        }
        let kind = if entry.header().entry_type() == EntryType::Directory {
            EntryKind::Folder
        } else {
            EntryKind::File
        };
        let name = listing.add(&entry.path_bytes(), kind)?;
        check_entry(&mut entry, &name, kind)?;
        let size = entry.size();
        listing.measure(&name, size, &mut entry)?;
        last = Some(name);
    }
}

fn damaged(after: Option<&str>) -> ArchiveError {
    match after {
        None => ArchiveError::archive("is not a tar archive in gzip, or is cut short"),
        Some(name) => {
            ArchiveError::archive(format_args!("is damaged or cut short after its entry `{name}`"))
        }
    }
}

/// Refuses entries that are no plain file or folder, and those of which two readers could make two things.
///
/// Links are refused even where they stay inside: whether a link is followed while the next entry is written is up to the program.
fn check_entry<R: Read>(
    entry: &mut Entry<'_, R>,
    name: &str,
    kind: EntryKind,
) -> Result<(), ArchiveError> {
    let refused = |problem: &str| Err(ArchiveError::entry(name, problem));
    let header = entry.header();
    match header.entry_type() {
        EntryType::Regular | EntryType::Directory => {}
        EntryType::Symlink => return refused("is a symbolic link; send the file it stands for"),
        EntryType::Link => return refused("is a hard link; send the file it stands for"),
        EntryType::Char | EntryType::Block => return refused("is a device"),
        EntryType::Fifo => return refused("is a pipe"),
        EntryType::GNUSparse => return refused("is a sparse file; pack it without holes"),
        _ => return refused("is neither a file nor a folder"),
    }
    if header.as_bytes().ends_with(b"tar\0") {
        return refused("has a header of the star format, whose paths are read in two ways");
    }
    match (header.mode(), kind) {
        (Err(_), _) => return refused("is damaged"),
        (Ok(mode), EntryKind::File) if mode & 0o6000 != 0 => {
            return refused("is set-user-id or set-group-id");
        }
        (Ok(mode), _) if mode & 0o4000 != 0 => return refused("is set-user-id"),
        _ => {}
    }
    if kind == EntryKind::Folder && entry.size() != 0 {
        return refused("is a folder with data of its own");
    }
    let Ok(records) = entry.pax_extensions() else { return refused("is damaged") };
    let mut paths = 0;
    for record in records.into_iter().flatten() {
        let Ok(record) = record else { return refused("has an extended header that is damaged") };
        match record.key_bytes() {
            b"size" => {
                return refused(
                    "has its size in an extended header, which only files over 8 GB need",
                );
            }
            b"path" if paths > 0 => return refused("has two names"),
            b"path" => paths += 1,
            key if key.starts_with(b"GNU.sparse.") => {
                return refused("is a sparse file; pack it without holes");
            }
            _ => {}
        }
    }
    Ok(())
}

/// Lets pass what `git archive` puts first: a comment with the commit. Anything else would change entries for some readers only.
fn check_global_header<R: Read>(entry: &mut Entry<'_, R>) -> Result<(), ArchiveError> {
    let mut data = Vec::new();
    let read = entry.by_ref().take(MAX_HEADER_BYTES + 1).read_to_end(&mut data);
    let plain = |records: PaxExtensions<'_>| {
        records
            .into_iter()
            .all(|record| record.is_ok_and(|record| record.key_bytes() == b"comment"))
    };
    let whole =
        read.is_ok_and(|count| count as u64 == entry.size()) && plain(PaxExtensions::new(&data));
    let alone = entry
        .pax_extensions()
        .is_ok_and(|records| records.is_none_or(|mut records| records.next().is_none()));
    if whole && alone {
        Ok(())
    } else {
        Err(ArchiveError::archive("has a global header with more than a comment in it"))
    }
}

/// After the last entry there may be zeros, at least two blocks of them, and then nothing.
fn check_end<R: BufRead>(mut stream: BudgetedReader<'_, GzDecoder<R>>) -> Result<(), ArchiveError> {
    let mut buffer = vec![0; 32 * 1_024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) if buffer.iter().take(count).all(|byte| *byte == 0) => {}
            Ok(_) => return Err(ArchiveError::archive("goes on after its end")),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(ArchiveError::archive("is damaged or cut short at its end")),
        }
    }
    if stream.budget.zeros.get() < END_MARKER_LEN {
        return Err(ArchiveError::archive("has no end: it is cut short"));
    }
    let mut disk = stream.stream.into_inner();
    if disk.fill_buf().is_ok_and(<[u8]>::is_empty) {
        Ok(())
    } else {
        Err(ArchiveError::archive("has something behind its end"))
    }
}

/// How much of the unpacked stream may still be read.
#[derive(Default)]
struct ReadBudget {
    left: Cell<u64>,
    /// While headers are read, how much of them.
    headers: Cell<Option<u64>>,
    exceeded: Cell<Option<Exceeded>>,
    /// How many zeros the stream ended in, so far.
    zeros: Cell<u64>,
}

enum Exceeded {
    Stream,
    Headers,
}

struct BudgetedReader<'a, R> {
    stream: R,
    budget: &'a ReadBudget,
}

impl<R: Read> Read for BudgetedReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        let (budget, read) = (self.budget, count as u64);
        let exceeded = |exceeded| {
            budget.exceeded.set(Some(exceeded));
            Err(io::Error::other("too much"))
        };
        let Some(left) = budget.left.get().checked_sub(read) else {
            return exceeded(Exceeded::Stream);
        };
        budget.left.set(left);
        if let Some(headers) = budget.headers.get() {
            let Some(headers) = headers.checked_sub(read) else {
                return exceeded(Exceeded::Headers);
            };
            budget.headers.set(Some(headers));
        }
        let zeros = buffer.iter().take(count).rev().take_while(|byte| **byte == 0).count();
        budget.zeros.set(if zeros == count { budget.zeros.get() + read } else { zeros as u64 });
        Ok(count)
    }
}
