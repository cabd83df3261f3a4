//! Reads the files that matter from an archive.

use std::collections::HashSet;
use std::fs::File;

use stile_core::package::Format;
use stile_core::package::archive::{ArchiveError, ArchivedFile, inspect_and_read};

use crate::assemble::{SourceFile, assemble};
use crate::limits::Limits;
use crate::model::Metadata;
use crate::names::{Folder, Kind, classify};

/// Reads what an archive says about its module.
///
/// It inspects the archive again, by the same rules, and parses the files of configuration in the
/// root, in `modules/*` and in `examples/*`. It blocks the thread. Afterwards, the file position is
/// undefined.
///
/// # Errors
///
/// [`ArchiveError`], if the archive itself is invalid or the disk fails. A file in it that does not
/// parse is a warning of the result.
pub fn read(file: &mut File, format: Format, limits: &Limits) -> Result<Metadata, ArchiveError> {
    let mut selection = Selection::new(limits);
    let wants = |file: &ArchivedFile| selection.wants(file);
    let contents = inspect_and_read(file, format, &limits.archive, wants)?;
    let files = contents.into_iter().filter_map(|read| {
        let (folder, kind) = classify(&read.file.path)?;
        let is_cut = read.file.bytes > read.content.len() as u64;
        Some(SourceFile { path: read.file.path, folder, kind, content: read.content, is_cut })
    });
    Ok(assemble(files.collect(), selection.warnings, limits))
}

/// Selects the files to read, within the limits.
pub(crate) struct Selection<'a> {
    limits: &'a Limits,
    files_left: usize,
    bytes_left: usize,
    folders: HashSet<Folder>,
    skipped: usize,
    pub(crate) warnings: Vec<(Option<String>, String)>,
}

impl<'a> Selection<'a> {
    pub(crate) fn new(limits: &'a Limits) -> Self {
        Self {
            limits,
            files_left: limits.files,
            bytes_left: limits.total_bytes,
            folders: HashSet::from([Folder::Root]),
            skipped: 0,
            warnings: Vec::new(),
        }
    }

    /// Returns how many bytes of a file to read, if any.
    pub(crate) fn wants(&mut self, file: &ArchivedFile) -> Option<usize> {
        let (folder, kind) = classify(&file.path)?;
        let is_readme = matches!(kind, Kind::Readme { .. });
        if is_readme && folder == Folder::Root {
            return Some(self.limits.readme_bytes);
        }
        let limit = if is_readme { self.limits.readme_bytes } else { self.limits.file_bytes };
        let size = usize::try_from(file.bytes).unwrap_or(usize::MAX);
        // The file is read only to its end or not at all, so a longer one takes no space.
        let bytes = match (size > limit, is_readme) {
            (true, true) => limit,
            (true, false) => 0,
            (false, _) => size,
        };
        let is_known = self.folders.contains(&folder);
        let fits = self.files_left > 0
            && bytes <= self.bytes_left
            && (is_known || self.folders.len() < self.limits.folders);
        if !fits {
            self.skipped += 1;
            if self.skipped == 1 {
                let message =
                    "and some later files of the archive were not read, because it has too many";
                self.warnings.push((Some(file.path.clone()), message.to_owned()));
            }
            return None;
        }
        self.files_left -= 1;
        self.bytes_left -= bytes;
        self.folders.insert(folder);
        Some(bytes)
    }
}
