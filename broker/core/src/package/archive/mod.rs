//! Inspects archives before publication, and rejects those that do not unpack safely and identically
//! everywhere.
//!
//! It writes nothing and does not hold entries in memory. It rejects an archive that two programs
//! could interpret differently, because Terraform must unpack exactly the inspected content.

#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod header;
mod listing;
mod provider;
mod tar_gz;
mod zip;
mod zip_data;
mod zip_header;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::time::{Duration, Instant};

use self::listing::{EntryKind, Listing};
pub use self::provider::{InspectedProvider, inspect_provider, inspect_release_tarball};

/// The supported archive formats. Terraform recognises them by the end of the download URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// A zip archive.
    Zip,
    /// A tar archive, compressed with gzip.
    TarGz,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 2] = [Self::Zip, Self::TarGz];

    /// The number of bytes that [`Self::sniff`] needs.
    pub const SNIFFED: usize = 4;

    /// Returns the file name extension, without a leading dot.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Zip => "zip",
            Self::TarGz => "tar.gz",
        }
    }

    /// Returns the format with this extension.
    pub fn from_extension(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.extension() == text)
    }

    /// Returns the media type (RFC 6713 for gzip).
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Zip => "application/zip",
            Self::TarGz => "application/gzip",
        }
    }

    /// Returns the format with this media type. It ignores case (RFC 9110, section 8.3.1), and accepts
    /// no parameters.
    pub fn from_content_type(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.content_type().eq_ignore_ascii_case(text))
    }

    /// Returns the format that the first four bytes of a file indicate.
    pub fn sniff(first: &[u8]) -> Option<Self> {
        match first {
            [0x1f, 0x8b, ..] => Some(Self::TarGz),
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Some(Self::Zip),
            _ => None,
        }
    }
}

/// Limits on the content of an archive.
///
/// They bound the cost of a decompression bomb: a few kilobytes can unpack to gigabytes. The inspection
/// counts the unpacked bytes and does not trust the sizes that an archive declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveLimits {
    /// Maximum total size of all unpacked files in bytes.
    pub unpacked_bytes: u64,
    /// Maximum number of files and folders, including folders that appear only in paths.
    pub entries: usize,
    /// Maximum duration of the inspection.
    pub time: Duration,
}

impl Default for ArchiveLimits {
    fn default() -> Self {
        Self { unpacked_bytes: 100_000_000, entries: 10_000, time: Duration::from_secs(10) }
    }
}

impl ArchiveLimits {
    /// Returns the limits for the zip archive of a provider. The largest public ones unpack to 800 MB,
    /// in a few files.
    ///
    /// The time is for a busy machine with a slow disk. The memory depends only on the number of
    /// entries.
    pub const fn provider() -> Self {
        Self { unpacked_bytes: 4_000_000_000, entries: 1_000, time: Duration::from_secs(120) }
    }
}

/// A summary of an accepted archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveContents {
    /// Number of files.
    pub files: usize,
    /// Total size of the unpacked files in bytes.
    pub unpacked_bytes: u64,
}

/// A file in an accepted archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedFile {
    /// The path, relative to the module's folder and without a leading `./`.
    pub path: String,
    /// The size of the unpacked file in bytes.
    pub bytes: u64,
}

/// A file in an accepted archive, with its first bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileContent {
    /// The path and the size of the file.
    pub file: ArchivedFile,
    /// The first bytes of the file, as many as the caller wanted.
    pub content: Vec<u8>,
}

/// The reason why an archive was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The archive is invalid. Its sender must correct it.
    #[error("{message}")]
    Rejected {
        /// One sentence that names the entry.
        message: String,
        /// The next step for the sender, if known.
        hint: Option<&'static str>,
    },
    /// The inspection took longer than this. The archive may be valid, and the machine busy.
    #[error("the check of the archive takes longer than {} seconds", .0.as_secs())]
    TooSlow(Duration),
    /// A disk error, which does not mean that the archive is invalid.
    #[error("the archive cannot be read from disk")]
    Unreadable(#[source] io::Error),
}

impl ArchiveError {
    /// Returns the next step for the sender, if known.
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Rejected { hint, .. } => *hint,
            Self::TooSlow(_) => Some("try again later, or publish a smaller archive"),
            Self::Unreadable(_) => None,
        }
    }

    fn archive(problem: impl std::fmt::Display) -> Self {
        Self::Rejected { message: format!("the archive {problem}"), hint: None }
    }

    fn entry(name: &str, problem: impl std::fmt::Display) -> Self {
        Self::Rejected { message: format!("the archive's entry `{name}` {problem}"), hint: None }
    }

    /// Rejects an entry whose mode does not let its owner use it. Terraform unpacks the mode with the
    /// entry, so only root could use the module.
    fn unusable(name: &str, mode: u32, kind: EntryKind) -> Self {
        let use_it = if kind == EntryKind::Folder { "open" } else { "read" };
        let problem = format_args!(
            "has the mode {:04o}, which does not let its owner {use_it} it",
            mode & 0o7777
        );
        Self::entry(name, problem)
            .or_hint("run `chmod -R u+rX FOLDER` on the module's folder, and pack it again")
    }

    fn or_hint(self, hint: &'static str) -> Self {
        match self {
            Self::Rejected { message, .. } => Self::Rejected { message, hint: Some(hint) },
            other => other,
        }
    }
}

/// Inspects a whole archive: reads every file in it to its end.
///
/// It uses at most some tens of megabytes of memory for any input. It blocks the thread. Afterwards,
/// the file position is undefined.
///
/// # Errors
///
/// [`ArchiveError`], if the archive is invalid or the disk fails.
pub fn inspect(
    file: &mut File,
    format: Format,
    limits: &ArchiveLimits,
) -> Result<ArchiveContents, ArchiveError> {
    read(file, format, Listing::new(limits))?.finish()
}

/// Inspects a whole archive like [`inspect`], and returns its files in their order in the archive.
///
/// # Errors
///
/// [`ArchiveError`], if the archive is invalid or the disk fails.
pub fn inspect_and_list(
    file: &mut File,
    format: Format,
    limits: &ArchiveLimits,
) -> Result<Vec<ArchivedFile>, ArchiveError> {
    let mut listing = read(file, format, Listing::with_files(limits))?;
    let files = listing.take_files();
    listing.finish().map(|_| files)
}

/// Inspects a whole archive like [`inspect`], and returns the content of some files, in their order
/// in the archive.
///
/// It calls `wants` for each file, before it reads the file. The result is the largest number of
/// bytes to return of that file, or `None` to skip the file. The caller so bounds the memory.
///
/// # Errors
///
/// [`ArchiveError`], if the archive is invalid or the disk fails.
pub fn inspect_and_read(
    file: &mut File,
    format: Format,
    limits: &ArchiveLimits,
    mut wants: impl FnMut(&ArchivedFile) -> Option<usize>,
) -> Result<Vec<FileContent>, ArchiveError> {
    let mut listing = read(file, format, Listing::with_contents(limits, &mut wants))?;
    let contents = listing.take_contents();
    listing.finish().map(|_| contents)
}

fn read<'a>(
    file: &mut File,
    format: Format,
    mut listing: Listing<'a>,
) -> Result<Listing<'a>, ArchiveError> {
    file.rewind().map_err(ArchiveError::Unreadable)?;
    let failure = RefCell::new(None);
    let disk = ArchiveFile { file, failure: &failure };
    let outcome = match format {
        Format::Zip => zip::read(disk, &mut listing),
        Format::TarGz => tar_gz::read(disk, &mut listing),
    };
    if let Some(failure) = failure.take() {
        return Err(ArchiveError::Unreadable(failure));
    }
    outcome.map(|()| listing)
}

/// The time at which an inspection must have ended.
#[derive(Debug, Clone, Copy)]
struct Deadline {
    started: Instant,
    time: Duration,
}

impl Deadline {
    /// Begins now.
    fn after(time: Duration) -> Self {
        Self { started: Instant::now(), time }
    }

    /// Fails after the deadline. The inspection asks this for each part that it reads, because a small
    /// archive can cost much work.
    fn check(self) -> Result<(), ArchiveError> {
        if self.started.elapsed() < self.time {
            Ok(())
        } else {
            Err(ArchiveError::TooSlow(self.time))
        }
    }
}

/// The file on disk. It records disk errors, because a decoder would report them as an invalid archive.
#[derive(Clone, Copy)]
struct ArchiveFile<'a> {
    file: &'a File,
    failure: &'a RefCell<Option<io::Error>>,
}

impl Read for ArchiveFile<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer).inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                self.failure.replace(Some(io::Error::new(error.kind(), error.to_string())));
            }
        })
    }
}

impl Seek for ArchiveFile<'_> {
    /// Fails only for impossible positions, which come from an invalid archive. So it records nothing.
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.file.seek(position)
    }
}
