//! Plans changes to files, shows them as a diff, and applies each one atomically.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use similar::TextDiff;
use terraform_credentials_stile::private_file;

use crate::terraform;
use crate::verb::VerbFailure;

/// Timeout for the lock of a file that another process changes.
const LOCK_LIMIT: Duration = Duration::from_secs(10);

/// The current content of a text file. A file that does not exist is empty.
#[derive(Debug, Clone)]
pub(crate) struct TextFile {
    /// The path as the user knows it.
    pub(crate) path: PathBuf,
    /// The path after following symbolic links.
    real_path: PathBuf,
    /// The text.
    pub(crate) content: String,
    permissions: Option<fs::Permissions>,
}

impl TextFile {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self, VerbFailure> {
        let failed = |error: io::Error| {
            VerbFailure::new(format!("cannot read `{}`: {error}", path.display()))
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

    /// Plans a change to this text, or `None` if the text is equal. It rejects a read-only file.
    pub(crate) fn changed_to(&self, after: String) -> Result<Option<FileChange>, VerbFailure> {
        if after == self.content {
            return Ok(None);
        }
        if self.permissions.as_ref().is_some_and(fs::Permissions::readonly) {
            let path = self.path.display();
            return Err(VerbFailure::new(format!("`{path}` is read-only"))
                .hint(format!("run `chmod u+w {path}` to allow the change")));
        }
        Ok(Some(FileChange::TextFile { file: self.clone(), after }))
    }

    fn write(&self, after: &str) -> io::Result<()> {
        let mut temporary = temporary_file(&self.real_path)?;
        temporary.write_all(after.as_bytes())?;
        // A new file keeps the mode of the temporary file: only its owner may read it.
        if let Some(permissions) = &self.permissions {
            temporary.as_file().set_permissions(permissions.clone())?;
        }
        temporary.as_file().sync_all()?;
        temporary.persist(&self.real_path)?;
        Ok(())
    }
}

/// One planned change.
#[derive(Debug)]
pub(crate) enum FileChange {
    /// Replace the content of a text file.
    TextFile {
        /// The file.
        file: TextFile,
        /// The new text.
        after: String,
    },
    /// Copy this program.
    Program {
        /// The running program.
        from: PathBuf,
        /// The path in Terraform's plugin folder.
        to: PathBuf,
    },
}

impl FileChange {
    /// Renders the change as a diff.
    pub(crate) fn diff(&self) -> String {
        match self {
            Self::TextFile { file, after } => {
                let path = file.path.display().to_string();
                let (before, after): (Vec<_>, Vec<_>) =
                    (file.content.lines().collect(), after.lines().collect());
                // No context lines: a CLI configuration may contain tokens.
                TextDiff::from_slices(&before, &after)
                    .unified_diff()
                    .context_radius(0)
                    .header(&path, &path)
                    .to_string()
            }
            Self::Program { from, to } => format!("copy {} to {}\n", from.display(), to.display()),
        }
    }

    /// Describes the applied change in one line.
    pub(crate) fn summary(&self) -> String {
        match self {
            Self::TextFile { file, .. } => format!("wrote `{}`", file.path.display()),
            Self::Program { to, .. } => format!("copied the program to `{}`", to.display()),
        }
    }

    /// Locks a text file, so that no other install changes it. Copying a program needs no lock.
    pub(crate) fn lock(&self) -> Result<Option<fs::File>, VerbFailure> {
        let Self::TextFile { file, .. } = self else { return Ok(None) };
        let unlocked = || VerbFailure::new(format!("cannot lock `{}`", file.path.display()));
        let lock = private_file::lock(&file.real_path, LOCK_LIMIT);
        lock.map(Some).map_err(|_| {
            unlocked().hint("check for another running install, and that its folder is writable")
        })
    }

    /// Applies the change.
    pub(crate) fn apply(&self) -> Result<(), VerbFailure> {
        let (path, made) = match self {
            Self::TextFile { file, after } => (&file.path, file.write(after)),
            Self::Program { from, to } => (to, copy_program(from, to)),
        };
        made.map_err(|error| {
            VerbFailure::new(format!("cannot write `{}`: {error}", path.display()))
        })
    }
}

/// Plans a copy of the running program for each folder that lacks it.
pub(crate) fn programs(folders: &[PathBuf]) -> Result<Vec<FileChange>, VerbFailure> {
    let from = std::env::current_exe().and_then(fs::canonicalize)?;
    let program = fs::read(&from)?;
    let mut changes = Vec::new();
    for folder in folders {
        let to = folder.join(terraform::program_name());
        if fs::read(&to).is_ok_and(|existing| existing == program) && is_executable(&to) {
            continue;
        }
        changes.push(FileChange::Program { from: from.clone(), to });
    }
    Ok(changes)
}

/// Tells whether the operating system would execute the file.
#[cfg(unix)]
pub(crate) fn is_executable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

/// Tells whether the operating system would execute the file.
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

/// Creates a temporary file in the folder of the file that it will replace.
fn temporary_file(path: &Path) -> io::Result<tempfile::NamedTempFile> {
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    tempfile::NamedTempFile::new_in(folder)
}
