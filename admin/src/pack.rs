//! Packs a module's folder into a reproducible zip archive: the same files give the same bytes.
//!
//! It rejects only files that it cannot pack. The inspection follows afterwards.

use std::fs::{File, Metadata};
use std::io::{self, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use stile_core::package::archive::ArchiveLimits;
use walkdir::{DirEntry, WalkDir};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

/// A packed folder.
#[derive(Debug)]
pub(crate) struct PackedFolder {
    /// The archive. Dropping it deletes the file.
    pub(crate) file: File,
    /// The skipped files of Terraform state.
    pub(crate) state: Vec<String>,
}

/// The reason why a folder cannot be packed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackError {
    /// An entry is not supported.
    #[error("`{}` {problem}", .path.display())]
    Rejected {
        /// The entry.
        path: PathBuf,
        /// The problem with it.
        problem: &'static str,
    },
    /// The folder exceeds a limit of archives.
    #[error("`{}` is too large for a module: {limit}", .path.display())]
    TooLarge {
        /// The folder.
        path: PathBuf,
        /// The limit.
        limit: String,
    },
    /// An entry cannot be read.
    #[error("`{}` cannot be read", .path.display())]
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
pub(crate) fn pack(folder: &Path) -> Result<PackedFolder, PackError> {
    let (files, state) = files(folder, &ArchiveLimits::default())?;
    let file = tempfile::tempfile().map_err(PackError::Unwritable)?;
    let mut archive = ZipWriter::new(BufWriter::new(file));
    for entry in &files {
        // Real times and owners would give different archives for the same module.
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(DateTime::default())
            .unix_permissions(mode(&entry.metadata));
        archive
            .start_file(entry.name.as_str(), options)
            .map_err(|error| PackError::Unwritable(error.into()))?;
        archive.write_all(&entry.read()?).map_err(PackError::Unwritable)?;
    }
    let written = archive.finish().map_err(|error| PackError::Unwritable(error.into()))?;
    let file = written.into_inner().map_err(|error| PackError::Unwritable(error.into_error()))?;
    Ok(PackedFolder { file, state })
}

struct FileToPack {
    name: String,
    path: PathBuf,
    metadata: Metadata,
}

impl FileToPack {
    /// Reads the file, if it has not changed since the walk.
    ///
    /// It does not follow a symbolic link that replaced the file. Otherwise, another local user could
    /// publish any file that the operator can read.
    fn read(&self) -> Result<Vec<u8>, PackError> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let unreadable = |source| PackError::Unreadable { path: self.path.clone(), source };
        let changed = || PackError::Rejected {
            path: self.path.clone(),
            problem: "changed while it was packed",
        };
        let flags = rustix::fs::OFlags::NOFOLLOW
            | rustix::fs::OFlags::NONBLOCK
            | rustix::fs::OFlags::CLOEXEC;
        let file = match File::options()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(&self.path)
        {
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
                return Err(changed());
            }
            opened => opened.map_err(unreadable)?,
        };
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

/// Returns the files to pack, sorted by name, and the names of the skipped state files.
fn files(
    folder: &Path,
    limits: &ArchiveLimits,
) -> Result<(Vec<FileToPack>, Vec<String>), PackError> {
    let (mut files, mut state, mut bytes) = (Vec::new(), Vec::new(), 0_u64);
    let walk =
        WalkDir::new(folder).min_depth(1).into_iter().filter_entry(|entry| !is_skipped(entry));
    for entry in walk {
        let entry = entry.map_err(|error| unreadable(folder, error))?;
        let refused = |problem| PackError::Rejected { path: entry.path().to_owned(), problem };
        if entry.path_is_symlink() {
            return Err(refused(
                "is a symbolic link, which cannot be published; replace it with its target",
            ));
        }
        if entry.file_type().is_dir() {
            continue;
        }
        let name =
            name(folder, entry.path()).ok_or_else(|| refused("has a name that is not UTF-8"))?;
        if is_state(&name) {
            state.push(name);
            continue;
        }
        if !entry.file_type().is_file() {
            return Err(refused("is neither a file nor a folder"));
        }
        let metadata = entry.metadata().map_err(|error| unreadable(folder, error))?;
        bytes = bytes.saturating_add(metadata.len());
        files.push(FileToPack { name, path: entry.path().to_owned(), metadata });
        if bytes > limits.unpacked_bytes || files.len() > limits.entries {
            let limit = format!(
                "the maximum is {} bytes in {} files",
                limits.unpacked_bytes, limits.entries
            );
            return Err(PackError::TooLarge { path: folder.to_owned(), limit });
        }
    }
    files.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    state.sort_unstable();
    Ok((files, state))
}

/// Returns whether an entry does not belong to the module: Git history, and files of `terraform init`.
fn is_skipped(entry: &DirEntry) -> bool {
    entry.file_name() == ".git" || entry.file_name() == ".terraform" && entry.file_type().is_dir()
}

/// Returns whether a file is Terraform state or a backup, which contain secrets in plain text.
fn is_state(name: &str) -> bool {
    name.rsplit('/').next().is_some_and(|name| name.contains(".tfstate"))
}

/// Returns the path relative to the folder, with `/` between its parts.
fn name(folder: &Path, path: &Path) -> Option<String> {
    let parts: Option<Vec<&str>> =
        path.strip_prefix(folder).ok()?.iter().map(|part| part.to_str()).collect();
    Some(parts?.join("/"))
}

/// Returns the permissions in the archive. Only the executable bit belongs to the module.
fn mode(metadata: &Metadata) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    if metadata.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 }
}

fn unreadable(folder: &Path, error: walkdir::Error) -> PackError {
    PackError::Unreadable { path: error.path().unwrap_or(folder).to_owned(), source: error.into() }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Seek as _;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::time::{Duration, SystemTime};

    use stile_core::package::Format;
    use stile_core::package::archive::inspect;

    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("# {name}\n")).unwrap();
        }
        folder
    }

    fn bytes(folder: &Path) -> Vec<u8> {
        let mut file = pack(folder).unwrap().file;
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn names(folder: &Path) -> Vec<String> {
        let archive = zip::ZipArchive::new(io::Cursor::new(bytes(folder))).unwrap();
        let mut names: Vec<String> =
            archive.file_names().map(|name| name.unwrap().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn every_symbolic_link_is_rejected() {
        for target in ["main.tf", "../elsewhere", "/etc/passwd", "."] {
            let folder = folder(&["main.tf"]);
            symlink(target, folder.path().join("link")).unwrap();
            let error = pack(folder.path()).unwrap_err().to_string();
            assert!(error.contains("/link` is a symbolic link"), "{error}");
        }
    }

    #[test]
    fn special_files_and_large_folders_are_rejected() {
        let piped = folder(&["main.tf"]);
        let _listener =
            std::os::unix::net::UnixListener::bind(piped.path().join("socket")).unwrap();
        assert!(
            pack(piped.path()).unwrap_err().to_string().contains("is neither a file nor a folder")
        );
        let two = folder(&["a.tf", "b.tf"]);
        for limits in [
            ArchiveLimits { entries: 1, ..ArchiveLimits::default() },
            ArchiveLimits { unpacked_bytes: 8, ..ArchiveLimits::default() },
        ] {
            assert!(
                matches!(files(two.path(), &limits), Err(PackError::TooLarge { .. })),
                "{limits:?}"
            );
        }
        assert!(matches!(pack(&two.path().join("missing")), Err(PackError::Unreadable { .. })));
    }

    #[test]
    fn a_file_that_changes_during_packing_is_rejected() {
        let later = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let changes: [fn(&Path); 5] = [
            |path| fs::write(path, "longer than it was\n").unwrap(),
            |path| fs::write(path, "").unwrap(),
            |path| {
                fs::remove_file(path).unwrap();
                symlink("/etc/passwd", path).unwrap();
            },
            |path| {
                fs::remove_file(path).unwrap();
                assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
            },
            |path| {
                File::options()
                    .write(true)
                    .open(path)
                    .unwrap()
                    .set_modified(SystemTime::UNIX_EPOCH)
                    .unwrap();
            },
        ];
        for (at, change) in changes.into_iter().enumerate() {
            let folder = folder(&["main.tf"]);
            let path = folder.path().join("main.tf");
            File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
            let (walked, _) = files(folder.path(), &ArchiveLimits::default()).unwrap();
            assert!(walked[0].read().is_ok());
            change(&path);
            let error = walked[0].read().unwrap_err().to_string();
            assert!(
                error.ends_with("/main.tf` changed while it was packed"),
                "number {at}: {error}"
            );
        }
    }

    #[test]
    fn the_archive_does_not_depend_on_times_and_permissions() {
        let names =
            ["main.tf", "modules/b/main.tf", "modules/a/main.tf", "README.md", "a/z", "a-b"];
        let (one, other) = (folder(&names), folder(&names.map(|name| name)));
        for (at, name) in names.iter().enumerate() {
            let path = other.path().join(name);
            let time =
                SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 + at as u64 * 86_400);
            File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        fs::create_dir(other.path().join("empty")).unwrap();
        assert_eq!(bytes(one.path()), bytes(other.path()));
        fs::set_permissions(other.path().join("main.tf"), fs::Permissions::from_mode(0o700))
            .unwrap();
        assert_ne!(
            bytes(one.path()),
            bytes(other.path()),
            "the executable bit belongs to the module"
        );
    }

    #[test]
    fn git_history_downloads_and_state_are_skipped_but_not_the_lock_file() {
        let folder = folder(&[
            ".git/config",
            ".terraform/modules/modules.json",
            ".terraform.lock.hcl",
            ".gitignore",
            "main.tf",
            "terraform.tfstate",
            "examples/a/.terraform/x",
            "examples/a/main.tf",
            "examples/a/terraform.tfstate.backup",
            "examples/a/.terraform.tfstate.lock.info",
            "modules/b/.git",
            "modules/b/main.tf",
            "terraform/main.tf",
        ]);
        let expected = [
            ".gitignore",
            ".terraform.lock.hcl",
            "examples/a/main.tf",
            "main.tf",
            "modules/b/main.tf",
            "terraform/main.tf",
        ];
        assert_eq!(names(folder.path()), expected);
        let state = [
            "examples/a/.terraform.tfstate.lock.info",
            "examples/a/terraform.tfstate.backup",
            "terraform.tfstate",
        ];
        assert_eq!(pack(folder.path()).unwrap().state, state);
    }

    #[test]
    fn a_folder_with_a_name_that_a_system_cannot_hold_is_rejected_before_it_is_sent() {
        for (name, word) in [
            ("aux.tf", "Windows device"),
            ("NUL/main.tf", "Windows device"),
            ("com1.json", "Windows device"),
            ("LPT\u{b9}.txt", "Windows device"),
            ("conin$", "Windows device"),
            ("what?.tf", "Windows does not allow"),
            ("a<b>.tf", "Windows does not allow"),
            ("a|b/main.tf", "Windows does not allow"),
            ("a:b.tf", "`:`"),
            ("main.tf.", "dot or a space"),
            ("a /main.tf", "dot or a space"),
            ("cafe\u{301}.tf", "normal form"),
        ] {
            let folder = folder(&["main.tf", "caf\u{e9}.tf", name]);
            let mut packed = pack(folder.path()).unwrap();
            let outcome = inspect(&mut packed.file, Format::Zip, &ArchiveLimits::default());
            let message = outcome.unwrap_err().to_string();
            assert!(message.contains(word), "{name}: {message}");
        }
    }

    #[test]
    fn files_get_a_mode_that_lets_their_owner_read_them() {
        let folder = folder(&["main.tf", "modules/a/main.tf", "run.sh"]);
        for (name, mode) in [("main.tf", 0o600), ("modules/a/main.tf", 0o466), ("run.sh", 0o700)] {
            let path = folder.path().join(name);
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let mut archive = zip::ZipArchive::new(io::Cursor::new(bytes(folder.path()))).unwrap();
        for (name, mode) in [("main.tf", 0o644), ("modules/a/main.tf", 0o644), ("run.sh", 0o755)] {
            let entry = archive.by_name(name).unwrap();
            assert_eq!(entry.unix_mode(), Some(0o100_000 | mode), "{name}");
        }
        assert_eq!(
            archive.len(),
            3,
            "folders have no entries, so that programs choose their modes"
        );
    }

    #[test]
    fn a_packed_folder_passes_the_inspection_of_the_broker() {
        let folder = folder(&["main.tf", "modules/a/main.tf", "run.sh"]);
        fs::set_permissions(folder.path().join("run.sh"), fs::Permissions::from_mode(0o777))
            .unwrap();
        fs::write(folder.path().join("large.bin"), vec![7; 300_000]).unwrap();
        let mut packed = pack(folder.path()).unwrap();
        let contents = inspect(&mut packed.file, Format::Zip, &ArchiveLimits::default()).unwrap();
        assert_eq!(contents.files, 4);
        let link = tempfile::tempdir().unwrap();
        symlink(folder.path(), link.path().join("module")).unwrap();
        assert_eq!(
            bytes(&link.path().join("module")),
            bytes(folder.path()),
            "a link to the folder gives the same archive"
        );
    }
}
