//! Packs a module's folder into a reproducible zip archive: the same files give the same bytes.
//!
//! It skips what does not belong to a module, and rejects secrets and files that it cannot pack. The
//! inspection follows afterwards.

mod archived;
mod ignore;
mod open;
mod secrets;
mod selection;

#[cfg(test)]
mod tests;

use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use stile_core::package::archive::ArchiveLimits;
use walkdir::{DirEntry, WalkDir};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

pub(crate) use self::archived::findings;
use self::ignore::IgnoreRules;
pub(crate) use self::ignore::Pattern;
use self::open::{OpenError, Root};
use self::secrets::Verdict;
use self::selection::{Choice, Selection};

/// The file with the rules of Terraform, at the top level of the module's folder.
const IGNORE_FILE: &str = ".terraformignore";

/// Maximum size of that file in bytes.
const MAX_IGNORE_FILE: u64 = 64 * 1_024;

/// A packed folder.
#[derive(Debug)]
pub(crate) struct PackedFolder {
    /// The archive. Dropping it deletes the file.
    pub(crate) file: File,
    /// The skipped files and folders, sorted. The name of a folder ends with `/`.
    pub(crate) skipped: Vec<String>,
    /// The folders whose name `.terraformignore` excludes, although it includes the files in them.
    pub(crate) only_name_excluded: Vec<String>,
    /// The patterns that match no packed file.
    pub(crate) unmatched: Vec<String>,
}

/// The files in an archive that the program would not pack from a folder.
#[derive(Debug, Default)]
pub(crate) struct ArchiveFindings {
    /// The files that the program would skip, such as state and variables.
    pub(crate) strangers: Vec<String>,
    /// The files that the program would refuse, each with the kind of its secret.
    pub(crate) secrets: Vec<(String, &'static str)>,
    /// The patterns that match no file.
    pub(crate) unmatched: Vec<String>,
}

/// The reason why a folder cannot be packed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackError {
    /// An entry is not supported.
    #[error("`{}` {problem}", shown(.path))]
    Rejected {
        /// The entry.
        path: PathBuf,
        /// The problem with it.
        problem: String,
    },
    /// The folder contains secrets.
    #[error("`{}` contains secrets: {secrets}", shown(.path))]
    Secrets {
        /// The folder.
        path: PathBuf,
        /// The files, each with the kind of its secret.
        secrets: String,
    },
    /// The folder exceeds a limit of archives.
    #[error("`{}` is too large for a module: {limit}", shown(.path))]
    TooLarge {
        /// The folder.
        path: PathBuf,
        /// The limit.
        limit: String,
    },
    /// An entry cannot be read.
    #[error("`{}` cannot be read", shown(.path))]
    Unreadable {
        /// The entry.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The archive cannot be written.
    #[error("the archive cannot be written")]
    Unwritable(#[source] io::Error),
}

/// Packs the content of the folder, with the folder's own files at the top level.
///
/// The patterns select files that the program would leave out or refuse.
///
/// # Errors
///
/// [`PackError`]. A folder with secrets is an error, which names all of them.
pub(crate) fn pack(folder: &Path, include: &[Pattern]) -> Result<PackedFolder, PackError> {
    let content = folder_content(folder, include, &ArchiveLimits::default())?;
    let FolderContent { root, files, mut skipped, mut secrets, only_name_excluded } = content;
    let file = tempfile::tempfile().map_err(PackError::Unwritable)?;
    let mut archive = ZipWriter::new(BufWriter::new(file));
    for entry in &files {
        let data = entry.read(&root)?;
        let verdict = if entry.is_included { Verdict::Pack } else { secrets::of_content(&data) };
        match verdict {
            Verdict::Pack => {}
            Verdict::Skip => {
                skipped.push(printable(&entry.name));
                continue;
            }
            Verdict::Refuse(kind) => {
                secrets.push((printable(&entry.name), kind));
                continue;
            }
        }
        // Real times and owners would give different archives for the same module.
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(DateTime::default())
            .unix_permissions(mode(&entry.metadata));
        archive
            .start_file(entry.name.as_str(), options)
            .map_err(|error| PackError::Unwritable(error.into()))?;
        archive.write_all(&data).map_err(PackError::Unwritable)?;
    }
    if !secrets.is_empty() {
        secrets.sort_unstable();
        let secrets: Vec<String> =
            secrets.iter().map(|(name, kind)| format!("`{name}` ({kind})")).collect();
        return Err(PackError::Secrets { path: folder.to_owned(), secrets: secrets.join(", ") });
    }
    skipped.sort_unstable();
    let written = archive.finish().map_err(|error| PackError::Unwritable(error.into()))?;
    let file = written.into_inner().map_err(|error| PackError::Unwritable(error.into_error()))?;
    let matches = |pattern: &&Pattern| files.iter().any(|file| pattern.matches(&file.name));
    let unmatched =
        include.iter().filter(|pattern| !matches(pattern)).map(ToString::to_string).collect();
    Ok(PackedFolder { file, skipped, only_name_excluded, unmatched })
}

struct FileToPack {
    name: String,
    /// The path for messages.
    path: PathBuf,
    /// The path below the folder, without symbolic links. For a link, it is the path of the file to
    /// which the link leads.
    inside: PathBuf,
    metadata: Metadata,
    /// Whether the publisher asked for this file, so that it may contain a secret.
    is_included: bool,
}

impl FileToPack {
    /// Reads the file, if it has not changed since the walk.
    fn read(&self, root: &Root) -> Result<Vec<u8>, PackError> {
        let unreadable = |source| PackError::Unreadable { path: self.path.clone(), source };
        let changed = || rejected(&self.path, "changed while it was packed");
        let file = root.file(&self.inside).map_err(|error| match error {
            OpenError::Changed => changed(),
            OpenError::Unreadable(source) => unreadable(source),
        })?;
        let mut content = Vec::new();
        (&file).take(self.metadata.len() + 1).read_to_end(&mut content).map_err(unreadable)?;
        let now = file.metadata().map_err(unreadable)?;
        let time = |metadata: &Metadata| metadata.modified().ok();
        if !now.is_file()
            || content.len() as u64 != self.metadata.len()
            || time(&now) != time(&self.metadata)
        {
            return Err(changed());
        }
        Ok(content)
    }
}

/// The files of a folder, by what the program does with them.
struct FolderContent {
    root: Root,
    /// The files to pack, sorted by name.
    files: Vec<FileToPack>,
    skipped: Vec<String>,
    /// The files that the program refuses, each with the kind of its secret.
    secrets: Vec<(String, &'static str)>,
    only_name_excluded: Vec<String>,
}

/// Walks through the folder, and selects its files by their paths.
fn folder_content(
    folder: &Path,
    include: &[Pattern],
    limits: &ArchiveLimits,
) -> Result<FolderContent, PackError> {
    let unreadable = |source| PackError::Unreadable { path: folder.to_owned(), source };
    let real = fs::canonicalize(folder).map_err(unreadable)?;
    let selection = Selection { rules: ignore_rules(folder, &real)?, include };
    let mut found = FolderContent {
        root: Root::open(&real).map_err(unreadable)?,
        files: Vec::new(),
        skipped: Vec::new(),
        secrets: Vec::new(),
        only_name_excluded: Vec::new(),
    };
    let mut bytes = 0_u64;
    let mut walk = WalkDir::new(folder).min_depth(1).into_iter();
    while let Some(entry) = walk.next() {
        let entry = entry.map_err(|error| walk_failure(folder, error))?;
        let name = entry.path().strip_prefix(folder).ok().and_then(name_of);
        let name = name.ok_or_else(|| rejected(entry.path(), "has a name that is not UTF-8"))?;
        if entry.file_type().is_dir() {
            if selection.skips_folder(&name) {
                walk.skip_current_dir();
                found.skipped.push(printable(&format!("{name}/")));
            } else if selection.excludes_only_name(&name) {
                found.only_name_excluded.push(printable(&name));
            }
            continue;
        }
        let (choice, inside) = if entry.path_is_symlink() {
            choose_link(&entry, &name, &real, &selection)?
        } else {
            (selection.file(&name), PathBuf::from(&name))
        };
        let is_included = match choice {
            Choice::Pack => false,
            Choice::Include => true,
            Choice::Skip => {
                found.skipped.push(printable(&name));
                continue;
            }
            Choice::Refuse(kind) => {
                found.secrets.push((printable(&name), kind));
                continue;
            }
        };
        let path = entry.path().to_owned();
        let metadata = fs::symlink_metadata(real.join(&inside))
            .map_err(|source| PackError::Unreadable { path: path.clone(), source })?;
        if !metadata.is_file() {
            return Err(rejected(entry.path(), "is neither a file nor a folder"));
        }
        bytes = bytes.saturating_add(metadata.len());
        found.files.push(FileToPack { name, path, inside, metadata, is_included });
        if bytes > limits.unpacked_bytes || found.files.len() > limits.entries {
            let limit = format!(
                "the maximum is {} bytes in {} files",
                limits.unpacked_bytes, limits.entries
            );
            return Err(PackError::TooLarge { path: folder.to_owned(), limit });
        }
    }
    found.files.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

/// Chooses what to do with a symbolic link, and returns the path of the file to pack below the folder.
///
/// It rejects a link that leads out of the folder, because it could publish any file.
fn choose_link(
    link: &DirEntry,
    name: &str,
    root: &Path,
    selection: &Selection<'_>,
) -> Result<(Choice, PathBuf), PackError> {
    let refused = |problem| rejected(link.path(), problem);
    let choice = selection.file(name);
    if matches!(choice, Choice::Skip | Choice::Refuse(_)) {
        return Ok((choice, PathBuf::from(name)));
    }
    let is_absent = |error: &io::Error| {
        error.kind() == io::ErrorKind::NotFound
            || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
    };
    let target = match fs::canonicalize(link.path()) {
        Err(error) if is_absent(&error) => {
            return Err(refused("is a symbolic link that leads to no file; delete it"));
        }
        found => found
            .map_err(|source| PackError::Unreadable { path: link.path().to_owned(), source })?,
    };
    let Ok(inside) = target.strip_prefix(root) else {
        return Err(refused(
            "is a symbolic link that leads out of the folder; replace it with its target",
        ));
    };
    if target.is_dir() {
        return Err(refused("is a symbolic link to a folder; replace it with its target"));
    }
    if choice == Choice::Include {
        return Ok((choice, inside.to_owned()));
    }
    let target =
        name_of(inside).ok_or_else(|| refused("leads to a file whose name is not UTF-8"))?;
    Ok((selection.target(&target), inside.to_owned()))
}

/// Reads the rules in the folder's `.terraformignore`, if it has one.
fn ignore_rules(folder: &Path, root: &Path) -> Result<IgnoreRules, PackError> {
    let path = folder.join(IGNORE_FILE);
    let unreadable = |source| PackError::Unreadable { path: path.clone(), source };
    let refused = |problem: &str| rejected(&path, problem);
    let target = match fs::canonicalize(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(IgnoreRules::default());
        }
        found => found.map_err(unreadable)?,
    };
    if !target.starts_with(root) {
        return Err(refused(
            "is a symbolic link that leads out of the folder; replace it with its target",
        ));
    }
    let metadata = fs::metadata(&target).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(refused("is not a file"));
    }
    if metadata.len() > MAX_IGNORE_FILE {
        return Err(refused("is larger than 64 KiB"));
    }
    let text = String::from_utf8(fs::read(&target).map_err(unreadable)?)
        .map_err(|_| refused("is not UTF-8"))?;
    IgnoreRules::parse(&text).map_err(|error| refused(&error.to_string()))
}

/// Returns a relative path with `/` between its parts.
fn name_of(path: &Path) -> Option<String> {
    let parts: Option<Vec<&str>> = path.iter().map(|part| part.to_str()).collect();
    Some(parts?.join("/"))
}

/// Prepares a path for a message.
fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

/// Prepares a name for a message: control characters could change what a terminal shows.
fn printable(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Returns the permissions in the archive. Only the executable bit belongs to the module.
fn mode(metadata: &Metadata) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    if metadata.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 }
}

fn rejected(path: &Path, problem: &str) -> PackError {
    PackError::Rejected { path: path.to_owned(), problem: problem.to_owned() }
}

fn walk_failure(folder: &Path, error: walkdir::Error) -> PackError {
    PackError::Unreadable { path: error.path().unwrap_or(folder).to_owned(), source: error.into() }
}
