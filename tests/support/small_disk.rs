//! Mounts a small file system in memory, which a test can fill.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::statvfs;
use rustix::process::geteuid;
use tempfile::TempDir;

use crate::skipped::{skipped, tool};

/// A small disk. Dropping it unmounts the disk.
#[derive(Debug)]
pub struct SmallDisk(TempDir);

impl SmallDisk {
    /// Mounts a disk of that many MiB.
    ///
    /// If the test cannot mount anything, it records a skip and returns `None`.
    pub fn mount(mib: u64) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = tool("mount").filter(|_| geteuid().is_root()).is_some_and(|mount| {
            let mounted = Command::new(mount)
                .args(["-t", "tmpfs", "-o", &format!("size={mib}m,mode=700"), "stile"])
                .arg(folder.path())
                .output();
            mounted.unwrap().status.success()
        });
        if !mounted {
            skipped("mount", "a disk without free space, not replaced by a limit");
            return None;
        }
        Some(Self(folder))
    }

    /// Returns the folder of the disk.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Returns the number of free bytes.
    pub fn free(&self) -> u64 {
        let found = statvfs(self.path()).unwrap();
        found.f_bavail * found.f_frsize
    }

    /// Fills the disk to its last page.
    pub fn fill(&self) {
        let mut filling = File::options().create(true).append(true).open(self.filling()).unwrap();
        let full =
            std::iter::repeat_with(|| filling.write_all(&[0; 4096])).find_map(Result::err).unwrap();
        assert_eq!(full.kind(), ErrorKind::StorageFull);
    }

    /// Deletes what [`Self::fill`] wrote.
    ///
    /// It truncates the file first: a process that another test is starting may still hold it open.
    pub fn clear(&self) {
        File::create(self.filling()).unwrap();
        std::fs::remove_file(self.filling()).unwrap();
    }

    fn filling(&self) -> PathBuf {
        self.path().join("filling")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}
