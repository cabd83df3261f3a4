//! Opens files of a folder without following a symbolic link in any part of their path.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

/// The folder that the program packs, held open.
#[derive(Debug)]
pub(super) struct Root(OwnedFd);

/// The reason why a file cannot be opened.
#[derive(Debug)]
pub(super) enum OpenError {
    /// A part of the path is now a symbolic link, or no folder any more.
    Changed,
    /// The error of the operating system.
    Unreadable(std::io::Error),
}

impl Root {
    /// Opens the folder at that path.
    pub(super) fn open(folder: &Path) -> std::io::Result<Self> {
        Ok(Self(openat(CWD, folder, folder_flags(), Mode::empty())?))
    }

    /// Opens a file at a path below the folder. The path must not have been a symbolic link anywhere.
    ///
    /// Another local user may have replaced a part of the path since the walk. The program does not
    /// follow a link then, because the link could lead to any file that the operator can read.
    pub(super) fn file(&self, path: &Path) -> Result<File, OpenError> {
        let mut parent: Option<OwnedFd> = None;
        let mut parts = path.iter().peekable();
        while let Some(part) = parts.next() {
            let within = parent.as_ref().unwrap_or(&self.0);
            let flags = if parts.peek().is_some() {
                folder_flags() | OFlags::NOFOLLOW
            } else {
                // A pipe that replaced the file must not block.
                OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC
            };
            let opened =
                openat(within, part, flags, Mode::empty()).map_err(|error| match error {
                    // FreeBSD and macOS have other codes for a link that must not be followed.
                    Errno::LOOP | Errno::NOTDIR | Errno::MLINK => OpenError::Changed,
                    other => OpenError::Unreadable(other.into()),
                })?;
            parent = Some(opened);
        }
        parent.map(File::from).ok_or(OpenError::Changed)
    }
}

const fn folder_flags() -> OFlags {
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read as _;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_in_any_part_of_the_path_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, outside) = (folder.path().join("in"), folder.path().join("out"));
        for place in [&inside, &outside] {
            fs::create_dir_all(place.join("a/b")).unwrap();
            fs::write(place.join("a/b/main.tf"), "").unwrap();
        }
        let root = Root::open(&inside).unwrap();
        assert!(root.file(Path::new("a/b/main.tf")).is_ok());
        let moved = folder.path().join("moved");
        for (part, target) in [("a", "a"), ("a/b", "a/b"), ("a/b/main.tf", "a/b/main.tf")] {
            fs::rename(inside.join(part), &moved).unwrap();
            symlink(outside.join(target), inside.join(part)).unwrap();
            let opened = root.file(Path::new("a/b/main.tf"));
            assert!(matches!(opened, Err(OpenError::Changed)), "{part}: {opened:?}");
            fs::remove_file(inside.join(part)).unwrap();
            fs::rename(&moved, inside.join(part)).unwrap();
        }
        let missing = root.file(Path::new("a/b/other.tf"));
        assert!(matches!(missing, Err(OpenError::Unreadable(_))), "{missing:?}");
    }

    #[test]
    fn a_folder_that_another_replaced_is_still_the_one_that_was_opened() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("module");
        fs::create_dir(&place).unwrap();
        fs::write(place.join("main.tf"), "first").unwrap();
        let root = Root::open(&place).unwrap();
        fs::rename(&place, folder.path().join("moved")).unwrap();
        fs::create_dir(&place).unwrap();
        fs::write(place.join("main.tf"), "second").unwrap();
        let mut text = String::new();
        root.file(Path::new("main.tf")).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "first");
    }
}
