//! Keeps a reserve of free disk space: an upload must leave it to all other writes.
//!
//! Mints, revocations, changes of grants and new keys write to the same file system. A publisher
//! that fills the disk must not stop them.

use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::statvfs;

use crate::{StoreError, StoreErrorKind};

/// The default reserve in bytes. The database's log alone needs some megabytes.
pub const DISK_RESERVE: u64 = 64 << 20;

/// The reserves that an operator can set, in MiB.
pub const DISK_RESERVE_MIB: RangeInclusive<u64> = 1..=1 << 20;

/// The number of new files that uploads leave to all other writes.
const FILE_RESERVE: u64 = 512;

/// The length of a small archive. If it does not fit, the disk counts as full.
const SMALL_ARCHIVE: u64 = 64 << 10;

/// The unit in which a file system allocates space.
const BLOCK: u64 = 4096;

/// The minimum time between two alarms, in seconds. Otherwise each refused upload would log one.
const ALARM_INTERVAL: i64 = 60;

/// Reads the free space of the file system that has this folder.
type Measure = fn(&Path) -> io::Result<FreeSpace>;

/// The free space of a file system.
#[derive(Debug, Clone, Copy)]
struct FreeSpace {
    bytes: u64,
    files: u64,
}

impl FreeSpace {
    fn of(folder: &Path) -> io::Result<Self> {
        let found = statvfs(folder)?;
        // A file system without a limit reports a size of zero.
        let bytes = match found.f_blocks {
            0 => u64::MAX,
            _ => found.f_bavail.saturating_mul(found.f_frsize),
        };
        let files = if found.f_files == 0 { u64::MAX } else { found.f_favail };
        Ok(Self { bytes, files })
    }
}

/// The free space of a data folder's file system, and what uploads of this process may still use.
#[derive(Debug)]
pub(crate) struct DiskSpace {
    folder: PathBuf,
    reserve: u64,
    measure: Measure,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The sum of all allocations in bytes.
    allocated: u64,
    /// The time of the last alarm.
    alarm_at: Option<i64>,
}

impl State {
    /// Returns whether an alarm is due, and records its time. A clock that was set back also makes
    /// one due.
    fn is_alarm_due(&mut self, now: i64) -> bool {
        let is_recent = |at| (0..ALARM_INTERVAL).contains(&now.saturating_sub(at));
        let due = !self.alarm_at.is_some_and(is_recent);
        if due {
            self.alarm_at = Some(now);
        }
        due
    }
}

impl DiskSpace {
    /// Creates the guard of a folder's file system, with a reserve in bytes.
    pub(crate) fn new(folder: &Path, reserve: u64) -> Self {
        let state = Mutex::default();
        Self { folder: folder.to_path_buf(), reserve, measure: FreeSpace::of, state }
    }

    /// Checks that a small archive fits.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let allocated = self.state().allocated;
        self.check_fit(allocated, SMALL_ARCHIVE)
    }

    /// Allocates space for an upload. Without an announced length, the allocation grows with each
    /// chunk.
    pub(crate) fn allocate(
        self: &Arc<Self>,
        announced: Option<u64>,
        now: i64,
    ) -> Result<SpaceAllocation, StoreError> {
        let total = announced.unwrap_or(0);
        let space = Some(Arc::clone(self));
        let mut allocation =
            SpaceAllocation { space, allocated: 0, total, received: 0, last_chunk: 0 };
        allocation.resize(total, now)?;
        Ok(allocation)
    }

    /// Checks that this many bytes fit, next to the allocations of others and the reserve.
    fn check_fit(&self, others: u64, bytes: u64) -> Result<(), StoreError> {
        let folder = self.folder.display();
        let free = (self.measure)(&self.folder).map_err(|error| {
            StoreError::unavailable(format!("cannot read the free space of `{folder}`"), error)
        })?;
        let allocated = others.saturating_add(bytes.div_ceil(BLOCK).saturating_mul(BLOCK));
        if free.bytes < self.reserve.saturating_add(allocated) {
            return Err(StoreError::full(format!(
                "the broker refuses to publish: `{folder}` has {} KiB of free disk space, and uploads must leave {} KiB; \
                 hint: free disk space on this file system",
                free.bytes >> 10,
                self.reserve >> 10,
            )));
        }
        if free.files < FILE_RESERVE {
            return Err(StoreError::full(format!(
                "the broker refuses to publish: the file system of `{folder}` can create {} more files, and uploads must \
                 leave {FILE_RESERVE}; hint: delete files on this file system",
                free.files
            )));
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The disk space that one upload may still use. Dropping it releases the space.
///
/// Bytes that are on the disk are no longer part of it: the free space shows them.
#[derive(Debug, Default)]
pub struct SpaceAllocation {
    /// `None`, if the archives are not on a disk.
    space: Option<Arc<DiskSpace>>,
    /// The part of the sum of all allocations.
    allocated: u64,
    /// The length of the archive: as announced, or as received if that is more.
    total: u64,
    received: u64,
    /// The length of the last chunk, which may not be on the disk yet.
    last_chunk: u64,
}

impl SpaceAllocation {
    /// Creates the allocation of an upload that uses no disk of the store.
    pub(crate) fn without_disk() -> Self {
        Self::default()
    }

    /// Admits a chunk, before the broker writes it to the disk. Of the earlier chunks, all but the
    /// last must be on the disk.
    ///
    /// It reads the free space each time, because other programs can fill the same disk.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Full`], if the chunk would leave less free space than the reserve.
    pub fn admit(&mut self, chunk: u64, now: i64) -> Result<(), StoreError> {
        let on_disk = self.received.saturating_sub(self.last_chunk);
        self.received = self.received.saturating_add(chunk);
        self.last_chunk = chunk;
        self.total = self.total.max(self.received);
        self.resize(self.total.saturating_sub(on_disk), now)
    }

    /// Changes the size of the allocation, if it fits. Raises the alarm if it does not.
    fn resize(&mut self, bytes: u64, now: i64) -> Result<(), StoreError> {
        let Some(space) = &self.space else { return Ok(()) };
        let mut state = space.state();
        let others = state.allocated.saturating_sub(self.allocated);
        if let Err(error) = space.check_fit(others, bytes) {
            if error.kind() == StoreErrorKind::Full && state.is_alarm_due(now) {
                tracing::error!(alarm = "disk_full", "{error}");
            }
            return Err(error);
        }
        self.allocated = bytes;
        state.allocated = others.saturating_add(bytes);
        Ok(())
    }
}

impl Drop for SpaceAllocation {
    fn drop(&mut self) {
        if let Some(space) = &self.space {
            let mut state = space.state();
            state.allocated = state.allocated.saturating_sub(self.allocated);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Returns the space of a disk with a reserve of 1 MiB, whose free space never changes.
    fn disk(measure: Measure) -> Arc<DiskSpace> {
        let fixed = DiskSpace::new(Path::new("/data"), MIB);
        Arc::new(DiskSpace { measure, ..fixed })
    }

    fn ten_mib() -> Arc<DiskSpace> {
        disk(|_| Ok(FreeSpace { bytes: 10 * MIB, files: 10_000 }))
    }

    fn is_full<T: std::fmt::Debug>(outcome: Result<T, StoreError>) -> String {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Full, "{error}");
        error.to_string()
    }

    #[test]
    fn an_upload_that_would_leave_less_than_the_reserve_is_refused() {
        let space = ten_mib();
        for announced in [9 * MIB + 1, 10 * MIB, u64::MAX / 2] {
            let refused = is_full(space.allocate(Some(announced), 0));
            assert!(refused.contains("`/data` has 10240 KiB of free disk space"), "{refused}");
            assert!(refused.contains("must leave 1024 KiB"), "{refused}");
        }
        assert_eq!(space.state().allocated, 0, "a refused upload has no space");
        space.allocate(Some(9 * MIB), 0).unwrap();
    }

    #[test]
    fn uploads_together_cannot_use_the_reserve() {
        let space = ten_mib();
        let announced = space.allocate(Some(4 * MIB), 0).unwrap();
        let mut unannounced = space.allocate(None, 0).unwrap();
        for _ in 0..4 {
            unannounced.admit(MIB, 0).unwrap();
        }
        // Two chunks of the second upload count as written, so it has 2 MiB, and the first has 4.
        is_full(space.allocate(Some(3 * MIB + 1), 0));
        let third = space.allocate(Some(3 * MIB), 0).unwrap();
        is_full(unannounced.admit(MIB + 1, 0));
        drop(announced);
        unannounced.admit(MIB, 0).unwrap();
        drop((unannounced, third));
        assert_eq!(space.state().allocated, 0, "an upload that ends releases its space");
    }

    #[test]
    fn bytes_on_the_disk_are_counted_once() {
        let space = ten_mib();
        let mut upload = space.allocate(Some(3 * MIB), 0).unwrap();
        let mut allocated = Vec::new();
        for _ in 0..4 {
            upload.admit(MIB, 0).unwrap();
            allocated.push(space.state().allocated / MIB);
        }
        // The last chunk and the one before it may not be on the disk.
        assert_eq!(allocated, [3, 3, 2, 2]);
    }

    #[test]
    fn an_upload_in_progress_is_refused_when_another_program_fills_the_disk() {
        let space = disk(|_| Ok(FreeSpace { bytes: MIB, files: 10_000 }));
        is_full(space.check());
        let mut upload = space.allocate(None, 0).unwrap();
        is_full(upload.admit(1, 0));
    }

    #[test]
    fn a_file_system_that_can_create_few_files_is_full() {
        let space = disk(|_| Ok(FreeSpace { bytes: u64::MAX, files: FILE_RESERVE - 1 }));
        let refused = is_full(space.allocate(Some(1), 0));
        assert!(refused.contains("can create 511 more files"), "{refused}");
        is_full(space.check());
    }

    #[test]
    fn a_disk_whose_free_space_cannot_be_read_is_unavailable() {
        let space = disk(|_| Err(io::Error::other("no disk")));
        for outcome in [space.check(), space.allocate(None, 0).map(drop)] {
            assert_eq!(outcome.unwrap_err().kind(), StoreErrorKind::Unavailable);
        }
        let folder = tempfile::tempdir().unwrap();
        assert!(FreeSpace::of(&folder.path().join("missing")).is_err());
        let found = FreeSpace::of(folder.path()).unwrap();
        assert!(found.bytes > 0 && found.files > 0, "{found:?}");
    }

    #[test]
    fn many_refusals_raise_one_alarm_a_minute() {
        let mut state = State::default();
        let times = [0, 0, 1, 59, 60, 61, 119, 120, 5, 6];
        let raised: Vec<_> = times.into_iter().filter(|now| state.is_alarm_due(*now)).collect();
        assert_eq!(raised, [0, 60, 120, 5], "a clock that was set back ends the minute");
    }
}
