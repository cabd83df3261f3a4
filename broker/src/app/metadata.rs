//! Reads the metadata of an archive before it is published, and of a published version.

use std::fs::File;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use super::broker::Broker;
use stile_core::grants::{Download, PackageAccess};
use stile_core::package::{SearchText, VerifiedArchive};
use stile_metadata::{Limits, Metadata};
use stile_store::{StoreError, StoreErrorKind};

/// The warning of a publication whose archive could not be read a second time.
const NOT_READ: &str = "the registry could not read the metadata of the archive";

/// The warning of a publication whose metadata took too long.
const TOO_LATE: &str = "the metadata of the archive could not be read in time";

/// A verified archive with its metadata.
pub(super) struct Described {
    /// The archive. It has metadata, if that could be read.
    pub(super) archive: VerifiedArchive,
    /// The text by which the version is found.
    pub(super) search: SearchText,
    /// What could not be read, one sentence each.
    pub(super) warnings: Vec<String>,
}

/// Reads the metadata of an archive.
///
/// A module whose metadata cannot be read, or not in time, is published all the same.
pub(super) async fn describe(archive: VerifiedArchive, limits: &super::Limits) -> Described {
    let (path, format) = (archive.path().to_path_buf(), archive.format());
    let limits_of_one = Limits { archive: limits.archives, ..Limits::default() };
    let read = move || {
        let mut file = File::open(path).ok()?;
        let metadata = stile_metadata::read(&mut file, format, &limits_of_one).ok()?;
        Some((metadata.to_json().ok()?, metadata))
    };
    // The archive is inspected again, and then its files are parsed. Each part has its own limit,
    // and ends a little later.
    let time = limits_of_one.archive.time + 2 * limits_of_one.time;
    match in_time(&limits.metadata_threads, time, read).await {
        Ok((json, metadata)) => Described {
            archive: archive.with_metadata(json),
            search: search_text(&metadata),
            warnings: metadata.warnings.iter().map(ToString::to_string).collect(),
        },
        Err(warning) => {
            Described { archive, search: SearchText::default(), warnings: vec![warning.to_owned()] }
        }
    }
}

/// Runs work in a thread of its own, and waits for it at most for a time. The error is the warning of
/// the publication.
///
/// Nothing can stop a thread that does not end. It keeps its permit until then, but not the turn of
/// its archive, and the end of the process does not wait for it.
async fn in_time<T: Send + 'static>(
    threads: &Arc<Semaphore>,
    time: Duration,
    work: impl FnOnce() -> Option<T> + Send + 'static,
) -> Result<T, &'static str> {
    let Ok(permit) = Arc::clone(threads).try_acquire_owned() else {
        tracing::error!(
            alarm = "metadata_threads_stuck",
            "all threads that read metadata are stuck, so versions are published without it"
        );
        return Err(TOO_LATE);
    };
    let (done, result) = oneshot::channel();
    let thread = thread::Builder::new().name("metadata".to_owned()).spawn(move || {
        let held = permit;
        let result = work();
        drop(held);
        // Nobody waits any more if this is too late.
        let _ = done.send(result);
    });
    if thread.is_err() {
        return Err(NOT_READ);
    }
    match timeout(time, result).await {
        Ok(result) => result.ok().flatten().ok_or(NOT_READ),
        Err(_) => {
            tracing::error!(
                alarm = "metadata_too_late",
                "the metadata of an archive could not be read in time"
            );
            Err(TOO_LATE)
        }
    }
}

fn search_text(metadata: &Metadata) -> SearchText {
    let inputs = metadata.root.inputs.iter().map(|input| input.name.as_str());
    let readme = metadata.root.readme.as_deref().unwrap_or_default();
    SearchText::new(metadata.description().as_deref(), inputs, readme)
}

/// Returns the metadata of the archive with this digest, if the registry has it and can read it.
///
/// Metadata that is damaged, or that a newer release wrote, hides nothing else of a version.
pub async fn of_archive(
    broker: &Broker,
    access: &PackageAccess<Download>,
    sha256: &str,
) -> Result<Option<Metadata>, StoreError> {
    let json = match broker.store.metadata(access, sha256).await {
        Ok(json) => json,
        Err(error) if error.kind() == StoreErrorKind::Corrupt => {
            tracing::error!("{error}");
            None
        }
        Err(error) => return Err(error),
    };
    let Some(json) = json else { return Ok(None) };
    let read = Metadata::from_json(&json);
    Ok(read.inspect_err(|error| tracing::error!(archive = sha256, "{error}")).ok())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const TIME: Duration = Duration::from_secs(16);

    #[tokio::test]
    async fn work_that_fails_or_panics_is_a_warning_and_gives_its_permit_back() {
        let threads = Arc::new(Semaphore::new(1));
        assert_eq!(in_time(&threads, TIME, || None::<u8>).await, Err(NOT_READ));
        let panics = || if true { unreachable!("it broke") } else { Some(1) };
        assert_eq!(in_time(&threads, TIME, panics).await, Err(NOT_READ));
        assert_eq!(in_time(&threads, TIME, || Some(1)).await, Ok(1));
        let _permit = threads.acquire().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_thread_that_does_not_come_back_holds_a_permit_and_nobody_waits_for_it() {
        let threads = Arc::new(Semaphore::new(2));
        let mut stuck = Vec::new();
        for _ in 0..2 {
            let (end, ended) = mpsc::channel::<()>();
            stuck.push(end);
            let late = in_time(&threads, TIME, move || ended.recv().ok()).await;
            assert_eq!(late, Err(TOO_LATE));
        }
        assert_eq!(in_time(&threads, TIME, || Some(1)).await, Err(TOO_LATE), "no thread is free");
        stuck.clear();
        let _permits = threads.acquire_many(2).await.unwrap();
    }

    #[test]
    fn the_process_ends_in_spite_of_a_thread_that_does_not_come_back() {
        let threads = Arc::new(Semaphore::new(1));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (_end, ended) = mpsc::channel::<()>();
        let late = in_time(&threads, Duration::ZERO, move || ended.recv().ok());
        assert_eq!(runtime.block_on(late), Err(TOO_LATE));
        // This waits for all threads of the runtime, as the end of the process does.
        drop(runtime);
        assert_eq!(threads.available_permits(), 0, "the thread is still there");
    }
}
