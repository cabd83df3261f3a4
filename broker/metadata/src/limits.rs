//! The limits within which an archive is read.

use std::time::{Duration, Instant};

use stile_core::package::archive::ArchiveLimits;

/// The limits within which an archive is read.
///
/// What is past a limit is left out, with a warning. Depth has a fixed limit, because it protects
/// the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The limits of the archive itself. They are errors.
    pub archive: ArchiveLimits,
    /// Maximum size of one README in bytes. The rest of it is cut off.
    pub readme_bytes: usize,
    /// Maximum size of one file of configuration in bytes.
    pub file_bytes: usize,
    /// Maximum size of all files of configuration and READMEs in bytes. The root's README has its
    /// own limit only.
    pub total_bytes: usize,
    /// Maximum number of files.
    pub files: usize,
    /// Maximum number of folders: the root, submodules and examples.
    pub folders: usize,
    /// Maximum number of blocks in all files.
    pub blocks: usize,
    /// Maximum length of one text of a module in bytes, such as a default. The rest of it is cut
    /// off.
    pub text_bytes: usize,
    /// Maximum length of the result as JSON in bytes, approximately.
    pub output_bytes: usize,
    /// The time after which no other file is parsed.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            archive: ArchiveLimits::default(),
            readme_bytes: 256 << 10,
            file_bytes: 512 << 10,
            total_bytes: 4 << 20,
            files: 2_000,
            folders: 200,
            blocks: 10_000,
            text_bytes: 32 << 10,
            output_bytes: 2 << 20,
            time: Duration::from_secs(3),
        }
    }
}

/// The time after which no other file is parsed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    started: Instant,
    time: Duration,
}

impl Deadline {
    /// Begins now.
    pub(crate) fn after(time: Duration) -> Self {
        Self { started: Instant::now(), time }
    }

    pub(crate) fn has_passed(self) -> bool {
        self.started.elapsed() >= self.time
    }
}
