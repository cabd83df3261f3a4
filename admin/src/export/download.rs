//! Downloads the archives of an export, and verifies each while it is written.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use stile_core::package::Version;
use stile_protocol::names::ModuleAddress;

use super::folder::Folder;
use super::path::TreePath;
use super::plan::{Plan, WantedFile};
use crate::api::Api;
use crate::error::CommandError;
use crate::fetch::{Incoming, Purpose};
use crate::progress::download_bar;
use crate::published::{Place, locate};

/// The number of archives that it downloads at the same time.
const AT_ONCE: usize = 4;

/// What became of the archives.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    /// The archives that are new, in a dry run those that would be.
    pub(crate) written: Vec<TreePath>,
    /// The number of archives that the export had already.
    pub(crate) unchanged: usize,
    /// The size of the new archives in bytes.
    pub(crate) bytes: u64,
    /// The modules that their publishers made unreadable, and why.
    pub(crate) unreadable: Vec<(ModuleAddress, Version, String)>,
}

/// Downloads the archives that the folder does not have. In a dry run, it only counts them.
pub(crate) async fn fetch(
    api: &Api,
    folder: &Folder,
    plan: &Plan,
    dry_run: bool,
) -> Result<Fetched, CommandError> {
    let (mut fetched, mut missing) = (Fetched::default(), Vec::new());
    for file in plan.archives() {
        if folder.has(&file.path, &file.sha256).await? {
            fetched.unchanged += 1;
        } else {
            missing.push(file);
        }
    }
    let bar = download_bar(Some(missing.iter().map(|file| file.bytes).sum()));
    let bar = &bar;
    let fetching = stream::iter(missing).map(|file| {
        Box::pin(async move {
            let done = match dry_run {
                true => Ok(Ok(())),
                false => one(api, folder, &file, |bytes| bar.inc(bytes)).await,
            };
            done.map(|done| (file, done))
        })
    });
    let done: Vec<_> = fetching.buffer_unordered(AT_ONCE).try_collect().await?;
    bar.finish_and_clear();
    for (file, done) in done {
        match (done, file.place) {
            (Ok(()), _) => {
                fetched.bytes += file.bytes;
                fetched.written.push(file.path);
            }
            (Err(why), Place::Object(address, version)) => {
                let sentence = format!("{address} {version} is left out: {why}");
                fetched.unreadable.push((address, version, sentence));
            }
            (Err(why), _) => return Err(CommandError::refused(why)),
        }
    }
    fetched.written.sort();
    Ok(fetched)
}

/// Downloads one archive. The inner error says why nobody can read an object of a publisher.
async fn one(
    api: &Api,
    folder: &Folder,
    file: &WantedFile,
    on_bytes: impl Fn(u64),
) -> Result<Result<(), String>, CommandError> {
    let is_object = matches!(file.place, Place::Object(..));
    let left_out = |error: CommandError| match is_object && error.is_refusal() {
        true => Ok(Err(error.message().to_owned())),
        false => Err(error),
    };
    let url = match locate(api, &file.place).await {
        Ok(url) => url,
        Err(error) => return left_out(error),
    };
    let opened = Incoming::open(&url, api.environment(), Purpose::Export, file.bytes).await;
    let incoming = match opened {
        Ok(incoming) => incoming,
        Err(error) => return left_out(error),
    };
    let mut partial = folder.begin(&file.path)?;
    let writing = incoming.digest_to(|bytes| {
        partial.write(bytes)?;
        on_bytes(bytes.len() as u64);
        Ok(())
    });
    let found = writing.await?;
    if found != file.sha256 {
        return Err(CommandError::failed(format!(
            "`{}` has the SHA-256 {found}, and the registry says {}",
            file.path, file.sha256
        ))
        .hint("nothing of it is in the export; run the command again, and ask the operator of the registry if the error stays"));
    }
    partial.finish()?;
    Ok(Ok(()))
}
