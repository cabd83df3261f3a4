//! Changes to files: planned as text, shown as a diff, made whole or not at all.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use similar::TextDiff;
use terraform_credentials_stile::private_file;

use crate::terraform;
use crate::verb::VerbFailure;

/// Longest wait for another process that changes the same file.
const LOCK_LIMIT: Duration = Duration::from_secs(10);

/// A text file as it is now; one that does not exist is empty.
#[derive(Debug, Clone)]
pub(crate) struct TextFile {
    /// Where the person sees it.
    pub(crate) path: PathBuf,
    /// Where it is, links followed.
    real_path: PathBuf,
    /// What it says.
    pub(crate) content: String,
    permissions: Option<fs::Permissions>,
}

impl TextFile {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self, VerbFailure> {
        let failed = |error: io::Error| {
            VerbFailure::new(format!("`{}` cannot be read: {error}", path.display()))
        };
        let real_path = match fs::canonicalize(path) {
            Ok(real_path) => real_path,
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && fs::symlink_metadata(path).is_err() =>
            {
                return Ok(Self {
                    path: path.to_owned(),
                    real_path: path.to_owned(),
                    content: String::new(),
                    permissions: None,
                });
            }
            Err(error) => return Err(failed(error)),
        };
        let content = fs::read_to_string(&real_path).map_err(failed)?;
        let permissions = Some(fs::metadata(&real_path).map_err(failed)?.permissions());
        Ok(Self { path: path.to_owned(), real_path, content, permissions })
    }

    /// The change to that text, if it is one; what its owner made read-only is not replaced, though its folder would allow that.
    pub(crate) fn changed_to(&self, after: String) -> Result<Option<FileChange>, VerbFailure> {
        if after == self.content {
            return Ok(None);
        }
        if self.permissions.as_ref().is_some_and(fs::Permissions::readonly) {
            let path = self.path.display();
            return Err(VerbFailure::new(format!("`{path}` is read-only and stays as it is"))
                .hint(format!("chmod u+w {path}, if you mean it")));
        }
        Ok(Some(FileChange::TextFile { file: self.clone(), after }))
    }

    fn write(&self, after: &str) -> io::Result<()> {
        let mut temporary = temporary_file(&self.real_path)?;
        temporary.write_all(after.as_bytes())?;
        // A new file is for its owner alone, which is how it is made.
        if let Some(permissions) = &self.permissions {
            temporary.as_file().set_permissions(permissions.clone())?;
        }
        temporary.as_file().sync_all()?;
        temporary.persist(&self.real_path)?;
        Ok(())
    }
}

/// One thing to change.
#[derive(Debug)]
pub(crate) enum FileChange {
    /// A text becomes another.
    TextFile {
        /// The file.
        file: TextFile,
        /// What it is to say.
        after: String,
    },
    /// This program is copied.
    Program {
        /// From where it runs.
        from: PathBuf,
        /// To where Terraform looks.
        to: PathBuf,
    },
}

impl FileChange {
    /// What would change, for a person to read.
    pub(crate) fn diff(&self) -> String {
        match self {
            Self::TextFile { file, after } => {
                let path = file.path.display().to_string();
                let (before, after): (Vec<_>, Vec<_>) =
                    (file.content.lines().collect(), after.lines().collect());
                // No lines around the change: a CLI configuration holds tokens.
                TextDiff::from_slices(&before, &after)
                    .unified_diff()
                    .context_radius(0)
                    .header(&path, &path)
                    .to_string()
            }
            Self::Program { from, to } => format!("copy {} to {}\n", from.display(), to.display()),
        }
    }

    /// What was changed.
    pub(crate) fn summary(&self) -> String {
        match self {
            Self::TextFile { file, .. } => format!("wrote `{}`", file.path.display()),
            Self::Program { to, .. } => format!("copied the program to `{}`", to.display()),
        }
    }

    /// Keeps others from changing the text between the reading and the writing; a program is the same from whoever copies it.
    pub(crate) fn lock(&self) -> Result<Option<fs::File>, VerbFailure> {
        let Self::TextFile { file, .. } = self else { return Ok(None) };
        let unlocked = || VerbFailure::new(format!("`{}` cannot be locked", file.path.display()));
        let lock = private_file::lock(&file.real_path, LOCK_LIMIT);
        lock.map(Some).ok_or_else(|| {
            unlocked().hint("another install may be at it, or its folder cannot be written")
        })
    }

    /// Makes it.
    pub(crate) fn apply(&self) -> Result<(), VerbFailure> {
        let (path, made) = match self {
            Self::TextFile { file, after } => (&file.path, file.write(after)),
            Self::Program { from, to } => (to, copy_program(from, to)),
        };
        made.map_err(|error| {
            VerbFailure::new(format!("`{}` cannot be written: {error}", path.display()))
        })
    }
}

/// Copies of the running program that the folders still lack.
pub(crate) fn programs(folders: &[PathBuf]) -> Result<Vec<FileChange>, VerbFailure> {
    let from = std::env::current_exe().and_then(fs::canonicalize)?;
    let program = fs::read(&from)?;
    let mut changes = Vec::new();
    for folder in folders {
        let to = folder.join(terraform::program_name());
        if fs::read(&to).is_ok_and(|there| there == program) && is_executable(&to) {
            continue;
        }
        changes.push(FileChange::Program { from: from.clone(), to });
    }
    Ok(changes)
}

/// Whether the system would run it.
#[cfg(unix)]
pub(crate) fn is_executable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

/// Whether the system would run it.
#[cfg(not(unix))]
pub(crate) fn is_executable(path: &Path) -> bool {
    path.is_file()
}

fn copy_program(from: &Path, to: &Path) -> io::Result<()> {
    let mut temporary = temporary_file(to)?;
    io::copy(&mut fs::File::open(from)?, temporary.as_file_mut())?;
    #[cfg(unix)]
    temporary.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    temporary.persist(to)?;
    Ok(())
}

/// A new file beside the one it is going to replace.
fn temporary_file(path: &Path) -> io::Result<tempfile::NamedTempFile> {
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    tempfile::NamedTempFile::new_in(folder)
}
