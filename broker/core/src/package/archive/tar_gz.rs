//! Inspects a gzip-compressed tar archive to its last byte, and rejects ambiguous content.

use std::cell::{Cell, RefCell};
use std::io::{self, BufRead, BufReader, Read};

use flate2::GzHeader;
use flate2::bufread::GzDecoder;
use tar::{Archive, Entry, EntryType, PaxExtensions};

use super::header::HeaderCheck;
use super::listing::{EntryKind, Listing};
use super::{ArchiveError, ArchiveFile, Deadline};

/// Maximum overhead in bytes per allowed entry: headers and padding in the unpacked stream.
const MAX_OVERHEAD_PER_ENTRY: u64 = 4_096;

/// Maximum size in bytes of one entry's headers, including the map of a sparse file.
///
/// The library reads headers into memory. [`HeaderCheck`] has lower limits for long names and extended
/// headers.
const MAX_HEADER_BYTES: u64 = 64 * 1_024;

/// Maximum number of gzip members in addition to one for each allowed entry.
///
/// Each member costs time, also if it is empty. Programs that make an archive seekable write one
/// member for each entry, or for each 64 KiB.
const MAX_EXTRA_MEMBERS: usize = 4_096;

/// Length of the end marker of a tar archive in bytes: two blocks of zeros.
const END_MARKER_LEN: u64 = 1_024;

pub(super) fn read(disk: ArchiveFile<'_>, listing: &mut Listing<'_>) -> Result<(), ArchiveError> {
    let mut disk = BufReader::with_capacity(64 * 1_024, disk);
    if !disk.fill_buf().is_ok_and(|first| first.starts_with(&[0x1f, 0x8b])) {
        return Err(ArchiveError::archive("is not compressed with gzip"));
    }
    let limits = listing.limits();
    let budget =
        ReadBudget {
            left: Cell::new(limits.unpacked_bytes.saturating_add(
                MAX_OVERHEAD_PER_ENTRY.saturating_mul(limits.entries as u64 + 256),
            )),
            headers: Cell::new(None),
            exceeded: Cell::new(None),
            zeros: Cell::new(0),
            check: RefCell::new(HeaderCheck::new(limits.entries)),
            deadline: listing.deadline(),
        };
    let members_left = limits.entries.saturating_add(MAX_EXTRA_MEMBERS);
    let stream = GzipMembers { member: Some(GzDecoder::new(disk)), members_left, budget: &budget };
    let mut archive = Archive::new(BudgetedReader { stream, budget: &budget });
    let outcome = entries(&mut archive, &budget, listing);
    let outcome = outcome.and_then(|()| check_end(archive.into_inner()));
    match budget.exceeded.take() {
        Some(Exceeded::Stream) => {
            Err(ArchiveError::archive(format_args!("is too large: {}", listing.too_large())))
        }
        Some(Exceeded::Headers) => {
            Err(ArchiveError::archive("has an entry with headers of more than 64 KiB"))
        }
        Some(Exceeded::Members) => {
            Err(ArchiveError::archive("has too many gzip members; compress it as one stream"))
        }
        Some(Exceeded::Rejected(error)) => Err(error),
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
        let raw_name = entry.path_bytes().into_owned();
        let name = listing.add(&raw_name, kind)?;
        check_entry(&mut entry, &name, kind)?;
        let size = entry.size();
        if kind == EntryKind::File {
            listing.begin_file(&raw_name, size);
        }
        listing.measure(&name, size, &mut entry)?;
        last = Some(name);
    }
}

fn damaged(after: Option<&str>) -> ArchiveError {
    match after {
        None => ArchiveError::archive("is not a gzip-compressed tar archive, or is truncated"),
        Some(name) => {
            ArchiveError::archive(format_args!("is damaged or truncated after its entry `{name}`"))
        }
    }
}

/// Rejects entries that are not regular files or folders, and ambiguous entries.
///
/// It also rejects links inside the archive, because a program may follow a link when it writes a later
/// entry.
fn check_entry<R: Read>(
    entry: &mut Entry<'_, R>,
    name: &str,
    kind: EntryKind,
) -> Result<(), ArchiveError> {
    let rejected = |problem: &str| Err(ArchiveError::entry(name, problem));
    let header = entry.header();
    match header.entry_type() {
        EntryType::Regular | EntryType::Directory => {}
        EntryType::Symlink => return rejected("is a symbolic link; replace it with its target"),
        EntryType::Link => return rejected("is a hard link; replace it with its target"),
        EntryType::Char | EntryType::Block => return rejected("is a device"),
        EntryType::Fifo => return rejected("is a pipe"),
        EntryType::GNUSparse => return rejected("is a sparse file; pack it without holes"),
        _ => return rejected("is neither a file nor a folder"),
    }
    // Go reads the kind of an entry from these bits, and other programs ignore them.
    let other_kind = match kind {
        EntryKind::File => !0o107_777,
        EntryKind::Folder | EntryKind::Implied => !0o047_777,
    };
    match (header.mode(), kind) {
        (Err(_), _) => return rejected("is damaged"),
        (Ok(mode), EntryKind::File) if mode & 0o6000 != 0 => {
            return rejected("is set-user-id or set-group-id");
        }
        (Ok(mode), _) if mode & 0o4000 != 0 => return rejected("is set-user-id"),
        (Ok(mode), _) if mode & other_kind != 0 => {
            return rejected("has a mode that marks it as something else");
        }
        (Ok(mode), EntryKind::File) if mode & 0o400 == 0 => {
            return Err(ArchiveError::unusable(name, mode, kind));
        }
        (Ok(mode), EntryKind::Folder) if mode & 0o500 != 0o500 => {
            return Err(ArchiveError::unusable(name, mode, kind));
        }
        _ => {}
    }
    if kind == EntryKind::Folder && entry.size() != 0 {
        return rejected("is a folder with data");
    }
    let Ok(records) = entry.pax_extensions() else { return rejected("is damaged") };
    let mut paths = 0;
    for record in records.into_iter().flatten() {
        let Ok(record) = record else { return rejected("has a damaged extended header") };
        match record.key_bytes() {
            b"size" => {
                return rejected(
                    "has its size in an extended header, which is only necessary above 8 GB",
                );
            }
            b"path" if paths > 0 => return rejected("has two names"),
            b"path" => paths += 1,
            key if key.starts_with(b"GNU.sparse.") => {
                return rejected("is a sparse file; pack it without holes");
            }
            _ => {}
        }
    }
    Ok(())
}

/// Accepts the global header of `git archive`, a comment with the commit, and rejects any other.
///
/// Only some programs apply a global header to entries, so its other fields are ambiguous.
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
    let no_records = entry
        .pax_extensions()
        .is_ok_and(|records| records.is_none_or(|mut records| records.next().is_none()));
    if whole && no_records {
        Ok(())
    } else {
        Err(ArchiveError::archive("has a global header with more than a comment"))
    }
}

/// Checks that only zeros follow the last entry, at least two blocks of them.
fn check_end<R: BufRead>(
    mut stream: BudgetedReader<'_, GzipMembers<'_, R>>,
) -> Result<(), ArchiveError> {
    let mut buffer = vec![0; 32 * 1_024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) if buffer.iter().take(count).all(|byte| *byte == 0) => {}
            Ok(_) => return Err(ArchiveError::archive("has data after its end marker")),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(ArchiveError::archive("is damaged or truncated at its end")),
        }
    }
    if stream.budget.zeros.get() < END_MARKER_LEN {
        return Err(ArchiveError::archive("has no end marker, so it is truncated"));
    }
    let mut disk = stream.stream.member.map(GzDecoder::into_inner);
    if disk.as_mut().is_some_and(|disk| disk.fill_buf().is_ok_and(<[u8]>::is_empty)) {
        Ok(())
    } else {
        Err(ArchiveError::archive("has data after the end of the gzip stream"))
    }
}

/// Reads all members of a gzip file as one stream (RFC 1952, section 2.2).
///
/// Go, Python and GNU gzip do the same. It stops before data that does not begin a member: Python
/// ignores zeros there, and Go does not.
struct GzipMembers<'a, R> {
    /// The current member. It is `None` only while the next one begins.
    member: Option<GzDecoder<R>>,
    /// How many more members may begin.
    members_left: usize,
    budget: &'a ReadBudget,
}

impl<R: BufRead> Read for GzipMembers<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let count = member.read(buffer)?;
            if member.header().is_some_and(has_overlong_text) {
                let error = "has a gzip header with a name or a comment of more than 511 bytes";
                let error = ArchiveError::archive(error);
                self.budget.exceeded.set(Some(Exceeded::Rejected(error)));
                return Err(io::Error::other("too long"));
            }
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            if member.get_mut().fill_buf()?.first() != Some(&0x1f) {
                return Ok(0);
            }
            let Some(left) = self.members_left.checked_sub(1) else {
                self.budget.exceeded.set(Some(Exceeded::Members));
                return Err(io::Error::other("too much"));
            };
            self.members_left = left;
            self.member = self.member.take().map(|ended| GzDecoder::new(ended.into_inner()));
        }
        Ok(0)
    }
}

/// The longest name or comment in a gzip header that Go reads, in bytes.
const MAX_GZIP_TEXT: usize = 511;

/// Returns whether Go, and so Terraform, rejects a gzip header because of its name or comment.
fn has_overlong_text(header: &GzHeader) -> bool {
    [header.filename(), header.comment()].into_iter().flatten().any(|it| it.len() > MAX_GZIP_TEXT)
}

/// How many bytes of the unpacked stream the reader may still read.
struct ReadBudget {
    left: Cell<u64>,
    /// How many bytes of headers the reader may still read. `None` outside of headers.
    headers: Cell<Option<u64>>,
    exceeded: Cell<Option<Exceeded>>,
    /// Number of zeros at the end of the stream so far.
    zeros: Cell<u64>,
    check: RefCell<HeaderCheck>,
    deadline: Deadline,
}

/// The reason why the reader stopped.
enum Exceeded {
    Stream,
    Headers,
    Members,
    Rejected(ArchiveError),
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
        let deadline = budget.deadline.check();
        let checked = deadline.and_then(|()| budget.check.borrow_mut().feed(&buffer[..count]));
        if let Err(error) = checked {
            return exceeded(Exceeded::Rejected(error));
        }
        let zeros = buffer.iter().take(count).rev().take_while(|byte| **byte == 0).count();
        budget.zeros.set(if zeros == count { budget.zeros.get() + read } else { zeros as u64 });
        Ok(count)
    }
}
