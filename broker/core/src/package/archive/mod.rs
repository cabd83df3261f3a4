//! Looks through an archive that somebody sent, before any of it is kept, and refuses what would not unpack alike and safely everywhere.
//!
//! Nothing is written and no entry is held in memory. An archive is refused as soon as two programs could read two different things in
//! it: what is checked here must be what Terraform unpacks.

#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod listing;
mod tar_gz;
mod zip;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use self::listing::Listing;

/// The formats in which a module can be published; Terraform knows them by the ending of the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Zip.
    Zip,
    /// A tar archive, compressed with gzip.
    TarGz,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 2] = [Self::Zip, Self::TarGz];

    /// What the archive's file name ends in, without a leading dot.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Zip => "zip",
            Self::TarGz => "tar.gz",
        }
    }

    /// The format of that ending.
    pub fn from_extension(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.extension() == text)
    }

    /// The media type (RFC 6713 for gzip).
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Zip => "application/zip",
            Self::TarGz => "application/gzip",
        }
    }

    /// The format of that media type, which has no parameters; upper and lower case are alike (RFC 9110, section 8.3.1).
    pub fn from_content_type(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.content_type().eq_ignore_ascii_case(text))
    }

    /// The format that a file's first four bytes promise.
    pub fn sniff(first: &[u8]) -> Option<Self> {
        match first {
            [0x1f, 0x8b, ..] => Some(Self::TarGz),
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Some(Self::Zip),
            _ => None,
        }
    }
}

/// How much an archive may be.
///
/// The numbers bound what a bomb costs: a few kilobytes sent can ask for gigabytes to be unpacked. No size that an archive declares is
/// trusted; bytes are counted as they come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveLimits {
    /// Bytes in all files together, unpacked.
    pub unpacked_bytes: u64,
    /// Files and folders, those included that only a path names.
    pub entries: usize,
}

impl Default for ArchiveLimits {
    fn default() -> Self {
        Self { unpacked_bytes: 100_000_000, entries: 10_000 }
    }
}

/// What is in a good archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveContents {
    /// How many files.
    pub files: usize,
    /// Their bytes, unpacked.
    pub unpacked_bytes: u64,
}

/// Why an archive is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Its sender must mend it.
    #[error("{message}")]
    Rejected {
        /// One sentence that names the entry.
        message: String,
        /// The next step, where there is one.
        hint: Option<&'static str>,
    },
    /// The file it was put in cannot be read, which says nothing of the archive.
    #[error("the archive cannot be read back")]
    Unreadable(#[source] io::Error),
}

impl ArchiveError {
    /// The sender's next step, where there is one.
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Rejected { hint, .. } => *hint,
            Self::Unreadable(_) => None,
        }
    }

    fn archive(problem: impl std::fmt::Display) -> Self {
        Self::Rejected { message: format!("the archive {problem}"), hint: None }
    }

    fn entry(name: &str, problem: impl std::fmt::Display) -> Self {
        Self::Rejected { message: format!("the archive's entry `{name}` {problem}"), hint: None }
    }

    fn or_hint(self, hint: &'static str) -> Self {
        match self {
            Self::Rejected { message, .. } => Self::Rejected { message, hint: Some(hint) },
            unreadable => unreadable,
        }
    }
}

/// Reads the whole archive, every file in it to the end, and says what is in it.
///
/// Memory stays within some tens of megabytes, whatever was sent. Blocks while it reads. The file's position afterwards is of no meaning.
pub fn inspect(
    file: &mut File,
    format: Format,
    limits: &ArchiveLimits,
) -> Result<ArchiveContents, ArchiveError> {
    file.rewind().map_err(ArchiveError::Unreadable)?;
    let failure = RefCell::new(None);
    let disk = ArchiveFile { file, failure: &failure };
    let mut listing = Listing::new(limits);
    let outcome = match format {
        Format::Zip => zip::read(disk, &mut listing),
        Format::TarGz => tar_gz::read(disk, &mut listing),
    };
    if let Some(failure) = failure.take() {
        return Err(ArchiveError::Unreadable(failure));
    }
    outcome?;
    listing.finish()
}

/// The file on disk, which remembers that it failed: behind a decoder, a broken disk would pass for a broken archive.
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
    /// Fails for positions only that no file has, which is the archive's fault.
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.file.seek(position)
    }
}
