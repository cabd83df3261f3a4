//! The folder of an export: its marker, its lock, and how a file gets there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use stile_protocol::audience::Audience;
use stile_store::sync_folder;
use tempfile::NamedTempFile;
use terraform_credentials_stile::message::one_line;
use walkdir::WalkDir;

use super::path::{Owner, TreePath};
use crate::error::CommandError;

/// The file that says that a folder is an export, and of which registry.
const MARKER: &str = ".stile-export.json";

/// The file whose lock one export at a time has.
const LOCK: &str = ".stile-export.lock";

/// The beginning of the names of files that are not complete.
const PARTIAL: &str = ".stile-partial-";

/// The format of the tree. A program refuses a later one.
const FORMAT: u64 = 1;

/// The permissions of each file, less those that the umask removes. Web servers must read it.
const MODE: u32 = 0o644;

/// The folder of an export.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    dry_run: bool,
    /// The folders with names that a crash of the machine can still take back.
    unsynced: Mutex<BTreeSet<PathBuf>>,
    /// Dropping it releases the lock.
    _lock: Option<File>,
}

/// What a write did, or would do in a dry run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// The file has these bytes already.
    Unchanged,
    /// The file is new, or has other bytes now.
    Changed,
}

/// A file that is not complete. Dropping it deletes the file.
#[derive(Debug)]
pub(super) struct Partial {
    file: NamedTempFile,
    target: PathBuf,
}

impl Folder {
    /// Opens the folder for an export of this registry. Creates it, if it does not exist.
    ///
    /// A dry run changes nothing, and takes no lock.
    ///
    /// # Errors
    ///
    /// [`CommandError`], if the folder is not empty and not an export of this registry, or if another
    /// program writes to it.
    pub(crate) fn open(root: &Path, host: &Audience, dry_run: bool) -> Result<Self, CommandError> {
        check(root, host)?;
        if dry_run {
            return Ok(Self::new(root, dry_run, None));
        }
        fs::create_dir_all(root).map_err(|error| cannot("create", root, &error))?;
        let lock = lock(root)?;
        let folder = Self::new(root, dry_run, Some(lock));
        // Another program can have written to the folder before this one got the lock.
        if !check(root, host)? {
            let marker = json!({ "format": FORMAT, "registry": host.as_str() });
            folder.begin_at(root.join(MARKER))?.finish_with(format!("{marker:#}\n").as_bytes())?;
        }
        Ok(folder)
    }

    fn new(root: &Path, dry_run: bool, lock: Option<File>) -> Self {
        Self { root: root.to_owned(), dry_run, unsynced: Mutex::default(), _lock: lock }
    }

    /// Makes the names of all files that were written survive a crash of the machine. Their content does
    /// already.
    ///
    /// Call it before a file is written that names them. Otherwise, a web server could serve an index of
    /// files that are gone.
    pub(crate) fn sync(&self) -> Result<(), CommandError> {
        let unsynced = std::mem::take(&mut *self.unsynced());
        let mut folders = unsynced.iter();
        folders.try_for_each(|folder| {
            sync_folder(folder).map_err(|error| cannot("sync", folder, &error))
        })
    }

    fn unsynced(&self) -> std::sync::MutexGuard<'_, BTreeSet<PathBuf>> {
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the files of packages in the folder. It deletes what an interrupted export left.
    pub(crate) fn inventory(&self) -> Result<BTreeMap<TreePath, Owner>, CommandError> {
        let mut found = BTreeMap::new();
        if !self.root.exists() {
            return Ok(found);
        }
        for entry in WalkDir::new(&self.root) {
            let entry = entry.map_err(|error| {
                CommandError::failed_because(
                    format_args!("cannot read `{}`", self.root.display()),
                    &error,
                )
            })?;
            if !entry.file_type().is_file() {
                continue;
            }
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(PARTIAL)) {
                if !self.dry_run {
                    fs::remove_file(entry.path())
                        .map_err(|error| cannot("delete", entry.path(), &error))?;
                }
                continue;
            }
            let relative = entry.path().strip_prefix(&self.root).ok().and_then(Path::to_str);
            if let Some((path, owner)) = relative.and_then(TreePath::parse) {
                found.insert(path, owner);
            }
        }
        Ok(found)
    }

    /// Writes a file, unless it has these bytes already.
    pub(crate) fn write(&self, path: &TreePath, bytes: &[u8]) -> Result<Written, CommandError> {
        let target = path.below(&self.root);
        let is_same = fs::symlink_metadata(&target)
            .is_ok_and(|found| found.is_file() && found.len() == bytes.len() as u64)
            && fs::read(&target).is_ok_and(|found| found == bytes);
        if is_same {
            return Ok(Written::Unchanged);
        }
        if !self.dry_run {
            self.begin(path)?.finish_with(bytes)?;
        }
        Ok(Written::Changed)
    }

    /// Returns whether the folder has a file with this SHA-256. It reads the whole file.
    pub(super) async fn has(&self, path: &TreePath, sha256: &str) -> Result<bool, CommandError> {
        let (target, sha256) = (path.below(&self.root), sha256.to_owned());
        let shown = target.clone();
        let hashing = tokio::task::spawn_blocking(move || {
            digest(&target).map(|found| found.is_some_and(|found| found == sha256))
        });
        match hashing.await {
            Ok(found) => found.map_err(|error| cannot("read", &shown, &error)),
            Err(error) => Err(CommandError::failed_because("cannot compute a digest", &error)),
        }
    }

    /// Begins to write a file.
    pub(super) fn begin(&self, path: &TreePath) -> Result<Partial, CommandError> {
        let target = path.below(&self.root);
        let mut folder = self.root.clone();
        let parts: Vec<&str> = path.as_str().split('/').collect();
        for part in parts.iter().take(parts.len().saturating_sub(1)) {
            let parent = folder.clone();
            folder.push(part);
            if create_folder(&folder)? {
                self.unsynced().insert(parent);
            }
        }
        self.begin_at(target)
    }

    fn begin_at(&self, target: PathBuf) -> Result<Partial, CommandError> {
        let folder = target.parent().unwrap_or(&self.root).to_owned();
        let file = tempfile::Builder::new()
            .prefix(PARTIAL)
            .permissions(Permissions::from_mode(MODE))
            .tempfile_in(&folder)
            .map_err(|error| cannot("write to", &folder, &error))?;
        self.unsynced().insert(folder);
        Ok(Partial { file, target })
    }

    /// Deletes a file, and the folders that are empty then.
    pub(crate) fn remove(&self, path: &TreePath) -> Result<(), CommandError> {
        if self.dry_run {
            return Ok(());
        }
        let target = path.below(&self.root);
        match fs::remove_file(&target) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(cannot("delete", &target, &error));
            }
            _ => {}
        }
        let mut folder = target.parent();
        while let Some(empty) = folder.filter(|folder| *folder != self.root) {
            if fs::remove_dir(empty).is_err() {
                break;
            }
            folder = empty.parent();
        }
        Ok(())
    }
}

impl Partial {
    /// Adds bytes to the file.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), CommandError> {
        self.file.write_all(bytes).map_err(|error| cannot("write", &self.target, &error))
    }

    /// Gives the complete file its name. It replaces an earlier file at once, so a reader gets one of
    /// the two, also after a crash of the machine. [`Folder::sync`] makes the new name stay.
    pub(super) fn finish(self) -> Result<(), CommandError> {
        let Self { file, target } = self;
        file.as_file().sync_all().map_err(|error| cannot("write", &target, &error))?;
        match file.persist(&target) {
            Ok(_) => Ok(()),
            Err(error) => Err(cannot("write", &target, &error.error)),
        }
    }

    fn finish_with(mut self, bytes: &[u8]) -> Result<(), CommandError> {
        self.write(bytes)?;
        self.finish()
    }
}

/// Creates a folder of the tree. It refuses a symbolic link there: files would get to another folder.
/// Returns whether the folder is new.
fn create_folder(folder: &Path) -> Result<bool, CommandError> {
    match fs::create_dir(folder) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            if fs::symlink_metadata(folder).is_ok_and(|found| found.is_dir()) {
                return Ok(false);
            }
            Err(CommandError::failed(format!("`{}` is not a folder", folder.display()))
                .hint("delete it, or name another folder"))
        }
        Err(error) => Err(cannot("create", folder, &error)),
    }
}

/// Checks that the folder is empty or an export of this registry. Returns whether it has the marker.
fn check(root: &Path, host: &Audience) -> Result<bool, CommandError> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(cannot("read", root, &error)),
    };
    let marker = match fs::read(root.join(MARKER)) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // Nothing but what this program creates before the marker.
            for entry in entries {
                let name = entry.map_err(|error| cannot("read", root, &error))?.file_name();
                let ours = name.to_str().is_some_and(|name| {
                    name == LOCK || name == MARKER || name.starts_with(PARTIAL)
                });
                if !ours {
                    return Err(CommandError::failed(format!(
                        "the folder `{}` is not empty, and it is not an export",
                        root.display()
                    ))
                    .hint("name a new folder"));
                }
            }
            return Ok(false);
        }
        Err(error) => return Err(cannot("read", &root.join(MARKER), &error)),
    };
    let marker: Value = serde_json::from_slice(&marker).unwrap_or_default();
    let (Some(format), Some(registry)) = (marker["format"].as_u64(), marker["registry"].as_str())
    else {
        return Err(CommandError::failed(format!(
            "`{}` is not the marker of an export",
            root.join(MARKER).display()
        ))
        .hint("name a new folder"));
    };
    if format > FORMAT {
        return Err(CommandError::failed(format!(
            "the export in `{}` has format {format}, and this release knows only {FORMAT}",
            root.display()
        ))
        .hint("use a later release, or name a new folder"));
    }
    if registry != host.as_str() {
        return Err(CommandError::failed(format!(
            "the folder `{}` is an export of the registry `{}`, not of `{host}`",
            root.display(),
            one_line(registry)
        ))
        .hint("name another folder"));
    }
    Ok(true)
}

fn lock(root: &Path) -> Result<File, CommandError> {
    let path = root.join(LOCK);
    let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = opened.map_err(|error| cannot("open", &path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(CommandError::failed(format!("another program exports to `{}`", root.display()))
                .hint("wait for its end, and try again"))
        }
        Err(TryLockError::Error(error)) => Err(cannot("lock", &path, &error)),
    }
}

/// Computes the SHA-256 of a file in lower-case hex. `None` if there is no such file.
fn digest(path: &Path) -> io::Result<Option<String>> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => {}
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let (mut file, mut digest) = (File::open(path)?, Sha256::new());
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Some(hex::encode(digest.finalize()))),
            length => digest.update(buffer.get(..length).unwrap_or_default()),
        }
    }
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> CommandError {
    CommandError::failed_because(format_args!("cannot {what} `{}`", path.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Audience {
        Audience::parse(text).unwrap()
    }

    #[test]
    fn a_folder_of_something_else_is_refused_and_stays_as_it_is() {
        let (folder, ours) = (tempfile::tempdir().unwrap(), host("registry.example.com"));
        let root = folder.path();
        let refused = |problem: &str| {
            let before = fs::read_dir(root).unwrap().count();
            let error = Folder::open(root, &ours, false).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
            assert_eq!(fs::read_dir(root).unwrap().count(), before, "{problem}");
        };
        fs::write(root.join("index.html"), "").unwrap();
        refused("is not empty, and it is not an export");
        for (marker, problem) in [
            ("", "is not the marker of an export"),
            ("[]", "is not the marker of an export"),
            (r#"{"format":1}"#, "is not the marker of an export"),
            (r#"{"format":2,"registry":"registry.example.com"}"#, "has format 2"),
            (r#"{"format":1,"registry":"other.example.com"}"#, "of the registry `other.example"),
        ] {
            fs::write(root.join(MARKER), marker).unwrap();
            refused(problem);
        }
    }

    #[test]
    fn one_program_at_a_time_writes_and_a_dry_run_writes_nothing() {
        let (folder, ours) = (tempfile::tempdir().unwrap(), host("registry.example.com"));
        let root = folder.path().join("new");
        Folder::open(&root, &ours, true).unwrap().write(&TreePath::discovery(), b"x").unwrap();
        assert!(!root.exists());
        let first = Folder::open(&root, &ours, false).unwrap();
        let error = Folder::open(&root, &ours, false).unwrap_err().to_string();
        assert!(error.contains("another program exports to"), "{error}");
        assert_eq!(first.write(&TreePath::discovery(), b"x").unwrap(), Written::Changed);
        assert_eq!(first.write(&TreePath::discovery(), b"x").unwrap(), Written::Unchanged);
        drop(first);
        Folder::open(&root, &ours, false).unwrap();
    }

    #[test]
    fn each_folder_with_a_new_name_is_synced_once() {
        let (folder, ours) = (tempfile::tempdir().unwrap(), host("registry.example.com"));
        let root = folder.path().join("new");
        let export = Folder::open(&root, &ours, false).unwrap();
        export.write(&TreePath::discovery(), b"x").unwrap();
        let expected: BTreeSet<_> = [root.clone(), root.join(".well-known")].into();
        assert_eq!(*export.unsynced(), expected);
        export.sync().unwrap();
        assert!(export.unsynced().is_empty());
        assert_eq!(export.write(&TreePath::discovery(), b"x").unwrap(), Written::Unchanged);
        assert!(export.unsynced().is_empty());
        assert_eq!(export.write(&TreePath::discovery(), b"y").unwrap(), Written::Changed);
        assert_eq!(*export.unsynced(), [root.join(".well-known")].into());

        fs::remove_dir_all(&root).unwrap();
        let error = export.sync().unwrap_err().to_string();
        assert!(error.contains("cannot sync"), "{error}");
    }

    #[test]
    fn a_symbolic_link_in_the_tree_leads_nowhere() {
        let (folder, ours) = (tempfile::tempdir().unwrap(), host("registry.example.com"));
        let (root, other) = (folder.path().join("new"), folder.path().join("other"));
        fs::create_dir(&other).unwrap();
        let export = Folder::open(&root, &ours, false).unwrap();
        std::os::unix::fs::symlink(&other, root.join(".well-known")).unwrap();
        let error = export.write(&TreePath::discovery(), b"x").unwrap_err().to_string();
        assert!(error.contains("is not a folder"), "{error}");
        assert_eq!(fs::read_dir(&other).unwrap().count(), 0);
    }
}
